/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Signals in windows: who has seen a signal sees what was put before it, and nobody sleeps through one, or through an abort.
 *
 * Mirrors src/chip/signal.c (tsm_signal, tsm_signal_wait_until, tsm_signal_wait_any), the puts of src/chip/rma.c as
 * src/chip/chaos.c may delay them, tsm_abort of src/chip/domain.c, and wake_place, wake_bell and wake_everybody of src/shm/wake.c.
 *
 * Memory is weaker than x86: two store buffers for each process, one for data and one for words (signals, abort word,
 * sleep flag, want). A release store waits for the first, a full fence for both. A non-blocking put is pending until it is
 * applied, in any order, at any time; a weak signal waits for its own put, a strong one for all. Bells, flags and what
 * a dead or stopped ringer leaves are in wake.pml: here a want is one word, and a bell is rung in one step.
 */
#ifndef SCENE
#define SCENE 1
#endif
#if SCENE == 1 || SCENE == 2
#define PROCS 2
#else
#define PROCS 3
#endif
#ifndef BUFFERS
#define BUFFERS 2
#endif

/* Signals 0 to 2 and the abort words; data; flags and wants of the processes. */
#define ABORT_DOMAIN 3
#define ABORT_RUN 4
#define DATA(i) (5 + (i))
#define FLAG(p) (7 + 2 * (p))
#define WANT(p) (8 + 2 * (p))

byte mem[7 + 2 * PROCS];
byte bell[PROCS];
bool parked[PROCS];
bool pending[2]; /* non-blocking puts of process 0 into DATA(i), of the value 1 */
byte finished;

chan plain[PROCS] = [BUFFERS] of { byte, byte };
chan words[PROCS] = [BUFFERS] of { byte, byte };
#define drained(p) (empty(plain[p]) && empty(words[p]))
#define DRAIN(buffer) d_step { buffer ? a, v; mem[a] = v; a = 0; v = 0 }

active proctype memory()
{
	byte a, v;

end:	do
	:: DRAIN(plain[0])
	:: DRAIN(words[0])
	:: DRAIN(plain[1])
	:: DRAIN(words[1])
#if PROCS > 2
	:: DRAIN(plain[2])
	:: DRAIN(words[2])
#endif
	:: d_step { pending[0] -> pending[0] = false; mem[DATA(0)] = 1 }
	:: d_step { pending[1] -> pending[1] = false; mem[DATA(1)] = 1 }
	od
}

#define put(me, i, v) plain[me] ! DATA(i), v
#define put_nbi(i) pending[i] = true

inline set(me, s, v)
{
#ifdef SIGNAL_NOT_RELEASE
	words[me] ! s, v
#else
	atomic { empty(plain[me]); words[me] ! s, v }
#endif
}

/* A read-modify-write is done on memory, behind what its process has stored there; data are released first. */
inline add(me, s)
{
#ifdef ADD_IS_LOAD_STORE
	sum = mem[s];
	words[me] ! s, sum + 1;
	sum = 0
#else
	atomic { drained(me) -> mem[s]++ }
#endif
}

/* --- Waking. A want: 1 + signal + 4 * value; ANY: one of several, which only the sleeper can judge --- */

#define ANY 128
#ifdef ANY_IS_NEVER_MET
#define any_is_met(w) false
#else
#define any_is_met(w) ((w) == ANY)
#endif
#define want_met(w) ((w) != 0 && (any_is_met(w) || ((w) != ANY && mem[((w) - 1) % 4] >= ((w) - 1) / 4)))

/* To be rung by whoever gets the 1. */
inline ring_bell(me, q)
{
	atomic {
		drained(me);
		if
		:: mem[FLAG(q)] == 1 -> mem[FLAG(q)] = 2; bell[q]++; parked[q] = false
		:: else
		fi
	}
}

inline wake_place(me, q)
{
#ifndef NO_FENCE_WAKER
	drained(me);
#endif
	if
	:: mem[FLAG(q)] == 1 ->
	   if
	   :: want_met(mem[WANT(q)]) -> ring_bell(me, q)
	   :: else
	   fi
	:: else
	fi
}

/* A domain's abort: each member's bell, whatever it wants. */
inline wake_bell(me, q)
{
#ifdef ABORT_RINGS_IF_MET
	wake_place(me, q)
#elif defined(ABORT_RINGS_NOBODY)
	skip
#else
	atomic {
		drained(me);
		if
		:: mem[FLAG(q)] == 1 -> bell[q]++; parked[q] = false
		:: else
		fi;
		mem[FLAG(q)] = 2
	}
#endif
}

/* A run's abort: everybody who says that he sleeps. */
inline wake_everybody(me, q)
{
#ifndef NO_FENCE_ABORT
	drained(me);
#endif
	if
	:: mem[FLAG(q)] != 0 -> words[me] ! FLAG(q), 1; ring_bell(me, q)
	:: else
	fi
}

/* --- Waiting --- */

#ifdef ABORT_ENDS_NO_SIGNAL_WAIT
#define broken (mem[ABORT_RUN] != 0)
#else
#define broken (mem[ABORT_RUN] != 0 || mem[ABORT_DOMAIN] != 0)
#endif

inline sleep_until(me, condition, want)
{
	if
	:: (condition) || broken
	:: else ->
	   words[me] ! WANT(me), want;
	   do
	   :: b = bell[me];
	      words[me] ! FLAG(me), 1;
#ifndef NO_FENCE_WAITER
	      drained(me);
#endif
	      if
	      :: (condition) || broken -> break
	      :: else
	      fi;
	      if
	      :: atomic { bell[me] == b -> parked[me] = true }; !parked[me]
	      :: bell[me] != b
	      fi
	   od;
	   b = 0;
	   words[me] ! FLAG(me), 0;
	   words[me] ! WANT(me), 0
	fi
}

#define wait_until(me, s, v) sleep_until(me, mem[s] >= (v), 1 + (s) + 4 * (v))
#ifdef ANY_WANTS_FIRST
#define wait_any(me, s, t, v) sleep_until(me, mem[s] >= (v) || mem[t] >= (v), 1 + (s) + 4 * (v))
#elif defined(ANY_LOOKS_AT_FIRST)
#define wait_any(me, s, t, v) sleep_until(me, mem[s] >= (v), ANY)
#else
#define wait_any(me, s, t, v) sleep_until(me, mem[s] >= (v) || mem[t] >= (v), ANY)
#endif

inline finish()
{
	finished++
}

/* --- The scenes --- */

#if SCENE == 1
/* A put and a signal, waited for and answered, twice over the same place. */
active proctype sender()
{
	byte b, k;
	do
	:: k < 2 ->
	   k++;
#ifdef SIGNAL_BEFORE_DATA
	   set(0, 0, k);
	   wake_place(0, 1);
	   put(0, 0, k);
#else
	   put(0, 0, k);
	   set(0, 0, k);
	   wake_place(0, 1);
#endif
	   wait_until(0, 1, k)
	:: else -> break
	od;
	finish()
}
active proctype receiver()
{
	byte b, k;
	do
	:: k < 2 ->
	   k++;
	   wait_until(1, 0, k);
	   assert(mem[DATA(0)] == k);
	   set(1, 1, k);
	   wake_place(1, 0)
	:: else -> break
	od;
	finish()
}
#endif

#if SCENE == 2
/* A put that is pending; a put with a weak signal; a strong signal. */
active proctype sender()
{
	put_nbi(0);
	put_nbi(1);
#ifndef WEAK_BEFORE_OWN_PUT
	!pending[1];
#endif
	set(0, 0, 1);
	wake_place(0, 1);
#ifndef STRONG_IS_WEAK
	!pending[0] && !pending[1];
#endif
	set(0, 1, 1);
	wake_place(0, 1);
	finish()
}
active proctype receiver()
{
	byte b;
	wait_until(1, 0, 1);
	assert(mem[DATA(1)] == 1);
#ifdef WEAK_TAKEN_FOR_STRONG
	assert(mem[DATA(0)] == 1);
#endif
	wait_until(1, 1, 1);
	assert(mem[DATA(0)] == 1 && mem[DATA(1)] == 1);
	finish()
}
#endif

#if SCENE == 3
/* Two senders, of whom one may stay away; the receiver waits for any of two signals, then for the other if it will come. */
bool stays_away;

active proctype first()
{
	if
	:: true -> put(0, 0, 1); set(0, 0, 1); wake_place(0, 2)
	:: d_step { !stays_away -> stays_away = true }
	fi;
	finish()
}
active proctype second()
{
	if
	:: true -> put(1, 1, 1); set(1, 1, 1); wake_place(1, 2)
	:: d_step { !stays_away -> stays_away = true }
	fi;
	finish()
}
active proctype receiver()
{
	byte b;
	wait_any(2, 0, 1, 1);
	if
	:: mem[0] == 1 ->
	   assert(mem[DATA(0)] == 1);
	   finished == 2;
	   if
	   :: !stays_away -> wait_until(2, 1, 1); assert(mem[DATA(1)] == 1)
	   :: else
	   fi
	:: else -> assert(mem[1] == 1 && mem[DATA(1)] == 1)
	fi;
	finish()
}
#endif

#if SCENE == 4
/* A member aborts the domain, or the run is aborted, before, while or after a signal comes, which may stay away. */
active proctype sender()
{
	if
	:: true -> set(0, 0, 1); wake_place(0, 1)
	:: true
	fi;
	finish()
}
active proctype receiver()
{
	byte b;
	if
	:: true -> wait_until(1, 0, 1)
	:: true -> wait_any(1, 0, 1, 1)
	fi;
	finish()
}
active proctype aborter()
{
	if
	:: set(2, ABORT_DOMAIN, 1); wake_bell(2, 1)
	:: set(2, ABORT_RUN, 1); wake_everybody(2, 1)
	fi;
	finish()
}
#endif

#if SCENE == 5
/* Two add to one signal; the receiver waits for the sum. */
proctype adder(byte me)
{
	byte sum;
	put(me, me, 1);
	add(me, 0);
	wake_place(me, 2);
	finish()
}
active proctype receiver()
{
	byte b;
	wait_until(2, 0, 2);
	assert(mem[DATA(0)] == 1 && mem[DATA(1)] == 1);
	finish()
}
init
{
	atomic { run adder(0); run adder(1) }
}
#endif

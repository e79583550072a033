/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Sleeping and waking: nobody who waits for a word may stay asleep once the word has come.
 *
 * Mirrors src/shm/wake.c: wait_for, wake_timeline, wake_place, wake_everybody, wake_lost, wake_forget, ring_bell;
 * and handle_death of src/keeper/keeper.c, which forgets the dead, rings everybody and then lets the replacement start.
 *
 * The sleep flag of a process has three states: 0 awake, 1 asleep or about to be, 2 rung. The sleeper sets 1 before its
 * look in every round and 0 at the end. A ringer passes over a flag that is not 1; else it exchanges it for 2, and only
 * who got the 1 back adds one to the bell and calls futex_wake. It may be killed between any two of these steps.
 *
 * Waits: WORD0 and WORD1, edges that end when timeline 0 or 1 is there and by nothing else; POOL, either of the two,
 * which only the sleeper itself can judge; SIGNAL, a word in the sleeper's own window (it stands in source 1, without a
 * mask), which an abort ends too.
 *
 * Memory is weaker than x86. Each process has two store buffers, one for its own page (timeline, wait record, abort
 * word, window) and one for the shared hints page (masks, flags); each is first in, first out, two entries deep (DEPTH),
 * and drains whenever it likes, so a store may be seen long after later loads, and stores to the two pages may pass
 * each other. Setting and clearing a mask bit goes through the buffer too, as do the sleeper's stores to its flag;
 * LOCKED makes both locked instructions, as on x86. The ringer's exchange is an atomic read-modify-write on memory
 * behind all that its process has stored. A full fence waits until both buffers of its process are empty. Loads happen
 * in program order and no process loads what it has stored itself, so nothing needs forwarding. Bells are changed by
 * atomic adds, and futex_wait compares and goes to sleep in one step, which the kernel promises.
 *
 * Assumed: values only grow and have one writer; at most one wait per process at a time. Spinning before sleeping is
 * left out, the orchestrator's naps are only in scene 9. A process that never finishes is an invalid end state: that is the lost wake.
 */
#ifndef SCENE
#define SCENE 1
#endif

#if SCENE == 1 || SCENE == 4
#define NPROC 2
#elif SCENE >= 7
#define NPROC 4
#else
#define NPROC 3
#endif

#define NOTHING 0
#define WORD0 1
#define WORD1 2
#define POOL 3
#define SIGNAL 4

/* The words: two sources with a mask each, the abort word; and for each process its flag and its wait record. */
#define VALUE(s) (s)
#define MASK(s) (2 + (s))
#define ABORT 4
#define FLAG(p) (5 + 4 * (p))
#define VERSION(p) (6 + 4 * (p))
#define KIND(p) (7 + 4 * (p))
#define WANTED(p) (8 + 4 * (p))

byte mem[5 + 4 * NPROC];
byte bell[NPROC];
bool parked[NPROC];   /* asleep in the kernel */
bool spurious[NPROC]; /* the one return without a cause that each process may see */
byte finished;

#ifndef DEPTH
#define DEPTH 2
#endif

mtype = { SET, OR, CLEAR };
chan page[NPROC] = [DEPTH] of { mtype, byte, byte };
chan hints[NPROC] = [DEPTH] of { mtype, byte, byte };

/* SETTLES: wakers of timelines make no fence, and the first sleep of a waiter ends by itself, once whatever somebody had
 * stored and had not let drain before it looked is visible. hasty: looked like that. */
#ifdef SETTLES
bool hasty[NPROC];
#define seen(p) (!hasty[p] || drained(p))
#if NPROC == 2
#define ALL_SETTLED (seen(0) && seen(1))
#elif NPROC == 3
#define ALL_SETTLED (seen(0) && seen(1) && seen(2))
#else
#define ALL_SETTLED (seen(0) && seen(1) && seen(2) && seen(3))
#endif
#endif

#define BIT(p) (1 << (p))
#define drained(p) (empty(page[p]) && empty(hints[p]))

#define DRAIN(buffer)                                  \
	d_step {                                       \
		buffer ? op, a, v;                     \
		if                                     \
		:: op == SET -> mem[a] = v             \
		:: op == OR -> mem[a] = mem[a] | v     \
		:: op == CLEAR -> mem[a] = mem[a] & ~v \
		fi;                                    \
		op = 0; a = 0; v = 0                   \
	}

active proctype memory()
{
	mtype op;
	byte a, v;

end:	do
	:: DRAIN(page[0])
	:: DRAIN(hints[0])
	:: DRAIN(page[1])
	:: DRAIN(hints[1])
#if NPROC > 2
	:: DRAIN(page[2])
	:: DRAIN(hints[2])
#endif
#if NPROC > 3
	:: DRAIN(page[3])
	:: DRAIN(hints[3])
#endif
	od
}

/* --- To wait --- */

inline set_flag(me, value)
{
#ifdef LOCKED
	atomic { drained(me) -> mem[FLAG(me)] = value }
#else
	hints[me] ! SET, FLAG(me), value
#endif
}

inline set_bit(me, s)
{
#if defined(LOCKED)
	atomic { drained(me) -> mem[MASK(s)] = mem[MASK(s)] | BIT(me) }
#elif defined(MASK_WITHOUT_ATOMICS)
	copy = mem[MASK(s)];
	hints[me] ! SET, MASK(s), copy | BIT(me);
	copy = 0
#else
	hints[me] ! OR, MASK(s), BIT(me)
#endif
}

inline set_bits(me, kind)
{
	if
	:: kind == WORD0 || kind == POOL -> set_bit(me, 0)
	:: else
	fi;
	if
	:: kind == WORD1 || kind == POOL -> set_bit(me, 1)
	:: else
	fi
}

inline clear_bits(me, kind)
{
	if
	:: kind == WORD0 || kind == POOL -> hints[me] ! CLEAR, MASK(0), BIT(me)
	:: else
	fi;
	if
	:: kind == WORD1 || kind == POOL -> hints[me] ! CLEAR, MASK(1), BIT(me)
	:: else
	fi
}

/* The version is odd while the rest changes. */
inline record_write(me, kind, v)
{
	version = version | 1;
	page[me] ! SET, VERSION(me), version;
	page[me] ! SET, KIND(me), kind;
	page[me] ! SET, WANTED(me), v;
	version = (version + 1) % 16;
	page[me] ! SET, VERSION(me), version
}

inline look(kind, v)
{
#if SCENE <= 2
	met = mem[VALUE(0)] >= v
#else
	met = (kind == WORD0 || kind == POOL) && mem[VALUE(0)] >= v;
	met = met || ((kind == WORD1 || kind == POOL || kind == SIGNAL) && mem[VALUE(1)] >= v);
	met = met || (kind == SIGNAL && mem[ABORT])
#endif
}

inline futex_wait(me)
{
	if
#ifdef SETTLES
	:: atomic { bell[me] == b -> parked[me] = true };
	   if
	   :: atomic { !parked[me] -> settled = false }
	   :: d_step {
		 parked[me] && !settled && ALL_SETTLED ->
		 parked[me] = false;
#ifdef SETTLED_ALTHOUGH_RUNG
		 settled = true
#else
		 settled = (mem[FLAG(me)] == 1)
#endif
	      }
	   fi
	:: d_step { bell[me] != b -> settled = false }
	:: d_step {
	      !spurious[me] -> spurious[me] = true;
#ifdef SETTLED_BY_ANY_RETURN
	      settled = true
#else
	      settled = false
#endif
	   }
#else
	:: atomic { bell[me] == b -> parked[me] = true };
	   !parked[me]
	:: bell[me] != b
	:: d_step { !spurious[me] -> spurious[me] = true }
#endif
	fi
}

inline wait_for(me, kind, v)
{
#ifndef LATE_REGISTRATION
	record_write(me, kind, v);
	set_bits(me, kind);
#endif
#ifdef FLAG_NOT_SET_AGAIN
	set_flag(me, 1);
#endif
	do
	:: true ->
#if defined(SETTLES) && !defined(SETTLED_SETS_AGAIN)
	   if
	   :: !settled -> b = bell[me]; set_flag(me, 1)
	   :: else
	   fi;
#else
#ifndef BELL_READ_LATE
	   b = bell[me];
#endif
#if !defined(FLAG_NOT_SET_AGAIN) && !defined(LATE_REGISTRATION)
	   set_flag(me, 1);
#endif
#endif
#ifndef NO_FENCE_WAITER
	   drained(me);
#endif
	   look(kind, v);
	   if
	   :: met -> break
	   :: else
	   fi;
#ifdef LATE_REGISTRATION
	   record_write(me, kind, v);
	   set_bits(me, kind);
	   set_flag(me, 1);
	   drained(me);
#endif
#ifdef BELL_READ_LATE
	   b = bell[me];
#endif
#ifdef SEEN_IS_WRITTEN
	   /* The wait record would also tell what was seen last. */
	   record_write(me, kind, v);
#endif
	   futex_wait(me);
#ifdef CLEAR_BEFORE_LOOK
	   clear_bits(me, kind);
#endif
#ifndef SETTLES
	   b = 0
#endif
	od;
	met = false;
#ifdef SETTLES
	settled = false;
#endif
	b = 0;
	set_flag(me, 0);
	clear_bits(me, kind);
	record_write(me, NOTHING, 0)
}

/* --- To wake --- */

inline ring_bell(me, q)
{
	atomic { drained(me) -> flag = mem[FLAG(q)]; mem[FLAG(q)] = 2 };
	if
#ifdef RING_RESULT_IGNORED
	:: true ->
#else
	:: flag == 1 ->
#endif
	   bell[q]++;
	   parked[q] = false
#ifndef RING_RESULT_IGNORED
	:: else
#endif
	fi;
	flag = 0
}

/* The record is read without a lock: a few tries, and who cannot read it rings. */
inline ring_if_met(me, q)
{
	if
	:: mem[FLAG(q)] == 1 ->
#ifdef FLAG_TAKEN_BEFORE_WANT
	   atomic { drained(me) -> flag = mem[FLAG(q)]; mem[FLAG(q)] = 2 };
#endif
	   do
	   :: before = mem[VERSION(q)];
	      d_step { want = mem[KIND(q)]; value = mem[WANTED(q)] };
	      if
	      :: before % 2 == 0 && mem[VERSION(q)] == before ->
#ifdef WANT_HAS_ONE_SLOT
		 ring = ((want == WORD0 || want == POOL) && mem[VALUE(0)] >= value);
		 ring = ring || (want == WORD1 && mem[VALUE(1)] >= value);
#else
		 ring = (want == WORD0 && mem[VALUE(0)] >= value) || want == POOL;
		 ring = ring || ((want == WORD1 || want == SIGNAL) && mem[VALUE(1)] >= value);
#ifdef SETTLES
		 ring = ring || (want == own_kind && own >= value);
#endif
#endif
		 break
	      :: else ->
		 if
		 :: true
#ifdef WAKER_SKIPS_ON_TORN_WANT
		 :: break
#else
		 :: ring = true; break
#endif
		 fi
	      fi
	   od;
	   before = 0; want = 0; value = 0;
	   if
	   :: ring ->
	      ring = false;
#ifdef FLAG_TAKEN_BEFORE_WANT
	      if
	      :: flag == 1 -> bell[q]++; parked[q] = false
	      :: else
	      fi
#else
	      ring_bell(me, q)
#endif
#ifdef WAKER_CLEARS_BIT
	      ;
	      hints[me] ! CLEAR, MASK(0), BIT(q)
#endif
	   :: else
	   fi;
	   flag = 0
	:: else
	fi
}

inline wake_timeline(me, s)
{
#if defined(SETTLES)
	hasty[me] = true;
#elif !defined(NO_FENCE_WAKER)
	drained(me);
#endif
	mask = mem[MASK(s)];
	q = 0;
	do
	:: q < NPROC && (mask & BIT(q)) -> ring_if_met(me, q); q++
	:: q < NPROC && !(mask & BIT(q)) -> q++
	:: q == NPROC -> break
	od;
	mask = 0;
	q = 0
}

inline advance(me, s, v)
{
	page[me] ! SET, VALUE(s), v;
#ifdef SETTLES
	d_step { own = v; own_kind = (s == 0 -> WORD0 : WORD1) };
#endif
	wake_timeline(me, s)
}

/* A signal in the window of process 0. */
inline signal(me, v)
{
	page[me] ! SET, VALUE(1), v;
#ifndef NO_FENCE_WAKER
	drained(me);
#endif
	ring_if_met(me, 0)
}

/* Abort, death, shutdown: what is wanted does not matter, nor whether somebody has rung or was about to. */
inline wake_everybody(me)
{
#ifndef NO_FENCE_ABORT
	drained(me);
#endif
	q = 0;
	do
#ifdef RUNG_ARE_LEFT
	:: q < NPROC && mem[FLAG(q)] == 1 -> ring_bell(me, q); q++
	:: q < NPROC && mem[FLAG(q)] != 1 -> q++
#else
	:: q < NPROC && mem[FLAG(q)] != 0 -> hints[me] ! SET, FLAG(q), 1; ring_bell(me, q); q++
	:: q < NPROC && mem[FLAG(q)] == 0 -> q++
#endif
	:: q == NPROC -> break
	od;
	q = 0
}

/* The orchestrator, between two naps: for wakes that somebody who is stopped or failed owes. */
inline wake_lost(me)
{
	drained(me);
	q = 0;
	do
	:: q < NPROC && mem[KIND(q)] == NOTHING -> q++
	:: q < NPROC && mem[KIND(q)] != NOTHING ->
	   if
	   :: mem[FLAG(q)] != 1 -> hints[me] ! SET, FLAG(q), 1; ring_bell(me, q)
	   :: else -> ring_if_met(me, q)
	   fi;
	   q++
	:: q == NPROC -> break
	od;
	q = 0
}

#ifdef SETTLES
#define WAITER_LOCALS byte b, version, copy; bool met, settled
#define RESET_SETTLED settled = false
#else
#define RESET_SETTLED skip
#define WAITER_LOCALS byte b, version, copy; bool met
#endif
#ifdef SETTLES
/* A load sees what its own process has stored: nothing else is loaded before it is drained. */
#define WAKER_LOCALS byte mask, q, before, want, value, flag, own, own_kind; bool ring
#else
#define WAKER_LOCALS byte mask, q, before, want, value, flag; bool ring
#endif
#define FORGET_WAKER mask = 0; q = 0; before = 0; want = 0; value = 0; flag = 0; ring = false

#define ALL_DRAINED2 (drained(0) && drained(1))
#if NPROC == 2
#define ALL_DRAINED ALL_DRAINED2
#elif NPROC == 3
#define ALL_DRAINED (ALL_DRAINED2 && drained(2))
#else
#define ALL_DRAINED (ALL_DRAINED2 && drained(2) && drained(3))
#endif

active proctype nothing_is_left()
{
	d_step { finished == NPROC && ALL_DRAINED -> assert(mem[MASK(0)] == 0 && mem[MASK(1)] == 0) }
}

/* --- The scenes --- */

#if SCENE == 1
/* One sleeper waits twice on one timeline; the bit, the flag and the want of the first wait must not spoil the second. */
active proctype sleeper()
{
	WAITER_LOCALS;
	wait_for(0, WORD0, 1);
	wait_for(0, WORD0, 2);
	finished++
}
active proctype waker()
{
	WAKER_LOCALS;
	advance(1, 0, 1);
	advance(1, 0, 2);
	finished++
}
#endif

#if SCENE == 2
/* Two sleepers on one timeline, with different wants. */
active proctype early()
{
	WAITER_LOCALS;
	wait_for(0, WORD0, 1);
	finished++
}
active proctype late()
{
	WAITER_LOCALS;
	wait_for(1, WORD0, 2);
	finished++
}
active proctype waker()
{
	WAKER_LOCALS;
	advance(2, 0, 1);
	advance(2, 0, 2);
	finished++
}
#endif

#if SCENE == 3
/* A sub worker waits for two things at once: a new record in the pool (source 1) or the timeline that an older record
 * waits for (source 0), then, inside a record, for the other of the two. The chip may not advance before the sub has
 * taken the new record, or it does not care. */
bool taken;

active proctype sub()
{
	WAITER_LOCALS;
	wait_for(0, POOL, 1);
	taken = (mem[VALUE(1)] == 1);
	if
	:: mem[VALUE(0)] == 1 -> wait_for(0, WORD1, 1)
	:: else -> wait_for(0, WORD0, 1)
	fi;
	finished++
}
active proctype chip()
{
	WAKER_LOCALS;
	if
	:: true -> taken
	:: true
	fi;
	advance(1, 0, 1);
	finished++
}
active proctype orchestrator()
{
	WAKER_LOCALS;
	advance(2, 1, 1);
	finished++
}
#endif

#if SCENE == 4
/* Each is the other's waker: a chain that goes over two chips and back. */
active proctype ping()
{
	WAITER_LOCALS;
	WAKER_LOCALS;
	wait_for(0, WORD1, 1);
	advance(0, 0, 1);
	wait_for(0, WORD1, 2);
	finished++
}
active proctype pong()
{
	WAITER_LOCALS;
	WAKER_LOCALS;
	advance(1, 1, 1);
	wait_for(1, WORD0, 1);
	advance(1, 1, 2);
	finished++
}
#endif

#if SCENE == 5
/* An abort before, while or after the sleeper is served. A wait for a signal ends by it and may never be served; a wait
 * for an edge is rung by it, looks, and sleeps again until it is served. */
mtype = { EDGE, INSIDE };
mtype wait_is; /* until init has chosen: neither */

active proctype sleeper()
{
	WAITER_LOCALS;
	if
	:: wait_is == EDGE -> wait_for(0, WORD0, 1)
	:: wait_is == INSIDE -> wait_for(0, SIGNAL, 1)
	fi;
	finished++
}
active proctype waker()
{
	WAKER_LOCALS;
	if
	:: wait_is == EDGE -> advance(1, 0, 1)
	:: wait_is == INSIDE -> signal(1, 1)
	:: wait_is == INSIDE
	fi;
	finished++
}
active proctype keeper()
{
	WAKER_LOCALS;
	page[2] ! SET, ABORT, 1;
	wake_everybody(2);
	finished++
}
init
{
	if
	:: wait_is = EDGE
	:: wait_is = INSIDE
	fi
}
#endif

#if SCENE == 6
/* The sleeper or the waker is killed at any step: the waker between its store and its look at the mask, between the
 * exchange and the bell, between the bell and futex_wake. The keeper forgets the dead, rings everybody and lets the
 * replacement start, in that order. What the dead had stored is visible when its death is. */
byte dead = NPROC, born = NPROC;

active proctype sleeper()
{
	WAITER_LOCALS;
	{ wait_for(0, WORD0, 1) } unless { dead == 0 };
	if
	:: dead == 0 ->
	   born == 0;
	   d_step { b = 0; met = false; version = mem[VERSION(0)]; RESET_SETTLED };
	   wait_for(0, WORD0, 1)
	:: else
	fi;
	finished++
}
active proctype waker()
{
	WAKER_LOCALS;
	{ advance(1, 0, 1) } unless { dead == 1 };
	if
	:: dead == 1 ->
	   born == 1;
	   d_step { FORGET_WAKER };
	   if
	   :: mem[VALUE(0)] == 0 -> advance(1, 0, 1)
	   :: else ->
#ifdef REPLACEMENT_WAKES
	      wake_timeline(1, 0)
#else
	      skip
#endif
	   fi
	:: else
	fi;
	finished++
}
active proctype keeper()
{
	WAKER_LOCALS;
	if
	:: dead = 0
	:: dead = 1
	:: skip
	fi;
	if
	:: dead < NPROC ->
	   drained(dead);
#ifdef DEAD_FORGOTTEN_LATE
	   born = dead;
#endif
	   parked[dead] = false;
	   hints[2] ! SET, FLAG(dead), 0;
	   hints[2] ! CLEAR, MASK(0), BIT(dead);
	   hints[2] ! CLEAR, MASK(1), BIT(dead);
	   drained(2);
#ifndef DEATH_RINGS_NOBODY
	   wake_everybody(2);
#endif
	   born = dead
	:: else
	fi;
	finished++
}
#endif

#if SCENE == 7
/* Four processes: two sleepers, one of them served on its edge, one never served, and an abort. */
active proctype served()
{
	WAITER_LOCALS;
	wait_for(0, WORD0, 1);
	finished++
}
active proctype stranded()
{
	WAITER_LOCALS;
	wait_for(1, SIGNAL, 1);
	finished++
}
active proctype waker()
{
	WAKER_LOCALS;
	advance(2, 0, 1);
	finished++
}
active proctype keeper()
{
	WAKER_LOCALS;
	page[3] ! SET, ABORT, 1;
	wake_everybody(3);
	finished++
}
#endif

#if SCENE == 8
/* A waker decided to ring during an earlier wait of the same sleeper and was slow: it exchanges the flag of this wait,
 * or is killed on the way. The other waker, whose word this wait is for, may find the flag at 2 and goes on. */
byte dead = NPROC;

active proctype sleeper()
{
	WAITER_LOCALS;
	wait_for(0, WORD0, 1);
	finished++
}
active proctype slow()
{
	WAKER_LOCALS;
	{ ring_bell(1, 0) } unless { dead == 1 };
	finished++
}
active proctype other()
{
	WAKER_LOCALS;
	advance(2, 0, 1);
	finished++
}
active proctype keeper()
{
	WAKER_LOCALS;
	if
	:: true ->
	   dead = 1;
	   drained(1);
#ifndef DEATH_RINGS_NOBODY
	   wake_everybody(3)
#endif
	:: true
	fi;
	finished++
}
#endif

#if SCENE == 9
/* The same, but the slow waker is stopped on the way and nobody dies. When nothing else moves the orchestrator looks;
 * with EARLY_NAP also at any time before. */
bool stopped;

active proctype sleeper()
{
	WAITER_LOCALS;
	wait_for(0, WORD0, 1);
	finished++
}
active proctype slow()
{
	WAKER_LOCALS;
	{ ring_bell(1, 0) } unless { stopped };
	finished++
}
active proctype other()
{
	WAKER_LOCALS;
	advance(2, 0, 1);
	finished++
}
active proctype orchestrator()
{
	WAKER_LOCALS;
	if
	:: stopped = true
	:: true
	fi;
#ifndef NAP_WAKES_NOBODY
#ifdef EARLY_NAP
	wake_lost(3);
#endif
	timeout;
	wake_lost(3);
#endif
	finished++
}
#endif

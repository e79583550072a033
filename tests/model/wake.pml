/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Sleeping and waking: nobody who waits for a word may stay asleep once the word has come.
 *
 * Mirrors the waking protocol of src/shm/ (design.md section 4): bells, sleeper masks, the wait record ("want") of
 * each process, and the order store / full fence / look on both sides.
 *
 * Memory is weaker than x86. Each process has two store buffers, one for its own page (timeline, want, abort word)
 * and one for the shared hints page (masks); each is first in, first out, two entries deep (DEPTH), and drains whenever it
 * likes, so a store may be seen long after later loads, and stores to the two pages may pass each other. Setting and
 * clearing a mask bit is a relaxed atomic read-modify-write and goes through the buffer too; LOCKED_OR makes it a
 * locked instruction as on x86. A full fence waits until both buffers of its process are empty. Loads happen in program
 * order and no process loads what it has stored itself, so nothing needs forwarding. Bells are changed by atomic adds,
 * and futex_wait compares and goes to sleep in one step, which the kernel promises.
 *
 * Assumed: values only grow and have one writer; at most one wait per process at a time. Spinning before sleeping is
 * left out. A ring or a window whose only sleeper is its owner (the sleep hint) is a source with one possible bit.
 * A process that never finishes is an invalid end state: that is the lost wake.
 */
#ifndef SCENE
#define SCENE 1
#endif

#if SCENE == 1 || SCENE == 4
#define NPROC 2
#elif SCENE == 7
#define NPROC 4
#else
#define NPROC 3
#endif

#if SCENE == 1 || SCENE == 2 || SCENE >= 5
#define SOURCES 1
#else
#define SOURCES 2
#endif

/* The words: two sources (timeline, ring, window) with a mask each, the abort word, and a want for each process. */
#define VALUE(s) (s)
#define MASK(s) (2 + (s))
#define ABORT 4
#define VERSION(p) (5 + 3 * (p))
#define WANT(p, s) (6 + 3 * (p) + (s))

byte mem[5 + 3 * NPROC];
byte bell[NPROC];
bool asleep[NPROC];
bool spurious[NPROC]; /* the one return without a cause that each process may see */
byte finished;

#ifndef DEPTH
#define DEPTH 2
#endif

mtype = { SET, OR, CLEAR };
chan page[NPROC] = [DEPTH] of { mtype, byte, byte };
chan hints[NPROC] = [DEPTH] of { mtype, byte, byte };

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

inline set_bit(me, s)
{
#if defined(LOCKED_OR)
	atomic { drained(me) -> mem[MASK(s)] = mem[MASK(s)] | BIT(me) }
#elif defined(MASK_WITHOUT_ATOMICS)
	copy = mem[MASK(s)];
	hints[me] ! SET, MASK(s), copy | BIT(me);
	copy = 0
#else
	hints[me] ! OR, MASK(s), BIT(me)
#endif
}

inline clear_bit(me, s)
{
	hints[me] ! CLEAR, MASK(s), BIT(me)
}

/* The version is odd while the want is being written. */
inline bump_version(me)
{
	version = (version + 1) % 16;
	page[me] ! SET, VERSION(me), version
}

inline register(me, v0, v1)
{
	bump_version(me);
	page[me] ! SET, WANT(me, 0), v0;
#ifdef WANT_HAS_ONE_SLOT
	if
	:: v0 == 0 -> page[me] ! SET, WANT(me, 1), v1
	:: else
	fi;
#elif SOURCES == 2
	page[me] ! SET, WANT(me, 1), v1;
#endif
	bump_version(me);
	if
	:: v0 != 0 -> set_bit(me, 0)
	:: else
	fi;
	if
	:: v1 != 0 -> set_bit(me, 1)
	:: else
	fi
}

inline unregister(me, v0, v1)
{
	if
	:: v0 != 0 -> clear_bit(me, 0)
	:: else
	fi;
	if
	:: v1 != 0 -> clear_bit(me, 1)
	:: else
	fi;
	bump_version(me);
	page[me] ! SET, WANT(me, 0), 0;
#if SOURCES == 2
	page[me] ! SET, WANT(me, 1), 0;
#endif
	bump_version(me)
}

inline look(v0, v1)
{
	met = (v0 != 0 && mem[VALUE(0)] >= v0);
	met = met || (v1 != 0 && mem[VALUE(1)] >= v1);
	met = met || mem[ABORT]
}

inline futex_wait(me)
{
	if
	:: atomic { bell[me] == b -> asleep[me] = true };
	   !asleep[me]
	:: bell[me] != b
	:: d_step { !spurious[me] -> spurious[me] = true }
	fi
}

/* Wait until source 0 is at v0 or source 1 is at v1 (0: not wanted), or the abort word is set. */
inline wait_for(me, v0, v1)
{
	b = bell[me];
#ifdef LATE_REGISTRATION
	look(v0, v1);
	register(me, v0, v1);
	drained(me);
#else
	register(me, v0, v1);
#ifndef NO_FENCE_WAITER
	drained(me);
#endif
	look(v0, v1);
#endif
	do
	:: met -> break
	:: else ->
#ifdef BELL_READ_LATE
	   b = bell[me];
#endif
#ifndef SEEN_NOT_WRITTEN
	   /* The want also tells what was seen last, for `transom why`. */
	   bump_version(me);
	   bump_version(me);
#endif
	   futex_wait(me);
#ifdef CLEAR_BEFORE_LOOK
	   if
	   :: v0 != 0 -> clear_bit(me, 0)
	   :: else -> clear_bit(me, 1)
	   fi;
#endif
	   b = bell[me];
	   look(v0, v1)
	od;
	met = false;
	b = 0;
	unregister(me, v0, v1)
}

/* --- To wake --- */

inline ring_bell(q)
{
	bell[q]++;
	asleep[q] = false
}

/* The want is read without a lock: whoever reads it torn rings, as the sleeper may not look again. */
inline ring_if_met(me, q, s, v)
{
	before = mem[VERSION(q)];
	want = mem[WANT(q, s)];
	torn = (before % 2 == 1 || mem[VERSION(q)] != before);
	if
	:: torn ->
#ifndef WAKER_SKIPS_ON_TORN_WANT
	   ring_bell(q)
#else
	   skip
#endif
	:: !torn && want != 0 && want <= v ->
	   ring_bell(q)
#ifdef WAKER_CLEARS_BIT
	   ;
	   hints[me] ! CLEAR, MASK(s), BIT(q)
#endif
	:: else
	fi;
#ifdef WAKER_CLEARS_BIT
	if
	:: torn -> hints[me] ! CLEAR, MASK(s), BIT(q)
	:: else
	fi;
#endif
	before = 0;
	want = 0;
	torn = false
}

inline advance(me, s, v)
{
	page[me] ! SET, VALUE(s), v;
#ifndef NO_FENCE_WAKER
	drained(me);
#endif
	mask = mem[MASK(s)];
	q = 0;
	do
	:: q < NPROC && (mask & BIT(q)) -> ring_if_met(me, q, s, v); q++
	:: q < NPROC && !(mask & BIT(q)) -> q++
	:: q == NPROC -> break
	od;
	mask = 0;
	q = 0
}

/* Abort, death, time limit: the want does not matter, every sleeper is rung. */
inline ring_everybody(me)
{
	mask = mem[MASK(0)];
	mask = mask | mem[MASK(1)];
	q = 0;
	do
	:: q < NPROC && (mask & BIT(q)) -> ring_bell(q); q++
	:: q < NPROC && !(mask & BIT(q)) -> q++
	:: q == NPROC -> break
	od;
	mask = 0;
	q = 0
}

#define WAITER_LOCALS byte b, version, copy; bool met
#define WAKER_LOCALS byte mask, q, before, want; bool torn

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
/* One sleeper waits twice on one timeline; the bit and the want of the first wait must not spoil the second. */
active proctype sleeper()
{
	WAITER_LOCALS;
	wait_for(0, 1, 0);
	wait_for(0, 2, 0);
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
	wait_for(0, 1, 0);
	finished++
}
active proctype late()
{
	WAITER_LOCALS;
	wait_for(1, 2, 0);
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
/* A sub worker waits for two things at once: a new record in the pool (source 1) or the timeline that an older
 * record waits for (source 0), then for the other of the two. The chip may not advance before the sub has taken the
 * new record, or it does not care. */
bool taken;

active proctype sub()
{
	WAITER_LOCALS;
	wait_for(0, 1, 1);
	taken = (mem[VALUE(1)] == 1);
	if
	:: mem[VALUE(0)] == 1 -> wait_for(0, 0, 1)
	:: else -> wait_for(0, 1, 0)
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
	wait_for(0, 0, 1);
	advance(0, 0, 1);
	wait_for(0, 0, 2);
	finished++
}
active proctype pong()
{
	WAITER_LOCALS;
	WAKER_LOCALS;
	advance(1, 1, 1);
	wait_for(1, 1, 0);
	advance(1, 1, 2);
	finished++
}
#endif

#if SCENE == 5
/* An abort before, while or after the sleeper is served, or it is never served. */
active proctype sleeper()
{
	WAITER_LOCALS;
	wait_for(0, 1, 0);
	finished++
}
active proctype waker()
{
	WAKER_LOCALS;
	if
	:: true -> advance(1, 0, 1)
	:: true
	fi;
	finished++
}
active proctype keeper()
{
	WAKER_LOCALS;
	page[2] ! SET, ABORT, 1;
#ifndef NO_FENCE_ABORT
	drained(2);
#endif
	ring_everybody(2);
	finished++
}
#endif

#if SCENE == 6
/* The sleeper or the waker is killed at any step, the waker also between its store and its look at the mask. The
 * keeper clears the bits of the dead, rings everybody and lets the replacement start, in that order. What the dead
 * had stored is visible when its death is. */
byte dead = NPROC, born = NPROC;

active proctype sleeper()
{
	WAITER_LOCALS;
	{ wait_for(0, 1, 0) } unless { dead == 0 };
	if
	:: dead == 0 ->
	   born == 0;
	   d_step { b = 0; met = false; version = (mem[VERSION(0)] + 1) / 2 * 2 };
	   wait_for(0, 1, 0)
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
	   d_step { mask = 0; q = 0; before = 0; want = 0; torn = false };
	   if
	   :: mem[VALUE(0)] == 0 -> advance(1, 0, 1)
	   :: else
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
#ifdef BITS_OF_THE_DEAD_CLEARED_LATE
	   born = dead;
#endif
	   asleep[dead] = false;
	   hints[2] ! CLEAR, MASK(0), BIT(dead);
	   hints[2] ! CLEAR, MASK(1), BIT(dead);
	   drained(2);
#ifndef DEATH_RINGS_NOBODY
	   ring_everybody(2);
#endif
	   born = dead
	:: else
	fi;
	finished++
}
#endif

#if SCENE == 7
/* Four processes: two sleepers on one timeline, one of them never served, and an abort. */
active proctype served()
{
	WAITER_LOCALS;
	wait_for(0, 1, 0);
	finished++
}
active proctype stranded()
{
	WAITER_LOCALS;
	wait_for(1, 2, 0);
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
	drained(3);
	ring_everybody(3);
	finished++
}
#endif

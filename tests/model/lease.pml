/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The return of a lease: its next owner finds zeros, and nothing it writes is wiped away.
 *
 * Mirrors release and record_fence of src/engine/domain.c, advance, zero_here and start_zeroing of src/engine/lease.c, and
 * the ZERO record and take_over in src/chip/chip.c.
 *
 * Chips 0 and 1 are members of a domain, chip 2 is not. There is one lease, so the second allocation must get what the
 * first one returns. A window is two words: data and signal. Run 1 allocates and submits tasks, any of which may be
 * left out: chip 0 writes its peer's window by name, and once more through an address hidden in a scalar; chip 1 waits
 * inside for a signal; chip 2 names the window, waits inside for a poke and writes. Release closes the handle and
 * records the fence: for members everything given so far, for others the last record that names the domain. The poke
 * is submitted to chip 1 after that. When the fence is reached the lease is zeroed, by the orchestrator or by a ZERO
 * record on each owner's ring, and is clean; it is clean as it is when no task at all was submitted while it was live.
 * Run 2 allocates it again, finds zeros, and its first instructions are a signal from chip 0 and the wait for it on chip 1.
 *
 * Run 1 may be aborted at any time: its tasks not begun are skipped, but advance; waits inside end. A chip may be killed
 * in a record (KILLS); the replacement marks a begun task failed, which aborts its run. A ZERO record is not "begun", so the
 * replacement finds it again and does it anew; it belongs to no run, so that no abort skips it.
 *
 * Assumed: sequential consistency; a task's puts are complete when its record is done; a sub worker that names the
 * window counts as chip 2 does, with its done word for the timeline.
 */
#ifndef KILLS
#define KILLS 1
#endif
#define CHIPS 3
#define ROOM 6
#define at(chip, seq) ((chip) * ROOM + (seq) - 1)

mtype = { PUT, PUT_AFTER_POKE, SIGNAL, AWAIT, POKE, ZERO };

/* w: orchestrator */
mtype kind[CHIPS * ROOM];
byte run_of[CHIPS * ROOM];
byte given[CHIPS], fence[CHIPS];
/* w: chip */
byte timeline[CHIPS], begun[CHIPS];
/* the windows of the members, and a word elsewhere */
bool data[2], signal[2], poked;
/* w: keeper */
bool aborted[3]; /* run 0 is no run */
/* for the killer only */
byte kills;
bool kill[CHIPS];

#define submit(c, r, k)                        \
	d_step {                               \
		run_of[at(c, given[c] + 1)] = r; \
		kind[at(c, given[c] + 1)] = k;   \
		given[c]++                     \
	}
#define reached (timeline[0] >= fence[0] && timeline[1] >= fence[1] && timeline[2] >= fence[2])
#define caught_up(c) (timeline[c] == given[c])
#define ALL_ZERO (!data[0] && !data[1] && !signal[0] && !signal[1])

inline zero_by_orchestrator()
{
	data[0] = false;
	signal[0] = false;
	data[1] = false;
	signal[1] = false
}

#ifdef ZERO_SKIPPED_ON_ABORT
#define ZERO_RUN 1
#else
#define ZERO_RUN 0
#endif

inline zero_by_owners()
{
	submit(0, ZERO_RUN, ZERO);
	submit(1, ZERO_RUN, ZERO)
}

inline wait_until_zeroed()
{
	caught_up(0) && caught_up(1)
}

active proctype orchestrator()
{
	byte named;
	bool touched;

	/* Run 1. */
	if
	:: true -> submit(0, 1, PUT); touched = true
	:: true
	fi;
	if
	:: true -> submit(0, 1, PUT) /* the address is a scalar: nobody knows that this one writes the window */
	:: true
	fi;
	if
	:: true -> submit(0, 1, SIGNAL); submit(1, 1, AWAIT); touched = true
	:: true
	fi;
	if
	:: true -> submit(2, 1, PUT_AFTER_POKE); named = 1
	:: true
	fi;

	/* Release. */
#ifdef TOUCHED_ONLY_IF_NAMED
	touched = touched || named;
#else
	touched = given[0] || given[1] || given[2];
#endif
#ifdef FENCE_ONLY_NAMED
	fence[0] = (given[0] == 0 -> 0 : given[0] - 1);
#else
	fence[0] = given[0];
#endif
	fence[1] = given[1];
#ifndef FENCE_WITHOUT_NONMEMBER
	fence[2] = named;
#endif
#ifdef ZERO_WAITS_IN_RING
	zero_by_owners();
#endif
	submit(1, 1, POKE);

	/* The next allocation waits for the fence. */
#if defined(ZERO_WAITS_IN_RING)
	reached;
	wait_until_zeroed();
#elif defined(REUSE_BEFORE_ZERO_DONE)
	reached;
	zero_by_owners();
#elif !defined(ZERO_AFTER_GIVEOUT)
	reached;
	if
	:: touched -> zero_by_orchestrator()
	:: touched -> zero_by_owners(); wait_until_zeroed()
	:: !touched
	fi;
#endif
#ifndef ZERO_AFTER_GIVEOUT
	assert(ALL_ZERO);
#endif

	/* Run 2. */
	submit(0, 2, SIGNAL);
#ifdef ZERO_AFTER_GIVEOUT
	reached;
	zero_by_owners();
#endif
	submit(1, 2, AWAIT);
	caught_up(0) && caught_up(1) && caught_up(2);
	assert(aborted[2] || (signal[1] && !data[0] && !data[1]))
}

active proctype abort()
{
	if
	:: true -> aborted[1] = true
	:: true
	fi
}

/* One record, from its own begin to its end; may be left in the middle by death. */
inline execute(me, k, r)
{
	if
	:: k == PUT -> data[1] = true
	:: k == PUT_AFTER_POKE ->
	   if
	   :: poked -> data[1] = true
	   :: aborted[r]
	   fi
	:: k == SIGNAL -> signal[1] = true
	:: k == AWAIT ->
	   if
	   :: signal[1]
	   :: aborted[r]
	   fi
	:: k == POKE -> poked = true
	:: k == ZERO ->
	   data[me] = false;
	   signal[me] = false
	fi
}

#ifdef ZERO_IS_BEGUN
#define IS_BEGUN(k) true
#else
#define IS_BEGUN(k) ((k) != ZERO)
#endif

inline next(me)
{
	seq = timeline[me] + 1;
#ifdef ZERO_WAITS_IN_RING
	if
	:: kind[at(me, seq)] == ZERO -> reached
	:: else
	fi;
#endif
	if
	:: aborted[run_of[at(me, seq)]] -> skip
	:: else ->
	   begun[me] = (IS_BEGUN(kind[at(me, seq)]) -> seq : begun[me]);
	   execute(me, kind[at(me, seq)], run_of[at(me, seq)])
	fi;
	d_step { timeline[me] = seq; seq = 0 }
}

inline take_over(me)
{
	if
	:: begun[me] == timeline[me] + 1 ->
	   aborted[run_of[at(me, begun[me])]] = true;
	   timeline[me]++
	:: else
	fi
}

proctype chip(byte me)
{
	byte seq;

born:	{
		take_over(me);
end_idle:	do
		:: timeline[me] < given[me] -> next(me)
		od
	} unless { kill[me] };
	d_step { kill[me] = false; seq = 0 };
	goto born
}

active proctype killer()
{
	do
	:: kills < KILLS ->
	   if
	   :: kill[0] = true
	   :: kill[1] = true
	   :: kill[2] = true
	   fi;
	   kills++
	:: true -> break
	od
}

init
{
	atomic { run chip(0); run chip(1); run chip(2) }
}

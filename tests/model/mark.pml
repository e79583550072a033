/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Marks, skipping and dropped waits: who may begin when something before it failed, was skipped or died.
 *
 * Mirrors record_execute (make_waits, judge, skip, begin, make_mark) of src/chip/run.c, chip_loop and take_over of
 * src/chip/chip.c, deps_write of src/engine/graph.c, retire and free_slot of src/engine/run.c.
 *
 * Three chips with in-order rings. A record waits until the timelines it names are there, then reads the abort word of its
 * run, its own chip's mark for the run, and the marks of the chips it waited for. It is skipped if its run is marked there,
 * also if a producer in an earlier run, whose bytes it reads (a data edge), has failed. A chip writes its mark {run, first
 * number that went wrong} before it advances past a failed or skipped record; the first of a run is kept.
 *
 * A wait is dropped when an earlier record of the same run on the same ring makes it: if what that one waited for has
 * failed it was skipped, and the chip's own mark says so. A data edge into an earlier run is never dropped.
 *
 * The slots for marks are few and used again: runs 1 and 3 share one. Run 3 begins when run 1 is over and, if run 1 left a
 * mark, when every run that was there when it ended is over too (the slot's gate).
 *
 *   chip 0:  A (run 1)                             D (run 3)
 *   chip 1:  B (run 1) reads and overwrites A's bytes; C (run 1) reads A's, its wait dropped; E (run 2) reads A's
 *   chip 2:  F (run 1) needs nothing; G (run 2) overwrites what B wrote: its only edge is to B; I (run 2) reads B's bytes
 *
 * A, B, C, E, F and D may fail; a chip may be killed at any step (KILLS); the abort word of run 1 or 2 may be raised as soon
 * as anything of that run is marked.
 *
 * Assumed: sequential consistency; a mark is one word; a replacement starts only when the dead one is gone.
 */
#ifndef KILLS
#define KILLS 1
#endif
#define CHIPS 3
#define RUNS 4
#define NONE 9

#define A 0
#define D 1
#define B 3
#define C 4
#define E 5
#define F 6
#define G 7
#define I 8
#define record(chip, seq) ((chip) * 3 + (seq) - 1)
#define chip_of(t) ((t) / 3)
#define seq_of(t) ((t) % 3 + 1)

mtype = { NEW, RUNNING, DONE, FAILED, SKIPPED };
mtype = { NO_EDGE, ORDER, DATA }; /* ORDER: must be over; DATA: and must have gone well */

/* w: orchestrator. D makes run 3; no edges go into it or out of it. */
byte given[CHIPS], run_of[9], producer[9] = NONE;
mtype edge[9] = NO_EDGE;
bool waits[9]; /* the wait for the producer was not dropped: it stands in the record */
/* w: chip */
byte timeline[CHIPS], begun[CHIPS];
byte mark_run[CHIPS * 2], mark_seq[CHIPS * 2];
/* w: keeper */
bool aborted[RUNS];
/* for the properties only */
mtype state[9] = NEW;
bool run_failed[RUNS], kill[CHIPS];

#define slot(chip, r) ((chip) * 2 + (r) % 2)
#define marked(chip, r) (mark_run[slot(chip, r)] == (r))
#define marked_upto(chip, r, seq) (marked(chip, r) && mark_seq[slot(chip, r)] <= (seq))
#define over(t) (state[t] == DONE || state[t] == FAILED || state[t] == SKIPPED)

inline set_mark(me, r, seq)
{
	d_step {
		if
		:: !marked(me, r) -> mark_run[slot(me, r)] = r; mark_seq[slot(me, r)] = seq
		:: else
		fi
	}
}

inline settle(me, t, what)
{
	d_step { state[t] = what; run_failed[run_of[t]] = true };
#ifdef SKIP_LEAVES_NO_MARK
	if
	:: what == FAILED -> set_mark(me, run_of[t], seq_of(t))
	:: else
	fi;
	timeline[me] = seq_of(t)
#else
#ifdef ADVANCE_BEFORE_MARK
	timeline[me] = seq_of(t);
	set_mark(me, run_of[t], seq_of(t))
#else
	set_mark(me, run_of[t], seq_of(t));
	timeline[me] = seq_of(t)
#endif
#endif
}

inline make_waits(t)
{
	if
	:: waits[t] -> timeline[chip_of(producer[t])] >= seq_of(producer[t])
	:: else
	fi
}

#define same_run(t) (run_of[t] == run_of[producer[t]])
#define looks_at_producer(t) (waits[t] && (edge[t] == DATA || same_run(t)))

inline read_marks(me, t)
{
	bad = bad || marked(me, run_of[t]);
	if
	:: looks_at_producer(t) ->
	   bad = bad || marked_upto(chip_of(producer[t]), run_of[producer[t]], seq_of(producer[t]))
	:: else
	fi;
	bad = bad || aborted[run_of[t]]
}

inline begin(me, t)
{
	begun[me] = seq_of(t);
	d_step {
		assert(state[t] == NEW);
		assert(edge[t] == NO_EDGE || over(producer[t]));
		assert(edge[t] != DATA || state[producer[t]] == DONE);
		assert(t != G || over(A)); /* B wrote over A's bytes, so the edge to B stands for the one to A */
		state[t] = RUNNING
	};
	if
	:: true -> state[t] = DONE; timeline[me] = seq_of(t)
	:: t != G && t != I -> settle(me, t, FAILED)
	fi
}

/* Only what its own run or its producers did may skip a record: later runs are not touched. */
inline skip_it(me, t)
{
	assert(run_failed[run_of[t]] || (edge[t] == DATA && state[producer[t]] != DONE && !same_run(t)));
	settle(me, t, SKIPPED)
}

inline take_over(me)
{
#ifndef REPLACEMENT_RERUNS
	if
	:: begun[me] == timeline[me] + 1 -> t = record(me, begun[me]); settle(me, t, FAILED)
	:: else
	fi
#else
	skip
#endif
}

inline next(me)
{
	t = record(me, timeline[me] + 1);
#if defined(MARK_READ_BEFORE_WAIT)
	read_marks(me, t);
	make_waits(t);
#elif defined(SKIP_WITHOUT_WAITS)
	bad = marked(me, run_of[t]) || aborted[run_of[t]];
	if
	:: !bad -> make_waits(t); read_marks(me, t)
	:: else
	fi;
#else
	make_waits(t);
	read_marks(me, t);
#endif
	if
	:: bad -> skip_it(me, t)
	:: else -> begin(me, t)
	fi;
	d_step { bad = false; t = 0 }
}

proctype chip(byte me)
{
	byte t;
	bool bad;

born:	{
		take_over(me);
end_idle:	do
		:: timeline[me] < given[me] -> next(me)
		od
	} unless { kill[me] };
	d_step { kill[me] = false; bad = false; t = 0 };
	goto born
}

active proctype keeper()
{
end:	do
	:: !aborted[1] && (marked(0, 1) || marked(1, 1) || marked(2, 1)) -> aborted[1] = true
	:: !aborted[2] && (marked(1, 2) || marked(2, 2)) -> aborted[2] = true
	od
}

active proctype killer()
{
	byte kills;

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
	d_step {
		run_of[A] = 1; run_of[D] = 3;
		run_of[B] = 1; producer[B] = A; edge[B] = DATA; waits[B] = true;
		run_of[C] = 1; producer[C] = A; edge[C] = DATA;
		run_of[E] = 2; producer[E] = A; edge[E] = DATA;
#ifndef DATA_EDGE_DROPPED
		waits[E] = true;
#endif
		run_of[F] = 1;
		run_of[G] = 2; producer[G] = B; edge[G] = ORDER; waits[G] = true;
		run_of[I] = 2; producer[I] = B; edge[I] = DATA; waits[I] = true;
		given[0] = 1; given[1] = 3; given[2] = 3
	};
	atomic { run chip(0); run chip(1); run chip(2) };
	timeline[0] >= 1 && timeline[1] >= 2 && timeline[2] >= 1;
#ifndef MARK_SLOT_REUSED_EARLY
	if
	:: marked(0, 1) || marked(1, 1) || marked(2, 1) || aborted[1] -> timeline[1] >= 3 && timeline[2] >= 3
	:: else
	fi;
#endif
	given[0] = 2;
	timeline[0] == 2 && timeline[1] == 3 && timeline[2] == 3
}

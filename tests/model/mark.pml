/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Marks, skipping and dropped waits: who may begin when something before it failed, was skipped or died.
 *
 * Mirrors the loop of src/chip/ (waits, marks, begin, timeline), the dropping of waits in src/engine/ and the takeover
 * by a replacement (design.md 2.2, 2.3, 3 and 5).
 *
 * Three chips with in-order rings. A record waits until the timelines it names are there, then reads the abort word
 * of its run, its own mark for the run, and the marks of the chips it depends on. If its run is marked it is skipped,
 * also if a producer in an earlier run, whose bytes it reads, has failed. A chip writes its mark {run, first sequence
 * number that went wrong} before it advances past a failed or skipped record. The slots for marks are few and used
 * again: runs 1 and 3 share one.
 *
 *   chip 0:  A (run 1)                      D (run 3)
 *   chip 1:  B (run 1) reads A              E (run 2) reads A, its wait dropped as B makes it
 *   chip 2:  F (run 1) needs nothing        G (run 2) overwrites A's input         I (run 2) reads B's bytes
 *
 * A, B, E, F and D may fail; a chip may be killed at any step (KILLS); run 1's abort word may be raised as soon as
 * anything of run 1 is marked. D is submitted when the slot of run 1's marks is free: run 1 is finished, and every ring
 * has passed the records with an edge into run 1.
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
#define E 4
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
bool waits[9]; /* the wait for the producer was not dropped */
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
#ifdef ADVANCE_BEFORE_MARK
	timeline[me] = seq_of(t);
	set_mark(me, run_of[t], seq_of(t))
#else
	set_mark(me, run_of[t], seq_of(t));
	timeline[me] = seq_of(t)
#endif
}

inline make_waits(t)
{
	if
	:: waits[t] -> timeline[chip_of(producer[t])] >= seq_of(producer[t])
	:: else
	fi
}

#ifdef DROPPED_WAIT_DROPS_EDGE
#define looks_at_producer(t) (edge[t] == DATA && waits[t])
#else
#define looks_at_producer(t) (edge[t] == DATA)
#endif

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
	assert(run_failed[run_of[t]] || (edge[t] == DATA && state[producer[t]] != DONE));
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
		run_of[E] = 2; producer[E] = A; edge[E] = DATA;
		run_of[F] = 1;
		run_of[G] = 2; producer[G] = A; edge[G] = ORDER; waits[G] = true;
		run_of[I] = 2; producer[I] = B; edge[I] = DATA; waits[I] = true;
		given[0] = 1; given[1] = 2; given[2] = 3
	};
	atomic { run chip(0); run chip(1); run chip(2) };
#ifdef MARK_SLOT_REUSED_EARLY
	timeline[0] >= 1 && timeline[1] >= 1 && timeline[2] >= 1;
#else
	timeline[0] >= 1 && timeline[1] >= 2 && timeline[2] >= 3;
#endif
	given[0] = 2;
	timeline[0] == 2 && timeline[1] == 2 && timeline[2] == 3
}

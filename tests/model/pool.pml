/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The pool of the sub workers: every record is run at most once and done exactly once, whoever is killed when.
 *
 * Mirrors scan_pool, try_claim, finish and sub_take_over of src/chip/sub.c, word_failed and make_mark of src/chip/run.c,
 * and try_reserve and pool_collect of src/engine/.
 *
 * A slot holds a record with its sequence number (stamp), what it waits for, a claim word {seq, sub} and a done word
 * {seq, failed}. A sub looks for the oldest record that nobody has claimed and whose wait is met, claims it by
 * compare-and-swap of the whole claim word, says on its own page what it has begun, runs it, and writes the done word.
 * A task that fails is marked on the sub's page, first cause kept, before its done word is written. The replacement of a
 * sub has its number and completes, as failed, whatever that number has claimed and not done. The orchestrator uses a
 * slot again once its record and all before it are done (in the code with one slot to spare).
 *
 * Record 1 waits for a chip's timeline, which moves only after record 2 is done: a ready record behind a waiting one
 * must be taken. A consumer in a later run reads record 1's result; it may come late, when the slot holds record 3. Then
 * the done word says nothing any more, and a mark of the run on any sub counts as the failure of record 1: the pool is not
 * in order, so no number in a mark could tell.
 *
 * Assumed: sequential consistency (acquire and release at every word); claim and done words are 64 bits, written in
 * one step; a replacement starts only when the dead one is gone. Sleeping is wake.pml's matter.
 * A lost record shows as an invalid end state: somebody waits for its done word for ever.
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef SUBS
#define SUBS 2
#endif
#define SLOTS 2
#define NOBODY 9
#define slot_of(seq) (((seq) - 1) % SLOTS)

/* w: orchestrator */
byte stamp[SLOTS], needs[SLOTS]; /* needs: the value of the timeline that the record waits for */
bool closing;
/* w: chip */
byte timeline;
/* w: the sub that holds the claim */
byte claim_seq[SLOTS], claim_sub[SLOTS] = NOBODY, done_seq[SLOTS];
bool done_failed[SLOTS];
/* w: the sub */
byte begun[SUBS], mark[SUBS];
/* for the properties only */
byte runs[RECORDS + 1], dones[RECORDS + 1];
bool failed[RECORDS + 1], kill[SUBS];

#ifdef CLAIM_IS_ONLY_THE_NUMBER
#define unclaimed(i, seq) (claim_sub[i] == NOBODY)
#else
#define unclaimed(i, seq) (claim_seq[i] < (seq))
#endif
#define open(i) (stamp[i] > done_seq[i] && unclaimed(i, stamp[i]) && timeline >= needs[i])
#define oldest(i, j) (open(i) && (!open(j) || stamp[i] < stamp[j]))

active proctype orchestrator()
{
	byte seq = 1;

	do
	:: seq <= RECORDS ->
	   if
	   :: seq <= SLOTS
#ifdef REUSE_BEFORE_DONE
	   :: seq > SLOTS && claim_seq[slot_of(seq)] == seq - SLOTS
#else
	   :: seq > SLOTS && done_seq[slot_of(seq)] == seq - SLOTS
#endif
	   fi;
	   needs[slot_of(seq)] = (seq == 1 -> 1 : 0);
#ifdef CLAIM_IS_ONLY_THE_NUMBER
	   claim_sub[slot_of(seq)] = NOBODY;
#endif
	   stamp[slot_of(seq)] = seq;
	   seq++
	:: else -> break
	od;
	done_seq[slot_of(RECORDS)] == RECORDS && done_seq[slot_of(RECORDS - 1)] == RECORDS - 1;
	closing = true
}

active proctype chip()
{
	done_seq[slot_of(2)] >= 2;
	timeline = 1
}

active proctype consumer()
{
	byte sub, seen;
	bool bad;

	done_seq[slot_of(1)] >= 1;
	d_step { seen = done_seq[slot_of(1)]; bad = done_failed[slot_of(1)] };
#ifndef FAILED_BIT_IS_ENOUGH
	if
	:: seen == 1
	:: else ->
	   bad = false;
	   do
#ifdef MARK_COMPARED_BY_NUMBER
	   :: sub < SUBS -> bad = bad || (mark[sub] != 0 && mark[sub] <= 1); sub++
#else
	   :: sub < SUBS -> bad = bad || mark[sub] != 0; sub++
#endif
	   :: else -> break
	   od
	fi;
#endif
	assert(bad || !failed[1]) /* a consumer of a failed producer never begins */
}

active proctype killer()
{
	byte kills;

	do
	:: kills < KILLS && !closing -> kill[0] = true; kills++; !kill[0] || closing
#if KILLS > 1 /* one death: the subs are alike, so it may as well be sub 0 */
	:: kills < KILLS && !closing -> kill[1] = true; kills++; !kill[1] || closing
#endif
	:: true -> break
	od
}

inline set_mark(me, seq)
{
	mark[me] = (mark[me] == 0 -> seq : mark[me])
}

inline write_done(i, seq, bad)
{
	d_step {
		done_seq[i] = seq;
		done_failed[i] = bad;
		dones[seq]++;
		assert(dones[seq] == 1)
	}
}

inline complete_as_failed(me, i, seq)
{
	failed[seq] = true;
#ifdef DONE_BEFORE_MARK
	write_done(i, seq, true);
	set_mark(me, seq)
#else
	set_mark(me, seq);
	write_done(i, seq, true)
#endif
}

inline take_over(me)
{
#ifdef REPLACEMENT_IGNORES_CLAIM
	if
	:: begun[me] != 0 && done_seq[slot_of(begun[me])] < begun[me] ->
	   complete_as_failed(me, slot_of(begun[me]), begun[me])
	:: else
	fi;
#else
	i = 0;
	do
	:: i < SLOTS ->
	   if
	   :: claim_sub[i] == me && done_seq[i] < claim_seq[i] -> complete_as_failed(me, i, claim_seq[i])
	   :: else
	   fi;
	   i++
	:: else -> break
	od;
#endif
	i = 0
}

inline try_to_claim(me)
{
	seq = stamp[i];
	d_step { claimed_seq = claim_seq[i]; claimed_sub = claim_sub[i] };
	ready = (timeline >= needs[i]);
#if defined(CLAIM_IS_ONLY_THE_NUMBER)
	d_step {
		mine = (ready && claim_sub[i] == NOBODY);
		if
		:: mine -> claim_sub[i] = me; claim_seq[i] = seq
		:: else
		fi
	}
#else
#ifdef CLAIM_COMPARES_UNEQUAL
	ready = (ready && claimed_seq != seq);
#else
	ready = (ready && claimed_seq < seq);
#endif
	d_step {
#ifdef CLAIM_WITHOUT_CAS
		mine = ready;
#else
		mine = (ready && claim_seq[i] == claimed_seq && claim_sub[i] == claimed_sub);
#endif
		if
		:: mine -> claim_seq[i] = seq; claim_sub[i] = me
		:: else
		fi
	}
#endif
	d_step { claimed_seq = 0; claimed_sub = 0; ready = false }
}

inline run_task(me)
{
	begun[me] = seq;
	d_step {
		assert(stamp[i] == seq && timeline >= needs[i]);
		runs[seq]++;
		assert(runs[seq] == 1)
	};
	if
	:: true -> bad = false
	:: true -> bad = true
	fi;
	assert(stamp[i] == seq); /* the record stays as long as its task runs */
	if
	:: bad -> complete_as_failed(me, i, seq)
	:: else -> write_done(i, seq, false)
	fi
}

proctype sub(byte me)
{
	byte i, seq, claimed_seq, claimed_sub;
	bool ready, mine, bad;

born:	{
		take_over(me);
		do
		:: !mine && oldest(0, 1) -> i = 0; try_to_claim(me)
		:: !mine && oldest(1, 0) -> i = 1; try_to_claim(me)
		:: !mine && closing -> break
		:: mine -> run_task(me); d_step { mine = false; bad = false; seq = 0; i = 0 }
		od
	} unless { kill[me] };
	if
	:: d_step { kill[me] ->
		kill[me] = false; i = 0; seq = 0; claimed_seq = 0; claimed_sub = 0;
		ready = false; mine = false; bad = false
	   };
	   goto born
	:: else
	fi
}

init
{
	atomic {
		run sub(0);
		run sub(1);
#if SUBS > 2
		run sub(2)
#endif
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The channels behind the windows: what a rank takes is what its peer gave under that number, and nobody waits for ever.
 *
 * Mirrors src/chip/channel.c on the layout in src/shm/layout.h: give, take, release, stage and finish, credit and
 * acknowledgement, in the collectives that are made of them.
 *
 * A message has a stamp, generation and number in one word, and a body: a payload, or where it is (a stage slot of the
 * sender, or its window), and how much the sender has itself taken from the receiver. It goes to line number % LINES
 * when the receiver is known to have taken number - LINES. Who takes posts credit when LINES / 2 messages are owed, and
 * at once for a lent one. A stage slot is used again when all who were given it have taken it; who lends waits for the
 * credit, then writes its window again. Numbers are counted from 1 by each side in each life of the lease.
 *
 * Memory is weaker than x86. Each rank has two store buffers, one for what lies behind a word (bodies, stage, window)
 * and one for the words themselves (stamps, credits; with SLEEP also sleep flags and wants); a release store waits for the
 * first, and nothing else orders them. BUFFERS=0 makes every store visible at once, for the larger scenes. With SLEEP a rank
 * that waits sleeps: flag and want through the buffer, fence, look, sleep; who stored looks after a fence, at the latest before
 * it waits itself.
 *
 * Assumed: ringing is what wake.pml verifies, so a want is one word here and a bell is rung in one step; between two lives all
 * that the members stored is visible, since the lease rests until their timelines have passed (lease.pml).
 * A payload is one cell, whose value tells the round; overwritten, it never comes back.
 */
#ifndef SCENE
#define SCENE 1
#endif
#ifndef BUFFERS
#define BUFFERS 1
#endif
#if SCENE == 3 || SCENE == 5
#define RANKS 3
#else
#define RANKS 2
#endif
#ifndef LINES
#define LINES 2
#endif
#ifndef ROUNDS
#define ROUNDS 4
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifdef GENERATION_COMES_AGAIN
#define LIVES 3
#elif SCENE == 4
#define LIVES 2
#else
#define LIVES 1
#endif

/* The cells of memory. Of pair p = from * RANKS + to: a line's stamp and body, and the credit. */
#define PAIR(s, r) ((s) * RANKS + (r))
#define CELLS (2 * LINES + 1)
#define STAMP(p, n) ((p) * CELLS + (n) % LINES)
#define BODY(p, n) ((p) * CELLS + LINES + (n) % LINES)
#define CREDIT(p) ((p) * CELLS + 2 * LINES)
#define STAGE(s, k) (RANKS * RANKS * CELLS + (s) * (SLOTS + 1) + (k))
#define WINDOW(s) STAGE(s, SLOTS)
#define ABORT (RANKS * RANKS * CELLS + RANKS * (SLOTS + 1))
#define FLAG(r) (ABORT + 1 + 2 * (r))
#define WANT(r) (ABORT + 2 + 2 * (r))
#define ALL_CELLS (ABORT + 1 + 2 * RANKS)

short mem[ALL_CELLS];
byte bell[RANKS];
bool parked[RANKS];
byte life = 1;
byte killed = RANKS;
byte left_life;

/* w: the rank that comes first in the pair (sent, acked, staged) or second (taken, posted). */
byte sent[RANKS * RANKS], acked[RANKS * RANKS], taken[RANKS * RANKS], posted[RANKS * RANKS];
byte staged[RANKS * RANKS * SLOTS];

/* Stamps: generation and number. */
#ifdef GENERATION_COMES_AGAIN
#define TAG (life % 2 * 16)
#elif defined(GENERATION_NOT_IN_STAMP)
#define TAG 0
#else
#define TAG (life * 16)
#endif
#ifdef GENERATION_NOT_IN_CREDIT
#define CREDIT_TAG 0
#else
#define CREDIT_TAG TAG
#endif
#ifdef ABORT_WITHOUT_GENERATION
#define aborted (mem[ABORT] != 0)
#else
#define aborted (mem[ABORT] == life)
#endif

/* Where a payload is. */
#define INLINE 0
#define SLOT(k) (1 + (k))
#define LENT (1 + SLOTS)

#define BODY_OF(value, how, ack) ((value) + (how) * 16 + (ack) * 128)
#define VALUE_IN(b) ((b) % 16)
#define HOW_IN(b) ((b) / 16 % 8)
#define ACK_IN(b) ((b) / 128)

#if BUFFERS > 0
chan plain[RANKS] = [BUFFERS] of { byte, short };
chan words[RANKS] = [BUFFERS] of { byte, short };
#define drained(r) (empty(plain[r]) && empty(words[r]))
#define store(r, a, v) plain[r] ! a, v
#ifdef NO_RELEASE
#define store_release(r, a, v) words[r] ! a, v
#else
#define store_release(r, a, v) atomic { empty(plain[r]); words[r] ! a, v }
#endif
#define DRAIN(buffer) d_step { buffer ? a, v; mem[a] = v; a = 0; v = 0 }

active proctype memory()
{
	byte a;
	short v;

end:	do
	:: DRAIN(plain[0])
	:: DRAIN(words[0])
	:: DRAIN(plain[1])
	:: DRAIN(words[1])
#if RANKS > 2
	:: DRAIN(plain[2])
	:: DRAIN(words[2])
#endif
	od
}
#else
#define drained(r) true
#define store(r, a, v) mem[a] = v
#define store_release(r, a, v) mem[a] = v
#endif

/* --- Waiting and waking --- */

#define stamp_is(p, n) (mem[STAMP(p, n)] == TAG + (n))
#ifdef CREDIT_COMPARED_ACROSS_LIVES
#define credit_is(p, n) (mem[CREDIT(p)] >= CREDIT_TAG + (n))
#else
#define credit_is(p, n) (mem[CREDIT(p)] / 16 == CREDIT_TAG / 16 && mem[CREDIT(p)] % 16 >= (n))
#endif

/* A want, for whoever may have to wake: the pair, the number, and whether it is a credit. */
#define WANT_OF(p, n, credit) (1 + (p) * 64 + (n) * 2 + (credit))
#define want_pair(w) (((w) - 1) / 64)
#define want_number(w) (((w) - 1) / 2 % 32)
#define want_met(w)                                                                  \
	((w) > 0 && (((w) - 1) % 2 -> credit_is(want_pair(w), want_number(w))         \
				   : stamp_is(want_pair(w), want_number(w))))

#ifdef SLEEP
#define wait(me, condition, want_)                                                   \
	if                                                                           \
	:: condition || aborted                                                      \
	:: else ->                                                                   \
	   pay_before_wait(me);                                                      \
	   words[me] ! WANT(me), want_;                                              \
	   do                                                                        \
	   :: b = bell[me];                                                          \
	      words[me] ! FLAG(me), 1;                                               \
	      waiter_fence(me);                                                      \
	      if                                                                     \
	      :: condition || aborted -> break                                       \
	      :: else                                                                \
	      fi;                                                                    \
	      if                                                                     \
	      :: atomic { bell[me] == b -> parked[me] = true }; !parked[me]          \
	      :: bell[me] != b                                                       \
	      fi                                                                     \
	   od;                                                                       \
	   b = 0;                                                                    \
	   words[me] ! FLAG(me), 0;                                                  \
	   words[me] ! WANT(me), 0                                                   \
	fi
#ifdef WAITS_BEFORE_PAYING
#define pay_before_wait(me) skip
#else
#define pay_before_wait(me) pay(me)
#endif
#ifdef NO_FENCE_WAITER
#define waiter_fence(me) skip
#else
#define waiter_fence(me) drained(me)
#endif
#else
#define wait(me, condition, want_) condition || aborted
#endif

#ifdef SLEEP
byte owed[RANKS]; /* a bit for each rank to be woken */
#endif

inline wake(me, q)
{
#ifdef SLEEP
#ifndef NO_FENCE_WAKER
	drained(me);
#endif
	if
	:: mem[FLAG(q)] == 1 ->
	   if
	   :: want_met(mem[WANT(q)]) ->
	      atomic {
		drained(me);
		if
		:: mem[FLAG(q)] == 1 -> mem[FLAG(q)] = 2; bell[q] = (bell[q] + 1) % 8; parked[q] = false
		:: else
		fi
	      }
	   :: else
	   fi
	:: else
	fi
#else
	skip
#endif
}

/* Wakes are owed for messages and credits, and paid before the next wait or at the end. */
inline owe(me, q)
{
#ifdef SLEEP
	owed[me] = owed[me] | (1 << q)
#else
	skip
#endif
}

inline pay(me)
{
#ifdef SLEEP
	if
	:: owed[me] & 1 -> wake(me, 0)
	:: else
	fi;
	if
	:: owed[me] & 2 -> wake(me, 1)
	:: else
	fi;
	owed[me] = 0
#else
	skip
#endif
}

/* --- Channels --- */

/* What the credit of `to` says. */
inline see_credit(me, to)
{
	d_step {
		if
		:: mem[CREDIT(PAIR(me, to))] / 16 == CREDIT_TAG / 16 && mem[CREDIT(PAIR(me, to))] % 16 > acked[PAIR(me, to)] ->
		   acked[PAIR(me, to)] = mem[CREDIT(PAIR(me, to))] % 16
		:: else
		fi
	}
}

inline wait_credit(me, to, n)
{
	if
	:: acked[PAIR(me, to)] >= (n)
	:: else ->
	   wait(me, credit_is(PAIR(me, to), n), WANT_OF(PAIR(me, to), n, 1));
	   see_credit(me, to);
	   if
	   :: acked[PAIR(me, to)] < n -> goto over
	   :: else
	   fi
	fi
}

/* A payload in the window goes to a stage slot if one is free, else it is lent. Slot 0 only, to keep it small. */
inline stage(me, value)
{
	q = 0;
	free = true;
	do
	:: q < RANKS ->
	   see_credit(me, q);
#ifdef STAGE_ACKED_BY_ONE
	   free = (q == me -> free : acked[PAIR(me, q)] >= staged[PAIR(me, q)]); /* of the last one only */
#elif !defined(STAGE_REUSED_UNACKED)
	   free = free && acked[PAIR(me, q)] >= staged[PAIR(me, q)];
#endif
	   q++
	:: else -> break
	od;
	q = 0;
	if
	:: free -> store(me, STAGE(me, 0), value); how = SLOT(0)
	:: true -> how = LENT
	fi;
	free = false
}

inline give(me, to, value, how_)
{
#ifndef NO_CREDIT_CHECK
	if
	:: sent[PAIR(me, to)] >= LINES -> wait_credit(me, to, sent[PAIR(me, to)] + 1 - LINES)
	:: else
	fi;
#endif
#ifdef STAMP_BEFORE_BODY
	store_release(me, STAMP(PAIR(me, to), sent[PAIR(me, to)] + 1), TAG + sent[PAIR(me, to)] + 1);
#endif
	store(me, BODY(PAIR(me, to), sent[PAIR(me, to)] + 1), BODY_OF(how_ == INLINE -> value : 0, how_, taken[PAIR(to, me)]));
#ifndef STAMP_BEFORE_BODY
	store_release(me, STAMP(PAIR(me, to), sent[PAIR(me, to)] + 1), TAG + sent[PAIR(me, to)] + 1);
#endif
	d_step {
		sent[PAIR(me, to)]++;
#ifdef PIGGYBACK_COUNTS_AS_POSTED
		posted[PAIR(to, me)] = taken[PAIR(to, me)];
#endif
		if
		:: how_ == SLOT(0) -> staged[PAIR(me, to)] = sent[PAIR(me, to)]
		:: else
		fi
	};
	owe(me, to)
}

inline take(me, from)
{
#ifdef NO_ACQUIRE
	body = mem[BODY(PAIR(from, me), taken[PAIR(from, me)] + 1)];
#endif
	wait(me, stamp_is(PAIR(from, me), taken[PAIR(from, me)] + 1), WANT_OF(PAIR(from, me), taken[PAIR(from, me)] + 1, 0));
	if
	:: !stamp_is(PAIR(from, me), taken[PAIR(from, me)] + 1) -> goto over
	:: else
	fi;
	d_step {
#ifndef NO_ACQUIRE
		body = mem[BODY(PAIR(from, me), taken[PAIR(from, me)] + 1)];
#endif
		assert(ACK_IN(body) <= sent[PAIR(me, from)]);
		if
		:: ACK_IN(body) > acked[PAIR(me, from)] -> acked[PAIR(me, from)] = ACK_IN(body)
		:: else
		fi;
#ifdef ACKED_BEFORE_RELEASE
		taken[PAIR(from, me)]++;
#endif
	}
}

#ifdef ACKED_BEFORE_RELEASE
#define HELD(p) taken[p]
#else
#define HELD(p) (taken[p] + 1)
#endif
#ifdef LENT_CREDIT_WAITS_FOR_HALF
#define posts_at_once(how) false
#else
#define posts_at_once(how) ((how) == LENT)
#endif

inline post(me, from, number)
{
	store_release(me, CREDIT(PAIR(from, me)), CREDIT_TAG + number);
	posted[PAIR(from, me)] = number;
#ifndef NO_WAKE_FOR_CREDIT
	owe(me, from)
#else
	skip
#endif
}

#ifdef NO_ACQUIRE
#define READ_BODY(p) body
#else
#define READ_BODY(p) mem[BODY(p, HELD(p))]
#endif

inline read_payload(me, from, expected)
{
	assert(expected ==
	       (HOW_IN(body) == INLINE -> VALUE_IN(READ_BODY(PAIR(from, me)))
				       : (HOW_IN(body) == LENT -> mem[WINDOW(from)] : mem[STAGE(from, HOW_IN(body) - 1)])))
}

/* Reads the payload at the last moment, and gives the line back. */
inline release(me, from, expected)
{
#ifdef CREDIT_BEFORE_READ
	post(me, from, HELD(PAIR(from, me)));
#endif
	read_payload(me, from, expected);
	d_step {
#ifndef ACKED_BEFORE_RELEASE
		taken[PAIR(from, me)]++;
#endif
		how_taken = HOW_IN(body);
		body = 0
	};
#if !defined(CREDIT_BEFORE_READ) && !defined(CREDIT_BY_PIGGYBACK_ONLY)
	if
	:: posts_at_once(how_taken) || taken[PAIR(from, me)] - posted[PAIR(from, me)] >= LINES / 2 ->
	   post(me, from, taken[PAIR(from, me)])
	:: else
	fi;
#endif
	how_taken = 0
}

/* What was lent has been read. */
inline finish(me, to)
{
#ifndef LENT_NOT_AWAITED
	if
	:: how == LENT -> wait_credit(me, to, sent[PAIR(me, to)])
	:: else
	fi
#else
	skip
#endif
}

/* A payload of any kind. */
inline choose(me, value)
{
	store(me, WINDOW(me), value);
	if
	:: how = INLINE
#ifndef INLINE_ONLY
	:: stage(me, value)
#endif
	fi
}

#define LOCALS byte b, q, how, how_taken; short body; bool free

#if SCENE == 1
/* Two ranks give each other ROUNDS messages, each as far ahead as it likes, at most LINES / 2 + 1 before it takes one:
 * with more, both could wait for credit that the other owes and has not posted. A message may be held while others
 * are given. */
#ifdef GIVES_TOO_FAR_AHEAD
#define AHEAD LINES
#else
#define AHEAD (LINES / 2 + 1)
#endif
proctype rank(byte me)
{
	LOCALS;
	byte given, got;
	bool holds;

	do
	:: given < ROUNDS && given < got + AHEAD -> given++; give(me, 1 - me, given, INLINE)
	:: got < given && !holds -> take(me, 1 - me); holds = true
	:: holds -> holds = false; got++; release(me, 1 - me, got)
	:: got == ROUNDS && given == ROUNDS -> break
	od;
over:	pay(me)
}
#endif

#if SCENE == 2
/* Rounds in which each rank sends as it likes, inline, staged or lent, over its last payload; and one way only, before or
 * after. */
proctype rank(byte me)
{
	LOCALS;
	byte round;

	do
	:: round < ROUNDS ->
	   round++;
	   if
	   :: round % 3 != 2 || me == 0 -> choose(me, round); give(me, 1 - me, round, how)
	   :: else
	   fi;
	   if
	   :: round % 3 != 2 || me == 1 -> take(me, 1 - me); release(me, 1 - me, round)
	   :: else
	   fi;
	   if
	   :: round % 3 != 2 || me == 0 -> finish(me, 1 - me)
	   :: else
	   fi;
	   how = 0
	:: else -> break
	od;
over:	pay(me)
}
#endif

#if SCENE == 3
/* Broadcasts from rank 0 to two others, staged or lent, over one slot; the last round gathers at rank 0. */
proctype rank(byte me)
{
	LOCALS;
	byte round;

	do
	:: round < ROUNDS ->
	   round++;
	   if
	   :: me == 0 ->
	      choose(0, round);
	      give(0, 1, round, how);
	      give(0, 2, round, how);
	      finish(0, 1);
	      finish(0, 2);
	      how = 0
	   :: else -> take(me, 0); release(me, 0, round)
	   fi
	:: else -> break
	od;
	if
	:: me == 0 ->
	   take(0, 1);
	   release(0, 1, round + 1);
	   take(0, 2);
	   release(0, 2, round + 1)
	:: else -> give(me, 0, round + 1, INLINE)
	fi;
over:	pay(me)
}
#endif

#if SCENE == 4
/* Two or more lives of one lease. All but the last are aborted, or a member is killed, at any step, or end well; messages
 * stay behind, taken and untaken. The last life runs to its end. */
#define VALUE(round) ((round) + (life > 1 -> 8 : 0))
#ifdef GENERATION_COMES_AGAIN
#define is_used (life != 2)
#else
#define is_used true
#endif
/* A collective begins by looking for an abort, which stays: else one that was interrupted leaves what the next takes. */
#ifdef BEGINS_AFTER_ABORT
#define may_begin true
#else
#define may_begin (!aborted)
#endif
proctype rank(byte me)
{
	LOCALS;
	byte round, lived = 1;

again:	{
		if
		:: is_used ->
		   do
		   :: round < ROUNDS && may_begin ->
		      round++;
		      choose(me, VALUE(round));
		      give(me, 1 - me, VALUE(round), how);
		      take(me, 1 - me);
		      release(me, 1 - me, VALUE(round));
		      finish(me, 1 - me);
over:		      how = 0
		   :: else -> break
		   od
		:: else
		fi;
		assert(life < LIVES || round == ROUNDS || !is_used)
	} unless { killed == me };
	d_step { round = 0; how = 0; how_taken = 0; body = 0; q = 0; free = false };
	left_life++;
	if
	:: lived < LIVES ->
	   lived++;
	   /* The next allocation. */
	   atomic {
		life == lived;
#ifndef NUMBERS_KEPT
		sent[PAIR(me, 1 - me)] = 0;
		acked[PAIR(me, 1 - me)] = 0;
		staged[PAIR(me, 1 - me)] = 0;
		taken[PAIR(1 - me, me)] = 0;
		posted[PAIR(1 - me, me)] = 0
#endif
	   };
	   goto again
	:: else
	fi
}

active proctype orchestrator()
{
again:	if
	:: life < LIVES ->
	   if
	   :: mem[ABORT] = life
	   :: killed = 0; mem[ABORT] = life
	   :: killed = 1; mem[ABORT] = life
	   :: true
	   fi
	:: else
	fi;
	left_life == RANKS && drained(0) && drained(1);
	if
	:: life < LIVES -> atomic { life++; killed = RANKS; left_life = 0 }; goto again
	:: else
	fi
}
#endif

#if SCENE == 5
/* The domain and two sub-groups of it, in the order that their common members share. In each every rank gives to all
 * others, then takes from all: what a rank takes is of the collective that it is in. */
#define has(group, r) ((group) >> (r) & 1)
#define GROUP(k) ((k) == 1 -> 7 : ((k) == 2 -> 6 : ((k) == 3 -> 5 : ((k) == 4 -> 3 : 7))))
proctype rank(byte me)
{
	LOCALS;
	byte k, r;

	do
	:: k < ROUNDS ->
	   k++;
	   if
	   :: has(GROUP(k), me) ->
	      r = 0;
	      do
	      :: r < RANKS && r != me && has(GROUP(k), r) -> give(me, r, k, INLINE); r++
	      :: r < RANKS && (r == me || !has(GROUP(k), r)) -> r++
	      :: r == RANKS -> break
	      od;
	      r = 0;
	      do
	      :: r < RANKS && r != me && has(GROUP(k), r) -> take(me, r); release(me, r, k); r++
	      :: r < RANKS && (r == me || !has(GROUP(k), r)) -> r++
	      :: r == RANKS -> break
	      od;
	      r = 0
	   :: else
	   fi
	:: else -> break
	od;
over:	pay(me)
}
#endif

#if SCENE == 6
/* One way only, and both sleep: the receiver for a message, the sender for credit. */
proctype rank(byte me)
{
	LOCALS;
	byte round;

	do
	:: round < ROUNDS ->
	   round++;
	   if
	   :: me == 0 -> give(0, 1, round, INLINE)
	   :: else -> take(1, 0); release(1, 0, round)
	   fi
	:: else -> break
	od;
over:	pay(me)
}
#endif

init
{
	atomic {
		run rank(0);
		run rank(1);
#if RANKS > 2
		run rank(2)
#endif
	}
}

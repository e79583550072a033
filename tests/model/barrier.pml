/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Barriers over channels: nobody leaves one before all its members have entered it, and all come through.
 *
 * Mirrors src/chip/barrier.c: the flat round, a message to each and from each, and the dissemination barrier, in
 * which round i sends 2^i ranks up and takes from 2^i ranks down. Barriers of the domain and of sub-groups that
 * overlap follow each other in the order that their common members share, some flat and some not, as when they have
 * different sizes.
 *
 * A channel is what channel.pml verifies: a queue of a few messages for each pair of ranks, in order, whose sender
 * waits for room. A message only says that it came; which barrier and round it is of, the receiver concludes from
 * its number. That is what is to be shown, so a message carries the truth, for assertions alone.
 */
#ifndef RANKS
#define RANKS 4
#endif
#ifndef BARRIERS
#define BARRIERS 5
#endif
#ifndef LINES
#define LINES 2
#endif

#define PAIR(s, r) ((s) * RANKS + (r))
chan line[RANKS * RANKS] = [LINES] of { byte };
byte entered[BARRIERS * RANKS]; /* barrier k by rank r: at k * RANKS + r */

/* The sequence: the members of barrier k, lowest first, and whether it is flat. */
#define has(group, r) ((group) >> (r) & 1)
#if RANKS == 3
#define GROUP(k) ((k) == 1 -> 6 : ((k) == 3 -> 5 : 7))
#else
#define GROUP(k) ((k) == 1 -> 14 : ((k) == 3 -> 5 : ((k) == 4 -> 13 : 15)))
#endif
#ifndef FLAT
#define FLAT(k) ((k) % 2 == 1)
#endif
#define SIZE(g) (has(g, 0) + has(g, 1) + has(g, 2) + has(g, 3))
/* The domain rank of position i of a group, and the reverse. */
#define BELOW(g, r) (((r) > 0 && has(g, 0)) + ((r) > 1 && has(g, 1)) + ((r) > 2 && has(g, 2)))
#define RANK_OF(g, i)                                                                        \
	((has(g, 0) && BELOW(g, 0) == (i)) -> 0 : ((has(g, 1) && BELOW(g, 1) == (i)) -> 1 :  \
	 ((has(g, 2) && BELOW(g, 2) == (i)) -> 2 : 3)))

inline give(to)
{
#ifdef ONE_FLAG_FOR_A_PAIR
	/* A word that is set, in place of a queue: what has not been taken is overwritten. */
	atomic {
		if
		:: nempty(line[PAIR(me, to)]) -> line[PAIR(me, to)] ? _
		:: else
		fi;
		line[PAIR(me, to)] ! k
	}
#else
	line[PAIR(me, to)] ! k
#endif
}

/* A message of another barrier may not be taken for one of this; left out where the consequence is to be seen. */
#ifdef CONSEQUENCES_ONLY
#define assert_in_order() skip
#else
#define assert_in_order() assert(got == k)
#endif

inline take(from)
{
#ifdef TAKES_FROM_ANYBODY
	/* Counts arrivals, whoever they are of. */
	if
	:: line[PAIR(0, me)] ? got
	:: line[PAIR(1, me)] ? got
	:: line[PAIR(2, me)] ? got
#if RANKS > 3
	:: line[PAIR(3, me)] ? got
#endif
	fi
#else
	line[PAIR(from, me)] ? got
#endif
	;
	assert_in_order();
	got = 0
}

#define for_others(what)                                                             \
	i = 1;                                                                       \
	do                                                                           \
	:: i < size -> peer = RANK_OF(GROUP(k), (mine + i) % size); what(peer); i++  \
	:: else -> break                                                             \
	od;                                                                          \
	i = 0;                                                                       \
	peer = 0

inline flat()
{
#ifndef TAKES_BEFORE_GIVING
	for_others(give);
#endif
#ifndef GIVES_ONLY
	for_others(take);
#endif
#ifdef TAKES_BEFORE_GIVING
	for_others(give)
#endif
}

#ifdef ROUNDS_TOO_FEW
#define MORE_ROUNDS(i) ((i) * 2 < size)
#else
#define MORE_ROUNDS(i) ((i) < size)
#endif

inline disseminate()
{
	i = 1;
	do
	:: MORE_ROUNDS(i) ->
	   peer = RANK_OF(GROUP(k), (mine + i) % size);
	   give(peer);
#ifdef TAKES_FROM_ABOVE
	   peer = RANK_OF(GROUP(k), (mine + i) % size);
#else
	   peer = RANK_OF(GROUP(k), (mine + size - i) % size);
#endif
#ifdef TAKES_AT_THE_END
	   skip;
#else
	   take(peer);
#endif
	   i = i * 2
	:: else -> break
	od;
#ifdef TAKES_AT_THE_END
	/* Gives all rounds at once: a message does not say any more that others have come. */
	i = 1;
	do
	:: i < size -> peer = RANK_OF(GROUP(k), (mine + size - i) % size); take(peer); i = i * 2
	:: else -> break
	od;
#endif
	i = 0;
	peer = 0
}

#ifdef RANKS_CHOOSE_ALONE
#define is_flat(k) (FLAT(k) || me == 0)
#else
#define is_flat(k) FLAT(k)
#endif
#ifdef ORDERS_DIFFER
/* One rank calls the barriers of two sub-groups, or of a sub-group and the domain, the other way round. */
#define CALLED(n) (me == 2 && ((n) == 0 || (n) == 1) -> 1 - (n) : (n))
#else
#define CALLED(n) (n)
#endif

proctype rank(byte me)
{
	byte n, k, i, peer, got, size, mine;

	do
	:: n < BARRIERS ->
	   k = CALLED(n);
	   if
	   :: has(GROUP(k), me) ->
	      d_step { size = SIZE(GROUP(k)); mine = BELOW(GROUP(k), me); entered[k * RANKS + me] = 1 };
	      if
	      :: is_flat(k) -> flat()
	      :: else -> disseminate()
	      fi;
	      assert(SIZE(GROUP(k)) == entered[k * RANKS] + entered[k * RANKS + 1] + entered[k * RANKS + 2]
#if RANKS > 3
				       + entered[k * RANKS + 3]
#endif
	      );
	      d_step { size = 0; mine = 0 }
	   :: else
	   fi;
	   n++
	:: else -> break
	od
}

init
{
	atomic {
		run rank(0);
		run rank(1);
		run rank(2)
#if RANKS > 3
		;
		run rank(3)
#endif
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A contest: Transom, the floor and the installed peers, with the same number of ranks on the same cores, take turns at
 * the same orders. Each round runs all of them within milliseconds; what is compared is what happened in one round.
 *
 * Inside Transom one task on each chip measures with the same loop as the ranks of the others (crew.h).
 */
#ifndef BENCH_CONTEST_H
#define BENCH_CONTEST_H

#include "common.h"
#include "crew.h"
#include "rig.h"

enum { PEERS_MAX = 4, CONTEST_PAGE = 4096 };

struct contest {
    uint32_t size;
    uint64_t vector; /* bytes for each of src and dst in a window */
    struct rig rig;
    tsm_callable measure;
    tsm_domain *domain;
    struct crew_result *results; /* by chip */
    struct crew floor;
    struct crew peers[PEERS_MAX];
    uint32_t peer_count;
};

/* bytes_max: the largest src or dst. Names the peers that are not installed, once. */
void contest_start(struct contest *c, uint32_t size, uint64_t bytes_max);
/* The same without anybody else. */
void contest_start_alone(struct contest *c, uint32_t size, uint64_t bytes_max);
void contest_stop(struct contest *c);
/* The slowest chip's time of one operation in ns. */
double contest_ours(struct contest *c, const struct crew_order *o);

/* The order again, with as many repetitions as fit into a turn when one takes ns. */
struct crew_order contest_fit(const struct contest *c, const struct crew_order *o, double ns);

/* What the rounds gave, in microseconds. In ours the floor is the floor; in theirs[i] the value is peer i's and the floor is ours. */
struct tally {
    struct samples ours;
    struct samples theirs[PEERS_MAX];
    struct samples to_best; /* ours, with the time of the best peer as its floor */
    int best;               /* the peer with the lowest median; < 0: none has the operation */
};
/* Rounds in which R changed are dropped. How often each party repeats follows from its own time. */
void contest_run(struct contest *c, enum crew_op op, uint64_t bytes, uint32_t rounds,
                 struct tally *ret);
void tally_free(struct tally *t);

/* A figure for each peer among the JSON lines, not in the table. */
void contest_keep(const struct contest *c, const struct tally *t, const struct figure *f);

/* "8 B", "64 KiB". */
const char *bytes_text(uint64_t bytes, char text[24]);

#endif

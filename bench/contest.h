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

enum { CONTEST_PAGE = 4096 };

struct contest {
    uint32_t size;
    uint64_t vector; /* bytes for each of src and dst in a window */
    struct rig rig;
    tsm_callable measure;
    tsm_domain *domain;
    struct crew_result *results; /* by chip */
    struct crew floor;
    struct crew peers[PEERS_MAX];
    const char *peer_names[PEERS_MAX + 1]; /* for figures */
    bool peer_spins[PEERS_MAX];
    uint32_t peer_count;
};

/* Who is there. Spinners are peers that spin through whole time slices when ranks share a core; they come beyond one
 * rank a core only when asked for, or with --long. */
enum { CONTEST_OURS = 1, CONTEST_FLOOR = 2, CONTEST_PEERS = 4, CONTEST_SPINNERS = 8 };
enum { CONTEST_ALL = CONTEST_OURS | CONTEST_FLOOR | CONTEST_PEERS };

/* bytes_max: the largest src or dst. Names the peers that are not installed and the settings of the others, once. */
void contest_start(struct contest *c, uint32_t size, uint64_t bytes_max, uint32_t who);
void contest_stop(struct contest *c);
/* The slowest chip's time of one operation in ns. */
double contest_ours(struct contest *c, const struct crew_order *o);

/* The order again, with as many repetitions as fit into a turn when one takes ns. */
struct crew_order contest_fit(const struct contest *c, const struct crew_order *o, double ns);

/* Samples in microseconds with floor, R (2 ranks) and peers. Rounds in which R changed are dropped, unless they are so
 * long that it changes in all of them. How often each party repeats follows from its own time. */
void contest_run(struct contest *c, enum crew_op op, uint64_t bytes, uint32_t rounds,
                 struct samples *ret);
/* The peers only, each into its place of ret, in microseconds. The first time of an operation is for touching memory. */
void contest_ask_peers(struct contest *c, const struct crew_order *o, struct sample *ret);

/* "8 chips on 2 cores, 64 KiB"; bytes 0: without them. Cores are said where chips share them. */
const char *contest_params(const struct contest *c, uint64_t bytes, char text[64]);
/* "8 B", "64 KiB". */
const char *bytes_text(uint64_t bytes, char text[24]);

#endif

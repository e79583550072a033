/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives of f32 over sizes, with 2, 4 and 8 chips: against the barest direct algorithm from 64 KiB up, below that
 * against the best of the installed peers. Sizes are those of the vector (all_reduce, broadcast) or of the part of one
 * rank for the others. Sources are not written between operations, as in the OSU benchmarks; results are checked once.
 */
#include <stdio.h>
#include <string.h>

#include "contest.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define FLOOR_FROM (64 * KIB)
enum { ROUNDS = 5, ROUNDS_LONG = 7, RANKS_MAX = 8 };

static const uint64_t sizes[] = {8, KIB, 16 * KIB, 64 * KIB, MIB, 16 * MIB};
static const uint64_t sizes_long[] = {8,        64,       256,       KIB, 4 * KIB, 8 * KIB,
                                      16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB};

static const struct {
    const char *name;
    enum crew_op op;
    uint64_t bytes_max;
} ops[] = {
    {"all_reduce", CREW_ALL_REDUCE, 16 * MIB}, {"broadcast", CREW_BROADCAST, 16 * MIB},
    {"all_gather", CREW_ALL_GATHER, MIB},      {"reduce_scatter", CREW_REDUCE_SCATTER, MIB},
    {"all_to_all", CREW_ALL_TO_ALL, MIB},
};

static void measure(struct contest *c, uint32_t i, uint64_t bytes)
{
    struct tally t;
    char size[24], params[96], text[160], kept[96];
    contest_run(c, ops[i].op, bytes, bench_long() ? ROUNDS_LONG : ROUNDS, &t);
    snprintf(params, sizeof(params), "%u chips, %s", c->size, bytes_text(bytes, size));
    snprintf(kept, sizeof(kept), "%s, to the floor", ops[i].name);
    struct figure f = {ops[i].name, params, "us", AGAINST_FLOOR, 1.3};
    struct figure k = {kept, params, "us", AGAINST_NOTHING, 0};
    figure_keep(&k, &t.ours);
    contest_keep(c, &t, &f);
    if (bytes >= FLOOR_FROM || t.best < 0) {
        f.against = bytes >= FLOOR_FROM ? AGAINST_FLOOR : AGAINST_NOTHING;
        figure_report(&f, &t.ours);
    } else {
        snprintf(text, sizeof(text), "%s; %s", params, c->peers[t.best].name);
        f = (struct figure){ops[i].name, text, "us", AGAINST_PEER, 1};
        figure_report(&f, &t.to_best);
    }
    tally_free(&t);
}

static void measure_ranks(uint32_t ranks)
{
    struct contest c;
    const uint64_t *list = bench_long() ? sizes_long : sizes;
    uint32_t count =
        bench_long() ? sizeof(sizes_long) / sizeof(*sizes_long) : sizeof(sizes) / sizeof(*sizes);
    contest_start(&c, ranks, ranks * MIB > 16 * MIB ? ranks * MIB : 16 * MIB);
    for (uint32_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        for (uint32_t k = 0; k < count; k++) {
            if (list[k] <= ops[i].bytes_max) {
                measure(&c, i, list[k]);
            }
        }
    }
    contest_stop(&c);
}

int main(int argc, char **argv)
{
    bench_begin("collectives", argc, argv);
    r_start(0, 1);
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks *= 2) {
        measure_ranks(ranks);
    }
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives of f32 over sizes, with 2, 4 and 8 chips: against the barest direct algorithm from 64 KiB up, below that
 * against the best of the installed peers. Sizes are those of the vector, or of the part of one rank for those that have
 * parts. No rank's dst exceeds 64 MiB, nor 16 MiB when chips are more than two (with --long all go to 64 MiB). Results are
 * checked once in each contest. Those that programs use less have fewer sizes.
 *
 * Arguments: names of operations, numbers of chips. Then only those.
 */
#include <stdlib.h>
#include <string.h>

#include "contest.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define FLOOR_FROM (64 * KIB)
#define SPLIT_TO MIB
enum { ROUNDS_TWO = 21, ROUNDS = 11, ROUNDS_LARGE = 7, LONGER = 2 };

static const uint64_t sizes[] = {8, KIB, 16 * KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 0};
static const uint64_t sizes_few[] = {8, 16 * KIB, MIB, 0};
static const uint64_t sizes_long[] = {8,       64,       256,      KIB,       4 * KIB,
                                      8 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB,
                                      4 * MIB, 16 * MIB, 64 * MIB, 0};

static const struct {
    enum crew_op op;
    bool parts; /* its dst, or its src, is as many times larger as there are ranks */
    const uint64_t *sizes;
} ops[] = {
    {CREW_ALL_REDUCE, false, sizes},      {CREW_BROADCAST, false, sizes},
    {CREW_REDUCE, false, sizes},          {CREW_ALL_GATHER, true, sizes},
    {CREW_REDUCE_SCATTER, true, sizes},   {CREW_ALL_TO_ALL, true, sizes},
    {CREW_GATHER, true, sizes_few},       {CREW_SCATTER, true, sizes_few},
    {CREW_SCAN, false, sizes_few},        {CREW_EXSCAN, false, sizes_few},
    {CREW_ALL_GATHER_V, true, sizes_few}, {CREW_GATHER_V, true, sizes_few},
    {CREW_SCATTER_V, true, sizes_few},    {CREW_REDUCE_SCATTER_V, true, sizes_few},
    {CREW_ALL_TO_ALL_V, true, sizes_few},
};

static void measure(struct contest *c, enum crew_op op, uint64_t bytes)
{
    struct samples s = {0};
    char params[64];
    bool split = c->size == 2 && bytes <= SPLIT_TO;
    uint32_t rounds = split ? ROUNDS_TWO : bytes <= SPLIT_TO ? ROUNDS : ROUNDS_LARGE;
    contest_run(c, op, bytes, rounds * (bench_long() ? LONGER : 1), &s);
    struct figure f = {.name = crew_op_text(op),
                       .params = contest_params(c, bytes, params),
                       .unit = "us",
                       .against = bytes >= FLOOR_FROM ? AGAINST_FLOOR : AGAINST_PEER,
                       .limit = bytes >= FLOOR_FROM ? 1.3 : 1,
                       .peers = c->peer_names,
                       .chips = c->size,
                       .x = (double)bytes};
    (split ? figure_report_cores : figure_report)(&f, &s);
    samples_free(&s);
}

/* Whether an argument names it, or none names anything of its kind. */
static bool is_wanted(char **argv, const char *name, bool is_number)
{
    bool any = false, this = false;
    for (char **a = argv + 1; *a; a++) {
        bool same_kind = **a != '-' && (atoi(*a) > 0) == is_number;
        any |= same_kind;
        this |= same_kind && strcmp(*a, name) == 0;
    }
    return this || !any;
}

static void measure_ranks(uint32_t ranks, char **argv)
{
    struct contest c;
    uint64_t most = ranks == 2 || bench_long() ? 64 * MIB : 16 * MIB;
    contest_start(&c, ranks, most, CONTEST_ALL);
    for (uint32_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        const uint64_t *list = bench_long() ? sizes_long : ops[i].sizes;
        bool wanted = is_wanted(argv, crew_op_text(ops[i].op), false);
        for (; wanted && *list != 0 && *list * (ops[i].parts ? ranks : 1) <= most; list++) {
            measure(&c, ops[i].op, *list);
        }
    }
    contest_stop(&c);
}

int main(int argc, char **argv)
{
    static const char *const numbers[] = {"2", "4", "8"};
    bench_begin("collectives", argc, argv);
    r_start(0, 1);
    for (uint32_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        if (is_wanted(argv, numbers[i], true)) {
            measure_ranks((uint32_t)atoi(numbers[i]), argv);
        }
    }
    return bench_end();
}

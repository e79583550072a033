/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The barrier of 2, 4 and 8 chips against the barest one (a word for each rank, and everybody looks at all of them)
 * and the best peer; and what it costs to see misuse, for a message: saying what is called and comparing it, by
 * the functions of src/chip/channel.h on a line in the cache, less the same loop without them.
 */
#include <stdio.h>

#include "chip/channel.h"
#include "contest.h"

enum { ROUNDS = 20, ROUNDS_SHARED = 11, LONGER = 4, RANKS_MAX = 8, MESSAGES = 100000 };

static void measure(uint32_t ranks)
{
    struct contest c;
    struct tally t;
    char params[64], text[128];
    uint32_t rounds = (ranks == 2 ? ROUNDS : ROUNDS_SHARED) * (bench_long() ? LONGER : 1);
    contest_start(&c, ranks, CONTEST_PAGE);
    contest_run(&c, CREW_BARRIER, 0, rounds, &t);
    snprintf(params, sizeof(params), "%u chips", ranks);
    struct figure f = {"barrier", params, "us", AGAINST_FLOOR, 1.5};
    (ranks == 2 ? figure_report_cores : figure_report)(&f, &t.ours);
    contest_keep(&c, &t, &f);
    if (t.best >= 0) {
        snprintf(text, sizeof(text), "%s; %s", params, c.peers[t.best].name);
        f = (struct figure){"barrier", text, "us", AGAINST_PEER, 1};
        figure_report(&f, &t.to_best);
    }
    tally_free(&t);
    contest_stop(&c);
}

/* ---- misuse ---- */

static double time_messages(bool compared, uint32_t *differ)
{
    static struct sync_message line;
    struct tsm_ctx ctx = {.group = 7};
    struct call own = {0};
    uint64_t begin = clock_ns();
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        tsm_sym dst = {.offset = i * LINE};
        if (compared) {
            own = call_make(&ctx, CALL_ALL_REDUCE, TSM_F32, TSM_SUM, 0, i, dst, dst);
            line.call = own.word;
            line.count = own.count;
            line.places = own.places;
            line.group = own.group;
        }
        a64_release(&line.stamp, i);
        __asm__ volatile("" : : : "memory"); /* as if somebody else had written the line */
        *differ += a64_acquire(&line.stamp) != i;
        if (compared) {
            struct call theirs = {line.call, line.count, line.places, line.group};
            *differ += !call_is_same(&own, &theirs);
        }
    }
    return (double)(clock_ns() - begin) / MESSAGES;
}

static void measure_misuse(void)
{
    struct samples s = {0};
    uint32_t differ = 0;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        double with = time_messages(true, &differ);
        samples_add(&s, with - time_messages(false, &differ), 0, 0);
    }
    bench_must(differ != 0, "messages differ", "");
    struct figure f = {"misuse is seen", "a message of a collective", "ns", AGAINST_MAX, 20};
    figure_report(&f, &s);
    samples_free(&s);
}

int main(int argc, char **argv)
{
    bench_begin("barrier", argc, argv);
    r_start(0, 1);
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks *= 2) {
        measure(ranks);
    }
    measure_misuse();
    return bench_end();
}

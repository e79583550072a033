/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The barrier of 2, 4 and 8 chips against the barest one (a word for each rank, and everybody looks at all of them) and the
 * best peer; apart, the peer whose ranks spin although eight of them share the cores; and what it costs to see
 * misuse, for a message: saying what is called and comparing it, by the functions of src/chip/channel.h on a line in
 * the cache, less the same loop without them.
 */
#include <stdio.h>

#include "chip/channel.h"
#include "contest.h"

enum { ROUNDS = 20, ROUNDS_SHARED = 11, LONGER = 4, RANKS_MAX = 8, MESSAGES = 100000 };

/* The peer whose ranks spin while others want the core, alone: what a barrier costs then. */
static void report_spinner(const struct contest *c, const struct samples *s, struct figure f)
{
    for (uint32_t p = 0; p < c->peer_count; p++) {
        const char *const only[] = {c->peer_names[p], NULL};
        struct samples part = {0};
        for (uint32_t i = 0; c->peer_spins[p] && i < s->count; i++) {
            struct sample one = {.value = s->list[i].value, .peer = {s->list[i].peer[p]}};
            if (one.peer[0] > 0) {
                samples_push(&part, &one);
            }
        }
        f.against = f.also = AGAINST_NOTHING;
        f.peers = only;
        f.name = "barrier, with spinning";
        figure_report(&f, &part);
        samples_free(&part);
    }
}

static void measure(uint32_t ranks)
{
    struct contest c;
    struct samples s = {0};
    char params[64];
    uint32_t rounds = (ranks <= cores() ? ROUNDS : ROUNDS_SHARED) * (bench_long() ? LONGER : 1);
    contest_start(&c, ranks, CONTEST_PAGE,
                  CONTEST_ALL | (ranks == RANKS_MAX ? CONTEST_SPINNERS : 0));
    contest_run(&c, CREW_BARRIER, 0, rounds, &s);
    struct figure f = {.name = "barrier",
                       .params = contest_params(&c, 0, params),
                       .unit = "us",
                       .against = AGAINST_FLOOR,
                       .limit = 1.5,
                       .also = AGAINST_PEER,
                       .also_limit = 1,
                       .peers = c.peer_names,
                       .chips = ranks,
                       .x = ranks};
    (ranks == 2 ? figure_report_cores : figure_report)(&f, &s);
    report_spinner(&c, &s, f);
    samples_free(&s);
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
    struct figure f = {.name = "misuse is seen",
                       .params = "a message of a collective",
                       .unit = "ns",
                       .against = AGAINST_MAX,
                       .limit = 20,
                       .chips = 1};
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

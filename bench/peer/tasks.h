/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the programs peer/tasks_* have in common, for C and C++: the graph of bench/graph.c, the sizes of
 * bench/submit.c, and how orders are taken (bench/contender.h). Everything runs in the peer's process; the benchmarks
 * use the numbers and the graph only.
 */
#ifndef BENCH_PEER_TASKS_H
#define BENCH_PEER_TASKS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

enum {
    GRAPH_LAYERS = 100,
    GRAPH_WIDTH = 100,
    GRAPH_TASKS = GRAPH_LAYERS * GRAPH_WIDTH,
    GRAPH_FAN_IN = 3,
    SUBMIT_BATCH = 200, /* submits between two readings of the clock */
    SUBMIT_BATCHES = 40,
    SUBMIT_INPUTS = 3,
    SUBMIT_CHIPS = 4
};

/* xorshift64*, as in bench/common.h. */
static inline uint32_t tasks_random(uint64_t *state, uint32_t n)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * UINT64_C(2685821657736338717) >> 32) % n);
}

/* The random layered graph: from[t] are the tasks that t follows, three different ones of the layer before. The tasks of
 * the first layer follow nobody. */
static inline void graph_make(uint32_t (*from)[GRAPH_FAN_IN])
{
    uint64_t state = 12345;
    for (uint32_t t = GRAPH_WIDTH; t < GRAPH_TASKS; t++) {
        uint32_t layer = (t / GRAPH_WIDTH - 1) * GRAPH_WIDTH;
        for (uint32_t k = 0; k < GRAPH_FAN_IN; k++) {
            bool again = true;
            while (again) {
                from[t][k] = layer + tasks_random(&state, GRAPH_WIDTH);
                again = (k > 0 && from[t][0] == from[t][k]) || (k > 1 && from[t][1] == from[t][k]);
            }
        }
    }
}

/* Timed task i writes slot live + i % this: few beside the live ones, so that their number stays what it is called. A
 * multiple of the chips: who writes a slot again is behind the one before on the same chip. */
static inline uint32_t submit_outputs(uint32_t live)
{
    uint32_t some = live / 10 / SUBMIT_CHIPS * SUBMIT_CHIPS;
    uint32_t most = SUBMIT_BATCH * SUBMIT_BATCHES;
    return some < SUBMIT_CHIPS ? (uint32_t)SUBMIT_CHIPS : some > most ? most : some;
}

/* An order is "VERB", "VERB N" or "VERB N HOW"; the answer is what the function returns. */
struct task_order {
    const char *verb;
    double (*carry_out)(uint32_t n, const char *how);
    uint32_t
        warm; /* carry out a part of it first, this many times smaller: threads may be asleep; 0: do not */
};

/* Until the end of the standard input. Returns: the exit status. */
static inline int take_orders(const struct task_order *orders, uint32_t count)
{
    char line[256], verb[32], how[32];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        unsigned n = 0;
        double answer = 0;
        verb[0] = how[0] = 0;
        if (sscanf(line, "%31s %u %31s", verb, &n, how) < 1) {
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(orders[i].verb, verb) == 0) {
                if (orders[i].warm > 0) {
                    orders[i].carry_out(n / orders[i].warm + 2, how);
                }
                answer = orders[i].carry_out(n, how);
            }
        }
        printf("%.3f\n", answer);
        fflush(stdout);
    }
    return 0;
}

#endif

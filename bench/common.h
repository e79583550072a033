/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What every benchmark shares: samples and how they become figures, the probe of a cache line's round trip (R),
 * pinning. A figure is the median of many short batches; the floor and R are taken in the same batches, so a
 * ratio compares what happened within the same milliseconds.
 *
 * Each program prints a table and writes JSON lines, one object per figure, to NAME.jsonl beside itself.
 * Arguments: --json writes them to stdout instead of the table; --long takes larger counts; --row prints the
 * table without its head.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/clock.h"

/* Below this a round trip is called near, else far. Virtual cores jump between the two. */
#define R_NEAR_NS 150.0

void bench_begin(const char *name, int argc, char **argv);
/* Ends the output. Returns: the exit status. */
int bench_end(void);
bool bench_long(void);
/* Ends the program with the text when rc is not 0. */
void bench_must(int rc, const char *what, const char *text);
/* A line of prose under the table, and an object {"note"} among the JSON lines. */
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum { PEERS_MAX = 6 };

/* One batch: what was measured, the floor of the same round (0: none), R around it (0: not probed), and the peers of the
 * same round in the order of the figure's names (0: none). */
struct sample {
    double value, floor, r;
    double peer[PEERS_MAX];
};
struct samples {
    struct sample *list;
    uint32_t count, max;
};
void samples_add(struct samples *s, double value, double floor, double r);
void samples_push(struct samples *s, const struct sample *one);
void samples_free(struct samples *s);

/* What the median is held against: nothing; limit * floor; limit * the best peer; limit * R; at most, at least the
 * limit. */
enum against { AGAINST_NOTHING, AGAINST_FLOOR, AGAINST_PEER, AGAINST_R, AGAINST_MAX, AGAINST_MIN };
struct figure {
    const char *name, *params, *unit;
    enum against against;
    double limit;
    enum against also; /* a second target */
    double also_limit;
    const char *const *peers; /* up to PEERS_MAX names, then NULL; or NULL */
    uint32_t chips;           /* for the plots: chips or ranks; */
    double x;                 /* and bytes, ranges, tasks, whatever the figure goes over */
};
/* R is in ns; multiples of it are given for units of time (ns, us, ms). The median of each ratio decides, not the ratio of medians. The best peer is the one with the lowest median. */
void figure_report(const struct figure *f, const struct samples *s);
/* The same in two figures, for near and far cores; a class with too few batches is left out. */
void figure_report_cores(const struct figure *f, const struct samples *s);

/* The p-quantile of values; they are sorted in place. */
double quantile(double *values, uint32_t count, double p);

/* ---- cores ---- */

uint32_t cores(void);
/* 1 when there are two cores: without them the figures for a core each are left out. */
bool two_cores(void);
void pin_self(uint32_t core);
void unpin_self(void);

/* The other side of the probe: a process that sleeps on core `there` between probes. */
void r_start(uint32_t here, uint32_t there);
/* The median round trip in ns now; 0 without a probe. The caller is on core `here`. */
double r_probe(void);
void r_stop(void);

/* Repeats run(ctx, sample) until `rounds` batches have had the same R before and after (a quarter of
 * difference is allowed), at most four times as many. */
void batches(uint32_t rounds, struct samples *s, void (*run)(void *ctx, struct sample *ret),
             void *ctx);
/* The same, and after every `every`-th batch, and the first, ask(ctx, sample) for the peers. They are slower, often by
 * orders of magnitude: the cores may move meanwhile. */
void batches_with_peers(uint32_t rounds, uint32_t every, struct samples *s,
                        void (*run)(void *ctx, struct sample *ret),
                        void (*ask)(void *ctx, struct sample *ret), void *ctx);

/* Memory that children made later share; zero. */
void *shared_alloc(uint64_t bytes);
void shared_free(void *p, uint64_t bytes);

/* xorshift64* */
struct random {
    uint64_t state;
};
uint32_t random_below(struct random *r, uint32_t n);

#endif

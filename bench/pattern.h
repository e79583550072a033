/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The eleven dependence patterns of the Task Bench paper (Slaughter et al., arXiv 1908.05790), and what a task of such a
 * graph does. A graph has a column per point and a row per step; task (step, point) reads what some points wrote in the step
 * before. Each point has two slots that it writes in turn, so a task also follows those who read what it overwrites.
 *
 * Linked into everybody who runs these graphs, Transom's benchmark and the peers, so that all do the same work. Needs libc
 * only.
 */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

enum pattern {
    PATTERN_TRIVIAL,
    PATTERN_NO_COMM,
    PATTERN_STENCIL_1D,
    PATTERN_STENCIL_1D_PERIODIC,
    PATTERN_DOM,
    PATTERN_TREE,
    PATTERN_FFT,
    PATTERN_NEAREST,
    PATTERN_SPREAD,
    PATTERN_RANDOM_NEAREST,
    PATTERN_ALL_TO_ALL,
    PATTERNS
};
/* The paper's parameters: RADIX dependencies of nearest and spread, out of which random_nearest draws; spread and
 * random_nearest change from step to step and repeat after PERIOD. */
enum { PATTERN_WIDTH_MAX = 64, PATTERN_RADIX = 5, PATTERN_PERIOD = 3 };

/* The paper's name of it. */
const char *pattern_name(enum pattern p);

/* The points that have a task in this step are [*ret_first, *ret_first + *ret_count): all but in dom and tree. A dom needs
 * steps >= 2 * width to be whole. */
void pattern_points(enum pattern p, uint32_t width, uint32_t steps, uint32_t step,
                    uint32_t *ret_first, uint32_t *ret_count);
/* The tasks of a graph. */
uint32_t pattern_count(enum pattern p, uint32_t width, uint32_t steps);
/* The points of the step before that (step, point) depends on, ascending; at most width. Returns: how many. */
uint32_t pattern_inputs(enum pattern p, uint32_t width, uint32_t steps, uint32_t step,
                        uint32_t point, uint32_t ret[PATTERN_WIDTH_MAX]);

/* A task and, in points[first ..]: `inputs` points of the step before that it depends on, then `readers` others of that
 * step that read what it overwrites. */
struct pattern_task {
    uint32_t step, point, first;
    uint16_t inputs, readers;
};
/* All tasks of a graph in an order in which they may be submitted. */
struct pattern_graph {
    enum pattern pattern;
    uint32_t width, steps;
    uint32_t count;
    struct pattern_task *tasks;
    uint8_t *points;
    uint64_t sum; /* what pattern_sum gives when it has run */
};
/* Makes *g this graph, which takes no time when it is already. *g starts zeroed. false: no memory. */
bool pattern_make(struct pattern_graph *g, enum pattern p, uint32_t width, uint32_t steps);
void pattern_free(struct pattern_graph *g);

/* What a task leaves for those that depend on it. */
struct pattern_slot {
    uint64_t step;
    uint64_t sum; /* of the inputs' sums, mixed with step and point */
    double value; /* the kernel's */
    uint8_t reserved[40];
};
static inline uint32_t pattern_slot(uint32_t step, uint32_t point)
{
    return 2 * point + step % 2;
}

/* The task: looks whether its inputs are from the step before, runs the kernel, fills *out. false: they are not. */
bool pattern_run(struct pattern_slot *out, const struct pattern_slot *const *inputs, uint32_t count,
                 uint32_t step, uint32_t point, uint32_t iterations);
/* Over the slots of a graph that has run. */
uint64_t pattern_sum(const struct pattern_slot *slots, uint32_t width);

/* ns of one iteration of the kernel on this core, undisturbed; takes about 1 ms. */
double pattern_kernel_ns(void);

/* A peer's life (contender.h): takes "kernel" and "metg PATTERN WIDTH STEPS ITERATIONS" from the standard input until it
 * ends. run: the wall time of the graph in ns, with tasks of so many iterations; < 0: one came too early. */
void pattern_serve(struct pattern_graph *graph, double (*run)(uint32_t iterations));

#endif

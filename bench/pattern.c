/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The dependence patterns and the task that runs in them (pattern.h). The relations are those of Task Bench's core, where a
 * graph narrower than the radix takes all its points instead. Runs in the benchmark's process, in the chips and in the peers.
 */
#include "pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* random_nearest keeps a neighbour with a chance of one in four. */
#define CONNECTED (UINT64_MAX / 4)

const char *pattern_name(enum pattern p)
{
    static const char *const names[PATTERNS] = {
        "trivial", "no_comm", "stencil_1d", "stencil_1d_periodic", "dom",       "tree",
        "fft",     "nearest", "spread",     "random_nearest",      "all_to_all"};
    return names[p];
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void pattern_points(enum pattern p, uint32_t width, uint32_t steps, uint32_t step,
                    uint32_t *ret_first, uint32_t *ret_count)
{
    *ret_first = 0;
    *ret_count = width;
    if (p == PATTERN_TREE) {
        *ret_count = step < 31 ? least(width, 1U << step) : width;
    } else if (p == PATTERN_DOM) {
        *ret_first = step + width > steps ? step + width - steps : 0;
        *ret_count = least(width, least(step + 1, steps - step));
    }
}

uint32_t pattern_count(enum pattern p, uint32_t width, uint32_t steps)
{
    uint32_t first, points;
    uint32_t count = 0;
    for (uint32_t step = 0; step < steps; step++) {
        pattern_points(p, width, steps, step, &first, &points);
        count += points;
    }
    return count;
}

/* splitmix64's finalizer. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The distance of a butterfly's partners in this step: 1, 2, 4 ... below the width, then again. */
static uint32_t fft_distance(uint32_t width, uint32_t step)
{
    uint32_t stages = 0;
    while ((1U << stages) < width) {
        stages++;
    }
    return stages > 0 ? 1U << (step + stages - 1) % stages : width;
}

static bool is_random_neighbour(uint32_t step, uint32_t point, uint32_t other)
{
    uint64_t key = (uint64_t)(step % PATTERN_PERIOD) << 40 | (uint64_t)point << 20 | other;
    return point == other || mix(key) < CONNECTED;
}

static bool is_spread(uint32_t width, uint32_t step, uint32_t point, uint32_t other)
{
    uint32_t radix = least(PATTERN_RADIX, width);
    uint32_t period = least(PATTERN_PERIOD, (width + radix - 1) / radix);
    for (uint32_t i = 0; i < radix; i++) {
        if ((point + i * width / radix + (i > 0 ? step % period : 0)) % width == other) {
            return true;
        }
    }
    return false;
}

/* Whether (step, point) depends on the point `other` of the step before, if that has a task there. */
static bool depends(enum pattern p, uint32_t width, uint32_t step, uint32_t point, uint32_t other)
{
    uint32_t distance = point > other ? point - other : other - point;
    bool near = other + PATTERN_RADIX / 2 >= point && other <= point + (PATTERN_RADIX - 1) / 2;
    switch (p) {
    case PATTERN_NO_COMM:
        return distance == 0;
    case PATTERN_STENCIL_1D:
        return distance <= 1;
    case PATTERN_STENCIL_1D_PERIODIC:
        return distance <= 1 || distance == width - 1;
    case PATTERN_DOM:
        return distance <= 1 && other <= point;
    case PATTERN_TREE:
        return other == point / 2;
    case PATTERN_FFT:
        return distance == 0 || distance == fft_distance(width, step);
    case PATTERN_NEAREST:
        return near;
    case PATTERN_SPREAD:
        return is_spread(width, step, point, other);
    case PATTERN_RANDOM_NEAREST:
        return near && is_random_neighbour(step, point, other);
    case PATTERN_ALL_TO_ALL:
        return true;
    default:
        return false;
    }
}

uint32_t pattern_inputs(enum pattern p, uint32_t width, uint32_t steps, uint32_t step,
                        uint32_t point, uint32_t ret[PATTERN_WIDTH_MAX])
{
    uint32_t first, others;
    uint32_t count = 0;
    if (step == 0) {
        return 0;
    }
    pattern_points(p, width, steps, step - 1, &first, &others);
    for (uint32_t other = first; other < first + others; other++) {
        if (depends(p, width, step, point, other)) {
            ret[count++] = other;
        }
    }
    return count;
}

/* ---- the graph ---- */

/* By reading and read point: what the tasks of a step depend on. */
struct step_reads {
    bool is[PATTERN_WIDTH_MAX][PATTERN_WIDTH_MAX];
};

static void read_step(const struct pattern_graph *g, uint32_t step, struct step_reads *ret)
{
    uint32_t first, count;
    memset(ret->is, 0, g->width * sizeof(ret->is[0]));
    pattern_points(g->pattern, g->width, g->steps, step, &first, &count);
    for (uint32_t point = first; point < first + count; point++) {
        uint32_t inputs[PATTERN_WIDTH_MAX];
        uint32_t n = pattern_inputs(g->pattern, g->width, g->steps, step, point, inputs);
        for (uint32_t k = 0; k < n; k++) {
            ret->is[point][inputs[k]] = true;
        }
    }
}

/* Adds the tasks of a step; `before` is what the step before reads. Returns: the end of points. */
static uint32_t add_step(struct pattern_graph *g, uint32_t step, uint32_t points,
                         const struct step_reads *before, const struct step_reads *now)
{
    uint32_t first, count;
    pattern_points(g->pattern, g->width, g->steps, step, &first, &count);
    for (uint32_t point = first; point < first + count; point++) {
        struct pattern_task *t = &g->tasks[g->count++];
        *t = (struct pattern_task){.step = step, .point = point, .first = points};
        for (uint32_t other = 0; other < g->width; other++) {
            if (now->is[point][other]) {
                g->points[points++] = (uint8_t)other;
                t->inputs++;
            }
        }
        for (uint32_t other = 0; other < g->width; other++) {
            if (before->is[other][point] && !now->is[point][other]) {
                g->points[points++] = (uint8_t)other;
                t->readers++;
            }
        }
    }
    return points;
}

/* Runs the graph without the kernel, in order. */
static uint64_t expected_sum(const struct pattern_graph *g)
{
    struct pattern_slot slots[2 * PATTERN_WIDTH_MAX] = {0};
    for (uint32_t i = 0; i < g->count; i++) {
        const struct pattern_task *t = &g->tasks[i];
        const struct pattern_slot *inputs[PATTERN_WIDTH_MAX];
        for (uint32_t k = 0; k < t->inputs; k++) {
            inputs[k] = &slots[pattern_slot(t->step - 1, g->points[t->first + k])];
        }
        pattern_run(&slots[pattern_slot(t->step, t->point)], inputs, t->inputs, t->step, t->point,
                    0);
    }
    return pattern_sum(slots, g->width);
}

bool pattern_make(struct pattern_graph *g, enum pattern p, uint32_t width, uint32_t steps)
{
    static struct step_reads reads[2];
    uint32_t points = 0;
    if (g->tasks && g->pattern == p && g->width == width && g->steps == steps) {
        return true;
    }
    pattern_free(g);
    g->pattern = p;
    g->width = width;
    g->steps = steps;
    size_t tasks = pattern_count(p, width, steps);
    g->tasks = malloc(tasks * sizeof(*g->tasks));
    g->points = malloc(tasks * width);
    if (!g->tasks || !g->points) {
        pattern_free(g);
        return false;
    }
    memset(reads, 0, sizeof(reads));
    for (uint32_t step = 0; step < steps; step++) {
        read_step(g, step, &reads[step % 2]);
        points = add_step(g, step, points, &reads[(step + 1) % 2], &reads[step % 2]);
    }
    g->sum = expected_sum(g);
    return true;
}

void pattern_free(struct pattern_graph *g)
{
    free(g->tasks);
    free(g->points);
    *g = (struct pattern_graph){0};
}

/* ---- the task ---- */

enum { LANES = 8, CALIBRATION_ITERATIONS = 20000, CALIBRATIONS = 21 };

/* A chain of multiply-adds over eight numbers, each towards 1: bound by the latency of two operations, so any optimizer's
 * code takes as long. */
static double run_kernel(uint32_t iterations, double seed)
{
    double x[LANES];
    double sum = 0;
    for (int i = 0; i < LANES; i++) {
        x[i] = seed + i;
    }
    for (uint32_t n = 0; n < iterations; n++) {
        for (int i = 0; i < LANES; i++) {
            x[i] = x[i] * 0.9375 + 0.0625;
        }
    }
    for (int i = 0; i < LANES; i++) {
        sum += x[i];
    }
    return sum;
}

bool pattern_run(struct pattern_slot *out, const struct pattern_slot *const *inputs, uint32_t count,
                 uint32_t step, uint32_t point, uint32_t iterations)
{
    uint64_t sum = 0;
    bool right = true;
    for (uint32_t k = 0; k < count; k++) {
        right &= inputs[k]->step + 1 == step;
        sum += inputs[k]->sum;
    }
    out->value = run_kernel(iterations, (double)count);
    out->sum = mix(sum ^ (uint64_t)step << 32 ^ point);
    out->step = step;
    return right;
}

uint64_t pattern_sum(const struct pattern_slot *slots, uint32_t width)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 2 * width; i++) {
        sum = mix(sum ^ slots[i].sum);
    }
    return sum;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

double pattern_kernel_ns(void)
{
    volatile double keep;
    double best = 0;
    for (int i = 0; i < CALIBRATIONS; i++) {
        double begin = now_ns();
        keep = run_kernel(CALIBRATION_ITERATIONS, i);
        double ns = (now_ns() - begin) / CALIBRATION_ITERATIONS;
        best = i == 0 || ns < best ? ns : best;
    }
    (void)keep;
    return best;
}

void pattern_serve(struct pattern_graph *graph, double (*run)(uint32_t iterations))
{
    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof(line), stdin)) {
        unsigned pattern, width, steps, iterations;
        if (strcmp(line, "kernel\n") == 0) {
            printf("%.6f\n", pattern_kernel_ns());
        } else if (sscanf(line, "metg %u %u %u %u", &pattern, &width, &steps, &iterations) == 4 &&
                   pattern < PATTERNS && width <= PATTERN_WIDTH_MAX &&
                   pattern_make(graph, pattern, width, steps)) {
            printf("%.0f\n", run(iterations));
        } else {
            puts("0");
        }
    }
}

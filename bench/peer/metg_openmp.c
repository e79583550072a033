/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * OpenMP tasks in the graphs of bench/metg.c, ordered by depend clauses on the slots they read and write. The threads of one
 * process; the one that creates the tasks runs them, too. A contender (bench/contender.h); argument: the number of threads.
 * METG_WINDOW in the environment: after so many tasks all are waited for. gcc's libgomp walks all readers of an address that
 * have not run yet, and nothing else bounds how many they are: without it the time grows with the square of the tasks.
 *
 * metg PATTERN WIDTH STEPS ITERATIONS: ns of the whole graph, < 0 when a task ran out of order.
 * kernel: ns of an iteration.
 */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "pattern.h"

static struct pattern_graph graph;
static struct pattern_slot slots[2 * PATTERN_WIDTH_MAX] __attribute__((aligned(64)));
static uint32_t window;
static bool wrong;

/* The slot that is input k of the task, and the one that it writes. */
static struct pattern_slot *input(const struct pattern_task *t, uint32_t k)
{
    return &slots[pattern_slot(t->step - 1, graph.points[t->first + k])];
}

static struct pattern_slot *output(const struct pattern_task *t)
{
    return &slots[pattern_slot(t->step, t->point)];
}

static void run_task(const struct pattern_task *t, uint32_t iterations)
{
    const struct pattern_slot *inputs[PATTERN_WIDTH_MAX];
    for (uint32_t k = 0; k < t->inputs; k++) {
        inputs[k] = input(t, k);
    }
    if (!pattern_run(output(t), inputs, t->inputs, t->step, t->point, iterations)) {
        __atomic_store_n(&wrong, true, __ATOMIC_RELAXED);
    }
}

static void create_tasks(uint32_t iterations)
{
    for (uint32_t i = 0; i < graph.count; i++) {
        const struct pattern_task *t = &graph.tasks[i];
#pragma omp task depend(iterator(k = 0 : t->inputs), in : *input(t, k)) depend(out : *output(t))
        run_task(t, iterations);
        if ((i + 1) % window == 0) {
#pragma omp taskwait
        }
    }
}

static double time_graph(uint32_t iterations)
{
    memset(slots, 0, sizeof(slots));
    wrong = false;
    double begin = omp_get_wtime();
#pragma omp parallel
#pragma omp single
    create_tasks(iterations);
    double ns = (omp_get_wtime() - begin) * 1e9;
    return wrong || pattern_sum(slots, graph.width) != graph.sum ? -1 : ns;
}

int main(int argc, char **argv)
{
    const char *tasks = getenv("METG_WINDOW");
    window = tasks && atoi(tasks) > 0 ? (uint32_t)atoi(tasks) : 64;
    omp_set_dynamic(0);
    omp_set_num_threads(argc > 1 ? atoi(argv[1]) : 1);
    pattern_serve(&graph, time_graph);
    return 0;
}

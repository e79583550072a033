/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * OpenMP tasks in the figures about tasks (peer/tasks.h): threads of one process, so many workers and the one that
 * submits. That one runs tasks too wherever it waits, so most of them never leave it: OpenMP cannot be told
 * otherwise. Order comes from `depend`, that is from addresses, so there is no other form for edges by id.
 * A contender (bench/contender.h); argument: the number of workers. OMP_WAIT_POLICY is the caller's choice.
 *
 * round_trip N         ns from the task's construct to the end of taskwait, one at a time
 * round_trip_other N   the same when another thread runs it: the one that submits looks at a flag
 * independent N        ns of one of N
 * chain N              ns of one link, from the begin of the first to the begin of the last. The tasks begin while
 *                      more are submitted: gcc does not keep more than 64 a thread waiting
 * graph                ns of a task of the random layered graph, submitted and run
 */
#include <omp.h>
#include <stdlib.h>

#include "base/atomic.h"
#include "peer/tasks.h"

static int threads;
static uint32_t from[GRAPH_TASKS][GRAPH_FAN_IN];
static char slots[GRAPH_TASKS]; /* their addresses stand for what the tasks write */

/* The compiler must not see that there is nothing in it. */
static __attribute__((noinline)) void run_empty(void)
{
    __asm__ volatile("");
}

static double round_trip(uint32_t n, const char *how)
{
    double ns = 0;
    (void)how;
#pragma omp parallel num_threads(threads)
#pragma omp master
    {
        uint64_t begin = clock_ns();
        for (uint32_t i = 0; i < n; i++) {
#pragma omp task
            run_empty();
#pragma omp taskwait
        }
        ns = (double)(clock_ns() - begin) / n;
    }
    return ns;
}

static double round_trip_other(uint32_t n, const char *how)
{
    static a32 done;
    double ns = 0;
    (void)how;
#pragma omp parallel num_threads(threads)
#pragma omp master
    {
        uint64_t begin = clock_ns();
        for (uint32_t i = 1; i <= n; i++) {
#pragma omp task firstprivate(i)
            a32_release(&done, i);
            while (a32_acquire(&done) != i) { /* pairs with the task */
            }
        }
        ns = (double)(clock_ns() - begin) / n;
    }
    return ns;
}

static double independent(uint32_t n, const char *how)
{
    double ns = 0;
    (void)how;
#pragma omp parallel num_threads(threads)
#pragma omp master
    {
        uint64_t begin = clock_ns();
        for (uint32_t i = 0; i < n; i++) {
#pragma omp task
            run_empty();
        }
#pragma omp taskwait
        ns = (double)(clock_ns() - begin) / n;
    }
    return ns;
}

static double chain(uint32_t n, const char *how)
{
    uint64_t first = 0, last = 0;
    (void)how;
#pragma omp parallel num_threads(threads)
#pragma omp master
    {
        for (uint32_t i = 0; i < n; i++) {
#pragma omp task depend(inout : slots[0]) firstprivate(i) shared(first, last)
            if (i == 0) {
                first = clock_ns();
            } else if (i == n - 1) {
                last = clock_ns();
            } else {
                run_empty();
            }
        }
#pragma omp taskwait
    }
    return (double)(last - first) / (n - 1);
}

static double graph(uint32_t n, const char *how)
{
    double ns = 0;
    (void)n;
    (void)how;
#pragma omp parallel num_threads(threads)
#pragma omp master
    {
        uint64_t begin = clock_ns();
        for (uint32_t t = 0; t < GRAPH_TASKS; t++) {
            const uint32_t *f = from[t];
            if (t < GRAPH_WIDTH) {
#pragma omp task depend(out : slots[t])
                run_empty();
            } else {
#pragma omp task depend(in : slots[f[0]], slots[f[1]], slots[f[2]]) depend(out : slots[t])
                run_empty();
            }
        }
#pragma omp taskwait
        ns = (double)(clock_ns() - begin) / GRAPH_TASKS;
    }
    return ns;
}

int main(int argc, char **argv)
{
    static const struct task_order orders[] = {
        {"round_trip", round_trip, 4},   {"round_trip_other", round_trip_other, 4},
        {"independent", independent, 8}, {"chain", chain, 4},
        {"chain_data", chain, 4},        {"graph", graph, 1},
        {"graph_data", graph, 1},
    };
    threads = (argc > 1 ? atoi(argv[1]) : 1) + 1;
    omp_set_dynamic(0);
    graph_make(from);
    return take_orders(orders, sizeof(orders) / sizeof(orders[0]));
}

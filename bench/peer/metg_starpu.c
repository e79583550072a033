/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * StarPU in the graphs of bench/metg.c: a data handle for each slot, the order implied by what each task reads and
 * writes. The threads of one process: a worker thread for each worker, and the one that submits. A contender
 * (bench/contender.h); argument: the number of workers. STARPU_SCHED is the caller's choice.
 *
 * metg PATTERN WIDTH STEPS ITERATIONS: ns of the whole graph, < 0 when a task ran out of order.
 * kernel: ns of an iteration.
 */
#include <starpu.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "pattern.h"

static struct pattern_graph graph;
static struct pattern_slot slots[2 * PATTERN_WIDTH_MAX] __attribute__((aligned(64)));
static starpu_data_handle_t handles[2 * PATTERN_WIDTH_MAX];
static struct starpu_codelet codelets[PATTERN_WIDTH_MAX + 1]; /* by number of inputs */
static enum starpu_data_access_mode modes[PATTERN_WIDTH_MAX + 1][PATTERN_WIDTH_MAX + 1];
static uint32_t iterations_now;
static bool wrong;

static void run_task(void *buffers[], void *arg)
{
    const struct pattern_task *t = arg;
    const struct pattern_slot *inputs[PATTERN_WIDTH_MAX];
    for (uint32_t k = 0; k < t->inputs; k++) {
        inputs[k] = (const void *)STARPU_VARIABLE_GET_PTR(buffers[k]);
    }
    if (!pattern_run((void *)STARPU_VARIABLE_GET_PTR(buffers[t->inputs]), inputs, t->inputs,
                     t->step, t->point, iterations_now)) {
        __atomic_store_n(&wrong, true, __ATOMIC_RELAXED);
    }
}

/* The output is the last of a task's data. */
static void prepare(void)
{
    for (uint32_t inputs = 0; inputs <= PATTERN_WIDTH_MAX; inputs++) {
        struct starpu_codelet *c = &codelets[inputs];
        starpu_codelet_init(c);
        c->cpu_funcs[0] = run_task;
        c->nbuffers = (int)inputs + 1;
        c->name = "point";
        for (uint32_t k = 0; k <= inputs && inputs < PATTERN_WIDTH_MAX; k++) {
            modes[inputs][k] = k < inputs ? STARPU_R : STARPU_W;
        }
        if (c->nbuffers > STARPU_NMAXBUFS) {
            c->dyn_modes = modes[inputs];
        } else {
            memcpy(c->modes, modes[inputs], (size_t)c->nbuffers * sizeof(modes[0][0]));
        }
    }
    for (uint32_t i = 0; i < 2 * PATTERN_WIDTH_MAX; i++) {
        starpu_variable_data_register(&handles[i], STARPU_MAIN_RAM, (uintptr_t)&slots[i],
                                      sizeof(slots[i]));
    }
}

static void submit(struct pattern_task *t)
{
    struct starpu_task *task = starpu_task_create();
    starpu_data_handle_t *uses = task->handles;
    task->cl = &codelets[t->inputs];
    task->cl_arg = t;
    task->cl_arg_size = sizeof(*t);
    if (task->cl->nbuffers > STARPU_NMAXBUFS) {
        /* StarPU frees it. */
        uses = task->dyn_handles = malloc((size_t)task->cl->nbuffers * sizeof(*uses));
    }
    for (uint32_t k = 0; k < t->inputs; k++) {
        uses[k] = handles[pattern_slot(t->step - 1, graph.points[t->first + k])];
    }
    uses[t->inputs] = handles[pattern_slot(t->step, t->point)];
    if (starpu_task_submit(task) != 0) {
        exit(1);
    }
}

static double time_graph(uint32_t iterations)
{
    memset(slots, 0, sizeof(slots));
    wrong = false;
    iterations_now = iterations;
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < graph.count; i++) {
        submit(&graph.tasks[i]);
    }
    starpu_task_wait_for_all();
    double ns = (double)(clock_ns() - begin);
    return wrong || pattern_sum(slots, graph.width) != graph.sum ? -1 : ns;
}

int main(int argc, char **argv)
{
    struct starpu_conf conf;
    int workers = argc > 1 ? atoi(argv[1]) : 1;
    starpu_conf_init(&conf);
    conf.ncpus = workers;
    conf.ncuda = 0;
    conf.nopencl = 0;
    conf.calibrate = 0;
    conf.bus_calibrate = 0;
    /* It has no more workers than it was built for, and says so only in words. */
    if (starpu_init(&conf) != 0 || starpu_cpu_worker_get_count() != (unsigned)workers) {
        return 1;
    }
    prepare();
    pattern_serve(&graph, time_graph);
    return 0;
}

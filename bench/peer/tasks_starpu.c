/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * StarPU in the figures about tasks (peer/tasks.h): threads of one process, a worker thread for each worker, beside the one
 * that submits. The scheduler is eager: lws is as quick while every worker has a core, but with 4 workers on 2 cores its
 * idle workers take the cores from the busy one (a task there and back: ms instead of tens of us). No calibration, no
 * profiling. A contender (bench/contender.h); argument: the number of workers, of which it takes as many as the package was
 * built for.
 *
 * workers         how many there are
 * round_trip N    ns of a task with `synchronous`, one at a time
 * independent N   ns of one of N
 * chain N         ns of one link, from the begin of the first to the begin of the last, each on the worker after the
 *                 one before's; all submitted before the first begins. chain_data: one handle that all read and write
 * graph           ns of a task of the random layered graph, submitted and run; starpu_task_declare_deps_array
 * graph_data      the same with a handle for what each task writes, edges inferred
 * submit N exact  ns of starpu_task_submit of a task that reads 3 of N handles, all of which have a writer that has not begun,
 *                 and writes one. There is no submit N overlap: handles are registered as wholes, parts of them have to be
 *                 made by partitioning and never overlap
 */
#include <starpu.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/atomic.h"
#include "peer/tasks.h"

enum { SLOT = 64, HOLD_US = 200, HANDLE_BYTES = 8192 /* of a handle and its task, about */ };

static unsigned workers;
static uint32_t from[GRAPH_TASKS][GRAPH_FAN_IN];
static starpu_data_handle_t *handles;
static uint8_t (*slots)[SLOT];
static uint32_t handle_count;
static a32 held;

static void run_empty(void *buffers[], void *arg)
{
    (void)buffers;
    (void)arg;
}

static void run_stamp(void *buffers[], void *arg)
{
    (void)buffers;
    *(uint64_t *)arg = clock_ns();
}

static void run_hold(void *buffers[], void *arg)
{
    (void)buffers;
    (void)arg;
    while (a32_acquire(&held)) { /* pairs with who submitted it */
        usleep(HOLD_US);
    }
}

static struct starpu_codelet empty = {.cpu_funcs = {run_empty}, .name = "empty"};
static struct starpu_codelet stamp = {.cpu_funcs = {run_stamp}, .name = "stamp"};
static struct starpu_codelet hold = {.cpu_funcs = {run_hold}, .name = "hold"};
static struct starpu_codelet empty_rw = {
    .cpu_funcs = {run_empty}, .nbuffers = 1, .modes = {STARPU_RW}, .name = "empty"};
static struct starpu_codelet stamp_rw = {
    .cpu_funcs = {run_stamp}, .nbuffers = 1, .modes = {STARPU_RW}, .name = "stamp"};
static struct starpu_codelet hold_rw = {
    .cpu_funcs = {run_hold}, .nbuffers = 1, .modes = {STARPU_RW}, .name = "hold"};
static struct starpu_codelet write_one = {
    .cpu_funcs = {run_empty}, .nbuffers = 1, .modes = {STARPU_W}, .name = "write"};
static struct starpu_codelet read_three = {
    .cpu_funcs = {run_empty},
    .nbuffers = SUBMIT_INPUTS + 1,
    .modes = {STARPU_R, STARPU_R, STARPU_R, STARPU_W},
    .name = "read",
};

static struct starpu_task *new_task(struct starpu_codelet *codelet)
{
    struct starpu_task *t = starpu_task_create();
    t->cl = codelet;
    return t;
}

static void submit_task(struct starpu_task *t)
{
    if (starpu_task_submit(t) != 0) {
        exit(1);
    }
}

static void place(struct starpu_task *t, unsigned worker)
{
    t->execute_on_a_specific_worker = 1;
    t->workerid = worker % workers;
}

/* There are so many handles from now on; false: not enough memory. */
static bool need_handles(uint32_t count)
{
    uint64_t memory = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (count <= handle_count) {
        return true;
    }
    if ((uint64_t)(count - handle_count) * HANDLE_BYTES > memory / 2) {
        return false;
    }
    for (uint32_t i = 0; i < handle_count; i++) {
        starpu_data_unregister_no_coherency(handles[i]);
    }
    free(handles);
    free(slots);
    handles = calloc(count, sizeof(*handles));
    slots = calloc(count, sizeof(*slots));
    if (!handles || !slots) {
        exit(1);
    }
    for (uint32_t i = 0; i < count; i++) {
        starpu_variable_data_register(&handles[i], STARPU_MAIN_RAM, (uintptr_t)slots[i], SLOT);
    }
    handle_count = count;
    return true;
}

static double tell_workers(uint32_t n, const char *how)
{
    (void)n;
    (void)how;
    return workers;
}

static double round_trip(uint32_t n, const char *how)
{
    (void)how;
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < n; i++) {
        struct starpu_task *t = new_task(&empty);
        t->synchronous = 1;
        submit_task(t);
    }
    return (double)(clock_ns() - begin) / n;
}

static double independent(uint32_t n, const char *how)
{
    (void)how;
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < n; i++) {
        submit_task(new_task(&empty));
    }
    starpu_task_wait_for_all();
    return (double)(clock_ns() - begin) / n;
}

/* A task that others are declared to follow is destroyed by hand, or it might be gone by then. */
static double chain_by_id(uint32_t n, const char *how)
{
    uint64_t first = 0, last = 0;
    struct starpu_task **t = calloc(n + 1, sizeof(struct starpu_task *));
    (void)how;
    a32_release(&held, 1);
    for (uint32_t i = 0; i <= n; i++) {
        t[i] = new_task(i == 0 ? &hold : i == 1 || i == n ? &stamp : &empty);
        t[i]->cl_arg = i == 1 ? &first : i == n ? &last : NULL;
        t[i]->destroy = 0;
        place(t[i], i);
        if (i > 0) {
            starpu_task_declare_deps_array(t[i], 1, &t[i - 1]);
        }
        submit_task(t[i]);
    }
    a32_release(&held, 0);
    starpu_task_wait_for_all();
    for (uint32_t i = 0; i <= n; i++) {
        starpu_task_destroy(t[i]);
    }
    free(t);
    return (double)(last - first) / (n - 1);
}

static double chain_by_data(uint32_t n, const char *how)
{
    uint64_t first = 0, last = 0;
    (void)how;
    if (!need_handles(1)) {
        return 0;
    }
    a32_release(&held, 1);
    for (uint32_t i = 0; i <= n; i++) {
        struct starpu_task *t = new_task(i == 0             ? &hold_rw
                                         : i == 1 || i == n ? &stamp_rw
                                                            : &empty_rw);
        t->cl_arg = i == 1 ? &first : i == n ? &last : NULL;
        t->handles[0] = handles[0];
        place(t, i);
        submit_task(t);
    }
    a32_release(&held, 0);
    starpu_task_wait_for_all();
    return (double)(last - first) / (n - 1);
}

static double graph_by_id(uint32_t n, const char *how)
{
    static struct starpu_task *t[GRAPH_TASKS];
    (void)n;
    (void)how;
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < GRAPH_TASKS; i++) {
        t[i] = new_task(&empty);
        t[i]->destroy = 0;
        if (i >= GRAPH_WIDTH) {
            struct starpu_task *after[] = {t[from[i][0]], t[from[i][1]], t[from[i][2]]};
            starpu_task_declare_deps_array(t[i], GRAPH_FAN_IN, after);
        }
        submit_task(t[i]);
    }
    starpu_task_wait_for_all();
    uint64_t end = clock_ns();
    for (uint32_t i = 0; i < GRAPH_TASKS; i++) {
        starpu_task_destroy(t[i]);
    }
    return (double)(end - begin) / GRAPH_TASKS;
}

static double graph_by_data(uint32_t n, const char *how)
{
    (void)n;
    (void)how;
    if (!need_handles(GRAPH_TASKS)) {
        return 0;
    }
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < GRAPH_TASKS; i++) {
        struct starpu_task *t = new_task(i < GRAPH_WIDTH ? &write_one : &read_three);
        for (uint32_t k = 0; i >= GRAPH_WIDTH && k < GRAPH_FAN_IN; k++) {
            t->handles[k] = handles[from[i][k]];
        }
        t->handles[i < GRAPH_WIDTH ? 0 : GRAPH_FAN_IN] = handles[i];
        submit_task(t);
    }
    starpu_task_wait_for_all();
    return (double)(clock_ns() - begin) / GRAPH_TASKS;
}

static double time_batch(uint32_t live, uint32_t number, uint64_t *random)
{
    struct starpu_task *t[SUBMIT_BATCH];
    for (uint32_t i = 0; i < SUBMIT_BATCH; i++) {
        t[i] = new_task(&read_three);
        for (uint32_t k = 0; k < SUBMIT_INPUTS; k++) {
            t[i]->handles[k] = handles[tasks_random(random, live)];
        }
        t[i]->handles[SUBMIT_INPUTS] =
            handles[live + (number * SUBMIT_BATCH + i) % submit_outputs(live)];
    }
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < SUBMIT_BATCH; i++) {
        submit_task(t[i]);
    }
    return (double)(clock_ns() - begin) / SUBMIT_BATCH;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double submit(uint32_t live, const char *how)
{
    static uint64_t random = 77;
    double ns[SUBMIT_BATCHES];
    if (strcmp(how, "exact") != 0 || !need_handles(live + submit_outputs(live))) {
        return 0;
    }
    a32_release(&held, 1);
    for (unsigned w = 0; w < workers; w++) {
        struct starpu_task *t = new_task(&hold);
        place(t, w);
        submit_task(t);
    }
    for (uint32_t i = 0; i < live; i++) {
        struct starpu_task *t = new_task(&write_one);
        t->handles[0] = handles[i];
        submit_task(t);
    }
    for (uint32_t b = 0; b < SUBMIT_BATCHES; b++) {
        ns[b] = time_batch(live, b, &random);
    }
    a32_release(&held, 0);
    starpu_task_wait_for_all();
    qsort(ns, SUBMIT_BATCHES, sizeof(ns[0]), compare);
    return ns[SUBMIT_BATCHES / 2];
}

int main(int argc, char **argv)
{
    static const struct task_order orders[] = {
        {"workers", tell_workers, 0},     {"round_trip", round_trip, 4},
        {"independent", independent, 8},  {"chain", chain_by_id, 4},
        {"chain_data", chain_by_data, 4}, {"graph", graph_by_id, 1},
        {"graph_data", graph_by_data, 1}, {"submit", submit, 0},
    };
    struct starpu_conf conf;
    workers = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    starpu_conf_init(&conf);
    conf.precedence_over_environment_variables = 1;
    conf.sched_policy_name = "eager";
    conf.ncpus = (int)workers;
    conf.ncuda = conf.nopencl = conf.nmic = 0;
    conf.calibrate = conf.bus_calibrate = 0;
    if (starpu_init(&conf) != 0) {
        return 1;
    }
    workers = starpu_cpu_worker_get_count();
    graph_make(from);
    return take_orders(orders, sizeof(orders) / sizeof(orders[0]));
}

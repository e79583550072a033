/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The rig of the integration tests on lives, callables, runs and failures: a started worker with the tasks of
 * calls_so.c, a buffer of cells that they add to, and a gate. A task at the gate says that it has begun and waits to be
 * let through: so test and task order themselves without sleeping.
 */
#ifndef TESTS_INTEGRATION_RIG_H
#define TESTS_INTEGRATION_RIG_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "domain_help.h"

enum rig_call {
    ADD,
    MEMBER,
    FAIL,
    RETURN,
    DIE,
    GATE,
    GATE_FAIL,
    GATE_DIE,
    SPIN,
    WAIT,
    WAIT_FAIL,
    GATE_SPIN,
    RIG_CALLS
};

enum { RIG_CELLS = 4096, RIG_STRIDE = 16 };

struct rig {
    tsm_worker *w;
    uint32_t chips, subs;
    tsm_callable call[RIG_CALLS];
    int32_t *cells; /* cell n is cells[n * RIG_STRIDE]: a line each */
    int begun[2], open[2];
};

/* With what the workers of the rig start; main sets it for each round of tests. */
static int rig_method = TSM_FORK;

/* Path of calls_so.so: asked for once, several threads use it. */
static char rig_object[4096];

/* For main. Children that die by SIGSEGV shall not write cores. */
static inline void rig_init(void)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    snprintf(rig_object, sizeof(rig_object), "%s", harness_beside("calls_so.so"));
}

static inline int32_t *rig_cell(const struct rig *r, int n)
{
    return &r->cells[n * RIG_STRIDE];
}

static inline struct tsm_worker_opts rig_opts(uint32_t chips, uint32_t subs)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = chips;
    opts.subs = subs;
    opts.start_method = rig_method;
    opts.heap_bytes = 16u << 20;
    opts.host_bytes = 64u << 20;
    opts.lease_bytes = 256u << 20;
    return opts;
}

static inline void rig_register(struct rig *r)
{
    static const char *const names[RIG_CALLS] = {
        "so_add",       "so_member",   "so_fail", "so_return", "so_die",       "so_gate",
        "so_gate_fail", "so_gate_die", "so_spin", "so_wait",   "so_wait_fail", "so_gate_spin"};
    for (int i = 0; i < RIG_CALLS; i++) {
        assert_code(r->w, tsm_register_symbol(r->w, rig_object, names[i], NULL, &r->call[i]), 0);
    }
}

/* Everything up to start. */
static inline void rig_make(struct rig *r, const struct tsm_worker_opts *opts)
{
    memset(r, 0, sizeof(*r));
    r->chips = opts->chips;
    r->subs = opts->subs;
    r->w = help_create(opts);
    assert_int_equal(pipe(r->begun), 0); /* not close-on-exec: spawned processes find them, too */
    assert_int_equal(pipe(r->open), 0);
    rig_register(r);
}

static inline void rig_start(struct rig *r)
{
    void *data = NULL;
    assert_code(r->w, tsm_worker_start(r->w), 0);
    assert_code(r->w, tsm_buffer_create(r->w, RIG_CELLS * RIG_STRIDE * sizeof(int32_t), &data), 0);
    r->cells = data;
}

static inline void rig_open(struct rig *r, uint32_t chips, uint32_t subs)
{
    struct tsm_worker_opts opts = rig_opts(chips, subs);
    rig_make(r, &opts);
    rig_start(r);
}

static inline void rig_pipes_close(struct rig *r)
{
    for (int i = 0; i < 2; i++) {
        close(r->begun[i]);
        close(r->open[i]);
    }
}

static inline void rig_close(struct rig *r)
{
    assert_code(r->w, tsm_worker_close(r->w), 0);
    tsm_worker_destroy(r->w);
    rig_pipes_close(r);
}

/* ---- the gate ---- */

/* Until `count` tasks have said that they have begun. */
static inline void gate_begun(struct rig *r, int count)
{
    for (int i = 0; i < count; i++) {
        char c;
        assert_int_equal(read(r->begun[0], &c, 1), 1);
    }
}

/* Lets `count` tasks through, also before they come. */
static inline void gate_open(struct rig *r, int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(write(r->open[1], "o", 1), 1);
    }
}

/* ---- jobs ---- */

/* One submit: reads cell `in`, adds to cell `inout` or writes cell `out`; cell 0 is none. */
struct job {
    enum rig_call call;
    int chip;
    int in, inout, out;
    uint64_t a, b;
    int64_t limit_ns;
    tsm_domain *domain;
};

static inline struct tsm_tensor cell_tensor(const struct rig *r, int cell, int tag)
{
    return (struct tsm_tensor){
        .data = rig_cell(r, cell), .dtype = TSM_I32, .tag = (uint8_t)tag, .ndim = 1, .shape = {1}};
}

static inline int rig_submit(struct rig *r, tsm_orch *orch, const struct job *j, tsm_task_id *ret)
{
    struct tsm_tensor tensors[2];
    uint32_t n = 0;
    bool gate = j->call >= GATE && j->call != SPIN;
    uint64_t scalars[3] = {gate ? (uint64_t)r->begun[1] : j->a, gate ? (uint64_t)r->open[0] : j->b,
                           j->a};
    if (j->in) {
        tensors[n++] = cell_tensor(r, j->in, TSM_INPUT);
    }
    if (j->inout || j->out) {
        tensors[n++] = cell_tensor(r, j->inout ? j->inout : j->out,
                                   j->inout ? TSM_INOUT : TSM_OUTPUT_EXISTING);
    }
    struct tsm_call call = {.callable = r->call[j->call],
                            .chip = j->chip,
                            .tensors = tensors,
                            .tensor_count = n,
                            .scalars = scalars,
                            .scalar_count = 3,
                            .domains = &j->domain,
                            .domain_count = j->domain != NULL,
                            .limit_ns = j->limit_ns};
    return tsm_submit(orch, &call, ret);
}

struct jobs {
    struct rig *r;
    const struct job *list;
    size_t count;
    tsm_task_id ids[64];
};

/* An orchestration function: all jobs in order, up to the first refusal. */
static inline int submit_jobs(tsm_orch *orch, void *arg)
{
    struct jobs *jobs = arg;
    int rc = 0;
    for (size_t i = 0; i < jobs->count && rc == 0; i++) {
        rc = rig_submit(jobs->r, orch, &jobs->list[i], &jobs->ids[i % 64]);
    }
    return rc;
}

/* The same inside another orchestration function. */
static inline int rig_submit_list(struct rig *r, tsm_orch *orch, const struct job *list,
                                  size_t count)
{
    struct jobs jobs = {.r = r, .list = list, .count = count};
    return submit_jobs(orch, &jobs);
}

static inline int rig_run(struct rig *r, const struct job *list, size_t count)
{
    struct jobs jobs = {.r = r, .list = list, .count = count};
    return tsm_worker_run(r->w, submit_jobs, &jobs);
}

static inline int rig_fly(struct rig *r, const struct job *list, size_t count, tsm_run **ret)
{
    struct jobs jobs = {.r = r, .list = list, .count = count};
    return tsm_worker_submit_run(r->w, submit_jobs, &jobs, ret);
}

/* RUN(&r, {ADD, 0, .inout = 1}, {FAIL, 1}): runs these jobs. FLY: the same, in flight. SUBMIT: inside a function. */
#define RUN(r, ...)                                                                                \
    rig_run(r, (const struct job[]){__VA_ARGS__},                                                  \
            sizeof((const struct job[]){__VA_ARGS__}) / sizeof(struct job))
#define FLY(r, ret, ...)                                                                           \
    rig_fly(r, (const struct job[]){__VA_ARGS__},                                                  \
            sizeof((const struct job[]){__VA_ARGS__}) / sizeof(struct job), ret)
#define SUBMIT(r, orch, ...)                                                                       \
    rig_submit_list(r, orch, (const struct job[]){__VA_ARGS__},                                    \
                    sizeof((const struct job[]){__VA_ARGS__}) / sizeof(struct job))

/* ---- the worker is well ---- */

static inline int submit_health(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    int rc = 0;
    struct tsm_call members[64] = {0};
    struct tsm_tensor tensors[64];
    uint32_t n = r->chips < 64 ? r->chips : 64;
    *rig_cell(r, RIG_CELLS - 1) = 0;
    for (uint32_t i = 0; i < r->chips + r->subs && rc == 0; i++) {
        int chip = i < r->chips ? (int)i : TSM_SUB;
        rc = rig_submit(r, orch, &(struct job){ADD, chip, .inout = RIG_CELLS - 1, .a = 1}, NULL);
    }
    for (uint32_t m = 0; m < n; m++) {
        int cell = RIG_CELLS - 2 - (int)m;
        *rig_cell(r, cell) = 0;
        tensors[m] = cell_tensor(r, cell, TSM_INOUT);
        members[m] = (struct tsm_call){
            .callable = r->call[MEMBER], .chip = (int)m, .tensors = &tensors[m], .tensor_count = 1};
    }
    rc = rc != 0 ? rc : tsm_submit_group(orch, members, n, NULL);
    return rc != 0 ? rc
                   : rig_submit(r, orch,
                                &(struct job){ADD, 0, .in = RIG_CELLS - 1,
                                              .inout = RIG_CELLS - 1 - (int)n},
                                NULL);
}

/* A chain over all chips and subs, a group, and one that reads both: what a sound worker makes of it. */
static inline void assert_well(struct rig *r)
{
    int32_t n = (int32_t)(r->chips < 64 ? r->chips : 64);
    int32_t places = (int32_t)(r->chips + r->subs);
    struct tsm_stats stats;
    assert_code(r->w, tsm_worker_run(r->w, submit_health, r), 0);
    assert_int_equal(*rig_cell(r, RIG_CELLS - 1), places);
    for (int m = 0; m < n; m++) {
        int32_t more = m == n - 1 ? places : 0;
        assert_int_equal(*rig_cell(r, RIG_CELLS - 2 - m), m + 1 + more);
    }
    tsm_worker_stats(r->w, &stats);
    assert_int_equal(stats.domains_live, 0);
}

/* The end of most tests. */
static inline void rig_close_well(struct rig *r)
{
    assert_well(r);
    rig_close(r);
}

/* Waits until a task has written the cell. */
static inline void await_cell(const struct rig *r, int cell)
{
    while (*(volatile int32_t *)rig_cell(r, cell) == 0) {
        poll(NULL, 0, 1);
    }
}

/* For main: the tests with workers that start by fork, then by spawn. */
static inline int rig_test_both(const struct CMUnitTest *tests, size_t count)
{
    int failed = _cmocka_run_group_tests("fork", tests, count, NULL, NULL);
    rig_method = TSM_SPAWN;
    return failed + _cmocka_run_group_tests("spawn", tests, count, NULL, NULL);
}

/* ---- processes ---- */

static inline int keeper_of(const struct rig *r)
{
    return (int)help_proc_stat(tsm_worker_pid(r->w, 0), 4);
}

static inline uint64_t deaths_of(const struct rig *r)
{
    struct tsm_stats stats;
    tsm_worker_stats(r->w, &stats);
    return stats.deaths;
}

/* Stops a process and waits until it has stopped. */
static inline void stop_process(int pid)
{
    assert_true(pid > 0);
    kill(pid, SIGSTOP);
    while (help_proc_stat(pid, 3) != 'T') {
        poll(NULL, 0, 1);
    }
}

static inline void stop_chip(struct rig *r, int chip)
{
    stop_process(tsm_worker_pid(r->w, chip));
}

/* Waits until so many children have died and all have been replaced: both are published. */
static inline void await_deaths(struct rig *r, uint64_t deaths)
{
    for (;;) {
        uint32_t alive = 0;
        for (uint32_t p = 0; p < r->chips + r->subs; p++) {
            alive += tsm_worker_pid(r->w, (int)p) != 0;
        }
        if (deaths_of(r) >= deaths && alive == r->chips + r->subs) {
            return;
        }
        poll(NULL, 0, 1); /* the harness' alarm ends a wait for what never comes */
    }
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Short forms for tests about domains: create a worker, allocate, submit a task with a tensor, scalars and a domain, tasks
 * that many tests use, a gate that holds a task until the test opens it, and what this and other processes hold.
 */
#ifndef TESTS_DOMAIN_HELP_H
#define TESTS_DOMAIN_HELP_H

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "expect.h"
#include "harness.h"

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))
/* A list of chips and its length, for help_alloc. */
#define CHIPS(...)                                                                                 \
    (const int[]){__VA_ARGS__}, (uint32_t)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int))
/* A list of scalars and its length, for help_submit. */
#define SCALARS(...)                                                                               \
    (const uint64_t[]){__VA_ARGS__},                                                               \
        (uint32_t)(sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

enum { HELP_GROUP_MAX = 256 };

/* A created, not started worker; fails the test with the error's text. */
static inline tsm_worker *help_create(const struct tsm_worker_opts *opts)
{
    struct tsm_error err;
    tsm_worker *w = NULL;
    if (tsm_worker_create(opts, &w, &err) != 0) {
        fail_msg("tsm_worker_create: %s", err.text);
    }
    return w;
}

/* The same with memory of these sizes; 0 is the default. */
static inline tsm_worker *help_create_sized(uint32_t chips, uint32_t subs, uint64_t heap_bytes,
                                            uint64_t host_bytes, uint64_t lease_bytes)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = chips;
    opts.subs = subs;
    opts.heap_bytes = heap_bytes;
    opts.host_bytes = host_bytes;
    opts.lease_bytes = lease_bytes;
    return help_create(&opts);
}

/* ---- domains ---- */

/* What every allocation says; further options can be added to it. */
static inline struct tsm_domain_opts help_domain_opts(const char *name, const int *chips,
                                                      uint32_t count, uint64_t window_bytes)
{
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = name;
    opts.chips = chips;
    opts.chip_count = count;
    opts.window_bytes = window_bytes;
    return opts;
}

static inline int help_alloc(tsm_orch *o, const char *name, const int *chips, uint32_t count,
                             uint64_t window_bytes, tsm_domain **ret)
{
    struct tsm_domain_opts opts = help_domain_opts(name, chips, count, window_bytes);
    return tsm_domain_alloc(o, &opts, ret);
}

static inline int help_alloc_kept(tsm_orch *o, const char *name, const int *chips, uint32_t count,
                                  uint64_t window_bytes, tsm_domain **ret)
{
    struct tsm_domain_opts opts = help_domain_opts(name, chips, count, window_bytes);
    opts.keep = 1;
    return tsm_domain_alloc(o, &opts, ret);
}

static inline void *help_window(tsm_domain *d, int chip)
{
    struct tsm_domain_context c;
    return tsm_domain_context(d, chip, &c) == 0 ? c.window : NULL;
}

/* ---- submitting ---- */

/* With one tensor; tensor and d may be NULL. */
static inline int help_submit_tensor(tsm_orch *o, tsm_callable callable, int chip, tsm_domain *d,
                                     struct tsm_tensor *tensor, const uint64_t *scalars,
                                     uint32_t count, tsm_task_id *ret)
{
    struct tsm_call call = {.callable = callable,
                            .chip = chip,
                            .tensors = tensor,
                            .tensor_count = tensor != NULL,
                            .scalars = scalars,
                            .scalar_count = count,
                            .domains = &d,
                            .domain_count = d != NULL};
    return tsm_submit(o, &call, ret);
}

/* d may be NULL. */
static inline int help_submit(tsm_orch *o, tsm_callable callable, int chip, tsm_domain *d,
                              const uint64_t *scalars, uint32_t count, tsm_task_id *ret)
{
    return help_submit_tensor(o, callable, chip, d, NULL, scalars, count, ret);
}

/* One group with a member on each chip of the domain; all get the same scalars. */
static inline int help_submit_group(tsm_orch *o, tsm_callable callable, tsm_domain *d,
                                    const int *chips, uint32_t count, const uint64_t *scalars,
                                    uint32_t scalar_count)
{
    struct tsm_call calls[HELP_GROUP_MAX];
    assert_true(count <= HELP_GROUP_MAX);
    for (uint32_t i = 0; i < count; i++) {
        calls[i] = (struct tsm_call){.callable = callable,
                                     .chip = chips[i],
                                     .domains = &d,
                                     .domain_count = 1,
                                     .scalars = scalars,
                                     .scalar_count = scalar_count};
    }
    return tsm_submit_group(o, calls, count, NULL);
}

/* Waits in the program until what was submitted to `chip` is done; `work` is help_work_task. */
static inline void help_wait_for_chip(tsm_orch *o, tsm_callable work, int chip)
{
    tsm_worker *w = tsm_orch_worker(o);
    void *there;
    uint64_t x = 0;
    assert_code(w, tsm_alloc(o, chip, 8, &there), 0);
    struct tsm_tensor t = {.data = there, .dtype = TSM_U64, .tag = TSM_OUTPUT_EXISTING};
    assert_code(w, help_submit_tensor(o, work, chip, NULL, &t, NULL, 0, NULL), 0);
    assert_code(w, tsm_copy_from(o, chip, &x, there, 8), 0);
}

static inline uint64_t help_pointer(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

static inline struct tsm_stats help_stats(tsm_worker *w)
{
    struct tsm_stats s;
    tsm_worker_stats(w, &s);
    return s;
}

static inline int help_probe_orch(tsm_orch *o, void *arg)
{
    const int *chip = arg;
    tsm_domain *d;
    int rc;
    do {
        rc = help_alloc(o, "probe", chip, 1, 64, &d);
    } while (rc == TSM_EPEER);
    return rc;
}

/* Until a chip that died can be a member again: its replacement takes a moment. */
static inline void help_wait_replaced(tsm_worker *w, int chip)
{
    assert_code(w, tsm_worker_run(w, help_probe_orch, &chip), 0);
}

/* ---- tasks ---- */

static inline int help_work_task(tsm_task *t)
{
    (void)t;
    return 0;
}

static inline int help_fail_task(tsm_task *t)
{
    return tsm_fail(t, "on purpose");
}

/* Scalars: address, bytes, value. */
static inline int help_fill_task(tsm_task *t)
{
    memset((void *)(uintptr_t)tsm_task_scalar(t, 0), (int)tsm_task_scalar(t, 2),
           tsm_task_scalar(t, 1));
    return 0;
}

/* A task, or a part of one, that takes its time. */
static inline void help_take(uint64_t nanoseconds)
{
    uint64_t end = harness_now_ns() + nanoseconds;
    while (harness_now_ns() < end) {
        sched_yield();
    }
}

/* A gate is a host buffer. Task: scalar 0 is the gate's address, which it leaves when the gate is open. */
static inline int help_gate_task(tsm_task *t)
{
    const _Atomic uint64_t *gate = (const _Atomic uint64_t *)(uintptr_t)tsm_task_scalar(t, 0);
    while (atomic_load(gate) == 0) {
        sched_yield();
    }
    return 0;
}

static inline _Atomic uint64_t *help_gate(tsm_worker *w)
{
    void *gate = NULL;
    assert_code(w, tsm_buffer_create(w, 64, &gate), 0);
    return gate;
}

/* ---- what is held ---- */

/* Bytes behind the memfds of the arena that this process holds open. */
static inline uint64_t help_arena_bytes(void)
{
    uint64_t bytes = 0;
    for (int fd = 0; fd < 256; fd++) {
        char path[64], target[128];
        struct stat st;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 14 && fstat(fd, &st) == 0 && strncmp(target, "/memfd:transom", 14) == 0) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    return bytes;
}

/* Field n of /proc/PID/stat, from 3; 0 when there is no such process. The state (3) as its letter. */
static inline uint64_t help_proc_stat(int pid, int field)
{
    char path[64];
    char line[1024] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) {
        return 0;
    }
    char *at = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
    fclose(f);
    for (int i = 2; at && i < field; i++) {
        at = strchr(at + 1, ' ');
    }
    return !at ? 0 : field == 3 ? (uint64_t)at[1] : strtoull(at + 1, NULL, 10);
}

#endif

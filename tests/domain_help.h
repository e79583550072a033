/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Short forms for tests about domains: allocate, submit a task with scalars and a domain, and a gate that holds a task
 * until the test opens it.
 */
#ifndef TESTS_DOMAIN_HELP_H
#define TESTS_DOMAIN_HELP_H

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))
/* A list of chips and its length, for help_alloc. */
#define CHIPS(...)                                                                                 \
    (const int[]){__VA_ARGS__}, (uint32_t)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int))
/* A list of scalars and its length, for help_submit. */
#define SCALARS(...)                                                                               \
    (const uint64_t[]){__VA_ARGS__},                                                               \
        (uint32_t)(sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static inline int help_alloc(tsm_orch *o, const char *name, const int *chips, uint32_t count,
                             uint64_t window_bytes, tsm_domain **ret)
{
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = name;
    opts.chips = chips;
    opts.chip_count = count;
    opts.window_bytes = window_bytes;
    return tsm_domain_alloc(o, &opts, ret);
}

static inline int help_alloc_kept(tsm_orch *o, const char *name, const int *chips, uint32_t count,
                                  uint64_t window_bytes, tsm_domain **ret)
{
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = name;
    opts.chips = chips;
    opts.chip_count = count;
    opts.window_bytes = window_bytes;
    opts.keep = 1;
    return tsm_domain_alloc(o, &opts, ret);
}

/* d may be NULL. */
static inline int help_submit(tsm_orch *o, tsm_callable callable, int chip, tsm_domain *d,
                              const uint64_t *scalars, uint32_t count, tsm_task_id *ret)
{
    struct tsm_call call = {.callable = callable,
                            .chip = chip,
                            .scalars = scalars,
                            .scalar_count = count,
                            .domains = &d,
                            .domain_count = d != NULL};
    return tsm_submit(o, &call, ret);
}

static inline uint64_t help_pointer(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

static inline void *help_window(tsm_domain *d, int chip)
{
    struct tsm_domain_context c;
    return tsm_domain_context(d, chip, &c) == 0 ? c.window : NULL;
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

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Short forms for tests about order: one worker, one task that writes down when it begins and ends, and gates that hold
 * a task inside until the test opens them. A gate is a pipe made before the start; a job that waits at a gate is
 * inside its task, so what else happens meanwhile does not depend on it.
 */
#ifndef TESTS_GRAPH_HELP_H
#define TESTS_GRAPH_HELP_H

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "domain_help.h"

enum { GATES = 8, DIARY_MAX = 4000, MEMORY_BYTES = 65536, JOB_TENSORS = 4, JOB_AFTER = 4 };

/* In a host buffer. An entry is value << 1, or value << 1 | 1 at the end of the task. */
struct diary {
    atomic_uint count;
    atomic_uint entry[DIARY_MAX];
};

struct world {
    tsm_worker *w;
    tsm_orch *o;
    tsm_callable note;
    uint32_t chips, subs;
    struct diary *diary;
    uint8_t *memory; /* a host buffer, MEMORY_BYTES of zeros at the start */
    int gates[GATES][2];
};
static struct world world;

/* One task to submit. value 0 is not written down. gate: 0 none, else number + 1. */
struct job {
    int chip;
    uint32_t value, gate;
    bool fails;
    struct tsm_tensor tensors[JOB_TENSORS]; /* up to the first without a dtype */
    tsm_task_id after[JOB_AFTER];           /* up to the first 0 */
};

/* `bytes` at p, contiguous. */
#define VIEW(p, bytes, use)                                                                        \
    (struct tsm_tensor)                                                                            \
    {                                                                                              \
        .data = (p), .dtype = TSM_U8, .tag = (use), .ndim = 1, .shape = { bytes }                  \
    }

enum { SCALAR_VALUE, SCALAR_GATE, SCALAR_FAILS, SCALAR_DIARY, JOB_SCALARS };

static inline void write_down(struct diary *d, uint32_t entry)
{
    uint32_t at = atomic_fetch_add(&d->count, 1);
    if (at < DIARY_MAX) {
        atomic_store(&d->entry[at], entry);
    }
}

static inline int note(tsm_task *t)
{
    struct diary *d = (struct diary *)(uintptr_t)tsm_task_scalar(t, SCALAR_DIARY);
    uint32_t value = (uint32_t)tsm_task_scalar(t, SCALAR_VALUE);
    uint64_t gate = tsm_task_scalar(t, SCALAR_GATE);
    if (value) {
        write_down(d, value << 1);
    }
    char byte;
    if (gate && read(world.gates[gate - 1][0], &byte, 1) != 1) {
        return tsm_fail(t, "the gate is gone");
    }
    if (value) {
        write_down(d, value << 1 | 1);
    }
    return tsm_task_scalar(t, SCALAR_FAILS) ? tsm_fail(t, "as it was told") : 0;
}

/* The call of a job; points into the job and at `scalars`. */
static inline struct tsm_call job_call(struct job *j, uint64_t scalars[JOB_SCALARS])
{
    struct tsm_call call = {
        .callable = world.note, .chip = j->chip, .tensors = j->tensors, .after = j->after};
    scalars[SCALAR_VALUE] = j->value;
    scalars[SCALAR_GATE] = j->gate;
    scalars[SCALAR_FAILS] = j->fails;
    scalars[SCALAR_DIARY] = (uint64_t)(uintptr_t)world.diary;
    call.scalars = scalars;
    call.scalar_count = JOB_SCALARS;
    while (call.tensor_count < JOB_TENSORS && j->tensors[call.tensor_count].dtype) {
        call.tensor_count++;
    }
    while (call.after_count < JOB_AFTER && j->after[call.after_count]) {
        call.after_count++;
    }
    return call;
}

static inline int try_job(tsm_orch *o, struct job *j, tsm_task_id *ret)
{
    uint64_t scalars[JOB_SCALARS];
    struct tsm_call call = job_call(j, scalars);
    return tsm_submit(o, &call, ret);
}

/* Submits it; the test fails when that is refused. */
static inline tsm_task_id give(tsm_orch *o, struct job j)
{
    tsm_task_id id = 0;
    assert_code(world.w, try_job(o, &j, &id), 0);
    return id;
}

static inline int try_group(tsm_orch *o, struct job *jobs, uint32_t count, tsm_task_id *ret)
{
    struct tsm_call calls[64];
    uint64_t scalars[64][JOB_SCALARS];
    for (uint32_t i = 0; i < count; i++) {
        calls[i] = job_call(&jobs[i], scalars[i]);
    }
    return tsm_submit_group(o, calls, count, ret);
}

static inline tsm_task_id give_group(tsm_orch *o, struct job *jobs, uint32_t count)
{
    tsm_task_id id = 0;
    assert_code(world.w, try_group(o, jobs, count, &id), 0);
    return id;
}

/* Lets one job through the gate. */
static inline void open_gate(uint32_t gate)
{
    assert_int_equal(write(world.gates[gate - 1][1], "x", 1), 1);
}

/* ---- the diary ---- */

/* How often the entry is there; *ret_last (may be NULL): where it is last. */
static inline uint32_t entries_of(uint32_t entry, uint32_t *ret_last)
{
    uint32_t count = atomic_load(&world.diary->count);
    uint32_t n = 0;
    for (uint32_t i = 0; i < count && i < DIARY_MAX; i++) {
        if (atomic_load(&world.diary->entry[i]) == entry) {
            n++;
            if (ret_last) {
                *ret_last = i;
            }
        }
    }
    return n;
}

static inline bool has_begun(uint32_t value)
{
    return entries_of(value << 1, NULL) > 0;
}

/* Looks until the entry is there; false after half a minute. The chips get on without the program. */
static inline bool appears(uint32_t entry, uint32_t times)
{
    uint64_t until = harness_now_ns() + UINT64_C(30000000000);
    while (entries_of(entry, NULL) < times) {
        if (harness_now_ns() > until) {
            return false;
        }
        sched_yield();
    }
    return true;
}

static inline void await_begin(uint32_t value)
{
    assert_true(appears(value << 1, 1));
}

static inline void await_end(uint32_t value)
{
    assert_true(appears(value << 1 | 1, 1));
}

/* After both are done: a ended before b began. */
static inline void assert_order(uint32_t a, uint32_t b)
{
    uint32_t end = 0;
    uint32_t begin = 0;
    assert_int_equal(entries_of(a << 1 | 1, &end), 1);
    assert_int_equal(entries_of(b << 1, &begin), 1);
    assert_true(end < begin);
}

static inline void clear_diary(void)
{
    atomic_store(&world.diary->count, 0);
    memset(world.diary->entry, 0, sizeof(world.diary->entry));
}

/* ---- the worker ---- */

static inline void world_make(uint32_t chips, uint32_t subs)
{
    memset(&world, 0, sizeof(world));
    world.chips = harness_chips(chips);
    world.subs = subs;
    for (int i = 0; i < GATES; i++) {
        assert_int_equal(pipe(world.gates[i]), 0);
    }
    world.w = harness_worker(world.chips, subs);
    world.note = harness_register(world.w, "note", note);
}

static inline void world_start(void)
{
    void *data = NULL;
    harness_start(world.w);
    assert_code(world.w, tsm_buffer_create(world.w, sizeof(struct diary), &data), 0);
    world.diary = data;
    assert_code(world.w, tsm_buffer_create(world.w, MEMORY_BYTES, &data), 0);
    world.memory = data;
}

static inline void world_open(uint32_t chips, uint32_t subs)
{
    world_make(chips, subs);
    world_start();
}

static inline void world_close(void)
{
    harness_close(world.w);
    for (int i = 0; i < GATES; i++) {
        close(world.gates[i][0]);
        close(world.gates[i][1]);
    }
}

static inline void world_run(tsm_orch_fn *fn, void *arg)
{
    assert_code(world.w, tsm_worker_run(world.w, fn, arg), 0);
}

static inline struct tsm_stats stats_now(void)
{
    return help_stats(world.w);
}

/* Waits and elided waits written since `before`. */
static inline void assert_waits(const struct tsm_stats *before, uint64_t waits, uint64_t elided)
{
    struct tsm_stats now = stats_now();
    assert_int_equal(now.waits - before->waits, waits);
    assert_int_equal(now.waits_elided - before->waits_elided, elided);
}

static inline tsm_domain *make_domain(tsm_orch *o, const char *name, const int *chips,
                                      uint32_t count, uint64_t bytes)
{
    tsm_domain *d = NULL;
    assert_code(world.w, help_alloc(o, name, chips, count, bytes, &d), 0);
    return d;
}

static inline uint8_t *window_of(tsm_domain *d, int chip)
{
    struct tsm_domain_context ctx;
    assert_code(world.w, tsm_domain_context(d, chip, &ctx), 0);
    return ctx.window;
}

#endif

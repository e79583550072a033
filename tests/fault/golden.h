/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The program that the fault tests run before, during and after a fault: a producer on chip 0, a group on both
 * chips that trades through a domain's windows and signals, and a sub worker that sums up. Its result is known, so a
 * run that claims success can be held to it. Test processes.
 */
#ifndef TESTS_FAULT_GOLDEN_H
#define TESTS_FAULT_GOLDEN_H

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "chip/chip.h"
#include "harness.h"

enum { GOLDEN_CHIPS = 2, GOLDEN_SUBS = 1, GOLDEN_COUNT = 512, GOLDEN_BUSY_NS = 150000 };

/* What a run may do beside its work. */
enum golden_twist { TWIST_NONE, TWIST_MEMBER_FAILS, TWIST_SUB_FAILS, TWIST_MEMBER_DIES };

struct golden {
    tsm_worker *w;
    tsm_callable produce, trade, sum;
    uint64_t *x, *y, *out;
    uint64_t seed;
    uint64_t busy_ns; /* of every task */
    enum golden_twist twist;
};

/* As busy_ns: until those who will be woken at the task's end sleep, however long that takes on a loaded machine. */
#define GOLDEN_UNTIL_ASLEEP UINT64_MAX

static inline void golden_busy(const tsm_task *t)
{
    const struct arena *a = &t->chip->arena;
    bool until_asleep = tsm_task_scalar(t, 1) == GOLDEN_UNTIL_ASLEEP;
    uint64_t until =
        harness_now_ns() + (until_asleep ? UINT64_C(5000000000) : tsm_task_scalar(t, 1));
    while (harness_now_ns() < until) {
        bool orchestrator = a32_load(&a->hints[arena_orchestrator(a)].asleep) == 1;
        bool sub = t->chip->is_sub || a32_load(&a->hints[GOLDEN_CHIPS].asleep) == 1;
        if (until_asleep && orchestrator && sub) {
            return;
        }
        if (until_asleep) {
            sched_yield();
        }
    }
}

static inline int golden_produce(tsm_task *t)
{
    uint64_t *x = tsm_task_data(t, 0);
    for (uint64_t i = 0; i < GOLDEN_COUNT; i++) {
        x[i] = tsm_task_scalar(t, 0) * 31 + i * i;
    }
    golden_busy(t);
    return 0;
}

/* Each member sums its half, puts the sum into its peer's window, signals, waits, and combines. */
static inline int golden_trade(tsm_task *t)
{
    const uint64_t *x = tsm_task_data(t, 0);
    uint64_t *y = tsm_task_data(t, 1);
    uint64_t twist = tsm_task_scalar(t, 0);
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym box, flag;
    if (!c || tsm_buffer(c, "box", &box, NULL) != 0 || tsm_buffer(c, "flag", &flag, NULL) != 0) {
        return tsm_fail(t, "no domain");
    }
    uint32_t rank = tsm_rank(c);
    uint64_t sum = 0;
    for (uint32_t i = rank; i < GOLDEN_COUNT; i += 2) {
        sum = sum * 7 + x[i];
    }
    golden_busy(t);
    if (twist == TWIST_MEMBER_FAILS && rank == 1) {
        return tsm_fail(t, "asked to fail");
    }
    if (twist == TWIST_MEMBER_DIES && rank == 1) {
        kill(getpid(), SIGKILL);
    }
    /* The far end of the window, too: what is not zero there at the start is somebody else's. */
    uint64_t *last = tsm_ptr(c, tsm_offset(box, (GOLDEN_COUNT - 1) * 8), 1 - rank);
    *(uint64_t *)tsm_ptr(c, box, 1 - rank) = sum;
    *last += sum;
    int rc = tsm_signal(c, flag, 1, TSM_SIGNAL_ADD, 1 - rank);
    rc = rc ? rc : tsm_signal_wait_until(c, flag, TSM_EQ, 1, NULL, -1);
    if (rc == 0) {
        const uint64_t *own = tsm_ptr(c, box, rank);
        *y = sum * 3 + own[0] * 5 + own[GOLDEN_COUNT - 1] * 11;
    }
    return rc;
}

static inline int golden_sum(tsm_task *t)
{
    const uint64_t *a = tsm_task_data(t, 0);
    const uint64_t *b = tsm_task_data(t, 1);
    golden_busy(t);
    if (tsm_task_scalar(t, 0) == TWIST_SUB_FAILS) {
        return tsm_fail(t, "asked to fail");
    }
    *(uint64_t *)tsm_task_data(t, 2) = *a * 13 + *b;
    return 0;
}

static inline uint64_t golden_expected(uint64_t seed)
{
    uint64_t sum[2] = {0, 0};
    for (uint64_t i = 0; i < GOLDEN_COUNT; i++) {
        sum[i % 2] = sum[i % 2] * 7 + seed * 31 + i * i;
    }
    uint64_t y0 = sum[0] * 3 + sum[1] * 16;
    uint64_t y1 = sum[1] * 3 + sum[0] * 16;
    return y0 * 13 + y1;
}

static inline struct tsm_tensor golden_tensor(void *data, uint64_t count, int tag)
{
    return (struct tsm_tensor){
        .data = data, .dtype = TSM_U64, .tag = (uint8_t)tag, .ndim = 1, .shape = {count}};
}

static inline int golden_domain(tsm_orch *orch, tsm_domain **ret)
{
    static const int chips[] = {0, 1};
    static const struct tsm_buffer_spec buffers[] = {
        {.name = "box", .dtype = TSM_U64, .count = GOLDEN_COUNT},
        {.name = "flag", .dtype = TSM_U64, .count = 1}};
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    o.name = "golden";
    o.chips = chips;
    o.chip_count = 2;
    o.buffers = buffers;
    o.buffer_count = 2;
    o.window_bytes = 65536; /* large enough that its owners zero it */
    return tsm_domain_alloc(orch, &o, ret);
}

static inline int golden_function(tsm_orch *orch, void *arg)
{
    struct golden *g = arg;
    uint64_t seed[] = {g->seed, g->busy_ns};
    uint64_t twist[] = {g->twist, g->busy_ns};
    tsm_domain *d = NULL;
    struct tsm_tensor x = golden_tensor(g->x, GOLDEN_COUNT, TSM_OUTPUT_EXISTING);
    struct tsm_tensor ins[2][2];
    struct tsm_tensor sums[] = {golden_tensor(g->y, 1, TSM_INPUT),
                                golden_tensor(g->y + 8, 1, TSM_INPUT),
                                golden_tensor(g->out, 1, TSM_OUTPUT_EXISTING)};
    struct tsm_call first = {.callable = g->produce,
                             .tensors = &x,
                             .tensor_count = 1,
                             .scalars = seed,
                             .scalar_count = 2};
    struct tsm_call members[2];
    int rc = golden_domain(orch, &d);
    for (int m = 0; m < 2; m++) {
        ins[m][0] = golden_tensor(g->x, GOLDEN_COUNT, TSM_INPUT);
        ins[m][1] = golden_tensor(g->y + m * 8, 1, TSM_OUTPUT_EXISTING);
        members[m] = (struct tsm_call){.callable = g->trade,
                                       .chip = m,
                                       .tensors = ins[m],
                                       .tensor_count = 2,
                                       .scalars = twist,
                                       .scalar_count = 2,
                                       .domains = &d,
                                       .domain_count = 1};
    }
    struct tsm_call last = {.callable = g->sum,
                            .chip = TSM_SUB,
                            .tensors = sums,
                            .tensor_count = 3,
                            .scalars = twist,
                            .scalar_count = 2};
    rc = rc ? rc : tsm_submit(orch, &first, NULL);
    rc = rc ? rc : tsm_submit_group(orch, members, 2, NULL);
    rc = rc ? rc : tsm_domain_release(d);
    return rc ? rc : tsm_submit(orch, &last, NULL);
}

/* A created worker with its callables, not started. */
static inline void golden_create(struct golden *g)
{
    memset(g, 0, sizeof(*g));
    g->busy_ns = GOLDEN_BUSY_NS;
    g->w = harness_worker(GOLDEN_CHIPS, GOLDEN_SUBS);
    g->produce = harness_register(g->w, "produce", golden_produce);
    g->trade = harness_register(g->w, "trade", golden_trade);
    g->sum = harness_register(g->w, "sum", golden_sum);
}

/* After the start. */
static inline int golden_buffers(struct golden *g)
{
    void *p[3] = {NULL, NULL, NULL};
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = tsm_buffer_create(g->w, GOLDEN_COUNT * 8, &p[i]);
    }
    g->x = p[0];
    g->y = p[1];
    g->out = p[2];
    return rc;
}

static inline void golden_start(struct golden *g)
{
    harness_start(g->w);
    assert_code(g->w, golden_buffers(g), 0);
}

/* One run. When it returns 0 the result is right, or the test has failed. */
static inline int golden_run(struct golden *g, enum golden_twist twist)
{
    g->seed++;
    g->twist = twist;
    *g->out = 0;
    int rc = tsm_worker_run(g->w, golden_function, g);
    if (rc == 0 && *g->out != golden_expected(g->seed)) {
        fail_msg("the result is %llx instead of %llx", (unsigned long long)*g->out,
                 (unsigned long long)golden_expected(g->seed));
    }
    return rc;
}

static inline void golden_exact(struct golden *g)
{
    assert_code(g->w, golden_run(g, TWIST_NONE), 0);
}

/* Until `deaths` children have died and all places are filled again; fails the test after five seconds. */
static inline void golden_wait_whole(struct golden *g, uint64_t deaths)
{
    uint64_t deadline = harness_now_ns() + UINT64_C(5000000000);
    for (;;) {
        struct tsm_stats s;
        bool whole = true;
        tsm_worker_stats(g->w, &s);
        for (int place = 0; place < GOLDEN_CHIPS + GOLDEN_SUBS; place++) {
            whole = whole && tsm_worker_pid(g->w, place) != 0;
        }
        if (whole && s.deaths >= deaths) {
            return;
        }
        if (harness_now_ns() > deadline) {
            fail_msg("%llu of %llu deaths, and not all replaced: %s", (unsigned long long)s.deaths,
                     (unsigned long long)deaths, tsm_worker_error(g->w)->text);
        }
        sched_yield();
    }
}

#endif

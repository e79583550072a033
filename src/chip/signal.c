/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Signals: words in windows, and the waits of a task. Who waits looks first, then spins and sleeps (shm/wake.h) with
 * its wish in its wait record, where the deadlock check reads it. Chip processes, inside a task. docs/task.md.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/fault.h"
#include "chip/chaos.h"

static inline bool is_comparison(int cmp)
{
    return cmp >= TSM_EQ && cmp <= TSM_LE;
}

/* ---- sending ---- */

int tsm_signal(tsm_ctx *c, tsm_sym s, uint64_t value, int op, uint32_t rank)
{
    int code = 0;
    int plain = op & ~TSM_SIGNAL_STRONG;
    void *word = word_at(c, s, rank, 8, &code);
    if (!word) {
        return code;
    }
    if (plain != TSM_SIGNAL_SET && plain != TSM_SIGNAL_ADD) {
        return ctx_refuse(c, TSM_EINVAL, "op %d of a signal", op);
    }
    enum change how = plain == TSM_SIGNAL_SET ? CHANGE_SET : CHANGE_ADD;
    TSM_FAULT("signal");
    if (chaos_armed) {
        enum word_kind kind = op & TSM_SIGNAL_STRONG ? WORD_STRONG : WORD_SIGNAL;
        chaos_word(c, rank, &(struct word){word, value, 8, how, kind});
        return 0;
    }
    word_change(word, 8, how, value); /* pairs with look_word */
    wake_rank(c, rank);
    return 0;
}

/* ---- waiting for one ---- */

/* Why a wait has to end before its word is there, or 0. */
static inline int broken(const tsm_ctx *c)
{
    return run_is_aborted(c->chip, c->task->rec->run) ? TSM_EABORTED
           : domain_is_aborted(c)                     ? TSM_EPEER
                                                      : 0;
}

static int look_word(void *ctx)
{
    struct task_wait *w = ctx;
    w->seen = a64_acquire(w->word); /* pairs with word_change, and the stamps of channels */
    if (compare_holds(w->cmp, w->seen, w->value)) {
        return 1;
    }
    int rc = broken(w->c);
    if (rc == 0 && w->hopeless && waiter_is_registered(&w->c->chip->waiter) && w->hopeless(w)) {
        return TSM_EINVAL;
    }
    return rc;
}

static int sleep_until(tsm_ctx *c, const struct want *want, int (*look)(void *ctx), void *ctx)
{
    if (chaos_armed) {
        chaos_sleep(c);
    }
    int rc = wait_for(&c->chip->waiter, want, look, ctx);
    return rc == -ETIMEDOUT ? TSM_ETIMEOUT : rc == 1 ? 0 : rc;
}

/* 0: no limit. */
static inline uint64_t deadline_of(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return 0;
    }
    uint64_t now = clock_ns();
    return now + (uint64_t)timeout_ns;
}

static int wait_slow(tsm_ctx *c, struct task_wait *w, uint64_t deadline_ns)
{
    struct want want = {.kind = WAIT_SIGNAL,
                        .place = c->chip->place,
                        .compare = w->cmp,
                        .rank = c->self,
                        .value = w->value,
                        .address = (uint64_t)(uintptr_t)w->word,
                        .domain = c->desc->id,
                        .task = c->task->rec->task,
                        .run = c->task->rec->run,
                        .deadline_ns = deadline_ns};
    return sleep_until(c, &want, look_word, w);
}

int task_wait_word(struct task_wait *w, uint64_t deadline_ns)
{
    w->seen = a64_acquire(w->word);
    return compare_holds(w->cmp, w->seen, w->value) ? 0 : wait_slow(w->c, w, deadline_ns);
}

int tsm_signal_wait_until(tsm_ctx *c, tsm_sym s, int cmp, uint64_t value, uint64_t *seen,
                          int64_t timeout_ns)
{
    int code = 0;
    const a64 *word = word_at(c, s, c->rank, 8, &code);
    if (!word) {
        return code;
    }
    if (!is_comparison(cmp)) {
        return ctx_refuse(c, TSM_EINVAL, "cmp %d", cmp);
    }
    struct task_wait w = {.c = c, .word = word, .value = value, .cmp = (uint32_t)cmp};
    w.seen = a64_acquire(word);
    int rc = 0;
    if (!compare_holds(w.cmp, w.seen, value)) {
        rc = task_wait_word(&w, deadline_of(timeout_ns));
    }
    if (seen) {
        *seen = w.seen;
    }
    return rc;
}

/* ---- several ---- */

/* A list of signals in the own window, whose places have been checked. */
struct several {
    const tsm_ctx *c;
    const tsm_sym *list;
    uint64_t value;
    uint32_t count, cmp;
    uint32_t which;
};

static inline const a64 *word_of(const struct several *s, uint32_t i)
{
    return (const a64 *)(const void *)(window_of(s->c, s->c->self) + s->list[i].offset);
}

static int check_several(const struct several *s)
{
    int code = 0;
    if (!is_comparison((int)s->cmp)) {
        return ctx_refuse(s->c, TSM_EINVAL, "cmp %d", (int)s->cmp);
    }
    if (!s->list && s->count > 0) {
        return ctx_refuse(s->c, TSM_EINVAL, "a list of %u signals that is NULL", s->count);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (!word_at(s->c, s->list[i], s->c->rank, 8, &code)) {
            return code;
        }
    }
    return 0;
}

static int check_any(const struct several *s, const uint32_t *which)
{
    return s->count == 0 ? ctx_refuse(s->c, TSM_EINVAL, "any of 0 signals")
           : !which      ? ctx_refuse(s->c, TSM_EINVAL, "which is NULL")
                         : check_several(s);
}

static inline bool holds(const struct several *s, uint32_t i)
{
    return compare_holds(s->cmp, a64_acquire(word_of(s, i)), s->value); /* pairs with word_change */
}

static bool find_any(struct several *s)
{
    for (s->which = 0; s->which < s->count; s->which++) {
        if (holds(s, s->which)) {
            return true;
        }
    }
    return false;
}

static int look_any(void *ctx)
{
    struct several *s = ctx;
    return find_any(s) ? 1 : broken(s->c);
}

int tsm_signal_wait_all(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value,
                        int64_t timeout_ns)
{
    struct several all = {c, s, value, count, (uint32_t)cmp, 0};
    uint64_t deadline_ns = 0;
    int rc = check_several(&all);
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        if (!holds(&all, i)) {
            struct task_wait w = {
                .c = c, .word = word_of(&all, i), .value = value, .cmp = (uint32_t)cmp};
            deadline_ns = deadline_ns != 0 ? deadline_ns : deadline_of(timeout_ns);
            rc = wait_slow(c, &w, deadline_ns);
        }
    }
    return rc;
}

int tsm_signal_wait_any(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value,
                        uint32_t *which, int64_t timeout_ns)
{
    struct several any = {c, s, value, count, (uint32_t)cmp, 0};
    int rc = check_any(&any, which);
    if (rc == 0 && !find_any(&any)) {
        struct want want = {.kind = WAIT_SIGNALS,
                            .place = count,
                            .compare = any.cmp,
                            .rank = c->self,
                            .value = value,
                            .address = (uint64_t)(uintptr_t)word_of(&any, 0),
                            .domain = c->desc->id,
                            .task = c->task->rec->task,
                            .run = c->task->rec->run,
                            .deadline_ns = deadline_of(timeout_ns)};
        rc = sleep_until(c, &want, look_any, &any);
    }
    if (rc == 0) {
        *which = any.which;
    }
    return rc;
}

/* ---- looking ---- */

int tsm_signal_fetch(tsm_ctx *c, tsm_sym s, uint64_t *ret)
{
    int code = 0;
    const a64 *word = word_at(c, s, c->rank, 8, &code);
    if (!word) {
        return code;
    }
    if (!ret) {
        return ctx_refuse(c, TSM_EINVAL, "ret is NULL");
    }
    if (chaos_armed) {
        chaos_step(c);
    }
    *ret = a64_acquire(word); /* pairs with word_change */
    return 0;
}

int tsm_signal_test(tsm_ctx *c, tsm_sym s, int cmp, uint64_t value, uint64_t *seen)
{
    uint64_t now = 0;
    int rc = is_comparison(cmp) ? tsm_signal_fetch(c, s, &now)
                                : ctx_refuse(c, TSM_EINVAL, "cmp %d", cmp);
    if (rc != 0) {
        return rc;
    }
    if (seen) {
        *seen = now;
    }
    return compare_holds((uint32_t)cmp, now, value);
}

int tsm_signal_test_all(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value)
{
    struct several all = {c, s, value, count, (uint32_t)cmp, 0};
    int rc = check_several(&all);
    if (rc != 0) {
        return rc;
    }
    if (chaos_armed) {
        chaos_step(c);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!holds(&all, i)) {
            return 0;
        }
    }
    return 1;
}

int tsm_signal_test_any(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value,
                        uint32_t *which)
{
    struct several any = {c, s, value, count, (uint32_t)cmp, 0};
    int rc = check_any(&any, which);
    if (rc != 0) {
        return rc;
    }
    if (chaos_armed) {
        chaos_step(c);
    }
    if (!find_any(&any)) {
        return 0;
    }
    *which = any.which;
    return 1;
}

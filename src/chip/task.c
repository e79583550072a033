/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The task side (task.h): reading arguments, reaching windows, signals. Runs in chip and sub processes, inside a
 * task. Owns nothing; what it reads is the record, what it writes is windows. docs/task.md.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "chip/chip.h"

/* ---- arguments ---- */

void task_init(tsm_task *t, struct chip *c, const struct record *rec)
{
    t->chip = c;
    t->rec = rec;
    t->failed = false;
    t->text[0] = 0;
    const uint8_t *at = (const uint8_t *)(rec + 1) + rec->wait_count * sizeof(struct record_wait);
    t->domains = (const struct record_domain *)at;
    at += rec->domain_count * sizeof(struct record_domain);
    t->scalars = (const uint64_t *)at;
    at += rec->scalar_count * sizeof(uint64_t);
    t->tensor_offsets = (const uint16_t *)at;
}

uint32_t tsm_task_tensor_count(const tsm_task *t)
{
    return t->rec->tensor_count;
}

uint32_t tsm_task_scalar_count(const tsm_task *t)
{
    return t->rec->scalar_count;
}

uint32_t tsm_task_domain_count(const tsm_task *t)
{
    return t->rec->domain_count;
}

static const struct record_tensor *tensor_at(const tsm_task *t, uint32_t i)
{
    if (i >= t->rec->tensor_count) {
        return NULL;
    }
    return (const struct record_tensor *)((const uint8_t *)t->rec + t->tensor_offsets[i] * 8u);
}

int tsm_task_tensor(const tsm_task *t, uint32_t i, struct tsm_tensor *ret)
{
    const struct record_tensor *x = tensor_at(t, i);
    if (!x) {
        return TSM_ERANGE;
    }
    const uint64_t *shape = (const uint64_t *)(x + 1);
    memset(ret, 0, sizeof(*ret));
    ret->data = (void *)(uintptr_t)x->data;
    ret->dtype = x->dtype;
    ret->tag = x->tag;
    ret->ndim = x->ndim;
    ret->stride_given = 1;
    memcpy(ret->shape, shape, x->ndim * sizeof(uint64_t));
    memcpy(ret->strides, shape + x->ndim, x->ndim * sizeof(int64_t));
    return 0;
}

void *tsm_task_data(const tsm_task *t, uint32_t i)
{
    const struct record_tensor *x = tensor_at(t, i);
    return x ? (void *)(uintptr_t)x->data : NULL;
}

uint64_t tsm_task_scalar(const tsm_task *t, uint32_t i)
{
    return i < t->rec->scalar_count ? t->scalars[i] : 0;
}

float tsm_task_f32(const tsm_task *t, uint32_t i)
{
    uint32_t bits = (uint32_t)tsm_task_scalar(t, i);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double tsm_task_f64(const tsm_task *t, uint32_t i)
{
    uint64_t bits = tsm_task_scalar(t, i);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

int tsm_task_chip(const tsm_task *t)
{
    return (int)t->chip->place;
}

tsm_task_id tsm_task_self(const tsm_task *t)
{
    return t->rec->task;
}

uint64_t tsm_task_run(const tsm_task *t)
{
    return t->rec->run;
}

uint32_t tsm_task_member(const tsm_task *t)
{
    return t->rec->member;
}

uint32_t tsm_task_members(const tsm_task *t)
{
    return t->rec->members;
}

uint32_t tsm_task_blocks(const tsm_task *t)
{
    return t->rec->blocks;
}

int tsm_fail(tsm_task *t, const char *format, ...)
{
    if (!t->failed) {
        va_list ap;
        va_start(ap, format);
        vsnprintf(t->text, sizeof(t->text), format, ap);
        va_end(ap);
        t->failed = true;
    }
    return TSM_ETASK_FAILED;
}

/* ---- domains ---- */

static int reserve_ctxs(struct chip *c, uint32_t count)
{
    if (count > c->ctx_count) {
        tsm_ctx *more = calloc(count, sizeof(*more));
        if (!more) {
            return TSM_ENOMEM;
        }
        free(c->ctxs);
        c->ctxs = more;
        c->ctx_count = count;
    }
    return 0;
}

tsm_ctx *tsm_task_domain(tsm_task *t, uint32_t i)
{
    struct chip *c = t->chip;
    if (i >= t->rec->domain_count || reserve_ctxs(c, t->rec->domain_count) != 0) {
        return NULL;
    }
    const struct domain_desc *desc = (const struct domain_desc *)(uintptr_t)t->domains[i].desc;
    const uint32_t *members = (const uint32_t *)((const uint8_t *)desc + desc->members_offset);
    for (uint32_t rank = 0; rank < desc->size; rank++) {
        if (members[rank] == c->place) {
            c->ctxs[i] = (tsm_ctx){c, t, desc, members, rank, t->domains[i].generation};
            return &c->ctxs[i];
        }
    }
    return NULL;
}

uint32_t tsm_rank(const tsm_ctx *c)
{
    return c->rank;
}

uint32_t tsm_size(const tsm_ctx *c)
{
    return c->desc->size;
}

int tsm_buffer(const tsm_ctx *c, const char *name, tsm_sym *ret, uint64_t *bytes)
{
    const struct desc_buffer *b =
        (const struct desc_buffer *)((const uint8_t *)c->desc + c->desc->buffers_offset);
    for (uint32_t i = 0; i < c->desc->buffer_count; i++) {
        if (strcmp(b[i].name, name) == 0) {
            *ret = (tsm_sym){b[i].offset, c->desc->window, c->generation};
            if (bytes) {
                *bytes = b[i].bytes;
            }
            return 0;
        }
    }
    return TSM_ENOENT;
}

int tsm_at(const tsm_ctx *c, uint64_t offset, tsm_sym *ret)
{
    if (offset >= c->desc->window_bytes) {
        return TSM_ERANGE;
    }
    *ret = (tsm_sym){offset, c->desc->window, c->generation};
    return 0;
}

tsm_sym tsm_offset(tsm_sym s, uint64_t bytes)
{
    s.offset += bytes;
    return s;
}

static uint8_t *window_of(const tsm_ctx *c, uint32_t rank)
{
    return (uint8_t *)(uintptr_t)(c->desc->base + rank * c->desc->stride);
}

void *sym_address(const tsm_ctx *c, tsm_sym s, uint32_t rank, uint64_t bytes, int *ret_code)
{
    if (s.window != c->desc->window || s.generation != c->generation ||
        c->desc->generation != c->generation) {
        *ret_code = TSM_ESTALE;
        return NULL;
    }
    if (rank >= c->desc->size || s.offset > c->desc->window_bytes ||
        bytes > c->desc->window_bytes - s.offset) {
        *ret_code = TSM_ERANGE;
        return NULL;
    }
    return window_of(c, rank) + s.offset;
}

void *tsm_ptr(const tsm_ctx *c, tsm_sym s, uint32_t rank)
{
    int code;
    return sym_address(c, s, rank, 1, &code);
}

int tsm_notify(tsm_ctx *c, uint32_t rank)
{
    if (rank >= c->desc->size) {
        return TSM_ERANGE;
    }
    wake_place(&c->chip->arena, c->members[rank]);
    return 0;
}

/* ---- signals ---- */

/* The word of a signal, or NULL and the code. */
static a64 *signal_word(const tsm_ctx *c, tsm_sym s, uint32_t rank, int *ret_code)
{
    if (s.offset % 8 != 0) {
        *ret_code = TSM_EINVAL;
        return NULL;
    }
    return sym_address(c, s, rank, 8, ret_code);
}

int tsm_signal(tsm_ctx *c, tsm_sym s, uint64_t value, int op, uint32_t rank)
{
    int code = 0;
    a64 *word = signal_word(c, s, rank, &code);
    if (!word) {
        return code;
    }
    TSM_FAULT("signal");
    if (op == TSM_SIGNAL_SET) {
        a64_release(word, value); /* pairs with the acquire of look_signal */
    } else if (op == TSM_SIGNAL_ADD) {
        atomic_fetch_add_explicit(word, value, memory_order_release);
    } else {
        return TSM_EINVAL;
    }
    wake_place(&c->chip->arena, c->members[rank]);
    return 0;
}

int tsm_signal_fetch(tsm_ctx *c, tsm_sym s, uint64_t *ret)
{
    int code = 0;
    const a64 *word = signal_word(c, s, c->rank, &code);
    if (word) {
        *ret = a64_acquire(word);
    }
    return code;
}

struct signal_wait {
    const struct chip *c;
    const a64 *word;
    uint64_t run, value, seen;
    int cmp;
};

static int look_signal(void *ctx)
{
    struct signal_wait *w = ctx;
    w->seen = a64_acquire(w->word); /* pairs with tsm_signal */
    if (compare_holds((uint32_t)w->cmp, w->seen, w->value)) {
        return 1;
    }
    return run_is_aborted(w->c, w->run) ? TSM_EABORTED : 0;
}

int task_wait_signal(tsm_ctx *c, const a64 *word, int cmp, uint64_t value, uint64_t *seen,
                     int64_t timeout_ns)
{
    struct signal_wait w = {c->chip, word, c->task->rec->run, value, 0, cmp};
    int rc = look_signal(&w);
    if (rc == 0) {
        struct want want = {.kind = WAIT_SIGNAL,
                            .place = c->chip->place,
                            .compare = (uint32_t)cmp,
                            .rank = c->rank,
                            .value = value,
                            .address = (uint64_t)(uintptr_t)word,
                            .domain = c->desc->id,
                            .task = c->task->rec->task,
                            .run = c->task->rec->run};
        if (timeout_ns >= 0) {
            want.deadline_ns = clock_ns() + (uint64_t)timeout_ns;
        }
        rc = wait_for(&c->chip->waiter, &want, look_signal, &w);
    }
    if (seen) {
        *seen = w.seen;
    }
    if (rc == -ETIMEDOUT) {
        return TSM_ETIMEOUT;
    }
    return rc == 1 ? 0 : rc;
}

int tsm_signal_wait_until(tsm_ctx *c, tsm_sym s, int cmp, uint64_t value, uint64_t *seen,
                          int64_t timeout_ns)
{
    int code = 0;
    const a64 *word = signal_word(c, s, c->rank, &code);
    if (!word) {
        return code;
    }
    if (cmp < TSM_EQ || cmp > TSM_LE) {
        return TSM_EINVAL;
    }
    return task_wait_signal(c, word, cmp, value, seen, timeout_ns);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The task side (task.h): the arguments of a task, its failure, its own operations. Runs in chip and sub processes,
 * inside a task. Owns what the task made through it, until it ends; what it reads is the record. docs/task.md.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chip/chaos.h"
#include "chip/chip.h"

/* ---- arguments ---- */

void task_init(tsm_task *t, struct chip *c, const struct record *rec)
{
    t->chip = c;
    t->rec = rec;
    t->groups = NULL;
    t->op_count = 0;
    t->arg = NULL;
    t->fail_data_bytes = 0;
    t->failed = false;
    t->refused = 0;
    t->text[0] = 0;
    const uint8_t *at = (const uint8_t *)(rec + 1) + rec->wait_count * sizeof(struct record_wait);
    t->domains = (const struct record_domain *)at;
    at += rec->domain_count * sizeof(struct record_domain);
    t->scalars = (const uint64_t *)at;
    at += rec->scalar_count * sizeof(uint64_t);
    t->tensor_offsets = (const uint16_t *)at;
    for (uint32_t i = 0; i < c->ctx_count; i++) {
        c->ctxs[i].task = NULL;
    }
}

void task_fini(tsm_task *t)
{
    chaos_task_end(t);
    while (t->groups) {
        tsm_ctx *next = t->groups->next;
        free(t->groups);
        t->groups = next;
    }
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

void *tsm_task_arg(const tsm_task *t)
{
    return t->arg;
}

/* ---- failure ---- */

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

_Static_assert(TSM_FAIL_DATA_MAX == FAIL_DATA_MAX, "the page has room for it");

int tsm_fail_data(tsm_task *t, const void *data, uint64_t bytes, const char *format, ...)
{
    if (bytes > FAIL_DATA_MAX || (bytes != 0 && !data)) {
        if (!t->failed) {
            t->refused = TSM_EINVAL;
            snprintf(t->text, sizeof(t->text), "tsm_fail_data: bytes is %llu%s",
                     (unsigned long long)bytes, data ? "" : ", data is NULL");
        }
        return TSM_EINVAL;
    }
    if (!t->failed) {
        va_list ap;
        va_start(ap, format);
        vsnprintf(t->text, sizeof(t->text), format, ap);
        va_end(ap);
        if (bytes != 0) {
            memcpy(t->chip->page->fail_data[t->rec->run % RUN_SLOTS], data, bytes);
        }
        t->fail_data_bytes = (uint32_t)bytes;
        t->failed = true;
    }
    return TSM_ETASK_FAILED;
}

int tsm_op_user(tsm_task *t, tsm_combine_fn *combine, void *arg, int *ret)
{
    if (!combine || !ret) {
        return TSM_EINVAL;
    }
    if (t->op_count == USER_OPS) {
        return TSM_ENOSPC;
    }
    t->ops[t->op_count].combine = combine;
    t->ops[t->op_count].arg = arg;
    *ret = OP_USER + (int)t->op_count++;
    return 0;
}

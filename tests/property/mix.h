/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What a task of a random program does: it mixes all that it reads with its number and writes what follows from that.
 * The chips run it as a task, the model calls mix_tensors.
 */
#ifndef TESTS_PROPERTY_MIX_H
#define TESTS_PROPERTY_MIX_H

#include "harness.h"

enum { WORD = 4, TENSORS = 5 };
enum scalar { NUMBER, SPIN_NS, NO_DEP_WRITES, BARRIER, CHIP };

static inline uint64_t stir(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

typedef void mix_visit_fn(uint32_t *word, void *ctx);

static inline void each_word(const struct tsm_tensor *t, mix_visit_fn *visit, void *ctx)
{
    uint64_t index[TSM_DIMS_MAX] = {0};
    for (uint32_t d = 0; d < t->ndim; d++) {
        if (t->shape[d] == 0) {
            return;
        }
    }
    for (;;) {
        int64_t offset = 0;
        for (uint32_t d = 0; d < t->ndim; d++) {
            offset += (int64_t)index[d] * t->strides[d];
        }
        visit((uint32_t *)((uint8_t *)t->data + offset), ctx);
        uint32_t d = t->ndim;
        while (d > 0 && ++index[d - 1] == t->shape[d - 1]) {
            index[--d] = 0;
        }
        if (d == 0) {
            return;
        }
    }
}

static inline void read_word(uint32_t *word, void *ctx)
{
    uint64_t *h = ctx;
    *h = stir(*h, *word);
}

static inline void write_word(uint32_t *word, void *ctx)
{
    uint64_t *h = ctx;
    *h = stir(*h, 1);
    *word = (uint32_t)(*h >> 32);
}

/* Reads everything, then writes everything: the model runs it, too. */
static inline void mix_tensors(const struct tsm_tensor *t, uint32_t count, const uint64_t *scalars)
{
    uint64_t h = stir(77, scalars[NUMBER]);
    for (uint32_t i = 0; i < count; i++) {
        bool written = scalars[NO_DEP_WRITES] >> i & 1;
        if (t[i].tag == TSM_INPUT || t[i].tag == TSM_INOUT ||
            (t[i].tag == TSM_NO_DEP && !written)) {
            each_word(&t[i], read_word, &h);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        bool written = scalars[NO_DEP_WRITES] >> i & 1;
        if (t[i].tag != TSM_INPUT && (t[i].tag != TSM_NO_DEP || written)) {
            each_word(&t[i], write_word, &h);
        }
    }
}

static inline void spin(uint64_t ns)
{
    uint64_t until = ns ? harness_now_ns() + ns : 0;
    while (ns && harness_now_ns() < until) {
    }
}

static inline int mix(tsm_task *task)
{
    struct tsm_tensor t[TENSORS];
    uint64_t scalars[5];
    uint32_t count = tsm_task_tensor_count(task);
    for (uint32_t i = 0; i < 5; i++) {
        scalars[i] = tsm_task_scalar(task, i);
    }
    for (uint32_t i = 0; i < count; i++) {
        tsm_task_tensor(task, i, &t[i]);
    }
    if ((int)scalars[CHIP] >= 0 && (int)scalars[CHIP] != tsm_task_chip(task)) {
        return tsm_fail(task, "meant for chip %d", (int)scalars[CHIP]);
    }
    if (scalars[BARRIER]) {
        tsm_ctx *ctx = tsm_task_domain(task, 0);
        int rc = ctx ? tsm_barrier(ctx) : TSM_ENOENT;
        if (rc != 0) {
            return rc;
        }
    }
    spin(scalars[SPIN_NS] / 2);
    mix_tensors(t, count, scalars);
    spin(scalars[SPIN_NS] / 2);
    return 0;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The arithmetic of reductions: acc = acc op from, element by element, in the order the caller gives. f16 and bf16
 * are kept in f32 between the first and the last step. docs/task.md.
 */
#ifndef CHIP_COMBINE_H
#define CHIP_COMBINE_H

#include <stdint.h>

#include "transom/task.h"

/* One operation on one type. */
struct combine {
    uint64_t element; /* bytes in memory */
    uint64_t wide;    /* bytes in the accumulator */
    /* acc[i] = from[i], widened. */
    void (*load)(void *acc, const void *from, uint64_t count);
    /* acc[i] = acc[i] op from[i]; NULL: `user`. */
    void (*add)(void *acc, const void *from, uint64_t count);
    /* acc[i] = lower[i] op from[i], in one go; NULL with `user`. */
    void (*first)(void *acc, const void *lower, const void *from, uint64_t count);
    /* acc[i] = ((acc[i] op from[0][i]) op from[1][i]) op from[2][i]; NULL with `user`. */
    void (*three)(void *acc, const void *const from[3], uint64_t count);
    /* to[i] = acc[i], rounded to the type. */
    void (*store)(void *to, const void *acc, uint64_t count);
    tsm_combine_fn *user;
    void *user_arg;
    int dtype;
};

/* op: enum tsm_op. Returns: TSM_EINVAL (no such type or operation), TSM_EUNSUPPORTED (the type does not have it). */
int combine_find(int dtype, int op, struct combine *ret);
/* The same with one of the instruction sets that the processor has, 0 (any processor) .. combine_variants() - 1. */
uint32_t combine_variants(void);
int combine_find_variant(uint32_t variant, int dtype, int op, struct combine *ret);
/* An operation of the user's, on elements as they are in memory. */
int combine_find_user(int dtype, tsm_combine_fn *user, void *arg, struct combine *ret);

static inline void combine_add(const struct combine *x, void *acc, const void *from, uint64_t count)
{
    if (x->add) {
        x->add(acc, from, count);
    } else {
        x->user(acc, from, count, x->dtype, x->user_arg);
    }
}

static inline void combine_first(const struct combine *x, void *acc, const void *lower,
                                 const void *from, uint64_t count)
{
    if (x->first) {
        x->first(acc, lower, from, count);
    } else {
        x->load(acc, lower, count);
        combine_add(x, acc, from, count);
    }
}

#endif

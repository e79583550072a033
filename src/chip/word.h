/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * One word of a window: finding it, changing it, waking its owner. What p, signals and atomics share. Chip
 * processes, inside a task.
 */
#ifndef CHIP_WORD_H
#define CHIP_WORD_H

#include "chip/chip.h"

enum change { CHANGE_SET, CHANGE_ADD, CHANGE_AND, CHANGE_OR, CHANGE_XOR };

/* The aligned word of `bytes` (4 or 8) at s in rank's window, or NULL and the code. */
static inline void *word_at(const tsm_ctx *c, tsm_sym s, uint32_t rank, uint32_t bytes,
                            int *ret_code)
{
    if (s.offset % bytes != 0) {
        *ret_code = ctx_refuse(c, TSM_EINVAL, "a word of %u bytes at offset %llu", bytes,
                               (unsigned long long)s.offset);
        return NULL;
    }
    return sym_address(c, s, rank, bytes, ret_code);
}

/* After a change of rank's window: one full fence and a look at its hint. */
static inline void wake_rank(const tsm_ctx *c, uint32_t rank)
{
    wake_place(&c->chip->arena, c->members[domain_rank(c, rank)]);
}

/* Release: pairs with the acquire of who waits for the word or fetches it. */
static inline void word_change(void *word, uint32_t bytes, enum change how, uint64_t value)
{
    const memory_order order = memory_order_release;
    a64 *wide = word;
    a32 *narrow = word;
    uint32_t v = (uint32_t)value;
    bool is_wide = bytes == 8;
    switch (how) {
    case CHANGE_SET:
        is_wide ? a64_release(wide, value) : a32_release(narrow, v);
        break;
    case CHANGE_ADD:
        is_wide ? atomic_fetch_add_explicit(wide, value, order)
                : atomic_fetch_add_explicit(narrow, v, order);
        break;
    case CHANGE_AND:
        is_wide ? atomic_fetch_and_explicit(wide, value, order)
                : atomic_fetch_and_explicit(narrow, v, order);
        break;
    case CHANGE_OR:
        is_wide ? atomic_fetch_or_explicit(wide, value, order)
                : atomic_fetch_or_explicit(narrow, v, order);
        break;
    default:
        is_wide ? atomic_fetch_xor_explicit(wide, value, order)
                : atomic_fetch_xor_explicit(narrow, v, order);
    }
}

#endif

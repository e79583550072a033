/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Atomics on words of any window: the processor's own, since every window is memory of this host. Those that answer
 * act at once; the others are held back in chaos mode. Chip processes, inside a task. docs/task.md.
 */
#include "chip/chaos.h"

/* ---- without an answer ---- */

static inline int change(tsm_ctx *c, tsm_sym s, uint32_t bytes, enum change how, uint64_t value,
                         uint32_t rank)
{
    int code = 0;
    void *word = word_at(c, s, rank, bytes, &code);
    if (!word) {
        return code;
    }
    if (chaos_armed) {
        chaos_word(c, rank, &(struct word){word, value, bytes, how, WORD_ATOMIC});
        return 0;
    }
    word_change(word, bytes, how, value);
    wake_rank(c, rank);
    return 0;
}

int tsm_atomic_set_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank)
{
    return change(c, s, 4, CHANGE_SET, value, rank);
}

int tsm_atomic_set_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank)
{
    return change(c, s, 8, CHANGE_SET, value, rank);
}

int tsm_atomic_add_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank)
{
    return change(c, s, 4, CHANGE_ADD, value, rank);
}

int tsm_atomic_add_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank)
{
    return change(c, s, 8, CHANGE_ADD, value, rank);
}

int tsm_atomic_and_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank)
{
    return change(c, s, 4, CHANGE_AND, value, rank);
}

int tsm_atomic_and_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank)
{
    return change(c, s, 8, CHANGE_AND, value, rank);
}

int tsm_atomic_or_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank)
{
    return change(c, s, 4, CHANGE_OR, value, rank);
}

int tsm_atomic_or_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank)
{
    return change(c, s, 8, CHANGE_OR, value, rank);
}

int tsm_atomic_xor_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank)
{
    return change(c, s, 4, CHANGE_XOR, value, rank);
}

int tsm_atomic_xor_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank)
{
    return change(c, s, 8, CHANGE_XOR, value, rank);
}

/* ---- with an answer ---- */

/* The word, in chaos mode behind what a fence has put before it; NULL and the code. */
static inline void *answering(tsm_ctx *c, tsm_sym s, const void *ret, uint32_t bytes, uint32_t rank,
                              int *ret_code)
{
    void *word = word_at(c, s, rank, bytes, ret_code);
    if (word && !ret) {
        *ret_code = ctx_refuse(c, TSM_EINVAL, "the result is NULL");
        return NULL;
    }
    if (word && chaos_armed) {
        chaos_settle(c, rank);
    }
    return word;
}

static inline int fetch_change32(tsm_ctx *c, tsm_sym s, enum change how, uint32_t value,
                                 uint32_t *old, uint32_t rank)
{
    int code = 0;
    a32 *word = answering(c, s, old, 4, rank, &code);
    if (!word) {
        return code;
    }
    switch (how) {
    case CHANGE_SET:
        *old = atomic_exchange(word, value);
        break;
    case CHANGE_ADD:
        *old = atomic_fetch_add(word, value);
        break;
    case CHANGE_AND:
        *old = atomic_fetch_and(word, value);
        break;
    case CHANGE_OR:
        *old = atomic_fetch_or(word, value);
        break;
    default:
        *old = atomic_fetch_xor(word, value);
    }
    wake_rank(c, rank);
    return 0;
}

static inline int fetch_change64(tsm_ctx *c, tsm_sym s, enum change how, uint64_t value,
                                 uint64_t *old, uint32_t rank)
{
    int code = 0;
    a64 *word = answering(c, s, old, 8, rank, &code);
    if (!word) {
        return code;
    }
    switch (how) {
    case CHANGE_SET:
        *old = atomic_exchange(word, value);
        break;
    case CHANGE_ADD:
        *old = atomic_fetch_add(word, value);
        break;
    case CHANGE_AND:
        *old = atomic_fetch_and(word, value);
        break;
    case CHANGE_OR:
        *old = atomic_fetch_or(word, value);
        break;
    default:
        *old = atomic_fetch_xor(word, value);
    }
    wake_rank(c, rank);
    return 0;
}

int tsm_atomic_fetch_u32(tsm_ctx *c, tsm_sym s, uint32_t *ret, uint32_t rank)
{
    int code = 0;
    const a32 *word = answering(c, s, ret, 4, rank, &code);
    if (word) {
        *ret = a32_acquire(word); /* pairs with word_change */
    }
    return code;
}

int tsm_atomic_fetch_u64(tsm_ctx *c, tsm_sym s, uint64_t *ret, uint32_t rank)
{
    int code = 0;
    const a64 *word = answering(c, s, ret, 8, rank, &code);
    if (word) {
        *ret = a64_acquire(word); /* pairs with word_change */
    }
    return code;
}

int tsm_atomic_fetch_add_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank)
{
    return fetch_change32(c, s, CHANGE_ADD, value, old, rank);
}

int tsm_atomic_fetch_add_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank)
{
    return fetch_change64(c, s, CHANGE_ADD, value, old, rank);
}

int tsm_atomic_fetch_and_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank)
{
    return fetch_change32(c, s, CHANGE_AND, value, old, rank);
}

int tsm_atomic_fetch_and_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank)
{
    return fetch_change64(c, s, CHANGE_AND, value, old, rank);
}

int tsm_atomic_fetch_or_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank)
{
    return fetch_change32(c, s, CHANGE_OR, value, old, rank);
}

int tsm_atomic_fetch_or_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank)
{
    return fetch_change64(c, s, CHANGE_OR, value, old, rank);
}

int tsm_atomic_fetch_xor_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank)
{
    return fetch_change32(c, s, CHANGE_XOR, value, old, rank);
}

int tsm_atomic_fetch_xor_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank)
{
    return fetch_change64(c, s, CHANGE_XOR, value, old, rank);
}

int tsm_atomic_swap_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank)
{
    return fetch_change32(c, s, CHANGE_SET, value, old, rank);
}

int tsm_atomic_swap_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank)
{
    return fetch_change64(c, s, CHANGE_SET, value, old, rank);
}

int tsm_atomic_compare_swap_u32(tsm_ctx *c, tsm_sym s, uint32_t expected, uint32_t value,
                                uint32_t *old, uint32_t rank)
{
    int code = 0;
    a32 *word = answering(c, s, old, 4, rank, &code);
    if (!word) {
        return code;
    }
    *old = expected;
    if (atomic_compare_exchange_strong(word, old, value)) {
        wake_rank(c, rank);
    }
    return 0;
}

int tsm_atomic_compare_swap_u64(tsm_ctx *c, tsm_sym s, uint64_t expected, uint64_t value,
                                uint64_t *old, uint32_t rank)
{
    int code = 0;
    a64 *word = answering(c, s, old, 8, rank, &code);
    if (!word) {
        return code;
    }
    *old = expected;
    if (atomic_compare_exchange_strong(word, old, value)) {
        wake_rank(c, rank);
    }
    return 0;
}

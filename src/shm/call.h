/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What a rank calls, when it calls a collective: in the words that its messages carry, and as a text.
 */
#ifndef SHM_CALL_H
#define SHM_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OP_USER = 32 /* the first operation of a user's own, as `op` */ };

enum call_kind {
    CALL_SYNC = 1,
    CALL_BARRIER,
    CALL_BROADCAST,
    CALL_ALL_GATHER,
    CALL_GATHER,
    CALL_SCATTER,
    CALL_ALL_TO_ALL,
    CALL_ALL_TO_ALL_V,
    CALL_ALL_GATHER_V,
    CALL_GATHER_V,
    CALL_SCATTER_V,
    CALL_REDUCE,
    CALL_ALL_REDUCE,
    CALL_REDUCE_SCATTER,
    CALL_REDUCE_SCATTER_V,
    CALL_SCAN,
    CALL_EXSCAN,
    CALL_KINDS
};

struct call {
    /* kind | dtype << 8 | op << 16 | root << 32; in a message also how << 24, acked << 48 */
    uint64_t word;
    uint64_t count;
    uint32_t places, group;
};
#define CALL_COMPARED UINT64_C(0x0000ffff00ffffff) /* of the word */

/* Whether two ranks call the same: asked of every message. bench/barrier.c says what that costs. */
static inline bool call_is_same(const struct call *a, const struct call *b)
{
    return ((a->word ^ b->word) & CALL_COMPARED) == 0 && a->count == b->count &&
           a->places == b->places && a->group == b->group;
}

/* "all_reduce(count 8, f32, sum)"; of any words, also nonsense. */
void call_say(const struct call *call, char *to, size_t bytes);

#endif

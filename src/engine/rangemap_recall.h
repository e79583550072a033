/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Recalls which cell begins at an address, without the index: a hash table that forgets. Programs
 * touch the same buffers again and again, and then this is one cache line instead of a search.
 * Orchestrator only, one thread.
 */
#ifndef TRANSOM_ENGINE_RANGEMAP_RECALL_H
#define TRANSOM_ENGINE_RANGEMAP_RECALL_H

#include "engine/rangemap_index.h"

#define RANGE_BUCKET 8

/* One cache line. */
struct range_bucket {
    uint32_t tag[RANGE_BUCKET];
    uint32_t cell[RANGE_BUCKET];
};

/* Makes room for this many intervals. Without memory the table stays as small as it is. */
void range_recall_grow(struct range_recall *recall, uint64_t intervals);

void range_recall_fini(struct range_recall *recall);

static inline uint64_t range_recall_hash(uint64_t lo)
{
    return lo * UINT64_C(0x9e3779b97f4a7c15);
}

static inline bool range_recall_full(const struct range_recall *recall, uint64_t intervals)
{
    return !recall->bucket || intervals > (uint64_t)RANGE_BUCKET << recall->bits;
}

/* The plain cell with exactly these bounds, or NULL if it is not recalled. */
static inline struct range_cell *range_recall_get(const struct range_recall *recall,
                                                  const struct range_index *ix, uint64_t lo,
                                                  uint64_t hi)
{
    uint64_t hash = range_recall_hash(lo);
    const struct range_bucket *bucket;
    uint32_t hits = 0;

    if (!recall->bucket)
        return NULL;
    bucket = &recall->bucket[hash >> (64 - recall->bits)];
    for (uint32_t i = 0; i < RANGE_BUCKET; i++)
        hits |= (uint32_t)(bucket->tag[i] == (uint32_t)(hash >> 8)) << i;
    for (; hits; hits &= hits - 1) {
        struct range_cell *cell = range_cell_at(ix, bucket->cell[__builtin_ctz(hits)]);

        if (cell->lo == lo && cell->hi == hi && cell->type == CELL_PLAIN)
            return cell;
    }
    return NULL;
}

/* In the place of the one that had this address before, or of any other. */
static inline void range_recall_put(struct range_recall *recall, uint64_t lo, uint32_t idx)
{
    uint64_t hash = range_recall_hash(lo);
    uint32_t tag = (uint32_t)(hash >> 8), at = tag % RANGE_BUCKET;
    struct range_bucket *bucket;

    if (!recall->bucket)
        return;
    bucket = &recall->bucket[hash >> (64 - recall->bits)];
    for (uint32_t i = 0; i < RANGE_BUCKET; i++) {
        if (!bucket->cell[i])
            at = i;
    }
    for (uint32_t i = 0; i < RANGE_BUCKET; i++) {
        if (bucket->tag[i] == tag)
            at = i;
    }
    bucket->tag[at] = tag;
    bucket->cell[at] = idx;
}

#endif

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

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define RANGE_BUCKET 8

/* One cache line. */
struct range_bucket {
    uint32_t tag[RANGE_BUCKET];
    uint32_t cell[RANGE_BUCKET];
};

/* A bit for each place of the bucket that has the tag. Without a branch: where it is cannot be foretold. */
static inline uint32_t range_bucket_hits(const struct range_bucket *bucket, uint32_t tag)
{
#if defined(__SSE2__)
    __m128i wanted = _mm_set1_epi32((int)tag);
    __m128i lo = _mm_cmpeq_epi32(_mm_load_si128((const __m128i *)&bucket->tag[0]), wanted);
    __m128i hi = _mm_cmpeq_epi32(_mm_load_si128((const __m128i *)&bucket->tag[4]), wanted);

    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(lo, hi), lo)) & 0xff;
#else
    uint32_t hits = 0;

    for (uint32_t i = 0; i < RANGE_BUCKET; i++)
        hits |= (uint32_t)(bucket->tag[i] == tag) << i;
    return hits;
#endif
}

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

    if (!recall->bucket)
        return NULL;
    bucket = &recall->bucket[hash >> (64 - recall->bits)];
    for (uint32_t hits = range_bucket_hits(bucket, (uint32_t)(hash >> 8)); hits; hits &= hits - 1) {
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
    uint32_t tag = (uint32_t)(hash >> 8), at = tag % RANGE_BUCKET, hits;
    struct range_bucket *bucket;

    if (!recall->bucket)
        return;
    bucket = &recall->bucket[hash >> (64 - recall->bits)];
    for (uint32_t i = 0; i < RANGE_BUCKET; i++) {
        if (!bucket->cell[i])
            at = i;
    }
    hits = range_bucket_hits(bucket, tag);
    at = hits ? (uint32_t)__builtin_ctz(hits) : at;
    bucket->tag[at] = tag;
    bucket->cell[at] = idx;
}

#endif

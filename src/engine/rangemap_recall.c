/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Recalls which cell begins at an address. Runs in the orchestrator, single thread, no locks. Owns
 * the table; the cells it names are the index's.
 */
#include "engine/rangemap_recall.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct range_bucket) == 64, "a bucket is one cache line");

void range_recall_grow(struct range_recall *recall, uint64_t intervals)
{
    uint32_t bits = recall->bits ? recall->bits : 4;
    struct range_bucket *larger;

    while (intervals > (uint64_t)RANGE_BUCKET << bits)
        bits++;
    larger = aligned_alloc(sizeof(*larger), sizeof(*larger) << bits);
    if (!larger)
        return;
    memset(larger, 0, sizeof(*larger) << bits);
    free(recall->bucket); /* what it knew is found and put again */
    recall->bucket = larger;
    recall->bits = bits;
}

void range_recall_fini(struct range_recall *recall)
{
    free(recall->bucket);
    memset(recall, 0, sizeof(*recall));
}

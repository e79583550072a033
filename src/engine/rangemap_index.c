/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The ordered index below the range map: the pool of cells, the leaves and their directory. Runs in
 * the orchestrator, single thread, no locks. Owns all memory that cells and leaves live in.
 *
 * Memory is asked for in range_index_grow only; everything else works from what is spare.
 */
#include "engine/rangemap_index.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct range_cell) == 64, "a cell is one cache line");
_Static_assert(sizeof(struct range_chunk) == 64, "a chunk takes the place of a cell");
_Static_assert(offsetof(struct range_cell, type) == offsetof(struct range_chunk, type),
               "a chunk is known by the same byte");

static int grow_slabs(struct range_index *ix, uint32_t cells);
static int grow_leaves(struct range_index *ix);
static void join_leaves(struct range_index *ix, uint32_t first);
static void drop_leaf(struct range_index *ix, uint32_t pos);
static void split_leaf(struct range_index *ix, uint32_t pos);

int range_index_init(struct range_index *ix)
{
    int err;

    memset(ix, 0, sizeof(*ix));
    err = range_index_grow(ix, 1);
    if (err) {
        range_index_fini(ix);
        return err;
    }
    range_cell_new(ix, CELL_CHUNK); /* index 0 is nobody's */
    ix->low[0] = 0;
    ix->leaf[0] = ix->leaf_spare;
    ix->leaf_spare = ix->leaf[0]->next;
    ix->leaf_spare_count--;
    ix->leaf[0]->n = 0;
    ix->leaf_count = 1;
    return 0;
}

void range_index_fini(struct range_index *ix)
{
    for (uint32_t i = 0; i < ix->slab_count; i++)
        free(ix->slabs[i]);
    for (uint32_t i = 0; i < ix->leaf_count; i++)
        free(ix->leaf[i]);
    while (ix->leaf_spare) {
        struct range_leaf *leaf = ix->leaf_spare;

        ix->leaf_spare = leaf->next;
        free(leaf);
    }
    free(ix->slabs);
    free(ix->low);
    free(ix->leaf);
    memset(ix, 0, sizeof(*ix));
}

int range_index_grow(struct range_index *ix, uint32_t cells)
{
    int err = 0;

    if (ix->cell_spare < cells)
        err = grow_slabs(ix, cells);
    return err ? err : grow_leaves(ix);
}

uint32_t range_cell_new(struct range_index *ix, enum range_type type)
{
    uint32_t idx = ix->cell_freed;
    struct range_cell *cell;

    assert(ix->cell_spare);
    ix->cell_spare--;
    if (idx) {
        cell = range_cell_at(ix, idx);
        ix->cell_freed = cell->next;
    } else {
        idx = ix->cell_fresh++;
        cell = range_cell_at(ix, idx);
    }
    memset(cell, 0, sizeof(*cell));
    cell->type = (uint8_t)type;
    return idx;
}

void range_cell_free(struct range_index *ix, uint32_t idx)
{
    struct range_cell *cell = range_cell_at(ix, idx);

    assert(idx && cell->type != CELL_FREE);
    cell->type = CELL_FREE;
    cell->next = ix->cell_freed;
    ix->cell_freed = idx;
    ix->cell_spare++;
}

void range_index_insert(struct range_index *ix, uint32_t idx)
{
    uint64_t key = range_cell_at(ix, idx)->lo;
    uint32_t pos = range_upper(ix->low, ix->leaf_count, key) - 1;
    struct range_leaf *leaf = ix->leaf[pos];
    uint32_t slot;

    if (leaf->n == RANGE_LEAF_KEYS) {
        split_leaf(ix, pos);
        pos += ix->low[pos + 1] <= key;
        leaf = ix->leaf[pos];
    }
    slot = range_upper(leaf->key, leaf->n, key);
    memmove(&leaf->key[slot + 1], &leaf->key[slot], (leaf->n - slot) * sizeof(leaf->key[0]));
    memmove(&leaf->cell[slot + 1], &leaf->cell[slot], (leaf->n - slot) * sizeof(leaf->cell[0]));
    leaf->key[slot] = key;
    leaf->cell[slot] = idx;
    leaf->n++;
}

void range_index_remove(struct range_index *ix, struct range_cursor *cur)
{
    const uint32_t roomy = RANGE_LEAF_KEYS * 3 / 4;
    struct range_leaf *leaf = ix->leaf[cur->leaf];
    uint32_t slot = cur->slot, rest = --leaf->n - slot;

    memmove(&leaf->key[slot], &leaf->key[slot + 1], rest * sizeof(leaf->key[0]));
    memmove(&leaf->cell[slot], &leaf->cell[slot + 1], rest * sizeof(leaf->cell[0]));
    if (!leaf->n && ix->leaf_count > 1) {
        drop_leaf(ix, cur->leaf);
    } else if (leaf->n < RANGE_LEAF_KEYS / 4) {
        if (cur->leaf + 1 < ix->leaf_count && leaf->n + ix->leaf[cur->leaf + 1]->n <= roomy)
            join_leaves(ix, cur->leaf);
        if (cur->leaf && leaf->n + ix->leaf[cur->leaf - 1]->n <= roomy) {
            cur->leaf--;
            cur->slot += ix->leaf[cur->leaf]->n;
            join_leaves(ix, cur->leaf);
        }
    }
    *cur = range_cursor_settled(ix, *cur);
}

/* Growing doubles, so that a map that only grows asks rarely; a small one stays small. */
static int grow_slabs(struct range_index *ix, uint32_t cells)
{
    uint64_t missing = cells - ix->cell_spare;
    uint64_t slabs = (missing + RANGE_SLAB_CELLS - 1) / RANGE_SLAB_CELLS;
    const size_t bytes = RANGE_SLAB_CELLS * sizeof(struct range_cell);

    if (ix->slab_count + slabs > UINT32_MAX >> RANGE_SLAB_BITS)
        return -ENOMEM;
    if (ix->slab_count + slabs > ix->slab_max) {
        uint64_t max = 2 * (ix->slab_count + slabs) + 14;
        struct range_cell **table = realloc(ix->slabs, max * sizeof(*table));

        if (!table)
            return -ENOMEM;
        ix->slabs = table;
        ix->slab_max = (uint32_t)max;
    }
    for (; slabs; slabs--) {
        struct range_cell *slab = aligned_alloc(sizeof(struct range_cell), bytes);

        if (!slab)
            return -ENOMEM;
        ix->slabs[ix->slab_count++] = slab;
        ix->cell_spare += RANGE_SLAB_CELLS;
    }
    return 0;
}

static int grow_leaves(struct range_index *ix)
{
    while (ix->leaf_spare_count < RANGE_LEAF_MARGIN) {
        struct range_leaf *leaf = malloc(sizeof(*leaf));

        if (!leaf)
            return -ENOMEM;
        leaf->next = ix->leaf_spare;
        ix->leaf_spare = leaf;
        ix->leaf_spare_count++;
    }
    if (ix->leaf_max - ix->leaf_count < RANGE_LEAF_MARGIN) {
        uint32_t max = 2 * ix->leaf_max + 16;
        uint64_t *low = realloc(ix->low, max * sizeof(*low));
        struct range_leaf **leaf;

        if (!low)
            return -ENOMEM;
        ix->low = low;
        leaf = realloc(ix->leaf, max * sizeof(*leaf));
        if (!leaf)
            return -ENOMEM;
        ix->leaf = leaf;
        ix->leaf_max = max;
    }
    return 0;
}

/* Moves all of leaf first + 1 to the end of leaf `first`. */
static void join_leaves(struct range_index *ix, uint32_t first)
{
    struct range_leaf *to = ix->leaf[first], *from = ix->leaf[first + 1];

    memcpy(&to->key[to->n], from->key, from->n * sizeof(to->key[0]));
    memcpy(&to->cell[to->n], from->cell, from->n * sizeof(to->cell[0]));
    to->n += from->n;
    drop_leaf(ix, first + 1);
}

static void drop_leaf(struct range_index *ix, uint32_t pos)
{
    struct range_leaf *leaf = ix->leaf[pos];
    uint32_t rest = --ix->leaf_count - pos;

    memmove(&ix->low[pos], &ix->low[pos + 1], rest * sizeof(ix->low[0]));
    memmove(&ix->leaf[pos], &ix->leaf[pos + 1], rest * sizeof(ix->leaf[0]));
    ix->low[0] = 0;
    leaf->next = ix->leaf_spare;
    ix->leaf_spare = leaf;
    ix->leaf_spare_count++;
}

static void split_leaf(struct range_index *ix, uint32_t pos)
{
    const uint32_t half = RANGE_LEAF_KEYS / 2;
    struct range_leaf *left = ix->leaf[pos], *right = ix->leaf_spare;
    uint32_t rest = ix->leaf_count - pos - 1;

    assert(right && ix->leaf_count < ix->leaf_max);
    ix->leaf_spare = right->next;
    ix->leaf_spare_count--;
    memcpy(right->key, &left->key[half], (RANGE_LEAF_KEYS - half) * sizeof(left->key[0]));
    memcpy(right->cell, &left->cell[half], (RANGE_LEAF_KEYS - half) * sizeof(left->cell[0]));
    right->n = RANGE_LEAF_KEYS - half;
    left->n = half;
    memmove(&ix->low[pos + 2], &ix->low[pos + 1], rest * sizeof(ix->low[0]));
    memmove(&ix->leaf[pos + 2], &ix->leaf[pos + 1], rest * sizeof(ix->leaf[0]));
    ix->low[pos + 1] = right->key[0];
    ix->leaf[pos + 1] = right;
    ix->leaf_count++;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The ordered index below the range map: cells (64 bytes each), their pool, and leaves of sorted
 * keys under one sorted directory. Orchestrator only, one thread.
 *
 * Two levels and not a tree: with 10^5 intervals the directory has about 2000 keys, which a search
 * without branches crosses in the time of one cache miss; a leaf that splits moves half of it,
 * once per 32 inserts at most.
 */
#ifndef TRANSOM_ENGINE_RANGEMAP_INDEX_H
#define TRANSOM_ENGINE_RANGEMAP_INDEX_H

#include "engine/rangemap.h"

#include <stdbool.h>
#include <stddef.h>

#define RANGE_SLAB_BITS 10
#define RANGE_SLAB_CELLS (1u << RANGE_SLAB_BITS)
#define RANGE_LEAF_KEYS 64
#define RANGE_LEAF_MARGIN 4 /* leaves one step may need: it inserts no more keys than that */
#define RANGE_INLINE 2
#define RANGE_CHUNK 3

enum range_type {
    CELL_FREE,
    CELL_PLAIN,  /* the bytes [lo, hi), with marks */
    CELL_BAND,   /* the bytes [lo, hi): rows of `pitch` bytes, the first begins at lo; columns */
    CELL_COLUMN, /* bytes [lo, hi) of every row of its band, with marks */
    CELL_CHUNK   /* further marks of a cell (struct range_chunk) */
};

enum range_mark {
    MARK_WRITER, /* more than one only where a write may have left bytes between its rows alone */
    MARK_POISON, /* was a writer, failed, and is not to be asked about again */
    MARK_READER,
    MARK_USER,
    MARK_BARRIER
};

/* Index 0 stands for no cell. Chunks exist only while the inline marks are all in use. */
struct range_cell {
    uint64_t lo, hi;
    union {
        struct taskref ref[RANGE_INLINE];
        struct {
            uint64_t pitch;
            uint32_t first; /* columns, ascending and disjoint; bytes in none of them are unknown */
        } band;
    };
    uint32_t more; /* chunks, newest first; only the newest may have room */
    uint32_t chunks;
    uint32_t next; /* the next column, or the next free cell */
    uint8_t type;
    uint8_t n; /* inline marks in use */
    uint8_t kind[RANGE_INLINE];
};

struct range_chunk {
    struct taskref ref[RANGE_CHUNK];
    uint32_t next;
    uint8_t n;
    uint8_t kind[RANGE_CHUNK];
    uint32_t pad;
    uint8_t type; /* where range_cell has it */
    uint8_t pad2[3];
};

struct range_leaf {
    uint32_t n;
    uint32_t cell[RANGE_LEAF_KEYS];
    uint64_t key[RANGE_LEAF_KEYS]; /* ascending; each its cell's lo */
    struct range_leaf *next;       /* while spare */
};

/* A place between keys; good until the next insert or remove. leaf == leaf_count: the end. */
struct range_cursor {
    uint32_t leaf, slot;
};

int range_index_init(struct range_index *ix);
void range_index_fini(struct range_index *ix);

/* Makes sure of `cells` cells and RANGE_LEAF_MARGIN inserts. Returns: 0, -ENOMEM. */
int range_index_grow(struct range_index *ix, uint32_t cells);

uint32_t range_cell_new(struct range_index *ix, enum range_type type);
void range_cell_free(struct range_index *ix, uint32_t idx);

/* By the cell's lo, which must lie in no other interval. */
void range_index_insert(struct range_index *ix, uint32_t idx);

/* Takes the entry out (the cell stays the caller's) and leaves the cursor at the next one. */
void range_index_remove(struct range_index *ix, struct range_cursor *cur);

static inline bool range_index_ready(struct range_index *ix, uint64_t cells)
{
    if (ix->cell_spare >= cells && ix->leaf_spare_count >= RANGE_LEAF_MARGIN &&
        ix->leaf_max - ix->leaf_count >= RANGE_LEAF_MARGIN)
        return true;
    return cells <= UINT32_MAX && !range_index_grow(ix, (uint32_t)cells);
}

static inline struct range_cell *range_cell_at(const struct range_index *ix, uint32_t idx)
{
    return &ix->slabs[idx >> RANGE_SLAB_BITS][idx & (RANGE_SLAB_CELLS - 1)];
}

static inline struct range_chunk *range_chunk_at(const struct range_index *ix, uint32_t idx)
{
    return (struct range_chunk *)range_cell_at(ix, idx);
}

/* How many of the n ascending keys are <= x. */
static inline uint32_t range_upper(const uint64_t *keys, uint32_t n, uint64_t x)
{
    const uint64_t *p = keys;

    while (n > 1) {
        uint32_t half = n / 2;

        p = p[half - 1] <= x ? p + half : p;
        n -= half;
    }
    return (uint32_t)(p - keys) + (n && *p <= x);
}

static inline uint32_t range_cursor_idx(const struct range_index *ix, struct range_cursor cur)
{
    return cur.leaf < ix->leaf_count ? ix->leaf[cur.leaf]->cell[cur.slot] : 0;
}

static inline struct range_cell *range_cursor_cell(const struct range_index *ix,
                                                   struct range_cursor cur)
{
    uint32_t idx = range_cursor_idx(ix, cur);

    return idx ? range_cell_at(ix, idx) : NULL;
}

/* Only the one leaf of an empty index is empty, and that counts as the end. */
static inline struct range_cursor range_cursor_settled(const struct range_index *ix,
                                                       struct range_cursor cur)
{
    if (cur.leaf < ix->leaf_count && cur.slot >= ix->leaf[cur.leaf]->n) {
        cur.leaf++;
        cur.slot = 0;
    }
    return cur;
}

static inline struct range_cursor range_cursor_next(const struct range_index *ix,
                                                    struct range_cursor cur)
{
    cur.slot++;
    return range_cursor_settled(ix, cur);
}

/* The entry before the cursor, or NULL. */
static inline struct range_cell *range_cursor_before(const struct range_index *ix,
                                                     struct range_cursor cur)
{
    const struct range_leaf *leaf;

    if (cur.slot)
        return range_cell_at(ix, ix->leaf[cur.leaf]->cell[cur.slot - 1]);
    if (!cur.leaf)
        return NULL;
    leaf = ix->leaf[cur.leaf - 1];
    return leaf->n ? range_cell_at(ix, leaf->cell[leaf->n - 1]) : NULL;
}

/* The first entry that ends after pos. */
static inline struct range_cursor range_index_seek(const struct range_index *ix, uint64_t pos)
{
    struct range_cursor cur = {0, 0};
    const struct range_cell *before;

    cur.leaf = range_upper(ix->low, ix->leaf_count, pos) - 1;
    cur.slot = range_upper(ix->leaf[cur.leaf]->key, ix->leaf[cur.leaf]->n, pos);
    before = range_cursor_before(ix, cur);
    if (!before || before->hi <= pos)
        return range_cursor_settled(ix, cur);
    if (cur.slot) {
        cur.slot--;
    } else {
        cur.leaf--;
        cur.slot = ix->leaf[cur.leaf]->n - 1;
    }
    return cur;
}

#endif

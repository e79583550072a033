/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map's invariants, checked over the whole map. For tests, and for whoever debugs one;
 * runs in the orchestrator, changes nothing and owns nothing.
 */
#include "engine/rangemap_index.h"

/* What the walk has seen so far. */
struct tally {
    const struct range_index *ix;
    uint64_t cells, intervals;
};

static int check_marks(struct tally *tally, const struct range_cell *cell)
{
    uint32_t chunks = 0;

    if (cell->n > RANGE_INLINE || (cell->more && cell->n < RANGE_INLINE))
        return -3;
    for (uint8_t i = 0; i < cell->n; i++) {
        if (cell->kind[i] > MARK_BARRIER)
            return -3;
    }
    for (uint32_t idx = cell->more; idx; idx = range_chunk_at(tally->ix, idx)->next) {
        const struct range_chunk *chunk = range_chunk_at(tally->ix, idx);

        if (chunk->type != CELL_CHUNK || !chunk->n || chunk->n > RANGE_CHUNK)
            return -3;
        if (idx != cell->more && chunk->n != RANGE_CHUNK)
            return -3;
        if (++chunks > cell->chunks)
            return -3;
    }
    if (chunks != cell->chunks)
        return -3;
    tally->cells += 1 + chunks;
    tally->intervals++;
    return 0;
}

static int check_band(struct tally *tally, const struct range_cell *band)
{
    uint64_t pitch = band->band.pitch, end = 0;

    if (!pitch || (band->hi - band->lo) % pitch)
        return -4;
    for (uint32_t idx = band->band.first; idx; idx = range_cell_at(tally->ix, idx)->next) {
        const struct range_cell *col = range_cell_at(tally->ix, idx);
        int err = check_marks(tally, col);

        if (err)
            return err;
        if (col->type != CELL_COLUMN || col->lo < end || col->lo >= col->hi || col->hi > pitch)
            return -4;
        end = col->hi;
    }
    tally->cells++;
    return 0;
}

static int check_leaf(struct tally *tally, uint32_t pos, uint64_t *end)
{
    const struct range_index *ix = tally->ix;
    const struct range_leaf *leaf = ix->leaf[pos];

    if (leaf->n > RANGE_LEAF_KEYS || (!leaf->n && ix->leaf_count > 1))
        return -1;
    if (pos ? ix->low[pos] <= ix->low[pos - 1] : ix->low[0] != 0)
        return -1;
    for (uint32_t i = 0; i < leaf->n; i++) {
        const struct range_cell *cell = range_cell_at(ix, leaf->cell[i]);
        uint64_t key = leaf->key[i];
        int err;

        if (key < ix->low[pos] || (pos + 1 < ix->leaf_count && key >= ix->low[pos + 1]))
            return -1;
        if (cell->lo != key || cell->lo >= cell->hi || cell->lo < *end)
            return -2;
        if (cell->type != CELL_PLAIN && cell->type != CELL_BAND)
            return -2;
        err = cell->type == CELL_BAND ? check_band(tally, cell) : check_marks(tally, cell);
        if (err)
            return err;
        *end = cell->hi;
    }
    return 0;
}

int rangemap_check(const struct rangemap *map)
{
    const struct range_index *ix = &map->index;
    struct tally tally = {ix, 1, 0}; /* cell 0 is nobody's */
    uint64_t end = 0, spare = (uint64_t)ix->slab_count * RANGE_SLAB_CELLS - ix->cell_fresh;

    for (uint32_t i = 0; i < ix->leaf_count; i++) {
        int err = check_leaf(&tally, i, &end);

        if (err)
            return err;
    }
    for (uint32_t idx = ix->cell_freed; idx && spare <= ix->cell_spare; spare++) {
        if (range_cell_at(ix, idx)->type != CELL_FREE)
            return -5;
        idx = range_cell_at(ix, idx)->next;
    }
    if (spare != ix->cell_spare)
        return -5;
    if (tally.cells + spare != (uint64_t)ix->slab_count * RANGE_SLAB_CELLS)
        return -5;
    return tally.intervals == map->count ? 0 : -6;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The marks of a range map's cells, as lists without order: an inline pair, then chunks of three,
 * of which only the newest has room. Runs in the orchestrator, single thread, no locks. The chunks
 * come from the index's pool of cells and belong to the cell they hang on.
 */
#include "engine/rangemap_marks.h"

static bool keep_undated(void *arg, uint8_t *kind, struct taskref ref)
{
    (void)arg;
    (void)ref;
    return *kind == MARK_USER || *kind == MARK_BARRIER;
}

void range_marks_drop(struct range_index *ix, struct range_cell *cell, struct taskref *ref,
                      uint8_t *kind)
{
    struct range_chunk *chunk;
    uint32_t idx = cell->more;

    if (!idx) {
        cell->n--;
        *ref = cell->ref[cell->n];
        *kind = cell->kind[cell->n];
        return;
    }
    chunk = range_chunk_at(ix, idx);
    chunk->n--;
    *ref = chunk->ref[chunk->n];
    *kind = chunk->kind[chunk->n];
    if (!chunk->n) {
        cell->more = chunk->next;
        cell->chunks--;
        range_cell_free(ix, idx);
    }
}

void range_marks_append(struct range_index *ix, struct range_cell *cell, enum range_mark kind,
                        struct taskref ref)
{
    struct range_chunk *chunk;

    if (cell->n < RANGE_INLINE) {
        cell->ref[cell->n] = ref;
        cell->kind[cell->n++] = (uint8_t)kind;
        return;
    }
    if (!cell->more || range_chunk_at(ix, cell->more)->n == RANGE_CHUNK) {
        uint32_t idx = range_cell_new(ix, CELL_CHUNK);

        range_chunk_at(ix, idx)->next = cell->more;
        cell->more = idx;
        cell->chunks++;
    }
    chunk = range_chunk_at(ix, cell->more);
    chunk->ref[chunk->n] = ref;
    chunk->kind[chunk->n++] = (uint8_t)kind;
}

void range_marks_clear_data(struct range_index *ix, struct range_cell *cell)
{
    range_marks_filter(ix, cell, keep_undated, NULL);
}

void range_marks_fini(struct range_index *ix, struct range_cell *cell)
{
    while (cell->more) {
        uint32_t idx = cell->more;

        cell->more = range_chunk_at(ix, idx)->next;
        range_cell_free(ix, idx);
    }
    cell->chunks = 0;
    cell->n = 0;
}

void range_marks_copy(struct range_index *ix, struct range_cell *to, const struct range_cell *from)
{
    uint32_t *link = &to->more;

    to->ref[0] = from->ref[0];
    to->ref[1] = from->ref[1];
    to->kind[0] = from->kind[0];
    to->kind[1] = from->kind[1];
    to->n = from->n;
    to->chunks = from->chunks;
    for (uint32_t idx = from->more; idx; idx = range_chunk_at(ix, idx)->next) {
        uint32_t copy = range_cell_new(ix, CELL_CHUNK);

        *range_chunk_at(ix, copy) = *range_chunk_at(ix, idx);
        *link = copy;
        link = &range_chunk_at(ix, copy)->next;
    }
    *link = 0;
}

void range_marks_move(struct range_cell *to, struct range_cell *from)
{
    to->ref[0] = from->ref[0];
    to->ref[1] = from->ref[1];
    to->kind[0] = from->kind[0];
    to->kind[1] = from->kind[1];
    to->n = from->n;
    to->more = from->more;
    to->chunks = from->chunks;
    from->n = 0;
    from->more = 0;
    from->chunks = 0;
}

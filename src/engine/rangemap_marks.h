/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The marks of a cell: who wrote, read, used or barred its bytes. Orchestrator only, one thread.
 * The first two are in the cell, further ones in chunks that hang on it.
 */
#ifndef TRANSOM_ENGINE_RANGEMAP_MARKS_H
#define TRANSOM_ENGINE_RANGEMAP_MARKS_H

#include "engine/rangemap_index.h"

/* Whether to keep the mark; may change its kind. */
typedef bool range_mark_fn(void *arg, uint8_t *kind, struct taskref ref);

static inline bool taskref_same(struct taskref a, struct taskref b)
{
    return a.place == b.place && a.run == b.run && a.value == b.value;
}

/* Takes out the mark at (ref, kind) and puts the last one of the cell in its place. */
void range_marks_drop(struct range_index *ix, struct range_cell *cell, struct taskref *ref,
                      uint8_t *kind);

/* Needs one spare cell. */
void range_marks_append(struct range_index *ix, struct range_cell *cell, enum range_mark kind,
                        struct taskref ref);

/* Takes out writers, readers and poison; users and barriers stay. */
void range_marks_clear_data(struct range_index *ix, struct range_cell *cell);

/* Frees the chunks. The cell itself is the caller's. */
void range_marks_fini(struct range_index *ix, struct range_cell *cell);

/* Gives `to` the marks of `from` as its own. Needs from->chunks spare cells. */
void range_marks_copy(struct range_index *ix, struct range_cell *to, const struct range_cell *from);

/* Gives `to` the marks of `from`, which is left without any. */
void range_marks_move(struct range_cell *to, struct range_cell *from);

/* Shows every mark to fn once and takes out those it does not want to keep. */
static inline void range_marks_filter(struct range_index *ix, struct range_cell *cell,
                                      range_mark_fn *fn, void *arg)
{
    struct range_chunk *chunk;
    uint32_t next;

    for (uint8_t i = 0; i < cell->n;) {
        if (fn(arg, &cell->kind[i], cell->ref[i]))
            i++;
        else
            range_marks_drop(ix, cell, &cell->ref[i], &cell->kind[i]);
    }
    /* Backwards: what fills a gap in a chunk has been shown already. */
    for (uint32_t idx = cell->more; idx; idx = next) {
        chunk = range_chunk_at(ix, idx);
        next = chunk->next;
        for (uint8_t i = chunk->n; i-- > 0;) {
            if (!fn(arg, &chunk->kind[i], chunk->ref[i]))
                range_marks_drop(ix, cell, &chunk->ref[i], &chunk->kind[i]);
        }
    }
}

#endif

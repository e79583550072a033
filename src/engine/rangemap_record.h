/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map's recording half: what an access leaves behind, and how it is forgotten again.
 * Orchestrator only, one thread.
 */
#ifndef TRANSOM_ENGINE_RANGEMAP_RECORD_H
#define TRANSOM_ENGINE_RANGEMAP_RECORD_H

#include "engine/rangemap_index.h"

/* What an access leaves behind. */
struct range_change {
    struct taskref ref;
    uint8_t kind; /* the mark */
    bool clears;  /* takes out writers, readers and poison first */
    bool erases;  /* and leaves nothing at all: the memory is given back */
};

#define RANGE_SWEEP_MIN 4096 /* fewer intervals than this are not worth a lap */

/* Records the change on a canonical span that is not empty. */
void range_record(struct rangemap *map, const struct span *span, const struct range_change *change);

/*
 * The steps of it that fast paths take directly. Changes the marks of a plain interval or of a
 * column; with `partial` some of its bytes may not be touched, so nothing is cleared. Needs one
 * spare cell.
 */
void range_change_cell(struct rangemap *map, struct range_cell *cell,
                       const struct range_change *change, bool partial);

/*
 * Records what the span has at pos, where nothing is known between the neighbours `before` and
 * `after` (or NULL). Returns: where the recorded part ends; pos where there is no memory.
 */
uint64_t range_fill_gap(struct rangemap *map, const struct span *span, uint64_t pos,
                        struct range_cell *before, struct range_cell *after,
                        const struct range_change *change);

/* A lap comes after the map has doubled, and in batches: no access waits for a whole one. */
void range_sweep(struct rangemap *map);

/* Drops what has ended, everywhere, and makes failed writers poison. */
void range_settle_all(struct rangemap *map);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map's recording half: cuts intervals at the edges of an access, marks what is inside,
 * joins what a write made one, and sweeps out what says nothing any more. Runs in the orchestrator,
 * single thread, no locks. Owns the intervals of a map.
 *
 * It goes step by step, one gap, interval or band at a time. A step that finds no memory changes
 * nothing, and the rest of the access is spilled.
 */
#include "engine/rangemap_record.h"

#include "engine/rangemap_marks.h"
#include "engine/rangemap_span.h"

#include <assert.h>

#define SWEEP_BATCH 64   /* cells of one step of it */
#define SWEEP_PER_CELL 4 /* cells looked at for each new one while a lap is on */

struct settling {
    struct rangemap *map;
    bool poison;
};

/* range_mark_fn: drops what has ended; a failed writer stays, as poison if asked. */
static bool settle(void *arg, uint8_t *kind, struct taskref ref)
{
    const struct settling *settling = arg;
    enum ref_state state;

    if (*kind == MARK_POISON)
        return true;
    state = settling->map->ops.state(settling->map->ops.ctx, ref);
    if (*kind == MARK_WRITER && state == REF_FAILED) {
        if (settling->poison)
            *kind = MARK_POISON;
        return true;
    }
    return state == REF_PENDING;
}

/* Does this mark say it already? A later point of a timeline takes the place of an earlier one. */
static bool covers(const struct rangemap *map, uint8_t kind, struct taskref *have,
                   const struct range_change *change)
{
    if (kind != change->kind || have->place != change->ref.place)
        return false;
    if (kind == MARK_WRITER || have->place >= map->ops.timeline_places)
        return taskref_same(*have, change->ref);
    if (have->value < change->ref.value)
        *have = change->ref;
    return true;
}

/* Before the first chunk, and then whenever the list would double, the marks are looked through. */
static bool is_crowded(const struct range_index *ix, const struct range_cell *cell)
{
    if (!cell->more)
        return cell->n == RANGE_INLINE;
    return !(cell->chunks & (cell->chunks - 1)) && range_chunk_at(ix, cell->more)->n == RANGE_CHUNK;
}

/* Needs one spare cell. */
static void add_mark(struct rangemap *map, struct range_cell *cell,
                     const struct range_change *change)
{
    struct range_index *ix = &map->index;
    struct settling settling = {map, false};
    bool all = change->ref.place < map->ops.timeline_places;
    struct range_chunk *chunk;

    for (uint8_t i = 0; i < cell->n; i++) {
        if (covers(map, cell->kind[i], &cell->ref[i], change))
            return;
    }
    /* Off the timelines only a task's own marks can be repeated, and those are the newest. */
    for (uint32_t idx = cell->more; idx; idx = all ? chunk->next : 0) {
        chunk = range_chunk_at(ix, idx);
        for (uint8_t i = 0; i < chunk->n; i++) {
            if (covers(map, chunk->kind[i], &chunk->ref[i], change))
                return;
        }
    }
    if (is_crowded(ix, cell))
        range_marks_filter(ix, cell, settle, &settling);
    range_marks_append(ix, cell, (enum range_mark)change->kind, change->ref);
}

void range_change_cell(struct rangemap *map, struct range_cell *cell,
                       const struct range_change *change, bool partial)
{
    if (change->clears && !partial) {
        range_marks_clear_data(&map->index, cell);
        range_marks_append(&map->index, cell, (enum range_mark)change->kind, change->ref);
    } else {
        add_mark(map, cell, change);
    }
}

/* Takes one spare cell. */
static uint32_t new_interval(struct rangemap *map, enum range_type type, uint64_t lo, uint64_t hi)
{
    uint32_t idx = range_cell_new(&map->index, type);
    struct range_cell *cell = range_cell_at(&map->index, idx);

    cell->lo = lo;
    cell->hi = hi;
    map->count += type != CELL_BAND;
    map->sweep_credit++;
    return idx;
}

/* With marks and columns; whoever pointed to it has let go. */
static void free_interval(struct rangemap *map, uint32_t idx)
{
    struct range_cell *cell = range_cell_at(&map->index, idx);
    uint32_t next;

    if (cell->type == CELL_BAND) {
        for (uint32_t col = cell->band.first; col; col = next) {
            next = range_cell_at(&map->index, col)->next;
            free_interval(map, col);
        }
    } else {
        range_marks_fini(&map->index, cell);
        map->count--;
    }
    range_cell_free(&map->index, idx);
}

static void remove_at(struct rangemap *map, struct range_cursor *cur)
{
    uint32_t idx = range_cursor_idx(&map->index, *cur);

    range_index_remove(&map->index, cur);
    free_interval(map, idx);
}

static void remove_interval(struct rangemap *map, const struct range_cell *cell)
{
    struct range_cursor cur = range_index_seek(&map->index, cell->lo);

    remove_at(map, &cur);
}

/* How many cells a copy takes. */
static uint64_t cells_of(const struct rangemap *map, const struct range_cell *cell)
{
    uint64_t n = 1;

    if (cell->type != CELL_BAND)
        return n + cell->chunks;
    for (uint32_t idx = cell->band.first; idx; idx = range_cell_at(&map->index, idx)->next)
        n += cells_of(map, range_cell_at(&map->index, idx));
    return n;
}

/* Cuts marks and columns along with the interval. Takes cells_of(cell). Returns the upper part. */
static struct range_cell *split(struct rangemap *map, struct range_cell *cell, uint64_t at)
{
    uint32_t idx = new_interval(map, (enum range_type)cell->type, at, cell->hi);
    struct range_cell *upper = range_cell_at(&map->index, idx);

    assert(cell->lo < at && at < cell->hi);
    cell->hi = at;
    if (cell->type == CELL_BAND) {
        uint32_t *link = &upper->band.first;

        upper->band.pitch = cell->band.pitch;
        for (uint32_t col = cell->band.first; col; col = range_cell_at(&map->index, col)->next) {
            const struct range_cell *from = range_cell_at(&map->index, col);

            *link = new_interval(map, CELL_COLUMN, from->lo, from->hi);
            range_marks_copy(&map->index, range_cell_at(&map->index, *link), from);
            link = &range_cell_at(&map->index, *link)->next;
        }
    } else {
        range_marks_copy(&map->index, upper, cell);
    }
    if (cell->type != CELL_COLUMN) {
        range_index_insert(&map->index, idx);
    } else {
        upper->next = cell->next;
        cell->next = idx;
    }
    return upper;
}

/* Nothing but this writer is known of it. */
static bool is_written_by(const struct range_cell *cell, const struct range_change *change)
{
    return cell->n == 1 && cell->kind[0] == MARK_WRITER && cell->type != CELL_BAND &&
           taskref_same(cell->ref[0], change->ref);
}

/* A write that goes over many intervals leaves one. */
static void join_before(struct rangemap *map, const struct span *span, struct range_cell *cell,
                        const struct range_change *change)
{
    struct range_cursor cur = range_index_seek(&map->index, cell->lo);
    struct range_cell *before = range_cursor_before(&map->index, cur);

    if (!before || before->hi != cell->lo || before->lo < span->base ||
        !is_written_by(before, change) || !is_written_by(cell, change))
        return;
    before->hi = cell->hi;
    remove_at(map, &cur);
}

static void join_columns(struct rangemap *map, struct range_cell *band,
                         const struct range_change *change)
{
    struct range_cell *col, *next;

    for (uint32_t idx = band->band.first; idx; idx = col->next) {
        col = range_cell_at(&map->index, idx);
        while (col->next && is_written_by(col, change)) {
            next = range_cell_at(&map->index, col->next);
            idx = col->next;
            if (next->lo != col->hi || !is_written_by(next, change))
                break;
            col->hi = next->hi;
            col->next = next->next;
            free_interval(map, idx);
        }
    }
}

/*
 * Changes the bytes [lo, hi) of every row of a band. Takes at most two copies of each end's column
 * (cells_of), a column for each gap, and a chunk for each column.
 */
static void change_columns(struct rangemap *map, struct range_cell *band, uint64_t lo, uint64_t hi,
                           const struct range_change *change, bool partial)
{
    uint32_t *link = &band->band.first;

    while (lo < hi) {
        struct range_cell *col = *link ? range_cell_at(&map->index, *link) : NULL;
        uint64_t stop = col && col->lo < hi ? col->lo : hi;
        uint32_t idx = *link;

        if (col && col->hi <= lo) {
            link = &col->next;
            continue;
        }
        if ((!col || col->lo > lo) && change->erases) {
            lo = stop;
            continue;
        }
        if (!col || col->lo > lo) {
            *link = new_interval(map, CELL_COLUMN, lo, stop);
            col = range_cell_at(&map->index, *link);
            col->next = idx;
        } else if (col->lo < lo) {
            split(map, col, lo);
            continue;
        } else if (col->hi > hi) {
            split(map, col, hi);
        }
        lo = col->hi;
        if (change->erases) {
            *link = col->next;
            free_interval(map, idx);
            continue;
        }
        range_change_cell(map, col, change, partial);
        link = &col->next;
    }
    if (change->clears && !partial)
        join_columns(map, band, change);
}

/*
 * The steps of recording. Each does its part of the span at pos and returns where it ends; it
 * returns pos, and has changed nothing, where there is no memory.
 */

/*
 * How far before the view's row a band should begin to have the rows of its neighbours, so that
 * tiles of one matrix share bands.
 */
static uint64_t find_shift(const struct span *span, uint64_t pos, const struct range_cell *before,
                           const struct range_cell *after)
{
    const struct range_cell *near[2] = {before, after};

    for (uint32_t i = 0; i < 2; i++) {
        uint64_t pitch = span->pitch, shift;

        if (!near[i] || near[i]->type != CELL_BAND || near[i]->band.pitch != pitch)
            continue;
        if (pos >= near[i]->lo)
            shift = (pos - near[i]->lo) % pitch;
        else
            shift = (pitch - (near[i]->lo - pos) % pitch) % pitch;
        if (shift + span->width <= pitch && shift <= pos && (!before || pos - shift >= before->hi))
            return shift;
    }
    return 0;
}

/*
 * Moves the begin of a band's rows down, into unused bytes before it, by what is unused at the end
 * of its rows. The first tile of a matrix that is touched sets where rows begin; one further left,
 * or one of the next row of tiles, sets it right.
 */
static bool shift_band(struct rangemap *map, const struct range_cell *before,
                       struct range_cell *band, uint64_t by)
{
    struct range_cursor cur = range_index_seek(&map->index, band->lo);
    uint32_t self = range_cursor_idx(&map->index, cur);
    struct range_cell *col = NULL;

    if (by > band->lo || (before && before->hi > band->lo - by) ||
        !range_index_ready(&map->index, 1))
        return false;
    for (uint32_t idx = band->band.first; idx; idx = col->next)
        col = range_cell_at(&map->index, idx);
    if (col && col->hi > band->band.pitch - by)
        return false;
    for (uint32_t idx = band->band.first; idx; idx = col->next) {
        col = range_cell_at(&map->index, idx);
        col->lo += by;
        col->hi += by;
    }
    range_index_remove(&map->index, &cur);
    band->lo -= by;
    band->hi -= by;
    range_index_insert(&map->index, self);
    return true;
}

/* How many rows of a band that begins at lo, with the view's row of pos, fit below hi. */
static uint64_t fit_rows(const struct span *span, uint64_t pos, uint64_t lo, uint64_t hi)
{
    uint64_t rows = span->rows - span_row(span, pos), fit = (hi - lo) / span->pitch;

    return rows < fit ? rows : fit;
}

/* Past the view's last byte in its row at pos, at most limit. */
static uint64_t row_end(const struct span *span, uint64_t pos, uint64_t limit)
{
    uint64_t end = span->base + span_row(span, pos) * span->pitch + span->width;

    return end < limit ? end : limit;
}

static bool begins_row(const struct span *span, uint64_t pos)
{
    return span->rows > 1 && pos == span->base + span_row(span, pos) * span->pitch;
}

/* A band of one column over the whole pitch is a plain interval. */
static bool flatten(struct rangemap *map, struct range_cell *band)
{
    uint32_t idx = band->band.first;
    struct range_cell *col = range_cell_at(&map->index, idx);

    if (!idx || col->next || col->lo || col->hi != band->band.pitch)
        return false;
    band->type = CELL_PLAIN;
    range_marks_move(band, col);
    free_interval(map, idx);
    map->count++;
    return true;
}

static uint64_t change_band(struct rangemap *map, const struct span *span, uint64_t pos,
                            struct range_cell *band, const struct range_change *change)
{
    struct span_segment seg;

    if (!range_index_ready(&map->index, 6 * cells_of(map, band) + 8))
        return pos;
    span_find_segment(span, band->lo, band->hi, band->band.pitch, pos, &seg);
    if (band->lo < seg.lo)
        band = split(map, band, seg.lo);
    if (band->hi > seg.hi)
        split(map, band, seg.hi);
    for (uint32_t i = 0; i < seg.columns; i++) {
        change_columns(map, band, seg.column[i].lo, seg.column[i].hi, change, seg.partial);
    }
    if (!band->band.first)
        remove_interval(map, band);
    else if (flatten(map, band) && change->clears && span->rows == 1)
        join_before(map, span, band, change);
    return seg.hi;
}

uint64_t range_fill_gap(struct rangemap *map, const struct span *span, uint64_t pos,
                        struct range_cell *before, struct range_cell *after,
                        const struct range_change *change)
{
    uint64_t limit = after ? after->lo : UINT64_MAX, stop = row_end(span, pos, limit);
    uint64_t shift, rows = 0;
    uint32_t idx;

    if (change->erases)
        return stop;
    if (!range_index_ready(&map->index, 2))
        return pos;
    if (begins_row(span, pos)) {
        if (after && after->type == CELL_BAND && after->band.pitch == span->pitch &&
            after->lo - pos < span->pitch && shift_band(map, before, after, after->lo - pos))
            return change_band(map, span, pos, after, change);
        shift = find_shift(span, pos, before, after);
        rows = fit_rows(span, pos, pos - shift, limit);
    }
    if (rows >= 2) {
        struct range_cell *band;

        stop = pos - shift + rows * span->pitch;
        idx = new_interval(map, CELL_BAND, pos - shift, stop);
        band = range_cell_at(&map->index, idx);
        band->band.pitch = span->pitch;
        change_columns(map, band, shift, shift + span->width, change, false);
        range_index_insert(&map->index, idx);
        return stop;
    }
    if (change->clears && before && before->hi == pos && before->lo >= span->base &&
        is_written_by(before, change)) {
        before->hi = stop;
        return stop;
    }
    idx = new_interval(map, CELL_PLAIN, pos, stop);
    range_change_cell(map, range_cell_at(&map->index, idx), change, false);
    range_index_insert(&map->index, idx);
    return stop;
}

/* Turns the rows of a plain interval that the view has in it, from pos on, into a band. */
static uint64_t lay_rows(struct rangemap *map, const struct span *span, uint64_t pos,
                         struct range_cell *cell, const struct range_change *change)
{
    uint64_t pitch = span->pitch, shift = 0, rows, lo, hi;
    struct range_cell *col;
    uint32_t idx;

    /* Most likely the interval is the matrix, and its rows begin where it begins. */
    if (span->base >= cell->lo)
        shift = (span->base - cell->lo) % pitch;
    if (shift + span->width > pitch)
        shift = 0;
    lo = pos - shift;
    rows = fit_rows(span, pos, lo, cell->hi);
    if (rows < 2 || !range_index_ready(&map->index, 4 * cells_of(map, cell) + 4))
        return pos;
    hi = lo + rows * pitch;
    if (cell->lo < lo)
        cell = split(map, cell, lo);
    if (cell->hi > hi)
        split(map, cell, hi);
    idx = new_interval(map, CELL_COLUMN, 0, pitch);
    map->count--; /* it takes over from the cell */
    col = range_cell_at(&map->index, idx);
    range_marks_move(col, cell);
    cell->type = CELL_BAND;
    cell->band.pitch = pitch;
    cell->band.first = idx;
    change_columns(map, cell, shift, shift + span->width, change, false);
    return hi;
}

static uint64_t change_plain(struct rangemap *map, const struct span *span, uint64_t pos,
                             struct range_cell *cell, const struct range_change *change)
{
    uint64_t stop = row_end(span, pos, cell->hi);

    if (begins_row(span, pos)) {
        uint64_t laid = lay_rows(map, span, pos, cell, change);

        if (laid > pos)
            return laid;
    }
    if (!range_index_ready(&map->index, 2 * cells_of(map, cell) + 1))
        return pos;
    if (cell->lo < pos)
        cell = split(map, cell, pos);
    if (cell->hi > stop)
        split(map, cell, stop);
    if (change->erases) {
        remove_interval(map, cell);
        return stop;
    }
    range_change_cell(map, cell, change, false);
    if (change->clears && span->rows == 1)
        join_before(map, span, cell, change);
    return stop;
}

static void spill(struct rangemap *map, uint64_t lo, uint64_t hi, const struct range_change *change)
{
    assert(map->spill_count < map->spill_max); /* rangemap_reserve was not called */
    map->spill[map->spill_count++] = (struct range_spill){lo, hi, change->ref, change->kind};
}

/* What was spilled is overwritten like anything else, if the span has it whole. */
static void clear_spills(struct rangemap *map, const struct span *span,
                         const struct range_change *change)
{
    uint64_t end = span_end(span);

    for (uint32_t i = 0; i < map->spill_count;) {
        const struct range_spill *old = &map->spill[i];
        bool data = old->kind != MARK_USER && old->kind != MARK_BARRIER;

        if (span->base <= old->lo && old->hi <= end && (change->erases || (change->clears && data)))
            map->spill[i] = map->spill[--map->spill_count];
        else
            i++;
    }
}

void range_record(struct rangemap *map, const struct span *span, const struct range_change *change)
{
    struct range_index *ix = &map->index;
    uint64_t end = span_end(span), pos = span->base, next;

    if (map->spill_count && span->rows == 1)
        clear_spills(map, span, change);
    for (; pos < end; pos = span_next(span, next)) {
        struct range_cursor cur = range_index_seek(ix, pos);
        struct range_cell *cell = range_cursor_cell(ix, cur);

        if (cell && cell->type == CELL_BAND && cell->lo < pos &&
            cell->hi - pos < cell->band.pitch &&
            shift_band(map, range_cursor_before(ix, cur), cell, cell->hi - pos)) {
            cur = range_index_seek(ix, pos);
            cell = range_cursor_cell(ix, cur);
        }
        if (!cell || cell->lo > pos)
            next = range_fill_gap(map, span, pos, range_cursor_before(ix, cur), cell, change);
        else if (cell->type == CELL_BAND)
            next = change_band(map, span, pos, cell, change);
        else
            next = change_plain(map, span, pos, cell, change);
        if (next > pos)
            continue;
        if (!change->erases) {
            spill(map, pos, end, change);
            return;
        }
        next = cell->hi;
    }
}

/* Returns: whether the interval says anything still. */
static bool settle_interval(struct rangemap *map, struct range_cell *cell, bool poison)
{
    struct settling settling = {map, poison};
    uint32_t *link = &cell->band.first;

    if (cell->type != CELL_BAND) {
        range_marks_filter(&map->index, cell, settle, &settling);
        return cell->n > 0;
    }
    while (*link) {
        struct range_cell *col = range_cell_at(&map->index, *link);
        uint32_t idx = *link;

        if (settle_interval(map, col, poison)) {
            link = &col->next;
        } else {
            *link = col->next;
            free_interval(map, idx);
        }
    }
    return cell->band.first != 0;
}

/* Goes on with the lap over some cells. */
static void sweep_batch(struct rangemap *map)
{
    struct range_cursor cur = range_index_seek(&map->index, map->sweep_at);
    struct range_cell *cell;

    for (uint32_t i = 0; i < SWEEP_BATCH && (cell = range_cursor_cell(&map->index, cur)); i++) {
        if (settle_interval(map, cell, false))
            cur = range_cursor_next(&map->index, cur);
        else
            remove_at(map, &cur);
    }
    cell = range_cursor_cell(&map->index, cur);
    if (cell) {
        map->sweep_at = cell->lo;
        return;
    }
    map->sweeping = 0;
    map->sweep_limit = 2 * map->count > RANGE_SWEEP_MIN ? 2 * map->count : RANGE_SWEEP_MIN;
}

void range_sweep(struct rangemap *map)
{
    if (!map->sweeping) {
        map->sweep_credit = 0;
        if (map->count <= map->sweep_limit)
            return;
        map->sweeping = 1;
        map->sweep_at = 0;
    }
    while (map->sweeping && map->sweep_credit >= SWEEP_BATCH / SWEEP_PER_CELL) {
        map->sweep_credit -= SWEEP_BATCH / SWEEP_PER_CELL;
        sweep_batch(map);
    }
}

void range_settle_all(struct rangemap *map)
{
    struct settling settling = {map, true};
    struct range_cursor cur = range_cursor_settled(&map->index, (struct range_cursor){0, 0});
    struct range_cell *cell;

    while ((cell = range_cursor_cell(&map->index, cur))) {
        if (settle_interval(map, cell, true))
            cur = range_cursor_next(&map->index, cur);
        else
            remove_at(map, &cur);
    }
    for (uint32_t i = 0; i < map->spill_count;) {
        if (settle(&settling, &map->spill[i].kind, map->spill[i].ref))
            i++;
        else
            map->spill[i] = map->spill[--map->spill_count];
    }
}

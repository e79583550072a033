/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map: from the bytes a task touches to the tasks it must follow. Runs in the
 * orchestrator, single thread, no locks. Owns the intervals and their marks (through the index).
 *
 * An interval is plain, or a band: rows of one pitch with columns, so that a view of thousands of
 * rows costs what its neighbours cost and not its rows. A band begins where a row begins; views
 * that start elsewhere in the row wrap around its end and become two columns, shifted by one row.
 *
 * An access first reports: looks at all marks and asks for no memory. Then it records: cuts
 * intervals at its edges and marks what is inside (rangemap_record.c).
 */
#include "engine/rangemap.h"

#include "engine/rangemap_marks.h"
#include "engine/rangemap_recall.h"
#include "engine/rangemap_record.h"
#include "engine/rangemap_span.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CELLS_PER_ACCESS 16 /* the usual amount (rangemap_reserve) */
#define NO_EDGE 0xff

/* Who asks, and what for. Marks of each kind give the edge in `edge`. */
struct query {
    struct rangemap *map;
    const uint8_t *edge;
    const struct taskref *self; /* or NULL */
};

struct taking {
    struct rangemap *map;
    void (*each)(void *ctx, struct taskref ref);
    void *ctx;
};

/* clang-format off */
static const uint8_t edges_of[][5] = {
    /* of the mark:       writer    poison       reader    user     barrier */
    [ACCESS_READ] =      {EDGE_RAW, EDGE_POISON, NO_EDGE,  NO_EDGE, EDGE_BARRIER},
    [ACCESS_WRITE] =     {EDGE_WAW, NO_EDGE,     EDGE_WAR, NO_EDGE, EDGE_BARRIER},
    [ACCESS_READWRITE] = {EDGE_RAW, EDGE_POISON, EDGE_WAR, NO_EDGE, EDGE_BARRIER},
    [ACCESS_USE] =       {NO_EDGE,  NO_EDGE,     NO_EDGE,  NO_EDGE, EDGE_BARRIER},
};
/* clang-format on */

/*
 * Reporting.
 */

static enum ref_state state_of(const struct rangemap *map, struct taskref ref)
{
    return map->ops.state(map->ops.ctx, ref);
}

/* range_mark_fn: the edge that one mark gives to a query. */
static bool give_edge(void *arg, uint8_t *kind, struct taskref ref)
{
    const struct query *query = arg;
    const struct rangemap_ops *ops = &query->map->ops;
    uint8_t edge = query->edge[*kind];
    enum ref_state state;

    if (edge == NO_EDGE || (query->self && taskref_same(ref, *query->self)))
        return true;
    if (*kind == MARK_POISON) {
        ops->edge(ops->ctx, ref, EDGE_POISON);
        return true;
    }
    state = ops->state(ops->ctx, ref);
    if (state == REF_PENDING) {
        ops->edge(ops->ctx, ref, (enum edge_kind)edge);
        return true;
    }
    if (*kind != MARK_WRITER || state == REF_DONE)
        return false;
    if (edge == EDGE_RAW)
        ops->edge(ops->ctx, ref, EDGE_POISON);
    return true;
}

/* range_mark_fn: shows one mark to whoever takes the memory. */
static bool give_user(void *arg, uint8_t *kind, struct taskref ref)
{
    const struct taking *taking = arg;

    if (*kind != MARK_POISON && state_of(taking->map, ref) == REF_PENDING)
        taking->each(taking->ctx, ref);
    return true;
}

static void show_band(struct rangemap *map, const struct range_cell *band, const struct span *span,
                      range_mark_fn *fn, void *arg)
{
    uint64_t end = span_end(span), pos = span_next(span, band->lo);
    struct range_cell *col;
    struct span_segment seg;

    end = end < band->hi ? end : band->hi;
    for (; pos < end; pos = span_next(span, seg.hi)) {
        span_find_segment(span, band->lo, band->hi, band->band.pitch, pos, &seg);
        for (uint32_t idx = band->band.first; idx; idx = col->next) {
            bool hit = false;

            col = range_cell_at(&map->index, idx);
            for (uint32_t i = 0; i < seg.columns; i++)
                hit |= col->lo < seg.column[i].hi && seg.column[i].lo < col->hi;
            if (hit)
                range_marks_filter(&map->index, col, fn, arg);
        }
    }
}

/* Shows every mark on the bytes of the span; fn says which ones to keep. */
static void show(struct rangemap *map, const struct span *span, range_mark_fn *fn, void *arg)
{
    struct range_index *ix = &map->index;
    struct range_cursor cur = range_index_seek(ix, span->base);
    uint64_t end = span_end(span);
    struct range_cell *cell;

    for (; (cell = range_cursor_cell(ix, cur)) && cell->lo < end;
         cur = range_cursor_next(ix, cur)) {
        if (cell->type == CELL_BAND)
            show_band(map, cell, span, fn, arg);
        else if (span->rows == 1 || span_next(span, cell->lo) < (end < cell->hi ? end : cell->hi))
            range_marks_filter(ix, cell, fn, arg);
    }
    for (uint32_t i = 0; i < map->spill_count;) {
        struct range_spill *spill = &map->spill[i];

        if (spill->lo >= end || spill->hi <= span->base || fn(arg, &spill->kind, spill->ref))
            i++;
        else
            *spill = map->spill[--map->spill_count];
    }
}

/*
 * What the engine calls.
 */

int rangemap_init(struct rangemap *map, const struct rangemap_ops *ops)
{
    memset(map, 0, sizeof(*map));
    map->ops = *ops;
    map->sweep_limit = RANGE_SWEEP_MIN;
    return range_index_init(&map->index);
}

void rangemap_fini(struct rangemap *map)
{
    range_index_fini(&map->index);
    range_recall_fini(&map->recall);
    free(map->spill);
    memset(map, 0, sizeof(*map));
}

int rangemap_reserve(struct rangemap *map, uint32_t nspans)
{
    if (!range_index_ready(&map->index, (uint64_t)nspans * CELLS_PER_ACCESS))
        return -ENOMEM;
    if (map->spill_max - map->spill_count < nspans) {
        uint64_t max = 2 * ((uint64_t)map->spill_count + nspans);
        struct range_spill *larger = NULL;

        if (max <= UINT32_MAX)
            larger = realloc(map->spill, max * sizeof(*larger));
        if (!larger)
            return -ENOMEM;
        map->spill = larger;
        map->spill_max = (uint32_t)max;
    }
    if (range_recall_full(&map->recall, map->count))
        range_recall_grow(&map->recall, map->count);
    range_sweep(map);
    return 0;
}

/* The common cases: an interval with exactly these bounds, or nothing known of any of the bytes. */
static bool access_exact(struct rangemap *map, const struct span *span, struct query *query,
                         const struct range_change *change)
{
    struct range_index *ix = &map->index;
    uint64_t lo = span->base, hi = lo + span->width;
    struct range_cell *cell = range_recall_get(&map->recall, ix, lo, hi);

    if (!cell) {
        struct range_cursor cur = range_index_seek(ix, lo);

        cell = range_cursor_cell(ix, cur);
        if (!cell || cell->lo >= hi)
            return range_fill_gap(map, span, lo, range_cursor_before(ix, cur), cell, change) > lo;
        if (cell->lo != lo || cell->hi != hi || cell->type != CELL_PLAIN)
            return false;
        range_recall_put(&map->recall, lo, range_cursor_idx(ix, cur));
    }
    if (!ix->cell_spare)
        return false;
    range_marks_filter(ix, cell, give_edge, query);
    range_change_cell(map, cell, change, false);
    return true;
}

/* The same for a tile: a column with exactly these bounds, in a band with just these rows. */
static bool access_column(struct rangemap *map, const struct span *span, struct query *query,
                          const struct range_change *change)
{
    struct range_index *ix = &map->index;
    struct range_cell *band = range_cursor_cell(ix, range_index_seek(ix, span->base)), *col;
    struct span_segment seg;

    if (!band || band->type != CELL_BAND || band->band.pitch != span->pitch ||
        band->lo > span->base || !ix->cell_spare)
        return false;
    span_find_segment(span, band->lo, band->hi, span->pitch, span->base, &seg);
    if (seg.lo != band->lo || seg.hi != band->hi || seg.hi < span_end(span) || seg.columns != 1)
        return false;
    for (uint32_t idx = band->band.first; idx; idx = col->next) {
        col = range_cell_at(ix, idx);
        if (col->hi < seg.column[0].hi)
            continue;
        if (col->lo != seg.column[0].lo || col->hi != seg.column[0].hi)
            return false;
        range_marks_filter(ix, col, give_edge, query);
        range_change_cell(map, col, change, false);
        return true;
    }
    return false;
}

void rangemap_access(struct rangemap *map, const struct span *span, enum access access,
                     struct taskref self)
{
    static const struct {
        uint8_t kind;
        bool clears;
    } leaves[] = {
        [ACCESS_READ] = {MARK_READER, false},
        [ACCESS_WRITE] = {MARK_WRITER, true},
        [ACCESS_READWRITE] = {MARK_WRITER, true},
        [ACCESS_USE] = {MARK_USER, false},
    };
    struct range_change change = {self, leaves[access].kind, leaves[access].clears, false};
    /* Not &self: two copies made of one another would wait for the stores of its parts. */
    struct query query = {map, edges_of[access], &change.ref};
    struct span at = span_canonical(*span);

    if (!at.width)
        return;
    if (!map->spill_count && (at.rows == 1 ? access_exact(map, &at, &query, &change)
                                           : access_column(map, &at, &query, &change)))
        return;
    show(map, &at, give_edge, &query);
    range_record(map, &at, &change);
}

void rangemap_expect(const struct rangemap *map, const struct span *span)
{
    const struct range_recall *recall = &map->recall;

    __builtin_prefetch(&recall->bucket[range_recall_hash(span->base) >> (64 - recall->bits)]);
}

void rangemap_expect_close(const struct rangemap *map, const struct span *span)
{
    const struct range_recall *recall = &map->recall;
    uint64_t hash = range_recall_hash(span->base);
    const struct range_bucket *bucket;
    uint32_t hits;

    bucket = &recall->bucket[hash >> (64 - recall->bits)];
    hits = range_bucket_hits(bucket, (uint32_t)(hash >> 8)) | 1u << (RANGE_BUCKET - 1);
    __builtin_prefetch(range_cell_at(&map->index, bucket->cell[__builtin_ctz(hits)]), 1);
}

void rangemap_edges(struct rangemap *map, const struct span *span, enum access access)
{
    struct query query = {map, edges_of[access], NULL};
    struct span at = span_canonical(*span);

    if (at.width)
        show(map, &at, give_edge, &query);
}

void rangemap_take(struct rangemap *map, uint64_t lo, uint64_t hi,
                   void (*each)(void *ctx, struct taskref ref), void *ctx)
{
    struct taking taking = {map, each, ctx};
    struct range_change change = {.erases = true};
    struct span at = {lo, hi - lo, 0, 1};

    if (lo >= hi)
        return;
    show(map, &at, give_user, &taking);
    range_record(map, &at, &change);
}

void rangemap_bar(struct rangemap *map, uint64_t lo, uint64_t hi, const struct taskref *refs,
                  uint32_t n)
{
    struct range_change change = {.kind = MARK_BARRIER};
    struct span at = {lo, hi - lo, 0, 1};

    for (uint32_t i = 0; lo < hi && i < n; i++) {
        change.ref = refs[i];
        range_record(map, &at, &change);
    }
}

void rangemap_poison(struct rangemap *map)
{
    range_settle_all(map);
}

uint64_t rangemap_count(const struct rangemap *map)
{
    return map->count + map->spill_count;
}

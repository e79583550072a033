/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Arithmetic on spans: where a strided view has its bytes. Orchestrator only; owns nothing.
 * All of these expect a span that span_canonical has made: either one row, or several whose pitch
 * is larger than their width.
 */
#ifndef TRANSOM_ENGINE_RANGEMAP_SPAN_H
#define TRANSOM_ENGINE_RANGEMAP_SPAN_H

#include "engine/rangemap.h"

#include <stdbool.h>

/* Past the last byte. */
static inline uint64_t span_end(const struct span *span)
{
    return span->base + (span->rows - 1) * span->pitch + span->width;
}

/* Rows that touch or overlap are one range. The pitch of one row is zero, so that ends come out. */
static inline struct span span_canonical(struct span span)
{
    if (span.rows != 1 && (!span.rows || span.pitch <= span.width)) {
        span.width = span.rows && span.width ? span_end(&span) - span.base : 0;
        span.rows = 1;
    }
    if (span.rows == 1)
        span.pitch = 0;
    return span;
}

/* The row that pos lies in, or in the gap behind. pos >= base. */
static inline uint64_t span_row(const struct span *span, uint64_t pos)
{
    return span->rows == 1 ? 0 : (pos - span->base) / span->pitch;
}

/* The first byte at pos or after; span_end where there is none. */
static inline uint64_t span_next(const struct span *span, uint64_t pos)
{
    uint64_t row, start;

    if (pos <= span->base)
        return span->base;
    row = span_row(span, pos);
    start = span->base + row * span->pitch;
    if (row >= span->rows)
        return span_end(span);
    if (pos - start < span->width)
        return pos;
    return row + 1 < span->rows ? start + span->pitch : span_end(span);
}

/* Past the last byte below limit. limit > base. */
static inline uint64_t span_last(const struct span *span, uint64_t limit)
{
    uint64_t row = span_row(span, limit - 1), start;

    if (row >= span->rows)
        return span_end(span);
    start = span->base + row * span->pitch;
    return limit - start < span->width ? limit : start + span->width;
}

/* A run of whole rows of a band in which a view touches the same columns. */
struct span_segment {
    uint64_t lo, hi; /* the rows, as addresses */
    uint32_t columns;
    struct {
        uint64_t lo, hi;
    } column[2];
    bool partial; /* there may be bytes in the columns that the view leaves alone */
};

/*
 * What a view touches of a band in the row of pos (a byte of both), and in how many further rows it
 * touches the same. The band has rows of `pitch` bytes, from lo to hi.
 */
void span_find_segment(const struct span *span, uint64_t lo, uint64_t hi, uint64_t pitch,
                       uint64_t pos, struct span_segment *out);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * From a view as tensors have it (shape and strides) to the few spans that the range map takes, and
 * what of a band such a span touches. Runs in the orchestrator; owns nothing.
 */
#include "engine/rangemap_span.h"

#include <errno.h>
#include <string.h>

#define DIMS_MAX 8

/* What is left of a view: runs of `width` bytes, repeated along dimensions of ascending stride. */
struct view {
    uint64_t base, width;
    uint32_t ndim;
    struct {
        uint64_t size, stride;
    } dim[DIMS_MAX];
};

static void remove_dim(struct view *view, uint32_t d)
{
    view->ndim--;
    memmove(&view->dim[d], &view->dim[d + 1], (view->ndim - d) * sizeof(view->dim[0]));
}

/* Sorts the dimension in; one of a single element, or without a stride, adds no bytes. */
static int add_dim(struct view *view, uint64_t size, int64_t stride)
{
    uint64_t step = stride < 0 ? -(uint64_t)stride : (uint64_t)stride, reach, end;
    uint32_t d;

    if (size == 1 || stride == 0)
        return 0;
    if (__builtin_mul_overflow(size - 1, step, &reach))
        return -EOVERFLOW;
    if (stride < 0 && __builtin_sub_overflow(view->base, reach, &view->base))
        return -EOVERFLOW;
    for (d = view->ndim; d > 0 && view->dim[d - 1].stride > step; d--)
        view->dim[d] = view->dim[d - 1];
    view->dim[d].size = size;
    view->dim[d].stride = step;
    view->ndim++;
    end = view->base + view->width;
    for (d = 0; d < view->ndim; d++) {
        reach = (view->dim[d].size - 1) * view->dim[d].stride;
        if (__builtin_add_overflow(end, reach, &end))
            return -EOVERFLOW;
    }
    return 0;
}

/* Merges what leaves no gap: runs that touch, and rows that continue the rows of the one below. */
static void merge_dims(struct view *view)
{
    while (view->ndim && view->dim[0].stride <= view->width) {
        view->width += (view->dim[0].size - 1) * view->dim[0].stride;
        remove_dim(view, 0);
    }
    for (uint32_t d = 0; d + 1 < view->ndim;) {
        uint64_t stride = view->dim[d].stride, above = view->dim[d + 1].stride;

        if (above % stride || above / stride > view->dim[d].size) {
            d++;
            continue;
        }
        view->dim[d].size += above / stride * (view->dim[d + 1].size - 1);
        remove_dim(view, d + 1);
    }
}

/* How many spans it takes with this dimension as rows, or more than max. */
static uint64_t count_spans(const struct view *view, uint32_t rows, uint32_t max)
{
    uint64_t n = 1;

    for (uint32_t d = 0; d < view->ndim && n <= max; d++) {
        if (d != rows && __builtin_mul_overflow(n, view->dim[d].size, &n))
            return UINT64_MAX;
    }
    return n;
}

/*
 * Chooses the dimension that becomes rows: the smallest stride, which is the pitch that other views
 * of the same memory will most likely have, else the longest that fits. While none fits, fills the
 * gaps of the smallest stride.
 */
static uint32_t choose_rows(struct view *view, uint32_t max)
{
    for (;;) {
        uint32_t best = 0;

        merge_dims(view);
        if (count_spans(view, 0, max) <= max)
            return 0;
        for (uint32_t d = 1; d < view->ndim; d++) {
            if (view->dim[d].size > view->dim[best].size)
                best = d;
        }
        if (count_spans(view, best, max) <= max)
            return best;
        view->width += (view->dim[0].size - 1) * view->dim[0].stride;
        remove_dim(view, 0);
    }
}

int span_from_view(uint64_t base, uint32_t ndim, const uint64_t *shape,
                   const int64_t *strides_bytes, uint64_t elem_bytes, struct span *out,
                   uint32_t max)
{
    struct view view = {.base = base, .width = elem_bytes};
    uint64_t at[DIMS_MAX] = {0}, count;
    uint32_t rows;

    if (ndim > DIMS_MAX || !max || max > INT32_MAX)
        return -EINVAL;
    for (uint32_t d = 0; d < ndim; d++) {
        if (!shape[d])
            return 0;
    }
    if (!elem_bytes)
        return 0;
    if (elem_bytes > UINT64_MAX - base)
        return -EOVERFLOW;
    for (uint32_t d = 0; d < ndim; d++) {
        int err = add_dim(&view, shape[d], strides_bytes[d]);

        if (err)
            return err;
    }
    rows = choose_rows(&view, max);
    count = count_spans(&view, rows, max);
    for (uint64_t i = 0; i < count; i++) {
        out[i] = (struct span){view.base, view.width, view.width, 1};
        for (uint32_t d = 0; d < view.ndim; d++)
            out[i].base += at[d] * view.dim[d].stride;
        if (view.ndim) {
            out[i].rows = view.dim[rows].size;
            out[i].pitch = view.dim[rows].stride;
        }
        for (uint32_t d = 0; d < view.ndim; d++) {
            if (d == rows)
                continue;
            if (++at[d] < view.dim[d].size)
                break;
            at[d] = 0;
        }
    }
    return (int)count;
}

/*
 * Of a band with the view's own pitch: the rows of the view begin `shift` bytes into the band's.
 * Returns: how many rows from `row` on are touched in the same columns.
 */
static uint64_t find_columns(const struct span *span, uint64_t shift, uint64_t row,
                             struct span_segment *out)
{
    uint64_t over = shift + span->width > span->pitch ? shift + span->width - span->pitch : 0;
    uint64_t nth = (row - (span->base - shift)) / span->pitch; /* of the view, and above 0 */

    out->columns = 0;
    if (nth < span->rows) {
        out->column[0].lo = shift;
        out->column[0].hi = over ? span->pitch : shift + span->width;
        out->columns = 1;
    }
    if (over && nth) {
        out->column[out->columns].lo = 0;
        out->column[out->columns].hi = over;
        out->columns++;
    }
    return nth < span->rows && (nth || !over) ? span->rows - nth : 1;
}

void span_find_segment(const struct span *span, uint64_t lo, uint64_t hi, uint64_t pitch,
                       uint64_t pos, struct span_segment *out)
{
    uint64_t row = lo + (pos - lo) / pitch * pitch, rows = (hi - row) / pitch, same = 1;
    uint64_t from = pos, to;

    out->columns = 1;
    out->partial = false;
    if (span->rows > 1 && span->pitch == pitch) {
        uint64_t shift = (span->base - lo) % pitch;

        if (span->base < lo)
            shift = (pitch - (lo - span->base) % pitch) % pitch;
        same = find_columns(span, shift, row, out);
    } else {
        to = span_last(span, hi);
        out->partial = span_row(span, from) != span_row(span, to - 1);
        if (out->partial) {
            from = row;
            to = row + ((to - 1 - row) / pitch + 1) * pitch;
        }
        out->column[0].lo = from - row;
        out->column[0].hi = to - row < pitch ? to - row : pitch;
        if (from == row && to - row > pitch)
            same = (to - row) / pitch;
    }
    out->lo = row;
    out->hi = row + (same < rows ? same : rows) * pitch;
}

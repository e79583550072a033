/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives over a domain, on the synchronisation area behind each window; no user signal is touched. Chip
 * processes, inside a task. The barrier is the dissemination barrier of Hensgen, Finkel and Manber (1988)
 * with epochs that only grow. docs/task.md.
 */
#include <stdlib.h>
#include <string.h>

#include "chip/chip.h"

static struct sync_area *sync_of(const tsm_ctx *c, uint32_t rank)
{
    uint64_t at = c->desc->base + (rank + 1) * c->desc->stride - sizeof(struct sync_area);
    return (struct sync_area *)(uintptr_t)at;
}

int tsm_barrier(tsm_ctx *c)
{
    struct sync_area *own = sync_of(c, c->rank);
    uint64_t epoch = a64_load(&own->epoch) + 1;
    a64_store(&own->epoch, epoch);
    uint32_t size = c->desc->size;
    for (uint32_t round = 0, step = 1; step < size; round++, step *= 2) {
        uint32_t peer = (c->rank + step) % size;
        a64_release(&sync_of(c, peer)->round[round].arrived, epoch); /* pairs with look_signal */
        wake_place(&c->chip->arena, c->members[peer]);
        int rc = task_wait_signal(c, &own->round[round].arrived, TSM_GE, epoch, NULL, -1);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* into[i] = op(into[i], from[i]) */
typedef void combine_fn(void *into, const void *from, uint64_t count);

#define COMBINE(name, type, expression)                                                            \
    static void name(void *into, const void *from, uint64_t count)                                 \
    {                                                                                              \
        type *restrict x = into;                                                                   \
        const type *restrict y = from;                                                             \
        for (uint64_t i = 0; i < count; i++) {                                                     \
            const type a = x[i];                                                                   \
            const type b = y[i];                                                                   \
            x[i] = (type)(expression);                                                             \
        }                                                                                          \
    }
#define COMBINE_ALL(suffix, type)                                                                  \
    COMBINE(sum_##suffix, type, a + b)                                                             \
    COMBINE(prod_##suffix, type, a *b)                                                             \
    COMBINE(min_##suffix, type, b < a ? b : a)                                                     \
    COMBINE(max_##suffix, type, b > a ? b : a)

COMBINE_ALL(u32, uint32_t)
COMBINE_ALL(u64, uint64_t)
COMBINE_ALL(f32, float)
COMBINE_ALL(f64, double)
/* Sums and products of signed integers wrap, as unsigned ones of the same bits. */
COMBINE(min_i32, int32_t, b < a ? b : a)
COMBINE(max_i32, int32_t, b > a ? b : a)
COMBINE(min_i64, int64_t, b < a ? b : a)
COMBINE(max_i64, int64_t, b > a ? b : a)

static combine_fn *combine_of(int dtype, int op)
{
    if (op < TSM_SUM || op > TSM_MAX) {
        return NULL;
    }
    combine_fn *const u32[] = {sum_u32, prod_u32, min_u32, max_u32};
    combine_fn *const i32[] = {sum_u32, prod_u32, min_i32, max_i32};
    combine_fn *const u64[] = {sum_u64, prod_u64, min_u64, max_u64};
    combine_fn *const i64[] = {sum_u64, prod_u64, min_i64, max_i64};
    combine_fn *const f32[] = {sum_f32, prod_f32, min_f32, max_f32};
    combine_fn *const f64[] = {sum_f64, prod_f64, min_f64, max_f64};
    switch (dtype) {
    case TSM_U32:
        return u32[op - 1];
    case TSM_I32:
        return i32[op - 1];
    case TSM_U64:
        return u64[op - 1];
    case TSM_I64:
        return i64[op - 1];
    case TSM_F32:
        return f32[op - 1];
    case TSM_F64:
        return f64[op - 1];
    default:
        return NULL;
    }
}

/* This rank's part of the elements: combined from all ranks and given to all. A block at a time, so that the
 * sum stays in the cache. */
static void reduce_part(const tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t first, uint64_t count,
                        uint64_t element, combine_fn *combine)
{
    enum { BLOCK = 16384 };
    _Alignas(LINE) uint8_t sum[BLOCK];
    for (uint64_t done = 0; done < count;) {
        uint64_t n = count - done < BLOCK / element ? count - done : BLOCK / element;
        uint64_t at = (first + done) * element;
        memcpy(sum, tsm_ptr(c, tsm_offset(src, at), 0), n * element);
        for (uint32_t r = 1; r < c->desc->size; r++) {
            combine(sum, tsm_ptr(c, tsm_offset(src, at), r), n);
        }
        for (uint32_t r = 0; r < c->desc->size; r++) {
            memcpy(tsm_ptr(c, tsm_offset(dst, at), r), sum, n * element);
        }
        done += n;
    }
}

int tsm_all_reduce(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op)
{
    combine_fn *combine = combine_of(dtype, op);
    uint64_t element = tsm_dtype_bytes(dtype);
    int code = 0;
    if (!combine) {
        return TSM_EINVAL;
    }
    if (count > UINT64_MAX / element) {
        return TSM_ERANGE;
    }
    uint64_t bytes = count * element;
    if (!sym_address(c, dst, 0, bytes, &code) || !sym_address(c, src, 0, bytes, &code)) {
        return code;
    }
    if (dst.offset % element != 0 || src.offset % element != 0) {
        return TSM_EINVAL;
    }
    if (dst.offset != src.offset && dst.offset < src.offset + bytes &&
        src.offset < dst.offset + bytes) {
        return TSM_EINVAL;
    }
    int rc = tsm_barrier(c);
    if (rc != 0) {
        return rc;
    }
    uint64_t size = c->desc->size;
    /* Parts begin on a line, so that two ranks never write the same one. */
    uint64_t lines = (bytes + LINE - 1) / LINE;
    uint64_t per_line = LINE / element;
    uint64_t first = lines * c->rank / size * per_line;
    uint64_t last = lines * (c->rank + 1) / size * per_line;
    last = last < count ? last : count;
    if (first < last) {
        reduce_part(c, dst, src, first, last - first, element, combine);
    }
    return tsm_barrier(c);
}

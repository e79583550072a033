/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the collectives share: the checks of their arguments, and the parts of a buffer that belong to ranks.
 */
#ifndef CHIP_COLLECTIVE_H
#define CHIP_COLLECTIVE_H

#include "chip/channel.h"

/* Part r of a buffer in elements. counts NULL: `count` each; displs NULL: one behind the other. */
struct parts {
    uint64_t count;
    const uint64_t *counts, *displs;
};
uint64_t part_count(const struct parts *p, uint32_t rank);
uint64_t part_first(const struct parts *p, uint32_t rank);
/* Elements from the begin of the buffer to the end of its last part; UINT64_MAX when that overflows. */
uint64_t parts_extent(const struct parts *p, uint32_t ranks);
/* A number that two ranks with the same parts agree on. */
uint64_t parts_hash(const struct parts *p, uint32_t ranks);

/* What a collective was given, checked: 0, or TSM_EINVAL, TSM_ERANGE, TSM_ESTALE. Counts are of elements from dst
 * and src on; `whole` is what both have when dst is src. */
struct buffers {
    tsm_sym dst, src;
    uint64_t dst_count, src_count;
    uint64_t in_place_count; /* 0: in place is refused */
    uint64_t element;        /* bytes */
};
int buffers_check(const tsm_ctx *c, const struct buffers *b, const struct call *call,
                  uint32_t root);
/* Refuses a call for a reason in words. Returns code. */
int call_refuse(const tsm_ctx *c, int code, const struct call *call, const char *why);
static inline bool in_place(const struct buffers *b)
{
    return b->dst.offset == b->src.offset;
}

/* The own part of `count` elements when they are dealt out to all ranks by whole lines. */
void own_share(const tsm_ctx *c, uint64_t count, uint64_t element, uint64_t *ret_first,
               uint64_t *ret_last);

#endif

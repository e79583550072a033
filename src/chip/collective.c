/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Arguments of collectives (collective.h). Chip processes, inside a task. */
#include "chip/collective.h"

uint64_t part_count(const struct parts *p, uint32_t rank)
{
    return p->counts ? p->counts[rank] : p->count;
}

uint64_t part_first(const struct parts *p, uint32_t rank)
{
    if (p->displs) {
        return p->displs[rank];
    }
    if (!p->counts) {
        return rank * p->count;
    }
    uint64_t first = 0;
    for (uint32_t r = 0; r < rank; r++) {
        first += p->counts[r];
    }
    return first;
}

uint64_t parts_extent(const struct parts *p, uint32_t ranks)
{
    uint64_t extent = 0, end = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        uint64_t first = p->displs ? p->displs[r] : end;
        if (__builtin_add_overflow(first, part_count(p, r), &end)) {
            return UINT64_MAX;
        }
        extent = end > extent ? end : extent;
    }
    return extent;
}

uint64_t parts_hash(const struct parts *p, uint32_t ranks)
{
    uint64_t h = ranks;
    for (uint32_t r = 0; r < ranks; r++) {
        h = (h ^ part_count(p, r)) * UINT64_C(0xff51afd7ed558ccd);
        h = (h ^ (p->displs ? p->displs[r] : 0)) * UINT64_C(0xc4ceb9fe1a85ec53);
        h ^= h >> 29;
    }
    return h;
}

static int check_place(const tsm_ctx *c, tsm_sym s, uint64_t count, uint64_t element)
{
    int code = 0;
    uint64_t bytes;
    if (__builtin_mul_overflow(count, element, &bytes)) {
        return TSM_ERANGE;
    }
    if (!sym_address(c, s, c->rank, bytes, &code)) {
        return code;
    }
    return s.offset % element == 0 ? 0 : TSM_EINVAL;
}

int buffers_check(const tsm_ctx *c, const struct buffers *b)
{
    if (b->element == 0) {
        return TSM_EINVAL;
    }
    bool same = in_place(b);
    if (same && b->in_place_count == 0 && b->dst_count > 0 && b->src_count > 0) {
        return TSM_EINVAL;
    }
    int rc = check_place(c, b->dst, same ? b->in_place_count : b->dst_count, b->element);
    rc = rc != 0 ? rc : check_place(c, b->src, same ? b->in_place_count : b->src_count, b->element);
    if (rc != 0) {
        return rc;
    }
    bool apart = b->dst.offset >= b->src.offset + b->src_count * b->element ||
                 b->src.offset >= b->dst.offset + b->dst_count * b->element;
    return same || apart ? 0 : TSM_EINVAL;
}

void own_share(const tsm_ctx *c, uint64_t count, uint64_t element, uint64_t *ret_first,
               uint64_t *ret_last)
{
    /* Parts begin on a line, so that two ranks never write the same one. */
    uint64_t lines = (count * element + LINE - 1) / LINE;
    uint64_t per_line = LINE / element;
    uint64_t last = lines * (c->rank + 1) / c->size * per_line;
    *ret_first = lines * c->rank / c->size * per_line;
    *ret_last = last < count ? last : count;
}

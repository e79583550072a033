/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Arguments of collectives (collective.h). Chip processes, inside a task. */
#include "chip/collective.h"

#include <stdio.h>

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

int call_refuse(const tsm_ctx *c, int code, const struct call *call, const char *why)
{
    char text[96];
    call_say(call, text, sizeof(text));
    return ctx_refuse(c, code, "%s: %s", text, why);
}

static int check_place(const tsm_ctx *c, tsm_sym s, uint64_t count, uint64_t element,
                       const struct call *call, const char *name)
{
    int code = 0;
    uint64_t bytes;
    char why[80];
    if (__builtin_mul_overflow(count, element, &bytes)) {
        snprintf(why, sizeof(why), "%s has %llu elements", name, (unsigned long long)count);
        return call_refuse(c, TSM_ERANGE, call, why);
    }
    if (!sym_address(c, s, c->rank, bytes, &code)) {
        return code;
    }
    if (s.offset % element != 0) {
        snprintf(why, sizeof(why), "%s at offset %llu, elements of %llu bytes", name,
                 (unsigned long long)s.offset, (unsigned long long)element);
        return call_refuse(c, TSM_EINVAL, call, why);
    }
    return 0;
}

int buffers_check(const tsm_ctx *c, const struct buffers *b, const struct call *call, uint32_t root)
{
    bool same = in_place(b);
    char why[80];
    if (b->element == 0) {
        return call_refuse(c, TSM_EINVAL, call, "no such type");
    }
    if (root >= c->size) {
        snprintf(why, sizeof(why), "root %u of %u ranks", root, c->size);
        return call_refuse(c, TSM_EINVAL, call, why);
    }
    if (same && b->in_place_count == 0 && b->dst_count > 0 && b->src_count > 0) {
        return call_refuse(c, TSM_EINVAL, call, "not in place");
    }
    uint64_t dst_count = same ? b->in_place_count : b->dst_count;
    uint64_t src_count = same ? b->in_place_count : b->src_count;
    int rc = check_place(c, b->dst, dst_count, b->element, call, "dst");
    rc = rc != 0 ? rc : check_place(c, b->src, src_count, b->element, call, "src");
    if (rc != 0 || same || b->dst.offset >= b->src.offset + src_count * b->element ||
        b->src.offset >= b->dst.offset + dst_count * b->element) {
        return rc;
    }
    snprintf(why, sizeof(why), "dst at offset %llu and src at %llu overlap",
             (unsigned long long)b->dst.offset, (unsigned long long)b->src.offset);
    return call_refuse(c, TSM_EINVAL, call, why);
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

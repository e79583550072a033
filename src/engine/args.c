/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Arguments of a task: every value checked and named when it is refused, tensors turned into the bytes they touch,
 * and all of it written into a record. Orchestrator; owns nothing. docs/engine.md.
 */
#include "engine/args.h"

#include <stdio.h>
#include <string.h>

/* "tensor 2" or "member 1: tensor 2" */
struct place_name {
    char text[48];
};

static struct place_name name_of(int member, const char *kind, uint32_t i)
{
    struct place_name n;
    if (member >= 0) {
        snprintf(n.text, sizeof(n.text), "member %d: %s %u", member, kind, i);
    } else {
        snprintf(n.text, sizeof(n.text), "%s %u", kind, i);
    }
    return n;
}

/* What a refusal begins with that is about the whole call: "member 1: ", or nothing. */
static struct place_name whose_call(int member)
{
    struct place_name n = {""};
    if (member >= 0) {
        snprintf(n.text, sizeof(n.text), "member %d: ", member);
    }
    return n;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- where an address is ---- */

static int locate_block(tsm_worker *w, int chip, uint64_t address, uint64_t bytes, const char *what,
                        struct located *ret)
{
    struct block_info block;
    if (blocks_find(&heap_of(w, chip)->blocks, address, &block) != 0 ||
        block.owner == OWNER_NOBODY) {
        return worker_refuse(w, TSM_ERANGE, "%s: %#llx is not in memory that is allocated", what,
                             (unsigned long long)address);
    }
    if (bytes > block.base + block.bytes - address) {
        return worker_refuse(w, TSM_ERANGE,
                             "%s: %llu bytes at %#llx go beyond their allocation of %llu bytes",
                             what, (unsigned long long)bytes, (unsigned long long)address,
                             (unsigned long long)block.bytes);
    }
    *ret = (struct located){chip, NULL};
    return 0;
}

static int locate_window(tsm_worker *w, uint64_t address, uint64_t bytes, const char *what,
                         struct located *ret)
{
    const struct lease *l = lease_at(w, address);
    if (!l || l->state != LEASE_LIVE) {
        return worker_refuse(w, TSM_ESTALE, "%s: %#llx is in the window of a released domain", what,
                             (unsigned long long)address);
    }
    if (l->domain->broken) {
        return worker_refuse(
            w, TSM_ESTALE,
            "%s: %#llx is in a window of '%s' (id %llu), which is broken: release it", what,
            (unsigned long long)address, l->domain->name, (unsigned long long)l->domain->id);
    }
    uint32_t rank = (uint32_t)((address - l->base) / l->stride);
    uint64_t lo = l->base + rank * l->stride;
    uint64_t hi = lo + l->desc->window_bytes;
    if (rank >= l->size || address > hi || bytes > hi - address) {
        return worker_refuse(w, TSM_ERANGE,
                             "%s: %llu bytes at offset %llu go beyond the window of %llu", what,
                             (unsigned long long)bytes, (unsigned long long)(address - lo),
                             (unsigned long long)l->desc->window_bytes);
    }
    *ret = (struct located){(int)l->members[rank], l->domain};
    return 0;
}

int locate(tsm_worker *w, uint64_t address, uint64_t bytes, const char *what, struct located *ret)
{
    const struct arena_info *in = &w->arena.ctl->info;
    uint64_t at = address - in->base;
    if (at - in->windows_offset < in->windows_bytes) {
        return locate_window(w, address, bytes, what, ret);
    }
    if (at - in->heaps_offset < in->chips * in->heap_bytes) {
        return locate_block(w, (int)((at - in->heaps_offset) / in->heap_bytes), address, bytes,
                            what, ret);
    }
    if (at - in->host_offset < in->host_bytes) {
        return locate_block(w, CHIP_HOST, address, bytes, what, ret);
    }
    return worker_refuse(
        w, TSM_ERANGE,
        "%s: %#llx is not memory of this worker: use tsm_buffer_create, tsm_malloc, "
        "tsm_alloc or a domain",
        what, (unsigned long long)address);
}

/* ---- tensors ---- */

static const enum access access_of[] = {
    [TSM_INPUT] = ACCESS_READ,      [TSM_OUTPUT] = ACCESS_WRITE,
    [TSM_INOUT] = ACCESS_READWRITE, [TSM_OUTPUT_EXISTING] = ACCESS_WRITE,
    [TSM_NO_DEP] = ACCESS_USE,
};

/* Bytes of a contiguous tensor of this shape; refuses what overflows. */
static int tensor_bytes(tsm_worker *w, const struct tsm_tensor *t, const char *what, uint64_t *ret)
{
    uint64_t bytes = tsm_dtype_bytes(t->dtype);
    bool empty = false;
    for (uint32_t d = 0; d < t->ndim; d++) {
        if (t->shape[d] == 0) {
            empty = true;
        } else if (__builtin_mul_overflow(bytes, t->shape[d], &bytes) || bytes >> 48 != 0) {
            return worker_refuse(w, TSM_EINVAL, "%s: shape[%u] is %llu: too large", what, d,
                                 (unsigned long long)t->shape[d]);
        }
    }
    *ret = empty ? 0 : bytes;
    return 0;
}

static int check_tensor(tsm_worker *w, const struct tsm_tensor *t, const char *what)
{
    if (tsm_dtype_bytes(t->dtype) == 0) {
        return worker_refuse(w, TSM_EINVAL, "%s: dtype is %u", what, t->dtype);
    }
    if (t->tag > TSM_NO_DEP) {
        return worker_refuse(w, TSM_EINVAL, "%s: tag is %u", what, t->tag);
    }
    if (t->ndim > TSM_DIMS_MAX) {
        return worker_refuse(w, TSM_EINVAL, "%s: ndim is %u, at most %d", what, t->ndim,
                             TSM_DIMS_MAX);
    }
    return 0;
}

static int fill_spans(tsm_worker *w, const struct tsm_tensor *t, uint64_t bytes, const char *what,
                      struct use *u)
{
    uint64_t base = (uint64_t)(uintptr_t)t->data;
    if (!t->stride_given || t->ndim == 0) {
        u->spans[0] = (struct span){base, bytes, 0, 1};
        u->span_count = 1;
        return 0;
    }
    int n = span_from_view(base, t->ndim, t->shape, t->strides, tsm_dtype_bytes(t->dtype), u->spans,
                           SPANS_PER_TENSOR);
    if (n < 0) {
        return worker_refuse(w, TSM_EINVAL, "%s: its strides leave the address space", what);
    }
    u->span_count = (uint32_t)n;
    return 0;
}

/* The chip in whose memory the tensor lies must be the task's. */
static int check_place(tsm_worker *w, struct plan *p, const struct located *at, const char *what)
{
    if (at->domain || at->chip == CHIP_HOST) {
        return 0;
    }
    if (p->chip == TSM_SUB) {
        return worker_refuse(w, TSM_EINVAL,
                             "%s: in the memory of chip %d, which a sub worker cannot reach", what,
                             at->chip);
    }
    int other = p->chip != TSM_ANY_CHIP ? p->chip : p->memory;
    if (other != TSM_ANY_CHIP && other != at->chip) {
        return worker_refuse(
            w, TSM_EINVAL,
            "%s: in the memory of chip %d, but the task is for chip %d: use a host "
            "buffer or a domain",
            what, at->chip, other);
    }
    p->memory = at->chip;
    return 0;
}

static int locate_spans(tsm_worker *w, struct plan *p, struct use *u, const char *what)
{
    uint64_t lo = UINT64_MAX;
    uint64_t hi = 0;
    for (uint32_t i = 0; i < u->span_count; i++) {
        const struct span *s = &u->spans[i];
        uint64_t end = s->base + (s->rows - 1) * s->pitch + s->width;
        lo = s->base < lo ? s->base : lo;
        hi = end > hi ? end : hi;
    }
    struct located at;
    int rc = locate(w, lo, hi - lo, what, &at);
    if (rc != 0) {
        return rc;
    }
    u->domain = at.domain;
    p->names |= at.domain != NULL;
    return check_place(w, p, &at, what);
}

static int check_and_fill(tsm_worker *w, struct plan *p, const struct tsm_tensor *t,
                          const char *what, struct use *u)
{
    uint64_t bytes = 0;
    int rc = check_tensor(w, t, what);
    if (rc != 0 || (rc = tensor_bytes(w, t, what, &bytes)) != 0) {
        return rc;
    }
    u->access = access_of[t->tag ? t->tag : TSM_INPUT];
    u->span_count = 0;
    u->domain = NULL;
    u->allocate = 0;
    if (bytes == 0) {
        return 0;
    }
    if (!t->data) {
        if (t->tag != TSM_OUTPUT) {
            return worker_refuse(w, TSM_EINVAL, "%s: data is NULL", what);
        }
        if (t->stride_given) {
            return worker_refuse(w, TSM_EINVAL, "%s: strides for a tensor without an address",
                                 what);
        }
        u->allocate = bytes;
        return 0;
    }
    rc = fill_spans(w, t, bytes, what, u);
    return rc != 0 ? rc : locate_spans(w, p, u, what);
}

/* Writing the name costs more than all the rest, so it is written when it is needed: a refusal has changed
 * nothing, and is made again under its name. */
static int plan_tensor(tsm_worker *w, struct plan *p, const struct tsm_tensor *t, int member,
                       uint32_t i, struct use *u)
{
    int rc = check_and_fill(w, p, t, "tensor", u);
    if (rc == 0) {
        p->spans += u->span_count + (u->allocate != 0);
        p->allocates |= u->allocate != 0;
        return 0;
    }
    struct place_name what = name_of(member, "tensor", i);
    return check_and_fill(w, p, t, what.text, u);
}

/* ---- the call ---- */

static int check_domains(tsm_worker *w, const struct tsm_call *call, int member)
{
    for (uint32_t i = 0; i < call->domain_count; i++) {
        const tsm_domain *d = call->domains[i];
        if (d && d->worker == w && !d->released && !d->broken) {
            continue;
        }
        struct place_name what = name_of(member, "domain", i);
        if (!d || d->worker != w) {
            return worker_refuse(w, TSM_EINVAL, "%s: not a domain of this worker", what.text);
        }
        if (d->released) {
            return worker_refuse(w, TSM_ESTALE, "%s: '%s' (id %llu) has been released", what.text,
                                 d->name, (unsigned long long)d->id);
        }
        if (d->broken) {
            return worker_refuse(w, TSM_ESTALE, "%s: '%s' (id %llu) is broken: release it",
                                 what.text, d->name, (unsigned long long)d->id);
        }
    }
    return 0;
}

static int check_chip(tsm_worker *w, const struct tsm_call *call, int member)
{
    if (call->chip == TSM_SUB && w->arena.subs == 0) {
        return worker_refuse(w, TSM_EINVAL, "%schip is TSM_SUB, but the worker has no sub workers",
                             whose_call(member).text);
    }
    if (call->chip < TSM_SUB || (call->chip >= 0 && (uint32_t)call->chip >= w->arena.chips)) {
        return worker_refuse(w, TSM_EINVAL, "%schip is %d; there are chips 0 to %u",
                             whose_call(member).text, call->chip, w->arena.chips - 1);
    }
    if (call->limit_ns < 0) {
        return worker_refuse(w, TSM_EINVAL, "%slimit_ns is %lld", whose_call(member).text,
                             (long long)call->limit_ns);
    }
    return 0;
}

static int check_array(tsm_worker *w, const char *name, const void *array, uint32_t count,
                       int member)
{
    if (count == 0 || array) {
        return 0;
    }
    return worker_refuse(w, TSM_EINVAL, "%s%s_count is %u, but its array is NULL",
                         whose_call(member).text, name, count);
}

static int check_arrays(tsm_worker *w, const struct tsm_call *call, int member)
{
    int rc = check_array(w, "tensor", call->tensors, call->tensor_count, member);
    if (rc != 0 ||
        (rc = check_array(w, "scalar", call->scalars, call->scalar_count, member)) != 0 ||
        (rc = check_array(w, "domain", call->domains, call->domain_count, member)) != 0) {
        return rc;
    }
    return check_array(w, "after", call->after, call->after_count, member);
}

/* Of the record, but for the waits and what each tensor takes. */
static uint64_t fixed_bytes(const struct tsm_call *call)
{
    return sizeof(struct record) + (uint64_t)call->domain_count * sizeof(struct record_domain) +
           (uint64_t)call->scalar_count * 8 + round_up((uint64_t)call->tensor_count * 2, 8);
}

int plan_call(tsm_worker *w, const struct tsm_call *call, int member, struct use *uses,
              struct plan *p)
{
    memset(p, 0, sizeof(*p));
    p->call = call;
    p->uses = uses;
    p->chip = call->chip;
    p->memory = TSM_ANY_CHIP;
    int rc = callable_check(w, call->callable, member, &p->callable);
    if (rc != 0 || (rc = check_chip(w, call, member)) != 0 ||
        (rc = check_arrays(w, call, member)) != 0 || (rc = check_domains(w, call, member)) != 0) {
        return rc;
    }
    p->names = call->domain_count != 0;
    uint64_t bytes = fixed_bytes(call);
    for (uint32_t i = 0; i < call->tensor_count; i++) {
        rc = plan_tensor(w, p, &call->tensors[i], member, i, &uses[i]);
        if (rc != 0) {
            return rc;
        }
        bytes += sizeof(struct record_tensor) + call->tensors[i].ndim * 16u;
    }
    if (bytes > RECORD_BYTES_MAX) {
        return worker_refuse(
            w, TSM_EINVAL,
            "%sthe arguments of '%s' (%u tensors, %u scalars, %u domains) make a record of "
            "more than %d bytes",
            whose_call(member).text, callable_name_of(w, p->callable), call->tensor_count,
            call->scalar_count, call->domain_count, RECORD_BYTES_MAX);
    }
    p->bytes = (uint32_t)round_up(bytes, LINE);
    return 0;
}

/* ---- the record ---- */

/* The counts are small: a loop is quicker than the copy that a compiler makes of a memcpy. */
static uint8_t *write_tensor(uint8_t *at, const struct tsm_tensor *t)
{
    struct record_tensor *out = (struct record_tensor *)at;
    out->data = (uint64_t)(uintptr_t)t->data;
    out->dtype = t->dtype;
    out->tag = t->tag ? t->tag : TSM_INPUT;
    out->ndim = t->ndim;
    uint64_t *shape = (uint64_t *)(out + 1);
    int64_t *strides = (int64_t *)(shape + t->ndim);
    int64_t step = (int64_t)tsm_dtype_bytes(t->dtype);
    for (uint32_t d = t->ndim; d-- > 0;) {
        shape[d] = t->shape[d];
        strides[d] = t->stride_given ? t->strides[d] : step;
        step *= (int64_t)t->shape[d];
    }
    return (uint8_t *)(strides + t->ndim);
}

uint32_t plan_write(const struct plan *p, struct record *rec, uint32_t waits)
{
    const struct tsm_call *call = p->call;
    uint8_t *at = (uint8_t *)(rec + 1) + waits * sizeof(struct record_wait);
    struct record_domain *domains = (struct record_domain *)at;
    for (uint32_t i = 0; i < call->domain_count; i++) {
        const struct lease *l = call->domains[i]->lease;
        domains[i] = (struct record_domain){(uint64_t)(uintptr_t)l->desc, l->index, l->generation};
    }
    at = (uint8_t *)(domains + call->domain_count);
    if (call->scalar_count != 0) {
        memcpy(at, call->scalars, call->scalar_count * 8u);
    }
    at += call->scalar_count * 8u;
    uint16_t *offsets = (uint16_t *)at;
    at += round_up(call->tensor_count * 2u, 8);
    for (uint32_t i = 0; i < call->tensor_count; i++) {
        offsets[i] = (uint16_t)((at - (uint8_t *)rec) / 8);
        at = write_tensor(at, &call->tensors[i]);
    }
    return (uint32_t)round_up((uint64_t)(at - (uint8_t *)rec), LINE);
}

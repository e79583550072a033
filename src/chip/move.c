/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives that move data and do no arithmetic: broadcast, gather, scatter, all-gather, all-to-all and their forms
 * with counts. Each rank sends a message to every rank that needs something of it; small payloads travel with the message,
 * larger ones are read from the sender's stage or window, by all readers at once. Chip processes, inside a task.
 * docs/collectives.md.
 */
#include <string.h>

#include "chip/collective.h"
#include "chip/copy.h"

/* Up to here a root pushes to the only other rank; more is better loaded by that one, because no second cache holds it. */
enum { PUSH_ALONE_BYTES = 256 << 10 };

/* One collective on this rank. */
struct move {
    tsm_ctx *c;
    struct buffers b;
    struct call call;
    struct giving giving;
};

/* Checks what all of them check, and begins. count: what the ranks must agree on. */
static int begin(struct move *m, enum call_kind kind, int dtype, uint32_t root, uint64_t count)
{
    m->b.element = tsm_dtype_bytes(dtype);
    m->call = call_make(m->c, kind, dtype, 0, root, count, m->b.dst, m->b.src);
    m->giving = (struct giving){.call = &m->call};
    int rc = buffers_check(m->c, &m->b, &m->call, root);
    return rc != 0 ? rc : channel_begin(m->c, &m->call);
}

/* Element `first` of a buffer in the own window. */
static uint8_t *at(const struct move *m, tsm_sym s, uint64_t first)
{
    return window_of(m->c, m->c->self) + s.offset + first * m->b.element;
}

/* What goes out, if it fits and does not travel in the messages. */
static void stage(struct move *m, const uint8_t *data, uint64_t count, uint64_t largest_part)
{
    if (largest_part * m->b.element > SYNC_PAYLOAD) {
        channel_stage(m->c, &m->giving, data, count * m->b.element);
    }
}

static int give(struct move *m, uint32_t rank, const uint8_t *data, uint64_t count)
{
    return channel_give(m->c, &m->giving, rank, data, count * m->b.element);
}

static int finish(struct move *m, int rc)
{
    return rc != 0 ? rc : channel_finish(m->c, &m->giving);
}

static int take(struct move *m, uint32_t rank, uint8_t *to, uint64_t count)
{
    struct taken t;
    int rc = channel_take(m->c, &m->call, rank, count * m->b.element, &t);
    if (rc == 0) {
        copy_bytes(to, t.data, count * m->b.element);
        channel_release(m->c, &t);
    }
    return rc;
}

static void keep(const struct move *m, uint8_t *to, const uint8_t *from, uint64_t count)
{
    if (to != from) {
        copy_bytes(to, from, count * m->b.element);
    }
}

static int give_all(struct move *m, const uint8_t *data, uint64_t count)
{
    int rc = 0;
    for (uint32_t i = 1; i < m->c->size && rc == 0; i++) {
        rc = give(m, other_rank(m->c, i), data, count);
    }
    channel_flush(m->c);
    return rc;
}

/* ---- pushing ---- */

/* Parts of more elements are pushed: of none, or of any. */
#define PUSH_NONE UINT64_MAX
enum { PUSH_ALL = 0 };

static uint64_t push_limit(const struct move *m, uint64_t staged)
{
    return channel_stages(m->c, staged * m->b.element) ? PUSH_NONE : PUSH_ALL;
}

/* By a root. */
static bool is_pushed_alone(const struct move *m, uint64_t staged, uint64_t largest_part)
{
    return m->c->size == 2 && push_limit(m, staged) == PUSH_ALL &&
           largest_part * m->b.element <= PUSH_ALONE_BYTES;
}

static int invite(struct move *m, uint32_t rank, const uint8_t *to, uint64_t count)
{
    return push_invite(m->c, &m->giving, rank, to, count * m->b.element);
}

static int push(struct move *m, uint32_t rank, const uint8_t *data, uint64_t count)
{
    return push_follow(m->c, &m->giving, rank, data, count * m->b.element);
}

/* From a root. */
static int receive_pushed(struct move *m, uint32_t root, const uint8_t *to, uint64_t count)
{
    int rc = invite(m, root, to, count);
    return rc != 0 ? rc : push_await(m->c, &m->call, root);
}

static int invite_all(struct move *m, const struct parts *to, uint64_t limit)
{
    int rc = 0;
    for (uint32_t i = 1; i < m->c->size && rc == 0; i++) {
        uint32_t r = other_rank(m->c, i);
        if (part_count(to, r) > limit) {
            rc = invite(m, r, at(m, m->b.dst, part_first(to, r)), part_count(to, r));
        }
    }
    channel_flush(m->c);
    return rc;
}

/* What was pushed is there already, or will be. */
static int take_all(struct move *m, const struct parts *to, uint64_t limit)
{
    int rc = 0;
    for (uint32_t i = 1; i < m->c->size && rc == 0; i++) {
        uint32_t r = other_rank(m->c, i);
        uint64_t count = part_count(to, r);
        rc = count > limit ? push_await(m->c, &m->call, r)
                           : take(m, r, at(m, m->b.dst, part_first(to, r)), count);
    }
    return rc;
}

/* ---- broadcast ---- */

int tsm_broadcast(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, uint32_t root)
{
    struct move m = {.c = c, .b = {dst, src, count, count, count, 0}};
    int rc = begin(&m, CALL_BROADCAST, dtype, root, count);
    if (rc != 0) {
        return rc;
    }
    uint8_t *from = at(&m, src, 0), *to = at(&m, dst, 0);
    bool pushed = is_pushed_alone(&m, count, count);
    if (c->rank != root) {
        return finish(&m, pushed ? receive_pushed(&m, root, to, count) : take(&m, root, to, count));
    }
    if (pushed) {
        keep(&m, to, from, count);
        return finish(&m, push(&m, other_rank(c, 1), from, count));
    }
    stage(&m, from, count, count);
    rc = give_all(&m, from, count);
    keep(&m, to, from, count);
    return finish(&m, rc);
}

/* ---- gather, scatter, all-gather ---- */

static uint64_t agreed(const struct parts *p, uint32_t ranks)
{
    return p->counts ? parts_hash(p, ranks) : p->count;
}

static uint64_t largest(const struct parts *p, uint32_t ranks)
{
    uint64_t most = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        most = part_count(p, r) > most ? part_count(p, r) : most;
    }
    return most;
}

/* The part that a rank gives or gets alone lies at the begin of that buffer; in place, where it is among all. */
static uint64_t single_first(const struct move *m, const struct parts *p)
{
    return in_place(&m->b) ? part_first(p, m->c->rank) : 0;
}

static int gather(tsm_ctx *c, enum call_kind kind, tsm_sym dst, tsm_sym src, const struct parts *p,
                  int dtype, uint32_t root)
{
    uint64_t extent = parts_extent(p, c->size), own = part_count(p, c->rank);
    struct move m = {.c = c, .b = {dst, src, extent, largest(p, c->size), extent, 0}};
    int rc = begin(&m, kind, dtype, root, agreed(p, c->size));
    if (rc != 0) {
        return rc;
    }
    const uint8_t *from = at(&m, src, single_first(&m, p));
    uint64_t limit = push_limit(&m, largest(p, c->size));
    if (c->rank == root) {
        rc = invite_all(&m, p, limit);
        keep(&m, at(&m, dst, part_first(p, root)), from, own);
        return finish(&m, rc != 0 ? rc : take_all(&m, p, limit));
    }
    if (own > limit) {
        return finish(&m, push(&m, root, from, own));
    }
    stage(&m, from, own, own);
    rc = give(&m, root, from, own);
    return finish(&m, rc);
}

static int scatter(tsm_ctx *c, enum call_kind kind, tsm_sym dst, tsm_sym src, const struct parts *p,
                   int dtype, uint32_t root)
{
    uint64_t extent = parts_extent(p, c->size), own = part_count(p, c->rank);
    struct move m = {.c = c, .b = {dst, src, largest(p, c->size), extent, extent, 0}};
    int rc = begin(&m, kind, dtype, root, agreed(p, c->size));
    if (rc != 0) {
        return rc;
    }
    uint8_t *to = at(&m, dst, single_first(&m, p));
    bool pushed = is_pushed_alone(&m, extent, largest(p, c->size));
    if (c->rank != root) {
        return finish(&m, pushed ? receive_pushed(&m, root, to, own) : take(&m, root, to, own));
    }
    if (pushed) {
        uint32_t r = other_rank(c, 1);
        keep(&m, to, at(&m, src, part_first(p, root)), own);
        return finish(&m, push(&m, r, at(&m, src, part_first(p, r)), part_count(p, r)));
    }
    stage(&m, at(&m, src, 0), extent, largest(p, c->size));
    for (uint32_t i = 1; i < c->size && rc == 0; i++) {
        uint32_t r = other_rank(c, i);
        rc = give(&m, r, at(&m, src, part_first(p, r)), part_count(p, r));
    }
    channel_flush(c);
    keep(&m, to, at(&m, src, part_first(p, root)), own);
    return finish(&m, rc);
}

static int all_gather(tsm_ctx *c, enum call_kind kind, tsm_sym dst, tsm_sym src,
                      const struct parts *p, int dtype)
{
    uint64_t extent = parts_extent(p, c->size), own = part_count(p, c->rank);
    struct move m = {.c = c, .b = {dst, src, extent, largest(p, c->size), extent, 0}};
    int rc = begin(&m, kind, dtype, 0, agreed(p, c->size));
    if (rc != 0) {
        return rc;
    }
    const uint8_t *from = at(&m, src, single_first(&m, p));
    uint64_t limit = push_limit(&m, largest(p, c->size));
    rc = invite_all(&m, p, limit);
    if (own <= limit) {
        stage(&m, from, own, own);
        rc = rc != 0 ? rc : give_all(&m, from, own);
    }
    keep(&m, at(&m, dst, part_first(p, c->rank)), from, own);
    for (uint32_t i = 1; own > limit && i < c->size && rc == 0; i++) {
        rc = push(&m, other_rank(c, i), from, own);
    }
    channel_flush(c);
    rc = rc != 0 ? rc : take_all(&m, p, limit);
    return finish(&m, rc);
}

int tsm_gather(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, uint32_t root)
{
    struct parts p = {.count = count};
    return gather(c, CALL_GATHER, dst, src, &p, dtype, root);
}

int tsm_scatter(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, uint32_t root)
{
    struct parts p = {.count = count};
    return scatter(c, CALL_SCATTER, dst, src, &p, dtype, root);
}

int tsm_all_gather(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype)
{
    struct parts p = {.count = count};
    return all_gather(c, CALL_ALL_GATHER, dst, src, &p, dtype);
}

static int refuse_counts(const tsm_ctx *c)
{
    return ctx_refuse(c, TSM_EINVAL, "counts is NULL");
}

int tsm_gather_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts,
                 const uint64_t *displs, int dtype, uint32_t root)
{
    struct parts p = {.counts = counts, .displs = displs};
    return counts ? gather(c, CALL_GATHER_V, dst, src, &p, dtype, root) : refuse_counts(c);
}

int tsm_scatter_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts,
                  const uint64_t *displs, int dtype, uint32_t root)
{
    struct parts p = {.counts = counts, .displs = displs};
    return counts ? scatter(c, CALL_SCATTER_V, dst, src, &p, dtype, root) : refuse_counts(c);
}

int tsm_all_gather_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts,
                     const uint64_t *displs, int dtype)
{
    struct parts p = {.counts = counts, .displs = displs};
    return counts ? all_gather(c, CALL_ALL_GATHER_V, dst, src, &p, dtype) : refuse_counts(c);
}

/* ---- all-to-all ---- */

static void swap_bytes(uint8_t *a, uint8_t *b, uint64_t bytes)
{
    uint8_t block[4096];
    for (uint64_t done = 0; done < bytes;) {
        uint64_t n = bytes - done < sizeof(block) ? bytes - done : sizeof(block);
        memcpy(block, a + done, n);
        memcpy(a + done, b + done, n);
        memcpy(b + done, block, n);
        done += n;
    }
}

/* In place and too large for messages: of two ranks one swaps both parts, between two rounds. */
static int swap_parts(struct move *m, uint64_t count)
{
    tsm_ctx *c = m->c;
    uint64_t bytes = count * m->b.element;
    int rc = barrier_round(c, &m->call);
    for (uint32_t i = 1; i < c->size && rc == 0; i++) {
        uint32_t r = other_rank(c, i);
        bool lower = (c->rank + r) % 2 == 1;
        if ((c->rank < r) == lower) {
            uint8_t *theirs = window_of(c, domain_rank(c, r)) + m->b.dst.offset + c->rank * bytes;
            swap_bytes(at(m, m->b.dst, r * count), theirs, bytes);
        }
    }
    return rc != 0 ? rc : barrier_round(c, &m->call);
}

/* Gives the parts that are not pushed, or pushes the others. */
static int send_all(struct move *m, const struct parts *from, uint64_t limit, bool pushed)
{
    int rc = 0;
    for (uint32_t i = 1; i < m->c->size && rc == 0; i++) {
        uint32_t r = other_rank(m->c, i);
        uint64_t count = part_count(from, r);
        const uint8_t *data = at(m, m->b.src, part_first(from, r));
        if ((count > limit) == pushed) {
            rc = pushed ? push(m, r, data, count) : give(m, r, data, count);
        }
    }
    channel_flush(m->c);
    return rc;
}

static int exchange(struct move *m, const struct parts *from, const struct parts *to,
                    uint64_t limit)
{
    tsm_ctx *c = m->c;
    uint8_t *src = at(m, m->b.src, 0);
    int rc = invite_all(m, to, limit);
    if (limit != PUSH_ALL) {
        stage(m, src, parts_extent(from, c->size), largest(from, c->size));
    }
    rc = rc != 0 ? rc : send_all(m, from, limit, false);
    keep(m, at(m, m->b.dst, part_first(to, c->rank)), at(m, m->b.src, part_first(from, c->rank)),
         part_count(to, c->rank));
    rc = rc != 0 ? rc : send_all(m, from, limit, true);
    rc = rc != 0 ? rc : take_all(m, to, limit);
    return finish(m, rc);
}

int tsm_all_to_all(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype)
{
    struct parts p = {.count = count};
    uint64_t extent = parts_extent(&p, c->size);
    struct move m = {.c = c, .b = {dst, src, extent, extent, extent, 0}};
    int rc = begin(&m, CALL_ALL_TO_ALL, dtype, 0, count);
    if (rc != 0) {
        return rc;
    }
    return in_place(&m.b) && count * m.b.element > SYNC_PAYLOAD
               ? swap_parts(&m, count)
               : exchange(&m, &p, &p, push_limit(&m, extent));
}

int tsm_all_to_all_v(tsm_ctx *c, tsm_sym dst, const uint64_t *dst_counts,
                     const uint64_t *dst_displs, tsm_sym src, const uint64_t *src_counts,
                     const uint64_t *src_displs, int dtype)
{
    struct parts from = {.counts = src_counts, .displs = src_displs};
    struct parts to = {.counts = dst_counts, .displs = dst_displs};
    if (!src_counts || !dst_counts) {
        return refuse_counts(c);
    }
    if (src_counts[c->rank] != dst_counts[c->rank]) {
        return ctx_refuse(c, TSM_EINVAL,
                          "all_to_all_v: %llu elements go from rank %u to itself, %llu come",
                          (unsigned long long)src_counts[c->rank], c->rank,
                          (unsigned long long)dst_counts[c->rank]);
    }
    struct move m = {
        .c = c, .b = {dst, src, parts_extent(&to, c->size), parts_extent(&from, c->size), 0, 0}};
    int rc = begin(&m, CALL_ALL_TO_ALL_V, dtype, 0, 0);
    /* The two ranks of a part agree on its size, and on no other. */
    return rc != 0 ? rc : exchange(&m, &from, &to, STAGE_BYTES / m.b.element);
}

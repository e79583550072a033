/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Reductions: reduce, all-reduce, reduce-scatter, scan. Small ones are one-shot: each rank sends what it has to all that
 * need it, and they combine in the order of ranks. Large ones are direct: between two rounds of the barrier each rank
 * combines its share from all windows and stores it in all that need it, a block at a time. Both combine in the
 * same order, so they give the same bits. Chip processes, inside a task. docs/collectives.md.
 */
#include <string.h>

#include "chip/collective.h"
#include "chip/combine.h"
#include "chip/copy.h"

/* One reduction on this rank. */
struct reduction {
    tsm_ctx *c;
    struct buffers b;
    struct call call;
    struct giving giving;
    struct combine x;
};

/* Up to here two ranks push what the other combines: more does not stay in a second cache. */
enum { PUSHED_BYTES = 256 << 10 };
enum { BLOCK = 8192 /* bytes of an accumulator: stays in the first cache beside what comes in */ };
_Static_assert(BLOCK >= 2 * STAGE_BYTES, "a stage slot of f16 has room in an accumulator");

static int find(const tsm_ctx *c, int dtype, int op, struct combine *ret)
{
    uint32_t user = (uint32_t)op - OP_USER;
    if (op >= OP_USER && user < c->task->op_count) {
        return combine_find_user(dtype, c->task->ops[user].combine, c->task->ops[user].arg, ret);
    }
    return combine_find(dtype, op, ret);
}

static int begin(struct reduction *m, enum call_kind kind, int dtype, int op, uint32_t root,
                 uint64_t count)
{
    m->b.element = tsm_dtype_bytes(dtype);
    m->call = call_make(m->c, kind, dtype, op, root, count, m->b.dst, m->b.src);
    m->giving = (struct giving){.call = &m->call};
    int rc = find(m->c, dtype, op, &m->x);
    if (rc != 0) {
        return call_refuse(m->c, rc, &m->call,
                           rc == TSM_EUNSUPPORTED ? "the type does not have the operation"
                                                  : "no such type or operation");
    }
    rc = buffers_check(m->c, &m->b, &m->call, root);
    return rc != 0 ? rc : channel_begin(m->c, &m->call);
}

/* Element `first` of a buffer in a rank's window. */
static uint8_t *at(const struct reduction *m, tsm_sym s, uint32_t rank, uint64_t first)
{
    return window_of(m->c, domain_rank(m->c, rank)) + s.offset + first * m->b.element;
}

static bool is_one_shot(const struct reduction *m, uint64_t count)
{
    const struct tuning *t = &m->c->chip->arena.ctl->info.tuning;
    uint64_t limit = t->one_shot_bytes[tuning_class(m->c->size)];
    limit = limit < STAGE_BYTES ? limit : STAGE_BYTES;
    return count * m->b.element <= (limit > SYNC_PAYLOAD ? limit : SYNC_PAYLOAD);
}

/* ---- one-shot ---- */

static int give(struct reduction *m, uint32_t rank, uint64_t first, uint64_t count)
{
    return channel_give(m->c, &m->giving, rank, at(m, m->b.src, m->c->rank, first),
                        count * m->b.element);
}

static void stage(struct reduction *m, uint64_t count, uint64_t largest_part)
{
    if (largest_part * m->b.element > SYNC_PAYLOAD) {
        channel_stage(m->c, &m->giving, at(m, m->b.src, m->c->rank, 0), count * m->b.element);
    }
}

/* What rank r sent, or the own elements from `first`. */
static int take(struct reduction *m, uint32_t r, uint64_t first, uint64_t count, struct taken *ret)
{
    if (r == m->c->rank) {
        *ret = (struct taken){.data = at(m, m->b.src, r, first)};
        return 0;
    }
    return channel_take(m->c, &m->call, r, count * m->b.element, ret);
}

static void release(struct reduction *m, uint32_t r, const struct taken *t)
{
    if (r != m->c->rank) {
        channel_release(m->c, t);
    }
}

/* acc = what ranks 0..end-1 sent, and the own elements from `first`, combined in the order of ranks. */
static int fold(struct reduction *m, uint32_t end, uint64_t first, uint64_t count, void *acc)
{
    struct taken lowest, t;
    int rc = take(m, 0, first, count, &lowest);
    if (rc == 0 && end == 1) {
        m->x.load(acc, lowest.data, count);
        release(m, 0, &lowest);
    }
    for (uint32_t r = 1; r < end && rc == 0; r++) {
        rc = take(m, r, first, count, &t);
        if (rc != 0) {
            break;
        }
        if (r == 1) {
            combine_first(&m->x, acc, lowest.data, t.data, count);
            release(m, 0, &lowest);
        } else {
            combine_add(&m->x, acc, t.data, count);
        }
        release(m, r, &t);
    }
    return rc;
}

/* Folds the own elements from `first` with those of ranks below `end` into dst, once nobody needs src. */
static int fold_into(struct reduction *m, uint32_t end, uint64_t first, uint64_t count,
                     uint64_t dst_first)
{
    _Alignas(LINE) uint8_t acc[BLOCK];
    int rc = fold(m, end, first, count, acc);
    rc = rc != 0 ? rc : channel_finish(m->c, &m->giving);
    if (rc == 0) {
        m->x.store(at(m, m->b.dst, m->c->rank, dst_first), acc, count);
    }
    return rc;
}

/* Gives `count` elements to the ranks [begin, end) but oneself. */
static int give_range(struct reduction *m, uint32_t begin_rank, uint32_t end, uint64_t count)
{
    int rc = 0;
    for (uint32_t r = begin_rank; r < end && rc == 0; r++) {
        rc = r != m->c->rank ? give(m, r, 0, count) : 0;
    }
    channel_flush(m->c);
    return rc;
}

/* ---- pushed, of two ranks ---- */

/* Whether each puts what the other combines straight into its dst, to be overwritten there by the result. */
static bool is_pushed(const struct reduction *m, uint64_t count)
{
    return m->c->size == 2 && count * m->b.element <= PUSHED_BYTES && !in_place(&m->b);
}

/* dst, which holds what the other rank has pushed, is combined with the own elements from `first`. */
static void combine_pushed(const struct reduction *m, uint64_t first, uint64_t count)
{
    _Alignas(LINE) uint8_t acc[BLOCK];
    uint64_t block = BLOCK / m->x.wide;
    for (uint64_t done = 0; done < count; done += block) {
        uint64_t n = count - done < block ? count - done : block;
        const uint8_t *own = at(m, m->b.src, m->c->rank, first + done);
        uint8_t *theirs = at(m, m->b.dst, m->c->rank, done);
        combine_first(&m->x, acc, m->c->rank == 0 ? own : theirs, m->c->rank == 0 ? theirs : own,
                      n);
        m->x.store(theirs, acc, n);
    }
}

/* The other's elements go out from other_first, those from own_first are combined; either may be none. */
static int exchange_pushed(struct reduction *m, uint64_t other_first, uint64_t other_count,
                           uint64_t own_first, uint64_t own_count)
{
    uint32_t other = other_rank(m->c, 1);
    int rc = 0;
    if (own_count > 0) {
        rc = push_invite(m->c, &m->giving, other, at(m, m->b.dst, m->c->rank, 0),
                         own_count * m->b.element);
        channel_flush(m->c);
    }
    if (rc == 0 && other_count > 0) {
        rc = push_follow(m->c, &m->giving, other, at(m, m->b.src, m->c->rank, other_first),
                         other_count * m->b.element);
        channel_flush(m->c);
    }
    if (rc == 0 && own_count > 0) {
        rc = push_await(m->c, &m->call, other);
        if (rc == 0) {
            combine_pushed(m, own_first, own_count);
        }
    }
    return rc != 0 ? rc : channel_finish(m->c, &m->giving);
}

/* ---- direct ---- */

enum keeping { KEEP_ALL, KEEP_ROOT, KEEP_PREFIX, KEEP_PREFIX_BEFORE };

/* A block of prefixes: dst of rank r = ranks 0..r combined, or 0..r-1. */
static void scan_block(const struct reduction *m, uint8_t *acc, uint64_t first, uint64_t n,
                       bool before)
{
    _Alignas(LINE) uint8_t own[BLOCK];
    for (uint32_t r = 0; r < m->c->size; r++) {
        const uint8_t *from = at(m, m->b.src, r, first);
        uint8_t *to = at(m, m->b.dst, r, first);
        if (before && in_place(&m->b)) {
            memcpy(own, from, n * m->b.element); /* the next store overwrites it */
            from = own;
        }
        if (before && r > 0) {
            m->x.store(to, acc, n);
        }
        if (before && r + 1 == m->c->size) {
            break;
        }
        if (r == 0) {
            m->x.load(acc, from, n);
        } else {
            combine_add(&m->x, acc, from, n);
        }
        if (!before) {
            m->x.store(to, acc, n);
        }
    }
}

static void combine_block(const struct reduction *m, uint8_t *acc, uint64_t first, uint64_t n)
{
    const uint8_t *lowest = at(m, m->b.src, 0, first);
    if (m->c->size == 1) {
        m->x.load(acc, lowest, n);
        return;
    }
    combine_first(&m->x, acc, lowest, at(m, m->b.src, 1, first), n);
    uint32_t r = 2;
    for (; m->x.three && r + 3 <= m->c->size; r += 3) {
        const void *const from[] = {at(m, m->b.src, r, first), at(m, m->b.src, r + 1, first),
                                    at(m, m->b.src, r + 2, first)};
        m->x.three(acc, from, n);
    }
    for (; r < m->c->size; r++) {
        combine_add(&m->x, acc, at(m, m->b.src, r, first), n);
    }
}

/* Combines a block into dst of one rank: there at once, when that is no operand and elements are not widened. */
static void block_into(const struct reduction *m, uint8_t *to, uint64_t first, uint64_t n)
{
    _Alignas(LINE) uint8_t acc[BLOCK];
    if (m->x.wide == m->b.element && !in_place(&m->b)) {
        combine_block(m, to, first, n);
    } else {
        combine_block(m, acc, first, n);
        m->x.store(to, acc, n);
    }
}

/* The own share of the elements, combined from all ranks and stored where it is to be kept. */
static void direct_share(const struct reduction *m, uint64_t count, enum keeping keeping,
                         uint32_t root)
{
    _Alignas(LINE) uint8_t acc[BLOCK];
    uint64_t first, last, block = BLOCK / m->x.wide;
    own_share(m->c, count, m->b.element, &first, &last);
    for (; first < last; first += block) {
        uint64_t n = last - first < block ? last - first : block;
        if (keeping == KEEP_PREFIX || keeping == KEEP_PREFIX_BEFORE) {
            scan_block(m, acc, first, n, keeping == KEEP_PREFIX_BEFORE);
            continue;
        }
        uint32_t to = keeping == KEEP_ROOT ? root : m->c->rank;
        uint8_t *kept = at(m, m->b.dst, to, first);
        block_into(m, kept, first, n);
        for (uint32_t r = 0; keeping == KEEP_ALL && r < m->c->size; r++) {
            if (r != to) {
                copy_bytes(at(m, m->b.dst, r, first), kept, n * m->b.element);
            }
        }
    }
}

static int direct(struct reduction *m, uint64_t count, enum keeping keeping, uint32_t root)
{
    int rc = barrier_round(m->c, &m->call);
    if (rc == 0) {
        direct_share(m, count, keeping, root);
        rc = barrier_round(m->c, &m->call);
    }
    return rc;
}

/* ---- the calls ---- */

int tsm_reduce(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op,
               uint32_t root)
{
    struct reduction m = {.c = c, .b = {dst, src, count, count, count, 0}};
    int rc = begin(&m, CALL_REDUCE, dtype, op, root, count);
    if (rc != 0) {
        return rc;
    }
    if (!is_one_shot(&m, count)) {
        return !is_pushed(&m, count) ? direct(&m, count, KEEP_ROOT, root)
               : c->rank == root     ? exchange_pushed(&m, 0, 0, 0, count)
                                     : exchange_pushed(&m, 0, count, 0, 0);
    }
    if (c->rank == root) {
        return fold_into(&m, c->size, 0, count, 0);
    }
    stage(&m, count, count);
    rc = give(&m, root, 0, count);
    return rc != 0 ? rc : channel_finish(c, &m.giving);
}

int tsm_all_reduce(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op)
{
    struct reduction m = {.c = c, .b = {dst, src, count, count, count, 0}};
    int rc = begin(&m, CALL_ALL_REDUCE, dtype, op, 0, count);
    if (rc != 0) {
        return rc;
    }
    if (!is_one_shot(&m, count)) {
        return is_pushed(&m, count) ? exchange_pushed(&m, 0, count, 0, count)
                                    : direct(&m, count, KEEP_ALL, 0);
    }
    stage(&m, count, count);
    rc = give_range(&m, 0, c->size, count);
    return rc != 0 ? rc : fold_into(&m, c->size, 0, count, 0);
}

static int scan(tsm_ctx *c, enum call_kind kind, tsm_sym dst, tsm_sym src, uint64_t count,
                int dtype, int op)
{
    struct reduction m = {.c = c, .b = {dst, src, count, count, count, 0}};
    bool before = kind == CALL_EXSCAN;
    int rc = begin(&m, kind, dtype, op, 0, count);
    if (rc != 0) {
        return rc;
    }
    if (!is_one_shot(&m, count)) {
        return direct(&m, count, before ? KEEP_PREFIX_BEFORE : KEEP_PREFIX, 0);
    }
    if (c->rank + 1 < c->size) {
        stage(&m, count, count);
        rc = give_range(&m, c->rank + 1, c->size, count);
    }
    if (rc == 0 && before && c->rank == 0) {
        return channel_finish(c, &m.giving);
    }
    return rc != 0 ? rc : fold_into(&m, before ? c->rank : c->rank + 1, 0, count, 0);
}

int tsm_scan(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op)
{
    return scan(c, CALL_SCAN, dst, src, count, dtype, op);
}

int tsm_exscan(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op)
{
    return scan(c, CALL_EXSCAN, dst, src, count, dtype, op);
}

/* Every rank its own part of all windows. */
static int direct_parts(struct reduction *m, uint64_t first, uint64_t count, uint64_t dst_first)
{
    uint64_t block = BLOCK / m->x.wide;
    int rc = barrier_round(m->c, &m->call);
    for (uint64_t done = 0; rc == 0 && done < count; done += block) {
        uint64_t n = count - done < block ? count - done : block;
        block_into(m, at(m, m->b.dst, m->c->rank, dst_first + done), first + done, n);
    }
    return rc != 0 ? rc : barrier_round(m->c, &m->call);
}

static int reduce_scatter(tsm_ctx *c, enum call_kind kind, tsm_sym dst, tsm_sym src,
                          const struct parts *p, int dtype, int op)
{
    uint64_t extent = parts_extent(p, c->size), largest = 0;
    for (uint32_t r = 0; r < c->size; r++) {
        largest = part_count(p, r) > largest ? part_count(p, r) : largest;
    }
    struct reduction m = {.c = c, .b = {dst, src, largest, extent, extent, 0}};
    int rc = begin(&m, kind, dtype, op, 0, p->counts ? parts_hash(p, c->size) : p->count);
    if (rc != 0) {
        return rc;
    }
    uint64_t own = part_count(p, c->rank), first = part_first(p, c->rank);
    uint64_t dst_first = in_place(&m.b) ? first : 0;
    /* Each rank reads only its part of what the others have staged: twice as much pays, where two slots are staged. A
     * part alone has to fit an accumulator. */
    if (!is_one_shot(&m, largest) || !is_one_shot(&m, c->size > 2 ? extent / 2 : extent)) {
        uint32_t r = other_rank(c, 1);
        return is_pushed(&m, largest)
                   ? exchange_pushed(&m, part_first(p, r), part_count(p, r), first, own)
                   : direct_parts(&m, first, own, dst_first);
    }
    stage(&m, extent, largest);
    for (uint32_t r = 0; r < c->size && rc == 0; r++) {
        rc = r != c->rank ? give(&m, r, part_first(p, r), part_count(p, r)) : 0;
    }
    channel_flush(c);
    return rc != 0 ? rc : fold_into(&m, c->size, first, own, dst_first);
}

int tsm_reduce_scatter(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op)
{
    struct parts p = {.count = count};
    return reduce_scatter(c, CALL_REDUCE_SCATTER, dst, src, &p, dtype, op);
}

int tsm_reduce_scatter_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts, int dtype,
                         int op)
{
    struct parts p = {.counts = counts};
    return counts ? reduce_scatter(c, CALL_REDUCE_SCATTER_V, dst, src, &p, dtype, op)
                  : ctx_refuse(c, TSM_EINVAL, "counts is NULL");
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * One collective with its arguments as data, run by a task on every rank and checked there, byte for byte, against what
 * the arguments say. What rank r sends repeats with a period that is a prime, so large buffers are filled and
 * compared by copies; blocks and parts of the library's are not multiples of it.
 */
#ifndef TESTS_COLLECTIVE_CASE_H
#define TESTS_COLLECTIVE_CASE_H

#include "domain_help.h"
#include "reference.h"

enum case_kind {
    CASE_BROADCAST,
    CASE_ALL_GATHER,
    CASE_GATHER,
    CASE_SCATTER,
    CASE_ALL_TO_ALL,
    CASE_ALL_GATHER_V,
    CASE_GATHER_V,
    CASE_SCATTER_V,
    CASE_ALL_TO_ALL_V,
    CASE_REDUCE,
    CASE_ALL_REDUCE,
    CASE_REDUCE_SCATTER,
    CASE_REDUCE_SCATTER_V,
    CASE_SCAN,
    CASE_EXSCAN,
    CASE_KINDS
};

enum { CASE_RANKS_MAX = 64, CASE_GUARD = 64, CASE_PERIOD = 4093, CASE_PERIOD_MANY = 509 };

/* root is a rank. Counts of the forms with counts follow from seed, none above `count`. */
struct collective_case {
    uint64_t count, seed;
    uint32_t ranks, root;
    int kind, dtype, op;
    int in_place;
};

static inline bool case_reduces(int kind)
{
    return kind >= CASE_REDUCE;
}

static inline bool case_is_rooted(int kind)
{
    return kind == CASE_BROADCAST || kind == CASE_GATHER || kind == CASE_GATHER_V ||
           kind == CASE_SCATTER || kind == CASE_SCATTER_V || kind == CASE_REDUCE;
}

static inline bool case_is_valid(const struct collective_case *k)
{
    return (!case_reduces(k->kind) || ref_has(k->dtype, k->op)) && k->root < k->ranks &&
           !(k->kind == CASE_ALL_TO_ALL_V && k->in_place);
}

static inline const char *case_name(int kind)
{
    static const char *const names[CASE_KINDS] = {
        "broadcast",    "all_gather",     "gather",           "scatter",      "all_to_all",
        "all_gather_v", "gather_v",       "scatter_v",        "all_to_all_v", "reduce",
        "all_reduce",   "reduce_scatter", "reduce_scatter_v", "scan",         "exscan"};
    return names[kind];
}

static inline void case_say(const struct collective_case *k, char *to, size_t bytes)
{
    snprintf(to, bytes, "%s n=%u count=%llu %s op=%d root=%u%s seed=%llu", case_name(k->kind),
             k->ranks, (unsigned long long)k->count, tsm_dtype_name(k->dtype), k->op, k->root,
             k->in_place ? " in place" : "", (unsigned long long)k->seed);
}

/* ---- parts ---- */

struct case_parts {
    uint64_t counts[CASE_RANKS_MAX], displs[CASE_RANKS_MAX];
    uint64_t extent, largest;
};

static inline uint64_t case_mix(uint64_t seed, uint64_t a, uint64_t b)
{
    struct harness_random r;
    harness_random_init(&r, seed * 1000003 + a * 1009 + b);
    return harness_random(&r) >> 33;
}

/* None, one, some or all of `count`. */
static inline uint64_t case_uneven(const struct collective_case *k, uint64_t a, uint64_t b)
{
    const uint64_t counts[4] = {0, k->count < 1 ? k->count : 1, k->count / 2 + k->count % 2,
                                k->count};
    return counts[case_mix(k->seed, a, b) % 4];
}

static inline bool case_has_displs(const struct collective_case *k)
{
    return k->kind == CASE_ALL_TO_ALL_V || (k->kind != CASE_REDUCE_SCATTER_V && k->seed % 3 != 0);
}

/* Lays the counts out: with gaps and from the last rank to the first when the case has displacements. */
static inline void case_lay_out(const struct collective_case *k, struct case_parts *p, bool gaps)
{
    p->extent = p->largest = 0;
    for (uint32_t i = 0; i < k->ranks; i++) {
        uint32_t r = gaps ? k->ranks - 1 - i : i;
        p->extent += gaps ? case_mix(k->seed, r, 77) % 4 : 0;
        p->displs[r] = p->extent;
        p->extent += p->counts[r];
        p->largest = p->counts[r] > p->largest ? p->counts[r] : p->largest;
    }
}

/* What each rank has of the buffer with all parts. */
static inline struct case_parts case_parts(const struct collective_case *k)
{
    struct case_parts p;
    bool uneven = k->kind == CASE_ALL_GATHER_V || k->kind == CASE_GATHER_V ||
                  k->kind == CASE_SCATTER_V || k->kind == CASE_REDUCE_SCATTER_V;
    for (uint32_t r = 0; r < k->ranks; r++) {
        p.counts[r] = uneven ? case_uneven(k, r, 1) : k->count;
    }
    case_lay_out(k, &p, uneven && case_has_displs(k));
    return p;
}

/* all_to_all_v: what `rank` sends to each, or receives from each. */
static inline struct case_parts case_sends(const struct collective_case *k, uint32_t rank)
{
    struct case_parts p;
    for (uint32_t r = 0; r < k->ranks; r++) {
        p.counts[r] = case_uneven(k, rank * 64 + r, 2);
    }
    case_lay_out(k, &p, true);
    return p;
}

static inline struct case_parts case_receives(const struct collective_case *k, uint32_t rank)
{
    struct case_parts p;
    for (uint32_t r = 0; r < k->ranks; r++) {
        p.counts[r] = case_uneven(k, r * 64 + rank, 2);
    }
    case_lay_out(k, &p, k->seed % 2 == 0);
    return p;
}

/* ---- where the buffers are ---- */

struct case_places {
    uint64_t dst, src, dst_bytes, src_bytes, end; /* offsets in the window */
};

/* Elements of dst and src when they are apart. */
static inline void case_extents(const struct collective_case *k, uint64_t *dst, uint64_t *src)
{
    struct case_parts p = case_parts(k);
    *dst = *src = k->count;
    switch (k->kind) {
    case CASE_ALL_GATHER:
    case CASE_GATHER:
    case CASE_ALL_GATHER_V:
    case CASE_GATHER_V:
        *dst = p.extent;
        *src = p.largest;
        break;
    case CASE_SCATTER:
    case CASE_SCATTER_V:
    case CASE_REDUCE_SCATTER:
    case CASE_REDUCE_SCATTER_V:
        *dst = p.largest;
        *src = p.extent;
        break;
    case CASE_ALL_TO_ALL:
        *dst = *src = p.extent;
        break;
    case CASE_ALL_TO_ALL_V:
        for (uint32_t r = 0; r < k->ranks; r++) {
            struct case_parts to = case_sends(k, r), from = case_receives(k, r);
            *dst = r == 0 || from.extent > *dst ? from.extent : *dst;
            *src = r == 0 || to.extent > *src ? to.extent : *src;
        }
        break;
    default:
        break;
    }
}

/* Buffers begin at an odd element of a line, and which of them is first depends on the seed. */
static inline struct case_places case_places(const struct collective_case *k)
{
    uint64_t element = tsm_dtype_bytes(k->dtype), dst, src;
    case_extents(k, &dst, &src);
    uint64_t most = dst > src ? dst : src;
    struct case_places p = {.dst_bytes = dst * element, .src_bytes = src * element};
    uint64_t first = CASE_GUARD + k->seed % 7 * element;
    if (k->in_place) {
        p.dst_bytes = p.src_bytes = most * element;
        p.dst = p.src = first;
        p.end = first + most * element + CASE_GUARD;
        return p;
    }
    bool src_first = k->seed % 2 == 0;
    uint64_t second = first + (src_first ? p.src_bytes : p.dst_bytes) + CASE_GUARD;
    p.dst = src_first ? second : first;
    p.src = src_first ? first : second;
    p.end = second + (src_first ? p.dst_bytes : p.src_bytes) + CASE_GUARD;
    return p;
}

/* ---- what is sent ---- */

/* Elements that repeat. */
struct case_tile {
    uint8_t *bytes;
    uint64_t period, element;
};

/* No longer than the larger buffer. */
static inline uint64_t case_period(const struct collective_case *k)
{
    uint64_t dst, src, period = k->ranks > 16 ? CASE_PERIOD_MANY : CASE_PERIOD;
    case_extents(k, &dst, &src);
    uint64_t most = dst > src ? dst : src;
    return most == 0 ? 1 : most < period ? most : period;
}

/* NaN of halves as it leaves an operation, because that of one rank alone is copied. */
static inline void case_element(struct harness_random *r, int dtype, uint8_t *to)
{
    ref_random(r, dtype, to);
    if (ref_is_floating(dtype)) {
        ref_narrow(dtype, ref_widen(dtype, to), to);
    }
}

/* period elements of each rank, one rank behind the other; to be freed. */
static inline uint8_t *case_make_tiles(const struct collective_case *k, uint64_t period)
{
    uint64_t element = tsm_dtype_bytes(k->dtype);
    uint8_t *tiles = malloc(period * element * k->ranks);
    struct harness_random random;
    harness_random_init(&random, k->seed + 1);
    for (uint64_t i = 0; tiles && i < period * k->ranks; i++) {
        case_element(&random, k->dtype, tiles + i * element);
    }
    return tiles;
}

/* Elements first.. of a tile that repeats without end. */
static inline void case_tile_copy(const struct case_tile *t, uint64_t first, uint64_t count,
                                  uint8_t *to)
{
    while (count > 0) {
        uint64_t at = first % t->period;
        uint64_t n = t->period - at < count ? t->period - at : count;
        memcpy(to, t->bytes + at * t->element, n * t->element);
        to += n * t->element;
        first += n;
        count -= n;
    }
}

/* ---- one rank's run of it ---- */

struct case_run {
    tsm_task *t;
    tsm_ctx *c;
    const struct collective_case *k;
    struct case_parts parts, sends, receives;
    struct case_places at;
    uint64_t element, period;
    uint32_t rank;
    uint8_t *tiles, *folded, *expected; /* expected: of the dst buffer */
    uint8_t *window;
};

/* Ranks 0..end-1 combined in this order. */
static inline void case_fold(const struct case_run *x, uint32_t end)
{
    int dtype = x->k->dtype;
    for (uint64_t i = 0; i < x->period; i++) {
        union ref_value acc = ref_widen(dtype, x->tiles + i * x->element);
        for (uint32_t r = 1; r < end; r++) {
            const uint8_t *from = x->tiles + (r * x->period + i) * x->element;
            acc = ref_combine_values(acc, ref_widen(dtype, from), dtype, x->k->op);
        }
        ref_narrow(dtype, acc, x->folded + i * x->element);
    }
}

static inline struct case_tile case_tile_of(const struct case_run *x, uint32_t rank)
{
    return (struct case_tile){x->tiles + rank * x->period * x->element, x->period, x->element};
}

/* dst[dst_first ..] = what `rank` has at src_first. */
static inline void case_expect(struct case_run *x, uint64_t dst_first, uint32_t rank,
                               uint64_t src_first, uint64_t count)
{
    struct case_tile t = case_tile_of(x, rank);
    case_tile_copy(&t, src_first, count, x->expected + dst_first * x->element);
}

static inline void case_expect_folded(struct case_run *x, uint64_t dst_first, uint32_t end,
                                      uint64_t src_first, uint64_t count)
{
    struct case_tile t = {x->folded, x->period, x->element};
    case_fold(x, end);
    case_tile_copy(&t, src_first, count, x->expected + dst_first * x->element);
}

/* Where the part of this rank alone lies in its own buffer. */
static inline uint64_t case_own_first(const struct case_run *x)
{
    return x->k->in_place ? x->parts.displs[x->rank] : 0;
}

/* Everything that the rank sends is at src, and what it expects in `expected`, which already has what dst held. */
static inline void case_expect_moved(struct case_run *x)
{
    const struct collective_case *k = x->k;
    const struct case_parts *p = &x->parts;
    uint32_t me = x->rank;
    bool all = k->kind == CASE_ALL_GATHER || k->kind == CASE_ALL_GATHER_V;
    bool some = k->kind == CASE_GATHER || k->kind == CASE_GATHER_V;
    for (uint32_t r = 0; r < k->ranks; r++) {
        if (all || (some && me == k->root)) {
            uint64_t first = k->in_place ? p->displs[r] : 0;
            case_expect(x, p->displs[r], r, first, p->counts[r]);
        } else if (k->kind == CASE_ALL_TO_ALL) {
            case_expect(x, p->displs[r], r, p->displs[me], k->count);
        } else if (k->kind == CASE_ALL_TO_ALL_V) {
            struct case_parts theirs = case_sends(k, r);
            case_expect(x, x->receives.displs[r], r, theirs.displs[me], x->receives.counts[r]);
        }
    }
    if (k->kind == CASE_BROADCAST) {
        case_expect(x, 0, k->root, 0, k->count);
    } else if (k->kind == CASE_SCATTER || k->kind == CASE_SCATTER_V) {
        case_expect(x, case_own_first(x), k->root, p->displs[me], p->counts[me]);
    }
}

static inline void case_expect_reduced(struct case_run *x)
{
    const struct collective_case *k = x->k;
    uint32_t me = x->rank;
    if (k->kind == CASE_ALL_REDUCE || (k->kind == CASE_REDUCE && me == k->root)) {
        case_expect_folded(x, 0, k->ranks, 0, k->count);
    } else if (k->kind == CASE_SCAN) {
        case_expect_folded(x, 0, me + 1, 0, k->count);
    } else if (k->kind == CASE_EXSCAN && me > 0) {
        case_expect_folded(x, 0, me, 0, k->count);
    } else if (k->kind == CASE_REDUCE_SCATTER || k->kind == CASE_REDUCE_SCATTER_V) {
        case_expect_folded(x, case_own_first(x), k->ranks, x->parts.displs[me],
                           x->parts.counts[me]);
    }
}

static inline int case_call(const struct case_run *x)
{
    const struct collective_case *k = x->k;
    tsm_ctx *c = x->c;
    tsm_sym d, s;
    uint64_t n = k->count;
    const uint64_t *counts = x->parts.counts;
    const uint64_t *displs = case_has_displs(k) ? x->parts.displs : NULL;
    if (tsm_at(c, x->at.dst, &d) != 0 || tsm_at(c, x->at.src, &s) != 0) {
        return TSM_ERANGE;
    }
    switch (k->kind) {
    case CASE_BROADCAST:
        return tsm_broadcast(c, d, s, n, k->dtype, k->root);
    case CASE_ALL_GATHER:
        return tsm_all_gather(c, d, s, n, k->dtype);
    case CASE_GATHER:
        return tsm_gather(c, d, s, n, k->dtype, k->root);
    case CASE_SCATTER:
        return tsm_scatter(c, d, s, n, k->dtype, k->root);
    case CASE_ALL_TO_ALL:
        return tsm_all_to_all(c, d, s, n, k->dtype);
    case CASE_ALL_GATHER_V:
        return tsm_all_gather_v(c, d, s, counts, displs, k->dtype);
    case CASE_GATHER_V:
        return tsm_gather_v(c, d, s, counts, displs, k->dtype, k->root);
    case CASE_SCATTER_V:
        return tsm_scatter_v(c, d, s, counts, displs, k->dtype, k->root);
    case CASE_ALL_TO_ALL_V:
        return tsm_all_to_all_v(c, d, x->receives.counts,
                                k->seed % 2 == 0 ? x->receives.displs : NULL, s, x->sends.counts,
                                x->sends.displs, k->dtype);
    case CASE_REDUCE:
        return tsm_reduce(c, d, s, n, k->dtype, k->op, k->root);
    case CASE_ALL_REDUCE:
        return tsm_all_reduce(c, d, s, n, k->dtype, k->op);
    case CASE_REDUCE_SCATTER:
        return tsm_reduce_scatter(c, d, s, n, k->dtype, k->op);
    case CASE_REDUCE_SCATTER_V:
        return tsm_reduce_scatter_v(c, d, s, counts, k->dtype, k->op);
    case CASE_SCAN:
        return tsm_scan(c, d, s, n, k->dtype, k->op);
    default:
        return tsm_exscan(c, d, s, n, k->dtype, k->op);
    }
}

/* ---- filling and checking ---- */

enum { CASE_GUARD_BYTE = 0xa7, CASE_EMPTY = 0x5b };

static inline bool case_guards_hold(const uint8_t *buffer, uint64_t bytes)
{
    for (int i = 1; i <= CASE_GUARD; i++) {
        if (buffer[-i] != CASE_GUARD_BYTE || buffer[bytes + (uint64_t)i - 1] != CASE_GUARD_BYTE) {
            return false;
        }
    }
    return true;
}

static inline void case_guard(uint8_t *buffer, uint64_t bytes)
{
    memset(buffer - CASE_GUARD, CASE_GUARD_BYTE, CASE_GUARD);
    memset(buffer + bytes, CASE_GUARD_BYTE, CASE_GUARD);
}

static inline void case_fill(struct case_run *x)
{
    struct case_tile own = case_tile_of(x, x->rank);
    uint8_t *dst = x->window + x->at.dst, *src = x->window + x->at.src;
    case_guard(dst, x->at.dst_bytes);
    case_guard(src, x->at.src_bytes);
    memset(dst, CASE_EMPTY, x->at.dst_bytes);
    case_tile_copy(&own, 0, x->at.src_bytes / x->element, src);
    memcpy(x->expected, dst, x->at.dst_bytes);
    if (case_reduces(x->k->kind)) {
        case_expect_reduced(x);
    } else {
        case_expect_moved(x);
    }
}

static inline int case_wrong(const struct case_run *x, const char *what, uint64_t where)
{
    char text[160];
    case_say(x->k, text, sizeof(text));
    fprintf(stderr, "rank %u, %s at %llu: %s\n", x->rank, what, (unsigned long long)where, text);
    return tsm_fail(x->t, "rank %u, %s at %llu: %s", x->rank, what, (unsigned long long)where,
                    text);
}

/* The moment the call returns: dst is complete, and src is not needed any more. */
static inline int case_check(const struct case_run *x)
{
    uint8_t *dst = x->window + x->at.dst, *src = x->window + x->at.src;
    struct case_tile own = case_tile_of(x, x->rank);
    if (memcmp(dst, x->expected, x->at.dst_bytes) != 0) {
        uint64_t at = 0;
        while (dst[at] == x->expected[at]) {
            at++;
        }
        return case_wrong(x, "dst differs, byte", at);
    }
    if (!case_guards_hold(dst, x->at.dst_bytes) || !case_guards_hold(src, x->at.src_bytes)) {
        return case_wrong(x, "written beside its place", 0);
    }
    for (uint64_t i = 0; !x->k->in_place && i < x->at.src_bytes; i += own.period * x->element) {
        uint64_t left = x->at.src_bytes - i, n = own.period * x->element;
        if (memcmp(src + i, own.bytes, left < n ? left : n) != 0) {
            return case_wrong(x, "src differs, byte", i);
        }
    }
    memset(src, CASE_GUARD_BYTE, x->at.src_bytes);
    return 0;
}

/* On one rank of c; every rank of c calls it with the same case. */
static inline int case_run(tsm_task *t, tsm_ctx *c, const struct collective_case *k)
{
    struct case_run x = {.t = t,
                         .c = c,
                         .k = k,
                         .parts = case_parts(k),
                         .sends = case_sends(k, tsm_rank(c)),
                         .receives = case_receives(k, tsm_rank(c)),
                         .at = case_places(k),
                         .element = tsm_dtype_bytes(k->dtype),
                         .period = case_period(k),
                         .rank = tsm_rank(c)};
    tsm_sym begin;
    int rc = tsm_at(c, 0, &begin);
    x.window = tsm_ptr(c, begin, x.rank);
    x.tiles = case_make_tiles(k, x.period);
    x.folded = malloc(x.period * x.element);
    x.expected = malloc(x.at.dst_bytes + 1);
    if (rc != 0 || !x.window || !x.tiles || !x.folded || !x.expected) {
        rc = tsm_fail(t, "cannot begin: %s", tsm_code_name(rc));
    } else {
        case_fill(&x);
        rc = case_call(&x);
        if (rc == 0) {
            rc = case_check(&x);
        } else if (rc != TSM_EABORTED && rc != TSM_EPEER) {
            rc = case_wrong(&x, rc == TSM_EINVAL ? tsm_ctx_text(c) : tsm_code_name(rc), 0);
        }
    }
    free(x.tiles);
    free(x.folded);
    free(x.expected);
    return rc;
}

/* Task: scalars are the address of cases that all chips see, and how many. No barrier in between. */
static inline int cases_task(tsm_task *t)
{
    const struct collective_case *k =
        (const struct collective_case *)(uintptr_t)tsm_task_scalar(t, 0);
    tsm_ctx *c = tsm_task_domain(t, 0);
    int rc = 0;
    for (uint64_t i = 0; i < tsm_task_scalar(t, 1) && rc == 0; i++) {
        rc = case_run(t, c, &k[i]);
    }
    return rc;
}

/* Bytes that the windows of all its ranks hold for it. */
static inline uint64_t case_bytes(const struct collective_case *k)
{
    return case_places(k).end * k->ranks;
}

/* ---- groups ---- */

/* One group with a member on each of the chips 0..ranks-1, and a domain over them. */
struct team {
    tsm_callable callable;
    uint32_t ranks;
    uint64_t window_bytes, scalars[4];
};

static inline int team_orch(tsm_orch *o, void *arg)
{
    const struct team *g = arg;
    int chips[HELP_GROUP_MAX];
    tsm_domain *d;
    for (uint32_t r = 0; r < g->ranks; r++) {
        chips[r] = (int)r;
    }
    int rc = help_alloc(o, "team", chips, g->ranks, g->window_bytes, &d);
    return rc != 0 ? rc
                   : help_submit_group(o, g->callable, d, chips, g->ranks, g->scalars,
                                       COUNT(g->scalars));
}

/* ---- running many ---- */

/* Cases of one number of ranks, on chips 0..ranks-1 in rising or falling order. */
struct case_batch {
    tsm_callable callable;
    struct collective_case *list; /* in a host buffer */
    uint64_t count;
    bool falling;
};

static inline int case_batch_orch(tsm_orch *o, void *arg)
{
    const struct case_batch *b = arg;
    uint32_t ranks = b->list[0].ranks;
    uint64_t bytes = 0;
    const uint64_t scalars[] = {help_pointer(b->list), b->count};
    int chips[CASE_RANKS_MAX];
    tsm_domain *d;
    for (uint64_t i = 0; i < b->count; i++) {
        uint64_t end = case_places(&b->list[i]).end;
        bytes = end > bytes ? end : bytes;
    }
    for (uint32_t r = 0; r < ranks; r++) {
        chips[r] = (int)(b->falling ? ranks - 1 - r : r);
    }
    int rc = help_alloc(o, "cases", chips, ranks, bytes, &d);
    return rc != 0 ? rc : help_submit_group(o, b->callable, d, chips, ranks, scalars, 2);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives between threads: random sequences, of the domain and of sub-groups that overlap, over the channels of one
 * lease in many lives, some of them aborted. Every result is compared with what it must be; a lost wake is a test that
 * does not end. Test process.
 */
#include <stdio.h>

#include "threads/domain.h"

enum {
    GROUPS = 5, /* the first is the domain itself */
    STEPS = 80,
    STREAM =
        20, /* steps the same way, one after the other: the sender runs ahead as far as it may */
    BUFFER_BYTES = DOMAIN_WINDOW_BYTES / 2,
    TO_ALL = 1 << 0,   /* src has a part for each rank */
    FROM_ALL = 1 << 1, /* dst has a part of each rank */
    REDUCES = 1 << 2,
    AT_ROOT = 1 << 3, /* only the root has a result */
    IN_PLACE = 1 << 4 /* may be, with the same picture of the buffer */
};

/* What is called: drawn by all ranks alike. */
struct step {
    uint32_t kind, group, root, number;
    uint64_t count;
    bool in_place;
};

static const struct {
    enum call_kind kind;
    uint32_t is;
} kinds[] = {
    {CALL_SYNC, 0},
    {CALL_BARRIER, 0},
    {CALL_BROADCAST, IN_PLACE},
    {CALL_ALL_GATHER, FROM_ALL},
    {CALL_GATHER, FROM_ALL | AT_ROOT},
    {CALL_SCATTER, TO_ALL},
    {CALL_ALL_TO_ALL, TO_ALL | FROM_ALL | IN_PLACE},
    {CALL_REDUCE, REDUCES | AT_ROOT | IN_PLACE},
    {CALL_ALL_REDUCE, REDUCES | IN_PLACE},
    {CALL_REDUCE_SCATTER, REDUCES | TO_ALL},
    {CALL_SCAN, REDUCES | IN_PLACE},
    {CALL_EXSCAN, REDUCES | IN_PLACE},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static struct rig rig;
static struct member members[RIG_PLACES];

/* ---- the sequence ---- */

static bool is(const struct step *s, uint32_t what)
{
    return kinds[s->kind].is & what;
}

static void draw_group(struct harness_random *r, uint32_t size, uint32_t *ranks, uint32_t *count)
{
    uint32_t from[RIG_PLACES];
    for (uint32_t i = 0; i < size; i++) {
        from[i] = i;
    }
    *count = 1 + harness_below(r, size);
    for (uint32_t i = 0; i < *count; i++) {
        uint32_t k = i + harness_below(r, size - i);
        ranks[i] = from[k];
        from[k] = from[i];
    }
}

static void draw_groups(struct member *m, struct harness_random *r, tsm_ctx **groups,
                        uint32_t *sizes)
{
    groups[0] = &m->ctx;
    sizes[0] = m->ctx.size;
    for (uint32_t g = 1; g < GROUPS; g++) {
        uint32_t ranks[RIG_PLACES];
        draw_group(r, m->ctx.size, ranks, &sizes[g]);
        if (tsm_split(&m->ctx, ranks, sizes[g], &groups[g]) != 0) {
            snprintf(m->wrong, sizeof(m->wrong), "tsm_split fails");
        }
    }
}

/* Sizes that travel in the message, in the stage, or are lent. */
static struct step draw_step(struct harness_random *r, uint32_t number, const uint32_t *sizes)
{
    static const uint64_t counts[] = {0, 1, 3, 4, 5, 70, 1024, 1025, 3072};
    struct step s = {.number = number};
    s.kind = harness_below(r, KINDS);
    s.group = harness_below(r, 2) ? harness_below(r, GROUPS) : 0;
    s.root = harness_below(r, sizes[s.group]);
    s.count = counts[harness_below(r, sizeof(counts) / sizeof(counts[0]))];
    s.in_place = harness_below(r, 3) == 0 && is(&s, IN_PLACE);
    uint64_t most = BUFFER_BYTES / 8 / (is(&s, TO_ALL | FROM_ALL) ? sizes[s.group] : 1);
    s.count = s.count < most ? s.count : most;
    return s;
}

/* The next step, which may be one more of a stream. */
static void draw_next(struct harness_random *r, uint32_t number, const uint32_t *sizes,
                      struct step *s, uint32_t *stream)
{
    if (*stream > 0) {
        --*stream;
        s->number = number;
        return;
    }
    *s = draw_step(r, number, sizes);
    bool one_way = kinds[s->kind].kind == CALL_BROADCAST || kinds[s->kind].kind == CALL_SCATTER ||
                   kinds[s->kind].kind == CALL_GATHER;
    if (one_way && harness_below(r, 3) == 0) {
        *stream = STREAM;
    }
}

/* ---- one step ---- */

static uint64_t value(const struct step *s, uint32_t rank, uint64_t i)
{
    return (uint64_t)(s->number + 1) * 1000003 + rank * UINT64_C(7919) * (i + 1) + i;
}

static uint64_t sum(const struct step *s, uint32_t ranks, uint64_t i)
{
    uint64_t all = 0;
    for (uint32_t r = 0; r < ranks; r++) {
        all += value(s, r, i);
    }
    return all;
}

/* Element i of the result on this rank. */
static uint64_t expected(const struct step *s, const tsm_ctx *c, uint64_t i)
{
    uint32_t me = c->rank, from = s->count > 0 ? (uint32_t)(i / s->count) : 0;
    switch (kinds[s->kind].kind) {
    case CALL_BROADCAST:
        return value(s, s->root, i);
    case CALL_ALL_GATHER:
    case CALL_GATHER:
        return value(s, from, i % s->count);
    case CALL_SCATTER:
        return value(s, s->root, me * s->count + i);
    case CALL_ALL_TO_ALL:
        return value(s, from, me * s->count + i % s->count);
    case CALL_REDUCE_SCATTER:
        return sum(s, c->size, me * s->count + i);
    case CALL_SCAN:
        return sum(s, me + 1, i);
    case CALL_EXSCAN:
        return sum(s, me, i);
    default:
        return sum(s, c->size, i);
    }
}

static int call(const struct step *s, tsm_ctx *c, tsm_sym dst, tsm_sym src)
{
    switch (kinds[s->kind].kind) {
    case CALL_BROADCAST:
        return tsm_broadcast(c, dst, src, s->count, TSM_U64, s->root);
    case CALL_ALL_GATHER:
        return tsm_all_gather(c, dst, src, s->count, TSM_U64);
    case CALL_GATHER:
        return tsm_gather(c, dst, src, s->count, TSM_U64, s->root);
    case CALL_SCATTER:
        return tsm_scatter(c, dst, src, s->count, TSM_U64, s->root);
    case CALL_ALL_TO_ALL:
        return tsm_all_to_all(c, dst, src, s->count, TSM_U64);
    case CALL_REDUCE:
        return tsm_reduce(c, dst, src, s->count, TSM_U64, TSM_SUM, s->root);
    case CALL_ALL_REDUCE:
        return tsm_all_reduce(c, dst, src, s->count, TSM_U64, TSM_SUM);
    case CALL_REDUCE_SCATTER:
        return tsm_reduce_scatter(c, dst, src, s->count, TSM_U64, TSM_SUM);
    case CALL_SCAN:
        return tsm_scan(c, dst, src, s->count, TSM_U64, TSM_SUM);
    default:
        return tsm_exscan(c, dst, src, s->count, TSM_U64, TSM_SUM);
    }
}

/* Everybody writes, everybody comes, everybody reads what the next one wrote and put. */
static int meet(struct member *m, const struct step *s, tsm_ctx *c)
{
    tsm_sym stored = {0, 0, c->generation}, put = {64, 0, c->generation};
    uint32_t right = (c->rank + 1) % c->size, left = (c->rank + c->size - 1) % c->size;
    uint64_t word = value(s, c->rank, 0);
    bool puts = kinds[s->kind].kind == CALL_BARRIER;
    int rc = tsm_sync(c);
    *(uint64_t *)tsm_ptr(c, stored, c->rank) = word;
    if (rc == 0 && puts) {
        rc = tsm_put_nbi(c, put, &word, sizeof(word), right);
    }
    rc = rc != 0 ? rc : puts ? tsm_barrier(c) : tsm_sync(c);
    if (rc != 0) {
        return rc;
    }
    if (*(uint64_t *)tsm_ptr(c, stored, right) != value(s, right, 0) ||
        (puts && *(uint64_t *)tsm_ptr(c, put, c->rank) != value(s, left, 0))) {
        snprintf(m->wrong, sizeof(m->wrong), "step %u: what came before a barrier is missing",
                 s->number);
    }
    return tsm_sync(c);
}

static int move_and_check(struct member *m, const struct step *s, tsm_ctx *c)
{
    tsm_sym dst = {0, 0, c->generation}, src = {BUFFER_BYTES, 0, c->generation};
    src = s->in_place ? dst : src;
    uint64_t *out = tsm_ptr(c, dst, c->rank), *in = tsm_ptr(c, src, c->rank);
    uint64_t given = s->count * (is(s, TO_ALL) ? c->size : 1);
    uint64_t got = s->count * (is(s, FROM_ALL) ? c->size : 1);
    for (uint64_t i = 0; i < got; i++) {
        out[i] = UINT64_MAX;
    }
    for (uint64_t i = 0; i < given; i++) {
        in[i] = value(s, c->rank, i);
    }
    int rc = call(s, c, dst, src);
    if (rc != 0 || (is(s, AT_ROOT) && c->rank != s->root) ||
        (kinds[s->kind].kind == CALL_EXSCAN && c->rank == 0)) {
        return rc;
    }
    for (uint64_t i = 0; i < got; i++) {
        if (out[i] != expected(s, c, i)) {
            snprintf(m->wrong, sizeof(m->wrong),
                     "step %u, kind %d, group %u of %u ranks, as rank %u, %llu elements, root %u, "
                     "in place %d: element %llu is %llx, not %llx",
                     s->number, kinds[s->kind].kind, s->group, c->size, c->rank,
                     (unsigned long long)s->count, s->root, s->in_place, (unsigned long long)i,
                     (unsigned long long)out[i], (unsigned long long)expected(s, c, i));
            break;
        }
    }
    return 0;
}

/* ---- one rank, in one life ---- */

static void *run_sequence(void *arg)
{
    struct member *m = arg;
    struct harness_random same;
    tsm_ctx *groups[GROUPS];
    uint32_t sizes[GROUPS];
    harness_random_init(&same, m->seed);
    draw_groups(m, &same, groups, sizes);
    /* Half of the lives end early: one rank gives up the domain or its run fails, at some step. */
    uint32_t last = harness_below(&same, 2) ? harness_below(&same, STEPS) : STEPS;
    uint32_t quitter = harness_below(&same, m->ctx.size);
    bool gives_up = harness_below(&same, 2);
    tsm_sym place = {0, 0, m->ctx.generation};
    struct step s = {0};
    uint32_t stream = 0;
    for (uint32_t n = 0; n < STEPS && m->ended == 0 && !m->wrong[0]; n++) {
        draw_next(&same, n, sizes, &s, &stream);
        tsm_ctx *c = groups[s.group];
        if (n == last && m->ctx.rank == quitter) {
            if (gives_up) {
                tsm_abort(&m->ctx, -77);
            } else {
                domain_abort_run(m);
            }
            m->ended = gives_up ? TSM_EPEER : TSM_EABORTED;
        } else if (c) {
            if (stream == 0 || c->rank != s.root) {
                rig_dawdle(&m->random);
            }
            m->ended = kinds[s.kind].is ? move_and_check(m, &s, c) : meet(m, &s, c);
        }
    }
    if (m->ended != 0 && (last == STEPS || m->ended != (gives_up ? TSM_EPEER : TSM_EABORTED))) {
        snprintf(m->wrong, sizeof(m->wrong), "ends with %d: %s", m->ended, tsm_ctx_text(&m->ctx));
    }
    /* Else a message of one that was interrupted could be taken for one of this. */
    if (m->ended != 0 &&
        tsm_broadcast(&m->ctx, place, place, 1, TSM_U64, m->ctx.rank) != m->ended) {
        snprintf(m->wrong, sizeof(m->wrong), "a collective begins after one that was aborted");
    }
    return NULL;
}

static void run_lives(uint32_t size, uint32_t spin, const struct tuning *tuning, uint32_t lives)
{
    rig_open(&rig, size, 0, spin);
    rig.a.ctl->info.tuning = *tuning;
    struct domain_desc *d = domain_make(&rig, size);
    for (uint64_t life = 1; life <= lives; life++) {
        domain_live(&rig, d, members, life, life * 1000 + size, run_sequence);
    }
    assert_true(spin > 0 || rig_sleeps(&rig) > 0);
    rig_close(&rig);
}

/* ---- tests ---- */

static const struct tuning small_ways = {.flat_ranks_max = 8,
                                         .one_shot_bytes = {8192, 8192, 8192, 8192, 8192}};
static const struct tuning large_ways = {.flat_ranks_max = 0};

static void sequences_where_everybody_sleeps_come_out_right(void **state)
{
    (void)state;
    for (uint32_t size = 2; size <= 5; size++) {
        run_lives(size, 0, size % 2 ? &small_ways : &large_ways, harness_count(400));
    }
}

static void sequences_where_everybody_spins_come_out_right(void **state)
{
    (void)state;
    for (uint32_t size = 2; size <= 5; size++) {
        run_lives(size, 3000, size % 2 ? &large_ways : &small_ways, harness_count(400));
    }
}

static void sequences_of_eight_ranks_come_out_right(void **state)
{
    (void)state;
    run_lives(8, 0, &small_ways, harness_count(200));
    run_lives(8, 500, &large_ways, harness_count(200));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sequences_where_everybody_sleeps_come_out_right),
        TEST(sequences_where_everybody_spins_come_out_right),
        TEST(sequences_of_eight_ranks_come_out_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

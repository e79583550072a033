/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives one after the other without anything in between: of all kinds in random order, on two domains and their
 * sub-groups that share members, from changing roots, many thousand times. What a collective leaves behind must not be
 * seen by the next one.
 */
#include "collective_case.h"

static tsm_worker *worker;

static void start(uint32_t chips)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = chips;
    opts.heap_bytes = 1u << 20;
    opts.host_bytes = 64u << 20;
    opts.lease_bytes = 512u << 20;
    worker = help_create(&opts);
}

/* ---- sub-groups ---- */

enum { LEFT, RIGHT, DOMAINS, VIEWS = 10, VIEW_RANKS_MAX = 5 };

/* The views 0 and 1 are the domains; the others are made of an earlier one, by a list or (stride) by first and stride. */
static const struct view {
    uint32_t parent, count;
    uint32_t ranks[VIEW_RANKS_MAX];
    uint32_t stride;
} views[VIEWS] = {
    [LEFT] = {.count = 5},
    [RIGHT] = {.count = 4},
    [2] = {LEFT, 3, {0}, 2},
    [3] = {LEFT, 4, {3, 1, 0, 4}, 0},
    [4] = {RIGHT, 4, {2, 1, 3, 0}, 0},
    [5] = {3, 2, {2, 0}, 0},
    [6] = {RIGHT, 3, {1}, 1},
    [7] = {6, 1, {1}, 0},
    [8] = {2, 2, {1}, 1},
    [9] = {LEFT, 5, {4, 3, 2, 1, 0}, 0},
};
static const int chips_of[DOMAINS][VIEW_RANKS_MAX] = {{0, 1, 2, 3, 4}, {5, 3, 1, 2}};
enum { CHIP_COUNT = 6 };

/* A view of which this chip is no member is NULL, and so is what is made of it. */
static int make_views(tsm_task *t, tsm_ctx **made)
{
    for (uint32_t i = 0; i < VIEWS; i++) {
        const struct view *v = &views[i];
        if (i < DOMAINS) {
            made[i] = tsm_task_domain(t, i);
            continue;
        }
        made[i] = NULL;
        if (made[v->parent] && v->stride != 0) {
            EXPECT(t,
                   tsm_split_strided(made[v->parent], v->ranks[0], v->stride, v->count, &made[i]),
                   0);
        } else if (made[v->parent]) {
            EXPECT(t, tsm_split(made[v->parent], v->ranks, v->count, &made[i]), 0);
        }
        EXPECT(t, made[i] && tsm_size(made[i]) != v->count, 0);
    }
    return 0;
}

static int both_domains(tsm_orch *o, tsm_callable callable, uint64_t window_bytes,
                        const uint64_t *scalars, uint32_t count)
{
    tsm_domain *d[DOMAINS];
    struct tsm_call calls[CHIP_COUNT];
    for (uint32_t i = 0; i < DOMAINS; i++) {
        assert_code(worker,
                    help_alloc(o, i == LEFT ? "left" : "right", chips_of[i], views[i].count,
                               window_bytes, &d[i]),
                    0);
    }
    for (int chip = 0; chip < CHIP_COUNT; chip++) {
        calls[chip] = (struct tsm_call){.callable = callable,
                                        .chip = chip,
                                        .domains = d,
                                        .domain_count = DOMAINS,
                                        .scalars = scalars,
                                        .scalar_count = count};
    }
    return tsm_submit_group(o, calls, CHIP_COUNT, NULL);
}

/* The chip of a rank of a view, by the tables above. */
static int chip_of(uint32_t view, uint32_t rank)
{
    while (view >= DOMAINS) {
        const struct view *v = &views[view];
        rank = v->stride != 0 ? v->ranks[0] + rank * v->stride : v->ranks[rank];
        view = v->parent;
    }
    return chips_of[view][rank];
}

static int split_task(tsm_task *t)
{
    tsm_ctx *made[VIEWS], *again[VIEWS];
    int chip = tsm_task_chip(t);
    EXPECT(t, make_views(t, made), 0);
    EXPECT(t, make_views(t, again), 0);
    for (uint32_t i = 0; i < VIEWS; i++) {
        uint32_t own = views[i].count, rank = 0;
        for (uint32_t r = 0; r < views[i].count; r++) {
            own = chip_of(i, r) == chip ? r : own;
        }
        EXPECT(t, made[i] != again[i], 0);
        EXPECT(t, (made[i] != NULL) != (own < views[i].count), 0);
        EXPECT(t, made[i] && tsm_rank(made[i]) != own, 0);
        for (uint32_t k = 0; made[i] && k < VIEWS; k++) {
            for (uint32_t r = 0; made[k] && r < views[i].count; r++) {
                int rc = tsm_translate(made[i], r, made[k], &rank);
                EXPECT(t, rc == 0 && chip_of(k, rank) != chip_of(i, r), 0);
                EXPECT(t, rc != 0 && rc != TSM_ENOENT, 0);
            }
        }
    }
    tsm_ctx *c = made[LEFT], *kept = c;
    uint32_t rank;
    if (c) {
        EXPECT(t, tsm_split(c, NULL, 0, &kept), TSM_EINVAL);
        EXPECT(t, tsm_split(c, (const uint32_t[]){0, 1, 0}, 3, &kept), TSM_EINVAL);
        EXPECT(t, tsm_split(c, (const uint32_t[]){0, 5}, 2, &kept), TSM_ERANGE);
        EXPECT(t, tsm_split_strided(c, 0, 0, 2, &kept), TSM_EINVAL);
        EXPECT(t, tsm_split_strided(c, 1, 2, 3, &kept), TSM_ERANGE);
        EXPECT(t, tsm_split_strided(c, 1, UINT32_MAX, 3, &kept), TSM_ERANGE);
        EXPECT(t, tsm_translate(c, 5, c, &rank), TSM_ERANGE);
        EXPECT(t, kept != c, 0);
    }
    return 0;
}

static tsm_callable callable;

static int split_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return both_domains(o, callable, 64, NULL, 0);
}

static void a_sub_group_has_the_ranks_that_its_list_names(void **state)
{
    (void)state;
    start(CHIP_COUNT);
    callable = harness_register(worker, "split", split_task);
    harness_start(worker);
    for (int i = 0; i < 3; i++) {
        assert_code(worker, tsm_worker_run(worker, split_orch, NULL), 0);
    }
    harness_close(worker);
}

/* ---- everything in random order ---- */

struct step {
    uint32_t view; /* VIEWS: a barrier of all that are in the domains, left then right */
    struct collective_case k;
};

static uint64_t random_count(struct harness_random *r)
{
    switch (harness_below(r, 8)) {
    case 0:
        return harness_below(r, 3);
    case 1:
    case 2:
        return harness_below(r, 40);
    case 7:
        return harness_below(r, 8) == 0 ? 5000 + harness_below(r, 20000) : 1;
    default:
        return harness_below(r, 2500);
    }
}

static struct collective_case random_case(struct harness_random *r, uint32_t ranks)
{
    struct collective_case k;
    do {
        k = (struct collective_case){.kind = (int)harness_below(r, CASE_KINDS),
                                     .dtype = TSM_U8 + (int)harness_below(r, TSM_F64),
                                     .op = TSM_SUM + (int)harness_below(r, TSM_XOR),
                                     .ranks = ranks,
                                     .root = harness_below(r, ranks),
                                     .in_place = (int)harness_below(r, 2),
                                     .count = random_count(r),
                                     .seed = harness_below(r, 1000000)};
    } while (!case_is_valid(&k));
    return k;
}

/* Now and then many of one kind from changing roots: their senders run ahead until a queue is full. */
static void random_steps(struct step *steps, uint32_t count, uint64_t seed)
{
    static const int rooted[] = {CASE_BROADCAST, CASE_GATHER, CASE_SCATTER, CASE_REDUCE};
    struct harness_random r;
    harness_random_init(&r, seed);
    for (uint32_t i = 0; i < count;) {
        uint32_t view = harness_below(&r, VIEWS);
        uint32_t repeat = harness_below(&r, 12) == 0 ? 1 + harness_below(&r, 40) : 1;
        struct collective_case k = random_case(&r, views[view].count);
        if (repeat > 1 && !case_reduces(k.kind)) {
            k.kind = rooted[harness_below(&r, 3)];
        } else if (repeat > 1) {
            k.kind = CASE_REDUCE;
        }
        for (; repeat > 0 && i < count; repeat--) {
            k.root = harness_below(&r, k.ranks);
            k.seed++;
            steps[i++] = (struct step){view, k};
        }
    }
}

static int steps_task(tsm_task *t)
{
    const struct step *steps = (const struct step *)(uintptr_t)tsm_task_scalar(t, 0);
    tsm_ctx *made[VIEWS];
    int rc = make_views(t, made);
    for (uint64_t i = 0; i < tsm_task_scalar(t, 1) && rc == 0; i++) {
        if (made[steps[i].view]) {
            rc = case_run(t, made[steps[i].view], &steps[i].k);
        }
        if (rc == 0 && i % 97 == 0) {
            rc = made[LEFT] ? tsm_barrier(made[LEFT]) : 0;
            rc = rc == 0 && made[RIGHT] ? tsm_sync(made[RIGHT]) : rc;
        }
    }
    return rc;
}

struct steps {
    struct step *list;
    uint64_t count, window_bytes;
};

static int steps_orch(tsm_orch *o, void *arg)
{
    const struct steps *s = arg;
    const uint64_t scalars[] = {help_pointer(s->list), s->count};
    return both_domains(o, callable, s->window_bytes, scalars, 2);
}

static void domains_and_sub_groups_that_share_members_do_not_mix_up_their_messages(void **state)
{
    (void)state;
    enum { STEPS = 1000 };
    struct steps s = {.count = STEPS};
    void *list = NULL;
    start(CHIP_COUNT);
    callable = harness_register(worker, "steps", steps_task);
    harness_start(worker);
    assert_code(worker, tsm_buffer_create(worker, STEPS * sizeof(struct step), &list), 0);
    s.list = list;
    for (uint64_t seed = 1; seed <= harness_count(10); seed++) {
        random_steps(s.list, STEPS, seed);
        s.window_bytes = 0;
        for (uint32_t i = 0; i < STEPS; i++) {
            uint64_t end = case_places(&s.list[i].k).end;
            s.window_bytes = end > s.window_bytes ? end : s.window_bytes;
        }
        int rc = tsm_worker_run(worker, steps_orch, &s);
        if (rc != 0) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, tsm_worker_error(worker)->text);
        }
    }
    harness_close(worker);
}

/* ---- so many ranks that a queue is short ---- */

/* Broadcasts and gathers from changing roots, then sums: u32, `count` of each rank. */
static int crowd_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t rank = tsm_rank(c), n = tsm_size(c);
    uint64_t count = tsm_task_scalar(t, 1);
    tsm_sym src;
    EXPECT(t, tsm_at(c, 0, &src), 0);
    tsm_sym dst = tsm_offset(src, count * 4);
    uint32_t *x = tsm_ptr(c, src, rank);
    const uint32_t *y = tsm_ptr(c, dst, rank);
    for (uint32_t i = 0; i < tsm_task_scalar(t, 0); i++) {
        uint32_t root = i * 31 % n;
        for (uint64_t k = 0; k < count; k++) {
            x[k] = rank * 1000 + i;
        }
        EXPECT(t, tsm_broadcast(c, dst, src, count, TSM_U32, root), 0);
        EXPECT(t, y[0] != root * 1000 + i || y[count - 1] != root * 1000 + i, 0);
        EXPECT(t, tsm_gather(c, dst, src, count, TSM_U32, root), 0);
        for (uint32_t r = 0; rank == root && r < n; r++) {
            EXPECT(t, y[r * count] != r * 1000 + i || y[(r + 1) * count - 1] != r * 1000 + i, 0);
        }
        EXPECT(t, i % 4 == 3 ? tsm_all_reduce(c, dst, src, count, TSM_U32, TSM_SUM) : 0, 0);
        EXPECT(t, i % 4 == 3 && y[count - 1] != n * (n - 1) / 2 * 1000 + n * i, 0);
    }
    return tsm_barrier(c);
}

static void many_ranks_with_short_queues_wait_for_each_other(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 100, 3000};
    start(harness_quick() ? 40 : 130);
    struct team g = {.callable = harness_register(worker, "crowd", crowd_task)};
    harness_start(worker);
    for (g.ranks = 40; g.ranks <= (harness_quick() ? 40 : 130); g.ranks += 90) {
        for (uint32_t i = 0; i < COUNT(counts); i++) {
            g.scalars[0] = harness_count(40);
            g.scalars[1] = counts[i];
            g.window_bytes = (g.ranks + 1) * counts[i] * 4;
            assert_code(worker, tsm_worker_run(worker, team_orch, &g), 0);
        }
    }
    harness_close(worker);
}

/* ---- one that runs ahead ---- */

/* Who only sends does not wait for who receives, until a queue is full. Rank 0 broadcasts, then gathers, many times in
 * a row; now and then one that receives is busy with something else. */
static int ahead_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t times = tsm_task_scalar(t, 0), count = tsm_task_scalar(t, 1);
    uint32_t rank = tsm_rank(c), n = tsm_size(c);
    tsm_sym src;
    EXPECT(t, tsm_at(c, 0, &src), 0);
    tsm_sym dst = tsm_offset(src, count * 8);
    uint64_t *x = tsm_ptr(c, src, rank), *y = tsm_ptr(c, dst, rank);
    for (uint64_t i = 0; i < 2 * times; i++) {
        bool gathers = i >= times, receives = gathers == (rank == 0);
        x[0] = x[count - 1] = i * 1000 + rank;
        if (receives && i % 64 == rank * 7) {
            help_take(50000);
        }
        EXPECT(t,
               gathers ? tsm_gather(c, dst, src, count, TSM_U64, 0)
                       : tsm_broadcast(c, dst, src, count, TSM_U64, 0),
               0);
        x[0] = x[count - 1] = UINT64_MAX;
        for (uint32_t r = 0; receives && r < (gathers ? n : 1); r++) {
            const uint64_t *part = y + (gathers ? r * count : 0);
            if (part[0] != i * 1000 + r || part[count - 1] != i * 1000 + r) {
                return tsm_fail(t, "step %llu, part of rank %u", (unsigned long long)i, r);
            }
        }
    }
    return 0;
}

static void who_only_sends_runs_ahead_and_overtakes_nobody(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 40, 400, 3000};
    start(8);
    struct team g = {.callable = harness_register(worker, "ahead", ahead_task)};
    harness_start(worker);
    for (g.ranks = 2; g.ranks <= 8; g.ranks *= 2) {
        for (uint32_t i = 0; i < COUNT(counts); i++) {
            g.scalars[0] = harness_count(1000);
            g.scalars[1] = counts[i];
            g.window_bytes = (g.ranks + 1) * counts[i] * 8;
            assert_code(worker, tsm_worker_run(worker, team_orch, &g), 0);
        }
    }
    harness_close(worker);
}

/* ---- a hundred thousand in a row ---- */

/* On a machine with other work that many can take minutes: after some time rank 0 says, one step ahead, which one is
 * the last. Word 1 of its window; who comes out of the barrier or the sum of a step sees what it wrote before it. */
enum { ENOUGH_SECONDS = 12 };

static void maybe_enough(const tsm_ctx *c, _Atomic uint64_t *words, uint64_t step,
                         uint64_t begin_ns)
{
    if (tsm_rank(c) == 0 && step % 128 == 0 && atomic_load(&words[1]) == 0 &&
        harness_now_ns() - begin_ns > ENOUGH_SECONDS * UINT64_C(1000000000)) {
        atomic_store(&words[1], step + 1);
    }
}

static bool is_last(const tsm_ctx *c, tsm_sym s, uint64_t step)
{
    _Atomic uint64_t *words = tsm_ptr(c, s, 0);
    uint64_t last = atomic_load(&words[1]);
    return last != 0 && step >= last;
}

/* Behind barrier i every rank is in step i, or already in the next one. */
static int barriers_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t begin_ns = harness_now_ns();
    uint32_t n = tsm_size(c);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    _Atomic uint64_t *own = tsm_ptr(c, s, tsm_rank(c));
    for (uint64_t i = 1; i <= tsm_task_scalar(t, 0) && !is_last(c, s, i - 1); i++) {
        maybe_enough(c, own, i, begin_ns);
        atomic_store_explicit(own, i, memory_order_relaxed);
        int rc = i % 2 ? tsm_barrier(c) : tsm_sync(c);
        uint64_t r = (tsm_rank(c) + i) % n;
        _Atomic uint64_t *theirs = tsm_ptr(c, s, (uint32_t)r);
        uint64_t seen = atomic_load_explicit(theirs, memory_order_relaxed);
        if (rc != 0 || seen < i || seen > i + 1) {
            return tsm_fail(t, "barrier %llu is %s, rank %llu at %llu", (unsigned long long)i,
                            tsm_code_name(rc), (unsigned long long)r, (unsigned long long)seen);
        }
    }
    return 0;
}

static int sums_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t n = tsm_size(c), count = tsm_task_scalar(t, 1), begin_ns = harness_now_ns();
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    tsm_sym src = tsm_offset(s, 64), dst = tsm_offset(src, count * 8);
    uint64_t *x = tsm_ptr(c, src, tsm_rank(c)), *y = tsm_ptr(c, dst, tsm_rank(c));
    for (uint64_t i = 1; i <= tsm_task_scalar(t, 0) && !is_last(c, s, i - 1); i++) {
        uint64_t mine = i * (tsm_rank(c) + 1), sum = i * (n * (n + 1) / 2);
        maybe_enough(c, tsm_ptr(c, s, tsm_rank(c)), i, begin_ns);
        x[0] = x[count / 2] = x[count - 1] = mine;
        int rc = tsm_all_reduce(c, dst, src, count, TSM_U64, TSM_SUM);
        if (rc != 0 || y[0] != sum || y[count / 2] != sum || y[count - 1] != sum) {
            return tsm_fail(t, "all-reduce %llu is %s", (unsigned long long)i, tsm_code_name(rc));
        }
    }
    return 0;
}

static void repeat(tsm_task_fn *fn, const char *name, uint64_t times, uint64_t count)
{
    start(4);
    struct team g = {.callable = harness_register(worker, name, fn),
                     .window_bytes = 128 + count * 16,
                     .scalars = {times, count}};
    harness_start(worker);
    for (g.ranks = 2; g.ranks <= 4; g.ranks += 2) {
        assert_code(worker, tsm_worker_run(worker, team_orch, &g), 0);
    }
    harness_close(worker);
}

static void a_hundred_thousand_barriers_in_a_row_let_nobody_ahead(void **state)
{
    (void)state;
    repeat(barriers_task, "barriers", harness_count(100000), 0);
}

static void a_hundred_thousand_sums_in_a_row_are_right(void **state)
{
    (void)state;
    repeat(sums_task, "sums", harness_count(100000), 1);
}

static void many_sums_through_stages_and_windows_are_right(void **state)
{
    (void)state;
    repeat(sums_task, "sums", harness_count(20000), 32);
    repeat(sums_task, "sums", harness_count(10000), 200);
    repeat(sums_task, "sums", harness_count(2000), 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sub_group_has_the_ranks_that_its_list_names),
        TEST(domains_and_sub_groups_that_share_members_do_not_mix_up_their_messages),
        TEST(many_ranks_with_short_queues_wait_for_each_other),
        TEST(who_only_sends_runs_ahead_and_overtakes_nobody),
        TEST(a_hundred_thousand_barriers_in_a_row_let_nobody_ahead),
        TEST(a_hundred_thousand_sums_in_a_row_are_right),
        TEST(many_sums_through_stages_and_windows_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Inside a task: signals and their waits, barriers, all-reduce. Each test is one task function that runs as a group
 * with a member on every chip of the domain; what it finds wrong it says with tsm_fail.
 */
#include <math.h>
#include <stdlib.h>

#include "domain_help.h"

static tsm_worker *worker;

/* One member of the group per chip of the domain. */
struct group {
    tsm_callable callable;
    uint32_t count;
    uint64_t window_bytes;
    uint64_t scalars[6];
    bool falling; /* rank r on chip count - 1 - r */
};

static int group_orch(tsm_orch *o, void *arg)
{
    const struct group *g = arg;
    int chips[HELP_GROUP_MAX];
    tsm_domain *d;
    for (uint32_t i = 0; i < g->count; i++) {
        chips[i] = (int)(g->falling ? g->count - 1 - i : i);
    }
    int rc = help_alloc(o, "team", chips, g->count, g->window_bytes, &d);
    return rc != 0 ? rc
                   : help_submit_group(o, g->callable, d, chips, g->count, g->scalars,
                                       COUNT(g->scalars));
}

static tsm_callable start(uint32_t chips, const char *name, tsm_task_fn *fn)
{
    worker = harness_worker(harness_chips(chips), 0);
    tsm_callable c = harness_register(worker, name, fn);
    harness_start(worker);
    return c;
}

static void run_group(const struct group *g, int code)
{
    assert_code(worker, tsm_worker_run(worker, group_orch, (void *)(uintptr_t)g), code);
}

/* ---- signals ---- */

/* Rank 0 tells rank 1 step by step, and hears back before the next one. */
static int compare_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s, back;
    uint64_t seen = 0;
    static const struct {
        int op;
        uint64_t value, becomes;
        int cmp;
        uint64_t with;
    } steps[] = {
        {TSM_SIGNAL_SET, 5, 5, TSM_EQ, 5},
        {TSM_SIGNAL_ADD, 2, 7, TSM_NE, 5},
        {TSM_SIGNAL_ADD, 1, 8, TSM_GT, 7},
        {TSM_SIGNAL_ADD, 2, 10, TSM_GE, 10},
        {TSM_SIGNAL_SET, 3, 3, TSM_LT, 10},
        {TSM_SIGNAL_ADD, UINT64_MAX, 2, TSM_LE, 2},
        {TSM_SIGNAL_SET, UINT64_MAX, UINT64_MAX, TSM_GT, INT64_MAX},
        {TSM_SIGNAL_SET, 0, 0, TSM_EQ, 0},
        {TSM_SIGNAL_SET, 1, 1, TSM_NE, 0},
    };
    EXPECT(t, tsm_at(c, 64, &s), 0);
    EXPECT(t, tsm_at(c, 128, &back), 0);
    for (uint64_t i = 0; i < COUNT(steps); i++) {
        if (tsm_rank(c) == 0) {
            EXPECT(t, tsm_signal(c, s, steps[i].value, steps[i].op, 1), 0);
            EXPECT(t, tsm_signal_wait_until(c, back, TSM_GE, i + 1, NULL, -1), 0);
        } else if (tsm_rank(c) == 1) {
            EXPECT(t, tsm_signal_wait_until(c, s, steps[i].cmp, steps[i].with, &seen, -1), 0);
            if (seen != steps[i].becomes) {
                return tsm_fail(t, "step %llu sees %llu", (unsigned long long)i,
                                (unsigned long long)seen);
            }
            EXPECT(t, tsm_signal_fetch(c, s, &seen), 0);
            EXPECT(t, seen != steps[i].becomes, 0);
            EXPECT(t, tsm_signal(c, back, i + 1, TSM_SIGNAL_SET, 0), 0);
        }
    }
    return 0;
}

static void set_and_add_meet_every_comparison(void **state)
{
    (void)state;
    struct group g = {start(2, "compare", compare_task), 2, 256, {0}, false};
    for (uint32_t i = 0; i < harness_count(300); i++) {
        run_group(&g, 0);
    }
    harness_close(worker);
}

/* All ranks add to rank 0's word at once, and to their own neighbour's. */
static int add_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t each = tsm_task_scalar(t, 0);
    uint32_t size = tsm_size(c);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    EXPECT(t, tsm_barrier(c), 0);
    for (uint64_t i = 0; i < each; i++) {
        EXPECT(t, tsm_signal(c, s, 1, TSM_SIGNAL_ADD, 0), 0);
        EXPECT(t, tsm_signal(c, tsm_offset(s, 8), 1, TSM_SIGNAL_ADD, (tsm_rank(c) + 1) % size), 0);
    }
    if (tsm_rank(c) == 0) {
        EXPECT(t, tsm_signal_wait_until(c, s, TSM_EQ, each * size, NULL, -1), 0);
    }
    EXPECT(t, tsm_signal_wait_until(c, tsm_offset(s, 8), TSM_EQ, each, NULL, -1), 0);
    return 0;
}

static void no_addition_is_lost_when_all_add_at_once(void **state)
{
    (void)state;
    struct group g = {start(4, "add", add_task), 4, 64, {0}, false};
    g.scalars[0] = harness_count(30000);
    for (int i = 0; i < 5; i++) {
        run_group(&g, 0);
    }
    harness_close(worker);
}

/* What was written before a signal is seen by who waits for it. */
static int message_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t other = 1 - tsm_rank(c);
    tsm_sym flag, data;
    EXPECT(t, tsm_at(c, 0, &flag), 0);
    EXPECT(t, tsm_at(c, 64, &data), 0);
    uint64_t *theirs = tsm_ptr(c, data, other);
    const uint64_t *own = tsm_ptr(c, data, tsm_rank(c));
    for (uint64_t i = 1; i <= tsm_task_scalar(t, 0); i++) {
        for (uint64_t k = 0; k < 64; k++) {
            theirs[k] = i * k;
        }
        EXPECT(t, tsm_signal(c, flag, i, TSM_SIGNAL_SET, other), 0);
        EXPECT(t, tsm_signal_wait_until(c, flag, TSM_GE, i, NULL, -1), 0);
        for (uint64_t k = 0; k < 64; k++) {
            EXPECT(t, own[k] != i * k, 0);
        }
        EXPECT(t, tsm_barrier(c), 0);
    }
    return 0;
}

static void what_was_written_before_a_signal_is_seen_behind_it(void **state)
{
    (void)state;
    struct group g = {start(2, "message", message_task), 2, 1024, {0}, false};
    g.scalars[0] = harness_count(20000);
    run_group(&g, 0);
    harness_close(worker);
}

/* Turn by turn, so that each waits for every step of the other. Plain stores (scalar 1) wake nobody; a notify
 * does. */
static int turns_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    for (uint64_t i = 1; i <= tsm_task_scalar(t, 0); i++) {
        if (tsm_rank(c) == i % 2) {
            help_take(tsm_task_scalar(t, 2)); /* so long that the other one is asleep */
            uint32_t other = 1 - tsm_rank(c);
            if (tsm_task_scalar(t, 1)) {
                atomic_store_explicit((_Atomic uint64_t *)tsm_ptr(c, s, other), i,
                                      memory_order_release);
                EXPECT(t, tsm_notify(c, other), 0);
            } else {
                EXPECT(t, tsm_signal(c, s, i, TSM_SIGNAL_SET, other), 0);
            }
        } else {
            EXPECT(t, tsm_signal_wait_until(c, s, TSM_EQ, i, NULL, -1), 0);
        }
    }
    return 0;
}

static void a_signal_and_a_notify_wake_who_waits(void **state)
{
    (void)state;
    struct group g = {start(2, "turns", turns_task), 2, 64, {0}, false};
    g.scalars[0] = harness_count(20000);
    run_group(&g, 0);
    g.scalars[1] = 1;
    run_group(&g, 0);
    /* A sleeper that nobody wakes sleeps for tens of milliseconds. */
    g.scalars[0] = 200;
    g.scalars[2] = 300000;
    for (g.scalars[1] = 0; g.scalars[1] < 2; g.scalars[1]++) {
        uint64_t before = harness_now_ns();
        run_group(&g, 0);
        assert_true(harness_now_ns() - before < 2000000000);
    }
    harness_close(worker);
}

static int timeout_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    uint64_t seen = 9;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    const int64_t times[] = {0, 1, 1000000, 20000000};
    for (uint32_t i = 0; i < COUNT(times); i++) {
        uint64_t before = harness_now_ns();
        EXPECT(t, tsm_signal_wait_until(c, s, TSM_EQ, 1, &seen, times[i]), TSM_ETIMEOUT);
        EXPECT(t, seen != 0, 0);
        EXPECT(t, harness_now_ns() - before < (uint64_t)times[i], 0);
    }
    EXPECT(t, tsm_signal_wait_until(c, s, TSM_EQ, 0, &seen, 0), 0);
    EXPECT(t, tsm_barrier(c), 0);
    EXPECT(t, tsm_signal(c, s, 1, TSM_SIGNAL_SET, (tsm_rank(c) + 1) % tsm_size(c)), 0);
    EXPECT(t, tsm_signal_wait_until(c, s, TSM_EQ, 1, &seen, INT64_MAX), 0);
    return 0;
}

static void a_wait_with_a_timeout_ends_then_and_may_be_repeated(void **state)
{
    (void)state;
    struct group g = {start(3, "timeout", timeout_task), 3, 64, {0}, false};
    run_group(&g, 0);
    harness_close(worker);
}

/* ---- ended by a failure ---- */

/* Rank 0 fails, or dies, when all others have said that they are about to wait. */
static int aborted_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    if (tsm_rank(c) == 0) {
        EXPECT(t, tsm_signal_wait_until(c, s, TSM_EQ, tsm_size(c) - 1, NULL, -1), 0);
        *(uint64_t *)(uintptr_t)tsm_task_scalar(t, 1) = harness_now_ns();
        if (tsm_task_scalar(t, 0) == 2) {
            abort();
        }
        return tsm_fail(t, "rank 0 gives up");
    }
    EXPECT(t, tsm_signal(c, s, 1, TSM_SIGNAL_ADD, 0), 0);
    int rc = 0;
    if (tsm_task_scalar(t, 0) == 0) {
        rc = tsm_barrier(c);
    } else {
        rc = tsm_signal_wait_until(c, s, TSM_EQ, 12345, NULL, -1);
    }
    EXPECT(t, rc, TSM_EABORTED);
    uint64_t *ends = (uint64_t *)(uintptr_t)tsm_task_scalar(t, 1);
    ends[tsm_rank(c)] = harness_now_ns();
    return rc;
}

static void waits_end_at_once_when_a_peer_fails_or_dies(void **state)
{
    (void)state;
    struct group g = {start(4, "aborted", aborted_task), 4, 64, {0}, true};
    void *ends;
    assert_code(worker, tsm_buffer_create(worker, 4 * sizeof(uint64_t), &ends), 0);
    g.scalars[1] = help_pointer(ends);
    for (uint32_t i = 0; i < 30; i++) {
        g.scalars[0] = i % 3;
        run_group(&g, i % 3 == 2 ? TSM_ECHILD_DIED : TSM_ETASK_FAILED);
        assert_text(worker, i % 3 == 2 ? "signal 6" : "rank 0 gives up");
        assert_int_equal(tsm_worker_error(worker)->chip, 3);
        for (uint32_t r = 1; r < 4; r++) {
            const uint64_t *times = ends;
            assert_true(times[r] > times[0]);
            assert_true(times[r] - times[0] < (harness_quick() ? 2000000000u : 500000000u));
        }
        memset(ends, 0, 4 * sizeof(uint64_t));
        help_wait_replaced(worker, 3);
    }
    harness_close(worker);
}

/* ---- barriers ---- */

static int barrier_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint32_t size = tsm_size(c);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    uint64_t *own = tsm_ptr(c, s, tsm_rank(c));
    for (uint64_t i = 1; i <= tsm_task_scalar(t, 0); i++) {
        own[0] = i; /* plain: the barriers order it */
        EXPECT(t, tsm_barrier(c), 0);
        for (uint32_t r = 0; r < size; r++) {
            const uint64_t *theirs = tsm_ptr(c, s, r);
            if (theirs[0] != i) {
                return tsm_fail(t, "round %llu: rank %u is at %llu", (unsigned long long)i, r,
                                (unsigned long long)theirs[0]);
            }
        }
        EXPECT(t, tsm_barrier(c), 0);
    }
    return 0;
}

static void nobody_leaves_a_barrier_before_all_are_there(void **state)
{
    (void)state;
    struct group g = {start(9, "barrier", barrier_task), 0, 64, {0}, false};
    for (uint32_t size = 1; size <= 9; size++) {
        g.count = size;
        g.scalars[0] = size == 2 ? harness_count(10000) : harness_count(400);
        run_group(&g, 0);
    }
    harness_close(worker);
}

/* ---- all-reduce ---- */

/* Small values, so that the exact result is known for every type: rank r holds (i * 7 + r * 3) % 5 + 1. */
static double element_of(uint64_t i, uint32_t rank)
{
    return (double)((i * 7 + rank * 3) % 5 + 1);
}

static double expected(uint64_t i, uint32_t size, int op)
{
    double x = element_of(i, 0);
    for (uint32_t r = 1; r < size; r++) {
        double y = element_of(i, r);
        x = op == TSM_SUM    ? x + y
            : op == TSM_PROD ? x * y
            : op == TSM_MIN  ? fmin(x, y)
                             : fmax(x, y);
    }
    return x;
}

static double load(const void *p, uint64_t i, int dtype)
{
    switch (dtype) {
    case TSM_I32:
        return ((const int32_t *)p)[i];
    case TSM_U32:
        return ((const uint32_t *)p)[i];
    case TSM_I64:
        return (double)((const int64_t *)p)[i];
    case TSM_U64:
        return (double)((const uint64_t *)p)[i];
    case TSM_F32:
        return (double)((const float *)p)[i];
    default:
        return ((const double *)p)[i];
    }
}

/* Signed types hold the negative of it where min and max are asked. */
static void store(void *p, uint64_t i, int dtype, double x)
{
    switch (dtype) {
    case TSM_I32:
        ((int32_t *)p)[i] = (int32_t)x;
        break;
    case TSM_U32:
        ((uint32_t *)p)[i] = (uint32_t)x;
        break;
    case TSM_I64:
        ((int64_t *)p)[i] = (int64_t)x;
        break;
    case TSM_U64:
        ((uint64_t *)p)[i] = (uint64_t)x;
        break;
    case TSM_F32:
        ((float *)p)[i] = (float)x;
        break;
    default:
        ((double *)p)[i] = x;
    }
}

static double sign_of(int dtype, int op)
{
    bool is_signed = dtype != TSM_U32 && dtype != TSM_U64;
    return is_signed && (op == TSM_MIN || op == TSM_MAX) ? -1 : 1;
}

/* Scalars: dtype, op, count, in place. src at 0, dst behind it with a guard on both sides. */
static int reduce_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    int dtype = (int)tsm_task_scalar(t, 0), op = (int)tsm_task_scalar(t, 1);
    uint64_t count = tsm_task_scalar(t, 2), element = tsm_dtype_bytes(dtype);
    bool in_place = tsm_task_scalar(t, 3) != 0;
    double sign = sign_of(dtype, op);
    tsm_sym src, dst;
    EXPECT(t, tsm_at(c, 64, &src), 0);
    dst = in_place ? src : tsm_offset(src, count * element + 8);
    uint8_t *from = tsm_ptr(c, src, tsm_rank(c));
    uint8_t *into = tsm_ptr(c, dst, tsm_rank(c));
    for (uint64_t i = 0; i < count; i++) {
        store(from, i, dtype, sign * element_of(i, tsm_rank(c)));
    }
    memset(into + count * element, 0x77, 8);
    memset(into - 8, 0x77, 8);
    EXPECT(t, tsm_all_reduce(c, dst, src, count, dtype, op), 0);
    int seen_as = sign > 0 || op == TSM_SUM || op == TSM_PROD ? op : TSM_MIN + TSM_MAX - op;
    for (uint64_t i = 0; i < count; i++) {
        double x = sign * load(into, i, dtype);
        if (x != expected(i, tsm_size(c), seen_as)) {
            return tsm_fail(t, "%s op %d: element %llu of %llu is %g", tsm_dtype_name(dtype), op,
                            (unsigned long long)i, (unsigned long long)count, x);
        }
        if (!in_place && sign * load(from, i, dtype) != element_of(i, tsm_rank(c))) {
            return tsm_fail(t, "src has changed");
        }
    }
    for (uint32_t i = 0; i < 8; i++) {
        EXPECT(t, into[count * element + i] != 0x77 || into[-8 + (int)i] != 0x77, 0);
    }
    return tsm_barrier(c);
}

static const int dtypes[] = {TSM_I32, TSM_U32, TSM_I64, TSM_U64, TSM_F32, TSM_F64};

static void all_reduce_is_right_for_every_type_and_operation(void **state)
{
    (void)state;
    static const uint64_t counts[] = {0, 1, 2, 7, 16, 17, 333, 4099};
    struct group g = {start(9, "reduce", reduce_task), 0, 160u << 10, {0}, false};
    uint32_t turn = 0;
    for (uint32_t size = 1; size <= 9; size++) {
        for (uint32_t d = 0; d < COUNT(dtypes); d++) {
            for (int op = TSM_SUM; op <= TSM_MAX; op++) {
                g.count = size;
                g.scalars[0] = (uint64_t)dtypes[d];
                g.scalars[1] = (uint64_t)op;
                g.scalars[2] = counts[turn++ % COUNT(counts)];
                g.scalars[3] = turn / COUNT(counts) % 2;
                run_group(&g, 0);
            }
        }
    }
    harness_close(worker);
}

static void all_reduce_of_64_ki_elements_is_right_in_place_and_not(void **state)
{
    (void)state;
    struct group g = {start(3, "reduce", reduce_task), 3, 2u << 20, {0}, false};
    for (uint32_t d = 0; d < COUNT(dtypes); d++) {
        g.scalars[0] = (uint64_t)dtypes[d];
        g.scalars[1] = TSM_SUM;
        g.scalars[2] = 65536;
        g.scalars[3] = d % 2;
        run_group(&g, 0);
        g.scalars[3] = 1 - d % 2;
        run_group(&g, 0);
    }
    harness_close(worker);
}

/* Numbers whose sum depends on the order: the result is that of 0, 1, 2, ..., on every rank and each time. */
static int bits_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    enum { N = 1001 };
    uint32_t size = tsm_size(c);
    tsm_sym src, dst;
    EXPECT(t, tsm_at(c, 0, &src), 0);
    EXPECT(t, tsm_at(c, 4096, &dst), 0);
    float sums[N];
    for (uint32_t r = 0; r < size; r++) {
        struct harness_random random;
        float *own = tsm_ptr(c, src, r);
        harness_random_init(&random, tsm_task_scalar(t, 0) + r);
        for (uint32_t i = 0; i < N; i++) {
            float x = ldexpf((float)(int32_t)harness_random(&random),
                             (int)harness_below(&random, 60) - 30);
            sums[i] = r == 0 ? x : sums[i] + x;
            if (r == tsm_rank(c)) {
                own[i] = x;
            }
        }
    }
    for (int call = 0; call < 3; call++) {
        EXPECT(t, tsm_all_reduce(c, dst, src, N, TSM_F32, TSM_SUM), 0);
        if (memcmp(tsm_ptr(c, dst, tsm_rank(c)), sums, sizeof(sums)) != 0) {
            return tsm_fail(t, "call %d differs from the sum in the order of the ranks", call);
        }
        EXPECT(t, tsm_barrier(c), 0);
    }
    return 0;
}

static void all_reduce_gives_the_same_bits_on_every_rank_and_in_every_call(void **state)
{
    (void)state;
    struct group g = {start(9, "bits", bits_task), 0, 16384, {0}, false};
    for (uint32_t size = 1; size <= 9; size++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            g.count = size;
            g.scalars[0] = seed;
            g.falling = seed == 1; /* other chips under the same ranks */
            run_group(&g, 0);
        }
    }
    harness_close(worker);
}

static int refused_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s, far;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    EXPECT(t, tsm_at(c, 512, &far), 0);
    EXPECT(t, tsm_all_reduce(c, s, tsm_offset(s, 8), 2, TSM_U64, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, tsm_offset(s, 8), s, 2, TSM_U64, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, tsm_offset(s, 504), far, 2, TSM_U64, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, s, tsm_offset(far, 4), 2, TSM_U64, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, tsm_offset(s, 2), far, 2, TSM_F32, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, s, far, 1, TSM_F32, TSM_AND), TSM_EUNSUPPORTED);
    EXPECT(t, tsm_all_reduce(c, s, far, 1, 0, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, s, far, 1, TSM_F32, 0), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, s, far, 1, TSM_F32, 9), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, s, far, 65, TSM_U64, TSM_SUM), TSM_ERANGE);
    EXPECT(t, tsm_all_reduce(c, far, s, 65, TSM_U64, TSM_SUM), TSM_ERANGE);
    EXPECT(t, tsm_all_reduce(c, s, far, UINT64_MAX / 4, TSM_U64, TSM_SUM), TSM_ERANGE);
    EXPECT(t, tsm_all_reduce(c, s, tsm_offset(s, UINT64_MAX - 7), 1, TSM_U64, TSM_SUM), TSM_ERANGE);
    /* Nobody was kept waiting by a refusal; neighbours that touch do not overlap. */
    EXPECT(t, tsm_all_reduce(c, s, far, 64, TSM_U64, TSM_SUM), 0);
    EXPECT(t, tsm_all_reduce(c, tsm_offset(far, 8), far, 1, TSM_U64, TSM_SUM), 0);
    return 0;
}

static void all_reduce_refuses_overlap_odd_places_and_other_types(void **state)
{
    (void)state;
    struct group g = {start(3, "refused", refused_task), 3, 1024, {0}, false};
    run_group(&g, 0);
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(set_and_add_meet_every_comparison),
        TEST(no_addition_is_lost_when_all_add_at_once),
        TEST(what_was_written_before_a_signal_is_seen_behind_it),
        TEST(a_signal_and_a_notify_wake_who_waits),
        TEST(a_wait_with_a_timeout_ends_then_and_may_be_repeated),
        TEST(waits_end_at_once_when_a_peer_fails_or_dies),
        TEST(nobody_leaves_a_barrier_before_all_are_there),
        TEST(all_reduce_is_right_for_every_type_and_operation),
        TEST(all_reduce_of_64_ki_elements_is_right_in_place_and_not),
        TEST(all_reduce_gives_the_same_bits_on_every_rank_and_in_every_call),
        TEST(all_reduce_refuses_overlap_odd_places_and_other_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

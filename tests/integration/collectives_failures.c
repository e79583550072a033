/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Collectives that do not come to their end: a member is killed, fails, aborts the domain, leaves early, comes too late,
 * or calls something else. The others hear of it at once, in the right words, and the next run on the same chips and
 * the same lease is clean.
 */
#include <signal.h>

#include "collective_case.h"

enum { CHIP_COUNT = 4, COUNT_MAX = 20000, WINDOW_BYTES = 4 << 20, NOT_BEGUN = 1 };

/* What a rank saw; in a host buffer. */
struct report {
    _Atomic int first, then; /* codes: of the call that matters, and of one more */
    int status_code;
    uint32_t status_rank;
    uint64_t gone_ns, when_ns; /* when it went, if it was to; when it knew */
    char text[256];
};

static tsm_worker *worker;
static struct report *reports;

static void start_chips(void)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = CHIP_COUNT;
    opts.heap_bytes = 1u << 20;
    opts.host_bytes = 4u << 20;
    opts.lease_bytes = 64u << 20;
    worker = help_create(&opts);
}

static tsm_callable start(const char *name, tsm_task_fn *fn)
{
    void *shared = NULL;
    start_chips();
    tsm_callable c = harness_register(worker, name, fn);
    harness_start(worker);
    assert_code(worker, tsm_buffer_create(worker, CHIP_COUNT * sizeof(*reports), &shared), 0);
    reports = shared;
    return c;
}

static struct report *report_of(const tsm_task *t, const tsm_ctx *c)
{
    return (struct report *)(uintptr_t)tsm_task_scalar(t, 0) + tsm_rank(c);
}

static int run_team(struct team *g, uint32_t ranks)
{
    g->ranks = ranks;
    g->window_bytes = WINDOW_BYTES;
    g->scalars[0] = help_pointer(reports);
    for (int r = 0; r < CHIP_COUNT; r++) {
        reports[r] = (struct report){.first = NOT_BEGUN, .then = NOT_BEGUN};
    }
    return tsm_worker_run(worker, team_orch, g);
}

static void look_at_domain(struct report *r, const tsm_ctx *c)
{
    snprintf(r->text, sizeof(r->text), "%s", tsm_ctx_text(c));
    tsm_status(c, &r->status_rank, &r->status_code);
    r->when_ns = harness_now_ns();
}

/* ---- in the middle of many ---- */

enum how { HOW_WELL, HOW_KILLED, HOW_FAILS, HOW_ABORTS };
enum { STORM_STEPS = 60, ABORT_CODE = TSM_ENOSPC };

static struct collective_case storm_case(struct harness_random *r, uint32_t ranks)
{
    struct collective_case k;
    do {
        k = (struct collective_case){.kind = (int)harness_below(r, CASE_KINDS),
                                     .dtype = TSM_F32,
                                     .op = TSM_SUM,
                                     .ranks = ranks,
                                     .root = harness_below(r, ranks),
                                     .in_place = (int)harness_below(r, 2),
                                     .seed = harness_below(r, 1000)};
        const uint64_t counts[] = {2, 100, 1000, COUNT_MAX};
        k.count = counts[harness_below(r, 4)];
    } while (!case_is_valid(&k));
    return k;
}

/* Scalars: reports, seed, how << 32 | victim, step. */
static int storm_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    struct report *report = report_of(t, c);
    uint32_t how = (uint32_t)(tsm_task_scalar(t, 2) >> 32);
    bool victim = tsm_rank(c) == (uint32_t)tsm_task_scalar(t, 2);
    struct harness_random random;
    harness_random_init(&random, tsm_task_scalar(t, 1));
    int rc = tsm_sync(c); /* all have begun */
    for (uint64_t i = 0; i < STORM_STEPS && rc == 0; i++) {
        if (victim && how != HOW_WELL && i == tsm_task_scalar(t, 3)) {
            report->gone_ns = harness_now_ns();
            if (how == HOW_KILLED) {
                kill(getpid(), SIGKILL);
            }
            if (how == HOW_FAILS) {
                return tsm_fail(t, "in step %llu, as it was told to", (unsigned long long)i);
            }
            EXPECT(t, tsm_abort(c, ABORT_CODE), 0);
        }
        struct collective_case k = storm_case(&random, tsm_size(c));
        rc = case_run(t, c, &k);
    }
    rc = rc != 0 ? rc : tsm_barrier(c);
    report->first = rc;
    look_at_domain(report, c);
    return how == HOW_ABORTS && rc == TSM_EPEER ? 0 : rc;
}

/* Those that are left end with ABORTED or PEER, soon after the victim has gone. */
static void survivors_must_have_heard(uint32_t victim, enum how how)
{
    uint64_t gone_ns = reports[victim].gone_ns;
    assert_int_not_equal(gone_ns, 0);
    for (uint32_t r = 0; r < CHIP_COUNT; r++) {
        if (r == victim && how != HOW_ABORTS) {
            continue;
        }
        int rc = reports[r].first;
        assert_true(rc == TSM_EPEER || (rc == TSM_EABORTED && how != HOW_ABORTS));
        assert_true(reports[r].when_ns - gone_ns < UINT64_C(10000000000));
        if (how == HOW_ABORTS) {
            assert_int_equal(reports[r].status_rank, victim);
            assert_int_equal(reports[r].status_code, ABORT_CODE);
        }
    }
}

static void storm(tsm_callable callable, uint32_t victim, enum how how, uint64_t step,
                  uint64_t seed)
{
    static const int codes[] = {[HOW_WELL] = 0,
                                [HOW_KILLED] = TSM_ECHILD_DIED,
                                [HOW_FAILS] = TSM_ETASK_FAILED,
                                [HOW_ABORTS] = 0};
    struct team g = {.callable = callable,
                     .scalars = {0, seed, (uint64_t)how << 32 | victim, step}};
    int rc = run_team(&g, CHIP_COUNT);
    if (rc != codes[how]) {
        fail_msg("seed %llu, rank %u, step %llu, how %d: %s", (unsigned long long)seed, victim,
                 (unsigned long long)step, how, tsm_worker_error(worker)->text);
    }
    if (how != HOW_WELL) {
        survivors_must_have_heard(victim, how);
    }
    if (how == HOW_FAILS) {
        assert_text(worker, "as it was told to");
    }
    if (how == HOW_KILLED) {
        help_wait_replaced(worker, (int)victim);
    }
}

static void a_member_that_goes_in_the_middle_ends_the_others_and_the_next_run_is_clean(void **state)
{
    (void)state;
    tsm_callable callable = start("storm", storm_task);
    struct harness_random random;
    harness_random_init(&random, 11);
    for (uint64_t i = 0; i < harness_count(60); i++) {
        enum how how = HOW_KILLED + i % 3;
        storm(callable, harness_below(&random, CHIP_COUNT), how,
              harness_below(&random, STORM_STEPS), i);
        storm(callable, 0, HOW_WELL, 0, 1000 + i);
    }
    harness_close(worker);
}

/* In the middle of a message: it is in the line, its stamp is not. */
static void a_chip_killed_while_it_sends_ends_the_others_and_the_next_run_is_clean(void **state)
{
    (void)state;
    struct harness_random random;
    harness_random_init(&random, 12);
    for (uint64_t i = 0; i < harness_count(20); i++) {
        char fault[64];
        uint32_t victim = harness_below(&random, CHIP_COUNT);
        snprintf(fault, sizeof(fault), "message:kill:%u:%u", 1 + harness_below(&random, 100),
                 victim);
        setenv("TRANSOM_FAULT", fault, 1);
        tsm_callable callable = start("storm", storm_task);
        struct team g = {.callable = callable, .scalars = {0, i, 0, 0}};
        int rc = run_team(&g, CHIP_COUNT);
        if (rc != TSM_ECHILD_DIED || tsm_worker_error(worker)->chip != (int)victim) {
            fail_msg("%s: %s", fault, rc == 0 ? "all went well" : tsm_worker_error(worker)->text);
        }
        for (uint32_t r = 0; r < CHIP_COUNT; r++) {
            rc = reports[r].first; /* killed in the first message, the others may not have begun */
            assert_true(r == victim || rc == TSM_EPEER || rc == TSM_EABORTED || rc == NOT_BEGUN);
        }
        help_wait_replaced(worker, (int)victim);
        storm(callable, 0, HOW_WELL, 0, i);
        unsetenv("TRANSOM_FAULT");
        harness_close(worker);
    }
}

/* ---- one that leaves early ---- */

enum leaving { NO_BARRIER, NO_SYNC, NO_SMALL_SUM, NO_LARGE_SUM, NO_ROOT, NO_PART, NO_READER };

static int leaving_call(tsm_ctx *c, enum leaving what, tsm_sym a, tsm_sym b)
{
    switch (what) {
    case NO_BARRIER:
        return tsm_barrier(c);
    case NO_SYNC:
        return tsm_sync(c);
    case NO_SMALL_SUM:
        return tsm_all_reduce(c, a, b, 2, TSM_F32, TSM_SUM);
    case NO_LARGE_SUM:
        return tsm_all_reduce(c, a, b, COUNT_MAX, TSM_F32, TSM_SUM);
    case NO_ROOT:
        return tsm_broadcast(c, a, b, 10, TSM_F32, 2);
    case NO_PART:
        return tsm_gather(c, a, b, 10, TSM_F32, 0);
    default:
        return tsm_broadcast(c, a, b, COUNT_MAX, TSM_F32,
                             0); /* lent: the root waits for who reads it */
    }
}

static int leave_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym a, b;
    EXPECT(t, tsm_at(c, 0, &a), 0);
    EXPECT(t, tsm_at(c, WINDOW_BYTES / 2, &b), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT(t, tsm_all_reduce(c, a, b, 2, TSM_F32, TSM_SUM), 0);
    }
    if (tsm_rank(c) == 2) {
        return 0;
    }
    return leaving_call(c, (enum leaving)tsm_task_scalar(t, 1), a, b);
}

static void a_rank_that_leaves_early_is_a_deadlock_with_names(void **state)
{
    (void)state;
    struct team g = {.callable = start("leave", leave_task)};
    for (uint64_t what = NO_BARRIER; what <= NO_READER; what++) {
        g.scalars[1] = what;
        assert_code(worker, run_team(&g, 3), TSM_EDEADLOCK);
        assert_text(worker, "task 'leave' on chip");
        assert_text(worker, "domain 'team'");
        assert_text(worker, "rank 2");
    }
    harness_close(worker);
}

/* ---- misuse ---- */

enum said_kind {
    ALL_REDUCE,
    SCAN,
    REDUCE,
    REDUCE_SCATTER,
    BROADCAST,
    ALL_GATHER,
    ALL_TO_ALL,
    ALL_GATHER_V,
    ALL_GATHER_V_OTHER,
    SYNC,
    BARRIER
};

/* One call. 0 is: all_reduce, 8 elements, f32, sum, source 64 KiB into the window. */
struct said {
    enum said_kind kind;
    uint64_t count;
    int dtype, op;
    uint32_t root;
    uint64_t dst, src; /* in units of 64 KiB */
    bool falling;      /* on a sub-group of all ranks in falling order */
};

/* More than travels in messages: the windows are read. */
enum { LARGE = 9000 };

static const struct misuse {
    struct said right, wrong;
} misuses[] = {
    {{.kind = ALL_REDUCE}, {.kind = SCAN}},
    {{.kind = ALL_REDUCE}, {.kind = BARRIER}},
    {{.kind = SYNC}, {.kind = BARRIER}},
    {{.kind = ALL_GATHER}, {.kind = ALL_TO_ALL}},
    {{.count = 8}, {.count = 9}},
    {{.count = 8}, {.count = LARGE}},
    {{.count = LARGE}, {.count = LARGE + 1}},
    {{.dtype = TSM_F32}, {.dtype = TSM_I32}},
    {{.op = TSM_SUM}, {.op = TSM_MAX}},
    {{.count = LARGE, .op = TSM_SUM}, {.count = LARGE, .op = TSM_MIN}},
    {{.kind = REDUCE, .root = 0}, {.kind = REDUCE, .root = 1}},
    {{.kind = BROADCAST, .root = 0}, {.kind = BROADCAST, .root = 1}},
    {{.kind = BROADCAST, .count = LARGE}, {.kind = BROADCAST, .count = LARGE, .root = 1}},
    {{.dst = 0}, {.dst = 2}},
    {{.count = LARGE, .src = 1}, {.count = LARGE, .src = 3}},
    {{.falling = false}, {.falling = true}},
    {{.kind = SYNC}, {.kind = SYNC, .falling = true}},
    {{.kind = ALL_GATHER_V}, {.kind = ALL_GATHER_V_OTHER}},
    {{.kind = REDUCE_SCATTER, .count = 8}, {.kind = REDUCE_SCATTER, .count = 7}},
};
enum { COUNTS_8_AND_9 = 4 };

static int say_it(tsm_ctx *c, const struct said *x)
{
    static const uint64_t counts[] = {1, 20, 3, 4}, others[] = {1, 20, 4, 3};
    uint64_t count = x->count ? x->count : 8;
    int dtype = x->dtype ? x->dtype : TSM_F32, op = x->op ? x->op : TSM_SUM;
    tsm_sym d, s;
    if (tsm_at(c, x->dst << 16, &d) != 0 || tsm_at(c, (x->src ? x->src : 1) << 16, &s) != 0) {
        return TSM_ERANGE;
    }
    switch (x->kind) {
    case ALL_REDUCE:
        return tsm_all_reduce(c, d, s, count, dtype, op);
    case SCAN:
        return tsm_scan(c, d, s, count, dtype, op);
    case REDUCE:
        return tsm_reduce(c, d, s, count, dtype, op, x->root);
    case REDUCE_SCATTER:
        return tsm_reduce_scatter(c, d, s, count, dtype, op);
    case BROADCAST:
        return tsm_broadcast(c, d, s, count, dtype, x->root);
    case ALL_GATHER:
        return tsm_all_gather(c, d, s, count, dtype);
    case ALL_TO_ALL:
        return tsm_all_to_all(c, d, s, count, dtype);
    case ALL_GATHER_V:
        return tsm_all_gather_v(c, d, s, counts, NULL, dtype);
    case ALL_GATHER_V_OTHER:
        return tsm_all_gather_v(c, d, s, others, NULL, dtype);
    case SYNC:
        return tsm_sync(c);
    default:
        return tsm_barrier(c);
    }
}

/* Scalars: reports, index of the misuse, rank that is wrong (or none), 1: return what the call gave. */
static int misuse_task(tsm_task *t)
{
    static const uint32_t falling[] = {3, 2, 1, 0};
    const struct misuse *m = &misuses[tsm_task_scalar(t, 1)];
    tsm_ctx *c = tsm_task_domain(t, 0), *group = NULL;
    struct report *report = report_of(t, c);
    const struct said *x = tsm_rank(c) == tsm_task_scalar(t, 2) ? &m->wrong : &m->right;
    EXPECT(t, tsm_split(c, falling + CHIP_COUNT - tsm_size(c), tsm_size(c), &group), 0);
    report->first = say_it(x->falling ? group : c, x);
    /* Who only sends in that call hears of it later. */
    for (int i = 0; i < 20 && (i == 0 || report->then == 0); i++) {
        report->then = tsm_barrier(c);
    }
    look_at_domain(report, c);
    return tsm_task_scalar(t, 3) ? report->first : 0;
}

/* At least one rank saw two that differ and can name them and what they call; all the others end, too. */
static void misuse_must_be_seen(uint32_t ranks, uint32_t wrong, uint64_t which)
{
    uint32_t named = 0;
    char rank_text[32];
    snprintf(rank_text, sizeof(rank_text), "rank %u calls ", wrong);
    for (uint32_t r = 0; r < ranks; r++) {
        const struct report *x = &reports[r];
        bool saw = x->first == TSM_EINVAL || (x->first == 0 && x->then == TSM_EINVAL);
        if (x->then != TSM_EPEER && x->then != TSM_EINVAL) {
            fail_msg("misuse %llu by rank %u: rank %u goes on with %s, then %s",
                     (unsigned long long)which, wrong, r, tsm_code_name(x->first),
                     tsm_code_name(x->then));
        }
        assert_true(x->first == 0 || x->first == TSM_EPEER || x->first == TSM_EINVAL);
        assert_int_equal(x->status_code, TSM_EINVAL);
        assert_int_equal(x->text[0] != 0, saw);
        const char *calls = strstr(x->text, " calls ");
        named += saw && strstr(x->text, rank_text) && strstr(x->text, "domain 'team'") && calls &&
                 strstr(calls + 1, " calls ");
    }
    if (named == 0) {
        fail_msg("misuse %llu by rank %u: %s | %s | %s", (unsigned long long)which, wrong,
                 reports[0].text, reports[1].text, reports[2].text);
    }
}

static void misuse_of_every_kind_is_seen_and_named_and_hangs_nobody(void **state)
{
    (void)state;
    struct team g = {.callable = start("misuse", misuse_task)};
    for (uint64_t which = 0; which < COUNT(misuses); which++) {
        for (uint32_t wrong = 0; wrong < 3; wrong++) {
            g.scalars[1] = which;
            g.scalars[2] = wrong;
            int rc = run_team(&g, 3);
            if (rc != 0) {
                fail_msg("misuse %llu by rank %u: %s", (unsigned long long)which, wrong,
                         tsm_worker_error(worker)->text);
            }
            misuse_must_be_seen(3, wrong, which);
        }
        g.scalars[2] = UINT32_MAX;
        assert_code(worker, run_team(&g, 3), 0);
        for (int r = 0; r < 3; r++) {
            assert_int_equal(reports[r].first, 0);
            assert_int_equal(reports[r].then, 0);
        }
    }
    harness_close(worker);
}

static void misuse_that_a_task_returns_is_the_text_of_the_failed_run(void **state)
{
    (void)state;
    struct team g = {.callable = start("misuse", misuse_task),
                     .scalars = {0, COUNTS_8_AND_9, 1, 1}};
    assert_code(worker, run_team(&g, 2), TSM_ETASK_FAILED);
    assert_text(worker, "calls all_reduce(count 8, f32, sum)");
    assert_text(worker, "calls all_reduce(count 9, f32, sum)");
    harness_close(worker);
}

/* ---- refused arguments ---- */

static int refused_v(tsm_task *t, tsm_ctx *c, tsm_sym d, tsm_sym s)
{
    const uint64_t few[] = {1, 1, 1, 1}, many[] = {UINT64_MAX, UINT64_MAX, 2, 2};
    const uint64_t uneven[] = {2, 2, 2, 2}, far[] = {1 << 28, 4, 0, 8};
    EXPECT(t, tsm_all_gather_v(c, d, s, NULL, NULL, TSM_F32), TSM_EINVAL);
    EXPECT(t, tsm_gather_v(c, d, s, NULL, NULL, TSM_F32, 0), TSM_EINVAL);
    EXPECT(t, tsm_scatter_v(c, d, s, NULL, NULL, TSM_F32, 0), TSM_EINVAL);
    EXPECT(t, tsm_reduce_scatter_v(c, d, s, NULL, TSM_F32, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_gather_v(c, d, s, many, NULL, TSM_F32), TSM_ERANGE);
    EXPECT(t, tsm_all_gather_v(c, d, s, few, far, TSM_F32), TSM_ERANGE);
    EXPECT(t, tsm_scatter_v(c, d, s, few, far, TSM_F32, 0), TSM_ERANGE);
    EXPECT(t, tsm_reduce_scatter_v(c, d, s, many, TSM_F32, TSM_SUM), TSM_ERANGE);
    EXPECT(t, tsm_all_to_all_v(c, d, few, NULL, s, NULL, NULL, TSM_F32), TSM_EINVAL);
    EXPECT(t, tsm_all_to_all_v(c, d, few, NULL, s, uneven, NULL, TSM_F32), TSM_EINVAL);
    EXPECT(t, tsm_all_to_all_v(c, d, few, NULL, d, few, NULL, TSM_F32), TSM_EINVAL);
    return 0;
}

static int refused_places(tsm_task *t, tsm_ctx *c, tsm_sym d, tsm_sym s)
{
    tsm_sym end = tsm_offset(d, WINDOW_BYTES - 8), old = s, other = s;
    old.generation--;
    other.window++;
    EXPECT(t, tsm_all_reduce(c, tsm_offset(s, 4), s, 2, TSM_F32, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_broadcast(c, s, tsm_offset(s, 4), 2, TSM_F32, 0), TSM_EINVAL);
    EXPECT(t, tsm_all_gather(c, d, tsm_offset(d, 4), 2, TSM_F32), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, tsm_offset(d, 2), s, 2, TSM_F32, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, d, tsm_offset(s, 4), 2, TSM_F64, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, end, s, 3, TSM_F32, TSM_SUM), TSM_ERANGE);
    EXPECT(t, tsm_scan(c, d, end, 3, TSM_F32, TSM_SUM), TSM_ERANGE);
    EXPECT(t, tsm_all_gather(c, end, s, 3, TSM_F32), TSM_ERANGE);
    EXPECT(t, tsm_broadcast(c, d, s, UINT64_MAX / 2, TSM_F32, 0), TSM_ERANGE);
    EXPECT(t, tsm_gather(c, d, s, UINT64_MAX / 2, TSM_U8, 0), TSM_ERANGE);
    EXPECT(t, tsm_all_reduce(c, d, old, 1, TSM_F32, TSM_SUM), TSM_ESTALE);
    EXPECT(t, tsm_all_to_all(c, old, s, 1, TSM_F32), TSM_ESTALE);
    EXPECT(t, tsm_reduce(c, d, other, 1, TSM_F32, TSM_SUM, 0), TSM_ESTALE);
    return 0;
}

static int refused_values(tsm_task *t, tsm_ctx *c, tsm_sym d, tsm_sym s)
{
    uint32_t n = tsm_size(c);
    EXPECT(t, tsm_broadcast(c, d, s, 1, TSM_F32, n), TSM_EINVAL);
    EXPECT(t, tsm_gather(c, d, s, 1, TSM_F32, UINT32_MAX), TSM_EINVAL);
    EXPECT(t, tsm_scatter(c, d, s, 1, TSM_F32, n), TSM_EINVAL);
    EXPECT(t, tsm_reduce(c, d, s, 1, TSM_F32, TSM_SUM, n), TSM_EINVAL);
    EXPECT(t, tsm_broadcast(c, d, s, 1, 0, 0), TSM_EINVAL);
    EXPECT(t, tsm_all_gather(c, d, s, 1, TSM_F64 + 1), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, d, s, 1, -1, TSM_SUM), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, d, s, 1, TSM_F32, 0), TSM_EINVAL);
    EXPECT(t, tsm_scan(c, d, s, 1, TSM_F32, TSM_XOR + 1), TSM_EINVAL);
    EXPECT(t, tsm_exscan(c, d, s, 1, TSM_F32, -5), TSM_EINVAL);
    EXPECT(t, tsm_reduce_scatter(c, d, s, 1, TSM_I32, 1 << 20), TSM_EINVAL);
    EXPECT(t, tsm_all_reduce(c, d, s, 1, TSM_F32, TSM_AND), TSM_EUNSUPPORTED);
    EXPECT(t, tsm_reduce(c, d, s, 1, TSM_BF16, TSM_XOR, 0), TSM_EUNSUPPORTED);
    EXPECT(t, tsm_all_reduce(c, d, s, 1, TSM_BOOL, TSM_SUM), TSM_EUNSUPPORTED);
    return 0;
}

/* One rank after the other has its arguments refused; the collective that all of them call next is right. */
static int refused_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym d, s;
    EXPECT(t, tsm_at(c, 0, &d), 0);
    EXPECT(t, tsm_at(c, WINDOW_BYTES / 2, &s), 0);
    for (uint32_t r = 0; r < tsm_size(c); r++) {
        float *x = tsm_ptr(c, s, tsm_rank(c)), *y = tsm_ptr(c, d, tsm_rank(c));
        *x = 1;
        *y = 0;
        if (r == tsm_rank(c)) {
            EXPECT(t, refused_values(t, c, d, s), 0);
            EXPECT(t, refused_places(t, c, d, s), 0);
            EXPECT(t, refused_v(t, c, d, s), 0);
            EXPECT(t, *x != 1 || *y != 0, 0);
        }
        EXPECT(t, tsm_all_reduce(c, d, s, 1, TSM_F32, TSM_SUM), 0);
        EXPECT(t, *y != (float)tsm_size(c), 0);
        EXPECT(t, tsm_status(c, NULL, NULL), 0);
    }
    return 0;
}

static void refused_arguments_send_nothing(void **state)
{
    (void)state;
    struct team g = {.callable = start("refused", refused_task)};
    for (uint32_t ranks = 1; ranks <= CHIP_COUNT; ranks++) {
        assert_code(worker, run_team(&g, ranks), 0);
    }
    harness_close(worker);
}

/* ---- too late, and aborted ---- */

static int late_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    struct report *report = report_of(t, c);
    const struct report *first = report - tsm_rank(c);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    EXPECT(t, tsm_sync(c), 0);
    if (tsm_rank(c) == 1) {
        while (first->first == NOT_BEGUN) {
            sched_yield();
        }
    } else if (tsm_rank(c) == 0) {
        tsm_timeout_set(c, 20000000);
    }
    report->first = tsm_task_scalar(t, 1) == 0
                        ? tsm_barrier(c)
                        : tsm_all_reduce(c, s, s, tsm_task_scalar(t, 1), TSM_F64, TSM_SUM);
    report->then = tsm_sync(c);
    look_at_domain(report, c);
    return 0;
}

static void a_collective_over_its_time_limit_aborts_the_domain(void **state)
{
    (void)state;
    struct team g = {.callable = start("late", late_task)};
    for (uint64_t count = 0; count <= COUNT_MAX; count += COUNT_MAX / 2) {
        g.scalars[1] = count;
        assert_code(worker, run_team(&g, 3), 0);
        for (int r = 0; r < 3; r++) {
            assert_int_equal(reports[r].first, r == 0 ? TSM_ETIMEOUT : TSM_EPEER);
            assert_int_equal(reports[r].then, TSM_EPEER);
            assert_int_equal(reports[r].status_rank, 0);
            assert_int_equal(reports[r].status_code, TSM_ETIMEOUT);
        }
    }
    harness_close(worker);
}

/* Two abort at once: all agree on one of them, and later aborts change nothing. */
static int abort_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    struct report *report = report_of(t, c);
    EXPECT(t, tsm_status(c, &report->status_rank, &report->status_code), 0);
    EXPECT(t, tsm_abort(c, 0), TSM_EINVAL);
    EXPECT(t, tsm_abort(c, 5), TSM_EINVAL);
    EXPECT(t, tsm_sync(c), 0);
    if (tsm_rank(c) != 1) {
        EXPECT(t, tsm_abort(c, tsm_rank(c) == 0 ? -100 : -102), 0);
    }
    report->first = tsm_barrier(c);
    EXPECT(t, tsm_status(c, NULL, NULL), TSM_EPEER);
    look_at_domain(report, c);
    EXPECT(t, tsm_abort(c, -103), 0);
    report->then = report->status_code;
    look_at_domain(report, c);
    return 0;
}

static void an_abort_ends_the_domain_for_all_and_the_next_one_is_whole(void **state)
{
    (void)state;
    struct team g = {.callable = start("abort", abort_task)};
    for (uint32_t i = 0; i < harness_count(200); i++) {
        assert_code(worker, run_team(&g, 3), 0);
        for (int r = 0; r < 3; r++) {
            const struct report *x = &reports[r];
            assert_int_equal(x->first, TSM_EPEER);
            assert_int_equal(x->then, x->status_code);
            assert_true(x->status_code == -100 || x->status_code == -102);
            assert_int_equal(x->status_rank, -100 - x->status_code);
        }
    }
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_member_that_goes_in_the_middle_ends_the_others_and_the_next_run_is_clean),
        TEST(a_chip_killed_while_it_sends_ends_the_others_and_the_next_run_is_clean),
        TEST(a_rank_that_leaves_early_is_a_deadlock_with_names),
        TEST(misuse_of_every_kind_is_seen_and_named_and_hangs_nobody),
        TEST(misuse_that_a_task_returns_is_the_text_of_the_failed_run),
        TEST(refused_arguments_send_nothing),
        TEST(a_collective_over_its_time_limit_aborts_the_domain),
        TEST(an_abort_ends_the_domain_for_all_and_the_next_one_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Every system call of a worker's life fails once: start, runs with a domain, a death and the replacement, close.
 * For each kind and each process the k-th call fails, for every k until a life passes in which no call failed. Only
 * the start may fail for it, with an error that says so; all else goes on as if nothing had been. Test process.
 */
#include <errno.h>

#include "fault/golden.h"

struct kind {
    const char *name;
    int error;
    bool elsewhere; /* has a test of its own below */
    /* Up to here each k is tried, then each half as much again: for kinds that come all the time. */
    uint32_t every;
};

static const struct kind kinds[] = {
    {"fork", EAGAIN, false, 100},    {"spawn", EAGAIN, true, 100},
    {"mmap", ENOMEM, false, 100},    {"munmap", ENOMEM, false, 100},
    {"memfd", EMFILE, false, 100},   {"ftruncate", ENOSPC, false, 100},
    {"seal", EPERM, false, 100},     {"punch", EINTR, true, 100},
    {"open", EMFILE, false, 100},    {"pipe", EMFILE, false, 100},
    {"eventfd", EMFILE, false, 100}, {"signalfd", EMFILE, false, 100},
    {"pidfd", EMFILE, false, 100},   {"wait", EINTR, false, 100},
    {"kill", EPERM, true, 100},      {"poll", EINTR, false, 8},
    {"futex_wait", EINTR, false, 8}, {"futex_wake", EFAULT, false, 8},
    {"write", EINTR, false, 12},
};
static const int places[] = {FAULT_PLACE_ORCHESTRATOR, FAULT_PLACE_KEEPER, 0, 1, 2};

enum { K_MAX = 400 };

/* A start that fails says what, and leaves the worker able to start. True when it failed. */
static bool start_or_again(tsm_worker *w, const char *spec, bool fork_start)
{
    int rc = tsm_worker_start(w);
    if (rc != 0) {
        const struct tsm_error *e = tsm_worker_error(w);
        bool right = rc == TSM_ESYS || rc == TSM_ENOMEM || rc == TSM_ECHILD_DIED;
        /* What a spawned keeper meets before it has the arena it cannot tell. */
        if (!right || e->code != rc || !e->text[0] || (fork_start && fault_fired() != 1)) {
            fail_msg("%s: start returned %s: %s", spec, tsm_code_name(rc), e->text);
        }
        assert_int_equal(harness_mappings(), 0);
        unsetenv("TRANSOM_FAULT");
        harness_start(w);
    }
    return rc != 0;
}

static void expect(const char *spec, tsm_worker *w, int rc, int code)
{
    if (rc != code) {
        fail_msg("%s: %s instead of %s: %s", spec, tsm_code_name(rc), tsm_code_name(code),
                 tsm_worker_error(w)->text);
    }
}

/* True when a call failed in it. */
static bool live(const char *spec)
{
    struct golden g;
    setenv("TRANSOM_FAULT", spec, 1);
    golden_create(&g);
    bool failed = start_or_again(g.w, spec, true);
    expect(spec, g.w, golden_buffers(&g), 0);
    expect(spec, g.w, golden_run(&g, TWIST_NONE), 0);
    expect(spec, g.w, golden_run(&g, TWIST_MEMBER_FAILS), TSM_ETASK_FAILED);
    expect(spec, g.w, golden_run(&g, TWIST_MEMBER_DIES), TSM_ECHILD_DIED);
    assert_int_equal(tsm_worker_error(g.w)->chip, 1);
    golden_wait_whole(&g, 1);
    expect(spec, g.w, golden_run(&g, TWIST_NONE), 0);
    harness_close(g.w);
    return failed || fault_fired() > 0;
}

static int submit_nothing(tsm_orch *orch, void *arg)
{
    (void)arg;
    tsm_domain *d;
    return golden_domain(orch, &d);
}

/* The same for a spawned keeper, without tasks: C functions of a program are not to be had there. */
static bool live_spawned(const char *spec)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    tsm_worker *w = NULL;
    setenv("TRANSOM_FAULT", spec, 1);
    opts.chips = GOLDEN_CHIPS;
    opts.subs = GOLDEN_SUBS;
    opts.heap_bytes = opts.host_bytes = opts.lease_bytes = 64u << 20;
    opts.start_method = TSM_SPAWN;
    assert_int_equal(tsm_worker_create(&opts, &w, NULL), 0);
    bool failed = start_or_again(w, spec, false);
    expect(spec, w, tsm_worker_run(w, submit_nothing, NULL), 0);
    harness_close(w);
    return failed || fault_fired() > 0;
}

/* How many lives a failure touched. */
static uint32_t fail_each_call(const struct kind *kind, int place, bool (*life)(const char *spec))
{
    uint32_t touched = 0;
    bool fired = true;
    for (uint32_t k = 1; k < K_MAX && fired; k += k > kind->every ? k / 2 : 1) {
        char spec[64];
        snprintf(spec, sizeof(spec), "sys.%s:fail=%d:%u:%d", kind->name, kind->error, k, place);
        fired = life(spec);
        touched += fired;
    }
    return touched;
}

static void any_call_that_fails_once_fails_the_start_or_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        uint32_t touched = 0;
        uint32_t rounds = harness_quick() ? 1 : harness_count(10);
        alarm(120); /* for each kind, not for all of them */
        for (uint32_t n = 0; n < rounds; n++) {
            for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++) {
                touched += fail_each_call(&kinds[i], places[p], live);
            }
        }
        if (touched < rounds && !kinds[i].elsewhere) {
            fail_msg("no call of %s has failed", kinds[i].name);
        }
    }
}

static void the_same_with_a_spawned_keeper(void **state)
{
    (void)state;
    uint32_t touched = 0;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (size_t p = 0; p < 2; p++) {
            touched += fail_each_call(&kinds[i], places[p], live_spawned);
        }
    }
    assert_true(touched > 20);
}

/* ---- what a life does not come to by itself ---- */

static int is_zero_then_dirty(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym all;
    if (!c || tsm_at(c, 0, &all) != 0) {
        return tsm_fail(t, "no domain");
    }
    uint64_t *words = tsm_ptr(c, all, tsm_rank(c));
    for (uint64_t i = 0; i < tsm_task_scalar(t, 0) / 8; i++) {
        if (words[i] != 0) {
            return tsm_fail(t, "word %llu is not zero", (unsigned long long)i);
        }
        words[i] = i + 1;
    }
    return 0;
}

static int alternate_shapes(tsm_orch *orch, void *arg)
{
    static const int chips[] = {0, 1};
    int rc = 0;
    for (uint64_t i = 0; i < 6 && rc == 0; i++) {
        struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
        uint64_t bytes = (1u << 20) + i % 3 * (1u << 18);
        tsm_domain *d = NULL;
        o.name = "shape";
        o.chips = chips;
        o.chip_count = 2;
        o.window_bytes = bytes;
        struct tsm_call call = {.callable = *(tsm_callable *)arg,
                                .scalars = &bytes,
                                .scalar_count = 1,
                                .domains = &d,
                                .domain_count = 1};
        rc = tsm_domain_alloc(orch, &o, &d);
        rc = rc ? rc : tsm_submit(orch, &call, NULL);
        rc = rc ? rc : tsm_domain_release(d);
    }
    return rc;
}

static void pages_that_cannot_be_given_back_are_zero_all_the_same(void **state)
{
    (void)state;
    for (int k = 1; k <= 4; k++) {
        char spec[64];
        struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
        tsm_worker *w = NULL;
        snprintf(spec, sizeof(spec), "sys.punch:fail=4:%d:-1", k);
        setenv("TRANSOM_FAULT", spec, 1);
        opts.chips = 2;
        opts.heap_bytes = opts.host_bytes = 64u << 20;
        opts.lease_bytes = 4u << 20;
        assert_int_equal(tsm_worker_create(&opts, &w, NULL), 0);
        tsm_callable c = harness_register(w, "is_zero_then_dirty", is_zero_then_dirty);
        harness_start(w);
        assert_code(w, tsm_worker_run(w, alternate_shapes, &c), 0);
        assert_code(w, tsm_worker_run(w, alternate_shapes, &c), 0);
        assert_int_equal(fault_fired(), 1);
        harness_close(w);
    }
}

static int endless(tsm_task *t)
{
    while (tsm_task_chip(t) == 0) {
        pause();
    }
    return 0;
}

static int submit_endless(tsm_orch *orch, void *arg)
{
    struct tsm_call call = {.callable = *(tsm_callable *)arg, .chip = 0, .limit_ns = 1000000};
    return tsm_submit(orch, &call, NULL);
}

/* Else the run would not end. */
static void a_kill_that_fails_is_made_again(void **state)
{
    (void)state;
    struct golden g;
    setenv("TRANSOM_FAULT", "sys.kill:fail=1:1:-2", 1);
    golden_create(&g);
    tsm_callable callable = harness_register(g.w, "endless", endless);
    golden_start(&g);
    assert_code(g.w, tsm_worker_run(g.w, submit_endless, &callable), TSM_ETIME_LIMIT);
    assert_int_equal(fault_fired(), 1);
    golden_wait_whole(&g, 1);
    golden_exact(&g);
    harness_close(g.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_kill_that_fails_is_made_again),
        TEST(any_call_that_fails_once_fails_the_start_or_nothing),
        TEST(the_same_with_a_spawned_keeper),
        TEST(pages_that_cannot_be_given_back_are_zero_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
    uint32_t every; /* up to here each k is tried, then each half as much again: kinds that come all the time */
};

static const struct kind kinds[] = {
    {"fork", EAGAIN, 100},    {"spawn", EAGAIN, 100},    {"mmap", ENOMEM, 100},
    {"munmap", ENOMEM, 100},  {"memfd", EMFILE, 100},    {"ftruncate", ENOSPC, 100},
    {"seal", EPERM, 100},     {"punch", EINTR, 100},     {"open", EMFILE, 100},
    {"pipe", EMFILE, 100},    {"eventfd", EMFILE, 100},  {"signalfd", EMFILE, 100},
    {"pidfd", EMFILE, 100},   {"wait", EINTR, 100},      {"kill", EPERM, 100},
    {"poll", EINTR, 8},       {"futex_wait", EINTR, 8},  {"futex_wake", EFAULT, 8},
    {"write", EINTR, 12},
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

static void fail_each_call(const struct kind *kind, int place, bool (*life)(const char *spec))
{
    uint32_t untouched = 0;
    for (uint32_t k = 1; k < K_MAX && !untouched; k += k > kind->every ? k / 2 : 1) {
        char spec[64];
        snprintf(spec, sizeof(spec), "sys.%s:fail=%d:%u:%d", kind->name, kind->error, k, place);
        untouched = !life(spec);
    }
}

static void any_call_that_fails_once_fails_the_start_or_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++) {
            fail_each_call(&kinds[i], places[p], live);
        }
    }
}

static void the_same_with_a_spawned_keeper(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (size_t p = 0; p < 2; p++) {
            fail_each_call(&kinds[i], places[p], live_spawned);
        }
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

/* A kill that fails is made again, else the run would not end. */
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

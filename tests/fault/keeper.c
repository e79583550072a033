/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The two processes that nobody replaces: the keeper, killed at its fault points and at any instant, after which the
 * worker says that it is beyond repair; and the orchestrator, killed at its fault points, after which nobody is left.
 * Test process; the orchestrators that die are its children.
 */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "engine/engine.h"
#include "fault/golden.h"

enum { NOTICED_NS = 1000000000, RUNS_MAX = 500 };

static uint32_t rounds(void)
{
    return harness_quick() ? 1 : harness_count(10);
}

/* The keeper is dead: the worker says so, each time, and closes. */
static void expect_failed(struct golden *g, const char *what)
{
    int rc = golden_run(g, TWIST_NONE);
    if (rc != TSM_EWORKER_FAILED || !strstr(tsm_worker_error(g->w)->text, "keeper")) {
        fail_msg("%s: %s: %s", what, tsm_code_name(rc), tsm_worker_error(g->w)->text);
    }
    assert_code(g->w, golden_run(g, TWIST_NONE), TSM_EWORKER_FAILED);
    harness_close(g->w);
}

static void wait_no_children(void)
{
    uint64_t deadline = harness_now_ns() + UINT64_C(2000000000);
    while (harness_children() > 0 && harness_now_ns() < deadline) {
        sched_yield();
    }
    assert_int_equal(harness_children(), 0);
}

/* ---- the keeper ---- */

static void kill_keeper_at(const char *spec, enum golden_twist twist)
{
    struct golden g;
    int rc = 0;
    setenv("TRANSOM_FAULT", spec, 1);
    golden_create(&g);
    g.busy_ns = strncmp(spec, "wake", 4) == 0 ? GOLDEN_UNTIL_ASLEEP : g.busy_ns;
    golden_start(&g);
    uint64_t begin = harness_now_ns();
    for (int i = 0; i < RUNS_MAX && rc != TSM_EWORKER_FAILED; i++) {
        begin = harness_now_ns();
        rc = golden_run(&g, twist);
    }
    if (rc != TSM_EWORKER_FAILED) {
        fail_msg("%s: %u fired, %s: %s", spec, fault_fired(), tsm_code_name(rc),
                 tsm_worker_error(g.w)->text);
    }
    assert_true(harness_now_ns() - begin < NOTICED_NS);
    expect_failed(&g, spec);
    assert_true(fault_fired() >= 1);
    unsetenv("TRANSOM_FAULT");
    golden_create(&g);
    golden_start(&g);
    golden_exact(&g);
    harness_close(g.w);
}

static void keeper_killed_in_its_work_fails_the_worker(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < rounds(); n++) {
        kill_keeper_at("death:kill:1:-2", TWIST_MEMBER_DIES);
        kill_keeper_at("refork:kill:1:-2", TWIST_MEMBER_DIES);
        kill_keeper_at("abort:kill:1:-2", TWIST_MEMBER_FAILS);
        kill_keeper_at("wake:kill:1:-2", TWIST_MEMBER_FAILS);
        kill_keeper_at("refork:kill:1:-2,begin:kill:1:2", TWIST_NONE);
    }
}

static int keeper_of(const struct golden *g)
{
    (void)g;
    char line[64] = "";
    FILE *f = fopen("/proc/thread-self/children", "r");
    if (f) {
        if (!fgets(line, sizeof(line), f)) {
            line[0] = 0;
        }
        fclose(f);
    }
    return atoi(line);
}

static void keeper_killed_at_any_instant_is_noticed_within_a_second(void **state)
{
    (void)state;
    struct harness_random r;
    harness_random_init(&r, 77);
    for (uint32_t n = 0; n < harness_count(40); n++) {
        struct golden g;
        golden_create(&g);
        golden_start(&g);
        int keeper = keeper_of(&g);
        assert_true(keeper > 1);
        pid_t killer = fork();
        if (killer == 0) {
            uint64_t at = harness_now_ns() + harness_below(&r, 3000000);
            while (harness_now_ns() < at) {
            }
            kill(keeper, SIGKILL);
            _exit(0);
        }
        harness_random(&r);
        int rc = 0;
        uint64_t begin = harness_now_ns();
        for (int i = 0; i < RUNS_MAX && rc == 0; i++) {
            begin = harness_now_ns();
            rc = golden_run(&g, TWIST_NONE);
        }
        /* The chips go with their keeper: what a run sees first may be either. */
        assert_code(g.w, rc, TSM_EWORKER_FAILED);
        assert_true(harness_now_ns() - begin < NOTICED_NS);
        waitpid(killer, NULL, 0);
        expect_failed(&g, "any instant");
        wait_no_children();
    }
}

static void a_place_that_cannot_be_replaced_fails_the_worker_by_name(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < rounds(); n++) {
        struct golden g;
        setenv("TRANSOM_FAULT", "task:kill:1:1,replace:kill:1:1,replace:kill:1:1,replace:kill:1:1",
               1);
        golden_create(&g);
        golden_start(&g);
        int rc = 0;
        for (int i = 0; i < RUNS_MAX && rc != TSM_EWORKER_FAILED; i++) {
            rc = golden_run(&g, TWIST_NONE);
            assert_true(rc == TSM_ECHILD_DIED || rc == TSM_EPEER || rc == TSM_EWORKER_FAILED);
        }
        assert_code(g.w, rc, TSM_EWORKER_FAILED);
        assert_text(g.w, "chip 1");
        assert_text(g.w, "signal 9");
        assert_int_equal(fault_fired(), 4);
        harness_close(g.w);
    }
}

static void keeper_dead_is_seen_by_polling_too(void **state)
{
    (void)state;
    struct golden g;
    golden_create(&g);
    g.busy_ns = 300000000;
    golden_start(&g);
    tsm_run *run = NULL;
    assert_code(g.w, tsm_worker_submit_run(g.w, golden_function, &g, &run), 0);
    kill(keeper_of(&g), SIGKILL);
    uint64_t deadline = harness_now_ns() + NOTICED_NS;
    while (!tsm_run_done(run) && harness_now_ns() < deadline) {
    }
    assert_true(tsm_run_done(run));
    assert_int_equal(tsm_run_wait(run, -1), TSM_EWORKER_FAILED);
    assert_int_equal(tsm_run_error(run)->code, TSM_EWORKER_FAILED);
    tsm_run_release(run);
    harness_close(g.w);
}

/* ---- the orchestrator ---- */

/* In a program of its own (this one with arguments): lives until the fault kills it. */
static int orchestrate(enum golden_twist twist)
{
    struct golden g;
    golden_create(&g);
    g.busy_ns = GOLDEN_UNTIL_ASLEEP;
    golden_start(&g);
    for (int i = 0; i < RUNS_MAX; i++) {
        golden_run(&g, twist);
        /* So that the next run has somebody to wake. */
        uint64_t until = harness_now_ns() + NOTICED_NS;
        while (a32_load(&g.w->arena.hints[0].asleep) != 1 && harness_now_ns() < until) {
            sched_yield();
        }
    }
    tsm_worker_destroy(g.w);
    return 7;
}

/* This process becomes the parent of all that the dead one left, so that it can count and reap them. */
static void reap_all(uint64_t ns)
{
    uint64_t deadline = harness_now_ns() + ns;
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD) {
            return;
        }
        if (harness_now_ns() > deadline) {
            fail_msg("%u processes are left", harness_children());
        }
        if (pid == 0) {
            sched_yield();
        }
    }
}

static void kill_orchestrator_at(const char *spec, enum golden_twist twist)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        char self[] = "/proc/self/exe";
        char number[] = {(char)('0' + twist), 0};
        char *argv[] = {self, number, NULL};
        setenv("TRANSOM_FAULT", spec, 1);
        execv(self, argv);
        _exit(8);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("%s did not fire: status %#x", spec, status);
    }
    reap_all(UINT64_C(2000000000));
}

static void orchestrator_killed_at_any_step_leaves_nobody(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "domain:kill:1:-1",    "domain:kill:3:-1",        "group:kill:2:-1",
        "release:kill:2:-1",   "lease:kill:2:-1",         "wake:kill:1:-1",
        "sys.fork:kill:1:-1",  "sys.eventfd:kill:1:-1",   "sys.pidfd:kill:1:-1",
        "sys.memfd:kill:3:-1", "sys.futex_wait:kill:2:-1"};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (uint32_t n = 0; n < rounds(); n++) {
        for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
            kill_orchestrator_at(specs[i], TWIST_NONE);
        }
        kill_orchestrator_at("group:kill:2:-1", TWIST_MEMBER_FAILS);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return orchestrate((enum golden_twist)(argv[1][0] - '0'));
    }
    const struct CMUnitTest tests[] = {
        TEST(keeper_killed_in_its_work_fails_the_worker),
        TEST(keeper_killed_at_any_instant_is_noticed_within_a_second),
        TEST(a_place_that_cannot_be_replaced_fails_the_worker_by_name),
        TEST(keeper_dead_is_seen_by_polling_too),
        TEST(orchestrator_killed_at_any_step_leaves_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Cancelled runs: tasks that wait end, tasks that have not begun are skipped, and those that go on lose their processes, at
 * the time that was said and no others. And the handle that an orchestration function has of its own run.
 */
#include <pthread.h>

#include "rig.h"

static const int64_t ms = 1000000;

static void assert_cancelled(struct rig *r, tsm_run *run)
{
    assert_int_equal(tsm_run_done(run), 1);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ECANCELED);
    assert_int_equal(tsm_run_error(run)->code, TSM_ECANCELED);
    assert_int_equal(tsm_run_error(run)->chip, -1);
    assert_non_null(strstr(tsm_run_error(run)->text, "was cancelled"));
    assert_text(r->w, "was cancelled");
}

/* ---- ends by itself ---- */

static int submit_waits(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d = NULL;
    int rc = help_alloc(orch, "d", CHIPS(0, 1), 4096, &d);
    return rc != 0 ? rc
                   : SUBMIT(r, orch, {WAIT, 0, .out = 1, .domain = d}, {WAIT, 1, .domain = d},
                            {ADD, 0, .out = 2, .a = 1}, {ADD, 1, .out = 3, .a = 1},
                            {ADD, TSM_SUB, .in = 1, .out = 4, .a = 1});
}

static void waits_inside_tasks_end_and_what_has_not_begun_is_skipped(void **state)
{
    (void)state;
    static const int64_t graces[] = {-1, INT64_MAX, 30000 * ms};
    struct rig r;
    rig_open(&r, 2, 1);
    for (size_t i = 0; i < COUNT(graces); i++) {
        tsm_run *run = NULL;
        assert_code(r.w, tsm_worker_submit_run(r.w, submit_waits, &r, &run), 0);
        gate_begun(&r, 2);
        assert_code(r.w, tsm_run_cancel(run, graces[i]), 0);
        assert_cancelled(&r, run);
        assert_int_equal(tsm_run_error(run)->skipped, 3);
        assert_null(strstr(tsm_run_error(run)->text, "then:"));
        tsm_run_release(run);
    }
    assert_int_equal(*rig_cell(&r, 2) + *rig_cell(&r, 3) + *rig_cell(&r, 4), 0);
    assert_int_equal(deaths_of(&r), 0);
    rig_close_well(&r);
}

static void a_run_that_is_over_stays_as_it_is(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 1, 0);
    assert_code(r.w, FLY(&r, &run, {ADD, 0, .inout = 1, .a = 1}), 0);
    while (*(volatile int32_t *)rig_cell(&r, 1) == 0) {
        poll(NULL, 0, 1);
    }
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_code(r.w, tsm_run_cancel(run, 0), 0);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    assert_code(r.w, FLY(&r, &run, {FAIL, 0, .inout = 2}), 0);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    assert_code(r.w, tsm_run_cancel(run, 0), 0);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    assert_int_equal(tsm_run_cancel(NULL, 0), TSM_EINVAL);
    assert_int_equal(deaths_of(&r), 0);
    assert_well(&r);
    assert_code(r.w, tsm_worker_close(r.w), 0);
    assert_code(r.w, tsm_run_cancel(run, 0), TSM_ECLOSED);
    tsm_run_release(run);
    rig_close(&r);
}

static void *cancel_elsewhere(void *run)
{
    return (void *)(intptr_t)tsm_run_cancel(run, 0);
}

static void another_thread_is_refused(void **state)
{
    (void)state;
    struct rig r;
    pthread_t thread;
    tsm_run *run = NULL;
    void *rc = NULL;
    rig_open(&r, 1, 0);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1, .a = 1}), 0);
    assert_int_equal(pthread_create(&thread, NULL, cancel_elsewhere, run), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, TSM_EWRONG_THREAD);
    gate_begun(&r, 1);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    rig_close_well(&r);
}

static int fail_beside_a_spin(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    assert_code(r->w, SUBMIT(r, orch, {GATE_SPIN, 1, .out = 2}), 0);
    gate_begun(r, 1);
    return SUBMIT(r, orch, {FAIL, 0, .out = 1});
}

static void a_cause_that_came_before_stays_the_cause(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 0);
    assert_code(r.w, tsm_worker_submit_run(r.w, fail_beside_a_spin, &r, &run), 0);
    while (tsm_worker_tasks_done(r.w) == 0) {
        poll(NULL, 0, 1);
    }
    assert_code(r.w, tsm_run_cancel(run, 0), 0);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    assert_non_null(strstr(tsm_run_error(run)->text, "as it was told to"));
    assert_non_null(strstr(tsm_run_error(run)->text, "then: "));
    tsm_run_release(run);
    rig_close_well(&r);
}

/* ---- loses its process ---- */

static void what_goes_on_after_the_grace_loses_its_process_and_nobody_else(void **state)
{
    (void)state;
    static const struct {
        int place;
        int64_t grace;
        const char *then;
    } ways[] = {{1, 0, "then: chip 1 died in task 'so_gate_spin': signal 9"},
                {0, 20000000, "then: chip 0 died in task 'so_gate_spin': signal 9"},
                {TSM_SUB, 5000000, "then: sub worker 0 died in task 'so_gate_spin': signal 9"}};
    struct rig r;
    rig_open(&r, 2, 1);
    for (size_t i = 0; i < COUNT(ways); i++) {
        tsm_run *run = NULL, *other = NULL, *behind = NULL;
        int victim = ways[i].place == TSM_SUB ? 2 : ways[i].place;
        int free_chip = ways[i].place == 1 ? 0 : 1;
        int pids[3];
        for (int p = 0; p < 3; p++) {
            pids[p] = tsm_worker_pid(r.w, p);
        }
        *rig_cell(&r, 5) = *rig_cell(&r, 6) = 0;
        assert_code(r.w,
                    FLY(&r, &run, {GATE_SPIN, ways[i].place, .inout = 1},
                        {ADD, ways[i].place, .in = 1, .inout = 7}),
                    0);
        assert_code(r.w, FLY(&r, &other, {GATE, free_chip, .inout = 5, .a = 1}), 0);
        assert_code(r.w, FLY(&r, &behind, {ADD, ways[i].place, .inout = 6, .a = 1}), 0);
        gate_begun(&r, 2);
        uint64_t begin = harness_now_ns();
        assert_code(r.w, tsm_run_cancel(run, ways[i].grace), 0);
        assert_true(harness_now_ns() - begin >= (uint64_t)ways[i].grace);
        assert_cancelled(&r, run);
        assert_non_null(strstr(tsm_run_error(run)->text, ways[i].then));
        tsm_run_release(run);
        await_deaths(&r, i + 1);
        assert_int_equal(tsm_run_done(other), 0);
        gate_open(&r, 1);
        assert_code(r.w, tsm_run_wait(other, -1), 0);
        assert_code(r.w, tsm_run_wait(behind, -1), 0);
        assert_int_equal(*rig_cell(&r, 5), 1);
        assert_int_equal(*rig_cell(&r, 6), 1);
        tsm_run_release(other);
        tsm_run_release(behind);
        for (int p = 0; p < 3; p++) {
            assert_true((pids[p] == tsm_worker_pid(r.w, p)) == (p != victim));
        }
        assert_int_equal(deaths_of(&r), i + 1);
        *rig_cell(&r, 1) = 0;
        assert_code(r.w, RUN(&r, {ADD, 0, .out = 1}, {ADD, 0, .out = 7}), 0);
        assert_well(&r);
    }
    rig_close(&r);
}

static void many_tasks_of_many_runs_lose_only_theirs(void **state)
{
    (void)state;
    struct rig r;
    uint32_t rounds = harness_count(20);
    rig_open(&r, 3, 0);
    for (uint32_t i = 0; i < rounds; i++) {
        tsm_run *spins[2] = {0}, *well = NULL;
        assert_code(r.w, FLY(&r, &spins[0], {GATE_SPIN, 0, .out = 1}, {GATE_SPIN, 1, .out = 2}), 0);
        assert_code(r.w, FLY(&r, &spins[1], {GATE_SPIN, 0, .out = 3}, {ADD, 2, .out = 4}), 0);
        assert_code(r.w, FLY(&r, &well, {ADD, 0, .out = 5, .a = 1}, {ADD, 1, .out = 6, .a = 1}), 0);
        gate_begun(&r, 2);
        assert_code(r.w, tsm_run_cancel(spins[0], 0), 0);
        assert_cancelled(&r, spins[0]);
        gate_begun(&r, 1); /* the second has begun behind it */
        assert_int_equal(tsm_run_done(spins[1]), 0);
        assert_code(r.w, tsm_run_cancel(spins[1], (int64_t)(i % 3) * ms), 0);
        assert_cancelled(&r, spins[1]);
        assert_code(r.w, tsm_run_wait(well, -1), 0);
        for (int k = 0; k < 2; k++) {
            tsm_run_release(spins[k]);
        }
        tsm_run_release(well);
    }
    rig_close_well(&r);
}

static int yes(void *arg)
{
    (void)arg;
    return 1;
}

static void the_earlier_moment_of_two_stands(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_sleep_hooks hooks = TSM_SLEEP_HOOKS_INIT;
    tsm_run *run = NULL;
    hooks.interrupted = yes;
    rig_open(&r, 1, 0);
    assert_code(r.w, FLY(&r, &run, {GATE_SPIN, 0, .inout = 1}), 0);
    gate_begun(&r, 1);
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, &hooks), 0);
    assert_code(r.w, tsm_run_cancel(run, 3600 * 1000 * ms), TSM_EINTERRUPTED);
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, NULL), 0);
    assert_int_equal(tsm_run_done(run), 0);
    assert_code(r.w, tsm_run_cancel(run, 1 * ms), 0);
    assert_cancelled(&r, run);
    tsm_run_release(run);
    rig_close_well(&r);
}

static void a_cancellation_whose_wait_is_given_up_stands(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_sleep_hooks hooks = TSM_SLEEP_HOOKS_INIT;
    tsm_run *run = NULL;
    hooks.interrupted = yes;
    rig_open(&r, 2, 0);
    assert_code(r.w, FLY(&r, &run, {GATE_SPIN, 1, .inout = 1}), 0);
    gate_begun(&r, 1);
    int pid = tsm_worker_pid(r.w, 1);
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, &hooks), 0);
    assert_code(r.w, tsm_run_cancel(run, 200 * ms), TSM_EINTERRUPTED);
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, NULL), 0);
    while (tsm_worker_pid(r.w, 1) == pid) { /* the keeper sees to it, without any call on the run */
        poll(NULL, 0, 1);
    }
    assert_int_equal(tsm_run_wait(run, -1), TSM_ECANCELED);
    assert_cancelled(&r, run);
    tsm_run_release(run);
    rig_close_well(&r);
}

static void a_keeper_that_dies_in_a_cancellation_is_the_worker_s_failure(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    setenv("TRANSOM_FAULT", "cancel:kill:1:-2", 1);
    rig_open(&r, 2, 0);
    assert_code(r.w, FLY(&r, &run, {GATE_SPIN, 1, .inout = 1}), 0);
    gate_begun(&r, 1);
    assert_int_equal(tsm_run_cancel(run, 0), TSM_EWORKER_FAILED);
    assert_text(r.w, "keeper");
    assert_int_equal(tsm_run_cancel(run, 0), TSM_EWORKER_FAILED);
    tsm_run_release(run);
    rig_close(&r);
}

/* ---- inside functions ---- */

static int cancel_itself(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    tsm_run **keep = ((void **)arg)[1];
    int rc = *(int *)((void **)arg)[2];
    assert_code(r->w, tsm_orch_handle(orch, keep), 0);
    assert_code(r->w, SUBMIT(r, orch, {GATE_SPIN, 0, .inout = 1}, {ADD, 1, .in = 1, .inout = 2}),
                0);
    gate_begun(r, 1);
    assert_int_equal(tsm_run_done(*keep), 0);
    assert_code(r->w, tsm_run_wait(*keep, -1), TSM_ESTATE);
    assert_code(r->w, tsm_run_cancel(*keep, 0), 0);
    assert_code(r->w, SUBMIT(r, orch, {ADD, 1, .inout = 3}), TSM_EABORTED);
    return rc;
}

static void a_function_cancels_its_own_run_and_goes_on(void **state)
{
    (void)state;
    static const int returns[] = {0, TSM_EABORTED, -1234};
    struct rig r;
    rig_open(&r, 2, 0);
    for (size_t i = 0; i < COUNT(returns); i++) {
        tsm_run *run = NULL;
        int rc = returns[i];
        void *arg[] = {&r, &run, &rc};
        assert_int_equal(tsm_worker_run(r.w, cancel_itself, arg), TSM_ECANCELED);
        assert_cancelled(&r, run);
        tsm_run_release(run);
        assert_code(r.w, RUN(&r, {ADD, 0, .out = 1}, {ADD, 0, .out = 2}), 0);
    }
    rig_close_well(&r);
}

static int cancel_another(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    assert_code(r->w, SUBMIT(r, orch, {ADD, 1, .inout = 5, .a = 1}), 0);
    assert_code(r->w, tsm_run_cancel(((void **)arg)[1], 1 * ms), 0);
    return SUBMIT(r, orch, {ADD, 0, .inout = 5, .a = 1});
}

static void a_function_cancels_another_run_and_is_well(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 0);
    assert_code(r.w, FLY(&r, &run, {GATE_SPIN, 0, .inout = 1}), 0);
    gate_begun(&r, 1);
    void *arg[] = {&r, run};
    assert_code(r.w, tsm_worker_run(r.w, cancel_another, arg), 0);
    assert_int_equal(*rig_cell(&r, 5), 2);
    assert_cancelled(&r, run);
    tsm_run_release(run);
    rig_close_well(&r);
}

/* ---- handles ---- */

static int keep_a_handle(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    tsm_run **keep = ((void **)arg)[1];
    int rc = *(int *)((void **)arg)[2];
    tsm_run *second = NULL;
    assert_code(r->w, tsm_orch_handle(orch, NULL), TSM_EINVAL);
    assert_code(r->w, tsm_orch_handle(orch, keep), 0);
    assert_code(r->w, tsm_orch_handle(orch, &second), 0);
    assert_ptr_equal(*keep, second);
    tsm_run_release(second);
    assert_code(r->w, SUBMIT(r, orch, {ADD, 0, .inout = 1, .a = 1}), 0);
    return rc;
}

static void the_handle_of_a_run_outlives_its_function(void **state)
{
    (void)state;
    static const int returns[] = {0, TSM_ENOSPC, 17};
    struct rig r;
    rig_open(&r, 1, 0);
    for (size_t i = 0; i < COUNT(returns); i++) {
        for (int fly = 0; fly < 2; fly++) {
            tsm_run *run = NULL, *own = NULL;
            int rc = returns[i];
            void *arg[] = {&r, &run, &rc};
            int got = fly ? tsm_worker_submit_run(r.w, keep_a_handle, arg, &own)
                          : tsm_worker_run(r.w, keep_a_handle, arg);
            assert_int_equal(got, rc);
            assert_int_equal(tsm_run_wait(run, -1), rc);
            assert_true(rc == 0 || tsm_run_error(run)->code != 0);
            assert_true(fly && rc == 0 ? run == own : own == NULL);
            tsm_run_release(run);
            tsm_run_release(own);
            assert_code(r.w, RUN(&r, {ADD, 0, .out = 1}), 0);
        }
    }
    assert_int_equal(tsm_orch_handle(NULL, NULL), TSM_EINVAL);
    rig_close_well(&r);
}

static tsm_orch *kept_orch;

static int keep_the_orch(tsm_orch *orch, void *arg)
{
    (void)arg;
    kept_orch = orch;
    return 0;
}

static void there_is_no_handle_outside_the_function(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 1, 0);
    assert_code(r.w, tsm_worker_run(r.w, keep_the_orch, NULL), 0);
    assert_code(r.w, tsm_orch_handle(kept_orch, &run), TSM_ESTATE);
    assert_null(run);
    rig_close_well(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(waits_inside_tasks_end_and_what_has_not_begun_is_skipped),
        TEST(a_run_that_is_over_stays_as_it_is),
        TEST(another_thread_is_refused),
        TEST(a_cause_that_came_before_stays_the_cause),
        TEST(what_goes_on_after_the_grace_loses_its_process_and_nobody_else),
        TEST(many_tasks_of_many_runs_lose_only_theirs),
        TEST(the_earlier_moment_of_two_stands),
        TEST(a_cancellation_whose_wait_is_given_up_stands),
        TEST(a_keeper_that_dies_in_a_cancellation_is_the_worker_s_failure),
        TEST(a_function_cancels_its_own_run_and_goes_on),
        TEST(a_function_cancels_another_run_and_is_well),
        TEST(the_handle_of_a_run_outlives_its_function),
        TEST(there_is_no_handle_outside_the_function)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

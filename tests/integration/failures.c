/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Failures: tasks that fail, children that die, tasks over their time limit, children that cannot be replaced. Each
 * has one cause, the first in time, with where it happened; after it the same worker runs the next graph.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "rig.h"

static const int64_t ms = 1000000;

/* The error of the last run, checked: code, place, and that the text has this part. */
static const struct tsm_error *cause(struct rig *r, int code, int chip, const char *part)
{
    const struct tsm_error *e = tsm_worker_error(r->w);
    assert_int_equal(e->code, code);
    assert_int_equal(e->chip, chip);
    assert_text(r->w, part);
    assert_int_not_equal(e->run, 0);
    assert_int_not_equal(e->when_ns, 0);
    return e;
}

/* ---- tasks that fail ---- */

static void a_task_that_returns_an_error_fails_the_run_with_its_value(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 0);
    assert_code(r.w, RUN(&r, {ADD, 0, .inout = 1}, {RETURN, 1, .a = 7}), TSM_ETASK_FAILED);
    const struct tsm_error *e = cause(&r, TSM_ETASK_FAILED, 1, "'so_return'");
    assert_text(r.w, "returned 7");
    assert_int_equal(e->detail, 7);
    assert_int_equal(e->run, 1);
    assert_well(&r);
    assert_code(r.w, RUN(&r, {RETURN, 0, .a = (uint64_t)TSM_ENOSPC}), TSM_ETASK_FAILED);
    e = cause(&r, TSM_ETASK_FAILED, 0, "TSM_ENOSPC");
    assert_int_equal(e->detail, TSM_ENOSPC);
    rig_close_well(&r);
}

static int fail_and_keep_the_id(tsm_orch *orch, void *arg)
{
    struct jobs *jobs = arg;
    return rig_submit(jobs->r, orch, jobs->list, &jobs->ids[0]);
}

static void the_error_names_the_task_that_failed(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 1);
    for (int place = 0; place < 3; place++) {
        struct jobs jobs = {.r = &r,
                            .list = &(struct job){FAIL, place == 2 ? TSM_SUB : place, .a = 0}};
        assert_code(r.w, tsm_worker_run(r.w, fail_and_keep_the_id, &jobs), TSM_ETASK_FAILED);
        const struct tsm_error *e = cause(&r, TSM_ETASK_FAILED, place, "'so_fail'");
        assert_text(r.w, "as it was told to");
        assert_true(e->task == jobs.ids[0]);
        assert_well(&r);
    }
    rig_close(&r);
}

static void a_long_text_of_a_task_is_cut_and_harms_nothing(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 1);
    assert_code(r.w, RUN(&r, {FAIL, 0, .a = 0, .b = 100000}), TSM_ETASK_FAILED);
    cause(&r, TSM_ETASK_FAILED, 0, "failed: xxxxxxxx");
    assert_code(r.w, RUN(&r, {FAIL, TSM_SUB, .a = 5, .b = 400}), TSM_ETASK_FAILED);
    cause(&r, TSM_ETASK_FAILED, 1, "failed: xxxxxxxx");
    rig_close_well(&r);
}

/* ---- first cause ---- */

/* Chip 1 fails first. That ends the waits on the others, and these fail after it, with texts of their own. */
static int wait_on_the_others(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d;
    int rc = help_alloc(orch, "waits", CHIPS(0, 2), 64, &d);
    return rc != 0 ? rc
                   : SUBMIT(r, orch, {WAIT_FAIL, 0, .domain = d}, {WAIT, 2, .domain = d},
                            {GATE_FAIL, 1, .a = 0});
}

static void the_first_cause_in_time_wins_and_what_followed_is_told(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 3, 0);
    assert_code(r.w, tsm_worker_submit_run(r.w, wait_on_the_others, &r, &run), 0);
    gate_begun(&r, 3);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    cause(&r, TSM_ETASK_FAILED, 1, "failed behind the gate");
    assert_text(r.w, "\nthen: task 'so_wait_fail' failed: gave up waiting");
    /* What only ended with ABORTED is no cause and no consequence worth a line. */
    assert_null(strstr(strstr(tsm_worker_error(r.w)->text, "then:") + 1, "then:"));
    assert_string_equal(tsm_run_error(run)->text, tsm_worker_error(r.w)->text);
    tsm_run_release(run);
    rig_close_well(&r);
}

static void tasks_that_were_not_begun_are_skipped_and_counted(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 3, 1);
    assert_code(r.w,
                FLY(&r, &run, {GATE_FAIL, 0, .inout = 1}, {ADD, 0, .inout = 2, .a = 1},
                    {ADD, 0, .inout = 3, .a = 1}, {ADD, 1, .in = 1, .inout = 4, .a = 1},
                    {ADD, 1, .inout = 4, .a = 1}, {ADD, TSM_SUB, .in = 1, .inout = 5, .a = 1},
                    {ADD, 2, .inout = 6, .a = 1}),
                0);
    gate_begun(&r, 1);
    await_cell(&r, 6); /* chip 2 is independent: it is done before the failure */
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    assert_int_equal(cause(&r, TSM_ETASK_FAILED, 0, "so_gate_fail")->skipped, 5);
    for (int cell = 2; cell <= 5; cell++) {
        assert_int_equal(*rig_cell(&r, cell), 0);
    }
    assert_int_equal(*rig_cell(&r, 6), 1);
    tsm_run_release(run);
    rig_close_well(&r);
}

/* The keeper raises the abort of a failed run. Stopped it cannot: then the mark of the producer alone must hold the
 * consumer back, whether it waits already or is submitted afterwards. */
static int fail_then_consume(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    int32_t x = 0;
    int rc = SUBMIT(r, orch, {FAIL, 0, .in = 2, .inout = 1}, {ADD, 1, .in = 1, .inout = 3, .a = 1});
    if (rc != 0) {
        return rc;
    }
    rc = tsm_copy_to(orch, TSM_HOST, rig_cell(r, 2), &x, sizeof(x)); /* behind the failed one */
    assert_true(rc == 0 || rc == TSM_EABORTED);
    rc = rig_submit(r, orch, &(struct job){ADD, 2, .in = 1, .inout = 4, .a = 1}, NULL);
    assert_code(r->w, rc, TSM_EABORTED);
    return rc;
}

static void a_consumer_of_a_failed_task_never_begins_even_without_the_keeper(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 3, 0);
    int keeper = keeper_of(&r);
    assert_true(keeper > 0);
    stop_process(keeper);
    int rc = tsm_worker_submit_run(r.w, fail_then_consume, &r, &run);
    int waited = rc == 0 ? tsm_run_wait(run, -1) : 0;
    kill(keeper, SIGCONT);
    assert_code(r.w, rc, 0);
    assert_code(r.w, waited, TSM_ETASK_FAILED);
    cause(&r, TSM_ETASK_FAILED, 0, "so_fail");
    assert_int_equal(*rig_cell(&r, 3), 0);
    assert_int_equal(*rig_cell(&r, 4), 0);
    tsm_run_release(run);
    rig_close_well(&r);
}

/* ---- deaths ---- */

/* A task on this place dies; the error says so, another process is there, and the worker goes on. */
static void die_in_a_task(struct rig *r, int place, int sig, int status, const char *how)
{
    char who[32];
    int before = tsm_worker_pid(r->w, place);
    uint64_t deaths = deaths_of(r);
    bool sub = place >= (int)r->chips;
    snprintf(who, sizeof(who), "%s %d", sub ? "sub worker" : "chip",
             sub ? place - (int)r->chips : place);
    int rc =
        RUN(r, {DIE, sub ? TSM_SUB : place, .out = 1, .a = (uint64_t)sig, .b = (uint64_t)status});
    assert_code(r->w, rc, TSM_ECHILD_DIED);
    const struct tsm_error *e = cause(r, TSM_ECHILD_DIED, place, who);
    assert_text(r->w, how);
    assert_text(r->w, "'so_die'");
    assert_int_equal(e->detail, sig != 0 ? sig : status);
    assert_int_not_equal(e->task, 0);
    assert_null(strstr(e->text, "then:"));
    await_deaths(r, deaths + 1);
    assert_int_not_equal(tsm_worker_pid(r->w, place), before);
    assert_well(r);
    assert_int_equal(deaths_of(r), deaths + 1);
}

static void a_child_that_dies_in_a_task_is_named_with_signal_or_status(void **state)
{
    (void)state;
    static const struct {
        int sig, status;
        const char *how;
    } ways[] = {{SIGKILL, 0, "signal 9"}, {SIGSEGV, 0, "signal 11"}, {SIGABRT, 0, "signal 6"},
                {SIGBUS, 0, "signal 7"},  {0, 0, "exit status 0"},   {0, 3, "exit status 3"}};
    struct rig r;
    rig_open(&r, 3, 1);
    for (size_t i = 0; i < COUNT(ways); i++) {
        die_in_a_task(&r, 1, ways[i].sig, ways[i].status, ways[i].how);
        die_in_a_task(&r, 3, ways[i].sig, ways[i].status, ways[i].how);
    }
    rig_close(&r);
}

static void a_chip_or_sub_that_dies_idle_fails_no_run(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 2);
    uint64_t deaths = 0;
    for (int place = 0; place < 4; place++) {
        int before = tsm_worker_pid(r.w, place);
        kill(before, SIGKILL);
        assert_well(&r); /* also when the death is not yet known */
        await_deaths(&r, ++deaths);
        assert_int_not_equal(tsm_worker_pid(r.w, place), before);
        assert_well(&r);
    }
    rig_close(&r);
}

static void a_chip_that_dies_waiting_for_another_fails_no_run(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 1);
    assert_code(r.w,
                FLY(&r, &run, {GATE, 0, .inout = 1, .a = 5}, {ADD, 1, .in = 1, .inout = 2},
                    {ADD, TSM_SUB, .in = 2, .inout = 3}),
                0);
    gate_begun(&r, 1);
    kill(tsm_worker_pid(r.w, 1), SIGKILL);
    kill(tsm_worker_pid(r.w, 2), SIGKILL);
    await_deaths(&r, 2);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 3), 5);
    tsm_run_release(run);
    rig_close_well(&r);
}

static void two_chips_that_die_in_one_run_give_one_cause(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 3, 0);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1}, {GATE, 1, .inout = 2}), 0);
    gate_begun(&r, 2);
    kill(tsm_worker_pid(r.w, 1), SIGKILL);
    await_deaths(&r, 1);
    kill(tsm_worker_pid(r.w, 0), SIGTERM);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_ECHILD_DIED);
    cause(&r, TSM_ECHILD_DIED, 1, "signal 9");
    assert_text(r.w, "\nthen: chip 0 died");
    assert_text(r.w, "signal 15");
    await_deaths(&r, 2);
    tsm_run_release(run);
    rig_close_well(&r);
}

/* A task waits for a signal; the chip that runs another task of the run dies: the wait ends. */
static int wait_and_gate(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d;
    int rc = help_alloc(orch, "waits", CHIPS(0, 1), 64, &d);
    return rc != 0 ? rc : SUBMIT(r, orch, {WAIT, 0, .domain = d}, {GATE, 1, .domain = d});
}

static void a_death_ends_the_waits_of_its_run(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 0);
    assert_code(r.w, tsm_worker_submit_run(r.w, wait_and_gate, &r, &run), 0);
    gate_begun(&r, 2);
    int waiter = tsm_worker_pid(r.w, 0);
    kill(tsm_worker_pid(r.w, 1), SIGKILL);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_ECHILD_DIED);
    cause(&r, TSM_ECHILD_DIED, 1, "signal 9");
    assert_int_equal(tsm_worker_pid(r.w, 0), waiter);
    tsm_run_release(run);
    await_deaths(&r, 1);
    assert_well(&r);
    assert_int_equal(deaths_of(&r), 1);
    rig_close(&r);
}

/* ---- stopped ---- */

static void a_stopped_chip_delays_only_its_own_runs_and_goes_on(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 1);
    int pid = tsm_worker_pid(r.w, 1);
    stop_process(pid);
    assert_code(r.w, FLY(&r, &run, {ADD, 1, .inout = 1, .a = 1}, {ADD, 0, .in = 1, .inout = 2}), 0);
    assert_code(r.w, tsm_run_wait(run, 20 * ms), TSM_ETIMEOUT);
    assert_code(r.w, RUN(&r, {ADD, TSM_SUB, .inout = 3, .a = 1}), 0);
    assert_int_equal(*rig_cell(&r, 1), 0);
    kill(pid, SIGCONT);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 2), 1);
    assert_int_equal(deaths_of(&r), 0);
    assert_int_equal(tsm_worker_pid(r.w, 1), pid);
    tsm_run_release(run);
    rig_close_well(&r);
}

/* ---- time limits ---- */

static void a_task_that_spins_over_its_limit_is_killed(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 1);
    for (int place = 1; place < 3; place++) {
        int rc = RUN(&r, {SPIN, place == 2 ? TSM_SUB : place, .out = 1, .limit_ns = 20 * ms});
        assert_code(r.w, rc, TSM_ETIME_LIMIT);
        const struct tsm_error *e = cause(&r, TSM_ETIME_LIMIT, place, "'so_spin'");
        assert_text(r.w, "20.000 ms");
        assert_int_not_equal(e->task, 0);
        await_deaths(&r, (uint64_t)place);
        assert_well(&r);
        assert_int_equal(deaths_of(&r), place);
    }
    rig_close(&r);
}

static int wait_with_limit(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d;
    int rc = help_alloc(orch, "waits", CHIPS(0, 1), 64, &d);
    return rc != 0 ? rc : SUBMIT(r, orch, {WAIT, 1, .domain = d, .limit_ns = 20 * ms});
}

static void a_task_that_waits_over_its_limit_ends_without_a_kill(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 0);
    int pid = tsm_worker_pid(r.w, 1);
    assert_code(r.w, tsm_worker_run(r.w, wait_with_limit, &r), TSM_ETIME_LIMIT);
    cause(&r, TSM_ETIME_LIMIT, 1, "'so_wait'");
    assert_null(strstr(tsm_worker_error(r.w)->text, "then:"));
    assert_well(&r);
    assert_int_equal(tsm_worker_pid(r.w, 1), pid);
    assert_int_equal(deaths_of(&r), 0);
    rig_close(&r);
}

static void a_limit_ends_with_its_task(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 1, 1);
    assert_code(r.w,
                FLY(&r, &run, {ADD, 0, .inout = 1, .a = 1, .limit_ns = 1000 * ms},
                    {GATE, 0, .inout = 1, .a = 1},
                    {ADD, TSM_SUB, .inout = 2, .a = 1, .limit_ns = 1000 * ms},
                    {GATE, TSM_SUB, .inout = 2, .a = 1}),
                0);
    gate_begun(&r, 2);
    assert_code(r.w, tsm_run_wait(run, 1200 * ms), TSM_ETIMEOUT); /* past those limits */
    gate_open(&r, 2);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 1), 2);
    assert_int_equal(*rig_cell(&r, 2), 2);
    tsm_run_release(run);
    rig_close_well(&r);
}

/* ---- replacing ---- */

static void a_replacement_that_dies_is_replaced(void **state)
{
    (void)state;
    struct rig r;
    setenv("TRANSOM_FAULT", "replace:kill:1:1,replace:kill:1:1", 1);
    rig_open(&r, 2, 0);
    assert_code(r.w, RUN(&r, {DIE, 1, .a = SIGKILL}), TSM_ECHILD_DIED);
    cause(&r, TSM_ECHILD_DIED, 1, "'so_die'");
    await_deaths(&r, 3);
    assert_well(&r);
    assert_int_equal(deaths_of(&r), 3);
    rig_close(&r);
}

/* What is left of a worker that is beyond repair: the same text for every call, and close. */
static void check_failed(struct rig *r, const char *part)
{
    char text[sizeof(tsm_worker_error(r->w)->text)];
    tsm_run *run = NULL;
    assert_text(r->w, part);
    strcpy(text, tsm_worker_error(r->w)->text);
    assert_code(r->w, RUN(r, {ADD, 0, .inout = 1}), TSM_EWORKER_FAILED);
    assert_string_equal(tsm_worker_error(r->w)->text, text);
    assert_code(r->w, FLY(r, &run, {ADD, 0, .inout = 1}), TSM_EWORKER_FAILED);
    assert_null(run);
    void *data = NULL;
    assert_code(r->w, tsm_buffer_create(r->w, 64, &data), TSM_EWORKER_FAILED);
    assert_string_equal(tsm_worker_error(r->w)->text, text);
    assert_code(r->w, tsm_worker_close(r->w), 0);
    assert_code(r->w, tsm_worker_close(r->w), 0);
    assert_code(r->w, RUN(r, {ADD, 0, .inout = 1}), TSM_ECLOSED);
    tsm_worker_destroy(r->w);
    rig_pipes_close(r);
}

static void failed_replacements_in_a_row_fail_the_worker(void **state)
{
    (void)state;
    static const struct {
        const char *fault;
        int place;
        const char *text;
    } ways[] = {
        {"replace:kill:1:1,replace:kill:1:1,replace:kill:1:1", 1, "chip 1 could not be replaced 3"},
        {"replace:kill:1:2,replace:kill:1:2,replace:kill:1:2", 2,
         "sub worker 0 could not be replaced 3"},
        {"sys.fork:fail=11:4:-2,sys.fork:fail=11:4:-2,sys.fork:fail=11:4:-2", 1,
         "chip 1 cannot be replaced: fork: Resource temporarily unavailable"}};
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct rig r;
        setenv("TRANSOM_FAULT", ways[i].fault, 1);
        rig_open(&r, 2, 1);
        int chip = ways[i].place < 2 ? ways[i].place : TSM_SUB;
        int rc = RUN(&r, {DIE, chip, .a = SIGKILL}, {ADD, chip, .inout = 1});
        assert_code(r.w, rc, TSM_EWORKER_FAILED);
        check_failed(&r, ways[i].text);
    }
}

static void a_fork_that_fails_for_a_moment_is_tried_again(void **state)
{
    (void)state;
    struct rig r;
    setenv("TRANSOM_FAULT", "sys.fork:fail=11:3:-2,sys.fork:fail=11:3:-2", 1);
    rig_open(&r, 2, 0);
    assert_code(r.w, RUN(&r, {DIE, 0, .a = SIGKILL}), TSM_ECHILD_DIED);
    await_deaths(&r, 1);
    rig_close_well(&r);
}

static void a_killed_keeper_fails_the_worker_and_takes_the_children_along(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 1);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1}), 0);
    gate_begun(&r, 1);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* orphans shall be ours to count */
    kill(keeper_of(&r), SIGKILL);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_EWORKER_FAILED);
    check_failed(&r, "keeper");
    for (int i = 0; i < 3; i++) {
        int status = 0;
        assert_true(waitpid(-1, &status, 0) > 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_task_that_returns_an_error_fails_the_run_with_its_value),
        TEST(the_error_names_the_task_that_failed),
        TEST(a_long_text_of_a_task_is_cut_and_harms_nothing),
        TEST(the_first_cause_in_time_wins_and_what_followed_is_told),
        TEST(tasks_that_were_not_begun_are_skipped_and_counted),
        TEST(a_consumer_of_a_failed_task_never_begins_even_without_the_keeper),
        TEST(a_child_that_dies_in_a_task_is_named_with_signal_or_status),
        TEST(a_chip_or_sub_that_dies_idle_fails_no_run),
        TEST(a_chip_that_dies_waiting_for_another_fails_no_run),
        TEST(two_chips_that_die_in_one_run_give_one_cause),
        TEST(a_death_ends_the_waits_of_its_run),
        TEST(a_stopped_chip_delays_only_its_own_runs_and_goes_on),
        TEST(a_task_that_spins_over_its_limit_is_killed),
        TEST(a_task_that_waits_over_its_limit_ends_without_a_kill),
        TEST(a_limit_ends_with_its_task),
        TEST(a_replacement_that_dies_is_replaced),
        TEST(failed_replacements_in_a_row_fail_the_worker),
        TEST(a_fork_that_fails_for_a_moment_is_tried_again),
        TEST(a_killed_keeper_fails_the_worker_and_takes_the_children_along)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Runs: run and submit_run with their handles, several in flight, orchestration functions that fail, and what one run's
 * failure means for the runs behind it: nothing, unless they read what the failed one should have written.
 */
#include <sys/wait.h>

#include "rig.h"

static const int64_t ms = 1000000;

/* ---- orchestration functions that fail ---- */

struct returned {
    struct rig *r;
    int rc;
    int calls;
};

static int only_return(tsm_orch *orch, void *arg)
{
    struct returned *x = arg;
    assert_ptr_equal(tsm_orch_worker(orch), x->r->w);
    x->calls++;
    return x->rc;
}

static void what_the_function_returns_comes_back_unchanged(void **state)
{
    (void)state;
    static const struct {
        int rc, code;
    } ways[] = {{TSM_ENOSPC, TSM_ENOSPC}, {TSM_EABORTED, TSM_EABORTED}, {7, TSM_EFUNCTION},
                {-1000, TSM_EFUNCTION},   {TSM_ETIMEOUT, TSM_ETIMEOUT}, {0, 0}};
    struct rig r;
    rig_open(&r, 1, 0);
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct returned x = {&r, ways[i].rc, 0};
        assert_int_equal(tsm_worker_run(r.w, only_return, &x), ways[i].rc);
        assert_int_equal(x.calls, 1);
        if (ways[i].rc != 0) {
            assert_int_equal(tsm_worker_error(r.w)->code, ways[i].code);
            assert_int_equal(tsm_worker_error(r.w)->run, i + 1);
            assert_text(r.w, "the orchestration function returned");
        }
    }
    rig_close_well(&r);
}

static int refuse_then_return_another(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    void *data;
    assert_code(r->w, tsm_malloc(orch, 99, 64, &data), TSM_EINVAL);
    return TSM_ENOSPC;
}

static int refuse_and_return_it(tsm_orch *orch, void *arg)
{
    (void)arg;
    void *data;
    return tsm_malloc(orch, 99, 64, &data);
}

static void a_refusal_that_the_function_returns_keeps_its_text_and_no_other_does(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 1, 0);
    assert_code(r.w, tsm_worker_run(r.w, refuse_and_return_it, &r), TSM_EINVAL);
    assert_text(r.w, "99");
    assert_code(r.w, tsm_worker_run(r.w, refuse_then_return_another, &r), TSM_ENOSPC);
    assert_null(strstr(tsm_worker_error(r.w)->text, "99"));
    rig_close(&r);
}

static int submit_allocate_and_fail(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d[3] = {0};
    void *data = NULL;
    assert_code(r->w, help_alloc(orch, "one", CHIPS(0, 1), 4096, &d[0]), 0);
    assert_code(r->w, help_alloc(orch, "two", CHIPS(0, 1), 4096, &d[1]), 0);
    assert_code(r->w, help_alloc_kept(orch, "kept", CHIPS(0, 1), 4096, &d[2]), 0);
    assert_code(r->w, tsm_scope_begin(orch), 0);
    assert_code(r->w, tsm_alloc(orch, 0, 4096, &data), 0);
    assert_code(r->w,
                SUBMIT(r, orch, {GATE, 0, .out = 1, .domain = d[0]},
                       {ADD, 1, .in = 1, .out = 2, .a = 1}, {WAIT, 1, .domain = d[1]}),
                0);
    gate_begun(r, 1);
    gate_open(r, 1);
    return -1234;
}

/* The waiting one may have begun or not. */
static void drain_begun(struct rig *r)
{
    while (poll(&(struct pollfd){.fd = r->begun[0], .events = POLLIN}, 1, 0) > 0) {
        gate_begun(r, 1);
    }
}

static void a_function_that_fails_leaves_no_domain_and_its_error_comes_out(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    struct tsm_stats stats;
    rig_open(&r, 2, 0);
    tsm_worker_stats(r.w, &stats);
    uint64_t held = stats.heap_bytes;
    for (int i = 0; i < 3; i++) { /* the names must be free again */
        assert_int_equal(tsm_worker_run(r.w, submit_allocate_and_fail, &r), -1234);
        assert_int_equal(tsm_worker_error(r.w)->detail, -1234);
        tsm_worker_stats(r.w, &stats);
        assert_int_equal(stats.domains_live, 0);
        assert_int_equal(stats.heap_bytes, held);
        drain_begun(&r);
        assert_well(&r);
        assert_int_equal(tsm_worker_submit_run(r.w, submit_allocate_and_fail, &r, &run), -1234);
        assert_null(run); /* a graph error comes at once and there is no handle */
        assert_well(&r);
        drain_begun(&r);
    }
    rig_close(&r);
}

/* ---- what is refused ---- */

static tsm_orch *kept_orch;

static int call_what_is_refused_inside(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    tsm_run *flying = ((void **)arg)[1];
    tsm_run *run = NULL;
    assert_code(r->w, RUN(r, {ADD, 0, .inout = 1}), TSM_ESTATE);
    assert_code(r->w, FLY(r, &run, {ADD, 0, .inout = 1}), TSM_ESTATE);
    assert_code(r->w, tsm_run_wait(flying, -1), TSM_ESTATE);
    assert_code(r->w, tsm_worker_close(r->w), TSM_ESTATE);
    assert_text(r->w, "inside an orchestration function");
    assert_code(r->w, tsm_worker_start(r->w), TSM_ESTATE);
    tsm_worker_destroy(r->w); /* it stays */
    kept_orch = orch;
    return rig_submit(r, orch, &(struct job){ADD, 0, .inout = 1, .a = 1}, NULL);
}

static void a_function_may_not_run_wait_or_close_and_its_orch_ends_with_it(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *flying = NULL;
    tsm_run *run = NULL;
    void *data;
    tsm_domain *d;
    rig_open(&r, 1, 1);
    assert_code(r.w, FLY(&r, &flying, {GATE, TSM_SUB, .inout = 9}), 0);
    gate_begun(&r, 1);
    assert_code(
        r.w, tsm_worker_submit_run(r.w, call_what_is_refused_inside, (void *[]){&r, flying}, &run),
        0);
    assert_code(r.w, rig_submit(&r, kept_orch, &(struct job){ADD, 0, .inout = 1}, NULL),
                TSM_ESTATE);
    assert_text(r.w, "inside the orchestration function");
    assert_code(r.w, tsm_malloc(kept_orch, 0, 64, &data), TSM_ESTATE);
    assert_code(r.w, tsm_alloc(kept_orch, 0, 64, &data), TSM_ESTATE);
    assert_code(r.w, tsm_free(kept_orch, 0, &r), TSM_ESTATE);
    assert_code(r.w, tsm_scope_begin(kept_orch), TSM_ESTATE);
    assert_code(r.w, tsm_scope_end(kept_orch), TSM_ESTATE);
    assert_code(r.w, tsm_domain_alloc(kept_orch, NULL, &d), TSM_ESTATE);
    assert_code(r.w, tsm_copy_to(kept_orch, 0, rig_cell(&r, 1), &r, 4), TSM_ESTATE);
    assert_code(r.w, tsm_submit_group(kept_orch, NULL, 0, NULL), TSM_ESTATE);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_code(r.w, tsm_run_wait(flying, -1), 0);
    assert_int_equal(*rig_cell(&r, 1), 1);
    tsm_run_release(run);
    tsm_run_release(flying);
    assert_code(r.w, tsm_worker_run(r.w, NULL, NULL), TSM_EINVAL);
    assert_code(r.w, tsm_worker_submit_run(r.w, NULL, NULL, &run), TSM_EINVAL);
    assert_code(r.w, FLY(&r, NULL, {ADD, 0, .a = 0}), TSM_EINVAL);
    assert_int_equal(tsm_run_wait(NULL, 0), TSM_EINVAL);
    tsm_run_release(NULL);
    rig_close_well(&r);
}

/* ---- handles ---- */

static void a_wait_with_timeout_can_be_repeated_and_the_result_stays(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run[2] = {0};
    rig_open(&r, 2, 0);
    assert_code(r.w, FLY(&r, &run[0], {GATE, 0, .inout = 1, .a = 3}), 0);
    assert_code(r.w, FLY(&r, &run[1], {GATE_FAIL, 1, .inout = 2}), 0);
    gate_begun(&r, 2);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) {
            assert_code(r.w, tsm_run_wait(run[i], k * 5 * ms), TSM_ETIMEOUT);
            assert_text(r.w, "is not over");
            assert_int_equal(tsm_run_done(run[i]), 0);
            assert_int_equal(tsm_run_error(run[i])->code, 0);
        }
    }
    gate_open(&r, 2);
    for (int k = 0; k < 3; k++) {
        assert_code(r.w, tsm_run_wait(run[0], -1), 0);
        assert_int_equal(tsm_run_error(run[0])->code, 0);
        assert_code(r.w, tsm_run_wait(run[1], k == 1 ? 0 : -1), TSM_ETASK_FAILED);
        assert_string_equal(tsm_run_error(run[1])->text,
                            "task 'so_gate_fail' failed: failed behind the gate");
        assert_int_equal(tsm_run_done(run[0]) && tsm_run_done(run[1]), 1);
    }
    assert_int_equal(*rig_cell(&r, 1), 3);
    tsm_run_release(run[0]);
    tsm_run_release(run[1]);
    rig_close(&r);
}

static void done_becomes_true_without_a_wait(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 1, 1);
    assert_code(
        r.w, FLY(&r, &run, {GATE, 0, .inout = 1}, {ADD, TSM_SUB, .in = 1, .inout = 2, .a = 4}), 0);
    gate_begun(&r, 1);
    assert_int_equal(tsm_run_done(run), 0);
    gate_open(&r, 1);
    while (!tsm_run_done(run)) {
        poll(NULL, 0, 1);
    }
    assert_int_equal(*rig_cell(&r, 2), 4);
    assert_code(r.w, tsm_run_wait(run, 0), 0);
    tsm_run_release(run);
    rig_close(&r);
}

static void a_run_whose_handle_is_given_back_goes_on(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 1, 0);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1, .a = 1}), 0);
    tsm_run_release(run);
    gate_begun(&r, 1);
    gate_open(&r, 1);
    assert_code(r.w, RUN(&r, {ADD, 0, .inout = 1, .a = 1}), 0);
    assert_int_equal(*rig_cell(&r, 1), 2);
    rig_close(&r);
}

static void handles_may_stand_when_the_worker_is_destroyed(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run[3] = {0};
    rig_open(&r, 1, 0);
    for (int i = 0; i < 3; i++) {
        assert_code(r.w, FLY(&r, &run[i], {ADD, 0, .inout = 1, .a = 1}), 0);
    }
    assert_code(r.w, tsm_run_wait(run[0], -1), 0);
    rig_close(&r); /* the leak check of the sanitizer build counts */
}

/* ---- many in flight ---- */

static void more_runs_than_fit_in_flight_each_have_their_own_result(void **state)
{
    (void)state;
    enum { RUNS = 200 };
    struct rig r;
    tsm_run *run[RUNS] = {0};
    struct tsm_stats stats;
    rig_open(&r, 3, 1);
    for (int i = 0; i < RUNS; i++) {
        int chip = i % 4 == 3 ? TSM_SUB : i % 4;
        bool bad = i % 10 == 9;
        int rc = FLY(&r, &run[i], {bad ? FAIL : ADD, chip, .out = i + 1, .a = (uint64_t)i});
        assert_code(r.w, rc, 0);
        tsm_worker_stats(r.w, &stats);
        assert_true(stats.runs_live <= 64);
    }
    for (int i = RUNS; i-- > 0;) {
        bool bad = i % 10 == 9;
        assert_code(r.w, tsm_run_wait(run[i], -1), bad ? TSM_ETASK_FAILED : 0);
        assert_int_equal(*rig_cell(&r, i + 1), bad ? 0 : i);
        assert_int_equal(tsm_run_error(run[i])->run, bad ? i + 1 : 0);
        tsm_run_release(run[i]);
    }
    rig_close_well(&r);
}

static void sixty_three_runs_fly_before_any_of_them_is_done(void **state)
{
    (void)state;
    enum { RUNS = 63 };
    struct rig r;
    tsm_run *run[RUNS] = {0};
    struct tsm_stats stats;
    rig_open(&r, 1, 0);
    assert_code(r.w, FLY(&r, &run[0], {GATE, 0, .inout = 1, .a = 1}), 0);
    for (int i = 1; i < RUNS; i++) {
        assert_code(r.w, FLY(&r, &run[i], {ADD, 0, .inout = 1, .a = 1}), 0);
    }
    gate_begun(&r, 1);
    tsm_worker_stats(r.w, &stats);
    assert_int_equal(stats.runs_live, RUNS);
    gate_open(&r, 1);
    for (int i = 0; i < RUNS; i++) {
        assert_code(r.w, tsm_run_wait(run[i], -1), 0);
        tsm_run_release(run[i]);
    }
    assert_int_equal(*rig_cell(&r, 1), RUNS);
    rig_close(&r);
}

/* ---- a task fails while the function executes ---- */

struct late {
    struct rig *r;
    int returns;
};

static int submit_until_refused(tsm_orch *orch, void *arg)
{
    struct late *late = arg;
    int rc = rig_submit(late->r, orch, &(struct job){FAIL, 1, .a = 0}, NULL);
    while (rc == 0) {
        rc = rig_submit(late->r, orch, &(struct job){ADD, 0, .out = 1, .a = 1}, NULL);
    }
    assert_code(late->r->w, rc, TSM_EABORTED);
    void *data;
    int more = tsm_submit_group(orch, &(struct tsm_call){.chip = 0}, 1, NULL);
    assert_code(late->r->w, more, TSM_EABORTED);
    assert_code(late->r->w, tsm_malloc(orch, 0, 64, &data), 0); /* memory is still given */
    assert_code(late->r->w, tsm_free(orch, 0, data), 0);
    return late->returns;
}

static void a_task_that_fails_under_way_stops_the_submits_and_is_the_cause(void **state)
{
    (void)state;
    static const int returns[] = {TSM_EABORTED, 0, TSM_EINVAL, 5};
    struct rig r;
    rig_open(&r, 2, 0);
    for (int i = 0; i < 4; i++) {
        struct late late = {&r, returns[i]};
        tsm_run *run = NULL;
        assert_code(r.w, tsm_worker_run(r.w, submit_until_refused, &late), TSM_ETASK_FAILED);
        assert_text(r.w, "so_fail");
        assert_int_equal(tsm_worker_error(r.w)->chip, 1);
        if (i < 2) { /* no error of the function's own: it comes at wait */
            assert_code(r.w, tsm_worker_submit_run(r.w, submit_until_refused, &late, &run), 0);
            assert_code(r.w, tsm_run_wait(run, -1), TSM_ETASK_FAILED);
            tsm_run_release(run);
        }
        assert_well(&r);
    }
    rig_close(&r);
}

/* ---- one run behind another ---- */

static void a_failed_run_leaves_the_run_behind_it_clean(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run[3] = {0};
    rig_open(&r, 2, 1);
    assert_code(r.w,
                FLY(&r, &run[0], {ADD, 1, .inout = 4, .a = 1}, {GATE_FAIL, 0, .in = 2, .inout = 1},
                    {ADD, 0, .inout = 3, .a = 1}),
                0);
    gate_begun(&r, 1);
    await_cell(&r, 4);
    /* Same chip, same cells: reads 4, which was written, and 2, which was only read; writes over 1 and 3. */
    assert_code(r.w,
                FLY(&r, &run[1], {ADD, 0, .in = 4, .inout = 5, .a = 10},
                    {ADD, 1, .in = 2, .inout = 6}, {ADD, TSM_SUB, .inout = 2, .a = 1},
                    {ADD, 0, .out = 1, .a = 1}),
                0);
    assert_code(r.w, FLY(&r, &run[2], {ADD, 1, .in = 1, .inout = 7}, {ADD, 1, .out = 3, .a = 8}),
                0);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run[0], -1), TSM_ETASK_FAILED);
    assert_code(r.w, tsm_run_wait(run[1], -1), 0);
    assert_code(r.w, tsm_run_wait(run[2], -1), 0);
    assert_int_equal(*rig_cell(&r, 5), 11);
    assert_int_equal(*rig_cell(&r, 7), 1);
    assert_int_equal(*rig_cell(&r, 3), 8);
    for (int i = 0; i < 3; i++) {
        tsm_run_release(run[i]);
    }
    rig_close_well(&r);
}

/* A producer on each place, as a group, and skipped behind one; the cells 1.. are what they should have written. */
enum { BY_CHIP = 1, BY_SUB, BY_GROUP, BY_SUB_GROUP, BY_SKIPPED, BY_SKIPPED_SUB, PRODUCTS };

static int produce_behind_a_failure(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    struct tsm_tensor t[2] = {cell_tensor(r, BY_GROUP, TSM_INOUT), cell_tensor(r, 100, TSM_INOUT)};
    struct tsm_tensor s[4] = {cell_tensor(r, 99, TSM_INPUT),
                              cell_tensor(r, BY_SUB_GROUP, TSM_INOUT),
                              cell_tensor(r, 99, TSM_INPUT), cell_tensor(r, 101, TSM_INOUT)};
    struct tsm_call group[2], subs[2];
    int rc = SUBMIT(r, orch, {GATE, 1, .inout = 99}, {GATE_FAIL, 0, .inout = BY_CHIP},
                    {FAIL, TSM_SUB, .in = 99, .inout = BY_SUB});
    for (int i = 0; i < 2; i++) {
        group[i] = (struct tsm_call){
            .callable = r->call[MEMBER], .chip = i, .tensors = &t[i], .tensor_count = 1};
        subs[i] = (struct tsm_call){.callable = r->call[i == 0 ? MEMBER : FAIL],
                                    .chip = TSM_SUB,
                                    .tensors = &s[2 * i],
                                    .tensor_count = 2};
    }
    /* The group's member on chip 0 is skipped: then the group has not done its work. */
    rc = rc != 0 ? rc : tsm_submit_group(orch, group, 2, NULL);
    rc = rc != 0 ? rc : tsm_submit_group(orch, subs, 2, NULL);
    return rc != 0 ? rc
                   : SUBMIT(r, orch, {ADD, 0, .inout = BY_SKIPPED},
                            {ADD, TSM_SUB, .in = 1, .inout = BY_SKIPPED_SUB});
}

/* Reads the cell on a place; *ret is the run, or NULL when submit knew it. */
static int consume(struct rig *r, int place, int cell, tsm_run **ret)
{
    int chip = place == (int)r->chips ? TSM_SUB : place;
    *ret = NULL;
    int rc = FLY(r, ret, {ADD, chip, .in = cell, .out = 300 + 8 * cell + place, .a = 1});
    if (*ret == NULL) {
        assert_text(r->w, "'so_add' reads what a failed task of run 1 should have written");
    }
    return rc;
}

static void assert_nothing_read(struct rig *r)
{
    for (int i = 300; i < 300 + 8 * PRODUCTS; i++) {
        assert_int_equal(*rig_cell(r, i), 0);
    }
}

static void who_reads_what_a_failed_run_should_have_written_fails_in_flight(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    tsm_run *readers[PRODUCTS][4] = {0};
    rig_open(&r, 3, 2);
    assert_code(r.w, tsm_worker_submit_run(r.w, produce_behind_a_failure, &r, &run), 0);
    gate_begun(&r, 2);
    for (int cell = 1; cell < PRODUCTS; cell++) {
        for (int place = 0; place < 4; place++) {
            assert_code(r.w, consume(&r, place, cell, &readers[cell][place]), 0);
        }
    }
    gate_open(&r, 2);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    for (int cell = 1; cell < PRODUCTS; cell++) {
        for (int place = 0; place < 4; place++) {
            int rc = tsm_run_wait(readers[cell][place], -1);
            if (rc != TSM_EUPSTREAM_FAILED) {
                print_error("product %d read on place %d\n", cell, place);
            }
            assert_code(r.w, rc, TSM_EUPSTREAM_FAILED);
            assert_text(r.w, "'so_add' reads what a failed task of run 1 should have written");
            tsm_run_release(readers[cell][place]);
        }
    }
    assert_nothing_read(&r);
    tsm_run_release(run);
    rig_close_well(&r);
}

static int read_on_the_host(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    int32_t x;
    return tsm_copy_from(orch, TSM_HOST, &x, rig_cell(r, BY_CHIP), sizeof(x));
}

static void who_reads_it_after_the_failed_run_is_over_fails_until_it_is_written(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 3, 2);
    assert_code(r.w, tsm_worker_submit_run(r.w, produce_behind_a_failure, &r, &run), 0);
    gate_begun(&r, 2);
    gate_open(&r, 2);
    assert_code(r.w, tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    tsm_run_release(run);
    for (int i = 0; i < 150; i++) { /* its slot has long been used again */
        assert_code(r.w, RUN(&r, {ADD, i % 3, .inout = 60, .a = 1}), 0);
    }
    for (int cell = 1; cell < PRODUCTS; cell++) {
        for (int place = 0; place < 4; place++) {
            assert_code(r.w, consume(&r, place, cell, &run), TSM_EUPSTREAM_FAILED);
        }
    }
    assert_code(r.w, tsm_worker_run(r.w, read_on_the_host, &r), TSM_EUPSTREAM_FAILED);
    assert_code(r.w, tsm_host_wait(r.w, rig_cell(&r, BY_SUB), 4, TSM_READ), TSM_EUPSTREAM_FAILED);
    assert_nothing_read(&r);
    for (int cell = 1; cell < PRODUCTS; cell++) {
        assert_code(r.w, RUN(&r, {ADD, 2, .out = cell, .a = 1}), 0);
        assert_code(r.w, RUN(&r, {ADD, 1, .in = cell, .inout = 51}), 0);
    }
    assert_code(r.w, tsm_worker_run(r.w, read_on_the_host, &r), 0);
    rig_close_well(&r);
}

static int read_two(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    struct tsm_tensor t[3] = {cell_tensor(r, 1, TSM_INPUT), cell_tensor(r, 2, TSM_INPUT),
                              cell_tensor(r, 3, TSM_INOUT)};
    struct tsm_call call = {.callable = r->call[ADD], .chip = 1, .tensors = t, .tensor_count = 3};
    return tsm_submit(orch, &call, NULL);
}

static void who_reads_from_two_earlier_runs_on_one_chip_fails_with_either(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 0);
    for (int bad = 0; bad < 3; bad++) {
        tsm_run *run[3] = {0};
        *rig_cell(&r, 3) = 0;
        assert_code(r.w, FLY(&r, &run[0], {bad == 0 ? GATE_FAIL : GATE, 0, .out = 1, .a = 1}), 0);
        assert_code(r.w, FLY(&r, &run[1], {bad == 1 ? GATE_FAIL : GATE, 0, .out = 2, .a = 1}), 0);
        gate_begun(&r, 1);
        assert_code(r.w, tsm_worker_submit_run(r.w, read_two, &r, &run[2]), 0);
        gate_open(&r, 2);
        gate_begun(&r, 1);
        assert_code(r.w, tsm_run_wait(run[0], -1), bad == 0 ? TSM_ETASK_FAILED : 0);
        assert_code(r.w, tsm_run_wait(run[1], -1), bad == 1 ? TSM_ETASK_FAILED : 0);
        assert_code(r.w, tsm_run_wait(run[2], -1), bad < 2 ? TSM_EUPSTREAM_FAILED : 0);
        for (int i = 0; i < 3; i++) {
            tsm_run_release(run[i]);
        }
        assert_code(r.w, RUN(&r, {ADD, 0, .out = 1}, {ADD, 0, .out = 2}, {ADD, 0, .out = 3}), 0);
    }
    rig_close_well(&r);
}

/* More sub tasks than a record lists waits for; one of them fails. */
static int read_many_subs(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    struct tsm_tensor all = {.data = rig_cell(r, 200),
                             .dtype = TSM_I32,
                             .tag = TSM_INPUT,
                             .ndim = 1,
                             .shape = {100 * RIG_STRIDE}};
    struct tsm_tensor t[2] = {all, cell_tensor(r, 3, TSM_INOUT)};
    uint64_t one = 1;
    struct tsm_call call = {.callable = r->call[ADD],
                            .chip = 1,
                            .tensors = t,
                            .tensor_count = 2,
                            .scalars = &one,
                            .scalar_count = 1};
    return tsm_submit(orch, &call, NULL);
}

static int write_many_subs(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    int bad = *(int *)((void **)arg)[1];
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) {
        enum rig_call call = i == bad ? FAIL : ADD;
        rc = rig_submit(r, orch, &(struct job){call, TSM_SUB, .out = 200 + i, .a = 1}, NULL);
    }
    return rc;
}

static void who_reads_from_more_subs_than_a_record_lists_sees_each_failure(void **state)
{
    (void)state;
    static int bad[] = {0, 50, 99};
    struct rig r;
    rig_open(&r, 2, 1);
    for (int i = 0; i < 3; i++) {
        tsm_run *run[2] = {0};
        int sub = tsm_worker_pid(r.w, 2);
        stop_process(sub); /* none shall be done when the reader is submitted */
        assert_code(
            r.w, tsm_worker_submit_run(r.w, write_many_subs, (void *[]){&r, &bad[i]}, &run[0]), 0);
        int pid = fork();
        if (pid == 0) {
            poll(NULL, 0, 20); /* too early only makes the test easier */
            kill(sub, SIGCONT);
            _exit(0);
        }
        int rc = tsm_worker_submit_run(r.w, read_many_subs, &r, &run[1]);
        rc = rc == 0 ? tsm_run_wait(run[1], -1) : rc;
        assert_code(r.w, rc, TSM_EUPSTREAM_FAILED);
        assert_code(r.w, tsm_run_wait(run[0], -1), TSM_ETASK_FAILED);
        assert_int_equal(*rig_cell(&r, 3), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        tsm_run_release(run[0]);
        tsm_run_release(run[1]);
        int none = -1;
        assert_code(r.w, tsm_worker_run(r.w, write_many_subs, (void *[]){&r, &none}), 0);
        assert_code(r.w, RUN(&r, {ADD, 1, .out = 3}), 0);
        *rig_cell(&r, 3) = 0;
    }
    rig_close(&r);
}

/* An explicit predecessor that has failed already, and nobody has raised the abort: the keeper is stopped. */
static int follow_a_failed_task(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    int chip = *(int *)((void **)arg)[1];
    struct tsm_tensor x = cell_tensor(r, 3, TSM_INOUT);
    uint64_t one = 1;
    tsm_task_id id = 0;
    int rc = rig_submit(r, orch, &(struct job){FAIL, chip, .in = 2}, &id);
    assert_code(r->w, rc, 0);
    rc = tsm_copy_to(orch, TSM_HOST, rig_cell(r, 2), &(int32_t){0}, 4); /* behind the failed one */
    assert_true(rc == 0 || rc == TSM_EABORTED);
    struct tsm_call call = {.callable = r->call[ADD],
                            .chip = 1,
                            .tensors = &x,
                            .tensor_count = 1,
                            .scalars = &one,
                            .scalar_count = 1,
                            .after = &id,
                            .after_count = 1};
    return tsm_submit(orch, &call, NULL);
}

static void who_names_a_failed_task_as_predecessor_never_begins(void **state)
{
    (void)state;
    static int chips[] = {0, TSM_SUB};
    struct rig r;
    rig_open(&r, 2, 1);
    int keeper = keeper_of(&r);
    for (int i = 0; i < 2; i++) {
        stop_process(keeper);
        int rc = tsm_worker_run(r.w, follow_a_failed_task, (void *[]){&r, &chips[i]});
        kill(keeper, SIGCONT);
        assert_code(r.w, rc, TSM_ETASK_FAILED);
        assert_text(r.w, "so_fail");
        assert_int_equal(*rig_cell(&r, 3), 0);
    }
    rig_close_well(&r);
}

/* Run 1: a producer on chip 0 runs on; its consumer on chip 1 is skipped because chip 2 has failed. Run 2 writes the same
 * cell on chip 1, behind the consumer by the order of that ring alone: the skipped record's wait must hold it back. */
static int produce_and_fail_elsewhere(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d;
    int rc = help_alloc(orch, "tells when the abort is there", CHIPS(3), 64, &d);
    return rc != 0 ? rc
                   : SUBMIT(r, orch, {WAIT, 3, .domain = d}, {GATE, 0, .inout = 1, .a = 5},
                            {ADD, 1, .inout = 1, .a = 100}, {FAIL, 2, .out = 4});
}

static void a_later_run_does_not_overtake_the_producer_of_a_skipped_consumer(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run[2] = {0};
    rig_open(&r, 4, 0);
    stop_chip(&r, 1);
    stop_chip(&r, 2);
    assert_code(r.w, tsm_worker_submit_run(r.w, produce_and_fail_elsewhere, &r, &run[0]), 0);
    gate_begun(&r, 2);
    kill(tsm_worker_pid(r.w, 2), SIGCONT);
    assert_code(r.w, RUN(&r, {ADD, 3, .inout = 6, .a = 1}), 0); /* the abort has ended the wait */
    assert_code(r.w, FLY(&r, &run[1], {ADD, 1, .out = 1, .a = 1}), 0);
    kill(tsm_worker_pid(r.w, 1), SIGCONT);
    assert_code(r.w, tsm_run_wait(run[1], 20 * ms), TSM_ETIMEOUT);
    assert_int_equal(*rig_cell(&r, 1), 0);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run[1], -1), 0);
    assert_int_equal(*rig_cell(&r, 1), 6);
    assert_code(r.w, tsm_run_wait(run[0], -1), TSM_ETASK_FAILED);
    tsm_run_release(run[0]);
    tsm_run_release(run[1]);
    rig_close_well(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_function_returns_comes_back_unchanged),
        TEST(a_refusal_that_the_function_returns_keeps_its_text_and_no_other_does),
        TEST(a_function_that_fails_leaves_no_domain_and_its_error_comes_out),
        TEST(a_function_may_not_run_wait_or_close_and_its_orch_ends_with_it),
        TEST(a_wait_with_timeout_can_be_repeated_and_the_result_stays),
        TEST(done_becomes_true_without_a_wait),
        TEST(a_run_whose_handle_is_given_back_goes_on),
        TEST(handles_may_stand_when_the_worker_is_destroyed),
        TEST(more_runs_than_fit_in_flight_each_have_their_own_result),
        TEST(sixty_three_runs_fly_before_any_of_them_is_done),
        TEST(a_task_that_fails_under_way_stops_the_submits_and_is_the_cause),
        TEST(a_failed_run_leaves_the_run_behind_it_clean),
        TEST(who_reads_what_a_failed_run_should_have_written_fails_in_flight),
        TEST(who_reads_it_after_the_failed_run_is_over_fails_until_it_is_written),
        TEST(who_reads_from_two_earlier_runs_on_one_chip_fails_with_either),
        TEST(who_reads_from_more_subs_than_a_record_lists_sees_each_failure),
        TEST(who_names_a_failed_task_as_predecessor_never_begins),
        TEST(a_later_run_does_not_overtake_the_producer_of_a_skipped_consumer)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

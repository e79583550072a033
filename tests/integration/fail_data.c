/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tasks that fail with data for the program: the data of the failure that is the run's cause comes out, and no other. The
 * tasks are in loaded_so.c.
 */
#include "rig.h"

struct fails {
    struct rig r;
    tsm_callable data, gate;
};

static void open_fails(struct fails *f, uint32_t chips, uint32_t subs)
{
    char object[4096];
    snprintf(object, sizeof(object), "%s", harness_beside("loaded_so.so"));
    rig_open(&f->r, chips, subs);
    assert_code(f->r.w, tsm_register_symbol(f->r.w, object, "so_fail_data", NULL, &f->data), 0);
    assert_code(f->r.w, tsm_register_symbol(f->r.w, object, "so_gate_fail_data", NULL, &f->gate),
                0);
}

/* One task that fails with `bytes` bytes; how: as so_fail_data has it. */
struct one {
    struct fails *f;
    int chip;
    uint64_t bytes, seed, how;
};

static int submit_one(tsm_orch *orch, void *arg)
{
    struct one *x = arg;
    return help_submit(orch, x->f->data, x->chip, NULL, SCALARS(x->bytes, x->seed, x->how), NULL);
}

static tsm_run *fly(struct fails *f, int chip, uint64_t bytes, uint64_t seed, uint64_t how)
{
    struct one x = {f, chip, bytes, seed, how};
    tsm_run *run = NULL;
    assert_code(f->r.w, tsm_worker_submit_run(f->r.w, submit_one, &x, &run), 0);
    return run;
}

static void assert_data(tsm_run *run, uint64_t bytes, uint64_t seed)
{
    uint64_t got = 12345;
    const uint8_t *data = tsm_run_fail_data(run, &got);
    assert_int_equal(got, bytes);
    assert_true((data == NULL) == (bytes == 0));
    for (uint64_t i = 0; i < bytes; i++) {
        assert_int_equal(data[i], (uint8_t)(seed * 31 + i));
    }
    assert_ptr_equal(tsm_run_fail_data(run, NULL), data);
}

static void what_a_task_gives_comes_out_with_its_failure(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 7, 64, 4096, TSM_FAIL_DATA_MAX - 1, TSM_FAIL_DATA_MAX};
    static const int chips[] = {0, 1, TSM_SUB};
    struct fails f;
    open_fails(&f, 2, 1);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t k = 0; k < COUNT(chips); k++) {
            tsm_run *run = fly(&f, chips[k], sizes[i], i + k, 0);
            assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
            assert_text(f.r.w, "task 'so_fail_data' failed: with ");
            assert_data(run, sizes[i], i + k);
            tsm_run_release(run);
        }
    }
    rig_close_well(&f.r);
}

static void too_much_and_nothing_with_bytes_are_refused_and_do_not_fail_the_task(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes, how;
    } ways[] = {{TSM_FAIL_DATA_MAX + 1, 8}, {UINT64_MAX, 8}, {5, 16 + 8}};
    struct fails f;
    open_fails(&f, 1, 0);
    for (size_t i = 0; i < COUNT(ways); i++) {
        tsm_run *run = fly(&f, 0, ways[i].bytes, 0, ways[i].how);
        assert_code(f.r.w, tsm_run_wait(run, -1), 0);
        assert_data(run, 0, 0);
        tsm_run_release(run);
        run = fly(&f, 0, ways[i].bytes, 0, ways[i].how - 8); /* returns what it was told */
        assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
        assert_text(f.r.w, "TSM_EINVAL: tsm_fail_data: bytes is");
        assert_data(run, 0, 0);
        tsm_run_release(run);
    }
    rig_close_well(&f.r);
}

static void only_the_first_failure_of_a_task_counts(void **state)
{
    (void)state;
    struct fails f;
    open_fails(&f, 1, 0);
    tsm_run *run = fly(&f, 0, 100, 3, 1);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    assert_text(f.r.w, "the first");
    assert_data(run, 0, 0);
    tsm_run_release(run);
    run = fly(&f, 0, 100, 3, 2);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
    assert_text(f.r.w, "with 100 bytes");
    assert_data(run, 100, 3);
    tsm_run_release(run);
    run = fly(&f, 0, 100, 3, 4); /* dies: that is the cause, and it has no data */
    assert_int_equal(tsm_run_wait(run, -1), TSM_ECHILD_DIED);
    assert_data(run, 0, 0);
    tsm_run_release(run);
    rig_close_well(&f.r);
}

/* Two tasks that have begun; then one fails, is seen to have, and then the other. */
static int submit_two(tsm_orch *orch, void *arg)
{
    struct fails *f = arg;
    uint64_t begun = (uint64_t)f->r.begun[1], open = (uint64_t)f->r.open[0];
    int rc = help_submit(orch, f->gate, 0, NULL, SCALARS(begun, open, 11), NULL);
    return rc != 0 ? rc : help_submit(orch, f->gate, 1, NULL, SCALARS(begun, open, 22), NULL);
}

static void the_data_is_that_of_the_cause(void **state)
{
    (void)state;
    struct fails f;
    uint32_t rounds = harness_count(50), from[2] = {0, 0};
    open_fails(&f, 2, 0);
    for (uint32_t i = 0; i < rounds; i++) {
        tsm_run *run = NULL;
        uint64_t before = tsm_worker_tasks_done(f.r.w);
        uint64_t bytes = 0;
        assert_code(f.r.w, tsm_worker_submit_run(f.r.w, submit_two, &f, &run), 0);
        gate_begun(&f.r, 2);
        gate_open(&f.r, 1);
        while (tsm_worker_tasks_done(f.r.w) == before) {
            poll(NULL, 0, 1);
        }
        gate_open(&f.r, 1);
        assert_int_equal(tsm_run_wait(run, -1), TSM_ETASK_FAILED);
        int chip = tsm_run_error(run)->chip;
        const uint64_t *data = tsm_run_fail_data(run, &bytes);
        assert_int_equal(bytes, 8);
        assert_int_equal(*data, chip == 0 ? 11 : 22);
        from[chip]++;
        tsm_run_release(run);
    }
    assert_int_equal(from[0] + from[1], rounds);
    rig_close_well(&f.r);
}

static void runs_in_flight_have_their_data_until_they_are_released(void **state)
{
    (void)state;
    enum { RUNS = 60 };
    struct fails f;
    tsm_run *runs[RUNS];
    open_fails(&f, 2, 1);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < RUNS; i++) {
            int chip = i % 3 == 2 ? TSM_SUB : i % 3;
            runs[i] = fly(&f, chip, i % 4 == 3 ? 0 : 500 + (uint64_t)i, (uint64_t)(i + round), 0);
        }
        for (int i = 0; i < RUNS; i++) {
            assert_int_equal(tsm_run_wait(runs[i], -1), TSM_ETASK_FAILED);
        }
        for (int i = 0; i < RUNS; i++) {
            assert_data(runs[i], i % 4 == 3 ? 0 : 500 + (uint64_t)i, (uint64_t)(i + round));
            tsm_run_release(runs[i]);
        }
        assert_well(&f.r);
    }
    rig_close(&f.r);
}

static void a_run_without_data_has_none_and_keeps_it_after_close(void **state)
{
    (void)state;
    struct fails f;
    tsm_run *run = NULL;
    open_fails(&f, 1, 0);
    assert_code(f.r.w, FLY(&f.r, &run, {GATE, 0, .out = 1}), 0);
    assert_data(run, 0, 0);
    gate_begun(&f.r, 1);
    gate_open(&f.r, 1);
    assert_code(f.r.w, tsm_run_wait(run, -1), 0);
    assert_data(run, 0, 0);
    tsm_run *failed = fly(&f, 0, 300, 9, 0);
    assert_int_equal(tsm_run_wait(failed, -1), TSM_ETASK_FAILED);
    assert_code(f.r.w, tsm_worker_close(f.r.w), 0);
    assert_data(run, 0, 0);
    assert_data(failed, 300, 9);
    tsm_run_release(run);
    rig_close(&f.r); /* frees what was not released */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_task_gives_comes_out_with_its_failure),
        TEST(too_much_and_nothing_with_bytes_are_refused_and_do_not_fail_the_task),
        TEST(only_the_first_failure_of_a_task_counts),
        TEST(the_data_is_that_of_the_cause),
        TEST(runs_in_flight_have_their_data_until_they_are_released),
        TEST(a_run_without_data_has_none_and_keeps_it_after_close)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

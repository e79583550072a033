/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The vocabulary of task.h between real chip processes, forked and spawned: put and get, words, signals and their
 * waits, atomics, sub-groups; every error; and that every write of the library wakes who sleeps for it. The tasks
 * are in vocabulary_so.c and vocabulary_errors_so.c.
 */
#include "rig.h"

enum { CHIPS_MAX_USED = 4 };

struct team {
    tsm_worker *w;
    tsm_callable callable;
    uint32_t count; /* of members, on the last chips first */
    uint64_t window_bytes;
    uint64_t scalars[4];
};

static struct team open_team(const char *object, const char *symbol, uint32_t count,
                             uint64_t window_bytes)
{
    struct team x = {.count = count, .window_bytes = window_bytes};
    struct tsm_worker_opts opts = rig_opts(CHIPS_MAX_USED, 0);
    x.w = help_create(&opts);
    assert_code(x.w, tsm_worker_start(x.w), 0);
    assert_code(x.w, tsm_register_symbol(x.w, harness_beside(object), symbol, NULL, &x.callable),
                0);
    return x;
}

static int team_orch(tsm_orch *o, void *arg)
{
    const struct team *x = arg;
    static const int chips[CHIPS_MAX_USED] = {3, 1, 2, 0};
    tsm_domain *d;
    int rc = help_alloc(o, "team", chips, x->count, x->window_bytes, &d);
    return rc != 0 ? rc
                   : help_submit_group(o, x->callable, d, chips, x->count, x->scalars,
                                       COUNT(x->scalars));
}

static void run_team(struct team *x, int code)
{
    assert_code(x->w, tsm_worker_run(x->w, team_orch, x), code);
}

/* A test that is one task, run by teams of 2 to 4; scalar 0 as given. */
static void run_alone(const char *symbol, uint32_t least, uint64_t window_bytes, uint64_t scalar)
{
    struct team x = open_team("vocabulary_so.so", symbol, least, window_bytes);
    for (; x.count <= CHIPS_MAX_USED; x.count++) {
        x.scalars[0] = scalar;
        run_team(&x, 0);
    }
    harness_close(x.w);
}

static void what_is_put_and_got_is_whole_in_every_size(void **state)
{
    (void)state;
    run_alone("voc_put_get", 2, 4 * 70016, 0);
}

static void strided_elements_land_apart_and_leave_the_gaps_alone(void **state)
{
    (void)state;
    run_alone("voc_strided", 2, 1024, 0);
}

static void words_are_put_and_got_whole(void **state)
{
    (void)state;
    run_alone("voc_words", 2, 1024, 0);
}

static void who_sees_what_was_put_behind_a_fence_sees_what_was_before_it(void **state)
{
    (void)state;
    struct team x = open_team("vocabulary_so.so", "voc_fence", 2, 1024);
    x.scalars[0] = harness_count(5000);
    run_team(&x, 0);
    harness_close(x.w);
}

static void who_sees_the_signal_of_a_put_sees_its_data(void **state)
{
    (void)state;
    run_alone("voc_put_signal", 2, 1024, harness_count(3000));
}

static void tests_and_waits_agree_on_every_comparison(void **state)
{
    (void)state;
    run_alone("voc_compare", 2, 64, 0);
}

static void waits_for_any_and_for_all_of_several_signals(void **state)
{
    (void)state;
    run_alone("voc_several", 2, 2048, harness_count(3000));
}

static void atomics_answer_with_the_value_before(void **state)
{
    (void)state;
    run_alone("voc_atomics", 2, 64, 0);
    run_alone("voc_atomics_mute", 2, 64, 0);
}

static void no_change_of_contended_words_is_lost(void **state)
{
    (void)state;
    run_alone("voc_contended", 4, 64, harness_count(10000));
}

static void a_sub_group_has_its_own_ranks_over_the_same_windows(void **state)
{
    (void)state;
    run_alone("voc_groups", 4, 256, 0);
}

struct names {
    tsm_callable named, long_named;
    uint64_t window_bytes;
};

static int names_orch(tsm_orch *o, void *arg)
{
    const struct names *x = arg;
    static const int chips[] = {2, 0};
    static const struct tsm_buffer_spec buffers[] = {
        {.name = "bytes", .bytes = 10},
        {.name = "halves", .dtype = TSM_BF16, .count = 7},
        {.name = "doubles", .dtype = TSM_F64, .bytes = 24},
        {.name = "apart", .dtype = TSM_U32, .count = 4, .align = 4096},
    };
    char name[64] = "";
    memset(name, 'n', sizeof(name) - 1);
    struct tsm_domain_opts opts = help_domain_opts("names", chips, COUNT(chips), x->window_bytes);
    tsm_domain *d, *plain;
    opts.buffers = buffers;
    opts.buffer_count = COUNT(buffers);
    int rc = tsm_domain_alloc(o, &opts, &d);
    rc = rc != 0 ? rc : help_alloc(o, name, chips, COUNT(chips), x->window_bytes, &plain);
    rc = rc != 0 ? rc : help_submit_group(o, x->named, d, chips, COUNT(chips), &x->window_bytes, 1);
    return rc != 0 ? rc
                   : help_submit_group(o, x->long_named, plain, chips, COUNT(chips),
                                       &x->window_bytes, 1);
}

static void a_task_knows_names_buffers_and_size_of_its_domain(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {8000, 8192, 100001};
    struct tsm_worker_opts opts = rig_opts(3, 0);
    const char *object = harness_beside("vocabulary_so.so");
    struct names x;
    tsm_worker *w = help_create(&opts);
    assert_code(w, tsm_worker_start(w), 0);
    assert_code(w, tsm_register_symbol(w, object, "voc_names", NULL, &x.named), 0);
    assert_code(w, tsm_register_symbol(w, object, "voc_long_name", NULL, &x.long_named), 0);
    for (uint32_t i = 0; i < COUNT(sizes); i++) {
        x.window_bytes = sizes[i];
        assert_code(w, tsm_worker_run(w, names_orch, &x), 0);
    }
    harness_close(w);
}

static void every_call_refuses_what_task_h_says_it_refuses(void **state)
{
    (void)state;
    void *kept;
    struct team x = open_team("vocabulary_errors_so.so", "voc_errors", 2, 4096);
    assert_code(x.w, tsm_buffer_create(x.w, 64, &kept), 0);
    x.scalars[0] = help_pointer(kept);
    x.scalars[2] = x.window_bytes;
    run_team(&x, 0);
    x.scalars[1] = 1; /* another domain in the same lease, of the next generation */
    run_team(&x, 0);
    assert_int_equal(help_stats(x.w).leases_fresh, 1);
    harness_close(x.w);
}

static void odd_arguments_are_refused_and_empty_ones_are_not(void **state)
{
    (void)state;
    struct team x = open_team("vocabulary_errors_so.so", "voc_more_errors", 2, 4096);
    x.scalars[0] = x.window_bytes;
    run_team(&x, 0);
    harness_close(x.w);
}

/* At once, or when all are asleep. */
static void every_wait_ends_when_a_member_aborts_the_domain_or_fails(void **state)
{
    (void)state;
    struct team x = open_team("vocabulary_so.so", "voc_ended", 4, 256);
    for (uint32_t i = 0; i < 12; i++) {
        x.scalars[0] = i % 2;
        x.scalars[1] = i % 4 < 2 ? 0 : 1000000;
        run_team(&x, i % 2 ? 0 : TSM_ETASK_FAILED);
        if (i % 2 == 0) {
            assert_text(x.w, "rank 0 gives up");
        }
    }
    harness_close(x.w);
}

static void who_aborted_the_domain_is_the_cause_before_those_who_failed_of_it(void **state)
{
    (void)state;
    struct team x = open_team("vocabulary_so.so", "voc_abort_and_fail", 3, 256);
    for (uint32_t i = 0; i < 5; i++) {
        run_team(&x, TSM_ETASK_FAILED);
        assert_text(
            x.w,
            "failed: why rank 0 aborts\nthen: task 'voc_abort_and_fail' returned -16 TSM_EPEER");
    }
    harness_close(x.w);
}

static void every_wait_with_a_timeout_ends_with_it(void **state)
{
    (void)state;
    struct team x = open_team("vocabulary_so.so", "voc_timeouts", 2, 256);
    static const uint64_t times[] = {0, 1000, 3000000};
    for (uint32_t i = 0; i < COUNT(times); i++) {
        x.scalars[0] = 6;
        x.scalars[1] = times[i];
        run_team(&x, 0);
    }
    harness_close(x.w);
}

/* The program stays out of the library meanwhile: inside, it would look after sleepers that were forgotten. */
static void every_write_of_the_library_wakes_who_sleeps_for_it(void **state)
{
    (void)state;
    enum { WAKES = 18 };
    void *done;
    tsm_run *run;
    struct team x = open_team("vocabulary_so.so", "voc_wakes", 2, 512);
    assert_code(x.w, tsm_buffer_create(x.w, 64, &done), 0);
    x.scalars[0] = harness_count(50);
    x.scalars[1] = 150000;
    x.scalars[2] = help_pointer(done);
    assert_code(x.w, tsm_worker_submit_run(x.w, team_orch, &x, &run), 0);
    uint64_t end = harness_now_ns() + 60 * UINT64_C(1000000000), i = 0;
    while (i < x.scalars[0] * WAKES && harness_now_ns() < end) {
        poll(NULL, 0, 1);
        i = *(const volatile uint64_t *)done;
    }
    if (i < x.scalars[0] * WAKES) {
        fail_msg("nobody woke for the write of round %llu, kind %llu", (unsigned long long)i + 1,
                 (unsigned long long)(i + 1) % WAKES);
    }
    assert_code(x.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    harness_close(x.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_put_and_got_is_whole_in_every_size),
        TEST(strided_elements_land_apart_and_leave_the_gaps_alone),
        TEST(words_are_put_and_got_whole),
        TEST(who_sees_what_was_put_behind_a_fence_sees_what_was_before_it),
        TEST(who_sees_the_signal_of_a_put_sees_its_data),
        TEST(tests_and_waits_agree_on_every_comparison),
        TEST(waits_for_any_and_for_all_of_several_signals),
        TEST(atomics_answer_with_the_value_before),
        TEST(no_change_of_contended_words_is_lost),
        TEST(a_sub_group_has_its_own_ranks_over_the_same_windows),
        TEST(a_task_knows_names_buffers_and_size_of_its_domain),
        TEST(every_call_refuses_what_task_h_says_it_refuses),
        TEST(odd_arguments_are_refused_and_empty_ones_are_not),
        TEST(every_wait_ends_when_a_member_aborts_the_domain_or_fails),
        TEST(who_aborted_the_domain_is_the_cause_before_those_who_failed_of_it),
        TEST(every_wait_with_a_timeout_ends_with_it),
        TEST(every_write_of_the_library_wakes_who_sleeps_for_it),
    };
    return rig_test_both(tests, COUNT(tests));
}

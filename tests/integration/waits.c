/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What stands in the records: how many waits are written and how many elided; that elision holds when records are
 * skipped; edges to tasks of earlier runs that failed; rings that are full and records that wrap.
 */
#include "graph_help.h"

enum { A = 1, B, C, D, E };

/* ---- counting ---- */

/* Everything behind a held task, so that nothing is done before it is counted. */
static int chain_on_one_chip(tsm_orch *o, void *arg)
{
    (void)arg;
    struct tsm_stats before = stats_now();
    for (uint32_t i = 0; i < 10; i++) {
        give(o, (struct job){.chip = 0,
                             .gate = i == 0 ? 1 : 0,
                             .tensors = {VIEW(world.memory, 8, TSM_INOUT)}});
    }
    assert_waits(&before, 0, 9);
    open_gate(1);
    return 0;
}

static int readers_of_one_producer(tsm_orch *o, void *arg)
{
    (void)arg;
    struct tsm_stats before = stats_now();
    give(o, (struct job){.chip = 0, .gate = 1, .tensors = {VIEW(world.memory, 64, TSM_OUTPUT)}});
    for (uint32_t i = 0; i < 10; i++) {
        give(o, (struct job){.chip = 1, .tensors = {VIEW(world.memory + i, 8, TSM_INPUT)}});
    }
    assert_waits(&before, 1, 9);
    open_gate(1);
    return 0;
}

static int alternating_chain(tsm_orch *o, void *arg)
{
    (void)arg;
    struct tsm_stats before = stats_now();
    for (int i = 0; i < 10; i++) {
        give(o, (struct job){.chip = i % 2,
                             .gate = i == 0 ? 1 : 0,
                             .tensors = {VIEW(world.memory, 8, TSM_INOUT)}});
    }
    assert_waits(&before, 9, 0);
    open_gate(1);
    return 0;
}

/* One wait for each producing chip, the newest value; what an older value says is elided then. */
static int several_producers(tsm_orch *o, void *arg)
{
    (void)arg;
    uint8_t *m = world.memory;
    struct tsm_stats before = stats_now();
    give(o, (struct job){.chip = 0, .gate = 1, .tensors = {VIEW(m, 8, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 0, .tensors = {VIEW(m + 8, 8, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 0, .tensors = {VIEW(m + 16, 8, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 2, .gate = 2, .tensors = {VIEW(m + 24, 8, TSM_OUTPUT)}});
    assert_waits(&before, 0, 0);
    give(o, (struct job){.chip = 1, .tensors = {VIEW(m, 16, TSM_INPUT)}});
    assert_waits(&before, 1, 0); /* two tasks of one chip: one wait */
    give(o, (struct job){.chip = 1, .tensors = {VIEW(m, 8, TSM_INPUT)}});
    assert_waits(&before, 1, 1);
    give(o, (struct job){.chip = 1, .tensors = {VIEW(m, 32, TSM_INPUT)}});
    assert_waits(&before, 3, 1); /* a newer value of chip 0, and chip 2 */
    give(o, (struct job){.chip = 0, .tensors = {VIEW(m + 8, 24, TSM_INPUT)}});
    assert_waits(&before, 4, 2); /* its own chip: none */
    open_gate(1);
    open_gate(2);
    return 0;
}

static int subs_and_groups(tsm_orch *o, void *arg)
{
    (void)arg;
    uint8_t *m = world.memory;
    struct tsm_stats before = stats_now();
    give(o, (struct job){.chip = 0, .gate = 1, .tensors = {VIEW(m, 8, TSM_OUTPUT)}});
    struct job members[2] = {
        {.chip = 0, .tensors = {VIEW(m, 8, TSM_INPUT), VIEW(m + 8, 8, TSM_OUTPUT)}},
        {.chip = 1, .tensors = {VIEW(m + 16, 8, TSM_OUTPUT)}}};
    give_group(o, members, 2);
    assert_waits(&before, 1, 1); /* chip 0's member has the ring's order */
    give(o, (struct job){.chip = 2, .tensors = {VIEW(m + 8, 8, TSM_INPUT)}});
    assert_waits(&before, 3, 1); /* for both members */
    give(o, (struct job){.chip = TSM_SUB,
                         .gate = 2,
                         .tensors = {VIEW(m, 8, TSM_INPUT), VIEW(m + 24, 8, TSM_OUTPUT)}});
    assert_waits(&before, 4, 1);
    give(o, (struct job){.chip = 2, .tensors = {VIEW(m + 24, 8, TSM_INPUT)}});
    give(o, (struct job){.chip = 2, .tensors = {VIEW(m + 24, 8, TSM_INPUT)}});
    assert_waits(&before, 6, 1); /* done words of the pool imply nothing */
    open_gate(1);
    open_gate(2);
    return 0;
}

static int readers_of_what_is_done(tsm_orch *o, void *arg)
{
    (void)arg;
    give(o, (struct job){.chip = 0, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}});
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 8, TSM_READ), 0);
    struct tsm_stats before = stats_now();
    give(o, (struct job){.chip = 1, .tensors = {VIEW(world.memory, 8, TSM_INPUT)}});
    assert_waits(&before, 0, 0);
    return 0;
}

static void waits_are_written_once_and_elided_where_they_are_implied(void **state)
{
    (void)state;
    world_open(3, 1);
    world_run(chain_on_one_chip, NULL);
    world_run(readers_of_one_producer, NULL);
    world_run(alternating_chain, NULL);
    world_run(several_producers, NULL);
    world_run(subs_and_groups, NULL);
    world_run(readers_of_what_is_done, NULL);
    world_close();
}

/* ---- elision and failure ---- */

static int skipped_consumer(tsm_orch *o, void *arg)
{
    (void)arg;
    give(o, (struct job){
                .chip = 0, .value = A, .gate = 1, .tensors = {VIEW(world.memory, 8, TSM_INPUT)}});
    await_begin(A);
    give(o, (struct job){.chip = 1, .value = B, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 2, .value = C, .fails = true});
    return 0;
}

/* Only follows B: that B is over must mean that A is over, although B was skipped. */
static int behind_skipped(tsm_orch *o, void *arg)
{
    struct tsm_stats before = stats_now();
    (void)arg;
    give(o, (struct job){.chip = 2, .value = D, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}});
    assert_waits(&before, 1, 0);
    for (uint32_t i = 0; i < 100; i++) {
        give(o, (struct job){.chip = 3, .value = 100 + i});
        await_end(100 + i);
    }
    assert_false(has_begun(D));
    open_gate(1);
    return 0;
}

static void a_skipped_record_makes_its_waits_before_a_later_run_goes_on(void **state)
{
    (void)state;
    tsm_run *failing = NULL;
    world_open(4, 0);
    assert_code(world.w, tsm_worker_submit_run(world.w, skipped_consumer, NULL, &failing), 0);
    world_run(behind_skipped, NULL);
    assert_code(world.w, tsm_run_wait(failing, -1), TSM_ETASK_FAILED);
    tsm_run_release(failing);
    assert_order(A, D);
    assert_false(has_begun(B));
    world_close();
}

/* ---- a program that is held up ---- */

/* Opens gate 1 when the program has not got on for a while: it is held by the full ring. */
static int open_when_stuck(tsm_task *t)
{
    _Atomic uint64_t *submitted = tsm_task_data(t, 0);
    uint64_t seen = 0;
    uint64_t since = harness_now_ns();
    while (seen == 0 || harness_now_ns() - since < 50000000) {
        uint64_t now = atomic_load(submitted);
        since = now == seen ? since : harness_now_ns();
        seen = now;
        sched_yield();
    }
    atomic_store(submitted + 1, seen);
    return write(world.gates[0][1], "x", 1) == 1 ? 0 : TSM_ESYS;
}

static tsm_callable opener_callable;

/* The two words of the opener: how far the program is; how far it was when the gate was opened. */
static _Atomic uint64_t *give_opener(tsm_orch *o)
{
    struct tsm_tensor words = VIEW(world.memory + 4096, 16, TSM_NO_DEP);
    struct tsm_call opener = {
        .callable = opener_callable, .chip = 1, .tensors = &words, .tensor_count = 1};
    memset(words.data, 0, 16);
    assert_code(world.w, tsm_submit(o, &opener, NULL), 0);
    return words.data;
}

/* ---- edges to earlier runs ---- */

static tsm_task_id newest; /* of the last run of one job */

/* A run of one task; what it is told by `arg`. */
static int one_job(tsm_orch *o, void *arg)
{
    struct job *j = arg;
    return try_job(o, j, &newest);
}

static tsm_run *fly(struct job j)
{
    tsm_run *run = NULL;
    assert_code(world.w, tsm_worker_submit_run(world.w, one_job, &j, &run), 0);
    return run;
}

static void land(tsm_run *run, int code)
{
    assert_code(world.w, tsm_run_wait(run, -1), code);
    tsm_run_release(run);
}

static void who_reads_what_failed_tasks_of_two_runs_wrote_fails(void **state)
{
    (void)state;
    world_open(2, 0);
    uint8_t *m = world.memory;
    for (int second_fails = 0; second_fails < 2; second_fails++) {
        clear_diary();
        /* All of it in flight when the reader is submitted, both writers on one timeline. */
        tsm_run *first = fly((struct job){
            .chip = 0, .gate = 1, .fails = !second_fails, .tensors = {VIEW(m, 8, TSM_OUTPUT)}});
        tsm_run *second = fly((struct job){
            .chip = 0, .fails = second_fails, .tensors = {VIEW(m + 8, 8, TSM_OUTPUT)}});
        tsm_run *reader =
            fly((struct job){.chip = 1, .value = A, .tensors = {VIEW(m, 16, TSM_INPUT)}});
        open_gate(1);
        land(reader, TSM_EUPSTREAM_FAILED);
        assert_false(has_begun(A));
        land(first, second_fails ? 0 : TSM_ETASK_FAILED);
        land(second, second_fails ? TSM_ETASK_FAILED : 0);
        /* Written anew it is good again. */
        land(fly((struct job){.chip = 1, .tensors = {VIEW(m, 16, TSM_OUTPUT)}}), 0);
        land(fly((struct job){.chip = 0, .tensors = {VIEW(m, 16, TSM_INPUT)}}), 0);
    }
    world_close();
}

/* One member fails, or a sub worker's task does, in a run that is in flight or over. */
static int failing_group(tsm_orch *o, void *arg)
{
    bool subs = *(bool *)arg;
    struct job members[2] = {{.chip = subs ? TSM_SUB : 0,
                              .value = B,
                              .gate = 1,
                              .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}},
                             {.chip = subs ? TSM_SUB : 1, .value = C, .gate = 2, .fails = true}};
    clear_diary();
    return try_group(o, members, 2, NULL);
}

static void who_reads_what_a_group_wrote_that_failed_fails(void **state)
{
    (void)state;
    world_open(3, 2);
    for (int i = 0; i < 4; i++) {
        bool subs = i % 2;
        tsm_run *group = NULL;
        struct job reads = {.chip = 2, .value = A, .tensors = {VIEW(world.memory, 1, TSM_INPUT)}};
        assert_code(world.w, tsm_worker_submit_run(world.w, failing_group, &subs, &group), 0);
        await_begin(B);
        open_gate(2);
        await_end(C);
        if (i < 2) {
            tsm_run *reader = fly(reads);
            open_gate(1);
            land(reader, TSM_EUPSTREAM_FAILED);
            land(group, TSM_ETASK_FAILED);
        } else {
            open_gate(1);
            land(group, TSM_ETASK_FAILED);
            assert_code(world.w, tsm_worker_run(world.w, one_job, &reads), TSM_EUPSTREAM_FAILED);
        }
        assert_false(has_begun(A));
        land(fly((struct job){.chip = 0, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}}), 0);
    }
    world_close();
}

/* More sub tasks than a record carries waits for: the rest is waited for at submit. */
enum { MANY = 200 };

static int many_producers(tsm_orch *o, void *arg)
{
    uint32_t fails = *(uint32_t *)arg;
    clear_diary();
    _Atomic uint64_t *submitted = give_opener(o);
    tsm_task_id gate = give(o, (struct job){.chip = 0, .value = A, .gate = 1});
    for (uint32_t i = 0; i < MANY; i++) {
        give(o, (struct job){.chip = TSM_SUB,
                             .value = 10 + i,
                             .fails = i == fails,
                             .after = {gate},
                             .tensors = {VIEW(world.memory + i, 1, TSM_OUTPUT)}});
    }
    atomic_store(submitted, MANY);
    struct job reads = {.chip = 2, .value = B, .tensors = {VIEW(world.memory, MANY, TSM_INPUT)}};
    return try_job(o, &reads, NULL);
}

static void a_consumer_of_more_sub_tasks_than_waits_fit_follows_all(void **state)
{
    (void)state;
    world_make(3, 2);
    opener_callable = harness_register(world.w, "open_when_stuck", open_when_stuck);
    world_start();
    for (uint32_t k = 0; k < harness_count(20); k++) {
        uint32_t fails = k % 2 ? k * 37 % MANY : UINT32_MAX;
        int rc = tsm_worker_run(world.w, many_producers, &fails);
        assert_code(world.w, rc, k % 2 ? TSM_ETASK_FAILED : 0);
        for (uint32_t i = 0; i < MANY && k % 2 == 0; i++) {
            assert_order(10 + i, B);
        }
        assert_int_equal(has_begun(B), k % 2 == 0);
    }
    world_close();
}

/* Reading makes a data edge; writing, and an explicit edge, only an order. */
static void order_without_data_does_not_carry_a_failure_into_another_run(void **state)
{
    (void)state;
    static const int places[] = {0, TSM_SUB};
    world_open(2, 1);
    for (uint32_t i = 0; i < 2; i++) {
        clear_diary();
        struct job fails = {.chip = places[i],
                            .value = A,
                            .gate = 1,
                            .fails = true,
                            .tensors = {VIEW(world.memory, 8, TSM_INOUT)}};
        tsm_run *failing = fly(fails);
        await_begin(A);
        tsm_run *follower = fly((struct job){.chip = 1, .value = B, .after = {newest}});
        tsm_run *writer = fly(
            (struct job){.chip = 1, .value = C, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}});
        open_gate(1);
        land(follower, 0);
        land(writer, 0);
        land(failing, TSM_ETASK_FAILED);
        assert_order(A, B);
        assert_order(A, C);
    }
    world_close();
}

static int read_of_the_failed(tsm_orch *o, void *arg)
{
    uint8_t byte;
    (void)arg;
    assert_code(world.w, tsm_copy_from(o, TSM_HOST, &byte, world.memory + 7, 1),
                TSM_EUPSTREAM_FAILED);
    assert_text(world.w, "run 1");
    assert_code(world.w, tsm_copy_from(o, TSM_HOST, &byte, world.memory + 8, 1), 0);
    assert_code(world.w, tsm_copy_to(o, TSM_HOST, world.memory + 6, "ab", 2), 0);
    return 0;
}

static void a_copy_of_what_a_failed_task_should_have_written_is_refused(void **state)
{
    (void)state;
    world_open(2, 0);
    tsm_run *failing =
        fly((struct job){.chip = 0, .fails = true, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}});
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 8, TSM_READ), TSM_EUPSTREAM_FAILED);
    world_run(read_of_the_failed, NULL);
    land(failing, TSM_ETASK_FAILED);
    /* Also when the failed run is long over. */
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 8, TSM_READ), TSM_EUPSTREAM_FAILED);
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 8, TSM_WRITE), 0);
    world_close();
}

static int read_of_own_failure(tsm_orch *o, void *arg)
{
    uint8_t byte;
    give(o, (struct job){.chip = 0, .fails = true, .tensors = {VIEW(world.memory, 8, TSM_OUTPUT)}});
    int rc = tsm_copy_from(o, TSM_HOST, &byte, world.memory, 1);
    *(int *)arg = rc;
    struct job j = {.chip = 1, .value = A, .tensors = {VIEW(world.memory, 8, TSM_INPUT)}};
    assert_code(world.w, try_job(o, &j, NULL), TSM_EABORTED);
    return rc;
}

static void within_one_run_a_failure_is_an_abort(void **state)
{
    (void)state;
    world_open(2, 0);
    for (uint32_t i = 0; i < harness_count(200); i++) {
        int rc = 0;
        assert_code(world.w, tsm_worker_run(world.w, read_of_own_failure, &rc), TSM_ETASK_FAILED);
        assert_int_equal(rc, TSM_EABORTED);
        assert_text(world.w, "as it was told");
        assert_false(has_begun(A));
    }
    world_close();
}

/* ---- full rings ---- */

enum { ODD_SIZES = 61 };

/* Checks that it comes in the order of its ring and that nothing of it was overwritten. */
static int numbered(tsm_task *t)
{
    uint64_t *counter = tsm_task_data(t, 0);
    uint64_t n = tsm_task_scalar(t, 0);
    for (uint32_t i = 1; i < tsm_task_scalar_count(t); i++) {
        if (tsm_task_scalar(t, i) != n * 1000 + i) {
            return tsm_fail(t, "scalar %u of task %llu is damaged", i, (unsigned long long)n);
        }
    }
    if (tsm_task_chip(t) >= (int)world.chips) {
        atomic_fetch_add((atomic_ullong *)counter, 1);
    } else if (*counter != n) {
        return tsm_fail(t, "task %llu comes as number %llu", (unsigned long long)n,
                        (unsigned long long)*counter);
    } else {
        *counter = n + 1;
    }
    return 0;
}

static tsm_callable numbered_callable;

static int fill_ring(tsm_orch *o, void *arg)
{
    int chip = *(int *)arg;
    uint32_t tasks = harness_count(100000);
    static uint64_t scalars[2000];
    struct tsm_tensor counter = VIEW(world.memory + 64, 8, TSM_NO_DEP);
    tasks = tasks > 200000 ? 200000 : tasks;
    memset(world.memory, 0, 128);
    _Atomic uint64_t *submitted = give_opener(o);
    give(o, (struct job){.chip = chip, .gate = 1});
    for (uint64_t n = 0; n < tasks; n++) {
        struct tsm_call call = {.callable = numbered_callable,
                                .chip = chip,
                                .tensors = &counter,
                                .tensor_count = 1,
                                .scalars = scalars,
                                .scalar_count = n % 1009 == 5 ? 2000
                                                : n % 7       ? 1
                                                              : 1 + (uint32_t)(n % ODD_SIZES)};
        scalars[0] = n;
        for (uint32_t i = 1; i < call.scalar_count; i++) {
            scalars[i] = n * 1000 + i;
        }
        int rc = tsm_submit(o, &call, NULL);
        if (rc != 0) {
            return rc;
        }
        atomic_store(submitted, n + 1);
    }
    assert_int_equal(atomic_load(submitted), tasks);
    assert_in_range(atomic_load(submitted + 1), 100, tasks - 1);
    return 0;
}

static void a_full_ring_holds_the_program_back_and_loses_nothing(void **state)
{
    (void)state;
    static int places[] = {0, TSM_SUB};
    world_make(2, 2);
    numbered_callable = harness_register(world.w, "numbered", numbered);
    opener_callable = harness_register(world.w, "open_when_stuck", open_when_stuck);
    world_start();
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t tasks = harness_count(100000);
        world_run(fill_ring, &places[i]);
        assert_int_equal(*(uint64_t *)(world.memory + 64), tasks > 200000 ? 200000 : tasks);
    }
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(waits_are_written_once_and_elided_where_they_are_implied),
        TEST(a_skipped_record_makes_its_waits_before_a_later_run_goes_on),
        TEST(who_reads_what_failed_tasks_of_two_runs_wrote_fails),
        TEST(who_reads_what_a_group_wrote_that_failed_fails),
        TEST(a_consumer_of_more_sub_tasks_than_waits_fit_follows_all),
        TEST(order_without_data_does_not_carry_a_failure_into_another_run),
        TEST(a_copy_of_what_a_failed_task_should_have_written_is_refused),
        TEST(within_one_run_a_failure_is_an_abort),
        TEST(a_full_ring_holds_the_program_back_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

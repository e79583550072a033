/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Marks between threads: chips execute records of their rings with the functions of src/chip. A consumer of a task that
 * failed or was skipped never begins; one of a task that succeeded sees all that it wrote. Test process.
 */
#include "threads/rig.h"

enum { CHIPS = 3, RUNS = 20000, IN_FLIGHT = 40 };

static struct rig rig;
/* By run: what each chip's task of the run wrote. Plain memory, ordered by the timelines alone. */
static uint64_t wrote[CHIPS][RUNS + 1];
static uint64_t wrong[CHIPS];

static bool fails(uint64_t run)
{
    return run % 3 == 0;
}

/* On chip k: reads what chip k - 1 wrote in this run. */
static int step(tsm_task *t)
{
    int chip = tsm_task_chip(t);
    uint64_t run = tsm_task_run(t);
    if (chip == 0) {
        wrote[0][run] = run * 10;
        return fails(run) ? tsm_fail(t, "run %llu is to fail", (unsigned long long)run) : 0;
    }
    wrong[chip] += wrote[chip - 1][run] != run * 10 + (uint64_t)chip - 1;
    wrote[chip][run] = run * 10 + (uint64_t)chip;
    return 0;
}

static int look_ring(void *ctx)
{
    struct chip *c = ctx;
    return ring_peek(&c->reader) != NULL;
}

static void *chip_thread(void *arg)
{
    struct chip *c = arg;
    for (uint64_t n = 1; n <= RUNS; n++) {
        struct want want = {.kind = WAIT_RING, .place = c->place, .value = n};
        wait_for(&c->waiter, &want, look_ring, c);
        const struct record *rec = ring_peek(&c->reader);
        record_execute(c, rec, n);
        ring_advance(&c->reader, rec);
        timeline_advance(&c->arena, c->page, c->place, n);
    }
    return NULL;
}

/* What the orchestrator reads at the end of a run. */
static void check_run(uint64_t run)
{
    for (uint32_t p = 0; p < CHIPS; p++) {
        rig_wait_word(&rig, p, run);
        const struct mark *m = &arena_page(&rig.a, p)->mark[run % RUN_SLOTS];
        bool marked = a64_acquire(&m->run) == run;
        assert_int_equal(marked, fails(run));
        if (marked) {
            assert_int_equal(m->code, p == 0 ? TSM_ETASK_FAILED : 0);
            assert_int_equal(m->first_bad, run);
            assert_int_equal(a64_load(&m->skipped), p == 0 ? 0 : 1);
            assert_true(p > 0 || strstr(m->text, "is to fail"));
        }
        assert_int_equal(wrote[p][run], fails(run) && p > 0 ? 0 : run * 10 + p);
    }
}

static void a_consumer_of_a_failed_task_never_begins(void **state)
{
    (void)state;
    pthread_t threads[CHIPS];
    rig_open(&rig, CHIPS, 0, 300);
    rig_callable(&rig, 0, step);
    for (uint32_t p = 0; p < CHIPS; p++) {
        assert_int_equal(pthread_create(&threads[p], NULL, chip_thread, &rig.chips[p]), 0);
    }
    for (uint64_t run = 1; run <= RUNS; run++) {
        if (run > IN_FLIGHT) {
            check_run(run - IN_FLIGHT);
        }
        a64_release(&rig.a.ctl->runs, run);
        for (uint32_t p = 0; p < CHIPS; p++) {
            struct record_wait wait = {p - 1, (uint32_t)run, run};
            assert_true(rig_submit(&rig, p, run, run, &wait, p > 0, timeline_read(&rig.a, p)));
        }
    }
    for (uint64_t run = RUNS - IN_FLIGHT + 1; run <= RUNS; run++) {
        check_run(run);
    }
    for (uint32_t p = 0; p < CHIPS; p++) {
        pthread_join(threads[p], NULL);
        assert_int_equal(wrong[p], 0);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_consumer_of_a_failed_task_never_begins)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

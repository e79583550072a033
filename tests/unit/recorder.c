/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/shm/recorder.h: what is kept, what is overwritten. Test process. */
#include <string.h>

#include "harness.h"
#include "shm/recorder.h"

static void the_newest_events_are_there_and_the_oldest_are_not(void **state)
{
    (void)state;
    static struct recorder r;
    struct event e;
    memset(&r, 0, sizeof(r));
    recorder_init(&r);
    assert_int_not_equal(r.ns, 0);
    assert_int_equal(recorder_read(&r, 0, &e), 0);
    for (uint64_t n = 0; n < 3 * EVENTS + 5; n++) {
        recorder_write(&r, EVENT_TASK, n * 2, n * 2 + 1, n * 3, (uint32_t)n);
        assert_int_equal(recorder_read(&r, n + 1, &e), 0);
        uint64_t oldest = n >= EVENTS - 1 ? n - EVENTS + 2 : 0;
        for (uint64_t k = oldest; k <= n; k += n - k > 3 ? (n - k) / 2 : 1) {
            assert_int_equal(recorder_read(&r, k, &e), 1);
            assert_int_equal(e.begin, k * 2);
            assert_int_equal(e.end, k * 2 + 1);
            assert_int_equal(e.task, k * 3);
            assert_int_equal(e.callable, (uint32_t)k);
            assert_int_equal(e.kind, EVENT_TASK);
        }
        if (oldest > 0) {
            assert_int_equal(recorder_read(&r, oldest - 1, &e), 0);
        }
    }
    assert_int_equal(recorder_read(&r, UINT64_MAX, &e), 0);
}

static void a_count_that_is_nonsense_reads_nothing_wild(void **state)
{
    (void)state;
    static struct recorder r;
    struct event e;
    struct harness_random random;
    harness_random_init(&random, 3);
    for (int i = 0; i < 1000; i++) {
        a64_store(&r.count, harness_random(&random));
        uint64_t n = harness_random(&random);
        (void)recorder_read(&r, n, &e);
        (void)recorder_read(&r, r.count - 1, &e);
    }
    assert_int_equal(recorder_read(&r, r.count, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_newest_events_are_there_and_the_oldest_are_not),
        TEST(a_count_that_is_nonsense_reads_nothing_wild),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

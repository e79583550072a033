/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The event ring with a reader that looks while events are written: what it gets is whole. Test process. */
#include <pthread.h>
#include <string.h>

#include "harness.h"
#include "shm/recorder.h"

enum { COUNT = 200000 };

static struct recorder shared;

static void *write_all(void *arg)
{
    (void)arg;
    for (uint64_t n = 0; n < COUNT; n++) {
        recorder_write(&shared, EVENT_TASK, n * 5, n * 5 + 1, n * 7, (uint32_t)n);
    }
    return NULL;
}

static bool whole(const struct event *e, uint64_t n)
{
    return a64_load(&e->begin) == n * 5 && a64_load(&e->end) == n * 5 + 1 &&
           a64_load(&e->task) == n * 7 && a32_load(&e->callable) == (uint32_t)n &&
           a32_load(&e->kind) == EVENT_TASK;
}

static void what_is_read_beside_the_writer_is_whole(void **state)
{
    (void)state;
    pthread_t writer;
    struct event e;
    uint64_t got = 0, wrong = 0, count = 0;
    memset(&shared, 0, sizeof(shared));
    assert_int_equal(pthread_create(&writer, NULL, write_all, NULL), 0);
    while (count < COUNT) {
        count = a64_acquire(&shared.count);
        /* The oldest that may still be there, one in the middle, the newest. */
        const uint64_t at[] = {count > EVENTS - 1 ? count - EVENTS + 1 : 0, count - count % 500,
                               count ? count - 1 : 0};
        for (int i = 0; i < 3; i++) {
            if (recorder_read(&shared, at[i], &e)) {
                got++;
                wrong += !whole(&e, at[i]);
            }
        }
    }
    pthread_join(writer, NULL);
    assert_int_equal(wrong, 0);
    assert_true(got > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(what_is_read_beside_the_writer_is_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

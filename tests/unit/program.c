/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/keeper/program.c: what a spawned keeper is told. Test process. */
#include "keeper/program.h"

#include <string.h>

#include "harness.h"

static void arguments_come_back_as_they_went(void **state)
{
    (void)state;
    struct keeper_args x = {.base = UINT64_MAX,
                            .bytes = UINT64_C(1) << 44,
                            .fd = {3, 4, 5, 2147483647},
                            .ro_fd = {6, 7, -1, -1},
                            .event_fd = 8,
                            .lifeline_fd = 9,
                            .orchestrator = 4194304,
                            .pin = 2};
    struct keeper_args y;
    char text[KEEPER_ARGS_BYTES];
    memset(&y, 0xff, sizeof(y));
    keeper_args_write(&x, text);
    assert_int_equal(keeper_args_read(&y, text), 0);
    assert_true(x.base == y.base && x.bytes == y.bytes && x.event_fd == y.event_fd);
    assert_true(x.lifeline_fd == y.lifeline_fd && x.orchestrator == y.orchestrator &&
                x.pin == y.pin);
    assert_memory_equal(x.fd, y.fd, sizeof(x.fd));
    assert_memory_equal(x.ro_fd, y.ro_fd, sizeof(x.ro_fd));
}

static void other_text_is_refused(void **state)
{
    (void)state;
    struct keeper_args y;
    static const char *const bad[] = {"", "1", "--help", "1 2 3 4 5 6 7 8 9 10 11 12 13",
                                      "1 2 3 4 5 6 7 8 9 10 11 12 13 x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(keeper_args_read(&y, bad[i]), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(arguments_come_back_as_they_went),
        TEST(other_text_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

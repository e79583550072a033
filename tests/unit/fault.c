/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/base/fault.c: what can be asked for, and when it fires. Test process. */
#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static void what_cannot_be_read_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"x",
                                      "x:",
                                      ":kill",
                                      "x:die",
                                      "x:kill:0",
                                      "x:kill:-1",
                                      "x:kill:one",
                                      "x:kill:1:a",
                                      "x:kill:1:-3",
                                      "x:fail",
                                      "x:fail=",
                                      "x:fail=0",
                                      "x:fail=-5",
                                      "x:fail=1x",
                                      "x:delay=",
                                      "x:delay=-1",
                                      "x:kill:1:0:9",
                                      "x:kill,y",
                                      "x:kill:99999999999999999999",
                                      "x:killed",
                                      "x:fail=12 :1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (fault_arm(bad[i]) != -EINVAL) {
            fail_msg("'%s' was taken", bad[i]);
        }
        assert_false(fault_armed);
        assert_int_equal(TSM_FAULT("x"), 0);
    }
    char many[400] = "a:fail=1";
    for (int i = 0; i < 16; i++) {
        strcat(many, ",a:fail=1");
    }
    assert_int_equal(fault_arm(many), -EINVAL);
    char large[2000];
    memset(large, 'a', sizeof(large));
    large[sizeof(large) - 1] = 0;
    assert_int_equal(fault_arm(large), -EINVAL);
    memcpy(large + 900, ":kill", 6);
    assert_int_equal(fault_arm(large), -EINVAL);
    assert_int_equal(fault_arm(NULL), 0);
    assert_int_equal(fault_arm(""), 0);
    assert_false(fault_armed);
}

static void a_failure_comes_once_at_its_time(void **state)
{
    (void)state;
    assert_int_equal(fault_arm("x:fail=5:3,y:fail=7,x:fail=6:5"), 0);
    assert_true(fault_armed);
    assert_int_equal(TSM_FAULT("z"), 0);
    assert_int_equal(TSM_FAULT("x"), 0);
    assert_int_equal(TSM_FAULT("x"), 0);
    assert_int_equal(fault_fired(), 0);
    assert_int_equal(TSM_FAULT("x"), 5);
    assert_int_equal(fault_fired(), 1);
    assert_int_equal(TSM_FAULT("x"), 0);
    assert_int_equal(TSM_FAULT("y"), 7);
    assert_int_equal(TSM_FAULT("y"), 0);
    assert_int_equal(fault_fired(), 2);
    errno = 0;
    assert_int_equal(fault_sys("x"),
                     0); /* its fourth time was the 5; the 6 did not count that one */
    assert_int_equal(errno, 0);
    assert_int_equal(fault_sys("x"), 6);
    assert_int_equal(errno, 6);
    fault_arm(NULL);
    assert_int_equal(fault_fired(), 0);
}

static void a_fault_fires_in_its_place_only(void **state)
{
    (void)state;
    assert_int_equal(fault_arm("x:fail=5:1:3,x:fail=6:1:-2"), 0);
    assert_int_equal(TSM_FAULT("x"), 0);
    fault_here(3, NULL);
    assert_int_equal(TSM_FAULT("x"), 5);
    fault_here(FAULT_PLACE_KEEPER, NULL);
    assert_int_equal(TSM_FAULT("x"), 6);
    fault_here(FAULT_PLACE_ORCHESTRATOR, NULL);
    assert_int_equal(TSM_FAULT("x"), 0);
    fault_arm(NULL);
}

static void a_new_process_counts_from_its_beginning(void **state)
{
    (void)state;
    assert_int_equal(fault_arm("x:fail=5:3"), 0);
    assert_int_equal(TSM_FAULT("x"), 0);
    assert_int_equal(TSM_FAULT("x"), 0);
    fault_here(1, NULL);
    assert_int_equal(TSM_FAULT("x"), 0);
    assert_int_equal(TSM_FAULT("x"), 0);
    assert_int_equal(TSM_FAULT("x"), 5);
    fault_here(FAULT_PLACE_ORCHESTRATOR, NULL);
    fault_arm(NULL);
}

static void what_fired_is_shared_and_survives_the_sharing(void **state)
{
    (void)state;
    a32 bits = 0;
    assert_int_equal(fault_arm("x:fail=5,y:fail=6"), 0);
    assert_int_equal(TSM_FAULT("x"), 5);
    fault_here(FAULT_PLACE_ORCHESTRATOR, &bits);
    assert_int_equal(bits, 1);
    a32_store(&bits, 3); /* the other fired elsewhere */
    assert_int_equal(TSM_FAULT("y"), 0);
    assert_int_equal(fault_fired(), 2);
    fault_here(FAULT_PLACE_ORCHESTRATOR, NULL);
    a32_store(&bits, 0);
    assert_int_equal(fault_fired(), 2);
    fault_arm(NULL);
}

static void a_delay_comes_each_time(void **state)
{
    (void)state;
    assert_int_equal(fault_arm("x:delay=3000:2"), 0);
    uint64_t begin = harness_now_ns();
    TSM_FAULT("x");
    TSM_FAULT("x");
    TSM_FAULT("x");
    assert_true(harness_now_ns() - begin >= 6000000);
    assert_int_equal(fault_fired(), 1);
    fault_arm(NULL);
}

static void a_kill_kills_and_a_stop_stops(void **state)
{
    (void)state;
    int status = 0;
    assert_int_equal(fault_arm("x:kill:2,y:stop"), 0);
    pid_t pid = fork();
    if (pid == 0) {
        TSM_FAULT("x");
        TSM_FAULT("y");
        TSM_FAULT("x");
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    kill(pid, SIGCONT);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    fault_arm(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_cannot_be_read_is_refused),
        TEST(a_failure_comes_once_at_its_time),
        TEST(a_fault_fires_in_its_place_only),
        TEST(a_new_process_counts_from_its_beginning),
        TEST(what_fired_is_shared_and_survives_the_sharing),
        TEST(a_delay_comes_each_time),
        TEST(a_kill_kills_and_a_stop_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

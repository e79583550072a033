/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/base/sys.c: each call is counted and can be made to fail; a failed one leaves nothing. Test process. */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "harness.h"

static void every_call_has_its_name(void **state)
{
    (void)state;
    for (int i = 0; i < SYS_CALLS; i++) {
        assert_non_null(sys_name((enum sys_call)i));
        assert_memory_equal(sys_name((enum sys_call)i), "sys.", 4);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(sys_name((enum sys_call)i), sys_name((enum sys_call)k));
        }
    }
}

/* Makes one call of this kind; -1 when it failed. What it made is taken down again. */
static int make(enum sys_call call)
{
    static a32 word;
    int fds[2];
    int fd = -1;
    struct pollfd none = {.fd = -1};
    sigset_t set;
    sigemptyset(&set);
    switch (call) {
    case SYS_CALL_MMAP: {
        void *p = sys_mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p ? sys_munmap(p, 4096) : -1;
    }
    case SYS_CALL_MEMFD:
    case SYS_CALL_FTRUNCATE:
    case SYS_CALL_SEAL:
        fd = sys_memfd("transom-test", 4096);
        break;
    case SYS_CALL_OPEN:
        fd = sys_open("/dev/null", O_RDONLY);
        break;
    case SYS_CALL_EVENTFD:
        fd = sys_eventfd();
        break;
    case SYS_CALL_SIGNALFD:
        fd = sys_signalfd(&set);
        break;
    case SYS_CALL_PIDFD:
        fd = sys_pidfd(getpid());
        break;
    case SYS_CALL_PIPE:
        if (sys_pipe(fds) != 0) {
            return -1;
        }
        close(fds[1]);
        fd = fds[0];
        break;
    case SYS_CALL_POLL:
        return sys_poll(&none, 1, 0);
    case SYS_CALL_KILL:
        return sys_kill(getpid(), 0);
    case SYS_CALL_FUTEX_WAIT:
        sys_futex_wait(&word, 1, 1000);
        return 0;
    case SYS_CALL_FUTEX_WAKE:
        sys_futex_wake(&word);
        return 0;
    default:
        return 0;
    }
    sys_close(fd);
    return fd < 0 ? -1 : 0;
}

static void each_call_is_counted_and_can_fail(void **state)
{
    (void)state;
    static const enum sys_call calls[] = {SYS_CALL_MMAP,     SYS_CALL_MEMFD, SYS_CALL_FTRUNCATE,
                                          SYS_CALL_SEAL,     SYS_CALL_OPEN,  SYS_CALL_EVENTFD,
                                          SYS_CALL_SIGNALFD, SYS_CALL_PIDFD, SYS_CALL_PIPE,
                                          SYS_CALL_POLL,     SYS_CALL_KILL};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        char spec[64];
        uint64_t before = sys_count(calls[i]);
        uint64_t all = sys_count_all();
        assert_int_equal(make(calls[i]), 0);
        assert_int_equal(sys_count(calls[i]), before + 1);
        assert_true(sys_count_all() > all);
        snprintf(spec, sizeof(spec), "%s:fail=%d", sys_name(calls[i]), EDQUOT);
        assert_int_equal(fault_arm(spec), 0);
        uint32_t fds = harness_fds();
        errno = 0;
        assert_int_equal(make(calls[i]), -1);
        assert_int_equal(errno, EDQUOT);
        assert_int_equal(harness_fds(), fds);
        assert_int_equal(make(calls[i]), 0);
        fault_arm(NULL);
    }
}

static void a_wake_and_an_event_that_fail_are_made_again(void **state)
{
    (void)state;
    int fd = sys_eventfd();
    uint64_t count = 0;
    assert_int_equal(fault_arm("sys.write:fail=4,sys.futex_wake:fail=14"), 0);
    sys_event_signal(fd);
    assert_int_equal(read(fd, &count, sizeof(count)), (ssize_t)sizeof(count));
    assert_int_equal(count, 1);
    uint64_t before = sys_count(SYS_CALL_FUTEX_WAKE);
    make(SYS_CALL_FUTEX_WAKE);
    assert_int_equal(sys_count(SYS_CALL_FUTEX_WAKE), before + 2);
    assert_int_equal(fault_fired(), 2);
    fault_arm(NULL);
    close(fd);
}

static void a_poll_that_was_interrupted_found_nothing(void **state)
{
    (void)state;
    struct pollfd none = {.fd = -1};
    assert_int_equal(fault_arm("sys.poll:fail=4"), 0);
    assert_int_equal(sys_poll(&none, 1, -1), 0);
    fault_arm(NULL);
}

static void a_dead_child_is_reaped_without_waiting(void **state)
{
    (void)state;
    int status = 0;
    errno = 0;
    assert_int_equal(sys_reap(-1, &status), -1);
    assert_int_equal(errno, ECHILD);
    int gate[2];
    assert_int_equal(sys_pipe(gate), 0);
    pid_t pid = sys_fork();
    if (pid == 0) {
        char c;
        close(gate[1]);
        _exit(read(gate[0], &c, 1) == 0 ? 3 : 4);
    }
    close(gate[0]);
    assert_int_equal(sys_reap(-1, &status), 0);
    close(gate[1]);
    pid_t got = 0;
    while (got == 0) {
        got = sys_reap(pid, &status);
    }
    assert_int_equal(got, pid);
    assert_int_equal(WEXITSTATUS(status), 3);
}

static void a_spawned_program_keeps_the_named_descriptors_only(void **state)
{
    (void)state;
    int fds[2];
    int status = 0;
    char out[64] = "";
    char script[96];
    assert_int_equal(sys_pipe(fds), 0);
    int other = sys_open("/dev/null", O_RDONLY);
    snprintf(script, sizeof(script), "echo kept >&%d; test ! -e /dev/fd/%d", fds[1], other);
    char sh[] = "sh", c[] = "-c";
    char *argv[] = {sh, c, script, NULL};
    char *envp[] = {NULL};
    pid_t pid = sys_spawn("/bin/sh", argv, envp, &fds[1], 1);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(read(fds[0], out, sizeof(out) - 1), 5);
    assert_string_equal(out, "kept\n");
    errno = 0;
    assert_int_equal(sys_spawn("/nowhere/to/be/found", argv, envp, NULL, 0), -1);
    assert_int_equal(errno, ENOENT);
    close(fds[0]);
    close(fds[1]);
    close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_call_has_its_name),
        TEST(each_call_is_counted_and_can_fail),
        TEST(a_wake_and_an_event_that_fail_are_made_again),
        TEST(a_poll_that_was_interrupted_found_nothing),
        TEST(a_dead_child_is_reaped_without_waiting),
        TEST(a_spawned_program_keeps_the_named_descriptors_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

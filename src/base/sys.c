/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The system-call table: one place that counts the calls and lets a test fail any of them. Runs in every
 * process; owns the per-process counters and nothing else. docs/base.md.
 */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"

enum { TRIES = 4 }; /* of a call whose failure nobody could be told */

static const char *const names[SYS_CALLS] = {
    [SYS_CALL_FORK] = "sys.fork",
    [SYS_CALL_SPAWN] = "sys.spawn",
    [SYS_CALL_MMAP] = "sys.mmap",
    [SYS_CALL_MUNMAP] = "sys.munmap",
    [SYS_CALL_MEMFD] = "sys.memfd",
    [SYS_CALL_FTRUNCATE] = "sys.ftruncate",
    [SYS_CALL_SEAL] = "sys.seal",
    [SYS_CALL_PUNCH] = "sys.punch",
    [SYS_CALL_OPEN] = "sys.open",
    [SYS_CALL_PIPE] = "sys.pipe",
    [SYS_CALL_EVENTFD] = "sys.eventfd",
    [SYS_CALL_SIGNALFD] = "sys.signalfd",
    [SYS_CALL_PIDFD] = "sys.pidfd",
    [SYS_CALL_POLL] = "sys.poll",
    [SYS_CALL_WAIT] = "sys.wait",
    [SYS_CALL_KILL] = "sys.kill",
    [SYS_CALL_FUTEX_WAIT] = "sys.futex_wait",
    [SYS_CALL_FUTEX_WAKE] = "sys.futex_wake",
    [SYS_CALL_WRITE] = "sys.write",
};

/* Several workers may live in threads of one process; the sums need no order. */
static a64 counts[SYS_CALLS];

/* Counts the call; nonzero when a fault says that it is to fail, with errno set. */
static int enter(enum sys_call call)
{
    atomic_fetch_add_explicit(&counts[call], 1, memory_order_relaxed);
    return fault_sys(names[call]);
}

uint64_t sys_count(enum sys_call call)
{
    return a64_load(&counts[call]);
}

uint64_t sys_count_all(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < SYS_CALLS; i++) {
        sum += a64_load(&counts[i]);
    }
    return sum;
}

const char *sys_name(enum sys_call call)
{
    return names[call];
}

pid_t sys_fork(void)
{
    return enter(SYS_CALL_FORK) ? -1 : fork();
}

pid_t sys_spawn(const char *path, char *const argv[], char *const envp[], const int *keep_fds,
                uint32_t keep_count)
{
    if (enter(SYS_CALL_SPAWN)) {
        return -1;
    }
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        errno = rc;
        return -1;
    }
    for (uint32_t i = 0; rc == 0 && i < keep_count; i++) {
        /* A descriptor duplicated onto itself loses close-on-exec: glibc >= 2.29. */
        rc = posix_spawn_file_actions_adddup2(&actions, keep_fds[i], keep_fds[i]);
    }
    pid_t pid = -1;
    if (rc == 0) {
        rc = posix_spawn(&pid, path, &actions, NULL, argv, envp);
    }
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        errno = rc;
        return -1;
    }
    return pid;
}

void *sys_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    if (enter(SYS_CALL_MMAP)) {
        return NULL;
    }
    void *p = mmap(addr, bytes, prot, flags, fd, offset);
    return p == MAP_FAILED ? NULL : p;
}

int sys_munmap(void *addr, size_t bytes)
{
    return enter(SYS_CALL_MUNMAP) ? -1 : munmap(addr, bytes);
}

int sys_memfd(const char *name, uint64_t bytes)
{
    if (enter(SYS_CALL_MEMFD)) {
        return -1;
    }
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -1;
    }
    if (enter(SYS_CALL_FTRUNCATE) || ftruncate(fd, (off_t)bytes) != 0 || enter(SYS_CALL_SEAL) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        sys_close(fd);
        return -1;
    }
    return fd;
}

int sys_punch(int fd, uint64_t offset, uint64_t bytes)
{
    if (enter(SYS_CALL_PUNCH)) {
        return -1;
    }
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
}

int sys_open(const char *path, int flags)
{
    return enter(SYS_CALL_OPEN) ? -1 : open(path, flags | O_CLOEXEC);
}

int sys_pipe(int ret[2])
{
    return enter(SYS_CALL_PIPE) ? -1 : pipe2(ret, O_CLOEXEC);
}

int sys_eventfd(void)
{
    return enter(SYS_CALL_EVENTFD) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int sys_signalfd(const sigset_t *set)
{
    return enter(SYS_CALL_SIGNALFD) ? -1 : signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int sys_pidfd(pid_t pid)
{
    return enter(SYS_CALL_PIDFD) ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
}

int sys_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns)
{
    if (enter(SYS_CALL_POLL)) {
        return errno == EINTR ? 0 : -1;
    }
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    int rc = ppoll(fds, count, timeout_ns < 0 ? NULL : &t, NULL);
    return rc < 0 && errno == EINTR ? 0 : rc;
}

pid_t sys_reap(pid_t pid, int *ret_status)
{
    if (enter(SYS_CALL_WAIT)) {
        return -1;
    }
    return waitpid(pid, ret_status, WNOHANG);
}

int sys_kill(pid_t pid, int signal)
{
    return enter(SYS_CALL_KILL) ? -1 : kill(pid, signal);
}

bool sys_futex_wait(a32 *word, uint32_t value, int64_t timeout_ns)
{
    if (enter(SYS_CALL_FUTEX_WAIT)) {
        return false;
    }
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    long rc = syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns < 0 ? NULL : &t, NULL, 0);
    return rc != 0 && errno == ETIMEDOUT;
}

void sys_futex_wake(a32 *word)
{
    for (int i = 0; i < TRIES; i++) {
        if (!enter(SYS_CALL_FUTEX_WAKE) &&
            syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) >= 0) {
            return;
        }
    }
}

void sys_event_signal(int fd)
{
    uint64_t one = 1;
    for (int i = 0; i < TRIES; i++) {
        if (!enter(SYS_CALL_WRITE) && (write(fd, &one, sizeof(one)) > 0 || errno == EAGAIN)) {
            return;
        }
    }
}

void sys_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
}

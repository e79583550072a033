/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Everything that can block or fail in the kernel goes through this table, so that a test can fail the n-th
 * call of a kind (fault.h, "sys.<name>") and the library can say how many it makes. Each function is the
 * system call of its name: -1 and errno on failure, unless it says otherwise. Any process.
 */
#ifndef BASE_SYS_H
#define BASE_SYS_H

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/atomic.h"

enum sys_call {
    SYS_CALL_FORK,
    SYS_CALL_SPAWN,
    SYS_CALL_MMAP,
    SYS_CALL_MUNMAP,
    SYS_CALL_MEMFD,
    SYS_CALL_FTRUNCATE,
    SYS_CALL_SEAL,
    SYS_CALL_PUNCH,
    SYS_CALL_OPEN,
    SYS_CALL_PIPE,
    SYS_CALL_EVENTFD,
    SYS_CALL_SIGNALFD,
    SYS_CALL_PIDFD,
    SYS_CALL_POLL,
    SYS_CALL_WAIT,
    SYS_CALL_KILL,
    SYS_CALL_FUTEX_WAIT,
    SYS_CALL_FUTEX_WAKE,
    SYS_CALL_WRITE,
    SYS_CALLS
};

/* Calls made by this process, by kind. */
uint64_t sys_count(enum sys_call call);
uint64_t sys_count_all(void);
const char *sys_name(enum sys_call call);

pid_t sys_fork(void);
/* posix_spawn; returns the pid or -1 with errno. */
pid_t sys_spawn(const char *path, char *const argv[], char *const envp[], const int *keep_fds,
                uint32_t keep_count);
/* NULL with errno on failure. */
void *sys_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset);
int sys_munmap(void *addr, size_t bytes);
/* A memfd of `bytes`, sealed against resizing. */
int sys_memfd(const char *name, uint64_t bytes);
/* Gives the pages of [offset, offset + bytes) back; they read as zero. */
int sys_punch(int fd, uint64_t offset, uint64_t bytes);
int sys_open(const char *path, int flags);
int sys_pipe(int ret[2]);
int sys_eventfd(void);
int sys_signalfd(const sigset_t *set);
int sys_pidfd(pid_t pid);
/* EINTR counts as nothing ready: 0. */
int sys_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns);
/* Reaps one child (pid > 0, or -1 for any) without blocking. pid, 0 when none is dead, -1. */
pid_t sys_reap(pid_t pid, int *ret_status);
int sys_kill(pid_t pid, int signal);
/* Sleeps while *word == value, at most timeout_ns (< 0: for ever). Returns for any reason; true: the time is over. */
bool sys_futex_wait(a32 *word, uint32_t value, int64_t timeout_ns);
void sys_futex_wake(a32 *word);
/* Adds one to an eventfd; never blocks. */
void sys_event_signal(int fd);
/* close that keeps errno; ignores fd < 0 */
void sys_close(int fd);

#endif

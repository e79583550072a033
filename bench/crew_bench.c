/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The bench's side of a crew (crew.h): starts and stops the ranks and gives them orders. Runs in the benchmark's
 * own process. A crew that does not answer in time is taken down: peers may hang, the bench may not.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "crew.h"
#include "futex.h"

#define SECOND UINT64_C(1000000000)
enum {
    ARRIVE_SECONDS = 30,
    ORDER_SECONDS = 20,
    LEAVE_SECONDS = 3,
    TERM_SECONDS = 2,
    NAP_US = 2000,
    ARGS_MAX = 64
};

static void make_page(struct crew *c, const char *name, uint32_t size, uint64_t bytes_max)
{
    *c = (struct crew){.size = size};
    snprintf(c->name, sizeof(c->name), "%s", name);
    c->page_fd = memfd_create("bench-crew", MFD_CLOEXEC);
    bench_must(c->page_fd < 0 || ftruncate(c->page_fd, sizeof(*c->page)) != 0, "memfd", name);
    c->page = mmap(NULL, sizeof(*c->page), PROT_READ | PROT_WRITE, MAP_SHARED, c->page_fd, 0);
    bench_must(c->page == MAP_FAILED, "mmap", name);
    c->page->bytes_max = bytes_max;
}

/* Whether *word comes to be `wanted` before the deadline while the first process of the crew lives. */
static bool await(const struct crew *c, a32 *word, uint32_t wanted, uint32_t seconds)
{
    uint64_t deadline = clock_ns() + seconds * SECOND;
    struct timespec nap = {.tv_nsec = 100000000};
    for (uint32_t seen; (seen = a32_acquire(word)) != wanted;) { /* pairs with crew_serve */
        siginfo_t info = {0};
        bool ended = waitid(P_PID, (id_t)c->pids[0], &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
                     info.si_pid != 0;
        if (ended || clock_ns() > deadline) {
            return false;
        }
        futex_sleep(word, seen, &nap);
    }
    return true;
}

static void open_gate(struct crew *c)
{
    a32_add_full(&c->page->gate, 1);
    futex_wake(&c->page->gate, CREW_RANKS_MAX);
}

void crew_fork(struct crew *c, const char *name, uint32_t size, uint64_t bytes_max,
               void (*run)(void *arg, uint32_t rank, struct crew_page *page), void *arg)
{
    make_page(c, name, size, bytes_max);
    for (uint32_t i = 0; i < size; i++) {
        pid_t pid = fork();
        bench_must(pid < 0, "fork", name);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            pin_self(i);
            run(arg, i, c->page);
            _exit(0);
        }
        c->pids[c->pid_count++] = pid;
    }
    bench_must(!await(c, &c->page->ready, size, ARRIVE_SECONDS), "crew", name);
}

/* Libraries keep memory by name in /dev/shm and leave it there when they are killed. Where privileges allow it a launcher
 * has one of its own, which goes with the last process of the crew. */
static void leave_nothing(void)
{
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0) {
        mount("tmpfs", "/dev/shm", "tmpfs", 0, NULL);
    }
}

static _Noreturn void launch(char *const argv[], const char *page)
{
    char *args[ARGS_MAX] = {0};
    char path[64];
    snprintf(path, sizeof(path), "%s", page);
    for (uint32_t i = 0; i < ARGS_MAX - 1 && argv[i]; i++) {
        args[i] = strcmp(argv[i], "PAGE") == 0 ? path : argv[i];
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    setpgid(0, 0);
    unpin_self();
    leave_nothing();
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    if (!getenv("BENCH_PEERS_SPEAK")) {
        dup2(null, 1);
        dup2(null, 2);
    }
    execv(args[0], args);
    _exit(127);
}

bool crew_launch(struct crew *c, const char *name, uint32_t size, uint64_t bytes_max,
                 char *const argv[])
{
    char path[64];
    make_page(c, name, size, bytes_max);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), c->page_fd);
    pid_t pid = fork();
    bench_must(pid < 0, "fork", name);
    if (pid == 0) {
        launch(argv, path);
    }
    c->pids[c->pid_count++] = pid;
    if (!await(c, &c->page->ready, size, ARRIVE_SECONDS)) {
        bench_note("%s did not start with %u ranks", name, size);
        crew_stop(c);
        return false;
    }
    return true;
}

double crew_run(struct crew *c, const struct crew_order *o)
{
    struct crew_page *page = c->page;
    double slowest = 0;
    uint32_t wrong = 0;
    page->order = *o;
    a32_store(&page->left, c->size);
    open_gate(c);
    if (!await(c, &page->left, 0, ORDER_SECONDS)) {
        bench_note("%s with %u ranks did not finish %s, %llu B: left out from here on", c->name,
                   c->size, crew_op_text(o->op), (unsigned long long)o->bytes);
        crew_stop(c);
        return -1;
    }
    for (uint32_t r = 0; r < c->size; r++) {
        slowest = page->result[r].ns > slowest ? page->result[r].ns : slowest;
        wrong += page->result[r].wrong;
    }
    if (wrong != 0) {
        bench_note("%s with %u ranks: %s, %llu B: %u wrong elements", c->name, c->size,
                   crew_op_text(o->op), (unsigned long long)o->bytes, wrong);
        crew_stop(c);
        return -1;
    }
    return slowest;
}

static bool has_ended(pid_t pid, uint64_t deadline)
{
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (clock_ns() > deadline) {
            return false;
        }
        usleep(NAP_US);
    }
    return true;
}

/* A launcher that is told to end takes its ranks along and tidies up. */
static void reap(pid_t pid, uint64_t deadline)
{
    if (has_ended(pid, deadline)) {
        return;
    }
    kill(pid, SIGTERM);
    if (!has_ended(pid, clock_ns() + TERM_SECONDS * SECOND)) {
        kill(-pid, SIGKILL); /* a launcher leads a group */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

void crew_stop(struct crew *c)
{
    if (c->name[0] == 0) {
        return;
    }
    c->page->leave = 1;
    open_gate(c);
    uint64_t deadline = clock_ns() + LEAVE_SECONDS * SECOND;
    for (uint32_t i = 0; i < c->pid_count; i++) {
        reap(c->pids[i], deadline);
    }
    munmap(c->page, sizeof(*c->page));
    close(c->page_fd);
    *c = (struct crew){0};
}

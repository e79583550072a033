/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The costs that `transom doctor` measures, each a median. Pinned children of the command line tool measure, so
 * that its own cores stay as they are; owns nothing beyond the call.
 */
#include "cli/doctor.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"

enum { ROUNDS = 2000, FORKS = 50, BUDGET_NS = 60000000, GIVE_UP_S = 2 };

/* Shared by two processes that pass the turn to and fro. */
struct court {
    _Alignas(64) a32 turn;   /* 0: the server's, 1: the partner's, 2: over */
    _Alignas(64) a64 result; /* w: server */
};

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *list, int count)
{
    if (count == 0) {
        return 0;
    }
    qsort(list, (size_t)count, sizeof(*list), compare_u64);
    return list[count / 2];
}

static uint64_t measure_fork(void)
{
    uint64_t took[FORKS];
    int count = 0;
    for (; count < FORKS; count++) {
        uint64_t begin = clock_ns();
        pid_t pid = sys_fork();
        if (pid == 0) {
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
            break;
        }
        took[count] = clock_ns() - begin;
    }
    return median(took, count);
}

static void wait_while(a32 *turn, uint32_t value, bool sleep)
{
    while (a32_acquire(turn) == value) { /* pairs with pass */
        if (sleep) {
            sys_futex_wait(turn, value, -1);
        }
    }
}

static void pass(a32 *turn, uint32_t value, bool sleep)
{
    a32_release(turn, value); /* pairs with wait_while */
    if (sleep) {
        sys_futex_wake(turn);
    }
}

static bool pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static _Noreturn void partner(struct court *court, int cpu, bool sleep)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(GIVE_UP_S);
    if (!pin_to(cpu)) {
        _exit(1);
    }
    for (;;) {
        wait_while(&court->turn, 0, sleep);
        if (a32_load(&court->turn) != 1) {
            _exit(0);
        }
        pass(&court->turn, 0, sleep);
    }
}

/* Median time of one round. The alarm ends a server whose partner does not answer. */
static _Noreturn void serve(struct court *court, int cpu, int partner_cpu, bool sleep)
{
    static uint64_t took[ROUNDS];
    int count = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(GIVE_UP_S);
    pid_t pid = sys_fork();
    if (pid == 0) {
        partner(court, partner_cpu, sleep);
    }
    if (pid < 0 || !pin_to(cpu)) {
        _exit(1);
    }
    uint64_t begin = clock_ns();
    uint64_t before = begin;
    while (count < ROUNDS && before - begin < BUDGET_NS) {
        pass(&court->turn, 1, sleep);
        wait_while(&court->turn, 1, sleep);
        uint64_t now = clock_ns();
        took[count++] = now - before;
        before = now;
    }
    pass(&court->turn, 2, true);
    a64_store(&court->result, median(took, count));
    waitpid(pid, NULL, 0);
    _exit(0);
}

static uint64_t measure_rounds(int cpu, int partner_cpu, bool sleep)
{
    uint64_t result = 0;
    struct court *court =
        sys_mmap(NULL, sizeof(*court), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!court) {
        return 0;
    }
    pid_t pid = sys_fork();
    if (pid == 0) {
        serve(court, cpu, partner_cpu, sleep);
    }
    if (pid > 0 && waitpid(pid, NULL, 0) == pid) {
        result = a64_load(&court->result);
    }
    sys_munmap(court, sizeof(*court));
    return result;
}

void measure_costs(struct costs *ret)
{
    cpu_set_t set;
    int first = -1;
    int last = -1;
    memset(ret, 0, sizeof(*ret));
    ret->fork = measure_fork();
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &set)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    }
    ret->wake_same = measure_rounds(first, first, true) / 2;
    if (first != last) {
        ret->wake_other = measure_rounds(first, last, true) / 2;
        ret->line = measure_rounds(first, last, false);
    }
}

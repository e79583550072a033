/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A death noticed: SIGKILL to an idle chip, until the keeper's page shows it, and until its replacement is ready.
 * Floor: SIGKILL to a bare sleeping child until its pidfd is readable.
 */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "engine/engine.h"
#include "rig.h"

enum { CHIPS = 2, ROUNDS = 100, PAUSE_US = 2000 };

static double time_floor(void)
{
    pid_t pid = fork();
    bench_must(pid < 0, "fork", "");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;) {
            pause();
        }
    }
    struct pollfd fd = {.fd = sys_pidfd(pid), .events = POLLIN};
    usleep(PAUSE_US);
    uint64_t begin = clock_ns();
    kill(pid, SIGKILL);
    while (sys_poll(&fd, 1, 1000000000) == 0) {
    }
    double us = (double)(clock_ns() - begin) / 1000;
    sys_close(fd.fd);
    waitpid(pid, NULL, 0);
    return us;
}

int main(int argc, char **argv)
{
    struct rig rig;
    struct samples noticed = {0};
    struct samples replaced = {0};
    bench_begin("death", argc, argv);
    rig_start(&rig, CHIPS, NULL);
    const struct arena *a = &rig.worker->arena;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        const struct child *child = &a->keeper->child[i % CHIPS];
        uint32_t deaths = a32_acquire(&child->deaths);
        const struct proc_page *page = arena_page(a, i % CHIPS);
        uint32_t life = a32_acquire(&page->life);
        double floor = time_floor();
        usleep(PAUSE_US);
        uint64_t begin = clock_ns();
        kill(tsm_worker_pid(rig.worker, (int)(i % CHIPS)), SIGKILL);
        while (a32_acquire(&child->deaths) == deaths) {
            sched_yield();
        }
        samples_add(&noticed, (double)(clock_ns() - begin) / 1000, floor, 0);
        while (a32_acquire(&page->life) == life || a32_acquire(&page->ready) != READY_YES) {
            sched_yield();
        }
        samples_add(&replaced, (double)(clock_ns() - begin) / 1000, floor, 0);
    }
    rig_stop(&rig);
    struct figure f = {.name = "death noticed",
                       .params = "an idle chip",
                       .unit = "us",
                       .against = AGAINST_MAX,
                       .limit = 500,
                       .chips = CHIPS};
    figure_report(&f, &noticed);
    struct figure g = {
        .name = "death until replaced", .params = "an idle chip", .unit = "us", .chips = CHIPS};
    figure_report(&g, &replaced);
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What a worker costs while there is no work: user and system time of all its processes over some seconds, after
 * they have worked. Then the same while the orchestrator waits for a task that sleeps.
 */
#include <stdio.h>
#include <unistd.h>

#include "engine/engine.h"
#include "rig.h"

enum { CHIPS = 8, SUBS = 4, SECONDS = 3, SECONDS_LONG = 30, BUSY_TASKS = 1000 };

static struct rig rig;

static double cpu_of(int pid)
{
    char path[64];
    unsigned long user = 0;
    unsigned long system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                   &system) != 2) {
            user = system = 0;
        }
        fclose(f);
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Nanoseconds on a core, which is finer. */
static double run_ns_of(int pid)
{
    char path[64];
    unsigned long long ns = 0;
    snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%llu", &ns) != 1) {
            ns = 0;
        }
        fclose(f);
    }
    return (double)ns;
}

struct cost {
    double seconds, ns;
};

static void add(struct cost *sum, int pid)
{
    sum->seconds += cpu_of(pid);
    sum->ns += run_ns_of(pid);
}

/* The orchestrator comes last at the begin and first at the end: reading the rest is no cost of the worker. */
static struct cost cost_now(bool begins)
{
    struct cost sum = {0, 0};
    if (!begins) {
        add(&sum, getpid());
    }
    add(&sum, rig.worker->keeper);
    for (int p = 0; p < CHIPS + SUBS; p++) {
        add(&sum, tsm_worker_pid(rig.worker, p));
    }
    if (begins) {
        add(&sum, getpid());
    }
    return sum;
}

static int submit_work(tsm_orch *orch, void *arg)
{
    (void)arg;
    for (int i = 0; i < BUSY_TASKS; i++) {
        struct tsm_call call = {.callable = rig.empty, .chip = i % 2 ? TSM_SUB : i % CHIPS};
        rig_submit(&rig, orch, &call);
    }
    return 0;
}

static int submit_held(tsm_orch *orch, void *arg)
{
    (void)arg;
    rig_hold(&rig, orch, 1);
    return 0;
}

static void report(const char *params, double seconds, struct cost before, struct cost after,
                   bool judged)
{
    struct samples ticks = {0};
    struct samples fine = {0};
    samples_add(&ticks, 100 * (after.seconds - before.seconds) / seconds, 0, 0);
    samples_add(&fine, (after.ns - before.ns) / 1000 / seconds, 0, 0);
    struct figure f = {"idle worker, utime + stime", params, "% CPU",
                       judged ? AGAINST_MAX : AGAINST_NOTHING, 0};
    figure_report(&f, &ticks);
    struct figure g = {"idle worker, on a core", params, "us/s", AGAINST_NOTHING, 0};
    figure_report(&g, &fine);
    samples_free(&ticks);
    samples_free(&fine);
}

int main(int argc, char **argv)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    tsm_run *run;
    bench_begin("idle", argc, argv);
    unsigned seconds = bench_long() ? SECONDS_LONG : SECONDS;
    o.subs = SUBS;
    rig_start(&rig, CHIPS, &o);
    rig_run(&rig, submit_work, NULL);
    usleep(200000);
    struct cost before = cost_now(true);
    sleep(seconds);
    report("8 chips, 4 subs, no run", seconds, before, cost_now(false), true);
    bench_must(tsm_worker_submit_run(rig.worker, submit_held, NULL, &run), "submit_run", "");
    before = cost_now(true);
    bench_must(tsm_run_wait(run, (int64_t)seconds * 1000000000) != TSM_ETIMEOUT, "wait", "");
    report("waiting for a sleeping task", seconds, before, cost_now(false), false);
    rig_open(&rig);
    bench_must(tsm_run_wait(run, -1), "wait", "");
    tsm_run_release(run);
    rig_stop(&rig);
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Starting a worker: 1, 8 and 64 chips, heaps of 1 MiB and 16 GiB a chip, fork and spawn, until all are ready; and
 * closing it. What a chip costs is the difference to one chip; what one chip costs is the worker's own set-up.
 * Floor: fork, exit and reap of as many processes.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "transom/transom.h"

enum { SIZES = 3, HEAPS = 2, CHIPS_MANY = 64 };
static const uint32_t sizes[SIZES] = {1, 8, CHIPS_MANY};
static const uint64_t heaps[HEAPS] = {UINT64_C(1) << 20, UINT64_C(16) << 30};
static const char *const heap_names[HEAPS] = {"1 MiB heaps", "16 GiB heaps"};

static void time_worker(uint32_t chips, uint64_t heap_bytes, int method, double *ret_start,
                        double *ret_close)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct tsm_error err = {0};
    tsm_worker *w;
    o.chips = chips;
    o.heap_bytes = heap_bytes;
    o.start_method = method;
    uint64_t begin = clock_ns();
    bench_must(tsm_worker_create(&o, &w, &err), "create", err.text);
    int rc = tsm_worker_start(w);
    uint64_t ready = clock_ns();
    bench_must(rc, "start", rc ? tsm_worker_error(w)->text : "");
    bench_must(tsm_worker_close(w), "close", "");
    tsm_worker_destroy(w);
    *ret_start = (double)(ready - begin) / 1000;
    *ret_close = (double)(clock_ns() - ready) / 1000;
}

static double time_forks(uint32_t n)
{
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < n; i++) {
        pid_t pid = fork();
        bench_must(pid < 0, "fork", "");
        if (pid == 0) {
            _exit(0);
        }
    }
    while (wait(NULL) > 0) {
    }
    return (double)(clock_ns() - begin) / 1000;
}

static struct samples total[HEAPS][SIZES], close_all[SIZES], each[HEAPS], heap_ratio, spawned;

static void round_once(void)
{
    double start[HEAPS][SIZES];
    double closed;
    double floor = 0;
    double floor_one = time_forks(1);
    for (int s = 0; s < SIZES; s++) {
        floor = time_forks(sizes[s]);
        for (int h = 0; h < HEAPS; h++) {
            time_worker(sizes[s], heaps[h], TSM_FORK, &start[h][s], &closed);
            samples_add(&total[h][s], start[h][s], floor, 0);
        }
        samples_add(&close_all[s], closed, 0, 0);
    }
    for (int h = 0; h < HEAPS; h++) {
        double more = start[h][SIZES - 1] - start[h][0];
        samples_add(&each[h], more / (CHIPS_MANY - 1), (floor - floor_one) / (CHIPS_MANY - 1), 0);
    }
    samples_add(&heap_ratio, start[1][1], start[0][1], 0);
    time_worker(8, heaps[0], TSM_SPAWN, &start[0][0], &closed);
    samples_add(&spawned, start[0][0], 0, 0);
}

int main(int argc, char **argv)
{
    char params[64];
    bench_begin("start", argc, argv);
    cores();
    for (int i = 0; i < (bench_long() ? 200 : 60); i++) {
        round_once();
    }
    for (int h = 0; h < HEAPS; h++) {
        for (int s = 0; s < SIZES; s++) {
            snprintf(params, sizeof(params), "%u chip%s, %s", sizes[s], s ? "s" : "",
                     heap_names[h]);
            struct figure f = {"start until ready", params, "us", AGAINST_NOTHING, 0};
            figure_report(&f, &total[h][s]);
        }
        struct figure f = {"start, a chip more", heap_names[h], "us", AGAINST_MAX, 150};
        figure_report(&f, &each[h]);
    }
    struct figure f = {"start, 16 GiB / 1 MiB heaps", "8 chips", "us", AGAINST_FLOOR, 1.1};
    figure_report(&f, &heap_ratio);
    struct figure g = {"start until ready", "8 chips, spawn", "us", AGAINST_NOTHING, 0};
    figure_report(&g, &spawned);
    for (int s = 0; s < SIZES; s++) {
        snprintf(params, sizeof(params), "%u chip%s", sizes[s], s ? "s" : "");
        struct figure c = {"close and destroy", params, "us", AGAINST_NOTHING, 0};
        figure_report(&c, &close_all[s]);
    }
    return bench_end();
}

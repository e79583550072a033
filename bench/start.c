/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Starting a worker: 1, 8 and 64 chips, fork and spawn, until all are ready; and closing it. Floor of the start: fork, exit
 * and reap of as many processes. Peers: mpirun until as many ranks have passed MPI_Init and a barrier, and until it
 * has ended after they were told to leave. (multiprocessing.Pool: bench/python/python_start.py.)
 *
 * What a chip costs is the difference to one chip; what one chip costs is the worker's own set-up. Both must not
 * depend on the size of the heaps.
 */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "processes.h"
#include "transom/transom.h"

enum { SIZES = 3, METHODS = 2, HEAPS = 2, CHIPS_MANY = 64, ROUNDS = 40, ROUNDS_LONG = 200 };
static const uint32_t sizes[SIZES] = {1, 8, CHIPS_MANY};
/* How often the peers take part: they are slower by orders of magnitude. */
static const uint32_t peer_rounds[SIZES] = {5, 4, 2};
static const int methods[METHODS] = {TSM_FORK, TSM_SPAWN};
static const char *const method_names[METHODS] = {"fork", "spawn"};
static const uint64_t heaps[HEAPS] = {UINT64_C(1) << 20, UINT64_C(16) << 30};
static const char *const heap_names[HEAPS] = {"1 MiB heaps", "16 GiB heaps"};
static const char *const peer_names[] = {"Open MPI", "MPICH", NULL};

struct times {
    double start, close; /* us */
};

static struct times time_worker(uint32_t chips, uint64_t heap_bytes, int method)
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
    return (struct times){(double)(ready - begin) / 1000, (double)(clock_ns() - ready) / 1000};
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

static struct times time_mpi(int which, uint32_t ranks)
{
    struct crew c;
    uint64_t begin = clock_ns();
    if (!mpi_start(&c, which, ranks)) {
        return (struct times){0, 0};
    }
    uint64_t ready = clock_ns();
    crew_stop(&c);
    return (struct times){(double)(ready - begin) / 1000, (double)(clock_ns() - ready) / 1000};
}

static struct samples starts[METHODS][SIZES], closes[METHODS][SIZES], heavy[SIZES], each[HEAPS],
    heap_ratio;
static bool absent[MPIS][SIZES];

static void ask_peers(int size, struct sample *start, struct sample *closed)
{
    for (int i = 0; i < MPIS; i++) {
        if (!absent[i][size]) {
            struct times t = time_mpi(i, sizes[size]);
            start->peer[i] = t.start;
            closed->peer[i] = t.close;
            absent[i][size] = t.start <= 0;
        }
    }
}

static void round_once(uint32_t round)
{
    double by_heap[HEAPS][SIZES];
    double floors[SIZES];
    for (int s = 0; s < SIZES; s++) {
        struct sample start = {0};
        struct sample closed = {0};
        struct times t;
        if (round < peer_rounds[s]) {
            ask_peers(s, &start, &closed);
        }
        start.floor = floors[s] = time_forks(sizes[s]);
        for (int m = 0; m < METHODS; m++) {
            t = time_worker(sizes[s], heaps[0], methods[m]);
            start.value = t.start;
            closed.value = t.close;
            samples_push(&starts[m][s], &start);
            samples_push(&closes[m][s], &closed);
            if (methods[m] == TSM_FORK) {
                by_heap[0][s] = t.start;
            }
        }
        t = time_worker(sizes[s], heaps[1], TSM_FORK);
        by_heap[1][s] = t.start;
        samples_add(&heavy[s], t.start, start.floor, 0);
    }
    for (int h = 0; h < HEAPS; h++) {
        double more = by_heap[h][SIZES - 1] - by_heap[h][0];
        samples_add(&each[h], more / (CHIPS_MANY - 1),
                    (floors[SIZES - 1] - floors[0]) / (CHIPS_MANY - 1), 0);
    }
    samples_add(&heap_ratio, by_heap[1][1], by_heap[0][1], 0);
}

static void report(const char *name, const struct samples *s, int size, const char *with,
                   const char *const *peers)
{
    char params[64];
    snprintf(params, sizeof(params), "%u chip%s, %s", sizes[size], sizes[size] == 1 ? "" : "s",
             with);
    struct figure f = {.name = name,
                       .params = params,
                       .unit = "us",
                       .peers = peers,
                       .chips = sizes[size],
                       .x = sizes[size]};
    figure_report(&f, s);
}

int main(int argc, char **argv)
{
    bench_begin("start", argc, argv);
    cores();
    for (uint32_t i = 0; i < (bench_long() ? ROUNDS_LONG : ROUNDS); i++) {
        round_once(i);
    }
    for (int m = 0; m < METHODS; m++) {
        for (int s = 0; s < SIZES; s++) {
            report("start until ready", &starts[m][s], s, method_names[m], peer_names);
        }
    }
    for (int s = 0; s < SIZES; s++) {
        report("start until ready", &heavy[s], s, "fork, 16 GiB heaps", NULL);
    }
    for (int h = 0; h < HEAPS; h++) {
        struct figure f = {.name = "start, a chip more",
                           .params = heap_names[h],
                           .unit = "us",
                           .against = AGAINST_MAX,
                           .limit = 150};
        figure_report(&f, &each[h]);
    }
    struct figure f = {.name = "start, 16 GiB / 1 MiB heaps",
                       .params = "8 chips",
                       .unit = "us",
                       .against = AGAINST_FLOOR,
                       .limit = 1.1};
    figure_report(&f, &heap_ratio);
    for (int m = 0; m < METHODS; m++) {
        for (int s = 0; s < SIZES; s++) {
            report("close and destroy", &closes[m][s], s, method_names[m], peer_names);
        }
    }
    return bench_end();
}

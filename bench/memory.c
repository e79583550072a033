/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Memory: of tasks in flight beyond their arguments (all chips are held while they are submitted), and what is left
 * behind by many tasks and domains. Counted are the orchestrator's own memory and the pages of the arena.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "rig.h"

enum {
    CHIPS = 4,
    IN_FLIGHT = 100000,
    SLOT = 64,
    RING_BYTES = 64 << 20,
    TASKS_A_RUN = 10000,
    RUNS = 100, /* 10^6 tasks; ten times as many with --long */
    DOMAINS_A_RUN = 1000,
    DOMAIN_RUNS = 100 /* 10^5 domains */
};

static struct rig rig;
static uint8_t *slots;

static double own_bytes(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "RssAnon: %lu kB", &kib) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return (double)kib * 1024;
}

static double bytes_now(void)
{
    double sum = own_bytes();
    for (int i = 0; i < ARENA_FDS; i++) {
        struct stat st;
        if (fstat(rig.worker->arena.fd[i], &st) == 0) {
            sum += 512.0 * (double)st.st_blocks;
        }
    }
    return sum;
}

/* ---- in flight ---- */

struct plan {
    uint32_t tensors; /* the last is an output of its own, the others random inputs */
    double bytes;
};

static int submit_held(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    struct random numbers = {99};
    rig_hold(&rig, orch, CHIPS);
    double before = bytes_now();
    double arguments = 0;
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        struct tsm_tensor x[4];
        memset(x, 0, sizeof(x));
        for (uint32_t k = 0; k < p->tensors; k++) {
            bool output = k + 1 == p->tensors;
            uint32_t at = output ? i : random_below(&numbers, i + 1);
            x[k].data = slots + (uint64_t)at * SLOT;
            x[k].dtype = TSM_U64;
            x[k].tag = output ? TSM_OUTPUT_EXISTING : TSM_INPUT;
            x[k].ndim = 1;
            x[k].shape[0] = SLOT / 8;
        }
        struct tsm_call call = {.callable = rig.empty,
                                .chip = (int)(i % CHIPS),
                                .tensors = x,
                                .tensor_count = p->tensors};
        rig_submit(&rig, orch, &call);
        arguments += p->tensors * (sizeof(struct record_tensor) + 16.0 + 2.0);
    }
    p->bytes = (bytes_now() - before - arguments) / IN_FLIGHT;
    rig_open(&rig);
    return 0;
}

static void measure_in_flight(uint32_t tensors, const char *params)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct plan p = {.tensors = tensors};
    struct samples s = {0};
    void *memory;
    o.ring_bytes = RING_BYTES;
    rig_start(&rig, CHIPS, &o);
    bench_must(tsm_buffer_create(rig.worker, (uint64_t)IN_FLIGHT * SLOT, &memory), "buffer", "");
    slots = memory;
    rig_run(&rig, submit_held, &p);
    rig_stop(&rig);
    samples_add(&s, p.bytes, 0, 0);
    struct figure f = {"memory of a task in flight", params, "B", AGAINST_MAX, 256};
    figure_report(&f, &s);
    samples_free(&s);
}

/* ---- growth ---- */

static int submit_many(tsm_orch *orch, void *arg)
{
    struct random *numbers = arg;
    for (uint32_t i = 0; i < TASKS_A_RUN; i++) {
        struct tsm_tensor x[2];
        memset(x, 0, sizeof(x));
        for (uint32_t k = 0; k < 2; k++) {
            x[k].data = slots + (uint64_t)random_below(numbers, IN_FLIGHT) * SLOT;
            x[k].dtype = TSM_U64;
            x[k].tag = k ? TSM_INOUT : TSM_INPUT;
            x[k].ndim = 1;
            x[k].shape[0] = SLOT / 8;
        }
        struct tsm_call call = {
            .callable = rig.empty, .chip = (int)(i % CHIPS), .tensors = x, .tensor_count = 2};
        rig_submit(&rig, orch, &call);
    }
    return 0;
}

/* The first run is held, so that as many leases as ever can are alive at once. */
static int allocate_many(tsm_orch *orch, void *arg)
{
    (void)arg;
    bool held = rig.worker->stats.leases_fresh == 0;
    if (held) {
        rig_hold(&rig, orch, CHIPS);
    }
    for (uint32_t i = 0; i < DOMAINS_A_RUN; i++) {
        static const int chips[CHIPS] = {0, 1, 2, 3};
        struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
        tsm_domain *d;
        o.name = "bench";
        o.chips = chips;
        o.chip_count = 2 + i % 3;
        o.window_bytes = 4096u * (1 + i / 3 % 4);
        bench_must(tsm_domain_alloc(orch, &o, &d), "alloc", tsm_worker_error(rig.worker)->text);
        uint64_t bytes = 64;
        struct tsm_call call = {.callable = rig.dirty,
                                .chip = (int)(i % 2),
                                .domains = &d,
                                .domain_count = 1,
                                .scalars = &bytes,
                                .scalar_count = 1};
        rig_submit(&rig, orch, &call);
        bench_must(tsm_domain_release(d), "release", tsm_worker_error(rig.worker)->text);
    }
    if (held) {
        rig_open(&rig);
    }
    return 0;
}

/* Bytes more after all runs than after the first tenth of them. */
static double growth(tsm_orch_fn *fn, uint32_t runs)
{
    struct random numbers = {5};
    double early = 0;
    for (uint32_t i = 0; i < runs; i++) {
        if (i == runs / 10) {
            early = bytes_now();
        }
        rig_run(&rig, fn, &numbers);
    }
    return (bytes_now() - early) / 1024;
}

static void report_growth(const char *name, const char *params, double kib)
{
    struct samples s = {0};
    samples_add(&s, kib, 0, 0);
    struct figure f = {name, params, "KiB", AGAINST_MAX, 64};
    figure_report(&f, &s);
    samples_free(&s);
}

int main(int argc, char **argv)
{
    void *memory;
    bench_begin("memory", argc, argv);
    uint32_t more = bench_long() ? 10 : 1;
    measure_in_flight(0, "no arguments");
    measure_in_flight(4, "3 inputs, 1 output");
    rig_start(&rig, CHIPS, NULL);
    bench_must(tsm_buffer_create(rig.worker, (uint64_t)IN_FLIGHT * SLOT, &memory), "buffer", "");
    slots = memory;
    memset(slots, 0, (size_t)IN_FLIGHT * SLOT);
    report_growth("growth", more > 1 ? "over 10^7 tasks" : "over 10^6 tasks",
                  growth(submit_many, RUNS * more));
    report_growth("growth", more > 1 ? "over 10^6 domains" : "over 10^5 domains",
                  growth(allocate_many, DOMAIN_RUNS * more));
    rig_stop(&rig);
    return bench_end();
}

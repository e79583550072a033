/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Submitting a task whose three inputs were written by three random tasks in flight, while the range map holds 10^5
 * live ranges. All chips are held, so that nothing is done meanwhile and the orchestrator has its core.
 */
#include "rig.h"

enum {
    LIVE = 100000,
    SLOT = 64,
    CHIPS = 4,
    BATCH = 200,
    BATCHES = 40,
    RUNS = 4,
    WARM_RUNS = 2, /* until the rings have been written once all around */
    INPUTS = 3,
    RING_BYTES = 8 << 20
};

static struct rig rig;
static uint8_t *slots; /* LIVE of them, then one for each timed task */
static struct random numbers = {77};

struct plan {
    struct samples submit; /* by number of outputs */
    struct samples ranges, waits;
    uint32_t outputs;
};

static struct tsm_tensor slot(uint32_t i, uint8_t tag)
{
    struct tsm_tensor t = {
        .data = slots + (uint64_t)i * SLOT, .dtype = TSM_U64, .tag = tag, .ndim = 1};
    t.shape[0] = SLOT / 8;
    return t;
}

static void make_live(tsm_orch *orch)
{
    for (uint32_t i = 0; i < LIVE; i++) {
        struct tsm_tensor x = slot(i, TSM_OUTPUT_EXISTING);
        struct tsm_call call = {
            .callable = rig.empty, .chip = (int)(i % CHIPS), .tensors = &x, .tensor_count = 1};
        rig_submit(&rig, orch, &call);
    }
}

static void time_batch(tsm_orch *orch, struct plan *p, uint32_t first)
{
    struct tsm_tensor x[BATCH][INPUTS + 1];
    for (uint32_t i = 0; i < BATCH; i++) {
        for (uint32_t k = 0; k < INPUTS; k++) {
            x[i][k] = slot(random_below(&numbers, LIVE), TSM_INPUT);
        }
        x[i][INPUTS] = slot(LIVE + first + i, TSM_OUTPUT_EXISTING);
    }
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < BATCH; i++) {
        struct tsm_call call = {.callable = rig.empty,
                                .chip = (int)(i % CHIPS),
                                .tensors = x[i],
                                .tensor_count = INPUTS + p->outputs};
        rig_submit(&rig, orch, &call);
    }
    samples_add(&p->submit, (double)(clock_ns() - begin) / BATCH, 0, 0);
}

static int submit_all(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    struct tsm_stats before, after;
    rig_hold(&rig, orch, CHIPS);
    make_live(orch);
    tsm_worker_stats(rig.worker, &before);
    for (uint32_t b = 0; b < BATCHES; b++) {
        time_batch(orch, p, b * BATCH);
    }
    tsm_worker_stats(rig.worker, &after);
    double edges = (double)(after.waits + after.waits_elided - before.waits - before.waits_elided);
    samples_add(&p->ranges, (double)before.ranges, 0, 0);
    samples_add(&p->waits, edges / (BATCHES * BATCH), 0, 0);
    rig_open(&rig);
    return 0;
}

int main(int argc, char **argv)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct plan plans[2] = {{.outputs = 0}, {.outputs = 1}};
    static const char *const params[] = {"3 inputs, 10^5 live", "3 inputs, 1 output, 10^5 live"};
    void *memory;
    bench_begin("submit", argc, argv);
    o.ring_bytes = RING_BYTES;
    pin_self(0);
    rig_start(&rig, CHIPS, &o);
    bench_must(tsm_buffer_create(rig.worker, (LIVE + BATCHES * BATCH) * SLOT, &memory), "buffer",
               "");
    slots = memory;
    for (int i = 0; i < 2 * (WARM_RUNS + RUNS); i++) {
        rig_run(&rig, submit_all, &plans[i % 2]);
        if (i < 2 * WARM_RUNS) {
            plans[i % 2].submit.count = 0;
        }
    }
    rig_stop(&rig);
    for (int i = 0; i < 2; i++) {
        struct figure f = {"submit, inferred edges", params[i], "ns", AGAINST_MAX, 500};
        figure_report(&f, &plans[i].submit);
    }
    struct figure g = {"its live ranges", params[1], "", AGAINST_NOTHING, 0};
    figure_report(&g, &plans[1].ranges);
    struct figure h = {"its producing chips", params[1], "a task", AGAINST_NOTHING, 0};
    figure_report(&h, &plans[1].waits);
    return bench_end();
}

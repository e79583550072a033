/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * An empty task from submit to done seen, one at a time, in three ways of seeing it: the task's word inside
 * the orchestration function (the least that is possible), tsm_host_wait for a tensor that it writes, and a whole
 * run. Orchestrator and chip on a core each, then on one. Floor: the same over a bare ring.
 */
#include "bare.h"
#include "engine/engine.h"
#include "rig.h"

enum { TRIPS = 300, ROUNDS = 400, ROUNDS_ONE_CORE = 100 };

enum way { BY_WORD, BY_HOST_WAIT, BY_RUN, WAYS };
static const char *const way_names[] = {"task, word seen", "task, tsm_host_wait",
                                        "run of one task"};

static struct rig rig;
static struct bare bare;
static tsm_orch *inside;

static void trip_word(tsm_orch *orch)
{
    struct tsm_call call = {.callable = rig.empty, .chip = 0};
    rig_submit(&rig, orch, &call);
    bench_must(engine_wait(rig.worker, 0, rig.worker->rings[0].published, 0), "wait", "");
}

static void trip_host_wait(tsm_orch *orch)
{
    struct tsm_tensor x = {.data = rig.clocks, .dtype = TSM_U64, .tag = TSM_OUTPUT_EXISTING};
    struct tsm_call call = {.callable = rig.empty, .chip = 0, .tensors = &x, .tensor_count = 1};
    rig_submit(&rig, orch, &call);
    bench_must(tsm_host_wait(rig.worker, rig.clocks, 8, TSM_READ), "host_wait", "");
}

static int submit_empty(tsm_orch *orch, void *arg)
{
    (void)arg;
    struct tsm_call call = {.callable = rig.empty, .chip = 0};
    return tsm_submit(orch, &call, NULL);
}

static double time_floor(void)
{
    bare_begin(&bare);
    uint64_t begin = clock_ns();
    for (int i = 0; i < TRIPS; i++) {
        bare_put(&bare, 0, NULL, 0, 0, 0);
        bare_drain(&bare);
    }
    uint64_t end = clock_ns();
    bare_end(&bare);
    return (double)(end - begin) / TRIPS;
}

static void batch(void *ctx, struct sample *ret)
{
    enum way way = *(const enum way *)ctx;
    uint64_t begin = clock_ns();
    for (int i = 0; i < TRIPS; i++) {
        if (way == BY_WORD) {
            trip_word(inside);
        } else if (way == BY_HOST_WAIT) {
            trip_host_wait(inside);
        } else {
            rig_run(&rig, submit_empty, NULL);
        }
    }
    ret->value = (double)(clock_ns() - begin) / TRIPS;
    ret->floor = time_floor();
}

struct plan {
    uint32_t rounds;
    struct samples samples[WAYS];
};

static int measure_inside(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    inside = orch;
    for (enum way way = BY_WORD; way <= BY_HOST_WAIT; way++) {
        batches(p->rounds, &p->samples[way], batch, &way);
    }
    return 0;
}

static void measure(uint32_t chip_core, uint32_t rounds, bool yield, struct plan *p)
{
    enum way way = BY_RUN;
    *p = (struct plan){.rounds = rounds};
    pin_self(0);
    bare_start(&bare, 1, chip_core, 4096, yield);
    rig_start(&rig, 1, NULL);
    rig_pin(&rig, chip_core);
    rig_run(&rig, measure_inside, p);
    batches(rounds, &p->samples[BY_RUN], batch, &way);
    rig_stop(&rig);
    bare_stop(&bare);
}

int main(int argc, char **argv)
{
    struct plan p;
    bench_begin("roundtrip", argc, argv);
    if (two_cores()) {
        r_start(0, 1);
        measure(1, ROUNDS, false, &p);
        r_stop();
        for (int way = 0; way < WAYS; way++) {
            struct figure f = {way_names[way], "a core each", "ns", AGAINST_R, 2.5};
            figure_report_cores(&f, &p.samples[way]);
        }
    }
    measure(0, ROUNDS_ONE_CORE, true, &p);
    for (int way = 0; way < WAYS; way++) {
        struct figure f = {way_names[way], "one core", "ns", AGAINST_MAX, 10000};
        figure_report(&f, &p.samples[way]);
    }
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * An empty task from submit to done seen, one at a time, in three ways of seeing it: the task's word inside
 * the orchestration function (the least that is possible), tsm_host_wait for a tensor that it writes, and a whole
 * run. Orchestrator and chip on a core each, then on one. Floor: the same over a bare ring. Peers: with one
 * worker thread. oneTBB and OpenMP run the task in the thread that waits for it, which is a function call with its
 * bookkeeping; "other thread" is the same job as here, a task that another core runs.
 */
#include "bare.h"
#include "engine/engine.h"
#include "rig.h"
#include "taskpeers.h"

enum { TRIPS = 300, ROUNDS = 400, ROUNDS_ONE_CORE = 100, ROUNDS_PER_ASK = 20 };
enum { ONETBB_OTHER = TASK_PEERS, OPENMP_OTHER, PEERS };

enum way { BY_WORD, BY_HOST_WAIT, BY_RUN, WAYS };
static const char *const way_names[] = {"task, word seen", "task, tsm_host_wait",
                                        "run of one task"};

static const char *const peer_names[PEERS + 1] = {"StarPU",
                                                  "oneTBB",
                                                  "OpenMP active",
                                                  "OpenMP passive",
                                                  "oneTBB, other thread",
                                                  "OpenMP, other thread"};

static struct rig rig;
static struct bare bare;
static struct task_peers peers;
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

static void ask(void *ctx, struct sample *ret)
{
    char order[32];
    (void)ctx;
    snprintf(order, sizeof(order), "round_trip %d", TRIPS);
    task_peers_ask(&peers, order, ret);
    ret->peer[ONETBB_OTHER] = contender_ask(&peers.one[TASK_ONETBB], "round_trip_other %d", TRIPS);
    ret->peer[OPENMP_OTHER] =
        contender_ask(&peers.one[TASK_OPENMP_ACTIVE], "round_trip_other %d", TRIPS);
}

struct plan {
    uint32_t rounds;
    bool peers;
    struct samples samples[WAYS];
};

static int measure_inside(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    inside = orch;
    for (enum way way = BY_WORD; way <= BY_HOST_WAIT; way++) {
        batches_with_peers(p->rounds, ROUNDS_PER_ASK, &p->samples[way], batch,
                           p->peers ? ask : NULL, &way);
    }
    return 0;
}

static void measure(uint32_t chip_core, uint32_t rounds, bool yield, struct plan *p)
{
    enum way way = BY_RUN;
    *p = (struct plan){.rounds = rounds, .peers = chip_core != 0};
    pin_self(0);
    bare_start(&bare, 1, chip_core, 4096, yield);
    rig_start(&rig, 1, NULL);
    rig_pin(&rig, chip_core);
    rig_run(&rig, measure_inside, p);
    batches_with_peers(rounds, ROUNDS_PER_ASK, &p->samples[BY_RUN], batch, p->peers ? ask : NULL,
                       &way);
    rig_stop(&rig);
    bare_stop(&bare);
}

int main(int argc, char **argv)
{
    struct plan p;
    bench_begin("roundtrip", argc, argv);
    if (two_cores()) {
        r_start(0, 1);
        task_peers_start(&peers, 1);
        measure(1, ROUNDS, false, &p);
        task_peers_stop(&peers);
        r_stop();
        for (int way = 0; way < WAYS; way++) {
            struct figure f = {.name = way_names[way],
                               .params = "a core each",
                               .unit = "ns",
                               .against = AGAINST_R,
                               .limit = 2.5,
                               .peers = peer_names,
                               .chips = 1};
            figure_report_cores(&f, &p.samples[way]);
            samples_free(&p.samples[way]);
        }
    }
    measure(0, ROUNDS_ONE_CORE, true, &p);
    for (int way = 0; way < WAYS; way++) {
        struct figure f = {.name = way_names[way],
                           .params = "one core",
                           .unit = "ns",
                           .against = AGAINST_MAX,
                           .limit = 10000,
                           .chips = 1};
        figure_report(&f, &p.samples[way]);
        samples_free(&p.samples[way]);
    }
    return bench_end();
}

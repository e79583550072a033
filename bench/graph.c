/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A random layered graph: 100 layers of 100 empty tasks, each after 3 random ones of the layer before, submitted and
 * run. The edges are given by id, then inferred from what the tasks read and write. Floor: the same graph as bare records
 * whose waits were computed before. Peers: the same graph in as many worker threads. oneTBB has edges by hand only, OpenMP only
 * those that it infers from addresses: their one form is in both rows.
 */
#include "bare.h"
#include "peer/tasks.h"
#include "rig.h"
#include "taskpeers.h"

enum {
    TASKS = GRAPH_TASKS,
    WIDTH = GRAPH_WIDTH,
    FAN_IN = GRAPH_FAN_IN,
    SLOT = 64,
    CHIPS_MAX_HERE = 8,
    ROUNDS = 150,
    ROUNDS_PER_ASK = 15
};

static struct rig rig;
static struct bare bare;
static struct task_peers peers;
static uint32_t from[TASKS][FAN_IN]; /* numbers of the tasks it follows */
static tsm_task_id ids[TASKS];
static uint8_t *slots;

static int submit_by_id(tsm_orch *orch, void *arg)
{
    (void)arg;
    for (uint32_t t = 0; t < TASKS; t++) {
        tsm_task_id after[FAN_IN];
        for (uint32_t k = 0; k < FAN_IN; k++) {
            after[k] = ids[from[t][k]];
        }
        struct tsm_call call = {.callable = rig.empty,
                                .chip = (int)(t % rig.chips),
                                .after = after,
                                .after_count = t < WIDTH ? 0 : FAN_IN};
        int rc = tsm_submit(orch, &call, &ids[t]);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int submit_by_tensor(tsm_orch *orch, void *arg)
{
    (void)arg;
    for (uint32_t t = 0; t < TASKS; t++) {
        struct tsm_tensor x[FAN_IN + 1];
        uint32_t n = t < WIDTH ? 0 : FAN_IN;
        for (uint32_t k = 0; k <= n; k++) {
            x[k].data = slots + (uint64_t)(k < n ? from[t][k] : t) * SLOT;
            x[k].dtype = TSM_U64;
            x[k].tag = k < n ? TSM_INPUT : TSM_OUTPUT_EXISTING;
            x[k].ndim = 1;
            x[k].stride_given = 0;
            x[k].shape[0] = SLOT / 8;
        }
        struct tsm_call call = {.callable = rig.empty,
                                .chip = (int)(t % rig.chips),
                                .tensors = x,
                                .tensor_count = n + 1};
        int rc = tsm_submit(orch, &call, NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static uint64_t bare_waits[TASKS][FAN_IN];
static uint32_t bare_counts[TASKS];

/* What the floor is given: like the records, without the waits that an earlier one on the ring makes. Values
 * are relative to the first task of the batch. */
static void plan_floor(uint32_t workers)
{
    uint64_t known[CHIPS_MAX_HERE][CHIPS_MAX_HERE] = {0};
    for (uint32_t t = 0; t < TASKS; t++) {
        uint32_t self = t % workers;
        bare_counts[t] = 0;
        for (uint32_t k = 0; t >= WIDTH && k < FAN_IN; k++) {
            uint32_t place = from[t][k] % workers;
            uint64_t value = from[t][k] / workers + 1;
            if (place != self && known[self][place] < value) {
                known[self][place] = value;
                bare_waits[t][bare_counts[t]++] = bare_wait(place, value);
            }
        }
    }
}

static double time_floor(void)
{
    uint64_t offset = bare.published[0];
    bare_begin(&bare);
    uint64_t begin = clock_ns();
    for (uint32_t t = 0; t < TASKS; t++) {
        uint64_t waits[FAN_IN];
        for (uint32_t k = 0; k < bare_counts[t]; k++) {
            waits[k] = bare_waits[t][k] + offset;
        }
        bare_put(&bare, t % bare.workers, waits, bare_counts[t], 0, 0);
    }
    bare_drain(&bare);
    uint64_t end = clock_ns();
    bare_end(&bare);
    return (double)(end - begin) / TASKS;
}

struct way {
    tsm_orch_fn *fn;
    const char *edges, *order;
};
static const struct way ways[] = {{submit_by_id, "edges by id", "graph"},
                                  {submit_by_tensor, "inferred", "graph_data"}};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static void batch(void *ctx, struct sample *ret)
{
    const struct way *way = ctx;
    uint64_t begin = clock_ns();
    rig_run(&rig, way->fn, NULL);
    ret->value = (double)(clock_ns() - begin) / TASKS;
    ret->floor = time_floor();
}

static void ask(void *ctx, struct sample *ret)
{
    const struct way *way = ctx;
    task_peers_ask(&peers, way->order, ret);
}

static void report(const char *edges, uint32_t chips, bool probed, const struct samples *s)
{
    char params[64];
    snprintf(params, sizeof(params), "%s, %u chip%s", edges, chips, chips == 1 ? "" : "s");
    struct figure f = {.name = "random graph, per task",
                       .params = params,
                       .unit = "ns",
                       .against = AGAINST_FLOOR,
                       .limit = 3,
                       .also = AGAINST_PEER,
                       .also_limit = 1,
                       .peers = task_peer_names(),
                       .chips = chips,
                       .x = TASKS};
    if (probed) {
        figure_report_cores(&f, s);
    } else {
        figure_report(&f, s);
    }
}

static void measure(uint32_t chips, struct task_rates *rates)
{
    struct samples s[WAYS] = {0};
    bool probed = chips == 1 && two_cores();
    void *memory;
    pin_self(0);
    if (probed) {
        r_start(0, 1);
    }
    plan_floor(chips);
    task_peers_start(&peers, chips);
    bare_start(&bare, chips, 1, 4096, !probed);
    rig_start(&rig, chips, NULL);
    rig_pin(&rig, 1);
    bench_must(tsm_buffer_create(rig.worker, TASKS * SLOT, &memory), "buffer", "");
    slots = memory;
    for (int i = 0; i < WAYS; i++) {
        struct way way = ways[i];
        batches_with_peers(ROUNDS, ROUNDS_PER_ASK, &s[i], batch, ask, &way);
    }
    rig_stop(&rig);
    bare_stop(&bare);
    task_peers_stop(&peers);
    r_stop();
    for (int i = 0; i < WAYS; i++) {
        report(ways[i].edges, chips, probed, &s[i]);
        task_rates_add(&rates[i], chips, &s[i]);
        samples_free(&s[i]);
    }
}

int main(int argc, char **argv)
{
    struct task_rates rates[WAYS] = {0};
    bench_begin("graph", argc, argv);
    graph_make(from);
    measure(1, rates);
    measure(2, rates);
    measure(8, rates);
    task_rates_note(&rates[0], "random graph, edges by id, tasks");
    task_rates_note(&rates[1], "random graph, inferred, tasks");
    return bench_end();
}

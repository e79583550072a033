/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A random layered graph: 100 layers of 100 empty tasks, each after 3 random ones of the layer before, submitted and
 * run. The edges are given by id (as the peer's are), then inferred from what the tasks read and write. Floor:
 * the same graph as bare records whose waits were computed before. Peer: oneTBB's flow graph, built and run,
 * in threads (bench/peer/tbb_graph.cpp), when it was found at build time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bare.h"
#include "rig.h"

enum {
    LAYERS = 100,
    WIDTH = 100,
    TASKS = LAYERS * WIDTH,
    FAN_IN = 3,
    SLOT = 64,
    CHIPS_MAX_HERE = 2,
    SEED = 12345
};

static struct rig rig;
static struct bare bare;
static uint32_t from[TASKS][FAN_IN]; /* numbers of the tasks it follows */
static tsm_task_id ids[TASKS];
static uint8_t *slots;

/* bench/peer/tbb_graph.cpp makes the same graph. */
static void make_graph(void)
{
    struct random r = {SEED};
    for (uint32_t t = WIDTH; t < TASKS; t++) {
        uint32_t layer = (t / WIDTH - 1) * WIDTH;
        for (uint32_t k = 0; k < FAN_IN; k++) {
            bool again = true;
            while (again) {
                from[t][k] = layer + random_below(&r, WIDTH);
                again = (k > 0 && from[t][0] == from[t][k]) || (k > 1 && from[t][1] == from[t][k]);
            }
        }
    }
}

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

static void batch(void *ctx, struct sample *ret)
{
    tsm_orch_fn *const *fn = ctx;
    uint64_t begin = clock_ns();
    rig_run(&rig, *fn, NULL);
    ret->value = (double)(clock_ns() - begin) / TASKS;
    ret->floor = time_floor();
}

/* ns per task of the peer with so many threads; 0 when there is no peer. */
static double ask_peer(uint32_t threads)
{
    char path[4096];
    char command[4300];
    double ns = 0;
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
    if (n <= 0) {
        return 0;
    }
    path[n] = 0;
    strcpy(strrchr(path, '/'), "/peer/tbb_graph");
    if (access(path, X_OK) != 0) {
        return 0;
    }
    snprintf(command, sizeof(command), "'%s' %u %u", path, threads, SEED);
    FILE *f = popen(command, "r");
    if (f) {
        if (fscanf(f, "%lf", &ns) != 1) {
            ns = 0;
        }
        pclose(f);
    }
    return ns;
}

static void report(const char *edges, uint32_t chips, bool probed, const struct samples *s,
                   struct samples *peer)
{
    char params[64];
    snprintf(params, sizeof(params), "%s, %u chip%s", edges, chips, chips == 1 ? "" : "s");
    struct figure f = {"random graph, per task", params, "ns", AGAINST_FLOOR, 3};
    if (probed) {
        figure_report_cores(&f, s);
    } else {
        figure_report(&f, s);
    }
    if (peer->count == 0) {
        return;
    }
    struct samples against = {0};
    for (uint32_t i = 0; i < s->count; i++) {
        samples_add(&against, s->list[i].value, peer->list[i % peer->count].value, s->list[i].r);
    }
    struct figure g = {"random graph / oneTBB", params, "ns", AGAINST_FLOOR, 1};
    figure_report(&g, &against);
    samples_free(&against);
}

enum { SETS = 25, ROUNDS_PER_SET = 6 };

static void measure(uint32_t chips)
{
    static tsm_orch_fn *const fns[] = {submit_by_id, submit_by_tensor};
    struct samples s[2] = {0};
    struct samples peer = {0};
    bool probed = chips == 1 && two_cores();
    void *memory;
    pin_self(0);
    if (probed) {
        r_start(0, 1);
    }
    plan_floor(chips);
    bare_start(&bare, chips, 1, 4096, !probed);
    rig_start(&rig, chips, NULL);
    rig_pin(&rig, 1);
    bench_must(tsm_buffer_create(rig.worker, TASKS * SLOT, &memory), "buffer", "");
    slots = memory;
    for (int set = 0; set < SETS; set++) {
        for (int i = 0; i < 2; i++) {
            tsm_orch_fn *fn = fns[i];
            batches(ROUNDS_PER_SET, &s[i], batch, &fn);
        }
        unpin_self();
        double ns = ask_peer(chips);
        pin_self(0);
        if (ns > 0) {
            samples_add(&peer, ns, 0, 0);
        }
    }
    rig_stop(&rig);
    bare_stop(&bare);
    r_stop();
    report("edges by id", chips, probed, &s[0], &peer);
    report("inferred", chips, probed, &s[1], &peer);
    if (peer.count == 0) {
        bench_note("oneTBB is missing (libtbb-dev, a C++ compiler): no peer for the random graph");
    }
}

int main(int argc, char **argv)
{
    bench_begin("graph", argc, argv);
    make_graph();
    measure(1);
    measure(2);
    return bench_end();
}

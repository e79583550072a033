/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Submitting a task that reads what three random tasks in flight write, and writes something itself, while the range map
 * holds 10 to 10^6 live ranges. All chips are held, so that nothing is done meanwhile and the orchestrator has its core.
 *
 * exact: each input is what one task writes. overlapping: it begins in the middle of what one task writes and ends in the
 * middle of what another does, one to three further on, so each has two to four writers; what has been read that way is two
 * ranges from then on. Each timed task writes a place of its own or, where there are few live ranges, one that an earlier
 * timed task writes (peer/tasks.h): the number stays what it is called.
 *
 * Floor: the same addresses, three lookups and an update, in a hash table that has each live one with its writer; it
 * knows equal addresses only, and no readers. Peer: StarPU's starpu_task_submit of the same tasks, whose data are handles
 * (exact only: handles do not overlap); making the tasks and the handles is not counted.
 */
#include <stdlib.h>

#include "peer/tasks.h"
#include "rig.h"
#include "taskpeers.h"

enum {
    SLOT = 64,
    CHIPS = SUBMIT_CHIPS,
    BATCH = SUBMIT_BATCH,
    BATCHES = SUBMIT_BATCHES,
    INPUTS = SUBMIT_INPUTS,
    PARTS_MAX = 4, /* writers of one overlapping input */
    RUNS = 8,
    RUNS_MOST = 2, /* with the peer and the most ranges */
    WARM_RUNS = 3, /* until the rings have been written once all around */
    LIVE_MAX = 1000000,
    LIVE_RECORD = 128, /* bytes, about */
    TIMED_RECORD = 320,
    RING_MIN = 1 << 20
};

/* What the orchestrator's map would be if it knew equal addresses only. */
struct table {
    struct entry {
        uint64_t key, writer;
    } * entries;
    uint64_t mask;
};

struct plan {
    uint32_t live, fresh, outputs;
    bool overlapping;
    struct samples submit, ranges, waits;
    double in_map;    /* ranges in the map at the end of a run; median */
    double producers; /* chips that a task waits for; median */
};

static struct rig rig;
static struct table table;
static struct contender starpu;
static uint8_t *slots; /* the live ones, then those of the timed tasks */
static struct random numbers = {77};
static volatile uint64_t sink; /* what the floor found, so that it is looked for */

/* ---- the floor ---- */

static struct entry *entry_of(uint64_t key)
{
    uint64_t at = key * UINT64_C(0x9e3779b97f4a7c15) >> 20 & table.mask;
    while (table.entries[at].key != 0 && table.entries[at].key != key) {
        at = (at + 1) & table.mask;
    }
    return &table.entries[at];
}

static void write_entry(uint64_t key, uint64_t writer)
{
    struct entry *e = entry_of(key);
    e->key = key;
    e->writer = writer;
}

static void table_start(uint32_t most)
{
    uint64_t size = 16;
    while (size < 2 * (uint64_t)most) {
        size *= 2;
    }
    table.mask = size - 1;
    table.entries = malloc(size * sizeof(*table.entries));
    bench_must(table.entries ? 0 : -1, "memory", "");
}

static void table_fill(uint32_t live)
{
    memset(table.entries, 0, (table.mask + 1) * sizeof(*table.entries));
    for (uint32_t i = 0; i < live; i++) {
        write_entry((uintptr_t)slots + (uint64_t)i * SLOT, i);
    }
}

/* ---- tasks ---- */

static struct tsm_tensor part(uint64_t begin, uint64_t bytes, uint8_t tag)
{
    struct tsm_tensor t = {.data = slots + begin, .dtype = TSM_U64, .tag = tag, .ndim = 1};
    t.shape[0] = bytes / 8;
    return t;
}

static void make_live(tsm_orch *orch, uint32_t live)
{
    for (uint32_t i = 0; i < live; i++) {
        struct tsm_tensor x = part((uint64_t)i * SLOT, SLOT, TSM_OUTPUT_EXISTING);
        struct tsm_call call = {
            .callable = rig.empty, .chip = (int)(i % CHIPS), .tensors = &x, .tensor_count = 1};
        rig_submit(&rig, orch, &call);
    }
}

static struct tsm_tensor input(const struct plan *p)
{
    if (!p->overlapping) {
        return part((uint64_t)random_below(&numbers, p->live) * SLOT, SLOT, TSM_INPUT);
    }
    uint64_t parts = 2 + random_below(&numbers, PARTS_MAX - 1);
    uint64_t first = random_below(&numbers, p->live - (uint32_t)parts + 1);
    return part(first * SLOT + SLOT / 2, (parts - 1) * SLOT, TSM_INPUT);
}

static double time_floor(const struct plan *p, struct tsm_tensor (*x)[INPUTS + 1], uint32_t first)
{
    uint64_t found = 0;
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < BATCH; i++) {
        for (uint32_t k = 0; k < INPUTS; k++) {
            found += entry_of((uintptr_t)x[i][k].data & ~(uint64_t)(SLOT - 1))->writer;
        }
        if (p->outputs > 0) {
            write_entry((uintptr_t)x[i][INPUTS].data, first + i);
        }
    }
    uint64_t end = clock_ns();
    sink = found;
    return (double)(end - begin) / BATCH;
}

static void time_batch(tsm_orch *orch, struct plan *p, uint32_t first)
{
    static struct tsm_tensor x[BATCH][INPUTS + 1];
    for (uint32_t i = 0; i < BATCH; i++) {
        for (uint32_t k = 0; k < INPUTS; k++) {
            x[i][k] = input(p);
        }
        uint64_t own = p->live + (first + i) % p->fresh;
        x[i][INPUTS] = part(own * SLOT, SLOT, TSM_OUTPUT_EXISTING);
    }
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < BATCH; i++) {
        struct tsm_call call = {.callable = rig.empty,
                                .chip = (int)(i % CHIPS),
                                .tensors = x[i],
                                .tensor_count = INPUTS + p->outputs};
        rig_submit(&rig, orch, &call);
    }
    double ns = (double)(clock_ns() - begin) / BATCH;
    samples_add(&p->submit, ns, time_floor(p, x, first), 0);
}

static int submit_all(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    struct tsm_stats before, after;
    rig_hold(&rig, orch, CHIPS);
    make_live(orch, p->live);
    table_fill(p->live);
    tsm_worker_stats(rig.worker, &before);
    for (uint32_t b = 0; b < BATCHES; b++) {
        time_batch(orch, p, b * BATCH);
    }
    tsm_worker_stats(rig.worker, &after);
    double edges = (double)(after.waits + after.waits_elided - before.waits - before.waits_elided);
    samples_add(&p->ranges, (double)after.ranges, 0, 0);
    samples_add(&p->waits, edges / (BATCHES * BATCH), 0, 0);
    rig_open(&rig);
    return 0;
}

/* ---- figures ---- */

static uint64_t ring_bytes(uint32_t live)
{
    uint64_t bytes = RING_MIN;
    uint64_t needed =
        ((uint64_t)live * LIVE_RECORD + (uint64_t)BATCH * BATCHES * TIMED_RECORD) / CHIPS;
    while (bytes < needed) {
        bytes *= 2;
    }
    return bytes;
}

/* The peer's answer goes into the first sample of the run that has just been. 10^6 handles take gigabytes and seconds. */
static void ask(struct plan *p, int run)
{
    bool often = p->live < LIVE_MAX || bench_long();
    if (!p->overlapping && p->outputs > 0 && (often || run < RUNS_MOST)) {
        p->submit.list[p->submit.count - BATCHES].peer[TASK_STARPU] =
            contender_ask(&starpu, "submit %u exact", p->live);
    }
}

static void report(const struct plan *p, const char *power)
{
    char params[64];
    bool promised = p->live == 100000 && !p->overlapping;
    snprintf(params, sizeof(params), "%d inputs%s, %s live", INPUTS, p->outputs ? ", 1 output" : "",
             power);
    struct figure f = {.name = p->overlapping ? "submit, overlapping" : "submit, exact",
                       .params = params,
                       .unit = "ns",
                       .against = promised ? AGAINST_MAX : AGAINST_NOTHING,
                       .limit = 500,
                       .peers = task_peer_names(),
                       .x = p->live};
    figure_report(&f, &p->submit);
}

static double median(const struct samples *s)
{
    double v[RUNS];
    for (uint32_t i = 0; i < RUNS; i++) {
        v[i] = s->list[i].value;
    }
    return quantile(v, RUNS, 0.5);
}

static void measure(struct plan *p, const char *power)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    void *memory;
    o.ring_bytes = ring_bytes(p->live);
    p->fresh = submit_outputs(p->live);
    rig_start(&rig, CHIPS, &o);
    bench_must(tsm_buffer_create(rig.worker, (uint64_t)(p->live + p->fresh) * SLOT, &memory),
               "buffer", "");
    slots = memory;
    table_start(p->live + p->fresh);
    for (int i = 0; i < WARM_RUNS + RUNS; i++) {
        rig_run(&rig, submit_all, p);
        if (i < WARM_RUNS) {
            p->submit.count = p->ranges.count = p->waits.count = 0;
        } else {
            ask(p, i - WARM_RUNS);
        }
    }
    rig_stop(&rig);
    free(table.entries);
    report(p, power);
    p->in_map = median(&p->ranges);
    p->producers = median(&p->waits);
    samples_free(&p->submit);
    samples_free(&p->ranges);
    samples_free(&p->waits);
}

static void measure_sweep(bool overlapping)
{
    static const struct {
        uint32_t live;
        const char *power;
    } sizes[] = {{10, "10"},      {100, "10^2"},    {1000, "10^3"},
                 {10000, "10^4"}, {100000, "10^5"}, {LIVE_MAX, "10^6"}};
    char text[300];
    int length = 0;
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct plan p = {.live = sizes[i].live, .outputs = 1, .overlapping = overlapping};
        measure(&p, sizes[i].power);
        length += snprintf(text + length, sizeof(text) - (size_t)length, "%s%s: %.0f, %.1f",
                           i ? "; " : "", sizes[i].power, p.in_map, p.producers);
    }
    bench_note("%s, live: ranges in the map at the end, producing chips a task: %s",
               overlapping ? "overlapping" : "exact", text);
}

int main(int argc, char **argv)
{
    struct plan p = {.live = 100000, .outputs = 0};
    bench_begin("submit", argc, argv);
    pin_self(0);
    contender_start(&starpu, "StarPU", "tasks_starpu", 1, NULL);
    measure_sweep(false);
    measure_sweep(true);
    measure(&p, "10^5");
    contender_stop(&starpu);
    return bench_end();
}

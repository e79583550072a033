/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Empty independent tasks, pipelined: one run that submits them all round robin to 1, 2 and 8 chips, from the first
 * submit to the last done. Floor: as many bare records over bare rings to as many processes on the same
 * cores, with rings as large. Peers: with as many worker threads as there are chips.
 */
#include "bare.h"
#include "rig.h"
#include "taskpeers.h"

enum { TASKS = 20000, RING_SLOTS = 4096, ROUNDS = 240, ROUNDS_PER_ASK = 16 };

static struct rig rig;
static struct bare bare;
static struct task_peers peers;
static struct task_rates rates;

static int submit_all(tsm_orch *orch, void *arg)
{
    (void)arg;
    struct tsm_call call = {.callable = rig.empty};
    for (uint32_t i = 0; i < TASKS; i++) {
        call.chip = (int)(i % rig.chips);
        int rc = tsm_submit(orch, &call, NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static void batch(void *ctx, struct sample *ret)
{
    (void)ctx;
    uint64_t begin = clock_ns();
    rig_run(&rig, submit_all, NULL);
    ret->value = (double)(clock_ns() - begin) / TASKS;
    bare_begin(&bare);
    begin = clock_ns();
    for (uint32_t i = 0; i < TASKS; i++) {
        bare_put(&bare, i % rig.chips, NULL, 0, 0, 0);
    }
    bare_drain(&bare);
    ret->floor = (double)(clock_ns() - begin) / TASKS;
    bare_end(&bare);
}

static void ask(void *ctx, struct sample *ret)
{
    char order[32];
    (void)ctx;
    snprintf(order, sizeof(order), "independent %d", TASKS);
    task_peers_ask(&peers, order, ret);
}

static void report(uint32_t chips, bool by_cores, const struct samples *s)
{
    char params[32];
    snprintf(params, sizeof(params), "%u chip%s", chips, chips == 1 ? "" : "s");
    /* 200 ns are the 5 million tasks a second that are promised. */
    struct figure f = {.name = "independent tasks",
                       .params = params,
                       .unit = "ns",
                       .against = AGAINST_FLOOR,
                       .limit = 3,
                       .also = AGAINST_MAX,
                       .also_limit = 200,
                       .peers = task_peer_names(),
                       .chips = chips,
                       .x = TASKS};
    if (by_cores) {
        figure_report_cores(&f, s);
    } else {
        figure_report(&f, s);
    }
}

static void measure(uint32_t chips)
{
    struct samples s = {0};
    bool probed = chips == 1 && two_cores();
    pin_self(0);
    if (probed) {
        r_start(0, 1);
    }
    task_peers_start(&peers, chips);
    bare_start(&bare, chips, 1, RING_SLOTS, !probed);
    rig_start(&rig, chips, NULL);
    rig_pin(&rig, 1);
    batches_with_peers(ROUNDS, ROUNDS_PER_ASK, &s, batch, ask, NULL);
    rig_stop(&rig);
    bare_stop(&bare);
    task_peers_stop(&peers);
    r_stop();
    report(chips, probed, &s);
    task_rates_add(&rates, chips, &s);
    samples_free(&s);
}

int main(int argc, char **argv)
{
    bench_begin("independent", argc, argv);
    measure(1);
    measure(2);
    measure(8);
    task_rates_note(&rates, "independent tasks");
    return bench_end();
}

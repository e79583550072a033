/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Empty independent tasks, pipelined: one run that submits them all round robin to 1, 2 and 8 chips, from the first
 * submit to the last done. Floor: as many bare records over bare rings to as many processes on the same
 * cores, with rings as large.
 */
#include "bare.h"
#include "rig.h"

#include <stdio.h>

enum { TASKS = 20000, RING_SLOTS = 4096 };

static struct rig rig;
static struct bare bare;

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

static void report(const char *params, bool by_cores, const struct samples *s)
{
    struct samples rate = {0};
    struct figure f = {"independent tasks", params, "ns", AGAINST_FLOOR, 3};
    struct figure g = {"independent tasks, rate", params, "M/s", AGAINST_MIN, 5};
    for (uint32_t i = 0; i < s->count; i++) {
        double floor = s->list[i].floor > 0 ? 1000 / s->list[i].floor : 0;
        samples_add(&rate, 1000 / s->list[i].value, floor, s->list[i].r);
    }
    if (by_cores) {
        figure_report_cores(&f, s);
        figure_report_cores(&g, &rate);
    } else {
        figure_report(&f, s);
        figure_report(&g, &rate);
    }
    samples_free(&rate);
}

static void measure(uint32_t chips, uint32_t rounds)
{
    struct samples s = {0};
    char params[32];
    bool probed = chips == 1 && two_cores();
    snprintf(params, sizeof(params), "%u chip%s", chips, chips == 1 ? "" : "s");
    pin_self(0);
    if (probed) {
        r_start(0, 1);
    }
    bare_start(&bare, chips, 1, RING_SLOTS, !probed);
    rig_start(&rig, chips, NULL);
    rig_pin(&rig, 1);
    batches(rounds, &s, batch, NULL);
    rig_stop(&rig);
    bare_stop(&bare);
    r_stop();
    report(params, probed, &s);
    samples_free(&s);
}

int main(int argc, char **argv)
{
    bench_begin("independent", argc, argv);
    measure(1, 300);
    measure(2, 200);
    measure(8, 200);
    return bench_end();
}

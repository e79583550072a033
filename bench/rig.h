/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A worker to be measured: started, its chips pinned, with the few callables that all benchmarks need. The
 * orchestrator is the benchmark's process.
 */
#ifndef BENCH_RIG_H
#define BENCH_RIG_H

#include "common.h"
#include "transom/task.h"
#include "transom/transom.h"

struct rig {
    tsm_worker *worker;
    uint32_t chips;
    tsm_callable empty; /* does nothing */
    tsm_callable hold;  /* sleeps until rig_open */
    tsm_callable stamp; /* writes clock_ns to clocks[scalar 0] */
    tsm_callable pin;
    tsm_callable dirty; /* fills the windows of its domain with ones */
    a32 *gate;
    uint64_t *clocks; /* 8 of them, shared */
};

/* A callable of the benchmark's own, for the next rig_start; up to 4. */
void rig_add(const char *name, tsm_task_fn *fn, tsm_callable *ret);
/* opts NULL: defaults, with `chips`. Ends the program when it cannot start. */
void rig_start(struct rig *r, uint32_t chips, const struct tsm_worker_opts *opts);
/* Chip c goes to core (first + c) % cores. */
void rig_pin(struct rig *r, uint32_t first);
void rig_stop(struct rig *r);

/* Runs fn and ends the program when that fails. */
void rig_run(struct rig *r, tsm_orch_fn *fn, void *arg);
/* Submits; ends the program when that fails. */
tsm_task_id rig_submit(struct rig *r, tsm_orch *orch, const struct tsm_call *call);

/* Tasks submitted to these chips from now on wait behind it until rig_open. */
void rig_hold(struct rig *r, tsm_orch *orch, uint32_t chips);
/* Lets the held ones go. May be called from another process. */
void rig_open(struct rig *r);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The peers of the figures about tasks, as the benchmarks see them: StarPU, oneTBB and OpenMP, each a program
 * (peer/tasks_*) with as many workers as there are chips. OpenMP is there twice: what is quick while every thread has
 * a core is slow when they share them, and the other way round. Runs in the benchmark's process.
 */
#ifndef BENCH_TASKPEERS_H
#define BENCH_TASKPEERS_H

#include "common.h"
#include "contender.h"

enum { TASK_STARPU, TASK_ONETBB, TASK_OPENMP_ACTIVE, TASK_OPENMP_PASSIVE, TASK_PEERS };

struct task_peers {
    struct contender one[TASK_PEERS];
};

/* For struct figure. */
const char *const *task_peer_names(void);
/* Says once, in a note, what has to be known to read the figures. */
void task_peers_explain(void);
void task_peers_start(struct task_peers *p, uint32_t workers);
/* The same order to each. */
void task_peers_ask(struct task_peers *p, const char *order, struct sample *ret);
void task_peers_stop(struct task_peers *p);

/* A line that grows: tasks per second by number of chips. Zeroed at first. */
struct task_rates {
    char text[360];
    uint32_t length;
};
void task_rates_add(struct task_rates *r, uint32_t chips, const struct samples *s);
void task_rates_note(const struct task_rates *r, const char *what);

#endif

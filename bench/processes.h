/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What processes cost while they exist: time on a core and memory, read from /proc; and the peers that are
 * measured so: the ranks of an MPI, a Pool of Python's multiprocessing. Runs in the benchmark's own process.
 */
#ifndef BENCH_PROCESSES_H
#define BENCH_PROCESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "crew.h"

enum { PROCESSES_MAX = 1024 };

/* Nanoseconds that the threads of a process have been on a core; 0 when it is gone. */
double process_cpu_ns(pid_t pid);
/* Memory in bytes: what it has alone, and its share of what it has with others (PSS). */
double process_bytes(pid_t pid);

struct processes {
    pid_t pids[PROCESSES_MAX];
    uint32_t count;
};
/* A process and all that descend from it now. */
void processes_of(pid_t root, struct processes *ret);
double processes_cpu_ns(const struct processes *p);
double processes_bytes(const struct processes *p);

/* ---- peers ---- */

/* The ranks of an MPI, started by its launcher with the settings that suit more ranks than cores. They sleep until the
 * crew gets an order. which: 0 Open MPI, 1 MPICH. false, with a note, when it is not there or does not come up. */
enum { MPIS = 2 };
extern const char *const mpi_names[MPIS];
bool mpi_start(struct crew *c, int which, uint32_t ranks);

/* multiprocessing.Pool of the python3 on the path: a program of its own with `workers` workers that have each slept a
 * moment for it. */
struct pool {
    pid_t pid; /* 0: there is none */
    FILE *orders, *answers;
};
/* method: "fork" or "spawn". Without workers it is the program alone, which has no Pool. */
bool pool_start(struct pool *p, const char *method, uint32_t workers);
/* One worker sleeps and the program waits for it; returns when that has begun. */
void pool_wait(struct pool *p, uint32_t seconds);
void pool_stop(struct pool *p);

#endif

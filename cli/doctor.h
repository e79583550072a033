/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What `transom doctor` looks at (checks.c) and measures (measure.c). Command line tool.
 */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "cli/cli.h"

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_PROBLEM };

struct finding {
    enum level level;
    struct text fact;
    struct text remedy; /* what it costs and what to do; "" when all is well */
};

struct check {
    const char *name;
    void (*look)(struct finding *ret);
};
extern const struct check checks[];
extern const int check_count;

/* What this machine takes for what a worker does, in ns; 0: could not be measured. */
struct costs {
    uint64_t fork;       /* a small process, until its end is seen */
    uint64_t wake_same;  /* waking a process that sleeps, on the same core */
    uint64_t wake_other; /* on another core */
    uint64_t line;       /* one cache line to another core and back */
};
/* Takes about a quarter of a second. */
void measure_costs(struct costs *ret);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The keeper: the supervisor process of a worker. */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include <sys/types.h>

#include "shm/arena.h"

struct keeper_start {
    int event_fd; /* eventfd: a child made a mark, began a limited task, or the worker shuts down */
    int lifeline_fd;    /* read end of a pipe that only the orchestrator can write */
    pid_t orchestrator; /* its parent */
    int pin;            /* enum tsm_pin */
    const char *backend;
};

/* The whole life of the process, forked by the orchestrator or a fresh program; never returns. */
_Noreturn void keeper_main(const struct arena *arena, const struct keeper_start *start);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Reading what a place says about a run that failed on it. Any process that has the arena. */
#ifndef SHM_MARK_H
#define SHM_MARK_H

#include <stdbool.h>

#include "shm/layout.h"

/* Whether record `number` of the run (its low bits) failed or was skipped at this place. */
static inline bool mark_says(const struct mark *m, uint32_t run, uint64_t number)
{
    uint64_t of = a64_acquire(&m->run); /* pairs with make_mark in chip/run.c */
    return of != 0 && (uint32_t)of == run && number >= m->first_bad;
}

#endif

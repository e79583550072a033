/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The floor of communication: processes on one mapping that do each operation in the barest direct way: barrier, work,
 * barrier. Nothing is checked, nobody sleeps, nothing can fail. They spin when each has a core, else they yield.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "crew.h"

/* A crew with all operations. bytes_max: the largest order. */
void floor_start(struct crew *c, uint32_t size, uint64_t bytes_max);
void floor_stop(struct crew *c);

/* A copy whose stores bypass the caches. */
void floor_copy_stream(uint8_t *to, const uint8_t *from, uint64_t bytes);

#endif

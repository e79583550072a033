/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The floor of dispatch: worker processes that take 64-byte records from shared rings, make precomputed waits and
 * advance a counter, and nothing else. No checks, no failure handling, no sleeping while a batch lasts.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <sys/types.h>

#include "common.h"

enum { BARE_WORKERS_MAX = 64, BARE_WAITS = 5, BARE_CLOCK = 1, BARE_RING = 2 };

struct bare_record {
    a64 stamp;
    uint32_t wait_count;
    uint16_t flags;             /* BARE_CLOCK: note the time; BARE_RING: wake the parent */
    uint16_t clock;             /* where */
    uint64_t waits[BARE_WAITS]; /* place << 48 | value */
    uint64_t reserved;
};
_Static_assert(sizeof(struct bare_record) == 64, "a record is a line");

struct bare_line {
    a64 value;
    uint8_t reserved[56];
};

struct bare_shared {
    struct bare_line done[BARE_WORKERS_MAX + 1]; /* at index workers: the parent's own word */
    struct bare_line awake[BARE_WORKERS_MAX];
    a32 gate; /* odd: a batch lasts */
    uint8_t reserved0[60];
    a32 bell; /* the parent's */
    uint8_t reserved1[60];
    uint64_t clocks[8];
};

struct bare {
    struct bare_shared *shared;
    struct bare_record *rings; /* worker w's: slots of them */
    uint32_t workers, slots;
    bool yield;
    uint64_t published[BARE_WORKERS_MAX], seen[BARE_WORKERS_MAX];
    pid_t pid[BARE_WORKERS_MAX];
};

/* Worker w on core (first + w) % cores. yield: between looks give the core away now and then; for more
 * processes than cores. slots: a power of two. */
void bare_start(struct bare *b, uint32_t workers, uint32_t first, uint32_t slots, bool yield);
void bare_stop(struct bare *b);

/* Around a batch: outside of it the workers sleep. */
void bare_begin(struct bare *b);
void bare_end(struct bare *b);

/* Appends; waits while the ring is full. Returns: the record's number on its worker. */
uint64_t bare_put(struct bare *b, uint32_t worker, const uint64_t *waits, uint32_t count,
                  uint32_t flags, uint32_t clock);
static inline uint64_t bare_wait(uint32_t worker, uint64_t value)
{
    return (uint64_t)worker << 48 | value;
}
/* Waits until all is done. */
void bare_drain(struct bare *b);

#endif

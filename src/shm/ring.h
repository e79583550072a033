/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A ring of records: written by the orchestrator (struct ring_writer, its private state), read by one place, or
 * by all subs for the pool's. Memory of a record is free again when the timeline has passed it.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include "shm/arena.h"

struct ring_writer {
    struct ring_head *head;
    uint8_t *data;
    uint32_t *index; /* number % slots -> offset / 64 of the record or of its RECORD_WRAP */
    uint64_t mask;   /* bytes - 1 */
    uint64_t slots_mask;
    uint64_t tail;       /* bytes ever given out; position is tail & mask */
    uint64_t published;  /* number of the newest record */
    uint64_t freed;      /* number of the newest record known to be done */
    uint64_t freed_tail; /* bytes up to its end: tail - freed_tail are in use */
};

void ring_writer_init(struct ring_writer *r, const struct arena *a, uint32_t ring);

/* Room for a record of `bytes` (a multiple of 64) as the next one, with `done` records done. Returns its place
 * or NULL when the ring is too full. */
struct record *ring_reserve(struct ring_writer *r, uint32_t bytes, uint64_t done);
/* The number a record must have been done for, before a reserve that failed can succeed. */
uint64_t ring_blocked_on(const struct ring_writer *r);
/* Makes the reserved record visible. Its bytes are set; returns its number. The caller wakes. */
uint64_t ring_publish(struct ring_writer *r, struct record *rec, uint32_t bytes);

/* A place's position in its own ring. */
struct ring_reader {
    const uint8_t *data;
    const uint32_t *index;
    const struct ring_head *head;
    uint64_t mask;
    uint64_t at;    /* position of the next record */
    uint64_t next;  /* its number */
    uint64_t known; /* records up to this one are there: their stamps need no look */
};

/* From the timeline alone: also how a replacement takes over. */
void ring_reader_init(struct ring_reader *r, const struct arena *a, uint32_t ring, uint64_t done);
/* The next record, or NULL when it is not there yet. */
const struct record *ring_peek(struct ring_reader *r);
void ring_advance(struct ring_reader *r, const struct record *rec);
/* Record `number` of any ring, by the index; it must be published and not freed. */
const struct record *ring_record(const struct arena *a, uint32_t ring, uint64_t number);

#endif

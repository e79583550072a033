/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Rings of records (ring.h). The orchestrator writes, one place reads. Before a record becomes visible the
 * stamp of the place behind it is cleared, so that a reader that gets there finds "not yet" and never an
 * old record or argument bytes; that is why a reserve keeps one line more than it gives out. docs/shm.md.
 */
#include "shm/ring.h"

#include <string.h>

void ring_writer_init(struct ring_writer *r, const struct arena *a, uint32_t ring)
{
    memset(r, 0, sizeof(*r));
    r->head = &a->rings[ring];
    r->data = arena_at(a, r->head->data_offset);
    r->index = arena_at(a, r->head->index_offset);
    r->mask = r->head->bytes - 1;
    r->slots_mask = r->head->slots - 1;
}

/* Learns from the timeline how much is free. A RECORD_WRAP in front of the next record stays in use: the reader
 * may not have come by it yet. */
static void collect(struct ring_writer *r, uint64_t done)
{
    if (done <= r->freed || done > r->published) {
        return;
    }
    uint64_t end = (uint64_t)r->index[(done + 1) & r->slots_mask] * LINE;
    r->freed = done;
    /* Everything in use is less than one ring, so the distance decides. */
    r->freed_tail = r->tail - ((r->tail - end) & r->mask);
}

struct record *ring_reserve(struct ring_writer *r, uint32_t bytes, uint64_t done)
{
    uint64_t at = r->tail & r->mask;
    uint64_t to_end = r->mask + 1 - at;
    /* A record never wraps: the rest of the ring becomes a RECORD_WRAP. */
    uint64_t skip = bytes > to_end ? to_end : 0;
    uint64_t need = skip + bytes + LINE;
    if (r->tail + need - r->freed_tail > r->mask + 1) {
        collect(r, done);
        if (r->tail + need - r->freed_tail > r->mask + 1) {
            return NULL;
        }
    }
    if (skip != 0) {
        struct record *wrap = (struct record *)(r->data + at);
        wrap->kind = RECORD_WRAP;
        a64_store(&((struct record *)r->data)->stamp, 0);
        a64_release(&wrap->stamp, r->published + 1);
        r->tail += skip;
        at = 0;
    }
    return (struct record *)(r->data + at);
}

uint64_t ring_blocked_on(const struct ring_writer *r)
{
    return r->freed + 1;
}

uint64_t ring_publish(struct ring_writer *r, struct record *rec, uint32_t bytes)
{
    uint64_t number = ++r->published;
    rec->bytes = bytes;
    r->tail += bytes;
    /* The slot of number + 1 - slots: freed, as each record in use takes a line and one line is kept. */
    r->index[(number + 1) & r->slots_mask] = (uint32_t)((r->tail & r->mask) / LINE);
    a64_store(&((struct record *)(r->data + (r->tail & r->mask)))->stamp, 0);
    a64_release(&rec->stamp, number); /* pairs with ring_peek */
    a64_release(&r->head->published, number);
    return number;
}

void ring_reader_init(struct ring_reader *r, const struct arena *a, uint32_t ring, uint64_t done)
{
    r->head = &a->rings[ring];
    r->data = arena_at(a, r->head->data_offset);
    r->index = arena_at(a, r->head->index_offset);
    r->mask = r->head->bytes - 1;
    r->next = done + 1;
    r->known = 0;
    r->at = (uint64_t)r->index[r->next & (r->head->slots - 1)] * LINE;
}

const struct record *ring_peek(struct ring_reader *r)
{
    const struct record *rec = (const struct record *)(r->data + r->at);
    if (r->next > r->known && a64_acquire(&rec->stamp) != r->next) { /* pairs with ring_publish */
        return NULL;
    }
    if (rec->kind == RECORD_WRAP) {
        r->at = 0;
        return ring_peek(r);
    }
    return rec;
}

void ring_advance(struct ring_reader *r, const struct record *rec)
{
    r->at = (r->at + rec->bytes) & r->mask;
    if (r->next++ >= r->known) {
        r->known = a64_acquire(&r->head->published); /* pairs with ring_publish */
    }
}

const struct record *ring_record(const struct arena *a, uint32_t ring, uint64_t number)
{
    const struct ring_head *h = &a->rings[ring];
    const uint32_t *index = arena_at(a, h->index_offset);
    const uint8_t *data = arena_at(a, h->data_offset);
    const struct record *rec =
        (const struct record *)(data + (uint64_t)index[number & (h->slots - 1)] * LINE);
    return rec->kind == RECORD_WRAP ? (const struct record *)data : rec;
}

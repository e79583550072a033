/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The event ring of one process: always on, the oldest overwritten, readable by anybody who has the arena, also
 * after its owner was killed. One writer. About 5 ns an event beside the clock.
 */
#ifndef SHM_RECORDER_H
#define SHM_RECORDER_H

#include "base/clock.h"
#include "shm/layout.h"

static inline void recorder_init(struct recorder *r)
{
    r->ticks = clock_ticks();
    r->ns = clock_ns();
}

static inline void recorder_write(struct recorder *r, enum event_kind kind, uint64_t begin,
                                  uint64_t end, uint64_t task, uint32_t callable)
{
    uint64_t n = a64_load(&r->count);
    struct event *e = &r->events[n % EVENTS];
    a64_store(&e->begin, begin);
    a64_store(&e->task, task);
    a32_store(&e->kind, kind);
    a32_store(&e->callable, callable);
    a64_store(&e->end, end);
    a64_release(&r->count, n + 1); /* pairs with recorder_read */
}

/* Copies event n (0 is the first ever); 0 when it is overwritten or not written yet. */
static inline int recorder_read(const struct recorder *r, uint64_t n, struct event *ret)
{
    uint64_t count = a64_acquire(&r->count); /* pairs with recorder_write */
    if (n >= count || count - n >= EVENTS) {
        return 0;
    }
    const struct event *e = &r->events[n % EVENTS];
    a64_store(&ret->begin, a64_load(&e->begin));
    a64_store(&ret->end, a64_load(&e->end));
    a64_store(&ret->task, a64_load(&e->task));
    a32_store(&ret->kind, a32_load(&e->kind));
    a32_store(&ret->callable, a32_load(&e->callable));
    atomic_thread_fence(memory_order_acquire);
    return a64_load(&r->count) - n < EVENTS;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Places of a worker as threads on one mapping: an arena, a struct chip for each, and a writer of records. What
 * processes share, they share here, where ThreadSanitizer sees it. Test process.
 */
#ifndef TESTS_THREADS_RIG_H
#define TESTS_THREADS_RIG_H

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/registry.h"
#include "base/sys.h"
#include "chip/chip.h"
#include "harness.h"

enum { RIG_PLACES = 8, RIG_RING_BYTES = 262144 };

struct rig {
    struct arena a;
    uint32_t places;
    struct chip chips[RIG_PLACES];
    struct ring_writer rings[RIG_PLACES + 1];
    struct waiter waiter; /* of the orchestrator: the thread of the test */
    a64 sleeps;
    int event_fd;
};

/* spin 0: every wait is a sleep; the larger, the fewer. */
static inline void rig_open(struct rig *r, uint32_t chips, uint32_t subs, uint32_t spin)
{
    struct tsm_error err = {0};
    struct arena_sizes sizes = {.chips = chips,
                                .subs = subs,
                                .heap_bytes = 65536,
                                .host_bytes = 1 << 20,
                                .ring_bytes = RIG_RING_BYTES,
                                .windows_bytes = 1 << 20};
    memset(r, 0, sizeof(*r));
    if (arena_create(&r->a, &sizes, &err) != 0) {
        fail_msg("arena_create: %s", err.text);
    }
    r->a.spin = spin;
    r->places = chips + subs;
    r->event_fd = sys_eventfd();
    waiter_init(&r->waiter, &r->a, arena_orchestrator(&r->a), &r->a.ctl->wait, &r->sleeps);
    for (uint32_t p = 0; p <= r->places; p++) {
        ring_writer_init(&r->rings[p], &r->a, p);
    }
    for (uint32_t p = 0; p < r->places; p++) {
        struct chip *c = &r->chips[p];
        c->arena = r->a;
        c->place = p;
        c->is_sub = p >= chips;
        c->event_fd = r->event_fd;
        c->page = arena_page(&r->a, p);
        c->recorder = &c->page->recorder;
        c->backend = &backend_sim;
        waiter_init(&c->waiter, &c->arena, p, &c->page->wait, &c->page->sleeps);
        ring_reader_init(&c->reader, &c->arena, p, 0);
    }
}

static inline void rig_close(struct rig *r)
{
    for (uint32_t p = 0; p < r->places; p++) {
        free(r->chips[p].loaded);
        free(r->chips[p].ctxs);
    }
    sys_close(r->event_fd);
    arena_destroy(&r->a);
}

static inline uint64_t rig_sleeps(const struct rig *r)
{
    uint64_t sum = a64_load(&r->sleeps);
    for (uint32_t p = 0; p < r->places; p++) {
        sum += a64_load(&r->chips[p].page->sleeps);
    }
    return sum;
}

/* A callable of this program, at this index, before any thread. */
static inline void rig_callable(struct rig *r, uint32_t index, tsm_task_fn *fn)
{
    memcpy(&r->a.callables[index].function, &fn, sizeof(fn));
    a32_store(&r->a.callables[index].state, CALLABLE_LIVE);
    a64_store(&r->a.ctl->callable_count, index + 1);
}

/* Waits of the test's own thread, as the orchestrator. */
struct rig_word {
    const struct arena *a;
    uint32_t place;
    uint64_t value;
};

static inline int rig_look_word(void *ctx)
{
    const struct rig_word *x = ctx;
    return word_reached(x->a, x->place, x->value);
}

static inline void rig_wait_word(struct rig *r, uint32_t place, uint64_t value)
{
    struct rig_word x = {&r->a, place, value};
    struct want want = {.kind = WAIT_WORD, .place = place, .value = value};
    wait_for(&r->waiter, &want, rig_look_word, &x);
}

/* A task record with one scalar for `ring`, when there is room: done is what has been done of it. */
static inline bool rig_submit(struct rig *r, uint32_t ring, uint64_t run, uint64_t scalar,
                              const struct record_wait *waits, uint32_t count, uint64_t done)
{
    uint32_t bytes =
        (uint32_t)(sizeof(struct record) + count * sizeof(*waits) + 8 + LINE - 1) / LINE * LINE;
    struct record *rec = ring_reserve(&r->rings[ring], bytes, done);
    if (!rec) {
        return false;
    }
    memset((uint8_t *)rec + sizeof(rec->stamp), 0, bytes - sizeof(rec->stamp));
    rec->kind = RECORD_TASK;
    rec->wait_count = (uint16_t)count;
    rec->task = scalar + 1;
    rec->run = run;
    rec->scalar_count = 1;
    rec->members = 1;
    if (count > 0) {
        memcpy(rec + 1, waits, count * sizeof(*waits));
    }
    memcpy((uint8_t *)(rec + 1) + count * sizeof(*waits), &scalar, 8);
    ring_publish(&r->rings[ring], rec, bytes);
    if (ring == r->places) {
        wake_timeline(&r->a, ring);
    } else {
        wake_place(&r->a, ring);
    }
    return true;
}

/* A little work, of random length: so that now one side is ahead, now the other, and asleep. */
static inline void rig_dawdle(struct harness_random *r)
{
    uint64_t ns = harness_below(r, 16) == 0 ? 60000 : harness_below(r, 300);
    uint64_t until = harness_now_ns() + ns;
    while (harness_now_ns() < until) {
    }
}

#endif

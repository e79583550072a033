/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A worker without processes: an arena, the orchestrator's tables, and every chip as a struct in this process, whose loop is
 * turned by hand. Nobody here may wait: whatever would is executed only once it need not.
 */
#ifndef TESTS_COST_WORLD_H
#define TESTS_COST_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/registry.h"
#include "base/sys.h"
#include "chip/channel.h"
#include "engine/engine.h"

enum {
    CHIPS = 8,
    WORLD_RING_BYTES = 1 << 20,
    WORLD_HEAP_BYTES = 1 << 20,
    WORLD_LEASE_BYTES = 256 << 20,
    WORLD_SPIN = 1000
};

/* One rank of the domain that paths of tasks use: as if a task on that chip were running. */
struct member {
    tsm_task task;
    struct record rec;
    struct domain_state state;
    tsm_ctx ctx;
};

struct world {
    tsm_worker *w;
    tsm_orch *orch; /* of the run whose function executes */
    uint32_t round; /* 0: to get warm; 1: counted */
    struct chip chips[CHIPS];
    tsm_callable nothing;
    uint8_t *ranges;
    struct tsm_stats before;
    struct tsm_call call; /* the next to be submitted, and what it points to */
    struct tsm_tensor tensors[8];
    tsm_task_id after[8];
    tsm_domain *domain;
    struct member members[CHIPS];
};

/* Ends the program when what a path does has failed: then its count means nothing. */
static inline void must(const struct world *x, bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, x->w ? tsm_worker_error(x->w)->text : "");
        exit(1);
    }
}

static inline int world_task(tsm_task *t)
{
    (void)t;
    return 0;
}

static inline void world_open_chip(struct world *x, uint32_t place)
{
    struct chip *c = &x->chips[place];
    c->arena = x->w->arena;
    c->place = place;
    c->event_fd = -1;
    c->page = arena_page(&c->arena, place);
    c->recorder = &c->page->recorder;
    c->backend = &backend_sim;
    recorder_init(c->recorder);
    waiter_init(&c->waiter, &c->arena, place, &c->page->wait, &c->page->sleeps);
    ring_reader_init(&c->reader, &c->arena, place, 0);
    a32_store(&c->page->ready, READY_YES);
    a32_store(&c->arena.keeper->child[place].state, CHILD_ALIVE);
}

/* What tsm_worker_start does, but for the processes. */
static inline void world_open(struct world *x)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct tsm_error err = {0};
    const struct arena_sizes sizes = {.chips = CHIPS,
                                      .heap_bytes = WORLD_HEAP_BYTES,
                                      .host_bytes = WORLD_HEAP_BYTES,
                                      .ring_bytes = WORLD_RING_BYTES,
                                      .windows_bytes = UINT64_C(2) * WORLD_LEASE_BYTES};
    o.chips = CHIPS;
    o.lease_bytes = WORLD_LEASE_BYTES;
    must(x, tsm_worker_create(&o, &x->w, &err) == 0, err.text);
    tsm_worker *w = x->w;
    must(x, tsm_register(w, "nothing", world_task, &x->nothing) == 0, "tsm_register");
    must(x, arena_create(&w->arena, &sizes, &w->error) == 0, "arena_create");
    must(x, tuning_load(&w->arena.ctl->info.tuning, &w->error) == 0, "tuning_load");
    w->arena.spin = w->arena.ctl->info.spin = WORLD_SPIN;
    must(x, worker_alloc_tables(w) == 0, "worker_alloc_tables");
    for (uint32_t place = 0; place < CHIPS; place++) {
        world_open_chip(x, place);
    }
    a32_store(&w->arena.keeper->state, KEEPER_READY);
    w->state = WORKER_READY;
}

static inline void world_close(struct world *x)
{
    for (uint32_t place = 0; place < CHIPS; place++) {
        free(x->chips[place].loaded);
        free(x->chips[place].ctxs);
        free(x->chips[place].states);
    }
    tsm_worker_destroy(x->w);
}

/* Executes what is there and need not wait, until there is no more of it. */
static inline void world_drain(struct world *x)
{
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t place = 0; place < CHIPS; place++) {
            struct chip *c = &x->chips[place];
            const struct record *rec;
            while ((rec = ring_peek(&c->reader)) != NULL && record_ready(c, rec)) {
                must(x, chip_step(c), "chip_step");
                moved = true;
            }
        }
    }
}

/* ---- somebody who sleeps ---- */

/* Process `self` says that it sleeps for `value` of the timeline of `place`, or of its own ring. */
static inline void world_sleeps(const struct world *x, uint32_t self, enum wait_kind kind,
                                uint32_t place, uint64_t value)
{
    const struct arena *a = &x->w->arena;
    struct wait_record *r = self < CHIPS ? &x->chips[self].page->wait : &a->ctl->wait;
    a32_store(&r->kind, kind);
    a32_store(&r->place, place);
    a64_store(&r->value, value);
    if (kind == WAIT_WORD) {
        atomic_fetch_or(&arena_mask(a, place)[self / 64], UINT64_C(1) << self % 64);
    }
    a32_store(&a->hints[self].asleep, 1);
}

static inline void world_awake(const struct world *x, uint32_t self)
{
    wake_forget(&x->w->arena, self);
    struct wait_record *r = self < CHIPS ? &x->chips[self].page->wait : &x->w->arena.ctl->wait;
    a32_store(&r->kind, WAIT_NOTHING);
}

/* ---- a domain, seen by tasks ---- */

static inline tsm_domain *world_allocate(const struct world *x, uint32_t members,
                                         uint64_t window_bytes, const char *name)
{
    static const int chips[CHIPS] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    tsm_domain *d = NULL;
    o.name = name;
    o.chips = chips;
    o.chip_count = members;
    o.window_bytes = window_bytes;
    must(x, tsm_domain_alloc(x->orch, &o, &d) == 0, "tsm_domain_alloc");
    return d;
}

static inline void world_enter(struct world *x, uint32_t members)
{
    x->domain = world_allocate(x, members, 4096, "entered");
    const struct domain_desc *desc = x->domain->lease->desc;
    for (uint32_t rank = 0; rank < members; rank++) {
        struct member *m = &x->members[rank];
        memset(m, 0, sizeof(*m));
        m->rec.run = tsm_orch_run(x->orch);
        m->rec.members = (uint16_t)members;
        task_init(&m->task, &x->chips[rank], &m->rec);
        m->ctx =
            (tsm_ctx){.chip = &x->chips[rank],
                      .task = &m->task,
                      .desc = desc,
                      .members = (const uint32_t *)((const uint8_t *)desc + desc->members_offset),
                      .rank = rank,
                      .size = members,
                      .self = rank,
                      .generation = desc->generation,
                      .timeout_ns = -1,
                      .state = &m->state};
        ctx_cache(&m->ctx);
    }
}

static inline void world_leave(struct world *x)
{
    must(x, tsm_domain_release(x->domain) == 0, "tsm_domain_release");
}

static inline tsm_sym world_place(const struct world *x, uint64_t offset)
{
    tsm_sym s;
    must(x, tsm_at(&x->members[0].ctx, offset, &s) == 0, "tsm_at");
    return s;
}

/* The first half of a flat collective on a rank: its message to every other one. */
static inline void world_arrive(struct world *x, uint32_t rank, const struct call *call,
                                const void *data, uint64_t bytes)
{
    tsm_ctx *c = &x->members[rank].ctx;
    struct giving g = {.call = call};
    must(x, channel_begin(c, call) == 0, "channel_begin");
    for (uint32_t i = 1; i < c->size; i++) {
        must(x, channel_give(c, &g, other_rank(c, i), data, bytes) == 0, "channel_give");
    }
    channel_flush(c);
}

/* The second half, once all have arrived. */
static inline void world_depart(struct world *x, uint32_t rank, const struct call *call,
                                uint64_t bytes)
{
    tsm_ctx *c = &x->members[rank].ctx;
    struct giving g = {.call = call};
    for (uint32_t i = 1; i < c->size; i++) {
        struct taken t;
        must(x, channel_take(c, call, other_rank(c, i), bytes, &t) == 0, "channel_take");
        channel_release(c, &t);
    }
    must(x, channel_finish(c, &g) == 0, "channel_finish");
}

#endif

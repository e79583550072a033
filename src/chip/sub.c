/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The sub worker process: takes from the pool the oldest record whose waits are all met, so that one that waits
 * never blocks one that could run. A claim is a compare-and-swap on the record's slot; who made it writes the
 * done word. Control records come on its own ring. The model is tests/model/pool.pml. docs/chip.md.
 */
#include <string.h>

#include "base/fault.h"
#include "chip/chip.h"

enum { CLAIM_SHIFT = 16 };

/* What a look at the pool found: a claimed record, or the timelines that unready records wait for. */
struct scan {
    struct chip *c;
    const struct record *rec;
    uint64_t number;
    uint64_t needed[PLACES_MAX / 64];  /* found by the last scan */
    uint64_t watched[PLACES_MAX / 64]; /* registered for the sleep */
    uint32_t places[PLACES_MAX];
    uint32_t place_count;
};

static void need_waits(struct scan *s, const struct record *rec)
{
    const struct record_wait *waits = (const struct record_wait *)(rec + 1);
    for (uint32_t i = 0; i < rec->wait_count; i++) {
        uint32_t place = waits[i].place & PLACE_MASK;
        if (place < s->c->arena.places && !word_reached(&s->c->arena, place, waits[i].value)) {
            s->needed[place / 64] |= UINT64_C(1) << place % 64;
        }
    }
}

/* The memory of a record that others finish meanwhile may be overwritten while it is looked at; then the
 * claim below fails and what was read is not used. */
static bool try_claim(struct scan *s, uint64_t number, uint64_t seen)
{
    struct chip *c = s->c;
    const struct record *rec = ring_record(&c->arena, arena_pool_place(&c->arena), number);
    if (!record_ready(c, rec)) {
        need_waits(s, rec);
        return false;
    }
    uint64_t mine = number << CLAIM_SHIFT | (c->place - c->arena.chips + 1);
    if (!a64_swap_if(&c->arena.pool[number & c->arena.pool_mask].claim, seen, mine)) {
        return false;
    }
    TSM_FAULT("claim");
    s->rec = rec;
    s->number = number;
    return true;
}

static bool scan_pool(struct scan *s)
{
    struct chip *c = s->c;
    uint64_t published = a64_acquire(&c->arena.rings[arena_pool_place(&c->arena)].published);
    uint64_t head = a64_load(&c->arena.ctl->pool_head);
    head = head > c->pool_head ? head : c->pool_head;
    bool contiguous = true;
    memset(s->needed, 0, sizeof(s->needed));
    for (uint64_t n = head + 1; n <= published; n++) {
        uint64_t seen = a64_acquire(&c->arena.pool[n & c->arena.pool_mask].claim);
        if (seen >> CLAIM_SHIFT >= n || try_claim(s, n, seen)) {
            c->pool_head = contiguous ? n : c->pool_head;
            if (s->rec) {
                return true;
            }
        } else {
            contiguous = false;
        }
    }
    return false;
}

static int look_pool(void *ctx)
{
    struct scan *s = ctx;
    return ring_peek(&s->c->reader) || chip_should_leave(s->c) || scan_pool(s);
}

/* While asleep: also ends when a record needs a timeline that is not watched yet. */
static int look_watching(void *ctx)
{
    struct scan *s = ctx;
    if (look_pool(s)) {
        return 1;
    }
    for (uint32_t i = 0; i < PLACES_MAX / 64; i++) {
        if (s->needed[i] & ~s->watched[i]) {
            return 1;
        }
    }
    return 0;
}

static void watch_needed(struct scan *s)
{
    memcpy(s->watched, s->needed, sizeof(s->watched));
    s->place_count = 0;
    for (uint32_t place = 0; place < s->c->arena.places; place++) {
        if (s->watched[place / 64] & UINT64_C(1) << place % 64) {
            s->places[s->place_count++] = place;
        }
    }
}

static void finish(struct chip *c, uint64_t number, bool ok)
{
    TSM_FAULT("publish");
    /* pairs with pool_done_word */
    a64_release(&c->arena.pool[number & c->arena.pool_mask].done, number << 1 | !ok);
    wake_timeline(&c->arena, arena_pool_place(&c->arena));
}

static void execute_control(struct chip *c)
{
    const struct record *rec = ring_peek(&c->reader);
    uint64_t number = c->reader.next;
    control_execute(c, rec);
    ring_advance(&c->reader, rec);
    timeline_advance(&c->arena, c->page, c->place, number);
}

_Noreturn void sub_loop(struct chip *c)
{
    static struct scan s;
    s.c = c;
    for (;;) {
        s.rec = NULL;
        if (!look_pool(&s)) {
            watch_needed(&s);
            struct want want = {.kind = WAIT_POOL,
                                .place = PLACE_POOL,
                                .places = s.places,
                                .place_count = s.place_count};
            wait_for(&c->waiter, &want, look_watching, &s);
        }
        if (s.rec) {
            finish(c, s.number, record_execute(c, s.rec, s.number));
        } else if (ring_peek(&c->reader)) {
            execute_control(c);
        } else if (chip_should_leave(c)) {
            chip_leave(c);
        }
    }
}

void sub_take_over(struct chip *c, const char *death)
{
    uint64_t mine = c->place - c->arena.chips + 1;
    for (uint64_t i = 0; i <= c->arena.pool_mask; i++) {
        uint64_t claim = a64_acquire(&c->arena.pool[i].claim);
        uint64_t number = claim >> CLAIM_SHIFT;
        if ((claim & 0xffff) == mine && a64_load(&c->arena.pool[i].done) >> 1 < number) {
            const struct record *rec = ring_record(&c->arena, arena_pool_place(&c->arena), number);
            record_mark_dead(c, rec, number, death);
            finish(c, number, false);
        }
    }
    a64_store(&c->page->begun_task, 0);
    a64_store(&c->page->deadline_ns, 0);
}

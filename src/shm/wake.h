/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Waiting and waking. Nobody sleeps on a data word: each process sleeps on its own bell and says in its wait
 * record what it wants; who changes a word looks whether somebody asleep wants it.
 *
 *   To wait:    read own bell; write the wait record; asleep = 1 and own bit in the masks of the sources;
 *               full fence; look at all conditions; if none holds, sleep while the bell is unchanged; clear.
 *   To advance: store the word (release); full fence; for each bit in its mask whose want is met: ring.
 *   To ring:    asleep 1 -> 2; only who made that change adds one to the bell and wakes.
 *
 * If the waiter's look misses the word, its bits were visible before the advancer's look (both fences), so it
 * is rung. A ringer killed half-way leaves the keeper, which rings everybody after a death. The model is
 * tests/model/wake.pml.
 *
 * A fence waits until all that was stored before is visible: a round trip between cores when the other side reads those
 * lines, and so most of what a task costs. Where it would be due once a task, at a record and at a timeline, the
 * advancer makes none. Then a waiter may look before the word is visible and the advancer before the bits are, and
 * nobody rings. So the first sleep after asleep = 1 is at most SETTLE_NS long: that is some 10^4 times what a store takes
 * to be visible to all, so the look after it sees every word whose advancer did not see the bits.
 */
#ifndef SHM_WAKE_H
#define SHM_WAKE_H

#include "shm/arena.h"

/* One process that waits. */
struct waiter {
    const struct arena *arena;
    uint32_t self; /* its number among the sleepers: a place, or arena_orchestrator */
    struct wait_record *record;
    struct hint *hint;
    uint64_t spin_ticks;                 /* before the first yield; adapts */
    a64 *sleeps;                         /* counts them; may be NULL */
    const struct tsm_sleep_hooks *hooks; /* the orchestrator's, of its own memory; NULL: none */
};

/* What it waits for; the wait record in plain words. */
struct want {
    enum wait_kind kind;
    uint32_t place, compare, rank;
    uint64_t value, address, domain, task, run;
    uint64_t deadline_ns;   /* absolute clock_ns; 0: none */
    const uint32_t *places; /* further timelines that may end the wait */
    uint32_t place_count;
    int64_t nap_ns;     /* > 0: looks again at least this often */
    bool interruptible; /* the hooks may end it; with a nap, so that they are asked */
};

void waiter_init(struct waiter *w, const struct arena *a, uint32_t self, struct wait_record *record,
                 a64 *sleeps);

/* Past spinning: its wait record is written. (The sleep flag does not say so: a late ringer may set it.) */
static inline int waiter_is_registered(const struct waiter *w)
{
    return a32_load(&w->record->kind) != WAIT_NOTHING;
}

/* Calls look(ctx) until it returns nonzero and returns that; -ETIMEDOUT at want->deadline_ns; -EINTR when the hooks end
 * it, whatever has come meanwhile. Spins, yields, then sleeps. */
int wait_for(struct waiter *w, const struct want *want, int (*look)(void *ctx), void *ctx);

/* After a store to the timeline of `place` (or to done words or records of the pool, place = pool). */
void wake_timeline(const struct arena *a, uint32_t place);
/* After a store to place p's ring or to a window of chip p. */
void wake_place(const struct arena *a, uint32_t p);
/* The same without the fence, for what happens once a task. */
void wake_timeline_settling(const struct arena *a, uint32_t place);
void wake_place_settling(const struct arena *a, uint32_t p);
/* Whatever p waits for: it shall look again. After a store that its want does not name, and a full fence. */
void wake_bell(const struct arena *a, uint32_t p);
/* The same for many, after one full fence by the caller: rings p if its want is met. */
void wake_if_met(const struct arena *a, uint32_t p);
/* After abort words, deaths, shutdown. */
void wake_everybody(const struct arena *a);
/* Rings whoever sleeps although nothing says so any more, or although what it wants is there: somebody scribbled over the
 * hints. For now and then. */
void wake_lost(const struct arena *a);
/* Forgets a dead process's registration. */
void wake_forget(const struct arena *a, uint32_t p);

/* Copies a wait record consistently; 0 when its owner was writing it all the while. */
int wait_record_read(const struct wait_record *r, struct want *ret, uint32_t *ret_version);
/* 1 when place p sleeps, has found nothing since it says so, and has not been rung since: if nobody else ran meanwhile,
 * what it waits for is not there. */
int wait_has_looked(const struct arena *a, uint32_t p);
/* 1 when what the record of process p asks for is there. 1 also for kinds that only their owner can judge. */
int want_met(const struct arena *a, uint32_t p, const struct want *want);
int compare_holds(uint32_t compare, uint64_t seen, uint64_t value);

/* Around each other sleep of the orchestrator's calls. */
static inline void sleep_begin(const struct tsm_sleep_hooks *hooks)
{
    if (hooks && hooks->begin) {
        hooks->begin(hooks->arg);
    }
}

static inline void sleep_end(const struct tsm_sleep_hooks *hooks)
{
    if (hooks && hooks->end) {
        hooks->end(hooks->arg);
    }
}

/* After a sleep: whether the call is to be given up. */
static inline bool sleep_is_interrupted(const struct tsm_sleep_hooks *hooks)
{
    return hooks && hooks->interrupted && hooks->interrupted(hooks->arg) != 0;
}

/* The timeline of a place, or -- PLACE_POOL -- whether pool record `value` is done: >= value then. */
static inline uint64_t timeline_read(const struct arena *a, uint32_t place)
{
    return a64_acquire(&arena_page(a, place)->done); /* pairs with timeline_advance */
}

static inline uint64_t pool_done_word(const struct arena *a, uint64_t number)
{
    return a64_acquire(&a->pool[number & a->pool_mask].done); /* pairs with the claiming sub */
}

static inline int word_reached(const struct arena *a, uint32_t place, uint64_t value)
{
    if ((place & PLACE_MASK) == PLACE_POOL) {
        return pool_done_word(a, value) >> 1 >= value;
    }
    return timeline_read(a, place & PLACE_MASK) >= value;
}

/* By the owner of the page. */
static inline void timeline_advance(const struct arena *a, struct proc_page *page, uint32_t place,
                                    uint64_t value)
{
    a64_release(&page->done, value); /* pairs with timeline_read */
    wake_timeline_settling(a, place);
}

#endif

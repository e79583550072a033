/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * How the orchestrator waits: for one word at a time, while finished runs are retired, leases come back, deaths
 * are handled and deadlocks are found. Orchestrator; owns nothing. docs/engine.md.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/sys.h"
#include "engine/engine.h"

enum { NAP_NS = 50000000, ROOM_NAP_NS = 5000000, CHECK_NS = 20000000 };

int words_add(struct words *s, uint32_t place, uint32_t run, uint64_t value)
{
    for (uint32_t i = s->count > 8 ? s->count - 8 : 0; i < s->count; i++) {
        if (s->list[i].place == place && place != PLACE_POOL) {
            s->list[i].value = value > s->list[i].value ? value : s->list[i].value;
            return 0;
        }
    }
    if (s->count == s->max) {
        uint32_t max = s->max ? s->max * 2 : 8;
        struct word *more = realloc(s->list, max * sizeof(*more));
        if (!more) {
            return TSM_ENOMEM;
        }
        s->list = more;
        s->max = max;
    }
    s->list[s->count++] = (struct word){place, run, value};
    return 0;
}

bool word_is_reached(tsm_worker *w, const struct word *x)
{
    return word_reached(&w->arena, x->place, x->value);
}

struct look {
    tsm_worker *w;
    struct word word;
};

enum { LOOK_REACHED = 1, LOOK_EVENT = 2, LOOK_ROOM = 3 };

static bool something_happened(const tsm_worker *w)
{
    return a32_load(&w->arena.keeper->state) >= KEEPER_START_FAILED ||
           a64_load(&w->arena.keeper->deaths) != w->deaths_seen;
}

/* While asleep: also what nobody else would notice. */
static bool asleep_check(tsm_worker *w)
{
    uint64_t now = clock_ns();
    if (now - w->deadlock_checked_ns < CHECK_NS) {
        return false;
    }
    w->deadlock_checked_ns = now;
    struct pollfd keeper = {.fd = w->keeper_fd, .events = POLLIN};
    if (sys_poll(&keeper, 1, 0) > 0) {
        return true;
    }
    wake_lost(&w->arena);
    deadlock_check(w);
    return false;
}

static int look(void *ctx)
{
    struct look *l = ctx;
    if (word_is_reached(l->w, &l->word)) {
        return LOOK_REACHED;
    }
    if (something_happened(l->w)) {
        return LOOK_EVENT;
    }
    if (!waiter_is_registered(&l->w->waiter)) {
        return 0;
    }
    if (l->w->wants_room && leases_any_clean(l->w)) {
        return LOOK_ROOM;
    }
    return asleep_check(l->w) ? LOOK_EVENT : 0;
}

int engine_wait(tsm_worker *w, uint32_t place, uint64_t value, uint64_t deadline_ns)
{
    struct look l = {w, {place, 0, value}};
    if (word_is_reached(w, &l.word)) {
        return 0;
    }
    struct want want = {.kind = WAIT_WORD,
                        .place = place,
                        .value = value,
                        .deadline_ns = deadline_ns,
                        .run = w->current ? w->current->number : 0,
                        .interruptible = !w->steady,
                        .nap_ns = w->wants_room ? ROOM_NAP_NS : NAP_NS};
    for (;;) {
        int rc = wait_for(&w->waiter, &want, look, &l);
        if (rc == LOOK_REACHED || rc == LOOK_ROOM) {
            return 0;
        }
        if (rc == -ETIMEDOUT) {
            return TSM_ETIMEOUT;
        }
        if (rc == -EINTR) {
            return worker_interrupted(w);
        }
        rc = worker_alive(w);
        if (rc != 0) {
            return rc;
        }
        engine_progress(w);
    }
}

static bool all_replaced(const tsm_worker *w)
{
    const struct keeper_page *k = w->arena.keeper;
    return a64_acquire(&k->replaced) == a64_acquire(&k->deaths);
}

static int look_replaced(void *ctx)
{
    tsm_worker *w = ctx;
    struct pollfd keeper = {.fd = w->keeper_fd, .events = POLLIN};
    return all_replaced(w) || a32_load(&w->arena.keeper->state) >= KEEPER_START_FAILED ||
           (waiter_is_registered(&w->waiter) && sys_poll(&keeper, 1, 0) > 0);
}

int engine_wait_replaced(tsm_worker *w)
{
    if (all_replaced(w)) {
        return 0;
    }
    struct want want = {.kind = WAIT_STATE, .nap_ns = NAP_NS, .interruptible = !w->steady};
    int rc = wait_for(&w->waiter, &want, look_replaced, w);
    return rc == -EINTR ? worker_interrupted(w) : worker_alive(w);
}

static void handle_deaths(tsm_worker *w)
{
    w->deaths_seen = a64_acquire(&w->arena.keeper->deaths);
    for (uint32_t place = 0; place < w->arena.places; place++) {
        uint32_t deaths = a32_acquire(&w->arena.keeper->child[place].deaths);
        if (deaths != w->child_deaths[place]) {
            w->child_deaths[place] = deaths;
            if (place < w->arena.chips) {
                domains_member_died(w, place);
            }
        }
    }
}

void engine_progress(tsm_worker *w)
{
    if (a64_load(&w->arena.keeper->deaths) != w->deaths_seen) {
        handle_deaths(w);
    }
    runs_retire(w);
    leases_progress(w);
}

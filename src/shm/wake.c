/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Waiting and waking (wake.h has the protocol). Runs in every process of a worker; each writes only its own
 * wait record, and bells, sleep flags and masks in the hints. docs/shm.md.
 */
#include "shm/wake.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/sys.h"
#include "transom/task.h"

enum {
    YIELDS_SLOW = 8,
    YIELD_TOTAL_NS = 20000,
    YIELD_SLOW_NS = 3000,
    READ_TRIES = 4,
    SPIN_GROWS = 8,
    LOOKS = 4,          /* for one at the clock */
    SETTLE_NS = 1000000 /* by far the longest that a store can take until all see it */
};

void waiter_init(struct waiter *w, const struct arena *a, uint32_t self, struct wait_record *record,
                 a64 *sleeps)
{
    memset(w, 0, sizeof(*w));
    w->arena = a;
    w->self = self;
    w->record = record;
    w->hint = &a->hints[self];
    w->spin_ticks = a->spin;
    w->sleeps = sleeps;
}

/* ---- the wait record ---- */

static void record_write(struct wait_record *r, const struct want *want, uint64_t since)
{
    uint32_t v = a32_load(&r->version);
    a32_store(&r->version, v | 1);
    atomic_thread_fence(memory_order_release);
    a32_store(&r->kind, want->kind);
    a32_store(&r->place, want->place);
    a32_store(&r->compare, want->compare);
    a32_store(&r->rank, want->rank);
    a64_store(&r->value, want->value);
    a64_store(&r->address, want->address);
    a64_store(&r->domain, want->domain);
    a64_store(&r->task, want->task);
    a64_store(&r->run, want->run);
    a64_store(&r->deadline_ns, want->deadline_ns);
    a64_store(&r->since_ns, since);
    a32_release(&r->version, (v | 1) + 1); /* pairs with wait_record_read */
}

int wait_record_read(const struct wait_record *r, struct want *ret, uint32_t *ret_version)
{
    for (int i = 0; i < READ_TRIES; i++) {
        uint32_t v = a32_acquire(&r->version); /* pairs with record_write */
        memset(ret, 0, sizeof(*ret));
        ret->kind = a32_load(&r->kind);
        ret->place = a32_load(&r->place);
        ret->compare = a32_load(&r->compare);
        ret->rank = a32_load(&r->rank);
        ret->value = a64_load(&r->value);
        ret->address = a64_load(&r->address);
        ret->domain = a64_load(&r->domain);
        ret->task = a64_load(&r->task);
        ret->run = a64_load(&r->run);
        ret->deadline_ns = a64_load(&r->deadline_ns);
        atomic_thread_fence(memory_order_acquire);
        if (!(v & 1) && a32_load(&r->version) == v) {
            *ret_version = v;
            return 1;
        }
        cpu_pause();
    }
    return 0;
}

int wait_has_looked(const struct arena *a, uint32_t p)
{
    const struct hint *h = &a->hints[p];
    /* In this order: asleep is 1 before that look began, so it is not an older one. */
    if (atomic_load(&h->asleep) != 1) {
        return 0;
    }
    uint32_t looked = a32_acquire(&arena_page(a, p)->wait.looked); /* pairs with wait_for */
    return looked == (a32_acquire(&h->bell) << 1 | 1);
}

int compare_holds(uint32_t compare, uint64_t seen, uint64_t value)
{
    switch (compare) {
    case TSM_EQ:
        return seen == value;
    case TSM_NE:
        return seen != value;
    case TSM_GT:
        return seen > value;
    case TSM_GE:
        return seen >= value;
    case TSM_LT:
        return seen < value;
    case TSM_LE:
        return seen <= value;
    default:
        return 0;
    }
}

int want_met(const struct arena *a, uint32_t p, const struct want *want)
{
    const struct arena_info *in = &a->ctl->info;
    switch (want->kind) {
    case WAIT_RING:
        return p < a->places && a64_acquire(&a->rings[p].published) >= want->value;
    case WAIT_WORD:
        if (want->place != PLACE_POOL && want->place >= a->places) {
            return 1;
        }
        return word_reached(a, want->place, want->value);
    case WAIT_SIGNAL: {
        uint64_t at = want->address - in->base - in->windows_offset;
        if (at >= in->windows_bytes || (want->address & 7) != 0) {
            return 1; /* nonsense in the record: its owner shall look for itself */
        }
        uint64_t seen = a64_acquire((const a64 *)(uintptr_t)want->address);
        return compare_holds(want->compare, seen, want->value);
    }
    case WAIT_POOL:
    case WAIT_SIGNALS: /* its owner judges */
    case WAIT_STATE:
        return 1;
    default:
        return 0;
    }
}

/* ---- ringing ---- */

void wake_bell(const struct arena *a, uint32_t p)
{
    struct hint *h = &a->hints[p];
    if (atomic_exchange(&h->asleep, 2) == 1) {
        a32_add_full(&h->bell, 1);
        TSM_FAULT("wake");
        sys_futex_wake(&h->bell);
    }
}

static const struct wait_record *record_of(const struct arena *a, uint32_t p)
{
    return p < a->places ? &arena_page(a, p)->wait : &a->ctl->wait;
}

/* Also when the want cannot be read. */
void wake_if_met(const struct arena *a, uint32_t p)
{
    struct want want;
    uint32_t version;
    if (a32_load(&a->hints[p].asleep) != 1) {
        return;
    }
    if (!wait_record_read(record_of(a, p), &want, &version) || want_met(a, p, &want)) {
        wake_bell(a, p);
    }
}

static void ring_masked(const struct arena *a, const a64 *mask)
{
    for (uint32_t i = 0; i < a->mask_words; i++) {
        uint64_t bits = a64_load(&mask[i]);
        while (bits != 0) {
            uint32_t p = i * 64 + (uint32_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            if (p <= a->places) {
                wake_if_met(a, p);
            }
        }
    }
}

void wake_timeline(const struct arena *a, uint32_t place)
{
    fence_full();
    ring_masked(a, arena_mask(a, place));
}

void wake_timeline_settling(const struct arena *a, uint32_t place)
{
    atomic_signal_fence(memory_order_seq_cst);
    ring_masked(a, arena_mask(a, place));
}

void wake_place(const struct arena *a, uint32_t p)
{
    fence_full();
    wake_if_met(a, p);
}

void wake_place_settling(const struct arena *a, uint32_t p)
{
    atomic_signal_fence(memory_order_seq_cst);
    wake_if_met(a, p);
}

void wake_everybody(const struct arena *a)
{
    fence_full();
    for (uint32_t p = 0; p <= a->places; p++) {
        if (a32_load(&a->hints[p].asleep) != 0) {
            atomic_store(&a->hints[p].asleep, 1);
            wake_bell(a, p);
        }
    }
}

void wake_lost(const struct arena *a)
{
    uint64_t published = a64_load(&a->rings[arena_pool_place(a)].published);
    bool pool_empty = a64_load(&a->ctl->pool_head) >= published;
    fence_full();
    for (uint32_t p = 0; p < a->places; p++) {
        uint32_t kind = a32_load(&record_of(a, p)->kind);
        if (kind == WAIT_NOTHING || (kind == WAIT_POOL && pool_empty)) {
            continue;
        }
        if (a32_load(&a->hints[p].asleep) != 1) {
            atomic_store(&a->hints[p].asleep, 1);
            wake_bell(a, p);
        } else if (kind != WAIT_SIGNALS) { /* what cannot be judged here would be woken each time */
            wake_if_met(a, p);
        }
    }
}

void wake_forget(const struct arena *a, uint32_t p)
{
    atomic_store(&a->hints[p].asleep, 0);
    for (uint32_t place = 0; place <= a->places; place++) {
        a64 *word = &arena_mask(a, place)[p / 64];
        if (a64_load(word) & UINT64_C(1) << p % 64) {
            atomic_fetch_and(word, ~(UINT64_C(1) << p % 64));
        }
    }
}

/* ---- waiting ---- */

static void mask_set(const struct waiter *w, uint32_t place, int on)
{
    if (place == PLACE_POOL) {
        place = arena_pool_place(w->arena);
    }
    a64 *word = &arena_mask(w->arena, place)[w->self / 64];
    uint64_t bit = UINT64_C(1) << w->self % 64;
    if (on) {
        atomic_fetch_or(word, bit);
    } else {
        atomic_fetch_and(word, ~bit);
    }
}

static void register_wants(const struct waiter *w, const struct want *want, int on)
{
    if (want->kind == WAIT_WORD) {
        mask_set(w, want->place, on);
    } else if (want->kind == WAIT_POOL) {
        mask_set(w, PLACE_POOL, on);
    }
    for (uint32_t i = 0; i < want->place_count; i++) {
        mask_set(w, want->places[i], on);
    }
}

/* After a yield. A slow one means that others wanted the core and had it: a spin is in their way. Where it came
 * (rc) while nobody wanted the core, a longer spin would have seen it sooner. */
static void adapt(struct waiter *w, bool crowded, int rc)
{
    uint64_t usual = w->arena->spin;
    if (crowded) {
        w->spin_ticks = usual / SPIN_GROWS + 1; /* 0 is for tests */
    } else if (rc != 0 && w->spin_ticks < SPIN_GROWS * usual) {
        w->spin_ticks = 2 * w->spin_ticks + 1;
    }
}

/* Spins, then yields while that is quick. Nonzero: what look said. With spin_ticks 0 it only looks: so a test makes
 * every wait a sleep. */
static int spin(struct waiter *w, int (*look)(void *ctx), void *ctx)
{
    uint64_t start = clock_ticks();
    int rc = look(ctx);
    if (w->spin_ticks == 0) {
        return rc;
    }
    while (rc == 0 && clock_ticks() - start < w->spin_ticks) {
        for (int i = 0; i < LOOKS && rc == 0; i++) {
            rc = look(ctx);
        }
    }
    if (rc != 0) {
        return rc;
    }
    uint64_t before = clock_ns();
    uint64_t quick_since = before;
    for (int slow = 0; slow < YIELDS_SLOW;) {
        sched_yield();
        rc = look(ctx);
        uint64_t now = clock_ns();
        bool crowded = now - before > YIELD_SLOW_NS;
        adapt(w, crowded, rc);
        if (rc != 0) {
            return rc;
        }
        if (crowded) {
            slow++;
            quick_since = now;
        } else if (now - quick_since > YIELD_TOTAL_NS) {
            return 0;
        }
        before = now;
    }
    return 0;
}

/* How long to sleep: until the deadline, or a nap, or what settles. < 0: for ever. */
static int64_t sleep_ns(const struct want *want, uint64_t now, bool settled)
{
    int64_t left = settled ? -1 : SETTLE_NS;
    if (want->deadline_ns != 0) {
        int64_t due = want->deadline_ns > now ? (int64_t)(want->deadline_ns - now) : 0;
        left = left < 0 || left > due ? due : left;
    }
    if (want->nap_ns > 0 && (left < 0 || left > want->nap_ns)) {
        left = want->nap_ns;
    }
    return left;
}

int wait_for(struct waiter *w, const struct want *want, int (*look)(void *ctx), void *ctx)
{
    int rc = spin(w, look, ctx);
    if (rc != 0) {
        return rc;
    }
    static const struct want nothing = {.kind = WAIT_NOTHING};
    uint64_t since = clock_ns();
    uint64_t now = since;
    record_write(w->record, want, since);
    register_wants(w, want, 1);
    uint32_t bell = 0;
    for (bool settled = false;;) {
        if (!settled) { /* else they stand: who has not seen them since would be missed again */
            bell = a32_load(&w->hint->bell);
            a32_store(&w->record->looked, 0);
            atomic_store(&w->hint->asleep, 1);
        }
        fence_full(); /* pairs with wake_timeline, wake_place, wake_everybody */
        rc = look(ctx);
        if (rc != 0) {
            break;
        }
        a32_release(&w->record->looked, bell << 1 | 1); /* pairs with wait_has_looked */
        if (want->deadline_ns != 0 && now >= want->deadline_ns) {
            rc = -ETIMEDOUT;
            break;
        }
        if (w->sleeps && !settled) {
            a64_store(w->sleeps, a64_load(w->sleeps) + 1);
        }
        sleep_begin(w->hooks);
        settled = sys_futex_wait(&w->hint->bell, bell, sleep_ns(want, now, settled)) &&
                  a32_load(&w->hint->asleep) == 1;
        sleep_end(w->hooks);
        if (want->interruptible && sleep_is_interrupted(w->hooks)) {
            rc = -EINTR;
            break;
        }
        now = want->deadline_ns != 0 ? clock_ns() : now;
    }
    atomic_store(&w->hint->asleep, 0);
    register_wants(w, want, 0);
    record_write(w->record, &nothing, now);
    return rc;
}

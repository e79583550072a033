/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Deadlock: proved from the wait records, not timed. If in two passes over all processes every one is asleep in the
 * same wait (same version of its record) and none of the conditions holds, there was a moment between the
 * passes at which nobody ran; only processes of the worker write these words, so nobody ever will. A wait with a
 * timeout or a task with a time limit ends by itself: then it is none. Orchestrator. docs/engine.md.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

struct view {
    struct want want;
    uint32_t version;
};

struct snapshot {
    struct view views[PLACES_MAX];
    uint32_t waiting_inside; /* tasks that wait for signals */
};

static bool waits_inside(const struct want *want)
{
    return want->kind == WAIT_SIGNAL || want->kind == WAIT_SIGNALS;
}

static bool pool_has_ready(const tsm_worker *w)
{
    const struct arena *a = &w->arena;
    uint64_t published = w->rings[a->places].published;
    for (uint64_t n = w->pool_head + 1; n <= published; n++) {
        if (a64_acquire(&a->pool[n & a->pool_mask].claim) >> 16 >= n) {
            continue;
        }
        const struct record *rec = ring_record(a, a->places, n);
        const struct record_wait *waits = (const struct record_wait *)(rec + 1);
        bool ready = true;
        for (uint32_t i = 0; i < rec->wait_count && ready; i++) {
            ready = word_reached(a, waits[i].place & PLACE_MASK, waits[i].value);
        }
        if (ready) {
            return true;
        }
    }
    return false;
}

/* Whether a member has aborted the domain in whose window, or behind it, the word lies. */
static bool domain_is_aborted(tsm_worker *w, uint64_t address)
{
    const struct lease *l = lease_at(w, address);
    if (!l) {
        return false;
    }
    uint64_t window = address - (address - l->base) % l->stride;
    const struct sync_head *head =
        (const struct sync_head *)(uintptr_t)(window + l->stride - sync_bytes(l->size));
    uint64_t word = a64_acquire(&head->aborted); /* pairs with tsm_abort */
    return word >> STAMP_NUMBER == (l->generation & STAMP_GENERATIONS) &&
           (word & STAMP_NUMBERS) != 0;
}

/*
 * A wait for one of several signals is not judged by its words, which only the waiter knows, but by its own last look.
 * Who stored since then has rung (and the bell has moved), or has not seen it asleep, and then the look has seen the
 * store. All who store are asleep themselves since the first pass, so nothing is in between.
 */
static bool finds_nothing(tsm_worker *w, uint32_t place, const struct want *want)
{
    return want->kind == WAIT_SIGNALS ? wait_has_looked(&w->arena, place)
                                      : !want_met(&w->arena, place, want);
}

/* Whether the process of this place can still move by itself or by what is already there. */
static bool can_move(tsm_worker *w, uint32_t place, const struct want *want)
{
    const struct arena *a = &w->arena;
    uint64_t own_next = timeline_read(a, place) + 1;
    const tsm_run *run = waits_inside(want) ? run_of(w, want->run) : NULL;
    if ((run && run_has_cause(w, run)) ||
        (waits_inside(want) && domain_is_aborted(w, want->address))) {
        return true; /* the wait ends with ABORTED or PEER */
    }
    switch (want->kind) {
    case WAIT_RING:
        return w->rings[place].published >= own_next;
    case WAIT_POOL:
        return w->rings[place].published >= own_next || pool_has_ready(w);
    case WAIT_WORD:
    case WAIT_SIGNAL:
    case WAIT_SIGNALS:
        return want->deadline_ns != 0 || a64_load(&arena_page(a, place)->deadline_ns) != 0 ||
               !finds_nothing(w, place, want);
    default:
        return true;
    }
}

/* One pass. compare: the records must be the same as in the last one. */
static bool all_stuck(tsm_worker *w, struct snapshot *s, bool compare)
{
    s->waiting_inside = 0;
    for (uint32_t place = 0; place < w->arena.places; place++) {
        struct view v;
        if (a32_load(&w->arena.keeper->child[place].state) != CHILD_ALIVE ||
            !wait_record_read(&arena_page(&w->arena, place)->wait, &v.want, &v.version) ||
            can_move(w, place, &v.want) || (compare && s->views[place].version != v.version)) {
            return false;
        }
        s->views[place] = v;
        s->waiting_inside += waits_inside(&v.want);
    }
    return true;
}

/* ---- the text ---- */

struct text {
    char *at;
    size_t left;
};

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(t->at, t->left, format, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += used;
    t->left -= used;
}

static const char *compare_name(uint32_t compare)
{
    static const char *const names[] = {"?", "==", "!=", ">", ">=", "<", "<="};
    return compare < sizeof(names) / sizeof(names[0]) ? names[compare] : "?";
}

static const char *task_name(const tsm_worker *w, uint32_t place)
{
    uint32_t callable = a32_load(&arena_page(&w->arena, place)->begun_callable);
    return callable < w->callable_count ? callable_name_of(w, callable) : "?";
}

/* Offset of an address in the area behind its window; false when it lies in the window. */
static bool in_sync_area(const struct lease *l, uint64_t address, uint64_t *ret)
{
    uint64_t offset = (address - l->base) % l->stride;
    uint64_t area = l->stride - sync_bytes(l->size);
    *ret = offset - area;
    return offset >= area;
}

/* What the waiting member calls, and whose message or whose word that a message was taken it waits for. */
static void say_collective(struct text *t, const struct lease *l, uint64_t address, uint64_t at)
{
    uint64_t credits = sync_credit_offset(l->size), channels = sync_channel_offset(l->size);
    const struct sync_head *head = (const struct sync_head *)(uintptr_t)(address - at);
    struct call call = head->call;
    char text[96];
    call_say(&call, text, sizeof(text));
    say(t, "%s of domain '%s'", text, l->desc->name);
    if (at >= channels) {
        uint64_t of_one = sync_depth(l->size) * sizeof(struct sync_message);
        say(t, ": a message of rank %llu", (unsigned long long)((at - channels) / of_one));
    } else if (at >= credits && at < sync_stage_offset(l->size)) {
        say(t, ": the credit of rank %llu",
            (unsigned long long)((at - credits) / sizeof(struct sync_credit)));
    }
}

/* "slot 'flags'[2] of domain 'tp'": the buffer in which the word lies. */
static void say_slot(struct text *t, const struct lease *l, uint64_t address)
{
    uint64_t offset = (address - l->base) % l->stride;
    const struct desc_buffer *b =
        (const struct desc_buffer *)((const uint8_t *)l->desc + l->desc->buffers_offset);
    for (uint32_t i = 0; i < l->desc->buffer_count; i++) {
        if (offset - b[i].offset < b[i].bytes) {
            say(t, "slot '%s'[%llu] of domain '%s'", b[i].name,
                (unsigned long long)((offset - b[i].offset) / 8), l->desc->name);
            return;
        }
    }
    say(t, "slot at offset %llu of domain '%s'", (unsigned long long)offset, l->desc->name);
}

static void say_place(const tsm_worker *w, struct text *t, uint32_t place)
{
    bool sub = place >= w->arena.chips;
    say(t, "%s %u", sub ? "sub" : "chip", sub ? place - w->arena.chips : place);
}

/* What the first unmet wait of a pool record is for. */
static void say_pool_record(const tsm_worker *w, struct text *t, uint64_t number)
{
    const struct record *rec = ring_record(&w->arena, w->arena.places, number);
    const struct record_wait *waits = (const struct record_wait *)(rec + 1);
    say(t, "task '%s' of the sub workers", callable_name_of(w, rec->callable));
    for (uint32_t i = 0; i < rec->wait_count; i++) {
        uint32_t place = waits[i].place & PLACE_MASK;
        if (!word_reached(&w->arena, place, waits[i].value) && place < w->arena.places) {
            say(t, ", which waits for record %llu of ", (unsigned long long)waits[i].value);
            say_place(w, t, place);
            return;
        }
    }
}

static void say_inside(tsm_worker *w, struct text *t, uint32_t place, const struct want *want)
{
    const struct lease *l = lease_at(w, want->address);
    uint64_t at;
    say(t, "\n  task '%s' on ", task_name(w, place));
    say_place(w, t, place);
    say(t, " waits for ");
    if (want->kind == WAIT_SIGNALS) {
        say(t, "any of %u signals, the first ", want->place);
    }
    if (l && in_sync_area(l, want->address, &at)) {
        say_collective(t, l, want->address, at);
        say(t, " (rank %u)", want->rank); /* the number it wants says nothing to a reader */
        return;
    }
    if (l) {
        say_slot(t, l, want->address);
    }
    say(t, " (rank %u) %s %llu", want->rank, compare_name(want->compare),
        (unsigned long long)want->value);
    if (want->kind == WAIT_SIGNAL) {
        uint64_t seen = a64_load((const a64 *)(uintptr_t)want->address);
        say(t, ", sees %llu", (unsigned long long)seen);
    }
}

static void say_wait(tsm_worker *w, struct text *t, uint32_t place, const struct want *want)
{
    if (waits_inside(want)) {
        say_inside(w, t, place, want);
    } else if (want->kind == WAIT_WORD) {
        say(t, "\n  the next task of ");
        say_place(w, t, place);
        if (want->place == PLACE_POOL) {
            say(t, " waits for ");
            say_pool_record(w, t, want->value);
        } else {
            say(t, " waits for record %llu of ", (unsigned long long)want->value);
            say_place(w, t, want->place);
        }
    }
}

static void say_orchestrator(tsm_worker *w, struct text *t)
{
    struct want want;
    uint32_t version;
    if (w->current && wait_record_read(&w->arena.ctl->wait, &want, &version) &&
        want.place != PLACE_POOL && want.place < w->arena.places) {
        say(t, "\n  the orchestration function waits for record %llu of ",
            (unsigned long long)want.value);
        say_place(w, t, want.place);
        if (w->rings[want.place].published - want.value > 1) {
            say(t, " (its ring holds %llu records)",
                (unsigned long long)(w->rings[want.place].published - want.value + 1));
        }
    }
}

void deadlock_check(tsm_worker *w)
{
    static _Thread_local struct snapshot s;
    if (a64_load(&w->arena.ctl->wait.deadline_ns) != 0 && !w->closing) {
        return; /* the program comes back by itself and may submit the sender */
    }
    pool_collect(w);
    if (!all_stuck(w, &s, false) || s.waiting_inside == 0 || !all_stuck(w, &s, true)) {
        return;
    }
    /* Last, when nobody runs any more: what the program waits for may have come since it looked. */
    struct want own;
    uint32_t version;
    if (!wait_record_read(&w->arena.ctl->wait, &own, &version) ||
        want_met(&w->arena, arena_orchestrator(&w->arena), &own)) {
        return;
    }
    char what[sizeof(w->error.text)];
    struct text t = {what, sizeof(what)};
    say(&t, "deadlock: nobody can send what these wait for:");
    const struct want *first = NULL;
    uint32_t first_place = 0;
    for (uint32_t place = 0; place < w->arena.places; place++) {
        const struct want *want = &s.views[place].want;
        say_wait(w, &t, place, want);
        if (waits_inside(want) && !first) {
            first = want;
            first_place = place;
        }
    }
    say_orchestrator(w, &t);
    for (uint32_t place = 0; place < w->arena.places; place++) {
        const struct want *want = &s.views[place].want;
        tsm_run *run = waits_inside(want) ? run_of(w, want->run) : NULL;
        if (run) {
            run_fail(run, TSM_EDEADLOCK, first->task, (int)first_place, "%s", what);
        }
    }
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The chip process: takes records from its ring in order, runs or skips each, advances its timeline; asleep when
 * there is nothing to do. Owns its page. A replacement takes over ring and timeline where its
 * predecessor left them. docs/chip.md.
 */
#include "chip/chip.h"
#include "chip/copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "backend/registry.h"
#include "base/fault.h"
#include "base/role.h"
#include "base/sys.h"

bool chip_should_leave(const struct chip *c)
{
    return a32_load(&c->arena.ctl->shutdown) != 0;
}

_Noreturn void chip_leave(struct chip *c)
{
    TSM_FAULT("leave");
    c->backend->close(c->device);
    _exit(0);
}

static void execute_load(struct chip *c, const struct record *rec)
{
    struct loaded loaded;
    int rc = load_callable(c, rec->callable, rec->generation, &loaded, c->page->text,
                           sizeof(c->page->text));
    a32_store(&c->page->load_failed, rc != 0);
}

static void execute_zero(struct chip *c, const struct record *rec)
{
    const uint64_t *scalars = (const uint64_t *)(rec + 1);
    uint64_t begin = clock_ticks();
    TSM_FAULT("zero");
    c->backend->zero(c->device, (void *)(uintptr_t)scalars[0], scalars[1]);
    recorder_write(c->recorder, EVENT_ZERO, begin, clock_ticks(), scalars[0], 0);
}

bool control_execute(struct chip *c, const struct record *rec)
{
    switch (rec->kind) {
    case RECORD_LOAD:
        execute_load(c, rec);
        return true;
    case RECORD_ZERO:
        execute_zero(c, rec);
        return true;
    default:
        return false;
    }
}

static int look_ring(void *ctx)
{
    struct chip *c = ctx;
    return ring_peek(&c->reader) || chip_should_leave(c);
}

/* The next record, or NULL when the process is to leave. */
static const struct record *next_record(struct chip *c)
{
    const struct record *rec = ring_peek(&c->reader);
    while (!rec) {
        struct want want = {.kind = WAIT_RING, .place = c->place, .value = c->reader.next};
        wait_for(&c->waiter, &want, look_ring, c);
        rec = ring_peek(&c->reader);
        if (!rec && chip_should_leave(c)) {
            return NULL;
        }
    }
    return rec;
}

/* Inlined in the loop, where a call would be 20 instructions more of about 360. */
static inline bool step(struct chip *c)
{
    const struct record *rec = next_record(c);
    if (!rec) {
        return false;
    }
    uint64_t number = c->reader.next;
    TSM_FAULT("take");
    if (!control_execute(c, rec)) {
        record_execute(c, rec, number);
    }
    ring_advance(&c->reader, rec);
    TSM_FAULT("publish");
    timeline_advance(&c->arena, c->page, c->place, number);
    return true;
}

bool chip_step(struct chip *c)
{
    return step(c);
}

static _Noreturn void chip_loop(struct chip *c)
{
    while (step(c)) {
    }
    chip_leave(c);
}

/* The chip died inside a record: that one is over. Its own page may be damaged: what cannot be true is
 * put right here, at the cost of the tasks in flight. */
static void take_over(struct chip *c, const char *death)
{
    uint64_t published = a64_acquire(&c->arena.rings[c->place].published);
    uint64_t done = a64_load(&c->page->done);
    if (done > published) {
        done = published;
        a64_store(&c->page->done, done);
    }
    uint64_t begun = a64_load(&c->page->begun);
    if (!c->is_sub && begun == done + 1 && begun <= published) {
        const struct record *rec = ring_record(&c->arena, c->place, begun);
        if (rec->kind == RECORD_TASK) {
            record_mark_dead(c, rec, begun, death);
            a64_store(&c->page->begun_task, 0);
            timeline_advance(&c->arena, c->page, c->place, begun);
        }
    }
    a64_store(&c->page->begun_task, 0);
    a64_store(&c->page->deadline_ns, 0);
}

static int load_all(struct chip *c)
{
    uint64_t count = a64_acquire(&c->arena.ctl->callable_count);
    for (uint64_t i = 0; i < count; i++) {
        const struct callable *entry = &c->arena.callables[i];
        struct loaded loaded;
        char why[TEXT_BYTES];
        if (a32_acquire(&entry->state) == CALLABLE_LIVE) {
            int rc = load_callable(c, i, a32_load(&entry->generation), &loaded, why, sizeof(why));
            if (rc != 0) {
                snprintf(c->page->text, sizeof(c->page->text), "callable '%.100s': %s",
                         (const char *)(uintptr_t)entry->name, why);
                return rc;
            }
        }
    }
    return 0;
}

static void set_name(const struct chip *c)
{
    prctl(PR_SET_NAME, c->is_sub ? "transom-sub" : "transom-chip", 0, 0, 0);
}

_Noreturn void chip_main(const struct arena *arena, const struct chip_start *start)
{
    static struct chip self;
    struct chip *c = &self;
    c->arena = *arena;
    c->place = start->place;
    c->is_sub = start->place >= arena->chips;
    c->event_fd = start->event_fd;
    c->page = arena_page(arena, start->place);
    c->recorder = &c->page->recorder;
    c->backend = c->is_sub ? &backend_sim : backend_find(start->backend);
    role_set(ROLE_CHILD);
    set_name(c);
    fault_here((int)start->place, &arena->hints_head->faults_fired);
    TSM_FAULT("spawn");
    if (arena_confine(&c->arena, start->place) != 0) {
        _exit(101); /* it cannot even write its page; the keeper reports the status */
    }
    a32_store(&c->page->life, start->life);
    recorder_init(c->recorder);
    copy_set_stream_bytes(arena->ctl->info.tuning.stream_bytes,
                          arena->ctl->info.tuning.stream_out_bytes);
    waiter_init(&c->waiter, &c->arena, c->place, &c->page->wait, &c->page->sleeps);
    if (c->backend->open(c->place, &c->device, c->page->text, sizeof(c->page->text)) != 0 ||
        load_all(c) != 0) {
        a32_release(&c->page->ready, READY_FAILED);
        _exit(102);
    }
    if (start->life > 1) {
        TSM_FAULT("replace");
        c->is_sub ? sub_take_over(c, start->death) : take_over(c, start->death);
    }
    ring_reader_init(&c->reader, &c->arena, c->place, a64_load(&c->page->done));
    TSM_FAULT("ready");
    a32_release(&c->page->ready, READY_YES);
    sys_event_signal(c->event_fd);
    c->is_sub ? sub_loop(c) : chip_loop(c);
}

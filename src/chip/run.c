/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Running one record: its waits, whether it is to be skipped, the task itself, and the mark it leaves when it
 * fails. Chip and sub processes. The order matters: all waits, then the marks of those it waited for; the mark,
 * then the timeline. The model is tests/model/mark.pml. docs/chip.md.
 */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/sys.h"
#include "chip/chaos.h"
#include "chip/chip.h"
#include "shm/mark.h"

bool run_is_aborted(const struct chip *c, uint64_t run)
{
    uint32_t slot = run % RUN_SLOTS;
    return a64_load(&c->arena.keeper->aborts[slot]) == run ||
           a64_load(&c->arena.ctl->aborts[slot]) == run ||
           a64_load(&c->page->mark[slot].run) == run;
}

/* ---- marks ---- */

/* First cause kept. code 0: only skipped. data_bytes: of what the task wrote into the page's fail_data. */
static void make_mark_with(struct chip *c, const struct record *rec, uint64_t number, int code,
                           int detail, const char *text, uint64_t data_bytes)
{
    struct mark *m = &c->page->mark[rec->run % RUN_SLOTS];
    if (a64_load(&m->run) == rec->run) {
        return;
    }
    m->first_bad = number;
    m->when_ns = clock_ns();
    m->task = rec->task;
    m->code = code;
    m->sys_errno = 0;
    m->detail = detail;
    m->place = (int32_t)c->place;
    m->data_bytes = data_bytes;
    a64_store(&m->skipped, 0);
    snprintf(m->text, sizeof(m->text), "%s", text);
    TSM_FAULT("mark");
    a64_release(&m->run, rec->run); /* pairs with place_failed, keeper and orchestrator */
    a64_release(&c->page->marks, a64_load(&c->page->marks) + 1);
    if (code != 0) {
        sys_event_signal(c->event_fd);
    }
}

static void make_mark(struct chip *c, const struct record *rec, uint64_t number, int code,
                      int detail, const char *text)
{
    make_mark_with(c, rec, number, code, detail, text, 0);
}

static void count_lost(struct chip *c)
{
    a64_store(&c->page->lost, a64_load(&c->page->lost) + 1);
}

static void skip(struct chip *c, const struct record *rec, uint64_t number)
{
    make_mark(c, rec, number, 0, 0, "");
    struct mark *m = &c->page->mark[rec->run % RUN_SLOTS];
    a64_store(&m->skipped, a64_load(&m->skipped) + 1);
    a64_store(&c->page->skipped, a64_load(&c->page->skipped) + 1);
}

/* Whether the awaited task of `run` failed or was skipped. Its word has been reached. */
static bool word_failed(const struct chip *c, uint32_t place, uint32_t run, uint64_t value)
{
    uint32_t slot = run % RUN_SLOTS;
    if (place != PLACE_POOL) {
        return place < c->arena.places &&
               mark_says(&arena_page(&c->arena, place)->mark[slot], run, value);
    }
    uint64_t word = pool_done_word(&c->arena, value);
    if (word >> 1 == value) {
        return word & 1;
    }
    /* The slot has been used again: whether any task of that run failed is what can still be known. */
    for (uint32_t s = c->arena.chips; s < c->arena.places; s++) {
        if (mark_says(&arena_page(&c->arena, s)->mark[slot], run, UINT64_MAX)) {
            return true;
        }
    }
    return false;
}

/* ---- waits ---- */

struct word_wait {
    struct chip *c;
    uint32_t place;
    uint64_t value;
};

static int look_word(void *ctx)
{
    const struct word_wait *w = ctx;
    return word_reached(&w->c->arena, w->place, w->value);
}

static bool place_exists(const struct chip *c, uint32_t place)
{
    return place == PLACE_POOL || place < c->arena.places;
}

bool record_ready(const struct chip *c, const struct record *rec)
{
    const struct record_wait *waits = (const struct record_wait *)(rec + 1);
    for (uint32_t i = 0; i < rec->wait_count; i++) {
        uint32_t place = waits[i].place & PLACE_MASK;
        if (!place_exists(c, place) || !word_reached(&c->arena, place, waits[i].value)) {
            return false;
        }
    }
    return true;
}

/* All waits, whatever becomes of the record: a later record relies on them. True when one had to sleep
 * or spin. */
static bool make_waits(struct chip *c, const struct record *rec)
{
    const struct record_wait *waits = (const struct record_wait *)(rec + 1);
    bool waited = false;
    for (uint32_t i = 0; i < rec->wait_count; i++) {
        struct word_wait w = {c, waits[i].place & PLACE_MASK, waits[i].value};
        if (!look_word(&w)) {
            struct want want = {.kind = WAIT_WORD,
                                .place = w.place,
                                .value = w.value,
                                .task = rec->task,
                                .run = rec->run};
            wait_for(&c->waiter, &want, look_word, &w);
            waited = true;
        }
    }
    return waited;
}

/* After the waits: 0 begin; TSM_EABORTED skip; TSM_EUPSTREAM_FAILED with *ret_wait. */
static int judge(const struct chip *c, const struct record *rec,
                 const struct record_wait **ret_wait)
{
    const struct record_wait *waits = (const struct record_wait *)(rec + 1);
    if (run_is_aborted(c, rec->run)) {
        return TSM_EABORTED;
    }
    for (uint32_t i = 0; i < rec->wait_count; i++) {
        bool own = waits[i].run == (uint32_t)rec->run;
        if ((own || waits[i].place & WAIT_DATA) &&
            word_failed(c, waits[i].place & PLACE_MASK, waits[i].run, waits[i].value)) {
            *ret_wait = &waits[i];
            return own ? TSM_EABORTED : TSM_EUPSTREAM_FAILED;
        }
    }
    return 0;
}

/* ---- the task ---- */

static const char *callable_name(const struct chip *c, const struct record *rec)
{
    uint64_t name = c->arena.callables[rec->callable].name;
    return name ? (const char *)(uintptr_t)name : "?";
}

static void begin(struct chip *c, const struct record *rec, uint64_t number, uint64_t ticks)
{
    struct proc_page *p = c->page;
    a64_store(&p->begun_ticks, ticks);
    /* After the end of the last task, also for the keeper: see over_limit. The run before the task: see is_in_run. */
    a64_release(&p->begun_run, rec->run);
    a64_release(&p->begun_task, rec->task);
    a32_store(&p->begun_callable, rec->callable);
    a64_release(&p->begun, number);
    TSM_FAULT("begin");
    if (rec->limit_ns > 0) {
        uint64_t now = clock_ns();
        a64_store(&p->begun_ns, now);
        a64_release(&p->deadline_ns, now + (uint64_t)rec->limit_ns); /* pairs with the keeper */
        sys_event_signal(c->event_fd);
    }
}

static void end(struct chip *c, const struct record *rec)
{
    struct proc_page *p = c->page;
    if (rec->limit_ns > 0) {
        a64_store(&p->deadline_ns, 0);
    }
    a64_store(&p->begun_task, 0);
    a64_store(&p->tasks, a64_load(&p->tasks) + 1);
}

static void report_failure(struct chip *c, const struct record *rec, uint64_t number, tsm_task *t,
                           int rc)
{
    char text[MARK_TEXT];
    /* Ended by the failure of another task: a consequence, not a cause. */
    bool consequence = rc == TSM_EABORTED && !t->failed && run_is_aborted(c, rec->run);
    if (consequence) {
        make_mark(c, rec, number, TSM_EABORTED, rc, "");
        return;
    }
    if (t->failed) {
        snprintf(text, sizeof(text), "task '%s' failed: %.120s", callable_name(c, rec), t->text);
    } else {
        bool why = t->refused == rc && rc != 0;
        snprintf(text, sizeof(text), "task '%s' returned %d%s%s%s%.120s", callable_name(c, rec), rc,
                 rc < 0 ? " " : "", rc < 0 ? tsm_code_name(rc) : "", why ? ": " : "",
                 why ? t->text : "");
    }
    make_mark_with(c, rec, number, TSM_ETASK_FAILED, rc, text, t->fail_data_bytes);
}

static bool run_task(struct chip *c, const struct record *rec, uint64_t number, uint64_t start)
{
    char why[128];
    struct loaded loaded;
    tsm_task task;
    why[0] = 0;
    if (load_callable(c, rec->callable, rec->generation, &loaded, why, sizeof(why)) != 0) {
        char text[MARK_TEXT];
        snprintf(text, sizeof(text), "task '%s' could not be loaded: %s", callable_name(c, rec),
                 why);
        make_mark(c, rec, number, TSM_ENOENT, 0, text);
        count_lost(c);
        return false;
    }
    task_init(&task, c, rec);
    task.arg = loaded.arg;
    begin(c, rec, number, start);
    chaos_task_begin(c, rec);
    int rc = c->backend->launch(c->device, loaded.function, &task);
    task_fini(&task);
    TSM_FAULT("task");
    bool ok = rc == 0 && !task.failed;
    if (!ok) {
        report_failure(c, rec, number, &task, rc);
    }
    end(c, rec);
    return ok;
}

bool record_execute(struct chip *c, const struct record *rec, uint64_t number)
{
    const struct record_wait *bad = NULL;
    uint64_t start = clock_ticks();
    if (make_waits(c, rec)) {
        uint64_t now = clock_ticks();
        recorder_write(c->recorder, EVENT_WAIT, start, now, rec->task, rec->callable);
        start = now;
    }
    int rc = judge(c, rec, &bad);
    if (rc == TSM_EUPSTREAM_FAILED) {
        char text[MARK_TEXT];
        snprintf(text, sizeof(text),
                 "task '%s' reads what a failed task of run %u should have written",
                 callable_name(c, rec), bad->run);
        make_mark(c, rec, number, TSM_EUPSTREAM_FAILED, 0, text);
    }
    if (rc != 0) {
        skip(c, rec, number);
        return false;
    }
    bool ok = run_task(c, rec, number, start);
    recorder_write(c->recorder, EVENT_TASK, start, clock_ticks(), rec->task, rec->callable);
    return ok;
}

void record_mark_dead(struct chip *c, const struct record *rec, uint64_t number, const char *death)
{
    char text[MARK_TEXT];
    snprintf(text, sizeof(text), "%s %u died in task '%s': %s", c->is_sub ? "sub worker" : "chip",
             c->is_sub ? c->place - c->arena.chips : c->place, callable_name(c, rec), death);
    if (a64_load(&c->page->begun) != number || a64_load(&c->page->begun_task) != 0) {
        count_lost(c); /* else it was counted when it ended, just before the death */
    }
    make_mark(c, rec, number, TSM_ECHILD_DIED, 0, text);
}

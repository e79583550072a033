/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Runs: calling the orchestration function, several of them in flight, and what is reported at the end: the cause
 * that came first in time, then what followed from it. Orchestrator; owns the run objects. docs/runs.md.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/sys.h"
#include "engine/engine.h"

enum { ALIVE_NS = 20000000 }; /* between two looks at the keeper of a program that only polls */

tsm_run *run_of(tsm_worker *w, uint64_t number)
{
    if (number < w->run_oldest || number > w->run_newest || number == 0) {
        return NULL;
    }
    tsm_run *run = w->runs[number % RUN_SLOTS];
    return run && run->number == number ? run : NULL;
}

void run_touch(tsm_run *run, uint32_t place, uint64_t value)
{
    if (run->last[place] == 0) {
        run->touched[run->touched_count++] = place;
        if (place == run->worker->arena.places) {
            run->pool_first = value;
            run->pool_checked = value;
        }
    }
    run->last[place] = value;
}

/* ---- failure ---- */

void run_abort(tsm_run *run)
{
    tsm_worker *w = run->worker;
    if (!run->failed) {
        run->failed = true;
        a64_release(&w->arena.ctl->aborts[run->number % RUN_SLOTS], run->number);
        wake_everybody(&w->arena);
    }
}

void run_fail(tsm_run *run, int code, uint64_t task, int chip, const char *format, ...)
{
    if (run->error.code == 0 && run->state != RUN_OVER) {
        va_list ap;
        va_start(ap, format);
        error_clear(&run->error);
        run->error.code = code;
        run->error.chip = chip;
        run->error.task = task;
        run->error.run = run->number;
        run->error.when_ns = clock_ns();
        vsnprintf(run->error.text, sizeof(run->error.text), format, ap);
        va_end(ap);
    }
    run_abort(run);
}

bool run_is_failed(const tsm_worker *w, const tsm_run *run)
{
    return run->failed ||
           a64_load(&w->arena.keeper->aborts[run->number % RUN_SLOTS]) == run->number;
}

void run_check_timeline(tsm_run *run, uint32_t place)
{
    tsm_worker *w = run->worker;
    uint64_t next = w->pool_head + 1;
    if (place >= w->arena.chips && next <= w->rings[w->arena.places].published &&
        pool_done_word(&w->arena, next) >> 1 > next) {
        run_fail(run, TSM_EPROTOCOL, 0, -1,
                 "a sub worker wrote nonsense into the pool: record %llu is said to be another one",
                 (unsigned long long)next);
    }
    uint64_t done = place < w->arena.chips ? timeline_read(&w->arena, place) : 0;
    if (place < w->arena.chips && done > w->rings[place].published) {
        run_fail(run, TSM_EPROTOCOL, 0, (int)place,
                 "chip %u wrote nonsense into its own page: it was given %llu records, its "
                 "timeline says %llu",
                 place, (unsigned long long)w->rings[place].published, (unsigned long long)done);
    }
}

int run_stopped(tsm_worker *w)
{
    if (!run_is_failed(w, w->current)) {
        return 0;
    }
    if (w->current->error.code == TSM_EDEADLOCK) {
        w->error = w->current->error;
        return TSM_EDEADLOCK;
    }
    return worker_refuse(w, TSM_EABORTED, "run %llu has failed: nothing more is done for it",
                         (unsigned long long)w->current->number);
}

/* ---- the end of a run ---- */

static bool pool_part_done(tsm_worker *w, tsm_run *run)
{
    uint64_t last = run->last[w->arena.places];
    pool_collect(w);
    if (run->pool_checked <= w->pool_head) {
        run->pool_checked = w->pool_head + 1;
    }
    while (run->pool_checked <= last) {
        const struct record *rec = ring_record(&w->arena, w->arena.places, run->pool_checked);
        if (rec->run == run->number && !word_reached(&w->arena, PLACE_POOL, run->pool_checked)) {
            return false;
        }
        run->pool_checked++;
    }
    return true;
}

static bool run_complete(tsm_worker *w, tsm_run *run)
{
    while (run->touched_checked < run->touched_count) {
        uint32_t place = run->touched[run->touched_checked];
        bool done = place == w->arena.places ? pool_part_done(w, run)
                                             : word_reached(&w->arena, place, run->last[place]);
        if (!done) {
            return false;
        }
        run_check_timeline(run, place);
        run->touched_checked++;
    }
    return true;
}

/* The word that a wait for the run is to sleep on. */
static struct word next_word(const tsm_run *run)
{
    const tsm_worker *w = run->worker;
    uint32_t place = run->touched[run->touched_checked];
    if (place == w->arena.places) {
        return (struct word){PLACE_POOL, 0, run->pool_checked};
    }
    return (struct word){place, 0, run->last[place]};
}

/* A task that returned PEER followed from who aborted the domain, even when that one's mark took longer. */
static bool came_before(const struct tsm_error *a, const struct tsm_error *b)
{
    bool a_followed = a->detail == TSM_EPEER, b_followed = b->detail == TSM_EPEER;
    return a_followed != b_followed ? b_followed : a->when_ns < b->when_ns;
}

/* Keeper and replacement may both tell of it. */
static void add_follower(char *others, size_t bytes, const char *text)
{
    char line[132];
    snprintf(line, sizeof(line), "\nthen: %.120s", text);
    if (!strstr(others, line)) {
        size_t used = strlen(others);
        snprintf(others + used, bytes - used, "%s", line);
    }
}

/* Takes a mark's cause if it came before the one that is known; else it followed from it. True when it did. */
static bool weigh_mark(tsm_run *run, const struct mark *m, char *others, size_t others_bytes)
{
    if (a64_acquire(&m->run) != run->number) { /* pairs with make_mark, mark_run */
        return false;
    }
    run->error.skipped += a64_load(&m->skipped);
    struct tsm_error e = {0};
    e.code = m->code;
    if (e.code == 0 || e.code == TSM_EABORTED) {
        return false;
    }
    if (e.code > 0 || e.code < CODE_LAST) {
        e.code = TSM_EPROTOCOL;
    }
    e.sys_errno = m->sys_errno;
    e.chip = m->place;
    e.detail = m->detail;
    e.task = m->task;
    e.run = run->number;
    e.when_ns = m->when_ns;
    e.skipped = run->error.skipped;
    memcpy(e.text, m->text, sizeof(m->text));
    e.text[sizeof(m->text) - 1] = 0;
    /* The keeper and the replacement tell of the same death: one cause. */
    bool same = run->error.code == e.code && run->error.chip == e.chip && run->error.task == e.task;
    bool first = run->error.code == 0 || came_before(&e, &run->error);
    if (run->error.code != 0 && !same) {
        add_follower(others, others_bytes, first ? run->error.text : e.text);
    }
    if (first) {
        run->error = e;
    }
    return first;
}

/* What the failed task gave for the program. The page is the child's: its words are read once. Without memory for the
 * copy there is nothing. */
static void take_fail_data(tsm_run *run, const struct proc_page *p)
{
    uint32_t slot = run->number % RUN_SLOTS;
    uint64_t bytes = *(const volatile uint64_t *)&p->mark[slot].data_bytes;
    bytes = bytes < FAIL_DATA_MAX ? bytes : FAIL_DATA_MAX;
    run->fail_data = bytes != 0 ? malloc(bytes) : NULL;
    if (run->fail_data) {
        memcpy(run->fail_data, p->fail_data[slot], bytes);
        run->fail_data_bytes = bytes;
    }
}

static void find_cause(tsm_worker *w, tsm_run *run)
{
    char others[300] = "";
    uint32_t slot = run->number % RUN_SLOTS;
    const struct proc_page *cause = NULL;
    run->error.skipped = 0;
    weigh_mark(run, &w->arena.keeper->mark[slot], others, sizeof(others));
    for (uint32_t i = 0; i < run->touched_count; i++) {
        const struct proc_page *p = arena_page(&w->arena, run->touched[i]);
        if (run->touched[i] < w->arena.chips &&
            weigh_mark(run, &p->mark[slot], others, sizeof(others))) {
            cause = p;
        }
    }
    for (uint32_t s = w->arena.chips; s < w->arena.places && run->last[w->arena.places]; s++) {
        const struct proc_page *p = arena_page(&w->arena, s);
        if (weigh_mark(run, &p->mark[slot], others, sizeof(others))) {
            cause = p;
        }
    }
    if (cause) {
        take_fail_data(run, cause);
    }
    if (run->error.code == 0 && run_is_failed(w, run)) {
        run->error.code = TSM_EABORTED;
        run->error.chip = -1;
        snprintf(run->error.text, sizeof(run->error.text), "the run was aborted");
    }
    size_t used = strlen(run->error.text);
    snprintf(run->error.text + used, sizeof(run->error.text) - used, "%s", others);
}

bool run_has_cause(const tsm_worker *w, const tsm_run *run)
{
    if (run_is_failed(w, run)) {
        return true;
    }
    uint32_t slot = run->number % RUN_SLOTS;
    for (uint32_t i = 0; i < run->touched_count; i++) {
        uint32_t place = run->touched[i];
        if (place < w->arena.chips &&
            a64_acquire(&arena_page(&w->arena, place)->mark[slot].run) == run->number) {
            return true;
        }
    }
    for (uint32_t s = w->arena.chips; s < w->arena.places && run->last[w->arena.places]; s++) {
        if (a64_acquire(&arena_page(&w->arena, s)->mark[slot].run) == run->number) {
            return true;
        }
    }
    return false;
}

static void drop(tsm_run *run)
{
    tsm_worker *w = run->worker;
    if (--run->holders == 0) {
        free(run->fail_data);
        run->fail_data = NULL;
        run->fail_data_bytes = 0;
        run->state = RUN_FREE;
        run->next = w->run_free;
        w->run_free = run;
    }
}

static void forget_failed_subs(tsm_worker *w)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->failed_subs.count; i++) {
        if (run_of(w, w->run_oldest) &&
            (int32_t)(w->failed_subs.list[i].run - (uint32_t)w->run_oldest) >= 0) {
            w->failed_subs.list[kept++] = w->failed_subs.list[i];
        }
    }
    w->failed_subs.count = kept;
}

static void retire(tsm_worker *w, tsm_run *run)
{
    if (run_has_cause(w, run)) {
        find_cause(w, run);
        /* What it should have written stays marked; records in flight may still ask for its marks. */
        rangemap_poison(&w->map);
        w->slot_gate[run->number % RUN_SLOTS] = w->run_newest;
        a64_store(&w->arena.ctl->cancels[run->number % RUN_SLOTS].run, 0);
    }
    run->state = RUN_OVER;
    domains_of_run_over(w, run);
    if (run->result == 0 || run->result == TSM_EABORTED) {
        run->result = run->error.code;
    } else if (run->error.code != 0 && run->error.code != run->result &&
               run->error.code != TSM_EFUNCTION) {
        run->result = run->error.code; /* a task failed before the function did */
    }
    w->runs[run->number % RUN_SLOTS] = NULL;
    w->stats.runs_live--;
    for (uint32_t i = 0; i < run->touched_count; i++) {
        run->last[run->touched[i]] = 0;
    }
    run->touched_count = 0;
    while (w->run_oldest <= w->run_newest && !w->runs[w->run_oldest % RUN_SLOTS]) {
        w->run_oldest++;
    }
    groups_retire(w);
    if (w->failed_subs.count) {
        forget_failed_subs(w);
    }
    drop(run);
}

void runs_retire(tsm_worker *w)
{
    for (uint64_t n = w->run_oldest; n <= w->run_newest; n++) {
        tsm_run *run = w->runs[n % RUN_SLOTS];
        if (run && run->state == RUN_FLYING && run_complete(w, run)) {
            retire(w, run);
        }
    }
}

/* ---- waiting ---- */

static int wait_over(tsm_run *run, uint64_t deadline_ns)
{
    tsm_worker *w = run->worker;
    int rc = 0;
    run->holders++;
    while (rc == 0) {
        engine_progress(w);
        if (run->state == RUN_OVER) {
            break;
        }
        struct word x = next_word(run);
        rc = engine_wait(w, x.place, x.value, deadline_ns);
    }
    drop(run);
    return rc;
}

int runs_drain(tsm_worker *w, uint64_t deadline_ns)
{
    int rc = 0;
    while (rc == 0 && w->run_oldest <= w->run_newest) {
        tsm_run *run = w->runs[w->run_oldest % RUN_SLOTS];
        if (!run || run->state != RUN_FLYING) {
            break;
        }
        rc = wait_over(run, deadline_ns);
    }
    return rc;
}

/* ---- starting ---- */

static tsm_run *run_new(tsm_worker *w)
{
    tsm_run *run = w->run_free;
    if (run) {
        w->run_free = run->next;
        return run;
    }
    run = calloc(1, sizeof(*run));
    if (!run) {
        return NULL;
    }
    run->worker = w;
    run->orch.run = run;
    run->last = calloc(w->arena.places + 1, sizeof(*run->last));
    run->touched = calloc(w->arena.places + 1, sizeof(*run->touched));
    if (!run->last || !run->touched) {
        free(run->last);
        free(run->touched);
        free(run);
        return NULL;
    }
    run->all_next = w->run_all;
    w->run_all = run;
    return run;
}

/* The slot of the next run: free of its last user, and of readers of a failed one's marks. */
static int free_slot(tsm_worker *w)
{
    uint64_t next = w->run_newest + 1;
    for (;;) {
        uint64_t must_be_over = next > RUN_SLOTS ? next - RUN_SLOTS : 0;
        uint64_t gate = w->slot_gate[next % RUN_SLOTS];
        must_be_over = gate > must_be_over ? gate : must_be_over;
        engine_progress(w);
        if (w->run_oldest > must_be_over || w->run_oldest > w->run_newest) {
            return 0;
        }
        int rc = wait_over(w->runs[w->run_oldest % RUN_SLOTS], 0);
        if (rc != 0) {
            return rc;
        }
    }
}

static int begin(tsm_worker *w, tsm_run **ret)
{
    int rc = free_slot(w);
    if (rc != 0 || (rc = engine_wait_replaced(w)) != 0) {
        return rc;
    }
    engine_progress(w);
    tsm_run *run = run_new(w);
    if (!run) {
        return worker_refuse(w, TSM_ENOMEM, "no memory for a run");
    }
    run->number = ++w->run_newest;
    run->state = RUN_BUILDING;
    run->holders = 1;
    run->touched_count = run->touched_checked = 0;
    run->pool_first = run->pool_checked = 0;
    run->failed = false;
    run->result = 0;
    error_clear(&run->error);
    run->error.chip = -1;
    run->scope_count = 0;
    run->domains = NULL;
    scope_push(w, run);
    w->runs[run->number % RUN_SLOTS] = run;
    w->current = run;
    w->stats.runs_live++;
    a64_release(&w->arena.ctl->runs, run->number);
    *ret = run;
    return 0;
}

/* The function has returned: close its scopes and domains; abort what it started if it failed. */
static void finish(tsm_worker *w, tsm_run *run, int result)
{
    run->result = result;
    if (result != 0 && !run_is_failed(w, run)) {
        bool code = result < 0 && result >= CODE_LAST;
        bool said = code && w->error.code == result; /* the refusal that it forwards */
        run_fail(run, code ? result : TSM_EFUNCTION, 0, -1,
                 "the orchestration function returned %d%s%s", result, said ? ": " : "",
                 said ? w->error.text : "");
        run->error.detail = result;
    }
    while (run->scope_count > 0) {
        scope_pop(w, run);
    }
    domains_sweep(w, run, result != 0);
    w->current = NULL;
    run->state = RUN_FLYING;
}

static int start_run(tsm_worker *w, tsm_orch_fn *fn, void *arg, tsm_run **ret)
{
    int rc = worker_check(w, CHECK_READY);
    if (rc != 0) {
        return rc;
    }
    if (!fn) {
        return worker_refuse(w, TSM_EINVAL, "fn is NULL");
    }
    if (w->current) {
        return worker_refuse(w, TSM_ESTATE, "a run inside an orchestration function");
    }
    tsm_run *run = NULL;
    rc = begin(w, &run);
    if (rc != 0) {
        return rc;
    }
    error_clear(&w->error);
    run->holders++; /* the caller's */
    finish(w, run, fn(&run->orch, arg));
    *ret = run;
    return 0;
}

static int outcome(tsm_run *run)
{
    tsm_worker *w = run->worker;
    if (run->error.code != 0) {
        w->error = run->error;
    }
    return run->result;
}

int tsm_worker_run(tsm_worker *w, tsm_orch_fn *fn, void *arg)
{
    tsm_run *run = NULL;
    int rc = start_run(w, fn, arg, &run);
    if (rc != 0) {
        return rc;
    }
    rc = wait_over(run, 0);
    if (rc == 0) {
        rc = outcome(run);
    }
    drop(run);
    return rc;
}

int tsm_worker_submit_run(tsm_worker *w, tsm_orch_fn *fn, void *arg, tsm_run **ret)
{
    tsm_run *run = NULL;
    int rc = ret ? start_run(w, fn, arg, &run) : TSM_EINVAL;
    if (rc != 0) {
        return rc;
    }
    rc = run->result;
    if (rc != 0 && run->error.code != 0) {
        w->error = run->error;
    }
    if (rc != 0 && rc != TSM_EABORTED) {
        drop(run);
        return rc;
    }
    engine_progress(w);
    *ret = run;
    return 0;
}

/* ---- handles ---- */

/* The worker is beyond repair: what is in flight will never be over, and that is its error. */
static bool is_lost(tsm_run *run)
{
    tsm_worker *w = run->worker;
    if (w->state != WORKER_FAILED || run->state == RUN_OVER) {
        return false;
    }
    if (run->error.code == 0) {
        run->error = w->error;
        run->error.run = run->number;
    }
    return true;
}

static int check_handle(tsm_run *run)
{
    int rc = run ? worker_check(run->worker, run->state == RUN_OVER ? CHECK_ANY : CHECK_READY)
                 : TSM_EINVAL;
    if (rc != 0 && run) {
        is_lost(run);
    }
    return rc;
}

int tsm_run_wait(tsm_run *run, int64_t timeout_ns)
{
    int rc = check_handle(run);
    if (rc != 0) {
        return rc;
    }
    if (run->state != RUN_OVER) {
        if (run->worker->current) {
            return worker_refuse(run->worker, TSM_ESTATE,
                                 "a wait for a run inside an orchestration function");
        }
        rc = wait_over(run, timeout_ns < 0 ? 0 : clock_ns() + (uint64_t)timeout_ns);
    }
    if (rc == TSM_ETIMEOUT) {
        return worker_refuse(run->worker, rc, "run %llu is not over after %lld ns",
                             (unsigned long long)run->number, (long long)timeout_ns);
    }
    return rc != 0 ? rc : outcome(run);
}

/* Who is still in a task of the run then loses its process: the keeper sees to it, whatever the program does. The earliest
 * of several moments stands. */
static void kill_at(tsm_run *run, uint64_t ns)
{
    struct ctl_head *ctl = run->worker->arena.ctl;
    struct cancel *c = &ctl->cancels[run->number % RUN_SLOTS];
    if (a64_load(&c->run) != run->number || ns < a64_load(&c->kill_ns)) {
        a64_store(&c->kill_ns, ns);
        a64_release(&c->run, run->number); /* pairs with enforce_cancels */
        sys_event_signal(run->worker->event_fd);
    }
}

int tsm_run_cancel(tsm_run *run, int64_t grace_ns)
{
    int rc = check_handle(run);
    if (rc != 0) {
        return rc;
    }
    tsm_worker *w = run->worker;
    engine_progress(w);
    if (run->state == RUN_OVER) {
        return 0;
    }
    run_fail(run, TSM_ECANCELED, 0, -1, "run %llu was cancelled", (unsigned long long)run->number);
    if (grace_ns >= 0) {
        kill_at(run, clock_ns() + (uint64_t)grace_ns);
    }
    return run == w->current ? 0 : wait_over(run, 0);
}

int tsm_run_done(tsm_run *run)
{
    if (run->state != RUN_OVER && worker_check(run->worker, CHECK_READY) == 0) {
        engine_progress(run->worker);
        uint64_t now = clock_ns();
        if (now - run->worker->alive_checked_ns > ALIVE_NS) {
            run->worker->alive_checked_ns = now;
            worker_alive(run->worker);
        }
    }
    return run->state == RUN_OVER || is_lost(run);
}

const struct tsm_error *tsm_run_error(const tsm_run *run)
{
    static const struct tsm_error none = {.chip = -1};
    bool final = run->state == RUN_OVER || run->worker->state == WORKER_FAILED;
    return final ? &run->error : &none;
}

const void *tsm_run_fail_data(const tsm_run *run, uint64_t *ret_bytes)
{
    if (ret_bytes) {
        *ret_bytes = run->fail_data_bytes;
    }
    return run->fail_data;
}

void tsm_run_release(tsm_run *run)
{
    if (run && worker_is_mine(run->worker)) {
        drop(run);
    }
}

tsm_worker *tsm_orch_worker(const tsm_orch *orch)
{
    return orch->run->worker;
}

uint64_t tsm_orch_run(const tsm_orch *orch)
{
    return orch->run->number;
}

int tsm_orch_handle(tsm_orch *orch, tsm_run **ret)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    if (!ret) {
        return worker_refuse(orch->run->worker, TSM_EINVAL, "ret is NULL");
    }
    orch->run->holders++;
    *ret = orch->run;
    return 0;
}

void runs_fini(tsm_worker *w)
{
    /* What is still in flight at close is over: nothing runs any more. */
    for (uint32_t i = 0; i < RUN_SLOTS; i++) {
        tsm_run *run = w->runs[i];
        if (run) {
            if (!is_lost(run) && run->error.code == 0) {
                run->error.code = TSM_ECLOSED;
                snprintf(run->error.text, sizeof(run->error.text), "the worker was closed");
            }
            run->result = run->result ? run->result : run->error.code;
            domains_of_run_over(w, run);
            run->state = RUN_OVER;
            run->touched_count = 0;
            w->runs[i] = NULL;
            drop(run);
        }
    }
    w->run_oldest = w->run_newest + 1;
}

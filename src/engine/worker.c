/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The worker object: options, checks at the door of every public call, its tables, close and destroy. The
 * processes are start.c's. Orchestrator. docs/engine.md.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/registry.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/role.h"
#include "base/sys.h"
#include "base/topology.h"
#include "engine/engine.h"

enum { ABORT_GRACE_NS = 1000000000, KEEPER_ARGV_MORE = 2 };

/* Its address tells threads apart without a system call. */
static _Thread_local char thread_mark;

/* ---- errors and checks ---- */

int worker_refuse(tsm_worker *w, int code, const char *format, ...)
{
    char text[sizeof(w->error.text)];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return error_set(&w->error, code, "%s", text);
}

int worker_refuse_sys(tsm_worker *w, int code, const char *format, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return error_sys(&w->error, code, "%s", text);
}

int worker_interrupted(tsm_worker *w)
{
    return worker_refuse(w, TSM_EINTERRUPTED, "the sleep hooks gave up the wait");
}

bool worker_is_mine(const tsm_worker *w)
{
    return role_get() == ROLE_PROGRAM && w->forks == role_forks() && w->thread == &thread_mark;
}

int worker_check(tsm_worker *w, int how)
{
    if (!w) {
        return TSM_EINVAL;
    }
    if (!worker_is_mine(w)) {
        return TSM_EWRONG_THREAD;
    }
    if (w->state == WORKER_CLOSED) {
        return worker_refuse(w, TSM_ECLOSED, "the worker is closed");
    }
    if (how == CHECK_READY && w->state == WORKER_NEW) {
        return worker_refuse(w, TSM_ESTATE, "the worker is not started");
    }
    if (how == CHECK_READY && w->state == WORKER_FAILED) {
        return TSM_EWORKER_FAILED; /* the cause stays in the error */
    }
    return 0;
}

int orch_check(tsm_orch *orch)
{
    if (!orch) {
        return TSM_EINVAL;
    }
    tsm_worker *w = orch->run->worker;
    int rc = worker_check(w, CHECK_READY);
    if (rc == 0 && w->current != orch->run) {
        return worker_refuse(
            w, TSM_ESTATE,
            "allowed only inside the orchestration function that this orch was given to");
    }
    return rc;
}

int worker_alive(tsm_worker *w)
{
    struct pollfd keeper = {.fd = w->keeper_fd, .events = POLLIN};
    if (w->state == WORKER_FAILED) {
        return TSM_EWORKER_FAILED;
    }
    if (a32_acquire(&w->arena.keeper->state) == KEEPER_FAILED) {
        worker_refuse(w, TSM_EWORKER_FAILED, "%s", w->arena.keeper->text);
    } else if (sys_poll(&keeper, 1, 0) > 0) {
        worker_refuse(w, TSM_EWORKER_FAILED, "the keeper process died");
    } else {
        return 0;
    }
    w->state = WORKER_FAILED;
    a32_store(&w->arena.ctl->state, WORKER_FAILED);
    return TSM_EWORKER_FAILED;
}

int worker_promise(tsm_worker *w, uint64_t bytes)
{
    uint64_t limit = topology_memory_limit();
    uint64_t held = w->stats.heap_bytes + w->lease_bytes;
    if (bytes > limit || held > limit - bytes) {
        return worker_refuse(
            w, TSM_ENOMEM,
            "%llu bytes asked, %llu promised already: the machine or control group has %llu",
            (unsigned long long)bytes, (unsigned long long)held, (unsigned long long)limit);
    }
    return 0;
}

const struct tsm_error *tsm_worker_error(const tsm_worker *w)
{
    return &w->error;
}

/* ---- options ---- */

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value ? value : fallback;
}

static int check_sizes(const struct tsm_worker_opts *o, struct tsm_error *err)
{
    if (o->ring_bytes < 262144 || o->ring_bytes > UINT64_C(1) << 30 ||
        o->ring_bytes & (o->ring_bytes - 1)) {
        return error_set(err, TSM_EINVAL, "ring_bytes is %llu: a power of two, 256 KiB to 1 GiB",
                         (unsigned long long)o->ring_bytes);
    }
    const uint64_t max = UINT64_C(1) << 44;
    const struct {
        const char *name;
        uint64_t bytes, max;
    } sizes[] = {{"heap_bytes", o->heap_bytes, max},
                 {"host_bytes", o->host_bytes, max},
                 {"lease_bytes", o->lease_bytes, max},
                 {"arena_bytes", o->arena_bytes, max * 8}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i].bytes > sizes[i].max) {
            return error_set(err, TSM_EINVAL, "%s is %llu: at most %llu", sizes[i].name,
                             (unsigned long long)sizes[i].bytes, (unsigned long long)sizes[i].max);
        }
    }
    if (o->start_timeout_ns < 0 || o->close_timeout_ns < 0) {
        bool start = o->start_timeout_ns < 0;
        return error_set(err, TSM_EINVAL, "%s is %lld: negative",
                         start ? "start_timeout_ns" : "close_timeout_ns",
                         (long long)(start ? o->start_timeout_ns : o->close_timeout_ns));
    }
    return 0;
}

static int check_opts(struct tsm_worker_opts *o, struct tsm_error *err)
{
    char why[160] = "";
    if (o->size != sizeof(*o)) {
        return error_set(err, TSM_EINVAL, "opts.size is %zu: initialise with TSM_WORKER_OPTS_INIT",
                         o->size);
    }
    o->chips = (uint32_t)or_default(o->chips, 1);
    o->backend = o->backend ? o->backend : "sim";
    o->heap_bytes = or_default(o->heap_bytes, UINT64_C(1) << 30);
    o->host_bytes = or_default(o->host_bytes, UINT64_C(4) << 30);
    o->ring_bytes = or_default(o->ring_bytes, 262144);
    o->lease_bytes = or_default(o->lease_bytes, topology_memory_limit() / 2);
    o->start_timeout_ns = (int64_t)or_default((uint64_t)o->start_timeout_ns, 30000000000u);
    o->close_timeout_ns = (int64_t)or_default((uint64_t)o->close_timeout_ns, 30000000000u);
    if (o->chips > CHIPS_MAX || o->subs > SUBS_MAX) {
        return error_set(err, TSM_EINVAL, "%s is %u: at most 1024",
                         o->chips > CHIPS_MAX ? "chips" : "subs",
                         o->chips > CHIPS_MAX ? o->chips : o->subs);
    }
    if (o->start_method != TSM_FORK && o->start_method != TSM_SPAWN) {
        return error_set(err, TSM_EINVAL, "start_method is %d", o->start_method);
    }
    if (o->pin < TSM_PIN_NONE || o->pin > TSM_PIN_NUMA) {
        return error_set(err, TSM_EINVAL, "pin is %d", o->pin);
    }
    if (o->pin != TSM_PIN_NONE && topology_can_pin(why, sizeof(why)) != 0) {
        return error_set(err, TSM_EUNSUPPORTED, "pin: %s", why);
    }
    return check_sizes(o, err);
}

/* The program's array and strings need not live on. Room for the two arguments that spawn_once adds. */
static int copy_keeper(tsm_worker *w, struct tsm_error *err)
{
    const char *const *from = w->opts.keeper;
    size_t count = 0;
    if (!from) {
        return 0;
    }
    if (w->opts.start_method != TSM_SPAWN) {
        return error_set(err, TSM_EINVAL, "keeper is given, but start_method is fork");
    }
    if (!from[0] || !*from[0]) {
        return error_set(err, TSM_EINVAL, "keeper names no program");
    }
    while (from[count]) {
        count++;
    }
    w->keeper_argv = calloc(count + KEEPER_ARGV_MORE + 1, sizeof(*w->keeper_argv));
    for (size_t i = 0; w->keeper_argv && i < count; i++) {
        w->keeper_argv[i] = strdup(from[i]);
        if (!w->keeper_argv[i]) {
            return error_set(err, TSM_ENOMEM, "no memory for the keeper's arguments");
        }
    }
    w->opts.keeper = (const char *const *)w->keeper_argv;
    return w->keeper_argv ? 0 : error_set(err, TSM_ENOMEM, "no memory for the keeper's arguments");
}

static void free_object(tsm_worker *w)
{
    for (size_t i = 0; w->keeper_argv && w->keeper_argv[i]; i++) {
        free(w->keeper_argv[i]);
    }
    free(w->keeper_argv);
    free(w);
}

static int find_backend(tsm_worker *w, struct tsm_error *err)
{
    char why[160] = "";
    w->backend = backend_find(w->opts.backend);
    if (!w->backend || strlen(w->opts.backend) >= sizeof(w->backend_name)) {
        return error_set(err, TSM_EUNSUPPORTED, "backend '%s' is not in this build; it has: %s",
                         w->opts.backend, backend_names());
    }
    int rc = w->backend->probe(w->opts.chips, why, sizeof(why));
    if (rc != 0) {
        return error_set(err, TSM_EUNSUPPORTED, "backend '%s': %s; this build has: %s",
                         w->opts.backend, why, backend_names());
    }
    snprintf(w->backend_name, sizeof(w->backend_name), "%s", w->backend->name);
    w->opts.backend = w->backend_name;
    return 0;
}

int tsm_worker_create(const struct tsm_worker_opts *opts, tsm_worker **ret, struct tsm_error *err)
{
    static _Atomic uint32_t made;
    if (!ret) {
        return error_set(err, TSM_EINVAL, "ret is NULL");
    }
    if (role_get() != ROLE_PROGRAM) {
        return error_set(err, TSM_EWRONG_THREAD, "a worker cannot be made inside a task");
    }
    tsm_worker *w = calloc(1, sizeof(*w));
    if (!w) {
        return error_set(err, TSM_ENOMEM, "no memory for a worker");
    }
    if (opts) {
        w->opts = *opts;
    } else {
        w->opts.size = sizeof(w->opts);
    }
    int rc = check_opts(&w->opts, err);
    if (rc != 0 || (rc = find_backend(w, err)) != 0 || (rc = copy_keeper(w, err)) != 0) {
        free_object(w);
        return rc;
    }
    if (fault_arm(getenv("TRANSOM_FAULT")) != 0) {
        free_object(w);
        return error_set(err, TSM_EINVAL, "TRANSOM_FAULT='%s' cannot be read",
                         getenv("TRANSOM_FAULT"));
    }
    role_watch_forks();
    w->forks = role_forks();
    w->magic = (atomic_fetch_add(&made, 1) % 0xfffff) + 1;
    w->thread = &thread_mark;
    w->event_fd = w->lifeline_fd = w->keeper_fd = -1;
    w->error.chip = -1;
    *ret = w;
    return 0;
}

/* ---- tables that live as long as the processes ---- */

int worker_alloc_tables(tsm_worker *w)
{
    const struct arena_info *in = &w->arena.ctl->info;
    w->rings = calloc(w->arena.places + 1, sizeof(*w->rings));
    w->child_deaths = calloc(w->arena.places, sizeof(*w->child_deaths));
    if (!w->rings || !w->child_deaths || graph_init(w) != 0 || memory_init(w) != 0 ||
        leases_init(w) != 0 || scratch_init(w) != 0 ||
        blocks_init(&w->desc, in->base + in->desc_offset, in->desc_bytes) != 0) {
        return TSM_ENOMEM;
    }
    for (uint32_t i = 0; i <= w->arena.places; i++) {
        ring_writer_init(&w->rings[i], &w->arena, i);
    }
    waiter_init(&w->waiter, &w->arena, arena_orchestrator(&w->arena), &w->arena.ctl->wait, NULL);
    w->waiter.hooks = worker_hooks(w);
    w->lease_budget = w->opts.lease_bytes;
    w->run_newest = 0;
    w->run_oldest = 1;
    w->domain_next = 1;
    w->pool_head = 0;
    w->deaths_seen = 0;
    memset(&w->stats, 0, sizeof(w->stats));
    return callables_publish(w);
}

void worker_free_tables(tsm_worker *w)
{
    domains_fini(w);
    leases_fini(w);
    memory_fini(w);
    graph_fini(w);
    scratch_fini(w);
    blocks_fini(&w->desc);
    free(w->rings);
    free(w->child_deaths);
    w->rings = NULL;
    w->child_deaths = NULL;
}

/* ---- close ---- */

static void abort_all(tsm_worker *w)
{
    for (uint64_t n = w->run_oldest; n <= w->run_newest; n++) {
        tsm_run *run = run_of(w, n);
        if (run) {
            run_fail(run, TSM_ECLOSED, 0, -1, "the worker was closed while the run was in flight");
        }
    }
}

/* What goes with the processes. */
static void free_all(tsm_worker *w)
{
    runs_fini(w);
    worker_free_tables(w);
    if (w->keep_host) {
        arena_destroy_but_host(&w->arena);
    } else {
        arena_destroy(&w->arena);
    }
}

int tsm_worker_close(tsm_worker *w)
{
    if (w && w->state == WORKER_CLOSED && w->thread == &thread_mark) {
        return 0;
    }
    int rc = worker_check(w, CHECK_ANY);
    if (rc != 0) {
        return rc;
    }
    if (w->current) {
        return worker_refuse(w, TSM_ESTATE, "close inside an orchestration function");
    }
    if (w->state == WORKER_READY) {
        w->closing = true;
        rc = runs_drain(w, clock_ns() + (uint64_t)w->opts.close_timeout_ns);
        if (rc == TSM_EINTERRUPTED) {
            w->closing = false;
            return rc;
        }
        if (rc == TSM_ETIMEOUT) {
            w->steady = true;
            abort_all(w);
            runs_drain(w, clock_ns() + ABORT_GRACE_NS);
            worker_refuse(w, rc, "runs were still in flight after %lld ms and have been aborted",
                          (long long)(w->opts.close_timeout_ns / 1000000));
        }
    }
    if (w->state != WORKER_NEW) {
        while (w->kept) {
            tsm_domain *d = w->kept;
            tsm_domain_release(d);
            w->kept = d->next;
            d->next = w->domain_free;
            w->domain_free = d;
        }
        bool kill = w->state == WORKER_FAILED || rc != 0;
        stop_processes(w, kill);
        free_all(w);
    }
    callables_fini(w);
    w->state = WORKER_CLOSED;
    return rc == TSM_EWORKER_FAILED ? 0 : rc;
}

static void free_runs(tsm_worker *w)
{
    while (w->run_all) {
        tsm_run *run = w->run_all;
        w->run_all = run->all_next;
        scopes_fini(run);
        free(run->fail_data);
        free(run->last);
        free(run->touched);
        free(run);
    }
}

void tsm_worker_destroy(tsm_worker *w)
{
    if (!w || role_get() != ROLE_PROGRAM || w->forks != role_forks()) {
        return;
    }
    bool mine = worker_is_mine(w) && !w->current;
    w->steady |= mine; /* nobody could be told of an interruption */
    if (tsm_worker_close(w) != 0 && w->state != WORKER_CLOSED) {
        return; /* the wrong thread, or inside a function: it stays as it is */
    }
    free_runs(w);
    free_object(w);
}

void tsm_worker_abandon(tsm_worker *w)
{
    if (!w || role_get() != ROLE_PROGRAM || w->forks != role_forks() || w->current) {
        return;
    }
    if (w->state == WORKER_READY || w->state == WORKER_FAILED) {
        abandon_processes(w);
        free_all(w);
    }
    callables_fini(w);
    free_runs(w);
    free_object(w);
    reap_abandoned();
}

int tsm_worker_keep_host(tsm_worker *w, void **ret_base, uint64_t *ret_bytes)
{
    int rc = worker_check(w, CHECK_ANY);
    if (rc != 0) {
        return rc;
    }
    if (!ret_base || !ret_bytes) {
        return worker_refuse(w, TSM_EINVAL, "%s is NULL", ret_base ? "ret_bytes" : "ret_base");
    }
    if (w->state == WORKER_NEW) {
        return worker_refuse(w, TSM_ESTATE, "the worker is not started");
    }
    const struct arena_info *in = &w->arena.ctl->info;
    w->keep_host = true;
    *ret_base = arena_at(&w->arena, in->host_offset);
    *ret_bytes = in->host_bytes;
    return 0;
}

/* ---- hooks ---- */

int tsm_worker_set_sleep_hooks(tsm_worker *w, const struct tsm_sleep_hooks *hooks)
{
    int rc = worker_check(w, CHECK_ANY);
    if (rc != 0) {
        return rc;
    }
    if (hooks && hooks->size != sizeof(*hooks)) {
        return worker_refuse(
            w, TSM_EINVAL, "hooks.size is %zu: initialise with TSM_SLEEP_HOOKS_INIT", hooks->size);
    }
    w->hooks = hooks ? *hooks : (struct tsm_sleep_hooks){0};
    w->waiter.hooks = worker_hooks(w);
    return 0;
}

/* ---- asking ---- */

void tsm_worker_stats(tsm_worker *w, struct tsm_stats *ret)
{
    if (worker_check(w, CHECK_READY) != 0) {
        memset(ret, 0, sizeof(*ret));
        return;
    }
    engine_progress(w);
    *ret = w->stats;
    ret->size = sizeof(*ret);
    ret->ranges = rangemap_count(&w->map);
    ret->lease_bytes = w->lease_bytes;
    ret->syscalls = sys_count_all();
    ret->mappings = sys_count(SYS_CALL_MMAP);
    ret->deaths = a64_load(&w->arena.keeper->deaths);
}

uint64_t tsm_worker_tasks_done(const tsm_worker *w)
{
    uint64_t sum = 0;
    for (uint32_t place = 0; w && w->arena.base && place < w->arena.places; place++) {
        const struct proc_page *p = arena_page(&w->arena, place);
        sum += a64_load(&p->tasks) + a64_load(&p->skipped) + a64_load(&p->lost);
    }
    return sum;
}

int tsm_worker_pid(const tsm_worker *w, int chip)
{
    if (!w || !w->arena.base || chip < 0 || (uint32_t)chip >= w->arena.places) {
        return 0;
    }
    return (int)a32_acquire(&w->arena.keeper->child[chip].pid);
}

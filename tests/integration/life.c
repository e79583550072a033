/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The life of a worker: options, start by fork and by spawn and what stands in their way, starts that fail, close and
 * what is refused after it, who may call, several workers, an idle one, and a program that is killed.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "rig.h"

static const int64_t ms = 1000000;

/* ---- options ---- */

static void bad_options_are_refused_with_name_and_value(void **state)
{
    (void)state;
    struct bad {
        struct tsm_worker_opts opts;
        const char *name, *value;
    };
    const size_t size = sizeof(struct tsm_worker_opts);
    const uint64_t huge = UINT64_C(1) << 50;
    const struct bad bad[] = {
        {{.size = 0}, "size", "0"},
        {{.size = size - 1}, "size", ""},
        {{.size = size, .chips = 1025}, "chips", "1025"},
        {{.size = size, .subs = 4000}, "subs", "4000"},
        {{.size = size, .start_method = 7}, "start_method", "7"},
        {{.size = size, .start_method = -1}, "start_method", "-1"},
        {{.size = size, .pin = 3}, "pin", "3"},
        {{.size = size, .pin = -2}, "pin", "-2"},
        {{.size = size, .ring_bytes = 1000}, "ring_bytes", "1000"},
        {{.size = size, .ring_bytes = 300000}, "ring_bytes", "300000"},
        {{.size = size, .ring_bytes = UINT64_C(2) << 30}, "ring_bytes", "2147483648"},
        {{.size = size, .heap_bytes = huge}, "heap_bytes", "1125899906842624"},
        {{.size = size, .host_bytes = huge}, "host_bytes", "1125899906842624"},
        {{.size = size, .lease_bytes = huge}, "lease_bytes", "1125899906842624"},
        {{.size = size, .arena_bytes = UINT64_MAX}, "arena_bytes", "18446744073709551615"},
        {{.size = size, .start_timeout_ns = -5}, "start_timeout_ns", "-5"},
        {{.size = size, .close_timeout_ns = -6}, "close_timeout_ns", "-6"}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct tsm_error err = {0};
        tsm_worker *w = NULL;
        int rc = tsm_worker_create(&bad[i].opts, &w, &err);
        bool named = strstr(err.text, bad[i].name) && strstr(err.text, bad[i].value);
        if (rc != TSM_EINVAL || err.code != rc || !named || w) {
            fail_msg("%s: %s '%s'", bad[i].name, tsm_code_name(rc), err.text);
        }
        assert_int_equal(tsm_worker_create(&bad[i].opts, &w, NULL), TSM_EINVAL);
    }
    assert_int_equal(tsm_worker_create(NULL, NULL, NULL), TSM_EINVAL);
}

static void an_unknown_backend_is_refused_with_what_there_is(void **state)
{
    (void)state;
    static const char *const names[] = {
        "no-such-backend", "", "a-name-that-is-longer-than-any-name-of-a-backend-could-be"};
    for (int i = 0; i < 3; i++) {
        struct tsm_worker_opts opts = rig_opts(1, 0);
        struct tsm_error err = {0};
        tsm_worker *w = NULL;
        opts.backend = names[i];
        assert_int_equal(tsm_worker_create(&opts, &w, &err), TSM_EUNSUPPORTED);
        assert_non_null(strstr(err.text, names[i]));
        assert_non_null(strstr(err.text, "sim"));
        assert_null(w);
    }
}

static void an_arena_that_is_too_small_is_refused_with_what_it_needs(void **state)
{
    (void)state;
    struct tsm_worker_opts opts = rig_opts(2, 0);
    opts.arena_bytes = 1 << 20;
    tsm_worker *w = help_create(&opts);
    assert_code(w, tsm_worker_start(w), TSM_ENOSPC);
    assert_text(w, "arena_bytes is 1048576");
    assert_code(w, tsm_worker_start(w), TSM_ENOSPC); /* the worker is as it was */
    harness_close(w);
}

static void a_worker_has_defaults_and_may_end_without_a_start(void **state)
{
    (void)state;
    tsm_worker *w = NULL;
    struct tsm_stats stats;
    tsm_run *run = NULL;
    tsm_callable c = {0};
    assert_int_equal(tsm_worker_create(NULL, &w, NULL), 0);
    assert_int_equal(tsm_worker_pid(w, 0), 0);
    tsm_worker_stats(w, &stats);
    assert_int_equal(stats.tasks, 0);
    assert_code(w, tsm_worker_run(w, NULL, NULL), TSM_ESTATE);
    assert_text(w, "not started");
    assert_code(w, tsm_worker_submit_run(w, NULL, NULL, &run), TSM_ESTATE);
    assert_code(w, tsm_buffer_create(w, 64, (void *[]){NULL}), TSM_ESTATE);
    assert_code(w, tsm_host_wait(w, &stats, 4, TSM_READ), TSM_ESTATE);
    assert_code(w, tsm_register_symbol(w, rig_object, "so_add", NULL, &c), 0);
    assert_code(w, tsm_unregister(w, c), 0);
    tsm_worker_destroy(w);
    assert_int_equal(tsm_worker_create(NULL, &w, NULL), 0);
    harness_close(w);
    tsm_worker_destroy(NULL);
    assert_int_equal(tsm_worker_close(NULL), TSM_EINVAL);
}

/* ---- start ---- */

static void a_started_worker_has_its_processes_and_is_started_once(void **state)
{
    (void)state;
    struct rig r;
    char path[64], comm[32] = "";
    rig_open(&r, 3, 2);
    for (int p = 0; p < 6; p++) {
        int pid = p < 5 ? tsm_worker_pid(r.w, p) : keeper_of(&r);
        assert_true(pid > 0);
        snprintf(path, sizeof(path), "/proc/%d/comm", pid);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_non_null(fgets(comm, sizeof(comm), f));
        fclose(f);
        assert_string_equal(comm, p < 3   ? "transom-chip\n"
                                  : p < 5 ? "transom-sub\n"
                                          : "transom-keeper\n");
        assert_int_equal(help_proc_stat(pid, 4), p < 5 ? keeper_of(&r) : getpid());
    }
    assert_int_equal(tsm_worker_pid(r.w, 5), 0);
    assert_int_equal(tsm_worker_pid(r.w, -1), 0);
    assert_int_equal(harness_children(), 6);
    assert_code(r.w, tsm_worker_start(r.w), TSM_ESTATE);
    rig_close_well(&r);
}

static void many_chips_start_run_and_end(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(harness_chips(harness_quick() ? 32 : 128), 16);
    opts.heap_bytes = 1 << 20;
    rig_make(&r, &opts);
    rig_start(&r);
    assert_well(&r);
    rig_close_well(&r);
}

struct sleeper {
    int wake[2];
};

static void *sleep_on_a_pipe(void *arg)
{
    char c;
    ssize_t n = read(((struct sleeper *)arg)->wake[0], &c, 1);
    return n == 1 ? arg : NULL;
}

static void a_process_with_threads_starts_by_spawn_and_not_by_fork(void **state)
{
    (void)state;
    struct rig r;
    struct sleeper s;
    pthread_t thread;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    rig_make(&r, &opts);
    assert_int_equal(pipe(s.wake), 0);
    assert_int_equal(pthread_create(&thread, NULL, sleep_on_a_pipe, &s), 0);
    if (rig_method == TSM_FORK) {
        assert_code(r.w, tsm_worker_start(r.w), TSM_EFORK_UNSAFE);
        assert_text(r.w, "2 threads");
        assert_text(r.w, "TSM_SPAWN");
        assert_int_equal(harness_children(), 0);
    } else {
        rig_start(&r);
        assert_well(&r);
    }
    assert_int_equal(write(s.wake[1], "w", 1), 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (rig_method == TSM_FORK) {
        rig_start(&r); /* the thread has ended: now it can */
    }
    rig_close_well(&r);
    close(s.wake[0]);
    close(s.wake[1]);
}

static void a_pinned_worker_runs_each_place_on_one_core(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    struct tsm_error err;
    tsm_worker *w = NULL;
    opts.pin = TSM_PIN_CORE;
    if (tsm_worker_create(&opts, &w, &err) == TSM_EUNSUPPORTED) {
        assert_non_null(strstr(err.text, "pin"));
        skip();
    }
    tsm_worker_destroy(w);
    rig_make(&r, &opts);
    rig_start(&r);
    for (int p = 0; p < 3; p++) {
        cpu_set_t set;
        assert_int_equal(sched_getaffinity(tsm_worker_pid(r.w, p), sizeof(set), &set), 0);
        assert_int_equal(CPU_COUNT(&set), 1);
    }
    rig_close_well(&r);
}

/* ---- a start that fails ---- */

struct stumble {
    const char *fault;
    int code, place;
    const char *text;
    int method; /* -1: both */
};

static void start_fails_then_works(const struct stumble *s)
{
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    opts.start_timeout_ns = s->code == TSM_ETIMEOUT ? 300 * ms : 0;
    setenv("TRANSOM_FAULT", s->fault, 1);
    rig_make(&r, &opts);
    uint32_t fds = harness_fds();
    int rc = tsm_worker_start(r.w);
    if (rc != s->code || !strstr(tsm_worker_error(r.w)->text, s->text)) {
        fail_msg("%s: %s '%s'", s->fault, tsm_code_name(rc), tsm_worker_error(r.w)->text);
    }
    assert_int_equal(tsm_worker_error(r.w)->chip, s->place);
    assert_int_equal(harness_children(), 0);
    assert_int_equal(harness_mappings(), 0);
    assert_int_equal(harness_fds(), fds);
    if (s->code == TSM_ETIMEOUT) {
        /* The second time it is not stopped, but may need longer than this on a busy machine. */
        rc = tsm_worker_start(r.w);
        assert_true(rc == 0 || rc == TSM_ETIMEOUT);
        rig_close(&r);
        return;
    }
    rig_start(&r);
    rig_close_well(&r);
}

static void a_start_that_fails_leaves_nothing_and_can_be_repeated(void **state)
{
    (void)state;
    static const struct stumble ways[] = {
        {"spawn:kill:1:1", TSM_ECHILD_DIED, 1, "chip 1 did not start: signal 9", -1},
        {"ready:kill:1:0", TSM_ECHILD_DIED, 0, "chip 0 did not start: signal 9", -1},
        {"ready:kill:1:2", TSM_ECHILD_DIED, 2, "sub worker 0 did not start: signal 9", -1},
        {"sys.mmap:fail=12:1:1", TSM_ECHILD_DIED, 1, "chip 1 did not start", -1},
        {"sys.fork:fail=11:2:-2", TSM_ESYS, 1, "chip 1: Resource temporarily unavailable", -1},
        {"sys.signalfd:fail=24:1:-2", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.pidfd:fail=24:1:-2", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.memfd:fail=24:1:-1", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.memfd:fail=24:3:-1", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.mmap:fail=12:1:-1", TSM_ENOMEM, -1, "Cannot allocate memory", -1},
        {"sys.mmap:fail=12:4:-1", TSM_ESYS, -1, "Cannot allocate memory", -1},
        {"sys.open:fail=24:2:-1", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.eventfd:fail=24:1:-1", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.pipe:fail=24:1:-1", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.pidfd:fail=24:1:-1", TSM_ESYS, -1, "Too many open files", -1},
        {"sys.fork:fail=11:1:-1", TSM_ESYS, -1, "Resource temporarily unavailable", TSM_FORK},
        {"sys.spawn:fail=11:1:-1", TSM_ESYS, -1, "Resource temporarily unavailable", TSM_SPAWN}};
    for (size_t i = 0; i < COUNT(ways); i++) {
        if (ways[i].method == -1 || ways[i].method == rig_method) {
            start_fails_then_works(&ways[i]);
        }
    }
}

static void a_start_has_one_deadline_and_says_who_is_missing(void **state)
{
    (void)state;
    static const struct stumble ways[] = {
        {"spawn:stop:1:1", TSM_ETIMEOUT, -1, "the first missing is chip 1", -1},
        {"ready:stop:1:2", TSM_ETIMEOUT, -1, "the first missing is sub worker 0", -1}};
    for (int i = 0; i < 2; i++) {
        uint64_t before = harness_now_ns();
        start_fails_then_works(&ways[i]);
        assert_true(harness_now_ns() - before < UINT64_C(4000000000));
    }
}

static void a_keeper_program_that_is_not_there_is_named(void **state)
{
    (void)state;
    if (rig_method == TSM_FORK) {
        skip();
    }
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(1, 0);
    rig_make(&r, &opts);
    setenv("TRANSOM_KEEPER", "/nowhere/transom-keeper", 1);
    assert_code(r.w, tsm_worker_start(r.w), TSM_ESYS);
    assert_text(r.w, "/nowhere/transom-keeper: No such file");
    assert_int_equal(tsm_worker_error(r.w)->sys_errno, ENOENT);
    setenv("TRANSOM_KEEPER", "/bin/false", 1);
    assert_code(r.w, tsm_worker_start(r.w), TSM_ECHILD_DIED);
    assert_text(r.w, "/bin/false");
    unsetenv("TRANSOM_KEEPER");
    rig_start(&r);
    rig_close_well(&r);
}

/* ---- close ---- */

/* The first call with this worker that is not refused with `code`, or NULL. Also for threads and forked children, where
 * an assertion would go astray. */
static const char *not_refused(struct rig *r, tsm_run *run, int code)
{
    tsm_callable c = {0};
    tsm_run *other = NULL;
    void *data = NULL;
    struct tsm_stats stats;
    const struct {
        const char *call;
        int rc;
    } calls[] = {
        {"start", tsm_worker_start(r->w)},
        {"run", RUN(r, {ADD, 0, .inout = 1})},
        {"submit_run", FLY(r, &other, {ADD, 0, .inout = 1})},
        {"register", tsm_register(r->w, "f", (tsm_task_fn *)(uintptr_t)16, &c)},
        {"register_symbol", tsm_register_symbol(r->w, rig_object, "so_add", NULL, &c)},
        {"unregister", tsm_unregister(r->w, r->call[ADD])},
        {"buffer_create", tsm_buffer_create(r->w, 64, &data)},
        {"buffer_destroy", tsm_buffer_destroy(r->w, r->cells)},
        {"host_wait", tsm_host_wait(r->w, r->cells, 4, TSM_READ)},
        {"run_wait", tsm_run_wait(run, 0)},
    };
    for (size_t i = 0; i < COUNT(calls); i++) {
        if (calls[i].rc != code) {
            return calls[i].call;
        }
    }
    tsm_worker_stats(r->w, &stats);
    return stats.tasks != 0 ? "stats" : c.value != 0 || other || data ? "an output" : NULL;
}

static void a_closed_worker_refuses_all_use_and_close_may_be_repeated(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    rig_open(&r, 2, 1);
    assert_code(r.w, FLY(&r, &run, {ADD, 0, .inout = 1, .a = 1}), 0);
    for (int i = 0; i < 3; i++) {
        assert_code(r.w, tsm_worker_close(r.w), 0);
    }
    assert_int_equal(harness_children(), 0);
    assert_int_equal(harness_mappings(), 0);
    const char *call = not_refused(&r, run, TSM_ECLOSED);
    if (call) {
        fail_msg("after close: %s", call);
    }
    assert_text(r.w, "closed");
    assert_int_equal(tsm_worker_pid(r.w, 0), 0);
    assert_int_equal(tsm_run_done(run), 1);
    assert_int_equal(tsm_run_error(run)->code, 0);
    tsm_run_release(run);
    assert_code(r.w, tsm_worker_close(r.w), 0);
    tsm_worker_destroy(r.w);
    rig_pipes_close(&r);
}

/* Opens the gate for `count` tasks when they have begun: while this process is in close. */
static pid_t open_later(struct rig *r, int count)
{
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        close(r->begun[1]);
        for (int i = 0; i < count; i++) {
            if (read(r->begun[0], &c, 1) != 1 || write(r->open[1], "o", 1) != 1) {
                _exit(1);
            }
        }
        _exit(0);
    }
    return pid;
}

static void close_drains_what_is_in_flight(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run[2] = {0};
    int status = -1;
    rig_open(&r, 2, 1);
    assert_code(r.w, FLY(&r, &run[0], {GATE, 0, .inout = 1}, {GATE, 1, .in = 1, .inout = 2}), 0);
    assert_code(r.w, FLY(&r, &run[1], {GATE, TSM_SUB, .in = 2, .inout = 3}), 0);
    pid_t opener = open_later(&r, 3);
    assert_code(r.w, tsm_worker_close(r.w), 0);
    close(r.begun[1]); /* nobody else can tell the opener any more: it ends in any case */
    assert_int_equal(waitpid(opener, &status, 0), opener); /* all three have begun */
    assert_int_equal(status, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tsm_run_done(run[i]), 1);
        assert_int_equal(tsm_run_error(run[i])->code, 0);
        tsm_run_release(run[i]);
    }
    rig_close(&r);
}

static int wait_in_a_domain(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d;
    int rc = help_alloc_kept(orch, "waits", CHIPS(0, 1), 64, &d);
    /* With a limit it is no deadlock: it would end by itself, in an hour. */
    return rc != 0 ? rc : SUBMIT(r, orch, {WAIT, 1, .domain = d, .limit_ns = 3600 * 1000 * ms});
}

/* What close cannot drain: a wait, which ends by the abort; a read, which only a kill ends; a loop; a stopped one. */
static void close_aborts_at_its_deadline_then_kills(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct rig r;
        tsm_run *run = NULL;
        struct tsm_worker_opts opts = rig_opts(2, 1);
        opts.close_timeout_ns = 30 * ms;
        rig_make(&r, &opts);
        rig_start(&r);
        if (way == 0) {
            assert_code(r.w, tsm_worker_submit_run(r.w, wait_in_a_domain, &r, &run), 0);
            gate_begun(&r, 1);
        } else if (way == 1) {
            assert_code(r.w, FLY(&r, &run, {GATE, TSM_SUB, .inout = 1}), 0);
            gate_begun(&r, 1);
        } else {
            if (way == 3) {
                stop_chip(&r, 0);
            }
            assert_code(r.w, FLY(&r, &run, {way == 2 ? SPIN : ADD, 0, .inout = 1}), 0);
        }
        uint64_t before = harness_now_ns();
        assert_code(r.w, tsm_worker_close(r.w), TSM_ETIMEOUT);
        assert_text(r.w, "30 ms");
        assert_true(harness_now_ns() - before < UINT64_C(4000000000));
        assert_int_equal(harness_children(), 0);
        assert_int_equal(tsm_run_done(run), 1);
        assert_int_equal(tsm_run_error(run)->code, TSM_ECLOSED);
        assert_int_equal(tsm_run_wait(run, -1), TSM_ECLOSED);
        tsm_run_release(run);
        rig_close(&r); /* again: 0 */
    }
}

static void close_ends_an_idle_chip_that_is_stopped(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 2, 1);
    stop_chip(&r, 1);
    uint64_t before = harness_now_ns();
    assert_code(r.w, tsm_worker_close(r.w), 0);
    assert_true(harness_now_ns() - before < UINT64_C(4500000000));
    rig_close(&r);
}

/* ---- who may call ---- */

struct stranger {
    struct rig *r;
    tsm_run *run;
};

static void *use_from_a_thread(void *arg)
{
    struct stranger *s = arg;
    const char *call = not_refused(s->r, s->run, TSM_EWRONG_THREAD);
    call = call || tsm_worker_close(s->r->w) == TSM_EWRONG_THREAD ? call : "close";
    tsm_worker_destroy(s->r->w);
    tsm_run_release(s->run); /* must not count */
    return (void *)(uintptr_t)call;
}

static int submit_nothing(tsm_orch *orch, void *arg)
{
    (void)orch;
    (void)arg;
    return 0;
}

/* For a child that the program forked: a worker of its own. */
static bool lives_with_its_own_worker(void)
{
    struct tsm_worker_opts opts = rig_opts(2, 0);
    tsm_worker *w = NULL;
    tsm_callable c;
    int rc = tsm_worker_create(&opts, &w, NULL);
    rc = rc != 0 ? rc : tsm_worker_start(w);
    rc = rc != 0 ? rc : tsm_register_symbol(w, rig_object, "so_add", NULL, &c);
    rc = rc != 0 ? rc : tsm_worker_run(w, submit_nothing, NULL);
    rc = rc != 0 ? rc : tsm_worker_close(w);
    tsm_worker_destroy(w);
    return rc == 0;
}

static void another_thread_or_a_forked_child_may_not_use_the_worker(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    int status = -1;
    rig_open(&r, 2, 1);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1}), 0);
    gate_begun(&r, 1);
    struct stranger s = {&r, run};
    pthread_t thread;
    void *call = NULL;
    assert_int_equal(pthread_create(&thread, NULL, use_from_a_thread, &s), 0);
    assert_int_equal(pthread_join(thread, &call), 0);
    if (call) {
        fail_msg("in a thread: %s", (const char *)call);
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(use_from_a_thread(&s) != NULL || !lives_with_its_own_worker());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    rig_close_well(&r);
}

static struct rig *captured;

static int use_the_host_side(tsm_task *t)
{
    struct stranger s = {captured, NULL};
    tsm_callable c;
    tsm_run *run = NULL;
    void *data;
    tsm_worker *w = captured->w;
    int rc[] = {tsm_worker_run(w, NULL, NULL),
                tsm_worker_submit_run(w, NULL, NULL, &run),
                tsm_worker_start(w),
                tsm_worker_close(w),
                tsm_buffer_create(w, 64, &data),
                tsm_unregister(w, captured->call[ADD]),
                tsm_register_symbol(w, "x", "y", NULL, &c),
                tsm_host_wait(w, s.r->cells, 4, TSM_READ)};
    for (size_t i = 0; i < COUNT(rc); i++) {
        if (rc[i] != TSM_EWRONG_THREAD) {
            return tsm_fail(t, "call %zu gives %d", i, rc[i]);
        }
    }
    tsm_worker_destroy(w);
    return 0;
}

static int submit_strangers(tsm_orch *orch, void *arg)
{
    const tsm_callable *c = arg;
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        for (int chip = 0; chip < 2 && c[i].value != 0 && rc == 0; chip++) {
            struct tsm_call call = {.callable = c[i], .chip = chip == 1 ? TSM_SUB : 0};
            rc = tsm_submit(orch, &call, NULL);
        }
    }
    return rc;
}

static void a_task_may_not_use_the_host_side(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c[2] = {{0}, {0}};
    struct tsm_worker_opts opts = rig_opts(1, 1);
    rig_make(&r, &opts);
    captured = &r;
    if (rig_method == TSM_FORK) {
        assert_code(r.w, tsm_register(r.w, "host side", use_the_host_side, &c[0]), 0);
    }
    rig_start(&r);
    assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_make_a_worker", NULL, &c[1]), 0);
    assert_code(r.w, tsm_worker_run(r.w, submit_strangers, c), 0);
    rig_close_well(&r);
}

/* ---- several workers ---- */

static void two_workers_run_interleaved_and_one_outlives_the_other(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        struct rig r[2];
        tsm_run *run[2] = {0};
        rig_open(&r[0], 2, 1);
        rig_method = rig_method == TSM_FORK ? TSM_SPAWN : TSM_FORK; /* one of each */
        rig_open(&r[1], 1, 2);
        rig_method = rig_method == TSM_FORK ? TSM_SPAWN : TSM_FORK;
        for (int i = 0; i < 20; i++) {
            assert_code(r[i % 2].w, RUN(&r[i % 2], {ADD, 0, .inout = 1, .a = 1}), 0);
        }
        for (int i = 0; i < 2; i++) {
            assert_code(r[i].w, FLY(&r[i], &run[i], {GATE, 0, .inout = 1, .a = 1}), 0);
            gate_begun(&r[i], 1);
        }
        assert_code(r[0].w, RUN(&r[0], {FAIL, 1, .out = 5}), TSM_ETASK_FAILED);
        for (int i = 0; i < 2; i++) {
            gate_open(&r[i], 1);
            assert_code(r[i].w, tsm_run_wait(run[i], -1), 0);
            assert_int_equal(*rig_cell(&r[i], 1), 11);
            tsm_run_release(run[i]);
        }
        rig_close(&r[first]);
        assert_well(&r[1 - first]);
        kill(tsm_worker_pid(r[1 - first].w, 0), SIGKILL);
        await_deaths(&r[1 - first], 1);
        rig_close_well(&r[1 - first]);
    }
}

static void *live_in_a_thread(void *arg)
{
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    opts.start_method = TSM_SPAWN;
    for (int i = 0; i < 3; i++) {
        rig_make(&r, &opts);
        rig_start(&r);
        for (int k = 0; k < 20; k++) {
            assert_well(&r);
        }
        rig_close(&r);
    }
    *(bool *)arg = true;
    return NULL;
}

static void two_workers_live_in_two_threads(void **state)
{
    (void)state;
    pthread_t thread[2];
    bool well[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, live_in_a_thread, &well[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    assert_true(well[0] && well[1]);
}

/* ---- idle ---- */

/* Time on a core. /proc/PID/stat counts in ticks and misses short bursts; schedstat is exact. */
static uint64_t cpu_ns(int pid)
{
    char path[64];
    unsigned long long ns = 0;
    snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
    FILE *f = fopen(path, "r");
    bool exact = f && fscanf(f, "%llu", &ns) == 1;
    if (f) {
        fclose(f);
    }
    return exact ? ns : (help_proc_stat(pid, 14) + help_proc_stat(pid, 15)) * UINT64_C(10000000);
}

static uint64_t cpu_ns_of_all(struct rig *r)
{
    uint64_t sum = cpu_ns(keeper_of(r));
    for (uint32_t p = 0; p < r->chips + r->subs; p++) {
        sum += cpu_ns(tsm_worker_pid(r->w, (int)p));
    }
    return sum;
}

static void an_idle_worker_uses_no_cpu(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 8, 8);
    assert_well(&r);
    poll(NULL, 0, 50); /* the last ones fall asleep */
    uint64_t before = cpu_ns_of_all(&r);
    poll(NULL, 0, 1000); /* the second that is measured */
    assert_in_range(cpu_ns_of_all(&r) - before, 0, 500000);
    rig_close_well(&r);
}

/* ---- a program that is killed ---- */

static int busy_function(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d;
    int rc = 0;
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = help_alloc(orch, "busy", CHIPS(0, 1), 65536, &d);
        for (int k = 0; k < 3 && rc == 0; k++) {
            int chip = k == 2 ? TSM_SUB : k;
            rc = rig_submit(r, orch, &(struct job){ADD, chip, .inout = 1, .a = 1, .domain = d},
                            NULL);
        }
        rc = rc != 0 ? rc : tsm_domain_release(d);
    }
    return rc;
}

/* The program that is killed: start, runs, domains, close in a loop. It tells descriptor `fd` where it is. */
static int be_busy(int fd)
{
    for (;;) {
        struct rig r;
        if (write(fd, "s", 1) != 1) {
            return 1;
        }
        rig_open(&r, 2, 1);
        for (int i = 0; i < 10; i++) {
            if (write(fd, "r", 1) != 1 || tsm_worker_run(r.w, busy_function, &r) != 0) {
                return 1;
            }
        }
        if (write(fd, "c", 1) != 1) {
            return 1;
        }
        rig_close(&r);
    }
}

/* Kills the busy program after `us`; returns the last thing it said. Its orphans become ours: all must end. */
static char kill_the_busy(uint32_t us)
{
    int said[2];
    char fd[16], last = 0, c;
    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    snprintf(fd, sizeof(fd), "%d", said[1]);
    pid_t pid = fork();
    if (pid == 0) {
        fcntl(said[1], F_SETFD, 0);
        execl("/proc/self/exe", "busy", rig_method == TSM_FORK ? "fork" : "spawn", fd,
              (char *)NULL);
        _exit(127);
    }
    close(said[1]);
    struct timespec t = {0, (long)us * 1000};
    ppoll(NULL, 0, &t, NULL);
    kill(pid, SIGKILL);
    uint64_t killed = harness_now_ns();
    for (pid_t gone = 1; gone >= 0;) {
        gone = waitpid(-1, NULL, WNOHANG);
        assert_true(harness_now_ns() - killed < UINT64_C(2000000000));
        if (gone == 0) {
            poll(NULL, 0, 1);
        }
    }
    assert_int_equal(errno, ECHILD); /* no process of that tree is left */
    while (read(said[0], &c, 1) == 1) {
        last = c;
    }
    close(said[0]);
    return last;
}

static void a_killed_program_leaves_no_process(void **state)
{
    (void)state;
    struct harness_random random;
    uint32_t seen[256] = {0};
    uint32_t times = harness_count(rig_method == TSM_FORK ? 200 : 50);
    harness_random_init(&random, 2);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (uint32_t i = 0; i < times; i++) {
        seen[(uint8_t)kill_the_busy(500 +
                                    harness_below(&random, harness_quick() ? 200000 : 20000))]++;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    /* It was hit while it started and while it ran. */
    assert_true(times < 50 || (seen['s'] > 0 && seen['r'] > 0));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(bad_options_are_refused_with_name_and_value),
        TEST(an_unknown_backend_is_refused_with_what_there_is),
        TEST(an_arena_that_is_too_small_is_refused_with_what_it_needs),
        TEST(a_worker_has_defaults_and_may_end_without_a_start),
        TEST(a_started_worker_has_its_processes_and_is_started_once),
        TEST(many_chips_start_run_and_end),
        TEST(a_process_with_threads_starts_by_spawn_and_not_by_fork),
        TEST(a_pinned_worker_runs_each_place_on_one_core),
        TEST(a_start_that_fails_leaves_nothing_and_can_be_repeated),
        TEST(a_start_has_one_deadline_and_says_who_is_missing),
        TEST(a_keeper_program_that_is_not_there_is_named),
        TEST(a_closed_worker_refuses_all_use_and_close_may_be_repeated),
        TEST(close_drains_what_is_in_flight),
        TEST(close_aborts_at_its_deadline_then_kills),
        TEST(close_ends_an_idle_chip_that_is_stopped),
        TEST(another_thread_or_a_forked_child_may_not_use_the_worker),
        TEST(a_task_may_not_use_the_host_side),
        TEST(two_workers_run_interleaved_and_one_outlives_the_other),
        TEST(two_workers_live_in_two_threads),
        TEST(an_idle_worker_uses_no_cpu),
        TEST(a_killed_program_leaves_no_process)};
    rig_init();
    if (argc == 3) {
        rig_method = strcmp(argv[1], "fork") == 0 ? TSM_FORK : TSM_SPAWN;
        return be_busy(atoi(argv[2]));
    }
    return rig_test_both(tests, COUNT(tests));
}

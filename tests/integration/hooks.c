/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Sleep hooks: a call sleeps between begin and end, and ends with INTERRUPTED when a hook says so. Then nothing of it has
 * happened, the same call again does its work, and the worker is well.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "integration/loaded_so.h"
#include "rig.h"

/* What the hooks were asked. */
struct watcher {
    tsm_worker *w;
    uint32_t begun, ended, asked;
    bool inside, wrong;     /* begin and end alternate */
    bool give_up;           /* at the next question */
    uint32_t give_up_after; /* so many questions; 0: as give_up says */
    uint64_t tasks_done;    /* as seen inside a sleep */
    pthread_mutex_t *lock;  /* let go of while it sleeps */
    struct rig *gate;       /* opened when it begins to sleep; once */
};

static void on_begin(void *arg)
{
    struct watcher *h = arg;
    h->wrong |= h->inside;
    h->inside = true;
    h->begun++;
    h->tasks_done = tsm_worker_tasks_done(h->w);
    if (h->lock) {
        pthread_mutex_unlock(h->lock);
    }
    if (h->gate) {
        gate_open(h->gate, 1);
        h->gate = NULL;
    }
}

static void on_end(void *arg)
{
    struct watcher *h = arg;
    if (h->lock) {
        pthread_mutex_lock(h->lock);
    }
    h->wrong |= !h->inside;
    h->inside = false;
    h->ended++;
}

static int on_interrupted(void *arg)
{
    struct watcher *h = arg;
    h->wrong |= h->inside;
    h->asked++;
    return h->give_up || (h->give_up_after != 0 && h->asked >= h->give_up_after);
}

static struct watcher watcher_for(tsm_worker *w)
{
    struct watcher h = {.w = w};
    return h;
}

static void hook(struct watcher *h)
{
    struct tsm_sleep_hooks hooks = TSM_SLEEP_HOOKS_INIT;
    hooks.begin = on_begin;
    hooks.end = on_end;
    hooks.interrupted = on_interrupted;
    hooks.arg = h;
    assert_code(h->w, tsm_worker_set_sleep_hooks(h->w, &hooks), 0);
}

static void assert_slept(const struct watcher *h)
{
    assert_true(h->begun > 0 && h->begun == h->ended);
    assert_false(h->inside || h->wrong);
}

/* A started worker with hooks that do not give up yet. */
static void open_hooked(struct rig *r, struct watcher *h, uint32_t chips, uint32_t subs)
{
    rig_open(r, chips, subs);
    *h = watcher_for(r->w);
    hook(h);
}

static void close_hooked(struct rig *r, const struct watcher *h)
{
    rig_close_well(r);
    assert_slept(h);
}

#define INTERRUPTED(h, call)                                                                       \
    do {                                                                                           \
        uint32_t asked_ = (h)->asked;                                                              \
        (h)->give_up = true;                                                                       \
        assert_code((h)->w, call, TSM_EINTERRUPTED);                                               \
        assert_text((h)->w, "sleep hooks");                                                        \
        assert_int_equal((h)->asked, asked_ + 1);                                                  \
        (h)->give_up = false;                                                                      \
    } while (0)

/* ---- sleeping ---- */

static void *open_gate_under_lock(void *arg)
{
    struct rig *r = ((void **)arg)[0];
    pthread_mutex_t *lock = ((void **)arg)[1];
    pthread_mutex_lock(lock);
    gate_open(r, 1);
    pthread_mutex_unlock(lock);
    return NULL;
}

static void a_lock_that_the_hooks_let_go_of_is_free_while_a_call_sleeps(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    void *arg[] = {&r, &lock};
    open_hooked(&r, &h, 1, 0);
    h.lock = &lock;
    pthread_mutex_lock(&lock);
    assert_int_equal(pthread_create(&thread, NULL, open_gate_under_lock, arg), 0);
    /* Nobody but the thread opens the gate, and it can only while this call sleeps. */
    assert_code(r.w, RUN(&r, {GATE, 0, .inout = 1, .a = 1}), 0);
    assert_slept(&h);
    pthread_mutex_unlock(&lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    gate_begun(&r, 1);
    h.lock = NULL;
    close_hooked(&r, &h);
}

static void hooks_see_how_many_tasks_have_ended(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    open_hooked(&r, &h, 2, 1);
    assert_int_equal(tsm_worker_tasks_done(r.w), 0);
    assert_code(r.w, RUN(&r, {ADD, 0, .inout = 1}, {ADD, TSM_SUB, .inout = 2}), 0);
    assert_int_equal(tsm_worker_tasks_done(r.w), 2);
    assert_int_equal(RUN(&r, {FAIL, 0, .in = 0}, {ADD, 0, .inout = 3}, {ADD, 1, .inout = 4}),
                     TSM_ETASK_FAILED);
    assert_int_equal(tsm_worker_tasks_done(r.w), 5); /* failed, skipped or run */
    assert_code(r.w, FLY(&r, &run, {ADD, 1, .inout = 5}, {GATE, 1, .inout = 5}), 0);
    gate_begun(&r, 1);
    INTERRUPTED(&h, tsm_run_wait(run, -1));
    assert_int_equal(h.tasks_done, 6);
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    assert_int_equal(RUN(&r, {DIE, 0, .a = SIGKILL}), TSM_ECHILD_DIED);
    assert_int_equal(tsm_worker_tasks_done(r.w), 8); /* also one in which its process died */
    close_hooked(&r, &h);
    assert_int_equal(tsm_worker_tasks_done(NULL), 0);
}

static void hooks_are_set_changed_and_taken_away(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h, second;
    struct tsm_sleep_hooks bad = {.size = 4};
    struct tsm_sleep_hooks none = TSM_SLEEP_HOOKS_INIT;
    struct tsm_worker_opts opts = rig_opts(1, 0);
    rig_make(&r, &opts);
    h = watcher_for(r.w);
    second = watcher_for(r.w);
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, &bad), TSM_EINVAL);
    assert_int_equal(tsm_worker_set_sleep_hooks(NULL, &none), TSM_EINVAL);
    hook(&h); /* before the start */
    rig_start(&r);
    h.begun = h.ended = h.asked = 0;
    h.gate = &r;
    assert_code(r.w, RUN(&r, {GATE, 0, .inout = 1}), 0);
    assert_slept(&h);
    assert_true(h.asked > 0);
    h.begun = h.ended = 0;
    hook(&second);
    second.gate = &r;
    assert_code(r.w, RUN(&r, {GATE, 0, .inout = 1}), 0);
    assert_int_equal(h.begun, 0);
    assert_slept(&second);
    gate_open(&r, 2);
    second.begun = second.ended = 0;
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, NULL), 0);
    assert_code(r.w, RUN(&r, {GATE, 0, .inout = 1}), 0);
    assert_code(r.w, tsm_worker_set_sleep_hooks(r.w, &none), 0);
    assert_code(r.w, RUN(&r, {GATE, 0, .inout = 1}), 0);
    assert_int_equal(second.begun, 0);
    gate_begun(&r, 4);
    rig_close_well(&r);
}

static void a_sleep_is_asked_for_at_least_every_fifty_milliseconds(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    open_hooked(&r, &h, 1, 0);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1}), 0);
    uint64_t begin = harness_now_ns();
    h.give_up_after = h.asked + 5;
    assert_code(r.w, tsm_run_wait(run, -1), TSM_EINTERRUPTED);
    assert_true(harness_now_ns() - begin < 5 * UINT64_C(50000000) + 2000000000);
    h.give_up_after = 0;
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    close_hooked(&r, &h);
}

/* ---- what can be given up ---- */

/* Something that each process waits for at its start, until the gate is open. */
static void load_at_the_gate(struct rig *r)
{
    struct loaded_data data = {.log = -1, .gate = r->open[0]};
    struct tsm_callable_opts opts = TSM_CALLABLE_OPTS_INIT;
    tsm_callable c = {0};
    opts.path = harness_beside("loaded_so.so");
    opts.symbol = "so_loaded";
    opts.load = "so_load";
    opts.data = &data;
    opts.bytes = sizeof(data);
    assert_code(r->w, tsm_register_loaded(r->w, &opts, &c), 0);
}

static void a_start_is_given_up_and_leaves_nothing(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < 4; i++) { /* at its first sleep and later */
        struct rig r;
        struct tsm_worker_opts opts = rig_opts(2, 1);
        rig_make(&r, &opts);
        load_at_the_gate(&r);
        struct watcher h = watcher_for(r.w);
        hook(&h);
        uint32_t fds = harness_fds();
        h.give_up_after = i;
        assert_code(r.w, tsm_worker_start(r.w), TSM_EINTERRUPTED);
        assert_text(r.w, "sleep hooks");
        assert_int_equal(h.asked, i);
        assert_int_equal(harness_children(), 0);
        assert_int_equal(harness_mappings(), 0);
        assert_int_equal(harness_fds(), fds);
        h.give_up_after = 0;
        gate_open(&r, 3);
        rig_start(&r);
        close_hooked(&r, &h);
    }
}

static int submit_and_keep_the_handle(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    assert_code(r->w, tsm_orch_handle(orch, ((void **)arg)[1]), 0);
    return SUBMIT(r, orch, {GATE, 0, .inout = 1, .a = 1});
}

static void a_wait_for_a_run_is_given_up_and_made_again(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    open_hooked(&r, &h, 1, 0);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1, .a = 1}), 0);
    for (int i = 0; i < 3; i++) {
        INTERRUPTED(&h, tsm_run_wait(run, -1));
        INTERRUPTED(&h, tsm_run_wait(run, INT64_MAX / 2));
        assert_int_equal(tsm_run_done(run), 0);
    }
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 1), 1);
    tsm_run_release(run);
    /* The same inside tsm_worker_run: the run goes on, and its handle is the way back to it. */
    void *arg[] = {&r, &run};
    INTERRUPTED(&h, tsm_worker_run(r.w, submit_and_keep_the_handle, arg));
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 1), 2);
    tsm_run_release(run);
    gate_begun(&r, 2);
    close_hooked(&r, &h);
}

static int give_up_inside(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    struct watcher *h = ((void **)arg)[1];
    int32_t x = 77, y = 5;
    assert_code(r->w, SUBMIT(r, orch, {GATE, 0, .inout = 1, .a = 1}), 0);
    for (int i = 0; i < 2; i++) {
        INTERRUPTED(h, tsm_copy_from(orch, TSM_HOST, &x, rig_cell(r, 1), sizeof(x)));
        INTERRUPTED(h, tsm_copy_to(orch, TSM_HOST, rig_cell(r, 1), &y, sizeof(y)));
        INTERRUPTED(h, tsm_host_wait(r->w, rig_cell(r, 1), sizeof(x), TSM_READ));
    }
    assert_int_equal(x, 77);
    assert_int_equal(*(volatile int32_t *)rig_cell(r, 1), 0);
    gate_open(r, 1);
    assert_code(r->w, tsm_copy_from(orch, TSM_HOST, &x, rig_cell(r, 1), sizeof(x)), 0);
    assert_int_equal(x, 1);
    assert_code(r->w, tsm_copy_to(orch, TSM_HOST, rig_cell(r, 1), &y, sizeof(y)), 0);
    return SUBMIT(r, orch, {ADD, 0, .inout = 1, .a = 1});
}

static void copies_and_host_wait_are_given_up_and_made_again(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    void *arg[] = {&r, &h};
    open_hooked(&r, &h, 1, 0);
    assert_code(r.w, tsm_worker_run(r.w, give_up_inside, arg), 0);
    assert_int_equal(*rig_cell(&r, 1), 6);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 2, .a = 1}), 0);
    INTERRUPTED(&h, tsm_host_wait(r.w, rig_cell(&r, 2), 4, TSM_READ | TSM_WRITE));
    gate_open(&r, 1);
    assert_code(r.w, tsm_host_wait(r.w, rig_cell(&r, 2), 4, TSM_READ), 0);
    assert_int_equal(*rig_cell(&r, 2), 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    gate_begun(&r, 2);
    close_hooked(&r, &h);
}

struct flood {
    struct rig *r;
    struct watcher *h;
    int chip;
    int32_t submitted;
    uint32_t given_up;
};

/* Fills the ring behind the gate, gives up several times, opens the gate and goes on. Each task adds 1 to cell 1. */
static int flood(tsm_orch *orch, void *arg)
{
    struct flood *f = arg;
    const struct job gate = {GATE, f->chip, .inout = 2};
    const struct job add = {ADD, f->chip, .inout = 1, .a = 1};
    assert_code(f->r->w, rig_submit(f->r, orch, &gate, NULL), 0);
    for (; f->given_up < 4;) {
        f->h->give_up = true;
        int rc = rig_submit(f->r, orch, &add, NULL);
        f->h->give_up = false;
        if (rc != 0) {
            assert_code(f->r->w, rc, TSM_EINTERRUPTED);
            f->given_up++;
        } else {
            f->submitted++;
            assert_int_equal(f->given_up, 0);
        }
    }
    gate_open(f->r, 1);
    for (int i = 0; i < 1000; i++) {
        int rc = rig_submit(f->r, orch, &add, NULL);
        assert_code(f->r->w, rc, 0);
        f->submitted++;
    }
    return 0;
}

static void a_submit_at_a_full_ring_is_given_up_and_made_again(void **state)
{
    (void)state;
    static const int chips[] = {0, TSM_SUB};
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct watcher h;
        open_hooked(&r, &h, 1, 1);
        struct flood f = {&r, &h, chips[i], 0, 0};
        assert_code(r.w, tsm_worker_run(r.w, flood, &f), 0);
        assert_int_equal(*rig_cell(&r, 1), f.submitted);
        assert_true(f.submitted > 1000);
        gate_begun(&r, 1);
        close_hooked(&r, &h);
    }
}

static int submit_pair(struct rig *r, tsm_orch *orch)
{
    struct tsm_tensor tensors[2];
    struct tsm_call members[2];
    for (int m = 0; m < 2; m++) {
        tensors[m] = cell_tensor(r, 1 + m, TSM_INOUT);
        members[m] = (struct tsm_call){
            .callable = r->call[MEMBER], .chip = m, .tensors = &tensors[m], .tensor_count = 1};
    }
    return tsm_submit_group(orch, members, 2, NULL);
}

static int flood_groups(tsm_orch *orch, void *arg)
{
    struct flood *f = arg;
    int rc = 0;
    assert_code(f->r->w, SUBMIT(f->r, orch, {GATE, 1, .inout = 3}), 0);
    for (f->h->give_up = true; (rc = submit_pair(f->r, orch)) == 0;) {
        f->submitted++;
    }
    f->h->give_up = false;
    assert_code(f->r->w, rc, TSM_EINTERRUPTED);
    gate_open(f->r, 1);
    for (int i = 0; i < 100; i++, f->submitted++) {
        assert_code(f->r->w, submit_pair(f->r, orch), 0);
    }
    return 0;
}

static void a_group_at_a_full_ring_is_given_up_as_a_whole(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    open_hooked(&r, &h, 2, 0);
    struct flood f = {&r, &h, 0, 0, 0};
    assert_code(r.w, tsm_worker_run(r.w, flood_groups, &f), 0);
    assert_int_equal(*rig_cell(&r, 1), f.submitted);
    assert_int_equal(*rig_cell(&r, 2), 2 * f.submitted);
    gate_begun(&r, 1);
    close_hooked(&r, &h);
}

static int alloc_at_the_budget(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    struct watcher *h = ((void **)arg)[1];
    tsm_domain *d = NULL, *other = NULL;
    assert_code(r->w, help_alloc(orch, "first", CHIPS(0), 12 << 20, &d), 0);
    assert_code(r->w, SUBMIT(r, orch, {GATE, 0, .inout = 1, .domain = d}), 0);
    assert_code(r->w, tsm_domain_release(d), 0);
    for (int i = 0; i < 3; i++) {
        INTERRUPTED(h, help_alloc(orch, "second", CHIPS(0, 1), 5 << 20, &other));
        assert_null(other);
    }
    gate_open(r, 1);
    assert_code(r->w, help_alloc(orch, "second", CHIPS(0, 1), 5 << 20, &other), 0);
    return 0;
}

static void a_domain_at_the_budget_is_given_up_and_allocated_again(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(2, 0);
    opts.lease_bytes = 16 << 20;
    rig_make(&r, &opts);
    rig_start(&r);
    struct watcher h = watcher_for(r.w);
    void *arg[] = {&r, &h};
    hook(&h);
    assert_code(r.w, tsm_worker_run(r.w, alloc_at_the_budget, arg), 0);
    gate_begun(&r, 1);
    close_hooked(&r, &h);
}

static void a_buffer_in_recycled_memory_is_given_up_and_created_again(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    void *data = NULL;
    open_hooked(&r, &h, 1, 0);
    const uint64_t bytes = 40 << 20; /* of 64: there is room for one */
    assert_code(r.w, tsm_buffer_create(r.w, bytes, &data), 0);
    int32_t *cells = r.cells;
    r.cells = data;
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1, .a = 1}), 0);
    r.cells = cells;
    assert_code(r.w, tsm_buffer_destroy(r.w, data), 0);
    data = NULL;
    for (int i = 0; i < 3; i++) {
        INTERRUPTED(&h, tsm_buffer_create(r.w, bytes, &data));
        assert_null(data);
    }
    gate_open(&r, 1);
    assert_code(r.w, tsm_buffer_create(r.w, bytes, &data), 0);
    for (uint64_t i = 0; i < bytes / 8; i += 512) {
        assert_true(((uint64_t *)data)[i] == 0);
    }
    assert_int_equal(((int32_t *)data)[RIG_STRIDE], 0);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    assert_code(r.w, tsm_buffer_destroy(r.w, data), 0);
    gate_begun(&r, 1);
    close_hooked(&r, &h);
}

static void the_begin_of_a_run_is_given_up_and_made_again(void **state)
{
    (void)state;
    enum { RUNS = 70 }; /* more than can be in flight */
    struct rig r;
    struct watcher h;
    tsm_run *runs[RUNS] = {0};
    open_hooked(&r, &h, 1, 0);
    assert_code(r.w, FLY(&r, &runs[0], {GATE, 0, .inout = 1}), 0);
    int n = 1;
    for (h.give_up = true; FLY(&r, &runs[n], {ADD, 0, .inout = 1, .a = 1}) == 0; n++) {
        assert_true(n + 1 < RUNS);
    }
    h.give_up = false;
    assert_int_equal(tsm_worker_error(r.w)->code, TSM_EINTERRUPTED);
    assert_null(runs[n]);
    INTERRUPTED(&h, RUN(&r, {ADD, 0, .inout = 1, .a = 1}));
    gate_open(&r, 1);
    assert_code(r.w, RUN(&r, {ADD, 0, .inout = 1, .a = 1}), 0);
    assert_int_equal(*rig_cell(&r, 1), n); /* what was given up has not run */
    for (int i = 0; i < n; i++) {
        assert_code(r.w, tsm_run_wait(runs[i], -1), 0);
        tsm_run_release(runs[i]);
    }
    gate_begun(&r, 1);
    close_hooked(&r, &h);
}

static void a_run_that_waits_for_a_replacement_is_given_up_and_begun_again(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    setenv("TRANSOM_FAULT", "refork:stop:1:-2", 1);
    open_hooked(&r, &h, 2, 0);
    int keeper = keeper_of(&r);
    kill(tsm_worker_pid(r.w, 1), SIGKILL);
    while (help_proc_stat(keeper, 3) != 'T') {
        poll(NULL, 0, 1);
    }
    INTERRUPTED(&h, RUN(&r, {ADD, 0, .inout = 1, .a = 1}));
    INTERRUPTED(&h, RUN(&r, {ADD, 0, .inout = 1, .a = 1}));
    kill(keeper, SIGCONT);
    assert_code(r.w, RUN(&r, {ADD, 0, .inout = 1, .a = 1}), 0);
    assert_int_equal(*rig_cell(&r, 1), 1);
    close_hooked(&r, &h);
}

struct registering {
    struct rig *r;
    struct watcher *h;
    tsm_callable c;
};

static int register_at_a_full_ring(tsm_orch *orch, void *arg)
{
    struct registering *x = arg;
    int rc;
    assert_code(x->r->w, SUBMIT(x->r, orch, {GATE, 1, .inout = 2}), 0);
    for (x->h->give_up = true; (rc = SUBMIT(x->r, orch, {ADD, 1, .inout = 1})) == 0;) {
    }
    x->h->give_up = false;
    assert_code(x->r->w, rc, TSM_EINTERRUPTED);
    for (int i = 0; i < 3; i++) {
        INTERRUPTED(x->h, tsm_register_symbol(x->r->w, rig_object, "so_many_011", NULL, &x->c));
    }
    gate_open(x->r, 1);
    return 0;
}

static void a_registration_after_the_start_is_given_up_and_made_again(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    open_hooked(&r, &h, 2, 1);
    struct registering x = {&r, &h, {0}};
    uint64_t index_max = 0;
    assert_code(r.w, FLY(&r, &run, {GATE, 1, .inout = 1}), 0);
    for (int i = 0; i < 8; i++) {
        INTERRUPTED(&h, tsm_register_symbol(r.w, rig_object, "so_many_022", NULL, &x.c));
        assert_true(x.c.value == 0);
    }
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    assert_code(r.w, tsm_worker_run(r.w, register_at_a_full_ring, &x), 0);
    for (int i = 0; i < 50; i++) { /* the places of those that were given up are used again */
        char name[16];
        snprintf(name, sizeof(name), "so_many_%03x", 0x100 + i);
        assert_code(r.w, tsm_register_symbol(r.w, rig_object, name, NULL, &x.c), 0);
        index_max = (x.c.value & 0xffffff) > index_max ? x.c.value & 0xffffff : index_max;
        assert_code(r.w, tsm_unregister(r.w, x.c), 0);
    }
    assert_in_range(index_max, 1, RIG_CALLS + 8 + 3 + 2);
    gate_begun(&r, 2);
    close_hooked(&r, &h);
}

static void a_close_is_given_up_and_the_worker_stays_open(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    open_hooked(&r, &h, 2, 1);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1, .a = 1}), 0);
    for (int i = 0; i < 3; i++) {
        INTERRUPTED(&h, tsm_worker_close(r.w));
        assert_code(r.w, RUN(&r, {ADD, 1, .inout = 2, .a = 1}), 0);
    }
    gate_open(&r, 1);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 2), 3);
    tsm_run_release(run);
    gate_begun(&r, 1);
    close_hooked(&r, &h);
}

/* ---- what cannot ---- */

static void a_destroy_is_not_given_up(void **state)
{
    (void)state;
    struct rig r;
    struct watcher h;
    tsm_run *run = NULL;
    void *base = NULL;
    uint64_t bytes = 0;
    int status = 0;
    open_hooked(&r, &h, 1, 0);
    assert_code(r.w, FLY(&r, &run, {GATE, 0, .inout = 1, .a = 5}), 0);
    gate_begun(&r, 1);
    pid_t opener = fork();
    if (opener == 0) {
        poll(NULL, 0, 20); /* too early only makes the test easier */
        _exit(write(r.open[1], "o", 1) != 1);
    }
    assert_code(r.w, tsm_worker_keep_host(r.w, &base, &bytes), 0);
    h.give_up = true;
    tsm_worker_destroy(r.w);
    assert_slept(&h);
    assert_int_equal(*rig_cell(&r, 1), 5); /* it waited for the task */
    assert_int_equal(munmap(base, bytes), 0);
    assert_int_equal(waitpid(opener, &status, 0), opener);
    rig_pipes_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lock_that_the_hooks_let_go_of_is_free_while_a_call_sleeps),
        TEST(hooks_see_how_many_tasks_have_ended),
        TEST(hooks_are_set_changed_and_taken_away),
        TEST(a_sleep_is_asked_for_at_least_every_fifty_milliseconds),
        TEST(a_start_is_given_up_and_leaves_nothing),
        TEST(a_wait_for_a_run_is_given_up_and_made_again),
        TEST(copies_and_host_wait_are_given_up_and_made_again),
        TEST(a_submit_at_a_full_ring_is_given_up_and_made_again),
        TEST(a_group_at_a_full_ring_is_given_up_as_a_whole),
        TEST(a_domain_at_the_budget_is_given_up_and_allocated_again),
        TEST(a_buffer_in_recycled_memory_is_given_up_and_created_again),
        TEST(the_begin_of_a_run_is_given_up_and_made_again),
        TEST(a_run_that_waits_for_a_replacement_is_given_up_and_begun_again),
        TEST(a_registration_after_the_start_is_given_up_and_made_again),
        TEST(a_close_is_given_up_and_the_worker_stays_open),
        TEST(a_destroy_is_not_given_up)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

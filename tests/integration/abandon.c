/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What finalizers need: host memory that stays when its worker closes, and a worker that is let go of from any thread, at
 * once, with its processes ending behind it.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "rig.h"

/* Descriptor of a copy of the memfd of this name, so that its size can be asked for when the worker has closed its own. */
static int copy_memfd(const char *name)
{
    for (int fd = 0; fd < 256; fd++) {
        char path[64], target[128] = "";
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, name)) {
            return dup(fd);
        }
    }
    fail_msg("no memfd %s", name);
    return -1;
}

static uint64_t held_bytes(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* ---- host memory that stays ---- */

static int touch_much(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    static char zeros[4 << 20];
    void *data = NULL;
    tsm_domain *d = NULL;
    assert_code(r->w, tsm_alloc(orch, 0, sizeof(zeros), &data), 0);
    assert_code(r->w, tsm_copy_to(orch, 0, data, zeros, sizeof(zeros)), 0);
    assert_code(r->w, help_alloc(orch, "d", CHIPS(0, 1), sizeof(zeros), &d), 0);
    return tsm_copy_to(orch, 1, help_window(d, 1), zeros, sizeof(zeros));
}

static void kept_host_memory_outlives_the_worker_and_nothing_else_does(void **state)
{
    (void)state;
    struct rig r;
    void *base = NULL, *again = NULL;
    uint64_t bytes = 0, same = 0;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    rig_make(&r, &opts);
    assert_code(r.w, tsm_worker_keep_host(r.w, &base, &bytes), TSM_ESTATE);
    rig_start(&r);
    assert_code(r.w, tsm_worker_keep_host(r.w, NULL, &bytes), TSM_EINVAL);
    assert_code(r.w, tsm_worker_keep_host(r.w, &base, NULL), TSM_EINVAL);
    assert_code(r.w, tsm_worker_keep_host(r.w, &base, &bytes), 0);
    assert_code(r.w, tsm_worker_keep_host(r.w, &again, &same), 0);
    assert_true(base == again && bytes == same && bytes == 64 << 20);
    assert_in_range(help_pointer(r.cells), help_pointer(base), help_pointer(base) + bytes - 1);
    assert_code(r.w, RUN(&r, {ADD, 0, .inout = 1, .a = 11}, {ADD, TSM_SUB, .inout = 2, .a = 22}),
                0);
    assert_code(r.w, tsm_worker_run(r.w, touch_much, &r), 0);
    int fd = copy_memfd("transom-data");
    assert_true(held_bytes(fd) >= 8 << 20);
    rig_close(&r);
    assert_int_equal(*rig_cell(&r, 1), 11);
    assert_int_equal(*rig_cell(&r, 2), 22);
    *rig_cell(&r, 3) = 33; /* and can be written */
    assert_int_equal(harness_mappings(), 1);
    assert_in_range(held_bytes(fd), 4096, 2 << 20); /* heaps and windows went back */
    close(fd);
    assert_int_equal(munmap(base, bytes), 0);
    assert_int_equal(harness_mappings(), 0);
}

static void two_workers_have_each_their_memory(void **state)
{
    (void)state;
    struct rig r[2];
    void *base[2] = {0};
    uint64_t bytes[2] = {0};
    for (int i = 0; i < 2; i++) {
        rig_open(&r[i], 1, 0);
        assert_code(r[i].w, tsm_worker_keep_host(r[i].w, &base[i], &bytes[i]), 0);
        assert_code(r[i].w, RUN(&r[i], {ADD, 0, .inout = 1, .a = (uint64_t)i + 1}), 0);
    }
    rig_close_well(&r[0]);
    assert_well(&r[1]);
    assert_int_equal(munmap(base[0], bytes[0]), 0);
    assert_int_equal(*rig_cell(&r[1], 1), 2);
    rig_close_well(&r[1]);
    assert_int_equal(*rig_cell(&r[1], 1), 2);
    assert_int_equal(munmap(base[1], bytes[1]), 0);
}

/* ---- letting go ---- */

/* Until no process of an abandoned worker lives; its keeper may be a zombie. */
static void await_gone(const int *pids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t state_now;
        while ((state_now = help_proc_stat(pids[i], 3)) != 0 && state_now != 'Z') {
            poll(NULL, 0, 1);
        }
    }
}

struct letting {
    struct rig r;
    int pids[8];
    uint32_t count;
    tsm_run *runs[4];
};

/* A worker in the midst of things: runs in flight, a kept domain, held handles, one task that never ends. */
static int keep_a_domain(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_domain *d = NULL;
    assert_code(r->w, help_alloc_kept(orch, "kept", CHIPS(0, 1), 4096, &d), 0);
    return SUBMIT(r, orch, {GATE_SPIN, 0, .out = 1, .domain = d}, {ADD, 1, .in = 1, .out = 2});
}

static void open_busy(struct letting *l)
{
    rig_open(&l->r, 2, 1);
    for (int p = 0; p < 3; p++) {
        l->pids[p] = tsm_worker_pid(l->r.w, p);
    }
    l->pids[3] = keeper_of(&l->r);
    l->count = 4;
    assert_int_equal(RUN(&l->r, {FAIL, 0, .out = 3}), TSM_ETASK_FAILED);
    assert_code(l->r.w, RUN(&l->r, {ADD, 1, .out = 5, .a = 5}, {ADD, 1, .in = 5, .out = 6}), 0);
    assert_code(l->r.w, tsm_worker_submit_run(l->r.w, keep_a_domain, &l->r, &l->runs[0]), 0);
    assert_code(l->r.w, FLY(&l->r, &l->runs[1], {GATE, TSM_SUB, .out = 4}), 0);
    gate_begun(&l->r, 2);
}

static void *abandon(void *w)
{
    tsm_worker_abandon(w);
    return NULL;
}

static void a_busy_worker_is_let_go_of_from_another_thread(void **state)
{
    (void)state;
    for (int thread_too = 0; thread_too < 2; thread_too++) {
        struct letting l;
        pthread_t thread;
        uint32_t fds = harness_fds();
        open_busy(&l);
        uint64_t begin = harness_now_ns();
        if (thread_too) {
            assert_int_equal(pthread_create(&thread, NULL, abandon, l.r.w), 0);
            assert_int_equal(pthread_join(thread, NULL), 0);
        } else {
            tsm_worker_abandon(l.r.w);
        }
        assert_true(harness_now_ns() - begin < 2000000000);
        assert_int_equal(harness_mappings(), 0);
        rig_pipes_close(&l.r);
        assert_int_equal(harness_fds(), fds);
        await_gone(l.pids, l.count);
        /* The next worker of the program collects the keeper. */
        struct rig r;
        rig_open(&r, 1, 0);
        assert_int_equal(help_proc_stat(l.pids[3], 3), 0);
        rig_close_well(&r);
        assert_int_equal(harness_children(), 0);
    }
}

static void many_are_let_go_of_and_leave_no_zombies(void **state)
{
    (void)state;
    uint32_t rounds = harness_count(30);
    int pids[2] = {0};
    for (uint32_t i = 0; i < rounds; i++) {
        struct rig r;
        rig_open(&r, 1, 0);
        pids[0] = tsm_worker_pid(r.w, 0);
        pids[1] = keeper_of(&r);
        tsm_worker_abandon(r.w);
        rig_pipes_close(&r);
        assert_in_range(harness_children(), 0, 3 * 4); /* the newest ones are about to end */
        await_gone(pids, i % 4 == 0 ? 2 : 0);
    }
    await_gone(pids, 2);
    while (harness_children() != 0) { /* each call collects what has ended */
        tsm_worker *w = harness_worker(1, 0);
        tsm_worker_abandon(w);
    }
}

static void kept_host_memory_outlives_an_abandoned_worker_too(void **state)
{
    (void)state;
    struct letting l;
    void *base = NULL;
    uint64_t bytes = 0;
    open_busy(&l);
    assert_code(l.r.w, tsm_worker_keep_host(l.r.w, &base, &bytes), 0);
    tsm_worker_abandon(l.r.w);
    assert_int_equal(harness_mappings(), 1);
    assert_int_equal(*rig_cell(&l.r, 5), 5);
    await_gone(l.pids, l.count);
    assert_int_equal(*rig_cell(&l.r, 6), 5);
    assert_int_equal(munmap(base, bytes), 0);
    rig_pipes_close(&l.r);
    while (harness_children() != 0) {
        tsm_worker_abandon(harness_worker(1, 0));
    }
}

static int abandon_inside(tsm_orch *orch, void *arg)
{
    struct rig *r = arg;
    tsm_worker_abandon(r->w);
    return SUBMIT(r, orch, {ADD, 0, .inout = 1, .a = 1});
}

static void what_is_not_running_is_let_go_of_and_what_may_not_be_is_not(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(1, 0);
    int status = 0;
    tsm_worker_abandon(NULL);
    rig_make(&r, &opts); /* not started */
    tsm_worker_abandon(r.w);
    rig_pipes_close(&r);
    rig_open(&r, 1, 0); /* closed */
    assert_code(r.w, tsm_worker_close(r.w), 0);
    tsm_worker_abandon(r.w);
    rig_pipes_close(&r);
    rig_open(&r, 1, 0); /* inside its function: nothing happens */
    assert_code(r.w, tsm_worker_run(r.w, abandon_inside, &r), 0);
    assert_int_equal(*rig_cell(&r, 1), 1);
    pid_t child = fork();
    if (child == 0) { /* another process: neither */
        tsm_worker_abandon(r.w);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_well(&r);
    kill(keeper_of(&r), SIGKILL); /* failed */
    assert_int_equal(RUN(&r, {SPIN, 0, .out = 1}), TSM_EWORKER_FAILED);
    tsm_worker_abandon(r.w);
    rig_pipes_close(&r);
    while (harness_children() != 0) {
        tsm_worker_abandon(harness_worker(1, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(kept_host_memory_outlives_the_worker_and_nothing_else_does),
        TEST(two_workers_have_each_their_memory),
        TEST(a_busy_worker_is_let_go_of_from_another_thread),
        TEST(many_are_let_go_of_and_leave_no_zombies),
        TEST(kept_host_memory_outlives_an_abandoned_worker_too),
        TEST(what_is_not_running_is_let_go_of_and_what_may_not_be_is_not)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Memory: scopes, allocation and what is refused, memory that is given out again while its users are still to run,
 * copies and host_wait that wait for exactly the tasks in their way, host buffers at any time.
 */
#include "graph_help.h"

enum { A = 1, B, C, D };

/* ---- tasks with contents ---- */

/* Stays inside for a while, then tensor 0 must be full of the scalar. */
static int expect_late(tsm_task *t)
{
    struct tsm_tensor x;
    int rc = tsm_task_tensor(t, 0, &x);
    help_take(tsm_task_scalar(t, 1));
    for (uint64_t i = 0; rc == 0 && i < x.shape[0]; i++) {
        if (((uint8_t *)x.data)[i] != tsm_task_scalar(t, 0)) {
            return tsm_fail(t, "byte %llu is %u, not %u", (unsigned long long)i,
                            ((uint8_t *)x.data)[i], (unsigned)tsm_task_scalar(t, 0));
        }
    }
    return rc;
}

/* Stays inside for a while, then fills tensor 0 with the scalar. */
static int fill_late(tsm_task *t)
{
    struct tsm_tensor x;
    int rc = tsm_task_tensor(t, 0, &x);
    help_take(tsm_task_scalar(t, 1));
    if (rc == 0) {
        memset(x.data, (int)tsm_task_scalar(t, 0), x.shape[0]);
    }
    return rc;
}

static tsm_callable expect_callable, fill_callable;

static void open_with_contents(uint32_t chips, uint32_t subs)
{
    world_make(chips, subs);
    expect_callable = harness_register(world.w, "expect_late", expect_late);
    fill_callable = harness_register(world.w, "fill_late", fill_late);
    world_start();
}

static void give_late(tsm_orch *o, tsm_callable callable, int chip, struct tsm_tensor t,
                      uint8_t value, uint64_t ns)
{
    int rc = help_submit_tensor(o, callable, chip, NULL, &t, SCALARS(value, ns), NULL);
    assert_code(world.w, rc, 0);
}

enum { LATE_NS = 3000000 };

static void fill(tsm_orch *o, int chip, void *p, uint64_t bytes, uint8_t value)
{
    give_late(o, fill_callable, chip, VIEW(p, bytes, TSM_OUTPUT), value, LATE_NS);
}

static void expect(tsm_orch *o, int chip, void *p, uint64_t bytes, uint8_t value)
{
    give_late(o, expect_callable, chip, VIEW(p, bytes, TSM_INPUT), value, LATE_NS);
}

/* ---- scopes ---- */

static int nest(tsm_orch *o, void *arg)
{
    void *p;
    (void)arg;
    assert_code(world.w, tsm_scope_end(o), TSM_ESTATE);
    assert_text(world.w, "tsm_scope_end without tsm_scope_begin");
    for (int i = 0; i < 64; i++) {
        assert_code(world.w, tsm_scope_begin(o), 0);
        assert_code(world.w, tsm_alloc(o, 0, 100, &p), 0);
    }
    assert_code(world.w, tsm_scope_begin(o), TSM_ENOSPC);
    assert_text(world.w, "64");
    uint64_t held = stats_now().heap_bytes;
    for (int i = 0; i < 32; i++) {
        assert_code(world.w, tsm_scope_end(o), 0);
        assert_int_equal(stats_now().heap_bytes, held - 100 * (uint64_t)(i + 1));
    }
    return 0; /* the others are closed by the end of the function */
}

static void scopes_nest_to_64_and_end_with_the_function(void **state)
{
    (void)state;
    world_open(1, 0);
    uint64_t held = stats_now().heap_bytes;
    for (int i = 0; i < 3; i++) {
        world_run(nest, NULL);
        assert_int_equal(stats_now().heap_bytes, held);
    }
    world_close();
}

static int leave_with_memory(tsm_orch *o, void *arg)
{
    void *p;
    (void)arg;
    assert_code(world.w, tsm_scope_begin(o), 0);
    assert_code(world.w, tsm_alloc(o, 0, 100, &p), 0);
    give(o, (struct job){.chip = 0, .tensors = {VIEW(p, 100, TSM_OUTPUT)}});
    return 4711;
}

static void a_function_that_fails_leaves_no_memory(void **state)
{
    (void)state;
    world_open(1, 0);
    uint64_t held = stats_now().heap_bytes;
    assert_code(world.w, tsm_worker_run(world.w, leave_with_memory, NULL), 4711);
    assert_int_equal(stats_now().heap_bytes, held);
    world_close();
}

/* ---- memory given out again ---- */

/* Takes all host memory that is left, so that nothing but what is given back is free. */
static void take_the_rest(tsm_orch *o)
{
    void *p;
    for (uint64_t bytes = 256u << 20; bytes >= 64; bytes /= 2) {
        while (tsm_alloc(o, TSM_HOST, bytes, &p) == 0) {
        }
        assert_text(world.w, "are free");
    }
}

/* The run's scope holds all but a hole; what the inner scopes take is in the hole, again and again. */
static int reuse_inner(tsm_orch *o, void *arg)
{
    uint8_t tag = *(uint8_t *)arg;
    void *hole = NULL;
    void *p = NULL;
    clear_diary();
    assert_code(world.w, tsm_malloc(o, TSM_HOST, 4096, &hole), 0);
    take_the_rest(o);
    assert_code(world.w, tsm_free(o, TSM_HOST, hole), 0);
    for (uint32_t i = 0; i < 6; i++) {
        assert_code(world.w, tsm_scope_begin(o), 0);
        assert_code(world.w, tsm_alloc(o, TSM_HOST, 4096, &p), 0);
        assert_ptr_equal(p, hole);
        /* Two users of it, one held: the next owner's are behind both. */
        give(o, (struct job){.chip = (int)(i % 3),
                             .value = 10 + i,
                             .gate = 1 + i,
                             .tensors = {VIEW(p, 64, tag)}});
        give(o, (struct job){.chip = TSM_SUB,
                             .value = 20 + i,
                             .tensors = {VIEW((uint8_t *)p + 4000, 96, tag)}});
        assert_code(world.w, tsm_scope_end(o), 0);
    }
    for (uint32_t i = 0; i < 6; i++) {
        await_begin(10 + i);
        assert_false(has_begun(11 + i) || has_begun(21 + i));
        open_gate(1 + i);
    }
    return 0;
}

static void memory_of_an_inner_scope_comes_again_with_its_users_still_to_run(void **state)
{
    (void)state;
    static const uint8_t tags[] = {TSM_NO_DEP, TSM_INPUT, TSM_INOUT, TSM_OUTPUT_EXISTING};
    uint8_t tag;
    world_open(3, 1);
    for (uint32_t k = 0; k < 4; k++) {
        tag = tags[k];
        world_run(reuse_inner, &tag);
        for (uint32_t i = 0; i + 1 < 6; i++) {
            assert_order(10 + i, 11 + i);
            assert_order(10 + i, 21 + i);
            assert_order(20 + i, 11 + i);
            assert_order(20 + i, 21 + i);
        }
    }
    world_close();
}

static int prefer_what_is_done(tsm_orch *o, void *arg)
{
    void *busy = NULL;
    void *p = NULL;
    (void)arg;
    assert_code(world.w, tsm_scope_begin(o), 0);
    assert_code(world.w, tsm_alloc(o, TSM_HOST, 4096, &busy), 0);
    give(o, (struct job){.chip = 0, .gate = 1, .tensors = {VIEW(busy, 4096, TSM_OUTPUT)}});
    assert_code(world.w, tsm_scope_end(o), 0);
    assert_code(world.w, tsm_alloc(o, TSM_HOST, 4096, &p), 0);
    assert_ptr_not_equal(p, busy);
    give(o, (struct job){.chip = 1, .value = A, .tensors = {VIEW(p, 4096, TSM_OUTPUT)}});
    await_end(A); /* while the first user is held */
    open_gate(1);
    return 0;
}

static void memory_whose_users_are_done_is_taken_first(void **state)
{
    (void)state;
    world_open(2, 0);
    world_run(prefer_what_is_done, NULL);
    world_close();
}

/* ---- refusals ---- */

static int refuse_allocations(tsm_orch *o, void *arg)
{
    void *p = NULL;
    void *q = NULL;
    (void)arg;
    uint64_t held = stats_now().heap_bytes;
    assert_code(world.w, tsm_alloc(o, 0, (64u << 20) + 1, &p), TSM_ENOSPC);
    assert_text(world.w,
                "67108865 bytes asked of the heap of chip 0: 0 are held, 67108864 are free");
    assert_code(world.w, tsm_malloc(o, 1, UINT64_MAX, &p), TSM_ENOMEM);
    assert_code(world.w, tsm_alloc(o, 0, 0, &p), TSM_EINVAL);
    assert_text(world.w, "bytes is 0");
    assert_code(world.w, tsm_alloc(o, 4711, 64, &p), TSM_EINVAL);
    assert_text(world.w, "chip is 4711");
    assert_code(world.w, tsm_alloc(o, TSM_ANY_CHIP, 64, &p), TSM_EINVAL);
    assert_code(world.w, tsm_alloc(o, TSM_SUB, 64, &p), TSM_EINVAL);
    assert_code(world.w, tsm_alloc(o, 0, 64, NULL), TSM_EINVAL);
    assert_null(p);
    assert_int_equal(stats_now().heap_bytes, held);
    assert_code(world.w, tsm_malloc(o, 0, 48u << 20, &p), 0);
    assert_code(world.w, tsm_alloc(o, 0, 32u << 20, &q), TSM_ENOSPC);
    assert_text(world.w,
                "33554432 bytes asked of the heap of chip 0: 50331648 are held, 16777216 are free");
    assert_code(world.w, tsm_alloc(o, 1, 32u << 20, &q), 0); /* every chip has its own */
    assert_code(world.w, tsm_free(o, 0, p), 0);
    assert_code(world.w, tsm_alloc(o, 0, 64u << 20, &q), 0);
    return 0;
}

static void allocations_that_cannot_be_are_refused_with_asked_held_and_free(void **state)
{
    (void)state;
    world_open(2, 0);
    world_run(refuse_allocations, NULL);
    world_close();
}

static int refuse_frees(tsm_orch *o, void *arg)
{
    uint8_t *p = NULL;
    void *scoped = NULL;
    int here = 0;
    (void)arg;
    assert_code(world.w, tsm_malloc(o, 0, 4096, (void **)&p), 0);
    assert_code(world.w, tsm_alloc(o, 0, 4096, &scoped), 0);
    assert_code(world.w, tsm_free(o, 0, p + 64), TSM_EINVAL);
    assert_text(world.w, "inside the allocation");
    assert_code(world.w, tsm_free(o, 1, p), TSM_EINVAL);
    assert_code(world.w, tsm_free(o, TSM_HOST, p), TSM_EINVAL);
    assert_code(world.w, tsm_free(o, 99, p), TSM_EINVAL);
    assert_code(world.w, tsm_free(o, 0, &here), TSM_EINVAL);
    assert_code(world.w, tsm_free(o, 0, NULL), TSM_EINVAL);
    assert_code(world.w, tsm_free(o, 0, scoped), TSM_EINVAL);
    assert_text(world.w, "tsm_malloc");
    assert_code(world.w, tsm_free(o, TSM_HOST, world.memory), TSM_EINVAL);
    assert_code(world.w, tsm_buffer_destroy(world.w, p), TSM_EINVAL);
    assert_code(world.w, tsm_buffer_destroy(world.w, world.memory + 64), TSM_EINVAL);
    /* A second free is refused while users are to run, and when they are done. */
    give(o, (struct job){.chip = 0, .gate = 1, .tensors = {VIEW(p, 64, TSM_NO_DEP)}});
    assert_code(world.w, tsm_free(o, 0, p), 0);
    assert_code(world.w, tsm_free(o, 0, p), TSM_EINVAL);
    assert_text(world.w, "has been freed");
    open_gate(1);
    assert_code(world.w, tsm_malloc(o, 0, 64, &scoped), 0);
    assert_code(world.w, tsm_free(o, 0, scoped), 0);
    assert_code(world.w, tsm_free(o, 0, scoped), TSM_EINVAL);
    return 0;
}

static void double_interior_and_misplaced_frees_are_refused(void **state)
{
    (void)state;
    world_open(2, 0);
    uint64_t held = stats_now().heap_bytes;
    world_run(refuse_frees, NULL);
    assert_int_equal(stats_now().heap_bytes, held);
    world_close();
}

static int refuse_copies(tsm_orch *o, void *arg)
{
    uint8_t *p = NULL;
    uint8_t here[128] = {0};
    (void)arg;
    assert_code(world.w, tsm_malloc(o, 0, 100, (void **)&p), 0);
    tsm_domain *d = make_domain(o, "d", (const int[]){0, 1}, 2, 256);
    uint8_t *window = window_of(d, 1);
    assert_code(world.w, tsm_copy_to(o, 0, p + 1, here, 100), TSM_ERANGE);
    assert_text(world.w, "100 bytes");
    assert_code(world.w, tsm_copy_from(o, 0, here, p - 1, 10), TSM_ERANGE);
    assert_code(world.w, tsm_copy_from(o, 0, here, p, UINT64_MAX), TSM_ERANGE);
    assert_code(world.w, tsm_copy_from(o, 1, here, p, 10), TSM_EINVAL);
    assert_text(world.w, "not of chip 1");
    assert_code(world.w, tsm_copy_from(o, TSM_HOST, here, p, 10), TSM_EINVAL);
    assert_code(world.w, tsm_copy_from(o, 17, here, p, 10), TSM_EINVAL);
    assert_code(world.w, tsm_copy_to(o, 0, here, p, 10), TSM_ERANGE);
    assert_code(world.w, tsm_copy_to(o, 0, NULL, here, 10), TSM_EINVAL);
    assert_code(world.w, tsm_copy_to(o, 0, p, NULL, 10), TSM_EINVAL);
    assert_code(world.w, tsm_copy_to(o, 1, window + 200, here, 57), TSM_ERANGE);
    assert_code(world.w, tsm_copy_to(o, 0, window, here, 57), TSM_EINVAL);
    assert_code(world.w, tsm_copy_to(o, 1, window + 200, here, 56), 0);
    assert_int_equal(tsm_domain_release(d), 0);
    assert_code(world.w, tsm_copy_to(o, 1, window, here, 1), TSM_ESTALE);
    assert_code(world.w, tsm_copy_to(o, 0, p, here, 100), 0);
    assert_code(world.w, tsm_copy_to(o, 0, p, here, 0), 0);
    assert_code(world.w, tsm_free(o, 0, p), 0);
    assert_code(world.w, tsm_copy_from(o, 0, here, p, 1), TSM_ERANGE);
    assert_code(world.w, tsm_host_wait(world.w, here, 1, TSM_READ), TSM_ERANGE);
    assert_code(world.w, tsm_host_wait(world.w, world.memory, MEMORY_BYTES + 1, TSM_READ),
                TSM_ERANGE);
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 1, 0), TSM_EINVAL);
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 1, 4), TSM_EINVAL);
    return 0;
}

static void copies_out_of_range_or_on_the_wrong_chip_are_refused(void **state)
{
    (void)state;
    world_open(2, 0);
    world_run(refuse_copies, NULL);
    world_close();
}

/* ---- over runs ---- */

static int use_over_runs(tsm_orch *o, void *arg)
{
    void **kept = arg;
    uint8_t byte[4096];
    if (!kept[0]) {
        assert_code(world.w, tsm_malloc(o, 0, 4096, &kept[0]), 0);
        assert_code(world.w, tsm_malloc(o, TSM_HOST, 4096, &kept[1]), 0);
        fill(o, 0, kept[0], 4096, 42);
        fill(o, 0, kept[1], 4096, 43);
        return 0;
    }
    expect(o, 0, kept[0], 4096, 42);
    expect(o, 1, kept[1], 4096, 43);
    assert_code(world.w, tsm_copy_from(o, 0, byte, kept[0], 4096), 0);
    assert_int_equal(byte[4095], 42);
    assert_code(world.w, tsm_free(o, 0, kept[0]), 0);
    assert_code(world.w, tsm_free(o, TSM_HOST, kept[1]), 0); /* its reader is still to run */
    return 0;
}

static void malloc_lasts_over_runs_until_it_is_freed(void **state)
{
    (void)state;
    void *kept[2] = {NULL};
    tsm_run *first = NULL;
    open_with_contents(2, 0);
    uint64_t held = stats_now().heap_bytes;
    assert_code(world.w, tsm_worker_submit_run(world.w, use_over_runs, kept, &first), 0);
    world_run(use_over_runs, kept);
    assert_code(world.w, tsm_run_wait(first, -1), 0);
    tsm_run_release(first);
    assert_int_equal(stats_now().heap_bytes, held);
    world_close();
}

/* ---- copies ---- */

static int copies_in_turn(tsm_orch *o, void *arg)
{
    uint8_t *p = NULL;
    uint8_t here[1000];
    (void)arg;
    tsm_domain *d = make_domain(o, "d", (const int[]){0, 1}, 2, 1024);
    assert_code(world.w, tsm_malloc(o, 1, 1000, (void **)&p), 0);
    uint8_t *places[3] = {p, window_of(d, 1), world.memory};
    static const int of[3] = {1, 1, TSM_HOST};
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t *x = places[i];
        memset(here, 5, sizeof(here)); /* before any task */
        assert_code(world.w, tsm_copy_to(o, of[i], x, here, 1000), 0);
        memset(here, 0, sizeof(here)); /* the source may be reused */
        expect(o, 1, x, 1000, 5);
        memset(here, 6, sizeof(here)); /* waits for the reader */
        assert_code(world.w, tsm_copy_to(o, of[i], x, here, 1000), 0);
        expect(o, 1, x, 1000, 6);
        fill(o, 1, x, 1000, 7);
        memset(here, 8, sizeof(here)); /* waits for the writer */
        assert_code(world.w, tsm_copy_to(o, of[i], x, here, 500), 0);
        expect(o, 1, x, 500, 8);
        expect(o, 1, x + 500, 500, 7);
        fill(o, 1, x + 100, 10, 9);
        assert_code(world.w, tsm_copy_from(o, of[i], here, x, 1000), 0); /* behind the last */
        assert_true(here[99] == 8 && here[100] == 9 && here[109] == 9 && here[110] == 8 &&
                    here[999] == 7);
    }
    assert_code(world.w, tsm_free(o, 1, p), 0);
    return 0;
}

static void copies_before_between_and_after_tasks_keep_the_order(void **state)
{
    (void)state;
    open_with_contents(2, 0);
    world_run(copies_in_turn, NULL);
    world_close();
}

static int copies_beside(tsm_orch *o, void *arg)
{
    uint8_t here[64];
    uint8_t *m = world.memory;
    (void)arg;
    memset(m, 3, 1024);
    give(o, (struct job){.chip = 0,
                         .value = A,
                         .gate = 1,
                         .tensors = {VIEW(m, 64, TSM_INOUT), VIEW(m + 512, 64, TSM_INPUT)}});
    give(o, (struct job){.chip = 0, .value = B, .tensors = {VIEW(m + 256, 64, TSM_NO_DEP)}});
    await_begin(A);
    /* Bytes beside it, bytes that are only read when reading, and what makes no edge. */
    assert_code(world.w, tsm_copy_from(o, TSM_HOST, here, m + 64, 64), 0);
    assert_int_equal(here[0], 3);
    assert_code(world.w, tsm_copy_to(o, TSM_HOST, m + 64, here, 64), 0);
    assert_code(world.w, tsm_copy_from(o, TSM_HOST, here, m + 512, 64), 0);
    assert_code(world.w, tsm_copy_to(o, TSM_HOST, m + 256, here, 64), 0);
    assert_code(world.w, tsm_host_wait(world.w, m + 512, 64, TSM_READ), 0);
    assert_code(world.w, tsm_host_wait(world.w, m + 64, 448, TSM_READ | TSM_WRITE), 0);
    assert_code(world.w, tsm_host_wait(world.w, m + 576, MEMORY_BYTES - 576, TSM_WRITE), 0);
    assert_int_equal(entries_of(A << 1 | 1, NULL), 0);
    open_gate(1);
    return 0;
}

static void copies_and_host_waits_are_not_delayed_by_other_tasks(void **state)
{
    (void)state;
    world_open(1, 0);
    world_run(copies_beside, NULL);
    world_close();
}

static int host_waits(tsm_orch *o, void *arg)
{
    uint8_t *m = world.memory;
    (void)arg;
    for (uint8_t i = 1; i < 10; i++) {
        int place = i % 3 == 2 ? TSM_SUB : i % 3;
        fill(o, place, m, 100, i);
        assert_code(world.w, tsm_host_wait(world.w, m + 99, 1, TSM_READ), 0);
        assert_int_equal(m[99], i); /* behind the writer */
        expect(o, place, m, 100, i);
        expect(o, (place + 1) % 2, m, 100, i);
        assert_code(world.w, tsm_host_wait(world.w, m, 100, TSM_WRITE), 0);
        memset(m, 0, 100); /* the readers would see it */
        fill(o, place, m, 100, i);
        assert_code(world.w, tsm_host_wait(world.w, m, 100, TSM_WRITE), 0);
        assert_int_equal(m[0], i); /* a writer is in the way of writing, too */
        memset(m, 100 + i, 100);
        expect(o, place, m, 100, 100 + i);
    }
    return 0;
}

static void host_wait_waits_for_writers_and_for_writing_for_readers_too(void **state)
{
    (void)state;
    open_with_contents(2, 1);
    world_run(host_waits, NULL);
    /* Outside of a function as well. */
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 100, TSM_WRITE), 0);
    assert_int_equal(world.memory[0], 109);
    world_close();
}

/* ---- host buffers ---- */

static bool is_zero(const uint8_t *p, uint64_t bytes)
{
    return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

static int buffers_meanwhile(tsm_orch *o, void *arg)
{
    void *made[8];
    (void)arg;
    give(o, (struct job){.chip = 0, .value = A, .gate = 1});
    await_begin(A);
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t bytes = UINT64_C(1) << (6 + 2 * i);
        assert_code(world.w, tsm_buffer_create(world.w, bytes, &made[i]), 0);
        assert_int_equal((uintptr_t)made[i] % 64, 0);
        assert_true(is_zero(made[i], bytes));
        *(uint8_t *)made[i] = 0; /* the program may touch it at once */
        expect(o, 1, made[i], bytes, 0);
        fill(o, TSM_SUB, made[i], bytes, 7);
        assert_code(world.w, tsm_host_wait(world.w, made[i], bytes, TSM_READ), 0);
        assert_int_equal(((uint8_t *)made[i])[bytes - 1], 7);
        fill(o, 0, made[i], bytes, 9); /* held behind A: in use when it is destroyed */
    }
    for (uint32_t i = 0; i < 8; i++) {
        assert_code(world.w, tsm_buffer_destroy(world.w, made[i]), 0);
        assert_code(world.w, tsm_buffer_destroy(world.w, made[i]), TSM_EINVAL);
    }
    void *other = NULL; /* not one of those that are still to be written */
    assert_code(world.w, tsm_buffer_create(world.w, 4096, &other), 0);
    assert_true(is_zero(other, 4096));
    open_gate(1);
    for (uint32_t i = 0; i < 8; i++) {
        expect(o, 0, other, 4096, 0);
    }
    *(void **)arg = other;
    return 0;
}

static void buffers_can_be_made_and_destroyed_while_tasks_run(void **state)
{
    (void)state;
    void *other = NULL;
    open_with_contents(2, 1);
    uint64_t held = stats_now().heap_bytes;
    world_run(buffers_meanwhile, &other);
    assert_true(is_zero(other, 4096));
    assert_code(world.w, tsm_buffer_destroy(world.w, other), 0);
    assert_int_equal(stats_now().heap_bytes, held);
    /* What was written by tasks is zero when it comes again. */
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t *p = NULL;
        uint64_t bytes = 1 + i * 331 % 5000;
        assert_code(world.w, tsm_buffer_create(world.w, bytes, (void **)&p), 0);
        assert_true(is_zero(p, bytes));
        memset(p, 0xff, bytes);
        if (i % 3) {
            assert_code(world.w, tsm_buffer_destroy(world.w, p), 0);
        }
    }
    world_close();
}

/* No host memory is left but what a held task still writes: the new buffer waits for it, and then is zero. */
static int destroyed_in_use(tsm_orch *o, void *arg)
{
    void *p = NULL;
    void *again = NULL;
    (void)arg;
    assert_code(world.w, tsm_buffer_create(world.w, 4096, &p), 0);
    take_the_rest(o);
    give_late(o, fill_callable, 0, VIEW(p, 4096, TSM_OUTPUT), 9, 10 * LATE_NS);
    assert_code(world.w, tsm_buffer_destroy(world.w, p), 0);
    assert_code(world.w, tsm_buffer_create(world.w, 4096, &again), 0);
    assert_ptr_equal(again, p);
    assert_true(is_zero(again, 4096));
    expect(o, 0, again, 4096, 0);
    assert_code(world.w, tsm_buffer_create(world.w, 0, &p), TSM_EINVAL);
    assert_code(world.w, tsm_buffer_create(world.w, 64, &p), TSM_ENOSPC);
    return 0;
}

static void a_buffer_in_memory_that_is_still_written_waits_and_is_zero(void **state)
{
    (void)state;
    open_with_contents(1, 0);
    world_run(destroyed_in_use, NULL);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(scopes_nest_to_64_and_end_with_the_function),
        TEST(a_function_that_fails_leaves_no_memory),
        TEST(memory_of_an_inner_scope_comes_again_with_its_users_still_to_run),
        TEST(memory_whose_users_are_done_is_taken_first),
        TEST(allocations_that_cannot_be_are_refused_with_asked_held_and_free),
        TEST(double_interior_and_misplaced_frees_are_refused),
        TEST(copies_out_of_range_or_on_the_wrong_chip_are_refused),
        TEST(malloc_lasts_over_runs_until_it_is_freed),
        TEST(copies_before_between_and_after_tasks_keep_the_order),
        TEST(copies_and_host_waits_are_not_delayed_by_other_tasks),
        TEST(host_wait_waits_for_writers_and_for_writing_for_readers_too),
        TEST(buffers_can_be_made_and_destroyed_while_tasks_run),
        TEST(a_buffer_in_memory_that_is_still_written_waits_and_is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Domains as the orchestration function sees them: ranks and windows, names, refusals, released and freed, and the
 * sweep at the end of the function.
 */
#include "domain_help.h"

/* What the tests of this file share; set before a run, read in the orchestration functions. */
static tsm_worker *worker;
static tsm_callable hold, fill, fail, work;
static _Atomic uint64_t *gate;

static void start(uint32_t chips, uint32_t subs)
{
    worker = harness_worker(harness_chips(chips), subs);
    hold = harness_register(worker, "hold", help_gate_task);
    fill = harness_register(worker, "fill", help_fill_task);
    fail = harness_register(worker, "fail", help_fail_task);
    work = harness_register(worker, "work", help_work_task);
    harness_start(worker);
    gate = help_gate(worker);
}

static void run(tsm_orch_fn *fn)
{
    assert_code(worker, tsm_worker_run(worker, fn, NULL), 0);
}

/* ---- members and windows ---- */

static int ranks_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    const struct tsm_buffer_spec buffers[] = {{.name = "x", .dtype = TSM_F32, .count = 100},
                                              {.name = "flags", .dtype = TSM_U64, .bytes = 64},
                                              {.name = "raw", .bytes = 5}};
    struct tsm_domain_opts opts = help_domain_opts("tp", CHIPS(1, 0), 4096);
    opts.buffers = buffers;
    opts.buffer_count = COUNT(buffers);
    tsm_domain *d;
    assert_code(worker, tsm_domain_alloc(o, &opts, &d), 0);
    assert_int_equal(tsm_domain_size(d), 2);
    for (uint32_t r = 0; r < 2; r++) {
        int chip = opts.chips[r];
        struct tsm_domain_context c;
        struct tsm_tensor t;
        assert_code(worker, tsm_domain_context(d, chip, &c), 0);
        assert_string_equal(c.name, "tp");
        assert_int_equal(c.rank, r);
        assert_int_equal(c.size, 2);
        assert_int_equal(c.buffer_count, 3);
        assert_int_equal(c.window_bytes, 4096);
        assert_int_equal(c.device_ctx->abi, 1);
        assert_int_equal(c.device_ctx->rank, r);
        assert_int_equal(c.device_ctx->size, 2);
        assert_int_equal(c.device_ctx->window_bytes, 4096);
        assert_ptr_equal(c.device_ctx->base[r], c.window);
        assert_ptr_equal(c.device_ctx->base[1 - r], help_window(d, opts.chips[1 - r]));
        uint64_t before = help_pointer(c.window);
        const uint64_t counts[] = {100, 8, 5};
        const int dtypes[] = {TSM_F32, TSM_U64, TSM_U8};
        for (uint32_t b = 0; b < 3; b++) {
            assert_code(worker, tsm_domain_buffer(d, chip, buffers[b].name, &t), 0);
            uint64_t at = help_pointer(t.data);
            assert_true(at % 64 == 0 && at >= before);
            before = at + counts[b] * tsm_dtype_bytes(dtypes[b]);
            assert_true(before <= help_pointer(c.window) + c.window_bytes);
            assert_true(t.ndim == 1 && t.shape[0] == counts[b] && t.dtype == dtypes[b]);
        }
        assert_code(worker, tsm_domain_buffer(d, chip, "none", &t), TSM_ENOENT);
        assert_text(worker, "has no buffer 'none'");
    }
    return 0;
}

static void two_chips_get_ranks_and_buffers_inside_their_windows(void **state)
{
    (void)state;
    start(2, 0);
    run(ranks_orch);
    harness_close(worker);
}

static int align_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    const struct tsm_buffer_spec buffers[] = {{.name = "a", .bytes = 1},
                                              {.name = "b", .bytes = 1, .align = 1024},
                                              {.name = "c", .bytes = 1}};
    struct tsm_domain_opts opts = help_domain_opts("aligned", CHIPS(0), 3);
    opts.buffers = buffers;
    opts.buffer_count = COUNT(buffers);
    tsm_domain *d;
    struct tsm_domain_context c;
    struct tsm_tensor t;
    const uint64_t offsets[] = {0, 1024, 1088};
    assert_code(worker, tsm_domain_alloc(o, &opts, &d), 0);
    assert_code(worker, tsm_domain_context(d, 0, &c), 0);
    assert_true(c.window_bytes >= 1089);
    for (uint32_t i = 0; i < 3; i++) {
        assert_code(worker, tsm_domain_buffer(d, 0, buffers[i].name, &t), 0);
        assert_int_equal(help_pointer(t.data) - help_pointer(c.window), offsets[i]);
    }
    /* Every byte of the real window can be used. */
    return help_submit(o, fill, 0, d, SCALARS(help_pointer(c.window), c.window_bytes, 1), NULL);
}

static void alignment_comes_on_top_of_the_window_and_the_context_tells_the_real_size(void **state)
{
    (void)state;
    start(1, 0);
    run(align_orch);
    harness_close(worker);
}

static int nonmember_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d;
    struct tsm_domain_context c;
    struct tsm_tensor t;
    assert_code(worker, help_alloc(o, "pair", CHIPS(0, 2), 64, &d), 0);
    const int strangers[] = {1, -1, 1000};
    for (uint32_t i = 0; i < COUNT(strangers); i++) {
        assert_code(worker, tsm_domain_context(d, strangers[i], &c), TSM_ENOENT);
        assert_text(worker, "is not a member of domain 'pair'");
        assert_code(worker, tsm_domain_buffer(d, strangers[i], "x", &t), TSM_ENOENT);
    }
    assert_code(worker, tsm_domain_release(d), 0);
    assert_code(worker, tsm_domain_context(d, 0, &c), TSM_ESTALE);
    assert_text(worker, "'pair'");
    assert_code(worker, tsm_domain_buffer(d, 0, "x", &t), TSM_ESTALE);
    assert_code(worker, help_submit(o, work, 0, d, NULL, 0, NULL), TSM_ESTALE);
    assert_text(worker, "domain 0: 'pair'");
    return 0;
}

static void asking_for_a_chip_that_is_no_member_or_after_release_is_an_error(void **state)
{
    (void)state;
    start(3, 0);
    run(nonmember_orch);
    harness_close(worker);
}

/* Fails unless it sees rank and size, and the windows of all ranks as the orchestrator gave them. */
static int member_task(tsm_task *t)
{
    const tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    if (!c || tsm_rank(c) != tsm_task_scalar(t, 0) || tsm_at(c, 0, &s) != 0) {
        return tsm_fail(t, "rank");
    }
    for (uint32_t r = 0; r < tsm_size(c); r++) {
        if (help_pointer(tsm_ptr(c, s, r)) != tsm_task_scalar(t, 1 + r)) {
            return tsm_fail(t, "window of rank %u", r);
        }
    }
    return 0;
}

static tsm_callable member;

static void submit_members(tsm_orch *o, tsm_domain *d, const int *chips, uint32_t count)
{
    for (uint32_t r = 0; r < count; r++) {
        uint64_t scalars[4] = {r};
        for (uint32_t k = 0; k < count; k++) {
            scalars[1 + k] = help_pointer(help_window(d, chips[k]));
        }
        assert_code(worker, help_submit(o, member, chips[r], d, scalars, 1 + count, NULL), 0);
    }
}

static int overlap_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *even, *odd, *low, *high;
    assert_code(worker, help_alloc(o, "even", CHIPS(0, 2), 1000, &even), 0);
    assert_code(worker, help_alloc(o, "odd", CHIPS(1, 3), 1000, &odd), 0);
    assert_code(worker, help_alloc(o, "low", CHIPS(0, 1, 2), 1000, &low), 0);
    assert_code(worker, help_alloc(o, "high", CHIPS(1, 2, 3), 1000, &high), 0);
    struct tsm_domain_context a, b;
    for (int chip = 1; chip < 3; chip++) {
        assert_code(worker, tsm_domain_context(low, chip, &a), 0);
        assert_code(worker, tsm_domain_context(high, chip, &b), 0);
        assert_int_equal(a.rank, chip);
        assert_int_equal(b.rank, chip - 1);
        assert_true(a.window != b.window);
    }
    submit_members(o, even, CHIPS(0, 2));
    submit_members(o, odd, CHIPS(1, 3));
    submit_members(o, low, CHIPS(0, 1, 2));
    submit_members(o, high, CHIPS(1, 2, 3));
    assert_int_equal(help_stats(worker).domains_live, 4);
    return 0;
}

static void disjoint_and_overlapping_domains_live_together(void **state)
{
    (void)state;
    worker = harness_worker(harness_chips(4), 0);
    member = harness_register(worker, "member", member_task);
    harness_start(worker);
    run(overlap_orch);
    harness_close(worker);
}

/* ---- names ---- */

static int names_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d, *again, *other;
    assert_code(worker, help_alloc(o, "n", CHIPS(0), 64, &d), 0);
    assert_code(worker, help_submit(o, hold, 0, d, SCALARS(help_pointer(gate)), NULL), 0);
    uint64_t id = tsm_domain_id(d);
    assert_code(worker, help_alloc(o, "n", CHIPS(1), 64, &again), TSM_EEXIST);
    assert_text(worker, "'n'");
    assert_code(worker, tsm_domain_release(d), 0);
    assert_int_equal(tsm_domain_freed(d), 0); /* the name is free although the memory is not */
    assert_code(worker, help_alloc(o, "n", CHIPS(0), 64, &again), 0);
    assert_true(tsm_domain_id(again) > id);
    assert_code(worker, help_alloc(o, "m", CHIPS(0), 64, &other), 0);
    assert_true(tsm_domain_id(other) > tsm_domain_id(again));
    assert_true(help_window(again, 0) != help_window(other, 0));
    atomic_store(gate, 1);
    return 0;
}

static void a_live_name_is_refused_and_a_released_one_gets_a_larger_id(void **state)
{
    (void)state;
    start(2, 0);
    run(names_orch);
    harness_close(worker);
}

static int many_names_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    enum { MANY = 300 };
    static tsm_domain *all[MANY];
    char name[32];
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "domain %u", i);
        assert_code(worker, help_alloc(o, name, CHIPS((int)(i % 2)), 64, &all[i]), 0);
    }
    assert_int_equal(help_stats(worker).domains_live, MANY);
    for (uint32_t i = 0; i < MANY; i += 2) {
        assert_code(worker, tsm_domain_release(all[i]), 0);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        tsm_domain *d;
        snprintf(name, sizeof(name), "domain %u", i);
        assert_code(worker, help_alloc(o, name, CHIPS(0), 64, &d), i % 2 ? TSM_EEXIST : 0);
    }
    return 0;
}

static void hundreds_of_domains_live_together_under_their_names(void **state)
{
    (void)state;
    start(2, 0);
    run(many_names_orch);
    assert_int_equal(help_stats(worker).domains_live, 0);
    harness_close(worker);
}

/* ---- refusals ---- */

struct refusal {
    const char *text;
    struct tsm_domain_opts opts;
};

#define DOMAIN(...)                                                                                \
    {                                                                                              \
        .size = sizeof(struct tsm_domain_opts), __VA_ARGS__                                        \
    }
#define BUFFERS(...)                                                                               \
    .name = "d", .chips = pair, .chip_count = 2, .window_bytes = 4096,                             \
    .buffers = (const struct tsm_buffer_spec[]){__VA_ARGS__},                                      \
    .buffer_count =                                                                                \
        sizeof((const struct tsm_buffer_spec[]){__VA_ARGS__}) / sizeof(struct tsm_buffer_spec)

static const int pair[] = {0, 1}, twice[] = {0, 1, 0}, unknown[] = {0, 4096}, negative[] = {-1};
static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123";

static const struct refusal refusals[] = {
    {"opts", {.name = "d", .chips = pair, .chip_count = 2, .window_bytes = 64}},
    {"name is empty", DOMAIN(.chips = pair, .chip_count = 2, .window_bytes = 64)},
    {"name is empty", DOMAIN(.name = "", .chips = pair, .chip_count = 2, .window_bytes = 64)},
    {"63 bytes", DOMAIN(.name = long_name, .chips = pair, .chip_count = 2, .window_bytes = 64)},
    {"chips is empty", DOMAIN(.name = "d", .chips = pair, .window_bytes = 64)},
    {"chips is empty", DOMAIN(.name = "d", .chip_count = 1, .window_bytes = 64)},
    {"chips[2] names chip 0 again",
     DOMAIN(.name = "d", .chips = twice, .chip_count = 3, .window_bytes = 64)},
    {"chips[1] is 4096",
     DOMAIN(.name = "d", .chips = unknown, .chip_count = 2, .window_bytes = 64)},
    {"chips[0] is -1", DOMAIN(.name = "d", .chips = negative, .chip_count = 1, .window_bytes = 64)},
    {"window_bytes is 0", DOMAIN(.name = "d", .chips = pair, .chip_count = 2)},
    {"window_bytes is -1",
     DOMAIN(.name = "d", .chips = pair, .chip_count = 2, .window_bytes = UINT64_MAX)},
    {"buffers is NULL",
     DOMAIN(.name = "d", .chips = pair, .chip_count = 2, .window_bytes = 64, .buffer_count = 1)},
    {"buffer 1 is empty", DOMAIN(BUFFERS({.name = "x", .bytes = 1}, {.bytes = 1}))},
    {"buffer 0 is empty or too long", DOMAIN(BUFFERS({.name = long_name, .bytes = 1}))},
    {"'x' is named twice", DOMAIN(BUFFERS({.name = "x", .bytes = 1}, {.name = "y", .bytes = 1},
                                          {.name = "x", .bytes = 1}))},
    {"dtype of buffer 'x' is 99", DOMAIN(BUFFERS({.name = "x", .dtype = 99, .count = 1}))},
    {"'x' has no size", DOMAIN(BUFFERS({.name = "x", .dtype = TSM_F32}))},
    {"'x' is 10 elements of 4 bytes, but bytes is 41",
     DOMAIN(BUFFERS({.name = "x", .dtype = TSM_F32, .count = 10, .bytes = 41}))},
    {"'x' is too large",
     DOMAIN(BUFFERS({.name = "x", .dtype = TSM_F64, .count = UINT64_MAX / 8 + 2}))},
    {"'x' is too large", DOMAIN(BUFFERS({.name = "x", .bytes = UINT64_MAX}))},
    {"align of buffer 'x' is 48", DOMAIN(BUFFERS({.name = "x", .bytes = 1, .align = 48}))},
    {"need 4097 bytes, window_bytes is 4096",
     DOMAIN(BUFFERS({.name = "x", .bytes = 4096}, {.name = "y", .bytes = 1}))},
};

static int refusals_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d = NULL;
    for (uint32_t i = 0; i < COUNT(refusals); i++) {
        assert_code(worker, tsm_domain_alloc(o, &refusals[i].opts, &d), TSM_EINVAL);
        assert_text(worker, refusals[i].text);
        assert_null(d);
    }
    assert_code(worker, tsm_domain_alloc(o, NULL, &d), TSM_EINVAL);
    assert_code(worker, help_alloc(o, "d", CHIPS(0), 64, NULL), TSM_EINVAL);
    assert_code(worker, help_alloc(o, "d", CHIPS(0), UINT64_C(1) << 45, &d), TSM_ENOSPC);
    assert_null(d);
    return 0;
}

static void every_bad_option_is_refused_by_name_and_nothing_is_allocated(void **state)
{
    (void)state;
    start(2, 0);
    run(refusals_orch);
    struct tsm_stats s = help_stats(worker);
    assert_true(s.domains_live == 0 && s.lease_bytes == 0 && s.leases_fresh == 0 &&
                s.leases_reused == 0);
    harness_close(worker);
}

static tsm_orch *kept_orch;

static int remember_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    kept_orch = o;
    return 0;
}

static void allocation_outside_an_orchestration_function_is_refused(void **state)
{
    (void)state;
    tsm_domain *d = NULL;
    start(1, 0);
    assert_code(worker, help_alloc(NULL, "d", CHIPS(0), 64, &d), TSM_EINVAL);
    run(remember_orch);
    assert_code(worker, help_alloc(kept_orch, "d", CHIPS(0), 64, &d), TSM_ESTATE);
    assert_text(worker, "only inside the orchestration function");
    assert_null(d);
    assert_int_equal(help_stats(worker).lease_bytes, 0);
    harness_close(worker);
}

/* ---- released and freed ---- */

/* The task that holds the fence: on a member it need not even name the domain. */
struct holder {
    int chip;
    bool names;
    bool holds;
};

static int fence_orch(tsm_orch *o, void *arg)
{
    const struct holder *h = arg;
    tsm_domain *d;
    atomic_store(gate, 0);
    assert_code(worker, help_alloc(o, "d", CHIPS(0, 1), 256, &d), 0);
    assert_true(!tsm_domain_released(d) && !tsm_domain_freed(d));
    assert_code(
        worker,
        help_submit(o, hold, h->chip, h->names ? d : NULL, SCALARS(help_pointer(gate)), NULL), 0);
    assert_code(worker, tsm_domain_release(d), 0);
    assert_true(tsm_domain_released(d));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(tsm_domain_freed(d), !h->holds);
    }
    assert_int_equal(help_stats(worker).domains_live, h->holds);
    atomic_store(gate, 1);
    if (h->chip >= 0) {
        help_wait_for_chip(o, work, h->chip);
    }
    while (!tsm_domain_freed(d)) { /* a sub worker has no chip to wait for; the alarm bounds it */
    }
    assert_true(tsm_domain_released(d));
    return 0;
}

static void a_released_domain_is_freed_when_its_fence_is_reached(void **state)
{
    (void)state;
    static const struct holder holders[] = {
        {0, true, true},       {1, false, true},  {2, true, true},
        {TSM_SUB, true, true}, {2, false, false}, {TSM_SUB, false, false},
    };
    start(3, 2);
    for (uint32_t i = 0; i < COUNT(holders); i++) {
        assert_code(worker, tsm_worker_run(worker, fence_orch, (void *)(uintptr_t)&holders[i]), 0);
    }
    harness_close(worker);
}

/* A window as a tensor names the domain, too. */
static int tensor_fence_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    const struct tsm_buffer_spec buffer = {.name = "x", .dtype = TSM_U64, .count = 4};
    struct tsm_domain_opts opts = help_domain_opts("d", CHIPS(0), 64);
    opts.buffers = &buffer;
    opts.buffer_count = 1;
    tsm_domain *d;
    struct tsm_tensor t;
    atomic_store(gate, 0);
    assert_code(worker, tsm_domain_alloc(o, &opts, &d), 0);
    assert_code(worker, tsm_domain_buffer(d, 0, "x", &t), 0);
    t.tag = TSM_NO_DEP;
    int rc = help_submit_tensor(o, hold, 1, NULL, &t, SCALARS(help_pointer(gate)), NULL);
    assert_code(worker, rc, 0);
    assert_code(worker, tsm_domain_release(d), 0);
    assert_int_equal(tsm_domain_freed(d), 0);
    rc = help_submit_tensor(o, hold, 1, NULL, &t, SCALARS(help_pointer(gate)), NULL);
    assert_code(worker, rc, TSM_ESTALE);
    assert_text(worker, "released domain");
    atomic_store(gate, 1);
    help_wait_for_chip(o, work, 1);
    assert_int_equal(tsm_domain_freed(d), 1);
    return 0;
}

static void a_window_given_as_a_tensor_holds_the_fence(void **state)
{
    (void)state;
    start(2, 0);
    run(tensor_fence_orch);
    harness_close(worker);
}

static int twice_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d, *a, *b;
    assert_code(worker, help_alloc(o, "d", CHIPS(0), 256, &d), 0);
    assert_code(worker, help_submit(o, work, 0, d, NULL, 0, NULL), 0);
    for (int i = 0; i < 3; i++) {
        assert_code(worker, tsm_domain_release(d), 0);
    }
    help_wait_for_chip(o, work, 0);
    assert_code(worker, tsm_domain_release(d), 0);
    assert_int_equal(tsm_domain_freed(d), 1);
    assert_code(worker, tsm_domain_release(d), 0);
    assert_int_equal(help_stats(worker).domains_live, 0);
    /* Freed once: the next two do not get the same memory. */
    assert_code(worker, help_alloc(o, "a", CHIPS(0), 256, &a), 0);
    assert_code(worker, help_alloc(o, "b", CHIPS(0), 256, &b), 0);
    assert_true(help_window(a, 0) != help_window(b, 0));
    return 0;
}

static void two_releases_are_one_free(void **state)
{
    (void)state;
    start(1, 0);
    run(twice_orch);
    struct tsm_stats s = help_stats(worker);
    assert_true(s.domains_live == 0 && s.leases_fresh == 2 && s.leases_reused == 1);
    harness_close(worker);
}

/* ---- freed, by its id ---- */

static uint64_t ids[3];

/* Two that a task holds, one of them too large to be zeroed here, and one that nobody does. */
static int ids_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    static const uint64_t bytes[] = {256, 4 << 20, 256};
    static const char *const names[] = {"small", "large", "free"};
    for (int i = 0; i < 3; i++) {
        tsm_domain *d;
        assert_code(worker, help_alloc(o, names[i], CHIPS(i == 2), bytes[i], &d), 0);
        ids[i] = tsm_domain_id(d);
        assert_int_equal(tsm_worker_domain_freed(worker, ids[i]), 0);
        if (i < 2) {
            assert_code(worker, help_submit(o, hold, 0, d, SCALARS(help_pointer(gate)), NULL), 0);
        }
        assert_code(worker, tsm_domain_release(d), 0);
        assert_int_equal(tsm_worker_domain_freed(worker, ids[i]), i == 2);
        assert_int_equal(tsm_domain_freed(d), i == 2);
    }
    return 0;
}

static void a_domain_is_asked_for_by_its_id_also_when_its_handle_has_ended(void **state)
{
    (void)state;
    tsm_run *handle;
    start(2, 0);
    assert_int_equal(tsm_worker_domain_freed(worker, 0), 1); /* there never was one */
    assert_int_equal(tsm_worker_domain_freed(worker, 1), 1);
    assert_code(worker, tsm_worker_submit_run(worker, ids_orch, NULL, &handle), 0);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 3; i++) {
            assert_int_equal(tsm_worker_domain_freed(worker, ids[i]), i == 2);
        }
        assert_int_equal(tsm_worker_domain_freed(worker, ids[2] + 1), 1);
    }
    atomic_store(gate, 1);
    for (int i = 0; i < 2; i++) {
        while (!tsm_worker_domain_freed(worker, ids[i])) { /* the alarm bounds it */
        }
    }
    assert_code(worker, tsm_run_wait(handle, -1), 0);
    tsm_run_release(handle);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(tsm_worker_domain_freed(worker, ids[i]), 1);
    }
    assert_code(worker, tsm_worker_close(worker), 0);
    assert_int_equal(tsm_worker_domain_freed(worker, ids[0]), 1);
    assert_int_equal(tsm_worker_domain_freed(NULL, ids[0]), 0);
    harness_close(worker);
}

/* The next owner of the same memory is another domain. */
static int reuse_orch(tsm_orch *o, void *arg)
{
    tsm_domain *d;
    uint64_t *id = arg;
    for (int i = 0; i < 100; i++) {
        assert_code(worker, help_alloc(o, "again", CHIPS(0, 1), 256, &d), 0);
        assert_true(tsm_domain_id(d) > *id);
        assert_int_equal(tsm_worker_domain_freed(worker, *id), 1);
        *id = tsm_domain_id(d);
        assert_int_equal(tsm_worker_domain_freed(worker, *id), 0);
        assert_code(worker, help_submit(o, work, 0, d, NULL, 0, NULL), 0);
        assert_code(worker, tsm_domain_release(d), 0);
        while (!tsm_worker_domain_freed(worker, *id)) {
        }
        assert_int_equal(tsm_domain_freed(d), 1);
    }
    return 0;
}

static void memory_that_is_used_again_belongs_to_another_id(void **state)
{
    (void)state;
    uint64_t id = 0;
    start(2, 0);
    assert_code(worker, tsm_worker_run(worker, reuse_orch, &id), 0);
    assert_in_range(help_stats(worker).leases_fresh, 1, 3);
    harness_close(worker);
}

/* ---- the end of the function ---- */

static int leave_orch(tsm_orch *o, void *arg)
{
    tsm_domain *d;
    assert_code(worker, help_alloc(o, "left", CHIPS(0, 1), 256, &d), 0);
    assert_code(worker, help_submit(o, work, 0, d, NULL, 0, NULL), 0);
    return *(const int *)arg;
}

static void a_function_that_fails_with_a_live_domain_leaves_nothing(void **state)
{
    (void)state;
    const int codes[] = {7, TSM_ENOENT, -12345, 0};
    start(2, 0);
    for (uint32_t i = 0; i < COUNT(codes); i++) {
        assert_code(worker, tsm_worker_run(worker, leave_orch, (void *)(uintptr_t)&codes[i]),
                    codes[i]);
        assert_int_equal(help_stats(worker).domains_live, 0);
    }
    run(names_orch);
    harness_close(worker);
}

static int failing_task_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *a, *b;
    assert_code(worker, help_alloc(o, "a", CHIPS(0, 1), 256, &a), 0);
    assert_code(worker, help_submit(o, fail, 0, a, NULL, 0, NULL), 0);
    tsm_domain_release(a);
    int rc = help_alloc(o, "b", CHIPS(0, 1), 256, &b);
    return rc != 0 ? rc : help_submit(o, work, 1, b, NULL, 0, NULL);
}

static void a_task_fails_and_the_domains_are_freed_all_the_same(void **state)
{
    (void)state;
    start(2, 0);
    for (int i = 0; i < 20; i++) {
        assert_code(worker, tsm_worker_run(worker, failing_task_orch, NULL), TSM_ETASK_FAILED);
        assert_text(worker, "on purpose");
        assert_int_equal(help_stats(worker).domains_live, 0);
    }
    run(twice_orch);
    harness_close(worker);
}

enum { SWEPT = 5 };
static void *swept[SWEPT];

static int sweep_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    char name[16];
    atomic_store(gate, 0);
    for (uint32_t i = 0; i < SWEPT; i++) {
        tsm_domain *d;
        snprintf(name, sizeof(name), "s%u", i);
        assert_code(worker, help_alloc(o, name, CHIPS(0), 256, &d), 0);
        swept[i] = help_window(d, 0);
    }
    return help_submit(o, hold, 0, NULL, SCALARS(help_pointer(gate)), NULL);
}

/* What was cleaned last is given out first, so the first allocated, released last, comes first. */
static int after_sweep_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    char name[16];
    for (uint32_t i = 0; i < SWEPT; i++) {
        tsm_domain *d;
        snprintf(name, sizeof(name), "t%u", i);
        assert_code(worker, help_alloc(o, name, CHIPS(0), 256, &d), 0);
        assert_ptr_equal(help_window(d, 0), swept[i]);
    }
    return 0;
}

static void domains_left_to_the_end_are_released_last_in_first_out(void **state)
{
    (void)state;
    tsm_run *handle;
    start(1, 0);
    assert_code(worker, tsm_worker_submit_run(worker, sweep_orch, NULL, &handle), 0);
    atomic_store(gate, 1);
    assert_code(worker, tsm_run_wait(handle, -1), 0);
    tsm_run_release(handle);
    run(after_sweep_orch);
    harness_close(worker);
}

static int same_name_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d;
    assert_code(worker, help_alloc(o, "same", CHIPS(0, 1), 256, &d), 0);
    for (int chip = 0; chip < 2; chip++) {
        assert_code(worker, help_submit(o, hold, chip, d, SCALARS(help_pointer(gate)), NULL), 0);
    }
    return 0;
}

static void two_runs_in_flight_may_leave_a_domain_of_the_same_name_to_the_sweep(void **state)
{
    (void)state;
    tsm_run *first, *second;
    start(2, 0);
    assert_code(worker, tsm_worker_submit_run(worker, same_name_orch, NULL, &first), 0);
    assert_code(worker, tsm_worker_submit_run(worker, same_name_orch, NULL, &second), 0);
    assert_int_equal(help_stats(worker).domains_live, 2);
    assert_true(!tsm_run_done(first) && !tsm_run_done(second));
    atomic_store(gate, 1);
    assert_code(worker, tsm_run_wait(second, -1), 0);
    assert_code(worker, tsm_run_wait(first, -1), 0);
    assert_int_equal(help_stats(worker).domains_live, 0);
    tsm_run_release(first);
    tsm_run_release(second);
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_chips_get_ranks_and_buffers_inside_their_windows),
        TEST(alignment_comes_on_top_of_the_window_and_the_context_tells_the_real_size),
        TEST(asking_for_a_chip_that_is_no_member_or_after_release_is_an_error),
        TEST(disjoint_and_overlapping_domains_live_together),
        TEST(a_live_name_is_refused_and_a_released_one_gets_a_larger_id),
        TEST(hundreds_of_domains_live_together_under_their_names),
        TEST(every_bad_option_is_refused_by_name_and_nothing_is_allocated),
        TEST(allocation_outside_an_orchestration_function_is_refused),
        TEST(a_released_domain_is_freed_when_its_fence_is_reached),
        TEST(a_domain_is_asked_for_by_its_id_also_when_its_handle_has_ended),
        TEST(memory_that_is_used_again_belongs_to_another_id),
        TEST(a_window_given_as_a_tensor_holds_the_fence),
        TEST(two_releases_are_one_free),
        TEST(a_function_that_fails_with_a_live_domain_leaves_nothing),
        TEST(a_task_fails_and_the_domains_are_freed_all_the_same),
        TEST(domains_left_to_the_end_are_released_last_in_first_out),
        TEST(two_runs_in_flight_may_leave_a_domain_of_the_same_name_to_the_sweep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

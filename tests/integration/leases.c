/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The memory behind domains: zero when it is given out, live until the fence, used again without a system call,
 * bounded by the budget; and locations in a window, which are checked on every use.
 */
#include <stdlib.h>

#include "domain_help.h"

static tsm_worker *worker;
static tsm_callable hold, dirty, check, fail, work, first_signal, first_wait, barrier, enter,
    desert;
static _Atomic uint64_t *gate;

/* Writes every byte of all windows of the domain (scalar 0: their bytes), and uses its barrier words. */
static int dirty_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    if (!c || tsm_at(c, tsm_task_scalar(t, 0) - 1, &s) != 0 || tsm_at(c, 0, &s) != 0) {
        return tsm_fail(t, "window");
    }
    for (uint32_t r = 0; r < tsm_size(c); r++) {
        memset(tsm_ptr(c, s, r), 0xa5, tsm_task_scalar(t, 0));
    }
    return 0;
}

/* Fails when a byte of any window is not zero. */
static int check_task(tsm_task *t)
{
    const tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    if (!c || tsm_at(c, 0, &s) != 0) {
        return tsm_fail(t, "window");
    }
    for (uint32_t r = 0; r < tsm_size(c); r++) {
        const uint8_t *bytes = tsm_ptr(c, s, r);
        uint64_t count = tsm_task_scalar(t, 0);
        if (bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0) {
            continue; /* all are as the first */
        }
        for (uint64_t i = 0; i < count; i++) {
            if (bytes[i] != 0) {
                return tsm_fail(t, "byte %llu of rank %u is %u", (unsigned long long)i, r,
                                bytes[i]);
            }
        }
    }
    return 0;
}

/* Scalar 0: how many barriers. They work only when the words behind the window start from zero. */
static int barrier_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    for (uint64_t i = 0; i < tsm_task_scalar(t, 0); i++) {
        int rc = tsm_barrier(c);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* The signal is the very first thing done with the domain. Scalars: value, rank. */
static int first_signal_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    return tsm_at(c, 0, &s) != 0 || tsm_signal(c, s, tsm_task_scalar(t, 0), TSM_SIGNAL_ADD,
                                               (uint32_t)tsm_task_scalar(t, 1)) != 0
               ? tsm_fail(t, "signal")
               : 0;
}

static int first_wait_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    uint64_t seen = 0;
    int rc = tsm_at(c, 0, &s);
    rc = rc != 0 ? rc : tsm_signal_wait_until(c, s, TSM_NE, 0, &seen, -1);
    return rc != 0 || seen != tsm_task_scalar(t, 0)
               ? tsm_fail(t, "%d, sees %llu", rc, (unsigned long long)seen)
               : 0;
}

/* Leaves the barrier words of the members out of step: rank 0 enters a barrier that rank 1 never comes to. */
static int enter_task(tsm_task *t)
{
    int rc = first_signal_task(t);
    return rc != 0 ? rc : tsm_barrier(tsm_task_domain(t, 0));
}

static int desert_task(tsm_task *t)
{
    int rc = first_wait_task(t);
    return rc != 0 ? rc : tsm_fail(t, "on purpose");
}

static void start_opts(uint32_t chips, uint64_t lease_bytes)
{
    worker = help_create_sized(harness_chips(chips), 0, 1u << 20, 16u << 20, lease_bytes);
    hold = harness_register(worker, "hold", help_gate_task);
    dirty = harness_register(worker, "dirty", dirty_task);
    check = harness_register(worker, "check", check_task);
    barrier = harness_register(worker, "barrier", barrier_task);
    enter = harness_register(worker, "enter", enter_task);
    desert = harness_register(worker, "desert", desert_task);
    fail = harness_register(worker, "fail", help_fail_task);
    work = harness_register(worker, "work", help_work_task);
    first_signal = harness_register(worker, "first_signal", first_signal_task);
    first_wait = harness_register(worker, "first_wait", first_wait_task);
    harness_start(worker);
    gate = help_gate(worker);
}

static void start(uint32_t chips)
{
    start_opts(chips, 1u << 30);
}

static void run(tsm_orch_fn *fn, void *arg)
{
    assert_code(worker, tsm_worker_run(worker, fn, arg), 0);
}

static uint64_t real_bytes(tsm_domain *d, int chip)
{
    struct tsm_domain_context c;
    assert_code(worker, tsm_domain_context(d, chip, &c), 0);
    return c.window_bytes;
}

/* ---- zero ---- */

struct shape {
    uint64_t bytes;
    uint32_t count;
    int chips[4];
};

/* Small windows are zeroed by the orchestrator, large ones by their owners. */
static const struct shape shapes[] = {
    {64, 1, {0}},
    {1, 2, {1, 0}},
    {5000, 3, {0, 1, 2}},
    {32768, 2, {0, 1}},
    {32832, 2, {0, 1}},
    {100001, 4, {3, 1, 0, 2}},
    {256u << 10, 2, {2, 3}},
    {1u << 20, 1, {1}},
};

static tsm_domain *alloc_shape(tsm_orch *o, const char *name, const struct shape *s)
{
    tsm_domain *d;
    assert_code(worker, help_alloc(o, name, s->chips, s->count, s->bytes, &d), 0);
    return d;
}

/* Everything checked, then everything dirtied, barrier words too. */
static void use_shape(tsm_orch *o, tsm_domain *d, const struct shape *s, uint64_t barriers)
{
    uint64_t bytes = real_bytes(d, s->chips[0]);
    uint32_t last = s->count - 1;
    assert_code(worker, help_submit(o, check, s->chips[last], d, &bytes, 1, NULL), 0);
    for (uint32_t r = 0; r < s->count; r++) {
        assert_code(worker, help_submit(o, barrier, s->chips[r], d, SCALARS(1 + barriers), NULL),
                    0);
    }
    assert_code(worker, help_submit(o, dirty, s->chips[0], d, &bytes, 1, NULL), 0);
}

static int zero_orch(tsm_orch *o, void *arg)
{
    struct harness_random *random = arg;
    for (uint32_t i = 0; i < 16; i++) {
        const struct shape *s = &shapes[harness_below(random, COUNT(shapes))];
        tsm_domain *d = alloc_shape(o, "d", s);
        use_shape(o, d, s, harness_below(random, 3));
        assert_code(worker, tsm_domain_release(d), 0);
    }
    return 0;
}

static void every_byte_of_a_lease_is_zero_when_it_is_given_out_again(void **state)
{
    (void)state;
    struct harness_random random;
    harness_random_init(&random, 1);
    start_opts(4, 8u << 20); /* so that the same leases come again in the middle of a run */
    for (uint32_t i = 0; i < harness_count(100); i++) {
        run(zero_orch, &random);
    }
    assert_true(help_stats(worker).leases_reused > harness_count(100));
    harness_close(worker);
}

static int desert_orch(tsm_orch *o, void *arg)
{
    const struct shape *s = arg;
    tsm_domain *d = alloc_shape(o, "d", s);
    int rc = help_submit(o, enter, s->chips[0], d, SCALARS(1, 1), NULL);
    return rc != 0 ? rc : help_submit(o, desert, s->chips[1], d, SCALARS(1), NULL);
}

static int dirty_and_fail_orch(tsm_orch *o, void *arg)
{
    const struct shape *s = arg;
    tsm_domain *d = alloc_shape(o, "d", s);
    uint64_t bytes = real_bytes(d, s->chips[0]);
    assert_code(worker, help_submit(o, dirty, s->chips[0], d, &bytes, 1, NULL), 0);
    assert_code(worker, help_submit(o, fail, s->chips[s->count - 1], d, &bytes, 1, NULL), 0);
    /* Some dirty it after the failure, some are skipped. */
    for (uint32_t i = 0; i < 4; i++) {
        int rc = help_submit(o, dirty, s->chips[i % s->count], d, &bytes, 1, NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int check_orch(tsm_orch *o, void *arg)
{
    const struct shape *s = arg;
    tsm_domain *d = alloc_shape(o, "d", s);
    uint64_t bytes = real_bytes(d, s->chips[0]);
    for (uint32_t r = 0; r < s->count; r++) {
        assert_code(worker, help_submit(o, barrier, s->chips[r], d, SCALARS(2), NULL), 0);
    }
    return help_submit(o, check, s->chips[0], d, &bytes, 1, NULL);
}

static void a_lease_is_zero_after_an_abort_too(void **state)
{
    (void)state;
    start(4);
    for (uint32_t i = 0; i < harness_count(20) * COUNT(shapes); i++) {
        void *s = (void *)(uintptr_t)&shapes[i % COUNT(shapes)];
        assert_code(worker, tsm_worker_run(worker, dirty_and_fail_orch, s), TSM_ETASK_FAILED);
        run(check_orch, s);
        if (shapes[i % COUNT(shapes)].count > 1) {
            assert_code(worker, tsm_worker_run(worker, desert_orch, s), TSM_ETASK_FAILED);
            run(check_orch, s);
        }
    }
    harness_close(worker);
}

static int copy_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    enum { BYTES = 70000 };
    static uint8_t ones[BYTES], back[BYTES];
    memset(ones, 1, BYTES);
    tsm_domain *d;
    help_stats(worker); /* the owners have been told to zero it, */
    help_wait_for_chip(o, work, 0);
    help_wait_for_chip(o, work, 1); /* and have done so */
    assert_code(worker, help_alloc(o, "d", CHIPS(0, 1), BYTES, &d), 0);
    for (int chip = 0; chip < 2; chip++) {
        uint8_t *window = help_window(d, chip);
        assert_code(worker, tsm_copy_from(o, chip, back, window, BYTES), 0);
        for (uint32_t i = 0; i < BYTES; i++) {
            assert_int_equal(back[i], 0);
        }
        assert_code(worker, tsm_copy_to(o, chip, window, ones, BYTES), 0);
        assert_code(worker, tsm_copy_from(o, chip, back, window, BYTES), 0);
        assert_memory_equal(ones, back, BYTES);
        assert_code(worker, tsm_copy_to(o, 1 - chip, window, ones, BYTES), TSM_EINVAL);
        assert_code(worker, tsm_copy_to(o, chip, window + BYTES, ones, 4096), TSM_ERANGE);
    }
    return 0;
}

static void a_window_that_only_copies_have_touched_is_zeroed_too(void **state)
{
    (void)state;
    start(2);
    for (int i = 0; i < 5; i++) {
        run(copy_orch, NULL);
    }
    assert_true(help_stats(worker).leases_reused > 0);
    harness_close(worker);
}

/* ---- the first signal ---- */

static void submit_half(tsm_orch *o, tsm_domain *d, const int *chips, uint32_t sender,
                        uint64_t value, bool sends)
{
    int rc = sends
                 ? help_submit(o, first_signal, chips[sender], d, SCALARS(value, 1 - sender), NULL)
                 : help_submit(o, first_wait, chips[1 - sender], d, SCALARS(value), NULL);
    assert_code(worker, rc, 0);
}

static int first_orch(tsm_orch *o, void *arg)
{
    struct harness_random *random = arg;
    for (uint64_t i = 1; i <= 25; i++) {
        const int chips[] = {(int)(i % 2), (int)(1 - i % 2)};
        uint64_t bytes = harness_below(random, 2) ? 64 : 80000;
        uint32_t sender = harness_below(random, 2);
        bool first = harness_below(random, 2) != 0;
        tsm_domain *d;
        assert_code(worker, help_alloc(o, "first", chips, 2, bytes, &d), 0);
        submit_half(o, d, chips, sender, i, first);
        submit_half(o, d, chips, sender, i, !first);
        assert_code(worker, tsm_domain_release(d), 0);
    }
    return 0;
}

static void a_signal_sent_as_the_first_act_is_never_lost(void **state)
{
    (void)state;
    /* The receiver late, the sender late, everybody late to begin, and late zeroing. */
    static const char *const delays[] = {"begin:delay=150:1:1",
                                         "begin:delay=150:1:0",
                                         "signal:delay=150,take:delay=50",
                                         "zero:delay=300",
                                         "lease:delay=100,zero:delay=100:1:1",
                                         ""};
    struct harness_random random;
    harness_random_init(&random, 7);
    for (uint32_t i = 0; i < COUNT(delays); i++) {
        setenv("TRANSOM_FAULT", delays[i], 1);
        start_opts(2, 4u << 20);
        for (uint32_t k = 0; k < harness_count(10); k++) {
            run(first_orch, &random);
        }
        harness_close(worker);
    }
}

/* ---- live until the fence ---- */

/* Scalars: device context, address of a buffer, gate; no domain, no tensor. */
static int late_task(tsm_task *t)
{
    const struct tsm_device_ctx *device = (const void *)(uintptr_t)tsm_task_scalar(t, 0);
    uint64_t *own = (void *)(uintptr_t)tsm_task_scalar(t, 1);
    for (uint32_t r = 0; r < device->size; r++) {
        const uint64_t *peer = (const void *)(uintptr_t)device->base[r];
        if (*peer != 100 + r) {
            return tsm_fail(t, "rank %u holds %llu", r, (unsigned long long)*peer);
        }
    }
    return *own == 100 + device->rank ? 0 : tsm_fail(t, "own buffer");
}

static tsm_callable late;

static int late_orch(tsm_orch *o, void *arg)
{
    uint64_t bytes = *(const uint64_t *)arg;
    tsm_domain *d, *next;
    atomic_store(gate, 0);
    assert_code(worker, help_alloc(o, "block", CHIPS(1, 0), bytes, &d), 0);
    struct tsm_domain_context c[2];
    for (uint32_t r = 0; r < 2; r++) {
        uint64_t x = 100 + r;
        int chip = 1 - (int)r;
        assert_code(worker, tsm_domain_context(d, chip, &c[r]), 0);
        assert_code(worker, tsm_copy_to(o, chip, c[r].window, &x, 8), 0);
    }
    assert_code(worker, help_submit(o, hold, 0, NULL, SCALARS(help_pointer(gate)), NULL), 0);
    for (uint32_t r = 0; r < 2; r++) { /* both behind the slow producer on chip 0 */
        assert_code(worker,
                    help_submit(o, late, 0, NULL,
                                SCALARS(help_pointer(c[r].device_ctx), help_pointer(c[r].window)),
                                NULL),
                    0);
    }
    assert_code(worker, tsm_domain_release(d), 0);
    /* Whoever comes next gets other memory. */
    for (int i = 0; i < 3; i++) {
        assert_code(worker, help_alloc(o, "block", CHIPS(1, 0), bytes, &next), 0);
        assert_true(help_window(next, 0) != c[1].window && help_window(next, 1) != c[0].window);
        uint64_t real = real_bytes(next, 0);
        assert_code(worker, help_submit(o, dirty, 1, next, &real, 1, NULL), 0);
        assert_code(worker, tsm_domain_release(next), 0);
    }
    assert_int_equal(tsm_domain_freed(d), 0);
    atomic_store(gate, 1);
    return 0;
}

static void a_late_task_with_plain_addresses_reads_live_memory_after_the_block(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {64, 1000, 70000, 2u << 20};
    worker = harness_worker(harness_chips(2), 0);
    hold = harness_register(worker, "hold", help_gate_task);
    late = harness_register(worker, "late", late_task);
    dirty = harness_register(worker, "dirty", dirty_task);
    harness_start(worker);
    gate = help_gate(worker);
    for (uint32_t i = 0; i < 3 * COUNT(sizes); i++) {
        run(late_orch, (void *)(uintptr_t)&sizes[i % COUNT(sizes)]);
    }
    harness_close(worker);
}

/* ---- cost ---- */

struct cost {
    uint64_t syscalls, mappings;
};

static int cost_orch(tsm_orch *o, void *arg)
{
    struct cost *cost = arg;
    tsm_domain *d[3];
    help_stats(worker); /* the owners have been told to zero what the last run left, */
    for (int chip = 0; chip < 3; chip++) {
        help_wait_for_chip(o, work, chip); /* and have done so */
    }
    static const struct shape wanted[] = {
        {64, 2, {0, 1}}, {5000, 3, {2, 1, 0}}, {1u << 20, 2, {1, 2}}};
    struct tsm_stats before = help_stats(worker);
    for (uint32_t i = 0; i < COUNT(wanted); i++) {
        char name[8] = {(char)('a' + i)};
        d[i] = alloc_shape(o, name, &wanted[i]);
    }
    struct tsm_stats after = help_stats(worker);
    cost->syscalls = after.syscalls - before.syscalls;
    cost->mappings = after.mappings - before.mappings;
    for (uint32_t i = 0; i < COUNT(wanted); i++) {
        use_shape(o, d[i], &wanted[i], 0);
    }
    return 0;
}

static void the_second_allocation_of_a_shape_makes_no_system_call_and_no_mapping(void **state)
{
    (void)state;
    struct cost cost;
    start(3);
    run(cost_orch, &cost);
    for (int i = 0; i < 10; i++) {
        run(cost_orch, &cost);
        assert_int_equal(cost.mappings, 0);
        assert_int_equal(cost.syscalls, 0);
    }
    struct tsm_stats s = help_stats(worker);
    assert_int_equal(s.leases_fresh, 3);
    assert_int_equal(s.leases_reused, 30);
    harness_close(worker);
}

/* ---- memory ---- */

enum { WINDOW = 64 << 20, FEW = 3 };

static int thousand_orch(tsm_orch *o, void *arg)
{
    uint32_t count = harness_count(1000);
    uint64_t *most = arg;
    for (uint32_t i = 0; i < count; i++) {
        tsm_domain *d;
        assert_code(worker, help_alloc(o, "step", CHIPS(0), WINDOW, &d), 0);
        if (i % 20 == 0) { /* zeroing so much each time would take too long */
            const uint64_t bytes = i % 200 == 0 ? WINDOW : 4096;
            assert_code(worker, help_submit(o, check, 0, d, &bytes, 1, NULL), 0);
            assert_code(worker, help_submit(o, dirty, 0, d, &bytes, 1, NULL), 0);
        }
        assert_code(worker, tsm_domain_release(d), 0);
        uint64_t bytes = help_arena_bytes();
        *most = bytes > *most ? bytes : *most;
    }
    return 0;
}

static void a_thousand_allocations_in_one_function_run_in_the_memory_of_a_few(void **state)
{
    (void)state;
    uint64_t most = 0;
    start_opts(1, FEW * (WINDOW + (8u << 20)));
    run(thousand_orch, &most);
    assert_true(most >= WINDOW && most < (uint64_t)(FEW + 1) * WINDOW);
    struct tsm_stats s = help_stats(worker);
    assert_true(s.leases_fresh <= FEW && s.leases_evicted == 0 && s.domains_live == 0);
    assert_true(s.lease_bytes <= FEW * (WINDOW + (8u << 20)));
    harness_close(worker);
}

/* ---- the budget ---- */

enum { UNIT = 100000 };
static uint64_t unit; /* what a lease of one window of UNIT bytes takes */

static int slow_task(tsm_task *t)
{
    (void)t;
    help_take(20000000);
    return 0;
}

static tsm_callable slow;

static int measure_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d;
    assert_code(worker, help_alloc(o, "d", CHIPS(0), UNIT, &d), 0);
    unit = help_stats(worker).lease_bytes;
    return 0;
}

static int evict_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d[4] = {NULL};
    char number[32];
    for (int chip = 0; chip < 3; chip++) { /* three shapes, all idle again */
        assert_code(worker, help_alloc(o, "idle", &chip, 1, UNIT, &d[0]), 0);
        assert_code(worker, tsm_domain_release(d[0]), 0);
    }
    assert_int_equal(help_stats(worker).leases_evicted, 0);
    /* The shape of chip 1 is there; for the second one the oldest goes, chip 0's; then chip 2's. */
    for (uint32_t i = 0; i < 3; i++) {
        const char name[] = {(char)('a' + i), 0};
        assert_code(worker, help_alloc(o, name, CHIPS(1), UNIT, &d[i]), 0);
        assert_int_equal(help_stats(worker).leases_evicted, i);
        assert_int_equal(help_stats(worker).lease_bytes, 3 * unit);
    }
    assert_code(worker, help_alloc(o, "d", CHIPS(1), UNIT, &d[3]), TSM_ENOSPC);
    snprintf(number, sizeof(number), "%llu bytes asked", (unsigned long long)unit);
    assert_text(worker, number);
    snprintf(number, sizeof(number), "the budget of %llu", (unsigned long long)(3 * unit));
    assert_text(worker, number);
    assert_null(d[3]);
    assert_int_equal(help_stats(worker).domains_live, 3);
    assert_code(worker, help_alloc(o, "d", CHIPS(0, 1, 2), 2 * UNIT, &d[3]), TSM_ENOSPC);
    assert_code(worker, tsm_domain_release(d[1]), 0);
    assert_code(worker, help_alloc(o, "d", CHIPS(2), UNIT, &d[3]), 0);
    return 0;
}

/* All three leases are behind slow tasks: the allocation waits for the oldest. */
static int oldest_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d[3], *more;
    for (int chip = 0; chip < 3; chip++) {
        const char name[] = {(char)('a' + chip), 0};
        assert_code(worker, help_alloc(o, name, &chip, 1, UNIT, &d[chip]), 0);
        for (int i = 0; i <= chip; i++) {
            assert_code(worker, help_submit(o, slow, chip, d[chip], NULL, 0, NULL), 0);
        }
        assert_code(worker, tsm_domain_release(d[chip]), 0);
    }
    assert_code(worker, help_alloc(o, "more", CHIPS(0, 1), UNIT / 4, &more), 0);
    assert_int_equal(tsm_domain_freed(d[0]), 1);
    assert_true(help_stats(worker).lease_bytes <= 3 * unit);
    return help_submit(o, check, 0, more, SCALARS(UNIT / 4), NULL);
}

static void at_the_budget_idle_leases_go_first_then_the_oldest_fence_is_waited_for(void **state)
{
    (void)state;
    start(1);
    run(measure_orch, NULL);
    harness_close(worker);
    worker = NULL;
    tsm_orch_fn *const orchs[] = {evict_orch, oldest_orch};
    for (uint32_t i = 0; i < COUNT(orchs); i++) {
        worker = help_create_sized(harness_chips(3), 0, 1u << 20, 0, 3 * unit);
        slow = harness_register(worker, "slow", slow_task);
        check = harness_register(worker, "check", check_task);
        harness_start(worker);
        run(orchs[i], NULL);
        harness_close(worker);
    }
}

/* ---- locations ---- */

/* Scalars: address to leave a location at. */
static int leave_sym_task(tsm_task *t)
{
    return tsm_at(tsm_task_domain(t, 0), 8, (void *)(uintptr_t)tsm_task_scalar(t, 0));
}

static int stale_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym fresh, stale;
    uint64_t x;
    memcpy(&stale, (const void *)(uintptr_t)tsm_task_scalar(t, 0), sizeof(stale));
    EXPECT(t, tsm_at(c, 64, &fresh), 0);
    EXPECT(t, tsm_ptr(c, stale, 0) != NULL, 0);
    EXPECT(t, tsm_signal(c, stale, 1, TSM_SIGNAL_SET, 0), TSM_ESTALE);
    EXPECT(t, tsm_signal_fetch(c, stale, &x), TSM_ESTALE);
    EXPECT(t, tsm_signal_wait_until(c, stale, TSM_EQ, 0, NULL, -1), TSM_ESTALE);
    EXPECT(t, tsm_all_reduce(c, fresh, stale, 1, TSM_U64, TSM_SUM), TSM_ESTALE);
    EXPECT(t, tsm_all_reduce(c, stale, fresh, 1, TSM_U64, TSM_SUM), TSM_ESTALE);
    return 0;
}

static int range_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t bytes = tsm_task_scalar(t, 0);
    uint64_t x = 0;
    tsm_sym s, end;
    EXPECT(t, tsm_task_domain(t, 1) != NULL, 0);
    EXPECT(t, tsm_at(c, bytes, &s), TSM_ERANGE);
    EXPECT(t, tsm_at(c, UINT64_MAX, &s), TSM_ERANGE);
    EXPECT(t, tsm_at(c, bytes - 8, &end), 0);
    EXPECT(t, tsm_signal(c, end, 5, TSM_SIGNAL_SET, tsm_rank(c)), 0);
    EXPECT(t, tsm_signal_fetch(c, end, &x), 0);
    EXPECT(t, x != 5, 0);
    EXPECT(t, tsm_signal(c, tsm_offset(end, 8), 5, TSM_SIGNAL_SET, 0), TSM_ERANGE);
    EXPECT(t, tsm_signal(c, tsm_offset(end, UINT64_MAX - 7), 5, TSM_SIGNAL_SET, 0), 0);
    EXPECT(t, tsm_signal(c, tsm_offset(end, 1 - bytes - 8), 5, TSM_SIGNAL_SET, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal(c, tsm_offset(end, -bytes), 5, TSM_SIGNAL_SET, 0), TSM_ERANGE);
    EXPECT(t, tsm_signal(c, tsm_offset(end, 4), 5, TSM_SIGNAL_SET, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal(c, end, 5, TSM_SIGNAL_SET, tsm_size(c)), TSM_ERANGE);
    EXPECT(t, tsm_signal(c, end, 5, 0, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal(c, end, 5, 3, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_wait_until(c, end, 0, 5, NULL, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_wait_until(c, end, 7, 5, NULL, 0), TSM_EINVAL);
    EXPECT(t, tsm_signal_wait_until(c, tsm_offset(end, 2), TSM_EQ, 5, NULL, 0), TSM_EINVAL);
    EXPECT(t, tsm_ptr(c, tsm_offset(end, 7), 0) == NULL, 0);
    EXPECT(t, tsm_ptr(c, tsm_offset(end, 8), 0) != NULL, 0);
    EXPECT(t, tsm_ptr(c, end, tsm_size(c)) != NULL, 0);
    EXPECT(t, tsm_notify(c, tsm_size(c)), TSM_ERANGE);
    EXPECT(t, tsm_buffer(c, "none", &s, NULL), TSM_ENOENT);
    return 0;
}

static int stranger_task(tsm_task *t)
{
    return tsm_task_domain_count(t) == 1 && !tsm_task_domain(t, 0) ? 0 : tsm_fail(t, "a member");
}

static tsm_callable leave_sym, stale, range, stranger;

static int locations_orch(tsm_orch *o, void *arg)
{
    tsm_domain *a, *b, *c;
    uint64_t at = help_pointer(arg);
    assert_code(worker, help_alloc(o, "a", CHIPS(0, 1), 256, &a), 0);
    void *window = help_window(a, 0);
    assert_code(worker, help_submit(o, leave_sym, 0, a, &at, 1, NULL), 0);
    assert_code(worker, tsm_domain_release(a), 0);
    help_wait_for_chip(o, work, 0);
    help_wait_for_chip(o, work, 1);
    assert_int_equal(tsm_domain_freed(a), 1);
    assert_code(worker, help_alloc(o, "b", CHIPS(0, 1), 256, &b), 0);
    assert_ptr_equal(help_window(b, 0), window); /* the same lease, of the next generation */
    assert_code(worker, help_submit(o, stale, 0, b, &at, 1, NULL), 0);
    assert_code(worker, help_alloc(o, "c", CHIPS(0, 1), 256, &c), 0);
    assert_code(worker, help_submit(o, stale, 0, c, &at, 1, NULL), 0); /* of another domain */
    for (int chip = 0; chip < 2; chip++) {
        assert_code(worker, help_submit(o, range, chip, b, SCALARS(256), NULL), 0);
    }
    assert_code(worker, help_submit(o, stranger, 2, b, NULL, 0, NULL), 0);
    return help_submit(o, stranger, TSM_SUB, b, NULL, 0, NULL);
}

static void stale_misaligned_and_far_locations_are_refused_inside_a_task(void **state)
{
    (void)state;
    void *at;
    worker = harness_worker(harness_chips(3), 1);
    leave_sym = harness_register(worker, "leave_sym", leave_sym_task);
    stale = harness_register(worker, "stale", stale_task);
    range = harness_register(worker, "range", range_task);
    stranger = harness_register(worker, "stranger", stranger_task);
    work = harness_register(worker, "work", help_work_task);
    harness_start(worker);
    assert_code(worker, tsm_buffer_create(worker, 64, &at), 0);
    run(locations_orch, at);
    harness_close(worker);
}

/* ---- many members ---- */

static int many_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t size = tsm_task_scalar(t, 0);
    enum { N = 40 };
    tsm_sym s;
    if (!c || tsm_size(c) != size || tsm_rank(c) != tsm_task_member(t) || tsm_at(c, 0, &s) != 0) {
        return tsm_fail(t, "context");
    }
    uint64_t *x = tsm_ptr(c, s, tsm_rank(c));
    for (uint64_t i = 0; i < N; i++) {
        x[i] = tsm_rank(c) * i;
    }
    EXPECT(t, tsm_barrier(c), 0);
    EXPECT(t, tsm_all_reduce(c, s, s, N, TSM_U64, TSM_SUM), 0);
    for (uint64_t i = 0; i < N; i++) {
        if (x[i] != size * (size - 1) / 2 * i) {
            return tsm_fail(t, "element %llu is %llu", (unsigned long long)i,
                            (unsigned long long)x[i]);
        }
    }
    return 0;
}

static tsm_callable many;

static int many_orch(tsm_orch *o, void *arg)
{
    uint64_t count = *(const uint64_t *)arg;
    int chips[HELP_GROUP_MAX];
    tsm_domain *d;
    for (uint32_t i = 0; i < count; i++) {
        chips[i] = (int)(count - 1 - i);
    }
    assert_code(worker, help_alloc(o, "all", chips, (uint32_t)count, 4096, &d), 0);
    assert_code(worker, help_submit_group(o, many, d, chips, (uint32_t)count, arg, 1), 0);
    return 0;
}

static void a_domain_of_256_members_works(void **state)
{
    (void)state;
    uint64_t count = harness_quick() ? 64 : 256;
    worker = harness_worker((uint32_t)count, 0);
    many = harness_register(worker, "many", many_task);
    harness_start(worker);
    for (int i = 0; i < 2; i++) {
        run(many_orch, &count);
    }
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_byte_of_a_lease_is_zero_when_it_is_given_out_again),
        TEST(a_lease_is_zero_after_an_abort_too),
        TEST(a_window_that_only_copies_have_touched_is_zeroed_too),
        TEST(a_signal_sent_as_the_first_act_is_never_lost),
        TEST(a_late_task_with_plain_addresses_reads_live_memory_after_the_block),
        TEST(the_second_allocation_of_a_shape_makes_no_system_call_and_no_mapping),
        TEST(a_thousand_allocations_in_one_function_run_in_the_memory_of_a_few),
        TEST(at_the_budget_idle_leases_go_first_then_the_oldest_fence_is_waited_for),
        TEST(stale_misaligned_and_far_locations_are_refused_inside_a_task),
        TEST(a_domain_of_256_members_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Waits inside tasks: what can move always does, in every order of submission; what nothing can end fails the run
 * with DEADLOCK, soon and by name; and what is only slow is never taken for it.
 */
#include "domain_help.h"

static tsm_worker *worker;
static tsm_callable sender, waiter, any, both, timed, slow, work;

/* Scalars: slot, value, rank. */
static int send_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_at(c, tsm_task_scalar(t, 0) * 8, &s);
    return rc != 0 ? rc
                   : tsm_signal(c, s, tsm_task_scalar(t, 1), TSM_SIGNAL_SET,
                                (uint32_t)tsm_task_scalar(t, 2));
}

/* Scalars: slot, value. */
static int wait_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_at(c, tsm_task_scalar(t, 0) * 8, &s);
    return rc != 0 ? rc : tsm_signal_wait_until(c, s, TSM_GE, tsm_task_scalar(t, 1), NULL, -1);
}

/* Scalars: slot, value. Any of that slot and the two beside it. */
static int any_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s[3];
    uint32_t which = 9;
    int rc = tsm_at(c, tsm_task_scalar(t, 0) * 8, &s[0]);
    s[1] = tsm_offset(s[0], 8);
    s[2] = tsm_offset(s[0], 16);
    rc = rc != 0 ? rc : tsm_signal_wait_any(c, s, 3, TSM_GE, tsm_task_scalar(t, 1), &which, -1);
    return rc != 0 || which < 3 ? rc : tsm_fail(t, "index %u of 3", which);
}

/* Scalars: slot, nanoseconds. */
static int timed_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_at(c, tsm_task_scalar(t, 0) * 8, &s);
    rc =
        rc != 0 ? rc : tsm_signal_wait_until(c, s, TSM_EQ, 1, NULL, (int64_t)tsm_task_scalar(t, 1));
    return rc == TSM_ETIMEOUT ? 0 : tsm_fail(t, "%s", tsm_code_name(rc));
}

/* Sends to the next rank, then waits for the one before; scalar 0: the other way round. */
static int both_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_at(c, 0, &s);
    for (uint64_t step = 0; step < 2 && rc == 0; step++) {
        if (step == tsm_task_scalar(t, 0)) {
            rc = tsm_signal(c, s, 1, TSM_SIGNAL_SET, (tsm_rank(c) + 1) % tsm_size(c));
        } else {
            rc = tsm_signal_wait_until(c, s, TSM_EQ, 1, NULL, -1);
        }
    }
    return rc;
}

/* Scalar 0: nanoseconds. */
static int slow_task(tsm_task *t)
{
    help_take(tsm_task_scalar(t, 0));
    return 0;
}

static void start(uint32_t chips, uint32_t subs, uint64_t lease_bytes)
{
    worker = help_create_sized(harness_chips(chips), subs, 4u << 20, 16u << 20, lease_bytes);
    sender = harness_register(worker, "sender", send_task);
    waiter = harness_register(worker, "waiter", wait_task);
    any = harness_register(worker, "any", any_task);
    both = harness_register(worker, "both", both_task);
    timed = harness_register(worker, "timed", timed_task);
    slow = harness_register(worker, "slow", slow_task);
    work = harness_register(worker, "work", help_work_task);
    harness_start(worker);
}

/* A domain "ring" with a buffer of 8 flags over the first chips. */
static tsm_domain *ring_domain(tsm_orch *o, uint32_t count)
{
    static const int chips[] = {0, 1, 2, 3};
    const struct tsm_buffer_spec flags = {.name = "flags", .dtype = TSM_U64, .count = 8};
    struct tsm_domain_opts opts = help_domain_opts("ring", chips, count, 64);
    opts.buffers = &flags;
    opts.buffer_count = 1;
    tsm_domain *d = NULL;
    assert_code(worker, tsm_domain_alloc(o, &opts, &d), 0);
    return d;
}

/* The run must end with DEADLOCK, soon. */
static void must_deadlock(tsm_orch_fn *fn, void *arg)
{
    uint64_t before = harness_now_ns();
    assert_code(worker, tsm_worker_run(worker, fn, arg), TSM_EDEADLOCK);
    assert_true(harness_now_ns() - before < (harness_quick() ? 5u : 1u) * UINT64_C(1000000000));
    assert_text(worker, "deadlock");
    assert_int_equal(help_stats(worker).domains_live, 0);
}

static int works_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d = ring_domain(o, 2);
    assert_code(worker, help_submit(o, waiter, 1, d, SCALARS(0, 1), NULL), 0);
    return help_submit(o, sender, 0, d, SCALARS(0, 1, 1), NULL);
}

/* After any failure the same worker runs the next graph. */
static void must_work(void)
{
    assert_code(worker, tsm_worker_run(worker, works_orch, NULL), 0);
}

/* ---- three chips in a ring ---- */

enum { RING = 3, STEPS = 2 * RING };

/* order[i] is the chip whose next task is submitted i-th: first its send, then its wait, or as `waits_first` says. */
struct interleaving {
    uint8_t order[STEPS];
    bool waits_first;
};

static int ring_orch(tsm_orch *o, void *arg)
{
    const struct interleaving *x = arg;
    uint32_t step[RING] = {0};
    tsm_domain *d = ring_domain(o, RING);
    for (uint32_t i = 0; i < STEPS; i++) {
        uint32_t chip = x->order[i];
        bool sends = (step[chip]++ == 0) != x->waits_first;
        int rc = sends
                     ? help_submit(o, sender, (int)chip, d, SCALARS(2, 5, (chip + 1) % RING), NULL)
                     : help_submit(o, waiter, (int)chip, d, SCALARS(2, 5), NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Calls fn with every order of two tasks of each of three chips: 90. */
static uint32_t every_order(struct interleaving *x, uint32_t depth, uint32_t *left,
                            void (*fn)(struct interleaving *x))
{
    uint32_t count = 0;
    if (depth == STEPS) {
        fn(x);
        return 1;
    }
    for (uint8_t chip = 0; chip < RING; chip++) {
        if (left[chip] > 0) {
            left[chip]--;
            x->order[depth] = chip;
            count += every_order(x, depth + 1, left, fn);
            left[chip]++;
        }
    }
    return count;
}

static void ring_must_work(struct interleaving *x)
{
    assert_code(worker, tsm_worker_run(worker, ring_orch, x), 0);
}

static void ring_must_deadlock(struct interleaving *x)
{
    static uint32_t turn;
    if (turn++ % (harness_quick() ? 30 : 6) != 0) { /* each takes some 20 ms */
        return;
    }
    must_deadlock(ring_orch, x);
    for (int chip = 0; chip < RING; chip++) {
        char line[160];
        snprintf(
            line, sizeof(line),
            "task 'waiter' on chip %d waits for slot 'flags'[2] of domain 'ring' (rank %d) >= 5, "
            "sees 0",
            chip, chip);
        assert_text(worker, line);
    }
    assert_true(tsm_worker_error(worker)->task != 0);
    must_work();
}

static void send_then_wait_in_every_order_of_submission_never_deadlocks(void **state)
{
    (void)state;
    struct interleaving x = {.waits_first = false};
    uint32_t left[RING] = {2, 2, 2};
    start(RING, 0, 1u << 26);
    for (uint32_t i = 0; i < harness_count(10); i++) {
        assert_int_equal(every_order(&x, 0, left, ring_must_work), 90);
    }
    harness_close(worker);
}

static void wait_then_send_in_any_order_is_a_deadlock_named_in_full(void **state)
{
    (void)state;
    struct interleaving x = {.waits_first = true};
    uint32_t left[RING] = {2, 2, 2};
    start(RING, 0, 1u << 26);
    assert_int_equal(every_order(&x, 0, left, ring_must_deadlock), 90);
    harness_close(worker);
}

static int group_orch(tsm_orch *o, void *arg)
{
    return help_submit_group(o, both, ring_domain(o, RING), CHIPS(0, 1, 2), arg, 1);
}

static void send_and_wait_in_one_task_per_chip_as_a_group_works(void **state)
{
    (void)state;
    uint64_t waits_first = 0;
    start(RING, 0, 1u << 26);
    for (uint32_t i = 0; i < harness_count(500); i++) {
        assert_code(worker, tsm_worker_run(worker, group_orch, &waits_first), 0);
    }
    waits_first = 1;
    must_deadlock(group_orch, &waits_first);
    assert_text(worker,
                "task 'both' on chip 2 waits for slot 'flags'[0] of domain 'ring' (rank 2) == 1");
    must_work();
    harness_close(worker);
}

/* ---- what else can be in the cycle ---- */

static int orphan_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return help_submit(o, waiter, 1, ring_domain(o, 2), SCALARS(7, 9), NULL);
}

static void a_wait_that_nobody_will_ever_end_is_a_deadlock(void **state)
{
    (void)state;
    start(2, 1, 1u << 26);
    for (int i = 0; i < 5; i++) {
        must_deadlock(orphan_orch, NULL);
        assert_text(worker,
                    "task 'waiter' on chip 1 waits for slot 'flags'[7] of domain 'ring' (rank 1) "
                    ">= 9, sees 0");
        assert_int_equal(tsm_worker_error(worker)->chip, 1);
        must_work();
    }
    harness_close(worker);
}

/* Two wait for any of several signals, which only the other one could send after its own wait. */
static int any_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d = ring_domain(o, 2);
    int rc = help_submit(o, any, 0, d, SCALARS(3, 7), NULL);
    rc = rc != 0 ? rc : help_submit(o, any, 1, d, SCALARS(0, 5), NULL);
    rc = rc != 0 ? rc : help_submit(o, sender, 0, d, SCALARS(1, 5, 1), NULL);
    return rc != 0 ? rc : help_submit(o, sender, 1, d, SCALARS(5, 7, 0), NULL);
}

static void a_wait_for_any_of_several_signals_is_named_with_their_number_and_the_first(void **state)
{
    (void)state;
    start(2, 1, 1u << 26);
    for (int i = 0; i < 5; i++) {
        must_deadlock(any_orch, NULL);
        assert_text(worker, "task 'any' on chip 0 waits for any of 3 signals, the first slot "
                            "'flags'[3] of domain 'ring' (rank 0) >= 7");
        assert_text(worker, "task 'any' on chip 1 waits for any of 3 signals, the first slot "
                            "'flags'[0] of domain 'ring' (rank 1) >= 5");
        must_work();
    }
    harness_close(worker);
}

static int barrier_task(tsm_task *t)
{
    return tsm_barrier(tsm_task_domain(t, 0));
}

static tsm_callable barrier;

static int lonely_barrier_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return help_submit(o, barrier, 0, ring_domain(o, 2), NULL, 0, NULL);
}

static void a_barrier_that_a_member_never_enters_is_a_deadlock(void **state)
{
    (void)state;
    worker = harness_worker(harness_chips(2), 0);
    barrier = harness_register(worker, "barrier", barrier_task);
    harness_start(worker);
    must_deadlock(lonely_barrier_orch, NULL);
    assert_text(
        worker,
        "task 'barrier' on chip 0 waits for barrier() of domain 'ring': a message of rank 1 "
        "(rank 0)");
    harness_close(worker);
}

/* The waiter on chip 0 writes what the sender reads: an edge back to the waiter. sub: over a sub worker. */
static int edge_orch(tsm_orch *o, void *arg)
{
    bool sub = *(const bool *)arg;
    tsm_domain *d = ring_domain(o, 2);
    void *memory;
    assert_code(worker, tsm_alloc(o, TSM_HOST, 128, &memory), 0);
    struct tsm_tensor out = {.data = memory, .dtype = TSM_U64, .tag = TSM_OUTPUT};
    struct tsm_tensor in = {.data = memory, .dtype = TSM_U64, .tag = TSM_INOUT};
    int rc = help_submit_tensor(o, waiter, 0, d, &out, SCALARS(0, 1), NULL);
    if (sub && rc == 0) {
        rc = help_submit_tensor(o, work, TSM_SUB, NULL, &in, NULL, 0, NULL);
    }
    return rc != 0 ? rc : help_submit_tensor(o, sender, 1, d, &in, SCALARS(0, 1, 0), NULL);
}

static void a_cycle_through_a_tag_edge_is_named_with_the_edge(void **state)
{
    (void)state;
    start(2, 1, 1u << 26);
    for (int i = 0; i < 4; i++) {
        bool sub = i % 2;
        must_deadlock(edge_orch, &sub);
        assert_text(worker, "task 'waiter' on chip 0 waits for slot 'flags'[0]");
        assert_text(worker, "the next task of chip 1 waits for ");
        assert_text(worker,
                    sub ? "task 'work' of the sub workers, which waits for record" : "record");
        assert_text(worker, "of chip 0");
        must_work();
    }
    harness_close(worker);
}

/* ---- the function itself is blocked ---- */

enum blocker { BLOCK_RING, BLOCK_HOST_WAIT, BLOCK_COPY, BLOCK_ALLOC };

static int block(tsm_orch *o, tsm_domain *d, enum blocker how, void *memory)
{
    int rc = 0;
    uint64_t x;
    switch (how) {
    case BLOCK_RING:
        for (uint32_t i = 0; i < 100000 && rc == 0; i++) {
            rc = help_submit(o, work, 0, NULL, NULL, 0, NULL);
        }
        return rc;
    case BLOCK_HOST_WAIT:
        return tsm_host_wait(worker, memory, 8, TSM_READ);
    case BLOCK_COPY:
        return tsm_copy_from(o, TSM_HOST, &x, memory, 8);
    default:
        assert_code(worker, tsm_domain_release(d), 0);
        return help_alloc(o, "more", CHIPS(0, 1), 64000, &d);
    }
}

/* The sender would be submitted after a call that can never return. */
static int blocked_orch(tsm_orch *o, void *arg)
{
    enum blocker how = *(const enum blocker *)arg;
    void *memory;
    tsm_domain *d = ring_domain(o, 2);
    assert_code(worker, tsm_alloc(o, TSM_HOST, 64, &memory), 0);
    struct tsm_tensor out = {.data = memory, .dtype = TSM_U64, .tag = TSM_OUTPUT};
    assert_code(worker, help_submit_tensor(o, waiter, 0, d, &out, SCALARS(0, 1), NULL), 0);
    int rc = block(o, d, how, memory);
    assert_code(worker, rc, TSM_EDEADLOCK);
    assert_text(worker, "the orchestration function waits for record ");
    if (how == BLOCK_RING) {
        assert_text(worker, "of chip 0 (its ring holds ");
    }
    return rc;
}

static void a_function_that_blocks_before_it_can_send_is_part_of_the_deadlock(void **state)
{
    (void)state;
    static enum blocker hows[] = {BLOCK_RING, BLOCK_HOST_WAIT, BLOCK_COPY, BLOCK_ALLOC};
    for (uint32_t i = 0; i < COUNT(hows); i++) {
        start(2, 0, 256u << 10);
        must_deadlock(blocked_orch, &hows[i]);
        assert_text(worker,
                    "task 'waiter' on chip 0 waits for slot 'flags'[0] of domain 'ring' (rank 0) "
                    ">= 1, sees 0");
        must_work();
        harness_close(worker);
    }
}

/* ---- only slow ---- */

static int slow_copy(tsm_orch *o, int chip, uint64_t nanoseconds)
{
    void *memory;
    uint64_t x;
    int rc = tsm_alloc(o, chip, 64, &memory);
    struct tsm_tensor out = {.data = memory, .dtype = TSM_U64, .tag = TSM_OUTPUT};
    rc = rc != 0 ? rc : help_submit_tensor(o, slow, chip, NULL, &out, &nanoseconds, 1, NULL);
    return rc != 0 ? rc : tsm_copy_from(o, chip, &x, memory, 8);
}

/* The signaller comes after calls that block for a while, or behind slow tasks; waits with a timeout between. */
static int late_orch(tsm_orch *o, void *arg)
{
    struct harness_random *random = arg;
    tsm_domain *d = ring_domain(o, 3);
    bool several = harness_below(random, 2);
    uint32_t slot = several ? harness_below(random, 3) : 0;
    int rc = help_submit(o, several ? any : waiter, 1, d, SCALARS(0, 1), NULL);
    for (uint32_t i = harness_below(random, 4); i > 0 && rc == 0; i--) {
        uint64_t time = harness_below(random, 3) ? harness_below(random, 300000)
                                                 : harness_below(random, 25000000);
        switch (harness_below(random, 4)) {
        case 0:
            rc = slow_copy(o, 2, time);
            break;
        case 1:
            rc = help_submit(o, slow, 2, NULL, &time, 1, NULL);
            break;
        case 2:
            rc = help_submit(o, timed, 2, d, SCALARS(5, time), NULL);
            break;
        default:
            rc = slow_copy(o, 0, time / 4);
        }
    }
    return rc != 0 ? rc : help_submit(o, sender, 2, d, SCALARS(slot, 1, 1), NULL);
}

static void slow_tasks_late_signallers_and_timeouts_are_no_deadlock(void **state)
{
    (void)state;
    struct harness_random random;
    start(3, 1, 1u << 26);
    for (uint32_t seed = 0; seed < harness_count(300); seed++) {
        harness_random_init(&random, seed);
        assert_code(worker, tsm_worker_run(worker, late_orch, &random), 0);
    }
    harness_close(worker);
}

static tsm_domain *kept;

static int first_run_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    assert_code(worker, help_alloc_kept(o, "kept", CHIPS(0, 1), 64, &kept), 0);
    return help_submit(o, waiter, 0, kept, SCALARS(0, 1), NULL);
}

static int second_run_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return help_submit(o, sender, 1, kept, SCALARS(0, 1, 0), NULL);
}

static void a_later_run_may_send_what_an_earlier_one_waits_for(void **state)
{
    (void)state;
    tsm_run *first, *second;
    start(2, 0, 1u << 26);
    for (int i = 0; i < 5; i++) {
        assert_code(worker, tsm_worker_submit_run(worker, first_run_orch, NULL, &first), 0);
        assert_code(worker, tsm_run_wait(first, 60000000), TSM_ETIMEOUT);
        assert_code(worker, tsm_worker_submit_run(worker, second_run_orch, NULL, &second), 0);
        assert_code(worker, tsm_run_wait(second, -1), 0);
        assert_code(worker, tsm_run_wait(first, -1), 0);
        tsm_run_release(first);
        tsm_run_release(second);
        assert_code(worker, tsm_domain_release(kept), 0);
    }
    /* With nobody left who could send, a wait for ever says so. */
    assert_code(worker, tsm_worker_submit_run(worker, first_run_orch, NULL, &first), 0);
    assert_code(worker, tsm_run_wait(first, -1), TSM_EDEADLOCK);
    assert_text(worker, "of domain 'kept' (rank 0) >= 1, sees 0");
    assert_int_equal(tsm_domain_broken(kept), 1);
    tsm_run_release(first);
    harness_close(worker);
}

/* A run that deadlocks behind one that works, and in front of one: only it fails. */
static void a_deadlock_fails_its_own_run_only(void **state)
{
    (void)state;
    tsm_run *runs[3];
    start(3, 0, 1u << 26);
    for (int i = 0; i < 5; i++) {
        assert_code(worker, tsm_worker_submit_run(worker, works_orch, NULL, &runs[0]), 0);
        assert_code(worker, tsm_worker_submit_run(worker, orphan_orch, NULL, &runs[1]), 0);
        assert_code(worker, tsm_worker_submit_run(worker, works_orch, NULL, &runs[2]), 0);
        assert_code(worker, tsm_run_wait(runs[2], -1), 0);
        assert_code(worker, tsm_run_wait(runs[1], -1), TSM_EDEADLOCK);
        assert_code(worker, tsm_run_wait(runs[0], -1), 0);
        for (int k = 0; k < 3; k++) {
            tsm_run_release(runs[k]);
        }
    }
    harness_close(worker);
}

static tsm_callable fail;

/* A task that fails while others wait is the cause; they are not taken for a deadlock. */
static int fail_orch(tsm_orch *o, void *arg)
{
    struct harness_random *random = arg;
    tsm_domain *d = ring_domain(o, 2);
    uint64_t time = harness_below(random, 200000);
    int rc = help_submit(o, slow, 1, NULL, &time, 1, NULL);
    rc = rc != 0 ? rc : help_submit(o, fail, 1, NULL, NULL, 0, NULL);
    rc = rc != 0 ? rc : help_submit(o, waiter, 0, d, SCALARS(0, 1), NULL);
    return rc == TSM_EABORTED ? 0 : rc;
}

static void a_failure_while_others_wait_is_not_taken_for_a_deadlock(void **state)
{
    (void)state;
    struct harness_random random;
    harness_random_init(&random, 1);
    worker = harness_worker(2, 0); /* more chips would only take turns */
    waiter = harness_register(worker, "waiter", wait_task);
    slow = harness_register(worker, "slow", slow_task);
    fail = harness_register(worker, "fail", help_fail_task);
    harness_start(worker);
    for (uint32_t i = 0; i < harness_count(1000); i++) {
        assert_code(worker, tsm_worker_run(worker, fail_orch, &random), TSM_ETASK_FAILED);
        assert_text(worker, "on purpose");
        assert_null(strstr(tsm_worker_error(worker)->text, "deadlock"));
    }
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(send_then_wait_in_every_order_of_submission_never_deadlocks),
        TEST(wait_then_send_in_any_order_is_a_deadlock_named_in_full),
        TEST(send_and_wait_in_one_task_per_chip_as_a_group_works),
        TEST(a_wait_that_nobody_will_ever_end_is_a_deadlock),
        TEST(a_wait_for_any_of_several_signals_is_named_with_their_number_and_the_first),
        TEST(a_barrier_that_a_member_never_enters_is_a_deadlock),
        TEST(a_cycle_through_a_tag_edge_is_named_with_the_edge),
        TEST(a_function_that_blocks_before_it_can_send_is_part_of_the_deadlock),
        TEST(slow_tasks_late_signallers_and_timeouts_are_no_deadlock),
        TEST(a_later_run_may_send_what_an_earlier_one_waits_for),
        TEST(a_deadlock_fails_its_own_run_only),
        TEST(a_failure_while_others_wait_is_not_taken_for_a_deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

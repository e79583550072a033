/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Chaos mode: programs with one mistake each, of the kind that works on every machine of its author. Without chaos mode
 * they come out right most of the time, with it they are caught within a few seeds; and the same program without the
 * mistake is right with every seed. Run r of a worker takes seed TRANSOM_CHAOS + r - 1, so one worker goes through
 * them all. TRANSOM_TEST_SEED=n: seed n only.
 */
#include "domain_help.h"

enum {
    SEEDS_WRONG = 32,
    SEEDS_RIGHT = 1000,
    RUNS_CALM = 30,
    WORDS = 64,
    FLAG = 0, /* offsets in every window */
    ACK = 64,
    DATA = 1024,
    MORE = 2048,
    WINDOW = 4096
};
#define PATIENCE_NS INT64_C(300000000)

/* What a task of a program finds at its begin. */
struct scene {
    tsm_ctx *c;
    tsm_sym flag, ack, data, more;
    uint32_t rank;
    bool right;      /* scalar 0 */
    int64_t wait_ns; /* the wrong one may wait for what never comes */
};

static int scene_set(tsm_task *t, struct scene *s)
{
    s->c = tsm_task_domain(t, 0);
    s->rank = tsm_rank(s->c);
    s->right = tsm_task_scalar(t, 0) != 0;
    s->wait_ns = s->right ? -1 : PATIENCE_NS;
    EXPECT(t, tsm_at(s->c, FLAG, &s->flag), 0);
    EXPECT(t, tsm_at(s->c, ACK, &s->ack), 0);
    EXPECT(t, tsm_at(s->c, DATA, &s->data), 0);
    EXPECT(t, tsm_at(s->c, MORE, &s->more), 0);
    return 0;
}

static int wait_for_value(tsm_task *t, const struct scene *s, tsm_sym signal, uint64_t value)
{
    EXPECT(t, tsm_signal_wait_until(s->c, signal, TSM_GE, value, NULL, s->wait_ns), 0);
    return 0;
}

static void fill(uint64_t *words, uint64_t value)
{
    for (uint32_t i = 0; i < WORDS; i++) {
        words[i] = value;
    }
}

static int all_are(tsm_task *t, const volatile uint64_t *words, uint64_t value)
{
    for (uint32_t i = 0; i < WORDS; i++) {
        if (words[i] != value) {
            return tsm_fail(t, "word %u is %llu, not %llu", i, (unsigned long long)words[i],
                            (unsigned long long)value);
        }
    }
    return 0;
}

static int own_are(tsm_task *t, const struct scene *s, tsm_sym at, uint64_t value)
{
    return all_are(t, tsm_ptr(s->c, at, s->rank), value);
}

/* ---- order between a put and its flag ---- */

static int flag_put_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc != 0 || s.rank == 1) {
        rc = rc != 0 ? rc : wait_for_value(t, &s, s.flag, 1);
        return rc != 0 ? rc : own_are(t, &s, s.data, 7);
    }
    fill(buffer, 7);
    EXPECT(t, tsm_put(s.c, s.data, buffer, sizeof(buffer), 1), 0);
    EXPECT(t, s.right ? tsm_fence(s.c) : 0, 0);
    return tsm_p64(s.c, s.flag, 1, 1);
}

static int weak_signal_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc != 0 || s.rank == 1) {
        rc = rc != 0 ? rc : wait_for_value(t, &s, s.flag, 1);
        return rc != 0 ? rc : own_are(t, &s, s.data, 7);
    }
    fill(buffer, 7);
    EXPECT(t, tsm_put(s.c, s.data, buffer, sizeof(buffer), 1), 0);
    return tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET | (s.right ? TSM_SIGNAL_STRONG : 0), 1);
}

static int signal_first_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc != 0 || s.rank == 1) {
        rc = rc != 0 ? rc : wait_for_value(t, &s, s.flag, 1);
        return rc != 0 ? rc : own_are(t, &s, s.data, 7);
    }
    fill(buffer, 7);
    if (s.right) {
        return tsm_put_signal(s.c, s.data, buffer, sizeof(buffer), s.flag, 1, TSM_SIGNAL_SET, 1);
    }
    EXPECT(t, tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET, 1), 0);
    return tsm_put(s.c, s.data, buffer, sizeof(buffer), 1);
}

/* The wrong one takes the last word of the data for the flag. */
static int last_word_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc != 0 || s.rank == 1) {
        tsm_sym last = tsm_offset(s.data, (WORDS - 1) * 8);
        rc = rc != 0 ? rc : wait_for_value(t, &s, s.right ? s.flag : last, 1);
        return rc != 0 ? rc : own_are(t, &s, s.data, 7);
    }
    fill(buffer, 7);
    return tsm_put_signal(s.c, s.data, buffer, sizeof(buffer), s.flag, 1, TSM_SIGNAL_SET, 1);
}

/* Rank 1 tells rank 2, who tells rank 0 that its data is there. A fence orders nothing between two ranks. */
static int fence_for_quiet_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc == 0 && s.rank != 1) {
        rc = wait_for_value(t, &s, s.flag, 1);
    }
    if (rc != 0 || s.rank == 0) {
        return rc != 0 ? rc : own_are(t, &s, s.data, 7);
    }
    if (s.rank == 2) {
        return tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET, 0);
    }
    fill(buffer, 7);
    EXPECT(t, tsm_put(s.c, s.data, buffer, sizeof(buffer), 0), 0);
    EXPECT(t, s.right ? tsm_quiet(s.c) : tsm_fence(s.c), 0);
    return tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET, 2);
}

/* ---- what is not complete yet ---- */

static int source_reused_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc != 0 || s.rank == 1) {
        rc = rc != 0 ? rc : wait_for_value(t, &s, s.flag, 1);
        rc = rc != 0 ? rc : own_are(t, &s, s.data, 7);
        return rc != 0 ? rc : own_are(t, &s, s.more, 8);
    }
    fill(buffer, 7);
    EXPECT(t, tsm_put_nbi(s.c, s.data, buffer, sizeof(buffer), 1), 0);
    EXPECT(t, s.right ? tsm_quiet(s.c) : 0, 0);
    fill(buffer, 8);
    EXPECT(t, tsm_put_nbi(s.c, s.more, buffer, sizeof(buffer), 1), 0);
    EXPECT(t, tsm_quiet(s.c), 0);
    return tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET, 1);
}

static int get_used_early_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS] = {0};
    int rc = scene_set(t, &s);
    if (rc != 0) {
        return rc;
    }
    fill(tsm_ptr(s.c, s.data, s.rank), 7);
    EXPECT(t, tsm_sync(s.c), 0);
    EXPECT(t, tsm_get_nbi(s.c, buffer, s.data, sizeof(buffer), 1 - s.rank), 0);
    EXPECT(t, s.right ? tsm_quiet(s.c) : 0, 0);
    rc = all_are(t, buffer, 7);
    EXPECT(t, tsm_quiet(s.c), 0);
    return rc;
}

static int read_own_put_task(tsm_task *t)
{
    struct scene s;
    uint64_t seen = 0;
    int rc = scene_set(t, &s);
    if (rc != 0 || s.rank == 1) {
        return rc;
    }
    EXPECT(t, tsm_p64(s.c, s.data, 7, 1), 0);
    EXPECT(t, s.right ? tsm_quiet(s.c) : 0, 0);
    EXPECT(t, tsm_g64(s.c, s.data, &seen, 1), 0);
    return seen == 7 ? 0 : tsm_fail(t, "its own put is not there");
}

static int sync_for_barrier_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc != 0) {
        return rc;
    }
    fill(buffer, 7);
    EXPECT(t, tsm_put(s.c, s.data, buffer, sizeof(buffer), (s.rank + 1) % tsm_size(s.c)), 0);
    EXPECT(t, s.right ? tsm_barrier(s.c) : tsm_sync(s.c), 0);
    return own_are(t, &s, s.data, 7);
}

/* ---- flags and counters ---- */

/* Rank 0 fills two slots, epochs 1 and 2, and rank 2 tells rank 1 that it may look. The wrong one waits for epoch 1. */
static int wrong_epoch_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    if (rc == 0 && s.rank != 0) {
        rc = wait_for_value(t, &s, s.ack, 1);
    }
    if (rc != 0 || s.rank == 2) {
        return rc != 0 ? rc : tsm_signal(s.c, s.ack, 1, TSM_SIGNAL_SET, 1);
    }
    if (s.rank == 1) {
        rc = wait_for_value(t, &s, s.flag, s.right ? 2 : 1);
        return rc != 0 ? rc : own_are(t, &s, s.more, 8);
    }
    fill(buffer, 7);
    EXPECT(t, tsm_put_signal(s.c, s.data, buffer, sizeof(buffer), s.flag, 1, TSM_SIGNAL_SET, 1), 0);
    EXPECT(t, tsm_fence(s.c), 0);
    fill(buffer, 8);
    EXPECT(t, tsm_put_signal(s.c, s.more, buffer, sizeof(buffer), s.flag, 2, TSM_SIGNAL_SET, 1), 0);
    return tsm_signal(s.c, s.ack, 1, TSM_SIGNAL_SET, 2);
}

/* A flag that its reader clears for the next message; the wrong one asks for that before it is clear. */
static int flag_reset_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    for (uint64_t i = 1; i <= 4 && rc == 0; i++) {
        if (s.rank == 0) {
            fill(buffer, i);
            rc = tsm_put_signal(s.c, s.data, buffer, sizeof(buffer), s.flag, 1, TSM_SIGNAL_SET, 1);
            rc = rc != 0 ? rc : wait_for_value(t, &s, s.ack, i);
        } else {
            rc = wait_for_value(t, &s, s.flag, 1);
            rc = rc != 0 ? rc : own_are(t, &s, s.data, i);
            rc = rc != 0 ? rc : tsm_p64(s.c, s.flag, 0, 1);
            rc = rc != 0 || !s.right ? rc : tsm_quiet(s.c);
            rc = rc != 0 ? rc : tsm_signal(s.c, s.ack, 1, TSM_SIGNAL_ADD, 0);
        }
    }
    return rc;
}

/* The wrong one releases the buffer, then reads it. */
static int no_back_pressure_task(tsm_task *t)
{
    struct scene s;
    uint64_t buffer[WORDS];
    int rc = scene_set(t, &s);
    for (uint64_t i = 1; i <= 8 && rc == 0; i++) {
        if (s.rank == 0) {
            fill(buffer, i);
            rc = tsm_put_signal(s.c, s.data, buffer, sizeof(buffer), s.flag, i, TSM_SIGNAL_SET, 1);
            rc = rc != 0 ? rc : wait_for_value(t, &s, s.ack, i);
            continue;
        }
        rc = wait_for_value(t, &s, s.flag, i);
        rc = rc != 0 || s.right ? rc : tsm_signal(s.c, s.ack, i, TSM_SIGNAL_SET, 0);
        rc = rc != 0 ? rc : tsm_get(s.c, buffer, s.data, sizeof(buffer), 1);
        rc = rc != 0 ? rc : all_are(t, buffer, i);
        rc = rc != 0 || !s.right ? rc : tsm_signal(s.c, s.ack, i, TSM_SIGNAL_SET, 0);
    }
    return rc;
}

static int two_sets_task(tsm_task *t)
{
    struct scene s;
    uint64_t seen = 0;
    int rc = scene_set(t, &s);
    if (rc == 0 && s.rank == 0) {
        EXPECT(t, tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET, 1), 0);
        EXPECT(t, s.right ? tsm_fence(s.c) : 0, 0);
        EXPECT(t, tsm_signal(s.c, s.flag, 2, TSM_SIGNAL_SET, 1), 0);
    }
    rc = rc != 0 ? rc : tsm_barrier(s.c);
    if (rc != 0 || s.rank == 0) {
        return rc;
    }
    EXPECT(t, tsm_signal_fetch(s.c, s.flag, &seen), 0);
    return seen == 2 ? 0 : tsm_fail(t, "the signal is %llu, not 2", (unsigned long long)seen);
}

static int add_after_set_task(tsm_task *t)
{
    struct scene s;
    uint64_t seen = 0;
    int rc = scene_set(t, &s);
    if (rc == 0 && s.rank == 0) {
        EXPECT(t, tsm_atomic_set_u64(s.c, s.data, 100, 1), 0);
        EXPECT(t, s.right ? tsm_fence(s.c) : 0, 0);
        EXPECT(t, tsm_atomic_add_u64(s.c, s.data, 5, 1), 0);
    }
    rc = rc != 0 ? rc : tsm_barrier(s.c);
    if (rc != 0 || s.rank == 0) {
        return rc;
    }
    EXPECT(t, tsm_atomic_fetch_u64(s.c, s.data, &seen, 1), 0);
    return seen == 105 ? 0 : tsm_fail(t, "the counter is %llu", (unsigned long long)seen);
}

/* Ranks 1 and 2 take turns to count at rank 0. The wrong one reads and puts. */
static int count_by_put_task(tsm_task *t)
{
    struct scene s;
    uint64_t seen = 0;
    int rc = scene_set(t, &s);
    if (rc == 0 && s.rank == 2) {
        rc = wait_for_value(t, &s, s.flag, 1);
    }
    if (rc == 0 && s.rank > 0) {
        if (s.right) {
            rc = tsm_atomic_add_u64(s.c, s.data, 1, 0);
        } else {
            EXPECT(t, tsm_g64(s.c, s.data, &seen, 0), 0);
            rc = tsm_p64(s.c, s.data, seen + 1, 0);
        }
    }
    if (rc == 0 && s.rank == 1) {
        rc = tsm_signal(s.c, s.flag, 1, TSM_SIGNAL_SET, 2);
    }
    rc = rc != 0 ? rc : tsm_barrier(s.c);
    if (rc != 0 || s.rank > 0) {
        return rc;
    }
    EXPECT(t, tsm_g64(s.c, s.data, &seen, 0), 0);
    return seen == 2 ? 0 : tsm_fail(t, "%llu were counted, not 2", (unsigned long long)seen);
}

/* ---- running them ---- */

struct show {
    tsm_worker *w;
    tsm_callable callable;
    uint32_t chips;
    uint64_t right;
};

static int show_orch(tsm_orch *o, void *arg)
{
    const struct show *x = arg;
    static const int chips[] = {0, 1, 2};
    tsm_domain *d;
    int rc = help_alloc(o, "show", chips, x->chips, WINDOW, &d);
    return rc != 0 ? rc : help_submit_group(o, x->callable, d, chips, x->chips, &x->right, 1);
}

/* seed 0: calm. */
static struct show show_open(tsm_task_fn *fn, uint32_t chips, uint64_t seed)
{
    struct show x = {.chips = chips};
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)seed);
    setenv("TRANSOM_CHAOS", text, 1);
    x.w = harness_worker(chips, 0);
    x.callable = harness_register(x.w, "program", fn);
    harness_start(x.w);
    unsetenv("TRANSOM_CHAOS");
    return x;
}

/* The seeds to try: `count` from 1, or the one that the environment names. */
static uint64_t seeds(uint32_t *count)
{
    const char *text = getenv("TRANSOM_TEST_SEED");
    if (text) {
        *count = 1;
        return strtoull(text, NULL, 10);
    }
    return 1;
}

static void wrong_is_caught(tsm_task_fn *fn, uint32_t chips)
{
    uint32_t count = SEEDS_WRONG, run = 0;
    struct show x = show_open(fn, chips, seeds(&count));
    int rc = 0;
    while (run < count && rc == 0) {
        run++;
        rc = tsm_worker_run(x.w, show_orch, &x);
    }
    if (rc == 0 && count == SEEDS_WRONG) {
        fail_msg("%u seeds did not catch it", count);
    }
    assert_true(rc == 0 || rc == TSM_ETASK_FAILED);
    if (rc != 0) {
        print_message("             caught after %u: %s\n", run, tsm_worker_error(x.w)->text);
    }
    harness_close(x.w);
}

static void right_is_right(tsm_task_fn *fn, uint32_t chips)
{
    uint32_t count = harness_count(SEEDS_RIGHT);
    uint64_t first = seeds(&count);
    struct show x = show_open(fn, chips, first);
    x.right = 1;
    for (uint32_t run = 0; run < count; run++) {
        if (tsm_worker_run(x.w, show_orch, &x) != 0) {
            fail_msg("seed %llu: %s", (unsigned long long)(first + run),
                     tsm_worker_error(x.w)->text);
        }
    }
    harness_close(x.w);
}

static void wrong_works_without_chaos(tsm_task_fn *fn, uint32_t chips)
{
    struct show x = show_open(fn, chips, 0);
    uint32_t works = 0;
    for (uint32_t run = 0; run < RUNS_CALM; run++) {
        works += tsm_worker_run(x.w, show_orch, &x) == 0;
    }
    assert_true(works > RUNS_CALM / 2);
    harness_close(x.w);
}

static void show(tsm_task_fn *fn, uint32_t chips)
{
    wrong_works_without_chaos(fn, chips);
    wrong_is_caught(fn, chips);
    right_is_right(fn, chips);
}

static void a_flag_that_is_put_without_a_fence_behind_its_data(void **state)
{
    (void)state;
    show(flag_put_task, 2);
}

static void a_weak_signal_behind_a_put_that_is_not_its_own(void **state)
{
    (void)state;
    show(weak_signal_task, 2);
}

static void a_signal_before_the_data(void **state)
{
    (void)state;
    show(signal_first_task, 2);
}

static void the_last_word_of_the_data_taken_for_its_flag(void **state)
{
    (void)state;
    show(last_word_task, 2);
}

static void a_fence_where_a_third_rank_needs_a_quiet(void **state)
{
    (void)state;
    show(fence_for_quiet_task, 3);
}

static void a_source_that_is_used_again_before_quiet(void **state)
{
    (void)state;
    show(source_reused_task, 2);
}

static void a_get_that_is_used_before_quiet(void **state)
{
    (void)state;
    show(get_used_early_task, 2);
}

static void a_get_of_what_was_just_put(void **state)
{
    (void)state;
    show(read_own_put_task, 2);
}

static void a_sync_where_a_barrier_is_needed(void **state)
{
    (void)state;
    show(sync_for_barrier_task, 3);
}

static void a_wait_on_the_wrong_epoch(void **state)
{
    (void)state;
    show(wrong_epoch_task, 3);
}

static void a_flag_that_is_cleared_and_used_again(void **state)
{
    (void)state;
    show(flag_reset_task, 2);
}

static void a_buffer_that_is_released_before_it_is_read(void **state)
{
    (void)state;
    show(no_back_pressure_task, 2);
}

static void two_values_of_one_signal_without_a_fence_between(void **state)
{
    (void)state;
    show(two_sets_task, 2);
}

static void an_addition_to_what_was_just_set(void **state)
{
    (void)state;
    show(add_after_set_task, 2);
}

static void a_count_kept_by_get_and_put(void **state)
{
    (void)state;
    show(count_by_put_task, 3);
}

/* Scalar 0: address of the word for what comes out: the last of eight values set in one signal of the own window. */
static int dice_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    EXPECT(t, tsm_at(c, 0, &s), 0);
    for (uint64_t i = 1; i <= 8; i++) {
        EXPECT(t, tsm_signal(c, s, i, TSM_SIGNAL_SET, 0), 0);
    }
    EXPECT(t, tsm_quiet(c), 0);
    return tsm_signal_fetch(c, s, (uint64_t *)(uintptr_t)tsm_task_scalar(t, 0));
}

static void throw_dice(uint64_t seed, uint32_t count, uint64_t *ret)
{
    void *out;
    struct show x = show_open(dice_task, 1, seed);
    assert_code(x.w, tsm_buffer_create(x.w, 64, &out), 0);
    x.right = help_pointer(out);
    for (uint32_t run = 0; run < count; run++) {
        assert_code(x.w, tsm_worker_run(x.w, show_orch, &x), 0);
        ret[run] = *(uint64_t *)out;
    }
    harness_close(x.w);
}

static void a_seed_repeats_and_each_run_takes_the_next_one(void **state)
{
    (void)state;
    enum { RUNS = 64 };
    uint64_t first[RUNS], again[RUNS], later[RUNS], calm[RUNS], other = 0;
    throw_dice(1, RUNS, first);
    throw_dice(1, RUNS, again);
    throw_dice(17, RUNS - 16, later);
    throw_dice(0, RUNS, calm);
    assert_memory_equal(first, again, sizeof(first));
    assert_memory_equal(first + 16, later, (RUNS - 16) * sizeof(first[0]));
    for (uint32_t i = 0; i < RUNS; i++) {
        assert_int_equal(calm[i], 8);
        other += first[i] != 8;
    }
    assert_in_range(other, RUNS / 4, RUNS - 1);
}

static void a_seed_that_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"dice", "-1", "7 ", "0x10", "99999999999999999999"};
    for (uint32_t i = 0; i < COUNT(bad); i++) {
        char text[64];
        tsm_worker *w = harness_worker(1, 0);
        setenv("TRANSOM_CHAOS", bad[i], 1);
        assert_code(w, tsm_worker_start(w), TSM_EINVAL);
        snprintf(text, sizeof(text), "TRANSOM_CHAOS='%s'", bad[i]);
        assert_text(w, text);
        setenv("TRANSOM_CHAOS", "", 1);
        harness_start(w);
        unsetenv("TRANSOM_CHAOS");
        harness_close(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_flag_that_is_put_without_a_fence_behind_its_data),
        TEST(a_weak_signal_behind_a_put_that_is_not_its_own),
        TEST(a_signal_before_the_data),
        TEST(the_last_word_of_the_data_taken_for_its_flag),
        TEST(a_fence_where_a_third_rank_needs_a_quiet),
        TEST(a_source_that_is_used_again_before_quiet),
        TEST(a_get_that_is_used_before_quiet),
        TEST(a_get_of_what_was_just_put),
        TEST(a_sync_where_a_barrier_is_needed),
        TEST(a_wait_on_the_wrong_epoch),
        TEST(a_flag_that_is_cleared_and_used_again),
        TEST(a_buffer_that_is_released_before_it_is_read),
        TEST(two_values_of_one_signal_without_a_fence_between),
        TEST(an_addition_to_what_was_just_set),
        TEST(a_count_kept_by_get_and_put),
        TEST(a_seed_repeats_and_each_run_takes_the_next_one),
        TEST(a_seed_that_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

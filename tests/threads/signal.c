/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * One-sided communication between threads: puts with signals, waits for one and for any of several, atomics on one word,
 * and aborts that end the waits. A lost wake is a test that does not end. Test process.
 */
#include <stdio.h>

#include "threads/domain.h"

enum {
    WORDS = 512, /* of a message */
    FLAGS = 0,   /* a signal for each rank, each on a line */
    ANSWERS = 1024,
    COUNTER = 2048,
    LOCK = 2112,
    GUARDED = 2176,
    NEVER = 3072,
    BOXES = 4096, /* a message from each rank */
};

static struct rig rig;
static struct member members[RIG_PLACES];
static uint32_t rounds;

static tsm_sym place(const struct member *m, uint64_t offset)
{
    return (tsm_sym){offset, 0, m->ctx.generation};
}

static tsm_sym flag_of(const struct member *m, uint32_t rank)
{
    return place(m, FLAGS + rank * LINE);
}

static tsm_sym answer_of(const struct member *m, uint32_t rank)
{
    return place(m, ANSWERS + rank * LINE);
}

static tsm_sym box_of(const struct member *m, uint32_t rank)
{
    return place(m, BOXES + (uint64_t)rank * WORDS * 8);
}

static void expect(struct member *m, bool good, const char *what)
{
    if (!good && !m->wrong[0]) {
        snprintf(m->wrong, sizeof(m->wrong), "%s", what);
    }
}

/* ---- put and signal, in several ways that all must order the data ---- */

static void send(struct member *m, uint32_t to, tsm_sym box, tsm_sym flag, uint64_t n)
{
    static _Thread_local uint64_t data[WORDS];
    uint64_t words = 1 + harness_below(&m->random, WORDS), half = words / 2;
    int set = TSM_SIGNAL_SET, rc = 0;
    for (uint64_t i = 0; i < words; i++) {
        data[i] = n * 1000 + m->ctx.rank;
    }
    data[0] = words;
    switch (harness_below(&m->random, 5)) {
    case 0:
        rc = tsm_put_signal(&m->ctx, box, data, words * 8, flag, n, set, to);
        break;
    case 1:
        rc = tsm_put_signal_nbi(&m->ctx, box, data, words * 8, flag, 1, TSM_SIGNAL_ADD, to);
        break;
    case 2:
        rc = tsm_put_nbi(&m->ctx, tsm_offset(box, half * 8), data + half, (words - half) * 8, to);
        rc = rc != 0 ? rc
                     : tsm_put_signal(&m->ctx, box, data, half * 8, flag, n,
                                      set | TSM_SIGNAL_STRONG, to);
        break;
    case 3:
        rc = tsm_put(&m->ctx, box, data, words * 8, to);
        rc = rc != 0 ? rc : tsm_fence(&m->ctx);
        rc = rc != 0 ? rc : tsm_atomic_set_u64(&m->ctx, flag, n, to);
        break;
    default:
        memcpy(tsm_ptr(&m->ctx, box, to), data, words * 8);
        rc = tsm_signal(&m->ctx, flag, 1, TSM_SIGNAL_ADD, to);
    }
    expect(m, rc == 0 && tsm_quiet(&m->ctx) == 0, "a put or signal fails");
}

static bool has_arrived(const struct member *m, uint32_t from, uint64_t n)
{
    const uint64_t *box = tsm_ptr(&m->ctx, box_of(m, from), m->ctx.rank);
    uint64_t words = box[0];
    return words >= 1 && words <= WORDS && (words == 1 || box[words - 1] == n * 1000 + from);
}

/* To the right, from the left, answered. */
static void *go_round(void *arg)
{
    struct member *m = arg;
    uint32_t me = m->ctx.rank, size = m->ctx.size;
    uint32_t right = (me + 1) % size, left = (me + size - 1) % size;
    for (uint64_t n = 1; n <= rounds && !m->wrong[0]; n++) {
        rig_dawdle(&m->random);
        send(m, right, box_of(m, me), flag_of(m, me), n);
        expect(m, tsm_signal_wait_until(&m->ctx, flag_of(m, left), TSM_GE, n, NULL, -1) == 0,
               "a wait for a signal fails");
        expect(m, has_arrived(m, left, n), "a signal came before its data");
        expect(m, tsm_signal(&m->ctx, answer_of(m, me), n, TSM_SIGNAL_SET, left) == 0,
               "an answer fails");
        expect(m, tsm_signal_wait_until(&m->ctx, answer_of(m, right), TSM_EQ, n, NULL, -1) == 0,
               "a wait for an answer fails");
    }
    return NULL;
}

/* ---- any of several ---- */

/* Rank 0 takes what comes first, and says that the box is free. */
static void take_any(struct member *m)
{
    tsm_sym flags[RIG_PLACES];
    uint32_t size = m->ctx.size, which = 0;
    uint64_t seen[RIG_PLACES] = {0};
    for (uint32_t r = 1; r < size; r++) {
        flags[r - 1] = flag_of(m, r);
    }
    for (uint64_t n = 0; n < (uint64_t)rounds * (size - 1) && !m->wrong[0]; n++) {
        expect(m, tsm_signal_wait_any(&m->ctx, flags, size - 1, TSM_NE, 0, &which, -1) == 0,
               "a wait for any signal fails");
        uint32_t from = which + 1;
        expect(m, has_arrived(m, from, ++seen[from]), "one of several came before its data");
        expect(m,
               tsm_signal(&m->ctx, flags[which], 0, TSM_SIGNAL_SET, 0) == 0 &&
                   tsm_signal(&m->ctx, answer_of(m, 0), 1, TSM_SIGNAL_ADD, from) == 0,
               "an answer fails");
    }
}

static void *give_to_any(void *arg)
{
    struct member *m = arg;
    static _Thread_local uint64_t data[WORDS];
    uint32_t me = m->ctx.rank;
    if (me == 0) {
        take_any(m);
        return NULL;
    }
    for (uint64_t n = 1; n <= rounds && !m->wrong[0]; n++) {
        uint64_t words = 1 + harness_below(&m->random, WORDS);
        data[words - 1] = n * 1000 + me;
        data[0] = words;
        rig_dawdle(&m->random);
        expect(m,
               tsm_put_signal(&m->ctx, box_of(m, me), data, words * 8, flag_of(m, me), 1,
                              TSM_SIGNAL_SET, 0) == 0,
               "a put with a signal fails");
        expect(m, tsm_signal_wait_all(&m->ctx, (tsm_sym[]){answer_of(m, 0)}, 1, TSM_GE, n, -1) == 0,
               "a wait for an answer fails");
    }
    return NULL;
}

/* ---- atomics on words of rank 0 ---- */

/* A lock of compare and swap around plain memory; bits that come and go; a sum that rank 0 waits for. */
static void *count_together(void *arg)
{
    struct member *m = arg;
    tsm_ctx *c = &m->ctx;
    tsm_sym lock = place(m, LOCK), bits = place(m, LOCK + 8), counter = place(m, COUNTER);
    uint64_t *guarded = tsm_ptr(c, place(m, GUARDED), 0);
    uint32_t own = 1u << c->rank;
    for (uint64_t n = 1; n <= rounds && !m->wrong[0]; n++) {
        uint64_t old = 1;
        uint32_t before = 0;
        int rc = tsm_atomic_compare_swap_u64(c, lock, 0, c->rank + 1, &old, 0);
        while (rc == 0 && old != 0) {
            sched_yield();
            rc = tsm_atomic_compare_swap_u64(c, lock, 0, c->rank + 1, &old, 0);
        }
        guarded[0]++;
        rc = rc != 0 ? rc : tsm_atomic_swap_u64(c, lock, 0, &old, 0);
        expect(m, rc == 0 && old == c->rank + 1, "a lock was not its owner's");
        rc = tsm_atomic_fetch_xor_u32(c, bits, own, &before, 0);
        expect(m, rc == 0 && (before & own) == (n % 2 ? 0 : own), "a bit was changed by another");
        expect(m, tsm_atomic_add_u64(c, counter, 2, 0) == 0, "an add fails");
    }
    uint64_t all = UINT64_C(2) * rounds * c->size;
    if (c->rank == 0) {
        expect(m, tsm_signal_wait_until(c, counter, TSM_EQ, all, NULL, -1) == 0, "the sum fails");
        expect(m, guarded[0] == (uint64_t)rounds * c->size, "the lock did not guard");
    }
    return NULL;
}

/* ---- aborts ---- */

/* One waits no more, nobody signals: all the others' waits end, with the code of the cause. */
static void *wait_for_nothing(void *arg)
{
    struct member *m = arg;
    tsm_ctx *c = &m->ctx;
    tsm_sym never[2] = {place(m, NEVER), place(m, NEVER + 64)};
    uint32_t which;
    bool gives_up = m->seed % 2;
    rig_dawdle(&m->random);
    if (c->rank == m->seed / 2 % c->size) {
        if (gives_up) {
            tsm_abort(c, -9);
        } else {
            domain_abort_run(m);
        }
        return NULL;
    }
    switch (harness_below(&m->random, 4)) {
    case 0:
        m->ended = tsm_signal_wait_until(c, never[0], TSM_GE, 1, NULL, -1);
        break;
    case 1:
        m->ended = tsm_signal_wait_any(c, never, 2, TSM_GT, 0, &which, -1);
        break;
    case 2:
        m->ended = tsm_signal_wait_all(c, never, 2, TSM_NE, 0, -1);
        break;
    default:
        m->ended = tsm_barrier(c);
    }
    expect(m, m->ended == (gives_up ? TSM_EPEER : TSM_EABORTED), "an abort ends a wait wrongly");
    return NULL;
}

/* ---- tests ---- */

static void live(void *(*f)(void *arg), uint32_t size, uint32_t spin, uint32_t lives)
{
    rig_open(&rig, size, 0, spin);
    rig.a.ctl->info.tuning = tuning_default;
    struct domain_desc *d = domain_make(&rig, size);
    for (uint64_t life = 1; life <= lives; life++) {
        for (uint32_t r = 0; r < size; r++) {
            memset((uint8_t *)(uintptr_t)(d->base + r * d->stride), 0, DOMAIN_WINDOW_BYTES);
        }
        domain_live(&rig, d, members, life, life + size, f);
    }
    assert_true(spin > 0 || f == count_together || rig_sleeps(&rig) > 0);
    rig_close(&rig);
}

static void who_sees_a_signal_sees_its_data(void **state)
{
    (void)state;
    rounds = harness_count(8000);
    for (uint32_t size = 2; size <= 5; size++) {
        live(go_round, size, size % 2 ? 1000 : 0, 1);
    }
}

static void any_of_several_signals_ends_a_wait(void **state)
{
    (void)state;
    rounds = harness_count(8000);
    for (uint32_t size = 2; size <= 5; size++) {
        live(give_to_any, size, size % 2 ? 0 : 1000, 1);
    }
}

static void atomics_are_atomic_and_wake(void **state)
{
    (void)state;
    rounds = harness_count(20000);
    live(count_together, 2, 0, 1);
    live(count_together, 4, 0, 1);
}

static void an_abort_ends_every_wait_inside(void **state)
{
    (void)state;
    for (uint32_t size = 2; size <= 6; size += 2) {
        live(wait_for_nothing, size, size == 4 ? 1000 : 0, harness_count(2000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_sees_a_signal_sees_its_data),
        TEST(any_of_several_signals_ends_a_wait),
        TEST(atomics_are_atomic_and_wake),
        TEST(an_abort_ends_every_wait_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

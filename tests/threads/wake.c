/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Sleeping and waking between threads: timelines with several waiters, ping-pong, an abort, signals and barriers in
 * windows through the task-side functions. A lost wake is a test that does not end. Test process.
 */
#include "threads/rig.h"

struct part {
    struct rig *rig;
    uint32_t place, peer, members;
    uint64_t count, wrong, ended;
    const struct domain_desc *desc;
};

static struct rig rig;
static struct part parts[RIG_PLACES];

static void run_parts(void *(*f)(void *arg), uint32_t first, uint32_t n, uint64_t count)
{
    pthread_t threads[RIG_PLACES];
    for (uint32_t i = first; i < n; i++) {
        parts[i] = (struct part){&rig, i, i ^ 1, n, count, 0, 0, parts[i].desc};
        assert_int_equal(pthread_create(&threads[i], NULL, f, &parts[i]), 0);
    }
    for (uint32_t i = first; i < n; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(parts[i].wrong, 0);
    }
}

static void wait_word(struct chip *c, uint32_t place, uint64_t value)
{
    struct rig_word x = {&c->arena, place, value};
    struct want want = {.kind = WAIT_WORD, .place = place, .value = value};
    wait_for(&c->waiter, &want, rig_look_word, &x);
}

static void assert_masks_clear(void)
{
    for (uint32_t p = 0; p <= rig.places; p++) {
        assert_int_equal(arena_mask(&rig.a, p)[0], 0);
    }
}

/* ---- one timeline, several waiters ---- */

static void *follow_or_lead(void *arg)
{
    struct part *x = arg;
    struct chip *c = &x->rig->chips[x->place];
    struct harness_random r;
    harness_random_init(&r, x->place);
    if (x->place == 0) {
        for (uint64_t n = 1; n <= x->count; n++) {
            rig_dawdle(&r);
            timeline_advance(&c->arena, c->page, 0, n);
        }
        return NULL;
    }
    for (uint64_t n = 0; n < x->count;) {
        n += 1 + harness_below(&r, 5);
        n = n < x->count ? n : x->count;
        wait_word(c, 0, n);
        x->wrong += timeline_read(&c->arena, 0) < n;
    }
    return NULL;
}

static void every_waiter_sees_the_value_it_waits_for(void **state)
{
    (void)state;
    for (uint32_t waiters = 2; waiters <= 4; waiters++) {
        rig_open(&rig, 5, 0, waiters % 2 ? 0 : 2000);
        run_parts(follow_or_lead, 0, waiters + 1, 6000);
        assert_true(rig.a.spin > 0 || rig_sleeps(&rig) > 0);
        assert_masks_clear();
        rig_close(&rig);
    }
}

/* ---- ping-pong ---- */

static void *ping_pong(void *arg)
{
    struct part *x = arg;
    struct chip *c = &x->rig->chips[x->place];
    struct harness_random r;
    harness_random_init(&r, x->place);
    for (uint64_t n = 1; n <= x->count; n++) {
        if (x->place % 2 == 0) {
            timeline_advance(&c->arena, c->page, x->place, n);
        }
        wait_word(c, x->peer, n);
        rig_dawdle(&r);
        if (x->place % 2 == 1) {
            timeline_advance(&c->arena, c->page, x->place, n);
        }
    }
    return NULL;
}

static void two_who_wake_each_other_come_to_the_end(void **state)
{
    (void)state;
    static const uint32_t spins[] = {0, 500, 20000};
    for (int i = 0; i < 3; i++) {
        rig_open(&rig, 4, 0, spins[i]);
        run_parts(ping_pong, 0, 4, 6000);
        assert_true(rig.a.spin > 0 || rig_sleeps(&rig) > 0);
        assert_masks_clear();
        rig_close(&rig);
    }
}

/* ---- abort ---- */

static int look_abort(void *ctx)
{
    const struct rig_word *x = ctx;
    if (a64_load(&x->a->ctl->aborts[1]) >= x->value) {
        return 2;
    }
    return rig_look_word(ctx);
}

static void *wait_for_abort(void *arg)
{
    struct part *x = arg;
    struct chip *c = &x->rig->chips[x->place];
    for (uint64_t n = 1; n <= x->count; n++) {
        struct rig_word w = {&c->arena, x->peer, n};
        struct want want = {.kind = WAIT_WORD, .place = x->peer, .value = n};
        x->wrong += wait_for(&c->waiter, &want, look_abort, &w) != 2;
        atomic_fetch_add(&c->page->wakes, 1);
        wake_timeline(&c->arena, x->place);
    }
    return NULL;
}

static void *abort_all(void *arg)
{
    struct part *x = arg;
    struct harness_random r;
    harness_random_init(&r, 9);
    for (uint64_t n = 1; n <= x->count; n++) {
        for (uint32_t p = 1; p < 4; p++) {
            while (a64_acquire(&arena_page(&x->rig->a, p)->wakes) < n - 1) {
                sched_yield();
            }
        }
        rig_dawdle(&r);
        a64_store(&x->rig->a.ctl->aborts[1], n);
        wake_everybody(&x->rig->a);
        wake_lost(&x->rig->a);
    }
    return NULL;
}

static void *abort_part(void *arg)
{
    const struct part *x = arg;
    return x->place == 0 ? abort_all(arg) : wait_for_abort(arg);
}

static void an_abort_reaches_every_sleeper(void **state)
{
    (void)state;
    rig_open(&rig, 4, 0, 0);
    run_parts(abort_part, 0, 4, 3000);
    assert_true(rig_sleeps(&rig) > 0);
    rig_close(&rig);
}

/* ---- windows ---- */

static struct domain_desc *make_desc(uint32_t members)
{
    const struct arena_info *in = &rig.a.ctl->info;
    struct domain_desc *d = arena_at(&rig.a, in->desc_offset);
    d->size = members;
    d->generation = 1;
    d->window_bytes = 8192;
    d->stride = 8192 + sync_bytes(members);
    d->base = in->base + in->windows_offset;
    d->members_offset = sizeof(*d);
    uint32_t *list = (uint32_t *)(d + 1);
    for (uint32_t i = 0; i < members; i++) {
        list[i] = i;
        parts[i].desc = d;
    }
    return d;
}

static tsm_ctx context(struct part *x, tsm_task *task, struct record *rec)
{
    rec->run = 1;
    task->chip = &x->rig->chips[x->place];
    task->rec = rec;
    tsm_ctx c = {.chip = task->chip,
                 .task = task,
                 .desc = x->desc,
                 .members = (const uint32_t *)(x->desc + 1),
                 .rank = x->place,
                 .size = x->desc->size,
                 .self = x->place,
                 .generation = 1,
                 .timeout_ns = -1};
    ctx_cache(&c);
    return c;
}

/* Puts a message into the right neighbour's window, signals, waits for the left one's, and answers. */
static void *signal_round(void *arg)
{
    struct part *x = arg;
    struct record rec = {0};
    tsm_task task = {0};
    tsm_ctx c = context(x, &task, &rec);
    struct harness_random r;
    tsm_sym box = {0, 0, 1}, flag = {1024, 0, 1}, answer = {2048, 0, 1};
    uint32_t right = (x->place + 1) % x->members;
    uint32_t left = (x->place + x->members - 1) % x->members;
    harness_random_init(&r, x->place);
    for (uint64_t n = 1; n <= x->count && !x->wrong; n++) {
        uint64_t *to = tsm_ptr(&c, box, right);
        for (int i = 0; i < 16; i++) {
            to[i] = n * 100 + x->place;
        }
        rig_dawdle(&r);
        x->wrong += tsm_signal(&c, flag, n, TSM_SIGNAL_SET, right) != 0;
        x->wrong += tsm_signal_wait_until(&c, flag, TSM_GE, n, NULL, -1) != 0;
        const uint64_t *own = tsm_ptr(&c, box, x->place);
        x->wrong += own[15] != n * 100 + left;
        x->wrong += tsm_signal(&c, answer, 1, TSM_SIGNAL_ADD, left) != 0;
        x->wrong += tsm_signal_wait_until(&c, answer, TSM_EQ, n, NULL, -1) != 0;
    }
    return NULL;
}

static void what_was_put_before_a_signal_is_seen_after_it(void **state)
{
    (void)state;
    for (uint32_t members = 2; members <= 4; members += 2) {
        rig_open(&rig, members, 0, members == 2 ? 0 : 1000);
        make_desc(members);
        run_parts(signal_round, 0, members, 4000);
        assert_true(rig.a.spin > 0 || rig_sleeps(&rig) > 0);
        rig_close(&rig);
    }
}

static void *barrier_round(void *arg)
{
    struct part *x = arg;
    struct record rec = {0};
    tsm_task task = {0};
    tsm_ctx c = context(x, &task, &rec);
    tsm_sym box = {0, 0, 1}, sum = {4096, 0, 1};
    struct harness_random r;
    harness_random_init(&r, x->place);
    for (uint64_t n = 1; n <= x->count && !x->wrong; n++) {
        uint64_t *own = tsm_ptr(&c, box, x->place);
        own[0] = n + x->place;
        own[40] = n * x->place;
        rig_dawdle(&r);
        x->wrong += tsm_all_reduce(&c, sum, box, 64, TSM_U64, TSM_SUM) != 0;
        const uint64_t *out = tsm_ptr(&c, sum, x->place);
        uint64_t all = (uint64_t)x->members * (x->members - 1) / 2;
        x->wrong += out[0] != n * x->members + all || out[40] != n * all;
        x->wrong += tsm_barrier(&c) != 0;
        const uint64_t *other = tsm_ptr(&c, box, (x->place + 1) % x->members);
        x->wrong += other[0] != n + (x->place + 1) % x->members;
        x->wrong += tsm_barrier(&c) != 0;
    }
    return NULL;
}

static void barriers_and_sums_order_plain_memory(void **state)
{
    (void)state;
    for (uint32_t members = 2; members <= 5; members++) {
        rig_open(&rig, members, 0, members % 2 ? 0 : 1000);
        make_desc(members);
        run_parts(barrier_round, 0, members, 800);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_waiter_sees_the_value_it_waits_for),
        TEST(two_who_wake_each_other_come_to_the_end),
        TEST(an_abort_reaches_every_sleeper),
        TEST(what_was_put_before_a_signal_is_seen_after_it),
        TEST(barriers_and_sums_order_plain_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

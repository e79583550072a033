/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * src/shm/wake.c by itself: who is rung for what, masks of more than 64 places, and wait records and hints that hold
 * nonsense. The protocol between threads is tests/threads/wake.c. Test process.
 */
#include <errno.h>
#include <string.h>

#include "shm/wake.h"
#include "unit/arena_help.h"

enum { PLACES = 200, SUBS = 3 };

static uint32_t bell_of(const struct arena *a, uint32_t p)
{
    return a32_load(&a->hints[p].bell);
}

static struct wait_record *record_of(struct arena *a, uint32_t p)
{
    return p < a->places ? &arena_page(a, p)->wait : &a->ctl->wait;
}

static void comparisons_compare(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 2, UINT64_MAX - 1, UINT64_MAX};
    for (int i = 0; i < 25; i++) {
        uint64_t x = values[i / 5];
        uint64_t y = values[i % 5];
        assert_int_equal(compare_holds(TSM_EQ, x, y), x == y);
        assert_int_equal(compare_holds(TSM_NE, x, y), x != y);
        assert_int_equal(compare_holds(TSM_GT, x, y), x > y);
        assert_int_equal(compare_holds(TSM_GE, x, y), x >= y);
        assert_int_equal(compare_holds(TSM_LT, x, y), x < y);
        assert_int_equal(compare_holds(TSM_LE, x, y), x <= y);
        assert_int_equal(compare_holds(0, x, y), 0);
        assert_int_equal(compare_holds(77, x, y), 0);
    }
}

/* A wait whose look rings itself once it is about to sleep: what the ringing changes is seen from inside. */
struct inside {
    struct arena *a;
    uint32_t self;
    uint32_t source;     /* whose timeline advances */
    uint64_t too_little; /* first to here: no ring */
    uint64_t enough;
    int rung_early, rung;
};

static int look_and_ring(void *ctx)
{
    struct inside *in = ctx;
    struct arena *a = in->a;
    if (a32_load(&a->hints[in->self].asleep) != 1) {
        return 0;
    }
    uint32_t before = bell_of(a, in->self);
    a64_store(&arena_page(a, in->source)->done, in->too_little);
    wake_timeline(a, in->source);
    in->rung_early = bell_of(a, in->self) != before;
    a64_store(&arena_page(a, in->source)->done, in->enough);
    wake_timeline(a, (in->source + 1) % a->places); /* not the one that is waited for */
    in->rung_early |= bell_of(a, in->self) != before;
    wake_timeline(a, in->source);
    in->rung = bell_of(a, in->self) != before;
    return 5;
}

static void only_who_wants_the_value_is_rung_in_every_word_of_the_mask(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, PLACES - SUBS, SUBS);
    static const uint32_t selves[] = {0, 1, 63, 64, 65, 127, 128, 191, 192, PLACES - 1, PLACES};
    for (size_t i = 0; i < sizeof(selves) / sizeof(selves[0]); i++) {
        uint32_t self = selves[i];
        struct inside in = {&a, self, (self + 70) % PLACES, 10, 11, 0, 0};
        struct waiter w;
        struct want want = {.kind = WAIT_WORD, .place = in.source, .value = 11};
        a64_store(&arena_page(&a, in.source)->done, 0);
        waiter_init(&w, &a, self, record_of(&a, self), NULL);
        assert_int_equal(wait_for(&w, &want, look_and_ring, &in), 5);
        assert_int_equal(in.rung_early, 0);
        assert_int_equal(in.rung, 1);
        assert_int_equal(record_of(&a, self)->kind, WAIT_NOTHING);
        assert_int_equal(a.hints[self].asleep, 0);
    }
    for (uint32_t p = 0; p <= PLACES; p++) {
        for (uint32_t i = 0; i < a.mask_words; i++) {
            assert_int_equal(arena_mask(&a, p)[i], 0);
        }
    }
    arena_destroy(&a);
}

static int never(void *ctx)
{
    (void)ctx;
    return 0;
}

/* What the hooks see: the wait is written when a sleep begins, and they alternate. */
struct seen {
    const struct wait_record *record;
    int inside, begun, asked, after;
    bool wrong;
};

static void seen_begin(void *arg)
{
    struct seen *s = arg;
    s->wrong |= s->inside++ != 0 || s->record->kind != WAIT_POOL;
    s->begun++;
}

static void seen_end(void *arg)
{
    struct seen *s = arg;
    s->wrong |= s->inside-- != 1;
}

static int seen_interrupted(void *arg)
{
    struct seen *s = arg;
    s->wrong |= s->inside != 0;
    return ++s->asked == s->after;
}

static void a_wait_is_ended_by_its_hooks_and_leaves_nothing(void **state)
{
    (void)state;
    struct arena a;
    struct waiter w;
    help_arena(&a, 4, 1);
    a.spin = 0;
    waiter_init(&w, &a, 4, record_of(&a, 4), NULL);
    struct seen s = {.record = w.record, .after = 3};
    const struct tsm_sleep_hooks hooks = {sizeof(hooks), seen_begin, seen_end, seen_interrupted,
                                          &s};
    struct want want = {.kind = WAIT_POOL, .nap_ns = 500000, .interruptible = true};
    w.hooks = &hooks;
    assert_int_equal(wait_for(&w, &want, never, NULL), -EINTR);
    assert_int_equal(s.asked, 3);
    assert_int_equal(s.begun, 3);
    assert_false(s.wrong || s.inside);
    for (uint32_t p = 0; p <= a.places; p++) {
        assert_int_equal(arena_mask(&a, p)[0], 0);
    }
    assert_int_equal(a.hints[4].asleep, 0);
    assert_int_equal(record_of(&a, 4)->kind, WAIT_NOTHING);
    /* One that cannot be given up is not asked about. */
    want.interruptible = false;
    want.deadline_ns = harness_now_ns() + 3000000;
    assert_int_equal(wait_for(&w, &want, never, NULL), -ETIMEDOUT);
    assert_int_equal(s.asked, 3);
    assert_true(s.begun > 3 && !s.wrong);
    /* Each hook may be missing. */
    const struct tsm_sleep_hooks none = {.size = sizeof(none)};
    w.hooks = &none;
    want.interruptible = true;
    want.deadline_ns = harness_now_ns() + 3000000;
    assert_int_equal(wait_for(&w, &want, never, NULL), -ETIMEDOUT);
    arena_destroy(&a);
}

static void a_wait_with_a_deadline_ends_and_leaves_nothing(void **state)
{
    (void)state;
    struct arena a;
    struct waiter w;
    a64 sleeps = 0;
    uint32_t more[] = {0, 1, 2};
    help_arena(&a, 4, 1);
    a.spin = 0;
    waiter_init(&w, &a, 4, record_of(&a, 4), &sleeps);
    struct want want = {.kind = WAIT_POOL,
                        .places = more,
                        .place_count = 3,
                        .deadline_ns = harness_now_ns() + 3000000,
                        .nap_ns = 500000};
    assert_int_equal(wait_for(&w, &want, never, NULL), -ETIMEDOUT);
    assert_true(harness_now_ns() >= want.deadline_ns);
    assert_true(sleeps >= 1);
    for (uint32_t p = 0; p <= a.places; p++) {
        assert_int_equal(arena_mask(&a, p)[0], 0);
    }
    assert_int_equal(a.hints[4].asleep, 0);
    assert_int_equal(record_of(&a, 4)->kind, WAIT_NOTHING);
    assert_int_equal(record_of(&a, 4)->version % 2, 0);
    arena_destroy(&a);
}

static void want_is_met_when_the_word_is_there(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, 2, 1);
    const struct arena_info *in = &a.ctl->info;
    a64 *signal = arena_at(&a, in->windows_offset + 128);
    uint64_t at = (uint64_t)(uintptr_t)signal;
    struct want ring = {.kind = WAIT_RING, .value = 3};
    struct want word = {.kind = WAIT_WORD, .place = 1, .value = 7};
    struct want pool = {.kind = WAIT_WORD, .place = PLACE_POOL, .value = 9};
    struct want wait = {.kind = WAIT_SIGNAL, .compare = TSM_GE, .value = 2, .address = at};
    assert_false(want_met(&a, 0, &ring) || want_met(&a, 0, &word) || want_met(&a, 0, &pool) ||
                 want_met(&a, 0, &wait));
    a64_store(&a.rings[0].published, 3);
    a64_store(&arena_page(&a, 1)->done, 7);
    a64_store(&a.pool[9].done, 9 << 1 | 1);
    a64_store(signal, 2);
    assert_true(want_met(&a, 0, &ring) && want_met(&a, 0, &word) && want_met(&a, 0, &pool) &&
                want_met(&a, 0, &wait));
    assert_false(want_met(&a, 1, &ring)); /* its own ring, not another's */
    assert_false(want_met(&a, a.places, &ring));
    arena_destroy(&a);
}

static void wild_wants_are_met_so_that_their_owner_looks_itself(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, 2, 1);
    const struct arena_info *in = &a.ctl->info;
    uint64_t windows = in->base + in->windows_offset;
    const uint64_t wild[] = {0,
                             8,
                             UINT64_MAX,
                             UINT64_MAX & ~7ull,
                             windows - 8,
                             windows + 4,
                             windows + in->windows_bytes,
                             in->base,
                             UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        struct want want = {.kind = WAIT_SIGNAL, .compare = TSM_EQ, .value = 1, .address = wild[i]};
        assert_true(want_met(&a, 0, &want));
    }
    struct want last = {.kind = WAIT_SIGNAL,
                        .compare = TSM_EQ,
                        .value = 1,
                        .address = windows + in->windows_bytes - 8};
    assert_false(want_met(&a, 0, &last));
    struct want nowhere = {.kind = WAIT_WORD, .place = 3, .value = 1};
    assert_true(want_met(&a, 0, &nowhere));
    nowhere.place = 0x80000000u | PLACE_POOL;
    assert_true(want_met(&a, 0, &nowhere));
    arena_destroy(&a);
}

static void scribble(struct harness_random *r, void *at, size_t bytes, const struct arena *a)
{
    uint32_t *words = at;
    for (size_t i = 0; i < bytes / 4; i++) {
        switch (harness_below(r, 6)) {
        case 0:
            words[i] = harness_below(r, 6);
            break;
        case 1:
            words[i] = UINT32_MAX;
            break;
        case 2:
            words[i] = harness_below(r, a->places + 2);
            break;
        case 3:
            words[i] = (uint32_t)(a->ctl->info.base >> (i % 2 ? 32 : 0));
            break;
        default:
            words[i] = (uint32_t)harness_random(r);
        }
    }
}

static void no_waker_is_harmed_by_what_others_wrote(void **state)
{
    (void)state;
    struct arena a;
    struct harness_random r;
    help_arena(&a, 70, 3);
    for (uint64_t seed = 1; seed <= harness_count(300); seed++) {
        harness_random_init(&r, seed);
        scribble(&r, a.hints, (uint8_t *)a.masks - (uint8_t *)a.hints, &a);
        scribble(&r, a.masks, (a.places + 1) * 64, &a);
        for (uint32_t p = 0; p < a.places; p++) {
            scribble(&r, &arena_page(&a, p)->wait, sizeof(struct wait_record), &a);
            arena_page(&a, p)->wait.version &= ~(seed & 1);
            a.hints[p].asleep = harness_below(&r, 3);
        }
        for (uint32_t p = 0; p <= a.places; p++) {
            wake_timeline(&a, p);
        }
        for (uint32_t p = 0; p < a.places; p++) {
            wake_place(&a, p);
        }
        wake_lost(&a);
        wake_everybody(&a);
        wake_forget(&a, (uint32_t)seed % a.places);
    }
    arena_destroy(&a);
}

static void a_torn_wait_record_is_rung_anyway(void **state)
{
    (void)state;
    struct arena a;
    struct want want;
    uint32_t version;
    help_arena(&a, 2, 0);
    struct wait_record *r = &arena_page(&a, 1)->wait;
    a32_store(&r->version, 7);
    a32_store(&r->kind, WAIT_WORD);
    a64_store(&r->value, 1000);
    a32_store(&a.hints[1].asleep, 1);
    assert_int_equal(wait_record_read(r, &want, &version), 0);
    wake_place(&a, 1);
    assert_int_equal(bell_of(&a, 1), 1);
    assert_int_equal(a.hints[1].asleep, 2);
    wake_place(&a, 1); /* rung already */
    assert_int_equal(bell_of(&a, 1), 1);
    wake_everybody(&a); /* after a death: rings those, too, whose ringer may have died half-way */
    assert_int_equal(bell_of(&a, 1), 2);
    assert_int_equal(bell_of(&a, 0), 0);
    arena_destroy(&a);
}

static void the_dead_are_forgotten_in_all_masks(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, 130, 2);
    for (uint32_t p = 0; p <= a.places; p++) {
        memset(arena_mask(&a, p), 0xff, a.mask_words * 8);
    }
    wake_forget(&a, 129);
    for (uint32_t p = 0; p <= a.places; p++) {
        assert_int_equal(arena_mask(&a, p)[0], UINT64_MAX);
        assert_int_equal(arena_mask(&a, p)[2], ~(UINT64_C(1) << 1));
    }
    arena_destroy(&a);
}

static void a_lost_sleeper_is_found(void **state)
{
    (void)state;
    struct arena a;
    help_arena(&a, 3, 1);
    /* Chip 0 runs; chip 1 sleeps with its flag scribbled over; chip 2 sleeps, its mask bit lost, its want met; the
     * sub sleeps as it should. */
    a32_store(&arena_page(&a, 1)->wait.kind, WAIT_RING);
    a64_store(&arena_page(&a, 1)->wait.value, 1);
    a32_store(&a.hints[1].asleep, 12345);
    a32_store(&arena_page(&a, 2)->wait.kind, WAIT_WORD);
    a32_store(&a.hints[2].asleep, 1);
    a32_store(&arena_page(&a, 3)->wait.kind, WAIT_POOL);
    a32_store(&a.hints[3].asleep, 1);
    wake_lost(&a);
    assert_int_equal(bell_of(&a, 0), 0);
    assert_int_equal(bell_of(&a, 1), 1);
    assert_int_equal(bell_of(&a, 2), 1);
    assert_int_equal(bell_of(&a, 3), 0);
    a64_store(&a.rings[a.places].published, 1);
    wake_lost(&a);
    assert_int_equal(bell_of(&a, 3), 1);
    arena_destroy(&a);
}

/* A look that a test takes part in: what the others could see at its begin. */
struct looked {
    struct arena *a;
    uint32_t looks, seen_before;
};

static int look_four_times(void *ctx)
{
    struct looked *x = ctx;
    x->looks++;
    if (x->looks > 1) { /* the first is still awake */
        x->seen_before += (uint32_t)wait_has_looked(x->a, 0);
        wake_place(x->a, 0); /* a write to its window, which ends the sleep that follows */
    }
    return x->looks == 4;
}

static void a_wait_for_several_signals_is_rung_by_every_write_and_says_when_it_has_looked(
    void **state)
{
    (void)state;
    struct arena a;
    struct waiter w;
    struct want want = {.kind = WAIT_SIGNALS, .place = 3};
    help_arena(&a, 2, 0);
    a.spin = 0;
    struct looked x = {&a, 0, 0};
    waiter_init(&w, &a, 0, record_of(&a, 0), NULL);
    assert_true(want_met(&a, 0, &want));
    assert_int_equal(wait_for(&w, &want, look_four_times, &x), 1);
    assert_int_equal(x.looks, 4);
    assert_int_equal(x.seen_before, 0); /* not while it looks */
    /* Asleep after a look: it is stuck as long as nobody rings, and not woken to look whether it is. */
    a32_store(&record_of(&a, 0)->kind, WAIT_SIGNALS);
    a32_store(&record_of(&a, 0)->looked, bell_of(&a, 0) << 1 | 1);
    a32_store(&a.hints[0].asleep, 1);
    uint32_t before = bell_of(&a, 0);
    assert_true(wait_has_looked(&a, 0));
    wake_lost(&a);
    assert_int_equal(bell_of(&a, 0), before);
    assert_true(wait_has_looked(&a, 0));
    wake_place(&a, 0);
    assert_int_equal(bell_of(&a, 0), before + 1);
    assert_false(wait_has_looked(&a, 0));
    a32_store(&a.hints[0].asleep, 1); /* awake, and about to look */
    assert_false(wait_has_looked(&a, 0));
    arena_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(comparisons_compare),
        TEST(only_who_wants_the_value_is_rung_in_every_word_of_the_mask),
        TEST(a_wait_with_a_deadline_ends_and_leaves_nothing),
        TEST(a_wait_is_ended_by_its_hooks_and_leaves_nothing),
        TEST(want_is_met_when_the_word_is_there),
        TEST(wild_wants_are_met_so_that_their_owner_looks_itself),
        TEST(no_waker_is_harmed_by_what_others_wrote),
        TEST(a_torn_wait_record_is_rung_anyway),
        TEST(the_dead_are_forgotten_in_all_masks),
        TEST(a_lost_sleeper_is_found),
        TEST(a_wait_for_several_signals_is_rung_by_every_write_and_says_when_it_has_looked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A ring between two threads, with sleeping on both sides: the writer waits for room, the reader for records, and is
 * replaced now and then. Test process.
 */
#include "threads/rig.h"

struct sides {
    struct rig rig;
    uint64_t count, seed;
    uint64_t wrong;
};

static int look_ring(void *ctx)
{
    struct chip *c = ctx;
    return ring_peek(&c->reader) != NULL;
}

static bool record_is_right(const struct record *rec, uint64_t number)
{
    const uint64_t *words = (const uint64_t *)(rec + 1);
    uint32_t last = (rec->bytes - LINE) / 8;
    return rec->task == number * 3 &&
           (last == 0 || (words[0] == number && words[last - 1] == ~number));
}

static void *read_all(void *arg)
{
    struct sides *s = arg;
    struct chip *c = &s->rig.chips[0];
    struct harness_random r;
    harness_random_init(&r, s->seed + 1);
    for (uint64_t n = 1; n <= s->count; n++) {
        struct want want = {.kind = WAIT_RING, .place = 0, .value = n};
        if (harness_below(&r, 20) == 0) {
            ring_reader_init(&c->reader, &c->arena, 0, n - 1);
        }
        wait_for(&c->waiter, &want, look_ring, c);
        const struct record *rec = ring_peek(&c->reader);
        s->wrong += !record_is_right(rec, n) || ring_record(&c->arena, 0, n) != rec;
        rig_dawdle(&r);
        ring_advance(&c->reader, rec);
        timeline_advance(&c->arena, c->page, 0, n);
    }
    return NULL;
}

static void write_one(struct sides *s, uint64_t number, uint32_t bytes)
{
    struct ring_writer *w = &s->rig.rings[0];
    struct record *rec;
    while (!(rec = ring_reserve(w, bytes, timeline_read(&s->rig.a, 0)))) {
        rig_wait_word(&s->rig, 0, ring_blocked_on(w));
    }
    rec->kind = RECORD_TASK;
    rec->task = number * 3;
    uint64_t *words = (uint64_t *)(rec + 1);
    for (uint32_t i = 0; i < (bytes - LINE) / 8; i++) {
        words[i] = i == 0 ? number : ~number;
    }
    if (bytes == LINE + 8) {
        words[0] = number;
    }
    ring_publish(w, rec, bytes);
    wake_place(&s->rig.a, 0);
}

static void transfer(uint64_t seed, uint64_t count, uint32_t lines_max, uint32_t spin)
{
    static struct sides s;
    pthread_t reader;
    struct harness_random r;
    s.count = count;
    s.seed = seed;
    s.wrong = 0;
    rig_open(&s.rig, 1, 0, spin);
    harness_random_init(&r, seed);
    assert_int_equal(pthread_create(&reader, NULL, read_all, &s), 0);
    for (uint64_t n = 1; n <= count; n++) {
        /* Argument areas are a multiple of a line here: first and last word differ. */
        write_one(&s, n, (1 + harness_below(&r, lines_max)) * LINE);
        if (harness_below(&r, 4) == 0) {
            rig_dawdle(&r);
        }
    }
    rig_wait_word(&s.rig, 0, count);
    pthread_join(reader, NULL);
    assert_int_equal(s.wrong, 0);
    assert_true(spin > 0 || rig_sleeps(&s.rig) > 0);
    for (uint32_t i = 0; i < s.rig.a.mask_words; i++) {
        assert_int_equal(arena_mask(&s.rig.a, 0)[i], 0);
    }
    rig_close(&s.rig);
}

static void records_arrive_in_order_and_whole(void **state)
{
    (void)state;
    transfer(1, 20000, 4, 1000);
    transfer(2, 20000, 40, 0);
}

static void a_full_ring_holds_the_writer_until_there_is_room(void **state)
{
    (void)state;
    transfer(3, 3000, RECORD_BYTES_MAX / LINE, 0);
    transfer(4, 3000, RECORD_BYTES_MAX / LINE, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_arrive_in_order_and_whole),
        TEST(a_full_ring_holds_the_writer_until_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/shm/ring.c: one writer and one reader against a queue, in every position of the ring. Test process. */
#include <string.h>

#include "shm/ring.h"
#include "unit/arena_help.h"

enum { MODEL_MAX = HELP_RING_BYTES / LINE + 1 };

/* What was published and is not done: number and size of each, oldest first. */
struct model {
    struct arena a;
    struct ring_writer w;
    struct ring_reader r;
    uint64_t done;      /* as the timeline says */
    uint64_t published; /* newest */
    uint64_t moved;     /* the reader stands behind this record */
    uint32_t bytes[MODEL_MAX];
    uint64_t in_use;
};

static void model_open(struct model *m)
{
    memset(m, 0, sizeof(*m));
    help_arena(&m->a, 1, 0);
    ring_writer_init(&m->w, &m->a, 0);
    ring_reader_init(&m->r, &m->a, 0, 0);
}

static void fill(struct record *rec, uint32_t bytes, uint64_t number)
{
    rec->kind = RECORD_TASK;
    rec->wait_count = 0;
    rec->task = number * 7;
    /* Argument bytes that look like a stamp must not be taken for one: small numbers, those to come too. */
    uint64_t *words = (uint64_t *)(rec + 1);
    for (uint32_t i = 0; i < (bytes - LINE) / 8; i++) {
        words[i] = number + 1 + i % 5;
    }
}

static bool write_one(struct model *m, uint32_t bytes)
{
    struct record *rec = ring_reserve(&m->w, bytes, m->done);
    if (!rec) {
        assert_true(m->w.published > m->done);
        assert_true(ring_blocked_on(&m->w) > m->done);
        /* Never refused for less than a wasted end, the kept line and what is in use. */
        assert_true(m->in_use + 2 * (uint64_t)bytes + LINE + RECORD_BYTES_MAX > HELP_RING_BYTES);
        return false;
    }
    assert_true((uint8_t *)rec + bytes <= m->w.data + HELP_RING_BYTES);
    fill(rec, bytes, m->published + 1);
    assert_int_equal(ring_publish(&m->w, rec, bytes), m->published + 1);
    m->published++;
    m->bytes[m->published % MODEL_MAX] = bytes;
    m->in_use += bytes;
    return true;
}

static void check_record(const struct model *m, const struct record *rec, uint64_t number)
{
    uint32_t bytes = m->bytes[number % MODEL_MAX];
    assert_non_null(rec);
    assert_int_equal(rec->kind, RECORD_TASK);
    assert_int_equal(rec->task, number * 7);
    assert_int_equal(rec->bytes, bytes);
    const uint64_t *words = (const uint64_t *)(rec + 1);
    uint32_t last = (bytes - LINE) / 8;
    if (last > 0) {
        assert_int_equal(words[0], number + 1);
        assert_int_equal(words[last - 1], number + 1 + (last - 1) % 5);
    }
    assert_ptr_equal(ring_record(&m->a, 0, number), rec);
}

/* The reader looks; when there is a record it moves behind it, but the timeline does not yet say so. */
static void read_one(struct model *m)
{
    const struct record *rec = ring_peek(&m->r);
    assert_int_equal(rec != NULL, m->moved < m->published);
    if (rec && m->moved == m->done) {
        check_record(m, rec, m->moved + 1);
        ring_advance(&m->r, rec);
        m->moved++;
    }
}

static void finish_one(struct model *m)
{
    if (m->done < m->moved) {
        m->done++;
        m->in_use -= m->bytes[m->done % MODEL_MAX];
    }
}

/* A replacement: it knows the timeline only. */
static void take_over(struct model *m)
{
    memset(&m->r, 0xa5, sizeof(m->r));
    ring_reader_init(&m->r, &m->a, 0, m->done);
    m->moved = m->done;
}

static uint32_t random_bytes(struct harness_random *r)
{
    static const uint32_t max[] = {2, 2, 16, 200, RECORD_BYTES_MAX / LINE};
    return (1 + harness_below(r, max[harness_below(r, 5)])) * LINE;
}

static void steps(struct model *m, uint64_t seed, uint32_t count)
{
    struct harness_random r;
    harness_random_init(&r, seed);
    uint32_t bias = harness_below(&r, 60);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t what = harness_below(&r, 100);
        if (what < 20 + bias) {
            write_one(m, random_bytes(&r));
        } else if (what < 60 + bias / 3) {
            read_one(m);
        } else if (what < 97) {
            finish_one(m);
        } else {
            take_over(m);
        }
    }
    while (m->done < m->published) {
        read_one(m);
        finish_one(m);
    }
    read_one(m);
}

static void writer_and_reader_agree_with_a_queue(void **state)
{
    (void)state;
    static struct model m;
    for (uint64_t seed = 1; seed <= harness_count(200); seed++) {
        model_open(&m);
        steps(&m, seed, 4000);
        arena_destroy(&m.a);
    }
}

static void a_full_ring_refuses_and_says_what_it_waits_for(void **state)
{
    (void)state;
    static struct model m;
    model_open(&m);
    while (write_one(&m, LINE)) {
    }
    assert_int_equal(m.published, HELP_RING_BYTES / LINE - 1);
    assert_int_equal(ring_blocked_on(&m.w), 1);
    assert_null(ring_reserve(&m.w, LINE, 0));
    read_one(&m);
    finish_one(&m);
    assert_true(write_one(&m, LINE));
    assert_false(write_one(&m, LINE));
    assert_int_equal(ring_blocked_on(&m.w), 2);
    arena_destroy(&m.a);
}

static void a_timeline_that_lies_frees_nothing(void **state)
{
    (void)state;
    static struct model m;
    model_open(&m);
    while (write_one(&m, LINE)) {
    }
    assert_null(ring_reserve(&m.w, LINE, UINT64_MAX));
    assert_null(ring_reserve(&m.w, LINE, m.published + 1));
    assert_int_equal(ring_blocked_on(&m.w), 1);
    /* Back again after it was ahead: what was freed stays freed. */
    read_one(&m);
    finish_one(&m);
    assert_non_null(ring_reserve(&m.w, LINE, 1));
    assert_non_null(ring_reserve(&m.w, LINE, 0));
    arena_destroy(&m.a);
}

/* The reader has done record n and still stands before the wrap that leads to n + 1. */
static void the_wrap_stays_until_the_reader_has_come_by(void **state)
{
    (void)state;
    static struct model m;
    for (uint32_t last = 1; last < 40; last++) {
        model_open(&m);
        while ((m.w.tail & m.w.mask) != HELP_RING_BYTES - 40 * LINE) {
            assert_true(write_one(&m, LINE));
            read_one(&m);
            finish_one(&m);
        }
        assert_true(write_one(&m, last * LINE)); /* ends before the end, so the next one wraps */
        read_one(&m);
        assert_true(write_one(&m, 40 * LINE));
        finish_one(&m);
        while (write_one(&m, (1 + last % 3) * LINE)) {
        }
        read_one(&m);
        assert_int_equal(m.moved, m.done + 1);
        arena_destroy(&m.a);
    }
}

static void a_reserve_without_publish_can_be_made_again(void **state)
{
    (void)state;
    static struct model m;
    model_open(&m);
    for (int i = 0; i < 3000; i++) {
        uint32_t bytes = (uint32_t)(1 + i * 37 % 900) * LINE;
        if (ring_reserve(&m.w, bytes, m.done) && i % 3 != 0) {
            read_one(&m); /* nothing to be seen yet, also across a wrap */
            write_one(&m, LINE * (1 + (uint32_t)i % 5));
        }
        read_one(&m);
        finish_one(&m);
        if (i % 7 == 0) {
            take_over(&m);
        }
    }
    arena_destroy(&m.a);
}

static void a_replacement_takes_over_at_every_position(void **state)
{
    (void)state;
    static struct model m;
    struct harness_random r;
    harness_random_init(&r, 4);
    model_open(&m);
    for (uint32_t i = 0; i < harness_count(20000); i++) {
        write_one(&m, random_bytes(&r));
        take_over(&m);
        read_one(&m);
        take_over(&m);
        read_one(&m);
        finish_one(&m);
        take_over(&m);
    }
    arena_destroy(&m.a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(writer_and_reader_agree_with_a_queue),
        TEST(a_full_ring_refuses_and_says_what_it_waits_for),
        TEST(a_timeline_that_lies_frees_nothing),
        TEST(the_wrap_stays_until_the_reader_has_come_by),
        TEST(a_reserve_without_publish_can_be_made_again),
        TEST(a_replacement_takes_over_at_every_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

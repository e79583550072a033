/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */

/*
 * Tests of src/engine/blocks.c. They run in one process that stands for the orchestrator and own
 * nothing after each test. No range here has memory behind it: a read or write of a managed address
 * would be a fault. The random tests compare with a sorted array of live blocks; a failing one
 * repeats from the seed it prints.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/blocks.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define BASE (UINT64_C(1) << 44)

static uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static uint64_t round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) / align * align;
}

static void start(struct blocks *b, uint64_t base, uint64_t bytes)
{
    assert_int_equal(blocks_init(b, base, bytes), 0);
    assert_int_equal(blocks_check(b), 0);
}

static uint64_t take(struct blocks *b, uint64_t bytes, uint64_t align)
{
    uint64_t addr = 0;

    assert_int_equal(blocks_alloc(b, bytes, align, 0, &addr), 0);
    return addr;
}

static void give(struct blocks *b, uint64_t addr)
{
    assert_int_equal(blocks_free(b, addr), 0);
}

static uint64_t largest(const struct blocks *b)
{
    struct blocks_stat stat;

    blocks_stat(b, &stat);
    return stat.largest_free;
}

static void expect_refused(struct blocks *b, uint64_t bytes, uint64_t align, int rc)
{
    uint64_t addr = 12345;

    assert_int_equal(blocks_alloc(b, bytes, align, 0, &addr), rc);
    assert_int_equal(addr, 12345);
    assert_int_equal(blocks_check(b), 0);
}

static void a_zeroed_allocator_can_be_finished_twice_and_null_too(void **state)
{
    struct blocks b;

    (void)state;
    memset(&b, 0, sizeof(b));
    blocks_fini(&b);
    blocks_fini(&b);
    blocks_fini(NULL);
    start(&b, BASE, MIB);
    take(&b, 100, 64);
    blocks_fini(&b);
    blocks_fini(&b);
}

static void after_fini_nothing_is_found_or_freed_and_nothing_fits(void **state)
{
    struct block_info info;
    struct blocks b;
    uint64_t addr;

    (void)state;
    start(&b, BASE, MIB);
    addr = take(&b, 100, 64);
    blocks_fini(&b);
    assert_int_equal(blocks_find(&b, addr, &info), -ENOENT);
    assert_int_equal(blocks_free(&b, addr), -ENOENT);
    assert_int_equal(blocks_alloc(&b, 1, 64, 0, &addr), -ENOSPC);
}

static void a_range_is_trimmed_to_whole_units_at_both_ends(void **state)
{
    struct blocks b;

    (void)state;
    start(&b, BASE + 1, 4 * 64);
    assert_int_equal(largest(&b), 3 * 64);
    assert_int_equal(take(&b, 3 * 64, 64), BASE + 64);
    blocks_fini(&b);
}

static void a_range_below_one_unit_holds_nothing(void **state)
{
    uint64_t bytes;
    struct blocks b;

    (void)state;
    for (bytes = 0; bytes < 64; bytes++) {
        start(&b, BASE, bytes);
        expect_refused(&b, 1, 64, -ENOSPC);
        assert_int_equal(blocks_free(&b, BASE), -ENOENT);
        assert_int_equal(largest(&b), 0);
        blocks_fini(&b);
    }
}

static void a_range_that_wraps_around_is_refused(void **state)
{
    struct blocks b;

    (void)state;
    assert_int_equal(blocks_init(&b, UINT64_MAX - 4096, 8192), -EINVAL);
    assert_int_equal(blocks_init(&b, UINT64_MAX - 1, 0), -EINVAL);
    blocks_fini(&b);
}

static void a_range_may_start_at_zero_and_may_end_near_the_top(void **state)
{
    struct blocks b;

    (void)state;
    start(&b, 0, MIB);
    assert_int_equal(take(&b, MIB, MIB), 0);
    give(&b, 0);
    blocks_fini(&b);

    start(&b, UINT64_MAX - MIB + 1 - 64, MIB);
    expect_refused(&b, 64, UINT64_C(1) << 63, -ENOSPC);
    take(&b, MIB, 64);
    blocks_fini(&b);
}

static void zero_bytes_and_bad_alignments_are_refused(void **state)
{
    struct blocks b;

    (void)state;
    start(&b, BASE, MIB);
    expect_refused(&b, 0, 64, -EINVAL);
    expect_refused(&b, 64, 0, -EINVAL);
    expect_refused(&b, 64, 32, -EINVAL);
    expect_refused(&b, 64, 96, -EINVAL);
    expect_refused(&b, UINT64_MAX, 64, -ENOSPC);
    expect_refused(&b, UINT64_MAX - 63, UINT64_C(1) << 63, -ENOSPC);
    blocks_fini(&b);
}

static void every_alignment_is_kept_and_the_gap_before_stays_free(void **state)
{
    uint64_t align, addr;
    struct blocks b;

    (void)state;
    start(&b, BASE + 64, 4 * GIB);
    for (align = 64; align <= GIB; align *= 2) {
        addr = take(&b, align == 64 ? 1 : align / 2 + 1, align);
        assert_int_equal(addr % align, 0);
        assert_int_equal(blocks_check(&b), 0);
    }
    assert_int_equal(take(&b, 64, 64) < BASE + 4 * GIB, true);
    blocks_fini(&b);
}

static void a_hole_that_fits_at_one_alignment_only_is_found(void **state)
{
    struct blocks b;
    uint64_t addr;

    (void)state;
    start(&b, BASE, 64 * KIB);
    addr = take(&b, 64 * KIB, 64);
    give(&b, addr);
    assert_int_equal(take(&b, 8 * KIB, 64), BASE);
    assert_int_equal(take(&b, 4 * KIB, 4 * KIB), BASE + 8 * KIB);
    assert_int_equal(take(&b, 52 * KIB, 64), BASE + 12 * KIB);
    give(&b, BASE + 8 * KIB);
    expect_refused(&b, 4 * KIB, 16 * KIB, -ENOSPC);
    assert_int_equal(take(&b, 4 * KIB, 4 * KIB), BASE + 8 * KIB);
    blocks_fini(&b);
}

static void a_range_fills_to_the_last_unit_and_fills_again(void **state)
{
    enum { COUNT = 1000 };
    uint64_t addr[COUNT], seed = 7, swap;
    struct blocks_stat stat;
    struct blocks b;
    int round, i, j;

    (void)state;
    start(&b, BASE, COUNT * 192);
    for (round = 0; round < 5; round++) {
        for (i = 0; i < COUNT; i++)
            addr[i] = take(&b, 129 + draw(&seed) % 64, 64);
        expect_refused(&b, 1, 64, -ENOSPC);
        blocks_stat(&b, &stat);
        assert_int_equal(stat.held, COUNT * 192);
        assert_int_equal(stat.free, 0);
        assert_int_equal(stat.largest_free, 0);
        assert_int_equal(stat.live_count, COUNT);
        for (i = COUNT - 1; i > 0; i--) {
            j = (int)(draw(&seed) % (uint64_t)(i + 1));
            swap = addr[i], addr[i] = addr[j], addr[j] = swap;
        }
        for (i = 0; i < COUNT; i++)
            give(&b, addr[i]);
        assert_int_equal(blocks_check(&b), 0);
        assert_int_equal(largest(&b), COUNT * 192);
    }
    blocks_fini(&b);
}

static void a_range_of_any_size_can_be_taken_whole(void **state)
{
    uint64_t units;
    struct blocks b;

    (void)state;
    for (units = 1; units < 3000; units++) {
        start(&b, BASE, units * 64);
        assert_int_equal(take(&b, units * 64 - 63, 64), BASE);
        give(&b, BASE);
        blocks_fini(&b);
    }
    start(&b, BASE, 64 * TIB + 64);
    assert_int_equal(take(&b, 64 * TIB + 64, 64), BASE);
    blocks_fini(&b);
}

static void a_freed_block_is_the_next_one_of_its_size(void **state)
{
    static const uint64_t sizes[] = {64, 4160, 65536 + 64, 999936};
    uint64_t first, second;
    struct blocks b;
    size_t i;

    (void)state;
    start(&b, BASE, 64 * MIB);
    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        first = take(&b, sizes[i], 64);
        second = take(&b, 64, 64);
        give(&b, first);
        assert_int_equal(take(&b, sizes[i], 64), first);
        assert_true(second > first);
    }
    blocks_fini(&b);
}

static void a_freed_block_joins_its_free_neighbours_on_either_side(void **state)
{
    static const int orders[][3] = {
        {0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0},
    };
    uint64_t addr[3];
    struct blocks b;
    size_t i;
    int j;

    (void)state;
    start(&b, BASE, 3 * 4096);
    for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        for (j = 0; j < 3; j++)
            addr[j] = take(&b, 4096, 64);
        for (j = 0; j < 3; j++) {
            give(&b, addr[orders[i][j]]);
            assert_int_equal(blocks_check(&b), 0);
        }
        assert_int_equal(largest(&b), 3 * 4096);
    }
    blocks_fini(&b);
}

static void freeing_twice_or_inside_or_elsewhere_is_refused_and_changes_nothing(void **state)
{
    struct blocks_stat before, after;
    uint64_t first, second, third, i;
    struct blocks b;

    (void)state;
    start(&b, BASE, MIB);
    first = take(&b, 1000, 64);
    second = take(&b, 64, 64);
    third = take(&b, 64, 64);
    give(&b, second);
    blocks_stat(&b, &before);
    assert_int_equal(blocks_free(&b, second), -ENOENT);
    for (i = 1; i < 1024; i++)
        assert_int_equal(blocks_free(&b, first + i), -ENOENT);
    assert_int_equal(blocks_free(&b, third + 64), -ENOENT);
    assert_int_equal(blocks_free(&b, BASE - 64), -ENOENT);
    assert_int_equal(blocks_free(&b, BASE + MIB - 64), -ENOENT);
    assert_int_equal(blocks_free(&b, BASE + MIB), -ENOENT);
    assert_int_equal(blocks_free(&b, 0), -ENOENT);
    assert_int_equal(blocks_free(&b, UINT64_MAX), -ENOENT);
    blocks_stat(&b, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(blocks_check(&b), 0);
    give(&b, first);
    give(&b, third);
    assert_int_equal(blocks_free(&b, third), -ENOENT);
    blocks_fini(&b);
}

static void find_tells_base_bytes_as_asked_and_owner_of_any_byte_inside(void **state)
{
    struct block_info info;
    uint64_t addr, at;
    struct blocks b;

    (void)state;
    start(&b, BASE, MIB);
    take(&b, 64, 64);
    assert_int_equal(blocks_alloc(&b, 1000, 256, 0xfeedbeef, &addr), 0);
    for (at = addr; at < addr + 1000; at++) {
        assert_int_equal(blocks_find(&b, at, &info), 0);
        assert_int_equal(info.base, addr);
        assert_int_equal(info.bytes, 1000);
        assert_int_equal(info.owner, 0xfeedbeef);
    }
    for (at = addr + 1000; at < addr + 1100; at++)
        assert_int_equal(blocks_find(&b, at, &info), -ENOENT);
    assert_int_equal(blocks_find(&b, addr - 1, &info), -ENOENT);
    assert_int_equal(blocks_find(&b, BASE - 1, &info), -ENOENT);
    assert_int_equal(blocks_find(&b, BASE + MIB, &info), -ENOENT);
    give(&b, addr);
    assert_int_equal(blocks_find(&b, addr, &info), -ENOENT);
    blocks_fini(&b);
}

static void find_reaches_back_over_any_distance(void **state)
{
    uint64_t bytes, addr;
    struct block_info info;
    struct blocks b;

    (void)state;
    start(&b, BASE, 64 * TIB);
    for (bytes = 512; bytes <= 16 * TIB; bytes *= 2) {
        take(&b, 64, 64);
        addr = take(&b, bytes, 64);
        assert_int_equal(blocks_find(&b, addr + bytes - 1, &info), 0);
        assert_int_equal(info.base, addr);
        assert_int_equal(blocks_find(&b, addr + bytes / 2 + 3, &info), 0);
        assert_int_equal(info.base, addr);
    }
    assert_int_equal(blocks_find(&b, BASE + 64 * TIB - 1, &info), -ENOENT);
    blocks_fini(&b);
}

static void blocks_whose_cells_have_the_same_low_bits_are_told_apart(void **state)
{
    struct block_info info;
    struct blocks b;
    uint64_t i;

    (void)state;
    start(&b, BASE, 16 * TIB);
    for (i = 0; i < 4; i++) {
        assert_int_equal(take(&b, 64, 64), BASE + i * 2 * TIB);
        assert_int_equal(take(&b, 2 * TIB - 64, 64), BASE + i * 2 * TIB + 64);
    }
    give(&b, BASE + 2 * TIB);
    give(&b, BASE + 2 * TIB + 64);
    assert_int_equal(blocks_check(&b), 0);
    assert_int_equal(blocks_free(&b, BASE + 2 * TIB), -ENOENT);
    assert_int_equal(blocks_find(&b, BASE + 2 * TIB, &info), -ENOENT);
    for (i = 0; i < 4; i++) {
        assert_int_equal(blocks_find(&b, BASE + i * 2 * TIB + 63, &info), i == 1 ? -ENOENT : 0);
        assert_true(i == 1 || info.base == BASE + i * 2 * TIB);
    }
    blocks_fini(&b);
}

static void at_exhaustion_the_largest_free_is_told_and_can_still_be_had(void **state)
{
    enum { COUNT = 500 };
    uint64_t addr[COUNT], seed = 99, most = 0, bytes, rest;
    struct blocks b;
    int i;

    (void)state;
    start(&b, BASE, 64 * MIB);
    for (i = 0; i < COUNT; i++)
        addr[i] = take(&b, 1 + draw(&seed) % (128 * KIB), 64);
    rest = largest(&b);
    take(&b, rest, 64);
    assert_int_equal(largest(&b), 0);
    for (i = 0; i < COUNT; i += 2) {
        struct block_info info;

        assert_int_equal(blocks_find(&b, addr[i], &info), 0);
        bytes = round_up(info.bytes, 64);
        most = bytes > most ? bytes : most;
        give(&b, addr[i]);
    }
    for (i = 0; i < COUNT / 2; i++) {
        bytes = largest(&b);
        assert_true(i > 0 || bytes == most);
        expect_refused(&b, bytes + 1, 64, -ENOSPC);
        take(&b, bytes, 64);
    }
    assert_int_equal(largest(&b), 0);
    expect_refused(&b, 1, 64, -ENOSPC);
    blocks_fini(&b);
}

static void the_high_water_mark_stays_when_the_blocks_go(void **state)
{
    struct blocks_stat stat;
    uint64_t first, second;
    struct blocks b;

    (void)state;
    start(&b, BASE, MIB);
    first = take(&b, 1000, 64);
    second = take(&b, 5000, 64);
    give(&b, first);
    give(&b, second);
    take(&b, 64, 64);
    blocks_stat(&b, &stat);
    assert_int_equal(stat.held, 64);
    assert_int_equal(stat.held_max, 1024 + 5056);
    assert_int_equal(stat.free, MIB - 64);
    assert_int_equal(stat.live_count, 1);
    blocks_fini(&b);
}

static void without_memory_for_metadata_an_allocation_fails_and_changes_nothing(void **state)
{
    uint64_t addr = 0, seed = 5, count = 0, refused = 0;
    struct blocks_stat before, after;
    struct blocks b;
    int rc;

    (void)state;
    start(&b, BASE, 64 * GIB);
    while (count < 5000) {
        b.meta_bytes_max = b.meta_bytes;
        blocks_stat(&b, &before);
        rc = blocks_alloc(&b, 1 + draw(&seed) % (4 * MIB), 4096, 0, &addr);
        if (rc == 0) {
            count++;
            continue;
        }
        assert_int_equal(rc, -ENOMEM);
        blocks_stat(&b, &after);
        before.meta_bytes = after.meta_bytes; /* one of two parts may have grown already */
        assert_memory_equal(&before, &after, sizeof(before));
        assert_int_equal(blocks_check(&b), 0);
        refused++;
        b.meta_bytes_max = 0;
        take(&b, 4096, 4096);
        count++;
    }
    assert_true(refused > 100);
    assert_int_equal(blocks_check(&b), 0);
    blocks_fini(&b);
}

/* The limit goes up a word at a time: each part of what the block needs is refused once. */
static void a_refused_first_block_changes_nothing_and_can_be_had_later(void **state)
{
    uint64_t near, addr = 0, meta, grown = 0, extra;
    struct blocks_stat before, after;
    struct block_info info;
    struct blocks b;
    int rc;

    (void)state;
    start(&b, BASE, 64 * GIB);
    near = take(&b, 64, 64);
    blocks_stat(&b, &before);
    meta = before.meta_bytes;
    for (extra = 0;; extra += 8) {
        b.meta_bytes_max = meta + extra;
        rc = blocks_alloc(&b, 64 * MIB, GIB, 7, &addr);
        blocks_stat(&b, &after);
        assert_true(after.meta_bytes <= b.meta_bytes_max);
        assert_int_equal(blocks_check(&b), 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(addr, 0);
        grown += after.meta_bytes > before.meta_bytes;
        before.meta_bytes = after.meta_bytes; /* a part may be there already */
        assert_memory_equal(&before, &after, sizeof(before));
        assert_int_equal(blocks_find(&b, BASE + GIB, &info), -ENOENT);
        assert_int_equal(blocks_free(&b, BASE + GIB), -ENOENT);
        assert_int_equal(blocks_find(&b, near + 63, &info), 0);
        assert_int_equal(info.base, near);
    }
    assert_true(grown > 0); /* that is: refused with one part there and another missing */
    assert_int_equal(addr, BASE + GIB);
    assert_int_equal(blocks_find(&b, addr + 64 * MIB - 1, &info), 0);
    assert_int_equal(info.owner, 7);

    give(&b, addr);
    b.meta_bytes_max = after.meta_bytes; /* what is there is enough for the same again */
    assert_int_equal(take(&b, 64 * MIB, GIB), addr);
    blocks_fini(&b);
}

static void a_first_large_block_costs_little_metadata_wherever_it_starts(void **state)
{
    uint64_t meta, i;
    struct blocks b;

    (void)state;
    start(&b, BASE, 64 * GIB);
    for (i = 0; i < 16; i++) {
        meta = b.meta_bytes;
        assert_int_equal(take(&b, 128 * MIB, 64), BASE + i * 128 * MIB);
        assert_true(b.meta_bytes - meta <= 2 * KIB);
    }
    blocks_fini(&b);
}

/* Blocks start in the first and the last cell of parts of the map, with nothing between. */
static void find_steps_over_parts_of_the_map_that_are_not_there(void **state)
{
    static const uint64_t at[] = {
        0, 2 * MIB - 64, 6 * MIB, 128 * MIB - 64, 8 * GIB - 64, 8 * GIB + 4 * MIB, 40 * GIB};
    enum { COUNT = sizeof(at) / sizeof(at[0]) };
    struct block_info info;
    struct blocks b;
    size_t i, j;

    (void)state;
    start(&b, BASE, 64 * GIB);
    for (i = 0; i < COUNT; i++) /* each reaches to the next one */
        assert_int_equal(take(&b, (i + 1 < COUNT ? at[i + 1] : 64 * GIB) - at[i], 64),
                         BASE + at[i]);
    for (i = 0; i < COUNT; i++) {
        for (j = 0; j < COUNT; j++) {
            uint64_t addr = BASE + (j + 1 < COUNT ? at[j + 1] : 64 * GIB) - 1;

            assert_int_equal(blocks_find(&b, addr, &info), j < i ? -ENOENT : 0);
            assert_true(j < i || info.base == BASE + at[j]);
        }
        give(&b, BASE + at[i]);
        assert_int_equal(blocks_check(&b), 0);
    }
    assert_int_equal(blocks_find(&b, BASE + 3 * MIB, &info), -ENOENT);
    blocks_fini(&b);
}

static void check_notices_metadata_that_contradicts_itself(void **state)
{
    struct blocks b;
    uint64_t addr;

    (void)state;
    start(&b, BASE, MIB);
    addr = take(&b, 64, 64);
    take(&b, 64, 64);
    give(&b, addr);

    b.live_count++;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.live_count--;
    b.held += 64;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.held -= 64;
    b.rows_used ^= 1;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.rows_used ^= 1;
    b.classes_used[0] ^= 1 << 1;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.classes_used[0] ^= 1 << 1;
    b.slot_used++;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.slot_used--;
    b.chunks_used[0] ^= 1;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.chunks_used[0] ^= 1;
    b.spare_count++;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.spare_count--;
    b.meta_bytes++;
    assert_int_equal(blocks_check(&b), -EUCLEAN);
    b.meta_bytes--;
    assert_int_equal(blocks_check(&b), 0);
    blocks_fini(&b);
}

/* The naive reference: live blocks in address order. */

#define NAIVE_MAX 2000u

struct naive {
    uint64_t base;
    uint64_t bytes;
    uint64_t held;
    uint32_t count;
    struct block_info live[NAIVE_MAX];
};

/* Where the first live block after addr stands. */
static uint32_t naive_after(const struct naive *n, uint64_t addr)
{
    uint32_t i = 0;

    while (i < n->count && n->live[i].base <= addr)
        i++;
    return i;
}

static const struct block_info *naive_find(const struct naive *n, uint64_t addr)
{
    uint32_t i = naive_after(n, addr);

    if (i == 0 || addr - n->live[i - 1].base >= n->live[i - 1].bytes)
        return NULL;
    return &n->live[i - 1];
}

/* The largest gap between live blocks, measured from the first multiple of align in it. */
static uint64_t naive_largest(const struct naive *n, uint64_t align)
{
    uint64_t from = n->base, to, most = 0;
    uint32_t i;

    for (i = 0; i <= n->count; i++) {
        to = i < n->count ? n->live[i].base : n->base + n->bytes;
        from = round_up(from, align);
        if (to > from && to - from > most)
            most = to - from;
        if (i < n->count)
            from = n->live[i].base + round_up(n->live[i].bytes, 64);
    }
    return most;
}

static void naive_add(struct naive *n, const struct block_info *info)
{
    uint64_t end = info->base + round_up(info->bytes, 64);
    uint32_t i = naive_after(n, info->base);

    assert_true(n->count < NAIVE_MAX && info->base >= n->base && end <= n->base + n->bytes);
    if (i > 0)
        assert_true(n->live[i - 1].base + round_up(n->live[i - 1].bytes, 64) <= info->base);
    if (i < n->count)
        assert_true(end <= n->live[i].base);
    memmove(&n->live[i + 1], &n->live[i], (n->count - i) * sizeof(n->live[0]));
    n->live[i] = *info;
    n->count++;
    n->held += end - info->base;
}

static void naive_remove(struct naive *n, uint32_t i)
{
    n->held -= round_up(n->live[i].bytes, 64);
    n->count--;
    memmove(&n->live[i], &n->live[i + 1], (n->count - i) * sizeof(n->live[0]));
}

static void expect_same_find(struct blocks *b, const struct naive *n, uint64_t addr)
{
    const struct block_info *want = naive_find(n, addr);
    struct block_info got;

    if (want == NULL) {
        assert_int_equal(blocks_find(b, addr, &got), -ENOENT);
        return;
    }
    assert_int_equal(blocks_find(b, addr, &got), 0);
    assert_int_equal(got.base, want->base);
    assert_int_equal(got.bytes, want->bytes);
    assert_int_equal(got.owner, want->owner);
}

static void expect_same(struct blocks *b, const struct naive *n, uint64_t *seed)
{
    const struct block_info *some;
    struct blocks_stat stat;

    assert_int_equal(blocks_check(b), 0);
    blocks_stat(b, &stat);
    assert_int_equal(stat.held, n->held);
    assert_int_equal(stat.free, n->bytes - n->held);
    assert_int_equal(stat.live_count, n->count);
    assert_int_equal(stat.largest_free, naive_largest(n, 64));
    expect_same_find(b, n, n->base + draw(seed) % n->bytes);
    if (n->count == 0)
        return;
    some = &n->live[draw(seed) % n->count];
    expect_same_find(b, n, some->base);
    expect_same_find(b, n, some->base - 1);
    expect_same_find(b, n, some->base + some->bytes - 1);
    expect_same_find(b, n, some->base + some->bytes);
    expect_same_find(b, n, some->base + draw(seed) % some->bytes);
}

static void step_alloc(struct blocks *b, struct naive *n, uint64_t bytes_max, uint64_t *seed)
{
    uint64_t align = UINT64_C(64) << (draw(seed) % 4 == 0 ? draw(seed) % 10 : 0), addr = 0;
    uint64_t bytes = 1 + draw(seed) % (bytes_max >> draw(seed) % 12);
    uint32_t owner = (uint32_t)draw(seed);
    int rc = blocks_alloc(b, bytes, align, owner, &addr);

    if (naive_largest(n, align) < round_up(bytes, 64)) {
        assert_int_equal(rc, -ENOSPC);
        return;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(addr % align, 0);
    naive_add(n, &(struct block_info){.base = addr, .bytes = bytes, .owner = owner});
}

static void step_free(struct blocks *b, struct naive *n, uint64_t *seed)
{
    uint64_t addr = n->base + draw(seed) % n->bytes / 64 * 64;
    const struct block_info *at = naive_find(n, addr);
    uint32_t i;

    if (at == NULL || at->base != addr)
        assert_int_equal(blocks_free(b, addr), -ENOENT);
    if (n->count == 0)
        return;
    i = (uint32_t)(draw(seed) % n->count);
    addr = n->live[i].base;
    assert_int_equal(blocks_free(b, addr), 0);
    assert_int_equal(blocks_free(b, addr), -ENOENT);
    naive_remove(n, i);
}

/* The share of allocations swings, so that the range is full at times and empty at others. */
static void compare(uint64_t base, uint64_t bytes, uint64_t bytes_max, uint64_t seed,
                    uint32_t steps)
{
    struct naive *n = calloc(1, sizeof(*n));
    struct blocks b;
    uint32_t i;

    assert_non_null(n);
    print_message("seed %llu\n", (unsigned long long)seed);
    start(&b, base, bytes);
    n->base = base;
    n->bytes = bytes;
    for (i = 0; i < steps; i++) {
        if (n->count < NAIVE_MAX && draw(&seed) % 100 < (i / 1500 % 2 == 0 ? 65 : 35))
            step_alloc(&b, n, bytes_max, &seed);
        else
            step_free(&b, n, &seed);
        expect_same(&b, n, &seed);
    }
    while (n->count > 0)
        step_free(&b, n, &seed);
    expect_same(&b, n, &seed);
    assert_int_equal(largest(&b), bytes);
    blocks_fini(&b);
    free(n);
}

static void a_crowded_range_agrees_with_the_naive_one_at_every_step(void **state)
{
    (void)state;
    compare(BASE + 192, 512 * KIB + 64, 32 * KIB, 11, 12000);
    compare(BASE, 64 * KIB, 4 * KIB, 12, 12000);
}

static void a_wide_range_agrees_with_the_naive_one_at_every_step(void **state)
{
    (void)state;
    compare(BASE, GIB, 64 * MIB, 13, 9000);
    compare(64, 3 * TIB, 700 * GIB, 14, 500);
}

static void a_million_allocations_leave_the_metadata_as_it_was(void **state)
{
    enum { SLOTS = 1000, WARM = 100000, STEPS = 1000000 };
    uint64_t addr[SLOTS] = {0}, seed = 3, meta = 0;
    struct blocks_stat stat;
    struct blocks b;
    uint32_t i, slot;

    (void)state;
    start(&b, BASE, GIB);
    /* The map of all the range: it grows with the addresses that were ever used. */
    for (i = 0; i < GIB / (2 * MIB); i++)
        take(&b, 2 * MIB, 64);
    for (i = 0; i < GIB / (2 * MIB); i++)
        give(&b, BASE + i * 2 * MIB);
    for (i = 0; i < STEPS; i++) {
        slot = (uint32_t)(draw(&seed) % SLOTS);
        if (addr[slot] != 0)
            give(&b, addr[slot]);
        addr[slot] = take(&b, 1 + draw(&seed) % (256 * KIB), 64);
        if (i == WARM) {
            blocks_stat(&b, &stat);
            meta = stat.meta_bytes;
        }
    }
    blocks_stat(&b, &stat);
    assert_int_equal(stat.meta_bytes, meta);
    assert_int_equal(blocks_check(&b), 0);
    blocks_fini(&b);
}

static void a_hundred_thousand_live_blocks_are_all_found_and_all_freed(void **state)
{
    enum { COUNT = 100000 };
    uint64_t *addr = calloc(COUNT, sizeof(*addr)), seed = 21, swap;
    struct block_info info;
    struct blocks b;
    uint32_t i, j;

    (void)state;
    assert_non_null(addr);
    start(&b, BASE, 64 * GIB);
    for (i = 0; i < COUNT; i++) {
        uint64_t bytes = 1 + draw(&seed) % (i % 2 == 0 ? 256 : 64 * KIB);

        assert_int_equal(blocks_alloc(&b, bytes, 64, i, &addr[i]), 0);
    }
    assert_int_equal(blocks_check(&b), 0);
    for (i = 0; i < COUNT; i++) {
        assert_int_equal(blocks_find(&b, addr[i], &info), 0);
        assert_int_equal(info.owner, i);
        assert_int_equal(blocks_find(&b, addr[i] + draw(&seed) % info.bytes, &info), 0);
        assert_int_equal(info.owner, i);
    }
    for (i = COUNT - 1; i > 0; i--) {
        j = (uint32_t)(draw(&seed) % (i + 1));
        swap = addr[i], addr[i] = addr[j], addr[j] = swap;
    }
    for (i = 0; i < COUNT; i++) {
        give(&b, addr[i]);
        if (i % 10000 == 0)
            assert_int_equal(blocks_check(&b), 0);
    }
    assert_int_equal(largest(&b), 64 * GIB);
    blocks_fini(&b);
    free(addr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zeroed_allocator_can_be_finished_twice_and_null_too),
        cmocka_unit_test(after_fini_nothing_is_found_or_freed_and_nothing_fits),
        cmocka_unit_test(a_range_is_trimmed_to_whole_units_at_both_ends),
        cmocka_unit_test(a_range_below_one_unit_holds_nothing),
        cmocka_unit_test(a_range_that_wraps_around_is_refused),
        cmocka_unit_test(a_range_may_start_at_zero_and_may_end_near_the_top),
        cmocka_unit_test(zero_bytes_and_bad_alignments_are_refused),
        cmocka_unit_test(every_alignment_is_kept_and_the_gap_before_stays_free),
        cmocka_unit_test(a_hole_that_fits_at_one_alignment_only_is_found),
        cmocka_unit_test(a_range_fills_to_the_last_unit_and_fills_again),
        cmocka_unit_test(a_range_of_any_size_can_be_taken_whole),
        cmocka_unit_test(a_freed_block_is_the_next_one_of_its_size),
        cmocka_unit_test(a_freed_block_joins_its_free_neighbours_on_either_side),
        cmocka_unit_test(freeing_twice_or_inside_or_elsewhere_is_refused_and_changes_nothing),
        cmocka_unit_test(find_tells_base_bytes_as_asked_and_owner_of_any_byte_inside),
        cmocka_unit_test(find_reaches_back_over_any_distance),
        cmocka_unit_test(blocks_whose_cells_have_the_same_low_bits_are_told_apart),
        cmocka_unit_test(at_exhaustion_the_largest_free_is_told_and_can_still_be_had),
        cmocka_unit_test(the_high_water_mark_stays_when_the_blocks_go),
        cmocka_unit_test(without_memory_for_metadata_an_allocation_fails_and_changes_nothing),
        cmocka_unit_test(a_refused_first_block_changes_nothing_and_can_be_had_later),
        cmocka_unit_test(a_first_large_block_costs_little_metadata_wherever_it_starts),
        cmocka_unit_test(find_steps_over_parts_of_the_map_that_are_not_there),
        cmocka_unit_test(check_notices_metadata_that_contradicts_itself),
        cmocka_unit_test(a_crowded_range_agrees_with_the_naive_one_at_every_step),
        cmocka_unit_test(a_wide_range_agrees_with_the_naive_one_at_every_step),
        cmocka_unit_test(a_million_allocations_leave_the_metadata_as_it_was),
        cmocka_unit_test(a_hundred_thousand_live_blocks_are_all_found_and_all_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

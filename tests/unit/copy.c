/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/chip/copy.c: every way to copy, at every alignment, leaves the bytes of memcpy and none more. Test process. */
#include <stdlib.h>
#include <string.h>

#include "chip/copy.h"
#include "harness.h"
#include "shm/tuning.h"

enum { GUARD_BYTES = 256, BIG = 3 << 20, ROOM = BIG + 2 * 4096 + 2 * GUARD_BYTES, GUARD = 0xa5 };

static uint8_t *source, *target;

static void check_one(void (*copy)(void *to, const void *from, uint64_t bytes), uint64_t to,
                      uint64_t from, uint64_t bytes)
{
    uint8_t *begin = target + GUARD_BYTES + to;
    memset(begin - GUARD_BYTES, GUARD, GUARD_BYTES);
    memset(begin, 0, bytes);
    memset(begin + bytes, GUARD, GUARD_BYTES);
    copy(begin, source + from, bytes);
    if (memcmp(begin, source + from, bytes) != 0) {
        fail_msg("%llu bytes from %llu to %llu", (unsigned long long)bytes,
                 (unsigned long long)from, (unsigned long long)to);
    }
    for (int i = 0; i < GUARD_BYTES; i++) {
        assert_int_equal(begin[-1 - i], GUARD);
        assert_int_equal(begin[bytes + (uint64_t)i], GUARD);
    }
}

static void check(uint64_t to, uint64_t from, uint64_t bytes)
{
    check_one(copy_bytes, to, from, bytes);
    check_one(copy_out, to, from, bytes);
}

static int make_areas(void **state)
{
    struct harness_random random;
    harness_random_init(&random, 2);
    source = aligned_alloc(4096, ROOM & ~4095u);
    target = aligned_alloc(4096, (ROOM & ~4095u) + 4096);
    for (uint64_t i = 0; source && i < (ROOM & ~4095u); i++) {
        source[i] = (uint8_t)harness_random(&random);
    }
    (void)state;
    return source && target ? 0 : -1;
}

static int free_areas(void **state)
{
    (void)state;
    free(source);
    free(target);
    copy_set_stream_bytes(tuning_default.stream_bytes, tuning_default.stream_out_bytes);
    return 0;
}

static void check_small(void)
{
    for (uint64_t bytes = 0; bytes <= 300; bytes++) {
        check(0, 0, bytes);
        check(1, 0, bytes);
        check(0, 1, bytes);
        check(bytes % 67, bytes % 61, bytes);
    }
}

static void small_copies_are_exact(void **state)
{
    (void)state;
    copy_set_stream_bytes(UINT64_MAX, UINT64_MAX);
    check_small();
}

static void small_copies_past_the_caches_are_exact(void **state)
{
    (void)state;
    copy_set_stream_bytes(1, 1); /* 0 is: as built in */
    check_small();
}

/* A target 1..63 bytes behind its source in the page has a way of its own above 2 KiB. */
static void copies_are_exact_at_every_distance_in_the_page(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {2047, 2048, 2049, 2176, 2177, 4096, 5000, 65536 + 13};
    struct harness_random random;
    harness_random_init(&random, 3);
    for (uint64_t stream = 1; stream != 0; stream = stream == 1 ? UINT64_MAX : 0) {
        copy_set_stream_bytes(stream, stream);
        for (uint64_t behind = 0; behind <= 66; behind++) {
            for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                uint64_t from = harness_below(&random, 70);
                check(from + behind, from, sizes[i]);
                check(from, from + behind, sizes[i]);
            }
        }
    }
}

static void large_copies_are_exact(void **state)
{
    (void)state;
    static const uint64_t streams[] = {UINT64_MAX, BIG - 1, 1 << 16};
    for (int i = 0; i < 3; i++) {
        copy_set_stream_bytes(streams[i], streams[i]);
        for (uint64_t odd = 0; odd < 3; odd++) {
            check(0, odd * 31, BIG - odd);
            check(odd * 17, 0, BIG - odd);
            check(odd, odd, (1 << 16) - 1 + odd);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(small_copies_are_exact),
        TEST(small_copies_past_the_caches_are_exact),
        TEST(copies_are_exact_at_every_distance_in_the_page),
        TEST(large_copies_are_exact),
    };
    return cmocka_run_group_tests(tests, make_areas, free_areas);
}

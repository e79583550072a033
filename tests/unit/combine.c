/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* src/chip/combine.c: every type and operation, with every instruction set, against one element at a time. Test process. */
#include <string.h>

#include "chip/combine.h"
#include "reference.h"

enum { LENGTH_MAX = 1000, RANKS = 3, GUARD = 0x5a };

static void expected_of(int dtype, int op, uint8_t src[][LENGTH_MAX * 8], uint32_t length,
                        uint8_t *to)
{
    uint64_t bytes = tsm_dtype_bytes(dtype);
    for (uint64_t i = 0; i < length; i++) {
        union ref_value acc = ref_widen(dtype, src[0] + i * bytes);
        for (int r = 1; r < RANKS; r++) {
            acc = ref_combine_values(acc, ref_widen(dtype, src[r] + i * bytes), dtype, op);
        }
        ref_narrow(dtype, acc, to + i * bytes);
    }
}

/* Operands at odd elements of their buffers; what lies around the result must stay. */
static void check_length(const struct combine *x, int dtype, int op, uint32_t length,
                         struct harness_random *random)
{
    static uint8_t src[RANKS][LENGTH_MAX * 8], expected[LENGTH_MAX * 8], got[LENGTH_MAX * 8 + 128];
    static uint8_t moved[RANKS][LENGTH_MAX * 8 + 64] __attribute__((aligned(64)));
    static uint8_t acc[LENGTH_MAX * 8 + 128] __attribute__((aligned(64)));
    uint64_t bytes = length * x->element;
    uint8_t *wide = acc + (1 + harness_below(random, 7)) * x->wide;
    uint8_t *to = got + (1 + harness_below(random, 7)) * x->element;
    const uint8_t *from[RANKS];
    memset(acc, GUARD, sizeof(acc));
    memset(got, GUARD, sizeof(got));
    for (int r = 0; r < RANKS; r++) {
        for (uint32_t i = 0; i < length; i++) {
            ref_random(random, dtype, src[r] + i * x->element);
        }
        from[r] = memcpy(moved[r] + harness_below(random, 8) * x->element, src[r], bytes);
    }
    if (harness_below(random, 2)) {
        combine_first(x, wide, from[0], from[1], length);
    } else {
        x->load(wide, from[0], length);
        combine_add(x, wide, from[1], length);
    }
    combine_add(x, wide, from[2], length);
    x->store(to, wide, length);
    expected_of(dtype, op, src, length, expected);
    for (uint32_t i = 0; i < length; i++) {
        if (memcmp(to + i * x->element, expected + i * x->element, x->element) != 0) {
            uint64_t seen = 0, right = 0;
            memcpy(&seen, to + i * x->element, x->element);
            memcpy(&right, expected + i * x->element, x->element);
            fail_msg("%s, op %d, element %u of %u: %llx, not %llx", tsm_dtype_name(dtype), op, i,
                     length, (unsigned long long)seen, (unsigned long long)right);
        }
    }
    assert_int_equal(to[-1], GUARD);
    assert_int_equal(to[bytes], GUARD);
    assert_int_equal(wide[-1], GUARD);
    assert_int_equal(wide[length * x->wide], GUARD);
}

static void every_operation_is_that_of_single_elements(void **state)
{
    (void)state;
    struct harness_random random;
    harness_random_init(&random, 1);
    for (uint32_t variant = 0; variant < combine_variants(); variant++) {
        for (int dtype = TSM_U8; dtype <= TSM_F64; dtype++) {
            for (int op = TSM_SUM; op <= TSM_XOR; op++) {
                struct combine x;
                if (!ref_has(dtype, op)) {
                    continue;
                }
                assert_int_equal(combine_find_variant(variant, dtype, op, &x), 0);
                for (uint32_t length = 0; length <= 100; length++) {
                    check_length(&x, dtype, op, length, &random);
                }
                check_length(&x, dtype, op, LENGTH_MAX, &random);
            }
        }
    }
}

/* ---- conversions ---- */

static struct combine half_kernels(uint32_t variant, int dtype)
{
    struct combine x;
    assert_int_equal(combine_find_variant(variant, dtype, TSM_SUM, &x), 0);
    assert_int_equal(x.element, 2);
    assert_int_equal(x.wide, 4);
    return x;
}

static const int halves[] = {TSM_F16, TSM_BF16};

static void widened_and_stored_every_half_is_itself(void **state)
{
    (void)state;
    static uint16_t all[65536], back[65536];
    static float wide[65536];
    for (uint32_t i = 0; i < 65536; i++) {
        all[i] = (uint16_t)i;
    }
    for (uint32_t v = 0; v < combine_variants(); v++) {
        for (int k = 0; k < 2; k++) {
            struct combine x = half_kernels(v, halves[k]);
            memset(back, 0, sizeof(back));
            x.load(wide, all, 65536);
            for (uint32_t i = 0; i < 65536; i++) {
                float right = ref_half_value(halves[k], all[i]);
                assert_true(isnan(right) ? isnan(wide[i]) : wide[i] == right);
                assert_int_equal(signbit(wide[i]) != 0, i >> 15);
            }
            x.store(back, wide, 65536);
            assert_memory_equal(all, back, sizeof(all));
        }
    }
}

static uint16_t stored(const struct combine *x, float value)
{
    float many[33]; /* long enough for whole vectors; all must be alike */
    uint16_t to[33];
    for (int i = 0; i < 33; i++) {
        many[i] = value;
    }
    x->store(to, many, 33);
    for (int i = 1; i < 33; i++) {
        assert_int_equal(to[i], to[0]);
    }
    return to[0];
}

/* Between two neighbours: the middle goes to the even one, what is next to the middle to the nearer one. */
static void halves_round_to_the_nearest_even(void **state)
{
    (void)state;
    for (uint32_t v = 0; v < combine_variants(); v++) {
        for (int k = 0; k < 2; k++) {
            struct combine x = half_kernels(v, halves[k]);
            uint16_t infinite = ref_half_of(halves[k], INFINITY);
            for (uint16_t low = 0; low + 1 < infinite; low++) {
                float a = ref_half_value(halves[k], low);
                float b = ref_half_value(halves[k], (uint16_t)(low + 1));
                float middle = (float)(((double)a + (double)b) / 2);
                uint16_t even = low % 2 == 0 ? low : low + 1;
                assert_int_equal(stored(&x, middle), even);
                assert_int_equal(stored(&x, -middle), even | 0x8000);
                assert_int_equal(stored(&x, nextafterf(middle, 0)), low);
                assert_int_equal(stored(&x, nextafterf(middle, INFINITY)), low + 1);
                assert_int_equal(stored(&x, -nextafterf(middle, INFINITY)), (low + 1) | 0x8000);
            }
        }
    }
}

static void what_is_too_large_for_a_half_is_infinite_and_nan_stays_nan(void **state)
{
    (void)state;
    for (uint32_t v = 0; v < combine_variants(); v++) {
        for (int k = 0; k < 2; k++) {
            struct combine x = half_kernels(v, halves[k]);
            uint16_t infinite = ref_half_of(halves[k], INFINITY);
            float largest = ref_half_value(halves[k], infinite - 1);
            float ulp = largest - ref_half_value(halves[k], infinite - 2);
            assert_int_equal(stored(&x, largest), infinite - 1);
            assert_int_equal(stored(&x, nextafterf(largest + ulp / 2, 0)), infinite - 1);
            assert_int_equal(stored(&x, largest + ulp / 2), infinite);
            assert_int_equal(stored(&x, FLT_MAX), infinite);
            assert_int_equal(stored(&x, -FLT_MAX), infinite | 0x8000);
            assert_int_equal(stored(&x, -INFINITY), infinite | 0x8000);
            assert_int_equal(stored(&x, FLT_TRUE_MIN), 0);
            for (uint32_t payload = 1; payload < 1u << 23; payload = payload * 2 + 1) {
                uint32_t bits = 0x7f800000 | payload;
                float nan;
                memcpy(&nan, &bits, sizeof(nan));
                assert_true(isnan(ref_half_value(halves[k], stored(&x, nan))));
                bits = 0x7f800000 | (1u << 23) >> __builtin_popcount(payload);
                memcpy(&nan, &bits, sizeof(nan));
                assert_true(isnan(ref_half_value(halves[k], stored(&x, nan))));
            }
        }
    }
}

/* ---- refusals and operations of one's own ---- */

static void what_a_type_does_not_have_is_refused(void **state)
{
    (void)state;
    struct combine x = {.element = 77};
    for (int dtype = TSM_U8; dtype <= TSM_F64; dtype++) {
        for (int op = TSM_SUM; op <= TSM_XOR; op++) {
            int rc = ref_has(dtype, op) ? 0 : TSM_EUNSUPPORTED;
            x.element = 77;
            assert_int_equal(combine_find(dtype, op, &x), rc);
            assert_int_equal(x.element, rc == 0 ? tsm_dtype_bytes(dtype) : 77);
        }
        assert_int_equal(combine_find(dtype, 0, &x), TSM_EINVAL);
        assert_int_equal(combine_find(dtype, TSM_XOR + 1, &x), TSM_EINVAL);
        assert_int_equal(combine_find(dtype, -1, &x), TSM_EINVAL);
    }
    assert_int_equal(combine_find(0, TSM_SUM, &x), TSM_EINVAL);
    assert_int_equal(combine_find(-1, TSM_SUM, &x), TSM_EINVAL);
    assert_int_equal(combine_find(TSM_F64 + 1, TSM_SUM, &x), TSM_EINVAL);
    assert_int_equal(combine_find_user(0, NULL, NULL, &x), TSM_EINVAL);
}

static void first_minus_second(void *into, const void *from, uint64_t count, int dtype, void *arg)
{
    uint16_t *a = into;
    const uint16_t *b = from;
    assert_int_equal(dtype, TSM_F16);
    *(uint64_t *)arg += count;
    for (uint64_t i = 0; i < count; i++) {
        a[i] = (uint16_t)(a[i] - b[i]);
    }
}

static void an_operation_of_ones_own_sees_elements_as_they_are(void **state)
{
    (void)state;
    uint64_t elements = 0;
    struct combine x;
    const uint16_t a[3] = {9, 8, 7};
    const uint16_t b[3] = {1, 10, 7};
    uint16_t acc[3], to[3];
    assert_int_equal(combine_find_user(TSM_F16, first_minus_second, &elements, &x), 0);
    assert_int_equal(x.wide, 2);
    x.load(acc, a, 3);
    combine_add(&x, acc, b, 3);
    x.store(to, acc, 3);
    assert_int_equal(to[0], 8);
    assert_int_equal(to[1], 0xfffe);
    assert_int_equal(to[2], 0);
    assert_int_equal(elements, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_operation_is_that_of_single_elements),
        TEST(widened_and_stored_every_half_is_itself),
        TEST(halves_round_to_the_nearest_even),
        TEST(what_is_too_large_for_a_half_is_infinite_and_nan_stays_nan),
        TEST(what_a_type_does_not_have_is_refused),
        TEST(an_operation_of_ones_own_sees_elements_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

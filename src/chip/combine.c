/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The arithmetic of reductions: one kernel for each type and operation, compiled for several instruction sets; the best
 * one that the processor has is taken. Chip processes; owns nothing. docs/task.md.
 *
 * The same operands give the same bits with every instruction set: an element's operations do not depend on its
 * neighbours, nothing is fused (the build says -ffp-contract=off), and a NaN that comes out of an operation is always
 * the same one, because which operand's NaN survives is up to the processor.
 */
#include "chip/combine.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/atomic.h"
#include "chip/copy.h"

#ifdef __FAST_MATH__
#error "with -ffast-math sums are not reproducible and NaN is not seen"
#endif

/* Elements in windows and accumulators: what type they were stored as is not known here. */
typedef uint8_t any_u8;
typedef int8_t any_i8;
typedef uint16_t any_u16 __attribute__((may_alias));
typedef int16_t any_i16 __attribute__((may_alias));
typedef uint32_t any_u32 __attribute__((may_alias));
typedef int32_t any_i32 __attribute__((may_alias));
typedef uint64_t any_u64 __attribute__((may_alias));
typedef int64_t any_i64 __attribute__((may_alias));
typedef float any_f32 __attribute__((may_alias));
typedef double any_f64 __attribute__((may_alias));

/* ---- f16 and bf16 ---- */

#define IN_KERNEL static inline __attribute__((always_inline))

IN_KERNEL float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

IN_KERNEL uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

enum {
    F32_INF = 0x7f800000,
    F16_EXPONENT = 0x1f << 23, /* where f32 has its exponent */
    F16_BIAS = 112 << 23,      /* between the exponents of f16 and f32 */
    F16_NORMAL = 113 << 23,    /* 2^-14, the smallest normal f16, as f32 */
    F16_TOO_LARGE = 143 << 23, /* 2^16 as f32 */
    F16_HALF = 126 << 23 /* 0.5: the last bit of its mantissa is the last one of a subnormal f16 */
};

/* The bits of the f32 with the same value; a NaN keeps its payload. */
IN_KERNEL uint32_t f16_widen(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t rest = (uint32_t)(h & 0x7fff) << 13;
    uint32_t exponent = rest & F16_EXPONENT;
    uint32_t normal = rest + F16_BIAS;
    uint32_t infinite = rest | F32_INF;
    uint32_t subnormal = bits_of(float_of(rest + F16_NORMAL) - float_of(F16_NORMAL));
    uint32_t bits = exponent == 0 ? subnormal : normal;
    return sign | (exponent == F16_EXPONENT ? infinite : bits);
}

/* To the nearest, of two the even one. A NaN keeps what fits of its payload, and stays one. */
IN_KERNEL uint16_t f16_round(uint32_t f)
{
    uint32_t sign = f >> 16 & 0x8000;
    uint32_t rest = f & 0x7fffffff;
    uint32_t normal = (rest - F16_BIAS + 0xfff + (rest >> 13 & 1)) >> 13;
    uint32_t subnormal = bits_of(float_of(rest) + float_of(F16_HALF)) - F16_HALF;
    uint32_t nan = 0x7c00 | (rest >> 13 & 0x3ff) | ((rest & 0x1fff) != 0 ? 0x200 : 0);
    uint32_t bits = rest < F16_NORMAL ? subnormal : normal;
    bits = rest >= F16_TOO_LARGE ? 0x7c00 : bits;
    return (uint16_t)(sign | (rest > F32_INF ? nan : bits));
}

IN_KERNEL uint32_t bf16_widen(uint16_t h)
{
    return (uint32_t)h << 16;
}

IN_KERNEL uint16_t bf16_round(uint32_t f)
{
    uint32_t nan = f >> 16 | ((f & 0xffff) != 0 ? 0x40 : 0);
    uint32_t bits = (f + 0x7fff + (f >> 16 & 1)) >> 16;
    return (uint16_t)((f & 0x7fffffff) > F32_INF ? nan : bits);
}

IN_KERNEL float f16_value(uint16_t h)
{
    return float_of(f16_widen(h));
}

IN_KERNEL float bf16_value(uint16_t h)
{
    return float_of(bf16_widen(h));
}

/* ---- kernels ---- */

typedef void kernel(void *to, const void *from, uint64_t count);

struct kernels {
    struct {
        kernel *add; /* NULL: the type does not have the operation */
        void (*first)(void *acc, const void *lower, const void *from, uint64_t count);
        void (*three)(void *acc, const void *const from[3], uint64_t count);
    } of[TSM_F64 + 1][TSM_XOR + 1];
    kernel *load_f16, *load_bf16, *store_f16, *store_bf16;
};

#define KERNEL_NAME(name) name##_baseline
#define KERNEL_TARGET
#include "chip/combine_kernels.inc"

#ifdef __x86_64__
#define KERNEL_NAME(name) name##_v3
#define KERNEL_TARGET __attribute__((target("avx2")))
#include "chip/combine_kernels.inc"

#define KERNEL_NAME(name) name##_v4
#define KERNEL_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#include "chip/combine_kernels.inc"

static const struct kernels *const variants[] = {&kernels_baseline, &kernels_v3, &kernels_v4};

uint32_t combine_variants(void)
{
    if (!__builtin_cpu_supports("avx2")) {
        return 1;
    }
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? 3
               : 2;
}
#else
static const struct kernels *const variants[] = {&kernels_baseline};

uint32_t combine_variants(void)
{
    return 1;
}
#endif

/* ---- finding one ---- */

static void copy_1(void *to, const void *from, uint64_t count)
{
    copy_bytes(to, from, count);
}

static void copy_2(void *to, const void *from, uint64_t count)
{
    copy_bytes(to, from, 2 * count);
}

static void copy_4(void *to, const void *from, uint64_t count)
{
    copy_bytes(to, from, 4 * count);
}

static void copy_8(void *to, const void *from, uint64_t count)
{
    copy_bytes(to, from, 8 * count);
}

static kernel *copy_of(uint64_t element)
{
    return element == 1 ? copy_1 : element == 2 ? copy_2 : element == 4 ? copy_4 : copy_8;
}

int combine_find_user(int dtype, tsm_combine_fn *user, void *arg, struct combine *ret)
{
    uint64_t element = tsm_dtype_bytes(dtype);
    if (element == 0) {
        return TSM_EINVAL;
    }
    *ret = (struct combine){.element = element,
                            .wide = element,
                            .load = copy_of(element),
                            .store = copy_of(element),
                            .user = user,
                            .user_arg = arg,
                            .dtype = dtype};
    return 0;
}

int combine_find_variant(uint32_t variant, int dtype, int op, struct combine *ret)
{
    const struct kernels *k = variants[variant];
    struct combine found;
    int rc =
        op >= TSM_SUM && op <= TSM_XOR ? combine_find_user(dtype, NULL, NULL, &found) : TSM_EINVAL;
    if (rc != 0) {
        return rc;
    }
    found.add = k->of[dtype][op].add;
    found.first = k->of[dtype][op].first;
    found.three = k->of[dtype][op].three;
    if (!found.add) {
        return TSM_EUNSUPPORTED;
    }
    if (dtype == TSM_F16 || dtype == TSM_BF16) {
        found.wide = sizeof(float);
        found.load = dtype == TSM_F16 ? k->load_f16 : k->load_bf16;
        found.store = dtype == TSM_F16 ? k->store_f16 : k->store_bf16;
    }
    *ret = found;
    return 0;
}

int combine_find(int dtype, int op, struct combine *ret)
{
    static a32 best; /* 0: not looked for yet; who comes at the same time finds the same */
    uint32_t found = a32_load(&best);
    if (found == 0) {
        found = combine_variants();
        a32_store(&best, found);
    }
    return combine_find_variant(found - 1, dtype, op, ret);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The arithmetic of reductions as the tests hold it against the library: one element at a time, f16 and bf16 by what
 * their bits mean. Every NaN is the one that a C compiler calls NAN.
 */
#ifndef TESTS_REFERENCE_H
#define TESTS_REFERENCE_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "harness.h"

union ref_value {
    uint64_t u;
    int64_t i;
    float f;
    double d;
};

static inline bool ref_is_half(int dtype)
{
    return dtype == TSM_F16 || dtype == TSM_BF16;
}

static inline bool ref_is_floating(int dtype)
{
    return ref_is_half(dtype) || dtype == TSM_F32 || dtype == TSM_F64;
}

static inline bool ref_is_signed(int dtype)
{
    return dtype == TSM_I8 || dtype == TSM_I16 || dtype == TSM_I32 || dtype == TSM_I64;
}

static inline bool ref_has(int dtype, int op)
{
    if (ref_is_floating(dtype)) {
        return op <= TSM_MAX;
    }
    return dtype != TSM_BOOL || op >= TSM_MIN;
}

/* ---- what an f16 and a bf16 are, by arithmetic ---- */

static inline float ref_half_value(int dtype, uint16_t bits)
{
    int mantissa_bits = dtype == TSM_F16 ? 10 : 7;
    int bias = dtype == TSM_F16 ? 15 : 127;
    int exponent = (bits & 0x7fff) >> mantissa_bits;
    int mantissa = bits & ((1 << mantissa_bits) - 1);
    double value = ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
    if (exponent == 0) {
        value = ldexp(mantissa, 1 - bias - mantissa_bits);
    } else if (exponent == 2 * bias + 1) {
        value = mantissa ? NAN : INFINITY;
    }
    return (float)(bits & 0x8000 ? -value : value);
}

/* The bits of the nearest one; nearbyint takes the even one of two. */
static inline uint16_t ref_half_of(int dtype, float x)
{
    int mantissa_bits = dtype == TSM_F16 ? 10 : 7;
    int bias = dtype == TSM_F16 ? 15 : 127;
    uint32_t infinite = (uint32_t)(2 * bias + 1) << mantissa_bits;
    uint32_t sign = signbit(x) ? 0x8000 : 0;
    double size = fabs((double)x);
    if (isnan(x)) {
        return (uint16_t)(infinite |
                          1u << (mantissa_bits - 1)); /* no sign: how NaN leaves an operation */
    }
    if (size == 0 || isinf(x)) {
        return (uint16_t)(sign | (size == 0 ? 0 : infinite));
    }
    int exponent = ilogb(size) < 1 - bias ? 1 - bias : ilogb(size);
    double steps = nearbyint(ldexp(size, mantissa_bits - exponent));
    /* The first normal one is 2^mantissa_bits steps; a carry into the exponent falls out of the sum. */
    uint32_t bits = ((uint32_t)(exponent + bias - 1) << mantissa_bits) + (uint32_t)steps;
    return (uint16_t)(sign | (bits > infinite ? infinite : bits));
}

/* ---- one element at a time ---- */

static inline union ref_value ref_widen(int dtype, const void *at)
{
    union ref_value v = {0};
    uint64_t bytes = tsm_dtype_bytes(dtype);
    memcpy(&v.u, at, bytes);
    if (ref_is_half(dtype)) {
        float f = ref_half_value(dtype, (uint16_t)v.u);
        v.u = 0;
        v.f = f;
    } else if (ref_is_signed(dtype)) {
        int shift = 64 - 8 * (int)bytes;
        v.i = (int64_t)(v.u << shift) >> shift;
    }
    return v;
}

static inline void ref_narrow(int dtype, union ref_value v, void *to)
{
    if (ref_is_half(dtype)) {
        v.u = ref_half_of(dtype, v.f);
    }
    memcpy(to, &v.u, tsm_dtype_bytes(dtype));
}

static inline double ref_combine_doubles(double a, double b, int op, bool as_float)
{
    volatile double r = op == TSM_MIN ? (b < a ? b : a) : (b > a ? b : a);
    if (op == TSM_SUM) {
        r = as_float ? (float)a + (float)b : a + b;
    } else if (op == TSM_PROD) {
        r = as_float ? (float)a * (float)b : a * b;
    } else if (isnan(a) || isnan(b)) {
        r = NAN;
    }
    return isnan(r) ? (double)NAN : r;
}

static inline union ref_value ref_combine_values(union ref_value a, union ref_value b, int dtype,
                                                 int op)
{
    union ref_value r = {0};
    if (dtype == TSM_F64) {
        r.d = ref_combine_doubles(a.d, b.d, op, false);
        return r;
    }
    if (ref_is_floating(dtype)) {
        r.f = (float)ref_combine_doubles(a.f, b.f, op, true);
        return r;
    }
    bool less = ref_is_signed(dtype) ? b.i < a.i : b.u < a.u;
    bool more = ref_is_signed(dtype) ? b.i > a.i : b.u > a.u;
    const uint64_t results[] = {
        [TSM_SUM] = a.u + b.u,        [TSM_PROD] = a.u * b.u, [TSM_MIN] = less ? b.u : a.u,
        [TSM_MAX] = more ? b.u : a.u, [TSM_AND] = a.u & b.u,  [TSM_OR] = a.u | b.u,
        [TSM_XOR] = a.u ^ b.u};
    r.u = results[op];
    return ref_widen(dtype, &r);
}

/* Bits of all kinds: infinities, NaN, both zeros, the largest and smallest, small numbers, anything. */
static inline void ref_random(struct harness_random *random, int dtype, void *to)
{
    static const float specials[] = {0.0f,     -0.0f,        1.0f,     -1.0f,    3.0f,
                                     INFINITY, -INFINITY,    FLT_MAX,  -FLT_MAX, 0.5f,
                                     6e-8f,    FLT_TRUE_MIN, 65504.0f, NAN};
    union ref_value v = {.u = harness_random(random)};
    uint32_t kind = harness_below(random, 4);
    if (ref_is_floating(dtype) && kind < 3) {
        float f = kind == 0 ? specials[harness_below(random, 14)]
                            : (float)((int)harness_below(random, 4001) - 2000) / 64;
        v.u = 0;
        if (dtype == TSM_F64) {
            v.d = f;
        } else {
            v.f = f;
        }
        if (ref_is_half(dtype)) {
            v.u = ref_half_of(dtype, f);
        }
    } else if (kind == 0) {
        v.u = harness_below(random, 3) - UINT64_C(1);
    }
    memcpy(to, &v.u, tsm_dtype_bytes(dtype));
}

#endif

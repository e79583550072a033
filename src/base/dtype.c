/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Element types: sizes and names. Any process; owns nothing. */
#include <string.h>

#include "transom/transom.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [TSM_U8] = {"u8", 1},     [TSM_I8] = {"i8", 1},   [TSM_BOOL] = {"bool", 1},
    [TSM_U16] = {"u16", 2},   [TSM_I16] = {"i16", 2}, [TSM_F16] = {"f16", 2},
    [TSM_BF16] = {"bf16", 2}, [TSM_U32] = {"u32", 4}, [TSM_I32] = {"i32", 4},
    [TSM_F32] = {"f32", 4},   [TSM_U64] = {"u64", 8}, [TSM_I64] = {"i64", 8},
    [TSM_F64] = {"f64", 8},
};

size_t tsm_dtype_bytes(int dtype)
{
    return dtype > 0 && dtype <= TSM_F64 ? dtypes[dtype].bytes : 0;
}

const char *tsm_dtype_name(int dtype)
{
    return dtype > 0 && dtype <= TSM_F64 ? dtypes[dtype].name : "?";
}

uint64_t tsm_scalar_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

uint64_t tsm_scalar_f64(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

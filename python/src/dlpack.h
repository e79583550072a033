/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The exchange format DLPack, as far as it is used here: what is behind a capsule named "dltensor", and since version 1.0 of
 * the format "dltensor_versioned".
 * Specification: https://dmlc.github.io/dlpack/latest/c_api.html
 */
#ifndef PYTHON_DLPACK_H
#define PYTHON_DLPACK_H

#include <stdint.h>

#include <transom/transom.h>

enum { DLPACK_CPU = 1 };
enum { DLPACK_INT = 0, DLPACK_UINT = 1, DLPACK_FLOAT = 2, DLPACK_BFLOAT = 4, DLPACK_BOOL = 6 };

struct dlpack_dtype {
    uint8_t code, bits;
    uint16_t lanes;
};
struct dlpack_device {
    int32_t type, id;
};
struct dlpack_tensor {
    void *data;
    struct dlpack_device device;
    int32_t ndim;
    struct dlpack_dtype dtype;
    int64_t *shape, *strides; /* in elements; strides NULL: contiguous */
    uint64_t byte_offset;
};
struct dlpack_managed {
    struct dlpack_tensor tensor;
    void *context;
    void (*deleter)(struct dlpack_managed *);
};

enum { DLPACK_READ_ONLY = 1 }; /* of flags */
struct dlpack_managed_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dlpack_managed_versioned *);
    uint64_t flags;
    struct dlpack_tensor tensor;
};

static inline struct dlpack_dtype dlpack_from_dtype(int dtype)
{
    uint8_t bits = (uint8_t)(tsm_dtype_bytes(dtype) * 8);
    switch (dtype) {
    case TSM_BOOL:
        return (struct dlpack_dtype){DLPACK_BOOL, bits, 1};
    case TSM_BF16:
        return (struct dlpack_dtype){DLPACK_BFLOAT, bits, 1};
    case TSM_F16:
    case TSM_F32:
    case TSM_F64:
        return (struct dlpack_dtype){DLPACK_FLOAT, bits, 1};
    case TSM_I8:
    case TSM_I16:
    case TSM_I32:
    case TSM_I64:
        return (struct dlpack_dtype){DLPACK_INT, bits, 1};
    default:
        return (struct dlpack_dtype){DLPACK_UINT, bits, 1};
    }
}

/* 0: none. */
static inline int dlpack_to_dtype(struct dlpack_dtype d)
{
    for (int dtype = TSM_U8; dtype <= TSM_F64; dtype++) {
        struct dlpack_dtype known = dlpack_from_dtype(dtype);
        if (known.code == d.code && known.bits == d.bits && d.lanes == 1) {
            return dtype;
        }
    }
    return 0;
}

#endif

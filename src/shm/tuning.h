/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Where one algorithm gives way to another: measured by `./dev bench --tune`, constant once the worker is started and
 * the same in every process, because the ranks of a collective must choose alike. docs/performance.md.
 */
#ifndef SHM_TUNING_H
#define SHM_TUNING_H

#include <stdint.h>

/* Classes of the number of ranks: up to 2, 4, 8, 16, more. */
enum { TUNING_CLASSES = 5 };
static inline uint32_t tuning_class(uint32_t ranks)
{
    return ranks <= 2 ? 0 : ranks <= 4 ? 1 : ranks <= 8 ? 2 : ranks <= 16 ? 3 : 4;
}

struct tuning {
    uint32_t flat_ranks_max; /* a barrier is flat up to here, dissemination beyond */
    uint32_t one_shot_bytes
        [TUNING_CLASSES];      /* a reduction is one-shot up to here; at most STAGE_BYTES */
    uint64_t stream_bytes;     /* a copy of at least this bypasses the caches */
    uint64_t stream_out_bytes; /* the same of a copy into another chip's window */
};

extern const struct tuning tuning_default;

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Checking a call, and writing its arguments into a record. Orchestrator. */
#ifndef ENGINE_ARGS_H
#define ENGINE_ARGS_H

#include "engine/engine.h"

enum { SPANS_PER_TENSOR = 8 };

/* What one tensor argument means for the graph. */
struct use {
    struct span spans[SPANS_PER_TENSOR];
    uint32_t span_count;
    enum access access;
    tsm_domain *domain;
    uint64_t allocate; /* bytes of an OUTPUT without an address */
};

/* A checked call. */
struct plan {
    const struct tsm_call *call;
    uint32_t callable;
    int chip;       /* decided: 0.. or TSM_SUB */
    int memory;     /* the chip in whose memory a tensor lies, TSM_ANY_CHIP: none */
    uint32_t bytes; /* of the record without waits */
    uint32_t spans; /* of all tensors, with those that get their memory yet */
    bool allocates; /* an output without an address */
    bool names;     /* a domain, by itself or by a window */
    struct use *uses;
};

/* Fills *ret; uses points to call->tensor_count entries of the caller's. `member`: for the text, -1 for a single
 * task. Nothing has happened when it fails. */
int plan_call(tsm_worker *w, const struct tsm_call *call, int member, struct use *uses,
              struct plan *ret);
/* Writes domains, scalars and tensors behind the waits, not the record's first line. Returns the bytes of the whole
 * record. */
uint32_t plan_write(const struct plan *p, struct record *rec, uint32_t waits);

#endif

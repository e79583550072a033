/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the tasks of vocabulary.c share. They stand in shared objects so that forked and spawned chips run the same ones.
 * Each runs as a group, one member for each rank of domain 0; what it finds wrong it says with tsm_fail.
 */
#ifndef TESTS_INTEGRATION_VOCABULARY_H
#define TESTS_INTEGRATION_VOCABULARY_H

#include <stdbool.h>

#include "expect.h"

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* Fails the task unless two numbers are equal. */
#define EXPECT_EQ(t, a, b)                                                                         \
    do {                                                                                           \
        uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                                           \
        if (a_ != b_) {                                                                            \
            return tsm_fail(t, "%s is %llu, not %llu", #a, (unsigned long long)a_,                 \
                            (unsigned long long)b_);                                               \
        }                                                                                          \
    } while (0)

static inline tsm_sym at(const tsm_ctx *c, uint64_t offset)
{
    tsm_sym s = {0, 0, 0};
    tsm_at(c, offset, &s);
    return s;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* For tasks of tests, also for those that stand in shared objects. */
#ifndef TESTS_EXPECT_H
#define TESTS_EXPECT_H

#include "transom/task.h"

/* Fails the task, with the expression in its text, unless the expression gives `code`. */
#define EXPECT(t, expression, code)                                                                \
    do {                                                                                           \
        int rc_ = (expression);                                                                    \
        if (rc_ != (code)) {                                                                       \
            return tsm_fail(t, "%s is %s", #expression, tsm_code_name(rc_));                       \
        }                                                                                          \
    } while (0)

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Filling struct tsm_error. The first who knows fills it; nobody overwrites a cause. Any process. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stddef.h>
#include <string.h>

#include "transom/transom.h"

/* The lowest code there is: what another process or a function gives as one is held against it. */
enum { CODE_LAST = TSM_ECANCELED };

/* Clears *err (may be NULL), sets code and text, keeps errno. Returns code. */
int error_set(struct tsm_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a failed system call: sys_errno = errno and its name is appended. */
int error_sys(struct tsm_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* No error. What is behind the end of the text stays: most of it is never used, and this happens once a run. */
static inline void error_clear(struct tsm_error *e)
{
    memset(e, 0, offsetof(struct tsm_error, text) + 1);
}

#endif

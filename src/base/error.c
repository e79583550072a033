/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Error codes, their names, and the one way to fill struct tsm_error. Runs in every process; owns nothing.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static const char *const names[] = {
    "TSM_OK",
    "TSM_EINVAL",
    "TSM_ENOMEM",
    "TSM_ENOSPC",
    "TSM_EUNSUPPORTED",
    "TSM_EFORK_UNSAFE",
    "TSM_ECHILD_DIED",
    "TSM_ETASK_FAILED",
    "TSM_ETIME_LIMIT",
    "TSM_EDEADLOCK",
    "TSM_EUPSTREAM_FAILED",
    "TSM_EABORTED",
    "TSM_ETIMEOUT",
    "TSM_ESTATE",
    "TSM_ESTALE",
    "TSM_ERANGE",
    "TSM_EPEER",
    "TSM_EPROTOCOL",
    "TSM_EEXIST",
    "TSM_ENOENT",
    "TSM_EWORKER_FAILED",
    "TSM_ECLOSED",
    "TSM_EWRONG_THREAD",
    "TSM_ESYS",
    "TSM_EFUNCTION",
    "TSM_EINTERRUPTED",
    "TSM_ECANCELED",
};

_Static_assert(sizeof(names) / sizeof(names[0]) == 1 - CODE_LAST, "each code has its name");

const char *tsm_code_name(int code)
{
    int count = (int)(sizeof(names) / sizeof(names[0]));
    return code <= 0 && code > -count ? names[-code] : "TSM_E?";
}

const char *tsm_version(void)
{
    return TSM_VERSION_STRING;
}

static void fill(struct tsm_error *err, int code, const char *format, va_list ap)
{
    memset(err, 0, sizeof(*err));
    err->code = code;
    err->chip = -1;
    err->when_ns = clock_ns();
    vsnprintf(err->text, sizeof(err->text), format, ap);
}

int error_set(struct tsm_error *err, int code, const char *format, ...)
{
    if (err) {
        int saved = errno;
        va_list ap;
        va_start(ap, format);
        fill(err, code, format, ap);
        va_end(ap);
        errno = saved;
    }
    return code;
}

int error_sys(struct tsm_error *err, int code, const char *format, ...)
{
    if (err) {
        int saved = errno;
        va_list ap;
        va_start(ap, format);
        fill(err, code, format, ap);
        va_end(ap);
        err->sys_errno = saved;
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof(err->text) - used, ": %s", strerror(saved));
        errno = saved;
    }
    return code;
}

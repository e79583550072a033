/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Sleeping on a word that processes share: the benchmarks' own, so that most of them need nothing from inside the library. */
#ifndef BENCH_FUTEX_H
#define BENCH_FUTEX_H

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/atomic.h"

/* Sleeps while *word is `value`; may return early. nap: at most so long, or NULL. */
static inline void futex_sleep(a32 *word, uint32_t value, const struct timespec *nap)
{
    syscall(SYS_futex, word, FUTEX_WAIT, value, nap, NULL, 0);
}

/* Up to `count` of those that sleep on it. */
static inline void futex_wake(a32 *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The role of this process (role.h). Runs in every process; owns two words. */
#include "base/role.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic int role;
static _Atomic unsigned forks;

enum role role_get(void)
{
    return (enum role)atomic_load_explicit(&role, memory_order_relaxed);
}

void role_set(enum role r)
{
    atomic_store_explicit(&role, (int)r, memory_order_relaxed);
}

unsigned role_forks(void)
{
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

static void forked(void)
{
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void watch(void)
{
    pthread_atfork(NULL, NULL, forked);
}

void role_watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Atomic words of shared memory, with the order in the name. "full" orders are sequentially consistent.
 * A release store and the acquire load that pairs with it name each other where they stand.
 */
#ifndef BASE_ATOMIC_H
#define BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint32_t a32;
typedef _Atomic uint64_t a64;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
               "words shared between processes must be lock-free");

static inline uint32_t a32_load(const a32 *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static inline uint32_t a32_acquire(const a32 *p)
{
    return atomic_load_explicit(p, memory_order_acquire);
}

static inline void a32_store(a32 *p, uint32_t v)
{
    atomic_store_explicit(p, v, memory_order_relaxed);
}

static inline void a32_release(a32 *p, uint32_t v)
{
    atomic_store_explicit(p, v, memory_order_release);
}

static inline uint32_t a32_add_full(a32 *p, uint32_t v)
{
    return atomic_fetch_add_explicit(p, v, memory_order_seq_cst);
}

static inline uint64_t a64_load(const a64 *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static inline uint64_t a64_acquire(const a64 *p)
{
    return atomic_load_explicit(p, memory_order_acquire);
}

static inline void a64_store(a64 *p, uint64_t v)
{
    atomic_store_explicit(p, v, memory_order_relaxed);
}

static inline void a64_release(a64 *p, uint64_t v)
{
    atomic_store_explicit(p, v, memory_order_release);
}

static inline int a64_swap_if(a64 *p, uint64_t expected, uint64_t v)
{
    return atomic_compare_exchange_strong_explicit(p, &expected, v, memory_order_seq_cst,
                                                   memory_order_relaxed);
}

static inline void fence_full(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

/* Told to the processor inside a spin, so that it saves power and the other thread of a core runs. */
static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif

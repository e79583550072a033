/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Copying between windows. memcpy, except where something else is measurably faster: a copy that is larger than the
 * caches bypasses them (the target's lines need not be read first), and one whose target lies a little behind its source
 * within the page is made by a loop of vectors, because the processor's own copying of strings, which memcpy uses
 * from 2 KiB on, is up to 28 times slower then. Into another chip's window they are bypassed much earlier: each of its
 * lines that the other core holds costs an invalidation, and the next read by that core a transfer, which together
 * exceed the way through the memory. Chip processes; owns the thresholds. docs/performance.md.
 */
#include "chip/copy.h"

#include <stdatomic.h>
#include <string.h>

#include "shm/tuning.h"

static uint64_t stream_bytes, stream_out_bytes; /* 0: not set */

void copy_set_stream_bytes(uint64_t bytes, uint64_t out_bytes)
{
    stream_bytes = bytes;
    stream_out_bytes = out_bytes;
}

#ifdef __x86_64__
#include <immintrin.h>

enum { PAGE = 4096, LINE_BYTES = 64, STRING_BYTES = 2048 };

/* Whether memcpy is slow although nothing is wrong with it. */
static int is_slow(const void *to, const void *from, uint64_t bytes)
{
    uint64_t behind = ((uintptr_t)to - (uintptr_t)from) % PAGE;
    return bytes > STRING_BYTES && behind > 0 && behind < LINE_BYTES;
}

/* Copies the whole blocks of four vectors in front and returns how many bytes that was. */
#define COPY_BLOCKS(name, attribute, vector, load, store)                                          \
    static attribute uint64_t name(uint8_t *restrict to, const uint8_t *restrict from,             \
                                   uint64_t bytes)                                                 \
    {                                                                                              \
        const uint64_t step = 4 * sizeof(vector);                                                  \
        uint64_t at = 0;                                                                           \
        for (; bytes - at >= step; at += step) {                                                   \
            const vector *source = (const void *)(from + at);                                      \
            vector *target = (void *)(to + at);                                                    \
            vector a = load(source), b = load(source + 1);                                         \
            vector c = load(source + 2), d = load(source + 3);                                     \
            store(target, a);                                                                      \
            store(target + 1, b);                                                                  \
            store(target + 2, c);                                                                  \
            store(target + 3, d);                                                                  \
            atomic_signal_fence(memory_order_seq_cst); /* else the compiler calls memcpy */        \
        }                                                                                          \
        return at;                                                                                 \
    }
#define AVX __attribute__((target("avx")))
COPY_BLOCKS(blocks_sse, , __m128i, _mm_loadu_si128, _mm_storeu_si128)
COPY_BLOCKS(blocks_avx, AVX, __m256i, _mm256_loadu_si256, _mm256_storeu_si256)
COPY_BLOCKS(stream_sse, , __m128i, _mm_loadu_si128, _mm_stream_si128)
COPY_BLOCKS(stream_avx, AVX, __m256i, _mm256_loadu_si256, _mm256_stream_si256)

/* Stores past the caches want whole lines. */
static void copy_stream(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    uint64_t head = -(uintptr_t)to % LINE_BYTES;
    head = head < bytes ? head : bytes;
    memcpy(to, from, head);
    uint64_t done =
        head + (__builtin_cpu_supports("avx") ? stream_avx(to + head, from + head, bytes - head)
                                              : stream_sse(to + head, from + head, bytes - head));
    memcpy(to + done, from + done, bytes - done);
    _mm_sfence(); /* a release store does not order them */
}

static void copy_blocks(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    uint64_t done =
        __builtin_cpu_supports("avx") ? blocks_avx(to, from, bytes) : blocks_sse(to, from, bytes);
    memcpy(to + done, from + done, bytes - done);
}
#endif

static void copy_by(void *to, const void *from, uint64_t bytes, uint64_t stream_from)
{
#ifdef __x86_64__
    if (bytes >= stream_from) {
        copy_stream(to, from, bytes);
        return;
    }
    if (is_slow(to, from, bytes)) {
        copy_blocks(to, from, bytes);
        return;
    }
#else
    (void)stream_from;
#endif
    if (bytes != 0) {
        memcpy(to, from, bytes);
    }
}

void copy_bytes(void *to, const void *from, uint64_t bytes)
{
    copy_by(to, from, bytes, stream_bytes != 0 ? stream_bytes : tuning_default.stream_bytes);
}

void copy_out(void *to, const void *from, uint64_t bytes)
{
    copy_by(to, from, bytes,
            stream_out_bytes != 0 ? stream_out_bytes : tuning_default.stream_out_bytes);
}

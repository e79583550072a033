/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Put and get. On one host a put is a copy by the one who puts: complete on return, in program order with all other
 * stores of the task; so fence and quiet only keep the processor from reordering. Only chaos mode makes use of what
 * task.h leaves open. Chip processes, inside a task. docs/task.md.
 */
#include <string.h>

#include "chip/chaos.h"
#include "chip/copy.h"

/* ---- whole ranges ---- */

static inline void copy_to_rank(const tsm_ctx *c, void *to, const void *from, uint64_t bytes,
                                uint32_t rank)
{
    if (bytes == 8) {
        memcpy(to, from, 8); /* the usual size of a put with a signal */
    } else if (rank == c->rank) {
        copy_bytes(to, from, bytes);
    } else {
        copy_out(to, from, bytes);
    }
}

static inline int put(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, uint32_t rank,
                      bool nbi)
{
    int code = 0;
    void *to = sym_address(c, dst, rank, bytes, &code);
    if (!to) {
        return code;
    }
    if (bytes == 0) {
        return 0;
    }
    if (!src) {
        return ctx_refuse(c, TSM_EINVAL, "src is NULL");
    }
    if (chaos_armed) {
        chaos_put(c, rank, &(struct copy){to, src, bytes, 1, 0, 0}, nbi);
        return 0;
    }
    copy_to_rank(c, to, src, bytes, rank);
    wake_rank(c, rank);
    return 0;
}

static inline int get(tsm_ctx *c, void *dst, tsm_sym src, uint64_t bytes, uint32_t rank, bool nbi)
{
    int code = 0;
    const void *from = sym_address(c, src, rank, bytes, &code);
    if (!from) {
        return code;
    }
    if (bytes == 0) {
        return 0;
    }
    if (!dst) {
        return ctx_refuse(c, TSM_EINVAL, "dst is NULL");
    }
    if (chaos_armed) {
        if (nbi) {
            chaos_get(c, rank, &(struct copy){dst, from, bytes, 1, 0, 0});
            return 0;
        }
        chaos_step(c);
    }
    copy_bytes(dst, from, bytes);
    return 0;
}

int tsm_put(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, uint32_t rank)
{
    return put(c, dst, src, bytes, rank, false);
}

int tsm_put_nbi(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, uint32_t rank)
{
    return put(c, dst, src, bytes, rank, true);
}

int tsm_get(tsm_ctx *c, void *dst, tsm_sym src, uint64_t bytes, uint32_t rank)
{
    return get(c, dst, src, bytes, rank, false);
}

int tsm_get_nbi(tsm_ctx *c, void *dst, tsm_sym src, uint64_t bytes, uint32_t rank)
{
    return get(c, dst, src, bytes, rank, true);
}

/* ---- with strides ---- */

/* Bytes from the first element to the end of the last; false when that does not fit. */
static bool extent_of(uint64_t stride, uint64_t element_bytes, uint64_t count, uint64_t *ret)
{
    uint64_t elements = 0;
    *ret = 0;
    return count == 0 || (!__builtin_mul_overflow(count - 1, stride, &elements) &&
                          !__builtin_add_overflow(elements, 1, &elements) &&
                          !__builtin_mul_overflow(elements, element_bytes, ret));
}

/* The window's side of a strided call, checked. */
static void *strided_address(const tsm_ctx *c, tsm_sym s, uint32_t rank, uint64_t stride,
                             uint64_t element_bytes, uint64_t count, int *ret_code)
{
    uint64_t extent;
    if (!extent_of(stride, element_bytes, count, &extent)) {
        *ret_code = ctx_refuse(c, TSM_ERANGE, "%llu elements of %llu bytes with stride %llu",
                               (unsigned long long)count, (unsigned long long)element_bytes,
                               (unsigned long long)stride);
        return NULL;
    }
    return sym_address(c, s, rank, extent, ret_code);
}

static void copy_strided(const struct copy *x)
{
    uint8_t *to = x->to;
    const uint8_t *from = x->from;
    for (uint64_t i = 0; i < x->count; i++) {
        memcpy(to, from, x->bytes);
        to += x->to_step;
        from += x->from_step;
    }
}

int tsm_iput(tsm_ctx *c, tsm_sym dst, uint64_t dst_stride, const void *src, uint64_t src_stride,
             uint64_t element_bytes, uint64_t count, uint32_t rank)
{
    int code = 0;
    if (dst_stride == 0 || src_stride == 0) {
        return ctx_refuse(c, TSM_EINVAL, "%s_stride is 0", dst_stride == 0 ? "dst" : "src");
    }
    void *to = strided_address(c, dst, rank, dst_stride, element_bytes, count, &code);
    if (!to) {
        return code;
    }
    if (count == 0 || element_bytes == 0) {
        return 0;
    }
    if (!src) {
        return ctx_refuse(c, TSM_EINVAL, "src is NULL");
    }
    struct copy x = {
        to, src, element_bytes, count, dst_stride * element_bytes, src_stride * element_bytes};
    if (chaos_armed) {
        chaos_put(c, rank, &x, false);
        return 0;
    }
    copy_strided(&x);
    wake_rank(c, rank);
    return 0;
}

int tsm_iget(tsm_ctx *c, void *dst, uint64_t dst_stride, tsm_sym src, uint64_t src_stride,
             uint64_t element_bytes, uint64_t count, uint32_t rank)
{
    int code = 0;
    if (dst_stride == 0 || src_stride == 0) {
        return ctx_refuse(c, TSM_EINVAL, "%s_stride is 0", dst_stride == 0 ? "dst" : "src");
    }
    const void *from = strided_address(c, src, rank, src_stride, element_bytes, count, &code);
    if (!from) {
        return code;
    }
    if (count == 0 || element_bytes == 0) {
        return 0;
    }
    if (!dst) {
        return ctx_refuse(c, TSM_EINVAL, "dst is NULL");
    }
    if (chaos_armed) {
        chaos_step(c);
    }
    copy_strided(&(struct copy){dst, from, element_bytes, count, dst_stride * element_bytes,
                                src_stride * element_bytes});
    return 0;
}

/* ---- one word ---- */

static inline int put_word(tsm_ctx *c, tsm_sym dst, uint64_t value, uint32_t bytes, uint32_t rank)
{
    int code = 0;
    void *to = word_at(c, dst, rank, bytes, &code);
    if (!to) {
        return code;
    }
    if (chaos_armed) {
        chaos_word(c, rank, &(struct word){to, value, bytes, CHANGE_SET, WORD_PUT});
        return 0;
    }
    word_change(to, bytes, CHANGE_SET, value);
    wake_rank(c, rank);
    return 0;
}

int tsm_p32(tsm_ctx *c, tsm_sym dst, uint32_t value, uint32_t rank)
{
    return put_word(c, dst, value, 4, rank);
}

int tsm_p64(tsm_ctx *c, tsm_sym dst, uint64_t value, uint32_t rank)
{
    return put_word(c, dst, value, 8, rank);
}

/* The word to read, or NULL and the code. */
static inline const void *get_word(tsm_ctx *c, tsm_sym src, const void *ret, uint32_t bytes,
                                   uint32_t rank, int *ret_code)
{
    if (!ret) {
        *ret_code = ctx_refuse(c, TSM_EINVAL, "ret is NULL");
        return NULL;
    }
    if (chaos_armed) {
        chaos_step(c);
    }
    return word_at(c, src, rank, bytes, ret_code);
}

int tsm_g32(tsm_ctx *c, tsm_sym src, uint32_t *ret, uint32_t rank)
{
    int code = 0;
    const a32 *from = get_word(c, src, ret, 4, rank, &code);
    if (from) {
        *ret = a32_acquire(from); /* pairs with word_change */
    }
    return code;
}

int tsm_g64(tsm_ctx *c, tsm_sym src, uint64_t *ret, uint32_t rank)
{
    int code = 0;
    const a64 *from = get_word(c, src, ret, 8, rank, &code);
    if (from) {
        *ret = a64_acquire(from); /* pairs with word_change */
    }
    return code;
}

/* ---- order ---- */

int tsm_fence(tsm_ctx *c)
{
    atomic_thread_fence(memory_order_release);
    if (chaos_armed) {
        chaos_fence(c);
    }
    return 0;
}

int tsm_quiet(tsm_ctx *c)
{
    if (chaos_armed) {
        chaos_quiet(c);
    }
    fence_full();
    return 0;
}

int tsm_quiet_rank(tsm_ctx *c, uint32_t rank)
{
    if (rank >= c->size) {
        return ctx_refuse(c, TSM_ERANGE, "rank %u of %u", rank, c->size);
    }
    if (chaos_armed) {
        chaos_quiet_rank(c, rank);
    }
    fence_full();
    return 0;
}

/* ---- with a signal ---- */

static inline int put_signal(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes,
                             tsm_sym signal, uint64_t value, int op, uint32_t rank, bool nbi)
{
    int code = 0;
    int plain = op & ~TSM_SIGNAL_STRONG;
    void *word = word_at(c, signal, rank, 8, &code);
    void *to = sym_address(c, dst, rank, bytes, &code);
    if (!word || !to) {
        return code;
    }
    if (plain != TSM_SIGNAL_SET && plain != TSM_SIGNAL_ADD) {
        return ctx_refuse(c, TSM_EINVAL, "op %d of a signal", op);
    }
    if (!src && bytes > 0) {
        return ctx_refuse(c, TSM_EINVAL, "src is NULL");
    }
    enum change how = plain == TSM_SIGNAL_SET ? CHANGE_SET : CHANGE_ADD;
    if (chaos_armed) {
        bool strong = (op & TSM_SIGNAL_STRONG) != 0;
        enum word_kind kind = strong ? WORD_STRONG : bytes > 0 ? WORD_OWN_PUT : WORD_SIGNAL;
        if (bytes > 0) {
            chaos_put(c, rank, &(struct copy){to, src, bytes, 1, 0, 0}, nbi);
        }
        chaos_word(c, rank, &(struct word){word, value, 8, how, kind});
        return 0;
    }
    if (bytes > 0) {
        copy_to_rank(c, to, src, bytes, rank);
    }
    word_change(word, 8, how, value);
    wake_rank(c, rank);
    return 0;
}

int tsm_put_signal(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, tsm_sym signal,
                   uint64_t value, int op, uint32_t rank)
{
    return put_signal(c, dst, src, bytes, signal, value, op, rank, false);
}

int tsm_put_signal_nbi(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, tsm_sym signal,
                       uint64_t value, int op, uint32_t rank)
{
    return put_signal(c, dst, src, bytes, signal, value, op, rank, true);
}

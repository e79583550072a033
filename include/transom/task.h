/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * task.h: the task side of Transom, for code that runs in a chip or sub worker.
 *
 * A task is `int f(tsm_task *t)`. It runs alone in its process, to its end. Everything reached through
 * `t` is borrowed until it returns. Call these functions from the thread that the task was called on.
 *
 * Blocking calls end with TSM_EABORTED when the run fails, and take part in deadlock detection.
 */
#ifndef TRANSOM_TASK_H
#define TRANSOM_TASK_H

#include "transom/transom.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what the task was given ------------------------------------------------------------------ */

uint32_t tsm_task_tensor_count(const tsm_task *t);
uint32_t tsm_task_scalar_count(const tsm_task *t);
uint32_t tsm_task_domain_count(const tsm_task *t);
/* Argument i; ERANGE when there is none, and *ret is not written. strides are always filled in. */
int tsm_task_tensor(const tsm_task *t, uint32_t i, struct tsm_tensor *ret);
/* Address of tensor i, NULL when there is none. */
void *tsm_task_data(const tsm_task *t, uint32_t i);
/* Scalar i, 0 when there is none. */
uint64_t tsm_task_scalar(const tsm_task *t, uint32_t i);
float tsm_task_f32(const tsm_task *t, uint32_t i);
double tsm_task_f64(const tsm_task *t, uint32_t i);

/* The chip it runs on (chips + k on sub worker k), its id, its run, member number and size of its group
 * (0 and 1 for a single task), the number of blocks of the call. */
int tsm_task_chip(const tsm_task *t);
tsm_task_id tsm_task_self(const tsm_task *t);
uint64_t tsm_task_run(const tsm_task *t);
uint32_t tsm_task_member(const tsm_task *t);
uint32_t tsm_task_members(const tsm_task *t);
uint32_t tsm_task_blocks(const tsm_task *t);
/* What `load` made of the callable's data in this process (tsm_register_loaded), else NULL. */
void *tsm_task_arg(const tsm_task *t);

/* Fails the task with a text (printf format). Returns TSM_ETASK_FAILED, to be returned by the task. */
int tsm_fail(tsm_task *t, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;
#define TSM_FAIL_DATA_MAX 32768
/* The same with up to TSM_FAIL_DATA_MAX bytes for the program, which gets them from tsm_run_fail_data when this failure is
 * the run's cause. Only the first failure of a task counts. Returns TSM_ETASK_FAILED; EINVAL for more bytes, and then the
 * task has not failed. */
int tsm_fail_data(tsm_task *t, const void *data, uint64_t bytes, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 4, 5)))
#endif
    ;

/* ---- domains ---------------------------------------------------------------------------------- */

typedef struct tsm_ctx tsm_ctx; /* a task's view of one domain, or of a sub-group of its ranks */

/* Domain argument i as a member sees it; NULL when there is none or this chip is no member. The same one
 * every time; it lives until the task ends. */
tsm_ctx *tsm_task_domain(tsm_task *t, uint32_t i);

/* A place that exists in every window. Made by tsm_buffer or tsm_at, checked on every use. */
typedef struct {
    uint64_t offset;     /* bytes from the start of the window */
    uint32_t window;     /* which lease */
    uint32_t generation; /* of that lease */
} tsm_sym;

uint32_t tsm_rank(const tsm_ctx *c);
uint32_t tsm_size(const tsm_ctx *c);
/* The domain's name, borrowed until the task ends, and the bytes of each window, as they are: what was asked for plus
 * alignment. */
const char *tsm_ctx_name(const tsm_ctx *c);
uint64_t tsm_window_bytes(const tsm_ctx *c);
/* The rank that the chip behind `rank` of c has in `other`, a domain or sub-group of the same task. Returns:
 * ERANGE (no such rank), ENOENT (that chip is not in other). */
int tsm_translate(const tsm_ctx *c, uint32_t rank, const tsm_ctx *other, uint32_t *ret);
/* A named buffer and its bytes (bytes may be NULL). Returns: ENOENT. */
int tsm_buffer(const tsm_ctx *c, const char *name, tsm_sym *ret, uint64_t *bytes);
struct tsm_buffer_info {
    const char *name; /* borrowed until the task ends */
    tsm_sym place;
    uint64_t count, bytes; /* elements of dtype; all of it */
    int dtype;             /* plain bytes: TSM_U8 */
};
/* Buffer i in the order of declaration. Returns: ERANGE (no such buffer; nothing is said in tsm_ctx_text). */
int tsm_buffer_info(const tsm_ctx *c, uint32_t i, struct tsm_buffer_info *ret);
/* `offset` bytes into the window. Returns: ERANGE. */
int tsm_at(const tsm_ctx *c, uint64_t offset, tsm_sym *ret);
/* s plus `bytes`; unchecked until it is used. */
tsm_sym tsm_offset(tsm_sym s, uint64_t bytes);
/* Load/store address of s in rank's window; NULL when s is stale, out of the window or rank unknown. What is
 * stored through it is ordered before every later signal, atomic and collective of this task. */
void *tsm_ptr(const tsm_ctx *c, tsm_sym s, uint32_t rank);
/* After plain stores into rank's window that its task may be waiting for: wakes it. */
int tsm_notify(tsm_ctx *c, uint32_t rank);

/* A sub-group: the same windows, the ranks given in their new order. Local, no memory in the windows, nothing to
 * free; every member makes it with the same list. *ret is NULL for a rank that is not in it. The same ranks
 * give the same sub-group again. Returns: EINVAL (empty, a rank twice), ERANGE (no such rank), ENOMEM. */
int tsm_split(tsm_ctx *c, const uint32_t *ranks, uint32_t count, tsm_ctx **ret);
/* Ranks first, first + stride, ...: count of them. stride >= 1. */
int tsm_split_strided(tsm_ctx *c, uint32_t first, uint32_t stride, uint32_t count, tsm_ctx **ret);

/* ---- failure of a domain ------------------------------------------------------------------------ */

/* 0 while the domain is whole; TSM_EABORTED when the run has failed; TSM_EPEER when a member has aborted it, then
 * *rank (of the domain, may be NULL) is who did and *code what it gave. */
int tsm_status(const tsm_ctx *c, uint32_t *rank, int *code);
/* Ends every wait and collective of all members on this domain, now and later, with TSM_EPEER. code: negative, for
 * tsm_status. The run goes on; whether it fails is up to the tasks. Returns: EINVAL. */
int tsm_abort(tsm_ctx *c, int code);
/* A limit for each later collective, barrier and full window (not for signal waits, which have their own). A call that
 * exceeds it returns TSM_ETIMEOUT and aborts the domain, because its members no longer agree. < 0: none (as at
 * the begin of a task). */
void tsm_timeout_set(tsm_ctx *c, int64_t timeout_ns);
/* Why the last call on this domain that was refused was: the argument and its value, or the two ranks and their calls; "" when
 * none was. Also the text of the failure when the task returns the code of that call. */
const char *tsm_ctx_text(const tsm_ctx *c);

/* ---- put and get --------------------------------------------------------------------------------- */
/* One-sided: the target's task takes no part. A put is at its target in no promised order until tsm_fence (order)
 * or tsm_quiet (completion); the end of the task completes all. Blocking forms: the buffer of this side
 * may be used again on return. _nbi: not before tsm_quiet, and a get_nbi has not arrived before.
 * Each wakes the target if it waits for what was written. The own rank is a valid target. Returns: ERANGE,
 * ESTALE, EINVAL (a null buffer with bytes, alignment of p and g, a stride of 0). */

int tsm_put(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, uint32_t rank);
int tsm_get(tsm_ctx *c, void *dst, tsm_sym src, uint64_t bytes, uint32_t rank);
int tsm_put_nbi(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, uint32_t rank);
int tsm_get_nbi(tsm_ctx *c, void *dst, tsm_sym src, uint64_t bytes, uint32_t rank);
/* `count` elements of `element_bytes`; strides in elements, at least 1. */
int tsm_iput(tsm_ctx *c, tsm_sym dst, uint64_t dst_stride, const void *src, uint64_t src_stride,
             uint64_t element_bytes, uint64_t count, uint32_t rank);
int tsm_iget(tsm_ctx *c, void *dst, uint64_t dst_stride, tsm_sym src, uint64_t src_stride,
             uint64_t element_bytes, uint64_t count, uint32_t rank);
/* One aligned word. */
int tsm_p32(tsm_ctx *c, tsm_sym dst, uint32_t value, uint32_t rank);
int tsm_p64(tsm_ctx *c, tsm_sym dst, uint64_t value, uint32_t rank);
int tsm_g32(tsm_ctx *c, tsm_sym src, uint32_t *ret, uint32_t rank);
int tsm_g64(tsm_ctx *c, tsm_sym src, uint64_t *ret, uint32_t rank);

/* What this task put, set or added through c before is at each target before what it puts there later. */
int tsm_fence(tsm_ctx *c);
/* All this task did through c is complete: visible at the targets, and fetched. */
int tsm_quiet(tsm_ctx *c);
/* The same for one target. Returns: ERANGE. */
int tsm_quiet_rank(tsm_ctx *c, uint32_t rank);

/* ---- signals: 64-bit words in windows ---------------------------------------------------------- */

enum tsm_cmp { TSM_EQ = 1, TSM_NE, TSM_GT, TSM_GE, TSM_LT, TSM_LE };
/* op of a signal: set or add. TSM_SIGNAL_STRONG, or-ed in: not before any earlier put of this task through c has
 * arrived there; without it a signal is weak: it is ordered behind its own put (tsm_put_signal) only. */
enum tsm_signal_op { TSM_SIGNAL_SET = 1, TSM_SIGNAL_ADD, TSM_SIGNAL_STRONG = 0x100 };

/* Sets or adds to the signal at s (8-byte aligned) in rank's window. Returns: EINVAL, ERANGE, ESTALE. */
int tsm_signal(tsm_ctx *c, tsm_sym s, uint64_t value, int op, uint32_t rank);
/* A put, then a signal to the same rank: who sees the signal sees the data. */
int tsm_put_signal(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, tsm_sym signal,
                   uint64_t value, int op, uint32_t rank);
int tsm_put_signal_nbi(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, tsm_sym signal,
                       uint64_t value, int op, uint32_t rank);
/* The signal in one's own window now. */
int tsm_signal_fetch(tsm_ctx *c, tsm_sym s, uint64_t *ret);
/* Waits until the signal at s in one's own window compares (unsigned) with value. timeout_ns < 0: no limit.
 * *seen (may be NULL) is the value found. Returns: ETIMEOUT, EABORTED, EPEER, EINVAL, ERANGE, ESTALE. */
int tsm_signal_wait_until(tsm_ctx *c, tsm_sym s, int cmp, uint64_t value, uint64_t *seen,
                          int64_t timeout_ns);
/* Until each of `count` signals has compared with value; any: until one does, *which is its index (the lowest that
 * is seen). count 0: all returns at once, any is EINVAL. */
int tsm_signal_wait_all(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value,
                        int64_t timeout_ns);
int tsm_signal_wait_any(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value,
                        uint32_t *which, int64_t timeout_ns);
/* The same without waiting: 1 when it holds, 0 when not, negative on error. */
int tsm_signal_test(tsm_ctx *c, tsm_sym s, int cmp, uint64_t value, uint64_t *seen);
int tsm_signal_test_all(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value);
int tsm_signal_test_any(tsm_ctx *c, const tsm_sym *s, uint32_t count, int cmp, uint64_t value,
                        uint32_t *which);

/* ---- atomics on 32- and 64-bit words of any window ------------------------------------------------ */
/* Atomic against each other, p, g and signals of the same width. Each wakes the target. *old: the value
 * before. Those that return no value may arrive late, like puts. Returns: EINVAL (alignment), ERANGE, ESTALE. */

int tsm_atomic_fetch_u32(tsm_ctx *c, tsm_sym s, uint32_t *ret, uint32_t rank);
int tsm_atomic_fetch_u64(tsm_ctx *c, tsm_sym s, uint64_t *ret, uint32_t rank);
int tsm_atomic_set_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank);
int tsm_atomic_set_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank);
int tsm_atomic_add_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank);
int tsm_atomic_add_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank);
int tsm_atomic_and_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank);
int tsm_atomic_and_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank);
int tsm_atomic_or_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank);
int tsm_atomic_or_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank);
int tsm_atomic_xor_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank);
int tsm_atomic_xor_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank);
int tsm_atomic_fetch_add_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank);
int tsm_atomic_fetch_add_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank);
int tsm_atomic_fetch_and_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank);
int tsm_atomic_fetch_and_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank);
int tsm_atomic_fetch_or_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank);
int tsm_atomic_fetch_or_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank);
int tsm_atomic_fetch_xor_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank);
int tsm_atomic_fetch_xor_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank);
int tsm_atomic_swap_u32(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank);
int tsm_atomic_swap_u64(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank);
/* Stores value if the word equals expected; *old == expected says that it did. */
int tsm_atomic_compare_swap_u32(tsm_ctx *c, tsm_sym s, uint32_t expected, uint32_t value,
                                uint32_t *old, uint32_t rank);
int tsm_atomic_compare_swap_u64(tsm_ctx *c, tsm_sym s, uint64_t expected, uint64_t value,
                                uint64_t *old, uint32_t rank);

/* ---- collectives ---------------------------------------------------------------------------------- */
/*
 * Called by every member of the domain (or sub-group) with the same arguments, in an order that all common
 * members share. dst and src are places in the windows, the same on every rank, aligned to the element; counts
 * are elements; n is tsm_size(c). dst and src may be the same place (see "in place" at each), any other overlap is
 * refused. On return src may be written and dst is complete on this rank; a collective does not complete earlier
 * puts (tsm_barrier does), and only tsm_sync, tsm_barrier and those whose result needs every rank wait for every rank.
 *
 * Where two ranks disagree about the collective, its count, type, operation, root, places or sub-group, who sees it
 * gets EINVAL with tsm_ctx_text naming both ranks and both calls, and the domain is aborted: the others get EPEER, a rank that
 * had only to send at its next collective. Two ranks that wait for each other (both take the other for the root) are seen, too;
 * three and more that wait in a ring are a DEADLOCK of the run, whose text has all ranks and their calls.
 *
 * Returns, all of them: EINVAL, ERANGE, ESTALE, EABORTED (the run failed), EPEER (a member aborted the
 * domain), ETIMEOUT (tsm_timeout_set), EUNSUPPORTED (an operation that the type does not have).
 */

/* Everybody is here, and sees what everybody stored or signalled before. */
int tsm_sync(tsm_ctx *c);
/* tsm_quiet, then tsm_sync: everybody's puts have arrived. */
int tsm_barrier(tsm_ctx *c);

/* dst[0..count) of every rank = src[0..count) of the root. In place: the root's dst is its src. */
int tsm_broadcast(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, uint32_t root);
/* dst[r * count ..] of every rank = src[0..count) of rank r. In place: rank r's part is in dst at r * count. */
int tsm_all_gather(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype);
/* The same at the root only. In place (on every rank): rank r's part is at r * count. */
int tsm_gather(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, uint32_t root);
/* dst[0..count) of rank r = src[r * count ..] of the root. In place: rank r's part goes to r * count. */
int tsm_scatter(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, uint32_t root);
/* dst[r * count ..] of rank me = src[me * count ..] of rank r. In place allowed. */
int tsm_all_to_all(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype);

/* The same with counts[r] elements for rank r, at displs[r] elements of the buffer that has all parts (NULL: one
 * behind the other). Arrays of n, the same on every rank. In place as above, with displs[r] for r * count. */
int tsm_all_gather_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts,
                     const uint64_t *displs, int dtype);
int tsm_gather_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts,
                 const uint64_t *displs, int dtype, uint32_t root);
int tsm_scatter_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts,
                  const uint64_t *displs, int dtype, uint32_t root);
/* Sends src_counts[r] at src_displs[r] to rank r and receives dst_counts[r] at dst_displs[r] from it. What r sends
 * to me and what I expect from r must be equal. Not in place. */
int tsm_all_to_all_v(tsm_ctx *c, tsm_sym dst, const uint64_t *dst_counts,
                     const uint64_t *dst_displs, tsm_sym src, const uint64_t *src_counts,
                     const uint64_t *src_displs, int dtype);

enum tsm_op {
    TSM_SUM = 1,
    TSM_PROD,
    TSM_MIN, /* of floating types: NaN when there is one */
    TSM_MAX,
    TSM_AND, /* bits; integer types and bool */
    TSM_OR,
    TSM_XOR
};
/* Reductions combine in the order of ranks, ((r0 op r1) op r2) ..., for every element, whatever the size and
 * the algorithm: for a fixed number of ranks the result is the same bits on every rank and in every call. Integers
 * wrap. f16 and bf16 are combined in f32 and rounded once, to nearest even. bool: TSM_AND OR XOR MIN MAX. */

/* into[i] = into[i] op from[i] for count elements of dtype; `into` holds the lower ranks. Must be associative. */
typedef void tsm_combine_fn(void *into, const void *from, uint64_t count, int dtype, void *arg);
/* An operation of one's own, for the reductions of this task; up to 16. *ret is what to give as op. Every member makes
 * the same ones in the same order. Returns: EINVAL, ENOSPC. */
int tsm_op_user(tsm_task *t, tsm_combine_fn *combine, void *arg, int *ret);

/* dst[i] = op over the ranks of src[i], for `count` elements, at the root. In place allowed. */
int tsm_reduce(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op,
               uint32_t root);
/* On every rank. In place allowed. */
int tsm_all_reduce(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op);
/* src has n * count elements; rank r gets the combined part r in dst[0..count). In place: at r * count. */
int tsm_reduce_scatter(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op);
/* Part r has counts[r] elements, one behind the other. In place: where part r is. */
int tsm_reduce_scatter_v(tsm_ctx *c, tsm_sym dst, tsm_sym src, const uint64_t *counts, int dtype,
                         int op);
/* dst[i] of rank r = op over ranks 0..r of src[i]. In place allowed. */
int tsm_scan(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op);
/* Over ranks 0..r-1; dst of rank 0 is not written. */
int tsm_exscan(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op);

#ifdef __cplusplus
}
#endif
#endif

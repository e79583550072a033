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

/* Fails the task with a text (printf format). Returns TSM_ETASK_FAILED, to be returned by the task. */
int tsm_fail(tsm_task *t, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* ---- domains ---------------------------------------------------------------------------------- */

typedef struct tsm_ctx tsm_ctx; /* a task's view of one domain */

/* Domain argument i as a member sees it; NULL when there is none or this chip is no member. */
tsm_ctx *tsm_task_domain(tsm_task *t, uint32_t i);

/* A place that exists in every window. Made by tsm_buffer or tsm_at, checked on every use. */
typedef struct {
    uint64_t offset;     /* bytes from the start of the window */
    uint32_t window;     /* which lease */
    uint32_t generation; /* of that lease */
} tsm_sym;

uint32_t tsm_rank(const tsm_ctx *c);
uint32_t tsm_size(const tsm_ctx *c);
/* A named buffer and its bytes (bytes may be NULL). Returns: ENOENT. */
int tsm_buffer(const tsm_ctx *c, const char *name, tsm_sym *ret, uint64_t *bytes);
/* `offset` bytes into the window. Returns: ERANGE. */
int tsm_at(const tsm_ctx *c, uint64_t offset, tsm_sym *ret);
/* s plus `bytes`; unchecked until it is used. */
tsm_sym tsm_offset(tsm_sym s, uint64_t bytes);
/* Load/store address of s in rank's window; NULL when s is stale, out of the window or rank unknown. */
void *tsm_ptr(const tsm_ctx *c, tsm_sym s, uint32_t rank);
/* After plain stores into rank's window that its task may be waiting for: wakes it. */
int tsm_notify(tsm_ctx *c, uint32_t rank);

/* ---- signals: 64-bit words in windows ---------------------------------------------------------- */

enum tsm_cmp { TSM_EQ = 1, TSM_NE, TSM_GT, TSM_GE, TSM_LT, TSM_LE };
enum tsm_signal_op { TSM_SIGNAL_SET = 1, TSM_SIGNAL_ADD };

/* Sets or adds to the signal at s (8-byte aligned) in rank's window; everything this task wrote before is
 * visible to who sees it. Returns: EINVAL, ERANGE, ESTALE. */
int tsm_signal(tsm_ctx *c, tsm_sym s, uint64_t value, int op, uint32_t rank);
/* The signal in one's own window now. */
int tsm_signal_fetch(tsm_ctx *c, tsm_sym s, uint64_t *ret);
/* Waits until the signal at s in one's own window compares (unsigned) with value. timeout_ns < 0: no limit.
 * *seen (may be NULL) is the value found. Returns: ETIMEOUT, EABORTED, EINVAL, ERANGE, ESTALE. */
int tsm_signal_wait_until(tsm_ctx *c, tsm_sym s, int cmp, uint64_t value, uint64_t *seen,
                          int64_t timeout_ns);

/* ---- collectives: called by every member of the domain, in the same order ----------------------- */

/* Everybody is here, and sees what everybody wrote before. Returns: EABORTED. */
int tsm_barrier(tsm_ctx *c);

enum tsm_op { TSM_SUM = 1, TSM_PROD, TSM_MIN, TSM_MAX };
/* dst[i] = op over the ranks of src[i], for `count` elements, on every rank. dst and src are in the
 * windows; dst == src is allowed, other overlap is refused. Ranks are combined in the order 0, 1, ... for every
 * element, so the result is the same on every rank and for every call with that number of ranks.
 * Types: i32 u32 i64 u64 f32 f64. Returns: EINVAL, ERANGE, ESTALE, EABORTED. */
int tsm_all_reduce(tsm_ctx *c, tsm_sym dst, tsm_sym src, uint64_t count, int dtype, int op);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tasks in C for the tests of the Python package. conftest.py compiles them as a user of the package would: with its
 * headers, into a shared object that is linked with nothing. Above each: its arguments. Tensors are f32 unless it says otherwise.
 */
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <transom/task.h>

#define TASK(name)                                                                                 \
    int name(tsm_task *t);                                                                         \
    int name(tsm_task *t)

static uint64_t elements(const tsm_task *t, uint32_t i)
{
    struct tsm_tensor x;
    uint64_t n = 1;
    if (tsm_task_tensor(t, i, &x) != 0) {
        return 0;
    }
    for (int d = 0; d < x.ndim; d++) {
        n *= x.shape[d];
    }
    return n;
}

/* Writes v[0..count) to the i64 tensor 0, or as much as it takes. */
static void write_back(tsm_task *t, const int64_t *v, uint64_t count)
{
    int64_t *out = tsm_task_data(t, 0);
    uint64_t n = elements(t, 0);
    for (uint64_t i = 0; i < n && i < count; i++) {
        out[i] = v[i];
    }
}

/* ---- arithmetic ---- */

TASK(nothing)
{
    (void)t;
    return 0;
}

/* tensors a, b, out: out = a + b */
TASK(add)
{
    const float *a = tsm_task_data(t, 0), *b = tsm_task_data(t, 1);
    float *out = tsm_task_data(t, 2);
    for (uint64_t i = 0, n = elements(t, 2); i < n; i++) {
        out[i] = a[i] + b[i];
    }
    return 0;
}

/* tensor x, scalar factor (f32): x *= factor */
TASK(scale)
{
    float *x = tsm_task_data(t, 0);
    for (uint64_t i = 0, n = elements(t, 0); i < n; i++) {
        x[i] *= tsm_task_f32(t, 0);
    }
    return 0;
}

/* tensor out, scalar value (f32) */
TASK(fill)
{
    float *out = tsm_task_data(t, 0);
    for (uint64_t i = 0, n = elements(t, 0); i < n; i++) {
        out[i] = tsm_task_f32(t, 0);
    }
    return 0;
}

/* tensors x, out: out[0] = the sum of x */
TASK(sum)
{
    const float *x = tsm_task_data(t, 0);
    float total = 0;
    for (uint64_t i = 0, n = elements(t, 0); i < n; i++) {
        total += x[i];
    }
    *(float *)tsm_task_data(t, 1) = total;
    return 0;
}

/* tensor x, scalars a, b (f32): x = a * x + b, of which the order shows */
TASK(affine)
{
    float *x = tsm_task_data(t, 0);
    for (uint64_t i = 0, n = elements(t, 0); i < n; i++) {
        x[i] = tsm_task_f32(t, 0) * x[i] + tsm_task_f32(t, 1);
    }
    return 0;
}

/* ---- gates ---- */

/* tensor gate (i64, no dependency): adds 1 to gate[0], then waits until gate[1] is not 0; of a test that failed it never is */
TASK(hold)
{
    int64_t *gate = tsm_task_data(t, 0);
    time_t end = time(NULL) + 30;
    __atomic_fetch_add(&gate[0], 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&gate[1], __ATOMIC_ACQUIRE) == 0) {
        if (time(NULL) > end) {
            return tsm_fail(t, "nobody has opened the gate");
        }
        poll(NULL, 0, 1);
    }
    return 0;
}

/* ---- what a task sees ---- */

/* tensor out (i64): chip, member, members, blocks, run, id */
TASK(who)
{
    const int64_t v[] = {tsm_task_chip(t),   tsm_task_member(t),       tsm_task_members(t),
                         tsm_task_blocks(t), (int64_t)tsm_task_run(t), (int64_t)tsm_task_self(t)};
    write_back(t, v, 6);
    return 0;
}

/* tensor out (i64): numbers of tensors, scalars and domains, then the scalars as bits */
TASK(arguments)
{
    int64_t v[3 + 64] = {tsm_task_tensor_count(t), tsm_task_scalar_count(t),
                         tsm_task_domain_count(t)};
    uint64_t n = 3;
    for (uint32_t i = 0; i < tsm_task_scalar_count(t) && i < 64; i++) {
        v[n++] = (int64_t)tsm_task_scalar(t, i);
    }
    write_back(t, v, n);
    return 0;
}

/* tensors out (i64), x: dtype, dimensions, then shape, then strides of x */
TASK(describe)
{
    struct tsm_tensor x;
    if (tsm_task_tensor(t, 1, &x) != 0) {
        return tsm_fail(t, "no tensor 1");
    }
    int64_t v[2 + 2 * TSM_DIMS_MAX] = {x.dtype, x.ndim};
    for (int i = 0; i < x.ndim; i++) {
        v[2 + i] = (int64_t)x.shape[i];
        v[2 + x.ndim + i] = x.strides[i];
    }
    write_back(t, v, 2 + 2 * (uint64_t)x.ndim);
    return 0;
}

/* ---- domains ---- */

/* tensor out, scalars device_ctx (a pointer), offset in bytes: out[r] = the f32 there in the window of rank r */
TASK(device_read)
{
    const struct tsm_device_ctx *c =
        (const struct tsm_device_ctx *)(uintptr_t)tsm_task_scalar(t, 0);
    float *out = tsm_task_data(t, 0);
    if (c->abi != 1) {
        return tsm_fail(t, "abi %u", c->abi);
    }
    for (uint32_t r = 0; r < c->size; r++) {
        out[r] = *(const float *)(uintptr_t)(c->base[r] + tsm_task_scalar(t, 1));
    }
    return 0;
}

/* domain, scalars rank, value: sets the signal at "signal" in that rank's window */
TASK(signal_set)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_buffer(c, "signal", &s, NULL);
    return rc != 0 ? rc
                   : tsm_signal(c, s, tsm_task_scalar(t, 1), TSM_SIGNAL_SET,
                                (uint32_t)tsm_task_scalar(t, 0));
}

/* domain, scalar value: waits until the signal at "signal" in the own window is at least that, without a limit */
TASK(signal_wait)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_buffer(c, "signal", &s, NULL);
    return rc != 0 ? rc : tsm_signal_wait_until(c, s, TSM_GE, tsm_task_scalar(t, 0), NULL, -1);
}

/* domain: the first thing that it does is to set the signal at "signal" of the next rank; then it waits for its own */
TASK(signal_ring)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    int rc = tsm_buffer(c, "signal", &s, NULL);
    if (rc == 0) {
        rc = tsm_signal(c, s, 1, TSM_SIGNAL_SET, (tsm_rank(c) + 1) % tsm_size(c));
    }
    return rc != 0 ? rc : tsm_signal_wait_until(c, s, TSM_EQ, 1, NULL, -1);
}

/* domain with a buffer "grad", tensor out: out = the sum over the ranks of rank + 1, in each element of "grad" */
TASK(all_reduce)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    float *out = tsm_task_data(t, 0);
    uint64_t n = elements(t, 0);
    tsm_sym s;
    int rc = tsm_buffer(c, "grad", &s, NULL);
    if (rc != 0) {
        return rc;
    }
    float *mine = tsm_ptr(c, s, tsm_rank(c));
    for (uint64_t i = 0; i < n; i++) {
        mine[i] = (float)tsm_rank(c) + 1;
    }
    rc = tsm_all_reduce(c, s, s, n, TSM_F32, TSM_SUM);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        out[i] = mine[i];
    }
    return rc;
}

/* ---- failures ---- */

/* scalar n */
TASK(fail)
{
    return tsm_fail(t, "the kernel does not like %d", (int)tsm_task_scalar(t, 0));
}

/* scalar: what it returns */
TASK(give_back)
{
    return (int)tsm_task_scalar(t, 0);
}

/* Does not end. */
TASK(spin)
{
    (void)t;
    for (volatile uint64_t n = 0;; n++) {
    }
}

/* scalar: the signal that kills its process */
TASK(die)
{
    return kill(getpid(), (int)tsm_task_scalar(t, 0));
}

/* scalar: the status its process exits with */
TASK(leave)
{
    _exit((int)tsm_task_scalar(t, 0));
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The tasks of the integration tests on lives, callables, runs and failures (rig.h). They stand in a shared object so
 * that forked and spawned workers run the same ones. What a task is to do is in its scalars.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transom/task.h"

/* The last tensor's first element grows by scalar 0 and by what the tensors before it hold. */
int so_add(tsm_task *t)
{
    uint32_t n = tsm_task_tensor_count(t);
    int32_t sum = (int32_t)tsm_task_scalar(t, 0);
    for (uint32_t i = 0; i + 1 < n; i++) {
        sum += *(const int32_t *)tsm_task_data(t, i);
    }
    if (n > 0) {
        *(int32_t *)tsm_task_data(t, n - 1) += sum;
    }
    return 0;
}

/* A member of a group adds its number + 1 to its own element of the last tensor. */
int so_member(tsm_task *t)
{
    int32_t *x = tsm_task_data(t, tsm_task_tensor_count(t) - 1);
    *x += (int32_t)tsm_task_member(t) + 1;
    return 0;
}

/* scalar 0: what it returns after tsm_fail; scalar 1: length of the text, 0: "as it was told to". */
int so_fail(tsm_task *t)
{
    uint64_t length = tsm_task_scalar(t, 1);
    if (length > 0) {
        char *text = malloc(length + 1);
        if (!text) {
            return 1;
        }
        memset(text, 'x', length);
        text[length] = 0;
        tsm_fail(t, "%s", text);
        free(text);
    } else {
        tsm_fail(t, "as it was told to");
    }
    return (int)tsm_task_scalar(t, 0);
}

int so_return(tsm_task *t)
{
    return (int)tsm_task_scalar(t, 0);
}

/* scalar 0: a signal; 0: exit with scalar 1. */
int so_die(tsm_task *t)
{
    int sig = (int)tsm_task_scalar(t, 0);
    if (sig != 0) {
        kill(getpid(), sig);
    } else {
        _exit((int)tsm_task_scalar(t, 1));
    }
    return 0;
}

static int pass(tsm_task *t)
{
    char c = 0;
    ssize_t n;
    if (write((int)tsm_task_scalar(t, 0), "b", 1) != 1) {
        return tsm_fail(t, "the gate cannot be told: %s", strerror(errno));
    }
    do {
        n = read((int)tsm_task_scalar(t, 1), &c, 1);
    } while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : tsm_fail(t, "the gate is broken");
}

/* Says on descriptor scalar 0 that it has begun, and goes on when descriptor scalar 1 has a byte for it. Then
 * adds scalar 2 to the last tensor's first element. */
int so_gate(tsm_task *t)
{
    int rc = pass(t);
    uint32_t n = tsm_task_tensor_count(t);
    if (rc == 0 && n > 0) {
        *(int32_t *)tsm_task_data(t, n - 1) += (int32_t)tsm_task_scalar(t, 2);
    }
    return rc;
}

/* The same, but fails behind the gate. */
int so_gate_fail(tsm_task *t)
{
    int rc = pass(t);
    return rc != 0 ? rc : tsm_fail(t, "failed behind the gate");
}

/* The same, but dies behind the gate by signal scalar 2. */
int so_gate_die(tsm_task *t)
{
    int rc = pass(t);
    if (rc == 0) {
        kill(getpid(), (int)tsm_task_scalar(t, 2));
    }
    return rc;
}

int so_spin(tsm_task *t)
{
    (void)t;
    for (volatile uint64_t i = 0;; i++) {
    }
    return 0;
}

/* Says on descriptor scalar 0 that it has begun, and then never ends. */
int so_gate_spin(tsm_task *t)
{
    return write((int)tsm_task_scalar(t, 0), "b", 1) == 1 ? so_spin(t) : 1;
}

/* Says on descriptor scalar 0 that it has begun, then waits for a signal that nobody sends; returns what the wait
 * returned. */
int so_wait(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    if (!c || tsm_at(c, 0, &s) != 0) {
        return tsm_fail(t, "no domain");
    }
    if (write((int)tsm_task_scalar(t, 0), "b", 1) != 1) {
        return tsm_fail(t, "the gate cannot be told");
    }
    return tsm_signal_wait_until(c, s, TSM_GE, 1, NULL, -1);
}

/* The same, but gives up with a text of its own when the wait is ended. */
int so_wait_fail(tsm_task *t)
{
    int rc = so_wait(t);
    return rc == TSM_EABORTED ? tsm_fail(t, "gave up waiting") : 1;
}

/* What a task may not do: every answer must be TSM_EWRONG_THREAD. */
int so_make_a_worker(tsm_task *t)
{
    tsm_worker *w = NULL;
    int rc = tsm_worker_create(NULL, &w, NULL);
    return rc == TSM_EWRONG_THREAD && w == NULL ? 0 : tsm_fail(t, "create in a task: %d", rc);
}

/* ---- many: so_many_000 to so_many_4ff write their own number ---- */

#define ONE(x, y, z)                                                                               \
    int so_many_##x##y##z(tsm_task *t);                                                            \
    int so_many_##x##y##z(tsm_task *t)                                                             \
    {                                                                                              \
        *(int32_t *)tsm_task_data(t, 0) = 0x##x##y##z;                                             \
        return 0;                                                                                  \
    }
#define EACH_Z(m, ...)                                                                             \
    m(__VA_ARGS__, 0) m(__VA_ARGS__, 1) m(__VA_ARGS__, 2) m(__VA_ARGS__, 3) m(__VA_ARGS__, 4)      \
        m(__VA_ARGS__, 5) m(__VA_ARGS__, 6) m(__VA_ARGS__, 7) m(__VA_ARGS__, 8) m(__VA_ARGS__, 9)  \
            m(__VA_ARGS__, a) m(__VA_ARGS__, b) m(__VA_ARGS__, c) m(__VA_ARGS__, d)                \
                m(__VA_ARGS__, e) m(__VA_ARGS__, f)
#define EACH(m, ...)                                                                               \
    m(__VA_ARGS__, 0) m(__VA_ARGS__, 1) m(__VA_ARGS__, 2) m(__VA_ARGS__, 3) m(__VA_ARGS__, 4)      \
        m(__VA_ARGS__, 5) m(__VA_ARGS__, 6) m(__VA_ARGS__, 7) m(__VA_ARGS__, 8) m(__VA_ARGS__, 9)  \
            m(__VA_ARGS__, a) m(__VA_ARGS__, b) m(__VA_ARGS__, c) m(__VA_ARGS__, d)                \
                m(__VA_ARGS__, e) m(__VA_ARGS__, f)
#define ROW(x, y) EACH_Z(ONE, x, y)
EACH(ROW, 0)
EACH(ROW, 1)
EACH(ROW, 2)
EACH(ROW, 3)
EACH(ROW, 4)

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Callables with data of their own (tsm_register_loaded) and tasks that fail with data, for the tests on both. They stand
 * in a shared object so that forked and spawned workers run the same ones.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "integration/loaded_so.h"
#include "transom/task.h"

/* ---- loading ---- */

static void tell(const struct loaded_data *d, const char *what)
{
    if (d->log >= 0 && write(d->log, what, 1) != 1) {
        _exit(3);
    }
}

static int concerns_me(const struct loaded_data *d)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name, 0, 0, 0);
    return d->where[0] == 0 || strcmp(name, d->where) == 0;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Does as the data says, and makes a copy of it. */
int so_load(const void *data, uint64_t bytes, void **ret_arg, char *text, size_t text_bytes)
{
    struct loaded_data *d = malloc(sizeof(*d));
    if (!d || bytes < sizeof(*d)) {
        free(d);
        return 1;
    }
    memcpy(d, data, sizeof(*d));
    tell(d, "L");
    if (d->gate > 0 && read(d->gate, &(char){0}, 1) != 1) {
        _exit(4);
    }
    for (uint64_t end = now_ns() + d->slow_ns; d->slow_ns != 0 && now_ns() < end;) {
    }
    int rc = concerns_me(d) ? d->refuse : 0;
    if (concerns_me(d) && d->die) {
        kill(getpid(), d->die);
    }
    if (rc != 0) {
        strncpy(text, d->text, text_bytes);
        free(d);
        return rc;
    }
    *ret_arg = d;
    return 0;
}

void so_unload(void *arg)
{
    tell(arg, "U");
    free(arg);
}

/* Refuses anything but no data at all. */
int so_load_nothing(const void *data, uint64_t bytes, void **ret_arg, char *text, size_t text_bytes)
{
    static char made[] = "of nothing";
    (void)text;
    (void)text_bytes;
    *ret_arg = made;
    return data != NULL || bytes != 0;
}

/* The last byte must be the sum of the others: whether large data arrives whole. */
int so_load_sum(const void *data, uint64_t bytes, void **ret_arg, char *text, size_t text_bytes)
{
    const uint8_t *at = data;
    uint8_t sum = 0;
    (void)text;
    (void)text_bytes;
    for (uint64_t i = 0; i + 1 < bytes; i++) {
        sum = (uint8_t)(sum + at[i]);
    }
    *ret_arg = NULL;
    return sum != at[bytes - 1];
}

/* ---- tasks ---- */

/* Adds to the last tensor's first element the value of its data; 1000000 when it has none. */
int so_loaded(tsm_task *t)
{
    const struct loaded_data *d = tsm_task_arg(t);
    *(int32_t *)tsm_task_data(t, tsm_task_tensor_count(t) - 1) += d ? d->value : 1000000;
    return 0;
}

int so_of_nothing(tsm_task *t)
{
    const char *made = tsm_task_arg(t);
    return made && strcmp(made, "of nothing") == 0 ? 0 : tsm_fail(t, "the argument is wrong");
}

/* Byte i of what so_fail_data gives when scalar 1 is `seed`. */
static uint8_t byte_of(uint64_t seed, uint64_t i)
{
    return (uint8_t)(seed * 31 + i);
}

/* Fails with scalar 0 bytes. scalar 2 is a set: 1: after tsm_fail; 2: again, with other bytes; 4: and dies; 8: what was
 * refused is what it returns; 16: without data behind it. */
int so_fail_data(tsm_task *t)
{
    uint64_t bytes = tsm_task_scalar(t, 0), seed = tsm_task_scalar(t, 1);
    uint64_t how = tsm_task_scalar(t, 2);
    static uint8_t data[2 * TSM_FAIL_DATA_MAX];
    for (uint64_t i = 0; i < bytes && i < sizeof(data); i++) {
        data[i] = byte_of(seed, i);
    }
    if (how & 1) {
        tsm_fail(t, "the first");
    }
    int rc = tsm_fail_data(t, how & 16 ? NULL : data, bytes, "with %d bytes", (int)bytes);
    if (how & 2) {
        tsm_fail_data(t, "other", 5, "the second");
    }
    if (how & 4) {
        kill(getpid(), SIGKILL);
    }
    return how & 8 ? (rc == TSM_EINVAL ? 0 : 1) : rc;
}

/* so_gate of calls_so.c (scalars 0 and 1), then fails with the 8 bytes of scalar 2. */
int so_gate_fail_data(tsm_task *t)
{
    char c = 0;
    uint64_t value = tsm_task_scalar(t, 2);
    if (write((int)tsm_task_scalar(t, 0), "b", 1) != 1 ||
        read((int)tsm_task_scalar(t, 1), &c, 1) != 1) {
        return tsm_fail(t, "the gate is broken");
    }
    return tsm_fail_data(t, &value, sizeof(value), "behind the gate");
}

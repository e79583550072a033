/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The shortest use of the whole: one worker, one task. */
#include "harness.h"

static int add_one(tsm_task *t)
{
    float *x = tsm_task_data(t, 0);
    for (int i = 0; i < 16; i++) {
        x[i] += 1;
    }
    return 0;
}

static tsm_callable callable;
static void *data;

static int submit_one(tsm_orch *orch, void *arg)
{
    (void)arg;
    struct tsm_tensor x = {
        .data = data, .dtype = TSM_F32, .tag = TSM_INOUT, .ndim = 1, .shape = {16}};
    struct tsm_call call = {.callable = callable, .chip = 0, .tensors = &x, .tensor_count = 1};
    return tsm_submit(orch, &call, NULL);
}

static void one_task_adds_one(void **state)
{
    (void)state;
    tsm_worker *w = harness_worker(1, 0);
    callable = harness_register(w, "add_one", add_one);
    harness_start(w);
    assert_code(w, tsm_buffer_create(w, 64, &data), 0);
    assert_code(w, tsm_worker_run(w, submit_one, NULL), 0);
    assert_true(((float *)data)[15] == 1.0f);
    harness_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(one_task_adds_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

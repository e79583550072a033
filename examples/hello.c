/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Four chips, one domain, one task: the chips add up their numbers.
 */
#include <stdio.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { CHIPS = 4 };
static tsm_callable add_up;

/* Runs on every chip, in a process of its own. */
static int run_add_up(tsm_task *task)
{
    tsm_ctx *domain = tsm_task_domain(task, 0);
    tsm_sym x; /* one name for a place in all windows */
    int rc = tsm_buffer(domain, "x", &x, NULL);
    if (rc != 0) {
        return rc;
    }
    int32_t *mine = tsm_ptr(domain, x, tsm_rank(domain));
    *mine = 1 + (int32_t)tsm_rank(domain);
    return tsm_all_reduce(domain, x, x, 1, TSM_I32, TSM_SUM);
}

/* Runs here: says what the chips are to do. */
static int orchestrate(tsm_orch *orch, void *sum)
{
    static const int chips[CHIPS] = {0, 1, 2, 3};
    struct tsm_buffer_spec buffer = {.name = "x", .dtype = TSM_I32, .count = 1};
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "everybody",
                                   .chips = chips,
                                   .chip_count = CHIPS,
                                   .window_bytes = 4096,
                                   .buffers = &buffer,
                                   .buffer_count = 1};
    struct tsm_call members[CHIPS];
    struct tsm_tensor x[CHIPS];
    tsm_domain *domain;
    int rc = tsm_domain_alloc(orch, &opts, &domain);
    for (int chip = 0; chip < CHIPS && rc == 0; chip++) {
        rc = tsm_domain_buffer(domain, chip, "x", &x[chip]);
        x[chip].tag = TSM_OUTPUT_EXISTING;
        members[chip] = (struct tsm_call){.callable = add_up,
                                          .chip = chip,
                                          .tensors = &x[chip],
                                          .tensor_count = 1,
                                          .domains = &domain,
                                          .domain_count = 1};
    }
    if (rc == 0) {
        rc = tsm_submit_group(orch, members, CHIPS, NULL);
    }
    if (rc == 0) { /* waits for the task: it writes x */
        rc = tsm_copy_from(orch, 2, sum, x[2].data, sizeof(int32_t));
    }
    return rc; /* the domain is released with the function's end */
}

int main(void)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = CHIPS};
    struct tsm_error error;
    tsm_worker *worker;
    int32_t sum;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "hello: %s\n", error.text);
        return 1;
    }
    int rc = tsm_register(worker, "add_up", run_add_up, &add_up);
    rc = rc != 0 ? rc : tsm_worker_start(worker);
    rc = rc != 0 ? rc : tsm_worker_run(worker, orchestrate, &sum);
    if (rc == 0) {
        printf("Hello from %d chips: their numbers add up to %d.\n", CHIPS, sum);
    } else {
        fprintf(stderr, "hello: %s\n", tsm_worker_error(worker)->text);
    }
    tsm_worker_destroy(worker);
    return rc == 0 ? 0 : 1;
}

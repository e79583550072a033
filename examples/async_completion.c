/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A task is done when its transfers are: fetch a peer's data, compute meanwhile, and let the runtime do the rest.
 *
 * The program stages a vector in each chip's window (tsm_copy_to). Each chip then starts to fetch the other's
 * (tsm_get_nbi) and takes the square roots of its own meanwhile; y = sqrt(own) + other is computed
 *
 *     on chip 0     by the same task, which asks for completion first (tsm_quiet);
 *     for chip 1    by another task, on chip 0. The task on chip 1 returns with the transfer still open: its end completes
 *                   it, and only then is the task done. The second is behind it because it reads what the first
 *                   is said to write.
 *
 * The memory that is fetched into must not be looked at in between: on chips that copy by themselves nothing has to be there
 * yet. On `sim` nothing is there either with TRANSOM_CHAOS=1 in the environment; the result is the same.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { CHIPS = 2, COUNT = 1 << 16, BYTES = COUNT * sizeof(float) };
static const double tolerance = 1e-3;

static tsm_callable fetch_and_add, fetch, add;
static float x[CHIPS][COUNT],
    y[CHIPS][COUNT]; /* the program's own memory: what is staged, what comes back */

/* ---- the tasks ------------------------------------------------------------------------------------------- */

static void take_roots(float *roots, const float *own)
{
    for (int i = 0; i < COUNT; i++) {
        roots[i] = sqrtf(own[i]);
    }
}

static void add_up(float *sum, const float *one, const float *other)
{
    for (int i = 0; i < COUNT; i++) {
        sum[i] = one[i] + other[i];
    }
}

/* Starts to fetch the other chip's x. */
static int begin_fetch(tsm_ctx *c, float *fetched)
{
    tsm_sym other;
    int rc = tsm_buffer(c, "x", &other, NULL);
    return rc != 0 ? rc : tsm_get_nbi(c, fetched, other, BYTES, 1 - tsm_rank(c));
}

/* Tensors: own x, the other's x (read by the transfer), fetched, roots, y: all but the second in the own window. */
static int run_fetch_and_add(tsm_task *task)
{
    tsm_ctx *c = tsm_task_domain(task, 0);
    const float *own = tsm_task_data(task, 0);
    float *fetched = tsm_task_data(task, 2), *roots = tsm_task_data(task, 3);
    int rc = begin_fetch(c, fetched);
    take_roots(roots, own);           /* the transfer is pending */
    rc = rc != 0 ? rc : tsm_quiet(c); /* from here on it is not */
    if (rc == 0) {
        add_up(tsm_task_data(task, 4), roots, fetched);
    }
    return rc;
}

/* The same without y, and without quiet. */
static int run_fetch(tsm_task *task)
{
    int rc = begin_fetch(tsm_task_domain(task, 0), tsm_task_data(task, 2));
    take_roots(tsm_task_data(task, 3), tsm_task_data(task, 0));
    return rc;
}

/* Tensors: fetched and roots of another chip, y in the own window. */
static int run_add(tsm_task *task)
{
    add_up(tsm_task_data(task, 2), tsm_task_data(task, 1), tsm_task_data(task, 0));
    return 0;
}

/* ---- the orchestration function ------------------------------------------------------------------------------ */

struct part {
    uint32_t rank;
    const char *buffer;
    enum tsm_tag tag;
};

/* A task whose tensors are buffers of windows. */
static int submit(tsm_orch *orch, tsm_callable callable, int chip, tsm_domain *domain,
                  const struct part *parts, uint32_t count)
{
    struct tsm_tensor tensors[5];
    struct tsm_call call = {.callable = callable,
                            .chip = chip,
                            .tensors = tensors,
                            .tensor_count = count,
                            .domains = &domain,
                            .domain_count = 1};
    int rc = 0;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = tsm_domain_tensor(domain, parts[i].rank, parts[i].buffer, 0, TSM_REST,
                               (int)parts[i].tag, &tensors[i]);
    }
    return rc != 0 ? rc : tsm_submit(orch, &call, NULL);
}

static int allocate(tsm_orch *orch, tsm_domain **ret)
{
    static const int chips[CHIPS] = {0, 1};
    static const struct tsm_buffer_spec buffers[] = {
        {.name = "x", .dtype = TSM_F32, .count = COUNT},
        {.name = "fetched", .dtype = TSM_F32, .count = COUNT},
        {.name = "roots", .dtype = TSM_F32, .count = COUNT},
        {.name = "y", .dtype = TSM_F32, .count = COUNT},
        {.name = "y for 1", .dtype = TSM_F32, .count = COUNT}};
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "pair",
                                   .chips = chips,
                                   .chip_count = CHIPS,
                                   .window_bytes = 5 * (uint64_t)BYTES,
                                   .buffers = buffers,
                                   .buffer_count = 5};
    return tsm_domain_alloc(orch, &opts, ret);
}

static int copy_back(tsm_orch *orch, tsm_domain *domain, const char *buffer, float *to)
{
    struct tsm_tensor from;
    int rc = tsm_domain_buffer(domain, 0, buffer, &from);
    return rc != 0 ? rc : tsm_copy_from(orch, 0, to, from.data, BYTES);
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    (void)arg;
    static const struct part both[] = {{0, "x", TSM_INPUT},
                                       {1, "x", TSM_INPUT},
                                       {0, "fetched", TSM_OUTPUT_EXISTING},
                                       {0, "roots", TSM_OUTPUT_EXISTING},
                                       {0, "y", TSM_OUTPUT_EXISTING}};
    static const struct part only[] = {{1, "x", TSM_INPUT},
                                       {0, "x", TSM_INPUT},
                                       {1, "fetched", TSM_OUTPUT_EXISTING},
                                       {1, "roots", TSM_OUTPUT_EXISTING}};
    static const struct part behind[] = {{1, "fetched", TSM_INPUT}, /* that is the order */
                                         {1, "roots", TSM_INPUT},
                                         {0, "y for 1", TSM_OUTPUT_EXISTING}};
    tsm_domain *pair;
    int rc = allocate(orch, &pair);
    for (int chip = 0; chip < CHIPS && rc == 0; chip++) {
        struct tsm_tensor staged;
        rc = tsm_domain_buffer(pair, chip, "x", &staged);
        rc = rc != 0 ? rc : tsm_copy_to(orch, chip, staged.data, x[chip], BYTES);
    }
    rc = rc != 0 ? rc : submit(orch, fetch_and_add, 0, pair, both, 5);
    rc = rc != 0 ? rc : submit(orch, fetch, 1, pair, only, 4);
    rc = rc != 0 ? rc : submit(orch, add, 0, pair, behind, 3);
    rc = rc != 0 ? rc : copy_back(orch, pair, "y", y[0]); /* each waits for what writes it */
    return rc != 0 ? rc : copy_back(orch, pair, "y for 1", y[1]);
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

static void fill(void)
{
    for (int i = 0; i < COUNT; i++) {
        x[0][i] = (float)(i % 1000);
        x[1][i] = 2 + sinf((float)i);
    }
}

/* Prints how far y is from a plain computation; returns whether it is right. */
static int report(int chip, const char *how)
{
    double off = 0;
    for (int i = 0; i < COUNT; i++) {
        double plain = sqrt((double)x[chip][i]) + (double)x[1 - chip][i];
        off = fmax(off, fabs((double)y[chip][i] - plain));
    }
    printf("chip %d   %-45s   %.1e\n", chip, how, off);
    return off <= tolerance;
}

int main(void)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = CHIPS};
    struct tsm_error error;
    tsm_worker *worker;
    int right = 0;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "async_completion: %s\n", error.text);
        return 1;
    }
    fill();
    int rc = tsm_register(worker, "fetch_and_add", run_fetch_and_add, &fetch_and_add);
    rc = rc != 0 ? rc : tsm_register(worker, "fetch", run_fetch, &fetch);
    rc = rc != 0 ? rc : tsm_register(worker, "add", run_add, &add);
    rc = rc != 0 ? rc : tsm_worker_start(worker);
    rc = rc != 0 ? rc : tsm_worker_run(worker, orchestrate, NULL);
    if (rc == 0) {
        printf("y = sqrt(own) + other for %d numbers on each of %d chips.\n\n", COUNT, CHIPS);
        printf("         the transfer is complete                        y is off by at most\n");
        right = report(0, "at quiet, in the same task");
        right &= report(1, "at the end of the task; another task uses it");
    } else {
        fprintf(stderr, "async_completion: %s\n", tsm_worker_error(worker)->text);
    }
    tsm_worker_destroy(worker);
    return rc == 0 && right ? 0 : 1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Two domains that have a chip in common, both alive in one run:
 *
 *      chip 0        chip 1        chip 2
 *     └── domain "sum" ──┘
 *                   └ domain "affine" ┘
 *
 * Each vector passes through both. Chips 0 and 1 add up their parts (sum = x0 + x1), chip 1 hands the sum over to chip 2,
 * and that one computes y = a sum + b. The function submits all of it at once and touches no number: which
 * bytes a task reads and writes is what orders the three tasks of a vector, and what lets chips 0 and 1 go on with the
 * next one while chip 2 still has the last.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { CHIPS = 3, VECTORS = 8, COUNT = 1024 };
static const double tolerance = 1e-3;
static const float a = 1.5F, b = 0.25F;

static tsm_callable reduce, hand_over, affine;
static float (*x)[2][COUNT], (*sums)[COUNT], (*ys)[COUNT]; /* host buffers, VECTORS of each */

/* ---- the tasks ------------------------------------------------------------------------------------------- */

/* On chips 0 and 1, together. Domain: sum. Tensors: the own part, the sum in the own window; on chip 0 also where
 * the program looks at the sum. */
static int run_reduce(tsm_task *task)
{
    tsm_ctx *c = tsm_task_domain(task, 0);
    tsm_sym sum;
    int rc = tsm_buffer(c, "sum", &sum, NULL);
    if (rc != 0) {
        return rc;
    }
    memcpy(tsm_task_data(task, 1), tsm_task_data(task, 0), COUNT * sizeof(float));
    rc = tsm_all_reduce(c, sum, sum, COUNT, TSM_F32, TSM_SUM);
    if (rc == 0 && tsm_task_tensor_count(task) > 2) {
        memcpy(tsm_task_data(task, 2), tsm_task_data(task, 1), COUNT * sizeof(float));
    }
    return rc;
}

/* On chip 1: it is rank 1 of sum and rank 0 of affine. Domain: affine. Tensors: the sum in the own window of the first,
 * y in chip 2's window of the second. */
static int run_hand_over(tsm_task *task)
{
    tsm_ctx *c = tsm_task_domain(task, 0);
    tsm_sym y;
    int rc = tsm_buffer(c, "y", &y, NULL);
    /* The end of the task completes the put, and who reads y begins after that. */
    return rc != 0 ? rc : tsm_put(c, y, tsm_task_data(task, 0), COUNT * sizeof(float), 1);
}

/* On chip 2. Tensors: y in the own window, where the program looks at it. Scalars: a, b. */
static int run_affine(tsm_task *task)
{
    float *y = tsm_task_data(task, 0), *seen = tsm_task_data(task, 1);
    for (int i = 0; i < COUNT; i++) {
        y[i] = tsm_task_f32(task, 0) * y[i] + tsm_task_f32(task, 1);
    }
    memcpy(seen, y, COUNT * sizeof(float));
    return 0;
}

/* ---- the orchestration function ------------------------------------------------------------------------------ */

static int allocate(tsm_orch *orch, const char *name, const int *chips, const char *buffer,
                    tsm_domain **ret)
{
    const struct tsm_buffer_spec spec = {.name = buffer, .dtype = TSM_F32, .count = COUNT};
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = name,
                                   .chips = chips,
                                   .chip_count = 2,
                                   .window_bytes = COUNT * sizeof(float),
                                   .buffers = &spec,
                                   .buffer_count = 1};
    return tsm_domain_alloc(orch, &opts, ret);
}

static struct tsm_tensor host(float *data, enum tsm_tag tag)
{
    return (struct tsm_tensor){
        .data = data, .dtype = TSM_F32, .tag = (uint8_t)tag, .ndim = 1, .shape = {COUNT}};
}

/* A collective needs its ranks at the same time, so this is one group. */
static int submit_reduce(tsm_orch *orch, tsm_domain *sum, int v)
{
    struct tsm_tensor tensors[2][3] = {
        {host(x[v][0], TSM_INPUT), {0}, host(sums[v], TSM_OUTPUT_EXISTING)},
        {host(x[v][1], TSM_INPUT)}};
    struct tsm_call members[2];
    int rc = 0;
    for (int r = 0; r < 2 && rc == 0; r++) {
        rc = tsm_domain_tensor(sum, (uint32_t)r, "sum", 0, TSM_REST, TSM_OUTPUT_EXISTING,
                               &tensors[r][1]);
        members[r] = (struct tsm_call){.callable = reduce,
                                       .chip = r,
                                       .tensors = tensors[r],
                                       .tensor_count = r == 0 ? 3 : 2,
                                       .domains = &sum,
                                       .domain_count = 1};
    }
    return rc != 0 ? rc : tsm_submit_group(orch, members, 2, NULL);
}

static int submit_hand_over(tsm_orch *orch, tsm_domain *from, tsm_domain *to)
{
    struct tsm_tensor tensors[2];
    struct tsm_call call = {.callable = hand_over,
                            .chip = 1,
                            .tensors = tensors,
                            .tensor_count = 2,
                            .domains = &to,
                            .domain_count = 1};
    int rc = tsm_domain_tensor(from, 1, "sum", 0, TSM_REST, TSM_INPUT, &tensors[0]);
    rc =
        rc != 0 ? rc : tsm_domain_tensor(to, 1, "y", 0, TSM_REST, TSM_OUTPUT_EXISTING, &tensors[1]);
    return rc != 0 ? rc : tsm_submit(orch, &call, NULL);
}

static int submit_affine(tsm_orch *orch, tsm_domain *domain, int v)
{
    const uint64_t scalars[] = {tsm_scalar_f32(a), tsm_scalar_f32(b)};
    struct tsm_tensor tensors[2] = {{0}, host(ys[v], TSM_OUTPUT_EXISTING)};
    struct tsm_call call = {.callable = affine,
                            .chip = 2,
                            .tensors = tensors,
                            .tensor_count = 2,
                            .scalars = scalars,
                            .scalar_count = 2};
    int rc = tsm_domain_tensor(domain, 1, "y", 0, TSM_REST, TSM_INOUT, &tensors[0]);
    return rc != 0 ? rc : tsm_submit(orch, &call, NULL);
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    (void)arg;
    static const int first[] = {0, 1}, second[] = {1, 2};
    tsm_domain *sum_domain, *affine_domain;
    int rc = allocate(orch, "sum", first, "sum", &sum_domain);
    rc = rc != 0 ? rc : allocate(orch, "affine", second, "y", &affine_domain);
    for (int v = 0; v < VECTORS && rc == 0; v++) {
        rc = submit_reduce(orch, sum_domain, v);
        rc = rc != 0 ? rc : submit_hand_over(orch, sum_domain, affine_domain);
        rc = rc != 0 ? rc : submit_affine(orch, affine_domain, v);
    }
    return rc; /* both domains are released here, and freed when the last task is done */
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

static void fill(void)
{
    for (int v = 0; v < VECTORS; v++) {
        for (int i = 0; i < COUNT; i++) {
            x[v][0][i] = sinf((float)(i + v));
            x[v][1][i] = (float)i / 100 + (float)v;
        }
    }
}

/* Prints what became of both stages, against plain ones; returns whether all is right. */
static int report(void)
{
    double sums_off = 0, ys_off = 0;
    int finite = 1;
    for (int v = 0; v < VECTORS; v++) {
        for (int i = 0; i < COUNT; i++) {
            double sum = (double)x[v][0][i] + (double)x[v][1][i];
            double y = (double)a * sum + (double)b;
            finite &= isfinite(sums[v][i]) && isfinite(ys[v][i]);
            sums_off = fmax(sums_off, fabs((double)sums[v][i] - sum));
            ys_off = fmax(ys_off, fabs((double)ys[v][i] - y));
        }
    }
    printf("%d vectors of %d numbers passed through two domains in one run.\n\n", VECTORS, COUNT);
    printf("domain   chips   stage                 off by at most\n");
    printf("sum      0, 1    x0 + x1               %.1e\n", sums_off);
    printf("affine   1, 2    %g sum + %g        %.1e\n\n", (double)a, (double)b, ys_off);
    printf("%s.\n", finite ? "All are finite" : "SOME ARE NOT FINITE");
    return finite && sums_off <= tolerance && ys_off <= tolerance;
}

int main(void)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = CHIPS};
    struct tsm_error error;
    tsm_worker *worker;
    int right = 0;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "dual_domain_overlap: %s\n", error.text);
        return 1;
    }
    int rc = tsm_register(worker, "reduce", run_reduce, &reduce);
    rc = rc != 0 ? rc : tsm_register(worker, "hand_over", run_hand_over, &hand_over);
    rc = rc != 0 ? rc : tsm_register(worker, "affine", run_affine, &affine);
    rc = rc != 0 ? rc : tsm_worker_start(worker);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, VECTORS * sizeof(*x), (void **)&x);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, VECTORS * sizeof(*sums), (void **)&sums);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, VECTORS * sizeof(*ys), (void **)&ys);
    if (rc == 0) {
        fill();
        rc = tsm_worker_run(worker, orchestrate, NULL);
    }
    if (rc == 0) {
        right = report();
    } else {
        fprintf(stderr, "dual_domain_overlap: %s\n", tsm_worker_error(worker)->text);
    }
    tsm_worker_destroy(worker);
    return rc == 0 && right ? 0 : 1;
}

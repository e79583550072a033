/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * One all-reduce in two ways: by hand on signals, and by the library's call.
 *
 * Rank r of n has x[i] = i + 100 r, so each of the n sums has to be n i + 50 n (n - 1). The window of a rank:
 *
 *     x: 256 floats │ by hand: 256 floats │ library: 256 floats │ came: a signal from each rank
 *
 * By hand it is one phase. A rank stores its x and tells all ranks so: it sets its own signal in the tail of each
 * window. When all the signals in its own tail are set, it adds up the x of all windows where they lie. Everybody
 * reads everything, which is right for a kilobyte; ring_all_reduce.c is the way to do it with much more.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { COUNT = 256, CHIPS_MIN = 2, CHIPS_MAX = 16 };
static const double tolerance = 1e-3;

/* ---- the task: one on each chip -------------------------------------------------------------------------- */

/* sum[i] = x[i] of all ranks, in the order of ranks. */
static int add_by_hand(tsm_ctx *c, tsm_sym x, tsm_sym sum, tsm_sym came)
{
    uint32_t me = tsm_rank(c), n = tsm_size(c);
    tsm_sym from[CHIPS_MAX];
    int rc = 0;
    for (uint32_t r = 0; r < n; r++) {
        from[r] = tsm_offset(came, r * sizeof(uint64_t));
    }
    for (uint32_t r = 0; r < n && rc == 0;
         r++) { /* what was stored before is seen with the signal */
        rc = tsm_signal(c, from[me], 1, TSM_SIGNAL_SET, r);
    }
    rc = rc != 0 ? rc : tsm_signal_wait_all(c, from, n, TSM_GE, 1, -1);
    float *mine = tsm_ptr(c, sum, me); /* zero, as all of a new window */
    for (uint32_t r = 0; r < n && rc == 0; r++) {
        const float *theirs = tsm_ptr(c, x, r);
        for (int i = 0; i < COUNT; i++) {
            mine[i] += theirs[i];
        }
    }
    return rc; /* others may still read this rank's x: nothing writes it again, and it outlives the group */
}

/* Tensors: the rank's numbers, both sums. */
static int run_all_reduce(tsm_task *task)
{
    tsm_ctx *c = tsm_task_domain(task, 0);
    tsm_sym x, by_hand, library, came;
    int rc = tsm_buffer(c, "x", &x, NULL);
    rc = rc != 0 ? rc : tsm_buffer(c, "by hand", &by_hand, NULL);
    rc = rc != 0 ? rc : tsm_buffer(c, "library", &library, NULL);
    rc = rc != 0 ? rc : tsm_buffer(c, "came", &came, NULL);
    if (rc != 0) {
        return rc;
    }
    memcpy(tsm_ptr(c, x, tsm_rank(c)), tsm_task_data(task, 0), COUNT * sizeof(float));
    rc = add_by_hand(c, x, by_hand, came);
    rc = rc != 0 ? rc : tsm_all_reduce(c, library, x, COUNT, TSM_F32, TSM_SUM);
    if (rc == 0) {
        memcpy(tsm_task_data(task, 1), tsm_ptr(c, by_hand, tsm_rank(c)), COUNT * sizeof(float));
        memcpy(tsm_task_data(task, 2), tsm_ptr(c, library, tsm_rank(c)), COUNT * sizeof(float));
    }
    return rc;
}

/* ---- the orchestration function ------------------------------------------------------------------------------ */

struct job {
    tsm_callable all_reduce;
    uint32_t chips; /* of this run: 0, 1, ... */
    /* Host buffers, a row for each rank. */
    float (*x)[COUNT], (*by_hand)[COUNT], (*library)[COUNT];
};

static struct tsm_tensor row(float *data, enum tsm_tag tag)
{
    return (struct tsm_tensor){
        .data = data, .dtype = TSM_F32, .tag = (uint8_t)tag, .ndim = 1, .shape = {COUNT}};
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    const struct job *job = arg;
    const struct tsm_buffer_spec buffers[] = {
        {.name = "x", .dtype = TSM_F32, .count = COUNT},
        {.name = "by hand", .dtype = TSM_F32, .count = COUNT},
        {.name = "library", .dtype = TSM_F32, .count = COUNT},
        {.name = "came", .dtype = TSM_U64, .count = job->chips}};
    struct tsm_tensor tensors[CHIPS_MAX][3];
    struct tsm_call members[CHIPS_MAX];
    int chips[CHIPS_MAX];
    tsm_domain *domain;
    for (uint32_t r = 0; r < job->chips; r++) {
        chips[r] = (int)r;
        tensors[r][0] = row(job->x[r], TSM_INPUT);
        tensors[r][1] = row(job->by_hand[r], TSM_OUTPUT_EXISTING);
        tensors[r][2] = row(job->library[r], TSM_OUTPUT_EXISTING);
        members[r] = (struct tsm_call){.callable = job->all_reduce,
                                       .chip = chips[r],
                                       .tensors = tensors[r],
                                       .tensor_count = 3,
                                       .domains = &domain,
                                       .domain_count = 1};
    }
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "all",
                                   .chips = chips,
                                   .chip_count = job->chips,
                                   .window_bytes = 3 * COUNT * sizeof(float) + job->chips * 8,
                                   .buffers = buffers,
                                   .buffer_count = 4};
    int rc = tsm_domain_alloc(orch, &opts, &domain);
    return rc != 0 ? rc : tsm_submit_group(orch, members, job->chips, NULL);
}

/* ---- the program ----------------------------------------------------------------------------------------------- */

/* Prints a line; returns whether the sums of all ranks are right. */
static int check(const struct job *job)
{
    double hand_off = 0, library_off = 0;
    int differ = 0; /* between both ways */
    uint32_t n = job->chips;
    for (uint32_t r = 0; r < n; r++) {
        for (int i = 0; i < COUNT; i++) {
            double sum = (double)n * i + 50.0 * n * (n - 1);
            hand_off = fmax(hand_off, fabs((double)job->by_hand[r][i] - sum));
            library_off = fmax(library_off, fabs((double)job->library[r][i] - sum));
            differ += job->by_hand[r][i] != job->library[r][i];
        }
    }
    printf("%5u   %12g   %14g   %10d of %d\n", n, hand_off, library_off, differ, (int)n * COUNT);
    return hand_off <= tolerance && library_off <= tolerance && differ == 0;
}

static int run(tsm_worker *worker, struct job *job, const uint32_t *sizes, int size_count,
               int *ret_right)
{
    uint64_t bytes = CHIPS_MAX * sizeof(*job->x);
    int rc = tsm_register(worker, "all_reduce", run_all_reduce, &job->all_reduce);
    rc = rc != 0 ? rc : tsm_worker_start(worker);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, bytes, (void **)&job->x);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, bytes, (void **)&job->by_hand);
    rc = rc != 0 ? rc : tsm_buffer_create(worker, bytes, (void **)&job->library);
    for (int r = 0; r < CHIPS_MAX && rc == 0; r++) {
        for (int i = 0; i < COUNT; i++) {
            job->x[r][i] = (float)(i + 100 * r);
        }
    }
    *ret_right = 1;
    printf("All-reduce of %d numbers: the largest difference from n i + 50 n (n - 1), n chips.\n\n",
           COUNT);
    printf("chips        by hand   tsm_all_reduce   sums that differ\n");
    for (int i = 0; i < size_count && rc == 0; i++) {
        job->chips = sizes[i];
        rc = tsm_worker_run(worker, orchestrate, job);
        *ret_right &= rc == 0 && check(job);
    }
    return rc;
}

static void usage(FILE *to)
{
    fprintf(to, "usage: allreduce_distributed [CHIPS]\nCHIPS: %d to %d; without it 2, 4, 8, 16.\n",
            CHIPS_MIN, CHIPS_MAX);
}

int main(int argc, char **argv)
{
    uint32_t sizes[] = {2, 4, 8, 16};
    int size_count = 4, right = 0;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return 0;
    }
    if (argc > 1) {
        char *end;
        long chips = strtol(argv[1], &end, 10);
        if (argc > 2 || end == argv[1] || *end || chips < CHIPS_MIN || chips > CHIPS_MAX) {
            usage(stderr);
            return 2;
        }
        sizes[0] = (uint32_t)chips;
        size_count = 1;
    }
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = sizes[size_count - 1]};
    struct tsm_error error;
    struct job job = {0};
    tsm_worker *worker;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "allreduce_distributed: %s\n", error.text);
        return 1;
    }
    int rc = run(worker, &job, sizes, size_count, &right);
    if (rc != 0) {
        fprintf(stderr, "allreduce_distributed: %s\n", tsm_worker_error(worker)->text);
    }
    tsm_worker_destroy(worker);
    return rc == 0 && right ? 0 : 1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A pipeline of three chips, ordered by tags alone.
 *
 *   host buffer ──> chip 0 ──> window of chip 1 ──> chip 1 ──> window of chip 2 ──> chip 2 ──> host buffer
 *     samples        centre     slots 0 and 1        smooth     slots 0 and 1        find peak     peaks
 *
 * Each block of samples takes three tasks. A task says which bytes it reads and which it writes, and nothing
 * else: so the reader of a slot follows its writer, the next writer of the slot follows its reader, and three
 * blocks are on their way at the same time. No signal, no wait, no lock.
 */
#include <math.h>
#include <stdio.h>

#include <transom/task.h>
#include <transom/transom.h>

enum { BLOCKS = 200, SAMPLES = 20000, SLOTS = 2 };
enum { BLOCK_BYTES = SAMPLES * sizeof(float) };

static tsm_callable centre, smooth, find_peak;
static float *samples; /* [BLOCKS][SAMPLES] */
static float *peaks;   /* [BLOCKS] */

/* ---- the stages: plain C, and what makes tasks of them -------------------------------------------- */

static void compute_centre(const float *in, float *out)
{
    double sum = 0;
    for (int i = 0; i < SAMPLES; i++) {
        sum += in[i];
    }
    for (int i = 0; i < SAMPLES; i++) {
        out[i] = in[i] - (float)(sum / SAMPLES);
    }
}

static void compute_smooth(const float *in, float *out)
{
    for (int i = 0; i < SAMPLES; i++) {
        float before = in[i > 0 ? i - 1 : 0];
        float after = in[i < SAMPLES - 1 ? i + 1 : i];
        out[i] = (before + 2 * in[i] + after) / 4;
    }
}

static void compute_peak(const float *in, float *out)
{
    float peak = 0;
    for (int i = 0; i < SAMPLES; i++) {
        peak = fmaxf(peak, fabsf(in[i]));
    }
    *out = peak;
}

static int run_centre(tsm_task *t)
{
    compute_centre(tsm_task_data(t, 0), tsm_task_data(t, 1));
    return 0;
}

static int run_smooth(tsm_task *t)
{
    compute_smooth(tsm_task_data(t, 0), tsm_task_data(t, 1));
    return 0;
}

static int run_find_peak(tsm_task *t)
{
    compute_peak(tsm_task_data(t, 0), tsm_task_data(t, 1));
    return 0;
}

/* ---- the orchestration function ------------------------------------------------------------------------ */

/* A task of chip `chip` that reads `in` and writes `out`. */
static int submit_stage(tsm_orch *orch, tsm_callable callable, int chip, struct tsm_tensor in,
                        struct tsm_tensor out)
{
    in.tag = TSM_INPUT;
    out.tag = TSM_OUTPUT_EXISTING;
    struct tsm_tensor tensors[] = {in, out};
    struct tsm_call call = {
        .callable = callable, .chip = chip, .tensors = tensors, .tensor_count = 2};
    return tsm_submit(orch, &call, NULL);
}

static int orchestrate(tsm_orch *orch, void *arg)
{
    (void)arg;
    static const int receivers[] = {1, 2}; /* a subset of the chips: chip 0 needs no window */
    static const char *const names[SLOTS] = {"slot 0", "slot 1"};
    struct tsm_buffer_spec slots[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        slots[i] = (struct tsm_buffer_spec){.name = names[i], .dtype = TSM_F32, .count = SAMPLES};
    }
    struct tsm_domain_opts opts = {.size = sizeof(opts),
                                   .name = "pipeline",
                                   .chips = receivers,
                                   .chip_count = 2,
                                   .window_bytes = SLOTS * BLOCK_BYTES,
                                   .buffers = slots,
                                   .buffer_count = SLOTS};
    tsm_domain *domain;
    int rc = tsm_domain_alloc(orch, &opts, &domain);
    for (int block = 0; block < BLOCKS && rc == 0; block++) {
        struct tsm_tensor in = {
            .data = &samples[block * SAMPLES], .dtype = TSM_F32, .ndim = 1, .shape = {SAMPLES}};
        struct tsm_tensor out = {.data = &peaks[block], .dtype = TSM_F32};
        struct tsm_tensor centred, smoothed;
        if ((rc = tsm_domain_buffer(domain, 1, names[block % SLOTS], &centred)) == 0 &&
            (rc = tsm_domain_buffer(domain, 2, names[block % SLOTS], &smoothed)) == 0 &&
            (rc = submit_stage(orch, centre, 0, in, centred)) == 0 &&
            (rc = submit_stage(orch, smooth, 1, centred, smoothed)) == 0) {
            rc = submit_stage(orch, find_peak, 2, smoothed, out);
        }
    }
    return rc;
}

/* ---- the program --------------------------------------------------------------------------------------- */

static int run(tsm_worker *worker)
{
    void *in, *out;
    int rc;
    if ((rc = tsm_register(worker, "centre", run_centre, &centre)) != 0 ||
        (rc = tsm_register(worker, "smooth", run_smooth, &smooth)) != 0 ||
        (rc = tsm_register(worker, "find_peak", run_find_peak, &find_peak)) != 0 ||
        (rc = tsm_worker_start(worker)) != 0 ||
        (rc = tsm_buffer_create(worker, (uint64_t)BLOCKS * BLOCK_BYTES, &in)) != 0 ||
        (rc = tsm_buffer_create(worker, BLOCKS * sizeof(float), &out)) != 0) {
        return rc;
    }
    samples = in;
    peaks = out;
    for (int i = 0; i < BLOCKS * SAMPLES; i++) {
        samples[i] = 3 + sinf((float)i * 1e-3f) * cosf((float)i * 7e-7f);
    }
    return tsm_worker_run(worker, orchestrate, NULL);
}

/* The same without chips; returns how many peaks differ. */
static int count_differences(void)
{
    static float centred[SAMPLES], smoothed[SAMPLES];
    int differ = 0;
    for (int block = 0; block < BLOCKS; block++) {
        float peak;
        compute_centre(&samples[block * SAMPLES], centred);
        compute_smooth(centred, smoothed);
        compute_peak(smoothed, &peak);
        differ += peak != peaks[block];
    }
    return differ;
}

int main(void)
{
    struct tsm_worker_opts opts = {.size = sizeof(opts), .chips = 3};
    struct tsm_error error;
    tsm_worker *worker;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "pipeline: %s\n", error.text);
        return 1;
    }
    int differ = 0;
    int rc = run(worker);
    if (rc != 0) {
        fprintf(stderr, "pipeline: %s\n", tsm_worker_error(worker)->text);
    } else {
        struct tsm_stats stats = {.size = sizeof(stats)};
        tsm_worker_stats(worker, &stats);
        differ = count_differences();
        printf("%d blocks of %d samples through 3 chips: %d of the %d peaks differ from a plain "
               "loop.\n"
               "%llu tasks made %llu waits; %llu more were implied by earlier ones.\n",
               BLOCKS, SAMPLES, differ, BLOCKS, (unsigned long long)stats.tasks,
               (unsigned long long)stats.waits, (unsigned long long)stats.waits_elided);
    }
    tsm_worker_destroy(worker);
    return rc == 0 && differ == 0 ? 0 : 1;
}

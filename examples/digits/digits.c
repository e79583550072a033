/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * digits: trains a classifier of handwritten digits on several chips, data-parallel.
 *
 * Every chip holds a part of the images and its own copy of the weights. A step is one group, a member on each
 * chip: it computes the gradient over its images, all-reduces it in a domain that exists for this step only,
 * and updates its copy. The same training runs with 1, 2 and 4 chips and is compared.
 *
 * This file is all there is of Transom. Beside it: network.c, the classifier; images.c reads the data;
 * options.c the command line; results.c compares and prints; page.c draws.
 *
 * Data: E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository
 * (1998). https://doi.org/10.24432/C50P49. CC BY 4.0. digits.csv: 64 counts of 0..16 and the digit, in a row.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <transom/task.h>
#include <transom/transom.h>

#include "digits.h"

static const float RATE = 0.5f;
static const float MOMENTUM = 0.9f;

static float *held_out; /* the pixels of the held-out images, where every chip sees them */
static tsm_callable train_step, predict;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the tasks: they run in the chips' processes --------------------------------------------------- */

/* What a chip adds up and all chips share. */
struct sums {
    struct network gradient;
    float loss;
};

/* Tensors of train_step. */
enum { ARG_PIXELS, ARG_LABELS, ARG_WEIGHTS, ARG_VELOCITY, ARG_STATS, ARGS };

static int run_train_step(tsm_task *t)
{
    const float(*images)[PIXELS] = tsm_task_data(t, ARG_PIXELS);
    const uint8_t *image_labels = tsm_task_data(t, ARG_LABELS);
    struct network *network = tsm_task_data(t, ARG_WEIGHTS);
    float *velocity = tsm_task_data(t, ARG_VELOCITY);
    struct step_stats *stats = tsm_task_data(t, ARG_STATS);
    struct tsm_tensor shard;
    tsm_task_tensor(t, ARG_LABELS, &shard);

    tsm_ctx *domain = tsm_task_domain(t, 0);
    tsm_sym place;
    int rc = tsm_buffer(domain, "sums", &place, NULL);
    if (rc != 0) {
        return tsm_fail(t, "no buffer 'sums': %s", tsm_code_name(rc));
    }
    struct sums *sums = tsm_ptr(domain, place, tsm_rank(domain));

    stats->began = now();
    for (uint64_t i = 0; i < shard.shape[0]; i++) { /* the window came zeroed */
        sums->loss += add_gradient(network, images[i], image_labels[i], &sums->gradient);
    }
    stats->computed = now();
    rc = tsm_all_reduce(domain, place, place, sizeof(*sums) / sizeof(float), TSM_F32, TSM_SUM);
    if (rc != 0) {
        return rc;
    }
    stats->reduced = now();
    float *weights = (float *)network;
    const float *gradient = (const float *)&sums->gradient;
    for (int i = 0; i < WEIGHTS; i++) {
        velocity[i] = MOMENTUM * velocity[i] - RATE / TRAINED * gradient[i];
        weights[i] += velocity[i];
    }
    stats->loss = sums->loss / TRAINED;
    stats->updated = now();
    return 0;
}

static int run_predict(tsm_task *t)
{
    const struct network *network = tsm_task_data(t, 0);
    const float(*images)[PIXELS] = tsm_task_data(t, 1);
    uint8_t *predicted = tsm_task_data(t, 2);
    for (int i = 0; i < HELD_OUT; i++) {
        float hidden[HIDDEN], p[CLASSES];
        classify(network, images[i], hidden, p);
        predicted[i] = 0;
        for (uint8_t k = 1; k < CLASSES; k++) {
            predicted[i] = p[k] > p[predicted[i]] ? k : predicted[i];
        }
    }
    return 0;
}

/* ---- the orchestration function: it runs in this process ---------------------------------------------- */

static struct tsm_tensor tensor(void *data, enum tsm_dtype dtype, enum tsm_tag tag, uint64_t count)
{
    return (struct tsm_tensor){
        .data = data, .dtype = (uint8_t)dtype, .tag = (uint8_t)tag, .ndim = 1, .shape = {count}};
}

/* Memory of the chip, until the function ends, with a copy of `count` elements of `source`. */
static int place_on_chip(tsm_orch *orch, int chip, const void *source, enum tsm_dtype dtype,
                         enum tsm_tag tag, uint64_t count, struct tsm_tensor *ret)
{
    void *data;
    uint64_t bytes = count * tsm_dtype_bytes(dtype);
    int rc = tsm_alloc(orch, chip, bytes, &data);
    if (rc == 0) {
        rc = tsm_copy_to(orch, chip, data, source, bytes);
    }
    if (rc == 0) {
        *ret = tensor(data, dtype, tag, count);
    }
    return rc;
}

/* The chip's part of the images, and the weights that all start with. */
static int load_chip(tsm_orch *orch, const struct training *tr, int chip, struct tsm_tensor *args)
{
    static const float at_rest[WEIGHTS];
    int first = TRAINED * chip / tr->chips;
    uint64_t count = (uint64_t)(TRAINED * (chip + 1) / tr->chips - first);
    int rc = place_on_chip(orch, chip, pixels[first], TSM_F32, TSM_INPUT, count * PIXELS,
                           &args[ARG_PIXELS]);
    if (rc == 0) {
        rc = place_on_chip(orch, chip, &labels[first], TSM_U8, TSM_INPUT, count, &args[ARG_LABELS]);
    }
    if (rc == 0) {
        rc = place_on_chip(orch, chip, &tr->weights, TSM_F32, TSM_INOUT, WEIGHTS,
                           &args[ARG_WEIGHTS]);
    }
    if (rc == 0) {
        rc = place_on_chip(orch, chip, at_rest, TSM_F32, TSM_INOUT, WEIGHTS, &args[ARG_VELOCITY]);
    }
    return rc;
}

/* Allocates the domain of this step, submits the step, releases the domain: all long before it runs. */
static int submit_step(tsm_orch *orch, struct training *tr, int step,
                       struct tsm_tensor args[][ARGS], tsm_domain **ret)
{
    int chips[CHIPS_MAX];
    struct tsm_call members[CHIPS_MAX];
    struct domain_life *life = &tr->domains[step];
    struct tsm_buffer_spec sums = {
        .name = "sums", .dtype = TSM_F32, .count = sizeof(struct sums) / sizeof(float)};
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = "step";
    opts.chips = chips;
    opts.chip_count = (uint32_t)tr->chips;
    opts.window_bytes = sizeof(struct sums);
    opts.buffers = &sums;
    opts.buffer_count = 1;
    for (int chip = 0; chip < tr->chips; chip++) {
        chips[chip] = chip;
    }
    life->asked = now();
    int rc = tsm_domain_alloc(orch, &opts, ret);
    if (rc != 0) {
        return rc;
    }
    life->allocated = now();
    life->id = tsm_domain_id(*ret);
    for (int chip = 0; chip < tr->chips; chip++) {
        args[chip][ARG_STATS] = tensor(&tr->stats[step * tr->chips + chip], TSM_U8,
                                       TSM_OUTPUT_EXISTING, sizeof(struct step_stats));
        members[chip] = (struct tsm_call){.callable = train_step,
                                          .chip = chip,
                                          .tensors = args[chip],
                                          .tensor_count = ARGS,
                                          .domains = ret,
                                          .domain_count = 1};
    }
    rc = tsm_submit_group(orch, members, (uint32_t)tr->chips, NULL);
    if (rc != 0) {
        return rc; /* the domain is released when the function returns */
    }
    life->releasing = now();
    rc = tsm_domain_release(*ret);
    life->released = now();
    return rc;
}

/* Waits until the program may read what the chips measured of this step; its domain is free then. */
static int finish_step(tsm_orch *orch, struct training *tr, int step, tsm_domain *domain)
{
    const struct step_stats *stats = &tr->stats[step * tr->chips];
    int rc =
        tsm_host_wait(tsm_orch_worker(orch), stats, (uint64_t)tr->chips * sizeof(*stats), TSM_READ);
    if (rc == 0 && tsm_domain_freed(domain)) {
        tr->domains[step].freed = now();
    }
    return rc;
}

/* The weights as they are on every chip, and what chip 0 makes of the held-out images. */
static int finish_training(tsm_orch *orch, struct training *tr, struct tsm_tensor args[][ARGS])
{
    for (int chip = 0; chip < tr->chips; chip++) {
        struct network copy;
        int rc = tsm_copy_from(orch, chip, &copy, args[chip][ARG_WEIGHTS].data, sizeof(copy));
        if (rc != 0) {
            return rc;
        }
        if (chip == 0) {
            tr->weights = copy;
        } else if (memcmp(&copy, &tr->weights, sizeof(copy)) != 0) {
            tr->copies_differ++;
        }
    }
    struct tsm_tensor tensors[] = {tensor(args[0][ARG_WEIGHTS].data, TSM_F32, TSM_INPUT, WEIGHTS),
                                   tensor(held_out, TSM_F32, TSM_INPUT, HELD_OUT * PIXELS),
                                   tensor(tr->predicted, TSM_U8, TSM_OUTPUT_EXISTING, HELD_OUT)};
    struct tsm_call call = {.callable = predict, .chip = 0, .tensors = tensors, .tensor_count = 3};
    return tsm_submit(orch, &call, NULL);
}

static int train(tsm_orch *orch, void *arg)
{
    struct training *tr = arg;
    struct tsm_tensor args[CHIPS_MAX][ARGS];
    tsm_domain *domains[STEPS_AHEAD];
    for (int chip = 0; chip < tr->chips; chip++) {
        int rc = load_chip(orch, tr, chip, args[chip]);
        if (rc != 0) {
            return rc;
        }
    }
    /* Before a step is submitted, the one STEPS_AHEAD before it is finished. */
    for (int step = 0; step < tr->steps + STEPS_AHEAD; step++) {
        tsm_domain **domain = &domains[step % STEPS_AHEAD];
        int rc = step < STEPS_AHEAD ? 0 : finish_step(orch, tr, step - STEPS_AHEAD, *domain);
        if (rc == 0 && step < tr->steps) {
            rc = submit_step(orch, tr, step, args, domain);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return finish_training(orch, tr, args);
}

/* ---- the program ----------------------------------------------------------------------------------------- */

static int fail(const tsm_worker *worker, const char *what)
{
    const struct tsm_error *e = tsm_worker_error(worker);
    fprintf(stderr, "digits: %s: %s: %s\n", what, tsm_code_name(e->code), e->text);
    return -1;
}

/* A started worker that knows both tasks. */
static int start_worker(int chips, tsm_worker **ret)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    struct tsm_error error;
    tsm_worker *worker;
    opts.chips = (uint32_t)chips;
    if (tsm_worker_create(&opts, &worker, &error) != 0) {
        fprintf(stderr, "digits: %s: %s\n", tsm_code_name(error.code), error.text);
        return -1;
    }
    *ret = worker;
    if (tsm_register(worker, "train_step", run_train_step, &train_step) != 0 ||
        tsm_register(worker, "predict", run_predict, &predict) != 0 ||
        tsm_worker_start(worker) != 0) {
        return fail(worker, "start");
    }
    return 0;
}

/* Trains with the first `chips` chips of the worker. */
static int run_training(tsm_worker *worker, const struct options *o, int chips, struct training *tr)
{
    void *stats, *predicted;
    size_t stats_bytes = (size_t)o->steps * (size_t)chips * sizeof(struct step_stats);
    *tr = (struct training){.chips = chips, .steps = o->steps};
    tr->domains = calloc((size_t)o->steps, sizeof(*tr->domains));
    if (!tr->domains) {
        perror("digits");
        return -1;
    }
    if (tsm_buffer_create(worker, stats_bytes, &stats) != 0 ||
        tsm_buffer_create(worker, HELD_OUT, &predicted) != 0) {
        return fail(worker, "memory for the results");
    }
    tr->stats = stats;
    tr->predicted = predicted;
    network_init(&tr->weights, o->seed);
    return tsm_worker_run(worker, train, tr) == 0 ? 0 : fail(worker, "training");
}

static int run_trainings(tsm_worker *worker, const struct options *o, struct training *trainings)
{
    void *data;
    if (tsm_buffer_create(worker, HELD_OUT * sizeof(pixels[0]), &data) != 0) {
        return fail(worker, "memory for the held-out images");
    }
    held_out = data;
    memcpy(held_out, pixels[TRAINED], HELD_OUT * sizeof(pixels[0]));
    results_print_head(o->steps);
    for (int i = 0; i < o->count; i++) {
        if (run_training(worker, o, o->counts[i], &trainings[i]) != 0) {
            return -1;
        }
        results_compute(&trainings[i], &trainings[0]);
        results_print(&trainings[i]);
    }
    if (page_write(o->html, trainings, o->count, o->seed) != 0) {
        fprintf(stderr, "digits: cannot write %s: %s\n", o->html, strerror(errno));
        return -1;
    }
    return results_print_end(trainings, o->count, o->html);
}

int main(int argc, char **argv)
{
    static struct training trainings[TRAININGS_MAX];
    struct options options;
    tsm_worker *worker = NULL;
    int rc = options_parse(argc, argv, &options);
    if (rc != 0) {
        return rc < 0 ? 2 : 0;
    }
    rc = images_read();
    if (rc == 0) {
        rc = start_worker(options.chips_max, &worker);
    }
    if (rc == 0) {
        rc = run_trainings(worker, &options, trainings);
    }
    tsm_worker_destroy(worker);
    for (int i = 0; i < TRAININGS_MAX; i++) {
        free(trainings[i].domains);
    }
    return rc == 0 ? 0 : 1;
}

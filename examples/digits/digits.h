/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the files of this example share.
 */
#ifndef DIGITS_H
#define DIGITS_H

#include <stdint.h>

enum {
    PIXELS = 64, /* an image is 8 x 8 */
    HIDDEN = 32,
    CLASSES = 10,
    IMAGES = 1797,
    HELD_OUT = 400,
    TRAINED = IMAGES - HELD_OUT,
    CHIPS_MAX = 64,
    TRAININGS_MAX = 8,
    STEPS_AHEAD = 2 /* steps in flight: one runs, one waits in the rings */
};

/* The classifier: pixels -> tanh -> softmax. Nothing but floats, so that it can be summed as an array. */
struct network {
    float w1[PIXELS][HIDDEN], b1[HIDDEN];
    float w2[CLASSES][HIDDEN], b2[CLASSES];
};
enum { WEIGHTS = sizeof(struct network) / sizeof(float) };

/* What a chip measures of one step. Times are CLOCK_MONOTONIC in nanoseconds: one clock for all processes. */
struct step_stats {
    uint64_t began, computed, reduced, updated;
    float loss; /* mean over all training images, before the update */
};

/* What the orchestration function measures of the domain of one step. */
struct domain_life {
    uint64_t id, asked, allocated, releasing, released, freed;
};

/* One training: what it is given, then what it leaves for the table and the page. */
struct training {
    int chips, steps;
    struct network weights;      /* at first to start from, then trained */
    struct step_stats *stats;    /* [steps][chips] */
    struct domain_life *domains; /* [steps] */
    uint8_t *predicted;          /* [HELD_OUT] */
    int copies_differ;           /* chips whose weights are not those of chip 0, bit for bit */
    double accuracy;             /* of the held-out images, in percent */
    double weight_difference, loss_difference; /* largest, against the first training */
    double step_us, compute_us, waiting_us, update_us, allocation_us; /* medians over the steps */
};

/* ---- options.c ---- */

struct options {
    int counts[TRAININGS_MAX]; /* of chips */
    int count;
    int chips_max; /* of them */
    int steps;
    uint64_t seed;
    const char *html;
};

/* Returns 0, 1 when there is nothing left to do, or -1; what it has to say it has said. */
int options_parse(int argc, char **argv, struct options *ret);

/* ---- images.c ---- */

/* All images, in the order of use: TRAINED to train with, then HELD_OUT. */
extern float pixels[IMAGES][PIXELS]; /* 0..1 */
extern uint8_t labels[IMAGES];
/* Returns 0, or -1 with a line on stderr. */
int images_read(void);

/* ---- network.c ---- */

void network_init(struct network *n, uint64_t seed);
/* Probabilities of the classes in p; `hidden` is what the gradient needs of the way there. */
void classify(const struct network *n, const float *x, float *hidden, float *p);
/* Adds the gradient of one image's loss to `sum`; returns the loss. */
float add_gradient(const struct network *n, const float *x, int label, struct network *sum);

/* ---- results.c ---- */

/* Fills accuracy, differences and medians. */
void results_compute(struct training *tr, const struct training *first);
void results_print_head(int steps);
void results_print(const struct training *tr);
/* Returns 0 when the result does not depend on the number of chips, and -1. */
int results_print_end(const struct training *trainings, int count, const char *html);

/* ---- page.c ---- */

/* One HTML page with everything in it. Returns 0, or -1 with errno set. */
int page_write(const char *path, const struct training *trainings, int count, uint64_t seed);

#endif

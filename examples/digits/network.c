/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The classifier: 64 pixels, one hidden layer of tanh, a softmax over ten digits. Plain C, on the memory it is
 * given; it knows nothing of chips.
 */
#include <math.h>
#include <string.h>

#include "digits.h"

/* Uniform in +-limit; xorshift64. */
static void fill(float *w, int count, float limit, uint64_t *state)
{
    for (int i = 0; i < count; i++) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        w[i] = limit * ((float)(*state >> 40) / (1 << 23) - 1);
    }
}

void network_init(struct network *n, uint64_t seed)
{
    uint64_t state = (seed + 1) * 0x9e3779b97f4a7c15u;
    memset(n, 0, sizeof(*n));
    fill(n->w1[0], PIXELS * HIDDEN, sqrtf(6.0f / (PIXELS + HIDDEN)), &state);
    fill(n->w2[0], HIDDEN * CLASSES, sqrtf(6.0f / (HIDDEN + CLASSES)), &state);
}

void classify(const struct network *n, const float *x, float *hidden, float *p)
{
    memcpy(hidden, n->b1, sizeof(n->b1));
    for (int i = 0; i < PIXELS; i++) {
        for (int j = 0; j < HIDDEN; j++) {
            hidden[j] += x[i] * n->w1[i][j];
        }
    }
    float top = -INFINITY;
    float sum = 0;
    for (int j = 0; j < HIDDEN; j++) {
        hidden[j] = tanhf(hidden[j]);
    }
    for (int k = 0; k < CLASSES; k++) {
        p[k] = n->b2[k];
        for (int j = 0; j < HIDDEN; j++) {
            p[k] += hidden[j] * n->w2[k][j];
        }
        top = fmaxf(top, p[k]);
    }
    for (int k = 0; k < CLASSES; k++) {
        p[k] = expf(p[k] - top);
        sum += p[k];
    }
    for (int k = 0; k < CLASSES; k++) {
        p[k] /= sum;
    }
}

float add_gradient(const struct network *n, const float *x, int label, struct network *sum)
{
    float hidden[HIDDEN], back[HIDDEN] = {0}, p[CLASSES];
    classify(n, x, hidden, p);
    for (int k = 0; k < CLASSES; k++) {
        float error = p[k] - (k == label ? 1 : 0);
        sum->b2[k] += error;
        for (int j = 0; j < HIDDEN; j++) {
            sum->w2[k][j] += error * hidden[j];
            back[j] += error * n->w2[k][j];
        }
    }
    for (int j = 0; j < HIDDEN; j++) {
        back[j] *= 1 - hidden[j] * hidden[j];
        sum->b1[j] += back[j];
    }
    for (int i = 0; i < PIXELS; i++) {
        for (int j = 0; j < HIDDEN; j++) {
            sum->w1[i][j] += x[i] * back[j];
        }
    }
    return -logf(fmaxf(p[label], 1e-30f));
}

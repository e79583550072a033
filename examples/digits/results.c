/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What came out: accuracy, the differences to the first training, and where the time of a step went.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

/* Allowed between two numbers of chips. They compute the same sums over the same images, but in another order:
 * one chip adds 1,397 gradients in a row, four chips add four sums of about 349. Each addition of floats rounds
 * its result (by up to 6e-8 of it), and every step starts from the rounding of the one before. The differences
 * stay at a few 1e-6, also over 3,000 steps. */
static const double DIFFERENCE_MAX = 1e-4;

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof(*values), compare_doubles);
    return count == 0 ? 0 : (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static double microseconds(uint64_t from, uint64_t to)
{
    return (double)(to - from) / 1e3;
}

static uint64_t step_end(const struct training *tr, int step)
{
    uint64_t end = 0;
    for (int chip = 0; chip < tr->chips; chip++) {
        uint64_t t = tr->stats[step * tr->chips + chip].updated;
        end = t > end ? t : end;
    }
    return end;
}

/* Of a step: the mean over the chips. Of the training: the median over the steps. */
static void compute_times(struct training *tr)
{
    enum { STEP, COMPUTE, WAITING, UPDATE, ALLOCATION, KINDS };
    double *values = calloc((size_t)tr->steps * KINDS, sizeof(*values));
    double *of[KINDS];
    if (!values) {
        return; /* zeros in the table */
    }
    for (int kind = 0; kind < KINDS; kind++) {
        of[kind] = values + kind * tr->steps;
    }
    for (int step = 0; step < tr->steps; step++) {
        const struct domain_life *life = &tr->domains[step];
        of[ALLOCATION][step] = microseconds(life->asked, life->allocated) +
                               microseconds(life->releasing, life->released);
        uint64_t before = step ? step_end(tr, step - 1) : tr->stats[0].began;
        of[STEP][step] = microseconds(before, step_end(tr, step));
        for (int chip = 0; chip < tr->chips; chip++) {
            const struct step_stats *s = &tr->stats[step * tr->chips + chip];
            of[COMPUTE][step] += microseconds(s->began, s->computed) / tr->chips;
            of[WAITING][step] += microseconds(s->computed, s->reduced) / tr->chips;
            of[UPDATE][step] += microseconds(s->reduced, s->updated) / tr->chips;
        }
    }
    tr->step_us = median(of[STEP], tr->steps);
    tr->compute_us = median(of[COMPUTE], tr->steps);
    tr->waiting_us = median(of[WAITING], tr->steps);
    tr->update_us = median(of[UPDATE], tr->steps);
    tr->allocation_us = median(of[ALLOCATION], tr->steps);
    free(values);
}

void results_compute(struct training *tr, const struct training *first)
{
    int right = 0;
    for (int i = 0; i < HELD_OUT; i++) {
        right += tr->predicted[i] == labels[TRAINED + i];
    }
    tr->accuracy = 100.0 * right / HELD_OUT;
    const float *weights = (const float *)&tr->weights;
    const float *first_weights = (const float *)&first->weights;
    for (int i = 0; i < WEIGHTS; i++) {
        tr->weight_difference =
            fmax(tr->weight_difference, fabs((double)weights[i] - (double)first_weights[i]));
    }
    for (int step = 0; step < tr->steps; step++) {
        double loss = (double)tr->stats[step * tr->chips].loss;
        double first_loss = (double)first->stats[step * first->chips].loss;
        tr->loss_difference = fmax(tr->loss_difference, fabs(loss - first_loss));
    }
    compute_times(tr);
}

void results_print_head(int steps)
{
    printf("%d handwritten digits to train with, %d held out; %d hidden units, %d weights\n"
           "steps: %d, each over all images and in a domain of its own\n\n",
           TRAINED, HELD_OUT, HIDDEN, WEIGHTS, steps);
    printf("        median of a step, microseconds                      largest difference\n"
           "chips     step  in tasks  waiting  allocation  accuracy     weight       loss\n");
    fflush(stdout);
}

void results_print(const struct training *tr)
{
    printf("%5d %8.0f  %8.0f %8.1f %11.2f  %7.2f %%", tr->chips, tr->step_us,
           tr->compute_us + tr->update_us, tr->waiting_us, tr->allocation_us, tr->accuracy);
    printf("  %9.1e  %9.1e\n", tr->weight_difference, tr->loss_difference);
    fflush(stdout);
}

int results_print_end(const struct training *trainings, int count, const char *html)
{
    int differ = 0;
    double largest = 0;
    for (int i = 0; i < count; i++) {
        differ += trainings[i].copies_differ;
        largest = fmax(largest, fmax(trainings[i].weight_difference, trainings[i].loss_difference));
    }
    printf("\n"
           "in tasks    gradient and update, mean over the chips\n"
           "waiting     in the all-reduce, for the other chips and the sum\n"
           "allocation  of the domain, with its release\n"
           "difference  to the first line: %s %g. The chips add the same gradients in\n"
           "            another order, so the sums round differently\n"
           "copies      of the weights on the chips of a training: %s\n"
           "data        Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak,\n"
           "            UCI Machine Learning Repository, doi.org/10.24432/C50P49, CC BY 4.0\n"
           "page        %s\n",
           largest <= DIFFERENCE_MAX ? "within" : "NOT WITHIN", DIFFERENCE_MAX,
           differ ? "NOT THE SAME" : "the same, bit for bit", html);
    return differ == 0 && largest <= DIFFERENCE_MAX ? 0 : -1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Reads digits.csv and shuffles it, always in the same way: the file is in the order in which people wrote, and
 * the held-out images are to come from all of them.
 */
#include <stdio.h>

#include "digits.h"

#ifndef EXAMPLE_DIR /* where digits.csv is; the build says so */
#define EXAMPLE_DIR "."
#endif

float pixels[IMAGES][PIXELS];
uint8_t labels[IMAGES];

/* place[i] is where row i of the file goes. Fisher and Yates, with a linear congruential generator. */
static void shuffle(int place[IMAGES])
{
    uint64_t state = 1797;
    for (int i = 0; i < IMAGES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int other = (int)((state >> 33) % (uint64_t)(i + 1));
        place[i] = place[other];
        place[other] = i;
    }
}

int images_read(void)
{
    static int place[IMAGES];
    const char *path = EXAMPLE_DIR "/digits.csv";
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return -1;
    }
    int good = 1;
    shuffle(place);
    for (int i = 0; i < IMAGES && good; i++) {
        int value;
        for (int j = 0; j < PIXELS && good; j++) {
            good = fscanf(file, "%d,", &value) == 1 && value >= 0 && value <= 16;
            pixels[place[i]][j] = (float)value / 16;
        }
        good = good && fscanf(file, "%d", &value) == 1 && value >= 0 && value < CLASSES;
        labels[place[i]] = (uint8_t)value;
        if (!good) {
            fprintf(stderr, "%s:%d: not 64 counts of 0..16 and a digit\n", path, i + 1);
        }
    }
    fclose(file);
    return good ? 0 : -1;
}

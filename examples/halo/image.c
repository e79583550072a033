/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Grey images in binary PGM files.
 */
#include <stdio.h>
#include <stdlib.h>

#include "halo.h"

int image_read(const char *path, struct image *ret)
{
    struct image image = {0};
    int max = 0;
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    if (fscanf(f, "P5 %d %d %d", &image.width, &image.height, &max) != 3 || fgetc(f) == EOF ||
        max != 255 || image.width < 1 || image.width > 16384 || image.height < 1 ||
        image.height > 16384) {
        fprintf(stderr, "%s: not a PGM file of 8 bits a pixel\n", path);
        fclose(f);
        return -1;
    }
    size_t count = (size_t)image.width * (size_t)image.height;
    image.pixels = malloc(count);
    size_t got = image.pixels ? fread(image.pixels, 1, count, f) : 0;
    fclose(f);
    if (got != count) {
        fprintf(stderr, "%s: %s\n", path, image.pixels ? "ends too early" : "too large");
        free(image.pixels);
        return -1;
    }
    *ret = image;
    return 0;
}

int image_write(const char *path, const struct image *image)
{
    size_t count = (size_t)image->width * (size_t)image->height;
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        return -1;
    }
    fprintf(f, "P5\n%d %d\n255\n", image->width, image->height);
    size_t put = fwrite(image->pixels, 1, count, f);
    if (fclose(f) != 0 || put != count) {
        perror(path);
        return -1;
    }
    return 0;
}

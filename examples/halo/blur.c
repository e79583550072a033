/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The blur of one tile, and of a whole image as a plain loop. Integers only, so that every way to cut the image
 * gives the same bits.
 */
#include <stdlib.h>

#include "halo.h"

enum { FRACTION = 7 };

static sample weigh(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e)
{
    return (sample)((a + 4 * b + 6 * c + 4 * d + e + 8) / 16);
}

static uint8_t pixel_of(sample s)
{
    return (uint8_t)((s + (1 << (FRACTION - 1))) >> FRACTION);
}

int tile_pitch(int width)
{
    return (width + 2 * RADIUS + RADIUS - 1) / RADIUS * RADIUS;
}

uint64_t tile_samples(int width, int height)
{
    return (uint64_t)tile_pitch(width) * (uint64_t)(height + 2 * RADIUS);
}

sample *tile_row(const struct tile *t, int y)
{
    return &t->corner[(y + RADIUS) * t->pitch + RADIUS];
}

void tile_load(const struct tile *t, const uint8_t *pixels, int64_t stride)
{
    for (int y = 0; y < t->height; y++) {
        for (int x = 0; x < t->width; x++) {
            tile_row(t, y)[x] = (sample)(pixels[y * stride + x] << FRACTION);
        }
    }
}

void tile_store(const struct tile *t, uint8_t *pixels, int64_t stride)
{
    for (int y = 0; y < t->height; y++) {
        for (int x = 0; x < t->width; x++) {
            pixels[y * stride + x] = pixel_of(tile_row(t, y)[x]);
        }
    }
}

void blur_across(const struct tile *out, const struct tile *in)
{
    for (int y = 0; y < in->height; y++) {
        const sample *s = tile_row(in, y);
        sample *o = tile_row(out, y);
        for (int x = 0; x < in->width; x++) {
            o[x] = weigh(s[x - 2], s[x - 1], s[x], s[x + 1], s[x + 2]);
        }
    }
}

void blur_down(const struct tile *out, const struct tile *in)
{
    for (int y = 0; y < in->height; y++) {
        const sample *s = tile_row(in, y);
        sample *o = tile_row(out, y);
        int p = in->pitch;
        for (int x = 0; x < in->width; x++) {
            o[x] = weigh(s[x - 2 * p], s[x - p], s[x], s[x + p], s[x + 2 * p]);
        }
    }
}

/* Sample n steps from (x, y) in one direction; beyond the edge it is that of the edge. */
static sample at(const struct image *image, const sample *samples, int x, int y)
{
    x = x < 0 ? 0 : x >= image->width ? image->width - 1 : x;
    y = y < 0 ? 0 : y >= image->height ? image->height - 1 : y;
    return samples[y * image->width + x];
}

static void half_pass(const struct image *image, const sample *in, sample *out, int dx, int dy)
{
    for (int y = 0; y < image->height; y++) {
        for (int x = 0; x < image->width; x++) {
            out[y * image->width + x] =
                weigh(at(image, in, x - 2 * dx, y - 2 * dy), at(image, in, x - dx, y - dy),
                      at(image, in, x, y), at(image, in, x + dx, y + dy),
                      at(image, in, x + 2 * dx, y + 2 * dy));
        }
    }
}

int blur_plain(const struct image *in, int passes, uint8_t *out)
{
    int count = in->width * in->height;
    sample *a = malloc((size_t)count * sizeof(*a));
    sample *b = malloc((size_t)count * sizeof(*b));
    int rc = a && b ? 0 : -1;
    for (int i = 0; i < count && rc == 0; i++) {
        a[i] = (sample)(in->pixels[i] << FRACTION);
    }
    for (int pass = 0; pass < passes && rc == 0; pass++) {
        half_pass(in, a, b, 1, 0);
        half_pass(in, b, a, 0, 1);
    }
    for (int i = 0; i < count && rc == 0; i++) {
        out[i] = pixel_of(a[i]);
    }
    free(a);
    free(b);
    return rc;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the files of this example share: images, and the blur of one tile.
 */
#ifndef HALO_H
#define HALO_H

#include <stdint.h>

/* ---- image.c ---- */

struct image {
    int width, height;
    uint8_t *pixels; /* grey, row by row */
};
/* A binary PGM file with 8 bits a pixel. 0, or -1 with a message on stderr. The caller frees pixels. */
int image_read(const char *path, struct image *ret);
int image_write(const char *path, const struct image *image);

/* ---- blur.c ---- */

/* The weights 1 4 6 4 1, across and then down, for every pass: each pixel needs RADIUS neighbours on each side. */
enum { RADIUS = 2 };

/* A pixel with 7 bits behind the point, so that what a pass rounds off is not seen. */
typedef uint16_t sample;

/* A tile of samples with a border of RADIUS for the neighbours' samples. */
struct tile {
    int width, height; /* without the border */
    int pitch;         /* samples from one row to the next */
    sample *corner;    /* of the border */
};
/* Samples that a tile takes; its pitch is a multiple of RADIUS. */
int tile_pitch(int width);
uint64_t tile_samples(int width, int height);
/* Row y, 0 is the first inside the border, from its first sample inside. */
sample *tile_row(const struct tile *t, int y);

void tile_load(const struct tile *t, const uint8_t *pixels, int64_t stride);
void tile_store(const struct tile *t, uint8_t *pixels, int64_t stride);
/* Half a pass each. They read the border of `in` on two sides and write out without its border. */
void blur_across(const struct tile *out, const struct tile *in);
void blur_down(const struct tile *out, const struct tile *in);

/* The same blur of a whole image, written as one plain loop: what the tiles must give. 0, or -1 without memory. */
int blur_plain(const struct image *in, int passes, uint8_t *out);

#endif

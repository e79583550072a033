/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Copying between windows: at the speed of the better of memcpy and stores that bypass the caches.
 */
#ifndef CHIP_COPY_H
#define CHIP_COPY_H

#include <stdint.h>

/* Like memcpy; the areas do not overlap. Stores of it are ordered before a later release store. */
void copy_bytes(void *to, const void *from, uint64_t bytes);

/* The same into another chip's window, which that chip will read. */
void copy_out(void *to, const void *from, uint64_t bytes);

/* From how many bytes on each bypasses the caches; once per process, before the first copy. */
void copy_set_stream_bytes(uint64_t bytes, uint64_t out_bytes);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* A small arena for the tests of src/shm, without any process of a worker. */
#ifndef TESTS_UNIT_ARENA_HELP_H
#define TESTS_UNIT_ARENA_HELP_H

#include "harness.h"
#include "shm/arena.h"

enum { HELP_RING_BYTES = 262144 };

static inline void help_arena(struct arena *a, uint32_t chips, uint32_t subs)
{
    struct tsm_error err = {0};
    struct arena_sizes sizes = {.chips = chips,
                                .subs = subs,
                                .heap_bytes = 65536,
                                .host_bytes = 65536,
                                .ring_bytes = HELP_RING_BYTES,
                                .windows_bytes = 1 << 20};
    if (arena_create(a, &sizes, &err) != 0) {
        fail_msg("arena_create: %s", err.text);
    }
    a->spin = 1000;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A world of tasks around a range map, for its unit tests and its property test: what the engine would answer about
 * refs, what edges came out, and memory that can be made to run out. Test process, one thread.
 */
#ifndef TESTS_RANGEMAP_WORLD_H
#define TESTS_RANGEMAP_WORLD_H

#include "engine/rangemap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PLACES 6 /* of the tests' refs; the first TIMELINES are chips */
#define TIMELINES 4
#define TASKS_MAX 4096
#define KINDS (EDGE_POISON + 1)

/*
 * Memory that runs out. The map's cells come from aligned_alloc, and this one comes before libc's.
 */
static bool starved;
static uint32_t refusals;

void *aligned_alloc(size_t alignment, size_t size)
{
    void *p;

    if (starved) {
        refusals++;
        return NULL;
    }
    return posix_memalign(&p, alignment, size) ? NULL : p;
}

/*
 * A world of tasks. Tasks of one place have values 1, 2, ...; those of a chip end in order.
 */
struct world {
    struct rangemap map;
    uint64_t next[PLACES];
    uint64_t ended[TIMELINES]; /* all values up to here */
    uint8_t state[PLACES][TASKS_MAX];
    bool forgotten[PLACES][TASKS_MAX];
    bool edge[KINDS][PLACES][TASKS_MAX];
    bool taken[PLACES][TASKS_MAX];
    uint32_t edges; /* since clear_edges */
};

static struct world *world;

static inline enum ref_state get_state(void *ctx, struct taskref ref)
{
    struct world *w = ctx;

    assert_true(ref.place < PLACES && ref.value < w->next[ref.place]);
    assert_false(w->forgotten[ref.place][ref.value]);
    return (enum ref_state)w->state[ref.place][ref.value];
}

static inline void add_edge(void *ctx, struct taskref ref, enum edge_kind kind)
{
    struct world *w = ctx;

    assert_true(ref.place < PLACES && ref.value < w->next[ref.place]);
    w->edge[kind][ref.place][ref.value] = true;
    w->edges++;
}

static inline void add_taken(void *ctx, struct taskref ref)
{
    struct world *w = ctx;

    w->taken[ref.place][ref.value] = true;
}

static inline void clear_edges(struct world *w)
{
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint32_t k = 0; k < KINDS; k++)
            memset(w->edge[k][p], 0, w->next[p]);
        memset(w->taken[p], 0, w->next[p]);
    }
    w->edges = 0;
}

static inline void start_world(struct world *w)
{
    struct rangemap_ops ops = {w, get_state, add_edge, TIMELINES};

    memset(w, 0, sizeof(*w));
    for (uint32_t p = 0; p < PLACES; p++)
        w->next[p] = 1;
    assert_int_equal(rangemap_init(&w->map, &ops), 0);
}

static inline int set_up(void **state)
{
    world = malloc(sizeof(*world));
    start_world(world);
    *state = world;
    return 0;
}

static inline int tear_down(void **state)
{
    starved = false;
    rangemap_fini(&world->map);
    free(*state);
    return 0;
}

static inline struct taskref new_task(struct world *w, uint32_t place)
{
    assert_true(w->next[place] < TASKS_MAX);
    return (struct taskref){place, 7, w->next[place]++};
}

static inline void end_task(struct world *w, struct taskref ref, enum ref_state state)
{
    w->state[ref.place][ref.value] = (uint8_t)state;
}

static inline struct span plain(uint64_t base, uint64_t bytes)
{
    return (struct span){base, bytes, 0, 1};
}

/* Rows and columns of a matrix of 100 rows of 256 bytes. */
static inline struct span tile(uint64_t row, uint64_t rows, uint64_t col, uint64_t cols)
{
    return (struct span){0x10000 + row * 256 + col, cols, 256, rows};
}

/* A task with one argument. The edges it got are the world's afterwards. */
static inline struct taskref submit(uint32_t place, struct span span, enum access access)
{
    struct taskref ref = new_task(world, place);

    clear_edges(world);
    assert_int_equal(rangemap_reserve(&world->map, 1), 0);
    rangemap_access(&world->map, &span, access, ref);
    assert_int_equal(rangemap_check(&world->map), 0);
    return ref;
}

static inline bool has_edge(enum edge_kind kind, struct taskref ref)
{
    return world->edge[kind][ref.place][ref.value];
}

static inline void poison(struct world *w)
{
    rangemap_poison(&w->map);
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint64_t v = 1; v < w->next[p]; v++)
            w->forgotten[p][v] |= w->state[p][v] != REF_PENDING;
    }
}

#define assert_only_edge(kind, ref)                                                                \
    do {                                                                                           \
        assert_true(has_edge(kind, ref));                                                          \
        assert_int_equal(world->edges, 1);                                                         \
    } while (0)
#define assert_no_edge() assert_int_equal(world->edges, 0)

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The arena: reserving it, its memfds, and finding things in it. The orchestrator makes it (arena_create); the
 * keeper inherits it (fork) or maps it at the same address (arena_attach); each chip and sub narrows what
 * it may write (arena_confine).
 */
#ifndef SHM_ARENA_H
#define SHM_ARENA_H

#include <stdbool.h>

#include "shm/layout.h"
#include "transom/transom.h"

enum arena_fd { ARENA_CTL, ARENA_PAGES, ARENA_HINTS, ARENA_DATA, ARENA_FDS };

struct arena_sizes {
    uint32_t chips, subs;
    uint64_t arena_bytes; /* 0: what the others need */
    uint64_t heap_bytes, host_bytes, ring_bytes, windows_bytes;
};

/* One process's view. Pointers are the same in every process of the worker. */
struct arena {
    uint8_t *base;
    uint64_t bytes;
    int fd[ARENA_FDS];    /* may write */
    int ro_fd[ARENA_FDS]; /* read-only descriptors of ctl and pages, else -1 */
    struct ctl_head *ctl;
    struct keeper_page *keeper;
    uint8_t *pages; /* page of place 0 */
    struct pool_slot *pool;
    struct hints_head *hints_head;
    struct hint *hints;
    a64 *masks;
    struct ring_head *rings; /* [places] are the places', [places] the pool's */
    struct callable *callables;
    uint32_t chips, subs, places, mask_words;
    uint64_t page_bytes, pool_mask;
    uint32_t spin;
};

int arena_create(struct arena *a, const struct arena_sizes *sizes, struct tsm_error *err);
/* Maps an arena that another program made, at `base`; fds as in fd[] and ro_fd[]. EADDRINUSE: taken. */
int arena_attach(struct arena *a, uint64_t base, uint64_t bytes, const int fd[ARENA_FDS],
                 const int ro_fd[ARENA_FDS]);
/* Takes the place of an arena at another address: only before anything in it has been handed out. */
int arena_move(struct arena *a, struct tsm_error *err);
/* In a chip or sub: unmaps what it inherited and maps it so that it can write its own page, hints and data (a sub
 * also the claim words). Closes the descriptors. */
int arena_confine(struct arena *a, uint32_t place);
/* Unmaps and closes. Accepts a zeroed or half-built one. */
void arena_destroy(struct arena *a);
/* The same, but host memory stays mapped, and the memory around it goes back to the system: for the end of the worker, not for
 * one of several processes. */
void arena_destroy_but_host(struct arena *a);

static inline struct proc_page *arena_page(const struct arena *a, uint32_t place)
{
    return (struct proc_page *)(a->pages + place * a->page_bytes);
}

static inline void *arena_at(const struct arena *a, uint64_t offset)
{
    return a->base + offset;
}

/* Mask of the sleepers on the timeline of `place`; at index places: on the pool. */
static inline a64 *arena_mask(const struct arena *a, uint32_t place)
{
    return a->masks + (uint64_t)place * ((a->mask_words + 7) & ~7u);
}

static inline uint32_t arena_pool_place(const struct arena *a)
{
    return a->places;
}

/* The orchestrator's number among the sleepers. */
static inline uint32_t arena_orchestrator(const struct arena *a)
{
    return a->places;
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * OpenSHMEM's symmetric memory: a crew (bench/crew.h) whose ranks are the PEs, with the orders of bench/windows.h. In
 * version 1.4 an allocation is always over all PEs; there are no others to give it to. What it hands out is neither
 * fresh nor zero, unless it comes from shmem_calloc.
 * Arguments: the paths of the crew's page and of the windows'. Built by oshcc.
 */
#include <shmem.h>
#include <stdio.h>

#include "windows.h"

static void prepare(struct crew_side *s, const struct crew_order *o)
{
    (void)s;
    (void)o;
}

static void sync_all(struct crew_side *s)
{
    (void)s;
    shmem_barrier_all();
}

static uint32_t count_wrong(const struct crew_side *s, const struct crew_order *o,
                            const uint8_t *base)
{
    const struct window_page *page = s->ctx;
    int next = (int)((s->rank + 1) % s->size);
    uint8_t first;
    uint8_t last;
    shmem_barrier_all();
    shmem_getmem(&first, base, 1, next);
    shmem_getmem(&last, base + o->bytes - 1, 1, next);
    shmem_barrier_all();
    return window_wrong(&page->order, s->rank, first, last);
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    struct window_page *page = s->ctx;
    const struct window_order *order = &page->order;
    struct window_rank *own = &page->rank[s->rank];
    shmem_barrier_all();
    own->span[number].begin = clock_ns();
    uint8_t *base =
        order->kind == WINDOW_CALLOC ? shmem_calloc(o->bytes, 1) : shmem_malloc(o->bytes);
    if (!base) {
        fprintf(stderr, "no memory in the symmetric heap\n");
        shmem_global_exit(2);
    }
    if (order->touch) {
        memset(base, window_value(s->rank), o->bytes);
    }
    if (order->check) {
        own->wrong += count_wrong(s, o, base);
    }
    shmem_free(base);
    own->span[number].end = clock_ns();
}

int main(int argc, char **argv)
{
    shmem_init();
    uint32_t rank = (uint32_t)shmem_my_pe();
    struct crew_page *page = argc == 3 ? crew_attach(argv[1], rank) : NULL;
    struct window_page *windows = argc == 3 ? windows_attach(argv[2]) : NULL;
    if (!page || !windows || shmem_n_pes() < 2 || shmem_n_pes() > WINDOW_RANKS) {
        fprintf(stderr, "usage: oshrun -n PES %s PAGE WINDOWS\n", argv[0]);
        shmem_global_exit(2);
        return 2;
    }
    struct crew_side side = {.rank = rank,
                             .size = (uint32_t)shmem_n_pes(),
                             .ops = 1u << CREW_BARRIER,
                             .ctx = windows,
                             .prepare = prepare,
                             .sync = sync_all,
                             .run = run};
    shmem_barrier_all();
    crew_serve(&side, page);
    shmem_barrier_all();
    /* Its finalize has been seen to crash. */
    if (rank == 0) {
        shmem_global_exit(0);
    }
    return 0;
}

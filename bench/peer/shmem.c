/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What OpenSHMEM 1.4 needs for the same operations: a crew (bench/crew.h) whose ranks are the PEs. Of the collectives it
 * has barrier, broadcast, all-reduce, all-gather (also with counts) and all-to-all. It has no put with signal: that is a
 * put, a fence and a put of the flag. A broadcast is in place, as it always is in MPI.
 * Argument: the path of the crew's page. Built by oshcc.
 */
#include <sched.h>
#include <shmem.h>
#include <stdio.h>
#include <string.h>

#include "crew.h"

#define HAS                                                                                        \
    (1u << CREW_BARRIER | 1u << CREW_BROADCAST | 1u << CREW_ALL_REDUCE | 1u << CREW_ALL_GATHER |   \
     1u << CREW_ALL_TO_ALL | 1u << CREW_ALL_GATHER_V | (CREW_ALL & ~CREW_COLLECTIVE))
enum { LINE = 64, SYNCS = 16, SYNC_LONGS = 512, WORK_MIN = 4096 };

/* Sync arrays must be at rest before they are used again: with more of them than a broadcast whose root
 * goes round needs, that is always so. */
static long syncs[SYNCS][SYNC_LONGS];
static float *work;
static uint64_t *signals; /* flag, then payload */
static uint64_t number_of_signal;

static uint8_t *vectors[2];

static void prepare(struct crew_side *s, const struct crew_order *o)
{
    s->src = vectors[0];
    s->dst = vectors[o->op != CREW_BROADCAST];
}

static void sync_all(struct crew_side *s)
{
    (void)s;
    shmem_barrier_all();
}

static uint64_t *payload_of(const struct crew_order *o)
{
    return o->bytes <= LINE - sizeof(uint64_t) ? signals + 1 : signals + LINE / 8;
}

static void signal_other(struct crew_side *s, const struct crew_order *o)
{
    int other = 1 - (int)s->rank;
    if (o->op == CREW_PUT_SIGNAL) {
        shmem_putmem(payload_of(o), s->src, o->bytes, other);
        shmem_fence();
    }
    shmem_uint64_p(signals, number_of_signal, other);
}

static void run_signal(struct crew_side *s, const struct crew_order *o)
{
    number_of_signal++;
    if (s->rank == 0) {
        signal_other(s, o);
    }
    if (s->rank < 2) {
        shmem_uint64_wait_until(signals, SHMEM_CMP_GE, number_of_signal);
        crew_read(payload_of(o), o->bytes);
    }
    if (s->rank == 1) {
        signal_other(s, o);
    }
}

static void run_one_sided(struct crew_side *s, const struct crew_order *o)
{
    if (o->op == CREW_SIGNAL || o->op == CREW_PUT_SIGNAL) {
        run_signal(s, o);
    } else if (s->rank == 0 && o->op == CREW_PUT) {
        shmem_putmem(payload_of(o), s->src, o->bytes, 1);
        shmem_quiet();
    } else if (s->rank == 0) {
        shmem_getmem(s->dst, payload_of(o), o->bytes, 1);
    }
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    static uint32_t turn;
    size_t count = o->bytes / sizeof(float);
    long *sync = syncs[turn++ % SYNCS];
    int size = (int)s->size;
    switch (o->op) {
    case CREW_BARRIER:
        shmem_barrier_all();
        break;
    case CREW_BROADCAST:
        shmem_broadcast32(s->dst, s->src, count, (int)crew_root(s, number), 0, 0, size, sync);
        break;
    case CREW_ALL_REDUCE:
        shmem_float_sum_to_all((float *)(void *)s->dst, (float *)(void *)s->src, (int)count, 0, 0,
                               size, work, sync);
        break;
    case CREW_ALL_GATHER:
        shmem_fcollect32(s->dst, s->src, count, 0, 0, size, sync);
        break;
    case CREW_ALL_GATHER_V:
        shmem_collect32(s->dst, s->src, crew_count(o, s->rank, s->rank), 0, 0, size, sync);
        break;
    case CREW_ALL_TO_ALL:
        shmem_alltoall32(s->dst, s->src, count, 0, 0, size, sync);
        break;
    default:
        run_one_sided(s, o);
    }
}

int main(int argc, char **argv)
{
    shmem_init();
    uint32_t rank = (uint32_t)shmem_my_pe();
    struct crew_page *page = argc == 2 ? crew_attach(argv[1], rank) : NULL;
    if (!page || shmem_n_pes() < 2 || shmem_n_pes() > CREW_RANKS_MAX) {
        fprintf(stderr, "usage: oshrun -n PES %s PAGE\n", argv[0]);
        shmem_global_exit(2);
        return 2;
    }
    uint64_t bytes = page->bytes_max;
    struct crew_side side = {.rank = rank,
                             .size = (uint32_t)shmem_n_pes(),
                             .ops = HAS,
                             .prepare = prepare,
                             .sync = sync_all,
                             .run = run};
    if (side.size > 2) {
        side.ops &= CREW_COLLECTIVE;
    }
    vectors[0] = shmem_align(LINE, bytes);
    vectors[1] = shmem_align(LINE, bytes);
    signals = shmem_align(LINE, bytes + LINE);
    work =
        shmem_align(LINE, bytes / 2 + (WORK_MIN + SHMEM_REDUCE_MIN_WRKDATA_SIZE) * sizeof(float));
    if (!vectors[0] || !vectors[1] || !signals || !work || SHMEM_REDUCE_SYNC_SIZE > SYNC_LONGS ||
        SHMEM_COLLECT_SYNC_SIZE > SYNC_LONGS || SHMEM_ALLTOALL_SYNC_SIZE > SYNC_LONGS) {
        fprintf(stderr, "no memory in the symmetric heap\n");
        shmem_global_exit(2);
        return 2;
    }
    memset(signals, 0, LINE);
    for (int i = 0; i < SYNCS * SYNC_LONGS; i++) {
        syncs[i / SYNC_LONGS][i % SYNC_LONGS] = SHMEM_SYNC_VALUE;
    }
    shmem_barrier_all();
    crew_serve(&side, page);
    shmem_barrier_all();
    /* Its finalize has been seen to crash. */
    if (rank == 0) {
        shmem_global_exit(0);
    }
    return 0;
}

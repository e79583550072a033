/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What MPI needs for the same operations: a crew (bench/crew.h) whose ranks are those of MPI_COMM_WORLD. Buffers are
 * private memory, as MPI programs have it; puts go to a shared window, which is MPI's quickest form of them.
 * Argument: the path of the crew's page. Built by the mpicc of each implementation that is installed.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"

enum { LINE = 64, ALIGNMENT = 4096 };

struct rank_state {
    MPI_Comm backwards; /* the ranks the other way round */
    MPI_Win win;
    uint64_t *own;   /* flag, then payload: 56 bytes in its line, larger ones behind it */
    uint64_t number; /* of the newest signal */
    uint64_t bytes[2];
    int counts[CREW_RANKS_MAX], firsts[CREW_RANKS_MAX];
};

static uint8_t *vector(uint64_t bytes)
{
    uint8_t *p = aligned_alloc(ALIGNMENT, (bytes / ALIGNMENT + 1) * ALIGNMENT);
    if (!p) {
        MPI_Abort(MPI_COMM_WORLD, 1);
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static void prepare(struct crew_side *s, const struct crew_order *o)
{
    struct rank_state *k = s->ctx;
    uint64_t bytes[2] = {crew_src_bytes(s, o), o->op == CREW_BROADCAST ? 0 : crew_dst_bytes(s, o)};
    for (uint32_t r = 0; r < s->size; r++) {
        k->counts[r] = (int)crew_count(o, s->rank, r);
        k->firsts[r] = (int)crew_first(o, s->rank, r);
    }
    if (s->src && memcmp(bytes, k->bytes, sizeof(bytes)) == 0) {
        return;
    }
    free(s->src);
    if (s->dst != s->src) {
        free(s->dst);
    }
    s->src = vector(bytes[0]);
    s->dst = o->op == CREW_BROADCAST ? s->src : vector(bytes[1]);
    memcpy(k->bytes, bytes, sizeof(bytes));
}

static void sync_all(struct crew_side *s)
{
    (void)s;
    MPI_Barrier(MPI_COMM_WORLD);
}

/* ---- one-sided ---- */

static MPI_Aint payload_at(const struct crew_order *o)
{
    return o->bytes <= LINE - sizeof(uint64_t) ? sizeof(uint64_t) : LINE;
}

static void signal_other(struct crew_side *s, const struct crew_order *o)
{
    struct rank_state *k = s->ctx;
    int other = 1 - (int)s->rank, bytes = (int)o->bytes;
    if (o->op == CREW_PUT_SIGNAL) {
        MPI_Put(s->src, bytes, MPI_BYTE, other, payload_at(o), bytes, MPI_BYTE, k->win);
        MPI_Win_flush(other, k->win);
    }
    MPI_Put(&k->number, 1, MPI_UINT64_T, other, 0, 1, MPI_UINT64_T, k->win);
    MPI_Win_flush(other, k->win);
}

/* MPICH moves puts on when the target calls it. */
static void make_progress(void)
{
#ifdef MPICH_VERSION
    int flag;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
#endif
}

static void run_signal(struct crew_side *s, const struct crew_order *o)
{
    struct rank_state *k = s->ctx;
    const a64 *flag = (const a64 *)(const void *)k->own;
    k->number++;
    if (s->rank == 0) {
        signal_other(s, o);
    }
    while (s->rank < 2 && a64_acquire(flag) < k->number) {
        make_progress();
    }
    crew_read((const uint8_t *)k->own + payload_at(o), o->bytes);
    if (s->rank == 1) {
        signal_other(s, o);
    }
}

static void run_one_sided(struct crew_side *s, const struct crew_order *o)
{
    struct rank_state *k = s->ctx;
    int bytes = (int)o->bytes;
    if (o->op == CREW_SIGNAL || o->op == CREW_PUT_SIGNAL) {
        run_signal(s, o);
    } else if (s->rank == 0 && o->op == CREW_PUT) {
        MPI_Put(s->src, bytes, MPI_BYTE, 1, payload_at(o), bytes, MPI_BYTE, k->win);
        MPI_Win_flush(1, k->win);
    } else if (s->rank == 0) {
        MPI_Get(s->dst, bytes, MPI_BYTE, 1, payload_at(o), bytes, MPI_BYTE, k->win);
        MPI_Win_flush(1, k->win);
    }
}

/* ---- collectives ---- */

static void reduction(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    struct rank_state *k = s->ctx;
    MPI_Comm world = MPI_COMM_WORLD, scanned = crew_is_backwards(number) ? k->backwards : world;
    int count = (int)(o->bytes / sizeof(float)), root = (int)crew_root(s, number);
    switch (o->op) {
    case CREW_ALL_REDUCE:
        MPI_Allreduce(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, world);
        break;
    case CREW_REDUCE:
        MPI_Reduce(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, root, world);
        break;
    case CREW_REDUCE_SCATTER:
        MPI_Reduce_scatter_block(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, world);
        break;
    case CREW_REDUCE_SCATTER_V:
        MPI_Reduce_scatter(s->src, s->dst, k->counts, MPI_FLOAT, MPI_SUM, world);
        break;
    case CREW_SCAN:
        MPI_Scan(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, scanned);
        break;
    case CREW_EXSCAN:
        MPI_Exscan(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, scanned);
        break;
    default:
        run_one_sided(s, o);
    }
}

static void with_counts(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    struct rank_state *k = s->ctx;
    MPI_Comm world = MPI_COMM_WORLD;
    const int *counts = k->counts, *firsts = k->firsts;
    int own = counts[s->rank], root = (int)crew_root(s, number);
    switch (o->op) {
    case CREW_ALL_GATHER_V:
        MPI_Allgatherv(s->src, own, MPI_FLOAT, s->dst, counts, firsts, MPI_FLOAT, world);
        break;
    case CREW_GATHER_V:
        MPI_Gatherv(s->src, own, MPI_FLOAT, s->dst, counts, firsts, MPI_FLOAT, root, world);
        break;
    case CREW_SCATTER_V:
        MPI_Scatterv(s->src, counts, firsts, MPI_FLOAT, s->dst, own, MPI_FLOAT, root, world);
        break;
    case CREW_ALL_TO_ALL_V:
        MPI_Alltoallv(s->src, counts, firsts, MPI_FLOAT, s->dst, counts, firsts, MPI_FLOAT, world);
        break;
    default:
        reduction(s, o, number);
    }
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    MPI_Comm world = MPI_COMM_WORLD;
    int count = (int)(o->bytes / sizeof(float)), root = (int)crew_root(s, number);
    switch (o->op) {
    case CREW_BARRIER:
        MPI_Barrier(world);
        break;
    case CREW_BROADCAST:
        MPI_Bcast(s->dst, count, MPI_FLOAT, root, world);
        break;
    case CREW_ALL_GATHER:
        MPI_Allgather(s->src, count, MPI_FLOAT, s->dst, count, MPI_FLOAT, world);
        break;
    case CREW_GATHER:
        MPI_Gather(s->src, count, MPI_FLOAT, s->dst, count, MPI_FLOAT, root, world);
        break;
    case CREW_SCATTER:
        MPI_Scatter(s->src, count, MPI_FLOAT, s->dst, count, MPI_FLOAT, root, world);
        break;
    case CREW_ALL_TO_ALL:
        MPI_Alltoall(s->src, count, MPI_FLOAT, s->dst, count, MPI_FLOAT, world);
        break;
    default:
        with_counts(s, o, number);
    }
}

int main(int argc, char **argv)
{
    int rank;
    int size;
    struct rank_state k = {.number = 0};
    struct crew_side side = {
        .ops = CREW_COLLECTIVE, .ctx = &k, .prepare = prepare, .sync = sync_all, .run = run};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    struct crew_page *page = argc == 2 ? crew_attach(argv[1], (uint32_t)rank) : NULL;
    if (!page || size > CREW_RANKS_MAX) {
        fprintf(stderr, "usage: mpirun -n RANKS %s PAGE\n", argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    side.rank = (uint32_t)rank;
    side.size = (uint32_t)size;
    if (size == 2) {
        side.ops = CREW_ALL;
        MPI_Win_allocate_shared((MPI_Aint)(page->bytes_max + LINE), 1, MPI_INFO_NULL,
                                MPI_COMM_WORLD, &k.own, &k.win);
        memset(k.own, 0, LINE);
        MPI_Win_lock_all(0, k.win);
    }
    MPI_Comm_split(MPI_COMM_WORLD, 0, size - rank, &k.backwards);
    crew_serve(&side, page);
    if (size == 2) {
        MPI_Win_unlock_all(k.win);
        MPI_Win_free(&k.win);
    }
    MPI_Comm_free(&k.backwards);
    MPI_Finalize();
    return 0;
}

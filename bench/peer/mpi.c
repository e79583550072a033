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

struct window {
    MPI_Win win;
    uint64_t *own;   /* flag, then payload: 56 bytes in its line, larger ones behind it */
    uint64_t number; /* of the newest signal */
};

static void prepare(struct crew_side *s, const struct crew_order *o)
{
    uint64_t bytes[2] = {crew_src_bytes(o, s->size), crew_dst_bytes(o, s->size)};
    uint8_t **at[2] = {&s->src, &s->dst};
    free(s->src);
    if (s->dst != s->src) {
        free(s->dst);
    }
    for (int i = 0; i < 2; i++) {
        *at[i] = aligned_alloc(ALIGNMENT, (bytes[i] / ALIGNMENT + 1) * ALIGNMENT);
        if (!*at[i]) {
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
        memset(*at[i], 0, bytes[i]);
    }
    if (o->op == CREW_BROADCAST) {
        free(s->src);
        s->src = s->dst;
    }
}

static void sync_all(struct crew_side *s)
{
    (void)s;
    MPI_Barrier(MPI_COMM_WORLD);
}

static MPI_Aint payload_at(const struct crew_order *o)
{
    return o->bytes <= LINE - sizeof(uint64_t) ? sizeof(uint64_t) : LINE;
}

static void signal_other(struct crew_side *s, const struct crew_order *o)
{
    struct window *w = s->ctx;
    int other = 1 - (int)s->rank;
    MPI_Aint at = payload_at(o);
    MPI_Put(s->src, (int)o->bytes, MPI_BYTE, other, at, (int)o->bytes, MPI_BYTE, w->win);
    MPI_Win_flush(other, w->win);
    MPI_Put(&w->number, 1, MPI_UINT64_T, other, 0, 1, MPI_UINT64_T, w->win);
    MPI_Win_flush(other, w->win);
}

static void put_signal(struct crew_side *s, const struct crew_order *o)
{
    struct window *w = s->ctx;
    const a64 *flag = (const a64 *)(const void *)w->own;
    w->number++;
    if (s->rank == 0) {
        signal_other(s, o);
    }
    while (s->rank < 2 && a64_acquire(flag) < w->number) {
    }
    crew_read((const uint8_t *)w->own + payload_at(o), o->bytes);
    if (s->rank == 1) {
        signal_other(s, o);
    }
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    int count = (int)(o->bytes / sizeof(float));
    MPI_Comm world = MPI_COMM_WORLD;
    switch (o->op) {
    case CREW_BARRIER:
        MPI_Barrier(world);
        break;
    case CREW_BROADCAST:
        MPI_Bcast(s->dst, count, MPI_FLOAT, (int)(number % s->size), world);
        break;
    case CREW_ALL_REDUCE:
        MPI_Allreduce(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, world);
        break;
    case CREW_ALL_GATHER:
        MPI_Allgather(s->src, count, MPI_FLOAT, s->dst, count, MPI_FLOAT, world);
        break;
    case CREW_ALL_TO_ALL:
        MPI_Alltoall(s->src, count, MPI_FLOAT, s->dst, count, MPI_FLOAT, world);
        break;
    case CREW_REDUCE_SCATTER:
        MPI_Reduce_scatter_block(s->src, s->dst, count, MPI_FLOAT, MPI_SUM, world);
        break;
    default:
        put_signal(s, o);
    }
}

int main(int argc, char **argv)
{
    int rank;
    int size;
    struct window w = {.number = 0};
    struct crew_side side = {
        .ops = (1u << CREW_OPS) - 1, .ctx = &w, .prepare = prepare, .sync = sync_all, .run = run};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    struct crew_page *page = argc == 2 ? crew_attach(argv[1], (uint32_t)rank) : NULL;
    if (!page || size < 2 || size > CREW_RANKS_MAX) {
        fprintf(stderr, "usage: mpirun -n RANKS %s PAGE\n", argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    side.rank = (uint32_t)rank;
    side.size = (uint32_t)size;
#ifdef MPICH_VERSION
    side.ops &= ~(1u << CREW_PUT_SIGNAL); /* its puts wait for a target that calls the library */
#endif
    if (size == 2) {
        MPI_Win_allocate_shared((MPI_Aint)(page->bytes_max + LINE), 1, MPI_INFO_NULL,
                                MPI_COMM_WORLD, &w.own, &w.win);
        memset(w.own, 0, page->bytes_max + LINE);
        MPI_Win_lock_all(0, w.win);
    } else {
        side.ops &= ~(1u << CREW_PUT_SIGNAL);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    crew_serve(&side, page);
    if (size == 2) {
        MPI_Win_unlock_all(w.win);
        MPI_Win_free(&w.win);
    }
    MPI_Finalize();
    return 0;
}

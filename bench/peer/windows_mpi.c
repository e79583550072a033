/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * MPI's windows over a subset: a crew (bench/crew.h) whose ranks are those of MPI_COMM_WORLD, with the orders of
 * bench/windows.h. Only the members of an order call MPI: MPI_Comm_create_group is there for that.
 * Arguments: the paths of the crew's page and of the windows'. Built by the mpicc of each implementation that is
 * installed.
 */
#include <mpi.h>
#include <stdio.h>

#include "windows.h"

struct side {
    struct window_page *page;
    MPI_Group group[WINDOW_RANKS + 1]; /* by size: the first ranks of the world */
    MPI_Comm comm[WINDOW_RANKS + 1];   /* MPI_COMM_NULL: not made yet, or not a member */
    MPI_Info info;
};

enum { TAG = 1 };

static bool is_member(const struct crew_side *s)
{
    const struct side *k = s->ctx;
    return s->rank < k->page->order.members;
}

static MPI_Comm make_comm(const struct side *k, uint32_t members)
{
    MPI_Comm comm;
    MPI_Comm_create_group(MPI_COMM_WORLD, k->group[members], TAG, &comm);
    return comm;
}

/* The communicator that is reused, and on which the members meet. */
static void prepare(struct crew_side *s, const struct crew_order *o)
{
    struct side *k = s->ctx;
    uint32_t members = k->page->order.members;
    (void)o;
    if (is_member(s) && k->comm[members] == MPI_COMM_NULL) {
        k->comm[members] = make_comm(k, members);
    }
}

static void sync_members(struct crew_side *s)
{
    const struct side *k = s->ctx;
    if (is_member(s)) {
        MPI_Barrier(k->comm[k->page->order.members]);
    }
}

static uint32_t count_wrong(const struct crew_side *s, const struct crew_order *o, MPI_Comm comm,
                            MPI_Win win)
{
    const struct side *k = s->ctx;
    const struct window_order *order = &k->page->order;
    int next = (int)((s->rank + 1) % order->members);
    uint8_t first = 0;
    uint8_t last = 0;
    MPI_Win_fence(0, win);
    MPI_Get(&first, 1, MPI_BYTE, next, 0, 1, MPI_BYTE, win);
    MPI_Get(&last, 1, MPI_BYTE, next, (MPI_Aint)o->bytes - 1, 1, MPI_BYTE, win);
    MPI_Win_fence(0, win);
    MPI_Barrier(comm);
    return window_wrong(order, s->rank, first, last);
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    struct side *k = s->ctx;
    const struct window_order *order = &k->page->order;
    struct window_rank *own = &k->page->rank[s->rank];
    MPI_Comm comm = k->comm[order->members];
    MPI_Aint bytes = (MPI_Aint)o->bytes;
    MPI_Win win;
    uint8_t *base;
    if (!is_member(s)) {
        return;
    }
    MPI_Barrier(comm);
    own->span[number].begin = clock_ns();
    if (order->new_group) {
        comm = make_comm(k, order->members);
    }
    if (order->kind == WINDOW_SHARED) {
        MPI_Win_allocate_shared(bytes, 1, k->info, comm, &base, &win);
    } else {
        MPI_Win_allocate(bytes, 1, k->info, comm, &base, &win);
    }
    if (order->touch) {
        memset(base, window_value(s->rank), o->bytes);
    }
    if (order->check) {
        own->wrong += count_wrong(s, o, comm, win);
    }
    MPI_Win_free(&win);
    if (order->new_group) {
        MPI_Comm_free(&comm);
    }
    own->span[number].end = clock_ns();
}

static void make_groups(struct side *k, int size)
{
    MPI_Group world;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    for (int members = 1; members <= size; members++) {
        int range[1][3] = {{0, members - 1, 1}};
        MPI_Group_range_incl(world, 1, range, &k->group[members]);
        k->comm[members] = MPI_COMM_NULL;
    }
    MPI_Group_free(&world);
}

static void free_groups(struct side *k, int size)
{
    for (int members = 1; members <= size; members++) {
        MPI_Group_free(&k->group[members]);
        if (k->comm[members] != MPI_COMM_NULL) {
            MPI_Comm_free(&k->comm[members]);
        }
    }
}

int main(int argc, char **argv)
{
    int rank;
    int size;
    struct side k = {.page = NULL};
    struct crew_side side = {
        .ops = 1u << CREW_BARRIER, .ctx = &k, .prepare = prepare, .sync = sync_members, .run = run};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    struct crew_page *page = argc == 3 ? crew_attach(argv[1], (uint32_t)rank) : NULL;
    k.page = argc == 3 ? windows_attach(argv[2]) : NULL;
    if (!page || !k.page || size < 2 || size > WINDOW_RANKS) {
        fprintf(stderr, "usage: mpirun -n RANKS %s PAGE WINDOWS\n", argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 2);
        return 2;
    }
    side.rank = (uint32_t)rank;
    side.size = (uint32_t)size;
    make_groups(&k, size);
    MPI_Info_create(&k.info);
    MPI_Info_set(k.info, "same_size", "true");
    MPI_Info_set(k.info, "same_disp_unit", "true");
    MPI_Barrier(MPI_COMM_WORLD);
    crew_serve(&side, page);
    MPI_Info_free(&k.info);
    free_groups(&k, size);
    MPI_Finalize();
    return 0;
}

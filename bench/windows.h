/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Windows that peers make and give back (bench/windows.c). Their ranks are crews (crew.h); what a crew's order does not
 * say stands in a page of its own, whose path is the argument behind that of the crew's page. There each rank also
 * notes when each operation began and ended: the time of an operation is from the first begin to the last end, and its
 * quantiles are wanted, not its mean. Ranks that are no members do not even call: they sleep until the next order.
 */
#ifndef BENCH_WINDOWS_H
#define BENCH_WINDOWS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "crew.h"

enum { WINDOW_RANKS = 8, WINDOW_OPS = 500 };

/* How the memory comes. */
enum window_kind {
    WINDOW_SET,      /* the floor's: it is there, and only touched */
    WINDOW_SHARED,   /* MPI_Win_allocate_shared */
    WINDOW_ALLOCATE, /* MPI_Win_allocate */
    WINDOW_MALLOC,   /* shmem_malloc */
    WINDOW_CALLOC,   /* shmem_calloc */
    WINDOW_KINDS
};

/* Beside the crew's order, whose bytes are those of one window and whose op is CREW_BARRIER, the one that moves none
 * of the crew's own data. */
struct window_order {
    uint32_t kind;
    uint32_t members;   /* ranks 0 .. members - 1 */
    uint32_t new_group; /* each operation also makes a communicator of the members, and frees it */
    uint32_t touch;     /* each member sets its window */
    uint32_t check;     /* ... and reads its neighbour's */
    uint32_t reserved[11];
};

struct window_span {
    uint64_t begin, end;
};

/* w: the rank */
struct window_rank {
    uint32_t wrong; /* bytes that were not as its neighbour had set them */
    uint32_t reserved[15];
    struct window_span span[WINDOW_OPS];
};

struct window_page {
    struct window_order order; /* w: the bench */
    struct window_rank rank[WINDOW_RANKS];
};

/* NULL when it cannot be had. */
static inline struct window_page *windows_attach(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    void *p = mmap(NULL, sizeof(struct window_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

/* What rank sets its window to. */
static inline uint8_t window_value(uint32_t rank)
{
    return (uint8_t)(rank + 1);
}

/* Whether a neighbour's window, of which first and last are copies, is as it was set. */
static inline uint32_t window_wrong(const struct window_order *o, uint32_t rank, uint8_t first,
                                    uint8_t last)
{
    uint8_t wanted = window_value((rank + 1) % o->members);
    return (uint32_t)(first != wanted) + (last != wanted);
}

#endif

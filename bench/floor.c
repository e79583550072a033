/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The floor of communication (floor.h). Its ranks are children of the benchmark; they share one mapping, in
 * which each has a line for its arrivals, one for its flag, and two vectors.
 */
#include "floor.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common.h"

enum { ONE_SHOT_BYTES = 4096, TILE = 2048, PAGE = 4096 };

struct line {
    a64 value;
    uint8_t reserved[56];
};

/* At the begin of a rank's part of the mapping. */
struct floor_head {
    struct line arrived;
    a64 flag; /* in one line with the payload that it announces, where it fits */
    uint8_t payload[56];
};

static struct {
    uint8_t *base;
    uint64_t vector, stride;
    uint32_t size;
    bool yields;
} shared;

/* This rank's own; each is a process. */
static uint64_t epoch, flags;

static struct floor_head *head_of(uint32_t rank)
{
    return (struct floor_head *)(void *)(shared.base + rank * shared.stride);
}

static float *src_of(uint32_t rank)
{
    return (float *)(void *)(shared.base + rank * shared.stride + PAGE);
}

static float *dst_of(uint32_t rank)
{
    return (float *)(void *)(shared.base + rank * shared.stride + PAGE + shared.vector);
}

static void await(const a64 *word, uint64_t value)
{
    while (a64_acquire(word) < value) { /* pairs with arrive, signal */
        if (shared.yields) {
            sched_yield();
        }
    }
}

static void barrier(uint32_t rank)
{
    epoch++;
    a64_release(&head_of(rank)->arrived.value, epoch);
    for (uint32_t i = 1; i < shared.size; i++) {
        await(&head_of((rank + i) % shared.size)->arrived.value, epoch);
    }
}

/* ---- reductions ---- */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((optimize("O3"), target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define WIDE
#endif

WIDE static void sum_2(float *restrict to, float *const *from, uint64_t count)
{
    const float *a = from[0];
    const float *b = from[1];
    for (uint64_t i = 0; i < count; i++) {
        to[i] = a[i] + b[i];
    }
}

WIDE static void sum_4(float *restrict to, float *const *from, uint64_t count)
{
    const float *a = from[0];
    const float *b = from[1];
    const float *c = from[2];
    const float *d = from[3];
    for (uint64_t i = 0; i < count; i++) {
        to[i] = a[i] + b[i] + c[i] + d[i];
    }
}

WIDE static void add_4(float *restrict to, float *const *from, uint64_t count)
{
    const float *a = from[0];
    const float *b = from[1];
    const float *c = from[2];
    const float *d = from[3];
    for (uint64_t i = 0; i < count; i++) {
        to[i] = to[i] + a[i] + b[i] + c[i] + d[i];
    }
}

WIDE static void add_1(float *restrict to, const float *from, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        to[i] += from[i];
    }
}

/* to = the sum over the ranks of their elements first, first + 1, ...; to is no source. */
static void sum_all(float *to, uint64_t first, uint64_t count)
{
    float *from[CREW_RANKS_MAX];
    uint32_t done = shared.size >= 4 ? 4 : 2;
    for (uint32_t r = 0; r < shared.size; r++) {
        from[r] = src_of(r) + first;
    }
    (done == 4 ? sum_4 : sum_2)(to, from, count);
    for (; done + 4 <= shared.size; done += 4) {
        add_4(to, from + done, count);
    }
    for (; done < shared.size; done++) {
        add_1(to, from[done], count);
    }
}

/* Everybody reduces its share and stores it everywhere, by tiles that stay in the first cache. */
static void all_reduce(uint32_t rank, uint64_t count)
{
    static float tile[TILE] __attribute__((aligned(64)));
    if (count * sizeof(float) <= ONE_SHOT_BYTES) {
        sum_all(dst_of(rank), 0, count);
        return;
    }
    uint64_t first = count * rank / shared.size / 16 * 16;
    uint64_t end = rank + 1 == shared.size ? count : count * (rank + 1) / shared.size / 16 * 16;
    for (uint64_t i = first; i < end; i += TILE) {
        uint64_t n = end - i < TILE ? end - i : TILE;
        sum_all(tile, i, n);
        for (uint32_t r = 0; r < shared.size; r++) {
            memcpy(dst_of((rank + r) % shared.size) + i, tile, n * sizeof(float));
        }
    }
}

static void reduce_scatter(uint32_t rank, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += TILE) {
        uint64_t n = count - i < TILE ? count - i : TILE;
        sum_all(dst_of(rank) + i, rank * count + i, n);
    }
}

/* ---- the others ---- */

/* From the vector of every rank, this rank's part of it when there are parts. */
static void gather(uint32_t rank, uint64_t count, bool parts)
{
    for (uint32_t i = 0; i < shared.size; i++) {
        uint32_t r = (rank + i) % shared.size;
        memcpy(dst_of(rank) + r * count, src_of(r) + (parts ? rank * count : 0),
               count * sizeof(float));
    }
}

static void signal_other(uint32_t rank, uint64_t bytes)
{
    struct floor_head *other = head_of(1 - rank);
    if (bytes <= sizeof(other->payload)) {
        memcpy(other->payload, src_of(rank), bytes);
    } else {
        memcpy(dst_of(1 - rank), src_of(rank), bytes);
    }
    a64_release(&other->flag, flags);
}

static void read_payload(uint32_t rank, uint64_t bytes)
{
    bool small = bytes <= sizeof(head_of(rank)->payload);
    crew_read(small ? (void *)head_of(rank)->payload : (void *)dst_of(rank), bytes);
}

static void put_signal(uint32_t rank, uint64_t bytes)
{
    flags++;
    if (rank == 0) {
        signal_other(rank, bytes);
        await(&head_of(0)->flag, flags);
        read_payload(rank, bytes);
    } else if (rank == 1) {
        await(&head_of(1)->flag, flags);
        read_payload(rank, bytes);
        signal_other(rank, bytes);
    }
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    uint64_t count = o->bytes / sizeof(float);
    uint32_t root = number % s->size;
    if (o->op == CREW_PUT_SIGNAL) {
        put_signal(s->rank, o->bytes);
        return;
    }
    barrier(s->rank);
    switch (o->op) {
    case CREW_BARRIER:
        return;
    case CREW_BROADCAST:
        if (s->rank != root) {
            memcpy(src_of(s->rank), src_of(root), o->bytes);
        }
        break;
    case CREW_ALL_REDUCE:
        all_reduce(s->rank, count);
        break;
    case CREW_REDUCE_SCATTER:
        reduce_scatter(s->rank, count);
        break;
    default:
        gather(s->rank, count, o->op == CREW_ALL_TO_ALL);
    }
    barrier(s->rank);
}

static void sync_all(struct crew_side *s)
{
    barrier(s->rank);
}

static void prepare(struct crew_side *s, const struct crew_order *o)
{
    s->src = (uint8_t *)src_of(s->rank);
    s->dst = o->op == CREW_BROADCAST ? s->src : (uint8_t *)dst_of(s->rank);
}

static void serve(void *arg, uint32_t rank, struct crew_page *page)
{
    struct crew_side side = {.rank = rank,
                             .size = shared.size,
                             .ops = (1u << CREW_OPS) - 1,
                             .prepare = prepare,
                             .sync = sync_all,
                             .run = run};
    (void)arg;
    crew_serve(&side, page);
}

void floor_start(struct crew *c, uint32_t size, uint64_t bytes_max)
{
    shared.vector = (bytes_max + PAGE - 1) / PAGE * PAGE;
    shared.stride = PAGE + 2 * shared.vector;
    shared.size = size;
    shared.yields = size > cores();
    shared.base = mmap(NULL, size * shared.stride, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bench_must(shared.base == MAP_FAILED, "mmap", "floor");
    crew_fork(c, "floor", size, bytes_max, serve, NULL);
}

void floor_stop(struct crew *c)
{
    crew_stop(c);
    munmap(shared.base, shared.size * shared.stride);
}

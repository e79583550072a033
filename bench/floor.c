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

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    ONE_SHOT_BYTES = 4096,
    TILE = 2048,
    PAGE = 4096,
    STREAM_BYTES = 4 << 20,
    /* A store into lines that another core holds costs less than a load of them, while all fits the second cache: up to
     * these sizes who has something stores it where it is wanted, also when that is the root, alone, for one or for many;
     * and of two ranks one stores what the other adds. */
    ADD_BYTES = 2048,
    STORE_BYTES = 256 << 10,
    STORE_MANY_BYTES = 64 << 10
};

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

/* ---- copies ---- */

#if defined(__x86_64__)
__attribute__((target("avx"))) void floor_copy_stream(uint8_t *to, const uint8_t *from,
                                                      uint64_t bytes)
{
    uint64_t at = 0;
    for (; bytes - at >= sizeof(__m256i) && ((uintptr_t)to & 31) == 0; at += sizeof(__m256i)) {
        __m256i x = _mm256_loadu_si256((const void *)(from + at));
        _mm256_stream_si256((void *)(to + at), x);
    }
    memcpy(to + at, from + at, bytes - at);
    _mm_sfence();
}
#else
void floor_copy_stream(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    memcpy(to, from, bytes);
}
#endif

/* The better of the two for the size. */
static void copy(void *to, const void *from, uint64_t bytes)
{
    if (bytes >= STREAM_BYTES) {
        floor_copy_stream(to, from, bytes);
    } else {
        memcpy(to, from, bytes);
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

static bool is_small(uint64_t count)
{
    return count * sizeof(float) <= ONE_SHOT_BYTES;
}

/* Where this rank's share of the elements begins and ends; whole lines. */
static uint64_t share_first(uint32_t rank, uint64_t count)
{
    return rank == shared.size ? count : count * rank / shared.size / 16 * 16;
}

/* Everybody reduces its share and stores it everywhere, by tiles that stay in the first cache. */
static void all_reduce(uint32_t rank, uint64_t count)
{
    static float tile[TILE] __attribute__((aligned(64)));
    uint64_t end = share_first(rank + 1, count);
    if (is_small(count)) {
        sum_all(dst_of(rank), 0, count);
        return;
    }
    for (uint64_t i = share_first(rank, count); i < end; i += TILE) {
        uint64_t n = end - i < TILE ? end - i : TILE;
        sum_all(tile, i, n);
        for (uint32_t r = 0; r < shared.size; r++) {
            memcpy(dst_of((rank + r) % shared.size) + i, tile, n * sizeof(float));
        }
    }
}

/* Elements first, first + 1, ... of all ranks. */
static void sum_into(float *to, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += TILE) {
        uint64_t n = count - i < TILE ? count - i : TILE;
        sum_all(to + i, first + i, n);
    }
}

/* The root alone, or everybody its share. */
static void reduce(uint32_t rank, uint64_t count, uint32_t root)
{
    uint64_t first = share_first(rank, count), end = share_first(rank + 1, count);
    if (!is_small(count)) {
        sum_into(dst_of(root) + first, first, end - first);
    } else if (rank == root) {
        sum_into(dst_of(root), 0, count);
    }
}

/* The i-th rank of a scan. */
static uint32_t scanned(uint32_t i, bool backwards)
{
    return backwards ? shared.size - 1 - i : i;
}

/* The sum over the first ranks of a scan. */
static void sum_prefix(float *to, uint32_t ranks, bool backwards, uint64_t count)
{
    float *first = src_of(scanned(0, backwards));
    if (ranks == 0) {
        return;
    }
    if (ranks == 1) {
        memcpy(to, first, count * sizeof(float));
        return;
    }
    float *const from[] = {first, src_of(scanned(1, backwards))};
    sum_2(to, from, count);
    for (uint32_t i = 2; i < ranks; i++) {
        add_1(to, src_of(scanned(i, backwards)), count);
    }
}

/* Of two ranks: the other's elements are stored, the own ones added. */
static void add_stored(const struct crew_order *o, uint32_t rank, uint32_t root)
{
    bool parts = o->op == CREW_REDUCE_SCATTER || o->op == CREW_REDUCE_SCATTER_V;
    bool all = o->op != CREW_REDUCE;
    uint32_t other = 1 - rank;
    if (all || rank != root) {
        memcpy(dst_of(other), src_of(rank) + (parts ? crew_first(o, rank, other) : 0),
               crew_count(o, rank, other) * sizeof(float));
    }
    barrier(rank);
    if (all || rank == root) {
        add_1(dst_of(rank), src_of(rank) + (parts ? crew_first(o, rank, rank) : 0),
              crew_count(o, rank, rank));
    }
}

/* Each its own prefix, or everybody its share of all prefixes. less: 1 where the own rank is left out. */
static void scan(uint32_t rank, uint64_t count, uint32_t less, bool backwards)
{
    uint64_t end = share_first(rank + 1, count);
    if (is_small(count)) {
        sum_prefix(dst_of(rank), scanned(rank, backwards) + 1 - less, backwards, count);
        return;
    }
    for (uint64_t i = share_first(rank, count); i < end; i += TILE) {
        uint64_t n = end - i < TILE ? end - i : TILE;
        memcpy(dst_of(scanned(less, backwards)) + i, src_of(scanned(0, backwards)) + i,
               n * sizeof(float));
        for (uint32_t r = 1 + less; r < shared.size; r++) {
            float *const from[] = {dst_of(scanned(r - 1, backwards)) + i,
                                   src_of(scanned(r - less, backwards)) + i};
            sum_2(dst_of(scanned(r, backwards)) + i, from, n);
        }
    }
}

/* ---- the others ---- */

/* Into the dst of every rank, its part of src when there are parts. */
static void store_all(const struct crew_order *o, uint32_t rank, bool parts)
{
    for (uint32_t i = 0; i < shared.size; i++) {
        uint32_t r = (rank + i) % shared.size;
        copy(dst_of(r) + crew_first(o, r, rank),
             src_of(rank) + (parts ? crew_first(o, rank, r) : 0),
             crew_count(o, r, rank) * sizeof(float));
    }
}

static void broadcast(uint32_t rank, uint64_t bytes, uint32_t root)
{
    if (shared.size == 2 && bytes <= STORE_BYTES) {
        if (rank == root) {
            copy(src_of(1 - rank), src_of(rank), bytes);
        }
    } else if (rank != root) {
        copy(src_of(rank), src_of(root), bytes);
    }
}

static void scatter(const struct crew_order *o, uint32_t rank, uint32_t root)
{
    bool store = o->bytes <= (shared.size == 2 ? STORE_BYTES : STORE_MANY_BYTES);
    for (uint32_t r = 0; r < shared.size; r++) {
        if (store ? rank == root : rank == r) {
            copy(dst_of(r), src_of(root) + crew_first(o, root, r),
                 crew_count(o, root, r) * sizeof(float));
        }
    }
}

static void move(const struct crew_order *o, uint32_t rank, uint32_t root)
{
    switch (o->op) {
    case CREW_BROADCAST:
        broadcast(rank, o->bytes, root);
        break;
    case CREW_GATHER:
    case CREW_GATHER_V:
        copy(dst_of(root) + crew_first(o, rank, rank), src_of(rank),
             crew_count(o, rank, rank) * sizeof(float));
        break;
    case CREW_SCATTER:
    case CREW_SCATTER_V:
        scatter(o, rank, root);
        break;
    default:
        store_all(o, rank, o->op == CREW_ALL_TO_ALL || o->op == CREW_ALL_TO_ALL_V);
    }
}

static void reduction(const struct crew_order *o, uint32_t rank, uint32_t root)
{
    uint64_t count = o->bytes / sizeof(float);
    if (shared.size == 2 && o->bytes >= ADD_BYTES && o->bytes <= STORE_BYTES) {
        add_stored(o, rank, root);
    } else if (o->op == CREW_ALL_REDUCE) {
        all_reduce(rank, count);
    } else if (o->op == CREW_REDUCE) {
        reduce(rank, count, root);
    } else {
        sum_into(dst_of(rank), crew_first(o, rank, rank), crew_count(o, rank, rank));
    }
}

static void work(const struct crew_order *o, uint32_t rank, uint32_t number)
{
    switch (o->op) {
    case CREW_ALL_REDUCE:
    case CREW_REDUCE:
    case CREW_REDUCE_SCATTER:
    case CREW_REDUCE_SCATTER_V:
        reduction(o, rank, number % shared.size);
        break;
    case CREW_SCAN:
    case CREW_EXSCAN:
        scan(rank, o->bytes / sizeof(float), o->op == CREW_EXSCAN, crew_is_backwards(number));
        break;
    default:
        move(o, rank, number % shared.size);
    }
}

static void signal_other(uint32_t rank, const struct crew_order *o)
{
    struct floor_head *other = head_of(1 - rank);
    if (o->op == CREW_PUT_SIGNAL) {
        bool small = o->bytes <= sizeof(other->payload);
        copy(small ? (void *)other->payload : (void *)dst_of(1 - rank), src_of(rank), o->bytes);
    }
    a64_release(&other->flag, flags);
}

static void read_payload(uint32_t rank, uint64_t bytes)
{
    bool small = bytes <= sizeof(head_of(rank)->payload);
    crew_read(small ? (void *)head_of(rank)->payload : (void *)dst_of(rank), bytes);
}

static void run_signal(uint32_t rank, const struct crew_order *o)
{
    flags++;
    if (rank == 0) {
        signal_other(rank, o);
    }
    if (rank < 2) {
        await(&head_of(rank)->flag, flags);
        read_payload(rank, o->bytes);
    }
    if (rank == 1) {
        signal_other(rank, o);
    }
}

static void run(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    if (o->op == CREW_SIGNAL || o->op == CREW_PUT_SIGNAL) {
        run_signal(s->rank, o);
        return;
    }
    barrier(s->rank);
    if (o->op != CREW_BARRIER) {
        work(o, s->rank, number);
        barrier(s->rank);
    }
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
                             .ops = CREW_TOGETHER,
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

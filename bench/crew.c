/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A crew's rank (crew.h): the measuring loop, known values and their check. Runs in the ranks of the floor, of the
 * peers, and in tasks; needs nothing but the C library, because the peers are built by wrappers of their own.
 */
#include "crew.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

enum { VALUES = 61 };

uint64_t crew_src_bytes(const struct crew_order *o, uint32_t size)
{
    bool parts = o->op == CREW_ALL_TO_ALL || o->op == CREW_REDUCE_SCATTER;
    return parts ? o->bytes * size : o->bytes;
}

uint64_t crew_dst_bytes(const struct crew_order *o, uint32_t size)
{
    bool parts = o->op == CREW_ALL_TO_ALL || o->op == CREW_ALL_GATHER;
    return parts ? o->bytes * size : o->bytes;
}

/* ---- known values ---- */

/* Small whole numbers: their sums are exact in any order. */
static float value_of(uint32_t rank, uint64_t i)
{
    return (float)((rank + 1) * (1 + i % VALUES));
}

static void fill(const struct crew_side *s, const struct crew_order *o, uint32_t root)
{
    float *src = (float *)(void *)s->src;
    bool has_source = o->op != CREW_BROADCAST || s->rank == root;
    memset(s->dst, 0, crew_dst_bytes(o, s->size));
    for (uint64_t i = 0; has_source && i < crew_src_bytes(o, s->size) / sizeof(float); i++) {
        src[i] = value_of(s->rank, i);
    }
}

static float wanted(const struct crew_side *s, const struct crew_order *o, uint32_t root,
                    uint64_t i)
{
    uint64_t count = o->bytes / sizeof(float);
    uint32_t ranks = s->size * (s->size + 1) / 2;
    switch (o->op) {
    case CREW_BROADCAST:
        return value_of(root, i);
    case CREW_ALL_GATHER:
        return value_of((uint32_t)(i / count), i % count);
    case CREW_ALL_TO_ALL:
        return value_of((uint32_t)(i / count), s->rank * count + i % count);
    case CREW_REDUCE_SCATTER:
        return value_of(ranks - 1, s->rank * count + i);
    default:
        return value_of(ranks - 1, i);
    }
}

static uint32_t count_wrong(struct crew_side *s, const struct crew_order *o)
{
    uint32_t wrong = 0;
    if (o->op == CREW_BARRIER || o->op == CREW_PUT_SIGNAL) {
        return 0;
    }
    for (uint32_t root = 0; root < s->size; root += s->size - 1) {
        s->sync(s);
        fill(s, o, root);
        s->sync(s);
        s->run(s, o, root);
        s->sync(s);
        const float *dst = (const float *)(const void *)s->dst;
        for (uint64_t i = 0; i < crew_dst_bytes(o, s->size) / sizeof(float); i++) {
            wrong += dst[i] != wanted(s, o, root, i);
        }
    }
    return wrong;
}

void crew_read(const void *data, uint64_t bytes)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i + sizeof(sum) <= bytes; i += sizeof(sum)) {
        uint64_t x;
        memcpy(&x, (const uint8_t *)data + i, sizeof(x));
        sum += x;
    }
    __asm__ volatile("" : : "r"(sum)); /* whatever was found, it must have arrived */
}

/* ---- orders ---- */

enum { LINE_BYTES = 64 };

static bool moves_data(const struct crew_order *o)
{
    return o->op != CREW_BARRIER && o->op != CREW_PUT_SIGNAL;
}

/* What a program does before: it makes new data. A word of each line, with the value that it has. */
static void write_source(const struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    bool has_source = moves_data(o) && (o->op != CREW_BROADCAST || s->rank == number % s->size);
    for (uint64_t i = 0; has_source && i < crew_src_bytes(o, s->size); i += LINE_BYTES) {
        volatile float *word = (volatile float *)(void *)(s->src + i);
        *word = *word;
    }
}

/* And after: it reads the result. */
static void read_result(const struct crew_side *s, const struct crew_order *o)
{
    for (uint64_t i = 0; moves_data(o) && i < crew_dst_bytes(o, s->size); i += LINE_BYTES) {
        (void)*(volatile float *)(void *)(s->dst + i);
    }
}

static void run_one(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    write_source(s, o, number);
    s->run(s, o, number);
    read_result(s, o);
}

void crew_measure(struct crew_side *s, const struct crew_order *o, struct crew_result *ret)
{
    ret->ns = 0;
    ret->wrong = 0;
    if (!(s->ops >> o->op & 1)) {
        return;
    }
    s->prepare(s, o);
    if (o->check) {
        ret->wrong = count_wrong(s, o);
    }
    s->sync(s);
    for (uint32_t i = 0; i < o->warm; i++) {
        run_one(s, o, i);
    }
    s->sync(s);
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < o->count; i++) {
        run_one(s, o, i);
    }
    ret->ns = (double)(clock_ns() - begin) / o->count;
    s->sync(s);
}

void crew_serve(struct crew_side *s, struct crew_page *page)
{
    a32_add_full(&page->ready, 1);
    syscall(SYS_futex, &page->ready, FUTEX_WAKE, 1, NULL, NULL, 0);
    for (uint32_t turn = 0;; turn++) {
        while (a32_acquire(&page->gate) == turn) { /* pairs with crew_run */
            syscall(SYS_futex, &page->gate, FUTEX_WAIT, turn, NULL, NULL, 0);
        }
        if (page->leave) {
            return;
        }
        crew_measure(s, &page->order, &page->result[s->rank]);
        if (atomic_fetch_sub(&page->left, 1) == 1) {
            syscall(SYS_futex, &page->left, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
    }
}

static void pin(uint32_t rank)
{
    cpu_set_t allowed;
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return;
    }
    uint32_t left = rank % (uint32_t)CPU_COUNT(&allowed);
    CPU_ZERO(&one);
    for (uint32_t c = 0; c < CPU_SETSIZE; c++) {
        if (CPU_ISSET(c, &allowed) && left-- == 0) {
            CPU_SET(c, &one);
            break;
        }
    }
    sched_setaffinity(0, sizeof(one), &one);
}

struct crew_page *crew_attach(const char *path, uint32_t rank)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    void *p = mmap(NULL, sizeof(struct crew_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    pin(rank);
    return p == MAP_FAILED ? NULL : p;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A crew's rank (crew.h): the measuring loop, known values and their check. Runs in the ranks of the floor, of the
 * peers, and in tasks; needs nothing but the C library, because the peers are built by wrappers of their own.
 */
#include "crew.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "futex.h"

enum { VALUES = 61, UNEVEN = 8 };

/* ---- what the operations are ---- */

enum who { NOBODY, EVERYBODY, ROOT, ALL_BUT_FIRST /* of a scan */ };

/* Who has data before and a result after it, and whether that is all parts or one, or a vector. */
static const struct shape {
    const char *name;
    enum who source, result;
    bool source_parts, result_parts;
    bool counts; /* the parts differ */
} shapes[CREW_OPS] = {
    [CREW_BARRIER] = {"barrier", NOBODY, NOBODY, false, false, false},
    [CREW_BROADCAST] = {"broadcast", ROOT, EVERYBODY, false, false, false},
    [CREW_ALL_REDUCE] = {"all_reduce", EVERYBODY, EVERYBODY, false, false, false},
    [CREW_ALL_GATHER] = {"all_gather", EVERYBODY, EVERYBODY, false, true, false},
    [CREW_ALL_TO_ALL] = {"all_to_all", EVERYBODY, EVERYBODY, true, true, false},
    [CREW_REDUCE_SCATTER] = {"reduce_scatter", EVERYBODY, EVERYBODY, true, false, false},
    [CREW_REDUCE] = {"reduce", EVERYBODY, ROOT, false, false, false},
    [CREW_GATHER] = {"gather", EVERYBODY, ROOT, false, true, false},
    [CREW_SCATTER] = {"scatter", ROOT, EVERYBODY, true, false, false},
    [CREW_SCAN] = {"scan", EVERYBODY, EVERYBODY, false, false, false},
    [CREW_EXSCAN] = {"exscan", EVERYBODY, ALL_BUT_FIRST, false, false, false},
    [CREW_ALL_GATHER_V] = {"all_gather_v", EVERYBODY, EVERYBODY, false, true, true},
    [CREW_GATHER_V] = {"gather_v", EVERYBODY, ROOT, false, true, true},
    [CREW_SCATTER_V] = {"scatter_v", ROOT, EVERYBODY, true, false, true},
    [CREW_REDUCE_SCATTER_V] = {"reduce_scatter_v", EVERYBODY, EVERYBODY, true, false, true},
    [CREW_ALL_TO_ALL_V] = {"all_to_all_v", EVERYBODY, EVERYBODY, true, true, true},
    [CREW_PUT] = {"put", NOBODY, NOBODY, false, false, false},
    [CREW_GET] = {"get", NOBODY, NOBODY, false, false, false},
    [CREW_SIGNAL] = {"signal", NOBODY, NOBODY, false, false, false},
    [CREW_PUT_SIGNAL] = {"put + signal", NOBODY, NOBODY, false, false, false},
};

const char *crew_op_text(uint32_t op)
{
    return op < CREW_OPS ? shapes[op].name : "?";
}

static bool is_one_of(const struct crew_side *s, enum who who, uint32_t number)
{
    return who == EVERYBODY || (who == ROOT && s->rank == crew_root(s, number)) ||
           (who == ALL_BUT_FIRST && s->rank != (crew_is_backwards(number) ? s->size - 1 : 0));
}

uint32_t crew_root(const struct crew_side *s, uint32_t number)
{
    return number % s->size;
}

bool crew_is_backwards(uint32_t number)
{
    return number % 2 == 1;
}

/* Even ones are smaller, odd ones larger. */
static uint64_t uneven(const struct crew_order *o)
{
    return shapes[o->op].counts ? o->bytes / sizeof(float) / UNEVEN : 0;
}

/* The first part's place in the order of small and large. */
static uint32_t base_of(const struct crew_order *o, uint32_t rank)
{
    return o->op == CREW_ALL_TO_ALL_V ? rank : 0;
}

uint64_t crew_count(const struct crew_order *o, uint32_t rank, uint32_t part)
{
    uint64_t count = o->bytes / sizeof(float);
    return (base_of(o, rank) + part) % 2 == 0 ? count - uneven(o) : count + uneven(o);
}

uint64_t crew_first(const struct crew_order *o, uint32_t rank, uint32_t part)
{
    uint64_t count = o->bytes / sizeof(float) * part;
    if (part % 2 == 0) {
        return count;
    }
    return base_of(o, rank) % 2 == 0 ? count - uneven(o) : count + uneven(o);
}

static uint64_t bytes_of(const struct crew_side *s, const struct crew_order *o, bool parts)
{
    bool is_vector = !shapes[o->op].source_parts && !shapes[o->op].result_parts;
    return is_vector ? o->bytes
           : parts   ? crew_first(o, s->rank, s->size) * sizeof(float)
                     : crew_count(o, s->rank, s->rank) * sizeof(float);
}

uint64_t crew_src_bytes(const struct crew_side *s, const struct crew_order *o)
{
    return bytes_of(s, o, shapes[o->op].source_parts);
}

uint64_t crew_dst_bytes(const struct crew_side *s, const struct crew_order *o)
{
    return bytes_of(s, o, shapes[o->op].result_parts);
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
    memset(s->dst, 0, crew_dst_bytes(s, o));
    if (is_one_of(s, shapes[o->op].source, root)) {
        for (uint64_t i = 0; i < crew_src_bytes(s, o) / sizeof(float); i++) {
            src[i] = value_of(s->rank, i);
        }
    }
}

/* Of the sum over ranks first..end-1, element i. */
static float sum_of(uint32_t first, uint32_t end, uint64_t i)
{
    return value_of(end * (end + 1) / 2 - first * (first + 1) / 2 - 1, i);
}

/* Of a scan; less: 1 where the own rank is left out. */
static float scan_of(const struct crew_side *s, uint32_t number, uint32_t less, uint64_t i)
{
    return crew_is_backwards(number) ? sum_of(s->rank + less, s->size, i)
                                     : sum_of(0, s->rank + 1 - less, i);
}

/* Element i of what rank `from` contributes to this rank's result. */
static float moved(const struct crew_side *s, const struct crew_order *o, uint32_t from, uint64_t i)
{
    bool parts = shapes[o->op].source_parts;
    return value_of(from, parts ? crew_first(o, from, s->rank) + i : i);
}

static uint32_t count_in(const struct crew_side *s, const struct crew_order *o, uint32_t root,
                         uint32_t part, uint64_t first, uint64_t count)
{
    const float *dst = (const float *)(const void *)s->dst;
    uint32_t wrong = 0;
    for (uint64_t i = 0; i < count; i++) {
        float wanted = sum_of(0, s->size, i);
        switch (o->op) {
        case CREW_ALL_REDUCE:
        case CREW_REDUCE:
            break;
        case CREW_REDUCE_SCATTER:
        case CREW_REDUCE_SCATTER_V:
            wanted = sum_of(0, s->size, crew_first(o, s->rank, s->rank) + i);
            break;
        case CREW_SCAN:
        case CREW_EXSCAN:
            wanted = scan_of(s, root, o->op == CREW_EXSCAN, i);
            break;
        default:
            wanted = moved(s, o, shapes[o->op].source == ROOT ? root : part, i);
        }
        wrong += dst[first + i] != wanted;
    }
    return wrong;
}

static uint32_t count_wrong(struct crew_side *s, const struct crew_order *o)
{
    const struct shape *shape = &shapes[o->op];
    uint32_t wrong = 0;
    for (uint32_t root = 0; root < s->size && shape->result != NOBODY; root += s->size - 1) {
        s->sync(s);
        fill(s, o, root);
        s->sync(s);
        s->run(s, o, root);
        s->sync(s);
        if (!is_one_of(s, shape->result, root)) {
            continue;
        }
        for (uint32_t r = 0; r < s->size && shape->result_parts; r++) {
            wrong += count_in(s, o, root, r, crew_first(o, s->rank, r), crew_count(o, s->rank, r));
        }
        if (!shape->result_parts) {
            wrong += count_in(s, o, root, root, 0, crew_dst_bytes(s, o) / sizeof(float));
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

/* What a program does before: it makes new data. A word of each line, with the value that it has. */
static void write_source(const struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    uint64_t bytes = is_one_of(s, shapes[o->op].source, number) ? crew_src_bytes(s, o) : 0;
    for (uint64_t i = 0; i < bytes; i += LINE_BYTES) {
        volatile float *word = (volatile float *)(void *)(s->src + i);
        *word = *word;
    }
}

/* And after: it reads the result. */
static void read_result(const struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    uint64_t bytes = is_one_of(s, shapes[o->op].result, number) ? crew_dst_bytes(s, o) : 0;
    for (uint64_t i = 0; i < bytes; i += LINE_BYTES) {
        (void)*(volatile float *)(void *)(s->dst + i);
    }
}

static void run_one(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    write_source(s, o, number);
    s->run(s, o, number);
    read_result(s, o, number);
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
    futex_wake(&page->ready, 1);
    for (uint32_t turn = 0;; turn++) {
        while (a32_acquire(&page->gate) == turn) { /* pairs with crew_run */
            futex_sleep(&page->gate, turn, NULL);
        }
        if (page->leave) {
            return;
        }
        crew_measure(s, &page->order, &page->result[s->rank]);
        if (atomic_fetch_sub(&page->left, 1) == 1) {
            futex_wake(&page->left, 1);
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

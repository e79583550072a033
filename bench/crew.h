/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A crew: processes that carry out measuring orders together. The floor is one (floor.h), each peer is one (peer/),
 * and the tasks of a worker measure with the same loop, so that all are timed alike: what has been warmed up is
 * run `count` times between two readings of the clock, and the time of an operation is that of the slowest rank. Around
 * each collective every rank writes a word of each line of its source, and reads one of each line of its result, as a
 * program would: data that never changes stays in everybody's caches, and who reads it there has moved nothing. Around a put
 * and a get nobody does: there the copy itself is the question.
 *
 * Between orders a crew sleeps on a word of its page, also that of a peer whose library would spin: the parties of
 * a round take turns within milliseconds and none disturbs another.
 */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/atomic.h"

enum crew_op {
    CREW_BARRIER,
    CREW_BROADCAST,
    CREW_ALL_REDUCE,
    CREW_ALL_GATHER,
    CREW_ALL_TO_ALL,
    CREW_REDUCE_SCATTER,
    CREW_REDUCE,
    CREW_GATHER,
    CREW_SCATTER,
    CREW_SCAN,
    CREW_EXSCAN,
    CREW_ALL_GATHER_V,
    CREW_GATHER_V,
    CREW_SCATTER_V,
    CREW_REDUCE_SCATTER_V,
    CREW_ALL_TO_ALL_V,
    CREW_PUT,        /* rank 0 puts into the window of rank 1, complete there each time */
    CREW_GET,        /* and gets from it */
    CREW_SIGNAL,     /* rank 0 sets a flag at rank 1, which waits for it and answers in kind */
    CREW_PUT_SIGNAL, /* the same behind bytes that the other reads */
    CREW_OPS
};

enum { CREW_RANKS_MAX = 64, CREW_NAME = 32 };
/* Bits of operations: all of them, those of all ranks, and those in which more than one takes part. */
#define CREW_ALL ((1u << CREW_OPS) - 1)
#define CREW_COLLECTIVE ((1u << CREW_PUT) - 1)
#define CREW_TOGETHER (CREW_ALL & ~(1u << CREW_PUT | 1u << CREW_GET))

/* bytes: of the vector, or of the part of one rank where there are parts. All values are f32, the operation of reductions
 * is the sum. The root is number % size, and every other scan goes over the ranks backwards, so that nobody runs ahead.
 * The broadcast is in place, dst == src. Parts of the forms with counts are an eighth smaller and larger in turn. */
struct crew_order {
    uint32_t op;
    uint32_t warm, count;
    uint32_t check; /* also run it once on known values and compare */
    uint64_t bytes;
};

struct crew_result {
    double ns;      /* of one operation; 0: this crew does not have it */
    uint32_t wrong; /* elements that were not as they should be */
    uint32_t reserved[13];
};

struct crew_page {
    a32 gate; /* w: the bench. Counts orders; the ranks sleep on it */
    uint8_t reserved0[60];
    a32 left; /* ranks that have not carried out the order; the last one wakes the bench */
    uint8_t reserved1[60];
    a32 ready; /* ranks that have arrived */
    uint32_t leave;
    uint64_t bytes_max;
    struct crew_order order;
    uint8_t reserved2[16];
    struct crew_result result[CREW_RANKS_MAX];
};

/* How one rank of some kind does it. */
struct crew_side {
    uint32_t rank, size;
    uint32_t ops; /* bits: those it has */
    uint8_t *src, *dst;
    void *ctx;
    /* Makes src and dst large enough for the order. */
    void (*prepare)(struct crew_side *s, const struct crew_order *o);
    void (*sync)(struct crew_side *s);
    void (*run)(struct crew_side *s, const struct crew_order *o, uint32_t number);
};

/* "all_gather" */
const char *crew_op_text(uint32_t op);
/* What src and dst of a rank hold. */
uint64_t crew_src_bytes(const struct crew_side *s, const struct crew_order *o);
uint64_t crew_dst_bytes(const struct crew_side *s, const struct crew_order *o);
/* The rank that has the data or gets the result; any, where there is no root. */
uint32_t crew_root(const struct crew_side *s, uint32_t number);

/* Whether a scan goes from the last rank to the first. */
bool crew_is_backwards(uint32_t number);

/* Elements of part `part`, and of the parts before it. Where all exchange with all, part r of rank `rank` is what it and r
 * exchange in either direction; else `rank` is of no importance. */
uint64_t crew_count(const struct crew_order *o, uint32_t rank, uint32_t part);
uint64_t crew_first(const struct crew_order *o, uint32_t rank, uint32_t part);

/* Reads all of it, as who receives something does. */
void crew_read(const void *data, uint64_t bytes);
/* Carries out one order. */
void crew_measure(struct crew_side *s, const struct crew_order *o, struct crew_result *ret);
/* A rank's whole life: orders, until it shall leave. */
void crew_serve(struct crew_side *s, struct crew_page *page);
/* For programs of their own: the page by the path that they were given; NULL when it cannot be had. Also pins the
 * process to core rank % cores and ties its life to its parent's. */
struct crew_page *crew_attach(const char *path, uint32_t rank);

/* ---- the bench's side (crew_bench.c) ---- */

struct crew {
    char name[CREW_NAME]; /* "" : there is none */
    struct crew_page *page;
    uint32_t size;
    int page_fd;
    pid_t pids[CREW_RANKS_MAX]; /* of the ranks, or of their launcher */
    uint32_t pid_count;
};

/* Forks `size` ranks that call run(arg, rank, page) and pins them like chips. */
void crew_fork(struct crew *c, const char *name, uint32_t size, uint64_t bytes_max,
               void (*run)(void *arg, uint32_t rank, struct crew_page *page), void *arg);
/* Starts a launcher; the word "PAGE" in argv becomes the path of the page. false: they did not all come. */
bool crew_launch(struct crew *c, const char *name, uint32_t size, uint64_t bytes_max,
                 char *const argv[]);
/* The slowest rank's time in ns; 0 when the crew does not have the operation, < 0 when it has died or hangs, or
 * the result was wrong: then it is stopped and its name is "". */
double crew_run(struct crew *c, const struct crew_order *o);
void crew_stop(struct crew *c);

#endif

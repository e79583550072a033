/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A contender: a peer that runs tasks, as a program of its own (peer/). It reads orders from its standard input, a line
 * each, and answers each with a line: a number, for most orders nanoseconds of one task; 0 when it does not have the order.
 * Between orders all its threads are stopped by a signal: runtimes of threads spin while they wait, and would be in the way of
 * whoever's turn it is.
 */
#ifndef BENCH_CONTENDER_H
#define BENCH_CONTENDER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct contender {
    char name[32]; /* "": there is none (any more) */
    pid_t pid;
    int to, from;
    char rest[256]; /* read behind the last line */
    uint32_t rest_count;
};

/* Starts peer/PROGRAM beside this one with one argument, `workers`, on all cores. environment: "NAME=VALUE" words, then NULL;
 * or NULL. false, with a note, when it was not built or does not come up: it says "ready" first. */
bool contender_start(struct contender *c, const char *name, const char *program, uint32_t workers,
                     const char *const *environment);
/* The answer to an order; 0 when it does not have it, or has died or taken more than a minute: then it is stopped, with a note. */
double contender_ask(struct contender *c, const char *order, ...)
    __attribute__((format(printf, 2, 3)));
void contender_stop(struct contender *c);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Chaos mode of sim (TRANSOM_CHAOS=seed): what a task puts, sets and adds is held back and applied later, in any
 * order that task.h allows. Off, it costs one look at a flag that is false. Chip processes, inside a task.
 * docs/task.md.
 */
#ifndef CHIP_CHAOS_H
#define CHIP_CHAOS_H

#include "chip/word.h"

extern bool chaos_armed;

/* `count` pieces of `bytes` each; steps from one to the next, in bytes. */
struct copy {
    void *to;
    const void *from;
    uint64_t bytes, count, to_step, from_step;
};

/* One changed word, and what it may not overtake. */
enum word_kind {
    WORD_PUT,    /* p: a strong signal waits for it */
    WORD_ATOMIC, /* nothing */
    WORD_SIGNAL, /* nothing */
    WORD_STRONG, /* all earlier puts to the same rank */
    WORD_OWN_PUT /* the put that was given just before */
};
struct word {
    void *at;
    uint64_t value;
    uint32_t bytes;
    enum change how;
    enum word_kind kind;
};

/* Hold back. rank: of c. nbi: the source is read when it is applied. */
void chaos_put(tsm_ctx *c, uint32_t rank, const struct copy *x, bool nbi);
void chaos_get(tsm_ctx *c, uint32_t rank, const struct copy *x);
void chaos_word(tsm_ctx *c, uint32_t rank, const struct word *x);

/* The following may be called whether it is on or not. */

/* A library call that holds nothing back: applies some by chance. */
void chaos_step(tsm_ctx *c);
/* tsm_fence: what is held back later goes after what is held back now, for each rank. */
void chaos_fence(tsm_ctx *c);
/* Before an atomic that answers: what was fenced off before it is at that rank. */
void chaos_settle(tsm_ctx *c, uint32_t rank);
/* Everything of the domain, of one rank of it, all signals of it. */
void chaos_quiet(tsm_ctx *c);
void chaos_quiet_rank(tsm_ctx *c, uint32_t rank);
void chaos_signals(tsm_ctx *c);
/* Before the task sleeps: everything that others could wait for, of all domains. */
void chaos_sleep(tsm_ctx *c);
/* Gives the core away a few times, by chance. */
void chaos_pause(tsm_ctx *c);

/* Around a task: a seed for its choices and a late begin; everything, unless the run has failed. */
void chaos_task_begin(struct chip *c, const struct record *rec);
void chaos_task_end(tsm_task *t);

#endif

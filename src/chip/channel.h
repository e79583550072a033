/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Channels: queues of one-line messages between the ranks of a domain, in the areas behind their windows
 * (shm/layout.h). Every message says what its sender calls; who takes it compares. Chip processes, inside a task.
 *
 * A message to a rank goes to line number % depth. The sender first has the credit: that rank has taken message
 * number - depth. Who takes messages posts credit every depth / 2 of them, and at once for one that lends. So a rank may
 * give another at most depth / 2 + 1 messages before it takes one of it: else both might wait for credit.
 * A payload travels in the message, in a stage slot of the sender (copied: the sender goes on), or is lent: the
 * message points into the sender's window and the sender waits for the credit. docs/collectives.md.
 */
#ifndef CHIP_CHANNEL_H
#define CHIP_CHANNEL_H

#include "chip/chip.h"
#include "shm/call.h"

/* The area behind the window of a domain rank, and its parts. */
static inline struct sync_head *sync_of(const tsm_ctx *c, uint32_t rank)
{
    return (struct sync_head *)(void *)(window_of(c, rank) + c->area);
}

static inline struct sync_peer *sync_peers(const tsm_ctx *c)
{
    return (struct sync_peer *)(sync_of(c, c->self) + 1);
}

/* Behind the window of `to`: what `from` has taken of what `to` sent it. */
static inline struct sync_credit *sync_credit_of(const tsm_ctx *c, uint32_t to, uint32_t from)
{
    uint8_t *area = (uint8_t *)sync_of(c, to);
    return (struct sync_credit *)(area + sync_credit_offset(c->desc->size)) + from;
}

static inline uint64_t stamp_of(const tsm_ctx *c, uint64_t number)
{
    return (uint64_t)c->generation << STAMP_NUMBER | number;
}

struct call call_make(const tsm_ctx *c, enum call_kind kind, int dtype, int op, uint32_t root,
                      uint64_t count, tsm_sym dst, tsm_sym src);

/* A message that has been taken, still in its line. */
struct taken {
    const void *data; /* in the line, the sender's stage or its window */
    uint32_t rank;    /* domain rank of the sender */
    bool lent;
};

/* To be called first in every collective: 0, or why it cannot begin. `call` is shown to who asks what this rank does. */
int channel_begin(tsm_ctx *c, const struct call *call);

/* What one collective sends. {call} to begin with. */
struct giving {
    const struct call *call;
    const uint8_t *staged; /* what of the own window lies in the stage slots; NULL: nothing */
    uint64_t staged_bytes;
    uint32_t slot, slots;
    bool lent; /* to anybody */
};

/* Whether so many bytes of a rank go to the stage when it is free: the same answer on every rank. */
bool channel_stages(const tsm_ctx *c, uint64_t bytes);
/* Copies bytes of the own window into stage slots if they fit and some are free, so that what channel_give sends from
 * there need not be lent. */
void channel_stage(tsm_ctx *c, struct giving *g, const void *data, uint64_t bytes);
/* One message to `rank` (of the sub-group) with bytes at data in the own window (NULL: none). Wakes nobody yet. */
int channel_give(tsm_ctx *c, struct giving *g, uint32_t rank, const void *data, uint64_t bytes);
/* Wakes whom messages and credits are for, with one fence for all. Every wait here does it first; to be called
 * where something else takes time. */
void channel_flush(tsm_ctx *c);
/* The end of a collective: waits until what was lent has been read. */
int channel_finish(tsm_ctx *c, const struct giving *g);

/* The next message of `rank`, waiting for it. Its data is valid until channel_release. bytes: what is
 * expected, else it is misuse. */
int channel_take(tsm_ctx *c, const struct call *call, uint32_t rank, uint64_t bytes,
                 struct taken *ret);
void channel_release(tsm_ctx *c, const struct taken *t);

/* chip/push.c. What does not fit the stage is stored by who has it into the window of who wants it, once that one is there and
 * has said where. A store of whole lines that another core holds costs less than a load of them, and the lines of the
 * source stay where they will be written next. */

/* Says to `rank` where in the own window its bytes shall be. Wakes nobody yet. */
int push_invite(tsm_ctx *c, struct giving *g, uint32_t rank, const void *to, uint64_t bytes);
/* Waits for the invitation of `rank` and follows it. Wakes nobody yet. */
int push_follow(tsm_ctx *c, struct giving *g, uint32_t rank, const void *data, uint64_t bytes);
/* Waits until what `rank` was invited to store is there. */
int push_await(tsm_ctx *c, const struct call *call, uint32_t rank);

/* chip/barrier.c: one round of everybody waits for everybody, as part of `call`. */
int barrier_round(tsm_ctx *c, const struct call *call);

#endif

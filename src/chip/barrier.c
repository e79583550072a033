/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Everybody waits for everybody: flat (a message to each) for few ranks, the dissemination barrier of Hensgen, Finkel
 * and Manber (1988) for many. When chips share cores a flat one needs fewer turns of each. Chip processes, inside
 * a task. The model is tests/model/barrier.pml. docs/collectives.md.
 */
#include "chip/channel.h"
#include "chip/chaos.h"

static int flat(tsm_ctx *c, const struct call *call)
{
    struct giving g = {.call = call};
    struct taken t;
    int rc = 0;
    for (uint32_t i = 1; i < c->size && rc == 0; i++) {
        rc = channel_give(c, &g, other_rank(c, i), NULL, 0);
    }
    for (uint32_t i = 1; i < c->size && rc == 0; i++) {
        rc = channel_take(c, call, other_rank(c, i), 0, &t);
        if (rc == 0) {
            channel_release(c, &t);
        }
    }
    return rc != 0 ? rc : channel_finish(c, &g);
}

static int disseminate(tsm_ctx *c, const struct call *call)
{
    struct giving g = {.call = call};
    struct taken t;
    for (uint32_t step = 1; step < c->size; step *= 2) {
        uint32_t to = (c->rank + step) % c->size;
        int rc = channel_give(c, &g, to, NULL, 0);
        if (rc == 0) {
            rc = channel_take(c, call, (c->rank + c->size - step) % c->size, 0, &t);
        }
        if (rc != 0) {
            return rc;
        }
        channel_release(c, &t);
    }
    return channel_finish(c, &g);
}

int barrier_round(tsm_ctx *c, const struct call *call)
{
    return c->size <= c->chip->arena.ctl->info.tuning.flat_ranks_max ? flat(c, call)
                                                                     : disseminate(c, call);
}

static int meet(tsm_ctx *c, enum call_kind kind)
{
    struct call call = call_make(c, kind, 0, 0, 0, 0, (tsm_sym){0}, (tsm_sym){0});
    int rc = channel_begin(c, &call);
    return rc != 0 ? rc : barrier_round(c, &call);
}

int tsm_sync(tsm_ctx *c)
{
    chaos_signals(c);
    return meet(c, CALL_SYNC);
}

int tsm_barrier(tsm_ctx *c)
{
    int rc = tsm_quiet(c);
    return rc != 0 ? rc : meet(c, CALL_BARRIER);
}

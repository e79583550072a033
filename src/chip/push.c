/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Stores into the windows of others, by invitation (channel.h): a message that says where, the data, a message that it is
 * there. Chip processes, inside a task. What an invitation says is read once and checked. docs/collectives.md.
 */
#include <string.h>

#include "chip/channel.h"
#include "chip/copy.h"

/* In the window of who sends it. */
struct place {
    uint64_t offset, bytes;
};

int push_invite(tsm_ctx *c, struct giving *g, uint32_t rank, const void *to, uint64_t bytes)
{
    struct place x = {(uint64_t)((const uint8_t *)to - window_of(c, c->self)), bytes};
    return channel_give(c, g, rank, &x, sizeof(x));
}

int push_follow(tsm_ctx *c, struct giving *g, uint32_t rank, const void *data, uint64_t bytes)
{
    struct taken t;
    struct place x;
    int rc = channel_take(c, g->call, rank, sizeof(x), &t);
    if (rc != 0) {
        return rc;
    }
    memcpy(&x, t.data, sizeof(x));
    channel_release(c, &t);
    uint64_t most = c->desc->stride - sync_bytes(c->desc->size);
    if (x.bytes != bytes || x.offset > most || bytes > most - x.offset) {
        rc = ctx_refuse(c, TSM_EINVAL, "rank %u sends %llu bytes, rank %u expects %llu", c->rank,
                        (unsigned long long)bytes, rank, (unsigned long long)x.bytes);
        tsm_abort(c, TSM_EINVAL);
        return rc;
    }
    copy_bytes(window_of(c, domain_rank(c, rank)) + x.offset, data, bytes);
    return channel_give(c, g, rank, NULL, 0);
}

int push_await(tsm_ctx *c, const struct call *call, uint32_t rank)
{
    struct taken t;
    int rc = channel_take(c, call, rank, 0, &t);
    if (rc == 0) {
        channel_release(c, &t);
    }
    return rc;
}

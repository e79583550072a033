/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Collectives as texts. Any process; what it reads may have been written by another. */
#include "shm/call.h"

#include <stdio.h>

#include "transom/task.h"

static const char *const kind_names[CALL_KINDS] = {
    [CALL_SYNC] = "sync",
    [CALL_BARRIER] = "barrier",
    [CALL_BROADCAST] = "broadcast",
    [CALL_ALL_GATHER] = "all_gather",
    [CALL_GATHER] = "gather",
    [CALL_SCATTER] = "scatter",
    [CALL_ALL_TO_ALL] = "all_to_all",
    [CALL_ALL_TO_ALL_V] = "all_to_all_v",
    [CALL_ALL_GATHER_V] = "all_gather_v",
    [CALL_GATHER_V] = "gather_v",
    [CALL_SCATTER_V] = "scatter_v",
    [CALL_REDUCE] = "reduce",
    [CALL_ALL_REDUCE] = "all_reduce",
    [CALL_REDUCE_SCATTER] = "reduce_scatter",
    [CALL_REDUCE_SCATTER_V] = "reduce_scatter_v",
    [CALL_SCAN] = "scan",
    [CALL_EXSCAN] = "exscan",
};

static const char *op_name(uint32_t op)
{
    static const char *const names[] = {"?", "sum", "prod", "min", "max", "and", "or", "xor"};
    return op >= OP_USER ? "a user's operation" : op <= TSM_XOR ? names[op] : "?";
}

void call_say(const struct call *call, char *to, size_t bytes)
{
    uint32_t kind = call->word & 0xff, dtype = call->word >> 8 & 0xff, op = call->word >> 16 & 0xff;
    uint32_t root = call->word >> 32 & 0xffff;
    const char *name = kind < CALL_KINDS && kind_names[kind] ? kind_names[kind] : "?";
    bool counted = kind != CALL_ALL_TO_ALL_V && kind != CALL_ALL_GATHER_V &&
                   kind != CALL_GATHER_V && kind != CALL_SCATTER_V && kind != CALL_REDUCE_SCATTER_V;
    bool rooted = kind == CALL_BROADCAST || kind == CALL_GATHER || kind == CALL_SCATTER ||
                  kind == CALL_GATHER_V || kind == CALL_SCATTER_V || kind == CALL_REDUCE;
    int n = snprintf(to, bytes, "%s(", name);
    if (dtype != 0 && counted) {
        n += snprintf(to + n, bytes - (size_t)n, "count %llu, ", (unsigned long long)call->count);
    }
    if (dtype != 0) {
        n += snprintf(to + n, bytes - (size_t)n, "%s", tsm_dtype_name((int)dtype));
    }
    if (op != 0) {
        n += snprintf(to + n, bytes - (size_t)n, ", %s", op_name(op));
    }
    if (rooted) {
        n += snprintf(to + n, bytes - (size_t)n, ", root %u", root);
    }
    snprintf(to + n, bytes - (size_t)n, ")");
}

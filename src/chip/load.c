/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Callables in a chip or sub process: from the shared table of names to functions of this process. Owns the private
 * table of what is loaded. docs/chip.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "chip/chip.h"

static const char *string_at(uint64_t address)
{
    return address ? (const char *)(uintptr_t)address : NULL;
}

static int grow(struct chip *c, uint64_t count)
{
    uint64_t want = c->loaded_count ? c->loaded_count * 2 : 64;
    while (want < count) {
        want *= 2;
    }
    struct loaded *more = realloc(c->loaded, want * sizeof(*more));
    if (!more) {
        return TSM_ENOMEM;
    }
    memset(more + c->loaded_count, 0, (want - c->loaded_count) * sizeof(*more));
    c->loaded = more;
    c->loaded_count = want;
    return 0;
}

int load_callable(struct chip *c, uint64_t index, uint32_t generation, tsm_task_fn **ret,
                  char *text, size_t text_bytes)
{
    if (index < c->loaded_count && c->loaded[index].function &&
        c->loaded[index].generation == generation) {
        *ret = c->loaded[index].function;
        return 0;
    }
    if (index >= c->loaded_count && grow(c, index + 1) != 0) {
        snprintf(text, text_bytes, "no memory for the table of callables");
        return TSM_ENOMEM;
    }
    const struct callable *entry = &c->arena.callables[index];
    const char *path = string_at(entry->path);
    uint64_t offset = path ? entry->symbol_offset : entry->function;
    tsm_task_fn *function;
    int fault = TSM_FAULT("load");
    if (fault != 0) {
        snprintf(text, text_bytes, "%s", strerror(fault));
        return TSM_ENOENT;
    }
    int rc = c->backend->load(c->device, path, string_at(entry->symbol), offset, &function, text,
                              text_bytes);
    if (rc == 0) {
        c->loaded[index].function = function;
        c->loaded[index].generation = generation;
        *ret = function;
    }
    return rc;
}

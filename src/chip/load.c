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

static void unload(struct loaded *l)
{
    if (l->function && l->unload) {
        l->unload(l->arg);
    }
    memset(l, 0, sizeof(*l));
}

/* A function of the callable's object that is not a task's. */
typedef void other_fn(void);
static int find_other(struct chip *c, const char *path, uint64_t symbol, other_fn **ret, char *text,
                      size_t text_bytes)
{
    tsm_task_fn *found = NULL;
    int rc = c->backend->load(c->device, path, string_at(symbol), 0, &found, text, text_bytes);
    *ret = (other_fn *)found;
    return rc;
}

/* Lets the callable's own code make it ready. */
static int make_ready(struct chip *c, const struct callable *entry, struct loaded *l, char *text,
                      size_t text_bytes)
{
    const struct callable_loading *loading = (const void *)(uintptr_t)entry->loading;
    const char *path = string_at(entry->path);
    other_fn *fn = NULL;
    int rc = 0;
    if (loading->unload) {
        rc = find_other(c, path, loading->unload, &fn, text, text_bytes);
        l->unload = (tsm_unload_fn *)fn;
    }
    rc = rc != 0 ? rc : find_other(c, path, loading->load, &fn, text, text_bytes);
    if (rc != 0) {
        return rc;
    }
    text[0] = 0;
    rc = ((tsm_load_fn *)fn)((const void *)(uintptr_t)loading->data, loading->bytes, &l->arg, text,
                             text_bytes);
    text[text_bytes - 1] = 0;
    if (rc != 0 && text[0] == 0) {
        snprintf(text, text_bytes, "%s returned %d", string_at(loading->load), rc);
    }
    return rc != 0 ? TSM_ENOENT : 0;
}

int load_callable(struct chip *c, uint64_t index, uint32_t generation, struct loaded *ret,
                  char *text, size_t text_bytes)
{
    if (index < c->loaded_count && c->loaded[index].function &&
        c->loaded[index].generation == generation) {
        *ret = c->loaded[index];
        return 0;
    }
    if (index >= c->loaded_count && grow(c, index + 1) != 0) {
        snprintf(text, text_bytes, "no memory for the table of callables");
        return TSM_ENOMEM;
    }
    const struct callable *entry = &c->arena.callables[index];
    const char *path = string_at(entry->path);
    uint64_t offset = path ? entry->symbol_offset : entry->function;
    struct loaded fresh = {.generation = generation};
    int fault = TSM_FAULT("load");
    if (fault != 0) {
        snprintf(text, text_bytes, "%s", strerror(fault));
        return TSM_ENOENT;
    }
    unload(&c->loaded[index]);
    int rc = c->backend->load(c->device, path, string_at(entry->symbol), offset, &fresh.function,
                              text, text_bytes);
    if (rc == 0 && entry->loading) {
        rc = make_ready(c, entry, &fresh, text, text_bytes);
    }
    if (rc == 0) {
        c->loaded[index] = fresh;
        *ret = fresh;
    }
    return rc;
}

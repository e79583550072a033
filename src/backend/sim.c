/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The sim backend: a chip is its process, its memory is the arena's, its kernels are C functions. The reference
 * for all others; runs everything in every test. Subs use it too. Chip processes. docs/backend.md.
 */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "backend/registry.h"

static int sim_probe(uint32_t chips, char *text, size_t text_bytes)
{
    (void)chips;
    (void)text;
    (void)text_bytes;
    return 0;
}

static int sim_open(uint32_t chip, void **ret, char *text, size_t text_bytes)
{
    (void)chip;
    (void)text;
    (void)text_bytes;
    *ret = NULL;
    return 0;
}

static void sim_close(void *device)
{
    (void)device;
}

static int sim_zero(void *device, void *data, uint64_t bytes)
{
    (void)device;
    memset(data, 0, bytes);
    return 0;
}

static int sim_load(void *device, const char *path, const char *symbol, uint64_t offset,
                    tsm_task_fn **ret, char *text, size_t text_bytes)
{
    (void)device;
    void *found = NULL;
    if (!path) {
        found = (void *)(uintptr_t)offset;
    } else {
        void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (object && symbol) {
            found = dlsym(object, symbol);
        } else if (object) {
            struct link_map *map = NULL;
            if (dlinfo(object, RTLD_DI_LINKMAP, &map) == 0) {
                found = (void *)(uintptr_t)(map->l_addr + offset);
            }
        }
    }
    if (!found) {
        const char *why = dlerror();
        snprintf(text, text_bytes, "%s", why ? why : "no such function");
        return TSM_ENOENT;
    }
    memcpy(ret, &found, sizeof(found)); /* POSIX: a function's address fits a void * */
    return 0;
}

static int sim_launch(void *device, tsm_task_fn *function, tsm_task *task)
{
    (void)device;
    return function(task);
}

const struct tsm_backend backend_sim = {
    .abi = TSM_BACKEND_ABI,
    .name = "sim",
    .probe = sim_probe,
    .open = sim_open,
    .close = sim_close,
    .zero = sim_zero,
    .load = sim_load,
    .launch = sim_launch,
};

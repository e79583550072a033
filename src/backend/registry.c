/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The list of backends. A new one is a file of its own with one exported table, and a line here. */
#include "backend/registry.h"

#include <string.h>

static const struct tsm_backend *const backends[] = {&backend_sim};

const struct tsm_backend *backend_find(const char *name)
{
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
        if (strcmp(backends[i]->name, name) == 0) {
            return backends[i];
        }
    }
    return NULL;
}

const char *backend_names(void)
{
    return "sim";
}

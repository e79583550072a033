/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The backends of this build. Any process. */
#ifndef BACKEND_REGISTRY_H
#define BACKEND_REGISTRY_H

#include "transom/backend.h"

extern const struct tsm_backend backend_sim;

/* NULL when there is none of that name. */
const struct tsm_backend *backend_find(const char *name);
/* Names of all, separated by ", ". */
const char *backend_names(void);

#endif

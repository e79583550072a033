/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * backend.h: what a kind of chip has to provide. One table per backend, linked into the library; the
 * driver of a device is loaded at run time, so every build contains every backend.
 *
 * Beside each operation: the process that calls it, whether it may block, what it may return, who owns what.
 * Operations return 0 or a negative TSM_E code; text (of text_bytes, may be NULL) takes one line of fact.
 */
#ifndef TRANSOM_BACKEND_H
#define TRANSOM_BACKEND_H

#include "transom/transom.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TSM_BACKEND_ABI = 1 };

struct tsm_backend {
    uint32_t abi; /* TSM_BACKEND_ABI */
    const char *name;

    /* Orchestrator, when a worker is created; may block shortly; makes nothing. 0 when `chips` chips can be
     * driven here, EUNSUPPORTED with the reason. */
    int (*probe)(uint32_t chips, char *text, size_t text_bytes);

    /* Chip process, once, before it says that it is ready; may block. *ret is the backend's own and is given
     * to every operation below. */
    int (*open)(uint32_t chip, void **ret, char *text, size_t text_bytes);

    /* Chip process, at its end; may block. Not called when the process is killed. */
    void (*close)(void *device);

    /* Chip process, between tasks; may block. Sets `bytes` at `data` in this chip's memory to zero and is
     * complete on return. */
    int (*zero)(void *device, void *data, uint64_t bytes);

    /* Chip process, between tasks; may block. Finds `symbol` in the object file `path`; path NULL: `symbol` is NULL
     * too and offset is the address of a function of this program. symbol NULL: `offset` bytes from the object's
     * base. The code stays loaded until close. Asked for a callable's tsm_load_fn and tsm_unload_fn too, by symbol; these run
     * on the host. ENOENT. */
    int (*load)(void *device, const char *path, const char *symbol, uint64_t offset,
                tsm_task_fn **ret, char *text, size_t text_bytes);

    /* Chip process; runs the task to its end. Returns what the task returned. */
    int (*launch)(void *device, tsm_task_fn *function, tsm_task *task);
};

#ifdef __cplusplus
}
#endif
#endif

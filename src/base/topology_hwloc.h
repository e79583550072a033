/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What topology.c uses of the binary interface 2.x of hwloc, so that neither its header nor its library is needed
 * to build. tests/unit/topology.c compares it with hwloc.h where that is installed. Any process.
 */
#ifndef BASE_TOPOLOGY_HWLOC_H
#define BASE_TOPOLOGY_HWLOC_H

#include <stdint.h>

enum {
    HWLOC_MAJOR = 2,
    HWLOC_TYPE_CORE = 2,
    HWLOC_TYPE_PU = 3,
    HWLOC_DEPTH_NUMA = -3,
    HWLOC_BIND_PROCESS = 1
};

/* struct hwloc_obj up to the last field used. */
struct hwloc_object {
    int type;
    char *subtype;
    unsigned os_index;
    char *name;
    uint64_t total_memory;
    void *attr;
    int depth;
    unsigned logical_index;
    void *next_cousin, *prev_cousin, *parent;
    unsigned sibling_rank;
    void *next_sibling, *prev_sibling;
    unsigned arity;
    void *children, *first_child, *last_child;
    int symmetric_subtree;
    unsigned memory_arity;
    void *memory_first_child;
    unsigned io_arity;
    void *io_first_child;
    unsigned misc_arity;
    void *misc_first_child;
    void *cpuset;
};

#endif

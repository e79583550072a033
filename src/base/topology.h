/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Cores, NUMA nodes and memory limits of this machine and control group. hwloc is loaded at run time when it is
 * there; only pinning needs it. Any process.
 */
#ifndef BASE_TOPOLOGY_H
#define BASE_TOPOLOGY_H

#include <stddef.h>
#include <stdint.h>

/* Cores this process may run on. */
uint32_t topology_cores(void);
/* Bytes of memory that this process's control groups and the machine let it use: the smallest limit. Cached
 * for the life of the process. */
uint64_t topology_memory_limit(void);
/* What is still free of it now: limit minus what the control group uses, at most MemAvailable. File cache that
 * the kernel can drop counts as free. */
uint64_t topology_memory_free(void);

/* What stands in the control groups, from this process's own up to the root, and in /proc/meminfo. */
struct topology_limits {
    uint64_t memory_total; /* of the machine */
    uint64_t memory_limit, memory_free;
    uint64_t cpu_millis;     /* per second, that the quota allows; UINT64_MAX: no quota */
    uint64_t processes_left; /* until pids.max is reached; UINT64_MAX: no limit */
};
/* Reads them now. `root` is put before every path: "" is this machine, else a made-up tree of a test. */
void topology_read(const char *root, struct topology_limits *ret);

/* 0 when hwloc can be loaded, else TSM_EUNSUPPORTED with the reason. What it has learned it keeps, also for
 * children that are forked later: pinning them is quick then. */
int topology_can_pin(char *text, size_t text_bytes);
/* Binds the calling process: pin is enum tsm_pin; place `index` of `count` takes core (or NUMA node) index modulo
 * their number, of those that the process may use. So chips 0, 1, ... sit on neighbouring cores, or take the
 * nodes in turn, however many subs there are beside them. 0 or TSM_EUNSUPPORTED with the reason. */
int topology_pin(int pin, uint32_t index, uint32_t count, char *text, size_t text_bytes);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A live worker seen from outside: its shared memory, found through the keeper's descriptors in /proc, mapped
 * read-only. The worker need not answer, and nothing that it wrote is trusted. Command line tool.
 */
#ifndef CLI_SNAPSHOT_H
#define CLI_SNAPSHOT_H

#include <stdbool.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "shm/arena.h"

/* `info` is a checked copy. Of `arena` are set: ctl, keeper, pages, pool, rings, callables and the
 * numbers; they point into mappings of this process, not to the worker's addresses. */
struct snapshot {
    pid_t keeper;
    struct arena_info info;
    struct arena arena;
    void *ctl_map, *pages_map;
    int data_fd; /* -1: not readable */
};

/* Process ids of all keepers of this user, as root of all users; free() *ret. Count or -1 with errno. */
int snapshot_find(pid_t **ret);
/* 0, or -1 with one line in *why and nothing to close. */
int snapshot_open(struct snapshot *s, pid_t keeper, struct text *why);
void snapshot_close(struct snapshot *s);

/* Name of a callable by index, "?" when there is none. */
struct text snapshot_callable(const struct snapshot *s, uint32_t index);
/* The 64-bit word that tasks see at `address` in heaps, host memory or windows. */
bool snapshot_word(const struct snapshot *s, uint64_t address, uint64_t *ret);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The keeper as a program of its own, for start method spawn: what it is told on its command line. */
#ifndef KEEPER_PROGRAM_H
#define KEEPER_PROGRAM_H

#include <stdint.h>

#include "shm/arena.h"

enum { KEEPER_EXIT_TAKEN = 75, KEEPER_EXIT_USAGE = 64, KEEPER_ARGS_BYTES = 256 };

struct keeper_args {
    uint64_t base, bytes;
    int fd[ARENA_FDS], ro_fd[ARENA_FDS];
    int event_fd, lifeline_fd;
    int orchestrator;
    int pin;
};

void keeper_args_write(const struct keeper_args *args, char text[KEEPER_ARGS_BYTES]);
/* 0, or -1 when the text is not one that keeper_args_write made. */
int keeper_args_read(struct keeper_args *args, const char *text);

/* Where the program is: $TRANSOM_KEEPER, ../libexec/transom beside the library, or where it was installed. */
void keeper_program_path(char *ret, size_t bytes);

#endif

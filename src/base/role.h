/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What this process is to the library, so that a call from the wrong one is refused: a task that captured
 * the worker of its parent, or a child that the program forked on its own.
 */
#ifndef BASE_ROLE_H
#define BASE_ROLE_H

enum role { ROLE_PROGRAM, ROLE_CHILD };

enum role role_get(void);
void role_set(enum role role);
/* How often this process's ancestors forked since role_watch_forks: differs in a child that the program forked. */
unsigned role_forks(void);
void role_watch_forks(void);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Fault points: named places where a test kills, delays or fails a process. They are in every build (what
 * is tested is what ships) and cost one load of a flag that is false. Armed by TRANSOM_FAULT in the
 * environment when a worker is created:
 *
 *   TRANSOM_FAULT = fault[,fault...]     fault = POINT:ACTION[:NTH[:PLACE]]
 *   POINT   a name given to TSM_FAULT, or sys.<call> for a system call
 *   ACTION  kill (SIGKILL to itself) | stop (SIGSTOP) | delay=USEC | fail=ERRNO-NUMBER
 *   NTH     the n-th time this process comes by, from 1 [1]
 *   PLACE   only in this process: a chip's index, chips + k for sub k, -1 orchestrator, -2 keeper [any]
 *
 * Every fault but delay fires once in the whole worker, so that a replaced process does not meet it again.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"

enum { FAULT_PLACE_ORCHESTRATOR = -1, FAULT_PLACE_KEEPER = -2 };

extern bool fault_armed;

/* Parses a specification; NULL or "" disarms. 0 or -EINVAL. Forgets what has fired. */
int fault_arm(const char *spec);
/* Says who this process is, and where the bits of what has fired are shared (NULL: private). */
void fault_here(int place, a32 *shared_fired);
/* How many of the armed faults have fired. */
uint32_t fault_fired(void);

/* Errno to fail with, or 0. Does not return for kill. */
int fault_point(const char *name);
/* The same for a system call: sets errno. */
int fault_sys(const char *name);

#define TSM_FAULT(name) (fault_armed ? fault_point(name) : 0)

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Fault points (fault.h). Runs in every process; owns the parsed specification, which children inherit by fork
 * and spawned ones parse again. The bits of what has fired are in shared memory once there is an arena.
 */
#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FAULTS_MAX = 16, ANY_PLACE = -100 };

enum action { ACTION_KILL, ACTION_STOP, ACTION_DELAY, ACTION_FAIL };

struct fault {
    char point[48];
    enum action action;
    long argument;
    uint64_t nth;
    uint64_t seen; /* per process */
    int place;
};

bool fault_armed;
static struct fault faults[FAULTS_MAX];
static uint32_t fault_count;
static int here = FAULT_PLACE_ORCHESTRATOR;
static a32 private_fired;
static a32 *fired = &private_fired;

static int parse_number(const char *word, long min, long *ret)
{
    char *end;
    errno = 0;
    long value = word ? strtol(word, &end, 10) : 0;
    if (!word || end == word || *end || errno != 0 || value < min) {
        return -EINVAL;
    }
    *ret = value;
    return 0;
}

static int parse_action(struct fault *f, const char *word)
{
    if (strcmp(word, "kill") == 0) {
        f->action = ACTION_KILL;
    } else if (strcmp(word, "stop") == 0) {
        f->action = ACTION_STOP;
    } else if (strncmp(word, "delay=", 6) == 0) {
        f->action = ACTION_DELAY;
        return parse_number(word + 6, 0, &f->argument);
    } else if (strncmp(word, "fail=", 5) == 0) {
        f->action = ACTION_FAIL;
        return parse_number(word + 5, 1, &f->argument);
    } else {
        return -EINVAL;
    }
    return 0;
}

static int parse_one(struct fault *f, char *text)
{
    char *save = NULL;
    const char *word = strtok_r(text, ":", &save);
    if (!word || strlen(word) >= sizeof(f->point)) {
        return -EINVAL;
    }
    strcpy(f->point, word);
    word = strtok_r(NULL, ":", &save);
    if (!word || parse_action(f, word) != 0) {
        return -EINVAL;
    }
    word = strtok_r(NULL, ":", &save);
    long nth = 1, place = ANY_PLACE;
    if (word && parse_number(word, 1, &nth) != 0) {
        return -EINVAL;
    }
    word = word ? strtok_r(NULL, ":", &save) : NULL;
    if (word && parse_number(word, FAULT_PLACE_KEEPER, &place) != 0) {
        return -EINVAL;
    }
    f->nth = (uint64_t)nth;
    f->place = (int)place;
    return strtok_r(NULL, ":", &save) ? -EINVAL : 0;
}

int fault_arm(const char *spec)
{
    fault_armed = false;
    fault_count = 0;
    a32_store(&private_fired, 0);
    fired = &private_fired;
    if (!spec || !*spec) {
        return 0;
    }
    char copy[1024];
    if (strlen(spec) >= sizeof(copy)) {
        return -EINVAL;
    }
    strcpy(copy, spec);
    char *save = NULL;
    for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        struct fault f = {0};
        if (fault_count == FAULTS_MAX || parse_one(&f, one) != 0) {
            return -EINVAL;
        }
        faults[fault_count++] = f;
    }
    fault_armed = fault_count > 0;
    return 0;
}

void fault_here(int place, a32 *shared_fired)
{
    for (uint32_t i = 0; i < fault_count && place != here; i++) {
        faults[i].seen = 0; /* inherited by fork: this process has not come by yet */
    }
    here = place;
    uint32_t before = a32_load(fired);
    fired = shared_fired ? shared_fired : &private_fired;
    atomic_fetch_or(fired, before);
}

uint32_t fault_fired(void)
{
    return (uint32_t)__builtin_popcount(a32_load(fired));
}

static void wait_usec(long usec)
{
    struct timespec t = {usec / 1000000, usec % 1000000 * 1000};
    while (nanosleep(&t, &t) != 0) {
    }
}

int fault_point(const char *name)
{
    for (uint32_t i = 0; i < fault_count; i++) {
        struct fault *f = &faults[i];
        if (strcmp(f->point, name) != 0 || (f->place != ANY_PLACE && f->place != here) ||
            ++f->seen < f->nth) {
            continue;
        }
        uint32_t bit = 1u << i;
        if ((atomic_fetch_or(fired, bit) & bit) && f->action != ACTION_DELAY) {
            continue;
        }
        switch (f->action) {
        case ACTION_KILL:
            kill(getpid(), SIGKILL);
            break;
        case ACTION_STOP:
            kill(getpid(), SIGSTOP);
            break;
        case ACTION_DELAY:
            wait_usec(f->argument);
            break;
        case ACTION_FAIL:
            return (int)f->argument;
        }
    }
    return 0;
}

int fault_sys(const char *name)
{
    int err = TSM_FAULT(name);
    if (err != 0) {
        errno = err;
    }
    return err;
}

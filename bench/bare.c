/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The floor of dispatch (bare.h). bare_worker runs in the children, the rest in the benchmark's process. */
#include "bare.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "futex.h"

enum { LOOKS = 64, VALUE_BITS = 48 };

static struct bare_record *slot(const struct bare *b, uint32_t worker, uint64_t number)
{
    return &b->rings[(uint64_t)worker * b->slots + (number & (b->slots - 1))];
}

/* One step of a wait that has not succeeded. */
static void pause_between(const struct bare *b, uint32_t *looks)
{
    if (b->yield && ++*looks == LOOKS) {
        sched_yield();
        *looks = 0;
    }
}

static void wait_word(const struct bare *b, uint64_t wait)
{
    const a64 *word = &b->shared->done[wait >> VALUE_BITS].value;
    uint64_t value = wait & ((UINT64_C(1) << VALUE_BITS) - 1);
    for (uint32_t looks = 0; a64_acquire(word) < value;) {
        pause_between(b, &looks);
    }
}

/* The batch's records until the gate closes. */
static void work(struct bare *b, uint32_t self, uint32_t gate, uint64_t *next)
{
    struct bare_shared *s = b->shared;
    for (uint32_t looks = 0; a32_acquire(&s->gate) == gate;) {
        const struct bare_record *rec = slot(b, self, *next);
        if (a64_acquire(&rec->stamp) != *next) {
            pause_between(b, &looks);
            continue;
        }
        for (uint32_t i = 0; i < rec->wait_count; i++) {
            wait_word(b, rec->waits[i]);
        }
        uint32_t flags = rec->flags;
        if (flags & BARE_CLOCK) {
            s->clocks[rec->clock] = clock_ns();
        }
        a64_release(&s->done[self].value, (*next)++);
        if (flags & BARE_RING) {
            a32_add_full(&s->bell, 1);
            futex_wake(&s->bell, 1);
        }
    }
}

static _Noreturn void bare_worker(struct bare *b, uint32_t self, uint32_t core)
{
    uint64_t next = 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pin_self(core);
    for (;;) {
        uint32_t gate = a32_acquire(&b->shared->gate);
        if (gate & 1) {
            a64_release(&b->shared->awake[self].value, gate);
            work(b, self, gate, &next);
        } else {
            futex_sleep(&b->shared->gate, gate, NULL);
        }
    }
}

void bare_start(struct bare *b, uint32_t workers, uint32_t first, uint32_t slots, bool yield)
{
    memset(b, 0, sizeof(*b));
    b->workers = workers;
    b->slots = slots;
    b->yield = yield;
    b->shared = shared_alloc(sizeof(*b->shared));
    b->rings = shared_alloc((uint64_t)workers * slots * sizeof(*b->rings));
    memset(b->rings, 0, (uint64_t)workers * slots * sizeof(*b->rings));
    for (uint32_t w = 0; w < workers; w++) {
        b->pid[w] = fork();
        bench_must(b->pid[w] < 0, "fork", "");
        if (b->pid[w] == 0) {
            bare_worker(b, w, (first + w) % cores());
        }
    }
}

void bare_stop(struct bare *b)
{
    for (uint32_t w = 0; w < b->workers; w++) {
        kill(b->pid[w], SIGKILL);
        waitpid(b->pid[w], NULL, 0);
    }
    shared_free(b->rings, (uint64_t)b->workers * b->slots * sizeof(*b->rings));
    shared_free(b->shared, sizeof(*b->shared));
}

void bare_begin(struct bare *b)
{
    uint32_t gate = a32_add_full(&b->shared->gate, 1) + 1;
    for (uint32_t w = 0; w < b->workers; w++) {
        futex_wake(&b->shared->gate, 1);
    }
    for (uint32_t w = 0; w < b->workers; w++) {
        while (a64_acquire(&b->shared->awake[w].value) != gate) {
            sched_yield();
        }
    }
}

void bare_end(struct bare *b)
{
    a32_add_full(&b->shared->gate, 1);
}

uint64_t bare_put(struct bare *b, uint32_t worker, const uint64_t *waits, uint32_t count,
                  uint32_t flags, uint32_t clock)
{
    uint64_t number = ++b->published[worker];
    struct bare_record *rec = slot(b, worker, number);
    for (uint32_t looks = 0; number - b->seen[worker] >= b->slots;) {
        b->seen[worker] = a64_acquire(&b->shared->done[worker].value);
        if (number - b->seen[worker] >= b->slots) {
            pause_between(b, &looks);
        }
    }
    rec->wait_count = count;
    rec->flags = (uint16_t)flags;
    rec->clock = (uint16_t)clock;
    for (uint32_t i = 0; i < count; i++) {
        rec->waits[i] = waits[i];
    }
    a64_release(&rec->stamp, number); /* pairs with work */
    return number;
}

void bare_drain(struct bare *b)
{
    for (uint32_t w = 0; w < b->workers; w++) {
        wait_word(b, bare_wait(w, b->published[w]));
    }
}

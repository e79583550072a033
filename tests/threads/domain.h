/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A domain over the chips of a rig, one thread each: its descriptor, and for each thread a task and its view. A *life* is
 * one generation of the lease behind it, with a run of its own, on the memory that the last life left. Test process.
 */
#ifndef TESTS_THREADS_DOMAIN_H
#define TESTS_THREADS_DOMAIN_H

#include "chip/channel.h"
#include "threads/rig.h"

enum { DOMAIN_WINDOW_BYTES = 49152 };

/* One rank. */
struct member {
    struct rig *rig;
    struct chip *chip;
    tsm_task task;
    struct record rec;
    struct domain_state state;
    tsm_ctx ctx;
    struct harness_random random; /* of its own */
    uint64_t seed;                /* the same on every rank */
    char wrong[256];              /* "": nothing */
    int ended;                    /* the code with which its sequence ended */
};

static inline struct domain_desc *domain_make(struct rig *r, uint32_t members)
{
    const struct arena_info *in = &r->a.ctl->info;
    struct domain_desc *d = arena_at(&r->a, in->desc_offset);
    d->id = 1;
    d->size = members;
    d->window_bytes = DOMAIN_WINDOW_BYTES;
    d->stride = DOMAIN_WINDOW_BYTES + sync_bytes(members);
    d->base = in->base + in->windows_offset;
    d->members_offset = sizeof(*d);
    strcpy(d->name, "threads");
    for (uint32_t i = 0; i < members; i++) {
        ((uint32_t *)(d + 1))[i] = i;
    }
    assert_true(members * d->stride <= in->windows_bytes);
    return d;
}

static inline void member_init(struct member *m, struct rig *r, struct domain_desc *d,
                               uint32_t rank, uint64_t life, uint64_t seed)
{
    memset(m, 0, sizeof(*m));
    m->rig = r;
    m->chip = &r->chips[rank];
    m->seed = seed;
    m->rec.run = life;
    m->rec.task = life * 100 + rank;
    m->rec.members = (uint16_t)d->size;
    task_init(&m->task, m->chip, &m->rec);
    m->ctx = (tsm_ctx){.chip = m->chip,
                       .task = &m->task,
                       .desc = d,
                       .members = (const uint32_t *)(d + 1),
                       .rank = rank,
                       .size = d->size,
                       .self = rank,
                       .generation = (uint32_t)life,
                       .timeout_ns = -1,
                       .state = &m->state};
    ctx_cache(&m->ctx);
    harness_random_init(&m->random, seed * 31 + rank + 1);
}

/* One life: f on every rank. */
static inline void domain_live(struct rig *r, struct domain_desc *d, struct member *members,
                               uint64_t life, uint64_t seed, void *(*f)(void *arg))
{
    pthread_t threads[RIG_PLACES];
    d->generation = (uint32_t)life;
    for (uint32_t i = 0; i < d->size; i++) {
        member_init(&members[i], r, d, i, life, seed);
    }
    for (uint32_t i = 0; i < d->size; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, f, &members[i]), 0);
    }
    for (uint32_t i = 0; i < d->size; i++) {
        pthread_join(threads[i], NULL);
        task_fini(&members[i].task);
    }
    for (uint32_t i = 0; i < d->size; i++) {
        if (members[i].wrong[0]) {
            fail_msg("%u ranks, life %llu, seed %llu: rank %u: %s", d->size,
                     (unsigned long long)life, (unsigned long long)seed, i, members[i].wrong);
        }
    }
}

/* As the keeper does: the word, then everybody's bell. */
static inline void domain_abort_run(struct member *m)
{
    a64_release(&m->rig->a.keeper->aborts[m->rec.run % RUN_SLOTS], m->rec.run);
    wake_everybody(&m->rig->a);
}

#endif

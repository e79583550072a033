/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Heaps of the chips and host memory; scopes; copies; host_wait. Memory that is given back while tasks may still
 * touch it cools: it is taken for good when they are done, or earlier when nothing else is free, and then the
 * range map orders its new users behind the old. Orchestrator; owns the heaps. docs/memory.md.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* ---- heaps ---- */

struct heap *heap_of(tsm_worker *w, int chip)
{
    return &w->heaps[chip == CHIP_HOST ? w->arena.chips : (uint32_t)chip];
}

static uint32_t heap_count(const tsm_worker *w)
{
    return w->arena.chips + 1;
}

int memory_init(tsm_worker *w)
{
    const struct arena_info *in = &w->arena.ctl->info;
    w->heaps = calloc(heap_count(w), sizeof(*w->heaps));
    if (!w->heaps) {
        return TSM_ENOMEM;
    }
    for (uint32_t i = 0; i < heap_count(w); i++) {
        struct heap *h = &w->heaps[i];
        bool host = i == w->arena.chips;
        h->base = in->base + (host ? in->host_offset : in->heaps_offset + i * in->heap_bytes);
        h->bytes = host ? in->host_bytes : in->heap_bytes;
        h->fresh = h->base;
        h->last = &h->first;
        if (blocks_init(&h->blocks, h->base, h->bytes) != 0) {
            return TSM_ENOMEM;
        }
    }
    return 0;
}

static void cooling_free(struct cooling *c)
{
    free(c->fence.list);
    free(c);
}

void memory_fini(tsm_worker *w)
{
    for (uint32_t i = 0; w->heaps && i < heap_count(w); i++) {
        struct heap *h = &w->heaps[i];
        while (h->first) {
            struct cooling *c = h->first;
            h->first = c->next;
            cooling_free(c);
        }
        blocks_fini(&h->blocks);
    }
    free(w->heaps);
    w->heaps = NULL;
    free(w->take.list);
    w->take = (struct words){0};
}

static bool is_cool(tsm_worker *w, struct cooling *c)
{
    while (c->fence.count > 0 && word_is_reached(w, &c->fence.list[c->fence.count - 1])) {
        c->fence.count--;
    }
    return c->fence.count == 0;
}

/* Takes what is cool from the list; all: also what is not, behind barriers. */
static void collect(tsm_worker *w, struct heap *h, bool all)
{
    struct cooling **at = &h->first;
    while (*at) {
        struct cooling *c = *at;
        if (!is_cool(w, c)) {
            if (!all || rangemap_reserve(&w->map, c->fence.count) != 0) {
                at = &c->next;
                continue;
            }
            struct taskref refs[16];
            for (uint32_t i = 0; i < c->fence.count;) {
                uint32_t n = 0;
                for (; n < 16 && i < c->fence.count; n++, i++) {
                    const struct word *x = &c->fence.list[i];
                    refs[n] = (struct taskref){x->place == PLACE_POOL ? REF_SUB : x->place, x->run,
                                               x->value};
                }
                rangemap_bar(&w->map, c->addr, c->addr + c->bytes, refs, n);
            }
        }
        *at = c->next;
        blocks_free(&h->blocks, c->addr);
        cooling_free(c);
    }
    h->last = at;
}

static int refuse_full(tsm_worker *w, int chip, const struct heap *h, uint64_t bytes)
{
    struct blocks_stat stat;
    char whose[32] = "host memory";
    blocks_stat(&h->blocks, &stat);
    if (chip != CHIP_HOST) {
        snprintf(whose, sizeof(whose), "the heap of chip %d", chip);
    }
    return worker_refuse(w, TSM_ENOSPC,
                         "%llu bytes asked of %s: %llu are held, %llu are free, %llu in one piece",
                         (unsigned long long)bytes, whose, (unsigned long long)stat.held,
                         (unsigned long long)stat.free, (unsigned long long)stat.largest_free);
}

int memory_alloc(tsm_worker *w, int chip, uint64_t bytes, uint32_t owner, uint64_t *ret)
{
    struct heap *h = heap_of(w, chip);
    uint64_t addr;
    int rc = worker_promise(w, bytes);
    if (rc != 0) {
        return rc;
    }
    if (h->first) {
        collect(w, h, false);
    }
    rc = blocks_alloc(&h->blocks, bytes, LINE, owner, &addr);
    if (rc == -ENOSPC && h->first) {
        collect(w, h, true);
        rc = blocks_alloc(&h->blocks, bytes, LINE, owner, &addr);
    }
    if (rc == -ENOSPC) {
        return refuse_full(w, chip, h, bytes);
    }
    if (rc != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory to describe an allocation of %llu bytes",
                             (unsigned long long)bytes);
    }
    w->stats.heap_bytes += bytes;
    *ret = addr;
    return 0;
}

static void remember(void *ctx, struct taskref ref)
{
    tsm_worker *w = ctx;
    if (ref_words(w, ref, &w->take) != 0) {
        /* No memory to remember it: then it is waited for. */
        while (ref_state(w, ref) == REF_PENDING) {
            cpu_pause();
        }
    }
}

void memory_free(tsm_worker *w, int chip, uint64_t addr)
{
    struct heap *h = heap_of(w, chip);
    struct block_info block;
    if (blocks_find(&h->blocks, addr, &block) != 0) {
        return;
    }
    w->stats.heap_bytes -= block.bytes;
    w->take.count = 0;
    rangemap_take(&w->map, block.base, block.base + block.bytes, remember, w);
    if (addr + block.bytes > h->fresh) {
        h->fresh = addr + block.bytes;
    }
    struct cooling *c = w->take.count > 0 ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        bool steady = w->steady;
        w->steady = true; /* it is given out again at once */
        for (uint32_t i = 0; i < w->take.count; i++) {
            engine_wait(w, w->take.list[i].place, w->take.list[i].value, 0);
        }
        w->steady = steady;
        blocks_free(&h->blocks, addr);
        return;
    }
    blocks_set_owner(&h->blocks, addr, OWNER_NOBODY);
    c->addr = block.base;
    c->bytes = block.bytes;
    c->fence = w->take;
    w->take = (struct words){0};
    *h->last = c;
    h->last = &c->next;
}

/* ---- scopes ---- */

int scope_push(tsm_worker *w, tsm_run *run)
{
    if (run->scope_count > SCOPES_MAX) {
        return worker_refuse(w, TSM_ENOSPC, "scopes nest to %d", SCOPES_MAX);
    }
    run->scopes[run->scope_count++].count = 0;
    return 0;
}

int scope_add(tsm_worker *w, tsm_run *run, uint64_t addr)
{
    (void)w;
    struct scope *s = &run->scopes[run->scope_count - 1];
    if (s->count == s->max) {
        uint32_t max = s->max ? s->max * 2 : 16;
        uint64_t *more = realloc(s->addrs, max * sizeof(*more));
        if (!more) {
            return TSM_ENOMEM;
        }
        s->addrs = more;
        s->max = max;
    }
    s->addrs[s->count++] = addr;
    return 0;
}

static int chip_of(const tsm_worker *w, uint64_t addr)
{
    const struct arena_info *in = &w->arena.ctl->info;
    uint64_t at = addr - in->base - in->heaps_offset;
    return at < in->chips * in->heap_bytes ? (int)(at / in->heap_bytes) : CHIP_HOST;
}

void scope_pop(tsm_worker *w, tsm_run *run)
{
    struct scope *s = &run->scopes[--run->scope_count];
    for (uint32_t i = s->count; i-- > 0;) {
        memory_free(w, chip_of(w, s->addrs[i]), s->addrs[i]);
    }
    s->count = 0;
}

void scopes_fini(tsm_run *run)
{
    for (uint32_t i = 0; i <= SCOPES_MAX; i++) {
        free(run->scopes[i].addrs);
    }
}

int tsm_scope_begin(tsm_orch *orch)
{
    int rc = orch_check(orch);
    return rc != 0 ? rc : scope_push(orch->run->worker, orch->run);
}

int tsm_scope_end(tsm_orch *orch)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    if (orch->run->scope_count < 2) {
        return worker_refuse(orch->run->worker, TSM_ESTATE,
                             "tsm_scope_end without tsm_scope_begin");
    }
    scope_pop(orch->run->worker, orch->run);
    return 0;
}

/* ---- allocation ---- */

static int check_memory_chip(tsm_worker *w, int *chip)
{
    if (*chip == TSM_HOST) {
        *chip = CHIP_HOST;
        return 0;
    }
    if (*chip < 0 || (uint32_t)*chip >= w->arena.chips) {
        return worker_refuse(w, TSM_EINVAL, "chip is %d; there are chips 0 to %u, and TSM_HOST",
                             *chip, w->arena.chips - 1);
    }
    return 0;
}

static int alloc_checked(tsm_worker *w, int chip, uint64_t bytes, uint32_t owner, void **ret)
{
    uint64_t addr;
    int rc = check_memory_chip(w, &chip);
    if (rc != 0) {
        return rc;
    }
    if (bytes == 0 || !ret) {
        return worker_refuse(w, TSM_EINVAL, bytes == 0 ? "bytes is 0" : "ret is NULL");
    }
    rc = memory_alloc(w, chip, bytes, owner, &addr);
    if (rc == 0 && owner == OWNER_SCOPE && scope_add(w, w->current, addr) != 0) {
        memory_free(w, chip, addr);
        return worker_refuse(w, TSM_ENOMEM, "no memory for the scope's list");
    }
    if (rc == 0) {
        *ret = (void *)(uintptr_t)addr;
    }
    return rc;
}

int tsm_alloc(tsm_orch *orch, int chip, uint64_t bytes, void **ret)
{
    int rc = orch_check(orch);
    return rc != 0 ? rc : alloc_checked(orch->run->worker, chip, bytes, OWNER_SCOPE, ret);
}

int tsm_malloc(tsm_orch *orch, int chip, uint64_t bytes, void **ret)
{
    int rc = orch_check(orch);
    return rc != 0 ? rc : alloc_checked(orch->run->worker, chip, bytes, OWNER_MALLOC, ret);
}

/* The live allocation that starts at data, of this owner. */
static int check_free(tsm_worker *w, int chip, const void *data, uint32_t owner)
{
    uint64_t addr = (uint64_t)(uintptr_t)data;
    struct heap *h = heap_of(w, chip);
    struct block_info block;
    if (addr - h->base >= h->bytes) {
        return worker_refuse(w, TSM_EINVAL, "%p is not in %s", data,
                             chip == CHIP_HOST ? "host memory" : "the memory of that chip");
    }
    if (blocks_find(&h->blocks, addr, &block) != 0) {
        return worker_refuse(w, TSM_EINVAL, "%p is not allocated, or has been freed", data);
    }
    if (block.base != addr) {
        return worker_refuse(w, TSM_EINVAL, "%p is inside the allocation that starts at %#llx",
                             data, (unsigned long long)block.base);
    }
    if (block.owner == OWNER_NOBODY) {
        return worker_refuse(w, TSM_EINVAL, "%p has been freed", data);
    }
    if (block.owner != owner) {
        return worker_refuse(w, TSM_EINVAL, "%p was not allocated by %s", data,
                             owner == OWNER_MALLOC ? "tsm_malloc" : "tsm_buffer_create");
    }
    return 0;
}

int tsm_free(tsm_orch *orch, int chip, void *data)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    tsm_worker *w = orch->run->worker;
    if ((rc = check_memory_chip(w, &chip)) != 0 ||
        (rc = check_free(w, chip, data, OWNER_MALLOC)) != 0) {
        return rc;
    }
    memory_free(w, chip, (uint64_t)(uintptr_t)data);
    return 0;
}

int tsm_buffer_create(tsm_worker *w, uint64_t bytes, void **ret)
{
    int rc = worker_check(w, CHECK_READY);
    if (rc != 0) {
        return rc;
    }
    void *data = NULL;
    rc = alloc_checked(w, TSM_HOST, bytes, OWNER_BUFFER, &data);
    if (rc != 0) {
        return rc;
    }
    /* Recycled memory is cleared when those who still use it are done. */
    uint64_t addr = (uint64_t)(uintptr_t)data;
    if (addr < heap_of(w, CHIP_HOST)->fresh) {
        rc = tsm_host_wait(w, data, bytes, TSM_WRITE);
        if (rc != 0) {
            memory_free(w, CHIP_HOST, addr);
            return rc;
        }
        memset(data, 0, bytes);
    }
    *ret = data;
    return 0;
}

int tsm_buffer_destroy(tsm_worker *w, void *data)
{
    int rc = worker_check(w, CHECK_READY);
    if (rc != 0 || (rc = check_free(w, CHIP_HOST, data, OWNER_BUFFER)) != 0) {
        return rc;
    }
    memory_free(w, CHIP_HOST, (uint64_t)(uintptr_t)data);
    return 0;
}

/* ---- the program's own access ---- */

/* Waits for exactly the tasks in the way. */
static int wait_access(tsm_worker *w, uint64_t addr, uint64_t bytes, enum access access)
{
    struct span span = {addr, bytes, 0, 1};
    deps_begin(w, 0);
    rangemap_edges(&w->map, &span, access);
    int rc = deps_wait(w);
    if (rc != 0 || access == ACCESS_WRITE) {
        return rc;
    }
    /* Who wrote it may have failed while it was waited for. */
    deps_begin(w, 0);
    rangemap_edges(&w->map, &span, access);
    return deps_wait(w);
}

int tsm_host_wait(tsm_worker *w, const void *data, uint64_t bytes, int access)
{
    int rc = worker_check(w, CHECK_READY);
    if (rc != 0) {
        return rc;
    }
    struct located at;
    if (access != TSM_READ && access != TSM_WRITE && access != (TSM_READ | TSM_WRITE)) {
        return worker_refuse(w, TSM_EINVAL, "access is %d: TSM_READ, TSM_WRITE or both", access);
    }
    uint64_t addr = (uint64_t)(uintptr_t)data;
    rc = locate(w, addr, bytes, "data", &at);
    if (rc != 0 || bytes == 0) {
        return rc;
    }
    rc = wait_access(w, addr, bytes,
                     access == TSM_READ    ? ACCESS_READ
                     : access == TSM_WRITE ? ACCESS_WRITE
                                           : ACCESS_READWRITE);
    bool deadlock = w->current && w->current->error.code == TSM_EDEADLOCK;
    return deadlock && rc != TSM_EINTERRUPTED ? run_stopped(w) : rc;
}

/* Checks the chip's side of a copy and waits for its turn. */
static int prepare_copy(tsm_orch *orch, int chip, const void *there, const void *here,
                        uint64_t bytes, enum access access, struct located *at)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    tsm_worker *w = orch->run->worker;
    if ((rc = check_memory_chip(w, &chip)) != 0 || (rc = run_stopped(w)) != 0) {
        return rc;
    }
    if (!there || (!here && bytes != 0)) {
        return worker_refuse(w, TSM_EINVAL, "%s is NULL",
                             there ? "the program's side" : "the chip's side");
    }
    uint64_t addr = (uint64_t)(uintptr_t)there;
    rc = locate(w, addr, bytes, access == ACCESS_READ ? "src" : "dst", at);
    if (rc != 0) {
        return rc;
    }
    if (at->chip != chip) {
        return worker_refuse(w, TSM_EINVAL, "%p is memory of %s %d, not of chip %d", there,
                             at->chip == CHIP_HOST ? "the host," : "chip", at->chip, chip);
    }
    rc = bytes != 0 ? wait_access(w, addr, bytes, access) : 0;
    if (rc == TSM_EWORKER_FAILED || rc == TSM_EINTERRUPTED) {
        return rc;
    }
    /* What it waited for may have failed with this run. */
    int stopped = run_stopped(w);
    return stopped != 0 ? stopped : rc;
}

int tsm_copy_to(tsm_orch *orch, int chip, void *dst, const void *src, uint64_t bytes)
{
    struct located at;
    int rc = prepare_copy(orch, chip, dst, src, bytes, ACCESS_WRITE, &at);
    if (rc != 0) {
        return rc;
    }
    memcpy(dst, src, bytes);
    if (at.domain) {
        at.domain->touched = true;
        at.domain->touched_slots |= UINT64_C(1) << orch->run->number % RUN_SLOTS;
        wake_place(&orch->run->worker->arena, (uint32_t)at.chip);
    }
    return 0;
}

int tsm_copy_from(tsm_orch *orch, int chip, void *dst, const void *src, uint64_t bytes)
{
    struct located at;
    int rc = prepare_copy(orch, chip, src, dst, bytes, ACCESS_READ, &at);
    if (rc == 0) {
        memcpy(dst, src, bytes);
    }
    return rc;
}

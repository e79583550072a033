/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Leases: the memory behind domains. A clean lease of the same members and size is given out again; else fresh
 * pages, which are zero. A released one cools until its fence is reached, is zeroed (small ones here, large ones by
 * their owners between tasks) and is clean again. At the budget clean ones of other shapes are given back to the
 * system, oldest first. Orchestrator; owns leases and the windows' addresses. The model is
 * tests/model/lease.pml. docs/domains.md.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/sys.h"
#include "engine/engine.h"

enum {
    SHAPE_BUCKETS = 4096,
    PAGE = 4096,
    ZERO_HERE_MAX = 65536, /* bytes of all windows that the orchestrator zeroes itself */
    LOOKS_MAX = 64         /* cooling leases looked at in one go */
};

int leases_init(tsm_worker *w)
{
    const struct arena_info *in = &w->arena.ctl->info;
    w->shapes = calloc(SHAPE_BUCKETS, sizeof(*w->shapes));
    if (!w->shapes ||
        blocks_init(&w->windows, in->base + in->windows_offset, in->windows_bytes) != 0) {
        return TSM_ENOMEM;
    }
    return 0;
}

static void lease_free_object(struct lease *l)
{
    free(l->members);
    free(l->fence.list);
    free(l);
}

void leases_fini(tsm_worker *w)
{
    for (uint32_t i = 0; i < w->lease_count; i++) {
        if (w->leases[i]) {
            lease_free_object(w->leases[i]);
        }
    }
    free(w->leases);
    free(w->lease_free);
    free(w->shapes);
    w->leases = NULL;
    w->lease_free = NULL;
    w->shapes = NULL;
    w->lease_count = w->lease_max = w->lease_free_count = 0;
    w->oldest = w->newest = w->cooling_first = w->cooling_last = w->cooling_cursor = NULL;
    w->lease_bytes = 0;
    blocks_fini(&w->windows);
}

struct lease *lease_at(tsm_worker *w, uint64_t address)
{
    struct block_info block;
    return blocks_find(&w->windows, address, &block) == 0 ? w->leases[block.owner] : NULL;
}

/* ---- shapes ---- */

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* Sizes a little apart share leases: eight classes to a power of two, whole pages. */
static uint64_t size_class(uint64_t window_bytes, uint32_t size)
{
    uint64_t need = round_up(window_bytes, LINE) + sync_bytes(size);
    uint64_t step = PAGE;
    while (step * 16 < need) {
        step *= 2;
    }
    return round_up(need, step);
}

static uint64_t shape_hash(const int *chips, uint32_t size, uint64_t stride)
{
    uint64_t h = stride * UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t i = 0; i < size; i++) {
        h = (h ^ (uint64_t)chips[i]) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 29;
    }
    return h;
}

static bool same_members(const struct lease *l, const int *chips, uint32_t size)
{
    if (l->size != size) {
        return false;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (l->members[i] != (uint32_t)chips[i]) {
            return false;
        }
    }
    return true;
}

/* ---- lists ---- */

static void clean_add(tsm_worker *w, struct lease *l)
{
    struct lease **bucket = &w->shapes[l->hash % SHAPE_BUCKETS];
    l->state = LEASE_CLEAN;
    l->prev = NULL;
    l->next = *bucket;
    if (*bucket) {
        (*bucket)->prev = l;
    }
    *bucket = l;
    l->newer = NULL;
    l->older = w->newest;
    *(w->newest ? &w->newest->newer : &w->oldest) = l;
    w->newest = l;
}

static void clean_remove(tsm_worker *w, struct lease *l)
{
    *(l->prev ? &l->prev->next : &w->shapes[l->hash % SHAPE_BUCKETS]) = l->next;
    if (l->next) {
        l->next->prev = l->prev;
    }
    *(l->older ? &l->older->newer : &w->oldest) = l->newer;
    *(l->newer ? &l->newer->older : &w->newest) = l->older;
}

static void cooling_add(tsm_worker *w, struct lease *l)
{
    l->next = NULL;
    l->prev = w->cooling_last;
    *(w->cooling_last ? &w->cooling_last->next : &w->cooling_first) = l;
    w->cooling_last = l;
}

static void cooling_remove(tsm_worker *w, struct lease *l)
{
    *(l->prev ? &l->prev->next : &w->cooling_first) = l->next;
    *(l->next ? &l->next->prev : &w->cooling_last) = l->prev;
    if (w->cooling_cursor == l) {
        w->cooling_cursor = l->next;
    }
}

/* ---- making and giving back ---- */

/* The stamps in them are of the lease's generations: for when these begin again. */
static void zero_sync_areas(const struct lease *l)
{
    uint64_t bytes = sync_bytes(l->size);
    for (uint32_t r = 0; r < l->size; r++) {
        memset((void *)(uintptr_t)(l->base + (r + 1) * l->stride - bytes), 0, bytes);
    }
}

/* Gives the memory back to the system and forgets the lease. */
static void destroy(tsm_worker *w, struct lease *l)
{
    const struct arena_info *in = &w->arena.ctl->info;
    uint64_t bytes = l->size * l->stride;
    if (l->has_pages &&
        sys_punch(w->arena.fd[ARENA_DATA], l->base - in->base - in->data_offset, bytes) != 0) {
        /* The pages stay: only memory is lost. The windows are clean. */
        zero_sync_areas(l);
    }
    blocks_free(&w->windows, l->base);
    blocks_free(&w->desc, (uint64_t)(uintptr_t)l->desc);
    w->lease_bytes -= bytes;
    w->leases[l->index] = NULL;
    w->lease_free[w->lease_free_count++] = l->index;
    lease_free_object(l);
}

static void evict(tsm_worker *w, struct lease *l)
{
    clean_remove(w, l);
    destroy(w, l);
    w->stats.leases_evicted++;
}

static int reserve_index(tsm_worker *w)
{
    if (w->lease_free_count > 0 || w->lease_count < w->lease_max) {
        return 0;
    }
    uint32_t max = w->lease_max ? w->lease_max * 2 : 64;
    struct lease **more = realloc(w->leases, max * sizeof(*more));
    w->leases = more ? more : w->leases;
    uint32_t *free_list = realloc(w->lease_free, max * sizeof(*free_list));
    w->lease_free = free_list ? free_list : w->lease_free;
    if (!more || !free_list) {
        return TSM_ENOMEM;
    }
    w->lease_max = max;
    return 0;
}

/* Device contexts, bases and members: the same for the lease's whole life. */
static void write_desc(struct lease *l)
{
    struct domain_desc *d = l->desc;
    uint8_t *start = (uint8_t *)d;
    memset(d, 0, sizeof(*d));
    d->window = l->index;
    d->size = l->size;
    d->stride = l->stride;
    d->base = l->base;
    d->devices_offset = sizeof(*d);
    d->bases_offset = d->devices_offset + l->size * sizeof(struct tsm_device_ctx);
    d->members_offset = d->bases_offset + l->size * sizeof(uint64_t);
    d->buffers_offset = round_up(d->members_offset + l->size * sizeof(uint32_t), 8);
    struct tsm_device_ctx *devices = (struct tsm_device_ctx *)(start + d->devices_offset);
    uint64_t *bases = (uint64_t *)(start + d->bases_offset);
    uint32_t *members = (uint32_t *)(start + d->members_offset);
    for (uint32_t r = 0; r < l->size; r++) {
        bases[r] = l->base + r * l->stride;
        members[r] = l->members[r];
        devices[r] = (struct tsm_device_ctx){1, r, l->size, 0, 0, bases};
    }
}

static int make_parts(tsm_worker *w, struct lease *l)
{
    uint64_t addr;
    uint64_t desc_bytes = sizeof(struct domain_desc) + 8 +
                          l->size * (sizeof(struct tsm_device_ctx) + 8 + sizeof(uint32_t)) +
                          l->buffers_max * sizeof(struct desc_buffer);
    if (blocks_alloc(&w->desc, desc_bytes, LINE, 0, &addr) != 0) {
        return TSM_ENOMEM;
    }
    l->desc = (struct domain_desc *)(uintptr_t)addr;
    int rc = blocks_alloc(&w->windows, l->size * l->stride, PAGE, l->index, &l->base);
    if (rc != 0) {
        blocks_free(&w->desc, addr);
        return rc == -ENOSPC ? TSM_ENOSPC : TSM_ENOMEM;
    }
    return 0;
}

static int make_lease(tsm_worker *w, const int *chips, uint32_t size, uint64_t stride,
                      uint64_t hash, struct lease **ret)
{
    struct lease *l = calloc(1, sizeof(*l));
    if (!l || reserve_index(w) != 0 || !(l->members = malloc(size * sizeof(*l->members)))) {
        free(l);
        return worker_refuse(w, TSM_ENOMEM, "no memory to describe a lease");
    }
    l->size = size;
    l->stride = stride;
    l->hash = hash;
    l->buffers_max = 8;
    for (uint32_t i = 0; i < size; i++) {
        l->members[i] = (uint32_t)chips[i];
        l->members_set[chips[i] / 64] |= UINT64_C(1) << chips[i] % 64;
    }
    uint32_t spare = w->lease_free_count;
    l->index = spare > 0 ? w->lease_free[spare - 1] : w->lease_count;
    int rc = make_parts(w, l);
    if (rc != 0) {
        lease_free_object(l);
        return rc == TSM_ENOSPC
                   ? rc
                   : worker_refuse(w, TSM_ENOMEM, "no memory for the descriptor of a lease");
    }
    if (spare > 0) {
        w->lease_free_count--;
    } else {
        w->lease_count++;
    }
    w->leases[l->index] = l;
    w->lease_bytes += size * stride;
    write_desc(l);
    *ret = l;
    return 0;
}

/* ---- taking ---- */

static struct lease *find_clean(tsm_worker *w, const int *chips, uint32_t size, uint64_t stride,
                                uint64_t hash)
{
    for (struct lease *l = w->shapes[hash % SHAPE_BUCKETS]; l; l = l->next) {
        if (l->hash == hash && l->stride == stride && same_members(l, chips, size)) {
            clean_remove(w, l);
            return l;
        }
    }
    return NULL;
}

static int refuse_budget(tsm_worker *w, uint64_t need)
{
    return worker_refuse(
        w, TSM_ENOSPC,
        "%llu bytes asked for windows: the budget of %llu is held by live domains (%llu); "
        "release some or raise lease_bytes",
        (unsigned long long)need, (unsigned long long)w->lease_budget,
        (unsigned long long)w->lease_bytes);
}

/* One step towards room: an old clean lease goes, or the oldest fence is waited for. */
static int make_room(tsm_worker *w, uint64_t need)
{
    if (w->oldest) {
        evict(w, w->oldest);
        return 0;
    }
    struct lease *l = w->cooling_first;
    int rc = 0;
    if (!l) {
        return refuse_budget(w, need);
    }
    if (l->state == LEASE_ZEROING && l->fence.count < l->size) {
        /* The next owner's ring has no room for the record that zeroes. */
        uint32_t chip = l->members[l->fence.count];
        rc = engine_wait(w, chip, ring_blocked_on(&w->rings[chip]), 0);
    } else if (!leases_any_clean(w) && l->fence_at < l->fence.count) {
        const struct word *x = &l->fence.list[l->fence_at];
        w->wants_room = true;
        rc = engine_wait(w, x->place, x->value, 0);
        w->wants_room = false;
    }
    if (rc == 0 && w->current->error.code == TSM_EDEADLOCK) {
        rc = run_stopped(w);
    }
    if (rc == 0) {
        engine_progress(w);
    }
    return rc;
}

static int take_any(tsm_worker *w, const int *chips, uint32_t size, uint64_t stride,
                    struct lease **ret)
{
    uint64_t hash = shape_hash(chips, size, stride);
    uint64_t need = size * stride;
    for (;;) {
        *ret = find_clean(w, chips, size, stride, hash);
        if (*ret) {
            w->stats.leases_reused++;
            return 0;
        }
        int rc = TSM_ENOSPC;
        if (w->lease_bytes + need <= w->lease_budget) {
            rc = worker_promise(w, need);
            rc = rc != 0 ? rc : make_lease(w, chips, size, stride, hash, ret);
            if (rc != TSM_ENOSPC) {
                w->stats.leases_fresh += rc == 0;
                return rc;
            }
        } else if (need > w->lease_budget) {
            return refuse_budget(w, need);
        }
        rc = make_room(w, need);
        if (rc != 0) {
            return rc;
        }
    }
}

int lease_take(tsm_worker *w, const int *chips, uint32_t size, uint64_t window_bytes,
               struct lease **ret)
{
    struct lease *l;
    int rc = take_any(w, chips, size, size_class(window_bytes, size), &l);
    if (rc != 0) {
        return rc;
    }
    l->state = LEASE_LIVE;
    l->generation++;
    if ((l->generation & STAMP_GENERATIONS) == 0) {
        zero_sync_areas(l);
        l->generation++;
    }
    l->dirty_bytes = round_up(window_bytes, LINE);
    l->desc->generation = l->generation;
    l->desc->window_bytes = l->dirty_bytes;
    struct tsm_device_ctx *devices =
        (struct tsm_device_ctx *)((uint8_t *)l->desc + l->desc->devices_offset);
    if (devices[0].window_bytes != l->dirty_bytes) {
        for (uint32_t r = 0; r < size; r++) {
            devices[r].window_bytes = l->dirty_bytes;
        }
    }
    *ret = l;
    return 0;
}

void lease_give_back(tsm_worker *w, struct lease *l)
{
    clean_add(w, l);
}

/* ---- returning ---- */

static bool fence_reached(tsm_worker *w, struct lease *l)
{
    while (l->fence_at < l->fence.count && word_is_reached(w, &l->fence.list[l->fence_at])) {
        l->fence_at++;
    }
    return l->fence_at == l->fence.count;
}

static void zero_here(struct lease *l)
{
    for (uint32_t r = 0; r < l->size; r++) {
        memset((void *)(uintptr_t)(l->base + r * l->stride), 0, l->dirty_bytes);
    }
}

static int append_zero(tsm_worker *w, uint32_t chip, uint64_t addr, uint64_t bytes)
{
    enum { BYTES = 2 * LINE };
    struct record *rec = ring_reserve(&w->rings[chip], BYTES, timeline_read(&w->arena, chip));
    if (!rec) {
        return TSM_ENOSPC;
    }
    rec->kind = RECORD_ZERO;
    rec->wait_count = 0;
    rec->task = 0;
    rec->run = 0;
    uint64_t *scalars = (uint64_t *)(rec + 1);
    scalars[0] = addr;
    scalars[1] = bytes;
    ring_publish(&w->rings[chip], rec, BYTES);
    wake_place(&w->arena, chip);
    return 0;
}

/* Every owner zeroes its window. The fence then is the end of these records. What does not find room
 * in a ring now is tried again: fence_at counts the ranks that have theirs. */
static bool start_zeroing(tsm_worker *w, struct lease *l)
{
    if (l->state == LEASE_COOLING) {
        l->state = LEASE_ZEROING;
        l->fence.count = 0;
    }
    while (l->fence.count < l->size) {
        uint32_t rank = l->fence.count;
        uint32_t chip = l->members[rank];
        uint64_t window = l->base + rank * l->stride;
        if (append_zero(w, chip, window, l->dirty_bytes) != 0) {
            return false;
        }
        /* The list has at least `size` entries: lease_release reserved them. */
        l->fence.list[l->fence.count++] = (struct word){chip, 0, w->rings[chip].published};
    }
    l->fence_at = 0;
    return true;
}

/* Moves one cooling lease on; true when it has become clean. */
static bool advance(tsm_worker *w, struct lease *l)
{
    if (l->state == LEASE_ZEROING && l->fence.count < l->size) {
        start_zeroing(w, l);
        return false;
    }
    if (!fence_reached(w, l)) {
        return false;
    }
    TSM_FAULT("lease");
    if (l->domain) {
        domain_freed(w, l->domain);
        l->domain = NULL;
    }
    if (l->state == LEASE_COOLING && l->touched) {
        if (l->size * l->dirty_bytes > ZERO_HERE_MAX) {
            start_zeroing(w, l);
            return false;
        }
        zero_here(l);
    }
    return true;
}

/* Moves it on, and among the clean ones when that is what it has become. */
static void settle(tsm_worker *w, struct lease *l)
{
    if (advance(w, l)) {
        cooling_remove(w, l);
        clean_add(w, l);
    }
}

void leases_progress(tsm_worker *w)
{
    struct lease *l = w->cooling_first;
    for (int looks = 0; l && !w->holding && looks < LOOKS_MAX; looks++) {
        struct lease *next = l->next;
        /* The oldest is looked at every time, then some of the others in turn. */
        if (l == w->cooling_first && w->cooling_cursor && w->cooling_cursor != l) {
            next = w->cooling_cursor;
        }
        settle(w, l);
        w->cooling_cursor = next;
        l = next;
    }
}

bool leases_any_clean(tsm_worker *w)
{
    for (struct lease *l = w->cooling_first, *next; l && !w->holding; l = next) {
        next = l->next;
        settle(w, l);
    }
    return w->oldest != NULL;
}

/* Zeroing begins when the fence is reached: what is being zeroed is nobody's. */
bool lease_is_held(tsm_worker *w, uint64_t domain)
{
    for (uint32_t i = 0; i < w->lease_count; i++) {
        struct lease *l = w->leases[i];
        if (!l || l->desc->id != domain || l->state == LEASE_CLEAN) {
            continue;
        }
        if (l->state == LEASE_COOLING && !w->holding) {
            settle(w, l);
        }
        return l->state == LEASE_LIVE || l->state == LEASE_COOLING;
    }
    return false;
}

void lease_release(tsm_worker *w, struct lease *l)
{
    l->state = LEASE_COOLING;
    l->fence_at = 0;
    cooling_add(w, l);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Communication domains: checks, names, the handle's life, and the fence that a release records. The memory is a
 * lease (lease.c). Orchestrator; owns the handles and the table of live names. docs/domains.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/engine.h"

enum { NAME_MAX_BYTES = 63, BUFFERS_MAX = 4096 };

/* ---- names ---- */

static uint64_t name_hash(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (; *name; name++) {
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    }
    return h;
}

static tsm_domain *name_find(const tsm_worker *w, const char *name)
{
    if (w->name_max == 0) {
        return NULL;
    }
    tsm_domain *d = w->names[name_hash(name) & (w->name_max - 1)];
    while (d && strcmp(d->name, name) != 0) {
        d = d->name_next;
    }
    return d;
}

static int names_reserve(tsm_worker *w)
{
    if (w->name_count < w->name_max) {
        return 0;
    }
    uint64_t max = w->name_max ? w->name_max * 2 : 64;
    tsm_domain **more = calloc(max, sizeof(*more));
    if (!more) {
        return TSM_ENOMEM;
    }
    for (uint64_t i = 0; i < w->name_max; i++) {
        for (tsm_domain *d = w->names[i], *next; d; d = next) {
            next = d->name_next;
            tsm_domain **bucket = &more[name_hash(d->name) & (max - 1)];
            d->name_next = *bucket;
            *bucket = d;
        }
    }
    free(w->names);
    w->names = more;
    w->name_max = max;
    return 0;
}

static void name_add(tsm_worker *w, tsm_domain *d)
{
    tsm_domain **bucket = &w->names[name_hash(d->name) & (w->name_max - 1)];
    d->name_next = *bucket;
    *bucket = d;
    w->name_count++;
}

static void name_remove(tsm_worker *w, tsm_domain *d)
{
    tsm_domain **at = &w->names[name_hash(d->name) & (w->name_max - 1)];
    while (*at != d) {
        at = &(*at)->name_next;
    }
    *at = d->name_next;
    w->name_count--;
}

/* ---- handles ---- */

static tsm_domain *handle_new(tsm_worker *w)
{
    tsm_domain *d = w->domain_free;
    if (!d) {
        return calloc(1, sizeof(*d));
    }
    w->domain_free = d->next;
    struct words named = d->named;
    memset(d, 0, sizeof(*d));
    d->named = named;
    d->named.count = 0;
    return d;
}

static void handle_free(tsm_worker *w, tsm_domain *d)
{
    d->next = w->domain_free;
    w->domain_free = d;
}

static void live_add(tsm_worker *w, tsm_domain *d)
{
    d->live_prev = NULL;
    d->live_next = w->live;
    if (w->live) {
        w->live->live_prev = d;
    }
    w->live = d;
}

static void live_remove(tsm_worker *w, tsm_domain *d)
{
    *(d->live_prev ? &d->live_prev->live_next : &w->live) = d->live_next;
    if (d->live_next) {
        d->live_next->live_prev = d->live_prev;
    }
}

static void kept_remove(tsm_worker *w, const tsm_domain *d)
{
    for (tsm_domain **at = &w->kept; *at; at = &(*at)->next) {
        if (*at == d) {
            *at = d->next;
            return;
        }
    }
}

/* ---- checks ---- */

static int check_members(tsm_worker *w, const struct tsm_domain_opts *o)
{
    uint64_t seen[CHIPS_MAX / 64] = {0};
    if (o->chip_count == 0 || !o->chips) {
        return worker_refuse(w, TSM_EINVAL, "domain '%s': chips is empty", o->name);
    }
    for (uint32_t i = 0; i < o->chip_count; i++) {
        int chip = o->chips[i];
        if (chip < 0 || (uint32_t)chip >= w->arena.chips) {
            return worker_refuse(w, TSM_EINVAL,
                                 "domain '%s': chips[%u] is %d; there are chips 0 to %u", o->name,
                                 i, chip, w->arena.chips - 1);
        }
        if (seen[chip / 64] >> chip % 64 & 1) {
            return worker_refuse(w, TSM_EINVAL, "domain '%s': chips[%u] names chip %d again",
                                 o->name, i, chip);
        }
        seen[chip / 64] |= UINT64_C(1) << chip % 64;
    }
    return 0;
}

/* Dead now, or since this process last looked: then it has been replaced meanwhile. */
static int check_members_alive(tsm_worker *w, const struct tsm_domain_opts *o)
{
    for (uint32_t i = 0; i < o->chip_count; i++) {
        const struct child *c = &w->arena.keeper->child[o->chips[i]];
        if (a32_acquire(&c->state) != CHILD_ALIVE) {
            return worker_refuse(w, TSM_EPEER, "domain '%s': member chip %d is dead", o->name,
                                 o->chips[i]);
        }
        if (a32_acquire(&c->deaths) != w->child_deaths[o->chips[i]]) {
            return worker_refuse(w, TSM_EPEER, "domain '%s': member chip %d died just now", o->name,
                                 o->chips[i]);
        }
    }
    return 0;
}

static uint64_t align_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* Bytes of a buffer as declared; refuses what does not fit together. */
static int buffer_bytes(tsm_worker *w, const struct tsm_domain_opts *o, uint32_t i, uint64_t *ret)
{
    const struct tsm_buffer_spec *b = &o->buffers[i];
    uint64_t element = b->dtype ? tsm_dtype_bytes(b->dtype) : 1;
    uint64_t by_count;
    if (!b->name || !*b->name || strlen(b->name) > NAME_MAX_BYTES) {
        return worker_refuse(w, TSM_EINVAL,
                             "domain '%s': the name of buffer %u is empty or too long", o->name, i);
    }
    if (element == 0) {
        return worker_refuse(w, TSM_EINVAL, "domain '%s': dtype of buffer '%s' is %d", o->name,
                             b->name, b->dtype);
    }
    if (b->align & (b->align - 1) || b->align > 4096) {
        return worker_refuse(w, TSM_EINVAL,
                             "domain '%s': align of buffer '%s' is %llu: a power of two up to 4096",
                             o->name, b->name, (unsigned long long)b->align);
    }
    if (__builtin_mul_overflow(b->count, element, &by_count) || by_count >> 48 || b->bytes >> 48) {
        return worker_refuse(
            w, TSM_EINVAL, "domain '%s': buffer '%s' is too large (count %llu, bytes %llu)",
            o->name, b->name, (unsigned long long)b->count, (unsigned long long)b->bytes);
    }
    if (b->count == 0 && b->bytes == 0) {
        return worker_refuse(w, TSM_EINVAL, "domain '%s': buffer '%s' has no size", o->name,
                             b->name);
    }
    if (b->count && b->bytes && by_count != b->bytes) {
        return worker_refuse(
            w, TSM_EINVAL,
            "domain '%s': buffer '%s' is %llu elements of %llu bytes, but bytes is %llu", o->name,
            b->name, (unsigned long long)b->count, (unsigned long long)element,
            (unsigned long long)b->bytes);
    }
    *ret = b->count ? by_count : b->bytes;
    return 0;
}

/* Repeated names: by sorting pointers, so that many buffers do not cost their square. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_buffer_names(tsm_worker *w, const struct tsm_domain_opts *o)
{
    const char *names[BUFFERS_MAX];
    for (uint32_t i = 0; i < o->buffer_count; i++) {
        names[i] = o->buffers[i].name;
    }
    qsort(names, o->buffer_count, sizeof(*names), by_name);
    for (uint32_t i = 1; i < o->buffer_count; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            return worker_refuse(w, TSM_EINVAL, "domain '%s': buffer '%s' is named twice", o->name,
                                 names[i]);
        }
    }
    return 0;
}

/* Checks the buffers; *ret_window is the real size. Alignment comes on top of window_bytes. */
static int check_buffers(tsm_worker *w, const struct tsm_domain_opts *o, uint64_t *ret_window)
{
    uint64_t sum = 0;
    uint64_t at = 0;
    if (o->buffer_count > BUFFERS_MAX || (o->buffer_count && !o->buffers)) {
        return worker_refuse(w, TSM_EINVAL, "domain '%s': buffer_count is %u (at most %d)%s",
                             o->name, o->buffer_count, BUFFERS_MAX,
                             o->buffers ? "" : ", buffers is NULL");
    }
    for (uint32_t i = 0; i < o->buffer_count; i++) {
        uint64_t bytes = 0;
        int rc = buffer_bytes(w, o, i, &bytes);
        if (rc != 0) {
            return rc;
        }
        uint64_t align = o->buffers[i].align ? o->buffers[i].align : LINE;
        sum += bytes;
        at = align_up(at, align) + bytes;
    }
    if (sum > o->window_bytes) {
        return worker_refuse(w, TSM_EINVAL,
                             "domain '%s': its buffers need %llu bytes, window_bytes is %llu",
                             o->name, (unsigned long long)sum, (unsigned long long)o->window_bytes);
    }
    *ret_window = align_up(at > o->window_bytes ? at : o->window_bytes, LINE);
    return o->buffer_count ? check_buffer_names(w, o) : 0;
}

static int check_opts(tsm_worker *w, const struct tsm_domain_opts *o, uint64_t *ret_window)
{
    if (!o || o->size != sizeof(*o)) {
        return worker_refuse(w, TSM_EINVAL,
                             "opts is NULL or not initialised with TSM_DOMAIN_OPTS_INIT");
    }
    if (!o->name || !*o->name || strlen(o->name) > NAME_MAX_BYTES) {
        return worker_refuse(w, TSM_EINVAL, "the domain's name is empty or longer than %d bytes",
                             NAME_MAX_BYTES);
    }
    if (o->window_bytes == 0 || o->window_bytes >> 46) {
        return worker_refuse(w, TSM_EINVAL, "domain '%s': window_bytes is %lld", o->name,
                             (long long)o->window_bytes);
    }
    int rc = check_members(w, o);
    if (rc != 0 || (rc = check_buffers(w, o, ret_window)) != 0) {
        return rc;
    }
    const tsm_domain *other = name_find(w, o->name);
    if (other) {
        return worker_refuse(w, TSM_EEXIST, "a domain named '%s' is live (id %llu)", o->name,
                             (unsigned long long)other->id);
    }
    return 0;
}

/* ---- allocation ---- */

/* Room in the descriptor for the buffers. */
static int reserve_buffers(tsm_worker *w, struct lease *l, uint32_t count)
{
    if (count <= l->buffers_max) {
        return 0;
    }
    uint64_t addr;
    uint64_t fixed = l->desc->buffers_offset;
    if (blocks_alloc(&w->desc, fixed + count * sizeof(struct desc_buffer), LINE, 0, &addr) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory to describe %u buffers", count);
    }
    struct domain_desc *fresh = (struct domain_desc *)(uintptr_t)addr;
    memcpy(fresh, l->desc, fixed);
    const uint64_t *bases = (const uint64_t *)((uint8_t *)fresh + fresh->bases_offset);
    struct tsm_device_ctx *devices =
        (struct tsm_device_ctx *)((uint8_t *)fresh + fresh->devices_offset);
    for (uint32_t r = 0; r < l->size; r++) {
        devices[r].base = bases;
    }
    blocks_free(&w->desc, (uint64_t)(uintptr_t)l->desc);
    l->desc = fresh;
    l->buffers_max = count;
    return 0;
}

static void write_buffers(struct domain_desc *desc, const struct tsm_domain_opts *o)
{
    struct desc_buffer *out = (struct desc_buffer *)((uint8_t *)desc + desc->buffers_offset);
    uint64_t at = 0;
    desc->buffer_count = o->buffer_count;
    for (uint32_t i = 0; i < o->buffer_count; i++) {
        const struct tsm_buffer_spec *b = &o->buffers[i];
        uint64_t element = b->dtype ? tsm_dtype_bytes(b->dtype) : 1;
        out[i].bytes = b->bytes ? b->bytes : b->count * element;
        out[i].count = out[i].bytes / element;
        out[i].dtype = (uint32_t)(b->dtype ? b->dtype : TSM_U8);
        at = align_up(at, b->align ? b->align : LINE);
        out[i].offset = at;
        at += out[i].bytes;
        strcpy(out[i].name, b->name);
    }
}

static void fill_handle(tsm_worker *w, tsm_domain *d, struct lease *l,
                        const struct tsm_domain_opts *o)
{
    d->worker = w;
    d->run = w->current;
    d->lease = l;
    d->id = w->domain_next++;
    d->tasks_before = w->stats.tasks;
    d->size = o->chip_count;
    d->keep = o->keep;
    strcpy(d->name, o->name);
    strcpy(l->desc->name, o->name);
    l->desc->id = d->id;
    l->domain = d;
    write_buffers(l->desc, o);
    tsm_domain **list = d->keep ? &w->kept : &w->current->domains;
    d->next = *list;
    *list = d;
    name_add(w, d);
    live_add(w, d);
    w->stats.domains_live++;
}

int tsm_domain_alloc(tsm_orch *orch, const struct tsm_domain_opts *o, tsm_domain **ret)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    tsm_worker *w = orch->run->worker;
    uint64_t window = 0;
    if (!ret) {
        return worker_refuse(w, TSM_EINVAL, "ret is NULL");
    }
    engine_progress(w);
    if ((rc = check_opts(w, o, &window)) != 0 || (rc = check_members_alive(w, o)) != 0) {
        return rc;
    }
    tsm_domain *d = names_reserve(w) == 0 ? handle_new(w) : NULL;
    if (!d) {
        return worker_refuse(w, TSM_ENOMEM, "no memory for a domain handle");
    }
    struct lease *l;
    rc = lease_take(w, o->chips, o->chip_count, window, &l);
    if (rc != 0) {
        handle_free(w, d);
        return rc;
    }
    int fault = TSM_FAULT("domain");
    rc = fault ? worker_refuse(w, TSM_ENOMEM, "domain '%s': injected failure %d", o->name, fault)
               : reserve_buffers(w, l, o->buffer_count);
    /* A member may have died while this waited for memory. */
    if (rc != 0 || (rc = check_members_alive(w, o)) != 0) {
        lease_give_back(w, l);
        handle_free(w, d);
        return rc;
    }
    fill_handle(w, d, l, o);
    *ret = d;
    return 0;
}

/* ---- release ---- */

static bool is_member(const tsm_domain *d, uint32_t place)
{
    return place < d->worker->arena.chips && lease_has(d->lease, place);
}

static void forget_done(tsm_domain *d)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->named.count; i++) {
        if (!word_is_reached(d->worker, &d->named.list[i])) {
            d->named.list[kept++] = d->named.list[i];
        }
    }
    d->named.count = kept;
}

int domain_reserve_name(tsm_domain *d, uint32_t place)
{
    /* Members need no note: the fence covers all that they were given. */
    if (d->named.count < d->named.max || is_member(d, place)) {
        return 0;
    }
    forget_done(d);
    if (d->named.count < d->named.max / 2) {
        return 0;
    }
    uint32_t max = d->named.max ? d->named.max * 2 : 8;
    struct word *more = realloc(d->named.list, max * sizeof(*more));
    if (!more) {
        return TSM_ENOMEM;
    }
    d->named.list = more;
    d->named.max = max;
    return 0;
}

void domain_named(tsm_domain *d, uint32_t place, uint64_t value)
{
    const tsm_worker *w = d->worker;
    d->touched = true;
    d->touched_slots |= UINT64_C(1) << w->current->number % RUN_SLOTS;
    if (!is_member(d, place)) {
        words_add(&d->named, place < w->arena.chips ? place : PLACE_POOL, 0, value);
    }
}

/* The fence: all that the members' rings were given, and what named it elsewhere. The list is as long as there
 * are members at least: the zeroing uses it again. */
static int record_fence(tsm_worker *w, tsm_domain *d)
{
    struct lease *l = d->lease;
    uint32_t need = l->size + d->named.count;
    if (l->fence.max < need) {
        struct word *more = realloc(l->fence.list, need * sizeof(*more));
        if (!more) {
            return TSM_ENOMEM;
        }
        l->fence.list = more;
        l->fence.max = need;
    }
    l->fence.count = 0;
    for (uint32_t r = 0; r < l->size; r++) {
        uint32_t chip = l->members[r];
        l->fence.list[l->fence.count++] = (struct word){chip, 0, w->rings[chip].published};
    }
    for (uint32_t i = 0; i < d->named.count; i++) {
        l->fence.list[l->fence.count++] = d->named.list[i];
    }
    return 0;
}

/* Forgets what the range map knows of the windows: the next owner's tasks come after the fence. */
static void forget(void *ctx, struct taskref ref)
{
    (void)ctx;
    (void)ref;
}

static int release(tsm_domain *d)
{
    tsm_worker *w = d->worker;
    if (d->released) {
        return 0;
    }
    struct lease *l = d->lease;
    if (record_fence(w, d) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory for the fence of domain '%s'", d->name);
    }
    TSM_FAULT("release");
    d->released = true;
    name_remove(w, d);
    live_remove(w, d);
    /* Untouched: no task was submitted to anybody since, and nothing copied into it. */
    l->touched = d->touched || d->tasks_before != w->stats.tasks;
    l->has_pages |= l->touched;
    if (l->touched) {
        rangemap_take(&w->map, l->base, l->base + l->size * l->stride, forget, NULL);
    }
    lease_release(w, l);
    leases_progress(w);
    if (d->keep && w->current) {
        /* Its handle now ends with this run. */
        kept_remove(w, d);
        d->next = w->current->domains;
        w->current->domains = d;
    }
    return 0;
}

int tsm_domain_release(tsm_domain *d)
{
    if (!d) {
        return TSM_EINVAL;
    }
    int rc = worker_check(d->worker, CHECK_READY);
    if (rc != 0) {
        return rc;
    }
    engine_progress(d->worker); /* the death of a member counts while the domain is live */
    return release(d);
}

void domain_freed(tsm_worker *w, tsm_domain *d)
{
    d->freed = true;
    d->lease = NULL;
    w->stats.domains_live--;
}

/* At the end of the function: last in, first out. Kept ones of a failed function go too. */
void domains_sweep(tsm_worker *w, tsm_run *run, bool failed)
{
    engine_progress(w); /* as in tsm_domain_release */
    for (tsm_domain *d = run->domains; d; d = d->next) {
        release(d);
    }
    for (tsm_domain *d = w->kept, *next; d && failed; d = next) {
        next = d->next;
        if (d->run == run) {
            release(d);
        }
    }
}

/* The fence covers tasks of other runs too: freed later, then nobody's. */
static void end_handle(tsm_worker *w, tsm_domain *d)
{
    if (d->lease) {
        d->lease->domain = NULL;
        w->stats.domains_live--;
    }
    handle_free(w, d);
}

/* The run is over: its handles end with it. A kept domain that a failed run had touched is broken. */
void domains_of_run_over(tsm_worker *w, tsm_run *run)
{
    for (tsm_domain *d = run->domains, *next; d; d = next) {
        next = d->next;
        end_handle(w, d);
    }
    run->domains = NULL;
    for (tsm_domain *d = w->kept, *next; d; d = next) {
        next = d->next;
        if (d->released) { /* outside a function: its handle ends with the next run */
            kept_remove(w, d);
            end_handle(w, d);
            continue;
        }
        uint64_t slot = UINT64_C(1) << run->number % RUN_SLOTS;
        d->broken |= run->error.code != 0 && (d->run == run || d->touched_slots & slot);
        d->touched_slots &= ~slot;
        d->run = d->run == run ? NULL : d->run;
    }
}

static void break_domain(tsm_domain *d, uint32_t chip)
{
    d->broken = true;
    if (d->run) {
        run_fail(d->run, TSM_ECHILD_DIED, 0, (int)chip,
                 "chip %u, a member of the live domain '%s' (id %llu), died", chip, d->name,
                 (unsigned long long)d->id);
    }
}

void domains_member_died(tsm_worker *w, uint32_t chip)
{
    for (tsm_domain *d = w->live; d; d = d->live_next) {
        if (lease_has(d->lease, chip)) {
            break_domain(d, chip);
        }
    }
}

void domains_fini(tsm_worker *w)
{
    while (w->kept) {
        tsm_domain *d = w->kept;
        w->kept = d->next;
        handle_free(w, d);
    }
    while (w->domain_free) {
        tsm_domain *d = w->domain_free;
        w->domain_free = d->next;
        free(d->named.list);
        free(d);
    }
    free(w->names);
    w->names = NULL;
    w->name_max = w->name_count = 0;
    w->live = NULL;
}

/* ---- asking ---- */

int tsm_domain_released(const tsm_domain *d)
{
    return d->released;
}

int tsm_domain_freed(tsm_domain *d)
{
    if (!d->freed && worker_check(d->worker, CHECK_READY) == 0) {
        leases_progress(d->worker);
    }
    return d->freed;
}

int tsm_worker_domain_freed(tsm_worker *w, uint64_t id)
{
    if (!w || !worker_is_mine(w)) {
        return 0;
    }
    return w->state == WORKER_NEW || w->state == WORKER_CLOSED || !lease_is_held(w, id);
}

int tsm_domain_broken(tsm_domain *d)
{
    if (worker_check(d->worker, CHECK_READY) == 0) {
        engine_progress(d->worker);
    }
    return d->broken;
}

uint64_t tsm_domain_id(const tsm_domain *d)
{
    return d->id;
}

uint32_t tsm_domain_size(const tsm_domain *d)
{
    return d->size;
}

static int check_live(tsm_domain *d)
{
    int rc = worker_check(d->worker, CHECK_READY);
    if (rc == 0 && d->released) {
        rc = worker_refuse(d->worker, TSM_ESTALE, "domain '%s' (id %llu) has been released",
                           d->name, (unsigned long long)d->id);
    }
    return rc;
}

static int find_rank(tsm_domain *d, int chip, uint32_t *ret)
{
    int rc = check_live(d);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t r = 0; r < d->size; r++) {
        if ((int)d->lease->members[r] == chip) {
            *ret = r;
            return 0;
        }
    }
    return worker_refuse(d->worker, TSM_ENOENT, "chip %d is not a member of domain '%s'", chip,
                         d->name);
}

static int find_buffer(tsm_domain *d, const char *name, const struct desc_buffer **ret)
{
    const struct domain_desc *desc = d->lease->desc;
    const struct desc_buffer *b =
        (const struct desc_buffer *)((const uint8_t *)desc + desc->buffers_offset);
    for (uint32_t i = 0; i < desc->buffer_count; i++) {
        if (strcmp(b[i].name, name) == 0) {
            *ret = &b[i];
            return 0;
        }
    }
    return worker_refuse(d->worker, TSM_ENOENT, "domain '%s' has no buffer '%s'", d->name, name);
}

int tsm_domain_context(tsm_domain *d, int chip, struct tsm_domain_context *ret)
{
    uint32_t rank = 0;
    int rc = d && ret ? find_rank(d, chip, &rank) : TSM_EINVAL;
    if (rc != 0) {
        return rc;
    }
    const struct domain_desc *desc = d->lease->desc;
    ret->name = d->name;
    ret->rank = rank;
    ret->size = d->size;
    ret->window = (void *)(uintptr_t)(desc->base + rank * desc->stride);
    ret->window_bytes = desc->window_bytes;
    ret->device_ctx =
        (const struct tsm_device_ctx *)((const uint8_t *)desc + desc->devices_offset) + rank;
    ret->buffer_count = desc->buffer_count;
    return 0;
}

/* `count` elements from `first` of a place in rank's window. */
static struct tsm_tensor window_tensor(const tsm_domain *d, uint32_t rank, uint64_t offset,
                                       uint32_t dtype, int tag, uint64_t first, uint64_t count)
{
    const struct domain_desc *desc = d->lease->desc;
    uint64_t at = desc->base + rank * desc->stride + offset + first * tsm_dtype_bytes((int)dtype);
    return (struct tsm_tensor){.data = (void *)(uintptr_t)at,
                               .dtype = (uint8_t)dtype,
                               .tag = (uint8_t)tag,
                               .ndim = 1,
                               .shape = {count}};
}

int tsm_domain_buffer(tsm_domain *d, int chip, const char *name, struct tsm_tensor *ret)
{
    uint32_t rank = 0;
    const struct desc_buffer *b = NULL;
    int rc = d && name && ret ? find_rank(d, chip, &rank) : TSM_EINVAL;
    if (rc != 0 || (rc = find_buffer(d, name, &b)) != 0) {
        return rc;
    }
    *ret = window_tensor(d, rank, b->offset, b->dtype, TSM_INPUT, 0, b->count);
    return 0;
}

int tsm_domain_tensor(tsm_domain *d, uint32_t rank, const char *buffer, uint64_t first,
                      uint64_t count, int tag, struct tsm_tensor *ret)
{
    int rc = d ? check_live(d) : TSM_EINVAL;
    if (rc != 0) {
        return rc;
    }
    const struct desc_buffer whole = {.count = d->lease->desc->window_bytes, .dtype = TSM_U8};
    const struct desc_buffer *b = &whole;
    if (!ret) {
        return worker_refuse(d->worker, TSM_EINVAL, "domain '%s': ret is NULL", d->name);
    }
    if (tag < 0 || tag > TSM_NO_DEP) {
        return worker_refuse(d->worker, TSM_EINVAL, "domain '%s': tag is %d", d->name, tag);
    }
    if (rank >= d->size) {
        return worker_refuse(d->worker, TSM_ERANGE,
                             "domain '%s': rank is %u; there are ranks 0 to %u", d->name, rank,
                             d->size - 1);
    }
    if (buffer && (rc = find_buffer(d, buffer, &b)) != 0) {
        return rc;
    }
    uint64_t left = first <= b->count ? b->count - first : 0;
    if (first > b->count || (count != TSM_REST && count > left)) {
        return worker_refuse(
            d->worker, TSM_ERANGE,
            "domain '%s': first is %llu and count %llu, but %s%s%s has %llu elements", d->name,
            (unsigned long long)first, (unsigned long long)count,
            buffer ? "buffer '" : "the window", buffer ? buffer : "", buffer ? "'" : "",
            (unsigned long long)b->count);
    }
    *ret = window_tensor(d, rank, b->offset, b->dtype, tag ? tag : TSM_INPUT, first,
                         count == TSM_REST ? left : count);
    return 0;
}

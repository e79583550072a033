/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Callables: names for what a task can run, in a table that every child reads. Orchestrator; owns the table and
 * its strings. docs/engine.md.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/engine.h"

/* A handle: tag of the worker (its low bits of a counter), generation, index + 1. */
enum { INDEX_BITS = 24, GENERATION_BITS = 20 };
#define DATA_BYTES_MAX (UINT64_C(64) << 20)
#define INDEX_MASK ((UINT64_C(1) << INDEX_BITS) - 1)
#define GENERATION_MASK ((UINT64_C(1) << GENERATION_BITS) - 1)

static uint64_t handle_of(const tsm_worker *w, uint64_t index)
{
    uint64_t generation = w->callables[index].generation & GENERATION_MASK;
    return (uint64_t)w->magic << (INDEX_BITS + GENERATION_BITS) | generation << INDEX_BITS |
           (index + 1);
}

static int refuse_callable(tsm_worker *w, tsm_callable c, int member,
                           const struct callable_info *gone)
{
    char where[32] = "";
    if (member >= 0) {
        snprintf(where, sizeof(where), "member %d: ", member);
    }
    return gone ? worker_refuse(w, TSM_ESTALE, "%scallable '%s' has been unregistered", where,
                                gone->name)
                : worker_refuse(w, TSM_EINVAL, "%scallable %#llx is not one of this worker", where,
                                (unsigned long long)c.value);
}

int callable_check(tsm_worker *w, tsm_callable c, int member, uint32_t *ret)
{
    uint64_t index = (c.value & INDEX_MASK) - 1;
    if (c.value >> (INDEX_BITS + GENERATION_BITS) != w->magic || index >= w->callable_count) {
        return refuse_callable(w, c, member, NULL);
    }
    const struct callable_info *info = &w->callables[index];
    uint64_t generation = c.value >> INDEX_BITS & GENERATION_MASK;
    if (!info->live || (info->generation & GENERATION_MASK) != generation) {
        return refuse_callable(w, c, member, info);
    }
    *ret = (uint32_t)index;
    return 0;
}

const char *callable_name_of(const tsm_worker *w, uint32_t index)
{
    return w->callables[index].name;
}

/* ---- the shared table ---- */

/* What of a callable is in the descriptor area. */
enum part { PATH, SYMBOL, NAME, LOAD, UNLOAD, DATA, LOADING };

static int share_part(tsm_worker *w, struct callable_info *info, enum part part, const void *from,
                      uint64_t bytes)
{
    uint64_t addr;
    info->shared[part] = 0;
    if (!from || bytes == 0) {
        return 0;
    }
    if (blocks_alloc(&w->desc, bytes, LINE, 0, &addr) != 0) {
        return TSM_ENOMEM;
    }
    memcpy((void *)(uintptr_t)addr, from, bytes);
    info->shared[part] = addr;
    return 0;
}

static int share_string(tsm_worker *w, struct callable_info *info, enum part part, const char *text)
{
    return share_part(w, info, part, text, text ? strlen(text) + 1 : 0);
}

/* With its own code to make it ready, and the data for that. */
static int share_loading(tsm_worker *w, struct callable_info *info)
{
    if (share_string(w, info, LOAD, info->load) != 0 ||
        share_string(w, info, UNLOAD, info->unload) != 0 ||
        share_part(w, info, DATA, info->data, info->bytes) != 0) {
        return TSM_ENOMEM;
    }
    const struct callable_loading loading = {.load = info->shared[LOAD],
                                             .unload = info->shared[UNLOAD],
                                             .data = info->shared[DATA],
                                             .bytes = info->bytes};
    return share_part(w, info, LOADING, &loading, info->load ? sizeof(loading) : 0);
}

static void unshare(tsm_worker *w, uint64_t index)
{
    struct callable_info *info = &w->callables[index];
    a32_release(&w->arena.callables[index].state, CALLABLE_GONE);
    for (int i = 0; i < CALLABLE_PARTS; i++) {
        if (info->shared[i]) {
            blocks_free(&w->desc, info->shared[i]);
            info->shared[i] = 0;
        }
    }
}

static int share(tsm_worker *w, uint64_t index)
{
    struct callable_info *info = &w->callables[index];
    struct callable *entry = &w->arena.callables[index];
    if (share_string(w, info, PATH, info->path) != 0 ||
        share_string(w, info, SYMBOL, info->symbol) != 0 ||
        share_string(w, info, NAME, info->name) != 0 || share_loading(w, info) != 0) {
        unshare(w, index);
        return TSM_ENOMEM;
    }
    entry->path = info->shared[PATH];
    entry->symbol = info->shared[SYMBOL];
    entry->name = info->shared[NAME];
    entry->loading = info->shared[LOADING];
    entry->function = info->path ? 0 : (uint64_t)(uintptr_t)info->function;
    entry->symbol_offset = info->offset;
    a32_store(&entry->generation, info->generation);
    a32_release(&entry->state, CALLABLE_LIVE); /* pairs with load_all */
    if (a64_load(&w->arena.ctl->callable_count) < index + 1) {
        a64_release(&w->arena.ctl->callable_count, index + 1);
    }
    return 0;
}

int callables_publish(tsm_worker *w)
{
    for (uint64_t i = 0; i < w->callable_count; i++) {
        memset(w->callables[i].shared, 0, sizeof(w->callables[i].shared)); /* of a failed start */
        if (w->callables[i].live && share(w, i) != 0) {
            return TSM_ENOMEM;
        }
    }
    return 0;
}

void callables_drop_data(tsm_worker *w)
{
    for (uint64_t i = 0; i < w->callable_count; i++) {
        free(w->callables[i].data);
        w->callables[i].data = NULL;
    }
}

static void drop_parts(struct callable_info *c)
{
    free(c->name);
    free(c->path);
    free(c->symbol);
    free(c->load);
    free(c->unload);
    free(c->data);
    free(c->loads);
    c->name = c->path = c->symbol = c->load = c->unload = NULL;
    c->data = NULL;
    c->loads = NULL;
}

void callables_fini(tsm_worker *w)
{
    for (uint64_t i = 0; i < w->callable_count; i++) {
        drop_parts(&w->callables[i]);
    }
    free(w->callables);
    w->callables = NULL;
    w->callable_count = w->callable_max = 0;
}

/* ---- registering ---- */

static int same_string(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Data is nobody else's: what is loaded with some is like no other. */
static int64_t find_same(const tsm_worker *w, const struct callable_info *like)
{
    for (uint64_t i = 0; i < w->callable_count && !like->load; i++) {
        const struct callable_info *c = &w->callables[i];
        if (c->live && !c->load && c->function == like->function && c->offset == like->offset &&
            same_string(c->path, like->path) && same_string(c->symbol, like->symbol)) {
            return (int64_t)i;
        }
    }
    return -1;
}

static void set_gone(tsm_worker *w, uint64_t index)
{
    struct callable_info *info = &w->callables[index];
    info->live = false;
    info->gone_at = w->run_newest;
    info->next_gone = 0;
    *(w->gone_last ? &w->callables[w->gone_last - 1].next_gone : &w->gone_first) = index + 1;
    w->gone_last = index + 1;
}

/* Whether a process may still read the entry: one that begins loads all that it finds live, and one may have an order to load
 * it that nobody waited for. */
static bool may_be_read(const tsm_worker *w, const struct callable_info *info)
{
    fence_full(); /* the entry was marked gone, and is seen so by whoever is found ready here and dies behind that */
    for (uint32_t place = 0; place < w->arena.places; place++) {
        if (a32_acquire(&arena_page(&w->arena, place)->ready) != READY_YES ||
            (info->loads && timeline_read(&w->arena, place) < info->loads[place])) {
            return true;
        }
    }
    return false;
}

/* An entry that no record in flight can name any more. */
static bool take_gone(tsm_worker *w, uint64_t *ret)
{
    if (!w->gone_first || w->state != WORKER_READY) {
        return false;
    }
    struct callable_info *info = &w->callables[w->gone_first - 1];
    if (info->gone_at >= w->run_oldest || may_be_read(w, info)) {
        return false;
    }
    *ret = w->gone_first - 1;
    w->gone_first = info->next_gone;
    w->gone_last = w->gone_first ? w->gone_last : 0;
    unshare(w, *ret);
    drop_parts(info);
    return true;
}

/* Takes the parts of *like, on failure too. */
static int add(tsm_worker *w, struct callable_info *like, uint64_t *ret)
{
    if (take_gone(w, ret)) {
        uint32_t generation = w->callables[*ret].generation + 1;
        w->callables[*ret] = *like;
        w->callables[*ret].generation = generation;
        w->callables[*ret].live = true;
        return 0;
    }
    if (w->callable_count == w->callable_max) {
        uint64_t max = w->callable_max ? w->callable_max * 2 : 32;
        struct callable_info *more = realloc(w->callables, max * sizeof(*more));
        if (!more) {
            drop_parts(like);
            return TSM_ENOMEM;
        }
        w->callables = more;
        w->callable_max = max;
    }
    if (w->callable_count >= (UINT64_C(1) << 20)) {
        drop_parts(like);
        return TSM_ENOSPC;
    }
    *ret = w->callable_count++;
    w->callables[*ret] = *like;
    w->callables[*ret].generation = 1;
    w->callables[*ret].live = true;
    return 0;
}

static int tell_to_load(tsm_worker *w, uint64_t index)
{
    for (uint32_t place = 0; place < w->arena.places; place++) {
        struct record *rec;
        while (!(rec = ring_reserve(&w->rings[place], LINE, timeline_read(&w->arena, place)))) {
            int rc = engine_wait(w, place, ring_blocked_on(&w->rings[place]), 0);
            if (rc != 0) {
                return rc;
            }
        }
        rec->kind = RECORD_LOAD;
        rec->wait_count = 0;
        rec->task = rec->run = 0;
        rec->callable = (uint32_t)index;
        rec->generation = w->callables[index].generation;
        ring_publish(&w->rings[place], rec, LINE);
        wake_place(&w->arena, place);
    }
    return 0;
}

/* Tells every child to load it and hears whether they could: all or none. */
static int load_everywhere(tsm_worker *w, uint64_t index)
{
    int result = 0;
    int rc = tell_to_load(w, index);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t place = 0; place < w->arena.places; place++) {
        rc = engine_wait(w, place, w->rings[place].published, 0);
        if (rc != 0) {
            return rc;
        }
        const struct proc_page *p = arena_page(&w->arena, place);
        if (result == 0 && a32_load(&p->load_failed)) {
            bool sub = place >= w->arena.chips;
            result = worker_refuse(w, TSM_ENOENT, "'%s' cannot be loaded in %s %u: %.300s",
                                   w->callables[index].name, sub ? "sub worker" : "chip",
                                   sub ? place - w->arena.chips : place, p->text);
        }
    }
    return result;
}

/* Somebody could not, or it is not known whether all could: then orders to load it are in the rings, and its parts stay
 * until these are done; for good without memory for what to wait for. */
static void withdraw(tsm_worker *w, uint64_t index, int code)
{
    struct callable_info *info = &w->callables[index];
    a32_release(&w->arena.callables[index].state, CALLABLE_GONE);
    info->live = false;
    if (code == TSM_EINTERRUPTED) {
        info->loads = malloc(w->arena.places * sizeof(*info->loads));
        for (uint32_t place = 0; info->loads && place < w->arena.places; place++) {
            info->loads[place] = w->rings[place].published;
        }
    }
    if (code != TSM_EINTERRUPTED || info->loads) {
        set_gone(w, index);
    }
}

static int finish_add(tsm_worker *w, struct callable_info *like, tsm_callable *ret)
{
    int64_t same = find_same(w, like);
    if (same >= 0) {
        drop_parts(like);
        ret->value = handle_of(w, (uint64_t)same);
        return 0;
    }
    uint64_t index = 0;
    int rc = add(w, like, &index);
    if (rc != 0) {
        return worker_refuse(w, rc, "no room for another callable");
    }
    if (w->state == WORKER_READY) {
        rc = share(w, index) == 0
                 ? load_everywhere(w, index)
                 : worker_refuse(w, TSM_ENOMEM, "no memory for the callable's name");
        free(w->callables[index].data);
        w->callables[index].data = NULL;
        if (rc != 0) {
            withdraw(w, index, rc);
            return rc;
        }
    }
    ret->value = handle_of(w, index);
    return 0;
}

/* With spawn a function travels as object and offset; it must be in a shared object. */
static int as_offset(tsm_worker *w, tsm_task_fn *fn, struct callable_info *info)
{
    Dl_info where;
    void *address;
    memcpy(&address, &fn, sizeof(address));
    if (dladdr(address, &where) == 0 || !where.dli_fname) {
        return worker_refuse(w, TSM_EUNSUPPORTED,
                             "function %p is in no shared object: with spawn "
                             "register a symbol, or use fork",
                             address);
    }
    void *object = dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (!object) {
        return worker_refuse(
            w, TSM_EUNSUPPORTED,
            "function %p is in the program itself (%s), which a spawned process does not "
            "have: move it to a shared object, or use fork",
            address, where.dli_fname);
    }
    dlclose(object);
    info->path = strdup(where.dli_fname);
    info->offset = (uint64_t)((uint8_t *)address - (uint8_t *)where.dli_fbase);
    return info->path ? 0 : worker_refuse(w, TSM_ENOMEM, "no memory for a path");
}

static int set_name(tsm_worker *w, struct callable_info *info, const char *name, tsm_task_fn *fn)
{
    Dl_info where;
    void *address;
    memcpy(&address, &fn, sizeof(address));
    if (!name && fn && dladdr(address, &where) != 0) {
        name = where.dli_sname;
    }
    char made[32];
    if (!name) {
        snprintf(made, sizeof(made), "function %p", address);
        name = made;
    }
    info->name = strdup(name);
    return info->name ? 0 : worker_refuse(w, TSM_ENOMEM, "no memory for a name");
}

/* Before start, or while the processes can be told. */
static int check_registering(tsm_worker *w)
{
    int rc = worker_check(w, CHECK_ANY);
    return rc != 0 || w->state == WORKER_NEW ? rc : worker_check(w, CHECK_READY);
}

int tsm_register(tsm_worker *w, const char *name, tsm_task_fn *fn, tsm_callable *ret)
{
    int rc = check_registering(w);
    if (rc != 0) {
        return rc;
    }
    if (!fn || !ret) {
        return worker_refuse(w, TSM_EINVAL, "%s is NULL", fn ? "ret" : "fn");
    }
    if (w->state != WORKER_NEW) {
        return worker_refuse(
            w, TSM_ESTATE,
            "a function is registered before start; after it use tsm_register_symbol");
    }
    struct callable_info info = {.function = fn};
    rc = set_name(w, &info, name, fn);
    if (rc == 0 && w->opts.start_method == TSM_SPAWN) {
        rc = as_offset(w, fn, &info);
    }
    if (rc != 0) {
        drop_parts(&info);
        return rc;
    }
    return finish_add(w, &info, ret);
}

/* Looked for here first: a wrong name costs no process anything. */
static int look_for(tsm_worker *w, const char *path, const char *const *symbols, size_t count)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    int rc = object ? 0 : worker_refuse(w, TSM_ENOENT, "%s", dlerror());
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (!dlsym(object, symbols[i])) {
            rc = worker_refuse(w, TSM_ENOENT, "%s", dlerror());
        }
    }
    if (object) {
        dlclose(object);
    }
    return rc;
}

int tsm_register_symbol(tsm_worker *w, const char *path, const char *symbol, const char *name,
                        tsm_callable *ret)
{
    int rc = check_registering(w);
    if (rc != 0) {
        return rc;
    }
    if (!path || !*path || !symbol || !*symbol || !ret) {
        return worker_refuse(w, TSM_EINVAL, "path, symbol or ret is NULL or empty");
    }
    if ((rc = look_for(w, path, &symbol, 1)) != 0) {
        return rc;
    }
    struct callable_info info = {.path = strdup(path), .symbol = strdup(symbol)};
    info.name = strdup(name ? name : symbol);
    if (!info.path || !info.symbol || !info.name) {
        drop_parts(&info);
        return worker_refuse(w, TSM_ENOMEM, "no memory for names");
    }
    return finish_add(w, &info, ret);
}

static int check_callable_opts(tsm_worker *w, const struct tsm_callable_opts *o)
{
    if (!o || o->size != sizeof(*o)) {
        return worker_refuse(w, TSM_EINVAL,
                             "opts is NULL or not initialised with TSM_CALLABLE_OPTS_INIT");
    }
    const char *missing = !o->path || !*o->path       ? "path"
                          : !o->symbol || !*o->symbol ? "symbol"
                          : !o->load || !*o->load     ? "load"
                                                      : NULL;
    if (missing) {
        return worker_refuse(w, TSM_EINVAL, "%s is NULL or empty", missing);
    }
    if (o->bytes > DATA_BYTES_MAX || (o->bytes != 0 && !o->data)) {
        return worker_refuse(w, TSM_EINVAL, "bytes is %llu: %s", (unsigned long long)o->bytes,
                             o->data ? "at most 64 MiB" : "data is NULL");
    }
    const char *symbols[] = {o->symbol, o->load, o->unload};
    int rc = look_for(w, o->path, symbols, o->unload ? 3 : 2);
    return rc != 0 ? rc : worker_promise(w, o->bytes);
}

int tsm_register_loaded(tsm_worker *w, const struct tsm_callable_opts *o, tsm_callable *ret)
{
    int rc = check_registering(w);
    if (rc != 0) {
        return rc;
    }
    if (!ret) {
        return worker_refuse(w, TSM_EINVAL, "ret is NULL");
    }
    if ((rc = check_callable_opts(w, o)) != 0) {
        return rc;
    }
    struct callable_info info = {.path = strdup(o->path),
                                 .symbol = strdup(o->symbol),
                                 .load = strdup(o->load),
                                 .unload = o->unload ? strdup(o->unload) : NULL,
                                 .name = strdup(o->name ? o->name : o->symbol),
                                 .data = o->bytes ? malloc(o->bytes) : NULL,
                                 .bytes = o->bytes};
    if (!info.path || !info.symbol || !info.load || (o->unload && !info.unload) || !info.name ||
        (o->bytes && !info.data)) {
        drop_parts(&info);
        return worker_refuse(w, TSM_ENOMEM, "no memory for names and data");
    }
    if (o->bytes) {
        memcpy(info.data, o->data, o->bytes);
    }
    return finish_add(w, &info, ret);
}

int tsm_unregister(tsm_worker *w, tsm_callable c)
{
    uint32_t index = 0;
    int rc = worker_check(w, CHECK_ANY);
    if (rc != 0 || (rc = callable_check(w, c, -1, &index)) != 0) {
        return rc;
    }
    set_gone(w, index);
    if (w->state == WORKER_READY) {
        /* A replacement does not load it; a task that still names it finds its strings. Pairs with load_all. */
        a32_release(&w->arena.callables[index].state, CALLABLE_GONE);
    }
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * From edges to waits. The range map and explicit predecessors name tasks; here they become the (word, value) pairs of
 * a record: one per producing chip, none where the ring's own order or an earlier record's wait already says
 * it. Also groups (one task, several words) and what is known of pool records. Orchestrator. docs/engine.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "shm/mark.h"

enum { ID_SHIFT = 48, ID_SUB = 0xffff, ID_GROUP = 0xfffe, POOL_WAITS_MAX = 64 };

tsm_task_id task_id(uint32_t place, uint64_t value)
{
    uint64_t kind = place == REF_SUB ? ID_SUB : place == REF_GROUP ? ID_GROUP : place + 1;
    return kind << ID_SHIFT | value;
}

/* ---- what is known of tasks ---- */

/* The line of timeline and marks is written for every task of the chip, so it is read only for news. Marks are
 * made before the timeline passes their task: those read after it cover all up to it. */
static enum ref_state chip_state(tsm_worker *w, uint32_t chip, uint32_t run, uint64_t value)
{
    const struct proc_page *p = arena_page(&w->arena, chip);
    if (w->done[chip] < value) {
        uint64_t done = timeline_read(&w->arena, chip);
        uint64_t published = w->rings[chip].published;
        w->done[chip] = done < published ? done : published;
        w->marks[chip] = a64_load(&p->marks);
        if (w->done[chip] < value) {
            return REF_PENDING;
        }
    }
    if (w->marks[chip] != 0 && mark_says(&p->mark[run % RUN_SLOTS], run, value)) {
        return REF_FAILED;
    }
    return REF_DONE;
}

static bool sub_is_known_failed(const tsm_worker *w, uint64_t value)
{
    /* pool_collect adds them in rising order. */
    uint32_t lo = 0;
    uint32_t hi = w->failed_subs.count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (w->failed_subs.list[mid].value < value) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < w->failed_subs.count && w->failed_subs.list[lo].value == value;
}

static enum ref_state sub_state(tsm_worker *w, uint64_t value)
{
    if (value <= w->pool_head) {
        return sub_is_known_failed(w, value) ? REF_FAILED : REF_DONE;
    }
    uint64_t word = pool_done_word(&w->arena, value);
    if (word >> 1 < value) {
        return REF_PENDING;
    }
    return word & 1 ? REF_FAILED : REF_DONE;
}

static enum ref_state word_state(tsm_worker *w, const struct word *x)
{
    return x->place == REF_SUB ? sub_state(w, x->value) : chip_state(w, x->place, x->run, x->value);
}

static struct group *group_of(const tsm_worker *w, uint64_t number)
{
    if (number < w->group_first || number >= w->group_next) {
        return NULL;
    }
    return &w->groups[number & (w->group_max - 1)];
}

static enum ref_state group_state(tsm_worker *w, uint64_t number)
{
    struct group *g = group_of(w, number);
    if (!g) {
        return REF_DONE;
    }
    while (g->done < g->count && word_state(w, &g->members[g->done]) != REF_PENDING) {
        g->done++;
    }
    if (g->done < g->count) {
        return REF_PENDING;
    }
    for (uint32_t i = 0; i < g->count; i++) {
        if (word_state(w, &g->members[i]) == REF_FAILED) {
            return REF_FAILED;
        }
    }
    return REF_DONE;
}

enum ref_state ref_state(void *ctx, struct taskref ref)
{
    tsm_worker *w = ctx;
    if (ref.place == REF_GROUP) {
        return group_state(w, ref.value);
    }
    struct word x = {ref.place, ref.run, ref.value};
    return word_state(w, &x);
}

int ref_words(tsm_worker *w, struct taskref ref, struct words *out)
{
    if (ref.place == REF_SUB) {
        return words_add(out, PLACE_POOL, ref.run, ref.value);
    }
    if (ref.place != REF_GROUP) {
        return words_add(out, ref.place, ref.run, ref.value);
    }
    const struct group *g = group_of(w, ref.value);
    for (uint32_t i = 0; g && i < g->count; i++) {
        const struct word *m = &g->members[i];
        int rc = words_add(out, m->place == REF_SUB ? PLACE_POOL : m->place, m->run, m->value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Pool records are done in any order; their slots are used again in order. */
void pool_collect(tsm_worker *w)
{
    uint64_t published = w->rings[w->arena.places].published;
    while (w->pool_head < published) {
        uint64_t next = w->pool_head + 1;
        uint64_t word = pool_done_word(&w->arena, next);
        if (word >> 1 != next) {
            break;
        }
        if (word & 1) {
            const struct record *rec = ring_record(&w->arena, w->arena.places, next);
            /* Without memory for it the failure is known from the run itself, not for later runs. */
            words_add(&w->failed_subs, PLACE_POOL, (uint32_t)rec->run, next);
        }
        w->pool_head = next;
    }
    a64_store(&w->arena.ctl->pool_head, w->pool_head);
}

/* ---- groups ---- */

static int grow_groups(tsm_worker *w)
{
    uint64_t max = w->group_max ? w->group_max * 2 : 64;
    struct group *more = calloc(max, sizeof(*more));
    if (!more) {
        return TSM_ENOMEM;
    }
    for (uint64_t i = w->group_first; i < w->group_next; i++) {
        more[i & (max - 1)] = w->groups[i & (w->group_max - 1)];
    }
    free(w->groups);
    w->groups = more;
    w->group_max = max;
    return 0;
}

int group_reserve(tsm_worker *w, uint32_t count)
{
    struct group *g;
    if (w->group_next - w->group_first == w->group_max) {
        groups_retire(w);
    }
    if (w->group_next - w->group_first == w->group_max && grow_groups(w) != 0) {
        return TSM_ENOMEM;
    }
    g = &w->groups[w->group_next & (w->group_max - 1)];
    struct word *members = realloc(g->members, count * sizeof(*members));
    if (!members) {
        return TSM_ENOMEM;
    }
    g->members = members;
    return 0;
}

uint64_t group_add(tsm_worker *w, uint64_t run, const struct word *members, uint32_t count)
{
    uint64_t number = w->group_next++;
    struct group *g = &w->groups[number & (w->group_max - 1)];
    g->run = run;
    g->count = count;
    g->done = 0;
    memcpy(g->members, members, count * sizeof(*members));
    return number;
}

void groups_retire(tsm_worker *w)
{
    while (w->group_first < w->group_next) {
        struct group *g = &w->groups[w->group_first & (w->group_max - 1)];
        /* A failed one is asked about until its run is over. */
        if (g->run >= w->run_oldest && group_state(w, w->group_first) != REF_DONE) {
            break;
        }
        free(g->members);
        g->members = NULL;
        w->group_first++;
    }
}

/* ---- collecting ---- */

static void need_chip(struct deps *d, uint32_t chip, uint64_t value)
{
    if (d->stamp[chip] != d->round) {
        d->stamp[chip] = d->round;
        d->value[chip] = 0;
        d->data[chip] = 0;
        d->touched[d->touched_count++] = chip;
    }
    d->value[chip] = value > d->value[chip] ? value : d->value[chip];
}

/* The word was waited for here, so no record will ask whether its task failed. place: of a record's wait. */
static void judge_here(tsm_worker *w, const struct word *x)
{
    uint32_t place = x->place & PLACE_MASK;
    struct word at = {place == PLACE_POOL ? REF_SUB : place, x->run, x->value};
    if ((x->place & WAIT_DATA || x->run == w->deps.run) && word_state(w, &at) == REF_FAILED) {
        w->deps.poison = (uint64_t)x->run + 1;
    }
}

/* Words that stand for themselves: pool records, and what is read of a chip from a second earlier run. A record
 * carries POOL_WAITS_MAX of these; deps_trim sees to the rest. place: as in a record's wait. */
static void need_single(tsm_worker *w, uint32_t place, const struct word *x)
{
    struct words *pool = &w->deps.pool;
    for (uint32_t i = pool->count > 8 ? pool->count - 8 : 0; i < pool->count; i++) {
        struct word *in = &pool->list[i];
        if (in->value == x->value && (in->place & PLACE_MASK) == (place & PLACE_MASK)) {
            in->place |= place;
            return;
        }
    }
    if (words_add(pool, PLACE_POOL, x->run, x->value) != 0) {
        /* No memory to remember it: it is waited for on the spot. */
        while (!word_reached(&w->arena, place & PLACE_MASK, x->value)) {
            cpu_pause();
        }
        judge_here(w, &(struct word){place, x->run, x->value});
        return;
    }
    pool->list[pool->count - 1].place = place;
}

/* data: reads what the task writes, and the task belongs to an earlier run. */
static void need_word(tsm_worker *w, const struct word *x, bool data)
{
    struct deps *d = &w->deps;
    if (x->place == REF_SUB) {
        need_single(w, PLACE_POOL | (data ? WAIT_DATA : 0), x);
        return;
    }
    need_chip(d, x->place, x->value);
    if (!data) {
        return;
    }
    struct word other = {x->place, d->data_run[x->place], d->data[x->place]};
    if (other.value == 0 || other.run == x->run) {
        d->data[x->place] = x->value > other.value ? x->value : other.value;
        d->data_run[x->place] = x->run;
    } else {
        /* The later value says that both are done, but not that both went well. */
        bool later = x->value > other.value;
        d->data[x->place] = later ? x->value : other.value;
        d->data_run[x->place] = later ? x->run : other.run;
        need_single(w, x->place | WAIT_DATA, later ? &other : x);
    }
}

static void need_ref(tsm_worker *w, struct taskref ref, bool raw)
{
    bool data = raw && ref.run != w->deps.run;
    if (ref.place != REF_GROUP) {
        struct word x = {ref.place, ref.run, ref.value};
        need_word(w, &x, data);
        return;
    }
    const struct group *g = group_of(w, ref.value);
    for (uint32_t i = 0; g && i < g->count; i++) {
        need_word(w, &g->members[i], data);
    }
}

static void on_edge(void *ctx, struct taskref ref, enum edge_kind kind)
{
    tsm_worker *w = ctx;
    if (kind == EDGE_POISON) {
        w->deps.poison = (uint64_t)ref.run + 1;
    } else {
        need_ref(w, ref, kind == EDGE_RAW);
    }
}

void deps_begin(tsm_worker *w, uint64_t run)
{
    struct deps *d = &w->deps;
    d->round++;
    d->touched_count = 0;
    d->pool.count = 0;
    d->poison = 0;
    d->run = (uint32_t)run;
}

/* The smallest value that a task of the run being built can have where `ref` points. */
static uint64_t first_of_run(const tsm_worker *w, struct taskref ref)
{
    if (ref.place == REF_SUB) {
        const tsm_run *run = w->current;
        return run && run->last[w->arena.places] != 0 ? run->pool_first : UINT64_MAX;
    }
    if (ref.place == REF_GROUP) {
        const struct group *g = group_of(w, ref.value);
        return g && (uint32_t)g->run == ref.run ? ref.value : UINT64_MAX;
    }
    return 0; /* a chip's mark is of this run, or it would not have said so */
}

int deps_add_task(tsm_worker *w, tsm_task_id id, int member, uint32_t index)
{
    uint64_t kind = id >> ID_SHIFT;
    uint64_t value = id & ((UINT64_C(1) << ID_SHIFT) - 1);
    struct taskref ref = {0, w->deps.run, value};
    uint64_t newest = 0;
    if (kind == ID_SUB) {
        ref.place = REF_SUB;
        newest = w->rings[w->arena.places].published;
    } else if (kind == ID_GROUP) {
        ref.place = REF_GROUP;
        newest = w->group_next - 1;
    } else if (kind != 0 && kind <= w->arena.chips) {
        ref.place = (uint32_t)kind - 1;
        newest = w->rings[ref.place].published;
    }
    if (newest == 0 || value == 0 || value > newest) {
        char whose[32] = "";
        if (member >= 0) {
            snprintf(whose, sizeof(whose), "member %d: ", member);
        }
        return worker_refuse(w, TSM_EINVAL, "%safter[%u] is %#llx: not a task of this worker",
                             whose, index, (unsigned long long)id);
    }
    enum ref_state state = ref_state(w, ref);
    if (state == REF_PENDING) {
        if (ref.place == REF_SUB) {
            /* Of an earlier run it is an order only: its failure is not this run's. */
            ref.run = (uint32_t)ring_record(&w->arena, w->arena.places, value)->run;
        }
        need_ref(w, ref, false);
    } else if (state == REF_FAILED && value >= first_of_run(w, ref)) {
        w->deps.poison = (uint64_t)ref.run + 1;
    }
    return 0;
}

uint32_t deps_bound(const tsm_worker *w)
{
    return 2 * w->arena.chips + POOL_WAITS_MAX;
}

uint32_t deps_write(tsm_worker *w, uint32_t ring, uint64_t run, struct record_wait *out)
{
    struct deps *d = &w->deps;
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->touched_count; i++) {
        uint32_t chip = d->touched[i];
        uint64_t value = d->value[chip];
        bool data = d->data[chip] != 0;
        if (ring < w->arena.chips && !data) {
            struct known *k = &w->known[(uint64_t)ring * w->arena.chips + chip];
            if (chip == ring || (k->run == run && k->value >= value)) {
                w->stats.waits_elided++;
                continue;
            }
            k->run = run;
            k->value = value;
        }
        if (data && d->data[chip] != value) {
            out[n++] = (struct record_wait){chip | WAIT_DATA, d->data_run[chip], d->data[chip]};
            out[n++] = (struct record_wait){chip, (uint32_t)run, value};
        } else if (data) {
            out[n++] = (struct record_wait){chip | WAIT_DATA, d->data_run[chip], value};
        } else {
            out[n++] = (struct record_wait){chip, (uint32_t)run, value};
        }
    }
    for (uint32_t i = 0; i < d->pool.count; i++) {
        out[n++] =
            (struct record_wait){d->pool.list[i].place, d->pool.list[i].run, d->pool.list[i].value};
    }
    w->stats.waits += n;
    return n;
}

int deps_trim(tsm_worker *w)
{
    struct words *pool = &w->deps.pool;
    int rc = 0;
    bool steady = w->steady;
    w->holding = true;
    w->steady = true; /* the record is half made */
    while (rc == 0 && pool->count > POOL_WAITS_MAX) {
        const struct word x = pool->list[--pool->count];
        rc = engine_wait(w, x.place & PLACE_MASK, x.value, 0);
        judge_here(w, &x);
    }
    w->holding = false;
    w->steady = steady;
    return rc;
}

int deps_wait(tsm_worker *w)
{
    struct deps *d = &w->deps;
    if (d->poison && w->current && (uint32_t)(d->poison - 1) == (uint32_t)w->current->number) {
        run_abort(w->current);
        return run_stopped(w);
    }
    if (d->poison) {
        return worker_refuse(w, TSM_EUPSTREAM_FAILED,
                             "the task of run %u that should have written this failed",
                             (uint32_t)(d->poison - 1));
    }
    for (uint32_t i = 0; i < d->touched_count; i++) {
        int rc = engine_wait(w, d->touched[i], d->value[d->touched[i]], 0);
        if (rc != 0) {
            return rc;
        }
    }
    for (uint32_t i = 0; i < d->pool.count; i++) {
        int rc = engine_wait(w, d->pool.list[i].place & PLACE_MASK, d->pool.list[i].value, 0);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- life ---- */

int graph_init(tsm_worker *w)
{
    uint32_t chips = w->arena.chips;
    struct deps *d = &w->deps;
    d->value = calloc(chips, sizeof(*d->value));
    d->data = calloc(chips, sizeof(*d->data));
    d->data_run = calloc(chips, sizeof(*d->data_run));
    d->stamp = calloc(chips, sizeof(*d->stamp));
    d->touched = calloc(chips, sizeof(*d->touched));
    d->pool.list = calloc(POOL_WAITS_MAX, sizeof(*d->pool.list));
    d->pool.max = POOL_WAITS_MAX;
    w->known = calloc((uint64_t)chips * chips, sizeof(*w->known));
    w->done = calloc(chips, sizeof(*w->done));
    w->marks = calloc(chips, sizeof(*w->marks));
    w->group_first = w->group_next = 1;
    struct rangemap_ops ops = {w, ref_state, on_edge, chips};
    if (!d->value || !d->data || !d->data_run || !d->stamp || !d->touched || !d->pool.list ||
        !w->known || !w->done || !w->marks || rangemap_init(&w->map, &ops) != 0) {
        return TSM_ENOMEM;
    }
    return 0;
}

void graph_fini(tsm_worker *w)
{
    struct deps *d = &w->deps;
    free(d->value);
    free(d->data);
    free(d->data_run);
    free(d->stamp);
    free(d->touched);
    free(d->pool.list);
    memset(d, 0, sizeof(*d));
    free(w->known);
    free(w->done);
    free(w->marks);
    for (uint64_t i = 0; i < w->group_max; i++) {
        free(w->groups[i].members);
    }
    free(w->groups);
    free(w->failed_subs.list);
    w->known = NULL;
    w->done = NULL;
    w->marks = NULL;
    w->groups = NULL;
    w->group_max = 0;
    w->failed_subs = (struct words){0};
    rangemap_fini(&w->map);
}

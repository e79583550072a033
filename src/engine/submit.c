/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Submitting a task or a group: check everything, make sure of room and memory, then enter it into the range map,
 * write its record and ring the chip. Up to the first access to the map nothing has happened. Orchestrator;
 * owns the scratch arrays. docs/engine.md.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/args.h"

struct scratch {
    struct use *uses;
    struct plan *plans;
    struct word *members;
    struct record **records;
    uint32_t uses_max, plans_max;
};

int scratch_init(tsm_worker *w)
{
    w->scratch = calloc(1, sizeof(*w->scratch));
    return w->scratch ? 0 : TSM_ENOMEM;
}

void scratch_fini(tsm_worker *w)
{
    if (w->scratch) {
        free(w->scratch->uses);
        free(w->scratch->plans);
        free(w->scratch->members);
        free(w->scratch->records);
        free(w->scratch);
        w->scratch = NULL;
    }
}

static int scratch_reserve(struct scratch *s, uint32_t uses, uint32_t plans)
{
    if (uses > s->uses_max) {
        struct use *more = realloc(s->uses, uses * sizeof(*more));
        if (!more) {
            return TSM_ENOMEM;
        }
        s->uses = more;
        s->uses_max = uses;
    }
    if (plans > s->plans_max) {
        struct plan *p = realloc(s->plans, plans * sizeof(*p));
        s->plans = p ? p : s->plans;
        struct word *m = realloc(s->members, plans * sizeof(*m));
        s->members = m ? m : s->members;
        struct record **r = realloc(s->records, plans * sizeof(*r));
        s->records = r ? r : s->records;
        if (!p || !m || !r) {
            return TSM_ENOMEM;
        }
        s->plans_max = plans;
    }
    return 0;
}

/* ---- choosing a chip ---- */

static int least_loaded(tsm_worker *w)
{
    uint64_t best_load = UINT64_MAX;
    int best = 0;
    for (uint32_t c = 0; c < w->arena.chips; c++) {
        uint64_t load = w->rings[c].published - timeline_read(&w->arena, c);
        if (load < best_load) {
            best_load = load;
            best = (int)c;
        }
    }
    return best;
}

static void choose_chip(tsm_worker *w, struct plan *p)
{
    if (p->chip == TSM_ANY_CHIP) {
        p->chip = p->memory != TSM_ANY_CHIP ? p->memory : least_loaded(w);
    }
}

/* ---- memory of outputs without an address ---- */

static void undo_outputs(tsm_worker *w, struct plan *plans, uint32_t count)
{
    for (uint32_t m = 0; m < count; m++) {
        for (uint32_t i = 0; i < plans[m].call->tensor_count; i++) {
            struct use *u = &plans[m].uses[i];
            if (u->allocate && u->span_count) {
                struct tsm_tensor *t = &plans[m].call->tensors[i];
                int chip = plans[m].chip == TSM_SUB ? CHIP_HOST : plans[m].chip;
                struct scope *s = &w->current->scopes[w->current->scope_count - 1];
                s->count--;
                memory_free(w, chip, (uint64_t)(uintptr_t)t->data);
                t->data = NULL;
            }
        }
    }
}

static int allocate_outputs(tsm_worker *w, struct plan *p)
{
    if (!p->allocates) {
        return 0;
    }
    for (uint32_t i = 0; i < p->call->tensor_count; i++) {
        struct use *u = &p->uses[i];
        if (u->allocate) {
            uint64_t addr;
            int chip = p->chip == TSM_SUB ? CHIP_HOST : p->chip;
            int rc = memory_alloc(w, chip, u->allocate, OWNER_SCOPE, &addr);
            if (rc != 0) {
                return rc;
            }
            if (scope_add(w, w->current, addr) != 0) {
                memory_free(w, chip, addr);
                return worker_refuse(w, TSM_ENOMEM, "no memory for the scope's list");
            }
            p->call->tensors[i].data = (void *)(uintptr_t)addr;
            u->spans[0] = (struct span){addr, u->allocate, 0, 1};
            u->span_count = 1;
        }
    }
    return 0;
}

/* ---- room ---- */

static uint32_t ring_of(const tsm_worker *w, const struct plan *p)
{
    return p->chip == TSM_SUB ? w->arena.places : (uint32_t)p->chip;
}

/* Room for `bytes` in `count` records on a ring, or NULL and the word to wait for. */
static struct record *try_reserve(tsm_worker *w, uint32_t ring, uint32_t bytes, uint32_t count,
                                  struct word *ret_blocked)
{
    struct ring_writer *r = &w->rings[ring];
    if (ring != w->arena.places) {
        /* The timeline is a line that the chip writes: it is looked at only when the room runs out. */
        struct record *rec = ring_reserve(r, bytes, r->freed);
        if (!rec) {
            rec = ring_reserve(r, bytes, timeline_read(&w->arena, ring));
        }
        *ret_blocked = (struct word){ring, 0, ring_blocked_on(r)};
        return rec;
    }
    pool_collect(w);
    *ret_blocked = (struct word){PLACE_POOL, 0, w->pool_head + 1};
    if (r->published + count - w->pool_head > w->arena.pool_mask) {
        return NULL;
    }
    return ring_reserve(r, bytes, w->pool_head);
}

/* Waits for room; what was reserved before the wait is not reserved any more. */
static int wait_for_room(tsm_worker *w, const struct word *blocked)
{
    int rc = engine_wait(w, blocked->place, blocked->value, 0);
    run_check_timeline(w->current, blocked->place);
    return rc != 0 ? rc : run_stopped(w);
}

/* ---- entering the graph ---- */

static void enter(tsm_worker *w, const struct plan *p, struct taskref self)
{
    for (uint32_t i = 0; i < p->call->tensor_count; i++) {
        const struct use *u = &p->uses[i];
        for (uint32_t k = 0; k < u->span_count; k++) {
            rangemap_access(&w->map, &u->spans[k], u->access, self);
        }
    }
}

/* The map is larger than the caches when many ranges are live: the misses of all arguments together. */
static void expect(tsm_worker *w, const struct plan *p,
                   void (*hint)(const struct rangemap *, const struct span *))
{
    for (uint32_t i = 0; rangemap_is_large(&w->map) && i < p->call->tensor_count; i++) {
        if (p->uses[i].span_count) {
            hint(&w->map, &p->uses[i].spans[0]);
        }
    }
}

static void name_domains(const struct plan *p, uint32_t place, uint64_t value)
{
    for (uint32_t i = 0; i < p->call->domain_count; i++) {
        domain_named(p->call->domains[i], place, value);
    }
    for (uint32_t i = 0; i < p->call->tensor_count; i++) {
        if (p->uses[i].domain) {
            domain_named(p->uses[i].domain, place, value);
        }
    }
}

static int reserve_names(tsm_worker *w, const struct plan *p)
{
    int rc = 0;
    uint32_t ring = ring_of(w, p);
    if (!p->names) {
        return 0;
    }
    for (uint32_t i = 0; i < p->call->domain_count && rc == 0; i++) {
        rc = domain_reserve_name(p->call->domains[i], ring);
    }
    for (uint32_t i = 0; i < p->call->tensor_count && rc == 0; i++) {
        rc = p->uses[i].domain ? domain_reserve_name(p->uses[i].domain, ring) : 0;
    }
    return rc == 0 ? 0 : worker_refuse(w, TSM_ENOMEM, "no memory for a domain's list of users");
}

/* Writes the record and makes it visible. Its first line comes last and at once: the chip polls it, and each time that it
 * gets it between two stores the second one waits for the line to come back. */
static void publish(tsm_worker *w, const struct plan *p, struct record *rec, tsm_task_id id,
                    uint32_t member, uint32_t members)
{
    const struct tsm_call *call = p->call;
    uint32_t ring = ring_of(w, p);
    uint32_t waits = deps_write(w, ring, w->current->number, (struct record_wait *)(rec + 1));
    uint32_t bytes = plan_write(p, rec, waits);
    rec->kind = RECORD_TASK;
    rec->wait_count = (uint16_t)waits;
    rec->task = id;
    rec->run = w->current->number;
    rec->callable = p->callable;
    rec->generation = w->callables[p->callable].generation;
    rec->tensor_count = (uint16_t)call->tensor_count;
    rec->scalar_count = (uint16_t)call->scalar_count;
    rec->domain_count = (uint16_t)call->domain_count;
    rec->member = (uint16_t)member;
    rec->members = (uint16_t)members;
    rec->limit_ns = call->limit_ns;
    rec->blocks = call->blocks ? call->blocks : 1;
    uint64_t number = ring_publish(&w->rings[ring], rec, bytes);
    run_touch(w->current, ring, number);
    if (p->names) {
        name_domains(p, ring, number);
    }
    w->stats.tasks++;
}

static void wake_ring(tsm_worker *w, uint32_t ring)
{
    if (ring == w->arena.places) {
        wake_timeline(&w->arena, ring);
    } else {
        wake_place_settling(&w->arena, ring);
    }
}

/* Reads what a failed task of an earlier run should have written: the record stands (and is skipped), the
 * run fails. */
static int check_poison(tsm_worker *w, tsm_task_id id, const struct plan *p)
{
    if (w->deps.poison == 0) {
        return 0;
    }
    uint32_t upstream = (uint32_t)(w->deps.poison - 1);
    if (upstream == (uint32_t)w->current->number) {
        run_abort(
            w->current); /* its own task: the cause is in a mark that the keeper has yet to see */
        return run_stopped(w);
    }
    run_fail(w->current, TSM_EUPSTREAM_FAILED, id, p->chip == TSM_SUB ? -1 : p->chip,
             "task '%s' reads what a failed task of run %u should have written",
             callable_name_of(w, p->callable), upstream);
    w->error = w->current->error;
    return TSM_EUPSTREAM_FAILED;
}

static int add_after(tsm_worker *w, const struct tsm_call *call, int member)
{
    for (uint32_t i = 0; i < call->after_count; i++) {
        int rc = deps_add_task(w, call->after[i], member, i);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* The most bytes the record can take. */
static uint32_t bytes_bound(const tsm_worker *w, const struct plan *p)
{
    uint32_t waits = deps_bound(w) * (uint32_t)sizeof(struct record_wait);
    return (p->bytes + waits + LINE - 1) / LINE * LINE;
}

static int submit_one(tsm_worker *w, struct plan *p, tsm_task_id *ret)
{
    struct record *rec = NULL;
    expect(w, p, rangemap_expect);
    choose_chip(w, p);
    uint32_t ring = ring_of(w, p);
    deps_begin(w, w->current->number);
    int rc = add_after(w, p->call, -1);
    rc = rc != 0 ? rc : reserve_names(w, p);
    struct word blocked;
    while (rc == 0 && !(rec = try_reserve(w, ring, bytes_bound(w, p), 1, &blocked))) {
        rc = wait_for_room(w, &blocked);
    }
    if (rc != 0) {
        return rc;
    }
    if (p->spans != 0 && rangemap_reserve(&w->map, p->spans) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory for the range map");
    }
    expect(w, p, rangemap_expect_close);
    rc = allocate_outputs(w, p);
    if (rc != 0) {
        undo_outputs(w, p, 1);
        return rc;
    }
    uint64_t number = w->rings[ring].published + 1;
    uint32_t place = p->chip == TSM_SUB ? REF_SUB : (uint32_t)p->chip;
    tsm_task_id id = task_id(place, number);
    struct taskref self = {place, (uint32_t)w->current->number, number};
    enter(w, p, self);
    deps_trim(w);
    rc = check_poison(w, id, p);
    publish(w, p, rec, id, 0, 1);
    wake_ring(w, ring);
    if (ret && rc == 0) {
        *ret = id;
    }
    return rc;
}

int tsm_submit(tsm_orch *orch, const struct tsm_call *call, tsm_task_id *ret)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    tsm_worker *w = orch->run->worker;
    if (!call) {
        return worker_refuse(w, TSM_EINVAL, "call is NULL");
    }
    if ((rc = run_stopped(w)) != 0) {
        return rc;
    }
    if (call->tensor_count > RECORD_BYTES_MAX / sizeof(struct record_tensor)) {
        return worker_refuse(w, TSM_EINVAL, "tensor_count is %u: more than a record holds",
                             call->tensor_count);
    }
    if (scratch_reserve(w->scratch, call->tensor_count, 1) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory to check the arguments");
    }
    struct plan *p = &w->scratch->plans[0];
    rc = plan_call(w, call, -1, w->scratch->uses, p);
    return rc != 0 ? rc : submit_one(w, p, ret);
}

/* ---- groups ---- */

static int check_group(tsm_worker *w, const struct tsm_call *members, uint32_t count)
{
    uint64_t seen[CHIPS_MAX / 64] = {0};
    if (!members || count == 0) {
        return worker_refuse(w, TSM_EINVAL, "a group of %u members", members ? count : 0);
    }
    bool subs = members[0].chip == TSM_SUB;
    if (subs && count > w->arena.subs) {
        return worker_refuse(w, TSM_EINVAL, "a group of %u sub tasks, but there are %u sub workers",
                             count, w->arena.subs);
    }
    if (!subs && count > w->arena.chips) {
        return worker_refuse(w, TSM_EINVAL, "a group of %u members, but there are %u chips", count,
                             w->arena.chips);
    }
    for (uint32_t m = 0; m < count; m++) {
        int chip = members[m].chip;
        if (subs != (chip == TSM_SUB)) {
            return worker_refuse(w, TSM_EINVAL,
                                 "member %u: a group is on chips or on subs, not both", m);
        }
        if (subs) {
            continue;
        }
        if (chip < 0 || (uint32_t)chip >= w->arena.chips) {
            return worker_refuse(w, TSM_EINVAL, "member %u: chip is %d; there are chips 0 to %u", m,
                                 chip, w->arena.chips - 1);
        }
        if (seen[chip / 64] >> chip % 64 & 1) {
            return worker_refuse(w, TSM_EINVAL, "member %u: chip %d is named twice", m, chip);
        }
        seen[chip / 64] |= UINT64_C(1) << chip % 64;
    }
    return 0;
}

static int plan_group(tsm_worker *w, const struct tsm_call *members, uint32_t count)
{
    uint64_t uses = 0;
    for (uint32_t m = 0; m < count; m++) {
        if (members[m].tensor_count > RECORD_BYTES_MAX / sizeof(struct record_tensor)) {
            return worker_refuse(w, TSM_EINVAL,
                                 "member %u: tensor_count is %u: more than a record holds", m,
                                 members[m].tensor_count);
        }
        uses += members[m].tensor_count;
    }
    if (uses > UINT32_MAX / sizeof(struct use) ||
        scratch_reserve(w->scratch, (uint32_t)uses, count) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory to check the arguments");
    }
    uses = 0;
    for (uint32_t m = 0; m < count; m++) {
        struct plan *p = &w->scratch->plans[m];
        int rc = plan_call(w, &members[m], (int)m, w->scratch->uses + uses, p);
        if (rc != 0 || (rc = reserve_names(w, p)) != 0) {
            return rc;
        }
        uses += members[m].tensor_count;
    }
    return 0;
}

/* Room for a group of sub tasks together. */
static int reserve_subs(tsm_worker *w, struct plan *plans, uint32_t count)
{
    uint64_t bytes = 0;
    struct word blocked;
    for (uint32_t m = 0; m < count; m++) {
        bytes += bytes_bound(w, &plans[m]);
    }
    const struct ring_writer *pool = &w->rings[w->arena.places];
    if (bytes > pool->mask / 2 || count > w->arena.pool_mask / 2) {
        return worker_refuse(
            w, TSM_ENOSPC,
            "a group of %u sub tasks with %llu bytes of arguments does not fit the "
            "ring of %llu bytes: raise ring_bytes",
            count, (unsigned long long)bytes, (unsigned long long)pool->mask + 1);
    }
    while (!try_reserve(w, w->arena.places, (uint32_t)bytes, count, &blocked)) {
        int rc = wait_for_room(w, &blocked);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Room on every ring before anything is written to one. After a wait all are looked at again. */
static int reserve_group(tsm_worker *w, struct plan *plans, uint32_t count)
{
    if (plans[0].chip == TSM_SUB) {
        return reserve_subs(w, plans, count);
    }
    for (uint32_t m = 0; m < count; m++) {
        struct word blocked;
        if (!try_reserve(w, ring_of(w, &plans[m]), bytes_bound(w, &plans[m]), 1, &blocked)) {
            int rc = wait_for_room(w, &blocked);
            if (rc != 0) {
                return rc;
            }
            m = UINT32_MAX; /* from the first again */
        }
    }
    return 0;
}

/* What can still fail, before the group is in the map. */
static int prepare_group(tsm_worker *w, struct plan *plans, uint32_t count)
{
    uint32_t spans = 0;
    for (uint32_t m = 0; m < count; m++) {
        spans += plans[m].spans;
    }
    if ((spans != 0 && rangemap_reserve(&w->map, spans) != 0) || group_reserve(w, count) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory for the group");
    }
    int rc = 0;
    for (uint32_t m = 0; m < count && rc == 0; m++) {
        rc = allocate_outputs(w, &plans[m]);
    }
    if (rc != 0) {
        undo_outputs(w, plans, count);
    }
    return rc;
}

static int publish_group(tsm_worker *w, struct plan *plans, uint32_t count, tsm_task_id *ret)
{
    struct word *members = w->scratch->members;
    uint32_t run = (uint32_t)w->current->number;
    bool subs = plans[0].chip == TSM_SUB;
    uint64_t pool_next = w->rings[w->arena.places].published + 1;
    for (uint32_t m = 0; m < count; m++) {
        uint32_t place = subs ? REF_SUB : (uint32_t)plans[m].chip;
        members[m] =
            (struct word){place, run, subs ? pool_next + m : w->rings[place].published + 1};
    }
    uint64_t group = group_add(w, w->current->number, members, count);
    struct taskref self = {REF_GROUP, run, group};
    tsm_task_id id = task_id(REF_GROUP, group);
    for (uint32_t m = 0; m < count; m++) {
        enter(w, &plans[m], self);
    }
    deps_trim(w);
    int rc = check_poison(w, id, &plans[0]);
    TSM_FAULT("group");
    for (uint32_t m = 0; m < count; m++) {
        struct word blocked;
        /* The room is there: seen above, and nobody took any since. */
        struct record *rec =
            try_reserve(w, ring_of(w, &plans[m]), bytes_bound(w, &plans[m]), 1, &blocked);
        publish(w, &plans[m], rec, id, m, count);
    }
    for (uint32_t m = 0; m < count; m++) {
        wake_ring(w, ring_of(w, &plans[m]));
        if (subs) {
            break;
        }
    }
    if (ret && rc == 0) {
        *ret = id;
    }
    return rc;
}

int tsm_submit_group(tsm_orch *orch, const struct tsm_call *members, uint32_t count,
                     tsm_task_id *ret)
{
    int rc = orch_check(orch);
    if (rc != 0) {
        return rc;
    }
    tsm_worker *w = orch->run->worker;
    if ((rc = run_stopped(w)) != 0 || (rc = check_group(w, members, count)) != 0 ||
        (rc = plan_group(w, members, count)) != 0) {
        return rc;
    }
    struct plan *plans = w->scratch->plans;
    deps_begin(w, w->current->number);
    for (uint32_t m = 0; m < count; m++) {
        if ((rc = add_after(w, plans[m].call, (int)m)) != 0) {
            return rc;
        }
    }
    if ((rc = reserve_group(w, plans, count)) != 0 || (rc = prepare_group(w, plans, count)) != 0) {
        return rc;
    }
    return publish_group(w, plans, count, ret);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Random programs: what the chips leave in memory must be, bit for bit, what the same program leaves that does
 * everything at once and in the order of submission. Every task mixes what it reads into what it writes, so
 * that a read or a write in the wrong order changes what is left. A program is made, done on the model and
 * submitted step by step; its steps depend on the seed only, never on time or addresses.
 *
 * TRANSOM_TEST_SEED=n repeats one seed and prints its program.
 */
#include "harness.h"
#include "mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONFIGS = 32, /* 8 numbers of chips, 4 of sub workers */
    OBJECTS = 96,
    DOMAINS = 4,
    MEMBERS = 8,
    IDS = 64,
    SLAB = 1024, /* words of every allocation: one size, so that holes always fit */
    SLABS_CHIP = 13,
    SLABS_HOST = 20,
    HOT = 192, /* words at the start of an object that most views are in */
    PLAIN = 1280,
    SECRET = 256,
    CONSTANT = 512,
    HOST_WORDS = PLAIN + SECRET + CONSTANT,
    HEAP_BYTES = 65536,
    HOST_BYTES = 131072,
    LEASE_BYTES = 1536 * 1024
};

enum kind { NOTHING, HOST_PLAIN, HOST_SECRET, HOST_CONSTANT, MALLOC, SCOPED, WINDOW };

struct object {
    enum kind kind;
    int chip; /* TSM_HOST */
    uint32_t words, depth;
    int domain;
    tsm_task_id frozen; /* its only writer: read it with NO_DEP and behind this one */
    uint32_t *data, *model;
    uint32_t *shadow; /* who touched a word in the group being made */
};

struct domain {
    tsm_domain *handle;
    int chips[MEMBERS];
    uint32_t count;
    bool keep;
};

/* One call being made: the tensors as submitted, and the same views of the model. */
struct member {
    struct tsm_call call;
    struct tsm_tensor real[TENSORS], model[TENSORS];
    struct object *fresh[TENSORS];
    uint64_t scalars[5];
    tsm_domain *domains[1];
    tsm_task_id after[TENSORS + 2];
    uint32_t tensors;
    bool secret;
};

struct program {
    struct harness_random random;
    uint64_t seed;
    tsm_worker *worker;
    tsm_orch *orch;
    tsm_callable mix;
    uint32_t chips, subs;
    struct object objects[OBJECTS];
    struct domain domains[DOMAINS];
    tsm_task_id ids[IDS];
    uint32_t id_count;
    uint64_t tasks;
    tsm_task_id secret_last;
    uint32_t depth, shadow_round, step;
    bool
        lavish; /* allocates more than it does anything else, in few places, and its tasks are slow */
    bool print, failed;
};

static bool say_programs;

static uint32_t below(struct program *p, uint32_t n)
{
    return harness_below(&p->random, n);
}

/* ---- objects ---- */

static bool check(struct program *p, int rc, const char *what)
{
    if (rc != 0 && !p->failed) {
        p->failed = true;
        fprintf(stderr, "seed %llu: step %u: %s: %s: %s\n", (unsigned long long)p->seed, p->step,
                what, tsm_code_name(rc), tsm_worker_error(p->worker)->text);
    }
    return rc == 0;
}

static void compare(struct program *p, const struct object *o, const uint32_t *seen, uint32_t from,
                    uint32_t words)
{
    for (uint32_t i = 0; i < words && !p->failed; i++) {
        if (seen[i] != o->model[from + i]) {
            p->failed = true;
            fprintf(stderr,
                    "seed %llu: step %u: object %d (kind %d, chip %d) word %u is %08x, not %08x\n",
                    (unsigned long long)p->seed, p->step, (int)(o - p->objects), o->kind, o->chip,
                    from + i, seen[i], o->model[from + i]);
        }
    }
}

static struct object *object_new(struct program *p, enum kind kind, int chip, uint32_t words)
{
    for (uint32_t i = 0; i < OBJECTS; i++) {
        struct object *o = &p->objects[i];
        if (o->kind == NOTHING) {
            *o = (struct object){.kind = kind, .chip = chip, .words = words, .depth = p->depth};
            o->model = calloc(words, WORD);
            o->shadow = calloc(words, WORD);
            assert_true(o->model && o->shadow);
            return o;
        }
    }
    return NULL;
}

static void object_drop(struct object *o)
{
    free(o->model);
    free(o->shadow);
    *o = (struct object){0};
}

static bool has_room(const struct program *p, int chip)
{
    uint32_t slabs = 0;
    uint32_t all = 0;
    for (uint32_t i = 0; i < OBJECTS; i++) {
        const struct object *o = &p->objects[i];
        slabs += (o->kind == MALLOC || o->kind == SCOPED) && o->chip == chip;
        all += o->kind != NOTHING;
    }
    return slabs < (chip == TSM_HOST ? SLABS_HOST : SLABS_CHIP) && all < OBJECTS / 2;
}

/* One that a task on this chip (TSM_SUB, TSM_ANY_CHIP) may use, or NULL. */
static struct object *object_for(struct program *p, int chip)
{
    uint32_t start = below(p, OBJECTS);
    bool host = below(p, 4) == 0; /* the host's are few, and wanted often */
    for (uint32_t k = 0; k < OBJECTS; k++) {
        struct object *o = &p->objects[host ? k : (start + k) % OBJECTS];
        if (o->kind != NOTHING && (o->chip == TSM_HOST || o->kind == WINDOW || o->chip == chip)) {
            return o;
        }
    }
    return NULL;
}

static int chip_of_call(struct program *p)
{
    uint32_t k = below(p, 10);
    if (k == 0) {
        return TSM_ANY_CHIP;
    }
    return k < 3 && p->subs ? TSM_SUB : (int)below(p, p->chips);
}

/* ---- views ---- */

/* A shape and strides (in words); *ret_lo and *ret_span say what it covers around its first element. */
static void random_shape(struct program *p, struct tsm_tensor *t, bool reads)
{
    uint32_t pitch = below(p, 4) == 0 ? 24 : 16;
    t->ndim = 1;
    t->shape[0] = 1 + below(p, 32);
    t->strides[0] = 1;
    switch (below(p, 10)) {
    case 0:
        t->ndim = (uint8_t)below(p, 2);
        t->shape[0] = 0;
        break;
    case 1: /* a column, forwards or backwards */
        t->shape[0] = 1 + below(p, 6);
        t->strides[0] = below(p, 2) ? pitch : -(int64_t)pitch;
        break;
    case 2:
        t->shape[0] = 1 + below(p, 8);
        t->strides[0] = reads ? below(p, 4) : 2 + below(p, 3);
        break;
    case 3:
    case 4: /* a tile */
        t->ndim = 2;
        t->shape[0] = 1 + below(p, 5);
        t->shape[1] = 1 + below(p, 8);
        t->strides[0] = pitch;
        t->strides[1] = 1;
        break;
    case 5:
        t->ndim = 3;
        t->shape[0] = 2;
        t->shape[1] = 1 + below(p, 3);
        t->shape[2] = 1 + below(p, 3);
        t->strides[0] = 64;
        t->strides[1] = pitch;
        t->strides[2] = below(p, 2) ? 1 : -2;
        break;
    default:
        break;
    }
}

/* The same view of an object's memory and of its model. */
static void random_view(struct program *p, struct object *o, bool reads, struct tsm_tensor *real,
                        struct tsm_tensor *model)
{
    uint32_t hot = o->words < HOT ? o->words : HOT;
    int64_t lo = 0;
    int64_t hi = 0;
    memset(real, 0, sizeof(*real));
    random_shape(p, real, reads);
    for (uint32_t d = 0; d < real->ndim; d++) {
        int64_t reach = real->shape[d] ? (int64_t)(real->shape[d] - 1) * real->strides[d] : 0;
        lo += reach < 0 ? reach : 0;
        hi += reach > 0 ? reach : 0;
    }
    if (hi - lo >= hot) {
        real->ndim = 1;
        real->shape[0] = hot / 2;
        real->strides[0] = 1;
        lo = 0;
        hi = hot / 2 - 1;
    }
    if (o->words > HOT && below(p, 8) == 0) {
        hot = o->words;
    }
    uint32_t at = (uint32_t)-lo + below(p, hot - (uint32_t)(hi - lo));
    bool plain = real->ndim == 1 && real->strides[0] == 1;
    real->dtype = TSM_U32;
    real->stride_given = real->ndim && (!plain || below(p, 2));
    for (uint32_t d = 0; d < real->ndim; d++) {
        real->strides[d] *= WORD;
    }
    *model = *real;
    real->data = o->data + at;
    model->data = o->model + at;
}

/* ---- conflicts inside a group ---- */

struct claim {
    const struct program *p;
    struct object *o;
    uint32_t member;
    bool writes, mark, conflict;
};

enum { MANY = 14 };

static void claim_word(uint32_t *word, void *ctx)
{
    struct claim *c = ctx;
    uint32_t *s = &c->o->shadow[word - c->o->model];
    bool known = *s >> 5 == c->p->shadow_round;
    uint32_t who = *s >> 1 & 15;
    bool written = *s & 1;
    if (c->mark) {
        who = !known ? c->member : who == c->member ? who : MANY;
        *s = c->p->shadow_round << 5 | who << 1 | (uint32_t)(c->writes || (known && written));
    } else if (known && who != c->member && (written || c->writes)) {
        c->conflict = true;
    }
}

/* Members of a group run at once: no one may write what another one touches. */
static bool claim_view(struct program *p, struct object *o, const struct tsm_tensor *model,
                       uint32_t member, bool writes)
{
    struct claim c = {p, o, member, writes, false, false};
    each_word(model, claim_word, &c);
    c.mark = true;
    if (!c.conflict) {
        each_word(model, claim_word, &c);
    }
    return !c.conflict;
}

/* ---- making a call ---- */

static void add_after(struct member *m, tsm_task_id id)
{
    if (id != 0) {
        m->after[m->call.after_count++] = id;
    }
}

/* An output whose memory the runtime finds. */
static bool add_fresh(struct program *p, struct member *m)
{
    int chip = m->call.chip == TSM_SUB ? TSM_HOST : m->call.chip;
    if (m->call.chip == TSM_ANY_CHIP || !has_room(p, chip)) {
        return false;
    }
    struct object *o = object_new(p, SCOPED, chip, SLAB);
    if (!o) {
        return false;
    }
    struct tsm_tensor t = {
        .dtype = TSM_U32, .tag = TSM_OUTPUT, .ndim = 1, .shape = {SLAB}, .strides = {WORD}};
    m->fresh[m->tensors] = o;
    m->real[m->tensors] = t;
    m->model[m->tensors] = t;
    m->model[m->tensors++].data = o->model;
    return true;
}

static void add_tensor(struct program *p, struct member *m, uint32_t member)
{
    static const uint8_t tags[] = {TSM_INPUT, TSM_INPUT, TSM_INOUT, TSM_OUTPUT,
                                   TSM_OUTPUT_EXISTING};
    struct object *o = object_for(p, m->call.chip);
    uint32_t i = m->tensors;
    uint8_t tag = tags[below(p, 5)];
    bool writes_secret = below(p, 2);
    if (!o || (below(p, 8) == 0 && add_fresh(p, m)) || (o->kind == SCOPED && !o->data)) {
        return;
    }
    if (o->kind == HOST_SECRET) {
        if (member != 0 || m->secret) {
            return; /* the chain of its users is kept by explicit edges, one task at a time */
        }
        m->secret = true;
        add_after(m, p->secret_last);
    }
    if (o->kind == HOST_CONSTANT || o->frozen || o->kind == HOST_SECRET) {
        tag = o->kind == HOST_CONSTANT && below(p, 2) ? TSM_INPUT : TSM_NO_DEP;
    }
    bool writes = tag == TSM_NO_DEP ? o->kind == HOST_SECRET && writes_secret : tag != TSM_INPUT;
    random_view(p, o, !writes, &m->real[i], &m->model[i]);
    m->real[i].tag = m->model[i].tag = tag;
    if (o->frozen && m->call.after_count < TENSORS) {
        add_after(m, o->frozen);
    }
    if (claim_view(p, o, &m->model[i], member, writes)) {
        m->scalars[NO_DEP_WRITES] |= tag == TSM_NO_DEP && writes ? UINT64_C(1) << i : 0;
        m->tensors++;
    }
}

static uint64_t random_spin(struct program *p)
{
    uint32_t k = below(p, 32);
    if (p->lavish) {
        return 2000 + below(p, 20000);
    }
    return k == 0 ? 100000 : k < 4 ? 20000 : k < 12 ? below(p, 3000) : 0;
}

static tsm_domain *random_domain(struct program *p, int *ret)
{
    *ret = (int)below(p, DOMAINS);
    return p->domains[*ret].handle;
}

static void make_member(struct program *p, struct member *m, int chip, uint32_t member)
{
    uint32_t count = below(p, TENSORS);
    int unused;
    memset(m, 0, sizeof(*m));
    m->call.callable = p->mix;
    m->call.chip = chip;
    m->scalars[NUMBER] = ++p->tasks;
    m->scalars[SPIN_NS] = random_spin(p);
    m->scalars[CHIP] = (uint64_t)(chip >= 0 ? chip : -1);
    for (uint32_t i = 0; i < count; i++) {
        add_tensor(p, m, member);
    }
    if (p->id_count && below(p, 4) == 0) {
        add_after(m, p->ids[below(p, p->id_count < IDS ? p->id_count : IDS)]);
    }
    m->domains[0] = below(p, 8) == 0 ? random_domain(p, &unused) : NULL;
}

/* Pointers are set at the end: the struct may have been copied. */
static void finish_member(struct member *m)
{
    m->call.tensors = m->real;
    m->call.tensor_count = m->tensors;
    m->call.scalars = m->scalars;
    m->call.scalar_count = 5;
    m->call.domains = m->domains;
    m->call.domain_count = m->domains[0] != NULL;
    m->call.after = m->after;
}

static void print_member(const struct program *p, const struct member *m)
{
    printf("  task %llu on %d after %u%s:", (unsigned long long)m->scalars[NUMBER], m->call.chip,
           m->call.after_count, m->domains[0] ? " with domain" : "");
    for (uint32_t i = 0; i < m->tensors; i++) {
        const struct tsm_tensor *t = &m->model[i];
        int object = -1;
        long at = 0;
        for (int k = 0; k < OBJECTS; k++) {
            const struct object *o = &p->objects[k];
            if (o->kind && (uint32_t *)t->data >= o->model &&
                (uint32_t *)t->data < o->model + o->words) {
                object = k;
                at = (long)((uint32_t *)t->data - o->model);
            }
        }
        printf(" {tag %u object %d+%ld", t->tag, object, at);
        for (uint32_t d = 0; d < t->ndim; d++) {
            printf(" %llu:%lld", (unsigned long long)t->shape[d], (long long)t->strides[d] / WORD);
        }
        printf("}");
    }
    printf("\n");
}

/* Submitted: the model does the same at once. */
static void settle(struct program *p, struct member *members, uint32_t count, tsm_task_id id)
{
    for (uint32_t k = 0; k < count; k++) {
        struct member *m = &members[k];
        mix_tensors(m->model, m->tensors, m->scalars);
        for (uint32_t i = 0; i < m->tensors; i++) {
            if (m->fresh[i]) {
                m->fresh[i]->data = m->real[i].data;
                m->fresh[i]->frozen = below(p, 3) == 0 ? id : 0;
            }
        }
        p->secret_last = m->secret ? id : p->secret_last;
    }
    p->ids[p->id_count++ % IDS] = id;
}

static void step_task(struct program *p)
{
    struct member m;
    tsm_task_id id = 0;
    p->shadow_round++;
    make_member(p, &m, chip_of_call(p), 0);
    finish_member(&m);
    if (p->print) {
        print_member(p, &m);
    }
    if (check(p, tsm_submit(p->orch, &m.call, &id), "submit")) {
        settle(p, &m, 1, id);
    }
}

/* Chips in random order into list; returns how many a group takes. */
static uint32_t random_chips(struct program *p, int *list)
{
    for (uint32_t i = 0; i < p->chips; i++) {
        uint32_t k = below(p, i + 1);
        list[i] = list[k];
        list[k] = (int)i;
    }
    return 1 + below(p, p->chips);
}

static void step_group(struct program *p)
{
    static struct member members[MEMBERS];
    struct tsm_call calls[MEMBERS];
    int chips[MEMBERS];
    int d;
    tsm_task_id id = 0;
    bool subs = p->subs && below(p, 4) == 0;
    tsm_domain *barrier = random_domain(p, &d);
    barrier = subs || below(p, 2) ? NULL : barrier;
    uint32_t count = random_chips(p, chips);
    if (barrier) {
        count = p->domains[d].count;
        memcpy(chips, p->domains[d].chips, sizeof(chips));
    } else if (subs) {
        count = 1 + below(p, p->subs);
    }
    p->shadow_round++;
    for (uint32_t k = 0; k < count; k++) {
        make_member(p, &members[k], subs ? TSM_SUB : chips[k], k);
        if (barrier) {
            members[k].domains[0] = barrier;
            members[k].scalars[BARRIER] = 1;
        }
    }
    for (uint32_t k = 0; k < count; k++) {
        finish_member(&members[k]);
        calls[k] = members[k].call;
        if (p->print) {
            print_member(p, &members[k]);
        }
    }
    if (check(p, tsm_submit_group(p->orch, calls, count, &id), "submit_group")) {
        settle(p, members, count, id);
    }
}

/* ---- memory steps ---- */

static void fill(struct program *p, uint32_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        words[i] = (uint32_t)harness_random(&p->random);
    }
}

/* What an allocation holds is undefined: a task or a copy writes all of it first. */
static void define(struct program *p, struct object *o)
{
    if (below(p, p->lavish ? 16 : 2) == 0) {
        fill(p, o->model, o->words);
        check(p, tsm_copy_to(p->orch, o->chip, o->data, o->model, o->words * WORD), "copy_to, all");
        return;
    }
    struct member m;
    tsm_task_id id = 0;
    memset(&m, 0, sizeof(m));
    m.call.callable = p->mix;
    m.call.chip = o->chip == TSM_HOST ? TSM_ANY_CHIP : o->chip;
    m.scalars[NUMBER] = ++p->tasks;
    m.scalars[SPIN_NS] = random_spin(p);
    m.scalars[CHIP] = (uint64_t)-1;
    m.tensors = 1;
    m.real[0] = (struct tsm_tensor){.data = o->data,
                                    .dtype = TSM_U32,
                                    .tag = TSM_OUTPUT_EXISTING,
                                    .ndim = 1,
                                    .shape = {o->words},
                                    .strides = {WORD}};
    m.model[0] = m.real[0];
    m.model[0].data = o->model;
    finish_member(&m);
    if (check(p, tsm_submit(p->orch, &m.call, &id), "submit, all")) {
        settle(p, &m, 1, id);
        o->frozen = o->kind == SCOPED && below(p, 3) == 0 ? id : 0;
    }
}

static void step_allocate(struct program *p)
{
    uint32_t places = p->lavish && p->chips > 1 ? 2 : p->chips;
    int chip = below(p, 4) == 0 ? TSM_HOST : (int)below(p, places);
    bool scoped = below(p, 3) != 0;
    struct object *o =
        has_room(p, chip) ? object_new(p, scoped ? SCOPED : MALLOC, chip, SLAB) : NULL;
    void *data = NULL;
    if (!o) {
        return;
    }
    int rc = scoped ? tsm_alloc(p->orch, chip, SLAB * WORD, &data)
                    : tsm_malloc(p->orch, chip, SLAB * WORD, &data);
    if (check(p, rc, "alloc")) {
        o->data = data;
        define(p, o);
    }
}

static void step_free(struct program *p)
{
    uint32_t start = below(p, OBJECTS);
    for (uint32_t k = 0; k < OBJECTS; k++) {
        struct object *o = &p->objects[(start + k) % OBJECTS];
        if (o->kind == MALLOC) {
            check(p, tsm_free(p->orch, o->chip, o->data), "free");
            object_drop(o);
            return;
        }
    }
}

static void scope_closed(struct program *p)
{
    for (uint32_t i = 0; i < OBJECTS; i++) {
        if (p->objects[i].kind == SCOPED && p->objects[i].depth == p->depth) {
            object_drop(&p->objects[i]);
        }
    }
    p->depth--;
}

static void step_scope(struct program *p)
{
    if (p->depth > 1 && (p->depth > 5 || below(p, 2))) {
        check(p, tsm_scope_end(p->orch), "scope_end");
        scope_closed(p);
    } else if (check(p, tsm_scope_begin(p->orch), "scope_begin")) {
        p->depth++;
    }
}

/* ---- the program's own hands ---- */

static void step_copy(struct program *p)
{
    uint32_t words[64];
    struct object *o = &p->objects[below(p, OBJECTS)];
    uint32_t k = below(p, 4);
    if (o->kind == NOTHING || o->kind == HOST_SECRET || !o->data) {
        return;
    }
    uint32_t count = 1 + below(p, 64);
    uint32_t from = below(p, (o->words < HOT ? o->words : HOT) - (count < o->words ? count : 0));
    count = from + count > o->words ? o->words - from : count;
    bool writes = k % 2 && o->kind != HOST_CONSTANT && !o->frozen;
    bool own = k / 2 && o->chip == TSM_HOST; /* the program reads or writes host memory itself */
    if (own) {
        check(p,
              tsm_host_wait(p->worker, o->data + from, count * WORD, writes ? TSM_WRITE : TSM_READ),
              "host_wait");
    }
    if (writes) {
        fill(p, words, count);
        memcpy(o->model + from, words, count * WORD);
        if (own) {
            memcpy(o->data + from, words, count * WORD);
        } else {
            check(p, tsm_copy_to(p->orch, o->chip, o->data + from, words, count * WORD), "copy_to");
        }
    } else if (own) {
        compare(p, o, o->data + from, from, count);
    } else if (check(p, tsm_copy_from(p->orch, o->chip, words, o->data + from, count * WORD),
                     "copy_from")) {
        compare(p, o, words, from, count);
    }
}

/* ---- domains ---- */

static void domain_closed(struct program *p, uint32_t d)
{
    for (uint32_t i = 0; i < OBJECTS; i++) {
        if (p->objects[i].kind == WINDOW && p->objects[i].domain == (int)d) {
            object_drop(&p->objects[i]);
        }
    }
    p->domains[d].handle = NULL;
}

static void step_domain(struct program *p)
{
    static const uint32_t sizes[] = {100, 1000, 5000};
    static const char *const names[DOMAINS] = {"d0", "d1", "d2", "d3"};
    uint32_t d = below(p, DOMAINS);
    struct domain *m = &p->domains[d];
    uint32_t words = sizes[below(p, 3)];
    if (m->handle) {
        check(p, tsm_domain_release(m->handle), "release");
        domain_closed(p, d);
        return;
    }
    m->count = random_chips(p, m->chips);
    m->keep = below(p, 3) == 0;
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = names[d];
    opts.chips = m->chips;
    opts.chip_count = m->count;
    opts.window_bytes = words * WORD;
    opts.keep = m->keep;
    if (!check(p, tsm_domain_alloc(p->orch, &opts, &m->handle), "domain_alloc")) {
        return;
    }
    for (uint32_t r = 0; r < m->count; r++) {
        struct tsm_domain_context ctx;
        struct object *o = object_new(p, WINDOW, m->chips[r], words);
        if (o && check(p, tsm_domain_context(m->handle, m->chips[r], &ctx), "domain_context")) {
            o->data = ctx.window;
            o->domain = (int)d;
        }
    }
}

/* ---- a run, a program ---- */

static void step(struct program *p)
{
    enum { KINDS = 20 };
    static void (*const usual[KINDS])(struct program *) = {
        step_task,  step_task,     step_task,     step_task,  step_task,   step_task,   step_task,
        step_group, step_group,    step_allocate, step_scope, step_domain, step_domain, step_copy,
        step_copy,  step_allocate, step_task,     step_free,  step_task,   step_task};
    static void (*const lavish[KINDS])(struct program *) = {
        step_task,     step_task,     step_task,     step_task,     step_task,
        step_task,     step_task,     step_scope,    step_scope,    step_scope,
        step_scope,    step_scope,    step_free,     step_free,     step_allocate,
        step_allocate, step_allocate, step_allocate, step_allocate, step_group};
    uint32_t k = below(p, KINDS);
    p->step++;
    if (p->print) {
        printf("step %u: %u\n", p->step, k);
    }
    (p->lavish ? lavish : usual)[k](p);
}

static int one_run(tsm_orch *orch, void *arg)
{
    struct program *p = arg;
    uint32_t count = 5 + below(p, p->lavish ? 120 : 60);
    p->orch = orch;
    p->depth = 1;
    for (uint32_t i = 0; i < count && !p->failed; i++) {
        step(p);
    }
    while (p->depth > 0) {
        scope_closed(p);
    }
    for (uint32_t d = 0; d < DOMAINS; d++) {
        if (p->domains[d].handle && !p->domains[d].keep) {
            domain_closed(p, d);
        }
    }
    return p->failed ? -1000 : 0;
}

/* Everything that is still there, then away with it. */
static int last_run(tsm_orch *orch, void *arg)
{
    struct program *p = arg;
    uint32_t *words = malloc(HOST_WORDS * 4 * WORD);
    p->step++;
    for (uint32_t i = 0; i < OBJECTS && words; i++) {
        struct object *o = &p->objects[i];
        if (o->kind == NOTHING) {
            continue;
        }
        if (check(p, tsm_copy_from(orch, o->chip, words, o->data, o->words * WORD),
                  "copy_from, all")) {
            compare(p, o, words, 0, o->words);
        }
        if (o->kind == MALLOC) {
            check(p, tsm_free(orch, o->chip, o->data), "free, all");
        }
    }
    for (uint32_t d = 0; d < DOMAINS; d++) {
        if (p->domains[d].handle) {
            check(p, tsm_domain_release(p->domains[d].handle), "release, all");
        }
    }
    free(words);
    return 0;
}

static void host_object(struct program *p, enum kind kind, uint32_t *data, uint32_t words)
{
    struct object *o = object_new(p, kind, TSM_HOST, words);
    o->data = data;
    if (kind == HOST_CONSTANT) {
        fill(p, o->model, words);
    }
    memcpy(data, o->model, words * WORD);
}

static void run_program(struct program *p, uint32_t *host)
{
    tsm_run *runs[4] = {NULL};
    uint32_t count;
    harness_random_init(&p->random, p->seed);
    count = 1 + below(p, 4);
    p->lavish = below(p, 4) == 0;
    host_object(p, HOST_PLAIN, host, PLAIN);
    host_object(p, HOST_SECRET, host + PLAIN, SECRET);
    host_object(p, HOST_CONSTANT, host + PLAIN + SECRET, CONSTANT);
    for (uint32_t r = 0; r < count && !p->failed; r++) {
        check(p, tsm_worker_submit_run(p->worker, one_run, p, &runs[r]), "submit_run");
        if (!p->failed && below(p, 3) == 0) {
            check(p, tsm_run_wait(runs[r], -1), "run_wait, at once");
        }
    }
    for (uint32_t r = 0; r < count; r++) {
        if (runs[r]) {
            check(p, tsm_run_wait(runs[r], -1), "run_wait");
            tsm_run_release(runs[r]);
        }
    }
    check(p, tsm_worker_run(p->worker, last_run, p), "the last run");
    for (uint32_t i = 0; i < OBJECTS; i++) {
        object_drop(&p->objects[i]);
    }
}

static void run_seeds(uint32_t config, uint64_t first, uint64_t end)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    struct tsm_error err;
    struct tsm_stats stats = {.size = sizeof(stats)};
    tsm_worker *w = NULL;
    void *host = NULL;
    opts.chips = 1 + config % 8;
    opts.subs = config / 8;
    opts.heap_bytes = HEAP_BYTES;
    opts.host_bytes = HOST_BYTES;
    opts.lease_bytes = LEASE_BYTES;
    assert_int_equal(tsm_worker_create(&opts, &w, &err), 0);
    tsm_callable callable = harness_register(w, "mix", mix);
    harness_start(w);
    assert_code(w, tsm_buffer_create(w, HOST_WORDS * WORD, &host), 0);
    alarm(100);
    for (uint64_t seed = first; seed < end; seed += CONFIGS) {
        struct program p = {
            .seed = seed, .worker = w, .mix = callable, .chips = opts.chips, .subs = opts.subs};
        p.print = say_programs;
        run_program(&p, host);
        if (p.failed) {
            fail_msg("seed %llu (chips %u, subs %u; number %llu of its worker)",
                     (unsigned long long)seed, opts.chips, opts.subs,
                     (unsigned long long)((seed - first) / CONFIGS));
        }
    }
    /* Nothing of it stays: no domain, no memory but the host buffer. */
    tsm_worker_stats(w, &stats);
    assert_int_equal(stats.heap_bytes, HOST_WORDS * WORD);
    harness_close(w);
}

static void random_programs_leave_what_their_sequential_execution_leaves(void **state)
{
    (void)state;
    const char *text = getenv("TRANSOM_TEST_SEED");
    if (text) {
        uint64_t seed = strtoull(text, NULL, 10);
        say_programs = true;
        run_seeds((uint32_t)(seed % CONFIGS), seed, seed + 1);
        return;
    }
    uint64_t seeds = harness_quick() ? 100 : harness_long() ? 20000 : 2000;
    for (uint32_t config = 0; config < CONFIGS; config++) {
        run_seeds(config, config, seeds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random_programs_leave_what_their_sequential_execution_leaves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

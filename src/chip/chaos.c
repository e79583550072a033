/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Chaos mode of sim (chaos.h). What a task does to windows stands in a list, in the order of the calls; something is
 * applied from it, at a random place, whenever the task calls the library, and all of it before the task sleeps, at
 * quiet and at its end: so a correct program comes to its end, and only a correct one relies on nothing else. Pauses between two
 * applications let the others look. Chip processes, inside a task; owns the list. docs/task.md.
 */
#include "chip/chaos.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPS_MAX = 128,
    HELD_MAX = 16 << 20, /* bytes of sources */
    PIECES_MAX = 3,      /* of one put */
    YIELDS_USUAL = 10000,
    PAUSE_BITS_MIN = 4, /* of the longest pause of a task, in yields */
    PAUSE_BITS_MAX = 11,
    STACK_BYTES = 8 << 20
};

enum op_kind { OP_PUT, OP_GET, OP_WORD };
struct op {
    enum op_kind kind;
    const struct domain_desc *desc;
    uint32_t rank, chip; /* the target: in the domain, and to wake it */
    uint64_t call;       /* number of the library call */
    uint64_t fences;     /* of its domain before it */
    uint64_t own_put;    /* call that a WORD_OWN_PUT is behind, else 0 */
    uint8_t *held;       /* the source, copied; NULL: nbi */
    uint64_t held_bytes;
    struct copy copy;
    struct word word;
};

struct chaos {
    const struct chip *chip;
    uint64_t random;
    uint64_t run, tasks; /* begun here in this run */
    uint64_t calls, held;
    uint32_t lazy; /* one of so many calls applies something */
    uint32_t pause_bits;
    uint64_t yields; /* of the task so far */
    uint32_t count;
    struct op ops[OPS_MAX]; /* in the order of the calls */
};

/* What to apply. */
struct filter {
    const struct domain_desc *desc; /* NULL: of all domains */
    bool one_rank, gets, signals_only;
    uint32_t rank;
    uint64_t fences; /* only what is held since before this many fences */
};

bool chaos_armed;
static _Thread_local struct chaos *chaos;

/* ---- chance ---- */

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

/* xorshift64*: repeatable, nothing more. */
static uint32_t below(struct chaos *x, uint32_t n)
{
    x->random ^= x->random >> 12;
    x->random ^= x->random << 25;
    x->random ^= x->random >> 27;
    return (uint32_t)((x->random * UINT64_C(0x2545f4914f6cdd1d)) >> 32) % n;
}

/* Rarer once a task has paused long: one that calls the library a million times shall end, too. */
static void pause_by_chance(struct chaos *x, uint32_t odds)
{
    if (below(x, x->yields < YIELDS_USUAL ? odds : odds * 16) == 0) {
        uint32_t n = 1u << below(x, x->pause_bits + 1);
        x->yields += n;
        for (; n > 0; n--) {
            sched_yield();
        }
    }
}

/* ---- applying ---- */

static void copy_pieces(const struct copy *x)
{
    uint8_t *to = x->to;
    const uint8_t *from = x->from;
    for (uint64_t i = 0; i < x->count; i++) {
        memcpy(to + i * x->to_step, from + i * x->from_step, x->bytes);
    }
}

static void drop(struct chaos *x, uint32_t i)
{
    x->held -= x->ops[i].held_bytes;
    free(x->ops[i].held);
    x->count--;
    memmove(&x->ops[i], &x->ops[i + 1], (x->count - i) * sizeof(x->ops[0]));
}

static void apply(struct chaos *x, uint32_t i)
{
    const struct op *o = &x->ops[i];
    if (o->kind == OP_WORD) {
        word_change(o->word.at, o->word.bytes, o->word.how, o->word.value);
    } else {
        copy_pieces(&o->copy);
    }
    if (o->kind != OP_GET) {
        wake_place(&x->chip->arena, o->chip);
    }
    drop(x, i);
}

static bool is_put(const struct op *o)
{
    return o->kind == OP_PUT || (o->kind == OP_WORD && o->word.kind == WORD_PUT);
}

/* All the order that task.h promises between two that are held back. */
static bool must_precede(const struct op *earlier, const struct op *later)
{
    if (earlier->kind == OP_GET || later->kind == OP_GET || earlier->desc != later->desc ||
        earlier->rank != later->rank) {
        return false;
    }
    return earlier->fences < later->fences ||
           (later->kind == OP_WORD && later->word.kind == WORD_STRONG && is_put(earlier)) ||
           (later->own_put != 0 && earlier->kind == OP_PUT && earlier->call == later->own_put);
}

/* What has to go first if i is to go: i itself, or what holds it up. */
static uint32_t first_before(const struct chaos *x, uint32_t i)
{
    for (uint32_t j = 0; j < i; j++) {
        if (must_precede(&x->ops[j], &x->ops[i])) {
            return first_before(x, j);
        }
    }
    return i;
}

static bool matches(const struct op *o, const struct filter *f)
{
    bool is_signal = o->kind == OP_WORD && o->word.kind >= WORD_SIGNAL;
    return (!f->desc || o->desc == f->desc) && (!f->one_rank || o->rank == f->rank) &&
           (f->gets || o->kind != OP_GET) && (!f->signals_only || is_signal) &&
           o->fences < f->fences;
}

/* One that matches, at random, or one that holds it up; false when none matches. */
static bool apply_one(struct chaos *x, const struct filter *f)
{
    uint32_t places[OPS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < x->count; i++) {
        if (matches(&x->ops[i], f)) {
            places[n++] = i;
        }
    }
    if (n > 0) {
        apply(x, first_before(x, places[below(x, n)]));
    }
    return n > 0;
}

/* Pauses only where there is something left that is late. */
static void apply_all(struct chaos *x, const struct filter *f)
{
    while (apply_one(x, f)) {
        if (x->count > 0) {
            pause_by_chance(x, 2);
        }
    }
}

static void step(struct chaos *x)
{
    static const struct filter any = {.fences = UINT64_MAX};
    pause_by_chance(x, 8);
    while (below(x, x->lazy) == 0 && apply_one(x, &any)) {
        pause_by_chance(x, 2);
    }
}

/* ---- holding back ---- */

/* A place at the end of the list, for a call on c. */
static struct op *hold(struct chaos *x, const tsm_ctx *c, uint32_t rank, enum op_kind kind)
{
    static const struct filter all = {.gets = true, .fences = UINT64_MAX};
    while (x->count == OPS_MAX || x->held > HELD_MAX) {
        apply_one(x, &all);
    }
    struct op *o = &x->ops[x->count++];
    uint32_t target = domain_rank(c, rank);
    *o = (struct op){.kind = kind,
                     .desc = c->desc,
                     .rank = target,
                     .chip = c->members[target],
                     .call = x->calls,
                     .fences = c->state->fences};
    return o;
}

static void hold_put(struct chaos *x, const tsm_ctx *c, uint32_t rank, const struct copy *piece,
                     bool nbi)
{
    uint64_t bytes = piece->bytes * piece->count;
    uint8_t *held = nbi ? NULL : malloc(bytes);
    if (!held && !nbi) {
        copy_pieces(piece); /* no memory to hold it in: early is an order, too */
        wake_rank(c, rank);
        return;
    }
    struct op *o = hold(x, c, rank, OP_PUT);
    o->copy = *piece;
    if (held) {
        struct copy in = *piece;
        in.to = held;
        in.to_step = piece->bytes;
        copy_pieces(&in);
        o->held = held;
        o->held_bytes = bytes;
        x->held += bytes;
        o->copy.from = held;
        o->copy.from_step = piece->bytes;
    }
}

/* Takes a random part off the begin of *rest: whole words, or whole elements. False: nothing. */
static bool cut(struct chaos *x, struct copy *rest, struct copy *ret)
{
    bool strided = rest->count > 1;
    uint64_t units = strided ? rest->count : rest->bytes / 8;
    uint64_t n = below(x, units < UINT32_MAX ? (uint32_t)units + 1 : UINT32_MAX);
    uint64_t to = strided ? n * rest->to_step : n * 8;
    uint64_t from = strided ? n * rest->from_step : n * 8;
    *ret = *rest;
    if (n == 0 || (strided ? n >= rest->count : n * 8 >= rest->bytes)) {
        return false;
    }
    if (strided) {
        ret->count = n;
        rest->count -= n;
    } else {
        ret->bytes = n * 8;
        rest->bytes -= n * 8;
    }
    rest->to = (uint8_t *)rest->to + to;
    rest->from = (const uint8_t *)rest->from + from;
    return true;
}

void chaos_put(tsm_ctx *c, uint32_t rank, const struct copy *put, bool nbi)
{
    struct chaos *x = chaos;
    struct copy rest = *put;
    struct copy piece;
    x->calls++;
    for (uint32_t i = below(x, PIECES_MAX); i > 0; i--) {
        if (cut(x, &rest, &piece)) {
            hold_put(x, c, rank, &piece, nbi);
        }
    }
    hold_put(x, c, rank, &rest, nbi);
    step(x);
}

void chaos_get(tsm_ctx *c, uint32_t rank, const struct copy *get)
{
    hold(chaos, c, rank, OP_GET)->copy = *get;
    chaos_step(c);
}

void chaos_word(tsm_ctx *c, uint32_t rank, const struct word *word)
{
    struct chaos *x = chaos;
    uint64_t put = x->calls++;
    struct op *o = hold(x, c, rank, OP_WORD);
    o->word = *word;
    o->own_put = word->kind == WORD_OWN_PUT ? put : 0;
    step(x);
}

/* ---- what brings it out ---- */

void chaos_step(tsm_ctx *c)
{
    (void)c;
    if (chaos_armed) {
        step(chaos);
    }
}

void chaos_fence(tsm_ctx *c)
{
    c->state->fences++;
    chaos_step(c);
}

void chaos_settle(tsm_ctx *c, uint32_t rank)
{
    struct filter f = {.desc = c->desc,
                       .one_rank = true,
                       .rank = domain_rank(c, rank),
                       .fences = c->state->fences};
    if (chaos_armed) {
        apply_all(chaos, &f);
        step(chaos);
    }
}

void chaos_quiet(tsm_ctx *c)
{
    struct filter f = {.desc = c->desc, .gets = true, .fences = UINT64_MAX};
    if (chaos_armed) {
        apply_all(chaos, &f);
    }
}

void chaos_quiet_rank(tsm_ctx *c, uint32_t rank)
{
    struct filter f = {.desc = c->desc,
                       .gets = true,
                       .one_rank = true,
                       .rank = domain_rank(c, rank),
                       .fences = UINT64_MAX};
    if (chaos_armed) {
        apply_all(chaos, &f);
    }
}

void chaos_signals(tsm_ctx *c)
{
    struct filter f = {.desc = c->desc, .signals_only = true, .fences = UINT64_MAX};
    if (chaos_armed) {
        apply_all(chaos, &f);
    }
}

void chaos_sleep(tsm_ctx *c)
{
    static const struct filter all = {.fences = UINT64_MAX};
    (void)c;
    if (chaos_armed) {
        apply_all(chaos, &all);
    }
}

void chaos_pause(tsm_ctx *c)
{
    (void)c;
    if (chaos_armed) {
        pause_by_chance(chaos, 4);
    }
}

/* ---- around a task ---- */

void chaos_task_begin(struct chip *c, const struct record *rec)
{
    uint64_t seed = c->arena.ctl->info.chaos;
    if (seed == 0 || (!chaos && !(chaos = calloc(1, sizeof(*chaos))))) {
        return;
    }
    struct chaos *x = chaos;
    x->tasks = x->run == rec->run ? x->tasks + 1 : 0;
    x->run = rec->run;
    x->chip = c;
    x->random = mix(mix(seed + rec->run - 1, c->place + 1), x->tasks + 1) | 1;
    x->yields = 0;
    x->lazy = 2u << 3 * below(x, 3);
    x->pause_bits = PAUSE_BITS_MIN + below(x, PAUSE_BITS_MAX - PAUSE_BITS_MIN + 1);
    chaos_armed = true;
    pause_by_chance(x, 2);
}

/* The frames of the task lay below `t`, which is on the stack of who called it. */
static bool is_dead_stack(const void *p, const tsm_task *t)
{
    return (uintptr_t)p < (uintptr_t)t && (uintptr_t)t - (uintptr_t)p < STACK_BYTES;
}

void chaos_task_end(tsm_task *t)
{
    static const struct filter all = {.gets = true, .fences = UINT64_MAX};
    struct chaos *x = chaos;
    if (!chaos_armed) {
        return;
    }
    /* A task that failed may have given its buffers back, and what it left undone is nobody's. */
    bool failed = t->failed || run_is_aborted(t->chip, t->rec->run);
    for (uint32_t i = x->count; i > 0; i--) {
        const struct op *o = &x->ops[i - 1];
        if (failed || (o->kind == OP_GET && is_dead_stack(o->copy.to, t))) {
            drop(x, i - 1);
        }
    }
    apply_all(x, &all);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The paths that matter, one after the other in one process and without a wait, so that their instructions can be counted:
 * under callgrind, which collects inside path_measured and dumps after path_done (tests/cost/run). Prints for each path how
 * often it was gone, the system calls that this took, and all that were made meanwhile. docs/testing.md.
 */
#include <malloc.h>
#include <unistd.h>

#include "cost/world.h"

enum {
    SECONDS_MAX = 60, /* something waits after all */
    OFTEN = 500,
    SELDOM = 32, /* shapes that are new each time take memory */
    LIVE = 1000,
    SLOT = 64,
    WINDOW_BYTES =
        256, /* zeroed without the string instructions, whose steps are counted one by one */
    NEVER_DONE = 1 << 30
};

/* A path is gone `count` times in a run of its own: begin, then before, op, after, then end. Any but op may be NULL. */
struct path {
    const char *name;
    void (*op)(struct world *x, uint32_t i);
    uint32_t count;
    bool outside; /* it makes runs itself */
    void (*begin)(struct world *x);
    void (*before)(struct world *x, uint32_t i);
    void (*after)(struct world *x, uint32_t i);
    void (*end)(struct world *x);
};

static struct world world;

/* ---- what other paths are counted above ---- */

static void call(struct world *x, uint32_t i)
{
    (void)x;
    (void)i;
}

/* ---- submit ---- */

static void submit_call(struct world *x)
{
    must(x, tsm_submit(x->orch, &x->call, NULL) == 0, "tsm_submit");
}

static void take_stats(struct world *x)
{
    tsm_worker_stats(x->w, &x->before);
}

/* Edges that were inferred or named: written into records, or implied by what records say already. */
static void must_have_edges(const struct world *x, uint64_t edges)
{
    struct tsm_stats s;
    tsm_worker_stats(x->w, &s);
    uint64_t before = x->before.waits + x->before.waits_elided;
    must(x, s.waits + s.waits_elided - before == edges, "the edges are others than they should be");
}

static void begin_empty(struct world *x)
{
    x->call = (struct tsm_call){.callable = x->nothing, .chip = 0};
}

static void submit(struct world *x, uint32_t i)
{
    (void)i;
    submit_call(x);
}

static void drain(struct world *x, uint32_t i)
{
    (void)i;
    world_drain(x);
}

static void chip_sleeps(struct world *x, uint32_t i)
{
    (void)i;
    world_sleeps(x, 0, WAIT_RING, 0, x->w->rings[0].published + 1);
}

static void chip_awakes(struct world *x, uint32_t i)
{
    (void)i;
    world_awake(x, 0);
    world_drain(x);
}

static struct tsm_tensor range(const struct world *x, uint32_t first_byte, uint8_t tag)
{
    return (struct tsm_tensor){
        .data = x->ranges + first_byte, .dtype = TSM_U8, .tag = tag, .ndim = 1, .shape = {SLOT}};
}

/* Each range was written by a task that is not done; neighbours by tasks on different chips, none of them on chip 0. */
static void begin_live(struct world *x)
{
    for (uint32_t i = 0; i < LIVE; i++) {
        x->tensors[0] = range(x, i * SLOT, TSM_OUTPUT_EXISTING);
        x->call = (struct tsm_call){.callable = x->nothing,
                                    .chip = (int)(1 + i % (CHIPS - 1)),
                                    .tensor_count = 1,
                                    .tensors = x->tensors};
        submit_call(x);
    }
    take_stats(x);
    x->call.chip = 0;
}

/* Three neighbours somewhere, and an output that nobody has written. */
static void choose_ranges(struct world *x, uint32_t i)
{
    uint32_t first = i * 377 % (LIVE - 3);
    for (uint32_t k = 0; k < 3; k++) {
        x->tensors[k] = range(x, (first + k) * SLOT, TSM_INPUT);
    }
    x->tensors[3] = range(x, (LIVE + i) * SLOT, TSM_OUTPUT_EXISTING);
    x->call.tensor_count = 4;
}

static void end_chosen(struct world *x)
{
    must_have_edges(x, 3 * OFTEN);
}

/* The second half of one range and the first of the next. */
static void choose_overlap(struct world *x, uint32_t i)
{
    x->tensors[0] = range(x, i * 377 % (LIVE - 1) * SLOT + SLOT / 2, TSM_INPUT);
    x->call.tensor_count = 1;
}

static void end_overlap(struct world *x)
{
    must_have_edges(x, 2 * OFTEN);
}

/* Tasks to follow by their ids, one on each of three chips. */
static void begin_after(struct world *x)
{
    begin_empty(x);
    for (int k = 0; k < 3; k++) {
        x->call.chip = 1 + k;
        must(x, tsm_submit(x->orch, &x->call, &x->after[k]) == 0, "tsm_submit");
    }
    x->call =
        (struct tsm_call){.callable = x->nothing, .chip = 0, .after_count = 3, .after = x->after};
    take_stats(x);
}

static void submit_group(struct world *x, uint32_t i)
{
    const struct tsm_call members[2] = {{.callable = x->nothing, .chip = 0},
                                        {.callable = x->nothing, .chip = 1}};
    (void)i;
    must(x, tsm_submit_group(x->orch, members, 2, NULL) == 0, "tsm_submit_group");
}

/* ---- dispatch ---- */

static void submit_one(struct world *x, uint32_t i)
{
    (void)i;
    begin_empty(x);
    submit_call(x);
}

/* The second follows the first, which is done when the second is executed, but not when it is submitted. */
static void submit_two(struct world *x, uint32_t i)
{
    (void)i;
    begin_empty(x);
    x->call.chip = 1;
    must(x, tsm_submit(x->orch, &x->call, &x->after[0]) == 0, "tsm_submit");
    x->call.chip = 0;
    x->call.after_count = 1;
    x->call.after = x->after;
    submit_call(x);
    must(x, chip_step(&x->chips[1]), "chip_step");
}

static void dispatch(struct world *x, uint32_t i)
{
    (void)i;
    must(x, chip_step(&x->chips[0]), "chip_step");
}

static void must_be_done(struct world *x, uint32_t i)
{
    (void)i;
    uint64_t done = timeline_read(&x->w->arena, 0);
    must(x, done == x->w->rings[0].published, "the task was not executed");
}

static int one_task(tsm_orch *orch, void *arg)
{
    struct world *x = arg;
    const struct tsm_call one = {.callable = x->nothing, .chip = 0};
    int rc = tsm_submit(orch, &one, NULL);
    must(x, chip_step(&x->chips[0]), "chip_step");
    return rc;
}

static void run_one_task(struct world *x, uint32_t i)
{
    (void)i;
    must(x, tsm_worker_run(x->w, one_task, x) == 0, "tsm_worker_run");
}

/* ---- wake and wait ---- */

static void advance(struct world *x, uint32_t i)
{
    (void)i;
    struct chip *c = &x->chips[0];
    timeline_advance(&c->arena, c->page, 0, a64_load(&c->page->done));
}

static void sleeper_wants_more(struct world *x)
{
    world_sleeps(x, arena_orchestrator(&x->w->arena), WAIT_WORD, 0, NEVER_DONE);
}

static void sleeper_wants_this(struct world *x, uint32_t i)
{
    (void)i;
    world_sleeps(x, arena_orchestrator(&x->w->arena), WAIT_WORD, 0, timeline_read(&x->w->arena, 0));
}

static void sleeper_ends(struct world *x)
{
    world_awake(x, arena_orchestrator(&x->w->arena));
}

static void ring(struct world *x, uint32_t i)
{
    (void)i;
    wake_place(&x->w->arena, 0);
}

static void ring_bell(struct world *x, uint32_t i)
{
    (void)i;
    wake_bell(&x->w->arena, arena_orchestrator(&x->w->arena));
}

static void wait_met(struct world *x, uint32_t i)
{
    (void)i;
    must(x, engine_wait(x->w, 0, 0, 0) == 0, "engine_wait");
}

/* ---- allocate ---- */

/* Sizes a class apart: what the warm round allocated is of another shape. */
static uint64_t new_window(const struct world *x)
{
    return 4096 + x->round * 16384;
}

static void allocate_new(struct world *x, uint32_t i, uint32_t members)
{
    char name[] = "domain-aa";
    name[7] = (char)('a' + i / 26);
    name[8] = (char)('a' + i % 26);
    world_allocate(x, members, new_window(x), name);
}

static void allocate_first_2(struct world *x, uint32_t i)
{
    allocate_new(x, i, 2);
}

static void allocate_first_8(struct world *x, uint32_t i)
{
    allocate_new(x, i, 8);
}

static void end_first(struct world *x)
{
    struct tsm_stats s;
    tsm_worker_stats(x->w, &s);
    must(x, s.leases_fresh - x->before.leases_fresh == SELDOM, "the shapes were not new");
}

static void allocate_and_release(struct world *x, uint32_t members)
{
    tsm_domain *d = world_allocate(x, members, WINDOW_BYTES, "again");
    must(x, tsm_domain_release(d) == 0, "tsm_domain_release");
}

static void allocate_again_2(struct world *x, uint32_t i)
{
    (void)i;
    allocate_and_release(x, 2);
}

static void allocate_again_8(struct world *x, uint32_t i)
{
    (void)i;
    allocate_and_release(x, 8);
}

/* Each of them took a clean lease, but for the first. */
static void end_again(struct world *x)
{
    struct tsm_stats s;
    tsm_worker_stats(x->w, &s);
    must(x, s.leases_reused - x->before.leases_reused >= OFTEN - 1, "the leases were not reused");
}

/* A domain for one step of a program: allocated, used by a group of all its members, released, zeroed. */
static void domain_of_a_step(struct world *x, uint32_t i)
{
    (void)i;
    tsm_domain *d = world_allocate(x, 2, WINDOW_BYTES, "step");
    const struct tsm_call members[2] = {
        {.callable = x->nothing, .chip = 0, .domain_count = 1, .domains = &d},
        {.callable = x->nothing, .chip = 1, .domain_count = 1, .domains = &d}};
    must(x, tsm_submit_group(x->orch, members, 2, NULL) == 0, "tsm_submit_group");
    must(x, chip_step(&x->chips[0]) && chip_step(&x->chips[1]), "chip_step");
    must(x, tsm_domain_release(d) == 0, "tsm_domain_release");
}

/* ---- inside a task ---- */

enum { SRC = 0, DST = 64, SIGNAL = 128, REDUCED = 4 /* elements */ };

static void enter_2(struct world *x)
{
    world_enter(x, 2);
}

static void enter_8(struct world *x)
{
    world_enter(x, 8);
}

static struct call barrier_call(const struct world *x)
{
    const tsm_sym none = {0};
    return call_make(&x->members[0].ctx, CALL_BARRIER, 0, 0, 0, 0, none, none);
}

/* All but rank 0 have arrived. */
static void others_arrive(struct world *x, uint32_t i)
{
    const struct call barrier = barrier_call(x);
    (void)i;
    for (uint32_t rank = 1; rank < x->domain->size; rank++) {
        world_arrive(x, rank, &barrier, NULL, 0);
    }
}

static void barrier(struct world *x, uint32_t i)
{
    (void)i;
    must(x, tsm_barrier(&x->members[0].ctx) == 0, "tsm_barrier");
}

static void others_depart(struct world *x, uint32_t i)
{
    const struct call barrier = barrier_call(x);
    (void)i;
    for (uint32_t rank = 1; rank < x->domain->size; rank++) {
        world_depart(x, rank, &barrier, 0);
    }
}

static struct call reduce_call(const struct world *x)
{
    return call_make(&x->members[0].ctx, CALL_ALL_REDUCE, TSM_F32, TSM_SUM, 0, REDUCED,
                     world_place(x, DST), world_place(x, SRC));
}

static void other_reduces(struct world *x, uint32_t i)
{
    const struct call reduce = reduce_call(x);
    (void)i;
    world_arrive(x, 1, &reduce, tsm_ptr(&x->members[1].ctx, world_place(x, SRC), 1),
                 REDUCED * sizeof(float));
}

static void all_reduce(struct world *x, uint32_t i)
{
    const tsm_sym dst = {DST, x->members[0].ctx.desc->window, x->members[0].ctx.generation};
    const tsm_sym src = {SRC, dst.window, dst.generation};
    (void)i;
    must(x, tsm_all_reduce(&x->members[0].ctx, dst, src, REDUCED, TSM_F32, TSM_SUM) == 0,
         "tsm_all_reduce");
}

static void other_has_reduced(struct world *x, uint32_t i)
{
    const struct call reduce = reduce_call(x);
    (void)i;
    world_depart(x, 1, &reduce, REDUCED * sizeof(float));
}

static void put_signal(struct world *x, uint32_t i)
{
    const uint64_t value = i;
    const tsm_sym dst = {DST, x->members[0].ctx.desc->window, x->members[0].ctx.generation};
    must(x,
         tsm_put_signal(&x->members[0].ctx, dst, &value, sizeof(value),
                        tsm_offset(dst, SIGNAL - DST), i + 1, TSM_SIGNAL_SET, 1) == 0,
         "tsm_put_signal");
}

/* Rank 1 looks for what has come already. */
static void signal_wait_met(struct world *x, uint32_t i)
{
    tsm_ctx *c = &x->members[1].ctx;
    const tsm_sym s = {SIGNAL, c->desc->window, c->generation};
    (void)i;
    must(x, tsm_signal_wait_until(c, s, TSM_GE, 1, NULL, -1) == 0, "tsm_signal_wait_until");
}

static void enter_signalled(struct world *x)
{
    world_enter(x, 2);
    put_signal(x, 0);
}

/* ---- all of them ---- */

static const struct path paths[] = {
    {"call", call, .count = OFTEN},
    {"submit", submit, OFTEN, .begin = begin_empty, .after = drain},
    {"submit_to_sleeper", submit, OFTEN, .begin = begin_empty, .before = chip_sleeps,
     .after = chip_awakes},
    {"submit_3_in_1_out", submit, OFTEN, .begin = begin_live, .before = choose_ranges,
     .end = end_chosen},
    {"submit_overlapping", submit, OFTEN, .begin = begin_live, .before = choose_overlap,
     .end = end_overlap},
    {"submit_after_3", submit, OFTEN, .begin = begin_after, .end = end_chosen},
    {"submit_group_2", submit_group, OFTEN, .after = drain},
    {"dispatch", dispatch, OFTEN, .before = submit_one, .after = must_be_done},
    {"dispatch_after_1", dispatch, OFTEN, .before = submit_two, .after = must_be_done},
    {"run_one_task", run_one_task, OFTEN, .outside = true},
    {"advance", advance, .count = OFTEN},
    {"advance_unmet", advance, OFTEN, .begin = sleeper_wants_more, .end = sleeper_ends},
    {"advance_met", advance, OFTEN, .before = sleeper_wants_this, .end = sleeper_ends},
    {"ring", ring, .count = OFTEN},
    {"ring_bell", ring_bell, OFTEN, .before = sleeper_wants_this, .end = sleeper_ends},
    {"wait_met", wait_met, .count = OFTEN},
    {"allocate_first_2", allocate_first_2, SELDOM, .begin = take_stats, .end = end_first},
    {"allocate_first_8", allocate_first_8, SELDOM, .begin = take_stats, .end = end_first},
    {"allocate_again_2", allocate_again_2, OFTEN, .begin = take_stats, .end = end_again},
    {"allocate_again_8", allocate_again_8, OFTEN, .begin = take_stats, .end = end_again},
    {"domain_of_a_step", domain_of_a_step, OFTEN, .begin = take_stats, .end = end_again},
    {"barrier_2", barrier, OFTEN, .begin = enter_2, .before = others_arrive, .after = others_depart,
     .end = world_leave},
    {"barrier_8", barrier, OFTEN, .begin = enter_8, .before = others_arrive, .after = others_depart,
     .end = world_leave},
    {"all_reduce_2", all_reduce, OFTEN, .begin = enter_2, .before = other_reduces,
     .after = other_has_reduced, .end = world_leave},
    {"put_signal", put_signal, OFTEN, .begin = enter_2, .end = world_leave},
    {"signal_wait_met", signal_wait_met, OFTEN, .begin = enter_signalled, .end = world_leave},
};

/* Both are known to tests/cost/run by their names. */
void path_measured(const struct path *p, struct world *x, uint32_t i);
void path_done(const struct path *p, uint64_t calls, uint64_t all_calls);

__attribute__((noinline)) void path_measured(const struct path *p, struct world *x, uint32_t i)
{
    p->op(x, i);
    __asm__ volatile("" ::: "memory"); /* a call, not a jump */
}

__attribute__((noinline)) void path_done(const struct path *p, uint64_t calls, uint64_t all_calls)
{
    printf("path %s %u %llu %llu\n", p->name, p->count, (unsigned long long)calls,
           (unsigned long long)all_calls);
}

/* Returns the system calls of all ops. */
static uint64_t go(const struct path *p, struct world *x)
{
    uint64_t calls = 0;
    if (p->begin) {
        p->begin(x);
    }
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->before) {
            p->before(x, i);
        }
        if (x->round == 0) {
            p->op(x, i);
        } else {
            uint64_t before = sys_count_all();
            path_measured(p, x, i);
            calls += sys_count_all() - before;
        }
        if (p->after) {
            p->after(x, i);
        }
    }
    if (p->end) {
        p->end(x);
    }
    return calls;
}

struct going {
    const struct path *path;
    uint64_t calls;
};

static int go_inside(tsm_orch *orch, void *arg)
{
    struct going *g = arg;
    world.orch = orch;
    g->calls = go(g->path, &world);
    world_drain(&world);
    return 0;
}

static uint64_t go_round(const struct path *p, uint32_t round)
{
    struct going g = {.path = p};
    world.round = round;
    if (p->outside) {
        return go(p, &world);
    }
    must(&world, tsm_worker_run(world.w, go_inside, &g) == 0, p->name);
    return g.calls;
}

static void describe_build(void)
{
#if defined(__clang__)
    printf("compiler clang %d", __clang_major__);
#else
    printf("compiler gcc %d", __GNUC__);
#endif
#if defined(__x86_64__)
    printf(" x86_64");
#else
    printf(" other");
#endif
#if defined(__OPTIMIZE__)
    printf(" optimised\n");
#else
    printf(" unoptimised\n");
#endif
}

int main(void)
{
    alarm(SECONDS_MAX);
    /* The C library asks the system for all it will need at once, not in the middle of a path. */
    mallopt(M_TOP_PAD, 64 << 20);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    describe_build();
    world_open(&world);
    void *memory = NULL;
    must(&world, tsm_buffer_create(world.w, (LIVE + OFTEN) * SLOT, &memory) == 0, "buffer");
    world.ranges = memory;
    for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
        uint64_t before = sys_count_all();
        go_round(&paths[k], 0);
        uint64_t calls = go_round(&paths[k], 1);
        path_done(&paths[k], calls, sys_count_all() - before);
    }
    must(&world, sys_count(SYS_CALL_FUTEX_WAIT) == 0, "a path has slept");
    world_close(&world);
    return 0;
}

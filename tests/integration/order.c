/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What follows what: edges by overlapping bytes between chips, sub workers, host buffers and windows; explicit edges;
 * groups; and that nothing else is held up.
 */
#include "graph_help.h"

enum { A = 1, B, C, D, E };

/* ---- one edge, everywhere ---- */

/* Two accesses to the same bytes from two places; C is on a third chip and touches nothing of it. */
struct pair {
    struct job a, b;
    bool ordered;
};

/* b must wait for a, which is held inside; or must get to its end meanwhile. */
static int pair_in_turn(tsm_orch *o, void *arg)
{
    struct pair *p = arg;
    clear_diary();
    p->a.value = A;
    p->a.gate = 1;
    p->b.value = B;
    give(o, p->a);
    await_begin(A);
    give(o, p->b);
    if (p->ordered) {
        give(o, (struct job){.chip = 2, .value = C});
        await_end(C);
        assert_false(has_begun(B));
    } else {
        await_end(B);
    }
    open_gate(1);
    return 0;
}

static void check_pair(struct pair p)
{
    world_run(pair_in_turn, &p);
    if (p.ordered) {
        assert_order(A, B);
    }
}

static const struct {
    uint8_t first, second;
    bool ordered;
} edges[] = {
    {TSM_OUTPUT, TSM_INPUT, true},   {TSM_INPUT, TSM_OUTPUT, true},
    {TSM_OUTPUT, TSM_OUTPUT, true},  {TSM_INPUT, TSM_INPUT, false},
    {TSM_INOUT, TSM_INPUT, true},    {TSM_OUTPUT_EXISTING, TSM_INOUT, true},
    {TSM_OUTPUT, TSM_NO_DEP, false}, {TSM_NO_DEP, TSM_OUTPUT, false},
    {TSM_INPUT, TSM_INOUT, true},    {TSM_INOUT, TSM_OUTPUT_EXISTING, true},
};

static void check_edges(void *data, int first, int second)
{
    for (uint32_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        check_pair((struct pair){{.chip = first, .tensors = {VIEW(data, 64, edges[i].first)}},
                                 {.chip = second, .tensors = {VIEW(data, 64, edges[i].second)}},
                                 edges[i].ordered});
    }
}

static void raw_war_and_waw_hold_between_chips_and_subs(void **state)
{
    (void)state;
    world_open(3, 2);
    check_edges(world.memory, 0, 1);
    check_edges(world.memory, 0, TSM_SUB);
    check_edges(world.memory, TSM_SUB, 1);
    check_edges(world.memory, TSM_SUB, TSM_SUB);
    world_close();
}

static int edges_on_windows(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d = make_domain(o, "d", (const int[]){1, 2}, 2, 4096);
    uint8_t *rank0 = window_of(d, 1);
    uint8_t *rank1 = window_of(d, 2);
    clear_diary();
    /* Chip 0 is no member and writes rank 1's window; chip 1 reads it there. */
    give(o,
         (struct job){.chip = 0, .value = A, .gate = 1, .tensors = {VIEW(rank1, 64, TSM_OUTPUT)}});
    await_begin(A);
    give(o, (struct job){.chip = 1, .value = B, .tensors = {VIEW(rank0, 64, TSM_OUTPUT)}});
    await_end(B);
    give(o, (struct job){.chip = 1, .value = C, .tensors = {VIEW(rank1 + 63, 1, TSM_INPUT)}});
    give(o, (struct job){.chip = 2, .value = D, .tensors = {VIEW(rank1 + 64, 1, TSM_INPUT)}});
    await_end(D);
    give(o, (struct job){.chip = TSM_SUB, .value = E, .tensors = {VIEW(rank1, 1, TSM_INOUT)}});
    assert_false(has_begun(C));
    open_gate(1);
    return 0;
}

static void windows_of_other_ranks_are_memory_like_any_other(void **state)
{
    (void)state;
    world_open(3, 1);
    world_run(edges_on_windows, NULL);
    assert_order(A, C);
    assert_order(A, E);
    world_close();
}

static int two_heaps(tsm_orch *o, void *arg)
{
    (void)arg;
    void *own[2];
    assert_code(world.w, tsm_malloc(o, 0, 4096, &own[0]), 0);
    assert_code(world.w, tsm_malloc(o, 1, 4096, &own[1]), 0);
    assert_ptr_not_equal(own[0], own[1]);
    give(o, (struct job){
                .chip = 0, .value = A, .gate = 1, .tensors = {VIEW(own[0], 4096, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 1, .value = B, .tensors = {VIEW(own[1], 4096, TSM_OUTPUT)}});
    await_end(B);
    open_gate(1);
    return 0;
}

static void the_private_memories_of_two_chips_are_distinct(void **state)
{
    (void)state;
    world_open(2, 0);
    world_run(two_heaps, NULL);
    world_close();
}

/* ---- which bytes ---- */

/* rows x columns bytes at (row, column) of a matrix with 64 bytes a row. */
static struct tsm_tensor tile(uint32_t row, uint32_t column, uint32_t rows, uint32_t columns)
{
    return (struct tsm_tensor){.data = world.memory + row * 64 + column,
                               .dtype = TSM_U8,
                               .tag = TSM_INOUT,
                               .ndim = 2,
                               .stride_given = 1,
                               .shape = {rows, columns},
                               .strides = {64, 1}};
}

static void check_tiles(struct tsm_tensor a, struct tsm_tensor b, bool ordered)
{
    check_pair((struct pair){{.chip = 0, .tensors = {a}}, {.chip = 1, .tensors = {b}}, ordered});
}

static void rows_columns_and_tiles_that_do_not_share_a_byte_are_independent(void **state)
{
    (void)state;
    world_open(3, 0);
    check_tiles(tile(0, 0, 1, 64), tile(1, 0, 1, 64), false);   /* rows that touch */
    check_tiles(tile(0, 0, 64, 1), tile(0, 1, 64, 1), false);   /* columns side by side */
    check_tiles(tile(0, 5, 64, 3), tile(0, 40, 64, 20), false); /* columns apart */
    check_tiles(tile(0, 0, 8, 8), tile(0, 8, 8, 8), false);     /* tiles side by side */
    check_tiles(tile(0, 0, 8, 8), tile(8, 0, 8, 8), false);     /* one below the other */
    check_tiles(tile(0, 0, 8, 8), tile(8, 8, 8, 8), false);     /* corner to corner */
    check_tiles(VIEW(world.memory, 64, TSM_INOUT), VIEW(world.memory + 64, 64, TSM_INOUT), false);
    check_tiles(tile(4, 0, 0, 8), tile(4, 0, 1, 8), false); /* nothing shares nothing */
    world_close();
}

static void views_that_share_a_byte_are_ordered(void **state)
{
    (void)state;
    world_open(3, 0);
    check_tiles(tile(0, 0, 8, 8), tile(7, 7, 8, 8), true);
    check_tiles(tile(0, 63, 64, 1), tile(63, 0, 1, 64), true); /* a column and a row */
    check_tiles(tile(0, 5, 64, 3), VIEW(world.memory + 64 * 9, 6, TSM_INPUT), true);
    check_tiles(VIEW(world.memory, 65, TSM_INOUT), VIEW(world.memory + 64, 64, TSM_INPUT), true);
    check_tiles(VIEW(world.memory, MEMORY_BYTES, TSM_INPUT), tile(1000, 3, 1, 1), true);
    struct tsm_tensor back = tile(63, 63, 64, 1); /* a column, from below */
    back.strides[0] = -64;
    check_tiles(back, tile(0, 63, 1, 1), true);
    struct tsm_tensor one = tile(3, 3, 1, 1);
    one.ndim = 0;
    check_tiles(one, tile(3, 0, 1, 4), true);
    world_close();
}

/* ---- many ---- */

static int step_on(tsm_task *t)
{
    uint32_t *x = tsm_task_data(t, 0);
    uint32_t i = (uint32_t)tsm_task_scalar(t, 0);
    if (*x != i) {
        return tsm_fail(t, "link %u finds %u", i, *x);
    }
    *x = i + 1;
    return 0;
}

static tsm_callable step_callable;

/* Every link on another chip (and some on the subs), through one word. */
static int chain(tsm_orch *o, void *arg)
{
    uint32_t links = *(uint32_t *)arg;
    for (uint32_t i = 0; i < links; i++) {
        uint64_t scalar = i;
        struct tsm_tensor x = {
            .data = world.memory, .dtype = TSM_U32, .tag = TSM_INOUT, .ndim = 1, .shape = {1}};
        struct tsm_call call = {.callable = step_callable,
                                .chip = i % 13 == 7 ? TSM_SUB : (int)(i % world.chips),
                                .tensors = &x,
                                .tensor_count = 1,
                                .scalars = &scalar,
                                .scalar_count = 1};
        assert_code(world.w, tsm_submit(o, &call, NULL), 0);
    }
    return 0;
}

static void a_chain_of_10000_over_chips_and_subs_keeps_its_order(void **state)
{
    (void)state;
    uint32_t links = harness_count(10000);
    world_make(4, 2);
    step_callable = harness_register(world.w, "step_on", step_on);
    world_start();
    world_run(chain, &links);
    assert_int_equal(*(uint32_t *)world.memory, links);
    world_close();
}

static int diamond(tsm_orch *o, void *arg)
{
    (void)arg;
    uint8_t *m = world.memory;
    give(o, (struct job){.chip = 0, .value = A, .gate = 1, .tensors = {VIEW(m, 128, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 1,
                         .value = B,
                         .gate = 2,
                         .tensors = {VIEW(m, 64, TSM_INPUT), VIEW(m + 256, 64, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 2,
                         .value = C,
                         .tensors = {VIEW(m + 64, 64, TSM_INPUT), VIEW(m + 320, 64, TSM_OUTPUT)}});
    give(o, (struct job){.chip = 0, .value = D, .tensors = {VIEW(m + 256, 128, TSM_INPUT)}});
    assert_false(has_begun(B) || has_begun(C));
    open_gate(1);
    await_end(C);
    assert_false(has_begun(D));
    open_gate(2);
    return 0;
}

static void both_arms_of_a_diamond_are_between_its_ends(void **state)
{
    (void)state;
    world_open(3, 0);
    world_run(diamond, NULL);
    assert_order(A, B);
    assert_order(A, C);
    assert_order(B, D);
    assert_order(C, D);
    world_close();
}

/* Readers on three chips and a sub; what writes next waits for every one. */
static int write_behind_readers(tsm_orch *o, void *arg)
{
    (void)arg;
    static const int places[] = {0, 1, 2, TSM_SUB};
    for (uint32_t i = 0; i < 4; i++) {
        give(o, (struct job){.chip = places[i],
                             .value = 10 + i,
                             .gate = 1 + i,
                             .tensors = {VIEW(world.memory + i, 64, TSM_INPUT)}});
    }
    give(o, (struct job){.chip = 3, .value = A, .tensors = {VIEW(world.memory, 128, TSM_OUTPUT)}});
    for (uint32_t i = 0; i < 4; i++) {
        await_begin(10 + i);
        assert_false(has_begun(A));
        open_gate(1 + i);
        await_end(10 + i);
    }
    return 0;
}

static void an_output_waits_for_all_readers(void **state)
{
    (void)state;
    world_open(4, 1);
    world_run(write_behind_readers, NULL);
    for (uint32_t i = 0; i < 4; i++) {
        assert_order(10 + i, A);
    }
    world_close();
}

/* ---- explicit edges ---- */

static int after_each_kind(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job group[2] = {{.chip = 1, .value = 20}, {.chip = 2, .value = 21, .gate = 3}};
    tsm_task_id chip = give(o, (struct job){.chip = 0, .value = A, .gate = 1});
    tsm_task_id sub = give(o, (struct job){.chip = TSM_SUB, .value = B, .gate = 2});
    tsm_task_id members = give_group(o, group, 2);
    give(o, (struct job){.chip = 3, .value = C, .after = {chip, sub, members}});
    give(o, (struct job){.chip = TSM_SUB, .value = D, .after = {members}});
    give(o, (struct job){.chip = TSM_SUB, .value = E});
    await_end(E); /* the free sub takes what is ready behind D, which waits */
    await_end(20);
    open_gate(1);
    await_end(A);
    assert_false(has_begun(C) || has_begun(D));
    open_gate(2);
    await_end(B);
    assert_false(has_begun(C) || has_begun(D));
    open_gate(3);
    return 0;
}

static void explicit_edges_follow_chips_subs_and_groups(void **state)
{
    (void)state;
    world_open(4, 2);
    world_run(after_each_kind, NULL);
    assert_order(A, C);
    assert_order(B, C);
    assert_order(20, C);
    assert_order(21, C);
    assert_order(21, D);
    world_close();
}

static int two_in_a_row(tsm_orch *o, void *arg)
{
    tsm_task_id *kept = arg;
    if (kept[0] == 0) {
        kept[0] = give(o, (struct job){.chip = 0, .value = A, .gate = 1});
        kept[1] = give(o, (struct job){.chip = TSM_SUB, .value = B, .gate = 2});
        return 0;
    }
    give(o, (struct job){.chip = 1, .value = C, .after = {kept[0], kept[1]}});
    give(o, (struct job){.chip = 2, .value = D});
    await_end(D);
    assert_false(has_begun(C));
    open_gate(1);
    await_end(A);
    assert_false(has_begun(C));
    open_gate(2);
    return 0;
}

static void an_id_of_an_earlier_run_is_followed_too(void **state)
{
    (void)state;
    tsm_task_id kept[2] = {0};
    tsm_run *first = NULL;
    world_open(3, 1);
    assert_code(world.w, tsm_worker_submit_run(world.w, two_in_a_row, kept, &first), 0);
    world_run(two_in_a_row, kept);
    assert_code(world.w, tsm_run_wait(first, -1), 0);
    tsm_run_release(first);
    assert_order(A, C);
    assert_order(B, C);
    /* Done long ago: nothing to wait for. */
    world_close();
}

/* ---- groups ---- */

static int group_on_its_chips(tsm_orch *o, void *arg)
{
    (void)arg;
    uint8_t *m = world.memory;
    give(o, (struct job){.chip = 0, .value = A, .gate = 1, .tensors = {VIEW(m, 64, TSM_OUTPUT)}});
    give(o,
         (struct job){.chip = 1, .value = B, .gate = 2, .tensors = {VIEW(m + 64, 64, TSM_OUTPUT)}});
    /* One member reads what A writes, another what B writes: all wait for both. */
    struct job members[3] = {
        {.chip = 3,
         .value = 30,
         .tensors = {VIEW(m, 64, TSM_INPUT), VIEW(m + 256, 64, TSM_OUTPUT)}},
        {.chip = 2, .value = 31, .gate = 3, .tensors = {VIEW(m + 64, 64, TSM_INPUT)}},
        {.chip = 4, .value = 32, .tensors = {VIEW(m + 256, 64, TSM_INPUT)}}};
    give_group(o, members, 3);
    give(o, (struct job){.chip = 5, .value = C, .tensors = {VIEW(m + 256, 64, TSM_INPUT)}});
    give(o, (struct job){.chip = 6, .value = D});
    await_end(D);
    open_gate(1);
    await_end(A);
    assert_false(has_begun(30) || has_begun(31) || has_begun(32));
    open_gate(2);
    await_end(30);
    await_end(32); /* no edges between members, although 32 reads what 30 writes */
    assert_false(has_begun(C));
    open_gate(3);
    return 0;
}

static void a_group_waits_for_the_union_and_its_consumers_for_all_members(void **state)
{
    (void)state;
    world_open(7, 0);
    world_run(group_on_its_chips, NULL);
    for (uint32_t i = 30; i < 33; i++) {
        assert_order(A, i);
        assert_order(B, i);
        assert_order(i, C);
    }
    world_close();
}

struct seat {
    uint32_t chip, member, members;
    uint64_t self;
};

static int take_seat(tsm_task *t)
{
    struct seat *seats = tsm_task_data(t, 0);
    seats[tsm_task_member(t)] = (struct seat){(uint32_t)tsm_task_chip(t), tsm_task_member(t),
                                              tsm_task_members(t), tsm_task_self(t)};
    return 0;
}

static tsm_callable seat_callable;

static int seat_group(tsm_orch *o, void *arg)
{
    bool subs = *(bool *)arg;
    static const int chips[4] = {2, 0, 3, 1};
    struct tsm_tensor t = VIEW(world.memory, 4 * sizeof(struct seat), TSM_INOUT);
    struct tsm_call calls[4];
    tsm_task_id id = 0;
    uint64_t tasks = stats_now().tasks;
    for (uint32_t i = 0; i < 4; i++) {
        calls[i] = (struct tsm_call){.callable = seat_callable,
                                     .chip = subs ? TSM_SUB : chips[i],
                                     .tensors = &t,
                                     .tensor_count = 1};
    }
    assert_code(world.w, tsm_submit_group(o, calls, 4, &id), 0);
    assert_int_equal(stats_now().tasks - tasks, 4);
    assert_code(world.w, tsm_host_wait(world.w, world.memory, 64, TSM_READ), 0);
    const struct seat *seats = (const struct seat *)world.memory;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(seats[i].member, i);
        assert_int_equal(seats[i].members, 4);
        assert_true(seats[i].self == id);
        assert_true(subs ? seats[i].chip >= world.chips : seats[i].chip == (uint32_t)chips[i]);
    }
    return 0;
}

static void a_group_runs_once_on_exactly_its_places(void **state)
{
    (void)state;
    bool subs = false;
    world_make(4, 4);
    seat_callable = harness_register(world.w, "take_seat", take_seat);
    world_start();
    world_run(seat_group, &subs);
    subs = true;
    world_run(seat_group, &subs);
    world_close();
}

/* Two groups that share chips, given in every order of members: each holds a barrier of its own domain, so that they
 * only end when they meet on all chips in one order. */
static int meet(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    return c ? tsm_barrier(c) : TSM_ENOENT;
}

static tsm_callable meet_callable;

static int shared_groups(tsm_orch *o, void *arg)
{
    (void)arg;
    static const int left[3] = {0, 1, 2};
    static const int right[3] = {3, 2, 1};
    tsm_domain *d[2] = {make_domain(o, "left", left, 3, 64), make_domain(o, "right", right, 3, 64)};
    struct tsm_call calls[3];
    uint32_t rounds = harness_count(300);
    for (uint32_t i = 0; i < 2 * rounds; i++) {
        for (uint32_t k = 0; k < 3; k++) {
            calls[k] = (struct tsm_call){.callable = meet_callable,
                                         .chip = (i % 2 ? right : left)[(k + i) % 3],
                                         .domains = &d[i % 2],
                                         .domain_count = 1};
        }
        assert_code(world.w, tsm_submit_group(o, calls, 3, NULL), 0);
    }
    return 0;
}

static void groups_that_share_chips_meet_in_one_order(void **state)
{
    (void)state;
    world_make(4, 0);
    meet_callable = harness_register(world.w, "meet", meet);
    world_start();
    world_run(shared_groups, NULL);
    world_close();
}

/* ---- nobody else is held up ---- */

static int busy_chip(tsm_orch *o, void *arg)
{
    (void)arg;
    give(o, (struct job){.chip = 0, .value = A, .gate = 1});
    await_begin(A);
    for (uint32_t i = 0; i < 100; i++) {
        give(o, (struct job){.chip = 0});
        give(o, (struct job){.chip = 1, .value = 100 + i});
    }
    await_end(199);
    give(o, (struct job){.chip = 1, .value = B, .gate = 2});
    for (uint32_t i = 0; i < 100; i++) {
        give(o, (struct job){.chip = TSM_SUB, .value = 200 + i});
    }
    for (uint32_t i = 0; i < 100; i++) {
        await_end(200 + i);
    }
    open_gate(1);
    open_gate(2);
    return 0;
}

static void a_busy_chip_delays_neither_another_one_nor_the_subs(void **state)
{
    (void)state;
    world_open(2, 2);
    world_run(busy_chip, NULL);
    world_close();
}

/* Both subs: one is held, the other has records before it that wait for a chip. */
static int ready_behind_waiting(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_task_id held = give(o, (struct job){.chip = 0, .value = A, .gate = 1});
    give(o, (struct job){.chip = TSM_SUB, .value = B, .gate = 2});
    await_begin(B);
    for (uint32_t i = 0; i < 50; i++) {
        give(o, (struct job){.chip = TSM_SUB, .value = 100 + i, .after = {held}});
    }
    give(o, (struct job){.chip = TSM_SUB, .value = C});
    await_end(C);
    assert_false(has_begun(100) || has_begun(149));
    open_gate(1);
    for (uint32_t i = 0; i < 50; i++) {
        await_end(100 + i); /* by the one free sub, and while the other is held */
    }
    open_gate(2);
    return 0;
}

static void a_free_sub_takes_the_ready_record_behind_those_that_wait(void **state)
{
    (void)state;
    world_open(1, 2);
    world_run(ready_behind_waiting, NULL);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(raw_war_and_waw_hold_between_chips_and_subs),
        TEST(windows_of_other_ranks_are_memory_like_any_other),
        TEST(the_private_memories_of_two_chips_are_distinct),
        TEST(rows_columns_and_tiles_that_do_not_share_a_byte_are_independent),
        TEST(views_that_share_a_byte_are_ordered),
        TEST(a_chain_of_10000_over_chips_and_subs_keeps_its_order),
        TEST(both_arms_of_a_diamond_are_between_its_ends),
        TEST(an_output_waits_for_all_readers),
        TEST(explicit_edges_follow_chips_subs_and_groups),
        TEST(an_id_of_an_earlier_run_is_followed_too),
        TEST(a_group_waits_for_the_union_and_its_consumers_for_all_members),
        TEST(a_group_runs_once_on_exactly_its_places),
        TEST(groups_that_share_chips_meet_in_one_order),
        TEST(a_busy_chip_delays_neither_another_one_nor_the_subs),
        TEST(a_free_sub_takes_the_ready_record_behind_those_that_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

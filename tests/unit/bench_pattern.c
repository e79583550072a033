/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* bench/pattern.c: the patterns are those of the Task Bench paper, and its graphs notice a wrong order. Test process. */
#include "harness.h"

#include "../../bench/pattern.c"

enum { WIDTH = 8, STEPS = 24 };

/* The inputs of a task as bits. */
static uint64_t inputs_of(enum pattern p, uint32_t width, uint32_t step, uint32_t point)
{
    uint32_t list[PATTERN_WIDTH_MAX];
    uint64_t bits = 0;
    uint32_t count = pattern_inputs(p, width, STEPS, step, point, list);
    for (uint32_t k = 0; k < count; k++) {
        assert_true(k == 0 || list[k - 1] < list[k]);
        bits |= UINT64_C(1) << list[k];
    }
    return bits;
}

static uint64_t bits(const char *points)
{
    uint64_t all = 0;
    for (; *points; points++) {
        all |= UINT64_C(1) << (*points - '0');
    }
    return all;
}

static void the_relations_are_those_of_the_paper(void **state)
{
    static const struct {
        enum pattern p;
        uint32_t step, point;
        const char *inputs;
    } cases[] = {
        {PATTERN_TRIVIAL, 5, 3, ""},
        {PATTERN_NO_COMM, 5, 3, "3"},
        {PATTERN_STENCIL_1D, 5, 0, "01"},
        {PATTERN_STENCIL_1D, 5, 3, "234"},
        {PATTERN_STENCIL_1D, 5, 7, "67"},
        {PATTERN_STENCIL_1D_PERIODIC, 5, 0, "017"},
        {PATTERN_STENCIL_1D_PERIODIC, 5, 7, "067"},
        {PATTERN_DOM, 1, 0, "0"},
        {PATTERN_DOM, 1, 1, "0"},
        {PATTERN_DOM, 4, 2, "12"},
        {PATTERN_DOM, STEPS - 1, 7, "67"},
        {PATTERN_TREE, 1, 0, "0"},
        {PATTERN_TREE, 1, 1, "0"},
        {PATTERN_TREE, 2, 3, "1"},
        {PATTERN_TREE, 9, 7, "3"},
        {PATTERN_FFT, 1, 3, "234"},
        {PATTERN_FFT, 2, 3, "135"},
        {PATTERN_FFT, 3, 3, "37"},
        {PATTERN_FFT, 4, 3, "234"},
        {PATTERN_NEAREST, 5, 0, "012"},
        {PATTERN_NEAREST, 5, 3, "12345"},
        {PATTERN_NEAREST, 5, 7, "567"},
        {PATTERN_SPREAD, 2, 0, "01346"},
        {PATTERN_SPREAD, 1, 0, "02457"},
        {PATTERN_SPREAD, 1, 3, "02357"},
        {PATTERN_ALL_TO_ALL, 5, 3, "01234567"},
        {PATTERN_ALL_TO_ALL, 0, 3, ""},
    };
    (void)state;
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(inputs_of(cases[i].p, WIDTH, cases[i].step, cases[i].point),
                         bits(cases[i].inputs));
    }
}

static void random_neighbours_are_of_the_nearest_and_repeat(void **state)
{
    uint32_t changed = 0;
    uint32_t left_out = 0;
    (void)state;
    for (uint32_t step = 1; step + PATTERN_PERIOD < STEPS; step++) {
        for (uint32_t point = 0; point < WIDTH; point++) {
            uint64_t now = inputs_of(PATTERN_RANDOM_NEAREST, WIDTH, step, point);
            uint64_t nearest = inputs_of(PATTERN_NEAREST, WIDTH, step, point);
            assert_int_equal(now & ~nearest, 0);
            assert_true(now >> point & 1);
            assert_int_equal(
                now, inputs_of(PATTERN_RANDOM_NEAREST, WIDTH, step + PATTERN_PERIOD, point));
            changed += now != inputs_of(PATTERN_RANDOM_NEAREST, WIDTH, step + 1, point);
            left_out += now != nearest;
        }
    }
    assert_true(changed > 0 && left_out > 0);
}

static void dom_and_tree_grow_and_dom_shrinks(void **state)
{
    uint32_t first, count;
    (void)state;
    pattern_points(PATTERN_TREE, WIDTH, STEPS, 2, &first, &count);
    assert_true(first == 0 && count == 4);
    pattern_points(PATTERN_TREE, WIDTH, STEPS, 40, &first, &count);
    assert_true(first == 0 && count == WIDTH);
    pattern_points(PATTERN_DOM, WIDTH, STEPS, 2, &first, &count);
    assert_true(first == 0 && count == 3);
    pattern_points(PATTERN_DOM, WIDTH, STEPS, STEPS - 2, &first, &count);
    assert_true(first == WIDTH - 2 && count == 2);
}

/* Everything that a task reads, or whose readers it follows, stands before it; nobody who reads what it overwrites is left out. */
static void check_graph(const struct pattern_graph *g)
{
    uint64_t readers[2 * PATTERN_WIDTH_MAX] = {0}; /* of the slot, as it is */
    uint32_t written[2 * PATTERN_WIDTH_MAX] = {0}; /* step + 1 */
    assert_int_equal(g->count, pattern_count(g->pattern, g->width, g->steps));
    for (uint32_t i = 0; i < g->count; i++) {
        const struct pattern_task *t = &g->tasks[i];
        uint32_t own = pattern_slot(t->step, t->point);
        uint64_t followed = 0;
        for (uint32_t k = 0; k < (uint32_t)t->inputs + t->readers; k++) {
            uint32_t other = g->points[t->first + k];
            uint32_t slot = pattern_slot(t->step + 1, other);
            assert_int_equal(written[slot], t->step);
            followed |= UINT64_C(1) << other;
            if (k < t->inputs) {
                readers[slot] |= UINT64_C(1) << t->point;
            }
        }
        assert_int_equal(readers[own] & ~followed, 0);
        readers[own] = 0;
        written[own] = t->step + 1;
    }
}

static void graphs_are_whole_at_every_width(void **state)
{
    struct pattern_graph g = {0};
    (void)state;
    for (uint32_t p = 0; p < PATTERNS; p++) {
        for (uint32_t width = 1; width <= 12; width++) {
            assert_true(pattern_make(&g, p, width, STEPS));
            check_graph(&g);
        }
    }
    pattern_free(&g);
}

static void run(const struct pattern_graph *g, struct pattern_slot *slots, const uint32_t *order,
                uint32_t *ret_wrong)
{
    *ret_wrong = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct pattern_task *t = &g->tasks[order[i]];
        const struct pattern_slot *inputs[PATTERN_WIDTH_MAX];
        for (uint32_t k = 0; k < t->inputs; k++) {
            inputs[k] = &slots[pattern_slot(t->step - 1, g->points[t->first + k])];
        }
        *ret_wrong += !pattern_run(&slots[pattern_slot(t->step, t->point)], inputs, t->inputs,
                                   t->step, t->point, 3);
    }
}

static void a_wrong_order_is_noticed(void **state)
{
    struct pattern_graph g = {0};
    struct pattern_slot slots[2 * WIDTH] = {0};
    uint32_t order[WIDTH * STEPS];
    uint32_t wrong;
    (void)state;
    assert_true(pattern_make(&g, PATTERN_STENCIL_1D, WIDTH, STEPS));
    for (uint32_t i = 0; i < g.count; i++) {
        order[i] = i;
    }
    run(&g, slots, order, &wrong);
    assert_int_equal(wrong, 0);
    assert_int_equal(pattern_sum(slots, WIDTH), g.sum);
    order[3 * WIDTH] = 2 * WIDTH;
    order[2 * WIDTH] = 3 * WIDTH;
    memset(slots, 0, sizeof(slots));
    run(&g, slots, order, &wrong);
    assert_true(wrong > 0);
    assert_int_not_equal(pattern_sum(slots, WIDTH), g.sum);
    pattern_free(&g);
}

static void the_kernel_iterates(void **state)
{
    (void)state;
    assert_true(pattern_kernel_ns() > 0);
    assert_true(run_kernel(1000, 1) != run_kernel(0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_relations_are_those_of_the_paper),
        TEST(random_neighbours_are_of_the_nearest_and_repeat),
        TEST(dom_and_tree_grow_and_dom_shrinks),
        TEST(graphs_are_whole_at_every_width),
        TEST(a_wrong_order_is_noticed),
        TEST(the_kernel_iterates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

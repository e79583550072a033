/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map: single cases as a reader would put them, then seeded random sequences against a
 * reference that keeps everything per byte. One process, one thread.
 */
#include "engine/rangemap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PLACES 6 /* of the tests' refs; the first TIMELINES are chips */
#define TIMELINES 4
#define TASKS_MAX 4096
#define KINDS (EDGE_POISON + 1)

/*
 * Memory that runs out. The map's cells come from aligned_alloc, and this one comes before libc's.
 */
static bool starved;
static uint32_t refusals;

void *aligned_alloc(size_t alignment, size_t size)
{
    void *p;

    if (starved) {
        refusals++;
        return NULL;
    }
    return posix_memalign(&p, alignment, size) ? NULL : p;
}

/*
 * A world of tasks. Tasks of one place have values 1, 2, ...; those of a chip end in order.
 */
struct world {
    struct rangemap map;
    uint64_t next[PLACES];
    uint64_t ended[TIMELINES]; /* all values up to here */
    uint8_t state[PLACES][TASKS_MAX];
    bool forgotten[PLACES][TASKS_MAX];
    bool edge[KINDS][PLACES][TASKS_MAX];
    bool taken[PLACES][TASKS_MAX];
    uint32_t edges; /* since clear_edges */
};

static struct world *world;

static enum ref_state get_state(void *ctx, struct taskref ref)
{
    struct world *w = ctx;

    assert_true(ref.place < PLACES && ref.value < w->next[ref.place]);
    assert_false(w->forgotten[ref.place][ref.value]);
    return (enum ref_state)w->state[ref.place][ref.value];
}

static void add_edge(void *ctx, struct taskref ref, enum edge_kind kind)
{
    struct world *w = ctx;

    assert_true(ref.place < PLACES && ref.value < w->next[ref.place]);
    w->edge[kind][ref.place][ref.value] = true;
    w->edges++;
}

static void add_taken(void *ctx, struct taskref ref)
{
    struct world *w = ctx;

    w->taken[ref.place][ref.value] = true;
}

static void clear_edges(struct world *w)
{
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint32_t k = 0; k < KINDS; k++)
            memset(w->edge[k][p], 0, w->next[p]);
        memset(w->taken[p], 0, w->next[p]);
    }
    w->edges = 0;
}

static void start_world(struct world *w)
{
    struct rangemap_ops ops = {w, get_state, add_edge, TIMELINES};

    memset(w, 0, sizeof(*w));
    for (uint32_t p = 0; p < PLACES; p++)
        w->next[p] = 1;
    assert_int_equal(rangemap_init(&w->map, &ops), 0);
}

static int set_up(void **state)
{
    world = malloc(sizeof(*world));
    start_world(world);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    starved = false;
    rangemap_fini(&world->map);
    free(*state);
    return 0;
}

static struct taskref new_task(struct world *w, uint32_t place)
{
    assert_true(w->next[place] < TASKS_MAX);
    return (struct taskref){place, 7, w->next[place]++};
}

static void end_task(struct world *w, struct taskref ref, enum ref_state state)
{
    w->state[ref.place][ref.value] = (uint8_t)state;
}

static struct span plain(uint64_t base, uint64_t bytes)
{
    return (struct span){base, bytes, 0, 1};
}

/* Rows and columns of a matrix of 100 rows of 256 bytes. */
static struct span tile(uint64_t row, uint64_t rows, uint64_t col, uint64_t cols)
{
    return (struct span){0x10000 + row * 256 + col, cols, 256, rows};
}

/* A task with one argument. The edges it got are the world's afterwards. */
static struct taskref submit(uint32_t place, struct span span, enum access access)
{
    struct taskref ref = new_task(world, place);

    clear_edges(world);
    assert_int_equal(rangemap_reserve(&world->map, 1), 0);
    rangemap_access(&world->map, &span, access, ref);
    assert_int_equal(rangemap_check(&world->map), 0);
    return ref;
}

static bool has_edge(enum edge_kind kind, struct taskref ref)
{
    return world->edge[kind][ref.place][ref.value];
}

static void poison(struct world *w)
{
    rangemap_poison(&w->map);
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint64_t v = 1; v < w->next[p]; v++)
            w->forgotten[p][v] |= w->state[p][v] != REF_PENDING;
    }
}

#define assert_only_edge(kind, ref)                                                                \
    do {                                                                                           \
        assert_true(has_edge(kind, ref));                                                          \
        assert_int_equal(world->edges, 1);                                                         \
    } while (0)
#define assert_no_edge() assert_int_equal(world->edges, 0)

/*
 * Single cases.
 */

static void nothing_is_known_at_first(void **state)
{
    (void)state;
    submit(0, plain(100, 10), ACCESS_READWRITE);
    assert_no_edge();
}

static void a_reader_follows_the_last_writer(void **state)
{
    struct taskref first, second;

    (void)state;
    first = submit(0, plain(100, 10), ACCESS_WRITE);
    second = submit(1, plain(100, 10), ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, first);
    submit(2, plain(100, 10), ACCESS_READ);
    assert_only_edge(EDGE_RAW, second);
}

static void a_writer_follows_the_readers_since(void **state)
{
    struct taskref writer, readers[2];

    (void)state;
    writer = submit(0, plain(100, 10), ACCESS_WRITE);
    readers[0] = submit(1, plain(100, 10), ACCESS_READ);
    readers[1] = submit(2, plain(100, 10), ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
    submit(3, plain(100, 10), ACCESS_READWRITE);
    assert_true(has_edge(EDGE_RAW, writer));
    assert_true(has_edge(EDGE_WAR, readers[0]));
    assert_true(has_edge(EDGE_WAR, readers[1]));
    assert_int_equal(world->edges, 3);
}

static void ranges_that_only_touch_are_independent(void **state)
{
    (void)state;
    submit(0, plain(100, 10), ACCESS_WRITE);
    submit(1, plain(110, 10), ACCESS_WRITE);
    assert_no_edge();
    submit(2, plain(90, 10), ACCESS_WRITE);
    assert_no_edge();
}

static void one_common_byte_decides(void **state)
{
    struct taskref a, b;

    (void)state;
    a = submit(0, plain(100, 10), ACCESS_WRITE);
    b = submit(1, plain(109, 10), ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, a);
    submit(2, plain(100, 9), ACCESS_READ);
    assert_only_edge(EDGE_RAW, a);
    submit(2, plain(109, 1), ACCESS_READ);
    assert_only_edge(EDGE_RAW, b);
}

static void a_write_over_many_ranges_leaves_one(void **state)
{
    struct taskref writer;

    (void)state;
    for (uint64_t i = 0; i < 200; i++)
        submit(0, plain(1000 + 20 * i, 1 + i % 20), ACCESS_WRITE);
    assert_int_equal(rangemap_count(&world->map), 200);
    writer = submit(1, plain(1000, 4000), ACCESS_WRITE);
    assert_int_equal(rangemap_count(&world->map), 1);
    submit(2, plain(1000, 4000), ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
}

static void disjoint_columns_of_one_matrix_are_independent(void **state)
{
    struct taskref left;

    (void)state;
    left = submit(0, tile(0, 100, 0, 128), ACCESS_WRITE);
    submit(1, tile(0, 100, 128, 128), ACCESS_WRITE);
    assert_no_edge();
    submit(2, tile(20, 5, 127, 1), ACCESS_READ);
    assert_only_edge(EDGE_RAW, left);
}

static void tiles_that_share_a_corner_are_independent(void **state)
{
    (void)state;
    submit(0, tile(10, 10, 64, 64), ACCESS_WRITE);
    submit(1, tile(20, 10, 128, 64), ACCESS_WRITE);
    assert_no_edge();
    submit(2, tile(0, 10, 0, 64), ACCESS_WRITE);
    assert_no_edge();
    submit(3, tile(20, 10, 0, 128), ACCESS_WRITE);
    assert_no_edge();
}

static void tiles_that_overlap_in_a_corner_are_ordered(void **state)
{
    struct taskref a;

    (void)state;
    a = submit(0, tile(10, 10, 64, 64), ACCESS_WRITE);
    submit(1, tile(19, 10, 127, 64), ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, a);
}

static void rows_of_a_column_follow_their_own_writers(void **state)
{
    struct taskref rows[10];

    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        rows[i] = submit(i % 2, plain(0x10000 + i * 256, 256), ACCESS_WRITE);
    submit(2, tile(3, 2, 100, 8), ACCESS_READ);
    assert_true(has_edge(EDGE_RAW, rows[3]));
    assert_true(has_edge(EDGE_RAW, rows[4]));
    assert_int_equal(world->edges, 2);
}

static void a_plain_range_between_two_columns_is_independent(void **state)
{
    struct taskref column;

    (void)state;
    column = submit(0, tile(0, 100, 0, 16), ACCESS_WRITE);
    submit(1, plain(0x10000 + 50 * 256 + 16, 240), ACCESS_WRITE);
    assert_no_edge();
    submit(1, plain(0x10000 + 50 * 256 + 16, 241), ACCESS_WRITE);
    assert_true(has_edge(EDGE_WAW, column));
}

static void a_column_in_a_buffer_written_whole_leaves_the_rest(void **state)
{
    struct taskref whole, column;

    (void)state;
    whole = submit(0, tile(0, 100, 0, 256), ACCESS_WRITE);
    column = submit(1, tile(0, 100, 32, 32), ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, whole);
    submit(2, tile(7, 50, 0, 32), ACCESS_READ);
    assert_only_edge(EDGE_RAW, whole);
    submit(2, tile(7, 50, 31, 2), ACCESS_READ);
    assert_true(has_edge(EDGE_RAW, whole) && has_edge(EDGE_RAW, column));
    submit(3, plain(0x10000, 100 * 256), ACCESS_WRITE);
    assert_int_equal(rangemap_count(&world->map), 1);
}

static void a_buffer_that_became_rows_is_no_longer_whole(void **state)
{
    struct span buffer = plain(0x10000, 100 * 256);
    struct taskref whole, column;

    (void)state;
    submit(0, buffer, ACCESS_WRITE);
    whole = submit(0, buffer, ACCESS_WRITE);
    column = submit(1, tile(0, 100, 32, 32), ACCESS_WRITE);
    submit(2, buffer, ACCESS_READ);
    assert_true(has_edge(EDGE_RAW, whole) && has_edge(EDGE_RAW, column));
}

static void the_upper_rows_of_a_column_leave_the_lower_alone(void **state)
{
    struct taskref first, upper;

    (void)state;
    first = submit(0, tile(0, 100, 0, 64), ACCESS_WRITE);
    upper = submit(1, tile(0, 50, 0, 64), ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, first);
    submit(2, tile(50, 50, 0, 64), ACCESS_READ);
    assert_only_edge(EDGE_RAW, first);
    submit(2, tile(49, 2, 0, 64), ACCESS_READ);
    assert_true(has_edge(EDGE_RAW, first) && has_edge(EDGE_RAW, upper));
}

static void outputs_side_by_side_stay_intervals_of_their_own(void **state)
{
    struct taskref task = new_task(world, 0);
    struct span odd = plain(100, 10), left = plain(90, 10), right = plain(110, 20);

    (void)state;
    assert_int_equal(rangemap_reserve(&world->map, 4), 0);
    rangemap_access(&world->map, &left, ACCESS_WRITE, task);
    rangemap_access(&world->map, &odd, ACCESS_WRITE, task);
    right.width = 10;
    rangemap_access(&world->map, &right, ACCESS_WRITE, task);
    right.width = 20;
    rangemap_access(&world->map, &right, ACCESS_WRITE, task);
    submit(1, plain(100, 10), ACCESS_READ);
    submit(1, plain(90, 10), ACCESS_READ);
    assert_int_equal(rangemap_count(&world->map), 3);
}

static void a_view_of_another_pitch_misses_no_edge(void **state)
{
    struct taskref column, odd;

    (void)state;
    column = submit(0, tile(0, 100, 0, 16), ACCESS_WRITE);
    odd = submit(1, (struct span){0x10000 + 256 * 10, 8, 192, 20}, ACCESS_WRITE);
    assert_true(has_edge(EDGE_WAW, column));
    submit(2, tile(0, 100, 0, 16), ACCESS_READ);
    assert_true(has_edge(EDGE_RAW, column) && has_edge(EDGE_RAW, odd));
}

static void a_million_rows_take_one_interval(void **state)
{
    struct span rows = {0x100000, 100, 4096, 1000000};
    struct taskref writer;

    (void)state;
    writer = submit(0, rows, ACCESS_WRITE);
    assert_int_equal(rangemap_count(&world->map), 1);
    rows.base += 100;
    submit(1, rows, ACCESS_WRITE);
    assert_no_edge();
    submit(2, plain(0x100000 + 4096ull * 999999 + 99, 1), ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
    assert_in_range(rangemap_count(&world->map), 2, 8);
}

/* Row by row, column by column, backwards: each tile stays one interval of its own. */
static void tiles_take_one_interval_each(void **state)
{
    (void)state;
    for (uint32_t order = 0; order < 3; order++) {
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t at = order == 0 ? i : order == 1 ? i % 8 * 8 + i / 8 : 63 - i;

            submit(0, tile(at / 8 * 8, 8, at % 8 * 32, 32), ACCESS_WRITE);
            assert_no_edge();
        }
        assert_int_equal(rangemap_count(&world->map), 64);
        rangemap_take(&world->map, 0, UINT64_MAX, add_taken, world);
        assert_int_equal(rangemap_count(&world->map), 0);
    }
}

static void a_use_makes_no_edge_but_is_taken(void **state)
{
    struct taskref writer, user;

    (void)state;
    writer = submit(0, plain(100, 10), ACCESS_WRITE);
    user = submit(1, plain(100, 10), ACCESS_USE);
    assert_no_edge();
    submit(0, plain(100, 10), ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, writer);
    clear_edges(world);
    rangemap_take(&world->map, 105, 106, add_taken, world);
    assert_true(world->taken[1][user.value]);
}

static void taken_memory_is_forgotten(void **state)
{
    struct taskref writer, reader;

    (void)state;
    writer = submit(0, plain(100, 100), ACCESS_WRITE);
    reader = submit(1, plain(100, 100), ACCESS_READ);
    rangemap_take(&world->map, 120, 140, add_taken, world);
    assert_true(world->taken[0][writer.value] && world->taken[1][reader.value]);
    assert_int_equal(rangemap_check(&world->map), 0);
    submit(2, plain(120, 20), ACCESS_WRITE);
    assert_no_edge();
    submit(2, plain(119, 1), ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
    submit(2, plain(140, 60), ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
}

static void the_arguments_of_one_task_give_it_no_edge(void **state)
{
    struct span span = plain(100, 10);
    struct taskref writer, task;

    (void)state;
    writer = submit(0, span, ACCESS_WRITE);
    task = submit(1, span, ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
    rangemap_reserve(&world->map, 3);
    rangemap_access(&world->map, &span, ACCESS_WRITE, task);
    clear_edges(world);
    rangemap_access(&world->map, &span, ACCESS_READ, task);
    rangemap_access(&world->map, &span, ACCESS_READWRITE, task);
    assert_no_edge();
    submit(2, span, ACCESS_READ);
    assert_only_edge(EDGE_RAW, task);
}

static void what_is_done_gives_no_edge(void **state)
{
    struct taskref writer, reader;

    (void)state;
    writer = submit(0, plain(100, 10), ACCESS_WRITE);
    reader = submit(1, plain(100, 10), ACCESS_READ);
    end_task(world, writer, REF_DONE);
    submit(2, plain(100, 10), ACCESS_READ);
    assert_no_edge();
    end_task(world, reader, REF_FAILED);
    submit(1, plain(100, 5), ACCESS_WRITE);
    assert_int_equal(world->edges, 1);
}

static void readers_on_one_timeline_are_one_edge(void **state)
{
    struct taskref last = {0};

    (void)state;
    for (uint32_t i = 0; i < 20; i++)
        last = submit(3, plain(100, 10), ACCESS_READ);
    submit(0, plain(100, 10), ACCESS_WRITE);
    assert_only_edge(EDGE_WAR, last);
}

static void readers_off_the_timelines_are_all_kept(void **state)
{
    struct taskref readers[100];

    (void)state;
    for (uint32_t i = 0; i < 100; i++)
        readers[i] = submit(4, plain(100, 10), ACCESS_READ);
    submit(0, plain(90, 15), ACCESS_WRITE);
    assert_int_equal(world->edges, 100);
    for (uint32_t i = 0; i < 99; i++)
        end_task(world, readers[i], REF_DONE);
    submit(0, plain(100, 10), ACCESS_WRITE);
    assert_true(has_edge(EDGE_WAR, readers[99]));
    submit(0, plain(100, 10), ACCESS_READ);
    assert_false(has_edge(EDGE_WAR, readers[99]));
}

static void readers_that_ended_do_not_pile_up(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 4000; i++)
        end_task(world, submit(4, plain(100, 10), ACCESS_READ), REF_DONE);
    /* One slab of cells was enough. */
    assert_int_equal(world->map.index.slab_count, 1);
    assert_in_range(world->map.index.cell_spare, 1000, 1024);
}

static void a_failed_writer_poisons_its_readers(void **state)
{
    struct taskref writer;

    (void)state;
    writer = submit(0, plain(100, 10), ACCESS_WRITE);
    end_task(world, writer, REF_FAILED);
    submit(1, plain(105, 1), ACCESS_READ);
    assert_only_edge(EDGE_POISON, writer);
    submit(1, plain(106, 1), ACCESS_READWRITE);
    assert_only_edge(EDGE_POISON, writer);
    submit(1, plain(107, 1), ACCESS_WRITE);
    assert_no_edge();
    submit(1, plain(107, 1), ACCESS_USE);
    assert_no_edge();
}

static void poison_outlives_the_failed_run_until_overwritten(void **state)
{
    struct taskref writer, next;

    (void)state;
    writer = submit(0, plain(100, 10), ACCESS_WRITE);
    end_task(world, writer, REF_FAILED);
    poison(world);
    submit(1, plain(100, 10), ACCESS_READ);
    assert_only_edge(EDGE_POISON, writer);
    next = submit(2, plain(100, 4), ACCESS_WRITE);
    submit(1, plain(100, 4), ACCESS_READ);
    assert_only_edge(EDGE_RAW, next);
    submit(1, plain(103, 2), ACCESS_READ);
    assert_true(has_edge(EDGE_POISON, writer) && has_edge(EDGE_RAW, next));
    rangemap_take(&world->map, 100, 110, add_taken, world);
    submit(1, plain(100, 10), ACCESS_READ);
    assert_no_edge();
}

static void a_view_of_another_pitch_does_not_cure_poison(void **state)
{
    struct taskref writer;

    (void)state;
    writer = submit(0, tile(0, 10, 0, 64), ACCESS_WRITE);
    end_task(world, writer, REF_FAILED);
    poison(world);
    submit(1, (struct span){0x10000, 8, 192, 10}, ACCESS_WRITE);
    submit(2, tile(0, 10, 0, 64), ACCESS_READ);
    assert_true(has_edge(EDGE_POISON, writer));
}

static void a_barrier_is_met_by_every_access(void **state)
{
    static const enum access kinds[] = {ACCESS_READ, ACCESS_WRITE, ACCESS_READWRITE, ACCESS_USE};
    struct taskref refs[2] = {new_task(world, 0), new_task(world, 4)};

    (void)state;
    assert_int_equal(rangemap_reserve(&world->map, 2), 0);
    rangemap_bar(&world->map, 100, 200, refs, 2);
    for (uint32_t i = 0; i < 4; i++) {
        submit(2, plain(90 + 30 * i, 30), kinds[i]);
        assert_true(has_edge(EDGE_BARRIER, refs[0]) && has_edge(EDGE_BARRIER, refs[1]));
    }
    submit(2, plain(200, 10), ACCESS_WRITE);
    assert_false(has_edge(EDGE_BARRIER, refs[0]));
    end_task(world, refs[1], REF_DONE);
    submit(2, plain(150, 10), ACCESS_WRITE);
    assert_true(has_edge(EDGE_BARRIER, refs[0]));
    assert_false(has_edge(EDGE_BARRIER, refs[1]));
}

static void looking_records_nothing(void **state)
{
    struct span span = plain(100, 10);
    struct taskref writer = submit(0, span, ACCESS_WRITE);

    (void)state;
    clear_edges(world);
    rangemap_edges(&world->map, &span, ACCESS_READWRITE);
    assert_only_edge(EDGE_RAW, writer);
    submit(1, span, ACCESS_WRITE);
    assert_only_edge(EDGE_WAW, writer);
}

static void spans_without_bytes_touch_nothing(void **state)
{
    (void)state;
    submit(0, plain(100, 10), ACCESS_WRITE);
    submit(1, plain(105, 0), ACCESS_WRITE);
    assert_no_edge();
    submit(1, (struct span){100, 10, 20, 0}, ACCESS_WRITE);
    assert_no_edge();
    assert_int_equal(rangemap_count(&world->map), 1);
}

static void what_is_done_is_swept_away(void **state)
{
    uint64_t most = 0;

    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        struct span span = plain(i * 64, 64);
        struct taskref ref = {0, 7, 1 + i % 4000};

        world->next[0] = 4001;
        memset(world->state[0], REF_DONE, sizeof(world->state[0]));
        assert_int_equal(rangemap_reserve(&world->map, 1), 0);
        rangemap_access(&world->map, &span, ACCESS_WRITE, ref);
        most = rangemap_count(&world->map) > most ? rangemap_count(&world->map) : most;
    }
    assert_int_equal(rangemap_check(&world->map), 0);
    assert_in_range(most, 4096, 3 * 4096);
}

static void a_zeroed_map_can_be_ended(void **state)
{
    struct rangemap map = {0};

    (void)state;
    rangemap_fini(&map);
    rangemap_fini(&map);
}

static void reserve_without_memory_changes_nothing(void **state)
{
    struct taskref writer = submit(0, plain(100, 10), ACCESS_WRITE);

    (void)state;
    assert_int_equal(rangemap_reserve(&world->map, UINT32_MAX), -ENOMEM);
    starved = true;
    refusals = 0;
    assert_int_equal(rangemap_reserve(&world->map, 1000), -ENOMEM);
    assert_true(refusals > 0);
    starved = false;
    assert_int_equal(rangemap_count(&world->map), 1);
    submit(1, plain(100, 10), ACCESS_READ);
    assert_only_edge(EDGE_RAW, writer);
    assert_int_equal(rangemap_reserve(&world->map, 1000), 0);
}

static void an_access_that_finds_no_memory_is_remembered_all_the_same(void **state)
{
    struct span all = plain(0, 3000 * 64);
    struct taskref reader, writer;

    (void)state;
    for (uint64_t i = 0; i < 3000; i++)
        submit(0, plain(i * 64, 32), ACCESS_WRITE);
    reader = new_task(world, 1);
    assert_int_equal(rangemap_reserve(&world->map, 8), 0);
    starved = true;
    refusals = 0;
    rangemap_access(&world->map, &all, ACCESS_READ, reader); /* needs a cell for each gap */
    assert_true(refusals > 0);
    assert_int_equal(rangemap_check(&world->map), 0);
    writer = new_task(world, 2);
    for (uint64_t i = 0; i < 3000; i += 599) {
        struct span gap = plain(i * 64 + 32, 32);

        clear_edges(world);
        rangemap_access(&world->map, &gap, ACCESS_WRITE, writer);
        assert_only_edge(EDGE_WAR, reader);
    }
    starved = false;
    submit(3, all, ACCESS_WRITE);
    submit(1, all, ACCESS_WRITE);
    assert_int_equal(world->edges, 1);
}

/*
 * Views.
 */

static void contiguous_dimensions_are_merged(void **state)
{
    const uint64_t shape[] = {4, 5, 6};
    const int64_t strides[] = {120, 24, 4};
    struct span out[4];

    (void)state;
    assert_int_equal(span_from_view(1000, 3, shape, strides, 4, out, 4), 1);
    assert_true(out[0].base == 1000 && out[0].width == 480 && out[0].rows == 1);
}

static void a_tile_becomes_rows(void **state)
{
    const uint64_t shape[] = {10, 6};
    const int64_t strides[] = {256, 4}, down[] = {-256, 4}, across[] = {4, 256};
    const uint64_t turned[] = {6, 10};
    struct span out[4];

    (void)state;
    assert_int_equal(span_from_view(1000, 2, shape, strides, 4, out, 4), 1);
    assert_true(out[0].base == 1000 && out[0].width == 24);
    assert_true(out[0].rows == 10 && out[0].pitch == 256);
    assert_int_equal(span_from_view(1000 + 9 * 256, 2, shape, down, 4, out, 4), 1);
    assert_true(out[0].base == 1000 && out[0].rows == 10 && out[0].pitch == 256);
    assert_int_equal(span_from_view(1000, 2, turned, across, 4, out, 4), 1);
    assert_true(out[0].width == 24 && out[0].rows == 10 && out[0].pitch == 256);
}

static void further_dimensions_are_written_out_where_they_fit(void **state)
{
    const uint64_t shape[] = {3, 10, 6}, many[] = {1000, 2, 6};
    const int64_t strides[] = {10000, 256, 4};
    struct span out[4];

    (void)state;
    assert_int_equal(span_from_view(0, 3, shape, strides, 4, out, 4), 3);
    assert_true(out[2].base == 20000 && out[2].rows == 10 && out[2].pitch == 256);
    assert_int_equal(span_from_view(0, 3, many, strides, 4, out, 4), 2);
    assert_true(out[1].base == 256 && out[1].rows == 1000 && out[1].pitch == 10000);
    assert_int_equal(span_from_view(0, 3, shape, strides, 4, out, 2), 1);
    assert_true(out[0].width == 9 * 256 + 24 && out[0].rows == 3 && out[0].pitch == 10000);
}

static void views_that_cannot_be_are_refused(void **state)
{
    const uint64_t shape[] = {2, 1, 1, 1, 1, 1, 1, 1, 1}, none[] = {4, 0}, huge[] = {1ull << 62};
    const int64_t strides[] = {8, 8, 8, 8, 8, 8, 8, 8, 8}, back[] = {-8};
    struct span out[1];

    (void)state;
    assert_int_equal(span_from_view(0, 9, shape, strides, 4, out, 1), -EINVAL);
    assert_int_equal(span_from_view(0, 1, shape, strides, 4, out, 0), -EINVAL);
    assert_int_equal(span_from_view(0, 2, none, strides, 4, out, 1), 0);
    assert_int_equal(span_from_view(0, 1, shape, strides, 0, out, 1), 0);
    assert_int_equal(span_from_view(0, 1, huge, strides, 4, out, 1), -EOVERFLOW);
    assert_int_equal(span_from_view(0, 1, shape, back, 4, out, 1), -EOVERFLOW);
    assert_int_equal(span_from_view(UINT64_MAX - 2, 0, NULL, NULL, 4, out, 1), -EOVERFLOW);
    assert_int_equal(span_from_view(8, 0, NULL, NULL, 4, out, 1), 1);
    assert_true(out[0].base == 8 && out[0].width == 4 && out[0].rows == 1);
}

/*
 * Random sequences.
 */

#define SPACE 2048
#define READERS 48
#define SEEDS 60
#define SEQUENCE 500

static uint64_t dice_state;

static uint32_t dice(uint32_t sides)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return (uint32_t)(dice_state >> 20) % sides;
}

static void mark_bytes(const struct span *spans, int n, uint8_t *bytes, uint32_t size)
{
    memset(bytes, 0, size);
    for (int i = 0; i < n; i++) {
        for (uint64_t r = 0; r < spans[i].rows; r++) {
            uint64_t at = spans[i].base + r * spans[i].pitch;

            for (uint64_t b = 0; b < spans[i].width; b++) {
                assert_true(at + b < size);
                bytes[at + b] = 1;
            }
        }
    }
}

/* All elements of a view, the slow way. */
static void mark_view(int64_t base, uint32_t ndim, const uint64_t *shape, const int64_t *strides,
                      uint64_t elem, uint8_t *bytes)
{
    if (ndim) {
        for (uint64_t i = 0; i < shape[0]; i++) {
            mark_view(base, ndim - 1, shape + 1, strides + 1, elem, bytes);
            base += strides[0];
        }
        return;
    }
    for (uint64_t b = 0; b < elem; b++)
        bytes[base + (int64_t)b] = 1;
}

static void random_views_have_all_their_bytes_and_no_others(void **state)
{
    enum { SIZE = 1 << 18 };
    uint8_t *want = malloc(SIZE), *have = malloc(SIZE);
    struct span out[2048];

    (void)state;
    dice_state = 4711;
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t ndim = dice(5), max = round % 2 ? 2048 : 1 + dice(4);
        int64_t strides[5], base = SIZE / 2;
        uint64_t shape[5], elem = 1 + dice(8);
        int n;

        for (uint32_t d = 0; d < ndim; d++) {
            shape[d] = dice(6) ? 1 + dice(6) : 0;
            strides[d] = dice(3) ? (int64_t)elem << dice(11) : (int64_t)dice(3000);
            strides[d] = dice(3) ? strides[d] : -strides[d];
        }
        memset(want, 0, SIZE);
        mark_view(base, ndim, shape, strides, elem, want);
        n = span_from_view((uint64_t)base, ndim, shape, strides, elem, out, max);
        assert_in_range(n, 0, max);
        mark_bytes(out, n, have, SIZE);
        for (uint32_t i = 0; i < SIZE; i++) {
            if (want[i] != have[i] && (want[i] || round % 2))
                fail_msg("round %u byte %u: want %d have %d", round, i, want[i], have[i]);
        }
    }
    free(want);
    free(have);
}

/* What the reference knows of one byte. */
struct byte {
    struct taskref writer; /* none: value 0 */
    struct taskref list[READERS];
    uint8_t kind[READERS]; /* 'r'eader, 'u'ser, 'b'arrier */
    uint8_t n;
};

struct model {
    struct world *w;
    struct span recent[16];
    struct byte byte[SPACE];
    bool edge[KINDS][PLACES][TASKS_MAX];
    bool taken[PLACES][TASKS_MAX];
    uint64_t pitches[2];
    bool exact;
    bool starving;
};

static enum ref_state model_state(const struct model *m, struct taskref ref)
{
    return (enum ref_state)m->w->state[ref.place][ref.value];
}

static bool same(struct taskref a, struct taskref b)
{
    return a.place == b.place && a.value == b.value;
}

static void prune(struct model *m, struct byte *b)
{
    for (uint32_t i = 0; i < b->n;) {
        if (model_state(m, b->list[i]) == REF_PENDING) {
            i++;
            continue;
        }
        b->n--;
        b->list[i] = b->list[b->n];
        b->kind[i] = b->kind[b->n];
    }
}

static void remember(struct model *m, struct byte *b, struct taskref ref, uint8_t kind)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->kind[i] == kind && same(b->list[i], ref))
            return;
    }
    if (b->n == READERS)
        prune(m, b);
    assert_true(b->n < READERS);
    b->list[b->n] = ref;
    b->kind[b->n++] = kind;
}

static void model_edges(struct model *m, struct byte *b, enum access access, struct taskref self)
{
    bool reads = access == ACCESS_READ || access == ACCESS_READWRITE;
    bool writes = access == ACCESS_WRITE || access == ACCESS_READWRITE;
    struct taskref w = b->writer;

    if (w.value && !same(w, self)) {
        enum ref_state state = model_state(m, w);

        if (state == REF_PENDING && (reads || writes))
            m->edge[reads ? EDGE_RAW : EDGE_WAW][w.place][w.value] = true;
        if (state == REF_FAILED && reads)
            m->edge[EDGE_POISON][w.place][w.value] = true;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        struct taskref r = b->list[i];

        if (same(r, self) || model_state(m, r) != REF_PENDING)
            continue;
        if (b->kind[i] == 'b')
            m->edge[EDGE_BARRIER][r.place][r.value] = true;
        if (b->kind[i] == 'r' && writes)
            m->edge[EDGE_WAR][r.place][r.value] = true;
    }
}

static void model_record(struct model *m, struct byte *b, enum access access, struct taskref self)
{
    if (access == ACCESS_USE || access == ACCESS_READ) {
        remember(m, b, self, access == ACCESS_USE ? 'u' : 'r');
        return;
    }
    b->writer = self;
    for (uint32_t i = 0; i < b->n;) {
        if (b->kind[i] != 'r') {
            i++;
            continue;
        }
        b->n--;
        b->list[i] = b->list[b->n];
        b->kind[i] = b->kind[b->n];
    }
}

/*
 * Of readers, users and barriers the map keeps the last of each timeline, which may be self: then
 * what it stood for runs before self on the same chip.
 */
static void compare_last(const struct model *m, const bool (*want)[TASKS_MAX],
                         const bool (*have)[TASKS_MAX], struct taskref self, const char *what)
{
    for (uint32_t p = 0; p < PLACES; p++) {
        uint64_t last[2] = {0, 0};

        if (p < TIMELINES && p == self.place)
            continue;
        for (uint64_t v = 1; v < m->w->next[p]; v++) {
            last[0] = want[p][v] ? v : last[0];
            last[1] = have[p][v] ? v : last[1];
            if (p >= TIMELINES && (m->exact ? want[p][v] != have[p][v] : want[p][v] > have[p][v]))
                fail_msg("%s place %u value %u: want %d", what, p, (unsigned)v, want[p][v]);
        }
        if (m->exact ? last[0] != last[1] : last[0] > last[1])
            fail_msg("%s place %u: want %u, have %u", what, p, (unsigned)last[0],
                     (unsigned)last[1]);
    }
}

static void compare_all(const struct model *m, const bool (*want)[TASKS_MAX],
                        const bool (*have)[TASKS_MAX], const char *what)
{
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint64_t v = 1; v < m->w->next[p]; v++) {
            if (m->exact ? want[p][v] != have[p][v] : want[p][v] > have[p][v])
                fail_msg("%s place %u value %u: want %d", what, p, (unsigned)v, want[p][v]);
        }
    }
}

static void compare_edges(const struct model *m, struct taskref self)
{
    const struct world *w = m->w;

    compare_all(m, m->edge[EDGE_RAW], w->edge[EDGE_RAW], "RAW");
    compare_all(m, m->edge[EDGE_WAW], w->edge[EDGE_WAW], "WAW");
    compare_all(m, m->edge[EDGE_POISON], w->edge[EDGE_POISON], "POISON");
    compare_last(m, m->edge[EDGE_WAR], w->edge[EDGE_WAR], self, "WAR");
    compare_last(m, m->edge[EDGE_BARRIER], w->edge[EDGE_BARRIER], self, "BARRIER");
}

static struct span new_span(const struct model *m)
{
    uint64_t pitch = m->pitches[dice(2)], base, rows, width;

    if (dice(3) == 0) { /* a plain range, often a row or so */
        base = dice(SPACE - 1);
        width = dice(4) ? 1 + dice(40) : 1 + dice(SPACE / 2);
        return plain(base, base + width > SPACE ? SPACE - base : width);
    }
    if (dice(2)) { /* a tile of a grid */
        base = pitch * 4 * dice(4) + pitch / 4 * dice(4) + 5;
        width = pitch / 4 * (1 + dice(3));
        rows = 4;
    } else {
        base = dice(SPACE / 2);
        width = dice(10) ? 1 + dice((uint32_t)pitch - 1) : pitch + dice(2);
        rows = 1 + dice(12);
    }
    while (rows > 1 && base + (rows - 1) * pitch + width > SPACE)
        rows--;
    if (base + width > SPACE)
        width = SPACE - base;
    return (struct span){base, width, pitch, rows};
}

/* Programs come back to the same bytes: all of a view, or its upper rows. */
static struct span random_span(struct model *m)
{
    struct span *slot = &m->recent[dice(16)];

    if (!slot->rows || dice(3) == 0)
        *slot = new_span(m);
    if (slot->rows > 1 && dice(4) == 0)
        return (struct span){slot->base, slot->width, slot->pitch, 1 + dice((uint32_t)slot->rows)};
    return *slot;
}

static void clear_model(struct model *m)
{
    clear_edges(m->w);
    for (uint32_t p = 0; p < PLACES; p++) {
        for (uint32_t k = 0; k < KINDS; k++)
            memset(m->edge[k][p], 0, m->w->next[p]);
        memset(m->taken[p], 0, m->w->next[p]);
    }
}

/* Self with value 0: only looks. */
static void step_access(struct model *m, struct taskref self)
{
    enum access access = (enum access)dice(4);
    struct span span = random_span(m);
    static uint8_t touched[SPACE];

    clear_model(m);
    mark_bytes(&span, 1, touched, SPACE);
    for (uint32_t i = 0; i < SPACE; i++) {
        if (touched[i])
            model_edges(m, &m->byte[i], access, self);
    }
    if (self.value)
        rangemap_access(&m->w->map, &span, access, self);
    else
        rangemap_edges(&m->w->map, &span, access);
    compare_edges(m, self);
    for (uint32_t i = 0; self.value && i < SPACE; i++) {
        if (touched[i])
            model_record(m, &m->byte[i], access, self);
    }
}

static void step_task(struct model *m)
{
    struct taskref self = new_task(m->w, dice(PLACES));
    uint32_t args = 1 + dice(3);

    if (!m->starving)
        assert_int_equal(rangemap_reserve(&m->w->map, args), 0);
    for (uint32_t i = 0; i < args; i++)
        step_access(m, self);
}

static void step_end(struct model *m)
{
    struct world *w = m->w;
    uint32_t p = dice(PLACES), n = 1 + dice(6);

    for (uint64_t v = 1; v < w->next[p] && n; v++) {
        if (w->state[p][v] != REF_PENDING || (p >= TIMELINES && dice(2)))
            continue;
        end_task(w, (struct taskref){p, 7, v}, dice(5) ? REF_DONE : REF_FAILED);
        n--;
    }
}

static void step_take(struct model *m)
{
    uint64_t lo = dice(SPACE), hi = lo + 1 + dice(200);

    clear_model(m);
    hi = hi > SPACE ? SPACE : hi;
    for (uint64_t i = lo; i < hi; i++) {
        struct byte *b = &m->byte[i];

        prune(m, b);
        if (b->writer.value && model_state(m, b->writer) == REF_PENDING)
            m->taken[b->writer.place][b->writer.value] = true;
        for (uint32_t k = 0; k < b->n; k++)
            m->taken[b->list[k].place][b->list[k].value] = true;
        memset(b, 0, sizeof(*b));
    }
    rangemap_take(&m->w->map, lo, hi, add_taken, m->w);
    compare_last(m, m->taken, m->w->taken, (struct taskref){PLACES, 0, 0}, "taken");
}

static void step_bar(struct model *m)
{
    uint64_t lo = dice(SPACE), hi = lo + 1 + dice(200);
    struct taskref refs[3];
    uint32_t n = 1 + dice(3);

    hi = hi > SPACE ? SPACE : hi;
    for (uint32_t i = 0; i < n; i++) {
        refs[i] = new_task(m->w, dice(PLACES));
        for (uint64_t k = lo; k < hi; k++)
            remember(m, &m->byte[k], refs[i], 'b');
    }
    if (!m->starving)
        assert_int_equal(rangemap_reserve(&m->w->map, n), 0);
    rangemap_bar(&m->w->map, lo, hi, refs, n);
}

/* No cells to be had, apart from a few; records enough for what spills. */
static void starve(struct model *m)
{
    struct rangemap *map = &m->w->map;
    struct taskref eater = new_task(m->w, 5);

    assert_int_equal(rangemap_reserve(map, 4 * SEQUENCE), 0);
    starved = true;
    for (uint64_t at = 1 << 20; map->index.cell_spare > 40; at += 64) {
        struct span far = plain(at, 32);

        rangemap_access(map, &far, ACCESS_WRITE, eater);
    }
}

static void run_sequence(uint64_t seed, uint64_t pitch, uint64_t other, bool starving)
{
    struct model *m = calloc(1, sizeof(*m));

    start_world(world);
    *m = (struct model){.w = world, .pitches = {pitch, other}, .starving = starving};
    m->exact = pitch == other && !starving;
    dice_state = seed * 0x9e3779b97f4a7c15;
    if (starving)
        starve(m);
    for (uint32_t i = 0; i < SEQUENCE; i++) {
        uint32_t what = dice(100);

        if (what < 60)
            step_task(m);
        else if (what < 65)
            step_access(m, (struct taskref){PLACES, 0, 0});
        else if (what < 92)
            step_end(m);
        else if (what < 95)
            step_take(m);
        else if (what < 97)
            step_bar(m);
        else
            poison(world);
        if (what % 4 == 0)
            world->map.sweep_limit = 0; /* so that small maps are swept */
        if (i % 8 == 0 && rangemap_check(&world->map))
            fail_msg("seed %u step %u: check %d", (unsigned)seed, i, rangemap_check(&world->map));
    }
    starved = false;
    rangemap_take(&world->map, 0, UINT64_MAX, add_taken, world);
    assert_int_equal(rangemap_count(&world->map), 0);
    assert_int_equal(rangemap_check(&world->map), 0);
    rangemap_fini(&world->map);
    free(m);
}

static void random_accesses_of_one_layout_give_exactly_the_edges(void **state)
{
    static const uint64_t pitches[] = {64, 48, 100, 17};

    (void)state;
    rangemap_fini(&world->map);
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_sequence(seed, pitches[seed % 4], pitches[seed % 4], false);
    start_world(world);
}

static void random_accesses_of_two_layouts_miss_no_edge(void **state)
{
    static const uint64_t pitches[][2] = {{64, 48}, {64, 32}, {100, 37}, {33, 32}};

    (void)state;
    rangemap_fini(&world->map);
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_sequence(seed, pitches[seed % 4][0], pitches[seed % 4][1], false);
    start_world(world);
}

static void random_accesses_without_memory_miss_no_edge(void **state)
{
    (void)state;
    rangemap_fini(&world->map);
    refusals = 0;
    for (uint64_t seed = 1; seed <= SEEDS / 2; seed++)
        run_sequence(seed, 64, seed % 2 ? 64 : 48, true);
    assert_true(refusals > 0);
    start_world(world);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_is_known_at_first),
        CASE(a_reader_follows_the_last_writer),
        CASE(a_writer_follows_the_readers_since),
        CASE(ranges_that_only_touch_are_independent),
        CASE(one_common_byte_decides),
        CASE(a_write_over_many_ranges_leaves_one),
        CASE(disjoint_columns_of_one_matrix_are_independent),
        CASE(tiles_that_share_a_corner_are_independent),
        CASE(tiles_that_overlap_in_a_corner_are_ordered),
        CASE(rows_of_a_column_follow_their_own_writers),
        CASE(a_plain_range_between_two_columns_is_independent),
        CASE(a_column_in_a_buffer_written_whole_leaves_the_rest),
        CASE(a_buffer_that_became_rows_is_no_longer_whole),
        CASE(the_upper_rows_of_a_column_leave_the_lower_alone),
        CASE(outputs_side_by_side_stay_intervals_of_their_own),
        CASE(a_view_of_another_pitch_misses_no_edge),
        CASE(a_million_rows_take_one_interval),
        CASE(tiles_take_one_interval_each),
        CASE(a_use_makes_no_edge_but_is_taken),
        CASE(taken_memory_is_forgotten),
        CASE(the_arguments_of_one_task_give_it_no_edge),
        CASE(what_is_done_gives_no_edge),
        CASE(readers_on_one_timeline_are_one_edge),
        CASE(readers_off_the_timelines_are_all_kept),
        CASE(readers_that_ended_do_not_pile_up),
        CASE(a_failed_writer_poisons_its_readers),
        CASE(poison_outlives_the_failed_run_until_overwritten),
        CASE(a_view_of_another_pitch_does_not_cure_poison),
        CASE(a_barrier_is_met_by_every_access),
        CASE(looking_records_nothing),
        CASE(spans_without_bytes_touch_nothing),
        CASE(what_is_done_is_swept_away),
        CASE(a_zeroed_map_can_be_ended),
        CASE(reserve_without_memory_changes_nothing),
        CASE(an_access_that_finds_no_memory_is_remembered_all_the_same),
        CASE(contiguous_dimensions_are_merged),
        CASE(a_tile_becomes_rows),
        CASE(further_dimensions_are_written_out_where_they_fit),
        CASE(views_that_cannot_be_are_refused),
        CASE(random_views_have_all_their_bytes_and_no_others),
        CASE(random_accesses_of_one_layout_give_exactly_the_edges),
        CASE(random_accesses_of_two_layouts_miss_no_edge),
        CASE(random_accesses_without_memory_miss_no_edge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The range map: single cases as a reader would put them. One process, one thread.
 */
#include "rangemap_world.h"

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
    struct span outputs[4] = {plain(90, 10), plain(100, 10), plain(110, 10), plain(110, 20)};

    (void)state;
    assert_int_equal(rangemap_reserve(&world->map, 4), 0);
    for (uint32_t i = 0; i < 4; i++) {
        rangemap_access(&world->map, &outputs[i], ACCESS_WRITE, task);
        assert_int_equal(rangemap_count(&world->map), i < 3 ? i + 1 : 3);
    }
    submit(1, outputs[0], ACCESS_READ);
    submit(1, outputs[1], ACCESS_READ);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * src/engine/tuning.c: the file that TRANSOM_TUNING names, and what becomes of a worker whose file is wrong. Test
 * process; the files are memfds, named by their place in /proc.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "harness.h"

struct file {
    int fd;
    char path[64];
};

static struct file file_of(const char *text)
{
    struct file f = {.fd = memfd_create("tuning", MFD_CLOEXEC)};
    assert_true(f.fd >= 0);
    assert_int_equal(write(f.fd, text, strlen(text)), (ssize_t)strlen(text));
    snprintf(f.path, sizeof(f.path), "/proc/%d/fd/%d", getpid(), f.fd);
    return f;
}

/* Reads text over *t; the file's path is cut off the error's text, which is left in *err. */
static int read_text(const char *text, struct tuning *t, struct tsm_error *err)
{
    struct file f = file_of(text);
    char *path;
    int rc = tuning_read(f.path, t, err);
    if (rc != 0 && (path = strstr(err->text, f.path)) != NULL) {
        memmove(path, path + strlen(f.path), strlen(path + strlen(f.path)) + 1);
    }
    close(f.fd);
    return rc;
}

static void assert_refused(const char *text, const char *error)
{
    struct tuning t = tuning_default;
    struct tsm_error err;
    assert_int_equal(read_text(text, &t, &err), TSM_EINVAL);
    assert_int_equal(err.code, TSM_EINVAL);
    assert_string_equal(err.text, error);
    assert_memory_equal(&t, &tuning_default, sizeof(t));
}

static void values_of_a_file_replace_the_built_in_ones(void **state)
{
    (void)state;
    struct tuning t = tuning_default;
    struct tsm_error err;
    const char *text = "# measured\n"
                       "flat_ranks_max 12\n"
                       "\n"
                       "  one_shot_bytes_2\t77   # a comment\n"
                       "one_shot_bytes_more 0\r\n"
                       "stream_bytes 18446744073709551615";
    assert_int_equal(read_text(text, &t, &err), 0);
    assert_int_equal(t.flat_ranks_max, 12);
    assert_int_equal(t.one_shot_bytes[0], 77);
    assert_int_equal(t.one_shot_bytes[4], 0);
    assert_true(t.stream_bytes == UINT64_MAX);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(t.one_shot_bytes[i], tuning_default.one_shot_bytes[i]);
    }
}

static void an_empty_file_changes_nothing(void **state)
{
    (void)state;
    struct tuning t = tuning_default;
    struct tsm_error err;
    assert_int_equal(read_text("", &t, &err), 0);
    assert_int_equal(read_text("# nothing\n\n", &t, &err), 0);
    assert_memory_equal(&t, &tuning_default, sizeof(t));
}

static void the_last_of_two_lines_with_one_name_holds(void **state)
{
    (void)state;
    struct tuning t = tuning_default;
    struct tsm_error err;
    assert_int_equal(read_text("stream_bytes 1\nstream_bytes 2\n", &t, &err), 0);
    assert_true(t.stream_bytes == 2);
}

static void what_is_wrong_is_refused_with_line_and_text(void **state)
{
    (void)state;
    assert_refused("\nflat_rank_max 3\n", "TRANSOM_TUNING: :2: no value is named 'flat_rank_max'");
    assert_refused("stream_bytes", "TRANSOM_TUNING: :1: not a name and a number: 'stream_bytes'");
    assert_refused("stream_bytes 4k",
                   "TRANSOM_TUNING: :1: not a name and a number: 'stream_bytes 4k'");
    assert_refused("stream_bytes -1",
                   "TRANSOM_TUNING: :1: not a name and a number: 'stream_bytes -1'");
    assert_refused("stream_bytes 1 2",
                   "TRANSOM_TUNING: :1: not a name and a number: 'stream_bytes 1 2'");
    assert_refused("stream_bytes 18446744073709551616",
                   "TRANSOM_TUNING: :1: not a name and a number: "
                   "'stream_bytes 18446744073709551616'");
    assert_refused("flat_ranks_max 4294967296",
                   "TRANSOM_TUNING: :1: flat_ranks_max is at most 4294967295: "
                   "'flat_ranks_max 4294967296'");
}

static void a_one_shot_reduction_fits_a_slot_of_the_stage(void **state)
{
    (void)state;
    char text[64], error[128];
    struct tuning t = tuning_default;
    struct tsm_error err;
    snprintf(text, sizeof(text), "stream_bytes 5\none_shot_bytes_8 %d#\n", STAGE_BYTES);
    assert_int_equal(read_text(text, &t, &err), 0);
    assert_int_equal(t.one_shot_bytes[2], STAGE_BYTES);
    snprintf(text, sizeof(text), "stream_bytes 5\none_shot_bytes_8 %d#\n", STAGE_BYTES + 1);
    snprintf(error, sizeof(error),
             "TRANSOM_TUNING: :2: one_shot_bytes_8 is at most %d: 'one_shot_bytes_8 %d'",
             STAGE_BYTES, STAGE_BYTES + 1);
    assert_refused(text, error);
}

static void a_line_that_is_too_long_is_refused(void **state)
{
    (void)state;
    char text[400];
    struct tuning t = tuning_default;
    struct tsm_error err;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    assert_int_equal(read_text(text, &t, &err), TSM_EINVAL);
    assert_non_null(strstr(err.text, ":1: the line is longer than"));
}

static void a_file_that_cannot_be_read_is_refused_with_its_name(void **state)
{
    (void)state;
    struct tuning t = tuning_default;
    struct tsm_error err;
    assert_int_equal(tuning_read("/nowhere/tuning.conf", &t, &err), TSM_EINVAL);
    assert_non_null(strstr(err.text, "cannot read /nowhere/tuning.conf"));
    assert_true(err.sys_errno != 0);
    assert_int_equal(tuning_read("/proc/self", &t, &err), TSM_EINVAL);
    assert_non_null(strstr(err.text, "cannot read /proc/self"));
}

static void what_is_written_reads_back_the_same(void **state)
{
    (void)state;
    struct tuning t = {.flat_ranks_max = 3,
                       .one_shot_bytes = {1, 2, 3, 4, 5},
                       .stream_bytes = UINT64_C(1) << 40,
                       .stream_out_bytes = 7};
    struct tuning back = tuning_default;
    struct tsm_error err;
    char text[512];
    tuning_write(&t, text, sizeof(text));
    assert_int_equal(read_text(text, &back, &err), 0);
    assert_memory_equal(&t, &back, sizeof(t));
}

static void a_worker_starts_with_the_values_of_the_file(void **state)
{
    (void)state;
    struct file f = file_of("flat_ranks_max 5\n");
    setenv("TRANSOM_TUNING", f.path, 1);
    tsm_worker *w = harness_worker(1, 0);
    harness_start(w);
    assert_int_equal(w->arena.ctl->info.tuning.flat_ranks_max, 5);
    assert_true(w->arena.ctl->info.tuning.stream_bytes == tuning_default.stream_bytes);
    harness_close(w);
    unsetenv("TRANSOM_TUNING");
    close(f.fd);
}

static void a_worker_with_a_wrong_file_is_not_started_and_says_why(void **state)
{
    (void)state;
    struct file f = file_of("flat_ranks_max many\n");
    char wanted[128];
    setenv("TRANSOM_TUNING", f.path, 1);
    tsm_worker *w = harness_worker(1, 0);
    assert_code(w, tsm_worker_start(w), TSM_EINVAL);
    snprintf(wanted, sizeof(wanted), "%s:1: not a name and a number: 'flat_ranks_max many'",
             f.path);
    assert_text(w, wanted);
    unsetenv("TRANSOM_TUNING");
    harness_start(w); /* a refused start can be tried again */
    assert_memory_equal(&w->arena.ctl->info.tuning, &tuning_default, sizeof(tuning_default));
    harness_close(w);
    close(f.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_of_a_file_replace_the_built_in_ones),
        TEST(an_empty_file_changes_nothing),
        TEST(the_last_of_two_lines_with_one_name_holds),
        TEST(what_is_wrong_is_refused_with_line_and_text),
        TEST(a_one_shot_reduction_fits_a_slot_of_the_stage),
        TEST(a_line_that_is_too_long_is_refused),
        TEST(a_file_that_cannot_be_read_is_refused_with_its_name),
        TEST(what_is_written_reads_back_the_same),
        TEST(a_worker_starts_with_the_values_of_the_file),
        TEST(a_worker_with_a_wrong_file_is_not_started_and_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

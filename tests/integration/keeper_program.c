/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A keeper program of the user's own (opts.keeper): this program is one when its first argument says so. What it is called
 * with, and what becomes of a start when it is no keeper.
 */
#include "rig.h"

enum { NOT_A_KEEPER = 64 };

static char own_path[4096];

static struct tsm_worker_opts opts_with(const char *const *keeper)
{
    struct tsm_worker_opts opts = rig_opts(2, 1);
    opts.start_method = TSM_SPAWN;
    opts.keeper = keeper;
    return opts;
}

/* The command line of a process, its zero bytes as spaces. */
static void command_of(int pid, char *ret, size_t bytes)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(ret, 1, bytes - 1, f);
    fclose(f);
    for (size_t i = 0; i < n; i++) {
        ret[i] = ret[i] ? ret[i] : ' ';
    }
    ret[n] = 0;
}

static void a_program_of_its_own_is_the_keeper(void **state)
{
    (void)state;
    struct rig r;
    char command[4096];
    const char *keeper[] = {own_path, "--keeper", "and more", NULL};
    struct tsm_worker_opts opts = opts_with(keeper);
    rig_make(&r, &opts);
    keeper[0] = "/no/such/program"; /* copied when the worker was made */
    keeper[1] = NULL;
    rig_start(&r);
    command_of(keeper_of(&r), command, sizeof(command));
    assert_non_null(strstr(command, " --keeper and more "));
    assert_int_equal(strncmp(command, own_path, strlen(own_path)), 0);
    for (int p = 0; p < 3; p++) {
        kill(tsm_worker_pid(r.w, p), SIGKILL);
        await_deaths(&r, (uint64_t)p + 1);
    }
    rig_close_well(&r);
}

static void a_launcher_may_stand_in_front_of_the_keeper(void **state)
{
    (void)state;
    struct rig r;
    char path[4096], environment[65536] = "";
    snprintf(path, sizeof(path), "%s", harness_beside("../libexec/transom/transom-keeper"));
    const char *const keeper[] = {"/usr/bin/env", "TRANSOM_LAUNCHED=yes", path, NULL};
    struct tsm_worker_opts opts = opts_with(keeper);
    rig_make(&r, &opts);
    rig_start(&r);
    char file[64];
    snprintf(file, sizeof(file), "/proc/%d/environ", tsm_worker_pid(r.w, 0));
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    size_t n = fread(environment, 1, sizeof(environment) - 1, f);
    fclose(f);
    assert_non_null(memmem(environment, n, "TRANSOM_LAUNCHED=yes", 20));
    rig_close_well(&r);
}

static void what_is_no_keeper_fails_the_start_by_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *keeper[3];
        int code;
        const char *text;
    } ways[] = {{{"/no/such/program"}, TSM_ESYS, "/no/such/program"},
                {{"/bin/false"}, TSM_ECHILD_DIED, "the keeper /bin/false died at its start"},
                {{"/bin/true", "x"}, TSM_ECHILD_DIED, "the keeper /bin/true died at its start"}};
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct rig r;
        struct tsm_worker_opts opts = opts_with(ways[i].keeper);
        rig_make(&r, &opts);
        for (int k = 0; k < 2; k++) {
            assert_code(r.w, tsm_worker_start(r.w), ways[i].code);
            assert_text(r.w, ways[i].text);
            assert_int_equal(harness_children(), 0);
        }
        rig_close(&r);
    }
}

static void a_keeper_is_for_spawn_and_has_a_name(void **state)
{
    (void)state;
    static const char *const some[] = {"/bin/true", NULL}, *const none[] = {NULL},
                             *const empty[] = {"", NULL};
    static const struct {
        const char *const *keeper;
        int method;
        const char *text;
    } bad[] = {{some, TSM_FORK, "start_method is fork"},
               {none, TSM_SPAWN, "names no program"},
               {empty, TSM_SPAWN, "names no program"}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct tsm_worker_opts opts = opts_with(bad[i].keeper);
        struct tsm_error err = {0};
        tsm_worker *w = NULL;
        opts.start_method = bad[i].method;
        assert_int_equal(tsm_worker_create(&opts, &w, &err), TSM_EINVAL);
        assert_non_null(strstr(err.text, "keeper"));
        assert_non_null(strstr(err.text, bad[i].text));
        assert_null(w);
    }
}

static void a_keeper_that_is_called_by_hand_says_so_and_returns(void **state)
{
    (void)state;
    char name[] = "by hand", nonsense[] = "1 2 3", backend[] = "sim";
    char *argv[] = {name, nonsense, backend, NULL};
    assert_int_equal(tsm_keeper_main(1, argv), NOT_A_KEEPER);
    assert_int_equal(tsm_keeper_main(3, argv), NOT_A_KEEPER);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {TEST(a_program_of_its_own_is_the_keeper),
                                       TEST(a_launcher_may_stand_in_front_of_the_keeper),
                                       TEST(what_is_no_keeper_fails_the_start_by_its_name),
                                       TEST(a_keeper_is_for_spawn_and_has_a_name),
                                       TEST(a_keeper_that_is_called_by_hand_says_so_and_returns)};
    if (argc > 2 && strcmp(argv[1], "--keeper") == 0) {
        return tsm_keeper_main(argc - 2, argv + 2);
    }
    rig_init();
    ssize_t n = readlink("/proc/self/exe", own_path, sizeof(own_path) - 1);
    return n > 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}

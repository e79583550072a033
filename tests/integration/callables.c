/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Callables: what can be registered, when, and what is refused; that a registration after start reaches every child or
 * none; and that what has been unregistered stands in nobody's way.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "rig.h"

static int symbol(struct rig *r, const char *name, tsm_callable *ret)
{
    return tsm_register_symbol(r->w, rig_object, name, NULL, ret);
}

/* Writes 0x123 from the symbol so_many_123, say, on every place into cells of its own, in one run. */
struct everywhere {
    struct rig *r;
    tsm_callable c;
};

static int submit_everywhere(tsm_orch *orch, void *arg)
{
    struct everywhere *e = arg;
    int rc = 0;
    for (uint32_t p = 0; p < e->r->chips + e->r->subs && rc == 0; p++) {
        struct tsm_tensor x = cell_tensor(e->r, (int)p + 1, TSM_OUTPUT_EXISTING);
        int chip = p < e->r->chips ? (int)p : TSM_SUB;
        *rig_cell(e->r, (int)p + 1) = -1;
        rc = help_submit_tensor(orch, e->c, chip, NULL, &x, NULL, 0, NULL);
    }
    return rc;
}

static int run_everywhere(struct rig *r, tsm_callable c)
{
    struct everywhere e = {r, c};
    return tsm_worker_run(r->w, submit_everywhere, &e);
}

static void assert_everywhere(struct rig *r, tsm_callable c, int32_t number)
{
    assert_code(r->w, run_everywhere(r, c), 0);
    for (uint32_t p = 0; p < r->chips + r->subs; p++) {
        assert_int_equal(*rig_cell(r, (int)p + 1), number);
    }
}

/* ---- before start ---- */

static int write_seven(tsm_task *t)
{
    *(int32_t *)tsm_task_data(t, 0) = 7;
    return 0;
}

static int fail_by_name(tsm_task *t)
{
    (void)t;
    return 1;
}

static void a_function_of_the_program_runs_on_every_place(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable seven = {0}, bad = {0};
    struct tsm_worker_opts opts = rig_opts(3, 2);
    rig_make(&r, &opts);
    if (rig_method == TSM_SPAWN) {
        assert_code(r.w, tsm_register(r.w, "seven", write_seven, &seven), TSM_EUNSUPPORTED);
        assert_text(r.w, "shared object");
        assert_text(r.w, "fork");
        assert_true(seven.value == 0);
    } else {
        assert_code(r.w, tsm_register(r.w, "seven", write_seven, &seven), 0);
        assert_code(r.w, tsm_register(r.w, "the name in errors", fail_by_name, &bad), 0);
    }
    rig_start(&r);
    if (rig_method == TSM_FORK) {
        assert_everywhere(&r, seven, 7);
        assert_code(r.w, run_everywhere(&r, bad), TSM_ETASK_FAILED);
        assert_text(r.w, "task 'the name in errors' returned 1");
    }
    rig_close_well(&r);
}

static void a_function_of_a_shared_object_is_registered_by_pointer(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c = {0};
    struct tsm_worker_opts opts = rig_opts(2, 1);
    void *so = dlopen(rig_object, RTLD_NOW);
    assert_non_null(so);
    void *address = dlsym(so, "so_many_2a5");
    tsm_task_fn *fn;
    memcpy(&fn, &address, sizeof(fn));
    rig_make(&r, &opts);
    assert_code(r.w, tsm_register(r.w, NULL, fn, &c), 0);
    rig_start(&r);
    assert_everywhere(&r, c, 0x2a5);
    rig_close(&r);
    dlclose(so);
}

static void the_same_one_twice_gives_the_same_identity(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable a = {0}, b = {0}, other = {0}, f = {0}, g = {0};
    struct tsm_worker_opts opts = rig_opts(1, 1);
    rig_make(&r, &opts);
    for (int started = 0; started < 2; started++) {
        assert_code(r.w, symbol(&r, "so_many_001", &a), 0);
        assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_many_001", "alias", &b), 0);
        assert_code(r.w, symbol(&r, "so_many_002", &other), 0);
        assert_true(a.value == b.value);
        assert_true(a.value != other.value);
        if (!started) {
            if (rig_method == TSM_FORK) {
                assert_code(r.w, tsm_register(r.w, "f", write_seven, &f), 0);
                assert_code(r.w, tsm_register(r.w, "g", write_seven, &g), 0);
                assert_true(f.value == g.value && f.value != a.value);
            }
            rig_start(&r);
            b = a;
        }
    }
    assert_true(a.value == b.value);
    assert_everywhere(&r, a, 1);
    assert_everywhere(&r, other, 2);
    rig_close(&r);
}

/* ---- refused ---- */

static void what_cannot_be_registered_is_refused_by_name(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c = {0};
    struct tsm_worker_opts opts = rig_opts(1, 1);
    rig_make(&r, &opts);
    for (int started = 0; started < 2; started++) {
        assert_code(r.w, tsm_register_symbol(r.w, "/nowhere/missing.so", "f", NULL, &c),
                    TSM_ENOENT);
        assert_text(r.w, "/nowhere/missing.so");
        assert_code(r.w, symbol(&r, "so_no_such_symbol", &c), TSM_ENOENT);
        assert_text(r.w, "so_no_such_symbol");
        assert_code(r.w, tsm_register_symbol(r.w, NULL, "f", NULL, &c), TSM_EINVAL);
        assert_text(r.w, "path");
        assert_code(r.w, tsm_register_symbol(r.w, rig_object, "", NULL, &c), TSM_EINVAL);
        assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_add", NULL, NULL), TSM_EINVAL);
        assert_code(r.w, tsm_register(r.w, "f", NULL, &c), TSM_EINVAL);
        assert_code(r.w, tsm_register(r.w, "f", write_seven, NULL), TSM_EINVAL);
        assert_true(c.value == 0);
        if (!started) {
            rig_start(&r);
        }
    }
    assert_code(r.w, tsm_register(r.w, "late", write_seven, &c), TSM_ESTATE);
    assert_text(r.w, "tsm_register_symbol");
    assert_true(c.value == 0);
    rig_close_well(&r);
}

static int submit_bad_handles(tsm_orch *orch, void *arg)
{
    struct rig *r = ((void **)arg)[0];
    const tsm_callable *bad = ((void **)arg)[1];
    char hex[32];
    struct tsm_call call = {.chip = 0};
    struct tsm_call members[2] = {{.callable = r->call[RETURN], .chip = 0}, {.chip = 1}};
    struct tsm_stats before, after;
    tsm_task_id id = 77;
    tsm_worker_stats(r->w, &before);
    for (int i = 0; i < 4; i++) { /* none, nonsense, another worker's, unregistered */
        call.callable = members[1].callable = bad[i];
        int code = i == 3 ? TSM_ESTALE : TSM_EINVAL;
        snprintf(hex, sizeof(hex), i == 3 ? "'gone'" : "%#llx", (unsigned long long)bad[i].value);
        assert_code(r->w, tsm_submit(orch, &call, &id), code);
        assert_text(r->w, hex);
        assert_code(r->w, tsm_submit_group(orch, members, 2, &id), code);
        assert_text(r->w, "member 1");
        assert_text(r->w, hex);
        assert_code(r->w, tsm_unregister(r->w, bad[i]), code);
        assert_text(r->w, hex);
    }
    tsm_worker_stats(r->w, &after);
    assert_true(before.tasks == after.tasks && id == 77);
    return 0;
}

static void unknown_foreign_and_unregistered_handles_are_refused_by_name(void **state)
{
    (void)state;
    struct rig r, other;
    tsm_callable bad[4] = {{0}, {UINT64_C(0xdeadbeef12345678)}};
    rig_open(&other, 1, 0);
    rig_open(&r, 2, 0);
    bad[2] = other.call[RETURN];
    assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_many_010", "gone", &bad[3]), 0);
    assert_everywhere(&r, bad[3], 0x10);
    assert_code(r.w, tsm_unregister(r.w, bad[3]), 0);
    assert_code(r.w, tsm_worker_run(r.w, submit_bad_handles, (void *[]){&r, bad}), 0);
    tsm_callable again = {0};
    assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_many_010", "back", &again), 0);
    assert_true(again.value != bad[3].value);
    assert_everywhere(&r, again, 0x10);
    assert_code(r.w, tsm_unregister(r.w, bad[3]), TSM_ESTALE);
    assert_well(&r);
    assert_well(&other);
    rig_close(&r);
    rig_close(&other);
}

static void tasks_submitted_before_their_callable_is_unregistered_run(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run[2] = {0};
    tsm_callable c = {0};
    rig_open(&r, 1, 1);
    assert_code(r.w, symbol(&r, "so_many_033", &c), 0);
    assert_code(r.w, FLY(&r, &run[0], {GATE, 0, .inout = 9}, {GATE, TSM_SUB, .inout = 10}), 0);
    gate_begun(&r, 2);
    struct everywhere e = {&r, c};
    assert_code(r.w, tsm_worker_submit_run(r.w, submit_everywhere, &e, &run[1]), 0);
    assert_code(r.w, tsm_unregister(r.w, c), 0);
    gate_open(&r, 2);
    assert_code(r.w, tsm_run_wait(run[1], -1), 0);
    assert_int_equal(*rig_cell(&r, 1), 0x33);
    assert_int_equal(*rig_cell(&r, 2), 0x33);
    tsm_run_release(run[0]);
    tsm_run_release(run[1]);
    rig_close(&r);
}

/* Names so_many_NNN write their number: what a handle means shows in the cells, whatever entry is behind it. */
static void callables_that_come_and_go_are_each_what_they_say(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable before = {0};
    rig_open(&r, 1, 1);
    for (int i = 0; i < 200; i++) {
        char name[16];
        tsm_callable c = {0};
        snprintf(name, sizeof(name), "so_many_%03x", i % 64);
        assert_code(r.w, symbol(&r, name, &c), 0);
        assert_true(c.value != before.value);
        struct everywhere e = {&r, c};
        assert_code(r.w, tsm_worker_run(r.w, submit_everywhere, &e), 0);
        assert_int_equal(*rig_cell(&r, 1), i % 64);
        assert_int_equal(*rig_cell(&r, 2), i % 64);
        assert_code(r.w, tsm_unregister(r.w, c), 0);
        assert_code(r.w, tsm_worker_run(r.w, submit_everywhere, &e), TSM_ESTALE);
        before = c;
    }
    rig_close(&r);
}

/* ---- many ---- */

static void more_than_a_thousand_callables_are_each_what_they_say(void **state)
{
    (void)state;
    enum { MANY = 0x500, BEFORE = 0x280 };
    struct rig r;
    static tsm_callable c[MANY];
    char name[32];
    struct tsm_worker_opts opts = rig_opts(1, 1);
    uint32_t after = BEFORE + harness_count(MANY - BEFORE);
    after = after < MANY ? after : MANY;
    rig_make(&r, &opts);
    for (uint32_t i = 0; i < after; i++) {
        if (i == BEFORE) {
            rig_start(&r);
        }
        snprintf(name, sizeof(name), "so_many_%03x", i);
        assert_code(r.w, symbol(&r, name, &c[i]), 0);
    }
    for (uint32_t i = 0; i < after; i += i % 3 == 0 ? 1 : 6) {
        assert_everywhere(&r, c[i], (int32_t)i);
    }
    rig_close(&r);
}

/* ---- after start ---- */

static int register_in_a_function(tsm_orch *orch, void *arg)
{
    struct everywhere *e = arg;
    assert_code(e->r->w, rig_submit(e->r, orch, &(struct job){ADD, 0, .inout = 20, .a = 1}, NULL),
                0);
    assert_code(e->r->w, symbol(e->r, "so_many_123", &e->c), 0);
    return submit_everywhere(orch, e);
}

static void a_symbol_after_start_reaches_every_child_also_later_ones(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c = {0};
    rig_open(&r, 3, 2);
    assert_code(r.w, symbol(&r, "so_many_0aa", &c), 0);
    assert_everywhere(&r, c, 0xaa);
    for (int p = 0; p < 5; p++) {
        kill(tsm_worker_pid(r.w, p), SIGKILL);
        await_deaths(&r, (uint64_t)p + 1);
    }
    assert_everywhere(&r, c, 0xaa);
    struct everywhere e = {&r, {0}};
    assert_code(r.w, tsm_worker_run(r.w, register_in_a_function, &e), 0);
    assert_everywhere(&r, e.c, 0x123);
    rig_close(&r);
}

static void a_symbol_waits_for_the_tasks_in_front_of_it(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *run = NULL;
    tsm_callable c = {0};
    int status = 0;
    rig_open(&r, 2, 1);
    assert_code(r.w, FLY(&r, &run, {GATE, 1, .inout = 1}, {ADD, 1, .inout = 1, .a = 1}), 0);
    gate_begun(&r, 1);
    pid_t opener = fork();
    if (opener == 0) {
        poll(NULL, 0, 20); /* too early only makes the test easier */
        _exit(write(r.open[1], "o", 1) != 1);
    }
    assert_code(r.w, symbol(&r, "so_many_055", &c), 0);
    assert_int_equal(*rig_cell(&r, 1), 1); /* it has been behind them */
    assert_int_equal(waitpid(opener, &status, 0), opener);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    tsm_run_release(run);
    assert_everywhere(&r, c, 0x55);
    rig_close(&r);
}

static void a_symbol_that_one_child_cannot_load_reaches_none(void **state)
{
    (void)state;
    static const char *const who[] = {"chip 0", "chip 1", "sub worker 0"};
    for (int place = 0; place < 3; place++) {
        struct rig r;
        char fault[64];
        tsm_callable c = {0};
        struct tsm_worker_opts opts = rig_opts(2, 1);
        snprintf(fault, sizeof(fault), "load:fail=12:%d:%d", RIG_CALLS + 1, place);
        setenv("TRANSOM_FAULT", fault, 1);
        rig_make(&r, &opts);
        rig_start(&r);
        assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_many_077", "refused", &c),
                    TSM_ENOENT);
        assert_text(r.w, who[place]);
        assert_text(r.w, "'refused'");
        assert_text(r.w, "Cannot allocate memory");
        assert_true(c.value == 0);
        assert_well(&r);
        kill(tsm_worker_pid(r.w, place), SIGKILL); /* its replacement does not ask for it */
        await_deaths(&r, 1);
        assert_code(r.w, tsm_register_symbol(r.w, rig_object, "so_many_077", "taken", &c), 0);
        assert_everywhere(&r, c, 0x77);
        rig_close(&r);
    }
}

static void a_child_that_dies_while_it_loads_is_replaced_and_loads(void **state)
{
    (void)state;
    for (int place = 1; place < 3; place++) {
        struct rig r;
        char fault[64];
        tsm_callable c = {0};
        snprintf(fault, sizeof(fault), "load:kill:%d:%d", RIG_CALLS + 1, place);
        setenv("TRANSOM_FAULT", fault, 1);
        rig_open(&r, 2, 1);
        assert_code(r.w, symbol(&r, "so_many_088", &c), 0);
        await_deaths(&r, 1);
        assert_everywhere(&r, c, 0x88);
        rig_close(&r);
    }
}

static void copy_object(const char *to)
{
    char buffer[65536];
    ssize_t n;
    int in = open(rig_object, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, buffer, sizeof(buffer))) > 0) {
        assert_int_equal(write(out, buffer, (size_t)n), n);
    }
    close(in);
    close(out);
}

static void an_unregistered_object_may_go_and_children_are_still_replaced(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c = {0};
    char path[64];
    snprintf(path, sizeof(path), "/tmp/transom-calls-%d.so", (int)getpid());
    copy_object(path);
    rig_open(&r, 2, 1);
    assert_code(r.w, tsm_register_symbol(r.w, path, "so_many_099", NULL, &c), 0);
    assert_everywhere(&r, c, 0x99);
    assert_code(r.w, tsm_unregister(r.w, c), 0);
    unlink(path);
    for (int p = 0; p < 3; p++) {
        kill(tsm_worker_pid(r.w, p), SIGKILL);
        await_deaths(&r, (uint64_t)p + 1);
    }
    assert_well(&r);
    assert_int_equal(deaths_of(&r), 3);
    rig_close(&r);
}

static void a_symbol_that_a_child_cannot_load_at_start_fails_the_start(void **state)
{
    (void)state;
    struct rig r;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    setenv("TRANSOM_FAULT", "load:fail=12:1:1", 1);
    rig_make(&r, &opts);
    assert_code(r.w, tsm_worker_start(r.w), TSM_ECHILD_DIED);
    assert_text(r.w, "chip 1 did not start");
    assert_text(r.w, "Cannot allocate memory");
    assert_int_equal(harness_children(), 0);
    rig_start(&r);
    rig_close_well(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_function_of_the_program_runs_on_every_place),
        TEST(a_function_of_a_shared_object_is_registered_by_pointer),
        TEST(the_same_one_twice_gives_the_same_identity),
        TEST(what_cannot_be_registered_is_refused_by_name),
        TEST(unknown_foreign_and_unregistered_handles_are_refused_by_name),
        TEST(tasks_submitted_before_their_callable_is_unregistered_run),
        TEST(callables_that_come_and_go_are_each_what_they_say),
        TEST(more_than_a_thousand_callables_are_each_what_they_say),
        TEST(a_symbol_after_start_reaches_every_child_also_later_ones),
        TEST(a_symbol_waits_for_the_tasks_in_front_of_it),
        TEST(a_symbol_that_one_child_cannot_load_reaches_none),
        TEST(a_child_that_dies_while_it_loads_is_replaced_and_loads),
        TEST(an_unregistered_object_may_go_and_children_are_still_replaced),
        TEST(a_symbol_that_a_child_cannot_load_at_start_fails_the_start)};
    rig_init();
    return rig_test_both(tests, COUNT(tests));
}

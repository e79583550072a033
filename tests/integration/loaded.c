/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Callables with data of their own: each process loads them once, also those that come later; a refusal names who refused;
 * what was loaded is unloaded when its place is wanted for another. The code of the children is in loaded_so.c.
 */
#include <fcntl.h>

#include "integration/loaded_so.h"
#include "rig.h"

/* What the children tell about loads and unloads. */
struct watch {
    int log[2];
    uint32_t loads, unloads;
};

static char loaded_object[4096];

static void watch_open(struct watch *h)
{
    memset(h, 0, sizeof(*h));
    assert_int_equal(pipe(h->log), 0);
    fcntl(h->log[0], F_SETFL, O_NONBLOCK);
}

static void watch_close(struct watch *h)
{
    close(h->log[0]);
    close(h->log[1]);
}

static void watch_look(struct watch *h)
{
    char text[4096];
    ssize_t n;
    while ((n = read(h->log[0], text, sizeof(text))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            h->loads += text[i] == 'L';
            h->unloads += text[i] == 'U';
        }
    }
}

static void assert_loads(struct watch *h, uint32_t loads, uint32_t unloads)
{
    watch_look(h);
    assert_int_equal(h->loads, loads);
    assert_int_equal(h->unloads, unloads);
}

static int load(struct rig *r, const struct loaded_data *data, const char *name, tsm_callable *ret)
{
    struct tsm_callable_opts opts = TSM_CALLABLE_OPTS_INIT;
    opts.path = loaded_object;
    opts.symbol = "so_loaded";
    opts.load = "so_load";
    opts.unload = "so_unload";
    opts.name = name;
    opts.data = data;
    opts.bytes = sizeof(*data);
    return tsm_register_loaded(r->w, &opts, ret);
}

/* ---- running one on every place ---- */

struct round {
    struct rig *r;
    tsm_callable c;
};

/* Each place adds to a cell of its own; subs take theirs from the pool and share one. */
static int submit_round(tsm_orch *orch, void *arg)
{
    struct round *x = arg;
    int rc = 0;
    for (uint32_t p = 0; p < x->r->chips + x->r->subs && rc == 0; p++) {
        int cell = p < x->r->chips ? 10 + (int)p : 100;
        struct tsm_tensor t = cell_tensor(x->r, cell, TSM_OUTPUT_EXISTING);
        struct tsm_call call = {.callable = x->c,
                                .chip = p < x->r->chips ? (int)p : TSM_SUB,
                                .tensors = &t,
                                .tensor_count = 1};
        *rig_cell(x->r, cell) = 0;
        rc = tsm_submit(orch, &call, NULL);
    }
    return rc;
}

static void assert_adds(struct rig *r, tsm_callable c, int32_t value)
{
    struct round x = {r, c};
    assert_code(r->w, tsm_worker_run(r->w, submit_round, &x), 0);
    for (uint32_t p = 0; p < r->chips; p++) {
        assert_int_equal(*rig_cell(r, 10 + (int)p), value);
    }
    assert_int_equal(*rig_cell(r, 100), value * (int32_t)r->subs);
}

/* ---- loading ---- */

static void each_process_loads_once_before_or_after_the_start(void **state)
{
    (void)state;
    struct rig r;
    struct watch h;
    struct tsm_worker_opts opts = rig_opts(2, 1);
    tsm_callable before = {0}, after = {0};
    watch_open(&h);
    rig_make(&r, &opts);
    assert_code(r.w, load(&r, &(struct loaded_data){.log = h.log[1], .value = 7}, "seven", &before),
                0);
    assert_loads(&h, 0, 0);
    rig_start(&r);
    assert_loads(&h, 3, 0);
    assert_code(r.w, load(&r, &(struct loaded_data){.log = h.log[1], .value = 9}, NULL, &after), 0);
    assert_loads(&h, 6, 0);
    for (int i = 0; i < 3; i++) {
        assert_adds(&r, before, 7);
        assert_adds(&r, after, 9);
    }
    assert_loads(&h, 6, 0);
    rig_close_well(&r);
    assert_loads(&h, 6, 0); /* what a process had made goes with it */
    watch_close(&h);
}

static void each_registration_is_a_callable_of_its_own(void **state)
{
    (void)state;
    struct rig r;
    struct loaded_data data = {.log = -1, .value = 1};
    struct tsm_worker_opts opts = rig_opts(1, 1);
    tsm_callable c[4] = {0}, plain[2] = {0};
    rig_make(&r, &opts);
    assert_code(r.w, tsm_register_symbol(r.w, loaded_object, "so_loaded", NULL, &plain[0]), 0);
    assert_code(r.w, load(&r, &data, "same", &c[0]), 0);
    assert_code(r.w, load(&r, &data, "same", &c[1]), 0);
    rig_start(&r);
    data.value = 2;
    assert_code(r.w, load(&r, &data, "same", &c[2]), 0);
    assert_code(r.w, load(&r, &data, "same", &c[3]), 0);
    assert_code(r.w, tsm_register_symbol(r.w, loaded_object, "so_loaded", NULL, &plain[1]), 0);
    assert_true(plain[0].value == plain[1].value);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < i; k++) {
            assert_true(c[i].value != c[k].value);
        }
        assert_true(c[i].value != plain[0].value);
        assert_adds(&r, c[i], i < 2 ? 1 : 2);
    }
    assert_adds(&r, plain[0], 1000000); /* it has no argument */
    rig_close_well(&r);
}

static void a_replacement_loads_what_there_is_and_nothing_else(void **state)
{
    (void)state;
    struct rig r;
    struct watch h;
    tsm_callable c = {0}, gone = {0};
    watch_open(&h);
    rig_open(&r, 2, 1);
    assert_code(r.w, load(&r, &(struct loaded_data){.log = h.log[1], .value = 3}, NULL, &c), 0);
    assert_code(r.w, load(&r, &(struct loaded_data){.log = h.log[1]}, NULL, &gone), 0);
    assert_code(r.w, tsm_unregister(r.w, gone), 0);
    assert_loads(&h, 6, 0);
    for (int p = 0; p < 3; p++) {
        kill(tsm_worker_pid(r.w, p), SIGKILL);
        await_deaths(&r, (uint64_t)p + 1);
    }
    assert_adds(&r, c, 3);
    assert_loads(&h, 9, 0);
    rig_close_well(&r);
    watch_close(&h);
}

static void a_task_whose_callable_is_gone_still_has_its_data_in_a_replacement(void **state)
{
    (void)state;
    struct rig r;
    tsm_run *dies = NULL, *run = NULL;
    struct round x = {&r, {0}};
    tsm_callable other = {0};
    rig_open(&r, 2, 0);
    assert_code(r.w, load(&r, &(struct loaded_data){.log = -1, .value = 5}, NULL, &x.c), 0);
    assert_code(r.w, FLY(&r, &dies, {GATE, 0, .inout = 1}), 0);
    gate_begun(&r, 1);
    assert_code(r.w, tsm_worker_submit_run(r.w, submit_round, &x, &run), 0);
    assert_code(r.w, tsm_unregister(r.w, x.c), 0);
    kill(tsm_worker_pid(r.w, 0), SIGKILL);
    assert_int_equal(tsm_run_wait(dies, -1), TSM_ECHILD_DIED);
    assert_code(r.w, tsm_run_wait(run, -1), 0);
    assert_int_equal(*rig_cell(&r, 10), 5);
    tsm_run_release(dies);
    tsm_run_release(run);
    assert_code(r.w, load(&r, &(struct loaded_data){.log = -1, .value = 6}, NULL, &other), 0);
    assert_adds(&r, other, 6);
    rig_close_well(&r);
}

static void data_may_be_nothing_or_much(void **state)
{
    (void)state;
    struct rig r;
    uint64_t bytes = harness_quick() ? 1 << 20 : 64 << 20;
    uint8_t *much = malloc(bytes);
    struct tsm_callable_opts opts = TSM_CALLABLE_OPTS_INIT;
    tsm_callable c = {0};
    assert_non_null(much);
    much[bytes - 1] = 0;
    for (uint64_t i = 0; i + 1 < bytes; i++) {
        much[i] = (uint8_t)(i * 7 + (i >> 16));
        much[bytes - 1] = (uint8_t)(much[bytes - 1] + much[i]);
    }
    rig_open(&r, 1, 1);
    opts.path = loaded_object;
    opts.symbol = "so_of_nothing";
    opts.load = "so_load_nothing";
    assert_code(r.w, tsm_register_loaded(r.w, &opts, &c), 0);
    struct round x = {&r, c};
    assert_code(r.w, tsm_worker_run(r.w, submit_round, &x), 0);
    opts.load = "so_load_sum";
    opts.data = much;
    opts.bytes = bytes;
    assert_code(r.w, tsm_register_loaded(r.w, &opts, &c), 0);
    much[0]++;
    assert_code(r.w, tsm_register_loaded(r.w, &opts, &c), TSM_ENOENT);
    assert_text(r.w, "so_load_sum returned 1");
    rig_close_well(&r);
    free(much);
}

/* ---- refusals ---- */

static void what_cannot_be_loaded_is_refused_by_name(void **state)
{
    (void)state;
    struct rig r;
    const struct loaded_data data = {.log = -1};
    const struct tsm_callable_opts good = {.size = sizeof(good),
                                           .path = loaded_object,
                                           .symbol = "so_loaded",
                                           .load = "so_load",
                                           .unload = "so_unload",
                                           .data = &data,
                                           .bytes = sizeof(data)};
    struct tsm_callable_opts bad[10];
    static const struct {
        int code;
        const char *text;
    } says[10] = {{TSM_EINVAL, "TSM_CALLABLE_OPTS_INIT"},
                  {TSM_EINVAL, "path"},
                  {TSM_EINVAL, "symbol"},
                  {TSM_EINVAL, "load"},
                  {TSM_EINVAL, "67108865"},
                  {TSM_EINVAL, "data is NULL"},
                  {TSM_ENOENT, "no_such_task"},
                  {TSM_ENOENT, "no_such_load"},
                  {TSM_ENOENT, "no_such_unload"},
                  {TSM_ENOENT, "/no/such/object"}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        bad[i] = good;
    }
    bad[0].size = 8;
    bad[1].path = "";
    bad[2].symbol = NULL;
    bad[3].load = NULL;
    bad[4].bytes = (64u << 20) + 1;
    bad[5].data = NULL;
    bad[6].symbol = "no_such_task";
    bad[7].load = "no_such_load";
    bad[8].unload = "no_such_unload";
    bad[9].path = "/no/such/object.so";
    rig_open(&r, 1, 0);
    for (size_t i = 0; i < COUNT(bad); i++) {
        tsm_callable c = {0};
        assert_code(r.w, tsm_register_loaded(r.w, &bad[i], &c), says[i].code);
        assert_text(r.w, says[i].text);
        assert_true(c.value == 0);
    }
    assert_code(r.w, tsm_register_loaded(r.w, NULL, &(tsm_callable){0}), TSM_EINVAL);
    assert_code(r.w, tsm_register_loaded(r.w, &good, NULL), TSM_EINVAL);
    rig_close_well(&r);
}

static void a_load_that_fails_at_start_fails_the_start_with_its_text(void **state)
{
    (void)state;
    static const struct {
        struct loaded_data data;
        const char *who, *text;
    } ways[] = {{{.log = -1, .refuse = 5, .where = "transom-chip", .text = "no module named x"},
                 "chip 0 did not start: ",
                 "callable 'theirs': no module named x"},
                {{.log = -1, .refuse = -3, .where = "transom-sub", .text = ""},
                 "sub worker 0 did not start: ",
                 "so_load returned -3"},
                {{.log = -1, .die = SIGKILL, .where = "transom-sub"},
                 "sub worker 0 did not start: ",
                 "signal 9"}};
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct rig r;
        struct tsm_worker_opts opts = rig_opts(1, 1);
        tsm_callable c = {0};
        rig_make(&r, &opts);
        assert_code(r.w, load(&r, &ways[i].data, "theirs", &c), 0);
        assert_code(r.w, tsm_worker_start(r.w), TSM_ECHILD_DIED);
        assert_text(r.w, ways[i].who);
        assert_text(r.w, ways[i].text);
        assert_int_equal(harness_children(), 0);
        assert_code(r.w, tsm_unregister(r.w, c), 0);
        assert_code(r.w, load(&r, &(struct loaded_data){.log = -1, .value = 4}, NULL, &c), 0);
        rig_start(&r);
        assert_adds(&r, c, 4);
        rig_close_well(&r);
    }
}

static void a_load_that_fails_after_the_start_is_refused_with_its_text_and_who(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c = {0};
    rig_open(&r, 2, 1);
    struct loaded_data data = {
        .log = -1, .refuse = 5, .where = "transom-sub", .text = "no such thing"};
    assert_code(r.w, load(&r, &data, "theirs", &c), TSM_ENOENT);
    assert_text(r.w, "'theirs' cannot be loaded in sub worker 0: no such thing");
    assert_true(c.value == 0);
    strcpy(data.where, "transom-chip");
    memset(data.text, 'x', sizeof(data.text)); /* does not end */
    assert_code(r.w, load(&r, &data, "theirs", &c), TSM_ENOENT);
    assert_text(r.w, "'theirs' cannot be loaded in chip 0: xxxxxxxxxx");
    for (int p = 0; p < 3; p++) { /* a replacement does not ask for it */
        kill(tsm_worker_pid(r.w, p), SIGKILL);
        await_deaths(&r, (uint64_t)p + 1);
    }
    data.refuse = 0;
    data.value = 8;
    assert_code(r.w, load(&r, &data, "theirs", &c), 0);
    assert_adds(&r, c, 8);
    rig_close_well(&r);
}

/* ---- unloading ---- */

static void what_comes_and_goes_is_unloaded_and_nothing_grows(void **state)
{
    (void)state;
    struct rig r;
    struct watch h;
    uint32_t rounds = harness_count(10000);
    uint64_t bytes = 0, index_max = 0;
    watch_open(&h);
    rig_open(&r, 1, 1);
    for (uint32_t i = 0; i < rounds; i++) {
        struct loaded_data data = {.log = h.log[1], .value = (int32_t)i};
        tsm_callable c = {0};
        assert_code(r.w, load(&r, &data, "one of many", &c), 0);
        if (i % 1000 == 0) {
            assert_adds(&r, c, (int32_t)i);
        }
        uint64_t index = c.value & 0xffffff;
        index_max = index > index_max ? index : index_max;
        assert_code(r.w, tsm_unregister(r.w, c), 0);
        watch_look(&h);
        assert_true(h.loads == 2 * (i + 1) && h.loads - h.unloads <= 2 * 4);
        if (i == rounds / 10) {
            bytes = help_arena_bytes();
        }
    }
    assert_in_range(index_max, 1, RIG_CALLS + 4);
    assert_in_range(help_arena_bytes(), 0, bytes + (1 << 20));
    rig_close_well(&r);
    watch_close(&h);
}

/* ---- slow loads ---- */

static void a_replacement_that_loads_slowly_is_not_taken_for_the_task_that_was_killed(void **state)
{
    (void)state;
    struct rig r;
    tsm_callable c = {0};
    tsm_run *run = NULL;
    struct loaded_data slow = {.log = -1, .slow_ns = 300000000, .value = 2};
    struct tsm_worker_opts opts = rig_opts(2, 0);
    rig_make(&r, &opts);
    assert_code(r.w, load(&r, &slow, "slow", &c), 0);
    rig_start(&r);
    assert_code(r.w, FLY(&r, &run, {SPIN, 0, .limit_ns = 1000000}), 0);
    while (deaths_of(&r) == 0) {
        poll(NULL, 0, 1);
    }
    /* Each task with a limit makes the keeper look at everybody's. */
    while (!tsm_run_done(run)) {
        assert_code(r.w, RUN(&r, {ADD, 1, .inout = 1, .limit_ns = 1000000000}), 0);
    }
    assert_int_equal(tsm_run_wait(run, -1), TSM_ETIME_LIMIT);
    tsm_run_release(run);
    assert_adds(&r, c, 2);
    assert_int_equal(deaths_of(&r), 1);
    /* Nor for one of a cancelled run: the keeper looks at it again and again until it is over. */
    assert_code(r.w, FLY(&r, &run, {GATE_SPIN, 0, .out = 1}), 0);
    gate_begun(&r, 1);
    assert_code(r.w, tsm_run_cancel(run, 0), 0);
    assert_int_equal(tsm_run_wait(run, -1), TSM_ECANCELED);
    tsm_run_release(run);
    assert_adds(&r, c, 2);
    assert_int_equal(deaths_of(&r), 2);
    rig_close_well(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_process_loads_once_before_or_after_the_start),
        TEST(each_registration_is_a_callable_of_its_own),
        TEST(a_replacement_loads_what_there_is_and_nothing_else),
        TEST(a_task_whose_callable_is_gone_still_has_its_data_in_a_replacement),
        TEST(data_may_be_nothing_or_much),
        TEST(what_cannot_be_loaded_is_refused_by_name),
        TEST(a_load_that_fails_at_start_fails_the_start_with_its_text),
        TEST(a_load_that_fails_after_the_start_is_refused_with_its_text_and_who),
        TEST(what_comes_and_goes_is_unloaded_and_nothing_grows),
        TEST(a_replacement_that_loads_slowly_is_not_taken_for_the_task_that_was_killed)};
    rig_init();
    snprintf(loaded_object, sizeof(loaded_object), "%s", harness_beside("loaded_so.so"));
    return rig_test_both(tests, COUNT(tests));
}

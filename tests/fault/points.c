/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A child is killed at each fault point of the protocol: one right error, nothing left, and the next run on the same
 * worker is exact; or, at the start, the start fails by name and works when it is repeated. Test process.
 */
#include "fault/golden.h"

enum { RUNS_MAX = 60 };

/* What the run in which the fault fires may return. */
enum outcome {
    MUST_FAIL, /* CHILD_DIED, naming the place and the signal */
    MAY_FAIL,  /* that, or 0 with the right result */
    MUST_PASS
};

struct kill_case {
    const char *spec;
    int place;
    uint64_t deaths;
    enum outcome outcome;
    enum golden_twist twist;
};

static uint32_t rounds(void)
{
    return harness_quick() ? 1 : harness_count(10);
}

static void name_of(int place, char text[32])
{
    bool sub = place >= GOLDEN_CHIPS;
    snprintf(text, 32, "%s %d", sub ? "sub worker" : "chip", sub ? place - GOLDEN_CHIPS : place);
}

/* The error is the death of this place, told once. */
static void check_death(struct golden *g, const struct kill_case *k, int rc)
{
    const struct tsm_error *e = tsm_worker_error(g->w);
    char name[32];
    name_of(k->place, name);
    if (k->outcome == MUST_PASS || (rc == 0 && k->outcome == MUST_FAIL)) {
        fail_msg("%s: the run returned %d: %s", k->spec, rc, e->text);
    }
    if (rc == 0) {
        return;
    }
    if (rc != TSM_ECHILD_DIED || e->code != rc || e->chip != k->place || !strstr(e->text, name)) {
        fail_msg("%s: %s (chip %d): %s", k->spec, tsm_code_name(rc), e->chip, e->text);
    }
}

/* Runs until the fault has fired; what the runs before it return is what they return without faults. */
static void run_until_fired(struct golden *g, const struct kill_case *k)
{
    for (int i = 0; i < RUNS_MAX; i++) {
        int rc = golden_run(g, k->twist);
        if (fault_fired() > 0) {
            if (rc != 0 || k->outcome == MUST_FAIL) {
                check_death(g, k, rc);
            }
            return;
        }
        if (k->twist == TWIST_NONE) {
            assert_code(g->w, rc, 0);
        }
    }
    fail_msg("%s did not fire", k->spec);
}

static void kill_in_run(const struct kill_case *k)
{
    struct golden g;
    setenv("TRANSOM_FAULT", k->spec, 1);
    golden_create(&g);
    golden_start(&g);
    if (strncmp(k->spec, "wake", 4) == 0) {
        g.busy_ns = GOLDEN_UNTIL_ASLEEP;
    }
    run_until_fired(&g, k);
    golden_wait_whole(&g, k->deaths);
    golden_exact(&g);
    golden_exact(&g);
    struct tsm_stats s;
    tsm_worker_stats(g.w, &s);
    assert_int_equal(s.deaths, k->deaths);
    harness_close(g.w);
}

static void kill_each(const struct kill_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (uint32_t n = 0; n < rounds(); n++) {
            kill_in_run(&cases[i]);
        }
    }
}
#define KILL_EACH(cases) kill_each(cases, sizeof(cases) / sizeof((cases)[0]))

/* ---- during a run ---- */

static void chip_killed_in_a_task_fails_the_run_with_its_name(void **state)
{
    (void)state;
    static const struct kill_case cases[] = {
        {"begin:kill:1:0", 0, 1, MUST_FAIL, TWIST_NONE},
        {"begin:kill:1:1", 1, 1, MUST_FAIL, TWIST_NONE},
        {"begin:kill:2:0", 0, 1, MUST_FAIL, TWIST_NONE},
        {"task:kill:1:0", 0, 1, MUST_FAIL, TWIST_NONE},
        {"task:kill:1:1", 1, 1, MUST_FAIL, TWIST_NONE},
        {"signal:kill:1:0", 0, 1, MUST_FAIL, TWIST_NONE},
        {"signal:kill:1:1", 1, 1, MUST_FAIL, TWIST_NONE},
    };
    KILL_EACH(cases);
}

static void chip_killed_between_tasks_fails_no_run_or_by_its_name(void **state)
{
    (void)state;
    static const struct kill_case cases[] = {
        {"take:kill:1:0", 0, 1, MAY_FAIL, TWIST_NONE},
        {"take:kill:1:1", 1, 1, MAY_FAIL, TWIST_NONE},
        {"take:kill:2:0", 0, 1, MAY_FAIL, TWIST_NONE},
        {"publish:kill:1:0", 0, 1, MUST_FAIL, TWIST_NONE},
        {"publish:kill:1:1", 1, 1, MUST_FAIL, TWIST_NONE},
        {"publish:kill:2:0", 0, 1, MUST_FAIL, TWIST_NONE},
        {"wake:kill:1:0", 0, 1, MAY_FAIL, TWIST_NONE},
        {"wake:kill:1:1", 1, 1, MAY_FAIL, TWIST_NONE},
    };
    KILL_EACH(cases);
}

static void sub_killed_at_any_step_fails_the_run_with_its_name(void **state)
{
    (void)state;
    static const struct kill_case cases[] = {
        {"claim:kill:1:2", 2, 1, MUST_FAIL, TWIST_NONE},
        {"begin:kill:1:2", 2, 1, MUST_FAIL, TWIST_NONE},
        {"task:kill:1:2", 2, 1, MUST_FAIL, TWIST_NONE},
        {"publish:kill:1:2", 2, 1, MUST_FAIL, TWIST_NONE},
        {"wake:kill:1:2", 2, 1, MAY_FAIL, TWIST_NONE},
    };
    KILL_EACH(cases);
}

static void one_killed_while_it_marks_a_failure_is_the_cause(void **state)
{
    (void)state;
    static const struct kill_case cases[] = {
        {"mark:kill:1:1", 1, 1, MUST_FAIL, TWIST_MEMBER_FAILS},
        {"mark:kill:1:2", 2, 1, MUST_FAIL, TWIST_SUB_FAILS},
    };
    KILL_EACH(cases);
}

static void owner_killed_while_it_zeroes_leaves_zeroes(void **state)
{
    (void)state;
    static const struct kill_case cases[] = {
        {"zero:kill:1:0", 0, 1, MAY_FAIL, TWIST_NONE},
        {"zero:kill:1:1", 1, 1, MAY_FAIL, TWIST_NONE},
        {"zero:kill:3:1", 1, 1, MAY_FAIL, TWIST_NONE},
    };
    KILL_EACH(cases);
}

static void a_second_death_during_replacement_changes_nothing(void **state)
{
    (void)state;
    static const struct kill_case cases[] = {
        {"task:kill:1:1,replace:kill:1:1", 1, 2, MUST_FAIL, TWIST_NONE},
        {"take:kill:1:1,replace:kill:1:1", 1, 2, MAY_FAIL, TWIST_NONE},
        {"zero:kill:1:0,replace:kill:1:0", 0, 2, MAY_FAIL, TWIST_NONE},
        {"claim:kill:1:2,replace:kill:1:2", 2, 2, MUST_FAIL, TWIST_NONE},
        {"task:kill:1:2,replace:kill:1:2,replace:kill:1:2", 2, 3, MUST_FAIL, TWIST_NONE},
    };
    KILL_EACH(cases);
}

static void two_killed_at_once_give_one_cause_of_the_two(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < rounds(); n++) {
        struct golden g;
        setenv("TRANSOM_FAULT", "task:kill:2:0,task:kill:1:1", 1);
        golden_create(&g);
        golden_start(&g);
        int rc = golden_run(&g, TWIST_NONE);
        assert_code(g.w, rc, TSM_ECHILD_DIED);
        assert_in_range(tsm_worker_error(g.w)->chip, 0, 1);
        golden_wait_whole(&g, 1);
        if (fault_fired() < 2) {
            /* The other was told of the failure before it came to the end of its task. */
            golden_run(&g, TWIST_NONE);
        }
        golden_wait_whole(&g, fault_fired());
        golden_exact(&g);
        harness_close(g.w);
    }
}

static void slow_steps_change_nothing(void **state)
{
    (void)state;
    static const char *const points[] = {"spawn", "ready",   "take",  "begin",  "task",
                                         "mark",  "publish", "wake",  "claim",  "signal",
                                         "zero",  "lease",   "group", "domain", "release"};
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        struct golden g;
        char spec[64];
        snprintf(spec, sizeof(spec), "%s:delay=2000", points[i]);
        setenv("TRANSOM_FAULT", spec, 1);
        golden_create(&g);
        g.busy_ns = GOLDEN_UNTIL_ASLEEP;
        golden_start(&g);
        for (int n = 0; n < 4; n++) {
            golden_exact(&g);
        }
        assert_code(g.w, golden_run(&g, TWIST_MEMBER_FAILS), TSM_ETASK_FAILED);
        assert_int_equal(fault_fired(), 1);
        golden_exact(&g);
        harness_close(g.w);
    }
}

/* ---- at the start and at the end ---- */

static void start_fails(const char *spec, const char *who, int place)
{
    struct golden g;
    setenv("TRANSOM_FAULT", spec, 1);
    golden_create(&g);
    int rc = tsm_worker_start(g.w);
    const struct tsm_error *e = tsm_worker_error(g.w);
    assert_code(g.w, rc, TSM_ECHILD_DIED);
    assert_text(g.w, who);
    assert_int_equal(e->chip, place);
    assert_int_equal(fault_fired(), 1);
    assert_int_equal(harness_children(), 0);
    golden_start(&g);
    golden_exact(&g);
    harness_close(g.w);
}

static void child_killed_at_the_start_fails_it_by_name(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < rounds(); n++) {
        start_fails("spawn:kill:1:0", "chip 0 did not start: signal 9", 0);
        start_fails("spawn:kill:1:1", "chip 1 did not start: signal 9", 1);
        start_fails("spawn:kill:1:2", "sub worker 0 did not start: signal 9", 2);
        start_fails("ready:kill:1:0", "chip 0 did not start: signal 9", 0);
        start_fails("ready:kill:1:1", "chip 1 did not start: signal 9", 1);
        start_fails("ready:kill:1:2", "sub worker 0 did not start: signal 9", 2);
        start_fails("keeper:kill:1:-2", "the keeper process died", -1);
    }
}

static void children_killed_at_close_do_not_disturb_it(void **state)
{
    (void)state;
    static const char *const specs[] = {"leave:kill:1:0", "leave:kill:1:1", "leave:kill:1:2",
                                        "close:kill:1:-2"};
    for (uint32_t n = 0; n < rounds() * 4; n++) {
        struct golden g;
        setenv("TRANSOM_FAULT", specs[n % 4], 1);
        golden_create(&g);
        golden_start(&g);
        golden_exact(&g);
        assert_int_equal(fault_fired(), 0);
        harness_close(g.w);
        assert_int_equal(fault_fired(), 1);
    }
}

static void domain_that_fails_half_way_is_undone(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < rounds(); n++) {
        struct golden g;
        setenv("TRANSOM_FAULT", "domain:fail=12:2", 1);
        golden_create(&g);
        golden_start(&g);
        golden_exact(&g);
        assert_code(g.w, golden_run(&g, TWIST_NONE), TSM_ENOMEM);
        assert_int_equal(fault_fired(), 1);
        assert_text(g.w, "domain 'golden'");
        golden_exact(&g);
        golden_exact(&g);
        harness_close(g.w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(chip_killed_in_a_task_fails_the_run_with_its_name),
        TEST(chip_killed_between_tasks_fails_no_run_or_by_its_name),
        TEST(sub_killed_at_any_step_fails_the_run_with_its_name),
        TEST(one_killed_while_it_marks_a_failure_is_the_cause),
        TEST(owner_killed_while_it_zeroes_leaves_zeroes),
        TEST(a_second_death_during_replacement_changes_nothing),
        TEST(two_killed_at_once_give_one_cause_of_the_two),
        TEST(slow_steps_change_nothing),
        TEST(child_killed_at_the_start_fails_it_by_name),
        TEST(children_killed_at_close_do_not_disturb_it),
        TEST(domain_that_fails_half_way_is_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

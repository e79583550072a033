/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Domains that outlive their run, and domains whose members, or whose neighbours, stop or die.
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "domain_help.h"

#define INTERRUPTED "interrupted"

static tsm_worker *worker;
static tsm_callable fill, fail, work;

static void start(uint32_t chips, uint32_t subs)
{
    worker = harness_worker(harness_chips(chips), subs);
    fill = harness_register(worker, "fill", help_fill_task);
    fail = harness_register(worker, "fail", help_fail_task);
    work = harness_register(worker, "work", help_work_task);
    harness_start(worker);
}

static void run(tsm_orch_fn *fn)
{
    assert_code(worker, tsm_worker_run(worker, fn, NULL), 0);
}

/* ---- kept domains ---- */

static tsm_domain *kept;

static int keep_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    assert_code(worker, help_alloc_kept(o, "kept", CHIPS(0, 1), 256, &kept), 0);
    return help_submit(o, fill, 0, kept, SCALARS(help_pointer(help_window(kept, 1)), 256, 0x5a),
                       NULL);
}

static int use_kept_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d;
    uint8_t bytes[256];
    assert_code(worker, help_alloc(o, "kept", CHIPS(0), 64, &d), TSM_EEXIST);
    assert_code(worker, tsm_copy_from(o, 1, bytes, help_window(kept, 1), 256), 0);
    for (uint32_t i = 0; i < 256; i++) {
        assert_int_equal(bytes[i], 0x5a);
    }
    return help_submit(o, work, 1, kept, NULL, 0, NULL);
}

static int use_broken_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    assert_code(worker, help_submit(o, work, 0, kept, NULL, 0, NULL), TSM_ESTALE);
    assert_text(worker, "broken");
    return 0;
}

static void a_kept_domain_lives_over_runs_until_it_is_released(void **state)
{
    (void)state;
    start(2, 0);
    run(keep_orch);
    for (int i = 0; i < 3; i++) {
        run(use_kept_orch);
        assert_int_equal(help_stats(worker).domains_live, 1);
        assert_int_equal(tsm_domain_broken(kept), 0);
    }
    assert_code(worker, tsm_domain_release(kept), 0);
    assert_code(worker, tsm_domain_release(kept), 0);
    assert_true(tsm_domain_released(kept) && tsm_domain_freed(kept));
    assert_int_equal(help_stats(worker).domains_live, 0);
    run(keep_orch); /* its name is free; close releases what is left */
    assert_int_equal(help_stats(worker).domains_live, 1);
    harness_close(worker);
}

static int fail_with_kept_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return help_submit(o, fail, 1, kept, NULL, 0, NULL);
}

static int fail_without_kept_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return help_submit(o, fail, 1, NULL, NULL, 0, NULL);
}

static int copy_and_fail_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    uint64_t x = 1;
    assert_code(worker, tsm_copy_to(o, 0, help_window(kept, 0), &x, 8), 0);
    return fail_without_kept_orch(o, arg);
}

static void a_kept_domain_is_broken_by_a_failed_run_that_touched_it(void **state)
{
    (void)state;
    tsm_orch_fn *const touching[] = {fail_with_kept_orch, copy_and_fail_orch};
    start(2, 0);
    for (uint32_t i = 0; i < COUNT(touching); i++) {
        run(keep_orch);
        assert_code(worker, tsm_worker_run(worker, fail_without_kept_orch, NULL), TSM_ETASK_FAILED);
        assert_int_equal(tsm_domain_broken(kept), 0);
        run(use_kept_orch);
        assert_code(worker, tsm_worker_run(worker, touching[i], NULL), TSM_ETASK_FAILED);
        assert_int_equal(tsm_domain_broken(kept), 1);
        run(use_broken_orch);
        assert_int_equal(help_stats(worker).domains_live, 1);
        assert_code(worker, tsm_domain_release(kept), 0);
        assert_int_equal(help_stats(worker).domains_live, 0);
    }
    harness_close(worker);
}

static void a_kept_domain_is_broken_when_a_member_is_replaced(void **state)
{
    (void)state;
    start(3, 0);
    run(keep_orch);
    kill(tsm_worker_pid(worker, 2), SIGKILL);
    while (help_stats(worker).deaths < 1) {
    }
    assert_int_equal(tsm_domain_broken(kept), 0); /* no member */
    kill(tsm_worker_pid(worker, 1), SIGKILL);
    while (help_stats(worker).deaths < 2) {
    }
    assert_int_equal(tsm_domain_broken(kept), 1);
    run(use_broken_orch);
    assert_code(worker, tsm_domain_release(kept), 0);
    help_wait_replaced(worker, 1);
    run(keep_orch);
    run(use_kept_orch);
    harness_close(worker);
}

static int keep_and_fail_orch(tsm_orch *o, void *arg)
{
    return keep_orch(o, arg) != 0 ? 99 : 5;
}

static void a_kept_domain_of_a_failed_function_is_released(void **state)
{
    (void)state;
    start(2, 0);
    assert_code(worker, tsm_worker_run(worker, keep_and_fail_orch, NULL), 5);
    assert_int_equal(help_stats(worker).domains_live, 0);
    run(keep_orch); /* the name is free */
    harness_close(worker);
}

static int release_kept_orch(tsm_orch *o, void *arg)
{
    (void)o;
    (void)arg;
    assert_code(worker, tsm_domain_release(kept), 0);
    assert_int_equal(tsm_domain_released(kept), 1);
    return 0;
}

static void kept_domains_come_and_go_with_constant_memory(void **state)
{
    (void)state;
    start(2, 0);
    for (uint32_t i = 0; i < harness_count(2000); i++) {
        run(keep_orch);
        if (i % 2) {
            run(release_kept_orch);
        } else {
            assert_code(worker, tsm_domain_release(kept), 0);
        }
    }
    struct tsm_stats s = help_stats(worker);
    assert_true(s.domains_live == 0 && s.leases_fresh <= 2);
    harness_close(worker);
}

/* ---- stopped and dying chips ---- */

static int pair_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d;
    assert_code(worker, help_alloc(o, "pair", CHIPS(0, 1), 100000, &d), 0);
    for (int chip = 0; chip < 2; chip++) {
        assert_code(worker, help_submit(o, work, chip, d, NULL, 0, NULL), 0);
    }
    assert_code(worker, tsm_domain_release(d), 0);
    help_wait_for_chip(o, work, 0);
    help_wait_for_chip(o, work, 1);
    assert_int_equal(tsm_domain_freed(d), 1);
    return 0;
}

static void a_stopped_chip_that_is_no_member_does_not_delay_an_allocation(void **state)
{
    (void)state;
    start(3, 1);
    kill(tsm_worker_pid(worker, 2), SIGSTOP);
    for (int i = 0; i < 10; i++) {
        run(pair_orch);
    }
    kill(tsm_worker_pid(worker, 2), SIGCONT);
    harness_close(worker);
}

static int member_dies_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d;
    uint64_t deaths = help_stats(worker).deaths;
    assert_code(worker, help_alloc(o, "team", CHIPS(0, 1), 256, &d), 0);
    kill(tsm_worker_pid(worker, 1), SIGKILL);
    while (help_stats(worker).deaths == deaths) {
    }
    return help_submit(o, work, 0, d, NULL, 0, NULL) == 0 ? 0 : TSM_EABORTED;
}

static void a_member_that_dies_after_the_allocation_fails_the_run(void **state)
{
    (void)state;
    start(3, 0);
    for (int i = 0; i < 3; i++) {
        assert_code(worker, tsm_worker_run(worker, member_dies_orch, NULL), TSM_ECHILD_DIED);
        assert_text(worker, "chip 1");
        assert_text(worker, "'team'");
        assert_int_equal(tsm_worker_error(worker)->chip, 1);
        assert_int_equal(help_stats(worker).domains_live, 0);
        help_wait_replaced(worker, 1);
        run(pair_orch);
    }
    harness_close(worker);
}

/* In a program of its own, because it is stopped in the middle of the allocation. Returns its exit status. */
static int interrupted_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d = NULL;
    int pids[] = {tsm_worker_pid(worker, 0), tsm_worker_pid(worker, 1), tsm_worker_pid(worker, 2)};
    if (write(STDOUT_FILENO, pids, sizeof(pids)) != sizeof(pids)) {
        return 20;
    }
    int rc = help_alloc(o, "team", CHIPS(0, 1), 256, &d);
    struct tsm_stats s = help_stats(worker);
    if (rc != TSM_EPEER || d || s.domains_live != 0 || s.deaths != 1) {
        return 21;
    }
    if (!strstr(tsm_worker_error(worker)->text, "member chip 1")) {
        return 22;
    }
    rc = help_alloc(o, "team", CHIPS(0, 1), 256, &d);
    return rc != 0 || help_submit(o, work, 1, d, NULL, 0, NULL) != 0 ? 23 : 0;
}

static int orchestrate_interrupted(void)
{
    setenv("TRANSOM_FAULT", "domain:stop:1:-1", 1);
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = 3;
    if (tsm_worker_create(&opts, &worker, NULL) != 0 ||
        tsm_register(worker, "work", help_work_task, &work) != 0 || tsm_worker_start(worker) != 0) {
        return 10;
    }
    int rc = tsm_worker_run(worker, interrupted_orch, NULL);
    if (tsm_worker_close(worker) != 0) {
        rc = 11;
    }
    tsm_worker_destroy(worker);
    return rc < 0 ? 30 : rc;
}

/* Whether the keeper has a child that is none of these three: it has seen a death and made up for it. */
static bool has_replaced(int keeper, const int *old)
{
    DIR *dir = opendir("/proc");
    bool found = false;
    for (const struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        int pid = atoi(e->d_name);
        found = pid > 0 && pid != old[0] && pid != old[1] && pid != old[2] &&
                (int)help_proc_stat(pid, 4) == keeper;
    }
    closedir(dir);
    return found;
}

static void a_member_that_dies_during_the_allocation_is_named_and_all_is_undone(void **state)
{
    (void)state;
    int pipe_fds[2], pids[3], status;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        execl("/proc/self/exe", "domain_members", INTERRUPTED, (char *)NULL);
        _exit(99);
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], pids, sizeof(pids)), sizeof(pids));
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status)); /* the fault has fired */
    int keeper = (int)help_proc_stat(pids[1], 4);
    kill(pids[1], SIGKILL);
    while (!has_replaced(keeper, pids)) {
        sched_yield();
    }
    kill(child, SIGCONT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(pipe_fds[0]);
}

static int dead_member_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    tsm_domain *d = NULL;
    kill(tsm_worker_pid(worker, 1), SIGKILL);
    while (help_stats(worker).deaths == 0) {
    }
    /* The keeper's first try to replace it has failed; the next one comes in 20 ms. */
    int rc = help_alloc(o, "team", CHIPS(0, 1), 256, &d);
    assert_code(worker, rc, TSM_EPEER);
    assert_text(worker, "domain 'team': member chip 1");
    assert_null(d);
    assert_int_equal(help_stats(worker).domains_live, 0);
    assert_code(worker, help_alloc(o, "team", CHIPS(0, 2), 256, &d), 0);
    tsm_domain_release(d);
    do {
        rc = help_alloc(o, "team", CHIPS(0, 1), 256, &d);
    } while (rc == TSM_EPEER);
    return rc;
}

static void a_member_known_dead_is_refused_by_name_until_it_is_replaced(void **state)
{
    (void)state;
    char fault[64];
    snprintf(fault, sizeof(fault), "sys.fork:fail=%d:%u:-2", EAGAIN, harness_chips(3) + 1);
    setenv("TRANSOM_FAULT", fault, 1);
    worker = harness_worker(harness_chips(3), 0);
    harness_start(worker);
    run(dead_member_orch);
    harness_close(worker);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], INTERRUPTED) == 0) {
        return orchestrate_interrupted();
    }
    const struct CMUnitTest tests[] = {
        TEST(a_kept_domain_lives_over_runs_until_it_is_released),
        TEST(a_kept_domain_is_broken_by_a_failed_run_that_touched_it),
        TEST(a_kept_domain_is_broken_when_a_member_is_replaced),
        TEST(a_kept_domain_of_a_failed_function_is_released),
        TEST(kept_domains_come_and_go_with_constant_memory),
        TEST(a_stopped_chip_that_is_no_member_does_not_delay_an_allocation),
        TEST(a_member_that_dies_after_the_allocation_fails_the_run),
        TEST(a_member_that_dies_during_the_allocation_is_named_and_all_is_undone),
        TEST(a_member_known_dead_is_refused_by_name_until_it_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Runs the command line tool of this build as a user would: its answers, its exit status, and what `transom ps`
 * sees of workers that are busy, stopped or no workers at all. Other tests may have workers at the same
 * time: a test looks only at what is said about its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

enum { OUT_BYTES = 256 * 1024, PATIENCE_S = 20 };

/* ---- running the tool ---- */

static char tool[PATH_MAX + 32];

/* What the last run printed, both outputs together. */
static char out[OUT_BYTES];

static int find_tool(void **state)
{
    (void)state;
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    assert_true(length > 0);
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(tool, sizeof(tool), "%s/../bin/transom", self);
    return 0;
}

static void need_tool(void)
{
    if (access(tool, X_OK) != 0) {
        print_message("skipped: %s is not built\n", tool);
        skip();
    }
}

static void be_tool(const char *const argv[], int out_fd, rlim_t files)
{
    struct rlimit limit = {files, files};
    dup2(out_fd, STDOUT_FILENO);
    dup2(out_fd, STDERR_FILENO);
    if (files == 0 || setrlimit(RLIMIT_NOFILE, &limit) == 0) {
        execv(tool, (char *const *)argv);
    }
    _exit(127);
}

/* Exit status; `files` is the limit on open files, 0 for none. */
static int run_limited(rlim_t files, const char *const argv[])
{
    int fds[2];
    int status = -1;
    size_t used = 0;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_tool(argv, fds[1], files);
    }
    close(fds[1]);
    for (ssize_t n; (n = read(fds[0], out + used, sizeof(out) - 1 - used)) > 0;) {
        used += (size_t)n;
    }
    out[used] = '\0';
    close(fds[0]);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run(const char *word, const char *option)
{
    const char *const argv[] = {tool, word, word ? option : NULL, NULL};
    need_tool();
    return run_limited(0, argv);
}

static int says(const char *text)
{
    return strstr(out, text) != NULL;
}

static int lines(void)
{
    int n = 0;
    for (const char *p = out; (p = strchr(p, '\n')) != NULL; p++) {
        n++;
    }
    return n;
}

static int out_of_patience(uint64_t *start_ns)
{
    *start_ns = *start_ns != 0 ? *start_ns : harness_now_ns();
    return harness_now_ns() - *start_ns > UINT64_C(1000000000) * PATIENCE_S;
}

/* What `transom ps` says about the worker of program `pid`: cut out of `out`; "" when there is none. */
static const char *ps_about(pid_t pid)
{
    static char none[] = "";
    char name[32];
    assert_int_equal(run("ps", NULL), 0);
    snprintf(name, sizeof(name), ": pid %d ", (int)pid);
    char *at = strstr(out, name);
    if (!at) {
        return none;
    }
    char *end = strstr(at, "\n\n");
    if (end) {
        end[1] = '\0';
    }
    return at;
}

/* Looks again until the worker of `pid` shows all the texts. */
static void ps_until(pid_t pid, const char *const texts[], int count)
{
    uint64_t start = 0;
    for (;;) {
        const char *about = ps_about(pid);
        int seen = 0;
        for (int i = 0; i < count; i++) {
            seen += strstr(about, texts[i]) != NULL;
        }
        if (seen == count) {
            return;
        }
        if (out_of_patience(&start)) {
            print_message("%s\n", about);
            fail_msg("ps shows %d of %d texts, the first: %s", seen, count, texts[0]);
        }
    }
}

/* ---- answers ---- */

static void version_names_the_library_and_its_backends(void **state)
{
    (void)state;
    assert_int_equal(run("version", NULL), 0);
    assert_true(says("transom " TSM_VERSION_STRING "\n"));
    assert_true(says("compiler: "));
    assert_true(says("backends: sim"));
    assert_int_equal(run("--version", NULL), 0);
    assert_true(says("transom " TSM_VERSION_STRING "\n"));
}

static void help_lists_the_commands_and_explains_one(void **state)
{
    (void)state;
    assert_int_equal(run(NULL, NULL), 0);
    assert_true(says("doctor") && says("ps") && says("version"));
    assert_int_equal(run("--help", NULL), 0);
    assert_true(says("usage: transom COMMAND"));
    assert_int_equal(run("help", "ps"), 0);
    assert_true(says("usage: transom ps [--json]"));
    assert_int_equal(run("ps", "--help"), 0);
    assert_true(says("usage: transom ps [--json]"));
}

static void what_is_unknown_is_refused_in_one_line(void **state)
{
    (void)state;
    assert_int_equal(run("conduct", NULL), 2);
    assert_true(says("'conduct'"));
    assert_int_equal(lines(), 1);
    assert_int_equal(run("help", "conduct"), 2);
    assert_int_equal(lines(), 1);
    assert_int_equal(run("ps", "--jason"), 2);
    assert_true(says("'--jason'"));
    assert_int_equal(lines(), 1);
    assert_int_equal(run("version", "--json"), 2);
}

static void doctor_finds_that_workers_can_run(void **state)
{
    (void)state;
    assert_int_equal(run("doctor", NULL), 0);
    assert_true(says("shared memory") && says("open files") && says("fork of a small process"));
    assert_true(says("workers can run here"));
    assert_int_equal(run("doctor", "--json"), 0);
    assert_true(says("\"name\": \"kernel\""));
    assert_true(says("\"fork_ns\": "));
    assert_true(says("\"can_run\": true"));
}

static void doctor_names_what_makes_a_worker_impossible(void **state)
{
    (void)state;
    const char *const argv[] = {tool, "doctor", NULL};
    need_tool();
    assert_int_equal(run_limited(8, argv), 1);
    assert_true(says("problem  open files"));
    assert_true(says("ulimit -n"));
    assert_true(says("no worker can run here"));
}

/* ---- workers ---- */

static int hold(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym word;
    int rc = tsm_at(c, 64, &word);
    return rc != 0 ? rc : tsm_signal_wait_until(c, word, TSM_GE, 7, NULL, -1);
}

static int let_go(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym word;
    int rc = tsm_at(c, 64, &word);
    return rc != 0 ? rc : tsm_signal(c, word, 7, TSM_SIGNAL_SET, 0);
}

static int do_nothing(tsm_task *t)
{
    (void)t;
    return 0;
}

struct fixture {
    tsm_worker *worker;
    tsm_callable hold, let_go, nothing;
    int failed; /* a step of the orchestration function */
};

static void start_worker(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->worker = harness_worker(3, 1);
    f->hold = harness_register(f->worker, "hold", hold);
    f->let_go = harness_register(f->worker, "let_go", let_go);
    f->nothing = harness_register(f->worker, "nothing", do_nothing);
    harness_start(f->worker);
}

static int submit_hold(struct fixture *f, tsm_orch *o, tsm_domain **ret_domain, tsm_task_id *ret)
{
    const int members[] = {0, 2};
    struct tsm_domain_opts opts = TSM_DOMAIN_OPTS_INIT;
    opts.name = "door";
    opts.chips = members;
    opts.chip_count = 2;
    opts.window_bytes = 4096;
    int rc = tsm_domain_alloc(o, &opts, ret_domain);
    struct tsm_call call = {.callable = f->hold,
                            .chip = 0,
                            .domain_count = 1,
                            .domains = ret_domain,
                            .limit_ns = INT64_C(600) * 1000000000};
    return rc != 0 ? rc : tsm_submit(o, &call, ret);
}

static int look_while_busy(tsm_orch *o, void *arg)
{
    struct fixture *f = arg;
    tsm_domain *domain = NULL;
    tsm_task_id held = 0;
    f->failed = submit_hold(f, o, &domain, &held);
    struct tsm_call after = {.callable = f->nothing, .chip = 1, .after = &held, .after_count = 1};
    f->failed = f->failed != 0 ? f->failed : tsm_submit(o, &after, NULL);
    if (f->failed == 0) {
        const char *const texts[] = {
            " running",
            "worker ready",
            "3 chips, 1 sub, 1 run\n",
            "in hold for ",
            "for a signal >= 7 in domain ",
            "rank 0 (it is 0)",
            "before record 1, waits ",
            "for chip 0 to do record 1 (it has done 0)",
            "idle",
        };
        ps_until(getpid(), texts, sizeof(texts) / sizeof(texts[0]));
        assert_int_equal(run("ps", "--json"), 0);
        assert_true(says("\"callable\": \"hold\""));
        assert_true(says("\"compare\": \">=\""));
    }
    struct tsm_call go = {.callable = f->let_go, .chip = 2, .domain_count = 1, .domains = &domain};
    f->failed = f->failed != 0 ? f->failed : tsm_submit(o, &go, NULL);
    return f->failed;
}

static void ps_shows_the_task_a_chip_is_in_and_who_waits_for_it(void **state)
{
    (void)state;
    struct fixture f;
    need_tool();
    start_worker(&f);
    assert_code(f.worker, tsm_worker_run(f.worker, look_while_busy, &f), 0);
    assert_int_equal(f.failed, 0);
    assert_true(strstr(ps_about(getpid()), "1/1") != NULL);
    harness_close(f.worker);
    assert_string_equal(ps_about(getpid()), "");
}

static int kill_in_task(tsm_orch *o, void *arg)
{
    struct fixture *f = arg;
    tsm_domain *domain = NULL;
    tsm_task_id held = 0;
    const char *const texts[] = {"in hold for "};
    f->failed = submit_hold(f, o, &domain, &held);
    if (f->failed == 0) {
        ps_until(getpid(), texts, 1);
        f->failed = kill(tsm_worker_pid(f->worker, 0), SIGKILL);
    }
    return f->failed;
}

static void ps_counts_deaths(void **state)
{
    (void)state;
    struct fixture f;
    need_tool();
    start_worker(&f);
    assert_code(f.worker, tsm_worker_run(f.worker, kill_in_task, &f), TSM_ECHILD_DIED);
    assert_int_equal(f.failed, 0);
    const char *const texts[] = {"      0        0      1  idle", "1/1"};
    ps_until(getpid(), texts, 2);
    harness_close(f.worker);
}

static int stop_here(tsm_orch *o, void *arg)
{
    tsm_domain *domain = NULL;
    tsm_task_id held = 0;
    int rc = submit_hold(arg, o, &domain, &held);
    raise(SIGSTOP);
    return rc;
}

/* main() of a program of its own, so that it can be stopped and killed. */
static int be_stopped_program(void)
{
    struct fixture f;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    start_worker(&f);
    tsm_worker_run(f.worker, stop_here, &f);
    return EXIT_FAILURE;
}

static pid_t start_program(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "cli", "--stop", NULL);
        _exit(127);
    }
    return pid;
}

static void ps_sees_into_a_stopped_program_until_it_is_killed(void **state)
{
    (void)state;
    int status = 0;
    uint64_t start = 0;
    need_tool();
    pid_t pid = start_program();
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    const char *const texts[] = {" stopped", "in hold for ", "it is 0"};
    ps_until(pid, texts, 3);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    while (*ps_about(pid) != '\0') {
        assert_false(out_of_patience(&start));
    }
}

/* ---- no workers ---- */

static int make_memfd(const char *name, uint64_t bytes, int seals)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd < 0 || ftruncate(fd, (off_t)bytes) != 0 ||
                   (seals != 0 && fcntl(fd, F_ADD_SEALS, seals) != 0)
               ? -1
               : fd;
}

/* A process that looks like a keeper and holds memory that is none of a worker: `words` at its beginning. */
static pid_t start_impostor(const uint64_t *words, int count, uint64_t bytes, int seals)
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int ctl = make_memfd("transom-ctl", bytes, seals);
        int pages = make_memfd("transom-pages", bytes, seals);
        ssize_t size = (ssize_t)sizeof(*words) * count;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "transom-keeper");
        byte = ctl >= 0 && pages >= 0 && pwrite(ctl, words, (size_t)size, 0) == size;
        if (write(ready[1], &byte, 1) == 1) {
            pause();
        }
        _exit(1);
    }
    assert_true(pid > 0);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    assert_int_equal(byte, 1);
    return pid;
}

static void end_impostor(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void ps_says_what_it_cannot_read(void **state)
{
    (void)state;
    char name[32];
    const uint64_t words[] = {0x314d5f4d4f534e41, 99};
    need_tool();
    pid_t pid = start_impostor(words, 2, 1 << 20, F_SEAL_SHRINK);
    assert_int_equal(run("ps", NULL), 0);
    snprintf(name, sizeof(name), "keeper %d: ", (int)pid);
    assert_true(says(name) && says("another version"));
    end_impostor(pid);
    pid = start_impostor(words, 2, 1 << 20, 0);
    assert_int_equal(run("ps", NULL), 0);
    snprintf(name, sizeof(name), "keeper %d: ", (int)pid);
    assert_true(says(name) && says("not that of a worker"));
    assert_int_equal(run("ps", "--json"), 0);
    assert_true(says("\"error\": "));
    end_impostor(pid);
}

static void ps_survives_memory_full_of_nonsense(void **state)
{
    (void)state;
    enum { WORDS = 64, ROUNDS = 40 };
    struct harness_random r;
    harness_random_init(&r, 20251122);
    need_tool();
    for (uint32_t round = 0; round < harness_count(ROUNDS); round++) {
        uint64_t words[WORDS] = {0x314d5f4d4f534e41, 1 | (uint64_t)(1 + harness_below(&r, 8))
                                                             << 32};
        for (int i = 2; i < WORDS; i++) {
            /* Often sizes and offsets that nearly make sense. */
            words[i] = harness_below(&r, 3) == 0 ? harness_random(&r)
                                                 : (uint64_t)harness_below(&r, 32) * 65536;
        }
        words[5] = words[6] = words[7] = 1 << 20; /* sizes of ctl and pages, as they are */
        pid_t pid = start_impostor(words, WORDS, 1 << 20, F_SEAL_SHRINK);
        assert_int_equal(run("ps", round % 2 ? NULL : "--json"), 0);
        end_impostor(pid);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--stop") == 0) {
        return be_stopped_program();
    }
    const struct CMUnitTest tests[] = {
        TEST(version_names_the_library_and_its_backends),
        TEST(help_lists_the_commands_and_explains_one),
        TEST(what_is_unknown_is_refused_in_one_line),
        TEST(doctor_finds_that_workers_can_run),
        TEST(doctor_names_what_makes_a_worker_impossible),
        TEST(ps_shows_the_task_a_chip_is_in_and_who_waits_for_it),
        TEST(ps_counts_deaths),
        TEST(ps_sees_into_a_stopped_program_until_it_is_killed),
        TEST(ps_says_what_it_cannot_read),
        TEST(ps_survives_memory_full_of_nonsense),
    };
    return cmocka_run_group_tests(tests, find_tool, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Many runs, tasks and domains: after a warm-up nothing grows, neither memory nor descriptors nor mappings, in the
 * program or in the chips.
 */
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "domain_help.h"

enum { CHIP_COUNT = 3, SUB_COUNT = 1, TASKS = 100, DOMAINS = 10, LEASE_BYTES = 2 << 20 };
/* A handle lives until the end of the run, so a function holds one for every domain it ever allocated. */
enum { HANDLE_BYTES = 320 };

static tsm_worker *worker;
static tsm_callable work, touch;
static void *shared;

/* Writes into every window of its domain, as a member. */
static int touch_task(tsm_task *t)
{
    const tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym s;
    if (!c) {
        return 0;
    }
    if (tsm_at(c, 0, &s) != 0) {
        return tsm_fail(t, "window");
    }
    for (uint32_t r = 0; r < tsm_size(c); r++) {
        uint64_t *word = tsm_ptr(c, s, r);
        if (*word != 0 && *word != 1) {
            return tsm_fail(t, "not zero");
        }
        *word = 1;
    }
    return 0;
}

/* ---- what is held ---- */

struct held {
    uint64_t rss[1 + CHIP_COUNT + SUB_COUNT]; /* of the program, then of its chips and subs */
    uint64_t shared;                          /* bytes behind the arena's memfds */
    uint32_t fds, mappings, children;
};

static uint64_t rss_of(int pid)
{
    char path[64];
    unsigned long long size = 0, resident = 0, file = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%llu %llu %llu", &size, &resident, &file) != 3) {
        fail_msg("%s", path);
    }
    fclose(f);
    /* Without shared pages, which are counted once, below. */
    return (resident - file) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct held look(void)
{
    struct held h = {.shared = help_arena_bytes(),
                     .fds = harness_fds(),
                     .mappings = harness_mappings(),
                     .children = harness_children()};
    malloc_trim(0); /* what earlier tests have freed must not hide what grows now */
    h.rss[0] = rss_of(getpid());
    for (int place = 0; place < CHIP_COUNT + SUB_COUNT; place++) {
        h.rss[1 + place] = rss_of(tsm_worker_pid(worker, place));
    }
    return h;
}

/* handles: of domains allocated since by the function that still runs. */
static void must_not_grow(const struct held *before, uint64_t handles)
{
    struct held after = look();
    assert_int_equal(after.fds, before->fds);
    assert_int_equal(after.mappings, before->mappings);
    assert_int_equal(after.children, before->children);
    for (int i = 0; i < 1 + CHIP_COUNT + SUB_COUNT; i++) {
        /* A sanitizer's own memory grows with the allocations it remembers. */
        uint64_t slack = harness_quick() ? 64u << 20 : 256u << 10;
        slack += i == 0 ? handles * HANDLE_BYTES : 0;
        if (after.rss[i] > before->rss[i] + slack) {
            fail_msg("process %d: %llu -> %llu bytes", i - 1, (unsigned long long)before->rss[i],
                     (unsigned long long)after.rss[i]);
        }
    }
    /* How much of the lease budget is in use differs from one moment to the next. */
    if (after.shared > before->shared + LEASE_BYTES) {
        fail_msg("arena: %llu -> %llu bytes", (unsigned long long)before->shared,
                 (unsigned long long)after.shared);
    }
}

/* ---- the load ---- */

static void submit(tsm_orch *o, int chip, tsm_domain *d, uint64_t offset, int tag)
{
    struct tsm_tensor t = {
        .data = (uint8_t *)shared + offset, .dtype = TSM_U64, .tag = (uint8_t)tag};
    assert_code(worker, help_submit_tensor(o, d ? touch : work, chip, d, &t, NULL, 0, NULL), 0);
}

/* Domains of several shapes, small and large, named and unnamed by their tasks; edges over chips and subs; memory
 * of scopes. */
static int load_orch(tsm_orch *o, void *arg)
{
    struct harness_random *random = arg;
    static const int rings[4][3] = {{0, 1, 2}, {1, 0, 2}, {2, 1, 0}, {1, 2, 0}};
    char name[16];
    for (uint32_t i = 0; i < DOMAINS; i++) {
        const int *chips = rings[harness_below(random, 4)];
        tsm_domain *d;
        void *memory;
        snprintf(name, sizeof(name), "domain %u", i);
        uint32_t size = 1 + harness_below(random, 3);
        uint64_t bytes = harness_below(random, 16) ? 64 : 100000;
        assert_code(worker, help_alloc(o, name, chips, size, bytes, &d), 0);
        assert_code(worker, tsm_scope_begin(o), 0);
        assert_code(worker, tsm_alloc(o, chips[0], 1000, &memory), 0);
        submit(o, chips[0], d, 64 * harness_below(random, 16), TSM_INPUT);
        for (uint32_t k = 1; k + 1 < TASKS / DOMAINS; k++) {
            submit(o, (int)harness_below(random, CHIP_COUNT), NULL, 64 * harness_below(random, 16),
                   harness_below(random, 8) ? TSM_INPUT : TSM_INOUT);
        }
        submit(o, i == 0 ? TSM_SUB : chips[size - 1], NULL, 64 * i, TSM_INPUT);
        assert_code(worker, tsm_scope_end(o), 0);
        if (harness_below(random, 3)) {
            assert_code(worker, tsm_domain_release(d), 0);
        }
    }
    return 0;
}

static void start(void)
{
    /* The budget of leases is reached by the load: some are evicted, some waited for. */
    worker = help_create_sized(CHIP_COUNT, SUB_COUNT, 1u << 20, 1u << 20, LEASE_BYTES);
    work = harness_register(worker, "work", help_work_task);
    touch = harness_register(worker, "touch", touch_task);
    harness_start(worker);
    assert_code(worker, tsm_buffer_create(worker, 4096, &shared), 0);
}

static void ten_thousand_runs_a_million_tasks_and_1e5_domains_make_nothing_grow(void **state)
{
    (void)state;
    struct harness_random random;
    struct held before = {.shared = 0};
    uint32_t runs = harness_count(10000);
    harness_random_init(&random, 3);
    start();
    for (uint32_t i = 0; i < runs; i++) {
        if (i == runs / 4) {
            before = look();
        }
        assert_code(worker, tsm_worker_run(worker, load_orch, &random), 0);
    }
    must_not_grow(&before, 0);
    struct tsm_stats s = help_stats(worker);
    assert_int_equal(s.tasks, (uint64_t)runs * TASKS);
    assert_int_equal(s.leases_fresh + s.leases_reused, (uint64_t)runs * DOMAINS);
    assert_int_equal(s.domains_live, 0);
    assert_int_equal(s.runs_live, 0);
    assert_true(s.leases_evicted > 0 && s.lease_bytes <= LEASE_BYTES && s.ranges < 1000);
    harness_close(worker);
}

/* One function without an end in sight: what it has left behind must not pile up until it returns. */
static int long_orch(tsm_orch *o, void *arg)
{
    struct held *before = arg;
    uint32_t count = harness_count(50000);
    for (uint32_t i = 0; i < count; i++) {
        tsm_domain *d;
        const int chip = (int)(i % CHIP_COUNT);
        if (i == count / 4) {
            *before = look();
        }
        assert_code(worker, help_alloc(o, "step", CHIPS(0, 1), 64, &d), 0);
        submit(o, chip, d, 64 * (i % 16), i % 4 ? TSM_INPUT : TSM_INOUT);
        submit(o, TSM_SUB, NULL, 64 * (i % 16), TSM_INPUT);
        assert_code(worker, tsm_domain_release(d), 0);
        if (i + 1 == count) {
            must_not_grow(before, count - count / 4);
        }
    }
    return 0;
}

static void one_long_function_makes_nothing_grow(void **state)
{
    (void)state;
    struct held before;
    start();
    assert_code(worker, tsm_worker_run(worker, long_orch, &before), 0);
    harness_close(worker);
}

/* A kept domain that many others name, over many runs. */
static tsm_domain *kept;

static int keep_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    return help_alloc_kept(o, "kept", CHIPS(0), 64, &kept);
}

static int use_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < 30; i++) {
        tsm_callable callable = i % 3 ? work : touch;
        const int chips[] = {0, 1, TSM_SUB};
        assert_code(worker, help_submit(o, callable, chips[i % 3], kept, NULL, 0, NULL), 0);
    }
    return 0;
}

static void a_kept_domain_that_many_tasks_name_does_not_grow(void **state)
{
    (void)state;
    struct held before = {.shared = 0};
    uint32_t runs = harness_count(3000);
    start();
    assert_code(worker, tsm_worker_run(worker, keep_orch, NULL), 0);
    for (uint32_t i = 0; i < runs; i++) {
        if (i == runs / 4) {
            before = look();
        }
        assert_code(worker, tsm_worker_run(worker, use_orch, NULL), 0);
    }
    must_not_grow(&before, 0);
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ten_thousand_runs_a_million_tasks_and_1e5_domains_make_nothing_grow),
        TEST(one_long_function_makes_nothing_grow),
        TEST(a_kept_domain_that_many_tasks_name_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

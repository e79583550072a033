/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * 64 chips and 8 subs on however few cores there are: groups, domains, barriers, chains, sub tasks and a death, with
 * results that are known and no false time-out. Test process.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

enum { SUBS = 8, ROUNDS = 24, LIMIT_NS = 2000000000 };

struct many {
    tsm_worker *w;
    uint32_t chips;
    tsm_callable add, reduce, check, die;
    uint64_t *cells; /* one line per chip */
    uint64_t *sums;  /* one line per sub task */
    uint64_t scale;
};

/* The cell grows by one more than its neighbour in front has. */
static int add(tsm_task *t)
{
    const uint64_t *from = tsm_task_data(t, 0);
    uint64_t *to = tsm_task_data(t, 1);
    *to = *from + tsm_task_scalar(t, 0);
    return 0;
}

static int reduce(tsm_task *t)
{
    const uint64_t *own = tsm_task_data(t, 0);
    uint64_t *to = tsm_task_data(t, 1);
    tsm_ctx *c = tsm_task_domain(t, 0);
    tsm_sym box;
    int rc = tsm_at(c, 0, &box);
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = tsm_barrier(c);
    }
    uint64_t *mine = tsm_ptr(c, box, tsm_rank(c));
    if (rc == 0 && *mine != 0) {
        return tsm_fail(t, "the window was not zero");
    }
    *mine = *own;
    rc = rc ? rc : tsm_all_reduce(c, box, box, 1, TSM_U64, TSM_SUM);
    *to = *mine;
    return rc;
}

static int check(tsm_task *t)
{
    const uint64_t *x = tsm_task_data(t, 0);
    *(uint64_t *)tsm_task_data(t, 1) = *x * 2;
    return 0;
}

static int die(tsm_task *t)
{
    (void)t;
    return kill(getpid(), SIGKILL);
}

static struct tsm_tensor cell(uint64_t *line, uint32_t i, int tag)
{
    return (struct tsm_tensor){.data = line + (size_t)i * 8,
                               .dtype = TSM_U64,
                               .tag = (uint8_t)tag,
                               .ndim = 1,
                               .shape = {1}};
}

/* cells[i] = cells[i - 1] + i over all chips: one long chain from chip to chip. */
static int submit_chain(tsm_orch *orch, struct many *m)
{
    int rc = 0;
    for (uint32_t i = 1; i < m->chips && rc == 0; i++) {
        uint64_t n = i * m->scale;
        struct tsm_tensor x[] = {cell(m->cells, i - 1, TSM_INPUT),
                                 cell(m->cells, i, TSM_OUTPUT_EXISTING)};
        struct tsm_call call = {.callable = m->add,
                                .chip = (int)i,
                                .tensors = x,
                                .tensor_count = 2,
                                .scalars = &n,
                                .scalar_count = 1,
                                .limit_ns = LIMIT_NS};
        rc = tsm_submit(orch, &call, NULL);
    }
    return rc;
}

/* One group on chips first, first + step, ...; each member's sum goes to its line of sums. */
static int submit_group(tsm_orch *orch, struct many *m, uint32_t first, uint32_t step)
{
    struct tsm_tensor x[64][2];
    struct tsm_call members[64];
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    tsm_domain *d = NULL;
    int chips[64];
    uint32_t n = 0;
    char name[32];
    for (uint32_t c = first; c < m->chips && n < 64; c += step) {
        x[n][0] = cell(m->cells, c, TSM_INPUT);
        x[n][1] = cell(m->sums, c, TSM_OUTPUT_EXISTING);
        members[n] = (struct tsm_call){.callable = m->reduce,
                                       .chip = (int)c,
                                       .tensors = x[n],
                                       .tensor_count = 2,
                                       .domains = &d,
                                       .domain_count = 1,
                                       .limit_ns = LIMIT_NS};
        chips[n++] = (int)c;
    }
    snprintf(name, sizeof(name), "of-%u-by-%u", first, step);
    o.name = name;
    o.chips = chips;
    o.chip_count = n;
    o.window_bytes = 4096;
    int rc = tsm_domain_alloc(orch, &o, &d);
    rc = rc ? rc : tsm_submit_group(orch, members, n, NULL);
    return rc ? rc : tsm_domain_release(d);
}

static int mixed(tsm_orch *orch, void *arg)
{
    struct many *m = arg;
    int rc = submit_chain(orch, m);
    for (uint32_t first = 0; first < 4 && rc == 0; first++) {
        rc = submit_group(orch, m, first, 4);
    }
    for (uint32_t i = 0; i < m->chips && rc == 0; i++) {
        struct tsm_tensor x[] = {cell(m->sums, i, TSM_INPUT),
                                 cell(m->sums, m->chips + i, TSM_OUTPUT_EXISTING)};
        struct tsm_call call = {.callable = m->check,
                                .chip = TSM_SUB,
                                .tensors = x,
                                .tensor_count = 2,
                                .limit_ns = LIMIT_NS};
        rc = tsm_submit(orch, &call, NULL);
    }
    return rc ? rc : submit_group(orch, m, 0, 1);
}

static int deadly(tsm_orch *orch, void *arg)
{
    struct many *m = arg;
    int rc = submit_chain(orch, m);
    struct tsm_call call = {.callable = m->die, .chip = (int)m->chips / 2};
    rc = rc ? rc : tsm_submit(orch, &call, NULL);
    return rc ? rc : submit_group(orch, m, 0, 1);
}

static uint64_t cell_value(const struct many *m, uint32_t c)
{
    return (uint64_t)c * (c + 1) / 2 * m->scale;
}

static void verify(const struct many *m)
{
    uint64_t quarter[4] = {0, 0, 0, 0};
    uint64_t all = 0;
    for (uint32_t c = 0; c < m->chips; c++) {
        assert_int_equal(m->cells[c * 8], cell_value(m, c));
        quarter[c % 4] += cell_value(m, c);
        all += cell_value(m, c);
    }
    for (uint32_t c = 0; c < m->chips; c++) {
        assert_int_equal(m->sums[c * 8], all);
        assert_int_equal(m->sums[(m->chips + c) * 8], quarter[c % 4] * 2);
    }
}

static void many_chips_on_few_cores_do_mixed_work_without_false_time_outs(void **state)
{
    (void)state;
    struct many m = {.chips = harness_chips(harness_quick() ? 16 : 64)};
    m.chips = m.chips > 64 ? 64 : m.chips;
    m.w = harness_worker(m.chips, SUBS);
    m.add = harness_register(m.w, "add", add);
    m.reduce = harness_register(m.w, "reduce", reduce);
    m.check = harness_register(m.w, "check", check);
    m.die = harness_register(m.w, "die", die);
    harness_start(m.w);
    void *p = NULL;
    assert_code(m.w, tsm_buffer_create(m.w, m.chips * 64, &p), 0);
    m.cells = p;
    assert_code(m.w, tsm_buffer_create(m.w, m.chips * 128, &p), 0);
    m.sums = p;
    for (int round = 0; round < ROUNDS; round++) {
        m.scale++;
        assert_code(m.w, tsm_worker_run(m.w, mixed, &m), 0);
        verify(&m);
        if (round % 3 == 1) {
            assert_code(m.w, tsm_worker_run(m.w, deadly, &m), TSM_ECHILD_DIED);
            assert_int_equal(tsm_worker_error(m.w)->chip, m.chips / 2);
            while (tsm_worker_pid(m.w, (int)m.chips / 2) == 0) {
                struct tsm_stats s;
                tsm_worker_stats(m.w, &s);
            }
        }
    }
    harness_close(m.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(many_chips_on_few_cores_do_mixed_work_without_false_time_outs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

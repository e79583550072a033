/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The whole product of collective, type, operation, ranks 1..9, size, root and place against what the arguments say: all
 * of it with --long, else some of it, drawn by a seed. tests/integration/collectives.c has each pair of values.
 */
#include "collective_case.h"

enum { RANKS_MAX = 9, BATCH = 500, BYTES_MAX = 256 << 20 };

static const uint64_t small_counts[] = {0, 1, 1001, 64 << 10};
static const uint64_t large_counts[] = {3 << 20};

static tsm_worker *worker;
static struct case_batch batch;

static void start(void)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    void *list = NULL;
    opts.chips = RANKS_MAX;
    opts.heap_bytes = 1u << 20;
    opts.host_bytes = 1u << 20;
    opts.lease_bytes = 600u << 20;
    worker = help_create(&opts);
    batch = (struct case_batch){.callable = harness_register(worker, "cases", cases_task)};
    harness_start(worker);
    assert_code(worker, tsm_buffer_create(worker, BATCH * sizeof(struct collective_case), &list),
                0);
    batch.list = list;
}

static void flush(void)
{
    if (batch.count > 0) {
        batch.falling = !batch.falling;
        assert_code(worker, tsm_worker_run(worker, case_batch_orch, &batch), 0);
        batch.count = 0;
    }
}

/* What one product leaves out beyond what makes no difference. */
struct product {
    const uint64_t *counts;
    uint32_t count_count;
    uint32_t one_in; /* draws one case in so many */
    bool one_op;     /* one operation for each type, one root: in turn */
    struct harness_random random;
    uint64_t ran;
};

static void take_case(struct product *p, struct collective_case k)
{
    k.seed = p->ran * 31 + 5;
    if (harness_below(&p->random, p->one_in) == 0 && case_is_valid(&k) &&
        case_bytes(&k) <= BYTES_MAX) {
        batch.list[batch.count++] = k;
        p->ran++;
    }
    if (batch.count == BATCH) {
        flush();
    }
}

static void take_roots_and_places(struct product *p, struct collective_case k)
{
    uint32_t roots = case_is_rooted(k.kind) && k.ranks > 1 ? (k.ranks > 2 ? 3 : 2) : 1;
    const uint32_t root_of[3] = {0, k.ranks - 1, k.ranks / 2};
    for (uint32_t root = 0; root < roots; root++) {
        k.root = root_of[p->one_op ? (p->ran + root) % roots : root];
        for (k.in_place = 0; k.in_place < 2; k.in_place++) {
            take_case(p, k);
        }
        if (p->one_op) {
            return;
        }
    }
}

static void take_ops(struct product *p, struct collective_case k)
{
    if (!case_reduces(k.kind)) {
        take_roots_and_places(p, k);
        return;
    }
    for (int i = 0; i < TSM_XOR; i++) {
        k.op = TSM_SUM + (p->one_op ? (i + (int)k.ranks) % TSM_XOR : i);
        if (ref_has(k.dtype, k.op)) {
            take_roots_and_places(p, k);
            if (p->one_op) {
                return;
            }
        }
    }
}

static void run_product(struct product *p)
{
    for (uint32_t ranks = 1; ranks <= RANKS_MAX; ranks++) {
        for (uint32_t i = 0; i < p->count_count; i++) {
            for (int kind = 0; kind < CASE_KINDS; kind++) {
                for (int dtype = TSM_U8; dtype <= TSM_F64; dtype++) {
                    take_ops(p, (struct collective_case){.kind = kind,
                                                         .dtype = dtype,
                                                         .ranks = ranks,
                                                         .count = p->counts[i]});
                }
            }
            flush(); /* windows are as large as the largest case of a batch needs them */
        }
    }
}

/* A budget of its own: the harness' alarm is for tests that take seconds. */
static void product(const uint64_t *counts, uint32_t count, uint32_t one_in, bool one_op)
{
    const char *text = getenv("TRANSOM_TEST_SEED");
    struct product p = {.counts = counts,
                        .count_count = count,
                        .one_in = harness_long() ? 1 : one_in,
                        .one_op = one_op};
    harness_random_init(&p.random, text ? strtoull(text, NULL, 10) : 1);
    alarm(harness_long() ? 3000 : 120);
    start();
    run_product(&p);
    assert_true(p.ran > 0);
    print_message("%llu cases\n", (unsigned long long)p.ran);
    harness_close(worker);
}

static void every_combination_of_arguments_up_to_64_ki_elements_is_exact(void **state)
{
    (void)state;
    product(small_counts, COUNT(small_counts), 60, false);
}

/* With every type, number of ranks and place; the operations and roots in turn. */
static void large_buffers_of_every_type_and_number_of_ranks_are_exact(void **state)
{
    (void)state;
    product(large_counts, COUNT(large_counts), 200, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_combination_of_arguments_up_to_64_ki_elements_is_exact),
        TEST(large_buffers_of_every_type_and_number_of_ranks_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

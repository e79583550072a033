/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Every collective against what its arguments say, over type, operation, number of ranks, size, root and place: each pair
 * of values of two of these in at least one case. Then what pairs do not reach: sizes around the switches between
 * algorithms, the same bits everywhere, operations of one's own. tests/property/collectives.c has the whole product.
 */
#include "collective_case.h"

static tsm_worker *worker;
static tsm_callable cases;

static const uint32_t many_ranks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 64};

static void start(uint32_t chips)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = chips;
    opts.heap_bytes = 1u << 20;
    opts.host_bytes = 64u << 20;
    opts.lease_bytes = 600u << 20;
    worker = help_create(&opts);
    cases = harness_register(worker, "cases", cases_task);
}

static struct collective_case *shared_list(uint64_t count)
{
    void *list = NULL;
    assert_code(worker, tsm_buffer_create(worker, count * sizeof(struct collective_case), &list),
                0);
    return list;
}

static void run_batch(struct case_batch *b)
{
    assert_code(worker, tsm_worker_run(worker, case_batch_orch, b), 0);
}

/* ---- all pairs ---- */

enum { FACTORS = 7, VALUES_MAX = 16, TRIES = 40 };
enum { KIND, DTYPE, OP, RANKS, COUNT_OF, PLACE, ROOT };
static const uint32_t values_of[FACTORS] = {CASE_KINDS, TSM_F64, TSM_XOR + 1, 12, 6, 2, 3};

/* 0 elements, one, an odd number, what fills a stage slot and more, and what fills no cache. */
static const uint64_t pair_counts[] = {0, 1, 1001, 3 << 10, 64 << 10, 3 << 20};

struct row {
    uint8_t value[FACTORS];
};

struct pairs {
    bool covered[FACTORS][VALUES_MAX][FACTORS][VALUES_MAX];
    struct harness_random random;
    uint64_t bytes_max;
};

static struct collective_case case_of(const struct row *r, uint64_t seed)
{
    uint32_t ranks = many_ranks[r->value[RANKS]];
    const uint32_t roots[3] = {0, ranks / 2, ranks - 1};
    return (struct collective_case){.kind = r->value[KIND],
                                    .dtype = TSM_U8 + r->value[DTYPE],
                                    .op = r->value[OP],
                                    .ranks = ranks,
                                    .count = pair_counts[r->value[COUNT_OF]],
                                    .in_place = r->value[PLACE],
                                    .root = roots[r->value[ROOT]],
                                    .seed = seed};
}

static bool row_is_valid(const struct pairs *p, const struct row *r)
{
    struct collective_case k = case_of(r, 6);
    bool has_op =
        k.op !=
        0; /* 0 only and always where nothing is combined: else a pair with an operation says nothing */
    return has_op == case_reduces(k.kind) && case_is_valid(&k) && case_bytes(&k) <= p->bytes_max;
}

/* Pairs of the row that no earlier one has; marks them when asked to. */
static uint32_t row_gain(struct pairs *p, const struct row *r, bool mark)
{
    uint32_t gain = 0;
    for (int a = 0; a < FACTORS; a++) {
        for (int b = a + 1; b < FACTORS; b++) {
            bool *covered = &p->covered[a][r->value[a]][b][r->value[b]];
            gain += !*covered;
            *covered = *covered || mark;
        }
    }
    return gain;
}

/* The best of some valid rows with these two values. */
static bool find_row(struct pairs *p, int a, uint32_t x, int b, uint32_t y, struct row *best)
{
    uint32_t best_gain = 0;
    for (int i = 0; i < TRIES; i++) {
        struct row r;
        for (int f = 0; f < FACTORS; f++) {
            r.value[f] = (uint8_t)(f == a   ? x
                                   : f == b ? y
                                            : harness_below(&p->random, values_of[f]));
        }
        if (row_is_valid(p, &r) && row_gain(p, &r, false) > best_gain) {
            best_gain = row_gain(p, &r, false);
            *best = r;
        }
    }
    return best_gain > 0;
}

/* Rows until every pair that can be is in one; returns how many. Pairs that no row can have: too large, or an operation
 * that the type does not have. */
static uint32_t make_rows(struct pairs *p, struct row *rows, uint32_t max, uint32_t *impossible)
{
    uint32_t count = 0;
    *impossible = 0;
    for (int a = 0; a < FACTORS; a++) {
        for (int b = a + 1; b < FACTORS; b++) {
            for (uint32_t x = 0; x < values_of[a]; x++) {
                for (uint32_t y = 0; y < values_of[b]; y++) {
                    if (p->covered[a][x][b][y]) {
                        continue;
                    }
                    if (!find_row(p, a, x, b, y, &rows[count])) {
                        ++*impossible;
                        continue;
                    }
                    row_gain(p, &rows[count], true);
                    assert_true(++count < max);
                }
            }
        }
    }
    return count;
}

static uint64_t list_of_ranks(const struct row *rows, uint32_t count, uint32_t ranks,
                              struct collective_case *list)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct collective_case k = case_of(&rows[i], i);
        if (k.ranks == ranks) {
            list[n++] = k;
        }
    }
    return n;
}

static void every_pair_of_arguments_gives_what_they_say(void **state)
{
    (void)state;
    enum { ROWS_MAX = 1000 };
    static struct pairs p;
    static struct row rows[ROWS_MAX];
    uint32_t impossible;
    p.bytes_max = harness_quick() ? 16u << 20 : 256u << 20;
    harness_random_init(&p.random, 7);
    uint32_t count = make_rows(&p, rows, ROWS_MAX, &impossible);
    /* 14 pairs of type and operation, 69 of collective and operation, one in place; more ranks take no large buffers. */
    assert_in_range(count, 200, 500);
    assert_in_range(impossible, 84, harness_quick() ? 120 : 90);
    start(64);
    harness_start(worker);
    struct case_batch b = {.callable = cases, .list = shared_list(ROWS_MAX)};
    uint64_t ran = 0;
    for (uint32_t i = 0; i < COUNT(many_ranks); i++) {
        b.count = list_of_ranks(rows, count, many_ranks[i], b.list);
        b.falling = i % 2 == 1;
        assert_true(b.count > 0);
        run_batch(&b);
        ran += b.count;
    }
    assert_int_equal(ran, count);
    harness_close(worker);
}

/* ---- around the switches between algorithms ---- */

/* Bytes that travel in the message, what is one-shot for any number of ranks, a stage slot, a block of an accumulator. */
static const uint64_t edge_bytes[] = {32,   64,   128,  256,   512,   1024,
                                      2048, 4096, 8192, 16384, 32768, 65536};

static uint64_t edge_cases(uint32_t ranks, struct collective_case *list)
{
    static const int types[] = {TSM_F32, TSM_BF16, TSM_U8, TSM_F64};
    uint64_t n = 0;
    for (uint32_t e = 0; e < COUNT(edge_bytes); e++) {
        for (int kind = 0; kind < CASE_KINDS; kind++) {
            for (uint64_t off = 0; off < 3; off++) {
                struct collective_case k = {.kind = kind,
                                            .dtype = types[(n + e) % COUNT(types)],
                                            .op = case_reduces(kind) ? TSM_SUM : 0,
                                            .ranks = ranks,
                                            .root = (uint32_t)(n % ranks),
                                            .in_place = n / 2 % 2,
                                            .seed = n + 100};
                k.dtype = case_reduces(kind) && k.dtype == TSM_U8 ? TSM_I8 : k.dtype;
                k.count = edge_bytes[e] / tsm_dtype_bytes(k.dtype) + off - 1;
                if (case_is_valid(&k)) {
                    list[n++] = k;
                }
            }
        }
    }
    return n;
}

static void around_every_switch_of_algorithms_the_result_is_exact(void **state)
{
    (void)state;
    start(8);
    harness_start(worker);
    struct case_batch b = {.callable = cases, .list = shared_list(1000)};
    for (uint32_t ranks = 2; ranks <= 8; ranks += harness_quick() ? 3 : ranks == 3 ? 2 : 1) {
        b.count = edge_cases(ranks, b.list);
        assert_in_range(b.count, 400, 999);
        run_batch(&b);
    }
    harness_close(worker);
}

/* Few elements in all, most of them one rank's: widened, its part alone is more than an accumulator holds. */
static void one_rank_may_have_nearly_all_of_a_small_reduce_scatter(void **state)
{
    (void)state;
    start(3);
    harness_start(worker);
    struct case_batch b = {.callable = cases, .list = shared_list(200), .count = 200};
    for (uint64_t seed = 0; seed < b.count; seed++) {
        b.list[seed] = (struct collective_case){.kind = CASE_REDUCE_SCATTER_V,
                                                .dtype = seed % 2 ? TSM_F16 : TSM_BF16,
                                                .op = TSM_SUM,
                                                .ranks = 3,
                                                .count = 4096,
                                                .seed = seed};
    }
    run_batch(&b);
    harness_close(worker);
}

/* ---- the same bits ---- */

/* Sums whose result depends on the order: all ranks must have the bits of rank 0, for the same elements reduced as a
 * whole, in pieces of other sizes and by other collectives. Window: src, then whole, pieces, scanned. */
static int same_bits_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t count = tsm_task_scalar(t, 0), bytes = count * sizeof(float);
    uint32_t rank = tsm_rank(c), n = tsm_size(c);
    struct harness_random random;
    tsm_sym src;
    harness_random_init(&random, rank);
    EXPECT(t, tsm_at(c, 0, &src), 0);
    tsm_sym whole = tsm_offset(src, bytes), pieces = tsm_offset(whole, bytes);
    tsm_sym scanned = tsm_offset(pieces, bytes);
    float *x = tsm_ptr(c, src, rank);
    for (uint64_t i = 0; i < count; i++) {
        x[i] = ldexpf((float)harness_below(&random, 1 << 20) - 500000.0f,
                      (int)harness_below(&random, 40) - 20);
    }
    EXPECT(t, tsm_all_reduce(c, whole, src, count, TSM_F32, TSM_SUM), 0);
    for (uint64_t at = 0, size = 1; at < count; at += size, size = size * 3 + 1) {
        uint64_t left = count - at < size ? count - at : size;
        EXPECT(t,
               tsm_all_reduce(c, tsm_offset(pieces, at * 4), tsm_offset(src, at * 4), left, TSM_F32,
                              TSM_SUM),
               0);
    }
    EXPECT(t, tsm_scan(c, scanned, src, count, TSM_F32, TSM_SUM), 0);
    const void *own = tsm_ptr(c, whole, rank);
    EXPECT(t, memcmp(own, tsm_ptr(c, pieces, rank), bytes) != 0, 0);
    EXPECT(t, tsm_sync(c), 0);
    EXPECT(t, memcmp(own, tsm_ptr(c, whole, 0), bytes) != 0, 0);
    EXPECT(t, memcmp(own, tsm_ptr(c, scanned, n - 1), bytes) != 0, 0);
    EXPECT(t, tsm_sync(c), 0);
    EXPECT(t, tsm_reduce(c, pieces, src, count, TSM_F32, TSM_SUM, n / 2), 0);
    EXPECT(t, rank == n / 2 && memcmp(own, tsm_ptr(c, pieces, rank), bytes) != 0, 0);
    return 0;
}

static void a_sum_has_the_same_bits_on_all_ranks_and_by_every_way(void **state)
{
    (void)state;
    static const uint64_t counts[] = {5, 8, 9, 100, 1024, 1025, 2048, 2049, 30000};
    start(8);
    struct team g = {.callable = harness_register(worker, "same_bits", same_bits_task)};
    harness_start(worker);
    for (g.ranks = 2; g.ranks <= 8; g.ranks += 2) {
        for (uint32_t i = 0; i < COUNT(counts); i++) {
            g.scalars[0] = counts[i];
            g.window_bytes = counts[i] * 16;
            assert_code(worker, tsm_worker_run(worker, team_orch, &g), 0);
        }
    }
    harness_close(worker);
}

/* ---- an operation of one's own ---- */

enum { MODULUS = 65521 };

/* A 2x2 matrix modulo a prime: to multiply them is associative and depends on the order. */
struct matrix {
    uint32_t m[4];
};

static struct matrix multiply(struct matrix a, struct matrix b)
{
    struct matrix r;
    for (int i = 0; i < 4; i++) {
        uint64_t left = (uint64_t)a.m[i & 2] * b.m[i & 1];
        uint64_t right = (uint64_t)a.m[(i & 2) + 1] * b.m[(i & 1) + 2];
        r.m[i] = (uint32_t)((left + right) % MODULUS);
    }
    return r;
}

static struct matrix matrix_of(uint32_t rank, uint64_t i)
{
    struct matrix r;
    for (uint32_t k = 0; k < 4; k++) {
        r.m[k] = (uint32_t)(case_mix(i, rank, k) % MODULUS);
    }
    return r;
}

/* An element is four 16-bit numbers in a u64, so that no piece of a buffer cuts one. */
static uint64_t packed(struct matrix a)
{
    return a.m[0] | (uint64_t)a.m[1] << 16 | (uint64_t)a.m[2] << 32 | (uint64_t)a.m[3] << 48;
}

static struct matrix unpacked(uint64_t x)
{
    return (struct matrix){{x & 0xffff, x >> 16 & 0xffff, x >> 32 & 0xffff, (uint32_t)(x >> 48)}};
}

static void combine_matrices(void *into, const void *from, uint64_t count, int dtype, void *arg)
{
    uint64_t *a = into;
    const uint64_t *b = from;
    *(uint64_t *)arg += dtype == TSM_U64 ? count : 0;
    for (uint64_t i = 0; i < count; i++) {
        a[i] = packed(multiply(unpacked(a[i]), unpacked(b[i])));
    }
}

static uint64_t product_of(uint32_t ranks, uint64_t i)
{
    struct matrix acc = matrix_of(0, i);
    for (uint32_t r = 1; r < ranks; r++) {
        acc = multiply(acc, matrix_of(r, i));
    }
    return packed(acc);
}

static int matrix_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t count = tsm_task_scalar(t, 0), combined = 0;
    uint32_t rank = tsm_rank(c), n = tsm_size(c);
    int unused, op;
    tsm_sym src;
    EXPECT(t, tsm_op_user(t, combine_matrices, &combined, &unused), 0);
    EXPECT(t, tsm_op_user(t, combine_matrices, &combined, &op), 0);
    EXPECT(t, tsm_at(c, 0, &src), 0);
    tsm_sym dst = tsm_offset(src, count * 8);
    uint64_t *x = tsm_ptr(c, src, rank);
    const uint64_t *y = tsm_ptr(c, dst, rank);
    for (uint64_t i = 0; i < count; i++) {
        x[i] = packed(matrix_of(rank, i));
    }
    EXPECT(t, tsm_scan(c, dst, src, count, TSM_U64, op), 0);
    for (uint64_t i = 0; i < count; i++) {
        EXPECT(t, y[i] != product_of(rank + 1, i), 0);
    }
    EXPECT(t, tsm_all_reduce(c, src, src, count, TSM_U64, op), 0);
    for (uint64_t i = 0; i < count; i++) {
        EXPECT(t, x[i] != product_of(n, i), 0);
    }
    return n > 1 && combined == 0 ? tsm_fail(t, "never called") : 0;
}

static void an_operation_of_ones_own_is_combined_in_the_order_of_ranks(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 4, 5, 64, 1000, 5000};
    start(8);
    struct team g = {.callable = harness_register(worker, "matrix", matrix_task)};
    harness_start(worker);
    for (g.ranks = 1; g.ranks <= 8; g.ranks++) {
        for (uint32_t i = 0; i < COUNT(counts); i++) {
            g.scalars[0] = counts[i];
            g.window_bytes = counts[i] * 16;
            assert_code(worker, tsm_worker_run(worker, team_orch, &g), 0);
        }
    }
    harness_close(worker);
}

static int many_ops_task(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t combined = 0;
    int op = 0, last = 0;
    tsm_sym s;
    EXPECT(t, tsm_op_user(t, NULL, NULL, &op), TSM_EINVAL);
    for (int i = 0; i < 16; i++) {
        EXPECT(t, tsm_op_user(t, combine_matrices, &combined, &op), 0);
        EXPECT(t, op <= TSM_XOR || op == last, 0);
        last = op;
    }
    EXPECT(t, tsm_op_user(t, combine_matrices, &combined, &op), TSM_ENOSPC);
    EXPECT(t, tsm_at(c, 0, &s), 0);
    EXPECT(t, tsm_all_reduce(c, s, s, 1, TSM_U64, last), 0);
    EXPECT(t, tsm_all_reduce(c, s, s, 1, TSM_U64, last + 1), TSM_EINVAL);
    return 0;
}

static void a_task_has_up_to_16_operations_and_none_of_the_task_before(void **state)
{
    (void)state;
    start(2);
    struct team g = {.callable = harness_register(worker, "many_ops", many_ops_task),
                     .ranks = 2,
                     .window_bytes = 64};
    harness_start(worker);
    for (int i = 0; i < 3; i++) {
        assert_code(worker, tsm_worker_run(worker, team_orch, &g), 0);
    }
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_pair_of_arguments_gives_what_they_say),
        TEST(around_every_switch_of_algorithms_the_result_is_exact),
        TEST(one_rank_may_have_nearly_all_of_a_small_reduce_scatter),
        TEST(a_sum_has_the_same_bits_on_all_ranks_and_by_every_way),
        TEST(an_operation_of_ones_own_is_combined_in_the_order_of_ranks),
        TEST(a_task_has_up_to_16_operations_and_none_of_the_task_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tags for windows. The same all-to-all, halo exchange and pipeline are written once with signals inside one group
 * and once as tasks that say which ranks' windows they read and write, and nothing else; both must give the bits of a
 * plain loop. Each test prints what a round cost in both forms. docs/domains.md shows the code.
 */
#include "domain_help.h"

enum { RANKS_MAX = 4, REPEATS = 5 };

static tsm_worker *worker;

/* One pattern over some ranks: what both forms and the reference are given. */
struct job {
    uint32_t ranks;
    uint64_t rounds;
    int chips[RANKS_MAX];
    tsm_domain *domain;
    uint64_t *out; /* the result of all ranks, one behind the other */
};

struct pattern {
    const char *name;
    const struct tsm_buffer_spec *buffers;
    uint32_t buffer_count;
    uint64_t out_words; /* of a job with RANKS_MAX ranks */
    uint64_t rounds;
    tsm_task_fn *signals_task;
    int (*submit_tags)(tsm_orch *o, const struct job *job);
    int (*collect)(tsm_orch *o, const struct job *job);
    void (*reference)(const struct job *job, uint64_t *out);
};

static tsm_callable signals_call;

/* ---- shared by the patterns ---- */

/* Not linear, so that a lost, repeated or reordered value changes all that follows. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

static struct tsm_tensor part(const struct job *job, uint32_t rank, const char *buffer,
                              uint64_t first, uint64_t count, int tag)
{
    struct tsm_tensor t;
    assert_code(worker, tsm_domain_tensor(job->domain, rank, buffer, first, count, tag, &t), 0);
    return t;
}

static int submit(tsm_orch *o, const struct job *job, tsm_callable callable, uint32_t rank,
                  struct tsm_tensor *tensors, uint32_t count, uint64_t scalar)
{
    const uint64_t scalars[] = {scalar, rank, job->ranks};
    struct tsm_call call = {.callable = callable,
                            .chip = job->chips[rank],
                            .tensors = tensors,
                            .tensor_count = count,
                            .scalars = scalars,
                            .scalar_count = COUNT(scalars)};
    return tsm_submit(o, &call, NULL);
}

static void must(int rc)
{
    assert_code(worker, rc, 0);
}

/* Waits for who writes the buffer and copies it out. */
static int fetch(tsm_orch *o, const struct job *job, uint32_t rank, const char *buffer,
                 uint64_t first, uint64_t words, uint64_t *into)
{
    struct tsm_tensor t = part(job, rank, buffer, first, words, TSM_INPUT);
    return tsm_copy_from(o, job->chips[rank], into, t.data, words * sizeof(*into));
}

/* What a task of the signal form gets. */
struct view {
    tsm_ctx *c;
    uint32_t rank, ranks;
    uint64_t rounds;
};

static struct view view_of(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    return (struct view){c, tsm_rank(c), tsm_size(c), tsm_task_scalar(t, 0)};
}

/* A buffer of the own window. */
static uint64_t *own(const struct view *v, const char *buffer)
{
    tsm_sym s;
    return tsm_buffer(v->c, buffer, &s, NULL) == 0 ? tsm_ptr(v->c, s, v->rank) : NULL;
}

/* ---- all-to-all: every rank sends a block to every rank, then changes its state by what it got ---- */

enum { BLOCK = 48, BLOCK_BYTES = BLOCK * 8 };

static void make_state(uint64_t *state, uint32_t rank)
{
    for (uint64_t i = 0; i < BLOCK; i++) {
        state[i] = mix(rank * 1000 + i + 1);
    }
}

static void make_block(uint64_t *block, const uint64_t *state, uint32_t to)
{
    for (uint32_t i = 0; i < BLOCK; i++) {
        block[i] = mix(state[i] + to);
    }
}

static void take_blocks(uint64_t *state, const uint64_t *blocks, uint32_t ranks)
{
    for (uint32_t from = 0; from < ranks; from++) {
        for (uint32_t i = 0; i < BLOCK; i++) {
            state[i] = mix(state[i] ^ blocks[from * BLOCK + i]);
        }
    }
}

/* Two sets of slots: who has the others' blocks of one round knows that they have read those of the round before. */
static int exchange_signals_task(tsm_task *t)
{
    struct view v = view_of(t);
    uint64_t block[BLOCK], *state = own(&v, "state");
    tsm_sym slots, arrived, all[RANKS_MAX];
    EXPECT(t, tsm_buffer(v.c, "slots", &slots, NULL), 0);
    EXPECT(t, tsm_buffer(v.c, "signals", &arrived, NULL), 0);
    for (uint32_t r = 0; r < v.ranks; r++) {
        all[r] = tsm_offset(arrived, r * 8);
    }
    make_state(state, v.rank);
    for (uint64_t round = 1; round <= v.rounds; round++) {
        tsm_sym set = tsm_offset(slots, round % 2 * RANKS_MAX * BLOCK_BYTES);
        EXPECT(t, tsm_fence(v.c), 0); /* not before the signals of the round before */
        for (uint32_t to = 0; to < v.ranks; to++) {
            make_block(block, state, to);
            EXPECT(t,
                   tsm_put_signal(v.c, tsm_offset(set, v.rank * BLOCK_BYTES), block, BLOCK_BYTES,
                                  all[v.rank], round, TSM_SIGNAL_SET, to),
                   0);
        }
        EXPECT(t, tsm_signal_wait_all(v.c, all, v.ranks, TSM_GE, round, -1), 0);
        take_blocks(state, tsm_ptr(v.c, set, v.rank), v.ranks);
    }
    return 0;
}

static tsm_callable begin_exchange, send_blocks, receive_blocks;

static int begin_exchange_task(tsm_task *t)
{
    make_state(tsm_task_data(t, 0), (uint32_t)tsm_task_scalar(t, 1));
    return 0;
}

static int send_blocks_task(tsm_task *t)
{
    for (uint32_t to = 0; to + 1 < tsm_task_tensor_count(t); to++) {
        make_block(tsm_task_data(t, 1 + to), tsm_task_data(t, 0), to);
    }
    return 0;
}

static int receive_blocks_task(tsm_task *t)
{
    take_blocks(tsm_task_data(t, 0), tsm_task_data(t, 1), (uint32_t)tsm_task_scalar(t, 2));
    return 0;
}

static int exchange_tags(tsm_orch *o, const struct job *job)
{
    for (uint32_t r = 0; r < job->ranks; r++) {
        struct tsm_tensor state = part(job, r, "state", 0, TSM_REST, TSM_OUTPUT_EXISTING);
        must(submit(o, job, begin_exchange, r, &state, 1, 0));
    }
    for (uint64_t round = 0; round < job->rounds; round++) {
        for (uint32_t r = 0; r < job->ranks; r++) {
            struct tsm_tensor args[1 + RANKS_MAX] = {part(job, r, "state", 0, BLOCK, TSM_INPUT)};
            for (uint32_t to = 0; to < job->ranks; to++) {
                args[1 + to] = part(job, to, "slots", r * BLOCK, BLOCK, TSM_OUTPUT_EXISTING);
            }
            must(submit(o, job, send_blocks, r, args, 1 + job->ranks, 0));
        }
        for (uint32_t r = 0; r < job->ranks; r++) {
            struct tsm_tensor args[] = {part(job, r, "state", 0, BLOCK, TSM_INOUT),
                                        part(job, r, "slots", 0, job->ranks * BLOCK, TSM_INPUT)};
            must(submit(o, job, receive_blocks, r, args, COUNT(args), 0));
        }
    }
    return 0;
}

static int exchange_collect(tsm_orch *o, const struct job *job)
{
    for (uint32_t r = 0; r < job->ranks; r++) {
        must(fetch(o, job, r, "state", 0, BLOCK, &job->out[r * BLOCK]));
    }
    return 0;
}

static void exchange_reference(const struct job *job, uint64_t *out)
{
    static uint64_t slots[RANKS_MAX][RANKS_MAX * BLOCK];
    for (uint32_t r = 0; r < job->ranks; r++) {
        make_state(&out[r * BLOCK], r);
    }
    for (uint64_t round = 0; round < job->rounds; round++) {
        for (uint32_t r = 0; r < job->ranks; r++) {
            for (uint32_t to = 0; to < job->ranks; to++) {
                make_block(&slots[to][r * BLOCK], &out[r * BLOCK], to);
            }
        }
        for (uint32_t r = 0; r < job->ranks; r++) {
            take_blocks(&out[r * BLOCK], slots[r], job->ranks);
        }
    }
}

static const struct tsm_buffer_spec exchange_buffers[] = {
    {.name = "state", .dtype = TSM_U64, .count = BLOCK},
    {.name = "slots", .dtype = TSM_U64, .count = 2 * RANKS_MAX * BLOCK},
    {.name = "signals", .dtype = TSM_U64, .count = RANKS_MAX}};

/* ---- halo exchange: a grid in strips of rows; a row becomes a mixture of itself and its neighbours ---- */

enum { WIDTH = 40, ROW_BYTES = WIDTH * 8, ROWS_MAX = 5 + RANKS_MAX };

/* Strips are not of one height. */
static uint32_t rows_of(uint32_t rank)
{
    return 5 + rank;
}

static uint64_t row_before(uint32_t rank)
{
    uint64_t n = 0;
    for (uint32_t r = 0; r < rank; r++) {
        n += rows_of(r);
    }
    return n;
}

static void make_rows(uint64_t *rows, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count * WIDTH; i++) {
        rows[i] = mix(first * WIDTH + i);
    }
}

/* above and below: the rows next to these, NULL at the edge of the grid. */
static void mix_rows(uint64_t *out, const uint64_t *in, uint64_t rows, const uint64_t *above,
                     const uint64_t *below)
{
    for (uint64_t y = 0; y < rows; y++) {
        const uint64_t *row = &in[y * WIDTH];
        const uint64_t *up = y > 0 ? row - WIDTH : above;
        const uint64_t *down = y + 1 < rows ? row + WIDTH : below;
        for (uint32_t x = 0; x < WIDTH; x++) {
            out[y * WIDTH + x] = mix(row[x] + 3 * (up ? up[x] : 0) + 5 * (down ? down[x] : 0));
        }
    }
}

static const char *const halves[] = {"even", "odd"};

/* Two sets of slots, as above: [set][from above, from below]. */
static int halo_signals_task(tsm_task *t)
{
    struct view v = view_of(t);
    uint64_t *half[] = {own(&v, halves[0]), own(&v, halves[1])};
    uint32_t rows = rows_of(v.rank);
    bool has_above = v.rank > 0, has_below = v.rank + 1 < v.ranks;
    tsm_sym slots, arrived;
    EXPECT(t, tsm_buffer(v.c, "slots", &slots, NULL), 0);
    EXPECT(t, tsm_buffer(v.c, "signals", &arrived, NULL), 0);
    const tsm_sym from_below = tsm_offset(arrived, 8);
    make_rows(half[0], row_before(v.rank), rows);
    for (uint64_t round = 1; round <= v.rounds; round++) {
        const uint64_t *in = half[(round - 1) % 2];
        tsm_sym above = tsm_offset(slots, round % 2 * 2 * ROW_BYTES);
        tsm_sym below = tsm_offset(above, ROW_BYTES);
        EXPECT(t, tsm_fence(v.c), 0);
        if (has_above) {
            EXPECT(t,
                   tsm_put_signal(v.c, below, in, ROW_BYTES, from_below, round, TSM_SIGNAL_SET,
                                  v.rank - 1),
                   0);
        }
        if (has_below) {
            EXPECT(t,
                   tsm_put_signal(v.c, above, &in[(rows - 1) * WIDTH], ROW_BYTES, arrived, round,
                                  TSM_SIGNAL_SET, v.rank + 1),
                   0);
            EXPECT(t, tsm_signal_wait_until(v.c, from_below, TSM_GE, round, NULL, -1), 0);
        }
        if (has_above) {
            EXPECT(t, tsm_signal_wait_until(v.c, arrived, TSM_GE, round, NULL, -1), 0);
        }
        mix_rows(half[round % 2], in, rows, has_above ? tsm_ptr(v.c, above, v.rank) : NULL,
                 has_below ? tsm_ptr(v.c, below, v.rank) : NULL);
    }
    return 0;
}

static tsm_callable begin_halo, mix_strip;

static int begin_halo_task(tsm_task *t)
{
    uint32_t rank = (uint32_t)tsm_task_scalar(t, 1);
    make_rows(tsm_task_data(t, 0), row_before(rank), rows_of(rank));
    return 0;
}

/* Reads the neighbours' rows where they are: in the neighbours' windows. */
static int mix_strip_task(tsm_task *t)
{
    uint32_t rank = (uint32_t)tsm_task_scalar(t, 1), next = 2;
    const uint64_t *above = rank > 0 ? tsm_task_data(t, next++) : NULL;
    mix_rows(tsm_task_data(t, 1), tsm_task_data(t, 0), rows_of(rank), above,
             tsm_task_data(t, next));
    return 0;
}

static int halo_tags(tsm_orch *o, const struct job *job)
{
    for (uint32_t r = 0; r < job->ranks; r++) {
        struct tsm_tensor all = part(job, r, halves[0], 0, TSM_REST, TSM_OUTPUT_EXISTING);
        must(submit(o, job, begin_halo, r, &all, 1, 0));
    }
    for (uint64_t round = 0; round < job->rounds; round++) {
        const char *in = halves[round % 2], *out = halves[1 - round % 2];
        for (uint32_t r = 0; r < job->ranks; r++) {
            uint64_t cells = rows_of(r) * WIDTH;
            uint32_t count = 2;
            struct tsm_tensor args[4] = {part(job, r, in, 0, cells, TSM_INPUT),
                                         part(job, r, out, 0, cells, TSM_OUTPUT_EXISTING)};
            if (r > 0) {
                uint64_t last = (rows_of(r - 1) - 1) * WIDTH;
                args[count++] = part(job, r - 1, in, last, WIDTH, TSM_INPUT);
            }
            if (r + 1 < job->ranks) {
                args[count++] = part(job, r + 1, in, 0, WIDTH, TSM_INPUT);
            }
            must(submit(o, job, mix_strip, r, args, count, 0));
        }
    }
    return 0;
}

static int halo_collect(tsm_orch *o, const struct job *job)
{
    for (uint32_t r = 0; r < job->ranks; r++) {
        must(fetch(o, job, r, halves[job->rounds % 2], 0, rows_of(r) * WIDTH,
                   &job->out[row_before(r) * WIDTH]));
    }
    return 0;
}

static void halo_reference(const struct job *job, uint64_t *out)
{
    static uint64_t half[2][RANKS_MAX * ROWS_MAX * WIDTH];
    uint64_t rows = row_before(job->ranks);
    make_rows(half[0], 0, rows);
    for (uint64_t round = 0; round < job->rounds; round++) {
        mix_rows(half[1 - round % 2], half[round % 2], rows, NULL, NULL);
    }
    memcpy(out, half[job->rounds % 2], rows * ROW_BYTES);
}

static const struct tsm_buffer_spec halo_buffers[] = {
    {.name = "even", .dtype = TSM_U64, .count = ROWS_MAX * WIDTH},
    {.name = "odd", .dtype = TSM_U64, .count = ROWS_MAX * WIDTH},
    {.name = "slots", .dtype = TSM_U64, .count = 4 * WIDTH},
    {.name = "signals", .dtype = TSM_U64, .count = 2}};

/* ---- pipeline: items pass through all ranks; each stage has a state, so their order matters ---- */

enum { ITEM = 24, ITEM_BYTES = ITEM * 8, SLOTS = 3, ITEMS_MAX = 200 };

/* in NULL: the first stage makes item number k. */
static void pass_item(uint64_t *out, const uint64_t *in, uint64_t *state, uint64_t k)
{
    *state = mix(*state ^ (in ? in[0] : k));
    for (uint32_t i = 0; i < ITEM; i++) {
        out[i] = mix((in ? in[i] : k * ITEM + i) + *state);
    }
}

/* signals[0]: items that have come. signals[1]: items that the next stage has taken, the credit. */
static int pipeline_signals_task(tsm_task *t)
{
    struct view v = view_of(t);
    uint64_t item[ITEM], *state = own(&v, "state"), *out = own(&v, "out");
    bool first = v.rank == 0, last = v.rank + 1 == v.ranks;
    tsm_sym slots, come;
    EXPECT(t, tsm_buffer(v.c, "slots", &slots, NULL), 0);
    EXPECT(t, tsm_buffer(v.c, "signals", &come, NULL), 0);
    const tsm_sym taken = tsm_offset(come, 8);
    for (uint64_t k = 0; k < v.rounds; k++) {
        tsm_sym slot = tsm_offset(slots, k % SLOTS * ITEM_BYTES);
        if (!first) {
            EXPECT(t, tsm_signal_wait_until(v.c, come, TSM_GT, k, NULL, -1), 0);
        }
        pass_item(last ? &out[k * ITEM] : item, first ? NULL : tsm_ptr(v.c, slot, v.rank), state,
                  k);
        if (!first) {
            EXPECT(t, tsm_signal(v.c, taken, 1, TSM_SIGNAL_ADD, v.rank - 1), 0);
        }
        if (!last && k >= SLOTS) {
            EXPECT(t, tsm_signal_wait_until(v.c, taken, TSM_GT, k - SLOTS, NULL, -1), 0);
        }
        if (!last) {
            EXPECT(t, tsm_fence(v.c), 0);
            EXPECT(t,
                   tsm_put_signal(v.c, slot, item, ITEM_BYTES, come, k + 1, TSM_SIGNAL_SET,
                                  v.rank + 1),
                   0);
        }
    }
    return 0;
}

static tsm_callable pass_on;

/* Tensors: state, out, and in unless it is the first stage. */
static int pass_on_task(tsm_task *t)
{
    pass_item(tsm_task_data(t, 1), tsm_task_data(t, 2), tsm_task_data(t, 0), tsm_task_scalar(t, 0));
    return 0;
}

static int pipeline_tags(tsm_orch *o, const struct job *job)
{
    for (uint64_t k = 0; k < job->rounds; k++) {
        uint64_t slot = k % SLOTS * ITEM;
        for (uint32_t r = 0; r < job->ranks; r++) {
            bool last = r + 1 == job->ranks;
            struct tsm_tensor args[3] = {
                part(job, r, "state", 0, 1, TSM_INOUT),
                last ? part(job, r, "out", k * ITEM, ITEM, TSM_OUTPUT_EXISTING)
                     : part(job, r + 1, "slots", slot, ITEM, TSM_OUTPUT_EXISTING)};
            if (r > 0) {
                args[2] = part(job, r, "slots", slot, ITEM, TSM_INPUT);
            }
            must(submit(o, job, pass_on, r, args, r > 0 ? 3 : 2, k));
        }
    }
    return 0;
}

static int pipeline_collect(tsm_orch *o, const struct job *job)
{
    return fetch(o, job, job->ranks - 1, "out", 0, job->rounds * ITEM, job->out);
}

static void pipeline_reference(const struct job *job, uint64_t *out)
{
    uint64_t state[RANKS_MAX] = {0};
    for (uint64_t k = 0; k < job->rounds; k++) {
        uint64_t item[2][ITEM];
        for (uint32_t r = 0; r < job->ranks; r++) {
            pass_item(item[r % 2], r > 0 ? item[1 - r % 2] : NULL, &state[r], k);
        }
        memcpy(&out[k * ITEM], item[(job->ranks - 1) % 2], ITEM_BYTES);
    }
}

static const struct tsm_buffer_spec pipeline_buffers[] = {
    {.name = "state", .dtype = TSM_U64, .count = 1},
    {.name = "slots", .dtype = TSM_U64, .count = SLOTS * ITEM},
    {.name = "out", .dtype = TSM_U64, .count = ITEMS_MAX * ITEM},
    {.name = "signals", .dtype = TSM_U64, .count = 2}};

/* ---- the three, in both forms ---- */

enum { EXCHANGE, HALO, PIPELINE };
static const struct pattern patterns[] = {
    {"all-to-all", exchange_buffers, COUNT(exchange_buffers), RANKS_MAX *BLOCK, 60,
     exchange_signals_task, exchange_tags, exchange_collect, exchange_reference},
    {"halo exchange", halo_buffers, COUNT(halo_buffers), RANKS_MAX *ROWS_MAX *WIDTH, 61,
     halo_signals_task, halo_tags, halo_collect, halo_reference},
    {"pipeline", pipeline_buffers, COUNT(pipeline_buffers), ITEMS_MAX *ITEM, ITEMS_MAX,
     pipeline_signals_task, pipeline_tags, pipeline_collect, pipeline_reference},
};

struct form {
    const struct pattern *pattern;
    struct job job;
    bool tags;
};

/* One group. Each member says that it writes its own window: so that what reads the result follows it. */
static int submit_signals(tsm_orch *o, const struct job *job)
{
    struct tsm_call members[RANKS_MAX];
    struct tsm_tensor window[RANKS_MAX];
    for (uint32_t r = 0; r < job->ranks; r++) {
        window[r] = part(job, r, NULL, 0, TSM_REST, TSM_INOUT);
        members[r] = (struct tsm_call){.callable = signals_call,
                                       .chip = job->chips[r],
                                       .tensors = &window[r],
                                       .tensor_count = 1,
                                       .scalars = &job->rounds,
                                       .scalar_count = 1,
                                       .domains = &job->domain,
                                       .domain_count = 1};
    }
    return tsm_submit_group(o, members, job->ranks, NULL);
}

static int form_orch(tsm_orch *o, void *arg)
{
    struct form *f = arg;
    struct job *job = &f->job;
    struct tsm_domain_opts opts = help_domain_opts("team", job->chips, job->ranks, 64u << 10);
    opts.buffers = f->pattern->buffers;
    opts.buffer_count = f->pattern->buffer_count;
    must(tsm_domain_alloc(o, &opts, &job->domain));
    must(f->tags ? f->pattern->submit_tags(o, job) : submit_signals(o, job));
    return f->pattern->collect(o, job);
}

static void start(const struct pattern *p, uint32_t chips)
{
    worker = harness_worker(chips, 1);
    if (p) {
        signals_call = harness_register(worker, "signals", p->signals_task);
    }
    begin_exchange = harness_register(worker, "begin_exchange", begin_exchange_task);
    send_blocks = harness_register(worker, "send_blocks", send_blocks_task);
    receive_blocks = harness_register(worker, "receive_blocks", receive_blocks_task);
    begin_halo = harness_register(worker, "begin_halo", begin_halo_task);
    mix_strip = harness_register(worker, "mix_strip", mix_strip_task);
    pass_on = harness_register(worker, "pass_on", pass_on_task);
}

/* Microseconds of a round in the quickest of some runs, all of which must give the expected words. */
static double run_form(const struct pattern *p, struct job *job, bool tags,
                       const uint64_t *expected)
{
    struct form f = {p, *job, tags};
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < REPEATS; i++) {
        memset(job->out, 0, p->out_words * sizeof(uint64_t));
        uint64_t begin = harness_now_ns();
        must(tsm_worker_run(worker, form_orch, &f));
        uint64_t took = harness_now_ns() - begin;
        best = took < best ? took : best;
        assert_memory_equal(job->out, expected, p->out_words * sizeof(uint64_t));
    }
    return (double)best / 1e3 / (double)job->rounds;
}

static void check_pattern(const struct pattern *p)
{
    uint64_t *expected = calloc(p->out_words, sizeof(uint64_t));
    uint64_t *out = calloc(p->out_words, sizeof(uint64_t));
    assert_true(expected && out);
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks++) {
        struct job job = {.ranks = ranks, .rounds = p->rounds, .out = out};
        for (uint32_t r = 0; r < ranks; r++) { /* rank and chip are not the same number */
            job.chips[r] = (int)((r + 1) % ranks);
        }
        start(p, ranks);
        harness_start(worker);
        memset(expected, 0, p->out_words * sizeof(uint64_t));
        p->reference(&job, expected);
        double signals = run_form(p, &job, false, expected);
        double tags = run_form(p, &job, true, expected);
        print_message("%s, %u chips, a round: %.1f us with signals, %.1f us with tags\n", p->name,
                      ranks, signals, tags);
        harness_close(worker);
    }
    free(expected);
    free(out);
}

static void an_all_to_all_with_tags_alone_gives_the_bits_of_the_one_with_signals(void **state)
{
    (void)state;
    check_pattern(&patterns[EXCHANGE]);
}

static void a_halo_exchange_with_tags_alone_gives_the_bits_of_the_one_with_signals(void **state)
{
    (void)state;
    check_pattern(&patterns[HALO]);
}

static void a_pipeline_with_tags_alone_gives_the_bits_of_the_one_with_signals(void **state)
{
    (void)state;
    check_pattern(&patterns[PIPELINE]);
}

/* ---- what is ordered and what is not ---- */

static _Atomic uint64_t *gate;
static tsm_callable held, write_words, add_words;

/* Writes 7 into its first word when the gate is open. */
static int held_task(tsm_task *t)
{
    int rc = help_gate_task(t);
    *(uint64_t *)tsm_task_data(t, 0) = 7;
    return rc;
}

static int write_words_task(tsm_task *t)
{
    struct tsm_tensor x;
    EXPECT(t, tsm_task_tensor(t, 0, &x), 0);
    for (uint64_t i = 0; i < x.shape[0]; i++) {
        ((uint64_t *)x.data)[i] = tsm_task_scalar(t, 0);
    }
    return 0;
}

/* Adds all words of tensor 0 to the word of tensor 1. */
static int add_words_task(tsm_task *t)
{
    struct tsm_tensor x;
    uint64_t *sum = tsm_task_data(t, 1);
    EXPECT(t, tsm_task_tensor(t, 0, &x), 0);
    for (uint64_t i = 0; i < x.shape[0]; i++) {
        *sum += ((const uint64_t *)x.data)[i];
    }
    return 0;
}

static void start_words(uint32_t chips)
{
    start(NULL, chips);
    held = harness_register(worker, "held", held_task);
    write_words = harness_register(worker, "write_words", write_words_task);
    add_words = harness_register(worker, "add_words", add_words_task);
    harness_start(worker);
    gate = help_gate(worker);
}

static struct job alloc_words(tsm_orch *o, uint32_t ranks)
{
    const struct tsm_buffer_spec words[] = {{.name = "x", .dtype = TSM_U64, .count = 16},
                                            {.name = "y", .dtype = TSM_U64, .count = 1}};
    struct job job = {.ranks = ranks, .chips = {0, 1, 2, 3}};
    struct tsm_domain_opts opts = help_domain_opts("words", job.chips, ranks, 256);
    opts.buffers = words;
    opts.buffer_count = COUNT(words);
    must(tsm_domain_alloc(o, &opts, &job.domain));
    return job;
}

/* Chip 0 is kept in a task that writes the first half of its window. Others write the second half, and another window,
 * and are done before the gate opens; the program reads what they wrote. */
static int independent_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job job = alloc_words(o, 2);
    uint64_t waits = help_stats(worker).waits, x[16], sum = 0;
    struct tsm_tensor first = part(&job, 0, "x", 0, 8, TSM_OUTPUT_EXISTING);
    struct tsm_tensor second = part(&job, 0, "x", 8, TSM_REST, TSM_OUTPUT_EXISTING);
    struct tsm_tensor other = part(&job, 1, "x", 0, TSM_REST, TSM_OUTPUT_EXISTING);
    must(submit(o, &job, held, 0, &first, 1, help_pointer((void *)gate)));
    must(submit(o, &job, write_words, 1, &second, 1, 5));
    must(submit(o, &job, write_words, 1, &other, 1, 6));
    assert_int_equal(help_stats(worker).waits, waits);
    must(fetch(o, &job, 0, "x", 8, 8, x));
    must(fetch(o, &job, 1, "x", 0, 16, &x[0]));
    assert_true(x[0] == 6 && x[15] == 6);
    must(fetch(o, &job, 0, "x", 8, 8, &x[8]));
    assert_true(x[8] == 5 && x[15] == 5);

    /* Reads all of it, so it follows the one at the gate: one wait. */
    waits = help_stats(worker).waits;
    struct tsm_tensor all[] = {part(&job, 0, "x", 0, TSM_REST, TSM_INPUT),
                               part(&job, 1, "y", 0, 1, TSM_INOUT)};
    must(submit(o, &job, add_words, 1, all, COUNT(all), 0));
    assert_int_equal(help_stats(worker).waits, waits + 1);
    atomic_store(gate, 1);
    must(fetch(o, &job, 1, "y", 0, 1, &sum));
    assert_int_equal(sum, 7 + 8 * 5);
    return 0;
}

static void only_tasks_whose_parts_of_windows_overlap_are_ordered(void **state)
{
    (void)state;
    start_words(2);
    must(tsm_worker_run(worker, independent_orch, NULL));
    harness_close(worker);
}

static int strangers_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job job = alloc_words(o, 1);
    uint64_t sum = 0;
    struct tsm_tensor x = part(&job, 0, "x", 0, TSM_REST, TSM_OUTPUT_EXISTING);
    must(submit(o, &job, write_words, 1, &x, 1, 3)); /* chip 1 is no member */
    struct tsm_tensor args[] = {part(&job, 0, "x", 4, 2, TSM_INPUT),
                                part(&job, 0, "y", 0, 1, TSM_INOUT)};
    job.chips[2] = TSM_SUB;
    must(submit(o, &job, add_words, 2, args, COUNT(args), 0));
    must(submit(o, &job, add_words, 1, args, COUNT(args), 0));
    must(fetch(o, &job, 0, "y", 0, 1, &sum));
    assert_int_equal(sum, 12);
    return 0;
}

static void a_chip_that_is_no_member_and_a_sub_worker_may_use_a_window(void **state)
{
    (void)state;
    start_words(2);
    must(tsm_worker_run(worker, strangers_orch, NULL));
    harness_close(worker);
}

/* ---- tsm_domain_tensor ---- */

static int parts_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job job = alloc_words(o, 2);
    struct tsm_domain_context c;
    struct tsm_tensor whole, x;
    must(tsm_domain_context(job.domain, 1, &c));
    must(tsm_domain_tensor(job.domain, 1, NULL, 0, TSM_REST, TSM_INOUT, &whole));
    assert_ptr_equal(whole.data, c.window);
    assert_true(whole.dtype == TSM_U8 && whole.tag == TSM_INOUT && whole.ndim == 1);
    assert_int_equal(whole.shape[0], c.window_bytes);
    must(tsm_domain_buffer(job.domain, 1, "x", &x));
    static const struct {
        uint64_t first, count, shape;
    } parts[] = {{0, 16, 16}, {0, TSM_REST, 16}, {3, 5, 5},         {3, TSM_REST, 13},
                 {15, 1, 1},  {16, 0, 0},        {16, TSM_REST, 0}, {0, 0, 0}};
    for (uint32_t i = 0; i < COUNT(parts); i++) {
        struct tsm_tensor t = part(&job, 1, "x", parts[i].first, parts[i].count, 0);
        assert_int_equal(help_pointer(t.data), help_pointer(x.data) + parts[i].first * 8);
        assert_int_equal(t.shape[0], parts[i].shape);
        assert_true(t.dtype == TSM_U64 && t.tag == TSM_INPUT && t.ndim == 1 && !t.stride_given);
    }
    return 0;
}

static void a_part_of_a_window_is_the_bytes_that_were_asked_for(void **state)
{
    (void)state;
    start_words(2);
    must(tsm_worker_run(worker, parts_orch, NULL));
    harness_close(worker);
}

static int refused_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job job = alloc_words(o, 2);
    static const struct {
        uint32_t rank;
        const char *buffer;
        uint64_t first, count;
        int tag, code;
        const char *text;
    } wrong[] = {
        {2, "x", 0, 1, TSM_INPUT, TSM_ERANGE, "rank is 2; there are ranks 0 to 1"},
        {UINT32_MAX, NULL, 0, 1, TSM_INPUT, TSM_ERANGE, "rank is 4294967295"},
        {0, "z", 0, 1, TSM_INPUT, TSM_ENOENT, "has no buffer 'z'"},
        {0, "", 0, 1, TSM_INPUT, TSM_ENOENT, "has no buffer ''"},
        {0, "x", 17, 0, TSM_INPUT, TSM_ERANGE, "first is 17 and count 0, but buffer 'x' has 16"},
        {0, "x", 17, TSM_REST, TSM_INPUT, TSM_ERANGE, "first is 17"},
        {0, "x", 10, 7, TSM_INPUT, TSM_ERANGE, "count 7"},
        {0, "x", 1, UINT64_MAX - 1, TSM_INPUT, TSM_ERANGE, "count 18446744073709551614"},
        {0, "x", UINT64_MAX, 2, TSM_INPUT, TSM_ERANGE, "first is 18446744073709551615"},
        {0, NULL, 250, 7, TSM_INPUT, TSM_ERANGE, "but the window has 256 elements"},
        {0, "x", 0, 1, -1, TSM_EINVAL, "tag is -1"},
        {0, "x", 0, 1, TSM_NO_DEP + 1, TSM_EINVAL, "tag is 6"},
    };
    struct tsm_tensor t, before;
    memset(&t, 0x5a, sizeof(t));
    before = t;
    for (uint32_t i = 0; i < COUNT(wrong); i++) {
        assert_code(worker,
                    tsm_domain_tensor(job.domain, wrong[i].rank, wrong[i].buffer, wrong[i].first,
                                      wrong[i].count, wrong[i].tag, &t),
                    wrong[i].code);
        assert_text(worker, wrong[i].text);
        assert_text(worker, "domain 'words'");
    }
    assert_code(worker, tsm_domain_tensor(job.domain, 0, "x", 0, 1, 0, NULL), TSM_EINVAL);
    assert_text(worker, "ret is NULL");
    assert_int_equal(tsm_domain_tensor(NULL, 0, "x", 0, 1, 0, &t), TSM_EINVAL);
    must(tsm_domain_release(job.domain));
    assert_code(worker, tsm_domain_tensor(job.domain, 0, "x", 0, 1, 0, &t), TSM_ESTALE);
    assert_text(worker, "'words'");
    assert_memory_equal(&t, &before, sizeof(t)); /* no refusal wrote it */
    return 0;
}

static void a_part_that_does_not_exist_is_refused_by_name_and_value(void **state)
{
    (void)state;
    start_words(2);
    must(tsm_worker_run(worker, refused_orch, NULL));
    harness_close(worker);
}

static int stale_orch(tsm_orch *o, void *arg)
{
    (void)arg;
    struct job job = alloc_words(o, 2);
    struct tsm_tensor x = part(&job, 0, "x", 0, TSM_REST, TSM_OUTPUT_EXISTING);
    must(tsm_domain_release(job.domain));
    assert_code(worker, submit(o, &job, write_words, 0, &x, 1, 3), TSM_ESTALE);
    assert_text(worker, "tensor 0");
    return 0;
}

static void a_part_of_a_released_domain_is_refused_at_submit(void **state)
{
    (void)state;
    start_words(2);
    must(tsm_worker_run(worker, stale_orch, NULL));
    harness_close(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_all_to_all_with_tags_alone_gives_the_bits_of_the_one_with_signals),
        TEST(a_halo_exchange_with_tags_alone_gives_the_bits_of_the_one_with_signals),
        TEST(a_pipeline_with_tags_alone_gives_the_bits_of_the_one_with_signals),
        TEST(only_tasks_whose_parts_of_windows_overlap_are_ordered),
        TEST(a_chip_that_is_no_member_and_a_sub_worker_may_use_a_window),
        TEST(a_part_of_a_window_is_the_bytes_that_were_asked_for),
        TEST(a_part_that_does_not_exist_is_refused_by_name_and_value),
        TEST(a_part_of_a_released_domain_is_refused_at_submit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

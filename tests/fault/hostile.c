/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tasks that scribble over whatever their process may write: its own page, the hints, the pool's claim words. The
 * orchestrator neither crashes nor hangs (close is bounded), and the other chip's tasks are right. Test process.
 */
#include "chip/chip.h"
#include "fault/golden.h"

enum { LIMIT_NS = 150000000, CLOSE_NS = 100000000, BOUND_NS = 2000000000 };

/* What is scribbled over. */
enum target {
    OWN_PAGE,
    HINTS,
    POOL,
    POOL_TO_THE_END,
    DONE_AHEAD,
    DONE_TO_THE_END,
    MARKS,
    WAIT_RECORD
};
/* And what the task does then. */
enum then { THEN_RETURN, THEN_HANG, THEN_AGAIN };

struct hostile {
    tsm_worker *w;
    tsm_callable scribble, fill;
    uint64_t *out;
    uint64_t scalars[3]; /* seed, target, then */
    bool sub;
};

static uint32_t rounds(void)
{
    return harness_quick() ? 1 : harness_count(3);
}

static void noise(struct harness_random *r, void *at, size_t bytes)
{
    volatile uint64_t *words = at;
    size_t first = harness_below(r, 4) ? harness_below(r, (uint32_t)(bytes / 8)) : 0;
    for (size_t i = first; i < bytes / 8; i++) {
        uint32_t how = harness_below(r, 8);
        words[i] = how == 0 ? UINT64_MAX : how == 1 ? harness_below(r, 4) : harness_random(r);
    }
}

static void scribble_once(struct harness_random *r, struct chip *c, enum target target)
{
    struct arena *a = &c->arena;
    struct proc_page *p = c->page;
    switch (target) {
    case OWN_PAGE:
        noise(r, p, sizeof(*p));
        break;
    case HINTS:
        noise(r, a->hints, (size_t)((uint8_t *)a->masks - (uint8_t *)a->hints) + 256);
        break;
    case POOL:
        noise(r, a->pool, 64 * sizeof(*a->pool));
        break;
    case POOL_TO_THE_END:
        for (uint64_t i = 0; i <= a->pool_mask; i++) {
            a64_store(&a->pool[i].done, UINT64_MAX - 1);
        }
        break;
    case DONE_AHEAD:
        a64_store(&p->done, a64_load(&a->rings[c->place].published));
        break;
    case DONE_TO_THE_END:
        a64_store(&p->done, UINT64_MAX - harness_below(r, 2));
        break;
    case MARKS:
        for (uint32_t slot = 0; slot < RUN_SLOTS; slot++) {
            noise(r, &p->mark[slot], sizeof(p->mark[slot]));
            a64_store(&p->mark[slot].run, c->arena.ctl->runs);
        }
        a64_store(&p->marks, harness_random(r));
        break;
    case WAIT_RECORD:
        noise(r, &p->wait, sizeof(p->wait));
        a32_store(&p->wait.version, 2 * harness_below(r, 1000));
        a32_store(&p->wait.kind, harness_below(r, 7));
        a32_store(&a->hints[c->place].asleep, 1);
        break;
    }
}

static int scribble(tsm_task *t)
{
    struct harness_random r;
    enum then then = (enum then)tsm_task_scalar(t, 2);
    uint64_t until = harness_now_ns() + 20000000;
    harness_random_init(&r, tsm_task_scalar(t, 0));
    do {
        scribble_once(&r, t->chip, (enum target)tsm_task_scalar(t, 1));
    } while (then == THEN_AGAIN && harness_now_ns() < until);
    while (then == THEN_HANG) {
        pause();
    }
    return 0;
}

static int fill(tsm_task *t)
{
    uint64_t *x = tsm_task_data(t, 0);
    for (uint64_t i = 0; i < 64; i++) {
        x[i] = tsm_task_scalar(t, 0) ^ i;
    }
    return 0;
}

static int submit_scribble(tsm_orch *orch, void *arg)
{
    struct hostile *h = arg;
    struct tsm_call call = {.callable = h->scribble,
                            .chip = h->sub ? TSM_SUB : 0,
                            .scalars = h->scalars,
                            .scalar_count = 3};
    return tsm_submit(orch, &call, NULL);
}

static int submit_fill(tsm_orch *orch, void *arg)
{
    struct hostile *h = arg;
    struct tsm_tensor x = golden_tensor(h->out, 64, TSM_OUTPUT_EXISTING);
    struct tsm_call call = {.callable = h->fill,
                            .chip = 1,
                            .tensors = &x,
                            .tensor_count = 1,
                            .scalars = h->scalars,
                            .scalar_count = 1};
    return tsm_submit(orch, &call, NULL);
}

/* More than fits its ring: an orchestrator that believes what it reads waits for ever. */
static int flood(tsm_orch *orch, void *arg)
{
    int rc = 0;
    for (int i = 0; i < 6000 && rc == 0; i++) {
        rc = submit_scribble(orch, arg);
    }
    return rc;
}

/* The other chip works, at its own pace: its run is its own. */
static void other_chip_is_right(struct hostile *h)
{
    tsm_run *run = NULL;
    for (int i = 0; i < 3; i++) {
        memset(h->out, 0, 64 * 8);
        h->scalars[0]++;
        assert_code(h->w, tsm_worker_submit_run(h->w, submit_fill, h, &run), 0);
        assert_code(h->w, tsm_run_wait(run, BOUND_NS), 0);
        for (uint64_t k = 0; k < 64; k++) {
            assert_int_equal(h->out[k], h->scalars[0] ^ k);
        }
        tsm_run_release(run);
    }
}

static void create(struct hostile *h, uint64_t seed, enum target target, enum then then, bool sub)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    opts.chips = 2;
    opts.subs = 1;
    opts.heap_bytes = opts.host_bytes = opts.lease_bytes = 64u << 20;
    opts.close_timeout_ns = CLOSE_NS;
    memset(h, 0, sizeof(*h));
    assert_int_equal(tsm_worker_create(&opts, &h->w, NULL), 0);
    h->scribble = harness_register(h->w, "scribble", scribble);
    h->fill = harness_register(h->w, "fill", fill);
    h->scalars[0] = seed;
    h->scalars[1] = target;
    h->scalars[2] = then;
    h->sub = sub;
    harness_start(h->w);
    void *out = NULL;
    assert_code(h->w, tsm_buffer_create(h->w, 64 * 8, &out), 0);
    h->out = out;
}

static void close_in_time(struct hostile *h)
{
    uint64_t begin = harness_now_ns();
    int rc = tsm_worker_close(h->w);
    assert_true(rc == 0 || rc == TSM_ETIMEOUT);
    assert_true(harness_now_ns() - begin < UINT64_C(8000000000));
    tsm_worker_destroy(h->w);
}

static void attack(uint64_t seed, enum target target, enum then then, bool sub)
{
    struct hostile h;
    tsm_run *run = NULL;
    create(&h, seed, target, then, sub);
    assert_code(h.w, tsm_worker_submit_run(h.w, submit_scribble, &h, &run), 0);
    int rc = tsm_run_wait(run, then == THEN_HANG ? LIMIT_NS / 6 : LIMIT_NS);
    assert_true(rc <= 0);
    other_chip_is_right(&h);
    tsm_run_release(run);
    close_in_time(&h);
}

static void attack_with_seeds(enum target target, bool sub)
{
    for (uint32_t seed = 1; seed <= rounds(); seed++) {
        attack(seed, target, seed % 2 ? THEN_RETURN : THEN_AGAIN, sub);
    }
    attack(99, target, THEN_HANG, sub);
}

static void a_chip_that_scribbles_over_its_page_harms_only_itself(void **state)
{
    (void)state;
    attack_with_seeds(OWN_PAGE, false);
}

static void a_chip_that_scribbles_over_the_hints_only_costs_time(void **state)
{
    (void)state;
    attack_with_seeds(HINTS, false);
}

static void a_sub_that_scribbles_harms_no_chip(void **state)
{
    (void)state;
    attack_with_seeds(POOL, true);
    attack_with_seeds(OWN_PAGE, true);
    attack_with_seeds(HINTS, true);
}

static void made_up_marks_and_waits_are_only_that(void **state)
{
    (void)state;
    attack_with_seeds(MARKS, false);
    attack_with_seeds(WAIT_RECORD, false);
    attack_with_seeds(WAIT_RECORD, true);
}

static void a_timeline_ahead_of_its_ring_is_an_error_of_the_chip(void **state)
{
    (void)state;
    struct hostile h;
    attack_with_seeds(DONE_AHEAD, false);
    attack_with_seeds(DONE_TO_THE_END, false);
    create(&h, 5, DONE_TO_THE_END, THEN_HANG, false);
    assert_code(h.w, tsm_worker_run(h.w, flood, &h), TSM_EPROTOCOL);
    assert_int_equal(tsm_worker_error(h.w)->chip, 0);
    assert_text(h.w, "chip 0 wrote nonsense");
    other_chip_is_right(&h);
    close_in_time(&h);
}

static void a_pool_ahead_of_its_ring_is_an_error_of_the_subs(void **state)
{
    (void)state;
    struct hostile h;
    create(&h, 5, POOL_TO_THE_END, THEN_HANG, true);
    assert_code(h.w, tsm_worker_run(h.w, flood, &h), TSM_EPROTOCOL);
    assert_text(h.w, "nonsense into the pool");
    other_chip_is_right(&h);
    close_in_time(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chip_that_scribbles_over_its_page_harms_only_itself),
        TEST(a_chip_that_scribbles_over_the_hints_only_costs_time),
        TEST(a_sub_that_scribbles_harms_no_chip),
        TEST(made_up_marks_and_waits_are_only_that),
        TEST(a_timeline_ahead_of_its_ring_is_an_error_of_the_chip),
        TEST(a_pool_ahead_of_its_ring_is_an_error_of_the_subs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

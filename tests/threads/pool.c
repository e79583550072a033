/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The pool with several subs as threads: the functions of src/chip/sub.c themselves (it is included here for its
 * static ones; sub_loop, which never returns, is replaced by a loop that ends). Each record is run once, after
 * what it waits for, and its done word says what became of it. Test process.
 */
#include "threads/rig.h"

#define sub_loop unused_sub_loop
#define sub_take_over unused_sub_take_over
_Noreturn void unused_sub_loop(struct chip *c);
void unused_sub_take_over(struct chip *c, const char *death);
#include "chip/sub.c"

/* A sub looks at the waits of a record before it claims it. Another may finish the record meanwhile and its memory be
 * written again; then the claim fails, for the slot's word has changed, and what was read is not used. These reads
 * alone race, by design; what a sub does with a record after its claim is ordered and is not named here. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:record_ready\nrace:need_waits\nrace_top:ring_record\n";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "history_size=7"; /* so that those reads are known by name */
}

enum { SUBS_MAX_HERE = 3, RECORDS = 40000, AHEAD = 1500 };

static struct rig rig;
static a32 ran[RECORDS + 1];
static uint64_t wrote[RECORDS + 1]; /* plain memory, ordered by done words alone */
static a64 wrong;

/* Record n may wait for these: the timeline of chip 0, and one or two earlier records. */
static uint64_t first_wait(uint64_t n)
{
    return n % 3 == 0 && n > 7 ? n - 1 - n % 7 : 0;
}

static uint64_t second_wait(uint64_t n)
{
    return n % 5 == 0 && n > 60 ? n - 50 : 0;
}

static bool fails(uint64_t n)
{
    return n % 41 == 40;
}

static int work(tsm_task *t)
{
    uint64_t n = tsm_task_scalar(t, 0);
    uint64_t from[] = {first_wait(n), second_wait(n)};
    for (int i = 0; i < 2; i++) {
        if (from[i] && wrote[from[i]] != from[i] * 9) {
            atomic_fetch_add(&wrong, 1);
        }
    }
    wrote[n] = n * 9;
    atomic_fetch_add(&ran[n], 1);
    return fails(n) ? 1 : 0;
}

static void *sub_thread(void *arg)
{
    struct chip *c = arg;
    struct scan *s = calloc(1, sizeof(*s));
    s->c = c;
    while (!chip_should_leave(c)) {
        s->rec = NULL;
        if (!look_pool(s)) {
            watch_needed(s);
            struct want want = {.kind = WAIT_POOL,
                                .place = PLACE_POOL,
                                .places = s->places,
                                .place_count = s->place_count};
            wait_for(&c->waiter, &want, look_watching, s);
        }
        if (s->rec) {
            finish(c, s->number, record_execute(c, s->rec, s->number));
        }
    }
    free(s);
    return NULL;
}

/* Chip 0 is this thread's: record n may wait for its timeline to reach n / 10. */
static void *timeline_thread(void *arg)
{
    struct chip *c = arg;
    struct harness_random r;
    harness_random_init(&r, 1);
    for (uint64_t n = 1; n <= RECORDS / 10; n++) {
        rig_dawdle(&r);
        timeline_advance(&c->arena, c->page, 0, n);
    }
    return NULL;
}

static uint64_t collect(uint64_t head)
{
    while (head < rig.rings[rig.places].published &&
           pool_done_word(&rig.a, head + 1) >> 1 == head + 1) {
        head++;
        bool failed = pool_done_word(&rig.a, head) & 1;
        if (failed != fails(head) || a32_load(&ran[head]) != 1) {
            atomic_fetch_add(&wrong, 1);
        }
    }
    a64_store(&rig.a.ctl->pool_head, head);
    return head;
}

static void submit_record(uint64_t n, uint64_t *head)
{
    struct record_wait waits[3];
    uint32_t count = 0;
    uint64_t run = n; /* a run each: a failure makes nobody skip */
    if (n % 4 == 1 && n / 10 > 0) {
        waits[count++] = (struct record_wait){0, (uint32_t)run - 1, n / 10};
    }
    if (first_wait(n)) {
        waits[count++] = (struct record_wait){PLACE_POOL, (uint32_t)run - 1, first_wait(n)};
    }
    if (second_wait(n)) {
        waits[count++] = (struct record_wait){PLACE_POOL, (uint32_t)run - 1, second_wait(n)};
    }
    *head = collect(*head);
    while (n - *head > AHEAD || !rig_submit(&rig, rig.places, run, n, waits, count, *head)) {
        rig_wait_word(&rig, PLACE_POOL, *head + 1);
        *head = collect(*head);
    }
}

static void run_pool(uint32_t subs, uint32_t spin)
{
    pthread_t threads[SUBS_MAX_HERE + 1];
    uint64_t head = 0;
    rig_open(&rig, 1, subs, spin);
    rig_callable(&rig, 0, work);
    memset(wrote, 0, sizeof(wrote));
    memset(ran, 0, sizeof(ran));
    a64_store(&wrong, 0);
    pthread_create(&threads[0], NULL, timeline_thread, &rig.chips[0]);
    for (uint32_t s = 1; s <= subs; s++) {
        pthread_create(&threads[s], NULL, sub_thread, &rig.chips[s]);
    }
    for (uint64_t n = 1; n <= RECORDS; n++) {
        submit_record(n, &head);
    }
    while (head < RECORDS) {
        rig_wait_word(&rig, PLACE_POOL, head + 1);
        head = collect(head);
    }
    a32_store(&rig.a.ctl->shutdown, 1);
    wake_everybody(&rig.a);
    for (uint32_t s = 0; s <= subs; s++) {
        pthread_join(threads[s], NULL);
    }
    assert_int_equal(a64_load(&wrong), 0);
    assert_true(spin > 0 || rig_sleeps(&rig) > 0);
    rig_close(&rig);
}

static void each_record_is_run_once_after_what_it_waits_for(void **state)
{
    (void)state;
    for (uint32_t subs = 1; subs <= SUBS_MAX_HERE; subs++) {
        run_pool(subs, subs == 2 ? 0 : 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(each_record_is_run_once_after_what_it_waits_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

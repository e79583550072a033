/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Put and get inside a task, 8 B to 64 MiB: against the better of memcpy and a copy with non-temporal stores, between
 * the same addresses, on the same core, in turns; for small ones also the time that is added to it. The peers put and
 * get, each time complete, between a buffer of the one and a window of the other rank. The chip whose window it is takes no
 * part, except where the lines go from core to core: a put that its target then reads and answers, and a get of what the
 * other has just written.
 */
#include <stdio.h>
#include <string.h>

#include "contest.h"
#include "floor.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
enum {
    ROUNDS = 15,
    LONGER = 4,
    TURN_NS = 300000,
    ADDED_UP_TO = 4096,
    PAGE = 4096,
    TOGETHER = 25,
    WARM = 6,
    PEERS_EVERY = 3
};
enum way { WAY_OURS, WAY_MEMCPY, WAY_STREAM, WAYS };

static struct rig rig;
static tsm_callable measuring, fetching;
static tsm_domain *domain;
static struct contest peers; /* nobody else */

/* What a task is asked and what it found; shared. */
static struct ask {
    uint64_t bytes, from_at, to_at; /* places in the source's and the target's window */
    uint32_t is_get, turn;
    double ns[WAYS];
} * ask;

/* ---- the copies ---- */

/* A way to move bytes between the own window and that of rank 1. */
struct mover {
    tsm_ctx *c;
    tsm_sym from_sym, to_sym;
    uint8_t *from, *to;
    volatile uint64_t bytes; /* so that memcpy is called and not expanded */
    bool is_get;
    int rc;
    struct ask *ask;
};

static void move(struct mover *m, enum way way)
{
    if (way == WAY_MEMCPY) {
        memcpy(m->to, m->from, m->bytes);
        atomic_signal_fence(memory_order_seq_cst);
    } else if (way == WAY_STREAM) {
        floor_copy_stream(m->to, m->from, m->bytes);
    } else if (m->is_get) {
        m->rc |= tsm_get(m->c, m->to, m->from_sym, m->bytes, 1);
    } else {
        m->rc |= tsm_put(m->c, m->to_sym, m->from, m->bytes, 1);
    }
}

static int mover_init(struct mover *m, tsm_task *t)
{
    struct ask *a = tsm_task_data(t, 0);
    *m = (struct mover){
        .ask = a, .c = tsm_task_domain(t, 0), .bytes = a->bytes, .is_get = a->is_get};
    if (!m->c || tsm_at(m->c, a->from_at, &m->from_sym) != 0 ||
        tsm_at(m->c, a->to_at, &m->to_sym) != 0) {
        return tsm_fail(t, "no window");
    }
    m->from = tsm_ptr(m->c, m->from_sym, m->is_get);
    m->to = tsm_ptr(m->c, m->to_sym, !m->is_get);
    return 0;
}

/* ---- in chip 0 ---- */

static double time_many(struct mover *m, enum way way, uint32_t count)
{
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < count; i++) {
        move(m, way);
    }
    return (double)(clock_ns() - begin) / count;
}

static int task_measure(tsm_task *t)
{
    struct mover m;
    int rc = mover_init(&m, t);
    if (rc != 0) {
        return rc;
    }
    double once = time_many(&m, WAY_OURS, 2);
    uint32_t count = once * 2 > TURN_NS ? 2 : (uint32_t)(TURN_NS / (once + 1));
    /* A streaming copy leaves the target's lines outside the caches: what comes after it is not the same one in each
     * round, and has time to fetch them. */
    bool swap = m.ask->turn++ % 2;
    const enum way order[WAYS] = {swap ? WAY_MEMCPY : WAY_OURS, swap ? WAY_OURS : WAY_MEMCPY,
                                  WAY_STREAM};
    for (uint32_t i = 0; i < WAYS; i++) {
        time_many(&m, order[i], 1 + count / 4);
        m.ask->ns[order[i]] = time_many(&m, order[i], count);
    }
    return m.rc;
}

/* ---- in chips 0 and 1, which take turns ---- */

/* One move whose lines go from core to core: rank 1 reads what was put and answers, or writes what is to be got. */
static int hand_over(struct mover *m, enum way way, tsm_sym turn, uint64_t number, uint8_t *window,
                     uint64_t *took)
{
    bool first = tsm_rank(m->c) == 0;
    int rc = 0;
    if (!first && m->is_get) {
        memset(window, (int)number, m->bytes);
        rc = tsm_signal(m->c, turn, number, TSM_SIGNAL_SET, 0);
    }
    if (first && m->is_get) {
        rc = tsm_signal_wait_until(m->c, turn, TSM_GE, number, NULL, -1);
    }
    uint64_t begin = clock_ns();
    if (first) {
        move(m, way);
        *took = clock_ns() - begin;
        rc = rc != 0 ? rc : tsm_signal(m->c, turn, number, TSM_SIGNAL_SET, 1);
    }
    if (!first || !m->is_get) {
        rc = rc != 0 ? rc : tsm_signal_wait_until(m->c, turn, TSM_GE, number, NULL, -1);
    }
    if (!first && !m->is_get) {
        crew_read(window, m->bytes);
        rc = rc != 0 ? rc : tsm_signal(m->c, turn, number, TSM_SIGNAL_SET, 0);
    }
    if (!m->is_get) {
        *took = clock_ns() - begin;
    }
    return rc;
}

static int task_fetch(tsm_task *t)
{
    struct mover m;
    tsm_sym turn;
    uint64_t number = 0;
    uint64_t took = 0;
    double sum[WAYS] = {0};
    int rc = mover_init(&m, t);
    if (rc != 0 || (rc = tsm_at(m.c, 0, &turn)) != 0 ||
        (rc = tsm_signal_fetch(m.c, turn, &number)) != 0 || (rc = tsm_barrier(m.c)) != 0) {
        return rc;
    }
    uint32_t me = tsm_rank(m.c);
    uint8_t *window = tsm_ptr(m.c, m.is_get ? m.from_sym : m.to_sym, me);
    for (uint32_t i = 0; i < WAYS * (WARM + TOGETHER) && rc == 0; i++) {
        enum way way = (enum way)(i / (WARM + TOGETHER));
        rc = hand_over(&m, way, turn, ++number, window, &took);
        sum[way] += i % (WARM + TOGETHER) >= WARM ? (double)took : 0;
    }
    for (int way = 0; way < WAYS && me == 0; way++) {
        m.ask->ns[way] = sum[way] / TOGETHER;
    }
    return rc != 0 ? rc : m.rc;
}

/* ---- the benchmark ---- */

static int submit_domain(tsm_orch *orch, void *arg)
{
    const int chips[] = {0, 1};
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    (void)arg;
    o.name = "putget";
    o.chips = chips;
    o.chip_count = 2;
    o.window_bytes = 2 * PAGE + 128 * MIB;
    o.keep = 1;
    bench_must(tsm_domain_alloc(orch, &o, &domain), "domain", tsm_worker_error(rig.worker)->text);
    return 0;
}

static int submit_task(tsm_orch *orch, void *arg)
{
    bool together = arg != NULL;
    struct tsm_call calls[2];
    struct tsm_tensor asked = {.data = ask, .dtype = TSM_U8, .tag = TSM_NO_DEP};
    for (int i = 0; i < 2; i++) {
        calls[i] = (struct tsm_call){.callable = together ? fetching : measuring,
                                     .chip = i,
                                     .tensors = &asked,
                                     .tensor_count = 1,
                                     .domains = &domain,
                                     .domain_count = 1};
    }
    return tsm_submit_group(orch, calls, together ? 2 : 1, NULL);
}

/* One size, one direction. */
struct measurement {
    const char *text;
    uint64_t bytes;
    bool is_get;
    uint64_t shift; /* of the target, past the source's place in its page */
    bool fetched;   /* by the other core; else it takes no part */
};

static void one_round(void *arg, struct sample *ret)
{
    const struct measurement *m = arg;
    rig_run(&rig, submit_task, m->fetched ? ask : NULL);
    double best =
        ask->ns[WAY_MEMCPY] < ask->ns[WAY_STREAM] ? ask->ns[WAY_MEMCPY] : ask->ns[WAY_STREAM];
    ret->value = ask->ns[WAY_OURS] / 1000;
    ret->floor = best / 1000;
}

static void ask_peers(void *arg, struct sample *ret)
{
    const struct measurement *m = arg;
    struct crew_order o = {.op = m->is_get ? CREW_GET : CREW_PUT, .bytes = m->bytes};
    o = contest_fit(&peers, &o, ret->value * 1000);
    contest_ask_peers(&peers, &o, ret);
}

static void report_added(const struct samples *s, const struct figure *of)
{
    struct samples added = {0};
    char text[64];
    for (uint32_t i = 0; i < s->count; i++) {
        samples_add(&added, 1000 * (s->list[i].value - s->list[i].floor), 0, 0);
    }
    snprintf(text, sizeof(text), "%s, added to the copy", of->name);
    struct figure f = {.name = text,
                       .params = of->params,
                       .unit = "ns",
                       .against = AGAINST_MAX,
                       .limit = 100,
                       .chips = 2,
                       .x = of->x};
    figure_report(&f, &added);
    samples_free(&added);
}

static void measure(struct measurement m)
{
    struct samples s = {0};
    struct sample first = {0};
    char params[96];
    bool with_peers = m.shift == 0 && !m.fetched, small = m.bytes <= ADDED_UP_TO;
    *ask = (struct ask){.bytes = m.bytes,
                        .from_at = PAGE,
                        .to_at = 2 * PAGE + 64 * MIB + m.shift,
                        .is_get = m.is_get};
    one_round(&m, &first); /* touches the pages */
    if (with_peers) {
        ask_peers(&m, &first);
    }
    batches_with_peers(ROUNDS * (bench_long() ? LONGER : 1), PEERS_EVERY, &s, one_round,
                       with_peers ? ask_peers : NULL, &m);
    snprintf(params, sizeof(params), "%s%s%s", m.text,
             m.shift ? ", 8 B past the source's place in its page" : "",
             m.fetched ? ", fetched" : "");
    struct figure f = {.name = m.is_get ? "get" : "put",
                       .params = params,
                       .unit = "us",
                       .against = small ? AGAINST_NOTHING : AGAINST_FLOOR,
                       .limit = 1 / 0.9, /* of the speed of the copy */
                       .peers = peers.peer_names,
                       .chips = 2,
                       .x = (double)m.bytes};
    if (with_peers) {
        *(small ? &f.against : &f.also) = AGAINST_PEER;
        *(small ? &f.limit : &f.also_limit) = 1;
    }
    (m.fetched ? figure_report_cores : figure_report)(&f, &s);
    if (small) {
        report_added(&s, &f);
    }
    samples_free(&s);
}

static void measure_direction(bool is_get)
{
    static const uint64_t sizes[] = {8, 64, 512, 4 * KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB};
    static const uint64_t fetched[] = {KIB, 4 * KIB, 16 * KIB, 64 * KIB, MIB};
    char text[24];
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        measure((struct measurement){bytes_text(sizes[i], text), sizes[i], is_get, 0, false});
    }
    measure((struct measurement){"64 KiB", 64 * KIB, is_get, 8, false});
    for (uint32_t i = 0; two_cores() && i < sizeof(fetched) / sizeof(*fetched); i++) {
        measure((struct measurement){bytes_text(fetched[i], text), fetched[i], is_get, 0, true});
    }
}

int main(int argc, char **argv)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    void *shared;
    bench_begin("putget", argc, argv);
    r_start(0, 1);
    o.lease_bytes = 512 * MIB;
    rig_add("measure", task_measure, &measuring);
    rig_add("fetch", task_fetch, &fetching);
    rig_start(&rig, 2, &o);
    rig_pin(&rig, 0);
    bench_must(tsm_buffer_create(rig.worker, sizeof(*ask), &shared), "buffer", "");
    ask = shared;
    rig_run(&rig, submit_domain, NULL);
    contest_start(&peers, 2, 64 * MIB, CONTEST_PEERS);
    measure_direction(false);
    measure_direction(true);
    contest_stop(&peers);
    rig_stop(&rig);
    return bench_end();
}

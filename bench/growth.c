/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What grows with the size of things: time and memory per unit with 1 to 256 chips, with 10^3 to 10^7 tasks in one run
 * and over runs, with up to 10^6 domains that come and go and 10^5 that live at once. Each is one row a size; what must
 * stay flat is judged by a row of its own: the largest size's value over that of a middle one, where what is paid once no
 * longer shows.
 *
 * Memory is that of all processes, shared pages counted once (PSS).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bare.h"
#include "engine/engine.h"
#include "processes.h"
#include "rig.h"

/* What counts as flat: the largest takes so many times as much as a middle one, and leaves so much behind. */
enum { SIZES_MAX = 10, FLAT = 2, LEFT_KIB = 64 };
/* The more processes share a core the more often it changes between them; the floor pays for that, too. */
enum { FLAT_SHARED = 3 };

static struct rig rig;

/* The program and all that it has started. */
static double bytes_now(void)
{
    struct processes p;
    processes_of(getpid(), &p);
    return processes_bytes(&p);
}

static double since_us(uint64_t begin)
{
    return (double)(clock_ns() - begin) / 1000;
}

/* ---- figures over sizes ---- */

struct series {
    const char *name, *unit;
    double most; /* > 0: what each may be at most */
    struct samples at[SIZES_MAX];
};

static const char *size_text(uint64_t size, char text[32])
{
    uint32_t power = 0;
    uint64_t rest = size;
    for (; rest >= 10 && rest % 10 == 0; rest /= 10) {
        power++;
    }
    if (rest == 1 && power > 2) {
        snprintf(text, 32, "10^%u", power);
    } else {
        snprintf(text, 32, "%llu", (unsigned long long)size);
    }
    return text;
}

/* middle: index of the size that the largest is held against; limit: how many times its value the largest may have, 0: no
 * judgement. Medians are compared. */
static void report(struct series *s, const uint64_t *sizes, uint32_t count, const char *what,
                   uint32_t middle, double limit)
{
    char text[32];
    char params[96];
    double medians[SIZES_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        double values[64];
        uint32_t n = 0;
        for (; n < s->at[i].count && n < 64; n++) {
            values[n] = s->at[i].list[n].value;
        }
        medians[i] = quantile(values, n, 0.5);
        int length = (int)strlen(what) - (sizes[i] == 1); /* without the plural's s */
        snprintf(params, sizeof(params), "%s %.*s", size_text(sizes[i], text), length, what);
        struct figure f = {.name = s->name,
                           .params = params,
                           .unit = s->unit,
                           .against = s->most > 0 ? AGAINST_MAX : AGAINST_NOTHING,
                           .limit = s->most,
                           .x = (double)sizes[i]};
        figure_report(&f, &s->at[i]);
        samples_free(&s->at[i]);
    }
    if (limit > 0 && middle + 1 < count) {
        struct samples ratio = {0};
        char other[32];
        samples_add(&ratio, medians[count - 1] / medians[middle], 0, 0);
        snprintf(params, sizeof(params), "%s / %s %s", size_text(sizes[count - 1], text),
                 size_text(sizes[middle], other), what);
        struct figure f = {.name = s->name,
                           .params = params,
                           .unit = "times",
                           .against = AGAINST_MAX,
                           .limit = limit};
        figure_report(&f, &ratio);
        samples_free(&ratio);
    }
}

/* ---- chips ---- */

/* Floor of the dispatch: records over bare rings. */
enum { CHIP_SIZES = 9, CHIP_ROUNDS = 5, TASKS_A_CHIP = 400, TASKS_MIN = 20000, RING_SLOTS = 4096 };
static const uint64_t chip_sizes[CHIP_SIZES] = {1, 2, 4, 8, 16, 32, 64, 128, 256};

static int submit_independent(tsm_orch *orch, void *arg)
{
    const uint32_t *tasks = arg;
    struct tsm_call call = {.callable = rig.empty};
    for (uint32_t i = 0; i < *tasks; i++) {
        call.chip = (int)(i % rig.chips);
        rig_submit(&rig, orch, &call);
    }
    return 0;
}

/* ns of a record over bare rings to as many processes; 0 for more of them than there can be. */
static double time_bare(uint32_t chips, uint32_t tasks)
{
    static struct bare bare;
    if (chips > BARE_WORKERS_MAX) {
        return 0;
    }
    bare_start(&bare, chips, 1, RING_SLOTS, chips >= cores());
    bare_begin(&bare);
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < tasks; i++) {
        bare_put(&bare, i % chips, NULL, 0, 0, 0);
    }
    bare_drain(&bare);
    double us = since_us(begin);
    bare_end(&bare);
    bare_stop(&bare);
    return 1000 * us / tasks;
}

static void measure_chips(void)
{
    struct series start = {.name = "start, per chip", .unit = "us"};
    struct series stop = {.name = "close, per chip", .unit = "us"};
    struct series memory = {.name = "memory, per chip", .unit = "KiB"};
    struct series dispatch = {.name = "task, independent", .unit = "ns"};
    for (uint32_t i = 0; i < CHIP_SIZES * CHIP_ROUNDS; i++) {
        uint32_t at = i % CHIP_SIZES;
        uint32_t chips = (uint32_t)chip_sizes[at];
        uint32_t tasks = chips * TASKS_A_CHIP > TASKS_MIN ? chips * TASKS_A_CHIP : TASKS_MIN;
        double before = bytes_now();
        uint64_t begin = clock_ns();
        rig_start(&rig, chips, NULL);
        samples_add(&start.at[at], since_us(begin) / chips, 0, 0);
        rig_run(&rig, submit_independent, &tasks); /* the rings are touched */
        begin = clock_ns();
        rig_run(&rig, submit_independent, &tasks);
        double ns = 1000 * since_us(begin) / tasks;
        samples_add(&dispatch.at[at], ns, time_bare(chips, tasks), 0);
        samples_add(&memory.at[at], (bytes_now() - before) / 1024 / chips, 0, 0);
        begin = clock_ns();
        rig_stop(&rig);
        samples_add(&stop.at[at], since_us(begin) / chips, 0, 0);
    }
    report(&start, chip_sizes, CHIP_SIZES, "chips", 3, FLAT);
    report(&stop, chip_sizes, CHIP_SIZES, "chips", 3, FLAT);
    report(&memory, chip_sizes, CHIP_SIZES, "chips", 3, FLAT);
    report(&dispatch, chip_sizes, CHIP_SIZES, "chips", 3, FLAT_SHARED);
}

/* ---- tasks ---- */

enum { TASK_SIZES = 5, TASK_CHIPS = 2, SLOTS = 10000, SLOT = 64, TASKS_A_RUN = 10000 };
static const uint64_t task_sizes[TASK_SIZES] = {1000, 10000, 100000, 1000000, 10000000};
static uint8_t *slots;

struct flood {
    uint64_t tasks;
    struct random numbers;
};

/* Each reads one random slot and updates another, so that edges are inferred. */
static int submit_flood(tsm_orch *orch, void *arg)
{
    struct flood *f = arg;
    for (uint64_t i = 0; i < f->tasks; i++) {
        struct tsm_tensor x[2];
        memset(x, 0, sizeof(x));
        for (uint32_t k = 0; k < 2; k++) {
            x[k].data = slots + (uint64_t)random_below(&f->numbers, SLOTS) * SLOT;
            x[k].dtype = TSM_U64;
            x[k].tag = k ? TSM_INOUT : TSM_INPUT;
            x[k].ndim = 1;
            x[k].shape[0] = SLOT / 8;
        }
        struct tsm_call call = {
            .callable = rig.empty, .chip = (int)(i % TASK_CHIPS), .tensors = x, .tensor_count = 2};
        rig_submit(&rig, orch, &call);
    }
    return 0;
}

/* us of `tasks` tasks in runs of `a_run`. */
static double flood(uint64_t tasks, uint64_t a_run, struct random *numbers)
{
    uint64_t begin = clock_ns();
    for (uint64_t done = 0; done < tasks; done += a_run) {
        struct flood f = {a_run < tasks ? a_run : tasks, *numbers};
        rig_run(&rig, submit_flood, &f);
        *numbers = f.numbers;
    }
    return since_us(begin);
}

static void measure_tasks(bool one_run, uint32_t sizes)
{
    struct series each = {.name = "task, inferred edges", .unit = "ns"};
    struct series grown = {.name = "memory left behind", .unit = "KiB", .most = LEFT_KIB};
    struct random numbers = {5};
    void *memory;
    rig_start(&rig, TASK_CHIPS, NULL);
    bench_must(tsm_buffer_create(rig.worker, (uint64_t)SLOTS * SLOT, &memory), "buffer", "");
    slots = memory;
    memset(slots, 0, (size_t)SLOTS * SLOT);
    flood(10 * TASKS_A_RUN, TASKS_A_RUN, &numbers); /* all slots known, all rings touched */
    for (uint32_t i = 0; i < sizes; i++) {
        uint64_t a_run = one_run || task_sizes[i] < TASKS_A_RUN ? task_sizes[i] : TASKS_A_RUN;
        for (uint64_t done = 0; done == 0 || (done < 1000000 && done < 20 * task_sizes[i]);
             done += task_sizes[i]) {
            double before = bytes_now();
            double us = flood(task_sizes[i], a_run, &numbers);
            samples_add(&each.at[i], 1000 * us / (double)task_sizes[i], 0, 0);
            samples_add(&grown.at[i], (bytes_now() - before) / 1024, 0, 0);
        }
    }
    rig_stop(&rig);
    const char *what = one_run ? "tasks in one run" : "tasks over runs";
    report(&each, task_sizes, sizes, what, 1, FLAT);
    report(&grown, task_sizes, sizes, what, 1, 0);
}

/* ---- domains that come and go ---- */

enum { CHURN_SIZES = 4, CHURN_CHIPS = 4, DOMAINS_A_RUN = 1000, TOUCHED_BYTES = 64, WARM_RUNS = 20 };
static const uint64_t churn_sizes[CHURN_SIZES] = {1000, 10000, 100000, 1000000};

/* Twelve shapes; in each a task writes. The first run is held, so that as many leases as ever can are alive at once. */
static int churn(tsm_orch *orch, void *arg)
{
    (void)arg;
    bool held = rig.worker->stats.leases_fresh == 0;
    if (held) {
        rig_hold(&rig, orch, CHURN_CHIPS);
    }
    for (uint32_t i = 0; i < DOMAINS_A_RUN; i++) {
        static const int chips[CHURN_CHIPS] = {0, 1, 2, 3};
        struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
        tsm_domain *d;
        o.name = "bench";
        o.chips = chips;
        o.chip_count = 2 + i % 3;
        o.window_bytes = 4096u * (1 + i / 3 % 4);
        bench_must(tsm_domain_alloc(orch, &o, &d), "alloc", tsm_worker_error(rig.worker)->text);
        uint64_t bytes = TOUCHED_BYTES;
        struct tsm_call call = {.callable = rig.dirty,
                                .chip = (int)(i % 2),
                                .domains = &d,
                                .domain_count = 1,
                                .scalars = &bytes,
                                .scalar_count = 1};
        rig_submit(&rig, orch, &call);
        bench_must(tsm_domain_release(d), "release", tsm_worker_error(rig.worker)->text);
    }
    if (held) {
        rig_open(&rig);
    }
    return 0;
}

static void measure_churn(void)
{
    struct series each = {.name = "domain, used, come and gone", .unit = "us"};
    struct series grown = {.name = "memory left behind", .unit = "KiB", .most = LEFT_KIB};
    rig_start(&rig, CHURN_CHIPS, NULL);
    for (uint32_t i = 0; i < WARM_RUNS; i++) {
        rig_run(&rig, churn, NULL);
    }
    for (uint32_t i = 0; i < CHURN_SIZES; i++) {
        double before = bytes_now();
        uint64_t begin = clock_ns();
        for (uint64_t done = 0; done < churn_sizes[i]; done += DOMAINS_A_RUN) {
            rig_run(&rig, churn, NULL);
        }
        samples_add(&each.at[i], since_us(begin) / (double)churn_sizes[i], 0, 0);
        samples_add(&grown.at[i], (bytes_now() - before) / 1024, 0, 0);
    }
    rig_stop(&rig);
    report(&each, churn_sizes, CHURN_SIZES, "domains over runs", 1, FLAT);
    report(&grown, churn_sizes, CHURN_SIZES, "domains over runs", 1, 0);
}

/* ---- domains that live at once ---- */

enum { DOMAIN_SIZES = 6, DOMAIN_CHIPS = 2, WINDOW = 4096, DOMAIN_ROUNDS = 3, MORE = 1000 };
static const uint64_t domain_sizes[DOMAIN_SIZES] = {1, 10, 100, 1000, 10000, 100000};

struct crowd {
    uint64_t count;
    tsm_domain **list;
    double first, again, more, release, bytes; /* us of one; bytes of one */
};

static tsm_domain *allocate(tsm_orch *orch, uint64_t number)
{
    static const int chips[DOMAIN_CHIPS] = {0, 1};
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    char name[32];
    tsm_domain *d;
    snprintf(name, sizeof(name), "d%llu", (unsigned long long)number);
    o.name = name;
    o.chips = chips;
    o.chip_count = DOMAIN_CHIPS;
    o.window_bytes = WINDOW;
    bench_must(tsm_domain_alloc(orch, &o, &d), "alloc", tsm_worker_error(rig.worker)->text);
    return d;
}

static double allocate_all(tsm_orch *orch, struct crowd *c)
{
    uint64_t begin = clock_ns();
    for (uint64_t i = 0; i < c->count; i++) {
        c->list[i] = allocate(orch, i);
    }
    return since_us(begin) / (double)c->count;
}

static double release_all(struct crowd *c)
{
    uint64_t begin = clock_ns();
    for (uint64_t i = 0; i < c->count; i++) {
        bench_must(tsm_domain_release(c->list[i]), "release", "");
    }
    return since_us(begin) / (double)c->count;
}

/* All live, then one more comes and goes many times. */
static int crowd(tsm_orch *orch, void *arg)
{
    struct crowd *c = arg;
    double before = bytes_now();
    c->first = allocate_all(orch, c);
    c->bytes = (bytes_now() - before) / (double)c->count;
    c->release = release_all(c);
    c->again = allocate_all(orch, c);
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < MORE; i++) {
        bench_must(tsm_domain_release(allocate(orch, c->count)), "release", "");
    }
    c->more = since_us(begin) / MORE;
    release_all(c);
    return 0;
}

static void measure_domains(uint32_t sizes)
{
    struct series first = {.name = "allocate, first time", .unit = "us"};
    struct series again = {.name = "allocate, seen", .unit = "us"};
    struct series more = {.name = "allocate + release, one more", .unit = "us"};
    struct series release = {.name = "release", .unit = "us"};
    struct series memory = {.name = "memory of a domain", .unit = "B"};
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct crowd c = {.list = calloc(domain_sizes[DOMAIN_SIZES - 1], sizeof(*c.list))};
    bench_must(c.list ? 0 : -1, "memory", "");
    o.lease_bytes = UINT64_C(16) << 30; /* a window takes ten times what is asked for, untouched */
    for (uint32_t i = 0; i < sizes * DOMAIN_ROUNDS; i++) {
        uint32_t at = i % sizes;
        c.count = domain_sizes[at];
        rig_start(&rig, DOMAIN_CHIPS, &o);
        rig_run(&rig, crowd, &c);
        rig_stop(&rig);
        samples_add(&first.at[at], c.first, 0, 0);
        samples_add(&again.at[at], c.again, 0, 0);
        samples_add(&more.at[at], c.more, 0, 0);
        samples_add(&release.at[at], c.release, 0, 0);
        samples_add(&memory.at[at], c.bytes, 0, 0);
    }
    free(c.list);
    report(&first, domain_sizes, sizes, "live domains", 3, FLAT);
    report(&again, domain_sizes, sizes, "live domains", 3, FLAT);
    report(&more, domain_sizes, sizes, "live domains", 3, FLAT);
    report(&release, domain_sizes, sizes, "live domains", 3, FLAT);
    report(&memory, domain_sizes, sizes, "live domains", 3, FLAT);
}

int main(int argc, char **argv)
{
    bench_begin("growth", argc, argv);
    measure_chips();
    measure_tasks(true, TASK_SIZES);
    measure_tasks(false, TASK_SIZES);
    measure_churn();
    measure_domains(DOMAIN_SIZES);
    return bench_end();
}

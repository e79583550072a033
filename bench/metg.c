/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The minimum effective task granularity: how long a task's work must be for a graph to keep the cores busy with it for half of
 * the time (METG(50 %) of the Task Bench paper, arXiv 1908.05790), over the paper's eleven patterns (pattern.h). The graph has
 * a column per chip, and point p runs on chip p. All parties run the same graphs with the same kernel, whose time per iteration is
 * measured beside each search; every task looks whether its inputs are those of the step before.
 *
 * Efficiency = tasks * work of a task / cores that the workers can have / time of the graph. Where it crosses one half is
 * searched by bisection; the parties take turns within each of its points. Transom's edges are inferred from what the tasks read
 * and write, then given by id. Peers: StarPU and OpenMP, in threads (peer/metg_starpu.c, peer/metg_openmp.c).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "contender.h"
#include "pattern.h"
#include "rig.h"

enum { INFERRED, BY_ID, STARPU, OPENMP, PARTIES, OURS = STARPU };
enum { ROUNDS = 5, ROUNDS_LONG = 15, TRIES = 3, CHIPS_MAX = 8 };
enum { BATCH_NS = 10000000, TASKS_MAX = 32768, STEPS_MIN = 32 };
/* Where a search begins when nothing is known, and where it gives up. */
#define GUESS_NS 3000.0
#define LIMIT_NS 2e6
/* A search ends when its bracket is this narrow. */
#define NARROW 1.15

/* For one half of efficiency: the iterations of a task between the last found to be too few and enough. 0: none yet. */
struct search {
    double few, enough;
    double few_efficiency, enough_efficiency;
    double iterations; /* to try next */
    double stride;     /* factor of the next step while one side is open */
    double efficiency[TRIES];
    uint32_t steps;
    bool over;
};

struct party {
    struct contender peer; /* unused by ours */
    tsm_orch_fn *submit;   /* ours only */
    struct pattern_graph graph;
    struct search search;
    double task_ns;         /* of a core, the last time */
    double found[PATTERNS]; /* ns of work in the last round; 0: none */
};

static struct rig rig;
static struct party parties[PARTIES];
static struct pattern_slot *slots;
static tsm_callable point_by_tensors, point_by_mask;
static double iteration_ns;
static double trip_ns[PATTERNS]; /* R around the last round */
static uint32_t usable;          /* cores */

/* ---- Transom ---- */

static int refuse(tsm_task *t)
{
    return tsm_fail(t, "an input of step %llu of point %llu is not of the step before",
                    (unsigned long long)tsm_task_scalar(t, 0),
                    (unsigned long long)tsm_task_scalar(t, 1));
}

/* Scalars: step, point, iterations. Tensors: the inputs, then the output. */
static int run_by_tensors(tsm_task *t)
{
    const struct pattern_slot *inputs[CHIPS_MAX];
    uint32_t count = tsm_task_tensor_count(t) - 1;
    for (uint32_t k = 0; k < count; k++) {
        inputs[k] = tsm_task_data(t, k);
    }
    bool right =
        pattern_run(tsm_task_data(t, count), inputs, count, (uint32_t)tsm_task_scalar(t, 0),
                    (uint32_t)tsm_task_scalar(t, 1), (uint32_t)tsm_task_scalar(t, 2));
    return right ? 0 : refuse(t);
}

/* Scalars: step, point, iterations, the slots, the points that are inputs as bits. */
static int run_by_mask(tsm_task *t)
{
    const struct pattern_slot *inputs[CHIPS_MAX];
    struct pattern_slot *all = (void *)(uintptr_t)tsm_task_scalar(t, 3);
    uint32_t step = (uint32_t)tsm_task_scalar(t, 0);
    uint32_t point = (uint32_t)tsm_task_scalar(t, 1);
    uint32_t count = 0;
    for (uint64_t left = tsm_task_scalar(t, 4); left != 0; left &= left - 1) {
        inputs[count++] = &all[pattern_slot(step - 1, (uint32_t)__builtin_ctzll(left))];
    }
    bool right = pattern_run(&all[pattern_slot(step, point)], inputs, count, step, point,
                             (uint32_t)tsm_task_scalar(t, 2));
    return right ? 0 : refuse(t);
}

static void name_slot(struct tsm_tensor *x, uint32_t step, uint32_t point, uint8_t tag)
{
    x->data = &slots[pattern_slot(step, point)];
    x->dtype = TSM_U64;
    x->tag = tag;
    x->ndim = 1;
    x->stride_given = 0;
    x->shape[0] = sizeof(struct pattern_slot) / sizeof(uint64_t);
}

static int submit_inferred(tsm_orch *orch, void *arg)
{
    const struct party *p = arg;
    for (uint32_t i = 0; i < p->graph.count; i++) {
        const struct pattern_task *t = &p->graph.tasks[i];
        const uint8_t *points = &p->graph.points[t->first];
        struct tsm_tensor x[CHIPS_MAX + 1];
        uint64_t scalars[] = {t->step, t->point, (uint64_t)p->search.iterations};
        for (uint32_t k = 0; k < t->inputs; k++) {
            name_slot(&x[k], t->step - 1, points[k], TSM_INPUT);
        }
        name_slot(&x[t->inputs], t->step, t->point, TSM_OUTPUT_EXISTING);
        struct tsm_call call = {.callable = point_by_tensors,
                                .chip = (int)t->point,
                                .tensors = x,
                                .tensor_count = t->inputs + 1U,
                                .scalars = scalars,
                                .scalar_count = 3};
        int rc = tsm_submit(orch, &call, NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int submit_by_id(tsm_orch *orch, void *arg)
{
    const struct party *p = arg;
    tsm_task_id writers[2 * CHIPS_MAX] = {0}; /* by slot */
    for (uint32_t i = 0; i < p->graph.count; i++) {
        const struct pattern_task *t = &p->graph.tasks[i];
        const uint8_t *points = &p->graph.points[t->first];
        tsm_task_id after[2 * CHIPS_MAX];
        uint64_t scalars[] = {t->step, t->point, (uint64_t)p->search.iterations,
                              (uint64_t)(uintptr_t)slots, 0};
        for (uint32_t k = 0; k < (uint32_t)t->inputs + t->readers; k++) {
            after[k] = writers[pattern_slot(t->step - 1, points[k])];
        }
        for (uint32_t k = 0; k < t->inputs; k++) {
            scalars[4] |= UINT64_C(1) << points[k];
        }
        struct tsm_call call = {.callable = point_by_mask,
                                .chip = (int)t->point,
                                .after = after,
                                .after_count = (uint32_t)t->inputs + t->readers,
                                .scalars = scalars,
                                .scalar_count = 5};
        int rc = tsm_submit(orch, &call, &writers[pattern_slot(t->step, t->point)]);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static double time_ours(struct party *p, enum pattern pattern)
{
    bool made = pattern_make(&p->graph, pattern, rig.chips, p->search.steps);
    bench_must(made ? 0 : -1, "memory", "");
    memset(slots, 0, 2 * (size_t)rig.chips * sizeof(*slots));
    uint64_t begin = clock_ns();
    rig_run(&rig, p->submit, p);
    double ns = (double)(clock_ns() - begin);
    bench_must(pattern_sum(slots, rig.chips) == p->graph.sum ? 0 : -1, "wrong result",
               pattern_name(pattern));
    return ns;
}

/* ---- one point of a search ---- */

static double time_peer(struct party *p, enum pattern pattern)
{
    double ns = contender_ask(&p->peer, "metg %u %u %u %u", pattern, rig.chips, p->search.steps,
                              (uint32_t)p->search.iterations);
    if (ns < 0) {
        bench_note("%s ran %s out of order: left out from here on", p->peer.name,
                   pattern_name(pattern));
        contender_stop(&p->peer);
    }
    return ns;
}

/* So many that the graph takes about BATCH_NS. */
static uint32_t choose_steps(const struct party *p)
{
    double task_ns = fmax(p->task_ns, 2 * p->search.iterations * iteration_ns);
    double wanted = fmin(TASKS_MAX, BATCH_NS * (double)usable / task_ns) / rig.chips;
    uint32_t steps = STEPS_MIN;
    while (2 * steps <= wanted) {
        steps *= 2;
    }
    return steps;
}

/* 0: there is no figure. */
static double measure(struct party *p, enum pattern pattern)
{
    double ns = p->submit ? time_ours(p, pattern) : time_peer(p, pattern);
    if (ns <= 0) {
        return 0;
    }
    uint32_t tasks = pattern_count(pattern, rig.chips, p->search.steps);
    p->task_ns = ns * usable / tasks;
    return p->search.iterations * iteration_ns / p->task_ns;
}

/* ---- the search ---- */

static void search_begin(struct party *p, double guess_ns, double stride)
{
    p->search = (struct search){.iterations = fmax(1, round(guess_ns / iteration_ns)),
                                .stride = stride,
                                .over = !p->submit && p->peer.name[0] == 0};
}

/* Takes the efficiency of the point that was tried and chooses the next. */
static void search_go_on(struct search *s, double efficiency)
{
    if (efficiency == 0) {
        s->enough = 0;
        s->over = true;
        return;
    }
    if (efficiency < 0.5) {
        s->few = s->iterations;
        s->few_efficiency = efficiency;
    } else {
        s->enough = s->iterations;
        s->enough_efficiency = efficiency;
    }
    if (s->few > 0 && s->enough > 0) {
        s->iterations = round(sqrt(s->few * s->enough));
        s->over =
            s->enough <= NARROW * s->few || s->iterations <= s->few || s->iterations >= s->enough;
        return;
    }
    s->over = s->enough == 1 || s->few * iteration_ns > LIMIT_NS;
    s->iterations = s->few > 0 ? ceil(s->few * s->stride) : floor(s->enough / s->stride);
    s->iterations = fmax(1, s->iterations);
    s->stride = fmin(4, s->stride * s->stride);
}

/* ns of work, between the two ends by the logarithm; 0 when there is no crossing below the limit. */
static double search_result(const struct search *s)
{
    if (s->enough == 0) {
        return 0;
    }
    if (s->few == 0) {
        return s->enough * iteration_ns;
    }
    double part = (0.5 - s->few_efficiency) / (s->enough_efficiency - s->few_efficiency);
    return s->few * pow(s->enough / s->few, part) * iteration_ns;
}

/* One round of a pattern for the parties of [first, end): found[pattern] of each. */
static void search_round(enum pattern pattern, uint32_t first, uint32_t end)
{
    uint32_t left = 1;
    iteration_ns = pattern_kernel_ns();
    trip_ns[pattern] = r_probe();
    for (uint32_t i = first; i < end; i++) {
        struct party *p = &parties[i];
        double near = pattern > 0 && p->found[pattern - 1] > 0 ? p->found[pattern - 1] : GUESS_NS;
        bool again = p->found[pattern] > 0;
        search_begin(p, again ? p->found[pattern] : near, again ? 1.2 : 3);
    }
    while (left > 0) {
        for (uint32_t i = first; i < end; i++) {
            parties[i].search.steps = choose_steps(&parties[i]);
        }
        for (uint32_t k = 0; k < TRIES; k++) {
            for (uint32_t i = first; i < end; i++) {
                struct search *s = &parties[i].search;
                s->efficiency[k] = s->over ? 0 : measure(&parties[i], pattern);
            }
        }
        left = 0;
        for (uint32_t i = first; i < end; i++) {
            struct search *s = &parties[i].search;
            if (!s->over) {
                search_go_on(s, quantile(s->efficiency, TRIES, 0.5));
                left += !s->over;
            }
        }
    }
    for (uint32_t i = first; i < end; i++) {
        parties[i].found[pattern] = search_result(&parties[i].search);
    }
    trip_ns[pattern] = (trip_ns[pattern] + r_probe()) / 2;
}

/* ---- the peers ---- */

static const char *const peer_names[] = {"StarPU", "OpenMP", NULL};

/* One way to run a peer. */
struct setting {
    uint32_t threads;
    const char *environment[3]; /* NULL-terminated */
};

static bool start_peer(uint32_t party, const struct setting *s)
{
    static const char *const programs[PARTIES] = {
        [STARPU] = "metg_starpu", [OPENMP] = "metg_openmp"};
    return contender_start(&parties[party].peer, peer_names[party - OURS], programs[party],
                           s->threads, s->environment);
}

/* ns of work, the geometric mean over a few patterns; 0: it did not start. */
static double try_setting(uint32_t party, const struct setting *s)
{
    static const enum pattern tried[] = {PATTERN_TRIVIAL, PATTERN_STENCIL_1D, PATTERN_SPREAD};
    enum { TRIED = sizeof(tried) / sizeof(tried[0]) };
    struct party *p = &parties[party];
    double sum = 0;
    if (!start_peer(party, s)) {
        return 0;
    }
    for (uint32_t i = 0; i < TRIED; i++) {
        search_round(tried[i], party, party + 1);
        sum += log(p->found[tried[i]] > 0 ? p->found[tried[i]] : LIMIT_NS);
    }
    contender_stop(&p->peer);
    memset(p->found, 0, sizeof(p->found));
    return exp(sum / TRIED);
}

/* Starts the peer with the setting that does best. */
static void choose(uint32_t party, const struct setting *settings, uint32_t count)
{
    const struct setting *best = NULL;
    double least_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        double ns = try_setting(party, &settings[i]);
        if (ns == 0) {
            return; /* it is not there, and has been noted */
        }
        if (!best || ns < least_ns) {
            best = &settings[i];
            least_ns = ns;
        }
    }
    if (best && start_peer(party, best)) {
        bench_note("chips %u: %s has threads for the tasks: %u; %s%s%s, the best of %u settings",
                   rig.chips, peer_names[party - OURS], best->threads, best->environment[0],
                   best->environment[1] ? " " : "",
                   best->environment[1] ? best->environment[1] : "", count);
    }
}

/* StarPU binds each worker to a core of its own and advises against more of them than cores. */
static void choose_peers(void)
{
    const struct setting starpu[] = {{usable, {"STARPU_SCHED=lws"}},
                                     {usable, {"STARPU_SCHED=eager"}}};
    const struct setting openmp[] = {
        {usable, {"OMP_WAIT_POLICY=active", "METG_WINDOW=16"}},
        {usable, {"OMP_WAIT_POLICY=active", "METG_WINDOW=64"}},
        {usable, {"OMP_WAIT_POLICY=passive", "METG_WINDOW=16"}},
        {usable, {"OMP_WAIT_POLICY=passive", "METG_WINDOW=64"}},
        {rig.chips, {"OMP_WAIT_POLICY=active", "METG_WINDOW=64"}},
        {rig.chips, {"OMP_WAIT_POLICY=passive", "METG_WINDOW=64"}},
    };
    choose(STARPU, starpu, 2);
    choose(OPENMP, openmp, rig.chips > usable ? 6 : 4);
}

/* Everybody's kernel must be as fast. */
static void check_kernels(void)
{
    double ours = pattern_kernel_ns();
    for (uint32_t i = OURS; i < PARTIES; i++) {
        double ns = contender_ask(&parties[i].peer, "kernel");
        if (ns > 1.1 * ours || (ns > 0 && ns < 0.9 * ours)) {
            bench_note("an iteration of the kernel takes %.2f ns here and %.2f in %s", ours, ns,
                       parties[i].peer.name);
        }
    }
}

/* ---- the figures ---- */

/* ns of work by party, pattern and round, 0 for none; and R. */
static double kept[PARTIES][PATTERNS][ROUNDS_LONG];
static double kept_trip[PATTERNS][ROUNDS_LONG];

static void keep_round(uint32_t round)
{
    for (uint32_t i = 0; i < PATTERNS; i++) {
        kept_trip[i][round] = trip_ns[i];
        for (uint32_t k = 0; k < PARTIES; k++) {
            kept[k][i][round] = parties[k].found[i];
        }
    }
}

static void note_missing(enum pattern pattern, uint32_t rounds)
{
    static const char *const names[PARTIES] = {"Transom", "Transom, edges by id", "StarPU",
                                               "OpenMP"};
    for (uint32_t k = 0; k < PARTIES; k++) {
        uint32_t missing = 0;
        for (uint32_t r = 0; r < rounds; r++) {
            missing += kept[k][pattern][r] == 0;
        }
        if (missing > 0 && (k < OURS || parties[k].peer.name[0])) {
            bench_note(
                "chips %u, %s: %s was not at one half below %g ms of work in %u of %u rounds",
                rig.chips, pattern_name(pattern), names[k], LIMIT_NS / 1e6, missing, rounds);
        }
    }
}

/* The geometric mean over the patterns of what was kept in a round; 0 when one is missing. */
static double mean_of(double values[PATTERNS][ROUNDS_LONG], uint32_t round)
{
    double sum = 0;
    for (uint32_t i = 0; i < PATTERNS; i++) {
        if (values[i][round] == 0) {
            return 0;
        }
        sum += log(values[i][round]);
    }
    return exp(sum / PATTERNS);
}

/* A figure of one pattern, or for PATTERNS of the mean over all. */
static void report(uint32_t ours, uint32_t pattern, uint32_t rounds)
{
    static const char *const edges[] = {"", ", edges by id"};
    struct samples s = {0};
    char params[64];
    bool probed = rig.chips <= cores();
    snprintf(params, sizeof(params), "%u chip%s%s", rig.chips, rig.chips == 1 ? "" : "s",
             edges[ours]);
    for (uint32_t r = 0; r < rounds; r++) {
        double us[PARTIES];
        for (uint32_t k = 0; k < PARTIES; k++) {
            us[k] = (pattern < PATTERNS ? kept[k][pattern][r] : mean_of(kept[k], r)) / 1e3;
        }
        struct sample one = {.value = us[ours],
                             .r =
                                 pattern < PATTERNS ? kept_trip[pattern][r] : mean_of(kept_trip, r),
                             .peer = {us[STARPU], us[OPENMP]}};
        if (one.value > 0) {
            samples_push(&s, &one);
        }
    }
    struct figure f = {.name = pattern < PATTERNS ? pattern_name(pattern) : "geometric mean",
                       .params = params,
                       .unit = "us",
                       .against = AGAINST_PEER,
                       .limit = 1,
                       .peers = peer_names,
                       .chips = rig.chips,
                       .x = pattern};
    /* The mean is over patterns that may have met the cores near and far. */
    (probed && pattern < PATTERNS ? figure_report_cores : figure_report)(&f, &s);
    samples_free(&s);
}

static void report_all(uint32_t rounds)
{
    for (uint32_t pattern = 0; pattern < PATTERNS; pattern++) {
        note_missing(pattern, rounds);
        for (uint32_t ours = 0; ours < OURS; ours++) {
            report(ours, pattern, rounds);
        }
    }
    /* Sorted, so that the median of the means is the mean of the medians: a round of one pattern that was disturbed counts
     * for that pattern only. */
    for (uint32_t i = 0; i < PATTERNS; i++) {
        quantile(kept_trip[i], rounds, 0.5);
        for (uint32_t k = 0; k < PARTIES; k++) {
            quantile(kept[k][i], rounds, 0.5);
        }
    }
    for (uint32_t ours = 0; ours < OURS; ours++) {
        report(ours, PATTERNS, rounds);
    }
}

static void measure_chips(uint32_t chips)
{
    uint32_t rounds = bench_long() ? ROUNDS_LONG : ROUNDS;
    void *memory;
    memset(parties, 0, sizeof(parties));
    parties[INFERRED].submit = submit_inferred;
    parties[BY_ID].submit = submit_by_id;
    usable = chips < cores() ? chips : cores();
    rig_add("point by tensors", run_by_tensors, &point_by_tensors);
    rig_add("point by mask", run_by_mask, &point_by_mask);
    pin_self(0);
    r_start(0, 1);
    rig_start(&rig, chips, NULL);
    rig_pin(&rig, 1);
    bench_must(tsm_buffer_create(rig.worker, 2 * CHIPS_MAX * sizeof(*slots), &memory), "buffer",
               "");
    slots = memory;
    choose_peers();
    check_kernels();
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < PATTERNS; i++) {
            search_round(i, 0, PARTIES);
        }
        keep_round(round);
    }
    report_all(rounds);
    for (uint32_t k = 0; k < PARTIES; k++) {
        contender_stop(&parties[k].peer);
        pattern_free(&parties[k].graph);
    }
    rig_stop(&rig);
    r_stop();
}

int main(int argc, char **argv)
{
    static const uint32_t chips[] = {1, 2, CHIPS_MAX};
    bench_begin("metg", argc, argv);
    bench_note("StarPU and OpenMP run their tasks in threads of one process");
    for (uint32_t i = 0; i < sizeof(chips) / sizeof(chips[0]); i++) {
        measure_chips(chips[i]);
    }
    return bench_end();
}

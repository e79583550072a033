/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Starting and asking the peers that run tasks (taskpeers.h). Runs in the benchmark's process. */
#include "taskpeers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *const *task_peer_names(void)
{
    static const char *const names[TASK_PEERS + 1] = {"StarPU", "oneTBB", "OpenMP active",
                                                      "OpenMP passive", NULL};
    return names;
}

void task_peers_explain(void)
{
    static bool said;
    if (!said) {
        bench_note(
            "StarPU (eager), oneTBB, OpenMP: tasks in threads of one process, a thread for each "
            "worker and the one that submits. In oneTBB and OpenMP that one runs tasks, too, while "
            "it waits, here most of them; a task of Transom always crosses into another process");
    }
    said = true;
}

void task_peers_start(struct task_peers *p, uint32_t workers)
{
    static const char *const programs[] = {"tasks_starpu", "tasks_tbb", "tasks_openmp",
                                           "tasks_openmp"};
    static const char *const active[] = {"OMP_WAIT_POLICY=active", NULL};
    static const char *const passive[] = {"OMP_WAIT_POLICY=passive", NULL};
    static const char *const *const environments[] = {NULL, NULL, active, passive};
    static bool missing[TASK_PEERS]; /* noted already */
    task_peers_explain();
    for (int i = 0; i < TASK_PEERS; i++) {
        struct contender *c = &p->one[i];
        c->name[0] = 0;
        if (missing[i] ||
            !contender_start(c, task_peer_names()[i], programs[i], workers, environments[i])) {
            missing[i] = true;
            continue;
        }
        double has = contender_ask(c, "workers");
        if (has > 0 && has < workers) {
            bench_note("%s with %u chips: with %.0f workers, it was built for no more", c->name,
                       workers, has);
        }
    }
}

void task_peers_ask(struct task_peers *p, const char *order, struct sample *ret)
{
    for (int i = 0; i < TASK_PEERS; i++) {
        ret->peer[i] = contender_ask(&p->one[i], "%s", order);
    }
}

void task_peers_stop(struct task_peers *p)
{
    for (int i = 0; i < TASK_PEERS; i++) {
        contender_stop(&p->one[i]);
    }
}

/* ---- the same as rates ---- */

/* In millions a second; of the peer, < 0: of Transom. 0: there is none. */
static double task_rate(const struct samples *s, int peer)
{
    double *ns = calloc(s->count + 1, sizeof(*ns));
    uint32_t count = 0;
    bench_must(ns ? 0 : -1, "memory", "");
    for (uint32_t i = 0; i < s->count; i++) {
        double one = peer < 0 ? s->list[i].value : s->list[i].peer[peer];
        if (one > 0) {
            ns[count++] = one;
        }
    }
    double median = quantile(ns, count, 0.5);
    free(ns);
    return median > 0 ? 1000 / median : 0;
}

__attribute__((format(printf, 2, 3))) static void rates_print(struct task_rates *r,
                                                              const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(r->text + r->length, sizeof(r->text) - r->length, format, ap);
    va_end(ap);
    if (n > 0 && r->length + (uint32_t)n < sizeof(r->text)) {
        r->length += (uint32_t)n;
    }
}

void task_rates_add(struct task_rates *r, uint32_t chips, const struct samples *s)
{
    const char *comma = " (";
    rates_print(r, "%s%u chip%s %.3g", r->length ? "; " : "", chips, chips == 1 ? "" : "s",
                task_rate(s, -1));
    for (int i = 0; i < TASK_PEERS; i++) {
        double rate = task_rate(s, i);
        if (rate > 0) {
            rates_print(r, "%s%s %.3g", comma, task_peer_names()[i], rate);
            comma = ", ";
        }
    }
    rates_print(r, "%s", *comma == ',' ? ")" : "");
}

void task_rates_note(const struct task_rates *r, const char *what)
{
    bench_note("%s, million a second: %s", what, r->text);
}

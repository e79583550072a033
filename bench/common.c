/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Samples, figures and the R probe (common.h). Runs in the benchmark's own process; owns the output and the
 * probe's other side.
 */
#include "common.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "futex.h"

enum { CLASS_MIN = 3, PROBE_CHUNKS = 9, PROBE_TRIPS = 200, RETRIES = 4 };

static struct {
    const char *name;
    FILE *json;
    bool table, head, takes_long, failed;
    double busy; /* percent of all cores used by others, before the first figure */
    char date[32];
} out;

/* ---- how busy the machine is ---- */

static void read_cpu(double *ret_busy, double *ret_all)
{
    unsigned long long v[8] = {0};
    FILE *f = fopen("/proc/stat", "r");
    if (f) {
        if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
                   &v[4], &v[5], &v[6], &v[7]) != 8) {
            memset(v, 0, sizeof(v));
        }
        fclose(f);
    }
    *ret_all = 0;
    for (int i = 0; i < 8; i++) {
        *ret_all += (double)v[i];
    }
    *ret_busy = *ret_all - (double)v[3] - (double)v[4];
}

static double others_busy(void)
{
    double busy[2], all[2];
    read_cpu(&busy[0], &all[0]);
    usleep(300000);
    read_cpu(&busy[1], &all[1]);
    return all[1] > all[0] ? 100 * (busy[1] - busy[0]) / (all[1] - all[0]) : 0;
}

/* ---- output ---- */

static void print_head(void)
{
    printf("%-26s %-32s %9s %9s %9s %-7s %9s %6s %6s %6s %9s %6s %-14s %-20s\n", "figure", "with",
           "median", "p10", "p90", "unit", "floor", "x", "R", "x", "peer", "x", "best peer",
           "target");
}

void bench_begin(const char *name, int argc, char **argv)
{
    char path[4096];
    bool to_stdout = false;
    out.name = name;
    out.table = out.head = true;
    for (int i = 1; i < argc; i++) {
        to_stdout |= strcmp(argv[i], "--json") == 0;
        out.takes_long |= strcmp(argv[i], "--long") == 0;
        out.head &= strcmp(argv[i], "--row") != 0;
    }
    time_t now = time(NULL);
    strftime(out.date, sizeof(out.date), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    out.busy = others_busy();
    if (to_stdout) {
        out.table = false;
        out.json = stdout;
        return;
    }
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 8);
    bench_must(n > 0 ? 0 : -1, "/proc/self/exe", "");
    snprintf(path + n, 8, ".jsonl");
    out.json = fopen(path, "w");
    bench_must(out.json ? 0 : -1, "cannot write", path);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (out.head) {
        print_head();
    }
}

int bench_end(void)
{
    r_stop();
    if (fflush(out.json) != 0 || ferror(out.json)) {
        fprintf(stderr, "%s: cannot write the figures\n", out.name);
        return 1;
    }
    return out.failed;
}

bool bench_long(void)
{
    return out.takes_long;
}

void bench_must(int rc, const char *what, const char *text)
{
    if (rc != 0) {
        fprintf(stderr, "%s: %s: %d %s\n", out.name, what, rc, text);
        exit(1);
    }
}

void bench_note(const char *format, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (out.table) {
        printf("  (%s: %s)\n", out.name, text);
    }
    fprintf(out.json, "{\"bench\": \"%s\", \"note\": \"%s\"}\n", out.name, text);
}

/* ---- samples ---- */

void samples_push(struct samples *s, const struct sample *one)
{
    if (s->count == s->max) {
        s->max = s->max ? 2 * s->max : 32;
        s->list = realloc(s->list, s->max * sizeof(*s->list));
        bench_must(s->list ? 0 : -1, "memory", "");
    }
    s->list[s->count++] = *one;
}

void samples_add(struct samples *s, double value, double floor, double r)
{
    struct sample one = {.value = value, .floor = floor, .r = r};
    samples_push(s, &one);
}

void samples_free(struct samples *s)
{
    free(s->list);
    *s = (struct samples){0};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(double *values, uint32_t count, double p)
{
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof(*values), compare);
    double at = p * (count - 1);
    uint32_t lo = (uint32_t)at;
    uint32_t hi = lo + 1 < count ? lo + 1 : lo;
    return values[lo] + (at - lo) * (values[hi] - values[lo]);
}

/* A column is one of these, or PEER + i, or TO_PEER + i. */
enum column { VALUE, FLOOR, ROUND_TRIP, TO_FLOOR, TO_R, PEER, TO_PEER = PEER + PEERS_MAX };

/* 0: the sample has none. */
static double pick(const struct sample *s, int column)
{
    double of = 0;
    switch (column) {
    case VALUE:
        return s->value;
    case FLOOR:
        return s->floor;
    case ROUND_TRIP:
        return s->r;
    case TO_FLOOR:
        of = s->floor;
        break;
    case TO_R:
        of = s->r;
        break;
    default:
        if (column < TO_PEER) {
            return s->peer[column - PEER];
        }
        of = s->peer[column - TO_PEER];
    }
    return of > 0 ? s->value / of : 0;
}

/* Over the samples that have it. */
static double column_quantile(const struct samples *s, int column, double p)
{
    double *v = calloc(s->count + 1, sizeof(*v));
    uint32_t count = 0;
    bench_must(v ? 0 : -1, "memory", "");
    for (uint32_t i = 0; i < s->count; i++) {
        double x = pick(&s->list[i], column);
        if (x != 0 || column == VALUE) {
            v[count++] = x;
        }
    }
    double q = quantile(v, count, p);
    free(v);
    return q;
}

/* ---- figures ---- */

struct outcome {
    double median, p10, p90, floor, r, to_floor, to_r, peer, to_peer;
    int best; /* peer; < 0: none */
    bool judged, ok;
};

static int best_peer(const struct figure *f, const struct samples *s)
{
    int best = -1;
    double least = 0;
    for (int i = 0; f->peers && i < PEERS_MAX && f->peers[i]; i++) {
        double median = column_quantile(s, PEER + i, 0.5);
        if (median > 0 && (best < 0 || median < least)) {
            least = median;
            best = i;
        }
    }
    return best;
}

/* What was not there judges nothing. */
static bool judges(const struct outcome *o, enum against against)
{
    switch (against) {
    case AGAINST_NOTHING:
        return false;
    case AGAINST_FLOOR:
        return o->to_floor > 0;
    case AGAINST_PEER:
        return o->to_peer > 0;
    case AGAINST_R:
        return o->to_r > 0;
    default:
        return true;
    }
}

static bool holds(const struct outcome *o, enum against against, double limit)
{
    switch (against) {
    case AGAINST_FLOOR:
        return o->to_floor <= limit;
    case AGAINST_PEER:
        return o->to_peer <= limit;
    case AGAINST_R:
        return o->to_r <= limit;
    case AGAINST_MAX:
        return o->median <= limit;
    case AGAINST_MIN:
        return o->median >= limit;
    default:
        return true;
    }
}

/* Nanoseconds of a unit of time, else 0: then a multiple of R means nothing. */
static double unit_ns(const char *unit)
{
    return strcmp(unit, "ns") == 0   ? 1
           : strcmp(unit, "us") == 0 ? 1e3
           : strcmp(unit, "ms") == 0 ? 1e6
                                     : 0;
}

static struct outcome judge(const struct figure *f, const struct samples *s)
{
    struct outcome o = {.median = column_quantile(s, VALUE, 0.5),
                        .p10 = column_quantile(s, VALUE, 0.1),
                        .p90 = column_quantile(s, VALUE, 0.9),
                        .floor = column_quantile(s, FLOOR, 0.5),
                        .r = column_quantile(s, ROUND_TRIP, 0.5),
                        .to_floor = column_quantile(s, TO_FLOOR, 0.5),
                        .to_r = column_quantile(s, TO_R, 0.5) * unit_ns(f->unit),
                        .best = best_peer(f, s)};
    if (o.best >= 0) {
        o.peer = column_quantile(s, PEER + o.best, 0.5);
        o.to_peer = column_quantile(s, TO_PEER + o.best, 0.5);
    }
    o.judged = judges(&o, f->against) || judges(&o, f->also);
    o.ok = holds(&o, f->against, f->limit) && holds(&o, f->also, f->also_limit);
    return o;
}

static int target_text(const struct figure *f, enum against against, double limit, char text[48])
{
    switch (against) {
    case AGAINST_NOTHING:
        return snprintf(text, 48, "%s", "");
    case AGAINST_MAX:
        return snprintf(text, 48, "<= %g %s", limit, f->unit);
    case AGAINST_MIN:
        return snprintf(text, 48, ">= %g %s", limit, f->unit);
    default:
        return snprintf(text, 48, "<= %g %s", limit,
                        against == AGAINST_R      ? "R"
                        : against == AGAINST_PEER ? "peer"
                                                  : "floor");
    }
}

/* Four digits, without an exponent; "-" for none. */
static const char *number(double v, char text[24])
{
    double a = v < 0 ? -v : v;
    int digits = a >= 1000 ? 0 : a >= 100 ? 1 : a >= 10 ? 2 : 3;
    snprintf(text, 24, "%.*f", a == 0 ? 0 : digits, v);
    return text;
}

static const char *some(double v, char text[24])
{
    return v > 0 ? number(v, text) : "-";
}

static void print_row(const struct figure *f, const struct outcome *o, const char *target)
{
    char a[9][24];
    printf("%-26s %-32s %9s %9s %9s %-7s %9s %6s %6s %6s %9s %6s %-14s %-20s %s\n", f->name,
           f->params, number(o->median, a[0]), number(o->p10, a[1]), number(o->p90, a[2]), f->unit,
           some(o->floor, a[3]), some(o->to_floor, a[4]), some(o->r, a[5]), some(o->to_r, a[6]),
           some(o->peer, a[7]), some(o->to_peer, a[8]), o->best < 0 ? "" : f->peers[o->best],
           target,
           !o->judged ? ""
           : o->ok    ? "ok"
                      : "MISSED");
}

static void write_peers(const struct figure *f, const struct samples *s)
{
    const char *comma = "";
    fprintf(out.json, "\"peers\": {");
    for (int i = 0; f->peers && i < PEERS_MAX && f->peers[i]; i++) {
        double median = column_quantile(s, PEER + i, 0.5);
        if (median > 0) {
            fprintf(out.json,
                    "%s\"%s\": {\"value\": %.6g, \"p10\": %.6g, \"p90\": %.6g, \"ratio\": %.4g}",
                    comma, f->peers[i], median, column_quantile(s, PEER + i, 0.1),
                    column_quantile(s, PEER + i, 0.9), column_quantile(s, TO_PEER + i, 0.5));
            comma = ", ";
        }
    }
    fprintf(out.json, "}, ");
}

static void write_line(const struct figure *f, const struct samples *s, const struct outcome *o,
                       const char *target)
{
    fprintf(
        out.json,
        "{\"bench\": \"%s\", \"name\": \"%s\", \"params\": \"%s\", \"chips\": %u, \"x\": %.10g, "
        "\"value\": %.6g, \"p10\": %.6g, \"p90\": %.6g, \"unit\": \"%s\", \"floor\": %.6g, "
        "\"floor_p10\": %.6g, \"floor_p90\": %.6g, \"ratio\": %.4g, \"R\": %.4g, "
        "\"ratio_R\": %.4g, ",
        out.name, f->name, f->params, f->chips, f->x, o->median, o->p10, o->p90, f->unit, o->floor,
        column_quantile(s, FLOOR, 0.1), column_quantile(s, FLOOR, 0.9), o->to_floor, o->r, o->to_r);
    write_peers(f, s);
    fprintf(out.json,
            "\"target\": \"%s\", \"ok\": %s, \"batches\": %u, \"date\": \"%s\", "
            "\"others_percent\": %.1f}\n",
            target,
            !o->judged ? "null"
            : o->ok    ? "true"
                       : "false",
            s->count, out.date, out.busy);
    fflush(out.json);
}

void figure_report(const struct figure *f, const struct samples *s)
{
    char target[100];
    if (s->count == 0) {
        return;
    }
    struct outcome o = judge(f, s);
    int n = target_text(f, f->against, f->limit, target);
    if (f->also != AGAINST_NOTHING) {
        n += snprintf(target + n, sizeof(target) - (size_t)n, ", ");
        target_text(f, f->also, f->also_limit, target + n);
    }
    if (out.table) {
        print_row(f, &o, target);
    }
    write_line(f, s, &o, target);
}

void figure_report_cores(const struct figure *f, const struct samples *s)
{
    for (int far = 0; far < 2; far++) {
        struct samples part = {0};
        char params[128];
        for (uint32_t i = 0; i < s->count; i++) {
            if ((s->list[i].r >= R_NEAR_NS) == far) {
                samples_push(&part, &s->list[i]);
            }
        }
        snprintf(params, sizeof(params), "%s%s%s", f->params, *f->params ? ", " : "",
                 far ? "far" : "near");
        struct figure g = *f;
        g.params = params;
        if (part.count >= CLASS_MIN) {
            figure_report(&g, &part);
        }
        samples_free(&part);
    }
}

/* ---- cores ---- */

static cpu_set_t allowed;

uint32_t cores(void)
{
    if (CPU_COUNT(&allowed) == 0 && sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return 1;
    }
    return (uint32_t)CPU_COUNT(&allowed);
}

bool two_cores(void)
{
    return cores() >= 2;
}

void pin_self(uint32_t core)
{
    uint32_t left = core % cores();
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t c = 0; c < CPU_SETSIZE; c++) {
        if (CPU_ISSET(c, &allowed) && left-- == 0) {
            CPU_SET(c, &set);
            break;
        }
    }
    sched_setaffinity(0, sizeof(set), &set);
}

void unpin_self(void)
{
    if (cores() > 0) {
        sched_setaffinity(0, sizeof(allowed), &allowed);
    }
}

void *shared_alloc(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_must(p == MAP_FAILED ? -1 : 0, "mmap", "");
    return p;
}

void shared_free(void *p, uint64_t bytes)
{
    munmap(p, bytes);
}

uint32_t random_below(struct random *r, uint32_t n)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return (uint32_t)((r->state * UINT64_C(2685821657736338717) >> 32) % n);
}

/* ---- R ---- */

/* Odd: the parent's turn is over; even: the child's. */
static struct probe {
    a64 ball;
    uint8_t reserved0[56];
    a32 gate; /* counts the probes; the child sleeps on it */
    a32 awake;
    uint8_t reserved1[56];
} * probe;
static pid_t probe_pid;

static _Noreturn void probe_child(uint32_t core)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pin_self(core);
    for (uint32_t turn = 0;; turn++) {
        while (a32_acquire(&probe->gate) == turn) {
            futex_sleep(&probe->gate, turn, NULL);
        }
        a32_release(&probe->awake, turn + 1);
        for (uint64_t n = 1; n < 2 * PROBE_CHUNKS * PROBE_TRIPS; n += 2) {
            while (a64_acquire(&probe->ball) != n) {
            }
            a64_release(&probe->ball, n + 1);
        }
    }
}

void r_start(uint32_t here, uint32_t there)
{
    r_stop();
    if (!two_cores()) {
        return;
    }
    probe = shared_alloc(sizeof(*probe));
    probe_pid = fork();
    bench_must(probe_pid < 0, "fork", "");
    if (probe_pid == 0) {
        probe_child(there);
    }
    pin_self(here);
}

double r_probe(void)
{
    double trips[PROBE_CHUNKS];
    if (!probe) {
        return 0;
    }
    a64_store(&probe->ball, 0);
    uint32_t turn = a32_add_full(&probe->gate, 1) + 1;
    futex_wake(&probe->gate, 1);
    while (a32_acquire(&probe->awake) != turn) {
    }
    uint64_t n = 0;
    for (int c = 0; c < PROBE_CHUNKS; c++) {
        uint64_t begin = clock_ns();
        for (int i = 0; i < PROBE_TRIPS; i++, n += 2) {
            a64_release(&probe->ball, n + 1);
            while (a64_acquire(&probe->ball) != n + 2) {
            }
        }
        trips[c] = (double)(clock_ns() - begin) / PROBE_TRIPS;
    }
    return quantile(trips, PROBE_CHUNKS, 0.5);
}

void r_stop(void)
{
    if (probe) {
        kill(probe_pid, SIGKILL);
        waitpid(probe_pid, NULL, 0);
        shared_free(probe, sizeof(*probe));
        probe = NULL;
    }
}

void batches_with_peers(uint32_t rounds, uint32_t every, struct samples *s,
                        void (*run)(void *ctx, struct sample *ret),
                        void (*ask)(void *ctx, struct sample *ret), void *ctx)
{
    uint32_t wanted = s->count + rounds;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < RETRIES * rounds && s->count < wanted; i++) {
        struct sample one = {0};
        double before = r_probe();
        run(ctx, &one);
        double after = r_probe();
        double high = before > after ? before : after;
        double low = before > after ? after : before;
        if (probe && (high > 1.25 * low || one.value <= 0)) {
            continue;
        }
        one.r = (before + after) / 2;
        if (ask && kept++ % every == 0) {
            ask(ctx, &one);
        }
        samples_push(s, &one);
    }
}

void batches(uint32_t rounds, struct samples *s, void (*run)(void *ctx, struct sample *ret),
             void *ctx)
{
    batches_with_peers(rounds, 1, s, run, NULL, ctx);
}

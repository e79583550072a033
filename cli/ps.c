/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * `transom ps`: the live workers and what each of their processes does, from their shared memory alone, so that
 * a program that hangs or is stopped can be looked at. Each word is read once. docs/man/transom.1.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/snapshot.h"
#include "shm/wake.h"
#include "transom/task.h"

/* ---- reading ---- */

/* A consistent copy of a wait record. */
struct wait_view {
    struct want want; /* kind WAIT_NOTHING: it runs, or was writing the record all the while */
    uint64_t since_ns;
    uint64_t seen; /* where has_seen: the word it waits for, now */
    bool has_seen;
};

/* One process of a worker. */
struct place_view {
    const char *kind; /* "chip", "sub" */
    uint32_t number;
    const char *state; /* "starting", "idle", "waiting", "task", "dead" */
    uint32_t pid, how, code;
    uint64_t task;  /* in state task, else 0 */
    uint64_t begun; /* the record it is, counted as those of `done` */
    struct text callable;
    uint64_t begun_ns; /* 0: not known */
    struct wait_view wait;
    uint64_t done, published; /* records; of the pool for a sub: not known, 0 */
    uint64_t tasks, skipped;
    uint32_t deaths;
};

static void read_seen(const struct snapshot *s, struct wait_view *w)
{
    const struct want *want = &w->want;
    if (want->kind == WAIT_SIGNAL) {
        w->has_seen = snapshot_word(s, want->address, &w->seen);
    } else if (want->kind == WAIT_WORD && want->place < s->arena.places) {
        w->seen = timeline_read(&s->arena, want->place);
        w->has_seen = true;
    }
}

static void read_wait(const struct snapshot *s, const struct wait_record *r, struct wait_view *ret)
{
    uint32_t version;
    memset(ret, 0, sizeof(*ret));
    for (int i = 0; i < 8; i++) {
        if (wait_record_read(r, &ret->want, &version)) {
            ret->since_ns = a64_load(&r->since_ns);
            atomic_thread_fence(memory_order_acquire);
            if (a32_load(&r->version) == version) {
                read_seen(s, ret);
                return;
            }
        }
    }
    memset(ret, 0, sizeof(*ret));
}

static const char *judge_state(const struct child *child, const struct proc_page *page,
                               const struct place_view *v)
{
    uint32_t life = a32_acquire(&child->state);
    if (life == CHILD_DEAD) {
        return "dead";
    }
    if (life != CHILD_ALIVE || a32_acquire(&page->ready) != READY_YES) {
        return "starting";
    }
    if (v->task != 0) {
        return "task";
    }
    return v->wait.want.kind == WAIT_WORD ? "waiting" : "idle";
}

/* When the running task began. The place's clock ticks are turned into time by two readings: one that it made at
 * its start, and now. */
static uint64_t begun_at(const struct proc_page *page)
{
    uint64_t ticks = clock_ticks();
    uint64_t ns = clock_ns();
    uint64_t begun = a64_load(&page->begun_ticks);
    uint64_t passed = ticks - page->recorder.ticks;
    if (begun == 0 || begun > ticks || passed == 0 || ns < page->recorder.ns) {
        return 0;
    }
    double rate = (double)(ns - page->recorder.ns) / (double)passed;
    return ns - (uint64_t)((double)(ticks - begun) * rate);
}

static struct place_view read_place(const struct snapshot *s, uint32_t place)
{
    const struct arena *a = &s->arena;
    const struct proc_page *page = arena_page(a, place);
    const struct child *child = &a->keeper->child[place];
    struct place_view v = {.kind = place < a->chips ? "chip" : "sub",
                           .number = place < a->chips ? place : place - a->chips,
                           .pid = a32_load(&child->pid),
                           .how = a32_load(&child->how),
                           .code = a32_load(&child->code),
                           .deaths = a32_load(&child->deaths),
                           .tasks = a64_load(&page->tasks),
                           .skipped = a64_load(&page->skipped),
                           .task = a64_load(&page->begun_task),
                           .begun = a64_load(&page->begun),
                           .callable = {"?"}};
    if (place < a->chips) {
        v.done = timeline_read(a, place);
        v.published = a64_acquire(&a->rings[place].published);
        v.done = v.done < v.published ? v.done : v.published;
    }
    read_wait(s, &page->wait, &v.wait);
    v.state = judge_state(child, page, &v);
    if (strcmp(v.state, "task") != 0) {
        v.task = 0;
    } else {
        v.callable = snapshot_callable(s, a32_load(&page->begun_callable));
        v.begun_ns = begun_at(page);
    }
    return v;
}

static const char *worker_state(const struct snapshot *s)
{
    const struct ctl_head *ctl = s->arena.ctl;
    uint32_t keeper = a32_acquire(&s->arena.keeper->state);
    uint32_t worker = a32_load(&ctl->state);
    if (keeper == KEEPER_FAILED || keeper == KEEPER_START_FAILED || worker == WORKER_FAILED) {
        return "failed";
    }
    if (a32_load(&ctl->shutdown) != 0 || worker == WORKER_CLOSED || keeper == KEEPER_CLOSED) {
        return "closing";
    }
    return keeper == KEEPER_STARTING || worker == WORKER_NEW ? "starting" : "ready";
}

/* "running", "stopped", "ended": what the kernel says of the program. */
static const char *program_state(uint32_t pid)
{
    char path[64];
    char line[512] = "";
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f) {
        return "ended";
    }
    size_t length = fread(line, 1, sizeof(line) - 1, f);
    fclose(f);
    line[length] = '\0';
    /* The name stands in brackets and may hold brackets and spaces. */
    const char *state = strrchr(line, ')');
    if (!state || strlen(state) < 3) {
        return "ended";
    }
    switch (state[2]) {
    case 'T':
    case 't':
        return "stopped";
    case 'Z':
    case 'X':
        return "ended";
    default:
        return "running";
    }
}

/* ---- for people ---- */

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
    size_t used = strlen(t->s);
    va_list ap;
    va_start(ap, format);
    vsnprintf(t->s + used, sizeof(t->s) - used, format, ap);
    va_end(ap);
}

static struct text ago(uint64_t since_ns, uint64_t now)
{
    return text_duration(since_ns < now ? now - since_ns : 0);
}

static const char *compare_name(uint32_t compare)
{
    static const char *const names[] = {"?", "=", "!=", ">", ">=", "<", "<="};
    return names[compare >= TSM_EQ && compare <= TSM_LE ? compare : 0];
}

static void add_wait(struct text *t, const struct snapshot *s, const struct wait_view *w)
{
    const struct want *want = &w->want;
    bool sub = want->place >= s->arena.chips;
    uint32_t number = sub ? want->place - s->arena.chips : want->place;
    switch (want->kind) {
    case WAIT_WORD:
        if (want->place == PLACE_POOL) {
            add(t, "record %" PRIu64 " of the subs", want->value);
        } else {
            add(t, "%s %u to do record %" PRIu64, sub ? "sub" : "chip", number, want->value);
        }
        if (w->has_seen) {
            add(t, " (it has done %" PRIu64 ")", w->seen);
        }
        break;
    case WAIT_SIGNAL:
        add(t, "a signal %s %" PRIu64 " in domain %" PRIu64 ", rank %u",
            compare_name(want->compare), want->value, want->domain, want->rank);
        if (w->has_seen) {
            add(t, " (it is %" PRIu64 ")", w->seen);
        }
        break;
    case WAIT_SIGNALS:
        add(t, "any of %u signals %s %" PRIu64 " in domain %" PRIu64 ", rank %u", want->place,
            compare_name(want->compare), want->value, want->domain, want->rank);
        break;
    case WAIT_STATE:
        add(t, "its processes");
        break;
    default:
        add(t, "work");
        break;
    }
}

static struct text describe_death(const struct place_view *v)
{
    struct text t = {"dead: "};
    if (v->how == 1) {
        add(&t, "signal %u (%s)", v->code, strsignal((int)v->code));
    } else {
        add(&t, "exit status %u", v->code);
    }
    return t;
}

static struct text describe_place(const struct snapshot *s, const struct place_view *v,
                                  uint64_t now)
{
    struct text t = {""};
    enum wait_kind kind = v->wait.want.kind;
    if (strcmp(v->state, "dead") == 0) {
        return describe_death(v);
    }
    if (strcmp(v->state, "starting") == 0) {
        add(&t, "starting");
        return t;
    }
    if (v->task != 0) {
        add(&t, "in %.64s", v->callable.s);
        if (v->begun_ns != 0) {
            add(&t, " for %s", ago(v->begun_ns, now).s);
        }
        add(&t, ", record %" PRIu64, v->begun);
    }
    if (kind == WAIT_SIGNAL || kind == WAIT_SIGNALS || kind == WAIT_WORD) {
        if (v->task == 0 && v->published != 0) {
            add(&t, "before record %" PRIu64, v->done + 1);
        }
        add(&t, "%swaits %s for ", *t.s ? ", " : "", ago(v->wait.since_ns, now).s);
        add_wait(&t, s, &v->wait);
    } else if (v->task == 0) {
        add(&t, "idle");
        if (kind == WAIT_RING || kind == WAIT_POOL) {
            add(&t, " for %s", ago(v->wait.since_ns, now).s);
        }
    }
    return t;
}

static void print_place(const struct snapshot *s, uint32_t place, uint64_t now)
{
    struct place_view v = read_place(s, place);
    char records[48] = "-";
    char name[24];
    char pid[16] = "-";
    snprintf(name, sizeof(name), "%s %u", v.kind, v.number);
    if (v.pid != 0) {
        snprintf(pid, sizeof(pid), "%u", v.pid);
    }
    if (place < s->arena.chips) {
        snprintf(records, sizeof(records), "%" PRIu64 "/%" PRIu64, v.done, v.published);
    }
    printf("  %-9s %8s %15s %9" PRIu64 " %8" PRIu64 " %6u  %s\n", name, pid, records, v.tasks,
           v.skipped, v.deaths, describe_place(s, &v, now).s);
}

static void print_worker(const struct snapshot *s)
{
    const struct arena *a = &s->arena;
    uint64_t now = clock_ns();
    struct wait_view wait;
    struct text waits = {""};
    read_wait(s, &a->ctl->wait, &wait);
    if (wait.want.kind != WAIT_NOTHING) {
        add(&waits, ", waits %s for ", ago(wait.since_ns, now).s);
        add_wait(&waits, s, &wait);
    }
    struct text program = text_clean(a->ctl->program, sizeof(a->ctl->program));
    printf("%s: pid %u %s%s\n", *program.s ? program.s : "?", s->info.orchestrator_pid,
           program_state(s->info.orchestrator_pid), waits.s);
    printf("  worker %s, up %s, keeper %d, %u chip%s, %u sub%s, %" PRIu64 " run%s\n",
           worker_state(s), ago(a64_load(&a->keeper->start_ns), now).s, (int)s->keeper, a->chips,
           a->chips == 1 ? "" : "s", a->subs, a->subs == 1 ? "" : "s", a64_load(&a->ctl->runs),
           a64_load(&a->ctl->runs) == 1 ? "" : "s");
    printf("  %-9s %8s %15s %9s %8s %6s  %s\n", "PLACE", "PID", "RECORDS DONE", "TASKS", "SKIPPED",
           "DEATHS", "STATE");
    for (uint32_t place = 0; place < a->places; place++) {
        print_place(s, place, now);
    }
}

/* ---- for programs ---- */

static const char *const wait_names[] = {"nothing", "ring",    "word", "pool",
                                         "signal",  "signals", "state"};

static void emit_wait(struct json *j, const struct wait_view *w)
{
    const struct want *want = &w->want;
    if (want->kind == WAIT_NOTHING || want->kind > WAIT_STATE) {
        return;
    }
    json_begin(j, "wait", '{');
    json_string(j, "for", wait_names[want->kind]);
    json_u64(j, "since_ns", w->since_ns);
    bool inside = want->kind == WAIT_SIGNAL || want->kind == WAIT_SIGNALS;
    if (want->kind == WAIT_WORD || inside) {
        json_u64(j, "task", want->task);
        json_u64(j, "value", want->value);
    }
    if (want->kind == WAIT_WORD && want->place == PLACE_POOL) {
        json_bool(j, "pool", true);
    } else if (want->kind == WAIT_WORD) {
        json_u64(j, "place", want->place);
    }
    if (inside) {
        json_string(j, "compare", compare_name(want->compare));
        json_u64(j, "domain", want->domain);
        json_u64(j, "rank", want->rank);
    }
    if (w->has_seen) {
        json_u64(j, "seen", w->seen);
    }
    json_end(j, '}');
}

static void emit_place(struct json *j, const struct snapshot *s, uint32_t place)
{
    struct place_view v = read_place(s, place);
    json_begin(j, NULL, '{');
    json_u64(j, "place", place);
    json_string(j, "kind", v.kind);
    json_u64(j, "number", v.number);
    json_u64(j, "pid", v.pid);
    json_string(j, "state", v.state);
    if (v.task != 0) {
        json_u64(j, "task", v.task);
        json_u64(j, "record", v.begun);
        json_string(j, "callable", v.callable.s);
    }
    if (v.begun_ns != 0) {
        json_u64(j, "begun_ns", v.begun_ns);
    }
    if (strcmp(v.state, "dead") == 0) {
        json_u64(j, v.how == 1 ? "signal" : "exit_status", v.code);
    } else {
        emit_wait(j, &v.wait);
    }
    if (place < s->arena.chips) {
        json_u64(j, "records_done", v.done);
        json_u64(j, "records_published", v.published);
    }
    json_u64(j, "tasks", v.tasks);
    json_u64(j, "skipped", v.skipped);
    json_u64(j, "deaths", v.deaths);
    json_end(j, '}');
}

static void emit_worker(struct json *j, const struct snapshot *s)
{
    const struct arena *a = &s->arena;
    struct wait_view wait;
    read_wait(s, &a->ctl->wait, &wait);
    json_begin(j, NULL, '{');
    json_string(j, "program", text_clean(a->ctl->program, sizeof(a->ctl->program)).s);
    json_u64(j, "pid", s->info.orchestrator_pid);
    json_string(j, "program_state", program_state(s->info.orchestrator_pid));
    emit_wait(j, &wait);
    json_u64(j, "keeper", (uint64_t)s->keeper);
    json_string(j, "state", worker_state(s));
    json_u64(j, "start_ns", a64_load(&a->keeper->start_ns));
    json_u64(j, "chips", a->chips);
    json_u64(j, "subs", a->subs);
    json_u64(j, "runs", a64_load(&a->ctl->runs));
    json_begin(j, "places", '[');
    for (uint32_t place = 0; place < a->places; place++) {
        emit_place(j, s, place);
    }
    json_end(j, ']');
    json_end(j, '}');
}

/* ---- the command ---- */

static void emit_unreadable(struct json *j, pid_t keeper, const struct text *why)
{
    json_begin(j, NULL, '{');
    json_u64(j, "keeper", (uint64_t)keeper);
    json_string(j, "error", why->s);
    json_end(j, '}');
}

/* j NULL: as text. */
static void show_keepers(struct json *j, const pid_t *keepers, int count)
{
    int shown = 0;
    for (int i = 0; i < count; i++) {
        struct snapshot s;
        struct text why;
        bool open = snapshot_open(&s, keepers[i], &why) == 0;
        if (!open && kill(keepers[i], 0) != 0 && errno == ESRCH) {
            continue; /* it has ended since it was found */
        }
        if (!j && shown++ > 0) {
            putchar('\n');
        }
        if (open) {
            j ? emit_worker(j, &s) : print_worker(&s);
            snapshot_close(&s);
        } else if (j) {
            emit_unreadable(j, keepers[i], &why);
        } else {
            printf("keeper %d: %s\n", (int)keepers[i], why.s);
        }
    }
    if (!j && shown == 0) {
        printf("no worker is running%s\n", geteuid() == 0 ? "" : " under this user");
    }
}

int command_ps(int argc, char **argv)
{
    bool as_json = false;
    pid_t *keepers = NULL;
    int status = cli_parse_json(argc, argv, &as_json);
    if (status != 0) {
        return status;
    }
    int count = snapshot_find(&keepers);
    if (count < 0) {
        fprintf(stderr, "transom ps: cannot read /proc: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    if (as_json) {
        struct json j = {.out = stdout};
        json_begin(&j, NULL, '{');
        json_u64(&j, "now_ns", clock_ns());
        json_begin(&j, "workers", '[');
        show_keepers(&j, keepers, count);
        json_end(&j, ']');
        json_end(&j, '}');
    } else {
        show_keepers(NULL, keepers, count);
    }
    free(keepers);
    return 0;
}

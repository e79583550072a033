/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The keeper process: forks the chips and subs, reaps and replaces them, raises the abort word of a run that
 * failed, enforces time limits, and ends everything when the orchestrator is gone. One thread, asleep in
 * poll unless something happens. Owns the keeper page. docs/keeper.md.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/role.h"
#include "base/sys.h"
#include "base/topology.h"
#include "chip/chip.h"
#include "shm/wake.h"

enum {
    REPLACE_TRIES = 3,           /* replacements in a row that fail before they are ready */
    LIMIT_GRACE_NS = 100000000,  /* between the abort and the kill of a task over its limit */
    CLOSE_GRACE_NS = 2000000000, /* between shutdown and kill */
    FORK_RETRY_NS = 20000000,
};

/* What the keeper knows of a child beside its page. */
struct ward {
    uint64_t marks_seen;
    uint64_t kill_at; /* 0: not */
    uint64_t kill_begun;
    uint32_t failed_tries;
    bool want_fork;
    bool ready; /* the child has been: what it writes into its page later does not undo it */
    char death[64];
};

struct keeper {
    struct arena a;
    struct keeper_start start;
    struct keeper_page *page;
    int signal_fd, orchestrator_fd;
    struct ward wards[PLACES_MAX];
    uint32_t alive;
    uint64_t close_at; /* 0: not closing; then the moment of the kill */
    bool closing;
};

static struct keeper *self_keeper(void)
{
    static struct keeper k;
    return &k;
}

/* ---- marks and aborts ---- */

static bool run_in_flight(const struct keeper *k, uint64_t run)
{
    uint64_t newest = a64_acquire(&k->a.ctl->runs);
    return run != 0 && run <= newest && newest - run < RUN_SLOTS;
}

static void raise_abort(struct keeper *k, uint64_t run)
{
    a64 *word = &k->page->aborts[run % RUN_SLOTS];
    if (a64_load(word) != run) {
        TSM_FAULT("abort");
        a64_store(word, run);
        wake_everybody(&k->a);
    }
}

/* The keeper's own mark: a death or a time limit. First cause kept. */
static void mark_run(struct keeper *k, uint32_t place, uint64_t run, uint64_t task, int code,
                     int detail, const char *text)
{
    struct mark *m = &k->page->mark[run % RUN_SLOTS];
    if (!run_in_flight(k, run) || a64_load(&m->run) == run) {
        return;
    }
    m->when_ns = clock_ns();
    m->task = task;
    m->code = code;
    m->sys_errno = 0;
    m->detail = detail;
    m->place = (int32_t)place;
    m->first_bad = UINT64_MAX;
    m->data_bytes = 0;
    snprintf(m->text, sizeof(m->text), "%s", text);
    a64_release(&m->run, run); /* pairs with the orchestrator's reading at the end of the run */
    raise_abort(k, run);
}

static void collect_marks(struct keeper *k)
{
    for (uint32_t place = 0; place < k->a.places; place++) {
        const struct proc_page *p = arena_page(&k->a, place);
        uint64_t marks = a64_acquire(&p->marks);
        if (marks == k->wards[place].marks_seen) {
            continue;
        }
        k->wards[place].marks_seen = marks;
        for (uint32_t slot = 0; slot < RUN_SLOTS; slot++) {
            uint64_t run = a64_acquire(&p->mark[slot].run);
            if (run_in_flight(k, run) && run % RUN_SLOTS == slot) {
                raise_abort(k, run);
            }
        }
    }
}

/* ---- children ---- */

static const char *kind_of(const struct keeper *k, uint32_t place)
{
    return place < k->a.chips ? "chip" : "sub worker";
}

static uint32_t number_of(const struct keeper *k, uint32_t place)
{
    return place < k->a.chips ? place : place - k->a.chips;
}

static bool is_ready(struct keeper *k, uint32_t place)
{
    struct ward *w = &k->wards[place];
    /* pairs with chip_main */
    w->ready = w->ready || a32_acquire(&arena_page(&k->a, place)->ready) == READY_YES;
    return w->ready;
}

/* Name of the callable whose task the child has begun. */
static const char *begun_name(const struct keeper *k, const struct proc_page *p)
{
    uint32_t callable = a32_load(&p->begun_callable);
    if (callable >= a64_acquire(&k->a.ctl->callable_count) || !k->a.callables[callable].name) {
        return "?";
    }
    return (const char *)(uintptr_t)k->a.callables[callable].name;
}

static _Noreturn void become_child(struct keeper *k, uint32_t place, pid_t keeper)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper) {
        _exit(0); /* the keeper died before the signal was asked for */
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    sys_close(k->signal_fd);
    sys_close(k->orchestrator_fd);
    sys_close(k->start.lifeline_fd);
    struct chip_start start = {.place = place,
                               .life = a32_load(&k->page->child[place].life),
                               .event_fd = k->start.event_fd,
                               .backend = k->start.backend,
                               .death = k->wards[place].death};
    if (k->start.pin != TSM_PIN_NONE) {
        struct proc_page *p = arena_page(&k->a, place);
        if (topology_pin(k->start.pin, place, k->a.places, p->text, sizeof(p->text)) != 0) {
            a32_release(&p->ready, READY_FAILED);
            _exit(103);
        }
    }
    chip_main(&k->a, &start);
}

static bool fork_child(struct keeper *k, uint32_t place)
{
    struct child *c = &k->page->child[place];
    struct proc_page *p = arena_page(&k->a, place);
    pid_t keeper = getpid();
    a32_store(&p->ready, READY_NOT);
    k->wards[place].ready = false;
    a32_store(&c->life, a32_load(&c->life) + 1);
    pid_t pid = sys_fork();
    if (pid == 0) {
        become_child(k, place, keeper);
    }
    if (pid < 0) {
        return false;
    }
    a32_store(&c->pid, (uint32_t)pid);
    a32_release(&c->state, CHILD_ALIVE);
    if (k->wards[place].want_fork) {
        atomic_fetch_add(&k->page->replaced, 1);
        wake_place(&k->a, arena_orchestrator(&k->a)); /* a run may wait to begin */
    }
    k->wards[place].want_fork = false;
    k->alive++;
    return true;
}

static void kill_all(struct keeper *k)
{
    for (uint32_t place = 0; place < k->a.places; place++) {
        const struct child *c = &k->page->child[place];
        if (a32_load(&c->state) == CHILD_ALIVE) {
            kill((pid_t)a32_load(&c->pid), SIGKILL);
        }
    }
}

static _Noreturn void leave(struct keeper *k, uint32_t state)
{
    kill_all(k);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    a32_release(&k->page->state, state);
    wake_everybody(&k->a);
    _exit(0);
}

/* States the cause in the page; the orchestrator reads it after the state. */
static void give_up(struct keeper *k, uint32_t state, int code, int place, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static void give_up(struct keeper *k, uint32_t state, int code, int place, const char *format, ...)
{
    if (a32_load(&k->page->state) >= KEEPER_START_FAILED) {
        return;
    }
    va_list ap;
    va_start(ap, format);
    vsnprintf(k->page->text, sizeof(k->page->text), format, ap);
    va_end(ap);
    k->page->error_code = code;
    k->page->error_errno = errno;
    k->page->error_place = place;
    a32_release(&k->page->state, state); /* pairs with the orchestrator's look */
    if (state == KEEPER_START_FAILED) {
        leave(k, state);
    }
    uint64_t newest = a64_load(&k->a.ctl->runs);
    for (uint64_t run = newest; run > 0 && newest - run < RUN_SLOTS; run--) {
        a64_store(&k->page->aborts[run % RUN_SLOTS], run);
    }
    wake_everybody(&k->a);
}

static void describe_death(char *text, size_t bytes, int status)
{
    if (WIFSIGNALED(status)) {
        snprintf(text, bytes, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
        snprintf(text, bytes, "exit status %d", WEXITSTATUS(status));
    }
}

/* A child that never became ready: at start that ends the worker, later it counts. */
static void died_unready(struct keeper *k, uint32_t place, const char *death)
{
    const struct proc_page *p = arena_page(&k->a, place);
    char why[300];
    snprintf(why, sizeof(why), "%.290s", a32_acquire(&p->ready) == READY_FAILED ? p->text : death);
    if (a32_load(&k->page->state) == KEEPER_STARTING) {
        errno = 0;
        give_up(k, KEEPER_START_FAILED, TSM_ECHILD_DIED, (int)place, "%s %u did not start: %s",
                kind_of(k, place), number_of(k, place), why);
    }
    if (++k->wards[place].failed_tries >= REPLACE_TRIES) {
        errno = 0;
        give_up(k, KEEPER_FAILED, TSM_EWORKER_FAILED, (int)place,
                "%s %u could not be replaced %d times in a row: %s", kind_of(k, place),
                number_of(k, place), REPLACE_TRIES, why);
    }
}

static void handle_death(struct keeper *k, uint32_t place, int status)
{
    struct child *c = &k->page->child[place];
    const struct proc_page *p = arena_page(&k->a, place);
    struct ward *w = &k->wards[place];
    char death[64];
    char text[MARK_TEXT];
    k->alive--;
    TSM_FAULT("death");
    describe_death(death, sizeof(death), status);
    uint64_t task = a64_load(&p->begun_task);
    a32_store(&c->how, WIFSIGNALED(status) ? 1 : 2);
    a32_store(&c->code, (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
    a64_store(&c->died_ns, clock_ns());
    a64_store(&c->task, task);
    a32_store(&c->pid, 0);
    a32_store(&c->deaths, a32_load(&c->deaths) + 1);
    a32_release(&c->state, CHILD_DEAD);
    if (k->closing) {
        return;
    }
    wake_forget(&k->a, place);
    w->kill_at = 0;
    if (!is_ready(k, place)) {
        died_unready(k, place, death);
    } else {
        w->failed_tries = 0;
        snprintf(w->death, sizeof(w->death), "%s", death);
        if (task != 0) {
            snprintf(text, sizeof(text), "%s %u died in task '%.80s': %s", kind_of(k, place),
                     number_of(k, place), begun_name(k, p), death);
            mark_run(k, place, a64_load(&p->begun_run), task, TSM_ECHILD_DIED,
                     (int)a32_load(&c->code), text);
        }
    }
    atomic_fetch_add(&k->page->deaths, 1);
    w->want_fork = a32_load(&k->page->state) < KEEPER_START_FAILED;
    wake_everybody(&k->a);
}

static void reap(struct keeper *k)
{
    int status;
    pid_t pid;
    /* Anything but "no children" is tried again: the signal that told of the death has been read. */
    while ((pid = sys_reap(-1, &status)) > 0 || (pid < 0 && errno != ECHILD)) {
        for (uint32_t place = 0; place < k->a.places; place++) {
            const struct child *c = &k->page->child[place];
            if (pid > 0 && a32_load(&c->state) == CHILD_ALIVE && (pid_t)a32_load(&c->pid) == pid) {
                handle_death(k, place, status);
                break;
            }
        }
    }
}

/* Returns true when one could not be forked and is to be tried again. */
static bool replace_dead(struct keeper *k)
{
    bool again = false;
    for (uint32_t place = 0; place < k->a.places && !k->closing; place++) {
        struct ward *w = &k->wards[place];
        if (!w->want_fork) {
            continue;
        }
        TSM_FAULT("refork");
        if (!fork_child(k, place)) {
            again = true;
            if (++w->failed_tries >= REPLACE_TRIES) {
                w->want_fork = false;
                give_up(k, KEEPER_FAILED, TSM_EWORKER_FAILED, (int)place,
                        "%s %u cannot be replaced: fork: %s", kind_of(k, place),
                        number_of(k, place), strerror(errno));
            }
        }
    }
    return again;
}

/* ---- time limits, cancelled runs ---- */

/* What the page of a replacement says before that is ready is of the task that its predecessor died in. */
static bool is_running(struct keeper *k, uint32_t place)
{
    return a32_load(&k->page->child[place].state) == CHILD_ALIVE && is_ready(k, place);
}

static void over_limit(struct keeper *k, uint32_t place, uint64_t deadline, uint64_t now)
{
    const struct proc_page *p = arena_page(&k->a, place);
    struct ward *w = &k->wards[place];
    uint64_t run = a64_load(&p->begun_run);
    uint64_t task = a64_load(&p->begun_task);
    uint64_t begun = a64_load(&p->begun);
    uint64_t limit = deadline - a64_load(&p->begun_ns);
    char text[MARK_TEXT];
    snprintf(text, sizeof(text), "task '%.80s' on %s %u exceeded its time limit of %.3f ms",
             begun_name(k, p), kind_of(k, place), number_of(k, place), (double)limit / 1e6);
    atomic_thread_fence(memory_order_acquire); /* pairs with begin */
    if (a64_load(&p->deadline_ns) != deadline) {
        return; /* it ended just now: what was read may be the next task's */
    }
    mark_run(k, place, run, task, TSM_ETIME_LIMIT, 0, text);
    w->kill_at = now + LIMIT_GRACE_NS;
    w->kill_begun = begun;
}

/* Enforces what is due; returns when to look again, 0: not. */
static uint64_t enforce_limits(struct keeper *k)
{
    uint64_t now = clock_ns();
    uint64_t next = 0;
    for (uint32_t place = 0; place < k->a.places; place++) {
        struct ward *w = &k->wards[place];
        const struct proc_page *p = arena_page(&k->a, place);
        bool running = is_running(k, place);
        uint64_t deadline = a64_acquire(&p->deadline_ns); /* pairs with begin */
        if (deadline == 0 || !running) {
            w->kill_at = 0;
            continue;
        }
        if (w->kill_at != 0 && w->kill_begun != a64_load(&p->begun)) {
            w->kill_at = 0;
        }
        if (w->kill_at == 0 && now >= deadline) {
            over_limit(k, place, deadline, now);
        }
        uint64_t due = w->kill_at != 0 ? w->kill_at : deadline;
        if (w->kill_at != 0 && now >= w->kill_at) {
            if (sys_kill((pid_t)a32_load(&k->page->child[place].pid), SIGKILL) == 0) {
                continue;
            }
            due = now + FORK_RETRY_NS;
        }
        next = next == 0 || due < next ? due : next;
    }
    return next;
}

/* The run is written before the task, and the task is cleared at its end: if a task is seen, the run is its own or that of a
 * later one. */
static bool is_in_run(const struct proc_page *p, uint64_t run)
{
    return a64_acquire(&p->begun_task) != 0 && /* pairs with begin */
           a64_load(&p->begun_run) == run;
}

static void kill_tasks_of(struct keeper *k, uint64_t run)
{
    for (uint32_t place = 0; place < k->a.places; place++) {
        if (is_running(k, place) && is_in_run(arena_page(&k->a, place), run)) {
            TSM_FAULT("cancel");
            sys_kill((pid_t)a32_load(&k->page->child[place].pid), SIGKILL);
        }
    }
}

/* The same for runs that were cancelled. Once the time is over it looks again until the orchestrator says that the run is
 * over: a task may have been about to begin. */
static uint64_t enforce_cancels(struct keeper *k)
{
    uint64_t now = clock_ns();
    uint64_t next = 0;
    for (uint32_t slot = 0; slot < RUN_SLOTS; slot++) {
        const struct cancel *c = &k->a.ctl->cancels[slot];
        uint64_t run = a64_acquire(&c->run); /* pairs with tsm_run_cancel */
        if (!run_in_flight(k, run)) {
            continue;
        }
        uint64_t due = a64_load(&c->kill_ns);
        if (now >= due) {
            kill_tasks_of(k, run);
            due = now + FORK_RETRY_NS;
        }
        next = next == 0 || due < next ? due : next;
    }
    return next;
}

/* ---- life ---- */

static void look_ready(struct keeper *k)
{
    if (a32_load(&k->page->state) != KEEPER_STARTING) {
        return;
    }
    for (uint32_t place = 0; place < k->a.places; place++) {
        if (a32_acquire(&arena_page(&k->a, place)->ready) != READY_YES) {
            return;
        }
    }
    a32_release(&k->page->state, KEEPER_READY);
    wake_everybody(&k->a);
}

static void look_shutdown(struct keeper *k)
{
    uint32_t word = a32_acquire(&k->a.ctl->shutdown);
    if (word != 0 && !k->closing) {
        TSM_FAULT("close");
        k->closing = true;
        k->close_at = clock_ns() + CLOSE_GRACE_NS;
    }
    if (k->closing && (word > 1 || clock_ns() >= k->close_at)) {
        kill_all(k);
        k->close_at = UINT64_MAX;
    }
}

/* Until the nearest of the moments, < 0 for ever. */
static int64_t until(uint64_t limit_at, uint64_t cancel_at, uint64_t close_at, bool fork_again)
{
    uint64_t now = clock_ns();
    uint64_t at = fork_again ? now + FORK_RETRY_NS : UINT64_MAX;
    at = limit_at != 0 && limit_at < at ? limit_at : at;
    at = cancel_at != 0 && cancel_at < at ? cancel_at : at;
    at = close_at != 0 && close_at < at ? close_at : at;
    if (at == UINT64_MAX) {
        return -1;
    }
    return at > now ? (int64_t)(at - now) : 0;
}

static void drain_fd(int fd, void *buffer, size_t bytes)
{
    while (read(fd, buffer, bytes) > 0) {
    }
}

static void watch(struct keeper *k)
{
    uint64_t limit_at = 0;
    uint64_t cancel_at = 0;
    bool fork_again = false;
    for (;;) {
        struct pollfd fds[] = {{.fd = k->start.lifeline_fd, .events = POLLIN},
                               {.fd = k->orchestrator_fd, .events = POLLIN},
                               {.fd = k->signal_fd, .events = POLLIN},
                               {.fd = k->start.event_fd, .events = POLLIN}};
        sys_poll(fds, 4, until(limit_at, cancel_at, k->closing ? k->close_at : 0, fork_again));
        if (fds[0].revents != 0 || fds[1].revents != 0) {
            leave(k, KEEPER_CLOSED);
        }
        struct signalfd_siginfo_bytes {
            uint8_t bytes[128];
        } info;
        uint64_t count;
        drain_fd(k->signal_fd, &info, sizeof(info));
        drain_fd(k->start.event_fd, &count, sizeof(count));
        reap(k);
        collect_marks(k);
        limit_at = enforce_limits(k);
        cancel_at = enforce_cancels(k);
        look_ready(k);
        look_shutdown(k);
        fork_again = replace_dead(k);
        if (k->closing && k->alive == 0) {
            leave(k, KEEPER_CLOSED);
        }
    }
}

static void set_signals(struct keeper *k)
{
    for (int s = 1; s < NSIG; s++) {
        signal(s, SIG_DFL); /* the program's handlers are not for here */
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    k->signal_fd = sys_signalfd(&set);
}

static bool narrow(const struct arena *a)
{
    return sys_mmap(a->base, a->ctl->info.ctl_bytes, PROT_READ, MAP_SHARED | MAP_FIXED,
                    a->ro_fd[ARENA_CTL], 0) != NULL;
}

_Noreturn void keeper_main(const struct arena *arena, const struct keeper_start *start)
{
    struct keeper *k = self_keeper();
    k->a = *arena;
    k->start = *start;
    k->page = arena->keeper;
    role_set(ROLE_CHILD);
    prctl(PR_SET_NAME, "transom-keeper", 0, 0, 0);
    fault_here(FAULT_PLACE_KEEPER, &arena->hints_head->faults_fired);
    TSM_FAULT("keeper");
    setpgid(0, 0); /* a Ctrl-C is for the program */
    set_signals(k);
    bool narrowed = narrow(&k->a);
    k->page->start_ns = clock_ns();
    a32_store(&k->page->pid, (uint32_t)getpid());
    k->orchestrator_fd = sys_pidfd(start->orchestrator);
    if (!narrowed || k->signal_fd < 0 || k->orchestrator_fd < 0) {
        give_up(k, KEEPER_START_FAILED, TSM_ESYS, -1, "keeper: %s", strerror(errno));
    }
    if (getppid() != start->orchestrator) {
        leave(k, KEEPER_CLOSED);
    }
    char why[160];
    if (start->pin != TSM_PIN_NONE) {
        topology_can_pin(why, sizeof(why)); /* loads hwloc once for all children */
    }
    for (uint32_t place = 0; place < k->a.places; place++) {
        if (!fork_child(k, place)) {
            give_up(k, KEEPER_START_FAILED, TSM_ESYS, (int)place, "cannot fork %s %u: %s",
                    kind_of(k, place), number_of(k, place), strerror(errno));
        }
    }
    watch(k);
    _exit(0);
}

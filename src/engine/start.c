/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Starting and stopping the processes of a worker: the arena first, then the keeper by fork or spawn, which makes the
 * others; ready is when all have said so. A failed start takes everything down again. Orchestrator; owns the list
 * of this process's workers, so that a keeper forked for one lets go of the others. docs/keeper.md.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/sys.h"
#include "base/topology.h"
#include "engine/engine.h"
#include "keeper/keeper.h"
#include "keeper/program.h"

extern char **environ;

enum { SPAWN_TRIES = 16 };
enum { STOP_NS = 5000000000, READY_NAP_NS = 20000000 };

/* ---- all workers of this process ---- */

static pthread_mutex_t workers_lock = PTHREAD_MUTEX_INITIALIZER;
static tsm_worker *workers;

static void workers_add(tsm_worker *w)
{
    pthread_mutex_lock(&workers_lock);
    w->next = workers;
    workers = w;
    pthread_mutex_unlock(&workers_lock);
}

static void workers_remove(tsm_worker *w)
{
    pthread_mutex_lock(&workers_lock);
    for (tsm_worker **at = &workers; *at; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            break;
        }
    }
    pthread_mutex_unlock(&workers_lock);
}

/* In the forked keeper, which has one thread: what belongs to other workers is not for it to keep alive. */
static void let_go_of_others(const tsm_worker *own)
{
    for (tsm_worker *w = workers; w; w = w->next) {
        if (w != own) {
            sys_close(w->lifeline_fd);
            sys_close(w->event_fd);
            sys_close(w->keeper_fd);
            arena_destroy(&w->arena);
        }
    }
}

/* ---- the keeper ---- */

static uint32_t thread_count(void)
{
    DIR *dir = opendir("/proc/self/task");
    uint32_t n = 0;
    if (!dir) {
        return 1;
    }
    const struct dirent *e;
    while ((e = readdir(dir)) != NULL) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static int fork_keeper(tsm_worker *w, int lifeline_read)
{
    pid_t parent = getpid();
    pid_t pid = sys_fork();
    if (pid == 0) {
        sys_close(w->lifeline_fd);
        let_go_of_others(w);
        struct keeper_start start = {.event_fd = w->event_fd,
                                     .lifeline_fd = lifeline_read,
                                     .orchestrator = parent,
                                     .pin = w->opts.pin,
                                     .backend = w->backend_name};
        keeper_main(&w->arena, &start);
    }
    if (pid < 0) {
        return worker_refuse_sys(w, TSM_ESYS, "cannot fork the keeper");
    }
    w->keeper = pid;
    return 0;
}

static pid_t spawn_once(tsm_worker *w, const char *path, int lifeline_read)
{
    struct keeper_args args = {.base = (uint64_t)(uintptr_t)w->arena.base,
                               .bytes = w->arena.bytes,
                               .event_fd = w->event_fd,
                               .lifeline_fd = lifeline_read,
                               .orchestrator = getpid(),
                               .pin = w->opts.pin};
    memcpy(args.fd, w->arena.fd, sizeof(args.fd));
    memcpy(args.ro_fd, w->arena.ro_fd, sizeof(args.ro_fd));
    char text[KEEPER_ARGS_BYTES];
    keeper_args_write(&args, text);
    char name[] = "transom-keeper";
    char *own[] = {name, NULL, NULL, NULL};
    char **argv = w->keeper_argv ? w->keeper_argv : own;
    uint32_t last = 0;
    while (argv[last]) {
        last++;
    }
    argv[last] = text;
    argv[last + 1] = w->backend_name;
    int keep[2 * ARENA_FDS + 2];
    uint32_t n = 0;
    for (int i = 0; i < ARENA_FDS; i++) {
        keep[n++] = args.fd[i];
        if (args.ro_fd[i] >= 0) {
            keep[n++] = args.ro_fd[i];
        }
    }
    keep[n++] = args.event_fd;
    keep[n++] = args.lifeline_fd;
    pid_t pid = sys_spawn(path, argv, environ, keep, n);
    argv[last] = argv[last + 1] = NULL;
    return pid;
}

/* 0: it says that it has mapped the arena; EADDRINUSE: the range is taken there; EINTR: a hook gave it up; else it
 * died. */
static int hear_spawned(tsm_worker *w, pid_t pid, uint64_t deadline)
{
    int status = 0;
    int rc = ETIMEDOUT;
    while (clock_ns() < deadline) {
        if (a32_acquire(&w->arena.keeper->pid) == (uint32_t)pid) {
            return 0;
        }
        if (sys_reap(pid, &status) == pid) {
            return WIFEXITED(status) && WEXITSTATUS(status) == KEEPER_EXIT_TAKEN ? EADDRINUSE
                                                                                 : ECHILD;
        }
        sleep_begin(worker_hooks(w));
        sys_poll(NULL, 0, 200000);
        sleep_end(worker_hooks(w));
        if (sleep_is_interrupted(worker_hooks(w))) {
            rc = EINTR;
            break;
        }
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return rc;
}

static int spawn_keeper(tsm_worker *w, int lifeline_read, uint64_t deadline)
{
    char path[4096];
    if (w->keeper_argv) {
        snprintf(path, sizeof(path), "%s", w->keeper_argv[0]);
    } else {
        keeper_program_path(path, sizeof(path));
    }
    for (int i = 0; i < SPAWN_TRIES; i++) {
        pid_t pid = spawn_once(w, path, lifeline_read);
        if (pid < 0) {
            return worker_refuse_sys(w, TSM_ESYS, "cannot spawn the keeper %s", path);
        }
        int rc = hear_spawned(w, pid, deadline);
        if (rc == 0) {
            w->keeper = pid;
            return 0;
        }
        if (rc == EINTR) {
            return worker_interrupted(w);
        }
        if (rc != EADDRINUSE) {
            return worker_refuse(w, rc == ETIMEDOUT ? TSM_ETIMEOUT : TSM_ECHILD_DIED,
                                 "the keeper %s %s", path,
                                 rc == ETIMEDOUT ? "did not start in time" : "died at its start");
        }
        fault_here(FAULT_PLACE_ORCHESTRATOR, NULL);
        rc = arena_move(&w->arena, &w->error);
        fault_here(FAULT_PLACE_ORCHESTRATOR, &w->arena.hints_head->faults_fired);
        if (rc != 0) {
            return rc;
        }
    }
    return worker_refuse(w, TSM_ENOMEM,
                         "no address range for the arena is free in the spawned keeper");
}

/* ---- start ---- */

static int look_state(void *ctx)
{
    tsm_worker *w = ctx;
    uint32_t state = a32_acquire(&w->arena.keeper->state);
    if (state != KEEPER_STARTING) {
        return 1;
    }
    struct pollfd keeper = {.fd = w->keeper_fd, .events = POLLIN};
    return waiter_is_registered(&w->waiter) && sys_poll(&keeper, 1, 0) > 0 ? 2 : 0;
}

static int wait_ready(tsm_worker *w, uint64_t deadline)
{
    struct want want = {
        .kind = WAIT_STATE, .deadline_ns = deadline, .nap_ns = READY_NAP_NS, .interruptible = true};
    int rc = wait_for(&w->waiter, &want, look_state, w);
    const struct keeper_page *k = w->arena.keeper;
    uint32_t state = a32_acquire(&k->state);
    if (rc == -EINTR) {
        return worker_interrupted(w);
    }
    if (state == KEEPER_READY) {
        return 0;
    }
    if (rc == -ETIMEDOUT) {
        uint32_t ready = 0;
        uint32_t missing = UINT32_MAX;
        for (uint32_t p = 0; p < w->arena.places; p++) {
            bool yes = a32_load(&arena_page(&w->arena, p)->ready) == READY_YES;
            ready += yes;
            missing = !yes && missing == UINT32_MAX ? p : missing;
        }
        return worker_refuse(
            w, TSM_ETIMEOUT,
            "start: after %lld ms %u of %u processes are ready; the first missing is %s %u",
            (long long)(w->opts.start_timeout_ns / 1000000), ready, w->arena.places,
            missing < w->arena.chips ? "chip" : "sub worker",
            missing < w->arena.chips ? missing : missing - w->arena.chips);
    }
    if (state == KEEPER_START_FAILED) {
        worker_refuse(w, k->error_code, "start: %s", k->text);
        w->error.sys_errno = k->error_errno;
        w->error.chip = k->error_place;
        return k->error_code;
    }
    return worker_refuse(w, TSM_ECHILD_DIED, "start: the keeper process died");
}

static uint32_t spin_ticks(uint32_t processes)
{
    static _Atomic uint32_t per_us;
    if (per_us == 0) {
        uint64_t ns = clock_ns();
        uint64_t ticks = clock_ticks();
        while (clock_ns() - ns < 50000) {
        }
        uint64_t took = (clock_ticks() - ticks) * 1000 / (clock_ns() - ns);
        per_us = took ? (uint32_t)took : 1;
    }
    return processes <= topology_cores() ? per_us : per_us / 4 + 1;
}

/* The seed of chaos mode from the environment. */
static int chaos_seed(tsm_worker *w, uint64_t *ret)
{
    const char *text = getenv("TRANSOM_CHAOS");
    char *end = NULL;
    errno = 0;
    *ret = text && *text ? strtoull(text, &end, 10) : 0;
    if (text && *text && (text[0] < '0' || text[0] > '9' || *end || errno != 0)) {
        return worker_refuse(w, TSM_EINVAL,
                             "TRANSOM_CHAOS='%s' is no seed: a decimal number, 0 is off", text);
    }
    return 0;
}

static int make_arena(tsm_worker *w)
{
    const struct tsm_worker_opts *o = &w->opts;
    uint64_t windows = o->lease_bytes * 2;
    struct arena_sizes sizes = {.chips = o->chips,
                                .subs = o->subs,
                                .arena_bytes = o->arena_bytes,
                                .heap_bytes = o->heap_bytes,
                                .host_bytes = o->host_bytes,
                                .ring_bytes = o->ring_bytes,
                                .windows_bytes =
                                    windows < (UINT64_C(1) << 24) ? UINT64_C(1) << 24 : windows};
    int rc = arena_create(&w->arena, &sizes, &w->error);
    if (rc != 0) {
        return rc;
    }
    struct ctl_head *ctl = w->arena.ctl;
    if ((rc = tuning_load(&ctl->info.tuning, &w->error)) != 0) {
        return rc;
    }
    if ((rc = chaos_seed(w, &ctl->info.chaos)) != 0) {
        return rc;
    }
    ctl->info.orchestrator_pid = (uint32_t)getpid();
    ctl->info.spin = spin_ticks(o->chips + o->subs + 1);
    w->arena.spin = ctl->info.spin;
    snprintf((char *)ctl->program, sizeof(ctl->program), "%s", program_invocation_short_name);
    fault_here(FAULT_PLACE_ORCHESTRATOR, &w->arena.hints_head->faults_fired);
    return 0;
}

static int make_keeper(tsm_worker *w, uint64_t deadline)
{
    int lifeline[2] = {-1, -1};
    w->event_fd = sys_eventfd();
    if (w->event_fd < 0 || sys_pipe(lifeline) != 0) {
        return worker_refuse_sys(w, TSM_ESYS, "cannot make the keeper's descriptors");
    }
    w->lifeline_fd = lifeline[1];
    int rc = w->opts.start_method == TSM_FORK ? fork_keeper(w, lifeline[0])
                                              : spawn_keeper(w, lifeline[0], deadline);
    sys_close(lifeline[0]);
    if (rc != 0) {
        return rc;
    }
    w->keeper_fd = sys_pidfd(w->keeper);
    if (w->keeper_fd < 0) {
        return worker_refuse_sys(w, TSM_ESYS, "cannot watch the keeper");
    }
    return 0;
}

/* From here on what the children write is read-only to the program too. */
static int narrow(tsm_worker *w)
{
    const struct arena_info *in = &w->arena.ctl->info;
    if (!sys_mmap(w->arena.base + in->pages_offset, in->pages_bytes, PROT_READ,
                  MAP_SHARED | MAP_FIXED, w->arena.ro_fd[ARENA_PAGES], 0)) {
        return worker_refuse_sys(w, TSM_ESYS, "cannot map the pages of the children");
    }
    return 0;
}

static int start_all(tsm_worker *w)
{
    uint64_t deadline = clock_ns() + (uint64_t)w->opts.start_timeout_ns;
    int rc = make_arena(w);
    if (rc != 0) {
        return rc;
    }
    /* A spawned keeper decides where the arena lies: only then addresses are handed out. */
    bool fork_start = w->opts.start_method == TSM_FORK;
    if (!fork_start && (rc = make_keeper(w, deadline)) != 0) {
        return rc;
    }
    if (worker_alloc_tables(w) != 0) {
        return worker_refuse(w, TSM_ENOMEM, "no memory for the tables of the worker");
    }
    if (fork_start && (rc = make_keeper(w, deadline)) != 0) {
        return rc;
    }
    if ((rc = narrow(w)) != 0) {
        return rc;
    }
    if (!fork_start) {
        /* The tables are there: the keeper may make the children, who read them. */
        a32_release(&w->arena.ctl->state, WORKER_READY);
        sys_event_signal(w->event_fd);
    }
    return wait_ready(w, deadline);
}

int tsm_worker_start(tsm_worker *w)
{
    int rc = worker_check(w, CHECK_ANY);
    if (rc != 0) {
        return rc;
    }
    if (w->state != WORKER_NEW) {
        return worker_refuse(w, TSM_ESTATE, "the worker has been started");
    }
    reap_abandoned();
    uint32_t threads = w->opts.start_method == TSM_FORK ? thread_count() : 1;
    if (threads > 1) {
        return worker_refuse(
            w, TSM_EFORK_UNSAFE,
            "start method fork in a process with %u threads: start the worker before other "
            "threads (BLAS and OpenMP make some), or use TSM_SPAWN",
            threads);
    }
    rc = start_all(w);
    if (rc != 0) {
        stop_processes(w, true);
        worker_free_tables(w);
        arena_destroy(&w->arena);
        return rc;
    }
    a32_release(&w->arena.ctl->state, WORKER_READY);
    w->state = WORKER_READY;
    callables_drop_data(w);
    workers_add(w);
    return 0;
}

/* ---- stop ---- */

static bool keeper_gone(tsm_worker *w, uint64_t ns)
{
    struct pollfd keeper = {.fd = w->keeper_fd, .events = POLLIN};
    uint64_t deadline = clock_ns() + ns;
    for (uint64_t now = clock_ns(); now < deadline; now = clock_ns()) {
        if (w->keeper_fd >= 0 && sys_poll(&keeper, 1, (int64_t)(deadline - now)) > 0) {
            return true;
        }
        if (w->keeper_fd < 0) {
            return false;
        }
    }
    return false;
}

static void tell_to_end(tsm_worker *w, bool kill_now)
{
    a32_release(&w->arena.ctl->shutdown, kill_now ? 2 : 1);
    wake_everybody(&w->arena);
    sys_event_signal(w->event_fd);
}

static void close_fds(tsm_worker *w)
{
    sys_close(w->lifeline_fd);
    sys_close(w->event_fd);
    sys_close(w->keeper_fd);
    w->lifeline_fd = w->event_fd = w->keeper_fd = -1;
    fault_here(FAULT_PLACE_ORCHESTRATOR, NULL); /* the shared bits go with the arena */
}

void stop_processes(tsm_worker *w, bool kill_now)
{
    workers_remove(w);
    reap_abandoned();
    if (w->keeper > 0) {
        tell_to_end(w, kill_now);
        sleep_begin(worker_hooks(w));
        if (!keeper_gone(w, STOP_NS)) {
            kill(w->keeper, SIGKILL); /* its children go with it: parent-death signal */
        }
        while (waitpid(w->keeper, NULL, 0) < 0 && errno == EINTR) {
        }
        sleep_end(worker_hooks(w));
        w->keeper = 0;
    }
    close_fds(w);
}

/* ---- abandoned ---- */

/* Keepers that end by themselves; the program is their parent and has to collect them. */
struct orphan {
    struct orphan *next;
    pid_t pid;
};

static struct orphan *orphans; /* under workers_lock */

void reap_abandoned(void)
{
    int status;
    pthread_mutex_lock(&workers_lock);
    for (struct orphan **at = &orphans; *at;) {
        struct orphan *o = *at;
        pid_t pid = sys_reap(o->pid, &status);
        /* Gone, or the program has collected it itself. */
        if (pid > 0 || (pid < 0 && errno == ECHILD)) {
            *at = o->next;
            free(o);
        } else {
            at = &o->next;
        }
    }
    pthread_mutex_unlock(&workers_lock);
}

void abandon_processes(tsm_worker *w)
{
    struct orphan *o = malloc(sizeof(*o));
    workers_remove(w);
    tell_to_end(w, true);
    close_fds(w);
    if (!o) {
        waitpid(w->keeper, NULL, 0); /* without memory to remember it */
        return;
    }
    o->pid = w->keeper;
    pthread_mutex_lock(&workers_lock);
    o->next = orphans;
    orphans = o;
    pthread_mutex_unlock(&workers_lock);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What a worker costs while there is no work: the time that the program, the keeper, all chips and subs are on a core,
 * after they have worked; then the same while the program waits for a task that sleeps. A process that does nothing
 * else reads it from /proc.
 *
 * Peers: an idle multiprocessing.Pool and idle workers of StarPU; a program that waits for a task of a Pool that sleeps, and
 * ranks of MPI that wait in a barrier for one that does not come (it is stopped).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "contender.h"
#include "processes.h"
#include "rig.h"

enum { CHIPS = 8, SUBS = 4, ROUNDS = 2, ROUNDS_LONG = 30, BUSY_TASKS = 1000 };
enum { SETTLE_US = 200000, SECONDS = 1, WAIT_NS = 1500000000 };

/* What is less counts as so much: a peer with 0 would be taken for one that is missing. */
static const double least_us = 1;

static struct rig rig;
static double *cost; /* w: the observer. us on a core in a second */

/* The observer: measures these processes, then lets one go on that is stopped (0: none). */
static pid_t observe(const struct processes *p, pid_t stopped)
{
    pid_t pid = fork();
    bench_must(pid < 0, "fork", "");
    if (pid != 0) {
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    usleep(SETTLE_US);
    uint64_t begin = clock_ns();
    double before = processes_cpu_ns(p);
    sleep(SECONDS);
    double us = (processes_cpu_ns(p) - before) / ((double)(clock_ns() - begin) / 1e9) / 1000;
    *cost = us > least_us ? us : least_us;
    if (stopped != 0) {
        kill(stopped, SIGCONT);
    }
    _exit(0);
}

static double cost_of(const struct processes *p)
{
    waitpid(observe(p, 0), NULL, 0);
    return *cost;
}

/* ---- Transom ---- */

static int submit_work(tsm_orch *orch, void *arg)
{
    (void)arg;
    for (int i = 0; i < BUSY_TASKS; i++) {
        struct tsm_call call = {.callable = rig.empty, .chip = i % 2 ? TSM_SUB : i % CHIPS};
        rig_submit(&rig, orch, &call);
    }
    return 0;
}

static int submit_held(tsm_orch *orch, void *arg)
{
    (void)arg;
    rig_hold(&rig, orch, 1);
    return 0;
}

static double cost_of_waiting(const struct processes *p)
{
    tsm_run *run;
    bench_must(tsm_worker_submit_run(rig.worker, submit_held, NULL, &run), "submit_run", "");
    pid_t observer = observe(p, 0);
    bench_must(tsm_run_wait(run, WAIT_NS) != TSM_ETIMEOUT, "wait", "");
    waitpid(observer, NULL, 0);
    rig_open(&rig);
    bench_must(tsm_run_wait(run, -1), "wait", "");
    tsm_run_release(run);
    return *cost;
}

/* ---- peers ---- */

enum { POOL, STARPU, FIRST_MPI };
static const char *const peer_names[] = {"Pool", "StarPU", "Open MPI", "MPICH", NULL};

static void ask_pool(struct sample *idle, struct sample *waiting)
{
    struct pool pool;
    struct processes p;
    if (pool_start(&pool, "fork", CHIPS)) {
        processes_of(pool.pid, &p);
        idle->peer[POOL] = cost_of(&p);
        pool_wait(&pool, SECONDS + 1);
        waiting->peer[POOL] = cost_of(&p);
        pool_stop(&pool);
    }
}

static void ask_starpu(struct sample *idle)
{
    struct contender starpu;
    struct processes p;
    if (contender_start(&starpu, "StarPU", "tasks_starpu", CHIPS, NULL)) {
        kill(starpu.pid, SIGCONT);
        processes_of(starpu.pid, &p);
        idle->peer[STARPU] = cost_of(&p);
        contender_stop(&starpu);
    }
}

static void ask_mpi(int which, struct sample *waiting)
{
    struct crew c;
    struct processes p;
    struct crew_order barrier = {.op = CREW_BARRIER, .count = 1};
    if (!mpi_start(&c, which, CHIPS)) {
        return;
    }
    processes_of(c.pids[0], &p);
    pid_t stopped = p.pids[p.count - 1]; /* the last to be found is a rank */
    kill(stopped, SIGSTOP);
    pid_t observer = observe(&p, stopped);
    crew_run(&c, &barrier);
    waitpid(observer, NULL, 0);
    waiting->peer[FIRST_MPI + which] = *cost;
    crew_stop(&c);
}

static void report(const char *params, const struct samples *s, enum against against)
{
    struct figure f = {.name = "time on a core",
                       .params = params,
                       .unit = "us/s",
                       .against = against,
                       .limit = least_us,
                       .peers = peer_names,
                       .chips = CHIPS};
    figure_report(&f, s);
}

int main(int argc, char **argv)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct processes ours;
    struct samples idle = {0};
    struct samples waiting = {0};
    bench_begin("idle", argc, argv);
    cost = shared_alloc(sizeof(*cost));
    o.subs = SUBS;
    rig_start(&rig, CHIPS, &o);
    processes_of(getpid(), &ours);
    rig_run(&rig, submit_work, NULL);
    for (int i = 0; i < (bench_long() ? ROUNDS_LONG : ROUNDS); i++) {
        samples_add(&idle, cost_of(&ours), 0, 0);
        samples_add(&waiting, cost_of_waiting(&ours), 0, 0);
    }
    rig_stop(&rig);
    ask_pool(&idle.list[0], &waiting.list[0]);
    ask_starpu(&idle.list[0]);
    for (int i = 0; i < MPIS; i++) {
        ask_mpi(i, &waiting.list[0]);
    }
    report("8 chips, 4 subs, no run", &idle, AGAINST_MAX);
    report("waits for a task that sleeps", &waiting, AGAINST_NOTHING);
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Memory: of a chip that has run a task, and of tasks in flight beyond their arguments (all chips are held while they are
 * submitted). What is left behind by many tasks and domains is in growth.c.
 *
 * A chip's memory is what all processes have more than the program had before the start, keeper and program included, shared
 * pages counted once (PSS), divided by the chips. Floor: a forked child that sleeps. Peers: a worker of
 * multiprocessing.Pool in the same way; a rank of MPI, with its part of the launcher.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "processes.h"
#include "rig.h"

enum { CHIPS = 4, IN_FLIGHT = 100000, SLOT = 64, RING_BYTES = 64 << 20, CHIPS_MANY = 64 };

static struct rig rig;
static uint8_t *slots;

static double own_bytes(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "RssAnon: %lu kB", &kib) == 1) {
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return (double)kib * 1024;
}

static double bytes_now(void)
{
    double sum = own_bytes();
    for (int i = 0; i < ARENA_FDS; i++) {
        struct stat st;
        if (fstat(rig.worker->arena.fd[i], &st) == 0) {
            sum += 512.0 * (double)st.st_blocks;
        }
    }
    return sum;
}

/* ---- in flight ---- */

struct plan {
    uint32_t tensors; /* the last is an output of its own, the others random inputs */
    double bytes;
};

static int submit_held(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    struct random numbers = {99};
    rig_hold(&rig, orch, CHIPS);
    double before = bytes_now();
    double arguments = 0;
    for (uint32_t i = 0; i < IN_FLIGHT; i++) {
        struct tsm_tensor x[4];
        memset(x, 0, sizeof(x));
        for (uint32_t k = 0; k < p->tensors; k++) {
            bool output = k + 1 == p->tensors;
            uint32_t at = output ? i : random_below(&numbers, i + 1);
            x[k].data = slots + (uint64_t)at * SLOT;
            x[k].dtype = TSM_U64;
            x[k].tag = output ? TSM_OUTPUT_EXISTING : TSM_INPUT;
            x[k].ndim = 1;
            x[k].shape[0] = SLOT / 8;
        }
        struct tsm_call call = {.callable = rig.empty,
                                .chip = (int)(i % CHIPS),
                                .tensors = x,
                                .tensor_count = p->tensors};
        rig_submit(&rig, orch, &call);
        arguments += p->tensors * (sizeof(struct record_tensor) + 16.0 + 2.0);
    }
    p->bytes = (bytes_now() - before - arguments) / IN_FLIGHT;
    rig_open(&rig);
    return 0;
}

static void measure_in_flight(uint32_t tensors, const char *params)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct plan p = {.tensors = tensors};
    struct samples s = {0};
    void *memory;
    o.ring_bytes = RING_BYTES;
    rig_start(&rig, CHIPS, &o);
    bench_must(tsm_buffer_create(rig.worker, (uint64_t)IN_FLIGHT * SLOT, &memory), "buffer", "");
    slots = memory;
    rig_run(&rig, submit_held, &p);
    rig_stop(&rig);
    samples_add(&s, p.bytes, 0, 0);
    struct figure f = {.name = "memory of a task in flight",
                       .params = params,
                       .unit = "B",
                       .against = AGAINST_MAX,
                       .limit = 256,
                       .chips = CHIPS,
                       .x = IN_FLIGHT};
    figure_report(&f, &s);
    samples_free(&s);
}

/* ---- a chip ---- */

enum { POOL_FORK, POOL_SPAWN, FIRST_MPI };
static const char *const peer_names[] = {"Pool, fork", "Pool, spawn", "Open MPI", "MPICH", NULL};
static const char *const pool_methods[] = {"fork", "spawn"};

static double bytes_of(pid_t root)
{
    struct processes p;
    processes_of(root, &p);
    return processes_bytes(&p);
}

static int submit_first(tsm_orch *orch, void *arg)
{
    (void)arg;
    for (uint32_t c = 0; c < rig.chips; c++) {
        struct tsm_call call = {.callable = rig.empty, .chip = (int)c};
        rig_submit(&rig, orch, &call);
    }
    return 0;
}

static double bytes_of_chips(uint32_t chips)
{
    double before = bytes_of(getpid());
    rig_start(&rig, chips, NULL);
    rig_run(&rig, submit_first, NULL);
    double after = bytes_of(getpid());
    rig_stop(&rig);
    return after - before;
}

static double bytes_of_forks(uint32_t count)
{
    pid_t pids[CHIPS_MANY];
    double before = bytes_of(getpid());
    for (uint32_t i = 0; i < count; i++) {
        pids[i] = fork();
        bench_must(pids[i] < 0, "fork", "");
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
            for (;;) {
                pause();
            }
        }
    }
    double after = bytes_of(getpid());
    for (uint32_t i = 0; i < count; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    return after - before;
}

static double bytes_of_pool(const char *method, uint32_t workers)
{
    struct pool p;
    double bytes = 0;
    if (pool_start(&p, method, workers)) {
        bytes = bytes_of(p.pid);
        pool_stop(&p);
    }
    return bytes;
}

static double bytes_of_mpi(int which, uint32_t ranks)
{
    struct crew c;
    double bytes = 0;
    if (mpi_start(&c, which, ranks)) {
        bytes = bytes_of(c.pids[0]);
        crew_stop(&c);
    }
    return bytes;
}

static void measure_chips(uint32_t chips)
{
    char params[32];
    struct samples s = {0};
    double per_kib = 1024.0 * chips;
    struct sample one = {.value = bytes_of_chips(chips) / per_kib,
                         .floor = bytes_of_forks(chips) / per_kib};
    for (int i = 0; i < FIRST_MPI; i++) {
        double all = bytes_of_pool(pool_methods[i], chips);
        one.peer[i] = all > 0 ? (all - bytes_of_pool(pool_methods[i], 0)) / per_kib : 0;
    }
    for (int i = 0; i < MPIS; i++) {
        one.peer[FIRST_MPI + i] = bytes_of_mpi(i, chips) / per_kib;
    }
    samples_push(&s, &one);
    snprintf(params, sizeof(params), "%u chip%s", chips, chips == 1 ? "" : "s");
    struct figure f = {.name = "memory of a chip",
                       .params = params,
                       .unit = "KiB",
                       .peers = peer_names,
                       .chips = chips,
                       .x = chips};
    figure_report(&f, &s);
    samples_free(&s);
}

int main(int argc, char **argv)
{
    bench_begin("memory", argc, argv);
    measure_chips(1);
    measure_chips(8);
    measure_chips(CHIPS_MANY);
    measure_in_flight(0, "no arguments");
    measure_in_flight(4, "3 inputs, 1 output");
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* What processes cost, and peers that merely exist (processes.h). Runs in the benchmark's own process. */
#include "processes.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { PATH_TEXT = 320, ANSWER_MS = 30000, LEAVE_MS = 5000 };

/* ---- /proc ---- */

double process_cpu_ns(pid_t pid)
{
    char path[PATH_TEXT];
    double sum = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    for (struct dirent *e; threads && (e = readdir(threads));) {
        unsigned long long ns = 0;
        snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (f && fscanf(f, "%llu", &ns) == 1) {
            sum += (double)ns;
        }
        if (f) {
            fclose(f);
        }
    }
    if (threads) {
        closedir(threads);
    }
    return sum;
}

double process_bytes(pid_t pid)
{
    char path[PATH_TEXT];
    char line[256];
    double kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f) && sscanf(line, "Pss: %lf kB", &kib) != 1) {
    }
    if (f) {
        fclose(f);
    }
    return kib * 1024;
}

static pid_t parent_of(pid_t pid)
{
    char path[PATH_TEXT];
    char text[512] = {0};
    int parent = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) {
        return 0;
    }
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    const char *name_end = n > 0 ? strrchr(text, ')') : NULL;
    return name_end && sscanf(name_end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static bool has(const struct processes *p, pid_t pid)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->pids[i] == pid) {
            return true;
        }
    }
    return false;
}

void processes_of(pid_t root, struct processes *ret)
{
    uint32_t before = 0;
    ret->pids[0] = root;
    ret->count = 1;
    /* A child may stand before its parent in the directory, so again until nobody new is found. */
    while (ret->count != before) {
        before = ret->count;
        DIR *all = opendir("/proc");
        for (struct dirent *e; all && (e = readdir(all));) {
            pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
            if (pid > 0 && ret->count < PROCESSES_MAX && !has(ret, pid) &&
                has(ret, parent_of(pid))) {
                ret->pids[ret->count++] = pid;
            }
        }
        if (all) {
            closedir(all);
        }
    }
}

double processes_cpu_ns(const struct processes *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        sum += process_cpu_ns(p->pids[i]);
    }
    return sum;
}

double processes_bytes(const struct processes *p)
{
    double sum = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        sum += process_bytes(p->pids[i]);
    }
    return sum;
}

/* ---- MPI ---- */

/* NULL: it was not installed when this was built. */
#ifndef BENCH_MPIRUN_OPENMPI
#define BENCH_MPIRUN_OPENMPI NULL
#endif
#ifndef BENCH_MPIRUN_MPICH
#define BENCH_MPIRUN_MPICH NULL
#endif

const char *const mpi_names[MPIS] = {"Open MPI", "MPICH"};
static const char *const launchers[MPIS] = {BENCH_MPIRUN_OPENMPI, BENCH_MPIRUN_MPICH};
static const char *const programs[MPIS] = {"mpi_openmpi", "mpi_mpich"};

bool mpi_start(struct crew *c, int which, uint32_t ranks)
{
    static bool told[MPIS];
    char program[4096];
    char size[16];
    char launcher[4096];
    char *openmpi[] = {launcher,
                       "--allow-run-as-root",
                       "--oversubscribe",
                       "--bind-to",
                       "none",
                       "--mca",
                       "mpi_yield_when_idle",
                       "1",
                       "-n",
                       size,
                       program,
                       "PAGE",
                       NULL};
    char *mpich[] = {launcher, "-n", size, program, "PAGE", NULL};
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 64);
    bench_must(length > 0 ? 0 : -1, "/proc/self/exe", "");
    program[length] = 0;
    snprintf(strrchr(program, '/'), 64, "/peer/%s", programs[which]);
    if (!launchers[which] || access(program, X_OK) != 0) {
        if (!told[which]) {
            bench_note("%s is not installed: no figures of it", mpi_names[which]);
        }
        told[which] = true;
        return false;
    }
    snprintf(launcher, sizeof(launcher), "%s", launchers[which]);
    snprintf(size, sizeof(size), "%u", ranks);
    return crew_launch(c, mpi_names[which], ranks, 4096, which == 0 ? openmpi : mpich);
}

/* ---- multiprocessing.Pool ---- */

/* The workers end when their queue does, which is when this program ends, however it does. */
static const char pool_program[] =
    "import contextlib, multiprocessing, sys, time\n"
    "method, workers = sys.argv[1], int(sys.argv[2])\n"
    "context = multiprocessing.get_context(method)\n"
    "with context.Pool(workers) if workers else contextlib.nullcontext() as pool:\n"
    "    if pool:\n"
    "        pool.map(time.sleep, [0.02] * workers, chunksize=1)\n"
    "    print('ready', flush=True)\n"
    "    for line in sys.stdin:\n"
    "        print('waits', flush=True)\n"
    "        pool.apply(time.sleep, (float(line),))\n";

static _Noreturn void become_pool(const char *method, uint32_t workers, int in, int answers)
{
    char count[16];
    snprintf(count, sizeof(count), "%u", workers);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    unpin_self();
    dup2(in, 0);
    dup2(answers, 1);
    if (!getenv("BENCH_PEERS_SPEAK")) {
        dup2(open("/dev/null", O_WRONLY), 2);
    }
    execlp("python3", "python3", "-c", pool_program, method, count, (char *)NULL);
    _exit(127);
}

/* Whether it says this in time. */
static bool says(struct pool *p, const char *word)
{
    char line[16];
    struct pollfd from = {.fd = fileno(p->answers), .events = POLLIN};
    return poll(&from, 1, ANSWER_MS) > 0 && fgets(line, sizeof(line), p->answers) &&
           strcmp(line, word) == 0;
}

bool pool_start(struct pool *p, const char *method, uint32_t workers)
{
    int orders[2];
    int answers[2];
    bench_must(pipe2(orders, O_CLOEXEC) | pipe2(answers, O_CLOEXEC), "pipe", method);
    p->pid = fork();
    bench_must(p->pid < 0, "fork", method);
    if (p->pid == 0) {
        become_pool(method, workers, orders[0], answers[1]);
    }
    close(orders[0]);
    close(answers[1]);
    p->orders = fdopen(orders[1], "w");
    p->answers = fdopen(answers[0], "r");
    bench_must(!p->orders || !p->answers, "fdopen", method);
    signal(SIGPIPE, SIG_IGN);
    if (!says(p, "ready\n")) {
        bench_note("there is no multiprocessing.Pool of %u workers by %s: no figures of it",
                   workers, method);
        pool_stop(p);
        return false;
    }
    return true;
}

void pool_wait(struct pool *p, uint32_t seconds)
{
    fprintf(p->orders, "%u\n", seconds);
    fflush(p->orders);
    if (!says(p, "waits\n")) {
        bench_note("the multiprocessing.Pool does not answer");
    }
}

void pool_stop(struct pool *p)
{
    struct processes left;
    if (p->pid == 0) {
        return;
    }
    processes_of(p->pid, &left);
    fclose(p->orders); /* the program leaves its loop */
    for (uint32_t ms = 0; waitpid(p->pid, NULL, WNOHANG) == 0; ms++) {
        if (ms == LEAVE_MS) {
            for (uint32_t i = 0; i < left.count; i++) {
                kill(left.pids[i], SIGKILL);
            }
            waitpid(p->pid, NULL, 0);
            break;
        }
        usleep(1000);
    }
    fclose(p->answers);
    *p = (struct pool){0};
}

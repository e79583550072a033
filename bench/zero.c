/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Zeroing of recycled windows: from the release of a domain whose tasks are done, every byte of it dirty, until its
 * memory is clean. Floor: as many processes on the same cores, each told to set its own warm shared memory to
 * zero. Also the page faults of the chips meanwhile.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "engine/engine.h"
#include "rig.h"

/* After ASLEEP_US all processes sleep: to wake them is part of both times. */
enum { PROCESSES_MAX = 8, WARM = 2, ASLEEP_US = 300 };
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static struct rig rig;

/* ---- floor ---- */

struct setter_shared {
    a32 gate;
    uint8_t reserved0[60];
    a32 left;
    uint8_t reserved1[60];
};

struct setters {
    struct setter_shared *shared;
    uint8_t *memory;
    uint64_t bytes;
    uint32_t count;
    pid_t pid[PROCESSES_MAX];
};

static _Noreturn void setter(const struct setters *s, uint32_t self)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pin_self(self % cores());
    for (uint32_t turn = 0;; turn++) {
        while (a32_acquire(&s->shared->gate) == turn) {
            sys_futex_wait(&s->shared->gate, turn, -1);
        }
        memset(s->memory + self * s->bytes, !(turn & 1), s->bytes);
        if (atomic_fetch_sub(&s->shared->left, 1) == 1) {
            sys_futex_wake(&s->shared->left);
        }
    }
}

static void setters_start(struct setters *s, uint32_t count, uint64_t bytes)
{
    *s = (struct setters){.count = count, .bytes = bytes};
    s->shared = shared_alloc(sizeof(*s->shared));
    s->memory = shared_alloc(count * bytes);
    for (uint32_t i = 0; i < count; i++) {
        s->pid[i] = fork();
        bench_must(s->pid[i] < 0, "fork", "");
        if (s->pid[i] == 0) {
            setter(s, i);
        }
    }
}

/* Dirty and zero take turns, dirty first. */
static double setters_run(struct setters *s)
{
    uint64_t begin = clock_ns();
    a32_store(&s->shared->left, s->count);
    a32_add_full(&s->shared->gate, 1);
    for (uint32_t i = 0; i < s->count; i++) {
        sys_futex_wake(&s->shared->gate);
    }
    for (uint32_t left; (left = a32_acquire(&s->shared->left)) != 0;) {
        sys_futex_wait(&s->shared->left, left, -1);
    }
    return (double)(clock_ns() - begin);
}

static void setters_stop(struct setters *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        kill(s->pid[i], SIGKILL);
        waitpid(s->pid[i], NULL, 0);
    }
    shared_free(s->memory, s->count * s->bytes);
    shared_free(s->shared, sizeof(*s->shared));
}

/* ---- a domain ---- */

struct plan {
    uint64_t bytes;
    tsm_domain *domain;
};

static int dirty_domain(tsm_orch *orch, void *arg)
{
    struct plan *p = arg;
    int chips[PROCESSES_MAX];
    struct tsm_call calls[PROCESSES_MAX];
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    for (uint32_t c = 0; c < rig.chips; c++) {
        chips[c] = (int)c;
    }
    o.name = "bench";
    o.chips = chips;
    o.chip_count = rig.chips;
    o.window_bytes = p->bytes;
    o.keep = 1;
    bench_must(tsm_domain_alloc(orch, &o, &p->domain), "alloc", tsm_worker_error(rig.worker)->text);
    for (uint32_t c = 0; c < rig.chips; c++) {
        calls[c] = (struct tsm_call){.callable = rig.dirty,
                                     .chip = (int)c,
                                     .domains = &p->domain,
                                     .domain_count = 1,
                                     .scalars = &p->bytes,
                                     .scalar_count = 1};
    }
    return tsm_submit_group(orch, calls, rig.chips, NULL);
}

/* Release, and until the lease is clean. */
static double time_zeroing(struct plan *p)
{
    tsm_worker *w = rig.worker;
    rig_run(&rig, dirty_domain, p);
    usleep(ASLEEP_US);
    uint64_t begin = clock_ns();
    bench_must(tsm_domain_release(p->domain), "release", "");
    for (uint32_t c = 0; c < rig.chips; c++) {
        bench_must(engine_wait(w, c, w->rings[c].published, 0), "wait", "");
    }
    leases_progress(w);
    double ns = (double)(clock_ns() - begin);
    bench_must(w->cooling_first != NULL, "the lease is not clean", "");
    return ns;
}

static double faults_of_chips(void)
{
    double sum = 0;
    for (uint32_t c = 0; c < rig.chips; c++) {
        char path[64];
        unsigned long faults = 0;
        snprintf(path, sizeof(path), "/proc/%d/stat", tsm_worker_pid(rig.worker, (int)c));
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %lu", &faults) == 1) {
            sum += (double)faults;
        }
        if (f) {
            fclose(f);
        }
    }
    return sum;
}

static void measure(uint32_t chips, uint64_t bytes, const char *text, uint32_t rounds)
{
    struct plan p = {.bytes = bytes};
    struct setters floor;
    struct samples s = {0};
    struct samples faults = {0};
    char params[64];
    setters_start(&floor, chips, bytes);
    rig_start(&rig, chips, NULL);
    rig_pin(&rig, 0);
    for (uint32_t i = 0; i < rounds + WARM; i++) {
        double before = faults_of_chips();
        double ns = time_zeroing(&p);
        double after = faults_of_chips();
        setters_run(&floor);
        usleep(ASLEEP_US);
        double floor_ns = setters_run(&floor);
        if (i >= WARM) {
            samples_add(&s, ns / 1000, floor_ns / 1000, 0);
            samples_add(&faults, after - before, 0, 0);
        }
    }
    rig_stop(&rig);
    setters_stop(&floor);
    snprintf(params, sizeof(params), "%u x %s", chips, text);
    struct figure f = {.name = "zeroing of a recycled domain",
                       .params = params,
                       .unit = "us",
                       .against = AGAINST_FLOOR,
                       .limit = 1.2,
                       .chips = chips,
                       .x = (double)bytes};
    figure_report(&f, &s);
    struct figure g = {.name = "its page faults",
                       .params = params,
                       .unit = "",
                       .against = AGAINST_MAX,
                       .chips = chips,
                       .x = (double)bytes};
    figure_report(&g, &faults);
    samples_free(&s);
    samples_free(&faults);
}

int main(int argc, char **argv)
{
    bench_begin("zero", argc, argv);
    measure(2, 16 * KIB, "16 KiB", 200);
    measure(2, MIB, "1 MiB", 200);
    measure(2, 64 * MIB, "64 MiB", 60);
    measure(8, 16 * MIB, "16 MiB", 60);
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A chain over two chips: every task follows the one before, which is on the other chip. All are submitted behind
 * a held task; the orchestrator is asleep when it is let go. The first and the last task take the time. Floor:
 * the same chain as bare records with precomputed waits.
 */
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bare.h"
#include "base/sys.h"
#include "rig.h"

enum {
    LINKS = 2000,
    ROUNDS = 250,
    FIRST = 0,
    LAST = 1,
    OPEN_AFTER_US = 1500,
    RING_BYTES = 4 << 20
};

static struct rig rig;
static struct bare bare;
static bool by_tensor;

/* Opens the gate once the orchestrator sleeps, from a process that is then out of the way. */
static pid_t opener_start(a32 *go)
{
    pid_t pid = fork();
    bench_must(pid < 0, "fork", "");
    if (pid != 0) {
        return pid;
    }
    for (uint32_t turn = 0;; turn++) {
        while (a32_acquire(go) == turn) {
            sys_futex_wait(go, turn, -1);
        }
        usleep(OPEN_AFTER_US);
        rig_open(&rig);
    }
}

static a32 *opener_word;

static int submit_chain(tsm_orch *orch, void *arg)
{
    (void)arg;
    tsm_task_id last = 0;
    uint64_t which = FIRST;
    struct tsm_tensor clocks = {.data = rig.clocks, .dtype = TSM_U64, .tag = TSM_NO_DEP};
    struct tsm_tensor x = {.data = &rig.clocks[4], .dtype = TSM_U64, .tag = TSM_INOUT};
    struct tsm_tensor both[] = {clocks, x};
    rig_hold(&rig, orch, 2);
    for (uint32_t i = 0; i < LINKS; i++) {
        bool ends = i == 0 || i == LINKS - 1;
        which = i == 0 ? FIRST : LAST;
        struct tsm_call call = {.callable = ends ? rig.stamp : rig.empty,
                                .chip = (int)(i % 2),
                                .tensors = ends ? both : &x,
                                .tensor_count = (uint32_t)ends + by_tensor,
                                .scalars = &which,
                                .scalar_count = ends,
                                .after = &last,
                                .after_count = !by_tensor && i > 0};
        last = rig_submit(&rig, orch, &call);
    }
    a32_add_full(opener_word, 1);
    sys_futex_wake(opener_word);
    return 0;
}

static double time_floor(void)
{
    uint64_t held = bare_wait(bare.workers, a64_load(&bare.shared->done[bare.workers].value) + 1);
    uint32_t bell = a32_load(&bare.shared->bell);
    uint64_t number = 0;
    bare_begin(&bare);
    for (uint32_t i = 0; i < LINKS; i++) {
        uint64_t wait = i == 0 ? held : bare_wait((i + 1) % 2, number);
        uint32_t flags = i == 0 ? BARE_CLOCK : i == LINKS - 1 ? BARE_CLOCK | BARE_RING : 0;
        number = bare_put(&bare, i % 2, &wait, 1, flags, i == 0 ? FIRST : LAST);
    }
    a64_release(&bare.shared->done[bare.workers].value, held & 0xffffffffffff);
    while (a32_acquire(&bare.shared->bell) == bell) {
        sys_futex_wait(&bare.shared->bell, bell, -1);
    }
    bare_end(&bare);
    return (double)(bare.shared->clocks[LAST] - bare.shared->clocks[FIRST]) / (LINKS - 1);
}

static void batch(void *ctx, struct sample *ret)
{
    (void)ctx;
    rig_run(&rig, submit_chain, NULL);
    ret->value = (double)(rig.clocks[LAST] - rig.clocks[FIRST]) / (LINKS - 1);
    ret->floor = time_floor();
}

int main(int argc, char **argv)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct samples s[2] = {0};
    bench_begin("chain", argc, argv);
    if (!two_cores()) {
        bench_note("a chain over two chips needs two cores: left out");
        return bench_end();
    }
    o.ring_bytes = RING_BYTES;
    r_start(0, 1);
    bare_start(&bare, 2, 0, 4096, false);
    rig_start(&rig, 2, &o);
    rig_pin(&rig, 0);
    opener_word = shared_alloc(4096);
    pid_t opener = opener_start(opener_word);
    for (int i = 0; i < 2; i++) {
        by_tensor = i == 1;
        batches(ROUNDS, &s[i], batch, NULL);
    }
    sys_kill(opener, SIGKILL);
    waitpid(opener, NULL, 0);
    rig_stop(&rig);
    bare_stop(&bare);
    struct figure f = {"chain, per task", "2 chips, explicit edges", "ns", AGAINST_R, 1.2};
    figure_report_cores(&f, &s[0]);
    f.params = "2 chips, inferred edges";
    figure_report_cores(&f, &s[1]);
    return bench_end();
}

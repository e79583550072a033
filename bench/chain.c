/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A chain over two chips: every task follows the one before, which is on the other chip. Then over eight that share
 * the cores, each task on the next chip of the ring, and on one, where nothing has to be waited for. All are submitted
 * behind a held task; the orchestrator is asleep when it is let go. The first and the last task take the time. Floor:
 * the same chain as bare records with precomputed waits. Peers: as many worker threads; StarPU places the tasks on them
 * by turns, oneTBB and OpenMP cannot place and run most links in one thread.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bare.h"
#include "futex.h"
#include "rig.h"
#include "taskpeers.h"

enum {
    LINKS = 2000,
    LINKS_OVERFULL = 100, /* for peers with more threads than cores: some need ms a link */
    ROUNDS_PER_ASK = 15,
    FIRST = 0,
    LAST = 1,
    OPEN_AFTER_US = 1500,
    RING_BYTES = 4 << 20
};

static struct rig rig;
static struct bare bare;
static struct task_peers peers;
static bool by_tensor;

/* Opens the gate once the orchestrator sleeps, from a process that is then out of the way. */
static pid_t opener_start(a32 *go)
{
    uint32_t begun = a32_load(go);
    pid_t pid = fork();
    bench_must(pid < 0, "fork", "");
    if (pid != 0) {
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (uint32_t turn = begun;; turn++) {
        while (a32_acquire(go) == turn) {
            futex_sleep(go, turn, NULL);
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
    rig_hold(&rig, orch, rig.chips);
    for (uint32_t i = 0; i < LINKS; i++) {
        bool ends = i == 0 || i == LINKS - 1;
        which = i == 0 ? FIRST : LAST;
        struct tsm_call call = {.callable = ends ? rig.stamp : rig.empty,
                                .chip = (int)(i % rig.chips),
                                .tensors = ends ? both : &x,
                                .tensor_count = (uint32_t)ends + by_tensor,
                                .scalars = &which,
                                .scalar_count = ends,
                                .after = &last,
                                .after_count = !by_tensor && i > 0};
        last = rig_submit(&rig, orch, &call);
    }
    a32_add_full(opener_word, 1);
    futex_wake(opener_word, 1);
    return 0;
}

static double time_floor(void)
{
    uint64_t held = bare_wait(bare.workers, a64_load(&bare.shared->done[bare.workers].value) + 1);
    uint32_t bell = a32_load(&bare.shared->bell);
    uint64_t number = 0;
    bare_begin(&bare);
    for (uint32_t i = 0; i < LINKS; i++) {
        uint32_t before = (i + bare.workers - 1) % bare.workers;
        uint64_t wait = i == 0 ? held : bare_wait(before, number);
        uint32_t waits = i == 0 || bare.workers > 1; /* on one ring the order is there */
        uint32_t flags = i == 0 ? BARE_CLOCK : i == LINKS - 1 ? BARE_CLOCK | BARE_RING : 0;
        number = bare_put(&bare, i % bare.workers, &wait, waits, flags, i == 0 ? FIRST : LAST);
    }
    a64_release(&bare.shared->done[bare.workers].value, held & 0xffffffffffff);
    while (a32_acquire(&bare.shared->bell) == bell) {
        futex_sleep(&bare.shared->bell, bell, NULL);
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

static void ask(void *ctx, struct sample *ret)
{
    char order[32];
    (void)ctx;
    snprintf(order, sizeof(order), "%s %d", by_tensor ? "chain_data" : "chain",
             rig.chips > cores() ? LINKS_OVERFULL : LINKS);
    task_peers_ask(&peers, order, ret);
}

static void report(uint32_t chips, const char *edges, const struct samples *s)
{
    char params[64];
    snprintf(params, sizeof(params), "%u chip%s, %s", chips, chips == 1 ? "" : "s", edges);
    struct figure f = {.name = "chain, per task",
                       .params = params,
                       .unit = "ns",
                       .against = chips == 2 ? AGAINST_R : AGAINST_NOTHING,
                       .limit = 1.2,
                       .peers = task_peer_names(),
                       .chips = chips,
                       .x = LINKS};
    if (chips == 2) {
        figure_report_cores(&f, s);
    } else {
        figure_report(&f, s);
    }
}

static void measure(uint32_t chips, uint32_t rounds, struct task_rates *rates)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    struct samples s[2] = {0};
    uint32_t first = chips == 1; /* away from who opens the gate */
    o.ring_bytes = RING_BYTES;
    pin_self(0);
    if (chips == 2) {
        r_start(0, 1);
    }
    task_peers_start(&peers, chips);
    bare_start(&bare, chips, first, 4096, chips > cores());
    rig_start(&rig, chips, &o);
    rig_pin(&rig, first);
    pid_t opener = opener_start(opener_word);
    for (int i = 0; i < 2; i++) {
        by_tensor = i == 1;
        batches_with_peers(rounds, ROUNDS_PER_ASK, &s[i], batch, ask, NULL);
    }
    kill(opener, SIGKILL);
    waitpid(opener, NULL, 0);
    rig_stop(&rig);
    bare_stop(&bare);
    task_peers_stop(&peers);
    r_stop();
    report(chips, "explicit edges", &s[0]);
    report(chips, "inferred edges", &s[1]);
    task_rates_add(rates, chips, &s[1]);
    samples_free(&s[0]);
    samples_free(&s[1]);
}

int main(int argc, char **argv)
{
    struct task_rates rates = {0};
    bench_begin("chain", argc, argv);
    if (!two_cores()) {
        bench_note("a chain over chips needs two cores: left out");
        return bench_end();
    }
    opener_word = shared_alloc(4096);
    measure(1, 120, &rates);
    measure(2, 250, &rates);
    measure(8, 60, &rates);
    task_rates_note(&rates, "links of a chain, inferred edges");
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Transom, floor and peers in turns (contest.h). The benchmark's process gives the orders and sleeps meanwhile; the
 * chips run task_measure. Which peers there are is known since the build (bench/CMakeLists.txt).
 */
#include "contest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "floor.h"

#define MIB (UINT64_C(1) << 20)
enum {
    COUNT_MIN = 3,
    COUNT_MAX = 2000,
    TRIAL_BYTES = 65536,
    TRIAL_MANY = 40,
    TRIAL_FEW = 3,
    RETRIES = 3,
    SPINNER_ROUNDS = 3, /* theirs take seconds */
    STEADY_BYTES = 1 << 20,
    PEER_WORDS = 32
};
/* One party's part of a round; longer when ranks share cores, because every switch takes longer than a whole
 * operation otherwise. */
enum { TURN_NS = 1200000, TURN_SHARED_NS = 3500000 };

/* ---- in a chip ---- */

struct rank_task {
    tsm_ctx *domain, *backwards; /* the latter: the ranks the other way round */
    tsm_sym src, dst, flag;
    uint64_t number;
    const void *landed; /* where the own window has what was put */
    uint64_t counts[CREW_RANKS_MAX], firsts[CREW_RANKS_MAX];
    int rc;
};

enum { FLAG_AT = 0, PAYLOAD_AT = 8, PAYLOAD_MAX = 56 };

static void signal_other(struct rank_task *k, const struct crew_side *s, const struct crew_order *o)
{
    tsm_sym dst = o->bytes <= PAYLOAD_MAX ? tsm_offset(k->flag, PAYLOAD_AT) : k->dst;
    if (o->op == CREW_SIGNAL) {
        k->rc |= tsm_signal(k->domain, k->flag, k->number, TSM_SIGNAL_SET, 1 - s->rank);
    } else {
        k->rc |= tsm_put_signal(k->domain, dst, s->src, o->bytes, k->flag, k->number,
                                TSM_SIGNAL_SET, 1 - s->rank);
    }
}

static void run_signal(struct rank_task *k, const struct crew_side *s, const struct crew_order *o)
{
    k->number++;
    if (s->rank == 0) {
        signal_other(k, s, o);
    }
    if (s->rank < 2) {
        k->rc |= tsm_signal_wait_until(k->domain, k->flag, TSM_GE, k->number, NULL, -1);
        crew_read(k->landed, o->bytes);
    }
    if (s->rank == 1) {
        signal_other(k, s, o);
    }
}

static int reduction(const struct rank_task *k, uint32_t op, uint64_t count, uint32_t number)
{
    tsm_ctx *c = k->domain, *scanned = crew_is_backwards(number) ? k->backwards : c;
    switch (op) {
    case CREW_ALL_REDUCE:
        return tsm_all_reduce(c, k->dst, k->src, count, TSM_F32, TSM_SUM);
    case CREW_REDUCE:
        return tsm_reduce(c, k->dst, k->src, count, TSM_F32, TSM_SUM, number % tsm_size(c));
    case CREW_REDUCE_SCATTER:
        return tsm_reduce_scatter(c, k->dst, k->src, count, TSM_F32, TSM_SUM);
    case CREW_REDUCE_SCATTER_V:
        return tsm_reduce_scatter_v(c, k->dst, k->src, k->counts, TSM_F32, TSM_SUM);
    case CREW_SCAN:
        return tsm_scan(scanned, k->dst, k->src, count, TSM_F32, TSM_SUM);
    default:
        return tsm_exscan(scanned, k->dst, k->src, count, TSM_F32, TSM_SUM);
    }
}

static int collective(const struct rank_task *k, uint32_t op, uint64_t count, uint32_t number)
{
    tsm_ctx *c = k->domain;
    uint32_t root = number % tsm_size(c);
    switch (op) {
    case CREW_BARRIER:
        return tsm_barrier(c);
    case CREW_BROADCAST:
        return tsm_broadcast(c, k->src, k->src, count, TSM_F32, root);
    case CREW_ALL_GATHER:
        return tsm_all_gather(c, k->dst, k->src, count, TSM_F32);
    case CREW_ALL_GATHER_V:
        return tsm_all_gather_v(c, k->dst, k->src, k->counts, NULL, TSM_F32);
    case CREW_GATHER:
        return tsm_gather(c, k->dst, k->src, count, TSM_F32, root);
    case CREW_GATHER_V:
        return tsm_gather_v(c, k->dst, k->src, k->counts, NULL, TSM_F32, root);
    case CREW_SCATTER:
        return tsm_scatter(c, k->dst, k->src, count, TSM_F32, root);
    case CREW_SCATTER_V:
        return tsm_scatter_v(c, k->dst, k->src, k->counts, NULL, TSM_F32, root);
    case CREW_ALL_TO_ALL:
        return tsm_all_to_all(c, k->dst, k->src, count, TSM_F32);
    case CREW_ALL_TO_ALL_V:
        return tsm_all_to_all_v(c, k->dst, k->counts, k->firsts, k->src, k->counts, k->firsts,
                                TSM_F32);
    default:
        return reduction(k, op, count, number);
    }
}

static void run_ours(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    struct rank_task *k = s->ctx;
    if (o->op == CREW_SIGNAL || o->op == CREW_PUT_SIGNAL) {
        run_signal(k, s, o);
    } else {
        k->rc |= collective(k, o->op, o->bytes / sizeof(float), number);
    }
}

static void sync_ours(struct crew_side *s)
{
    struct rank_task *k = s->ctx;
    k->rc |= tsm_barrier(k->domain);
}

static void prepare_ours(struct crew_side *s, const struct crew_order *o)
{
    struct rank_task *k = s->ctx;
    bool small = o->bytes <= PAYLOAD_MAX;
    k->landed = tsm_ptr(k->domain, small ? tsm_offset(k->flag, PAYLOAD_AT) : k->dst, s->rank);
    s->src = tsm_ptr(k->domain, k->src, s->rank);
    s->dst = o->op == CREW_BROADCAST ? s->src : tsm_ptr(k->domain, k->dst, s->rank);
    for (uint32_t r = 0; r < s->size; r++) {
        k->counts[r] = crew_count(o, s->rank, r);
        k->firsts[r] = crew_first(o, s->rank, r);
    }
}

enum { ARG_OP, ARG_WARM, ARG_COUNT, ARG_CHECK, ARG_BYTES, ARG_VECTOR, ARGS };

static int task_measure(tsm_task *t)
{
    struct crew_result *results = tsm_task_data(t, 0);
    struct rank_task k = {.domain = tsm_task_domain(t, 0)};
    struct crew_order o = {.op = (uint32_t)tsm_task_scalar(t, ARG_OP),
                           .warm = (uint32_t)tsm_task_scalar(t, ARG_WARM),
                           .count = (uint32_t)tsm_task_scalar(t, ARG_COUNT),
                           .check = (uint32_t)tsm_task_scalar(t, ARG_CHECK),
                           .bytes = tsm_task_scalar(t, ARG_BYTES)};
    uint32_t ranks[CREW_RANKS_MAX];
    if (!k.domain) {
        return tsm_fail(t, "no domain");
    }
    struct crew_side s = {.rank = tsm_rank(k.domain),
                          .size = tsm_size(k.domain),
                          .ops = CREW_TOGETHER,
                          .ctx = &k,
                          .prepare = prepare_ours,
                          .sync = sync_ours,
                          .run = run_ours};
    k.rc |= tsm_at(k.domain, FLAG_AT, &k.flag);
    k.rc |= tsm_at(k.domain, CONTEST_PAGE, &k.src);
    k.rc |= tsm_at(k.domain, CONTEST_PAGE + tsm_task_scalar(t, ARG_VECTOR), &k.dst);
    k.rc |= tsm_signal_fetch(k.domain, k.flag, &k.number);
    for (uint32_t i = 0; i < s.size; i++) {
        ranks[i] = s.size - 1 - i;
    }
    k.rc |= tsm_split(k.domain, ranks, s.size, &k.backwards);
    if (k.rc == 0) {
        crew_measure(&s, &o, &results[s.rank]);
    }
    return k.rc == 0 ? 0 : tsm_fail(t, "rank %u: %s", s.rank, tsm_ctx_text(k.domain));
}

/* ---- the worker ---- */

struct job {
    struct contest *c;
    const struct crew_order *order;
};

static int submit_domain(tsm_orch *orch, void *arg)
{
    struct contest *c = arg;
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    int chips[CREW_RANKS_MAX];
    for (uint32_t i = 0; i < c->size; i++) {
        chips[i] = (int)i;
    }
    o.name = "contest";
    o.chips = chips;
    o.chip_count = c->size;
    o.window_bytes = CONTEST_PAGE + 2 * c->vector;
    o.keep = 1;
    bench_must(tsm_domain_alloc(orch, &o, &c->domain), "domain",
               tsm_worker_error(c->rig.worker)->text);
    return 0;
}

static int submit_order(tsm_orch *orch, void *arg)
{
    const struct job *j = arg;
    const struct crew_order *o = j->order;
    struct tsm_call calls[CREW_RANKS_MAX];
    struct tsm_tensor results = {.data = j->c->results, .dtype = TSM_U8, .tag = TSM_NO_DEP};
    const uint64_t scalars[ARGS] = {o->op, o->warm, o->count, o->check, o->bytes, j->c->vector};
    for (uint32_t i = 0; i < j->c->size; i++) {
        calls[i] = (struct tsm_call){.callable = j->c->measure,
                                     .chip = (int)i,
                                     .tensors = &results,
                                     .tensor_count = 1,
                                     .domains = &j->c->domain,
                                     .domain_count = 1,
                                     .scalars = scalars,
                                     .scalar_count = ARGS};
    }
    return tsm_submit_group(orch, calls, j->c->size, NULL);
}

double contest_ours(struct contest *c, const struct crew_order *o)
{
    struct job j = {c, o};
    double slowest = 0;
    rig_run(&c->rig, submit_order, &j);
    for (uint32_t i = 0; i < c->size; i++) {
        if (c->results[i].wrong != 0) {
            bench_note("chip %u of %u: %s, %llu B: %u wrong elements", i, c->size,
                       crew_op_text(o->op), (unsigned long long)o->bytes, c->results[i].wrong);
            bench_must(-1, "wrong result", "");
        }
        slowest = c->results[i].ns > slowest ? c->results[i].ns : slowest;
    }
    return slowest;
}

static void start_worker(struct contest *c)
{
    struct tsm_worker_opts o = TSM_WORKER_OPTS_INIT;
    void *shared;
    o.lease_bytes = c->size * (2 * c->vector + MIB) + 64 * MIB;
    rig_add("measure", task_measure, &c->measure);
    rig_start(&c->rig, c->size, &o);
    rig_pin(&c->rig, 0);
    bench_must(tsm_buffer_create(c->rig.worker, CREW_RANKS_MAX * sizeof(*c->results), &shared),
               "buffer", "");
    c->results = shared;
    rig_run(&c->rig, submit_domain, c);
}

/* ---- the peers ---- */

/* NULL: it was not installed when this was built. */
#ifndef BENCH_MPIRUN_OPENMPI
#define BENCH_MPIRUN_OPENMPI NULL
#endif
#ifndef BENCH_OSHRUN
#define BENCH_OSHRUN NULL
#endif
#ifndef BENCH_MPIRUN_MPICH
#define BENCH_MPIRUN_MPICH NULL
#endif

struct peer {
    const char *name;
    const char *program;   /* in peer/ beside this one */
    const char *launcher;  /* NULL: there is none */
    const char *arguments; /* SIZE, YIELD, HEAP are replaced; program and page follow */
    bool spins;            /* through whole time slices when ranks share a core */
};

#define OPENMPI                                                                                    \
    "--allow-run-as-root --oversubscribe --bind-to none --mca orte_tmpdir_base /dev/shm "          \
    "--mca mpi_yield_when_idle YIELD -n SIZE"

static const struct peer all_peers[] = {
    {"Open MPI", "mpi_openmpi", BENCH_MPIRUN_OPENMPI, OPENMPI, false},
    {"Open MPI+UCX", "mpi_openmpi", BENCH_MPIRUN_OPENMPI,
     OPENMPI " --mca pml ucx --mca opal_common_ucx_tls any --mca opal_common_ucx_devices any",
     false},
    {"OpenSHMEM", "shmem", BENCH_OSHRUN, OPENMPI " -x UCX_TLS=posix,self -x HEAP", false},
    {"MPICH", "mpi_mpich", BENCH_MPIRUN_MPICH, "-n SIZE", true},
};

/* What stands for a word of the arguments. */
static const char *argument(const struct contest *c, const char *word, char text[64])
{
    if (strcmp(word, "SIZE") == 0) {
        snprintf(text, 64, "%u", c->size);
    } else if (strcmp(word, "YIELD") == 0) {
        snprintf(text, 64, "%d", c->size > cores());
    } else if (strcmp(word, "HEAP") == 0) {
        snprintf(text, 64, "SHMEM_SYMMETRIC_SIZE=%lluM",
                 (unsigned long long)(4 * c->vector / MIB + 64));
    } else {
        snprintf(text, 64, "%s", word);
    }
    return text;
}

static bool start_peer(struct contest *c, const struct peer *p)
{
    char program[4096];
    char launcher[256];
    char words[512];
    char texts[PEER_WORDS][64];
    char page[] = "PAGE";
    char *argv[PEER_WORDS + 4] = {launcher};
    uint32_t n = 1;
    char *rest;
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 64);
    bench_must(length > 0 ? 0 : -1, "/proc/self/exe", "");
    program[length] = 0;
    snprintf(strrchr(program, '/'), 64, "/peer/%s", p->program);
    snprintf(launcher, sizeof(launcher), "%s", p->launcher);
    snprintf(words, sizeof(words), "%s", p->arguments);
    for (char *w = strtok_r(words, " ", &rest); w && n < PEER_WORDS;
         w = strtok_r(NULL, " ", &rest)) {
        argument(c, w, texts[n]);
        argv[n] = texts[n];
        n++;
    }
    argv[n++] = program;
    argv[n] = page;
    return crew_launch(&c->peers[c->peer_count], p->name, c->size, c->vector, argv);
}

/* Once: which peers are missing, and how the others are set. */
static void tell(void)
{
    static bool told;
    for (uint32_t i = 0; !told && i < sizeof(all_peers) / sizeof(*all_peers); i++) {
        if (!all_peers[i].launcher) {
            bench_note("%s is not installed: no figures of it", all_peers[i].name);
        }
    }
    if (!told) {
        bench_note(
            "Open MPI and its OpenSHMEM: mpi_yield_when_idle 0 with a core for each rank, else 1; "
            "OpenSHMEM: UCX_TLS=posix,self; MPICH: no setting makes it yield");
    }
    told = true;
}

static void start_peers(struct contest *c, bool spinners)
{
    tell();
    for (uint32_t i = 0; i < sizeof(all_peers) / sizeof(*all_peers); i++) {
        const struct peer *p = &all_peers[i];
        bool spins = p->spins && c->size > cores();
        if (p->launcher && (!spins || spinners) && start_peer(c, p)) {
            c->peer_names[c->peer_count] = p->name;
            c->peer_spins[c->peer_count] = spins;
            c->peer_count++;
        }
    }
}

/* ---- rounds ---- */

void contest_start(struct contest *c, uint32_t size, uint64_t bytes_max, uint32_t who)
{
    *c = (struct contest){.size = size};
    c->vector = (bytes_max + CONTEST_PAGE - 1) / CONTEST_PAGE * CONTEST_PAGE;
    if (who & CONTEST_OURS) {
        start_worker(c);
    }
    if (who & CONTEST_FLOOR) {
        floor_start(&c->floor, size, c->vector);
    }
    if (who & CONTEST_PEERS) {
        start_peers(c, (who & CONTEST_SPINNERS) || bench_long());
    }
}

void contest_stop(struct contest *c)
{
    for (uint32_t i = 0; i < c->peer_count; i++) {
        crew_stop(&c->peers[i]);
    }
    if (c->floor.name[0]) {
        floor_stop(&c->floor);
    }
    if (c->rig.worker) {
        rig_stop(&c->rig);
    }
}

struct crew_order contest_fit(const struct contest *c, const struct crew_order *o, double ns)
{
    struct crew_order fit = *o;
    double count = (c->size > cores() ? TURN_SHARED_NS : TURN_NS) / (ns > 0 ? ns : 1);
    fit.count = count < COUNT_MIN ? COUNT_MIN : count > COUNT_MAX ? COUNT_MAX : (uint32_t)count;
    fit.warm = 1 + fit.count / 8;
    return fit;
}

/* Times of all parties in ns; > 0 where there is one. */
struct turn {
    double ours, floor, theirs[PEERS_MAX];
};

static double ask(struct contest *c, uint32_t peer, const struct crew_order *o)
{
    return c->peers[peer].name[0] ? crew_run(&c->peers[peer], o) : 0;
}

/* Everybody's first run, with a check of the results. */
static struct turn try_all(struct contest *c, const struct crew_order *o)
{
    struct crew_order many = *o, few = *o;
    many.check = few.check = 1;
    many.count = o->bytes > TRIAL_BYTES ? TRIAL_FEW : TRIAL_MANY;
    few.count = TRIAL_FEW;
    struct turn t = {.ours = contest_ours(c, &many), .floor = crew_run(&c->floor, &many)};
    for (uint32_t i = 0; i < c->peer_count; i++) {
        t.theirs[i] = ask(c, i, c->peer_spins[i] ? &few : &many);
    }
    return t;
}

static struct turn take_turns(struct contest *c, const struct crew_order *o,
                              const struct turn *last, bool spinners)
{
    struct crew_order fit = contest_fit(c, o, last->ours);
    struct turn t = {.ours = contest_ours(c, &fit)};
    fit = contest_fit(c, o, last->floor);
    t.floor = crew_run(&c->floor, &fit);
    for (uint32_t i = 0; i < c->peer_count; i++) {
        fit = contest_fit(c, o, last->theirs[i]);
        t.theirs[i] = last->theirs[i] > 0 && (spinners || !c->peer_spins[i]) ? ask(c, i, &fit) : 0;
    }
    return t;
}

void contest_run(struct contest *c, enum crew_op op, uint64_t bytes, uint32_t rounds,
                 struct samples *ret)
{
    struct crew_order o = {.op = op, .warm = 1, .bytes = bytes};
    bool steady = c->size == 2 && bytes <= STEADY_BYTES;
    struct turn last = try_all(c, &o);
    for (uint32_t i = 0; i < RETRIES * rounds && ret->count < rounds; i++) {
        double before = r_probe();
        struct turn t = take_turns(c, &o, &last, ret->count < SPINNER_ROUNDS);
        double after = r_probe();
        if (steady && (before > 1.25 * after || after > 1.25 * before)) {
            continue;
        }
        struct sample one = {.value = t.ours / 1000,
                             .floor = t.floor / 1000,
                             .r = c->size == 2 ? (before + after) / 2 : 0};
        for (uint32_t p = 0; p < c->peer_count; p++) {
            one.peer[p] = t.theirs[p] > 0 ? t.theirs[p] / 1000 : 0;
        }
        samples_push(ret, &one);
    }
}

void contest_ask_peers(struct contest *c, const struct crew_order *o, struct sample *ret)
{
    for (uint32_t i = 0; i < c->peer_count; i++) {
        double ns = ask(c, i, o);
        ret->peer[i] = ns > 0 ? ns / 1000 : 0;
    }
}

const char *bytes_text(uint64_t bytes, char text[24])
{
    const char *unit = bytes >= MIB ? "MiB" : bytes >= 1024 ? "KiB" : "B";
    snprintf(text, 24, "%llu %s",
             (unsigned long long)(bytes >= MIB    ? bytes / MIB
                                  : bytes >= 1024 ? bytes / 1024
                                                  : bytes),
             unit);
    return text;
}

const char *contest_params(const struct contest *c, uint64_t bytes, char text[64])
{
    char size[24], shared[24] = "";
    if (c->size > cores()) {
        snprintf(shared, sizeof(shared), " on %u cores", cores());
    }
    snprintf(text, 64, "%u chips%s%s%s", c->size, shared, bytes ? ", " : "",
             bytes ? bytes_text(bytes, size) : "");
    return text;
}

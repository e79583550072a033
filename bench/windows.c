/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Windows over a subset, against MPI and OpenSHMEM: 2, 4 or 8 of 8 ranks get one each and give it back. Each operation
 * is timed by itself; the figures are the medians over the rounds of each round's p50 and p99 (with fewer than a hundred
 * operations in a round that is its slowest).
 *
 * Transom: from the orchestrator's call of allocate to the end of release. first: of a shape that the worker has not
 * had; again: of one that it has. MPI: from the first member's begin to the last one's end, all members having met at a
 * barrier before. first: with a new communicator of the members, made by MPI_Comm_create_group and freed again; again:
 * on one that is kept. OpenSHMEM knows neither and has no subsets: all ranks, the same for both.
 *
 * touched: every member also sets its window. For Transom that is a task on each, and the time lasts until the memory is
 * zero again and free for others. What OpenSHMEM hands out is neither fresh nor zero; "zeroed" is its shmem_calloc.
 *
 * Floor: untouched, to tell the members and hear back, twice; touched, memset of the same bytes by as many processes.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bare.h"
#include "engine/engine.h"
#include "rig.h"
#include "windows.h"

enum { RANKS = WINDOW_RANKS, LINE_BYTES = 64, PATH = 4096, WORDS = 24 };
/* Operations of one party in one round: as many as fit into its turn. Where few fit there are fewer rounds, too. */
enum { OPS_MIN = 2, FIRST_OPS = 16, ROUNDS_MIN = 3, ROUNDS = 5, ROUNDS_LONG = 9 };
#define TURN_NS 30e6
#define TURN_LONG_NS 200e6
#define CELL_NS 2e9
#define CELL_LONG_NS 10e9
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* What is measured: all parties do this in turns. */
struct cell {
    uint32_t members;
    uint64_t bytes;
    bool again, touched;
};

/* Of one party in one round, in ns. p50 0: it does not take part. */
struct times {
    double p50, p99;
};

static struct random numbers = {4711};

static double turn_ns(void)
{
    return bench_long() ? TURN_LONG_NS : TURN_NS;
}

static uint32_t fit(double ns)
{
    double count = turn_ns() / (ns > 1 ? ns : 1);
    return count < OPS_MIN ? OPS_MIN : count > WINDOW_OPS ? WINDOW_OPS : (uint32_t)count;
}

static struct times times_of(double *ns, uint32_t count)
{
    struct times t = {quantile(ns, count, 0.5), quantile(ns, count, 0.99)};
    return t;
}

/* ---- Transom ---- */

static struct rig kept; /* for what has been seen */
static tsm_callable check;

static void must(const struct rig *r, int rc, const char *what)
{
    bench_must(rc, what, rc ? tsm_worker_error(r->worker)->text : "");
}

/* Finds its window zero and its neighbour's as that one set it. */
static int task_check(tsm_task *t)
{
    tsm_ctx *c = tsm_task_domain(t, 0);
    uint64_t bytes = tsm_task_scalar(t, 0);
    tsm_sym start;
    if (!c || tsm_at(c, 0, &start) != 0) {
        return tsm_fail(t, "no window");
    }
    struct window_order order = {.members = tsm_size(c)};
    uint32_t rank = tsm_rank(c);
    uint8_t *own = tsm_ptr(c, start, rank);
    const uint8_t *next = tsm_ptr(c, start, (rank + 1) % order.members);
    if (own[0] != 0 || memcmp(own, own + 1, bytes - 1) != 0) {
        return tsm_fail(t, "the window of rank %u is not zero", rank);
    }
    memset(own, window_value(rank), bytes);
    int rc = tsm_barrier(c);
    if (rc == 0 && window_wrong(&order, rank, next[0], next[bytes - 1]) != 0) {
        return tsm_fail(t, "rank %u does not see its neighbour's window", rank);
    }
    return rc == 0 ? tsm_barrier(c) : rc;
}

struct turn {
    struct rig *rig;
    const struct cell *cell;
    double ns[WINDOW_OPS];
    uint32_t ops, count; /* to do, and those that were of the kind they had to be */
};

static bool spread_over_cores(const int *chips, uint32_t members)
{
    uint32_t on_core[RANKS] = {0};
    uint32_t most = (members + cores() - 1) / cores();
    for (uint32_t i = 0; i < members; i++) {
        if (++on_core[(uint32_t)chips[i] % cores() % RANKS] > most) {
            return false;
        }
    }
    return true;
}

/* first: in an order that has not been before, most likely; on the cores as evenly as the first ranks are. */
static void choose_chips(const struct cell *c, int *chips)
{
    for (int i = 0; i < RANKS; i++) {
        chips[i] = i;
    }
    do {
        for (uint32_t i = 0; !c->again && i < c->members; i++) {
            uint32_t j = i + random_below(&numbers, RANKS - i);
            int chip = chips[i];
            chips[i] = chips[j];
            chips[j] = chip;
        }
    } while (!spread_over_cores(chips, c->members));
}

static tsm_domain *allocate(const struct turn *t, tsm_orch *orch, const int *chips)
{
    struct tsm_buffer_spec buffer = {.name = "data", .dtype = TSM_F32, .count = t->cell->bytes / 4};
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    tsm_domain *d;
    o.name = "bench";
    o.chips = chips;
    o.chip_count = t->cell->members;
    o.window_bytes = t->cell->bytes;
    o.buffers = &buffer;
    o.buffer_count = 1;
    must(t->rig, tsm_domain_alloc(orch, &o, &d), "domain_alloc");
    return d;
}

static void submit_members(const struct turn *t, tsm_orch *orch, tsm_domain *d, const int *chips,
                           tsm_callable callable)
{
    struct tsm_call calls[RANKS];
    for (uint32_t m = 0; m < t->cell->members; m++) {
        calls[m] = (struct tsm_call){.callable = callable,
                                     .chip = chips[m],
                                     .domains = &d,
                                     .domain_count = 1,
                                     .scalars = &t->cell->bytes,
                                     .scalar_count = 1};
    }
    must(t->rig, tsm_submit_group(orch, calls, t->cell->members, NULL), "submit_group");
}

/* Until no released lease is in use or dirty. */
static void wait_clean(const struct turn *t, const int *chips)
{
    tsm_worker *w = t->rig->worker;
    for (leases_progress(w); w->cooling_first; leases_progress(w)) {
        for (uint32_t m = 0; m < t->cell->members; m++) {
            uint32_t chip = (uint32_t)chips[m];
            must(t->rig, engine_wait(w, chip, w->rings[chip].published, 0), "wait");
        }
    }
}

static int run_turn(tsm_orch *orch, void *arg)
{
    struct turn *t = arg;
    const struct tsm_worker *w = t->rig->worker;
    for (uint32_t i = 0; i < t->ops; i++) {
        int chips[RANKS];
        choose_chips(t->cell, chips);
        uint64_t fresh = w->stats.leases_fresh;
        uint64_t begin = clock_ns();
        tsm_domain *d = allocate(t, orch, chips);
        if (t->cell->touched) {
            submit_members(t, orch, d, chips, t->rig->dirty);
        }
        must(t->rig, tsm_domain_release(d), "release");
        if (t->cell->touched) {
            wait_clean(t, chips);
        }
        uint64_t end = clock_ns();
        if (t->cell->again == (w->stats.leases_fresh == fresh)) {
            t->ns[t->count++] = (double)(end - begin);
        }
    }
    return 0;
}

/* Twice, so that once it is a recycled one. */
static int run_check(tsm_orch *orch, void *arg)
{
    const struct turn *t = arg;
    int chips[RANKS];
    choose_chips(t->cell, chips);
    for (int i = 0; i < 2; i++) {
        tsm_domain *d = allocate(t, orch, chips);
        submit_members(t, orch, d, chips, check);
        must(t->rig, tsm_domain_release(d), "release");
        wait_clean(t, chips);
    }
    return 0;
}

/* ns: how long one took the last time. */
static struct times ours(const struct cell *c, double ns)
{
    static struct turn t;
    struct rig fresh;
    t = (struct turn){.rig = &kept, .cell = c, .ops = fit(ns)};
    if (!c->again) {
        /* A worker of its own, as many leases as it can have without taking them from one another. */
        rig_start(&fresh, RANKS, NULL);
        rig_pin(&fresh, 0);
        uint64_t room = fresh.worker->lease_budget / (c->members * c->bytes * 5 / 4);
        t.rig = &fresh;
        t.ops = t.ops < FIRST_OPS ? t.ops : FIRST_OPS;
        t.ops = t.ops < room ? t.ops : (uint32_t)room;
    }
    rig_run(t.rig, run_turn, &t);
    if (!c->again) {
        rig_stop(&fresh);
    }
    return times_of(t.ns, t.count);
}

/* ---- floors ---- */

static struct bare bare;

static struct times tell_and_hear(void)
{
    double ns[WINDOW_OPS];
    uint32_t ops = WINDOW_OPS / 10;
    bare_begin(&bare);
    for (uint32_t i = 0; i < ops; i++) {
        uint64_t begin = clock_ns();
        for (int way = 0; way < 2; way++) {
            for (uint32_t m = 0; m < bare.workers; m++) {
                bare_put(&bare, m, NULL, 0, 0, 0);
            }
            bare_drain(&bare);
        }
        ns[i] = (double)(clock_ns() - begin);
    }
    bare_end(&bare);
    return times_of(ns, ops);
}

/* What the ranks that only set memory share. */
static struct {
    struct window_page *page;
    int page_fd;
    uint8_t *memory; /* a window for each rank */
    uint64_t bytes;
    struct {
        a64 arrived;
        uint8_t reserved[LINE_BYTES - sizeof(a64)];
    } * barriers; /* by the number of members */
} shared;

static void floor_prepare(struct crew_side *s, const struct crew_order *o)
{
    (void)s;
    (void)o;
}

static void floor_sync(struct crew_side *s)
{
    uint32_t members = shared.page->order.members;
    a64 *arrived = &shared.barriers[members].arrived;
    if (s->rank < members) {
        uint64_t all = (atomic_fetch_add(arrived, 1) / members + 1) * members;
        while (a64_acquire(arrived) < all) {
            if (members > cores()) {
                sched_yield();
            }
        }
    }
}

static void floor_set(struct crew_side *s, const struct crew_order *o, uint32_t number)
{
    struct window_span *span = &shared.page->rank[s->rank].span[number];
    if (s->rank < shared.page->order.members) {
        floor_sync(s);
        span->begin = clock_ns();
        memset(shared.memory + s->rank * shared.bytes, window_value(s->rank), o->bytes);
        span->end = clock_ns();
    }
}

static void floor_rank(void *arg, uint32_t rank, struct crew_page *page)
{
    struct crew_side side = {.rank = rank,
                             .size = RANKS,
                             .ops = 1u << CREW_BARRIER,
                             .prepare = floor_prepare,
                             .sync = floor_sync,
                             .run = floor_set};
    (void)arg;
    crew_serve(&side, page);
}

static void shared_start(uint64_t bytes_max)
{
    shared.page_fd = memfd_create("bench-windows", MFD_CLOEXEC);
    bench_must(shared.page_fd < 0 || ftruncate(shared.page_fd, sizeof(*shared.page)) != 0, "memfd",
               "");
    shared.page =
        mmap(NULL, sizeof(*shared.page), PROT_READ | PROT_WRITE, MAP_SHARED, shared.page_fd, 0);
    bench_must(shared.page == MAP_FAILED, "mmap", "");
    shared.bytes = bytes_max;
    shared.memory = shared_alloc(RANKS * bytes_max);
    shared.barriers = shared_alloc((RANKS + 1) * sizeof(*shared.barriers));
}

static void shared_stop(void)
{
    shared_free(shared.barriers, (RANKS + 1) * sizeof(*shared.barriers));
    shared_free(shared.memory, RANKS * shared.bytes);
    munmap(shared.page, sizeof(*shared.page));
    close(shared.page_fd);
}

/* ---- peers ---- */

/* Crews of peers. The first is the floor's. */
enum { MEMSET, OPENMPI, MPICH, OPENSHMEM, CREWS };

#define MPIRUN "--allow-run-as-root --oversubscribe --bind-to none --mca mpi_yield_when_idle YIELD"

static const struct {
    const char *name, *program;
    const char *command; /* the program and its arguments follow */
    bool spins;          /* through whole time slices when ranks share a core */
} launches[CREWS] = {
    [OPENMPI] = {"Open MPI", "windows_openmpi", "mpirun.openmpi " MPIRUN " --mca osc sm -n 8",
                 false},
    [MPICH] = {"MPICH", "windows_mpich", "mpirun.mpich -n 8", true},
    [OPENSHMEM] = {"OpenSHMEM", "windows_shmem",
                   "oshrun " MPIRUN " -x UCX_TLS=posix,self -x SHMEM_SYMMETRIC_SIZE=160M -n 8",
                   false},
};

static struct crew crews[CREWS];

/* Who takes part. The floor is the first; the others are a figure's peers, in this order. */
enum { PARTIES = 1 + PEERS_MAX };
static const struct {
    uint32_t crew;
    enum window_kind kind;
    bool all_only, touched_only;
} parties[PARTIES] = {
    {MEMSET, WINDOW_SET, false, true},        {OPENMPI, WINDOW_SHARED, false, false},
    {OPENMPI, WINDOW_ALLOCATE, false, false}, {MPICH, WINDOW_SHARED, false, false},
    {MPICH, WINDOW_ALLOCATE, false, false},   {OPENSHMEM, WINDOW_MALLOC, true, false},
    {OPENSHMEM, WINDOW_CALLOC, true, true},
};
static const char *const peer_names[PEERS_MAX + 1] = {
    "Open MPI shared", "Open MPI win", "MPICH shared", "MPICH win", "OpenSHMEM", "OpenSHMEM zeroed",
};

static void launch(uint32_t which, uint32_t members)
{
    char program[PATH];
    char name[CREW_NAME];
    char page[64];
    char words[512] = "/usr/bin/env "; /* finds what comes after it by PATH */
    char last[] = "PAGE";
    char *argv[WORDS + 4] = {NULL};
    char *rest;
    uint32_t n = 0;
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 64);
    bench_must(length > 0 ? 0 : -1, "/proc/self/exe", "");
    program[length] = 0;
    snprintf(strrchr(program, '/'), 64, "/peer/%s", launches[which].program);
    if (access(program, X_OK) != 0) {
        bench_note("%s is not installed: no figures of it", launches[which].name);
        return;
    }
    strncat(words, launches[which].command, sizeof(words) - strlen(words) - 1);
    for (char *w = strtok_r(words, " ", &rest); w && n < WORDS; w = strtok_r(NULL, " ", &rest)) {
        static char yield[2][2] = {"0", "1"};
        argv[n++] = strcmp(w, "YIELD") == 0 ? yield[members > cores()] : w;
    }
    snprintf(page, sizeof(page), "/proc/%d/fd/%d", getpid(), shared.page_fd);
    argv[n++] = program;
    argv[n++] = last;
    argv[n] = page;
    snprintf(name, sizeof(name), "%s (windows)", launches[which].name);
    crew_launch(&crews[which], name, RANKS, 0, argv);
}

/* Everybody for cells with so many members. */
static void start_crews(uint32_t members)
{
    crew_fork(&crews[MEMSET], "memset", RANKS, shared.bytes, floor_rank, NULL);
    for (uint32_t i = OPENMPI; i < CREWS; i++) {
        if (launches[i].spins && members > cores() && !bench_long()) {
            bench_note("%s with %u ranks on %u cores: only with --long (it never yields: 0.1 s and "
                       "more an operation)",
                       launches[i].name, members, cores());
        } else if (i != OPENSHMEM || members == RANKS) {
            launch(i, members);
        }
    }
}

static void stop_crews(void)
{
    for (uint32_t i = 0; i < CREWS; i++) {
        crew_stop(&crews[i]);
    }
}

static struct times run_party(uint32_t party, const struct cell *c, uint32_t ops, bool checked)
{
    struct crew *crew = &crews[parties[party].crew];
    struct window_page *page = shared.page;
    struct crew_order o = {.op = CREW_BARRIER, .count = ops, .bytes = c->bytes};
    struct times none = {0};
    double ns[WINDOW_OPS];
    if (crew->name[0] == 0 || (parties[party].all_only && c->members < RANKS) ||
        (parties[party].touched_only && !c->touched) ||
        (parties[party].crew == OPENSHMEM && c->touched && !c->again)) {
        return none; /* OpenSHMEM's heap has no fresh pages but once */
    }
    page->order = (struct window_order){.kind = parties[party].kind,
                                        .members = c->members,
                                        .new_group = !c->again,
                                        .touch = c->touched || checked,
                                        .check = checked};
    if (crew_run(crew, &o) < 0) {
        return none;
    }
    for (uint32_t i = 0; i < ops; i++) {
        uint64_t begin = UINT64_MAX;
        uint64_t end = 0;
        for (uint32_t r = 0; r < c->members; r++) {
            const struct window_span *s = &page->rank[r].span[i];
            begin = s->begin < begin ? s->begin : begin;
            end = s->end > end ? s->end : end;
        }
        ns[i] = (double)(end - begin);
    }
    return times_of(ns, ops);
}

/* A peer whose ranks see in their neighbours' windows what those have not written is left out from here on. */
static void check_party(uint32_t party, const struct cell *c)
{
    struct crew *crew = &crews[parties[party].crew];
    uint32_t wrong = 0;
    for (uint32_t r = 0; r < RANKS; r++) {
        shared.page->rank[r].wrong = 0;
    }
    run_party(party, c, 1, party != MEMSET);
    for (uint32_t r = 0; r < RANKS; r++) {
        wrong += shared.page->rank[r].wrong;
    }
    if (wrong != 0) {
        bench_note("%s: %u wrong bytes", crew->name, wrong);
        crew_stop(crew);
    }
}

/* ---- rounds ---- */

/* One operation, the first of all for those who have just been started. */
static void first_calls(const struct cell *c)
{
    char text[300] = "";
    for (uint32_t p = 1; p < PARTIES; p++) {
        struct times t = run_party(p, c, 1, false);
        if (t.p50 > 0) {
            size_t at = strlen(text);
            snprintf(text + at, sizeof(text) - at, "%s%s %.0f us", at ? ", " : "",
                     peer_names[p - 1], t.p50 / 1000);
        }
    }
    if (text[0]) {
        bench_note("the very first call with %u members: %s", c->members, text);
    }
}

static void report(const struct cell *c, struct samples s[2])
{
    static const char *const names[2][2][2] = {
        {{"alloc + free, first, p50", "alloc + free, first, p99"},
         {"alloc + free, again, p50", "alloc + free, again, p99"}},
        {{"touched, first, p50", "touched, first, p99"},
         {"touched, again, p50", "touched, again, p99"}},
    };
    bool large = c->bytes >= MIB;
    char params[64];
    snprintf(params, sizeof(params), "%u of %d ranks, %u %s", c->members, RANKS,
             (unsigned)(c->bytes / (large ? MIB : KIB)), large ? "MiB" : "KiB");
    for (int i = 0; i < 2; i++) {
        struct figure f = {.name = names[c->touched][c->again][i],
                           .params = params,
                           .unit = "us",
                           .against = AGAINST_PEER,
                           .limit = 1,
                           .peers = peer_names,
                           .chips = c->members,
                           .x = (double)c->bytes};
        if (i == 0 && !c->touched) {
            f.also = c->again ? AGAINST_MAX : AGAINST_FLOOR;
            f.also_limit = c->again ? 2 + 0.05 * c->members : 1.5;
        }
        figure_report(&f, &s[i]);
        samples_free(&s[i]);
    }
}

static void measure(const struct cell *c)
{
    struct samples s[2] = {0};
    double last[PARTIES] = {0};
    double our_last = c->touched ? ours(c, turn_ns()).p50 : 0;
    for (uint32_t p = 0; p < PARTIES; p++) {
        last[p] = run_party(p, c, 1, false).p50;
    }
    double cell_ns = bench_long() ? CELL_LONG_NS : CELL_NS;
    int rounds = bench_long() ? ROUNDS_LONG : ROUNDS;
    uint64_t begin = clock_ns();
    for (int i = 0; i < rounds; i++) {
        if (i >= ROUNDS_MIN && (double)(clock_ns() - begin) > cell_ns) {
            break;
        }
        struct times us = ours(c, our_last);
        struct times floor =
            c->touched ? run_party(MEMSET, c, fit(last[0]), false) : tell_and_hear();
        struct sample p50 = {.value = us.p50 / 1000, .floor = floor.p50 / 1000};
        struct sample p99 = {.value = us.p99 / 1000, .floor = floor.p99 / 1000};
        our_last = us.p50;
        for (uint32_t p = 1; p < PARTIES; p++) {
            struct times t = run_party(p, c, fit(last[p]), false);
            p50.peer[p - 1] = t.p50 / 1000;
            p99.peer[p - 1] = t.p99 / 1000;
            last[p] = t.p50;
        }
        samples_push(&s[0], &p50);
        samples_push(&s[1], &p99);
    }
    report(c, s);
}

static void measure_members(uint32_t members)
{
    static const uint64_t sizes[] = {4 * KIB, MIB, 64 * MIB};
    rig_add("check", task_check, &check);
    rig_start(&kept, RANKS, NULL);
    rig_pin(&kept, 0);
    bare_start(&bare, members, 1, 64, true);
    start_crews(members);
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct cell c = {.members = members, .bytes = sizes[i], .again = true};
        if (i == 0) {
            first_calls(&c);
        }
        struct turn t = {.rig = &kept, .cell = &c};
        rig_run(&kept, run_check, &t);
        for (uint32_t p = 0; p < PARTIES; p++) {
            check_party(p, &c);
        }
        for (int kind = 0; kind < 4; kind++) {
            c.again = kind & 1;
            c.touched = kind >> 1;
            measure(&c);
        }
    }
    stop_crews();
    bare_stop(&bare);
    rig_stop(&kept);
}

int main(int argc, char **argv)
{
    bench_begin("windows", argc, argv);
    pin_self(0);
    shared_start(64 * MIB);
    bench_note("Open MPI with osc sm, for both kinds (its default for MPI_Win_allocate, osc rdma, "
               "touches all of a window); OpenSHMEM allocates for all ranks only");
    for (uint32_t members = 2; members <= RANKS; members *= 2) {
        measure_members(members);
    }
    shared_stop();
    return bench_end();
}

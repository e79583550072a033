/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Allocating and releasing a domain: of a shape seen before, untouched and touched by a task on each member (the
 * tasks and the zeroing are not in the time, the two calls are), and the first time. Floor of the first time:
 * telling each member and hearing back by a line of its mailbox, once for the allocation, once for the release.
 */
#include <stdio.h>
#include <unistd.h>

#include "bare.h"
#include "base/sys.h"
#include "engine/engine.h"
#include "rig.h"

enum {
    CHIPS = 64,
    LOOPS = 100,
    ROUNDS = 60,
    FIRST_LOOPS = 4,
    FIRST_ROUNDS = 16,
    TOUCHED_ROUNDS = 40
};
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static struct rig rig;
static struct random numbers = {4711};

struct shape {
    uint32_t members;
    uint64_t bytes;
    const char *text;
};

struct plan {
    struct shape shape;
    struct samples *s, *calls, *mappings;
    struct bare *bare;
};

static void must(int rc, const char *what)
{
    bench_must(rc, what, rc ? tsm_worker_error(rig.worker)->text : "");
}

static tsm_domain *allocate(tsm_orch *orch, const struct shape *sh, const int *chips)
{
    struct tsm_buffer_spec buffer = {.name = "data", .dtype = TSM_F32, .count = sh->bytes / 4};
    struct tsm_domain_opts o = TSM_DOMAIN_OPTS_INIT;
    tsm_domain *d;
    o.name = "bench";
    o.chips = chips;
    o.chip_count = sh->members;
    o.window_bytes = sh->bytes;
    o.buffers = &buffer;
    o.buffer_count = 1;
    must(tsm_domain_alloc(orch, &o, &d), "domain_alloc");
    return d;
}

static void first_chips(int *chips, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        chips[i] = (int)i;
    }
}

/* ---- seen before, untouched ---- */

static int seen(tsm_orch *orch, void *arg)
{
    const struct plan *p = arg;
    int chips[CHIPS];
    first_chips(chips, p->shape.members);
    must(tsm_domain_release(allocate(orch, &p->shape, chips)), "release");
    for (uint32_t r = 0; r < ROUNDS; r++) {
        uint64_t calls = sys_count_all();
        uint64_t maps = sys_count(SYS_CALL_MMAP);
        uint64_t begin = clock_ns();
        for (uint32_t i = 0; i < LOOPS; i++) {
            must(tsm_domain_release(allocate(orch, &p->shape, chips)), "release");
        }
        samples_add(p->s, (double)(clock_ns() - begin) / LOOPS, 0, 0);
        samples_add(p->calls, (double)(sys_count_all() - calls) / LOOPS, 0, 0);
        samples_add(p->mappings, (double)(sys_count(SYS_CALL_MMAP) - maps) / LOOPS, 0, 0);
    }
    return 0;
}

/* ---- seen before, touched ---- */

static void submit_dirty(tsm_orch *orch, tsm_domain *d, uint32_t members, const uint64_t *bytes)
{
    struct tsm_call calls[CHIPS];
    for (uint32_t m = 0; m < members; m++) {
        calls[m] = (struct tsm_call){.callable = rig.dirty,
                                     .chip = (int)m,
                                     .domains = &d,
                                     .domain_count = 1,
                                     .scalars = bytes,
                                     .scalar_count = 1};
    }
    must(tsm_submit_group(orch, calls, members, NULL), "submit_group");
}

static void wait_clean(tsm_worker *w)
{
    for (leases_progress(w); w->cooling_first; leases_progress(w)) {
        usleep(50);
    }
}

static int touched(tsm_orch *orch, void *arg)
{
    const struct plan *p = arg;
    int chips[CHIPS];
    first_chips(chips, p->shape.members);
    for (uint32_t r = 0; r < TOUCHED_ROUNDS; r++) {
        uint64_t begin = clock_ns();
        tsm_domain *d = allocate(orch, &p->shape, chips);
        uint64_t took = clock_ns() - begin;
        submit_dirty(orch, d, p->shape.members, &p->shape.bytes);
        begin = clock_ns();
        must(tsm_domain_release(d), "release");
        took += clock_ns() - begin;
        wait_clean(rig.worker);
        if (r > 0) { /* the first has fresh pages */
            samples_add(p->s, (double)took, 0, 0);
        }
    }
    return 0;
}

/* ---- the first time ---- */

/* Members in an order that has not been before, most likely. */
static void random_chips(int *chips, uint32_t n)
{
    int all[CHIPS];
    first_chips(all, CHIPS);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = i + random_below(&numbers, CHIPS - i);
        chips[i] = all[j];
        all[j] = all[i];
    }
}

static double tell_and_hear(struct bare *b)
{
    bare_begin(b);
    uint64_t begin = clock_ns();
    for (uint32_t i = 0; i < FIRST_LOOPS * 2; i++) {
        for (uint32_t m = 0; m < b->workers; m++) {
            bare_put(b, m, NULL, 0, 0, 0);
        }
        bare_drain(b);
    }
    uint64_t end = clock_ns();
    bare_end(b);
    return (double)(end - begin) / FIRST_LOOPS;
}

static int first(tsm_orch *orch, void *arg)
{
    const struct plan *p = arg;
    for (uint32_t r = 0; r < FIRST_ROUNDS; r++) {
        int chips[FIRST_LOOPS][CHIPS];
        for (uint32_t i = 0; i < FIRST_LOOPS; i++) {
            random_chips(chips[i], p->shape.members);
        }
        uint64_t fresh = rig.worker->stats.leases_fresh;
        uint64_t begin = clock_ns();
        for (uint32_t i = 0; i < FIRST_LOOPS; i++) {
            must(tsm_domain_release(allocate(orch, &p->shape, chips[i])), "release");
        }
        double ns = (double)(clock_ns() - begin) / FIRST_LOOPS;
        if (rig.worker->stats.leases_fresh - fresh == FIRST_LOOPS) {
            samples_add(p->s, ns, tell_and_hear(p->bare), 0);
        }
    }
    return 0;
}

/* ---- ---- */

static void measure_seen(const struct shape *sh)
{
    struct samples s[4] = {0};
    char params[64];
    struct plan p = {*sh, &s[0], &s[1], &s[2], NULL};
    double limit = 2000 + 50.0 * sh->members;
    rig_run(&rig, seen, &p);
    snprintf(params, sizeof(params), "%u members, %s", sh->members, sh->text);
    struct figure f = {.name = "alloc + release, seen",
                       .params = params,
                       .unit = "ns",
                       .against = AGAINST_MAX,
                       .limit = limit,
                       .chips = sh->members,
                       .x = (double)sh->bytes};
    figure_report(&f, &s[0]);
    if (sh->members == CHIPS) {
        struct figure g = f;
        g.unit = "a cycle";
        g.limit = 0;
        g.name = "its system calls";
        figure_report(&g, &s[1]);
        g.name = "its new mappings";
        figure_report(&g, &s[2]);
    }
    if (sh->bytes <= MIB && sh->members <= 8) {
        p.s = &s[3];
        rig_run(&rig, touched, &p);
        f.name = "alloc + release, touched";
        figure_report(&f, &s[3]);
    }
    for (int i = 0; i < 4; i++) {
        samples_free(&s[i]);
    }
}

static void measure_first(const struct shape *sh)
{
    struct samples s = {0};
    struct bare bare;
    char params[64];
    bare_start(&bare, sh->members, 1, 64, true);
    struct plan p = {*sh, &s, NULL, NULL, &bare};
    rig_run(&rig, first, &p);
    bare_stop(&bare);
    snprintf(params, sizeof(params), "%u members, %s", sh->members, sh->text);
    struct figure f = {.name = "alloc + release, first time",
                       .params = params,
                       .unit = "ns",
                       .against = AGAINST_FLOOR,
                       .limit = 1.5,
                       .chips = sh->members,
                       .x = (double)sh->bytes};
    figure_report(&f, &s);
    samples_free(&s);
}

int main(int argc, char **argv)
{
    static const uint32_t members[] = {2, 4, 8, 16, 32, 64};
    static const struct shape sizes[] = {
        {0, 4 * KIB, "4 KiB"}, {0, MIB, "1 MiB"}, {0, 64 * MIB, "64 MiB"}};
    bench_begin("allocate", argc, argv);
    pin_self(0);
    rig_start(&rig, CHIPS, NULL);
    for (uint32_t b = 0; b < 3; b++) {
        for (uint32_t m = 0; m < 6; m++) {
            struct shape sh = {members[m], sizes[b].bytes, sizes[b].text};
            measure_seen(&sh);
        }
    }
    rig_stop(&rig);
    /* Fresh workers, so that no lease has to make room for another. */
    rig_start(&rig, CHIPS, NULL);
    for (uint32_t m = 0; m < 6; m++) {
        struct shape sh = {members[m], sizes[m % 2].bytes, sizes[m % 2].text};
        measure_first(&sh);
    }
    rig_stop(&rig);
    rig_start(&rig, CHIPS, NULL);
    struct shape large = {2, 64 * MIB, "64 MiB"};
    measure_first(&large);
    rig_stop(&rig);
    return bench_end();
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Finds the values of the tuning table (src/shm/tuning.h): two workers that are made to use one algorithm and the other
 * take turns, and where one gives way to the other is the value. `./dev bench --tune` writes them to build/tuning.conf.
 * In the table the "floor" of one algorithm is the other. Argument: the file to write.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "contest.h"
#include "engine/engine.h"

/* A copy that streams leaves nothing in the caches for who reads it next: it must win something. */
#define STREAM_PAYS 0.95
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
enum { ROUNDS = 9, ROUNDS_LONG = 31, RANKS_MAX = 32, SMALLEST = 64, TRIALS = 20 };

/* Two workers with one difference. */
struct pair {
    struct contest one, other;
};

static void start_forced(struct contest *c, uint32_t ranks, uint64_t bytes_max,
                         const struct tuning *t)
{
    char text[512], path[64];
    int fd = memfd_create("bench-tuning", MFD_CLOEXEC);
    tuning_write(t, text, sizeof(text));
    bench_must(fd < 0 || write(fd, text, strlen(text)) < 0, "memfd", "");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    setenv("TRANSOM_TUNING", path, 1);
    contest_start(c, ranks, bytes_max, CONTEST_OURS);
    unsetenv("TRANSOM_TUNING");
    close(fd);
}

static void pair_stop(struct pair *p)
{
    contest_stop(&p->one);
    contest_stop(&p->other);
}

static double ours_after(struct pair *p, struct contest *c, const struct crew_order *evict,
                         const struct crew_order *o)
{
    if (evict) {
        contest_ours(&p->other, evict);
    }
    return contest_ours(c, o);
}

/* How `one` compares with `other`: the median of the rounds' ratios of time. */
static double compare(struct pair *p, const struct crew_order *evict, enum crew_op op,
                      uint64_t bytes, const char *name, const char *params)
{
    struct samples s = {0};
    struct crew_order o = {.op = op, .bytes = bytes, .warm = 1, .count = bytes > MIB ? 2 : TRIALS};
    double ratios[ROUNDS_LONG];
    double one = contest_ours(&p->one, &o), other = contest_ours(&p->other, &o);
    uint32_t rounds = bench_long() ? ROUNDS_LONG : ROUNDS;
    for (uint32_t i = 0; i < rounds; i++) {
        struct crew_order fit = contest_fit(&p->one, &o, one < other ? one : other);
        double a = ours_after(p, &p->one, evict, &fit), b = ours_after(p, &p->other, evict, &fit);
        samples_add(&s, a / 1000, b / 1000, r_probe());
        ratios[i] = a / b;
    }
    struct figure f = {
        .name = name, .params = params, .unit = "us", .chips = p->one.size, .x = (double)bytes};
    figure_report(&f, &s);
    samples_free(&s);
    return quantile(ratios, rounds, 0.5);
}

/* Flat up to the last number of ranks before dissemination is quicker; of two ranks they are the same. */
static void tune_barrier(struct tuning *t)
{
    bool better = true;
    t->flat_ranks_max = 2;
    for (uint32_t ranks = 4; ranks <= RANKS_MAX && better; ranks *= 2) {
        struct tuning flat = *t, disseminate = *t;
        struct pair p;
        char params[32];
        flat.flat_ranks_max = RANKS_MAX;
        disseminate.flat_ranks_max = 0;
        start_forced(&p.one, ranks, CONTEST_PAGE, &flat);
        start_forced(&p.other, ranks, CONTEST_PAGE, &disseminate);
        snprintf(params, sizeof(params), "%u chips", ranks);
        better = compare(&p, NULL, CREW_BARRIER, 0, "flat : dissemination", params) <= 1;
        t->flat_ranks_max = better ? ranks : t->flat_ranks_max;
        pair_stop(&p);
    }
}

/* One-shot up to the last size before the direct form is quicker. */
static void tune_one_shot(struct tuning *t)
{
    for (uint32_t ranks = 2; ranks <= RANKS_MAX; ranks *= 2) {
        struct tuning one_shot = *t, direct = *t;
        uint32_t class = tuning_class(ranks), best = 0;
        struct pair p;
        bool better = true;
        one_shot.one_shot_bytes[class] = STAGE_BYTES;
        direct.one_shot_bytes[class] = 0;
        start_forced(&p.one, ranks, STAGE_BYTES, &one_shot);
        start_forced(&p.other, ranks, STAGE_BYTES, &direct);
        for (uint32_t bytes = SMALLEST; bytes <= STAGE_BYTES && better; bytes *= 2) {
            char size[24], params[64];
            snprintf(params, sizeof(params), "%u chips, %s", ranks, bytes_text(bytes, size));
            better = compare(&p, NULL, CREW_ALL_REDUCE, bytes, "one-shot : direct", params) <= 1;
            best = better ? bytes : best;
        }
        t->one_shot_bytes[class] = best;
        pair_stop(&p);
    }
}

/* Past the caches from the size on from which that is quicker, also for everything larger. Before each turn the windows
 * are driven out of the caches: stores that bypass them are quick while their lines are there, but keep none there. */
static void tune_stream(struct tuning *t)
{
    const struct crew_order evict = {.op = CREW_ALL_GATHER, .bytes = 16 * MIB, .count = 1};
    struct tuning stream = *t, never = *t;
    struct pair p;
    bool better = true;
    stream.stream_bytes = 1;
    never.stream_bytes = t->stream_bytes = UINT64_MAX;
    start_forced(&p.one, 2, 32 * MIB, &stream);
    start_forced(&p.other, 2, 32 * MIB, &never);
    contest_ours(&p.other, &evict); /* touches the pages */
    for (uint64_t bytes = 16 * MIB; bytes >= 64 * KIB && better; bytes /= 2) {
        char size[24];
        double ratio = compare(&p, &evict, CREW_ALL_GATHER, bytes, "streamed : cached copy",
                               bytes_text(bytes, size));
        better = ratio <= STREAM_PAYS;
        t->stream_bytes = better ? bytes : t->stream_bytes;
    }
    pair_stop(&p);
}

/* The same for what goes into another chip's window, whose owner reads it. */
static void tune_stream_out(struct tuning *t)
{
    struct tuning stream = *t, never = *t;
    struct pair p;
    bool better = true;
    stream.stream_out_bytes = 1;
    never.stream_out_bytes = t->stream_out_bytes = UINT64_MAX;
    start_forced(&p.one, 2, MIB, &stream);
    start_forced(&p.other, 2, MIB, &never);
    for (uint64_t bytes = 512 * KIB; bytes >= 2 * KIB && better; bytes /= 2) {
        char size[24];
        double ratio = compare(&p, NULL, CREW_PUT_SIGNAL, bytes, "streamed : cached put",
                               bytes_text(bytes, size));
        better = ratio <= 1;
        t->stream_out_bytes = better ? bytes : t->stream_out_bytes;
    }
    pair_stop(&p);
}

static void write_file(const struct tuning *t, const char *path)
{
    char text[512];
    tuning_write(t, text, sizeof(text));
    FILE *f = fopen(path, "w");
    bench_must(f ? 0 : -1, "cannot write", path);
    fprintf(f, "# Measured by ./dev bench --tune. To use it: TRANSOM_TUNING=%s PROGRAM\n%s", path,
            text);
    bench_must(fclose(f), "cannot write", path);
    printf("\n%s:\n%s\nTo use it: TRANSOM_TUNING=%s PROGRAM\n", path, text, path);
}

int main(int argc, char **argv)
{
    struct tuning t = tuning_default;
    const char *path = "tuning.conf";
    bench_begin("tune", argc, argv);
    for (int i = 1; i < argc; i++) {
        path = argv[i][0] != '-' ? argv[i] : path;
    }
    unsetenv("TRANSOM_TUNING");
    r_start(0, 1);
    tune_barrier(&t);
    tune_one_shot(&t);
    tune_stream(&t);
    tune_stream_out(&t);
    write_file(&t, path);
    return bench_end();
}

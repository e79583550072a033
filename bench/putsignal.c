/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A put with a signal, read and answered in kind: 8 bytes, whose flag is in the same line, against R; and 64 KiB against the
 * barest program that copies and sets a flag. The peers put, make sure of the order, and put a flag. Chips on a core each.
 */
#include <stdio.h>

#include "contest.h"

enum { ROUNDS = 40, ROUNDS_LARGE = 15, LONGER = 4, SMALL = 8, LARGE = 65536 };

static void measure(struct contest *c, uint64_t bytes, uint32_t rounds)
{
    struct tally t;
    char size[24], text[96];
    contest_run(c, CREW_PUT_SIGNAL, bytes, rounds * (bench_long() ? LONGER : 1), &t);
    bool small = bytes == SMALL;
    struct figure f = {"put + signal, answered", bytes_text(bytes, size), "us", AGAINST_FLOOR, 1.3};
    for (uint32_t i = 0; small && i < t.ours.count; i++) {
        t.ours.list[i].value *= 1000; /* to the unit of R */
        t.ours.list[i].floor *= 1000;
    }
    if (small) {
        f.unit = "ns";
        f.against = AGAINST_R;
        f.limit = 2;
    }
    figure_report_cores(&f, &t.ours);
    f.unit = "us";
    contest_keep(c, &t, &f);
    if (t.best >= 0) {
        snprintf(text, sizeof(text), "%s; %s", size, c->peers[t.best].name);
        struct figure g = {f.name, text, "us", AGAINST_PEER, 1};
        figure_report_cores(&g, &t.to_best);
    }
    tally_free(&t);
}

int main(int argc, char **argv)
{
    struct contest c;
    bench_begin("putsignal", argc, argv);
    if (!two_cores()) {
        bench_note("a put to a chip on another core needs two cores: left out");
        return bench_end();
    }
    r_start(0, 1);
    contest_start(&c, 2, LARGE);
    measure(&c, SMALL, ROUNDS);
    measure(&c, LARGE, ROUNDS_LARGE);
    contest_stop(&c);
    return bench_end();
}

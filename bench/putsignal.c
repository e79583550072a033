/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A signal that is answered, and a put with a signal, read and answered in kind: 8 bytes, whose flag is in the same line,
 * against R; and 64 KiB against the barest program that copies and sets a flag. The peers put, make sure of the order, and
 * put a flag. Chips on a core each.
 */
#include <stdio.h>

#include "contest.h"

enum { ROUNDS = 40, ROUNDS_LARGE = 15, LONGER = 4, SMALL = 8, LARGE = 65536 };

static void measure(struct contest *c, enum crew_op op, uint64_t bytes, enum against against,
                    double limit)
{
    struct samples s = {0};
    char size[24], name[64];
    contest_run(c, op, bytes,
                (bytes == LARGE ? ROUNDS_LARGE : ROUNDS) * (bench_long() ? LONGER : 1), &s);
    snprintf(name, sizeof(name), "%s, answered", crew_op_text(op));
    struct figure f = {.name = name,
                       .params = bytes ? bytes_text(bytes, size) : "",
                       .unit = "us",
                       .against = against,
                       .limit = limit,
                       .also = AGAINST_PEER,
                       .also_limit = 1,
                       .peers = c->peer_names,
                       .chips = 2,
                       .x = (double)bytes};
    figure_report_cores(&f, &s);
    samples_free(&s);
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
    contest_start(&c, 2, LARGE, CONTEST_ALL);
    measure(&c, CREW_SIGNAL, 0, AGAINST_R, 2);
    measure(&c, CREW_PUT_SIGNAL, SMALL, AGAINST_R, 2);
    measure(&c, CREW_PUT_SIGNAL, LARGE, AGAINST_FLOOR, 1.3);
    contest_stop(&c);
    return bench_end();
}

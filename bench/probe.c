/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * R for benchmarks in other languages (bench/python): answers every line of its standard input with the round trip of a
 * cache line now, in ns, between the first two cores; 0 where there is only one. Who asks waits meanwhile. No benchmark.
 */
#include <stdio.h>

#include "common.h"

int main(void)
{
    char line[16];
    r_start(0, 1);
    while (fgets(line, sizeof(line), stdin)) {
        printf("%.1f\n", r_probe());
        fflush(stdout);
    }
    r_stop();
    return 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* What the callables of loaded_so.c are given as data: the tests write it, the children read it. */
#ifndef TESTS_INTEGRATION_LOADED_SO_H
#define TESTS_INTEGRATION_LOADED_SO_H

#include <stdint.h>

struct loaded_data {
    int log;    /* descriptor: a byte 'L' for each load, 'U' for each unload; < 0: none */
    int gate;   /* descriptor: load waits for a byte; 0: none */
    int refuse; /* load returns this, with text */
    int die;    /* load sends itself this signal; 0: none */
    uint64_t slow_ns;
    int32_t value;
    char where[16]; /* name of the processes that refuse or die: "transom-chip"; "": all */
    char text[64];
};

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The program transom-keeper: all of it is in the library. */
#include "transom/transom.h"

int main(int argc, char **argv)
{
    return tsm_keeper_main(argc, argv);
}

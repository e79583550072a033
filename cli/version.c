/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * `transom version`: what this build is. docs/man/transom.1.
 */
#include "cli/cli.h"

#include "backend/registry.h"
#include "transom/transom.h"

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

int command_version(int argc, char **argv)
{
    if (argc > 1) {
        fprintf(stderr, "transom version: unknown argument '%s'\n", argv[1]);
        return EXIT_USAGE;
    }
    printf("transom %s\ncompiler: %s\nbackends: %s\n", tsm_version(), COMPILER, backend_names());
    return 0;
}

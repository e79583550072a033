/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Uses an installed Transom: the header and the library must be of one version. */

#include <stdio.h>
#include <string.h>
#include <transom/transom.h>

int main(void)
{
    if (strcmp(tsm_version(), TSM_VERSION_STRING) != 0) {
        fprintf(stderr, "library %s, header %s\n", tsm_version(), TSM_VERSION_STRING);
        return 1;
    }
    printf("transom %s\n", tsm_version());
    return 0;
}

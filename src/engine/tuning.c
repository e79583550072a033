/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The tuning table: the built-in values, and the file that TRANSOM_TUNING names, read once at start. What is wrong in
 * the file refuses the start: a figure that was measured with other values than the user thinks is worth nothing.
 * Orchestrator process. docs/performance.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"
#include "base/sys.h"
#include "engine/engine.h"

enum { LINE_BYTES = 256 };

const struct tuning tuning_default = {
    .flat_ranks_max = 32,
    .one_shot_bytes = {4096, 4096, 4096, 4096, 4096},
    .stream_bytes = UINT64_C(4) << 20,
    .stream_out_bytes = UINT64_C(1) << 20,
};

/* Zen 4 and before need up to seven times as long to store into lines that a far core has read as to go round the caches
 * (docs/performance.md); Zen 5 does not. */
enum { ZEN_4_FAMILY = 0x19 };
#define ZEN_4_STREAM_OUT_BYTES (UINT64_C(32) << 10)

static void fit_processor(struct tuning *t)
{
#if defined(__x86_64__)
    uint32_t a, b, c, d;
    if (__get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx &&
        __get_cpuid(1, &a, &b, &c, &d) && (a >> 8 & 0xf) + (a >> 20 & 0xff) <= ZEN_4_FAMILY) {
        t->stream_out_bytes = ZEN_4_STREAM_OUT_BYTES;
    }
#else
    (void)t;
#endif
}

struct entry {
    const char *name;
    uint64_t max;
    size_t offset;
    size_t bytes;
};

#define ONE_SHOT(class) offsetof(struct tuning, one_shot_bytes[class]), sizeof(uint32_t)

static const struct entry entries[] = {
    {"flat_ranks_max", UINT32_MAX, offsetof(struct tuning, flat_ranks_max), sizeof(uint32_t)},
    {"one_shot_bytes_2", STAGE_BYTES, ONE_SHOT(0)},
    {"one_shot_bytes_4", STAGE_BYTES, ONE_SHOT(1)},
    {"one_shot_bytes_8", STAGE_BYTES, ONE_SHOT(2)},
    {"one_shot_bytes_16", STAGE_BYTES, ONE_SHOT(3)},
    {"one_shot_bytes_more", STAGE_BYTES, ONE_SHOT(4)},
    {"stream_bytes", UINT64_MAX, offsetof(struct tuning, stream_bytes), sizeof(uint64_t)},
    {"stream_out_bytes", UINT64_MAX, offsetof(struct tuning, stream_out_bytes), sizeof(uint64_t)},
};

static const struct entry *find_entry(const char *name)
{
    for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
        if (strcmp(entries[i].name, name) == 0) {
            return &entries[i];
        }
    }
    return NULL;
}

/* Decimal digits only: strtoull alone would take a sign and spaces. */
static bool read_number(const char *text, uint64_t *ret)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && *end == 0;
}

/* Where a line was found, for the text of a refusal. */
struct where {
    const char *path;
    uint32_t line;
    struct tsm_error *err;
};

static int take_line(const struct where *at, char *line, struct tuning *t)
{
    char shown[LINE_BYTES];
    char *rest;
    uint64_t value;
    line[strcspn(line, "#\r\n")] = 0;
    memcpy(shown, line, strlen(line) + 1);
    const char *name = strtok_r(line, " \t", &rest);
    const char *number = strtok_r(NULL, " \t", &rest);
    if (!name) {
        return 0;
    }
    const struct entry *e = find_entry(name);
    if (!e) {
        return error_set(at->err, TSM_EINVAL, "TRANSOM_TUNING: %s:%u: no value is named '%s'",
                         at->path, at->line, name);
    }
    if (!number || !read_number(number, &value) || strtok_r(NULL, " \t", &rest)) {
        return error_set(at->err, TSM_EINVAL,
                         "TRANSOM_TUNING: %s:%u: not a name and a number: '%s'", at->path, at->line,
                         shown);
    }
    if (value > e->max) {
        return error_set(at->err, TSM_EINVAL,
                         "TRANSOM_TUNING: %s:%u: %s is at most %" PRIu64 ": '%s'", at->path,
                         at->line, name, e->max, shown);
    }
    if (e->bytes == sizeof(uint32_t)) {
        uint32_t narrow = (uint32_t)value;
        memcpy((uint8_t *)t + e->offset, &narrow, sizeof(narrow));
    } else {
        memcpy((uint8_t *)t + e->offset, &value, sizeof(value));
    }
    return 0;
}

static int read_lines(FILE *f, struct where *at, struct tuning *t)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof(line), f)) {
        at->line++;
        if (!strchr(line, '\n') && !feof(f)) {
            return error_set(at->err, TSM_EINVAL,
                             "TRANSOM_TUNING: %s:%u: the line is longer than %d bytes: '%.40s...'",
                             at->path, at->line, LINE_BYTES - 2, line);
        }
        int rc = take_line(at, line, t);
        if (rc != 0) {
            return rc;
        }
    }
    if (ferror(f)) {
        return error_sys(at->err, TSM_EINVAL, "TRANSOM_TUNING: cannot read %s", at->path);
    }
    return 0;
}

int tuning_read(const char *path, struct tuning *t, struct tsm_error *err)
{
    struct tuning found = *t;
    struct where at = {path, 0, err};
    int fd = sys_open(path, O_RDONLY);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f) {
        int rc = error_sys(err, TSM_EINVAL, "TRANSOM_TUNING: cannot read %s", path);
        sys_close(fd);
        return rc;
    }
    int rc = read_lines(f, &at, &found);
    fclose(f);
    if (rc == 0) {
        *t = found;
    }
    return rc;
}

int tuning_load(struct tuning *ret, struct tsm_error *err)
{
    const char *path = getenv("TRANSOM_TUNING");
    struct tuning t = tuning_default;
    fit_processor(&t);
    int rc = path && *path ? tuning_read(path, &t, err) : 0;
    if (rc == 0) {
        *ret = t;
    }
    return rc;
}

void tuning_write(const struct tuning *t, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof(entries) / sizeof(*entries) && used < bytes; i++) {
        const uint8_t *from = (const uint8_t *)t + entries[i].offset;
        uint32_t narrow;
        uint64_t value;
        if (entries[i].bytes == sizeof(narrow)) {
            memcpy(&narrow, from, sizeof(narrow));
            value = narrow;
        } else {
            memcpy(&value, from, sizeof(value));
        }
        int n = snprintf(text + used, bytes - used, "%s %" PRIu64 "\n", entries[i].name, value);
        used += n > 0 ? (size_t)n : 0;
    }
}

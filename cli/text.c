/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Numbers, durations and foreign strings for people, and JSON for programs. Runs in the command line tool;
 * owns nothing.
 */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

struct text text_bytes(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct text t;
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    snprintf(t.s, sizeof(t.s), "%.*f %s", unit == 0 || value >= 100 ? 0 : 1, value, units[unit]);
    return t;
}

struct text text_duration(uint64_t ns)
{
    struct text t;
    uint64_t s = ns / 1000000000u;
    double value = (double)ns;
    if (s >= 86400) {
        snprintf(t.s, sizeof(t.s), "%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
    } else if (s >= 3600) {
        snprintf(t.s, sizeof(t.s), "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
    } else if (s >= 60) {
        snprintf(t.s, sizeof(t.s), "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    } else if (ns >= 1000000000) {
        snprintf(t.s, sizeof(t.s), "%.1f s", value / 1e9);
    } else if (ns >= 1000000) {
        snprintf(t.s, sizeof(t.s), "%.1f ms", value / 1e6);
    } else if (ns >= 1000) {
        snprintf(t.s, sizeof(t.s), "%.1f µs", value / 1e3);
    } else {
        snprintf(t.s, sizeof(t.s), "%" PRIu64 " ns", ns);
    }
    return t;
}

/* Bytes of the printable character at p, of which `left` bytes may be read; 0 when it is none. Characters
 * that command a terminal (C0, DEL, C1) are not printable. */
static size_t printable_bytes(const unsigned char *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0xa0, 0x800, 0x10000};
    if (p[0] < 0x80) {
        return p[0] >= 0x20 && p[0] != 0x7f;
    }
    size_t bytes = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc0 || p[0] >= 0xf8 || bytes > left) {
        return 0;
    }
    uint32_t code = p[0] & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (p[i] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code >= least[bytes] && code <= 0x10ffff && !surrogate ? bytes : 0;
}

struct text text_clean(const void *from, size_t bytes)
{
    /* Copied first: its writer may change it while it is looked at. */
    unsigned char copy[sizeof(struct text) - 1];
    struct text t;
    size_t count = bytes < sizeof(copy) ? bytes : sizeof(copy);
    size_t out = 0;
    memcpy(copy, from, count);
    for (size_t at = 0; at < count && copy[at] != 0;) {
        size_t n = printable_bytes(copy + at, count - at);
        if (n == 0) {
            t.s[out++] = '?';
            at++;
            continue;
        }
        memcpy(t.s + out, copy + at, n);
        out += n;
        at += n;
    }
    t.s[out] = '\0';
    return t;
}

/* ---- JSON ---- */

static void write_quoted(FILE *out, const char *value)
{
    fputc('"', out);
    for (size_t left = strlen(value); left > 0;) {
        const unsigned char *p = (const unsigned char *)value;
        size_t n = printable_bytes(p, left);
        if (n == 0) {
            fprintf(out, "\\u%04x", *p);
        } else {
            fprintf(out, "%s%.*s", *p == '"' || *p == '\\' ? "\\" : "", (int)n, value);
        }
        value += n == 0 ? 1 : n;
        left -= n == 0 ? 1 : n;
    }
    fputc('"', out);
}

/* The comma and line break in front of a value, and its key. */
static void write_key(struct json *j, const char *key)
{
    if (j->depth > 0) {
        fprintf(j->out, "%s\n%*s", j->some ? "," : "", 2 * j->depth, "");
    }
    if (key) {
        write_quoted(j->out, key);
        fputs(": ", j->out);
    }
    j->some = true;
}

void json_begin(struct json *j, const char *key, char bracket)
{
    write_key(j, key);
    fputc(bracket, j->out);
    j->depth++;
    j->some = false;
}

void json_end(struct json *j, char bracket)
{
    j->depth--;
    if (j->some) {
        fprintf(j->out, "\n%*s", 2 * j->depth, "");
    }
    fputc(bracket, j->out);
    if (j->depth == 0) {
        fputc('\n', j->out);
    }
    j->some = true;
}

void json_string(struct json *j, const char *key, const char *value)
{
    write_key(j, key);
    write_quoted(j->out, value);
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
    write_key(j, key);
    fprintf(j->out, "%" PRIu64, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    write_key(j, key);
    fputs(value ? "true" : "false", j->out);
}

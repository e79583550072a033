/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The command line tool `transom`: the table of commands, and what they share. It is a process of its own and
 * only looks: it writes into no worker.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_USAGE = 2 };

/* argv[0] is the name of the command. The result is the exit status. */
struct command {
    const char *name;
    const char *usage; /* its arguments */
    const char *help;  /* one line */
    const char *more;  /* a paragraph */
    int (*run)(int argc, char **argv);
};

int command_doctor(int argc, char **argv);
int command_ps(int argc, char **argv);
int command_version(int argc, char **argv);

/* For commands whose only option is --json. 0, or EXIT_USAGE after a line on stderr. */
int cli_parse_json(int argc, char **argv, bool *ret_json);

/* ---- text ---- */

/* A short text by value, so that it can stand in the arguments of printf: text_bytes(n).s */
struct text {
    char s[256];
};
/* "7.8 GiB" */
struct text text_bytes(uint64_t bytes);
/* "340 ns", "1.2 ms", "2 min 3 s" */
struct text text_duration(uint64_t ns);
/* At most `bytes` bytes that another process wrote, up to a 0: what is no printable UTF-8 becomes '?'. */
struct text text_clean(const void *from, size_t bytes);

/* ---- JSON ---- */

struct json {
    FILE *out;
    int depth;
    bool some; /* something stands before in this object or array */
};

/* bracket is '{' or '['; key is NULL in an array and at the top. */
void json_begin(struct json *j, const char *key, char bracket);
void json_end(struct json *j, char bracket);
void json_string(struct json *j, const char *key, const char *value);
void json_u64(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * `transom`: finds the command in the table and runs it. docs/man/transom.1.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct command commands[] = {
    {"doctor", "[--json]", "check whether workers can run here, and how well",
     "Looks at the kernel, the limits and the programs that a worker needs and measures what "
     "starting\n"
     "and waking a process costs. Each finding is ok, a note (it works, but costs something) or a\n"
     "problem (no worker can run). Ends with 1 when there is a problem.\n",
     command_doctor},
    {"ps", "[--json]", "list the live workers and what each chip does",
     "Shows the workers of this user, as root those of all: the program, its chips and sub "
     "workers,\n"
     "the task each is in, or what it waits for and since when. It reads their memory and "
     "disturbs\n"
     "nothing; the program may be stopped.\n",
     command_ps},
    {"version", "", "print version, compiler and backends", "", command_version},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int refuse_command(const char *name)
{
    fprintf(stderr, "transom: there is no command '%s'; `transom help` lists them\n", name);
    return EXIT_USAGE;
}

static void print_usage(void)
{
    printf("usage: transom COMMAND [OPTIONS]\n\n");
    for (int i = 0; i < COMMANDS; i++) {
        printf("  %-8s  %s\n", commands[i].name, commands[i].help);
    }
    printf("  %-8s  %s\n", "help", "say more about a command: transom help COMMAND");
}

static int print_help(const char *name)
{
    const struct command *c = find_command(name);
    if (!c) {
        return refuse_command(name);
    }
    printf("usage: transom %s%s%s\n\n%s\n%s", c->name, *c->usage ? " " : "", c->usage, c->help,
           *c->more ? "\n" : "");
    printf("%s", c->more);
    return 0;
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int run_command(int argc, char **argv)
{
    const struct command *c = find_command(argv[0]);
    if (!c) {
        return refuse_command(argv[0]);
    }
    for (int i = 1; i < argc; i++) {
        if (asks_for_help(argv[i])) {
            return print_help(c->name);
        }
    }
    return c->run(argc, argv);
}

static int run(int argc, char **argv)
{
    if (argc < 2 || asks_for_help(argv[1])) {
        print_usage();
        return 0;
    }
    if (strcmp(argv[1], "help") == 0) {
        if (argc > 2) {
            return print_help(argv[2]);
        }
        print_usage();
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        argv[1] = "version";
    }
    return run_command(argc - 1, argv + 1);
}

int cli_parse_json(int argc, char **argv, bool *ret_json)
{
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") != 0) {
            fprintf(stderr, "transom %s: unknown argument '%s'\n", argv[0], argv[i]);
            return EXIT_USAGE;
        }
        json = true;
    }
    *ret_json = json;
    return 0;
}

int main(int argc, char **argv)
{
    int status = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "transom: cannot write: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    return status;
}

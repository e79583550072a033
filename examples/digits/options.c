/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The command line.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

static int parse_number(const char *text, long min, long max, char **end, int *ret)
{
    errno = 0;
    long value = strtol(text, end, 10);
    *ret = (int)value;
    return errno == 0 && *end != text && value >= min && value <= max ? 0 : -1;
}

/* "1,2,4" */
static int parse_chips(const char *text, struct options *o)
{
    char *end = (char *)text;
    o->count = 0;
    o->chips_max = 0;
    do {
        const char *item = o->count ? end + 1 : text;
        if (o->count == TRAININGS_MAX ||
            parse_number(item, 1, CHIPS_MAX, &end, &o->counts[o->count]) != 0) {
            return -1;
        }
        o->chips_max = o->counts[o->count] > o->chips_max ? o->counts[o->count] : o->chips_max;
        o->count++;
    } while (*end == ',');
    return *end == 0 ? 0 : -1;
}

static const char help[] =
    "usage: digits [--chips LIST] [--steps N] [--seed N] [--html PATH]\n"
    "\n"
    "Trains a classifier of handwritten digits on several chips and compares the results.\n"
    "\n"
    "  --chips LIST  train once with each of these numbers of chips, at most 8 (default 1,2,4)\n"
    "  --steps N     steps of gradient descent, 1..100000 (default 150)\n"
    "  --seed N      for the weights to start from (default 1)\n"
    "  --html PATH   where to write the page (default digits.html)\n";

int options_parse(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"chips", required_argument, NULL, 'c'}, {"steps", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},  {"html", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    *o = (struct options){.steps = 150, .seed = 1, .html = "digits.html"};
    int bad = parse_chips("1,2,4", o);
    int option, seed;
    char *end;
    while (!bad && (option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            bad = parse_chips(optarg, o);
            break;
        case 'n':
            bad = parse_number(optarg, 1, 100000, &end, &o->steps) != 0 || *end;
            break;
        case 's':
            bad = parse_number(optarg, 0, INT32_MAX, &end, &seed) != 0 || *end;
            o->seed = (uint64_t)seed;
            break;
        case 'o':
            o->html = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return 1;
        default:
            bad = 1;
        }
    }
    if (bad || optind < argc) {
        fputs(help, stderr);
        return -1;
    }
    return 0;
}

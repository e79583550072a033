/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * `transom doctor`: runs the checks, measures, and says whether workers can run here. docs/man/transom.1.
 */
#include "cli/doctor.h"

#include <stdlib.h>
#include <string.h>

#include "transom/transom.h"

static const char *const level_names[] = {"ok", "note", "problem"};

enum { COSTS = 4 };

/* A measured cost with its name for people and for programs. */
struct cost {
    const char *name;
    const char *key;
    uint64_t ns;
};

static void list_costs(struct cost ret[COSTS])
{
    struct costs c;
    measure_costs(&c);
    ret[0] = (struct cost){"fork of a small process, until its end is seen", "fork_ns", c.fork};
    ret[1] = (struct cost){"waking a process on the same core", "wake_same_core_ns", c.wake_same};
    ret[2] = (struct cost){"waking a process on another core", "wake_other_core_ns", c.wake_other};
    ret[3] = (struct cost){"a cache line to another core and back", "cache_line_ns", c.line};
}

/* ---- for people ---- */

static void print_finding(const char *name, const struct finding *f)
{
    printf("%-7s  %-13s  %s\n", level_names[f->level], name, f->fact.s);
    if (*f->remedy.s) {
        printf("%26s%s\n", "", f->remedy.s);
    }
}

static void print_costs(const struct cost costs[COSTS])
{
    printf("\nmeasured now, medians:\n");
    for (int i = 0; i < COSTS; i++) {
        printf("  %-46s  %s\n", costs[i].name,
               costs[i].ns != 0 ? text_duration(costs[i].ns).s : "not measured");
    }
}

static void print_verdict(const int counts[3])
{
    int problems = counts[LEVEL_PROBLEM];
    int notes = counts[LEVEL_NOTE];
    if (problems > 0) {
        printf("\nno worker can run here: %d problem%s\n", problems, problems == 1 ? "" : "s");
    } else if (notes > 0) {
        printf("\nworkers can run here; %d note%s\n", notes, notes == 1 ? "" : "s");
    } else {
        printf("\nworkers can run here\n");
    }
}

/* ---- for programs ---- */

static void emit_finding(struct json *j, const char *name, const struct finding *f)
{
    json_begin(j, NULL, '{');
    json_string(j, "name", name);
    json_string(j, "level", level_names[f->level]);
    json_string(j, "fact", f->fact.s);
    if (*f->remedy.s) {
        json_string(j, "remedy", f->remedy.s);
    }
    json_end(j, '}');
}

static void emit_costs(struct json *j, const struct cost costs[COSTS])
{
    json_begin(j, "measured", '{');
    for (int i = 0; i < COSTS; i++) {
        if (costs[i].ns != 0) {
            json_u64(j, costs[i].key, costs[i].ns);
        }
    }
    json_end(j, '}');
}

/* ---- the command ---- */

static void look_all(struct json *j, int counts[3])
{
    for (int i = 0; i < check_count; i++) {
        struct finding f = {0};
        checks[i].look(&f);
        counts[f.level]++;
        if (j) {
            emit_finding(j, checks[i].name, &f);
        } else {
            print_finding(checks[i].name, &f);
        }
    }
}

int command_doctor(int argc, char **argv)
{
    bool as_json = false;
    int counts[3] = {0};
    struct cost costs[COSTS];
    int status = cli_parse_json(argc, argv, &as_json);
    if (status != 0) {
        return status;
    }
    if (as_json) {
        struct json j = {.out = stdout};
        json_begin(&j, NULL, '{');
        json_string(&j, "version", tsm_version());
        json_begin(&j, "findings", '[');
        look_all(&j, counts);
        json_end(&j, ']');
        list_costs(costs);
        emit_costs(&j, costs);
        json_bool(&j, "can_run", counts[LEVEL_PROBLEM] == 0);
        json_end(&j, '}');
    } else {
        look_all(NULL, counts);
        fflush(stdout);
        list_costs(costs);
        print_costs(costs);
        print_verdict(counts);
    }
    return counts[LEVEL_PROBLEM] == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

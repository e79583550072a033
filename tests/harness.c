/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* What every test program shares (harness.h). Test processes. */
#include "harness.h"

#include <dirent.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ALARM_SECONDS = 120 };

struct counts {
    uint32_t children, fds, mappings, shm;
};

/* ---- counting ---- */

/* Those whose name has `part` in it. */
static uint32_t entries(const char *path, const char *part)
{
    DIR *dir = opendir(path);
    uint32_t n = 0;
    const struct dirent *e;
    while (dir && (e = readdir(dir)) != NULL) {
        n += strstr(e->d_name, part) != NULL;
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

uint32_t harness_fds(void)
{
    return entries("/proc/self/fd", "");
}

uint32_t harness_mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    uint32_t n = 0;
    while (f && fgets(line, sizeof(line), f)) {
        n += strstr(line, "transom-") != NULL && strstr(line, "memfd:") != NULL;
    }
    if (f) {
        fclose(f);
    }
    return n;
}

uint64_t harness_rss_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long long size = 0, resident = 0;
    if (f) {
        if (fscanf(f, "%llu %llu", &size, &resident) != 2) {
            resident = 0;
        }
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int parent_of(int pid)
{
    char path[64];
    char line[512];
    int ppid = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fgets(line, sizeof(line), f)) {
            const char *end = strrchr(line, ')');
            if (!end || sscanf(end + 1, " %*c %d", &ppid) != 1) {
                ppid = 0;
            }
        }
        fclose(f);
    }
    return ppid;
}

static bool descends(int pid)
{
    for (int depth = 0; pid > 1 && depth < 16; depth++) {
        pid = parent_of(pid);
        if (pid == getpid()) {
            return true;
        }
    }
    return false;
}

uint32_t harness_children(void)
{
    DIR *dir = opendir("/proc");
    uint32_t n = 0;
    const struct dirent *e;
    while (dir && (e = readdir(dir)) != NULL) {
        int pid = atoi(e->d_name);
        n += pid > 1 && descends(pid);
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

uint64_t harness_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Others make names in /dev/shm meanwhile; ours would have the library's in them. */
static struct counts count_all(void)
{
    return (struct counts){harness_children(), harness_fds(), harness_mappings(),
                           entries("/dev/shm", "transom")};
}

/* ---- set-up and check ---- */

int harness_setup(void **state)
{
    struct counts *before = malloc(sizeof(*before));
    if (!before) {
        return -1;
    }
    unsetenv("TRANSOM_FAULT");
    *before = count_all();
    *state = before;
    alarm(ALARM_SECONDS);
    return 0;
}

int harness_teardown(void **state)
{
    struct counts *before = *state;
    alarm(0);
    unsetenv("TRANSOM_FAULT");
    struct counts after = count_all();
    bool same = memcmp(before, &after, sizeof(after)) == 0;
    if (!same) {
        fprintf(
            stderr,
            "left behind: children %u -> %u, fds %u -> %u, mappings %u -> %u, /dev/shm %u -> %u\n",
            before->children, after.children, before->fds, after.fds, before->mappings,
            after.mappings, before->shm, after.shm);
    }
    free(before);
    *state = NULL;
    return same ? 0 : -1;
}

bool harness_quick(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    return getenv("TRANSOM_TEST_QUICK") != NULL;
#endif
}

bool harness_long(void)
{
    return getenv("TRANSOM_TEST_LONG") != NULL;
}

uint32_t harness_count(uint32_t n)
{
    if (harness_quick()) {
        return n >= 10 ? n / 10 : 1;
    }
    return harness_long() ? n * 10 : n;
}

uint32_t harness_chips(uint32_t n)
{
    const char *text = getenv("TRANSOM_TEST_CHIPS");
    uint32_t chips = text ? (uint32_t)atoi(text) : 0;
    return chips > n ? chips : n;
}

/* ---- workers ---- */

tsm_worker *harness_worker(uint32_t chips, uint32_t subs)
{
    struct tsm_worker_opts opts = TSM_WORKER_OPTS_INIT;
    struct tsm_error err;
    tsm_worker *w = NULL;
    opts.chips = chips;
    opts.subs = subs;
    opts.heap_bytes = 64u << 20;
    opts.host_bytes = 256u << 20;
    opts.lease_bytes = 1u << 30;
    if (tsm_worker_create(&opts, &w, &err) != 0) {
        fail_msg("tsm_worker_create: %s", err.text);
    }
    return w;
}

tsm_callable harness_register(tsm_worker *w, const char *name, tsm_task_fn *fn)
{
    tsm_callable c = {0};
    assert_code(w, tsm_register(w, name, fn, &c), 0);
    return c;
}

void harness_start(tsm_worker *w)
{
    assert_code(w, tsm_worker_start(w), 0);
}

void harness_close(tsm_worker *w)
{
    assert_code(w, tsm_worker_close(w), 0);
    tsm_worker_destroy(w);
}

void harness_assert_code(tsm_worker *w, int rc, int code, const char *what, const char *file,
                         int line)
{
    if (rc != code) {
        fprintf(stderr, "%s:%d: %s is %s (%d), expected %s: %s\n", file, line, what,
                tsm_code_name(rc), rc, tsm_code_name(code), w ? tsm_worker_error(w)->text : "");
        _fail(file, line);
    }
}

void harness_assert_text(tsm_worker *w, const char *part, const char *file, int line)
{
    if (!strstr(tsm_worker_error(w)->text, part)) {
        fprintf(stderr, "%s:%d: no '%s' in: %s\n", file, line, part, tsm_worker_error(w)->text);
        _fail(file, line);
    }
}

/* ---- random numbers ---- */

void harness_random_init(struct harness_random *r, uint64_t seed)
{
    r->state = seed * UINT64_C(0x9e3779b97f4a7c15) + 0x1234567;
    harness_random(r);
}

uint64_t harness_random(struct harness_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t harness_below(struct harness_random *r, uint32_t n)
{
    return (uint32_t)((harness_random(r) >> 32) * n >> 32);
}

const char *harness_beside(const char *file)
{
    static char path[PATH_MAX + 256];
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(path, sizeof(path), "%s/%s", dirname(self), file);
    return path;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the machine and the control groups give to this process, and pinning it to a part of that. Control
 * groups of both versions are read, each from the process's own group up to the root, because any of them
 * may hold the smallest limit. hwloc is not linked: it is loaded when pinning is asked for. Runs in every process; owns the cached memory limit and the
 * loaded hwloc topology. docs/base.md.
 */
#include "base/topology.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/topology_hwloc.h"
#include "transom/transom.h"

#define NO_LIMIT UINT64_MAX

/* ---- cores ---- */

uint32_t topology_cores(void)
{
    /* The kernel refuses a set that is smaller than its own with EINVAL. */
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        size_t bytes = CPU_ALLOC_SIZE(cpus);
        if (!set) {
            break;
        }
        int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        bool larger = count == 0 && errno == EINVAL;
        CPU_FREE(set);
        if (count > 0) {
            return (uint32_t)count;
        }
        if (!larger) {
            break;
        }
    }
    return 1;
}

/* ---- small files ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static FILE *open_file(const char *format, ...) __attribute__((format(printf, 1, 2)));
static FILE *open_file(const char *format, ...)
{
    char path[2 * PATH_MAX];
    va_list ap;
    va_start(ap, format);
    int length = vsnprintf(path, sizeof(path), format, ap);
    va_end(ap);
    return length < (int)sizeof(path) ? fopen(path, "re") : NULL;
}

/* A file with one number, or NO_LIMIT for "max" and -1. `otherwise` when there is no such file. */
static uint64_t read_number(const char *folder, const char *name, uint64_t otherwise)
{
    FILE *f = open_file("%s/%s", folder, name);
    int64_t signed_number;
    char text[32] = "";
    if (!f) {
        return otherwise;
    }
    if (fscanf(f, "%31s", text) == 1) {
        if (strcmp(text, "max") == 0) {
            otherwise = NO_LIMIT;
        } else if (sscanf(text, "%" SCNd64, &signed_number) == 1) {
            otherwise = signed_number < 0 ? NO_LIMIT : (uint64_t)signed_number;
        }
    }
    fclose(f);
    return otherwise;
}

/* The number behind `key` in a file of lines "key number". */
static uint64_t read_keyed(FILE *f, const char *key, uint64_t otherwise)
{
    char line[256];
    size_t length = strlen(key);
    uint64_t found = otherwise;
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            sscanf(line + length, "%" SCNu64, &found);
            break;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

/* ---- finding the control groups ---- */

/* One hierarchy: `at` starts as the process's own group and is cut, name by name, down to the first `top`
 * bytes, where the hierarchy is mounted. */
struct hierarchy {
    char at[2 * PATH_MAX];
    size_t top;
};

/* Whether `name` stands in a list separated by commas. */
static bool in_list(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, name, length) == 0 && (p[length] == ',' || p[length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* The process's group: a line number:controllers:path, where version 2 has 0 and no controllers. */
static bool find_path(const char *root, const char *controller, char ret[PATH_MAX])
{
    FILE *f = open_file("%s/proc/self/cgroup", root);
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (f && !found && getline(&line, &size, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path) {
            continue;
        }
        *path++ = '\0';
        list++;
        found =
            controller ? in_list(list, controller) : strncmp(line, "0:", 2) == 0 && *list == '\0';
        found = found && snprintf(ret, PATH_MAX, "%s", path) < PATH_MAX;
    }
    free(line);
    if (f) {
        fclose(f);
    }
    return found;
}

/* mountinfo writes a space and the like as a backslash and three octal digits. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in;) {
        unsigned code;
        if (*in == '\\' && sscanf(in + 1, "%3o", &code) == 1) {
            *out++ = (char)code;
            in += 4;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
}

/* A line of mountinfo: id parent device root point options [more] - type source options. */
static bool parse_mount(char *line, const char *controller, char **ret_root, char **ret_point)
{
    char *save = NULL;
    char *field[6];
    char *tail = strstr(line, " - ");
    if (!tail) {
        return false;
    }
    *tail = '\0';
    for (int i = 0; i < 6; i++) {
        field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (!field[i]) {
            return false;
        }
    }
    const char *type = strtok_r(tail + 3, " \n", &save);
    const char *source = strtok_r(NULL, " \n", &save);
    const char *options = strtok_r(NULL, " \n", &save);
    if (!type || !source || !options) {
        return false;
    }
    *ret_root = field[3];
    *ret_point = field[4];
    unescape(field[3]);
    unescape(field[4]);
    return controller ? strcmp(type, "cgroup") == 0 && in_list(options, controller)
                      : strcmp(type, "cgroup2") == 0;
}

/* In a container the mount often shows only the container's part of the hierarchy: `root` is that part. */
static const char *below_mount(const char *path, const char *root)
{
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    bool inside = strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
    if (!inside || strncmp(path, "/..", 3) == 0 || strcmp(path + length, "/") == 0) {
        return "";
    }
    return path + length;
}

/* controller NULL: version 2. False when this process is in no such hierarchy, or it is not mounted. */
static bool find_hierarchy(const char *root, const char *controller, struct hierarchy *ret)
{
    char path[PATH_MAX];
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    if (!find_path(root, controller, path)) {
        return false;
    }
    FILE *f = open_file("%s/proc/self/mountinfo", root);
    while (f && !found && getline(&line, &size, f) > 0) {
        char *mount_root;
        char *point;
        if (!parse_mount(line, controller, &mount_root, &point)) {
            continue;
        }
        const char *below = below_mount(path, mount_root);
        int length = snprintf(ret->at, sizeof(ret->at), "%s%s%s", root, point, below);
        ret->top = strlen(root) + strlen(point);
        found = length < (int)sizeof(ret->at);
    }
    free(line);
    if (f) {
        fclose(f);
    }
    return found;
}

/* Calls visit for the process's group and all above it. */
static void walk_up(const char *root, const char *controller,
                    void (*visit)(const char *folder, struct topology_limits *limits),
                    struct topology_limits *limits)
{
    struct hierarchy h;
    if (!find_hierarchy(root, controller, &h)) {
        return;
    }
    for (;;) {
        visit(h.at, limits);
        char *slash = strrchr(h.at + h.top, '/');
        if (!slash) {
            return;
        }
        *slash = '\0';
    }
}

/* ---- what a control group says ---- */

static void limit_memory(struct topology_limits *l, uint64_t limit, uint64_t used, uint64_t cache)
{
    if (limit == NO_LIMIT) {
        return;
    }
    used -= least(used, cache);
    l->memory_limit = least(l->memory_limit, limit);
    l->memory_free = least(l->memory_free, limit - least(limit, used));
}

static void limit_cpu(struct topology_limits *l, uint64_t quota, uint64_t period)
{
    if (quota != NO_LIMIT && period != 0 && quota < NO_LIMIT / 1000) {
        l->cpu_millis = least(l->cpu_millis, quota * 1000 / period);
    }
}

static void visit_pids(const char *folder, struct topology_limits *l)
{
    uint64_t max = read_number(folder, "pids.max", NO_LIMIT);
    uint64_t now = read_number(folder, "pids.current", 0);
    if (max != NO_LIMIT) {
        l->processes_left = least(l->processes_left, max - least(max, now));
    }
}

/* Version 2. Above memory.high nothing is killed, but everything is slowed down until it is useless. */
static void visit_unified(const char *folder, struct topology_limits *l)
{
    uint64_t limit = least(read_number(folder, "memory.max", NO_LIMIT),
                           read_number(folder, "memory.high", NO_LIMIT));
    limit_memory(l, limit, read_number(folder, "memory.current", 0),
                 read_keyed(open_file("%s/memory.stat", folder), "inactive_file", 0));
    visit_pids(folder, l);
    FILE *f = open_file("%s/cpu.max", folder);
    uint64_t quota;
    uint64_t period;
    if (f && fscanf(f, "%" SCNu64 " %" SCNu64, &quota, &period) == 2) { /* not for "max 100000" */
        limit_cpu(l, quota, period);
    }
    if (f) {
        fclose(f);
    }
}

static void visit_memory(const char *folder, struct topology_limits *l)
{
    limit_memory(l, read_number(folder, "memory.limit_in_bytes", NO_LIMIT),
                 read_number(folder, "memory.usage_in_bytes", 0),
                 read_keyed(open_file("%s/memory.stat", folder), "total_inactive_file", 0));
}

static void visit_cpu(const char *folder, struct topology_limits *l)
{
    limit_cpu(l, read_number(folder, "cpu.cfs_quota_us", NO_LIMIT),
              read_number(folder, "cpu.cfs_period_us", 0));
}

/* ---- limits ---- */

static uint64_t machine_memory(const char *root, const char *key, int page_count)
{
    uint64_t kib = read_keyed(open_file("%s/proc/meminfo", root), key, 0);
    long pages = sysconf(page_count);
    if (kib != 0) {
        return kib * 1024;
    }
    return pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : NO_LIMIT;
}

void topology_read(const char *root, struct topology_limits *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->memory_total = machine_memory(root, "MemTotal:", _SC_PHYS_PAGES);
    ret->memory_limit = ret->memory_total;
    ret->memory_free = machine_memory(root, "MemAvailable:", _SC_AVPHYS_PAGES);
    ret->cpu_millis = NO_LIMIT;
    ret->processes_left = NO_LIMIT;
    walk_up(root, NULL, visit_unified, ret);
    walk_up(root, "memory", visit_memory, ret);
    walk_up(root, "cpu", visit_cpu, ret);
    walk_up(root, "pids", visit_pids, ret);
}

uint64_t topology_memory_limit(void)
{
    static a64 cached;
    uint64_t limit = a64_load(&cached);
    if (limit == 0) {
        struct topology_limits l;
        topology_read("", &l);
        limit = l.memory_limit;
        a64_store(&cached, limit);
    }
    return limit;
}

uint64_t topology_memory_free(void)
{
    struct topology_limits l;
    topology_read("", &l);
    return l.memory_free;
}

/* ---- hwloc ---- */

static struct {
    pthread_mutex_t lock;
    bool tried;
    char why_not[200]; /* "" when it is loaded */
    void *topology;
    unsigned (*api_version)(void);
    int (*init)(void **topology);
    int (*load)(void *topology);
    void (*destroy)(void *topology);
    int (*type_depth)(void *topology, int type);
    unsigned (*count_at)(void *topology, int depth);
    struct hwloc_object *(*object_at)(void *topology, int depth, unsigned index);
    void *(*set_new)(void);
    void (*set_free)(void *set);
    int (*set_and)(void *result, const void *a, const void *b);
    int (*set_empty)(const void *set);
    int (*get_binding)(void *topology, void *set, int flags);
    int (*set_binding)(void *topology, const void *set, int flags);
} hwloc = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool load_symbols(void *library)
{
    const struct {
        const char *name;
        void *function;
    } symbols[] = {
        {"hwloc_get_api_version", &hwloc.api_version},
        {"hwloc_topology_init", &hwloc.init},
        {"hwloc_topology_load", &hwloc.load},
        {"hwloc_topology_destroy", &hwloc.destroy},
        {"hwloc_get_type_depth", &hwloc.type_depth},
        {"hwloc_get_nbobjs_by_depth", &hwloc.count_at},
        {"hwloc_get_obj_by_depth", &hwloc.object_at},
        {"hwloc_bitmap_alloc", &hwloc.set_new},
        {"hwloc_bitmap_free", &hwloc.set_free},
        {"hwloc_bitmap_and", &hwloc.set_and},
        {"hwloc_bitmap_iszero", &hwloc.set_empty},
        {"hwloc_get_cpubind", &hwloc.get_binding},
        {"hwloc_set_cpubind", &hwloc.set_binding},
    };
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *found = dlsym(library, symbols[i].name);
        if (!found) {
            snprintf(hwloc.why_not, sizeof(hwloc.why_not), "libhwloc.so.15 has no %s",
                     symbols[i].name);
            return false;
        }
        memcpy(symbols[i].function, &found, sizeof(found));
    }
    return true;
}

static void load_hwloc(void)
{
    void *library = dlopen("libhwloc.so.15", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(hwloc.why_not, sizeof(hwloc.why_not), "hwloc is not installed (%.120s)",
                 dlerror());
        return;
    }
    if (!load_symbols(library)) {
        return;
    }
    if (hwloc.api_version() >> 16 != HWLOC_MAJOR) {
        snprintf(hwloc.why_not, sizeof(hwloc.why_not), "hwloc has interface %x, this needs 2.x",
                 hwloc.api_version());
        return;
    }
    if (hwloc.init(&hwloc.topology) != 0) {
        hwloc.topology = NULL;
    } else if (hwloc.load(hwloc.topology) != 0) {
        hwloc.destroy(hwloc.topology);
        hwloc.topology = NULL;
    }
    if (!hwloc.topology) {
        snprintf(hwloc.why_not, sizeof(hwloc.why_not), "hwloc cannot read this machine");
    }
}

int topology_can_pin(char *text, size_t text_bytes)
{
    pthread_mutex_lock(&hwloc.lock);
    if (!hwloc.tried) {
        hwloc.tried = true;
        load_hwloc();
    }
    pthread_mutex_unlock(&hwloc.lock);
    if (hwloc.topology) {
        return 0;
    }
    snprintf(text, text_bytes, "cannot pin: %s", hwloc.why_not);
    return TSM_EUNSUPPORTED;
}

/* ---- pinning ---- */

/* Makes `part` the cores of object i at this depth that are in `allowed`; false when there are none. */
static bool take_part(int depth, unsigned i, const void *allowed, void *part)
{
    const struct hwloc_object *object = hwloc.object_at(hwloc.topology, depth, i);
    return object && object->cpuset && hwloc.set_and(part, object->cpuset, allowed) == 0 &&
           !hwloc.set_empty(part);
}

static int find_depth(int pin)
{
    if (pin == TSM_PIN_NUMA) {
        return HWLOC_DEPTH_NUMA;
    }
    int depth = hwloc.type_depth(hwloc.topology, HWLOC_TYPE_CORE);
    /* Some virtual machines do not say which hardware threads share a core. */
    return depth >= 0 ? depth : hwloc.type_depth(hwloc.topology, HWLOC_TYPE_PU);
}

/* Binds to the index-th (modulo) object that has allowed cores; nodes without cores do not count. */
static int bind_to(int depth, uint32_t index, const void *allowed, void *part)
{
    unsigned objects = hwloc.count_at(hwloc.topology, depth);
    uint32_t usable = 0;
    for (unsigned i = 0; i < objects; i++) {
        usable += take_part(depth, i, allowed, part);
    }
    if (usable == 0) {
        errno = ENODEV;
        return -1;
    }
    index %= usable;
    for (unsigned i = 0; i < objects; i++) {
        if (take_part(depth, i, allowed, part) && index-- == 0) {
            return hwloc.set_binding(hwloc.topology, part, HWLOC_BIND_PROCESS);
        }
    }
    return -1;
}

int topology_pin(int pin, uint32_t index, uint32_t count, char *text, size_t text_bytes)
{
    if (pin == TSM_PIN_NONE) {
        return 0;
    }
    int rc = topology_can_pin(text, text_bytes);
    if (rc != 0) {
        return rc;
    }
    void *allowed = hwloc.set_new();
    void *part = hwloc.set_new();
    if (!allowed || !part || hwloc.get_binding(hwloc.topology, allowed, HWLOC_BIND_PROCESS) != 0 ||
        bind_to(find_depth(pin), index, allowed, part) != 0) {
        snprintf(text, text_bytes, "cannot pin process %u of %u to a %s: %s", index, count,
                 pin == TSM_PIN_CORE ? "core" : "NUMA node", strerror(errno));
        rc = TSM_EUNSUPPORTED;
    }
    hwloc.set_free(part);
    hwloc.set_free(allowed);
    return rc;
}

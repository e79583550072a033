/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tests of src/base/topology.c. Limits are read from trees made up for the test; pinning is real, in a child that
 * is forked for it, and skipped where hwloc is not installed.
 */
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/topology.h"
#include "base/topology_hwloc.h"
#include "transom/transom.h"

#if __has_include(<hwloc.h>)
#include <hwloc.h>
#endif

#define MIB (UINT64_C(1) << 20)
#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define OTHER_MOUNT "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"

/* ---- a made-up machine ---- */

struct machine {
    char root[64];
};

static void put(const struct machine *m, const char *path, const char *text)
{
    char full[PATH_MAX];
    snprintf(full, sizeof(full), "%s%s", m->root, path);
    for (char *p = full + strlen(m->root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int make_machine(void **state)
{
    static struct machine m;
    const char *folder = getenv("TMPDIR");
    snprintf(m.root, sizeof(m.root), "%.40s/topology-XXXXXX", folder ? folder : "/tmp");
    assert_non_null(mkdtemp(m.root));
    put(&m, "/proc/meminfo",
        "MemTotal:        8192000 kB\nMemFree:         100 kB\nMemAvailable:    4096000 kB\n");
    *state = &m;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int remove_machine(void **state)
{
    const struct machine *m = *state;
    return nftw(m->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static struct topology_limits read_machine(const struct machine *m)
{
    struct topology_limits l;
    topology_read(m->root, &l);
    return l;
}

/* The control groups of this process, and what is mounted. */
static void put_groups(const struct machine *m, const char *groups, const char *mounts)
{
    put(m, "/proc/self/cgroup", groups);
    put(m, "/proc/self/mountinfo", mounts);
}

/* ---- limits ---- */

/* What the made-up machine has, and no more than that. */
static void assert_unlimited(const struct topology_limits *l)
{
    assert_int_equal(l->memory_limit, 8000 * MIB);
    assert_int_equal(l->memory_free, 4000 * MIB);
    assert_true(l->cpu_millis == UINT64_MAX);
    assert_true(l->processes_left == UINT64_MAX);
}

static void without_control_groups_the_machine_is_the_limit(void **state)
{
    struct topology_limits l = read_machine(*state);
    assert_int_equal(l.memory_total, 8000 * MIB);
    assert_unlimited(&l);
}

static void groups_without_limits_change_nothing(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/user.slice/a\n", OTHER_MOUNT V2_MOUNT);
    put(m, "/sys/fs/cgroup/user.slice/a/memory.max", "max\n");
    put(m, "/sys/fs/cgroup/user.slice/a/memory.high", "max\n");
    put(m, "/sys/fs/cgroup/user.slice/a/memory.current", "123456\n");
    put(m, "/sys/fs/cgroup/user.slice/a/cpu.max", "max 100000\n");
    put(m, "/sys/fs/cgroup/user.slice/a/pids.max", "max\n");
    struct topology_limits l = read_machine(m);
    assert_unlimited(&l);
}

static void the_smallest_limit_of_all_groups_above_counts(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/a/b/c\n", OTHER_MOUNT V2_MOUNT);
    put(m, "/sys/fs/cgroup/a/b/c/memory.max", "2147483648\n");
    put(m, "/sys/fs/cgroup/a/b/memory.max", "max\n");
    put(m, "/sys/fs/cgroup/a/memory.max", "1073741824\n");
    put(m, "/sys/fs/cgroup/a/memory.current", "943718400\n");
    put(m, "/sys/fs/cgroup/a/b/c/cpu.max", "150000 100000\n");
    put(m, "/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    put(m, "/sys/fs/cgroup/a/b/pids.max", "100\n");
    put(m, "/sys/fs/cgroup/a/b/pids.current", "40\n");
    struct topology_limits l = read_machine(m);
    assert_int_equal(l.memory_limit, 1024 * MIB);
    assert_int_equal(l.memory_free, 124 * MIB);
    assert_int_equal(l.cpu_millis, 1500);
    assert_int_equal(l.processes_left, 60);
}

static void memory_high_is_a_limit(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/a\n", V2_MOUNT);
    put(m, "/sys/fs/cgroup/a/memory.max", "2147483648\n");
    put(m, "/sys/fs/cgroup/a/memory.high", "1610612736\n");
    put(m, "/sys/fs/cgroup/a/memory.current", "0\n");
    struct topology_limits l = read_machine(m);
    assert_int_equal(l.memory_limit, 1536 * MIB);
    assert_int_equal(l.memory_free, 1536 * MIB);
}

static void file_cache_that_can_be_dropped_counts_as_free(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/a\n", V2_MOUNT);
    put(m, "/sys/fs/cgroup/a/memory.max", "1073741824\n");
    put(m, "/sys/fs/cgroup/a/memory.current", "1073741824\n");
    put(m, "/sys/fs/cgroup/a/memory.stat",
        "anon 1\ninactive_filex 5\ninactive_file 524288000\nactive_file 7\n");
    assert_int_equal(read_machine(m).memory_free, 500 * MIB);
}

static void a_group_over_its_limit_has_nothing_free(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/a\n", V2_MOUNT);
    put(m, "/sys/fs/cgroup/a/memory.max", "1048576\n");
    put(m, "/sys/fs/cgroup/a/memory.current", "2097152\n");
    put(m, "/sys/fs/cgroup/a/pids.max", "10\n");
    put(m, "/sys/fs/cgroup/a/pids.current", "12\n");
    struct topology_limits l = read_machine(m);
    assert_int_equal(l.memory_free, 0);
    assert_int_equal(l.processes_left, 0);
}

static void version_1_is_read_per_controller(void **state)
{
    const struct machine *m = *state;
    put_groups(m,
               "9:name=systemd:/\n8:pids:/x\n4:memory:/x/y\n3:cpuset:/\n1:cpu,cpuacct:/z\n0::/\n",
               "32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
               "35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n"
               "39 31 0:36 / /cg/pids rw - cgroup cgroup rw,pids\n"
               "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n");
    put(m, "/cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put(m, "/cg/memory/x/memory.limit_in_bytes", "3221225472\n");
    put(m, "/cg/memory/x/memory.usage_in_bytes", "2147483648\n");
    put(m, "/cg/memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 1073741824\n");
    put(m, "/cg/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put(m, "/cg/memory/x/y/memory.usage_in_bytes", "5\n");
    put(m, "/cg/cpu/cpu.cfs_quota_us", "-1\n");
    put(m, "/cg/cpu/cpu.cfs_period_us", "100000\n");
    put(m, "/cg/cpu/z/cpu.cfs_quota_us", "50000\n");
    put(m, "/cg/cpu/z/cpu.cfs_period_us", "100000\n");
    put(m, "/cg/pids/x/pids.max", "77\n");
    struct topology_limits l = read_machine(m);
    assert_int_equal(l.memory_limit, 3072 * MIB);
    assert_int_equal(l.memory_free, 2048 * MIB);
    assert_int_equal(l.cpu_millis, 500);
    assert_int_equal(l.processes_left, 77);
}

static void a_container_sees_its_own_group_as_the_top(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/docker/abc/inner\n",
               "30 23 0:26 /docker/abc /cg rw master:9 - cgroup2 cgroup rw\n");
    put(m, "/cg/memory.max", "1073741824\n");
    put(m, "/cg/inner/memory.max", "2147483648\n");
    put(m, "/memory.max", "1048576\n"); /* outside of the mount: not a control group */
    assert_int_equal(read_machine(m).memory_limit, 1024 * MIB);
}

static void a_group_outside_of_the_mount_counts_from_the_mount_on(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/../other\n", V2_MOUNT);
    put(m, "/sys/fs/cgroup/memory.max", "1073741824\n");
    put(m, "/sys/fs/other/memory.max", "1048576\n");
    assert_int_equal(read_machine(m).memory_limit, 1024 * MIB);
    put_groups(m, "0::/dockerx\n", "30 23 0:26 /docker /cg rw - cgroup2 cgroup rw\n");
    put(m, "/cg/memory.max", "2147483648\n");
    assert_int_equal(read_machine(m).memory_limit, 2048 * MIB);
}

static void escaped_names_are_found(void **state)
{
    const struct machine *m = *state;
    put_groups(m, "0::/run\\x2dp1/in\n",
               "30 23 0:26 /run\\134x2dp1 /my\\040cg rw - cgroup2 c rw\n");
    put(m, "/my cg/in/memory.max", "1073741824\n");
    assert_int_equal(read_machine(m).memory_limit, 1024 * MIB);
}

static void nonsense_in_the_files_is_no_limit(void **state)
{
    const struct machine *m = *state;
    char line[9000];
    memset(line, 'a', sizeof(line));
    memcpy(line, "0::/", 4);
    line[sizeof(line) - 1] = '\0';
    put_groups(m, line, "30 23\n\n - \n1 2 3 - cgroup2\n" V2_MOUNT);
    put(m, "/sys/fs/cgroup/memory.max", "1\n");
    assert_int_equal(read_machine(m).memory_limit, 8000 * MIB);
    put(m, "/proc/self/cgroup", "\n0\n0:\n::\n0::/\n");
    put(m, "/sys/fs/cgroup/memory.max", "");
    put(m, "/sys/fs/cgroup/memory.high", "many\n");
    put(m, "/sys/fs/cgroup/cpu.max", "1000 0\n");
    put(m, "/sys/fs/cgroup/memory.stat", line);
    struct topology_limits l = read_machine(m);
    assert_int_equal(l.memory_limit, 8000 * MIB);
    assert_true(l.cpu_millis == UINT64_MAX);
}

static cpu_set_t own_cores(void)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    return set;
}

static void this_machine_has_cores_and_memory(void **state)
{
    (void)state;
    cpu_set_t set = own_cores();
    assert_int_equal(topology_cores(), CPU_COUNT(&set));
    assert_true(topology_memory_limit() >= 16 * MIB);
    assert_true(topology_memory_limit() == topology_memory_limit());
    assert_true(topology_memory_free() <= topology_memory_limit());
}

/* ---- pinning ---- */

/* What a forked child may run on after `pin`; it starts with the cores in `from`. */
static cpu_set_t pinned_child(int pin, uint32_t index, uint32_t count, const cpu_set_t *from)
{
    cpu_set_t got;
    int fds[2];
    int status;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char text[200] = "";
        CPU_ZERO(&got);
        if (sched_setaffinity(0, sizeof(*from), from) != 0 ||
            topology_pin(pin, index, count, text, sizeof(text)) != 0 ||
            sched_getaffinity(0, sizeof(got), &got) != 0) {
            fprintf(stderr, "child: %s\n", text);
            _exit(1);
        }
        _exit(write(fds[1], &got, sizeof(got)) != (ssize_t)sizeof(got));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(fds[0], &got, sizeof(got)), sizeof(got));
    close(fds[0]);
    close(fds[1]);
    return got;
}

static int is_subset(const cpu_set_t *a, const cpu_set_t *b)
{
    cpu_set_t both;
    CPU_AND(&both, a, b);
    return CPU_EQUAL(&both, a);
}

static void need_hwloc(void)
{
    char text[200] = "";
    if (topology_can_pin(text, sizeof(text)) != 0) {
        print_message("skipped: %s\n", text);
        skip();
    }
}

static void pin_none_leaves_the_process_alone(void **state)
{
    (void)state;
    cpu_set_t all = own_cores();
    cpu_set_t got = pinned_child(TSM_PIN_NONE, 1, 2, &all);
    assert_true(CPU_EQUAL(&got, &all));
}

static void pin_core_gives_each_process_its_own_core_and_starts_over(void **state)
{
    (void)state;
    need_hwloc();
    cpu_set_t all = own_cores();
    cpu_set_t seen;
    uint32_t cores = 0;
    CPU_ZERO(&seen);
    for (;; cores++) {
        cpu_set_t got = pinned_child(TSM_PIN_CORE, cores, 1024, &all);
        cpu_set_t both;
        assert_true(CPU_COUNT(&got) >= 1);
        assert_true(is_subset(&got, &all));
        CPU_AND(&both, &got, &seen);
        if (CPU_COUNT(&both) != 0) {
            break;
        }
        CPU_OR(&seen, &seen, &got);
    }
    assert_true(CPU_EQUAL(&seen, &all));
    cpu_set_t first = pinned_child(TSM_PIN_CORE, 0, 1, &all);
    cpu_set_t again = pinned_child(TSM_PIN_CORE, cores, 1, &all);
    assert_true(CPU_EQUAL(&first, &again));
}

static void pin_core_stays_within_what_the_process_may_use(void **state)
{
    (void)state;
    need_hwloc();
    cpu_set_t all = own_cores();
    cpu_set_t one;
    int last = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        last = CPU_ISSET(cpu, &all) ? cpu : last;
    }
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    for (uint32_t index = 0; index < 3; index++) {
        cpu_set_t got = pinned_child(TSM_PIN_CORE, index, 3, &one);
        assert_true(CPU_EQUAL(&got, &one));
        got = pinned_child(TSM_PIN_NUMA, index, 3, &one);
        assert_true(CPU_EQUAL(&got, &one));
    }
}

static void pin_numa_gives_cores_of_one_node(void **state)
{
    (void)state;
    need_hwloc();
    cpu_set_t all = own_cores();
    cpu_set_t got = pinned_child(TSM_PIN_NUMA, 5, 8, &all);
    assert_true(CPU_COUNT(&got) >= 1);
    assert_true(is_subset(&got, &all));
}

static void hwloc_is_declared_as_in_its_header(void **state)
{
    (void)state;
#ifdef HWLOC_API_VERSION
    assert_int_equal(HWLOC_MAJOR, HWLOC_API_VERSION >> 16);
    assert_int_equal(HWLOC_TYPE_CORE, HWLOC_OBJ_CORE);
    assert_int_equal(HWLOC_TYPE_PU, HWLOC_OBJ_PU);
    assert_int_equal(HWLOC_DEPTH_NUMA, HWLOC_TYPE_DEPTH_NUMANODE);
    assert_int_equal(HWLOC_BIND_PROCESS, HWLOC_CPUBIND_PROCESS);
    assert_int_equal(offsetof(struct hwloc_object, depth), offsetof(struct hwloc_obj, depth));
    assert_int_equal(offsetof(struct hwloc_object, arity), offsetof(struct hwloc_obj, arity));
    assert_int_equal(offsetof(struct hwloc_object, cpuset), offsetof(struct hwloc_obj, cpuset));
#else
    print_message("skipped: hwloc.h is not installed\n");
    skip();
#endif
}

int main(void)
{
#define ON_MACHINE(test) cmocka_unit_test_setup_teardown(test, make_machine, remove_machine)
    const struct CMUnitTest tests[] = {
        ON_MACHINE(without_control_groups_the_machine_is_the_limit),
        ON_MACHINE(groups_without_limits_change_nothing),
        ON_MACHINE(the_smallest_limit_of_all_groups_above_counts),
        ON_MACHINE(memory_high_is_a_limit),
        ON_MACHINE(file_cache_that_can_be_dropped_counts_as_free),
        ON_MACHINE(a_group_over_its_limit_has_nothing_free),
        ON_MACHINE(version_1_is_read_per_controller),
        ON_MACHINE(a_container_sees_its_own_group_as_the_top),
        ON_MACHINE(a_group_outside_of_the_mount_counts_from_the_mount_on),
        ON_MACHINE(escaped_names_are_found),
        ON_MACHINE(nonsense_in_the_files_is_no_limit),
        cmocka_unit_test(this_machine_has_cores_and_memory),
        cmocka_unit_test(pin_none_leaves_the_process_alone),
        cmocka_unit_test(pin_core_gives_each_process_its_own_core_and_starts_over),
        cmocka_unit_test(pin_core_stays_within_what_the_process_may_use),
        cmocka_unit_test(pin_numa_gives_cores_of_one_node),
        cmocka_unit_test(hwloc_is_declared_as_in_its_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

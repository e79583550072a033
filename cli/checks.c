/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The checks of `transom doctor`. Where it can be tried, it is tried: the memory of a worker is made and thrown
 * away, system calls are made. Only what makes every worker impossible is a problem. Runs in the command
 * line tool; each check leaves nothing behind.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "base/topology.h"
#include "keeper/program.h"
#include "shm/arena.h"

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

enum {
    KERNEL_MAJOR = 5,
    KERNEL_MINOR = 10,
    WORKER_FDS = 16,     /* descriptors that a worker takes in the program, rounded up */
    ENOUGH_FDS = 256,    /* below this a program with files of its own comes near the limit */
    PROCESSES_MIN = 2,   /* a keeper and a chip */
    PROCESSES_SPARE = 16 /* beside one chip a core */
};

static void say(struct finding *f, enum level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct finding *f, enum level level, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(f->fact.s, sizeof(f->fact.s), format, ap);
    va_end(ap);
    f->level = level;
}

static void advise(struct finding *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void advise(struct finding *f, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(f->remedy.s, sizeof(f->remedy.s), format, ap);
    va_end(ap);
}

/* The first line of a small file; "" when it cannot be read. */
static struct text read_line(const char *path)
{
    struct text t = {""};
    FILE *f = fopen(path, "re");
    if (f) {
        if (!fgets(t.s, sizeof(t.s), f)) {
            t.s[0] = '\0';
        }
        t.s[strcspn(t.s, "\n")] = '\0';
        fclose(f);
    }
    return t;
}

/* ---- the machine ---- */

static void look_kernel(struct finding *f)
{
    struct utsname u;
    int major = 0;
    int minor = 0;
    if (uname(&u) != 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2) {
        say(f, LEVEL_NOTE, "its version is not known");
        advise(f, "Transom is made for Linux %d.%d or newer.", KERNEL_MAJOR, KERNEL_MINOR);
    } else if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR)) {
        say(f, LEVEL_PROBLEM, "%.30s %.60s is too old", u.sysname, u.release);
        advise(f, "Transom needs Linux %d.%d or newer: update the kernel.", KERNEL_MAJOR,
               KERNEL_MINOR);
    } else {
        say(f, LEVEL_OK, "%.30s %.60s on %.30s (%d.%d or newer is needed)", u.sysname, u.release,
            u.machine, KERNEL_MAJOR, KERNEL_MINOR);
    }
}

static void look_cores(struct finding *f)
{
    struct topology_limits l;
    uint32_t cores = topology_cores();
    topology_read("", &l);
    if (l.cpu_millis < cores * UINT64_C(1000)) {
        say(f, LEVEL_NOTE, "%u, but the control group may only use the time of %.2f", cores,
            (double)l.cpu_millis / 1000);
        advise(f, "When that is used up all processes stand still for a while: use fewer chips or "
                  "raise cpu.max.");
    } else if (cores == 1) {
        say(f, LEVEL_NOTE, "1");
        advise(f, "Program and chips take turns on it; a task costs at least two switches.");
    } else {
        say(f, LEVEL_OK, "%u, %s", cores,
            l.cpu_millis == UINT64_MAX ? "no CPU quota" : "within the CPU quota");
    }
}

static void look_memory(struct finding *f)
{
    struct topology_limits l;
    topology_read("", &l);
    bool grouped = l.memory_limit < l.memory_total;
    bool short_of = l.memory_free < l.memory_limit / 8;
    say(f, short_of ? LEVEL_NOTE : LEVEL_OK, "%s%s%s, %s free", text_bytes(l.memory_limit).s,
        grouped ? " by the control group's limit, of " : "",
        grouped ? text_bytes(l.memory_total).s : "", text_bytes(l.memory_free).s);
    if (short_of) {
        advise(f, "Beyond the limit the kernel kills a process instead of refusing: free memory or "
                  "raise the limit.");
    }
}

static void look_overcommit(struct finding *f)
{
    struct text mode = read_line("/proc/sys/vm/overcommit_memory");
    if (strcmp(mode.s, "2") == 0) {
        say(f, LEVEL_NOTE, "strict (vm.overcommit_memory is 2)");
        advise(f, "Touching memory beyond CommitLimit ends a chip with SIGBUS: raise "
                  "vm.overcommit_ratio.");
    } else {
        say(f, LEVEL_OK, "allowed (vm.overcommit_memory is %s)", *mode.s ? mode.s : "not readable");
    }
}

static void look_huge_pages(struct finding *f)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    struct text modes = read_line(path);
    char *mode = strchr(modes.s, '[');
    char *end = mode ? strchr(mode, ']') : NULL;
    if (!end) {
        say(f, LEVEL_NOTE, "this kernel has none for shared memory");
        advise(f, "The first touch of memory and random access to much of it cost more.");
        return;
    }
    *end = '\0';
    mode++;
    bool off =
        strcmp(mode, "never") == 0 || strcmp(mode, "deny") == 0 || strcmp(mode, "advise") == 0;
    say(f, off ? LEVEL_NOTE : LEVEL_OK, "%s for shared memory (shmem_enabled is %s)",
        off ? "off" : "on", mode);
    if (off) {
        advise(f, "First touch and random access cost more. As root: echo within_size > %s", path);
    }
}

/* ---- system calls ---- */

static void look_memfd(struct finding *f)
{
    char path[40];
    int fd = sys_memfd("transom-doctor", 4096);
    if (fd < 0) {
        say(f, LEVEL_PROBLEM, "memfd_create or sealing fails: %s", strerror(errno));
        advise(f, "All shared memory of a worker is memfds: allow them (seccomp filter of the "
                  "container?).");
        return;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reader = sys_open(path, O_RDONLY);
    if (reader < 0) {
        say(f, LEVEL_PROBLEM, "a memfd cannot be opened read-only: %s", strerror(errno));
        advise(f, "Chips get what they may not write through /proc/self/fd: mount /proc.");
    } else if (ftruncate(fd, 0) == 0) {
        say(f, LEVEL_PROBLEM, "seals of memfds have no effect");
        advise(f, "One process could take memory from another: use a Linux kernel that seals.");
    } else {
        say(f, LEVEL_OK, "memfds can be made, sealed and opened read-only");
    }
    sys_close(reader);
    sys_close(fd);
}

static void look_pidfd(struct finding *f)
{
    int fd = sys_pidfd(getpid());
    if (fd < 0) {
        say(f, LEVEL_PROBLEM, "pidfd_open fails: %s", strerror(errno));
        advise(f, "The keeper watches the program with it: allow it (seccomp filter of the "
                  "container?).");
    } else {
        say(f, LEVEL_OK, "the end of a process can be watched");
    }
    sys_close(fd);
}

static void look_futex(struct finding *f)
{
    a32 word = 1;
    /* The word is not 0, so that it must come back at once. */
    long rc = syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
    if (rc == -1 && errno == EAGAIN) {
        say(f, LEVEL_OK, "processes can sleep on shared words");
    } else {
        say(f, LEVEL_PROBLEM, "FUTEX_WAIT fails: %s", rc == 0 ? "it slept" : strerror(errno));
        advise(f, "Processes of a worker sleep and wake with it: allow it (seccomp filter?).");
    }
}

/* ---- limits of this user ---- */

static uint64_t soft_limit(int resource)
{
    struct rlimit r;
    return getrlimit((__rlimit_resource_t)resource, &r) == 0 && r.rlim_cur != RLIM_INFINITY
               ? r.rlim_cur
               : UINT64_MAX;
}

static void look_processes(struct finding *f)
{
    struct topology_limits l;
    topology_read("", &l);
    /* The user's limit does not bind root. */
    uint64_t user = geteuid() == 0 ? UINT64_MAX : soft_limit(RLIMIT_NPROC);
    uint64_t most = user < l.processes_left ? user : l.processes_left;
    uint64_t wanted = (uint64_t)topology_cores() + 1 + PROCESSES_SPARE;
    enum level level = most < PROCESSES_MIN ? LEVEL_PROBLEM : most < wanted ? LEVEL_NOTE : LEVEL_OK;
    if (l.processes_left <= user && l.processes_left != UINT64_MAX) {
        say(f, level, "the control group has room for %" PRIu64 " more", l.processes_left);
    } else if (user != UINT64_MAX) {
        say(f, level, "at most %" PRIu64 " for this user", user);
    } else {
        say(f, level, "no limit");
    }
    if (level != LEVEL_OK) {
        advise(f, "A worker has one a chip, one a sub and a keeper: raise %s.",
               l.processes_left <= user ? "pids.max" : "ulimit -u");
    }
}

/* Makes and drops the memory of a worker. */
static bool try_arena(uint32_t chips, uint64_t heap, uint64_t host, uint64_t windows,
                      struct tsm_error *err, uint64_t *ret_bytes)
{
    const struct arena_sizes sizes = {.chips = chips,
                                      .heap_bytes = heap,
                                      .host_bytes = host,
                                      .ring_bytes = 256 * 1024,
                                      .windows_bytes = windows};
    struct arena a;
    if (arena_create(&a, &sizes, err) != 0) {
        return false;
    }
    *ret_bytes = a.bytes;
    arena_destroy(&a);
    return true;
}

static void look_addresses(struct finding *f)
{
    struct tsm_error err;
    uint64_t bytes = 0;
    uint32_t chips = topology_cores() < CHIPS_MAX ? topology_cores() : CHIPS_MAX;
    /* A memfd beyond the limit on file sizes is refused, and this signal would end the process. */
    signal(SIGXFSZ, SIG_IGN);
    if (try_arena(chips, GIB, 4 * GIB, topology_memory_limit(), &err, &bytes)) {
        say(f, LEVEL_OK, "room for a worker with %u chip%s of default size (%s)", chips,
            chips == 1 ? "" : "s", text_bytes(bytes).s);
        return;
    }
    const char *limit = soft_limit(RLIMIT_AS) != UINT64_MAX      ? "ulimit -v unlimited"
                        : soft_limit(RLIMIT_FSIZE) != UINT64_MAX ? "ulimit -f unlimited"
                                                                 : "";
    if (try_arena(1, 64 * MIB, 64 * MIB, 64 * MIB, &err, &bytes)) {
        say(f, LEVEL_NOTE, "no room for a worker with %u chip%s of default size", chips,
            chips == 1 ? "" : "s");
        advise(f, "Give smaller heap_bytes, host_bytes and lease_bytes%s%s.", *limit ? ", or " : "",
               limit);
    } else {
        say(f, LEVEL_PROBLEM, "%.180s", err.text);
        advise(f, "Even a small worker has no room%s%s.", *limit ? ": " : "", limit);
    }
}

static void look_files(struct finding *f)
{
    uint64_t most = soft_limit(RLIMIT_NOFILE);
    enum level level = most < WORKER_FDS   ? LEVEL_PROBLEM
                       : most < ENOUGH_FDS ? LEVEL_NOTE
                                           : LEVEL_OK;
    if (most == UINT64_MAX) {
        say(f, level, "no limit");
        return;
    }
    say(f, level, "at most %" PRIu64 "; a worker takes up to %d", most, WORKER_FDS);
    if (level != LEVEL_OK) {
        advise(f, "Raise it: ulimit -n 1024");
    }
}

/* ---- starting ---- */

static void look_fork(struct finding *f)
{
    say(f, LEVEL_OK, "for programs with one thread; those with more use start method spawn");
}

static void look_spawn(struct finding *f)
{
    char path[2 * PATH_MAX];
    keeper_program_path(path, sizeof(path));
    if (access(path, X_OK) == 0) {
        say(f, LEVEL_OK, "the keeper program is %.200s", path);
    } else {
        say(f, LEVEL_NOTE, "the keeper program %.160s: %s", path, strerror(errno));
        advise(f, "Start method spawn needs it: install Transom whole or set TRANSOM_KEEPER. fork "
                  "works without.");
    }
}

static void look_pinning(struct finding *f)
{
    struct text why;
    if (topology_can_pin(why.s, sizeof(why.s)) == 0) {
        say(f, LEVEL_OK, "hwloc is there: chips can be bound to cores or NUMA nodes");
    } else {
        say(f, LEVEL_NOTE, "%.200s", why.s);
        advise(f, "The option pin is refused; on several NUMA nodes that costs memory speed. "
                  "Install libhwloc15.");
    }
}

/* Opens a child's memory as `transom ps` opens a keeper's. */
static bool try_inspection(void)
{
    char path[64];
    int fd = sys_memfd("transom-doctor", 4096);
    pid_t pid = fd < 0 ? -1 : sys_fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    int seen = -1;
    if (pid > 0) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
        seen = sys_open(path, O_RDONLY);
        int saved = errno;
        sys_kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        errno = saved;
    }
    sys_close(seen);
    sys_close(fd);
    return seen >= 0;
}

static void look_inspection(struct finding *f)
{
    struct text scope = read_line("/proc/sys/kernel/yama/ptrace_scope");
    if (!try_inspection()) {
        say(f, LEVEL_NOTE, "the memory of another process cannot be opened: %s", strerror(errno));
        advise(f, "`transom ps` shows nothing; workers run. It needs /proc without hidepid.");
    } else if (*scope.s && strcmp(scope.s, "0") != 0) {
        say(f, LEVEL_OK, "`transom ps` works; debuggers cannot attach (ptrace_scope is %s)",
            scope.s);
    } else {
        say(f, LEVEL_OK, "`transom ps` works, debuggers can attach");
    }
}

const struct check checks[] = {
    {"kernel", look_kernel},         {"cores", look_cores},
    {"memory", look_memory},         {"overcommit", look_overcommit},
    {"huge pages", look_huge_pages}, {"shared memory", look_memfd},
    {"pidfd", look_pidfd},           {"futex", look_futex},
    {"processes", look_processes},   {"addresses", look_addresses},
    {"open files", look_files},      {"fork", look_fork},
    {"spawn", look_spawn},           {"pinning", look_pinning},
    {"inspection", look_inspection},
};
const int check_count = sizeof(checks) / sizeof(checks[0]);

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The bench's side of a contender (contender.h). Runs in the benchmark's own process. */
#include "contender.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { ANSWER_MS = 60000, READY_MS = 20000, ORDER_MAX = 256 };

static _Noreturn void become(const char *path, uint32_t workers, const char *const *environment,
                             int in, int answers)
{
    char count[16], home[4096];
    char *argv[] = {(char *)(uintptr_t)path, count, NULL};
    snprintf(count, sizeof(count), "%u", workers);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    unpin_self();
    /* What StarPU learns of a machine goes beside its program, not into the user's home. */
    snprintf(home, sizeof(home), "%.*s", (int)(strrchr(path, '/') - path), path);
    setenv("STARPU_HOME", home, 1);
    setenv("STARPU_SILENT", "1", 1);
    for (; environment && *environment; environment++) {
        putenv((char *)(uintptr_t)*environment);
    }
    dup2(in, 0);
    dup2(answers, 1);
    if (!getenv("BENCH_PEERS_SPEAK")) {
        dup2(open("/dev/null", O_WRONLY), 2);
    }
    execv(path, argv);
    _exit(127);
}

/* The next line, without its end; false when there is none in time. */
static bool read_line(struct contender *c, int timeout_ms, char line[ORDER_MAX])
{
    uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        char *end = memchr(c->rest, '\n', c->rest_count);
        if (end) {
            uint32_t length = (uint32_t)(end - c->rest);
            memcpy(line, c->rest, length);
            line[length] = 0;
            c->rest_count -= length + 1;
            memmove(c->rest, end + 1, c->rest_count);
            return true;
        }
        struct pollfd p = {.fd = c->from, .events = POLLIN};
        uint64_t now = clock_ns();
        int left = now < deadline ? (int)((deadline - now) / 1000000) : 0;
        if (c->rest_count == sizeof(c->rest) || poll(&p, 1, left) <= 0) {
            return false;
        }
        ssize_t n = read(c->from, c->rest + c->rest_count, sizeof(c->rest) - c->rest_count);
        if (n <= 0) {
            return false;
        }
        c->rest_count += (uint32_t)n;
    }
}

static void end(struct contender *c)
{
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    close(c->to);
    close(c->from);
    *c = (struct contender){0};
}

bool contender_start(struct contender *c, const char *name, const char *program, uint32_t workers,
                     const char *const *environment)
{
    char path[4096];
    char line[ORDER_MAX];
    int orders[2], answers[2];
    *c = (struct contender){0};
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 64);
    bench_must(length > 0 ? 0 : -1, "/proc/self/exe", "");
    path[length] = 0;
    snprintf(strrchr(path, '/'), 64, "/peer/%s", program);
    if (access(path, X_OK) != 0) {
        bench_note("%s is not installed: no figures of it", name);
        return false;
    }
    signal(SIGPIPE, SIG_IGN); /* one that has died is seen by its answer */
    bench_must(pipe2(orders, O_CLOEXEC) | pipe2(answers, O_CLOEXEC), "pipe", name);
    c->pid = fork();
    bench_must(c->pid < 0, "fork", name);
    if (c->pid == 0) {
        become(path, workers, environment, orders[0], answers[1]);
    }
    close(orders[0]);
    close(answers[1]);
    c->to = orders[1];
    c->from = answers[0];
    snprintf(c->name, sizeof(c->name), "%s", name);
    if (!read_line(c, READY_MS, line) || strcmp(line, "ready") != 0) {
        bench_note("%s did not start with %u workers", name, workers);
        end(c);
        return false;
    }
    kill(c->pid, SIGSTOP);
    return true;
}

double contender_ask(struct contender *c, const char *order, ...)
{
    char line[ORDER_MAX];
    va_list ap;
    if (c->name[0] == 0) {
        return 0;
    }
    va_start(ap, order);
    int n = vsnprintf(line, sizeof(line) - 1, order, ap);
    va_end(ap);
    bench_must(n < 0 || n >= (int)sizeof(line) - 1, "an order is too long", line);
    line[n] = '\n';
    kill(c->pid, SIGCONT);
    if (write(c->to, line, (size_t)n + 1) != n + 1 || !read_line(c, ANSWER_MS, line)) {
        bench_note("%s has died or hangs: left out from here on", c->name);
        end(c);
        return 0;
    }
    kill(c->pid, SIGSTOP);
    return strtod(line, NULL);
}

void contender_stop(struct contender *c)
{
    if (c->name[0]) {
        end(c);
    }
}

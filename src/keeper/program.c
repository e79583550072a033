/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The keeper as a program: maps the arena where the orchestrator has it, says so, and waits until the tables are
 * written; then it is the keeper. A range that is taken here ends it with KEEPER_EXIT_TAKEN. Keeper process.
 */
#include "keeper/program.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/sys.h"
#include "keeper/keeper.h"

void keeper_args_write(const struct keeper_args *a, char text[KEEPER_ARGS_BYTES])
{
    snprintf(text, KEEPER_ARGS_BYTES, "%" PRIu64 " %" PRIu64 " %d %d %d %d %d %d %d %d %d %d %d %d",
             a->base, a->bytes, a->fd[0], a->fd[1], a->fd[2], a->fd[3], a->ro_fd[0], a->ro_fd[1],
             a->ro_fd[2], a->ro_fd[3], a->event_fd, a->lifeline_fd, a->orchestrator, a->pin);
}

int keeper_args_read(struct keeper_args *a, const char *text)
{
    int n = sscanf(text, "%" SCNu64 " %" SCNu64 " %d %d %d %d %d %d %d %d %d %d %d %d", &a->base,
                   &a->bytes, &a->fd[0], &a->fd[1], &a->fd[2], &a->fd[3], &a->ro_fd[0],
                   &a->ro_fd[1], &a->ro_fd[2], &a->ro_fd[3], &a->event_fd, &a->lifeline_fd,
                   &a->orchestrator, &a->pin);
    return n == 14 ? 0 : -1;
}

void keeper_program_path(char *ret, size_t bytes)
{
    const char *env = getenv("TRANSOM_KEEPER");
    Dl_info where;
    if (env && *env) {
        snprintf(ret, bytes, "%s", env);
        return;
    }
    if (dladdr((void *)(uintptr_t)&tsm_keeper_main, &where) != 0 && where.dli_fname) {
        const char *slash = strrchr(where.dli_fname, '/');
        int dir = slash ? (int)(slash - where.dli_fname) : 0;
        snprintf(ret, bytes, "%.*s%s../libexec/transom/transom-keeper", dir, where.dli_fname,
                 slash ? "/" : "");
        if (access(ret, X_OK) == 0) {
            return;
        }
    }
    snprintf(ret, bytes, "%s/transom-keeper", TRANSOM_LIBEXECDIR);
}

/* Until the orchestrator has written the tables; its end ends this too. */
static void wait_tables(const struct arena *a, int event_fd, int lifeline_fd)
{
    while (a32_acquire(&a->ctl->state) != WORKER_READY) {
        struct pollfd fds[] = {{.fd = lifeline_fd, .events = POLLIN},
                               {.fd = event_fd, .events = POLLIN}};
        sys_poll(fds, 2, -1);
        if (fds[0].revents != 0 || a32_load(&a->ctl->shutdown) != 0) {
            _exit(0);
        }
    }
}

int tsm_keeper_main(int argc, char **argv)
{
    struct keeper_args args;
    if (argc != 3 || keeper_args_read(&args, argv[1]) != 0) {
        fprintf(stderr, "transom-keeper: started by the library, not by hand\n");
        return KEEPER_EXIT_USAGE;
    }
    fault_arm(getenv("TRANSOM_FAULT"));
    fault_here(FAULT_PLACE_KEEPER, NULL);
    static struct arena arena;
    if (arena_attach(&arena, args.base, args.bytes, args.fd, args.ro_fd) != 0) {
        return errno == EADDRINUSE ? KEEPER_EXIT_TAKEN : KEEPER_EXIT_USAGE;
    }
    a32_release(&arena.keeper->pid, (uint32_t)getpid());
    wait_tables(&arena, args.event_fd, args.lifeline_fd);
    struct keeper_start start = {.event_fd = args.event_fd,
                                 .lifeline_fd = args.lifeline_fd,
                                 .orchestrator = args.orchestrator,
                                 .pin = args.pin,
                                 .backend = argv[2]};
    keeper_main(&arena, &start);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The engine: what all files of this room share. Everything here is private to the orchestrator process and its one
 * thread; nothing needs a lock.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <sys/types.h>

#include "engine/blocks.h"
#include "engine/rangemap.h"
#include "shm/ring.h"
#include "shm/wake.h"
#include "transom/backend.h"

/* Places in a taskref beyond the chips. */
enum { REF_SUB = 0x00fffffe, REF_GROUP = 0x00fffffd };

enum { SCOPES_MAX = 64, CHIP_HOST = -1 };

/* Words that must be reached: timelines (place, number) and pool records (PLACE_POOL, number). */
struct word {
    uint32_t place;
    uint32_t run;
    uint64_t value;
};
struct words {
    struct word *list;
    uint32_t count, max;
};

/* ---- memory (memory.c) ---- */

/* Memory that was given back while tasks may still use it. */
struct cooling {
    struct cooling *next;
    uint64_t addr, bytes;
    struct words fence;
};
struct heap {
    struct blocks blocks;
    uint64_t base, bytes;
    uint64_t fresh; /* addresses from here on have never been given out: they are zero */
    struct cooling *first, **last;
};
struct scope {
    uint64_t *addrs;
    uint32_t count, max;
};

/* ---- leases and domains (lease.c, domain.c) ---- */

enum lease_state { LEASE_CLEAN, LEASE_LIVE, LEASE_COOLING, LEASE_ZEROING };
struct lease {
    struct lease *next,
        *prev; /* clean: of its shape's bucket; cooling, zeroing: in order of release */
    struct lease *older, *newer; /* clean ones by age */
    uint32_t index;
    uint32_t generation;
    enum lease_state state;
    uint32_t size;
    uint32_t *members;
    uint64_t members_set[CHIPS_MAX / 64];
    uint64_t hash;
    uint64_t stride, base;
    uint64_t dirty_bytes; /* of each window: what the owner could reach */
    bool touched;         /* by the owner that has given it back */
    bool has_pages;       /* by any owner so far: nothing else gives it memory */
    struct domain_desc *desc;
    uint32_t buffers_max;
    struct words fence;
    uint32_t fence_at; /* words before this one have been reached */
    tsm_domain *domain;
};

struct tsm_domain {
    tsm_worker *worker;
    tsm_run *run;     /* that allocated it; NULL once a kept one has outlived it */
    tsm_domain *next; /* of the run, newest first; or of the worker's kept ones */
    tsm_domain *name_next;
    tsm_domain *live_next, *live_prev;
    struct lease *lease; /* NULL once freed */
    uint64_t id;
    uint64_t tasks_before;  /* counter of submissions at allocation */
    uint64_t touched_slots; /* of runs in flight that name it */
    uint32_t size;
    bool released, freed, keep, broken, touched;
    struct words named; /* records of non-members and subs that name it */
    char name[64];
};

/* ---- runs (run.c) ---- */

enum run_state { RUN_FREE, RUN_BUILDING, RUN_FLYING, RUN_OVER };
struct tsm_orch {
    tsm_run *run;
};
struct tsm_run {
    struct tsm_orch orch;
    tsm_worker *worker;
    tsm_run *next;     /* of the free ones */
    tsm_run *all_next; /* of all that were ever made */
    uint64_t number;
    enum run_state state;
    uint32_t holders; /* the engine, the user's handle */
    uint64_t *last;   /* by place: newest record of the run; the pool's at index places */
    uint32_t *touched;
    uint32_t touched_count, touched_checked;
    uint64_t pool_first, pool_checked;
    bool failed; /* the orchestrator raised its abort word */
    int result;
    struct tsm_error error; /* code 0: none yet */
    void *fail_data;        /* that came with the cause; until the last holder drops the run */
    uint64_t fail_data_bytes;
    struct scope scopes[SCOPES_MAX + 1];
    uint32_t scope_count;
    tsm_domain *domains;
};

/* ---- groups (graph.c) ---- */

struct group {
    uint64_t run;
    uint32_t count, done; /* members before `done` are done */
    struct word *members;
};

/* Waits that a submit collects (graph.c). */
struct deps {
    uint64_t *value; /* by chip; valid where stamp matches */
    uint64_t *data;  /* by chip: largest value read from an earlier run in flight, and its run */
    uint32_t *data_run;
    uint64_t *stamp;
    uint64_t round;
    uint32_t *touched;
    uint32_t touched_count;
    struct words pool; /* pool records, a chip's data of further runs; WAIT_DATA in place */
    uint64_t poison;   /* run + 1 whose failed task should have written what is read */
    uint32_t run;
};

/* What the elision knows of one ring and one chip: an earlier record of this run on the ring waits for this value. */
struct known {
    uint64_t value;
    uint64_t run;
};

enum { CALLABLE_PARTS = 7 }; /* callable.c has their names */
struct callable_info {
    char *name;
    char *path, *symbol;
    char *load, *unload; /* load NULL: no data */
    void *data;          /* until it has been shared with the processes of a started worker */
    uint64_t bytes;
    tsm_task_fn *function;
    uint64_t offset;
    uint32_t generation;
    bool live;
    uint64_t shared[CALLABLE_PARTS]; /* addresses in the descriptor area */
    uint64_t *loads;    /* by place: an order to load it that was not waited for; else NULL */
    uint64_t gone_at;   /* unregistered: runs up to this one may name it */
    uint64_t next_gone; /* index + 1 of the one unregistered after it */
};

struct tsm_worker {
    struct tsm_worker_opts opts;
    char **keeper_argv; /* opts.keeper points here, or NULL; with room for two more arguments */
    char backend_name[32];
    const struct tsm_backend *backend;
    enum worker_state state;
    const void *thread;
    uint32_t forks;   /* of the program before it was made: role.h */
    tsm_worker *next; /* of all workers of this process (start.c) */
    struct tsm_error error;
    uint32_t magic;

    struct arena arena;
    pid_t keeper;
    int event_fd, lifeline_fd, keeper_fd;
    struct waiter waiter;
    struct tsm_sleep_hooks hooks; /* size 0: none */
    uint64_t deaths_seen;
    uint32_t *child_deaths; /* by place */

    struct ring_writer *rings; /* by place; the pool's at index places */
    uint64_t *done;            /* by chip, as last read, clamped to what was published */
    uint64_t *marks;           /* by chip, the marks there were when done was read, or a few more */
    uint64_t pool_head;
    struct words failed_subs; /* pool records that failed, of runs not yet retired */

    struct rangemap map;
    struct deps deps;
    struct known *known; /* ring * chips + chip */
    struct group *groups;
    uint64_t group_first, group_next, group_max;

    struct heap *heaps; /* by chip; the host's at index chips */
    struct words take;  /* scratch of memory.c */

    struct callable_info *callables;
    uint64_t callable_count, callable_max;
    uint64_t gone_first, gone_last; /* index + 1, 0: none */
    struct blocks desc;

    tsm_run *runs[RUN_SLOTS];
    tsm_run *run_free, *run_all;
    tsm_run *current;                /* whose function executes */
    uint64_t run_newest, run_oldest; /* in flight: oldest..newest */
    uint64_t slot_gate[RUN_SLOTS];

    struct blocks windows;
    struct lease **leases;
    uint32_t lease_count, lease_max;
    uint32_t *lease_free;
    uint32_t lease_free_count;
    struct lease **shapes; /* buckets of clean ones */
    struct lease *oldest, *newest;
    struct lease *cooling_first, *cooling_last;
    struct lease *cooling_cursor; /* where the next look goes on */
    uint64_t lease_bytes, lease_budget;
    tsm_domain **names;
    uint64_t name_count, name_max;
    tsm_domain *live, *kept, *domain_free;
    uint64_t domain_next;

    bool holding;    /* a submit has reserved room: nobody else may write to a ring */
    bool steady;     /* the waits of this moment cannot be given up */
    bool keep_host;  /* host memory is not unmapped with the rest */
    bool wants_room; /* an allocation waits at the budget: any clean lease ends its wait */
    bool closing;    /* no more is submitted: a wait with a deadline may be a deadlock, too */
    uint64_t deadlock_checked_ns, alive_checked_ns;
    struct tsm_stats stats;
    struct scratch *scratch; /* submit.c */
};

/* ---- worker.c ---- */

enum { CHECK_ANY, CHECK_READY };
/* Whether this is the owner's process and thread. */
bool worker_is_mine(const tsm_worker *w);
/* Every public call begins here: object, thread, process, state. Fills the worker's error. */
int worker_check(tsm_worker *w, int how);
/* The hooks of its sleeps, or NULL. */
static inline const struct tsm_sleep_hooks *worker_hooks(const tsm_worker *w)
{
    return w->hooks.size != 0 ? &w->hooks : NULL;
}
/* TSM_EINTERRUPTED, with its text: a hook has given up the wait. */
int worker_interrupted(tsm_worker *w);
/* A refusal: fills the worker's error (printf) and returns code. */
int worker_refuse(tsm_worker *w, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int worker_refuse_sys(tsm_worker *w, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for calls that take an orch: also that it is the one being built. */
int orch_check(tsm_orch *orch);
int worker_alloc_tables(tsm_worker *w);
void worker_free_tables(tsm_worker *w);
/* Refuses memory beyond the machine's or the control group's limit. */
int worker_promise(tsm_worker *w, uint64_t bytes);

/* ---- tuning.c ---- */
/* The built-in values, or those of the file that TRANSOM_TUNING names over them. Returns: TSM_EINVAL with file,
 * line and text. *ret only on success. */
int tuning_load(struct tuning *ret, struct tsm_error *err);
/* Lines "name value" over what *t holds; # begins a comment. */
int tuning_read(const char *path, struct tuning *t, struct tsm_error *err);
/* The lines that tuning_read takes. */
void tuning_write(const struct tuning *t, char *text, size_t bytes);

/* ---- start.c ---- */
void stop_processes(tsm_worker *w, bool kill);
/* Tells them to end and does not wait for it. Any thread. */
void abandon_processes(tsm_worker *w);
/* Reaps the keepers of abandoned workers that have ended. Any thread. */
void reap_abandoned(void);
/* Whether keeper and worker are still able to run anything; else fills the error, EWORKER_FAILED. */
int worker_alive(tsm_worker *w);

/* ---- wait.c ---- */
int words_add(struct words *s, uint32_t place, uint32_t run, uint64_t value);
bool word_is_reached(tsm_worker *w, const struct word *x);
/* Sleeps until the word is reached; keeps runs, leases and deadlocks going meanwhile. deadline_ns 0: none.
 * 0, TSM_ETIMEOUT, TSM_EWORKER_FAILED; TSM_EINTERRUPTED unless w->steady. */
int engine_wait(tsm_worker *w, uint32_t place, uint64_t value, uint64_t deadline_ns);
/* Until every dead process has its replacement: a run begins on a whole worker. 0, TSM_EWORKER_FAILED,
 * TSM_EINTERRUPTED. */
int engine_wait_replaced(tsm_worker *w);
/* Looks at deaths, finished runs, fences. Cheap when nothing happened; never blocks. */
void engine_progress(tsm_worker *w);

/* ---- deadlock.c ---- */
/* With the orchestrator's wait record set: fails the runs that can never move. */
void deadlock_check(tsm_worker *w);

/* ---- graph.c ---- */
int graph_init(tsm_worker *w);
void graph_fini(tsm_worker *w);
void deps_begin(tsm_worker *w, uint64_t run);
/* after[index] of a call; member for the text, -1: none. */
int deps_add_task(tsm_worker *w, tsm_task_id id, int member, uint32_t index);
/* Waits of deps for a record on `ring` (a chip, or places for the pool): writes them, counts, remembers them
 * for elision. Returns their number. */
uint32_t deps_write(tsm_worker *w, uint32_t ring, uint64_t run, struct record_wait *out);
/* The most waits a record can have, and seeing to it that it has no more. */
uint32_t deps_bound(const tsm_worker *w);
int deps_trim(tsm_worker *w);
/* Waits in the orchestrator for all of them; for copies and host_wait. */
int deps_wait(tsm_worker *w);
enum ref_state ref_state(void *ctx, struct taskref ref);
/* Appends the words of a ref that is pending. */
int ref_words(tsm_worker *w, struct taskref ref, struct words *out);
int group_reserve(tsm_worker *w, uint32_t count);
uint64_t group_add(tsm_worker *w, uint64_t run, const struct word *members, uint32_t count);
void groups_retire(tsm_worker *w);
void pool_collect(tsm_worker *w);
tsm_task_id task_id(uint32_t place, uint64_t value);

/* ---- submit.c, args.c ---- */
int scratch_init(tsm_worker *w);
void scratch_fini(tsm_worker *w);

/* What a tensor's address belongs to. */
struct located {
    int chip;           /* CHIP_HOST: host memory */
    tsm_domain *domain; /* of a window, else NULL */
};
int locate(tsm_worker *w, uint64_t address, uint64_t bytes, const char *what, struct located *ret);

/* ---- memory.c ---- */
int memory_init(tsm_worker *w);
void memory_fini(tsm_worker *w);
enum { OWNER_NOBODY, OWNER_SCOPE, OWNER_MALLOC, OWNER_BUFFER }; /* nobody: cooling */
int memory_alloc(tsm_worker *w, int chip, uint64_t bytes, uint32_t owner, uint64_t *ret);
void memory_free(tsm_worker *w, int chip, uint64_t addr);
int scope_push(tsm_worker *w, tsm_run *run);
void scope_pop(tsm_worker *w, tsm_run *run);
int scope_add(tsm_worker *w, tsm_run *run, uint64_t addr);
void scopes_fini(tsm_run *run);
struct heap *heap_of(tsm_worker *w, int chip);

/* ---- callable.c ---- */
/* Index of a callable that may be submitted; member for the text, -1: none. */
int callable_check(tsm_worker *w, tsm_callable c, int member, uint32_t *ret);
int callables_publish(tsm_worker *w);
/* All processes have it now, and their replacements find it in the descriptor area. */
void callables_drop_data(tsm_worker *w);
void callables_fini(tsm_worker *w);
const char *callable_name_of(const tsm_worker *w, uint32_t index);

/* ---- run.c ---- */
void run_fail(tsm_run *run, int code, uint64_t task, int chip, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Raises its abort word; the cause is known elsewhere. */
void run_abort(tsm_run *run);
bool run_is_failed(const tsm_worker *w, const tsm_run *run);
/* The same, or a process has marked it and the abort is on its way. */
bool run_has_cause(const tsm_worker *w, const tsm_run *run);
/* Fails the run when the chip (or, for any other place, a sub) says it has done what it was not given: what it says cannot
 * be waited for. */
void run_check_timeline(tsm_run *run, uint32_t place);
/* 0, or the refusal when the run being built has failed. */
int run_stopped(tsm_worker *w);
void runs_retire(tsm_worker *w);
void run_touch(tsm_run *run, uint32_t place, uint64_t value);
tsm_run *run_of(tsm_worker *w, uint64_t number);
void runs_fini(tsm_worker *w);
/* Waits until no run is in flight; deadline 0: none. */
int runs_drain(tsm_worker *w, uint64_t deadline_ns);

/* ---- lease.c ---- */
int leases_init(tsm_worker *w);
void leases_fini(tsm_worker *w);
int lease_take(tsm_worker *w, const int *chips, uint32_t size, uint64_t window_bytes,
               struct lease **ret);
/* Undoes a take of a lease that nobody has seen. */
void lease_give_back(tsm_worker *w, struct lease *l);
void lease_release(tsm_worker *w, struct lease *l);
void leases_progress(tsm_worker *w);
/* Moves all cooling leases on; whether any is clean. */
bool leases_any_clean(tsm_worker *w);
/* Whether a task may still touch the lease of the domain with this id. */
bool lease_is_held(tsm_worker *w, uint64_t domain);
struct lease *lease_at(tsm_worker *w, uint64_t address);
static inline bool lease_has(const struct lease *l, uint32_t chip)
{
    return l->members_set[chip / 64] >> chip % 64 & 1;
}

/* ---- domain.c ---- */
/* A record on `place` (a chip, or places: pool record `value`) names the domain; and room to note one more. */
int domain_reserve_name(tsm_domain *d, uint32_t place);
void domain_named(tsm_domain *d, uint32_t place, uint64_t value);
void domains_sweep(tsm_worker *w, tsm_run *run, bool failed);
void domains_of_run_over(tsm_worker *w, tsm_run *run);
void domains_member_died(tsm_worker *w, uint32_t chip);
void domain_freed(tsm_worker *w, tsm_domain *d);
void domains_fini(tsm_worker *w);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * A chip or sub worker process: what all files of this room share. A sub is a chip without memory and windows that
 * takes its tasks from the pool.
 */
#ifndef CHIP_CHIP_H
#define CHIP_CHIP_H

#include <stdbool.h>

#include "shm/recorder.h"
#include "shm/ring.h"
#include "shm/wake.h"
#include "transom/backend.h"
#include "transom/task.h"

struct loaded {
    tsm_task_fn *function; /* NULL: nothing is loaded */
    void *arg;             /* what its load function made */
    tsm_unload_fn *unload;
    uint32_t generation;
};

struct chip {
    struct arena arena;
    uint32_t place;
    bool is_sub;
    int event_fd; /* tells the keeper: a mark, or a time limit to watch */
    struct proc_page *page;
    struct waiter waiter;
    struct ring_reader reader;
    struct recorder *recorder;
    const struct tsm_backend *backend;
    void *device;
    struct loaded *loaded; /* by callable index */
    uint64_t loaded_count;
    tsm_ctx *ctxs; /* of the running task's domains; task NULL: not asked for yet */
    struct domain_state *states;
    uint32_t ctx_count;
    uint64_t pool_head; /* sub: pool records up to this one are claimed */
};

/* What the keeper tells a child that it forks. */
struct chip_start {
    uint32_t place;
    uint32_t life; /* > 1: a replacement */
    int event_fd;
    const char *backend;
    const char *death; /* of the one it replaces: "signal 9 (Killed)" */
};

/* The whole life of the process; never returns. */
_Noreturn void chip_main(const struct arena *arena, const struct chip_start *start);
/* One turn of a chip's loop: the next record, waiting for it, is executed and the timeline advanced. False when the process
 * is to leave. */
bool chip_step(struct chip *c);

/* chip/load.c: a callable, loaded on first use; an older one in its place is unloaded. TSM_ENOENT, TSM_ENOMEM with text. */
int load_callable(struct chip *c, uint64_t index, uint32_t generation, struct loaded *ret,
                  char *text, size_t text_bytes);

/* chip/run.c */
/* Whether the run is known to have failed: abort words, own mark. */
bool run_is_aborted(const struct chip *c, uint64_t run);
/* Makes the waits of a record (also when it will be skipped), runs or skips it. number: on the own timeline, or
 * in the pool. Returns true when the task ran and succeeded. */
bool record_execute(struct chip *c, const struct record *rec, uint64_t number);
/* A task that a dead predecessor of this process had begun. */
void record_mark_dead(struct chip *c, const struct record *rec, uint64_t number, const char *death);
/* Whether all words a record waits for are there. */
bool record_ready(const struct chip *c, const struct record *rec);

/* chip/sub.c */
_Noreturn void sub_loop(struct chip *c);
void sub_take_over(struct chip *c, const char *death);

/* chip/chip.c: control records, also on a sub's own ring. True when it was one. */
bool control_execute(struct chip *c, const struct record *rec);
/* Leaves when the worker shuts down or the parent is gone. */
bool chip_should_leave(const struct chip *c);
_Noreturn void chip_leave(struct chip *c);

/* ---- the task side ---- */

enum { USER_OPS = 16, TEXT_BYTES = 320 };

/* A view of a domain, or of a sub-group: then `ranks` has the domain rank of each of its own. */
struct tsm_ctx {
    struct chip *chip;
    tsm_task *task;
    const struct domain_desc *desc;
    const uint32_t *members;    /* chips, by domain rank */
    const uint32_t *ranks;      /* NULL: the domain itself */
    uint32_t rank, size;        /* in the sub-group */
    uint32_t self;              /* own domain rank */
    uint32_t generation;        /* of the lease, from the record */
    uint32_t depth;             /* of a channel */
    uint64_t area;              /* from a window to the area behind it; */
    uint64_t channel_at;        /* and from there to the channels (ctx_cache) */
    uint32_t group;             /* hash of ranks; 0: the domain */
    int64_t timeout_ns;         /* of collectives; < 0: none */
    uint64_t deadline_ns;       /* of the one that runs; 0: none */
    uint32_t owed, owed_to;     /* 0: nobody is to be woken; 1: owed_to; more: anybody */
    struct domain_state *state; /* shared by all views of the domain in this task */
    struct tsm_ctx *next;       /* sub-groups of the task */
};

/* What all views of one domain share in one task; of this process alone. */
struct domain_state {
    char text[TEXT_BYTES]; /* of a misuse */
    uint64_t fences;       /* chaos mode: tsm_fence so far */
};

struct tsm_task {
    struct chip *chip;
    const struct record *rec;
    const uint16_t *tensor_offsets; /* in units of 8 bytes from the record */
    const uint64_t *scalars;
    const struct record_domain *domains;
    tsm_ctx *groups; /* sub-groups made so far */
    struct {
        tsm_combine_fn *combine;
        void *arg;
    } ops[USER_OPS];
    uint32_t op_count;
    void *arg;                /* of its callable */
    uint32_t fail_data_bytes; /* in the page of this process */
    bool failed;
    int refused; /* code of the refusal that text is about, 0: none */
    char text[MARK_TEXT];
};

/* chip/task.c */
void task_init(tsm_task *t, struct chip *c, const struct record *rec);
/* Completes what is pending and frees what the task made. */
void task_fini(tsm_task *t);

/* chip/domain.c */
static inline uint32_t domain_rank(const tsm_ctx *c, uint32_t rank)
{
    return c->ranks ? c->ranks[rank] : rank;
}
/* The i-th other rank, 1 <= i < size, from the next one on: so not all begin with the same. */
static inline uint32_t other_rank(const tsm_ctx *c, uint32_t i)
{
    uint32_t rank = c->rank + i;
    return rank < c->size ? rank : rank - c->size;
}
static inline uint8_t *window_of(const tsm_ctx *c, uint32_t domain_rank)
{
    return (uint8_t *)(uintptr_t)(c->desc->base + domain_rank * c->desc->stride);
}
/* Fills in what a view keeps of the layout behind the windows: every message asks for it. */
static inline void ctx_cache(tsm_ctx *c)
{
    c->depth = sync_depth(c->desc->size);
    c->area = c->desc->stride - sync_bytes(c->desc->size);
    c->channel_at = sync_channel_offset(c->desc->size);
}
/* Address of s in rank's window if `bytes` fit there; else NULL and *ret_code. */
void *sym_address(const tsm_ctx *c, tsm_sym s, uint32_t rank, uint64_t bytes, int *ret_code);
/* A call on the domain is refused: the text (printf), for tsm_ctx_text and for the failure of the task if it
 * returns the code. Returns code. */
int ctx_refuse(const tsm_ctx *c, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
/* Whether the domain has been aborted by a member. */
bool domain_is_aborted(const tsm_ctx *c);

/* chip/signal.c */
/* What a task waits for: the 64-bit word, in the own window or behind it, compares with value; deadline_ns 0: none.
 * hopeless, asked in vain looks of a wait that is published, ends it with TSM_EINVAL; may be NULL. */
struct task_wait {
    tsm_ctx *c;
    const a64 *word;
    uint64_t value, seen;
    uint32_t cmp;
    uint32_t from; /* for hopeless */
    bool (*hopeless)(const struct task_wait *w);
};
/* 0, TSM_EABORTED, TSM_EPEER, TSM_ETIMEOUT, TSM_EINVAL. */
int task_wait_word(struct task_wait *w, uint64_t deadline_ns);

#endif

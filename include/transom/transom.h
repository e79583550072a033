/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * transom.h: the host side of Transom.
 *
 * A program creates a *worker* (n chips, m sub workers), registers callables, starts it and runs
 * *orchestration functions*. Inside such a function tasks are submitted, memory is allocated and
 * communication domains come and go; the runtime orders tasks by the bytes they touch.
 *
 * Threads: a worker belongs to the thread that created it; every call below that takes a worker,
 * an orch, a run or a domain must come from that thread and process (TSM_EWRONG_THREAD otherwise).
 * Different workers may live in different threads. The runtime has no thread of its own in the
 * program: it makes progress inside these calls only.
 *
 * Errors: functions that can fail return 0 or a negative TSM_E code. The text of the last refusal is
 * in tsm_worker_error(), the cause of a failed run in tsm_run_error(). Outputs are written only on success.
 */
#ifndef TRANSOM_TRANSOM_H
#define TRANSOM_TRANSOM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TSM_VERSION_MAJOR 0
#define TSM_VERSION_MINOR 1
#define TSM_VERSION_PATCH 0
#define TSM_VERSION_STRING "0.1.0"

/* The version of the library that is loaded, "major.minor.patch". */
const char *tsm_version(void);

/* ---- errors ---------------------------------------------------------------------------------- */

enum {
    TSM_OK = 0,
    TSM_EINVAL = -1,            /* an argument is refused; the text names it and its value */
    TSM_ENOMEM = -2,            /* memory for the runtime itself, or beyond the machine's limit */
    TSM_ENOSPC = -3,            /* heap, arena or ring is too small for what was asked */
    TSM_EUNSUPPORTED = -4,      /* not built in, no driver, or not possible on this system */
    TSM_EFORK_UNSAFE = -5,      /* start method fork in a process that has other threads */
    TSM_ECHILD_DIED = -6,       /* a chip or sub worker died: signal or exit status in the text */
    TSM_ETASK_FAILED = -7,      /* a task returned an error or called tsm_fail */
    TSM_ETIME_LIMIT = -8,       /* a task exceeded its time limit */
    TSM_EDEADLOCK = -9,         /* nothing can move; the text names the cycle */
    TSM_EUPSTREAM_FAILED = -10, /* reads what a failed task of an earlier run should have written */
    TSM_EABORTED = -11,         /* the run this belongs to has failed */
    TSM_ETIMEOUT = -12,         /* the given time is over; the call may be repeated */
    TSM_ESTATE = -13,           /* not allowed now: outside a run, before start, ... */
    TSM_ESTALE = -14,           /* a handle or id of something released, unregistered or closed */
    TSM_ERANGE = -15,           /* outside the memory or the window it names */
    TSM_EPEER = -16,            /* a member of the domain is dead, or has aborted it */
    TSM_EPROTOCOL = -17,        /* a child wrote nonsense into its own page */
    TSM_EEXIST = -18,           /* the name is in use */
    TSM_ENOENT = -19,           /* no such name, member or symbol */
    TSM_EWORKER_FAILED = -20,   /* the worker is beyond repair; close it */
    TSM_ECLOSED = -21,          /* the worker is closed */
    TSM_EWRONG_THREAD = -22,    /* called from another thread or process than the owner's */
    TSM_ESYS = -23,             /* a system call failed; errno in tsm_error.sys_errno */
    TSM_EFUNCTION = -24,        /* the orchestration function returned a positive value */
    TSM_EINTERRUPTED = -25,     /* the sleep hooks gave up the wait; the call may be repeated */
    TSM_ECANCELED = -26         /* of a run: tsm_run_cancel */
};

/* One failure, filled once where it was first known. chip and task are -1 and 0 where there is none. */
struct tsm_error {
    int code;         /* TSM_E... */
    int sys_errno;    /* errno of the failed system call, or 0 */
    int chip;         /* the chip it happened on; chips + k for sub worker k */
    int32_t detail;   /* what the task returned, or the signal or exit status of a child */
    uint64_t task;    /* id of the task, see tsm_submit */
    uint64_t run;     /* number of the run */
    uint64_t when_ns; /* CLOCK_MONOTONIC */
    uint64_t skipped; /* of a run: tasks that were never begun because of it */
    char text[488];   /* one line (several for a deadlock): the fact */
};

/* "TSM_EINVAL" for -1, and so on; "TSM_E?" for what is no code. Static storage. */
const char *tsm_code_name(int code);

/* ---- types ----------------------------------------------------------------------------------- */

typedef struct tsm_worker tsm_worker;
typedef struct tsm_orch tsm_orch;     /* a run whose orchestration function is executing */
typedef struct tsm_run tsm_run;       /* handle of a submitted run */
typedef struct tsm_domain tsm_domain; /* owned by the run, or by the worker with keep */
typedef struct tsm_task tsm_task;     /* inside a task, see task.h */

typedef uint64_t tsm_task_id; /* 0 is no task */
typedef struct {
    uint64_t value;
} tsm_callable; /* from tsm_register; 0 is none */

/* What a task runs; the task side is task.h. 0, or anything else to fail the run. */
typedef int tsm_task_fn(tsm_task *task);
/* An orchestration function. 0, or a negative TSM_E code or any other value to fail the run. */
typedef int tsm_orch_fn(tsm_orch *orch, void *arg);

enum tsm_dtype {
    TSM_U8 = 1,
    TSM_I8,
    TSM_BOOL,
    TSM_U16,
    TSM_I16,
    TSM_F16,
    TSM_BF16,
    TSM_U32,
    TSM_I32,
    TSM_F32,
    TSM_U64,
    TSM_I64,
    TSM_F64
};

/* Bytes of one element, 0 for what is no dtype; and "f32" etc. */
size_t tsm_dtype_bytes(int dtype);
const char *tsm_dtype_name(int dtype);

/* How a task uses a tensor. */
enum tsm_tag {
    TSM_INPUT = 1, /* reads */
    TSM_OUTPUT, /* writes all of it; with data == NULL the runtime allocates it in the current scope */
    TSM_INOUT,           /* reads and writes */
    TSM_OUTPUT_EXISTING, /* writes memory that exists */
    TSM_NO_DEP           /* uses it without making an edge; counts for the memory's lifetime */
};

#define TSM_DIMS_MAX 8

/* A view of memory. strides are in bytes (may be negative or 0 for inputs); stride_given == 0 means
 * contiguous, row-major. A shape with a 0 is an empty tensor and may have data == NULL. */
struct tsm_tensor {
    void *data;
    uint8_t dtype; /* enum tsm_dtype */
    uint8_t tag;   /* enum tsm_tag; 0 is INPUT */
    uint8_t ndim;  /* 0..8; 0 is a single element */
    uint8_t stride_given;
    uint32_t reserved;
    uint64_t shape[TSM_DIMS_MAX];
    int64_t strides[TSM_DIMS_MAX];
};

/* ---- worker ---------------------------------------------------------------------------------- */

enum tsm_start_method { TSM_FORK = 0, TSM_SPAWN = 1 };
enum tsm_pin { TSM_PIN_NONE = 0, TSM_PIN_CORE = 1, TSM_PIN_NUMA = 2 };

/* Zero in any field but size means the default in brackets. */
struct tsm_worker_opts {
    size_t size;              /* sizeof(struct tsm_worker_opts) */
    uint32_t chips;           /* 1..1024 [1] */
    uint32_t subs;            /* 0..1024 */
    const char *backend;      /* ["sim"] */
    int start_method;         /* enum tsm_start_method [fork] */
    int pin;                  /* enum tsm_pin [none]; needs hwloc, else TSM_EUNSUPPORTED */
    uint64_t arena_bytes;     /* shared address range [what the sizes below need] */
    uint64_t heap_bytes;      /* memory of one chip [1 GiB]; address space until it is touched */
    uint64_t host_bytes;      /* host buffers, and what sub workers' tasks allocate [4 GiB] */
    uint64_t ring_bytes;      /* records in flight to one chip [256 KiB]; 256 KiB..1 GiB */
    uint64_t lease_bytes;     /* memory budget of domain windows [half of the memory limit] */
    int64_t start_timeout_ns; /* for the whole tree [30 s] */
    int64_t close_timeout_ns; /* how long close drains before it aborts [30 s] */
    /* With spawn: path and leading arguments of the program that becomes the keeper, NULL-terminated, copied
     * [transom-keeper, beside the library]. It gives the two arguments that follow them to tsm_keeper_main. */
    const char *const *keeper;
};
#define TSM_WORKER_OPTS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct tsm_worker_opts), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                      \
    }

/* Creates a worker; no process yet. opts NULL: all defaults. On failure *err (may be NULL) has the text.
 * The caller owns *ret: tsm_worker_destroy. Returns: EINVAL, ENOMEM, EUNSUPPORTED. */
int tsm_worker_create(const struct tsm_worker_opts *opts, tsm_worker **ret, struct tsm_error *err);

/* Starts keeper, chips and sub workers; returns when all are ready. A failed start leaves no process
 * and no memory and the worker may be started again.
 * Returns: ESTATE (started before), EFORK_UNSAFE, ENOMEM, ESYS, ETIMEOUT, ECHILD_DIED. */
int tsm_worker_start(tsm_worker *worker);

/* Drains the runs in flight until close_timeout_ns, then aborts them, then kills. Idempotent. All use
 * of the worker afterwards is refused with ECLOSED; its domains and buffers are gone.
 * Returns 0, or ETIMEOUT if runs had to be aborted. ESTATE inside an orchestration function. EINTERRUPTED while it drains:
 * then the worker is open as before. */
int tsm_worker_close(tsm_worker *worker);

/* Closes if need be and frees the object and the handles of its runs. NULL is accepted. */
void tsm_worker_destroy(tsm_worker *worker);

/* The last refusal or failure on this worker; borrowed, valid until the next call on the worker. */
const struct tsm_error *tsm_worker_error(const tsm_worker *worker);

/* What the runtime has done since start; plain counters. */
struct tsm_stats {
    size_t size;
    uint64_t tasks; /* submitted, group members counted one by one */
    uint64_t waits; /* (word, value) pairs written into records */
    uint64_t
        waits_elided; /* dropped because an earlier record of the ring makes them, or program order does */
    uint64_t ranges;         /* live entries of the range map */
    uint64_t leases_fresh;   /* domain allocations that took fresh pages */
    uint64_t leases_reused;  /* that took a clean lease */
    uint64_t leases_evicted; /* leases given back to the system */
    uint64_t lease_bytes;    /* memory promised to leases now */
    uint64_t domains_live;   /* allocated, not yet freed */
    uint64_t heap_bytes;     /* held in chip heaps and host memory now */
    uint64_t runs_live;      /* runs in flight */
    uint64_t syscalls;       /* made by the library in this process */
    uint64_t mappings;       /* mmap calls among them */
    uint64_t deaths;         /* children that died */
};
void tsm_worker_stats(tsm_worker *worker, struct tsm_stats *ret);

/* Process id of chip (0..chips-1) or sub worker (chips + k), 0 when it is not alive. */
int tsm_worker_pid(const tsm_worker *worker, int chip);

/* Tasks that have ended since start, of all runs, group members counted one by one: run, failed or skipped. 0 before
 * start and after close. A plain read: allowed in a sleep hook, too. */
uint64_t tsm_worker_tasks_done(const tsm_worker *worker);

/*
 * For a program with a lock or with signals of its own (an interpreter), called in the owner's thread: begin and end
 * surround each sleep of a call on the worker (not its spinning). interrupted is asked after each sleep, at least
 * every 50 ms, in a call that can be given up; nonzero ends the call with TSM_EINTERRUPTED. Nothing is lost by that: what the
 * call was to do has not been done (but see tsm_worker_run and tsm_run_cancel) and it may be repeated. Calls that can be given
 * up: start, close, runs and waits for them, submit at a full ring, copies, tsm_host_wait, tsm_buffer_create, tsm_domain_alloc
 * at the memory budget, and registering after start. Any may be NULL. A hook may call tsm_worker_tasks_done and nothing else
 * on the worker.
 */
struct tsm_sleep_hooks {
    size_t size; /* sizeof(struct tsm_sleep_hooks) */
    void (*begin)(void *arg);
    void (*end)(void *arg);
    int (*interrupted)(void *arg);
    void *arg;
};
#define TSM_SLEEP_HOOKS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct tsm_sleep_hooks), 0, 0, 0, 0                                                 \
    }
/* Before or after start; copied; hooks NULL: none. Returns: EINVAL. */
int tsm_worker_set_sleep_hooks(tsm_worker *worker, const struct tsm_sleep_hooks *hooks);

/* Lets host memory stay mapped when the worker closes, for views of it that outlive the worker: the program
 * unmaps [*ret_base, *ret_base + *ret_bytes) with munmap after close. Idempotent. Returns: EINVAL, ESTATE before start. */
int tsm_worker_keep_host(tsm_worker *worker, void **ret_base, uint64_t *ret_bytes);

/* Lets go of a worker without waiting for anything, from any thread of the process that made it, for finalizers: its
 * processes end by themselves at once, its memory is unmapped (but see tsm_worker_keep_host), the object and the handles of its
 * runs are freed. No other call on it may be in progress, and it is not allowed inside an orchestration function (nothing
 * happens then). NULL is accepted. */
void tsm_worker_abandon(tsm_worker *worker);

/* For a program that is named in opts.keeper: the keeper's whole life. argv[0] is anything, argv[1] and argv[2] are the two
 * arguments that the library appended, argc is 3. Returns an exit status when it could not begin; else it does
 * not return. */
int tsm_keeper_main(int argc, char **argv);

/* ---- callables ------------------------------------------------------------------------------- */

/* A C function, before start. With spawn it must live in a shared object (its symbol is looked up there),
 * else EUNSUPPORTED. name (may be NULL: the symbol's) shows in errors and traces. The same function
 * again gives the same callable. Returns: EINVAL, ESTATE after start, ENOMEM. */
int tsm_register(tsm_worker *worker, const char *name, tsm_task_fn *fn, tsm_callable *ret);

/* `symbol` of the shared object `path` (as for dlopen), before or after start. After start it waits for
 * tasks in front of it on every chip; it reaches every child or none.
 * Returns: ENOENT with the loader's text and the child, EINVAL, ENOMEM. */
int tsm_register_symbol(tsm_worker *worker, const char *path, const char *symbol, const char *name,
                        tsm_callable *ret);

/* Makes a callable ready in one chip or sub worker process: *ret_arg is what tsm_task_arg gives its tasks. data is borrowed
 * for the call and read-only. 0, or anything else with one line of text. */
typedef int tsm_load_fn(const void *data, uint64_t bytes, void **ret_arg, char *text,
                        size_t text_bytes);
/* Takes back what load made: the callable has been unregistered and its place is wanted for another. */
typedef void tsm_unload_fn(void *arg);

struct tsm_callable_opts {
    size_t size;        /* sizeof(struct tsm_callable_opts) */
    const char *path;   /* of a shared object, as for dlopen */
    const char *symbol; /* its tsm_task_fn */
    const char *load;   /* its tsm_load_fn */
    const char *unload; /* its tsm_unload_fn, or NULL */
    const char *name;   /* shows in errors and traces [symbol] */
    const void *data;   /* for load; copied; at most 64 MiB */
    uint64_t bytes;
};
#define TSM_CALLABLE_OPTS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct tsm_callable_opts), 0, 0, 0, 0, 0, 0, 0                                      \
    }

/* A task function with data of its own, for languages with a runtime of their own. Each chip and sub worker process calls
 * `load` with the data once: at its start, or at once when the worker is started, behind the tasks in front of it; a
 * replacement calls it again. A refusal of any of them is the refusal of this call (of start, before it), with its text. Each
 * call gives a new callable.
 * Returns: ENOENT with the text of the loader or of load and the child, EINVAL, ENOMEM. */
int tsm_register_loaded(tsm_worker *worker, const struct tsm_callable_opts *opts,
                        tsm_callable *ret);

/* No later submit may use it; tasks already submitted run. Returns: ESTALE, EINVAL. */
int tsm_unregister(tsm_worker *worker, tsm_callable callable);

/* ---- runs ------------------------------------------------------------------------------------ */

/* Calls fn(orch, arg) and waits for every task it submitted. Returns 0 or the first cause, which
 * tsm_worker_error() describes; the function's own error comes back unchanged when it is the cause. EINTERRUPTED
 * also when fn has returned and its tasks go on: tsm_orch_handle is how to wait for them again. */
int tsm_worker_run(tsm_worker *worker, tsm_orch_fn *fn, void *arg);

/* The same, but returns as soon as fn has returned. A graph error (fn failed) is returned at once and
 * there is no handle; a task error comes at wait. Up to 63 runs in flight, then the oldest is waited for.
 * The caller owns *ret: tsm_run_release. */
int tsm_worker_submit_run(tsm_worker *worker, tsm_orch_fn *fn, void *arg, tsm_run **ret);

/* Waits for the run. timeout_ns < 0: for ever. Returns 0, the first cause (each time the same), or
 * ETIMEOUT, after which it may be called again. */
int tsm_run_wait(tsm_run *run, int64_t timeout_ns);
/* 1 when the run is over, without waiting. */
int tsm_run_done(tsm_run *run);
/* The cause when the run is over and failed; borrowed until release. code is 0 otherwise. */
const struct tsm_error *tsm_run_error(const tsm_run *run);
/* Gives the handle back. The run goes on if it is not over. NULL is accepted. */
void tsm_run_release(tsm_run *run);

/* Fails the run with TSM_ECANCELED, unless it is over: tasks that have not begun are skipped, waits inside tasks end with
 * TSM_EABORTED, and what still runs after grace_ns (< 0: never) loses its process, which is replaced. Returns when the run
 * is over; at once inside the run's own function. Returns 0 (also when it was over before), EINTERRUPTED (the
 * cancellation stands, the loss of processes too), EWORKER_FAILED, EINVAL. */
int tsm_run_cancel(tsm_run *run, int64_t grace_ns);
/* What the task whose failure is the run's cause gave to tsm_fail_data, borrowed until release; NULL and 0 when there is
 * nothing. ret_bytes may be NULL. */
const void *tsm_run_fail_data(const tsm_run *run, uint64_t *ret_bytes);

/* The worker of an orch, and the number of its run (1, 2, ...). */
tsm_worker *tsm_orch_worker(const tsm_orch *orch);
uint64_t tsm_orch_run(const tsm_orch *orch);
/* A handle of the run whose function executes, as that of tsm_worker_submit_run; it stays valid when the function fails
 * afterwards. The caller owns *ret: tsm_run_release. Returns: EINVAL, ESTATE outside the function. */
int tsm_orch_handle(tsm_orch *orch, tsm_run **ret);

/* ---- submitting ------------------------------------------------------------------------------ */

enum { TSM_ANY_CHIP = -1, TSM_SUB = -2, TSM_HOST = -3 };

/* One task, or one member of a group. All arrays are borrowed for the call. An OUTPUT tensor with
 * data == NULL gets its address written back. */
struct tsm_call {
    tsm_callable callable;
    int chip; /* 0..chips-1, TSM_ANY_CHIP (least loaded), TSM_SUB (a free sub worker) */
    uint32_t tensor_count, scalar_count, domain_count, after_count;
    struct tsm_tensor *tensors;
    const uint64_t *scalars;
    tsm_domain *const *domains;
    const tsm_task_id *after; /* tasks it must follow, beside what the tensors say */
    uint32_t blocks;          /* number of blocks for the kernel; 0 is 1 */
    uint32_t reserved;
    int64_t limit_ns; /* time limit of the task from its begin; 0 is none */
};

/* Appends a task. Blocks when the chip's ring is full. *ret (may be NULL) is its id.
 * Returns: EINVAL, ERANGE, ESTALE, ENOSPC, ENOMEM with argument, index and value in the text (and
 * nothing has happened), EABORTED when the run has failed, EUPSTREAM_FAILED, EDEADLOCK. */
int tsm_submit(tsm_orch *orch, const struct tsm_call *call, tsm_task_id *ret);

/* Appends one task with a member on each of `count` distinct chips, or on `count` sub workers (all
 * members TSM_SUB; not more than there are). The members start when all that the group waits for is
 * done; who follows the group follows all members. The `after` of all members are joined. */
int tsm_submit_group(tsm_orch *orch, const struct tsm_call *members, uint32_t count,
                     tsm_task_id *ret);

/* float and double as scalars; tsm_task_f32 and tsm_task_f64 read them. */
uint64_t tsm_scalar_f32(float value);
uint64_t tsm_scalar_f64(double value);

/* ---- memory ---------------------------------------------------------------------------------- */

/* Scopes bound the life of tsm_alloc and of OUTPUT tensors without an address. They nest to 64 and
 * are closed by the end of the function at the latest. Returns: ESTATE, ENOSPC (too deep). */
int tsm_scope_begin(tsm_orch *orch);
int tsm_scope_end(tsm_orch *orch);

/* `bytes` (64-byte aligned, contents undefined) on a chip or TSM_HOST until the current scope ends.
 * When no memory is free it reuses memory whose users are still to run; the order is kept.
 * Returns: EINVAL, ENOSPC with asked, held and free. */
int tsm_alloc(tsm_orch *orch, int chip, uint64_t bytes, void **ret);

/* The same until tsm_free, over runs. Free is allowed while tasks that use it are still to run.
 * tsm_free returns EINVAL for a double free, an interior address, or the wrong chip. */
int tsm_malloc(tsm_orch *orch, int chip, uint64_t bytes, void **ret);
int tsm_free(tsm_orch *orch, int chip, void *data);

/* Copies between the program's memory and a chip's (or a domain's window on that chip), ordered against
 * exactly the tasks that touch these bytes. They block; src may be reused on return.
 * Returns: EINVAL, ERANGE, ESTALE, EABORTED, EUPSTREAM_FAILED, EDEADLOCK. */
int tsm_copy_to(tsm_orch *orch, int chip, void *dst, const void *src, uint64_t bytes);
int tsm_copy_from(tsm_orch *orch, int chip, void *dst, const void *src, uint64_t bytes);

/* Host memory that every chip and sub worker sees at the same address, at any time after start, 64-byte
 * aligned and zero. The worker owns it until destroy (allowed while tasks use it) or close. */
int tsm_buffer_create(tsm_worker *worker, uint64_t bytes, void **ret);
int tsm_buffer_destroy(tsm_worker *worker, void *data);

enum { TSM_READ = 1, TSM_WRITE = 2 };
/* Waits for exactly the tasks that stand in the way of the program reading or writing these bytes.
 * Returns: EINVAL, ERANGE, EUPSTREAM_FAILED (the writer failed), EDEADLOCK. */
int tsm_host_wait(tsm_worker *worker, const void *data, uint64_t bytes, int access);

/* ---- domains --------------------------------------------------------------------------------- */

/* A named part of every window. bytes 0: count * element size; count 0: bytes. align 0: 64. */
struct tsm_buffer_spec {
    const char *name;
    int dtype; /* enum tsm_dtype, or 0 for plain bytes */
    uint64_t count, bytes, align;
};

struct tsm_domain_opts {
    size_t size;      /* sizeof(struct tsm_domain_opts) */
    const char *name; /* 1..63 bytes, unique among the live domains of the worker */
    const int *chips; /* the members; rank r is chips[r] */
    uint32_t chip_count;
    uint32_t buffer_count;
    uint64_t window_bytes; /* per member */
    const struct tsm_buffer_spec *buffers;
    int keep; /* lives until release or close instead of the end of the function */
};
#define TSM_DOMAIN_OPTS_INIT                                                                       \
    {                                                                                              \
        sizeof(struct tsm_domain_opts), 0, 0, 0, 0, 0, 0, 0                                        \
    }

/* Allocates a symmetric window, all zero, on each named chip. ALLOWED ONLY INSIDE AN ORCHESTRATION
 * FUNCTION, anywhere in it; it sends nothing and waits only at the memory budget. The handle stays
 * valid until the end of the run, also after release; with keep until the end of the run in which it is
 * released (of the next run, when it is released outside one), or close.
 * Returns: ESTATE, EINVAL, EEXIST, ENOMEM, ENOSPC, EPEER (names the dead member), EDEADLOCK. */
int tsm_domain_alloc(tsm_orch *orch, const struct tsm_domain_opts *opts, tsm_domain **ret);

/* No new task may use it and its name is free again, at once. Its memory is zeroed and reused when the
 * last task that could touch it is done. Idempotent. */
int tsm_domain_release(tsm_domain *domain);

int tsm_domain_released(const tsm_domain *domain); /* 1 after release */
int tsm_domain_freed(tsm_domain *domain);          /* 1 when no task can touch it any more */
int tsm_domain_broken(
    tsm_domain *domain); /* a kept one touched by a failed run or with a replaced member */
uint64_t tsm_domain_id(const tsm_domain *domain); /* grows with every allocation of the worker */
uint32_t tsm_domain_size(const tsm_domain *domain);
/* 1 when no task can touch the domain with this id any more, or there never was one; 0 until then. Also after its handle
 * has ended. */
int tsm_worker_domain_freed(tsm_worker *worker, uint64_t id);

/* What a kernel gets as a pointer: the members' windows. Read-only for the tasks. */
struct tsm_device_ctx {
    uint32_t abi; /* 1 */
    uint32_t rank, size;
    uint32_t reserved;
    uint64_t window_bytes; /* real size */
    const uint64_t *base;  /* base[r]: address of rank r's window, on this chip */
};

/* One member's view. Borrowed pointers, valid until the domain is freed. */
struct tsm_domain_context {
    const char *name;
    uint32_t rank, size;
    void *window;          /* this member's window */
    uint64_t window_bytes; /* real size: what was asked for plus alignment */
    const struct tsm_device_ctx *device_ctx;
    uint32_t buffer_count;
};
/* Returns: ENOENT when the chip is no member, ESTALE after release. */
int tsm_domain_context(tsm_domain *domain, int chip, struct tsm_domain_context *ret);
/* A buffer of a member's window as a tensor: 1-D, dtype and count as declared, tag INPUT.
 * Returns: ENOENT when the chip is no member or there is no such buffer, ESTALE. */
int tsm_domain_buffer(tsm_domain *domain, int chip, const char *name, struct tsm_tensor *ret);
/* What a task reads or writes of a rank's window, for tsm_call.tensors: `count` elements from `first` of a buffer,
 * 1-D and with the dtype of its declaration, or of the whole window as bytes (buffer NULL). count TSM_REST: all
 * from first on. 0 elements are an empty tensor. tag: enum tsm_tag, 0 is INPUT. Any chip or sub worker may be given it.
 * Returns: EINVAL (d or ret NULL, unknown tag), ERANGE (rank, first, count), ENOENT (no such buffer), ESTALE. */
#define TSM_REST UINT64_MAX
int tsm_domain_tensor(tsm_domain *domain, uint32_t rank, const char *buffer, uint64_t first,
                      uint64_t count, int tag, struct tsm_tensor *ret);

#ifdef __cplusplus
}
#endif
#endif

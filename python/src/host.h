/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The program's side of the extension: worker, runs, domains, arguments. All of it belongs to the thread that made
 * the worker, and to the GIL; objects may be dropped in any thread, so nothing is done at the end of an object but to note
 * what its worker is to give back (worker_discard).
 */
#ifndef PYTHON_HOST_H
#define PYTHON_HOST_H

#include "core.h"

/* What was dropped and is given back at the next call of the owner. */
struct discarded {
    void *buffer; /* or NULL */
    tsm_run *run; /* or NULL */
};

enum state { STATE_NEW, STATE_READY, STATE_FAILED, STATE_CLOSED };

struct worker {
    PyObject_HEAD tsm_worker *w;
    struct tsm_worker_opts opts; /* as given; backend and keeper are not kept */
    unsigned long thread;
    enum state state;
    struct call *call; /* the orchestration function that executes */
    PyObject *live;    /* dict: name of a live domain -> CommDomainHandle */
    PyObject *counts;  /* dict: value of a callable -> how many handles */
    PyObject *on_sleep;
    PyThreadState *released; /* while a call of the library sleeps */
    bool in_hook;            /* signal handlers run, in a call of the library that waits */
    struct discarded *discarded;
    Py_ssize_t discarded_count, discarded_max;
    tsm_run **flying; /* handles of the submitted runs that were not over when last looked at */
    Py_ssize_t flying_count, flying_max;
    uint64_t *inherited; /* start method fork, before start: numbers of child_remember */
    Py_ssize_t inherited_count, inherited_max;
    Py_ssize_t memories; /* memory objects alive */
    void *host_base;     /* after close, while there are memory objects: what is still mapped */
    uint64_t host_bytes;
};

extern PyTypeObject *worker_type, *callable_type, *orch_type, *domain_type, *spec_type, *args_type,
    *run_type;

/* The owner's thread, made, and not in the middle of another call; gives back what was dropped. */
int worker_enter(struct worker *self);
/* The same, and started. */
int worker_enter_ready(struct worker *self);
/* Notes what the owner's next call gives back. Any thread that holds the GIL; never fails, never blocks. */
void worker_discard(struct worker *self, void *buffer, tsm_run *run);
/* Raises what the library said; an exception of a signal handler that ended a wait stays. Returns NULL. */
PyObject *worker_raise(struct worker *self, int code);
PyObject *worker_host_wait(struct worker *self, PyObject *tensor, PyObject *access);

/* ---- memory.c: memory of a Buffer; methods of the worker ---- */
PyObject *memory_new(struct worker *self, void *data);
/* After close, when nothing refers to host memory any more. */
void memory_unmap_host(struct worker *self);
PyObject *worker_buffer(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *worker_host_wait_method(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names);
int memory_module_init(PyObject *module);

/* ---- callable.c; methods of the worker ---- */
struct callable_handle {
    PyObject_HEAD struct worker *worker;
    PyObject *name;
    tsm_callable value;
    bool is_python, registered;
};
PyObject *worker_register_symbol(PyObject *o, PyObject *args);
PyObject *worker_register_python(PyObject *o, PyObject *args);
PyObject *worker_unregister(PyObject *o, PyObject *callable);
/* The keeper has a copy of what children are to inherit, or there will be none. */
void callables_forget_inherited(struct worker *self);
int callable_module_init(PyObject *module);

/* ---- args.c ---- */

/* One argument. word: the bits a task of C gets; python_word: what a task of Python gets, kind says as what. */
struct entry {
    enum argument kind;
    uint64_t word, python_word;
    PyObject *ref; /* tensor, domain or bytes */
};
enum { ENTRIES_INLINE = 12, TENSORS_INLINE = 6 };
struct args {
    struct entry *entries;
    struct tsm_tensor *tensors;
    uint32_t entry_count, entry_max, tensor_count, tensor_max, domain_count;
    uint32_t busy; /* submissions that read them now */
    struct entry entries_inline[ENTRIES_INLINE];
    struct tsm_tensor tensors_inline[TENSORS_INLINE];
};
void args_init(struct args *a);
void args_fini(struct args *a);
/* Anything, by what it is; TypeError. index for texts. */
int args_add_any(struct args *a, PyObject *o, Py_ssize_t index);

struct args_object {
    PyObject_HEAD struct args args;
};
struct tagged {
    PyObject_HEAD PyObject *tensor;
    int tag;
};
struct each {
    PyObject_HEAD PyObject *values; /* tuple */
};
extern PyTypeObject *tagged_type, *each_type;

/* What a call needs beside its args: built by sheet_make for one submission, ended by sheet_fini. */
struct sheet {
    struct args *args;
    uint64_t *scalars;
    tsm_domain **domains;
    uint64_t scalars_inline[32];
    tsm_domain *domains_inline[8];
};
/* Fills callable, tensors, scalars and domains of *ret. */
int sheet_make(struct sheet *s, struct args *a, struct callable_handle *c, struct tsm_call *ret);
void sheet_fini(struct sheet *s);
/* After a submission: tensors that had no memory have some now. */
void args_bind(struct args *a);
int args_module_init(PyObject *module);

/* ---- domain.c ---- */

struct domain {
    PyObject_HEAD struct worker *worker;
    struct call *call; /* whose function allocated it, while that executes */
    tsm_domain *d;     /* NULL once released */
    uint64_t id;
    PyObject *name, *chips, *buffers; /* str, tuple of int, tuple of CommBufferSpec */
    PyObject *contexts;               /* dict: chip -> ChipDomainContext, those asked for */
    bool keep;
};
PyObject *domain_allocate(struct worker *self, tsm_orch *orch, PyObject *const *values);
int domain_release(struct domain *d);
/* The function has returned: what it allocated and did not keep is released; kept ones too if it failed. */
void domains_end_of_call(struct worker *self, struct call *call, bool failed);
/* The worker is closed: all are. */
void domains_end_of_worker(struct worker *self);
int domain_module_init(PyObject *module);

/* ---- run.c, orch.c ---- */

/* One execution of an orchestration function. */
struct call {
    struct worker *worker;
    PyObject *function, *args, *config;
    PyObject *result;    /* what it returned */
    PyObject *exception; /* or what it raised */
    tsm_run *run;        /* handle, for who called */
    tsm_run *flying;     /* and for the worker */
    uint64_t number;     /* of the run */
    bool submitted;      /* Worker.submit */
};
struct orch {
    PyObject_HEAD struct worker *worker;
    tsm_orch *o; /* NULL once the function has returned */
    uint64_t run;
};
PyObject *run_function(struct worker *self, PyObject *const *values);
PyObject *submit_function(struct worker *self, PyObject *const *values);
/* Ends all runs in flight: with ECANCELED, what still runs loses its process. */
void runs_cancel(struct worker *self);
/* Calls tsm_run_cancel to its end, whatever the signals. */
void run_cancel_firmly(tsm_run *run, int64_t grace_ns);
int run_module_init(PyObject *module);

PyObject *orch_new(struct worker *self, tsm_orch *o);
/* The worker of an orchestrator whose function executes; borrowed. */
struct worker *orch_enter(PyObject *o);
int orch_module_init(PyObject *module);

/* ---- submit.c: methods of the orchestrator ---- */
PyObject *orch_submit(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *orch_submit_group(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *orch_submit_next_level(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names);
PyObject *orch_submit_sub(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names);
PyObject *orch_submit_next_level_group(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names);
PyObject *orch_submit_sub_group(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names);
/* A chip by number; None and NULL: TSM_ANY_CHIP. */
int chip_read(const struct worker *w, PyObject *o, const char *what, bool sub_allowed, int *ret);
int submit_module_init(PyObject *module);
int worker_module_init(PyObject *module);

#endif

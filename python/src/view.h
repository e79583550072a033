/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The task's side of the extension: Task and Domain, which live until their task ends, and how places in windows and
 * buffers of the task are read. Chip and sub processes. The library is called from the thread that runs the task only;
 * whatever may wait there, or copies much, does so without the GIL.
 */
#ifndef PYTHON_VIEW_H
#define PYTHON_VIEW_H

#include "core.h"

enum { USER_OPS_MAX = 16, KINDS = 3 };
enum kind { KIND_TENSOR, KIND_SCALAR, KIND_DOMAIN };

struct task_object;

/* An operation of a reduction that is a Python function. */
struct user_op {
    struct task_object *task;
    PyObject *function;
    int code; /* what tsm_op_user gave */
};

/* Task. */
struct task_object {
    PyObject_HEAD tsm_task *t; /* NULL once it has ended */
    unsigned long thread;      /* that runs it */
    PyObject *
        arguments; /* tuple: the task itself and what it was given, in order; NULL: not asked for yet */
    PyObject *kinds[KINDS]; /* tuples of the same by kind */
    struct view *views;     /* made in this task; references */
    struct user_op ops[USER_OPS_MAX];
    uint32_t op_count;
    PyObject *op_error; /* what a user operation raised in the collective that runs */
};

/* A buffer of this process that a call uses: of the buffer protocol, a tensor, or of the own window. */
struct local {
    Py_buffer view;  /* obj NULL: not used */
    PyObject *owner; /* of what is read otherwise; or NULL */
    void *data;
    uint64_t bytes;
    int dtype; /* TSM_U8 is bytes of anything */
};

/* A local buffer of a call that returns before it is done. */
struct held {
    struct held *next;
    struct local local;
    uint32_t rank;
};

/* Domain. */
struct view {
    PyObject_HEAD struct task_object *task; /* reference */
    tsm_ctx *c;
    struct view *next; /* of the task */
    PyObject *arrays;  /* dict: name of a buffer -> array over it in the own window; or NULL */
    struct held *held;
    uint32_t held_count;
};

extern PyTypeObject *task_type, *view_type;

/* ---- task.c ---- */

PyObject *task_new(tsm_task *t);
/* Calls the function, with the task alone or with its arguments, too. */
PyObject *task_call(struct task_object *self, PyObject *function, bool task_only);
/* From here on every use of it and of its domains is refused. An exception that is set stays. */
void task_end(struct task_object *self);

/* ---- view.c ---- */

/* The Domain of c; the same each time. Not called with NULL. */
PyObject *view_of(struct task_object *task, tsm_ctx *c);
/* Before the library is called: NULL with StateError when the task has ended or this is another thread. */
tsm_ctx *view_use(struct view *self);
/* Raises what a call said that returned `code`. Returns NULL. */
PyObject *view_raise(struct view *self, int code, const char *call);
/* The same for what is refused here (PyErr_Format's format). Returns -1. */
int view_refuse(struct view *self, int code, const char *format, ...);
/* None, or view_raise. */
PyObject *view_done(struct view *self, int code, const char *call);
/* A rank of the domain. */
int rank_read(struct view *self, PyObject *o, const char *what, uint32_t *ret);
void view_end(struct view *self);

/* Around calls without the GIL. */
void gil_leave(void);
void gil_enter(void);

/* ---- place.c ---- */

/* A place in the windows, and how much of what there is from there on. */
struct place {
    tsm_sym sym;
    int dtype;        /* 0: only an offset was given; count is in bytes then */
    uint64_t count;   /* elements */
    const char *name; /* of the buffer, borrowed from the argument; or NULL */
    const char *what; /* name of the argument */
};

/* A str (name of a buffer), (name, first), (name, first, count), an int (bytes from the start of the window), or a
 * contiguous array in the own window. */
int place_read(struct view *self, PyObject *o, const char *what, struct place *ret);
uint64_t place_bytes(const struct place *p);
/* "dst 'grad'", "dst at offset 64" */
const char *place_text(const struct place *p, char *text, size_t bytes);
/* A signal: a place with a word of 8 bytes. */
int signal_place_read(struct view *self, PyObject *o, const char *what, struct place *ret);
/* The declared buffer `name`; -1 with NotFoundError. */
int buffer_find(struct view *self, const char *name, struct tsm_buffer_info *ret);

/* A contiguous buffer of this process, or the name of one in the own window. */
int local_read(struct view *self, PyObject *o, const char *what, bool writable, struct local *ret);
void local_release(struct local *l);
/* Keeps it until the calls on the rank are complete. Takes the contents of *l, on failure too. */
int local_hold(struct view *self, struct local *l, uint32_t rank);
void held_release(struct view *self, const uint32_t *rank);

/* An element of a place as its bits, and the other way round. Only for dtypes of 32 and 64 bits. */
int element_read(PyObject *o, const char *what, int dtype, uint64_t *ret);
PyObject *element_object(int dtype, uint64_t bits);

/* ---- signal.c ---- */

/* "set" or "add" (NULL: set), and whether it is strong (NULL: not), as the library's op. */
int signal_op_read(PyObject *op, PyObject *strong, int *ret);

/* ---- methods of Domain, by file ---- */

extern PyMethodDef rma_methods[], signal_methods[], collective_methods[];

#endif

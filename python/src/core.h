/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The extension module transom._core: what its files share. CPython's limited API of 3.11, so one binary serves every
 * later version. Every function returns a new reference, or NULL or -1 with a Python exception set, unless it says otherwise.
 *
 * The program's side (worker, run, orch, args, domain, tensor) and the task's side (child, task, view, collective) are both
 * in here: a chip is a process of the same interpreter. They share tensor, dtype, call and error.
 */
#ifndef PYTHON_CORE_H
#define PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include <transom/task.h>
#include <transom/transom.h>

#define EXPORTED __attribute__((visibility("default")))

/* ---- error.c: TSM_E codes as exceptions (transom/_errors.py) ---- */

/* The exception of the code with this text. Returns -1. */
int core_raise(int code, const char *text);
/* The same as an object. */
PyObject *core_exception(const struct tsm_error *e);
/* Raises what the worker said last; code is what the call returned. Returns -1. */
int core_raise_worker(const tsm_worker *w, int code);
/* The exception that is set, as an object with its traceback; it is cleared. */
PyObject *core_take_exception(void);

/* ---- objects with references (all types here take part in garbage collection) ---- */

/* A zeroed object of a heap type. */
PyObject *object_new(PyTypeObject *type);
/* The end of a tp_dealloc, after the object's own part. */
void object_free(PyObject *o);
/* Makes a type and adds it to the module under the last part of its name (not when it begins with _). */
PyTypeObject *type_new(PyObject *module, PyType_Spec *spec, PyTypeObject *base);

/* A row of a PyMethodDef for a function that reads its arguments with signature_read. */
#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

/* ---- call.c: arguments of a vectorcall (METH_FASTCALL | METH_KEYWORDS) ---- */

enum { SIGNATURE_MAX = 12 };
/* Names of the parameters, NULL behind the last; `positional` of them may be given by place, `required` must be given. */
struct signature {
    const char *function;
    const char *names[SIGNATURE_MAX + 1];
    int positional, required;
    PyObject *interned[SIGNATURE_MAX]; /* made at the first call */
};
/* Puts borrowed references into ret[], NULL where nothing was given. TypeError as Python's own. */
int signature_read(struct signature *s, PyObject *const *args, Py_ssize_t count, PyObject *names,
                   PyObject **ret);

/* Integers: TypeError for what is no int (bool and float are none), ValueError naming the argument and its value beyond the range. */
int int_read(PyObject *o, const char *what, int64_t min, int64_t max, int64_t *ret);
/* An int of 64 bits of either sign, as its bits. */
int bits_read(PyObject *o, const char *what, uint64_t *ret);
/* Seconds, as a number; None and NULL are -1 (no limit). ValueError for negative, NaN, infinite. */
int seconds_read(PyObject *o, const char *what, int64_t *ret_ns);
/* A str without a null character, as UTF-8; borrowed. */
int text_read(PyObject *o, const char *what, const char **ret);
/* What can be iterated over, but no text, as a tuple; `of` says what of. */
PyObject *tuple_read(PyObject *o, const char *what, const char *of);
/* A sequence of ints from min on: *ret is of PyMem_Malloc, also when it is empty. */
int ints_read(PyObject *o, const char *what, int64_t min, int64_t max, int64_t **ret,
              Py_ssize_t *ret_count);

/* ---- dtype.c ---- */

/* "float32", "f32", numpy.float32, numpy.dtype(...), torch.float32, DataType.FLOAT32 */
int dtype_read(PyObject *o, const char *what, int *ret);
/* "float32" for TSM_F32, and so on; borrowed. */
const char *dtype_long_name(int dtype);
/* Of the buffer protocol; bfloat16 goes as its bits ("H"). */
const char *dtype_format(int dtype);
/* 0 when there is none for it. */
int dtype_of_format(const char *format, Py_ssize_t item_bytes);

/* ---- tensor.c: Tensor, Buffer; memory ---- */

/* Whether the bytes that a memory object keeps are still mapped (worker.c); true of what is no memory object. */
bool memory_is_there(PyObject *memory);

/* A tensor with its strides in bytes always filled in. */
struct tensor {
    PyObject_HEAD struct tsm_tensor
        t;            /* tag is not used; stride_given is 0 when it is contiguous */
    PyObject *memory; /* what keeps the bytes; may be NULL */
    bool pending;     /* without an address: the task that it is an output of gets it one */
    bool readonly;
};

extern PyTypeObject *tensor_type, *buffer_type;
/* Tensor or Buffer */
static inline bool tensor_check(PyObject *o)
{
    return Py_TYPE(o) == tensor_type || Py_TYPE(o) == buffer_type;
}
/* Fills strides where t gives none. memory (may be NULL) is referenced. buffer: a Buffer, else a Tensor. */
PyObject *tensor_new(const struct tsm_tensor *t, PyObject *memory, bool buffer, bool readonly);
/* Any TensorLike as a tensor: Tensor, Buffer, buffer protocol, DLPack; *ret's data stays valid as long as o lives. */
int tensor_read(PyObject *o, const char *what, struct tsm_tensor *ret);
/* Bytes of all its elements; ValueError when that is beyond what a process can address. */
int tensor_bytes(const struct tsm_tensor *t, uint64_t *ret);
/* An int or a sequence of ints from 0 on. */
int shape_read(PyObject *o, uint64_t *shape, uint8_t *ret_ndim);
/* An array over t: of NumPy when it is there, else a memoryview. It references memory (may be NULL). */
PyObject *array_new(const struct tsm_tensor *t, PyObject *memory, bool readonly);
int tensor_init(PyObject *module);

/* ---- child.c: keeper and child processes; task.c, view.c, collective.c ---- */

/* The function of the interpreter for a callable of Python, by the pickle or, forked, by what was registered. */
enum callable_source { SOURCE_PICKLE = 'P', SOURCE_INHERITED = 'I' };
/* Remembers a function for forked children: its number, which with SOURCE_INHERITED in front is the callable's data. */
int child_remember(PyObject *function, uint64_t *ret);
/* Once no child that is still to be forked can need it. Never fails. */
void child_forget(uint64_t number);
/* Path of this extension, where children find its functions; borrowed. */
const char *child_object(void);
/* Around the fork of a keeper from this process (start method fork): the interpreter is made ready for it. */
void child_fork_begin(void);
void child_fork_end(void);
int child_init(PyObject *module);
int task_init(PyObject *module);
int view_init(PyObject *module);

/*
 * How the arguments of a Python task travel. A record has tensors, domains and scalars; what was given in which order, and as what,
 * stands in the last scalars:
 *
 *   scalars[0 ..]   what the arguments hold, in order: a word for a number; for an object its bytes, then they themselves in words
 *   then            a byte (enum argument) for each argument, in words
 *   the last one    the number of arguments
 */
enum argument {
    ARGUMENT_TENSOR,
    ARGUMENT_DOMAIN,
    ARGUMENT_INT,   /* signed */
    ARGUMENT_UINT,  /* beyond INT64_MAX */
    ARGUMENT_FLOAT, /* bits of a double */
    ARGUMENT_BOOL,
    ARGUMENT_F32,   /* given with a dtype of 32 bits: bits of a float */
    ARGUMENT_NONE,  /* nothing */
    ARGUMENT_OBJECT /* pickled */
};

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Reading the arguments of a call: by place and by name without a tuple and a dict in between, and numbers with their
 * ranges. Any process; owns the interned names.
 */
#include "core.h"

#include <math.h>
#include <string.h>

static int intern_names(struct signature *s)
{
    for (int i = 0; s->names[i]; i++) {
        if (!s->interned[i] && !(s->interned[i] = PyUnicode_InternFromString(s->names[i]))) {
            return -1;
        }
    }
    return 0;
}

static int find_name(const struct signature *s, PyObject *name)
{
    for (int i = 0; s->names[i]; i++) {
        if (s->interned[i] == name) {
            return i;
        }
    }
    for (int i = 0; s->names[i]; i++) {
        if (PyUnicode_Compare(s->interned[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static int read_names(const struct signature *s, PyObject *const *values, PyObject *names,
                      PyObject **ret)
{
    Py_ssize_t count = PyTuple_Size(names);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        int at = find_name(s, name);
        if (at < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                         s->function, name);
            return -1;
        }
        if (ret[at]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", s->function,
                         name);
            return -1;
        }
        ret[at] = values[i];
    }
    return 0;
}

int signature_read(struct signature *s, PyObject *const *args, Py_ssize_t count, PyObject *names,
                   PyObject **ret)
{
    if (!s->interned[0] && intern_names(s) != 0) {
        return -1;
    }
    if (count > s->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                     s->function, s->positional, count);
        return -1;
    }
    for (int i = 0; s->names[i]; i++) {
        ret[i] = i < count ? args[i] : NULL;
    }
    if (names && read_names(s, args + count, names, ret) != 0) {
        return -1;
    }
    for (int i = 0; i < s->required; i++) {
        if (!ret[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", s->function,
                         s->names[i]);
            return -1;
        }
    }
    return 0;
}

/* ---- numbers ---- */

/* An int, or what says that it is one (numpy.int64): not a bool. NULL with TypeError. */
static PyObject *as_int(PyObject *o, const char *what)
{
    PyObject *n = PyBool_Check(o) ? NULL : PyNumber_Index(o);
    if (!n && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError))) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %R", what, Py_TYPE(o));
    }
    return n;
}

int int_read(PyObject *o, const char *what, int64_t min, int64_t max, int64_t *ret)
{
    PyObject *n = as_int(o, what);
    if (!n) {
        return -1;
    }
    int overflow = 0;
    int64_t value = PyLong_AsLongLongAndOverflow(n, &overflow);
    Py_DECREF(n);
    if (overflow != 0 || value < min || value > max) {
        PyErr_Format(PyExc_ValueError, "%s is %R: %lld to %lld are allowed", what, o,
                     (long long)min, (long long)max);
        return -1;
    }
    *ret = value;
    return 0;
}

int bits_read(PyObject *o, const char *what, uint64_t *ret)
{
    PyObject *n = as_int(o, what);
    if (!n) {
        return -1;
    }
    int overflow = 0;
    uint64_t value = (uint64_t)PyLong_AsLongLongAndOverflow(n, &overflow);
    if (overflow > 0) {
        value = PyLong_AsUnsignedLongLong(n);
        overflow = PyErr_Occurred() != NULL;
        PyErr_Clear();
    }
    Py_DECREF(n);
    if (overflow != 0) {
        PyErr_Format(PyExc_ValueError, "%s is %R: it does not fit 64 bits", what, o);
        return -1;
    }
    *ret = value;
    return 0;
}

int seconds_read(PyObject *o, const char *what, int64_t *ret_ns)
{
    *ret_ns = -1;
    if (!o || o == Py_None) {
        return 0;
    }
    double seconds = PyBool_Check(o) ? -1 : PyFloat_AsDouble(o);
    if (PyBool_Check(o) || (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_TypeError))) {
        PyErr_Format(PyExc_TypeError, "%s must be a number of seconds or None, not %R", what,
                     Py_TYPE(o));
        return -1;
    }
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear(); /* an int beyond all floats */
        seconds = INFINITY;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!(seconds >= 0) || isinf(seconds)) {
        PyErr_Format(PyExc_ValueError, "%s is %R: a finite number of seconds from 0 on", what, o);
        return -1;
    }
    *ret_ns = seconds > 9e9 ? INT64_C(9000000000000000000) : (int64_t)(seconds * 1e9);
    return 0;
}

/* ---- texts and sequences ---- */

int text_read(PyObject *o, const char *what, const char **ret)
{
    Py_ssize_t length;
    if (!PyUnicode_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %R", what, Py_TYPE(o));
        return -1;
    }
    *ret = PyUnicode_AsUTF8AndSize(o, &length);
    if (*ret && strlen(*ret) != (size_t)length) {
        PyErr_Format(PyExc_ValueError, "%s has a null character", what);
        return -1;
    }
    return *ret ? 0 : -1;
}

PyObject *tuple_read(PyObject *o, const char *what, const char *of)
{
    PyObject *iterator = PyUnicode_Check(o) || PyBytes_Check(o) ? NULL : PyObject_GetIter(o);
    if (!iterator) {
        PyErr_Format(PyExc_TypeError, "%s must be a sequence of %s, not %R", what, of, Py_TYPE(o));
        return NULL;
    }
    PyObject *tuple = PySequence_Tuple(iterator); /* what the iterator itself raises comes out */
    Py_DECREF(iterator);
    return tuple;
}

int ints_read(PyObject *o, const char *what, int64_t min, int64_t max, int64_t **ret,
              Py_ssize_t *ret_count)
{
    PyObject *list = tuple_read(o, what, "ints");
    if (!list) {
        return -1;
    }
    Py_ssize_t count = PyTuple_Size(list);
    int64_t *values = PyMem_Malloc((size_t)(count ? count : 1) * sizeof(*values));
    if (!values) {
        Py_DECREF(list);
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        char name[64];
        PyOS_snprintf(name, sizeof(name), "%.40s[%zd]", what, i);
        if (int_read(PyTuple_GetItem(list, i), name, min, max, &values[i]) != 0) {
            PyMem_Free(values);
            Py_DECREF(list);
            return -1;
        }
    }
    Py_DECREF(list);
    *ret = values;
    *ret_count = count;
    return 0;
}

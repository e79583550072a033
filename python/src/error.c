/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Codes of the library as exceptions: transom/_errors.py has the classes. Any process; owns one reference. */
#include "core.h"

static PyObject *make; /* transom._errors._make */

PyObject *core_exception(const struct tsm_error *e)
{
    if (!make) {
        PyObject *module = PyImport_ImportModule("transom._errors");
        make = module ? PyObject_GetAttrString(module, "_make") : NULL;
        Py_XDECREF(module);
        if (!make) {
            return NULL;
        }
    }
    return PyObject_CallFunction(make, "ssiKKiiK", tsm_code_name(e->code), e->text, e->chip,
                                 (unsigned long long)e->task, (unsigned long long)e->run,
                                 (int)e->detail, e->sys_errno, (unsigned long long)e->skipped);
}

static int raise_error(const struct tsm_error *e)
{
    PyObject *exception = core_exception(e);
    if (exception) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return -1;
}

int core_raise(int code, const char *text)
{
    struct tsm_error e = {.code = code, .chip = -1};
    PyOS_snprintf(e.text, sizeof(e.text), "%s", text);
    return raise_error(&e);
}

int core_raise_worker(const tsm_worker *w, int code)
{
    if (code == TSM_EWRONG_THREAD) {
        return core_raise(code, "the worker belongs to the thread and process that made it");
    }
    const struct tsm_error *said = tsm_worker_error(w);
    if (said->code != code) {
        return core_raise(code, tsm_code_name(code));
    }
    return raise_error(said);
}

PyObject *core_take_exception(void)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace && value) {
        PyException_SetTraceback(value, trace);
    }
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

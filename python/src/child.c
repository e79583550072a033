/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Python in the keeper and in its children, the chips and sub workers. The keeper is forked by the program (start method
 * fork) or a fresh interpreter (spawn); it forks the children. So each has an interpreter that was made ready for forks.
 *
 * The keeper holds the GIL all its life: it has one thread and runs no Python. A child lets go of it at once and takes
 * it for the time of a task, so that threads that a task has started go on between tasks. Owns the functions that were
 * registered, for children to inherit, and the thread state of a child. docs/python.md.
 */
#include "view.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How far below the program this process is. */
enum level { LEVEL_PROGRAM, LEVEL_KEEPER, LEVEL_CHILD };
static enum level level;

/* This thread's next fork is Transom's own: of the keeper, or of a child by it. */
static __thread bool armed;

/* This process was forked by a task and is no chip. */
static bool stray;

static PyThreadState *idle;  /* child: between tasks, else NULL */
static PyObject *remembered; /* dict: number -> function */
static uint64_t remembered_next;
static PyObject *helper; /* transom._child */

/* What load makes of a callable's data. */
struct callable {
    PyObject *function;
    bool task_only; /* it takes the task and nothing else */
};

/* Borrowed. */
static PyObject *child_module(void)
{
    if (!helper) {
        helper = PyImport_ImportModule("transom._child");
    }
    return helper;
}

/* ---- forking ---- */

/* Text that waits in sys.stdout would be written by each child, too. */
static void flush_stream(const char *name)
{
    PyObject *stream = PySys_GetObject(name);
    if (stream && stream != Py_None) {
        Py_INCREF(stream); /* it may be replaced meanwhile */
        Py_XDECREF(PyObject_CallMethod(stream, "flush", NULL));
        Py_DECREF(stream);
        PyErr_Clear();
    }
}

static void flush_streams(void)
{
    flush_stream("stdout");
    flush_stream("stderr");
}

static void before_fork(void)
{
    if (armed) {
        PyOS_BeforeFork();
    }
}

static void after_fork_parent(void)
{
    if (armed) {
        PyOS_AfterFork_Parent();
        armed = level == LEVEL_KEEPER; /* a program's start forks once */
    }
}

static void begin_child(void)
{
    armed = false; /* what a task forks is its own business */
    signal(SIGPIPE, SIG_IGN);
    PyErr_SetExcInfo(NULL, NULL, NULL); /* the worker may have been started in an except block */
    PyObject *module = child_module();
    Py_XDECREF(module ? PyObject_CallMethod(module, "begin", NULL) : NULL);
    PyErr_Clear();
    idle = PyEval_SaveThread();
}

static void after_fork_child(void)
{
    if (!armed) {
        stray = level == LEVEL_CHILD;
        return;
    }
    level++;
    PyOS_AfterFork_Child();
    if (level == LEVEL_CHILD) {
        begin_child();
    }
}

void child_fork_begin(void)
{
    if (!child_module()) {
        PyErr_Clear(); /* each child says so when it needs it */
    }
    flush_streams();
    armed = true;
}

void child_fork_end(void)
{
    armed = level == LEVEL_KEEPER;
}

/* ---- the functions of the program ---- */

int child_remember(PyObject *function, uint64_t *ret)
{
    if (!remembered && !(remembered = PyDict_New())) {
        return -1;
    }
    PyObject *number = PyLong_FromUnsignedLongLong(remembered_next);
    int rc = number ? PyDict_SetItem(remembered, number, function) : -1;
    Py_XDECREF(number);
    if (rc == 0) {
        *ret = remembered_next++;
    }
    return rc;
}

static PyObject *recall(uint64_t number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *function = key && remembered ? PyDict_GetItemWithError(remembered, key) : NULL;
    Py_XDECREF(key);
    if (!function && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_LookupError, "the function was registered after this process began");
    }
    return Py_XNewRef(function);
}

void child_forget(uint64_t number)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    if (key && remembered) {
        PyDict_DelItem(remembered, key);
    }
    Py_XDECREF(key);
    PyErr_Restore(type, value, trace);
}

/* ---- failures ---- */

/* "Type: first line of the text". */
static void describe(PyObject *exception, char *text, size_t bytes)
{
    PyObject *module = child_module();
    PyObject *line = module ? PyObject_CallMethod(module, "describe", "O", exception) : NULL;
    const char *utf8 = line && PyUnicode_Check(line) ? PyUnicode_AsUTF8AndSize(line, NULL) : NULL;
    PyOS_snprintf(text, bytes, "%s", utf8 ? utf8 : "a Python exception that cannot be described");
    Py_XDECREF(line);
    PyErr_Clear();
}

static bool is_error(PyObject *exception, const char *name)
{
    PyObject *module = PyImport_ImportModule("transom._errors");
    PyObject *type = module ? PyObject_GetAttrString(module, name) : NULL;
    int is = type ? PyObject_IsInstance(exception, type) : 0;
    Py_XDECREF(type);
    Py_XDECREF(module);
    PyErr_Clear();
    return is == 1;
}

/* Fails the task with the exception that is set. Returns what the task is to return. */
static int fail(tsm_task *t)
{
    PyObject *exception = core_take_exception();
    char text[256], *data = NULL;
    Py_ssize_t bytes = 0;
    if (exception && is_error(exception, "AbortedError")) {
        Py_DECREF(exception);
        return TSM_EABORTED; /* a consequence: the cause is elsewhere */
    }
    bool peer = exception && is_error(exception, "PeerError");
    describe(exception ? exception : Py_None, text, sizeof(text));
    PyObject *module = exception ? child_module() : NULL;
    PyObject *dump = module ? PyObject_CallMethod(module, "dump_exception", "O", exception) : NULL;
    if (dump && PyBytes_Check(dump)) {
        PyBytes_AsStringAndSize(dump, &data, &bytes);
    }
    PyErr_Clear();
    int rc = tsm_fail_data(t, data, (uint64_t)bytes, "%s", text);
    if (rc != TSM_ETASK_FAILED) {
        rc = tsm_fail(t, "%s", text);
    }
    Py_XDECREF(dump);
    Py_XDECREF(exception);
    PyErr_Clear();                /* what the exception's end may have left */
    return peer ? TSM_EPEER : rc; /* the run's cause is rather who aborted the domain */
}

/* ---- what the library calls in a child ---- */

static PyObject *function_of(const char *data, uint64_t bytes)
{
    uint64_t number;
    if (bytes == 1 + sizeof(number) && data[0] == SOURCE_INHERITED) {
        memcpy(&number, data + 1, sizeof(number));
        return recall(number);
    }
    if (bytes < 1 || data[0] != SOURCE_PICKLE) {
        PyErr_SetString(PyExc_ValueError, "the data of the callable are not those of a function");
        return NULL;
    }
    PyObject *module = child_module();
    return module ? PyObject_CallMethod(module, "load", "y#", data + 1, (Py_ssize_t)(bytes - 1))
                  : NULL;
}

static struct callable *load(const char *data, uint64_t bytes)
{
    PyObject *function = function_of(data, bytes);
    PyObject *only =
        function ? PyObject_CallMethod(child_module(), "takes_task_only", "(O)", function) : NULL;
    struct callable *c = only ? PyMem_Malloc(sizeof(*c)) : NULL;
    if (c) {
        c->function = Py_NewRef(function);
        c->task_only = only == Py_True;
    } else if (only) {
        PyErr_NoMemory();
    }
    Py_XDECREF(only);
    Py_XDECREF(function);
    return c;
}

EXPORTED int transom_python_load(const void *data, uint64_t bytes, void **ret_arg, char *text,
                                 size_t text_bytes);
int transom_python_load(const void *data, uint64_t bytes, void **ret_arg, char *text,
                        size_t text_bytes)
{
    if (!idle) {
        PyOS_snprintf(text, text_bytes, "this process was not begun by Python");
        return TSM_EUNSUPPORTED;
    }
    PyEval_RestoreThread(idle);
    struct callable *c = load(data, bytes);
    if (c) {
        *ret_arg = c;
    } else {
        PyObject *exception = core_take_exception();
        describe(exception ? exception : Py_None, text, text_bytes);
        Py_XDECREF(exception);
    }
    flush_streams();
    idle = PyEval_SaveThread();
    return c ? 0 : TSM_EINVAL;
}

EXPORTED void transom_python_unload(void *arg);
void transom_python_unload(void *arg)
{
    struct callable *c = arg;
    if (c && idle) {
        PyEval_RestoreThread(idle);
        Py_DECREF(c->function);
        PyMem_Free(c);
        PyErr_Clear();
        idle = PyEval_SaveThread();
    }
}

/* A process that a task forked has returned from the task. */
static void end_stray(bool ok)
{
    if (!ok) {
        PyErr_Print();
    }
    flush_streams();
    _exit(ok ? 0 : 1);
}

static int run(tsm_task *t, const struct callable *c)
{
    struct task_object *task = (struct task_object *)task_new(t);
    PyObject *function = Py_NewRef(c->function);
    PyObject *result = task ? task_call(task, function, c->task_only) : NULL;
    if (stray) {
        end_stray(result != NULL);
    }
    if (task) {
        task_end(task);
    }
    int rc = result ? 0 : fail(t);
    Py_XDECREF(result);
    Py_XDECREF((PyObject *)task);
    Py_DECREF(function);
    flush_streams();
    return rc;
}

EXPORTED int transom_python_task(tsm_task *t);
int transom_python_task(tsm_task *t)
{
    const struct callable *c = tsm_task_arg(t);
    if (!idle || !c) {
        return tsm_fail(t, "not a callable of Python in a process of Python");
    }
    PyEval_RestoreThread(idle);
    int rc = run(t, c);
    idle = PyEval_SaveThread();
    return rc;
}

/* ---- the keeper as a program ---- */

static PyObject *keeper(PyObject *module, PyObject *arg)
{
    (void)module;
    enum { ARGUMENTS_MAX = 8 };
    char *argv[ARGUMENTS_MAX + 1] = {NULL};
    PyObject *arguments = PySequence_Tuple(arg);
    if (!arguments) {
        return NULL;
    }
    int argc = (int)PyTuple_Size(arguments);
    bool ok = argc >= 1 && argc <= ARGUMENTS_MAX;
    for (int i = 0; i < argc && ok; i++) {
        PyObject *text = PyTuple_GetItem(arguments, i);
        const char *utf8 = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
        memcpy(&argv[i], &utf8, sizeof(utf8)); /* the library does not write there */
        ok = utf8 != NULL;
    }
    if (!ok || !child_module()) {
        Py_DECREF(arguments);
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "the arguments of the keeper are 1 to 8 str");
        }
        return NULL;
    }
    enum level before = level;
    flush_streams();
    level = LEVEL_KEEPER;
    armed = true;
    int status = tsm_keeper_main(argc, argv); /* returns only when it could not begin */
    armed = false;
    level = before;
    Py_DECREF(arguments);
    return PyLong_FromLong(status);
}

static PyMethodDef functions[] = {{"_keeper_main", keeper, METH_O,
                                   "_keeper_main($module, arguments, /)\n--\n\n"
                                   "Makes this process a keeper. Returns an exit status when it "
                                   "could not become one, else never."},
                                  {0}};

int child_init(PyObject *module)
{
    static bool once;
    if (!once) {
        int rc = pthread_atfork(before_fork, after_fork_parent, after_fork_child);
        if (rc != 0) {
            return core_raise(TSM_ENOMEM, "no memory for the handlers of forks");
        }
        once = true;
    }
    return PyModule_AddFunctions(module, functions);
}

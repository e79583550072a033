/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The worker: options, start and close, what is to be given back, and the hooks that let other threads and
 * signal handlers of the interpreter run while a call of the library sleeps. Program; owns the tsm_worker. transom.Worker
 * is a class of Python over this one.
 */
#include "host.h"

#include <string.h>

PyTypeObject *worker_type;

/* ---- entering ---- */

/* In the owner's thread. A run handle or a buffer that cannot be given back now is lost with the worker. */
static void give_back(struct worker *self)
{
    Py_ssize_t count = self->discarded_count;
    self->discarded_count = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (self->discarded[i].buffer && self->state != STATE_CLOSED) {
            tsm_buffer_destroy(self->w, self->discarded[i].buffer);
        }
        tsm_run_release(self->discarded[i].run);
    }
}

int worker_enter(struct worker *self)
{
    if (!self->w) {
        return core_raise(TSM_ESTATE, "the worker was not made: __init__ has not been called");
    }
    if (PyThread_get_thread_ident() != self->thread) {
        return core_raise(TSM_EWRONG_THREAD,
                          "the worker belongs to the thread that made it: make one in this thread");
    }
    if (self->in_hook) {
        return core_raise(TSM_ESTATE,
                          "a call on the worker waits: nothing that runs meanwhile, as a "
                          "signal handler, can use it");
    }
    if (self->discarded_count != 0) {
        give_back(self);
    }
    return 0;
}

int worker_enter_ready(struct worker *self)
{
    if (worker_enter(self) != 0) {
        return -1;
    }
    if (self->state == STATE_CLOSED) {
        return core_raise(TSM_ECLOSED, "the worker is closed");
    }
    if (self->state == STATE_NEW) {
        return core_raise(TSM_ESTATE,
                          "the worker is not started: call init(), or use it in a with statement");
    }
    return 0;
}

PyObject *worker_raise(struct worker *self, int code)
{
    if (code == TSM_EWORKER_FAILED) {
        self->state = STATE_FAILED;
    }
    if (code != TSM_EINTERRUPTED || !PyErr_Occurred()) {
        core_raise_worker(self->w, code);
    }
    return NULL;
}

void worker_discard(struct worker *self, void *buffer, tsm_run *run)
{
    if (self->discarded_count == self->discarded_max) {
        Py_ssize_t max = self->discarded_max ? self->discarded_max * 2 : 16;
        struct discarded *more =
            PyMem_Realloc(self->discarded, (size_t)max * sizeof(*self->discarded));
        if (!more) {
            return; /* it goes with the worker */
        }
        self->discarded = more;
        self->discarded_max = max;
    }
    self->discarded[self->discarded_count++] = (struct discarded){buffer, run};
}

/* ---- hooks around the sleep of a call ---- */

static void sleep_begin(void *arg)
{
    ((struct worker *)arg)->released = PyEval_SaveThread();
}

static void sleep_end(void *arg)
{
    PyEval_RestoreThread(((struct worker *)arg)->released);
}

static int call_on_sleep(struct worker *self)
{
    PyObject *result = self->on_sleep ? PyObject_CallNoArgs(self->on_sleep) : NULL;
    Py_XDECREF(result);
    return self->on_sleep && !result;
}

/* With the GIL: signal handlers run here. An exception of theirs ends the wait. */
static int is_interrupted(void *arg)
{
    struct worker *self = arg;
    self->in_hook = true;
    int interrupted = PyErr_CheckSignals() != 0 || call_on_sleep(self);
    self->in_hook = false;
    return interrupted;
}

static PyObject *worker_on_sleep(PyObject *o, PyObject *function)
{
    struct worker *self = (struct worker *)o;
    PyObject *old = self->on_sleep;
    self->on_sleep = function == Py_None ? NULL : Py_NewRef(function);
    Py_XDECREF(old);
    return Py_NewRef(Py_None);
}

/* ---- making ---- */

enum option_kind { OPTION_COUNT, OPTION_BYTES, OPTION_SECONDS, OPTION_CHOICE, OPTION_TEXT };
struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
    const char *choices[4];
};
#define AT(field) offsetof(struct tsm_worker_opts, field)
static const struct option options[] = {
    {"chips", OPTION_COUNT, AT(chips), {0}},
    {"subs", OPTION_COUNT, AT(subs), {0}},
    {"backend", OPTION_TEXT, AT(backend), {0}},
    {"start_method", OPTION_CHOICE, AT(start_method), {"fork", "spawn"}},
    {"pin", OPTION_CHOICE, AT(pin), {"none", "core", "numa"}},
    {"arena_size", OPTION_BYTES, AT(arena_bytes), {0}},
    {"heap_size", OPTION_BYTES, AT(heap_bytes), {0}},
    {"host_size", OPTION_BYTES, AT(host_bytes), {0}},
    {"ring_size", OPTION_BYTES, AT(ring_bytes), {0}},
    {"lease_size", OPTION_BYTES, AT(lease_bytes), {0}},
    {"start_timeout", OPTION_SECONDS, AT(start_timeout_ns), {0}},
    {"close_timeout", OPTION_SECONDS, AT(close_timeout_ns), {0}},
    {0}};

static int read_choice(const struct option *option, PyObject *value, int *ret)
{
    for (int i = 0; PyUnicode_Check(value) && option->choices[i]; i++) {
        if (PyUnicode_CompareWithASCIIString(value, option->choices[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    PyErr_Format(PyUnicode_Check(value) ? PyExc_ValueError : PyExc_TypeError,
                 "%s is %R: '%s'%s%s%s or '%s'", option->name, value, option->choices[0],
                 option->choices[2] ? ", '" : "", option->choices[2] ? option->choices[1] : "",
                 option->choices[2] ? "'" : "", option->choices[option->choices[2] ? 2 : 1]);
    return -1;
}

static int read_option(const struct option *option, PyObject *value, struct tsm_worker_opts *opts)
{
    void *at = (uint8_t *)opts + option->offset;
    int64_t number;
    int rc;
    switch (option->kind) {
    case OPTION_COUNT:
        rc = int_read(value, option->name, strcmp(option->name, "chips") == 0, 1024, &number);
        *(uint32_t *)at = rc == 0 ? (uint32_t)number : 0;
        return rc;
    case OPTION_BYTES:
        rc = int_read(value, option->name, 1, INT64_MAX, &number);
        *(uint64_t *)at = rc == 0 ? (uint64_t)number : 0;
        return rc;
    case OPTION_SECONDS:
        rc = seconds_read(value, option->name, at);
        *(int64_t *)at = *(int64_t *)at > 0 ? *(int64_t *)at : *(int64_t *)at == 0;
        return rc;
    case OPTION_CHOICE:
        return read_choice(option, value, at);
    case OPTION_TEXT:
    default:
        if (!PyUnicode_Check(value)) {
            PyErr_Format(PyExc_TypeError, "%s must be a str, not %R", option->name, Py_TYPE(value));
            return -1;
        }
        *(const char **)at = PyUnicode_AsUTF8AndSize(value, NULL);
        return *(const char **)at ? 0 : -1;
    }
}

static int read_options(PyObject *given, struct tsm_worker_opts *opts)
{
    for (const struct option *option = options; option->name; option++) {
        PyObject *name = PyUnicode_FromString(option->name);
        PyObject *value = name ? PyDict_GetItemWithError(given, name) : NULL;
        Py_XDECREF(name);
        if (PyErr_Occurred() ||
            (value && value != Py_None && read_option(option, value, opts) != 0)) {
            return -1;
        }
    }
    return 0;
}

/* The keeper's program and arguments as the library takes them, of PyMem_Malloc; the strings are the tuple's. */
static const char **read_command(PyObject *o)
{
    Py_ssize_t count = PyTuple_Check(o) ? PyTuple_Size(o) : 0;
    const char **command = count > 0 ? PyMem_Calloc((size_t)count + 1, sizeof(*command)) : NULL;
    if (!command) {
        PyErr_SetString(PyExc_TypeError, "keeper must be a tuple of str");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!(command[i] = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(o, i), NULL))) {
            PyMem_Free(command);
            return NULL;
        }
    }
    return command;
}

static int worker_make(PyObject *o, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"options", "keeper", NULL};
    struct worker *self = (struct worker *)o;
    PyObject *given, *keeper;
    struct tsm_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O:Worker", names, &PyDict_Type, &given,
                                     &keeper)) {
        return -1;
    }
    if (self->w) {
        return core_raise(TSM_ESTATE, "the worker has been made");
    }
    self->opts = (struct tsm_worker_opts)TSM_WORKER_OPTS_INIT;
    self->opts.chips = 1;
    self->opts.start_method = TSM_SPAWN;
    if (read_options(given, &self->opts) != 0 || (!self->live && !(self->live = PyDict_New())) ||
        (!self->counts && !(self->counts = PyDict_New()))) {
        return -1;
    }
    bool is_spawn = self->opts.start_method == TSM_SPAWN;
    const char **command = is_spawn ? read_command(keeper) : NULL;
    if (is_spawn && !command) {
        return -1;
    }
    self->opts.keeper = command;
    int rc = tsm_worker_create(&self->opts, &self->w, &error);
    self->opts.backend = NULL;
    self->opts.keeper = NULL;
    PyMem_Free(command);
    if (rc != 0) {
        self->w = NULL;
        return core_raise(rc, error.text);
    }
    struct tsm_sleep_hooks hooks = {sizeof(hooks), sleep_begin, sleep_end, is_interrupted, self};
    tsm_worker_set_sleep_hooks(self->w, &hooks);
    self->thread = PyThread_get_thread_ident();
    self->state = STATE_NEW;
    return 0;
}

/* ---- start ---- */

static PyObject *worker_start(PyObject *o, PyObject *unused)
{
    struct worker *self = (struct worker *)o;
    (void)unused;
    if (worker_enter(self) != 0) {
        return NULL;
    }
    bool is_fork = self->opts.start_method == TSM_FORK;
    if (is_fork) {
        child_fork_begin();
    }
    int rc = tsm_worker_start(self->w);
    if (is_fork) {
        child_fork_end();
    }
    if (rc != 0) {
        return worker_raise(self, rc);
    }
    self->state = STATE_READY;
    callables_forget_inherited(self);
    return Py_NewRef(Py_None);
}

/* ---- close ---- */

/* After the library has closed it. */
static void set_closed(struct worker *self)
{
    self->state = STATE_CLOSED;
    callables_forget_inherited(self);
    domains_end_of_worker(self);
    for (Py_ssize_t i = 0; i < self->flying_count; i++) {
        tsm_run_release(self->flying[i]);
    }
    self->flying_count = 0;
    if (self->memories == 0) {
        memory_unmap_host(self);
    }
}

/* Ctrl-C while it drains: what is in flight is cancelled, and it closes all the same. */
static PyObject *worker_close(PyObject *o, PyObject *unused)
{
    struct worker *self = (struct worker *)o;
    PyObject *type = NULL, *value = NULL, *trace = NULL;
    (void)unused;
    if (!self->w || self->state == STATE_CLOSED) {
        return Py_NewRef(Py_None);
    }
    if (worker_enter(self) != 0) {
        return NULL;
    }
    if (self->state != STATE_NEW && self->memories != 0) {
        tsm_worker_keep_host(self->w, &self->host_base, &self->host_bytes);
    }
    int rc = tsm_worker_close(self->w);
    while (rc == TSM_EINTERRUPTED) {
        if (!value) {
            PyErr_Fetch(&type, &value, &trace);
        }
        PyErr_Clear();
        runs_cancel(self);
        rc = tsm_worker_close(self->w);
    }
    if (rc == TSM_ESTATE || rc == TSM_EWRONG_THREAD) {
        self->host_base = NULL;
        return worker_raise(self, rc);
    }
    set_closed(self);
    if (type) {
        PyErr_Restore(type, value, trace);
        return NULL;
    }
    return rc == 0 ? Py_NewRef(Py_None) : worker_raise(self, rc);
}

static PyObject *worker_cancel(PyObject *o, PyObject *unused)
{
    struct worker *self = (struct worker *)o;
    (void)unused;
    if (worker_enter_ready(self) != 0) {
        return NULL;
    }
    runs_cancel(self);
    return Py_NewRef(Py_None);
}

/* ---- asking ---- */

#define STATISTIC(field)                                                                           \
    {                                                                                              \
#field, offsetof(struct tsm_stats, field)                                                  \
    }
static const struct {
    const char *name;
    size_t offset;
} statistics[] = {STATISTIC(tasks),          STATISTIC(waits),        STATISTIC(waits_elided),
                  STATISTIC(ranges),         STATISTIC(leases_fresh), STATISTIC(leases_reused),
                  STATISTIC(leases_evicted), STATISTIC(lease_bytes),  STATISTIC(domains_live),
                  STATISTIC(heap_bytes),     STATISTIC(runs_live),    STATISTIC(syscalls),
                  STATISTIC(mappings),       STATISTIC(deaths)};

static PyObject *worker_stats(PyObject *o, PyObject *unused)
{
    struct worker *self = (struct worker *)o;
    struct tsm_stats stats;
    (void)unused;
    if (worker_enter_ready(self) != 0) {
        return NULL;
    }
    tsm_worker_stats(self->w, &stats);
    PyObject *ret = PyDict_New();
    for (size_t i = 0; ret && i < sizeof(statistics) / sizeof(*statistics); i++) {
        uint64_t value = *(uint64_t *)((uint8_t *)&stats + statistics[i].offset);
        PyObject *n = PyLong_FromUnsignedLongLong(value);
        if (!n || PyDict_SetItemString(ret, statistics[i].name, n) != 0) {
            Py_CLEAR(ret);
        }
        Py_XDECREF(n);
    }
    return ret;
}

static PyObject *worker_pid(PyObject *o, PyObject *place)
{
    struct worker *self = (struct worker *)o;
    int64_t n;
    if (int_read(place, "place", 0, (int64_t)self->opts.chips + self->opts.subs - 1, &n) != 0) {
        return NULL;
    }
    bool ready = self->w && self->state == STATE_READY;
    return PyLong_FromLong(ready ? tsm_worker_pid(self->w, (int)n) : 0);
}

static PyObject *worker_get(PyObject *o, void *closure)
{
    static const char *const state_names[] = {"new", "ready", "failed", "closed"};
    struct worker *self = (struct worker *)o;
    switch ((int)(uintptr_t)closure) {
    case 0:
        return PyUnicode_FromString(state_names[self->state]);
    case 1:
        return PyLong_FromUnsignedLong(self->opts.chips);
    case 2:
        return PyLong_FromUnsignedLong(self->opts.subs);
    case 3:
        return PyUnicode_FromString(self->opts.start_method == TSM_FORK ? "fork" : "spawn");
    case 4:
        return self->live ? PyDict_Copy(self->live) : PyDict_New();
    default:
        return PyLong_FromUnsignedLongLong(
            self->w && self->state == STATE_READY ? tsm_worker_tasks_done(self->w) : 0);
    }
}

/* ---- runs ---- */

static PyObject *worker_run(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"run", {"function", "args", "config"}, 3, 1, {0}};
    PyObject *values[3];
    if (signature_read(&s, args, count, names, values) != 0) {
        return NULL;
    }
    return run_function((struct worker *)o, values);
}

static PyObject *worker_submit(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"submit", {"function", "args", "config"}, 3, 1, {0}};
    PyObject *values[3];
    if (signature_read(&s, args, count, names, values) != 0) {
        return NULL;
    }
    return submit_function((struct worker *)o, values);
}

/* ---- the type ---- */

static int worker_traverse(PyObject *o, visitproc visit, void *arg)
{
    struct worker *self = (struct worker *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(self->live);
    Py_VISIT(self->counts);
    Py_VISIT(self->on_sleep);
    return 0;
}

static int worker_clear(PyObject *o)
{
    struct worker *self = (struct worker *)o;
    Py_CLEAR(self->live);
    Py_CLEAR(self->counts);
    Py_CLEAR(self->on_sleep);
    return 0;
}

/* What was not closed is let go of: its processes end by themselves. */
static void worker_dealloc(PyObject *o)
{
    struct worker *self = (struct worker *)o;
    PyObject_GC_UnTrack(o);
    worker_clear(o);
    if (self->w && self->state == STATE_CLOSED) {
        tsm_worker_destroy(self->w);
    } else if (self->w) {
        tsm_worker_abandon(self->w);
    }
    memory_unmap_host(self);
    callables_forget_inherited(self);
    PyMem_Free(self->discarded);
    PyMem_Free(self->flying);
    PyMem_Free(self->inherited);
    object_free(o);
}

static PyMethodDef worker_methods[] = {
    {"close", worker_close, METH_NOARGS,
     "close($self)\n--\n\n"
     "Waits for the runs in flight (close_timeout), then ends the processes. May be called "
     "again.\n\n"
     "What is used afterwards is refused with RuntimeError. Arrays over buffers that are still "
     "referred to\n"
     "stay readable.\n\n"
     "Raises:\n    TimeoutError: runs had to be aborted; the worker is closed.\n"
     "    RuntimeError: inside an orchestration function, or in another thread."},
    {"unregister", worker_unregister, METH_O,
     "unregister($self, callable, /)\n--\n\n"
     "No later submission may use it; tasks that were submitted run.\n\n"
     "Raises:\n    KeyError: it is not registered with this worker."},
    {"buffer", FAST(worker_buffer),
     "buffer($self, shape, dtype='float32')\n--\n\n"
     "Host memory, zeroed, that every chip and sub worker sees at the same address.\n\n"
     "Args:\n    shape: an int, or up to 8 of them.\n    dtype: type of an element.\n\n"
     "Raises:\n    MemoryError: host_size or the machine's limit is exhausted.\n"
     "    RuntimeError: before start or after close."},
    {"host_wait", FAST(worker_host_wait_method),
     "host_wait($self, tensor, access='r')\n--\n\n"
     "Waits for exactly the tasks that stand in the way of the program's own access.\n\n"
     "Args:\n    access: 'r', 'w' or 'rw': what the program is about to do.\n\n"
     "Raises:\n    RuntimeError: the task that should have written it failed."},
    {"run", FAST(worker_run),
     "run($self, function, args=None, config=None)\n--\n\n"
     "Calls function(orch, args, config) and waits for every task it submitted.\n\n"
     "Returns:\n    What function returned.\n\n"
     "Raises:\n    The first cause, in time: what the function raised, the same object; what a "
     "task of Python\n"
     "    raised, with its own type; a RunError for what else went wrong. On KeyboardInterrupt the "
     "run is\n"
     "    cancelled; what still runs a second later loses its process. The worker stays usable."},
    {"submit", FAST(worker_submit),
     "submit($self, function, args=None, config=None)\n--\n\n"
     "Like run, but returns a RunHandle as soon as function has returned; tasks go on.\n\n"
     "What function raises comes out at once, what tasks raise at RunHandle.wait. Up to 63 runs "
     "may be\n"
     "in flight; then the oldest is waited for."},
    {"stats", worker_stats, METH_NOARGS,
     "stats($self)\n--\n\nWhat the runtime has done since start: plain counters, by name."},
    {"pid", worker_pid, METH_O,
     "pid($self, place, /)\n--\n\nProcess id of chip 0..chips-1 or sub worker chips + k; 0 when it "
     "is not alive."},
    {"_start", worker_start, METH_NOARGS, "_start($self)\n--\n\nStarts the processes."},
    {"_cancel", worker_cancel, METH_NOARGS, "_cancel($self)\n--\n\nCancels the runs in flight."},
    {"_register_symbol", worker_register_symbol, METH_VARARGS,
     "_register_symbol($self, path, symbol, name, /)\n--\n\nA symbol of a shared object."},
    {"_register_python", worker_register_python, METH_VARARGS,
     "_register_python($self, function, pickled, name, /)\n--\n\nA function of Python; pickled "
     "None: inherited."},
    {"_on_sleep", worker_on_sleep, METH_O,
     "_on_sleep($self, function, /)\n--\n\nCalls function() while a call waits, at least every 50 "
     "ms."},
    {0}};

static PyGetSetDef worker_getters[] = {
    {"state", worker_get, NULL, "\"new\", \"ready\", \"failed\" or \"closed\".", (void *)0},
    {"chips", worker_get, NULL, "Number of chips.", (void *)1},
    {"subs", worker_get, NULL, "Number of sub workers.", (void *)2},
    {"start_method", worker_get, NULL, "\"spawn\" or \"fork\".", (void *)3},
    {"live_domains", worker_get, NULL, "The domains that are not released, by name: a snapshot.",
     (void *)4},
    {"tasks_done", worker_get, NULL, "Tasks that have ended since start, run or skipped.",
     (void *)5},
    {0}};

static PyType_Slot worker_slots[] = {{Py_tp_doc, "The C part of transom.Worker."},
                                     {Py_tp_init, worker_make},
                                     {Py_tp_new, PyType_GenericNew},
                                     {Py_tp_dealloc, worker_dealloc},
                                     {Py_tp_traverse, worker_traverse},
                                     {Py_tp_clear, worker_clear},
                                     {Py_tp_methods, worker_methods},
                                     {Py_tp_getset, worker_getters},
                                     {0}};
static PyType_Spec worker_spec = {"transom._core.Worker", sizeof(struct worker), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
                                  worker_slots};

int worker_module_init(PyObject *module)
{
    worker_type = type_new(module, &worker_spec, NULL);
    return worker_type ? 0 : -1;
}

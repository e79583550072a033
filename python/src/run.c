/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Runs: calling the orchestration function, and what comes out of it. The first cause in time is raised: what the function
 * raised, the same object; what a task of Python raised, rebuilt; else a RunError. Program; RunHandle owns a handle of the
 * library, its worker another one of each run that is in flight.
 */
#include "host.h"

#include <math.h>
#include <string.h>

PyTypeObject *run_type;

enum {
    RAISED = 1
}; /* what the library is told of a function that raised: its own value comes back */
static const int64_t GRACE_NS =
    1000000000; /* between Ctrl-C and the end of the processes that still run */

/* ---- the function ---- */

static void end_of_function(struct call *call, PyObject *orch, bool failed)
{
    struct orch *o = (struct orch *)orch;
    o->o = NULL;
    call->worker->call = NULL;
    domains_end_of_call(call->worker, call, failed);
}

static void raise_object(PyObject *exception)
{
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
}

static bool has_code(PyObject *exception, const char *name)
{
    PyObject *code = exception ? PyObject_GetAttrString(exception, "code") : NULL;
    bool same = code && PyUnicode_Check(code) && PyUnicode_CompareWithASCIIString(code, name) == 0;
    Py_XDECREF(code);
    PyErr_Clear();
    return same;
}

/* Calls the function; the library's orchestration function. */
static int call_function(tsm_orch *orch, void *arg)
{
    struct call *call = arg;
    if (tsm_orch_handle(orch, &call->run) != 0 ||
        (call->submitted && tsm_orch_handle(orch, &call->flying) != 0)) {
        return TSM_ENOMEM;
    }
    call->number = tsm_orch_run(orch);
    PyObject *o = orch_new(call->worker, orch);
    if (o) {
        call->worker->call = call;
        call->result =
            PyObject_CallFunctionObjArgs(call->function, o, call->args, call->config, NULL);
    }
    bool failed = !call->result;
    call->exception = failed ? core_take_exception() : NULL;
    if (o) {
        end_of_function(call, o, failed);
        Py_DECREF(o);
    }
    if (!failed) {
        return 0;
    }
    /* AbortedError is only a consequence: the cause is with a task. */
    return has_code(call->exception, "TSM_EABORTED") ? TSM_EABORTED : RAISED;
}

static int begin(struct worker *self, PyObject *const *values, bool submitted, struct call *call)
{
    if (worker_enter_ready(self) != 0) {
        return -1;
    }
    if (!PyCallable_Check(values[0])) {
        PyErr_Format(PyExc_TypeError, "function must be callable, not %R", Py_TYPE(values[0]));
        return -1;
    }
    *call = (struct call){.worker = self,
                          .function = values[0],
                          .args = values[1] ? values[1] : Py_None,
                          .config = values[2] ? values[2] : Py_None,
                          .submitted = submitted};
    return 0;
}

/* ---- what comes out ---- */

static PyObject *task_exception(const tsm_run *run)
{
    uint64_t bytes;
    const void *data = tsm_run_fail_data(run, &bytes);
    PyObject *module = data ? PyImport_ImportModule("transom._child") : NULL;
    PyObject *exception = module ? PyObject_CallMethod(module, "load_exception", "y#",
                                                       (const char *)data, (Py_ssize_t)bytes)
                                 : NULL;
    Py_XDECREF(module);
    if (!exception) {
        PyErr_Clear();
    }
    return exception;
}

static void add_note(PyObject *exception, const struct tsm_error *e)
{
    PyObject *note = PyUnicode_FromFormat("transom: run %llu, chip %d: %s",
                                          (unsigned long long)e->run, e->chip, e->text);
    PyObject *done = note ? PyObject_CallMethod(exception, "add_note", "O", note) : NULL;
    Py_XDECREF(note);
    Py_XDECREF(done);
    PyErr_Clear();
}

/* The cause of a run that is over, as an exception. */
static PyObject *cause_of(const tsm_run *run, int code)
{
    struct tsm_error e = *tsm_run_error(run);
    PyObject *exception = e.code == TSM_ETASK_FAILED ? task_exception(run) : NULL;
    if (exception) {
        add_note(exception, &e);
        return exception;
    }
    if (e.code == 0) {
        e = (struct tsm_error){.code = code, .chip = -1};
        PyOS_snprintf(e.text, sizeof(e.text), "%s", tsm_code_name(code));
    }
    return core_exception(&e);
}

/* Raises what the run failed with. raised: what its function raised, or NULL; it is kept as the context. */
static void raise_outcome(const tsm_run *run, int code, PyObject *raised)
{
    if (raised && (code == RAISED || has_code(raised, tsm_code_name(code)))) {
        raise_object(raised);
        return;
    }
    PyObject *cause = cause_of(run, code);
    if (!cause) {
        return;
    }
    if (raised && !has_code(raised, "TSM_EABORTED")) {
        PyException_SetContext(cause, Py_NewRef(raised));
    }
    raise_object(cause);
    Py_DECREF(cause);
}

void run_cancel_firmly(tsm_run *run, int64_t grace_ns)
{
    int rc = tsm_run_cancel(run, grace_ns);
    while (rc == TSM_EINTERRUPTED) {
        PyErr_Clear(); /* a second Ctrl-C: nothing is waited for any more */
        rc = tsm_run_cancel(run, 0);
    }
}

/* ---- Worker.run ---- */

static bool is_ordinary(PyObject *exception)
{
    return PyObject_IsInstance(exception, PyExc_Exception) == 1;
}

/* Waits for the run to be over. An exception that ends the wait, or one of the function that is no Exception, cancels it. Returns the
 * outcome; *ret_stop: what is raised whatever the outcome is. */
static int wait_for_all(struct call *call, PyObject **ret_stop)
{
    *ret_stop =
        call->exception && !is_ordinary(call->exception) ? Py_NewRef(call->exception) : NULL;
    if (*ret_stop) {
        run_cancel_firmly(call->run, GRACE_NS);
    }
    int rc = tsm_run_wait(call->run, -1);
    while (rc == TSM_EINTERRUPTED) {
        if (!*ret_stop) {
            *ret_stop = core_take_exception();
        }
        PyErr_Clear();
        run_cancel_firmly(call->run, GRACE_NS);
        rc = tsm_run_wait(call->run, -1);
    }
    return rc;
}

PyObject *run_function(struct worker *self, PyObject *const *values)
{
    struct call call;
    tsm_run *run = NULL;
    if (begin(self, values, false, &call) != 0) {
        return NULL;
    }
    int rc = tsm_worker_submit_run(self->w, call_function, &call, &run);
    if (!call.run) {
        return worker_raise(self, rc);
    }
    PyObject *stop = NULL;
    rc = wait_for_all(&call, &stop);
    if (stop) {
        raise_object(stop);
        Py_DECREF(stop);
        Py_CLEAR(call.result);
    } else if (rc == TSM_EWORKER_FAILED) {
        worker_raise(self, rc);
        Py_CLEAR(call.result);
    } else if (rc != 0) {
        raise_outcome(call.run, rc, call.exception);
        Py_CLEAR(call.result);
    }
    Py_XDECREF(call.exception);
    tsm_run_release(call.run);
    tsm_run_release(run);
    return call.result;
}

/* ---- RunHandle ---- */

struct run_handle {
    PyObject_HEAD struct worker *worker;
    tsm_run *run;
    uint64_t number;
    PyObject *result;
    PyObject *error; /* once it is over: None, or the exception */
};

/* Forgets those that are over. */
static void prune_flying(struct worker *self)
{
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < self->flying_count; i++) {
        if (tsm_run_done(self->flying[i])) {
            tsm_run_release(self->flying[i]);
        } else {
            self->flying[kept++] = self->flying[i];
        }
    }
    self->flying_count = kept;
}

static int add_flying(struct worker *self, tsm_run *run)
{
    if (self->flying_count == self->flying_max) {
        prune_flying(self);
    }
    if (self->flying_count == self->flying_max) {
        Py_ssize_t max = self->flying_max ? self->flying_max * 2 : 64;
        tsm_run **more = PyMem_Realloc(self->flying, (size_t)max * sizeof(*more));
        if (!more) {
            return -1;
        }
        self->flying = more;
        self->flying_max = max;
    }
    self->flying[self->flying_count++] = run;
    return 0;
}

void runs_cancel(struct worker *self)
{
    for (Py_ssize_t i = 0; i < self->flying_count; i++) {
        run_cancel_firmly(self->flying[i], 0);
    }
}

PyObject *submit_function(struct worker *self, PyObject *const *values)
{
    struct call call;
    tsm_run *run = NULL;
    if (begin(self, values, true, &call) != 0) {
        return NULL;
    }
    struct run_handle *h = (struct run_handle *)object_new(run_type);
    if (!h) {
        return NULL;
    }
    int rc = tsm_worker_submit_run(self->w, call_function, &call, &run);
    if (call.flying && add_flying(self, call.flying) != 0) {
        tsm_run_release(call.flying);
    }
    if (rc != 0 && call.run) {
        if (call.exception && !is_ordinary(call.exception)) {
            run_cancel_firmly(call.run, GRACE_NS);
            rc = RAISED;
        }
        raise_outcome(call.run, rc, call.exception);
    } else if (rc != 0) {
        worker_raise(self, rc);
    }
    Py_XDECREF(call.exception);
    tsm_run_release(run);
    if (rc != 0) {
        tsm_run_release(call.run);
        Py_XDECREF(call.result);
        Py_DECREF((PyObject *)h);
        return NULL;
    }
    h->worker = (struct worker *)Py_NewRef((PyObject *)self);
    h->run = call.run;
    h->number = call.number;
    h->result = call.result;
    return (PyObject *)h;
}

/* Notes the outcome of a run that is over. */
static int settle(struct run_handle *h, int code)
{
    if (!h->error) {
        PyObject *error = code != 0 ? cause_of(h->run, code) : Py_NewRef(Py_None);
        if (!error) {
            return -1;
        }
        h->error = error;
    }
    return 0;
}

/* 1: over, 0: not, -1 with an exception. */
static int look(struct run_handle *h)
{
    if (h->error) {
        return 1;
    }
    if (worker_enter(h->worker) != 0) {
        return -1;
    }
    if (!tsm_run_done(h->run)) {
        return 0;
    }
    return settle(h, tsm_run_error(h->run)->code) == 0 ? 1 : -1;
}

static int wait_for_handle(struct run_handle *h, PyObject *timeout)
{
    int64_t ns;
    int over = seconds_read(timeout, "timeout", &ns) == 0 ? look(h) : -1;
    if (over < 0) {
        return -1;
    }
    if (over == 0) {
        int rc = tsm_run_wait(h->run, ns);
        if (rc == TSM_ETIMEOUT || rc == TSM_EINTERRUPTED || !tsm_run_done(h->run)) {
            worker_raise(h->worker, rc);
            return -1;
        }
        if (settle(h, rc) != 0) {
            return -1;
        }
    }
    if (h->error != Py_None) {
        raise_object(h->error);
        return -1;
    }
    return 0;
}

static PyObject *run_wait(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"wait", {"timeout"}, 1, 0, {0}};
    PyObject *timeout;
    if (signature_read(&s, args, count, names, &timeout) != 0 ||
        wait_for_handle((struct run_handle *)o, timeout) != 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static PyObject *run_result(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"result", {"timeout"}, 1, 0, {0}};
    PyObject *timeout;
    if (signature_read(&s, args, count, names, &timeout) != 0 ||
        wait_for_handle((struct run_handle *)o, timeout) != 0) {
        return NULL;
    }
    return Py_NewRef(((struct run_handle *)o)->result);
}

static PyObject *run_cancel(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"cancel", {"grace"}, 1, 0, {0}};
    struct run_handle *h = (struct run_handle *)o;
    PyObject *grace;
    int64_t ns = GRACE_NS;
    if (signature_read(&s, args, count, names, &grace) != 0 ||
        (grace && seconds_read(grace, "grace", &ns) != 0)) {
        return NULL;
    }
    int over = look(h);
    if (over != 0) {
        return over < 0 ? NULL : Py_NewRef(Py_None);
    }
    int rc = tsm_run_cancel(h->run, ns);
    return rc == 0 ? Py_NewRef(Py_None) : worker_raise(h->worker, rc);
}

static PyObject *run_done(PyObject *o, void *closure)
{
    (void)closure;
    int over = look((struct run_handle *)o);
    return over < 0 ? NULL : PyBool_FromLong(over);
}

static PyObject *run_error(PyObject *o, void *closure)
{
    struct run_handle *h = (struct run_handle *)o;
    (void)closure;
    int over = look(h);
    return over < 0 ? NULL : Py_NewRef(over ? h->error : Py_None);
}

static PyObject *run_skipped(PyObject *o, void *closure)
{
    struct run_handle *h = (struct run_handle *)o;
    (void)closure;
    int over = look(h);
    if (over < 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(over ? tsm_run_error(h->run)->skipped : 0);
}

static PyObject *run_number(PyObject *o, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct run_handle *)o)->number);
}

static PyObject *run_repr(PyObject *o)
{
    const struct run_handle *h = (struct run_handle *)o;
    const char *state = !h->error ? "submitted" : h->error == Py_None ? "done" : "failed";
    return PyUnicode_FromFormat("<transom.RunHandle %llu, %s>", (unsigned long long)h->number,
                                state);
}

static int run_traverse(PyObject *o, visitproc visit, void *arg)
{
    struct run_handle *h = (struct run_handle *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT((PyObject *)h->worker);
    Py_VISIT(h->result);
    Py_VISIT(h->error);
    return 0;
}

static int run_clear(PyObject *o)
{
    struct run_handle *h = (struct run_handle *)o;
    struct worker *w = h->worker;
    h->worker = NULL;
    if (w && h->run) {
        worker_discard(w, NULL, h->run);
    }
    Py_XDECREF((PyObject *)w);
    Py_CLEAR(h->result);
    Py_CLEAR(h->error);
    return 0;
}

static void run_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    run_clear(o);
    object_free(o);
}

static PyMethodDef run_methods[] = {
    {"wait", FAST(run_wait),
     "wait($self, timeout=None)\n--\n\n"
     "Waits until the run is over; may be called again, by anybody, with the same outcome.\n\n"
     "Args:\n    timeout: seconds; None: no limit.\n\n"
     "Raises:\n    TimeoutError: it is not over; it goes on.\n"
     "    The first cause of the run's failure otherwise."},
    {"result", FAST(run_result),
     "result($self, timeout=None)\n--\n\nLike wait; returns what the orchestration function "
     "returned."},
    {"cancel", FAST(run_cancel),
     "cancel($self, grace=1.0)\n--\n\n"
     "Fails the run unless it is over, and waits for its end.\n\n"
     "Tasks that have not begun are skipped, waits inside tasks end, and what still runs after "
     "grace\n"
     "seconds (None: never) loses its process, which is replaced."},
    {0}};
static PyGetSetDef run_getters[] = {
    {"number", run_number, NULL, "Number of the run, from 1.", NULL},
    {"done", run_done, NULL, "It is over. Does not wait.", NULL},
    {"error", run_error, NULL, "The exception that it failed with; None: none, or it is not over.",
     NULL},
    {"skipped", run_skipped, NULL, "Tasks that never began because of the failure.", NULL},
    {0}};
static PyType_Slot run_slots[] = {
    {Py_tp_doc, "A submitted run. Dropping it does not wait: the run goes on."},
    {Py_tp_dealloc, run_dealloc},
    {Py_tp_traverse, run_traverse},
    {Py_tp_clear, run_clear},
    {Py_tp_methods, run_methods},
    {Py_tp_getset, run_getters},
    {Py_tp_repr, run_repr},
    {0}};
static PyType_Spec run_spec = {
    "transom.RunHandle", sizeof(struct run_handle), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, run_slots};

int run_module_init(PyObject *module)
{
    run_type = type_new(module, &run_spec, NULL);
    return run_type ? 0 : -1;
}

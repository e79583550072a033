/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Domain: what a task of a member sees of a domain or of a sub-group. This file has the object, its ranks and its
 * arrays; its calls are in rma.c, signal.c and collective.c. Chip processes, inside a task; a Domain ends with its task.
 */
#include "view.h"

#include <stdarg.h>
#include <string.h>

PyTypeObject *view_type;

/* ---- making and ending ---- */

PyObject *view_of(struct task_object *task, tsm_ctx *c)
{
    for (struct view *v = task->views; v; v = v->next) {
        if (v->c == c) {
            return Py_NewRef((PyObject *)v);
        }
    }
    struct view *self = (struct view *)object_new(view_type);
    if (!self) {
        return NULL;
    }
    self->task = (struct task_object *)Py_NewRef((PyObject *)task);
    self->c = c;
    self->next = task->views;
    task->views = (struct view *)Py_NewRef((PyObject *)self);
    return (PyObject *)self;
}

void view_end(struct view *self)
{
    if (self->held) {
        tsm_quiet(self->c);
        held_release(self, NULL);
    }
    Py_CLEAR(self->arrays);
}

static int view_traverse(PyObject *o, visitproc visit, void *arg)
{
    struct view *self = (struct view *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT((PyObject *)self->task);
    Py_VISIT(self->arrays);
    return 0;
}

static void view_dealloc(PyObject *o)
{
    struct view *self = (struct view *)o;
    PyObject_GC_UnTrack(o);
    held_release(self, NULL);
    Py_CLEAR(self->arrays);
    Py_CLEAR(self->task);
    object_free(o);
}

/* ---- before and after a call ---- */

static int ended(void)
{
    return core_raise(TSM_ESTATE, "the task has ended");
}

tsm_ctx *view_use(struct view *self)
{
    if (!self->task->t) {
        ended();
        return NULL;
    }
    if (self->task->thread != PyThread_get_thread_ident()) {
        core_raise(TSM_EWRONG_THREAD, "a domain belongs to the thread that runs the task");
        return NULL;
    }
    return self->c;
}

static PyThreadState *left;

void gil_leave(void)
{
    left = PyEval_SaveThread();
}

void gil_enter(void)
{
    PyEval_RestoreThread(left);
}

int view_refuse(struct view *self, int code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    PyObject *fact = PyUnicode_FromFormatV(format, ap);
    va_end(ap);
    PyObject *text =
        fact ? PyUnicode_FromFormat("domain '%s': %U", tsm_ctx_name(self->c), fact) : NULL;
    const char *line = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (line) {
        core_raise(code, line);
    }
    Py_XDECREF(fact);
    Py_XDECREF(text);
    return -1;
}

static void raise_peer(struct view *self, const char *call)
{
    uint32_t rank = 0;
    int code = 0;
    if (tsm_status(self->c, &rank, &code) == TSM_EPEER) {
        view_refuse(self, TSM_EPEER, "%s: rank %u has aborted the domain (code %d)", call,
                    (unsigned)rank, code);
    } else {
        view_refuse(self, TSM_EPEER, "%s: a member has aborted the domain", call);
    }
}

PyObject *view_raise(struct view *self, int code, const char *call)
{
    switch (code) {
    case TSM_EINVAL:
    case TSM_ERANGE:
    case TSM_ESTALE:
    case TSM_EUNSUPPORTED:
        core_raise(code, tsm_ctx_text(self->c));
        break;
    case TSM_EPEER:
        raise_peer(self, call);
        break;
    case TSM_EABORTED:
        view_refuse(self, code, "%s: the run has failed", call);
        break;
    case TSM_ETIMEOUT:
        view_refuse(self, code, "%s: the given time is over", call);
        break;
    default:
        view_refuse(self, code, "%s: %s", call, tsm_code_name(code));
    }
    return NULL;
}

PyObject *view_done(struct view *self, int code, const char *call)
{
    if (code != 0) {
        return view_raise(self, code, call);
    }
    Py_RETURN_NONE;
}

int rank_read(struct view *self, PyObject *o, const char *what, uint32_t *ret)
{
    int64_t rank;
    if (int_read(o, what, INT64_MIN, INT64_MAX, &rank) != 0) {
        return -1;
    }
    if (rank < 0 || rank >= tsm_size(self->c)) {
        return view_refuse(self, TSM_ERANGE, "%s is %lld: there are %u ranks", what,
                           (long long)rank, (unsigned)tsm_size(self->c));
    }
    *ret = (uint32_t)rank;
    return 0;
}

/* ---- what it is ---- */

enum fact { NAME, RANK, SIZE, WINDOW_SIZE, TEXT };

static PyObject *view_get(PyObject *o, void *closure)
{
    struct view *self = (struct view *)o;
    if (!self->task->t) {
        ended();
        return NULL;
    }
    switch ((enum fact)(uintptr_t)closure) {
    case NAME:
        return PyUnicode_FromString(tsm_ctx_name(self->c));
    case RANK:
        return PyLong_FromUnsignedLong(tsm_rank(self->c));
    case SIZE:
        return PyLong_FromUnsignedLong(tsm_size(self->c));
    case WINDOW_SIZE:
        return PyLong_FromUnsignedLongLong(tsm_window_bytes(self->c));
    case TEXT:
    default:
        return PyUnicode_DecodeUTF8(tsm_ctx_text(self->c),
                                    (Py_ssize_t)strlen(tsm_ctx_text(self->c)), "replace");
    }
}

static PyObject *view_repr(PyObject *o)
{
    struct view *self = (struct view *)o;
    if (!self->task->t) {
        return PyUnicode_FromString("<transom.Domain of a task that has ended>");
    }
    return PyUnicode_FromFormat("<transom.Domain '%s' rank %u of %u>", tsm_ctx_name(self->c),
                                (unsigned)tsm_rank(self->c), (unsigned)tsm_size(self->c));
}

/* ---- arrays ---- */

/* Over a buffer of the window of a rank; name NULL: over all of it. */
static PyObject *array_over(struct view *self, const char *name, uint32_t rank)
{
    struct tsm_buffer_info b = {.dtype = TSM_U8, .count = tsm_window_bytes(self->c)};
    if (name ? buffer_find(self, name, &b) != 0 : tsm_at(self->c, 0, &b.place) != 0) {
        return NULL;
    }
    struct tsm_tensor t = {.dtype = (uint8_t)b.dtype, .ndim = 1};
    t.shape[0] = b.count;
    t.data = tsm_ptr(self->c, b.place, rank);
    if (!t.data && b.count > 0) {
        view_raise(self, TSM_ESTALE, "buffer");
        return NULL;
    }
    return array_new(&t, NULL, false);
}

static PyObject *view_subscript(PyObject *o, PyObject *key)
{
    struct view *self = (struct view *)o;
    if (!view_use(self)) {
        return NULL;
    }
    if (!PyUnicode_Check(key)) {
        PyErr_Format(PyExc_TypeError, "a buffer has a name, not %R", Py_TYPE(key));
        return NULL;
    }
    PyObject *array = self->arrays ? PyDict_GetItemWithError(self->arrays, key) : NULL;
    if (array || PyErr_Occurred()) {
        return Py_XNewRef(array);
    }
    const char *name = PyUnicode_AsUTF8AndSize(key, NULL);
    array = name ? array_over(self, name, tsm_rank(self->c)) : NULL;
    if (array && !self->arrays) {
        self->arrays = PyDict_New();
    }
    if (array && (!self->arrays || PyDict_SetItem(self->arrays, key, array) != 0)) {
        Py_CLEAR(array);
    }
    return array;
}

static PyObject *view_buffer(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"buffer", {"name", "rank"}, 2, 0, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[2];
    uint32_t rank;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0) {
        return NULL;
    }
    rank = tsm_rank(self->c);
    if (v[1] && v[1] != Py_None && rank_read(self, v[1], "rank", &rank) != 0) {
        return NULL;
    }
    if (!v[0] || v[0] == Py_None) {
        return array_over(self, NULL, rank);
    }
    if (!PyUnicode_Check(v[0])) {
        PyErr_Format(PyExc_TypeError, "name must be a str or None, not %R", Py_TYPE(v[0]));
        return NULL;
    }
    const char *name = PyUnicode_AsUTF8AndSize(v[0], NULL);
    return name ? array_over(self, name, rank) : NULL;
}

/* ---- sub-groups and other domains ---- */

static PyObject *group_of(struct view *self, int code, tsm_ctx *group, const char *call)
{
    if (code != 0) {
        return view_raise(self, code, call);
    }
    if (!group) {
        Py_RETURN_NONE;
    }
    return view_of(self->task, group);
}

static PyObject *view_split(PyObject *o, PyObject *const *args, Py_ssize_t given, PyObject *names)
{
    static struct signature s = {"split", {"ranks"}, 1, 1, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[1];
    int64_t *values;
    Py_ssize_t count;
    tsm_ctx *group = NULL;
    if (!view_use(self) || signature_read(&s, args, given, names, v) != 0 ||
        ints_read(v[0], "ranks", 0, UINT32_MAX, &values, &count) != 0) {
        return NULL;
    }
    uint32_t *ranks = PyMem_Malloc((size_t)(count ? count : 1) * sizeof(*ranks));
    for (Py_ssize_t i = 0; ranks && i < count; i++) {
        ranks[i] = (uint32_t)values[i];
    }
    PyMem_Free(values);
    if (!ranks) {
        return PyErr_NoMemory();
    }
    int rc = tsm_split(self->c, ranks, (uint32_t)count, &group);
    PyMem_Free(ranks);
    return group_of(self, rc, group, "split");
}

static PyObject *view_split_strided(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                    PyObject *names)
{
    static struct signature s = {"split_strided", {"first", "stride", "count"}, 3, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[3];
    int64_t n[3];
    tsm_ctx *group = NULL;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0) {
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        if (int_read(v[i], s.names[i], 0, UINT32_MAX, &n[i]) != 0) {
            return NULL;
        }
    }
    int rc = tsm_split_strided(self->c, (uint32_t)n[0], (uint32_t)n[1], (uint32_t)n[2], &group);
    return group_of(self, rc, group, "split_strided");
}

static PyObject *view_translate(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {"translate", {"rank", "other"}, 2, 2, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[2];
    uint32_t rank, found = 0;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        rank_read(self, v[0], "rank", &rank) != 0) {
        return NULL;
    }
    struct view *other = (struct view *)v[1];
    if (Py_TYPE(v[1]) != view_type) {
        PyErr_Format(PyExc_TypeError, "other must be a Domain, not %R", Py_TYPE(v[1]));
        return NULL;
    }
    if (!view_use(other)) {
        return NULL;
    }
    int rc = tsm_translate(self->c, rank, other->c, &found);
    if (rc == TSM_ENOENT) {
        view_refuse(self, rc, "the chip of rank %u is not in '%s'", (unsigned)rank,
                    tsm_ctx_name(other->c));
        return NULL;
    }
    return rc == 0 ? PyLong_FromUnsignedLong(found) : view_raise(self, rc, "translate");
}

static PyObject *view_notify(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"notify", {"rank"}, 1, 1, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[1];
    uint32_t rank;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        rank_read(self, v[0], "rank", &rank) != 0) {
        return NULL;
    }
    return view_done(self, tsm_notify(self->c, rank), "notify");
}

/* ---- failure ---- */

static PyObject *view_status(PyObject *o, PyObject *unused)
{
    struct view *self = (struct view *)o;
    uint32_t rank = 0;
    int code = 0;
    (void)unused;
    if (!view_use(self)) {
        return NULL;
    }
    int rc = tsm_status(self->c, &rank, &code);
    if (rc == TSM_EPEER) {
        return Py_BuildValue("(sIi)", "peer", (unsigned)rank, code);
    }
    return Py_BuildValue("(sOO)", rc == 0 ? "ok" : "aborted", Py_None, Py_None);
}

static PyObject *view_abort(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"abort", {"code"}, 1, 0, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[1];
    int64_t code = -1;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        (v[0] && int_read(v[0], "code", INT32_MIN, INT32_MAX, &code) != 0)) {
        return NULL;
    }
    return view_done(self, tsm_abort(self->c, (int)code), "abort");
}

static PyObject *view_set_timeout(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names)
{
    static struct signature s = {"set_timeout", {"timeout"}, 1, 1, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[1];
    int64_t ns;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        seconds_read(v[0], "timeout", &ns) != 0) {
        return NULL;
    }
    tsm_timeout_set(self->c, ns);
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static PyGetSetDef getters[] = {
    {"name", view_get, NULL, "Name of the domain.", (void *)NAME},
    {"rank", view_get, NULL, "Rank of this chip in the domain or sub-group.", (void *)RANK},
    {"size", view_get, NULL, "Number of ranks.", (void *)SIZE},
    {"window_size", view_get, NULL, "Bytes of each rank's window, as it is.", (void *)WINDOW_SIZE},
    {"text", view_get, NULL,
     "Why the last call on this domain that was refused was refused; empty when none was.",
     (void *)TEXT},
    {0}};

static PyMethodDef own_methods[] = {
    {"buffer", FAST(view_buffer),
     "buffer($self, name=None, rank=None)\n--\n\n"
     "The buffer of a rank's window as an array, without a copy.\n\n"
     "Args:\n    name: of the buffer; None: the whole window, as uint8.\n"
     "    rank: whose window; None: this rank's.\n\n"
     "What is stored is ordered before every later signal, atomic and collective of this task. Who "
     "waits\n"
     "for it is woken by `notify`. bfloat16 comes as uint16, its bits.\n\n"
     "Raises:\n    NotFoundError: no such buffer.\n    ArgumentError: no such rank."},
    {"notify", FAST(view_notify),
     "notify($self, rank)\n--\n\n"
     "Wakes the rank if it waits, after plain stores into its window.\n\n"
     "Raises:\n    ArgumentError: no such rank."},
    {"split", FAST(view_split),
     "split($self, ranks)\n--\n\n"
     "The sub-group of these ranks, in this order, over the same windows; None on a rank that is "
     "not in it.\n\n"
     "Local: nothing is sent. Every member makes it with the same list; the same list gives the "
     "same\n"
     "Domain again.\n\n"
     "Raises:\n    ArgumentError: no ranks, one that does not exist, or one twice."},
    {"split_strided", FAST(view_split_strided),
     "split_strided($self, first, stride, count)\n--\n\n"
     "The sub-group of ranks first, first + stride, ...: count of them. As `split`."},
    {"translate", FAST(view_translate),
     "translate($self, rank, other)\n--\n\n"
     "The rank that the chip of `rank` has in `other`, a Domain of the same task.\n\n"
     "Raises:\n    NotFoundError: that chip is not in other.\n    ArgumentError: no such rank."},
    {"status", view_status, METH_NOARGS,
     "status($self)\n--\n\n"
     "(\"ok\", None, None), (\"aborted\", None, None) when the run has failed, or (\"peer\", rank, "
     "code): who has\n"
     "aborted the domain, and the code it gave."},
    {"abort", FAST(view_abort),
     "abort($self, code=-1)\n--\n\n"
     "Ends every wait and collective of all members on this domain, now and later, with PeerError. "
     "The run\n"
     "goes on.\n\n"
     "Args:\n    code: a negative int, for `status`.\n\nRaises:\n    ArgumentError: code is not "
     "negative."},
    {"set_timeout", FAST(view_set_timeout),
     "set_timeout($self, timeout)\n--\n\n"
     "A limit in seconds for each later collective and barrier; None: none, as at the begin of a "
     "task. One\n"
     "that takes longer raises WaitTimeoutError and aborts the domain. Waits for signals have "
     "their own."},
    {0}};

enum { METHODS_MAX = 96 };

/* One table of what the files have. */
static PyMethodDef methods[METHODS_MAX];

static void add_methods(const PyMethodDef *more)
{
    PyMethodDef *at = methods;
    while (at->ml_name) {
        at++;
    }
    while (more->ml_name && at < methods + METHODS_MAX - 1) {
        *at++ = *more++;
    }
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "A domain, or a sub-group of its ranks, as a task of a member sees it. It ends "
                "with the task.\n\n"
                "domain[\"grad\"] is this rank's buffer as an array. A place in the windows is the "
                "same on every rank; it is\n"
                "given as the name of a buffer, as (name, first) or (name, first, count) in "
                "elements, as an array that lies\n"
                "in this rank's window, or, where no type is needed, as an offset in bytes.\n\n"
                "A put has arrived, in no promised order, after `quiet` or `barrier`, or at the "
                "end of the task; `fence` orders.\n"
                "Everything that waits ends with AbortedError when the run fails, and with "
                "PeerError when a member aborts\n"
                "the domain. Only the thread that runs the task may use a Domain."},
    {Py_tp_dealloc, view_dealloc},
    {Py_tp_traverse, view_traverse},
    {Py_tp_repr, view_repr},
    {Py_tp_getset, getters},
    {Py_tp_methods, methods},
    {Py_mp_subscript, view_subscript},
    {0}};
static PyType_Spec spec = {
    "transom.Domain", sizeof(struct view), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int view_init(PyObject *module)
{
    if (!methods[0].ml_name) {
        add_methods(own_methods);
        add_methods(rma_methods);
        add_methods(signal_methods);
        add_methods(collective_methods);
    }
    view_type = type_new(module, &spec, NULL);
    return view_type ? 0 : -1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Domain's signals: words of 64 bits in windows, and the waits for them. Waits let go of the GIL; they end when the run
 * fails, when a member aborts the domain, or at their own time. Chip processes, inside a task. docs/task.md.
 */
#include "view.h"

#include <string.h>

/* ---- words of a call ---- */

int signal_op_read(PyObject *op, PyObject *strong, int *ret)
{
    const char *name = "set";
    if (op && !(name = PyUnicode_Check(op) ? PyUnicode_AsUTF8AndSize(op, NULL) : "")) {
        return -1;
    }
    if (strcmp(name, "set") != 0 && strcmp(name, "add") != 0) {
        PyErr_Format(PyExc_ValueError, "op is %R: 'set' or 'add'", op);
        return -1;
    }
    int is_strong = strong ? PyObject_IsTrue(strong) : 0;
    if (is_strong < 0) {
        return -1;
    }
    *ret = (name[0] == 's' ? TSM_SIGNAL_SET : TSM_SIGNAL_ADD) | (is_strong ? TSM_SIGNAL_STRONG : 0);
    return 0;
}

static int compare_read(PyObject *o, int *ret)
{
    static const struct {
        const char *symbol, *word;
        int code;
    } table[] = {{"==", "eq", TSM_EQ}, {"!=", "ne", TSM_NE}, {">", "gt", TSM_GT},
                 {">=", "ge", TSM_GE}, {"<", "lt", TSM_LT},  {"<=", "le", TSM_LE}};
    const char *text = PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, NULL) : "";
    if (!text) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (strcmp(text, table[i].symbol) == 0 || strcmp(text, table[i].word) == 0) {
            *ret = table[i].code;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "compare is %R: '==', '!=', '>', '>=', '<', '<=', or 'eq', 'ne', 'gt', 'ge', "
                 "'lt', 'le'",
                 o);
    return -1;
}

/* Unsigned, as the library compares; signed where the place says int64. */
static PyObject *signal_object(const struct place *p, uint64_t value)
{
    return p->dtype == TSM_I64 ? PyLong_FromLongLong((int64_t)value)
                               : PyLong_FromUnsignedLongLong(value);
}

/* What a call waits for or tests. */
struct wish {
    struct place place;
    uint64_t value;
    int cmp;
    tsm_sym *list; /* of several: PyMem_Malloc */
    uint32_t count;
    int64_t timeout_ns;
};

static int wish_read(PyObject *compare, PyObject *value, struct wish *w)
{
    return compare_read(compare, &w->cmp) != 0 ? -1 : bits_read(value, "value", &w->value);
}

/* ---- one ---- */

static PyObject *view_signal(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"signal", {"place", "value", "rank", "op", "strong"}, 5, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[5];
    struct place p;
    uint64_t value;
    uint32_t rank;
    int op;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        signal_place_read(self, v[0], "place", &p) != 0 || bits_read(v[1], "value", &value) != 0 ||
        rank_read(self, v[2], "rank", &rank) != 0 || signal_op_read(v[3], v[4], &op) != 0) {
        return NULL;
    }
    return view_done(self, tsm_signal(self->c, p.sym, value, op, rank), s.function);
}

static PyObject *view_signal_fetch(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names)
{
    static struct signature s = {"signal_fetch", {"place"}, 1, 1, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[1];
    struct place p;
    uint64_t value = 0;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        signal_place_read(self, v[0], "place", &p) != 0) {
        return NULL;
    }
    int rc = tsm_signal_fetch(self->c, p.sym, &value);
    return rc == 0 ? signal_object(&p, value) : view_raise(self, rc, s.function);
}

static PyObject *view_wait_until(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"wait_until", {"place", "compare", "value", "timeout"}, 4, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[4];
    struct wish w;
    uint64_t seen = 0;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        signal_place_read(self, v[0], "place", &w.place) != 0 || wish_read(v[1], v[2], &w) != 0 ||
        seconds_read(v[3], "timeout", &w.timeout_ns) != 0) {
        return NULL;
    }
    gil_leave();
    int rc = tsm_signal_wait_until(self->c, w.place.sym, w.cmp, w.value, &seen, w.timeout_ns);
    gil_enter();
    return rc == 0 ? signal_object(&w.place, seen) : view_raise(self, rc, s.function);
}

static PyObject *view_test(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"test", {"place", "compare", "value"}, 3, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[3];
    struct wish w;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0 ||
        signal_place_read(self, v[0], "place", &w.place) != 0 || wish_read(v[1], v[2], &w) != 0) {
        return NULL;
    }
    int rc = tsm_signal_test(self->c, w.place.sym, w.cmp, w.value, NULL);
    return rc >= 0 ? PyBool_FromLong(rc) : view_raise(self, rc, s.function);
}

/* ---- several ---- */

/* Each element of one place is a signal. */
static int list_of_place(struct view *self, PyObject *o, struct wish *w)
{
    struct place p;
    if (signal_place_read(self, o, "places", &p) != 0) {
        return -1;
    }
    uint64_t count = place_bytes(&p) / 8;
    if (count > UINT32_MAX) {
        return view_refuse(self, TSM_ERANGE, "places has %llu signals", (unsigned long long)count);
    }
    w->count = (uint32_t)count;
    w->list = PyMem_Malloc((count ? count : 1) * sizeof(*w->list));
    if (!w->list) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        w->list[i] = tsm_offset(p.sym, i * UINT64_C(8));
    }
    return 0;
}

static int list_of_places(struct view *self, PyObject *o, struct wish *w)
{
    PyObject *places = PySequence_Tuple(o);
    if (!places) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError,
                         "places must be a sequence of places or one that is not an offset, not %R",
                         Py_TYPE(o));
        }
        return -1;
    }
    Py_ssize_t count = PyTuple_Size(places);
    w->count = (uint32_t)count;
    w->list = PyMem_Malloc((size_t)(count ? count : 1) * sizeof(*w->list));
    if (!w->list) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; w->list && i < count; i++) {
        char what[32];
        struct place p;
        PyOS_snprintf(what, sizeof(what), "places[%zd]", i);
        if (signal_place_read(self, PyTuple_GetItem(places, i), what, &p) != 0) {
            PyMem_Free(w->list);
            w->list = NULL;
            break;
        }
        w->list[i] = p.sym;
    }
    Py_DECREF(places);
    return w->list ? 0 : -1;
}

/* A name, an array, or (name, first) and (name, first, count): a sequence of places has no number behind a name. */
static bool is_place(PyObject *o)
{
    return PyUnicode_Check(o) || PyObject_CheckBuffer(o) ||
           (PyTuple_Check(o) && PyTuple_Size(o) >= 2 && PyUnicode_Check(PyTuple_GetItem(o, 0)) &&
            PyIndex_Check(PyTuple_GetItem(o, 1)) && !PyObject_CheckBuffer(PyTuple_GetItem(o, 1)));
}

/* After it w->list is to be freed. */
static int several_read(struct view *self, PyObject *const *v, PyObject *timeout, struct wish *w)
{
    if (!view_use(self) || wish_read(v[1], v[2], w) != 0 ||
        seconds_read(timeout, "timeout", &w->timeout_ns) != 0) {
        return -1;
    }
    return is_place(v[0]) ? list_of_place(self, v[0], w) : list_of_places(self, v[0], w);
}

static PyObject *view_wait_all(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"wait_all", {"places", "compare", "value", "timeout"}, 4, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[4];
    struct wish w;
    if (signature_read(&s, args, count, names, v) != 0 || several_read(self, v, v[3], &w) != 0) {
        return NULL;
    }
    gil_leave();
    int rc = tsm_signal_wait_all(self->c, w.list, w.count, w.cmp, w.value, w.timeout_ns);
    gil_enter();
    PyMem_Free(w.list);
    return view_done(self, rc, s.function);
}

static PyObject *view_wait_any(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"wait_any", {"places", "compare", "value", "timeout"}, 4, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[4];
    struct wish w;
    uint32_t which = 0;
    if (signature_read(&s, args, count, names, v) != 0 || several_read(self, v, v[3], &w) != 0) {
        return NULL;
    }
    gil_leave();
    int rc = tsm_signal_wait_any(self->c, w.list, w.count, w.cmp, w.value, &which, w.timeout_ns);
    gil_enter();
    PyMem_Free(w.list);
    return rc == 0 ? PyLong_FromUnsignedLong(which) : view_raise(self, rc, s.function);
}

static PyObject *view_test_all(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"test_all", {"places", "compare", "value"}, 3, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[3];
    struct wish w;
    if (signature_read(&s, args, count, names, v) != 0 || several_read(self, v, NULL, &w) != 0) {
        return NULL;
    }
    int rc = tsm_signal_test_all(self->c, w.list, w.count, w.cmp, w.value);
    PyMem_Free(w.list);
    return rc >= 0 ? PyBool_FromLong(rc) : view_raise(self, rc, s.function);
}

static PyObject *view_test_any(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"test_any", {"places", "compare", "value"}, 3, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[3];
    struct wish w;
    uint32_t which = 0;
    if (signature_read(&s, args, count, names, v) != 0 || several_read(self, v, NULL, &w) != 0) {
        return NULL;
    }
    int rc = tsm_signal_test_any(self->c, w.list, w.count, w.cmp, w.value, &which);
    PyMem_Free(w.list);
    if (rc == 0) {
        Py_RETURN_NONE;
    }
    return rc > 0 ? PyLong_FromUnsignedLong(which) : view_raise(self, rc, s.function);
}

/* ---- the methods ---- */

#define WAIT_RAISES                                                                                \
    "\n\nRaises:\n    WaitTimeoutError: the time is over; the call may be repeated.\n"             \
    "    AbortedError: the run has failed.\n    PeerError: a member has aborted the domain.\n"     \
    "    ArgumentError: not aligned to 8 bytes, or outside of the window."

PyMethodDef signal_methods[] = {
    {"signal", FAST(view_signal),
     "signal($self, place, value, rank, op='set', strong=False)\n--\n\n"
     "Sets or adds to the signal in rank's window, and wakes who waits for it.\n\n"
     "Args:\n    place: a word of 64 bits, aligned.\n    value: 64 bits, of either sign.\n    "
     "rank: of the domain.\n"
     "    op: \"set\" or \"add\".\n    strong: not before any earlier put of this task to that "
     "rank has arrived.\n\n"
     "Raises:\n    ArgumentError: no such rank, not aligned.\n    ValueError: another op."},
    {"signal_fetch", FAST(view_signal_fetch),
     "signal_fetch($self, place)\n--\n\n"
     "The signal in this rank's window now; unsigned, but signed where the place is int64."},
    {"wait_until", FAST(view_wait_until),
     "wait_until($self, place, compare, value, timeout=None)\n--\n\n"
     "Waits until the signal in this rank's window compares with value. Returns what it is "
     "then.\n\n"
     "Args:\n    place: a word of 64 bits in the own window.\n    compare: \"==\", \"!=\", \">\", "
     "\">=\", \"<\", \"<=\", or "
     "\"eq\", \"ne\", \"gt\", \"ge\", \"lt\",\n        \"le\"; unsigned.\n    value: 64 bits.\n"
     "    timeout: seconds; None: no limit." WAIT_RAISES},
    {"wait_all", FAST(view_wait_all),
     "wait_all($self, places, compare, value, timeout=None)\n--\n\n"
     "Waits until each of the signals has compared with value.\n\n"
     "Args:\n    places: a list of places, or one place that is no offset: each of its elements.\n"
     "    compare, value, timeout: as in `wait_until`." WAIT_RAISES},
    {"wait_any", FAST(view_wait_any),
     "wait_any($self, places, compare, value, timeout=None)\n--\n\n"
     "Waits until one of the signals compares with value. Returns its index, the lowest that is "
     "seen.\n\n"
     "Args:\n    places, compare, value, timeout: as in `wait_all`; at least one." WAIT_RAISES},
    {"test", FAST(view_test),
     "test($self, place, compare, value)\n--\n\n"
     "Whether the signal in this rank's window compares with value now."},
    {"test_all", FAST(view_test_all),
     "test_all($self, places, compare, value)\n--\n\nWhether each of the signals does now."},
    {"test_any", FAST(view_test_any),
     "test_any($self, places, compare, value)\n--\n\n"
     "Index of the lowest of the signals that does now, or None."},
    {0}};

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Callables: handles of what tasks can run, symbols and functions of Python, and how the latter get to the children:
 * pickled, or inherited by a fork. Program; owns the numbers of the functions that are to be inherited.
 */
#include "host.h"

#include <string.h>

PyTypeObject *callable_type;

/* ---- functions that children inherit ---- */

/* Remembers a function for the children that are to inherit it; until they have, or never will. */
static int inherit(struct worker *self, PyObject *function, uint64_t *ret)
{
    if (self->inherited_count == self->inherited_max) {
        Py_ssize_t max = self->inherited_max ? self->inherited_max * 2 : 16;
        uint64_t *more = PyMem_Realloc(self->inherited, (size_t)max * sizeof(*more));
        if (!more) {
            PyErr_NoMemory();
            return -1;
        }
        self->inherited = more;
        self->inherited_max = max;
    }
    if (child_remember(function, ret) != 0) {
        return -1;
    }
    self->inherited[self->inherited_count++] = *ret;
    return 0;
}

/* The keeper has a copy for its children, or there will be none. */
void callables_forget_inherited(struct worker *self)
{
    while (self->inherited_count > 0) {
        child_forget(self->inherited[--self->inherited_count]);
    }
}

/* ---- handles ---- */

/* How many handles a callable has: only the last unregister ends it. */
static int count_handle(struct worker *self, tsm_callable value, int change, long *ret)
{
    PyObject *key = PyLong_FromUnsignedLongLong(value.value);
    PyObject *old = key ? PyDict_GetItemWithError(self->counts, key) : NULL;
    *ret = (old ? PyLong_AsLong(old) : 0) + change;
    PyObject *fresh = key && !PyErr_Occurred() ? PyLong_FromLong(*ret) : NULL;
    int rc = -1;
    if (fresh) {
        rc =
            *ret > 0 ? PyDict_SetItem(self->counts, key, fresh) : PyDict_DelItem(self->counts, key);
    }
    Py_XDECREF(key);
    Py_XDECREF(fresh);
    return rc;
}

static PyObject *callable_new(struct worker *self, tsm_callable value, PyObject *name,
                              bool is_python)
{
    long count;
    struct callable_handle *c = (struct callable_handle *)object_new(callable_type);
    if (!c || count_handle(self, value, 1, &count) != 0) {
        Py_XDECREF((PyObject *)c);
        return NULL;
    }
    c->worker = (struct worker *)Py_NewRef((PyObject *)self);
    c->name = Py_NewRef(name);
    c->value = value;
    c->is_python = is_python;
    c->registered = true;
    return (PyObject *)c;
}

PyObject *worker_register_symbol(PyObject *o, PyObject *args)
{
    struct worker *self = (struct worker *)o;
    const char *path, *symbol, *text;
    PyObject *name;
    tsm_callable value;
    if (!PyArg_ParseTuple(args, "ssO", &path, &symbol, &name) ||
        text_read(name, "name", &text) != 0 || worker_enter(self) != 0) {
        return NULL;
    }
    int rc = tsm_register_symbol(self->w, path, symbol, text, &value);
    return rc == 0 ? callable_new(self, value, name, false) : worker_raise(self, rc);
}

/* The data of a callable: SOURCE_PICKLE and the pickle, or SOURCE_INHERITED and the number of what children inherit. */
static int callable_data(struct worker *self, PyObject *function, PyObject *pickled, char **ret,
                         Py_ssize_t *ret_bytes)
{
    uint64_t number = 0;
    Py_ssize_t bytes = sizeof(number);
    const void *from = &number;
    if (pickled == Py_None) {
        if (inherit(self, function, &number) != 0) {
            return -1;
        }
    } else {
        bytes = PyBytes_Size(pickled);
        from = bytes < 0 ? NULL : PyBytes_AsString(pickled);
    }
    char *data = from ? PyMem_Malloc((size_t)bytes + 1) : NULL;
    if (!data) {
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    }
    data[0] = pickled == Py_None ? SOURCE_INHERITED : SOURCE_PICKLE;
    memcpy(data + 1, from, (size_t)bytes);
    *ret = data;
    *ret_bytes = bytes + 1;
    return 0;
}

PyObject *worker_register_python(PyObject *o, PyObject *args)
{
    struct worker *self = (struct worker *)o;
    PyObject *function, *pickled, *name;
    struct tsm_callable_opts opts = TSM_CALLABLE_OPTS_INIT;
    tsm_callable value;
    char *data;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "OOO", &function, &pickled, &name) ||
        text_read(name, "name", &opts.name) != 0 || worker_enter(self) != 0 ||
        callable_data(self, function, pickled, &data, &bytes) != 0) {
        return NULL;
    }
    opts.path = child_object();
    opts.symbol = "transom_python_task";
    opts.load = "transom_python_load";
    opts.unload = "transom_python_unload";
    opts.data = data;
    opts.bytes = (uint64_t)bytes;
    int rc = tsm_register_loaded(self->w, &opts, &value);
    PyMem_Free(data);
    return rc == 0 ? callable_new(self, value, name, true) : worker_raise(self, rc);
}

PyObject *worker_unregister(PyObject *o, PyObject *callable)
{
    struct worker *self = (struct worker *)o;
    struct callable_handle *c = (struct callable_handle *)callable;
    long count;
    if (Py_TYPE(callable) != callable_type) {
        PyErr_Format(PyExc_TypeError, "callable must be what register returned, not %R",
                     Py_TYPE(callable));
        return NULL;
    }
    if (c->worker != self || !c->registered) {
        PyErr_SetObject(PyExc_KeyError, callable);
        return NULL;
    }
    if (worker_enter(self) != 0 || count_handle(self, c->value, -1, &count) != 0) {
        return NULL;
    }
    c->registered = false;
    int rc = count == 0 ? tsm_unregister(self->w, c->value) : 0;
    return rc == 0 ? Py_NewRef(Py_None) : worker_raise(self, rc);
}

static PyObject *callable_get(PyObject *o, void *closure)
{
    const struct callable_handle *c = (struct callable_handle *)o;
    switch ((int)(uintptr_t)closure) {
    case 0:
        return Py_NewRef(c->name);
    case 1:
        return PyBool_FromLong(c->is_python);
    default:
        return PyBool_FromLong(c->registered && c->worker->state != STATE_CLOSED);
    }
}

static PyObject *callable_repr(PyObject *o)
{
    const struct callable_handle *c = (struct callable_handle *)o;
    return PyUnicode_FromFormat("<transom.Callable '%U', %s%s>", c->name,
                                c->is_python ? "Python" : "C",
                                c->registered ? "" : ", unregistered");
}

static int callable_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT((PyObject *)((struct callable_handle *)o)->worker);
    return 0;
}

static void callable_dealloc(PyObject *o)
{
    struct callable_handle *c = (struct callable_handle *)o;
    PyObject_GC_UnTrack(o);
    Py_XDECREF((PyObject *)c->worker);
    Py_CLEAR(c->name);
    object_free(o);
}

static PyGetSetDef callable_getters[] = {
    {"name", callable_get, NULL, "What errors and traces call it.", (void *)0},
    {"is_python", callable_get, NULL, "A function of Python, else a symbol of a shared object.",
     (void *)1},
    {"registered", callable_get, NULL, "It may be submitted.", (void *)2},
    {0}};
static PyType_Slot callable_slots[] = {{Py_tp_doc, "What a task can run: from Worker.register."},
                                       {Py_tp_dealloc, callable_dealloc},
                                       {Py_tp_traverse, callable_traverse},
                                       {Py_tp_getset, callable_getters},
                                       {Py_tp_repr, callable_repr},
                                       {0}};
static PyType_Spec callable_spec = {
    "transom.Callable", sizeof(struct callable_handle), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, callable_slots};

int callable_module_init(PyObject *module)
{
    callable_type = type_new(module, &callable_spec, NULL);
    return callable_type ? 0 : -1;
}

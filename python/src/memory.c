/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Host memory: what keeps the bytes of a Buffer, and waiting for those who use it. Memory that is still referred to when its
 * worker closes stays mapped until the last reference goes. Program; owns that mapping.
 */
#include "host.h"

#include <sys/mman.h>

static PyTypeObject *memory_type;

struct memory {
    PyObject_HEAD struct worker *worker;
    void *data;
};

PyObject *memory_new(struct worker *self, void *data)
{
    struct memory *m = (struct memory *)object_new(memory_type);
    if (m) {
        m->worker = (struct worker *)Py_NewRef((PyObject *)self);
        m->data = data;
        self->memories++;
    }
    return (PyObject *)m;
}

bool memory_is_there(PyObject *o)
{
    if (Py_TYPE(o) != memory_type) {
        return true;
    }
    const struct worker *w = ((struct memory *)o)->worker;
    return w && (w->state != STATE_CLOSED || w->host_base);
}

void memory_unmap_host(struct worker *self)
{
    if (self->host_base) {
        munmap(self->host_base, self->host_bytes);
        self->host_base = NULL;
    }
}

static int memory_clear(PyObject *o)
{
    struct memory *m = (struct memory *)o;
    struct worker *w = m->worker;
    m->worker = NULL;
    if (w) {
        if (w->state != STATE_CLOSED) {
            worker_discard(w, m->data, NULL);
        }
        if (--w->memories == 0) {
            memory_unmap_host(w);
        }
        Py_DECREF((PyObject *)w);
    }
    return 0;
}

static int memory_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT((PyObject *)((struct memory *)o)->worker);
    return 0;
}

static void memory_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    memory_clear(o);
    object_free(o);
}

/* No tp_clear: arrays may still be over the memory while a cycle is taken apart. */
static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, memory_dealloc}, {Py_tp_traverse, memory_traverse}, {0}};
static PyType_Spec memory_spec = {
    "transom._Memory", sizeof(struct memory), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, memory_slots};

PyObject *worker_buffer(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"buffer", {"shape", "dtype"}, 2, 1, {0}};
    struct worker *self = (struct worker *)o;
    PyObject *values[2];
    struct tsm_tensor t = {0};
    int dtype = TSM_F32;
    if (signature_read(&s, args, count, names, values) != 0 ||
        shape_read(values[0], t.shape, &t.ndim) != 0 ||
        (values[1] && dtype_read(values[1], "dtype", &dtype) != 0) ||
        worker_enter_ready(self) != 0) {
        return NULL;
    }
    t.dtype = (uint8_t)dtype;
    uint64_t bytes;
    if (tensor_bytes(&t, &bytes) != 0) {
        return NULL;
    }
    int rc = tsm_buffer_create(self->w, bytes ? bytes : 1, &t.data);
    if (rc != 0) {
        return worker_raise(self, rc);
    }
    PyObject *memory = memory_new(self, t.data);
    PyObject *buffer = memory ? tensor_new(&t, memory, true, false) : NULL;
    if (!memory) {
        tsm_buffer_destroy(self->w, t.data);
    }
    Py_XDECREF(memory);
    return buffer;
}

PyObject *worker_host_wait(struct worker *self, PyObject *tensor, PyObject *access)
{
    static const struct {
        const char *name;
        int access;
    } known[] = {{"r", TSM_READ}, {"w", TSM_WRITE}, {"rw", TSM_READ | TSM_WRITE}};
    struct tsm_tensor t;
    int how = access ? 0 : TSM_READ;
    for (size_t i = 0; access && i < 3; i++) {
        if (PyUnicode_Check(access) &&
            PyUnicode_CompareWithASCIIString(access, known[i].name) == 0) {
            how = known[i].access;
        }
    }
    if (how == 0) {
        PyErr_Format(PyExc_ValueError, "access is %R: 'r', 'w' or 'rw'", access);
        return NULL;
    }
    if (tensor_read(tensor, "tensor", &t) != 0) {
        return NULL;
    }
    int64_t low = 0, high = (int64_t)tsm_dtype_bytes(t.dtype);
    bool is_empty = false;
    for (uint32_t d = 0; d < t.ndim; d++) {
        int64_t step = t.stride_given ? t.strides[d] : 0;
        is_empty |= t.shape[d] == 0;
        if (!t.stride_given) {
            high *= (int64_t)t.shape[d];
        } else if (t.shape[d] != 0) {
            *(step < 0 ? &low : &high) += step * (int64_t)(t.shape[d] - 1);
        }
    }
    if (is_empty) {
        return Py_NewRef(Py_None);
    }
    int rc = tsm_host_wait(self->w, (uint8_t *)t.data + low, (uint64_t)(high - low), how);
    return rc == 0 ? Py_NewRef(Py_None) : worker_raise(self, rc);
}

PyObject *worker_host_wait_method(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names)
{
    static struct signature s = {"host_wait", {"tensor", "access"}, 2, 1, {0}};
    struct worker *self = (struct worker *)o;
    PyObject *values[2];
    if (signature_read(&s, args, count, names, values) != 0 || worker_enter_ready(self) != 0) {
        return NULL;
    }
    return worker_host_wait(self, values[0], values[1]);
}

int memory_module_init(PyObject *module)
{
    memory_type = type_new(module, &memory_spec, NULL);
    return memory_type ? 0 : -1;
}

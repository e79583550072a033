/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Tensor, a view of memory of a worker, and Buffer, one of host memory: that has the buffer protocol and DLPack, so it
 * is an array of NumPy or PyTorch without a copy. Any process: the arrays that a task is given are over Buffers, too.
 */
#include "core.h"
#include "dlpack.h"

#include <stdlib.h>
#include <string.h>

PyTypeObject *tensor_type, *buffer_type;

/* ---- shapes ---- */

static bool is_contiguous(const struct tsm_tensor *t)
{
    int64_t step = (int64_t)tsm_dtype_bytes(t->dtype);
    for (uint32_t d = t->ndim; d-- > 0;) {
        if (t->shape[d] == 0) {
            return true;
        }
        if (t->shape[d] != 1 && t->strides[d] != step) {
            return false;
        }
        step *= (int64_t)t->shape[d];
    }
    return true;
}

static void fill_strides(struct tsm_tensor *t)
{
    int64_t step = (int64_t)tsm_dtype_bytes(t->dtype);
    for (uint32_t d = t->ndim; d-- > 0;) {
        t->strides[d] = step;
        step *= (int64_t)t->shape[d];
    }
}

static uint64_t element_count(const struct tsm_tensor *t)
{
    uint64_t count = 1;
    for (uint32_t d = 0; d < t->ndim; d++) {
        count *= t->shape[d];
    }
    return count;
}

int tensor_bytes(const struct tsm_tensor *t, uint64_t *ret)
{
    uint64_t bytes = tsm_dtype_bytes(t->dtype);
    bool is_empty = false;
    for (uint32_t d = 0; d < t->ndim; d++) {
        is_empty |= t->shape[d] == 0;
        if (t->shape[d] != 0 &&
            (__builtin_mul_overflow(bytes, t->shape[d], &bytes) || bytes >> 48 != 0)) {
            PyErr_Format(PyExc_ValueError, "shape[%u] is %llu: too large", d,
                         (unsigned long long)t->shape[d]);
            return -1;
        }
    }
    *ret = is_empty ? 0 : bytes;
    return 0;
}

int shape_read(PyObject *o, uint64_t *shape, uint8_t *ret_ndim)
{
    int64_t one, *values = NULL;
    Py_ssize_t count = 1;
    if (PyLong_Check(o) || (PyIndex_Check(o) && !PySequence_Check(o))) { /* an array is both */
        if (int_read(o, "shape", 0, INT64_C(1) << 48, &one) != 0) {
            return -1;
        }
        shape[0] = (uint64_t)one;
        *ret_ndim = 1;
        return 0;
    }
    if (ints_read(o, "shape", 0, INT64_C(1) << 48, &values, &count) != 0) {
        return -1;
    }
    if (count > TSM_DIMS_MAX) {
        PyErr_Format(PyExc_ValueError, "shape has %zd dimensions: at most %d", count, TSM_DIMS_MAX);
        PyMem_Free(values);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        shape[i] = (uint64_t)values[i];
    }
    *ret_ndim = (uint8_t)count;
    PyMem_Free(values);
    return 0;
}

static PyObject *tuple_of(const void *values, uint32_t count, bool is_signed)
{
    PyObject *tuple = PyTuple_New(count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *n = is_signed ? PyLong_FromLongLong(((const int64_t *)values)[i])
                                : PyLong_FromUnsignedLongLong(((const uint64_t *)values)[i]);
        if (!n || PyTuple_SetItem(tuple, i, n) != 0) {
            Py_DECREF(tuple);
            return NULL;
        }
    }
    return tuple;
}

/* ---- making ---- */

PyObject *tensor_new(const struct tsm_tensor *t, PyObject *memory, bool buffer, bool readonly)
{
    struct tensor *self = (struct tensor *)object_new(buffer ? buffer_type : tensor_type);
    if (!self) {
        return NULL;
    }
    self->t = *t;
    if (!t->stride_given) {
        fill_strides(&self->t);
    }
    self->t.stride_given = !is_contiguous(&self->t);
    self->t.tag = 0;
    self->memory = Py_XNewRef(memory);
    self->readonly = readonly;
    return (PyObject *)self;
}

static int read_strides(PyObject *o, struct tsm_tensor *t)
{
    int64_t *values;
    Py_ssize_t count;
    if (ints_read(o, "strides", -(INT64_C(1) << 48), INT64_C(1) << 48, &values, &count) != 0) {
        return -1;
    }
    if (count != t->ndim) {
        PyErr_Format(PyExc_ValueError, "strides has %zd numbers, shape %d", count, t->ndim);
        PyMem_Free(values);
        return -1;
    }
    memcpy(t->strides, values, (size_t)count * sizeof(*values));
    t->stride_given = 1;
    PyMem_Free(values);
    return 0;
}

static PyObject *tensor_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "shape", "dtype", "strides", NULL};
    PyObject *data, *shape, *dtype = NULL, *strides = Py_None;
    struct tsm_tensor t = {.dtype = TSM_F32};
    uint64_t address, bytes;
    int code = TSM_F32;
    (void)type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO:Tensor", names, &data, &shape, &dtype,
                                     &strides) ||
        bits_read(data, "data", &address) != 0 || shape_read(shape, t.shape, &t.ndim) != 0 ||
        (dtype && dtype_read(dtype, "dtype", &code) != 0)) {
        return NULL;
    }
    t.data = (void *)(uintptr_t)address;
    t.dtype = (uint8_t)code;
    if (tensor_bytes(&t, &bytes) != 0 || (strides != Py_None && read_strides(strides, &t) != 0)) {
        return NULL;
    }
    return tensor_new(&t, NULL, false, false);
}

static PyObject *make_empty(PyObject *module, PyObject *const *args, Py_ssize_t count,
                            PyObject *names)
{
    static struct signature s = {"empty", {"shape", "dtype"}, 2, 1, {0}};
    PyObject *values[2];
    struct tsm_tensor t = {.dtype = TSM_F32};
    uint64_t bytes;
    int code = TSM_F32;
    (void)module;
    if (signature_read(&s, args, count, names, values) != 0 ||
        shape_read(values[0], t.shape, &t.ndim) != 0 ||
        (values[1] && dtype_read(values[1], "dtype", &code) != 0)) {
        return NULL;
    }
    t.dtype = (uint8_t)code;
    if (tensor_bytes(&t, &bytes) != 0) {
        return NULL;
    }
    struct tensor *self = (struct tensor *)tensor_new(&t, NULL, false, false);
    if (self) {
        self->pending = true;
    }
    return (PyObject *)self;
}

/* ---- reading what is like a tensor ---- */

static int from_view(const Py_buffer *view, const char *what, struct tsm_tensor *ret)
{
    memset(ret, 0, sizeof(*ret));
    int dtype = dtype_of_format(view->format, view->itemsize);
    if (dtype == 0) {
        PyErr_Format(PyExc_TypeError, "%s has elements of format '%s', which is no type of tensors",
                     what, view->format ? view->format : "?");
        return -1;
    }
    if (view->ndim > TSM_DIMS_MAX || view->suboffsets) {
        PyErr_Format(PyExc_ValueError, "%s has %d dimensions: at most %d", what, view->ndim,
                     TSM_DIMS_MAX);
        return -1;
    }
    ret->data = view->buf;
    ret->dtype = (uint8_t)dtype;
    ret->ndim = (uint8_t)view->ndim;
    for (int d = 0; d < view->ndim; d++) {
        ret->shape[d] = (uint64_t)view->shape[d];
        ret->strides[d] = view->strides[d];
    }
    ret->stride_given = !is_contiguous(ret);
    return 0;
}

/* A DLPack of this machine's memory; its exporter keeps the bytes, which o refers to. */
static int from_dlpack(PyObject *o, const char *what, struct tsm_tensor *ret)
{
    PyObject *capsule = PyObject_CallMethod(o, "__dlpack__", NULL);
    struct dlpack_managed *m = capsule ? PyCapsule_GetPointer(capsule, "dltensor") : NULL;
    if (!m) {
        Py_XDECREF(capsule);
        return -1;
    }
    const struct dlpack_tensor *d = &m->tensor;
    memset(ret, 0, sizeof(*ret));
    int dtype = dlpack_to_dtype(d->dtype);
    int rc = -1;
    if (d->device.type != DLPACK_CPU) {
        PyErr_Format(PyExc_TypeError, "%s is in the memory of a device (DLPack type %d)", what,
                     (int)d->device.type);
    } else if (dtype == 0 || d->ndim > TSM_DIMS_MAX) {
        PyErr_Format(PyExc_TypeError, "%s has a type or a number of dimensions that is no tensor's",
                     what);
    } else {
        ret->data = (uint8_t *)d->data + d->byte_offset;
        ret->dtype = (uint8_t)dtype;
        ret->ndim = (uint8_t)d->ndim;
        for (int32_t i = 0; i < d->ndim; i++) {
            ret->shape[i] = (uint64_t)d->shape[i];
        }
        fill_strides(ret);
        for (int32_t i = 0; d->strides && i < d->ndim; i++) {
            ret->strides[i] = d->strides[i] * (int64_t)tsm_dtype_bytes(dtype);
        }
        ret->stride_given = !is_contiguous(ret);
        rc = 0;
    }
    Py_DECREF(capsule); /* calls the deleter: it was not taken */
    return rc;
}

int tensor_read(PyObject *o, const char *what, struct tsm_tensor *ret)
{
    if (tensor_check(o)) {
        *ret = ((struct tensor *)o)->t;
        return 0;
    }
    if (PyObject_CheckBuffer(o)) {
        Py_buffer view;
        if (PyObject_GetBuffer(o, &view, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
            return -1;
        }
        int rc = from_view(&view, what, ret);
        PyBuffer_Release(&view);
        return rc;
    }
    PyObject *method = PyObject_GetAttrString(o, "__dlpack__");
    if (!method) {
        PyErr_Format(PyExc_TypeError,
                     "%s must be a Buffer, a Tensor or an array over memory of the worker, not %R",
                     what, Py_TYPE(o));
        return -1;
    }
    Py_DECREF(method);
    return from_dlpack(o, what, ret);
}

/* ---- arrays ---- */

PyObject *array_new(const struct tsm_tensor *t, PyObject *memory, bool readonly)
{
    static PyObject *as_array; /* numpy.asarray, or None */
    if (!as_array) {
        PyObject *numpy = PyImport_ImportModule("numpy");
        as_array = numpy ? PyObject_GetAttrString(numpy, "asarray") : NULL;
        Py_XDECREF(numpy);
        if (!as_array) {
            PyErr_Clear();
            as_array = Py_NewRef(Py_None);
        }
    }
    PyObject *buffer = tensor_new(t, memory, true, readonly);
    if (!buffer) {
        return NULL;
    }
    PyObject *array = as_array == Py_None ? PyMemoryView_FromObject(buffer)
                                          : PyObject_CallFunctionObjArgs(as_array, buffer, NULL);
    Py_DECREF(buffer);
    return array;
}

static PyObject *buffer_numpy(PyObject *o, PyObject *unused)
{
    (void)unused;
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *array = numpy ? PyObject_CallMethod(numpy, "asarray", "O", o) : NULL;
    Py_XDECREF(numpy);
    return array;
}

/* The shape and strides that a consumer sees live in the object, as numbers of Py_ssize_t. */
_Static_assert(sizeof(Py_ssize_t) == sizeof(int64_t), "Py_ssize_t has 64 bits");

static int buffer_get(PyObject *o, Py_buffer *view, int flags)
{
    struct tensor *self = (struct tensor *)o;
    view->obj = NULL;
    if (self->memory && !memory_is_there(self->memory)) {
        core_raise(TSM_ECLOSED, "the worker is closed: its buffers are gone");
        return -1;
    }
    if (self->readonly && flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "an input of a task is read-only");
        return -1;
    }
    const int fortran = PyBUF_F_CONTIGUOUS & ~PyBUF_STRIDES;
    const int any = (PyBUF_C_CONTIGUOUS | PyBUF_ANY_CONTIGUOUS) & ~PyBUF_STRIDES;
    bool wants_strides = flags & PyBUF_STRIDES & ~PyBUF_ND;
    if ((self->t.stride_given && (!wants_strides || flags & any)) ||
        (flags & fortran && (self->t.stride_given || self->t.ndim > 1))) {
        PyErr_SetString(PyExc_BufferError, "the buffer is not contiguous in the order asked for");
        return -1;
    }
    view->obj = Py_NewRef(o);
    view->buf = self->t.data;
    view->itemsize = (Py_ssize_t)tsm_dtype_bytes(self->t.dtype);
    view->len = (Py_ssize_t)element_count(&self->t) * view->itemsize;
    view->readonly = self->readonly;
    view->ndim = self->t.ndim;
    view->format = flags & PyBUF_FORMAT ? (char *)dtype_format(self->t.dtype) : NULL;
    view->shape = flags & PyBUF_ND ? (Py_ssize_t *)self->t.shape : NULL;
    view->strides = wants_strides ? (Py_ssize_t *)self->t.strides : NULL;
    view->suboffsets = NULL;
    view->internal = NULL;
    return 0;
}

/* ---- DLPack ---- */

/* One of the two structs, what it needs, and what keeps the bytes. */
struct dlpack_export {
    union {
        struct dlpack_managed managed;
        struct dlpack_managed_versioned versioned;
    };
    PyObject *buffer;
    int64_t shape[TSM_DIMS_MAX], strides[TSM_DIMS_MAX];
};

static void export_delete(void *p)
{
    struct dlpack_export *e = p;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(e->buffer);
    PyGILState_Release(state);
    free(e);
}

static void managed_delete(struct dlpack_managed *m)
{
    export_delete(m);
}

static void versioned_delete(struct dlpack_managed_versioned *m)
{
    export_delete(m);
}

/* A consumer that took it has given the capsule another name. */
static void capsule_delete(PyObject *capsule)
{
    static const char *const names[] = {"dltensor", "dltensor_versioned"};
    for (int i = 0; i < 2; i++) {
        if (PyCapsule_IsValid(capsule, names[i])) {
            export_delete(PyCapsule_GetPointer(capsule, names[i]));
            return;
        }
    }
}

static struct dlpack_export *export_new(struct tensor *self)
{
    struct dlpack_export *e = malloc(sizeof(*e));
    if (!e) {
        PyErr_NoMemory();
        return NULL;
    }
    int64_t item = (int64_t)tsm_dtype_bytes(self->t.dtype);
    for (uint32_t d = 0; d < self->t.ndim; d++) {
        e->shape[d] = (int64_t)self->t.shape[d];
        e->strides[d] = self->t.strides[d] / item;
    }
    e->buffer = Py_NewRef((PyObject *)self);
    return e;
}

static PyObject *export_capsule(struct tensor *self, bool versioned)
{
    struct dlpack_export *e = export_new(self);
    if (!e) {
        return NULL;
    }
    const struct dlpack_tensor t = {.data = self->t.data,
                                    .device = {DLPACK_CPU, 0},
                                    .ndim = self->t.ndim,
                                    .dtype = dlpack_from_dtype(self->t.dtype),
                                    .shape = e->shape,
                                    .strides = e->strides};
    if (versioned) {
        e->versioned =
            (struct dlpack_managed_versioned){.major = 1,
                                              .deleter = versioned_delete,
                                              .flags = self->readonly ? DLPACK_READ_ONLY : 0,
                                              .tensor = t};
    } else {
        e->managed = (struct dlpack_managed){.tensor = t, .deleter = managed_delete};
    }
    PyObject *capsule =
        PyCapsule_New(e, versioned ? "dltensor_versioned" : "dltensor", capsule_delete);
    if (!capsule) {
        export_delete(e);
    }
    return capsule;
}

/* What the consumer says it knows, and what is asked for that cannot be had. */
static int read_dlpack_options(PyObject *args, PyObject *kwargs, bool *ret_versioned)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
    long type = DLPACK_CPU, id = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", names, &stream, &version,
                                     &device, &copy)) {
        return -1;
    }
    if (stream != Py_None || copy == Py_True ||
        (device != Py_None &&
         !PyArg_ParseTuple(device, "ll;dl_device must be a pair of ints", &type, &id))) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_BufferError,
                            "memory of the host, without a copy and without a stream");
        }
        return -1;
    }
    if (type != DLPACK_CPU) {
        PyErr_SetString(PyExc_BufferError, "dl_device: this is memory of the host");
        return -1;
    }
    long major = 0, minor = 0;
    if (version != Py_None &&
        !PyArg_ParseTuple(version, "ll;max_version must be a pair of ints", &major, &minor)) {
        return -1;
    }
    *ret_versioned = major >= 1;
    return 0;
}

static PyObject *buffer_dlpack(PyObject *o, PyObject *args, PyObject *kwargs)
{
    struct tensor *self = (struct tensor *)o;
    bool versioned = false;
    if (read_dlpack_options(args, kwargs, &versioned) != 0) {
        return NULL;
    }
    if (self->memory && !memory_is_there(self->memory)) {
        core_raise(TSM_ECLOSED, "the worker is closed: its buffers are gone");
        return NULL;
    }
    if (self->readonly && !versioned) {
        PyErr_SetString(PyExc_BufferError,
                        "an input of a task is read-only, which DLPack knows from version 1.0 on");
        return NULL;
    }
    return export_capsule(self, versioned);
}

static PyObject *buffer_dlpack_device(PyObject *o, PyObject *unused)
{
    (void)o;
    (void)unused;
    return Py_BuildValue("(ii)", DLPACK_CPU, 0);
}

/* ---- views ---- */

static PyObject *view_of(struct tensor *self, struct tsm_tensor *t)
{
    t->stride_given = 1;
    bool is_buffer = Py_TYPE((PyObject *)self) == buffer_type;
    if (self->pending) {
        PyErr_SetString(PyExc_ValueError, "the tensor has no memory yet");
        return NULL;
    }
    return tensor_new(t, self->memory, is_buffer, self->readonly);
}

/* One index at dimension `from` of the tensor: an int drops it, a slice narrows it. */
static int apply_index(const struct tsm_tensor *t, uint32_t from, PyObject *index,
                       struct tsm_tensor *ret)
{
    Py_ssize_t length = (Py_ssize_t)t->shape[from];
    if (PySlice_Check(index)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(index, &start, &stop, &step) != 0) {
            return -1;
        }
        Py_ssize_t count = PySlice_AdjustIndices(length, &start, &stop, step);
        ret->data = (uint8_t *)ret->data + (count ? start * t->strides[from] : 0);
        ret->shape[ret->ndim] = (uint64_t)count;
        ret->strides[ret->ndim++] = t->strides[from] * step;
        return 0;
    }
    Py_ssize_t i = PyNumber_AsSsize_t(index, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (i < -length || i >= length) {
        PyErr_Format(PyExc_IndexError, "index %zd is out of bounds for dimension %u of size %zd", i,
                     from, length);
        return -1;
    }
    ret->data = (uint8_t *)ret->data + (i < 0 ? i + length : i) * t->strides[from];
    return 0;
}

/* Ints, slices, one ellipsis. Dimensions that are not named stay whole. */
static int apply_indices(const struct tsm_tensor *t, PyObject *const *indices, Py_ssize_t count,
                         struct tsm_tensor *ret)
{
    Py_ssize_t named = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        named -= indices[i] == Py_Ellipsis;
    }
    if (named > t->ndim || count - named > 1) {
        PyErr_Format(PyExc_IndexError, "too many indices for a tensor of %d dimensions", t->ndim);
        return -1;
    }
    ret->ndim = 0;
    uint32_t from = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (indices[i] != Py_Ellipsis) {
            if (apply_index(t, from++, indices[i], ret) != 0) {
                return -1;
            }
            continue;
        }
        for (uint32_t whole = t->ndim - (uint32_t)named; whole > 0; whole--, from++) {
            ret->shape[ret->ndim] = t->shape[from];
            ret->strides[ret->ndim++] = t->strides[from];
        }
    }
    for (; from < t->ndim; from++) {
        ret->shape[ret->ndim] = t->shape[from];
        ret->strides[ret->ndim++] = t->strides[from];
    }
    return 0;
}

static PyObject *tensor_subscript(PyObject *o, PyObject *index)
{
    struct tensor *self = (struct tensor *)o;
    PyObject *indices[TSM_DIMS_MAX + 1];
    Py_ssize_t count = 1;
    indices[0] = index;
    if (PyTuple_Check(index)) {
        count = PyTuple_Size(index);
        if (count > TSM_DIMS_MAX + 1) {
            PyErr_SetString(PyExc_IndexError, "too many indices");
            return NULL;
        }
        for (Py_ssize_t i = 0; i < count; i++) {
            indices[i] = PyTuple_GetItem(index, i);
        }
    }
    struct tsm_tensor t = self->t;
    return apply_indices(&self->t, indices, count, &t) == 0 ? view_of(self, &t) : NULL;
}

static PyObject *tensor_reshape(PyObject *o, PyObject *args)
{
    struct tensor *self = (struct tensor *)o;
    struct tsm_tensor t = self->t;
    PyObject *shape = args;
    uint64_t bytes;
    if (PyTuple_Size(args) == 1 && !PyLong_Check(PyTuple_GetItem(args, 0))) {
        shape = PyTuple_GetItem(args, 0);
    }
    if (shape_read(shape, t.shape, &t.ndim) != 0 || tensor_bytes(&t, &bytes) != 0) {
        return NULL;
    }
    if (self->t.stride_given) {
        PyErr_SetString(PyExc_ValueError, "only a contiguous tensor can be given another shape");
        return NULL;
    }
    if (element_count(&t) != element_count(&self->t)) {
        PyErr_Format(PyExc_ValueError, "shape has %llu elements, the tensor %llu",
                     (unsigned long long)element_count(&t),
                     (unsigned long long)element_count(&self->t));
        return NULL;
    }
    fill_strides(&t);
    return view_of(self, &t);
}

static Py_ssize_t tensor_length(PyObject *o)
{
    const struct tsm_tensor *t = &((struct tensor *)o)->t;
    if (t->ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "len() of a tensor of a single element");
        return -1;
    }
    return (Py_ssize_t)t->shape[0];
}

/* The views along the first dimension, one by one. */
static PyObject *tensor_item(PyObject *o, Py_ssize_t i)
{
    struct tensor *self = (struct tensor *)o;
    struct tsm_tensor t = self->t;
    PyObject *index = PyLong_FromSsize_t(i);
    int rc = index ? apply_indices(&self->t, &index, 1, &t) : -1;
    Py_XDECREF(index);
    return rc == 0 ? view_of(self, &t) : NULL;
}

static PyObject *tensor_iterate(PyObject *o)
{
    if (((struct tensor *)o)->t.ndim == 0) {
        PyErr_SetString(PyExc_TypeError, "iteration over a tensor of a single element");
        return NULL;
    }
    return PySeqIter_New(o);
}

/* ---- asking ---- */

enum what { DATA, SHAPE, DTYPE, STRIDES, NDIM, ITEMSIZE, NBYTES, SIZE };

static PyObject *tensor_get(PyObject *o, void *closure)
{
    const struct tsm_tensor *t = &((struct tensor *)o)->t;
    switch ((enum what)(uintptr_t)closure) {
    case DATA:
        return PyLong_FromVoidPtr(t->data);
    case SHAPE:
        return tuple_of(t->shape, t->ndim, false);
    case DTYPE:
        return PyUnicode_FromString(dtype_long_name(t->dtype));
    case STRIDES:
        return tuple_of(t->strides, t->ndim, true);
    case NDIM:
        return PyLong_FromLong(t->ndim);
    case ITEMSIZE:
        return PyLong_FromSize_t(tsm_dtype_bytes(t->dtype));
    case NBYTES:
        return PyLong_FromUnsignedLongLong(element_count(t) * tsm_dtype_bytes(t->dtype));
    case SIZE:
    default:
        return PyLong_FromUnsignedLongLong(element_count(t));
    }
}

static PyObject *tensor_repr(PyObject *o)
{
    const struct tensor *self = (struct tensor *)o;
    PyObject *shape = tuple_of(self->t.shape, self->t.ndim, false);
    if (!shape) {
        return NULL;
    }
    const char *name = Py_TYPE(o) == buffer_type ? "Buffer" : "Tensor";
    const char *more = self->t.stride_given ? ", strided" : "";
    PyObject *text = self->pending
                         ? PyUnicode_FromFormat("<transom.%s %R %s, no memory yet>", name, shape,
                                                dtype_long_name(self->t.dtype))
                         : PyUnicode_FromFormat("<transom.%s %R %s%s at %p>", name, shape,
                                                dtype_long_name(self->t.dtype), more, self->t.data);
    Py_DECREF(shape);
    return text;
}

static int tensor_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((struct tensor *)o)->memory);
    return 0;
}

static void tensor_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    Py_CLEAR(((struct tensor *)o)->memory);
    object_free(o);
}

static PyGetSetDef getters[] = {
    {"data", tensor_get, NULL, "Address of the first element.", (void *)DATA},
    {"shape", tensor_get, NULL, "Elements in each dimension.", (void *)SHAPE},
    {"dtype", tensor_get, NULL, "Type of an element, as \"float32\".", (void *)DTYPE},
    {"strides", tensor_get, NULL, "Bytes from one element to the next in each dimension.",
     (void *)STRIDES},
    {"ndim", tensor_get, NULL, "Number of dimensions.", (void *)NDIM},
    {"itemsize", tensor_get, NULL, "Bytes of an element.", (void *)ITEMSIZE},
    {"nbytes", tensor_get, NULL, "Bytes of all elements.", (void *)NBYTES},
    {"size", tensor_get, NULL, "Number of elements.", (void *)SIZE},
    {0}};

static PyMethodDef tensor_methods[] = {
    {"reshape", tensor_reshape, METH_VARARGS,
     "reshape($self, *shape)\n--\n\n"
     "The same memory with another shape of as many elements.\n\n"
     "Raises:\n    ValueError: the numbers of elements differ, or the tensor is not contiguous."},
    {0}};

static PyType_Slot tensor_slots[] = {
    {Py_tp_doc,
     "Tensor(data, shape, dtype='float32', strides=None)\n--\n\n"
     "A view of memory of a worker, as an argument of tasks.\n\n"
     "Tensors come from Orchestrator.alloc, from the buffers of a domain, or are made of an "
     "address:\n"
     "one into a live window is ordered like the window.\n\n"
     "Args:\n    data: address of the first element.\n    shape: an int, or up to 8 of them.\n"
     "    dtype: type of an element: \"float32\", numpy.float32, torch.float32, ...\n"
     "    strides: bytes from one element to the next in each dimension; None: contiguous.\n\n"
     "Indexing with ints and slices gives views: tasks on parts that do not overlap are not "
     "ordered.\n"
     "The memory is a chip's: the program reads and writes it with copy_from and copy_to."},
    {Py_tp_new, tensor_make},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_traverse, tensor_traverse},
    {Py_tp_repr, tensor_repr},
    {Py_tp_getset, getters},
    {Py_tp_methods, tensor_methods},
    {Py_mp_subscript, tensor_subscript},
    {Py_mp_length, tensor_length},
    {Py_sq_item, tensor_item},
    {Py_tp_iter, tensor_iterate},
    {0}};
static PyType_Spec tensor_spec = {"transom.Tensor", sizeof(struct tensor), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
                                  tensor_slots};

static PyMethodDef buffer_methods[] = {
    {"numpy", buffer_numpy, METH_NOARGS,
     "numpy($self)\n--\n\nThe same memory as a NumPy array, without a copy."},
    {"__dlpack__", (PyCFunction)(void (*)(void))buffer_dlpack, METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "The same memory for torch.from_dlpack and its like."},
    {"__dlpack_device__", buffer_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self)\n--\n\n(1, 0): memory of the host."},
    {0}};

static PyType_Slot buffer_slots[] = {
    {Py_tp_doc, "Host memory that every process of the worker sees at the same address.\n\n"
                "From Worker.buffer, zeroed. numpy.asarray(b), b.numpy(), memoryview(b) and "
                "torch.from_dlpack(b) are the\n"
                "same bytes without a copy; a slice of a Buffer, or of such an array, is an "
                "argument of tasks, too. The\n"
                "memory is given back when nothing refers to it; what still refers to it when the "
                "worker closes stays\n"
                "readable. While tasks use it, Worker.host_wait says when the program may look."},
    {Py_tp_methods, buffer_methods},
    {Py_tp_dealloc, tensor_dealloc},
    {Py_tp_traverse, tensor_traverse},
    {Py_bf_getbuffer, buffer_get},
    {0}};
static PyType_Spec buffer_spec = {
    "transom.Buffer", sizeof(struct tensor), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, buffer_slots};

static PyMethodDef functions[] = {{"empty", (PyCFunction)(void (*)(void))make_empty,
                                   METH_FASTCALL | METH_KEYWORDS,
                                   "empty($module, /, shape, dtype='float32')\n--\n\n"
                                   "A tensor without memory: the task that it is an output of gets "
                                   "it some, in the current scope.\n\n"
                                   ">>> import transom as ts\n>>> ts.empty((2, 3), \"int32\")\n"
                                   "<transom.Tensor (2, 3) int32, no memory yet>"},
                                  {0}};

int tensor_init(PyObject *module)
{
    tensor_type = type_new(module, &tensor_spec, NULL);
    buffer_type = tensor_type ? type_new(module, &buffer_spec, tensor_type) : NULL;
    return buffer_type ? PyModule_AddFunctions(module, functions) : -1;
}

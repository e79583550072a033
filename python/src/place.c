/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * What the calls on a domain are given: places in the windows, by name, offset or array, buffers of this process, and
 * single elements. A place is the same in every window, so an array says where it lies in the own one. Chip processes,
 * inside a task; owns the references to what calls use that return before they are done.
 */
#include "view.h"

#include <string.h>

/* ---- memory of an object ---- */

struct memory {
    struct local local;
    bool contiguous, readonly, scalar; /* scalar: what NumPy gives for a single element, a copy */
};

static int memory_of_buffer(PyObject *o, const char *what, struct memory *m)
{
    Py_buffer *b = &m->local.view;
    if (PyObject_GetBuffer(o, b, PyBUF_FULL_RO) != 0) {
        return -1;
    }
    m->local.data = b->buf;
    m->local.bytes = (uint64_t)b->len;
    m->local.dtype = dtype_of_format(b->format, b->itemsize);
    m->contiguous = PyBuffer_IsContiguous(b, 'C');
    m->readonly = b->readonly;
    m->scalar = b->ndim == 0 && b->readonly;
    if (m->local.dtype == 0) {
        PyErr_Format(PyExc_TypeError, "%s has elements of format '%s', which is no type here", what,
                     b->format ? b->format : "?");
        PyBuffer_Release(b);
        return -1;
    }
    return 0;
}

static int memory_of_tensor(PyObject *o, const char *what, struct memory *m)
{
    struct tsm_tensor t;
    if (tensor_read(o, what, &t) != 0 || tensor_bytes(&t, &m->local.bytes) != 0) {
        return -1;
    }
    m->local.data = t.data;
    m->local.dtype = t.dtype;
    m->local.owner = Py_NewRef(o);
    m->contiguous = !t.stride_given;
    m->readonly = tensor_check(o) && ((struct tensor *)o)->readonly;
    return 0;
}

/* Where the bytes of o are. 1: it is nothing that has any. */
static int memory_of(PyObject *o, const char *what, struct memory *m)
{
    memset(m, 0, sizeof(*m));
    if (PyObject_CheckBuffer(o)) {
        return memory_of_buffer(o, what, m);
    }
    if (tensor_check(o)) {
        return memory_of_tensor(o, what, m);
    }
    PyObject *method = PyObject_GetAttrString(o, "__dlpack__");
    if (!method) {
        PyErr_Clear();
        return 1;
    }
    Py_DECREF(method);
    return memory_of_tensor(o, what, m);
}

/* ---- places ---- */

uint64_t place_bytes(const struct place *p)
{
    return p->dtype != 0 ? p->count * tsm_dtype_bytes(p->dtype) : p->count;
}

const char *place_text(const struct place *p, char *text, size_t bytes)
{
    if (p->name) {
        PyOS_snprintf(text, bytes, "%s '%.63s'", p->what, p->name);
    } else {
        PyOS_snprintf(text, bytes, "%s at offset %llu", p->what, (unsigned long long)p->sym.offset);
    }
    return text;
}

/* The names of the buffers, for a text. */
static void list_names(const tsm_ctx *c, char *text, size_t bytes)
{
    struct tsm_buffer_info b;
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; tsm_buffer_info(c, i, &b) == 0 && used < bytes; i++) {
        used += (size_t)PyOS_snprintf(text + used, bytes - used, "%s'%.63s'", i > 0 ? ", " : "",
                                      b.name);
    }
}

int buffer_find(struct view *self, const char *name, struct tsm_buffer_info *ret)
{
    for (uint32_t i = 0; tsm_buffer_info(self->c, i, ret) == 0; i++) {
        if (strcmp(ret->name, name) == 0) {
            return 0;
        }
    }
    char names[200];
    list_names(self->c, names, sizeof(names));
    return view_refuse(self, TSM_ENOENT, "no buffer '%.100s'; there is %s", name,
                       names[0] ? names : "none");
}

static int place_of_name(struct view *self, PyObject *o, const char *what, struct place *ret)
{
    struct tsm_buffer_info b;
    const char *name = PyUnicode_AsUTF8AndSize(o, NULL);
    if (!name || buffer_find(self, name, &b) != 0) {
        return -1;
    }
    *ret = (struct place){b.place, b.dtype, b.count, name, what};
    return 0;
}

/* (name, first) and (name, first, count) */
static int place_of_tuple(struct view *self, PyObject *o, const char *what, struct place *ret)
{
    Py_ssize_t parts = PyTuple_Size(o);
    PyObject *name = parts > 0 ? PyTuple_GetItem(o, 0) : NULL;
    if (parts < 2 || parts > 3 || !PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "%s is %R: (name, first) or (name, first, count)", what, o);
        return -1;
    }
    int64_t first, count = 0;
    if (place_of_name(self, name, what, ret) != 0 ||
        int_read(PyTuple_GetItem(o, 1), "first", INT64_MIN, INT64_MAX, &first) != 0 ||
        (parts == 3 &&
         int_read(PyTuple_GetItem(o, 2), "count", INT64_MIN, INT64_MAX, &count) != 0)) {
        return -1;
    }
    uint64_t rest = first >= 0 && (uint64_t)first <= ret->count ? ret->count - (uint64_t)first : 0;
    if (first < 0 || (uint64_t)first > ret->count || count < 0 || (uint64_t)count > rest) {
        return view_refuse(self, TSM_ERANGE, "%s is %R: '%s' has %llu elements", what, o, ret->name,
                           (unsigned long long)ret->count);
    }
    ret->sym = tsm_offset(ret->sym, (uint64_t)first * tsm_dtype_bytes(ret->dtype));
    ret->count = parts == 3 ? (uint64_t)count : rest;
    return 0;
}

static int place_of_offset(struct view *self, PyObject *o, const char *what, struct place *ret)
{
    int64_t offset;
    tsm_sym sym;
    if (int_read(o, what, 0, INT64_MAX, &offset) != 0) {
        return -1;
    }
    int rc = tsm_at(self->c, (uint64_t)offset, &sym);
    if (rc != 0) {
        view_raise(self, rc, what);
        return -1;
    }
    *ret = (struct place){sym, 0, tsm_window_bytes(self->c) - (uint64_t)offset, NULL, what};
    return 0;
}

/* The bits of a bfloat16 look like a uint16: what the bytes were declared as decides. */
static int declared_dtype(const tsm_ctx *c, uint64_t offset, int dtype)
{
    struct tsm_buffer_info b;
    for (uint32_t i = 0; dtype == TSM_U16 && tsm_buffer_info(c, i, &b) == 0; i++) {
        if (offset >= b.place.offset && offset - b.place.offset < b.bytes) {
            return b.dtype == TSM_BF16 ? TSM_BF16 : dtype;
        }
    }
    return dtype;
}

static int refuse_array(struct view *self, const struct memory *m, const char *what)
{
    if (m->scalar) {
        PyErr_Format(PyExc_TypeError,
                     "%s is a single value, a copy: give a part of the array, as a[i:i + 1], or "
                     "(name, i)",
                     what);
        return -1;
    }
    if (!m->contiguous) {
        return view_refuse(self, TSM_EINVAL, "%s is an array that is not contiguous", what);
    }
    return view_refuse(self, TSM_ERANGE,
                       "%s is an array outside of this rank's window: a place is the same in all "
                       "windows, give a name or a part of domain[name]",
                       what);
}

static int place_of_array(struct view *self, const struct memory *m, const char *what,
                          struct place *ret)
{
    tsm_sym base = {0};
    uint64_t window = tsm_window_bytes(self->c);
    int rc = tsm_at(self->c, 0, &base);
    const uint8_t *own = rc == 0 ? tsm_ptr(self->c, base, tsm_rank(self->c)) : NULL;
    uint64_t offset = (uint64_t)((uintptr_t)m->local.data - (uintptr_t)own);
    if (!own || m->scalar || !m->contiguous || offset > window ||
        m->local.bytes > window - offset) {
        return refuse_array(self, m, what);
    }
    int dtype = declared_dtype(self->c, offset, m->local.dtype);
    *ret = (struct place){tsm_offset(base, offset), dtype, m->local.bytes / tsm_dtype_bytes(dtype),
                          NULL, what};
    return 0;
}

int place_read(struct view *self, PyObject *o, const char *what, struct place *ret)
{
    struct memory m;
    if (PyUnicode_Check(o)) {
        return place_of_name(self, o, what, ret);
    }
    if (PyTuple_Check(o)) {
        return place_of_tuple(self, o, what, ret);
    }
    if (PyLong_Check(o) && !PyBool_Check(o)) {
        return place_of_offset(self, o, what, ret);
    }
    int rc = memory_of(o, what, &m);
    if (rc > 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s must be the name of a buffer, an array in the window or an offset in "
                     "bytes, not %R",
                     what, Py_TYPE(o));
    }
    if (rc == 0) {
        rc = place_of_array(self, &m, what, ret);
        local_release(&m.local);
    }
    return rc == 0 ? 0 : -1;
}

int signal_place_read(struct view *self, PyObject *o, const char *what, struct place *ret)
{
    char text[96];
    if (place_read(self, o, what, ret) != 0) {
        return -1;
    }
    if (ret->dtype > TSM_U8 && tsm_dtype_bytes(ret->dtype) != 8) {
        PyErr_Format(PyExc_TypeError, "%s is %s: a signal has 64 bits",
                     place_text(ret, text, sizeof(text)), dtype_long_name(ret->dtype));
        return -1;
    }
    if (place_bytes(ret) < 8) {
        return view_refuse(self, TSM_ERANGE, "%s has %llu bytes: a signal has 8",
                           place_text(ret, text, sizeof(text)),
                           (unsigned long long)place_bytes(ret));
    }
    return 0;
}

/* ---- buffers of this process ---- */

static int local_of_name(struct view *self, PyObject *o, const char *what, struct local *ret)
{
    struct place p;
    if (place_read(self, o, what, &p) != 0) {
        return -1;
    }
    tsm_sym base = {0};
    tsm_at(self->c, 0, &base);
    uint8_t *own = tsm_ptr(self->c, base, tsm_rank(self->c));
    if (!own) {
        view_raise(self, TSM_ESTALE, what);
        return -1;
    }
    *ret = (struct local){.data = own + p.sym.offset, .bytes = place_bytes(&p), .dtype = p.dtype};
    return 0;
}

int local_read(struct view *self, PyObject *o, const char *what, bool writable, struct local *ret)
{
    struct memory m;
    if (PyUnicode_Check(o) || PyTuple_Check(o)) {
        return local_of_name(self, o, what, ret);
    }
    int rc = memory_of(o, what, &m);
    if (rc != 0) {
        if (rc > 0) {
            PyErr_Format(PyExc_TypeError,
                         "%s must be an array, bytes or another buffer, or the name of one in the "
                         "window, not %R",
                         what, Py_TYPE(o));
        }
        return -1;
    }
    if (!m.contiguous) {
        rc = view_refuse(self, TSM_EINVAL, "%s is not contiguous: copy it first", what);
    } else if (writable && m.readonly) {
        rc = view_refuse(self, TSM_EINVAL, "%s is read-only", what);
    } else if (!m.local.data && m.local.bytes > 0) {
        rc = view_refuse(self, TSM_EINVAL, "%s has no memory yet", what);
    }
    if (rc != 0) {
        local_release(&m.local);
        return -1;
    }
    *ret = m.local;
    return 0;
}

void local_release(struct local *l)
{
    if (l->view.obj) {
        PyBuffer_Release(&l->view);
    }
    Py_CLEAR(l->owner);
}

enum { HELD_MAX = 1024 };

int local_hold(struct view *self, struct local *l, uint32_t rank)
{
    if (!l->view.obj && !l->owner) {
        return 0; /* the own window stays */
    }
    struct held *h = PyMem_Malloc(sizeof(*h));
    if (!h) {
        tsm_quiet(self->c);
        local_release(l);
        PyErr_NoMemory();
        return -1;
    }
    *h = (struct held){self->held, *l, rank};
    self->held = h;
    if (++self->held_count > HELD_MAX) {
        /* So that a loop without quiet does not keep all it ever gave. */
        int rc = tsm_quiet(self->c);
        held_release(self, NULL);
        return rc == 0 ? 0 : (view_raise(self, rc, "quiet"), -1);
    }
    return 0;
}

void held_release(struct view *self, const uint32_t *rank)
{
    for (struct held **at = &self->held; *at;) {
        struct held *h = *at;
        if (rank && h->rank != *rank) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        self->held_count--;
        local_release(&h->local);
        PyMem_Free(h);
    }
}

/* ---- elements ---- */

static int float_read(PyObject *o, const char *what, double *ret)
{
    *ret = PyFloat_AsDouble(o);
    if (*ret != -1.0 || !PyErr_Occurred()) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "%s must be a number, not %R", what, Py_TYPE(o));
    } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Format(PyExc_ValueError, "%s is %R: it is beyond all floats", what, o);
    }
    return -1;
}

int element_read(PyObject *o, const char *what, int dtype, uint64_t *ret)
{
    if (dtype == TSM_F32 || dtype == TSM_F64) {
        double value;
        if (float_read(o, what, &value) != 0) {
            return -1;
        }
        *ret = dtype == TSM_F64 ? tsm_scalar_f64(value) : tsm_scalar_f32((float)value);
        return 0;
    }
    if (tsm_dtype_bytes(dtype) == 8) {
        return bits_read(o, what, ret);
    }
    int64_t value;
    if (int_read(o, what, INT32_MIN, UINT32_MAX, &value) != 0) {
        return -1;
    }
    *ret = (uint32_t)value;
    return 0;
}

PyObject *element_object(int dtype, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    double value;
    float single;
    switch (dtype) {
    case TSM_F64:
        memcpy(&value, &bits, sizeof(value));
        return PyFloat_FromDouble(value);
    case TSM_F32:
        memcpy(&single, &low, sizeof(single));
        return PyFloat_FromDouble((double)single);
    case TSM_I64:
        return PyLong_FromLongLong((int64_t)bits);
    case TSM_I32:
        return PyLong_FromLong((int32_t)low);
    case TSM_U32:
        return PyLong_FromUnsignedLong(low);
    default:
        return PyLong_FromUnsignedLongLong(bits);
    }
}

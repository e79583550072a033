/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Communication domains as the program sees them: CommBufferSpec, CommDomainHandle and the context of a member. A
 * handle points into the library only while its domain is live; its worker's table of live domains holds it that
 * long, so a handle that is dropped changes nothing. Program. docs/domains.md.
 */
#include "host.h"

PyTypeObject *domain_type, *spec_type;
static PyTypeObject *context_type;

enum { CHIPS_INLINE = 64, BUFFERS_INLINE = 16 };

/* ---- CommBufferSpec ---- */

struct spec {
    PyObject_HEAD PyObject *name; /* keeps spec.name */
    struct tsm_buffer_spec spec;
};

static PyObject *spec_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "dtype", "count", "nbytes", "align", NULL};
    PyObject *name, *dtype = NULL, *count = NULL, *bytes = NULL, *align = NULL;
    int64_t numbers[3] = {0, 0, 0};
    int code = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOO:CommBufferSpec", names, &name, &dtype,
                                     &count, &bytes, &align)) {
        return NULL;
    }
    PyObject *given[] = {count, bytes, align};
    for (int i = 0; i < 3; i++) {
        if (given[i] && given[i] != Py_None &&
            int_read(given[i], names[i + 2], 0, INT64_C(1) << 48, &numbers[i]) != 0) {
            return NULL;
        }
    }
    const char *text;
    if (text_read(name, "name", &text) != 0 ||
        (dtype && dtype != Py_None && dtype_read(dtype, "dtype", &code) != 0)) {
        return NULL;
    }
    struct spec *self = (struct spec *)object_new(type);
    if (self) {
        self->name = Py_NewRef(name);
        self->spec = (struct tsm_buffer_spec){.name = text,
                                              .dtype = code,
                                              .count = (uint64_t)numbers[0],
                                              .bytes = (uint64_t)numbers[1],
                                              .align = (uint64_t)numbers[2]};
    }
    return (PyObject *)self;
}

static PyObject *spec_get(PyObject *o, void *closure)
{
    const struct spec *self = (struct spec *)o;
    switch ((int)(uintptr_t)closure) {
    case 0:
        return Py_NewRef(self->name);
    case 1:
        return PyUnicode_FromString(self->spec.dtype ? dtype_long_name(self->spec.dtype) : "uint8");
    case 2:
        return PyLong_FromUnsignedLongLong(self->spec.count);
    case 3:
        return PyLong_FromUnsignedLongLong(self->spec.bytes);
    default:
        return PyLong_FromUnsignedLongLong(self->spec.align);
    }
}

static PyObject *spec_repr(PyObject *o)
{
    const struct spec *self = (struct spec *)o;
    char align[32] = "";
    if (self->spec.align != 0) {
        PyOS_snprintf(align, sizeof(align), ", align=%llu", (unsigned long long)self->spec.align);
    }
    return PyUnicode_FromFormat("CommBufferSpec(%R, '%s', count=%llu, nbytes=%llu%s)", self->name,
                                self->spec.dtype ? dtype_long_name(self->spec.dtype) : "uint8",
                                (unsigned long long)self->spec.count,
                                (unsigned long long)self->spec.bytes, align);
}

static int spec_traverse(PyObject *o, visitproc visit, void *arg)
{
    (void)visit;
    (void)arg;
    Py_VISIT(Py_TYPE(o));
    return 0;
}

static void spec_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    Py_CLEAR(((struct spec *)o)->name);
    object_free(o);
}

static PyGetSetDef spec_getters[] = {
    {"name", spec_get, NULL, "Its name in the domain.", (void *)0},
    {"dtype", spec_get, NULL, "Type of an element.", (void *)1},
    {"count", spec_get, NULL, "Number of elements; 0: as many as nbytes holds.", (void *)2},
    {"nbytes", spec_get, NULL, "Bytes; 0: those of count elements.", (void *)3},
    {"align", spec_get, NULL, "Alignment in bytes; 0: 64.", (void *)4},
    {0}};
static PyType_Slot spec_slots[] = {
    {Py_tp_doc,
     "CommBufferSpec(name, dtype='uint8', count=0, nbytes=0, align=0)\n--\n\n"
     "A named part of every window of a domain.\n\n"
     "Args:\n    name: 1 to 63 bytes, unique in the domain.\n    dtype: type of an element.\n"
     "    count, nbytes: elements or bytes; one of them is enough, both must agree.\n"
     "    align: a power of two up to 4096; 0: 64.\n\n"
     ">>> import transom as ts\n>>> ts.CommBufferSpec(\"grad\", \"float32\", 1024)\n"
     "CommBufferSpec('grad', 'float32', count=1024, nbytes=0)"},
    {Py_tp_new, spec_make},
    {Py_tp_dealloc, spec_dealloc},
    {Py_tp_traverse, spec_traverse},
    {Py_tp_getset, spec_getters},
    {Py_tp_repr, spec_repr},
    {0}};
static PyType_Spec spec_spec = {"transom.CommBufferSpec", sizeof(struct spec), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, spec_slots};

/* ---- ChipDomainContext ---- */

struct context {
    PyObject_HEAD PyObject *name, *buffers, *buffer_ptrs;
    uint32_t rank, size;
    uint64_t device_ctx, base, bytes;
};

static int add_buffer(struct context *c, const char *name, const struct tsm_tensor *t)
{
    PyObject *tensor = tensor_new(t, NULL, false, false);
    PyObject *address = PyLong_FromVoidPtr(t->data);
    int rc = tensor && address && PyDict_SetItemString(c->buffers, name, tensor) == 0 &&
                     PyDict_SetItemString(c->buffer_ptrs, name, address) == 0
                 ? 0
                 : -1;
    Py_XDECREF(tensor);
    Py_XDECREF(address);
    return rc;
}

static PyObject *context_new(struct domain *d, int chip, const struct tsm_domain_context *from)
{
    struct context *c = (struct context *)object_new(context_type);
    if (!c) {
        return NULL;
    }
    c->name = Py_NewRef(d->name);
    c->buffers = PyDict_New();
    c->buffer_ptrs = PyDict_New();
    c->rank = from->rank;
    c->size = from->size;
    c->device_ctx = (uint64_t)(uintptr_t)from->device_ctx;
    c->base = (uint64_t)(uintptr_t)from->window;
    c->bytes = from->window_bytes;
    int rc = c->buffers && c->buffer_ptrs ? 0 : -1;
    Py_ssize_t count = PyTuple_Size(d->buffers);
    for (Py_ssize_t i = 0; i < count && rc == 0; i++) {
        const struct spec *s = (struct spec *)PyTuple_GetItem(d->buffers, i);
        struct tsm_tensor t;
        int code = tsm_domain_buffer(d->d, chip, s->spec.name, &t);
        if (code != 0) {
            worker_raise(d->worker, code);
            rc = -1;
        } else {
            rc = add_buffer(c, s->spec.name, &t);
        }
    }
    if (rc != 0) {
        Py_DECREF((PyObject *)c);
        return NULL;
    }
    return (PyObject *)c;
}

static PyObject *context_get(PyObject *o, void *closure)
{
    const struct context *c = (struct context *)o;
    switch ((int)(uintptr_t)closure) {
    case 0:
        return Py_NewRef(c->name);
    case 1:
        return PyLong_FromUnsignedLong(c->rank);
    case 2:
        return PyLong_FromUnsignedLong(c->size);
    case 3:
        return PyLong_FromUnsignedLongLong(c->device_ctx);
    case 4:
        return PyLong_FromUnsignedLongLong(c->base);
    case 5:
        return PyLong_FromUnsignedLongLong(c->bytes);
    case 6:
        return PyDict_Copy(c->buffer_ptrs);
    default:
        return PyDict_Copy(c->buffers);
    }
}

static PyObject *context_repr(PyObject *o)
{
    const struct context *c = (struct context *)o;
    return PyUnicode_FromFormat(
        "<transom.ChipDomainContext '%U' rank %u of %u, window of %llu bytes>", c->name, c->rank,
        c->size, (unsigned long long)c->bytes);
}

static int context_traverse(PyObject *o, visitproc visit, void *arg)
{
    const struct context *c = (struct context *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(c->buffers);
    Py_VISIT(c->buffer_ptrs);
    return 0;
}

static void context_dealloc(PyObject *o)
{
    struct context *c = (struct context *)o;
    PyObject_GC_UnTrack(o);
    Py_CLEAR(c->name);
    Py_CLEAR(c->buffers);
    Py_CLEAR(c->buffer_ptrs);
    object_free(o);
}

static PyGetSetDef context_getters[] = {
    {"name", context_get, NULL, "Name of the domain.", (void *)0},
    {"domain_rank", context_get, NULL, "Rank of this chip in the domain.", (void *)1},
    {"domain_size", context_get, NULL, "Number of members.", (void *)2},
    {"device_ctx", context_get, NULL,
     "Address of its struct tsm_device_ctx, for kernels: a scalar argument.", (void *)3},
    {"local_window_base", context_get, NULL, "Address of its window.", (void *)4},
    {"actual_window_size", context_get, NULL,
     "Bytes of its window: what was asked for and what alignment adds.", (void *)5},
    {"buffer_ptrs", context_get, NULL, "Address of each buffer, by name.", (void *)6},
    {"buffers", context_get, NULL, "Each buffer as a Tensor, by name.", (void *)7},
    {0}};
static PyType_Slot context_slots[] = {
    {Py_tp_doc, "What a member of a domain sees: domain[chip]. Addresses are those of the chip."},
    {Py_tp_dealloc, context_dealloc},
    {Py_tp_traverse, context_traverse},
    {Py_tp_getset, context_getters},
    {Py_tp_repr, context_repr},
    {0}};
static PyType_Spec context_spec = {
    "transom.ChipDomainContext", sizeof(struct context), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, context_slots};

/* ---- allocation ---- */

static int read_chips(PyObject *o, PyObject **ret_tuple, int **chips, uint32_t *ret_count)
{
    int64_t *values;
    Py_ssize_t count;
    if (ints_read(o, "workers", INT32_MIN, INT32_MAX, &values, &count) != 0) {
        return -1;
    }
    PyObject *tuple = PyTuple_New(count);
    int *list = count <= CHIPS_INLINE ? *chips : PyMem_Malloc((size_t)count * sizeof(*list));
    int rc = tuple && list ? 0 : -1;
    for (Py_ssize_t i = 0; i < count && rc == 0; i++) {
        list[i] = (int)values[i];
        rc = PyTuple_SetItem(tuple, i, PyLong_FromLong(list[i]));
    }
    PyMem_Free(values);
    if (rc != 0) {
        if (list != *chips) {
            PyMem_Free(list);
        }
        Py_XDECREF(tuple);
        return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    }
    *chips = list;
    *ret_tuple = tuple;
    *ret_count = (uint32_t)count;
    return 0;
}

static int read_buffers(PyObject *o, PyObject **ret_tuple, struct tsm_buffer_spec **specs,
                        uint32_t *ret_count)
{
    PyObject *tuple = o ? tuple_read(o, "buffers", "CommBufferSpecs") : PyTuple_New(0);
    if (!tuple) {
        return -1;
    }
    Py_ssize_t count = PyTuple_Size(tuple);
    struct tsm_buffer_spec *list =
        count <= BUFFERS_INLINE ? *specs : PyMem_Malloc((size_t)count * sizeof(*list));
    for (Py_ssize_t i = 0; i < count && list; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (Py_TYPE(item) != spec_type) {
            PyErr_Format(PyExc_TypeError, "buffers[%zd] must be a CommBufferSpec, not %R", i,
                         Py_TYPE(item));
            if (list != *specs) {
                PyMem_Free(list);
            }
            Py_DECREF(tuple);
            return -1;
        }
        list[i] = ((struct spec *)item)->spec;
    }
    if (!list) {
        Py_DECREF(tuple);
        PyErr_NoMemory();
        return -1;
    }
    *specs = list;
    *ret_tuple = tuple;
    *ret_count = (uint32_t)count;
    return 0;
}

/* What the handle is made of. */
struct asked {
    int chips_inline[CHIPS_INLINE], *chips;
    struct tsm_buffer_spec specs_inline[BUFFERS_INLINE], *specs;
    PyObject *chip_tuple, *buffer_tuple;
    struct tsm_domain_opts opts;
};

static int read_asked(PyObject *const *values, struct asked *a)
{
    int64_t bytes;
    int keep = values[4] ? PyObject_IsTrue(values[4]) : 0;
    a->chips = a->chips_inline;
    a->specs = a->specs_inline;
    a->chip_tuple = a->buffer_tuple = NULL;
    a->opts = (struct tsm_domain_opts)TSM_DOMAIN_OPTS_INIT;
    if (text_read(values[0], "name", &a->opts.name) != 0 || keep < 0) {
        return -1;
    }
    if (int_read(values[2], "window_size", 1, (INT64_C(1) << 46) - 1, &bytes) != 0 ||
        read_chips(values[1], &a->chip_tuple, &a->chips, &a->opts.chip_count) != 0 ||
        read_buffers(values[3], &a->buffer_tuple, &a->specs, &a->opts.buffer_count) != 0) {
        return -1;
    }
    a->opts.chips = a->chips;
    a->opts.buffers = a->specs;
    a->opts.window_bytes = (uint64_t)bytes;
    a->opts.keep = keep;
    return 0;
}

static void asked_fini(struct asked *a)
{
    if (a->chips != a->chips_inline) {
        PyMem_Free(a->chips);
    }
    if (a->specs != a->specs_inline) {
        PyMem_Free(a->specs);
    }
    Py_XDECREF(a->chip_tuple);
    Py_XDECREF(a->buffer_tuple);
}

static PyObject *allocate(struct worker *self, tsm_orch *orch, PyObject *name, struct asked *a)
{
    struct domain *d = (struct domain *)object_new(domain_type);
    if (!d || !(d->contexts = PyDict_New())) {
        Py_XDECREF((PyObject *)d);
        return NULL;
    }
    int rc = tsm_domain_alloc(orch, &a->opts, &d->d);
    if (rc != 0) {
        d->d = NULL;
        Py_DECREF((PyObject *)d);
        return worker_raise(self, rc);
    }
    d->worker = (struct worker *)Py_NewRef((PyObject *)self);
    d->call = self->call;
    d->id = tsm_domain_id(d->d);
    d->name = Py_NewRef(name);
    d->chips = Py_NewRef(a->chip_tuple);
    d->buffers = Py_NewRef(a->buffer_tuple);
    d->keep = a->opts.keep;
    if (PyDict_SetItem(self->live, name, (PyObject *)d) != 0) {
        tsm_domain_release(d->d);
        d->d = NULL;
        Py_DECREF((PyObject *)d);
        return NULL;
    }
    return (PyObject *)d;
}

PyObject *domain_allocate(struct worker *self, tsm_orch *orch, PyObject *const *values)
{
    struct asked a;
    PyObject *ret = read_asked(values, &a) == 0 ? allocate(self, orch, values[0], &a) : NULL;
    asked_fini(&a);
    return ret;
}

/* ---- the end ---- */

/* Takes it from the table of live ones; a name may belong to a later domain by now. */
static void forget(struct domain *d)
{
    d->d = NULL;
    d->call = NULL;
    PyObject *live = d->worker->live ? PyDict_GetItemWithError(d->worker->live, d->name) : NULL;
    if (live == (PyObject *)d && PyDict_DelItem(d->worker->live, d->name) != 0) {
        PyErr_Clear();
    }
}

int domain_release(struct domain *d)
{
    if (!d->d) {
        return 0;
    }
    if (worker_enter(d->worker) != 0) {
        return -1;
    }
    int rc = tsm_domain_release(d->d);
    if (rc != 0) {
        worker_raise(d->worker, rc);
        return -1;
    }
    Py_INCREF((PyObject *)d);
    forget(d);
    Py_DECREF((PyObject *)d);
    return 0;
}

static void end_where(struct worker *self, const struct call *call, bool failed)
{
    PyObject *all = self->live ? PyDict_Values(self->live) : PyList_New(0);
    if (!all) {
        PyErr_Clear();
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_Size(all); i++) {
        struct domain *d = (struct domain *)PyList_GetItem(all, i);
        if (!call || (d->call == call && (!d->keep || failed))) {
            forget(d);
        } else if (d->call == call) {
            d->call = NULL;
        }
    }
    Py_DECREF(all);
}

void domains_end_of_call(struct worker *self, struct call *call, bool failed)
{
    if (PyDict_Size(self->live) != 0) {
        end_where(self, call, failed);
    }
}

void domains_end_of_worker(struct worker *self)
{
    end_where(self, NULL, true);
}

/* ---- CommDomainHandle ---- */

static PyObject *refuse_released(const struct domain *d)
{
    PyObject *text = PyUnicode_FromFormat("domain '%U' (id %llu) has been released", d->name,
                                          (unsigned long long)d->id);
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (utf8) {
        core_raise(TSM_ESTALE, utf8);
    }
    Py_XDECREF(text);
    return NULL;
}

static PyObject *domain_subscript(PyObject *o, PyObject *key)
{
    struct domain *d = (struct domain *)o;
    if (!d->d) {
        return refuse_released(d);
    }
    int64_t chip;
    if (int_read(key, "chip", INT64_MIN, INT64_MAX, &chip) != 0) {
        return NULL;
    }
    PyObject *known = PyDict_GetItemWithError(d->contexts, key);
    if (known || PyErr_Occurred()) {
        return Py_XNewRef(known);
    }
    struct tsm_domain_context from;
    if (worker_enter(d->worker) != 0) {
        return NULL;
    }
    bool exists = chip >= 0 && chip <= INT32_MAX;
    int rc = exists ? tsm_domain_context(d->d, (int)chip, &from) : TSM_ENOENT;
    if (rc == TSM_ENOENT) {
        PyErr_SetObject(PyExc_KeyError, key);
        return NULL;
    }
    PyObject *c = rc == 0 ? context_new(d, (int)chip, &from) : worker_raise(d->worker, rc);
    if (c && PyDict_SetItem(d->contexts, key, c) != 0) {
        Py_DECREF(c);
        return NULL;
    }
    return c;
}

static PyObject *domain_contexts(PyObject *o, void *closure)
{
    struct domain *d = (struct domain *)o;
    (void)closure;
    PyObject *ret = PyDict_New();
    for (Py_ssize_t i = 0; ret && i < PyTuple_Size(d->chips); i++) {
        PyObject *chip = PyTuple_GetItem(d->chips, i);
        PyObject *c = domain_subscript(o, chip);
        if (!c || PyDict_SetItem(ret, chip, c) != 0) {
            Py_CLEAR(ret);
        }
        Py_XDECREF(c);
    }
    return ret;
}

static PyObject *domain_freed(PyObject *o, void *closure)
{
    struct domain *d = (struct domain *)o;
    (void)closure;
    if (d->worker->state == STATE_CLOSED) {
        return PyBool_FromLong(1);
    }
    if (worker_enter(d->worker) != 0) {
        return NULL;
    }
    int rc = tsm_worker_domain_freed(d->worker->w, d->id);
    return rc < 0 ? worker_raise(d->worker, rc) : PyBool_FromLong(rc);
}

static PyObject *domain_broken(PyObject *o, void *closure)
{
    struct domain *d = (struct domain *)o;
    (void)closure;
    if (d->d && worker_enter(d->worker) != 0) {
        return NULL;
    }
    return PyBool_FromLong(d->d && tsm_domain_broken(d->d));
}

static PyObject *domain_get(PyObject *o, void *closure)
{
    const struct domain *d = (struct domain *)o;
    switch ((int)(uintptr_t)closure) {
    case 0:
        return Py_NewRef(d->name);
    case 1:
        return Py_NewRef(d->chips);
    case 2:
        return PyLong_FromSsize_t(PyTuple_Size(d->chips));
    case 3:
        return PyLong_FromUnsignedLongLong(d->id);
    case 4:
        return PyBool_FromLong(!d->d);
    default:
        return PyBool_FromLong(d->keep);
    }
}

static PyObject *domain_tensor(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"tensor", {"rank", "buffer", "first", "count"}, 4, 1, {0}};
    struct domain *d = (struct domain *)o;
    PyObject *values[4];
    int64_t rank, first = 0, elements = -1;
    const char *buffer = NULL;
    if (signature_read(&s, args, count, names, values) != 0 ||
        int_read(values[0], "rank", 0, UINT32_MAX, &rank) != 0 ||
        (values[2] && int_read(values[2], "first", 0, INT64_MAX, &first) != 0) ||
        (values[3] && values[3] != Py_None &&
         int_read(values[3], "count", 0, INT64_MAX, &elements) != 0)) {
        return NULL;
    }
    if (values[1] && values[1] != Py_None && text_read(values[1], "buffer", &buffer) != 0) {
        return NULL;
    }
    if (!d->d) {
        return refuse_released(d);
    }
    struct tsm_tensor t;
    if (worker_enter(d->worker) != 0) {
        return NULL;
    }
    int rc = tsm_domain_tensor(d->d, (uint32_t)rank, buffer, (uint64_t)first,
                               elements < 0 ? TSM_REST : (uint64_t)elements, TSM_INPUT, &t);
    return rc == 0 ? tensor_new(&t, NULL, false, false) : worker_raise(d->worker, rc);
}

static PyObject *domain_release_method(PyObject *o, PyObject *unused)
{
    (void)unused;
    return domain_release((struct domain *)o) == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *domain_enter(PyObject *o, PyObject *unused)
{
    (void)unused;
    return ((struct domain *)o)->d ? Py_NewRef(o) : refuse_released((struct domain *)o);
}

static PyObject *domain_exit(PyObject *o, PyObject *args)
{
    (void)args;
    return domain_release((struct domain *)o) == 0 ? Py_NewRef(Py_None) : NULL;
}

static int domain_contains(PyObject *o, PyObject *chip)
{
    return PySequence_Contains(((struct domain *)o)->chips, chip);
}

static Py_ssize_t domain_length(PyObject *o)
{
    return PyTuple_Size(((struct domain *)o)->chips);
}

static PyObject *domain_repr(PyObject *o)
{
    const struct domain *d = (struct domain *)o;
    return PyUnicode_FromFormat("<transom.CommDomainHandle '%U' id %llu on chips %R, %s>", d->name,
                                (unsigned long long)d->id, d->chips, d->d ? "live" : "released");
}

static int domain_traverse(PyObject *o, visitproc visit, void *arg)
{
    struct domain *d = (struct domain *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT((PyObject *)d->worker);
    Py_VISIT(d->contexts);
    return 0;
}

static int domain_clear(PyObject *o)
{
    struct domain *d = (struct domain *)o;
    struct worker *w = d->worker;
    d->worker = NULL;
    d->d = NULL;
    Py_XDECREF((PyObject *)w);
    Py_CLEAR(d->contexts);
    return 0;
}

static void domain_dealloc(PyObject *o)
{
    struct domain *d = (struct domain *)o;
    PyObject_GC_UnTrack(o);
    domain_clear(o);
    Py_CLEAR(d->name);
    Py_CLEAR(d->chips);
    Py_CLEAR(d->buffers);
    object_free(o);
}

static PyGetSetDef domain_getters[] = {
    {"name", domain_get, NULL, "Its name, unique among the live domains of the worker.", (void *)0},
    {"workers", domain_get, NULL, "The chips that are its members, by rank.", (void *)1},
    {"size", domain_get, NULL, "Number of members.", (void *)2},
    {"allocation_id", domain_get, NULL, "Grows with every allocation of the worker.", (void *)3},
    {"released", domain_get, NULL, "No new task may use it; its name is free again.", (void *)4},
    {"keep", domain_get, NULL,
     "It lives until release or close, not only until the end of its function.", (void *)5},
    {"freed", domain_freed, NULL, "No task can touch it any more.", NULL},
    {"broken", domain_broken, NULL,
     "A kept one that a failed run had touched, or one with a member that died: only release "
     "works.",
     NULL},
    {"contexts", domain_contexts, NULL, "The context of every member, by chip.", NULL},
    {0}};

static PyMethodDef domain_methods[] = {
    {"release", domain_release_method, METH_NOARGS,
     "release($self)\n--\n\n"
     "Closes the handle and frees the name, at once. The memory is zeroed and used again when the "
     "last\n"
     "task that could touch it is done: `freed`. May be called again. The end of a with block "
     "calls it."},
    {"tensor", (PyCFunction)(void (*)(void))domain_tensor, METH_FASTCALL | METH_KEYWORDS,
     "tensor($self, rank, buffer=None, first=0, count=None)\n--\n\n"
     "What a task reads or writes of a rank's window, as a tensor that orders it.\n\n"
     "Args:\n    rank: whose window; any chip or sub worker may be given it.\n"
     "    buffer: name of a buffer; None: the whole window as bytes.\n"
     "    first, count: its elements; count None: all from first on.\n\n"
     "Raises:\n    ValueError: rank, first or count are out of range.\n"
     "    LookupError: no such buffer.\n    RuntimeError: after release."},
    {"__enter__", domain_enter, METH_NOARGS, "__enter__($self)\n--\n\nThe handle itself."},
    {"__exit__", domain_exit, METH_VARARGS,
     "__exit__($self, kind, value, trace, /)\n--\n\nReleases it."},
    {0}};

static PyType_Slot domain_slots[] = {
    {Py_tp_doc, "A communication domain: a zeroed, symmetric window on each of its chips.\n\n"
                "From Orchestrator.allocate_domain, best in a with statement. domain[chip] is the "
                "context of a member:\n"
                "RuntimeError after release, KeyError for a chip that is none. As an argument of a "
                "task the domain is\n"
                "what the task communicates over.\n\n"
                "Dropping the handle does nothing; a domain that is not kept is released when its "
                "function returns."},
    {Py_tp_dealloc, domain_dealloc},
    {Py_tp_traverse, domain_traverse},
    {Py_tp_clear, domain_clear},
    {Py_tp_getset, domain_getters},
    {Py_tp_methods, domain_methods},
    {Py_tp_repr, domain_repr},
    {Py_mp_subscript, domain_subscript},
    {Py_mp_length, domain_length},
    {Py_sq_contains, domain_contains},
    {0}};
static PyType_Spec domain_spec = {
    "transom.CommDomainHandle", sizeof(struct domain), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, domain_slots};

int domain_module_init(PyObject *module)
{
    spec_type = type_new(module, &spec_spec, NULL);
    context_type = spec_type ? type_new(module, &context_spec, NULL) : NULL;
    domain_type = context_type ? type_new(module, &domain_spec, NULL) : NULL;
    return domain_type ? 0 : -1;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Arguments of tasks: from Python objects to what tsm_submit takes, the same way for TaskArgs, which are made once and
 * submitted often, and for the arguments of Orchestrator.submit. Program; owns nothing beyond a call.
 */
#include "host.h"

#include <string.h>

PyTypeObject *args_type, *tagged_type, *each_type;

/* ---- the list ---- */

void args_init(struct args *a)
{
    memset(a, 0, offsetof(struct args, entries_inline));
    a->entries = a->entries_inline;
    a->entry_max = ENTRIES_INLINE;
    a->tensors = a->tensors_inline;
    a->tensor_max = TENSORS_INLINE;
}

static void args_clear(struct args *a)
{
    uint32_t count = a->entry_count;
    a->entry_count = a->tensor_count = a->domain_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        Py_XDECREF(a->entries[i].ref);
    }
}

void args_fini(struct args *a)
{
    args_clear(a);
    if (a->entries != a->entries_inline) {
        PyMem_Free(a->entries);
    }
    if (a->tensors != a->tensors_inline) {
        PyMem_Free(a->tensors);
    }
}

/* A larger array with the same contents; the first one is part of the object. */
static void *grow(void *old, const void *first, uint32_t *max, size_t item)
{
    uint32_t more = *max * 2;
    void *fresh = PyMem_Malloc(more * item);
    if (!fresh) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(fresh, old, *max * item);
    if (old != first) {
        PyMem_Free(old);
    }
    *max = more;
    return fresh;
}

/* ref is taken, on failure too. */
static int add_entry(struct args *a, enum argument kind, uint64_t word, uint64_t python_word,
                     PyObject *ref)
{
    if (a->entry_count == a->entry_max) {
        struct entry *more =
            grow(a->entries, a->entries_inline, &a->entry_max, sizeof(*a->entries));
        if (!more) {
            Py_XDECREF(ref);
            return -1;
        }
        a->entries = more;
    }
    a->entries[a->entry_count++] = (struct entry){kind, word, python_word, ref};
    return 0;
}

static int add_tensor(struct args *a, PyObject *o, int tag, const char *what)
{
    struct tsm_tensor t; /* reading it may call code of the object, which may add to the list */
    if (tensor_read(o, what, &t) != 0) {
        return -1;
    }
    if (a->tensor_count == a->tensor_max) {
        struct tsm_tensor *more =
            grow(a->tensors, a->tensors_inline, &a->tensor_max, sizeof(*a->tensors));
        if (!more) {
            return -1;
        }
        a->tensors = more;
    }
    t.tag = (uint8_t)tag;
    a->tensors[a->tensor_count] = t;
    if (add_entry(a, ARGUMENT_TENSOR, a->tensor_count, 0, Py_NewRef(o)) != 0) {
        return -1;
    }
    a->tensor_count++;
    return 0;
}

static int add_domain(struct args *a, PyObject *o)
{
    if (add_entry(a, ARGUMENT_DOMAIN, a->domain_count, 0, Py_NewRef(o)) != 0) {
        return -1;
    }
    a->domain_count++;
    return 0;
}

static int add_object(struct args *a, PyObject *o)
{
    PyObject *module = PyImport_ImportModule("transom._child");
    PyObject *bytes = module ? PyObject_CallMethod(module, "dumps", "(O)", o) : NULL;
    Py_XDECREF(module);
    if (!bytes) {
        return -1;
    }
    return add_entry(a, ARGUMENT_OBJECT, 0, 0, bytes);
}

/* ---- numbers ---- */

static uint64_t bits_of(double value)
{
    return tsm_scalar_f64(value);
}

static int add_float(struct args *a, PyObject *o)
{
    double value = PyFloat_AsDouble(o);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    return add_entry(a, ARGUMENT_FLOAT, tsm_scalar_f32((float)value), bits_of(value), NULL);
}

/* A number that is one element of the buffer protocol: of NumPy, of ctypes. 1: it is none. */
static int add_element(struct args *a, PyObject *o)
{
    Py_buffer view;
    if (!PyObject_CheckBuffer(o) ||
        PyObject_GetBuffer(o, &view, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
        PyErr_Clear();
        return 1;
    }
    int dtype = view.ndim == 0 ? dtype_of_format(view.format, view.itemsize) : 0;
    uint64_t bits = 0;
    if (dtype != 0) {
        memcpy(&bits, view.buf, (size_t)view.itemsize);
    }
    PyBuffer_Release(&view);
    int shift = 64 - 8 * (int)(dtype ? tsm_dtype_bytes(dtype) : 8);
    switch (dtype) {
    case 0:
        return 1;
    case TSM_F16:
        return add_float(a, o);
    case TSM_F32:
        return add_entry(a, ARGUMENT_F32, bits, bits, NULL);
    case TSM_F64:
        return add_entry(a, ARGUMENT_FLOAT, bits, bits, NULL);
    case TSM_BOOL:
        return add_entry(a, ARGUMENT_BOOL, bits != 0, bits != 0, NULL);
    case TSM_U64:
        return add_entry(a, bits >> 63 ? ARGUMENT_UINT : ARGUMENT_INT, bits, bits, NULL);
    case TSM_I8:
    case TSM_I16:
    case TSM_I32:
    case TSM_I64:
        bits = (uint64_t)((int64_t)(bits << shift) >> shift);
        return add_entry(a, ARGUMENT_INT, bits, bits, NULL);
    default:
        return add_entry(a, ARGUMENT_INT, bits, bits, NULL);
    }
}

static int add_int(struct args *a, PyObject *o)
{
    uint64_t bits;
    if (bits_read(o, "scalar", &bits) != 0) {
        return -1;
    }
    /* Beyond INT64_MAX the same bits are a negative number. */
    PyObject *zero = bits >> 63 ? PyLong_FromLong(0) : NULL;
    int negative = zero ? PyObject_RichCompareBool(o, zero, Py_LT) : 0;
    Py_XDECREF(zero);
    if (negative < 0) {
        return -1;
    }
    bool is_unsigned = bits >> 63 && !negative;
    return add_entry(a, is_unsigned ? ARGUMENT_UINT : ARGUMENT_INT, bits, bits, NULL);
}

/* 1: it is no number. */
static int add_number(struct args *a, PyObject *o)
{
    if (PyFloat_Check(o)) {
        return add_float(a, o);
    }
    if (PyBool_Check(o)) {
        return add_entry(a, ARGUMENT_BOOL, o == Py_True, o == Py_True, NULL);
    }
    if (PyLong_Check(o)) {
        return add_int(a, o);
    }
    int rc = add_element(a, o);
    if (rc == 1 && PyIndex_Check(o)) {
        return add_int(a, o);
    }
    return rc;
}

/* With a type of its own: the bits of that type for both kinds of tasks. */
static int add_typed(struct args *a, PyObject *o, int dtype)
{
    if (dtype == TSM_F32 || dtype == TSM_F64) {
        double value = PyFloat_AsDouble(o);
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
        uint64_t word = dtype == TSM_F64 ? bits_of(value) : tsm_scalar_f32((float)value);
        return add_entry(a, dtype == TSM_F64 ? ARGUMENT_FLOAT : ARGUMENT_F32, word, word, NULL);
    }
    if (dtype == TSM_F16 || dtype == TSM_BF16) {
        PyErr_SetString(PyExc_ValueError,
                        "a scalar has 32 or 64 bits: float16 and bfloat16 are none");
        return -1;
    }
    int truth = dtype == TSM_BOOL ? PyObject_IsTrue(o) : 0;
    if (truth < 0) {
        return -1;
    }
    if (dtype == TSM_BOOL) {
        return add_entry(a, ARGUMENT_BOOL, (uint64_t)truth, (uint64_t)truth, NULL);
    }
    if (dtype == TSM_U64 || dtype == TSM_I64) {
        return add_int(a, o);
    }
    bool is_signed = dtype == TSM_I8 || dtype == TSM_I16 || dtype == TSM_I32;
    int bits = 8 * (int)tsm_dtype_bytes(dtype);
    int64_t value;
    if (int_read(o, "scalar", is_signed ? -(INT64_C(1) << (bits - 1)) : 0,
                 (INT64_C(1) << (bits - is_signed)) - 1, &value) != 0) {
        return -1;
    }
    return add_entry(a, ARGUMENT_INT, (uint64_t)value, (uint64_t)value, NULL);
}

/* ---- anything ---- */

/* Of the buffer protocol or DLPack. */
static bool is_array(PyObject *o)
{
    PyObject *dlpack = PyObject_CheckBuffer(o) ? NULL : PyObject_GetAttrString(o, "__dlpack__");
    bool is = dlpack || PyObject_CheckBuffer(o);
    Py_XDECREF(dlpack);
    PyErr_Clear();
    return is;
}

int args_add_any(struct args *a, PyObject *o, Py_ssize_t index)
{
    char what[32];
    PyTypeObject *type = Py_TYPE(o);
    if (type == buffer_type || type == tensor_type) {
        return add_tensor(a, o, TSM_INPUT, "tensor");
    }
    if (type == domain_type) {
        return add_domain(a, o);
    }
    PyOS_snprintf(what, sizeof(what), "argument %zd", index);
    if (type == tagged_type) {
        struct tagged *t = (struct tagged *)o;
        return add_tensor(a, t->tensor, t->tag, what);
    }
    if (o == Py_None) {
        return add_entry(a, ARGUMENT_NONE, 0, 0, NULL);
    }
    if (type == each_type) {
        PyErr_Format(PyExc_TypeError,
                     "%s is each(...), which is for submit_group, and not for each other", what);
        return -1;
    }
    if (PyUnicode_Check(o) || PyBytes_Check(o)) {
        return add_object(a, o);
    }
    /* An array of NumPy or PyTorch says that it is an index, too, whatever its shape. */
    bool is_number = PyLong_Check(o) || PyFloat_Check(o);
    bool array = !is_number && is_array(o);
    int rc = array ? add_element(a, o) : add_number(a, o);
    if (rc != 1) {
        return rc;
    }
    return array ? add_tensor(a, o, TSM_INPUT, what) : add_object(a, o);
}

/* ---- one submission ---- */

static int refuse_for_c(const struct entry *e, uint32_t index, const struct callable_handle *c)
{
    if (e->kind == ARGUMENT_NONE || e->kind == ARGUMENT_OBJECT) {
        PyErr_Format(
            PyExc_TypeError,
            "argument %u is an object: '%U' is a function of C, which takes tensors, numbers "
            "and domains",
            index, c->name);
        return -1;
    }
    return 0;
}

static uint64_t words_of(uint64_t bytes)
{
    return (bytes + 7) / 8;
}

/* The words of one entry, or only their number (at NULL). */
static uint64_t write_python(const struct entry *e, uint64_t *at)
{
    if (e->kind == ARGUMENT_TENSOR || e->kind == ARGUMENT_DOMAIN || e->kind == ARGUMENT_NONE) {
        return 0;
    }
    if (e->kind != ARGUMENT_OBJECT) {
        if (at) {
            at[0] = e->python_word;
        }
        return 1;
    }
    uint64_t bytes = (uint64_t)PyBytes_Size(e->ref);
    if (at) {
        at[words_of(bytes)] = 0; /* what pads the last word */
        memcpy(at + 1, PyBytes_AsString(e->ref), bytes);
        at[0] = bytes;
    }
    return 1 + words_of(bytes);
}

static int scalars_for_python(struct sheet *s, const struct args *a, struct tsm_call *ret)
{
    uint64_t words = 0;
    for (uint32_t i = 0; i < a->entry_count; i++) {
        words += write_python(&a->entries[i], NULL);
    }
    uint64_t kinds = words_of(a->entry_count);
    uint64_t count = words + kinds + 1;
    if (count > UINT16_MAX / 8) {
        PyErr_Format(
            PyExc_ValueError,
            "the arguments take %llu bytes: a record holds less than 64 KiB; put arrays into "
            "buffers",
            (unsigned long long)count * 8);
        return -1;
    }
    if (count > sizeof(s->scalars_inline) / 8 && !(s->scalars = PyMem_Malloc(count * 8))) {
        s->scalars = s->scalars_inline;
        PyErr_NoMemory();
        return -1;
    }
    uint64_t *at = s->scalars;
    for (uint32_t i = 0; i < a->entry_count; i++) {
        at += write_python(&a->entries[i], at);
    }
    memset(at, 0, kinds * 8);
    for (uint32_t i = 0; i < a->entry_count; i++) {
        ((uint8_t *)at)[i] = (uint8_t)a->entries[i].kind;
    }
    at[kinds] = a->entry_count;
    ret->scalar_count = (uint32_t)count;
    return 0;
}

static int scalars_for_c(struct sheet *s, const struct args *a, const struct callable_handle *c,
                         struct tsm_call *ret)
{
    if (a->entry_count > sizeof(s->scalars_inline) / 8 &&
        !(s->scalars = PyMem_Malloc(a->entry_count * sizeof(uint64_t)))) {
        s->scalars = s->scalars_inline;
        PyErr_NoMemory();
        return -1;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->entry_count; i++) {
        const struct entry *e = &a->entries[i];
        if (e->kind == ARGUMENT_TENSOR || e->kind == ARGUMENT_DOMAIN) {
            continue;
        }
        if (refuse_for_c(e, i, c) != 0) {
            return -1;
        }
        s->scalars[count++] = e->word;
    }
    ret->scalar_count = count;
    return 0;
}

static int find_domains(struct sheet *s, const struct args *a)
{
    if (a->domain_count > sizeof(s->domains_inline) / sizeof(*s->domains_inline) &&
        !(s->domains = PyMem_Malloc(a->domain_count * sizeof(*s->domains)))) {
        s->domains = s->domains_inline;
        PyErr_NoMemory();
        return -1;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->entry_count; i++) {
        if (a->entries[i].kind != ARGUMENT_DOMAIN) {
            continue;
        }
        struct domain *d = (struct domain *)a->entries[i].ref;
        if (!d->d) {
            char text[160];
            PyOS_snprintf(text, sizeof(text),
                          "argument %u: the domain with id %llu has been released", i,
                          (unsigned long long)d->id);
            return core_raise(TSM_ESTALE, text);
        }
        s->domains[count++] = d->d;
    }
    return 0;
}

/* A tensor that had no memory when it was added may have some by now. */
static void look_up_pending(struct args *a)
{
    for (uint32_t i = 0; i < a->entry_count; i++) {
        const struct entry *e = &a->entries[i];
        if (e->kind == ARGUMENT_TENSOR && !a->tensors[e->word].data && tensor_check(e->ref)) {
            a->tensors[e->word].data = ((struct tensor *)e->ref)->t.data;
        }
    }
}

int sheet_make(struct sheet *s, struct args *a, struct callable_handle *c, struct tsm_call *ret)
{
    s->scalars = s->scalars_inline;
    s->domains = s->domains_inline;
    s->args = a;
    a->busy++;
    ret->callable = c->value;
    ret->tensors = a->tensors;
    ret->tensor_count = a->tensor_count;
    ret->domain_count = a->domain_count;
    if (a->tensor_count != 0) {
        look_up_pending(a);
    }
    if ((c->is_python ? scalars_for_python(s, a, ret) : scalars_for_c(s, a, c, ret)) != 0 ||
        (a->domain_count != 0 && find_domains(s, a) != 0)) {
        sheet_fini(s);
        return -1;
    }
    ret->scalars = s->scalars;
    ret->domains = s->domains;
    return 0;
}

void sheet_fini(struct sheet *s)
{
    s->args->busy--;
    if (s->scalars != s->scalars_inline) {
        PyMem_Free(s->scalars);
    }
    if (s->domains != s->domains_inline) {
        PyMem_Free(s->domains);
    }
    s->scalars = s->scalars_inline;
    s->domains = s->domains_inline;
}

void args_bind(struct args *a)
{
    for (uint32_t i = 0; i < a->entry_count; i++) {
        const struct entry *e = &a->entries[i];
        if (e->kind == ARGUMENT_TENSOR && tensor_check(e->ref)) {
            struct tensor *t = (struct tensor *)e->ref;
            if (t->pending && a->tensors[e->word].data) {
                t->t.data = a->tensors[e->word].data;
                t->pending = false;
            }
        }
    }
}

/* ---- TaskArgs ---- */

static PyObject *args_make(PyTypeObject *type, PyObject *unused, PyObject *kwargs)
{
    if (PyTuple_Size(unused) != 0 || (kwargs && PyDict_Size(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "TaskArgs() takes no arguments");
        return NULL;
    }
    struct args_object *self = (struct args_object *)object_new(type);
    if (self) {
        args_init(&self->args);
    }
    return (PyObject *)self;
}

static struct args *args_of(PyObject *o)
{
    return &((struct args_object *)o)->args;
}

/* NULL with StateError while a submission reads them, which may let other code run. */
static struct args *args_to_change(PyObject *o)
{
    struct args *a = args_of(o);
    if (a->busy != 0) {
        core_raise(TSM_ESTATE,
                   "the arguments are being submitted: they cannot be changed meanwhile");
        return NULL;
    }
    return a;
}

static PyObject *none_or_null(int rc)
{
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *args_add_tensor(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"add_tensor", {"tensor", "tag"}, 2, 1, {0}};
    PyObject *values[2];
    int64_t tag = TSM_INPUT;
    if (signature_read(&s, args, count, names, values) != 0 ||
        (values[1] && int_read(values[1], "tag", TSM_INPUT, TSM_NO_DEP, &tag) != 0)) {
        return NULL;
    }
    struct args *a = args_to_change(o);
    return none_or_null(a ? add_tensor(a, values[0], (int)tag, "tensor") : -1);
}

static PyObject *args_add_scalar(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"add_scalar", {"value", "dtype"}, 2, 1, {0}};
    PyObject *values[2];
    int dtype = 0;
    if (signature_read(&s, args, count, names, values) != 0 ||
        (values[1] && values[1] != Py_None && dtype_read(values[1], "dtype", &dtype) != 0)) {
        return NULL;
    }
    struct args *a = args_to_change(o);
    int rc = !a ? -1 : dtype ? add_typed(a, values[0], dtype) : add_number(a, values[0]);
    if (rc == 1) {
        PyErr_Format(PyExc_TypeError, "value must be a number, not %R", Py_TYPE(values[0]));
    }
    return none_or_null(rc);
}

static PyObject *args_add_domain(PyObject *o, PyObject *domain)
{
    if (Py_TYPE(domain) != domain_type) {
        PyErr_Format(PyExc_TypeError, "domain must be a CommDomainHandle, not %R", Py_TYPE(domain));
        return NULL;
    }
    struct args *a = args_to_change(o);
    return none_or_null(a ? add_domain(a, domain) : -1);
}

static PyObject *args_add_object(PyObject *o, PyObject *value)
{
    struct args *a = args_to_change(o);
    return none_or_null(a ? add_object(a, value) : -1);
}

/* The index-th entry of one kind. */
static const struct entry *find_entry(const struct args *a, bool tensors, PyObject *index)
{
    int64_t n;
    if (int_read(index, "index", 0, INT32_MAX, &n) != 0) {
        return NULL;
    }
    int64_t left = n;
    for (uint32_t i = 0; i < a->entry_count; i++) {
        const struct entry *e = &a->entries[i];
        bool is_scalar = e->kind != ARGUMENT_TENSOR && e->kind != ARGUMENT_DOMAIN;
        if ((tensors ? e->kind == ARGUMENT_TENSOR : is_scalar) && left-- == 0) {
            return e;
        }
    }
    PyErr_Format(PyExc_IndexError, "there is no %s %lld", tensors ? "tensor" : "scalar",
                 (long long)n);
    return NULL;
}

static PyObject *args_tensor(PyObject *o, PyObject *index)
{
    const struct entry *e = find_entry(args_of(o), true, index);
    return e ? Py_NewRef(e->ref) : NULL;
}

static PyObject *args_scalar(PyObject *o, PyObject *index)
{
    const struct entry *e = find_entry(args_of(o), false, index);
    if (!e) {
        return NULL;
    }
    double wide;
    float narrow;
    memcpy(&wide, &e->python_word, sizeof(wide));
    memcpy(&narrow, &e->python_word, sizeof(narrow));
    switch (e->kind) {
    case ARGUMENT_FLOAT:
        return PyFloat_FromDouble(wide);
    case ARGUMENT_F32:
        return PyFloat_FromDouble((double)narrow);
    case ARGUMENT_BOOL:
        return PyBool_FromLong(e->python_word != 0);
    case ARGUMENT_INT:
        return PyLong_FromLongLong((int64_t)e->python_word);
    case ARGUMENT_UINT:
        return PyLong_FromUnsignedLongLong(e->python_word);
    default:
        return Py_NewRef(e->ref ? e->ref : Py_None);
    }
}

static PyObject *args_tensor_count(PyObject *o, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(args_of(o)->tensor_count);
}

static uint32_t scalar_count(const struct args *a)
{
    return a->entry_count - a->tensor_count - a->domain_count;
}

static PyObject *args_scalar_count(PyObject *o, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(scalar_count(args_of(o)));
}

static PyObject *args_domain_count(PyObject *o, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(args_of(o)->domain_count);
}

static PyObject *args_clear_all(PyObject *o, PyObject *unused)
{
    (void)unused;
    struct args *a = args_to_change(o);
    if (a) {
        args_clear(a);
    }
    return none_or_null(a ? 0 : -1);
}

static Py_ssize_t args_length(PyObject *o)
{
    return args_of(o)->entry_count;
}

static PyObject *args_repr(PyObject *o)
{
    const struct args *a = args_of(o);
    return PyUnicode_FromFormat("<transom.TaskArgs: %u tensors, %u scalars, %u domains>",
                                a->tensor_count, scalar_count(a), a->domain_count);
}

static int args_traverse(PyObject *o, visitproc visit, void *arg)
{
    const struct args *a = args_of(o);
    Py_VISIT(Py_TYPE(o));
    for (uint32_t i = 0; i < a->entry_count; i++) {
        Py_VISIT(a->entries[i].ref);
    }
    return 0;
}

static int args_gc_clear(PyObject *o)
{
    args_clear(args_of(o));
    return 0;
}

static void args_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    args_fini(args_of(o));
    object_free(o);
}

static PyMethodDef args_methods[] = {
    {"add_tensor", FAST(args_add_tensor),
     "add_tensor($self, tensor, tag=1)\n--\n\n"
     "Appends a tensor: a Buffer, a Tensor, or an array over memory of the worker.\n\n"
     "Args:\n    tag: INPUT (default), OUTPUT, INOUT, OUTPUT_EXISTING or NO_DEP: how the task uses "
     "it.\n\n"
     "Raises:\n    TypeError: it is no tensor.\n    ValueError: unknown tag."},
    {"add_scalar", FAST(args_add_scalar),
     "add_scalar($self, value, dtype=None)\n--\n\n"
     "Appends a number of 64 bits.\n\n"
     "A task of C gets an int as its bits and a float as those of a C float (tsm_task_f32); with\n"
     "dtype=\"float64\" as those of a double (tsm_task_f64). Numbers of NumPy and ctypes bring "
     "their type.\n"
     "A task of Python gets the number.\n\n"
     "Raises:\n    TypeError: it is no number.\n    ValueError: it does not fit."},
    {"add_domain", args_add_domain, METH_O,
     "add_domain($self, domain, /)\n--\n\nAppends a domain; the task sees it as a member does."},
    {"add_object", args_add_object, METH_O,
     "add_object($self, value, /)\n--\n\n"
     "Appends a copy of any Python object that can be pickled, for tasks of Python; all arguments\n"
     "of a task together take less than 64 KiB."},
    {"tensor", args_tensor, METH_O,
     "tensor($self, index, /)\n--\n\nThe index-th tensor, as it was added."},
    {"scalar", args_scalar, METH_O, "scalar($self, index, /)\n--\n\nThe index-th scalar."},
    {"tensor_count", args_tensor_count, METH_NOARGS,
     "tensor_count($self)\n--\n\nNumber of tensors."},
    {"scalar_count", args_scalar_count, METH_NOARGS,
     "scalar_count($self)\n--\n\nNumber of scalars."},
    {"domain_count", args_domain_count, METH_NOARGS,
     "domain_count($self)\n--\n\nNumber of domains."},
    {"clear", args_clear_all, METH_NOARGS, "clear($self)\n--\n\nForgets all arguments."},
    {0}};

static PyType_Slot args_slots[] = {
    {Py_tp_doc, "TaskArgs()\n--\n\n"
                "Arguments of a task, in order. They may be submitted any number of times.\n\n"
                ">>> import transom as ts\n>>> a = ts.TaskArgs()\n>>> a.add_scalar(3)\n"
                ">>> a\n<transom.TaskArgs: 0 tensors, 1 scalars, 0 domains>"},
    {Py_tp_new, args_make},
    {Py_tp_dealloc, args_dealloc},
    {Py_tp_traverse, args_traverse},
    {Py_tp_clear, args_gc_clear},
    {Py_tp_repr, args_repr},
    {Py_tp_methods, args_methods},
    {Py_sq_length, args_length},
    {0}};
static PyType_Spec args_spec = {"transom.TaskArgs", sizeof(struct args_object), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, args_slots};

/* ---- tags and lists of values ---- */

static PyObject *make_tagged(PyObject *tensor, int tag)
{
    struct tagged *self = (struct tagged *)object_new(tagged_type);
    if (self) {
        self->tensor = Py_NewRef(tensor);
        self->tag = tag;
    }
    return (PyObject *)self;
}

static PyObject *make_out(PyObject *module, PyObject *tensor)
{
    (void)module;
    return make_tagged(tensor, TSM_OUTPUT);
}

static PyObject *make_inout(PyObject *module, PyObject *tensor)
{
    (void)module;
    return make_tagged(tensor, TSM_INOUT);
}

static PyObject *make_nodep(PyObject *module, PyObject *tensor)
{
    (void)module;
    return make_tagged(tensor, TSM_NO_DEP);
}

static PyObject *make_each(PyObject *module, PyObject *values)
{
    (void)module;
    PyObject *tuple = tuple_read(values, "values", "one for each member");
    struct each *self = tuple ? (struct each *)object_new(each_type) : NULL;
    if (!self) {
        Py_XDECREF(tuple);
        return NULL;
    }
    self->values = tuple;
    return (PyObject *)self;
}

static PyObject *tagged_get(PyObject *o, void *closure)
{
    const struct tagged *self = (struct tagged *)o;
    return closure ? PyLong_FromLong(self->tag) : Py_NewRef(self->tensor);
}

static PyObject *tagged_repr(PyObject *o)
{
    static const char *const names[] = {"?", "?", "out", "inout", "?", "nodep"};
    const struct tagged *self = (struct tagged *)o;
    return PyUnicode_FromFormat("transom.%s(%R)", names[self->tag], self->tensor);
}

static PyObject *each_repr(PyObject *o)
{
    return PyUnicode_FromFormat("transom.each(%R)", ((struct each *)o)->values);
}

/* Both have one reference, at the same place. */
_Static_assert(offsetof(struct tagged, tensor) == offsetof(struct each, values), "same place");

static int one_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((struct each *)o)->values);
    return 0;
}

static void one_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    Py_CLEAR(((struct each *)o)->values);
    object_free(o);
}

static PyGetSetDef tagged_getters[] = {
    {"tensor", tagged_get, NULL, "The tensor.", NULL},
    {"tag", tagged_get, NULL, "How a task uses it: OUTPUT, INOUT or NO_DEP.", (void *)1},
    {0}};
static PyType_Slot tagged_slots[] = {
    {Py_tp_doc, "A tensor with how a task uses it: from out, inout and nodep."},
    {Py_tp_getset, tagged_getters},
    {Py_tp_dealloc, one_dealloc},
    {Py_tp_traverse, one_traverse},
    {Py_tp_repr, tagged_repr},
    {0}};
static PyType_Spec tagged_spec = {
    "transom.Tagged", sizeof(struct tagged), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, tagged_slots};

static PyType_Slot each_slots[] = {{Py_tp_doc, "One value for each member of a group: from each."},
                                   {Py_tp_dealloc, one_dealloc},
                                   {Py_tp_traverse, one_traverse},
                                   {Py_tp_repr, each_repr},
                                   {0}};
static PyType_Spec each_spec = {
    "transom.Each", sizeof(struct each), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, each_slots};

static PyMethodDef functions[] = {
    {"out", make_out, METH_O,
     "out($module, tensor, /)\n--\n\nAn argument of submit that the task writes, all of it."},
    {"inout", make_inout, METH_O,
     "inout($module, tensor, /)\n--\n\nAn argument of submit that the task reads and writes."},
    {"nodep", make_nodep, METH_O,
     "nodep($module, tensor, /)\n--\n\n"
     "An argument of submit that orders nothing; its memory stays as long as the task may use it."},
    {"each", make_each, METH_O,
     "each($module, values, /)\n--\n\n"
     "An argument of submit_group of which member i gets values[i]; as many values as members."},
    {0}};

int args_module_init(PyObject *module)
{
    args_type = type_new(module, &args_spec, NULL);
    tagged_type = args_type ? type_new(module, &tagged_spec, NULL) : NULL;
    each_type = tagged_type ? type_new(module, &each_spec, NULL) : NULL;
    return each_type ? PyModule_AddFunctions(module, functions) : -1;
}

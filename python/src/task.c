/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Task: what a Python function that runs as a task is given first. Arguments are read from the record when they are
 * asked for, or when the function takes them. Chip and sub processes; a Task ends with its task and takes its domains
 * along. Owns what was made of the arguments until then.
 */
#include "view.h"

#include <string.h>

PyTypeObject *task_type;
static PyObject *own_names; /* set of what Task has itself; the rest is asked of its domain */
static PyObject *loads;     /* pickle.loads */

/* ---- arguments ---- */

/* Where reading the record is: enum argument in core.h says how it is written. */
struct reader {
    struct task_object *task;
    tsm_task *t;
    uint64_t count; /* of arguments */
    uint32_t kinds; /* first word of the kinds; what comes before is what the arguments hold */
    uint32_t word, tensor, domain; /* next ones */
    bool plain;                    /* without scalars: the tensors, then the domains */
};

static int reader_init(struct reader *r, struct task_object *task)
{
    tsm_task *t = task->t;
    uint32_t scalars = tsm_task_scalar_count(t);
    memset(r, 0, sizeof(*r));
    r->task = task;
    r->t = t;
    if (scalars == 0) {
        r->plain = true;
        r->count = tsm_task_tensor_count(t) + tsm_task_domain_count(t);
        return 0;
    }
    r->count = tsm_task_scalar(t, scalars - 1);
    uint64_t words = r->count / 8 + (r->count % 8 != 0);
    if (words > scalars - 1) {
        return core_raise(TSM_EPROTOCOL, "the scalars of the task are not those of a Python call");
    }
    r->kinds = scalars - 1 - (uint32_t)words;
    return 0;
}

static enum argument kind_at(const struct reader *r, uint64_t i)
{
    if (r->plain) {
        return i < tsm_task_tensor_count(r->t) ? ARGUMENT_TENSOR : ARGUMENT_DOMAIN;
    }
    uint64_t word = tsm_task_scalar(r->t, r->kinds + (uint32_t)(i / 8));
    uint8_t bytes[8];
    memcpy(bytes, &word, sizeof(bytes));
    return (enum argument)bytes[i % 8];
}

static PyObject *broken(void)
{
    core_raise(TSM_EPROTOCOL, "the arguments of the task are not those of a Python call");
    return NULL;
}

static PyObject *read_tensor(struct reader *r)
{
    struct tsm_tensor t;
    if (tsm_task_tensor(r->t, r->tensor++, &t) != 0) {
        return broken();
    }
    return array_new(&t, NULL, t.tag == TSM_INPUT || t.tag == 0);
}

static PyObject *read_domain(struct reader *r)
{
    uint32_t i = r->domain++;
    if (i >= tsm_task_domain_count(r->t)) {
        return broken();
    }
    tsm_ctx *c = tsm_task_domain(r->t, i);
    return c ? view_of(r->task, c) : Py_NewRef(Py_None);
}

static PyObject *unpickle(PyObject *bytes)
{
    if (!loads) {
        PyObject *module = PyImport_ImportModule("pickle");
        loads = module ? PyObject_GetAttrString(module, "loads") : NULL;
        Py_XDECREF(module);
    }
    return loads ? PyObject_CallFunctionObjArgs(loads, bytes, NULL) : NULL;
}

static PyObject *read_object(struct reader *r)
{
    uint64_t size = r->word < r->kinds ? tsm_task_scalar(r->t, r->word++) : UINT64_MAX;
    uint64_t words = size / 8 + (size % 8 != 0);
    if (words > r->kinds - r->word) {
        return broken();
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    char *at = bytes ? PyBytes_AsString(bytes) : NULL;
    for (uint64_t done = 0; at && done < size; done += 8) {
        uint64_t word = tsm_task_scalar(r->t, r->word++);
        memcpy(at + done, &word, size - done < 8 ? size - done : 8);
    }
    PyObject *o = at ? unpickle(bytes) : NULL;
    Py_XDECREF(bytes);
    return o;
}

static PyObject *read_number(struct reader *r, enum argument kind)
{
    if (r->word >= r->kinds) {
        return broken();
    }
    uint32_t i = r->word++;
    switch (kind) {
    case ARGUMENT_INT:
        return PyLong_FromLongLong((int64_t)tsm_task_scalar(r->t, i));
    case ARGUMENT_UINT:
        return PyLong_FromUnsignedLongLong(tsm_task_scalar(r->t, i));
    case ARGUMENT_FLOAT:
        return PyFloat_FromDouble(tsm_task_f64(r->t, i));
    case ARGUMENT_F32:
        return PyFloat_FromDouble((double)tsm_task_f32(r->t, i));
    case ARGUMENT_BOOL:
        return PyBool_FromLong(tsm_task_scalar(r->t, i) != 0);
    case ARGUMENT_TENSOR:
    case ARGUMENT_DOMAIN:
    case ARGUMENT_NONE:
    case ARGUMENT_OBJECT:
    default:
        return broken();
    }
}

static PyObject *read_next(struct reader *r, uint64_t i)
{
    enum argument kind = kind_at(r, i);
    switch (kind) {
    case ARGUMENT_TENSOR:
        return read_tensor(r);
    case ARGUMENT_DOMAIN:
        return read_domain(r);
    case ARGUMENT_NONE:
        return Py_NewRef(Py_None);
    case ARGUMENT_OBJECT:
        return read_object(r);
    case ARGUMENT_INT:
    case ARGUMENT_UINT:
    case ARGUMENT_FLOAT:
    case ARGUMENT_BOOL:
    case ARGUMENT_F32:
    default:
        return read_number(r, kind);
    }
}

/* self->arguments, made at the first call; borrowed. */
static PyObject *arguments_of(struct task_object *self)
{
    struct reader r;
    if (self->arguments) {
        return self->arguments;
    }
    if (self->thread != PyThread_get_thread_ident()) {
        core_raise(TSM_EWRONG_THREAD,
                   "the arguments are first asked for by the thread that runs the task");
        return NULL;
    }
    if (reader_init(&r, self) != 0) {
        return NULL;
    }
    PyObject *all = PyTuple_New((Py_ssize_t)r.count + 1);
    if (!all) {
        return NULL;
    }
    PyTuple_SetItem(all, 0, Py_NewRef((PyObject *)self));
    for (uint64_t i = 0; i < r.count; i++) {
        PyObject *o = read_next(&r, i);
        if (!o) {
            Py_DECREF(all);
            return NULL;
        }
        PyTuple_SetItem(all, (Py_ssize_t)i + 1, o);
    }
    return self->arguments = all;
}

static enum kind kind_of(enum argument a)
{
    return a == ARGUMENT_TENSOR ? KIND_TENSOR : a == ARGUMENT_DOMAIN ? KIND_DOMAIN : KIND_SCALAR;
}

/* The arguments of one kind; borrowed. */
static PyObject *tuple_of_kind(struct task_object *self, enum kind kind)
{
    struct reader r;
    PyObject *all = self->kinds[kind] ? NULL : arguments_of(self);
    if (!all) {
        return self->kinds[kind];
    }
    PyObject *list = reader_init(&r, self) == 0 ? PyList_New(0) : NULL;
    for (uint64_t i = 0; list && i < r.count; i++) {
        if (kind_of(kind_at(&r, i)) == kind &&
            PyList_Append(list, PyTuple_GetItem(all, (Py_ssize_t)i + 1)) != 0) {
            Py_CLEAR(list);
        }
    }
    self->kinds[kind] = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return self->kinds[kind];
}

/* ---- life ---- */

PyObject *task_new(tsm_task *t)
{
    struct task_object *self = (struct task_object *)object_new(task_type);
    if (self) {
        self->t = t;
        self->thread = PyThread_get_thread_ident();
    }
    return (PyObject *)self;
}

PyObject *task_call(struct task_object *self, PyObject *function, bool task_only)
{
    if (task_only) {
        return PyObject_CallFunctionObjArgs(function, (PyObject *)self, NULL);
    }
    PyObject *arguments = arguments_of(self);
    return arguments ? PyObject_CallObject(function, arguments) : NULL;
}

static void clear(struct task_object *self)
{
    Py_CLEAR(self->arguments);
    for (int i = 0; i < KINDS; i++) {
        Py_CLEAR(self->kinds[i]);
    }
    while (self->op_count > 0) {
        struct user_op *op = &self->ops[--self->op_count];
        Py_CLEAR(op->function);
    }
    Py_CLEAR(self->op_error);
    while (self->views) {
        struct view *v = self->views;
        self->views = v->next;
        v->next = NULL;
        Py_DECREF((PyObject *)v);
    }
}

void task_end(struct task_object *self)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    for (struct view *v = self->views; v; v = v->next) {
        view_end(v);
    }
    self->t = NULL;
    clear(self);
    PyErr_Restore(type, value, trace);
}

static int task_traverse(PyObject *o, visitproc visit, void *arg)
{
    struct task_object *self = (struct task_object *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(self->arguments);
    for (int i = 0; i < KINDS; i++) {
        Py_VISIT(self->kinds[i]);
    }
    for (uint32_t i = 0; i < self->op_count; i++) {
        Py_VISIT(self->ops[i].function);
    }
    for (struct view *v = self->views; v; v = v->next) {
        Py_VISIT((PyObject *)v);
    }
    Py_VISIT(self->op_error);
    return 0;
}

static void task_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    clear((struct task_object *)o);
    object_free(o);
}

/* ---- what it is ---- */

static tsm_task *use(struct task_object *self)
{
    if (!self->t) {
        core_raise(TSM_ESTATE, "the task has ended");
    }
    return self->t;
}

enum fact { CHIP, ID, RUN, MEMBER, MEMBERS, BLOCKS };

static PyObject *task_get(PyObject *o, void *closure)
{
    const tsm_task *t = use((struct task_object *)o);
    if (!t) {
        return NULL;
    }
    switch ((enum fact)(uintptr_t)closure) {
    case CHIP:
        return PyLong_FromLong(tsm_task_chip(t));
    case ID:
        return PyLong_FromUnsignedLongLong(tsm_task_self(t));
    case RUN:
        return PyLong_FromUnsignedLongLong(tsm_task_run(t));
    case MEMBER:
        return PyLong_FromUnsignedLong(tsm_task_member(t));
    case MEMBERS:
        return PyLong_FromUnsignedLong(tsm_task_members(t));
    case BLOCKS:
    default:
        return PyLong_FromUnsignedLong(tsm_task_blocks(t));
    }
}

static PyObject *task_get_kind(PyObject *o, void *closure)
{
    struct task_object *self = (struct task_object *)o;
    return use(self) ? Py_XNewRef(tuple_of_kind(self, (enum kind)(uintptr_t)closure)) : NULL;
}

static PyObject *task_repr(PyObject *o)
{
    const tsm_task *t = ((struct task_object *)o)->t;
    if (!t) {
        return PyUnicode_FromString("<transom.Task that has ended>");
    }
    return PyUnicode_FromFormat("<transom.Task %llu of run %llu on chip %d, member %u of %u>",
                                (unsigned long long)tsm_task_self(t),
                                (unsigned long long)tsm_task_run(t), tsm_task_chip(t),
                                (unsigned)tsm_task_member(t), (unsigned)tsm_task_members(t));
}

static PyObject *only_domain(struct task_object *self, PyObject *name)
{
    uint32_t count = tsm_task_domain_count(self->t);
    tsm_ctx *c = count == 1 ? tsm_task_domain(self->t, 0) : NULL;
    if (c) {
        return view_of(self, c);
    }
    if (count == 1) {
        PyErr_Format(PyExc_AttributeError,
                     "the task has no attribute %R: this chip is no member of its domain", name);
    } else if (count == 0) {
        PyErr_Format(PyExc_AttributeError, "the task has no attribute %R, and no domain", name);
    } else {
        PyErr_Format(
            PyExc_AttributeError,
            "the task has no attribute %R, and %u domains: say which, as in task.domain(0)", name,
            (unsigned)count);
    }
    return NULL;
}

static PyObject *task_getattro(PyObject *o, PyObject *name)
{
    struct task_object *self = (struct task_object *)o;
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    int own = text ? PySet_Contains(own_names, name) : -1;
    if (own < 0) {
        return NULL;
    }
    if (own || text[0] == '_') {
        return PyObject_GenericGetAttr(o, name);
    }
    PyObject *domain = use(self) ? only_domain(self, name) : NULL;
    PyObject *attribute = domain ? PyObject_GetAttr(domain, name) : NULL;
    Py_XDECREF(domain);
    return attribute;
}

/* ---- single arguments ---- */

static PyObject *item(struct task_object *self, enum kind kind, PyObject *index, const char *name)
{
    PyObject *all = use(self) ? tuple_of_kind(self, kind) : NULL;
    int64_t i = 0;
    if (!all || (index && int_read(index, "index", INT64_MIN, INT64_MAX, &i) != 0)) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(all);
    if (i < 0 || i >= count) {
        PyErr_Format(PyExc_IndexError, "%s(%lld): the task has %zd", name, (long long)i, count);
        return NULL;
    }
    return Py_NewRef(PyTuple_GetItem(all, (Py_ssize_t)i));
}

static PyObject *task_tensor(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"tensor", {"index"}, 1, 1, {0}};
    PyObject *v[1];
    return signature_read(&s, args, count, names, v) == 0
               ? item((struct task_object *)o, KIND_TENSOR, v[0], s.function)
               : NULL;
}

static PyObject *task_scalar(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"scalar", {"index"}, 1, 1, {0}};
    PyObject *v[1];
    return signature_read(&s, args, count, names, v) == 0
               ? item((struct task_object *)o, KIND_SCALAR, v[0], s.function)
               : NULL;
}

static PyObject *task_domain(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"domain", {"index"}, 1, 0, {0}};
    PyObject *v[1];
    if (signature_read(&s, args, count, names, v) != 0) {
        return NULL;
    }
    PyObject *domain = item((struct task_object *)o, KIND_DOMAIN, v[0], s.function);
    if (domain == Py_None) {
        Py_DECREF(domain);
        core_raise(TSM_ENOENT, "this chip is no member of that domain");
        return NULL;
    }
    return domain;
}

static PyObject *count_of(PyObject *o, enum kind kind)
{
    struct task_object *self = (struct task_object *)o;
    PyObject *all = use(self) ? tuple_of_kind(self, kind) : NULL;
    return all ? PyLong_FromSsize_t(PyTuple_Size(all)) : NULL;
}

static PyObject *task_tensor_count(PyObject *o, PyObject *unused)
{
    (void)unused;
    return count_of(o, KIND_TENSOR);
}

static PyObject *task_scalar_count(PyObject *o, PyObject *unused)
{
    (void)unused;
    return count_of(o, KIND_SCALAR);
}

static PyObject *task_domain_count(PyObject *o, PyObject *unused)
{
    (void)unused;
    return count_of(o, KIND_DOMAIN);
}

/* ---- the type ---- */

static PyGetSetDef getters[] = {
    {"chip", task_get, NULL, "The chip it runs on; chips + k on sub worker k.", (void *)CHIP},
    {"id", task_get, NULL, "What submit returned.", (void *)ID},
    {"run", task_get, NULL, "Number of its run.", (void *)RUN},
    {"member", task_get, NULL, "Number of this member of a group; 0 of a single task.",
     (void *)MEMBER},
    {"members", task_get, NULL, "Size of the group; 1 of a single task.", (void *)MEMBERS},
    {"blocks", task_get, NULL, "Number of blocks of the call.", (void *)BLOCKS},
    {"tensors", task_get_kind, NULL,
     "The tensors among the arguments, as arrays: read-only where it is an input.",
     (void *)KIND_TENSOR},
    {"scalars", task_get_kind, NULL,
     "The arguments that are neither tensors nor domains: numbers, None and other objects.",
     (void *)KIND_SCALAR},
    {"domains", task_get_kind, NULL,
     "The domains among the arguments; None where this chip is no member.", (void *)KIND_DOMAIN},
    {0}};

static PyMethodDef methods[] = {{"tensor", FAST(task_tensor),
                                 "tensor($self, index)\n--\n\n"
                                 "One of `tensors`.\n\nRaises:\n    IndexError: there is none."},
                                {"scalar", FAST(task_scalar),
                                 "scalar($self, index)\n--\n\n"
                                 "One of `scalars`.\n\nRaises:\n    IndexError: there is none."},
                                {"domain", FAST(task_domain),
                                 "domain($self, index=0)\n--\n\n"
                                 "One of `domains`.\n\nRaises:\n    IndexError: there is none.\n"
                                 "    NotFoundError: this chip is no member of it."},
                                {"tensor_count", task_tensor_count, METH_NOARGS,
                                 "tensor_count($self)\n--\n\nNumber of `tensors`."},
                                {"scalar_count", task_scalar_count, METH_NOARGS,
                                 "scalar_count($self)\n--\n\nNumber of `scalars`."},
                                {"domain_count", task_domain_count, METH_NOARGS,
                                 "domain_count($self)\n--\n\nNumber of `domains`."},
                                {0}};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "What a Python function that runs as a task is given first; it ends with the task.\n\n"
     "The function is called with the task and the arguments of the submission, in their order, or "
     "with the task\n"
     "alone when it takes a single argument. What it returns is not used: results go to tensors "
     "and windows. An\n"
     "exception that it raises fails the run and is raised in the program.\n\n"
     "Of a task with exactly one domain, what Task does not have is the Domain's: task.barrier(), "
     "task.rank.\n"
     "Arrays over tensors and windows may be touched after the task, but what is in them then is "
     "nobody's promise."},
    {Py_tp_dealloc, task_dealloc},
    {Py_tp_traverse, task_traverse},
    {Py_tp_repr, task_repr},
    {Py_tp_getattro, task_getattro},
    {Py_tp_getset, getters},
    {Py_tp_methods, methods},
    {0}};
static PyType_Spec spec = {
    "transom.Task", sizeof(struct task_object), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

int task_init(PyObject *module)
{
    task_type = type_new(module, &spec, NULL);
    PyObject *names = task_type ? PyObject_Dir((PyObject *)task_type) : NULL;
    own_names = names ? PySet_New(names) : NULL;
    Py_XDECREF(names);
    return own_names ? 0 : -1;
}

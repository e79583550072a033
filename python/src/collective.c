/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Domain's collectives. The type of the elements and how many there are come from the places, so that a call on whole
 * buffers needs neither; what does not fit the buffers is refused here, on this rank alone, before anything is sent. The
 * GIL is free meanwhile. Chip processes, inside a task. docs/collectives.md.
 */
#include "view.h"

#include <string.h>

/* One collective on this rank. */
struct collective {
    struct view *self;
    tsm_ctx *c;
    const char *call;
    struct place dst, src;
    bool in_place;
    int dtype, op;
    uint64_t item, count;
    uint32_t size, root;
    uint64_t *counts, *displs; /* of PyMem_Malloc, by rank; displs NULL: one behind the other */
    uint64_t *src_counts, *src_displs; /* of all_to_all_v */
};

/* ---- places ---- */

static uint64_t elements(const struct collective *x, const struct place *p)
{
    return place_bytes(p) / x->item;
}

static int check_types(struct collective *x)
{
    char text[96], more[96];
    if (x->dst.dtype == 0 && x->src.dtype == 0) {
        PyErr_Format(PyExc_TypeError,
                     "%s: offsets alone have no type: give dst or src as a name or an array",
                     x->call);
        return -1;
    }
    if (x->dst.dtype != 0 && x->src.dtype != 0 && x->dst.dtype != x->src.dtype) {
        PyErr_Format(PyExc_TypeError, "%s: %s is %s, %s is %s", x->call,
                     place_text(&x->dst, text, sizeof(text)), dtype_long_name(x->dst.dtype),
                     place_text(&x->src, more, sizeof(more)), dtype_long_name(x->src.dtype));
        return -1;
    }
    x->dtype = x->dst.dtype != 0 ? x->dst.dtype : x->src.dtype;
    x->item = tsm_dtype_bytes(x->dtype);
    return 0;
}

/* Of dst and src one may be NULL or None: it is the other one, in place. */
static int begin(struct collective *x, PyObject *o, const char *call, PyObject *dst, PyObject *src)
{
    memset(x, 0, sizeof(*x));
    x->self = (struct view *)o;
    x->call = call;
    if (!(x->c = view_use(x->self))) {
        return -1;
    }
    x->size = tsm_size(x->c);
    dst = dst == Py_None ? NULL : dst;
    src = src == Py_None ? NULL : src;
    if (!dst && !src) {
        PyErr_Format(PyExc_TypeError, "%s: dst and src are None", call);
        return -1;
    }
    if (place_read(x->self, dst ? dst : src, dst ? "dst" : "src", &x->dst) != 0) {
        return -1;
    }
    x->src = x->dst;
    if (dst && src && place_read(x->self, src, "src", &x->src) != 0) {
        return -1;
    }
    x->in_place = x->dst.sym.offset == x->src.sym.offset;
    return check_types(x);
}

/* parts times count elements have to be in the place. */
static int need(struct collective *x, const struct place *p, uint64_t count, uint64_t parts)
{
    char text[96];
    uint64_t all, has = elements(x, p);
    if (!__builtin_mul_overflow(count, parts, &all) && all <= has) {
        return 0;
    }
    place_text(p, text, sizeof(text));
    if (parts == 1) {
        return view_refuse(x->self, TSM_ERANGE, "%s: %s has %llu elements, %llu are needed",
                           x->call, text, (unsigned long long)has, (unsigned long long)count);
    }
    return view_refuse(x->self, TSM_ERANGE,
                       "%s: %s has %llu elements, %llu for each of %u ranks are needed", x->call,
                       text, (unsigned long long)has, (unsigned long long)count, (unsigned)x->size);
}

/* What was given, or as many as each of `parts` parts of the place has. */
static int count_read(struct collective *x, PyObject *o, const struct place *from, uint32_t parts)
{
    char text[96];
    int64_t count;
    if (o && o != Py_None) {
        if (int_read(o, "count", 0, INT64_MAX, &count) != 0) {
            return -1;
        }
        x->count = (uint64_t)count;
        return 0;
    }
    place_text(from, text, sizeof(text));
    if (from->dtype == 0) {
        PyErr_Format(PyExc_TypeError, "%s: count must be given: %s has no length", x->call, text);
        return -1;
    }
    if (elements(x, from) % parts != 0) {
        return view_refuse(x->self, TSM_EINVAL, "%s: the %llu elements of %s are not for %u ranks",
                           x->call, (unsigned long long)elements(x, from), text, (unsigned)x->size);
    }
    x->count = elements(x, from) / parts;
    return 0;
}

static int root_read(struct collective *x, PyObject *o)
{
    return o ? rank_read(x->self, o, "root", &x->root) : 0;
}

/* ---- counts by rank ---- */

static int list_read(struct collective *x, PyObject *o, const char *what, uint64_t **ret)
{
    int64_t *values;
    Py_ssize_t count;
    if (!o || o == Py_None) {
        return 0;
    }
    if (ints_read(o, what, 0, INT64_MAX, &values, &count) != 0) {
        return -1;
    }
    if (count != (Py_ssize_t)x->size) {
        PyMem_Free(values);
        return view_refuse(x->self, TSM_EINVAL, "%s: %s has %zd numbers, there are %u ranks",
                           x->call, what, count, (unsigned)x->size);
    }
    *ret = (uint64_t *)values;
    return 0;
}

/* Elements from the begin of the buffer to the end of its last part. */
static uint64_t extent(const struct collective *x, const uint64_t *counts, const uint64_t *displs)
{
    uint64_t most = 0, end = 0;
    for (uint32_t r = 0; r < x->size; r++) {
        uint64_t first = displs ? displs[r] : end;
        if (__builtin_add_overflow(first, counts[r], &end)) {
            return UINT64_MAX;
        }
        most = end > most ? end : most;
    }
    return most;
}

/* counts and displs, and whether the parts fit: all of them into `whole`, the own one into `part`. */
static int parts_read(struct collective *x, PyObject *counts, PyObject *displs,
                      const struct place *whole, const struct place *part)
{
    if (list_read(x, counts, "counts", &x->counts) != 0 ||
        list_read(x, displs, "displs", &x->displs) != 0) {
        return -1;
    }
    if (!x->counts) {
        PyErr_Format(PyExc_TypeError, "%s: counts is None", x->call);
        return -1;
    }
    return need(x, whole, extent(x, x->counts, x->displs), 1) != 0 ? -1
           : x->in_place                                           ? 0
                         : need(x, part, x->counts[tsm_rank(x->c)], 1);
}

/* ---- the call ---- */

static void end(struct collective *x)
{
    PyMem_Free(x->counts);
    PyMem_Free(x->displs);
    PyMem_Free(x->src_counts);
    PyMem_Free(x->src_displs);
}

/* ready: 0 when the arguments are right, else the exception is set. Ends x. */
static PyObject *run(struct collective *x, int ready, int (*call)(const struct collective *x))
{
    PyObject *result = NULL;
    if (ready == 0) {
        gil_leave();
        int rc = call(x);
        gil_enter();
        PyObject *error = x->self->task->op_error;
        x->self->task->op_error = NULL;
        if (error) {
            PyErr_SetObject((PyObject *)Py_TYPE(error), error);
            Py_DECREF(error);
        } else {
            result = view_done(x->self, rc, x->call);
        }
    }
    end(x);
    return result;
}

/* ---- operations ---- */

static PyObject *combine_arrays(PyObject *function, void *into, const void *from, uint64_t count,
                                int dtype)
{
    struct tsm_tensor t = {.data = into, .dtype = (uint8_t)dtype, .ndim = 1, .shape = {count}};
    PyObject *a = array_new(&t, NULL, false);
    memcpy(&t.data, &from, sizeof(t.data)); /* read-only as an array, too */
    PyObject *b = a ? array_new(&t, NULL, true) : NULL;
    PyObject *result = b ? PyObject_CallFunctionObjArgs(function, a, b, NULL) : NULL;
    /* What is returned instead of stored is the result all the same. */
    if (result && result != Py_None && result != a &&
        PyObject_SetItem(a, Py_Ellipsis, result) != 0) {
        Py_CLEAR(result);
    }
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}

/* tsm_combine_fn. The first exception ends the combining of this collective. */
static void combine(void *into, const void *from, uint64_t count, int dtype, void *arg)
{
    struct user_op *op = arg;
    if (op->task->op_error) {
        return;
    }
    gil_enter();
    PyObject *result = combine_arrays(op->function, into, from, count, dtype);
    if (!result) {
        PyObject *type, *trace;
        PyErr_Fetch(&type, &op->task->op_error, &trace);
        PyErr_NormalizeException(&type, &op->task->op_error, &trace);
        if (trace) {
            PyException_SetTraceback(op->task->op_error, trace);
        }
        Py_XDECREF(type);
        Py_XDECREF(trace);
    }
    Py_XDECREF(result);
    gil_leave();
}

static int user_op(struct collective *x, PyObject *function)
{
    struct task_object *task = x->self->task;
    for (uint32_t i = 0; i < task->op_count; i++) {
        if (task->ops[i].function == function) {
            x->op = task->ops[i].code;
            return 0;
        }
    }
    struct user_op *op = &task->ops[task->op_count];
    if (task->op_count == USER_OPS_MAX || tsm_op_user(task->t, combine, op, &op->code) != 0) {
        return view_refuse(x->self, TSM_ENOSPC,
                           "%s: more than %d functions as operations in one task", x->call,
                           USER_OPS_MAX);
    }
    op->task = task;
    op->function = Py_NewRef(function);
    task->op_count++;
    x->op = op->code;
    return 0;
}

static int op_read(struct collective *x, PyObject *o)
{
    static const struct {
        const char *name;
        int code;
    } table[] = {{"sum", TSM_SUM}, {"prod", TSM_PROD}, {"min", TSM_MIN}, {"max", TSM_MAX},
                 {"and", TSM_AND}, {"or", TSM_OR},     {"xor", TSM_XOR}};
    x->op = TSM_SUM;
    if (!o) {
        return 0;
    }
    if (!PyUnicode_Check(o) && PyCallable_Check(o)) {
        return user_op(x, o);
    }
    const char *name = PyUnicode_Check(o) ? PyUnicode_AsUTF8AndSize(o, NULL) : "";
    for (size_t i = 0; name && i < sizeof(table) / sizeof(*table); i++) {
        if (strcmp(name, table[i].name) == 0) {
            x->op = table[i].code;
            return 0;
        }
    }
    if (name) {
        PyErr_Format(PyExc_ValueError,
                     "op is %R: 'sum', 'prod', 'min', 'max', 'and', 'or', 'xor', or a function "
                     "f(into, other)",
                     o);
    }
    return -1;
}

/* ---- sync, barrier ---- */

static int call_sync(const struct collective *x)
{
    return tsm_sync(x->c);
}

static int call_barrier(const struct collective *x)
{
    return tsm_barrier(x->c);
}

static PyObject *together(PyObject *o, const char *call,
                          int (*function)(const struct collective *x))
{
    struct collective x = {.self = (struct view *)o, .call = call};
    x.c = view_use(x.self);
    return x.c ? run(&x, 0, function) : NULL;
}

static PyObject *view_sync(PyObject *o, PyObject *unused)
{
    (void)unused;
    return together(o, "sync", call_sync);
}

static PyObject *view_barrier(PyObject *o, PyObject *unused)
{
    (void)unused;
    PyObject *result = together(o, "barrier", call_barrier);
    if (result) {
        held_release((struct view *)o, NULL);
    }
    return result;
}

/* ---- what moves ---- */

static int call_broadcast(const struct collective *x)
{
    return tsm_broadcast(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->root);
}

static PyObject *view_broadcast(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {"broadcast", {"dst", "src", "root", "count"}, 4, 1, {0}};
    PyObject *v[4];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    int ready = root_read(&x, v[2]) != 0 || count_read(&x, v[3], &x.src, 1) != 0 ||
                need(&x, &x.dst, x.count, 1) != 0 || need(&x, &x.src, x.count, 1) != 0;
    return run(&x, ready, call_broadcast);
}

static int call_all_gather(const struct collective *x)
{
    return tsm_all_gather(x->c, x->dst.sym, x->src.sym, x->count, x->dtype);
}

/* Each rank's part is src, and all of them are in dst; in place dst has them already at their places. */
static int gather_ready(struct collective *x, PyObject *count)
{
    int rc =
        x->in_place ? count_read(x, count, &x->dst, x->size) : count_read(x, count, &x->src, 1);
    return rc != 0 || need(x, &x->dst, x->count, x->size) != 0 ||
           (!x->in_place && need(x, &x->src, x->count, 1) != 0);
}

static PyObject *view_all_gather(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"all_gather", {"dst", "src", "count"}, 3, 2, {0}};
    PyObject *v[3];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, gather_ready(&x, v[2]), call_all_gather);
}

static int call_gather(const struct collective *x)
{
    return tsm_gather(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->root);
}

static PyObject *view_gather(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"gather", {"dst", "src", "root", "count"}, 4, 2, {0}};
    PyObject *v[4];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, root_read(&x, v[2]) != 0 || gather_ready(&x, v[3]), call_gather);
}

static int call_scatter(const struct collective *x)
{
    return tsm_scatter(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->root);
}

/* All parts are in src, each rank's part goes to dst; in place it stays where it is. */
static int scatter_ready(struct collective *x, PyObject *count)
{
    int rc =
        x->in_place ? count_read(x, count, &x->src, x->size) : count_read(x, count, &x->dst, 1);
    return rc != 0 || need(x, &x->src, x->count, x->size) != 0 ||
           (!x->in_place && need(x, &x->dst, x->count, 1) != 0);
}

static PyObject *view_scatter(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"scatter", {"dst", "src", "root", "count"}, 4, 2, {0}};
    PyObject *v[4];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, root_read(&x, v[2]) != 0 || scatter_ready(&x, v[3]), call_scatter);
}

static int call_all_to_all(const struct collective *x)
{
    return tsm_all_to_all(x->c, x->dst.sym, x->src.sym, x->count, x->dtype);
}

static PyObject *view_all_to_all(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"all_to_all", {"dst", "src", "count"}, 3, 2, {0}};
    PyObject *v[3];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    int ready = count_read(&x, v[2], &x.src, x.size) != 0 ||
                need(&x, &x.dst, x.count, x.size) != 0 || need(&x, &x.src, x.count, x.size) != 0;
    return run(&x, ready, call_all_to_all);
}

/* ---- what moves, with counts ---- */

static int call_all_gather_v(const struct collective *x)
{
    return tsm_all_gather_v(x->c, x->dst.sym, x->src.sym, x->counts, x->displs, x->dtype);
}

static PyObject *view_all_gather_v(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names)
{
    static struct signature s = {"all_gather_v", {"dst", "src", "counts", "displs"}, 4, 3, {0}};
    PyObject *v[4];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, parts_read(&x, v[2], v[3], &x.dst, &x.src), call_all_gather_v);
}

static int call_gather_v(const struct collective *x)
{
    return tsm_gather_v(x->c, x->dst.sym, x->src.sym, x->counts, x->displs, x->dtype, x->root);
}

static PyObject *view_gather_v(PyObject *o, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    static struct signature s = {"gather_v", {"dst", "src", "counts", "displs", "root"}, 5, 3, {0}};
    PyObject *v[5];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    int ready = root_read(&x, v[4]) != 0 || parts_read(&x, v[2], v[3], &x.dst, &x.src) != 0;
    return run(&x, ready, call_gather_v);
}

static int call_scatter_v(const struct collective *x)
{
    return tsm_scatter_v(x->c, x->dst.sym, x->src.sym, x->counts, x->displs, x->dtype, x->root);
}

static PyObject *view_scatter_v(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {
        "scatter_v", {"dst", "src", "counts", "displs", "root"}, 5, 3, {0}};
    PyObject *v[5];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    int ready = root_read(&x, v[4]) != 0 || parts_read(&x, v[2], v[3], &x.src, &x.dst) != 0;
    return run(&x, ready, call_scatter_v);
}

static int call_all_to_all_v(const struct collective *x)
{
    return tsm_all_to_all_v(x->c, x->dst.sym, x->counts, x->displs, x->src.sym, x->src_counts,
                            x->src_displs, x->dtype);
}

static PyObject *view_all_to_all_v(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names)
{
    static struct signature s = {
        "all_to_all_v",
        {"dst", "src", "dst_counts", "src_counts", "dst_displs", "src_displs"},
        6,
        4,
        {0}};
    PyObject *v[6];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    int ready = list_read(&x, v[2], "dst_counts", &x.counts) != 0 ||
                list_read(&x, v[3], "src_counts", &x.src_counts) != 0 ||
                list_read(&x, v[4], "dst_displs", &x.displs) != 0 ||
                list_read(&x, v[5], "src_displs", &x.src_displs) != 0;
    if (!ready && (!x.counts || !x.src_counts)) {
        PyErr_SetString(PyExc_TypeError, "all_to_all_v: dst_counts or src_counts is None");
        ready = -1;
    }
    ready = ready || need(&x, &x.dst, extent(&x, x.counts, x.displs), 1) != 0 ||
            need(&x, &x.src, extent(&x, x.src_counts, x.src_displs), 1) != 0;
    return run(&x, ready, call_all_to_all_v);
}

/* ---- reductions ---- */

static int call_reduce(const struct collective *x)
{
    return tsm_reduce(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->op, x->root);
}

/* As many elements in dst as in src. */
static int reduce_ready(struct collective *x, PyObject *op, PyObject *count)
{
    return op_read(x, op) != 0 || count_read(x, count, &x->src, 1) != 0 ||
           need(x, &x->dst, x->count, 1) != 0 || need(x, &x->src, x->count, 1) != 0;
}

static PyObject *view_reduce(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"reduce", {"dst", "src", "op", "root", "count"}, 5, 1, {0}};
    PyObject *v[5];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, root_read(&x, v[3]) != 0 || reduce_ready(&x, v[2], v[4]), call_reduce);
}

static PyObject *reduce_all(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names,
                            struct signature *s, int (*call)(const struct collective *x))
{
    PyObject *v[4];
    struct collective x;
    if (signature_read(s, args, count, names, v) != 0 ||
        begin(&x, o, s->function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, reduce_ready(&x, v[2], v[3]), call);
}

static int call_all_reduce(const struct collective *x)
{
    return tsm_all_reduce(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->op);
}

static PyObject *view_all_reduce(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"all_reduce", {"dst", "src", "op", "count"}, 4, 1, {0}};
    return reduce_all(o, args, count, names, &s, call_all_reduce);
}

static int call_scan(const struct collective *x)
{
    return tsm_scan(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->op);
}

static PyObject *view_scan(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"scan", {"dst", "src", "op", "count"}, 4, 1, {0}};
    return reduce_all(o, args, count, names, &s, call_scan);
}

static int call_exscan(const struct collective *x)
{
    return tsm_exscan(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->op);
}

static PyObject *view_exscan(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"exscan", {"dst", "src", "op", "count"}, 4, 1, {0}};
    return reduce_all(o, args, count, names, &s, call_exscan);
}

static int call_reduce_scatter(const struct collective *x)
{
    return tsm_reduce_scatter(x->c, x->dst.sym, x->src.sym, x->count, x->dtype, x->op);
}

static PyObject *view_reduce_scatter(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                     PyObject *names)
{
    static struct signature s = {"reduce_scatter", {"dst", "src", "op", "count"}, 4, 2, {0}};
    PyObject *v[4];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    return run(&x, op_read(&x, v[2]) != 0 || scatter_ready(&x, v[3]), call_reduce_scatter);
}

static int call_reduce_scatter_v(const struct collective *x)
{
    return tsm_reduce_scatter_v(x->c, x->dst.sym, x->src.sym, x->counts, x->dtype, x->op);
}

static PyObject *view_reduce_scatter_v(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names)
{
    static struct signature s = {"reduce_scatter_v", {"dst", "src", "counts", "op"}, 4, 3, {0}};
    PyObject *v[4];
    struct collective x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        begin(&x, o, s.function, v[0], v[1]) != 0) {
        return NULL;
    }
    int ready = op_read(&x, v[3]) != 0 || parts_read(&x, v[2], NULL, &x.src, &x.dst) != 0;
    return run(&x, ready, call_reduce_scatter_v);
}

/* ---- the methods ---- */

#define RAISES                                                                                     \
    "\n\nRaises:\n    AbortedError: the run has failed.\n"                                         \
    "    PeerError: a member has aborted the domain, or found that the ranks disagree.\n"          \
    "    WaitTimeoutError: the time of `set_timeout` is over.\n"                                   \
    "    ArgumentError: the places do not fit, or overlap; or the ranks disagree: the text names " \
    "two of them.\n"                                                                               \
    "    TypeError: the types of dst and src differ."
#define OPERATION                                                                                  \
    "\n    op: \"sum\", \"prod\", \"min\", \"max\", \"and\", \"or\", \"xor\", or a function "      \
    "f(into, other): it combines\n"                                                                \
    "        two arrays in place, or returns the result; `into` has the lower ranks. It must be "  \
    "associative; it may be\n"                                                                     \
    "        called for any part of the buffer. Up to 16 functions a task, the same ones in the "  \
    "same order on all ranks."

PyMethodDef collective_methods[] = {
    {"sync", view_sync, METH_NOARGS,
     "sync($self)\n--\n\n"
     "Waits for every rank; then this one sees what they stored and signalled before." RAISES},
    {"barrier", view_barrier, METH_NOARGS,
     "barrier($self)\n--\n\n`quiet`, then `sync`: everybody's puts have arrived." RAISES},
    {"broadcast", FAST(view_broadcast),
     "broadcast($self, dst, src=None, root=0, count=None)\n--\n\n"
     "dst of every rank = src of the root.\n\n"
     "Args:\n    dst, src: places; src None: dst, in place.\n    root: rank.\n"
     "    count: elements; None: those of src." RAISES},
    {"all_gather", FAST(view_all_gather),
     "all_gather($self, dst, src, count=None)\n--\n\n"
     "dst of every rank = src of rank 0, of rank 1, ...\n\n"
     "Args:\n    dst, src: places; the same one, or None for one: in place, each part is where it "
     "belongs.\n"
     "    count: elements of one rank; None: those of src, in place those of dst / size." RAISES},
    {"gather", FAST(view_gather),
     "gather($self, dst, src, root=0, count=None)\n--\n\nAs `all_gather`, at the root "
     "only." RAISES},
    {"scatter", FAST(view_scatter),
     "scatter($self, dst, src, root=0, count=None)\n--\n\n"
     "dst of rank r = part r of src of the root.\n\n"
     "Args:\n    dst, src: places; in place a rank's part goes to where it is in src.\n    root: "
     "rank.\n"
     "    count: elements of one part; None: those of dst, in place those of src / size." RAISES},
    {"all_to_all", FAST(view_all_to_all),
     "all_to_all($self, dst, src, count=None)\n--\n\n"
     "Part r of dst = this rank's part of src of rank r.\n\n"
     "Args:\n    dst, src: places; may be the same.\n"
     "    count: elements of one part; None: those of src / size." RAISES},
    {"all_gather_v", FAST(view_all_gather_v),
     "all_gather_v($self, dst, src, counts, displs=None)\n--\n\n"
     "As `all_gather`, with counts[r] elements of rank r.\n\n"
     "Args:\n    dst, src: places.\n    counts: for each rank, the same on all.\n"
     "    displs: where its part begins in dst, in elements; None: one behind the other." RAISES},
    {"gather_v", FAST(view_gather_v),
     "gather_v($self, dst, src, counts, displs=None, root=0)\n--\n\n"
     "As `all_gather_v`, at the root only." RAISES},
    {"scatter_v", FAST(view_scatter_v),
     "scatter_v($self, dst, src, counts, displs=None, root=0)\n--\n\n"
     "As `scatter`, with counts[r] elements for rank r, at displs[r] of src." RAISES},
    {"all_to_all_v", FAST(view_all_to_all_v),
     "all_to_all_v($self, dst, src, dst_counts, src_counts, dst_displs=None, "
     "src_displs=None)\n--\n\n"
     "Sends src_counts[r] elements at src_displs[r] to rank r and receives dst_counts[r] at "
     "dst_displs[r] from it.\n\n"
     "What rank r sends here and what is expected here of it must be equal. Not in place." RAISES},
    {"reduce", FAST(view_reduce),
     "reduce($self, dst, src=None, op='sum', root=0, count=None)\n--\n\n"
     "dst of the root = src of all ranks combined, element by element, in the order of ranks.\n\n"
     "Args:\n    dst, src: places; src None: dst, in place." OPERATION
     "\n    root: rank.\n    count: elements; None: those of src." RAISES},
    {"all_reduce", FAST(view_all_reduce),
     "all_reduce($self, dst, src=None, op='sum', count=None)\n--\n\n"
     "dst of every rank = src of all ranks combined, element by element, in the order of ranks: "
     "the same\n"
     "bits on every rank.\n\n"
     "Args:\n    dst, src: places; src None: dst, in place." OPERATION
     "\n    count: elements; None: those of src." RAISES},
    {"reduce_scatter", FAST(view_reduce_scatter),
     "reduce_scatter($self, dst, src, op='sum', count=None)\n--\n\n"
     "dst of rank r = part r of src of all ranks combined.\n\n"
     "Args:\n    dst, src: places; in place a rank's part stays where it is in src." OPERATION
     "\n    count: elements of one part; None: those of dst, in place those of src / size." RAISES},
    {"reduce_scatter_v", FAST(view_reduce_scatter_v),
     "reduce_scatter_v($self, dst, src, counts, op='sum')\n--\n\n"
     "As `reduce_scatter`; part r has counts[r] elements, one part behind the other." RAISES},
    {"scan", FAST(view_scan),
     "scan($self, dst, src=None, op='sum', count=None)\n--\n\n"
     "dst of rank r = src of ranks 0 to r combined.\n\n"
     "Args:\n    dst, src: places; src None: dst, in place." OPERATION
     "\n    count: elements; None: those of src." RAISES},
    {"exscan", FAST(view_exscan),
     "exscan($self, dst, src=None, op='sum', count=None)\n--\n\n"
     "As `scan`, over ranks 0 to r - 1; dst of rank 0 is not written." RAISES},
    {0}};

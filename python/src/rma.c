/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Domain's put and get, single elements, atomics, fence and quiet: arguments are read and compared here, the rest is
 * the library's. Chip processes, inside a task. docs/task.md.
 */
#include "view.h"

enum { LARGE_BYTES = 65536 /* copied without the GIL from here on */ };

/* ---- put and get ---- */

/* The place and the buffer of one call. */
struct pair {
    struct place place;
    struct local local;
    const char *call, *local_name;
    uint32_t rank;
};

static bool same_type(int a, int b)
{
    bool bits = (a == TSM_BF16 && b == TSM_U16) || (a == TSM_U16 && b == TSM_BF16);
    return a == b || a <= TSM_U8 || b <= TSM_U8 || bits;
}

static int check_types(const struct pair *p)
{
    char text[96];
    if (same_type(p->place.dtype, p->local.dtype)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s: %s is %s, %s is %s", p->call,
                 place_text(&p->place, text, sizeof(text)), dtype_long_name(p->place.dtype),
                 p->local_name, dtype_long_name(p->local.dtype));
    return -1;
}

static int check_sizes(struct view *self, const struct pair *p)
{
    char text[96];
    if (p->local.bytes <= place_bytes(&p->place)) {
        return 0;
    }
    return view_refuse(self, TSM_ERANGE, "%s: %s has %llu bytes, %s has %llu", p->call,
                       p->local_name, (unsigned long long)p->local.bytes,
                       place_text(&p->place, text, sizeof(text)),
                       (unsigned long long)place_bytes(&p->place));
}

/* After it the local buffer is to be released. */
static int pair_read(struct view *self, PyObject *place, PyObject *local, PyObject *rank, bool put,
                     struct pair *p)
{
    p->local_name = put ? "src" : "dst";
    if (!view_use(self) || rank_read(self, rank, "rank", &p->rank) != 0 ||
        place_read(self, place, put ? "dst" : "src", &p->place) != 0 ||
        local_read(self, local, p->local_name, !put, &p->local) != 0) {
        return -1;
    }
    if (check_types(p) != 0) {
        local_release(&p->local);
        return -1;
    }
    return 0;
}

/* Ends a call: nbi keeps the buffer until it is done. */
static PyObject *pair_done(struct view *self, struct pair *p, int code, bool nbi)
{
    if (code == 0 && nbi) {
        if (local_hold(self, &p->local, p->rank) != 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    local_release(&p->local);
    return view_done(self, code, p->call);
}

typedef int put_fn(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, uint32_t rank);
typedef int get_fn(tsm_ctx *c, void *dst, tsm_sym src, uint64_t bytes, uint32_t rank);

static PyObject *put(struct view *self, PyObject *const *v, const char *name, put_fn *call,
                     bool nbi)
{
    struct pair p = {.call = name};
    if (pair_read(self, v[0], v[1], v[2], true, &p) != 0) {
        return NULL;
    }
    if (check_sizes(self, &p) != 0) {
        local_release(&p.local);
        return NULL;
    }
    bool large = p.local.bytes >= LARGE_BYTES;
    if (large) {
        gil_leave();
    }
    int rc = call(self->c, p.place.sym, p.local.data, p.local.bytes, p.rank);
    if (large) {
        gil_enter();
    }
    return pair_done(self, &p, rc, nbi);
}

static PyObject *get(struct view *self, PyObject *const *v, const char *name, get_fn *call,
                     bool nbi)
{
    struct pair p = {.call = name};
    if (pair_read(self, v[1], v[0], v[2], false, &p) != 0) {
        return NULL;
    }
    if (check_sizes(self, &p) != 0) {
        local_release(&p.local);
        return NULL;
    }
    bool large = p.local.bytes >= LARGE_BYTES;
    if (large) {
        gil_leave();
    }
    int rc = call(self->c, p.local.data, p.place.sym, p.local.bytes, p.rank);
    if (large) {
        gil_enter();
    }
    return pair_done(self, &p, rc, nbi);
}

static PyObject *view_put(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"put", {"dst", "src", "rank"}, 3, 3, {0}};
    PyObject *v[3];
    return signature_read(&s, args, count, names, v) == 0
               ? put((struct view *)o, v, s.function, tsm_put, false)
               : NULL;
}

static PyObject *view_put_nbi(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"put_nbi", {"dst", "src", "rank"}, 3, 3, {0}};
    PyObject *v[3];
    return signature_read(&s, args, count, names, v) == 0
               ? put((struct view *)o, v, s.function, tsm_put_nbi, true)
               : NULL;
}

static PyObject *view_get(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"get", {"dst", "src", "rank"}, 3, 3, {0}};
    PyObject *v[3];
    return signature_read(&s, args, count, names, v) == 0
               ? get((struct view *)o, v, s.function, tsm_get, false)
               : NULL;
}

static PyObject *view_get_nbi(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"get_nbi", {"dst", "src", "rank"}, 3, 3, {0}};
    PyObject *v[3];
    return signature_read(&s, args, count, names, v) == 0
               ? get((struct view *)o, v, s.function, tsm_get_nbi, true)
               : NULL;
}

/* ---- put with a signal ---- */

typedef int put_signal_fn(tsm_ctx *c, tsm_sym dst, const void *src, uint64_t bytes, tsm_sym signal,
                          uint64_t value, int op, uint32_t rank);

static PyObject *put_signal(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names,
                            struct signature *s, put_signal_fn *call, bool nbi)
{
    struct view *self = (struct view *)o;
    PyObject *v[7];
    struct pair p = {.call = s->function};
    struct place signal;
    uint64_t value;
    int op;
    if (signature_read(s, args, count, names, v) != 0 ||
        pair_read(self, v[0], v[1], v[4], true, &p) != 0) {
        return NULL;
    }
    if (check_sizes(self, &p) != 0 || signal_place_read(self, v[2], "signal", &signal) != 0 ||
        bits_read(v[3], "value", &value) != 0 || signal_op_read(v[5], v[6], &op) != 0) {
        local_release(&p.local);
        return NULL;
    }
    bool large = p.local.bytes >= LARGE_BYTES;
    if (large) {
        gil_leave();
    }
    int rc = call(self->c, p.place.sym, p.local.data, p.local.bytes, signal.sym, value, op, p.rank);
    if (large) {
        gil_enter();
    }
    return pair_done(self, &p, rc, nbi);
}

static PyObject *view_put_signal(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {
        "put_signal", {"dst", "src", "signal", "value", "rank", "op", "strong"}, 7, 5, {0}};
    return put_signal(o, args, count, names, &s, tsm_put_signal, false);
}

static PyObject *view_put_signal_nbi(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                     PyObject *names)
{
    static struct signature s = {
        "put_signal_nbi", {"dst", "src", "signal", "value", "rank", "op", "strong"}, 7, 5, {0}};
    return put_signal(o, args, count, names, &s, tsm_put_signal_nbi, true);
}

/* ---- with strides ---- */

/* Elements of both sides, their bytes, and how many go: as many as the buffer of this process has at its stride. */
struct steps {
    int64_t place_stride, local_stride;
    uint64_t item, count;
};

static int steps_read(struct view *self, const struct pair *p, PyObject *place_stride,
                      PyObject *local_stride, struct steps *s)
{
    char text[96];
    int dtype = p->local.dtype > TSM_U8 ? p->local.dtype : p->place.dtype;
    s->item = dtype != 0 ? tsm_dtype_bytes(dtype) : 1;
    s->place_stride = s->local_stride = 1;
    bool put = p->local_name[0] == 's';
    const char *place_name = put ? "dst_stride" : "src_stride";
    const char *local_name = put ? "src_stride" : "dst_stride";
    if ((place_stride && int_read(place_stride, place_name, 1, INT64_MAX, &s->place_stride) != 0) ||
        (local_stride && int_read(local_stride, local_name, 1, INT64_MAX, &s->local_stride) != 0)) {
        return -1;
    }
    if (p->local.bytes % s->item != 0) {
        return view_refuse(self, TSM_EINVAL, "%s: %s has %llu bytes, an element has %llu", p->call,
                           p->local_name, (unsigned long long)p->local.bytes,
                           (unsigned long long)s->item);
    }
    uint64_t local = p->local.bytes / s->item, place = place_bytes(&p->place) / s->item;
    s->count = local == 0 ? 0 : (local - 1) / (uint64_t)s->local_stride + 1;
    uint64_t fit = place == 0 ? 0 : (place - 1) / (uint64_t)s->place_stride + 1;
    if (s->count > fit) {
        return view_refuse(self, TSM_ERANGE,
                           "%s: %llu elements of %s with stride %lld do not fit %s, which has %llu",
                           p->call, (unsigned long long)s->count, p->local_name,
                           (long long)s->place_stride, place_text(&p->place, text, sizeof(text)),
                           (unsigned long long)place);
    }
    return 0;
}

static PyObject *view_iput(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {
        "iput", {"dst", "src", "rank", "dst_stride", "src_stride"}, 5, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[5];
    struct pair p = {.call = s.function};
    struct steps x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        pair_read(self, v[0], v[1], v[2], true, &p) != 0) {
        return NULL;
    }
    if (steps_read(self, &p, v[3], v[4], &x) != 0) {
        local_release(&p.local);
        return NULL;
    }
    int rc = tsm_iput(self->c, p.place.sym, (uint64_t)x.place_stride, p.local.data,
                      (uint64_t)x.local_stride, x.item, x.count, p.rank);
    return pair_done(self, &p, rc, false);
}

static PyObject *view_iget(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {
        "iget", {"dst", "src", "rank", "dst_stride", "src_stride"}, 5, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[5];
    struct pair p = {.call = s.function};
    struct steps x;
    if (signature_read(&s, args, count, names, v) != 0 ||
        pair_read(self, v[1], v[0], v[2], false, &p) != 0) {
        return NULL;
    }
    if (steps_read(self, &p, v[4], v[3], &x) != 0) {
        local_release(&p.local);
        return NULL;
    }
    int rc = tsm_iget(self->c, p.local.data, (uint64_t)x.local_stride, p.place.sym,
                      (uint64_t)x.place_stride, x.item, x.count, p.rank);
    return pair_done(self, &p, rc, false);
}

/* ---- single elements ---- */

/* An element of 32 or 64 bits, whose type the place says. */
static int word_read(struct view *self, PyObject *o, const char *what, const char *call,
                     struct place *ret)
{
    char text[96];
    if (!view_use(self) || place_read(self, o, what, ret) != 0) {
        return -1;
    }
    place_text(ret, text, sizeof(text));
    if (ret->dtype == 0) {
        PyErr_Format(
            PyExc_TypeError,
            "%s: %s has no type: give the name of a buffer, (name, first), or a part of an "
            "array",
            call, text);
        return -1;
    }
    size_t bytes = tsm_dtype_bytes(ret->dtype);
    if (bytes != 4 && bytes != 8) {
        PyErr_Format(PyExc_TypeError, "%s: %s is %s: only elements of 32 and 64 bits", call, text,
                     dtype_long_name(ret->dtype));
        return -1;
    }
    return ret->count > 0 ? 0 : view_refuse(self, TSM_ERANGE, "%s: %s has no elements", call, text);
}

static PyObject *view_p(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"p", {"dst", "value", "rank"}, 3, 3, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[3];
    struct place p;
    uint64_t value;
    uint32_t rank;
    if (signature_read(&s, args, count, names, v) != 0 ||
        word_read(self, v[0], "dst", "p", &p) != 0 ||
        element_read(v[1], "value", p.dtype, &value) != 0 ||
        rank_read(self, v[2], "rank", &rank) != 0) {
        return NULL;
    }
    return view_done(self,
                     tsm_dtype_bytes(p.dtype) == 4 ? tsm_p32(self->c, p.sym, (uint32_t)value, rank)
                                                   : tsm_p64(self->c, p.sym, value, rank),
                     s.function);
}

typedef int fetch_32_fn(tsm_ctx *c, tsm_sym s, uint32_t *ret, uint32_t rank);
typedef int fetch_64_fn(tsm_ctx *c, tsm_sym s, uint64_t *ret, uint32_t rank);

static PyObject *fetch(PyObject *o, PyObject *const *v, struct signature *s, fetch_32_fn *call_32,
                       fetch_64_fn *call_64)
{
    struct view *self = (struct view *)o;
    struct place p;
    uint64_t value = 0;
    uint32_t low = 0, rank;
    if (word_read(self, v[0], s->names[0], s->function, &p) != 0 ||
        rank_read(self, v[1], "rank", &rank) != 0) {
        return NULL;
    }
    bool narrow = tsm_dtype_bytes(p.dtype) == 4;
    int rc = narrow ? call_32(self->c, p.sym, &low, rank) : call_64(self->c, p.sym, &value, rank);
    return rc == 0 ? element_object(p.dtype, narrow ? low : value)
                   : view_raise(self, rc, s->function);
}

static PyObject *view_g(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"g", {"src", "rank"}, 2, 2, {0}};
    PyObject *v[2];
    return signature_read(&s, args, count, names, v) == 0 ? fetch(o, v, &s, tsm_g32, tsm_g64)
                                                          : NULL;
}

/* ---- atomics ---- */

static PyObject *view_atomic_fetch(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names)
{
    static struct signature s = {"atomic_fetch", {"place", "rank"}, 2, 2, {0}};
    PyObject *v[2];
    return signature_read(&s, args, count, names, v) == 0
               ? fetch(o, v, &s, tsm_atomic_fetch_u32, tsm_atomic_fetch_u64)
               : NULL;
}

/* An atomic with one value: it gives the value before, or nothing. */
struct atomic {
    int (*change_32)(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t rank);
    int (*change_64)(tsm_ctx *c, tsm_sym s, uint64_t value, uint32_t rank);
    int (*fetch_32)(tsm_ctx *c, tsm_sym s, uint32_t value, uint32_t *old, uint32_t rank);
    int (*fetch_64)(tsm_ctx *c, tsm_sym s, uint64_t value, uint64_t *old, uint32_t rank);
    bool computes; /* so that bits of a float would become nonsense */
};

static int atomic_place(struct view *self, PyObject *o, const char *call, bool computes,
                        struct place *ret)
{
    if (word_read(self, o, "place", call, ret) != 0) {
        return -1;
    }
    if (computes && (ret->dtype == TSM_F32 || ret->dtype == TSM_F64)) {
        PyErr_Format(PyExc_TypeError, "%s is for integers, the place is %s", call,
                     dtype_long_name(ret->dtype));
        return -1;
    }
    return 0;
}

static PyObject *atomic(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names,
                        struct signature *s, const struct atomic *x)
{
    struct view *self = (struct view *)o;
    PyObject *v[3];
    struct place p;
    uint64_t value, old = 0;
    uint32_t rank, old_32 = 0;
    if (signature_read(s, args, count, names, v) != 0 ||
        atomic_place(self, v[0], s->function, x->computes, &p) != 0 ||
        element_read(v[1], "value", p.dtype, &value) != 0 ||
        rank_read(self, v[2], "rank", &rank) != 0) {
        return NULL;
    }
    uint32_t low = (uint32_t)value;
    bool narrow = tsm_dtype_bytes(p.dtype) == 4;
    int rc;
    if (x->change_64) {
        rc = narrow ? x->change_32(self->c, p.sym, low, rank)
                    : x->change_64(self->c, p.sym, value, rank);
        return view_done(self, rc, s->function);
    }
    rc = narrow ? x->fetch_32(self->c, p.sym, low, &old_32, rank)
                : x->fetch_64(self->c, p.sym, value, &old, rank);
    return rc == 0 ? element_object(p.dtype, narrow ? old_32 : old)
                   : view_raise(self, rc, s->function);
}

static PyObject *view_atomic_set(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"atomic_set", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {tsm_atomic_set_u32, tsm_atomic_set_u64, NULL, NULL, false};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_add(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"atomic_add", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {tsm_atomic_add_u32, tsm_atomic_add_u64, NULL, NULL, true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_and(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"atomic_and", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {tsm_atomic_and_u32, tsm_atomic_and_u64, NULL, NULL, true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_or(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {"atomic_or", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {tsm_atomic_or_u32, tsm_atomic_or_u64, NULL, NULL, true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_xor(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {"atomic_xor", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {tsm_atomic_xor_u32, tsm_atomic_xor_u64, NULL, NULL, true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_fetch_add(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names)
{
    static struct signature s = {"atomic_fetch_add", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {NULL, NULL, tsm_atomic_fetch_add_u32, tsm_atomic_fetch_add_u64,
                                    true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_fetch_and(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names)
{
    static struct signature s = {"atomic_fetch_and", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {NULL, NULL, tsm_atomic_fetch_and_u32, tsm_atomic_fetch_and_u64,
                                    true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_fetch_or(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                      PyObject *names)
{
    static struct signature s = {"atomic_fetch_or", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {NULL, NULL, tsm_atomic_fetch_or_u32, tsm_atomic_fetch_or_u64,
                                    true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_fetch_xor(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names)
{
    static struct signature s = {"atomic_fetch_xor", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {NULL, NULL, tsm_atomic_fetch_xor_u32, tsm_atomic_fetch_xor_u64,
                                    true};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_swap(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names)
{
    static struct signature s = {"atomic_swap", {"place", "value", "rank"}, 3, 3, {0}};
    static const struct atomic x = {NULL, NULL, tsm_atomic_swap_u32, tsm_atomic_swap_u64, false};
    return atomic(o, args, count, names, &s, &x);
}

static PyObject *view_atomic_compare_swap(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                          PyObject *names)
{
    static struct signature s = {
        "atomic_compare_swap", {"place", "expected", "value", "rank"}, 4, 4, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[4];
    struct place p;
    uint64_t expected, value, old = 0;
    uint32_t rank, old_32 = 0;
    if (signature_read(&s, args, count, names, v) != 0 ||
        atomic_place(self, v[0], s.function, false, &p) != 0 ||
        element_read(v[1], "expected", p.dtype, &expected) != 0 ||
        element_read(v[2], "value", p.dtype, &value) != 0 ||
        rank_read(self, v[3], "rank", &rank) != 0) {
        return NULL;
    }
    bool narrow = tsm_dtype_bytes(p.dtype) == 4;
    int rc = narrow ? tsm_atomic_compare_swap_u32(self->c, p.sym, (uint32_t)expected,
                                                  (uint32_t)value, &old_32, rank)
                    : tsm_atomic_compare_swap_u64(self->c, p.sym, expected, value, &old, rank);
    return rc == 0 ? element_object(p.dtype, narrow ? old_32 : old)
                   : view_raise(self, rc, s.function);
}

/* ---- order and completion ---- */

static PyObject *view_fence(PyObject *o, PyObject *unused)
{
    struct view *self = (struct view *)o;
    (void)unused;
    return view_use(self) ? view_done(self, tsm_fence(self->c), "fence") : NULL;
}

static PyObject *view_quiet(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"quiet", {"rank"}, 1, 0, {0}};
    struct view *self = (struct view *)o;
    PyObject *v[1];
    uint32_t rank = 0;
    if (!view_use(self) || signature_read(&s, args, count, names, v) != 0) {
        return NULL;
    }
    bool one = v[0] && v[0] != Py_None;
    if (one && rank_read(self, v[0], "rank", &rank) != 0) {
        return NULL;
    }
    gil_leave();
    int rc = one ? tsm_quiet_rank(self->c, rank) : tsm_quiet(self->c);
    gil_enter();
    if (rc == 0) {
        held_release(self, one ? &rank : NULL);
    }
    return view_done(self, rc, s.function);
}

/* ---- the methods ---- */

#define PUT_RAISES                                                                                 \
    "\n\nRaises:\n    ArgumentError: no such rank; the sizes do not fit; not contiguous.\n"        \
    "    NotFoundError: no such buffer.\n    TypeError: the types of the elements differ."
#define ATOMIC_RAISES                                                                              \
    "\n\nThe place has elements of 32 or 64 bits; its first one is meant. What is negative goes "  \
    "as its bits.\n\n"                                                                             \
    "Raises:\n    TypeError: no such element.\n    ArgumentError: no such rank, not aligned."

PyMethodDef rma_methods[] = {
    {"put", FAST(view_put),
     "put($self, dst, src, rank)\n--\n\n"
     "Copies src into rank's window; its task takes no part.\n\n"
     "It has arrived after `quiet` or `barrier`; src may be written again at once.\n\n"
     "Args:\n    dst: a place.\n    src: an array, bytes or another contiguous buffer, or the name "
     "of one in the\n"
     "        window. uint8 and bytes go with every type.\n    rank: of the domain; the own one is "
     "allowed." PUT_RAISES},
    {"get", FAST(view_get),
     "get($self, dst, src, rank)\n--\n\n"
     "Copies as many bytes as dst has from the place src of rank's window; complete on return.\n\n"
     "Args:\n    dst: a writable array or another contiguous buffer, or the name of one in the "
     "window.\n"
     "    src: a place.\n    rank: of the domain." PUT_RAISES},
    {"put_nbi", FAST(view_put_nbi),
     "put_nbi($self, dst, src, rank)\n--\n\n"
     "As `put`, but src may not be written before `quiet`. It is kept until then." PUT_RAISES},
    {"get_nbi", FAST(view_get_nbi),
     "get_nbi($self, dst, src, rank)\n--\n\n"
     "As `get`, but nothing is in dst before `quiet`." PUT_RAISES},
    {"put_signal", FAST(view_put_signal),
     "put_signal($self, dst, src, signal, value, rank, op='set', strong=False)\n--\n\n"
     "A put, then a signal to the same rank: who sees the signal sees the data.\n\n"
     "Args:\n    dst, src, rank: as in `put`.\n    signal, value, op, strong: as in "
     "`signal`." PUT_RAISES},
    {"put_signal_nbi", FAST(view_put_signal_nbi),
     "put_signal_nbi($self, dst, src, signal, value, rank, op='set', strong=False)\n--\n\n"
     "As `put_signal`, but src may not be written before `quiet`. It is kept until "
     "then." PUT_RAISES},
    {"iput", FAST(view_iput),
     "iput($self, dst, src, rank, dst_stride=1, src_stride=1)\n--\n\n"
     "Puts every src_stride-th element of src to every dst_stride-th one of the place.\n\n"
     "As many go as src has at its stride. Strides are in elements, from 1 on." PUT_RAISES},
    {"iget", FAST(view_iget),
     "iget($self, dst, src, rank, dst_stride=1, src_stride=1)\n--\n\n"
     "Gets every src_stride-th element of the place into every dst_stride-th one of dst.\n\n"
     "As many come as dst has at its stride. Strides are in elements, from 1 on." PUT_RAISES},
    {"p", FAST(view_p),
     "p($self, dst, value, rank)\n--\n\n"
     "Puts one element, of the type of the place: an int, or a float where that is float32 or "
     "float64." ATOMIC_RAISES},
    {"g", FAST(view_g),
     "g($self, src, rank)\n--\n\n"
     "Gets one element, of the type of the place." ATOMIC_RAISES},
    {"fence", view_fence, METH_NOARGS,
     "fence($self)\n--\n\n"
     "What this task put, set or added before is at each target before what it puts there later."},
    {"quiet", FAST(view_quiet),
     "quiet($self, rank=None)\n--\n\n"
     "All this task did through the domain is complete: visible at the targets, and fetched.\n\n"
     "Args:\n    rank: only what went to this rank; None: all of it.\n\n"
     "Raises:\n    ArgumentError: no such rank."},
    {"atomic_fetch", FAST(view_atomic_fetch),
     "atomic_fetch($self, place, rank)\n--\n\nThe element, read atomically." ATOMIC_RAISES},
    {"atomic_set", FAST(view_atomic_set),
     "atomic_set($self, place, value, rank)\n--\n\nSets the element. It may arrive late, as a "
     "put." ATOMIC_RAISES},
    {"atomic_add", FAST(view_atomic_add),
     "atomic_add($self, place, value, rank)\n--\n\n"
     "Adds to the integer. It may arrive late, as a put." ATOMIC_RAISES},
    {"atomic_and", FAST(view_atomic_and),
     "atomic_and($self, place, value, rank)\n--\n\n"
     "The integer becomes its bits and those of value. It may arrive late." ATOMIC_RAISES},
    {"atomic_or", FAST(view_atomic_or),
     "atomic_or($self, place, value, rank)\n--\n\n"
     "The integer becomes its bits or those of value. It may arrive late." ATOMIC_RAISES},
    {"atomic_xor", FAST(view_atomic_xor),
     "atomic_xor($self, place, value, rank)\n--\n\n"
     "Flips the bits of value in the integer. It may arrive late." ATOMIC_RAISES},
    {"atomic_fetch_add", FAST(view_atomic_fetch_add),
     "atomic_fetch_add($self, place, value, rank)\n--\n\n"
     "Adds to the integer and returns what it was." ATOMIC_RAISES},
    {"atomic_fetch_and", FAST(view_atomic_fetch_and),
     "atomic_fetch_and($self, place, value, rank)\n--\n\n"
     "As `atomic_and`, and returns what the integer was." ATOMIC_RAISES},
    {"atomic_fetch_or", FAST(view_atomic_fetch_or),
     "atomic_fetch_or($self, place, value, rank)\n--\n\n"
     "As `atomic_or`, and returns what the integer was." ATOMIC_RAISES},
    {"atomic_fetch_xor", FAST(view_atomic_fetch_xor),
     "atomic_fetch_xor($self, place, value, rank)\n--\n\n"
     "As `atomic_xor`, and returns what the integer was." ATOMIC_RAISES},
    {"atomic_swap", FAST(view_atomic_swap),
     "atomic_swap($self, place, value, rank)\n--\n\n"
     "Sets the element and returns what it was." ATOMIC_RAISES},
    {"atomic_compare_swap", FAST(view_atomic_compare_swap),
     "atomic_compare_swap($self, place, expected, value, rank)\n--\n\n"
     "Sets the element if it is `expected`. Returns what it was: `expected` when it was "
     "set." ATOMIC_RAISES},
    {0}};

/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * The orchestrator object that an orchestration function is given: memory, copies, scopes, domains; submit.c has the rest of its
 * methods. Valid while the function executes. Program; owns nothing.
 */
#include "host.h"

#include <string.h>

PyTypeObject *orch_type;
static PyTypeObject *scope_type;

struct worker *orch_enter(PyObject *o)
{
    struct orch *self = (struct orch *)o;
    if (!self->o) {
        core_raise(TSM_ESTATE, "allowed only inside the orchestration function that this "
                               "Orchestrator was given to");
        return NULL;
    }
    return worker_enter(self->worker) == 0 ? self->worker : NULL;
}

static PyObject *outcome(struct worker *w, int code)
{
    return code == 0 ? Py_NewRef(Py_None) : worker_raise(w, code);
}

/* ---- domains ---- */

static PyObject *orch_allocate_domain(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                      PyObject *names)
{
    static struct signature s = {
        "allocate_domain", {"name", "workers", "window_size", "buffers", "keep"}, 4, 3, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[5];
    if (!w || signature_read(&s, args, count, names, values) != 0) {
        return NULL;
    }
    return domain_allocate(w, ((struct orch *)o)->o, values);
}

static PyObject *orch_release_domain(PyObject *o, PyObject *domain)
{
    if (Py_TYPE(domain) != domain_type) {
        PyErr_Format(PyExc_TypeError, "domain must be a CommDomainHandle, not %R", Py_TYPE(domain));
        return NULL;
    }
    if (!orch_enter(o) || domain_release((struct domain *)domain) != 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

/* ---- scopes ---- */

struct scope {
    PyObject_HEAD PyObject *orch;
};

static PyObject *orch_scope(PyObject *o, PyObject *unused)
{
    (void)unused;
    struct scope *s = (struct scope *)object_new(scope_type);
    if (s) {
        s->orch = Py_NewRef(o);
    }
    return (PyObject *)s;
}

static PyObject *scope_enter(PyObject *o, PyObject *unused)
{
    PyObject *orch = ((struct scope *)o)->orch;
    struct worker *w = orch_enter(orch);
    (void)unused;
    return w ? outcome(w, tsm_scope_begin(((struct orch *)orch)->o)) : NULL;
}

static PyObject *scope_exit(PyObject *o, PyObject *args)
{
    PyObject *orch = ((struct scope *)o)->orch;
    struct worker *w = orch_enter(orch);
    (void)args;
    return w ? outcome(w, tsm_scope_end(((struct orch *)orch)->o)) : NULL;
}

static int scope_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(((struct scope *)o)->orch);
    return 0;
}

static void scope_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    Py_CLEAR(((struct scope *)o)->orch);
    object_free(o);
}

static PyMethodDef scope_methods[] = {
    {"__enter__", scope_enter, METH_NOARGS, "__enter__($self)\n--\n\nOpens the scope."},
    {"__exit__", scope_exit, METH_VARARGS,
     "__exit__($self, kind, value, trace, /)\n--\n\nCloses it."},
    {0}};
static PyType_Slot scope_slots[] = {
    {Py_tp_doc, "A block that bounds the life of what is allocated in it: with orch.scope(): ..."},
    {Py_tp_dealloc, scope_dealloc},
    {Py_tp_traverse, scope_traverse},
    {Py_tp_methods, scope_methods},
    {0}};
static PyType_Spec scope_spec = {
    "transom.Scope", sizeof(struct scope), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, scope_slots};

/* ---- memory ---- */

static PyObject *orch_alloc(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"alloc", {"shape", "dtype", "chip"}, 2, 1, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[3];
    struct tsm_tensor t = {0};
    int dtype = TSM_F32, chip;
    if (!w || signature_read(&s, args, count, names, values) != 0 ||
        shape_read(values[0], t.shape, &t.ndim) != 0 ||
        (values[1] && dtype_read(values[1], "dtype", &dtype) != 0) ||
        chip_read(w, values[2], "chip", false, &chip) != 0) {
        return NULL;
    }
    t.dtype = (uint8_t)dtype;
    uint64_t bytes;
    if (tensor_bytes(&t, &bytes) != 0) {
        return NULL;
    }
    chip = chip == TSM_ANY_CHIP ? TSM_HOST : chip;
    int rc = tsm_alloc(((struct orch *)o)->o, chip, bytes ? bytes : 1, &t.data);
    return rc == 0 ? tensor_new(&t, NULL, false, false) : worker_raise(w, rc);
}

/* A chip by number, or HOST. */
static int place_read(const struct worker *w, PyObject *o, int *ret)
{
    int64_t chip;
    if (int_read(o, "worker", INT64_MIN, INT64_MAX, &chip) != 0) {
        return -1;
    }
    if (chip != TSM_HOST && (chip < 0 || chip >= (int64_t)w->opts.chips)) {
        PyErr_Format(PyExc_ValueError, "worker is %lld; there are chips 0 to %u, and HOST",
                     (long long)chip, w->opts.chips - 1);
        return -1;
    }
    *ret = (int)chip;
    return 0;
}

static PyObject *orch_malloc(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"malloc", {"worker", "size"}, 2, 2, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[2];
    int chip;
    int64_t bytes;
    void *data = NULL;
    if (!w || signature_read(&s, args, count, names, values) != 0 ||
        place_read(w, values[0], &chip) != 0 ||
        int_read(values[1], "size", 1, INT64_MAX, &bytes) != 0) {
        return NULL;
    }
    int rc = tsm_malloc(((struct orch *)o)->o, chip, (uint64_t)bytes, &data);
    return rc == 0 ? PyLong_FromVoidPtr(data) : worker_raise(w, rc);
}

static PyObject *orch_free(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"free", {"worker", "data"}, 2, 2, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[2];
    int chip;
    uint64_t data;
    if (!w || signature_read(&s, args, count, names, values) != 0 ||
        place_read(w, values[0], &chip) != 0 || bits_read(values[1], "data", &data) != 0) {
        return NULL;
    }
    return outcome(w, tsm_free(((struct orch *)o)->o, chip, (void *)(uintptr_t)data));
}

/* One side of a copy: an address, a tensor, or (the program's side) any contiguous buffer. */
struct side {
    void *data;
    uint64_t bytes; /* UINT64_MAX: an address alone */
    Py_buffer view;
    bool has_view;
};

static int read_side(PyObject *o, const char *what, bool writable, struct side *s)
{
    memset(s, 0, sizeof(*s));
    if (PyLong_Check(o)) {
        uint64_t address;
        s->bytes = UINT64_MAX;
        if (bits_read(o, what, &address) != 0) {
            return -1;
        }
        s->data = (void *)(uintptr_t)address;
        return 0;
    }
    if (tensor_check(o)) {
        const struct tsm_tensor *t = &((struct tensor *)o)->t;
        if (t->stride_given) {
            PyErr_Format(PyExc_ValueError, "%s is not contiguous", what);
            return -1;
        }
        s->data = t->data;
        return tensor_bytes(t, &s->bytes);
    }
    if (PyObject_GetBuffer(o, &s->view, PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)) !=
        0) {
        return -1;
    }
    s->has_view = true;
    s->data = s->view.buf;
    s->bytes = (uint64_t)s->view.len;
    return 0;
}

static void side_fini(struct side *s)
{
    if (s->has_view) {
        PyBuffer_Release(&s->view);
    }
}

/* How much is copied: what is said, else what a side has. */
static int copy_size(const struct side *dst, const struct side *src, PyObject *size, uint64_t *ret)
{
    int64_t bytes;
    if (size && size != Py_None) {
        if (int_read(size, "size", 0, INT64_MAX, &bytes) != 0) {
            return -1;
        }
        *ret = (uint64_t)bytes;
    } else if (src->bytes != UINT64_MAX && dst->bytes != UINT64_MAX && src->bytes != dst->bytes) {
        PyErr_Format(PyExc_ValueError, "src has %llu bytes, dst %llu: give the size",
                     (unsigned long long)src->bytes, (unsigned long long)dst->bytes);
        return -1;
    } else {
        *ret = src->bytes != UINT64_MAX ? src->bytes : dst->bytes;
    }
    if (*ret == UINT64_MAX) {
        PyErr_SetString(PyExc_TypeError, "size is needed where both sides are addresses");
        return -1;
    }
    if (*ret > src->bytes || *ret > dst->bytes) {
        PyErr_Format(PyExc_ValueError, "size is %llu, but %s has %llu bytes",
                     (unsigned long long)*ret, *ret > src->bytes ? "src" : "dst",
                     (unsigned long long)(*ret > src->bytes ? src->bytes : dst->bytes));
        return -1;
    }
    return 0;
}

/* The program's side may be memory of the worker, as a Buffer: then tasks may be in the way there, too. */
static int wait_program_side(const struct worker *w, const struct side *s, uint64_t bytes,
                             int access)
{
    int rc = tsm_host_wait(w->w, s->data, bytes, access);
    return rc == TSM_ERANGE ? 0 : rc; /* it is not */
}

static int copy_bytes(const struct worker *w, tsm_orch *orch, int chip, const struct side *dst,
                      const struct side *src, uint64_t bytes, bool is_to)
{
    int rc = is_to ? wait_program_side(w, src, bytes, TSM_READ)
                   : wait_program_side(w, dst, bytes, TSM_WRITE);
    if (rc != 0) {
        return rc;
    }
    return is_to ? tsm_copy_to(orch, chip, dst->data, src->data, bytes)
                 : tsm_copy_from(orch, chip, dst->data, src->data, bytes);
}

static PyObject *copy(PyObject *o, PyObject *const *values, bool is_to)
{
    struct worker *w = orch_enter(o);
    struct side dst = {0}, src = {0};
    int chip;
    uint64_t bytes;
    PyObject *ret = NULL;
    if (w && place_read(w, values[0], &chip) == 0 &&
        read_side(values[1], "dst", !is_to, &dst) == 0 &&
        read_side(values[2], "src", false, &src) == 0 &&
        copy_size(&dst, &src, values[3], &bytes) == 0) {
        ret = outcome(w, copy_bytes(w, ((struct orch *)o)->o, chip, &dst, &src, bytes, is_to));
    }
    side_fini(&dst);
    side_fini(&src);
    return ret;
}

static PyObject *orch_copy_to(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"copy_to", {"worker", "dst", "src", "size"}, 4, 3, {0}};
    PyObject *values[4];
    return signature_read(&s, args, count, names, values) == 0 ? copy(o, values, true) : NULL;
}

static PyObject *orch_copy_from(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {"copy_from", {"worker", "dst", "src", "size"}, 4, 3, {0}};
    PyObject *values[4];
    return signature_read(&s, args, count, names, values) == 0 ? copy(o, values, false) : NULL;
}

static PyObject *orch_host_wait(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {"host_wait", {"tensor", "access"}, 2, 1, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[2];
    if (!w || signature_read(&s, args, count, names, values) != 0) {
        return NULL;
    }
    return worker_host_wait(w, values[0], values[1]);
}

/* ---- the type ---- */

PyObject *orch_new(struct worker *self, tsm_orch *o)
{
    struct orch *orch = (struct orch *)object_new(orch_type);
    if (orch) {
        orch->worker = (struct worker *)Py_NewRef((PyObject *)self);
        orch->o = o;
        orch->run = tsm_orch_run(o);
    }
    return (PyObject *)orch;
}

static PyObject *orch_get(PyObject *o, void *closure)
{
    const struct orch *self = (struct orch *)o;
    return closure ? PyLong_FromUnsignedLongLong(self->run) : Py_NewRef((PyObject *)self->worker);
}

static PyObject *orch_repr(PyObject *o)
{
    const struct orch *self = (struct orch *)o;
    return PyUnicode_FromFormat("<transom.Orchestrator of run %llu, %s>",
                                (unsigned long long)self->run, self->o ? "executing" : "over");
}

static int orch_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    Py_VISIT((PyObject *)((struct orch *)o)->worker);
    return 0;
}

static void orch_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    Py_XDECREF((PyObject *)((struct orch *)o)->worker);
    object_free(o);
}

static PyGetSetDef orch_getters[] = {
    {"worker", orch_get, NULL, "The worker.", NULL},
    {"run", orch_get, NULL, "Number of the run, from 1.", (void *)1},
    {0}};

#define REFUSALS                                                                                   \
    "\n\nRaises:\n    ValueError, TypeError: an argument is refused, and nothing has happened.\n"  \
    "    RuntimeError: the run has failed, or something was released."

static PyMethodDef orch_methods[] = {
    {"submit", FAST(orch_submit),
     "submit($self, callable, /, *args, chip=None, after=(), blocks=1, limit=None)\n--\n\n"
     "Appends a task: callable(*args) on a chip. The everyday way.\n\n"
     "Args:\n"
     "    args: tensors (Buffer, Tensor, arrays over memory of the worker; plain ones are read, "
     "see out, inout,\n"
     "        nodep), numbers, domains; for a function of Python also objects, which are pickled.\n"
     "    chip: its number; SUB: a free sub worker; None: where the memory is, else the least "
     "loaded.\n"
     "    after: ids of tasks that it must follow, beside what the tensors say.\n"
     "    blocks: number of blocks for the kernel.\n"
     "    limit: seconds that it may run; None: no limit.\n\n"
     "Returns:\n    The id of the task." REFUSALS},
    {"submit_group", FAST(orch_submit_group),
     "submit_group($self, callable, /, *args, chips, after=(), blocks=1, limit=None)\n--\n\n"
     "Appends one task with a member on each of the chips: what waits for each other belongs in a "
     "group.\n\n"
     "Args:\n    args: as for submit, the same for all members; each([...]) has one for each.\n"
     "    chips: distinct numbers.\n\n"
     "Returns:\n    The id of the task; who follows it follows all members." REFUSALS},
    {"submit_next_level", FAST(orch_submit_next_level),
     "submit_next_level($self, callable, args=None, config=None, *, worker=None, after=())\n--\n\n"
     "Appends a task with prepared arguments to a chip.\n\n"
     "Args:\n    args: a TaskArgs.\n    config: a CallConfig.\n"
     "    worker: number of the chip; None: where the memory is, else the least loaded.\n"
     "    after: ids of tasks that it must follow.\n\n"
     "Returns:\n    The id of the task." REFUSALS},
    {"submit_next_level_group", FAST(orch_submit_next_level_group),
     "submit_next_level_group($self, callable, args_list, config=None, *, workers, "
     "after=())\n--\n\n"
     "Appends one task with a member on each of the chips `workers`, with args_list[i] for member "
     "i.\n\n"
     "Returns:\n    The id of the task." REFUSALS},
    {"submit_sub", FAST(orch_submit_sub),
     "submit_sub($self, callable, args=None, *, after=())\n--\n\n"
     "Appends a task to whichever sub worker is free when it is ready.\n\n"
     "Returns:\n    The id of the task." REFUSALS},
    {"submit_sub_group", FAST(orch_submit_sub_group),
     "submit_sub_group($self, callable, args_list, *, after=())\n--\n\n"
     "Appends one task with len(args_list) members on sub workers.\n\n"
     "Returns:\n    The id of the task." REFUSALS},
    {"allocate_domain", FAST(orch_allocate_domain),
     "allocate_domain($self, name, workers, window_size, buffers=(), *, keep=False)\n--\n\n"
     "Allocates a zeroed, symmetric window on each of the chips `workers`; rank r is "
     "workers[r].\n\n"
     "Args:\n    name: 1 to 63 bytes, unique among the live domains of the worker.\n"
     "    window_size: bytes per member; alignment of buffers comes on top.\n"
     "    buffers: CommBufferSpecs, named parts of every window, one behind the other.\n"
     "    keep: it lives until release or close instead of the end of the function.\n\n"
     "Returns:\n    A CommDomainHandle, for a with statement.\n\n"
     "Raises:\n    ValueError: an argument is refused, the name is live, the buffers need more "
     "than window_size.\n"
     "    MemoryError: beyond the machine's limit.\n    RuntimeError: a member is dead."},
    {"release_domain", orch_release_domain, METH_O,
     "release_domain($self, domain, /)\n--\n\nThe same as domain.release()."},
    {"scope", orch_scope, METH_NOARGS,
     "scope($self)\n--\n\n"
     "A with block at whose end the memory allocated in it is free for the next allocation."},
    {"alloc", FAST(orch_alloc),
     "alloc($self, shape, dtype='float32', *, chip=None)\n--\n\n"
     "Memory until the current scope ends, contents undefined, as a Tensor.\n\n"
     "Args:\n    chip: whose memory; None: of the host, which all see.\n\n"
     "Raises:\n    MemoryError: with how much was asked, is held and free."},
    {"malloc", FAST(orch_malloc),
     "malloc($self, worker, size)\n--\n\n"
     "The address of `size` bytes on a chip (or HOST) until free, over runs."},
    {"free", FAST(orch_free),
     "free($self, worker, data)\n--\n\n"
     "Gives memory of malloc back; tasks that use it may still have to run.\n\n"
     "Raises:\n    ValueError: freed before, an interior address, or the wrong chip."},
    {"copy_to", FAST(orch_copy_to),
     "copy_to($self, worker, dst, src, size=None)\n--\n\n"
     "Copies the program's src (a buffer, an array, bytes, or an address) to dst on a chip (a "
     "Tensor or an\n"
     "address in its memory or in a window), behind exactly the tasks that use these bytes. "
     "Blocks.\n\n"
     "Args:\n    size: bytes; None: as many as both have." REFUSALS},
    {"copy_from", FAST(orch_copy_from),
     "copy_from($self, worker, dst, src, size=None)\n--\n\n"
     "Copies src on a chip to the program's dst, behind the tasks that write it. Blocks." REFUSALS},
    {"host_wait", FAST(orch_host_wait),
     "host_wait($self, tensor, access='r')\n--\n\nThe same as Worker.host_wait."},
    {0}};

static PyType_Slot orch_slots[] = {
    {Py_tp_doc, "What an orchestration function submits tasks and allocates domains with.\n\n"
                "Given to the function by Worker.run; valid until it returns. Tasks are ordered by "
                "the bytes they touch."},
    {Py_tp_dealloc, orch_dealloc},
    {Py_tp_traverse, orch_traverse},
    {Py_tp_methods, orch_methods},
    {Py_tp_getset, orch_getters},
    {Py_tp_repr, orch_repr},
    {0}};
static PyType_Spec orch_spec = {
    "transom.Orchestrator", sizeof(struct orch), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, orch_slots};

int orch_module_init(PyObject *module)
{
    scope_type = type_new(module, &scope_spec, NULL);
    orch_type = scope_type ? type_new(module, &orch_spec, NULL) : NULL;
    return orch_type ? 0 : -1;
}

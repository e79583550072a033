/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/*
 * Submitting: the methods of the orchestrator that append a task or a group, with arguments as they come or prepared ones, and
 * CallConfig. Program; owns nothing.
 */
#include "host.h"

#include <string.h>

static PyTypeObject *config_type;

/* ---- CallConfig ---- */

struct config {
    PyObject_HEAD int64_t blocks, limit_ns;
};

static int read_blocks(PyObject *o, int64_t *ret)
{
    *ret = 1;
    return o ? int_read(o, "blocks", 1, UINT32_MAX, ret) : 0;
}

/* None, or seconds above 0. */
static int read_limit(PyObject *o, int64_t *ret)
{
    int rc = seconds_read(o, "limit", ret);
    if (rc == 0 && *ret == 0) {
        PyErr_SetString(PyExc_ValueError, "limit is 0: a task needs some time; None is no limit");
        return -1;
    }
    *ret = *ret < 0 ? 0 : *ret;
    return rc;
}

static PyObject *config_make(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"blocks", "limit", NULL};
    PyObject *blocks = NULL, *limit = NULL;
    int64_t blocks_value, limit_ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:CallConfig", names, &blocks, &limit) ||
        read_blocks(blocks, &blocks_value) != 0 || read_limit(limit, &limit_ns) != 0) {
        return NULL;
    }
    struct config *self = (struct config *)object_new(type);
    if (self) {
        self->blocks = blocks_value;
        self->limit_ns = limit_ns;
    }
    return (PyObject *)self;
}

static PyObject *config_get(PyObject *o, void *closure)
{
    const struct config *self = (struct config *)o;
    if (!closure) {
        return PyLong_FromLongLong(self->blocks);
    }
    return self->limit_ns ? PyFloat_FromDouble((double)self->limit_ns / 1e9) : Py_NewRef(Py_None);
}

static PyObject *config_repr(PyObject *o)
{
    const struct config *self = (struct config *)o;
    PyObject *limit = config_get(o, (void *)1);
    PyObject *text = limit ? PyUnicode_FromFormat("CallConfig(blocks=%lld, limit=%R)",
                                                  (long long)self->blocks, limit)
                           : NULL;
    Py_XDECREF(limit);
    return text;
}

static int plain_traverse(PyObject *o, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(o));
    return 0;
}

static void plain_dealloc(PyObject *o)
{
    PyObject_GC_UnTrack(o);
    object_free(o);
}

static PyGetSetDef config_getters[] = {
    {"blocks", config_get, NULL, "Number of blocks for the kernel.", NULL},
    {"limit", config_get, NULL, "Seconds that the task may run; None: no limit.", (void *)1},
    {0}};
static PyType_Slot config_slots[] = {
    {Py_tp_doc,
     "CallConfig(blocks=1, limit=None)\n--\n\n"
     "How a task is run, beside its arguments.\n\n"
     "Args:\n    blocks: number of blocks for the kernel.\n"
     "    limit: seconds from its begin; a task that takes longer fails its run and loses its "
     "process.\n\n"
     ">>> import transom as ts\n>>> ts.CallConfig(limit=0.5)\nCallConfig(blocks=1, limit=0.5)"},
    {Py_tp_new, config_make},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_traverse, plain_traverse},
    {Py_tp_getset, config_getters},
    {Py_tp_repr, config_repr},
    {0}};
static PyType_Spec config_spec = {"transom.CallConfig", sizeof(struct config), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, config_slots};

static int read_config(PyObject *o, struct tsm_call *call)
{
    if (!o || o == Py_None) {
        return 0;
    }
    if (Py_TYPE(o) != config_type) {
        PyErr_Format(PyExc_TypeError, "config must be a CallConfig or None, not %R", Py_TYPE(o));
        return -1;
    }
    call->blocks = (uint32_t)((struct config *)o)->blocks;
    call->limit_ns = ((struct config *)o)->limit_ns;
    return 0;
}

/* ---- what submissions share ---- */

/* Ids of tasks to follow. */
struct after {
    tsm_task_id ids_inline[16], *ids;
};

/* What submit returned: 64 bits, of which the highest may be set. */
static int read_id(PyObject *o, Py_ssize_t index, tsm_task_id *ret)
{
    char what[32];
    uint64_t bits;
    PyOS_snprintf(what, sizeof(what), "after[%zd]", index);
    if (bits_read(o, what, &bits) != 0) {
        return -1;
    }
    PyObject *zero = PyLong_FromLong(0);
    int above = zero ? PyObject_RichCompareBool(o, zero, Py_GT) : -1;
    Py_XDECREF(zero);
    if (above == 0) {
        PyErr_Format(PyExc_ValueError, "%s is %R: not the id of a task", what, o);
    }
    *ret = bits;
    return above == 1 ? 0 : -1;
}

/* Enters them into the call; they live as long as *a. */
static int read_after(PyObject *o, struct after *a, struct tsm_call *call)
{
    a->ids = a->ids_inline;
    if (!o || (PyTuple_Check(o) && PyTuple_Size(o) == 0)) {
        return 0;
    }
    PyObject *list = tuple_read(o, "after", "ints");
    if (!list) {
        return -1;
    }
    Py_ssize_t count = PyTuple_Size(list);
    int rc = 0;
    if (count > (Py_ssize_t)(sizeof(a->ids_inline) / sizeof(*a->ids_inline)) &&
        !(a->ids = PyMem_Malloc((size_t)count * sizeof(*a->ids)))) {
        a->ids = a->ids_inline;
        PyErr_NoMemory();
        rc = -1;
    }
    for (Py_ssize_t i = 0; i < count && rc == 0; i++) {
        rc = read_id(PyTuple_GetItem(list, i), i, &a->ids[i]);
    }
    call->after = a->ids;
    call->after_count = (uint32_t)count;
    Py_DECREF(list);
    return rc;
}

static void after_fini(struct after *a)
{
    if (a->ids != a->ids_inline) {
        PyMem_Free(a->ids);
    }
}

static struct callable_handle *read_callable(PyObject *o)
{
    if (Py_TYPE(o) == callable_type) {
        return (struct callable_handle *)o;
    }
    PyErr_Format(PyExc_TypeError, "callable must be what Worker.register returned, not %R",
                 Py_TYPE(o));
    return NULL;
}

/* None: the least loaded chip. */
int chip_read(const struct worker *w, PyObject *o, const char *what, bool sub_allowed, int *ret)
{
    int64_t chip;
    *ret = TSM_ANY_CHIP;
    if (!o || o == Py_None) {
        return 0;
    }
    if (int_read(o, what, INT64_MIN, INT64_MAX, &chip) != 0) {
        return -1;
    }
    if (chip == TSM_SUB && sub_allowed) {
        *ret = TSM_SUB;
        return 0;
    }
    if (chip < 0 || chip >= (int64_t)w->opts.chips) {
        PyErr_Format(PyExc_ValueError, "%s is %lld; there are chips 0 to %u", what, (long long)chip,
                     w->opts.chips - 1);
        return -1;
    }
    *ret = (int)chip;
    return 0;
}

static PyObject *submit_one(struct worker *w, tsm_orch *orch, struct callable_handle *c,
                            struct args *a, struct tsm_call *call)
{
    struct sheet sheet;
    tsm_task_id id = 0;
    if (sheet_make(&sheet, a, c, call) != 0) {
        return NULL;
    }
    int rc = tsm_submit(orch, call, &id);
    sheet_fini(&sheet);
    if (rc != 0) {
        return worker_raise(w, rc);
    }
    if (call->tensor_count != 0) {
        args_bind(a);
    }
    return PyLong_FromUnsignedLongLong(id);
}

/* Submits a group whose members' arguments are args[i]; chips[i], or sub workers when chips is NULL. */
static PyObject *submit_members(struct worker *w, tsm_orch *orch, struct callable_handle *c,
                                struct args *const *args, const int *chips, Py_ssize_t count,
                                const struct tsm_call *like)
{
    struct tsm_call *calls = PyMem_Calloc((size_t)count + 1, sizeof(*calls));
    struct sheet *sheets = PyMem_Calloc((size_t)count + 1, sizeof(*sheets));
    PyObject *ret = NULL;
    Py_ssize_t made = 0;
    tsm_task_id id = 0;
    int rc = calls && sheets ? 0 : -1;
    if (rc != 0) {
        PyErr_NoMemory();
    }
    for (; made < count && rc == 0; made++) {
        calls[made] = *like;
        calls[made].chip = chips ? chips[made] : TSM_SUB;
        rc = sheet_make(&sheets[made], args[made], c, &calls[made]);
        if (rc != 0) {
            break;
        }
        if (made > 0) {
            calls[made].after_count = 0; /* joined: the first member's */
        }
    }
    if (rc == 0) {
        rc = tsm_submit_group(orch, calls, (uint32_t)count, &id);
        ret = rc == 0 ? PyLong_FromUnsignedLongLong(id) : worker_raise(w, rc);
        for (Py_ssize_t i = 0; i < count && rc == 0; i++) {
            args_bind(args[i]);
        }
    }
    for (Py_ssize_t i = 0; i < made; i++) {
        sheet_fini(&sheets[i]);
    }
    PyMem_Free(calls);
    PyMem_Free(sheets);
    return ret;
}

/* ---- submit, submit_group ---- */

/* What may stand behind the task's arguments, by name. */
static int read_options(struct signature *s, PyObject *const *args, Py_ssize_t count,
                        PyObject *names, PyObject **options, struct after *after,
                        struct tsm_call *call)
{
    int64_t blocks;
    after->ids = after->ids_inline;
    if (signature_read(s, args + count, 0, names, options) != 0 ||
        read_blocks(options[2], &blocks) != 0 || read_limit(options[3], &call->limit_ns) != 0 ||
        read_after(options[1], after, call) != 0) {
        return -1;
    }
    call->blocks = (uint32_t)blocks;
    return 0;
}

static int check_first(PyObject *const *args, Py_ssize_t count, const char *function,
                       struct callable_handle **ret)
{
    if (count == 0) {
        PyErr_Format(PyExc_TypeError, "%s() missing required argument: 'callable'", function);
        return -1;
    }
    *ret = read_callable(args[0]);
    return *ret ? 0 : -1;
}

PyObject *orch_submit(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"submit", {"chip", "after", "blocks", "limit"}, 0, 0, {0}};
    struct worker *w = orch_enter(o);
    struct callable_handle *c;
    struct tsm_call call = {0};
    PyObject *options[4] = {NULL, NULL, NULL, NULL};
    struct after after = {.ids = after.ids_inline};
    if (!w || check_first(args, count, "submit", &c) != 0 ||
        (names && read_options(&s, args, count, names, options, &after, &call) != 0) ||
        chip_read(w, options[0], "chip", true, &call.chip) != 0) {
        after_fini(&after);
        return NULL;
    }
    struct args a;
    args_init(&a);
    int rc = 0;
    for (Py_ssize_t i = 1; i < count && rc == 0; i++) {
        rc = args_add_any(&a, args[i], i - 1);
    }
    PyObject *ret = rc == 0 ? submit_one(w, ((struct orch *)o)->o, c, &a, &call) : NULL;
    args_fini(&a);
    after_fini(&after);
    return ret;
}

/* Member m's value of an argument: its own of each(...), else the same for all. NULL with an exception. */
static PyObject *value_for(PyObject *value, Py_ssize_t index, Py_ssize_t member, Py_ssize_t count)
{
    if (Py_TYPE(value) != each_type) {
        return value;
    }
    PyObject *values = ((struct each *)value)->values;
    if (PyTuple_Size(values) != count) {
        PyErr_Format(PyExc_ValueError, "argument %zd has %zd values for %zd members", index,
                     PyTuple_Size(values), count);
        return NULL;
    }
    return PyTuple_GetItem(values, member);
}

static int fill_member(struct args *a, PyObject *const *args, Py_ssize_t arg_count,
                       Py_ssize_t member, Py_ssize_t count)
{
    for (Py_ssize_t i = 1; i < arg_count; i++) {
        PyObject *value = value_for(args[i], i - 1, member, count);
        if (!value || args_add_any(a, value, i - 1) != 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *submit_everywhere(struct worker *w, tsm_orch *orch, struct callable_handle *c,
                                   PyObject *const *args, Py_ssize_t arg_count, const int *chips,
                                   Py_ssize_t count, const struct tsm_call *like)
{
    struct args *all = PyMem_Malloc((size_t)(count + 1) * sizeof(*all));
    struct args **each = PyMem_Malloc((size_t)(count + 1) * sizeof(*each));
    PyObject *ret = NULL;
    Py_ssize_t made = 0;
    int rc = all && each ? 0 : -1;
    if (rc != 0) {
        PyErr_NoMemory();
    }
    for (; made < count && rc == 0; made++) {
        args_init(&all[made]);
        each[made] = &all[made];
        rc = fill_member(&all[made], args, arg_count, made, count);
    }
    if (rc == 0) {
        ret = submit_members(w, orch, c, each, chips, count, like);
    }
    for (Py_ssize_t i = 0; i < made; i++) {
        args_fini(&all[i]);
    }
    PyMem_Free(all);
    PyMem_Free(each);
    return ret;
}

/* Chips by number. *ret is of PyMem_Malloc. */
static int read_chips(const struct worker *w, PyObject *o, const char *what, int **ret,
                      Py_ssize_t *ret_count)
{
    int64_t *values;
    if (ints_read(o, what, 0, (int64_t)w->opts.chips - 1, &values, ret_count) != 0) {
        return -1;
    }
    int *chips = PyMem_Malloc((size_t)(*ret_count + 1) * sizeof(*chips));
    for (Py_ssize_t i = 0; chips && i < *ret_count; i++) {
        chips[i] = (int)values[i];
    }
    PyMem_Free(values);
    *ret = chips;
    return chips ? 0 : (PyErr_NoMemory(), -1);
}

PyObject *orch_submit_group(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"submit_group", {"chips", "after", "blocks", "limit"}, 0, 1, {0}};
    struct worker *w = orch_enter(o);
    struct callable_handle *c;
    struct tsm_call call = {0};
    PyObject *options[4];
    struct after after = {.ids = after.ids_inline};
    int *chips = NULL;
    Py_ssize_t members;
    PyObject *ret = NULL;
    if (w && check_first(args, count, "submit_group", &c) == 0 &&
        read_options(&s, args, count, names, options, &after, &call) == 0 &&
        read_chips(w, options[0], "chips", &chips, &members) == 0) {
        ret = submit_everywhere(w, ((struct orch *)o)->o, c, args, count, chips, members, &call);
    }
    PyMem_Free(chips);
    after_fini(&after);
    return ret;
}

/* ---- submit_next_level and its like ---- */

static int read_args(PyObject *o, struct args **ret)
{
    if (Py_TYPE(o) != args_type) {
        PyErr_Format(PyExc_TypeError, "args must be a TaskArgs, not %R", Py_TYPE(o));
        return -1;
    }
    *ret = &((struct args_object *)o)->args;
    return 0;
}

/* args NULL or None: none. */
static PyObject *submit_prepared(struct worker *w, tsm_orch *orch, PyObject *callable,
                                 PyObject *given, struct tsm_call *call)
{
    struct callable_handle *c = read_callable(callable);
    struct args none, *a = &none;
    if (!c) {
        return NULL;
    }
    if (!given || given == Py_None) {
        args_init(&none);
    } else if (read_args(given, &a) != 0) {
        return NULL;
    }
    return submit_one(w, orch, c, a, call);
}

PyObject *orch_submit_next_level(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    static struct signature s = {
        "submit_next_level", {"callable", "args", "config", "worker", "after"}, 3, 1, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[5];
    struct tsm_call call = {0};
    struct after after = {.ids = after.ids_inline};
    PyObject *ret = NULL;
    if (w && signature_read(&s, args, count, names, values) == 0 &&
        read_config(values[2], &call) == 0 &&
        chip_read(w, values[3], "worker", false, &call.chip) == 0 &&
        read_after(values[4], &after, &call) == 0) {
        ret = submit_prepared(w, ((struct orch *)o)->o, values[0], values[1], &call);
    }
    after_fini(&after);
    return ret;
}

PyObject *orch_submit_sub(PyObject *o, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    static struct signature s = {"submit_sub", {"callable", "args", "after"}, 2, 1, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[3];
    struct tsm_call call = {.chip = TSM_SUB};
    struct after after = {.ids = after.ids_inline};
    PyObject *ret = NULL;
    if (w && signature_read(&s, args, count, names, values) == 0 &&
        read_after(values[2], &after, &call) == 0) {
        ret = submit_prepared(w, ((struct orch *)o)->o, values[0], values[1], &call);
    }
    after_fini(&after);
    return ret;
}

/* A list of TaskArgs; chips NULL: on sub workers. */
static PyObject *submit_list(struct worker *w, tsm_orch *orch, PyObject *callable, PyObject *list,
                             const int *chips, Py_ssize_t chip_count, const struct tsm_call *like)
{
    struct callable_handle *c = read_callable(callable);
    PyObject *tuple = c ? tuple_read(list, "args_list", "TaskArgs") : NULL;
    if (!tuple) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(tuple);
    struct args **each = PyMem_Malloc((size_t)(count + 1) * sizeof(*each));
    int rc = each ? 0 : (PyErr_NoMemory(), -1);
    for (Py_ssize_t i = 0; i < count && rc == 0; i++) {
        rc = read_args(PyTuple_GetItem(tuple, i), &each[i]);
    }
    if (rc == 0 && chips && count != chip_count) {
        PyErr_Format(PyExc_ValueError, "args_list has %zd members, workers %zd", count, chip_count);
        rc = -1;
    }
    PyObject *ret = rc == 0 ? submit_members(w, orch, c, each, chips, count, like) : NULL;
    PyMem_Free(each);
    Py_DECREF(tuple);
    return ret;
}

PyObject *orch_submit_next_level_group(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names)
{
    static struct signature s = {"submit_next_level_group",
                                 {"callable", "args_list", "config", "workers", "after"},
                                 3,
                                 2,
                                 {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[5], *ret = NULL;
    struct tsm_call call = {0};
    struct after after = {.ids = after.ids_inline};
    int *chips = NULL;
    Py_ssize_t chip_count;
    if (!w || signature_read(&s, args, count, names, values) != 0) {
        return NULL;
    }
    if (!values[3]) {
        PyErr_SetString(PyExc_TypeError,
                        "submit_next_level_group() missing required argument: 'workers'");
        return NULL;
    }
    if (read_config(values[2], &call) == 0 &&
        read_chips(w, values[3], "workers", &chips, &chip_count) == 0 &&
        read_after(values[4], &after, &call) == 0) {
        ret = submit_list(w, ((struct orch *)o)->o, values[0], values[1], chips, chip_count, &call);
    }
    PyMem_Free(chips);
    after_fini(&after);
    return ret;
}

PyObject *orch_submit_sub_group(PyObject *o, PyObject *const *args, Py_ssize_t count,
                                PyObject *names)
{
    static struct signature s = {"submit_sub_group", {"callable", "args_list", "after"}, 2, 2, {0}};
    struct worker *w = orch_enter(o);
    PyObject *values[3], *ret = NULL;
    struct tsm_call call = {0};
    struct after after = {.ids = after.ids_inline};
    if (w && signature_read(&s, args, count, names, values) == 0 &&
        read_after(values[2], &after, &call) == 0) {
        ret = submit_list(w, ((struct orch *)o)->o, values[0], values[1], NULL, 0, &call);
    }
    after_fini(&after);
    return ret;
}

int submit_module_init(PyObject *module)
{
    config_type = type_new(module, &config_spec, NULL);
    return config_type ? 0 : -1;
}

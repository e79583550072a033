/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* The module transom._core: its types, functions and constants. Any process. */
#include "host.h"

#include <dlfcn.h>
#include <string.h>

static struct PyModuleDef definition;

PyObject *object_new(PyTypeObject *type)
{
    return PyType_GenericAlloc(type, 0);
}

void object_free(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(o);
    Py_DECREF((PyObject *)type);
}

PyTypeObject *type_new(PyObject *module, PyType_Spec *spec, PyTypeObject *base)
{
    PyObject *bases = base ? PyTuple_Pack(1, base) : NULL;
    PyObject *type = base && !bases ? NULL : PyType_FromModuleAndSpec(module, spec, bases);
    Py_XDECREF(bases);
    const char *name = strrchr(spec->name, '.') + 1;
    if (type && *name != '_' && PyModule_AddObjectRef(module, name, type) != 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

/* Path of the object that the function is in; borrowed, NULL when it cannot be found. */
static const char *object_of(const void *function)
{
    Dl_info where;
    return dladdr(function, &where) != 0 ? where.dli_fname : NULL;
}

const char *child_object(void)
{
    return object_of(&definition);
}

/* Path of the library that this process uses. */
static PyObject *library_path(void)
{
    const char *(*function)(void) = tsm_version;
    const void *address;
    memcpy(&address, &function, sizeof(address));
    const char *path = object_of(address);
    return path ? PyUnicode_DecodeFSDefault(path) : Py_NewRef(Py_None);
}

/* Kernels that were not linked with the library find its functions in this process. */
static void make_global(PyObject *path)
{
    PyObject *bytes = path == Py_None ? NULL : PyUnicode_EncodeFSDefault(path);
    if (bytes) {
        dlopen(PyBytes_AsString(bytes), RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
        Py_DECREF(bytes);
    }
    PyErr_Clear();
}

static PyObject *version(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_FromString(tsm_version());
}

static PyMethodDef functions[] = {
    {"version", version, METH_NOARGS,
     "version($module, /)\n--\n\nVersion of the library that is loaded, \"major.minor.patch\"."},
    {0}};

static int execute(PyObject *module)
{
    if (tensor_init(module) != 0 || args_module_init(module) != 0 ||
        domain_module_init(module) != 0 || worker_module_init(module) != 0 ||
        memory_module_init(module) != 0 || callable_module_init(module) != 0 ||
        submit_module_init(module) != 0 || run_module_init(module) != 0 ||
        orch_module_init(module) != 0 || task_init(module) != 0 || view_init(module) != 0 ||
        child_init(module) != 0) {
        return -1;
    }
    PyObject *path = library_path();
    int rc = path ? PyModule_AddObjectRef(module, "LIBRARY", path) : -1;
    if (rc == 0) {
        make_global(path);
    }
    Py_XDECREF(path);
    if (rc != 0 || PyModule_AddIntConstant(module, "SUB", TSM_SUB) != 0 ||
        PyModule_AddIntConstant(module, "HOST", TSM_HOST) != 0 ||
        PyModule_AddIntConstant(module, "DIMS_MAX", TSM_DIMS_MAX) != 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)(uintptr_t)execute}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "transom._core",
                                        .m_doc = "The C part of the package transom.", .m_size = 0,
                                        .m_slots = slots};

PyMODINIT_FUNC PyInit__core(void); /* Python.h declares it from 3.12 on */

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}

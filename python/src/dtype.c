/* SPDX-License-Identifier: BSD-3-Clause */
/* Copyright The Transom Authors */
/* Types of elements: the names that NumPy and PyTorch give them, and the formats of the buffer protocol. Any process. */
#include "core.h"

#include <string.h>

static const struct {
    int dtype;
    const char *name, *short_name, *format;
} table[] = {
    {TSM_U8, "uint8", "u8", "B"},        {TSM_I8, "int8", "i8", "b"},
    {TSM_BOOL, "bool", "bool_", "?"},    {TSM_U16, "uint16", "u16", "H"},
    {TSM_I16, "int16", "i16", "h"},      {TSM_F16, "float16", "f16", "e"},
    {TSM_BF16, "bfloat16", "bf16", "H"}, {TSM_U32, "uint32", "u32", "I"},
    {TSM_I32, "int32", "i32", "i"},      {TSM_F32, "float32", "f32", "f"},
    {TSM_U64, "uint64", "u64", "Q"},     {TSM_I64, "int64", "i64", "q"},
    {TSM_F64, "float64", "f64", "d"},
};
enum { DTYPES = sizeof(table) / sizeof(*table) };

static int find(const char *name)
{
    for (int i = 0; i < DTYPES; i++) {
        if (strcmp(name, table[i].name) == 0 || strcmp(name, table[i].short_name) == 0) {
            return table[i].dtype;
        }
    }
    return 0;
}

/* What o calls its type of element: itself, its name, or the last part of what it prints. */
static PyObject *name_of(PyObject *o)
{
    if (PyUnicode_Check(o)) {
        return Py_NewRef(o);
    }
    PyObject *name = PyObject_GetAttrString(o, PyType_Check(o) ? "__name__" : "name");
    if (name && PyUnicode_Check(name)) {
        return name;
    }
    PyErr_Clear();
    Py_XDECREF(name);
    return PyObject_Str(o); /* "torch.float32" */
}

int dtype_read(PyObject *o, const char *what, int *ret)
{
    PyObject *name = name_of(o);
    PyObject *lower = name ? PyObject_CallMethod(name, "lower", NULL) : NULL;
    const char *text = lower ? PyUnicode_AsUTF8AndSize(lower, NULL) : NULL;
    Py_XDECREF(name);
    if (!text) {
        Py_XDECREF(lower);
        return -1;
    }
    const char *dot = strrchr(text, '.');
    *ret = find(dot && !PyUnicode_Check(o) ? dot + 1 : text);
    Py_DECREF(lower);
    if (*ret == 0) {
        bool is_text = PyUnicode_Check(o);
        PyErr_Format(is_text ? PyExc_ValueError : PyExc_TypeError,
                     "%s is %R: float32, float64, float16, bfloat16, bool, int8 to int64 and uint8 "
                     "to uint64 are types of element",
                     what, o);
        return -1;
    }
    return 0;
}

const char *dtype_long_name(int dtype)
{
    for (int i = 0; i < DTYPES; i++) {
        if (table[i].dtype == dtype) {
            return table[i].name;
        }
    }
    return "?";
}

const char *dtype_format(int dtype)
{
    for (int i = 0; i < DTYPES; i++) {
        if (table[i].dtype == dtype) {
            return table[i].format;
        }
    }
    return "B";
}

int dtype_of_format(const char *format, Py_ssize_t item_bytes)
{
    if (!format) {
        return item_bytes == 1 ? TSM_U8 : 0;
    }
    if (*format == '@' || *format == '=' || *format == '<') {
        format++;
    }
    if (format[0] == 0 || format[1] != 0) {
        return 0;
    }
    /* l and L are 8 bytes in native mode, 4 in standard; the size of the item decides. */
    switch (*format) {
    case 'l':
        return item_bytes == 8 ? TSM_I64 : TSM_I32;
    case 'L':
        return item_bytes == 8 ? TSM_U64 : TSM_U32;
    case 'n':
        return TSM_I64;
    case 'N':
        return TSM_U64;
    case 'c':
        return TSM_U8;
    default:
        break;
    }
    for (int i = 0; i < DTYPES; i++) {
        if (table[i].dtype != TSM_BF16 && table[i].format[0] == *format) {
            return (Py_ssize_t)tsm_dtype_bytes(table[i].dtype) == item_bytes ? table[i].dtype : 0;
        }
    }
    return 0;
}

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Wrong types and values for every parameter of every call of the program's side: refused by name, and nothing is lost.

One table says it all; that it leaves out no parameter is a test, too, against the stubs of the package.
"""

from __future__ import annotations

import ast
import inspect
import math
import pathlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import check_works

Wrong = tuple[Any, type[BaseException], str]
BIG = 1 << 80
ANY: list[Wrong] = []  # whatever it is: it is given on as it is


def ints(name: str, *more: Wrong, least: int | None = 0, optional: bool = False) -> list[Wrong]:
    """What is no int; least: the smallest that is allowed."""
    wrong: list[Wrong] = [
        ("1", TypeError, f"{name} must be an int, not <class 'str'>"),
        (1.0, TypeError, f"{name} must be an int, not <class 'float'>"),
        (True, TypeError, f"{name} must be an int, not <class 'bool'>"),
        ([], TypeError, f"{name} must be an int, not <class 'list'>"),
        (np.float64(1), TypeError, f"{name} must be an int"),
        (BIG, ValueError, f"{name} is {BIG}"),
        (-BIG, ValueError, f"{name} is -{BIG}"),
    ]
    if not optional:
        wrong.append((None, TypeError, f"{name} must be an int, not <class 'NoneType'>"))
    if least is not None:
        wrong.append((least - 1, ValueError, f"{name} is {least - 1}"))
    return wrong + list(more)


def seconds(name: str, *more: Wrong) -> list[Wrong]:
    return [
        ("1", TypeError, f"{name} must be a number of seconds"),
        (True, TypeError, f"{name} must be a number of seconds or None, not <class 'bool'>"),
        (1j, TypeError, f"{name} must be a number of seconds"),
        (-1, ValueError, f"{name} is -1"),
        (-1e-9, ValueError, f"{name} is -1e-09"),
        (math.nan, ValueError, f"{name} is nan"),
        (math.inf, ValueError, f"{name} is inf"),
        (-math.inf, ValueError, f"{name} is -inf"),
        (10**400, ValueError, f"{name} is 1000"),
        *more,
    ]


def lists(name: str, of: str, *more: Wrong) -> list[Wrong]:
    wrong = (None, 5, 1.5, "01", b"01", object(), ts.CallConfig())
    return [(value, TypeError, f"{name} must be a sequence of {of}, not {type(value)!r}") for value in wrong] + list(
        more
    )


DTYPE: list[Wrong] = [
    ("float31", ValueError, "dtype is 'float31'"),
    ("", ValueError, "dtype is ''"),
    ("float32 ", ValueError, "dtype is 'float32 '"),
    ("\ud800", ValueError, ""),
    (5, TypeError, "dtype is 5"),
    (None, TypeError, "dtype is None"),
    (complex, TypeError, "dtype is <class 'complex'>"),
    (np.dtype("U3"), TypeError, "dtype is dtype('<U3')"),
]
OPTIONAL_DTYPE = [w for w in DTYPE if w[0] is not None]
SHAPE: list[Wrong] = [
    (-1, ValueError, "shape is -1"),
    (BIG, ValueError, f"shape is {BIG}"),
    ((3, -1), ValueError, "shape[1] is -1"),
    ((3, BIG), ValueError, f"shape[1] is {BIG}"),
    ((1,) * 9, ValueError, "shape has 9 dimensions: at most 8"),
    ((3, "4"), TypeError, "shape[1] must be an int, not <class 'str'>"),
    ((3, 4.0), TypeError, "shape[1] must be an int, not <class 'float'>"),
    ((True,), TypeError, "shape[0] must be an int, not <class 'bool'>"),
    (True, TypeError, "shape must be an int, not <class 'bool'>"),
    (None, TypeError, "shape must be a sequence of ints, not <class 'NoneType'>"),
    (3.0, TypeError, "shape must be a sequence of ints, not <class 'float'>"),
    ("34", TypeError, "shape must be a sequence of ints, not <class 'str'>"),
]
TENSOR: list[Wrong] = [
    (5, TypeError, "must be a Buffer, a Tensor or an array over memory of the worker, not <class 'int'>"),
    (None, TypeError, "not <class 'NoneType'>"),
    ("x", TypeError, "not <class 'str'>"),
    ([1.0], TypeError, "not <class 'list'>"),
    (np.zeros(2, np.complex64), TypeError, "has elements of format 'Zf', which is no type of tensors"),
    (np.zeros(2, "M8[s]"), (TypeError, ValueError), ""),  # type: ignore[list-item]
    (np.zeros((1,) * 9, np.float32), ValueError, "has 9 dimensions: at most 8"),
]
CALLABLE: list[Wrong] = [
    (5, TypeError, "callable must be what Worker.register returned, not <class 'int'>"),
    (None, TypeError, "callable must be what Worker.register returned, not <class 'NoneType'>"),
    (print, TypeError, "callable must be what Worker.register returned, not <class 'builtin_function_or_method'>"),
    ("nothing", TypeError, "callable must be what Worker.register returned, not <class 'str'>"),
]
ARGS: list[Wrong] = [
    (5, TypeError, "args must be a TaskArgs, not <class 'int'>"),
    ([1], TypeError, "args must be a TaskArgs, not <class 'list'>"),
    ((), TypeError, "args must be a TaskArgs, not <class 'tuple'>"),
]
CONFIG: list[Wrong] = [
    (5, TypeError, "config must be a CallConfig or None, not <class 'int'>"),
    ({"blocks": 2}, TypeError, "config must be a CallConfig or None, not <class 'dict'>"),
]
AFTER = lists(
    "after",
    "ints",
    ([1.5], TypeError, "after[0] must be an int, not <class 'float'>"),
    ([True], TypeError, "after[0] must be an int, not <class 'bool'>"),
    (["1"], TypeError, "after[0] must be an int, not <class 'str'>"),
    ([0], ValueError, "after[0] is 0"),
    ([-1], ValueError, "after[0] is -1"),
    ([BIG], ValueError, f"after[0] is {BIG}"),
    ([2**64 - 1], ValueError, "after[0]"),
    ([0x7FFF_0000_0001], ValueError, "after[0] is 0x7fff00000001: not a task of this worker"),
)
LIMIT = seconds("limit", (0, ValueError, "limit is 0: a task needs some time"))
BLOCKS = ints("blocks", (1 << 32, ValueError, "blocks is 4294967296"), least=1)
CHIP = ints(
    "chip",
    (2, ValueError, "chip is 2; there are chips 0 to 1"),
    (-1, ValueError, "chip is -1; there are chips 0 to 1"),
    (ts.HOST, ValueError, "chip is -3; there are chips 0 to 1"),
    least=None,
    optional=True,
)
WORKER = [(value, error, text.replace("chip", "worker", 1)) for value, error, text in CHIP]
CHIPS = lists(
    "chips",
    "ints",
    ([], ValueError, "a group of 0 members"),
    ([0, 0], ValueError, "member 1: chip 0 is named twice"),
    ([0, 2], ValueError, "chips[1] is 2"),
    ([-1], ValueError, "chips[0] is -1"),
    ([ts.SUB], ValueError, "chips[0] is -2"),
    ([True], TypeError, "chips[0] must be an int"),
    (["0"], TypeError, "chips[0] must be an int"),
)
WORKERS = [(value, error, text.replace("chips", "workers", 1)) for value, error, text in CHIPS if value != []]
ARGS_LIST = lists(
    "args_list",
    "TaskArgs",
    ([5], TypeError, "args must be a TaskArgs, not <class 'int'>"),
    ([None], TypeError, "args must be a TaskArgs, not <class 'NoneType'>"),
)
PLACE = ints("worker", (2, ValueError, "worker is 2"), (-1, ValueError, "-1; there are chips 0 to 1"), least=-3)
TEXT: list[Wrong] = [
    (5, TypeError, "name must be a str, not <class 'int'>"),
    (None, TypeError, "name must be a str, not <class 'NoneType'>"),
    (b"x", TypeError, "name must be a str, not <class 'bytes'>"),
    ("a\0b", ValueError, "name has a null character"),
    ("\ud800", ValueError, ""),
]
INDEX = ints("index", (3, IndexError, "there is no"))
ACCESS: list[Wrong] = [
    (wrong, ValueError, f"access is {wrong!r}: 'r', 'w' or 'rw'") for wrong in ("", "R", "wr", "x", None, 1, b"r")
]
TIMEOUT = seconds("timeout")
FUNCTION: list[Wrong] = [
    (5, TypeError, "function must be callable, not <class 'int'>"),
    (None, TypeError, "function must be callable, not <class 'NoneType'>"),
    ("f", TypeError, "function must be callable, not <class 'str'>"),
]
SIZE_OPTION = [
    (0, ValueError, "is 0"),
    (-1, ValueError, "is -1"),
    (BIG, ValueError, f"is {BIG}"),
    (1.5, TypeError, "must be an int, not <class 'float'>"),
    ("1", TypeError, "must be an int, not <class 'str'>"),
    (True, TypeError, "must be an int, not <class 'bool'>"),
]
NAMES: list[Wrong] = [
    (5, TypeError, "preload must be a sequence of names of modules, not 5"),
    ("numpy", TypeError, "preload must be a sequence of names of modules, not 'numpy'"),
    ([5], TypeError, "preload must be a sequence of names of modules, not [5]"),
    (None, TypeError, "preload must be a sequence of names of modules, not None"),
]


class Things(types.SimpleNamespace):
    """What good arguments are made of."""


# Name of the call; how it is made of things; good arguments by name, made of them; wrong ones for each.
Entry = tuple[Callable[[Any], Callable[..., Any]], Callable[[Any], dict[str, Any]], dict[str, list[Wrong]]]

TABLE: dict[str, Entry] = {
    "Worker": (
        lambda t: ts.Worker,
        lambda t: {},
        {
            "chips": ints("chips", (1025, ValueError, "chips is 1025"), least=1, optional=True),
            "subs": ints("subs", (1025, ValueError, "subs is 1025"), optional=True),
            "level": [
                (2, ValueError, "level is 2: only 3"),
                (4, ValueError, "level is 4: only 3"),
                (3.0, TypeError, "level must be an int, not <class 'float'>"),
                (True, TypeError, "level must be an int, not <class 'bool'>"),
                ("3", TypeError, "level must be an int, not <class 'str'>"),
                (None, TypeError, "level must be an int, not <class 'NoneType'>"),
            ],
            "device_ids": [
                (5, TypeError, "device_ids must be a sequence of ints, not <class 'int'>"),
                ("01", TypeError, "device_ids must be a sequence of ints, not <class 'str'>"),
                ([], ValueError, "device_ids is empty"),
                ([0, 0], ValueError, "device_ids[1] is 0, for the second time"),
                ([-1], ValueError, "device_ids[0] is -1"),
                ([0, True], TypeError, "device_ids[1] must be an int, not <class 'bool'>"),
                (["0"], TypeError, "device_ids[0] must be an int, not <class 'str'>"),
                (range(1025), ValueError, "chips is 1025"),
            ],
            "num_sub_workers": [
                (-1, ValueError, "subs is -1"),
                ("1", TypeError, "subs must be an int"),
                (True, TypeError, "subs must be an int"),
            ],
            "heap_ring_size": SIZE_OPTION,
            "start_method": [
                ("forkserver", ValueError, "start_method is 'forkserver': 'fork' or 'spawn'"),
                ("", ValueError, "start_method is ''"),
                (0, TypeError, "start_method is 0: 'fork' or 'spawn'"),
                (True, TypeError, "start_method is True"),
            ],
            "backend": [
                ("cuda", NotImplementedError, "backend 'cuda' is not in this build; it has: sim"),
                ("", NotImplementedError, "backend ''"),
                (5, TypeError, "backend must be a str, not <class 'int'>"),
            ],
            "pin": [
                ("cores", ValueError, "pin is 'cores': 'none', 'core' or 'numa'"),
                (1, TypeError, "pin is 1"),
            ],
            "heap_size": [*SIZE_OPTION, (1 << 60, ValueError, "heap_size is 1152921504606846976: at most")],
            "host_size": [*SIZE_OPTION, (1 << 60, ValueError, "host_size is 1152921504606846976: at most")],
            "ring_size": [
                *SIZE_OPTION,
                (1000, ValueError, "ring_size is 1000: a power of two, 256 KiB to 1 GiB"),
                (300000, ValueError, "ring_size is 300000: a power of two"),
                (1 << 31, ValueError, "ring_size is 2147483648"),
            ],
            "lease_size": [*SIZE_OPTION, (1 << 60, ValueError, "lease_size is 1152921504606846976")],
            "arena_size": [*SIZE_OPTION, (1 << 60, ValueError, "arena_size is 1152921504606846976")],
            "start_timeout": seconds("start_timeout"),
            "close_timeout": seconds("close_timeout"),
            "preload": NAMES,
        },
    ),
    "Worker.register": (
        lambda t: t.w.register,
        lambda t: {"target": print},
        {
            "target": [
                (5, TypeError, "target must be 'path:symbol' or a function, not <class 'int'>"),
                (None, TypeError, "target must be 'path:symbol' or a function, not <class 'NoneType'>"),
                (b"a:b", TypeError, "target must be 'path:symbol' or a function, not <class 'bytes'>"),
                ("symbol", ValueError, "target is 'symbol'"),
                ("", ValueError, "target is ''"),
                (":symbol", ValueError, "target is ':symbol'"),
                ("path:", ValueError, "target is 'path:'"),
                ("/no/such.so:f", LookupError, "/no/such.so: cannot open shared object file"),
                ("a\0b:f", ValueError, "null"),
                ("a:f\0g", ValueError, "null"),
            ],
            "name": [
                (5, TypeError, "name must be a str, not <class 'int'>"),
                (b"x", TypeError, "name must be a str, not <class 'bytes'>"),
                ("a\0b", ValueError, "name has a null character"),
                ("\ud800", ValueError, ""),
            ],
        },
    ),
    "Worker.unregister": (
        lambda t: t.w.unregister,
        lambda t: {"callable": t.w.register(print)},
        {
            "callable": [
                (5, TypeError, "callable must be what register returned"),
                (print, TypeError, "callable must be"),
            ]
        },
    ),
    "Worker.buffer": (
        lambda t: t.w.buffer,
        lambda t: {"shape": 3},
        {"shape": [*SHAPE, ((1 << 40, 1 << 40), ValueError, "shape[1] is 1099511627776")], "dtype": DTYPE},
    ),
    "Worker.host_wait": (
        lambda t: t.w.host_wait,
        lambda t: {"tensor": t.x},
        {"tensor": [*TENSOR, (np.zeros(3), ValueError, "is not memory of this worker")], "access": ACCESS},
    ),
    "Worker.run": (
        lambda t: t.w.run,
        lambda t: {"function": lambda *a: None},
        {
            "function": FUNCTION,
            "args": ANY,
            "config": ANY,
            "progress": [
                (-1, ValueError, "progress is -1"),
                (1.5, (TypeError, ValueError), "progress is 1.5"),  # type: ignore[list-item]
                ("yes", (TypeError, ValueError), "progress is 'yes'"),  # type: ignore[list-item]
            ],
        },
    ),
    "Worker.submit": (
        lambda t: t.w.submit,
        lambda t: {"function": lambda *a: None},
        {"function": FUNCTION, "args": ANY, "config": ANY},
    ),
    "Worker.pid": (
        lambda t: t.w.pid,
        lambda t: {"place": 0},
        {"place": ints("place", (3, ValueError, "place is 3"))},
    ),
    "RunHandle.wait": (lambda t: t.handle.wait, lambda t: {}, {"timeout": TIMEOUT}),
    "RunHandle.result": (lambda t: t.handle.result, lambda t: {}, {"timeout": TIMEOUT}),
    "RunHandle.cancel": (lambda t: t.handle.cancel, lambda t: {}, {"grace": seconds("grace")}),
    "Tensor": (
        lambda t: ts.Tensor,
        lambda t: {"data": 64, "shape": 3},
        {
            "data": ints("data", least=None),
            "shape": [*SHAPE, ((1 << 40, 1 << 40), ValueError, "shape[1] is 1099511627776")],
            "dtype": DTYPE,
            "strides": [
                ((1, 2), ValueError, "strides has 2 numbers, shape 1"),
                (4, TypeError, "strides must be a sequence of ints, not <class 'int'>"),
                ((1.0,), TypeError, "strides[0] must be an int"),
                ((BIG,), ValueError, f"strides[0] is {BIG}"),
            ],
        },
    ),
    "Tensor.reshape": (
        lambda t: lambda shape: t.x.reshape(shape),
        lambda t: {"shape": (2, 2)},
        {
            "shape": [
                *[w for w in SHAPE if not isinstance(w[0], int)],
                (-1, ValueError, "] is -1"),
                (BIG, ValueError, f"] is {BIG}"),
                (True, TypeError, "must be an int, not <class 'bool'>"),
                (5, ValueError, "shape has 5 elements, the tensor 4"),
            ]
        },
    ),
    "empty": (
        lambda t: ts.empty,
        lambda t: {"shape": 3},
        {"shape": [*SHAPE, ((1 << 40, 1 << 40), ValueError, "shape[1] is 1099511627776")], "dtype": DTYPE},
    ),
    "each": (lambda t: ts.each, lambda t: {"values": [1]}, {"values": lists("values", "one for each member")}),
    "CallConfig": (lambda t: ts.CallConfig, lambda t: {}, {"blocks": BLOCKS, "limit": LIMIT}),
    "CommBufferSpec": (
        lambda t: ts.CommBufferSpec,
        lambda t: {"name": "a"},
        {
            "name": TEXT,
            "dtype": OPTIONAL_DTYPE,
            "count": ints("count", optional=True),
            "nbytes": ints("nbytes", optional=True),
            "align": ints("align", optional=True),
        },
    ),
    "TaskArgs.add_tensor": (
        lambda t: t.args.add_tensor,
        lambda t: {"tensor": t.x},
        {
            "tensor": [*TENSOR, (ts.out(ts.Tensor(0, 1)), TypeError, "not <class 'transom.Tagged'>")],
            "tag": ints("tag", (6, ValueError, "tag is 6"), least=1),
        },
    ),
    "TaskArgs.add_scalar": (
        lambda t: t.args.add_scalar,
        lambda t: {"value": 5},
        {
            "value": [
                ("5", TypeError, "value must be a number, not <class 'str'>"),
                (None, TypeError, "value must be a number, not <class 'NoneType'>"),
                (1j, TypeError, "value must be a number, not <class 'complex'>"),
                ([5], TypeError, "value must be a number, not <class 'list'>"),
                (2**64, ValueError, "is 18446744073709551616: it does not fit 64 bits"),
                (-(2**63) - 1, ValueError, "is -9223372036854775809: it does not fit 64 bits"),
                (np.zeros(3), TypeError, ""),
            ],
            "dtype": [*OPTIONAL_DTYPE, ("float16", ValueError, "32 or 64 bits"), ("bf16", ValueError, "32 or 64 bits")],
        },
    ),
    "TaskArgs.add_domain": (
        lambda t: t.args.add_domain,
        lambda t: {"domain": t.domain},
        {"domain": [(w, TypeError, "domain must be a CommDomainHandle, not") for w in (5, None, "tp")]},
    ),
    "TaskArgs.add_object": (
        lambda t: t.args.add_object,
        lambda t: {"value": [1]},
        {"value": [(ts.Tensor(0, 1), TypeError, "cannot pickle 'transom.Tensor' object")]},
    ),
    "TaskArgs.tensor": (lambda t: t.full_args.tensor, lambda t: {"index": 0}, {"index": INDEX}),
    "TaskArgs.scalar": (lambda t: t.full_args.scalar, lambda t: {"index": 0}, {"index": INDEX}),
    "CommDomainHandle.tensor": (
        lambda t: t.domain.tensor,
        lambda t: {"rank": 0},
        {
            "rank": ints("rank", (2, ValueError, "rank")),
            "buffer": [
                (5, TypeError, "buffer must be a str, not <class 'int'>"),
                (b"b", TypeError, "buffer must be a str, not <class 'bytes'>"),
                ("nope", LookupError, "nope"),
                ("b\0", ValueError, "buffer has a null character"),
            ],
            "first": ints("first", (1 << 40, ValueError, "1099511627776")),
            "count": ints("count", (1 << 40, ValueError, "1099511627776"), optional=True),
        },
    ),
    "CommDomainHandle.__getitem__": (
        lambda t: t.domain.__getitem__,
        lambda t: {"chip": 0},
        {
            "chip": [
                *[w for w in ints("chip", least=None) if w[1] is TypeError],
                (2, KeyError, "2"),
                (-1, KeyError, "-1"),
                (BIG, (KeyError, ValueError), str(BIG)),  # type: ignore[list-item]
            ]
        },
    ),
    "Orchestrator.submit": (
        lambda t: lambda callable, args=(), **options: t.orch.submit(callable, *args, **options),
        lambda t: {"callable": t.f},
        {
            "callable": CALLABLE,
            "args": [
                (("text",), TypeError, "argument 0 is an object: 'nothing' is a function of C"),
                ((1, None), TypeError, "argument 1 is an object"),
                ((1, 2**64), ValueError, "is 18446744073709551616: it does not fit 64 bits"),
                (
                    (ts.out(5),),
                    TypeError,
                    "argument 0 must be a Buffer, a Tensor or an array over memory of the worker",
                ),
                ((1, ts.inout(None)), TypeError, "argument 1 must be a Buffer, a Tensor or an array"),
                ((ts.out(ts.out(1)),), TypeError, "argument 0 must be a Buffer, a Tensor or an array"),
                ((ts.Tensor(0, 3),), ValueError, "tensor 0: data is NULL"),
                ((ts.Tensor(64, 3),), ValueError, "tensor 0: 0x40 is not memory of this worker"),
                ((np.zeros(3),), ValueError, "tensor 0: 0x"),
                ((ts.empty(3),), ValueError, "tensor 0: data is NULL"),
                ((ts.each([1, 2]),), TypeError, "argument 0 is each(...), which is for submit_group"),
            ],
            "chip": CHIP,
            "after": AFTER,
            "blocks": BLOCKS,
            "limit": LIMIT,
        },
    ),
    "Orchestrator.submit_group": (
        lambda t: lambda callable, args=(), **options: t.orch.submit_group(callable, *args, **options),
        lambda t: {"callable": t.f, "chips": [0, 1]},
        {
            "callable": CALLABLE,
            "args": [
                ((ts.each([1]),), ValueError, "argument 0 has 1 values for 2 members"),
                ((1, ts.each([1, 2, 3])), ValueError, "argument 1 has 3 values for 2 members"),
                ((ts.each([1, "a"]),), TypeError, "argument 0 is an object"),
                ((ts.each([1, ts.each([1, 2])]),), TypeError, "argument 0 is each(...)"),
                ((ts.each([1, ts.Tensor(64, 1)]),), ValueError, "tensor 0: 0x40 is not memory of this worker"),
            ],
            "chips": CHIPS,
            "after": AFTER,
            "blocks": BLOCKS,
            "limit": LIMIT,
        },
    ),
    "Orchestrator.submit_next_level": (
        lambda t: t.orch.submit_next_level,
        lambda t: {"callable": t.f},
        {"callable": CALLABLE, "args": ARGS, "config": CONFIG, "worker": WORKER, "after": AFTER},
    ),
    "Orchestrator.submit_next_level_group": (
        lambda t: t.orch.submit_next_level_group,
        lambda t: {"callable": t.f, "args_list": [ts.TaskArgs(), ts.TaskArgs()], "workers": [0, 1]},
        {
            "callable": CALLABLE,
            "args_list": [*ARGS_LIST, ([], ValueError, "args_list has 0 members, workers 2")],
            "config": CONFIG,
            "workers": [
                *[w for w in WORKERS if w[0] not in ([0, 2], [-1], [ts.SUB])],
                ([0, 2], ValueError, "workers[1] is 2"),
                ([0], ValueError, "args_list has 2 members, workers 1"),
            ],
            "after": AFTER,
        },
    ),
    "Orchestrator.submit_sub": (
        lambda t: t.orch.submit_sub,
        lambda t: {"callable": t.f},
        {"callable": CALLABLE, "args": ARGS, "after": AFTER},
    ),
    "Orchestrator.submit_sub_group": (
        lambda t: t.orch.submit_sub_group,
        lambda t: {"callable": t.f, "args_list": [ts.TaskArgs()]},
        {
            "callable": CALLABLE,
            "args_list": [
                *ARGS_LIST,
                ([], ValueError, "a group of 0 members"),
                ([ts.TaskArgs()] * 2, ValueError, "a group of 2 sub tasks, but there are 1 sub workers"),
            ],
            "after": AFTER,
        },
    ),
    "Orchestrator.allocate_domain": (
        lambda t: t.orch.allocate_domain,
        lambda t: {"name": f"d{len(t.w.live_domains)}", "workers": [0, 1], "window_size": 64},
        {
            "name": [*TEXT, ("", ValueError, "name is empty"), ("live", ValueError, "a domain named 'live' is live")],
            "workers": lists(
                "workers", "ints", ([], ValueError, "workers is empty"), ([2], ValueError, "workers[0] is 2")
            ),
            "window_size": ints("window_size", least=1),
            "buffers": lists("buffers", "CommBufferSpecs", ([5], TypeError, "buffers[0] must be a CommBufferSpec")),
            "keep": ANY,  # any truth
        },
    ),
    "Orchestrator.release_domain": (
        lambda t: t.orch.release_domain,
        lambda t: {"domain": t.spare},
        {"domain": [(w, TypeError, "domain must be a CommDomainHandle, not") for w in (5, None, "tp")]},
    ),
    "Orchestrator.alloc": (
        lambda t: t.orch.alloc,
        lambda t: {"shape": 3},
        {
            "shape": [
                *SHAPE,
                (1 << 47, ValueError, "shape[0] is 140737488355328: too large"),
                (1 << 43, MemoryError, "35184372088832 bytes asked"),
            ],
            "dtype": DTYPE,
            "chip": [*CHIP, (ts.SUB, ValueError, "chip is -2; there are chips 0 to 1")],
        },
    ),
    "Orchestrator.malloc": (
        lambda t: t.orch.malloc,
        lambda t: {"worker": 0, "size": 8},
        {"worker": PLACE, "size": ints("size", (1 << 50, MemoryError, "1125899906842624 bytes asked"), least=1)},
    ),
    "Orchestrator.free": (
        lambda t: t.orch.free,
        lambda t: {"worker": 0, "data": t.orch.malloc(0, 8)},
        {"worker": PLACE, "data": ints("data", (0, ValueError, "is not in the memory"), least=None)},
    ),
    "Orchestrator.copy_to": (
        lambda t: t.orch.copy_to,
        lambda t: {"worker": ts.HOST, "dst": t.x, "src": bytes(16)},
        {
            "worker": PLACE,
            "dst": [
                (None, TypeError, "bytes-like"),
                ("x", TypeError, "bytes-like"),
                (BIG, ValueError, f"dst is {BIG}"),
            ],
            "src": [
                (None, TypeError, "bytes-like"),
                (1.5, TypeError, "bytes-like"),
                (BIG, ValueError, f"src is {BIG}"),
                (b"1", ValueError, "src has 1 bytes, dst 16"),
                (0, ValueError, "NULL"),
            ],
            "size": ints("size", (17, ValueError, "size is 17, but"), optional=True),
        },
    ),
    "Orchestrator.copy_from": (
        lambda t: t.orch.copy_from,
        lambda t: {"worker": ts.HOST, "dst": bytearray(16), "src": t.x},
        {
            "worker": PLACE,
            "dst": [
                (None, TypeError, "bytes-like"),
                (bytes(16), BufferError, "not writable"),
                (bytearray(1), ValueError, "src has 16 bytes, dst 1"),
                (0, ValueError, "NULL"),
            ],
            "src": [
                (None, TypeError, "bytes-like"),
                (np.zeros(4, np.float32), ValueError, "is not memory of this worker"),
            ],
            "size": ints("size", (17, ValueError, "size is 17, but"), optional=True),
        },
    ),
    "Orchestrator.host_wait": (
        lambda t: t.orch.host_wait,
        lambda t: {"tensor": t.x},
        {"tensor": TENSOR, "access": ACCESS},
    ),
}

# What takes anything and says later what it thinks of it.
FREE = {"out", "inout", "nodep", "CommDomainHandle.__contains__"}


@pytest.fixture(scope="module")
def things(kernels: str) -> Iterator[Things]:
    with ts.Worker(2, 1, start_method="fork") as w:
        t = Things(w=w, x=w.buffer(4), f=w.register(f"{kernels}:nothing"), args=ts.TaskArgs(), full_args=ts.TaskArgs())
        w.run(lambda orch, a, c: setattr(t, "domain", orch.allocate_domain("live", [0, 1], 64, [SPEC], keep=True)))
        for i in range(3):
            t.full_args.add_tensor(t.x)
            t.full_args.add_scalar(i)
        t.handle = w.submit(lambda *a: None)
        yield t


SPEC = ts.CommBufferSpec("b", "uint8", 64)


def outcome_of(call: Callable[..., Any], arguments: dict[str, Any], positional: bool) -> str | BaseException:
    try:
        return f"returned {call(*arguments.values()) if positional else call(**arguments)!r}"
    except BaseException as error:
        return error


@pytest.mark.parametrize("name", TABLE)
def test_wrong_value_is_refused_by_name_and_nothing_is_lost(things: Things, name: str) -> None:
    make, good, wrong = TABLE[name]
    w = things.w
    positional = name in ("Worker.unregister", "Worker.pid", "each", "CommDomainHandle.__getitem__") or name.startswith(
        ("TaskArgs.add_domain", "TaskArgs.add_object", "TaskArgs.tensor", "TaskArgs.scalar", "Orchestrator.release")
    )
    failures: list[str] = []

    def check(orch: Any, args: Any, config: Any) -> None:
        things.orch = orch
        if orch is not None:
            things.spare = orch.allocate_domain("spare", [0], 64)
        call = make(things)
        before = w.stats()
        for parameter, values in wrong.items():
            for value, error, text in values:
                found = outcome_of(call, good(things) | {parameter: value}, positional)
                if not isinstance(found, error) or text not in str(found):
                    said = found if isinstance(found, str) else f"raised {found!r}"
                    failures.append(f"{parameter}={value!r:.60} {said}, not {error}: {text}")
        after = w.stats()
        if name != "Orchestrator.free":
            for fact in ("tasks", "domains_live", "heap_bytes"):
                if after[fact] != before[fact]:
                    failures.append(f"{fact} was {before[fact]}, is {after[fact]}")
        things.args.clear()
        found = outcome_of(call, good(things), positional)
        if isinstance(found, BaseException):
            failures.append(f"good arguments raised {found!r}")

    if name.startswith("Orchestrator."):
        w.run(check)
    else:
        check(None, None, None)
    assert not failures, "\n".join(failures)
    check_works(w)


@pytest.mark.parametrize("name", TABLE)
def test_missing_or_unknown_arguments_are_a_type_error_by_name(things: Things, name: str) -> None:
    make, good, wrong = TABLE[name]
    failures: list[str] = []

    def check(orch: Any, args: Any, config: Any) -> None:
        things.orch = orch
        if orch is not None:
            things.spare = orch.allocate_domain("spare", [0], 64)
        call, arguments = make(things), good(things)
        if "lambda" in getattr(call, "__name__", ""):
            return  # not the call itself
        for parameter in arguments:
            rest = {key: value for key, value in arguments.items() if key != parameter}
            found = outcome_of(call, rest, False)
            if not isinstance(found, TypeError):
                failures.append(f"without {parameter}: {found!r}")
        found = outcome_of(call, arguments | {"no_such_argument": 1}, False)
        if not isinstance(found, TypeError) or not ("no_such_argument" in str(found) or "keyword" in str(found)):
            failures.append(f"with no_such_argument: {found!r}")
        found = outcome_of(call, {str(i): None for i in range(40)}, True)
        if not isinstance(found, TypeError):
            failures.append(f"with 40 arguments: {found!r}")

    if name.startswith("Orchestrator."):
        things.w.run(check)
    else:
        check(None, None, None)
    assert not failures, "\n".join(failures)


def parameters_of(function: ast.FunctionDef) -> set[str]:
    a = function.args
    names = {arg.arg for arg in [*a.posonlyargs, *a.args, *a.kwonlyargs, *([a.vararg] if a.vararg else [])]}
    return names - {"self", "cls"}


def test_table_has_every_parameter_of_every_call_of_the_programs_side() -> None:
    stub = ast.parse(pathlib.Path(inspect.getfile(ts)).with_name("_core.pyi").read_text())
    expected: dict[str, set[str]] = {}
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            expected[node.name] = parameters_of(node)
        elif isinstance(node, ast.ClassDef) and node.name not in ("Task", "Domain", "Scope"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and parameters_of(method):
                    name = node.name if method.name == "__new__" else f"{node.name}.{method.name}"
                    expected.setdefault(name, set()).update(parameters_of(method))
    for name in list(expected):
        last = name.rpartition(".")[2]
        if last in ("__exit__", "__buffer__", "__dlpack__", "__init__") or (last.startswith("_") and last[1] != "_"):
            del expected[name]
        elif name.startswith("Buffer.") or name == "Tensor.__getitem__":
            del expected[name]  # of Tensor; test_tensor.py
    for public in (ts.Worker, ts.Worker.register, ts.Worker.run):
        name = public.__qualname__
        signature = inspect.signature(public)
        expected[name] = set(signature.parameters) - {"self"}
    missing = {
        name: parameters - set(TABLE[name][2] if name in TABLE else ())
        for name, parameters in expected.items()
        if name not in FREE and parameters - set(TABLE[name][2] if name in TABLE else ())
    }
    assert not missing
    assert not set(TABLE) - set(expected)


def test_out_inout_and_nodep_say_at_submit_what_is_wrong_with_a_tensor(things: Things) -> None:
    for make in (ts.out, ts.inout, ts.nodep):
        with pytest.raises(TypeError):
            make()  # type: ignore[call-arg]
        for wrong in (5, None, "x", [1.0]):
            tagged = make(wrong)
            with pytest.raises(TypeError, match="argument 1 must be a Buffer, a Tensor or an array"):
                things.w.run(lambda orch, a, c, tagged=tagged: orch.submit(things.f, 1, tagged))


def test_exception_of_an_argument_of_the_users_own_comes_out(things: Things) -> None:
    """Of an iterator, of an index, of a comparison: it is not hidden by a text about types."""

    class Trouble(Exception):
        pass

    def broken() -> Iterator[int]:
        yield 0
        raise Trouble("of the iterator")

    class Index:
        def __index__(self) -> int:
            raise Trouble("of the index")

    class Text:
        def __str__(self) -> str:
            raise Trouble("of the text")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for call in (
            lambda: orch.submit(things.f, after=broken()),
            lambda: orch.submit_group(things.f, chips=broken()),
            lambda: orch.allocate_domain("d", broken(), 64),
            lambda: orch.allocate_domain("d", [0], 64, broken()),
            lambda: orch.submit_sub_group(things.f, broken()),
            lambda: things.w.buffer(broken()),
            lambda: ts.each(broken()),
            lambda: things.w.buffer(Index()),
            lambda: ts.empty(Index()),
            lambda: things.w.buffer((3, Index())),
            lambda: orch.malloc(0, Index()),
            lambda: orch.submit(things.f, chip=Index()),
            lambda: orch.submit(things.f, after=[Index()]),
            lambda: things.w.buffer(3, Text()),
            lambda: things.domain[Index()],
        ):
            with pytest.raises(Trouble):
                call()

    things.w.run(orchestrate)
    check_works(things.w)

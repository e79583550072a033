# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Python in the processes of a worker: pickles, the exceptions of tasks, and the keeper as a program.

The C part calls what is in here in chips and sub workers; the program uses `dumps` and `load_exception`.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import importlib
import inspect
import io
import json
import pickle
import signal
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from transom._errors import TaskError

FAIL_DATA_MAX = 32768
"""Bytes of an exception on its way to the program (TSM_FAIL_DATA_MAX)."""

_TEXT_MIN = 4096  # of which at least so many are for its traceback
_DETAIL_MAX = 1000  # bytes of an argument or attribute of an exception that is too large as a whole

# ---- pickles ----

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_by_value: Callable[[Any], bytes] | None = None


def _cloudpickle() -> Callable[[Any], bytes] | None:
    """What pickles functions and classes by value: the cloudpickle that is installed, else the copy in the package."""
    global _by_value
    if _by_value is None:
        for name in ("cloudpickle", "transom._vendor.cloudpickle"):
            with contextlib.suppress(ImportError):
                _by_value = _with_files(importlib.import_module(name))
                break
    return _by_value


def _with_files(module: Any) -> Callable[[Any], bytes]:
    """cloudpickle.dumps, but functions know their files: it forgets them, and tracebacks would have no lines."""
    reduce = module.Pickler.dispatch_table[types.CodeType]

    def reduce_code(code: types.CodeType) -> tuple[Any, ...]:
        make, args = reduce(code)[:2]
        return make, tuple(code.co_filename if a == "<dynamic-code>" else a for a in args)

    table = collections.ChainMap({types.CodeType: reduce_code}, module.Pickler.dispatch_table)
    pickler = type("Pickler", (module.Pickler,), {"dispatch_table": table})

    def dump(value: Any) -> bytes:
        with io.BytesIO() as file:
            pickler(file).dump(value)
            return file.getvalue()

    return dump


def dumps(value: Any) -> bytes:
    """Pickles anything for the other processes of a worker; functions and classes of `__main__` by value.

    Raises:
        TypeError: what cannot be pickled without cloudpickle, which is not there.
        Exception: what the object's own pickling raises.
    """
    if type(value) in _PLAIN:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    by_value = _cloudpickle()
    if by_value is not None:
        return by_value(value)
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        why = f"{value!r} cannot be pickled ({error}): install cloudpickle, which can pickle functions"
        raise TypeError(why) from error
    if getattr(value, "__module__", None) == "__main__":
        raise TypeError(f"{value!r} is of __main__, which other processes do not have: install cloudpickle")
    return data


def loads(data: bytes) -> Any:
    """What `dumps` pickled."""
    return pickle.loads(data)


# ---- functions of tasks ----


def load(data: bytes) -> Callable[..., Any]:
    """The function of a callable.

    Raises:
        TypeError: it is no function.
    """
    function = loads(data)
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called")
    return function  # type: ignore[no-any-return]


def takes_task_only(function: Callable[..., Any]) -> bool:
    """Whether the function takes exactly one argument by position: the task. Then it is called without the others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) == 1


# ---- exceptions of tasks ----


class RemoteTraceback(Exception):
    """The traceback that an exception had in its task, as text: the cause of that exception in the program."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "<its text cannot be had>"


def describe(error: BaseException | None) -> str:
    """One line: the type of an exception and the first line of its text. Never raises."""
    if error is None:
        return "an exception that is not there"
    name = type(error).__qualname__
    if type(error).__module__ not in ("builtins", "__main__"):
        name = f"{type(error).__module__}.{name}"
    lines = _text_of(error).splitlines()
    return f"{name}: {lines[0]}"[:400] if lines and lines[0] else name[:400]


def _trace(error: BaseException) -> bytes:
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        text = describe(error) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _cut(text: bytes, most: int) -> bytes:
    """The begin and the end of a text."""
    if len(text) <= most:
        return text
    gap = f"\n  ... {len(text) - most} bytes left out ...\n".encode()
    half = max(0, (most - len(gap) - 16) // 2)
    return text[:half] + gap + text[len(text) - half :]


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception as it was, without calling the constructor of its class."""
    base = next(b for b in cls.__mro__ if b.__module__ == "builtins")
    error: BaseException = base.__new__(cls, *args)
    base.__init__(error, *args)  # type: ignore[misc]
    error.__dict__.update(state)
    return error


class _Parts:
    """Pickles as what `_rebuild` makes of it. most: bytes of an argument or an attribute; None: any number."""

    def __init__(self, error: BaseException, most: int | None) -> None:
        self.type = type(error)
        self.args = tuple(_part(a, most) for a in error.args)
        self.state = {k: v for k, v in error.__dict__.items() if _fits(v, most)}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.type, self.args, self.state)


def _part(value: Any, most: int | None) -> Any:
    """An argument of an exception, or what can be pickled instead."""
    if isinstance(value, BaseException):
        return _Parts(value, most)
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, BaseException) for v in value):
        return [_Parts(v, most) for v in value]  # of a group
    if _fits(value, most):
        return value
    try:
        text = str(value)
    except BaseException:
        text = f"<{type(value).__qualname__}>"
    return text if most is None or len(text) <= most else f"{text[: most // 2]} ... {text[-(most // 4) :]}"


def _fits(value: Any, most: int | None) -> bool:
    """Whether a value can be pickled and come out again, in at most so many bytes."""
    try:
        data = dumps(value)
        loads(data)
    except BaseException:
        return False
    return most is None or len(data) <= most


def _pickled(value: Any, cls: type[BaseException], text: str | None) -> bytes:
    """The pickle of an exception, or b"" when another class or text comes out of it. text None: any."""
    for how in (pickle.dumps, dumps):  # by name first: that gives the program its own class
        try:
            data = how(value)
            copy = loads(data)
        except BaseException:
            continue
        if type(copy) is cls and (text is None or _text_of(copy) == text):
            return data
    return b""


def _pickle_exception(error: BaseException, most: int) -> bytes:
    """An exception in at most so many bytes, with as little changed as can be; b"" when there is no way."""
    if not isinstance(error, Exception):
        return b""  # what would end the program: SystemExit, KeyboardInterrupt
    cls, text = type(error), _text_of(error)
    data = _pickled(error, cls, text) or _pickled(_Parts(error, None), cls, text)
    for detail in (None, _DETAIL_MAX, _DETAIL_MAX // 8):
        if data and len(data) <= most:
            return data
        data = _pickled(_Parts(error, detail), cls, None)
    return data if len(data) <= most else b""


def dump_exception(error: BaseException) -> bytes | None:
    """An exception of a task for the program, in at most FAIL_DATA_MAX bytes; `load_exception` reads it.

    It keeps type, arguments and attributes (`__notes__` too); what cannot be pickled, or is too large, becomes text or
    is left out. The traceback goes as text, with the exceptions that it came of.
    """
    try:
        text = _trace(error)
        line = describe(error).encode("utf-8", "backslashreplace")
        most = FAIL_DATA_MAX - len(line) - 256
        data = _pickle_exception(error, most - min(len(text), _TEXT_MIN))
        return pickle.dumps((data, line, _cut(text, most - len(data))), pickle.HIGHEST_PROTOCOL)
    except BaseException:
        return None


def load_exception(data: bytes) -> BaseException:
    """What a task raised, with the text of its traceback as the cause. Never raises.

    A TaskError with the text comes instead of what could not be pickled and of what is no Exception (SystemExit,
    KeyboardInterrupt: a task does not end the program).
    """
    try:
        pickled, line, text = pickle.loads(data)
        line, text = line.decode("utf-8", "replace"), text.decode("utf-8", "replace")
    except BaseException as error:
        return TaskError(f"the exception of a task cannot be read: {describe(error)}")
    result: BaseException | None = None
    if pickled:
        try:
            result = loads(pickled)
        except BaseException as error:
            text += f"\nIt cannot be made again here: {describe(error)}\n"
    if not isinstance(result, BaseException):
        result = TaskError(line)
        result.code = "TSM_ETASK_FAILED"
    result.__cause__ = RemoteTraceback(text)
    return result


# ---- processes ----


def begin() -> None:
    """At the begin of a chip or sub worker process.

    Lines of output come out as they are written, and whole (with PYTHONUNBUFFERED, too). NumPy's random numbers are
    not the same in each process, as Python's own are not: what was seeded before the worker's start does not count.
    """
    with contextlib.suppress(Exception):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):
            random.seed()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def keeper_main() -> None:
    """The keeper of start method spawn: python -c CODE JSON TEXT BACKEND, where CODE calls this.

    JSON has the program's module path ("path"), which CODE has set, and what to import before the children are forked
    ("preload"). TEXT and BACKEND come from the library.
    """
    from transom import _core

    given = json.loads(sys.argv[1])
    arguments = ["transom-keeper", *sys.argv[2:]]
    sys.argv[1:] = []
    _cloudpickle()  # functions that came by value need it in every child
    for name in given["preload"]:
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what the children share with the keeper stays shared
    sys.exit(_core._keeper_main(arguments))

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The worker as programs use it: its options by name, registering functions, with statement, progress."""

from __future__ import annotations

import atexit
import json
import os
import sys
import warnings
import weakref
from collections.abc import Callable as PyCallable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from . import _child, _core
from ._errors import ClosedError
from ._progress import Progress

_T = TypeVar("_T")
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_open: weakref.WeakSet[Worker] = weakref.WeakSet()


class Worker(_core.Worker):
    """n chips, m sub workers, and what drives them.

    Args:
        chips: number of chips, 1 to 1024.
        subs: number of sub workers, 0 to 1024: host processes whose tasks go to whichever is free.
        level: 3, the only one for now.
        device_ids: the device of each chip, instead of `chips`; `sim` has none and only counts them.
        num_sub_workers: another name of `subs`.
        heap_ring_size: bytes of memory of one chip (1 GiB); another name of `heap_size`. Address space until touched.
        start_method: "spawn" (default): fresh processes, safe under threads and BLAS; "fork": the chips inherit this
            process, so that everything registered before init() just works; refused when the process has other threads.
        backend: "sim".
        pin: "none", "core" or "numa"; needs hwloc.
        host_size: bytes for buffers and for what sub workers allocate (4 GiB); address space until touched.
        ring_size: bytes of task records in flight to one chip (256 KiB, a power of two).
        lease_size: memory budget of domain windows (half of the memory limit).
        arena_size: the whole shared address range (what the other sizes need).
        start_timeout, close_timeout: seconds (30): until all processes are ready; until close aborts what is in flight.
        preload: modules that the spawned processes import once for all of them; NumPy is, if this program has it.

    The worker is used in a with statement, or with init() and close(). It belongs to the thread that made it.

    Raises:
        ValueError, TypeError: an option is refused; the text names it and its value.
    """

    def __init__(
        self,
        chips: int | None = None,
        subs: int | None = None,
        *,
        level: int = 3,
        device_ids: Sequence[int] | None = None,
        num_sub_workers: int | None = None,
        heap_ring_size: int | None = None,
        start_method: str = "spawn",
        backend: str | None = None,
        pin: str | None = None,
        heap_size: int | None = None,
        host_size: int | None = None,
        ring_size: int | None = None,
        lease_size: int | None = None,
        arena_size: int | None = None,
        start_timeout: float | None = None,
        close_timeout: float | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"level must be an int, not {type(level)!r}")
        if level != 3:
            raise ValueError(f"level is {level}: only 3, chips and sub workers of one host, is there for now")
        self._device_ids = _device_ids(chips, device_ids)
        options = {
            "chips": len(self._device_ids) if device_ids is not None else chips,
            "subs": _either("subs", subs, "num_sub_workers", num_sub_workers),
            "heap_size": _either("heap_size", heap_size, "heap_ring_size", heap_ring_size),
            "backend": backend,
            "start_method": start_method,
            "pin": pin,
            "host_size": host_size,
            "ring_size": ring_size,
            "lease_size": lease_size,
            "arena_size": arena_size,
            "start_timeout": start_timeout,
            "close_timeout": close_timeout,
        }
        super().__init__(options, _keeper_command(preload))
        if device_ids is None:
            self._device_ids = tuple(range(self.chips))

    @property
    def device_ids(self) -> tuple[int, ...]:
        """The device of each chip."""
        return self._device_ids

    # ---- life ----

    def init(self) -> Worker:
        """Starts the processes and returns when all are ready; returns the worker.

        Raises:
            ForkUnsafeError: start method fork in a process with other threads.
            TimeoutError, RuntimeError: a process did not start; nothing is left, and init may be called again.
        """
        with _thread_limits(self.chips + self.subs, self.start_method):
            self._start()
        _open.add(self)
        return self

    def __enter__(self) -> Worker:
        if self.state == "closed":
            raise ClosedError("the worker is closed")
        return self.init() if self.state == "new" else self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if kind is not None and not issubclass(kind, Exception) and self.state == "ready":
            self._cancel()  # Ctrl-C or exit: nobody waits for what is in flight
        self.close()

    def __del__(self) -> None:
        if getattr(self, "state", "new") == "ready":
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return (
            f"<transom.Worker: {self.chips} chip{'s' if self.chips != 1 else ''}, "
            f"{self.subs} sub{'s' if self.subs != 1 else ''}, {self.start_method}, {self.state}>"
        )

    # ---- callables ----

    def register(self, target: str | PyCallable[..., Any], name: str | None = None) -> _core.Callable:
        """Makes something that tasks can run, before or after init.

        Args:
            target: "libkernels.so:partial_sum", a symbol of a shared object; or a function of Python, which is called
                with the Task and then its arguments: arrays of NumPy for tensors, numbers, domains, objects. A function
                of one parameter is called with the Task alone.
            name: shows in errors and traces; the symbol's or the function's own by default.

        Functions travel to the chips' processes by value (cloudpickle) when they, or what they use, are of the script
        itself, are lambdas or closures, and by name when they are of an importable module. With fork and before init
        they are inherited and need not be picklable.

        Raises:
            LookupError: no such object or symbol, or the function cannot be loaded in a chip.
            TypeError: neither a str nor callable; or it cannot be pickled.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name)!r}")
        if isinstance(target, str):
            path, colon, symbol = target.rpartition(":")
            if not colon or not path or not symbol:
                raise ValueError(f"target is {target!r}: expected 'path of a shared object:symbol'")
            if os.path.exists(path):
                path = os.path.abspath(path)
            return self._register_symbol(path, symbol, name or symbol)
        if not callable(target):
            raise TypeError(f"target must be 'path:symbol' or a function, not {type(target)!r}")
        inherited = self.start_method == "fork" and self.state == "new"
        pickled = None if inherited else _child.dumps(target)
        return self._register_python(target, pickled, name or str(getattr(target, "__qualname__", repr(target))))

    # ---- runs ----

    def run(
        self,
        function: PyCallable[[_core.Orchestrator, Any, Any], _T],
        args: Any = None,
        config: Any = None,
        *,
        progress: bool | int = False,
    ) -> _T:
        """Calls function(orch, args, config) and waits for every task it submitted.

        Args:
            args, config: given to function as they are.
            progress: True shows a bar (tqdm when it is installed) of the tasks that have ended, of those submitted;
                a number is that of the tasks of the run, where it is known before.

        Returns:
            What function returned.

        Raises:
            The first cause, in time: what function raised, the same object; what a task of Python raised, with its own
            type and the traceback as its __cause__; a RunError for what else went wrong. On KeyboardInterrupt the run
            is cancelled, and what still runs a second later loses its process. The worker stays usable.
        """
        if not progress:
            return super().run(function, args, config)
        with Progress(self, progress):
            return super().run(function, args, config)


def _either(name: str, value: Any, other: str, other_value: Any) -> Any:
    if value is not None and other_value is not None:
        raise ValueError(f"{name} is {value!r} and {other} is {other_value!r}: they mean the same, give one of them")
    return value if other_value is None else other_value


def _device_ids(chips: int | None, device_ids: Sequence[int] | None) -> tuple[int, ...]:
    if device_ids is None:
        return ()
    if isinstance(device_ids, (str, bytes)) or not isinstance(device_ids, Iterable):
        raise TypeError(f"device_ids must be a sequence of ints, not {type(device_ids)!r}")
    ids = tuple(device_ids)
    for i, device in enumerate(ids):
        if isinstance(device, bool) or not isinstance(device, int):
            raise TypeError(f"device_ids[{i}] must be an int, not {type(device)!r}")
        if device < 0:
            raise ValueError(f"device_ids[{i}] is {device}: a device has a number from 0 on")
        if device in ids[:i]:
            raise ValueError(f"device_ids[{i}] is {device}, for the second time")
    if not ids:
        raise ValueError("device_ids is empty")
    if chips is not None and chips != len(ids):
        raise ValueError(f"chips is {chips}, but device_ids has {len(ids)}")
    return ids


def _keeper_command(preload: Any) -> tuple[str, ...]:
    """The interpreter as the keeper's program: it imports what all children share, then forks them."""
    names = list(preload) if isinstance(preload, Iterable) and not isinstance(preload, str) else [None]
    if not all(isinstance(module, str) for module in names):
        raise TypeError(f"preload must be a sequence of names of modules, not {preload!r}")
    modules = [*names, *(["numpy"] if "numpy" in sys.modules and "numpy" not in names else [])]
    start = json.dumps({"path": [os.path.abspath(p) if p == "" else p for p in sys.path], "preload": modules})
    # The path first: it may be what leads to this package.
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])['path']; "
        "from transom._child import keeper_main; keeper_main()"
    )
    return (sys.executable or "python3", *_interpreter_flags(), "-c", code, start)


def _interpreter_flags() -> list[str]:
    """Flags of this interpreter that its children should have, too."""
    flags = []
    for flag, name in (("-O", "optimize"), ("-B", "dont_write_bytecode"), ("-E", "ignore_environment")):
        flags += [flag] * int(getattr(sys.flags, name))
    for option in sys.warnoptions:
        flags.append(f"-W{option}")
    for key, value in sys._xoptions.items():
        flags += ["-X", key if value is True else f"{key}={value}"]
    return flags


class _thread_limits:
    """Spawned chips share the cores: libraries that start threads start no more than a chip's share of them."""

    def __init__(self, places: int, start_method: str) -> None:
        cores = len(os.sched_getaffinity(0))
        self.limit = str(max(1, cores // max(1, places)))
        self.names = [n for n in _THREAD_LIMITS if n not in os.environ] if start_method == "spawn" else []

    def __enter__(self) -> None:
        for name in self.names:
            os.environ[name] = self.limit

    def __exit__(self, *unused: object) -> None:
        for name in self.names:
            os.environ.pop(name, None)


def _close_all() -> None:
    """At the end of the program: what was not closed is, where this thread may; the rest ends with the process."""
    for worker in list(_open):
        try:
            if worker.state == "ready":
                worker._cancel()
            worker.close()
        except Exception:
            pass


atexit.register(_close_all)

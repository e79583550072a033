# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Transom: one program drives many accelerators.

A program makes a `Worker` (n chips, m sub workers), registers what tasks can run, and runs *orchestration
functions*. Inside one, tasks are submitted, memory is allocated, and communication domains come and go; the
runtime orders tasks by the bytes they touch::

    import transom as ts

    def double(task, x, y):             # runs in a chip's process; x and y are NumPy arrays over shared memory
        y[:] = 2 * x

    with ts.Worker(chips=2) as w:
        f = w.register(double)
        x, y = w.buffer(4), w.buffer(4)
        x.numpy()[:] = 1

        def orchestrate(orch, args, config):
            orch.submit(f, x, ts.out(y), chip=0)

        w.run(orchestrate)
        print(y.numpy())                # [2. 2. 2. 2.]

A worker belongs to the thread that made it. docs/python.md of the project says more.
"""

from __future__ import annotations

import enum
import os

from . import _core
from ._core import (
    HOST,
    SUB,
    Buffer,
    Callable,
    CallConfig,
    ChipDomainContext,
    CommBufferSpec,
    CommDomainHandle,
    Domain,
    Orchestrator,
    RunHandle,
    Task,
    TaskArgs,
    Tensor,
    each,
    empty,
    inout,
    nodep,
    out,
)
from ._errors import (
    AbortedError,
    ArgumentError,
    CanceledError,
    ClosedError,
    DeadlockError,
    DiedError,
    ForkUnsafeError,
    InterruptedWaitError,
    MemoryLimitError,
    NotFoundError,
    PeerError,
    RunError,
    StateError,
    SystemCallError,
    TaskError,
    TimeLimitError,
    TransomError,
    UnsupportedError,
    UpstreamError,
    WaitTimeoutError,
    WorkerFailedError,
)
from ._worker import Worker

__version__ = _core.version()


class Tag(enum.IntEnum):
    """How a task uses a tensor.

    >>> Tag.INOUT
    <Tag.INOUT: 3>
    """

    INPUT = 1
    """Reads."""
    OUTPUT = 2
    """Writes all of it; a tensor without memory gets some, in the current scope."""
    INOUT = 3
    """Reads and writes."""
    OUTPUT_EXISTING = 4
    """Writes memory that exists."""
    NO_DEP = 5
    """Uses it without an edge; it counts for the memory's lifetime."""


INPUT = Tag.INPUT
OUTPUT = Tag.OUTPUT
INOUT = Tag.INOUT
OUTPUT_EXISTING = Tag.OUTPUT_EXISTING
NO_DEP = Tag.NO_DEP


class DataType(enum.Enum):
    """Types of elements, for those who prefer names to strings.

    >>> CommBufferSpec("x", DataType.BFLOAT16, 8)
    CommBufferSpec('x', 'bfloat16', count=8, nbytes=0)
    """

    UINT8 = "uint8"
    INT8 = "int8"
    BOOL = "bool"
    UINT16 = "uint16"
    INT16 = "int16"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    UINT32 = "uint32"
    INT32 = "int32"
    FLOAT32 = "float32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT64 = "float64"


def get_include() -> str:
    """Folder of the C headers that came with the package, for kernels: cc -shared -fPIC -I... kernels.c."""
    return os.path.join(os.path.dirname(__file__), "include")


def get_library() -> str:
    """The libtransom that this package uses. Kernels need not be linked with it."""
    return os.path.realpath(_core.LIBRARY)


__all__ = [
    "HOST",
    "INOUT",
    "INPUT",
    "NO_DEP",
    "OUTPUT",
    "OUTPUT_EXISTING",
    "SUB",
    "AbortedError",
    "ArgumentError",
    "Buffer",
    "CallConfig",
    "Callable",
    "CanceledError",
    "ChipDomainContext",
    "ClosedError",
    "CommBufferSpec",
    "CommDomainHandle",
    "DataType",
    "DeadlockError",
    "DiedError",
    "Domain",
    "ForkUnsafeError",
    "InterruptedWaitError",
    "MemoryLimitError",
    "NotFoundError",
    "Orchestrator",
    "PeerError",
    "RunError",
    "RunHandle",
    "StateError",
    "SystemCallError",
    "Tag",
    "Task",
    "TaskArgs",
    "TaskError",
    "Tensor",
    "TimeLimitError",
    "TransomError",
    "UnsupportedError",
    "UpstreamError",
    "WaitTimeoutError",
    "Worker",
    "WorkerFailedError",
    "__version__",
    "each",
    "empty",
    "get_include",
    "get_library",
    "inout",
    "nodep",
    "out",
]

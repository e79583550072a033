# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Exceptions: one class per kind of error, each also the built-in exception that Python programs expect."""

from __future__ import annotations

import re


class TransomError(Exception):
    """What the runtime refuses or reports.

    Attributes:
        code: name of the library's code, "TSM_EINVAL" and so on.
        chip: the chip it happened on, chips + k for sub worker k; -1 where there is none.
        task: id of the task, 0 where there is none.
        run: number of the run, 0 where there is none.
        detail: what a C task returned, or the signal or exit status of a process.
        errno: errno of the failed system call, or 0.
        skipped: tasks of the run that were never begun because of it.
    """

    code: str = "TSM_E?"
    chip: int = -1
    task: int = 0
    run: int = 0
    detail: int = 0
    errno: int = 0
    skipped: int = 0


class ArgumentError(TransomError, ValueError):
    """An argument is refused; the text names it and its value."""


class NotFoundError(TransomError, LookupError):
    """No such symbol, buffer or member."""


class StateError(TransomError, RuntimeError):
    """Not allowed now: outside a run, before start, after release or close, from another thread."""


class ClosedError(StateError):
    """The worker is closed."""


class ForkUnsafeError(StateError):
    """Start method fork in a process that has other threads."""


class AbortedError(StateError):
    """The run that this belongs to has failed; its cause comes out of run or wait."""


class CanceledError(StateError):
    """The run was cancelled."""


class MemoryLimitError(TransomError, MemoryError):
    """Heap, arena, ring or machine have not the memory that was asked for."""


class UnsupportedError(TransomError, NotImplementedError):
    """Not built in, no driver, or not possible on this system."""


class WaitTimeoutError(TransomError, TimeoutError):
    """The given time is over; the call may be repeated."""

    errno: int = 0


class SystemCallError(TransomError, OSError):
    """A system call failed; `errno` says why."""

    errno: int = 0


class RunError(TransomError, RuntimeError):
    """A run failed; the text is its first cause."""


class TaskError(RunError):
    """A task of C returned an error or called tsm_fail, or the exception of a Python task could not be brought here."""


class DiedError(RunError):
    """A chip or sub worker died: signal or exit status in the text."""


class TimeLimitError(RunError):
    """A task exceeded its time limit."""


class DeadlockError(RunError):
    """Nothing can move; the text names the cycle."""


class UpstreamError(RunError):
    """Reads what a failed task of an earlier run should have written."""


class WorkerFailedError(RunError):
    """The worker is beyond repair; close it."""


class PeerError(TransomError, RuntimeError):
    """A member of the domain is dead, or has aborted it."""


class InterruptedWaitError(StateError):
    """A wait was given up because of a signal."""


_CLASSES: dict[str, type[TransomError]] = {
    "TSM_EINVAL": ArgumentError,
    "TSM_ENOMEM": MemoryLimitError,
    "TSM_ENOSPC": MemoryLimitError,
    "TSM_EUNSUPPORTED": UnsupportedError,
    "TSM_EFORK_UNSAFE": ForkUnsafeError,
    "TSM_ECHILD_DIED": DiedError,
    "TSM_ETASK_FAILED": TaskError,
    "TSM_ETIME_LIMIT": TimeLimitError,
    "TSM_EDEADLOCK": DeadlockError,
    "TSM_EUPSTREAM_FAILED": UpstreamError,
    "TSM_EABORTED": AbortedError,
    "TSM_ETIMEOUT": WaitTimeoutError,
    "TSM_ESTATE": StateError,
    "TSM_ESTALE": StateError,
    "TSM_ERANGE": ArgumentError,
    "TSM_EPEER": PeerError,
    "TSM_EPROTOCOL": RunError,
    "TSM_EEXIST": ArgumentError,
    "TSM_ENOENT": NotFoundError,
    "TSM_EWORKER_FAILED": WorkerFailedError,
    "TSM_ECLOSED": ClosedError,
    "TSM_EWRONG_THREAD": StateError,
    "TSM_ESYS": SystemCallError,
    "TSM_EFUNCTION": RunError,
    "TSM_EINTERRUPTED": InterruptedWaitError,
    "TSM_ECANCELED": CanceledError,
}


# What the library's texts call something, and what it is called here.
_WORDS = {
    "tsm_buffer_create": "Worker.buffer",
    "tsm_malloc": "Orchestrator.malloc",
    "tsm_alloc": "Orchestrator.alloc",
    "tsm_scope_end": "the end of a scope",
    "tsm_scope_begin": "its begin",
    "TSM_SPAWN": 'start_method="spawn"',
    "TSM_HOST": "HOST",
    "TSM_SUB": "SUB",
    "window_bytes": "window_size",
    "arena_bytes": "arena_size",
    "heap_bytes": "heap_size",
    "host_bytes": "host_size",
    "lease_bytes": "lease_size",
    "ring_bytes": "ring_size",
    "start_timeout_ns": "start_timeout",
    "close_timeout_ns": "close_timeout",
    "limit_ns": "limit",
    "chips is empty": "workers is empty",
}
_WORD = re.compile(r"\b(?:" + "|".join(_WORDS) + r")\b")


def _make(code: str, text: str, chip: int, task: int, run: int, detail: int, errno: int, skipped: int) -> TransomError:
    """The exception of a code; called by the C part."""
    text = _WORD.sub(lambda match: _WORDS[match.group()], text)
    text = re.sub(r"(domain '[^']*': )chips\[", r"\1workers[", text)
    error = _CLASSES.get(code, TransomError)(text)
    error.code, error.chip, error.task, error.run = code, chip, task, run
    error.detail, error.errno, error.skipped = detail, errno, skipped
    return error

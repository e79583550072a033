# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What tests share: waiting for a state, tasks that wait for the program, signals at a moment, members of a domain."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import transom as ts

WAIT_SECONDS_MAX = 20

Function = Callable[[ts.Orchestrator, Any, Any], Any]


def until(condition: Callable[[], Any]) -> None:
    """Waits for a state, not for a time."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < end, "the state does not come"
        time.sleep(0.0005)


def add_one(task: ts.Task, x: Any) -> None:
    """A task of an importable module, so that it travels by name."""
    x += 1


def spin_python(task: ts.Task) -> None:
    """Does not end."""
    while True:
        pass


def check_works(w: ts.Worker) -> None:
    """The next run gives the right result, on every chip and sub worker."""
    places = w.chips + w.subs
    x = w.buffer((places, 4))
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for place in range(places):
            for _ in range(3):
                orch.submit(f, ts.inout(x[place]), chip=place if place < w.chips else ts.SUB)

    w.run(orchestrate)
    assert x.numpy().tolist() == [[3] * 4] * places
    w.unregister(f)


class Gate:
    """What a task "hold" of kernels.c waits at until the program opens it.

    It is no edge of the graph, and Transom knows nothing of the wait: nobody takes it for a deadlock.
    """

    def __init__(self, worker: ts.Worker, kernels: str) -> None:
        self.hold = worker.register(f"{kernels}:hold")
        self.buffer = worker.buffer(2, "int64")
        self.words = memoryview(self.buffer)

    def submit(self, orch: ts.Orchestrator, *tensors: Any, **options: Any) -> int:
        """A task that begins and then waits for the gate; tensors beside the gate are as for submit."""
        return orch.submit(self.hold, ts.nodep(self.buffer), *tensors, **options)

    @property
    def begun(self) -> int:
        """How many tasks have come to the gate."""
        return int(self.words[0])

    def wait_begun(self, count: int = 1) -> None:
        until(lambda: self.begun >= count)

    def open(self) -> None:
        self.words[1] = 1

    def close(self) -> None:
        self.words[0] = self.words[1] = 0


def join(thread: threading.Thread) -> None:
    """Until the kernel does not see it any more, a little later: a process with threads cannot fork workers."""
    thread.join()
    until(lambda: not pathlib.Path(f"/proc/self/task/{thread.native_id}").exists())


@contextlib.contextmanager
def when(condition: Callable[[], Any], act: Callable[[], Any]) -> Iterator[None]:
    """In a thread beside the block: waits for the condition, then acts."""
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            until(condition)
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        join(thread)
    assert not failures, failures


def is_asleep() -> bool:
    """Whether the main thread sleeps in a call of the library: in a system call on a word of shared memory."""
    fields = pathlib.Path(f"/proc/self/task/{os.getpid()}/syscall").read_text().split()
    if len(fields) < 2 or not fields[1].startswith("0x"):
        return False
    maps = [line for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if "memfd:transom" in line]
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    return any(begin <= int(fields[1], 16) < end for begin, end in ranges)


def send(number: int = signal.SIGINT) -> None:
    """Ctrl-C, as a terminal sends it: to the process."""
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def interrupted(also: Callable[[], Any] = lambda: True, after: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """The block is a call that sleeps: it gets Ctrl-C when it does, and raises KeyboardInterrupt."""

    def act() -> None:
        send()
        after()

    with when(lambda: also() and is_asleep(), act):
        with pytest.raises(KeyboardInterrupt):
            yield


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- the task's side ----

Refusal = tuple[Callable[[], Any], type[BaseException], str]


class Team:
    """A worker whose chips run functions of a test: together, as the members of a domain, or alone."""

    BUFFERS = {"a": ("float32", 8), "b": ("float32", 32), "s": ("int64", 8)}

    def __init__(self, worker: ts.Worker) -> None:
        self.worker = worker

    def group(
        self,
        function: Callable[..., Any],
        *args: Any,
        chips: Sequence[int] = (0, 1, 2, 3),
        buffers: dict[str, tuple[str, int]] = BUFFERS,
        window: int = 1 << 16,
    ) -> None:
        """Runs function(task, tp, *args) on each chip; rank r of the domain 'tp' is chips[r]."""
        specs = [ts.CommBufferSpec(name, dtype, count) for name, (dtype, count) in buffers.items()]

        def orchestrate(orch: ts.Orchestrator, handle: ts.Callable, config: Any) -> None:
            tp = orch.allocate_domain("tp", chips, window, specs)
            orch.submit_group(handle, tp, *args, chips=chips)

        self._run(function, orchestrate)

    def alone(self, function: Callable[..., Any], *args: Any, chip: int = 0) -> None:
        """Runs function(task, *args) as a single task."""
        self._run(function, lambda orch, handle, config: orch.submit(handle, *args, chip=chip))

    def _run(self, function: Callable[..., Any], orchestrate: Function) -> None:
        handle = self.worker.register(function)
        try:
            self.worker.run(orchestrate, handle)
        finally:
            self.worker.unregister(handle)


def open_team(chips: int = 4, subs: int = 1, **options: Any) -> Iterator[Team]:
    """What a fixture of a module yields from. Tests that harm its processes make a worker of their own."""
    with ts.Worker(chips, subs, preload=["pytest", "rig"], **options) as worker:
        yield Team(worker)


def check_refusals(*refusals: Refusal) -> None:
    """Each call raises exactly that class, with that text in it; all that do not are told at once."""
    wrong = []
    for number, (call, error, text) in enumerate(refusals):
        try:
            outcome = f"returned {call()!r}"
        except BaseException as caught:
            if type(caught) is error and text in str(caught):
                continue
            outcome = f"raised {type(caught).__name__}: {caught}"
        wrong.append(f"call {number} {outcome}, not {error.__name__}: {text}")
    assert not wrong, "\n".join(wrong)


def run_script(
    path: pathlib.Path, source: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Writes the text to the file and runs it as a program, so that its functions have lines in tracebacks."""
    path.write_text(source)
    return subprocess.run(
        [sys.executable, str(path), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS_MAX * 3,
    )

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Threads and forks of the program: whose a worker is, what goes on while it waits, and who may end its objects."""

from __future__ import annotations

import gc
import os
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import transom as ts
from rig import Gate, add_one, check_works, is_asleep, join, until, when

Factory = Callable[..., ts.Worker]


def in_thread(function: Callable[[], Any]) -> Any:
    """What it returns, or raises, in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    join(thread)
    return outcome[0]


def in_fork(function: Callable[[], Any]) -> str:
    """What it prints into a pipe in a forked child of the program that ends without clean-up; then its status."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(function())
        except BaseException as error:
            text = f"raised {error!r}"
        os.write(writer, text.encode())
        os._exit(7)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"{text}; {status}"


# ---- one worker, one thread ----


def test_two_threads_have_a_worker_each(repeat: Callable[[int], int], kernels: str) -> None:
    runs = repeat(200)

    def work(number: int) -> float:
        with ts.Worker(2, 1) as w:
            affine, x = w.register(f"{kernels}:affine"), w.buffer(4)

            def orchestrate(orch: ts.Orchestrator, i: int, config: Any) -> None:
                for chip in (0, ts.SUB, 1):
                    orch.submit(affine, ts.inout(x), -1.0, float(i % 7 + number), chip=chip)
                with orch.allocate_domain("tp", [0, 1], 256) as tp:
                    assert tp[1].domain_rank == 1

            for i in range(runs):
                w.run(orchestrate, i)
            check_works(w)
            return float(x.numpy()[3])

    def expected(number: int) -> float:
        x = 0.0
        for i in range(runs):
            for _ in range(3):
                x = -x + i % 7 + number
        return x

    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.setdefault(n, in_thread(lambda: work(n)))) for n in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    assert results == {n: expected(n) for n in (1, 2, 3)}


def test_worker_of_another_thread_is_refused_everywhere_and_unharmed(
    worker: Factory, start_method: str, kernels: str
) -> None:
    w = worker(2, 1)
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(4)
    kept: list[ts.CommDomainHandle] = []
    w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64, keep=True)))
    tp, handle = kept[0], w.submit(lambda orch, a, c: gate.submit(orch, ts.inout(x)))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        scope = orch.scope()
        calls: list[Callable[[], Any]] = [
            w.stats,
            w.init,
            w.close,
            lambda: w.__exit__(None, None, None),
            lambda: w.buffer(3),
            lambda: w.host_wait(x),
            lambda: w.run(orchestrate),
            lambda: w.run(orchestrate, progress=True),
            lambda: w.submit(orchestrate),
            lambda: w.register(add_one),
            lambda: w.register(f"{kernels}:add"),
            lambda: w.unregister(f),
            lambda: handle.done,
            lambda: handle.error,
            lambda: handle.skipped,
            handle.wait,
            handle.result,
            handle.cancel,
            tp.release,
            lambda: tp[0],
            lambda: tp.contexts,
            lambda: tp.tensor(0),
            lambda: tp.freed,
            lambda: tp.broken,
            lambda: tp.__exit__(None, None, None),
            lambda: orch.submit(f, ts.inout(x)),
            lambda: orch.submit_group(f, ts.inout(x), chips=[0]),
            lambda: orch.submit_next_level(f),
            lambda: orch.submit_next_level_group(f, [ts.TaskArgs()], workers=[0]),
            lambda: orch.submit_sub(f),
            lambda: orch.submit_sub_group(f, [ts.TaskArgs()]),
            lambda: orch.allocate_domain("x", [0], 64),
            lambda: orch.release_domain(tp),
            lambda: orch.alloc(3),
            lambda: orch.malloc(0, 3),
            lambda: orch.free(0, 3),
            lambda: orch.copy_to(0, 3, b"123"),
            lambda: orch.copy_from(0, bytearray(3), 3),
            lambda: orch.host_wait(x),
            scope.__enter__,
            lambda: scope.__exit__(None, None, None),
        ]
        for number, call in enumerate(calls):
            error = in_thread(call)
            assert isinstance(error, ts.StateError), (number, error)
            assert error.code == "TSM_EWRONG_THREAD" and "belongs to the thread" in str(error), (number, error)

    w.run(orchestrate)
    # What only reads is anybody's.
    facts = in_thread(lambda: (w.state, w.chips, w.live_domains, repr(w), f.name, handle.number, tp.name, len(tp)))
    assert facts == ("ready", 2, {"k": tp}, repr(w), "add_one", 2, "k", 2)
    assert in_thread(lambda: x.numpy().shape) == (4,) and in_thread(lambda: memoryview(x)[1:].nbytes) == 12
    gate.open()
    handle.wait()
    tp.release()
    assert f.registered
    check_works(w)


def test_worker_may_be_made_and_used_in_a_thread_of_its_own(start_method: str) -> None:
    def work() -> str:
        with ts.Worker(1, start_method="spawn") as w:
            check_works(w)
        return "fine"

    assert in_thread(work) == "fine"


# ---- what goes on meanwhile ----


def test_other_threads_go_on_while_a_call_waits(worker: Factory, start_method: str, kernels: str) -> None:
    """Only a thread of Python opens the gates: a wait that kept the GIL would never end."""
    w = worker(1)
    gate, x = Gate(w, kernels), w.buffer(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x))

    def copy(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x))
        orch.copy_from(ts.HOST, bytearray(16), x)

    for call in (
        lambda: w.run(orchestrate),
        lambda: w.submit(orchestrate).wait(),
        lambda: w.submit(orchestrate) and w.host_wait(x),
        lambda: w.run(copy),
        lambda: w.submit(orchestrate) and w.register(add_one),
        lambda: w.submit(orchestrate) and w.close(),
    ):
        gate.close()
        with when(lambda: gate.begun and is_asleep(), gate.open):
            call()


def test_thread_computes_while_a_run_is_waited_for(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, steps = Gate(w, kernels), []

    def compute() -> None:
        for i in range(1000):
            steps.append(sum(range(i)))

    with when(lambda: gate.begun and is_asleep(), lambda: (compute(), gate.open())):
        w.run(lambda orch, a, c: gate.submit(orch))
    assert len(steps) == 1000


# ---- the end of objects ----


def test_objects_may_end_in_any_thread(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2)
    held = w.stats()["heap_bytes"]
    fail = w.register(f"{kernels}:fail")
    for _ in range(20):
        things: list[Any] = [w.buffer(100), w.buffer(10).numpy(), memoryview(w.buffer(5))]
        things.append(w.submit(lambda orch, a, c: orch.allocate_domain("tp", [0, 1], 64)))
        things.append(w.submit(lambda orch, a, c: orch.submit(fail, 1)))
        things.append(w.run(lambda orch, a, c: (orch, orch.scope(), ts.TaskArgs(), ts.each([1]))))
        things.append(w.register(add_one))
        things.append(things)
        assert in_thread(lambda things=things: things.clear()) is None
        in_thread(gc.collect)
    assert w.stats()["heap_bytes"] == held
    check_works(w)


def test_objects_end_in_another_thread_while_the_worker_waits(forked: Factory, kernels: str) -> None:
    w = forked()
    gate = Gate(w, kernels)
    held = w.stats()["heap_bytes"]
    things = [w.buffer(100) for _ in range(100)] + [w.submit(lambda *a: None) for _ in range(50)]
    with when(lambda: gate.begun and is_asleep(), lambda: (things.clear(), gc.collect(), gate.open())):
        w.run(lambda orch, a, c: gate.submit(orch))
    assert w.stats()["heap_bytes"] == held


def test_last_reference_to_a_closed_worker_may_end_anywhere(start_method: str) -> None:
    boxes: list[Any] = []
    with ts.Worker(start_method=start_method) as w:
        boxes.append([w, w.buffer(3).numpy(), w.submit(lambda *a: 1), w.register(add_one)])
    del w
    in_thread(boxes.clear)
    in_thread(gc.collect)


def test_worker_that_is_dropped_in_another_thread_ends(start_method: str) -> None:
    boxes = [ts.Worker(2, start_method=start_method).init()]
    pids = [boxes[0].pid(0), boxes[0].pid(1)]
    with pytest.warns(ResourceWarning, match="unclosed"):
        in_thread(boxes.clear)
        gc.collect()
    until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids))
    with ts.Worker(start_method="fork"):
        pass


def test_thread_that_ends_before_its_worker_is_closed_leaves_it_to_be_dropped(start_method: str) -> None:
    boxes: list[ts.Worker] = []
    in_thread(lambda: boxes.append(ts.Worker(start_method="spawn").init()))
    error = pytest.raises(ts.StateError, boxes[0].close)
    assert "belongs to the thread" in str(error.value)
    pid = boxes[0].pid(0)
    with pytest.warns(ResourceWarning, match="unclosed"):
        boxes.clear()
        error = None
        gc.collect()
    until(lambda: not pathlib.Path(f"/proc/{pid}").exists())
    with ts.Worker(start_method="fork"):
        pass


# ---- fork ----


def test_fork_is_refused_with_threads_and_the_text_says_what_to_do(worker: Factory) -> None:
    w = worker(start_method="fork", init=False)
    begun, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (begun.set(), end.wait()))
    thread.start()
    begun.wait()
    try:
        with pytest.raises(ts.ForkUnsafeError, match='before other threads.*or use start_method="spawn"') as caught:
            w.init()
        assert caught.value.code == "TSM_EFORK_UNSAFE" and isinstance(caught.value, RuntimeError) and w.state == "new"
        with worker(start_method="spawn", init=False) as spawned:
            check_works(spawned)
    finally:
        end.set()
        join(thread)
    w.init()
    check_works(w)


def test_forked_child_of_the_program_is_refused_and_harms_nothing(
    worker: Factory, start_method: str, kernels: str
) -> None:
    w = worker(2, 1)
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(4)
    kept: list[Any] = []
    w.run(lambda orch, a, c: kept.extend([orch, orch.allocate_domain("k", [0, 1], 64, keep=True)]))
    handle = w.submit(lambda orch, a, c: gate.submit(orch))
    done = w.submit(lambda *a: 5)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: w.run(lambda *a: None),
            lambda: w.submit(lambda *a: None),
            lambda: w.buffer(3),
            lambda: w.host_wait(x),
            lambda: w.register(f"{kernels}:add"),
            lambda: w.register(add_one),
            lambda: w.unregister(f),
            lambda: orch.submit(f, ts.inout(x)),
            lambda: orch.alloc(3),
            lambda: orch.copy_from(ts.HOST, bytearray(16), x),
            lambda: orch.allocate_domain("x", [0], 64),
            kept[1].release,
            lambda: kept[1].tensor(0),
            handle.wait,
            handle.cancel,
            w.close,
        ]

        def child() -> str:
            wrong = []
            for number, call in enumerate(calls):
                try:
                    wrong.append((number, call()))
                except ts.StateError as error:
                    if "belongs to the thread and process" not in str(error):
                        wrong.append((number, error))
            x2 = x.numpy()[1:]
            return f"{wrong} {x2.shape}"

        assert in_fork(child) == "[] (3,); 7"

    w.run(orchestrate)
    assert done.result() == 5 and not handle.done
    gate.open()
    handle.wait()
    kept[1].release()
    check_works(w)


def test_forked_child_may_end_in_any_way(
    program: Callable[..., subprocess.CompletedProcess[str]], start_method: str
) -> None:
    done = program(
        "import gc, os, sys, transom as ts\n"
        "w = ts.Worker(2, start_method=sys.argv[1]).init()\n"
        "x, f = w.buffer(4), w.register(lambda task, x: x.__iadd__(1))\n"
        "handle = w.submit(lambda orch, args, config: orch.submit(f, ts.inout(x)))\n"
        "def child(how):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        how()\n"
        "        sys.exit(5)\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "def drop():\n"
        "    global w, x, f, handle\n"
        "    del w, x, f, handle\n"
        "    gc.collect()\n"
        "codes = [child(lambda: None), child(drop), child(lambda: 1 // 0), child(lambda: os._exit(6))]\n"
        "handle.wait()\n"
        "w.run(lambda orch, args, config: orch.submit(f, ts.inout(x)))\n"
        "print(codes, memoryview(x).tolist())\n"
        "w.close()\n",
        start_method,
    )
    assert (done.stdout, done.returncode) == ("[5, 5, 1, 6] [2.0, 2.0, 2.0, 2.0]\n", 0), done.stderr
    assert done.stderr.count("Traceback") == 1 and "ZeroDivisionError" in done.stderr


def test_forked_child_may_have_a_worker_of_its_own(forked: Factory) -> None:
    w = forked(1)
    x = w.buffer(1)

    def child() -> str:
        with ts.Worker(2, start_method="fork") as own:
            check_works(own)
        return "fine"

    assert in_fork(child) == "fine; 7"
    check_works(w)
    assert x.numpy()[0] == 0


def test_worker_cannot_be_made_or_used_inside_a_task(worker: Factory, start_method: str) -> None:
    w = worker(1, init=False)

    def task(t: ts.Task, out: Any) -> None:
        try:
            ts.Worker(1)
        except ts.StateError as error:
            out[0] = "inside a task" in str(error)

    f = w.register(task)
    w.init()
    out = w.buffer(1)
    w.run(lambda orch, a, c: orch.submit(f, ts.out(out)))
    assert out.numpy()[0] == 1


def test_task_that_captured_its_worker_is_refused(forked: Factory) -> None:
    w = forked(1, init=False)

    def task(t: ts.Task) -> None:
        w.run(lambda *a: None)

    f = w.register(task)
    w.init()
    with pytest.raises(ts.StateError, match="thread and process that made it|not started"):
        w.run(lambda orch, a, c: orch.submit(f))
    check_works(w)


def test_subprocess_of_the_program_inherits_no_descriptor(forked: Factory) -> None:
    w = forked(2)
    w.buffer(10)
    code = "import os; print(*map(os.path.realpath, os.scandir('/proc/self/fd')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, close_fds=False, check=True)
    assert "pipe" in found.stdout
    assert not re.search("transom|eventfd|pidfd|timerfd", found.stdout)

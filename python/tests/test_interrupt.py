# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Ctrl-C and other signals, in everything that waits: what comes out, what goes on, and that the worker works."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Gate, add_one, check_works, interrupted, is_asleep, send, spin_python, until, when

Factory = Callable[..., ts.Worker]


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """As in an interactive program, also where the tests were started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


SIGNAL = ts.CommBufferSpec("signal", "uint64", 1)


class Usr1:
    """A handler of SIGUSR1, for a while."""

    def __init__(self, act: Callable[[], Any] = lambda: None) -> None:
        self.act, self.count = act, 0

    def __enter__(self) -> Usr1:
        self.before = signal.signal(signal.SIGUSR1, self.handle)
        return self

    def __exit__(self, *unused: object) -> None:
        signal.signal(signal.SIGUSR1, self.before)

    def handle(self, number: int, frame: Any) -> None:
        self.count += 1
        self.act()


# ---- Ctrl-C ----


def test_ctrl_c_ends_a_run_whose_task_waits_for_a_signal(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(3)
    gate, wait, f = Gate(w, kernels), w.register(f"{kernels}:signal_wait"), w.register(add_one)
    x = w.buffer(1)
    pids = [w.pid(chip) for chip in range(2)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 64, [SIGNAL])
        gate.submit(orch, chip=2)  # so that it is no deadlock
        orch.submit(wait, tp, 1, ts.inout(x), chip=0)
        orch.submit(f, ts.inout(x), chip=1)

    with interrupted(lambda: gate.begun, gate.open):
        w.run(orchestrate)
    assert [w.pid(chip) for chip in range(2)] == pids  # a wait inside a task ends by itself
    check_works(w)
    assert x.numpy()[0] == 0


@pytest.mark.parametrize(("method", "kind"), [("spawn", "Python"), ("fork", "C")])
def test_ctrl_c_ends_a_run_with_an_endless_task_which_loses_its_process(
    worker: Factory, kernels: str, method: str, kind: str
) -> None:
    w = worker(2, start_method=method)
    f = w.register(f"{kernels}:spin" if kind == "C" else spin_python)
    begun = w.buffer(1, "int64")
    mark = w.register(lambda task, begun: begun.__iadd__(1))
    pids = [w.pid(0), w.pid(1)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(mark, ts.inout(begun), chip=1)
        orch.submit(f, chip=1)

    with interrupted(lambda: memoryview(begun)[0]):
        w.run(orchestrate)
    check_works(w)
    assert w.pid(0) == pids[0] and w.pid(1) != pids[1]


def test_second_ctrl_c_does_not_wait_for_the_grace(forked: Factory, kernels: str) -> None:
    w = forked()
    gate = Gate(w, kernels)
    times: list[float] = []

    def handle(number: int, frame: Any) -> None:
        times.append(time.monotonic())
        raise KeyboardInterrupt

    def act() -> None:
        send()
        until(lambda: times and is_asleep())  # in the cancellation
        send()

    signal.signal(signal.SIGINT, handle)
    with when(lambda: gate.begun and is_asleep(), act):
        with pytest.raises(KeyboardInterrupt):
            w.run(lambda orch, a, c: gate.submit(orch))
    assert len(times) == 2 and time.monotonic() < times[0] + 0.9
    check_works(w)


def test_ctrl_c_in_the_function_itself_comes_out_and_cancels_its_tasks(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.allocate_domain("tp", [0, 1], 64, keep=True)
        gate.submit(orch, ts.inout(x))
        for _ in range(10):
            orch.submit(f, ts.inout(x))
        gate.wait_begun()
        gate.open()
        signal.raise_signal(signal.SIGINT)
        for _ in range(1 << 40):
            pass

    for call in (w.run, w.submit):
        gate.close()
        x.numpy()[:] = 0
        with pytest.raises(KeyboardInterrupt) as caught:
            call(orchestrate)
        assert caught.traceback[-1].name == "orchestrate"
        assert w.live_domains == {}
        x = w.buffer(1)
    check_works(w)


def test_function_may_catch_ctrl_c_and_go_on(forked: Factory) -> None:
    w = forked()
    f, x = w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> str:
        orch.submit(f, ts.inout(x))
        try:
            signal.raise_signal(signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            orch.submit(f, ts.inout(x))
        return "went on"

    assert w.run(orchestrate) == "went on" and x.numpy()[0] == 2


@pytest.mark.parametrize("what", ["copy_from", "copy_to", "host_wait", "orch.host_wait"])
def test_ctrl_c_in_what_waits_inside_a_function_can_be_repeated(forked: Factory, kernels: str, what: str) -> None:
    w = forked(2)
    gate, affine, x = Gate(w, kernels), w.register(f"{kernels}:affine"), w.buffer(4)
    got = np.full(4, 7, np.float32)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> bool:
        t = orch.alloc(4, chip=0)
        orch.copy_to(0, t, np.ones(4, np.float32))
        gate.submit(orch, ts.inout(t), ts.inout(x), chip=0)
        orch.submit(affine, ts.inout(t), 2.0, 1.0, chip=0)
        call = {
            "copy_from": lambda: orch.copy_from(0, got, t),
            "copy_to": lambda: orch.copy_to(0, t, got),
            "host_wait": lambda: w.host_wait(x, "rw"),
            "orch.host_wait": lambda: orch.host_wait(x),
        }[what]
        with interrupted(lambda: gate.begun):
            call()
        assert got.tolist() == [7] * 4
        gate.open()
        call()  # nothing of it had happened
        orch.copy_from(0, got, t)
        return True

    assert w.run(orchestrate)
    assert got.tolist() == [7] * 4 if what == "copy_to" else [3] * 4
    check_works(w)


def test_ctrl_c_in_a_wait_inside_a_function_that_lets_it_out_ends_the_run(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, x, f = Gate(w, kernels), w.buffer(1), w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x))
        orch.submit(f, ts.inout(x))
        orch.host_wait(x)

    with interrupted(lambda: gate.begun, gate.open):
        w.run(orchestrate)
    check_works(w)


@pytest.mark.parametrize("where", ["chip", "sub", "group"])
def test_ctrl_c_in_submit_at_a_full_ring_submits_nothing(forked: Factory, kernels: str, where: str) -> None:
    w = forked(1, 1, ring_size=262144)
    gate, f, x = Gate(w, kernels), w.register(f"{kernels}:affine"), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> int:
        submit = {
            "chip": lambda: orch.submit(f, ts.inout(x), 1.0, 1.0, chip=0),
            "sub": lambda: orch.submit(f, ts.inout(x), 1.0, 1.0, chip=ts.SUB),
            "group": lambda: orch.submit_group(f, ts.inout(x), 1.0, 1.0, chips=[0]),
        }[where]
        gate.submit(orch, ts.inout(x), chip=ts.SUB if where == "sub" else 0)
        count = 0
        with interrupted(lambda: gate.begun):
            while True:
                submit()
                count += 1
        gate.open()
        for _ in range(10):
            submit()
        return count + 10

    count = w.run(orchestrate)
    assert x.numpy()[0] == count > 100
    check_works(w)


def test_ctrl_c_in_the_wait_for_a_handle_leaves_the_run_alone(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker()
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> str:
        gate.submit(orch, ts.inout(x))
        orch.submit(f, ts.inout(x))
        return "result"

    handle = w.submit(orchestrate)
    for call in (handle.wait, lambda: handle.wait(20), handle.result):
        with interrupted(lambda: gate.begun):
            call()
        assert not handle.done and handle.error is None
    gate.open()
    assert handle.result() == "result" and x.numpy()[0] == 1


def test_ctrl_c_in_cancel_is_no_reason_to_lose_the_cancellation(forked: Factory, kernels: str) -> None:
    w = forked()
    gate = Gate(w, kernels)
    handle = w.submit(lambda orch, a, c: gate.submit(orch))
    gate.wait_begun()
    with interrupted():
        handle.cancel(None)
    handle.cancel(0)
    assert isinstance(handle.error, ts.CanceledError)
    check_works(w)


def test_ctrl_c_at_the_limit_of_runs_in_flight_begins_no_run(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, called = Gate(w, kernels), []
    handles = [w.submit(lambda orch, a, c: gate.submit(orch))]
    with interrupted(lambda: gate.begun):
        while True:
            handles.append(w.submit(lambda orch, a, c: called.append(1)))
    assert len(called) == len(handles) - 1 >= 60
    gate.open()
    for handle in handles:
        handle.wait()
    check_works(w)


def test_ctrl_c_in_close_closes_all_the_same(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker()
    gate = Gate(w, kernels)
    handle = w.submit(lambda orch, a, c: gate.submit(orch))
    with interrupted(lambda: gate.begun):
        w.close()
    assert w.state == "closed" and isinstance(handle.error, ts.CanceledError)
    w.close()


def test_ctrl_c_in_start_leaves_nothing_and_it_may_be_repeated(worker: Factory) -> None:
    os.environ["TRANSOM_FAULT"] = "ready:stop:1:0"
    w = worker(2, start_method="spawn", init=False)
    with interrupted():
        w.init()
    os.environ.pop("TRANSOM_FAULT")
    assert w.state == "new" and w.pid(0) == 0
    w.init()
    check_works(w)


def test_ctrl_c_while_a_callable_is_registered_registers_nothing(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate = Gate(w, kernels)
    handle = w.submit(lambda orch, a, c: gate.submit(orch))
    gate.wait_begun()
    for target in (add_one, f"{kernels}:affine"):
        with interrupted():
            w.register(target)  # waits for the task in front of it
    gate.open()
    handle.wait()
    check_works(w)


def test_processes_of_a_worker_do_not_hear_the_terminals_ctrl_c(worker: Factory, start_method: str) -> None:
    w = worker(2, 1)
    stats = [pathlib.Path(f"/proc/{w.pid(place)}/stat").read_text().rpartition(")")[2].split() for place in range(3)]
    groups = {int(stat[2]) for stat in stats} | {os.getpgid(int(stats[0][1]))}  # a terminal sends it to a group
    assert os.getpgid(0) not in groups and len(groups) == 1


# ---- other signals ----


def test_handler_of_another_signal_runs_while_a_run_waits_and_the_wait_goes_on(
    worker: Factory, start_method: str, kernels: str
) -> None:
    w = worker()
    gate = Gate(w, kernels)
    with Usr1() as usr1:

        def act() -> None:
            for count in range(1, 6):
                send(signal.SIGUSR1)
                until(lambda count=count: usr1.count >= count)
            gate.open()

        with when(lambda: gate.begun and is_asleep(), act):
            assert w.run(lambda orch, a, c: gate.submit(orch) and "result") == "result"
    assert usr1.count == 5
    check_works(w)


def test_exception_of_a_handler_ends_the_run_and_comes_out(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, error = Gate(w, kernels), ConnectionError("of the handler")

    def act() -> None:
        gate.open()
        raise error

    with Usr1(act), when(lambda: gate.begun and is_asleep(), lambda: send(signal.SIGUSR1)):
        with pytest.raises(ConnectionError) as caught:
            w.run(lambda orch, a, c: gate.submit(orch))
    assert caught.value is error
    check_works(w)


def test_exception_of_a_handler_in_a_wait_for_a_handle_leaves_the_run_alone(forked: Factory, kernels: str) -> None:
    w = forked()
    gate = Gate(w, kernels)
    handle = w.submit(lambda orch, a, c: gate.submit(orch))

    def act() -> None:
        raise ConnectionError

    with Usr1(act), when(lambda: gate.begun and is_asleep(), lambda: send(signal.SIGUSR1)):
        with pytest.raises(ConnectionError):
            handle.wait()
    assert not handle.done
    gate.open()
    handle.wait()


def test_handler_cannot_use_the_worker_that_waits(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker()
    gate, other, f = Gate(w, kernels), w.submit(lambda *a: 3), w.register(add_one)
    refused: list[str] = []
    seen: list[Any] = []

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp, x = orch.allocate_domain("tp", [0], 64), w.buffer(1)
        gate.submit(orch, ts.out(x), tp)

        def act() -> None:
            seen.extend([w.tasks_done, w.state, list(w.live_domains), w.pid(0), repr(w), repr(tp), tp.name])
            for call in (
                w.stats,
                lambda: w.run(lambda *a: None),
                lambda: w.submit(lambda *a: None),
                lambda: w.buffer(3),
                lambda: w.host_wait(gate.buffer),
                lambda: w.register(add_one),
                lambda: w.unregister(f),
                lambda: orch.submit(f),
                lambda: orch.alloc(3),
                lambda: orch.allocate_domain("x", [0], 64),
                tp.release,
                lambda: tp.freed,
                lambda: other.done,
                other.cancel,
                w.close,
                w.init,
            ):
                try:
                    call()
                except ts.StateError as error:
                    refused.append(str(error))
            gate.open()

        with Usr1(act), when(lambda: gate.begun and is_asleep(), lambda: send(signal.SIGUSR1)):
            orch.host_wait(x)

    w.run(orchestrate)
    assert len(refused) == 16 and all("a call on the worker waits" in text for text in refused)
    assert seen[1:3] == ["ready", ["tp"]] and f.registered and other.result() == 3
    check_works(w)


def test_signal_that_comes_all_the_time_loses_nothing(
    worker: Factory, start_method: str, repeat: Callable[[int], int]
) -> None:
    w = worker(2, 1)
    f, x = w.register(add_one), w.buffer(3)
    signals = 0
    done = False
    with Usr1() as usr1:

        def act() -> None:
            nonlocal signals
            while not done:
                send(signal.SIGUSR1)
                signals += 1
                time.sleep(0.0002)

        def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
            for place in (0, 1, ts.SUB):
                orch.submit(f, ts.inout(x), chip=place)

        runs = repeat(300)
        with when(lambda: True, act):
            for _ in range(runs):
                w.run(orchestrate)
            until(lambda: usr1.count > 10)
            done = True
    assert x.numpy().tolist() == [3 * runs] * 3


def test_ctrl_c_in_a_program_without_tests_around_it(
    program: Callable[..., subprocess.CompletedProcess[str]], kernels: str
) -> None:
    done = program(
        "import os, signal, sys, threading, transom as ts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ts.Worker(2) as w:\n"
        "    f, x = w.register(sys.argv[1] + ':hold'), w.buffer(2, 'int64')\n"
        "    def end():\n"
        "        while not memoryview(x)[0]: pass\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        memoryview(x)[1] = 1\n"
        "    threading.Thread(target=end).start()\n"
        "    w.run(lambda orch, args, config: [orch.submit(f, ts.nodep(x)) for _ in range(3)])\n",
        kernels,
    )
    assert done.returncode == -signal.SIGINT and done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.stdout == ""

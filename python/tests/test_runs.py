# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Runs: what comes out of the function, of its tasks and of the handle; failures, deaths, deadlocks."""

from __future__ import annotations

import gc
import math
import os
import pathlib
import signal
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import transom as ts
from rig import Gate, add_one, check_works, until

Factory = Callable[..., ts.Worker]


def fail_later(task: ts.Task, gate: Any) -> None:
    gate[0] += 1
    while not gate[1]:
        pass
    raise ValueError("the second failure")


def spin(task: ts.Task) -> None:
    while True:
        pass


class Trouble(Exception):
    """Of a task, with more than a text."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def raise_trouble(task: ts.Task, text: str, number: int) -> None:
    raise Trouble(text, number)


# ---- the function ----


def test_function_gets_args_and_config_and_what_it_returns_comes_out(worker: Factory, start_method: str) -> None:
    w = worker()
    args, config, result = object(), object(), object()

    def orchestrate(orch: ts.Orchestrator, *given: Any) -> object:
        assert given == (args, config)
        assert orch.worker is w and orch.run == 1
        return result

    assert w.run(orchestrate, args, config) is result
    assert w.run(lambda orch, a, c: (orch.run, a, c)) == (2, None, None)
    assert w.run(config=1, args=2, function=lambda orch, a, c: (a, c)) == (2, 1)


def test_run_waits_for_its_tasks(worker: Factory, start_method: str) -> None:
    w = worker(2, 1)
    check_works(w)
    assert w.tasks_done == 9


def test_exception_of_the_function_comes_out_as_the_same_object(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, f = Gate(w, kernels), w.register(add_one)
    error = Trouble("of the function", 3)

    def orchestrate(orch: ts.Orchestrator, x: ts.Buffer, config: Any) -> None:
        gate.submit(orch)
        gate.wait_begun()
        orch.submit(f, ts.inout(x))  # on the same chip: it has not begun
        gate.open()
        raise error

    for call in (w.run, w.submit):
        gate.close()
        with pytest.raises(Trouble) as caught:
            call(orchestrate, w.buffer(1))
        assert caught.value is error
        assert "orchestrate" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        error.__traceback__ = None
    check_works(w)


def test_function_that_raises_does_not_wait_for_more_than_what_runs(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, x = Gate(w, kernels), w.buffer(1)
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x))
        for _ in range(10):
            orch.submit(f, ts.inout(x))
        gate.wait_begun()
        raise KeyError("stop")

    with pytest.raises(KeyError):
        w.submit(orchestrate)
    gate.open()
    check_works(w)
    assert x.numpy()[0] == 0


def test_run_inside_a_function_is_refused_and_the_run_goes_on(forked: Factory) -> None:
    w = forked()
    x = w.buffer(1)
    f = w.register(add_one)
    handle = w.submit(lambda orch, a, c: orch.submit(f, ts.inout(x)))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for call in (lambda: w.run(orchestrate), lambda: w.submit(orchestrate), w.close):
            with pytest.raises(ts.StateError, match="inside an orchestration function"):
                call()
        with pytest.raises(ts.StateError, match="has been started"):
            w.init()
        if not handle.done:
            with pytest.raises(ts.StateError, match="inside an orchestration function"):
                handle.wait()
        orch.submit(f, ts.inout(x))

    w.run(orchestrate)
    assert x.numpy()[0] == 2


def test_function_may_drive_another_worker(forked: Factory) -> None:
    w, other = forked(), forked(2)
    f, x = w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> str:
        orch.submit(f, ts.inout(x))
        check_works(other)
        orch.submit(f, ts.inout(x))
        return other.run(lambda inner, a, c: f"run {inner.run} of the other")

    assert w.run(orchestrate) == "run 2 of the other" and x.numpy()[0] == 2


def test_orchestrator_that_is_kept_refuses_after_its_function(forked: Factory, kernels: str) -> None:
    w = forked()
    f, x = w.register(f"{kernels}:fill"), w.buffer(2)
    args = ts.TaskArgs()
    kept: list[Any] = []

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        kept[:] = [orch, orch.scope(), orch.scope()]
        kept[1].__enter__()
        assert repr(orch) == f"<transom.Orchestrator of run {orch.run}, executing>"

    w.run(orchestrate)
    orch, scope, other = kept
    assert repr(orch) == "<transom.Orchestrator of run 1, over>"

    def check(_: Any = None, a: Any = None, c: Any = None) -> None:
        for call in (
            lambda: orch.submit(f, ts.out(x), 1.0),
            lambda: orch.submit_group(f, ts.out(x), 1.0, chips=[0]),
            lambda: orch.submit_next_level(f, args),
            lambda: orch.submit_next_level_group(f, [args], workers=[0]),
            lambda: orch.submit_sub(f, args),
            lambda: orch.submit_sub_group(f, [args]),
            lambda: orch.allocate_domain("a", [0], 64),
            lambda: orch.alloc(4),
            lambda: orch.malloc(0, 4),
            lambda: orch.free(0, 4),
            lambda: orch.copy_to(0, 4, b"1234"),
            lambda: orch.copy_from(0, bytearray(4), 4),
            lambda: orch.host_wait(x),
            lambda: scope.__exit__(None, None, None),
            lambda: other.__enter__(),
        ):
            with pytest.raises(ts.StateError, match="only inside the orchestration function"):
                call()

    check()
    w.run(check)  # another function's Orchestrator is no help
    assert orch.run == 1 and orch.worker is w


def test_what_a_function_refers_to_is_let_go_of_after_the_run(forked: Factory) -> None:
    w = forked()

    class Thing:
        pass

    def go() -> list[weakref.ref[Thing]]:
        thing, result, argument = Thing(), Thing(), Thing()
        assert w.run(lambda orch, a, c: (thing, result)[1], argument) is result
        handle = w.submit(lambda orch, a, c: (thing, result)[1], argument)
        assert handle.result() is result
        with pytest.raises(ZeroDivisionError):
            w.run(lambda orch, a, c: (thing, 1 // 0), argument)
        return [weakref.ref(t) for t in (thing, result, argument)]

    gone = go()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


# ---- failures of tasks ----


def test_exception_of_a_task_comes_out_with_its_type_attributes_and_traceback(
    worker: Factory, start_method: str
) -> None:
    w = worker(2)
    f = w.register(raise_trouble)
    with pytest.raises(Trouble, match="^a bad day") as caught:
        w.run(lambda orch, a, c: orch.submit(f, "a bad day", 7, chip=1))
    error = caught.value
    assert (error.number, error.args) == (7, ("a bad day",))
    assert "in raise_trouble" in str(error.__cause__) and "raise Trouble(text, number)" in str(error.__cause__)
    assert any("run 1, chip 1" in note for note in error.__notes__)
    check_works(w)


def test_failure_of_a_c_task_has_text_chip_task_and_run(forked: Factory, kernels: str) -> None:
    w = forked(2)
    fail, give_back = w.register(f"{kernels}:fail"), w.register(f"{kernels}:give_back")
    ids = []
    with pytest.raises(ts.TaskError, match="the kernel does not like 5") as caught:
        w.run(lambda orch, a, c: ids.append(orch.submit(fail, 5, chip=1)))
    error = caught.value
    assert isinstance(error, RuntimeError) and isinstance(error, ts.RunError)
    assert (error.code, error.chip, error.task, error.run) == ("TSM_ETASK_FAILED", 1, ids[0], 1)
    with pytest.raises(ts.TaskError, match="'give_back'.*returned 17") as caught:
        w.run(lambda orch, a, c: orch.submit(give_back, 17))
    assert caught.value.detail == 17
    check_works(w)


def test_followers_of_a_failed_task_are_skipped_and_counted(forked: Factory, kernels: str) -> None:
    w = forked(2, 1)
    fail, f = w.register(f"{kernels}:fail"), w.register(add_one)
    x, y = w.buffer(1), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, chip=0)
        orch.submit(fail, ts.inout(x), 1, chip=0)
        orch.submit(f, ts.inout(x), chip=1)
        orch.submit(f, ts.inout(x), chip=ts.SUB)
        orch.submit(f, ts.inout(x), chip=0)

    gate = Gate(w, kernels)
    handle = w.submit(orchestrate)
    assert (handle.error, handle.skipped, handle.done) == (None, 0, False)
    gate.open()
    with pytest.raises(ts.TaskError) as caught:
        handle.wait()
    assert (caught.value.skipped, handle.skipped) == (3, 3)
    assert (x.numpy()[0], y.numpy()[0]) == (0, 0)
    check_works(w)


def test_first_cause_in_time_is_raised_and_what_followed_is_told(forked: Factory, kernels: str) -> None:
    w = forked(2)
    fail, gate = w.register(f"{kernels}:fail"), Gate(w, kernels)

    second = w.register(fail_later)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(second, ts.nodep(gate.buffer), chip=1)
        gate.wait_begun()
        first = orch.submit(fail, 1, chip=0)
        with pytest.raises(ts.TransomError):
            while True:  # until the failure is known
                orch.submit(fail, 2, chip=0, after=[first])
        gate.open()

    with pytest.raises(ts.TaskError, match="does not like 1") as caught:
        w.run(orchestrate)
    assert caught.value.chip == 0
    assert "then: " in str(caught.value) and "the second failure" in str(caught.value)
    check_works(w)


def test_failed_run_refuses_more_and_its_cause_comes_out(forked: Factory, kernels: str) -> None:
    w = forked()
    fail, x = w.register(f"{kernels}:fail"), w.buffer(1)
    seen: list[BaseException] = []

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(fail, ts.out(x), 4)
        until(lambda: w.tasks_done == 1)
        for call in (
            lambda: orch.submit(fail, 5),
            lambda: orch.alloc(4),
            lambda: orch.copy_to(ts.HOST, x, bytes(4)),
            lambda: orch.allocate_domain("x", [0], 64),
        ):
            try:
                call()
            except ts.AbortedError as error:
                seen.append(error)
        orch.submit(fail, 6)  # its AbortedError is only a consequence

    with pytest.raises(ts.TaskError, match="does not like 4"):
        w.run(orchestrate)
    assert seen and all("run 1 has failed" in str(error) for error in seen)
    check_works(w)


def test_exception_of_the_function_after_a_failure_is_the_context_of_the_cause(forked: Factory, kernels: str) -> None:
    w = forked()
    fail = w.register(f"{kernels}:fail")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(fail, 4)
        until(lambda: w.tasks_done == 1)
        raise KeyError("later")

    with pytest.raises(ts.TaskError, match="does not like 4") as caught:
        w.run(orchestrate)
    assert isinstance(caught.value.__context__, KeyError)


def test_run_that_reads_what_a_failed_run_should_have_written_fails(forked: Factory, kernels: str) -> None:
    w = forked(2)
    fail, f = w.register(f"{kernels}:fail"), w.register(add_one)
    x, y = w.buffer(4), w.buffer(4)
    with pytest.raises(ts.TaskError):
        w.run(lambda orch, a, c: orch.submit(fail, ts.inout(x), 1))
    for read in (
        lambda orch, a, c: orch.submit(f, ts.inout(x), chip=1),
        lambda orch, a, c: orch.copy_from(ts.HOST, bytearray(16), x),
        lambda orch, a, c: orch.host_wait(x),
    ):
        with pytest.raises(ts.UpstreamError) as caught:
            w.run(read)
        assert isinstance(caught.value, RuntimeError) and caught.value.code == "TSM_EUPSTREAM_FAILED"
    with pytest.raises(ts.UpstreamError):
        w.host_wait(x[1])
    w.host_wait(y)
    fill = w.register(f"{kernels}:fill")
    w.run(lambda orch, a, c: (orch.submit(fill, ts.out(x), 5.0), orch.submit(f, ts.inout(x))))
    assert x.numpy().tolist() == [6] * 4


def test_failure_of_one_run_leaves_others_in_flight_alone(forked: Factory, kernels: str) -> None:
    w = forked(2)
    fail, f, gate = w.register(f"{kernels}:fail"), w.register(add_one), Gate(w, kernels)
    x, y = w.buffer(1), w.buffer(1)

    def good(orch: ts.Orchestrator, tensor: ts.Buffer, config: Any) -> None:
        gate.submit(orch, chip=1)
        for _ in range(5):
            orch.submit(f, ts.inout(tensor), chip=1)

    first = w.submit(good, x)
    bad = w.submit(lambda orch, a, c: orch.submit(fail, 1, chip=0))
    last = w.submit(good, y)
    with pytest.raises(ts.TaskError):
        bad.wait()
    assert not first.done and not last.done
    gate.open()
    first.wait()
    last.wait()
    assert (x.numpy()[0], y.numpy()[0]) == (5, 5)


def test_system_exit_of_a_task_ends_neither_chip_nor_program(forked: Factory) -> None:
    w = forked()
    pid = w.pid(0)

    def leave(task: ts.Task) -> None:
        sys.exit(3)

    f = w.register(leave)
    with pytest.raises(ts.TaskError, match="SystemExit: 3"):
        w.run(lambda orch, a, c: orch.submit(f))
    assert w.pid(0) == pid
    check_works(w)


# ---- time limits ----


def test_task_over_its_time_limit_fails_the_run_and_loses_its_process(worker: Factory, start_method: str) -> None:
    w = worker(2)
    pid = w.pid(1)
    f = w.register(spin)
    ids: list[int] = []
    with pytest.raises(ts.TimeLimitError, match="'spin' on chip 1 exceeded its time limit of 50.000 ms") as caught:
        w.run(lambda orch, a, c: ids.append(orch.submit(f, chip=1, limit=0.05)))
    assert (caught.value.chip, caught.value.task, caught.value.code) == (1, ids[0], "TSM_ETIME_LIMIT")
    check_works(w)
    assert w.pid(1) not in (0, pid)


def test_limit_counts_from_the_begin_of_the_task_not_from_its_submission(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, f = Gate(w, kernels), w.register(add_one)
    x = w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch)
        task_args = ts.TaskArgs()
        task_args.add_tensor(x, ts.INOUT)
        orch.submit_next_level(f, task_args, ts.CallConfig(limit=0.2))
        orch.submit(f, ts.inout(x), limit=0.2)
        orch.submit_group(f, ts.inout(x), chips=[0], limit=0.2)

    handle = w.submit(orchestrate)
    with pytest.raises(TimeoutError):
        handle.wait(0.25)
    gate.open()
    handle.wait()
    assert x.numpy()[0] == 3


def test_limit_of_a_call_config_holds_for_c_tasks(forked: Factory, kernels: str) -> None:
    w = forked()
    spin = w.register(f"{kernels}:spin")
    with pytest.raises(ts.TimeLimitError, match="'spin'"):
        w.run(lambda orch, a, c: orch.submit_next_level(spin, None, ts.CallConfig(limit=0.03)))
    with pytest.raises(ts.TimeLimitError):
        w.run(lambda orch, a, c: orch.submit_group(spin, chips=[0], limit=0.03))
    check_works(w)


# ---- deaths ----


@pytest.mark.parametrize("place", [1, 2], ids=["chip", "sub worker"])
def test_process_killed_inside_a_task_fails_the_run_with_its_name(
    worker: Factory, start_method: str, place: int
) -> None:
    w = worker(2, 1)
    begun = w.buffer(1, "int64")

    def wait(task: ts.Task, begun: Any) -> None:
        begun[0] = 1
        signal.pause()

    f = w.register(wait)
    handle = w.submit(lambda orch, a, c: orch.submit(f, ts.nodep(begun), chip=1 if place == 1 else ts.SUB))
    until(lambda: memoryview(begun)[0])
    pid = w.pid(place)
    os.kill(pid, signal.SIGKILL)
    name = "chip 1" if place == 1 else "sub worker 0"
    with pytest.raises(ts.DiedError, match=rf"{name}.*signal 9 \(Killed\)") as caught:
        handle.wait()
    assert (caught.value.chip, caught.value.detail, caught.value.code) == (place, 9, "TSM_ECHILD_DIED")
    check_works(w)
    assert w.pid(place) not in (0, pid)
    assert w.stats()["deaths"] == 1


def test_process_that_dies_of_its_task_is_named_with_signal_or_status(forked: Factory, kernels: str) -> None:
    w = forked(2, 1)
    die, leave = w.register(f"{kernels}:die"), w.register(f"{kernels}:leave")
    with pytest.raises(ts.DiedError, match=r"chip 1.*'die'.*signal 11|chip 1.*signal 11.*'die'") as caught:
        w.run(lambda orch, a, c: orch.submit(die, int(signal.SIGSEGV), chip=1))
    assert (caught.value.chip, caught.value.detail) == (1, signal.SIGSEGV)
    with pytest.raises(ts.DiedError, match="sub worker 0.*status 4") as caught:
        w.run(lambda orch, a, c: orch.submit(leave, 4, chip=ts.SUB))
    assert (caught.value.chip, caught.value.detail) == (2, 4)
    check_works(w)


def test_chip_killed_idle_fails_no_run_and_is_replaced(worker: Factory, start_method: str) -> None:
    w = worker(2, 1)
    f, x = w.register(add_one), w.buffer(1)
    for place in range(3):
        pid = w.pid(place)
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid, place=place: w.pid(place) not in (0, pid))
        check_works(w)
    w.run(lambda orch, a, c: orch.submit(f, ts.inout(x), chip=1))
    assert x.numpy()[0] == 1  # what was registered is there again
    assert w.stats()["deaths"] == 3


def test_member_that_dies_idle_while_its_domain_is_live_fails_the_run(forked: Factory) -> None:
    w = forked(3)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.allocate_domain("tp", [2, 0], 64)
        pid = w.pid(2)
        os.kill(pid, signal.SIGKILL)
        until(lambda: w.pid(2) not in (0, pid))

    with pytest.raises(ts.DiedError, match="chip 2.*'tp'|'tp'.*chip 2"):
        w.run(orchestrate)
    check_works(w)


def test_worker_that_cannot_replace_its_chip_is_failed_and_says_so(forked: Factory, kernels: str) -> None:
    os.environ["TRANSOM_FAULT"] = "replace:kill:1:0,replace:kill:1:0,replace:kill:1:0,replace:kill:1:0"
    w = forked()
    die, x = w.register(f"{kernels}:die"), w.buffer(1)
    handle = w.submit(lambda orch, a, c: orch.submit(die, 9))
    with pytest.raises(ts.WorkerFailedError, match="chip 0 could not be replaced 3 times in a row: signal 9") as caught:
        handle.wait()
    assert isinstance(caught.value, RuntimeError) and handle.done and handle.error is caught.value
    with pytest.raises(ts.WorkerFailedError):
        handle.wait()
    for call in (lambda: w.run(print), lambda: w.submit(print), lambda: w.buffer(1), lambda: w.host_wait(x)):
        with pytest.raises(ts.WorkerFailedError, match="chip 0 could not be replaced"):
            call()
    assert w.state == "failed" and repr(w) == "<transom.Worker: 1 chip, 0 subs, fork, failed>"
    w.close()
    assert w.state == "closed"


def test_death_of_the_keeper_fails_the_worker(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate, x = Gate(w, kernels), w.buffer(2)
    array = x.numpy()
    array[:] = 3
    handle = w.submit(gate_only, gate)
    gate.wait_begun()
    keeper = int(pathlib.Path(f"/proc/{w.pid(0)}/stat").read_text().rpartition(")")[2].split()[1])
    assert keeper != os.getpid()
    os.kill(keeper, signal.SIGKILL)
    with pytest.raises(ts.WorkerFailedError, match="keeper"):
        w.register(f"{kernels}:nothing")
    with pytest.raises(ts.WorkerFailedError, match="keeper"):
        handle.wait()
    assert handle.done and isinstance(handle.error, ts.WorkerFailedError)
    with pytest.raises(ts.WorkerFailedError, match="keeper"):
        w.run(lambda *a: None)
    assert w.state == "failed"
    w.close()
    assert w.state == "closed" and x.numpy().tolist() == array.tolist() == [3, 3]


def gate_only(orch: ts.Orchestrator, gate: Gate, config: Any) -> None:
    gate.submit(orch)


# ---- deadlocks ----


SIGNAL = ts.CommBufferSpec("signal", "uint64", 1)


def test_wait_that_nothing_can_end_fails_the_run_and_names_it(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2)
    wait = w.register(f"{kernels}:signal_wait")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [1, 0], 64, [SIGNAL])
        orch.submit(wait, tp, 5, chip=0)

    with pytest.raises(ts.DeadlockError, match=r"(?s)'tp'.*5") as caught:
        w.run(orchestrate)
    assert caught.value.code == "TSM_EDEADLOCK" and "signal_wait" in str(caught.value)
    check_works(w)


def test_deadlock_that_the_function_itself_is_part_of_is_found(forked: Factory, kernels: str) -> None:
    w = forked(2)
    wait, x = w.register(f"{kernels}:signal_wait"), w.buffer(1)
    set_signal = w.register(f"{kernels}:signal_set")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 64, [SIGNAL])
        orch.submit(wait, tp, ts.inout(x), 1, chip=0)
        orch.host_wait(x)  # the signal would be sent by what is submitted behind it
        orch.submit(set_signal, tp, 0, 1, chip=1)

    with pytest.raises(ts.DeadlockError, match="tp"):
        w.run(orchestrate)
    check_works(w)


# ---- handles ----


def test_submit_returns_before_its_tasks_are_done(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker()
    gate = Gate(w, kernels)
    handle = w.submit(lambda orch, a, c: (gate.submit(orch), a, c)[1:], 4, 5)
    assert (handle.number, handle.done, handle.error, handle.skipped) == (1, False, None, 0)
    assert repr(handle) == "<transom.RunHandle 1, submitted>"
    for timeout in (0, 0.0, 1e-9, 0.01):
        with pytest.raises(TimeoutError, match="run 1 is not over") as caught:
            handle.wait(timeout)
        assert isinstance(caught.value, ts.WaitTimeoutError) and caught.value.code == "TSM_ETIMEOUT"
    with pytest.raises(ts.WaitTimeoutError):
        handle.result(timeout=0)
    gate.open()
    assert handle.result(None) == (4, 5)
    assert handle.wait() is None and handle.result(0) == (4, 5) and handle.done
    assert repr(handle) == "<transom.RunHandle 1, done>"


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (-0.5, ValueError), (math.nan, ValueError), (math.inf, ValueError), (10**400, ValueError)]
    + [(True, TypeError), ("1", TypeError), ([], TypeError)],
    ids=lambda value: repr(value)[:12],
)
def test_timeout_that_is_none_is_refused_by_name(forked: Factory, timeout: Any, error: type[Exception]) -> None:
    w = forked()
    handle = w.submit(lambda *a: 7)
    for call in (handle.wait, handle.result):
        with pytest.raises(error, match="timeout"):
            call(timeout)
    with pytest.raises(error, match="grace"):
        handle.cancel(timeout)
    assert handle.result(1e300) == 7


def test_outcome_of_a_failed_run_is_the_same_each_time(forked: Factory, kernels: str) -> None:
    w = forked()
    fail, f = w.register(f"{kernels}:fail"), w.register(raise_trouble)
    handles = [w.submit(lambda orch, a, c: orch.submit(fail, 1)), w.submit(lambda orch, a, c: orch.submit(f, "t", 1))]
    for handle, kind in zip(handles, (ts.TaskError, Trouble)):
        errors = []
        for call in (handle.wait, handle.result, handle.wait):
            with pytest.raises(kind) as caught:
                call()
            errors.append(caught.value)
        until(lambda handle=handle: handle.done)
        assert errors == [handle.error] * 3 and handle.error is errors[0]
        assert repr(handle) == f"<transom.RunHandle {handle.number}, failed>"
        handle.cancel()
        assert handle.error is errors[0]


def test_graph_error_comes_out_of_submit_at_once(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, f = Gate(w, kernels), w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch)
        orch.submit(f, 5, chip=9)

    with pytest.raises(ValueError, match="chip is 9; there are chips 0 to 0"):
        w.submit(orchestrate)
    assert not w.submit(lambda *a: None).done or gate.begun <= 1
    gate.open()
    check_works(w)


def test_refusal_that_the_function_catches_leaves_the_run_whole(forked: Factory) -> None:
    w = forked()
    f, x = w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> str:
        orch.submit(f, ts.inout(x))
        for bad in (
            lambda: orch.submit(f, chip=9),
            lambda: orch.submit(f, ts.Tensor(64, 1)),
            lambda: orch.malloc(0, 0),
        ):
            with pytest.raises(ValueError):
                bad()
        orch.submit(f, ts.inout(x))
        return "fine"

    assert w.run(orchestrate) == "fine" and x.numpy()[0] == 2


def test_many_runs_are_in_flight_and_keep_their_order(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate, affine, x = Gate(w, kernels), w.register(f"{kernels}:affine"), w.buffer(1)
    x.numpy()[0] = 1

    def orchestrate(orch: ts.Orchestrator, i: int, config: Any) -> int:
        orch.submit(affine, ts.inout(x), -1.0, float(i))
        return i

    handles = [w.submit(lambda orch, a, c: gate.submit(orch, ts.inout(x)))]
    handles += [w.submit(orchestrate, i) for i in range(60)]
    assert w.stats()["runs_live"] == 61
    gate.open()
    assert [h.result() for h in handles[1:]] == list(range(60))
    expected = 1
    for i in range(60):
        expected = -expected + i
    assert x.numpy()[0] == expected
    assert [h.number for h in handles] == list(range(1, 62))


def test_more_runs_than_there_is_room_for_wait_for_the_oldest(forked: Factory) -> None:
    w = forked()
    f, x = w.register(add_one), w.buffer(1)
    handles = [w.submit(lambda orch, a, c: orch.submit(f, ts.inout(x))) for _ in range(200)]
    for handle in reversed(handles):
        handle.wait()
    assert x.numpy()[0] == 200


def test_dropped_handle_waits_for_nothing_and_the_run_goes_on(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x))
        orch.submit(f, ts.inout(x))

    w.submit(orchestrate)
    gc.collect()
    assert x.numpy()[0] == 0
    gate.open()
    w.host_wait(x, "rw")
    assert x.numpy()[0] == 1


def test_handle_keeps_what_the_run_used_and_outlives_the_worker(kernels: str) -> None:
    def make() -> tuple[ts.RunHandle[Any], ts.RunHandle[Any]]:
        w = ts.Worker(start_method="fork").init()
        fail = w.register(f"{kernels}:fail")
        handles = w.submit(lambda *a: "kept"), w.submit(lambda orch, a, c: orch.submit(fail, 1))
        w.close()
        return handles

    good, bad = make()
    gc.collect()
    assert good.result() == "kept"
    with pytest.raises(ts.TaskError):
        bad.wait()
    del good, bad
    gc.collect()


def test_cancel_skips_what_has_not_begun(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x))
        for _ in range(10):
            orch.submit(f, ts.inout(x))

    handle = w.submit(orchestrate)
    gate.wait_begun()
    pid = w.pid(0)
    handle.cancel(grace=0)
    assert handle.done and handle.skipped == 10 and w.stats()["deaths"] == 1
    with pytest.raises(ts.CanceledError, match="run 1 was cancelled") as caught:
        handle.wait()
    assert isinstance(caught.value, RuntimeError) and caught.value is handle.error
    check_works(w)
    assert w.pid(0) != pid


def test_cancel_ends_waits_inside_tasks_without_losing_the_process(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate, wait = Gate(w, kernels), w.register(f"{kernels}:signal_wait")
    pids = [w.pid(0), w.pid(1)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 64, [SIGNAL])
        orch.submit(wait, tp, 1, chip=1)
        gate.submit(orch, chip=0)  # runs, so that nobody can say that the wait will never end

    handle = w.submit(orchestrate)
    gate.wait_begun()
    gate.open()
    handle.cancel(None)
    assert handle.done and type(handle.error) in (ts.CanceledError, ts.DeadlockError)
    check_works(w)
    assert [w.pid(0), w.pid(1)] == pids


@pytest.mark.parametrize("kind", ["C", "Python"])
def test_endless_task_is_cancelled_after_its_grace(worker: Factory, start_method: str, kernels: str, kind: str) -> None:
    w = worker()
    f = w.register(spin if kind == "Python" else f"{kernels}:spin")
    handle = w.submit(lambda orch, a, c: orch.submit(f))
    handle.cancel(0.05)
    assert isinstance(handle.error, ts.CanceledError)
    check_works(w)


def test_cancel_of_a_run_that_is_over_changes_nothing(forked: Factory) -> None:
    w = forked()
    handle = w.submit(lambda *a: 3)
    handle.wait()
    handle.cancel()
    handle.cancel(0)
    assert handle.error is None and handle.result() == 3 and w.stats()["deaths"] == 0
    check_works(w)


def test_function_cannot_wait_for_or_cancel_itself_away(forked: Factory) -> None:
    w = forked()
    f, x = w.register(add_one), w.buffer(1)
    other = w.submit(lambda orch, a, c: orch.submit(f, ts.inout(x)))
    other.wait()

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        assert other.done and other.wait() is None  # one that is over may be asked
        other.cancel()
        orch.submit(f, ts.inout(x))

    w.run(orchestrate)
    assert x.numpy()[0] == 2

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The life of a worker: options, start, callables, close, and what is left of one that was not closed."""

from __future__ import annotations

import errno
import gc
import os
import pathlib
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Gate, add_one, descriptors, until

Factory = Callable[..., ts.Worker]
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fault() -> Iterator[Callable[[str], None]]:
    yield lambda text: os.environ.__setitem__("TRANSOM_FAULT", text)
    os.environ.pop("TRANSOM_FAULT", None)


def is_alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_one(worker: ts.Worker, callable: ts.Callable, *args: Any, chip: int = 0) -> None:
    worker.run(lambda orch, a, c: orch.submit(callable, *args, chip=chip))


# ---- states ----


def test_worker_goes_from_new_to_ready_to_closed(worker: Factory, start_method: str) -> None:
    w = worker(2, 1, init=False)
    assert (w.state, w.chips, w.subs, w.start_method, w.device_ids) == ("new", 2, 1, start_method, (0, 1))
    assert w.pid(0) == 0
    assert w.init() is w
    assert w.state == "ready"
    assert len({w.pid(place) for place in range(3)} - {0, os.getpid()}) == 3
    w.close()
    assert w.state == "closed"
    assert w.pid(0) == 0
    w.close()


def test_with_statement_starts_and_closes(start_method: str) -> None:
    with ts.Worker(start_method=start_method) as w:
        assert w.state == "ready"
        with w as same:
            assert same is w
        assert w.state == "closed"
    assert w.state == "closed"


def test_block_left_by_an_exception_closes_the_worker_and_the_exception_comes_out() -> None:
    error = ValueError("of the block")
    with pytest.raises(ValueError) as caught:
        with ts.Worker(start_method="fork") as w:
            raise error
    assert caught.value is error
    assert w.state == "closed"


def test_second_start_is_refused(forked: Factory) -> None:
    w = forked()
    with pytest.raises(ts.StateError, match="has been started"):
        w.init()
    w.close()
    with pytest.raises(ts.ClosedError):
        w.init()


def test_what_needs_a_started_worker_is_refused_before(forked: Factory) -> None:
    w = forked(init=False)
    for call in (
        w.stats,
        lambda: w.buffer(1),
        lambda: w.run(print),
        lambda: w.submit(print),
        lambda: w.host_wait(ts.Tensor(1, 1)),
    ):
        with pytest.raises(ts.StateError, match=r"not started: call init\(\)"):
            call()
    assert w.tasks_done == 0 and w.live_domains == {}
    w.close()


def test_repr_says_what_it_is_in_every_state(forked: Factory) -> None:
    w = forked(1, 0, init=False)
    assert repr(w) == "<transom.Worker: 1 chip, 0 subs, fork, new>"
    assert repr(w.init()) == "<transom.Worker: 1 chip, 0 subs, fork, ready>"
    w.close()
    assert repr(w) == "<transom.Worker: 1 chip, 0 subs, fork, closed>"
    assert repr(forked(2, 1, init=False)) == "<transom.Worker: 2 chips, 1 sub, fork, new>"


def test_options_have_the_names_of_the_original() -> None:
    w = ts.Worker(level=3, device_ids=[4, 2, 7], num_sub_workers=2, heap_ring_size=1 << 20, start_method="fork")
    assert (w.chips, w.subs, w.device_ids) == (3, 2, (4, 2, 7))
    with w:
        with pytest.raises(ts.MemoryLimitError, match="1048576 are free"):
            w.run(lambda orch, a, c: orch.malloc(0, 2 << 20))
    assert ts.Worker(chips=2, device_ids=(5, 6)).device_ids == (5, 6)


def test_worker_that_init_did_not_make_is_refused_everywhere() -> None:
    w = ts.Worker.__new__(ts.Worker)
    calls = (w.init, w.stats, lambda: w.run(print), lambda: w.buffer(1), lambda: w.register(print), w.__enter__)
    for call in calls:
        with pytest.raises(ts.StateError, match="__init__ has not been called"):
            call()
    w.close()
    assert repr(w).startswith("<transom.Worker: 0 chips")
    made = ts.Worker(start_method="fork")
    with pytest.raises(ts.StateError, match="has been made"):
        made.__init__(chips=2)
    with made:
        assert made.chips == 1


# ---- a start that fails ----


FAILED_STARTS = [
    ("ready:kill:1:1", ts.DiedError, r"chip 1 did not start: signal 9 \(Killed\)"),
    ("spawn:kill:1:2", ts.DiedError, r"sub worker 0 did not start: signal 9"),
    ("ready:stop:1:0", ts.WaitTimeoutError, "2 of 3 processes are ready; the first missing is chip 0"),
    ("keeper:kill:1", ts.DiedError, "keeper process died"),
    ("load:fail=12:1:0", ts.DiedError, "callable '.*add_one': Cannot allocate memory"),
    ("sys.mmap:fail=12:1:-1", ts.MemoryLimitError, "cannot reserve .* bytes of addresses"),
]


@pytest.mark.parametrize(
    ("method", "text", "error", "said"),
    [("fork", *case) for case in FAILED_STARTS] + [("spawn", *FAILED_STARTS[0])],
)
def test_failed_start_names_the_cause_and_can_be_repeated(
    worker: Factory, fault: Callable[[str], None], method: str, text: str, error: type[Exception], said: str
) -> None:
    fault(text)
    w = worker(2, 1, init=False, start_method=method, start_timeout=0.7 if "stop" in text else 30)
    f = w.register(add_one)
    before = descriptors()
    with pytest.raises(error, match=said):
        w.init()
    assert (w.state, w.pid(0), descriptors()) == ("new", 0, before)
    fault("")
    w.init()
    x = w.buffer(4)
    run_one(w, f, ts.inout(x), chip=1)
    assert x.numpy().tolist() == [1, 1, 1, 1]


def test_start_can_be_given_up_for_good_after_it_failed(fault: Callable[[str], None]) -> None:
    fault("ready:kill:1:0")
    w = ts.Worker(start_method="fork")
    with pytest.raises(ts.DiedError) as caught:
        w.__enter__()
    assert (caught.value.chip, caught.value.code) == (0, "TSM_ECHILD_DIED")
    w.close()
    assert w.state == "closed"


def test_keeper_that_python_cannot_begin_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python3")
    w = ts.Worker(start_timeout=5)
    with pytest.raises((ts.DiedError, ts.SystemCallError)):
        w.init()
    w.close()


# ---- the processes ----


def test_spawned_chips_have_the_programs_path_and_a_share_of_the_cores(
    worker: Factory, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_of_the_test.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def look(task: ts.Task, out: Any) -> None:
        import module_of_the_test  # type: ignore[import-not-found]

        out[:] = module_of_the_test.answer, int(os.environ["OMP_NUM_THREADS"]), "numpy" in sys.modules

    w = worker(1, preload=["module_of_the_test"])
    assert "OMP_NUM_THREADS" not in os.environ
    out = w.buffer(3, "int64")
    run_one(w, w.register(look), ts.out(out))
    assert out.numpy().tolist() == [42, max(1, len(os.sched_getaffinity(0))), 1]


def test_environment_that_says_how_many_threads_is_left_alone(worker: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")

    def look(task: ts.Task, out: Any) -> None:
        out[0] = int(os.environ["OMP_NUM_THREADS"])

    w = worker(1)
    out = w.buffer(1, "int64")
    run_one(w, w.register(look), ts.out(out))
    assert out.numpy()[0] == 5


def test_script_needs_no_main_guard_and_its_functions_travel_by_value(program: Program, start_method: str) -> None:
    done = program(
        "import sys, transom as ts\n"
        "FACTOR = 3\n"
        "class Scale:\n"
        "    def of(self, v): return FACTOR * v\n"
        "def scale(task, x):\n"
        "    for i in range(len(x)): x[i] = Scale().of(x[i])\n"
        "with ts.Worker(2, start_method=sys.argv[1]) as w:\n"
        "    f, x = w.register(scale), w.buffer(2)\n"
        "    memoryview(x)[:] = memoryview(b'\\0\\0\\x80?' * 2).cast('f')\n"
        "    w.run(lambda orch, args, config: orch.submit(f, ts.inout(x), chip=1))\n"
        "    print(memoryview(x).tolist())\n",
        start_method,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[3.0, 3.0]\n", "", 0)


def test_text_that_waits_in_stdout_is_written_once(program: Program, start_method: str) -> None:
    done = program(
        "import sys, transom as ts\n"
        "sys.stdout.write('before')\n"
        "with ts.Worker(3, 1, start_method=sys.argv[1]) as w:\n"
        "    w.run(lambda *a: None)\n"
        "print(' after')\n",
        start_method,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("before after\n", "", 0)


# ---- callables ----


def test_registered_after_start_reaches_chips_and_sub_workers(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2, 2)
    x = w.buffer((4, 2))
    add = w.register(add_one)
    affine = w.register(f"{kernels}:affine")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for i, chip in enumerate((0, 1, ts.SUB, ts.SUB)):
            orch.submit(add, ts.inout(x[i]), chip=chip)
            orch.submit(affine, ts.inout(x[i]), 2.0, 1.0, chip=chip)

    w.run(orchestrate)
    assert x.numpy().tolist() == [[3, 3]] * 4


class LoadsOnceOnly:
    """Its copy can be made in one process only."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        def load(path: str) -> Any:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                raise RuntimeError("the second one") from None
            return print

        return load, (self.path,)

    def __call__(self, task: ts.Task) -> None:
        pass


def test_registration_that_one_process_refuses_is_refused_wholly(
    worker: Factory, start_method: str, kernels: str, tmp_path: pathlib.Path
) -> None:
    w = worker(2, 1)
    with pytest.raises(LookupError, match="cannot be loaded in (chip|sub worker) [01]: RuntimeError: the second one"):
        w.register(LoadsOnceOnly(tmp_path / "loaded"))
    x = w.buffer(1)
    run_one(w, w.register(add_one), ts.inout(x), chip=1)
    assert x.numpy()[0] == 1


def test_function_that_is_too_large_is_refused_by_its_bytes(forked: Factory) -> None:
    w = forked()
    ballast = bytes(65 << 20)
    with pytest.raises(ValueError, match="bytes is 681.....: at most 64 MiB"):
        w.register(lambda task, x: ballast)
    x = w.buffer(1)
    run_one(w, w.register(add_one), ts.inout(x))
    assert x.numpy()[0] == 1


def test_function_that_a_spawned_chip_cannot_load_fails_the_start(worker: Factory, tmp_path: pathlib.Path) -> None:
    w = worker(2, init=False)
    w.register(LoadsOnceOnly(tmp_path / "loaded"))
    with pytest.raises(ts.DiedError, match="RuntimeError: the second one"):
        w.init()


def test_forked_chips_inherit_what_cannot_be_pickled(worker: Factory) -> None:
    class Local:
        def __reduce__(self) -> Any:
            raise TypeError("not to be pickled")

    thing, generator = Local(), (i for i in range(3))

    def use(task: ts.Task, out: Any) -> None:
        out[0] = sum(generator) + isinstance(thing, Local)

    w = worker(1, start_method="fork", init=False)
    f = w.register(use)
    w.init()
    out = w.buffer(1)
    run_one(w, f, ts.out(out))
    assert out.numpy()[0] == 4
    with pytest.raises(TypeError, match="not to be pickled|generator"):
        w.register(use)  # started: it would have to travel
    with pytest.raises(TypeError, match="not to be pickled|generator"):
        worker(1, start_method="spawn", init=False).register(use)


def test_wrong_symbol_is_said_with_the_loaders_text(forked: Factory, kernels: str) -> None:
    for w in (forked(init=False), forked()):
        with pytest.raises(LookupError, match="undefined symbol: no_such_task"):
            w.register(f"{kernels}:no_such_task")
        with pytest.raises(LookupError, match="/no/such/object.so: cannot open shared object file"):
            w.register("/no/such/object.so:add")
        with pytest.raises(ts.NotFoundError):
            w.register("/no/such/object.so:add")
        for target in ("add", "add:", ":add", ""):
            with pytest.raises(ValueError, match=f"target is '{target}'"):
                w.register(target)
        with pytest.raises(TypeError, match="not <class 'int'>"):
            w.register(5)  # type: ignore[arg-type]


def test_shared_object_is_found_in_the_programs_folder(
    worker: Factory, start_method: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pathlib.Path(kernels).parent)
    w = worker()
    x = w.buffer(2)
    run_one(w, w.register("kernels.so:fill"), ts.out(x), 3.0)
    assert x.numpy().tolist() == [3, 3]


def test_two_registrations_of_one_symbol_end_independently(forked: Factory, kernels: str) -> None:
    w = forked()
    x = w.buffer(1)
    first, second = w.register(f"{kernels}:fill"), w.register(f"{kernels}:fill", "filler")
    assert (first.name, second.name, first.is_python, first.registered) == ("fill", "filler", False, True)
    w.unregister(first)
    assert (first.registered, second.registered) == (False, True)
    run_one(w, second, ts.out(x), 5.0)
    assert x.numpy()[0] == 5
    w.unregister(second)
    with pytest.raises(ts.StateError, match="'fill' has been unregistered"):
        run_one(w, second, ts.out(x), 6.0)
    run_one(w, w.register(f"{kernels}:fill"), ts.out(x), 7.0)
    assert x.numpy()[0] == 7


def test_unregister_knows_only_its_own(forked: Factory) -> None:
    w, other = forked(), forked()
    f, foreign = w.register(add_one), other.register(add_one)
    w.unregister(f)
    for handle in (f, foreign):
        with pytest.raises(KeyError) as caught:
            w.unregister(handle)
        assert caught.value.args == (handle,)
    with pytest.raises(TypeError, match="what register returned, not <class 'str'>"):
        w.unregister("add_one")  # type: ignore[arg-type]
    assert repr(f) == "<transom.Callable 'add_one', Python, unregistered>"
    assert foreign.registered


def test_unregistered_handle_is_refused_and_what_was_submitted_runs(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, x = Gate(w, kernels), w.buffer(3)
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch)
        for i in range(3):
            orch.submit(f, ts.inout(x[i : i + 1]))
        w.unregister(f)
        with pytest.raises(ts.StateError, match="add_one' has been unregistered"):
            orch.submit(f, ts.inout(x))

    handle = w.submit(orchestrate)
    gate.open()
    handle.wait()
    assert x.numpy().tolist() == [1, 1, 1]


def test_callable_of_another_worker_is_refused(forked: Factory) -> None:
    w, other = forked(), forked()
    with pytest.raises(ValueError, match="not one of this worker"):
        run_one(w, other.register(add_one))


def test_closed_worker_is_not_entered(worker: Factory) -> None:
    w = worker(init=False)
    w.close()
    with pytest.raises(ts.ClosedError), w:
        pass


def test_callable_has_a_name_and_says_when_the_worker_is_closed(forked: Factory, kernels: str) -> None:
    w = forked(init=False)
    handles = [w.register(add_one), w.register(lambda task: None, "named"), w.register(f"{kernels}:add")]
    assert [repr(h) for h in handles] == [
        "<transom.Callable 'add_one', Python>",
        "<transom.Callable 'named', Python>",
        "<transom.Callable 'add', C>",
    ]
    assert [h.is_python for h in handles] == [True, True, False]
    w.close()
    assert [h.registered for h in handles] == [False] * 3


def test_function_that_is_inherited_is_let_go_of_with_its_worker() -> None:
    class Weight:
        pass

    kept = []

    def make() -> None:
        weight = Weight()
        kept.append(weakref.ref(weight))
        w = ts.Worker(start_method="fork")
        w.register(lambda task: (weight, w))
        with w:
            pass
        never_started = ts.Worker(start_method="fork")
        never_started.register(lambda task: weight)
        closed = ts.Worker(start_method="fork")
        closed.register(lambda task: (weight, closed))
        closed.close()

    make()
    gc.collect()
    assert kept[0]() is None


# ---- closing ----


def test_close_waits_for_what_is_in_flight(forked: Factory, kernels: str) -> None:
    w = forked()
    x = w.buffer(1)
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for _ in range(2000):
            orch.submit(f, ts.inout(x))

    handle = w.submit(orchestrate)
    w.close()
    assert handle.done and handle.error is None
    assert x.numpy()[0] == 2000


def test_close_aborts_what_is_in_flight_after_its_timeout(forked: Factory, kernels: str) -> None:
    w = forked(close_timeout=0.05)
    spin = w.register(f"{kernels}:spin")
    handle = w.submit(lambda orch, a, c: orch.submit(spin))
    pids = [w.pid(0)]
    with pytest.raises(TimeoutError, match="in flight after 50 ms"):
        w.close()
    assert w.state == "closed"
    assert not any(is_alive(pid) for pid in pids)
    assert isinstance(handle.error, ts.ClosedError) and handle.done
    w.close()


def test_everything_is_refused_after_close_and_nothing_crashes(forked: Factory, kernels: str) -> None:
    w = forked(1, 1)
    seen: dict[str, Any] = {}
    x = w.buffer((2, 2))
    array = x.numpy()
    f = w.register(f"{kernels}:fill")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> str:
        seen["orch"] = orch
        seen["scope"] = orch.scope()
        seen["tp"] = orch.allocate_domain("tp", [0], 64, [ts.CommBufferSpec("b", nbytes=8)], keep=True)
        seen["member"] = seen["tp"][0]
        orch.submit(f, ts.out(x), 4.0)
        return "result"

    handle = w.submit(orchestrate)
    w.close()
    orch, tp = seen["orch"], seen["tp"]

    refused = [
        w.stats,
        w.init,
        lambda: w.buffer(1),
        lambda: w.host_wait(x),
        lambda: w.run(orchestrate),
        lambda: w.submit(orchestrate),
        lambda: w.register(add_one),
        lambda: w.register(f"{kernels}:add"),
        lambda: w.unregister(f),
        lambda: orch.submit(f),
        lambda: orch.alloc(1),
        lambda: orch.malloc(0, 1),
        lambda: orch.allocate_domain("x", [0], 64),
        lambda: orch.host_wait(x),
        lambda: orch.scope().__enter__(),
        lambda: seen["scope"].__enter__(),
        lambda: seen["scope"].__exit__(None, None, None),
        lambda: orch.release_domain(tp),
        lambda: tp[0],
        lambda: tp.contexts,
        lambda: tp.tensor(0),
        tp.__enter__,
    ]
    for i, call in enumerate(refused):
        with pytest.raises(ts.StateError) as caught:
            call()
        assert i >= 9 or (type(caught.value), str(caught.value)) == (ts.ClosedError, "the worker is closed")
    assert handle.result() == "result" and handle.wait() is None and handle.done and handle.skipped == 0
    handle.cancel()
    tp.release()
    tp.__exit__(None, None, None)
    assert (tp.released, tp.freed, tp.broken, tp.size, 0 in tp) == (True, True, False, 1, True)
    assert seen["member"].buffer_ptrs.keys() == {"b"}
    assert (w.tasks_done, w.live_domains, w.pid(0), f.registered) == (0, {}, 0, False)
    assert orch.worker is w
    assert array.tolist() == [[4, 4], [4, 4]] == memoryview(x).tolist() == np.from_dlpack(x).tolist()
    assert x[1].numpy().tolist() == [4, 4]
    for thing in (w, orch, tp, handle, f, x, seen["member"], seen["scope"]):
        assert repr(thing)


def test_arrays_over_buffers_stay_readable_as_long_as_they_are_there(worker: Factory, start_method: str) -> None:
    w = worker()
    array = w.buffer(1 << 16).numpy()[100:200]
    array[:] = 7
    w.close()
    del w
    gc.collect()
    assert array.sum() == 700
    array += 1
    assert array.sum() == 800


def test_block_left_by_ctrl_c_does_not_wait_for_what_is_in_flight(kernels: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        with ts.Worker(start_method="fork") as w:
            spin = w.register(f"{kernels}:spin")
            handle = w.submit(lambda orch, a, c: orch.submit(spin))
            raise KeyboardInterrupt
    assert w.state == "closed"
    assert isinstance(handle.error, ts.CanceledError)


# ---- not closed ----


def test_dropped_worker_warns_and_its_processes_end(start_method: str, kernels: str) -> None:
    def make() -> list[int]:
        w = ts.Worker(2, 1, start_method=start_method).init()
        spin = w.register(f"{kernels}:spin")
        w.submit(lambda orch, a, c: orch.submit(spin))
        return [w.pid(place) for place in range(3)]

    with pytest.warns(ResourceWarning, match="unclosed <transom.Worker: 2 chips, 1 sub, .*, ready>"):
        pids = make()
        gc.collect()
    until(lambda: not any(is_alive(pid) for pid in pids))
    with ts.Worker(start_method="fork"):
        pass  # a start reaps the keepers of those that were dropped


def test_worker_in_a_cycle_is_collected(kernels: str) -> None:
    def make() -> weakref.ref[ts.Worker]:
        w = ts.Worker(start_method="fork").init()
        w.cycle = [w, w.buffer(3), w.register(f"{kernels}:add")]  # type: ignore[attr-defined]
        w.run(lambda orch, a, c: setattr(w, "kept", orch.allocate_domain("k", [0], 64, keep=True)))
        w.close()
        return weakref.ref(w)

    gone = make()
    gc.collect()
    assert gone() is None


def test_program_that_ends_without_close_ends_well(program: Program, start_method: str, kernels: str) -> None:
    done = program(
        "import sys, transom as ts\n"
        "w = ts.Worker(2, 1, start_method=sys.argv[1]).init()\n"
        "f = w.register(sys.argv[2] + ':spin')\n"
        "w.submit(lambda orch, args, config: orch.submit(f))\n"
        "print(*(w.pid(place) for place in range(3)))\n",
        start_method,
        kernels,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    until(lambda: not any(is_alive(int(pid)) for pid in done.stdout.split()))


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "os._exit(3)", "os.abort()"])
def test_program_that_is_killed_leaves_nothing(program: Program, start_method: str, kernels: str, how: str) -> None:
    done = program(
        "import os, sys, transom as ts\n"
        "w = ts.Worker(2, 1, start_method=sys.argv[1]).init()\n"
        "f, x = w.register(sys.argv[2] + ':spin'), w.buffer(1 << 20)\n"
        "print(*(w.pid(place) for place in range(3)), flush=True)\n"
        "def orchestrate(orch, args, config):\n"
        "    orch.allocate_domain('tp', [0, 1], 1 << 16)\n"
        "    orch.submit(f)\n"
        f"    {how}\n"
        "w.run(orchestrate)\n",
        start_method,
        kernels,
        PYTHONFAULTHANDLER="",
    )
    assert done.returncode in (-signal.SIGKILL, 3, -signal.SIGABRT)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    until(lambda: not any(is_alive(pid) for pid in pids))
    assert not [name for name in os.listdir("/dev/shm") if "transom" in name]


def test_second_program_may_run_beside(program: Program, forked: Factory) -> None:
    w = forked(2)
    x = w.buffer(1)
    f = w.register(add_one)
    done = program("import transom as ts\nwith ts.Worker(2) as w: w.run(lambda *a: print('there'))\n")
    assert (done.stdout, done.stderr) == ("there\n", "")
    run_one(w, f, ts.inout(x))
    assert x.numpy()[0] == 1


def test_errno_of_a_system_call_is_in_the_exception(fault: Callable[[str], None]) -> None:
    fault("sys.fork:fail=11:1:-1")
    w = ts.Worker(start_method="fork")
    with pytest.raises(OSError, match="cannot fork the keeper") as caught:
        w.init()
    assert caught.value.errno == errno.EAGAIN
    assert isinstance(caught.value, ts.SystemCallError) and caught.value.code == "TSM_ESYS"
    w.close()

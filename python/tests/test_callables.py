# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Functions of Python as tasks: every kind of callable, where they come from, and what the processes do around them."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import operator
import os
import pathlib
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Team, check_refusals, open_team, run_script
from transom import _child

Factory = Callable[..., ts.Worker]
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", params=["spawn", "fork"])
def team(request: pytest.FixtureRequest) -> Iterator[Team]:
    """Started before the tests, so that functions travel to both."""
    yield from open_team(2, 1, start_method=request.param)


def run_one(worker: ts.Worker, handle: ts.Callable, *args: Any, chip: int = 0) -> None:
    worker.run(lambda orch, a, c: orch.submit(handle, *args, chip=chip))


# ---- kinds of callables: each adds 1 to the tensor ----


def add_one(task: ts.Task, x: Any) -> None:
    x += 1


def add(task: ts.Task, x: Any, much: float = 1, *, times: int = 1) -> None:
    x += much * times


def add_recursively(task: ts.Task, x: Any, left: int = 4) -> None:
    if left > 0:
        x += 0.25
        add_recursively(task, x, left - 1)


def decorated(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def call(*args: Any) -> None:
        function(*args)

    return call


@decorated
def add_wrapped(task: ts.Task, x: Any) -> None:
    x += 1


@functools.lru_cache
def half(n: int) -> float:
    return n / 2


class Adder:
    def __init__(self, much: float) -> None:
        self.much = much

    def __call__(self, task: ts.Task, x: Any) -> None:
        x += self.much

    def method(self, task: ts.Task, x: Any) -> None:
        x += self.much

    def of_the_task(self, task: ts.Task) -> None:
        task.tensors[0][:] += self.much

    @classmethod
    def class_method(cls, task: ts.Task, x: Any) -> None:
        cls(1)(task, x)

    @staticmethod
    def static_method(task: ts.Task, x: Any) -> None:
        x += 1


class AddsWhenMade:
    def __init__(self, task: ts.Task, x: Any) -> None:
        x += 1


class Fields(tuple[float, ...]):
    def __call__(self, task: ts.Task, x: Any) -> None:
        x += sum(self)


def kinds() -> dict[str, Callable[..., Any]]:
    one = 1.0
    table = {"much": one}

    def closure(task: ts.Task, x: Any) -> None:
        x += table["much"]

    def recursive(task: ts.Task, x: Any, left: int = 2) -> None:
        if left > 0:
            x += 0.5
            recursive(task, x, left - 1)

    def even(task: ts.Task, x: Any, left: int = 4) -> None:
        if left > 0:
            odd(task, x, left - 1)

    def odd(task: ts.Task, x: Any, left: int) -> None:
        x += 0.5
        even(task, x, left - 1)

    def generator_inside(task: ts.Task, x: Any) -> None:
        x += sum(half(n) for n in (1, 1))

    class Local:
        def __init__(self) -> None:
            self.adder = Adder(one)

        def __call__(self, task: ts.Task, x: Any) -> None:
            super().__init__()
            self.adder(task, x)

    class Derived(Local):
        def __call__(self, task: ts.Task, x: Any) -> None:
            super().__call__(task, x)

    return {
        "function of a module": add_one,
        "with defaults": add,
        "recursive of a module": add_recursively,
        "wrapped": add_wrapped,
        "closure": closure,
        "lambda": lambda task, x: operator.iadd(x, one),
        "lambda of the task": lambda task: operator.iadd(task.tensors[0], one),
        "recursive closure": recursive,
        "two that call each other": even,
        "with a generator and a cache": generator_inside,
        "object": Adder(1),
        "method": Adder(1).method,
        "method of the task": Adder(1).of_the_task,
        "class method": Adder.class_method,
        "static method": Adder.static_method,
        "class": AddsWhenMade,
        "tuple that can be called": Fields((0.25, 0.75)),
        "object of a local class": Local(),
        "object of a derived local class": Derived(),
        "method of a local object": Derived().__call__,
        "partial": functools.partial(add, times=2, much=0.5),
        "partial of a partial": functools.partial(functools.partial(add, times=4), much=0.25),
        "partial of a closure": functools.partial(recursive, left=2),
        "partial method": functools.partial(Adder.method, Adder(1)),
    }


def test_every_kind_of_callable_can_be_a_task(team: Team) -> None:
    w = team.worker
    for kind, function in kinds().items():
        x = w.buffer((3, 4))
        handle = w.register(function, kind)
        assert handle.name == kind and handle.is_python

        def orchestrate(orch: ts.Orchestrator, f: ts.Callable, x: Any) -> None:
            for place, chip in enumerate((0, 1, ts.SUB)):
                orch.submit(f, ts.inout(x[place]), chip=chip)

        w.run(orchestrate, handle, x)
        assert (x.numpy() == 1).all(), kind
        w.unregister(handle)


def test_every_kind_of_callable_is_inherited_or_travels_when_the_worker_starts(
    worker: Factory, start_method: str
) -> None:
    w = worker(1, 1, init=False)
    handles = [w.register(function) for function in kinds().values()]
    w.init()
    x = w.buffer((2, 1))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for handle in handles:
            orch.submit(handle, ts.inout(x[0]), chip=0)
            orch.submit(handle, ts.inout(x[1]), chip=ts.SUB)

    w.run(orchestrate)
    assert x.numpy().ravel().tolist() == [len(handles)] * 2


def test_functions_of_builtin_modules_can_be_tasks(team: Team) -> None:
    team.alone(repr)
    team.alone(operator.attrgetter("chip"))
    with pytest.raises(TypeError, match="'>' not supported between instances"):
        team.alone(max, 1, 2)


def test_function_is_called_with_the_task_alone_when_it_has_one_parameter() -> None:
    for function, alone in (
        (lambda task: 0, True),
        (lambda task, *, k=1: 0, True),
        (lambda task, /: 0, True),
        (lambda task, x: 0, False),
        (lambda task, x=1: 0, False),
        (lambda *args: 0, False),
        (lambda task, *args: 0, False),
        (lambda: 0, False),
        (lambda **kw: 0, False),
        (lambda task, **kw: 0, True),
        (Adder(1), False),
        (Adder(1).of_the_task, True),
        (functools.partial(add, much=1), False),
        (int, False),
        (print, False),
        (repr, True),
    ):
        assert _child.takes_task_only(function) is alone, function


def test_errors_name_the_callable(team: Team) -> None:
    def fail(*args: Any) -> None:
        raise ValueError("v")

    for function, name, want in (
        (fail, None, "test_errors_name_the_callable.<locals>.fail"),
        (fail, "mine", "mine"),
        (functools.partial(fail, 1), None, "functools.partial(<function test_errors_name"),
    ):
        handle = team.worker.register(function, name)
        with pytest.raises(ValueError) as caught:
            run_one(team.worker, handle)
        assert handle.name.startswith(want) and f"task '{want}" in caught.value.__notes__[0]
        team.worker.unregister(handle)


def test_what_a_function_refers_to_is_copied_when_it_is_registered(team: Team) -> None:
    table = {"value": 1}
    handle = team.worker.register(lambda task, x: operator.setitem(x, 0, table["value"]))
    table["value"] = 2
    x = team.worker.buffer(1)
    run_one(team.worker, handle, ts.out(x))
    team.worker.unregister(handle)
    assert x.numpy()[0] == 1


def test_unregistered_function_is_let_go_of_in_every_process(team: Team, tmp_path: pathlib.Path) -> None:
    class Weight:
        def __init__(self, path: str) -> None:
            self.path = path

        def __del__(self) -> None:
            with open(self.path, "a") as file:
                file.write(f"{os.getpid()}\n")

    path = tmp_path / "gone"
    weight = Weight(str(path))
    handle = team.worker.register(lambda task: weight.path)
    for chip in (0, 1, ts.SUB):
        run_one(team.worker, handle, chip=chip)
    team.worker.unregister(handle)
    again = team.worker.register(add_one)  # the processes have seen that it is gone
    run_one(team.worker, again, ts.inout(team.worker.buffer(1)))
    team.worker.unregister(again)
    gone = {int(line) for line in path.read_text().split()}
    assert gone == {team.worker.pid(place) for place in range(3)}


# ---- what cannot travel ----


def test_what_cannot_be_pickled_is_refused_by_register(team: Team, tmp_path: pathlib.Path) -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise NotImplementedError("not to be pickled")

        def __call__(self, task: ts.Task) -> None:
            pass

    lock, numbers = threading.Lock(), (n for n in range(3))
    with open(tmp_path / "file", "w") as file:
        check_refusals(
            (lambda: team.worker.register(lambda task: lock), TypeError, "lock"),
            (lambda: team.worker.register(lambda task: numbers), TypeError, "generator"),
            (lambda: team.worker.register(lambda task: file), pickle.PicklingError, "files that are not opened"),
            (lambda: team.worker.register(Refuses()), NotImplementedError, "not to be pickled"),
            (lambda: team.worker.register(5), TypeError, "'path:symbol' or a function"),  # type: ignore[arg-type]
            (lambda: team.worker.register(None), TypeError, "'path:symbol' or a function"),  # type: ignore[arg-type]
        )
    team.alone(lambda task: None)


def test_argument_that_cannot_be_pickled_is_refused_by_submit(team: Team) -> None:
    handle, lock = team.worker.register(add), threading.Lock()

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        check_refusals(
            (lambda: orch.submit(handle, lock), TypeError, "lock"),
            (lambda: orch.submit(handle, bytes(70000)), ValueError, "a record holds less than 64 KiB"),
        )

    team.worker.run(orchestrate)
    team.worker.unregister(handle)


class Unloadable:
    """Its copy is made by an expression, which fails."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __reduce__(self) -> Any:
        return eval, (self.source,)

    def __call__(self, task: ts.Task) -> None:
        pass


UNLOADABLE = [
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("__import__('no_such_module')", "ModuleNotFoundError: No module named 'no_such_module'"),
    ("5", "TypeError: 5 cannot be called"),
    ("exit(3)", "SystemExit: 3"),
]


def test_function_that_cannot_be_loaded_is_refused_with_the_reason_and_the_place(team: Team) -> None:
    for source, reason in UNLOADABLE:
        with pytest.raises(LookupError) as caught:
            team.worker.register(Unloadable(source), "bomb")
        assert type(caught.value) is ts.NotFoundError and reason in str(caught.value)
        assert "'bomb' cannot be loaded in " in str(caught.value)
    team.alone(lambda task: None)


def test_function_that_cannot_be_loaded_fails_a_start_with_spawn(worker: Factory) -> None:
    w = worker(2, init=False)
    w.register(Unloadable("1 / 0"), "bomb")
    for _ in range(2):
        with pytest.raises(ts.DiedError, match="did not start: .*'bomb'.*ZeroDivisionError: division by zero"):
            w.init()
    assert w.state == "new"


# ---- modules ----


MODULE = """
import os
with open({path!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
count = 0
def count_up(task, x):
    global count
    count += 1
    x[0] = count
"""


def test_module_that_only_the_programs_path_leads_to_is_found(
    worker: Factory, start_method: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"only_here_{start_method}"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / f"{name}.py").write_text(MODULE.format(path=str(tmp_path / "log")))
    monkeypatch.chdir(tmp_path / "folder")
    monkeypatch.syspath_prepend("")  # as in an interactive session
    module = __import__(name)
    w = worker(2, init=False)
    before = w.register(module.count_up)
    w.init()
    after = w.register(module.count_up)
    x = w.buffer(1)
    for number, handle in enumerate((before, after, before), start=1):
        run_one(w, handle, ts.out(x), chip=1)
        assert x.numpy()[0] == number  # by name: both are of one module
    assert module.count == 0
    del sys.modules[name]


def test_module_that_no_path_of_the_chips_leads_to_is_refused(
    team: Team, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "too_late.py").write_text("def task_function(task): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("too_late")
    with pytest.raises(LookupError, match="No module named 'too_late'"):
        team.worker.register(module.task_function)
    del sys.modules["too_late"]


def test_preloaded_modules_are_imported_once_for_all_processes(
    worker: Factory, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    (tmp_path / "preloaded.py").write_text(MODULE.format(path=str(log)))
    (tmp_path / "failing.py").write_text("raise RuntimeError('while it is imported')\n")
    (tmp_path / "exiting.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    w = worker(2, 1, preload=["failing", "preloaded", "no_such_module", "exiting"])
    # Once by each keeper that was tried: where one has something in the place of the arena another follows.
    imported_by = log.read_text().split()
    assert len(imported_by) == len(set(imported_by)) >= 1

    def look(task: ts.Task, out: Any) -> None:
        assert str(os.getpid()) not in imported_by
        out[0] = "preloaded" in sys.modules
        import preloaded  # type: ignore[import-not-found]

        preloaded.count_up(task, out[1:])

    handle, out = w.register(look), w.buffer((3, 2))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for place, chip in enumerate((0, 1, ts.SUB)):
            orch.submit(handle, ts.out(out[place]), chip=chip)

    w.run(orchestrate)
    assert out.numpy().tolist() == [[1, 1]] * 3  # each has a copy of its own
    assert log.read_text().split() == imported_by
    with pytest.raises(TypeError, match="preload must be a sequence of names"):
        ts.Worker(preload="numpy")
    with pytest.raises(TypeError, match="preload must be a sequence of names"):
        ts.Worker(preload=[5])  # type: ignore[list-item]


SCRIPT = """\
import functools, sys
import transom as ts

FACTOR = 2
KEPT = []

def twice(v):
    return FACTOR * v

def of_the_script(task, x):
    KEPT.append(1)
    x[0] = twice(len(KEPT))

def calls_itself(task, x, n=3):
    if n > 0:
        x[0] += 1
        calls_itself(task, x, n - 1)

class Base:
    unit = 1
    def __call__(self, task, x):
        x[0] = self.value(x)

class Derived(Base):
    def __init__(self, much):
        self.much = much
    def value(self, x):
        return self.much * self.unit + (type(self) is Derived) + isinstance(self, Base)
    @classmethod
    def made(cls, task, x):
        cls(3)(task, x)

def make(n):
    return lambda task, x: x.__setitem__(0, twice(n))

def with_object(task, x, o):
    x[0] = o.value(x) + FACTOR

FUNCTIONS = [
    (of_the_script, (), [2, 4]), (calls_itself, (), [3, 6]), (Derived(5), (), [7, 7]), (Derived.made, (), [5, 5]),
    (make(7), (), [14, 14]), (functools.partial(with_object, o=Derived(1)), (), [5, 5]),
    (with_object, (Derived(4),), [8, 8]),
]

w = ts.Worker(1, start_method=sys.argv[1])
before = [w.register(f) for f, _, _ in FUNCTIONS] if sys.argv[2] == "before" else None
w.init()
handles = before or [w.register(f) for f, _, _ in FUNCTIONS]
x = w.buffer(1)
for handle, (f, args, want) in zip(handles, FUNCTIONS):
    memoryview(x)[0] = 0
    for value in want:
        w.run(lambda orch, a, c: orch.submit(handle, ts.inout(x), *args))
        assert memoryview(x)[0] == value, (f, memoryview(x)[0], value)
assert not KEPT
w.close()
print("done")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_functions_classes_and_objects_of_the_script_can_be_tasks(
    tmp_path: pathlib.Path, method: str, when: str
) -> None:
    done = run_script(tmp_path / "script.py", SCRIPT, method, when)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


# ---- output ----


PRINTING = """\
import os, sys
import transom as ts

def lines(task, k):
    for n in range(50):
        print("line", k, n, "x" * 100)

def parts(task, k):
    sys.stdout.write("part %d" % k)
    sys.stdout.write(" goes on")
    sys.stderr.write("error %d" % k)
    print(" to its end", k)

def without_end(task, k):
    sys.stdout.write("without end %d;" % k)

def around_python(task, k):
    print("above")
    os.write(1, b"between\\n")
    print("below")

sys.stdout.write("buffered;")
w = ts.Worker(2, 1, start_method=sys.argv[1])
handles = [w.register(f) for f in (lines, parts, without_end)]
w.init()
around = w.register(around_python)
def orchestrate(orch, args, config):
    for handle in handles:
        for k in range(6):
            orch.submit(handle, k, chip=(0, 1, ts.SUB)[k % 3])
w.run(orchestrate)
w.run(lambda orch, args, config: orch.submit(around, 0))
w.close()
sys.stdout.write("at the end\\n")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_what_tasks_print_comes_out_whole_and_once(tmp_path: pathlib.Path, method: str, unbuffered: str) -> None:
    done = run_script(tmp_path / "script.py", PRINTING, method, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0
    out = done.stdout
    for k in range(6):
        for n in range(50):
            assert out.count(f"line {k} {n} {'x' * 100}\n") == 1
        assert out.count(f"part {k} goes on to its end {k}\n") == 1
        assert out.count(f"without end {k};") == 1
        assert done.stderr.count(f"error {k}") == 1
    assert out.count("buffered;") == 1 and out.count("at the end\n") == 1
    assert "above\nbetween\nbelow\n" in out


# ---- what tasks do to their process ----


def test_task_runs_in_the_main_thread_with_usual_signals(team: Team) -> None:
    def look(task: ts.Task) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
        reader, writer = os.pipe()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
        os.close(writer)
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
        seen: list[int] = []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        assert asyncio.run(answer()) == 4

    async def answer() -> int:
        await asyncio.sleep(0)
        return 4

    team.alone(look, chip=1)


count = 0
go_on = threading.Event()
counted = threading.Event()


def start_thread(task: ts.Task) -> None:
    def loop() -> None:
        global count
        while count < 1000:
            count += 1
        counted.set()
        go_on.wait()
        count = -1

    threading.Thread(target=loop, name="of a task", daemon=True).start()


def meet_thread(task: ts.Task) -> None:
    assert counted.wait(20)
    assert [t.name for t in threading.enumerate() if t.name == "of a task"] == ["of a task"]
    go_on.set()
    (thread,) = (t for t in threading.enumerate() if t.name == "of a task")
    thread.join()
    assert count == -1


def test_threads_that_a_task_starts_go_on_between_tasks(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(1)
    start, meet = w.register(start_thread), w.register(meet_thread)
    nothing = w.register(f"{kernels}:nothing")
    run_one(w, start)
    run_one(w, nothing)  # of C, with the thread beside it
    run_one(w, meet)


def test_task_may_fork_and_start_processes(team: Team) -> None:
    def start(task: ts.Task, out: Any) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert subprocess.run(["echo", "hello"], capture_output=True, check=True).stdout == b"hello\n"
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.map(abs, [-3]) == [3]
        out[0] = 1

    out = team.worker.buffer(1)
    team.alone(start, ts.out(out), chip=1)
    assert out.numpy()[0] == 1
    team.alone(lambda task: None, chip=1)


def test_process_that_a_task_forks_ends_when_it_returns_from_the_task(team: Team) -> None:
    def fork(task: ts.Task, out: Any) -> None:
        for k, ending in enumerate((lambda: None, lambda: sys.exit(4), lambda: 1 / 0)):
            pid = os.fork()
            if pid == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where it prints what it raises
                ending()
                return
            out[k] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    out = team.worker.buffer(3, "int32")
    team.alone(fork, ts.out(out))
    assert out.numpy()[0] == 0 and (out.numpy()[1:] != 0).all()
    team.alone(lambda task: None)


def test_random_numbers_differ_between_the_processes(worker: Factory, start_method: str) -> None:
    def draw(task: ts.Task, out: Any) -> None:
        out[:] = np.random.rand(), random.random()

    np.random.seed(1)
    random.seed(1)
    w = worker(2, 1, preload=["numpy.random"])
    handle, out = w.register(draw), w.buffer((3, 2), "float64")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for place, chip in enumerate((0, 1, ts.SUB)):
            orch.submit(handle, ts.out(out[place]), chip=chip)

    w.run(orchestrate)
    assert len(set(out.numpy().ravel())) == 6


def test_processes_of_a_worker_started_in_an_except_block_handle_no_exception(worker: Factory) -> None:
    def fail(task: ts.Task) -> None:
        assert sys.exc_info() == (None, None, None)
        raise ValueError("clean")

    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        w = worker(1, start_method="fork")
    with pytest.raises(ValueError) as caught:
        run_one(w, w.register(fail))
    assert "ZeroDivisionError" not in str(caught.value.__cause__)


# ---- replaced processes ----


def test_replaced_process_has_all_functions_again(worker: Factory, start_method: str) -> None:
    w = worker(2, 1, init=False)
    unpicklable = threading.Lock()

    def early(task: ts.Task, x: Any) -> None:
        x += 1 if start_method == "spawn" else unpicklable.acquire(False)

    before = w.register((lambda task, x: operator.iadd(x, 1)) if start_method == "spawn" else early)
    w.init()
    after, die = w.register(add_recursively), w.register(lambda task: os.kill(os.getpid(), signal.SIGKILL))
    gone = w.register(add_one)
    w.unregister(gone)
    x = w.buffer((3, 1))
    for place, chip in enumerate((0, 1, ts.SUB)):
        pid = w.pid(place)
        with pytest.raises(ts.DiedError):
            run_one(w, die, chip=chip)
        for handle in (before, after, w.register(Adder(1))):
            run_one(w, handle, ts.inout(x[place]), chip=chip)
        assert w.pid(place) not in (0, pid)
    assert x.numpy().ravel().tolist() == [3, 3, 3]


@pytest.mark.parametrize("how", ["sleeping", "waiting for a signal", "in C with the GIL"])
def test_time_limit_ends_a_task_whatever_it_does(worker: Factory, how: str) -> None:
    def endless(task: ts.Task, tp: ts.Domain) -> None:
        if how == "sleeping":
            threading.Event().wait()
        elif how == "waiting for a signal":
            tp.wait_until(0, "==", 1)
        else:
            sum(range(10**18))

    w = worker(1, start_method="fork")
    handle = w.register(endless, "endless")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(handle, orch.allocate_domain("tp", [0], 64), limit=0.05)

    with pytest.raises(ts.TimeLimitError, match="'endless' on chip 0 exceeded its time limit of 50.000 ms"):
        w.run(orchestrate)
    x = w.buffer(1)
    run_one(w, w.register(add_one), ts.inout(x))
    assert x.numpy()[0] == 1


# ---- without NumPy ----


WITHOUT_NUMPY = """\
import sys
import transom as ts

def member(task, tp, x, n):
    a = tp["a"]
    assert type(a) is memoryview and (a.format, a.shape) == ("f", (8,)) and "numpy" not in sys.modules
    for i in range(8):
        a[i] = i
    tp.sync()
    tp.all_reduce(a[0:4])
    tp.all_reduce(("a", 4))
    assert a.tolist() == [2.0 * i for i in range(8)]
    def largest(into, other):
        assert type(into) is memoryview and other.readonly
        for i in range(len(into)):
            into[i] = max(into[i], other[i])
    a[0] = tp.rank
    tp.all_reduce("a", op=largest)
    assert a[0] == 1
    tp.put(a[0:2], a[2:4], tp.rank)
    tp.quiet()
    assert a[0] == a[2]
    assert tp["h"].format == "H" and tp.buffer().format == "B" and tp.buffer("a", 1 - tp.rank)[7] == 14
    assert type(x) is memoryview and x.readonly and x.shape == (2, 2) and x[1, 1] == 4 and n == 5
    try:
        x[0, 0] = 1
    except TypeError:
        pass
    else:
        raise AssertionError("it is an input")
    try:
        tp.wait_until("nope", "==", 1)
    except LookupError:
        pass
    tp.barrier()

def fill(task, y):
    assert not y.readonly
    y[1] = 7

with ts.Worker(2, 1, start_method=sys.argv[1]) as w:
    f, g = w.register(member), w.register(fill)
    x, y = w.buffer((2, 2)), w.buffer(4, "int16")
    memoryview(x).cast("B").cast("f", (2, 2))[1, 1] = 4
    def orchestrate(orch, args, config):
        buffers = [ts.CommBufferSpec("a", "float32", 8), ts.CommBufferSpec("h", "bfloat16", 2)]
        tp = orch.allocate_domain("tp", [0, 1], 4096, buffers)
        orch.submit_group(f, tp, x, 5, chips=[0, 1])
        for chip in (0, ts.SUB):
            orch.submit(g, ts.out(y[2:]), chip=chip)
    w.run(orchestrate)
    assert memoryview(y).tolist() == [0, 0, 0, 7]
    try:
        y.numpy()
    except ImportError:
        print("done")
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_without_numpy_arrays_are_memoryviews(tmp_path: pathlib.Path, method: str) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('there is no NumPy here')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = run_script(tmp_path / "script.py", WITHOUT_NUMPY, method, PYTHONPATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")

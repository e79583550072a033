# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Task: what a function is given and where it runs; what Task and Domain refuse, in every parameter of every method."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import fractions
import gc
import inspect
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Team, check_refusals, open_team


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    yield from open_team()


# ---- where it runs ----


def test_task_says_where_it_runs(team: Team) -> None:
    w = team.worker

    def look(task: ts.Task, out: Any) -> None:
        facts = [task.chip, task.id, task.run, task.member, task.members, task.blocks]
        out[task.member, :] = facts
        chip, id, run, member, members, _ = facts
        assert repr(task) == f"<transom.Task {id} of run {run} on chip {chip}, member {member} of {members}>"

    handle = w.register(look)
    out = w.buffer((3, 3, 6), "uint64")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> tuple[int, list[int]]:
        single = orch.submit(handle, ts.out(out[0]), chip=2, blocks=5)
        sub = orch.submit(handle, ts.out(out[1]), chip=ts.SUB)
        group = orch.submit_group(handle, ts.nodep(out[2]), chips=[3, 0, 1], blocks=2)
        return orch.run, [single, sub, group]

    run, (single, sub, group) = w.run(orchestrate)
    w.unregister(handle)
    assert out.numpy()[:2, 0].tolist() == [[2, single, run, 0, 1, 5], [4, sub, run, 0, 1, 1]]
    assert out.numpy()[2].tolist() == [[chip, group, run, member, 3, 2] for member, chip in enumerate((3, 0, 1))]


def test_tasks_and_domains_are_made_by_the_worker_only() -> None:
    for kind in (ts.Task, ts.Domain):
        with pytest.raises(TypeError, match="cannot create"):
            kind()
        with pytest.raises(TypeError):
            type("More", (kind,), {})


def test_everything_public_has_a_docstring_and_a_signature() -> None:
    for kind in (ts.Task, ts.Domain):
        assert kind.__doc__
        for name, attribute in public(kind).items():
            assert attribute.__doc__, name
            if callable(attribute):
                assert list(inspect.signature(attribute).parameters)[0] == "self", name


# ---- arguments ----


@dataclasses.dataclass
class Settings:
    rate: float
    names: list[str]


class Color(enum.Enum):
    RED = 1


NUMBERS: list[tuple[Any, Any]] = [  # what is given, what arrives
    (0, 0),
    (-1, -1),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**63, 2**63),
    (2**64 - 1, 2**64 - 1),
    (0.1, 0.1),
    (-1e300, -1e300),
    (float("inf"), float("inf")),
    (True, True),
    (False, False),
    (None, None),
    (np.float32(0.1), float(np.float32(0.1))),
    (np.float64(0.1), 0.1),
    (np.int8(-3), -3),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.array(7, np.int16), 7),
]
OBJECTS: list[Any] = [
    "text",
    "",
    b"bytes",
    (1, "two", [3.0, None]),
    {"k": {1, 2}},
    2 + 3j,
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    range(5),
    Settings(0.5, ["a"]),
    Color.RED,
    int,
    len,
    np.dtype("int16"),
    slice(1, 2),
]


def test_numbers_arrive_exactly_and_with_their_type(team: Team) -> None:
    def look(task: ts.Task, *given: Any) -> None:
        assert task.scalars == given and task.scalar_count() == len(given) == len(NUMBERS)
        for value, (_, want) in zip(given, NUMBERS):
            assert value == want and type(value) is type(want)

    team.alone(look, *[number for number, _ in NUMBERS])


def test_objects_arrive_as_copies(team: Team) -> None:
    def look(task: ts.Task, *given: Any) -> None:
        assert list(given) == OBJECTS and [type(o) for o in given] == [type(o) for o in OBJECTS]
        assert list(task.scalars) == OBJECTS
        given[3][2].append("of the task")

    team.alone(look, *OBJECTS)
    assert OBJECTS[3] == (1, "two", [3.0, None])


def test_arguments_of_all_kinds_keep_their_order(team: Team) -> None:
    def look(task: ts.Task, tp: ts.Domain, x: Any, n: int, text: str, y: Any, none: None, o: Any) -> None:
        assert isinstance(tp, ts.Domain) and (n, text, none, o) == (5, "t", None, {"k": 1})
        assert task.tensors == (x, y) and task.tensors[0] is x and task.tensor(1) is y
        assert task.scalars == (5, "t", None, {"k": 1}) and task.scalar(3) is o
        assert task.domains == (tp,) and task.domain() is task.domain(0) is task.domains[0] is tp
        assert (task.tensor_count(), task.scalar_count(), task.domain_count()) == (2, 4, 1)
        y[0] = x[0] + n

    x, y = team.worker.buffer(1), team.worker.buffer(1)
    x.numpy()[0] = 2
    team.group(look, x, 5, "t", ts.out(y), None, {"k": 1}, chips=[1])
    assert y.numpy()[0] == 7


def test_arguments_may_be_prepared_once_and_used_often(team: Team) -> None:
    def add(task: ts.Task, x: Any, n: int, real: float, o: Any, tp: ts.Domain) -> None:
        assert (n, real, o, tp.size) == (5, 0.5, ("o",), 1)
        x += 1

    handle, x = team.worker.register(add), team.worker.buffer(3)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        prepared = ts.TaskArgs()
        prepared.add_tensor(x, ts.inout(x).tag)
        prepared.add_scalar(5)
        prepared.add_scalar(0.5)
        prepared.add_object(("o",))
        prepared.add_domain(orch.allocate_domain("tp", [0], 64))
        for _ in range(10):
            orch.submit_next_level(handle, prepared, worker=0)

    team.worker.run(orchestrate)
    team.worker.unregister(handle)
    assert x.numpy().tolist() == [10] * 3


DTYPES = "uint8 int8 bool uint16 int16 float16 bfloat16 uint32 int32 float32 uint64 int64 float64".split()


def test_tensor_of_every_type_is_an_array_over_the_shared_memory(team: Team) -> None:
    def look(task: ts.Task, *tensors: Any) -> None:
        for dtype, x in zip(DTYPES, tensors):
            assert x.dtype == ("uint16" if dtype == "bfloat16" else dtype) and x.shape == (2, 3)
            x[1, 2] = 1

    buffers = [team.worker.buffer((2, 3), dtype) for dtype in DTYPES]
    team.alone(look, *[ts.inout(buffer) for buffer in buffers], chip=3)
    for buffer in buffers:
        assert buffer.numpy().tolist() == [[0, 0, 0], [0, 0, 1]]


def test_inputs_are_read_only_and_all_others_are_not(team: Team) -> None:
    def look(task: ts.Task, r: Any, w: Any, rw: Any, n: Any) -> None:
        assert [x.flags.writeable for x in (r, w, rw, n)] == [False, True, True, True]
        with pytest.raises(ValueError, match="read-only"):
            r[0] = 1
        with pytest.raises(ValueError):
            r.flags.writeable = True
        with pytest.raises(TypeError):
            memoryview(r)[0] = 1.0

    tensors = [team.worker.buffer(2) for _ in range(4)]
    team.alone(look, tensors[0], ts.out(tensors[1]), ts.inout(tensors[2]), ts.nodep(tensors[3]))


def test_views_arrive_with_shape_and_strides(team: Team) -> None:
    def look(task: ts.Task, column: Any, rows: Any, cube: Any, empty: Any, backwards: Any) -> None:
        assert (column.shape, column.strides) == ((4,), (24,))
        assert rows.tolist() == [[6, 8, 10], [18, 20, 22]]
        assert cube.shape == (2, 2, 6) and cube[1, 0, 0] == 12
        assert empty.shape == (0, 6)
        assert backwards.tolist() == [5, 4, 3, 2, 1, 0]
        column[:] = -1

    x = team.worker.buffer((4, 6), "int32")
    numbers = x.numpy()
    numbers[:] = np.arange(24).reshape(4, 6)
    parts = [x[1::2, ::2], x.reshape(2, 2, 6), x[2:2], numbers[0, ::-1]]
    team.alone(look, ts.nodep(x[:, 3]), *[ts.nodep(part) for part in parts])
    assert numbers[:, 3].tolist() == [-1] * 4 and numbers[:, 2].tolist() == [2, 8, 14, 20]


def test_function_of_one_parameter_gets_the_task_alone(team: Team) -> None:
    def alone(task: ts.Task) -> None:
        task.tensors[0][:] = [len(task.tensors), *task.scalars]

    def all_of_them(*given: Any) -> None:
        given[1][:] = [len(given), *given[2:]]

    def with_default(task: ts.Task, y: Any, n: int, m: int = 8) -> None:
        y[:] = [9, n, m]

    y = team.worker.buffer(3)
    for function, args, want in (
        (alone, (1, 2), [1, 1, 2]),
        (all_of_them, (1, 2), [4, 1, 2]),
        (with_default, (4,), [9, 4, 8]),
    ):
        team.alone(function, ts.out(y), *args, chip=ts.SUB)
        assert y.numpy().tolist() == want


def test_wrong_number_of_arguments_is_a_type_error_of_the_task(team: Team) -> None:
    def two(task: ts.Task, a: int, b: int) -> None:
        pass

    for args in ((1,), (1, 2, 3)):
        with pytest.raises(TypeError, match=r"two\(\)") as caught:
            team.alone(two, *args)
        assert "positional argument" in str(caught.value)


def test_argument_that_cannot_be_made_again_fails_the_task_that_looks_at_it(team: Team) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return eval, ("1/0",)

    def takes_it(task: ts.Task, o: Any) -> None:
        raise AssertionError("must not run")

    def does_not_look(task: ts.Task) -> None:
        assert task.chip == 0

    with pytest.raises(ZeroDivisionError):
        team.alone(takes_it, Bomb())
    team.alone(does_not_look, Bomb())


def test_value_that_a_task_returns_is_not_used(team: Team) -> None:
    def give(task: ts.Task) -> Any:
        return ValueError("not raised"), threading.Lock()

    team.alone(give)


# ---- domains among the arguments ----


def test_domain_is_none_where_the_chip_is_no_member(team: Team) -> None:
    def look(task: ts.Task, there: Any, here: Any, n: int) -> None:
        assert there is None and here.rank == 0 and n == 5
        assert task.domains == (None, here) and task.domain_count() == 2 and task.domain(1) is here
        check_refusals(
            (lambda: task.domain(), ts.NotFoundError, "this chip is no member of that domain"),
            (lambda: task.domain(0), ts.NotFoundError, "no member"),
            (lambda: task.domain(2), IndexError, "domain(2): the task has 2"),
            (lambda: task.tensor(0), IndexError, "tensor(0): the task has 0"),
            (lambda: task.scalar(1), IndexError, "scalar(1): the task has 1"),
            (lambda: task.barrier(), AttributeError, "no attribute 'barrier', and 2 domains: say which"),
        )

    def on_another_chip(task: ts.Task, there: Any) -> None:
        assert there is None and task.chip in (0, 4)
        with pytest.raises(AttributeError, match="'barrier': this chip is no member of its domain"):
            task.barrier()

    handles = [team.worker.register(f) for f in (look, on_another_chip)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        there, here = orch.allocate_domain("there", [1, 2], 64), orch.allocate_domain("here", [0], 64)
        orch.submit(handles[0], there, here, 5, chip=0)
        orch.submit(handles[1], there, chip=0)
        orch.submit(handles[1], there, chip=ts.SUB)

    team.worker.run(orchestrate)
    for handle in handles:
        team.worker.unregister(handle)


def test_task_with_one_domain_has_what_the_domain_has(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        assert (task.name, task.rank, task.size, task.window_size) == ("tp", tp.rank, 2, tp.window_size)
        task.put("a", np.full(8, task.rank, np.float32), 1 - task.rank)
        task.barrier()
        assert task.buffer("a")[0] == 1 - task.rank
        task.all_reduce("a", op="max")
        assert (tp["a"] == 1).all()
        assert task.run > 0 and task.test.__self__ is tp  # its own first
        check_refusals(
            (lambda: task.nothing, AttributeError, "'nothing'"),
            (lambda: task._hidden, AttributeError, "'_hidden'"),
            (lambda: task["a"], TypeError, "not subscriptable"),  # type: ignore[index]
            (lambda: setattr(task, "chip", 1), AttributeError, "not writable"),
            (lambda: setattr(task, "mine", 1), AttributeError, "mine"),
            (lambda: setattr(tp, "mine", 1), AttributeError, "mine"),
        )
        assert not hasattr(task, "__array_interface__") and not hasattr(tp, "__len__")

    team.group(member, chips=[0, 1])


def test_task_without_a_domain_says_so(team: Team) -> None:
    def look(task: ts.Task) -> None:
        with pytest.raises(AttributeError, match="the task has no attribute 'barrier', and no domain"):
            task.barrier()
        assert not hasattr(task, "rank")

    team.alone(look)


# ---- every parameter of every method ----


class NoTruth:
    def __bool__(self) -> bool:
        raise ZeroDivisionError("strong")


# Of two ranks, each calls them all, in this order.
VALID: dict[str, dict[str, Any]] = {
    "all_gather": {"dst": "b", "src": "a", "count": 4},
    "all_gather_v": {"dst": "b", "src": "a", "counts": [1, 2], "displs": [0, 4]},
    "all_reduce": {"dst": "b", "src": "a", "op": "sum", "count": 4},
    "all_to_all": {"dst": "b", "src": "a", "count": 4},
    "all_to_all_v": {
        "dst": "b",
        "src": "a",
        "dst_counts": [1, 1],
        "src_counts": [1, 1],
        "dst_displs": [0, 4],
        "src_displs": [0, 4],
    },
    "atomic_add": {"place": "s", "value": 1, "rank": 0},
    "atomic_and": {"place": "s", "value": 1, "rank": 0},
    "atomic_compare_swap": {"place": "s", "expected": 1, "value": 1, "rank": 0},
    "atomic_fetch": {"place": "s", "rank": 0},
    "atomic_fetch_add": {"place": "s", "value": 1, "rank": 0},
    "atomic_fetch_and": {"place": "s", "value": 1, "rank": 0},
    "atomic_fetch_or": {"place": "s", "value": 1, "rank": 0},
    "atomic_fetch_xor": {"place": "s", "value": 1, "rank": 0},
    "atomic_or": {"place": "s", "value": 1, "rank": 0},
    "atomic_set": {"place": "s", "value": 1, "rank": 0},
    "atomic_swap": {"place": "s", "value": 1, "rank": 0},
    "atomic_xor": {"place": "s", "value": 1, "rank": 0},
    "barrier": {},
    "broadcast": {"dst": "b", "src": "a", "root": 0, "count": 4},
    "buffer": {"name": "a", "rank": 1},
    "domain": {"index": 0},
    "domain_count": {},
    "exscan": {"dst": "b", "src": "a", "op": "sum", "count": 4},
    "fence": {},
    "g": {"src": "s", "rank": 0},
    "gather": {"dst": "b", "src": "a", "root": 0, "count": 4},
    "gather_v": {"dst": "b", "src": "a", "counts": [1, 2], "displs": [0, 4], "root": 0},
    "get": {"dst": bytearray(4), "src": "a", "rank": 0},
    "get_nbi": {"dst": bytearray(4), "src": "a", "rank": 0},
    "iget": {"dst": bytearray(4), "src": "a", "rank": 0, "dst_stride": 1, "src_stride": 1},
    "iput": {"dst": "a", "src": bytes(4), "rank": 0, "dst_stride": 1, "src_stride": 1},
    "notify": {"rank": 0},
    "p": {"dst": "s", "value": 1, "rank": 0},
    "put": {"dst": "a", "src": bytes(4), "rank": 0},
    "put_nbi": {"dst": "a", "src": bytes(4), "rank": 0},
    "put_signal": {
        "dst": "a",
        "src": bytes(4),
        "signal": "s",
        "value": 1,
        "rank": 0,
        "op": "set",
        "strong": False,
    },
    "put_signal_nbi": {
        "dst": "a",
        "src": bytes(4),
        "signal": "s",
        "value": 1,
        "rank": 0,
        "op": "set",
        "strong": True,
    },
    "quiet": {"rank": 0},
    "reduce": {"dst": "b", "src": "a", "op": "sum", "root": 0, "count": 4},
    "reduce_scatter": {"dst": "b", "src": "a", "op": "sum", "count": 4},
    "reduce_scatter_v": {"dst": "b", "src": "a", "counts": [1, 2], "op": "sum"},
    "scalar": {"index": 0},
    "scalar_count": {},
    "scan": {"dst": "b", "src": "a", "op": "sum", "count": 4},
    "scatter": {"dst": "b", "src": "a", "root": 0, "count": 4},
    "scatter_v": {"dst": "b", "src": "a", "counts": [1, 2], "displs": [0, 4], "root": 0},
    "set_timeout": {"timeout": None},
    "signal": {"place": "s", "value": 1, "rank": 0, "op": "set", "strong": False},
    "signal_fetch": {"place": "s"},
    "split": {"ranks": [0, 1]},
    "split_strided": {"first": 0, "stride": 1, "count": 2},
    "status": {},
    "sync": {},
    "tensor": {"index": 0},
    "tensor_count": {},
    "test": {"place": "s", "compare": ">=", "value": 0},
    "test_all": {"places": ["s"], "compare": ">=", "value": 0},
    "test_any": {"places": ["s"], "compare": ">=", "value": 0},
    "translate": {"rank": 0, "other": None},  # None: the domain itself
    "wait_all": {"places": ["s"], "compare": ">=", "value": 0, "timeout": 60},
    "wait_any": {"places": ["s"], "compare": ">=", "value": 0, "timeout": 60},
    "wait_until": {"place": "s", "compare": ">=", "value": 0, "timeout": 60},
    "abort": {"code": -3},
}

Bad = list[tuple[Any, type[BaseException]]]
NO_INT: Bad = [(1.5, TypeError), ("1", TypeError), (True, TypeError), ([], TypeError), (NoTruth(), TypeError)]
NO_RANK: Bad = [(-1, ValueError), (2, ValueError), (2**70, ValueError), *NO_INT]
NO_BITS: Bad = [(2**64, ValueError), (-(2**63) - 1, ValueError), (None, TypeError), *NO_INT]
NO_MEMORY: Bad = [(5.5, TypeError), (NoTruth(), TypeError), ([1], TypeError), (True, TypeError), (("a",), TypeError)]
NO_MEMORY += [("nope", LookupError), (("nope", 0), LookupError), (("a", 99), ValueError)]
NO_NAMES: Bad = [
    (5.5, TypeError),
    (None, TypeError),
    ("nope", LookupError),
    (["nope"], LookupError),
    ([5.5], TypeError),
]
NO_WORD: Bad = [("x", ValueError), (5, ValueError), (None, ValueError)]
NO_LIST: Bad = [([1], ValueError), ([1, 2, 3], ValueError), ([1, -1], ValueError), ([1, "x"], TypeError)]
NO_LIST += [("12", TypeError), (5, TypeError), ([1, 2**70], ValueError)]
NO_STRIDE: Bad = [(0, ValueError), (-1, ValueError), (2**70, ValueError), (None, TypeError), *NO_INT]
NO_NUMBER: Bad = [(-1, ValueError), (2**40, ValueError), (None, TypeError), *NO_INT]
BAD: dict[str, Bad] = {
    "rank": NO_RANK,
    "root": [*NO_RANK, (None, TypeError)],
    "value": NO_BITS,
    "expected": NO_BITS,
    "count": [(-1, ValueError), (2**70, ValueError), *NO_INT],
    "first": NO_NUMBER,
    "stride": NO_NUMBER,
    "dst": NO_MEMORY,
    "src": NO_MEMORY,
    "place": [*NO_MEMORY, (None, TypeError), (-8, ValueError)],
    "signal": [*NO_MEMORY, (None, TypeError), (-8, ValueError)],
    "places": NO_NAMES,
    "compare": [*NO_WORD, ("=>", ValueError)],
    "op": NO_WORD,
    "strong": [(NoTruth(), ZeroDivisionError)],
    "timeout": [(-1, ValueError), (float("nan"), ValueError), ("x", TypeError), (True, TypeError), ([], TypeError)],
    **dict.fromkeys(["counts", "displs", "dst_counts", "src_counts", "dst_displs", "src_displs"], NO_LIST),
    "dst_stride": NO_STRIDE,
    "src_stride": NO_STRIDE,
    "name": [(5, TypeError), (b"a", TypeError), ("nope", LookupError)],
    "ranks": [([], ValueError), ([0, 0], ValueError), ([2], ValueError), ([-1], ValueError), *NO_LIST[3:]],
    "other": [(3, TypeError), ("tp", TypeError)],
    "code": [(0, ValueError), (7, ValueError), (-(2**31) - 1, ValueError), *NO_INT],
    "index": [(-1, IndexError), (99, IndexError), (None, TypeError), *NO_INT],
}


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def methods(task: ts.Task, tp: ts.Domain) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Every public method of both, bound, with valid arguments."""
    for name, valid in VALID.items():
        owner = tp if hasattr(ts.Domain, name) else task
        yield name, getattr(owner, name), {key: tp if key == "other" else value for key, value in valid.items()}


def check_method(name: str, method: Callable[..., Any], valid: dict[str, Any]) -> list[str]:
    """What it takes that it should not."""
    parameters = inspect.signature(method).parameters
    assert list(parameters) == list(valid), f"{name}: the table has not its parameters"
    wrong = []

    def refused(error: type[BaseException], words: list[str], *args: Any, **named: Any) -> None:
        try:
            method(*args, **named)
        except BaseException as caught:
            if not isinstance(caught, error) or not any(word in str(caught) for word in words):
                wrong.append(f"{name}{args or named}: {type(caught).__name__}: {caught}")
        else:
            wrong.append(f"{name}{args or named} is taken")

    for parameter, kind in parameters.items():
        for value, error in BAD[parameter]:
            refused(error, [parameter, repr(value), "no buffer 'nope'"], **valid | {parameter: value})
        rest = {key: value for key, value in valid.items() if key != parameter}
        if kind.default is inspect.Parameter.empty:
            refused(TypeError, [f"{name}() missing required argument: '{parameter}'"], **rest)
    if not parameters:
        refused(TypeError, [name], 1)
        refused(TypeError, [name], x=1)
        return wrong
    first = next(iter(valid))
    refused(TypeError, ["unexpected keyword argument 'nothing'"], **valid | {"nothing": 1})
    refused(TypeError, [f"at most {len(valid)} positional"], *valid.values(), 1)
    refused(TypeError, [f"'{first}'"], valid[first], **valid)
    return wrong


def test_every_method_refuses_what_is_wrong_in_every_parameter(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain, x: Any, n: int) -> None:
        wrong = []
        for name, method, valid in methods(task, tp):
            wrong += check_method(name, method, valid)
            if name != "abort":
                method(**valid)  # nothing was sent: the ranks still agree
                method(*valid.values())
        tp.barrier()
        assert not wrong, "\n".join(wrong)

    named = {name for kind in (ts.Task, ts.Domain) for name, value in public(kind).items() if callable(value)}
    assert named == set(VALID)
    team.group(member, team.worker.buffer(1), 5, chips=[0, 1])


# ---- after the task, from another thread ----


kept: list[Any] = []


def keep(task: ts.Task, tp: ts.Domain, x: Any, n: int) -> None:
    pair = tp.split([0, 1])
    tp["a"][:] = 3
    kept.extend([task, tp, tp["a"], x, pair, list(methods(task, tp)), threading.get_ident()])


def use_what_was_kept(task: ts.Task) -> None:
    old, tp, a, x, pair, bound, thread = kept
    kept.clear()
    assert threading.get_ident() == thread
    assert repr(old) == "<transom.Task that has ended>" and repr(tp) == "<transom.Domain of a task that has ended>"
    calls: list[Callable[[], Any]] = [lambda m=method, v=valid: m(**v) for _, method, valid in bound]
    calls += [lambda: tp["a"], lambda: old.barrier, lambda: old.nothing, pair.barrier, pair.status]
    for o in (old, tp, pair):
        properties = [name for name, value in public(type(o)).items() if not callable(value)]
        calls += [lambda o=o, name=name: getattr(o, name) for name in properties]
    check_refusals(*[(call, ts.StateError, "the task has ended") for call in calls])
    assert not hasattr(old, "_hidden") and not hasattr(old, "__array__")
    assert len(a) == 8 and len(x) == 1  # arrays are still over memory


def test_task_and_its_domains_refuse_everything_after_its_end(team: Team) -> None:
    handles = [team.worker.register(f) for f in (keep, use_what_was_kept)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096, [ts.CommBufferSpec("a", "float32", 8)])
        orch.submit_group(handles[0], tp, team.worker.buffer(1), 5, chips=[0, 1])
        for chip in (0, 1):
            orch.submit(handles[1], chip=chip)

    team.worker.run(orchestrate)
    for handle in handles:
        team.worker.unregister(handle)


def test_other_threads_may_look_but_not_call(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain, x: Any, n: int) -> None:
        assert task.tensors[0] is x
        wrong: list[str] = []

        def look() -> None:
            facts = (task.chip, task.run, task.tensors, task.scalar(0), tp.rank, tp.size, tp.name, tp.text)
            if facts != (task.chip, task.run, (x,), 5, tp.rank, 2, "tp", ""):
                wrong.append(str(facts))
            for name, method, valid in methods(task, tp):
                if hasattr(ts.Domain, name):
                    try:
                        method(**valid)
                    except ts.StateError as error:
                        if str(error) == "a domain belongs to the thread that runs the task":
                            continue
                    wrong.append(name)
            try:
                wrong.append(str(tp["a"]))
            except ts.StateError:
                pass

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert not wrong
        tp.barrier()

    def first_asked_by_another(task: ts.Task) -> None:
        seen: list[BaseException] = []

        def look() -> None:
            try:
                task.tensors  # noqa: B018
            except ts.StateError as error:
                seen.append(error)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert "first asked for by the thread that runs the task" in str(seen[0])
        assert len(task.tensors) == 1

    team.group(member, team.worker.buffer(1), 5, chips=[0, 1])
    team.alone(first_asked_by_another, team.worker.buffer(1))


# ---- nothing grows ----


def work(task: ts.Task, tp: ts.Domain, x: Any, number: int, o: Any) -> None:
    tp["a"][0] = number
    tp.put("a", x, tp.rank)
    tp.put_nbi(("a", 1, 1), bytes(4), 1 - tp.rank)
    tp.all_reduce("a", op=lambda into, other: None)
    tp.split([1, 0]).barrier()  # type: ignore[union-attr]
    for call, error in (
        (lambda: tp.put("nope", x, 0), LookupError),
        (lambda: tp.wait_all([("s", 1)], "==", 5, 0), TimeoutError),
        (lambda: tp.iput("a", x, 0, 0), ValueError),
        (lambda: task.nothing, AttributeError),
    ):
        with pytest.raises(error):
            call()
    assert task.scalars == (number, o) and task.domains == (tp,)
    tp.signal("s", 1, tp.rank)
    tp.barrier()


def measure(task: ts.Task, out: Any) -> None:
    gc.collect()
    if tracemalloc.is_tracing():
        out[0] = tracemalloc.get_traced_memory()[0]
    else:
        tracemalloc.start()


def test_chip_that_runs_many_tasks_keeps_nothing_of_them(team: Team) -> None:
    w, count = team.worker, 200
    x, sizes = w.buffer(4), w.buffer(5, "int64")
    handle, measures = w.register(work), w.register(measure)
    specs = [ts.CommBufferSpec("a", "float32", 8), ts.CommBufferSpec("s", "int64", 2)]

    def orchestrate(orch: ts.Orchestrator, part: ts.Buffer, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096, specs)
        for number in range(count):
            orch.submit_group(handle, tp, x, number, [1, "text"], chips=[0, 1])
        orch.submit(measures, ts.out(part), chip=0)

    for k in (0, 0, 1, 2, 3, 4):  # the first begins to measure, the second warms up
        w.run(orchestrate, sizes[k : k + 1])
    team.alone(stop_measuring)
    growth = np.diff(sizes.numpy())
    assert growth.min() < 16 * count, f"each {count} tasks left {growth} bytes"


def stop_measuring(task: ts.Task) -> None:
    tracemalloc.stop()

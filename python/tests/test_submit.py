# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Submitting: how tasks are ordered by the bytes they touch, where they run, groups, and how arguments travel."""

from __future__ import annotations

import ctypes
import signal
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Gate, add_one, check_works, is_asleep, send, until, when

Factory = Callable[..., ts.Worker]


class DlpackOnly:
    """An array that knows no buffer protocol, as PyTorch's."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __dlpack__(self, **options: Any) -> Any:
        return self.buffer.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __index__(self) -> int:
        raise TypeError("only integer tensors of a single element can be converted to an index")


# ---- order by bytes ----

# Of a buffer of 8 x 8 float32: two tensors over it, and whether they share a byte.
OVERLAPS: list[tuple[str, Callable[[ts.Buffer], Any], Callable[[ts.Buffer], Any], bool]] = [
    ("whole, whole", lambda x: x, lambda x: x, True),
    ("rows beside each other", lambda x: x[:4], lambda x: x[4:], False),
    ("rows that share one", lambda x: x[:5], lambda x: x[4:], True),
    ("columns beside each other", lambda x: x[:, :4], lambda x: x[:, 4:], False),
    ("columns that share one", lambda x: x[:, :5], lambda x: x[:, 4:], True),
    ("row and column", lambda x: x[3], lambda x: x[:, 3], True),
    ("tiles beside each other", lambda x: x[:4, :4], lambda x: x[:4, 4:], False),
    ("tiles across a corner", lambda x: x[:4, :4], lambda x: x[4:, 4:], False),
    ("tiles that share an element", lambda x: x[:4, :4], lambda x: x[3:, 3:], True),
    ("even and odd columns", lambda x: x[:, ::2], lambda x: x[:, 1::2], False),
    ("even and odd rows", lambda x: x[::2], lambda x: x[1::2], False),
    ("rows backwards", lambda x: x[3::-1], lambda x: x[:4], True),
    ("one element and another", lambda x: x[2, 2], lambda x: x[2, 3], False),
    ("one element and its row", lambda x: x[2, 2], lambda x: x[2], True),
    ("buffer and array", lambda x: x[:4], lambda x: x.numpy()[3:], True),
    ("arrays beside each other", lambda x: x.numpy()[:4], lambda x: x.numpy()[4:], False),
    ("array transposed", lambda x: x.numpy().T[:4], lambda x: x[:, 3], True),
    ("array transposed beside", lambda x: x.numpy().T[:4], lambda x: x[:, 4:], False),
    ("array of another type", lambda x: x.numpy().view(np.uint8)[:, :4], lambda x: x[:, 0], True),
    ("array of another type beside", lambda x: x.numpy().view(np.uint8)[:, :4], lambda x: x[:, 1:], False),
    ("memoryviews", lambda x: memoryview(x).cast("B")[:128], lambda x: memoryview(x).cast("B")[127:], True),
    ("memoryviews beside", lambda x: memoryview(x).cast("B")[:128], lambda x: memoryview(x).cast("B")[128:], False),
    ("DLPack and buffer", lambda x: DlpackOnly(x[:, :4]), lambda x: x[:, 3:], True),
    ("DLPack beside", lambda x: DlpackOnly(x[:, :4]), lambda x: DlpackOnly(x[:, 4:]), False),
    ("an address", lambda x: ts.Tensor(x.data + 4, 8), lambda x: x[1, 0], True),
    ("an address beside", lambda x: ts.Tensor(x.data + 4, 7), lambda x: x[1:], False),
    ("another shape", lambda x: x.reshape(64)[:9], lambda x: x[1], True),
    ("nothing", lambda x: x[:0], lambda x: x, False),
]


def waits_of(w: ts.Worker, submit: Callable[[], Any]) -> int:
    """How many words the record waits for that this submits."""
    before = w.stats()["waits"]
    submit()
    return w.stats()["waits"] - before


@pytest.mark.parametrize(("first", "second", "overlap"), [o[1:] for o in OVERLAPS], ids=[o[0] for o in OVERLAPS])
def test_overlap_of_bytes_orders_two_writers(
    forked: Factory, kernels: str, first: Callable[..., Any], second: Callable[..., Any], overlap: bool
) -> None:
    w = forked(2)
    gate, x, mark = Gate(w, kernels), w.buffer((8, 8)), w.buffer(1)
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(first(x)), chip=0)
        waits = waits_of(w, lambda: orch.submit(f, ts.inout(mark), ts.nodep(second(x)), chip=1))
        assert waits == 0
        waits = waits_of(w, lambda: orch.submit(nothing, ts.inout(second(x)), ts.nodep(mark), chip=1))
        assert waits == overlap
        orch.submit(f, ts.inout(mark), chip=1)  # behind it, on the same chip
        gate.wait_begun()
        if not overlap:
            until(lambda: memoryview(mark)[0] == 2)
        assert memoryview(mark)[0] <= 2 - overlap
        gate.open()

    nothing = w.register(f"{kernels}:nothing")
    f = w.register(lambda task, mark, *more: mark.__iadd__(1))
    w.run(orchestrate)
    assert mark.numpy()[0] == 2


@pytest.mark.parametrize(
    ("first", "second", "edge"),
    [
        ("in", "in", False),
        ("in", "out", True),
        ("in", "inout", True),
        ("out", "in", True),
        ("out", "out", True),
        ("inout", "in", True),
        ("inout", "inout", True),
        ("nodep", "inout", False),
        ("inout", "nodep", False),
        ("out", "nodep", False),
    ],
)
def test_reader_and_writer_are_ordered_by_how_they_use_it(
    forked: Factory, kernels: str, first: str, second: str, edge: bool
) -> None:
    w = forked(2)
    gate, x = Gate(w, kernels), w.buffer(4)
    nothing = w.register(f"{kernels}:nothing")
    tagged = {"in": lambda t: t, "out": ts.out, "inout": ts.inout, "nodep": ts.nodep}
    tags = {"in": ts.INPUT, "out": ts.OUTPUT_EXISTING, "inout": ts.INOUT, "nodep": ts.NO_DEP}

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, tagged[first](x), chip=0)
        assert waits_of(w, lambda: orch.submit(nothing, tagged[second](x[1:2]), chip=1)) == edge
        prepared = ts.TaskArgs()
        prepared.add_tensor(x.numpy()[2:3], tags[second])
        assert waits_of(w, lambda: orch.submit_next_level(nothing, prepared, worker=1)) == 0  # elided, or none
        gate.open()

    w.run(orchestrate)


def test_chain_over_chips_and_sub_workers_keeps_its_order(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2, 1)
    affine, x = w.register(f"{kernels}:affine"), w.buffer(16)
    expected = 1.0
    x.numpy()[:] = 1

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        nonlocal expected
        for i in range(300):
            orch.submit(affine, ts.inout(x), -1.0, float(i), chip=(0, ts.SUB, 1)[i % 3])
            expected = -expected + i

    w.run(orchestrate)
    assert x.numpy().tolist() == [expected] * 16


def test_writers_follow_all_readers_since_the_last_write(forked: Factory, kernels: str) -> None:
    w = forked(3)
    gate, add, fill = Gate(w, kernels), w.register(f"{kernels}:add"), w.register(f"{kernels}:fill")
    x, zero, y, z = (w.buffer(4) for _ in range(4))
    x.numpy()[:] = 7

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for out, chip in ((y, 0), (z, 1)):
            gate.submit(orch, ts.out(out), chip=chip)
            orch.submit(add, x, zero, ts.out(out), chip=chip)
        orch.submit(fill, ts.out(x), 9.0, chip=2)
        gate.wait_begun(2)
        assert x.numpy().tolist() == [7] * 4
        gate.open()

    w.run(orchestrate)
    assert (x.numpy()[0], y.numpy()[0], z.numpy()[0]) == (9, 7, 7)


def test_order_holds_over_runs(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate, affine, x = Gate(w, kernels), w.register(f"{kernels}:affine"), w.buffer(1)

    def first(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x), chip=0)
        orch.submit(affine, ts.inout(x), 1.0, 5.0, chip=0)

    a = w.submit(first)
    b = w.submit(lambda orch, _a, _c: orch.submit(affine, ts.inout(x), 3.0, 0.0, chip=1))
    assert not b.done
    gate.open()
    b.wait()
    assert a.done and x.numpy()[0] == 15


def test_explicit_edge_orders_what_no_tensor_does(forked: Factory, kernels: str) -> None:
    w = forked(3, 1)
    gate, nothing = Gate(w, kernels), w.register(f"{kernels}:nothing")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        first = gate.submit(orch, chip=0)
        other = gate.submit(orch, chip=1)
        assert isinstance(first, int) and first != other
        assert waits_of(w, lambda: orch.submit(nothing, chip=2)) == 0
        assert waits_of(w, lambda: orch.submit(nothing, chip=2, after=[first])) == 1
        assert waits_of(w, lambda: orch.submit(nothing, chip=2, after=(first,))) == 0  # the record before waits for it
        assert waits_of(w, lambda: orch.submit(nothing, chip=ts.SUB, after={first, other})) == 2
        assert waits_of(w, lambda: orch.submit_next_level(nothing, worker=2, after=iter([other]))) == 1
        sub = orch.submit_sub(nothing, after=[first, first])
        assert waits_of(w, lambda: orch.submit(nothing, chip=0, after=[sub])) == 1
        assert waits_of(w, lambda: orch.submit_group(nothing, chips=[2, 1], after=[first])) >= 1
        many = [orch.submit(nothing, chip=2) for _ in range(40)]
        orch.submit(nothing, chip=0, after=many)
        gate.open()

    w.run(orchestrate)


def test_task_of_a_run_that_is_over_may_be_followed(forked: Factory, kernels: str) -> None:
    w = forked()
    nothing = w.register(f"{kernels}:nothing")
    ids: list[int] = []
    w.run(lambda orch, a, c: ids.append(orch.submit(nothing)))
    w.run(lambda orch, a, c: orch.submit(nothing, after=ids))
    with pytest.raises(ValueError, match=r"after\[1\].*not a task of this worker"):
        w.run(lambda orch, a, c: orch.submit(nothing, after=[ids[0], 0x7FFF0123456789]))
    check_works(w)


# ---- memory for an output ----


def test_output_without_memory_gets_some_until_the_scope_ends(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2, 1)
    fill, add, y = w.register(f"{kernels}:fill"), w.register(f"{kernels}:add"), w.buffer(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        a, b, c = ts.empty(4), ts.empty((2, 2)), ts.empty(4, "float32")
        assert (a.data, repr(b)) == (0, "<transom.Tensor (2, 2) float32, no memory yet>")
        orch.submit(fill, ts.out(a), 1.5, chip=1)
        orch.submit(fill, ts.out(b), 2.5, chip=1)
        held = w.stats()["heap_bytes"]
        with orch.scope():
            orch.submit(add, a, b, ts.out(c), chip=1)
            assert w.stats()["heap_bytes"] == held + 16
            orch.submit(add, c, a, ts.out(c), chip=1)
            sub = ts.empty(4)
            orch.submit(fill, ts.out(sub), 1.0, chip=ts.SUB)
            orch.submit(add, c, sub, ts.out(y), chip=1)
        assert w.stats()["heap_bytes"] == held
        assert all(t.data for t in (a, b, c)) and "no memory" not in repr(b)
        assert a[1:3].data == a.data + 4 and b.reshape(4).shape == (4,)
        with pytest.raises(ValueError):
            orch.submit(fill, ts.out(c), 1.0, chip=1)  # its scope has ended

    w.run(orchestrate)
    assert y.numpy().tolist() == [1.5 + 2.5 + 1.5 + 1] * 4


def test_tensor_without_memory_is_no_input_and_has_no_parts(forked: Factory, kernels: str) -> None:
    w = forked()
    fill = w.register(f"{kernels}:fill")
    t = ts.empty(4)
    for use in (lambda: t[1:], lambda: t[0], lambda: t.reshape(2, 2)):
        with pytest.raises(ValueError, match="no memory yet"):
            use()

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for wrong in (t, ts.inout(t), ts.nodep(t)):
            with pytest.raises(ValueError, match="tensor 0: data is NULL"):
                orch.submit(fill, wrong, 1.0)
        assert t.data == 0

    w.run(orchestrate)


def test_prepared_arguments_with_an_output_without_memory_get_it_once(forked: Factory, kernels: str) -> None:
    w = forked()
    fill, affine, y = w.register(f"{kernels}:fill"), w.register(f"{kernels}:affine"), w.buffer(4)
    add = w.register(f"{kernels}:add")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        t, zero = ts.empty(4), w.buffer(4)
        first, then = ts.TaskArgs(), ts.TaskArgs()
        first.add_tensor(t, ts.OUTPUT)
        first.add_scalar(3.0)
        then.add_tensor(t, ts.INOUT)  # before it has memory
        then.add_scalar(2.0)
        then.add_scalar(1.0)
        orch.submit_next_level(fill, first, worker=0)
        assert t.data and first.tensor(0) is t
        orch.submit_next_level(affine, then, worker=0)
        orch.submit_next_level(affine, then, worker=0)
        orch.submit(add, t, zero, ts.out(y), chip=0)

    w.run(orchestrate)
    assert y.numpy().tolist() == [15] * 4


# ---- where ----


def test_task_without_a_chip_goes_where_its_memory_is_or_where_least_waits(forked: Factory, kernels: str) -> None:
    w = forked(3)
    who, gate = w.register(f"{kernels}:who"), Gate(w, kernels)
    out = w.buffer((2, 6), "int64")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(who, ts.out(out[0]), orch.alloc(4, chip=2))
        for chip in (0, 0, 1, 1):
            gate.submit(orch, chip=chip)
        gate.wait_begun(2)
        w.host_wait(out[0])
        orch.submit(who, ts.out(out[1]))
        gate.open()

    w.run(orchestrate)
    assert out.numpy()[:, 0].tolist() == [2, 2]


def test_memory_of_one_chip_is_refused_on_another(forked: Factory, kernels: str) -> None:
    w = forked(2, 1)
    nothing = w.register(f"{kernels}:nothing")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        a, b = orch.alloc(4, chip=0), orch.alloc(4, chip=1)
        with pytest.raises(ValueError, match="tensor 0.*chip 0.*chip 1|tensor 0.*chip 1.*chip 0"):
            orch.submit(nothing, a, chip=1)
        with pytest.raises(ValueError, match="tensor 0"):
            orch.submit(nothing, a, chip=ts.SUB)
        with pytest.raises(ValueError, match="tensor 1"):
            orch.submit(nothing, a, b)

    w.run(orchestrate)


def test_sub_tasks_go_to_whichever_is_free(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(1, 2)
    gate, who, out = Gate(w, kernels), w.register(f"{kernels}:who"), w.buffer((20, 6), "int64")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, chip=ts.SUB)
        gate.wait_begun()
        for i in range(20):
            orch.submit(who, ts.out(out[i]), chip=ts.SUB)
        w.host_wait(out)  # the one that is held does not hold these up
        gate.open()

    w.run(orchestrate)
    (free,) = set(out.numpy()[:, 0].tolist())
    assert free in (1, 2)


def test_sub_task_that_waits_does_not_hold_up_one_that_could_run(forked: Factory, kernels: str) -> None:
    w = forked(1, 1)
    gate, f, x, y = Gate(w, kernels), w.register(add_one), w.buffer(1), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, ts.inout(x), chip=0)
        orch.submit(f, ts.inout(x), chip=ts.SUB)
        orch.submit(f, ts.inout(y), chip=ts.SUB)
        w.host_wait(y)
        assert (x.numpy()[0], y.numpy()[0]) == (0, 1)
        gate.open()

    w.run(orchestrate)
    assert x.numpy()[0] == 1


def test_busy_chip_does_not_delay_another(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for _ in range(100):
            gate.submit(orch, chip=0)
        orch.submit(f, ts.inout(x), chip=1)
        w.host_wait(x)
        assert x.numpy()[0] == 1 and gate.begun <= 1
        gate.open()

    w.run(orchestrate)


def test_sub_task_without_sub_workers_is_refused(forked: Factory, kernels: str) -> None:
    w = forked(1)
    nothing = w.register(f"{kernels}:nothing")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for call in (
            lambda: orch.submit(nothing, chip=ts.SUB),
            lambda: orch.submit_sub(nothing),
            lambda: orch.submit_sub_group(nothing, [ts.TaskArgs()]),
        ):
            with pytest.raises(ValueError, match="sub worker"):
                call()

    w.run(orchestrate)


def test_full_ring_holds_the_submission_back_and_nothing_is_lost(forked: Factory, kernels: str) -> None:
    w = forked(2, 1, ring_size=262144)
    affine, x, y = w.register(f"{kernels}:affine"), w.buffer(1), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for _ in range(6000):
            orch.submit(affine, ts.inout(x), 1.0, 1.0, chip=0)
            orch.submit(affine, ts.inout(y), 1.0, 1.0, chip=ts.SUB)

    w.run(orchestrate)
    assert (x.numpy()[0], y.numpy()[0]) == (6000, 6000)


# ---- groups ----


def test_group_has_a_member_on_each_chip(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(3)
    who, out = w.register(f"{kernels}:who"), w.buffer((3, 6), "int64")
    ids: list[int] = []

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        rows = ts.each([ts.out(out[i]) for i in range(3)])
        ids.append(orch.submit_group(who, rows, chips=[2, 0, 1], blocks=5))

    w.run(orchestrate)
    rows = out.numpy().tolist()
    assert [row[:5] for row in rows] == [[2, 0, 3, 5, 1], [0, 1, 3, 5, 1], [1, 2, 3, 5, 1]]
    assert repr(ts.each([1, 2])) == "transom.each((1, 2))"


def test_each_gives_every_member_its_own_and_the_rest_is_shared(forked: Factory) -> None:
    w = forked(3)
    out = w.buffer((3, 3))

    def note(task: ts.Task, row: Any, own: float, shared: float, text: str) -> None:
        row[:] = own, shared, len(text)

    f = w.register(note)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        rows = ts.each(ts.out(out[i]) for i in range(3))
        orch.submit_group(f, rows, ts.each((10, 20, 30)), 0.5, ts.each(["", "a", "bb"]), chips=range(3))

    w.run(orchestrate)
    assert out.numpy().tolist() == [[10, 0.5, 0], [20, 0.5, 1], [30, 0.5, 2]]


def test_who_follows_a_group_follows_all_its_members(forked: Factory, kernels: str) -> None:
    w = forked(3, 1)
    gate, f, x, mark = Gate(w, kernels), w.register(add_one), w.buffer(2), w.buffer(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        group = orch.submit_group(
            gate.hold, ts.nodep(gate.buffer), ts.each([ts.out(x[:1]), ts.out(x[1:])]), chips=[0, 1]
        )
        assert waits_of(w, lambda: orch.submit(f, ts.inout(x[1:]), chip=2)) >= 1
        orch.submit(f, ts.inout(mark), chip=ts.SUB, after=[group])
        gate.wait_begun(2)
        assert mark.numpy()[0] == 0
        gate.open()

    w.run(orchestrate)
    assert (x.numpy()[1], mark.numpy()[0]) == (1, 1)


def test_members_of_a_group_meet_inside(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2)
    all_reduce, out = w.register(f"{kernels}:all_reduce"), w.buffer((2, 8))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [1, 0], 64, [ts.CommBufferSpec("grad", "float32", 8)])
        orch.submit_group(all_reduce, tp, ts.each([ts.out(out[0]), ts.out(out[1])]), chips=[1, 0])

    w.run(orchestrate)
    assert out.numpy().tolist() == [[3] * 8] * 2


def test_prepared_group_has_arguments_for_each_member(forked: Factory, kernels: str) -> None:
    w = forked(2, 2)
    fill, x = w.register(f"{kernels}:fill"), w.buffer((4, 2))
    prepared = []
    for i in range(4):
        args = ts.TaskArgs()
        args.add_tensor(x[i], ts.OUTPUT_EXISTING)
        args.add_scalar(float(i + 1))
        prepared.append(args)

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        first = orch.submit_next_level_group(fill, prepared[:2], ts.CallConfig(blocks=2), workers=[1, 0])
        orch.submit_sub_group(fill, tuple(prepared[2:]), after=[first])

    w.run(orchestrate)
    assert x.numpy().tolist() == [[1, 1], [2, 2], [3, 3], [4, 4]]


def test_failure_of_one_member_is_the_failure_of_the_group(forked: Factory, kernels: str) -> None:
    w = forked(2)
    f, x = w.register(add_one), w.buffer(2)

    def half(task: ts.Task, x: Any) -> None:
        if task.member == 1:
            raise LookupError("only the second")
        x += 1

    group = w.register(half)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit_group(group, ts.each([ts.inout(x[:1]), ts.inout(x[1:])]), chips=[0, 1])
        orch.submit(f, ts.inout(x), chip=0)

    with pytest.raises(LookupError, match="only the second"):
        w.run(orchestrate)
    assert x.numpy()[1] == 0 and x.numpy()[0] <= 1
    check_works(w)


def test_refused_group_submits_no_member(forked: Factory, kernels: str) -> None:
    w = forked(2, 1)
    f, x = w.register(add_one), w.buffer(2)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for arguments, chips in (
            ((ts.inout(x[:1]),), [0, 0]),
            ((ts.each([ts.inout(x[:1]), ts.inout(np.zeros(1))]),), [0, 1]),
            ((ts.each([ts.inout(x[:1])]),), [0, 1]),
            ((ts.inout(x[:1]),), [0, 2]),
            ((ts.inout(x[:1]),), []),
        ):
            with pytest.raises(ValueError):
                orch.submit_group(f, *arguments, chips=chips)

    before = w.stats()["tasks"]
    w.run(orchestrate)
    assert w.stats()["tasks"] == before and x.numpy().tolist() == [0, 0]


# ---- arguments ----


def bits_of(format: str, value: Any) -> int:
    return int.from_bytes(struct.pack(format, value), "little")


SCALARS: list[tuple[Any, Any, int]] = [  # value, dtype, bits in C
    (0, None, 0),
    (5, None, 5),
    (-5, None, 2**64 - 5),
    (2**63 - 1, None, 2**63 - 1),
    (-(2**63), None, 2**63),
    (2**64 - 1, None, 2**64 - 1),
    (True, None, 1),
    (False, None, 0),
    (1.5, None, bits_of("f", 1.5)),
    (-0.0, None, bits_of("f", -0.0)),
    (1.5, "float64", bits_of("d", 1.5)),
    (1.5, "f32", bits_of("f", 1.5)),
    (3, "float64", bits_of("d", 3)),
    (7, "float32", bits_of("f", 7)),
    (-1, "int8", 2**64 - 1),
    (255, "uint8", 255),
    (-1, "int64", 2**64 - 1),
    (2, "bool", 1),
    (np.int8(-2), None, 2**64 - 2),
    (np.uint16(65535), None, 65535),
    (np.int64(-1), None, 2**64 - 1),
    (np.uint64(2**64 - 1), None, 2**64 - 1),
    (np.bool_(True), None, 1),
    (np.float32(2.5), None, bits_of("f", 2.5)),
    (np.float64(2.5), None, bits_of("f", 2.5)),
    (np.array(2.5), None, bits_of("d", 2.5)),
    (np.array(2.5, np.float32), None, bits_of("f", 2.5)),
    (np.array(-3, np.int16), None, 2**64 - 3),
    (ctypes.c_int32(-7), None, 2**64 - 7),
    (ctypes.c_double(2.5), None, bits_of("d", 2.5)),
    (ctypes.c_uint8(200), None, 200),
]


def test_numbers_reach_a_task_of_c_as_their_bits(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker()
    f = w.register(f"{kernels}:arguments")
    plain = [value for value, dtype, _ in SCALARS if dtype is None]
    out, direct = w.buffer(3 + len(SCALARS), "int64"), w.buffer(3 + len(plain), "int64")
    prepared = ts.TaskArgs()
    prepared.add_tensor(out, ts.OUTPUT)
    for value, dtype, _ in SCALARS:
        prepared.add_scalar(value, dtype)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit_next_level(f, prepared)
        orch.submit(f, ts.out(direct), *plain)

    w.run(orchestrate)
    assert out.numpy()[:3].tolist() == [1, len(SCALARS), 0]
    assert out.numpy()[3:].view(np.uint64).tolist() == [bits for _, _, bits in SCALARS]
    expected = [bits for _, dtype, bits in SCALARS if dtype is None]
    assert direct.numpy()[3:].view(np.uint64).tolist() == expected


def test_prepared_arguments_say_what_they_hold(forked: Factory) -> None:
    w = forked()
    x, d = w.buffer(3), []
    args = ts.TaskArgs()
    assert (len(args), repr(args)) == (0, "<transom.TaskArgs: 0 tensors, 0 scalars, 0 domains>")
    args.add_scalar(2**64 - 1)
    args.add_tensor(x)
    args.add_scalar(-1.25)
    args.add_object({"a": 1})
    args.add_scalar(0.1, "float32")
    args.add_scalar(True)
    w.run(lambda orch, a, c: d.append(orch.allocate_domain("tp", [0], 64, keep=True)))
    args.add_domain(d[0])
    array = x.numpy()[1:]
    args.add_tensor(array, 3)
    assert (args.tensor_count(), args.scalar_count(), args.domain_count(), len(args)) == (2, 5, 1, 8)
    assert args.tensor(0) is x and args.tensor(1) is array
    assert (args.scalar(0), args.scalar(1), args.scalar(4)) == (2**64 - 1, -1.25, True)
    assert args.scalar(3) == np.float32(0.1)
    for call in (lambda: args.tensor(2), lambda: args.scalar(5)):
        with pytest.raises(IndexError, match="there is no (tensor 2|scalar 5)"):
            call()
    assert repr(args) == "<transom.TaskArgs: 2 tensors, 5 scalars, 1 domains>"
    args.clear()
    assert len(args) == args.tensor_count() == args.domain_count() == 0
    d[0].release()


def test_arguments_are_taken_when_they_are_submitted(forked: Factory, kernels: str) -> None:
    w = forked()
    gate, fill, x = Gate(w, kernels), w.register(f"{kernels}:fill"), w.buffer((3, 2))

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        gate.submit(orch)
        args = ts.TaskArgs()
        for i in range(3):
            args.clear()
            args.add_tensor(x[i], ts.OUTPUT)
            args.add_scalar(float(i))
            orch.submit_next_level(fill, args, worker=0)
        args.clear()
        del args
        gate.open()

    w.run(orchestrate)
    assert x.numpy()[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("who", ["thread", "signal handler"])
def test_arguments_cannot_be_changed_while_they_are_submitted(forked: Factory, kernels: str, who: str) -> None:
    """A submission sleeps at a full ring, and others run meanwhile."""
    w = forked(1, ring_size=262144)
    gate, affine, x = Gate(w, kernels), w.register(f"{kernels}:affine"), w.buffer(4)
    args = ts.TaskArgs()
    args.add_tensor(x, ts.INOUT)
    args.add_scalar(1.0)
    args.add_scalar(1.0)
    refused: list[str] = []

    def change(*unused: Any) -> None:
        for call in (
            args.clear,
            lambda: args.add_tensor(ts.Tensor(64, 1)),
            lambda: args.add_scalar(1),
            lambda: args.add_object([]),
        ):
            try:
                call()
            except ts.StateError as error:
                refused.append(str(error))
        assert args.tensor(0) is x and args.scalar(1) == 1.0 and len(args) == 3
        gate.open()

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> int:
        gate.submit(orch, ts.inout(x))
        count = 0
        act = change if who == "thread" else lambda: send(signal.SIGUSR1)
        with when(lambda: gate.begun and is_asleep(), act):
            while not refused:
                orch.submit_next_level(affine, args)
                count += 1
        return count

    before = signal.signal(signal.SIGUSR1, change)
    count = w.run(orchestrate)
    signal.signal(signal.SIGUSR1, before)
    assert refused == ["the arguments are being submitted: they cannot be changed meanwhile"] * 4
    assert x.numpy().tolist() == [count] * 4
    args.clear()


def test_object_that_adds_arguments_while_it_is_added_harms_nothing(forked: Factory) -> None:
    w = forked()
    x, args = w.buffer(4), ts.TaskArgs()

    class Adds(DlpackOnly):
        def __dlpack__(self, **options: Any) -> Any:
            for _ in range(100):
                args.add_tensor(x)
            return super().__dlpack__(**options)

        def __reduce__(self) -> Any:
            args.add_scalar(5)
            return int, (3,)

    args.add_tensor(Adds(x))
    args.add_object(Adds(x))
    assert (args.tensor_count(), args.scalar_count(), len(args)) == (101, 2, 103)

    def count(task: ts.Task) -> None:
        assert task.tensor_count() == 101 and task.scalars == (5, 3)

    f = w.register(count)
    w.run(lambda orch, a, c: orch.submit_next_level(f, args))


def test_objects_reach_a_task_of_python_in_their_order_and_with_their_types(worker: Factory, start_method: str) -> None:
    w = worker(2)

    def check(task: ts.Task, *got: Any) -> None:
        expected = [1, 2**64 - 1, -5, 1.1, True, None, "text", b"bytes", [1, "two"], {"k": (3,)}, 3 + 4j, 2.5]
        got = list(got)
        domain, array = got.pop(3), got.pop(0)
        assert got == expected and [type(g) for g in got] == [type(e) for e in expected], got
        assert domain.name == "tp" and domain.rank == 1
        assert array.shape == (2, 3) and array.dtype == "int16" and not array.flags.writeable and array[1, 2] == 5

    f, x = w.register(check), w.buffer((2, 3), "int16")
    x.numpy()[:] = np.arange(6).reshape(2, 3)

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        tp = orch.allocate_domain("tp", [1, 0], 64)
        arguments = [1, 2**64 - 1, tp, -5, 1.1, True, None, "text", b"bytes", [1, "two"], {"k": (3,)}, 3 + 4j]
        orch.submit(f, x, *arguments, np.float32(2.5), chip=0)
        args = ts.TaskArgs()
        args.add_tensor(x.numpy())
        for a in arguments:
            if isinstance(a, ts.CommDomainHandle):
                args.add_domain(a)
            elif isinstance(a, (int, float)):
                args.add_scalar(a)
            else:
                args.add_object(a)
        args.add_scalar(2.5)
        orch.submit_next_level(f, args, worker=0)

    w.run(orchestrate)


def test_every_kind_of_array_over_a_buffer_is_an_input(forked: Factory) -> None:
    w = forked()
    x = w.buffer((2, 2))
    x.numpy()[:] = [[1, 2], [3, 4]]
    total = w.buffer(1)

    def add_sums(task: ts.Task, total: Any, *arrays: Any) -> None:
        total[0] += sum(float(a.sum()) for a in arrays)

    f = w.register(add_sums)
    arrays = [x, x.numpy(), memoryview(x), DlpackOnly(x), ts.Tensor(x.data, (2, 2)), np.from_dlpack(x), x.numpy().T]
    w.run(lambda orch, a, c: orch.submit(f, ts.inout(total), *arrays))
    assert total.numpy()[0] == 10 * len(arrays)


def test_shape_strides_and_dtype_reach_a_task_of_c(forked: Factory, kernels: str) -> None:
    w = forked()
    describe, x = w.register(f"{kernels}:describe"), w.buffer((4, 6), "int16")
    views = [x, x[1], x[::2, ::-1], x[..., 3], x.numpy().T, ts.Tensor(x.data, (3, 2), "uint8", strides=(5, 2)), x[0, 0]]
    out = w.buffer((len(views), 6), "int64")
    w.run(lambda orch, a, c: [orch.submit(describe, ts.out(out[i]), v) for i, v in enumerate(views)] and None)
    rows = out.numpy().tolist()
    assert rows[0] == [5, 2, 4, 6, 12, 2]
    assert rows[1][:4] == [5, 1, 6, 2]
    assert rows[2] == [5, 2, 2, 6, 24, -2]
    assert rows[3][:4] == [5, 1, 4, 12]
    assert rows[4] == [5, 2, 6, 4, 2, 12]
    assert rows[5] == [1, 2, 3, 2, 5, 2]
    assert rows[6][:2] == [5, 0]


def test_many_arguments_fit_and_too_many_are_refused_by_their_bytes(forked: Factory, kernels: str) -> None:
    w = forked()
    arguments, x = w.register(f"{kernels}:arguments"), w.buffer(64)
    out = w.buffer(67, "int64")

    def length(task: ts.Task, out: Any, text: bytes, *more: int) -> None:
        out[0], out[1] = len(text), sum(more)

    f = w.register(length)

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        orch.submit(arguments, ts.out(out), *[x[i : i + 1] for i in range(64)], *range(1000))
        w.host_wait(out)
        assert out.numpy()[:2].tolist() == [65, 1000] and out.numpy()[3:].tolist() == list(range(64))
        orch.submit(f, ts.out(out), b"x" * 60000, *range(100))
        w.host_wait(out)
        assert out.numpy()[:2].tolist() == [60000, sum(range(100))]
        with pytest.raises(ValueError, match="less than 64 KiB; put arrays into buffers"):
            orch.submit(f, ts.out(out), b"x" * 66000)
        with pytest.raises(ValueError, match="(?i)65536|64 KiB"):
            orch.submit(arguments, ts.out(out), *range(9000))
        with pytest.raises(ValueError, match="(?i)65536|64 KiB"):
            orch.submit(arguments, ts.out(out), *[x] * 2000)

    w.run(orchestrate)
    check_works(w)


def test_object_is_refused_for_a_task_of_c_by_its_place(forked: Factory, kernels: str) -> None:
    w = forked()
    nothing = w.register(f"{kernels}:nothing")
    args = ts.TaskArgs()
    args.add_object([1])

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        with pytest.raises(TypeError, match="argument 1 is an object: 'nothing' is a function of C"):
            orch.submit(nothing, 1, "text")
        with pytest.raises(TypeError, match="argument 0 is an object"):
            orch.submit_next_level(nothing, args)

    w.run(orchestrate)


def test_array_that_is_not_of_the_worker_is_refused_and_told_what_to_use(forked: Factory, kernels: str) -> None:
    w, other = forked(), forked()
    nothing, foreign = w.register(f"{kernels}:nothing"), other.buffer(4)

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        for wrong in (np.zeros(3), bytearray(8), foreign, foreign.numpy(), ts.Tensor(4096, 3)):
            for use in (lambda t: t, ts.out, ts.inout, ts.nodep):
                with pytest.raises(ValueError, match="tensor 1: 0x.* is not memory of this worker: use Worker.buffer"):
                    orch.submit(nothing, use_first, use(wrong))
        for wrong in (
            np.zeros(3, np.complex64),
            np.array(["a"]),
            np.zeros(2, "M8[s]"),
        ):
            with pytest.raises((TypeError, ValueError)):
                orch.submit(nothing, ts.inout(wrong))
        with pytest.raises(ValueError, match="beyond|outside"):
            orch.submit(nothing, ts.Tensor(use_first.data, 1 << 20))

    use_first = w.buffer(4)
    w.run(orchestrate)


def test_tensor_of_device_memory_is_refused(forked: Factory) -> None:
    w = forked()
    f = w.register(add_one)

    class OnDevice(DlpackOnly):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("Cannot export tensors on a device")

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        with pytest.raises(BufferError, match="on a device"):
            orch.submit(f, ts.inout(OnDevice(None)))
        with pytest.raises(BufferError, match="on a device"):
            orch.submit(f, OnDevice(None))

    w.run(orchestrate)


# ---- host_wait ----


def test_host_wait_waits_for_exactly_what_is_in_the_way(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2)
    slow = Gate(w, kernels)
    x, y = w.buffer((2, 4)), w.buffer(4)
    fill = w.register(f"{kernels}:fill")

    def orchestrate(orch: ts.Orchestrator, a: Any, c: Any) -> None:
        slow.submit(orch, ts.inout(x[0]), y, chip=0)  # writes x[0], reads y
        orch.submit(fill, ts.out(x[1]), 3.0, chip=1)
        orch.host_wait(x[1], "rw")
        assert x.numpy()[1].tolist() == [3] * 4
        w.host_wait(y)  # who only reads is not in the way of a reader
        w.host_wait(y.numpy()[1:], "r")
        w.host_wait(x[:0], "rw")
        slow.wait_begun()

    handle = w.submit(orchestrate)
    w.host_wait(x[1], access="w")
    assert not handle.done
    slow.open()
    w.host_wait(y, "w")
    w.host_wait(x, "r")
    w.host_wait(DlpackOnly(x), "w")
    handle.wait()

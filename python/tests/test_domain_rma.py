# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What a task sees of a domain: ranks and arrays, places, put and get, single elements, atomics, fence and quiet."""

from __future__ import annotations

import array
import ctypes
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Team, check_refusals, open_team

Repeat = Callable[[int], int]

DTYPES = "uint8 int8 bool uint16 int16 float16 bfloat16 uint32 int32 float32 uint64 int64 float64".split()
INTEGERS = {"i": "int32", "u": "uint32", "l": "int64", "q": "uint64"}
OTHERS = {"f": "float32", "d": "float64", "h": "int16"}


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    yield from open_team()


def offset_of(tp: ts.Domain, part: Any) -> int:
    """Where a part of the own window lies."""
    return int(part.__array_interface__["data"][0] - tp.buffer().__array_interface__["data"][0])


class OnlyDLPack:
    """An array that has neither the buffer protocol nor an array interface, as PyTorch's."""

    def __init__(self, over: Any) -> None:
        self.over = over

    def __dlpack__(self, **options: Any) -> Any:
        return self.over.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.over.__dlpack_device__()


# ---- the domain ----


def test_domain_has_name_rank_size_and_window(team: Team) -> None:
    def look(task: ts.Task, tp: ts.Domain, chips: list[int]) -> None:
        rank = chips.index(task.chip)
        assert (tp.name, tp.rank, tp.size) == ("tp", rank, len(chips))
        assert tp.window_size >= 5000
        assert tp.text == "" and tp.status() == ("ok", None, None)
        assert repr(tp) == f"<transom.Domain 'tp' rank {rank} of {len(chips)}>"

    for chips in ([2], [3, 1], [2, 0, 3], [0, 1, 2, 3]):
        team.group(look, chips, chips=chips, window=5000)


def test_buffers_are_zeroed_arrays_of_their_type_over_the_own_window(team: Team) -> None:
    def look(task: ts.Task, tp: ts.Domain) -> None:
        for count, dtype in enumerate(DTYPES, start=1):
            part = tp[dtype]
            assert part.dtype == ("uint16" if dtype == "bfloat16" else dtype) and part.shape == (count,)
            assert part.flags.writeable and not part.any()
            assert tp[dtype] is part
        whole = tp.buffer()
        assert whole.dtype == np.uint8 and whole.shape == (tp.window_size,) == tp.buffer(None, None).shape
        tp["int32"][1] = 0x01020304
        at = offset_of(tp, tp["int32"][1:])
        assert whole[at : at + 4].tobytes() == b"\4\3\2\1"

    team.group(look, chips=[0, 1], buffers={dtype: (dtype, count) for count, dtype in enumerate(DTYPES, start=1)})


def test_buffer_of_a_peer_is_its_memory_itself(team: Team) -> None:
    def store(task: ts.Task, tp: ts.Domain) -> None:
        right, left = (tp.rank + 1) % tp.size, (tp.rank - 1) % tp.size
        tp.buffer("a", right)[:] = tp.rank
        tp.buffer(rank=right)[offset_of(tp, tp["s"])] = 7
        tp.sync()
        assert tp["a"].tolist() == [left] * 8 and tp["s"][0] == 7
        assert tp.buffer("a", tp.rank).tolist() == tp.buffer("a").tolist() == [left] * 8

    team.group(store)


def test_text_says_why_the_library_refused_the_last_call(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        with pytest.raises(ts.ArgumentError) as caught:
            tp.signal(4, 1, 0)
        assert tp.text == str(caught.value) == "domain 'tp': a word of 8 bytes at offset 4"
        with pytest.raises(ts.ArgumentError):
            tp.split([])
        assert tp.text == "domain 'tp': a sub-group of no ranks"

    team.group(refuse, chips=[0])


# ---- places ----


def test_one_place_can_be_named_in_every_way(team: Team) -> None:
    def put_there(task: ts.Task, tp: ts.Domain) -> None:
        part = tp["b"][4:6]
        places = [
            ("b", 4),
            ("b", 4, 2),
            part,
            memoryview(part),
            part.reshape(2, 1),
            OnlyDLPack(part),
            offset_of(tp, part),
        ]
        right = (tp.rank + 1) % tp.size
        for number, place in enumerate(places):
            tp.put(place, np.array([number, tp.rank], np.float32), right)
            tp.barrier()
            assert part.tolist() == [number, (tp.rank - 1) % tp.size], place
            tp.sync()
        assert np.count_nonzero(tp["b"]) == np.count_nonzero(part)

    team.group(put_there, chips=[0, 1, 2])


def test_name_alone_is_the_whole_buffer_and_parts_may_be_empty(team: Team) -> None:
    def put_there(task: ts.Task, tp: ts.Domain) -> None:
        tp.put("a", np.arange(8, dtype=np.float32), tp.rank)
        tp.put(("a", 8), b"", tp.rank)
        tp.put(("a", 3, 0), b"", tp.rank)
        tp.put(tp["a"][3:3], b"", tp.rank)
        tp.put(tp.window_size - 1, b"", tp.rank)
        tp.quiet()
        assert tp["a"].tolist() == list(range(8))

    team.group(put_there, chips=[0])


def test_what_is_no_place_is_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain, x: Any) -> None:
        outside = "an array outside of this rank's window"
        zero = np.zeros(8, np.float32)

        def put(place: Any) -> Callable[[], None]:
            return lambda: tp.put(place, b"", 0)

        check_refusals(
            (put("x"), ts.NotFoundError, "domain 'tp': no buffer 'x'; there is 'a', 'b', 's'"),
            (put(""), ts.NotFoundError, "no buffer ''"),
            (lambda: tp["x"], ts.NotFoundError, "no buffer 'x'; there is 'a', 'b', 's'"),
            (lambda: tp[3], TypeError, "a buffer has a name, not <class 'int'>"),  # type: ignore[index]
            (lambda: tp.buffer(b"a"), TypeError, "name must be a str or None, not <class 'bytes'>"),  # type: ignore[arg-type]
            (put(("a", 9)), ts.ArgumentError, "dst is ('a', 9): 'a' has 8 elements"),
            (put(("a", 6, 3)), ts.ArgumentError, "dst is ('a', 6, 3): 'a' has 8 elements"),
            (put(("a", -1)), ts.ArgumentError, "dst is ('a', -1)"),
            (put(("a", 0, -1)), ts.ArgumentError, "dst is ('a', 0, -1)"),
            (put(("a", 1, 2**63 - 1)), ts.ArgumentError, "'a' has 8 elements"),
            (put(("x", 0)), ts.NotFoundError, "no buffer 'x'"),
            (put(("a",)), TypeError, "dst is ('a',): (name, first) or (name, first, count)"),
            (put(("a", 0, 1, 2)), TypeError, "(name, first) or (name, first, count)"),
            (put(()), TypeError, "dst is (): (name, first)"),
            (put((0, "a")), TypeError, "dst is (0, 'a')"),
            (put(("a", 1.0)), TypeError, "first must be an int"),
            (put(("a", 0, None)), TypeError, "count must be an int"),
            (put(tp.window_size), ts.ArgumentError, f"offset {tp.window_size} in a window of {tp.window_size} bytes"),
            (put(-4), ValueError, "dst is -4"),
            (put(2**64), ValueError, f"dst is {2**64}"),
            (put(None), TypeError, "dst must be the name of a buffer, an array in the window or an offset"),
            (put(True), TypeError, "not <class 'bool'>"),
            (put([1.0]), TypeError, "not <class 'list'>"),
            (put(tp["s"][3]), TypeError, "dst is a single value, a copy: give a part of the array, as a[i:i + 1]"),
            (put(tp["b"][::2]), ts.ArgumentError, "dst is an array that is not contiguous"),
            (put(tp["b"].reshape(4, 8)[:, :2]), ts.ArgumentError, "not contiguous"),
            (put(zero), ts.ArgumentError, outside),
            (put(OnlyDLPack(zero)), ts.ArgumentError, outside),
            (put(OnlyDLPack(tp["b"][::2])), ts.ArgumentError, "dst is an array that is not contiguous"),
            (put(x), ts.ArgumentError, outside),
            (put(tp.buffer("a", 1 - tp.rank)), ts.ArgumentError, outside),
            (put(b"text"), ts.ArgumentError, outside),
            (put(np.zeros(2, complex)), TypeError, "dst has elements of format 'Zd', which is no type here"),
        )

    team.group(refuse, team.worker.buffer(4), chips=[0, 1])


def test_place_of_a_domain_without_buffers_is_an_offset(team: Team) -> None:
    def use(task: ts.Task, tp: ts.Domain) -> None:
        with pytest.raises(ts.NotFoundError, match="no buffer 'a'; there is none"):
            tp["a"]
        tp.put(8, np.array([5, 6]), tp.rank)
        tp.quiet()
        assert tp.buffer()[:24].view(np.int64).tolist() == [0, 5, 6]
        assert tp.signal_fetch(16) == 6

    team.group(use, chips=[0], buffers={}, window=100)


# ---- put and get ----


@pytest.mark.parametrize("count", [0, 1, 7, 1000, 70000])
def test_what_is_put_and_got_is_whole_in_every_type(team: Team, count: int) -> None:
    dtypes = DTYPES if count < 70000 else ["uint8", "float64"]

    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        right, left = (tp.rank + 1) % tp.size, (tp.rank - 1) % tp.size
        random = np.random.default_rng(count)
        for dtype in dtypes:
            kind = np.dtype("uint16" if dtype == "bfloat16" else dtype)
            data = random.integers(0, 2 if dtype == "bool" else 100, (tp.size, count)).astype(kind)
            tp.put((dtype, 0), data[tp.rank], right)
            tp.put_nbi((dtype, count), data[tp.rank], right)
            tp.barrier()
            assert np.array_equal(tp[dtype][:count], data[left])
            assert np.array_equal(tp[dtype][count : 2 * count], data[left])
            got, late = np.empty(count, kind), np.empty(count, kind)
            tp.get(got, (dtype, 0), right)
            tp.get_nbi(late, (dtype, count), right)
            tp.quiet()
            assert np.array_equal(got, data[tp.rank]) and np.array_equal(late, data[tp.rank])
            tp.sync()

    buffers = {dtype: (dtype, 2 * count + 1) for dtype in dtypes}
    team.group(exchange, chips=[0, 1, 2], buffers=buffers, window=1 << 24)


def test_put_changes_nothing_beside_its_place(team: Team) -> None:
    def put_inside(task: ts.Task, tp: ts.Domain) -> None:
        tp.buffer()[:] = 0xA5
        tp.barrier()
        tp.put(("b", 3, 2), np.full(2, 1, np.float32), (tp.rank + 1) % tp.size)
        tp.barrier()
        at = offset_of(tp, tp["b"][3:])
        assert (tp["b"][3:5] == 1).all()
        assert (tp.buffer()[:at] == 0xA5).all() and (tp.buffer()[at + 8 :] == 0xA5).all()

    team.group(put_inside, chips=[0, 1])


def test_source_and_target_may_be_any_contiguous_memory(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain, x: Any, y: Any) -> None:
        numbers = [1.0, 2.0, 3.0, 4.0]
        data = np.array(numbers, np.float32)
        raw = data.tobytes()
        sources = [
            data,
            data.reshape(2, 2),
            OnlyDLPack(data),
            raw,
            bytearray(raw),
            memoryview(raw),
            array.array("f", numbers),
            (ctypes.c_float * 4)(*numbers),
            x,
            ("b", 0, 4),
            tp["b"][:4],
        ]
        tp["b"][:4] = data
        for number, source in enumerate(sources):
            tp["a"][:] = 0
            tp.put("a", source, tp.rank)
            tp.quiet()
            assert tp["a"].tolist() == numbers + [0] * 4, number
        tp.put("a", "a", tp.rank)
        tp.put("b", "a", tp.rank)
        tp.quiet()
        targets = [np.empty(4, np.float32), bytearray(16), array.array("f", [0] * 4), (ctypes.c_float * 4)(), y]
        targets += [np.empty((2, 2), np.float32), memoryview(bytearray(16))]
        for number, target in enumerate(targets):
            tp.get(target, "a", tp.rank)
            assert bytes(target) == raw, number
            tp.get(target, ("a", 4), tp.rank)
            tp.get_nbi(target, "a", tp.rank)
            tp.quiet()
            assert bytes(target) == raw, number
        tp.get(("b", 8, 4), "a", tp.rank)
        only = np.zeros(4, np.float32)
        tp.get(OnlyDLPack(only), "a", tp.rank)
        assert tp["b"][8:12].tolist() == only.tolist() == numbers
        tp.put(("a", 0, 1), np.array(9, np.float32), tp.rank)  # of no dimension
        tp.quiet()
        assert tp["a"][0] == 9

    x, y = team.worker.buffer(4), team.worker.buffer(4)
    x.numpy()[:] = [1, 2, 3, 4]
    team.group(exchange, x, ts.out(y), chips=[0])


def test_bytes_go_with_every_type_and_other_types_with_their_own_only(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        for dtype in DTYPES:
            tp.put(dtype, np.arange(8, dtype=np.uint8), 0)
            tp.put("uint8", (dtype, 0, 1), 0)
            tp.get(np.empty(8, np.uint8), dtype, 0)
        tp.put("bfloat16", np.zeros(4, np.uint16), 0)
        tp.put("uint16", tp["bfloat16"], 0)
        tp.put(0, np.zeros(1, np.float64), 0)  # an offset has no type
        check_refusals(
            (
                lambda: tp.put("float32", np.zeros(1), 0),
                TypeError,
                "put: dst 'float32' is float32, src is float64",
            ),
            (lambda: tp.get(np.zeros(1), "int64", 0), TypeError, "get: src 'int64' is int64, dst is float64"),
            (lambda: tp.put("float16", np.zeros(1, np.uint16), 0), TypeError, "dst 'float16' is float16"),
            (lambda: tp.put("int8", "bool", 0), TypeError, "dst 'int8' is int8, src is bool"),
            (
                lambda: tp.put(tp["int32"][1:], np.zeros(1, np.uint32), 0),
                TypeError,
                f"dst at offset {offset_of(tp, tp['int32'][1:])} is int32, src is uint32",
            ),
        )

    team.group(exchange, chips=[0], buffers={dtype: (dtype, 8) for dtype in DTYPES})


def test_what_does_not_fit_or_is_no_memory_is_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain, x: Any) -> None:
        nine = np.zeros(9, np.float32)
        here = 0
        for call in (tp.put, tp.put_nbi):
            check_refusals(
                (lambda c=call: c("a", nine, here), ts.ArgumentError, "src has 36 bytes, dst 'a' has 32"),
                (lambda c=call: c(("a", 7), nine[:2], here), ts.ArgumentError, "src has 8 bytes, dst 'a' has 4"),
                (lambda c=call: c("a", nine[::2], here), ts.ArgumentError, "src is not contiguous: copy it first"),
                (lambda c=call: c("a", OnlyDLPack(nine[::2]), here), ts.ArgumentError, "src is not contiguous"),
                (lambda c=call: c("a", [1.0], here), TypeError, "src must be an array, bytes or another buffer"),
                (lambda c=call: c("a", 5, here), TypeError, "not <class 'int'>"),
                (lambda c=call: c("a", None, here), TypeError, "not <class 'NoneType'>"),
                (lambda c=call: c("a", "x", here), ts.NotFoundError, "no buffer 'x'"),
                (lambda c=call: c("a", b"", 2), ts.ArgumentError, "rank is 2: there are 2 ranks"),
                (lambda c=call: c("a", np.zeros(2, dtype=[("x", "i4")]), here), TypeError, "no type here"),
                (lambda c=call: c("a", np.array(["text"]), here), TypeError, "no type here"),
            )
        for call in (tp.get, tp.get_nbi):
            check_refusals(
                (lambda c=call: c(nine, "a", here), ts.ArgumentError, "dst has 36 bytes, src 'a' has 32"),
                (lambda c=call: c(bytes(8), "a", here), ts.ArgumentError, "dst is read-only"),
                (lambda c=call: c(x, "a", here), ts.ArgumentError, "dst is read-only"),
                (lambda c=call: c(nine[::-1], "a", here), ts.ArgumentError, "dst is not contiguous"),
                (lambda c=call: c(tp["a"][2], "b", here), ts.ArgumentError, "dst is read-only"),
                (lambda c=call: c(nine, nine, here), ts.ArgumentError, "src is an array outside"),
                (lambda c=call: c(nine[:8], "a", -1), ts.ArgumentError, "rank is -1: there are 2 ranks"),
            )
        assert not tp["a"].any() and not nine.any()

    team.group(refuse, team.worker.buffer(4), chips=[0, 1])


# ---- what is not complete yet ----


def test_source_of_put_nbi_is_kept_until_quiet(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        def put_nbi(rank: int) -> weakref.ref[Any]:
            source = np.full(8, tp.rank + 1, np.float32)
            tp.put_nbi("a", source, rank)
            return weakref.ref(source)

        def get_nbi() -> weakref.ref[Any]:
            target = np.empty(8, np.float32)
            tp.get_nbi(target, "a", tp.rank)
            return weakref.ref(target)

        def put_signal_nbi() -> weakref.ref[Any]:
            source = np.full(8, tp.rank + 1, np.float32)
            tp.put_signal_nbi("a", source, "s", 1, 0)
            return weakref.ref(source)

        first, second = put_nbi(0), put_nbi(1)
        assert first() is not None and second() is not None
        tp.quiet(1)
        assert first() is not None and second() is None
        tp.quiet()
        assert first() is None
        for begin in (get_nbi, put_signal_nbi, lambda: put_nbi(1)):
            kept = begin()
            assert kept() is not None
            tp.barrier()
            assert kept() is None

    team.group(exchange, chips=[0, 1])


def test_a_loop_without_quiet_keeps_a_bounded_number_of_sources(team: Team) -> None:
    def loop(task: ts.Task, tp: ts.Domain) -> None:
        kept = []
        for number in range(5000):
            source = np.full(1, number, np.float64)
            tp.put_nbi(("x", 0, 1), source, tp.rank)
            tp.fence()
            kept.append(weakref.ref(source))
            del source
        assert sum(ref() is not None for ref in kept) <= 1024
        tp.quiet()
        assert all(ref() is None for ref in kept)
        assert tp["x"][0] == 4999

    team.group(loop, chips=[0, 1], buffers={"x": ("float64", 4)})


kept: list[weakref.ref[Any]] = []


def put_and_end(task: ts.Task, tp: ts.Domain, out: Any) -> None:
    source = np.full(8, tp.rank + 1, np.float32)
    tp.put_nbi("a", source, (tp.rank + 1) % tp.size)
    kept.append(weakref.ref(source))


def look_after_the_end(task: ts.Task, tp: ts.Domain, out: Any) -> None:
    out[tp.rank] = tp["a"].sum()
    assert kept.pop()() is None


def test_end_of_the_task_completes_what_it_put_and_lets_go(team: Team) -> None:
    first, second = team.worker.register(put_and_end), team.worker.register(look_after_the_end)
    out = team.worker.buffer(2)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096, [ts.CommBufferSpec("a", "float32", 8)])
        begun = orch.submit_group(first, tp, ts.nodep(out), chips=[0, 1])
        orch.submit_group(second, tp, ts.nodep(out), chips=[0, 1], after=[begun])

    team.worker.run(orchestrate)
    assert out.numpy().tolist() == [16, 8]


class Vanishing(bytearray):
    """Memory that is something else when nothing refers to it."""

    def __del__(self) -> None:
        self[:] = bytes(len(self))


def use_vanishing_memory(task: ts.Task, tp: ts.Domain) -> None:
    right, left = (tp.rank + 1) % tp.size, (tp.rank - 1) % tp.size
    for number in range(1, 10):
        tp.put_nbi("a", Vanishing([number + tp.rank] * 32), right)
        tp.put_signal_nbi("b", Vanishing([number] * 32), "s", number, right, strong=True)
        tp.wait_until("s", ">=", number)
        assert (tp["a"].view(np.uint8) == number + left).all()
        assert (tp["b"].view(np.uint8)[:32] == number).all()
        tp.quiet()
        target = bytearray(32)
        tp.get_nbi(memoryview(target), "a", right)
        tp.quiet()
        assert target == bytes([number + tp.rank] * 32)
        tp.barrier()
    tp.put_nbi("a", Vanishing([100] * 32), right)  # the end of the task completes it


def look_after_use(task: ts.Task, tp: ts.Domain) -> None:
    assert (tp["a"].view(np.uint8) == 100).all()


def test_with_all_the_freedom_of_chaos_mode_sources_and_targets_live_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There a put_nbi reads its source, and a get_nbi writes its target, only when it has to be complete."""
    buffers = [ts.CommBufferSpec("a", "float32", 8), ts.CommBufferSpec("b", "float32", 32)]
    buffers.append(ts.CommBufferSpec("s", "int64", 1))

    def orchestrate(orch: ts.Orchestrator, handles: list[ts.Callable], config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096, buffers)
        used = orch.submit_group(handles[0], tp, chips=[0, 1])
        orch.submit_group(handles[1], tp, chips=[0, 1], after=[used])

    monkeypatch.setenv("TRANSOM_CHAOS", "11")
    with ts.Worker(2) as w:
        handles = [w.register(f) for f in (use_vanishing_memory, look_after_use)]
        for _ in range(10):  # each run is another seed
            w.run(orchestrate, handles)


def test_who_sees_what_was_put_behind_a_fence_sees_what_was_before_it(team: Team, repeat: Repeat) -> None:
    def flag(task: ts.Task, tp: ts.Domain, rounds: int) -> None:
        other = 1 - tp.rank
        for number in range(1, rounds + 1):
            tp.put("a", np.full(8, number, np.float32), other)
            tp.fence()
            tp.p("s", number, other)
            tp.wait_until("s", ">=", number)
            assert (tp["a"] == number).all()
            tp.barrier()

    team.group(flag, repeat(1000), chips=[0, 1])


# ---- strides ----


def test_strided_elements_land_apart_and_leave_the_gaps_alone(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        right = (tp.rank + 1) % tp.size
        source = np.arange(1, 8, dtype=np.float32)
        for to in (1, 2, 5):
            for of in (1, 2, 3, 9):
                tp["b"][:] = -1
                tp.barrier()
                tp.iput("b", source, right, to, of)
                tp.barrier()
                want = np.full(32, -1, np.float32)
                taken = source[::of]
                want[: len(taken) * to : to] = taken
                assert np.array_equal(tp["b"], want), (to, of)
                target, expect = np.zeros(7, np.float32), np.zeros(7, np.float32)
                tp.iget(target, "b", right, dst_stride=of, src_stride=to)
                expect[::of] = want[: len(expect[::of]) * to : to]
                assert np.array_equal(target, expect), (to, of)
                tp.sync()
        tp.iput("b", bytes(8), right, dst_stride=2)  # of the type of the place
        tp.iput(0, np.arange(2.0), right, dst_stride=2)
        tp.iput("a", b"", right, dst_stride=3)
        tp.iput("b", "a", tp.rank, src_stride=4)
        tp.barrier()

    team.group(exchange, chips=[0, 1, 2])


def test_strides_that_do_not_fit_are_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        four = np.zeros(4, np.float32)
        check_refusals(
            (
                lambda: tp.iput("a", four, 0, dst_stride=3),
                ts.ArgumentError,
                "iput: 4 elements of src with stride 3 do not fit dst 'a', which has 8",
            ),
            (
                lambda: tp.iget(four, "a", 0, src_stride=3),
                ts.ArgumentError,
                "iget: 4 elements of dst with stride 3 do not fit src 'a', which has 8",
            ),
            (lambda: tp.iput("a", four, 0, 2**62), ts.ArgumentError, "do not fit"),
            (lambda: tp.iput("a", bytes(6), 0), ts.ArgumentError, "src has 6 bytes, an element has 4"),
            (lambda: tp.iput("a", four, 0, dst_stride=0), ValueError, "dst_stride is 0"),
            (lambda: tp.iput("a", four, 0, 1, -1), ValueError, "src_stride is -1"),
            (lambda: tp.iget(four, "a", 0, dst_stride=0), ValueError, "dst_stride is 0"),
            (lambda: tp.iget(four, "a", 0, 1, 1.0), TypeError, "src_stride must be an int"),  # type: ignore[arg-type]
            (lambda: tp.iput("a", np.zeros(1), 0), TypeError, "iput: dst 'a' is float32, src is float64"),
            (lambda: tp.iget(bytes(4), "a", 0), ts.ArgumentError, "dst is read-only"),
        )

    team.group(refuse, chips=[0])


# ---- single elements ----


WORDS = {
    "i": ("int32", [0, 1, -1, 2**31 - 1, -(2**31)]),
    "u": ("uint32", [0, 1, 2**32 - 1]),
    "l": ("int64", [0, 1, -1, 2**63 - 1, -(2**63)]),
    "q": ("uint64", [0, 1, 2**64 - 1]),
    "f": ("float32", [0.0, -1.5, 3.0000000e38, float("inf")]),
    "d": ("float64", [0.0, 0.1, -1e300, float("-inf")]),
}


def test_single_elements_are_of_the_type_of_their_place(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        right = (tp.rank + 1) % tp.size
        for name, (dtype, values) in WORDS.items():
            for value in values:
                tp.p((name, 1), value, right)
                tp.barrier()
                stored = tp[name][1].item()
                assert stored == np.array(value, dtype).item() and type(stored) is type(value)
                got = tp.g((name, 1), right)
                assert got == stored and type(got) is type(value)
                assert tp.atomic_fetch(tp[name][1:2], right) == stored
                tp.sync()
            assert tp[name][0] == tp[name][2] == 0
        tp.p("i", 2**32 - 1, tp.rank)  # its bits
        tp.p("f", 3, tp.rank)
        tp.p("d", np.float32(0.5), tp.rank)
        tp.p("l", np.int16(-7), tp.rank)
        tp.quiet()
        assert (tp["i"][0], tp["f"][0], tp["d"][0], tp["l"][0]) == (-1, 3, 0.5, -7)

    team.group(exchange, chips=[0, 1], buffers={name: (dtype, 3) for name, (dtype, _) in WORDS.items()})


def test_what_is_no_single_element_is_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        odd = tp.buffer()[4:12].view(np.int64)
        check_refusals(
            (lambda: tp.p(0, 1, 0), TypeError, "p: dst at offset 0 has no type: give the name of a buffer"),
            (lambda: tp.g(0, 0), TypeError, "g: src at offset 0 has no type"),
            (lambda: tp.atomic_add(0, 1, 0), TypeError, "atomic_add: place at offset 0 has no type"),
            (lambda: tp.p("h", 1, 0), TypeError, "p: dst 'h' is int16: only elements of 32 and 64 bits"),
            (lambda: tp.g("h", 0), TypeError, "g: src 'h' is int16"),
            (lambda: tp.atomic_fetch("h", 0), TypeError, "atomic_fetch: place 'h' is int16"),
            (lambda: tp.p(("i", 4), 1, 0), ts.ArgumentError, "p: dst 'i' has no elements"),
            (lambda: tp.p("i", 2**32, 0), ValueError, "value is 4294967296"),
            (lambda: tp.p("i", -(2**31) - 1, 0), ValueError, "value is -2147483649"),
            (lambda: tp.p("l", 2**64, 0), ValueError, "value is 18446744073709551616: it does not fit 64 bits"),
            (lambda: tp.p("l", -(2**63) - 1, 0), ValueError, "it does not fit 64 bits"),
            (lambda: tp.p("i", 1.5, 0), TypeError, "value must be an int, not <class 'float'>"),  # type: ignore[arg-type]
            (lambda: tp.p("l", True, 0), TypeError, "value must be an int, not <class 'bool'>"),
            (lambda: tp.p("f", "x", 0), TypeError, "value must be a number, not <class 'str'>"),  # type: ignore[arg-type]
            (lambda: tp.p("d", None, 0), TypeError, "value must be a number, not <class 'NoneType'>"),  # type: ignore[arg-type]
            (lambda: tp.p("d", 10**400, 0), ValueError, "value is 1000"),
            (lambda: tp.p(odd, 1, 0), ts.ArgumentError, "a word of 8 bytes at offset 4"),
            (lambda: tp.g(odd, 0), ts.ArgumentError, "a word of 8 bytes at offset 4"),
            (lambda: tp.atomic_add(odd, 1, 0), ts.ArgumentError, "a word of 8 bytes at offset 4"),
            (
                lambda: tp.atomic_fetch_add("f", 1, 0),
                TypeError,
                "atomic_fetch_add is for integers, the place is float32",
            ),
            (lambda: tp.atomic_xor("d", 1, 0), TypeError, "atomic_xor is for integers, the place is float64"),
        )

    team.group(refuse, chips=[0], buffers={name: (dtype, 4) for name, dtype in (INTEGERS | OTHERS).items()})


# ---- atomics ----


def test_atomics_answer_with_the_value_before(team: Team) -> None:
    def change(task: ts.Task, tp: ts.Domain) -> None:
        right = (tp.rank + 1) % tp.size
        for name in INTEGERS:
            place = (name, 2)
            tp.atomic_set(place, 12, right)
            tp.quiet()
            steps = [
                (tp.atomic_swap(place, 10, right), 12),
                (tp.atomic_compare_swap(place, 11, 1, right), 10),
                (tp.atomic_compare_swap(place, 10, 7, right), 10),
                (tp.atomic_fetch_and(place, 6, right), 7),
                (tp.atomic_fetch_or(place, 3, right), 6),
                (tp.atomic_fetch_xor(place, 2, right), 7),
                (tp.atomic_fetch_add(place, 100, right), 5),
                (tp.atomic_fetch(place, right), 105),
            ]
            assert all(got == want for got, want in steps), (name, steps)
            for call, value in ((tp.atomic_add, 2), (tp.atomic_and, 0x6E), (tp.atomic_or, 3), (tp.atomic_xor, 15)):
                call(place, value, right)
                tp.fence()
            tp.barrier()
            assert tp[name][2] == (((105 + 2) & 0x6E) | 3) ^ 15
            assert np.count_nonzero(tp[name]) == 1
            tp.sync()

    team.group(change, chips=[0, 1, 2], buffers={name: (dtype, 4) for name, dtype in INTEGERS.items()})


def test_atomics_wrap_and_keep_the_sign_of_their_type(team: Team) -> None:
    def change(task: ts.Task, tp: ts.Domain) -> None:
        for name, dtype in INTEGERS.items():
            info = np.iinfo(dtype)
            tp.atomic_set(name, info.max, 0)
            tp.quiet()
            assert tp.atomic_fetch_add(name, 1, 0) == info.max
            assert tp.atomic_swap(name, -1, 0) == info.min
            assert tp.atomic_fetch(name, 0) == (-1 if info.min else info.max)
            assert tp.atomic_compare_swap(name, -1, 5, 0) == (-1 if info.min else info.max)
            assert tp.atomic_fetch_add(name, -7, 0) == 5
            assert tp[name][0].item() == (-2 if info.min else info.max - 1)

    team.group(change, chips=[0], buffers={name: (dtype, 1) for name, dtype in INTEGERS.items()})


def test_floats_are_swapped_and_compared_by_their_bits(team: Team) -> None:
    def change(task: ts.Task, tp: ts.Domain) -> None:
        for name in "fd":
            tp.atomic_set(name, 2.5, 0)
            tp.quiet()
            assert tp.atomic_swap(name, 3.5, 0) == 2.5
            assert tp.atomic_compare_swap(name, 2.5, 9.0, 0) == 3.5
            assert tp.atomic_compare_swap(name, 3.5, 9.0, 0) == 3.5
            assert tp.atomic_fetch(name, 0) == 9.0 == tp[name][0]

    team.group(change, chips=[0], buffers={"f": ("float32", 1), "d": ("float64", 1)})


def test_no_change_of_contended_words_is_lost(team: Team, repeat: Repeat) -> None:
    def count(task: ts.Task, tp: ts.Domain, rounds: int) -> None:
        seen = set()
        for _ in range(rounds):
            tp.atomic_add("i", 1, 0)
            seen.add(tp.atomic_fetch_add("l", 1, 0))
            tp.atomic_fetch_xor("q", 1 << tp.rank, 0)
            while tp.atomic_compare_swap("u", old := tp.atomic_fetch("u", 0), old + 1, 0) != old:
                pass
        assert len(seen) == rounds and max(seen) < rounds * tp.size
        tp.barrier()
        if tp.rank == 0:
            want = rounds * tp.size
            assert (tp["i"][0], tp["l"][0], tp["u"][0]) == (want, want, want)
            assert tp["q"][0] == (15 if rounds % 2 else 0)

    team.group(count, repeat(2000), buffers={name: (dtype, 1) for name, dtype in INTEGERS.items()})


# ---- sub-groups and other domains ----


def test_sub_group_has_its_own_ranks_over_the_same_windows(team: Team) -> None:
    def split(task: ts.Task, tp: ts.Domain) -> None:
        pair = tp.split([tp.rank % 2 + 2, tp.rank % 2])
        assert pair is not None and (pair.name, pair.size, pair.rank) == ("tp", 2, 1 - tp.rank // 2)
        assert pair is tp.split([tp.rank % 2 + 2, tp.rank % 2]) and pair.window_size == tp.window_size
        pair.put("a", np.full(8, tp.rank, np.float32), 1 - pair.rank)
        pair.barrier()
        assert (tp["a"] == (tp.rank + 2) % 4).all()
        tp.sync()
        tail = tp.split_strided(1, 1, 3)
        if tp.rank == 0:
            assert tail is None
            assert tp.split([1]) is None
        else:
            assert tail is not None and (tail.size, tail.rank) == (3, tp.rank - 1)
            assert tail is tp.split([1, 2, 3])
            assert [tail.translate(r, tp) for r in range(3)] == [1, 2, 3]
            assert [tp.translate(r, tail) for r in range(1, 4)] == [0, 1, 2]
            tail.p(("s", tail.rank), tail.rank + 1, 2)
            tail.barrier()
            inner = tail.split([2, 0])  # ranks of the group it is made of
            assert (inner is None) == (tp.rank == 2)
            if inner is not None:
                assert inner.translate(0, tp) == 3 and inner.size == 2
                inner.barrier()
        tp.barrier()
        if tp.rank == 3:
            assert tp["s"][:3].tolist() == [1, 2, 3]

    team.group(split)


def test_odd_sub_groups_are_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        one = tp.split([tp.rank])
        assert one is not None
        check_refusals(
            (lambda: tp.split([]), ts.ArgumentError, "domain 'tp': a sub-group of no ranks"),
            (lambda: tp.split([1, 1]), ts.ArgumentError, "ranks[1] is 1, for the second time"),
            (lambda: tp.split([0, 7]), ts.ArgumentError, "ranks[1] is 7 of 2"),
            (lambda: tp.split([-1]), ValueError, "ranks[0] is -1"),
            (lambda: tp.split([0.5]), TypeError, "ranks[0] must be an int"),  # type: ignore[list-item]
            (lambda: tp.split("01"), TypeError, "ranks must be a sequence of ints"),  # type: ignore[arg-type]
            (lambda: tp.split(0), TypeError, "ranks must be a sequence of ints"),  # type: ignore[arg-type]
            (lambda: tp.split_strided(0, 0, 2), ts.ArgumentError, "stride 0"),
            (lambda: tp.split_strided(0, 1, 0), ts.ArgumentError, "count 0"),
            (lambda: tp.split_strided(1, 1, 2), ts.ArgumentError, "2 ranks from 1 with stride 1, of 2"),
            (lambda: tp.split_strided(-1, 1, 1), ValueError, "first is -1"),
            (lambda: tp.translate(2, one), ts.ArgumentError, "rank is 2: there are 2 ranks"),
            (
                lambda: tp.translate(1 - tp.rank, one),
                ts.NotFoundError,
                f"the chip of rank {1 - tp.rank} is not in 'tp'",
            ),
            (lambda: tp.translate(0, 3), TypeError, "other must be a Domain, not <class 'int'>"),  # type: ignore[arg-type]
            (lambda: tp.translate(0, None), TypeError, "other must be a Domain"),  # type: ignore[arg-type]
            (lambda: one.put("a", b"", 1), ts.ArgumentError, "rank is 1: there are 1 ranks"),
        )
        tp.barrier()

    team.group(refuse, chips=[0, 1])


def test_two_domains_of_a_task_and_their_sub_groups_are_apart(team: Team) -> None:
    def use(task: ts.Task, row: ts.Domain, column: ts.Domain) -> None:
        assert (row.name, row.rank) == (f"row {task.chip // 2}", task.chip % 2)
        assert (column.name, column.rank) == (f"column {task.chip % 2}", task.chip // 2)
        row["x"][:] = task.chip
        column["x"][:] = 10 * task.chip
        row.sync()
        column.sync()
        row.all_reduce("x")
        column.all_reduce("x", op="max")
        assert row["x"][0] == 2 * (task.chip - task.chip % 2) + 1 and column["x"][0] == 10 * (task.chip % 2 + 2)
        assert row.translate(row.rank, column) == column.rank
        with pytest.raises(ts.NotFoundError, match=r"domain 'row .': the chip of rank . is not in 'column .'"):
            row.translate(1 - row.rank, column)
        with pytest.raises(ts.ArgumentError, match="outside of this rank's window"):
            row.put(column["x"], b"", 0)
        # The same list in both: two groups, each with its own messages.
        alone, other = row.split([row.rank]), column.split([column.rank])
        assert alone is not None and other is not None and alone is not other
        assert (alone.name, other.name) == (row.name, column.name)
        swapped, straight = row.split([1, 0]), column.split([0, 1])
        assert swapped is not None and straight is not None
        for _ in range(10):
            straight.barrier()
            swapped.all_reduce("y")
            row.put(("x", 1), column["x"][:1], 1 - row.rank)
            row.barrier()
            column.barrier()
        assert row["x"][1] == 10 * ((task.chip ^ 1) % 2 + 2)
        row.abort(-5)
        column.barrier()  # is not aborted
        assert row.status()[0] == "peer" and column.status()[0] == "ok"

    handle = team.worker.register(use)
    buffers = [ts.CommBufferSpec("x", "int32", 4), ts.CommBufferSpec("y", "int32", 4)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        rows = [orch.allocate_domain(f"row {k}", [2 * k, 2 * k + 1], 4096, buffers) for k in range(2)]
        columns = [orch.allocate_domain(f"column {k}", [k, k + 2], 4096, buffers) for k in range(2)]
        each = [ts.each([rows[chip // 2] for chip in range(4)]), ts.each([columns[chip % 2] for chip in range(4)])]
        orch.submit_group(handle, *each, chips=range(4))

    team.worker.run(orchestrate)
    team.worker.unregister(handle)

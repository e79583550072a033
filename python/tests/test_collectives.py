# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Collectives against a plain reference in NumPy, operations that are functions, sub-groups, every kind of misuse."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Team, check_refusals, open_team

Repeat = Callable[[int], int]

INTEGERS = "uint8 int8 uint16 int16 uint32 int32 uint64 int64".split()
FLOATS = "float16 bfloat16 float32 float64".split()
OPERATIONS = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
REDUCTIONS = ["reduce", "all_reduce", "scan", "exscan", "reduce_scatter"]
MOVES = ["broadcast", "all_gather", "gather", "scatter", "all_to_all"]
PARTS_IN = ["scatter", "all_to_all", "reduce_scatter"]  # src has a part for each rank
PARTS_OUT = ["all_gather", "gather", "all_to_all"]  # dst has a part of each rank
ROOTED = ["broadcast", "gather", "scatter", "reduce"]
SIZES = [1, 5, 33, 1000, 20000]  # elements: in a message, staged, lent, and by shares

BYTES = 4 * max(SIZES) * 8
BUFFERS = {"x": ("uint8", BYTES), "y": ("uint8", BYTES), "hx": ("bfloat16", BYTES // 8), "hy": ("bfloat16", BYTES // 8)}
WINDOW = 3 * BYTES


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    yield from open_team()


# ---- the reference ----


def pairs_of_type_and_operation() -> Iterator[tuple[str, str]]:
    yield from itertools.product(INTEGERS, OPERATIONS)
    yield from itertools.product(FLOATS, ("sum", "prod", "min", "max"))
    yield from itertools.product(["bool"], ("min", "max", "and", "or", "xor"))


def values(dtype: str, count: int, rank: int, salt: int) -> Any:
    """What a rank has: the same in every process."""
    rng = np.random.default_rng([rank, salt])
    if dtype == "bool":
        return rng.integers(0, 2, count).astype(bool)
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, count, dtype, endpoint=True)
    numbers = 4 * rng.standard_normal(count)
    return narrow(numbers.astype(np.float32)) if dtype == "bfloat16" else numbers.astype(dtype)


def narrow(numbers: Any) -> Any:
    """float32 to the bits of a bfloat16, to nearest even."""
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widen(numbers: Any, dtype: str) -> Any:
    if dtype == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32) if dtype == "float16" else numbers


def combine(sources: Sequence[Any], dtype: str, op: str) -> Any:
    """((r0 op r1) op r2) ...; 16 bits of float are rounded once, at the end."""
    total = widen(sources[0], dtype)
    for source in sources[1:]:
        total = OPERATIONS[op](total, widen(source, dtype))
    if dtype == "bfloat16":
        return narrow(total)
    return total.astype(dtype)


def expect(call: str, sources: Sequence[Any], rank: int, root: int, dtype: str, op: str) -> Any:
    """What dst of the rank is, None where it is not written."""

    def part(whole: Any) -> Any:
        return np.split(whole, len(sources))[rank]

    if call == "broadcast":
        return sources[root]
    if call == "scatter":
        return part(sources[root])
    if call == "all_to_all":
        return np.concatenate([part(source) for source in sources])
    if call in ("all_gather", "gather"):
        return np.concatenate(sources) if call == "all_gather" or rank == root else None
    if call == "reduce":
        return combine(sources, dtype, op) if rank == root else None
    if call == "scan":
        return combine(sources[: rank + 1], dtype, op)
    if call == "exscan":
        return combine(sources[:rank], dtype, op) if rank > 0 else None
    return part(combine(sources, dtype, op)) if call == "reduce_scatter" else combine(sources, dtype, op)


# ---- one call ----

Case = tuple[str, str, str, int, bool, int]  # call, dtype, op, count, in place, root


def region(tp: ts.Domain, name: str, dtype: str, count: int) -> Any:
    """The begin of a buffer as an array of that type."""
    return tp["h" + name][:count] if dtype == "bfloat16" else tp[name].view(dtype)[:count]


def check(tp: ts.Domain, case: Case, salt: int) -> None:
    """No barrier around the call: on return src may be written, and dst is written by nobody before its rank calls."""
    call, dtype, op, count, in_place, root = case
    n = tp.size
    root %= n
    length = count * n if call in PARTS_IN else count
    sources = [values(dtype, length, rank, salt) for rank in range(n)]
    mine, want = sources[tp.rank], expect(call, sources, tp.rank, root, dtype, op)
    own = slice(tp.rank * count, (tp.rank + 1) * count)
    dst = region(tp, "x", dtype, count * n if call in PARTS_OUT or (in_place and call in PARTS_IN) else count)
    dst.view(np.uint8)[:] = 0xA5
    before = dst.copy()
    if not in_place:
        src = region(tp, "y", dtype, length)
        src[:] = mine
    elif call in ("all_gather", "gather"):
        src, dst[own] = None, mine
    else:
        src, dst[:] = None, mine
    options: dict[str, Any] = {"root": root} if call in ROOTED else {}
    if call in REDUCTIONS:
        options["op"] = op
    getattr(tp, call)(dst, src, **options)
    got = dst[own] if in_place and call in ("scatter", "reduce_scatter") else dst
    if want is None:
        want = before if not in_place else mine if call not in PARTS_OUT else got
    assert got.tobytes() == want.astype(got.dtype).tobytes(), f"{case} on rank {tp.rank} of {n}: {got} is not {want}"
    assert src is None or src.tobytes() == mine.tobytes(), f"{case}: src has changed"


def check_all(task: ts.Task, tp: ts.Domain, cases: Sequence[Case]) -> None:
    for salt, case in enumerate(cases):
        check(tp, case, salt)


def check_in_groups(task: ts.Task, tp: ts.Domain, cases: Sequence[Case]) -> None:
    pair = tp.split([tp.rank % 2 + 2, tp.rank % 2])
    tail = tp.split([3, 1, 2])
    assert pair is not None
    for salt, case in enumerate(cases):
        check(pair, case, salt)
        if tail is not None:
            check(tail, case, salt)
        check(tp, case, salt)


def cases_of(calls: Sequence[str]) -> list[Case]:
    """Every pair of type and operation with every call, sizes and places in turn; then sizes and places in full."""
    found: list[Case] = []
    for call, (dtype, op) in itertools.product(calls, pairs_of_type_and_operation()):
        k = len(found)
        found.append((call, dtype, op, SIZES[k % 4], k // 4 % 2 == 1, k))
    for call, count, in_place, dtype in itertools.product(calls, SIZES, (False, True), ("float32", "int16")):
        found.append((call, dtype, "sum", count, in_place, len(found)))
    return found


@pytest.mark.parametrize("call", MOVES + REDUCTIONS)
def test_collective_is_what_numpy_makes_of_it(team: Team, call: str, repeat: Repeat) -> None:
    cases = cases_of([call])
    if call in MOVES:
        cases = [case for case in cases if case[2] in ("sum", "or")]  # the operation is not used
    for ranks in (1, 2, 3, 4):
        some = cases[ranks % 3 :: max(1, 10 // repeat(10))]
        team.group(check_all, some, chips=range(ranks), buffers=BUFFERS, window=WINDOW)


def test_collectives_of_sub_groups_and_of_the_domain_do_not_mix(team: Team, repeat: Repeat) -> None:
    calls = MOVES + REDUCTIONS
    cases = [
        (call, "int32", "sum", count, k % 2 == 1, k) for k, (call, count) in enumerate(itertools.product(calls, SIZES))
    ]
    team.group(check_in_groups, cases[:: max(1, 10 // repeat(10))], buffers=BUFFERS, window=WINDOW)


# ---- with counts ----


def spread(counts: Sequence[int], rng: random.Random) -> list[int]:
    """Displacements: the parts in any order, with gaps."""
    order = list(range(len(counts)))
    rng.shuffle(order)
    displs, end = [0] * len(counts), 0
    for rank in order:
        end += rng.randrange(3)
        displs[rank] = end
        end += counts[rank]
    return displs


def check_v(task: ts.Task, tp: ts.Domain, rounds: int) -> None:
    n, me = tp.size, tp.rank
    for salt in range(rounds):
        rng = random.Random(salt)
        dtype = ("int32", "float64", "uint8")[salt % 3]
        counts = [rng.choice([0, 1, 7, 500]) for _ in range(n)]
        given = spread(counts, rng) if salt % 2 else None
        displs = given or [sum(counts[:rank]) for rank in range(n)]
        root, total, in_place = rng.randrange(n), 700 * n, salt % 4 >= 2
        parts = [slice(displs[rank], displs[rank] + counts[rank]) for rank in range(n)]
        sources = [values(dtype, total, rank, salt) for rank in range(n)]

        def region_of(name: str, fill: Any, dtype: str = dtype, total: int = total) -> Any:
            area = region(tp, name, dtype, total)
            area[:] = fill
            return area

        for call in (tp.all_gather_v, tp.gather_v):
            dst = region_of("x", 77)
            want = dst.copy()
            if in_place:
                dst[parts[me]] = want[parts[me]] = sources[me][: counts[me]]
            options = {"root": root} if call == tp.gather_v else {}
            if not options or me == root:
                for rank in range(n):
                    want[parts[rank]] = sources[rank][: counts[rank]]
            call(dst, dst if in_place else region_of("y", sources[me]), counts, given, **options)
            assert np.array_equal(dst, want), (salt, call)

        src = region_of("y", sources[me])
        dst = src if in_place else region_of("x", 77)
        tp.scatter_v(dst, src, counts=counts, displs=given, root=root)
        got = dst[parts[me]] if in_place else dst[: counts[me]]
        assert np.array_equal(got, sources[root][parts[me]]), salt
        assert in_place or (dst[counts[me] :] == 77).all()

        src = region_of("y", sources[me])
        dst = src if in_place else region_of("x", 77)
        tp.reduce_scatter_v(dst, src, counts, op="max")
        first = sum(counts[:me])
        got = dst[first : first + counts[me]] if in_place else dst[: counts[me]]
        assert np.array_equal(got, combine(sources, dtype, "max")[first : first + counts[me]]), salt

        sends = [[rng.choice([0, 1, 7, 150]) for _ in range(n)] for _ in range(n)]  # [from][to]
        receives = [sends[rank][me] for rank in range(n)]
        from_displs = [spread(sends[rank], random.Random(rank)) if salt % 2 else None for rank in range(n)]
        to_displs = spread(receives, rng) if salt % 3 else None
        dst, src = region_of("x", 77), region_of("y", sources[me])
        want = dst.copy()
        for rank in range(n):
            begin = (from_displs[rank] or [sum(sends[rank][:k]) for k in range(n)])[me]
            at = to_displs[rank] if to_displs else sum(receives[:rank])
            want[at : at + receives[rank]] = sources[rank][begin : begin + receives[rank]]
        tp.all_to_all_v(dst, src, receives, sends[me], to_displs, from_displs[me])
        assert np.array_equal(dst, want), salt


def test_collective_with_counts_is_what_numpy_makes_of_it(team: Team, repeat: Repeat) -> None:
    for ranks in (1, 2, 3, 4):
        team.group(check_v, repeat(60), chips=range(ranks), buffers=BUFFERS, window=WINDOW)


# ---- arguments ----


def test_type_and_count_come_from_the_places_unless_given(team: Team) -> None:
    def call(task: ts.Task, tp: ts.Domain) -> None:
        me, n = tp.rank, tp.size
        offset = tp["b"].__array_interface__["data"][0] - tp.buffer().__array_interface__["data"][0]

        def reset() -> None:
            tp.sync()
            tp["a"][:] = me + 1
            tp["b"][:] = -1
            tp.sync()

        for dst, src, count, result in (
            ("b", "a", None, 8),
            ("b", "a", 3, 3),
            ("b", ("a", 2), None, 6),
            (("b", 0, 8), ("a", 0, 5), None, 5),
            (tp["b"], "a", 8, 8),
            (tp["b"][:5], tp["a"][3:], None, 5),
            (offset, "a", None, 8),
            ("b", "a", 0, 0),
        ):
            reset()
            tp.all_reduce(dst, src, count=count)
            assert tp["b"].tolist() == [10] * result + [-1] * (32 - result), (dst, src, count)
        reset()
        tp.all_reduce(src="a", dst=None)  # type: ignore[arg-type]
        assert tp["a"].tolist() == [10] * 8
        reset()
        tp.all_reduce("a", None, "sum", 4)
        assert tp["a"].tolist() == [10] * 4 + [me + 1] * 4
        reset()
        tp.broadcast("a", None, 2, 4)
        assert tp["a"].tolist() == [3] * 4 + [me + 1] * 4
        reset()
        tp.all_gather("b", "a", 2)
        assert tp["b"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4] + [-1] * 24
        reset()
        tp["b"][:] = np.arange(32)
        tp.sync()
        tp.scatter("a", "b", root=1, count=2)
        assert tp["a"].tolist() == [2 * me, 2 * me + 1] + [me + 1] * 6
        reset()
        tp.all_to_all("b", "b", count=2)
        assert n == 4 and tp["b"].tolist() == [-1] * 32
        reset()
        tp.barrier()

    team.group(call)


def test_what_does_not_fit_is_refused_before_anything_is_sent(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        four = [1, 2, 3, 4]
        check_refusals(
            (
                lambda: tp.all_gather("a", "a2"),
                ts.ArgumentError,
                "all_gather: dst 'a' has 8 elements, 8 for each of 4 ranks are needed",
            ),
            (lambda: tp.broadcast("a", "b"), ts.ArgumentError, "broadcast: dst 'a' has 8 elements, 32 are needed"),
            (lambda: tp.reduce("b", "a", count=9), ts.ArgumentError, "reduce: src 'a' has 8 elements, 9 are needed"),
            (
                lambda: tp.scatter("a", "a2"),
                ts.ArgumentError,
                "scatter: src 'a2' has 8 elements, 8 for each of 4 ranks are needed",
            ),
            (
                lambda: tp.all_to_all("a", ("b", 0, 7)),
                ts.ArgumentError,
                "all_to_all: the 7 elements of src 'b' are not for 4 ranks",
            ),
            (
                lambda: tp.all_gather(("b", 0, 7), None),
                ts.ArgumentError,
                "the 7 elements of dst 'b' are not for 4 ranks",
            ),
            (lambda: tp.all_reduce("a", count=2**62), ts.ArgumentError, "8 elements, 4611686018427387904 are needed"),
            (lambda: tp.all_gather("b", "a", 2**62), ts.ArgumentError, "for each of 4 ranks are needed"),
            (lambda: tp.all_reduce("a", "k"), TypeError, "all_reduce: dst 'a' is float32, src 'k' is int32"),
            (lambda: tp.all_reduce(0, 64), TypeError, "all_reduce: offsets alone have no type"),
            (
                lambda: tp.all_reduce("a", 0),
                TypeError,
                "all_reduce: count must be given: src at offset 0 has no length",
            ),
            (lambda: tp.all_reduce("a", op="avg"), ValueError, "op is 'avg': 'sum', 'prod', 'min', 'max', 'and', 'or'"),
            (lambda: tp.scan("a", op=3), ValueError, "op is 3"),
            (lambda: tp.reduce("a", op=None), ValueError, "op is None"),
            (lambda: tp.all_reduce("a", count=-1), ValueError, "count is -1"),
            (lambda: tp.all_reduce("a", count=1.0), TypeError, "count must be an int"),  # type: ignore[arg-type]
            (lambda: tp.broadcast("a", root=4), ts.ArgumentError, "root is 4: there are 4 ranks"),
            (lambda: tp.gather("b", "a", -1), ts.ArgumentError, "root is -1"),
            (lambda: tp.broadcast(None), TypeError, "broadcast: dst and src are None"),
            (lambda: tp.all_gather(None, None), TypeError, "all_gather: dst and src are None"),
            (lambda: tp.all_gather_v("b", "a", [1, 2, 3]), ts.ArgumentError, "counts has 3 numbers, there are 4 ranks"),
            (lambda: tp.scatter_v("a", "b", four, [0]), ts.ArgumentError, "displs has 1 numbers, there are 4 ranks"),
            (lambda: tp.all_gather_v("a", "b", [10] * 4), ts.ArgumentError, "dst 'a' has 8 elements, 40 are needed"),
            (lambda: tp.gather_v("b", "a", [0, 0, 0, 1], [0, 0, 0, 32]), ts.ArgumentError, "33 are needed"),
            (lambda: tp.gather_v("b", "a", four, [0, 0, 0, 2**63 - 1]), ts.ArgumentError, "are needed"),
            (lambda: tp.all_gather_v("b", "a", [1, -1, 3, 4]), ValueError, "counts[1] is -1"),
            (lambda: tp.all_gather_v("b", "a", None), TypeError, "all_gather_v: counts is None"),  # type: ignore[arg-type]
            (lambda: tp.reduce_scatter_v("a", "b", "1234"), TypeError, "counts must be a sequence of ints"),  # type: ignore[arg-type]
            (lambda: tp.all_to_all_v("b", "b", four, None), TypeError, "dst_counts or src_counts is None"),  # type: ignore[arg-type]
            (
                lambda: tp.all_to_all_v("b", "a", four, [9] * 4),
                ts.ArgumentError,
                "src 'a' has 8 elements, 36 are needed",
            ),
            (lambda: tp.all_reduce(("b", 0, 8), ("b", 4, 8)), ts.ArgumentError, "overlap"),
            (lambda: tp.broadcast("a", np.zeros(8, np.float32)), ts.ArgumentError, "src is an array outside"),
        )
        check_refusals(
            (lambda: tp.all_reduce("a", op="or"), ts.UnsupportedError, "all_reduce"),
            (lambda: tp.scan("flags", op="sum"), ts.UnsupportedError, "scan"),
        )
        assert "scan" in tp.text and not tp["a"].any()
        tp.barrier()

    buffers = {"a": ("float32", 8), "a2": ("float32", 8), "b": ("float32", 32), "k": ("int32", 8), "flags": ("bool", 8)}
    team.group(refuse, buffers=buffers)


# ---- operations that are functions ----


def test_function_is_an_operation_that_stores_or_returns(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        me, calls = tp.rank, []

        def later(into: Any, other: Any) -> None:
            assert into.flags.writeable and not other.flags.writeable and into.shape == other.shape
            assert into.dtype == other.dtype == np.float32
            calls.append(len(into))
            into[:] = other

        def first(into: Any, other: Any) -> Any:
            return into

        operations: list[tuple[Any, float]] = [
            (later, 4),
            (first, 1),
            (np.multiply, 24),
            (lambda into, other: np.maximum(into, other, out=into), 4),
            (lambda into, other: [v + 10 * w for v, w in zip(into, other)], 91),
            (lambda into, other: 5, 5),
        ]
        for op, result in operations:
            for name in ("a", "large"):
                tp[name][:] = me + 1
                tp.all_reduce(name, op=op)
                assert (tp[name] == result).all(), (op, name)
        assert calls
        # The others, in the order of ranks.
        for call, result in ((tp.scan, me + 1), (tp.exscan, max(me, 1)), (tp.reduce, 4 if me == 0 else me + 1)):
            tp["a"][:] = me + 1
            call("a", op=later)
            assert (tp["a"] == result).all()
        tp["large"][:] = me + 1
        tp.reduce_scatter("a", ("large", 0, 32), op=later)
        assert (tp["a"] == 4).all()
        tp.reduce_scatter_v("a", ("large", 0, 8), [1, 2, 3, 2], op=first)
        assert (tp["a"][: [1, 2, 3, 2][me]] == 1).all()

    team.group(member, buffers={"a": ("float32", 8), "large": ("float32", 30000)}, window=1 << 18)


def test_function_sees_the_type_of_the_place(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        for name in ("h", "k", "q"):

            def op(into: Any, other: Any, dtype: Any = tp[name].dtype) -> Any:
                assert into.dtype == other.dtype == dtype
                return np.maximum(into, other)

            tp[name][:] = tp.rank + 1
            tp.all_reduce(name, op=op)
            assert (tp[name] == 2).all()

    team.group(member, chips=[0, 1], buffers={"h": ("bfloat16", 4), "k": ("int8", 4), "q": ("uint64", 4)})


def test_what_a_function_raises_first_comes_out_of_the_collective(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        for name in ("a", "large"):
            calls: list[int] = []

            def bad(into: Any, other: Any, calls: list[int] = calls) -> None:
                calls.append(len(into))
                raise KeyError("call", len(calls))

            def misshapen(into: Any, other: Any) -> Any:
                return np.zeros(len(into) + 1)

            with pytest.raises(KeyError) as caught:
                tp.all_reduce(name, op=bad)
            assert caught.value.args == ("call", 1) and caught.traceback[-1].name == "bad"
            assert len(calls) == 1
            with pytest.raises(ValueError, match="broadcast"):
                tp.all_reduce(name, op=misshapen)
            tp.all_reduce(name)  # the ranks still agree

    team.group(member, chips=[0, 1, 2], buffers={"a": ("float32", 8), "large": ("float32", 30000)}, window=1 << 18)


def test_task_has_so_many_functions_as_operations_and_each_counts_once(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        def same(into: Any, other: Any) -> None:
            pass

        for _ in range(40):
            tp.all_reduce("a", op=same)
        functions = [lambda into, other: None for _ in range(16)]
        for function in functions[:15]:
            tp.all_reduce("a", op=function)
        with pytest.raises(ts.MemoryLimitError, match="more than 16 functions as operations in one task"):
            tp.all_reduce("a", op=functions[15])
        tp.all_reduce("a", op=same)

    for _ in range(2):  # the next task begins anew
        team.group(member, chips=[0, 1])


# ---- ranks that disagree ----


DISAGREEMENTS: dict[str, tuple[Callable[[ts.Domain], Any], Callable[[ts.Domain], Any], str]] = {
    "count": (
        lambda tp: tp.all_reduce("a", count=4),
        lambda tp: tp.all_reduce("a", count=5),
        "all_reduce(count 4, f32, sum), rank 1 calls all_reduce(count 5, f32, sum)",
    ),
    "operation": (
        lambda tp: tp.all_reduce("a", op="min"),
        lambda tp: tp.all_reduce("a", op="max"),
        "all_reduce(count 8, f32, min), rank 1 calls all_reduce(count 8, f32, max)",
    ),
    "type": (
        lambda tp: tp.all_reduce("a"),
        lambda tp: tp.all_reduce(tp["a"].view(np.int32)),
        "all_reduce(count 8, f32, sum), rank 1 calls all_reduce(count 8, i32, sum)",
    ),
    "call": (
        lambda tp: tp.barrier(),
        lambda tp: tp.all_gather("b", "a"),
        "barrier, rank 1 calls all_gather(count 8, f32)",
    ),
    "place": (lambda tp: tp.all_reduce("a"), lambda tp: tp.all_reduce(("b", 0, 8)), "all_reduce(count 8, f32, sum"),
    "root": (
        lambda tp: tp.broadcast("a", root=1),
        lambda tp: tp.broadcast("a", root=0),
        "each waits for the other",
    ),
    "group": (
        lambda tp: tp.barrier(),
        lambda tp: tp.split([1, 0]).barrier(),  # type: ignore[union-attr]
        "barrier",
    ),
    "large": (
        lambda tp: tp.all_reduce("large"),
        lambda tp: tp.all_reduce("large", count=29999),
        "all_reduce(count 30000, f32, sum), rank 1 calls all_reduce(count 29999, f32, sum)",
    ),
}


@pytest.mark.parametrize("what", DISAGREEMENTS)
def test_ranks_that_disagree_are_both_named(team: Team, what: str, repeat: Repeat) -> None:
    def member(task: ts.Task, tp: ts.Domain, seen: Any) -> None:
        try:
            DISAGREEMENTS[what][tp.rank](tp)  # type: ignore[operator]
        except ts.TransomError as error:
            seen[tp.rank] = {ts.ArgumentError: 1, ts.PeerError: 2, ts.AbortedError: 3}[type(error)]
            assert type(error) is not ts.ArgumentError or str(error) == tp.text
            raise
        raise AssertionError("nobody saw that the ranks disagree")

    seen = team.worker.buffer(2, "int32")
    for _ in range(repeat(20)):
        seen.numpy()[:] = 0
        with pytest.raises(ts.ArgumentError) as caught:
            team.group(
                member,
                ts.nodep(seen),
                chips=[0, 1],
                buffers={"a": ("float32", 8), "b": ("float32", 32), "large": ("float32", 30000)},
                window=1 << 18,
            )
        text = caught.value.args[0]
        assert text.startswith("domain 'tp': rank ") and all(f"rank {r} calls " in text for r in (0, 1))
        assert all(part in text for part in DISAGREEMENTS[what][2].split(", rank 1 calls "))
        assert 1 in seen.numpy() and 0 not in seen.numpy()


def test_of_more_ranks_the_two_that_disagree_are_named(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        tp.all_reduce("a", count=4 + (tp.rank == 3))

    for _ in range(5):
        with pytest.raises(ts.ArgumentError) as caught:
            team.group(member)
        assert "rank 3 calls all_reduce(count 5, f32, sum)" in str(caught.value)
        assert "calls all_reduce(count 4, f32, sum)" in str(caught.value)
    team.group(check_all, [("all_reduce", "int32", "sum", 5, False, 0)], buffers=BUFFERS, window=WINDOW)


# ---- a member that does not come ----


def test_collective_that_takes_longer_than_the_time_set_aborts_the_domain(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        if tp.rank > 0:
            with pytest.raises(ts.PeerError, match="rank 0 has aborted the domain"):
                tp.wait_until("s", "==", 1)
            assert tp.status()[:2] == ("peer", 0)
            return
        for seconds in (None, 1000):
            tp.set_timeout(seconds)
            tp.split([0]).all_reduce("a")  # type: ignore[union-attr]
        tp.set_timeout(timeout=0.01)
        with pytest.raises(ts.WaitTimeoutError) as caught:
            tp.all_gather("b", "a")
        assert str(caught.value) == "domain 'tp': all_gather: the given time is over"
        with pytest.raises(ts.PeerError):
            tp.barrier()

    team.group(member, chips=[0, 1, 2])


def test_time_set_by_one_task_is_not_that_of_the_next(team: Team) -> None:
    def first(task: ts.Task, tp: ts.Domain) -> None:
        tp.set_timeout(0)

    def second(task: ts.Task, tp: ts.Domain) -> None:
        tp.barrier()

    handles = [team.worker.register(f) for f in (first, second)]

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096)
        for handle in handles:
            orch.submit_group(handle, tp, chips=[0, 1])

    team.worker.run(orchestrate)


def test_time_that_is_none_is_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        check_refusals(
            (lambda: tp.set_timeout(-1), ValueError, "timeout is -1"),
            (lambda: tp.set_timeout(float("inf")), ValueError, "timeout is inf"),
            (lambda: tp.set_timeout("1"), TypeError, "timeout must be a number of seconds or None"),  # type: ignore[arg-type]
            (lambda: tp.set_timeout(True), TypeError, "timeout must be a number of seconds or None"),
        )

    team.group(refuse, chips=[0])


def test_deadlock_names_the_collective_and_whose_message_is_missing(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        if tp.rank != 1:
            tp.all_reduce("a")

    with pytest.raises(ts.DeadlockError) as caught:
        team.group(member, chips=[0, 1])
    assert "waits for all_reduce(count 8, f32, sum) of domain 'tp': a message of rank 1 (rank 0)" in str(caught.value)


def test_collective_ends_when_another_member_fails(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain, call: str) -> None:
        tp.sync()
        if tp.rank == 2:
            raise OSError(7, "the cause")
        with pytest.raises(ts.AbortedError, match=f"domain 'tp': {call}: the run has failed") as caught:
            getattr(tp, call)(*(["b", "a"] if call == "all_gather" else ["a"] if call == "all_reduce" else []))
        raise caught.value

    for call in ("barrier", "sync", "all_gather", "all_reduce"):
        with pytest.raises(OSError) as caught:
            team.group(member, call)
        assert caught.value.args == (7, "the cause")

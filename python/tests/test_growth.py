# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What is done very often costs nothing that stays: no memory here or in the chips, no descriptor, no reference."""

from __future__ import annotations

import gc
import pathlib
import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest
import transom as ts
from rig import add_one, check_works, descriptors

Factory = Callable[..., ts.Worker]
Repeat = Callable[[int], int]

PAGE = resource.getpagesize()
BYTES_MAX = 3 << 20  # what a warm process still adds by chance
ROUNDS_MAX = 4

pytestmark = pytest.mark.not_asan("its memory is never given back")


def resident(pid: int | str) -> int:
    """Bytes of a process that nobody else has: shared memory is counted by the library's own tests."""
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * PAGE


def count_all(w: ts.Worker | None) -> dict[str, int]:
    gc.collect()
    counts = {"blocks": sys.getallocatedblocks(), "descriptors": descriptors(), "program": resident("self")}
    if w is not None:
        counts |= {f"place {p}": resident(w.pid(p)) for p in range(w.chips + w.subs)}
        stats = w.stats()
        counts |= {name: stats[name] for name in ("heap_bytes", "domains_live", "runs_live", "ranges", "deaths")}
    return counts


def check_flat(w: ts.Worker | None, work: Callable[[int], Any], count: int) -> None:
    """Does it often enough to be warm, then `count` times, and looks what is more than before.

    What grows grows each time; so one round without growth is enough.
    """
    for i in range(max(20, count // 10)):
        work(i)
    before = count_all(w)
    allowed = {"blocks": max(100, count // 10), "program": BYTES_MAX}
    for _ in range(ROUNDS_MAX):
        for i in range(count):
            work(i)
        after = count_all(w)
        allowed |= {key: BYTES_MAX for key in after if key.startswith("place")}
        grown = {key: (before[key], after[key]) for key in after if after[key] - before[key] > allowed.get(key, 0)}
        if not grown:
            return
        before = after
    raise AssertionError(f"{count} times, and it has grown: {grown}")


@pytest.fixture
def w(worker: Factory) -> ts.Worker:
    return worker(2, 1, start_method="fork")


def test_runs(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    affine, x = w.register(f"{kernels}:affine"), w.buffer(4)
    references = sys.getrefcount(affine), sys.getrefcount(x), sys.getrefcount(w), sys.getrefcount(None)

    def orchestrate(orch: ts.Orchestrator, i: int, config: Any) -> object:
        orch.submit(affine, ts.inout(x), 1.0, 0.0, chip=i % 2)
        return x

    check_flat(w, lambda i: w.run(orchestrate, i, None), repeat(100_000))
    now = sys.getrefcount(affine), sys.getrefcount(x), sys.getrefcount(w), sys.getrefcount(None)
    assert now[:3] == references[:3] and abs(now[3] - references[3]) < 100


def test_tasks_with_all_kinds_of_arguments(w: ts.Worker, repeat: Repeat) -> None:
    x = w.buffer((2, 8))
    f = w.register(lambda task, *arguments: None)
    prepared = ts.TaskArgs()
    prepared.add_tensor(x[0])
    prepared.add_object({"key": [1, 2, 3]})
    references = sys.getrefcount(prepared), sys.getrefcount(f), sys.getrefcount(x)

    def orchestrate(orch: ts.Orchestrator, i: int, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 64)
        first = orch.submit(f, x.numpy()[0], 5, 1.5, True, None, "text", [1, {"a": 2}], tp, chip=0)
        orch.submit_group(f, ts.each([x[0], x[1]]), ts.each([1, "a"]), tp, chips=[0, 1], after=[first] * 20)
        orch.submit(f, ts.out(ts.empty(4)), chip=1)
        orch.submit_next_level(f, prepared, ts.CallConfig(limit=10), worker=1)
        orch.submit_sub(f, prepared, after=[first])
        for wrong in (
            lambda: orch.submit(f, object(), chip=7),
            lambda: orch.submit_group(f, lambda: 1, 5, chips=[0, 0]),
        ):
            try:
                wrong()
            except (ValueError, TypeError):
                pass

    check_flat(w, lambda i: w.run(orchestrate, i), repeat(2_000))
    assert (sys.getrefcount(prepared), sys.getrefcount(f), sys.getrefcount(x)) == references


def test_domains(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    spec, nothing = ts.CommBufferSpec("grad", "float32", 16), w.register(f"{kernels}:nothing")

    def orchestrate(orch: ts.Orchestrator, i: int, config: Any) -> None:
        for k in range(50):
            with orch.allocate_domain(f"tp{k % 3}", [0, 1] if k % 2 else [1, 0], 4096, [spec]) as tp:
                if k % 10 == 0:
                    orch.submit(nothing, tp, tp.tensor(1, "grad"), tp[0].buffers["grad"], chip=0)
                    assert tp[1].domain_rank == k % 2

    check_flat(w, lambda i: w.run(orchestrate, i), repeat(100_000) // 50)


def test_kept_domains(w: ts.Worker, repeat: Repeat) -> None:
    def work(i: int) -> None:
        tp = w.run(lambda orch, a, c: orch.allocate_domain("k", [0, 1], 256 << i % 4, keep=True))
        assert not tp.broken and tp[0].domain_size == 2
        tp.release()

    check_flat(w, work, repeat(5_000))


def test_buffers(w: ts.Worker, repeat: Repeat) -> None:
    f = w.register(add_one)

    def work(i: int) -> None:
        x = w.buffer((3, i % 50))
        views = [x.numpy(), memoryview(x), x[1:], x.__dlpack__(), x[::-1]]
        if i % 10 == 0:
            w.submit(lambda orch, a, c: orch.submit(f, ts.inout(x)))
        if i % 100 == 0:
            views.append(views)  # only the collector finds it

    check_flat(w, work, repeat(10_000))


def test_memory_of_chips(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    fill, got = w.register(f"{kernels}:fill"), bytearray(64)

    def orchestrate(orch: ts.Orchestrator, i: int, config: Any) -> None:
        address = orch.malloc(i % 2, 64 + i % 1000)
        with orch.scope():
            t = orch.alloc(16, chip=i % 2)
            orch.submit(fill, ts.out(t), 1.0)
            orch.copy_from(i % 2, got, t)
        orch.copy_to(i % 2, address, got)
        orch.free(i % 2, address)

    check_flat(w, lambda i: w.run(orchestrate, i), repeat(5_000))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_functions_of_python(worker: Factory, repeat: Repeat, method: str) -> None:
    w = worker(1, 1, start_method=method)
    ballast = bytes(10_000)

    def work(i: int) -> None:
        f = w.register(lambda task, ballast=ballast, i=i: None, f"function {i}")
        if i % 10 == 0:
            w.run(lambda orch, a, c: (orch.submit(f), orch.submit(f, chip=ts.SUB)))
        w.unregister(f)

    check_flat(w, work, repeat(1_000))


def test_symbols(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    def work(i: int) -> None:
        a, b = w.register(f"{kernels}:add", f"name {i}"), w.register(f"{kernels}:{('sum', 'fill')[i % 2]}")
        w.unregister(a)
        w.unregister(b)
        for wrong in (f"{kernels}:no_such", "/no/such:f"):
            with pytest.raises(LookupError):
                w.register(wrong)

    check_flat(w, work, repeat(500))


def test_handles(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    nothing = w.register(f"{kernels}:nothing")
    kept: list[Any] = [None] * 40

    def work(i: int) -> None:
        handle = w.submit(lambda orch, a, c: (orch.submit(nothing), [i])[1])
        if i % 3 == 0:
            handle.wait()
        elif i % 3 == 1:
            kept[i % 40] = handle
        assert i % 3 or handle.result() == [i]

    check_flat(w, work, repeat(10_000))


def test_failures(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    fail = w.register(f"{kernels}:fail")

    def trouble(task: ts.Task) -> None:
        raise ValueError("x" * 1000)

    raises = w.register(trouble)

    def bad(orch: ts.Orchestrator, i: int, config: Any) -> None:
        orch.allocate_domain("tp", [0, 1], 256, keep=i % 2 == 0)
        w.buffer(10)
        orch.submit((fail, raises)[i % 2], *([i] if i % 2 == 0 else []), chip=i % 3 // 2)
        if i % 5 == 0:
            raise KeyError(i)

    def work(i: int) -> None:
        with pytest.raises((ts.TaskError, ValueError, KeyError)):
            w.run(bad, i)
        if i % 2 == 0 and "tp" in w.live_domains:
            w.live_domains["tp"].release()

    check_flat(w, work, repeat(2_000))


def test_cancelled_runs(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    nothing = w.register(f"{kernels}:nothing")

    def work(i: int) -> None:
        handle = w.submit(lambda orch, a, c: [orch.submit(nothing, chip=k % 2) for k in range(20)])
        handle.cancel(5)
        assert handle.done and (handle.error is None or isinstance(handle.error, ts.CanceledError))

    check_flat(w, work, repeat(1_000))


def test_refusals(w: ts.Worker, repeat: Repeat) -> None:
    def work(i: int) -> None:
        for call in (
            lambda: w.buffer(-1),
            lambda: w.buffer((3, "x")),
            lambda: w.buffer(3, "x"),
            lambda: w.host_wait([]),
            lambda: ts.Tensor(0, (1,) * 9),
            lambda: ts.CommBufferSpec("a", "x"),
            lambda: ts.CallConfig(blocks=0),
            lambda: w.run(5),
            lambda: w.pid(99),
            lambda: ts.TaskArgs().add_scalar("x"),
            lambda: ts.TaskArgs().add_object(w),
            lambda: ts.Worker(chips=-1),
            lambda: ts.Worker(backend="no"),
        ):
            with pytest.raises((ValueError, TypeError, NotImplementedError)):
                call()

    check_flat(w, work, repeat(500))


def test_workers(repeat: Repeat, kernels: str) -> None:
    def work(i: int) -> None:
        with ts.Worker(2, 1, start_method="fork") as w:
            f, x = w.register(f"{kernels}:fill"), w.buffer(100)
            w.register(lambda task: None)
            w.submit(lambda orch, a, c: orch.submit(f, ts.out(x), 1.0))
        assert x.numpy()[0] == 1
        never_started = ts.Worker(3, start_method="fork")
        never_started.register(lambda task, w=w: None)

    check_flat(None, work, repeat(100))


def test_workers_that_were_not_closed(repeat: Repeat) -> None:
    def work(i: int) -> None:
        with pytest.warns(ResourceWarning, match="unclosed"):
            w = ts.Worker(1, start_method="fork").init()
            x = w.buffer(100)
            w.submit(lambda *a: None)
            del w, x
            gc.collect()

    check_flat(None, work, repeat(50))
    with ts.Worker(start_method="fork") as w:
        check_works(w)


def test_replaced_processes(w: ts.Worker, kernels: str, repeat: Repeat) -> None:
    die = w.register(f"{kernels}:die")
    places = [0, 1, ts.SUB]

    def work(i: int) -> None:
        with pytest.raises(ts.DiedError):
            w.run(lambda orch, a, c: orch.submit(die, 9, chip=places[i % 3]))

    check_flat(None, work, repeat(60))
    check_works(w)

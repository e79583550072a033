# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Memory of the chips and of the host: malloc, free, copies, scopes, exhaustion, and the life of buffers."""

from __future__ import annotations

import array
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Gate, add_one, check_works, until

Factory = Callable[..., ts.Worker]


# ---- malloc and free ----


def test_malloc_gives_memory_of_one_chip_until_free_over_runs(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2)
    affine, got = w.register(f"{kernels}:affine"), np.empty(8, np.float32)
    addresses: list[int] = []

    def begin(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        addresses.append(orch.malloc(1, 32))
        addresses.append(orch.malloc(ts.HOST, 32))
        orch.copy_to(1, addresses[0], np.full(8, 2, np.float32))
        orch.copy_to(ts.HOST, addresses[1], np.full(8, 3, np.float32), 32)

    def work(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.submit(affine, ts.inout(ts.Tensor(addresses[0], 8)), 2.0, 1.0, chip=1)
        orch.submit(affine, ts.inout(ts.Tensor(addresses[1], 8)), 2.0, 1.0, chip=0)

    def end(orch: ts.Orchestrator, args: Any, config: Any) -> list[Any]:
        results = []
        for chip, address in zip((1, ts.HOST), addresses):
            orch.copy_from(chip, got, address, 32)
            results.append(got.tolist())
            orch.free(chip, address)
        return results

    held = w.stats()["heap_bytes"]
    w.run(begin)
    assert w.stats()["heap_bytes"] == held + 64
    for _ in range(3):
        w.run(work)
    assert w.run(end) == [[23] * 8, [31] * 8]
    assert w.stats()["heap_bytes"] == held


def test_free_is_allowed_while_tasks_still_use_it(forked: Factory, kernels: str) -> None:
    w = forked(1, heap_size=1 << 20)
    gate, affine, total = Gate(w, kernels), w.register(f"{kernels}:affine"), w.register(f"{kernels}:sum")
    out = w.buffer(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch)
        addresses = []
        for i in range(4):  # three quarters of the heap each: they must follow one another
            address = orch.malloc(0, 3 << 18)
            addresses.append(address)
            t = ts.Tensor(address, 16)
            orch.submit(affine, ts.inout(t), 0.0, i + 1.0)
            orch.submit(total, t, ts.out(out[i : i + 1]))
            orch.free(0, address)
        assert len(set(addresses)) < 4
        gate.open()

    w.run(orchestrate)
    assert out.numpy().tolist() == [16, 32, 48, 64]


def test_free_of_what_is_not_there_is_refused(forked: Factory) -> None:
    w = forked(2)
    x = w.buffer(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        address = orch.malloc(0, 64)
        scoped = orch.alloc(4, chip=0)
        for chip, data, text in (
            (0, address + 8, "is inside the allocation that starts at"),
            (1, address, "is not in the memory of that chip"),
            (ts.HOST, address, "is not in host memory"),
            (0, 0, "is not in the memory of that chip"),
            (0, 4096, "is not in the memory of that chip"),
            (ts.HOST, x.data, "was not allocated by Orchestrator.malloc"),
            (0, scoped.data, "was not allocated by Orchestrator.malloc"),
        ):
            with pytest.raises(ValueError, match=text):
                orch.free(chip, data)
        orch.free(0, address)
        with pytest.raises(ValueError, match="freed"):
            orch.free(0, address)

    w.run(orchestrate)
    check_works(w)


def test_exhausted_heap_says_what_was_asked_held_and_free(forked: Factory, kernels: str) -> None:
    w = forked(2, heap_size=1 << 20, host_size=1 << 20)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.malloc(0, 1 << 19)
        for call, text in (
            (
                lambda: orch.malloc(0, 3 << 18),
                "786432 bytes asked of the heap of chip 0: 524288 are held, 524288 are free",
            ),
            (lambda: orch.alloc(1 << 18, chip=0), "1048576 bytes asked of the heap of chip 0: 524288 are held"),
            (lambda: orch.alloc((1 << 18, 2)), "2097152 bytes asked of host memory: 0 are held, 1048576 are free"),
            (lambda: orch.malloc(ts.HOST, 1 << 21), "2097152 bytes asked of host memory"),
            (lambda: w.buffer(1 << 19), "2097152 bytes asked of host memory"),
            (
                lambda: orch.submit(fill, ts.out(ts.empty(1 << 20)), 1.0, chip=1),
                "4194304 bytes asked of the heap of chip 1",
            ),
            (lambda: orch.malloc(0, 1 << 60), "1152921504606846976 bytes asked"),
        ):
            with pytest.raises(MemoryError, match=text) as caught:
                call()
            assert isinstance(caught.value, ts.MemoryLimitError)
            assert caught.value.code in ("TSM_ENOSPC", "TSM_ENOMEM")
        orch.malloc(0, 1 << 18)

    fill = w.register(f"{kernels}:fill")
    w.run(orchestrate)
    check_works(w)


# ---- copies ----


def test_copies_take_whatever_has_bytes(worker: Factory, start_method: str) -> None:
    w = worker(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        t = orch.alloc(4, "int16", chip=0)
        numbers = np.array([1, -2, 3, -4], np.int16)
        for src in (
            numbers,
            numbers.tobytes(),
            bytearray(numbers.tobytes()),
            memoryview(numbers.tobytes()),
            array.array("h", numbers.tolist()),
            numbers.reshape(2, 2),
            w_buffer(numbers),
            w_buffer(numbers).numpy(),
        ):
            orch.copy_to(0, t, bytes(8))
            orch.copy_to(0, t, src)
            for dst in (np.empty(4, np.int16), bytearray(8), memoryview(bytearray(8)), array.array("h", [0] * 4)):
                orch.copy_from(0, dst, t)
                assert bytes(dst) == numbers.tobytes()
            buffer = w.buffer(4, "int16")
            orch.copy_from(0, buffer, t)
            assert buffer.numpy().tolist() == numbers.tolist()
        half = np.empty(2, np.int16)
        orch.copy_from(0, half, t[1:3])
        assert half.tolist() == [-2, 3]
        orch.copy_from(0, half, t.data + 4, 4)
        assert half.tolist() == [3, -4]
        orch.copy_to(0, t.data + 2, half)  # as much as the source has
        orch.copy_from(0, half.ctypes.data, t.data, 4)  # addresses on both sides
        assert half.tolist() == [1, 3]
        orch.copy_to(0, t, numbers, size=2)
        orch.copy_to(0, t, b"", 0)
        orch.copy_from(dst=half, worker=0, src=t, size=4)
        assert half.tolist() == [1, 3]

    def w_buffer(values: Any) -> ts.Buffer:
        buffer = w.buffer(len(values), "int16")
        buffer.numpy()[:] = values
        return buffer

    w.run(orchestrate)


def test_source_may_be_changed_at_once_and_copies_follow_their_tasks(forked: Factory, kernels: str) -> None:
    w = forked(1)
    affine = w.register(f"{kernels}:affine")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        t, src, got = orch.alloc(8, chip=0), np.ones(8, np.float32), np.empty(8, np.float32)
        for i in range(50):
            src[:] = i
            orch.copy_to(0, t, src)
            src[:] = -1
            orch.submit(affine, ts.inout(t), 2.0, 1.0, chip=0)
            orch.copy_from(0, got, t)
            assert got.tolist() == [2 * i + 1] * 8

    w.run(orchestrate)


def test_copy_waits_for_exactly_the_tasks_on_its_bytes(forked: Factory, kernels: str) -> None:
    w = forked(1)
    gate = Gate(w, kernels)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        t, other, got = orch.alloc(8, chip=0), orch.alloc(8, chip=0), np.empty(4, np.float32)
        orch.copy_to(0, t, np.arange(8, dtype=np.float32))
        gate.submit(orch, ts.inout(t[:4]), ts.nodep(other))
        gate.wait_begun()
        orch.copy_from(0, got, t[4:])  # not held up
        assert got.tolist() == [4, 5, 6, 7]
        orch.copy_to(0, other, bytes(32))
        gate.open()
        orch.copy_from(0, got, t[:4])
        assert got.tolist() == [0, 1, 2, 3]

    w.run(orchestrate)


def test_copy_waits_for_the_tasks_on_the_programs_side_too(forked: Factory, kernels: str) -> None:
    w = forked(1)
    gate, affine = Gate(w, kernels), w.register(f"{kernels}:affine")
    x = w.buffer(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        t, got = orch.alloc(4, chip=0), np.empty(4, np.float32)
        gate.submit(orch, ts.inout(x))
        orch.submit(affine, ts.inout(x), 0.0, 3.0, chip=0)
        gate.open()
        orch.copy_to(0, t, x)  # behind the task that writes x
        orch.submit(affine, ts.inout(x), 0.0, 7.0, chip=0)
        orch.copy_from(0, x.numpy(), t)  # behind the task that writes x
        orch.copy_from(0, got, t)
        assert (got.tolist(), x.numpy().tolist()) == ([3] * 4, [3] * 4)

    w.run(orchestrate)


def test_copies_that_do_not_fit_are_refused_and_nothing_is_written(forked: Factory) -> None:
    w = forked(2)
    x = w.buffer(8)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        t, ones = orch.alloc(8, chip=0), np.ones(8, np.float32)
        got = np.empty(8, np.float32)
        orch.copy_to(0, t, np.full(8, 5, np.float32))
        wide = np.ones((8, 2), np.float32)
        tests: list[tuple[Callable[[], Any], type[Exception], str]] = [
            (lambda: orch.copy_to(0, t, ones[:4]), ValueError, "src has 16 bytes, dst 32: give the size"),
            (lambda: orch.copy_from(0, ones[:4], t), ValueError, "src has 32 bytes, dst 16: give the size"),
            (lambda: orch.copy_to(0, t, ones[:4], 20), ValueError, "size is 20, but src has 16 bytes"),
            (lambda: orch.copy_to(0, t[:2], ones, 20), ValueError, "size is 20, but dst has 8 bytes"),
            (lambda: orch.copy_to(0, t, ones, -1), ValueError, "size is -1"),
            (lambda: orch.copy_to(0, t, ones, 1.0), TypeError, "size must be an int"),
            (lambda: orch.copy_to(0, t, ones, True), TypeError, "size must be an int, not <class 'bool'>"),
            (lambda: orch.copy_to(0, t.data, x.data), TypeError, "size is needed where both sides are addresses"),
            (lambda: orch.copy_to(0, t.data + 16, ones), ValueError, "go beyond their allocation of 32 bytes"),
            (lambda: orch.copy_from(0, ones, t.data + 4), ValueError, "go beyond their allocation"),
            (lambda: orch.copy_to(1, t, ones), ValueError, "is memory of chip 0, not of chip 1"),
            (lambda: orch.copy_to(0, x, ones), ValueError, "is memory of the host.*not of chip 0"),
            (lambda: orch.copy_to(0, ones, ones), ValueError, "is not memory of this worker"),
            (lambda: orch.copy_to(2, t, ones), ValueError, "worker is 2"),
            (lambda: orch.copy_to(True, t, ones), TypeError, "worker must be an int"),
            (lambda: orch.copy_to("0", t, ones), TypeError, "worker must be an int"),
            (lambda: orch.copy_to(0, t[::2], ones[:4]), ValueError, "dst is not contiguous"),
            (lambda: orch.copy_from(0, ones[:4], t[::2]), ValueError, "src is not contiguous"),
            (lambda: orch.copy_to(0, t, wide[:, 0]), ValueError, "not C-contiguous"),
            (lambda: orch.copy_from(0, wide[:, 0], t), ValueError, "not C-contiguous"),
            (lambda: orch.copy_to(0, t, x.reshape(4, 2)[:, 0], 8), ValueError, "src is not contiguous"),
            (lambda: orch.copy_from(0, bytes(32), t), BufferError, "not writable"),
            (lambda: orch.copy_to(0, t, "text"), TypeError, "bytes-like"),
            (lambda: orch.copy_to(0, t, None), TypeError, "bytes-like"),
            (lambda: orch.copy_to(0, None, ones), TypeError, "bytes-like"),
            (lambda: orch.copy_to(0, ts.empty(8), ones), ValueError, "NULL|no memory"),
            (lambda: orch.copy_to(0, 0, ones), ValueError, "NULL"),
            (lambda: orch.copy_from(0, 0, t), ValueError, "NULL"),
            (lambda: orch.copy_to(0, 1 << 64, ones), ValueError, "dst is 18446744073709551616"),
            (lambda: orch.copy_to(0, True, ones), TypeError, "dst must be an int"),
        ]
        for call, error, text in tests:
            with pytest.raises(error, match=text):
                call()
        readonly = ones.view()
        readonly.flags.writeable = False
        with pytest.raises((ValueError, BufferError), match="(?i)read-only|not writable"):
            orch.copy_from(0, readonly, t)
        orch.copy_from(0, got, t)
        assert got.tolist() == [5] * 8 and ones.tolist() == [1] * 8

    w.run(orchestrate)
    check_works(w)


# ---- scopes ----


def test_memory_of_a_scope_is_free_when_it_ends(worker: Factory, start_method: str) -> None:
    w = worker(1, heap_size=1 << 20)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        held = w.stats()["heap_bytes"]
        outer = orch.alloc(1 << 16, chip=0)  # a quarter
        addresses = set()
        for _ in range(100):
            with orch.scope() as scope:
                assert scope is None
                t = orch.alloc((1 << 10, 1 << 7), chip=0)  # half
                addresses.add(t.data)
                with orch.scope():
                    orch.alloc(1 << 14, chip=0)
        assert len(addresses) == 1 and outer.data not in addresses
        assert w.stats()["heap_bytes"] == held + (1 << 18)
        with pytest.raises(ZeroDivisionError):
            with orch.scope():
                orch.alloc(1 << 17, chip=0)
                raise ZeroDivisionError
        assert w.stats()["heap_bytes"] == held + (1 << 18)

    w.run(orchestrate)
    assert w.stats()["heap_bytes"] == 0


def test_memory_of_a_scope_is_reused_behind_the_tasks_that_use_it(forked: Factory, kernels: str) -> None:
    w = forked(1, heap_size=1 << 20)
    gate, affine, total = Gate(w, kernels), w.register(f"{kernels}:affine"), w.register(f"{kernels}:sum")
    out = w.buffer(8)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch)
        for i in range(8):
            with orch.scope():
                t = orch.alloc(3 << 16, chip=0)
                orch.submit(affine, ts.inout(t[:16]), 0.0, float(i))
                orch.submit(total, t[:16], ts.out(out[i]))
        gate.open()

    w.run(orchestrate)
    assert out.numpy().tolist() == [16 * i for i in range(8)]


def test_scopes_nest_to_a_limit_and_end_with_the_function(forked: Factory) -> None:
    w = forked(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        scopes = [orch.scope() for _ in range(65)]
        with pytest.raises(ts.StateError, match="without"):
            scopes[0].__exit__(None, None, None)
        for scope in scopes[:64]:
            scope.__enter__()
            orch.alloc(16, chip=0)
        with pytest.raises(ts.MemoryLimitError, match="64"):
            scopes[64].__enter__()
        scopes[63].__exit__(None, None, None)

    for _ in range(2):
        w.run(orchestrate)
        assert w.stats()["heap_bytes"] == 0
    check_works(w)


def test_alloc_gives_a_tensor_of_the_host_or_of_a_chip(forked: Factory, kernels: str) -> None:
    w = forked(2, 1)
    f, out = w.register(add_one), np.empty(4, np.float32)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        host = orch.alloc((2, 2))
        assert (host.shape, host.dtype, host.data % 64, type(host)) == ((2, 2), "float32", 0, ts.Tensor)
        orch.copy_to(ts.HOST, host, bytes(16))
        for chip in (0, 1, ts.SUB):
            orch.submit(f, ts.inout(host), chip=chip)
        orch.copy_from(ts.HOST, out, host)
        empty, single = orch.alloc(0), orch.alloc((), np.float64, chip=1)
        assert (empty.nbytes, single.shape, single.nbytes) == (0, (), 8)

    w.run(orchestrate)
    assert out.tolist() == [3] * 4


# ---- buffers ----


def test_buffer_gives_its_memory_back_when_nothing_refers_to_it(worker: Factory, start_method: str) -> None:
    w = worker(1)
    held = w.stats()["heap_bytes"]
    x = w.buffer(1000)
    assert w.stats()["heap_bytes"] == held + 4000
    views: list[Any] = [x.numpy()[10:], memoryview(x), x[5], x.reshape(10, 100), np.from_dlpack(x)]
    del x
    while views:
        gc.collect()
        assert w.stats()["heap_bytes"] == held + 4000
        views.pop()
    gc.collect()
    assert w.stats()["heap_bytes"] == held


def test_buffer_that_is_dropped_while_tasks_use_it_stays_for_them(forked: Factory, kernels: str) -> None:
    w = forked(1, host_size=1 << 20)
    gate, fill, total = Gate(w, kernels), w.register(f"{kernels}:fill"), w.register(f"{kernels}:sum")
    out = w.buffer(3)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch)
        for i in range(3):
            x = w.buffer(1 << 14)
            orch.submit(fill, ts.out(x), i + 1.0)
            orch.submit(total, x, ts.out(out[i : i + 1]))
            del x
            gc.collect()
        gate.open()

    w.run(orchestrate)
    assert out.numpy().tolist() == [1 << 14, 2 << 14, 3 << 14]


def test_recycled_buffer_is_zero(forked: Factory) -> None:
    w = forked(1, host_size=1 << 20)
    f = w.register(add_one)
    for _ in range(20):
        x = w.buffer(100000)
        assert not x.numpy().any()
        w.submit(lambda orch, a, c, x=x: orch.submit(f, ts.inout(x)))
        x.numpy()[-1] = 3
        del x


def test_buffers_may_be_made_inside_a_function_and_in_flight(forked: Factory) -> None:
    w = forked(1)
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> ts.Buffer:
        x = w.buffer(3)
        orch.submit(f, ts.inout(x))
        return x

    handles = [w.submit(orchestrate) for _ in range(5)]
    buffers = [h.result() for h in handles]
    for h in handles:
        h.wait()
    assert [b.numpy().tolist() for b in buffers] == [[1, 1, 1]] * 5


def test_result_of_a_run_lives_as_long_as_its_handle(forked: Factory) -> None:
    w = forked(1)
    held = w.stats()["heap_bytes"]
    handle = w.submit(lambda orch, a, c: w.buffer(10))
    handle.wait()
    gc.collect()
    assert w.stats()["heap_bytes"] == held + 40
    del handle
    assert w.stats()["heap_bytes"] == held


def test_host_memory_that_is_exhausted_may_be_waited_for(forked: Factory) -> None:
    w = forked(1, host_size=1 << 20)
    buffers = [w.buffer(1 << 16) for _ in range(3)]
    with pytest.raises(MemoryError, match="262144|524288"):
        for _ in range(2):
            buffers.append(w.buffer(1 << 16))
    buffers.clear()
    gc.collect()
    assert w.buffer(3 << 16).nbytes == 3 << 18
    until(lambda: w.stats()["heap_bytes"] == 0)

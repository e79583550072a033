# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Communication domains as the program sees them: allocation, contexts, release, keep, and what is refused."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Gate, add_one, check_works, until

Factory = Callable[..., ts.Worker]
Spec = ts.CommBufferSpec
GRAD = Spec("grad", "float32", 8)
SIGNAL = Spec("signal", "uint64", 1)


# ---- contexts ----


def test_two_chips_get_ranks_contexts_and_buffers_inside_their_windows(worker: Factory, start_method: str) -> None:
    w = worker(2)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        with orch.allocate_domain(
            name="tp",
            workers=[0, 1],
            window_size=4096,
            buffers=[Spec(name="scratch", dtype="float32", count=256, nbytes=1024), SIGNAL],
        ) as tp:
            assert (tp.name, tp.workers, tp.size, len(tp), tp.keep, tp.broken) == ("tp", (0, 1), 2, 2, False, False)
            assert (0 in tp, 1 in tp, 2 in tp, "0" in tp) == (True, True, False, False)
            contexts = [tp[0], tp[1]]
            for rank, c in enumerate(contexts):
                assert (c.name, c.domain_rank, c.domain_size) == ("tp", rank, 2)
                assert c.device_ctx != 0 and c.local_window_base != 0 and c.actual_window_size >= 4096
                assert list(c.buffer_ptrs) == ["scratch", "signal"] == list(c.buffers)
                end = c.local_window_base + c.actual_window_size
                for name, size in (("scratch", 1024), ("signal", 8)):
                    assert c.local_window_base <= c.buffer_ptrs[name] <= end - size
                    assert c.buffer_ptrs[name] == c.buffers[name].data and c.buffer_ptrs[name] % 64 == 0
                assert (c.buffers["scratch"].shape, c.buffers["scratch"].dtype) == ((256,), "float32")
                assert (c.buffers["signal"].shape, c.buffers["signal"].dtype) == ((1,), "uint64")
            assert contexts[0].device_ctx != contexts[1].device_ctx
            assert contexts[0].local_window_base != contexts[1].local_window_base
            assert tp[0] is contexts[0] and tp.contexts == {0: contexts[0], 1: contexts[1]}
            assert contexts[0].actual_window_size == contexts[1].actual_window_size
            assert repr(tp) == f"<transom.CommDomainHandle 'tp' id {tp.allocation_id} on chips (0, 1), live>"
            assert repr(contexts[1]).startswith("<transom.ChipDomainContext 'tp' rank 1 of 2, window of ")
        assert tp.released and repr(tp).endswith(" on chips (0, 1), released>")

    w.run(orchestrate)


def test_ranks_follow_the_order_of_the_chips(forked: Factory) -> None:
    w = forked(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", (3, 0, 2), 64)
        assert tp.workers == (3, 0, 2)
        assert [tp[chip].domain_rank for chip in (3, 0, 2)] == [0, 1, 2]
        assert list(tp.contexts) == [3, 0, 2]
        assert orch.allocate_domain("np", np.array([1, 3]), np.int64(64)).workers == (1, 3)
        assert orch.allocate_domain("gen", (c for c in range(4)), 64).workers == (0, 1, 2, 3)

    w.run(orchestrate)


def test_disjoint_subsets_live_together(forked: Factory) -> None:
    w = forked(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        with orch.allocate_domain("even", [0, 2], 256) as even, orch.allocate_domain("odd", [1, 3], 256) as odd:
            assert w.live_domains == {"even": even, "odd": odd}
            assert [even[c].domain_rank for c in (0, 2)] == [odd[c].domain_rank for c in (1, 3)] == [0, 1]
            bases = {even[0].local_window_base, even[2].local_window_base}
            bases |= {odd[1].local_window_base, odd[3].local_window_base}
            assert len(bases) == 4
            for domain, chip in ((even, 1), (odd, 0), (even, 4), (odd, -1), (even, 1 << 40)):
                with pytest.raises(KeyError) as caught:
                    domain[chip]
                assert caught.value.args == (chip,)

    w.run(orchestrate)


def test_overlapping_subsets_give_a_shared_chip_two_windows_and_two_ranks(forked: Factory, kernels: str) -> None:
    w = forked(3)
    all_reduce, out = w.register(f"{kernels}:all_reduce"), w.buffer((2, 2, 8))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        left = orch.allocate_domain("left", [0, 1], 256, [GRAD])
        right = orch.allocate_domain("right", [1, 2], 256, [GRAD])
        assert (left[1].domain_rank, right[1].domain_rank) == (1, 0)
        a = (left[1].local_window_base, left[1].local_window_base + left[1].actual_window_size)
        b = (right[1].local_window_base, right[1].local_window_base + right[1].actual_window_size)
        assert a[1] <= b[0] or b[1] <= a[0]
        assert left[1].device_ctx != right[1].device_ctx
        for i, domain in enumerate((left, right)):
            rows = ts.each([ts.out(out[i, 0]), ts.out(out[i, 1])])
            orch.submit_group(all_reduce, domain, rows, chips=domain.workers)

    w.run(orchestrate)
    assert out.numpy().tolist() == [[[3] * 8] * 2] * 2


def test_chip_that_is_no_member_is_a_key_error_and_others_type_errors(forked: Factory) -> None:
    w = forked(3)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 2], 64, [GRAD])
        with pytest.raises(KeyError, match="1"):
            tp[1]
        for wrong in ("0", None, 0.0, True, slice(0, 1)):
            with pytest.raises(TypeError, match="chip must be an int"):
                tp[wrong]  # type: ignore[index]

    w.run(orchestrate)


def test_alignment_comes_on_top_of_the_window(forked: Factory) -> None:
    w = forked(1)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        specs = [Spec("a", nbytes=1), Spec("b", "float64", 1, align=4096), Spec("c", "int8", 3, align=1)]
        c = orch.allocate_domain("tp", [0], 12, specs)[0]
        assert c.actual_window_size >= 4096 + 8 + 3
        at = {name: address - c.local_window_base for name, address in c.buffer_ptrs.items()}
        assert (at["a"], c.buffer_ptrs["b"] % 4096) == (0, 0) and at["c"] == at["b"] + 8
        assert at["c"] + 3 <= c.actual_window_size
        b = specs[1]
        assert (b.name, b.dtype, b.count, b.nbytes, b.align) == ("b", "float64", 1, 0, 4096)

    w.run(orchestrate)


def test_any_number_of_domains_and_buffers_live_together(forked: Factory) -> None:
    w = forked(4)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        specs = [Spec(f"b{i}", nbytes=64) for i in range(100)]
        domains = [orch.allocate_domain(f"d{i}", [i % 4, (i + 1) % 4], 6400, specs) for i in range(100)]
        assert len(w.live_domains) == 100
        bases = {c.local_window_base for d in domains for c in d.contexts.values()}
        assert len(bases) == 200
        assert [len(d[d.workers[0]].buffers) for d in domains] == [100] * 100

    w.run(orchestrate)
    assert w.live_domains == {}


# ---- tensors of windows ----


def test_tensor_of_a_rank_is_whole_or_a_buffer_or_a_part(forked: Factory) -> None:
    w = forked(2)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [1, 0], 4096, [GRAD, SIGNAL])
        whole, grad = tp.tensor(0), tp.tensor(rank=1, buffer="grad")
        assert (whole.data, whole.nbytes, whole.dtype) == (tp[1].local_window_base, tp[1].actual_window_size, "uint8")
        assert (grad.data, grad.shape, grad.dtype) == (tp[0].buffer_ptrs["grad"], (8,), "float32")
        part = tp.tensor(1, "grad", 2, 3)
        assert (part.data, part.shape) == (grad.data + 8, (3,))
        assert tp.tensor(1, "grad", first=5).shape == (3,) and tp.tensor(1, "grad", 8).shape == (0,)
        assert tp.tensor(1, None, 64, 32).data == tp[0].local_window_base + 64
        assert type(grad) is ts.Tensor and grad[1:3].data == grad.data + 4
        for arguments, error, text in (
            ((2,), ValueError, "rank"),
            ((-1,), ValueError, "rank is -1"),
            ((True,), TypeError, "rank must be an int"),
            ((0, "other"), LookupError, "other"),
            ((0, 5), TypeError, "buffer must be a str"),
            ((0, "grad\0"), ValueError, "buffer has a null character"),
            ((0, "grad", 9), ValueError, "9"),
            ((0, "grad", -1), ValueError, "first is -1"),
            ((0, "grad", 0, 9), ValueError, "9"),
            ((0, "grad", 4, 5), ValueError, "5"),
            ((0, "grad", 0, -1), ValueError, "count is -1"),
            ((0, "grad", 2**63), ValueError, "first is 9223372036854775808"),
        ):
            with pytest.raises(error, match=text):
                tp.tensor(*arguments)  # type: ignore[arg-type]

    w.run(orchestrate)


def test_windows_order_tasks_like_other_memory(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(3, 1)
    gate, affine = Gate(w, kernels), w.register(f"{kernels}:affine")
    out = np.empty(8, np.float32)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096, [GRAD])
        t = tp.tensor(1, "grad")
        gate.submit(orch, ts.inout(tp.tensor(1)), chip=2)  # not even a member
        orch.submit(affine, ts.inout(t), 1.0, 4.0, chip=0)
        orch.submit(affine, ts.inout(tp[1].buffers["grad"]), 3.0, 0.0, chip=1)
        orch.submit(affine, ts.inout(ts.Tensor(tp[1].buffer_ptrs["grad"], 8)), 1.0, 1.0, chip=2)
        orch.submit(affine, ts.inout(t), -1.0, 0.0, chip=ts.SUB)
        gate.open()
        orch.copy_from(1, out, t)
        assert out.tolist() == [-13] * 8
        orch.copy_to(1, tp[1].buffer_ptrs["grad"], np.full(8, 2, np.float32))
        orch.submit(affine, ts.inout(t), 10.0, 0.0, chip=0)
        orch.copy_from(1, out, tp[1].buffer_ptrs["grad"], 32)

    w.run(orchestrate)
    assert out.tolist() == [20] * 8


# ---- release ----


def test_end_of_the_block_releases_and_the_memory_stays_while_a_task_is_held(
    worker: Factory, start_method: str, kernels: str
) -> None:
    w = worker(2)
    gate, read = Gate(w, kernels), w.register(f"{kernels}:device_read")
    out, mine = w.buffer(2), w.buffer(8)
    fill = w.register(f"{kernels}:fill")
    kept: list[ts.CommDomainHandle] = []

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        with orch.allocate_domain("tp", [0, 1], 4096, [GRAD]) as tp:
            kept.append(tp)
            c = tp[0]
            gate.submit(orch, chip=0)  # a slow one in front
            gate.submit(orch, chip=1)
            for rank in (0, 1):
                orch.submit(fill, ts.out(tp.tensor(rank, "grad")), rank + 5.0, chip=rank)
            # Behind both, with nothing but the addresses: the domain is no argument.
            offset = c.buffer_ptrs["grad"] - c.local_window_base
            after = [orch.submit(fill, ts.out(mine), 1.0, chip=1)]
            orch.submit(read, ts.out(out), c.device_ctx, offset, chip=0, after=after)
        assert (tp.released, tp.freed) == (True, False)
        assert "tp" not in w.live_domains
        gate.wait_begun(2)
        # Others come and go meanwhile, of the same shape.
        for i in range(20):
            with orch.allocate_domain(f"other {i}", [0, 1], 4096, [GRAD]) as other:
                assert other[0].local_window_base != c.local_window_base
        assert not tp.freed
        gate.open()

    w.run(orchestrate)
    assert out.numpy().tolist() == [5, 6]
    assert (kept[0].released, kept[0].freed) == (True, True)


def test_name_may_be_used_again_after_release_with_a_larger_id(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate = Gate(w, kernels)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        first = orch.allocate_domain("tp", [0, 1], 64)
        base = first[0].local_window_base
        gate.submit(orch, first, chip=0)
        with pytest.raises(ValueError, match=f"a domain named 'tp' is live \\(id {first.allocation_id}\\)") as caught:
            orch.allocate_domain("tp", [0], 64)
        assert isinstance(caught.value, ts.ArgumentError) and caught.value.code == "TSM_EEXIST"
        first.release()
        second = orch.allocate_domain("tp", [0, 1], 64)
        assert second.allocation_id > first.allocation_id and not first.freed
        assert second[0].local_window_base != base
        assert w.live_domains == {"tp": second}
        gate.open()

    w.run(orchestrate)
    ids: list[int] = []
    for chip in (0, 1, 0):
        w.run(lambda orch, chip, c: ids.append(orch.allocate_domain("tp", [chip], 64).allocation_id), chip)
    assert ids == sorted(set(ids))


def test_release_is_idempotent_and_ends_what_the_handle_can_do(forked: Factory, kernels: str) -> None:
    w = forked(2)
    nothing = w.register(f"{kernels}:nothing")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 64, [GRAD])
        context, tensor = tp[0], tp.tensor(0, "grad")
        prepared = ts.TaskArgs()
        prepared.add_domain(tp)
        tp.release()
        tp.release()
        orch.release_domain(tp)
        with pytest.raises(ts.StateError, match="has been released"):
            with tp:
                pass
        for use in (
            lambda: tp[0],
            lambda: tp.contexts,
            lambda: tp.tensor(0),
            lambda: orch.submit(nothing, tp),
            lambda: orch.submit_next_level(nothing, prepared),
            lambda: orch.submit_group(nothing, tp, chips=[0, 1]),
        ):
            with pytest.raises(ts.StateError, match="released") as caught:
                use()
            assert caught.value.code == "TSM_ESTALE" and isinstance(caught.value, RuntimeError)
        with pytest.raises(ts.StateError, match="tensor 0: .* in the window of a released domain"):
            orch.submit(nothing, tensor)
        assert (tp.workers, tp.size, tp.name, 0 in tp, len(tp)) == ((0, 1), 2, "tp", True, 2)
        assert context.buffer_ptrs["grad"] == tensor.data  # what it was
        until(lambda: tp.freed)

    w.run(orchestrate)


def test_domains_that_are_live_at_the_end_of_the_function_are_released(forked: Factory, kernels: str) -> None:
    w = forked(2)
    gate = Gate(w, kernels)
    kept: list[ts.CommDomainHandle] = []

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        kept.extend(orch.allocate_domain(name, [0, 1], 64) for name in "abc")
        gate.submit(orch, kept[1])

    handle = w.submit(orchestrate)
    assert [d.released for d in kept] == [True] * 3 and w.live_domains == {}
    gate.wait_begun()
    assert not kept[1].freed
    gate.open()
    handle.wait()
    until(lambda: all(d.freed for d in kept))
    for d in kept:
        d.release()


def test_exception_of_the_function_releases_what_is_live_and_comes_out_itself(forked: Factory) -> None:
    w = forked(2)
    kept: list[ts.CommDomainHandle] = []
    error = RuntimeError("boom")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        kept.append(orch.allocate_domain("a", [0, 1], 64))
        with orch.allocate_domain("b", [0, 1], 64) as b:
            kept.append(b)
            kept.append(orch.allocate_domain("c", [0], 64, keep=True))
            raise error

    with pytest.raises(RuntimeError) as caught:
        w.run(orchestrate)
    assert caught.value is error
    assert all(d.released and d.freed for d in kept) and w.live_domains == {}
    w.run(lambda orch, a, c: orch.allocate_domain("a", [0, 1], 64))
    check_works(w)


def test_failure_of_a_task_frees_the_domains_of_the_run(forked: Factory, kernels: str) -> None:
    w = forked(2)
    fail, kept = w.register(f"{kernels}:fail"), []

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        kept.append(orch.allocate_domain("tp", [0, 1], 1 << 16, [GRAD]))
        orch.submit(fail, kept[0], 3, chip=1)

    for _ in range(3):
        kept.clear()
        with pytest.raises(ts.TaskError, match="does not like 3"):
            w.run(orchestrate)
        assert kept[0].released
        until(lambda: kept[0].freed)
    check_works(w)
    until(lambda: w.stats()["domains_live"] == 0)


def test_handle_may_be_released_outside_its_run(forked: Factory) -> None:
    w = forked(2)
    kept: list[ts.CommDomainHandle] = []
    w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64, keep=True)))
    assert not kept[0].released
    kept[0].release()
    assert kept[0].released and kept[0].freed and w.live_domains == {}
    w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64)))
    kept[1].release()


def test_domain_of_another_run_or_worker_is_refused(forked: Factory, kernels: str) -> None:
    w, other = forked(2), forked(2)
    nothing, kept = w.register(f"{kernels}:nothing"), []
    other.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64, keep=True)))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        with pytest.raises((ValueError, ts.StateError)):
            orch.submit(nothing, kept[0])
        with pytest.raises(ValueError, match="not memory of this worker"):
            orch.submit(nothing, kept[0].tensor(0))

    w.run(orchestrate)
    assert not kept[0].released


# ---- keep ----


def test_kept_domain_lives_over_runs_until_it_is_released(worker: Factory, start_method: str, kernels: str) -> None:
    w = worker(2)
    affine, kept, out = w.register(f"{kernels}:affine"), [], np.empty(8, np.float32)
    w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [1, 0], 4096, [GRAD], keep=True)))
    k = kept[0]
    assert (k.keep, k.released, k.broken, w.live_domains) == (True, False, False, {"k": k})
    base = k[0].local_window_base
    for _ in range(5):
        w.run(lambda orch, a, c: orch.submit(affine, ts.inout(k.tensor(0, "grad")), 2.0, 1.0, k, chip=1))
        with pytest.raises(ValueError, match="'k' is live"):
            w.run(lambda orch, a, c: orch.allocate_domain("k", [0], 64))
        assert k[0].local_window_base == base
    w.run(lambda orch, a, c: orch.copy_from(1, out, k.tensor(0, "grad")))
    assert out.tolist() == [31] * 8
    w.run(lambda orch, a, c: orch.release_domain(k))
    assert k.released and w.live_domains == {}
    w.run(lambda *a: None)
    assert k.freed


def test_kept_domain_that_a_failed_run_touched_is_broken(forked: Factory, kernels: str) -> None:
    w = forked(2)
    nothing, fail, kept = w.register(f"{kernels}:nothing"), w.register(f"{kernels}:fail"), []

    def allocate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        kept[:] = [orch.allocate_domain(name, [0, 1], 64, [GRAD], keep=True) for name in ("touched", "untouched")]

    w.run(allocate)
    touched, untouched = kept
    with pytest.raises(ts.TaskError):
        w.run(lambda orch, a, c: (orch.submit(nothing, touched), orch.submit(fail, 1)))
    assert (touched.broken, untouched.broken, touched.released) == (True, False, False)
    for use in (
        lambda orch, a, c: orch.submit(nothing, touched),
        lambda orch, a, c: orch.submit(nothing, touched.tensor(0)),
    ):
        with pytest.raises(ts.TransomError, match="touched"):
            w.run(use)
    w.run(lambda orch, a, c: orch.submit(nothing, untouched))
    touched.release()
    assert touched.released and list(w.live_domains) == ["untouched"]
    w.run(lambda orch, a, c: orch.allocate_domain("touched", [0, 1], 64))
    untouched.release()


def test_kept_domain_with_a_replaced_member_is_broken(forked: Factory, kernels: str) -> None:
    w = forked(2)
    nothing, kept = w.register(f"{kernels}:nothing"), []
    w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64, keep=True)))
    pid = w.pid(1)
    os.kill(pid, signal.SIGKILL)
    until(lambda: w.pid(1) not in (0, pid))
    w.run(lambda *a: None)
    assert kept[0].broken
    with pytest.raises(ts.TransomError, match="'k'"):
        w.run(lambda orch, a, c: orch.submit(nothing, kept[0]))
    kept[0].release()
    check_works(w)


def test_kept_domain_ends_with_the_worker(forked: Factory) -> None:
    w = forked(2)
    kept: list[ts.CommDomainHandle] = []
    w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64, keep=True)))
    w.close()
    assert (kept[0].released, kept[0].freed, w.live_domains) == (True, True, {})


# ---- live domains and dropped handles ----


def test_live_domains_is_a_snapshot(forked: Factory) -> None:
    w = forked(2)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        a = orch.allocate_domain("a", [0], 64)
        before = w.live_domains
        before["x"] = a
        b = orch.allocate_domain("b", [1], 64)
        assert before == {"a": a, "x": a} and w.live_domains == {"a": a, "b": b}
        a.release()
        assert w.live_domains == {"b": b} and before["a"] is a

    w.run(orchestrate)


def test_dropping_handles_in_any_order_does_nothing(forked: Factory, kernels: str) -> None:
    w = forked(2)
    nothing = w.register(f"{kernels}:nothing")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        orch.allocate_domain("dropped", [0, 1], 64, [GRAD])
        gc.collect()
        assert not w.live_domains["dropped"].released
        context = orch.allocate_domain("context only", [0, 1], 64, [GRAD])[1]
        tensor = context.buffers["grad"]
        del context
        gc.collect()
        orch.submit(nothing, tensor, chip=1)
        handles = [orch.allocate_domain(f"d{i}", [0, 1], 64) for i in range(10)]
        for i in (3, 0, 9):
            handles[i].release()
        for i in (5, 0, 3, 1, 4, 0, 2, 1, 1, 0):
            del handles[i]
            gc.collect()
        assert len(w.live_domains) == 9

    for _ in range(3):
        w.run(orchestrate)
    assert w.live_domains == {}


def test_handle_outlives_its_worker(kernels: str) -> None:
    def make() -> tuple[ts.CommDomainHandle, ts.ChipDomainContext]:
        kept: list[Any] = []
        with ts.Worker(2, start_method="fork") as w:
            w.run(lambda orch, a, c: kept.append(orch.allocate_domain("k", [0, 1], 64, [GRAD], keep=True)))
            return kept[0], kept[0][1]

    handle, context = make()
    gc.collect()
    assert (handle.released, handle.freed, handle.name, context.domain_rank) == (True, True, "k", 1)
    handle.release()
    with pytest.raises(ts.StateError):
        handle[0]


# ---- what is promised of the memory ----


def test_signal_sent_first_of_all_after_allocation_is_never_lost(
    worker: Factory, start_method: str, kernels: str, repeat: Callable[[int], int]
) -> None:
    w = worker(2)
    ring = w.register(f"{kernels}:signal_ring")

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for _ in range(20):
            with orch.allocate_domain("tp", [0, 1], 1 << 16, [Spec("pad", nbytes=1 << 15), SIGNAL]) as tp:
                for chip in (0, 1):  # two tasks, which start when they like
                    orch.submit(ring, tp, chip=chip)

    for _ in range(repeat(100)):
        w.run(orchestrate)


def test_window_is_zero_whoever_had_it_before(forked: Factory, kernels: str) -> None:
    w = forked(2)
    fill, total = w.register(f"{kernels}:fill"), w.register(f"{kernels}:sum")
    out = w.buffer(40)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for i in range(40):
            with orch.allocate_domain("tp", [0, 1], 1 << 17, [Spec("x", "float32", 1 << 15)]) as tp:
                orch.submit(total, tp.tensor(1, "x"), ts.out(out[i : i + 1]), chip=1)
                orch.submit(fill, ts.out(tp.tensor(1, "x")), 1.0, chip=0)
            if i % 2:
                until(lambda: tp.freed)  # so that the next one gets its memory

    w.run(orchestrate)
    assert out.numpy().tolist() == [0] * 40
    assert w.stats()["leases_reused"] >= 10


def test_allocation_waits_at_the_budget_for_a_fence(forked: Factory, kernels: str) -> None:
    w = forked(1, lease_size=4 << 20)
    f = w.register(add_one)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        for _ in range(50):
            with orch.allocate_domain("tp", [0], 1 << 20, [GRAD]) as tp:
                orch.submit(f, ts.inout(tp.tensor(0, "grad")))
        held = [orch.allocate_domain(f"h{i}", [0], 1 << 20) for i in range(2)]
        with pytest.raises(MemoryError, match=r"\d+.*held|held.*\d+"):
            held.extend(orch.allocate_domain(f"h{i}", [0], 1 << 20) for i in range(2, 10))
        held.pop().release()
        orch.allocate_domain("again", [0], 1 << 20)

    w.run(orchestrate)
    check_works(w)


# ---- refusals ----


def test_allocation_outside_a_function_is_refused(forked: Factory) -> None:
    w = forked(2)
    kept: list[ts.Orchestrator] = []
    w.run(lambda orch, a, c: kept.append(orch))
    with pytest.raises(RuntimeError, match="only inside the orchestration function"):
        kept[0].allocate_domain("tp", [0, 1], 64)
    w.run(lambda *a: None)
    assert w.live_domains == {} and w.stats()["domains_live"] == 0


BAD_ALLOCATIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": ""}, ValueError, "name is empty"),
    ({"name": "x" * 64}, ValueError, "longer than 63 bytes"),
    ({"name": "é" * 32}, ValueError, "longer than 63 bytes"),
    ({"name": "a\0b"}, ValueError, "name has a null character"),
    ({"name": 5}, TypeError, "name must be a str"),
    ({"name": None}, TypeError, "name must be a str"),
    ({"workers": []}, ValueError, "workers is empty"),
    ({"workers": [0, 1, 0]}, ValueError, r"workers\[2\] names chip 0 again"),
    ({"workers": [0, -1]}, ValueError, r"workers\[1\] is -1; there are chips 0 to 2"),
    ({"workers": [3]}, ValueError, r"workers\[0\] is 3; there are chips 0 to 2"),
    ({"workers": [1 << 40]}, ValueError, r"workers\[0\] is 1099511627776"),
    ({"workers": [0, True]}, TypeError, r"workers\[1\] must be an int, not <class 'bool'>"),
    ({"workers": ["0"]}, TypeError, r"workers\[0\] must be an int, not <class 'str'>"),
    ({"workers": [0.0]}, TypeError, r"workers\[0\] must be an int"),
    ({"workers": "01"}, TypeError, "workers must be a sequence of ints"),
    ({"workers": 0}, TypeError, "workers must be a sequence of ints"),
    ({"window_size": 0}, ValueError, "window_size is 0"),
    ({"window_size": -64}, ValueError, "window_size is -64"),
    ({"window_size": 1 << 60}, ValueError, "window_size is 1152921504606846976"),
    ({"window_size": 1 << 70}, ValueError, "window_size is 1180591620717411303424"),
    ({"window_size": 64.0}, TypeError, "window_size must be an int, not <class 'float'>"),
    ({"window_size": True}, TypeError, "window_size must be an int, not <class 'bool'>"),
    ({"window_size": "64"}, TypeError, "window_size must be an int"),
    ({"buffers": [5]}, TypeError, r"buffers\[0\] must be a CommBufferSpec, not <class 'int'>"),
    ({"buffers": [GRAD, ("g", "f32", 1)]}, TypeError, r"buffers\[1\] must be a CommBufferSpec"),
    ({"buffers": GRAD}, TypeError, "buffers"),
    ({"buffers": 5}, TypeError, "buffers"),
    ({"buffers": [Spec("a", nbytes=8), GRAD, Spec("a", nbytes=4)]}, ValueError, "'a' is named twice"),
    ({"buffers": [Spec("a", "float32", count=4, nbytes=8)]}, ValueError, "'a' is 4 elements of 4 bytes, but .* is 8"),
    ({"buffers": [Spec("a")]}, ValueError, "'a' has no size"),
    ({"buffers": [Spec("", nbytes=8)]}, ValueError, "name of buffer 0"),
    ({"buffers": [GRAD, Spec("x" * 64, nbytes=8)]}, ValueError, "name of buffer 1"),
    ({"buffers": [Spec("a", nbytes=8, align=3)]}, ValueError, "align of buffer 'a' is 3"),
    ({"buffers": [Spec("a", nbytes=8, align=8192)]}, ValueError, "align of buffer 'a' is 8192"),
    ({"buffers": [Spec("a", nbytes=200), Spec("b", nbytes=57)]}, ValueError, "need 257 bytes, window_size is 256"),
    ({"buffers": [Spec("a", "float64", 1 << 45)]}, ValueError, "'a' is too large"),
    ({"keep": 1, "nonsense": 2}, TypeError, "unexpected keyword argument 'nonsense'"),
]


@pytest.mark.parametrize(("change", "error", "text"), BAD_ALLOCATIONS, ids=lambda value: str(value)[:40])
def test_refused_allocation_names_the_argument_and_allocates_nothing(
    three: ts.Worker, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    good: dict[str, Any] = {"name": "tp", "workers": [0, 1], "window_size": 256, "buffers": [GRAD]}

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        before = three.stats()
        with pytest.raises(error, match=text):
            orch.allocate_domain(**good | change)
        after = three.stats()
        for name in ("domains_live", "lease_bytes", "leases_fresh", "leases_reused", "mappings"):
            assert after[name] == before[name]
        assert three.live_domains == {}
        with orch.allocate_domain(**good) as tp:
            assert tp[1].domain_rank == 1

    three.run(orchestrate)


@pytest.fixture(scope="module")
def three() -> Any:
    with ts.Worker(3, start_method="fork") as w:
        yield w


def test_allocation_that_fails_inside_leaves_nothing(forked: Factory) -> None:
    os.environ["TRANSOM_FAULT"] = "domain:fail=12:1:-1"
    w = forked(2)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        with pytest.raises(MemoryError, match="'tp'"):
            orch.allocate_domain("tp", [0, 1], 64, [GRAD])
        assert w.live_domains == {} and w.stats()["domains_live"] == 0
        assert orch.allocate_domain("tp", [0, 1], 64, [GRAD])[0].domain_rank == 0

    w.run(orchestrate)


def test_non_member_that_is_stopped_has_no_effect(forked: Factory, kernels: str) -> None:
    w = forked(3)
    gate = Gate(w, kernels)
    all_reduce, out = w.register(f"{kernels}:all_reduce"), w.buffer((2, 8))

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        gate.submit(orch, chip=2)  # busy
        gate.wait_begun()
        with orch.allocate_domain("tp", [0, 1], 256, [GRAD]) as tp:
            orch.submit_group(all_reduce, tp, ts.each([ts.out(out[0]), ts.out(out[1])]), chips=[0, 1])
        w.host_wait(out)
        until(lambda: tp.freed)
        gate.open()

    w.run(orchestrate)
    assert out.numpy().tolist() == [[3] * 8] * 2

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Worker.run(progress=...): a bar on stderr, tqdm's or a line, and nothing when it is not asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import transom as ts
from rig import Gate, add_one, check_works, when

Factory = Callable[..., ts.Worker]


class Bar:
    """Stands in for tqdm."""

    made: list[Bar] = []

    def __init__(self, total: int | None, unit: str, file: Any) -> None:
        self.total, self.n, self.unit, self.file = total, 0, unit, file
        self.seen: list[int] = []
        self.closed = False
        Bar.made.append(self)

    def refresh(self) -> None:
        self.seen.append(self.n)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> type[Bar]:
    module = types.ModuleType("tqdm")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    Bar.made.clear()
    return Bar


def submit_five(orch: ts.Orchestrator, args: tuple[Gate, ts.Callable, ts.Buffer], config: Any) -> str:
    gate, f, x = args
    for _ in range(4):
        orch.submit(f, ts.inout(x))
    gate.submit(orch, ts.inout(x))
    return "result"


def test_progress_shows_a_bar_of_tqdm_on_stderr(forked: Factory, kernels: str, bar: type[Bar]) -> None:
    w = forked()
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)
    w.run(lambda orch, a, c: orch.submit(f, ts.inout(x)))  # is not counted
    with when(lambda: gate.begun and bar.made and 4 in bar.made[0].seen, gate.open):
        assert w.run(submit_five, (gate, f, x), progress=True) == "result"
    (made,) = bar.made
    assert (made.total, made.n, made.unit, made.closed) == (5, 5, "task", True)
    assert made.file is sys.stderr and made.seen == sorted(made.seen)
    gate.open()
    w.run(submit_five, (gate, f, x), progress=20)
    assert (bar.made[1].total, bar.made[1].n) == (20, 5)
    assert w.run(submit_five, (gate, f, x)) == "result" and w.run(submit_five, (gate, f, x), progress=False) == "result"
    assert w.run(submit_five, (gate, f, x), progress=0) == "result"
    assert len(bar.made) == 2


def test_progress_bar_is_closed_when_the_run_fails(forked: Factory, kernels: str, bar: type[Bar]) -> None:
    w = forked()
    fail = w.register(f"{kernels}:fail")
    with pytest.raises(ts.TaskError):
        w.run(lambda orch, a, c: orch.submit(fail, 1), progress=True)
    with pytest.raises(ZeroDivisionError):
        w.run(lambda orch, a, c: 1 // 0, progress=True)
    assert [made.closed for made in bar.made] == [True, True]
    check_works(w)


def test_exception_of_the_bar_ends_the_run_and_not_the_worker(forked: Factory, kernels: str, bar: type[Bar]) -> None:
    w = forked()
    spin = w.register(f"{kernels}:spin")

    def refresh(self: Bar) -> None:
        raise BrokenPipeError("nobody looks")

    bar.refresh, kept = refresh, bar.refresh  # type: ignore[method-assign]
    try:
        with pytest.raises(BrokenPipeError, match="nobody looks"):
            w.run(lambda orch, a, c: orch.submit(spin), progress=True)
    finally:
        bar.refresh = kept  # type: ignore[method-assign]
    check_works(w)


def test_progress_without_tqdm_is_a_line_on_stderr(
    forked: Factory, kernels: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    w = forked()
    gate, f, x = Gate(w, kernels), w.register(add_one), w.buffer(1)
    gate.open()
    w.run(submit_five, (gate, f, x), progress=True)
    w.run(submit_five, (gate, f, x), progress=10)
    w.run(submit_five, (gate, f, x))
    out, err = capsys.readouterr()
    lines = err.split("\n")
    assert out == "" and len(lines) == 3 and lines[2] == ""
    assert lines[0].split("\r")[-1] == "5/5 (100 %) tasks" and lines[1].split("\r")[-1] == "5/10 (50 %) tasks"


@pytest.mark.parametrize("progress", [-1, 1.5, "yes", [1]], ids=repr)
def test_progress_that_is_no_number_of_tasks_is_refused(forked: Factory, progress: Any) -> None:
    w = forked()
    with pytest.raises((ValueError, TypeError), match=f"progress is {re.escape(repr(progress))}"):
        w.run(lambda *a: None, progress=progress)
    check_works(w)


def test_real_tqdm_writes_to_stderr_only(program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    pytest.importorskip("tqdm")
    done = program(
        "import transom as ts\n"
        "with ts.Worker(start_method='fork') as w:\n"
        "    f = w.register(lambda task: None)\n"
        "    def orchestrate(orch, args, config):\n"
        "        for _ in range(7): orch.submit(f)\n"
        "    w.run(orchestrate)\n"
        "    print('quiet', flush=True)\n"
        "    w.run(orchestrate, progress=True)\n"
        "with ts.Worker(start_method='fork') as w:\n"  # tqdm has left no thread
        "    pass\n"
    )
    assert (done.stdout, done.returncode) == ("quiet\n", 0)
    assert "7/7" in done.stderr and "task" in done.stderr

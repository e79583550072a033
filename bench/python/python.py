#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What Transom costs from Python, beside the pools that Python programs use otherwise.

A figure is the median of rounds; in each round every contender runs once, so that they meet the same machine. Prints a
table and writes JSON lines, as the benchmarks of C do. `./dev bench python` runs it.

Arguments: --json prints the JSON lines instead of the table; --row leaves the head of the table out; --long takes more
rounds.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import transom as ts

TASKS = 20000  # of a pipelined batch
POOL_TASKS = 1000  # the same for a pool, which is slower
RUNS = 2000
CHAIN = 5000
DOMAINS = 5000
KERNELS = """
#include <transom/task.h>
int nop(tsm_task *t) { (void)t; return 0; }
"""


def nop(task: ts.Task | None = None) -> None:
    """A task of Python; also what the pools call."""


class Figures:
    """Rows of the table and JSON lines."""

    def __init__(self, arguments: list[str]) -> None:
        self.json = "--json" in arguments
        self.rows = not self.json
        self.path = pathlib.Path(os.environ.get("TRANSOM_BENCH_OUTPUT", tempfile.gettempdir())) / "python.jsonl"
        self.lines: list[str] = []
        if self.rows and "--row" not in arguments:
            print(
                f"{'figure':<28} {'with':<34} {'median':>9} {'p10':>9} {'p90':>9} {'unit':<7} "
                f"{'floor':>9} {'R':>6} {'target':<14} {'measured':>8} "
            )

    def add(self, name: str, params: str, values: list[float], target: float | None = None) -> None:
        """values in microseconds; target: the most that the median may be."""
        values = sorted(values)
        median = statistics.median(values)
        p10, p90 = values[len(values) // 10], values[-1 - len(values) // 10]
        ok = None if target is None else median <= target
        text = "" if target is None else f"<= {target:g} us"
        row = {"bench": "python", "name": name, "params": params, "value": median, "p10": p10, "p90": p90}
        row |= {"unit": "us", "target": text, "ok": ok, "batches": len(values)}
        row["date"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.lines.append(json.dumps(row))
        if self.rows:
            verdict = "" if ok is None else "ok" if ok else "MISSED"
            print(
                f"{name:<28} {params:<34} {median:>9.4g} {p10:>9.4g} {p90:>9.4g} {'us':<7} "
                f"{'-':>9} {'-':>6} {text:<14} {'':>8} {verdict}",
                flush=True,
            )

    def note(self, text: str) -> None:
        self.lines.append(json.dumps({"bench": "python", "note": text}))
        if self.rows:
            print(text, flush=True)

    def end(self) -> None:
        self.path.write_text("\n".join(self.lines) + "\n")
        if self.json:
            print("\n".join(self.lines))


def build_kernels(folder: str) -> str:
    source, target = f"{folder}/kernels.c", f"{folder}/kernels.so"
    pathlib.Path(source).write_text(KERNELS)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{ts.get_include()}", "-o", target, source], check=True)
    return target


def timed(function: Callable[[], Any], count: int) -> float:
    """Microseconds of one of `count` that the function does."""
    begin = time.perf_counter()
    function()
    return 1e6 * (time.perf_counter() - begin) / count


# ---- Transom ----


class Transom:
    """The contenders of Transom, each a function that returns microseconds."""

    def __init__(self, w: ts.Worker, kernels: str) -> None:
        self.w = w
        self.c, self.python = w.register(f"{kernels}:nop"), w.register(nop)
        self.x, self.y = w.buffer(16), w.buffer(16)
        self.empty, self.args = ts.TaskArgs(), ts.TaskArgs()
        self.args.add_tensor(self.x, ts.INPUT)
        self.args.add_tensor(self.y, ts.INPUT)
        self.args.add_scalar(1)
        self.specs = [ts.CommBufferSpec("scratch", "float32", 1024)]

    def independent(self, submit: Callable[[ts.Orchestrator], Any], tasks: int) -> float:
        def orchestrate(orch: ts.Orchestrator, args: None, config: None) -> None:
            for _ in range(tasks):
                submit(orch)

        return timed(lambda: self.w.run(orchestrate), tasks)

    def prepared(self) -> float:
        return self.independent(lambda o: o.submit_next_level(self.c, self.empty, worker=0), TASKS)

    def prepared_arguments(self) -> float:
        return self.independent(lambda o: o.submit_next_level(self.c, self.args, worker=0), TASKS)

    def submit(self) -> float:
        return self.independent(lambda o: o.submit(self.c, self.x, self.y, 1, chip=0), TASKS)

    def submit_two_chips(self) -> float:
        chips = [0]

        def one(orch: ts.Orchestrator) -> None:
            chips[0] ^= 1
            orch.submit(self.c, self.x, self.y, 1, chip=chips[0])

        return self.independent(one, TASKS)

    def python_tasks(self) -> float:
        return self.independent(lambda o: o.submit(self.python, chip=0), TASKS // 4)

    def chain(self) -> float:
        """Each task follows the one before it, on the other chip."""

        def orchestrate(orch: ts.Orchestrator, args: None, config: None) -> None:
            out = ts.inout(self.x)
            for i in range(CHAIN):
                orch.submit(self.c, out, chip=i % 2)

        return timed(lambda: self.w.run(orchestrate), CHAIN)

    def runs(self, callable: ts.Callable) -> float:
        def orchestrate(orch: ts.Orchestrator, args: None, config: None) -> None:
            orch.submit_next_level(callable, self.empty, worker=0)

        def all_runs() -> None:
            for _ in range(RUNS):
                self.w.run(orchestrate)

        return timed(all_runs, RUNS)

    def domains(self) -> float:
        def orchestrate(orch: ts.Orchestrator, args: None, config: None) -> None:
            for _ in range(DOMAINS):
                orch.allocate_domain("tp", (0, 1), 1 << 20, self.specs).release()

        return timed(lambda: self.w.run(orchestrate), DOMAINS)


# ---- the peers: started by spawn, too ----


def measure_ray(figures: Figures, rounds: int) -> None:
    try:
        import ray
    except ImportError:
        figures.note("Ray is not installed (pip install ray)")
        return
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)

    @ray.remote
    class Actor:
        def nop(self) -> None:
            pass

    actor = Actor.remote()
    ray.get(actor.nop.remote())
    many, one = [], []
    for _ in range(rounds):
        many.append(timed(lambda: ray.get([actor.nop.remote() for _ in range(POOL_TASKS)]), POOL_TASKS))
        one.append(timed(lambda: [ray.get(actor.nop.remote()) for _ in range(POOL_TASKS)], POOL_TASKS))
    ray.shutdown()
    figures.add("Ray actor", "tasks, pipelined", many)
    figures.add("Ray actor", "one task there and back", one)


def measure(figures: Figures, rounds: int, kernels: str) -> None:
    context = multiprocessing.get_context("spawn")
    samples: dict[tuple[str, str, float | None], list[float]] = {}

    def add(name: str, params: str, value: float, target: float | None = None) -> None:
        samples.setdefault((name, params, target), []).append(value)

    with (
        ts.Worker(chips=2) as w,
        context.Pool(1) as pool,
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor,
    ):
        t = Transom(w, kernels)
        pool.apply(nop)
        executor.submit(nop).result()
        for _ in range(rounds):
            add("Transom, prepared", "tasks of C, no arguments", t.prepared(), 1.5)
            add("Transom, prepared", "tasks of C, 2 tensors, 1 scalar", t.prepared_arguments(), 1.5)
            add("Transom, submit", "tasks of C, 2 tensors, 1 scalar", t.submit(), 4)
            add("Transom, submit", "the same, 2 chips by turns", t.submit_two_chips(), 4)
            add("Transom, submit", "tasks of Python", t.python_tasks())
            add("Transom, submit", "chain over 2 chips, tasks of C", t.chain(), 4)
            pool_many = timed(lambda: pool.map(nop, [None] * POOL_TASKS, chunksize=1), POOL_TASKS)
            add("multiprocessing.Pool", "tasks of Python, map", pool_many)
            futures_many = timed(
                lambda: concurrent.futures.wait([executor.submit(nop) for _ in range(POOL_TASKS)]), POOL_TASKS
            )
            add("ProcessPoolExecutor", "tasks of Python, submit", futures_many)
            add("Transom, run", "one task of C there and back", t.runs(t.c), 15)
            add("Transom, run", "one task of Python there and back", t.runs(t.python), 15)
            pool_one = timed(lambda: [pool.apply(nop) for _ in range(POOL_TASKS)], POOL_TASKS)
            add("multiprocessing.Pool", "one task there and back", pool_one)
            futures_one = timed(lambda: [executor.submit(nop).result() for _ in range(POOL_TASKS)], POOL_TASKS)
            add("ProcessPoolExecutor", "one task there and back", futures_one)
            add("Transom, domain", "allocate + release, 2 x 1 MiB, seen", t.domains(), 5)
    for (name, params, target), values in samples.items():
        figures.add(name, params, values, target)


def main() -> int:
    figures = Figures(sys.argv[1:])
    rounds = 21 if "--long" in sys.argv else 7
    with tempfile.TemporaryDirectory() as folder:
        measure(figures, rounds, build_kernels(folder))
    measure_ray(figures, rounds)
    figures.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())

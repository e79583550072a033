#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Start, memory and close of a worker from Python: fork and spawn, 1, 8 and 64 chips, beside the pools of Python.

The start is over when every chip has run a task of Python, and every worker of a pool has. Memory is what all processes
have more than the program had before, shared pages counted once (PSS), divided by the chips. Floor of the start: fork,
exit and reap of as many processes; with spawn one start of the interpreter.

Arguments as those of python.py. `./dev bench python_start` runs it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import transom as ts
from _common import Figure, Report, Sample, end_tidily, timed, tree_kib
from _contender import Contender

METHODS = ("fork", "spawn")
ROUNDS = {1: 9, 8: 9, 64: 5}
PEER_ROUNDS = {1: 3, 8: 2, 64: 1}  # of them with the peers: their 64 interpreters take seconds
POOLS = {"Pool": "pool", "ProcessPoolExecutor": "executor"}


def nop(task: ts.Task) -> None:
    """A task of Python."""


def time_worker(chips: int, method: str) -> tuple[float, float, float]:
    """us until each chip has run a task, us to close, KiB a chip."""
    before = tree_kib(os.getpid())
    begin = time.perf_counter()
    w = ts.Worker(chips=chips, start_method=method)
    task = w.register(nop)
    w.init()

    def orchestrate(orch: ts.Orchestrator, args: None, config: None) -> None:
        for chip in range(chips):
            orch.submit(task, chip=chip)

    w.run(orchestrate)
    start = 1e6 * (time.perf_counter() - begin)
    kib = (tree_kib(os.getpid()) - before) / chips
    return start, timed(w.close), kib


def time_floor(processes: int, method: str) -> float:
    if method == "spawn":
        return timed(lambda: subprocess.run([sys.executable, "-c", ""], check=True))

    def run() -> None:
        pids = []
        for _ in range(processes):
            pids.append(os.fork())
            if pids[-1] == 0:
                os._exit(0)
        for pid in pids:
            os.waitpid(pid, 0)

    return timed(run)


def measure(report: Report, starter: Contender, chips: int, method: str) -> None:
    starts, closes, memory = [], [], []
    for i in range(ROUNDS[chips] * (4 if report.long else 1)):
        start, close, kib = time_worker(chips, method)
        starts.append(Sample(start, time_floor(chips, method)))
        closes.append(Sample(close))
        memory.append(Sample(kib))
        for name, kind in POOLS.items():
            if i < PEER_ROUNDS[chips] and (answer := starter.ask("start", kind, method, chips)):
                starts[-1].peers[name], closes[-1].peers[name], memory[-1].peers[name] = answer
    params = f"{chips} chip{'s' if chips > 1 else ''}, {method}"
    for name, unit, samples in (("start", "us", starts), ("close", "us", closes), ("memory of a chip", "KiB", memory)):
        report.figure(Figure(f"{name} (Python)", params, unit, chips=chips, x=chips), samples)


def main() -> int:
    report = Report("python_start", sys.argv[1:])
    end_tidily()
    with contextlib.closing(Contender(report, "pools of Python", "starter", 1)) as starter:
        for method in METHODS:
            for chips in ROUNDS:
                measure(report, starter, chips, method)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())

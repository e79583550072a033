#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Tasks and domains from Python, beside the pools that Python programs use otherwise, and Ray.

In each round every contender does the same, one after the other, so that they meet the same machine; the peers, which
are slower by orders of magnitude, in some rounds only. With one chip the program and the chip have a core each and R is
probed around the batch. The floor of a task there and back is two bare processes of Python that spin for a word in
shared memory; a byte over pipes between the same two is among the peers.

Arguments: --json prints the JSON lines instead of the table; --row leaves the head of the table out; --long takes more
rounds. `./dev bench python` runs it.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

import transom as ts
from _common import Figure, Probe, Report, Sample, batches, end_tidily, graph, pin, timed, two_cores, unpin
from _contender import Bare, Contender

CHIPS = (1, 2, 8)
ROUNDS, ROUNDS_LONG = 60, 300
PEER_ROUNDS = 6  # of them with the peers; with the slowest orders once
TRIPS, TRIPS_PEER = 300, 50
TASKS, TASKS_PEER = 5000, 1000
LINKS, LINKS_PEER = 2000, 300
DOMAINS = 2000
TASK_US, SUBMIT_US, TRIP_US, DOMAIN_US = 1.5, 4, 15, 5  # the targets
KERNELS = """
#include <transom/task.h>
int nop(tsm_task *t) { (void)t; return 0; }
"""

Orchestration = Callable[[ts.Orchestrator, None, None], None]


def nop(task: ts.Task) -> None:
    """A task of Python."""


def pin_task(task: ts.Task) -> None:
    pin(int(task.scalar(0)))


def build_kernels(folder: str) -> str:
    source, target = f"{folder}/kernels.c", f"{folder}/kernels.so"
    pathlib.Path(source).write_text(KERNELS)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{ts.get_include()}", "-o", target, source], check=True)
    return target


class Rig:
    """A worker to be measured: chip c on core 1 + c, the program on core 0."""

    def __init__(self, chips: int, kernels: str) -> None:
        self.chips = chips
        self.w = ts.Worker(chips=chips).init()
        self.c, self.python = self.w.register(f"{kernels}:nop"), self.w.register(nop)
        self.x, self.y = self.w.buffer(16), self.w.buffer(16)
        self.empty, self.args = ts.TaskArgs(), ts.TaskArgs()
        self.args.add_tensor(self.x, ts.INPUT)
        self.args.add_tensor(self.y, ts.INPUT)
        self.args.add_scalar(1)
        pinning = self.w.register(pin_task)

        def pin_all(orch: ts.Orchestrator, args: None, config: None) -> None:
            for chip in range(chips):
                orch.submit(pinning, 1 + chip, chip=chip)

        self.w.run(pin_all)
        pin(0)

    def run(self, orchestrate: Orchestration, count: int) -> float:
        """us of one of its `count` tasks."""
        return timed(lambda: self.w.run(orchestrate), count)

    def close(self) -> None:
        self.w.close()
        unpin()

    # ---- orchestration functions ----

    def prepared(self, callable: ts.Callable, args: ts.TaskArgs) -> Orchestration:
        chips = self.chips

        def orchestrate(orch: ts.Orchestrator, _: None, config: None) -> None:
            for i in range(TASKS):
                orch.submit_next_level(callable, args, worker=i % chips)

        return orchestrate

    def submit(self) -> Orchestration:
        c, x, y, chips = self.c, self.x, self.y, self.chips

        def orchestrate(orch: ts.Orchestrator, _: None, config: None) -> None:
            for i in range(TASKS):
                orch.submit(c, x, y, 1, chip=i % chips)

        return orchestrate

    def submit_python(self) -> Orchestration:
        python, chips = self.python, self.chips

        def orchestrate(orch: ts.Orchestrator, _: None, config: None) -> None:
            for i in range(TASKS):
                orch.submit(python, chip=i % chips)

        return orchestrate

    def one(self, callable: ts.Callable) -> Orchestration:
        def orchestrate(orch: ts.Orchestrator, args: None, config: None) -> None:
            orch.submit_next_level(callable, self.empty, worker=0)

        return orchestrate

    def chain(self, inferred: bool) -> Orchestration:
        """Each task follows the one before, which is on another chip."""

        def by_tensor(orch: ts.Orchestrator, args: None, config: None) -> None:
            x = ts.inout(self.x)
            for i in range(LINKS):
                orch.submit(self.c, x, chip=i % self.chips)

        def by_id(orch: ts.Orchestrator, args: None, config: None) -> None:
            last = orch.submit(self.c, chip=0)
            for i in range(1, LINKS):
                last = orch.submit(self.c, chip=i % self.chips, after=(last,))

        return by_tensor if inferred else by_id

    def graph(self, inferred: bool) -> Orchestration:
        edges = graph()

        def by_id(orch: ts.Orchestrator, args: None, config: None) -> None:
            ids: list[int] = []
            for i, before in enumerate(edges):
                ids.append(orch.submit(self.c, chip=i % self.chips, after=[ids[k] for k in before]))

        if not inferred:
            return by_id
        buffer = self.w.buffer((len(edges), 16))  # a cache line for each task
        lines = [buffer[i] for i in range(len(edges))]
        outs = [ts.out(line) for line in lines]

        def by_tensor(orch: ts.Orchestrator, args: None, config: None) -> None:
            for i, before in enumerate(edges):
                orch.submit(self.c, *[lines[k] for k in before], outs[i], chip=i % self.chips)

        return by_tensor

    def domains(self, orch: ts.Orchestrator, args: None, config: None) -> None:
        specs = [ts.CommBufferSpec("scratch", "float32", 1024)]
        for _ in range(DOMAINS):
            orch.allocate_domain("tp", (0, 1), 1 << 20, specs).release()


def plural(chips: int) -> str:
    return f"{chips} chip{'s' if chips > 1 else ''}"


class Benchmark:
    def __init__(self, report: Report, kernels: str) -> None:
        self.report, self.kernels = report, kernels
        self.rounds = ROUNDS_LONG if report.long else ROUNDS
        self.bare = Bare() if two_cores() else None
        self.ray = Contender(report, "Ray actor", "ray", CHIPS[-1])

    def close(self) -> None:
        self.ray.close()
        if self.bare:
            self.bare.close()

    def measure(self, chips: int) -> None:
        with (
            contextlib.closing(Contender(self.report, "Pool", "pool", chips)) as pool,
            contextlib.closing(Contender(self.report, "ProcessPoolExecutor", "executor", chips)) as executor,
            contextlib.closing(Probe(chips == 1)) as self.probe,
            contextlib.closing(Rig(chips, self.kernels)) as rig,
        ):
            if chips == 1:
                self.there_and_back(rig, pool, executor)
            self.independent(rig, pool, executor)
            if chips > 1:
                self.chain(rig)
            self.graph(rig)
            if chips == 2:
                self.domains(rig)

    def domains(self, rig: Rig) -> None:
        values = [Sample(rig.run(rig.domains, DOMAINS)) for _ in range(self.rounds)]
        self.report.figure(
            Figure("domain (Python)", "allocate + release, 2 x 1 MiB", at_most=DOMAIN_US, chips=2), values
        )

    def there_and_back(self, rig: Rig, pool: Contender, executor: Contender) -> None:
        for kind, callable in (("C", rig.c), ("Python", rig.python)):
            orchestrate = rig.one(callable)

            def trips(orchestrate: Orchestration = orchestrate) -> None:
                for _ in range(TRIPS):
                    rig.w.run(orchestrate)

            def run() -> Sample:
                return Sample(timed(trips, TRIPS), self.bare.ball(TRIPS) if self.bare else 0)

            def ask() -> dict[str, float]:
                peers = {"bare pipe": self.bare.pipe(TRIPS_PEER)} if self.bare else {}
                for peer in (pool, executor, self.ray):
                    peers |= peer.time("there", TRIPS_PEER)
                return peers

            samples = batches(self.rounds, self.probe, run, ask, self.rounds // PEER_ROUNDS)
            self.report.figure_cores(
                Figure("run of a task (Python)", f"a task of {kind}", at_most=TRIP_US, chips=1), samples
            )

    def independent(self, rig: Rig, pool: Contender, executor: Contender) -> None:
        def ask() -> dict[str, float]:
            peers = pool.time("independent", TASKS_PEER) | executor.time("independent", TASKS_PEER)
            for peer in (pool, executor):
                if chunks := peer.ask("chunks", TASKS):
                    peers[f"{peer.name}, by 64"] = chunks[0]
            return peers | self.ray.time("independent", TASKS_PEER, rig.chips)

        cases = (
            ("C, prepared, no arguments", rig.prepared(rig.c, rig.empty), TASK_US, ask),
            ("C, prepared, 2 tensors", rig.prepared(rig.c, rig.args), TASK_US, None),
            ("C, submit, 2 tensors", rig.submit(), SUBMIT_US, None),
            ("Python, submit", rig.submit_python(), SUBMIT_US, ask),
        )
        for params, orchestrate, target, peers in cases:

            def run(orchestrate: Orchestration = orchestrate) -> Sample:
                return Sample(rig.run(orchestrate, TASKS))

            samples = batches(self.rounds, self.probe, run, peers, self.rounds // PEER_ROUNDS)
            f = Figure(
                "independent (Python)", f"{plural(rig.chips)}, {params}", at_most=target, chips=rig.chips, x=TASKS
            )
            self.report.figure_cores(f, samples)

    def chain(self, rig: Rig) -> None:
        def ask() -> dict[str, float]:
            return self.ray.time("chain", LINKS_PEER, rig.chips)

        for how, inferred in (("inferred", True), ("after=", False)):
            orchestrate = rig.chain(inferred)

            def run(orchestrate: Orchestration = orchestrate) -> Sample:
                return Sample(rig.run(orchestrate, LINKS))

            samples = batches(self.rounds, self.probe, run, ask, self.rounds // 2)
            f = Figure("chain (Python)", f"{plural(rig.chips)}, {how}", at_most=SUBMIT_US, chips=rig.chips, x=LINKS)
            self.report.figure(f, samples)

    def graph(self, rig: Rig) -> None:
        tasks = len(graph())
        theirs = self.ray.time("graph", rig.chips)  # seconds: once
        for how, inferred in (("inferred", True), ("after=", False)):
            orchestrate = rig.graph(inferred)
            samples = [Sample(rig.run(orchestrate, tasks)) for _ in range(self.rounds // 3)]
            samples[0].peers = theirs
            f = Figure(
                "random graph (Python)", f"{plural(rig.chips)}, {how}", at_most=SUBMIT_US, chips=rig.chips, x=tasks
            )
            self.report.figure(f, samples)


def main() -> int:
    report = Report("python", sys.argv[1:])
    end_tidily()
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Benchmark(report, build_kernels(folder))
        try:
            for chips in CHIPS:
                benchmark.measure(chips)
        finally:
            benchmark.close()
    return report.end()


if __name__ == "__main__":
    sys.exit(main())

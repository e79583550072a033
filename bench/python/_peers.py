# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""A peer as a program of its own (_contender.py starts it): `_peers.py pool|executor|ray|starter WORKERS`.

It says "ready", then reads orders from its standard input, a line each, and answers each with a line: a number, for
most orders microseconds of one task. The start method of the pools is spawn, but for what the starter starts.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from multiprocessing.synchronize import Semaphore
from typing import Any

from _common import graph, timed, tree_kib

PR_SET_PDEATHSIG = 1
CHUNK = 64


def nop(argument: object = None) -> None:
    """The task."""


def end_with_parent() -> None:
    """The first that a worker runs."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


_gate: Semaphore


def begin_at_gate(started: Semaphore, gate: Semaphore) -> None:
    """The same, of a worker that the starter starts."""
    global _gate
    end_with_parent()
    _gate = gate
    started.release()


def pass_gate(argument: object = None) -> None:
    """Keeps a worker busy until all are there; else an executor starts fewer than it may."""
    _gate.acquire()


class Pool:
    def __init__(self, workers: int) -> None:
        self.pool = multiprocessing.get_context("spawn").Pool(workers, end_with_parent)
        self.pool.map(nop, range(workers), chunksize=1)

    def there(self, count: int) -> float:
        return timed(lambda: [self.pool.apply(nop) for _ in range(count)], count)

    def independent(self, count: int) -> float:
        return timed(lambda: self.pool.map(nop, [None] * count, chunksize=1), count)

    def chunks(self, count: int) -> float:
        return timed(lambda: self.pool.map(nop, [None] * count, chunksize=CHUNK), count)

    def close(self) -> None:
        self.pool.terminate()
        self.pool.join()


class Executor:
    def __init__(self, workers: int) -> None:
        self.executor = concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), end_with_parent
        )
        concurrent.futures.wait([self.executor.submit(nop) for _ in range(workers)])

    def there(self, count: int) -> float:
        return timed(lambda: [self.executor.submit(nop).result() for _ in range(count)], count)

    def independent(self, count: int) -> float:
        return timed(lambda: concurrent.futures.wait([self.executor.submit(nop) for _ in range(count)]), count)

    def chunks(self, count: int) -> float:
        return timed(lambda: list(self.executor.map(nop, [None] * count, chunksize=CHUNK)), count)

    def close(self) -> None:
        self.executor.shutdown()


class Actor:
    def __init__(self) -> None:
        end_with_parent()

    def nop(self, *before: object) -> None:
        """The task, after others."""


class Ray:
    """Actors, one for each worker. Edges are references of results, which is how Ray orders tasks."""

    def __init__(self, workers: int) -> None:
        import ray

        self.ray = ray
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=tempfile.gettempdir(),  # which is the contender's own
        )

        actor: Any = ray.remote(Actor)
        self.actors: list[Any] = [actor.remote() for _ in range(workers)]
        ray.get([one.nop.remote() for one in self.actors])

    def there(self, count: int) -> float:
        return timed(lambda: [self.ray.get(self.actors[0].nop.remote()) for _ in range(count)], count)

    def independent(self, count: int, workers: int) -> float:
        def run() -> None:
            self.ray.get([self.actors[i % workers].nop.remote() for i in range(count)])

        return timed(run, count)

    def chain(self, count: int, workers: int) -> float:
        def run() -> None:
            last = self.actors[0].nop.remote()
            for i in range(1, count):
                last = self.actors[i % workers].nop.remote(last)
            self.ray.get(last)

        return timed(run, count)

    def graph(self, workers: int) -> float:
        edges = graph()

        def run() -> None:
            done: list[Any] = []
            for i, before in enumerate(edges):
                done.append(self.actors[i % workers].nop.remote(*[done[k] for k in before]))
            self.ray.get(done)

        return timed(run, len(edges))

    def close(self) -> None:
        self.ray.shutdown()


class Starter:
    """Starts pools, until each worker has run something, and closes them: us, us, KiB a worker."""

    def __init__(self, workers: int) -> None:
        del workers

    def start(self, kind: str, method: str, workers: int) -> tuple[float, float, float]:
        context = multiprocessing.get_context(method)
        before = tree_kib(os.getpid())
        begin = time.perf_counter()
        started, gate = context.Semaphore(0), context.Semaphore(0)
        if kind == "pool":
            pool = context.Pool(workers, begin_at_gate, (started, gate))
            tasks = pool.map_async(pass_gate, range(workers), chunksize=1)
        else:
            executor = concurrent.futures.ProcessPoolExecutor(workers, context, begin_at_gate, (started, gate))
            futures = [executor.submit(pass_gate) for _ in range(workers)]
        for _ in range(workers):
            started.acquire()
        for _ in range(workers):
            gate.release()
        if kind == "pool":
            tasks.get()
        else:
            concurrent.futures.wait(futures)
        ready = time.perf_counter()
        kib = (tree_kib(os.getpid()) - before) / workers
        closing = time.perf_counter()
        if kind == "pool":
            pool.close()
            pool.join()
        else:
            executor.shutdown()
        return 1e6 * (ready - begin), 1e6 * (time.perf_counter() - closing), kib

    def close(self) -> None:
        pass


def main() -> int:
    kind, workers = sys.argv[1], int(sys.argv[2])
    peer: Any = {"pool": Pool, "executor": Executor, "ray": Ray, "starter": Starter}[kind](workers)
    print("ready", flush=True)
    for line in sys.stdin:
        order, *words = line.split()
        answer = getattr(peer, order)(*[int(w) if w.isdigit() else w for w in words])
        print(*(answer if isinstance(answer, tuple) else (answer,)), flush=True)
    peer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

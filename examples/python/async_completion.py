#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""A task is done when its transfers are: fetch a peer's data, compute meanwhile, and let the runtime do the rest.

The program stages a vector in each chip's window (copy_to). Each chip then starts to fetch the other's (get_nbi) and
takes the square roots of its own meanwhile; y = sqrt(own) + other is computed

    on chip 0     by the same task, which asks for completion first (quiet);
    for chip 1    by another task, on chip 0. The task on chip 1 returns with the transfer still open: its end completes
                  it, and only then is the task done. The second is behind it because it reads what the first is said
                  to write.

The memory that is fetched into must not be looked at in between: on chips that copy by themselves nothing has to be
there yet. On `sim` nothing is there either with TRANSOM_CHAOS=1 in the environment; the result is the same.
"""

import sys

import numpy as np
import numpy.typing as npt
import transom as ts

Array = npt.NDArray[np.float32]

COUNT = 1 << 16
TOLERANCE = 1e-3


# ---- the tasks ----


def fetch_and_add(
    task: ts.Task, pair: ts.Domain, own: Array, other: Array, fetched: Array, roots: Array, y: Array
) -> None:
    """All but other are in the own window; that is read by the transfer."""
    pair.get_nbi(fetched, "x", 1 - pair.rank)
    np.sqrt(own, out=roots)  # the transfer is pending
    pair.quiet()  # from here on it is not
    np.add(roots, fetched, out=y)


def fetch(task: ts.Task, pair: ts.Domain, own: Array, other: Array, fetched: Array, roots: Array) -> None:
    """The same without y, and without quiet."""
    pair.get_nbi(fetched, "x", 1 - pair.rank)
    np.sqrt(own, out=roots)


def add(task: ts.Task, fetched: Array, roots: Array, y: Array) -> None:
    """fetched and roots are in the window of another chip."""
    np.add(roots, fetched, out=y)


# ---- the program ----


def run(worker: ts.Worker) -> bool:
    """Prints how far y is from a plain computation. Returns whether it is right."""
    kernel = {function.__name__: worker.register(function) for function in (fetch_and_add, fetch, add)}
    i = np.arange(COUNT)
    x = np.array([i % 1000, 2 + np.sin(i)], np.float32)  # the program's own memory: what is staged
    y = np.empty_like(x)  # and what comes back

    def orchestrate(orch: ts.Orchestrator, args: object, config: object) -> None:
        names = ("x", "fetched", "roots", "y", "y for 1")
        buffers = [ts.CommBufferSpec(name, "float32", COUNT, COUNT * 4) for name in names]
        size = sum(buffer.nbytes for buffer in buffers)
        with orch.allocate_domain(name="pair", workers=[0, 1], window_size=size, buffers=buffers) as pair:
            on0, on1 = pair[0].buffers, pair[1].buffers
            orch.copy_to(0, on0["x"], x[0])
            orch.copy_to(1, on1["x"], x[1])
            orch.submit(
                kernel["fetch_and_add"],
                pair,
                on0["x"],
                on1["x"],
                ts.out(on0["fetched"]),
                ts.out(on0["roots"]),
                ts.out(on0["y"]),
                chip=0,
            )
            orch.submit(kernel["fetch"], pair, on1["x"], on0["x"], ts.out(on1["fetched"]), ts.out(on1["roots"]), chip=1)
            # It reads what the task before writes: that is the order.
            orch.submit(kernel["add"], on1["fetched"], on1["roots"], ts.out(on0["y for 1"]), chip=0)
            orch.copy_from(0, y[0], on0["y"])  # each waits for what writes it
            orch.copy_from(0, y[1], on0["y for 1"])

    worker.run(orchestrate)
    print(f"y = sqrt(own) + other for {COUNT} numbers on each of 2 chips.\n")
    print("         the transfer is complete                        y is off by at most")
    plain = np.sqrt(x.astype(np.float64)) + x[::-1]
    off = np.abs(y - plain).max(axis=1)
    print(f"chip 0   {'at quiet, in the same task':<45}   {off[0]:.1e}")
    print(f"chip 1   {'at the end of the task; another task uses it':<45}   {off[1]:.1e}")
    return bool((off <= TOLERANCE).all())


def main() -> int:
    with ts.Worker(chips=2) as worker:
        return 0 if run(worker) else 1


if __name__ == "__main__":
    sys.exit(main())

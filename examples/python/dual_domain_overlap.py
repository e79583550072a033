#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Two domains that have a chip in common, both alive in one run:

     chip 0        chip 1        chip 2
    └── domain "sum" ──┘
                  └ domain "affine" ┘

Each vector passes through both. Chips 0 and 1 add up their parts (sum = x0 + x1), chip 1 hands the sum over to chip 2,
and that one computes y = a sum + b. The function submits all of it at once and touches no number: which bytes a task
reads and writes is what orders the three tasks of a vector, and what lets chips 0 and 1 go on with the next one while
chip 2 still has the last.
"""

import sys

import numpy as np
import numpy.typing as npt
import transom as ts

Array = npt.NDArray[np.float32]

CHIPS, VECTORS, COUNT = 3, 8, 1024
TOLERANCE = 1e-3
A, B = 1.5, 0.25


# ---- the tasks ----


def reduce(task: ts.Task, domain: ts.Domain, x: Array, total: Array, seen: Array | None) -> None:
    """On chips 0 and 1, together. total is in the own window; seen, on chip 0 only, where the program looks at it."""
    total[:] = x
    domain.all_reduce("sum")
    if seen is not None:
        seen[:] = total


def hand_over(task: ts.Task, affine: ts.Domain, total: Array, y: Array) -> None:
    """On chip 1, rank 1 of sum and rank 0 of affine: from its window of the first into chip 2's of the second.

    The end of the task completes the put, and who reads y begins after that.
    """
    affine.put("y", total, 1)


def affine(task: ts.Task, y: Array, seen: Array, a: float, b: float) -> None:
    """On chip 2; y is in its window."""
    y *= a
    y += b
    seen[:] = y


# ---- the program ----


def run(worker: ts.Worker) -> bool:
    """Prints what became of both stages, against plain ones. Returns whether all is right."""
    kernel = {function.__name__: worker.register(function) for function in (reduce, hand_over, affine)}
    x = worker.buffer((VECTORS, 2, COUNT), "float32")
    sums = worker.buffer((VECTORS, COUNT), "float32")
    ys = worker.buffer((VECTORS, COUNT), "float32")
    i, v = np.arange(COUNT), np.arange(VECTORS)[:, np.newaxis]
    x.numpy()[:, 0] = np.sin(i + v)
    x.numpy()[:, 1] = i / 100 + v

    def allocate(orch: ts.Orchestrator, name: str, chips: list[int], buffer: str) -> ts.CommDomainHandle:
        spec = ts.CommBufferSpec(buffer, "float32", COUNT, COUNT * 4)
        return orch.allocate_domain(name=name, workers=chips, window_size=COUNT * 4, buffers=[spec])

    def orchestrate(orch: ts.Orchestrator, args: object, config: object) -> None:
        with allocate(orch, "sum", [0, 1], "sum") as first, allocate(orch, "affine", [1, 2], "y") as second:
            totals = [first[chip].buffers["sum"] for chip in first.workers]
            y = second[2].buffers["y"]
            for n in range(VECTORS):
                orch.submit_group(  # a collective needs its ranks at the same time
                    kernel["reduce"],
                    first,
                    ts.each([x[n, 0], x[n, 1]]),
                    ts.each(ts.out(total) for total in totals),
                    ts.each([ts.out(sums[n]), None]),
                    chips=first.workers,
                )
                orch.submit(kernel["hand_over"], second, totals[1], ts.out(y), chip=1)
                orch.submit(kernel["affine"], ts.inout(y), ts.out(ys[n]), A, B, chip=2)
        # Both are released here, and freed when the last task is done.

    worker.run(orchestrate)
    plain = x.numpy().astype(np.float64).sum(axis=1)
    sums_off = np.abs(sums.numpy() - plain).max()
    ys_off = np.abs(ys.numpy() - (A * plain + B)).max()
    finite = bool(np.isfinite(sums.numpy()).all() and np.isfinite(ys.numpy()).all())
    print(f"{VECTORS} vectors of {COUNT} numbers passed through two domains in one run.\n")
    print("domain   chips   stage                 off by at most")
    print(f"sum      0, 1    x0 + x1               {sums_off:.1e}")
    print(f"affine   1, 2    {A} sum + {B}        {ys_off:.1e}\n")
    print("All are finite." if finite else "SOME ARE NOT FINITE.")
    return bool(finite and sums_off <= TOLERANCE and ys_off <= TOLERANCE)


def main() -> int:
    with ts.Worker(chips=CHIPS) as worker:
        return 0 if run(worker) else 1


if __name__ == "__main__":
    sys.exit(main())

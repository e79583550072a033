#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""One all-reduce in two ways: by hand on signals, and by the library's call.

Rank r of n has x[i] = i + 100 r, so each of the n sums has to be n i + 50 n (n - 1). The window of a rank:

    x: 256 floats │ by hand: 256 floats │ library: 256 floats │ came: a signal from each rank

By hand it is one phase. A rank stores its x and tells all ranks so: it sets its own signal in the tail of each
window. When all the signals in its own tail are set, it adds up the x of all windows where they lie.
"""

import argparse
import sys

import numpy as np
import numpy.typing as npt
import transom as ts

Array = npt.NDArray[np.float32]

COUNT = 256
TOLERANCE = 1e-3


# ---- the task: one on each chip ----


def add_by_hand(domain: ts.Domain) -> None:
    """by hand = the sum of x of all ranks, in the order of ranks."""
    came, total = domain["came"], domain["by hand"]
    signals = [came[rank : rank + 1] for rank in range(domain.size)]
    for rank in range(domain.size):  # what was stored before is seen with the signal
        domain.signal(signals[domain.rank], 1, rank)
    domain.wait_all(signals, "ge", 1)
    for rank in range(domain.size):  # the sum begins with zero, as all of a new window
        total += domain.buffer("x", rank)
    # Others may still read this rank's x: nothing writes it again, and it outlives the group.


def all_reduce(task: ts.Task, domain: ts.Domain, x: Array, by_hand: Array, library: Array) -> None:
    """In each rank; x, by_hand and library are its rows of what the program sees."""
    domain["x"][:] = x
    add_by_hand(domain)
    domain.all_reduce("library", "x")
    by_hand[:] = domain["by hand"]
    library[:] = domain["library"]


# ---- the program ----


def run(worker: ts.Worker, kernel: ts.Callable, chips: int) -> bool:
    """Runs it on that many chips and prints a line. Returns whether all sums are right."""
    x, by_hand, library = (worker.buffer((chips, COUNT), "float32") for _ in range(3))
    i = np.arange(COUNT)
    x.numpy()[:] = i + 100 * np.arange(chips)[:, np.newaxis]

    def orchestrate(orch: ts.Orchestrator, args: object, config: object) -> None:
        buffers = [ts.CommBufferSpec(name, "float32", COUNT, COUNT * 4) for name in ("x", "by hand", "library")]
        buffers.append(ts.CommBufferSpec("came", "uint64", chips, chips * 8))
        size = sum(buffer.nbytes for buffer in buffers)
        with orch.allocate_domain(name="all", workers=range(chips), window_size=size, buffers=buffers) as domain:
            orch.submit_group(
                kernel,
                domain,
                ts.each(x[rank] for rank in range(chips)),
                ts.each(ts.out(by_hand[rank]) for rank in range(chips)),
                ts.each(ts.out(library[rank]) for rank in range(chips)),
                chips=domain.workers,
            )

    worker.run(orchestrate)
    sums = chips * i + 50 * chips * (chips - 1)
    hand_off = np.abs(by_hand.numpy() - sums).max()
    library_off = np.abs(library.numpy() - sums).max()
    differ = np.count_nonzero(by_hand.numpy() != library.numpy())
    print(f"{chips:5}   {hand_off:12g}   {library_off:14g}   {differ:10} of {chips * COUNT}")
    return bool(hand_off <= TOLERANCE and library_off <= TOLERANCE and differ == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="One all-reduce by hand, and one by the library's call.")
    help_text = "2 to 16; without it 2, 4, 8 and 16"
    parser.add_argument("chips", nargs="?", type=int, choices=range(2, 17), metavar="CHIPS", help=help_text)
    chips = parser.parse_args().chips
    sizes = [chips] if chips else [2, 4, 8, 16]

    print(f"All-reduce of {COUNT} numbers: the largest difference from n i + 50 n (n - 1), n chips.\n")
    print("chips        by hand       all_reduce   sums that differ")
    with ts.Worker(chips=max(sizes)) as worker:
        kernel = worker.register(all_reduce)
        right = [run(worker, kernel, chips) for chips in sizes]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())

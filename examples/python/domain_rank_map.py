#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Who is who in a domain: the same chips in several domains at once.

Ranks are dense and follow the order in which the chips are named, so a chip has another rank in each domain, or none.
Its windows are different memory: what chip 2 does in one domain is not seen in the others.
"""

import sys

import numpy as np
import numpy.typing as npt
import transom as ts

CHIPS, COUNT = 3, 256
NO_RANK = -1
TOLERANCE = 1e-3
PLAN = {"left": (0, 2), "right": (1, 2), "turned": (2, 0)}


# ---- the tasks ----


def look(task: ts.Task, ranks: npt.NDArray[np.int32], *domains: ts.Domain | None) -> None:
    """On every chip: which rank am I? A domain that the chip is no member of is None to it."""
    ranks[:] = [NO_RANK if domain is None else domain.rank for domain in domains]


def value_of(chip: int, number: int) -> npt.NDArray[np.float32]:
    """What a chip gives in a domain."""
    return (np.arange(COUNT) + 100 * chip + 1000 * number).astype(np.float32)


def add_up(task: ts.Task, domain: ts.Domain, x: npt.NDArray[np.float32], number: int) -> None:
    """On the members of one domain; x is in the own window."""
    x[:] = value_of(task.chip, number)
    domain.all_reduce("x")


# ---- the program ----


def ranks_of(domain: ts.CommDomainHandle) -> list[int]:
    """The rank of each chip, asked from the program."""
    return [domain[chip].domain_rank if chip in domain else NO_RANK for chip in range(CHIPS)]


def overlap(a: ts.Tensor, b: ts.Tensor) -> bool:
    return a.data < b.data + b.nbytes and b.data < a.data + a.nbytes


def run(worker: ts.Worker) -> bool:
    """Prints a table. Returns whether all is right."""
    kernels = worker.register(look), worker.register(add_up)
    inside = worker.buffer((CHIPS, len(PLAN)), "int32")  # ranks as the tasks see them
    outside: dict[str, list[int]] = {}  # and as the program does
    sums: dict[str, npt.NDArray[np.float32]] = {}  # row: rank
    x_of_2: dict[str, ts.Tensor] = {}
    refusal = "nothing, THOUGH IT IS NO MEMBER"

    def orchestrate(orch: ts.Orchestrator, args: object, config: object) -> None:
        nonlocal refusal
        domains = {
            name: orch.allocate_domain(
                name=name,
                workers=chips,
                window_size=COUNT * 4,
                buffers=[ts.CommBufferSpec("x", "float32", COUNT, COUNT * 4)],
            )
            for name, chips in PLAN.items()
        }
        for name, domain in domains.items():
            outside[name] = ranks_of(domain)
            x_of_2[name] = domain[2].buffers["x"]
        try:
            domains["left"][1]
        except KeyError as error:
            refusal = repr(error)

        for chip in range(CHIPS):
            orch.submit(kernels[0], ts.out(inside[chip]), *domains.values(), chip=chip)
        for number, domain in enumerate(domains.values()):
            x = [domain[chip].buffers["x"] for chip in domain.workers]
            orch.submit_group(kernels[1], domain, ts.each(ts.out(t) for t in x), number, chips=domain.workers)
        for name, domain in reversed(domains.items()):  # when the first are read, all have been written
            sums[name] = np.empty((2, COUNT), np.float32)
            for rank, chip in enumerate(domain.workers):
                orch.copy_from(chip, sums[name][rank], domain[chip].buffers["x"])

    worker.run(orchestrate)
    ranks_right = sums_right = True
    print("domain   chips   chip 0   chip 1   chip 2   x of chip 2      sums are off by")
    for number, (name, chips) in enumerate(PLAN.items()):
        expected = [chips.index(chip) if chip in chips else NO_RANK for chip in range(CHIPS)]
        off = np.abs(sums[name] - value_of(chips[0], number) - value_of(chips[1], number)).max()
        cells = "".join(f"{'-' if rank == NO_RANK else f'rank {rank}':<9}" for rank in outside[name])
        print(f"{name:<6}   {chips[0]}, {chips[1]}    {cells}{x_of_2[name].data:<#14x}   {off:g}")
        ranks_right &= outside[name] == expected == inside.numpy()[:, number].tolist()
        sums_right &= bool(off <= TOLERANCE)
    places = list(x_of_2.values())
    distinct = not any(overlap(a, b) for i, a in enumerate(places) for b in places[:i])
    print(f"\nThe tasks on the chips see {'the same' if ranks_right else 'OTHER'} ranks. ", end="")
    print(f"Chip 2 has {'another' if distinct else 'THE SAME'} x in each domain.")
    print(f"Asking for chip 1 in domain left raises {refusal}.")
    return ranks_right and sums_right and distinct and refusal.startswith("KeyError")


def main() -> int:
    with ts.Worker(chips=CHIPS) as worker:
        return 0 if run(worker) else 1


if __name__ == "__main__":
    sys.exit(main())

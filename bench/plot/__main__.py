# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Draws what the benchmarks wrote. `./dev bench` runs it.

Usage: python -m bench.plot RESULTS TARGET [BENCH...]

RESULTS is the folder of the JSON lines, TARGET that of the plots. Drawn are all plots whose
benchmarks have run, or those that show one of the benchmarks named. figures.md, beside TARGET, has
all rows; it is written when there are all.
"""

import pathlib
import sys

from .growth import draw_growth
from .overview import HEADLINES, draw_overview
from .page import write_page
from .rows import Results
from .sizes import draw_collectives, draw_putget, draw_windows
from .style import save
from .tasks import draw_metg, draw_submit, draw_tasks

# {file: (how, the benchmarks that it shows)}
PLOTS = {
    "overview.svg": (draw_overview, list(dict.fromkeys(headline.bench for headline in HEADLINES))),
    "tasks.svg": (draw_tasks, ["independent", "chain", "graph"]),
    "metg.svg": (draw_metg, ["metg"]),
    "submit.svg": (draw_submit, ["submit"]),
    "windows.svg": (draw_windows, ["windows"]),
    "putget.svg": (draw_putget, ["putget"]),
    "collectives.svg": (draw_collectives, ["collectives"]),
    "growth.svg": (draw_growth, ["growth"]),
}


def main(arguments: list[str]) -> None:
    if len(arguments) < 2:
        sys.exit(__doc__)
    folder, target = pathlib.Path(arguments[0]), pathlib.Path(arguments[1])
    results = Results(folder)
    named = set(arguments[2:])
    for file, (draw, benches) in PLOTS.items():
        wanted = not named or named & set(benches)
        ran = all((folder / f"{bench}.jsonl").exists() for bench in benches)
        figure = draw(results) if wanted and ran else None
        if figure:
            save(figure, target / file, results.caption(benches))
            print(f"drawn    {target / file}")
    write_page(folder, target.parent / "figures.md")


if __name__ == "__main__":
    main(sys.argv[1:])

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""A bar for the tasks of one run: tqdm's when it is installed, else a line on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _core

_INTERVAL = 0.1  # seconds between two looks


class _Line:
    """What stands in for tqdm."""

    def __init__(self, total: int | None) -> None:
        self.total, self.n = total, 0

    def refresh(self) -> None:
        of = f"/{self.total} ({100 * self.n // self.total} %)" if self.total else ""
        sys.stderr.write(f"\r{self.n}{of} tasks")
        sys.stderr.flush()

    def close(self) -> None:
        self.refresh()
        sys.stderr.write("\n")


class Progress:
    """Shows the tasks that have ended while a run is waited for; a context manager around the run.

    Args:
        worker: whose tasks.
        total: tasks of the run; True: as many as are submitted by then.
    """

    def __init__(self, worker: _core.Worker, total: Any) -> None:
        if not isinstance(total, int) or total < 0:
            raise ValueError(f"progress is {total!r}: True, False or the number of tasks")
        self.worker = worker
        self.fixed = None if total is True else total
        self.next = 0.0

    def __enter__(self) -> Progress:
        self.done_before = self.worker.tasks_done
        self.submitted_before = self.worker.stats()["tasks"]
        self.bar = self._make_bar()
        self.worker._on_sleep(self._look)
        return self

    def __exit__(self, *unused: object) -> None:
        self.worker._on_sleep(None)
        if self.fixed is None:
            self.bar.total = self.worker.stats()["tasks"] - self.submitted_before
        self._show()
        self.bar.close()

    def _make_bar(self) -> Any:
        try:
            from tqdm import tqdm
        except ImportError:
            return _Line(self.fixed)

        class Bar(tqdm):  # type: ignore[misc, unused-ignore]
            monitor_interval = 0  # else tqdm starts a thread, and a process with threads cannot fork workers

        return Bar(total=self.fixed, unit="task", file=sys.stderr)

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self.next:
            self.next = now + _INTERVAL
            self._show()

    def _show(self) -> None:
        self.bar.n = self.worker.tasks_done - self.done_before
        self.bar.refresh()

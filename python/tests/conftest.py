# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What all tests of the Python package share.

After each test nothing of it may be left: no descendant (a zombie neither), no open file, no mapping of shared memory
of ours, nothing in /dev/shm. A test that hangs is ended with the tracebacks of all threads. `./dev test python` runs
them against the wheel, installed in build/venv; `./dev test asan` against build/asan/python.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import gc
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

# OpenBLAS would start threads when NumPy is imported, and a process with threads cannot fork workers.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
import transom

HERE = pathlib.Path(__file__).parent
ASAN = "libasan" in os.environ.get("LD_PRELOAD", "")
QUICK = ASAN or "TRANSOM_TEST_QUICK" in os.environ
LONG = "TRANSOM_TEST_LONG" in os.environ
TEST_SECONDS_MAX = 60 * (3 if ASAN else 10 if LONG else 1)

Factory = Callable[..., transom.Worker]


# ---- nothing is left ---------------------------------------------------------------------------------


def read_stat(pid: str) -> tuple[int, str] | None:
    """Parent and state of a process, None when it is gone."""
    try:
        text = pathlib.Path("/proc", pid, "stat").read_text()
    except OSError:
        return None
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(parent), state


def descendants() -> dict[int, str]:
    """Process id and name of all children and theirs, zombies too."""
    stats = {int(pid): stat for pid in os.listdir("/proc") if pid.isdigit() and (stat := read_stat(pid))}
    found: dict[int, str] = {}
    ours = {os.getpid()}
    while ours:
        ours = {pid for pid, (parent, _) in stats.items() if parent in ours}
        for pid in ours:
            try:
                name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                name = "?"
            found[pid] = f"{name} ({stats[pid][1]})"
    return found


def open_files() -> dict[int, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass  # the one that lists them
    return found


def mappings() -> dict[str, str]:
    lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[0]: line.split(maxsplit=5)[5] for line in lines if "memfd:transom" in line}


def shared_files() -> dict[str, str]:
    names = os.listdir("/dev/shm")
    return {name: "" for name in names if "transom" in name.lower() or "tsm" in name.lower()}


@dataclasses.dataclass
class Belongings:
    """What a process has."""

    descendants: dict[int, str] = dataclasses.field(default_factory=descendants)
    open_files: dict[int, str] = dataclasses.field(default_factory=open_files)
    mappings: dict[str, str] = dataclasses.field(default_factory=mappings)
    shared_files: dict[str, str] = dataclasses.field(default_factory=shared_files)

    def new_since(self, before: Belongings) -> list[str]:
        """What was not there before, in words."""
        words = []
        for field in dataclasses.fields(self):
            old, now = getattr(before, field.name), getattr(self, field.name)
            words += [f"{field.name}: {key} {now[key]}".strip() for key in now if key not in old]
        return words


failed = pytest.StashKey[bool]()
stderr = pytest.StashKey[TextIO]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    if report.failed:
        item.stash[failed] = True
    return report


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up first and torn down last. A test that failed is asked nothing: its traceback keeps what it had."""
    os.environ.pop("TRANSOM_FAULT", None)
    gc.collect()
    before = Belongings()
    yield
    os.environ.pop("TRANSOM_FAULT", None)
    if request.node.stash.get(failed, False):
        return
    gc.collect()
    left = Belongings().new_since(before)
    assert not left, "left behind: " + "; ".join(left)


# ---- a test that hangs -------------------------------------------------------------------------------


def raise_hang(number: int, frame: object) -> None:
    signal.alarm(10)  # again: what an orchestration function raises waits for the tasks that run
    raise TimeoutError(f"the test is not done after {TEST_SECONDS_MAX} s")


def pytest_configure(config: pytest.Config) -> None:
    # SIGALRM, not faulthandler's own watchdog: that is a thread, and then nothing may fork. The tracebacks come at
    # once, also when the test hangs in C; the exception where C looks for signals. What never does is ended by
    # `./dev test`.
    config.stash[stderr] = os.fdopen(os.dup(2), "w")  # not captured yet
    signal.signal(signal.SIGALRM, raise_hang)
    faulthandler.register(signal.SIGALRM, file=config.stash[stderr], chain=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.unregister(signal.SIGALRM)
    config.stash[stderr].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    signal.alarm(TEST_SECONDS_MAX)
    try:
        return (yield)
    finally:
        signal.alarm(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under AddressSanitizer: not what is marked so, and each test with one start method only, by turns."""
    if not ASAN:
        return
    turns: dict[str, str] = {}
    kept, dropped = [], []
    for item in items:
        test = item.nodeid.partition("[")[0]
        callspec = getattr(item, "callspec", None)
        method = callspec.params.get("start_method") if callspec else None
        if method is not None:
            turns.setdefault(test, ("spawn", "fork")[len(turns) % 2])
        wanted = method in (None, turns.get(test)) and item.get_closest_marker("not_asan") is None
        (kept if wanted else dropped).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is there by now need not be looked at after each test


# ---- what tests ask for ------------------------------------------------------------------------------


@pytest.fixture(params=["spawn", "fork"])
def start_method(request: pytest.FixtureRequest) -> str:
    """The test runs once for each. `worker` makes its workers with it."""
    method: str = request.param
    return method


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[Factory]:
    """Makes workers and starts them, unless init is False: worker(chips=2, subs=1, ...).

    They are closed after the test; after one that failed, without waiting for what is in flight.
    """
    options = {}
    if "start_method" in request.fixturenames:
        options["start_method"] = request.getfixturevalue("start_method")

    def make(chips: int = 1, subs: int = 0, *, init: bool = True, **more: Any) -> transom.Worker:
        w = transom.Worker(chips, subs, **options | more)
        ends.callback(w.close)
        ends.callback(lambda: w._cancel() if request.node.stash.get(failed, False) and w.state == "ready" else None)
        return w.init() if init else w

    with contextlib.ExitStack() as ends:
        yield make


@pytest.fixture
def forked(worker: Factory) -> Factory:
    """The same by fork, which starts quicker."""
    return lambda *args, **options: worker(*args, start_method="fork", **options)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a shared object with the tasks of kernels.c, built as a user would build it."""
    path = str(tmp_path_factory.mktemp("kernels") / "kernels.so")
    command = ["cc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    command += [f"-I{transom.get_include()}", str(HERE / "kernels.c"), "-o", path]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(command, check=True, env=environment)
    return path


@pytest.fixture(scope="session")
def repeat() -> Callable[[int], int]:
    """repeat(n): n, a tenth of it in a quick run, ten times it in a long one."""
    return lambda n: max(1, n // 10) if QUICK else n * 10 if LONG else n


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """program(source, *arguments, **environment): runs that text in an interpreter of its own, to its end."""

    def run(source: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", source, *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=TEST_SECONDS_MAX,
        )

    return run

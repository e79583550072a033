# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Who takes turns with Transom: peers, as programs of their own (_peers.py), and two bare processes.

A peer of threads and helpers (Ray) has work of its own also when nobody asks it for anything, so a contender's
processes are stopped by a signal between turns. It is given up when it dies or does not answer in time.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile

from _common import Report, command_of, pin, timed, tree_of

READY_SECONDS, ANSWER_SECONDS, LEAVE_SECONDS = 60, 60, 20
PR_SET_PDEATHSIG = 1
# What must not be stopped, because it leaves by itself when the others die with us; and who tidies up after them.
WATCHES = ("resource_tracker", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "default_worker.py")
TIDIES = ("resource_tracker",)
_prctl = ctypes.CDLL(None).prctl


def _end_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Contender:
    def __init__(self, report: Report, name: str, kind: str, workers: int) -> None:
        self.report, self.name = report, name
        program = pathlib.Path(__file__).with_name("_peers.py")
        speaks = "BENCH_PEERS_SPEAK" in os.environ
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process: subprocess.Popen[bytes] | None = subprocess.Popen(
            [sys.executable, str(program), kind, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if speaks else subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": self.folder.name},
            preexec_fn=_end_with_parent,
            start_new_session=True,  # Ctrl-C is for us, who end it
        )
        self.rest = b""
        self.tree = [self.process.pid]
        try:
            ready = self._line(READY_SECONDS) == "ready"
        except BaseException:
            self._kill()
            raise
        if not ready:
            report.note(f"{name} did not start with {workers} worker{'s' if workers > 1 else ''}: no figures of it")
            self._kill()
            return
        self.tree = self._processes(WATCHES)
        self._signal(signal.SIGSTOP)

    def _processes(self, without: tuple[str, ...]) -> list[int]:
        assert self.process is not None
        return [pid for pid in tree_of(self.process.pid) if not any(word in command_of(pid) for word in without)]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.tree:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def _line(self, seconds: float) -> str:
        """The next line that it says; "" when there is none in time."""
        assert self.process is not None and self.process.stdout is not None
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], seconds)[0]:
                return ""
            more = os.read(self.process.stdout.fileno(), 4096)
            if not more:
                return ""
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def ask(self, *order: object) -> tuple[float, ...]:
        """The answer; () when it is gone."""
        if self.process is None or self.process.stdin is None:
            return ()
        self._signal(signal.SIGCONT)
        try:
            self.process.stdin.write((" ".join(str(word) for word in order) + "\n").encode())
            self.process.stdin.flush()
            answer = tuple(float(word) for word in self._line(ANSWER_SECONDS).split())
        except (OSError, ValueError):
            answer = ()
        if not answer:
            self.report.note(f"{self.name} has died or hangs: left out from here on")
            self._kill()
            return ()
        self._signal(signal.SIGSTOP)
        return answer

    def time(self, *order: object) -> dict[str, float]:
        """The same as a peer's part of a sample."""
        answer = self.ask(*order)
        return {self.name: answer[0]} if answer else {}

    def _kill(self) -> None:
        if self.process is not None:
            self.tree = self._processes(TIDIES)
            self._signal(signal.SIGKILL)
            self.process.wait()
            self._forget()

    def _forget(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout) if self.process else ():
            if pipe:
                pipe.close()
        self.process = None
        self.folder.cleanup()

    def close(self) -> None:
        if self.process is None or self.process.stdin is None:
            return
        self._signal(signal.SIGCONT)
        self.process.stdin.close()  # the end of its orders
        try:
            self.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            return
        self._forget()


class Bare:
    """Two bare processes of Python: a ball in a shared word, for which both spin, and a byte over pipes.

    It forks when it is made: before the program has threads.
    """

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        orders, there, back = os.pipe(), os.pipe(), os.pipe()
        self.orders, self.there, self.back = orders[1], there[1], back[0]
        self.pid = os.fork()
        if self.pid == 0:
            _end_with_parent()
            pin(1)
            for end in (self.orders, self.there, self.back):
                os.close(end)
            self._serve(orders[0], there[0], back[1])
            os._exit(0)
        for end in (orders[0], there[0], back[1]):
            os.close(end)

    def _serve(self, orders: int, there: int, back: int) -> None:
        """The child: an order is a word, the number of trips; with 2^31 on top they go over the pipes."""
        ball = memoryview(self.memory).cast("Q")
        while order := os.read(orders, 4):
            trips = int.from_bytes(order, "little")
            if trips >> 31:
                for _ in range(trips & 0x7FFFFFFF):
                    os.write(back, os.read(there, 1))
            else:
                for number in range(1, 2 * trips, 2):
                    while ball[0] != number:
                        pass
                    ball[0] = number + 1

    def _order(self, word: int) -> None:
        os.write(self.orders, word.to_bytes(4, "little"))

    def ball(self, trips: int) -> float:
        """us of a round trip of the ball."""
        ball = memoryview(self.memory).cast("Q")
        ball[0] = 0
        self._order(trips + 1)

        def play(first: int, last: int) -> None:
            for number in range(first, last, 2):
                ball[0] = number
                while ball[0] == number:
                    pass

        play(1, 2)  # until the child is awake
        return timed(lambda: play(3, 2 * trips + 2), trips)

    def pipe(self, trips: int) -> float:
        self._order(trips | 1 << 31)

        def play() -> None:
            for _ in range(trips):
                os.write(self.there, b"x")
                os.read(self.back, 1)

        return timed(play, trips)

    def close(self) -> None:
        for end in (self.orders, self.there, self.back):
            os.close(end)
        os.waitpid(self.pid, 0)

# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Signals of a domain, and what waits for them and tests them; how a wait ends that nobody answers."""

from __future__ import annotations

import operator
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import transom as ts
from rig import Team, check_refusals, open_team, until

Repeat = Callable[[int], int]

SIGNALS = {"s": ("int64", 8), "u": ("uint64", 4), "raw": ("uint8", 32), "a": ("float32", 8)}


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    yield from open_team()


# ---- setting and looking ----


def test_signal_is_set_and_added_to(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        right = (tp.rank + 1) % tp.size
        tp.signal("s", 5, right)
        assert tp.wait_until("s", "==", 5) == 5
        tp.sync()
        for place, op in (("s", "add"), (tp["s"][1:2], "set"), (("s", 2, 3), "add")):
            tp.signal(place, 2, right, op)
            tp.fence()
            tp.signal(place=place, value=1, rank=right, op="add", strong=True)
        tp.sync()
        assert tp["s"].tolist() == [8, 3, 3, 0, 0, 0, 0, 0]
        tp.signal(("s", 7), 3, tp.rank)  # to itself
        assert tp.wait_until(("s", 7), ">=", 3) == 3

    team.group(exchange, chips=[0, 1, 2], buffers=SIGNALS)


def test_signal_is_signed_only_where_its_place_is(team: Team) -> None:
    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        base = tp.buffer().__array_interface__["data"][0]
        offset = tp["s"].__array_interface__["data"][0] - base
        for name in ("s", "u", "raw"):
            tp.signal(name, -1, tp.rank)
        tp.quiet()
        for place, value in (("s", -1), (tp["s"], -1), ("u", 2**64 - 1), ("raw", 2**64 - 1), (offset, 2**64 - 1)):
            assert tp.signal_fetch(place) == value
            assert tp.wait_until(place, "==", value) == value
            assert tp.wait_until(place, ">", 1) == value  # unsigned
            assert tp.test(place, ">=", 2**63) and not tp.test(place, "<", 5)
        tp.signal("u", 2**64 - 1, tp.rank)
        tp.fence()
        tp.signal("u", 2, tp.rank, "add")
        tp.quiet()
        assert tp.signal_fetch("u") == 1

    team.group(exchange, chips=[0], buffers=SIGNALS)


def test_tests_and_waits_agree_on_every_comparison(team: Team) -> None:
    def compare(task: ts.Task, tp: ts.Domain) -> None:
        comparisons = {"==": "eq", "!=": "ne", ">": "gt", ">=": "ge", "<": "lt", "<=": "le"}
        values = [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
        for now in values:
            tp["u"][:2] = now
            for value in values:
                for symbol, word in comparisons.items():
                    holds = getattr(operator, word)(now, value)
                    for name in (symbol, word):
                        assert tp.test("u", name, value) is holds, (now, name, value)
                        assert tp.test_all(("u", 0, 2), name, value) is holds
                        assert tp.test_any(("u", 0, 2), name, value) == (0 if holds else None)
                    if holds:
                        assert tp.wait_until("u", word, value) == now
                        tp.wait_all(("u", 0, 2), word, value)
                        assert tp.wait_any(("u", 0, 2), word, value) == 0
                    else:
                        with pytest.raises(ts.WaitTimeoutError):
                            tp.wait_until("u", symbol, value, 0)

    team.group(compare, chips=[0], buffers=SIGNALS)


def test_who_sees_the_signal_of_a_put_sees_its_data(team: Team, repeat: Repeat) -> None:
    def exchange(task: ts.Task, tp: ts.Domain, rounds: int) -> None:
        right, left = (tp.rank + 1) % tp.size, (tp.rank - 1) % tp.size
        seen = 0
        for number in range(1, rounds + 1):
            put = tp.put_signal if number % 2 else tp.put_signal_nbi
            op, strong = ("add", "set")[number % 3 == 0], number % 4 < 2
            seen = seen + 3 if op == "add" else seen + 5
            put("a", np.full(8, 100 * number + tp.rank, np.float32), "s", 3 if op == "add" else seen, right, op, strong)
            assert tp.wait_until("s", "==", seen) == seen
            assert (tp["a"] == 100 * number + left).all()
            tp.barrier()
        tp.put_signal(dst="a", src=b"", signal=tp["s"][1:2], value=1, rank=right)  # of no bytes
        tp.wait_until(("s", 1), "==", 1)

    team.group(exchange, repeat(300), chips=[0, 1, 2], buffers=SIGNALS)


def test_strong_signal_comes_after_all_earlier_puts_to_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chaos mode, where puts are late and in any order."""

    def exchange(task: ts.Task, tp: ts.Domain) -> None:
        other = 1 - tp.rank
        for number in range(1, 21):
            for k in range(8):
                tp.put(("a", k, 1), np.full(1, number, np.float32), other)
            tp.signal("s", number, other, strong=True)
            tp.wait_until("s", ">=", number)
            assert (tp["a"] == number).all()
            tp.barrier()

    monkeypatch.setenv("TRANSOM_CHAOS", "5")
    for team in open_team(2, 0):
        team.group(exchange, chips=[0, 1], buffers=SIGNALS)


# ---- several ----


def test_several_signals_are_given_as_a_list_a_place_or_an_iterable(team: Team) -> None:
    def use(task: ts.Task, tp: ts.Domain) -> None:
        tp["s"][:] = [3, 3, 3, 9, 3, 3, 3, 9]
        forms: list[tuple[Any, int]] = [
            (["s", ("s", 1), ("s", 3)], 2),
            (("s", ("s", 3)), 1),
            ([tp["s"][2:3], tp["s"][3:4]], 1),
            ("s", 3),
            (tp["s"], 3),
            (tp["s"][4:], 3),
            (("s", 4), 3),
            (("s", 3, 2), 0),
        ]
        for places, index in forms:
            assert tp.wait_any(places, "==", 9) == index, places
            assert tp.test_any(places, ">", 3) == index, places
            assert tp.test_any(places, "==", 4) is None
            assert tp.test_all(places, ">=", 3) is True
            assert tp.test_all(places, "==", 3) is False
            tp.wait_all(places, ">=", 3)
        assert tp.wait_any((("s", k) for k in (0, 1, 7)), "==", 9) == 2  # type: ignore[arg-type]
        tp.wait_all([], "==", 5)
        assert tp.test_all([], "==", 5) is True

    team.group(use, chips=[0], buffers=SIGNALS)


def test_wait_all_and_wait_any_wait_for_what_peers_send(team: Team, repeat: Repeat) -> None:
    def exchange(task: ts.Task, tp: ts.Domain, rounds: int) -> None:
        for number in range(1, rounds + 1):
            for rank in range(tp.size):
                tp.signal(("s", tp.rank), number, rank)
            tp.wait_all(("s", 0, tp.size), ">=", number)
            turn = number % tp.size
            if tp.rank == turn:
                for rank in range(tp.size):
                    tp.signal(("u", turn), number, rank)
            assert tp.wait_any("u", "==", number) == turn
            tp.sync()

    team.group(exchange, repeat(300), chips=[0, 1, 2, 3], buffers=SIGNALS)


# ---- waking ----


def test_plain_store_and_notify_wake_who_sleeps(team: Team, repeat: Repeat) -> None:
    """The program stays out of the library meanwhile: inside, it would look after sleepers that were forgotten."""
    w, rounds = team.worker, repeat(30)

    def store(task: ts.Task, tp: ts.Domain, done: Any) -> None:
        peer = tp.buffer("u", 1 - tp.rank)
        for number in range(1, rounds + 1):
            if tp.rank == 0:
                end = time.perf_counter() + 0.003  # long enough for the other to fall asleep
                while time.perf_counter() < end:
                    pass
            else:
                tp.wait_until("u", ">=", number)
            peer[0] = number
            tp.notify(1 - tp.rank)
            if tp.rank == 0:
                tp.wait_until("u", ">=", number)
                done[0] = number

    handle, done = w.register(store), w.buffer(1, "int64")
    words = memoryview(done)

    def orchestrate(orch: ts.Orchestrator, args: Any, config: Any) -> None:
        tp = orch.allocate_domain("tp", [0, 1], 4096, [ts.CommBufferSpec("u", "uint64", 1)])
        orch.submit_group(handle, tp, ts.nodep(done), chips=[0, 1])

    run = w.submit(orchestrate)
    until(lambda: words[0] == rounds)
    run.wait()
    w.unregister(handle)


@pytest.mark.parametrize("how", ["wait_until", "wait_all", "wait_any", "barrier", "all_reduce", "put", "get"])
def test_other_threads_of_a_task_run_while_it_waits(team: Team, how: str) -> None:
    """No thread is made to give the GIL away, so the other one counts only if the call lets go of it."""

    def wait(task: ts.Task, tp: ts.Domain, count: Any) -> None:
        go = threading.Event()

        def count_on() -> None:
            go.wait()
            for _ in range(1000):
                count[0] += 1

        thread = threading.Thread(target=count_on)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            thread.start()
            go.set()
            call(tp, count)
            assert count[0] == 1000
        finally:
            sys.setswitchinterval(interval)
            thread.join()

    def call(tp: ts.Domain, count: Any) -> None:
        if how == "wait_until":
            tp.wait_until("s", "==", 1)
        elif how in ("wait_all", "wait_any"):
            getattr(tp, how)("s", "==", 1)
        elif how == "barrier":
            tp.barrier()
        elif how == "all_reduce":
            tp.all_reduce("a")
        else:
            large = np.zeros(1 << 20, np.uint8)
            places = ("large", large) if how == "put" else (large, "large")
            while count[0] == 0:
                getattr(tp, how)(*places, 1)

    def answer(task: ts.Task, tp: ts.Domain, count: Any) -> None:
        while count[0] < 1000:
            pass
        tp["s"][:] = 1
        for rank in (0, 1):
            tp.put("s", "s", rank)
        if how in ("barrier", "all_reduce"):
            getattr(tp, how)(*["a"] * (how == "all_reduce"))

    def member(task: ts.Task, tp: ts.Domain, count: Any) -> None:
        (wait, answer)[tp.rank](task, tp, count)

    count = team.worker.buffer(1, "int64")
    buffers = SIGNALS | {"large": ("uint8", 1 << 20)}
    team.group(member, ts.nodep(count), chips=[0, 1], buffers=buffers, window=1 << 21)


# ---- ends of waits ----


def test_wait_ends_at_its_time_and_may_be_repeated(team: Team) -> None:
    def wait(task: ts.Task, tp: ts.Domain) -> None:
        waits: list[tuple[str, Callable[[float], Any]]] = [
            ("wait_until", lambda seconds: tp.wait_until("s", "==", 1, seconds)),
            ("wait_all", lambda seconds: tp.wait_all(["s", ("s", 1)], "==", 1, timeout=seconds)),
            ("wait_any", lambda seconds: tp.wait_any("s", "==", 1, seconds)),
        ]
        if tp.rank == 0:
            for name, call in waits:
                for seconds in (0, 0.002, np.float32(0.001)):
                    with pytest.raises(TimeoutError) as caught:
                        call(seconds)
                    assert type(caught.value) is ts.WaitTimeoutError and caught.value.code == "TSM_ETIMEOUT"
                    assert str(caught.value) == f"domain 'tp': {name}: the given time is over"
            tp.signal(("s", 2), 1, 1)
            for _, call in waits:
                call(1000.0)
        else:
            tp.wait_until(("s", 2), "==", 1)
            tp.signal(("s", 0), 1, 0)
            tp.signal(("s", 1), 1, 0)

    team.group(wait, chips=[0, 1], buffers=SIGNALS)


def test_wait_ends_when_a_member_aborts_the_domain(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        assert tp.status() == ("ok", None, None)
        tp.sync()
        if tp.rank == 2:
            tp.abort(-42)
        said = "domain 'tp': {}: rank 2 has aborted the domain (code -42)"
        check_refusals(
            (lambda: tp.wait_until("s", "==", 1), ts.PeerError, said.format("wait_until")),
            (lambda: tp.wait_all(["s"], "==", 1), ts.PeerError, said.format("wait_all")),
            (lambda: tp.wait_any(["s"], "==", 1, 5), ts.PeerError, said.format("wait_any")),
            (lambda: tp.barrier(), ts.PeerError, said.format("barrier")),
            (lambda: tp.all_reduce("a"), ts.PeerError, said.format("all_reduce")),
        )
        assert tp.status() == ("peer", 2, -42)

    team.group(member, buffers=SIGNALS)
    team.group(lambda task, tp: tp.barrier(), buffers=SIGNALS)  # the next domain is whole


def test_abort_has_a_code_that_is_negative(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain, code: int | None) -> None:
        if tp.rank == 1:
            check_refusals(
                (lambda: tp.abort(0), ts.ArgumentError, "not negative"),
                (lambda: tp.abort(3), ts.ArgumentError, "not negative"),
                (lambda: tp.abort(-(2**31) - 1), ValueError, "code is -2147483649"),
                (lambda: tp.abort("x"), TypeError, "code must be an int"),  # type: ignore[arg-type]
            )
            assert tp.status()[0] == "ok"
            tp.abort() if code is None else tp.abort(code=code)
        with pytest.raises(ts.PeerError):
            tp.sync()
        assert tp.status() == ("peer", 1, -1 if code is None else code)

    for code in (None, -1, -(2**31)):
        team.group(member, code, chips=[0, 1])


def test_peer_error_that_is_not_caught_fails_the_run_and_names_who_aborted(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        if tp.rank == 1:
            tp.abort(-7)
        tp.wait_until("s", "==", 1)

    with pytest.raises(ts.PeerError, match=r"rank 1 has aborted the domain \(code -7\)"):
        team.group(member, chips=[0, 1], buffers=SIGNALS)


def test_wait_ends_when_the_run_fails_and_the_cause_comes_out(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain, how: int) -> None:
        if tp.rank == 1:
            tp.wait_all(["s", ("s", 2)], "==", 1)
            raise RuntimeError("the cause")
        tp.signal(("s", tp.rank), 1, 1)
        try:
            (tp.wait_until, tp.wait_all, tp.wait_any)[how](("s", 4), "==", 1)
        except ts.AbortedError as error:
            assert str(error).startswith("domain 'tp': wait_") and str(error).endswith(": the run has failed")
            assert error.code == "TSM_EABORTED" and tp.status() == ("aborted", None, None)
            raise

    for how in range(3):
        with pytest.raises(RuntimeError) as caught:
            team.group(member, how, chips=[0, 1, 2], buffers=SIGNALS)
        assert type(caught.value) is RuntimeError and caught.value.args == ("the cause",)


def test_deadlock_names_the_task_the_slot_and_what_is_seen_there(team: Team) -> None:
    def waiter(task: ts.Task, tp: ts.Domain) -> None:
        if tp.rank == 0:
            tp.signal(("s", 2), 4, 1)
        else:
            tp.wait_until(("s", 2), ">=", 5)

    with pytest.raises(ts.DeadlockError) as caught:
        team.group(waiter, chips=[3, 1], buffers=SIGNALS)
    assert "waiter' on chip 1 waits for slot 's'[2] of domain 'tp' (rank 1) >= 5, sees 4" in str(caught.value)


def test_deadlock_names_the_first_of_several_slots(team: Team) -> None:
    def waiter(task: ts.Task, tp: ts.Domain) -> None:
        tp.wait_any([("s", 1), "u"], ">", 0)

    with pytest.raises(ts.DeadlockError) as caught:
        team.group(waiter, chips=[0, 1], buffers=SIGNALS)
    for chip in (0, 1):
        said = f"on chip {chip} waits for any of 2 signals, the first slot 's'[1] of domain 'tp' (rank {chip}) > 0"
        assert said in str(caught.value)


# ---- refusals ----


def test_what_is_no_signal_or_no_comparison_is_refused(team: Team) -> None:
    def refuse(task: ts.Task, tp: ts.Domain) -> None:
        check_refusals(
            (lambda: tp.wait_until("s", "=>", 1), ValueError, "compare is '=>': '==', '!=', '>', '>=', '<', '<='"),
            (lambda: tp.test("s", 1, 1), ValueError, "compare is 1"),  # type: ignore[arg-type]
            (lambda: tp.wait_all("s", None, 1), ValueError, "compare is None"),  # type: ignore[arg-type]
            (lambda: tp.signal("s", 1, 0, "mul"), ValueError, "op is 'mul': 'set' or 'add'"),
            (lambda: tp.signal("s", 1, 0, 1), ValueError, "op is 1"),  # type: ignore[arg-type]
            (lambda: tp.put_signal("a", b"", "s", 1, 0, "x"), ValueError, "op is 'x'"),
            (lambda: tp.signal("a", 1, 0), TypeError, "place 'a' is float32: a signal has 64 bits"),
            (lambda: tp.put_signal("a", b"", "a", 1, 0), TypeError, "signal 'a' is float32: a signal has 64 bits"),
            (lambda: tp.wait_all(["s", "a"], "==", 0), TypeError, "places[1] 'a' is float32"),
            (lambda: tp.signal(("s", 8), 1, 0), ts.ArgumentError, "place 's' has 0 bytes: a signal has 8"),
            (lambda: tp.signal(("raw", 30), 1, 0), ts.ArgumentError, "place 'raw' has 2 bytes: a signal has 8"),
            (lambda: tp.signal(("raw", 4), 1, 0), ts.ArgumentError, "a word of 8 bytes at offset"),
            (lambda: tp.wait_until(12, "==", 0), ts.ArgumentError, "a word of 8 bytes at offset 12"),
            (lambda: tp.signal_fetch(tp.window_size - 4), ts.ArgumentError, "has 4 bytes: a signal has 8"),
            (lambda: tp.signal_fetch("x"), ts.NotFoundError, "no buffer 'x'"),
            (lambda: tp.signal("s", 2**64, 0), ValueError, "value is 18446744073709551616: it does not fit 64 bits"),
            (lambda: tp.signal("s", 1.0, 0), TypeError, "value must be an int"),  # type: ignore[arg-type]
            (lambda: tp.test("s", "==", None), TypeError, "value must be an int"),  # type: ignore[arg-type]
            (lambda: tp.signal("s", 1, 1), ts.ArgumentError, "rank is 1: there are 1 ranks"),
            (lambda: tp.notify(1), ts.ArgumentError, "rank is 1: there are 1 ranks"),
            (
                lambda: tp.wait_until("s", "==", 7, -1),
                ValueError,
                "timeout is -1: a finite number of seconds from 0 on",
            ),
            (lambda: tp.wait_until("s", "==", 7, float("nan")), ValueError, "timeout is nan"),
            (lambda: tp.wait_all("s", "==", 7, float("inf")), ValueError, "timeout is inf"),
            (lambda: tp.wait_any("s", "==", 7, "x"), TypeError, "timeout must be a number of seconds or None"),  # type: ignore[arg-type]
            (lambda: tp.wait_any([], "==", 1), ts.ArgumentError, "any of 0 signals"),
            (lambda: tp.test_any([], "==", 1), ts.ArgumentError, "any of 0 signals"),
            (lambda: tp.wait_all(tp["s"][:0], "==", 1), ts.ArgumentError, "has 0 bytes: a signal has 8"),
            (lambda: tp.wait_all([None], "==", 5), TypeError, "places[0] must be the name of a buffer"),
            (lambda: tp.wait_all(5, "==", 5), TypeError, "places must be a sequence of places or one"),  # type: ignore[arg-type]
            (lambda: tp.wait_all(None, "==", 5), TypeError, "places must be a sequence of places or one"),  # type: ignore[arg-type]
            (lambda: tp.test_any(("s", 9), "==", 5), ts.ArgumentError, "places is ('s', 9): 's' has 8 elements"),
            (lambda: tp.test_any([("s", 9)], "==", 5), ts.ArgumentError, "places[0] is ('s', 9): 's' has 8 elements"),
        )
        assert not tp["s"].any()

    team.group(refuse, chips=[0], buffers=SIGNALS)

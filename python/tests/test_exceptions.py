# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What a task raises and what comes out of run: type, arguments, attributes, traceback; which of several it is."""

from __future__ import annotations

import builtins
import os
import pathlib
import pickle
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np  # noqa: F401 (for the texts of WHOLE)
import pytest
import transom as ts
from rig import Team, open_team, run_script
from transom import _child

HERE = os.path.abspath(__file__)


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    yield from open_team()


class Two(Exception):
    """Its constructor takes what it does not pass on."""

    def __init__(self, a: Any, b: Any) -> None:
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


class Changed(Exception):
    def __init__(self, n: int) -> None:
        super().__init__(f"code {n}")


class ByName(ValueError):
    def __init__(self, text: str, *, number: int) -> None:
        super().__init__(text)
        self.number = number


class WithLock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock, self.kept = threading.Lock(), 7


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoPickle(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class OtherPickle(Exception):
    def __reduce__(self) -> Any:
        return str, ("something else",)


class NoLoad(Exception):
    def __reduce__(self) -> Any:
        return int, ("x",)


class OfSystem(OSError):
    pass


class OfBoth(KeyError, AttributeError):
    pass


def raised_by(team: Team, function: Callable[..., Any], *args: Any, chip: int = 0) -> BaseException:
    with pytest.raises(BaseException) as caught:
        team.alone(function, *args, chip=chip)
    return caught.value


def make(source: str) -> BaseException:
    """The exception that the text makes, in a module that has what it needs."""
    error: BaseException = eval(source)
    return error


def raise_it(task: ts.Task, source: str) -> NoReturn:
    raise make(source)


# ---- types ----


WHOLE = [  # comes out with the same type, text, arguments and attributes
    "ValueError()",
    "ValueError('text')",
    "ValueError('two', 3, None, [4])",
    "KeyError('key')",
    "KeyError(('a', 1))",
    "IndexError('i')",
    "StopIteration(5)",
    "AssertionError('a')",
    "NotImplementedError()",
    "MemoryError('m')",
    "RecursionError('r')",
    "ImportError('i', name='n', path='p')",
    "ModuleNotFoundError('m', name='n')",
    "AttributeError('a')",
    "NameError('x')",
    "FileNotFoundError(2, 'No such file or directory', 'name')",
    "OSError(17, 'text', 'one', None, 'two')",
    "TimeoutError('t')",
    "BlockingIOError(11, 'text', 5)",
    "UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'invalid start byte')",
    "UnicodeEncodeError('ascii', '\\xe9', 0, 1, 'ordinal not in range')",
    "SyntaxError('s', ('file', 3, 4, 'a b', 3, 5))",
    "Two(1, 'x')",
    "Changed(5)",
    "ByName('text', number=3)",
    "OfSystem(5, 'input/output', 'name')",
    "OfBoth('k')",
    "NoPickle('a', 1)",
    "OtherPickle('a', 1)",
    "NoLoad('a', 1)",
    "ts.ArgumentError('mine')",
    "ts.TransomError('mine')",
    "pickle.PicklingError('p')",
    "np.exceptions.AxisError(3, 2)",
    "ExceptionGroup('g', [ValueError(1), Two(3, 4), ExceptionGroup('h', [KeyError('k')])])",
    "BaseExceptionGroup('b', [ValueError(1)])",
]


SLOTS = "errno strerror filename filename2 characters_written value name path encoding object start end reason".split()
SLOTS += "msg lineno offset text end_lineno end_offset print_file_and_line axis ndim code".split()


def facts(error: BaseException) -> tuple[Any, ...]:
    """What has to be the same, of the members of a group too."""
    state = {key: value for key, value in vars(error).items() if key != "__notes__"}
    slots = {name: getattr(error, name, None) for name in SLOTS}
    if isinstance(error, BaseExceptionGroup):
        return type(error), error.message, [facts(e) for e in error.exceptions], state
    return type(error), str(error), error.args, state, slots


def test_exception_comes_out_as_it_was(team: Team) -> None:
    for source in WHOLE:
        error = raised_by(team, raise_it, source)
        assert facts(error) == facts(make(source)), source
        assert "in raise_it" in str(error.__cause__), source


def test_exceptions_are_caught_by_their_own_classes(team: Team) -> None:
    with pytest.raises(Two) as two:
        team.alone(raise_it, "Two(1, [2])", chip=ts.SUB)
    assert (two.value.a, two.value.b) == (1, [2])
    with pytest.raises(FileNotFoundError) as missing:
        team.alone(lambda task: open("/no/such/file"), chip=1)
    assert (missing.value.errno, missing.value.filename) == (2, "/no/such/file")
    try:
        team.alone(raise_it, "ExceptionGroup('g', [ValueError(1), Two(3, 4)])")
    except* Two as group:
        assert [e.b for e in group.exceptions] == [4]
    except* ValueError as group:
        assert [e.args for e in group.exceptions] == [(1,)]


def test_class_of_the_task_itself_comes_out_by_value(team: Team) -> None:
    def raise_local(task: ts.Task) -> NoReturn:
        class Local(ValueError):
            def twice(self) -> str:
                return str(self) * 2

        raise Local("ab")

    error: Any = raised_by(team, raise_local)
    assert isinstance(error, ValueError) and type(error).__name__ == "Local"
    assert (str(error), error.twice()) == ("ab", "abab")


def test_what_cannot_travel_is_left_out_or_becomes_text(team: Team) -> None:
    error: Any = raised_by(team, raise_it, "WithLock('text')")
    assert type(error) is WithLock and (str(error), error.kept) == ("text", 7) and not hasattr(error, "lock")
    error = raised_by(team, raise_it, "ValueError('x', threading.Lock(), 3)")
    assert type(error) is ValueError and (error.args[0], error.args[2]) == ("x", 3) and "lock" in error.args[1]
    error = raised_by(team, raise_it, "NoText('argument')")
    assert type(error) is NoText and error.args == ("argument",)
    error = raised_by(team, raise_it, "ExceptionGroup('g', [WithLock('z'), ExceptionGroup('h', [NoLoad('n')])])")
    assert type(error.exceptions[0]) is WithLock and error.exceptions[0].kept == 7
    assert error.exceptions[1].exceptions[0].args == ("n",)


def test_arrays_in_an_exception_are_copies(team: Team) -> None:
    def raise_array(task: ts.Task, x: Any) -> NoReturn:
        error = ValueError("of an array", x[:2])
        error.array = x  # type: ignore[attr-defined]
        raise error

    x = team.worker.buffer(4)
    x.numpy()[:] = [1, 2, 3, 4]
    error: Any = raised_by(team, raise_array, x)
    x.numpy()[:] = 0
    assert error.args[1].tolist() == [1, 2] and error.array.tolist() == [1, 2, 3, 4]


def test_notes_are_kept_and_where_it_was_is_added(team: Team) -> None:
    def raise_with_notes(task: ts.Task) -> NoReturn:
        error = ValueError("n")
        error.add_note("one")
        error.add_note("two")
        raise error

    error = raised_by(team, raise_with_notes, chip=2)
    assert error.__notes__[:2] == ["one", "two"]
    assert re.match(r"transom: run \d+, chip 2: task '.*raise_with_notes' failed: ValueError: n", error.__notes__[2])


def test_what_would_end_a_program_comes_out_as_a_task_error(team: Team) -> None:
    pid = team.worker.pid(0)
    for source in ("SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit('g')", "Ending('e')"):
        error = raised_by(team, raise_it, source)
        assert type(error) is ts.TaskError and error.code == "TSM_ETASK_FAILED"
        assert source.partition("(")[0] in str(error) and "in raise_it" in str(error.__cause__)
        assert team.worker.pid(0) == pid
        team.alone(lambda task: None)


class Ending(BaseException):
    pass


# ---- sizes ----


def test_huge_exceptions_come_out_shortened(team: Team) -> None:
    def huge_attribute(task: ts.Task) -> NoReturn:
        error: Any = ValueError("small")
        error.data, error.kept = bytes(100000), [1]
        raise error

    def deep(task: ts.Task) -> None:
        def go(n: int) -> None:
            if n == 0:
                raise ValueError("deepest")
            try:
                go(n - 1)
            except ValueError as error:
                raise ValueError(f"level {n}") from error

        go(150)

    def endless(task: ts.Task) -> None:
        def again(n: int) -> int:
            return again(n + 1)

        again(0)

    error: Any = raised_by(team, raise_it, "ValueError('y' * 100000, 5)")
    assert type(error) is ValueError and error.args[1] == 5
    assert len(error.args[0]) < 2000 and re.fullmatch(r"y+ \.\.\. y+", error.args[0])
    error = raised_by(team, huge_attribute)
    assert (str(error), error.kept) == ("small", [1]) and not hasattr(error, "data")
    error = raised_by(team, deep)
    assert str(error) == "level 150" and "bytes left out" in str(error.__cause__)
    assert "deepest" in str(error.__cause__) and len(str(error.__cause__)) < _child.FAIL_DATA_MAX
    error = raised_by(team, endless)
    assert type(error) is RecursionError and "Previous line repeated" in str(error.__cause__)
    error = raised_by(team, raise_it, "ValueError(*range(100000))")
    assert type(error) is ts.TaskError and str(error).startswith("ValueError: (0, 1, 2")
    team.alone(lambda task: None)


EDGES = [
    lambda: ValueError("\ud800"),
    lambda: KeyError(),
    lambda: Exception(None),
    lambda: ExceptionGroup("\udcff", [KeyError("\udcff")]),
    lambda: ValueError("x" * (_child.FAIL_DATA_MAX // 2)),
    lambda: ValueError(*["q" * 500] * 40),
    lambda: ExceptionGroup("many", [ValueError("v" * 50) for _ in range(200)]),
    lambda: ValueError("l\n" * 1000),
    lambda: Two(Two(1, 2), KeyError(Two(3, 4))),
    lambda: ValueError(ValueError),
]


def test_data_of_an_exception_fit_and_can_be_read() -> None:
    for make_edge in EDGES:
        for chain in range(3):
            error: BaseException = make_edge()
            for k in range(30 * chain):
                try:
                    raise error from RuntimeError(f"cause {k}" * 20)
                except BaseException as raised:
                    error = raised
            data = _child.dump_exception(error)
            assert data is not None and len(data) <= _child.FAIL_DATA_MAX
            again = _child.load_exception(data)
            assert type(again) is type(error)
            assert isinstance(again.__cause__, _child.RemoteTraceback) and str(again.__cause__)


def test_data_are_as_large_as_they_may_be_and_no_larger() -> None:
    for size in (*range(27000, 33500, 250), 32760, 32766, 32767, 32768, 32769):
        data = _child.dump_exception(ValueError("z" * size))
        assert data is not None and len(data) <= _child.FAIL_DATA_MAX
        error = _child.load_exception(data)
        assert type(error) is ValueError and len(str(error.__cause__)) >= 4000  # room for the traceback


def test_junk_is_read_as_a_task_error() -> None:
    for junk in (b"", b"junk", pickle.dumps(None), pickle.dumps((b"", b"")), pickle.dumps((b"x", 1, 2))):
        error = _child.load_exception(junk)
        assert type(error) is ts.TaskError and "cannot be read" in str(error)
    error = _child.load_exception(pickle.dumps((pickle.dumps(5), b"line", b"text")))
    assert type(error) is ts.TaskError and str(error) == "line" and "text" in str(error.__cause__)
    error = _child.load_exception(pickle.dumps((b"junk", b"line", b"text")))
    assert type(error) is ts.TaskError and "It cannot be made again here" in str(error.__cause__)


def test_exception_is_described_in_one_line() -> None:
    for error, text in (
        (None, "an exception that is not there"),
        (ValueError("a\nb"), "ValueError: a"),
        (ValueError(), "ValueError"),
        (ValueError("\n"), "ValueError"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 388),
        (NoText(), "test_exceptions.NoText: <its text cannot be had>"),
        (ts.TaskError("t"), "transom._errors.TaskError: t"),
    ):
        assert _child.describe(error) == text


# ---- tracebacks ----


def fail_deep_inside(numbers: list[int]) -> float:
    return 1 / sum(numbers)  # the line that fails


def test_traceback_names_file_line_and_function_with_its_source(team: Team) -> None:
    def outer(task: ts.Task) -> float:
        return fail_deep_inside([1, -1])  # of the closure

    error = raised_by(team, outer)
    text = str(error.__cause__)
    inside = fail_deep_inside.__code__.co_firstlineno + 1
    assert f'File "{HERE}", line {outer.__code__.co_firstlineno + 1}, in outer\n' in text
    assert "    return fail_deep_inside([1, -1])  # of the closure\n" in text
    assert f'File "{HERE}", line {inside}, in fail_deep_inside\n' in text
    assert "    return 1 / sum(numbers)  # the line that fails\n" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "_child" not in text and text.count('File "') == 2
    printed = "".join(traceback.format_exception(error))
    assert text in printed and "The above exception was the direct cause of the following exception" in printed
    assert printed.index("in fail_deep_inside") < printed.index("direct cause") < printed.index("in raised_by")


def test_traceback_has_what_the_exception_came_of(team: Team) -> None:
    def chained(task: ts.Task) -> None:
        try:
            fail_deep_inside([])
        except ZeroDivisionError as error:
            raise KeyError("k") from error

    def in_passing(task: ts.Task) -> None:
        try:
            fail_deep_inside([])
        except ZeroDivisionError:
            builtins.nothing  # type: ignore[attr-defined]  # noqa: B018

    def only_this(task: ts.Task) -> None:
        try:
            fail_deep_inside([])
        except ZeroDivisionError:
            raise KeyError("k") from None

    error = raised_by(team, chained)
    assert type(error) is KeyError and "direct cause" in str(error.__cause__)
    assert "ZeroDivisionError: division by zero" in str(error.__cause__)
    error = raised_by(team, in_passing)
    assert type(error) is AttributeError and "During handling of the above exception" in str(error.__cause__)
    error = raised_by(team, only_this)
    assert "ZeroDivisionError" not in str(error.__cause__)


SCRIPT = """\
import sys, traceback
import transom as ts

class Mine(Exception):
    def __init__(self, text, number):
        super().__init__(text)
        self.number = number

def inner(x):
    raise Mine("of the script", x)  # here

def outer(task):
    inner(5)

try:
    raise LookupError("of the program")
except LookupError:
    w = ts.Worker(2, start_method=sys.argv[1])
    before = w.register(outer)
    w.init()
for function in (before, w.register(outer), w.register(lambda task: inner(6))):
    try:
        w.run(lambda orch, args, config: orch.submit(function, chip=1))
    except Mine as error:
        print(type(error) is Mine, error.number, error.args, "LookupError" in str(error.__cause__))
        print(error.__cause__)
if len(sys.argv) > 2:
    w.run(lambda orch, args, config: orch.submit(before, chip=1))
w.close()
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_traceback_of_a_script_has_its_lines(tmp_path: pathlib.Path, method: str) -> None:
    path = tmp_path / "script.py"
    done = run_script(path, SCRIPT, method)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("True 5 ('of the script',) False\n") == 2
    assert done.stdout.count("True 6 ('of the script',) False\n") == 1
    assert done.stdout.count(f'  File "{path}", line 10, in inner\n    raise Mine("of the script", x)  # here\n') == 3
    assert done.stdout.count(f'  File "{path}", line 13, in outer\n    inner(5)\n') == 2
    assert done.stdout.count(f'  File "{path}", line 21, in <lambda>\n') == 1


def test_exception_that_nobody_catches_is_printed_with_the_traceback_of_the_chip(tmp_path: pathlib.Path) -> None:
    done = run_script(tmp_path / "script.py", SCRIPT, "fork", "uncaught")
    assert done.returncode == 1
    assert done.stderr.index('raise Mine("of the script", x)  # here') < done.stderr.index("direct cause")
    assert "\n__main__.Mine: of the script\n" in done.stderr or "\nMine: of the script\n" in done.stderr
    assert "transom: run 4, chip 1: task 'outer' failed: Mine: of the script" in done.stderr


# ---- several ----


def test_first_exception_in_time_comes_out_and_the_other_is_named(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> None:
        tp.sync()  # whose task has not begun would be skipped
        if tp.rank == 1:
            raise Two("the", "first")
        try:
            tp.wait_until("s", "==", 1)
        except ts.AbortedError:
            raise KeyError("the second") from None

    for _ in range(5):
        with pytest.raises(Two) as caught:
            team.group(member, chips=[0, 3])
        error = caught.value
        assert error.args == ("the and first",) and "the second" not in str(error.__cause__)
        (note,) = error.__notes__
        first, _, then = note.partition("\nthen: ")
        assert "chip 3" in first and "failed: test_exceptions.Two: the and first" in first
        assert "failed: KeyError: 'the second'" in then


def test_consequences_do_not_hide_the_cause(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain, how: str) -> None:
        if tp.rank == 0:
            tp.wait_all(("s", 1, 3), "==", 1)  # all others are in their waits, or will come to them
            raise Two("the", "cause")
        tp.signal(("s", tp.rank), 1, 0)
        if how == "wait":
            tp.wait_until("s", "==", 1)
        elif how == "collective":
            tp.split([1, 2, 3]).all_reduce("a")  # type: ignore[union-attr]
            tp.barrier()
        else:
            try:
                tp.barrier()
            finally:
                tp.signal("s", 1, 0)

    for how in ("wait", "collective", "finally"):
        with pytest.raises(Two) as caught:
            team.group(member, how)
        assert len(caught.value.__notes__) == 1 and "then" not in caught.value.__notes__[0]


def test_abort_of_a_domain_does_not_hide_why_it_was_aborted(team: Team) -> None:
    """Not even when the others have failed first."""

    def member(task: ts.Task, tp: ts.Domain) -> None:
        if tp.rank == 0:
            tp.abort(-9)
            while tp.status()[0] != "aborted":  # until their PeerError has failed the run
                pass
            raise Two("why", "aborted")
        tp.wait_until("s", "==", 1)

    for _ in range(5):
        with pytest.raises(Two) as caught:
            team.group(member, chips=[0, 1, 2])
        assert "PeerError" in caught.value.__notes__[0].partition("\nthen: ")[2]


def test_all_members_may_raise_at_once(team: Team) -> None:
    def member(task: ts.Task, tp: ts.Domain) -> NoReturn:
        tp.sync()
        raise Two(tp.rank, "x" * 1000)

    for _ in range(10):
        with pytest.raises(Two) as caught:
            team.group(member)
        assert caught.value.a in range(4)

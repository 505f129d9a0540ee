# SPDX-License-Identifier: GPL-2.0-or-later
"""Twice the input takes about twice the steps, whatever the input is.

A step is a line of kgbuild that is run (sys.settrace). What the interpreter does by itself, a regular expression for
one, makes no steps; so each kind is read once more in a size at which the square of it would take minutes, and a read
that does not end is stopped.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kgbuild.errors import KgbuildError
from tests.support.large import KINDS, Read

PACKAGE = str(Path(__file__).resolve().parents[2] / "kgbuild")
SMALL, LARGE = 60, 5_000
# Seconds of processor time; the slowest takes less than one. What takes the square of the size is stopped where a pair
# of pieces takes more than PATIENCE / LARGE**2: half the size finds as much in a quarter of the time.
PATIENCE = 2.5


def run(read: Read) -> str:
    """Read; the name of the error it ends with, if any."""
    try:
        read()
    except KgbuildError as error:
        return type(error).__name__
    return ""


def steps(read: Read) -> int:
    """Lines of kgbuild that are run."""
    count = 0

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        del argument
        count += event == "line"
        return line if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(line)
    try:
        run(read)
    finally:
        sys.settrace(before)
    return count


@contextmanager
def patience() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError("takes much more than its size allows")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_input_takes_twice_the_steps(kind: str) -> None:
    run(KINDS[kind](2))  # what is made once is made
    once, twice, four = (steps(KINDS[kind](SMALL * factor)) for factor in (1, 2, 4))
    assert twice <= 2.5 * once and four <= 2.5 * twice, (once, twice, four)


@pytest.mark.parametrize("kind", KINDS)
def test_large_input_ends(kind: str) -> None:
    read = KINDS[kind](LARGE)
    with patience():
        run(read)


def test_what_takes_the_square_is_seen() -> None:
    """The test itself: a reader that looks at everything before for each piece."""

    def kind(size: int) -> Read:
        from kgbuild.shown_text import escape_controls

        return lambda: [escape_controls("\n\a") for i in range(size) for _ in range(i)]

    once, twice, four = (steps(kind(factor * 50)) for factor in (1, 2, 4))
    assert four > 3 * twice > 9 * once

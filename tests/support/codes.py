# SPDX-License-Identifier: GPL-2.0-or-later
"""Every code of kgbuild's (refusal, warning, finding) is raised by a test, or the run of the tests fails.

While tests run, each refusal, warning and finding that kgbuild's own code makes is noted, with the test file it is made
for; one that a test makes itself is not. A code counts as tested where such a file names it too, itself or by its
constant, so that what merely happens on the way does not count. What only a patch for a real kernel can raise is a row
of bad.toml or hazards.toml, whose tests compare all codes of a build with the row (test_bad.py, test_hazards.py).

The check is made at the end of a run of all test files of tests/unit, tests/tools and tests/objects, also where
pytest-xdist shares them out; a run of some of them tells nothing, and is not judged.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kgbuild.diagnostics import guest_findings, module_findings, warnings
from kgbuild.diagnostics.refusals import RULES, Refusal
from kgbuild.model import Finding

TESTS = Path(__file__).resolve().parents[1]
FOLDERS = ("unit", "tools", "objects")
# Which key of a case holds codes that its test expects to be all of them.
TABLES = {"kernel/bad/bad.toml": "codes", "kernel/hazards/hazards.toml": "refused"}
_PACKAGE = str(TESTS.parent / "kgbuild") + "/"
# What only hands on who makes a value: this file, the classes' own code, and the function that makes findings.
_BETWEEN = (str(Path(__file__).resolve()), "<string>", module_findings.finding.__code__.co_filename)

Record = dict[str, set[str]]
"""Codes, each with the test files for which it was raised (relative to tests/)."""


def registry() -> list[str]:
    """Every code there is a rule for: refusals, warnings, findings in modules and guests."""
    return [*RULES, *warnings.RULES, *module_findings.RULES, *guest_findings.RULES]


class Recorder:
    """Notes what is raised by kgbuild's code. `current` is the test file that runs; nothing is noted where it is ""."""

    def __init__(self) -> None:
        self.current = ""
        self.record: Record = {}

    def note(self, code: str) -> None:
        """Note a code if the frame that made the value, above those of _BETWEEN, is kgbuild's."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename in _BETWEEN:
            frame = frame.f_back
        if self.current and frame.f_code.co_filename.startswith(_PACKAGE):
            self.record.setdefault(code, set()).add(self.current)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this, values are noted as they are made."""
        with ExitStack() as stack:
            for kind in (Refusal, warnings.ConsistencyWarning, Finding):
                stack.enter_context(_wrapped(kind, self.note))
            yield


@contextmanager
def _wrapped(kind: type[Any], note: Callable[[str], None]) -> Iterator[None]:
    made = kind.__init__

    def init(self: Any, *args: Any, **words: Any) -> None:
        made(self, *args, **words)
        note(self.code)

    kind.__init__ = init
    try:
        yield
    finally:
        kind.__init__ = made


def expected_by_tables() -> set[str]:
    """The codes that the cases for a real kernel expect."""
    out: set[str] = set()
    for table, key in TABLES.items():
        for case in tomllib.loads((TESTS / table).read_text())["case"]:
            out.update(case.get(key, ()))
    return out


def untested(record: Mapping[str, Collection[str]], others: Collection[str], codes: Iterable[str]) -> list[str]:
    """Which of `codes` no test raises: neither one of `others`, nor raised for a test file that names it."""
    texts: dict[str, str] = {}
    constants = {
        value: rf"\b{name}\b"
        for name, value in vars(warnings).items()
        if isinstance(value, str) and value in warnings.RULES
    }

    def names(file: str, code: str) -> bool:
        if file not in texts:
            texts[file] = (TESTS / file).read_text()
        return code in texts[file] or bool(code in constants and re.search(constants[code], texts[file]))

    return [c for c in codes if c not in others and not any(names(file, c) for file in record.get(c, ()))]


def is_whole(files: Collection[str]) -> bool:
    """Whether these test files are all of tests/unit, tests/tools and tests/objects."""
    every = {str(path.relative_to(TESTS)) for folder in FOLDERS for path in (TESTS / folder).rglob("test_*.py")}
    return every <= set(files)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks at the end of a whole run that each code is raised by a test (support/codes.py), and that each JSON document
keeps to its schema (support/documents.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.codes import TESTS, Record, Recorder, expected_by_tables, is_whole, registry, untested
from tests.support.documents import watching

RECORDER = pytest.StashKey[Recorder]()
LISTENING = pytest.StashKey[ExitStack]()
RECORD = pytest.StashKey[Record]()
FILES = pytest.StashKey[set[str]]()
CODES, RAN = "kgbuild_codes", "kgbuild_files"
# Options that leave tests out.
_PARTLY = ("keyword", "markexpr", "deselect", "lf", "stepwise", "collectonly")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDER] = recorder = Recorder()
    config.stash[RECORD] = recorder.record
    config.stash[FILES] = set()
    config.stash[LISTENING] = stack = ExitStack()
    stack.enter_context(recorder.listening())
    stack.enter_context(watching())


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[LISTENING].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    recorder = item.config.stash[RECORDER]
    if TESTS in item.path.parents:
        recorder.current = str(item.path.relative_to(TESTS))
        item.config.stash[FILES].add(recorder.current)
    try:
        return (yield)
    finally:
        recorder.current = ""


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """pytest-xdist: a worker has ended; what it noted comes with it."""
    output = getattr(node, "workeroutput", {})
    record = node.config.stash[RECORD]
    for code, files in output.get(CODES, {}).items():
        record.setdefault(code, set()).update(files)
    node.config.stash[FILES].update(output.get(RAN, ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output[CODES] = {code: sorted(files) for code, files in config.stash[RECORD].items()}
        output[RAN] = sorted(config.stash[FILES])
        return
    if any(getattr(config.option, name, None) for name in _PARTLY) or not is_whole(config.stash[FILES]):
        return
    missing = untested(config.stash[RECORD], expected_by_tables(), registry())
    if missing:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nno test raises {', '.join(missing)} (tests/support/codes.py)", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

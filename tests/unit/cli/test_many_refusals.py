# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of reasons are a summary on the terminal, and a file."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from kgbuild.cli import ui
from kgbuild.diagnostics.refusals import Refusal, Refused


@pytest.mark.parametrize("count", [20_000, ui.MOST_REFUSALS + 1])
def test_many(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    refusals = [Refusal("P1-apply" if n % 2 else "K1-data", f"fs/{n}.c", f"fact {n}") for n in range(count)]
    ui.show_error(Refused(refusals))
    said = capsys.readouterr().err
    assert said.startswith(f"refused   {count} reasons")
    assert len(said.splitlines()) < 60
    assert f"{(count + 1) // 2:>7}  K1-data" in said and f"{count // 2:>7}  P1-apply" in said
    (file,) = tmp_path.iterdir()
    assert str(file) in said
    assert len(re.findall(r"^[KP]1-", file.read_text(), re.MULTILINE)) == count


def test_few_are_all_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ui.show_error(Refused([Refusal("P1-apply", f"fs/{n}.c", "x") for n in range(ui.MOST_REFUSALS)]))
    assert capsys.readouterr().err.count("P1-apply") == ui.MOST_REFUSALS
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_fault(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    ui.show_error(Refused([Refusal("P1-apply", f"fs/{n}.c", "x") for n in range(1000)]))
    assert "All are in the file of --report" in capsys.readouterr().err

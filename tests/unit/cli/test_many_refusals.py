# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of reasons are a summary on the terminal, and a file."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import jsonschema
import pytest

from kgbuild.cli import ui
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.report.build import refusal_report
from kgbuild.report.documents import error_document, error_rows
from kgbuild.report.formats.annotations import annotations_of

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "schema"


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
    ui.show_error(Refused([Refusal("P1-apply", f"fs/{n}.c", f"fact {n}") for n in range(ui.MOST_REFUSALS)]))
    assert capsys.readouterr().err.count("P1-apply") == ui.MOST_REFUSALS
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_fault(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    ui.show_error(Refused([Refusal("P1-apply", f"fs/{n}.c", f"fact {n}") for n in range(1000)]))
    assert "All are in the file of --report" in capsys.readouterr().err


def test_one_fact_is_one_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """In text, and in the rows of JSON and of what is made of them."""
    grown = [Refusal("K9-type-layout", f"fs/{n:02}.c: struct s", "grows", symbol="s") for n in range(40)]
    found = Refused([*grown, Refusal("K9-type-layout", "fs/01.c: struct t", "grows", symbol="t")])
    ui.show_error(found)
    said = capsys.readouterr().err
    assert said.startswith("refused   2 reasons\n")
    assert (
        "K9-type-layout   fs/00.c: struct s\n  also fs/01.c: struct s, fs/02.c: struct s and 37 more places\n" in said
    )
    assert "fs/03.c" not in said
    rows = error_rows(found)
    assert rows == [
        {k: v for k, v in row.items() if k not in ("symbol", "section")} for row in refusal_report(found.refusals)
    ]
    assert [(row["place"], len(row.get("places", ()))) for row in rows] == [
        ("fs/00.c: struct s", 40),
        ("fs/01.c: struct t", 0),
    ]
    schema = json.loads((SCHEMA / "error-1.json").read_text())
    jsonschema.validate(error_document("build", 1, rows), schema)
    (first, _) = annotations_of({"errors": rows})
    assert "37 more places" in first.text


def test_units_that_were_not_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    ui.show_error(Refused([Refusal("K1-data", "fs/a.c: t", "changes")], unexamined=97))
    assert "97 units were not looked at" in capsys.readouterr().err

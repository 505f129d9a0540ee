# SPDX-License-Identifier: GPL-2.0-or-later
"""From a hunk to the function that is redirected: `impact`, `why` and `explain` of a function that gcc inlined."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kgbuild.cli.main import main
from tests.support.cache_cases import tiny_place
from tests.support.documents import check_document

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_place(tmp_path_factory.mktemp("edited"))


@pytest.fixture
def call(place: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, str(place / "fix.patch"), "--kernel", "local:tiny"])

    return run


def test_impact_begins_with_the_hunk(call: Call) -> None:
    said = call("impact").output
    (line,) = re.findall(r"^edit +(.*)", said, re.MULTILINE)
    assert line.startswith("twice ") and "hunk 1, include/tiny.h:1" in line
    assert "inlined into one" in line and "inlined into shared" in line


def test_the_edges_are_in_every_graph(call: Call) -> None:
    document = check_document(call("impact", "--format", "json").stdout)
    (edit,) = document["edits"]
    assert {r["function"] for r in edit["results"] if r["how"] == "inlined" and r["role"]} >= {"one", "shared"}
    assert document["hunks"][edit["hunks"][0]]["path"] == "include/tiny.h"
    assert any(row["function"] == "one" and row["blocks"] for row in document["code"])
    dot = call("impact", "--format", "dot").stdout
    assert "gcc inlined it" in dot and "hunk 1" in dot
    graphml = call("impact", "--format", "graphml").stdout
    assert "gcc inlined it" in graphml and ">source<" in graphml


def test_why_of_the_edited_function(call: Call) -> None:
    for _ in range(2):  # the second answer is one that was kept
        said = call("why", "twice").output
        assert "twice is edited by hunk 1 (include/tiny.h:1)" in said
        assert re.search(r"gcc inlined it into +one +fs/one.c", said)
        assert "one is in the patch because" in said
    found = json.loads(call("why", "twice", "--format", "json").stdout)
    assert [row["name"] for row in found["edited"]] == ["twice"] and found["in_patch"]


def test_why_of_what_holds_it_begins_with_the_edit(call: Call) -> None:
    found = json.loads(call("why", "one", "--format", "json").stdout)
    assert [(step["role"], step["function"]) for step in found["chains"][0]] == [
        ("edited", "twice"),
        ("changed", "one"),
    ]


def test_explain(call: Call) -> None:
    said = call("explain", "twice").output
    assert "gcc inlined it into" in said and "one   changed" in said
    assert "original: one" in said and "patched: one" in said and re.search("^(▶|=>)", said, re.MULTILINE)
    document = check_document(call("explain", "one", "--format", "json").stdout)
    (code,) = document["code"]
    rows = [row for block in code["blocks"] for row in block["rows"]]
    assert sum(row["first"] for row in rows) == 1
    assert call("explain", "one", "--quiet").output == "one in fs/one.c: changed\n"


def test_explain_of_another_function(call: Call) -> None:
    done = call("explain", "onne")
    assert done.exit_code != 0 and "near: one" in str(getattr(done.exception, "remedy", ""))

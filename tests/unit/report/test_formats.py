# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats for merge requests and CI: each is read by a parser that people use, also where every text is hostile."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from junitparser import JUnitXml, TestSuite
from markdown_it import MarkdownIt
from mermaid_parser.parser import MermaidParser
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from kgbuild.report.documents import error_document, error_row
from kgbuild.report.formats import FOR_REVIEW, FORMATS, Answer, render
from kgbuild.report.formats.drawing import Drawing, DrawnArrow, DrawnNode
from kgbuild.report.formats.markdown import MOST_LINES
from kgbuild.report.formats.mermaid import render_flowchart
from tests.support.documents import check_document
from tests.support.injections import INJECTIONS, MARK, hostile
from tests.support.reports import NAMES, report

EVERYTHING = "".join(INJECTIONS)
DOCUMENTS: dict[str, dict[str, Any]] = {
    **{name: report(name) for name in NAMES},
    "usage": error_document("build", 2, [error_row("E1-usage", "no such option", "kgbuild build", "see --help")]),
    "nothing": error_document("", 3, []),
}


def rendered(document: dict[str, Any], form: str) -> str:
    return render(Answer(lambda: document), form)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"release"}))  # its schema comes with that command
def test_the_reports_of_these_tests_keep_to_their_schemas(name: str) -> None:
    check_document(json.dumps(report(name)))


@pytest.mark.parametrize("form", FOR_REVIEW)
def test_a_failed_run_has_them_too(form: str) -> None:
    assert FORMATS[form].of_data


def read_sarif(text: str) -> dict[str, Any]:
    document = json.loads(text)
    Sarif.model_validate(document)
    assert document["version"] == "2.1.0" and document["$schema"].endswith("sarif-schema-2.1.0.json")
    run: dict[str, Any] = document["runs"][0]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return run


def read_junit(text: str) -> TestSuite:
    (suite,) = JUnitXml.fromstring(text.encode())
    counted = {"failures": suite.failures, "errors": suite.errors, "skipped": suite.skipped, "tests": suite.tests}
    suite.update_statistics()
    assert counted["tests"] == suite.tests == len(list(suite)) and counted["failures"] == suite.failures
    assert (counted["errors"], counted["skipped"]) == (suite.errors, suite.skipped)
    return suite


# As GitHub's runner reads a line (actions/runner, ActionCommand.cs): ::NAME PROPERTIES::DATA
_COMMAND = re.compile(r"::(?P<name>[a-z-]+)(?: (?P<properties>[^:]*(?:(?!::):[^:]*)*))?::(?P<data>.*)")


def read_github(text: str) -> list[tuple[str, dict[str, str], str]]:
    out = []
    for line in text.splitlines():
        found = _COMMAND.fullmatch(line)
        assert found is not None, line
        pairs = [part.partition("=") for part in (found["properties"] or "").split(",")]
        out.append((found["name"], {key: value for key, _, value in pairs}, found["data"]))
    return out


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
@pytest.mark.parametrize("text", ["", EVERYTHING], ids=["as it is", "hostile"])
def test_each_is_read_by_its_parser(name: str, text: str) -> None:
    document = hostile(DOCUMENTS[name], text) if text else DOCUMENTS[name]
    assert len(read_sarif(rendered(document, "sarif"))["results"]) == len(document["errors"]) + len(
        [*document.get("warnings", ()), *document.get("consistency", ())]
    )
    suite = read_junit(rendered(document, "junit"))
    assert suite.tests == max(len(document.get("stages", document.get("phases", document.get("kernels", ())))), 1)
    commands = read_github(rendered(document, "github"))
    assert {command for command, _, _ in commands} <= {"error", "warning", "notice"}
    assert commands[-1][0] == "notice"


@pytest.mark.parametrize(
    ("name", "path", "line"), [("bad-data-value", "kernel/acct.c", 73), ("bad-export-type", "fs/mbcache.c", 0)]
)
def test_a_refusal_is_at_the_changed_line_of_the_patched_source(name: str, path: str, line: int) -> None:
    document = report(name)
    result = read_sarif(rendered(document, "sarif"))["results"][0]
    place = result["locations"][0]["physicalLocation"]
    assert (result["level"], place["artifactLocation"]["uri"]) == ("error", path)
    changed = [hunk["patched_line"] for hunk in document["hunks"] if hunk["path"] == path]
    assert place["region"]["startLine"] in ([line] if line else changed)
    (command, properties, data), *_ = read_github(rendered(document, "github"))
    assert (command, properties["file"], properties["line"]) == ("error", path, str(place["region"]["startLine"]))
    assert document["errors"][0]["fact"] in data


def test_the_case_of_the_stage_that_refused_fails() -> None:
    suite = read_junit(rendered(report("bad-data-value"), "junit"))
    cases = list(suite)
    assert [bool(case.result) for case in cases] == [False] * (len(cases) - 1) + [True]
    assert cases[-1].result[0].message.startswith("K1-data: changed initial value")


def test_a_case_for_each_phase_of_a_guest() -> None:
    phase = {"patch": "a.ko", "seconds": 0.5, "commands": [], "faults": [], "fact": "it is", "phase": "load"}
    document = {
        "schema": "kgbuild/vm/1",
        "phases": [{**phase, "ok": True}, {**phase, "phase": "after", "ok": False, "fact": "it is not"}],
        "errors": [error_row("V1-check", "it is not")],
        "exit_status": 1,
    }
    suite = read_junit(rendered(document, "junit"))
    assert [(case.name, bool(case.result)) for case in suite] == [("load", False), ("after", True)]


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_comment_is_short(name: str) -> None:
    text = rendered(DOCUMENTS[name], "markdown")
    assert 1 <= len(text.splitlines()) <= MOST_LINES
    assert text.count("<details>") == text.count("</details>")


def test_a_long_comment_is_short_too() -> None:
    document = report("pulled")
    for key in ("changed", "consistency", "units", "edits"):
        document[key] = document[key] * 100
    document["errors"] = [error_row("K1-data", "fact", "place", "remedy")] * 100
    text = rendered(document, "markdown")
    assert len(text.splitlines()) <= MOST_LINES and text.count("<details>") == text.count("</details>")
    assert "and 92 more" in text


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_no_text_breaks_out_of_a_comment(text: str) -> None:
    """As Markdown and as the HTML that it becomes: of hostile texts come no element, link, heading or list but ours."""
    reader = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    for name in ("pulled", "bad-data-value"):
        plain, marked = (
            reader.parse(rendered(document, "markdown")) for document in (report(name), hostile(report(name), text))
        )
        assert [token.type for token in marked] == [token.type for token in plain]
        html = reader.render(rendered(hostile(report(name), text), "markdown"))
        assert not re.search(r"<(?!/?(?:p|h3|strong|code|table|thead|tbody|tr|t[hd]|ul|li|br|details|summary)\b)", html)
        assert not re.search(
            r"(?<![&\w])@[a-z]|(?<![&\w])#\d|https?://", rendered(hostile({**report(name)}, text), "markdown")
        )


NODES = (
    DrawnNode("a", {"label": "first\nchanged", "style": "bold"}),
    DrawnNode("b", {"label": "hunk 1", "shape": "note"}),
)


def test_a_flowchart_is_read_by_mermaid() -> None:
    parser = MermaidParser()
    for text in ("", *INJECTIONS):
        nodes = [DrawnNode(n.id, {**n.attributes, "label": n.attributes["label"] + text}) for n in NODES]
        drawing = Drawing("patch", (), (*nodes, DrawnArrow("a", "b", {"label": f"because{text}"})))
        found = parser.parse("\n".join(render_flowchart(drawing)) + "\n")["graph_data"]
        assert {vertex for vertex, _ in _pairs(found["vertices"])} == {"n_a", "n_b"}, text
        assert [(edge["start"], edge["end"]) for edge in found["edges"]] == [("n_a", "n_b")], text
        assert MARK not in json.dumps(found["edges"]) or "<" not in found["edges"][0]["text"]


def _pairs(vertices: Any) -> list[tuple[str, Any]]:
    return list(vertices.items()) if isinstance(vertices, dict) else [(pair[0], pair[1]) for pair in vertices]


def test_keys_read_at_run_time_are_told() -> None:
    row = {"unit": "a.c", "function": "f", "object": "m", "kind": "static key", "name": "on", "sites": 2}
    rows = [row, row | {"function": "g"}, row | {"kind": "static call", "name": "pick"}]
    document = report("pulled") | {"read_keys": rows}
    check_document(json.dumps(document))
    assert (
        "1 static key and 1 static call read at run time: `on`, `pick`" in rendered(document, "markdown").splitlines()
    )
    assert "read at run time" not in rendered(report("pulled"), "markdown")

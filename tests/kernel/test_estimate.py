# SPDX-License-Identifier: GPL-2.0-or-later
"""The estimate without compiling, held against the compiled answer on real fixes; and the command that gives it.

The comparison is that of benchmarks/estimate.py, on the files that test_fixes.py compares too: whichever runs first
compiles them, the other finds the objects in the cache.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest

from benchmarks.estimate import CHOSEN, PAGE, Agreement, Fix, measure
from kgbuild.model import Kernel
from tests.support.booting.cases import kgbuild

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "schema" / "estimate-1.json").read_text())
FIX = ROOT / "examples" / "proc-version" / "fix.patch"


@pytest.fixture(scope="module")
def agreement() -> Agreement:
    return measure(CHOSEN.read_text().split())


def test_it_agrees_with_the_compiled_answer(agreement: Agreement, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("", *agreement.lines(), sep="\n")
    assert len(agreement.fixes) >= 40
    assert sum(len(f.compiled) for f in agreement.fixes) >= 40
    assert agreement.precision >= 0.85
    assert agreement.recall >= 0.9


def test_no_refusal_is_foretold_that_does_not_come(agreement: Agreement) -> None:
    assert any(f.foretold for f in agreement.fixes)
    assert not [f.path for f in agreement.fixes if f.foretold and not f.refused]


def test_the_page_has_these_figures(agreement: Agreement) -> None:
    """What a reader is told is what is measured: the page is written by benchmarks/estimate.py --write. It may be two
    hundredths off, so that not every change of a rule of the comparison needs it written anew."""
    told = re.search(r"<!-- chosen -->\n(\d+) fixes, .*precision ([\d.]+), recall ([\d.]+),", PAGE.read_text())
    assert told is not None
    assert int(told[1]) == len(agreement.fixes)
    assert float(told[2]) == pytest.approx(agreement.precision, abs=0.02)
    assert float(told[3]) == pytest.approx(agreement.recall, abs=0.02)


def test_figures_fall_where_answers_do() -> None:
    """Names that are wrong or missing lower the figures, and are printed."""
    a, b, c = (("vmlinux", n) for n in "abc")
    none: frozenset[str] = frozenset()
    found = Agreement([Fix("x.c", frozenset({a, b}), frozenset({a, c}), none, frozenset({"K3-init"}), none, 0.1)])
    assert (found.precision, found.recall, found.exact) == (0.5, 0.5, 0)
    said = "\n".join(found.lines())
    assert "only estimated: c" in said and "only compiled: b" in said and "foretold (K3-init)" in said


def test_the_command(kernel_name: str) -> None:
    ran = kgbuild("impact", FIX, "--kernel", kernel_name, "--no-compile")
    assert ran.status == 0, ran.stderr
    first, second, third = ran.stdout.splitlines()[:3]
    assert re.fullmatch(
        r"estimate from the kernel's debug information \(\d+\.\d s; compile for the exact answer\)", first
    )
    assert second == "1 function to patch, 0 pulled in, 0 refused"
    assert "version_proc_show" in third and "hunk 1" in third


def test_every_form(kernel: Kernel, kernel_name: str, tmp_path: Path) -> None:
    out = {form: tmp_path / form for form in ("json", "dot", "graphml")}
    for form, path in out.items():
        ran = kgbuild("impact", FIX, "--kernel", kernel_name, "--no-compile", "--format", form, "-o", path)
        assert ran.status == 0, ran.stderr
    report = json.loads(out["json"].read_text())
    jsonschema.validate(report, SCHEMA)
    assert report["estimate"] is True
    assert report["kernel"]["build_id"] == kernel.id.build_id
    assert [row["function"] for row in report["changed"]] == ["version_proc_show"]
    assert "version_proc_show" in out["dot"].read_text()
    assert graphml_of(out["graphml"]) == {("version_proc_show", "changed")}


def test_graphml_of_the_compiled_answer(kernel_name: str, tmp_path: Path) -> None:
    path = tmp_path / "patch.graphml"
    ran = kgbuild("impact", FIX, "--kernel", kernel_name, "--format", "graphml", "-o", path)
    assert ran.status == 0, ran.stderr
    edited = {("hunk 1", "hunk"), ("version_proc_show", "source")}
    assert graphml_of(path) == {("version_proc_show", "changed"), *edited}


def graphml_of(path: Path) -> set[tuple[str, str]]:
    """Each node of a GraphML file: its name and its role."""
    space = "{http://graphml.graphdrawing.org/xmlns}"
    tree = ET.parse(path)
    keys = {key.get("id"): key.get("attr.name") for key in tree.iter(f"{space}key")}
    nodes = [
        {keys[d.get("key")]: d.text or "" for d in node.iter(f"{space}data")} for node in tree.iter(f"{space}node")
    ]
    return {(node["name"], node["role"]) for node in nodes}


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("drivers/nothing/here.c", 1, "P1-apply"),
        ("scripts/mod/modpost.c", 1, "P2-build-system"),
        ("arch/x86/entry/entry_64.S", 1, "P3-not-c"),
        ("Documentation/index.rst", 4, "no kernel code"),
    ],
)
def test_what_is_refused_for_certain(text: str, status: int, says: str, kernel_name: str, tmp_path: Path) -> None:
    patch = tmp_path / "x.patch"
    patch.write_text(f"--- a/{text}\n+++ b/{text}\n@@ -1,1 +1,1 @@\n-nothing\n+else\n")
    ran = kgbuild("impact", patch, "--kernel", kernel_name, "--no-compile")
    assert ran.status == status, ran.stdout + ran.stderr
    assert says in ran.stderr

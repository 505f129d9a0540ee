# SPDX-License-Identifier: GPL-2.0-or-later
"""`why`: which of several functions of a name is meant, and the form of the answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest

from kgbuild.callgraph.edge_kinds import EdgeKind
from kgbuild.closure.model import Closure
from kgbuild.errors import UserError
from kgbuild.report.build import closure_report
from kgbuild.report.chains import chains_in, chains_of
from kgbuild.report.why import choose_chains, parse_chains, references_of, render_chain, why_report
from tests.support.kernel import GivenGraph, close_units

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs/schema/why-1.json").read_text())
BY = """
#ifdef PATCHED
#define BY 5
#else
#define BY 3
#endif
"""
# two functions of one name; in one unit it is changed, in the other it comes along
TEXTS = {
    "net/a.c": BY
    + """
    notrace noinline int deep(int x) { barrier(); return source(x) * BY; }
    static noinline used int show(int x) { barrier(); return source(x) - BY; }
    """,
    "net/b.c": "extern int deep(int); static noinline used int show(int x) { barrier(); return deep(x) + 1; }",
}


@pytest.fixture(scope="module")
def closure() -> Closure:
    texts = {Path(name).name: text for name, text in TEXTS.items()}
    c = close_units(texts, GivenGraph({"deep": [("show", "b.c", EdgeKind.CALL)]}))
    assert not c.refusals
    return c


def chain(closure: Closure, wanted: str) -> list[list[tuple[str, str]]]:
    return [[(s.function, s.unit) for s in steps] for steps in chains_of(closure, wanted)]


IN_A, IN_B = [("show", "a.c")], [("deep", "a.c"), ("show", "b.c")]


@pytest.mark.parametrize(
    ("wanted", "chains"),
    [
        ("show", [IN_A, IN_B]),
        ("show@a.c", [IN_A]),
        ("show@b.c", [IN_B]),
        ("show@vmlinux", [IN_A, IN_B]),
        ("show,1", [IN_A]),
        ("show,2", [IN_B]),
        ("show@b.c,2", [IN_B]),
        ("show@b.c,1", []),
        ("show@c.c", []),
        ("show,9", []),
        ("hsow", []),
    ],
)
def test_names_that_choose(closure: Closure, wanted: str, chains: list[list[tuple[str, str]]]) -> None:
    assert chain(closure, wanted) == chains


def test_chains_that_were_kept_are_the_same(closure: Closure) -> None:
    chains = chains_in(closure)
    kept = json.loads(json.dumps([asdict(c) for c in chains]))
    assert parse_chains(kept) == chains
    assert choose_chains(parse_chains(kept), "show@b.c") == chains_of(closure, "show@b.c")


def test_a_position_is_a_number(closure: Closure) -> None:
    with pytest.raises(UserError, match="is no position"):
        chains_of(closure, "show,first")


def test_each_step_says_why(closure: Closure) -> None:
    (steps,) = chains_of(closure, "show@b.c")
    text = "\n".join(render_chain(steps))
    assert "show is in the patch because" in text and "can't be redirected" in text


def test_the_answer_has_its_published_form(closure: Closure) -> None:
    references = closure_report(closure)["references"]
    for wanted in ("show", "source", "nothing"):
        found = why_report(wanted, chains_of(closure, wanted), references_of(references, wanted))
        jsonschema.validate(json.loads(json.dumps(found)), SCHEMA)
        assert found["in_patch"] == (wanted == "show") and bool(found["references"]) == (wanted == "source")
    assert references_of(references, "source@ext4") == [] and references_of(references, "source,7") == []

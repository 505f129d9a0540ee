# SPDX-License-Identifier: GPL-2.0-or-later
"""The answer as JSON: every pair's keeps to docs/schema/diff-1.json, and to itself."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from kgbuild.correlation.noise import RULES
from kgbuild.diagnostics.refusals import RULES as CODES
from tests.support.pairs import PAIRS, Pair, answer

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "schema" / "diff-1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name)
def test_answers_keep_to_the_schema(pair: Pair) -> None:
    data = json.loads(json.dumps(answer(pair).to_json()))
    VALIDATOR.validate(data)
    assert {*data["reasons"]} == {*data["changed"]}
    assert not {*data["changed"]} & {*data["new"]}
    for key in ("changed", "new", "removed", "output_functions"):
        assert data[key] == sorted(data[key])
    if not data["refusals"]:
        assert {*data["changed"], *data["new"]} <= {*data["output_functions"]}
    assert {r["code"] for r in data["refusals"]} <= CODES.keys()


def test_the_schema_is_valid_and_knows_every_rule() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["noise"]["items"]["properties"]["rule"]["enum"] == [*RULES]
    assert {*SCHEMA["required"]} == {*SCHEMA["properties"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", 2),
        ("changed", ["f", "f"]),
        ("changed", [1]),
        ("noise", [{"function": "f", "rule": "guess"}]),
        ("refusals", [{"code": "K1-data", "symbol": "", "section": "", "message": "", "remedy": "x"}]),
        ("reasons", {"f": ""}),
        ("more", 1),
    ],
)
def test_the_schema_refuses_what_is_wrong(key: str, value: object) -> None:
    data = answer(next(p for p in PAIRS if p.name == "changed_body")).to_json()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data | {key: value}, SCHEMA)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What modules fix, in three formats. CSAF is held against the published schema, which the package csaf-lib brings; no
package has those of OpenVEX and OSV, so that what they ask for is written down here (OpenVEX 0.2.0, OSV 1.6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import csaf_lib
import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from kgbuild.releases.vex import Statement, render_vex

TEXT = {"type": "string", "minLength": 1}
DATE = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
IRI = {"type": "string", "pattern": "^(pkg|https):"}
COMPONENT: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "@id": IRI,
        "hashes": {"additionalProperties": False, "properties": {"sha-256": {"pattern": "^[0-9a-f]{64}$"}}},
        "subcomponents": {"type": "array", "items": {"$ref": "#/$defs/component"}},
    },
}


def when(status: str, **then: Any) -> dict[str, Any]:
    return {"if": {"properties": {"status": {"const": status}}}, "then": then}


OPENVEX: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["@context", "@id", "author", "timestamp", "version", "statements"],
    "properties": {
        "@context": {"const": "https://openvex.dev/ns/v0.2.0"},
        "@id": IRI,
        "author": TEXT,
        "timestamp": DATE,
        "version": {"type": "integer", "minimum": 1},
        "tooling": TEXT,
        "statements": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["vulnerability", "products", "status"],
                "properties": {
                    "vulnerability": {
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {"name": TEXT, "description": TEXT},
                    },
                    "products": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/component"}},
                    "status": {"enum": ["not_affected", "affected", "fixed", "under_investigation"]},
                    "status_notes": TEXT,
                    "justification": {"enum": ["component_not_present", "vulnerable_code_not_present"]},
                    "impact_statement": TEXT,
                    "action_statement": TEXT,
                },
                "allOf": [
                    when(
                        "not_affected",
                        oneOf=[{"required": ["justification"]}, {"required": ["impact_statement"]}],
                    ),
                    when("affected", required=["action_statement"]),
                ],
            },
        },
    },
    "$defs": {"component": COMPONENT},
}
OSV: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["schema_version", "id", "modified", "affected"],
        "properties": {
            "schema_version": {"pattern": r"^1\.\d+\.\d+$"},
            "id": {"pattern": r"^CVE-\d{4}-\d{4,}$"},
            "modified": DATE,
            "summary": TEXT,
            "references": {
                "items": {
                    "required": ["type", "url"],
                    "properties": {"type": {"const": "FIX"}, "url": {"pattern": "^https://"}},
                }
            },
            "database_specific": {"type": "object"},
            "affected": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "additionalProperties": False,
                    "required": ["package", "versions"],
                    "properties": {
                        "package": {
                            "required": ["ecosystem", "name"],
                            "properties": {"ecosystem": {"enum": ["Debian", "Linux"]}, "name": TEXT},
                        },
                        "versions": {"type": "array", "minItems": 1, "items": TEXT},
                        "database_specific": {"type": "object"},
                    },
                },
            },
        },
    },
}
KERNEL, VERSION = "debian:6.1.0-47-cloud-amd64", "6.1.170-3"
FIXED_BY = Statement("CVE-2026-10001", "a fix", KERNEL, VERSION, "affected", "", "livepatch-3.ko", "a" * 64, "1" * 40)
STATEMENTS = [
    FIXED_BY,
    Statement("CVE-2026-10001", "a fix", "debian:6.1.0-56-cloud-amd64", "6.1.192-2", "fixed", "all hunks are there"),
    Statement(
        "CVE-2026-10001", "a fix", "debian:6.12.1-amd64", "6.12.1-1~deb12u1", "not configured", "CONFIG_X is not set"
    ),
    Statement("CVE-2026-10001", "a fix", "debian:6.13.1-amd64", "6.13.1-1", "absent", ""),
    Statement("CVE-2026-10001", "a fix", "local:mine", "", "affected", ""),
    Statement("CVE-2026-10002", "", KERNEL, VERSION, "conflict", "1 line differs"),
    Statement("CVE-2026-10002", "", "debian:5.10-amd64", "5.10-1", "affected", "", "livepatch-3.ko", "b" * 64),
]


def csaf_validator() -> jsonschema.Draft202012Validator:
    folder = Path(csaf_lib.__file__).parent / "verification" / "schemas"
    registry: Registry[Any] = Registry()
    for path in folder.glob("cvss*.json"):
        schema = json.loads(path.read_text())
        registry = registry.with_resource(schema.get("$id") or schema["id"], Resource.from_contents(schema, DRAFT7))
    return jsonschema.Draft202012Validator(json.loads((folder / "csaf_2_0.json").read_text()), registry=registry)


@pytest.mark.parametrize("release", [0, 1, 3])
@pytest.mark.parametrize("count", range(1, len(STATEMENTS) + 1))
def test_documents_keep_to_the_schemas(release: int, count: int) -> None:
    given = STATEMENTS[-count:]
    jsonschema.validate(render_vex("openvex", given, release), OPENVEX)
    jsonschema.validate(render_vex("osv", given, release), OSV)
    csaf_validator().validate(render_vex("csaf", given, release))


def test_the_same_statements_give_the_same_bytes() -> None:
    for form in ("openvex", "csaf", "osv"):
        first = json.dumps(render_vex(form, STATEMENTS, 3))
        assert json.dumps(render_vex(form, [*reversed(STATEMENTS), FIXED_BY], 3)) == first


def test_a_kernel_is_affected_and_is_fixed_with_its_module() -> None:
    rows = render_vex("openvex", [FIXED_BY])["statements"]
    assert [row["status"] for row in rows] == ["affected", "fixed"]
    assert "livepatch-3.ko" in rows[0]["action_statement"]
    assert rows[1]["products"][0]["subcomponents"][0]["hashes"] == {"sha-256": "a" * 64}
    status = render_vex("csaf", [FIXED_BY])["vulnerabilities"][0]["product_status"]
    assert set(status) == {"known_affected", "fixed"} and status["fixed"] != status["known_affected"]
    affected = render_vex("osv", [FIXED_BY])[0]["affected"][0]
    assert affected["database_specific"]["livepatch"] == {"name": "livepatch-3.ko", "sha256": "a" * 64}


def test_every_product_of_a_csaf_document_is_in_its_tree() -> None:
    made = render_vex("csaf", STATEMENTS, 2)
    tree = made["product_tree"]
    known = {p["product_id"] for p in tree["full_product_names"]}
    known |= {r["full_product_name"]["product_id"] for r in tree["relationships"]}
    for entry in made["vulnerabilities"]:
        groups = list(entry["product_status"].values())
        assert {one for group in groups for one in group} <= known
        # a product has one status (6.1.6 of the standard)
        assert len({one for group in groups for one in group}) == sum(map(len, groups))


def test_osv_lists_only_what_is_or_may_be_affected() -> None:
    kernels = {a["database_specific"]["kernel"] for one in render_vex("osv", STATEMENTS) for a in one["affected"]}
    assert kernels == {KERNEL, "local:mine", "debian:5.10-amd64"}

# SPDX-License-Identifier: GPL-2.0-or-later
"""SARIF 2.1.0 (OASIS), which code scanning services and editors read: refusals and warnings at lines of the source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kgbuild import __version__
from kgbuild.diagnostics.registry import RULES
from kgbuild.report.formats.annotations import Annotation, annotations_of, command_of
from kgbuild.report.formats.answer import Answer, Format

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render_sarif(answer: Answer, unicode: bool) -> Iterator[str]:
    """One log with one run. Paths are relative to the kernel's source (SRCROOT)."""
    del unicode
    document = answer.data()
    found = annotations_of(document)
    codes = list(dict.fromkeys(one.code for one in found))
    status = int(document.get("exit_status", 0))
    driver = {
        "name": "kgbuild",
        "semanticVersion": __version__,
        "rules": [_rule(code) for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"kgbuild/{command_of(document)}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"description": {"text": "the source tree of the kernel"}}},
        "invocations": [{"executionSuccessful": status in (0, 1, 4, 5), "exitCode": status}],
        "results": [_result(one, codes.index(one.code)) for one in found],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    yield from json.dumps(log, indent=1).split("\n")


def _rule(code: str) -> dict[str, Any]:
    rule = RULES.get(code)
    if rule is None:
        return {"id": code, "shortDescription": {"text": "a warning without a code"}}
    return {
        "id": code,
        "shortDescription": {"text": rule.rule.partition(". ")[0]},
        "fullDescription": {"text": rule.rule},
        "help": {"text": rule.remedy or rule.rule},
    }


def _result(one: Annotation, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": one.level,
        "message": {"text": one.text},
    }
    if one.path:
        where: dict[str, Any] = {"artifactLocation": {"uri": _reference(one.path), "uriBaseId": "SRCROOT"}}
        if one.line:
            where["region"] = {"startLine": one.line}
        result["locations"] = [{"physicalLocation": where}]
    return result


def _reference(path: str) -> str:
    """A path as a relative reference (RFC 3986): what has a meaning in one, or is not ASCII, is percent-encoded."""
    raw = path.encode("utf-8", "replace")
    return "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in raw)


OFFERED = (Format("sarif", render_sarif, of_data=True),)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What all JSON documents of kgbuild have in common: the name of their schema, and how the run ended.

`schema` is "kgbuild/NAME/NUMBER"; docs/schema/NAME-NUMBER.json describes the document. `exit_status` and `errors` are
in every document that a command writes: `errors` lists what stands against it, each with code, place, fact and remedy,
and is empty where the status is 0. A row that holds in several places has all of them in `places`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kgbuild import __version__
from kgbuild.diagnostics.reasons import reasons_of
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diagnostics.run_errors import RULES
from kgbuild.errors import KgbuildError, NoChange

ErrorRow = dict[str, Any]

_OUTCOMES = {0: "done", 1: "refused", 2: "usage", 3: "tool", 4: "nothing to patch", 5: "partly", 130: "interrupted"}


def schema_name(name: str, number: int = 1) -> str:
    """How a document names its schema."""
    return f"kgbuild/{name}/{number}"


def error_row(code: str, fact: str, place: str = "", remedy: str = "") -> ErrorRow:
    """One thing that stands against a run."""
    return {"code": code, "place": place, "fact": fact, "remedy": remedy}


def rows_of(found: Iterable[Any]) -> list[ErrorRow]:
    """Rows of refusals, findings, or whatever else has code, place, fact and remedy. Refusals with the same fact are
    one row with the key `places`."""
    out, refusals = list[ErrorRow](), list[Refusal]()
    for one in found:
        if isinstance(one, Refusal):
            refusals.append(one)
        else:
            out.append(error_row(one.code, one.fact, one.place, one.remedy))
    for reason in reasons_of(refusals):
        row = reason.first
        out.append({**error_row(row.code, row.fact, row.place, row.remedy), **reason.more})
    return out


def error_rows(error: KgbuildError) -> list[ErrorRow]:
    """What an exception tells: each refusal or fault that it holds, else itself."""
    if isinstance(error, Refused):
        return rows_of(error.refusals)
    faults: Sequence[KgbuildError] = getattr(error, "faults", ())
    return [error_row(error.code, one.fact, one.place, one.remedy) for one in faults or (error,)]


def nothing_to_patch(place: str, fact: str) -> list[ErrorRow]:
    """The row of an answer that there is nothing to patch."""
    return [error_row(NoChange.code, fact, place, RULES[NoChange.code].remedy)]


def with_outcome(data: Mapping[str, Any], status: int, errors: Sequence[ErrorRow]) -> dict[str, Any]:
    """A command's document with the end of its run."""
    return {**data, "exit_status": status, "errors": list(errors)}


def error_document(command: str, status: int, errors: Sequence[ErrorRow]) -> dict[str, Any]:
    """The document of a run that ended before there was an answer (docs/schema/error-1.json). `command` is as it was
    given, "" where none was recognised."""
    data = {
        "schema": schema_name("error"),
        "tool": {"name": "kgbuild", "version": __version__},
        "command": command,
        "outcome": _OUTCOMES.get(status, "tool"),
    }
    return with_outcome(data, status, errors)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The way from a hunk to a redirected function, by what gcc made of the edited one: as plain data and as lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kgbuild.callgraph.model import split_name
from kgbuild.closure.edit_results import BODY, CLONE, INLINED, NO_CODE, EditResult, SourceEdits
from kgbuild.estimation.edits import SourceEdit, SourceHunk

EditRow = dict[str, Any]
MAX_LINES = 400  # of one hunk in a report
SAYS = {INLINED: "gcc inlined it into", BODY: "its code is", CLONE: "gcc made of it", NO_CODE: "it has no code"}
_ROLES = {"changed": "is replaced", "pulled": "comes along", "new": "is new", "carried": "is carried as a copy"}
_FOLDED = 4  # results of one edit in a line of a list


def hunk_report(edits: SourceEdits) -> list[dict[str, Any]]:
    """The hunks with their text, of which at most MAX_LINES lines each."""
    return [
        {
            "patch": hunk.patch,
            "path": hunk.path,
            "number": hunk.number,
            "line": hunk.line,
            "patched_line": hunk.patched_line,
            "header": hunk.hunk.header.strip(),
            "lines": [_text(line) for line in hunk.hunk.lines[:MAX_LINES]],
            "more_lines": max(len(hunk.hunk.lines) - MAX_LINES, 0),
        }
        for hunk in edits.hunks
    ]


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "replace")


def edit_report(edits: SourceEdits) -> list[EditRow]:
    """Each edited definition, and what gcc made of it. `hunks` are positions in `hunk_report`."""
    return [edit_row(edit, results, edits.hunks) for edit, results in edits.rows()]


def edit_row(edit: SourceEdit, results: Iterable[EditResult], hunks: Sequence[SourceHunk]) -> EditRow:
    """One edited definition as plain data. `place` is that of the first changed line of its first hunk."""
    return {
        "name": edit.name,
        "kind": edit.kind,
        "status": edit.status,
        "path": edit.path,
        "line": edit.line,
        "place": hunks[edit.hunks[0]].place if edit.hunks else f"{edit.path}:{edit.line}",
        "hunks": list(edit.hunks),
        "because": edit.because,
        "macro": edit.macro,
        "results": [result_row(result) for result in results],
    }


def result_row(result: EditResult) -> dict[str, Any]:
    """What became of an edited function, as plain data."""
    row = asdict(result)
    del row["member"]
    return {**row, "kinds": list(result.kinds)}


def edits_named(rows: Iterable[EditRow], wanted: str) -> list[EditRow]:
    """The rows of edited functions that a name means; NAME@UNIT and NAME@MODULE
    choose by file, or of the results those of one unit or object."""
    name, place, _ = split_name(wanted)
    found = [row for row in rows if row["name"] == name and row["kind"] in ("function", "macro call")]

    def is_meant(text: str) -> bool:
        return not place or place == text or text.endswith(f"/{place}")

    out = []
    for row in found:
        here = [result for result in row["results"] if is_meant(result["unit"]) or place == result["object"]]
        if is_meant(row["path"]):
            out.append(row)
        elif here:
            out.append({**row, "results": here})
    return out


def say_hunks(row: Mapping[str, Any]) -> str:
    """What edits a function: "hunk 1", "hunks 1 and 3" (counted from 1 over all patches), or the macro it uses."""
    named = [str(at + 1) for at in row["hunks"]]
    if not named:
        return "the patch"
    hunks = f"hunk {named[0]}" if len(named) == 1 else f"hunks {', '.join(named[:-1])} and {named[-1]}"
    return f"{row['because']} ({hunks})" if row["because"] else hunks


def render_edit(row: Mapping[str, Any]) -> Iterator[str]:
    """One edited function, for `why`: the hunk, what gcc made of it, and what of that is in the patch."""
    by = f"{'uses' if row['because'] else 'is edited by'} {say_hunks(row)}"
    yield f"{row['name']} {by} ({row['place']})"
    if not row["results"]:
        yield "  no unit of this kernel that the patch compiles has it"
    for result in row["results"]:
        what = f"{result['function']} in {result['object']}" if result["object"] != "vmlinux" else result["function"]
        yield f"  {SAYS[result['how']]:<31} {what:<32} {result['unit']}"
        yield f"  {'':<31} {result['evidence']}"
        if result["how"] != NO_CODE:
            does = _ROLES.get(result["role"], "stays as it is: its code is the same")
            means = ", redirected by ftrace" if result["redirected"] else ""
            yield f"  {'which':<31} {does}{means}"


def list_edits(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """For each edited function a pair of texts: its name, and the way from its hunk to the functions of the patch."""
    for row in rows:
        if row["kind"] not in ("function", "macro call"):
            continue
        ways = []
        for result in row["results"]:
            if result["how"] == BODY and result["function"] == row["name"]:
                ways.append("" if result["role"] else "its code stays the same")
            elif result["how"] == NO_CODE:
                ways.append("no code")
            elif result["role"] or result["how"] != INLINED:
                word = {INLINED: "inlined into", CLONE: "as", BODY: "as"}[result["how"]]
                ways.append(f"{word} {result['function']}{'' if result['role'] else ' (the same)'}")
        ways = list(dict.fromkeys(way for way in ways if way))
        more = f", {len(ways) - _FOLDED} more" if len(ways) > _FOLDED else ""
        said = "; ".join(ways[:_FOLDED]) + more
        yield row["name"], f"{say_hunks(row)}, {row['place']}" + (f": {said}" if said else "")

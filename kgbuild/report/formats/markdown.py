# SPDX-License-Identifier: GPL-2.0-or-later
"""A comment for a merge request in GitHub's and GitLab's Markdown: at most MOST_LINES lines, details folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kgbuild.report.formats.annotations import (
    ERROR,
    Annotation,
    annotations_of,
    command_of,
    functions_of,
    kernel_name,
    outcome_of,
    read_keys_of,
)
from kgbuild.report.formats.answer import Answer, Format
from kgbuild.shown_text import printable

MOST_LINES = 60
_FINDINGS, _FUNCTIONS, _HUNKS, _UNITS, _PHASES = 8, 10, 8, 6, 8
_LONG = 300  # characters of one text
# a plain name, path or number is shown as code; anything else is text with all of Markdown's signs escaped
_CODE = re.compile(r"[A-Za-z0-9_.$:/+,=\- ]+")
# also what forges make links and mentions of: @name, #1, www., ://
_ENTITY = re.compile(r"[&<>@#:\\`*_{}\[\]()!|~^$]|(?<=www)\.")
_SAYS = {"done": "can be patched", "refused": "refused", "nothing to patch": "nothing to patch"}
_ROLES = {"changed": "changed", "new": "new", "pulled": "pulled in", "carried": "copied"}


def text_of(text: str) -> str:
    """Any text as Markdown that shows just it, on one line."""
    shown = " ".join(printable(str(text)).split())
    shown = shown if len(shown) <= _LONG else f"{shown[:_LONG]}..."
    return _ENTITY.sub(lambda found: f"&#{ord(found[0])};", shown)


def code_of(text: str) -> str:
    """A name as code."""
    shown = str(text).strip()
    return f"`{shown}`" if _CODE.fullmatch(shown) and len(shown) <= _LONG and "://" not in shown else text_of(text)


def render_markdown(answer: Answer, unicode: bool) -> Iterator[str]:
    """The comment: verdict, what a person has to decide, functions; hunks, proof and digests folded."""
    del unicode
    document = answer.data()
    lines = [*_head(document), *_decide(annotations_of(document)), *_functions(document)]
    for title, rows in (
        ("From hunks to functions", _hunks(document)),
        ("Proof", _proof(document)),
        ("Run in a guest", _phases(document)),
        ("Digests", _digests(document)),
    ):
        found = list(rows)
        if found and len(lines) + len(found) + 5 <= MOST_LINES:
            lines += ["", f"<details><summary>{title}</summary>", "", *found, "", "</details>"]
    yield from lines[:MOST_LINES]


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    outcome, kernel = outcome_of(document), kernel_name(document)
    command = command_of(document)
    said = _SAYS.get(outcome, outcome) if command in ("build", "impact", "estimate") else outcome
    if command == "build" and document.get("module"):
        said = "module built"
    yield f"### kgbuild {command}: {said}".replace("  ", " ")
    yield ""
    subjects = [p.get("subject") or p.get("name", "") for p in document.get("patches") or ()]
    if subjects:
        yield f"**Patch** {'; '.join(map(text_of, subjects[:4]))}{' and more' if len(subjects) > 4 else ''}  "
    if kernel:
        yield f"**Kernel** {code_of(kernel)}  "
    module = document.get("module")
    if isinstance(module, Mapping) and "functions" in module:
        yield f"**Module** {code_of(module['name'])}, {len(module['functions'])} functions replaced  "
    for row in (document.get("allowed") or ())[:4]:
        yield f"**Accepted risk** {code_of(row['option'])} {code_of(row['value']) if row['value'] else ''}  "


def _decide(found: Sequence[Annotation]) -> Iterator[str]:
    for level, title in ((ERROR, "Stands against it"), ("warning", "To decide")):
        rows = [one for one in found if one.level == level]
        if not rows:
            continue
        yield from ("", f"**{title}**", "")
        for one in rows[:_FINDINGS]:
            where = f" {code_of(f'{one.path}:{one.line}')}" if one.path and one.line else ""
            remedy = f" → {text_of(one.remedy)}" if one.remedy else ""
            also = f" (also {text_of(one.also)})" if one.also else ""
            yield f"- {code_of(one.code)}{where} {text_of(one.fact)}{also}{remedy}"
        if len(rows) > _FINDINGS:
            yield f"- and {len(rows) - _FINDINGS} more"


def _functions(document: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in functions_of(document) if isinstance(row[1], Mapping)]
    if not rows:
        return
    yield from ("", "| function | | why |", "| --- | --- | --- |")
    for role, row in rows[:_FUNCTIONS]:
        name, reason = row.get("function") or row.get("name") or "", row.get("reason") or ""
        yield f"| {code_of(name)} | {_ROLES[role]} | {text_of(reason)} |"
    if len(rows) > _FUNCTIONS:
        yield f"| and {len(rows) - _FUNCTIONS} more | | |"
    count, names = read_keys_of(document)
    if count:
        more = f" and {len(names) - _FUNCTIONS} more" if len(names) > _FUNCTIONS else ""
        yield from ("", f"{count}: {', '.join(map(code_of, names[:_FUNCTIONS]))}{more}")


def _hunks(document: Mapping[str, Any]) -> Iterator[str]:
    edits = [e for e in document.get("edits", ()) if e["results"]]
    for edit in edits[:_HUNKS]:
        ways = [f"{code_of(r['function'])} ({r['how']})" for r in edit["results"] if r["role"]]
        yield f"- {code_of(edit['place'])} edits {code_of(edit['name'])}: {', '.join(ways[:4]) or 'no code changes'}"
    if len(edits) > _HUNKS:
        yield f"- and {len(edits) - _HUNKS} more"


def _proof(document: Mapping[str, Any]) -> Iterator[str]:
    listed = document.get("units")
    units = [u for u in listed if "parity" in u] if isinstance(listed, list) else []
    for unit in units[:_UNITS]:
        parity = unit["parity"]
        yield f"- {code_of(unit['source'])}: {parity['matched']} of {parity['total']} functions are what runs"
    references = [r for r in document.get("references") or () if "proven" in r]
    if references:
        proven = sum(bool(r["proven"]) for r in references)
        yield f"- {len(references)} references, {proven} of them proven"


def _phases(document: Mapping[str, Any]) -> Iterator[str]:
    phases = document.get("phases") or ()
    for phase in phases[:_PHASES]:
        yield f"- {'ok' if phase['ok'] else '**failed**'} {code_of(phase['phase'])}: {text_of(phase['fact'])}"
    if len(phases) > _PHASES:
        yield f"- and {len(phases) - _PHASES} more"


def _digests(document: Mapping[str, Any]) -> Iterator[str]:
    module = document.get("module")
    if isinstance(module, Mapping) and "sha256" in module:
        yield f"- module {code_of(module['sha256'])}"
    for patch in (document.get("patches") or ())[:3]:
        if "sha256" in patch:
            yield f"- {code_of(patch['name'])} {code_of(patch['sha256'])}"
    kernel = document.get("kernel")
    if isinstance(kernel, Mapping) and kernel.get("build_id"):
        yield f"- kernel {code_of(kernel['build_id'])}"


OFFERED = (Format("markdown", render_markdown, of_data=True),)

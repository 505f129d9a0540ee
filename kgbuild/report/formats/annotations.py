# SPDX-License-Identifier: GPL-2.0-or-later
"""What a document says stands against a run or is to be known: refusals, findings, errors and warnings, each with the
line of the patched source where one is known. The formats for CI are made of these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild.diagnostics.reasons import other_places

ERROR, WARNING = "error", "warning"
NO_CODE = "kgbuild-warning"  # of warnings that are sentences only
_LINE = re.compile(r"(?P<path>[^\s:]+\.[A-Za-z]+):(?P<line>[1-9]\d{0,8})(?!\d)")
_PATH = re.compile(r"[\w+,./-]+\.[chSH]\b")


@dataclass(frozen=True)
class Annotation:
    """One thing: ERROR or WARNING, its code, what it is about, the fact and the remedy; path and line of the patched
    source, "" and 0 where these are not known. `also`: other places where it holds, in words."""

    level: str
    code: str
    place: str
    fact: str
    remedy: str
    path: str = ""
    line: int = 0
    also: str = ""

    @property
    def text(self) -> str:
        """Place, fact, remedy and other places in one paragraph."""
        place = f"{self.place}: " if self.place else ""
        remedy = f". Remedy: {self.remedy}" if self.remedy else ""
        also = f". Also {self.also}" if self.also else ""
        return f"{place}{self.fact}{also}{remedy}"


def read_keys_of(document: Mapping[str, Any]) -> tuple[str, list[str]]:
    """How many static keys and static calls patched code reads at run time, in words, and their names; "" for none."""
    names: dict[str, set[str]] = {}
    for row in document.get("read_keys") or ():
        names.setdefault(row["kind"], set()).add(row["name"])
    counts = [f"{len(of)} {kind}{'s' * (len(of) != 1)}" for kind, of in sorted(names.items(), reverse=True)]
    listed = [name for _, of in sorted(names.items(), reverse=True) for name in sorted(of)]
    return (f"{' and '.join(counts)} read at run time" if counts else ""), listed


def annotations_of(document: Mapping[str, Any]) -> list[Annotation]:
    """Everything a document has, errors first."""
    out = []
    for row in document.get("errors") or document.get("refusals") or ():
        level = WARNING if document.get("exit_status") == 4 else ERROR
        out.append(_finding(document, level, row))
    out += [_finding(document, WARNING, row) for row in document.get("possible", ())]
    out += [_finding(document, WARNING, row) for row in document.get("consistency", ())]
    for text in document.get("warnings", ()):
        code, blank, rest = str(text).partition("  ")
        known = bool(blank) and re.fullmatch(r"W\d+-[a-z-]+", code)
        out.append(_finding(document, WARNING, {"code": code if known else NO_CODE, "fact": rest if known else text}))
    return out


def _finding(document: Mapping[str, Any], level: str, row: Mapping[str, Any]) -> Annotation:
    place, fact = str(row.get("place") or row.get("function") or ""), str(row["fact"])
    path, line = _where(document, place, fact)
    remedy, code = str(row.get("remedy") or ""), str(row.get("code") or NO_CODE)
    also = other_places([str(one) for one in row.get("places", ())])
    return Annotation(level, code, place, fact, remedy, path, line, also)


def _where(document: Mapping[str, Any], place: str, fact: str) -> tuple[str, int]:
    """The file and the line of the patched source that a row is about: a line that it names, else the first change in
    a definition that it names, else the first hunk of a file that it names."""
    found = _LINE.search(place)
    if found is not None:
        return found["path"], int(found["line"])
    hunks: Sequence[Mapping[str, Any]] = document.get("hunks", ())
    named = _PATH.search(place) or _PATH.search(fact)
    path = named[0] if named is not None else ""
    words = set(re.findall(r"[A-Za-z_]\w*", f"{place} {fact}"))
    edits = [e for e in document.get("edits", ()) if e["hunks"] and (e["name"] in words or _made(e, words))]
    edits.sort(key=lambda edit: edit["path"] != path)
    if edits and (not path or edits[0]["path"] == path or not any(h["path"] == path for h in hunks)):
        hunk = hunks[edits[0]["hunks"][0]]
        return str(hunk["path"]), int(hunk["patched_line"])
    for hunk in hunks:
        if hunk["path"] == path:
            return path, int(hunk["patched_line"])
    return path, 0


def _made(edit: Mapping[str, Any], words: set[str]) -> bool:
    """Whether a row names something that gcc made of an edited function."""
    return any(result["function"].partition(".")[0] in words for result in edit["results"])


def outcome_of(document: Mapping[str, Any]) -> str:
    """How a run ended, in a word or two."""
    status = document.get("exit_status", 1 if document.get("refusals") else 0)
    names = {0: "done", 1: "refused", 2: "usage error", 3: "failed", 4: "nothing to patch", 5: "partly", 130: "stopped"}
    if status == 1 and (document.get("findings") or "verdict" in document):
        return "found wanting"
    return names.get(status, "failed")


def kernel_name(document: Mapping[str, Any]) -> str:
    """The kernel's name; "" where the run did not come so far."""
    kernel = document.get("kernel")
    return str(kernel["name"]) if isinstance(kernel, Mapping) else str(kernel or "")


def command_of(document: Mapping[str, Any]) -> str:
    """The command that wrote a document, by its schema."""
    name = str(document.get("schema", "")).split("/")
    return str(document.get("command") or "") if name[1:2] == ["error"] else name[1] if len(name) > 1 else ""


def functions_of(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The functions of a patch with their roles, in the order in which they are shown."""
    for role in ("changed", "new", "pulled", "carried"):
        for row in document.get(role, ()):
            yield role, row

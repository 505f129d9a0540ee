# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page shows of documents, in its order: verdict, what a person has to decide, what happens, how it is known.

Only texts, numbers and lists are handed to the template, which escapes each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
from kgbuild.report.page.layout import Picture, lay_out

Row = Mapping[str, Any]
GOOD, BAD, OPEN = "good", "bad", "open"
_ROLE_WORDS = {
    "changed": "changed",
    "new": "new in the patch",
    "pulled": "comes along",
    "carried": "carried as a copy",
}
_MOST_LOG = 4000  # lines of a guest's log


@dataclass(frozen=True)
class Headline:
    """The first thing on a page: GOOD, BAD or OPEN (nothing was tried, or something has to be decided), a sentence, and
    what it is about."""

    state: str
    text: str
    about: str


@dataclass(frozen=True)
class FunctionView:
    """One function of the patch: how it got in, what shows that, its hunks, its code on both sides."""

    anchor: str
    name: str
    role: str
    role_words: str
    unit: str
    object: str
    redirected: bool
    reason: str
    because: str
    evidence: tuple[str, ...]
    edits: tuple[Row, ...]
    hunks: tuple[int, ...]
    code: Row | None


@dataclass(frozen=True)
class PageView:
    """All of a page. `document` is that of the build, impact or estimate; `guests` are those of vm."""

    title: str
    verdict: Headline
    document: Row
    kernel: str
    facts: tuple[tuple[str, str], ...]
    against: tuple[Annotation, ...]
    warnings: tuple[Annotation, ...]
    allowed: tuple[Row, ...]
    functions: tuple[FunctionView, ...]
    hunks: tuple[Row, ...]
    picture: Picture
    anchors: Mapping[str, str]
    references: tuple[Row, ...]
    units: tuple[Row, ...]
    stages: tuple[tuple[str, float, float], ...]
    seconds: float
    accounted: tuple[tuple[str, int], ...]
    guests: tuple[Row, ...]
    digests: tuple[tuple[str, str], ...] = field(default=())


def page_of(documents: Sequence[Row]) -> PageView:
    """The page of one document of `build` or `impact`, with any of `vm`; or of `vm` alone."""
    guests = [_guest(d) for d in documents if "phases" in d]
    main = next((d for d in documents if "phases" not in d), documents[0])
    found = annotations_of(main)
    against = tuple(one for one in found if one.level == ERROR)
    warnings = tuple(one for one in found if one.level != ERROR)
    functions = _functions(main)
    anchors = {f"{f.unit}\0{f.name}": f.anchor for f in functions}
    by_node = {
        str(node["id"]): anchors[f"{node['unit']}\0{node['name']}"]
        for node in (main.get("graph") or {}).get("nodes", ())
        if f"{node['unit']}\0{node['name']}" in anchors
    }
    for node in (main.get("graph") or {}).get("nodes", ()):
        if node["role"] == "hunk":
            by_node[str(node["id"])] = f"hunk-{str(node['id'])[1:]}"
    stages = [(str(s["name"]), float(s["seconds"])) for s in main.get("stages") or ()]
    longest = max((seconds for _, seconds in stages), default=0.0) or 1.0
    verdict = _verdict(main, against, warnings, guests)
    return PageView(
        f"{verdict.about or 'kgbuild'}: {verdict.text}",
        verdict,
        main,
        kernel_name(main),
        tuple(_facts(main)),
        against,
        warnings,
        tuple(main.get("allowed") or ()),
        functions,
        tuple({**h, "number": at + 1, "id": f"hunk-{at}"} for at, h in enumerate(main.get("hunks") or ())),
        lay_out(main.get("graph") or {}),
        by_node,
        tuple(_references(main)),
        tuple(u for u in main.get("units") or () if "parity" in u),
        tuple((name, seconds, round(100 * seconds / longest, 1)) for name, seconds in stages),
        round(sum(seconds for _, seconds in stages), 1),
        _accounted(main),
        tuple(guests),
        tuple(_digests(main)),
    )


def _verdict(
    document: Row, against: Sequence[Annotation], warnings: Sequence[Annotation], guests: Sequence[Row]
) -> Headline:
    subjects = [str(p.get("subject") or p.get("name") or "") for p in document.get("patches") or ()]
    about = "; ".join(s for s in subjects[:3] if s) or command_of(document)
    outcome = outcome_of(document)
    bad_guest = any(not guest["verdict"] for guest in guests)
    if outcome in ("refused", "found wanting"):
        count = len(against)
        return Headline(BAD, f"refused, for {count} reason{'s' * (count != 1)}", about)
    if outcome == "nothing to patch":
        return Headline(OPEN, "there is nothing to patch", about)
    if outcome != "done":
        return Headline(BAD, outcome, about)
    if bad_guest:
        return Headline(BAD, "the guest's verdict is no", about)
    count = len((document.get("module") or {}).get("functions", ())) if document.get("module") else 0
    what = f"a live patch of {count} function{'s' * (count != 1)}" if count else "can be a live patch"
    tried = ", tried in a guest" if guests else ""
    if warnings or document.get("allowed"):
        return Headline(OPEN, f"{what}{tried}, with something to decide", about)
    return Headline(GOOD, f"{what}{tried}", about)


def _facts(document: Row) -> Iterable[tuple[str, str]]:
    kernel = document.get("kernel")
    if isinstance(kernel, Mapping):
        yield "kernel", str(kernel["name"])
        if kernel.get("version"):
            yield "version", str(kernel["version"])
        yield "compiler", f"{kernel.get('compiler', '')}{', sandboxed' if kernel.get('sandbox') else ''}"
    for patch in document.get("patches") or ():
        yield "patch", str(patch.get("name", ""))
    module = document.get("module")
    if isinstance(module, Mapping):
        size = f", {int(module['size']) / 1024:.0f} KiB" if "size" in module else ""
        yield "module", f"{module['name']}{size}"
    if document.get("backend"):
        yield "back end", str(document["backend"])
    count, names = read_keys_of(document)
    if count:
        yield "keys", f"{count}: {', '.join(names)}"
    tool = document.get("tool")
    if isinstance(tool, Mapping):
        yield "made by", f"{tool['name']} {tool['version']}"


def _functions(document: Row) -> tuple[FunctionView, ...]:
    code = {(c["unit"], c["function"]): c for c in document.get("code") or ()}
    graph = document.get("graph") or {}
    redirected = {(n["unit"], n["name"]) for n in graph.get("nodes", ()) if n["redirected"]}
    out = []
    for at, (role, row) in enumerate(functions_of(document)):
        name, unit = str(row.get("function") or row.get("name") or ""), str(row.get("unit") or "")
        edits = [
            e
            for e in document.get("edits") or ()
            if any(r["unit"] == unit and r["function"] == name and r["role"] for r in e["results"])
        ]
        hunks = sorted({h for e in edits for h in e["hunks"]})
        out.append(
            FunctionView(
                f"function-{at}",
                name,
                role,
                _ROLE_WORDS[role],
                unit,
                str(row.get("object") or ""),
                (unit, name) in redirected,
                str(row.get("reason") or ""),
                str(row.get("because") or ""),
                tuple(str(seen) for seen in row.get("evidence") or ()),
                tuple(edits),
                tuple(hunks),
                code.get((unit, name)),
            )
        )
    return tuple(out)


def _references(document: Row) -> Iterable[Row]:
    rows = [r for r in document.get("references") or () if isinstance(r, Mapping) and "proven" in r]
    return sorted(rows, key=lambda row: (bool(row["proven"]), str(row["how"]), str(row["name"])))


def _accounted(document: Row) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for unit in document.get("accounting") or ():
        for by, count in unit["counts"].items():
            counts[str(by)] = counts.get(str(by), 0) + int(count)
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))


def _guest(document: Row) -> Row:
    log = str(document.get("kernel_log") or "").splitlines()
    return {**document, "log": log[-_MOST_LOG:], "log_left_out": max(len(log) - _MOST_LOG, 0)}


def _digests(document: Row) -> Iterable[tuple[str, str]]:
    module = document.get("module")
    if isinstance(module, Mapping) and "sha256" in module:
        yield f"{module['name']}.ko", f"sha256 {module['sha256']}"
    for patch in document.get("patches") or ():
        if "sha256" in patch:
            yield str(patch["name"]), f"sha256 {patch['sha256']}"
    kernel = document.get("kernel")
    if isinstance(kernel, Mapping) and kernel.get("build_id"):
        yield str(kernel["name"]), f"build-id {kernel['build_id']}"
    toolchain = document.get("toolchain")
    if isinstance(toolchain, Mapping) and toolchain.get("digest"):
        yield str(toolchain["name"]), f"sha256 {toolchain['digest']}"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch would touch, estimated: as lines and as data (docs/schema/estimate-1.json)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kgbuild import __version__
from kgbuild.callgraph.model import Function
from kgbuild.estimation.estimate import Estimate, Touched
from kgbuild.model import Kernel
from kgbuild.patch.unified_diff import ParsedPatch
from kgbuild.report.build import kernel_report, refusal_report
from kgbuild.report.documents import schema_name

_UNICODE = ("├─ ", "└─ ", "│  ", "   ")
_ASCII = ("|- ", "`- ", "|  ", "   ")
_FEW = 8


def estimate_report(
    result: Estimate,
    kernel: Kernel,
    patches: Sequence[ParsedPatch],
    units: Mapping[str, str],
    targets: Mapping[str, Sequence[str]],
    seconds: float,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The estimate as data. The keys that a report of a build has too mean the same there."""
    names = {t.function.id: t.function.name for t in result.touched.values()}

    def rows(role: str) -> list[dict[str, Any]]:
        return [
            {"function": t.function.name, "unit": t.unit, "object": t.function.object, "reason": t.reason}
            for t in result.of(role)
        ]

    pulled = [{**row, "because": names[t.via or 0]} for row, t in zip(rows("pulled"), result.of("pulled"), strict=True)]
    return {
        "schema": schema_name("estimate"),
        "schema_version": 1,
        "estimate": True,
        "tool": {"name": "kgbuild", "version": __version__},
        "kernel": kernel_report(kernel),
        "patches": [{"name": p.name, "sha256": p.sha256, "subject": p.subject} for p in patches],
        "units": [
            {"source": source, "target": target, "because": because}
            for source, because in units.items()
            for target in targets[source]
        ],
        "changed": rows("changed"),
        "new": [{"function": name, "unit": unit} for name, unit in result.new],
        "removed": [{"function": name, "unit": unit} for name, unit in result.removed],
        "pulled": pulled,
        "inlined": [{"function": name, "into": f.name, "object": f.object} for name, f in result.inlined],
        "folded": [{"function": f.name, "object": f.object, "names": list(n)} for f, n in result.folded],
        "references": [{"name": r.name, "object": r.object, "how": r.how} for r in result.references],
        "warnings": [*warnings, *result.unknown],
        "refusals": refusal_report(sorted(set(result.refusals))),
        "possible": refusal_report(sorted(set(result.possible))),
        "seconds": seconds,
    }


def render_estimate(result: Estimate, seconds: float, *, unicode: bool, every: bool) -> Iterator[str]:
    """The estimate as lines: what is patched and what comes along with it as a tree, then what it means for the rest.
    Lists are cut after some, unless `every`."""
    marks = _UNICODE if unicode else _ASCII
    few = None if every else _FEW
    changed, pulled = result.of("changed"), result.of("pulled")
    yield f"estimate from the kernel's debug information ({seconds:.1f} s; compile for the exact answer)"
    counts = [f"{_count(sum(touched.stays for touched in changed), 'function')} to patch", f"{len(pulled)} pulled in"]
    counts += [f"{len(result.new)} new"] if result.new else []
    counts += [f"{len(set(result.refusals))} refused"]
    counts += [f"{len(set(result.possible))} may be refused"] if result.possible else []
    yield ", ".join(counts)
    below: dict[int | None, list[Touched]] = {}
    for touched in pulled:
        below.setdefault(touched.via, []).append(touched)
    rest = list(_rest(result, few))
    width = min(max((len(touched.function.name) for touched in [*changed, *pulled]), default=0) + 3, 44)
    # (indent, what is at it still): a chain of callers may be longer than Python likes to nest
    stack: list[tuple[str, list[Touched]]] = [("", list(changed))]
    while stack:
        indent, waiting = stack.pop()
        if not waiting:
            continue
        one, *waiting = waiting
        last = not waiting and (bool(indent) or not rest)
        where = f" ({one.function.object})" if not one.function.in_vmlinux else ""
        yield f"{indent}{marks[1] if last else marks[0]}{one.function.name + where:<{width}} {one.reason}"
        stack.append((indent, waiting))
        stack.append((indent + (marks[3] if last else marks[2]), below.get(one.function.id, [])))
    for i, line in enumerate(rest):
        yield f"{marks[1] if i == len(rest) - 1 else marks[0]}{line}"
    for refusal in sorted(set(result.possible)):
        yield f"may be refused: {refusal.code} {refusal.place}: {refusal.fact}"


def _rest(result: Estimate, few: int | None) -> Iterator[str]:
    inlined: dict[str, dict[str, None]] = {}
    for name, into in result.inlined:
        inlined.setdefault(name, {}).setdefault(_place(into))
    for name, holders in inlined.items():
        yield f"{name} is inlined into: {_list(list(holders), few)}"
    if result.new:
        yield f"new: {_list([name for name, _ in result.new], few)}"
    if result.removed:
        yield f"gone: {_list([name for name, _ in result.removed], few)}"
    for function, names in result.folded:
        yield f"{function.name} shares its body with {_list([n for n in names if n != function.name], few)}"
    unbound = [r for r in result.references if r.how != "export"]
    if unbound:
        exports = len(result.references) - len(unbound)
        shown = [f"{r.name} (needs proof, or comes as a copy)" if r.how == "clone" else r.name for r in unbound]
        yield f"refers to {_count(exports, 'export')}, and bound to the kernel: {_list(shown, few)}"
    yield from result.unknown


def _place(function: Function) -> str:
    return f"{function.name} ({function.object})"


def _list(names: Iterable[str], few: int | None) -> str:
    every = list(dict.fromkeys(names))
    if few is None or len(every) <= few:
        return ", ".join(every)
    return f"{', '.join(every[:few])}, {len(every) - few} more: --all"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"

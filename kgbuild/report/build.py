# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a build as plain data, schema version 1 (docs/schema/report-1.json)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kgbuild import __version__
from kgbuild.closure.binding import NEW_GLOBAL
from kgbuild.closure.evidence import clone_evidence, evidence_of, functions
from kgbuild.closure.model import Closure, Member, StateLine
from kgbuild.debuginfo.compile_flags import Flag
from kgbuild.diagnostics.reasons import reasons_of
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.errors import KgbuildError
from kgbuild.livepatch.cumulative import OnTop
from kgbuild.model import Finding, Kernel
from kgbuild.objects.symbol_kinds import is_prefix
from kgbuild.objects.view import View
from kgbuild.proof.parity import ABSENT, AMBIGUOUS, DIFFERS, EXACT, OVERRIDDEN, FunctionParity, ParityProof
from kgbuild.report.documents import schema_name


def kernel_report(kernel: Kernel) -> dict[str, Any]:
    """What the name resolved to."""
    return {
        "name": kernel.id.name,
        "distro": kernel.id.distro,
        "release": kernel.id.release,
        "version": kernel.id.version,
        "build_id": kernel.id.build_id,
        "compiler": kernel.compiler,
        "toolchain": kernel.toolchain.parent.name if kernel.toolchain is not None else None,
        "sandbox": kernel.sandboxed,
    }


def _counted(orig: View, parity: ParityProof) -> list[FunctionParity]:
    """The functions of which parity is told: padding before a function only where it alone is not what runs."""
    atoms = orig.atoms
    return [f for f in parity.functions if f.status in (DIFFERS, ABSENT) or not is_prefix(atoms[f.atom])]


def parity_counts(orig: View, parity: ParityProof) -> dict[str, int]:
    """How many functions of a unit are those of the kernel, of how many, and how many another unit overrides."""
    counts = Counter(f.status for f in _counted(orig, parity))
    return {
        "matched": counts[EXACT] + counts[AMBIGUOUS],
        "total": counts.total() - counts[OVERRIDDEN],
        "weak_overridden": counts[OVERRIDDEN],
    }


def padded_functions(orig: View, parity: ParityProof) -> list[str]:
    """The functions that differ from the kernel's in padding alone, and were proven by a second compile of their unit,
    by the kernel's own options alone."""
    return [f.name for f in parity.functions if f.atom in parity.padded and not is_prefix(orig.atoms[f.atom])]


def unit_report(
    source: str,
    target: str,
    orig: View,
    parity: ParityProof,
    object_name: str,
    because: str = "",
    flags: Sequence[Flag] = (),
    optimized: Sequence[tuple[str, int, str]] = (),
) -> dict[str, Any]:
    """Why a unit is compiled, its parity, the options of it that matter, and where its functions have their own.

    An ambiguous function has the kernel's bytes, at more than one place of its name. Padding before a function counts
    as part of it, unless it alone is not what runs.
    """
    found = _counted(orig, parity)
    listed = [{"function": f.name, "status": f.status, "reason": f.reason} for f in found]
    return {
        "source": source,
        "object": object_name,
        "target": target,
        "because": because,
        "flags": [asdict(f) for f in flags],
        "optimized": [{"file": file, "line": line, "text": text} for file, line, text in optimized],
        "parity": {
            **parity_counts(orig, parity),
            "padded": padded_functions(orig, parity),
            "unmatched": [f for f in listed if f["status"] in (DIFFERS, ABSENT)],
            "ambiguous": [f for f in listed if f["status"] == AMBIGUOUS],
        },
    }


def closure_report(closure: Closure) -> dict[str, Any]:
    """Changed, new, pulled, carried, references and noise of a closure."""

    def of(role: str) -> list[dict[str, Any]]:
        return [
            {
                "function": member.atom.name or closure.units[member.unit].changes.patched.section_name(member.atom),
                "unit": closure.units[member.unit].source,
                "object": closure.units[member.unit].target,
                "reason": member.reason,
                "evidence": evidence_of(closure, member),
            }
            for member in functions(closure, role)
        ]

    def of_via(member: Member) -> str:
        via = closure.members.get(member.via) if member.via is not None else None
        return via.atom.name if via is not None else ""

    references: dict[tuple[str, str], dict[str, Any]] = {}
    for (unit, _), bound in sorted(closure.bound.items(), key=lambda item: item[1]):
        references[(bound.name, bound.symbol)] = {
            "name": bound.name,
            "object": bound.object,
            "sympos": bound.sympos,
            "how": "local" if bound.how == NEW_GLOBAL else bound.how,
            "proof": bound.proof,
            "proven": not bound.unproven,
            "evidence": clone_evidence(closure.units[unit], bound.name),
        }
    for member in sorted(closure.members.values(), key=lambda member: (member.unit, member.atom.id)):
        if member.role == "data" and member.atom.kind == "data":
            references[(member.atom.name, f"copy {member.unit}")] = {
                "name": member.atom.name,
                "object": "",
                "sympos": 0,
                "how": "copy",
                "proof": member.reason,
                "proven": True,
                "evidence": [],
            }
    return {
        "changed": of("changed"),
        "new": of("new"),
        "pulled": [
            {**row, "because": of_via(member)}
            for row, member in zip(of("pulled"), functions(closure, "pulled"), strict=True)
        ],
        "carried": of("carried"),
        "references": list(references.values()),
        "noise": [{"function": n.function, "rule": n.rule} for unit in closure.units for n in unit.changes.noise],
        "warnings": list(closure.warnings),
        "dropped_keys": [key._asdict() for key in sorted(closure.dropped_keys)],
        "state": [_state(line) for line in sorted(closure.state.values())],
        **({"read_keys": [asdict(key) for key in sorted(closure.read_keys)]} if closure.read_keys else {}),
        **author_report(closure),
    }


def _state(line: StateLine) -> dict[str, str]:
    row: dict[str, str] = line._asdict()
    original = {"original": row.pop("orig"), "original_unit": row.pop("orig_unit")}
    return {**row, **original}


def author_report(closure: Closure) -> dict[str, Any]:
    """Callbacks and states that the patch's author wrote; a key is there only where there are any."""
    callbacks = [{"object": c.object, "kind": c.kind, "function": c.atom.name} for c in closure.callbacks]
    states = [{"id": number, "version": version} for number, version in sorted(closure.states.items())]
    return ({"callbacks": callbacks} if callbacks else {}) | ({"states": states} if states else {})


def on_top_report(on_top: OnTop) -> dict[str, Any]:
    """The patches that are there before this one, in order, and what becomes of their functions."""
    return {
        "on_top_of": [
            {"module": o.module, "replace": o.replace, "functions": [asdict(f) for f in sorted(o.functions)]}
            for o in on_top.active
        ],
        "taken_back": [
            {**asdict(t.function), "module": t.module, "how": t.how, "dropped": t.dropped} for t in on_top.taken_back
        ],
    }


def refusal_report(refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    """Refusals as data: one row for each fact, with the key `places` where there are several."""
    return [{**asdict(reason.first), **reason.more} for reason in reasons_of(refusals)]


def finding_report(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings as data."""
    return [asdict(f) for f in findings]


def error_report(error: KgbuildError) -> dict[str, Any]:
    """What ended a run other than a refusal: an error, or that there is nothing to patch."""
    return {
        "code": error.code,
        "exit_status": error.exit_code,
        "place": error.place,
        "fact": error.fact,
        "remedy": error.remedy,
    }


def empty_report(kernel: Kernel | None) -> dict[str, Any]:
    """A report with every required key and nothing found yet."""
    return {
        "schema": schema_name("build"),
        "schema_version": 1,
        "tool": {"name": "kgbuild", "version": __version__},
        "kernel": kernel_report(kernel) if kernel is not None else None,
        "patches": [],
        "hunks": [],
        "edits": [],
        "graph": {"nodes": [], "arrows": []},
        "code": [],
        "units": [],
        "changed": [],
        "new": [],
        "pulled": [],
        "carried": [],
        "references": [],
        "noise": [],
        "warnings": [],
        "consistency": [],
        "dropped_keys": [],
        "state": [],
        "accounting": [],
        "findings": [],
        "refusals": [],
        "unexamined": 0,
        "error": None,
        "module": None,
        "stages": [],
        "allowed": [],
        "pull": "proof",
        "backend": "",
        "proof": None,
    }

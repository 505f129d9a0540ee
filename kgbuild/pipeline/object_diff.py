# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares any two relocatable objects (`kgbuild diff`), and makes the output object.

It uses the stages of a build: correlate, compare, close, extract. There is no kernel, so the original object takes its
place (`closure/object_closure.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from kgbuild.accounting.account import Accounting, account
from kgbuild.closure.model import Closure
from kgbuild.closure.object_closure import close_objects
from kgbuild.correlation.noise import Noise
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diagnostics.unused_options import NO_INIT_CODE, unused_option
from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.diff.compare import Reason
from kgbuild.diff.init_needs import judge_init_refusals
from kgbuild.elf.consts import ET, SHF, SHT
from kgbuild.elf.object import Object
from kgbuild.elf.read import read
from kgbuild.errors import UserError
from kgbuild.ledger.ledger import compute_ledger
from kgbuild.objects.atoms import FUNCTION, Atom
from kgbuild.objects.view import View
from kgbuild.report.documents import ErrorRow, nothing_to_patch, rows_of, schema_name

if TYPE_CHECKING:
    from kgbuild.kernel.exports import Export
    from kgbuild.kernel.parent_symtab import ParentSymbols


class ChangedFunction(NamedTuple):
    """One changed function: its name in the patched object, and why it counts as changed."""

    name: str
    reason: Reason


class ObjectDiff(NamedTuple):
    """The result. Names are those of the patched object; names in `removed` are those of the original. A `.cold` half
    or a `__pfx_` prefix belongs to its function and is named in `output_functions` only. `ignored` are refusals
    suppressed on request."""

    changed: tuple[ChangedFunction, ...]
    new: tuple[str, ...]
    removed: tuple[str, ...]
    output_functions: tuple[str, ...]
    noise: tuple[Noise, ...]
    refusals: tuple[Refusal, ...]
    ignored: tuple[Refusal, ...]
    warnings: tuple[str, ...]
    accounting: Accounting
    changes: Changes
    closure: Closure

    @property
    def nothing(self) -> bool:
        """True if both objects do the same."""
        return not (self.changed or self.new or self.refusals)

    @property
    def init_only(self) -> bool:
        """True if only code and data of init memory changed."""
        return not (self.changed or self.new) and bool(self.refusals) and {r.code for r in self.refusals} == {"K3-init"}

    def output(self) -> bytes:
        """The output object: the changed and the new functions with everything that belongs to them alone. Raises
        ValueError if there are refusals or it would be empty."""
        if self.refusals or not self.output_functions:
            raise ValueError("no output object")
        from kgbuild.elf.write import OutSection, write
        from kgbuild.emit.extract import extract
        from kgbuild.host.system.output_kinds import DIFF_MARK

        out = extract(self.closure, None)
        # where compilers say who they are: a later run knows the file as one that may be written over
        flags = SHF.MERGE | SHF.STRINGS
        out.sections.append(OutSection(".comment", SHT.PROGBITS, flags, bytearray(DIFF_MARK), entsize=1))
        return write(out)

    @property
    def exit_status(self) -> int:
        """What `kgbuild diff` ends with: 0 where something changed, 1 where that can't be patched, 4 for nothing."""
        return 1 if self.refusals else 4 if self.nothing else 0

    @property
    def errors(self) -> list[ErrorRow]:
        """Why it does not end with 0."""
        return rows_of(self.refusals) or (nothing_to_patch("", "the two objects do the same") if self.nothing else [])

    def to_json(self) -> dict[str, Any]:
        """The answer as plain data (docs/schema/diff-1.json)."""
        return {
            "schema": schema_name("diff"),
            "schema_version": 1,
            "changed": [c.name for c in self.changed],
            "new": list(self.new),
            "removed": list(self.removed),
            "init_only": self.init_only,
            "output_functions": list(self.output_functions),
            "noise": [{"function": n.function, "rule": n.rule} for n in self.noise],
            "refusals": [_refusal(r) for r in self.refusals],
            "ignored": [_refusal(r) for r in self.ignored],
            "warnings": list(self.warnings),
            "accounting": self.accounting.as_data(),
            "reasons": {c.name: str(c.reason) for c in self.changed},
            "exit_status": self.exit_status,
            "errors": self.errors,
        }


def _refusal(refusal: Refusal) -> dict[str, str]:
    return {
        "code": refusal.code,
        "symbol": refusal.symbol,
        "section": refusal.section,
        "message": f"{refusal.place}: {refusal.fact}",
        "remedy": refusal.remedy,
    }


def read_relocatable(data: bytes | memoryview, place: str) -> Object:
    """A relocatable object. Raises UserError for any other file, with the offset of the problem."""
    obj = read(data)
    if obj.type != ET.REL:
        raise UserError(f"offset 0x10: e_type is {obj.type}, not a relocatable object", place=place)
    return obj


def diff_objects(
    orig: Object,
    patched: Object,
    place: str,
    exports: Mapping[str, Export] | None = None,
    parent: ParentSymbols | None = None,
    ignore_init: bool = False,
) -> ObjectDiff:
    """Compare two relocatable objects of one unit, and close the difference.

    `place` names the unit in refusals; `exports` are those of Module.symvers; `parent` are the symbols of vmlinux or of
    the module that the unit is part of. Refusals are part of the result. Raises UserError if the two can't be compared.
    """
    if orig.machine != patched.machine:
        raise UserError(
            f"offset 0x12: one object is for machine {orig.machine}, the other for {patched.machine}", place=place
        )
    changes = compute_changes(View(orig), View(patched), place)
    closure = close_objects(changes, exports or {}, parent)
    (kept, dropped), *_ = judge_init_refusals([changes], ignore_init)
    unused = [unused_option("--ignore-init", NO_INIT_CODE)] if ignore_init and not dropped else []
    refusals = sorted({*kept, *(r for r in closure.refusals if r not in changes.refusals)})
    closure = replace(closure, refusals=tuple(refusals))
    accounting = account(compute_ledger(orig, patched), changes, closure, ignored=dropped)
    refusals = sorted({*refusals, *accounting.refusals})
    closure = replace(closure, refusals=tuple(refusals))
    members = sorted(closure.members.values(), key=lambda m: m.atom.id)
    return ObjectDiff(
        tuple(_changed(changes)),
        tuple(sorted({n for a in changes.new for n in a.names})),
        tuple(sorted({n for a in changes.removed for n in a.names})),
        tuple(sorted({n for m in members if m.atom.kind == FUNCTION for n in m.atom.names})),
        changes.noise,
        tuple(refusals),
        tuple(sorted(set(dropped))),
        (*closure.warnings, *unused),
        accounting,
        changes,
        closure,
    )


def _changed(changes: Changes) -> list[ChangedFunction]:
    out: dict[str, ChangedFunction] = {}
    for change in changes.changed:
        for name in _names(change.orig, change.patched):
            out.setdefault(name, ChangedFunction(name, change.reason))
    return [out[name] for name in sorted(out)]


def _names(orig: Atom, patched: Atom) -> tuple[str, ...]:
    """The changed names of a body: if several names share it now, those whose original body it replaces."""
    shared = tuple(n for n in patched.names if n in orig.names)
    return shared or patched.names[:1]

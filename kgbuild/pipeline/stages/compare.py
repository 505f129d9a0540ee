# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the original and the patched object of each unit, and judges whether the changes are possible in a running
kernel: types in use, exports, init code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kgbuild.accounting.account import Accounting, UnitLedger, account_all, no_effects, with_places
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.diagnostics.unused_options import NO_INIT_CODE, unused_option
from kgbuild.diff.author_macros import leave_out, read_author
from kgbuild.diff.changes import Changes, compute_changes
from kgbuild.diff.init_needs import judge_init_refusals
from kgbuild.diff.ipa_clones import parse_ipa_clones
from kgbuild.diff.types_in_use import check_types
from kgbuild.elf.object import Object
from kgbuild.elf.read import FormatError, read
from kgbuild.errors import NoChange
from kgbuild.host.compile.compile import Compiled
from kgbuild.kernel.exports import MARKS
from kgbuild.ledger.ledger import compute_ledger
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import Atom
from kgbuild.objects.symbol_kinds import stem
from kgbuild.objects.view import View
from kgbuild.pipeline.stages.events import Run
from kgbuild.pipeline.stages.values import Accounted, Compared, ComparedUnit, Prepared, Proven, ProvenUnit, Warned


def compare(prepared: Prepared, proven: Proven, run: Run) -> Compared:
    """What changed in each unit. Raises NoChange if no code changes. Refusals of changes are part of the result, and
    are raised together with all others once the patch is closed."""
    options = run.options
    left_out: list[str] = []
    warnings: list[str] = []
    with run.stage("diff"):
        exports = _check_exports(prepared, proven, run, options.allow_types)
        units, ledgers = [], []
        for one in compare_units(prepared, proven.units, run):
            warnings += one.warnings
            left_out += one.left_out
            unit = _with_exports(one.result, exports.get(one.proven.source, []))
            units.append(unit)
            ledgers.append(compute_ledger(unit.changes.orig.obj, unit.changes.patched.obj))
        warnings += _accept_nothing(prepared, proven, units, exports, run)
    judged = judge_init(units, options.ignore_init, warnings)
    if options.ignore_init and not any(map(_left_out, units, judged)):
        warnings.append(unused_option("--ignore-init", NO_INIT_CODE))
    compared = Compared(
        judged,
        tuple(
            UnitLedger(ledger, _left_out(with_init, judged_unit), judged_unit.author)
            for ledger, with_init, judged_unit in zip(ledgers, units, judged, strict=True)
        ),
        (*prepared.warnings, *warnings, *left_out),
    )
    run.observer.reached(compared)
    run.observer.reached(Warned(compared.warnings))
    if all(u.changes.nothing for u in compared.units):
        said = no_effects(account(prepared, compared, compared.units, None, run).accountings)
        fact = "; ".join([*left_out, *said]) or "no function changes; the compiled code is the same" + _renamed(judged)
        raise NoChange(fact, remedy="nothing to patch")
    return compared


def _read_patched(compiled: Compiled, source: str) -> Object:
    """The patched object. Raises Refused where its code makes an object that no kernel could load."""
    try:
        return read(compiled.patched)
    except FormatError as error:
        raise Refused(
            [Refusal("P10-compile", source, f"what the compiler made can't be used: {error.fact}")]
        ) from error


def compare_units(prepared: Prepared, units: Sequence[ProvenUnit], run: Run) -> list[ComparedUnit]:
    """Compare each unit, and keep the results in `prepared.looked`."""
    known = prepared.looked.compared
    out = []
    for unit in units:
        key = (unit.compiled.unit.object, unit.target)
        had = known.get(key)
        if had is None or had.proven.parity is not unit.parity or had.proven.compiled.patched != unit.compiled.patched:
            known[key] = _compare_unit(unit, run.options.allow_types)
        out.append(known[key])
    return out


def _with_exports(unit: UnitResult, exports: Sequence[Refusal]) -> UnitResult:
    return unit._replace(changes=_with_refusals(unit.changes, (*unit.changes.refusals, *exports)))


def _compare_unit(proven: ProvenUnit, allowed: frozenset[str]) -> ComparedUnit:
    """Compare one unit."""
    compiled = proven.compiled
    warnings: list[str] = []
    patched = View(_read_patched(compiled, proven.source))
    changes = compute_changes(proven.orig, patched, proven.source, lines=False)
    author, refusals = read_author(changes.patched, proven.source)
    changes, left_out = leave_out(changes, author)
    refusals += changes.refusals
    if changes.changed or changes.new:

        def address(atom: Atom) -> int | None:
            # the load address of a module is unknown
            binding = proven.parity.bindings.get(atom.id) if proven.target == VMLINUX else None
            return binding.address if binding is not None else None

        refused, warned = check_types(changes, allowed, address)
        refusals += refused
        warnings += warned
    changes = _with_refusals(changes, refusals)
    clones = parse_ipa_clones(compiled.patched_clones)
    if not changes.nothing:
        warnings += _own_options(compiled)
    if not clones.complete or clones.unread:
        fact = "gcc's .ipa-clones is cut off or of an unknown form; what it does not say is taken from names"
        warnings.append(f"{proven.source}: {fact}")
    result = UnitResult(proven.source, changes, proven.parity, proven.target, author, clones)
    return ComparedUnit(proven, result, tuple(warnings), tuple(left_out))


def _accept_nothing(
    prepared: Prepared, proven: Proven, units: Sequence[UnitResult], exports: Mapping[str, list[Refusal]], run: Run
) -> list[str]:
    """Warnings of names given to --allow-type without which just as much would be refused: a slip of the pen, or out of
    date."""
    allowed = run.options.allow_types

    def refused(names: frozenset[str]) -> int:
        return sum(len(check_types(u.changes, names)[0]) for u in units if u.changes.changed or u.changes.new)

    def refused_exports(names: frozenset[str]) -> int:
        return sum(map(len, _check_exports(prepared, proven, run, names).values()))

    before = refused(allowed) if allowed else 0
    exported = sum(map(len, exports.values()))
    return [
        unused_option("--allow-type", "no type or variable of that name has another layout", name)
        for name in sorted(allowed)
        if refused(allowed - {name}) == before and refused_exports(allowed - {name}) == exported
    ]


def unchanged(proven: ProvenUnit) -> UnitResult:
    """A unit that the patch does not touch: its two objects are the same."""
    changes = compute_changes(proven.orig, View(read(proven.compiled.orig)), proven.source, lines=False)
    clones = parse_ipa_clones(proven.compiled.original_clones)
    return UnitResult(proven.source, changes, proven.parity, proven.target, clones=clones)


def account(
    prepared: Prepared,
    compared: Compared,
    units: Sequence[UnitResult],
    closure: Closure | None,
    run: Run,
    more: Sequence[Accounting] = (),
) -> Accounted:
    """Account for each difference; `more` is accounted for already. Unclaimed differences are refused: raised at once
    if there is no closure, else added to the closure's refusals."""
    with run.stage("account"):
        originals = {u.changes.place: u.changes.orig.obj for u in units}
        files = [file for patch in prepared.applied.patches.patches for file in patch.files]
        accountings = (*account_all(compared.ledgers, units, closure), *more)
        found = Accounted(with_places(accountings, files, prepared.applied.patches.applied.keys(), originals))
    refusals = [r for a in found.accountings for r in a.refusals]
    run.observer.reached(found)
    if refusals and closure is None:
        raise Refused(refusals)
    return found


def _renamed(units: Sequence[UnitResult]) -> str:
    """Which variables were renamed, as a clause for a message; "" if none."""
    names = [
        f"{unit.changes.orig.atoms[orig].name} is now called {unit.changes.patched.atoms[patched].name}"
        for unit in units
        for orig, patched, _ in unit.changes.renamed
        if stem(unit.changes.orig.atoms[orig].name) != stem(unit.changes.patched.atoms[patched].name)
    ]
    return f" ({', '.join(names)})" if names else ""


def _left_out(unit: UnitResult, judged_unit: UnitResult) -> tuple[Refusal, ...]:
    """The refusals of a unit that --ignore-init suppresses."""
    kept = {r.symbol for r in judged_unit.changes.refusals if r.code == "K3-init"}
    return tuple(r for r in unit.changes.refusals if r.code == "K3-init" and r.symbol not in kept)


def judge_init(units: Sequence[UnitResult], ignore: bool, warnings: list[str]) -> tuple[UnitResult, ...]:
    """Leave out changes of init code if requested, except those that set something the rest of the patch uses. What is
    left out is added to `warnings`."""
    out = []
    for unit, (refusals, left_out) in zip(units, judge_init_refusals([u.changes for u in units], ignore), strict=True):
        warnings += (f"{r.place}: {r.fact}; ignored by --ignore-init" for r in left_out)
        out.append(unit._replace(changes=_with_refusals(unit.changes, refusals)))
    return tuple(out)


def _with_refusals(changes: Changes, refusals: Sequence[Refusal]) -> Changes:
    return changes._replace(refusals=tuple(refusals))


def _own_options(compiled: Compiled) -> list[str]:
    """Warn of functions with compiler options of their own: they may not follow the unit's calling convention."""
    what = "a function has options of its own; its callers in other units rely on the calling convention only"
    return [f"{file}:{line}: {text}: {what}" for file, line, text in compiled.optimized]


def _check_exports(prepared: Prepared, proven: Proven, run: Run, allowed: frozenset[str]) -> dict[str, list[Refusal]]:
    """The refusals for the exports of each unit, by its source. `allowed` are names of types that may differ."""
    compiled = proven.compiled
    # most units export nothing, and the modules for exports take time to import
    if not any(name in c.orig for c in compiled for name in MARKS):
        return {}
    from kgbuild.pipeline.stages.export_types import check_exports

    found = check_exports(
        prepared.tree,
        compiled,
        prepared.selection.files,
        prepared.selection.real,
        lambda: prepared.running.exports,
        run.cache,
        run.options.jobs,
        allowed,
    )
    out: dict[str, list[Refusal]] = {}
    for refusal in found:
        out.setdefault(refusal.place.partition(": ")[0], []).append(refusal)
    return out

# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles units, original and patched, and compares the originals with the running kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.elf.read import read
from kgbuild.emit.backends import preferred_backend
from kgbuild.host.compile.compile import Compiled, compile_plain, compile_units
from kgbuild.model import VMLINUX, UnitCommand
from kgbuild.objects.view import View
from kgbuild.pipeline.stages.events import Run
from kgbuild.pipeline.stages.values import Prepared, Proven, ProvenUnit
from kgbuild.proof.parity import ABSENT, EXACT, compute_parity


def compile_prepared(prepared: Prepared, run: Run) -> list[Compiled]:
    """Compile each unit twice: from the kernel's source and from the patched one."""
    selection = prepared.selection
    compiled = _compile(prepared, prepared.units, selection.files, run, selection.real)
    if run.options.keep is not None:
        _keep(compiled, run.options.keep / "1-compile")
    return compiled


def compile_some(prepared: Prepared, run: Run) -> list[Compiled]:
    """Compile the units of a first look; their objects are in the cache when all units are compiled."""
    return _compile(prepared, prepared.units, prepared.selection.files, run, prepared.selection.real)


def _compile(
    prepared: Prepared,
    units: Sequence[UnitCommand],
    files: Mapping[str, bytes],
    run: Run,
    real: Sequence[str] | frozenset[str] = (),
) -> list[Compiled]:
    with run.stage("compile"):
        options = run.options
        return compile_units(
            prepared.tree, units, files, run.cache, run.observer, options.jobs, real, share=options.share
        )


def _keep(compiled: Sequence[Compiled], folder: Path) -> None:
    """Write the objects where the user can inspect them."""
    for unit in compiled:
        stem = folder / unit.unit.object.removesuffix(".o")
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_name(f"{stem.name}.orig.o").write_bytes(unit.orig)
        stem.with_name(f"{stem.name}.patched.o").write_bytes(unit.patched)


def prove_units(prepared: Prepared, compiled: Sequence[Compiled], run: Run) -> list[ProvenUnit]:
    """Parity of each original, kept in `prepared.looked`. Raises Refused."""
    units = _prove_units(prepared, compiled, run)
    prepared.looked.proven.update({(u.compiled.unit.object, u.target): u for u in units})
    return units


def prove(prepared: Prepared, compiled: Sequence[Compiled], run: Run) -> Proven:
    """Parity of each original with what runs. Raises Refused for a unit none of whose functions runs."""
    with run.stage("parity"):
        running = prepared.running
        backend = run.options.backend or preferred_backend(running.features)
        units = _prove_units(prepared, compiled, run)
    proven = Proven(tuple(units), dict(prepared.selection.because), backend)
    run.observer.reached(proven)
    return proven


def prove_pulled(prepared: Prepared, proven: Proven, needs: Mapping[str, Sequence[str]], run: Run) -> Proven:
    """The proven units, extended by units that the patch does not touch but whose functions come along. `needs`: the
    reasons, by source. Their patched objects are their originals. Raises Refused for a unit that this kernel does not
    have."""
    from kgbuild.host.kernels.unit_listing import read_units

    commands = read_units(prepared.tree, needs)
    lost = sorted(source for source in needs if not commands.get(source) or source in proven.pulled)
    if lost:
        raise Refused(
            [Refusal("K15-pull", source, f"{needs[source][0]}, and is not found in its unit") for source in lost]
        )
    compiled = _compile(prepared, [unit for source in sorted(commands) for unit in commands[source]], {}, run)
    pulled = {**proven.pulled, **{source: reasons[0] for source, reasons in needs.items()}}
    with run.stage("parity"):
        units = _prove_units(prepared, compiled, run)
    extended = Proven((*proven.units, *units), {**proven.because, **pulled}, proven.backend, pulled)
    run.observer.reached(extended)
    return extended


def _prove_units(prepared: Prepared, compiled: Sequence[Compiled], run: Run) -> list[ProvenUnit]:
    """Parity of each unit in each object of the running kernel that it is part of. Raises Refused."""
    running = prepared.running
    proofs = []
    known: dict[tuple[str, str], ProvenUnit] = {}
    for unit in compiled:
        for target in unit.unit.targets:
            had = prepared.looked.proven.get((unit.unit.object, target))
            if had is not None and had.compiled.orig == unit.orig:
                known[unit.unit.object, target] = had
                proofs.append((unit, target, had.orig, had.parity))
                continue
            view = View(read(unit.orig))
            proofs.append((unit, target, view, compute_parity(view, running.image(target))))
    new = [unit.unit for unit, target, _, proof in proofs if proof.paddable and (unit.unit.object, target) not in known]
    plain = _compile_plain(prepared, new, run)
    units, refusals = [], []
    for unit, target, view, first in proofs:
        alone, proof = plain.get(unit.unit), first
        if alone is not None and first.paddable and (unit.unit.object, target) not in known:
            proof = compute_parity(view, running.image(target), View(read(alone)))
        if proof.counts[ABSENT] and not proof.counts[EXACT]:
            where = "the running kernel" if target == VMLINUX else f"the module {target}"
            fact = f"none of its {len(proof.functions)} functions is in {where}"
            refusals.append(Refusal("P6-not-in-kernel", unit.unit.source, fact))
        units.append(ProvenUnit(unit, target, view, proof))
    if refusals:
        raise Refused(refusals)
    return units


def _compile_plain(prepared: Prepared, units: Sequence[UnitCommand], run: Run) -> dict[UnitCommand, bytes]:
    """The originals of units with functions that differ in padding, compiled by the kernel's own options alone."""
    wanted = list(dict.fromkeys(units))
    if not wanted:
        return {}
    objects = compile_plain(prepared.tree, wanted, run.cache, run.observer, run.options.jobs, share=run.options.share)
    return dict(zip(wanted, objects, strict=True))

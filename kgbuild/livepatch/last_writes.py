# SPDX-License-Identifier: GPL-2.0-or-later
"""Static variables that a patch leaves without a write.

A static variable that its unit writes nowhere, and whose address goes nowhere, is a constant to the compiler: it puts
the initial value wherever the variable is read, and makes no variable. The running kernel's variable may have another
value since; patched code no longer sees that. The debugging information of the patched object still has the
declaration, without a place; what is gone from the source too has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from kgbuild.arch.base import Doing
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.debuginfo.static_locals import read_placeless, read_static_locals
from kgbuild.diagnostics.warnings import LAST_WRITE, ConsistencyWarning
from kgbuild.elf.consts import STB
from kgbuild.elf.read import FormatError
from kgbuild.livepatch.address_uses import uses_in
from kgbuild.objects.atoms import DATA, FUNCTION, Ambiguous, Atom
from kgbuild.objects.stateless import is_stateless
from kgbuild.objects.symbol_kinds import is_init, stem, variable
from kgbuild.objects.view import View


def find_last_write(closure: Closure) -> list[ConsistencyWarning]:
    """Variables of the kernel that patched code takes for constants, because the patch took the last write away."""
    return [w for unit in closure.units for w in _of_unit(unit)]


def _of_unit(unit: UnitResult) -> Iterator[ConsistencyWarning]:
    view, patched = unit.changes.orig, unit.changes.patched
    if view is patched or unit.changes.nothing:
        return
    kept = {stem(a.name) for a in patched.data}
    lost = [
        a
        for a in view.data
        if a.bind == STB.LOCAL
        and a.id not in unit.changes.correlation.to_patched
        and view.section_of(a).writable
        and stem(a.name) not in kept
        and not is_stateless(view, a)
        and not is_init(view, a)
    ]
    if not lost:
        return
    try:
        declared = read_placeless(patched.obj)
        locals_ = read_static_locals(view.obj, {a.section for a in lost})
    except FormatError:  # debugging information of a form that is not known
        return
    for atom in lost:
        local = locals_.get((atom.section, atom.offset))
        key = (local.function, local.name) if local is not None else ("", atom.name)
        line = declared.get(key)
        writers = list(_writers(view, atom)) if line is not None else []
        if writers:
            name = variable(atom.name) or atom.name
            where = f" in {key[0]}" if key[0] else ""
            fact = (
                f"nothing writes {name}{where} any more: patched code takes its initial value for it, and the running "
                f"one may have another ({writers[0]})"
            )
            evidence = (*writers[:3], f"line {line}: declared, and the patched object has no such variable")
            yield ConsistencyWarning(LAST_WRITE, key[0], unit.source, unit.target, fact, evidence)


def _writers(view: View, atom: Atom) -> Iterator[str]:
    """Where the original writes a variable, or hands its address on."""
    sections = view.sections_referring_to({atom.section}) | {atom.section}
    for source in view.atoms:
        if source.section not in sections or source.kind not in (FUNCTION, DATA):
            continue
        try:
            refs = [r for r in view.refs(source) if r.atom == atom.id]
            if source.kind == DATA and refs:
                yield f"{source.name} holds its address"
            elif refs:
                writes = (Doing.WRITE, Doing.PASS, Doing.STORE)
                for seen in uses_in(view, source, refs):
                    if seen.doing in writes:
                        yield f"{source.name}+{seen.offset:#x} of the running kernel writes it"
        except Ambiguous:
            continue

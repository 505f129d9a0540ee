# SPDX-License-Identifier: GPL-2.0-or-later
"""What KGBUILD_SAME_STATE(NEW, "OLD") of kgbuild-macros.h says: a variable of the patched source is one of the running
kernel's that had another name.

Each is a record in the section .kgbuild.same: a pointer to the new variable, and one to the text. The text names a
variable of the original:

  name                   of the file, in this unit; where it has none, in another unit of the patch
  function.name          static in a function (function:name too)
  path/file.c:name       of another unit of the patch; path/file.c:function.name likewise
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kgbuild.correlation.correlate import Correlation, drop_settled
from kgbuild.correlation.pair_evidence import is_state, kind_of_memory, memory_of
from kgbuild.correlation.renamed_variables import Renamed
from kgbuild.debuginfo.static_locals import read_static_locals
from kgbuild.elf.read import FormatError
from kgbuild.objects.atoms import DATA, STRING, Ambiguous, Atom
from kgbuild.objects.symbol_kinds import stem, variable
from kgbuild.objects.variable_types import variable_difference
from kgbuild.objects.view import View

SECTION = ".kgbuild.same"
MACRO = "KGBUILD_SAME_STATE"
_TEXT = re.compile(r"(?:(?P<path>[^:]+\.[ch]):)?(?:(?P<function>[^.:]+)[.:])?(?P<name>[^.:]+)")


class SameState(NamedTuple):
    """One record: the new variable's atom in the patched object, and the text that names the old one."""

    atom: int
    text: str


class Named(NamedTuple):
    """What a text names: the source file ("" for the unit's own), the function ("" for none), the variable."""

    path: str
    function: str
    name: str


def read_declared(view: View) -> tuple[list[SameState], list[str]]:
    """The records of a patched object, and what is wrong with others."""
    if view.obj.section_named(SECTION) is None:
        return [], []
    out, faults = [], []
    for atom in view.data:
        if view.section_name(atom) != SECTION:
            continue
        try:
            refs = {r.offset: r for r in view.refs(atom)}
        except Ambiguous as error:
            faults.append(": ".join(error.args))
            continue
        variable_ref, text_ref = refs.get(0), refs.get(8)
        if text_ref is None or view.atoms[text_ref.atom].kind != STRING:
            faults.append(f"{MACRO}: its second argument is no text")
            continue
        text = (
            view.content(view.atoms[text_ref.atom])[max(text_ref.delta, 0) :].split(b"\0")[0].decode("utf-8", "replace")
        )
        if (
            variable_ref is None
            or variable_ref.delta
            or view.atoms[variable_ref.atom].kind != DATA
            or not is_state(view, view.atoms[variable_ref.atom])
        ):
            faults.append(f'{MACRO}(..., "{text}"): its first argument is no writable variable of this file')
        elif parse_declared_name(text) is None:
            faults.append(f'{MACRO}(..., "{text}"): the text names no variable')
        else:
            out.append(SameState(variable_ref.atom, text))
    return out, faults


def parse_declared_name(text: str) -> Named | None:
    """The parts of a text; None for one that names nothing."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        return None
    return Named(found["path"] or "", found["function"] or "", found["name"])


def find_named(view: View, name: Named) -> list[Atom]:
    """The variables of an original object that a text means."""
    if not name.function:
        return [a for a in view.data if name.name in a.names and not view.section_name(a).startswith(".kgbuild.")]
    alike = [a for a in view.data if variable(a.name) == name.name]
    try:
        declared = read_static_locals(view.obj, {a.section for a in alike})
    except FormatError:
        declared = {}
    if declared:
        wanted = (name.function, name.name)
        return [a for a in alike if (d := declared.get((a.section, a.offset))) is not None and d[:2] == wanted]
    return [a for a in alike if name.function in _users(view, a.id)]


def pair_declared(correlation: Correlation) -> list[Renamed]:
    """Pair what is declared to be a variable of the same unit that is gone, where nothing stands against it; the rest
    is judged, and refused, when all units are known (state_verdicts)."""
    out = []
    for atom, text in read_declared(correlation.patched)[0]:
        name = parse_declared_name(text)
        patched = correlation.patched.atoms[atom]
        found = find_named(correlation.orig, name) if name is not None and not name.path else []
        if len(found) == 1 and correlation.paired(found[0].id, patched.id):
            correlation.affirmed.add(patched.id)
        if len(found) != 1 or patched.id in correlation.to_original or found[0].id in correlation.to_patched:
            continue
        if not why_not_same(correlation.orig, found[0], correlation.patched, patched):
            correlation.pair(found[0].id, patched.id)
            out.append(Renamed(found[0].id, patched.id, MACRO))
    drop_settled(correlation)
    return out


def _users(view: View, target: int) -> set[str]:
    out = set()
    for function in view.functions:
        try:
            if any(r.atom == target for r in view.refs(function)):
                out.add(stem(function.name.partition(".cold")[0]))
        except Ambiguous:
            continue
    return out


def why_not_same(orig_view: View, orig: Atom, patched_view: View, patched: Atom) -> str:
    """Why a variable can't be declared to be another, "" where it can: type, size and special kinds of memory must be
    equal."""
    if not is_state(orig_view, orig):
        return f"{orig.name} is not writable in the running kernel"
    if orig.size != patched.size:
        return f"{orig.name} has {orig.size} bytes, {patched.name} has {patched.size}"
    if memory_of(orig_view, orig)[1] != memory_of(patched_view, patched)[1]:
        kinds = kind_of_memory(orig_view, orig), kind_of_memory(patched_view, patched)
        return f"{orig.name} is in {kinds[0]}, {patched.name} in {kinds[1]}"
    found = variable_difference(orig_view, orig, patched_view, patched)
    return f"their types differ: {found}" if found is not None else ""

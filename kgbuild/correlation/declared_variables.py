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
from kgbuild.correlation.renamed_variables import Renamed, is_state, kind_of_memory, memory_of
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
        now, was = refs.get(0), refs.get(8)
        if was is None or view.atoms[was.atom].kind != STRING:
            faults.append(f"{MACRO}: its second argument is no text")
            continue
        text = view.content(view.atoms[was.atom])[max(was.delta, 0) :].split(b"\0")[0].decode("utf-8", "replace")
        if now is None or now.delta or view.atoms[now.atom].kind != DATA or not is_state(view, view.atoms[now.atom]):
            faults.append(f'{MACRO}(..., "{text}"): its first argument is no writable variable of this file')
        elif parse_name(text) is None:
            faults.append(f'{MACRO}(..., "{text}"): the text names no variable')
        else:
            out.append(SameState(now.atom, text))
    return out, faults


def parse_name(text: str) -> Named | None:
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


def pair_declared(c: Correlation) -> list[Renamed]:
    """Pair what is declared to be a variable of the same unit that is gone, where nothing stands against it; the rest
    is judged, and refused, with all units at hand (state_verdicts)."""
    out = []
    for atom, text in read_declared(c.patched)[0]:
        name = parse_name(text)
        p = c.patched.atoms[atom]
        found = find_named(c.original, name) if name is not None and not name.path else []
        if len(found) == 1 and c.paired(found[0].id, p.id):
            c.affirmed.add(p.id)
        if len(found) != 1 or p.id in c.to_original or found[0].id in c.to_patched:
            continue
        if not why_not_same(c.original, found[0], c.patched, p):
            c.pair(found[0].id, p.id)
            out.append(Renamed(found[0].id, p.id, MACRO))
    drop_settled(c)
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


def why_not_same(o_view: View, o: Atom, p_view: View, p: Atom) -> str:
    """Why a variable can't be declared to be another, "" where it can: type, size and special kinds of memory must be
    equal."""
    if not is_state(o_view, o):
        return f"{o.name} is not writable in the running kernel"
    if o.size != p.size:
        return f"{o.name} has {o.size} bytes, {p.name} has {p.size}"
    if memory_of(o_view, o)[1] != memory_of(p_view, p)[1]:
        return f"{o.name} is in {kind_of_memory(o_view, o)}, {p.name} in {kind_of_memory(p_view, p)}"
    found = variable_difference(o_view, o, p_view, p)
    return f"their types differ: {found}" if found is not None else ""

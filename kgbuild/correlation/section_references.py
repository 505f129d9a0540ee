# SPDX-License-Identifier: GPL-2.0-or-later
"""References that name a section of several variables and an offset, and not a variable.

Assemblers write them for local variables. What lies at the offset is not surely what is meant: `array + 8` is the end
of an array and the start of what lies behind it, `array - 1` a place in what lies before it. kgbuild has its own units
assembled so that variables keep their names (`host/compile/assembler.py`); objects that are given to it, and those of
clang, are as they are. There the variable that lies at the place is taken only where the next ones to either side lie
as in the other object, so that every meaning leads to one and the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgbuild.objects.atoms import Atom
from kgbuild.objects.symbol_kinds import may_be_array
from kgbuild.objects.view import View

if TYPE_CHECKING:
    from kgbuild.correlation.correlate import Correlation


def same_surroundings(correlation: Correlation, orig: Atom, patched: Atom) -> bool:
    """Whether the variables beside one of the original and one of the patched object are the same ones at the same
    distances. What is no array does not count."""
    orig_places, patched_places = (
        _distances(view, atom) for view, atom in ((correlation.orig, orig), (correlation.patched, patched))
    )
    return all(
        orig_place is patched_place
        or (
            orig_place is not None
            and patched_place is not None
            and orig_place[1] == patched_place[1]
            and correlation.paired(orig_place[0], patched_place[0])
        )
        for orig_place, patched_place in zip(orig_places, patched_places, strict=True)
    )


def _distances(view: View, atom: Atom) -> list[tuple[int, int] | None]:
    """The neighbours of a variable as (atom, distance in bytes), None where there is none that matters."""
    return [
        (other.id, other.offset - atom.offset) if other is not None and may_be_array(view, other) else None
        for other in view.neighbours(atom)
    ]


def may_mean(view: View, atom: Atom) -> str:
    """What a reference to a variable may mean besides, in words."""
    before, behind = (n if n is not None and may_be_array(view, n) else None for n in view.neighbours(atom))
    others = [f"the end of {before.name}"] if before is not None else []
    others += [f"a place before {behind.name}"] if behind is not None else []
    section = view.section_name(atom)
    return f"may mean {atom.name} or {' or '.join(others)}: the object names {section} and an offset only"

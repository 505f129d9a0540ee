# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of the variables of an older patch when another one takes its place: nothing carries their values over.

The kernel replaces functions; the data of a patch is memory of its module. A new patch that has a variable of the same
name has one of its own, with the initial value. The kernel's own ways to keep a value are shadow variables and states
with callbacks (Documentation/livepatch/shadow-vars.rst, system-state.rst).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kgbuild.livepatch.cumulative import Older

_NUMBER = re.compile(r"\.\d+$")
REMEDY = (
    "to carry a value over, keep it in a shadow variable (klp_shadow_get_or_alloc), or hand it on in a callback with "
    "KGBUILD_STATE"
)


class Variable(NamedTuple):
    """A variable of a patch: the object and the unit that it belongs to (both "" where the module does not say),
    its name as in the module, its size in bytes."""

    object: str
    unit: str
    name: str
    size: int

    def means(self, other: Variable) -> bool:
        """Whether both are the same variable of the source, as far as is known."""
        if _source_name(self.name) != _source_name(other.name):
            return False
        return all(not (a and b) or a == b for a, b in ((self.object, other.object), (self.unit, other.unit)))


def _source_name(name: str) -> str:
    """Without the number that the compiler gives a static local."""
    return _NUMBER.sub("", name)


def begin_anew(there: Iterable[Older], mine: Sequence[Variable], replace: bool) -> Iterator[str]:
    """A warning for each older patch whose variables lose their values to a patch that has the variables `mine`.

    there    the older patches that are active when the new one comes
    replace  whether they go; else only what is there again is of interest
    """
    for older in there:
        again = sorted({v.name for v in older.data if any(v.means(m) for m in mine)})
        gone = sorted({v.name for v in older.data} - set(again)) if replace else []
        if again:
            begin = "begin" if len(again) > 1 else "begins"
            yield f"{_all(again)} of {older.module} {begin} anew in this patch; {REMEDY}"
        if gone:
            yield f"the value of {_all(gone)} goes with {older.module}, and this patch has no such variable; {REMEDY}"


def _all(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]

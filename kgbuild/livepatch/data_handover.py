# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of the variables of an older patch when another one takes its place: nothing carries their values over.

The kernel replaces functions; the data of a patch is memory of its module. A new patch that has a variable of the same
name has one of its own, with the initial value. The kernel's own ways to keep a value are shadow variables and states
with callbacks (Documentation/livepatch/shadow-vars.rst, system-state.rst).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from kgbuild.closure.model import NewVariable

if TYPE_CHECKING:
    from kgbuild.livepatch.cumulative import Older

REMEDY = (
    "to carry a value over, keep it in a shadow variable (klp_shadow_get_or_alloc), or hand it on in a callback with "
    "KGBUILD_STATE"
)


def warn_of_lost_values(there: Iterable[Older], new: Sequence[NewVariable], replace: bool) -> Iterator[str]:
    """A warning for each older patch whose variables lose their values to a patch that has the variables `new`.

    there    the older patches that are active when the new one comes
    replace  whether they go; else only what is there again is of interest
    """
    for older in there:
        again = sorted({v.name for v in older.data if any(v.means(variable) for variable in new)})
        gone = sorted({v.name for v in older.data} - set(again)) if replace else []
        if again:
            begin = "begin" if len(again) > 1 else "begins"
            yield f"{_all(again)} of {older.module} {begin} again with the initial value in this patch; {REMEDY}"
        if gone:
            yield f"the value of {_all(gone)} goes with {older.module}, and this patch has no such variable; {REMEDY}"


def _all(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]

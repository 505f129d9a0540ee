# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways in which a function can be entered that no direct call shows.

The code of an indirect call does not tell its target; only the holders of a function's address are known. So each
function on a path gets its holders in data (operations tables, initcalls), the functions that use these, its export,
and code without a symbol that leads to it. A function without any way in and without a caller is not known to run.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgbuild.callgraph.model import CallGraph

POINTER, INITCALL, EXPORT, STRAY = "pointer", "initcall", "export", "stray"
_USERS = 8


@dataclass(frozen=True, order=True)
class Way:
    """One way in. `kind` is POINTER (data contains the address), INITCALL (data that the kernel runs through once, at
    boot or when the module is loaded), EXPORT (modules outside the index may call it) or STRAY (code without a symbol
    leads to it). `object` and `place` say where. `users` take the address of that data; they are the first of
    `user_count`."""

    kind: str
    object: str
    place: str
    users: tuple[str, ...] = ()
    user_count: int = 0


def ways_in(graph: CallGraph, number: int) -> list[Way]:
    """Every way into a function other than calls, sorted."""
    found = []
    for taker in graph.address_takers(number):
        kind = INITCALL if taker.initcall else POINTER
        place = f"{taker.name or taker.section}+{taker.offset:#x}"
        users = tuple(graph.function(user).name for user in taker.users[:_USERS])
        found.append(Way(kind, taker.object, place, users, len(taker.users)))
    own = graph.function(number).object
    found += [Way(EXPORT, own, name.name) for name in graph.aliases(number) if name.exported]
    found += [Way(STRAY, own, place) for place in graph.strays(number)]
    return sorted(set(found))

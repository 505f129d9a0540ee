# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusals as reasons: one for each fact, with every place where it holds.

A structure that grows is refused in each unit that uses it. That is one reason with many places: refusals with the same
code, fact, symbol, section and remedy are told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kgbuild.diagnostics.refusals import Refusal

SHOWN_PLACES = 3


class RefusalReason(NamedTuple):
    """One fact that stands against a patch, and the places where it was found: at least one, each once, in the
    order in which they were found."""

    first: Refusal
    places: tuple[str, ...]

    @property
    def others(self) -> str:
        """The places after the first, in words."""
        return other_places(self.places)

    @property
    def more(self) -> dict[str, Any]:
        """What a row of JSON has beside the refusal's own keys: `places`, all of them, where there are several."""
        return {"places": list(self.places)} if len(self.places) > 1 else {}


def other_places(places: Sequence[str]) -> str:
    """The places of a reason after its first, in words: some of them, and how many more; "" if there is one place."""
    shown = places[1:SHOWN_PLACES]
    more = len(places) - 1 - len(shown)
    return ", ".join(shown) + (f" and {more} more place{'s' * (more != 1)}" if more > 0 else "")


def reasons_of(refusals: Iterable[Refusal]) -> list[RefusalReason]:
    """The reasons that some refusals come to, in the order of the first refusal of each."""
    found: dict[tuple[str, ...], list[Refusal]] = {}
    for refusal in refusals:
        key = (refusal.code, refusal.fact, refusal.symbol, refusal.section, refusal.remedy)
        found.setdefault(key, []).append(refusal)
    return [RefusalReason(same[0], tuple(dict.fromkeys(one.place for one in same))) for same in found.values()]

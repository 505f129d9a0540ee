# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of each difference in the ledger.

Every difference is claimed exactly once: by a function that is replaced, by what comes along in the module, by a
binding, by a rule for accidents (`noise`), by a refusal, or because it can have no effect in a kernel that runs, for a
reason that is said. What nobody claims is refused (K26-unaccounted). A claim is made for one difference by what it is
and where it is; none stands for a whole section.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kgbuild.accounting.claims import Claim, Claims
from kgbuild.accounting.source_places import changed_lines, place_of
from kgbuild.accounting.unit_facts import BOUND, CARRIED, ORDER, REPLACED, UNACCOUNTED
from kgbuild.debuginfo.static_locals import read_lines
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.diff.author_macros import NOTHING, Author
from kgbuild.diff.changes import Changes
from kgbuild.elf.object import Object
from kgbuild.elf.read import FormatError
from kgbuild.ledger import difference as kinds
from kgbuild.ledger.ledger import Ledger
from kgbuild.ledger.pieces import BTF, MODINFO

if TYPE_CHECKING:
    from kgbuild.closure.model import Closure, UnitResult
    from kgbuild.patch.unified_diff import FilePatch

_SHOWN = ("section", "symbol", "kind", "offset", "original", "patched")


@dataclass(frozen=True)
class Accounting:
    """The ledger of one unit with a claim for each difference, in the ledger's order."""

    place: str
    claims: tuple[Claim, ...] = ()
    target: str = "vmlinux"

    @property
    def counts(self) -> dict[str, int]:
        """How many differences each kind of claim stands for, in a fixed order."""
        found = Counter(c.by for c in self.claims)
        return {by: found[by] for by in ORDER if found[by]}

    @property
    def unaccounted(self) -> list[Claim]:
        return [c for c in self.claims if c.by == UNACCOUNTED]

    @property
    def said(self) -> list[Claim]:
        return [c for c in self.claims if c.said]

    @property
    def refusals(self) -> list[Refusal]:
        """One refusal for each symbol, or section, with differences that nobody claims."""
        out: dict[tuple[str, str], list[Claim]] = {}
        for c in self.unaccounted:
            out.setdefault((c.difference.section, c.difference.symbol), []).append(c)
        return [self._refusal(section, symbol, claims) for (section, symbol), claims in sorted(out.items())]

    def as_data(self) -> dict[str, Any]:
        """The same as plain data (docs/schema/report-1.json)."""
        return {
            "unit": self.place,
            "object": self.target,
            "counts": self.counts,
            "differences": [
                {
                    **{name: getattr(c.difference, name) for name in _SHOWN},
                    "claim": c.by,
                    "why": c.why,
                    "said": c.said,
                    "source": c.source,
                }
                for c in self.claims
            ],
        }

    def _refusal(self, section: str, symbol: str, claims: list[Claim]) -> Refusal:
        first = claims[0]
        fact = str(first.difference)
        if first.why:
            fact += f"; {first.why}"
        if first.source:
            fact += f"; {first.source}"
        if len(claims) > 1:
            fact += f" (and {len(claims) - 1} more differences of it)"
        return Refusal("K26-unaccounted", f"{self.place}: {symbol or section}", fact, symbol, section)


def summary(accountings: Iterable[Accounting]) -> str:
    """`accounted 14 differences: 3 replaced, 9 bound, 2 no effect`, without the first word; "" for none."""
    found: Counter[str] = Counter()
    for a in accountings:
        found.update(a.counts)
    total = sum(found.values())
    if not total:
        return ""
    parts = ", ".join(f"{found[by]} {by}" for by in ORDER if found[by])
    return f"{total} difference{'s' * (total != 1)}: {parts}"


def account(
    ledger: Ledger,
    changes: Changes,
    closure: Closure | None = None,
    number: int = 0,
    ignored: Iterable[Refusal] = (),
    left: Iterable[str] = (),
    target: str = "vmlinux",
) -> Accounting:
    """Claim each difference of a unit.

    changes   of the unit; `closure`, where there is one, has it as its unit `number`
    ignored   refusals that an option set aside (--ignore-init)
    left      functions and sections that the patch's author asked to leave out
    """
    if not ledger.differences:
        return Accounting(changes.place, (), target)
    claims = tuple(Claims(changes, closure, number, tuple(ignored), tuple(left)).run(ledger))
    units = closure.units if closure is not None else ()
    if units and not any(u.changes.changed or u.changes.new for u in units):
        claims = tuple(_without_module(c) for c in claims)
    return Accounting(changes.place, claims, target)


def _without_module(claim: Claim) -> Claim:
    """A claim where no function changes: there is no module that anything could come along in."""
    if claim.by not in (REPLACED, CARRIED, BOUND):
        return claim
    return Claim(claim.difference, UNACCOUNTED, "no function changes, so that there is no module to have it")


@dataclass(frozen=True)
class Unit:
    """The ledger of one unit, and what was set aside of it on request: refusals by --ignore-init, and what its author
    asked to leave out."""

    ledger: Ledger
    ignored: tuple[Refusal, ...] = ()
    author: Author = NOTHING


def account_all(
    ledgers: Sequence[Unit], units: Sequence[UnitResult], closure: Closure | None
) -> tuple[Accounting, ...]:
    """The accounting of each unit that has a ledger, in order; units that only came along have none."""
    out = []
    for number, (entry, unit) in enumerate(zip(ledgers, units, strict=False)):
        left = (*entry.author.ignored_functions, *entry.author.ignored_sections)
        out.append(account(entry.ledger, unit.changes, closure, number, entry.ignored, left, unit.target))
    return tuple(out)


def no_effects(accountings: Iterable[Accounting]) -> list[str]:
    """A line for each difference that a user must know to have no effect."""
    return [f"{c.source or a.place}: {line_of(c)}" for a in accountings for c in a.said]


def with_places(
    accountings: Sequence[Accounting],
    files: Iterable[FilePatch],
    paths: Collection[str],
    originals: Mapping[str, Object],
) -> tuple[Accounting, ...]:
    """The same, with the line in the source for each difference that a user is told by itself or that is refused: that
    of the patch which shows it or, for a function or a variable that went, where it was declared (DWARF).

    paths      of the tree that the patch touches
    originals  the original object of each unit, by the unit's place
    """
    if not any(a.said or a.unaccounted for a in accountings):
        return tuple(accountings)
    lines = changed_lines(files, paths)
    out = []
    for a in accountings:
        claims = [
            c._replace(source=place_of(c.difference, lines)) if c.said or c.by == UNACCOUNTED else c for c in a.claims
        ]
        went = {c.difference.symbol for c in claims if c.said and not c.source and c.difference.kind == kinds.WENT}
        if went and a.place in originals:
            at = _declared(originals[a.place], went)
            claims = [
                c._replace(source=f"{a.place}:{at[c.difference.symbol]}")
                if c.said and not c.source and c.difference.symbol in at
                else c
                for c in claims
            ]
        out.append(replace(a, claims=tuple(claims)))
    return tuple(out)


def _declared(original: Object, names: Collection[str]) -> dict[str, int]:
    try:
        return read_lines(original, names)
    except FormatError:
        return {}  # a line is a help, and what can't be read is told elsewhere


def line_of(claim: Claim) -> str:
    """One claim as a line for people."""
    d = claim.difference
    name = d.symbol or d.section
    inside = f" ({d.section})" if d.symbol and d.section else ""
    what = {kinds.CAME: "new", kinds.WENT: "taken away"}.get(d.kind, f"another {d.kind}")
    value = f" {(d.patched or d.original)!r}" if d.section == MODINFO else ""
    if d.section == BTF:
        what = f"{d.original or 'nothing'} -> {d.patched or 'nothing'}"
    return f"{name}{value}{inside}: {what}: no effect: {claim.why}"

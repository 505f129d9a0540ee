# SPDX-License-Identifier: GPL-2.0-or-later
"""Accounts for each difference in the ledger.

Every difference gets exactly one claim: its function is replaced, it is carried in the module, it is bound to the
kernel's own symbol, a rule classifies it as accidental (`noise`), it is refused, or it can have no effect in a running
kernel, for a stated reason. A difference without a claim is refused (K26-unaccounted). A claim covers a single
difference, judged by what it is and where it is; no claim covers a whole section.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kgbuild.accounting.claims import Claim, Claims
from kgbuild.accounting.source_places import changed_lines, place_of
from kgbuild.accounting.unit_facts import BOUND, CARRIED, ORDER, REPLACED, UNACCOUNTED
from kgbuild.debuginfo.static_locals import read_declaration_lines
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

_SHOWN = ("section", "symbol", "kind", "offset")


class Accounting(NamedTuple):
    """The ledger of one unit with the claim for each difference, in the ledger's order."""

    place: str
    claims: tuple[Claim, ...] = ()
    target: str = "vmlinux"

    @property
    def counts(self) -> dict[str, int]:
        """The number of differences by kind of claim, in a fixed order."""
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
        """One refusal for each symbol, or section, with unclaimed differences."""
        out: dict[tuple[str, str], list[Claim]] = {}
        for claim in self.unaccounted:
            out.setdefault((claim.difference.section, claim.difference.symbol), []).append(claim)
        return [self._refusal(section, symbol, claims) for (section, symbol), claims in sorted(out.items())]

    def as_data(self) -> dict[str, Any]:
        """The accounting as plain data (docs/schema/report-1.json)."""
        return {
            "unit": self.place,
            "object": self.target,
            "counts": self.counts,
            "differences": [
                {
                    **{name: getattr(claim.difference, name) for name in _SHOWN},
                    "original": claim.difference.orig,
                    "patched": claim.difference.patched,
                    "claim": claim.by,
                    "why": claim.why,
                    "said": claim.said,
                    "source": claim.source,
                }
                for claim in self.claims
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
            fact += f" (and {len(claims) - 1} more of its differences)"
        return Refusal("K26-unaccounted", f"{self.place}: {symbol or section}", fact, symbol, section)


def summary(accountings: Iterable[Accounting]) -> str:
    """`14 differences: 3 replaced, 9 bound, 2 no effect`, totalled over all units; "" if there are no differences."""
    found: Counter[str] = Counter()
    for accounting in accountings:
        found.update(accounting.counts)
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
    left_out: Iterable[str] = (),
    target: str = "vmlinux",
) -> Accounting:
    """Claim each difference of a unit.

    changes   of the unit; its number in `closure`, if there is one, is `number`
    ignored   refusals that an option suppressed (--ignore-init)
    left_out  functions and sections that the patch's author asked to leave out
    """
    if not ledger.differences:
        return Accounting(changes.place, (), target)
    claims = tuple(Claims(changes, closure, number, tuple(ignored), tuple(left_out)).run(ledger))
    units = closure.units if closure is not None else ()
    if units and not any(u.changes.changed or u.changes.new for u in units):
        claims = tuple(_without_module(c) for c in claims)
    return Accounting(changes.place, claims, target)


def _without_module(claim: Claim) -> Claim:
    """Replace a claim that needs a module if no function changes, since no module is made then."""
    if claim.by not in (REPLACED, CARRIED, BOUND):
        return claim
    return Claim(claim.difference, UNACCOUNTED, "no function changes, so that there is no module to have it")


class UnitLedger(NamedTuple):
    """The ledger of one unit, and what was left out on request: refusals suppressed by --ignore-init, and what the
    patch's author asked to leave out."""

    ledger: Ledger
    ignored: tuple[Refusal, ...] = ()
    author: Author = NOTHING


def account_all(
    ledgers: Sequence[UnitLedger], units: Sequence[UnitResult], closure: Closure | None
) -> tuple[Accounting, ...]:
    """The accounting of each unit that has a ledger, in order. Units that were only pulled in have none."""
    out = []
    for number, (entry, unit) in enumerate(zip(ledgers, units, strict=False)):
        left_out = (*entry.author.ignored_functions, *entry.author.ignored_sections)
        out.append(account(entry.ledger, unit.changes, closure, number, entry.ignored, left_out, unit.target))
    return tuple(out)


def no_effects(accountings: Iterable[Accounting]) -> list[str]:
    """A line for each difference without effect that the user must be told about."""
    return [
        f"{claim.source or accounting.place}: {claim_line(claim)}"
        for accounting in accountings
        for claim in accounting.said
    ]


def with_places(
    accountings: Sequence[Accounting],
    files: Iterable[FilePatch],
    paths: Collection[str],
    originals: Mapping[str, Object],
) -> tuple[Accounting, ...]:
    """The accountings, with the source line added to each claim that is reported to the user or refused: the line of
    the patch that shows the difference or, for a removed function or variable, the line of its declaration (DWARF).

    paths      paths of the tree that the patch touches
    originals  the original object of each unit, by the unit's place
    """
    if not any(accounting.said or accounting.unaccounted for accounting in accountings):
        return tuple(accountings)
    lines = changed_lines(files, paths)
    out = []
    for accounting in accountings:
        claims = [
            claim._replace(source=place_of(claim.difference, lines)) if claim.said or claim.by == UNACCOUNTED else claim
            for claim in accounting.claims
        ]
        went = {
            claim.difference.symbol
            for claim in claims
            if claim.said and not claim.source and claim.difference.kind == kinds.WENT
        }
        if went and accounting.place in originals:
            at = _declared(originals[accounting.place], went)
            claims = [
                claim._replace(source=f"{accounting.place}:{at[claim.difference.symbol]}")
                if claim.said and not claim.source and claim.difference.symbol in at
                else claim
                for claim in claims
            ]
        out.append(accounting._replace(claims=tuple(claims)))
    return tuple(out)


def _declared(orig: Object, names: Collection[str]) -> dict[str, int]:
    try:
        return read_declaration_lines(orig, names)
    except FormatError:
        return {}  # the line is optional; unreadable DWARF is reported elsewhere


def claim_line(claim: Claim) -> str:
    """One claim as a line of text for the user."""
    difference = claim.difference
    name = difference.symbol or difference.section
    inside = f" ({difference.section})" if difference.symbol and difference.section else ""
    what = {kinds.CAME: "new", kinds.WENT: "taken away"}.get(difference.kind, f"another {difference.kind}")
    value = f" {(difference.patched or difference.orig)!r}" if difference.section == MODINFO else ""
    if difference.section == BTF:
        what = f"{difference.orig or 'nothing'} -> {difference.patched or 'nothing'}"
    return f"{name}{value}{inside}: {what}: no effect: {claim.why}"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of every difference in real fixes: the ledger of each, and its claims by reason.

    python benchmarks/ledger.py [--series NAME]... [--limit N] [--jobs N] [--pairs DIR]
        [--kept] [--sample N [--seed N]] [-o FILE]

The fixes are those of tests/support/fixes.py: each .c file that differs between two Debian sources of a series,
compiled alone. Every pair is compared as `kgbuild diff` does it; every difference must have exactly one claim. The
claims are counted by kind and by reason, and the differences that nobody claims (K26-unaccounted) are listed, in a
section of docs/field-report.md. With --pairs the objects are kept in DIR, below the series' name, and taken from there
in a later run; with --kept those alone that are there. With --sample nothing is written: N claims are shown, drawn
evenly from the reasons, to be checked by hand.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kgbuild.accounting.claims import Claim
from kgbuild.accounting.unit_facts import ORDER
from kgbuild.errors import KgbuildError
from kgbuild.ledger.ledger import compute_ledger
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
from tests.support.fixes import SERIES, Series, Skipped, fixes

ROOT = Path(__file__).resolve().parent.parent
HEADING = "## What became of every difference"
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_SKIPPED = "skipped.txt"


class Kept(NamedTuple):
    """One claim, and the file that it is of."""

    path: str
    claim: Claim


@dataclass
class Found:
    """What the fixes of one series gave. `outcomes` counts what came of each pair: changed, nothing, refused;
    `codes` the pairs by the codes of their refusals."""

    series: Series
    pairs: int = 0
    unclaimed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    claims: list[Kept] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def reason_of(claim: Claim) -> str:
    """A claim's reason, without the addresses and words of this one case."""
    why = claim.why
    if claim.difference.section == ".modinfo":
        why = f".modinfo: {why}"
    return _ADDRESS.sub("ADDRESS", why) or "-"


def pairs_of(
    series: Series, folder: Path | None, limit: int | None, jobs: int, kept: bool
) -> Iterator[tuple[str, bytes, bytes]]:
    """The pairs of one series, compiled or, where a whole run was kept, read."""
    done = folder / _SKIPPED if folder is not None else None
    if folder is not None and done is not None and (kept or done.exists()):
        for file in sorted(folder.glob("*.patched.o"))[:limit]:
            path = file.name.removesuffix(".patched.o")
            yield path.replace("__", "/"), (folder / f"{path}.orig.o").read_bytes(), file.read_bytes()
        return
    skipped = Skipped()
    for path, orig, patched in fixes(limit, jobs, skipped, None, series):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for side, data in (("orig", orig), ("patched", patched)):  # in this order: the second is whole
                (folder / f"{path.replace('/', '__')}.{side}.o").write_bytes(data)
        yield path, orig, patched
    if done is not None and limit is None:
        done.write_text("".join(f"{path}: {reason}\n" for path, reason in skipped.reasons.items()))


def measure(series: Series, folder: Path | None, limit: int | None, jobs: int, kept: bool = False) -> Found:
    """Compare every pair of a series."""
    found = Found(series)
    for path, orig, patched in pairs_of(series, folder, limit, jobs, kept):
        found.pairs += 1
        orig_object, patched_object = read_relocatable(orig, path), read_relocatable(patched, path)
        try:
            answer = diff_objects(orig_object, patched_object, path)
        except KgbuildError as error:
            found.failed.append(f"{path}: {error.fact}")
            continue
        claims = answer.accounting.claims
        ledger = compute_ledger(orig_object, patched_object).differences
        if Counter(c.difference for c in claims) != Counter(ledger):
            found.unclaimed.append(path)
        found.outcomes["refused" if answer.refusals else "no change" if answer.nothing else "changed"] += 1
        found.codes.update({r.code for r in answer.refusals})
        found.claims.extend(Kept(path, c) for c in claims)
        print(f"{found.pairs} {path}: {answer.accounting.counts}", file=sys.stderr, flush=True)
    if folder is not None and (folder / _SKIPPED).exists():
        for line in (folder / _SKIPPED).read_text().splitlines():
            reason = line.partition(": ")[2]
            found.skipped["does not compile alone" if reason.startswith("P10-") else "refused before"] += 1
    return found


def sample(found: list[Found], count: int, seed: int) -> Iterator[str]:
    """`count` claims, one reason after the other."""
    chance = random.Random(seed)
    groups: dict[tuple[str, str], list[Kept]] = defaultdict(list)
    for measured in found:
        for kept in measured.claims:
            groups[kept.claim.by, reason_of(kept.claim)].append(kept)
    remaining = {key: chance.sample(group, len(group)) for key, group in sorted(groups.items())}
    shown = 0
    while shown < count and any(remaining.values()):
        for (by, reason), group in remaining.items():
            if group and shown < count:
                kept = group.pop()
                shown += 1
                yield f"{kept.path}: {kept.claim.difference}\n    {by}: {reason}"


def render(found: list[Found]) -> str:
    """The section of the field report."""
    total = sum(measured.pairs for measured in found)
    lines = [
        HEADING,
        "",
        "`benchmarks/ledger.py` takes every .c file that differs between two Debian sources and compiles alone,",
        "and asks of each what `kgbuild diff` asks: which differences the two objects have, and what claims each.",
        "",
    ]
    for measured in found:
        left_out = ", ".join(f"{n} {what}" for what, n in sorted(measured.skipped.items()))
        lines.append(
            f"- {measured.series.package} {measured.series.older} to {measured.series.newer}: {measured.pairs} pairs"
            + (f" ({left_out})" if left_out else "")
            + f"; {', '.join(f'{n} {what}' for what, n in measured.outcomes.most_common())}"
            + f"; {len(measured.claims)} differences; "
            + f"{len(measured.unclaimed)} pairs with a difference that has no claim or more than one"
            + (f"; {len(measured.failed)} could not be compared" if measured.failed else "")
            + "."
        )
    names = [measured.series.package.rpartition("-")[2] for measured in found]
    by: dict[str, list[Counter[str]]] = {kind: [Counter() for _ in found] for kind in ORDER}
    for number, measured in enumerate(found):
        for kept in measured.claims:
            by[kept.claim.by][number][reason_of(kept.claim)] += 1
    head = f"| {' | '.join(names)} |"
    lines += ["", f"| claim | reason {head}", "| --- | --- |" + " ---: |" * len(found)]
    for kind in ORDER:
        if not any(by[kind]):
            continue
        sums = " | ".join(f"**{counted.total()}**" for counted in by[kind])
        lines.append(f"| **{kind}** | all | {sums} |")
        reasons = Counter[str]()
        for counted in by[kind]:
            reasons.update(counted)
        for reason, _ in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            each = " | ".join(str(counted[reason]) for counted in by[kind])
            lines.append(f"| {kind} | {reason.replace('|', chr(92) + '|')} | {each} |")
    lines += ["", f"Refused by K26-unaccounted, of {total} pairs:", ""]
    unaccounted = [kept for measured in found for kept in measured.claims if kept.claim.by == "unaccounted"]
    for path in sorted({kept.path for kept in unaccounted}):
        reasons_here = [kept.claim for kept in unaccounted if kept.path == path]
        first = str(reasons_here[0].difference)[:160].replace("|", "\\|")
        lines.append(f"- {path}: `{first}`" + (f" and {len(reasons_here) - 1} more" if len(reasons_here) > 1 else ""))
    if not unaccounted:
        lines.append("- none")
    return "\n".join(lines) + "\n"


def section_of(file: Path) -> str:
    """The section in a report, "" where it has none."""
    _, found, rest = (file.read_text() if file.exists() else "").partition(f"\n{HEADING}\n")
    return f"{HEADING}\n{rest}" if found else ""


def write_section(file: Path, section: str) -> None:
    """Put the section at the end of a report, in the place of an older one."""
    text = file.read_text() if file.exists() else "# Field report\n"
    file.write_text(text.partition(f"\n{HEADING}\n")[0].rstrip("\n") + "\n\n" + section)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", action="append", choices=SERIES)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "field-report.md")
    options = parser.parse_args()
    found = []
    for name in options.series or SERIES:
        folder = options.pairs / name if options.pairs is not None else None
        found.append(measure(SERIES[name], folder, options.limit, options.jobs, options.kept))
    if options.sample is not None:
        print("\n".join(sample(found, options.sample, options.seed)))
    else:
        write_section(options.output, render(found))
    for measured in found:
        for path in [*measured.unclaimed, *measured.failed]:
            print(f"{measured.series.package}: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()

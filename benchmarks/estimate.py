# SPDX-License-Identifier: GPL-2.0-or-later
"""How often `impact --no-compile` agrees with the compiled answer, on real fixes.

    python -m benchmarks.estimate [--every | --write] [--jobs N]

The fixes are single files that differ between two of Debian's sources (tests/support/fixes.py): those of
tests/kernel/fixes.txt, or with --every all. For each, the set of the running kernel's functions that the patch replaces
is compared: by object and symbol name, what `impact` gives as changed and pulled in. Where the compiled answer is a
refusal, who comes along may not be known to the end, and only what changes is compared. Functions in init memory are in
neither set, nor is a module's exit code. Fixes that are refused before anything is compiled are left out and counted.

precision: of the functions the estimate names, how many the compiler's answer has; recall: the other way round.
--write puts the figures of the first into docs/impact.md.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.errors import KgbuildError
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.estimate import Estimated, estimate_patches
from kgbuild.pipeline.stages.options import Options
from kgbuild.pipeline.stages.trail import Trail
from kgbuild.pipeline.stages.values import Compared
from tests.support.fixes import NEWER, OLDER, Skipped, both, changed_units, difference, fixes

ROOT = Path(__file__).resolve().parent.parent
CHOSEN = ROOT / "tests" / "kernel" / "fixes.txt"
PAGE = ROOT / "docs" / "impact.md"
Names = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Fix:
    """One fix: what the compiled answer and the estimate say is replaced, and the codes of refusals (of the estimate,
    those it is sure of and those that may be). `seconds` is the estimate's CPU time."""

    path: str
    compiled: Names
    estimated: Names
    refused: frozenset[str]
    foretold: frozenset[str]
    maybe: frozenset[str]
    seconds: float

    @property
    def extra(self) -> Names:
        return self.estimated - self.compiled

    @property
    def missed(self) -> Names:
        return self.compiled - self.estimated


@dataclass
class Agreement:
    """All fixes, and those that could not be compared, with the reason."""

    fixes: list[Fix] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def _both(self) -> int:
        return sum(len(f.compiled & f.estimated) for f in self.fixes)

    @property
    def precision(self) -> float:
        return self._both() / max(sum(len(f.estimated) for f in self.fixes), 1)

    @property
    def recall(self) -> float:
        return self._both() / max(sum(len(f.compiled) for f in self.fixes), 1)

    @property
    def exact(self) -> int:
        return sum(f.compiled == f.estimated for f in self.fixes)

    def lines(self) -> Iterator[str]:
        """Every disagreement, then the figures."""
        for f in self.fixes:
            for what, names in (("only estimated", f.extra), ("only compiled", f.missed)):
                for target, name in sorted(names):
                    yield f"{f.path}: {what}: {name} ({target})"
            if f.refused and not f.foretold | f.maybe:
                yield f"{f.path}: refused ({', '.join(sorted(f.refused))}), and not foretold"
            if f.foretold and not f.refused:
                yield f"{f.path}: not refused, and foretold ({', '.join(sorted(f.foretold))})"
        yield from (f"{path}: not compared: {reason[:100]}" for path, reason in self.skipped.items())
        yield self.summary()

    def summary(self) -> str:
        """The figures in a sentence or two."""
        functions = sum(len(f.compiled) for f in self.fixes)
        refused = [f for f in self.fixes if f.refused]
        wrong = sum(bool(f.foretold) and not f.refused for f in self.fixes)
        told = sum(bool(f.foretold | f.maybe) for f in refused)
        return (
            f"{len(self.fixes)} fixes, {functions} functions replaced: precision {self.precision:.3f}, recall "
            f"{self.recall:.3f}, {self.exact} fixes exactly alike. {told} of {len(refused)} refusals foretold, "
            f"{wrong} foretold wrongly."
        )


def read_compiled(patch: Path, kernel_name: str) -> tuple[Names, frozenset[str]] | str:
    """What the compiled answer replaces, and its refusals; why there is none where it ends before the comparison."""
    trail = Trail()
    try:
        analyse([patch], kernel_name, Options(jobs=1), trail)
    except KgbuildError as error:
        if trail.get(Compared) is None:
            return str(error).partition("\n")[0]
    report = trail.report()
    codes = frozenset(r["code"] for r in report["refusals"])
    rows = [*report["changed"], *([] if codes else report["pulled"])]
    return frozenset((row["object"], row["function"]) for row in rows), codes


def names_of(found: Estimated, refused: bool) -> Names:
    """What the estimate says is replaced; where the compiled answer is a refusal, only what changes."""
    touched = [t for t in found.result.touched.values() if t.role == "changed" or not refused]
    return frozenset((t.function.object, t.function.name) for t in touched if t.stays)


def measure(paths: Collection[str], jobs: int = 2) -> Agreement:
    """Compare both answers for each of these files. Raises Unavailable."""
    kernel, new = both()
    name = f"{kernel.id.name}={kernel.id.version}"
    out = Agreement()
    skipped = Skipped()
    # compiled side by side, into the cache: the answers are taken one after the other
    for _ in fixes(jobs=jobs, skipped=skipped, only=paths):
        pass
    with tempfile.TemporaryDirectory(prefix="kgbuild-estimate-") as folder:
        for path in sorted(paths):
            patch = Path(folder) / "fix.patch"
            patch.write_bytes(difference(kernel.source, new, path).encode(errors="surrogateescape"))
            compiled = skipped.reasons.get(path) or read_compiled(patch, name)
            if isinstance(compiled, str):
                out.skipped[path] = compiled
                continue
            replaced, codes = compiled
            began = time.process_time()
            found = estimate_patches([patch], name)
            took = time.process_time() - began
            foretold = frozenset(r.code for r in found.result.refusals)
            maybe = frozenset(r.code for r in found.result.possible)
            out.fixes.append(Fix(path, replaced, names_of(found, bool(codes)), codes, foretold, maybe, took))
    return out


def write_figures(found: Agreement) -> None:
    """Put the figures of the chosen fixes into docs/impact.md, between its two marks."""
    text = PAGE.read_text()
    new = f"<!-- chosen -->\n{found.summary()}\n<!-- end -->"
    done, count = re.subn(r"<!-- chosen -->\n.*?\n<!-- end -->", lambda _: new, text, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{PAGE} has no place for the figures")
    PAGE.write_text(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", action="store_true", help="all files that differ, not only fixes.txt")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/impact.md")
    options = parser.parse_args()
    if options.every and options.write:
        parser.error("the page has the figures of tests/kernel/fixes.txt")
    kernel, new = both()
    paths = list(changed_units(kernel, new)) if options.every else CHOSEN.read_text().split()
    found = measure(paths, options.jobs)
    print(f"linux-source-6.1 {OLDER} to {NEWER}")
    print("\n".join(found.lines()))
    if options.write:
        write_figures(found)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Run cases: `make torture-test` a fixed number of the same ones, `make torture` others.

    python -m tests.torture.run --count 300 --seed 1     300 cases; another seed gives others
    python -m tests.torture.run --case 100004:2          one of them, by the number that was printed
    python -m tests.torture.run --case 100004:2 --shrink --keep DIR   and the smallest program found that still shows it

A case that ends WRONG is a patch that does not do what the patched source does: a fault of the closure or of what it
rests on. Refusals are answers; they are counted by code, and there must not be too many.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.case import HARNESS, REFUSED, SAME, SKIPPED, UNCHANGED, WRONG, Result, describe, run_case
from tests.torture.change import change
from tests.torture.generate import generate
from tests.torture.machine import rest, runner
from tests.torture.patching import start
from tests.torture.program import Program
from tests.torture.refactor import Refactored, refactor
from tests.torture.shrink import Pair, shrink

CHANGES = 3  # of one program, so that it is compiled and linked once
FAULTS = (WRONG, HARNESS)
CLONES = (".isra", ".constprop", ".part", ".cold")
TWO, RETYPED = "two objects", "another type"
# Shares of all cases: less means that the generator no longer reaches what is to be tested, more refusals that it tests
# too little.
LEAST = {
    **{SAME: 0.52, "pulled": 0.03, "cold": 0.15, "new": 0.05, "data": 0.3, "several units": 0.03, "warm": 0.6},
    **dict.fromkeys(CLONES, 0.02),
    **{TWO: 0.25, "in the module": 0.05, RETYPED: 0.05},
}
MOST = {REFUSED: 0.3, SKIPPED: 0.03}


@dataclass
class Outcome:
    """The results of a program's cases, and which clones gcc made in it."""

    seed: int
    results: list[tuple[int, list[str], Result]] = field(default_factory=list)
    clones: list[str] = field(default_factory=list)


def programs(seed: int, count: int) -> Iterator[tuple[int, int]]:
    """(seed of a program, how many of its changes) for `count` cases."""
    for number in range((count + CHANGES - 1) // CHANGES):
        yield seed * 100_000 + number, min(CHANGES, count - number * CHANGES)


def run_program(job: tuple[int, list[int]]) -> Outcome:
    """Run cases of one program."""
    seed, changes = job
    outcome = Outcome(seed)
    with tempfile.TemporaryDirectory(prefix="kgbuild-torture-") as folder:
        try:
            running = start(Path(folder), generate(seed))
        except Exception:
            outcome.results.append((0, [], Result(HARNESS, facts=[traceback.format_exc()])))
            return outcome
        outcome.clones = [c for c in CLONES if any(c in name for name in running.image.symbols)]
        for number in changes:
            after, said = change(running.program, seed * 10 + number)
            refactored = refactoring(after, seed, number)
            said += refactored.said if refactored is not None else []
            try:
                result = run_case(running, after, seed, refactored=refactored)
            except Exception:
                result = Result(HARNESS, facts=[traceback.format_exc()])
            result.roles += [
                name
                for name, true in (
                    (TWO, running.program.has_module()),
                    (RETYPED, refactored is not None and refactored.retyped),
                )
                if true
            ]
            outcome.results.append((number, said, result))
    return outcome


def refactoring(after: Program, seed: int, number: int) -> Refactored | None:
    """What is done to the variables of every third case besides; None where nothing is."""
    if (seed + number) % 3:
        return None
    found = refactor(after, seed * 10 + number)
    return found if found.said else None


def fails_as(end: str) -> bool:
    return end in FAULTS


def minimise(seed: int, number: int) -> Pair:
    """The smallest pair of programs found in which the case ends as it does."""
    before = generate(seed)
    after, _ = change(before, seed * 10 + number)
    wanted = run_pair((before, after), seed, number).end

    def fails(pair: Pair) -> bool:
        try:
            return run_pair(pair, seed, number).end == wanted
        except Exception:
            return False

    return shrink((before, after), fails) if fails_as(wanted) or wanted == REFUSED else (before, after)


def run_pair(pair: Pair, seed: int, number: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="kgbuild-torture-") as folder:
        refactored = refactoring(pair[1], seed, number)
        return run_case(start(Path(folder), pair[0]), pair[1], seed, refactored=refactored)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="how many cases")
    parser.add_argument("--seed", type=int, default=1, help="another number gives other cases")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--case", metavar="PROGRAM:CHANGE", help="one case")
    parser.add_argument("--shrink", action="store_true", help="with --case: look for a smaller one")
    parser.add_argument("--keep", type=Path, help="write programs of cases that went wrong to this folder")
    parser.add_argument("--verbose", action="store_true", help="show every refusal")
    args = parser.parse_args()
    if args.case:
        return _one(args.case, args.shrink, args.keep)
    rest(), runner()  # compiled once, before there are processes
    print(f"seed {args.seed}")
    begin = time.monotonic()
    jobs = [(seed, list(range(many))) for seed, many in programs(args.seed, args.count)]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("fork")) as pool:
        for outcome in pool.map(run_program, jobs, chunksize=2):
            outcomes.append(outcome)
            _tell(outcome, args.keep, args.verbose)
    return _summary(outcomes, time.monotonic() - begin)


def _one(case: str, smaller: bool, keep: Path | None) -> int:
    seed, _, number = case.partition(":")
    outcome = run_program((int(seed), [int(number)]))
    _, said, result = outcome.results[0]
    print(f"{case}: {result.end} {' '.join(result.codes)}")
    for line in [*said, *result.facts]:
        print(f"  {line}")
    pair = minimise(int(seed), int(number)) if smaller else _pair(int(seed), int(number))
    if keep is not None:
        _describe(pair, int(seed), int(number), keep)
        print(f"  written to {keep}")
    if smaller:
        print(
            json.dumps(
                {"lines": [_lines(p) for p in pair], "facts": run_pair(pair, int(seed), int(number)).facts}, indent=1
            )
        )
    return 1 if result.end in FAULTS else 0


def _pair(seed: int, number: int) -> Pair:
    before = generate(seed)
    return before, change(before, seed * 10 + number)[0]


def _describe(pair: Pair, seed: int, number: int, folder: Path) -> None:
    refactored = refactoring(pair[1], seed, number)
    describe(pair[0], refactored.program if refactored is not None else pair[1], folder)


def _lines(program: Program) -> int:
    return sum(len(f.body) + 3 for _, f in program.functions())


def _tell(outcome: Outcome, keep: Path | None, verbose: bool) -> None:
    for number, said, result in outcome.results:
        if result.end in FAULTS or (verbose and result.end in (REFUSED, SKIPPED)):
            print(f"{outcome.seed}:{number}: {result.end}: {'; '.join(said)}")
            for fact in result.facts:
                print(f"  {fact}")
            if result.end in FAULTS:
                print(f"  again: python -m tests.torture.run --case {outcome.seed}:{number} --shrink --keep DIR")
        if result.end in FAULTS and keep is not None:
            _describe(_pair(outcome.seed, number), outcome.seed, number, keep / f"{outcome.seed}-{number}")


def _summary(outcomes: list[Outcome], seconds: float) -> int:
    results = [r for o in outcomes for _, _, r in o.results]
    total = len(results)
    ends = Counter(r.end for r in results)
    codes = Counter(code for r in results for code in r.codes)
    reached = Counter(role for r in results for role in r.roles)
    reached["warm"] = sum(bool(r.warm) and r.warm != "left out" for r in results)
    clones = Counter(c for o in outcomes for c in o.clones for _ in o.results)
    print(f"{total} cases of {len(outcomes)} programs in {seconds:.0f} s ({total / seconds:.1f} a second)")
    for title, counts in (("end", ends), ("refused for", codes), ("in the patch", reached), ("gcc made", clones)):
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            print(f"  {title:<13} {name:<20} {count:>6}  {100 * count / total:.1f} %")
    found = {**reached, **ends, **clones}
    faults = [f"{ends[end]} cases end {end}" for end in FAULTS if ends[end]]
    if total >= 100:
        faults += [
            f"only {found.get(n, 0)} cases with {n}" for n, least in LEAST.items() if found.get(n, 0) < least * total
        ]
        faults += [f"{found[n]} cases end {n}" for n, most in MOST.items() if found.get(n, 0) > most * total]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


__all__ = ["UNCHANGED", "Outcome", "main", "minimise", "run_pair", "run_program"]

if __name__ == "__main__":
    sys.exit(main())

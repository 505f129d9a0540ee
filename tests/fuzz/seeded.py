# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fuzz-test`: a fixed number of broken inputs, the same in every run.

Half of them are pairs of objects for `kgbuild diff`, half are what the other commands read (commands.py). An input is
made from its number alone; a fault is printed with that number, and --only repeats it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.fuzz.target import attempt, attempt_command, attempt_texts, keep, limit, make, seeds

BATCH = 500
TEXTS = 10  # with every tenth pair of objects, broken texts beside an intact pair
# Shares of all inputs that must get that far; less means that the fuzzer no longer reaches the code.
LEAST = {
    "FormatError": 0.025,
    "output": 0.01,
    "refusals": 0.01,
    "nothing": 0.0025,
    "text: closed": 0.01,
    "text: UserError": 0.002,
    "verify: findings": 0.01,
    "module: read": 0.01,
    "patch: applied": 0.01,
    "patch: UserError": 0.01,
    "record: UserError": 0.01,
    "said: faults": 0.01,
    "packed: DamagedError": 0.01,
    "config: ConfigError": 0.001,
    "config: fix": 0.001,
    "fix: affected": 0.005,
    "manifest: read": 0.005,
    "statement: 1 signatures": 0.001,
    "signature: read": 0.01,
    "report: text": 0.01,
    "report: page": 0.001,
    "unit: same": 0.002,
    "encoded: refused": 0.01,
}

Fault = tuple[int, str]


def run_batch(job: tuple[int, int, int]) -> tuple[Counter[str], list[Fault], tuple[float, int]]:
    """Ends of the inputs `first` to `last` of run `base`, the faults among them, and the longest time (s) with its
    number."""
    base, first, last = job
    ends: Counter[str] = Counter()
    faults: list[Fault] = []
    slowest = (0.0, -1)
    for number in range(first, last):
        start = time.process_time()
        if number % 2:
            end, trace = attempt_command(base, number // 2)
        else:
            _, orig, patched = make(base, number)
            end, trace = attempt(orig, patched)
        slowest = max(slowest, (time.process_time() - start, number))
        ends[end] += 1
        if trace:
            faults.append((number, trace))
        if number % TEXTS == 0:
            end, trace = attempt_texts(base, number)
            ends[end] += 1
            if trace:
                faults.append((number, trace))
    return ends, faults, slowest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="another number gives other inputs")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, help="write inputs with faults to this folder")
    parser.add_argument("--only", type=int, help="one input, by its number")
    args = parser.parse_args()
    start = time.monotonic()
    print(f"{len(seeds())} pairs of objects")
    numbers = range(args.only, args.only + 1) if args.only is not None else range(args.inputs)
    jobs = [(args.seed, i, min(i + BATCH, numbers.stop)) for i in range(numbers.start, numbers.stop, BATCH)]
    ends: Counter[str] = Counter()
    faults: list[Fault] = []
    slowest = (0.0, -1)
    # forked, so that the pairs are compiled once
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("fork"), initializer=limit) as pool:
        for found, bad, slow in pool.map(run_batch, jobs):
            ends += found
            faults += bad
            slowest = max(slowest, slow)
    total = sum(ends.values())
    print(f"{total} inputs in {time.monotonic() - start:.0f} s; the slowest, {slowest[1]}, took {slowest[0]:.2f} s")
    for end, count in ends.most_common():
        print(f"  {end:<12} {count:>7}  {100 * count / total:.1f} %")
    _show(faults, args.seed, args.keep)
    scarce = [e for e, share in LEAST.items() if ends[e] < share * total] if args.only is None else []
    for end in scarce:
        print(f"only {ends[end]} inputs end with {end}: less than {100 * LEAST[end]:g} %")
    return 1 if faults or scarce else 0


def _show(faults: list[Fault], seed: int, folder: Path | None) -> None:
    """One traceback for each place that faults come from."""
    places: dict[str, list[Fault]] = {}
    for number, trace in faults:
        frames = [line.strip() for line in trace.splitlines() if line.lstrip().startswith("File ")]
        places.setdefault(f"{frames[-1]} {trace.splitlines()[-1].split(':')[0]}", []).append((number, trace))
    for place, found in places.items():
        number, trace = found[0]
        print(f"\n{len(found)} faults: {place}; first by --seed {seed} --only {number}\n{trace}")
        if folder is not None and number % 2 == 0:
            name, orig, patched = make(seed, number)
            keep(folder, f"{name}-{seed}-{number}", orig, patched)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sandbox costs: the same build by this machine's own compiler, in a sandbox and without one.

    python benchmarks/sandbox.py [--runs N] [--kernel NAME] [--patch FILE]

Both kinds of build run in turn, each with no result of an earlier one in the cache; seconds are medians. CPU seconds
are those of the build and of all that it started: on a machine that others use, they tell more. The compiler of this
machine must be the one that built the kernel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from end_to_end import PATCH, cache_without_results, timed

CHOICES = {"in a sandbox": ("--toolchain", "host"), "without": ("--no-sandbox",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--kernel", default="debian:newest-6.1-cloud")
    parser.add_argument("--patch", type=Path, default=PATCH)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CHOICES}
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as folder:
        argv = [sys.executable, "-m", "kgbuild.cli.main", "build", str(options.patch), "--kernel", options.kernel]
        argv += ["-o", f"{folder}/livepatch-bench.ko", "--quiet", "--offline"]
        timed([*argv, *CHOICES["without"]], dict(os.environ))  # what is read from the disk is in memory afterwards
        for _ in range(options.runs):
            for name, words in CHOICES.items():
                with cache_without_results() as env:
                    seconds, _, cpu = timed([*argv, *words], env)
                    found[name].append((seconds, cpu))
    for number, what in enumerate(("wall", "CPU")):
        medians = {name: statistics.median(run[number] for run in runs) for name, runs in found.items()}
        for name, runs in found.items():
            print(f"{what:<6}{name:<14}{medians[name]:>8.2f} s  (least {min(run[number] for run in runs):.2f})")
        sandboxed, plain = medians.values()
        print(f"the sandbox costs {sandboxed - plain:+.2f} s, {100 * (sandboxed / plain - 1):+.1f} %")


if __name__ == "__main__":
    main()

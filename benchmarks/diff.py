# SPDX-License-Identifier: GPL-2.0-or-later
"""How long it takes to compare two objects, and how much memory.

    python benchmarks/diff.py [--runs N] [--kernel NAME] [--samples DIRECTORY] [--fixes N] [-o FILE.json]

Whole processes: `kgbuild diff` of kernel/fork.o and of net/core/dev.o with the patches of the tests. In one process:
every x86_64 sample pair, and the pairs of real fixes (tests/support/fixes.py; --fixes takes the first N, 0 leaves them
out). Of the real fixes, every tenth is also compared by a process of its own. Each figure is the median of the runs.
Where other work shares the machine, processor time (cpu) says more than the time that passed.
Prints a table and writes the same as JSON. PEER is what a differ in C needs, one process for each pair.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graph import measure, timed

from kgbuild.host.compile.apply_patches import apply_patches
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.compile.unit_selection import choose_units
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.progress import SilentProgress
from tests.support.fixes import NEWER, OLDER, Skipped, Unavailable, fixes

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "objects" / "x86_64"
CASES = {"kernel/fork.c": ("fork.patch", 0.3), "net/core/dev.c": ("dev.patch", 0.5)}
BOUND_SAMPLES, BOUND_MB, BOUND_LEDGER = 0.5, 300, 0.2
PEER = {
    "its own small pairs": {"median": 0.007},
    "226 pairs of real fixes": {"median": 0.15, "p95": 0.44, "max": 2.3},
}
EACH = 10  # of the real fixes, every tenth in a process of its own

# reads pairs of paths, one a line; prints the seconds of each pair, of reading, comparing and writing the output, and
# those of them that accounting for every difference takes
ONE_PROCESS = """
import sys, time
from kgbuild.pipeline import object_diff
from kgbuild.pipeline.object_diff import diff_objects, read_relocatable
spent = 0.0
def watched(function):
    def call(*args, **options):
        global spent
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent += time.perf_counter() - start
    return call
object_diff.compute_ledger = watched(object_diff.compute_ledger)
object_diff.account = watched(object_diff.account)
pairs = [line.rstrip("\\n").split("\\t") for line in open(sys.argv[1])]
data = [[open(path, "rb").read() for path in pair] for pair in pairs]
for (name, _), (original, patched) in zip(pairs, data):
    spent, began = 0.0, time.perf_counter()
    found = diff_objects(read_relocatable(original, name), read_relocatable(patched, name), name)
    if found.output_functions and not found.refusals:
        found.output()
    print(time.perf_counter() - began, spent)
"""


def compile_case(kernel: Kernel, source: str, patch: str) -> tuple[bytes, bytes]:
    """The original and the patched object of a unit."""
    text = (ROOT / "tests" / "kernel" / "cases" / patch).read_bytes()
    patches, cache = apply_patches(kernel, [parse_patch(patch, text)]), Cache()
    selection = choose_units(kernel, patches, cache, SilentProgress(), 1)
    unit = read_units(kernel, [source])[source][0]
    done = compile_units(kernel, [unit], selection.files, cache, SilentProgress(), 1, selection.real)
    return done[0].orig, done[0].patched


def write_pair(folder: Path, name: str, orig: bytes, patched: bytes) -> tuple[str, str]:
    """A pair as files; their paths."""
    paths = [folder / f"{name.replace('/', '__')}.{side}.o" for side in ("orig", "patched")]
    for path, data in zip(paths, (orig, patched), strict=True):
        path.write_bytes(data)
    return str(paths[0]), str(paths[1])


def sample_pairs(folder: Path) -> Iterator[tuple[str, str]]:
    """Paths of the sample pairs, by name."""
    for orig in sorted(folder.glob("*.ORIG.o")):
        yield str(orig), str(orig).replace(".ORIG.o", ".PATCHED.o")


def command(pair: tuple[str, str], out: Path) -> list[str]:
    """`kgbuild diff` of a pair, with the output object and the answer written."""
    words = ["diff", *pair, "-o", str(out / "out.o"), "--json", str(out / "answer.json")]
    # what is refused or no change is measured as well
    return ["sh", "-c", '"$@"; [ $? -ne 2 ] && echo done', "sh", sys.executable, "-m", "kgbuild.cli.main", *words]


def one_process(pairs: list[tuple[str, str]], runs: int, folder: Path) -> dict[str, Any]:
    """All pairs in one process: seconds of all together and of each (medians), the ledger's part of them, peak
    memory."""
    listed = folder / "pairs"
    listed.write_text("".join("\t".join(pair) + "\n" for pair in pairs))
    found = [timed([sys.executable, "-c", ONE_PROCESS, str(listed)], 600.0) for _ in range(runs)]
    both = [[[float(word) for word in line.split()] for line in text.splitlines()] for _, _, text, _ in found]
    each = [[seconds for seconds, _ in run] for run in both]
    return {
        "seconds": statistics.median(sum(run) for run in each),
        "ledger": statistics.median(sum(part for _, part in run) / sum(all_ for all_, _ in run) for run in both),
        "runs": [round(sum(run), 3) for run in each],
        "mb": max(mb for _, mb, _, _ in found),
        **distribution([statistics.median(times) for times in zip(*each, strict=True)]),
    }


def distribution(times: list[float]) -> dict[str, Any]:
    """Count, median, 95th percentile and maximum."""
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"pairs": len(ordered), "median": statistics.median(ordered), "p95": p95, "max": ordered[-1]}


def real_fixes(options: argparse.Namespace, folder: Path, rows: dict[str, Any]) -> None:
    """The rows of the real fixes."""
    skipped = Skipped()
    pairs = [
        write_pair(folder, path, orig, patched)
        for path, orig, patched in fixes(options.fixes, os.cpu_count() or 1, skipped)
    ]
    rows["real fixes, one process"] = one_process(pairs, options.runs, folder) | {"skipped": len(skipped.reasons)}
    some = [measure(command(pair, folder), options.runs) for pair in pairs[::EACH]]
    own = distribution([row["seconds"] for row in some])
    cpu = statistics.median(row["cpu"] for row in some)
    rows["real fixes, one process each"] = own | {"mb": max(row["mb"] for row in some), "cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kernel", default="debian:newest-6.1-cloud")
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--fixes", type=int, default=None)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "diff.json")
    options = parser.parse_args()
    kernel = ensure_kernel(options.kernel, progress=SilentProgress())
    rows: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    load: float = 0.0
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as scratch:
        folder = Path(scratch)
        for source, (patch, bound) in CASES.items():
            pair = write_pair(folder, source, *compile_case(kernel, source, patch))
            load = max(load, os.getloadavg()[0])
            rows[source] = measure(command(pair, folder), options.runs) | {"bound": bound}
        samples = list(sample_pairs(options.samples))
        if samples:
            row = one_process(samples, options.runs, folder)
            rows[f"{len(samples)} samples, one process"] = row | {"bound": BOUND_SAMPLES}
        else:
            absent["samples"] = f"there are no sample objects in {options.samples}"
        if options.fixes != 0:
            try:
                real_fixes(options, folder, rows)
            except Unavailable as error:
                absent["real fixes"] = str(error)
    load = max(load, os.getloadavg()[0])
    result = {
        "kernel": str(kernel.id),
        "fixes": f"linux-source-6.1 {OLDER} to {NEWER}",
        "cpus": os.cpu_count(),
        "load": load,
        "runs": options.runs,
        "rows": rows,
        "absent": absent,
        "peer": PEER,
    }
    show(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{result['kernel']}, {result['cpus']} CPUs (load {result['load']:.1f}); median of {result['runs']} runs\n")
    head = f"{'seconds':<34}{'all':>7}{'bound':>7}{'pairs':>7}{'median':>8}{'p95':>7}{'max':>7}{'cpu':>7}"
    print(f"{head}{'peak MB':>9}{'ledger':>8}")
    rows = [*result["rows"].items(), *((f"peer (C): {name}", row) for name, row in result["peer"].items())]
    for name, row in rows:
        cells = [("seconds", 7, ".2f"), ("bound", 7, ".1f"), ("pairs", 7, "d"), ("median", 8, ".3f")]
        cells += [("p95", 7, ".2f"), ("max", 7, ".2f"), ("cpu", 7, ".3f"), ("mb", 9, ".0f"), ("ledger", 8, ".0%")]
        text = (f"{row[key]:>{width}{form}}" if key in row else " " * width for key, width, form in cells)
        print(f"{name:<34}" + "".join(text))
    print(f"\nbound of the memory: {BOUND_MB} MB; of the ledger: {BOUND_LEDGER:.0%} of a diff")
    for what, why in result["absent"].items():
        print(f"not measured: {what}: {why}")


if __name__ == "__main__":
    main()

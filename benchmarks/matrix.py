# SPDX-License-Identifier: GPL-2.0-or-later
"""How busy a matrix keeps its workers: measured on real kernels, and simulated for many.

    python benchmarks/matrix.py real DIRECTORY [--kernels PATTERN]... [--jobs N] [--offline]
    python benchmarks/matrix.py shared KERNEL KERNEL [--units N] [--seed N]
    python benchmarks/matrix.py simulate [--kernels N] [--fixes N] [--workers N] [--seed N] [--times FILE]

`real` runs `kgbuild matrix DIRECTORY --build` and prints how long each step took, how busy the slots were while there
was work, and how many objects were compiled. `shared` compiles the originals of random units of two kernels of the
cache, each by itself, and counts how many have the same key (kgbuild/host/compile/shared_objects.py); those of one key
must be the same but for the order of entries in .BTF. `simulate` runs the same graph of jobs
(kgbuild/releases/job_graph.py) against a clock of its own: each job takes a time that is drawn from those that were
recorded (--times: the JSON of a real matrix; without it those below, recorded on 2026-11-28 on a loaded machine of
two cores).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kgbuild.elf.read import read
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.compile.shared_objects import Compile, SharedObjects
from kgbuild.host.kernels.acquire import find_kernel
from kgbuild.host.kernels.build_tools import BuildTools
from kgbuild.host.kernels.compile_commands import read_all_units
from kgbuild.host.system.cache import Cache
from kgbuild.progress import SilentProgress
from kgbuild.releases.job_graph import ACQUIRE, AFFECTED, BUILD, DONE, IMPACT, VERIFY, VM, JobGraph, JobId, JobResult

# seconds of each step: three fixes on kernels of the 6.1 and 6.12 series that were in the cache
RECORDED: Mapping[str, Sequence[float]] = {
    ACQUIRE: (0.5, 0.5, 0.5, 0.1, 0.2, 0.8),
    AFFECTED: (0.2, 0.2, 0.3, 0.2, 0.1, 0.1),
    IMPACT: (1.4, 2.2, 2.4, 6.2, 6.2, 4.4, 12.0, 15.0, 18.2),
    BUILD: (2.1, 2.1, 6.7, 30.3),
    VERIFY: (0.5, 0.6, 1.2, 2.3),
    VM: (7.1, 21.4, 23.7),
}
# of the fixes of a directory, how many a kernel needs: the others are in its source or do not concern it
CONCERNED = (0.05, 0.4)
# how much longer the jobs of one kernel take than those of another
SLOWER = (0.5, 1.0, 1.0, 1.5, 2.0)


def simulate(
    kernels: int, fixes: int, workers: int, seed: int, times: Mapping[str, Sequence[float]], boot: bool = True
) -> dict[str, float]:
    """Run the graph of a matrix with drawn times. Returns seconds, and how busy the workers were: in all, and while
    more jobs were ready than could run, or all workers had one."""
    draw = random.Random(seed)
    names = [f"debian:{n}" for n in range(kernels)]
    slow = {name: draw.choice(SLOWER) for name in names}
    graph = JobGraph(names, build=True, boot=boot)
    count = itertools.count()
    ready = [(graph.urgency(job), next(count), job) for job in graph.first()]
    running: list[tuple[float, float, int, JobId]] = []
    now = busy = full = full_busy = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, number, job = heapq.heappop(ready)
            takes = draw.choice(times[job.step]) * slow[job.kernel]
            heapq.heappush(running, (now + takes, takes, number, job))
        end, takes, _, job = heapq.heappop(running)
        span = end - now
        busy += span * (len(running) + 1)
        if ready or len(running) + 1 == workers:
            full += span * workers
            full_busy += span * (len(running) + 1)
        now = end
        needed = [f"fix-{n}" for n in range(fixes) if draw.random() < draw.uniform(*CONCERNED)]
        data = {"affected": needed} if job.step == AFFECTED else {}
        for following in graph.finish(JobResult(job, DONE, data, seconds=takes)):
            heapq.heappush(ready, (graph.urgency(following), next(count), following))
    return {
        "jobs": len(graph.results),
        "seconds": round(now, 1),
        "busy": round(busy / (now * workers), 4),
        "busy while there is work": round(full_busy / full, 4) if full else 0.0,
    }


def recorded(path: Path | None) -> Mapping[str, Sequence[float]]:
    """The seconds of each step in the JSON of a matrix; those above where there is none of a step."""
    if path is None:
        return RECORDED
    found: dict[str, list[float]] = {}
    for row in json.loads(path.read_text())["kernels"]:
        for job in row["jobs"]:
            if not job["resumed"]:
                found.setdefault(job["step"], []).append(job["seconds"])
    return {**RECORDED, **found}


def measure(directory: Path, kernels: Sequence[str], jobs: int, offline: bool) -> dict[str, object]:
    """Run a matrix, and what came of it."""
    argv = [sys.executable, "-m", "kgbuild.cli.main", "matrix", "-C", str(directory), "--build", "-j", str(jobs)]
    argv += [word for pattern in kernels for word in ("--kernels", pattern)]
    done = subprocess.run(
        [*argv, "--format", "json", *(["--offline"] if offline else [])], stdout=subprocess.PIPE, check=False
    )
    told = json.loads(done.stdout)
    spent = [(job["step"], job["seconds"]) for row in told["kernels"] for job in row["jobs"] if not job["resumed"]]
    total = sum(seconds for _, seconds in spent)
    return {
        "exit status": done.returncode,
        "kernels": len(told["kernels"]),
        "jobs": len(spent),
        "seconds": told["seconds"],
        "busy": round(total / (told["seconds"] * told["jobs"]["slots"]), 4) if told["seconds"] else 0.0,
        "compiles": told["compiles"],
    }


def compare_shared(names: Sequence[str], count: int, seed: int) -> dict[str, object]:
    """Compile the same random units of two kernels and compare those of one key, byte by byte."""
    kernels = [find_kernel(name, offline=True) for name in names]
    first, second = (kernel for kernel in kernels if kernel is not None)
    known = {unit.object: unit for unit in read_all_units(second.units)}
    both = sorted((u for u in read_all_units(first.units) if u.object in known), key=lambda unit: unit.object)
    chosen = random.Random(seed).sample(both, count)
    found: dict[str, dict[str, tuple[str, bytes, str]]] = {}
    for kernel in (first, second):
        with tempfile.TemporaryDirectory() as folder:
            cache = Cache(Path(folder))
            units = [known[u.object] if kernel is second else u for u in chosen]
            keys: dict[str, str] = {}
            with noting_keys(keys):
                made = compile_units(kernel, units, {}, cache, SilentProgress(), 2, share=True)
        found[kernel.id.name] = {
            one.unit.object: (keys[one.unit.object], one.orig, one.original_clones) for one in made
        }
    rows = [(found[first.id.name][u.object], found[second.id.name][u.object]) for u in chosen]
    shared = [(one, other) for one, other in rows if one[0] == other[0] != ""]
    wrong = sum(contents(one[1]) != contents(other[1]) or one[2] != other[2] for one, other in shared)
    alike = sum(one[1] == other[1] for one, other in rows)
    return {
        "units": count,
        "of one key": len(shared),
        "of one key and different": wrong,
        "same bytes, .BTF too": alike,
    }


def contents(data: bytes) -> list[tuple[str, bytes]]:
    """What is in an object: the name and the bytes of each section. Of .BTF the bytes without their order: gcc writes
    variables in the order of addresses of its own memory."""
    obj = read(data)
    found = [(section.name, bytes(obj.contents(section.index))) for section in obj.sections]
    return [(name, bytes(sorted(text)) if name == ".BTF" else text) for name, text in found]


@contextmanager
def noting_keys(keys: dict[str, str]) -> Iterator[None]:
    """While the context lasts, note the key of each unit that is compiled."""
    real = SharedObjects.key

    def noted(self: SharedObjects, what: Compile, tools: BuildTools) -> str:
        keys[what.unit.object] = real(self, what, tools)
        return keys[what.unit.object]

    SharedObjects.key = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        SharedObjects.key = real  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    below = parser.add_subparsers(dest="what", required=True)
    real = below.add_parser("real")
    real.add_argument("directory", type=Path)
    real.add_argument("--kernels", action="append", default=[])
    real.add_argument("--jobs", type=int, default=2)
    real.add_argument("--offline", action="store_true")
    two = below.add_parser("shared")
    two.add_argument("kernels", nargs=2)
    two.add_argument("--units", type=int, default=50)
    two.add_argument("--seed", type=int, default=1)
    simulated = below.add_parser("simulate")
    simulated.add_argument("--kernels", type=int, default=200)
    simulated.add_argument("--fixes", type=int, default=50)
    simulated.add_argument("--workers", type=int, default=64)
    simulated.add_argument("--seed", type=int, default=1)
    simulated.add_argument("--times", type=Path)
    given = parser.parse_args()
    found: Mapping[str, object]
    if given.what == "real":
        found = measure(given.directory, given.kernels, given.jobs, given.offline)
    elif given.what == "shared":
        found = compare_shared(given.kernels, given.units, given.seed)
    else:
        found = simulate(given.kernels, given.fixes, given.workers, given.seed, recorded(given.times))
    for name, value in found.items():
        print(f"{name:<26}{value}")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a build takes, and how much memory: from nothing, with the kernel prepared, and repeated.

    python benchmarks/end_to_end.py [--runs N] [--from-nothing] [--kernel NAME] [-o FILE.json]

Prints a table of stages (median of the runs) and writes the same as JSON. `prepared` starts with no result of any
earlier build in the cache, `repeated` with all of them. --from-nothing fetches the kernel into an empty cache as well
(once: it downloads half a gigabyte); the download is shown by itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CGROUPS = Path("/sys/fs/cgroup")
PATCH = ROOT / "examples" / "proc-version" / "fix.patch"


@contextmanager
def counted() -> Iterator[tuple[str, Callable[[], float]]]:
    """A group of processes: the file that a process is written into to be in it, and what all in it have taken of CPU
    until now, in seconds: with those in a sandbox, whose times the system gives to nobody. Where this machine lets no
    group be made, the file is "" and the seconds are NaN.
    """
    for top, name, unit in ((CGROUPS / "cpuacct", "cpuacct.usage", 1e9), (CGROUPS, "cpu.stat", 1e6)):
        group = top / f"kgbuild-bench-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
        if (group / name).exists():
            try:
                yield str(group / "cgroup.procs"), partial(_seconds, group / name, unit)
            finally:
                _remove(group)
            return
        _remove(group)
    yield "", lambda: math.nan


def _seconds(counter: Path, unit: float) -> float:
    return int(re.findall(r"\d+", counter.read_text())[0]) / unit


def _remove(group: Path) -> None:
    for _ in range(100):  # a process that is just ending keeps it
        with suppress(FileNotFoundError):
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.05)
                continue
        return


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds of a process, its peak memory in MB (its largest child's where that is more), and the seconds of CPU
    that it and all that it started took (NaN where that can't be known)."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as err, counted() as (group, cpu):
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', group] if group else []
        process = subprocess.Popen([*enter, *argv], env=env, stdout=subprocess.DEVNULL, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            err.seek(0)
            sys.exit(f"{' '.join(argv)}: {err.read().decode()}")
        return time.monotonic() - began, usage.ru_maxrss / 1024, cpu()


def build(kernel: str, env: dict[str, str], folder: Path) -> dict[str, Any]:
    """One build in a process of its own: total, peak memory, stages."""
    report = folder / "report.json"
    argv = [sys.executable, "-m", "kgbuild.cli.main", "build", str(PATCH), "--kernel", kernel]
    argv += ["-o", str(folder / "livepatch-bench.ko"), "--report", str(report), "--quiet"]
    seconds, memory, cpu = timed(argv, env)
    stages = {s["name"]: s["seconds"] for s in json.loads(report.read_text())["stages"]}
    return {"total": seconds, "mb": memory, "cpu": cpu, "stages": stages}


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median of totals, memory, and each stage."""
    names = runs[0]["stages"]
    return {
        "total": statistics.median(r["total"] for r in runs),
        "mb": statistics.median(r["mb"] for r in runs),
        "cpu": statistics.median(r["cpu"] for r in runs),
        "stages": {n: statistics.median(r["stages"][n] for r in runs) for n in names},
        "runs": [r["total"] for r in runs],
    }


def from_nothing(kernel: str, folder: Path) -> dict[str, Any]:
    """Fetch into an empty cache and build: seconds by step, the download apart."""
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    script = (
        "import json, sys, time\n"
        "from contextlib import contextmanager\n"
        "from pathlib import Path\n"
        "from kgbuild.host.kernels.acquire import ensure_kernel\n"
        "from kgbuild.progress import SilentProgress\n"
        "steps = {}\n"
        "class Timing(SilentProgress):\n"
        "    @contextmanager\n"
        "    def step(self, title, total=None, unit=''):\n"
        "        began = time.monotonic()\n"
        "        with SilentProgress.step(self, title) as task:\n"
        "            yield task\n"
        "        name = title.split()[0]\n"
        "        steps[name] = steps.get(name, 0) + time.monotonic() - began\n"
        "ensure_kernel(sys.argv[1], progress=Timing())\n"
        "Path(sys.argv[2]).write_text(json.dumps(steps))\n"
    )
    told = folder / "steps.json"
    fetched, _, cpu = timed([sys.executable, "-c", script, kernel, str(told)], env)
    steps = json.loads(told.read_text())
    first = build(kernel, env, folder)
    download = steps.get("download", 0.0)
    total = fetched - download + first["total"]
    return {"steps": steps, "download": download, "build": first["total"], "total": total, "cpu": cpu + first["cpu"]}


@contextmanager
def cache_without_results() -> Iterator[dict[str, str]]:
    """An environment whose cache has this user's kernels, and no results of builds."""
    import platformdirs

    real = Path(platformdirs.user_cache_dir("kgbuild"))
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as scratch:
        cache = Path(scratch) / "kgbuild"
        cache.mkdir()
        for name in ("kernels", "sources", "names", "toolchains", "archives"):
            if (real / name).exists():
                (cache / name).symlink_to(real / name)
        yield {**os.environ, "XDG_CACHE_HOME": scratch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kernel", default="debian:newest-6.1-cloud")
    parser.add_argument("--from-nothing", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "end_to_end.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"kernel": options.kernel, "patch": PATCH.relative_to(ROOT).as_posix()}
    result["cpus"] = os.cpu_count()
    help_argv = [sys.executable, "-m", "kgbuild.cli.main", "--help"]
    result["help"] = statistics.median(timed(help_argv, dict(os.environ))[0] for _ in range(options.runs))
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as scratch:
        folder = Path(scratch)
        build(options.kernel, dict(os.environ), folder)  # the kernel is there afterwards
        prepared, repeated = [], []
        for _ in range(options.runs):
            with cache_without_results() as env:
                prepared.append(build(options.kernel, env, folder))
                repeated.append(build(options.kernel, env, folder))
        result["prepared"], result["repeated"] = median_of(prepared), median_of(repeated)
        if options.from_nothing:
            result["from_nothing"] = from_nothing(options.kernel, folder)
            shutil.rmtree(folder / "cache", ignore_errors=True)
    result["reference"] = {"tool": "kpatch-build", "total": 1753, "cpu": 2699, "note": "measured once, same job"}
    show(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{result['patch']} for {result['kernel']}, {result['cpus']} CPUs; seconds, median\n")
    print(f"{'stage':<12}{'prepared':>10}{'repeated':>10}")
    for name in result["prepared"]["stages"]:
        print(f"{name:<12}{result['prepared']['stages'][name]:>10.2f}{result['repeated']['stages'][name]:>10.2f}")
    print(f"{'process':<12}{result['prepared']['total']:>10.2f}{result['repeated']['total']:>10.2f}")
    print(f"{'CPU':<12}{result['prepared']['cpu']:>10.2f}{result['repeated']['cpu']:>10.2f}")
    print(f"{'peak MB':<12}{result['prepared']['mb']:>10.0f}{result['repeated']['mb']:>10.0f}")
    print(f"\n--help {result['help']:.2f} s; peak of this script's children {_children():.0f} MB")
    if "from_nothing" in result:
        figures = result["from_nothing"]
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in figures["steps"].items())
        print(f"from nothing {figures['total']:.1f} s, download aside ({steps}, build {figures['build']:.1f})")
        print(f"CPU from nothing, downloads included: {figures['cpu']:.1f} s")
    reference = result["reference"]
    print(f"reference: {reference['tool']} {reference['total']} s ({reference['note']})")


def _children() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()

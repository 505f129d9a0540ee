# SPDX-License-Identifier: GPL-2.0-or-later
"""How long it takes to build, or to find nothing to build, where a header changes.

    python benchmarks/headers.py [--runs N] [--kernel NAME] [-o FILE.json]

Each case changes one header of the kernel, with no result of any earlier build in the cache. The include graph is
there; making it, once for each kernel, is measured by itself. Prints a table (median of the runs) and writes the same
as JSON.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild.host.compile import include_index
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.model import Kernel
from kgbuild.progress import SilentProgress

ROOT = Path(__file__).resolve().parent.parent
NOTHING = 4


@dataclass(frozen=True)
class HeaderCase:
    """One change: `new` is put after `old` in `path`, and kgbuild ends with `status`. `limit` is the time wanted."""

    name: str
    path: str
    old: str
    new: str
    status: int
    limit: int


CASES = (
    HeaderCase(
        "inline function, header of 24 units",
        "fs/proc/internal.h",
        "static inline bool pde_is_permanent(const struct proc_dir_entry *pde)\n{\n",
        "\tsmp_rmb();\n",
        0,
        60,
    ),
    HeaderCase(
        "inline function, header of 4,000 units",
        "include/linux/vmstat.h",
        "static inline const char *node_stat_name(enum node_stat_item item)\n{\n",
        '\tif (item == NR_INACTIVE_ANON)\n\t\treturn "nr_kgbuild_anon";\n',
        0,
        60,
    ),
    HeaderCase(
        "inline function that 16 units use",
        "include/linux/blkdev.h",
        "static inline loff_t bdev_nr_bytes(struct block_device *bdev)\n{\n",
        "\tsmp_rmb();\n",
        0,
        60,
    ),
    HeaderCase(
        "inline function that 30 units use",
        "include/linux/etherdevice.h",
        "static inline bool is_valid_ether_addr(const u8 *addr)\n{\n",
        "\tsmp_rmb();\n",
        0,
        60,
    ),
    HeaderCase(
        "new prototype in a header of 200 units",
        "include/linux/namei.h",
        "extern int kern_path(const char *, unsigned, struct path *);\n",
        "int zq_prototype(struct inode *, const struct path *);\n",
        NOTHING,
        5,
    ),
    HeaderCase(
        "new type and inline function in mm.h",
        "include/linux/mm.h",
        "#define _LINUX_MM_H\n",
        "struct zqtype { int a; };\nstatic inline int zqinline(struct zqtype *p)\n{\n\treturn READ_ONCE(p->a);\n}\n",
        NOTHING,
        5,
    ),
    HeaderCase(
        "comment in mm.h", "include/linux/mm.h", "#define _LINUX_MM_H\n", "/* one more comment */\n", NOTHING, 20
    ),
    HeaderCase(
        "unused macro in mm.h", "include/linux/mm.h", "#define _LINUX_MM_H\n", "#define MM_NOBODY 1\n", NOTHING, 20
    ),
)


def write_patch(kernel: Kernel, case: HeaderCase, folder: Path) -> Path:
    """The case as a patch for this kernel."""
    orig = (kernel.source / case.path).read_text()
    if orig.count(case.old) != 1:
        sys.exit(f"{case.path}: not the text this benchmark changes")
    patched = orig.replace(case.old, case.old + case.new)
    lines = difflib.unified_diff(orig.splitlines(True), patched.splitlines(True), f"a/{case.path}", f"b/{case.path}")
    patch = folder / "header.patch"
    patch.write_text("".join(lines))
    return patch


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


def build(name: str, patch: Path, status: int, folder: Path) -> dict[str, Any]:
    """One build in a process of its own: seconds, peak memory, units compiled, stages."""
    report = folder / "report.json"
    argv = [sys.executable, "-m", "kgbuild.cli.main", "build", str(patch), "--kernel", name, "--quiet", "--ignore-init"]
    argv += ["-o", str(folder / "livepatch-bench.ko"), "--report", str(report)]
    with cache_without_results() as env, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=err)
        _, raw, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        if os.waitstatus_to_exitcode(raw) != status:
            err.seek(0)
            sys.exit(f"{' '.join(argv)}: {err.read().decode()}")
    made = json.loads(report.read_text())
    stages = {s["name"]: s["seconds"] for s in made["stages"]}
    return {"total": seconds, "mb": usage.ru_maxrss / 1024, "units": len(made["units"]), "stages": stages}


def graph_seconds(kernel: Kernel) -> float:
    """How long the include graph takes to make."""
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as scratch:
        began = time.monotonic()
        include_index.make_index(kernel, Path(scratch) / "includes.sqlite", SilentProgress())
        return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kernel", default="debian:newest-6.1-cloud")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "headers.json")
    options = parser.parse_args()
    kernel = ensure_kernel(options.kernel, progress=SilentProgress())
    name = f"{kernel.id.name}={kernel.id.version}"
    result: dict[str, Any] = {"kernel": name, "cpus": os.cpu_count(), "runs": options.runs, "cases": {}}
    result["graph"] = statistics.median(graph_seconds(kernel) for _ in range(options.runs))
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as scratch:
        folder = Path(scratch)
        build(name, write_patch(kernel, CASES[-1], folder), NOTHING, folder)  # the graph is there afterwards
        for case in CASES:
            patch = write_patch(kernel, case, folder)
            runs = [build(name, patch, case.status, folder) for _ in range(options.runs)]
            stages = {s: statistics.median(r["stages"][s] for r in runs) for s in runs[0]["stages"]}
            result["cases"][case.name] = {
                "total": statistics.median(r["total"] for r in runs),
                "mb": max(r["mb"] for r in runs),
                "units": runs[0]["units"],
                "limit": case.limit,
                "stages": stages,
                "runs": [r["total"] for r in runs],
            }
    show(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"headers of {result['kernel']}, {result['cpus']} CPUs; seconds, median of {result['runs']}\n")
    print(f"{'case':<40}{'seconds':>9}{'limit':>7}{'compiled':>10}{'peak MB':>9}")
    for title, row in result["cases"].items():
        print(f"{title:<40}{row['total']:>9.1f}{row['limit']:>7}{row['units']:>10}{row['mb']:>9.0f}")
    print(f"\ninclude graph, once for each kernel: {result['graph']:.1f} s")


if __name__ == "__main__":
    main()

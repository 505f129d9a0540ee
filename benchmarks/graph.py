# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the index of a kernel takes, the call graph of vmlinux, and one question; beside what others need.

    python benchmarks/graph.py [--runs N] [--kernel NAME] [--limit SECONDS] [--skip-others] [-o FILE.json]

Every figure is a process of its own, median of the runs, with its peak memory. The others read the same things:
pyelftools the tables (symbols, relocations of code), `objdump -d` with a script the direct calls, LIEF the file. What
takes longer than --limit is stopped and said to. The edges that kgbuild finds are counted against objdump's, and those
found without relocations against those found with them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BOUNDS = {
    "index": 20.0,
    "graph": 1.5,
    "facts": 0.4,
    "callers": 0.4,
    "impact --no-compile": 1.5,
    "mb": 800.0,
    "size_mb": 150.0,
}

GRAPH = """
import mmap, sys
from kgbuild.elf.read import read
from kgbuild.callgraph.object_graph import read_graph
file = open(sys.argv[1], "rb")
data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
graph = read_graph(read(memoryview(data)), ignore_relocations=len(sys.argv) > 2)
print(len(graph.edges.caller))
"""
INDEX = """
import sys
from pathlib import Path
from kgbuild.host.kernels.acquire import find_kernel
from kgbuild.host.index.writer import build_index
from kgbuild.progress import SilentProgress
build_index(find_kernel(sys.argv[1]), Path(sys.argv[2]), SilentProgress())
print(Path(sys.argv[2]).stat().st_size)
"""
PYELFTOOLS = """
import sys
from elftools.elf.elffile import ELFFile
elf = ELFFile(open(sys.argv[1], "rb"))
table = elf.get_section_by_name(".symtab")
names = [(s.name, s["st_value"], s["st_size"], s["st_info"]["type"]) for s in table.iter_symbols()]
count = 0
for name in (".rela.text", ".rela.init.text", ".rela.exit.text"):
    section = elf.get_section_by_name(name)
    count += sum(1 for r in section.iter_relocations() if r["r_info_type"] and r["r_info_sym"]) if section else 0
print(len(names) + count)
"""
OBJDUMP = """
import re, subprocess, sys
line = re.compile(
    r"^ *([0-9a-f]+):.*\\t(?:cs |bnd |notrack )?(?:call|jmp|j[a-z]+) +([0-9a-f]+) <([^>+]+)(\\+0x[0-9a-f]+)?>"
)
head = re.compile(r"^[0-9a-f]+ <(.+)>:$")
dump = subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", sys.argv[1]], stdout=subprocess.PIPE, text=True)
edges, function = set(), ""
for text in dump.stdout:
    match = line.match(text)
    if match:
        if match[3] not in (function, "__fentry__", "__x86_return_thunk") and not match[4]:
            edges.add((int(match[1], 16) + 1 * (match[0].count("cs ") > 0), int(match[2], 16)))
    elif text.endswith(">:\\n"):
        function = head.match(text)[1]
with open(sys.argv[2], "w") as out:
    out.writelines(f"{site} {target}\\n" for site, target in edges)
print(len(edges))
"""
LIEF = """
import sys, lief
print(len(lief.parse(sys.argv[1]).symbols))
"""


ESTIMATED = {
    "impact --no-compile": "net/ipv4/tcp_input.c",
    "impact --no-compile, small": "fs/proc/version.c",
    "impact --no-compile, module": "net/netfilter/nf_tables_api.c",
    "impact --no-compile, large": "net/core/dev.c",
}


def small_change(path: Path, name: str) -> str:
    """A patch of a file: the first `return 0;` in a function returns something else."""
    lines = path.read_text(errors="surrogateescape").splitlines(True)
    at = next(i for i, line in enumerate(lines) if line.strip() == "return 0;" and line.startswith("\t"))
    changed = [*lines[:at], lines[at].replace("0", "1"), *lines[at + 1 :]]
    return "".join(difflib.unified_diff(lines, changed, f"a/{name}", f"b/{name}"))


def timed(argv: list[str], limit: float) -> tuple[float, float, str, float]:
    """Wall seconds, peak MB, output and processor seconds of a process; output "" where it was stopped at the limit."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - began > limit:
                os.killpg(process.pid, signal.SIGKILL)
                _, _, usage = os.wait4(process.pid, 0)
                return time.monotonic() - began, usage.ru_maxrss / 1024, "", usage.ru_utime + usage.ru_stime
            time.sleep(0.005)
        out.seek(0)
        text = out.read().decode("utf-8", "replace").strip()
        if status:
            sys.exit(f"{' '.join(argv)}: {text}")
    return time.monotonic() - began, usage.ru_maxrss / 1024, text, usage.ru_utime + usage.ru_stime


def measure(argv: list[str], runs: int, limit: float = 600.0) -> dict[str, Any]:
    """Median seconds, MB and processor seconds of several runs, and what the last one printed."""
    found = [timed(argv, limit) for _ in range(runs)]
    if not found[-1][2]:
        return {"seconds": None, "limit": limit, "mb": found[-1][1], "out": ""}
    return {
        "seconds": statistics.median(f[0] for f in found),
        "runs": [round(f[0], 3) for f in found],
        "mb": statistics.median(f[1] for f in found),
        "cpu": statistics.median(f[3] for f in found),
        "out": found[-1][2],
    }


def read_pairs(path: Path) -> set[tuple[int, int]]:
    """(place, target) of each branch that objdump's script wrote; empty where it did not finish."""
    if not path.exists():
        return set()
    rows = (line.split() for line in path.read_text().splitlines())
    return {(int(site), int(target)) for site, target in rows}


def agreement(vmlinux: Path, listed: set[tuple[int, int]]) -> dict[str, int]:
    """Edges found with relocations and without, and those in only one of the two; branches to starts of functions that
    objdump's listing has and kgbuild has not, and the other way round. What stands in no function (replacements of
    alternatives, which kgbuild gives to the function they may be patched into; overridden weak functions, which have no
    symbol) is counted by itself."""
    import mmap

    import numpy as np

    from kgbuild.callgraph.edge_kinds import EdgeKind
    from kgbuild.callgraph.object_graph import read_graph
    from kgbuild.elf.read import read

    with vmlinux.open("rb") as file:
        obj = read(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    sides = []
    for ignore in (False, True):
        graph = read_graph(obj, ignore_relocations=ignore)
        edges = graph.edges
        columns = (edges.caller, edges.offset, edges.callee, edges.delta, edges.kind)
        sides.append(set(zip(*(column.tolist() for column in columns), strict=True)))
        if not ignore:
            functions = graph.functions
            place = functions.bodies.place
            branch = (edges.kind != EdgeKind.ADDRESS_TAKEN) & (edges.kind != EdgeKind.ALTERNATIVE) & (edges.delta == 0)
            branch &= (edges.kind != EdgeKind.JUMP_TABLE) & (edges.callee >= 0) & (edges.caller != edges.callee)
            sites = (place[edges.caller[branch]] + edges.offset[branch]).tolist()
            found = set(zip(sites, place[edges.callee[branch]].tolist(), strict=True))
            wrapped = sorted((site - (1 << 64), target - (1 << 64)) for site, target in listed)
            inside = functions.bodies.at(np.array([site for site, _ in wrapped], np.int64)) >= 0
            there = {pair for pair, known in zip(wrapped, inside.tolist(), strict=True) if known}
    with_relocations, without_relocations = sides
    taken = {int(EdgeKind.ADDRESS_TAKEN)}
    return {
        "with": len(with_relocations),
        "without": len(without_relocations),
        "only_with": len(with_relocations - without_relocations),
        "only_without": len(without_relocations - with_relocations),
        "objdump": len(listed),
        "objdump_outside": len(listed) - len(there),
        "only_objdump": len(there - found),
        "only_kgbuild": len(found - there),
        "differing_branches": sum(row[4] not in taken for row in with_relocations ^ without_relocations),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kernel", default="debian:newest-6.1-cloud")
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--skip-others", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results" / "graph.json")
    options = parser.parse_args()
    from kgbuild.host.index.store import load_index
    from kgbuild.host.kernels.acquire import ensure_kernel
    from kgbuild.progress import SilentProgress

    kernel = ensure_kernel(options.kernel, progress=SilentProgress())
    load_index(kernel, SilentProgress())
    name, vmlinux = f"{kernel.id.name}={kernel.id.version}", str(kernel.vmlinux)
    python = sys.executable
    command = [python, "-m", "kgbuild.cli.main"]
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="kgbuild-bench-") as scratch:
        index, dumped = f"{scratch}/index.sqlite", f"{scratch}/objdump"
        rows["index"] = measure([python, "-c", INDEX, name, index], min(options.runs, 3))
        rows["graph"] = measure([python, "-c", GRAPH, vmlinux], options.runs)
        rows["graph, relocations ignored"] = measure([python, "-c", GRAPH, vmlinux, "ignore"], options.runs)
        rows["callers"] = measure(
            [*command, "graph", "--kernel", name, "--callers", "kfree", "--depth", "2"], options.runs
        )
        rows["facts"] = measure([*command, "facts", "tcp_ack", "--kernel", name], options.runs)
        # a usual fix: one function of one file, in a module or in vmlinux; the larger the unit, the longer it takes
        for label, source in ESTIMATED.items():
            patch = Path(scratch) / "fix.patch"
            patch.write_text(small_change(kernel.source / source, source))
            words = ["impact", str(patch), "--kernel", name, "--no-compile"]
            rows[label] = measure([*command, *words], options.runs)
        rows["--help"] = measure([*command, "--help"], options.runs)
        if not options.skip_others:
            rows["pyelftools, tables only"] = measure([python, "-c", PYELFTOOLS, vmlinux], 1, options.limit)
            rows["objdump -d and a script"] = measure([python, "-c", OBJDUMP, vmlinux, dumped], 1, options.limit)
            rows["LIEF, parse only"] = measure([python, "-c", LIEF, vmlinux], 1, options.limit)
        listed = read_pairs(Path(dumped))
    result: dict[str, Any] = {
        "kernel": str(kernel.id),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "rows": rows,
    }
    result["agreement"] = agreement(kernel.vmlinux, listed)
    show(result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{result['kernel']}, {result['cpus']} CPUs (load {result['load']:.1f}); median\n")
    print(f"{'':<28}{'seconds':>9}{'bound':>8}{'peak MB':>9}")
    for name, row in result["rows"].items():
        seconds = f"{row['seconds']:.2f}" if row["seconds"] is not None else f"> {row['limit']:.0f}"
        bound = f"{BOUNDS[name]:.1f}" if name in BOUNDS else ""
        print(f"{name:<28}{seconds:>9}{bound:>8}{row['mb']:>9.0f}")
    size = int(result["rows"]["index"]["out"]) / 1e6
    print(f"\nindex file {size:.0f} MB (bound {BOUNDS['size_mb']:.0f}), peak memory bound {BOUNDS['mb']:.0f} MB")
    counts = result["agreement"]
    if counts["objdump"]:
        print(
            f"branches to another function's start by objdump {counts['objdump']}, "
            f"of these {counts['objdump_outside']} in no function; "
            f"not by kgbuild {counts['only_objdump']}, only by kgbuild {counts['only_kgbuild']}"
        )
    print(
        f"edges with relocations {counts['with']}, by disassembly alone {counts['without']}; "
        f"only with {counts['only_with']}, only without {counts['only_without']}, "
        f"of these branches: {counts['differing_branches']}"
    )


if __name__ == "__main__":
    main()

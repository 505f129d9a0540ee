# SPDX-License-Identifier: GPL-2.0-or-later
"""Real fixes: the difference of two Debian kernel sources, file by file, built as live patches and booted.

    python benchmarks/field_report.py [--files N] [--headers N] [--seed N] [--no-boot] [-o docs/field-report.md]

Each file that differs between linux-source-6.1 6.1.170-3 and 6.1.176-1 is one patch for the older kernel
(6.1.0-47-cloud-amd64); a header is taken with every .c file that changed beside it. --files of the .c files are drawn
(half in modules) and --headers of the headers. What builds is booted: loaded, disabled and unloaded, with its target
modules. The outcome is written as a table, with the reason for each refusal.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fixes import KERNEL, NEWER, difference, newer_source

from kgbuild.errors import KgbuildError, NoChange
from kgbuild.host.acquire import ensure_kernel
from kgbuild.host.units import read_sources
from kgbuild.host.vm import PatchRun, run_vm
from kgbuild.model import Kernel, SilentProgress
from kgbuild.pipeline import Build, Options, build
from kgbuild.refusals import Refused

ROOT = Path(__file__).resolve().parent.parent
BATCH = 12


@dataclass
class Case:
    """One real change and what became of it."""

    path: str
    kind: str
    patch: Path
    outcome: str = ""
    detail: list[str] = field(default_factory=list)
    seconds: float = 0.0
    module: Path | None = None
    booted: str = ""


def collect(kernel: Kernel, new: Path, folder: Path, files: int, headers: int, seed: int) -> list[Case]:
    """Draw the cases: .c files built in and in modules, half each, and headers with the .c files that go with them."""
    draw = random.Random(seed)
    units = {source: module for source, _, module in read_sources(kernel.units)}
    old = kernel.source
    changed = sorted(s for s in units if s.endswith(".c") and difference(old, new, s))
    modules = [s for s in changed if units[s]]
    built_in = [s for s in changed if not units[s]]
    chosen = draw.sample(modules, min(len(modules), files // 2)) + draw.sample(
        built_in, min(len(built_in), files - files // 2)
    )
    out = []
    for path in sorted(chosen):
        patch = folder / f"{path.replace('/', '_')}.patch"
        patch.write_text(difference(old, new, path), errors="surrogateescape")
        out.append(Case(path, "module" if units[path] else "built in", patch))
    texts = {
        p.relative_to(old).as_posix()
        for top in ("include", "net", "fs", "kernel", "mm")
        for p in (old / top).rglob("*.h")
    }
    changed_headers = sorted(p for p in texts if difference(old, new, p))
    for path in draw.sample(changed_headers, min(len(changed_headers), headers)):
        name = Path(path).name
        beside = [s for s in changed if f"{name}" in (new / s).read_text(errors="replace")]
        patch = folder / f"{path.replace('/', '_')}.patch"
        parts = [difference(old, new, p) for p in [path, *beside[:3]]]
        patch.write_text("".join(parts), errors="surrogateescape")
        out.append(Case(path, f"header, with {len(beside[:3])} .c", patch))
    return out


def build_one(case: Case, folder: Path, jobs: int) -> None:
    """Build a case; nothing is raised."""
    state = Build()
    stem = case.path.rsplit(".", 1)[0].replace("/", "-").replace("_", "-")[-40:].strip("-")
    output = folder / f"livepatch-{stem}.ko"
    began = time.monotonic()
    try:
        build([case.patch], KERNEL, output, Options(jobs=jobs), SilentProgress(), state)
        case.detail = [str(f) for f in state.findings] or [
            f"{len(state.report['changed'])} changed, {len(state.report['new'])} new"
        ]
        case.outcome = "finding" if state.findings else "built"
        if not state.findings:
            output.write_bytes(state.module)
            case.module = output
    except Refused as error:
        case.outcome = "refused"
        case.detail = [f"{r.code} {r.place}: {r.fact}" for r in error.refusals]
    except NoChange as error:
        case.outcome, case.detail = "no change", [error.fact]
    except KgbuildError as error:
        case.outcome, case.detail = "error", [str(error)]
    case.seconds = time.monotonic() - began


def boot(kernel: Kernel, cases: list[Case]) -> None:
    """Boot what was built, several in a guest."""
    built = [c for c in cases if c.module is not None]
    for start in range(0, len(built), BATCH):
        batch = built[start : start + BATCH]
        runs = [PatchRun(c.module) for c in batch if c.module is not None]
        try:
            result = run_vm(kernel, runs, progress=SilentProgress(), timeout=900, memory=1024)
        except KgbuildError as error:
            for case in batch:
                case.booted = f"not finished: {error.fact}"
            continue
        for case in batch:
            assert case.module is not None
            phases = result.of(case.module.name.removesuffix(".ko").replace("-", "_"))
            faults = [f"{p.phase}: {p.fact}" for p in phases.values() if not p.ok]
            case.booted = "; ".join(faults) if faults or not phases else "ok"


def render(kernel: Kernel, cases: list[Case]) -> str:
    """The report."""
    counts = Counter(c.outcome for c in cases)
    booted = sum(c.booted == "ok" for c in cases)
    lines = [
        "# Field report",
        "",
        f"Real changes between Debian's linux-source-6.1 6.1.170-3 and {NEWER}, each file by itself a live patch for",
        f"{kernel.id.release} ({kernel.id.version}); made by `benchmarks/field_report.py`. A file alone is harder than",
        "the fix it comes from: what it needs from other files of the same fix is missing (P10-compile).",
        "",
        f"{len(cases)} changes: "
        + ", ".join(f"{n} {o}" for o, n in counts.most_common())
        + f"; {booted} booted and well.",
        "",
        "| file | kind | outcome | booted | detail |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in cases:
        detail = "<br>".join(d.replace("|", "\\|").replace("\n", " ")[:220] for d in c.detail[:3])
        more = f"<br>and {len(c.detail) - 3} more" if len(c.detail) > 3 else ""
        lines.append(f"| {c.path} | {c.kind} | {c.outcome} | {c.booted} | {detail}{more} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--headers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-boot", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "field-report.md")
    options = parser.parse_args()
    kernel = ensure_kernel(KERNEL, progress=SilentProgress())
    with tempfile.TemporaryDirectory(prefix="kgbuild-field-") as scratch:
        folder = Path(scratch)
        cases = collect(kernel, newer_source(), folder, options.files, options.headers, options.seed)
        for number, case in enumerate(cases, 1):
            build_one(case, folder, options.jobs)
            print(f"{number}/{len(cases)} {case.outcome:<10} {case.seconds:6.1f} s  {case.path}", file=sys.stderr)
        if not options.no_boot:
            boot(kernel, cases)
        options.output.write_text(render(kernel, cases))


if __name__ == "__main__":
    main()

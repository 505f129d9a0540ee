# SPDX-License-Identifier: GPL-2.0-or-later
"""Real fixes: the difference of two Debian kernel sources, built as live patches and booted.

    python benchmarks/field_report.py [--files N] [--headers N] [--seed N] [--backend NAME] [--no-boot]
        [--state DIR [--kept]] [-o FILE]

What differs between linux-source-6.1 6.1.170-3 and 6.1.176-1 becomes patches for the older kernel
(6.1.0-47-cloud-amd64). --files of the .c files are drawn, half in modules, and --headers of the headers, a third of
them of those that most units read. The archive has no single commits, so a fix is put together again by the names its
files share: words of their changed statements that stand in few files of the older kernel, or in none. A file takes
with it each header that changes where such a name of its own does, each new header it includes, and the .c files that
use what changed in both. What builds is booted: loaded, disabled and unloaded, with its target modules. The outcome is
written as a table, with the reason for each refusal. With --state a run that was cut goes on where it was: what is in
DIR is not built again, whatever the back end; with --kept the report is made of that alone.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.diagnostics.refusals import Refused
from kgbuild.errors import KgbuildError, NoChange
from kgbuild.host.compile.include_index import load_include_index, read_file
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.host.vm.run import PatchRun, run_vm
from kgbuild.model import Kernel
from kgbuild.pipeline.build import build
from kgbuild.pipeline.stages.options import Options
from kgbuild.progress import SilentProgress
from tests.support.fixes import KERNEL, NEWER, OLDER, changed_units, difference, newer_source

ROOT = Path(__file__).resolve().parent.parent
BATCH = 12
LARGE = 8
RARE = 12  # files of the older kernel that a name may stand in to tell what belongs together
# where headers lie that most units read
WIDE = ("include/linux/", "include/uapi/", "arch/x86/include/")

_WORD = re.compile(r"[A-Za-z_]\w*")
_ADDED_INCLUDE = re.compile(r"^\+\s*#\s*include\s*<([\w./+-]+\.h)>", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


@dataclass
class FieldCase:
    """One real change and what became of it."""

    path: str
    kind: str
    patch: Path
    beside: list[str]
    outcome: str = ""
    detail: list[str] = field(default_factory=list)
    seconds: float = 0.0
    module: Path | None = None
    booted: str = ""
    kept: Path | None = None


@dataclass(frozen=True)
class Difference:
    """One file that differs: the diff, and the words of its changed lines."""

    diff: str
    words: frozenset[str]


def read_difference(old: Path, new: Path, path: str) -> Difference | None:
    """How a file differs, one that is new included; None where it does not."""
    diff = difference(old, new, path)
    if not diff and (new / path).is_file() and not (old / path).exists():
        lines = (new / path).read_text().splitlines(True)
        diff = "".join(difflib.unified_diff([], lines, "/dev/null", f"b/{path}"))
    if not diff:
        return None
    return Difference(diff, frozenset(_WORD.findall(_COMMENT.sub(" ", "\n".join(changed_statements(diff))))))


def changed_statements(diff: str) -> list[str]:
    """The changed lines of a diff, each with the lines before it that its statement begins on."""
    out: list[str] = []
    for sign in "-+":
        statement: list[str] = []
        for line in diff.splitlines()[2:]:
            if line[:1] == ("+" if sign == "-" else "-"):
                continue
            statement.append(line[1:])
            if line[:1] == sign:
                out += statement
                statement = []
            elif line[:2] == "@@" or line.rstrip().endswith((";", "{", "}", ":", "*/")):
                statement = []
    return out


def common_words(kernel: Kernel, words: frozenset[str], paths: Iterable[str]) -> frozenset[str]:
    """Those of `words` that stand in more than RARE of the older kernel's files."""
    counts: Counter[str] = Counter()
    for path in dict.fromkeys(paths):
        try:
            text = read_file(kernel, path).decode(errors="replace")
        except OSError:
            continue
        counts.update(words.intersection(_WORD.findall(text)))
    return frozenset(w for w, n in counts.items() if n > RARE)


class Fixes:
    """All that differs in units of a kernel and the headers they read."""

    def __init__(self, kernel: Kernel, new: Path) -> None:
        index = load_include_index(kernel, Cache(), SilentProgress())
        self.units = changed_units(kernel, new)
        headers = [p for p in sorted(index.graph.includes) if p.endswith(".h") and not p.startswith("./")]
        found = {p: read_difference(kernel.source, new, p) for p in [*self.units, *headers]}
        self.files = {path: d for path, d in found.items() if d is not None}
        self.added: dict[str, list[str]] = {}
        for path in list(self.files):
            for name in _ADDED_INCLUDE.findall(self.files[path].diff):
                header = f"include/{name}"
                if (kernel.source / header).exists() or not (made := read_difference(kernel.source, new, header)):
                    continue
                self.files[header] = made
                self.added.setdefault(path, []).append(header)
        self.headers = [p for p in headers if p in self.files]
        self.headers += sorted({h for found_in in self.added.values() for h in found_in} - set(self.headers))
        words = frozenset[str]().union(*(self.files[p].words for p in self.headers))
        names = words - common_words(kernel, words, [*self.units, *index.graph.includes])
        self.names = {p: d.words & names for p, d in self.files.items()}

    def group(self, path: str) -> list[str]:
        """The files of the fix that a file belongs to. Those of more than LARGE are several fixes: only the headers
        the file itself needs are taken then."""
        files = [path]
        shared = frozenset[str]().union(*(self.names[h] for h in self.headers if h != path)) & self.names[path]
        users = [
            p
            for p in self.units
            if p != path and (self.names[path] if path in self.headers else shared) & self.names[p]
        ]
        files += users if len(users) <= LARGE else []
        for needs in files:  # grows on the way: headers need headers
            files += [h for h in self.added.get(needs, ()) if h not in files]
            files += [h for h in self.headers if h not in files and self.names[needs] & self.names[h]]
        return files


def collect(kernel: Kernel, new: Path, folder: Path, files: int, headers: int, seed: int) -> list[FieldCase]:
    """Draw the cases: .c files built in and in modules, half each, and headers, with what goes with them."""
    draw = random.Random(seed)
    fixes = Fixes(kernel, new)
    modules = [s for s in fixes.units if fixes.units[s]]
    built_in = [s for s in fixes.units if not fixes.units[s]]
    chosen = sorted(
        draw.sample(modules, min(len(modules), files // 2))
        + draw.sample(built_in, min(len(built_in), files - files // 2))
    )
    wide = [h for h in fixes.headers if h.startswith(WIDE)]
    narrow = [h for h in fixes.headers if not h.startswith(WIDE)]
    chosen += sorted(
        draw.sample(wide, min(len(wide), headers // 3)) + draw.sample(narrow, min(len(narrow), headers - headers // 3))
    )
    out = []
    for path in chosen:
        group = fixes.group(path)
        patch = folder / f"{path.replace('/', '_')}.patch"
        patch.write_text("".join(fixes.files[p].diff for p in group), errors="surrogateescape")
        kind = "header" if path.endswith(".h") else "module" if fixes.units[path] else "built in"
        out.append(FieldCase(path, kind, patch, group[1:]))
    return out


def build_one(case: FieldCase, folder: Path, jobs: int, backend: str) -> None:
    """Build a case; nothing is raised."""
    stem = case.path.rsplit(".", 1)[0].replace("/", "-").replace("_", "-")[-40:].strip("-")
    output = folder / f"livepatch-{stem}.ko"
    began = time.monotonic()
    try:
        built = build([case.patch], KERNEL, output, Options(jobs=jobs, backend=backend))
        report, findings = built.trail.report(), built.checked.findings
        case.detail = [str(f) for f in findings] or [f"{len(report['changed'])} changed, {len(report['new'])} new"]
        case.outcome = "finding" if findings else "built"
        if not findings:
            output.write_bytes(built.assembled.module)
            case.module = output
    except Refused as error:
        case.outcome = "refused"
        case.detail = [f"{r.code} {r.place}: {r.fact}" for r in error.refusals]
    except NoChange as error:
        case.outcome, case.detail = "no change", [error.fact]
    except KgbuildError as error:
        case.outcome, case.detail = "error", [str(error)]
    case.seconds = time.monotonic() - began


def build_or_recall(case: FieldCase, folder: Path, state: Path | None, jobs: int, backend: str) -> None:
    """Build a case, or take what an earlier run has kept of the same patch."""
    if state is None:
        build_one(case, folder, jobs, backend)
        return
    case.kept = kept_file(case, state)
    if case.kept.exists():
        found = json.loads(case.kept.read_text())
        case.outcome, case.detail, case.seconds = found["outcome"], found["detail"], found["seconds"]
        case.module = Path(found["module"]) if found["module"] else None
        case.booted = found.get("booted", "")
        return
    built = case.kept.with_suffix("")
    built.mkdir(parents=True, exist_ok=True)
    build_one(case, built, jobs, backend)
    keep(case)


def kept_file(case: FieldCase, state: Path) -> Path:
    """Where what is known of a patch is kept."""
    return state / f"{hashlib.sha256(case.patch.read_bytes()).hexdigest()[:16]}.json"


def keep(case: FieldCase) -> None:
    """Write what is known of a case for a later run."""
    if case.kept is not None:
        found = {k: getattr(case, k) for k in ("outcome", "detail", "seconds", "booted")}
        case.kept.write_text(json.dumps({**found, "module": str(case.module or "")}))


def boot(kernel: Kernel, cases: list[FieldCase]) -> None:
    """Boot what was built, several in a guest."""
    built = [c for c in cases if c.module is not None and not c.booted]
    for start in range(0, len(built), BATCH):
        batch = built[start : start + BATCH]
        runs = [PatchRun(c.module) for c in batch if c.module is not None]
        try:
            result = run_vm(kernel, runs, progress=SilentProgress(), timeout=2400, memory=1024)
        except KgbuildError as error:
            for case in batch:
                case.booted = f"not finished: {error.fact}"
            continue
        for case in batch:
            assert case.module is not None
            phases = result.of(case.module.name.removesuffix(".ko").replace("-", "_"))
            faults = [f"{p.phase}: {p.fact}" for p in phases.values() if not p.ok]
            case.booted = "; ".join(faults) or ("ok" if phases else "not tried")
            keep(case)


def render(kernel: Kernel, cases: list[FieldCase], drawn: int) -> str:
    """The report."""
    counts = Counter(case.outcome for case in cases)
    booted = sum(case.booted == "ok" for case in cases)
    header = [case for case in cases if any(p.endswith(".h") for p in (case.path, *case.beside))]
    codes = Counter(code for case in cases if case.outcome == "refused" for code in {d.split()[0] for d in case.detail})
    lines = [
        "# Field report",
        "",
        f"Real changes between Debian's linux-source-6.1 {OLDER} and {NEWER}, each made a live patch for",
        f"{kernel.id.release} ({kernel.id.version}) by `benchmarks/field_report.py`, which also says how a fix is put",
        "together from the files that differ. Booted means: loaded, disabled and unloaded, with its modules in both",
        "orders and reloaded three times.",
        "",
        "No unit of this kernel is in two modules. Debian's other kernel has some: a line added to",
        "lio_get_state_string (drivers/net/ethernet/cavium/liquidio/octeon_device.c, in liquidio and liquidio_vf) was",
        "built for debian:6.1.0-56-amd64 and booted by hand, both modules in both orders and reloaded three times,",
        "without a fault.",
        "",
        *([f"{drawn} changes were drawn; these {len(cases)} of them were tried.", ""] if drawn > len(cases) else []),
        f"{len(cases)} changes: "
        + ", ".join(f"{n} {o}" for o, n in counts.most_common())
        + f"; {booted} booted and well. A header changes in {len(header)} of them; of these "
        f"{sum(case.booted == 'ok' for case in header)} were built and booted.",
        "",
        "P10-compile means a fix that its files' names did not put together whole; P12-too-many-units for types",
        "and macros that hundreds of units read: only --max-units and an hour of compiling or more would build it.",
        "",
        "Codes of the refusals, each with the number of changes (docs/limits.md): "
        + ", ".join(f"{code} {n}" for code, n in codes.most_common())
        + ".",
        "",
        "| file | kind | outcome | booted | detail |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        detail = "<br>".join(d.replace("|", "\\|").replace("\n", " ")[:220] for d in case.detail[:3])
        more = f"<br>and {len(case.detail) - 3} more" if len(case.detail) > 3 else ""
        beside = f"<br>with {', '.join(case.beside)}" if case.beside else ""
        lines.append(f"| {case.path}{beside} | {case.kind} | {case.outcome} | {case.booted} | {detail}{more} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--headers", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--backend", default="")
    parser.add_argument("--no-boot", action="store_true")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "field-report.md")
    options = parser.parse_args()
    kernel = ensure_kernel(KERNEL, progress=SilentProgress())
    with tempfile.TemporaryDirectory(prefix="kgbuild-field-") as scratch:
        folder = Path(scratch)
        cases = collect(kernel, newer_source(), folder, options.files, options.headers, options.seed)
        drawn = len(cases)
        if options.kept:
            cases = [c for c in cases if options.state is not None and kept_file(c, options.state).exists()]
        for number, case in enumerate(cases, 1):
            build_or_recall(case, folder, options.state, options.jobs, options.backend)
            print(f"{number}/{len(cases)} {case.outcome:<10} {case.seconds:6.1f} s  {case.path}", file=sys.stderr)
        if not options.no_boot:
            boot(kernel, cases)
        # the sections that benchmarks/refusals.py and benchmarks/ledger.py wrote
        _, found, kept = (options.output.read_text() if options.output.exists() else "").partition("\n## ")
        options.output.write_text(render(kernel, cases, drawn) + (f"\n## {kept}" if found else ""))


if __name__ == "__main__":
    main()

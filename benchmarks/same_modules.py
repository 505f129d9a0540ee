# SPDX-License-Identifier: GPL-2.0-or-later
"""Does another version of kgbuild build the same modules, byte for byte?

    git worktree add ../before COMMIT
    python benchmarks/same_modules.py ../before . [--fixes N] [--seed N] [--jobs N] [--state DIR]

Every patch is built by both checkouts, with the command line of each: --fixes real ones, drawn with --seed from the
.c files that differ between the two Debian sources of tests/support/fixes.py, each alone; all patches of tests/kernel
and examples, those that must be refused too; and those of the laboratory (examples/hazards) for its own modules. Exit
status, codes of refusals and warnings, and the module must be equal. Where a module is not, the sections that differ
are named. What was built is kept in DIR, by checkout, and taken from there when the run goes on.
Exit status: 0 all equal, 1 something differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.kbuild import clean_environment
from kgbuild.progress import SilentProgress
from tests.support.fixes import KERNEL, OLDER, both, changed_units, difference

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests/kernel"
LABORATORY = ROOT / "examples/hazards"
OLD, NEW = "debian:newest-6.1-cloud", "debian:newest-6.12-deb12-cloud"
LIMIT_SECONDS = 900


@dataclass(frozen=True)
class ModuleCase:
    """One module to build: a name, the patches, and more options of `kgbuild build`."""

    name: str
    patches: tuple[Path, ...]
    kernel: str
    options: tuple[str, ...] = ()


def fixes(count: int, seed: int, folder: Path) -> Iterator[ModuleCase]:
    """`count` real fixes, written as patches into `folder`."""
    kernel, newer = both()
    paths = sorted(changed_units(kernel, newer))
    for path in sorted(random.Random(seed).sample(paths, min(count, len(paths)))):
        patch = folder / f"{path.replace('/', '__')}.patch"
        patch.write_bytes(difference(kernel.source, newer, path).encode(errors="surrogateescape"))
        yield ModuleCase(f"fix-{patch.stem}", (patch,), f"{KERNEL}={OLDER}")


def cases() -> Iterator[ModuleCase]:
    """The patches of tests/kernel and examples: those that are booted as their tables say, the others each alone."""
    seen: set[Path] = set()
    for table, kernel in ((CASES / "cases/cases.toml", OLD), (CASES / "cases/newer.toml", NEW)):
        rows = tomllib.loads(table.read_text())
        for row in rows["case"]:
            patches = tuple((table.parent / p).resolve() for p in row["patches"])
            options = tuple(row.get("options", ()))
            seen.update(patches)
            yield ModuleCase(f"{row['name']}-{kernel[-10:-6]}", patches, kernel, options)
            if kernel == NEW or row["name"] in ("meminfo", "af-key", "percpu", "fork"):
                yield ModuleCase(f"{row['name']}-{kernel[-10:-6]}-kallsyms", patches, kernel, ("--backend", "kallsyms"))
            if row["name"] in rows.get("same", ()):
                yield ModuleCase(f"{row['name']}-same", patches, NEW, options)
    for patch in sorted([*CASES.rglob("*.patch"), *(ROOT / "examples").rglob("*.patch")]):
        if patch.resolve() not in seen and LABORATORY not in patch.parents:
            yield ModuleCase(f"{patch.parent.name}-{patch.stem}", (patch,), OLD)


def laboratory(folder: Path) -> Iterator[ModuleCase]:
    """The patches of the laboratory, for modules that kbuild builds here, once."""
    import shutil

    kernel = ensure_kernel(OLD, progress=SilentProgress())
    build, source = folder / "build", folder / "source"
    for copy in (build, source):
        shutil.copytree(LABORATORY, copy, dirs_exist_ok=True)
    argv = ["make", "-s", "-C", str(kernel.source), f"O={kernel.build}", f"M={build}", f"CC={kernel.cc}"]
    argv += [f"KERNELRELEASE={kernel.id.release}", "modules"]
    subprocess.run(argv, env=clean_environment(), check=True, timeout=LIMIT_SECONDS)
    modules = {path.stem: path for path in sorted(build.rglob("*.ko"))}
    for row in tomllib.loads((CASES / "hazards/hazards.toml").read_text())["case"]:
        patch = LABORATORY / row["folder"] / row["patch"]
        options: list[str] = []
        if row.get("module"):
            options = ["--oot", str(source)]
            for name in (row["module"], *row.get("beside", ())):
                options += ["--oot-module", str(modules[name])]
        yield ModuleCase(f"lab-{row['folder']}-{patch.stem}", (patch,), OLD, tuple(options))


def build(case: ModuleCase, checkout: Path, folder: Path) -> dict[str, object]:
    """What one checkout makes of a case: exit status, codes, and the module's digest ("" where there is none)."""
    record = folder / f"{case.name}.json"
    if record.exists():
        kept: dict[str, object] = json.loads(record.read_text())
        return kept
    module, report = folder / f"livepatch-{digest_name(case.name)}.ko", folder / f"{case.name}.report"
    argv = [sys.executable, "-m", "kgbuild.cli.main", "build", *map(str, case.patches), "--kernel", case.kernel]
    argv += ["--offline", "--jobs", "1", "-q", "-o", str(module), "--report", str(report), *case.options]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        argv, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
    )
    found = json.loads(report.read_text()) if report.exists() else {}
    answer: dict[str, object] = {
        "status": done.returncode,
        "refused": sorted(f"{r['code']} {r['place']}" for r in found.get("refusals", ())),
        "warned": sorted([*found.get("warnings", ()), *map(json.dumps, found.get("consistency", ()))]),
        "module": hashlib.sha256(module.read_bytes()).hexdigest() if module.exists() else "",
    }
    record.write_text(json.dumps(answer))
    return answer


def digest_name(name: str) -> str:
    """A short name of a module that no other case has."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def differing_sections(before: Path, after: Path) -> list[str]:
    """Names of the sections whose content is not the same in two modules, or that only one of them has."""
    content: list[dict[str, bytes]] = []
    for path in (before, after):
        with path.open("rb") as stream:
            content.append({s.name: s.data() for s in ELFFile(stream).iter_sections()})
    orig, now = content
    return sorted(name for name in orig.keys() | now.keys() if orig.get(name) != now.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--fixes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--state", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        state = (options.state or Path(scratch)).resolve()
        folders = [state / "before", state / "after", state / "patches", state / "laboratory"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        todo = [*fixes(options.fixes, options.seed, folders[2]), *cases(), *laboratory(folders[3])]
        checkouts = [options.before.resolve(), options.after.resolve()]

        def compare(case: ModuleCase) -> tuple[ModuleCase, dict[str, object], list[str]]:
            before, after = (build(case, *pair) for pair in zip(checkouts, folders, strict=False))
            differs = [key for key in before if before[key] != after[key]]
            if "module" in differs and before["module"] and after["module"]:
                name = f"livepatch-{digest_name(case.name)}.ko"
                differs += differing_sections(folders[0] / name, folders[1] / name)
            return case, after, differs

        wrong = built = 0
        with ThreadPoolExecutor(options.jobs) as pool:
            for case, after, differs in pool.map(compare, todo):
                wrong += bool(differs)
                built += bool(after["module"])
                print(f"{case.name}: exit {after['status']}, {', '.join(differs) or 'equal'}", flush=True)
        print(f"{len(todo)} cases, {built} modules, {wrong} differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

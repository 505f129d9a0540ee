# SPDX-License-Identifier: GPL-2.0-or-later
"""Real fixes as compiled pairs: every unit's .c file that differs between two Debian kernel sources.

    python -m tests.support.fixes [--series 6.1|6.12] [--limit N] [--jobs N] [-o DIRECTORY]

    from tests.support.fixes import fixes
    for path, original, patched in fixes(limit=50): ...

The files are those that differ between linux-source-6.1 6.1.170-3 and 6.1.176-1 (or the two of another row of SERIES),
by path. Each is taken alone, as one patch for the older kernel (6.1.0-47-cloud-amd64), and goes through kgbuild's own
stages: applied with #line directives, compiled by the unit's own command with a section for each function, objtool.
Results are in kgbuild's cache. A file that needs what changed with it elsewhere (a header, mostly) does not compile
alone: it is left out and counted, and so is one whose patch kgbuild refuses before compiling. With -o the pairs are
written as PATH.orig.o and PATH.patched.o, where PATH has __ for each slash; what is there is made again.
"""

from __future__ import annotations

import argparse
import difflib
import posixpath
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import platformdirs

from kgbuild.diagnostics.refusals import Refused
from kgbuild.errors import KgbuildError
from kgbuild.host.compile.apply_patches import apply_patches
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.compile.unit_selection import choose_units
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.compile_commands import read_sources
from kgbuild.host.kernels.unit_listing import file_of_all, read_units
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.run import run
from kgbuild.model import Kernel
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.progress import SilentProgress

KERNEL = "debian:6.1.0-47-cloud-amd64"
OLDER, NEWER = "6.1.170-3", "6.1.176-1"


class Series(NamedTuple):
    """Two versions of one source package, and a kernel that was built of the older."""

    package: str
    kernel: str
    older: str
    newer: str


SERIES = {
    "6.1": Series("linux-source-6.1", KERNEL, OLDER, NEWER),
    "6.12": Series(
        "linux-source-6.12", "debian:6.12.107+deb12-cloud-amd64", "6.12.107-1~deb12u1", "6.12.117-1~deb12u1"
    ),
}


@dataclass
class Skipped:
    """The files that gave no pair, each with the reason."""

    reasons: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        alone = sum(reason.startswith("P10-") for reason in self.reasons.values())
        return f"{len(self.reasons)} skipped: {alone} do not compile alone, {len(self.reasons) - alone} refused before"


class Unavailable(Exception):
    """One of the two versions can't be had: which, and what to do."""


def both(series: Series = SERIES["6.1"]) -> tuple[Kernel, Path]:
    """The older kernel and the newer one's sources, fetched at the same time where they are not here yet.

    Raises Unavailable.
    """
    with ThreadPoolExecutor(1) as pool:
        newer = pool.submit(newer_source, series)
        try:
            kernel = ensure_kernel(f"{series.kernel}={series.older}", progress=SilentProgress())
        except KgbuildError as error:
            raise _unavailable(series, f"{series.kernel} {series.older}", error) from error
        return kernel, newer.result()


def _unavailable(series: Series, what: str, error: KgbuildError) -> Unavailable:
    return Unavailable(
        f"can't fetch {what}: {error}. The real fixes are the difference of {series.package} {series.older} and "
        f"{series.newer}; if the archive no longer has these, two others must be named in tests/support/fixes.py"
    )


def newer_source(series: Series = SERIES["6.1"]) -> Path:
    """The newer kernel's sources, fetched once. Raises Unavailable."""
    package, newer = series.package, series.newer
    folder = Path(platformdirs.user_cache_dir("kgbuild")) / "benchmarks" / f"{package}-{newer}"
    if (folder / "done").exists():
        return next(p for p in folder.iterdir() if p.is_dir())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run(["apt-get", "download", "-q", f"{package}={newer}"], cwd=Path(scratch))
        except KgbuildError as error:
            raise _unavailable(series, f"{package} {newer}", error) from error
        file = next(Path(scratch).glob("*.deb"))
        inner = f"./usr/src/{package}.tar.xz"
        pipe = f"dpkg --fsys-tarfile {file} | tar -xO {inner} | xz -dc | tar -x -C {folder}"
        subprocess.run(["bash", "-o", "pipefail", "-c", pipe], check=True)
    (folder / "done").write_text("")
    return next(p for p in folder.iterdir() if p.is_dir())


def difference(old: Path, new: Path, path: str) -> str:
    """A unified diff of one file; "" where it is the same or missing on one side."""
    orig, patched = old / path, new / path
    if not orig.is_file() or not patched.is_file() or orig.read_bytes() == patched.read_bytes():
        return ""
    orig_text, patched_text = orig.read_text(errors="surrogateescape"), patched.read_text(errors="surrogateescape")
    lines = difflib.unified_diff(orig_text.splitlines(True), patched_text.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def changed_units(kernel: Kernel, new: Path) -> dict[str, bool]:
    """Every .c file that is a unit of this kernel and differs, by path; whether it is part of a module."""
    units = {posixpath.normpath(source): module for source, _, module in read_sources(file_of_all(kernel))}
    return {s: units[s] for s in sorted(units) if difference(kernel.source, new, s)}


def compile_fix(kernel: Kernel, new: Path, path: str, cache: Cache) -> tuple[bytes, bytes]:
    """The original and the patched object of one file, patched alone. A path with two objects (built in and in a
    module) gives the first. Raises Refused, and LookupError where no kernel code comes of it."""
    diff = difference(kernel.source, new, path).encode(errors="surrogateescape")
    patches = apply_patches(kernel, [parse_patch(path, diff)])
    selection = choose_units(kernel, patches, cache, SilentProgress(), 1)
    if refusals := [*patches.refusals, *selection.refusals]:
        raise Refused(refusals)
    if not selection.because:
        raise LookupError("no kernel code")
    source = path if path in selection.because else min(selection.because)  # virt/kvm has a way of its own
    unit = read_units(kernel, [source])[source][0]
    done = compile_units(kernel, [unit], selection.files, cache, SilentProgress(), 1, selection.real)
    return done[0].orig, done[0].patched


def fixes(
    limit: int | None = None,
    jobs: int = 1,
    skipped: Skipped | None = None,
    only: Collection[str] | None = None,
    series: Series = SERIES["6.1"],
) -> Iterator[tuple[str, bytes, bytes]]:
    """(path, original object, patched object) of each file, by path; at most `limit` of them, and of `only`.

    `jobs` files are compiled at a time. What gave no pair is put into `skipped`. Raises Unavailable.
    """
    kernel, new = both(series)
    cache = Cache()
    skipped = skipped if skipped is not None else Skipped()
    paths = sorted(only) if only is not None else list(changed_units(kernel, new))
    made = 0

    def compile_one(path: str) -> tuple[bytes, bytes] | str:
        try:
            return compile_fix(kernel, new, path, cache)
        except LookupError as error:
            return str(error.args[0])
        except Refused as error:
            return "; ".join(f"{r.code} {r.place}: {r.fact}" for r in error.refusals)

    with ThreadPoolExecutor(jobs) as pool:
        for start in range(0, len(paths), 4 * jobs):
            some = paths[start : start + 4 * jobs]
            for path, found in zip(some, pool.map(compile_one, some), strict=True):
                if isinstance(found, str):
                    skipped.reasons[path] = found
                elif made != limit:
                    made += 1
                    yield path, *found
            if made == limit:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", choices=SERIES, default="6.1")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    skipped, count = Skipped(), 0
    for path, orig, patched in fixes(options.limit, options.jobs, skipped, None, SERIES[options.series]):
        count += 1
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
            for side, data in (("orig", orig), ("patched", patched)):
                partial = options.output / ".partial"
                partial.write_bytes(data)
                partial.replace(options.output / f"{path.replace('/', '__')}.{side}.o")
        print(f"{count} {path}", flush=True)
    for path, reason in skipped.reasons.items():
        print(f"skipped {path}: {reason[:200]}", file=sys.stderr)
    print(f"{count} pairs; {skipped}", file=sys.stderr)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources that the kernel's build makes itself: tables, ASN.1 parsers, SELinux's class headers.

A headers package has those that modules need. Units that include others would not compile, and where even the program
that makes them is missing, make leaves the unit out of its listing. So the programs are built before the listing and
the sources after it: a second or two, once per kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from kgbuild.host.kernels.build_tools import BuildTools
from kgbuild.host.system.children import PREPARE_LIMITS

# Program, the source file that shows that this kernel has it.
_GENERATORS = (
    ("scripts/asn1_compiler", "scripts/asn1_compiler.c"),
    ("scripts/selinux/genheaders/genheaders", "scripts/selinux/genheaders/genheaders.c"),
)
_TARGET = re.compile(r": (?:update )?target '([^']+\.[ch])' ?(?:does not exist|due to)")
# Not for units that can be patched: those of modpost, of the vdso and the real mode blob, and for assembly only.
_NOT_NEEDED = re.compile(r"\.mod\.c$|^arch/[^/]+/(?:entry/vdso|realmode|boot|purgatory)/|asm-offsets\.h$")


def build_generators(source: Path, build: Path, env: Mapping[str, str], tools: BuildTools) -> list[str]:
    """Build the programs that generate sources, if they are missing in the build tree; returns those that failed."""
    failed = []
    for program, shown_by in _GENERATORS:
        if (build / program).exists() or not (source / shown_by).exists():
            continue
        if not _make(source, build, env, tools, str(PurePosixPath(program).parent), [program]):
            failed.append(program)
    return failed


def watch_targets(lines: Iterable[str], targets: set[str]) -> Iterator[str]:
    """Pass on the lines of `make -n --trace`, and add every generated source that it would make to `targets`."""
    for line in lines:
        if "target '" in line[:400]:
            found = _TARGET.search(line[:400])
            if found and not _NOT_NEEDED.search(found.group(1)):
                targets.add(found.group(1))
        yield line


def make_sources(
    source: Path, build: Path, env: Mapping[str, str], targets: Iterable[str], jobs: int, tools: BuildTools
) -> list[str]:
    """Make generated sources, one make for each directory; returns the directories where that failed.

    A failure is no error here: units that need none of them compile all the same.
    """
    by_directory: dict[str, list[str]] = {}
    for target in sorted(targets):
        by_directory.setdefault(str(PurePosixPath(target).parent), []).append(target)
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        done = pool.map(lambda item: _make(source, build, env, tools, *item), by_directory.items())
        return [directory for directory, good in zip(by_directory, done, strict=True) if not good]


def _make(
    source: Path, build: Path, env: Mapping[str, str], tools: BuildTools, directory: str, targets: list[str]
) -> bool:
    makefile = str(source / "scripts" / "Makefile.build")
    argv = ["make", "-s", "-rR", "-k", "-I", str(source), "-f", makefile, f"obj={directory}", *targets]
    return tools.run(argv, writable=[build], cwd=build, env=env, check=False, limits=PREPARE_LIMITS).status == 0

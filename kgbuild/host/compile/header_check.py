# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether changed headers compile at all, where no unit that is compiled tells.

A header can change without changing any unit: a new prototype that nothing uses. It must be C all the same, and must
not contradict what other headers declare. One unit that includes it is compiled as far as that can be seen
(-fsyntax-only), the smallest there is. Its preprocessed text is compared as well: where macros make something of a
declaration that its own text does not show (`used`), what was concluded from that text does not hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.compile.preprocess import Trees, differs, why_not_valid
from kgbuild.host.kernels.unit_listing import read_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand
from kgbuild.patch.tree_paths import FileKind, classify

# A unit whose original can't be compiled here tells nothing: others are tried.
_TRIES = 4


@dataclass
class HeaderCheck:
    """What is to be checked: for each header, the files that see it; and pairs of files that declare the same name,
    each as the files that see both."""

    seen_by: dict[str, Collection[str]] = field(default_factory=dict)
    conflicts: list[Collection[str]] = field(default_factory=list)

    def groups(self, compiled: Collection[str]) -> list[list[str]]:
        """The sources, one of each of which has to be checked, where none of them is compiled anyway."""
        done = set(compiled)
        found = [files for files in self.seen_by.values() if done.isdisjoint(_plain(files))]
        return [sorted(source for source in _plain(files) if source.endswith(".c")) for files in found + self.conflicts]


def _plain(files: Iterable[str]) -> set[str]:
    return {path.removeprefix("./") for path in files}


def check_headers(
    kernel: Kernel,
    files: Mapping[str, bytes],
    real: Sequence[str],
    check: HeaderCheck,
    compiled: Collection[str],
    cache: Cache,
    jobs: int,
) -> list[Refusal] | None:
    """A refusal for each unit that was chosen and does not compile with the patched headers (P10-compile); None if one
    of them may compile to something else, so that the text of the headers does not tell which units change."""
    groups = check.groups(compiled)
    if not any(groups):
        return []
    with cache.scratch("syntax") as scratch:
        trees = Trees(kernel, Overlay(kernel, files, scratch, real), scratch)
        chosen: dict[str, list[UnitCommand]] = {}
        for sources in groups:
            if not chosen.keys() & set(sources):  # one unit can do for several headers
                units = _smallest(kernel, sources)
                if units:
                    chosen.setdefault(units[0].source, units)
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            found = list(pool.map(lambda units: _first_fault(trees, units), chosen.values()))
    return None if True in found else [refusal for refusal in found if isinstance(refusal, Refusal)]


def _smallest(kernel: Kernel, sources: Iterable[str]) -> list[UnitCommand]:
    """Some of the units that the smallest of some files are, smallest first."""
    sizes = {}
    for source in sources:
        path = kernel.source / source
        if path.is_file() and classify(source) is not FileKind.NOT_C:
            sizes[source] = path.stat().st_size
    out: list[UnitCommand] = []
    for source in sorted(sizes, key=lambda name: (sizes[name], name)):
        out += [u for u in read_units(kernel, [source])[source] if classify(_made_as(u)) is not FileKind.NOT_C]
        if len(out) >= _TRIES:
            break
    return out[:_TRIES]


def _made_as(unit: UnitCommand) -> str:
    return f"{unit.object.removesuffix('.o')}.c"


def _first_fault(trees: Trees, units: Sequence[UnitCommand]) -> Refusal | bool:
    """What the first unit that can be compiled has against the headers; whether it may change, if nothing."""
    for unit in units:
        fault = why_not_valid(trees, unit)
        if fault is not None:
            return Refusal("P10-compile", unit.source, fault) if fault else differs(trees, unit)
    return False

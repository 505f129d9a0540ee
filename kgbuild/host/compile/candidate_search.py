# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of many units a changed header affects: preprocesses them in rounds until that is clear."""

from __future__ import annotations

import hashlib
import math
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kgbuild.csource.header_impact import changed_type_words
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.host.compile.apply_patches import read_original, why_not_built
from kgbuild.host.compile.include_index import (
    constant_makers,
)
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.compile.preprocess import (
    Trees,
    assembly_differs,
    compile_seconds,
    constants_differ,
    differs,
    object_differs,
)
from kgbuild.host.kernels.compile_commands import read_all_units
from kgbuild.host.kernels.unit_listing import file_of_all, read_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand
from kgbuild.patch.tree_paths import FileKind, classify
from kgbuild.progress import Progress

MAX_UNITS = 100


_ROUND = 16

# So few units are all examined at once; otherwise some affected ones are looked at first, each found in a few tries.
_FEW, _SAMPLES, _TRIES = 4, 3, 4

# So many small sources are read to find those that use a type, and so many uses of its members are enough.
_READ, _USES = 1000, 2


# Code that has already run when a live patch is loaded is not part of the running kernel.
_HAS_RUN = re.compile(r"(?:arch/[^/]+/boot|drivers/firmware/efi/libstub)/.*")


@dataclass
class Selection:
    """What a patch of headers requires.

    files     the patched files that matter: unchanged headers are left out
    because   source of each unit to compile -> why
    real      directories that must be real in the overlay (`Overlay`)
    """

    files: dict[str, bytes]
    because: dict[str, str] = field(default_factory=dict)
    real: tuple[str, ...] = ()
    refusals: list[Refusal] = field(default_factory=list)


class UnitLook(Protocol):
    """Looks at a few units of a selection before the `rest`; raises Refused if these stand against the patch."""

    def __call__(self, selection: Selection, rest: int) -> None: ...


def is_fixed(unit: UnitCommand) -> bool:
    """Whether an object can't be patched. Its source may be kernel code otherwise: arch/x86/purgatory/sha256.o is made
    from lib/crypto/sha256.c."""
    return classify(f"{unit.object.removesuffix('.o')}.c") is FileKind.NOT_C


@dataclass
class CandidateSearch:
    """Examines the candidates (source -> why) of a selection and adds the affected ones to it."""

    kernel: Kernel
    selection: Selection
    candidates: Mapping[str, str]
    cache: Cache
    progress: Progress
    jobs: int
    max_units: int
    look: UnitLook | None = None
    headers: Mapping[str, Collection[str]] = field(default_factory=dict)
    _known: dict[str, bool | Refusal] = field(default_factory=dict)

    def run(self) -> None:
        commands = read_units(self.kernel, self.candidates, self.progress)
        patchable: list[UnitCommand] = []
        fixed: list[UnitCommand] = []
        for unit in (unit for units in commands.values() for unit in units):
            if not is_fixed(unit):
                patchable.append(unit)
            elif not _HAS_RUN.fullmatch(unit.object):
                fixed.append(unit)
        assembly = [s for s in self.candidates if s.endswith(".S") and self._is_built(s)]
        makers = [s for s in self.candidates if s in constant_makers(self.kernel)]
        if not (patchable or fixed or assembly or makers):
            return
        with self.cache.scratch("preprocess") as scratch:
            overlay = Overlay(self.kernel, self.selection.files, scratch, self.selection.real)
            trees = Trees(self.kernel, overlay, scratch)
            if self.look is not None and len(patchable) > _FEW:
                self._look_first(trees, patchable, self.look)
            if self._look_at_units(trees, patchable):
                self._look_at_others(trees, fixed, assembly, makers)
            self.selection.real = overlay.entered

    def _look_first(self, trees: Trees, units: Sequence[UnitCommand], look: UnitLook) -> None:
        """Have one affected unit of each header looked at; of a few headers, more of them."""
        by_source: dict[str, list[UnitCommand]] = {}
        for unit in units:
            by_source.setdefault(unit.source, []).append(unit)
        wanted = max(1, _SAMPLES // max(len(self.headers), 1))
        sizes = {source: _size_of(self.kernel.source / source) for source in by_source}
        because: dict[str, str] = {}
        with ThreadPoolExecutor(max(self.jobs, 1)) as pool:
            for header, files in self.headers.items():
                near = sorted((s for s in by_source if s in files), key=lambda source: (sizes[source], source))
                others: Sequence[str] = [source for source in near if source not in because]
                near = list(self._likely_first(header, others)[: wanted * _TRIES])
                found = [source for source in because if source in files]
                for at in range(0, len(near), max(self.jobs, 1)):
                    if len(found) >= wanted:
                        break
                    some = [by_source[source][0] for source in near[at : at + max(self.jobs, 1)]]
                    for unit, answer in zip(some, pool.map(lambda u: differs(trees, u), some), strict=True):
                        self._known[unit.object] = answer
                        if answer is True:
                            found.append(unit.source)
                because |= {source: self.candidates[source] for source in found}
        for answer in self._known.values():
            if isinstance(answer, Refusal):
                raise Refused([answer], len(units) - len(self._known))
        if because:
            selection = Selection(self.selection.files, because, self.selection.real)
            look(selection, len(units) - len(because))

    def _likely_first(self, header: str, sources: Sequence[str]) -> Sequence[str]:
        """Some sources in their order, but first those that use members of types that a header changes."""
        tags, words = changed_type_words(read_original(self.kernel, header) or b"", self.selection.files[header])
        if not tags:
            return sources
        named = re.compile(rb"\b(?:%b)\b" % b"|".join(map(re.escape, sorted(tags))))
        member = re.compile(rb"(?:->|\.)\s*(?:%b)\b" % b"|".join(map(re.escape, sorted(words - tags))))
        likely = []
        for source in sources[:_READ]:
            text = read_original(self.kernel, source) or b""
            if named.search(text) and len(member.findall(text)) >= _USES:
                likely.append(source)
        return [*likely, *(source for source in sources if source not in set(likely))]

    def _is_built(self, source: str) -> bool:
        if _HAS_RUN.fullmatch(source):
            return False
        option = why_not_built(self.kernel, source)
        pattern = rf"^{re.escape(option)}=[ym]$"
        return not option or re.search(pattern, self.kernel.config.read_text(), re.MULTILINE) is not None

    def _look_at_units(self, trees: Trees, units: Sequence[UnitCommand]) -> bool:
        """Examine units; False if too many are affected."""
        found: list[UnitCommand] = []
        looked = 0
        began = time.monotonic()
        # Not ordered by directory, so that the first units are representative of the rest.
        shuffled = sorted(units, key=lambda u: hashlib.sha256(u.object.encode()).digest())
        with (
            self.progress.step(f"examine {len(units)} units", len(units), "units") as task,
            ThreadPoolExecutor(max(self.jobs, 1)) as pool,
        ):

            def one(unit: UnitCommand) -> bool | Refusal:
                answer = self._known.get(unit.object)
                if answer is None:
                    answer = differs(trees, unit)
                task.advance()
                return answer

            while looked < len(units) and not exceeds(len(units), looked, len(found), self.max_units):
                some = shuffled[looked : looked + _ROUND]
                for unit, answer in zip(some, pool.map(one, some), strict=True):
                    if isinstance(answer, Refusal):
                        self.selection.refusals.append(answer)
                    elif answer:
                        found.append(unit)
                looked += len(some)
        for unit in found:
            self.selection.because[unit.source] = self.candidates[unit.source]
        many = exceeds(len(units), looked, len(found), self.max_units)
        if many:
            rate = (time.monotonic() - began) / looked
            self.selection.refusals.append(self._too_many(trees, len(units), looked, found, rate))
        return not many

    def _too_many(self, trees: Trees, count: int, looked: int, found: Sequence[UnitCommand], rate: float) -> Refusal:
        wanted = max(round(len(found) / looked * count), len(found))
        sample = found[:: max(len(found) // 3, 1)][:3]
        began = time.monotonic()
        with ThreadPoolExecutor(max(self.jobs, 1)) as pool:
            list(pool.map(lambda unit: compile_seconds(trees, unit), sample))
        each = 2 * (time.monotonic() - began) / len(sample)
        headers = sorted({self.candidates[u.source].rpartition(" ")[2] for u in found})
        fact = (
            f"{count} units may include it, {len(found)} of the first {looked} may change: about {wanted} to "
            f"compile, {_duration(rate * (count - looked) + each * wanted)} at the rate so far; "
            f"the limit is {self.max_units}"
        )
        remedy = (
            f"go on with --max-units {count}, or move the change into .c files; new members of a structure: "
            "kgbuild remedy PATCH --code K9-type-layout"
        )
        return Refusal("P12-too-many-units", ", ".join(headers[:3]), fact, remedy=remedy)

    def _look_at_others(
        self, trees: Trees, fixed: Sequence[UnitCommand], assembly: Sequence[str], makers: Sequence[str]
    ) -> None:
        named = read_units(self.kernel, ["init/main.c"])["init/main.c"]  # no out-of-tree module has it
        model = named[0] if named else next(read_all_units(file_of_all(self.kernel)))
        because = self.candidates

        def not_c(source: str) -> Refusal:
            return Refusal("P3-not-c", source, f"it {because[source]} and would change")

        def generated(source: str) -> Refusal:
            fact = f"it {because[source]}; constants made from it when the kernel was built would change"
            return Refusal("P11-generated", source, fact)

        work: list[tuple[Callable[[], bool | Refusal], Callable[[str], Refusal], str]] = []
        for unit in fixed:
            work.append((lambda u=unit: object_differs(trees, u), not_c, unit.source))  # type: ignore[misc]
        for source in assembly:
            work.append((lambda s=source: assembly_differs(trees, model, s), not_c, source))  # type: ignore[misc]
        for source in makers:
            work.append((lambda s=source: constants_differ(trees, model, s), generated, source))  # type: ignore[misc]
        if not work:
            return
        with (
            self.progress.step(f"check {len(work)} files that can't be patched", len(work), "files") as task,
            ThreadPoolExecutor(max(self.jobs, 1)) as pool,
        ):
            for (_, refuse, source), answer in zip(work, pool.map(lambda w: w[0](), work), strict=True):
                task.advance()
                if isinstance(answer, Refusal):
                    self.selection.refusals.append(answer)
                elif answer:
                    self.selection.refusals.append(refuse(source))


def exceeds(total: int, looked: int, found: int, limit: int) -> bool:
    """Whether more than `limit` of `total` units differ, given that `found` of the first `looked` do.

    This is certain if `found` exceeds `limit`. Before that, note that the order of the units is unrelated to the
    change: if at most `limit` units differ, `found` given units all differ with a probability below (limit / total) **
    found. If that is below 1e-12, even for every choice of the units, examining more of them would only take time.
    """
    return found > limit or math.comb(looked, found) * min(limit / max(total, 1), 1.0) ** found < 1e-12


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _size_of(path: Path) -> int:
    """Bytes of a source file; one that the build makes (fs/unicode/utf8data.c) is not in the source, and comes last."""
    return path.stat().st_size if path.is_file() else sys.maxsize

# SPDX-License-Identifier: GPL-2.0-or-later
"""The values that the stages of a build pass on. Each is made by one stage, never changed, and read by later stages:

Asked -> KernelChosen -> PatchesApplied -> Prepared -> Proven -> Compared -> Closed -> PutOnTop -> Assembled ->
Checked

A failed run has the values up to the stage that failed; its observer received each (pipeline/stages/events.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kgbuild.accounting.account import Accounting, UnitLedger
from kgbuild.closure.model import Closure, UnitResult
from kgbuild.host.compile.apply_patches import PatchSet
from kgbuild.host.compile.candidate_search import Selection
from kgbuild.host.compile.compile import Compiled
from kgbuild.host.modules.running import RunningKernel
from kgbuild.livepatch.cumulative import Lost, Older, OnTop
from kgbuild.livepatch.foreign_patches import OtherPatch
from kgbuild.model import Finding, Kernel, UnitCommand
from kgbuild.objects.view import View
from kgbuild.patch.kept_changes import FileChange
from kgbuild.patch.unified_diff import ParsedPatch
from kgbuild.proof.parity import ParityProof
from kgbuild.proof.record import ProofRecord


@dataclass(frozen=True)
class Inputs:
    """The user's inputs, read: patches, the kernel or its name, patch modules that are loaded before (`older`, in
    order) or by others (`others`), out-of-tree modules by name."""

    patches: tuple[ParsedPatch, ...]
    kernel: str | RunningKernel
    older: tuple[Older, ...] = ()
    others: tuple[OtherPatch, ...] = ()
    oot_modules: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Warned:
    """All warnings so far, in order, while the patch is not closed yet."""

    warnings: tuple[str, ...]


@dataclass(frozen=True)
class KernelChosen:
    """The chosen kernel. It can be patched: its configuration and the compiler allow it."""

    running: RunningKernel
    requested: str
    warnings: tuple[str, ...] = ()

    @property
    def kernel(self) -> Kernel:
        """The kernel's files."""
        return self.running.kernel


@dataclass(frozen=True)
class PatchesApplied:
    """The patched texts. `changes`: what the patches change in each file; `lost`: changes of older patches not in
    them."""

    patches: PatchSet
    changes: Mapping[str, FileChange]
    lost: tuple[Lost, ...]


@dataclass(frozen=True)
class Looked:
    """What a first look at some units found, by object and target, so that nothing is proven or compared twice."""

    proven: dict[tuple[str, str], ProvenUnit] = field(default_factory=dict)
    compared: dict[tuple[str, str], ComparedUnit] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """The units whose tokens the patch changes; each is part of this kernel. `tree` is the kernel as these units see
    it: itself, or with the source of an out-of-tree module in place of its own."""

    chosen: KernelChosen
    applied: PatchesApplied
    tree: Kernel
    selection: Selection
    units: tuple[UnitCommand, ...]
    warnings: tuple[str, ...] = ()
    looked: Looked = field(default_factory=Looked, repr=False, compare=False)

    @property
    def running(self) -> RunningKernel:
        """The running kernel."""
        return self.chosen.running


class ProvenUnit(NamedTuple):
    """One compiled unit, for one object of the running kernel that it is part of, and what was proven about it."""

    compiled: Compiled
    target: str
    orig: View
    parity: ParityProof

    @property
    def source(self) -> str:
        """The unit's source, relative to the tree."""
        return self.compiled.unit.source


class ComparedUnit(NamedTuple):
    """One unit's comparison, without its exports: the result, warnings, and what an author's macros leave out."""

    proven: ProvenUnit
    result: UnitResult
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Proven:
    """For each function of each original object, whether it is what runs. `because`: why each unit is included.
    `backend`: the requested one, or the kernel's best; "" if the kernel supports none."""

    units: tuple[ProvenUnit, ...]
    because: Mapping[str, str]
    backend: str
    pulled: Mapping[str, str] = field(default_factory=dict)

    @property
    def compiled(self) -> list[Compiled]:
        """Each compiled unit once, in order."""
        return list(dict.fromkeys(u.compiled for u in self.units))


@dataclass(frozen=True)
class Compared:
    """What changed; no type in use and no export changed its layout. `ledgers` has an entry for each unit that the
    patch touches; these come first in `units`."""

    units: tuple[UnitResult, ...]
    ledgers: tuple[UnitLedger, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Accounted:
    """The claim for each difference between original and patched objects."""

    accountings: tuple[Accounting, ...]


@dataclass(frozen=True)
class Closed:
    """Every member has its reason, and every reference is bound, or refused in `closure.refusals`. `consistency`:
    report rows on what the kernel's consistency model can't guarantee for this patch."""

    closure: Closure
    proven: Proven
    accountings: tuple[Accounting, ...]
    consistency: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class PutOnTop:
    """The relation of this patch to patches loaded before it."""

    on_top: OnTop


@dataclass(frozen=True)
class Recorded:
    """The proof record of the module before it is linked, as data (docs/schema/proof-2.json), and the back end."""

    backend: str
    proof: Mapping[str, object]


@dataclass(frozen=True)
class Assembled:
    """The module's bytes and, if requested, the module as a directory for kbuild. `record` is its proof."""

    name: str
    backend: str
    record: ProofRecord
    proof: Mapping[str, object]
    module: bytes
    directory: Mapping[str, bytes]


@dataclass(frozen=True)
class Checked:
    """The findings of a second reader in the finished module."""

    findings: tuple[Finding, ...]

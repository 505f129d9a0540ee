# SPDX-License-Identifier: GPL-2.0-or-later
"""What the stages of a build hand on. Each value is made by one stage, never changed, and read by those after it:

    Asked -> KernelChosen -> PatchesApplied -> Prepared -> Proven -> Compared -> Closed -> PutOnTop -> Assembled ->
    Checked

A run that fails has those up to the stage that failed; its observer was told of each (pipeline/stages/events.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kgbuild.accounting.account import Accounting, Unit
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
class Asked:
    """What a user gave, read: patches, the kernel or its name, patch modules that are loaded before (`older`, in order)
    or by others (`others`), out-of-tree modules by name."""

    patches: tuple[ParsedPatch, ...]
    kernel: str | RunningKernel
    older: tuple[Older, ...] = ()
    others: tuple[OtherPatch, ...] = ()
    oot_modules: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Warned:
    """Everything that was warned of so far, in order, where the patch is not closed yet."""

    warnings: tuple[str, ...]


@dataclass(frozen=True)
class KernelChosen:
    """The kernel that the name stands for. It can be patched: its configuration and the compiler allow it."""

    running: RunningKernel
    requested: str
    warnings: tuple[str, ...] = ()

    @property
    def kernel(self) -> Kernel:
        """The kernel's files."""
        return self.running.kernel


@dataclass(frozen=True)
class PatchesApplied:
    """The patched texts. `changes` is what the patches change in each file, `lost` what of older patches they lack."""

    patches: PatchSet
    changes: Mapping[str, FileChange]
    lost: tuple[Lost, ...]


@dataclass(frozen=True)
class Prepared:
    """The units whose tokens the patch changes, every one part of this kernel. `tree` is the kernel as these units see
    it: itself, or with the source of an out-of-tree module in place of its own."""

    chosen: KernelChosen
    applied: PatchesApplied
    tree: Kernel
    selection: Selection
    units: tuple[UnitCommand, ...]
    warnings: tuple[str, ...] = ()

    @property
    def running(self) -> RunningKernel:
        """The kernel that runs."""
        return self.chosen.running


class ProvenUnit(NamedTuple):
    """One compiled unit, for one object of the running kernel that it is part of, with what was proven of it."""

    compiled: Compiled
    target: str
    original: View
    parity: ParityProof

    @property
    def source(self) -> str:
        """The unit's source, relative to the tree."""
        return self.compiled.unit.source


@dataclass(frozen=True)
class Proven:
    """Of each function of each original object it is known whether it is what runs. `because`: why each unit is
    there. `backend` is the one asked for, or the kernel's best; "" where it can take none."""

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
    """What changed, and that no type in use and no export changed its layout. `ledgers` has one entry for each of the
    units that the patch touches, which come first in `units`."""

    units: tuple[UnitResult, ...]
    ledgers: tuple[Unit, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Accounted:
    """What becomes of each difference between originals and patched objects."""

    accountings: tuple[Accounting, ...]


@dataclass(frozen=True)
class Closed:
    """Every member is known with its reason, and every reference is bound, or refused in `closure.refusals`.
    `consistency`: the report's rows of what the kernel's consistency model can't do for this patch."""

    closure: Closure
    proven: Proven
    accountings: tuple[Accounting, ...]
    consistency: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class PutOnTop:
    """What becomes of the patches that are loaded before this one."""

    on_top: OnTop


@dataclass(frozen=True)
class Recorded:
    """The proof record of what is about to be linked, as data (docs/schema/proof-2.json), and the back end."""

    backend: str
    proof: Mapping[str, object]


@dataclass(frozen=True)
class Assembled:
    """The module's bytes, and as a directory for kbuild where that was asked for. `record` is its proof."""

    name: str
    backend: str
    record: ProofRecord
    proof: Mapping[str, object]
    module: bytes
    directory: Mapping[str, bytes]


@dataclass(frozen=True)
class Checked:
    """What another reader than the one that wrote it finds in the module."""

    findings: tuple[Finding, ...]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest is asked to do, and what it did."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kgbuild.guest import reload_scenario as targets
from kgbuild.guest.kernel_log import Fault
from kgbuild.guest.loaded_patches import PatchLoad
from kgbuild.guest.reload_scenario import TargetRun

OUTPUT_LIMIT = 65536


PHASES = ("before", "load", "after", "disable", "disabled", "log")


@dataclass(frozen=True)
class GuestCommand:
    """A command of one phase. `succeeds` tells what is expected of it; `check` is True if it comes from --check."""

    text: str
    succeeds: bool = True
    check: bool = False


@dataclass(frozen=True)
class CommandRun:
    """How a command ended. `status` is None if it was stopped because of its time limit; `output` contains its standard
    output and standard error in order, at most OUTPUT_LIMIT bytes (`truncated`)."""

    cmd: str
    expected: bool
    status: int | None
    output: str
    seconds: float
    check: bool = False
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether it did what was expected."""
        return self.status is not None and (self.status == 0) == self.expected


@dataclass(frozen=True)
class PhaseRun:
    """One phase of one patch: whether it passed, a description of what was seen, and each load of a live patch in
    it."""

    patch: str
    phase: str
    ok: bool
    fact: str
    seconds: float
    commands: tuple[CommandRun, ...] = ()
    functions: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    loads: tuple[PatchLoad, ...] = ()


@dataclass(frozen=True)
class GuestPlan:
    """What is done with one patch module: its name, commands by phase, expected log lines, functions that must be
    listed in sysfs (as `object/function`), the loadable modules that it is for (None: none), whether it replaces any
    function or has only callbacks, and whether it is to replace the older patches (None: not known)."""

    name: str
    commands: dict[str, tuple[GuestCommand, ...]] = field(default_factory=dict)
    allow_log: tuple[re.Pattern[str], ...] = ()
    functions: tuple[str, ...] = ()
    targets: TargetRun | None = None
    replaces: bool = True
    atomic_replace: bool | None = None

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases of this patch, in order."""
        return targets.PHASES if self.targets else PHASES

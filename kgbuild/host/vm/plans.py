# SPDX-License-Identifier: GPL-2.0-or-later
"""From patch modules, and what is to be done with them, to plans for the guest and the files that it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kgbuild.arch.base import Arch
from kgbuild.errors import UserError
from kgbuild.guest.model import GuestCommand, GuestPlan
from kgbuild.guest.reload_scenario import TargetRun
from kgbuild.host.modules import files as module_files
from kgbuild.host.vm import initramfs
from kgbuild.host.vm.guest_commands import guest_file, load_command, unload_command
from kgbuild.host.vm.patch_notes import note_in
from kgbuild.host.vm.patch_targets import (
    Targets,
    collect_targets,
    has_functions,
    module_entries,
    read_targets,
    run_entries,
)
from kgbuild.model import Kernel

_TWICE = "two of the modules have one name"
_NAME = re.compile(r"[A-Za-z0-9_]{1,55}")


@dataclass(frozen=True)
class PatchRun:
    """One patch module and what to do with it. Commands run with `sh -c`; each is expected to succeed in its phase.

    checks     run in all three phases: must fail before, succeed after, fail when disabled
    allow_log  patterns of kernel log lines that are expected; a match in a warning's block allows the whole block
    functions  `object/function` that sysfs must list for this patch
    absent     run while the patch is active and its target modules are out
    older      patch modules to load before it, in order; they are removed after `disabled`
    targets    loadable modules to try the patch on, in both orders (guest/reload_scenario.py); None: those it says it
               is for. Without any, the patch just goes through PHASES.

    The commands of `after` run in every state in which the patch is active and its targets are loaded, so they must
    bear being repeated, and leave no target in use.
    """

    module: Path
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    disabled: Sequence[str] = ()
    checks: Sequence[str] = ()
    allow_log: Sequence[str] = ()
    functions: Sequence[str] = ()
    targets: Sequence[str] | None = None
    older: Sequence[Path] = ()
    absent: Sequence[str] = ()


def prepare(
    kernel: Kernel,
    arch: Arch,
    patches: Sequence[PatchRun],
    files: Mapping[str, bytes | Path],
    modules: Sequence[str],
    own: Mapping[str, Path],
) -> tuple[list[GuestPlan], list[initramfs.ArchiveEntry]]:
    """What is to be done with each patch, and everything of the guest's file system but the limits.

    `own` are out-of-tree modules by name. Raises UserError for input that can't be used."""
    if not patches:
        raise UserError("no patch module given")
    plans: list[GuestPlan] = []
    trees: list[initramfs.ArchiveEntry] = []
    found: list[Targets] = []
    for number, patch in enumerate(patches):
        data = module_files.read_module_bytes(patch.module)
        wanted = read_targets(data) if patch.targets is None else patch.targets
        found.append(collect_targets(kernel.modules, wanted, own))
        older = {
            _module_name(read, path): read for path in patch.older for read in [module_files.read_module_bytes(path)]
        }
        plan = _plan(number, patch, data, found[-1], list(older))
        if any(plan.name == other.name for other in plans):
            raise UserError(_TWICE, place=str(patch.module), remedy="name each module once")
        plans.append(plan)
        texts = {phase: [c.text for c in commands] for phase, commands in plan.commands.items()}
        trees += initramfs.run_tree(number, plan.name, data, texts)
        trees += [initramfs.regular(guest_file(number, name), module) for name, module in older.items()]
        trees += run_entries(number, found[-1]) if plan.targets else []
    trees += module_entries(found)
    loaded = initramfs.collect_modules(kernel.modules, modules, own=own)
    base = initramfs.base_tree(*initramfs.find_busybox(arch))
    return plans, [*base, *initramfs.user_files(files), *initramfs.module_tree(loaded), *trees]


def _module_name(data: bytes, path: Path) -> str:
    """The name of a live patch module. Raises UserError where it is none."""
    info = module_files.read_modinfo(data)
    if "livepatch" not in info:
        raise UserError("is not a live patch module", place=str(path), remedy="give what `kgbuild build` wrote")
    name = info.get("name") or module_files.module_name(path.name)
    if not _NAME.fullmatch(name):
        raise UserError(f"has the name {name!r}, which no module can have", place=str(path))
    return name


def _plan(number: int, patch: PatchRun, data: bytes, targets: Targets, older: Sequence[str]) -> GuestPlan:
    name = _module_name(data, patch.module)
    if name in older or len(older) != len(patch.older):
        raise UserError(_TWICE, place=str(patch.module), remedy="name each module once")
    expected = tuple(GuestCommand(load_command(number, o)) for o in older)
    expected += tuple(GuestCommand(text) for text in patch.before)
    commands = {
        "before": expected + tuple(GuestCommand(text, False, True) for text in patch.checks),
        "after": tuple(GuestCommand(text, True, True) for text in patch.checks)
        + tuple(GuestCommand(text) for text in patch.after),
        "absent": tuple(GuestCommand(text) for text in patch.absent),
        "disabled": tuple(GuestCommand(text) for text in patch.disabled)
        + tuple(GuestCommand(text, False, True) for text in patch.checks)
        + tuple(GuestCommand(unload_command(o)) for o in reversed(older)),
    }
    allowed = tuple(_pattern(text) for text in patch.allow_log)
    if patch.absent and not targets.cycled:
        remedy = "leave the option out"
        raise UserError(
            "is for no loadable module, which could be out", place=f"--absent: {patch.module}", remedy=remedy
        )
    told = bool(patch.after), bool(patch.absent)
    run = TargetRun(name, targets.names, targets.fixed, targets.cycled, targets.builtin, *told)
    replaces = (note_in(data) or {}).get("replace")
    return GuestPlan(
        name,
        commands,
        allowed,
        tuple(patch.functions),
        run if targets.names else None,
        has_functions(data),
        replaces if isinstance(replaces, bool) else None,
    )


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        remedy = r"write what the line has, with \ before each of ( ) [ ] { } . * + ? | that is meant as it is"
        raise UserError(f"is no regular expression: {error}", place=f"--allow-log {text}", remedy=remedy) from error

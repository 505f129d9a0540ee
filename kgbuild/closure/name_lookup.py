# SPDX-License-Identifier: GPL-2.0-or-later
"""Which object's link finds a name: the rule by which a new symbol of the patch answers for an undefined one.

Every object of the kernel (vmlinux, or a module) is linked by itself. An undefined name is looked for, in this order:

    1  among the symbols of the object's own units
    2  of a module: among vmlinux's exports
    3  of a module: among the exports of the modules that it depends on
    4  of a module, and not for a weak reference: among vmlinux's other global symbols. modpost would refuse that;
       livepatch relocations reach them, vmlinux is always there, and authors of patches rely on it.

So a new global of vmlinux does not answer for what a module takes from another module, a new global of one module for
nothing of vmlinux and of other modules, and a weak reference to what is not exported stays NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kgbuild.closure.binding import World
from kgbuild.model import VMLINUX

if TYPE_CHECKING:
    from kgbuild.kernel.vmlinux_image import KernelImage


def find_provider(world: World, target: str, name: str, weak: bool, has: Callable[[str, str], bool]) -> str:
    """The object in which the link of `target` finds an undefined `name`; "" where it finds none.

    `has(object, name)` says whether an object has a global symbol of that name once the patch is in its source. What
    only the exports know is found by their word.
    """
    if has(target, name):
        return target
    if target == VMLINUX:
        return ""
    if world.exported(name) is not None:
        return VMLINUX
    export = world.exports.get(name)
    if export is not None:
        return export.module
    return VMLINUX if not weak and has(VMLINUX, name) else ""


def say_elsewhere(world: World, target: str, name: str, where: str, owner: str, new: bool) -> str:
    """Why a reference from `target` does not reach the global `name` that the unit `where` of `owner` has with the
    patch: a new one, or one that was static."""
    is_what = "new" if new else "made global"
    whose = f"refers to {name}, which is {is_what} in {where}, a unit of {say_object(owner)}"
    return whose + _why_not(world, target, owner)


def say_unexported(world: World, target: str, name: str, owner: str) -> str:
    """Why a reference from `target` does not reach a global of the module `owner` that no module exports."""
    return f"refers to {name} of {say_object(owner)}" + _why_not(world, target, owner)


def _why_not(world: World, target: str, owner: str) -> str:
    if owner == VMLINUX or owner in world.depends(target):
        return f", and not exported to {say_object(target)}"
    return f", which {say_object(target)} does not depend on"


def say_object(name: str) -> str:
    """An object of the kernel, in a sentence."""
    return VMLINUX if name == VMLINUX else f"the module {name}"


def left_behind(image: KernelImage, name: str, replaced: set[str]) -> list[str]:
    """Functions and data of an object that take `name` from elsewhere, or have NULL for it, and are not in `replaced`;
    of an object that has its relocations."""
    obj = image.obj
    wanted = {s.index for s in obj.iter_symbols() if s.name == name and not s.defined}
    if not wanted:
        return []
    places: dict[int, set[int]] = {}
    for section in obj.rela_of:
        if obj.sections[section].alloc:
            found = {offset for offset, _, sym, _ in obj.reloc_rows(section) if sym in wanted}
            if found:
                places[section] = found
    out: dict[str, None] = {}
    for section, offsets in places.items():
        named = [s for s in obj.iter_symbols() if s.shndx == section and s.name and s.size]
        for at in sorted(offsets):
            holders = [s.name for s in named if s.value <= at < s.value + s.size] or [obj.sections[section].name]
            if not replaced.intersection(h.partition(".cold")[0] for h in holders):
                out.setdefault(holders[0])
    return list(out)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Pointers to functions of the kernel on a CPU that tracks indirect branches (IBT).

There an indirect call or jump must land on endbr64. gcc writes none into a static function whose address nobody takes,
and the kernel overwrites those of all other functions whose address nobody takes when it boots (`.ibt_endbr_seal`, made
by objtool). Patched code that takes such an address gets that of a thunk in the module: endbr64 and a direct jump.
Since nothing in the kernel holds the function's address, nothing there can compare with it. A function without endbr64
of which this does not follow (assembly) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kgbuild.arch import for_object
from kgbuild.closure.binding import EXPORT, KLP, Bound, World
from kgbuild.closure.model import Contents
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.model import VMLINUX
from kgbuild.objects.atoms import FUNCTION, Atom
from kgbuild.objects.symbol_kinds import is_branch

if TYPE_CHECKING:
    from kgbuild.kernel.vmlinux_image import KernelImage


def find_thunks(contents: Contents, world: World) -> tuple[dict[str, Bound], list[Refusal]]:
    """What needs a thunk in the module, by symbol; and refusals of what can't have one."""
    thunks: dict[str, Bound] = {}
    refusals: list[Refusal] = []
    for number, atom, target, bound in _pointers(contents):
        image = world.vmlinux if bound.object in ("", VMLINUX) else world.modules.get(bound.object)
        if image is None or bound.symbol in thunks:
            continue
        addresses = [bound.address] if bound.address else [s.value for s in image.named(bound.name) if not s.is_local]
        functions = {a for a in addresses if image.functions_at(a)}
        if all(is_landing(image, a) for a in functions):
            continue
        if target.kind == FUNCTION or functions <= image.sealed:
            thunks[bound.symbol] = bound
            continue
        unit = contents.units[number]
        landing = for_object(image.obj).landing_name
        fact = f"takes the address of {bound.name}, which does not begin with {landing} in the kernel"
        place = atom.name or unit.changes.patched.section_name(atom)
        refusals.append(Refusal("K21-endbr", f"{unit.source}: {place}", fact, symbol=bound.name))
    return thunks, refusals


def is_landing(image: KernelImage, address: int) -> bool:
    """Whether an indirect branch may go to an address of vmlinux or a module once it runs."""
    landing = for_object(image.obj).landing
    return image.read(address, len(landing)) == landing and address not in image.sealed


def _pointers(contents: Contents) -> Iterator[tuple[int, Atom, Atom, Bound]]:
    """Unit and member of every pointer out of the module, what is meant and what that is bound to."""
    for member in contents.members.values():
        view = contents.units[member.unit].changes.patched
        for ref in view.refs(member.atom):
            bound = contents.bound.get((member.unit, ref.atom))
            if bound is None or bound.how not in (KLP, EXPORT) or ref.delta:
                continue
            if contents.binds_to_kernel(member.unit, member.atom, ref) and not is_branch(view, member.atom, ref):
                yield member.unit, member.atom, view.atoms[ref.atom], bound

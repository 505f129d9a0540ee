# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reference out of the patch is bound to: an export, or a symbol of vmlinux or of a module at a proven position.

Only vmlinux's exports are bound by the ordinary loader. An export of a module is a livepatch relocation too, so that
the patch does not depend on that module being loaded; it must be one that the patched module needs anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kgbuild.elf.consts import STB
from kgbuild.model import VMLINUX
from kgbuild.module_abi import KLP_SYMBOL

if TYPE_CHECKING:
    from kgbuild.kernel.exports import Export
    from kgbuild.kernel.module_image import ModuleImage
    from kgbuild.kernel.vmlinux_image import KernelImage

PER_CPU = ".data..percpu"
THIS_MODULE = "__this_module"
PATCH_SYMBOL = "kgbuild_patch"  # the wrapper's struct klp_patch (data/livepatch/main.c)
EXPORT, KLP, NEW_GLOBAL, WEAK_NULL, PLAIN = "export", "klp", "new", "weak", "plain"


class Bound(NamedTuple):
    """What a reference out of the module is bound to.

    how       export, klp, new (a new global of another unit), weak (an undefined weak symbol, left so) or plain (by
              name alone, where two objects are compared and no kernel is known)
    object    the object that has it; sympos its position there (klp only)
    proof     how its place is known
    patched   the module whose code refers to it, where that is another one than `object` and not vmlinux: its
              relocation is done when that module comes
    unproven  that it is what the patch means is not proven, and the user accepted that
    """

    name: str
    how: str
    object: str = VMLINUX
    sympos: int = 0
    address: int = 0
    proof: str = ""
    patched: str = ""
    unproven: bool = False

    @property
    def symbol(self) -> str:
        """Name of the symbol in the module (Documentation/livepatch/module-elf-format.rst); `@module` at its end says
        with which module's code the relocation belongs, and is gone after injection."""
        if self.how != KLP:
            return self.name
        return f"{KLP_SYMBOL}{self.object}.{self.name},{self.sympos}" + (f"@{self.patched}" if self.patched else "")


class NotBound(NamedTuple):
    """A reference that can't be bound: refusal code and fact."""

    code: str
    fact: str


@dataclass(frozen=True, eq=False, repr=False)
class World:
    """The running kernel's objects: vmlinux, its exports, and the modules at stake with all that they depend on.
    `tracked` says whether the kernel can track indirect branches (IBT). `anchors` are the answers of `anchor`."""

    vmlinux: KernelImage
    exports: Mapping[str, Export] = field(repr=False)
    modules: Mapping[str, ModuleImage] = field(default_factory=dict)
    tracked: bool = False
    anchors: dict[str, Bound | None] = field(init=False, default_factory=dict, repr=False, compare=False)

    def image(self, target: str) -> KernelImage:
        return self.vmlinux if target == VMLINUX else self.modules[target]

    def depends(self, target: str) -> set[str]:
        """Modules that `target` needs, directly or not."""
        out: set[str] = set()
        todo = [target]
        while todo:
            image = self.modules.get(todo.pop())
            for name in image.depends if image is not None else ():
                if name not in out:
                    out.add(name)
                    todo.append(name)
        return out

    def exported(self, name: str) -> Export | None:
        """The export of vmlinux of that name, by which a patch module is bound to it."""
        export = self.exports.get(name)
        return export if export is not None and export.in_vmlinux and not export.is_restricted else None

    def at(self, target: str, name: str, address: int, proof: str, patched: str = "") -> Bound | NotBound | None:
        """Bind to the symbol `name` at `address` of an object; None where its position can't be told."""
        image = self.image(target)
        if image.is_init(address):
            return NotBound("K6-init-memory", f"refers to {name} in {image.section_at(address)}, freed after boot")
        sympos = image.sympos(name, address)
        if sympos is None:
            return None
        return Bound(name, KLP, target, sympos, address, proof, patched)

    def only_global(self, target: str, name: str, patched: str = "") -> Bound | NotBound | None:
        """Bind to the one global symbol of that name in an object; None where there is none, or are several."""
        places = sorted({s.value for s in self.image(target).named(name) if s.bind != STB.LOCAL})
        if len(places) != 1:
            return None
        return self.at(target, name, places[0], "the only global symbol of that name", patched)

    def anchor(self, address: int) -> Bound | None:
        """The symbol by which a place of vmlinux that has no symbol is found: the first export without a namespace in
        the same section, with its address. Vmlinux moves as a whole. None in memory that is freed after boot, in
        per-CPU data, and where there is no such export."""
        section = self.vmlinux.section_at(address)
        if not section or section.startswith(PER_CPU) or self.vmlinux.is_init(address):
            return None
        if section not in self.anchors:
            wanted = self.vmlinux.obj.section_named(section)
            names = (e.name for e in self.exports.values() if e.in_vmlinux and not e.namespace)
            found = self.vmlinux.first_global(names, wanted.index) if wanted is not None else None
            proof = "the first export of its section"
            self.anchors[section] = Bound(found.name, EXPORT, VMLINUX, 0, found.value, proof) if found else None
        return self.anchors[section]

    def variable(self, name: str, size: int) -> Bound | NotBound:
        """Bind to the variable of vmlinux of that name, of at least `size` bytes, whatever unit it is of."""
        places = {s.value: s for s in self.vmlinux.named(name) if self.vmlinux.in_kallsyms(s)}
        fact = f"refers to {name}, of which the kernel has {len(places)}"
        if len(places) == 1:
            ((address, symbol),) = places.items()
            if symbol.size >= size:
                found = self.at(VMLINUX, name, address, "its name is unique")
                if found is not None:
                    return found
            fact = f"refers to {name}, which has {symbol.size} bytes in the kernel, not {size}"
        return NotBound("K5-symbol", fact)

    def external(self, target: str, name: str, weak: bool) -> Bound | NotBound:
        """Bind a symbol that a unit of `target` leaves undefined, as the kernel's linker and loader would (linking)."""
        if target != VMLINUX:
            own = self.only_global(target, name)
            if own is not None:
                return own
        if self.exported(name) is not None:
            return Bound(name, EXPORT, proof="exported by vmlinux")
        export = self.exports.get(name)
        if export is not None and export.in_vmlinux:
            found = self.only_global(VMLINUX, name)
            if found is not None:
                return found
        elif export is not None and target != VMLINUX:
            return self._of_module(target, name, export)
        if weak and target != VMLINUX:
            return Bound(name, WEAK_NULL, "", proof="weak, and nothing that the module is linked with has it")
        found = self.only_global(VMLINUX, name)
        if found is not None:
            return found
        if export is not None:
            return NotBound("K5-symbol", f"refers to {name}, an export of the module {export.module}")
        if weak and all(s.bind == STB.LOCAL for s in self.vmlinux.named(name)):
            return Bound(name, WEAK_NULL, "", proof="weak, and the kernel does not have it")
        return NotBound("K5-symbol", f"refers to {name}, which the kernel does not have")

    def _of_module(self, target: str, name: str, export: Export) -> Bound | NotBound:
        if export.module not in self.depends(target) or export.module not in self.modules:
            fact = f"refers to {name} of the module {export.module}, which {target} does not depend on"
            return NotBound("K18-other-module", fact)
        found = self.only_global(export.module, name, patched=target)
        return found or NotBound("K5-symbol", f"refers to {name}, whose place in {export.module} is not proven")

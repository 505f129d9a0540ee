# SPDX-License-Identifier: GPL-2.0-or-later
"""What verify knows of the kernel, and where the kernel has what a module names.

Symbols are looked up as the kernel does when it loads a live patch (klp_find_object_symbol of kernel/livepatch/core.c,
6.1): by name and position among all symbols of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kgbuild.arch.base import Arch
from kgbuild.elf.object import Symbol
from kgbuild.kernel.exports import Export
from kgbuild.model import VMLINUX
from kgbuild.proof.record import BoundSymbol
from kgbuild.verification.modules import ShippedLookup, no_modules
from kgbuild.verification.proof import place_in_module, place_in_vmlinux
from kgbuild.verification.reading.reader import (
    STT_FUNC,
)
from kgbuild.verification.reading.statements import livepatch_name
from kgbuild.verification.wrapper import Compile, ModuleStruct, no_wrapper

# MODULE_NAME_LEN less the NUL; klp_resolve_symbols reads at most so many characters
MAX_OBJECT = 55


class ImageReader(Protocol):
    """What verify asks of the kernel's vmlinux; KernelImage is one."""

    def named(self, name: str) -> Sequence[Symbol]: ...
    def in_kallsyms(self, symbol: Symbol) -> bool: ...
    def read(self, address: int, size: int) -> bytes | None: ...
    def is_init(self, address: int) -> bool: ...
    def section_at(self, address: int) -> str: ...
    @property
    def sealed(self) -> frozenset[int]: ...


@dataclass(frozen=True)
class KernelFacts:
    """What is true of the kernel.

    build_id     hex; vermagic "" and module_size 0 (bytes of struct module) where nothing tells them
    exports      Module.symvers by name
    modules      the kernel's loadable modules by name; None for one it does not have
    modversions  CONFIG_MODVERSIONS
    name_length  KSYM_NAME_LEN, the NUL counted
    tracked      whether the kernel can track indirect branches (IBT)
    struct       where the fields of struct module are
    wrapper      compiles the wrapper that a module has for this kernel
    """

    build_id: str
    vermagic: str
    exports: Mapping[str, Export]
    image: ImageReader
    modules: ShippedLookup = no_modules
    modversions: bool = True
    module_size: int = 0
    name_length: int = 512
    tracked: bool = False
    struct: ModuleStruct | None = None
    wrapper: Compile = no_wrapper


def locate_symbol(image: ImageReader, name: str, sympos: int) -> tuple[Symbol | None, str]:
    """The kernel's symbol at a position, as klp_find_object_symbol finds it, or None and why there is none."""
    listed = [s for s in image.named(name) if image.in_kallsyms(s)]
    if not listed:
        return None, f"the kernel has no symbol {name}"
    if sympos == 0 and len(listed) > 1:
        return None, f"the kernel has {len(listed)} symbols {name}; position 0 means it has one"
    if sympos > len(listed):
        return None, f"the kernel has {len(listed)} symbols {name}, none at position {sympos}"
    return listed[max(sympos - 1, 0)], ""


def in_init_memory(image: ImageReader, symbol: Symbol) -> bool:
    """Whether a symbol is in init memory; one of no size may mark the end of what is before it."""
    return image.is_init(symbol.value) and (symbol.size > 0 or image.is_init(symbol.value - 1))


def outside(name: str, facts: KernelFacts) -> tuple[int, bool] | None:
    """Bytes of a symbol outside the module, and whether it is a function; None where that is not known."""
    livepatch = livepatch_name(name)
    if livepatch is None:
        found = [s for s in facts.image.named(name) if not s.is_local]
        symbol = found[0] if len(found) == 1 else None
    elif livepatch.object != VMLINUX:
        shipped = facts.modules(livepatch.object)
        own = shipped.locate(livepatch.name, livepatch.sympos)[0] if shipped is not None else None
        return (own.size, own.type == STT_FUNC) if own is not None else None
    else:
        symbol, _ = locate_symbol(facts.image, livepatch.name, livepatch.sympos)
    return (symbol.size, symbol.is_function) if symbol is not None else None


def located(keys: Iterable[tuple[str, str, int]], arch: Arch, facts: KernelFacts) -> list[BoundSymbol]:
    """The kernel's places of (object, name, position), as a proof record has them; what the kernel does not have is
    left out, because other checks find it."""
    out = []
    for object_name, name, sympos in sorted(set(keys)):
        if object_name == VMLINUX:
            found, _ = locate_symbol(facts.image, name, sympos)
            if found is not None:
                out.append(place_in_vmlinux(facts.image, name, sympos, found))
        elif (shipped := facts.modules(object_name)) is not None:
            symbol, _ = shipped.locate(name, sympos)
            if symbol is not None:
                out.append(place_in_module(shipped, sympos, symbol, arch))
    return out

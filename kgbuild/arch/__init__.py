# SPDX-License-Identifier: GPL-2.0-or-later
"""The architectures that kgbuild knows, by what ELF files and kernels call them.

A new one is a folder beside `x86_64/` and a row of `_FOLDERS`; its module `table` has the facts, as an `Arch`.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

from kgbuild.arch.base import Arch
from kgbuild.errors import UserError

if TYPE_CHECKING:
    from kgbuild.elf.object import Object

# e_machine (gABI, EM_*) -> folder
_FOLDERS = {62: "x86_64"}


@cache
def _table(folder: str) -> Arch:
    arch: Arch = importlib.import_module(f"kgbuild.arch.{folder}.table").ARCH
    return arch


def known() -> tuple[Arch, ...]:
    """Every architecture that kgbuild has facts of."""
    return tuple(_table(folder) for folder in _FOLDERS.values())


def default_arch() -> Arch:
    """The architecture that is meant where neither an object nor a kernel says one: the first that is known."""
    return known()[0]


def arch_of(machine: int, place: str = "") -> Arch:
    """The facts of the architecture with this e_machine.

    `place` names the file in the message. Raises UserError for an architecture that kgbuild has no facts of.
    """
    folder = _FOLDERS.get(machine)
    if folder is None:
        fact = f"architecture with e_machine {machine} is not supported"
        raise UserError(fact, place=place, remedy=f"use an {_supported()} object")
    return _table(folder)


def for_object(obj: Object, place: str = "") -> Arch:
    """The facts of the architecture that an object's code is for; `place` names the object in the message.

    Raises UserError where kgbuild has none, and where the object has another byte order or word size than code of
    that architecture has in a kernel.
    """
    arch = arch_of(obj.machine, place)
    if (obj.order, obj.word) != (arch.order, arch.word):
        fact = f"a {obj.order}-endian object of {8 * obj.word} bits, where {arch.name} has a {arch.order}-endian one"
        raise UserError(f"{fact} of {8 * arch.word}", place=place, remedy=f"use an {_supported()} object")
    return arch


def for_kernel(name: str, place: str = "") -> Arch:
    """The facts of the architecture of this name, which may be that of `uname -m`, of kbuild or of a distribution.

    Raises UserError for a name that kgbuild does not know.
    """
    for arch in known():
        if name in arch.platform.names:
            return arch
    raise UserError(f"architecture {name!r} is not supported", place=place, remedy=f"use an {_supported()} kernel")


def _supported() -> str:
    return " or ".join(arch.name for arch in known())


@cache
def return_thunks() -> frozenset[str]:
    """Functions of any architecture that returns go through."""
    return frozenset(arch.return_thunk for arch in known() if arch.return_thunk)


@cache
def nmi_entries() -> tuple[str, ...]:
    """Functions of any architecture in which an NMI begins."""
    return tuple(name for arch in known() for name in arch.nmi_entries)


@cache
def indirect_prefixes() -> tuple[str, ...]:
    """How the names of functions of any architecture begin through which pointers are called."""
    return tuple(arch.indirect_prefix for arch in known() if arch.indirect_prefix)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a back end is: one of the ways in which a module can reach what the kernel does not export.

One closure, one output object (emit/extract.py), several ways to emit it. Extraction leaves undefined symbols named
`.klp.sym.OBJECT.NAME,POSITION`; a back end says whether the kernel can take it, and makes of that object what the
linker is given. Its wrapper, the C part that is compiled once per kernel, reads the tables it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.write import OutObject
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.proof.record import BoundSymbol, SymbolKey


@dataclass(frozen=True)
class Request:
    """What a back end may ask for beside the output object.

    features  names of the probes that the kernel answers with yes (kernel/feature_probes.py)
    places    where every symbol that the module is bound to lies (the proof record's places)
    image_of  vmlinux, or a module of the kernel, by name
    """

    arch: Arch
    features: frozenset[str]
    places: Mapping[SymbolKey, BoundSymbol]
    image_of: Callable[[str], KernelImage] = field(repr=False)


class Backend(Protocol):
    """One way to emit a closure.

    name     what `--backend` takes, and what report and note say
    wrapper  the C file of data/livepatch that registers the patch
    injects  whether livepatch relocations are put into the linked module (emit/klp_relocations.py)
    """

    @property
    def name(self) -> str: ...
    @property
    def wrapper(self) -> str: ...
    @property
    def injects(self) -> bool: ...

    def why_not(self, features: frozenset[str]) -> str:
        """Why a kernel with these features can't take it, "" where it can."""
        ...

    def own_symbols(self, features: frozenset[str], targets: bool) -> tuple[str, ...]:
        """Symbols of vmlinux that the module's tables refer to for the wrapper's sake. `targets`: whether loadable
        modules are patched."""
        ...

    def defines(self, features: frozenset[str]) -> tuple[str, ...]:
        """Macros for the wrapper, beside those that say what the patch has."""
        ...

    def macros(self, functions: Sequence[SymbolKey]) -> tuple[str, ...]:
        """Macros for the wrapper that are made for one patch: of the functions that it replaces, in the order of the
        output object's table."""
        ...

    def check(self, output: OutObject, request: Request) -> list[Refusal]:
        """What of this output object the back end can't emit."""
        ...

    def transform(self, output: OutObject, request: Request) -> OutObject:
        """The object for the linker, of one that was checked."""
        ...

# SPDX-License-Identifier: GPL-2.0-or-later
"""Livepatch relocations: the kernel itself resolves them when it loads the module, or when a target module comes.

The output object is linked as it is; the relocations are put in when everything else is done (emit/klp_relocations.py).
Source: Documentation/livepatch/module-elf-format.rst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.write import OutObject
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.backends.old_interfaces import check_interface, interface_macros, move_to_arch
from kgbuild.kernel.feature_probes import KLP_ARCH, KLP_CALLBACKS, KLP_RELOCATIONS, LIVEPATCH
from kgbuild.proof.record import SymbolKey


@dataclass(frozen=True)
class Klp:
    """See `Backend`."""

    name: str = "klp"
    wrapper: str = "main.c"
    injects: bool = True

    def why_not(self, features: frozenset[str]) -> str:
        if LIVEPATCH not in features:
            return "it does not have CONFIG_LIVEPATCH"
        if KLP_CALLBACKS not in features:
            return "its livepatch interface has no callbacks (struct klp_callbacks)"
        return "" if KLP_RELOCATIONS in features else "it does not know livepatch relocations (SHN_LIVEPATCH)"

    def own_symbols(self, features: frozenset[str], targets: bool) -> tuple[str, ...]:
        del features, targets
        return ()

    def defines(self, features: frozenset[str]) -> tuple[str, ...]:
        return interface_macros(features)

    def macros(self, functions: Sequence[SymbolKey]) -> tuple[str, ...]:
        del functions
        return ()

    def check(self, output: OutObject, request: Request) -> list[Refusal]:
        return check_interface(output, request.arch, request.features)

    def transform(self, output: OutObject, request: Request) -> OutObject:
        if KLP_ARCH in request.features:
            move_to_arch(output, request.arch)
        return output

# SPDX-License-Identifier: GPL-2.0-or-later
"""kallsyms: the module's init looks up what is not exported, and writes it into the module's own code and data.

For kernels, or policies, where livepatch relocations can't be used.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgbuild.analysis.probes import (
    EACH_PLAIN,
    KPROBES,
    LOOKUP_EXPORTED,
    TEXT_POKE,
    TEXT_POKE_SYMBOLS,
)
from kgbuild.elf.write import OutObject
from kgbuild.emit.backends.base import Request
from kgbuild.refusals import Refusal


@dataclass(frozen=True)
class Kallsyms:
    """See `Backend`."""

    name: str = "kallsyms"
    wrapper: str = "main.c"
    injects: bool = False

    def lacks(self, features: frozenset[str]) -> str:
        if not {LOOKUP_EXPORTED, KPROBES} & features:
            return "it does not export kallsyms_lookup_name, and has no kprobes (CONFIG_KPROBES) to find it by"
        if TEXT_POKE not in features:
            return f"it lacks one of {', '.join(TEXT_POKE_SYMBOLS)}, by which the module writes into its own code"
        return ""

    def own_symbols(self, features: frozenset[str], targets: bool) -> tuple[str, ...]:
        del features
        return ("kallsyms_on_each_symbol", *TEXT_POKE_SYMBOLS, *(("find_module",) if targets else ()))

    def defines(self, features: frozenset[str]) -> tuple[str, ...]:
        out = ["KGBUILD_KALLSYMS"]
        if LOOKUP_EXPORTED in features:
            out.append("KGBUILD_LOOKUP_EXPORTED")
        if EACH_PLAIN in features:
            out.append("KGBUILD_EACH_PLAIN")
        return tuple(out)

    def check(self, output: OutObject, request: Request) -> list[Refusal]:
        del request
        names = sorted({r.symbol.name for s in output.sections for r in s.relocs if r.symbol.name.startswith(".klp.")})
        return [Refusal("B2-deferred", names[0], "is not resolved by this back end yet")] if names else []

    def transform(self, output: OutObject, request: Request) -> OutObject:
        del request
        return output

# SPDX-License-Identifier: GPL-2.0-or-later
"""kGraft, the interface of SLE 12: a flat array of functions, and everything else as in the back end kallsyms.

Checked at object level, not booted: there is no such kernel to try (docs/backends.md). The wrapper holds the array, so
it is made for each patch; it names the new functions by symbols that are added here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.consts import STB
from kgbuild.elf.write import OutObject, OutSymbol
from kgbuild.emit.backends.backend import Request
from kgbuild.emit.backends.kallsyms import Kallsyms, check_deferred
from kgbuild.kernel.feature_probes import EACH_PLAIN, KGRAFT, KPROBES, LOOKUP_EXPORTED
from kgbuild.model import VMLINUX
from kgbuild.module_abi import CALLBACKS, CONSTANTS, FUNCTIONS, STATES
from kgbuild.proof.record import SymbolKey

NEW = "kgbuild_new_"
_NOT_KNOWN = {
    CALLBACKS.section: "callbacks",
    STATES.section: "states",
    CONSTANTS.section: "constants that the kernel writes when it boots",
}


@dataclass(frozen=True)
class Kgraft(Kallsyms):
    """See `Backend`."""

    name: str = "kgraft"
    wrapper: str = "kgraft.c"
    injects: bool = False

    def why_not(self, features: frozenset[str]) -> str:
        if KGRAFT not in features:
            return "it does not have kGraft (CONFIG_KGRAFT)"
        if not {LOOKUP_EXPORTED, KPROBES} & features:
            return "it does not export kallsyms_lookup_name, and has no kprobes (CONFIG_KPROBES) to find it by"
        return ""

    def own_symbols(self, features: frozenset[str], targets: bool) -> tuple[str, ...]:
        del features, targets
        return ("text_mutex", "text_poke")

    def defines(self, features: frozenset[str]) -> tuple[str, ...]:
        out = ["KGBUILD_LOOKUP_EXPORTED"] * (LOOKUP_EXPORTED in features)
        out += ["KGBUILD_EACH_PLAIN"] * (EACH_PLAIN in features)
        return tuple(out)

    def macros(self, functions: Sequence[SymbolKey]) -> tuple[str, ...]:
        names = ", ".join(f"{NEW}{number}[]" for number in range(len(functions)))
        rows = "".join(f" \\\n\t{_row(number, key)}," for number, key in enumerate(functions))
        return f"KGBUILD_FUNCTIONS extern u8 {names};", f"KGBUILD_PATCHES{rows} \\\n\tKGR_PATCH_END"

    def check(self, output: OutObject, request: Request) -> list[Refusal]:
        there = [_NOT_KNOWN[s.name] for s in output.sections if s.name in _NOT_KNOWN]
        out = [Refusal("B3-interface", "the patch", f"has {what}, and kGraft knows none") for what in there]
        return out + check_deferred(output, request)

    def transform(self, output: OutObject, request: Request) -> OutObject:
        out = super().transform(output, request)
        table = next(s for s in out.sections if s.name == FUNCTIONS.section)
        for reloc in table.relocs:
            number, field = divmod(reloc.offset, FUNCTIONS.size)
            if field == FUNCTIONS.offsets["func"]:
                new = reloc.symbol
                out.symbols.append(
                    OutSymbol(f"{NEW}{number}", new.section, new.value + reloc.addend, new.size, STB.GLOBAL, new.type)
                )
        return out


def _row(number: int, key: SymbolKey) -> str:
    object_name, name, sympos = key
    new, owner = f"{NEW}{number}", "NULL" if object_name == VMLINUX else f'"{object_name}"'
    if sympos:
        return f"KGR_PATCH_OBJPOS({name}, {new}, {owner}, {sympos})"
    return f"KGR_PATCH({name}, {new})" if object_name == VMLINUX else f"KGR_PATCH_OBJ({name}, {new}, {owner})"

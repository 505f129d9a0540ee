# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that concerns the wrapper: the module's own code, which compares build-ids, fills the kernel's
structures and registers the patch (data/livepatch/*.c).

The wrapper is compiled again for this kernel, by whoever asks, and each of its functions and variables must be in the
module with the same bytes, and with relocations that mean the same. So the check that the module is not loaded into
another kernel is there, and is the one that kgbuild has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import (
    CALLBACKS,
    CONSTANTS,
    INITIAL,
    KLP_SYMBOL,
    KLP_SYMBOL_IN_C,
    LATE,
    OBJECTS,
    STATES,
    InitialKind,
)
from kgbuild.verification.reader import SHT_NOBITS, STT_FUNC, STT_OBJECT, ModuleFile, Reloc, Section, Symbol

_CODE = "V42-wrapper"
_TEXT = 256  # bytes of an unnamed constant that are compared at most

# Gives the wrapper that a module has, compiled for the kernel; None where it can't be.
Compile = Callable[[ModuleFile], ModuleFile | None]


def no_wrapper(module: ModuleFile) -> ModuleFile | None:
    """For a kernel that nothing can be compiled for."""
    del module
    return None


def wrapper_macros(module: ModuleFile) -> tuple[str, ...]:
    """Which parts of the wrapper a module has, as macros for its C text, by the tables that they read."""
    kinds = set()
    data = module.object_bytes(INITIAL.symbol) or b""
    for at in INITIAL.rows(data)[:-1]:
        kinds.add(INITIAL.number(data, at, "kind"))
    there = module.global_symbols
    parts = {
        "KGBUILD_TARGETS": OBJECTS.symbol in there,
        "KGBUILD_CLEAR_LATE": LATE.symbol in there,
        "KGBUILD_CONSTANTS": CONSTANTS.symbol in there,
        "KGBUILD_CALLBACKS": CALLBACKS.symbol in there,
        "KGBUILD_STATES": STATES.symbol in there,
        "KGBUILD_INITIAL": INITIAL.symbol in there,
        "KGBUILD_KEYS": InitialKind.KEY in kinds,
        "KGBUILD_CALLS": InitialKind.CALL in kinds,
    }
    return tuple(name for name, wanted in parts.items() if wanted)


def check_wrapper(module: ModuleFile, wrapper: ModuleFile, arch: Arch) -> Iterator[Finding]:
    """Every function and variable of the wrapper that the module has otherwise, or not at all."""
    own, wanted = _Parts(module, arch), _Parts(wrapper, arch)
    for symbol in wrapper.symbols:
        if not wanted.counts(symbol):
            continue
        text = wanted.text(symbol)
        named = [s for s in module.symbols if s.name == symbol.name and own.counts(s) and s.type == symbol.type]
        if not any(own.text(s) == text for s in named):
            fact = "is not what the wrapper compiles to for this kernel" if named else "of the wrapper is not there"
            yield finding(_CODE, symbol.name, fact)
        elif symbol.bind and not any(s.bind == symbol.bind and own.text(s) == text for s in named):
            yield finding(_CODE, symbol.name, "of the wrapper is not bound as it should be")


class _Parts:
    """The functions and variables of a file, each as what it holds and refers to, wherever it lies."""

    def __init__(self, module: ModuleFile, arch: Arch) -> None:
        self.module, self.arch = module, arch
        self._in: dict[int, list[Symbol]] = {}
        for s in module.symbols:
            if self.counts(s):
                self._in.setdefault(s.shndx, []).append(s)

    def counts(self, symbol: Symbol) -> bool:
        """Whether a symbol is a function or variable with contents of its own."""
        inside = 0 < symbol.shndx < len(self.module.sections) and symbol.size and symbol.name
        if not inside or symbol.type not in (STT_FUNC, STT_OBJECT):
            return False
        section = self.module.sections[symbol.shndx]
        return section.alloc and not self.arch.is_dropped(section.name)

    def text(self, symbol: Symbol) -> object:
        """What a symbol is: section, bytes, relocations with what they mean."""
        section = self.module.sections[symbol.shndx]
        end = symbol.value + symbol.size
        held = section.type != SHT_NOBITS
        data = section.data[symbol.value : end] if held else bytes(symbol.size)
        rows = self.module.targets.get(symbol.shndx, {})
        relocs = [
            (offset - symbol.value, row.type, self._meant(section, row))
            for offset in sorted(rows)
            if symbol.value <= offset < end
            for row in rows[offset]
        ]
        return section.name, held, symbol.size, data, relocs

    def _meant(self, section: Section, row: Reloc) -> object:
        symbol = self.module.symbol_of(row)
        if symbol is None:
            return None
        if not 0 < symbol.shndx < len(self.module.sections):
            name = symbol.name
            if name.startswith(KLP_SYMBOL_IN_C):
                name = f"{KLP_SYMBOL}vmlinux.{name.removeprefix(KLP_SYMBOL_IN_C)},0"
            return name, row.addend
        # a table that is the module's own is undefined in the wrapper
        if symbol.bind and symbol.type == STT_OBJECT:
            return symbol.name, row.addend
        bias = 4 if section.executable and row.type in self.arch.pc_relative else 0
        target, to = self.module.sections[symbol.shndx], symbol.value + row.addend + bias
        for s in self._in.get(target.index, ()):
            if s.value <= to < s.value + s.size:
                return s.name, to - s.value, bias
        if target.type == SHT_NOBITS or target.writable or target.executable:
            return target.name, to
        return target.data[max(to, 0) : to + _TEXT].split(b"\0")[0]

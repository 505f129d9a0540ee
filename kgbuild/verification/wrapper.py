# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that concerns what every patch module has around the patch: the wrapper, and `struct module`.

The wrapper is the code that compares build-ids, fills the kernel's structures and registers the patch
(data/livepatch/*.c). It is compiled again for this kernel, by whoever asks, and each of its functions and variables
must be in the module with the same bytes, and with relocations that mean the same. So the check that the module is not
loaded into another kernel is there, and is the one that kgbuild has.

`struct module` is almost empty in a file: the kernel fills it in. Where its fields lie depends on version and
configuration; the kernel's own modules tell (scripts/mod/modpost.c writes name, init and exit there, add_header()).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import (
    ASSUMED,
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
from kgbuild.verification.reading.reader import (
    SHT_NOBITS,
    STT_FUNC,
    STT_OBJECT,
    ModuleFile,
    ModuleSection,
    ModuleSymbol,
    Reloc,
)

THIS_MODULE = ".gnu.linkonce.this_module"
NAME_BYTES = 56  # MODULE_NAME_LEN of kernels of 64 bits
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
        "KGBUILD_ASSUMED": ASSUMED.symbol in there,
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


def _linked_into(name: str) -> str:
    """The section that the linker script for modules (scripts/module.lds.S) puts a section of code into: since 7.0 the
    parts of .text become one. Code of init and exit stays apart."""
    return ".text" if name.startswith(".text.") else name


class _Parts:
    """The functions and variables of a file, each as what it holds and refers to, wherever it lies."""

    def __init__(self, module: ModuleFile, arch: Arch) -> None:
        self.module, self.arch = module, arch
        self._in: dict[int, list[ModuleSymbol]] = {}
        for s in module.symbols:
            if self.counts(s):
                self._in.setdefault(s.shndx, []).append(s)

    def counts(self, symbol: ModuleSymbol) -> bool:
        """Whether a symbol is a function or variable with contents of its own."""
        inside = 0 < symbol.shndx < len(self.module.sections) and symbol.size and symbol.name
        if not inside or symbol.type not in (STT_FUNC, STT_OBJECT):
            return False
        section = self.module.sections[symbol.shndx]
        return section.alloc and not self.arch.is_dropped(section.name)

    def text(self, symbol: ModuleSymbol) -> object:
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
        return _linked_into(section.name), held, symbol.size, data, relocs

    def _meant(self, section: ModuleSection, row: Reloc) -> object:
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
        bias = 4 if section.executable and row.type in self.arch.relocs.pc_relative else 0
        target, to = self.module.sections[symbol.shndx], symbol.value + row.addend + bias
        for s in self._in.get(target.index, ()):
            if s.value <= to < s.value + s.size:
                return s.name, to - s.value, bias
        if target.type == SHT_NOBITS or target.writable or target.executable:
            return target.name, to
        return target.data[max(to, 0) : to + _TEXT].split(b"\0")[0]


# -- struct module -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModuleStruct:
    """Where fields of struct module begin, in bytes: the name, and the pointers to init and exit."""

    name: int
    init: int
    exit: int


def read_struct(module: ModuleFile, name: str) -> ModuleStruct | None:
    """The layout by one of the kernel's own modules, of this name; None where that has no init or no exit."""
    section = module.section(THIS_MODULE)
    if section is None:
        return None
    found = {}
    for offset, rows in module.targets.get(section.index, {}).items():
        symbol = module.symbol_of(rows[0])
        if symbol is not None:
            found[symbol.name] = offset
    at = section.data.find(name.encode() + b"\0")
    if at < 0 or set(found) != {"init_module", "cleanup_module"}:
        return None
    return ModuleStruct(at, found["init_module"], found["cleanup_module"])


def check_struct(module: ModuleFile, layout: ModuleStruct | None, arch: Arch, name: str) -> Iterator[Finding]:
    """struct module holds the module's name, and leads to init and exit; the kernel fills in all else.

    Input: the layout that the kernel's own modules have, None where that is not known; the name in .modinfo.
    """
    sections = module.by_name.get(THIS_MODULE, [])
    if len(sections) != 1 or layout is None:
        return
    code, section = "V25-this-module", sections[0]
    plain = bytearray(section.data)
    text = bytes(plain[layout.name : layout.name + NAME_BYTES])
    if text.rstrip(b"\0") != name.encode():
        yield finding(code, THIS_MODULE, f"names the module {text.rstrip(bytes(1))!r}, .modinfo {name!r}")
    plain[layout.name : layout.name + NAME_BYTES] = bytes(NAME_BYTES)
    if any(plain):
        at = next(i for i, byte in enumerate(plain) if byte)
        yield finding(code, f"{THIS_MODULE}+{at:#x}", "holds something that the kernel's own modules do not have there")
    found = set()
    for offset, rows in sorted(module.targets.get(section.index, {}).items()):
        for row in rows:
            symbol = module.symbol_of(row)
            known = {layout.init: "init_module", layout.exit: "cleanup_module"}.get(offset)
            as_expected = (
                symbol is not None and symbol.name == known and not row.addend and row.type == arch.pointer_reloc
            )
            if known is None or not as_expected:
                leads = symbol.name if symbol is not None else "nothing"
                yield finding(code, f"{THIS_MODULE}+{offset:#x}", f"leads to {leads}, not to {known or 'nothing'}")
            found.add(offset)
    for offset, known in ((layout.init, "init_module"), (layout.exit, "cleanup_module")):
        if offset not in found:
            yield finding(code, f"{THIS_MODULE}+{offset:#x}", f"does not lead to {known}")

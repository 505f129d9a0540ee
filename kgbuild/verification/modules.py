# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares what a live patch says of loadable modules with the shipped .ko files.

How the kernel looks a symbol of a module up (module_kallsyms_on_each_symbol of kernel/module/kallsyms.c, 6.1): by its
rank among the defined symbols of that name, in the order of the symbol table. While the module loads that is the whole
table; later it is the core table, without what was in init memory. A position holds only where both ranks are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.module_abi import KLP_RELOCATIONS, NOTE_SECTION
from kgbuild.verification.reading.reader import (
    SHN_LORESERVE,
    SHN_UNDEF,
    STT_FILE,
    STT_FUNC,
    STT_SECTION,
    ModuleFile,
    ModuleSymbol,
)
from kgbuild.verification.reading.statements import livepatch_object

VMLINUX = "vmlinux"
_NT_GNU_BUILD_ID = 3
LATE_SECTION = re.compile(re.escape(KLP_RELOCATIONS) + r"([^.]{1,55})\.(.+)")


@dataclass(frozen=True, eq=False)
class Shipped:
    """A module as the kernel's package has it. `depends` are the modules it needs, itself not counted, with theirs."""

    name: str
    file: ModuleFile
    depends: frozenset[str] = frozenset()

    @cached_property
    def build_id(self) -> str:
        """Hex build-id, "" where it has none."""
        section = self.file.section(".note.gnu.build-id")
        data = section.data if section is not None else b""
        if len(data) < 16:
            return ""
        name_size, size, kind = self.file.unpack("III", data)
        start = 12 + (name_size + 3 & ~3)
        return data[start : start + size].hex() if kind == _NT_GNU_BUILD_ID else ""

    @cached_property
    def _by_name(self) -> dict[str, list[ModuleSymbol]]:
        out: dict[str, list[ModuleSymbol]] = {}
        for s in self.file.symbols:
            if s.name and s.shndx != SHN_UNDEF and s.type not in (STT_FILE, STT_SECTION):
                out.setdefault(s.name, []).append(s)
        return out

    def is_init(self, symbol: ModuleSymbol) -> bool:
        """Is it in memory that is freed when the module has loaded?"""
        return self._section_name(symbol).startswith(".init")

    def is_core(self, symbol: ModuleSymbol) -> bool:
        """Is it in the table that the kernel keeps?"""
        if not 0 < symbol.shndx < min(len(self.file.sections), SHN_LORESERVE):
            return False
        return self.file.sections[symbol.shndx].alloc and not self.is_init(symbol)

    def _section_name(self, symbol: ModuleSymbol) -> str:
        sections = self.file.sections
        return sections[symbol.shndx].name if 0 < symbol.shndx < len(sections) else ""

    def locate(self, name: str, sympos: int) -> tuple[ModuleSymbol | None, str]:
        """The symbol at a position, or None and why there is none that the kernel finds at all times."""
        listed = self._by_name.get(name, [])
        if not listed:
            return None, f"the module {self.name} has no symbol {name}"
        if sympos == 0 and len(listed) > 1:
            return None, f"the module {self.name} has {len(listed)} symbols {name}; position 0 means it has one"
        if sympos > len(listed):
            return None, f"the module {self.name} has {len(listed)} symbols {name}, none at position {sympos}"
        found = listed[max(sympos - 1, 0)]
        if self.is_init(found):
            return found, ""
        core = [s for s in listed if self.is_core(s)]
        if found not in core:
            return None, f"{name} is not among the symbols that the kernel keeps of {self.name}"
        if core.index(found) + 1 != max(sympos, 1):
            return None, (
                f"{name} is at position {sympos} while {self.name} loads and at {core.index(found) + 1} afterwards"
            )
        return found, ""

    def stable_bytes(self, name: str, sympos: int, offset: int, size: int, arch: Arch) -> bytes | None:
        """Bytes of a function that the loader leaves as they are in the file; None where it writes some of them, or
        the function has none there."""
        symbol = self.locate(name, sympos)[0]
        if symbol is None or not 0 < symbol.shndx < len(self.file.sections) or offset + size > symbol.size:
            return None
        start = symbol.value + offset
        for at, rows in self.file.targets.get(symbol.shndx, {}).items():
            if at < start + size and at + max(arch.relocs.sizes.get(r.type, 8) for r in rows) > start:
                return None
        return self.file.sections[symbol.shndx].data[start : start + size]

    def is_traceable(self, symbol: ModuleSymbol, arch: Arch) -> bool:
        """Does a function begin with a call to the trace function?"""
        data = self.file.sections[symbol.shndx].data if symbol.shndx < len(self.file.sections) else b""
        field = arch.trace_field(data[symbol.value : symbol.value + arch.trace_bytes])
        call = self.file.at(symbol.shndx, symbol.value + field) if field is not None else None
        target = self.file.symbol_of(call) if call is not None else None
        return target is not None and target.name == arch.trace_call


ShippedLookup = Callable[[str], Shipped | None]


def no_modules(name: str) -> Shipped | None:
    """For a kernel that was added without its modules."""
    del name
    return None


@dataclass(frozen=True)
class Target:
    """One patched function of a module: the object's name, the function's name and position."""

    object: str
    name: str
    sympos: int


def check_objects(
    module: ModuleFile, arch: Arch, patched: Sequence[str], told: object, modules: ShippedLookup
) -> Iterator[Finding]:
    """Each module that is patched, or that livepatch relocations are kept for.

    Input: objects of the table of functions in its order, vmlinux too; `build_ids` of the note.
    """
    runs = [name for i, name in enumerate(patched) if i == 0 or patched[i - 1] != name]
    for name in sorted({n for n in runs if runs.count(n) > 1}):
        yield finding("V11-function", name, "its functions do not stand together in the table")
    for name in sorted(set(patched) - {VMLINUX}):
        shipped = modules(name)
        if shipped is None:
            yield finding("V9-object", name, "is no module of this kernel")
            continue
        stated = told.get(name) if isinstance(told, dict) else None
        if not shipped.build_id or stated != shipped.build_id:
            fact = f"build-id {stated or 'none'} for {name}, the kernel's has {shipped.build_id or 'none'}"
            yield finding("V1-identity", NOTE_SECTION, f"states {fact}")
    yield from _check_sections(module, arch, set(patched), modules)


def _check_sections(module: ModuleFile, arch: Arch, patched: set[str], modules: ShippedLookup) -> Iterator[Finding]:
    """Livepatch relocations of modules: kept for a patched one, of itself and what it needs, and in time."""
    for section in module.sections[1:]:
        match = LATE_SECTION.fullmatch(section.name)
        if match is None or match[1] == VMLINUX:
            continue
        owner, target = match[1], match[2]
        if owner not in patched:
            yield finding(
                "V9-object", section.name, f"is for {owner}, of which nothing is patched: it is never applied"
            )
        if target in arch.read_at_load:
            yield finding("V27-late-special", section.name, f"comes after the kernel has acted on {target}")
        shipped = modules(owner)
        needed = shipped.depends if shipped is not None else frozenset()
        strangers = set()
        for row in module.relocs.get(section.index, ()):
            symbol = module.symbol_of(row)
            named = livepatch_object(symbol.name) if symbol is not None else ""
            if symbol is not None and named and named != owner and named not in needed:
                strangers.add((named, symbol.name))
        for other, name in sorted(strangers):
            what = "vmlinux" if other == VMLINUX else f"{other}, which {owner} does not need"
            yield finding("V26-module-reference", section.name, f"names {name}, of {what}")


def check_bound(place: str, target: Target, modules: ShippedLookup) -> Iterator[Finding]:
    """A livepatch symbol of a module: in the shipped file, at its position, at all times."""
    shipped = modules(target.object)
    if shipped is None:
        yield finding("V9-object", place, f"is of {target.object}, which is no module of this kernel")
        return
    found, fact = shipped.locate(target.name, target.sympos)
    if found is None:
        yield finding("V3-sympos", place, fact)
    elif shipped.is_init(found):
        yield finding(
            "V10-init-memory", place, f"{target.name} is in memory that is freed when {target.object} is loaded"
        )


def check_target(target: Target, arch: Arch, modules: ShippedLookup) -> Iterator[Finding]:
    """A patched function of a module: there, at its position, a function that can be redirected."""
    shipped = modules(target.object)
    if shipped is None:
        return  # check_objects says so once
    place = f"{target.object}:{target.name}"
    found, fact = shipped.locate(target.name, target.sympos)
    if found is None:
        yield finding("V3-sympos", place, fact)
    elif found.type != STT_FUNC:
        yield finding("V11-function", place, "is no function in the module")
    elif shipped.is_init(found):
        yield finding("V10-init-memory", place, "is in memory that is freed when the module has loaded")
    elif not shipped.is_traceable(found, arch):
        yield finding("V12-not-traceable", place, f"does not begin with a call to {arch.trace_call} in the module")

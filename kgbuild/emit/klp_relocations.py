# SPDX-License-Identifier: GPL-2.0-or-later
"""The last step on a linked module: livepatch symbols and relocations.

`ld -r` silently destroys SHN_LIVEPATCH symbols and `.klp.rela.*` sections, and pahole fails on them, so they are put
in after every other tool has run. Undefined symbols named `.klp.sym.*` become SHN_LIVEPATCH ones; the relocations
against them move from `.rela<section>` to `.klp.rela.<object>.<section>`, one such section per object and section.
Source: Documentation/livepatch/module-elf-format.rst.
"""

from __future__ import annotations

from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.object import Object
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.module_abi import KLP_RELOCATIONS, KLP_SYMBOL, KLP_SYMBOL_IN_C, RESOLVE_SECTION

DEBUG = (".debug", ".rela.debug", ".comment", ".note.GNU-stack")


def inject(module: Object, *, keep_debug: bool = False) -> bytes:
    """The bytes of a live patch module, from the linked module read as `module`.

    Sections that hold debug information of the build are left out unless `keep_debug`. Relocations of type 0 are
    dropped. Raises ValueError for an undefined symbol in livepatch form that is malformed.
    """
    out = OutObject(module.machine, records=module.records)
    sections: dict[int, OutSection] = {}
    for section in module.sections:
        if section.type in (SHT.NULL, SHT.SYMTAB, SHT.STRTAB, SHT.RELA, SHT.GROUP):
            continue
        if not keep_debug and section.name.startswith(DEBUG):
            continue
        out_section = OutSection(
            section.name,
            section.type,
            section.flags & ~SHF.GROUP,
            bytearray(module.contents(section.index)),
            section.align,
            section.entsize,
            section.size if section.type == SHT.NOBITS else 0,
        )
        sections[section.index] = out_section
        out.sections.append(out_section)
    for section in module.sections:
        if section.index in sections and section.flags & SHF.LINK_ORDER and section.link in sections:
            sections[section.index].link_section = sections[section.link]
    owners: dict[int, str] = {}
    symbols = _symbols(module, sections, out, owners)
    for section in module.sections:
        if section.index in sections:
            _move_relocations(module, section.index, sections[section.index], symbols, owners, out)
    late = [section for section in out.sections if section.flags & SHF.RELA_LIVEPATCH]
    late.sort(key=lambda section: section.info_section is None or section.info_section.name != RESOLVE_SECTION)
    out.sections = [section for section in out.sections if not section.flags & SHF.RELA_LIVEPATCH] + late
    used = {id(r.symbol) for out_section in out.sections for r in out_section.relocs}
    out.symbols = [
        s for s in out.symbols if id(s) in used or s.section is not None or s.shndx not in (SHN.UNDEF, SHN.LIVEPATCH)
    ]
    return write(out)


def _symbols(
    module: Object, sections: dict[int, OutSection], out: OutObject, owners: dict[int, str]
) -> dict[int, OutSymbol]:
    symbols: dict[int, OutSymbol] = {}
    for symbol in module.iter_symbols():
        ordinary = 0 < symbol.shndx < SHN.LORESERVE
        if ordinary and symbol.shndx not in sections:
            continue
        name = "" if symbol.type == STT.SECTION else symbol.name
        made = OutSymbol(
            name,
            sections[symbol.shndx] if ordinary else None,
            symbol.value,
            symbol.size,
            symbol.bind,
            symbol.type,
            symbol.other,
            symbol.shndx,
        )
        if symbol.shndx == SHN.UNDEF and name.startswith((KLP_SYMBOL, KLP_SYMBOL_IN_C)):
            made.name, owners[symbol.index] = _final_name(name)
            made.shndx, made.bind = SHN.LIVEPATCH, STB.GLOBAL
        symbols[symbol.index] = made
        out.symbols.append(made)
    return symbols


def _move_relocations(
    module: Object,
    index: int,
    section: OutSection,
    symbols: dict[int, OutSymbol],
    owners: dict[int, str],
    out: OutObject,
) -> None:
    late: dict[str, OutSection] = {}
    for offset, kind, sym, addend in module.relocs_as_written(index):
        if kind == 0:
            continue
        reloc = OutReloc(offset, kind, symbols[sym], addend)
        if reloc.symbol.shndx != SHN.LIVEPATCH:
            section.relocs.append(reloc)
            continue
        object_name = owners[sym]
        if object_name not in late:
            late[object_name] = OutSection(
                f"{KLP_RELOCATIONS}{object_name}.{section.name}",
                SHT.RELA,
                SHF.ALLOC | SHF.INFO_LINK | SHF.RELA_LIVEPATCH,
                align=8,
                info_section=section,
            )
        late[object_name].relocs.append(reloc)
    out.sections.extend(late[name] for name in sorted(late))


def _final_name(name: str) -> tuple[str, str]:
    """The symbol's name in the finished module, and the object whose coming relocates the references to it."""
    if name.startswith(KLP_SYMBOL_IN_C):
        return f"{KLP_SYMBOL}vmlinux.{name.removeprefix(KLP_SYMBOL_IN_C)},0", "vmlinux"
    final = name.partition("@")[0]
    split_livepatch_name(final)
    return final, patched_object(name)


def patched_object(name: str) -> str:
    """The object whose coming relocates references to a livepatch symbol: its own, unless `@module` at the end of the
    name says another; "" for any other symbol."""
    if not name.startswith(KLP_SYMBOL):
        return ""
    final, _, patched = name.partition("@")
    return patched or split_livepatch_name(final)[0]


def split_livepatch_name(name: str) -> tuple[str, str, int]:
    """(object, symbol, sympos) of a `.klp.sym.OBJECT.SYMBOL,SYMPOS` name. Raises ValueError."""
    if not name.startswith(KLP_SYMBOL):
        raise ValueError(f"{name} is no livepatch symbol")
    body, comma, position = name[len(KLP_SYMBOL) :].rpartition(",")
    object_name, dot, symbol = body.partition(".")
    if not comma or not dot or not symbol or not position.isdigit():
        raise ValueError(f"malformed livepatch symbol {name}")
    return object_name, symbol, int(position)

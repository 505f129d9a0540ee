# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing relocatable ELF: sections and symbols in, bytes out, identical for identical input.

`OutObject` is what extraction and injection build. Local symbols are moved before global ones (gABI: sh_info of
the symbol table is the first non-local), otherwise order is kept. Nothing is timed, nothing depends on hashing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kgbuild.elf.consts import ET, SHF, SHN, SHT, STB
from kgbuild.elf.records import LITTLE, Records


@dataclass(eq=False, repr=False)
class OutSymbol:
    """A symbol to write. `section` is the section it is defined in, or None with `shndx` saying what else."""

    name: str
    section: OutSection | None = None
    value: int = 0
    size: int = 0
    bind: int = STB.LOCAL
    type: int = 0
    other: int = 0
    shndx: int = SHN.UNDEF


@dataclass(eq=False, repr=False)
class OutReloc:
    """A relocation to write: offset in its section, ELF type, symbol, addend."""

    offset: int
    type: int
    symbol: OutSymbol
    addend: int


@dataclass(eq=False, repr=False)
class OutSection:
    """A section to write. For NOBITS `size` counts and `data` stays empty. `relocs` become `.rela<name>`, or the
    section's own contents where it is itself a RELA section (`info_section` is then what they apply to)."""

    name: str
    type: int = SHT.PROGBITS
    flags: int = SHF.ALLOC
    data: bytearray = field(default_factory=bytearray)
    align: int = 1
    entsize: int = 0
    size: int = 0
    relocs: list[OutReloc] = field(default_factory=list)
    info_section: OutSection | None = None
    link_section: OutSection | None = None
    rela_name: str = ""
    rela_flags: int = SHF.INFO_LINK


@dataclass(eq=False, repr=False)
class OutObject:
    """A relocatable object to write. `records` are those of its byte order."""

    machine: int
    sections: list[OutSection] = field(default_factory=list)
    symbols: list[OutSymbol] = field(default_factory=list)
    flags: int = 0
    records: Records = LITTLE


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._at: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._at:
            self._at[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._at[text]


def write(obj: OutObject) -> bytes:
    """Bytes of a relocatable ELF64 file (ET_REL) with these sections and symbols.

    Raises ValueError where a symbol or relocation names a section or symbol that is not part of `obj`.
    """
    names, strings = _Strings(), _Strings()
    locals_ = [s for s in obj.symbols if s.bind == STB.LOCAL]
    globals_ = [s for s in obj.symbols if s.bind != STB.LOCAL]
    number = {id(section): i for i, section in enumerate(obj.sections, 1)}
    symbol_number = {id(s): i for i, s in enumerate([*locals_, *globals_], 1)}
    rela_count = sum(1 for section in obj.sections if section.relocs and section.type != SHT.RELA)
    symtab_index = len(obj.sections) + rela_count + 1

    records = obj.records
    out = bytearray(records.header.size)
    headers = [records.section.pack(*([0] * 10))]

    def place(
        name: str, kind: int, flags: int, body: bytes, size: int, link: int, info: int, align: int, ent: int
    ) -> None:
        align = max(align, 1)
        out.extend(b"\0" * (-len(out) % (align if kind != SHT.NOBITS else 1)))
        offset = len(out)
        if kind != SHT.NOBITS:
            out.extend(body)
            size = len(body)
        headers.append(records.section.pack(names.add(name), kind, flags, 0, offset, size, link, info, align, ent))

    def rela_bytes(relocs: list[OutReloc]) -> bytes:
        body = bytearray()
        for r in relocs:
            if id(r.symbol) not in symbol_number:
                raise ValueError(f"relocation against {r.symbol.name}, which is not in the symbol table")
            info = (r.type, symbol_number[id(r.symbol)])
            body += records.rela.pack(r.offset, *(info[::-1] if records.symbol_first else info), r.addend)
        return bytes(body)

    for section in obj.sections:
        if section.type == SHT.RELA:
            assert section.info_section is not None
            info = number[id(section.info_section)]
            place(
                section.name,
                section.type,
                section.flags,
                rela_bytes(section.relocs),
                0,
                symtab_index,
                info,
                8,
                records.rela.size,
            )
        else:
            link = number[id(section.link_section)] if section.link_section is not None else 0
            place(
                section.name,
                section.type,
                section.flags,
                bytes(section.data),
                section.size,
                link,
                0,
                section.align,
                section.entsize,
            )
    for section in obj.sections:
        if section.relocs and section.type != SHT.RELA:
            name = section.rela_name or f".rela{section.name}"
            place(
                name,
                SHT.RELA,
                section.rela_flags,
                rela_bytes(section.relocs),
                0,
                symtab_index,
                number[id(section)],
                8,
                records.rela.size,
            )

    table = bytearray(records.symbol.size)
    for symbol in [*locals_, *globals_]:
        if symbol.section is not None and id(symbol.section) not in number:
            raise ValueError(f"symbol {symbol.name} is defined in a section that is not written")
        shndx = number[id(symbol.section)] if symbol.section is not None else symbol.shndx
        info = (symbol.bind << 4) | symbol.type
        table += records.symbol.pack(strings.add(symbol.name), info, symbol.other, shndx, symbol.value, symbol.size)
    place(".symtab", SHT.SYMTAB, 0, bytes(table), 0, symtab_index + 1, len(locals_) + 1, 8, records.symbol.size)
    place(".strtab", SHT.STRTAB, 0, bytes(strings.data), 0, 0, 0, 1, 0)
    names.add(".shstrtab")
    place(".shstrtab", SHT.STRTAB, 0, bytes(names.data), 0, 0, 0, 1, 0)
    out.extend(b"\0" * (-len(out) % 8))
    shoff = len(out)
    for header in headers:
        out.extend(header)
    records.header.pack_into(
        out,
        0,
        records.ident,
        ET.REL,
        obj.machine,
        1,
        0,
        0,
        shoff,
        obj.flags,
        records.header.size,
        0,
        0,
        records.section.size,
        len(headers),
        len(headers) - 1,
    )
    return bytes(out)

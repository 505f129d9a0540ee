# SPDX-License-Identifier: GPL-2.0-or-later
"""Single faults in a finished module, seeded: what somebody could change in a file so that a kernel acts otherwise.

`inject` makes one fault of a kind. Each kind is a function of FAULTS that changes a file in memory and says what it
did, or None where the module has nothing of the sort. HARMLESS are changes that no kernel acts on. The file is read and
written by a few lines of its own, so that nothing is shared with what is tested.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QIIq")
SYMTAB, STRTAB, RELA_TYPE, NOTE, NOBITS = 2, 3, 4, 7, 8
WRITE, ALLOC, EXEC, LINK_ORDER, LIVEPATCH = 1, 2, 4, 0x80, 0x100000
ENTRY_SIZES = {
    "__bug_table": 12,
    "__jump_table": 16,
    "__mcount_loc": 8,
    "__ex_table": 12,
    ".altinstructions": 12,
    ".smp_locks": 4,
    ".return_sites": 4,
    ".retpoline_sites": 4,
    ".call_sites": 4,
    ".static_call_sites": 8,
    ".orc_unwind_ip": 4,
    "__versions": 64,
    ".rodata.kgbuild_funcs": 32,
    ".rodata.kgbuild_sites": 32,
    ".rodata.kgbuild_symbols": 40,
}


@dataclass(eq=False)
class Symbol:
    name: bytes
    info: int
    other: int
    section: Part | int  # a raw index where it is in none
    value: int
    size: int


@dataclass(eq=False)
class Row:
    offset: int
    type: int
    symbol: Symbol
    addend: int


@dataclass(eq=False)
class Part:
    name: bytes
    type: int
    flags: int
    addr: int
    size: int
    link: Part | int
    info: Part | int
    align: int
    entsize: int
    data: bytearray = field(default_factory=bytearray)
    rows: list[Row] = field(default_factory=list)
    rest: bytes = b""  # of a table of relocations, behind the whole rows

    @property
    def text(self) -> str:
        return self.name.decode("utf-8", "replace")


class File:
    """A relocatable file taken apart; `data` puts it together again."""

    def __init__(self, data: bytes) -> None:
        self.header = list(EHDR.unpack_from(data))
        shoff, count, names = self.header[6], self.header[12], self.header[13]
        heads = [SHDR.unpack_from(data, shoff + n * SHDR.size) for n in range(count)]
        start = heads[names][4]
        self.parts: list[Part] = []
        for name, kind, flags, addr, at, size, link, info, align, entsize in heads:
            text = data[start + name : data.index(b"\0", start + name)]
            body = bytearray(data[at : at + size]) if kind not in (0, NOBITS) else bytearray()
            self.parts.append(Part(text, kind, flags, addr, size, link, info, align, entsize, body))
        self.names = self.parts[names]
        (table,) = (p for p in self.parts if p.type == SYMTAB)
        self.table, self.strings = table, self.parts[int(table.link)]  # type: ignore[arg-type]
        self.symbols: list[Symbol] = []
        for name, info, other, shndx, value, size in SYM.iter_unpack(bytes(table.data)):
            text = bytes(self.strings.data[name : self.strings.data.index(0, name)])
            where: Part | int = self.parts[shndx] if 0 < shndx < count else shndx
            self.symbols.append(Symbol(text, info, other, where, value, size))
        for part in self.parts[1:]:
            if part.type == RELA_TYPE:
                whole = len(part.data) // RELA.size * RELA.size
                part.rest = bytes(part.data[whole:])
                for offset, kind, number, addend in RELA.iter_unpack(bytes(part.data[:whole])):
                    part.rows.append(Row(offset, kind, self.symbols[number], addend))
                part.info = self.parts[int(part.info)]  # type: ignore[arg-type]
            if part.type in (RELA_TYPE, SYMTAB) or part.flags & LINK_ORDER:
                part.link = self.parts[int(part.link)]  # type: ignore[arg-type]
        self.tail = b""

    def data(self) -> bytes:
        """The file's bytes. Names are written anew; a symbol or section that is gone has the number 0."""
        part_number = {id(p): n for n, p in enumerate(self.parts)}
        symbol_number = {id(s): n for n, s in enumerate(self.symbols)}
        names, strings = bytearray(b"\0"), bytearray(b"\0")

        def add(to: bytearray, text: bytes) -> int:
            if not text:
                return 0
            to.extend(text + b"\0")
            return len(to) - len(text) - 1

        rows = []
        for s in self.symbols:
            where = s.section if isinstance(s.section, int) else part_number.get(id(s.section), 0)
            rows.append(SYM.pack(add(strings, s.name), s.info, s.other, where, s.value, s.size))
        for p in self.parts:
            if p.rows or p.type == RELA_TYPE:
                packed = (RELA.pack(r.offset, r.type, symbol_number.get(id(r.symbol), 0), r.addend) for r in p.rows)
                p.data = bytearray(b"".join(packed) + p.rest)
        self.table.data, self.strings.data = bytearray(b"".join(rows)), strings
        name_at = [add(names, p.name) for p in self.parts]
        self.names.data = names
        out, heads = bytearray(EHDR.size), []
        for p, name in zip(self.parts, name_at, strict=True):
            size = p.size
            at = 0
            if p.type not in (0, NOBITS):
                out.extend(bytes(-len(out) % max(min(p.align, 4096), 1)))
                at, size = len(out), len(p.data)
                out.extend(p.data)
            link, info = (v if isinstance(v, int) else part_number.get(id(v), 0) for v in (p.link, p.info))
            heads.append(SHDR.pack(name, p.type, p.flags, p.addr, at, size, link, info, p.align, p.entsize))
        out.extend(bytes(-len(out) % 8))
        self.header[6], self.header[12] = len(out), len(self.parts)
        self.header[13] = part_number.get(id(self.names), 0)
        out.extend(b"".join(heads))
        EHDR.pack_into(out, 0, *self.header)
        return bytes(out) + self.tail

    def loaded(self, *, code: bool | None = None, written: bool | None = None) -> list[Part]:
        """Sections with contents that a kernel loads."""
        return [
            p
            for p in self.parts
            if p.flags & ALLOC
            and p.type not in (NOBITS, RELA_TYPE)
            and p.data
            and (code is None or bool(p.flags & EXEC) == code)
            and (written is None or bool(p.flags & WRITE) == written)
        ]

    def relocations(self) -> list[Part]:
        """Tables of relocations that a kernel applies."""
        return [
            p
            for p in self.parts
            if p.type == RELA_TYPE and p.rows and isinstance(p.info, Part) and p.info.flags & ALLOC
        ]


Fault = Callable[[File, random.Random], str | None]
FAULTS: dict[str, Fault] = {}
HARMLESS: dict[str, Fault] = {}


def fault(made: Fault) -> Fault:
    """Register a kind of fault, under its function's name."""
    FAULTS[made.__name__.replace("_", "-")] = made
    return made


def harmless(made: Fault) -> Fault:
    """Register a change that is no fault."""
    HARMLESS[made.__name__.replace("_", "-")] = made
    return made


def inject(data: bytes, kind: str, seed: int | str) -> tuple[bytes, str] | None:
    """A module with one fault of a kind, and what was done; None where it can't have such."""
    file, chance = File(data), random.Random(f"{kind} {seed}")
    said = (FAULTS | HARMLESS)[kind](file, chance)
    return (file.data(), said) if said is not None else None


# -- contents --------------------------------------------------------------------------------------------------------


def _byte(parts: list[Part], chance: random.Random, *, bit: bool) -> str | None:
    """Change one byte, outside of fields that a relocation overwrites."""
    if not parts:
        return None
    part = chance.choices(parts, [len(p.data) for p in parts])[0]
    at = chance.randrange(len(part.data))
    part.data[at] ^= 1 << chance.randrange(8) if bit else chance.randrange(1, 256)
    return f"{part.text}+{at:#x}"


@fault
def code_bit(file: File, chance: random.Random) -> str | None:
    return _byte(file.loaded(code=True), chance, bit=True)


@fault
def constant_byte(file: File, chance: random.Random) -> str | None:
    plain = [p for p in file.loaded(code=False, written=False) if not p.name.startswith((b".note", b".modinfo"))]
    return _byte(plain, chance, bit=False)


@fault
def variable_byte(file: File, chance: random.Random) -> str | None:
    return _byte([p for p in file.loaded(code=False, written=True) if b"this_module" not in p.name], chance, bit=False)


@fault
def struct_module_byte(file: File, chance: random.Random) -> str | None:
    return _byte([p for p in file.parts if b"this_module" in p.name and p.type != RELA_TYPE], chance, bit=False)


@fault
def table_byte(file: File, chance: random.Random) -> str | None:
    return _byte([p for p in file.loaded() if p.name.startswith(b".rodata.kgbuild_")], chance, bit=False)


@fault
def special_byte(file: File, chance: random.Random) -> str | None:
    return _byte([p for p in file.loaded() if p.text in ENTRY_SIZES], chance, bit=False)


@fault
def note_byte(file: File, chance: random.Random) -> str | None:
    return _byte([p for p in file.loaded() if p.name == b".note.kgbuild"], chance, bit=False)


@fault
def modinfo_byte(file: File, chance: random.Random) -> str | None:
    return _byte([p for p in file.loaded() if p.name == b".modinfo"], chance, bit=False)


@fault
def modinfo_item(file: File, chance: random.Random) -> str | None:
    (part,) = (p for p in file.parts if p.name == b".modinfo")
    items = [item for item in bytes(part.data).split(b"\0") if item]
    number, how = chance.randrange(len(items)), chance.choice(("removed", "repeated", "added"))
    if how == "removed":
        said = items.pop(number)
    else:
        said = items[number] if how == "repeated" else b"softdep=pre: other"
        items.append(said)
    part.data = bytearray(b"".join(item + b"\0" for item in items))
    return f"{said.decode('utf-8', 'replace')} {how}"


@fault
def code_inserted(file: File, chance: random.Random) -> str | None:
    parts = file.loaded(code=True)
    part = chance.choice(parts)
    part.data.extend(bytes(chance.choice((1, 4, 16))))
    return f"{part.text} is longer"


@fault
def contents_cut(file: File, chance: random.Random) -> str | None:
    part = chance.choice(file.loaded())
    cut = min(len(part.data), chance.choice((1, 4, 8, 12, 64)))
    del part.data[len(part.data) - cut :]
    return f"{part.text} is {cut} bytes shorter"


# -- relocations -----------------------------------------------------------------------------------------------------


def _row(file: File, chance: random.Random) -> tuple[Part, Row]:
    tables = file.relocations()
    part = chance.choices(tables, [len(p.rows) for p in tables])[0]
    return part, chance.choice(part.rows)


@fault
def relocation_type(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    row.type = chance.choice([kind for kind in (1, 2, 4, 10, 11, 24) if kind != row.type])
    return f"{part.text}, {row.offset:#x}: type {row.type}"


@fault
def relocation_none(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    row.type = 0
    return f"{part.text}, {row.offset:#x}"


@fault
def relocation_addend(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    row.addend += chance.choice((-16, -8, -4, -1, 1, 2, 4, 8, 16, 0x1000, 1 << 20))
    return f"{part.text}, {row.offset:#x}: addend {row.addend}"


@fault
def relocation_symbol(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    others = [
        s for s in file.symbols[1:] if (s.section == 0xFF20) == (row.symbol.section == 0xFF20) and s is not row.symbol
    ]
    if not others:
        return None
    row.symbol = chance.choice(others)
    return f"{part.text}, {row.offset:#x}: symbol {row.symbol.name.decode('utf-8', 'replace')}"


@fault
def relocation_offset(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    row.offset = max(row.offset + chance.choice((-8, -4, -1, 1, 2, 4, 8)), 0) or row.offset + 4
    return f"{part.text}, now at {row.offset:#x}"


@fault
def relocation_removed(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    part.rows.remove(row)
    return f"{part.text}, {row.offset:#x}"


@fault
def relocation_added(file: File, chance: random.Random) -> str | None:
    part, row = _row(file, chance)
    assert isinstance(part.info, Part)
    at = chance.randrange(max(len(part.info.data) - 8, 1))
    part.rows.append(Row(at, row.type, row.symbol, row.addend))
    return f"{part.text}, {at:#x}"


@fault
def relocations_exchanged(file: File, chance: random.Random) -> str | None:
    """Two fields of one section are relocated with what belongs to the other."""
    part, row = _row(file, chance)
    others = [r for r in part.rows if (r.symbol, r.addend) != (row.symbol, row.addend)]
    if not others:
        return None
    other = chance.choice(others)
    row.symbol, other.symbol, row.addend, other.addend = other.symbol, row.symbol, other.addend, row.addend
    return f"{part.text}, {row.offset:#x} and {other.offset:#x}"


# -- symbols ---------------------------------------------------------------------------------------------------------


def _symbol(file: File, chance: random.Random, *, defined: bool = False) -> Symbol:
    found = [s for s in file.symbols[1:] if s.info & 15 not in (3, 4) and s.name]
    return chance.choice([s for s in found if not defined or isinstance(s.section, Part)])


def _named(symbol: Symbol) -> str:
    return symbol.name.decode("utf-8", "replace")


@fault
def symbol_value(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance, defined=True)
    symbol.value += chance.choice((1, 4, 8, 16))
    return _named(symbol)


@fault
def symbol_size(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance, defined=True)
    symbol.size += chance.choice((1, 4, 8, 32))
    return _named(symbol)


@fault
def symbol_binding(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance)
    symbol.info = symbol.info & 15 | chance.choice([b for b in (0, 1, 2) if b != symbol.info >> 4]) << 4
    return _named(symbol)


@fault
def symbol_type(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance)
    symbol.info = symbol.info & 0xF0 | chance.choice([t for t in (0, 1, 2, 6, 10) if t != symbol.info & 15])
    return _named(symbol)


@fault
def symbol_visibility(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance)
    symbol.other ^= chance.choice((1, 2, 3))
    return _named(symbol)


@fault
def symbol_section(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance)
    choices = [p for p in file.loaded() if p is not symbol.section]
    symbol.section = chance.choice([*choices, *(n for n in (0, 0xFFF1, 0xFF20) if n != symbol.section)])
    return _named(symbol)


@fault
def symbol_name(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance)
    at = chance.randrange(len(symbol.name))
    symbol.name = symbol.name[:at] + bytes([symbol.name[at] ^ 1]) + symbol.name[at + 1 :]
    return _named(symbol)


@fault
def symbol_removed(file: File, chance: random.Random) -> str | None:
    symbol = _symbol(file, chance)
    file.symbols.remove(symbol)
    return _named(symbol)


@fault
def symbol_added(file: File, chance: random.Random) -> str | None:
    old = _symbol(file, chance)
    file.symbols.append(
        Symbol(chance.choice((old.name, b"added")), 0x12, 0, chance.choice(file.loaded(code=True)), 0, 4)
    )
    return _named(file.symbols[-1])


@fault
def symbols_exchanged(file: File, chance: random.Random) -> str | None:
    one, other = _symbol(file, chance), _symbol(file, chance)
    if one.name == other.name or one.info >> 4 != other.info >> 4:
        return None
    one.name, other.name = other.name, one.name
    return f"{_named(one)} and {_named(other)}"


# -- sections --------------------------------------------------------------------------------------------------------


def _part(file: File, chance: random.Random) -> Part:
    return chance.choice([p for p in file.parts[1:] if p.flags & ALLOC or p.type == RELA_TYPE])


@fault
def section_flags(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    part.flags ^= chance.choice((WRITE, ALLOC, EXEC, LIVEPATCH, 0x10, 0x40, 1 << 31))
    return f"{part.text}: {part.flags:#x}"


@fault
def section_align(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    part.align = chance.choice([a for a in (0, 1, 2, 4, 8, 64, 1 << 13) if a != part.align])
    return f"{part.text}: {part.align}"


@fault
def section_name(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    if not part.name:
        return None
    part.name = chance.choice((part.name + b"x", part.name[:-1], b".text", b".data", b".init" + part.name))
    return part.text


@fault
def section_type(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    part.type = chance.choice([t for t in (1, 7, 8, 4, 0x70000001) if t != part.type])
    return f"{part.text}: {part.type}"


@fault
def section_address(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    part.addr = 1 << chance.randrange(40)
    return part.text


@fault
def section_entry_size(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    part.entsize += chance.choice((1, 8, 24))
    return part.text


@fault
def section_link(file: File, chance: random.Random) -> str | None:
    part = chance.choice(file.relocations())
    part.link = chance.randrange(len(file.parts) + 2)
    return part.text if file.parts.index(file.table) != part.link else None


@fault
def section_info(file: File, chance: random.Random) -> str | None:
    """Relocations that are for another section."""
    part = chance.choice(file.relocations())
    part.info = chance.choice([p for p in file.parts[1:] if p is not part.info])
    return f"{part.text}: for {part.info.text}"


@fault
def sections_exchanged(file: File, chance: random.Random) -> str | None:
    numbers = [n for n, p in enumerate(file.parts) if n and p.flags & ALLOC and p.type != RELA_TYPE]
    one, other = chance.sample(numbers, 2)
    file.parts[one], file.parts[other] = file.parts[other], file.parts[one]
    return f"{file.parts[one].text} and {file.parts[other].text}"


@fault
def section_removed(file: File, chance: random.Random) -> str | None:
    part = _part(file, chance)
    file.parts = [p for p in file.parts if p is not part and not (p.type == RELA_TYPE and p.info is part)]
    return part.text


@fault
def section_added(file: File, chance: random.Random) -> str | None:
    name = chance.choice(
        (b".text.added", b"__jump_table", b".init_array", b".ctors", b"__ksymtab", b"__param", b".BTF")
    )
    flags = ALLOC | (EXEC if name.startswith(b".text") else 0)
    file.parts.insert(1, Part(name, 1, flags, 0, 0, 0, 0, 8, 0, bytearray(b"\xc3" * 64)))
    return name.decode()


# -- entries of tables -----------------------------------------------------------------------------------------------


def _table(file: File, chance: random.Random) -> tuple[Part, int, list[Row], list[Part]] | None:
    found = [p for p in file.loaded() if len(p.data) >= 2 * ENTRY_SIZES.get(p.text, 1 << 30)]
    if not found:
        return None
    part = chance.choice(found)
    tables = [p for p in file.parts if p.type == RELA_TYPE and p.info is part]
    return part, ENTRY_SIZES[part.text], [r for p in tables for r in p.rows], tables


@fault
def entries_exchanged(file: File, chance: random.Random) -> str | None:
    """Two entries change places; what that means to the kernel depends on the table."""
    found = _table(file, chance)
    if found is None:
        return None
    part, size, rows, _ = found
    one, other = sorted(chance.sample(range(len(part.data) // size), 2))
    before = (bytes(part.data), [(r.offset, r.symbol, r.addend) for r in rows])
    texts = [bytes(part.data[n * size : n * size + size]) for n in (one, other)]
    part.data[one * size : one * size + size], part.data[other * size : other * size + size] = texts[1], texts[0]
    for row in rows:
        if row.offset // size in (one, other):
            row.offset += ((other - one) if row.offset // size == one else (one - other)) * size
    after = (bytes(part.data), [(r.offset, r.symbol, r.addend) for r in rows])
    return f"{part.text}, {one} and {other}" if before != after else None


@fault
def entry_removed(file: File, chance: random.Random) -> str | None:
    found = _table(file, chance)
    if found is None:
        return None
    part, size, _, tables = found
    number = chance.randrange(len(part.data) // size)
    del part.data[number * size : number * size + size]
    for table in tables:
        table.rows = [r for r in table.rows if r.offset // size != number]
        for row in table.rows:
            row.offset -= size if row.offset // size > number else 0
    return f"{part.text}, {number}"


# -- the file --------------------------------------------------------------------------------------------------------


@fault
def elf_header(file: File, chance: random.Random) -> str | None:
    at = chance.choice((1, 2, 3, 4, 5, 7, 8, 9, 10, 11))
    file.header[at] ^= 1 << chance.randrange(4)
    return f"field {at}"


@fault
def elf_ident(file: File, chance: random.Random) -> str | None:
    at, ident = chance.randrange(16), bytearray(file.header[0])
    ident[at] ^= 1 << chance.randrange(8)
    file.header[0] = bytes(ident)
    return f"byte {at}"


@fault
def trailing_bytes(file: File, chance: random.Random) -> str | None:
    file.tail = chance.randbytes(chance.choice((8, 64, 700)))
    return f"{len(file.tail)} bytes"


# -- what is no fault ------------------------------------------------------------------------------------------------


@harmless
def written_again(file: File, chance: random.Random) -> str | None:
    """Another layout of the file, as by another linker."""
    del chance
    return f"{len(file.parts)} sections"


@harmless
def signature(file: File, chance: random.Random) -> str | None:
    size = chance.randrange(100, 700)
    marker = b"~Module signature appended~\n"
    file.tail = chance.randbytes(size) + struct.pack(">BBBBBxxxI", 0, 0, 2, 0, 0, size) + marker
    return f"{size} bytes"


@harmless
def debugging_information(file: File, chance: random.Random) -> str | None:
    """Sections that only debuggers read, before all others, and what a symbol table may have besides."""
    made = Part(b".debug_info", 1, 0, 0, 0, 0, 0, 1, 0, bytearray(chance.randbytes(64)))
    rela = Part(b".rela.debug_info", RELA_TYPE, 0x40, 0, 0, file.table, made, 8, 24)
    rela.rows.append(Row(4, 10, file.symbols[1], 0))
    file.parts[1:1] = [made, rela, Part(b".comment", 1, 0x30, 0, 0, 0, 0, 1, 1, bytearray(b"\0GCC\0"))]
    file.symbols[1:1] = [Symbol(b"fork.c", 4, 0, 0xFFF1, 0, 0), Symbol(b"", 3, 0, made, 0, 0)]
    file.table.info = int(file.table.info) + 2 if isinstance(file.table.info, int) else file.table.info
    return "added"


@harmless
def own_build_id(file: File, chance: random.Random) -> str | None:
    """The module's own build-id, which only is shown."""
    found = [p for p in file.parts if p.name == b".note.gnu.build-id"]
    if not found:
        return None
    found[0].data[16:36] = chance.randbytes(20)
    return "another"

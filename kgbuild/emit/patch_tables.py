# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch's own tables, which `kgbuild/data/livepatch/main.c` reads when the module is loaded: what is replaced, for
which kernel and target modules, an author's callbacks and states, runtime constants, the note.

Names and layouts are those of module_abi.py. Each function appends to the object one table, or what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from kgbuild import module_abi as abi
from kgbuild.closure.model import Closure, Redirect
from kgbuild.elf.consts import SHF, SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol
from kgbuild.emit.klp_relocations import patched_object
from kgbuild.model import VMLINUX

NO_TARGETS = ("", VMLINUX)


class Identity(NamedTuple):
    """What the module checks and says of itself: the build-id (bytes) of the vmlinux it is for, whether it replaces
    older patches, the JSON text of its note, the modules it patches, whether it must itself clear what was relocated
    late when such a module goes (the kernel does so since 6.3), and what it says that it fixes."""

    build_id: bytes
    replace: bool
    note: str
    targets: tuple[TargetIdentity, ...] = ()
    clear_late: bool = False
    fixes: tuple[str, ...] = ()


class TargetIdentity(NamedTuple):
    """How to know a target module in memory: its name, its build-id (bytes), a symbol of it with its position, and the
    distance in bytes from there to the build-id."""

    name: str
    build_id: bytes
    anchor: str
    sympos: int
    delta: int


class Pointee(NamedTuple):
    """What a pointer leads to: so many bytes behind a symbol."""

    symbol: OutSymbol
    offset: int = 0


# A row by field: numbers and bytes as they are, pointers as places, None for a null pointer.
RowValues = Mapping[str, int | bytes | Pointee | None]


class TableWriter:
    """Appends tables to an object. `pointer` is the relocation type of a pointer, `section_symbol` gives the symbol of
    a section, and `undefined` that of a name which the object does not define."""

    def __init__(
        self,
        out: OutObject,
        pointer: int,
        section_symbol: Callable[[OutSection], OutSymbol],
        undefined: Callable[[str], OutSymbol],
    ) -> None:
        self.out, self.pointer = out, pointer
        self.section_symbol, self.undefined = section_symbol, undefined
        self._strings = OutSection(abi.STRINGS_SECTION, SHT.PROGBITS, SHF.ALLOC)
        out.sections.append(self._strings)
        self._known: dict[str, int] = {}

    def text(self, value: str) -> Pointee:
        """The place of a text, which is kept once."""
        if value not in self._known:
            self._known[value] = len(self._strings.data)
            self._strings.data.extend(value.encode() + b"\0")
        return Pointee(self.section_symbol(self._strings), self._known[value])

    def object_name(self, name: str) -> Pointee | None:
        """An object as the tables name it: vmlinux by a null pointer."""
        return None if name == VMLINUX else self.text(name)

    def add(self, table: abi.Table, rows: Iterable[RowValues]) -> None:
        """Append a table, in a section of its own, with a row of zeros where it ends with one. The rows may be made
        while the table grows."""
        section = self.section(table.section)
        self.fill(section, table, rows)

    def section(self, name: str, align: int = 8, data: bytes = b"") -> OutSection:
        """Append a section of constant data."""
        section = OutSection(name, SHT.PROGBITS, SHF.ALLOC, bytearray(data), align=align)
        self.out.sections.append(section)
        return section

    def fill(self, section: OutSection, table: abi.Table, rows: Iterable[RowValues]) -> None:
        """Write the rows of a table into its section, and name it."""
        for row in rows:
            base = len(section.data)
            plain = {name: value for name, value in row.items() if isinstance(value, (int, bytes))}
            section.data.extend(table.pack(**plain))
            for name, value in row.items():
                if isinstance(value, Pointee):
                    at = base + table.offsets[name]
                    section.relocs.append(OutReloc(at, self.pointer, value.symbol, value.offset))
        if table.ended:
            section.data.extend(bytes(table.size))
        self.name(table.symbol, section)

    def value(self, name: str, data: bytes, align: int = 4) -> OutSection:
        """Append a single value under its name."""
        section = self.section(abi.value_section(name), align, data)
        self.name(name, section)
        return section

    def name(self, name: str, section: OutSection) -> None:
        """Name the whole of a section, for the wrapper."""
        self.out.symbols.append(OutSymbol(name, section, 0, len(section.data), STB.GLOBAL, STT.OBJECT))


def table_order(closure: Closure) -> list[Redirect]:
    """What the patch replaces, in the order of the table of functions: vmlinux first, each object's together."""
    return sorted(closure.redirects, key=lambda r: (r.object != VMLINUX, r.object, r.unit, r.atom.id))


SymbolOf = Callable[[int, int], OutSymbol]  # of a unit's atom


def add_functions(writer: TableWriter, closure: Closure, symbol_of: SymbolOf) -> None:
    """What is replaced by what."""
    writer.add(
        abi.FUNCTIONS,
        (
            {
                "object": writer.object_name(r.object),
                "name": writer.text(r.name),
                "func": Pointee(symbol_of(r.unit, r.atom.id)),
                "sympos": r.sympos,
            }
            for r in table_order(closure)
        ),
    )


def add_identity(writer: TableWriter, identity: Identity) -> None:
    """The kernel that the module is for, and whether it replaces older patches."""
    writer.value(abi.BUILD_ID, identity.build_id)
    writer.value(abi.BUILD_ID_SIZE, abi.NUMBER.pack(len(identity.build_id)))
    writer.value(abi.REPLACE, abi.NUMBER.pack(int(identity.replace)))
    notes = OutSection(abi.value_section(abi.NOTES), SHT.PROGBITS, SHF.ALLOC, bytearray(16), align=8)
    for offset, name in zip((0, 8), abi.NOTES_BOUNDS, strict=True):
        symbol = writer.undefined(f"{abi.KLP_SYMBOL}{VMLINUX}.{name},0")
        notes.relocs.append(OutReloc(offset, writer.pointer, symbol, 0))
    writer.out.sections.append(notes)
    writer.name(abi.NOTES, notes)


def add_constants(writer: TableWriter, constants: Iterable[tuple[OutSection, int, int, OutSymbol]]) -> None:
    """Runtime constants: section, offset and size (bytes) of each place in code, and the kernel's variable."""
    writer.add(
        abi.CONSTANTS,
        (
            {"site": Pointee(writer.section_symbol(section), offset), "value": Pointee(symbol), "size": size}
            for section, offset, size, symbol in constants
        ),
    )


def add_author_tables(writer: TableWriter, closure: Closure, symbol_of: SymbolOf) -> None:
    """An author's callbacks, sorted by object, and states."""
    kinds = {kind.name.lower(): int(kind) for kind in abi.CallbackKind}
    if closure.callbacks:
        writer.add(
            abi.CALLBACKS,
            (
                {
                    "object": writer.object_name(c.object),
                    "kind": kinds[c.kind],
                    "func": Pointee(symbol_of(c.unit, c.atom.id)),
                }
                for c in sorted(closure.callbacks, key=lambda c: (c.object != VMLINUX, c.object, kinds[c.kind]))
            ),
        )
    if closure.states:
        states = b"".join(abi.STATES.pack(id=id_, version=v) for id_, v in sorted(closure.states.items()))
        writer.value(abi.STATES.symbol, states, align=8)
        writer.value(abi.STATES_SIZE, abi.NUMBER.pack(len(states)), align=8)


def add_assumed(writer: TableWriter, names: Iterable[str]) -> None:
    """Exported functions that no module outside of the kernel may call."""
    writer.add(abi.ASSUMED, ({"name": writer.text(name)} for name in names))


def add_targets(writer: TableWriter, identity: Identity, sizes: Mapping[int, int]) -> None:
    """How to know each target module; and the places that are relocated when one comes, for a module that must clear
    them itself. `sizes` are the bytes of a field by relocation type."""
    writer.add(
        abi.OBJECTS,
        (
            {
                "name": writer.text(t.name),
                "anchor": Pointee(writer.undefined(f"{abi.KLP_SYMBOL}{t.name}.{t.anchor},{t.sympos}")),
                "delta": t.delta,
                "build_id_size": len(t.build_id),
                "build_id": t.build_id,
            }
            for t in identity.targets
        ),
    )
    _resolve_first(writer)
    if not identity.clear_late:
        return
    late = OutSection(abi.LATE.section, SHT.PROGBITS, SHF.ALLOC, align=8)
    rows: list[RowValues] = []
    for section in writer.out.sections:
        for reloc in section.relocs:
            owner = patched_object(reloc.symbol.name)
            if owner not in NO_TARGETS:
                place = Pointee(writer.section_symbol(section), reloc.offset)
                rows.append({"object": writer.text(owner), "site": place, "size": sizes[reloc.type]})
    writer.out.sections.append(late)
    writer.fill(late, abi.LATE, rows)


def _resolve_first(writer: TableWriter) -> None:
    """A table that refers to every symbol of a target module that anything refers to.

    The kernel resolves and relocates section by section, and stops at the first symbol that is missing; a module of the
    same name but another build would leave the patch half relocated, and the right one could not come any more.
    Injection puts this table's relocations first, so that nothing is written in that case.
    """
    names = {
        reloc.symbol.name
        for section in writer.out.sections
        for reloc in section.relocs
        if patched_object(reloc.symbol.name) not in NO_TARGETS
    }
    table = OutSection(abi.RESOLVE_SECTION, SHT.PROGBITS, SHF.ALLOC, align=8)
    for name in sorted(names):
        table.relocs.append(OutReloc(len(table.data), writer.pointer, writer.undefined(name), 0))
        table.data.extend(bytes(8))
    writer.out.sections.append(table)


def add_note(out: OutObject, text: str) -> None:
    """The note that says what the module is, a JSON text (docs/schema/note.md)."""
    desc = text.encode()
    note = abi.NOTE_HEADER.pack(len(abi.NOTE_NAME), len(desc), abi.NOTE_TYPE) + abi.NOTE_NAME + desc
    note += b"\0" * (-len(note) % 4)
    out.sections.append(OutSection(abi.NOTE_SECTION, SHT.NOTE, SHF.ALLOC, bytearray(note), align=4))


def add_modinfo(out: OutObject, namespaces: Iterable[str], fixes: Sequence[str] = ()) -> None:
    """Say in .modinfo which namespaces of exports the module imports, and what it fixes."""
    info = b"".join(f"import_ns={n}\0".encode() for n in sorted(namespaces))
    info += f"{abi.FIXES_KEY}={' '.join(fixes)}\0".encode() if fixes else b""
    if info:
        out.sections.append(OutSection(".modinfo", SHT.PROGBITS, SHF.ALLOC, bytearray(info)))

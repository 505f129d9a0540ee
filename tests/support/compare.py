# SPDX-License-Identifier: GPL-2.0-or-later
"""An independent look at a function in two objects: objdump's instructions, what each relocation finally means, and
the function's entries in the tables beside the code.

Nothing of kgbuild is used here: pyelftools reads the tables, objdump says where instructions end and where branches
without relocations lead.
"""

from __future__ import annotations

import io
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from elftools.elf.elffile import ELFFile

_LINE = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)$")
_TARGET = re.compile(r"<([^>+]+)(?:\+0x([0-9a-f]+))?>$")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
SIZES = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
PC_RELATIVE = {2, 4, 24}
STRINGS, EXECUTABLE = 0x20, 0x4
# Sizes of one entry in bytes (arch/x86/include/asm, include/linux and include/asm-generic, 3.x to 6.12), and how many
# relocations it may have. The first says which code it belongs to.
SITE = {4: (1,)}
ENTRIES = {
    ".altinstructions": {12: (1, 2), 13: (1, 2), 14: (1, 2)},
    ".parainstructions": {16: (1,)},
    "__bug_table": {12: (2,), 8: (1,)},
    "__ex_table": {12: (2, 3), 8: (2,)},
    "__jump_table": {16: (3,), 24: (3,)},
    ".static_call_sites": {8: (2,)},
    "__mcount_loc": {8: (1,)},
    "_kprobe_blacklist": {8: (1,)},
    ".smp_locks": SITE,
    ".retpoline_sites": SITE,
    ".return_sites": SITE,
    ".call_sites": SITE,
    ".orc_unwind_ip": SITE,
}
REPLACEMENT_LENGTH = {12: 11, 13: 11, 14: 13}  # of an alternative: which byte says how long its replacement is


@dataclass(frozen=True)
class Step:
    """One instruction: its bytes with every relocated field zeroed, and what the fields mean."""

    code: str
    means: tuple[str, ...]


@dataclass(frozen=True, order=True)
class TableEntry:
    """One entry of a special section: the table, where in its function it belongs, its bytes with every relocated field
    zeroed, and what the fields mean by their offsets."""

    table: str
    place: int
    raw: str
    means: tuple[tuple[int, str], ...]


class Disassembly:
    """An object, and its functions instruction by instruction."""

    def __init__(self, data: bytes) -> None:
        self.sections = list(ELFFile(io.BytesIO(data)).iter_sections())
        self.by_name = {s.name: s for s in self.sections}
        self.symbols = list(self.by_name[".symtab"].iter_symbols())
        self.relocs: dict[int, dict[int, tuple[int, int, int]]] = {}
        for s in self.sections:
            if s["sh_type"] == "SHT_RELA":
                table = self.relocs.setdefault(s["sh_info"], {})
                for r in s.iter_relocations():
                    if r["r_info_type"]:
                        table[r["r_offset"]] = (r["r_info_type"], r["r_info_sym"], r["r_addend"])
        self._data = data

    @cached_property
    def _blocks(self) -> dict[str, list[str]]:
        """The lines of objdump's output by section."""
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            file.write(self._data)
            file.flush()
            text = subprocess.run(
                ["objdump", "-d", "-w", "--insn-width=16", file.name], capture_output=True, text=True, check=True
            ).stdout
        blocks = (block.partition(":\n") for block in text.split("\nDisassembly of section ")[1:])
        out: dict[str, list[str]] = {}
        for name, _, lines in blocks:
            out.setdefault(name, lines.splitlines())
        return out

    def __contains__(self, name: str) -> bool:
        return any(s.name == name and s["st_info"]["type"] == "STT_FUNC" for s in self.symbols)

    def function(self, name: str) -> list[Step]:
        """The instructions of a function."""
        found = [s for s in self.symbols if s.name == name and s["st_info"]["type"] == "STT_FUNC"]
        assert len(found) == 1, f"{name} is defined {len(found)} times"
        start, size, index = found[0]["st_value"], found[0]["st_size"], found[0]["st_shndx"]
        out = [step for step, _ in self._steps(index, start, start + size, name)]
        assert sum(len(s.code) for s in out) == 2 * size
        return out

    def _steps(self, index: int, start: int, end: int, name: str) -> Iterator[tuple[Step, str]]:
        """The instructions of a stretch of a section, each with its text; `name` is the function they are in."""
        section = self.sections[index]
        for line in self._blocks[section.name]:
            match = _LINE.match(line)
            if match is None or not start <= int(match[1], 16) < end:
                continue
            at, code = int(match[1], 16), bytearray.fromhex(match[2])
            means = []
            for offset, (kind, sym, addend) in sorted(self.relocs.get(index, {}).items()):
                if at <= offset < at + len(code):
                    code[offset - at : offset - at + SIZES[kind]] = bytes(SIZES[kind])
                    bias = at + len(code) - offset if kind in PC_RELATIVE else 0
                    means.append(self.meaning(sym, addend + bias))
            outside = _TARGET.search(match[3])
            if not means and outside is not None and _plain(outside[1]) != _plain(name):
                code[1:] = bytes(len(code) - 1)
                means.append(_spell(outside[1], int(outside[2] or "0", 16)))
            yield Step(code.hex(), tuple(means)), match[3]

    def _up_to_jump(self, index: int, place: int) -> str:
        """Code without a name from a place on, up to the jump that ends it: .fixup of older kernels."""
        out = []
        for step, text in self._steps(index, place, self.sections[index]["sh_size"], ""):
            out.append(f"{step.code} {step.means}")
            if text.startswith("jmp"):
                break
        return f"code {out}"

    # -- entries of special sections -----------------------------------------------------------------------------

    def place(self, name: str) -> tuple[int, int]:
        """Where a function is: its section and the offset there. Aliases have one place."""
        (symbol,) = [s for s in self.symbols if s.name == name and s["st_info"]["type"] == "STT_FUNC"]
        return symbol["st_shndx"], symbol["st_value"]

    def entries(self, name: str) -> list[TableEntry]:
        """A function's entries in every special section, in an order that says nothing."""
        (symbol,) = [s for s in self.symbols if s.name == name and s["st_info"]["type"] == "STT_FUNC"]
        start, size, index = symbol["st_value"], symbol["st_size"], symbol["st_shndx"]
        end = self.sections[index]["sh_size"]
        out = []
        for section, at, place, entry in self.all_entries():
            # an end of unwinding, at the very end of a section, has no function behind it
            if at == index and (start <= place < start + size or place == start + size == end):
                out.append(TableEntry(section, place - start, entry.raw, entry.means))
        return sorted(out)

    def all_entries(self) -> list[tuple[str, int, int, TableEntry]]:
        """Every entry of every special section: the table, the section and the place it belongs to, and the entry."""
        out = []
        for number, section in enumerate(self.sections):
            sizes = ENTRIES.get(section.name)
            if sizes is None or not section["sh_size"]:
                continue
            size = self._entry_size(number, section["sh_size"], sizes)
            for at in range(0, section["sh_size"], size):
                _, sym, addend = self.relocs[number][at]
                owner = self.symbols[sym]
                entry = self._entry(section, number, at, size)
                out.append((section.name, owner["st_shndx"], owner["st_value"] + addend, entry))
        return out

    def _entry_size(self, number: int, total: int, sizes: dict[int, tuple[int, ...]]) -> int:
        """The one size with which every entry begins with a reference to code, and has as many as it may."""
        offsets = sorted(self.relocs[number])
        code = {o for o, (_, sym, _) in self.relocs[number].items() if self._in_code(sym)}

        def fits(size: int, counts: tuple[int, ...]) -> bool:
            entries = [[o - at for o in offsets if at <= o < at + size] for at in range(0, total, size)]
            # the last entry of .parainstructions may lack its padding
            whole = total % size == 0 or len(sizes) == 1
            return whole and code.issuperset(range(0, total, size)) and all(len(e) in counts for e in entries)

        found = [size for size, counts in sizes.items() if fits(size, counts)]
        assert len(found) == 1, f"entries of section {number}, {total} bytes, may have {found or 'no size'} of {sizes}"
        return found[0]

    def _in_code(self, number: int) -> bool:
        index = self.symbols[number]["st_shndx"]
        return isinstance(index, int) and index < 0xFF00 and bool(self.sections[index]["sh_flags"] & EXECUTABLE)

    def _entry(self, section: Any, number: int, at: int, size: int) -> TableEntry:
        raw = bytearray(section.data()[at : at + size].ljust(size, b"\0"))
        means = []
        for offset, (kind, sym, addend) in sorted(self.relocs[number].items()):
            if at < offset < at + size:
                if section.name == ".altinstructions" and offset == at + 4:
                    means.append((4, self._replacement(sym, addend, raw[REPLACEMENT_LENGTH[size]])))
                else:
                    means.append((offset - at, self.meaning(sym, addend)))
            if at <= offset < at + size:
                raw[offset - at : offset - at + SIZES[kind]] = bytes(SIZES[kind])
        if section.name == ".orc_unwind_ip":
            # the table that goes with it has as many entries
            data = self.by_name[".orc_unwind"].data()
            each, rest = divmod(len(data), section["sh_size"] // size)
            assert not rest
            raw += data[at // size * each : (at // size + 1) * each]
        return TableEntry(section.name, 0, raw.hex(), tuple(means))

    def _replacement(self, sym: int, addend: int, length: int) -> str:
        """Code that replaces other: its bytes, and what the fields of its branches mean."""
        symbol = self.symbols[sym]
        index, place = symbol["st_shndx"], symbol["st_value"] + addend
        if not isinstance(index, int) or index >= 0xFF00:  # undefined, or resolved when the module loads
            return f"{length} bytes of {self.meaning(sym, addend)}"
        code = bytearray(self.sections[index].data()[place : place + length])
        assert len(code) == length
        means = []
        for offset, (kind, target, more) in sorted(self.relocs.get(index, {}).items()):
            if place <= offset < place + length:
                code[offset - place : offset - place + SIZES[kind]] = bytes(SIZES[kind])
                means.append(self.meaning(target, more + (SIZES[kind] if kind in PC_RELATIVE else 0)))
        return f"code {code.hex()} {means}"

    def meaning(self, number: int, delta: int) -> str:
        """What a symbol and an offset mean, in words that are the same in every object."""
        symbol = self.symbols[number]
        index = symbol["st_shndx"]
        if not isinstance(index, int) or index >= 0xFF00:
            name = symbol.name
            if name.startswith(".klp.sym."):
                name = name.split(".", 4)[4].rpartition(",")[0]
            return _spell(name, delta)
        section, place = self.sections[index], symbol["st_value"] + delta
        if section["sh_flags"] & STRINGS:
            data = section.data()
            return f"string {data[place : data.index(0, place)]!r}"
        for s in self.symbols:
            named = s["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT") and not s.name.startswith(".L")
            if s["st_shndx"] == index and named and s["st_size"]:
                inside = s["st_value"] <= place < s["st_value"] + s["st_size"]
                if inside or (symbol.name == s.name and number):
                    return _spell(s.name, place - s["st_value"])
        if section.name == ".fixup":
            return self._up_to_jump(index, place)
        content = section.data()[place : place + 16] if section["sh_type"] != "SHT_NOBITS" else b""
        return f"bytes {content.hex()}"


@cache
def disassembly(data: bytes) -> Disassembly:
    """An object that several tests look at, read once."""
    return Disassembly(data)


def _plain(name: str) -> str:
    return _NUMBER.sub("", name)


def _spell(name: str, delta: int) -> str:
    return f"{_plain(name)}{delta:+#x}" if delta else _plain(name)

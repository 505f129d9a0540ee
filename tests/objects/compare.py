# SPDX-License-Identifier: GPL-2.0-or-later
"""An independent look at a function in two objects: objdump's instructions, and what each relocation finally means.

Nothing of kgbuild is used here: pyelftools reads the tables, objdump says where instructions end and where branches
without relocations lead.
"""

from __future__ import annotations

import io
import re
import subprocess
import tempfile
from dataclasses import dataclass

from elftools.elf.elffile import ELFFile

_LINE = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)$")
_TARGET = re.compile(r"<([^>+]+)(?:\+0x([0-9a-f]+))?>$")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
SIZES = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
PC_RELATIVE = {2, 4, 24}
STRINGS = 0x20


@dataclass(frozen=True)
class Step:
    """One instruction: its bytes with every relocated field zeroed, and what the fields mean."""

    code: str
    means: tuple[str, ...]


class Disassembly:
    """An object, and its functions instruction by instruction."""

    def __init__(self, data: bytes) -> None:
        self.elf = ELFFile(io.BytesIO(data))
        self.symbols = list(self.elf.get_section_by_name(".symtab").iter_symbols())
        self.relocs: dict[int, dict[int, tuple[int, int, int]]] = {}
        for s in self.elf.iter_sections():
            if s["sh_type"] == "SHT_RELA":
                table = self.relocs.setdefault(s["sh_info"], {})
                for r in s.iter_relocations():
                    if r["r_info_type"]:
                        table[r["r_offset"]] = (r["r_info_type"], r["r_info_sym"], r["r_addend"])
        with tempfile.NamedTemporaryFile(suffix=".o") as file:
            file.write(data)
            file.flush()
            self._text = subprocess.run(
                ["objdump", "-d", "-w", "--insn-width=16", file.name], capture_output=True, text=True, check=True
            ).stdout

    def __contains__(self, name: str) -> bool:
        return any(s.name == name and s["st_info"]["type"] == "STT_FUNC" for s in self.symbols)

    def function(self, name: str) -> list[Step]:
        """The instructions of a function."""
        found = [s for s in self.symbols if s.name == name and s["st_info"]["type"] == "STT_FUNC"]
        assert len(found) == 1, f"{name} is defined {len(found)} times"
        start, size, index = found[0]["st_value"], found[0]["st_size"], found[0]["st_shndx"]
        section = self.elf.get_section(index)
        block = self._text.split(f"\nDisassembly of section {section.name}:\n")[1].split("\nDisassembly of section")[0]
        out = []
        for line in block.splitlines():
            match = _LINE.match(line)
            if match is None or not start <= int(match[1], 16) < start + size:
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
            out.append(Step(code.hex(), tuple(means)))
        assert sum(len(s.code) for s in out) == 2 * size
        return out

    def meaning(self, number: int, delta: int) -> str:
        """What a symbol and an offset mean, in words that are the same in every object."""
        symbol = self.symbols[number]
        index = symbol["st_shndx"]
        if not isinstance(index, int) or index >= 0xFF00:
            name = symbol.name
            if name.startswith(".klp.sym."):
                name = name.split(".", 4)[4].rpartition(",")[0]
            return _spell(name, delta)
        section, place = self.elf.get_section(index), symbol["st_value"] + delta
        if section["sh_flags"] & STRINGS:
            data = section.data()
            return f"string {data[place : data.index(0, place)]!r}"
        for s in self.symbols:
            named = s["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT") and not s.name.startswith(".L")
            if s["st_shndx"] == index and named and s["st_size"]:
                inside = s["st_value"] <= place < s["st_value"] + s["st_size"]
                if inside or (symbol.name == s.name and number):
                    return _spell(s.name, place - s["st_value"])
        content = section.data()[place : place + 16] if section["sh_type"] != "SHT_NOBITS" else b""
        return f"bytes {content.hex()}"


def _plain(name: str) -> str:
    return _NUMBER.sub("", name)


def _spell(name: str, delta: int) -> str:
    return f"{_plain(name)}{delta:+#x}" if delta else _plain(name)

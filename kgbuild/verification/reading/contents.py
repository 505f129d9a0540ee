# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that asks whether a module is, byte for byte, the one that a proof record was written with: the
digest of each section with its relocations, of the symbols, and of the whole.

A digest is the SHA-256 of a text that says everything the kernel's loader can act on (kernel/module/main.c and
kernel/livepatch/core.c), and that does not change where a file is signed, compressed, or written again by another
linker or by `strip --strip-debug`. The text is made of lines of JSON, see `section_text`. What is left out, because no
kernel acts on it:

- where in the file the parts lie, and in which order sections of the ELF format itself are: string tables, relocations;
- debugging information and comments (`is_debugging`), symbols in such sections, names of source files (STT_FILE), and
  which unnamed section symbols the symbol table happens to have;
- the description in the module's own `.note.gnu.build-id`, which is made of debugging information too; the kernel only
  shows it.

Compression and signature are taken away before (verification/reading/reader.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256

from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.proof.record import CONTENTS_ALGORITHM, ModuleContents
from kgbuild.verification.reading.reader import (
    SHF_ALLOC,
    SHF_RELA_LIVEPATCH,
    SHT_NULL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STT_FILE,
    STT_SECTION,
    ModuleFile,
    ModuleSection,
    ModuleSymbol,
    Reloc,
)

_CODE = "V38-proof-contents"
_BUILD_ID = ".note.gnu.build-id"
_DEBUGGING = (".debug", ".rela.debug", ".zdebug", ".comment", ".note.GNU-stack", ".gnu_debuglink", ".line", ".stab")


def is_debugging(section: ModuleSection) -> bool:
    """Whether a section is only for debuggers: not loaded, and of such a name. The kernel reads .BTF."""
    return not section.flags & SHF_ALLOC and section.name.startswith(_DEBUGGING)


def digest_contents(module: ModuleFile) -> ModuleContents:
    """What a record says of a module."""
    texts = _DigestTexts(module)
    sections = tuple((s.name, _sha(texts.section(s))) for s in texts.counted)
    symbols, header = _sha(texts.symbols()), _sha(texts.header())
    lines = [CONTENTS_ALGORITHM, header, symbols, *(f"{name} {digest}" for name, digest in sections)]
    return ModuleContents(_sha("\n".join(lines)), header, symbols, sections)


def check_contents(module: ModuleFile, recorded: ModuleContents) -> Iterator[Finding]:
    """Every difference between a module and what a record says of it."""
    own = digest_contents(module)
    if own.header != recorded.header:
        yield finding(_CODE, "ELF header", "is not the one of the recorded module")
    if own.symbols != recorded.symbols:
        yield finding(_CODE, ".symtab", "has other symbols than the recorded module, or in another order")
    yield from _check_sections(own.sections, recorded.sections)
    if own.digest != recorded.digest:
        fact = f"its digest is {own.digest[:16]}..., the record has {recorded.digest[:16] or 'none'}..."
        yield finding(_CODE, "the module", fact)


def _check_sections(own: tuple[tuple[str, str], ...], recorded: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    found, wanted = _by_name(own), _by_name(recorded)
    for name in sorted(found.keys() | wanted.keys()):
        if name not in wanted:
            yield finding(_CODE, name, "is in the module, and the record does not have it")
        elif name not in found:
            yield finding(_CODE, name, "is in the record, and the module does not have it")
        elif found[name] != wanted[name]:
            yield finding(_CODE, name, "its header, contents or relocations are not those of the recorded module")
    if [name for name, _ in own] != [name for name, _ in recorded] and found.keys() == wanted.keys():
        yield finding(_CODE, "section headers", "stand in another order than in the recorded module")


def _by_name(rows: tuple[tuple[str, str], ...]) -> Mapping[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, digest in rows:
        out.setdefault(name, []).append(digest)
    return out


def _sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _line(*values: object) -> str:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=True)


class _DigestTexts:
    """The texts that the digests of one module are made of."""

    def __init__(self, module: ModuleFile) -> None:
        self.module = module
        self.attached: dict[int, list[ModuleSection]] = {}
        excluded = {
            section.index
            for section in module.sections
            if section.type in (SHT_NULL, SHT_SYMTAB) or is_debugging(section)
        }
        names = {section.link for section in module.sections if section.type == SHT_SYMTAB} | {module.header[13]}
        excluded |= {
            section.index for section in module.sections if section.index in names and section.type == SHT_STRTAB
        }
        for section in module.sections:
            about = module.sections[section.info] if 0 < section.info < len(module.sections) else None
            ordinary = (
                section.type == SHT_RELA and not section.flags & SHF_RELA_LIVEPATCH and section.index not in excluded
            )
            if ordinary and about is not None and about.type not in (SHT_RELA, SHT_SYMTAB, SHT_STRTAB):
                self.attached.setdefault(section.info, []).append(section)
                excluded.add(section.index)
        self.counted = [section for section in module.sections if section.index not in excluded]

    @cached_property
    def number(self) -> dict[int, int]:
        """What a section is called in the texts: its place among those that count, from 1."""
        return {s.index: position for position, s in enumerate(self.counted, 1)}

    def header(self) -> str:
        """The ELF header without where the section headers are, the first of these, and how symbols and names are
        kept."""
        ident, *rest = self.module.header
        fields = [ident.hex(), *(value for at, value in enumerate(rest, 1) if at not in (6, 12, 13))]
        null = self.module.sections[0]
        lines = [_line(*fields), _line(null.type, null.flags, null.addr, null.size, null.align)]
        for s in self.module.sections[1:]:
            if s.type in (SHT_SYMTAB, SHT_STRTAB) and s.index not in self.number:
                lines.append(_line(s.name, s.type, s.flags, s.addr, s.align, s.entsize))
        return "\n".join(lines)

    def section(self, s: ModuleSection) -> str:
        """One section: its header, its contents, and its relocations in their order.

        [name, type, flags, address, size, alignment, entry size, linked section, section that it is about]
        [SHA-256 of the contents], or for a section of livepatch relocations a line for each: see `_row`
        for each section of ordinary relocations for it: [name, flags, address, alignment, size, entry size], and a
        line for each
        """
        info = self.number.get(s.info, 0) if s.type == SHT_RELA else s.info
        lines = [_line(s.name, s.type, s.flags, s.addr, s.size, s.align, s.entsize, self.number.get(s.link, 0), info)]
        if s.type == SHT_RELA:
            lines += map(self._row, self.module.relocs.get(s.index, ()))
        else:
            lines.append(_line(sha256(self._data(s)).hexdigest()))
        for rela in self.attached.get(s.index, ()):
            lines.append(_line(rela.name, rela.flags, rela.addr, rela.align, rela.size, rela.entsize))
            lines += map(self._row, self.module.relocs.get(rela.index, ()))
        return "\n".join(lines)

    def _data(self, s: ModuleSection) -> bytes:
        if s.name != _BUILD_ID or len(s.data) < 16:
            return s.data
        name_size, size = self.module.unpack("II", s.data)
        start = 12 + (name_size + 3 & ~3)
        return s.data[:start] + bytes(len(s.data[start : start + size])) + s.data[start + size :]

    def _row(self, row: Reloc) -> str:
        """One relocation: [offset, type, addend, symbol]."""
        symbol = self.module.symbol_of(row)
        return _line(row.offset, row.type, row.addend, row.sym if symbol is None else self._meant(symbol))

    def _meant(self, symbol: ModuleSymbol) -> list[object]:
        if symbol.type == STT_SECTION and not symbol.name:
            return ["", symbol.value, symbol.type, self._place(symbol)]
        return [symbol.name, symbol.value, symbol.type, symbol.bind, self._place(symbol)]

    def _place(self, symbol: ModuleSymbol) -> object:
        """The section that a symbol is in, or its special index as text."""
        return self.number.get(symbol.shndx, f"{symbol.shndx:#x}")

    def symbols(self) -> str:
        """Every symbol but those that are left out: [name, value, size, binding, type, visibility, section]."""
        lines = []
        for s in self.module.symbols:
            inside = 0 < s.shndx < len(self.module.sections)
            unnamed = s.type == STT_SECTION and not s.name and not s.value and not s.size
            if s.index == 0 or s.type == STT_FILE or unnamed or (inside and s.shndx not in self.number):
                continue
            lines.append(_line(s.name, s.value, s.size, s.bind, s.type, s.other, self._place(s)))
        return "\n".join(lines)

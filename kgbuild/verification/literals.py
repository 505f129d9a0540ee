# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that concerns strings and constants of the kernel without a symbol (closure/kernel_literals.py).

A module reaches them from an export and a distance. Its note says of each which export, which address and size, and
the SHA-256 of its bytes. Here the bytes are read from vmlinux, and every reference to such an export that leads out of
what the export itself is must lead to one of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.elf.object import Symbol
from kgbuild.model import Finding
from kgbuild.module_abi import NOTE_SECTION
from kgbuild.proof.record import Constant, ProofRecord
from kgbuild.verification.code import DecodedCode
from kgbuild.verification.reading.reader import SHN_UNDEF, ModuleFile, ModuleSection, Reloc

_CODE, _RECORD_CODE = "V35-literal", "V29-proof-binding"


class LiteralImage(Protocol):
    """What is asked of the kernel's vmlinux."""

    def named(self, name: str) -> Sequence[Symbol]: ...
    def read(self, address: int, size: int) -> bytes | None: ...
    def is_init(self, address: int) -> bool: ...


def noted_literals(note: Mapping[str, Any]) -> list[Constant] | None:
    """What a note says of such constants, in order; None where it is no such list."""
    out = []
    tables = note.get("literals", {})
    if not isinstance(tables, dict):
        return None
    for symbol, rows in tables.items():
        if not isinstance(rows, dict):
            return None
        for place, digest in rows.items():
            try:
                address, size = str(place).split(",")
                out.append(Constant(int(address, 16), int(size), str(digest), str(symbol)))
            except ValueError:
                return None
    return sorted(out)


def check_literals(
    module: ModuleFile,
    note: Mapping[str, Any],
    record: ProofRecord | None,
    arch: Arch,
    image: LiteralImage,
    code: DecodedCode,
) -> Iterator[Finding]:
    """The note's constants against the kernel's bytes, the module's references, and a proof record."""
    noted = noted_literals(note)
    if noted is None:
        yield finding(_CODE, NOTE_SECTION, "has constants of the kernel in a form that can't be read")
        return
    for constant in noted:
        held = (
            None
            if constant.size < 1 or image.is_init(constant.address)
            else image.read(constant.address, constant.size)
        )
        if held is None or sha256(held).hexdigest() != constant.digest:
            held_at = f"{constant.size} bytes at {constant.address:#x}"
            fact = f"the note has {held_at} of which the kernel does not have the digest"
            yield finding(_CODE, constant.symbol, fact)
    used: set[int] = set()
    starts = [constant.address for constant in noted]
    for symbol, place, meant in _references(module, {constant.symbol for constant in noted}, arch, image, code):
        at = bisect.bisect_right(starts, meant) - 1
        there = noted[at] if at >= 0 else None
        if there is None or there.symbol != symbol or meant > there.address + there.size:
            yield finding(_CODE, place, f"leads to {meant:#x} by way of {symbol}, and the note has no constant there")
        else:
            used.add(there.address)
    for constant in noted:
        if constant.address not in used:
            yield finding(
                _CODE,
                constant.symbol,
                f"the note has a constant at {constant.address:#x}, and the module refers to none",
            )
    if record is not None:
        recorded = sorted(
            Constant(constant.address, constant.size, constant.digest, constant.symbol) for constant in record.literals
        )
        if recorded != noted:
            yield finding(_RECORD_CODE, NOTE_SECTION, "has other constants of the kernel than the record")


def _references(
    module: ModuleFile, symbols: set[str], arch: Arch, image: LiteralImage, code: DecodedCode
) -> Iterator[tuple[str, str, int]]:
    """References to some exports that lead out of them: symbol, place in the module, address that is meant."""
    extents = {}
    for name in symbols:
        places = {s.value: s.size for s in image.named(name) if not s.is_local}
        if len(places) == 1:
            extents[name] = next(iter(places.items()))
    for section in module.sections[1:]:
        fields: dict[int, int] | None = None
        for row in module.relocs.get(section.index, ()):
            symbol = module.symbol_of(row)
            if symbol is None or symbol.shndx != SHN_UNDEF or symbol.name not in symbols:
                continue
            place = f"{section.name}+{row.offset:#x}"
            if symbol.name not in extents:
                yield symbol.name, place, 0
                continue
            if fields is None:
                fields = _ends(section, code) if section.executable else {}
            start, size = extents[symbol.name]
            meant = start + row.addend + _bias(row, fields, arch)
            if not start <= meant < start + max(size, 1):
                yield symbol.name, place, meant


def _ends(section: ModuleSection, code: DecodedCode) -> dict[int, int]:
    """By offset of a PC-relative field, how far behind it its instruction ends."""
    return {i.field_offset: i.offset + i.length - i.field_offset for i in code.instructions(section).values()}


def _bias(row: Reloc, fields: dict[int, int], arch: Arch) -> int:
    return fields.get(row.offset, 0) if row.type in arch.relocs.pc_relative else 0

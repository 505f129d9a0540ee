# SPDX-License-Identifier: GPL-2.0-or-later
"""Which source line code comes from, by the DWARF line tables. Read with pyelftools, and only when needed."""

from __future__ import annotations

import io
import posixpath
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from kgbuild.arch import for_object
from kgbuild.elf.consts import SHF
from kgbuild.elf.object import Object, Section
from kgbuild.elf.records import PREFIX
from kgbuild.limits import SECTION_BYTES

_SET_ADDRESS = 2  # DW_LNE_set_address


@dataclass(frozen=True)
class SourceLine:
    """From `offset` of its section on, code comes from this line; `file` is "" for the unit's own file."""

    offset: int
    file: str
    line: int


def read_lines(obj: Object) -> dict[int, list[SourceLine]]:
    """The line table of each section, by section index, sorted by offset. Empty if there is no DWARF or it can't be
    matched to the code.

    Every sequence in .debug_line begins with an address; the relocation of that address tells which section is meant.
    """
    section = obj.section_named(".debug_line")
    if section is None or obj.section_named(".debug_info") is None or not _is_bounded(obj):
        return {}
    from elftools.common.exceptions import DWARFError, ELFError

    try:
        return _read(obj, section)
    except (ELFError, DWARFError, zlib.error, struct.error, LookupError, ValueError, ArithmeticError):
        return {}
    except (AttributeError, TypeError):  # pyelftools takes for granted what damaged tables do not have
        return {}


def _is_bounded(obj: Object) -> bool:
    """Whether compressed sections say that they grow to no more than can be taken: pyelftools asks for that much."""
    header = obj.records.compressed
    sizes = [
        header.unpack_from(obj.contents(s.index))[2] if s.size >= header.size else 0
        for s in obj.sections
        if s.flags & SHF.COMPRESSED
    ]
    return all(sizes) and sum(sizes) <= SECTION_BYTES.most


def _read(obj: Object, section: Section) -> dict[int, list[SourceLine]]:
    from elftools.elf.elffile import ELFFile

    elf: Any = ELFFile(io.BytesIO(bytes(obj.data)))
    dwarf: Any = elf.get_dwarf_info(relocate_dwarf_sections=False)
    dwarf.debug_info_sec = _relocated(obj, dwarf.debug_info_sec)
    dwarf.debug_line_sec = _relocated(obj, dwarf.debug_line_sec)
    rows = obj.relocs(section.index)
    rows = rows[rows["offset"].argsort(kind="stable")]
    # references to file names have four bytes (DWARF 5), addresses eight
    wide = {kind for kind, size in for_object(obj).relocs.sizes.items() if size == 8}
    sections = [
        int(obj.symbols[sym]["shndx"])
        for kind, sym in zip(rows["type"].tolist(), rows["sym"].tolist(), strict=True)
        if kind in wide
    ]
    programs: dict[int, tuple[Any, str]] = {}
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is not None:
            programs.setdefault(program.program_start_offset, (program, posixpath.basename(_name(unit))))
    out: dict[int, list[SourceLine]] = {}
    number = -1
    for _, (program, own) in sorted(programs.items()):
        shift = 0 if program["version"] >= 5 else 1
        names = [posixpath.basename(e.name.decode("utf-8", "replace")) for e in program["file_entry"]]
        for entry in program.get_entries():
            if entry.is_extended and entry.command == _SET_ADDRESS:
                number += 1
            state = entry.state
            if state is None or state.end_sequence or not 0 <= number < len(sections):
                continue
            at = state.file - shift
            name = names[at] if 0 <= at < len(names) else "?"
            out.setdefault(sections[number], []).append(
                SourceLine(state.address, "" if name == own else name, state.line)
            )
    if number + 1 != len(sections):
        return {}
    for table in out.values():
        table.sort(key=lambda row: row.offset)
    return out


def _relocated(obj: Object, descriptor: Any) -> Any:
    """A section as pyelftools has it, with its relocations applied: of all sections at once pyelftools takes longer
    than the rest of a build."""
    import numpy as np

    section = obj.section_named(descriptor.name)
    if section is None:
        return descriptor
    rows, sizes = obj.relocs(section.index), for_object(obj).relocs.sizes
    data = np.frombuffer(descriptor.stream.getvalue(), np.uint8).copy()
    values = obj.symbols["value"][rows["sym"]].astype(np.uint64) + rows["addend"].astype(np.uint64)
    parts = values.astype(f"{PREFIX[obj.records.order]}u8").view(np.uint8).reshape(-1, 8)
    kinds = np.array([sizes.get(kind, 0) for kind in rows["type"].tolist()])
    for size in (4, 8):
        chosen = kinds == size
        low = parts[chosen][:, :size] if obj.records.order == "little" else parts[chosen][:, 8 - size :]
        data[rows["offset"][chosen][:, None].astype(np.int64) + np.arange(size)] = low
    return descriptor._replace(stream=io.BytesIO(data.tobytes()))


def _name(unit: Any) -> str:
    name = unit.get_top_DIE().attributes.get("DW_AT_name")
    return str(name.value.decode("utf-8", "replace")) if name is not None else ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which declaration a static local variable comes from, by DWARF.

gcc numbers static locals anew in every compile, so `count.4` of one object may be `count.5` of the other, and the two
may have swapped owners. The debugging entry says which function declares a variable, and on which line; #line keeps
the lines of unchanged source where they were. Read with pyelftools, only for objects where it is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kgbuild.elf.consts import SHF
from kgbuild.elf.object import Object
from kgbuild.elf.read import CHDR, FormatError

_MAX_SECTION = 1 << 28  # bytes of debugging information, decompressed; more is not believed
_MAX_DEPTH = 256


@dataclass(frozen=True)
class Declaration:
    """A static local's declaration: declaring function, variable, line."""

    function: str
    name: str
    line: int


def read_static_locals(obj: Object) -> dict[tuple[int, int], Declaration]:
    """Declarations by (section index, offset) of every variable declared inside a function; empty without DWARF.

    Raises FormatError for debugging information that can't be read.
    """
    section = obj.section_named(".debug_info")
    if section is None:
        return {}
    for s in obj.sections:
        if s.flags & SHF.COMPRESSED and s.size >= CHDR.size:
            size = CHDR.unpack_from(obj.contents(s.index))[2]
            if size > _MAX_SECTION:
                raise FormatError(s.offset + 8, f"{s.name} is said to have {size:#x} bytes when decompressed")
    try:
        return _read(obj)
    except FormatError:
        raise
    except Exception as error:  # pyelftools has no family of errors of its own: KeyError, AssertionError and others
        fact = f"debugging information can't be read ({type(error).__name__}: {error})"
        raise FormatError(section.offset, fact) from error


def _read(obj: Object) -> dict[tuple[int, int], Declaration]:
    from elftools.elf.elffile import ELFFile

    elf: Any = ELFFile(io.BytesIO(bytes(obj.data)))
    dwarf: Any = elf.get_dwarf_info(relocate_dwarf_sections=True)
    places = _address_places(obj)
    out: dict[tuple[int, int], Declaration] = {}
    for unit in dwarf.iter_CUs():
        for child in _children(unit.get_top_DIE()):
            if child.tag == "DW_TAG_subprogram":
                _walk(child, _name(child), places, out)
    return out


def _children(die: Any) -> Iterator[Any]:
    """A DIE's children. A sibling that is said to come earlier would be followed for ever."""
    last = -1
    for child in die.iter_children():
        if child.offset <= last:
            raise ValueError(f"DIE at {last:#x} has a sibling at {child.offset:#x}")
        last = child.offset
        yield child


def _name(die: Any) -> str:
    for _ in range(4):
        if "DW_AT_name" in die.attributes:
            return str(die.attributes["DW_AT_name"].value.decode("utf-8", "replace"))
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in die.attributes:
                die = die.get_DIE_from_attribute(link)
                break
        else:
            return ""
    return ""


def _address_places(obj: Object) -> dict[int, tuple[int, int]]:
    """Where in .debug_info an address is relocated -> (section, offset) that it means."""
    section = obj.section_named(".debug_info")
    assert section is not None
    out = {}
    rows = obj.relocs(section.index)
    for offset, kind, sym, addend in zip(
        rows["offset"].tolist(), rows["type"].tolist(), rows["sym"].tolist(), rows["addend"].tolist(), strict=True
    ):
        del kind
        row = obj.symbols[sym]
        out[offset] = (int(row["shndx"]), int(row["value"]) + addend)
    return out


def _walk(
    die: Any,
    function: str,
    places: dict[int, tuple[int, int]],
    out: dict[tuple[int, int], Declaration],
    depth: int = 0,
) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"blocks nest deeper than {_MAX_DEPTH}")
    for child in _children(die):
        if child.tag == "DW_TAG_variable":
            location = child.attributes.get("DW_AT_location")
            # DW_OP_addr (3) and the address: a static; the relocation stands one byte into the expression
            if location is None or not isinstance(location.value, list) or location.value[:1] != [3]:
                continue
            place = next((places[at] for at in _operand_offsets(location) if at in places), None)
            if place is not None:
                line = child.attributes.get("DW_AT_decl_line")
                out[place] = Declaration(function, _name(child), int(line.value) if line is not None else 0)
        elif child.tag in ("DW_TAG_lexical_block", "DW_TAG_inlined_subroutine"):
            _walk(child, function, places, out, depth + 1)


def _operand_offsets(location: Any) -> tuple[int, ...]:
    """Offsets in .debug_info at which the operand of a DW_OP_addr expression can stand: behind the length of the
    block (one byte for exprloc and block1, more for the larger forms) and the opcode."""
    return tuple(location.offset + length + 1 for length in (1, 2, 4))

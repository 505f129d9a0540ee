# SPDX-License-Identifier: GPL-2.0-or-later
"""What a finished module says of itself: its .modinfo, its note, and its table of patched functions.

Everything is read as far as it goes; a table that is broken gives findings. Nothing is raised.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import VMLINUX, Finding
from kgbuild.module_abi import (
    CALLBACKS,
    FUNCTIONS,
    KLP_SYMBOL,
    NOTE_HEADER,
    NOTE_NAME,
    NOTE_SECTION,
    NOTE_TYPE,
)
from kgbuild.verification.reading.reader import (
    ModuleFile,
)

_LIVEPATCH = re.compile(re.escape(KLP_SYMBOL) + r"([^.]+)\.([^,]+),(\d+)")


class LivepatchName(NamedTuple):
    """What the name of a livepatch symbol says: a symbol of an object, at a position among those of its name."""

    object: str
    name: str
    sympos: int


def livepatch_name(text: str) -> LivepatchName | None:
    """What `.klp.sym.OBJECT.NAME,POSITION` says; None for what has another form."""
    match = _LIVEPATCH.fullmatch(text)
    return LivepatchName(match[1], match[2], int(match[3])) if match is not None else None


def livepatch_object(text: str) -> str:
    """The object that a livepatch symbol of any form names; "" for another symbol."""
    return text.removeprefix(KLP_SYMBOL).partition(".")[0] if text.startswith(KLP_SYMBOL) else ""


def modinfo(module: ModuleFile) -> dict[str, list[str]]:
    """Values of .modinfo by key."""
    out: dict[str, list[str]] = {}
    for section in module.by_name.get(".modinfo", ()):
        for item in section.data.split(b"\0"):
            key, equals, value = item.decode("utf-8", "replace").partition("=")
            if equals:
                out.setdefault(key, []).append(value)
    return out


def read_note(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """The JSON of a .note.kgbuild section, or None and what is wrong with it."""
    if len(data) < 12:
        return None, f"{len(data)} bytes are too few for a note"
    namesz, descsz, kind = NOTE_HEADER.unpack_from(data)
    start = 12 + (namesz + 3 & ~3)
    if data[12 : 12 + namesz] != NOTE_NAME or kind != NOTE_TYPE:
        return None, "is no note of owner kgbuild, type 1"
    if start + descsz > len(data):
        return None, f"says {descsz} bytes and has {max(len(data) - start, 0)}"
    try:
        value = json.loads(data[start : start + descsz])
    except ValueError as error:
        return None, f"is no JSON text: {error}"
    return (value, "") if isinstance(value, dict) else (None, "is no JSON object")


def note_of(module: ModuleFile) -> dict[str, Any] | None:
    """The JSON of a module's note, None where it has none that can be read."""
    section = module.section(NOTE_SECTION)
    return read_note(section.data)[0] if section is not None else None


@dataclass(frozen=True)
class PatchedFunction:
    """One row of kgbuild_funcs as read: what it replaces, and where the replacement is (None: nowhere)."""

    object: str
    name: str
    sympos: int
    section: int | None
    offset: int


def _text_at(module: ModuleFile, section: int, offset: int) -> str | None:
    """The string a pointer field leads to, "" where the field is a null pointer, None where it leads nowhere."""
    reloc = module.at(section, offset)
    if reloc is None:
        return ""
    place = module.place_of(reloc)
    if place is None or not 0 <= place[1] < len(place[0].data):
        return None
    end = place[0].data.find(b"\0", place[1])
    return place[0].data[place[1] : end].decode("utf-8", "replace") if end >= 0 else None


def read_function_table(module: ModuleFile) -> tuple[list[PatchedFunction], list[Finding]]:
    """The rows of kgbuild_funcs up to the empty one, and what is wrong with the table itself."""
    code, place = "V11-function", FUNCTIONS.symbol
    data = module.object_bytes(place)
    if data is None:
        return [], [finding(code, place, "is missing")]
    symbol = module.global_symbols[place][0]
    faults = []
    if len(data) % FUNCTIONS.size:
        faults.append(finding(code, place, f"{len(data)} bytes are no whole number of {FUNCTIONS.size}"))
    rows: list[PatchedFunction] = []
    for at in FUNCTIONS.rows(data):
        start = symbol.value + at
        object_name, name = (_text_at(module, symbol.shndx, start + FUNCTIONS.offsets[f]) for f in ("object", "name"))
        if name == "":
            last = at + FUNCTIONS.size == len(data)
            fields = [module.at(symbol.shndx, start + FUNCTIONS.offsets[f]) for f in ("object", "func")]
            if not last or any(data[at:]) or any(fields):
                faults.append(
                    finding(code, place, f"row {at // FUNCTIONS.size} has no name and is not the empty last one")
                )
            break
        if name is None or object_name is None:
            faults.append(finding(code, place, f"row {at // FUNCTIONS.size} points to no text"))
            continue
        sympos = FUNCTIONS.number(data, at, "sympos")
        reloc = module.at(symbol.shndx, start + FUNCTIONS.offsets["func"])
        target = module.place_of(reloc) if reloc is not None else None
        section, offset = (target[0].index, target[1]) if target is not None else (None, 0)
        rows.append(PatchedFunction(object_name or VMLINUX, name, sympos, section, offset))
    else:
        faults.append(finding(code, place, "does not end with an empty row"))
    if not rows and module.object_bytes(CALLBACKS.symbol) is None:
        faults.append(finding(code, place, "names no function"))
    return rows, faults


def replacements_of(functions: list[PatchedFunction]) -> list[tuple[str, tuple[int, int]]]:
    """Where the replacements of each object begin."""
    return [(f.object, (f.section, f.offset)) for f in functions if f.section is not None]

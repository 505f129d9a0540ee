# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the digests in the module's note, and a proof record, with the kernel.

What a module replaces and is bound to is read from the module itself: its table of functions, its livepatch symbols.
The note must have the digest of each function among them, and no other; a record must have each of them, functions and
data, and no other; and every digest, address and size is computed again from the kernel's own files, read by LIEF
where they are modules. Nothing is compiled. The digest is described in proof/record.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.elf.object import Symbol
from kgbuild.model import Finding
from kgbuild.module_abi import NOTE_SECTION
from kgbuild.proof.record import DATA, FUNCTION, MADE, NOTE_SCHEMA, BoundSymbol, ProofRecord, SymbolKey, compute_digest
from kgbuild.verification.modules import VMLINUX, Shipped, ShippedLookup
from kgbuild.verification.reading.reader import SHN_LORESERVE, SHN_UNDEF, STT_FUNC, ModuleFile, ModuleSymbol

_ORIGIN_CODE = "V39-proof-origin"
_NOTE_CODE, _RECORD_CODE, _BINDING_CODE = "V28-note-digest", "V30-proof-digest", "V29-proof-binding"


class ProofImage(Protocol):
    """What is asked of the kernel's vmlinux."""

    def read(self, address: int, size: int) -> bytes | None: ...
    def section_at(self, address: int) -> str: ...


def place_in_vmlinux(image: ProofImage, name: str, sympos: int, symbol: Symbol) -> BoundSymbol:
    """A symbol of vmlinux as a record has it."""
    kind = FUNCTION if symbol.is_function else DATA
    digest = compute_digest(image.read(symbol.value, symbol.size) or b"") if kind == FUNCTION else ""
    return BoundSymbol(VMLINUX, name, sympos, kind, image.section_at(symbol.value), symbol.value, symbol.size, digest)


def place_in_module(shipped: Shipped, sympos: int, symbol: ModuleSymbol, arch: Arch) -> BoundSymbol:
    """A symbol of a module as a record has it."""
    file = shipped.file
    inside = 0 < symbol.shndx < len(file.sections)
    section = file.sections[symbol.shndx].name if inside else ""
    kind = FUNCTION if symbol.type == STT_FUNC else DATA
    digest = _digest(file, symbol, arch) if kind == FUNCTION and inside else ""
    return BoundSymbol(shipped.name, symbol.name, sympos, kind, section, symbol.value, symbol.size, digest)


def _digest(file: ModuleFile, symbol: ModuleSymbol, arch: Arch) -> str:
    end = symbol.value + symbol.size
    references = []
    for offset, rows in file.targets.get(symbol.shndx, {}).items():
        if not symbol.value <= offset < end:
            continue
        for row in rows:
            target = file.symbol_of(row)
            if target is None:
                continue
            leads = (target.name, row.addend)
            if SHN_UNDEF < target.shndx < min(len(file.sections), SHN_LORESERVE):
                leads = (file.sections[target.shndx].name, target.value + row.addend)
            size = arch.relocs.sizes.get(row.type, 0)
            references.append((offset - symbol.value, size, row.type, *leads))
    return compute_digest(file.sections[symbol.shndx].data[symbol.value : end], references)


# -- the note --------------------------------------------------------------------------------------------------------


def note_digests(note: Mapping[str, Any]) -> dict[SymbolKey, str] | None:
    """The digests that a note states: of the functions it replaces and of those it is bound to; None where the note is
    of a form that has none."""
    out: dict[SymbolKey, str] = {}
    functions, bound = note.get("functions"), note.get("bound")
    if not isinstance(functions, list) or not isinstance(bound, dict):
        return None
    for row in functions:
        if not isinstance(row, dict) or not isinstance(row.get("digest"), str):
            return None
        out[(str(row.get("object")), str(row.get("name")), _number(row.get("sympos")))] = row["digest"]
    for object_name, rows in bound.items():
        if not isinstance(rows, dict):
            return None
        for symbol, digest in rows.items():
            name, _, position = str(symbol).rpartition(",")
            out[(object_name, name, _number(position))] = str(digest)
    return out


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else -1


def check_note_digests(note: Mapping[str, Any], places: Iterable[BoundSymbol]) -> Iterator[Finding]:
    """A digest for each function that the module replaces or is bound to, and the kernel's own."""
    if note.get("schema") != NOTE_SCHEMA:
        yield finding(
            _NOTE_CODE, NOTE_SECTION, f"is of schema {note.get('schema')!r}, digests are in that of {NOTE_SCHEMA}"
        )
        return
    stated = note_digests(note)
    if stated is None:
        yield finding(_NOTE_CODE, NOTE_SECTION, "has no digests of the functions that the module is bound to")
        return
    there = {p.key: p for p in places if p.kind == FUNCTION}
    for key in sorted(stated.keys() - there.keys()):
        yield finding(_NOTE_CODE, _name(key), "has a digest in the note, and the module does not refer to it")
    for key, place in sorted(there.items()):
        if key not in stated:
            yield finding(_NOTE_CODE, _name(key), "the module refers to it, and the note has no digest of it")
        elif stated[key] != place.digest:
            fact = (
                f"the note has the digest {stated[key][:16] or 'none'}..., the kernel's function {place.digest[:16]}..."
            )
            yield finding(_NOTE_CODE, _name(key), fact)


def _name(key: SymbolKey) -> str:
    object_name, name, sympos = key
    position = f",{sympos}" if sympos else ""
    return f"{name}{position}" if object_name == VMLINUX else f"{object_name}:{name}{position}"


# -- a record --------------------------------------------------------------------------------------------------------


def check_record(
    record: ProofRecord,
    replaced: Iterable[BoundSymbol],
    bound: Iterable[BoundSymbol],
    note: Mapping[str, Any] | None,
    build_id: str,
    modules: ShippedLookup,
) -> Iterator[Finding]:
    """A proof record against what the module replaces and is bound to, and against the kernel.

    Input: places as the kernel's files have them; the module's note; vmlinux's build-id (hex).
    """
    ids = {VMLINUX: build_id}
    for name in {p.object for p in record.replaced} - {VMLINUX}:
        shipped = modules(name)
        ids[name] = shipped.build_id if shipped is not None else ""
    for name in sorted(ids.keys() | record.build_ids.keys()):
        stated, own = record.build_ids.get(name, ""), ids.get(name, "")
        if stated != own:
            fact = f"the record is for build-id {stated or 'none'}, the kernel's is {own or 'none'}"
            yield finding(_BINDING_CODE, name, fact)
    if record.module is not None:
        yield from _check_origin(record, note)
    allowed = note.get("allowed") if note is not None else None
    if allowed != [f"{option} {value}".strip() for option, value in record.allowed]:
        yield finding(_BINDING_CODE, NOTE_SECTION, "has other accepted risks than the record")
    for what, found, recorded in (("replaces", replaced, record.replaced), ("is bound to", bound, record.bound)):
        yield from _check_places(what, {p.key: p for p in found}, recorded)


def _check_origin(record: ProofRecord, note: Mapping[str, Any] | None) -> Iterator[Finding]:
    """How the module was made, by the record and by the module; and whether the module names this record."""
    for key in MADE:
        stated = note.get(key) if note is not None else None
        if stated != record.made.get(key):
            yield finding(_ORIGIN_CODE, NOTE_SECTION, f"record and note differ in {key}")
    stated = note.get("record") if note is not None else None
    if stated != record.digest:
        fact = f"the note names the record {str(stated)[:16]}..., this one is {record.digest[:16]}..."
        yield finding(_ORIGIN_CODE, NOTE_SECTION, fact)


def _check_places(
    what: str, found: Mapping[SymbolKey, BoundSymbol], recorded: tuple[BoundSymbol, ...]
) -> Iterator[Finding]:
    seen: set[SymbolKey] = set()
    for place in recorded:
        if place.key in seen:
            yield finding(_BINDING_CODE, _name(place.key), "is in the record twice")
        seen.add(place.key)
        own = found.get(place.key)
        if own is None:
            yield finding(_BINDING_CODE, _name(place.key), f"is in the record, and the module {what} no such symbol")
            continue
        for field in ("kind", "section", "address", "size", "digest"):
            said, value = getattr(place, field), getattr(own, field)
            if said != value:
                text = (hex(v) if field == "address" else f"{v}"[:16] or "none" for v in (said, value))
                fact = " ".join(("the record has the", field, next(text) + ",", "the kernel", next(text)))
                yield finding(_RECORD_CODE, _name(place.key), fact)
    for key in sorted(found.keys() - seen):
        yield finding(_BINDING_CODE, _name(key), f"the module {what} it, and the record does not have it")

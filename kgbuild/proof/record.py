# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof record: what a patch replaces in the running kernel and what it is bound to there, each with a digest that
whoever has the kernel's own files can compute again, without compiling anything.

The digest (ALGORITHM kgbuild-sha256-1) of a function of size n is the SHA-256 of

  1. the n bytes at its symbol in the file of the kernel's package, as they stand there: vmlinux before alternatives and
     static calls are patched in, a .ko before it is relocated; in a .ko the field of each relocation is taken as zeros;
  2. in a .ko, for each relocation whose field begins among these bytes, by offset, type and target, the text
     "\\n<offset from the function, hex> <type, decimal> <target><number, decimal, with its sign>": the name of an
     undefined symbol and the addend, or the name of the section of what the file defines itself, and how far from the
     section's beginning that is, the addend counted.

In vmlinux references are resolved: what a field holds is the place it leads to, and the build-id fixes what lies there.
In a .ko the relocations say it. A symbol of no size has the digest "", and so has data, which changes while the kernel
runs: there the place is all that is bound to.

Record and module name each other. The record has a digest of each section of the module and of the whole
(CONTENTS_ALGORITHM, described in verification/reading/contents.py); the module's note has the digest of all else in
the record (`digest_record`). So a field of either that is changed alone is found, also such as nobody could compute
again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from typing import Any, TypeVar

SCHEMA, OLD_SCHEMA, VERSION = "kgbuild/proof/2", "kgbuild-proof", 2
_FIRST_SCHEMA = "kgbuild/proof/1"
ALGORITHM = "kgbuild-sha256-1"
CONTENTS_ALGORITHM = "kgbuild-module-sha256-1"
NOTE_SCHEMA = 2  # of the module's note (docs/schema/note.md): since it has digests
FUNCTION, DATA = "function", "data"

T = TypeVar("T", "BoundSymbol", "Constant")
# object, name, sympos
SymbolKey = tuple[str, str, int]


class BadRecord(ValueError):
    """A record that can't be read: args[0] is the place in it, args[1] the fact."""


@dataclass(frozen=True, order=True)
class BoundSymbol:
    """One symbol of the running kernel that a patch replaces or is bound to.

    object     vmlinux, or a module's name; sympos its position there
    kind       function or data
    section    of the kernel's file; address in vmlinux (link time), in a module the offset in the section
    size       bytes by the symbol table
    digest     see above
    evidence   how it is known that this is what the patch means
    proven     false where the user accepted it by --allow-unproven
    """

    object: str
    name: str
    sympos: int
    kind: str
    section: str
    address: int
    size: int
    digest: str
    evidence: str = ""
    proven: bool = True

    @property
    def key(self) -> SymbolKey:
        return self.object, self.name, self.sympos


@dataclass(frozen=True, order=True)
class Constant:
    """A string or constant of vmlinux that has no symbol and that the patch is bound to.

    address   link time; size in bytes
    digest    SHA-256 (hex) of its bytes, as the compiler made them of the patched source
    symbol    the export that it is reached from
    evidence  how its place is known
    """

    address: int
    size: int
    digest: str
    symbol: str
    evidence: str = ""


@dataclass(frozen=True)
class ModuleContents:
    """Digests (hex) of a finished module: of the whole, of its ELF header, of its symbols, and of each section in the
    file's order, as (name, digest)."""

    digest: str
    header: str
    symbols: str
    sections: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ProofRecord:
    """What a module replaces and is bound to; `build_ids` (hex) of vmlinux and of each module that it patches.

    `module` says what the finished module is, and `made` and `digest` what the record says besides: plain values by
    key, and `digest_record` of all but `module`. All three are None or empty before there is a module.
    """

    build_ids: Mapping[str, str]
    replaced: tuple[BoundSymbol, ...]
    bound: tuple[BoundSymbol, ...]
    allowed: tuple[tuple[str, str], ...] = ()
    literals: tuple[Constant, ...] = ()
    module: ModuleContents | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    @property
    def digests(self) -> dict[SymbolKey, str]:
        """The digest of every function in it."""
        return {p.key: p.digest for p in (*self.replaced, *self.bound) if p.kind == FUNCTION}


def compute_digest(data: bytes, references: Iterable[tuple[int, int, int, str, int]] = ()) -> str:
    """The digest of a function, hex. `references` are (offset, size in bytes of the field, type, target, number), of a
    relocatable file only."""
    plain = bytearray(data)
    lines = []
    for offset, size, kind, target, number in sorted(references):
        end = min(offset + size, len(data))
        plain[offset:end] = bytes(end - offset)
        lines.append(f"\n{offset:x} {kind} {target}{number:+d}")
    return sha256(bytes(plain) + "".join(lines).encode()).hexdigest() if data else ""


# What a record says of how the module was made; the module's note says the same.
MADE = ("tool", "kernel", "patches", "options")


def digest_record(value: Mapping[str, Any]) -> str:
    """The digest (hex) of a record as plain values, whatever it says of the module's contents: the SHA-256 of its JSON
    without `module`, keys sorted, no blanks."""
    core = {key: what for key, what in value.items() if key != "module"}
    return sha256(json.dumps(core, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def contents_json(contents: ModuleContents) -> dict[str, Any]:
    """`module` of a record as plain values."""
    return {
        "digest": contents.digest,
        "algorithm": CONTENTS_ALGORITHM,
        "header": contents.header,
        "symbols": contents.symbols,
        "sections": [{"name": name, "digest": digest} for name, digest in contents.sections],
    }


# -- as a file -------------------------------------------------------------------------------------------------------


def record_json(record: ProofRecord) -> dict[str, Any]:
    """The record as plain values (docs/schema/proof-2.json), without how the module was made and what it is."""

    def rows(places: Iterable[BoundSymbol | Constant]) -> list[dict[str, Any]]:
        return [{**asdict(p), "address": hex(p.address)} for p in places]

    return {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "digest": ALGORITHM,
        "build_ids": dict(record.build_ids),
        "allowed": [{"option": option, "value": value} for option, value in record.allowed],
        "replaced": rows(record.replaced),
        "bound": rows(record.bound),
        "literals": rows(record.literals),
    }


def parse_record(value: object) -> ProofRecord:
    """A record from plain values. Raises BadRecord for one of another version, or with something missing."""
    top = _object(value, "the record")
    if top.get("schema") not in (SCHEMA, _FIRST_SCHEMA, OLD_SCHEMA):
        raise BadRecord("schema", f"is {top.get('schema')!r}, not {SCHEMA!r}")
    if top.get("schema_version") == 1:
        fact = "is 1: it has no digests of the module, which version 2 has; build the module and its record again"
        raise BadRecord("schema_version", fact)
    if top.get("schema_version") != VERSION or top.get("digest") != ALGORITHM:
        said = f"version {top.get('schema_version')!r}, digest {top.get('digest')!r}"
        raise BadRecord("schema_version", f"is {said}; this kgbuild reads version {VERSION}, {ALGORITHM!r}")
    ids = _object(top.get("build_ids"), "build_ids")
    if not all(isinstance(v, str) for v in ids.values()):
        raise BadRecord("build_ids", "does not hold texts")
    allowed = []
    for i, row in enumerate(_list(top.get("allowed"), "allowed")):
        item = _object(row, f"allowed[{i}]")
        option, chosen = item.get("option"), item.get("value")
        if not isinstance(option, str) or not isinstance(chosen, str):
            raise BadRecord(f"allowed[{i}]", "does not hold option and value as texts")
        allowed.append((option, chosen))
    replaced, bound = (
        tuple(_read(BoundSymbol, row, f"{key}[{i}]") for i, row in enumerate(_list(top.get(key), key)))
        for key in ("replaced", "bound")
    )
    literals = tuple(
        _read(Constant, row, f"literals[{i}]") for i, row in enumerate(_list(top.get("literals"), "literals"))
    )
    made = {key: top[key] for key in MADE if key in top}
    if len(made) != len(MADE):
        raise BadRecord("the record", f"is without {', '.join(key for key in MADE if key not in made)}")
    module, build_ids = _read_contents(top.get("module")), {str(k): str(v) for k, v in ids.items()}
    return ProofRecord(build_ids, replaced, bound, tuple(allowed), literals, module, made, digest_record(top))


def _read_contents(value: object) -> ModuleContents:
    top = _object(value, "module")
    if top.get("algorithm") != CONTENTS_ALGORITHM:
        raise BadRecord("module.algorithm", f"is {top.get('algorithm')!r}; this kgbuild reads {CONTENTS_ALGORITHM!r}")
    digest, header, symbols = (top.get(key) for key in ("digest", "header", "symbols"))
    sections = []
    for i, row in enumerate(_list(top.get("sections"), "module.sections")):
        item = _object(row, f"module.sections[{i}]")
        sections.append((item.get("name"), item.get("digest")))
    if not all(
        isinstance(text, str) for text in (digest, header, symbols, *(text for pair in sections for text in pair))
    ):
        raise BadRecord("module", "does not hold names and digests as texts")
    rows = tuple((str(name), str(digest)) for name, digest in sections)
    return ModuleContents(str(digest), str(header), str(symbols), rows)


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRecord(place, "is no object")
    return value


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRecord(place, "is no list")
    return value


def _read(kind: type[T], value: object, where: str) -> T:
    row = dict(_object(value, where))
    names = {f.name: str(f.type) for f in fields(kind)}
    if set(row) != set(names):
        odd = sorted(set(row) ^ set(names))
        raise BadRecord(where, f"does not have, or should not have, {', '.join(odd)}")
    try:
        row["address"] = int(row["address"], 16)
    except (TypeError, ValueError) as error:
        raise BadRecord(where, f"address {row['address']!r} is no hexadecimal number") from error
    for name, wanted in names.items():
        if type(row[name]).__name__ != wanted:
            raise BadRecord(where, f"{name} is {row[name]!r}")
    return kind(**row)

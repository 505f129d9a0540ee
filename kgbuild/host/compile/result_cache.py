# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a compile: one side of a unit, by the content of all that went into it.

A result (FORMAT) is the length of a JSON text in bytes (u64, little-endian), that text, the object. The text has
`clones`, gcc's dump with files named as in the kernel tree ("" of a compiler without the option), and `optimized`,
[file, line, text] of each place in what the compiler read that gives single functions options of their own.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass

from kgbuild.host.kernels.kbuild import compiler_version
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand

FORMAT = "compile-names-1"


@dataclass(frozen=True)
class CompiledSide:
    """The object, gcc's dump of clones (text), and where functions have options of their own (file, line, text)."""

    data: bytes
    clones: str
    optimized: tuple[tuple[str, int, str], ...]

    @property
    def packed(self) -> bytes:
        text = json.dumps({"clones": self.clones, "optimized": self.optimized}).encode()
        return struct.pack("<Q", len(text)) + text + self.data


def unpack(result: bytes | None) -> CompiledSide | None:
    """A result from the bytes that were kept of it."""
    if result is None:
        return None
    end = 8 + int.from_bytes(result[:8], "little")
    head = json.loads(result[8:end])
    optimized = tuple((file, line, what) for file, line, what in head["optimized"])
    return CompiledSide(result[end:], head["clones"], optimized)


def identity_of(kernel: Kernel) -> list[str]:
    """What all compiles for a kernel have in common. Raises ToolError without its compiler."""
    outside = [kernel.outside.digest] if kernel.outside is not None else []
    return [FORMAT, kernel.id.build_id, compiler_version(kernel), *outside]


def result_key(identity: list[str], unit: UnitCommand, side: str) -> str:
    """Where the cache keeps a side of a unit: "" for the original, else the digest of the patched texts."""
    return hashlib.sha256(json.dumps([*identity, unit.argv, unit.objtool, side]).encode()).hexdigest()


def find_original(kernel: Kernel, unit: UnitCommand, cache: Cache) -> CompiledSide | None:
    """What an earlier build has left of a unit's original; None where there is nothing. Nothing is compiled."""
    return unpack(cache.get(result_key(identity_of(kernel), unit, "")))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Cached results of compiles: one side of a unit, keyed by the content of all its inputs.

A result (FORMAT) is the length of a JSON text in bytes (u64, little-endian), that text, and the object. The text has
`clones`, gcc's dump with files named as in the kernel tree ("" for a compiler without the option), and `optimized`, the
[file, line, text] of each place that gives single functions compiler options of their own.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass

from kgbuild.host.kernels.kbuild import compiler_version
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand

FORMAT = "compile-names-2"


@dataclass(frozen=True)
class CompiledSide:
    """The object, gcc's report on clones, and where functions have compiler options of their own (file, line, text)."""

    data: bytes
    clones: str
    optimized: tuple[tuple[str, int, str], ...]

    @property
    def packed(self) -> bytes:
        text = json.dumps({"clones": self.clones, "optimized": self.optimized}).encode()
        return struct.pack("<Q", len(text)) + text + self.data


def unpack(result: bytes | None) -> CompiledSide | None:
    """A result from its cached bytes."""
    if result is None:
        return None
    end = 8 + int.from_bytes(result[:8], "little")
    head = json.loads(result[8:end])
    optimized = tuple((file, line, what) for file, line, what in head["optimized"])
    return CompiledSide(result[end:], head["clones"], optimized)


def identity_of(kernel: Kernel) -> list[str]:
    """The part of the cache key that all compiles for a kernel share. Raises ToolError without its compiler."""
    outside = [kernel.outside.digest] if kernel.outside is not None else []
    return [FORMAT, kernel.id.build_id, compiler_version(kernel), *outside]


def result_key(identity: list[str], unit: UnitCommand, side: str) -> str:
    """The cache key for a side of a unit: `side` is "" for the original, else the digest of the patched texts."""
    return hashlib.sha256(json.dumps([*identity, unit.argv, unit.objtool, side]).encode()).hexdigest()


def find_original(kernel: Kernel, unit: UnitCommand, cache: Cache) -> CompiledSide | None:
    """The cached result for a unit's original; None if there is none. Nothing is compiled."""
    return unpack(cache.get(result_key(identity_of(kernel), unit, "")))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof record of the small module in memory."""

from __future__ import annotations

from typing import Any

from kgbuild.proof.record import BoundSymbol, ProofRecord
from tests.support.small_module import BUILD_ID, HELPER, OLD, FakeImage

FAKE = FakeImage()


def place(name: str, address: int, kind: str = "function", **fields: Any) -> BoundSymbol:
    known: dict[str, Any] = {"object": "vmlinux", "sympos": 0, "section": ".text", "size": 16, "evidence": "own bytes"}
    known["digest"] = FAKE.digest(name, 0) if kind == "function" else ""
    return BoundSymbol(name=name, address=address, kind=kind, **{**known, **fields})


# what Small replaces and is bound to
GOOD = ProofRecord(
    {"vmlinux": BUILD_ID.hex()},
    (place("old", OLD),),
    (
        place("__start_notes", 0x7000, "data"),
        place("__stop_notes", 0x7100, "data"),
        place("helper", HELPER),
        place("old", OLD),
    ),
)

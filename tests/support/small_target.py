# SPDX-License-Identifier: GPL-2.0-or-later
"""A good live patch module for a loadable module, made in memory, in parts that a test can spoil."""

from __future__ import annotations

import dataclasses
import hashlib
import struct

from kgbuild.elf.consts import SHT, STB, STT
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.model import Finding
from kgbuild.verification.modules import Shipped
from kgbuild.verification.reading.reader import read_module
from tests.support.small_module import FACTS, R_64, R_PLT32, A, Small, W, X, check

TARGET_ID = bytes(range(50, 70))


CALL_FENTRY = b"\xe8\0\0\0\0\xc3"


def shipped_ext4(name: str = "ext4") -> Shipped:
    """ext4 as its package has it: `old`, two `twin` around one in init memory, `plain` without a trace site."""
    out = OutObject(62)
    note = struct.pack("<III", 4, 20, 3) + b"GNU\0" + TARGET_ID
    out.sections.append(OutSection(".note.gnu.build-id", SHT.NOTE, A, bytearray(note), 4))
    fentry = OutSymbol("__fentry__", bind=STB.GLOBAL)
    out.symbols.append(fentry)
    text = OutSection(".text", SHT.PROGBITS, A | X, bytearray(CALL_FENTRY * 4), 16)
    init = OutSection(".init.text", SHT.PROGBITS, A | X, bytearray(CALL_FENTRY), 16)
    data = OutSection(".data", SHT.PROGBITS, A | W, bytearray(8), 8)
    text.relocs += [OutReloc(at * len(CALL_FENTRY) + 1, R_PLT32, fentry, -4) for at in range(3)]
    init.relocs.append(OutReloc(1, R_PLT32, fentry, -4))
    out.sections += [text, init, data, OutSection(".modinfo", SHT.PROGBITS, A, bytearray(b"name=ext4\0"))]
    for symbol, section, at, kind in (
        ("old", text, 0, STT.FUNC),
        ("twin", text, 6, STT.FUNC),
        ("boot", init, 0, STT.FUNC),
        ("twin", init, 0, STT.FUNC),
        ("twin", text, 12, STT.FUNC),
        ("table", data, 0, STT.OBJECT),
    ):
        out.symbols.append(OutSymbol(symbol, section, at, 6, STB.LOCAL, kind))
    out.symbols.append(OutSymbol("plain", text, 18, 6, STB.GLOBAL, STT.FUNC))
    return Shipped(name, read_module(write(out), f"{name}.ko", 62), frozenset({"jbd2"}))


KNOWN = {"ext4": shipped_ext4(), "jbd2": shipped_ext4("jbd2"), "xfs": shipped_ext4("xfs")}


MODULE_FACTS = dataclasses.replace(FACTS, modules=KNOWN.get)


class SmallTarget(Small):
    """A good module that patches `old` of ext4 and calls its `table` too, both bound late."""

    def __init__(self) -> None:
        super().__init__()
        self.note["build_ids"] = {"vmlinux": FACTS.build_id, "ext4": TARGET_ID.hex()}
        self.patch("ext4", "old")
        late = self.sections[".klp.rela.vmlinux..text.new"]
        late.name = ".klp.rela.ext4..text.new"
        self.symbols[".klp.sym.vmlinux.helper,0"].name = ".klp.sym.ext4.table,0"

    def digest(self, object_name: str, name: str, sympos: int) -> str:
        """All functions of the small ext4 are alike but one, which calls nothing."""
        if object_name == "vmlinux":
            return super().digest(object_name, name, sympos)
        if object_name not in KNOWN or name not in ("old", "twin", "boot", "plain") or sympos > 3:
            return ""
        calls = b"" if name == "plain" else b"\n1 4 __fentry__-4"
        return hashlib.sha256(CALL_FENTRY + calls).hexdigest()

    def patch(self, object_name: str, name: str, sympos: int = 0) -> None:
        """Make the one row of the table, and the note, name this function."""
        texts = self.sections[".rodata.kgbuild_strings"]
        texts.data[:] = name.encode() + b"\0" + object_name.encode() + b"\0"
        self.table.data[24:32] = struct.pack("<Q", sympos)
        self.table.relocs[2:] = [OutReloc(0, R_64, self.table.relocs[0].symbol, len(name) + 1)]
        self.note["functions"] = [{"object": object_name, "name": name, "sympos": sympos}]

    @property
    def bound(self) -> OutSymbol:
        """The livepatch symbol that the new code is bound to in ext4."""
        return self.symbols[".klp.sym.vmlinux.helper,0"]


def check_target(small: SmallTarget) -> list[Finding]:
    return check(small.data, facts=MODULE_FACTS)

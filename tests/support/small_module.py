# SPDX-License-Identifier: GPL-2.0-or-later
"""A good live patch module made in memory, in parts that a test can spoil, and the small kernel that it is for."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from typing import Any

from kgbuild.arch import arch_of
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.object import Symbol
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.kernel.exports import Export
from kgbuild.model import Finding
from kgbuild.proof.record import ProofRecord, contents_json, digest_record, record_json
from kgbuild.verification.checks import check_module
from kgbuild.verification.kernel_facts import KernelFacts
from kgbuild.verification.reading.contents import digest_contents
from kgbuild.verification.reading.reader import read_module

ARCH = arch_of(62)


R_64, R_PC32, R_PLT32 = 1, 2, 4


BUILD_ID = bytes(range(20))


VERMAGIC = "6.1.0-test SMP mod_unload modversions "


NAME = "livepatch-small.ko"


FENTRY, OLD, HELPER, INIT, PLAIN, TWIN = 0x1000, 0x2000, 0x3000, 0x9000, 0x4000, 0x5000


A, W, X = SHF.ALLOC, SHF.WRITE, SHF.EXECINSTR


class FakeImage:
    """A kernel of a few symbols: two are named `twin`, `plain` has no trace site, `boot` is in init memory."""

    def __init__(self) -> None:
        rows = [
            ("__fentry__", FENTRY, STT.FUNC),
            ("old", OLD, STT.FUNC),
            ("helper", HELPER, STT.FUNC),
            ("plain", PLAIN, STT.FUNC),
            ("twin", TWIN, STT.FUNC),
            ("twin", TWIN + 0x100, STT.FUNC),
            ("boot", INIT, STT.FUNC),
            ("table", 0x6000, STT.OBJECT),
            ("__start_notes", 0x7000, STT.NOTYPE),
            ("__stop_notes", 0x7100, STT.NOTYPE),
            ("__SCT__call", 0x7200, STT.FUNC),
        ]
        self.symbols = [Symbol(i, name, at, 16, STB.GLOBAL, kind, 0, 1) for i, (name, at, kind) in enumerate(rows, 1)]

    def named(self, name: str) -> list[Symbol]:
        return [s for s in self.symbols if s.name == name]

    def in_kallsyms(self, symbol: Symbol) -> bool:
        return not symbol.name.startswith(".L")

    def read(self, address: int, size: int) -> bytes | None:
        if address == PLAIN:
            return b"\x55" * size
        prefix = b"\xf3\x0f\x1e\xfa" if address == TWIN else b""
        call = struct.pack("<Bi", 0xE8, FENTRY - (address + len(prefix) + 5))
        return (prefix + call).ljust(size, b"\x90")

    @property
    def sealed(self) -> frozenset[int]:
        return frozenset()

    def is_init(self, address: int) -> bool:
        return INIT <= address < INIT + 0x100

    def section_at(self, address: int) -> str:
        return ".init.text" if self.is_init(address) else ".text"

    def digest(self, name: str, sympos: int) -> str:
        """The digest of a function at a position, "" where there is none."""
        found = self.named(name)[max(sympos - 1, 0) :]
        if not found or found[0].type != STT.FUNC:
            return ""
        return hashlib.sha256(self.read(found[0].value, found[0].size) or b"").hexdigest()


EXPORTS = {
    e.name: e
    for e in (
        Export("module_layout", 0x11111111, "vmlinux", "EXPORT_SYMBOL", ""),
        Export("__fentry__", 0x22222222, "vmlinux", "EXPORT_SYMBOL", ""),
        Export("__x86_return_thunk", 0x33333333, "vmlinux", "EXPORT_SYMBOL", ""),
        Export("spaced", 0x44444444, "vmlinux", "EXPORT_SYMBOL_GPL", "SPACE"),
        Export("elsewhere", 0x55555555, "fs/other", "EXPORT_SYMBOL", ""),
    )
}


FACTS = KernelFacts(BUILD_ID.hex(), VERMAGIC, EXPORTS, FakeImage(), module_size=64)


# call __fentry__; nop (5 bytes, a static branch); ud2; lock nop place; jmp return thunk
CODE = bytes.fromhex("e800000000 0f1f440000 0f0b f0ff00 e800000000 e900000000".replace(" ", ""))


JUMP, BUG, LOCK, CALL, RETURN = 5, 10, 12, 15, 20


class Small:
    """A good module, in parts that a test can spoil before `data` writes it; `image` is the vmlinux it is for."""

    image = FakeImage()

    def __init__(self) -> None:
        self.out = OutObject(62)
        self.sections: dict[str, OutSection] = {}
        self.symbols: dict[str, OutSymbol] = {}
        self.note = {
            "build_ids": {"vmlinux": BUILD_ID.hex()},
            "functions": [{"object": "vmlinux", "name": "old", "sympos": 0}],
        }
        self.info = ["livepatch=Y", "license=GPL", "name=livepatch_small", f"vermagic={VERMAGIC}", "depends="]
        self.versions = {n: EXPORTS[n].crc for n in ("module_layout", "__fentry__", "__x86_return_thunk")}
        for name in self.versions:
            if name != "module_layout":
                self.undefined(name)
        for name in ("old", "helper", "__start_notes", "__stop_notes"):
            self.livepatch(f".klp.sym.vmlinux.{name},0")
        self._code()
        self._special()
        self._tables()

    def section(self, name: str, flags: int, data: bytes = b"", kind: int = SHT.PROGBITS, align: int = 1) -> OutSection:
        made = OutSection(name, kind, flags, bytearray(data), align)
        self.out.sections.append(made)
        self.sections[name] = made
        return made

    def symbol(self, made: OutSymbol) -> OutSymbol:
        self.out.symbols.append(made)
        self.symbols[made.name] = made
        return made

    def undefined(self, name: str, bind: int = STB.GLOBAL) -> OutSymbol:
        return self.symbol(OutSymbol(name, bind=bind))

    def livepatch(self, name: str) -> OutSymbol:
        return self.symbol(OutSymbol(name, bind=STB.GLOBAL, shndx=SHN.LIVEPATCH))

    def late(self, target: str, *relocs: OutReloc) -> OutSection:
        flags = SHF.ALLOC | SHF.INFO_LINK | SHF.RELA_LIVEPATCH
        made = OutSection(f".klp.rela.vmlinux.{target}", SHT.RELA, flags, info_section=self.sections[target])
        made.relocs.extend(relocs)
        self.out.sections.append(made)
        self.sections[made.name] = made
        return made

    def _code(self) -> None:
        text = self.section(".text.new", A | X, CODE, align=16)
        for at, name in ((1, "__fentry__"), (RETURN + 1, "__x86_return_thunk")):
            text.relocs.append(OutReloc(at, R_PLT32, self.symbols[name], -4))
        self.symbol(OutSymbol("new", text, 0, len(CODE), STB.LOCAL, STT.FUNC))
        self.late(".text.new", OutReloc(CALL + 1, R_PLT32, self.symbols[".klp.sym.vmlinux.helper,0"], -4))
        for name in ("init", "cleanup"):
            section = self.section(".init.text" if name == "init" else ".exit.text", A | X, b"\xc3")
            self.symbol(OutSymbol(f"{name}_module", section, 0, 1, STB.GLOBAL, STT.FUNC))
        self.section(".alt_pad", A, b"\0")
        self.section(".altinstr_replacement", A | X, b"\x0f\xae\xe8")

    def entries(self, name: str, size: int, *places: tuple[int, int], flags: int = A, kind: int = R_PC32) -> OutSection:
        """A special section of one entry; `places` are (offset in it, offset in the new code)."""
        made = self.section(name, flags, bytes(size))
        for at, to in places:
            made.relocs.append(OutReloc(at, kind, self.symbols["new"], to))
        return made

    def _special(self) -> None:
        self.entries("__mcount_loc", 8, (0, 0), kind=R_64)
        self.entries("__jump_table", 16, (0, JUMP), (4, BUG), flags=A | W)
        self.sections["__jump_table"].relocs.append(OutReloc(8, 24, self.symbols["__fentry__"], 0))
        self.entries("__bug_table", 12, (0, BUG), (4, 0), flags=A | W)
        self.entries(".smp_locks", 4, (0, LOCK))
        self.entries(".return_sites", 4, (0, RETURN))
        self.entries(".orc_unwind_ip", 8, (0, 0), (4, len(CODE)))
        self.section(".orc_unwind", A, bytes(12))
        self.entries(".altinstructions", 12, (0, JUMP))
        self.sections[".altinstructions"].data[10:12] = b"\x05\x03"
        replacement = self.symbol(OutSymbol("", self.sections[".altinstr_replacement"], type=STT.SECTION))
        self.sections[".altinstructions"].relocs.append(OutReloc(4, R_PC32, replacement, 0))

    def _tables(self) -> None:
        self.section(".rodata.kgbuild_strings", A, b"old\0")
        texts = self.symbol(OutSymbol("", self.sections[".rodata.kgbuild_strings"], type=STT.SECTION))
        self.table = self.section(".rodata.kgbuild_funcs", A, bytes(64), align=8)
        self.table.relocs += [OutReloc(8, R_64, texts, 0), OutReloc(16, R_64, self.symbols["new"], 0)]
        self.data_object("kgbuild_funcs", self.table)
        for name, value in (("kgbuild_build_id", BUILD_ID), ("kgbuild_build_id_size", struct.pack("<I", 20))):
            self.data_object(name, self.section(f".rodata.{name}", A, value))
        self.data_object("kgbuild_notes", self.section(".rodata.kgbuild_notes", A, bytes(16), align=8))
        start, stop = (self.symbols[f".klp.sym.vmlinux.__{n}_notes,0"] for n in ("start", "stop"))
        self.late(".rodata.kgbuild_notes", OutReloc(0, R_64, start, 0), OutReloc(8, R_64, stop, 0))
        for name in (".modinfo", "__versions"):
            self.section(name, A)
        self.section(".note.kgbuild", A, kind=SHT.NOTE, align=4)
        self.section(".gnu.linkonce.this_module", A | W, bytes(64))

    def data_object(self, name: str, section: OutSection) -> None:
        self.symbol(OutSymbol(name, section, 0, len(section.data), STB.GLOBAL, STT.OBJECT))

    def rename_function(self, name: str, sympos: int = 0) -> None:
        """Make the one row of the table, and the note, name another function of the kernel."""
        self.sections[".rodata.kgbuild_strings"].data[:] = name.encode() + b"\0"
        self.table.data[24:32] = struct.pack("<Q", sympos)
        self.note["functions"] = [{"object": "vmlinux", "name": name, "sympos": sympos}]

    def digest(self, object_name: str, name: str, sympos: int) -> str:
        """The digest of a function of the kernel, "" where it has none there."""
        return self.image.digest(name, sympos) if object_name == "vmlinux" else ""

    def note_with_digests(self) -> dict[str, object]:
        """The note, with the digests of what the module names at this moment, where a test has not put others."""
        note: dict[str, Any] = dict(self.note)
        note["functions"] = [
            {"digest": self.digest(r["object"], r["name"], r["sympos"]), **r} for r in note["functions"]
        ]
        if "bound" not in note:
            bound: dict[str, dict[str, str]] = {}
            for symbol in self.out.symbols:
                found = re.fullmatch(r"\.klp\.sym\.([^.]+)\.([^,]+),(\d+)", symbol.name)
                if found is None or symbol.shndx != SHN.LIVEPATCH:
                    continue
                if digest := self.digest(found[1], found[2], int(found[3])):
                    bound.setdefault(found[1], {})[f"{found[2]},{found[3]}"] = digest
            note["bound"] = bound
        return {"schema": 2, "allowed": [], **note}

    @property
    def data(self) -> bytes:
        if not self.sections[".modinfo"].data:
            self.sections[".modinfo"].data.extend("".join(f"{i}\0" for i in self.info).encode())
        if not self.sections["__versions"].data:
            for name, crc in self.versions.items():
                self.sections["__versions"].data.extend(struct.pack("<Q56s", crc, name.encode()))
        if not self.sections[".note.kgbuild"].data:
            text = json.dumps(self.note_with_digests()).encode()
            head = struct.pack("<III", 8, len(text), 1) + b"kgbuild\0"
            self.sections[".note.kgbuild"].data.extend(head + text + b"\0" * (-len(text) % 4))
        return write(self.out)


def check(data: bytes, name: str = NAME, facts: KernelFacts = FACTS) -> list[Finding]:
    return check_module(read_module(data, name, 62), name, ARCH, facts)


def complete_record(small: Small, record: ProofRecord) -> dict[str, Any]:
    """A proof record as `build` writes it, as plain values, of a module that has not been written yet and is now: each
    names the other. `record` says what the module replaces and is bound to."""
    options = {"backend": "klp", "replace": True, "pull": "proof", "ignore_init": False}
    options |= {"on_top_of": [], "drop": [], "oot": False, "oot_modules": [], "against": []}
    options |= {"allow_compiler": False, "allow_unproven": [], "allow_type": []}
    made: dict[str, Any] = {"tool": "kgbuild 1", "patches": [{"name": "fix.patch", "sha256": "12" * 32}]}
    made |= {"kernel": {"name": "k", "version": "1", "compiler": "gcc"}, "options": options}
    value = {**made, **record_json(record)}
    small.note.update({**made, "record": digest_record(value)})
    contents = digest_contents(read_module(small.data, NAME, 62))
    return {**value, "module": contents_json(contents)}

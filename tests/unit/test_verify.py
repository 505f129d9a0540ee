# SPDX-License-Identifier: GPL-2.0-or-later
"""verify: a good module has no finding, and each rule is broken once, in a small module made in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest

from kgbuild.arch import arch_of
from kgbuild.diagnostics.module_findings import finding, in_order
from kgbuild.elf.consts import SHF, SHN, SHT, STB, STT
from kgbuild.elf.object import Symbol
from kgbuild.elf.write import OutObject, OutReloc, OutSection, OutSymbol, write
from kgbuild.errors import UserError
from kgbuild.kernel.exports import Export
from kgbuild.model import Finding
from kgbuild.verification.checks import KernelFacts, check_module
from kgbuild.verification.reader import read_module

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


def test_a_good_module_has_no_finding() -> None:
    assert check(Small().data) == []


def rename(m: Small, old: str, new: str) -> None:
    m.symbols[old].name = new


def klp(name: str, new: str) -> Callable[[Small], object]:
    """A spoiler that renames a livepatch symbol."""
    return lambda m: rename(m, f".klp.sym.vmlinux.{name},0", new)


def put(section: str, offset: int, data: bytes) -> Callable[[Small], object]:
    """A spoiler that overwrites bytes of a section."""

    def spoil(m: Small) -> None:
        m.sections[section].data[offset : offset + len(data)] = data

    return spoil


def move(section: str, number: int, **fields: object) -> Callable[[Small], object]:
    """A spoiler that changes a relocation of a section."""

    def spoil(m: Small) -> None:
        for field, value in fields.items():
            setattr(m.sections[section].relocs[number], field, value)

    return spoil


def change(section: str, **fields: object) -> Callable[[Small], object]:
    """A spoiler that changes a section's header."""

    def spoil(m: Small) -> None:
        for field, value in fields.items():
            setattr(m.sections[section], field, value)

    return spoil


def swap_info(old: str, new: str) -> Callable[[Small], object]:
    return lambda m: m.info.__setitem__(m.info.index(old), new)


def misplace(m: Small) -> None:
    """A livepatch symbol relocated by a normal section."""
    late = m.sections[".klp.rela.vmlinux..text.new"]
    m.sections[".text.new"].relocs.append(late.relocs[0])
    m.out.sections.remove(late)


def ordinary_in_late(m: Small) -> None:
    m.sections[".klp.rela.vmlinux..text.new"].relocs[0].symbol = m.symbols["__fentry__"]


def parameter_of_another(m: Small) -> None:
    """A parameter whose module is bound by a livepatch symbol, so another one."""
    section = m.section("__param", A, bytes(40))
    section.relocs.append(OutReloc(8, 1, m.sections[".klp.rela.vmlinux..text.new"].relocs[0].symbol, 0))


def same_target(m: Small) -> None:
    m.sections[".text.new"].relocs.append(OutReloc(CALL + 1, R_PLT32, m.symbols["__fentry__"], -4))


def second_late(m: Small) -> None:
    m.late(".text.new")


def twice(m: Small) -> None:
    m.table.data[:] = bytes(96)
    m.symbols["kgbuild_funcs"].size = 96
    m.table.relocs += [OutReloc(r.offset + 32, r.type, r.symbol, r.addend) for r in m.table.relocs]
    m.note["functions"] = [{"object": "vmlinux", "name": "old", "sympos": 0}] * 2


def no_end(m: Small) -> None:
    m.symbols["kgbuild_funcs"].size = 32


def other_object(m: Small) -> None:
    m.sections[".rodata.kgbuild_strings"].data.extend(b"ext4\0")
    m.table.relocs.append(OutReloc(0, R_64, m.table.relocs[0].symbol, 4))
    m.note["functions"] = [{"object": "ext4", "name": "old", "sympos": 0}]


def no_name(m: Small) -> None:
    m.out.symbols.remove(m.symbols["init_module"])


def unlist(section: str) -> Callable[[Small], object]:
    return lambda m: m.out.sections.remove(m.sections[section])


def cut(section: str, size: int) -> Callable[[Small], object]:
    def spoil(m: Small) -> None:
        del m.sections[section].data[size:]

    return spoil


NOTES = ".klp.rela.vmlinux..rodata.kgbuild_notes"
LONG = "x" * 512
SPOILERS: list[tuple[str, Callable[[Small], object]]] = [
    ("V1-identity", put(".rodata.kgbuild_build_id", 3, b"\xff")),
    ("V1-identity", put(".rodata.kgbuild_build_id_size", 0, b"\x10")),
    ("V1-identity", put(".note.kgbuild", 0, b"junk, no note at all")),
    ("V1-identity", unlist(".note.kgbuild")),
    ("V1-identity", lambda m: m.note.update(build_ids={"vmlinux": "00" * 20})),
    ("V1-identity", lambda m: m.note.update(build_ids=[])),
    ("V1-identity", lambda m: m.note.update(functions=[])),
    ("V1-identity", move(NOTES, 0, offset=8)),
    ("V2-vermagic", swap_info(f"vermagic={VERMAGIC}", "vermagic=6.1.0-other SMP ")),
    ("V3-sympos", klp("helper", ".klp.sym.vmlinux.helper,2")),
    ("V3-sympos", klp("helper", ".klp.sym.vmlinux.nothing,0")),
    ("V3-sympos", klp("helper", ".klp.sym.vmlinux.twin,0")),
    ("V3-sympos", lambda m: m.rename_function("twin", 3)),
    ("V3-sympos", lambda m: m.rename_function("twin", 0)),
    ("V4-modinfo", swap_info("livepatch=Y", "livepatch=N")),
    ("V4-modinfo", swap_info("license=GPL", "license=Proprietary")),
    ("V4-modinfo", swap_info("name=livepatch_small", "name=other")),
    ("V4-modinfo", lambda m: m.undefined("kgr_patch_kernel")),
    ("V4-modinfo", swap_info("depends=", "depends=ext4")),
    ("V4-modinfo", swap_info("depends=", "alias=net-pf-1")),
    ("V5-crc", lambda m: m.versions.update(__fentry__=1)),
    ("V5-crc", lambda m: m.versions.pop("__fentry__")),
    ("V5-crc", lambda m: m.versions.pop("module_layout")),
    ("V5-crc", lambda m: m.versions.update(unknown=1)),
    ("V5-crc", put("__versions", 0, bytes(65))),
    ("V6-undefined", lambda m: m.undefined("nowhere")),
    ("V6-undefined", lambda m: m.undefined("elsewhere")),
    ("V6-undefined", lambda m: m.undefined("mine", STB.LOCAL)),
    ("V7-namespace", lambda m: (m.undefined("spaced"), m.versions.update(spaced=0x44444444))),
    ("V8-livepatch-symbol", klp("old", ".klp.sym.vmlinux.old")),
    ("V8-livepatch-symbol", klp("old", ".klp.sym.vmlinux.old,x")),
    ("V8-livepatch-symbol", klp("old", "old")),
    ("V9-object", klp("old", ".klp.sym.ext4.old,0")),
    ("V9-object", other_object),
    ("V10-init-memory", klp("old", ".klp.sym.vmlinux.boot,0")),
    ("V10-init-memory", lambda m: m.rename_function("boot")),
    ("V11-function", twice),
    ("V11-function", no_end),
    ("V11-function", lambda m: m.rename_function("table")),
    ("V11-function", move(".rodata.kgbuild_funcs", 1, addend=5)),
    ("V11-function", lambda m: m.out.symbols.remove(m.symbols["kgbuild_funcs"])),
    ("V12-not-traceable", lambda m: m.rename_function("plain")),
    ("V13-reloc-type", move(".text.new", 0, type=9)),
    ("V14-reloc-place", put(".text.new", 1, b"\x01")),
    ("V14-reloc-place", move(".rodata.kgbuild_funcs", 0, offset=1000)),
    ("V14-reloc-place", same_target),
    ("V15-livepatch-section", change(NOTES, flags=SHF.ALLOC | SHF.INFO_LINK)),
    ("V15-livepatch-section", change(NOTES, name=".klp.rela.vmlinux..rodata.other")),
    ("V15-livepatch-section", change(NOTES, name=".klp.rela.vmlinux")),
    ("V15-livepatch-section", second_late),
    ("V16-reloc-symbol", misplace),
    ("V16-reloc-symbol", ordinary_in_late),
    ("V17-section-flags", change(".text.new", flags=A | X | W)),
    ("V17-section-flags", change(".rodata.kgbuild_strings", flags=A | W)),
    ("V17-section-flags", change(".rodata.kgbuild_strings", flags=A | X)),
    ("V17-section-flags", change("__versions", flags=0)),
    ("V17-section-flags", lambda m: m.section(".bss", A | W, b"\0")),
    ("V18-section-name", lambda m: m.section(".data..percpu..shared_aligned", A | W, b"\0")),
    ("V18-section-name", lambda m: m.section(".data.once", A | W, b"\0") and m.section(".data.once", A | W, b"\0")),
    ("V18-section-name", lambda m: m.section(".modinfo", A, b"a=b\0")),
    ("V19-leftover", lambda m: m.section("__ksymtab_gpl", A, bytes(12))),
    ("V19-leftover", lambda m: m.section(".initcall6.init", A, bytes(4))),
    ("V19-leftover", lambda m: m.section("__param", A, bytes(39))),
    ("V19-leftover", parameter_of_another),
    ("V20-special", cut("__bug_table", 11)),
    ("V20-special", move("__bug_table", 0, offset=2)),
    ("V20-special", move("__bug_table", 0, addend=BUG - 1)),
    ("V20-special", move("__bug_table", 0, addend=1000)),
    ("V20-special", put(".altinstructions", 11, b"\x04")),
    ("V20-special", lambda m: m.sections["__jump_table"].relocs.pop()),
    ("V20-special", cut(".orc_unwind", 6)),
    ("V21-site", move("__bug_table", 0, addend=JUMP)),
    ("V21-site", move("__jump_table", 0, addend=BUG)),
    ("V21-site", move(".smp_locks", 0, addend=BUG)),
    ("V21-site", move("__mcount_loc", 0, addend=CALL)),
    ("V21-site", move(".return_sites", 0, addend=CALL)),
    ("V22-unlisted-site", unlist("__mcount_loc")),
    ("V22-unlisted-site", unlist(".return_sites")),
    ("V22-unlisted-site", lambda m: rename(m, ".klp.sym.vmlinux.helper,0", ".klp.sym.vmlinux.__SCT__call,0")),
    ("V23-symbol", no_name),
    ("V23-symbol", lambda m: m.data_object("cleanup_module", m.table)),
    ("V23-symbol", lambda m: m.symbol(OutSymbol("common", bind=STB.GLOBAL, shndx=SHN.COMMON))),
    ("V24-name-length", klp("old", f".klp.sym.vmlinux.{LONG},0")),
    ("V24-name-length", klp("old", f".klp.sym.{'o' * 56}.old,0")),
    ("V24-name-length", swap_info("name=livepatch_small", f"name={'n' * 56}")),
    ("V25-this-module", unlist(".gnu.linkonce.this_module")),
    ("V25-this-module", cut(".gnu.linkonce.this_module", 56)),
    ("V35-literal", lambda m: m.note.update(literals=[])),
    ("V35-literal", lambda m: m.note.update(literals={"__fentry__": {"0x5000,4": "00" * 32}})),
]


@pytest.mark.parametrize(("code", "spoil"), SPOILERS, ids=[f"{i}-{code}" for i, (code, _) in enumerate(SPOILERS)])
def test_what_is_spoiled_is_found(code: str, spoil: Callable[[Small], object]) -> None:
    small = Small()
    spoil(small)
    found = check(small.data)
    assert code in {f.code for f in found}
    assert all(f.place and f.fact and f.remedy for f in found)


def test_all_findings_come_at_once_and_in_the_order_of_the_registry() -> None:
    small = Small()
    small.versions["__fentry__"] = 1
    small.info[0] = "livepatch=N"
    small.rename_function("plain")
    assert [f.code for f in check(small.data)] == ["V4-modinfo", "V5-crc", "V12-not-traceable"]


def test_order_has_no_repetition() -> None:
    late, early = finding("V12-not-traceable", "a", "b"), finding("V2-vermagic", "a", "b")
    assert in_order([late, early, late]) == [early, late]


@pytest.mark.parametrize("sympos", [1, 2])
def test_positions_of_a_name_that_repeats(sympos: int) -> None:
    small = Small()
    small.rename_function("twin", sympos)
    assert check(small.data) == []


def test_weak_and_imported_references_are_fine() -> None:
    small = Small()
    small.undefined("nowhere", STB.WEAK)
    small.undefined("spaced")
    small.versions["spaced"] = 0x44444444
    small.info.append("import_ns=SPACE")
    assert check(small.data) == []


def test_an_alternative_that_replaces_by_nothing_needs_no_replacement() -> None:
    small = Small()
    put(".altinstructions", 11, b"\0")(small)
    small.sections[".altinstructions"].relocs.pop()
    assert check(small.data) == []


@pytest.mark.parametrize("late", [False, True])
def test_an_alternative_may_bring_a_function_of_the_kernel(late: bool) -> None:
    """objtool of 5.13 to 5.15 wrote such entries: an export, or what a livepatch relocation names."""
    small = Small()
    table = small.sections[".altinstructions"]
    table.relocs.pop()
    name = ".klp.sym.vmlinux.helper,0" if late else "__x86_return_thunk"
    reloc = OutReloc(4, R_PC32, small.symbols[name], 0)
    if late:
        small.late(".altinstructions", reloc)
    else:
        table.relocs.append(reloc)
    assert check(small.data) == []


def test_unwind_entries_may_lead_into_what_an_alternative_replaces() -> None:
    small = Small()
    move(".orc_unwind_ip", 0, addend=JUMP + 2)(small)
    assert check(small.data) == []
    move(".orc_unwind_ip", 0, addend=JUMP + 4)(small)
    assert [f.code for f in check(small.data)] == ["V20-special"]


def test_unknown_facts_are_not_compared() -> None:
    facts = dataclasses.replace(FACTS, vermagic="", module_size=0, modversions=False)
    small = Small()
    small.versions.clear()
    small.info.pop(3)
    del small.sections[".gnu.linkonce.this_module"].data[8:]
    assert check(small.data, facts=facts) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no ELF file"),
        (b"\x7fELF" + bytes(200), "another architecture"),
        (random.Random(1).randbytes(4096), "no ELF file"),
        (Small().data[:2000], "damaged"),
        (Small().data[:18] + b"\xb7\0" + Small().data[20:], "another architecture"),
        (Small().data[:16] + b"\3\0" + Small().data[18:], "no relocatable"),
        (write(OutObject(62, [OutSection(".text", data=bytearray(4))])), "not a kernel module"),
    ],
    ids=["empty", "zeros", "random", "truncated", "aarch64", "shared-object", "object-file"],
)
def test_what_is_no_module_is_the_users_error(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_module(data, NAME, 62)


def test_flipped_bytes_never_crash() -> None:
    good, chance = Small().data, random.Random(7)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            check(bytes(data))
        except UserError as error:
            assert error.exit_code == 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""What broken files do to `kgbuild diff`: exit 2 with place and fact, never a traceback, a hang or a gigabyte.

The faults that fuzzing found (tests/fuzz) are here as well, each made on purpose.
"""

from __future__ import annotations

import io
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from kgbuild.debuginfo.btf import compare_names
from kgbuild.debuginfo.static_locals import read_static_locals
from kgbuild.elf.consts import SHF, SHT
from kgbuild.elf.read import EHDR, SHDR, FormatError, read
from kgbuild.errors import ToolError, UserError
from kgbuild.kernel.exports import parse_symvers
from kgbuild.limits import LimitError
from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.support.broken import SMALL, of_type, symtab, with_bytes, with_header, with_section
from tests.support.command import run_command
from tests.support.toolchain import compile_pair_side, compile_text, pair_flags

GIGABYTE = 1 << 30


def small(*flags: str) -> bytes:
    return compile_text(SMALL, *pair_flags(flags))


def named(data: bytes, name: str) -> int:
    found = read(data).section_named(name)
    assert found is not None
    return found.index


def at_index(data: bytes, index: int, **fields: int) -> bytes:
    """`data` with fields of section header `index` set."""
    shoff = EHDR.unpack_from(data)[6]
    mine = SHDR.unpack_from(data, shoff + index * SHDR.size)
    return with_section(data, lambda h: h == mine, **fields)


# -- the tables of the file --------------------------------------------------------------------------------------------


def overlapping(data: bytes) -> bytes:
    text, other = read(data).sections[named(data, ".text.f")], named(data, ".text.g")
    return at_index(data, other, offset=text.offset + text.size - 1)


def group(*members: int, info: int = 1) -> Callable[[bytes], bytes]:
    """The .data section made a group of these members."""

    def build(data: bytes) -> bytes:
        index = named(data, ".data.y")
        section = read(data).sections[named(data, ".comment")]
        body = struct.pack(f"<{len(members) + 1}I", 1, *members)
        data = with_bytes(data, section.offset, body)
        data = at_index(data, index, size=0)
        return at_index(data, section.index, type=SHT.GROUP, size=len(body), info=info, align=4)

    return build


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "sections that overlap": (overlapping, "overlap at"),
    "a section over the header": (lambda d: at_index(d, named(d, ".text.f"), offset=10), "the ELF header"),
    "a section over the section headers": (
        lambda d: at_index(d, named(d, ".text.f"), offset=EHDR.unpack_from(d)[6] + 64),
        "the section headers",
    ),
    "section headers over a section": (lambda d: with_header(d, shoff=EHDR.unpack_from(d)[6] - 64, shstrndx=0), ""),
    "a link to itself": (lambda d: at_index(d, named(d, ".text.f"), link=named(d, ".text.f")), "leads back"),
    "links in a circle": (
        lambda d: at_index(
            at_index(d, named(d, ".text.f"), link=named(d, ".text.g")), named(d, ".text.g"), link=named(d, ".text.f")
        ),
        "leads back",
    ),
    "a link into a circle": (
        lambda d: at_index(at_index(d, named(d, ".strtab"), link=symtab(d)), named(d, ".text.f"), link=symtab(d)),
        "leads back",
    ),
    "a link to nowhere": (lambda d: at_index(d, named(d, ".text.f"), link=1 << 31), "does not exist"),
    "a group of a section that is not there": (group(0xFFFF_FFFF), "section 4294967295 does not exist"),
    "a group of no section": (group(0), "section 0 does not exist"),
    "a group named by no symbol": (group(1, info=1 << 31), "symbol 2147483648 does not exist"),
    "relocations for a .bss": (lambda d: at_index(d, named(d, ".data.y"), type=SHT.NOBITS), ""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_tables(what: str) -> None:
    build, fact = BROKEN[what]
    data = small()
    read(data)
    if what == "relocations for a .bss":
        data, fact = compile_text("extern int x; int *p = &x;", *pair_flags()), "has no contents"
        data = at_index(data, named(data, ".data.p"), type=SHT.NOBITS)
        build = bytes
    with pytest.raises(FormatError) as caught:
        read(build(data))
    assert fact in str(caught.value)
    assert str(caught.value).startswith(f"offset {caught.value.offset:#x}: ")
    assert caught.value.exit_code == 2


def test_an_intact_group_is_read() -> None:
    data = small()
    assert any(s.type == SHT.GROUP for s in read(group(1)(data)).sections)


# -- debugging information ---------------------------------------------------------------------------------------------

LOCALS = "int f(void) { static int count; { static int other; other++; } return count++; } int g(void) { return f(); }"


def test_debug_information_that_is_no_such_thing() -> None:
    data = compile_text(LOCALS, *pair_flags(("-g",)))
    assert {d.name for d in read_static_locals(read(data)).values()} == {"count", "other"}
    obj = read(data)
    for name in (".debug_abbrev", ".debug_info"):
        section = obj.sections[named(data, name)]
        for byte in (b"\xff", b"\x55"):
            with pytest.raises(FormatError, match=r"offset 0x[0-9a-f]+: debugging information can't be read \(\w+"):
                read_static_locals(read(with_bytes(data, section.offset, byte * section.size)))


def test_a_sibling_that_comes_earlier_is_not_followed_for_ever() -> None:
    data = compile_text(LOCALS, *pair_flags(("-g", "-gdwarf-4")))
    base = read(data).sections[named(data, ".debug_info")].offset
    elf: Any = ELFFile(io.BytesIO(data))
    unit = next(elf.get_dwarf_info().iter_CUs())
    found = 0
    for die in unit.iter_DIEs():
        sibling = die.attributes.get("DW_AT_sibling")
        if sibling is not None and die.tag == "DW_TAG_subprogram":
            found += 1
            own = struct.pack("<I", die.offset - unit.cu_offset)
            with pytest.raises(FormatError, match="has a sibling at"):
                read_static_locals(read(with_bytes(data, base + sibling.offset, own)))
    assert found


def test_compressed_debug_information_that_would_fill_the_memory() -> None:
    data = compile_text(LOCALS, *pair_flags(("-g", "-gz=zlib")))
    section = next(s for s in read(data).sections if s.flags & SHF.COMPRESSED)
    assert read_static_locals(read(data))
    with pytest.raises(LimitError, match="section-bytes is 256 MiB"):
        read_static_locals(read(with_bytes(data, section.offset + 8, struct.pack("<Q", 1 << 36))))


def with_btf(*types: bytes) -> bytes:
    """An object with a .BTF section of these types; the name at 1 is "a"."""
    body = b"".join(types)
    blob = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), 3) + body + b"\0a\0"
    text = ", ".join(map(str, blob))
    return compile_text(f'asm(".section .BTF, \\"\\"\\n.byte {text}\\n.text");', *pair_flags())


def compare_types(*types: bytes) -> set[tuple[str, str]]:
    """The suspects among some types, on both sides, where one begins with one type more."""
    more = struct.pack("<IIII", 0, 1 << 24, 4, 32)
    # numbers as if it stood before them on both sides
    names = compare_names(read(with_btf(more, *types)), read(with_btf(more[:12] + b"\1\0\0\0", *types)))
    assert names is not None
    return set(names.suspects)


def test_types_that_hold_themselves() -> None:
    held = struct.pack("<III", 0, 3, 0) * 2
    with pytest.raises(ToolError, match="nest too deeply"):
        compare_types(struct.pack("<III", 1, 4 << 24 | 2, 8) + held, struct.pack("<III", 0, 4 << 24 | 2, 8) + held)
    # type n holds n + 1 twice, the last two integers
    deep = [
        struct.pack("<III", int(n == 2), 4 << 24 | 2, 8) + struct.pack("<III", 0, n + 1, 0) * 2 for n in range(2, 32)
    ]
    with pytest.raises(ToolError, match="too many members"):
        compare_types(*deep, struct.pack("<IIII", 0, 1 << 24, 4, 32))
    assert compare_types(deep[0], struct.pack("<IIII", 0, 1 << 24, 4, 32)) == set()


def test_types_that_are_no_such_thing() -> None:
    assert compare_types(struct.pack("<III", 1, 1 << 24, 4) + struct.pack("<I", 32)) == set()
    for types in (b"\xff" * 12, struct.pack("<III", 1, 4 << 24 | 0xFFFF, 4), struct.pack("<III", 1, 8 << 24, 1 << 31)):
        with pytest.raises(ToolError, match="type information can't be read"):
            compare_types(types)


def test_exports_that_are_no_such_thing() -> None:
    assert parse_symvers("\n\0\nx\ty\n") == {}
    with pytest.raises(UserError, match=r"line 2: .*'what'"):
        parse_symvers("0x12\tprintk\tvmlinux\tEXPORT_SYMBOL\nwhat\tprintk\tvmlinux\tEXPORT_SYMBOL\n")


# -- the command -------------------------------------------------------------------------------------------------------


def run_diff(orig: Path, patched: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`kgbuild diff` in one gigabyte of address space."""
    return run_command("diff", orig, patched, *options, RLIMIT_AS=GIGABYTE)


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda d: b"", "offset 0x0: 0 bytes are too few"),
    "text": (lambda d: b"hello\n" * 100, "offset 0x0: not an ELF file"),
    "cut": (lambda d: d[: len(d) // 2], "offset 0x3c: "),
    "32 bits": (lambda d: with_bytes(d, 4, b"\1"), "offset 0x4: not a 64-bit"),
    "executable": (lambda d: with_header(d, type=2), "offset 0x10: e_type is 2"),
    "2^32 sections": (lambda d: with_header(with_section(d, of_type(SHT.NULL), size=1 << 32), shnum=0), "4294967296"),
    "another machine": (lambda d: with_header(d, machine=183), "offset 0x12: one object is for machine"),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("broken_side", [0, 1])
def test_command_with_a_broken_file(what: str, broken_side: int, tmp_path: Path) -> None:
    build, fact = FILES[what]
    files = [tmp_path / "a.o", tmp_path / "b.o"]
    for side, path in enumerate(files):
        path.write_bytes(build(small()) if side == broken_side else small())
    done = run_diff(files[0], files[1], "-o", str(tmp_path / "out.o"))
    assert done.returncode == 2, done.stderr
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.o").exists()


def test_command_with_what_is_no_file(tmp_path: Path) -> None:
    intact = tmp_path / "a.o"
    intact.write_bytes(small())
    for other in (tmp_path, tmp_path / "missing.o", Path("/dev/zero")):
        done = run_diff(intact, other)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert str(other) in done.stderr


def test_two_objects_of_a_machine_that_is_not_supported(tmp_path: Path) -> None:
    path = tmp_path / "a.o"
    path.write_bytes(with_header(small(), machine=183))
    done = run_diff(path, path)
    assert done.returncode == 2
    assert "e_machine 183" in done.stderr


def test_memory_for_the_largest_bss(tmp_path: Path) -> None:
    files = []
    for number, more in enumerate(("0", "1")):
        text = f"static char big[1 << 28]; char *f(long i) {{ return &big[i] + {more}; }}"
        files.append(tmp_path / f"{number}.o")
        files[-1].write_bytes(compile_text(text, *pair_flags()))
    done = run_diff(files[0], files[1])
    assert done.returncode == 0, done.stderr
    assert "f" in done.stdout


# -- nonsense in what reads well: an ordinary answer -------------------------------------------------------------------


def pair(orig: bytes, patched: bytes) -> ObjectDiff:
    return diff_objects(read_relocatable(orig, "a.o"), read_relocatable(patched, "b.o"), "unit.c")


@pytest.mark.parametrize(
    ("field", "value", "fact"),
    [
        (12, struct.pack("<I", 0), "lies in no section"),
        (16, struct.pack("<q", -1), "outside its section"),
        (16, struct.pack("<q", 1 << 40), "outside its section"),
    ],
)
def test_replacement_code_that_is_nowhere(field: int, value: bytes, fact: str) -> None:
    data = compile_pair_side("alternative_code")
    obj = read(data)
    entries = named(data, ".altinstructions")
    row = next(i for i, r in enumerate(obj.relocs(entries)) if r["offset"] == 4)
    place = obj.sections[obj.rela_of[entries]].offset + 24 * row
    refusals = pair(data, with_bytes(data, place + field, value)).refusals
    assert [(r.code, r.section) for r in refusals] == [("K2-special", ".altinstructions")]
    assert fact in refusals[0].fact


@pytest.mark.parametrize("row", [0, 1])
def test_entry_of_an_unknown_relocation_beside_undecided_static_locals(row: int) -> None:
    """Which static local is which is asked before anything is compared."""
    orig, patched = (compile_pair_side("static_locals_swapped", *define) for define in ((), ("-DPATCHED",)))
    obj = read(patched)
    place = obj.sections[obj.rela_of[named(patched, "__mcount_loc")]].offset + 24 * row
    found = pair(orig, with_bytes(patched, place + 8, struct.pack("<i", -23)))
    assert [(r.code, r.section) for r in found.refusals] == [("K2-special", "__mcount_loc")]
    assert f"entry {row}" in found.refusals[0].fact


def test_cold_half_with_another_name() -> None:
    text = """
        void sink(int); int f(int x) { sink(x); return x; }
        asm(".section .text.unlikely.f, \\"ax\\"; .globl zz; .type zz, @function; .type f.cold, @function\\n"
            "zz: f.cold: %s; ret; .size zz, . - zz; .size f.cold, . - f.cold; .text");
    """
    orig, patched = (compile_text(text % code, *pair_flags()) for code in ("nop", "cld"))
    assert [c.name for c in pair(orig, patched).changed] == ["f"]


def test_tables_of_tables_are_not_read_over_and_over() -> None:
    """Seven levels of 40 references each to the next: 40^7 ways through them."""
    levels = [f'.section .rodata.l{n}, \\"a\\"; .Ll{n}: .rept 40; .quad .Ll{n + 1}; .endr;' for n in range(7)]
    text = " ".join(levels) + ' .section .rodata.l7, \\"a\\"; .Ll7: .quad 7; .text; .globl f; .type f, @function;'
    data = compile_text(f'asm("{text} f: movq .Ll0, %rax; ret; .size f, . - f");', *pair_flags())
    start = time.process_time()
    assert pair(data, data).nothing
    assert time.process_time() - start < 1


def chain(length: int, folded: bool) -> bytes:
    """Functions that each call the next and have a twin, which is the same body or another one."""
    out = []
    for n in range(length):
        names = (f"f{n}", f"g{n}")
        for name in names[: 1 if folded else 2]:
            out.append(
                f'.section .text.{name}, \\"ax\\"; .globl {name}; .type {name}, @function; {name}: call f{n + 1}; ret;'
            )
            out.append(f".size {name}, . - {name};")
        if folded:
            out.append(f".globl g{n}; .type g{n}, @function; .set g{n}, f{n};")
    out.append(f'.section .text.last, \\"ax\\"; .globl f{length}; .type f{length}, @function; f{length}: ret;')
    return compile_text(f'asm("{" ".join(out)} .size f{length}, . - f{length};");', *pair_flags())


def test_a_long_chain_of_folded_functions() -> None:
    assert pair(chain(100, True), chain(100, False)).nothing
    # too long to follow: nothing is taken to be the same then
    assert len(pair(chain(600, True), chain(600, False)).changed) > 400

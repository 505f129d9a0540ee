# SPDX-License-Identifier: GPL-2.0-or-later
"""The written description of a patch module's tables, held against what gcc makes of the C that reads them."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from kgbuild import module_abi as abi
from kgbuild.arch.x86_64 import table
from kgbuild.diff.author_macros import CALLBACKS

SOURCES = sorted((Path(abi.__file__).parent / "data" / "livepatch").glob("*.c"))
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
TYPES = "typedef unsigned char u8; typedef unsigned u32; typedef unsigned long u64; typedef long s64;\n"
ENUMS = {"PRE_PATCH": abi.CallbackKind, "SITE_64": abi.SiteKind, "INITIAL_MEMORY": abi.InitialKind}


def structures() -> dict[str, str]:
    """The C text of every structure of ours, by name."""
    return {m[1]: m[0] for m in re.finditer(r"struct (kgbuild_\w+) \{.*?^\}", TEXT, re.MULTILINE | re.DOTALL)}


def said_by_gcc(folder: Path, declarations: str, values: list[str]) -> list[int]:
    """What constant expressions are worth to gcc."""
    source, program = folder / "a.c", folder / "a"
    printed = "".join(f'printf("%ld\\n", (long)({value}));' for value in values)
    source.write_text(f"#include <stdio.h>\n#include <stddef.h>\n{TYPES}{declarations}\nint main(void) {{{printed}}}\n")
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, source], check=True)
    return [int(line) for line in subprocess.run([program], check=True, capture_output=True).stdout.split()]


def test_every_table_has_the_layout_that_gcc_gives_its_structure(tmp_path: Path) -> None:
    texts = structures()
    assert set(texts) - {"kgbuild_found"} == {t.structure for t in abi.TABLES}  # found: in memory only
    wanted: list[tuple[str, int]] = []
    for t in abi.TABLES:
        wanted.append((f"sizeof(struct {t.structure})", t.size))
        for name, form in t.fields:
            wanted.append((f"offsetof(struct {t.structure}, {name})", t.offsets[name]))
            wanted.append((f"sizeof(((struct {t.structure} *)0)->{name})", struct.calcsize(f"<{form}")))
            is_pointer = f"__builtin_classify_type(((struct {t.structure} *)0)->{name}) == 5"
            wanted.append((is_pointer, int(name in t.pointers or form.endswith("s"))))
            if name not in t.pointers and not form.endswith("s"):
                wanted.append((f"(typeof(((struct {t.structure} *)0)->{name}))-1 < 0", int(form.islower())))
        members = len(re.findall(r"[;,](?=\s|$)", re.sub(r"/\*.*?\*/", "", texts[t.structure], flags=re.DOTALL)))
        assert members == len(t.fields), t.structure
    said = said_by_gcc(tmp_path, "".join(f"{text};\n" for text in texts.values()), [value for value, _ in wanted])
    assert len(said) == len(wanted) > 80
    assert [(value, found) for (value, _), found in zip(wanted, said, strict=True)] == wanted


@pytest.mark.parametrize("first", ENUMS)
def test_kinds_have_the_numbers_of_the_enums(tmp_path: Path, first: str) -> None:
    (text,) = re.findall(rf"enum \{{ {first},.*?\}}", TEXT)
    names = re.findall(r"\w+", text.partition("{")[2])
    assert said_by_gcc(tmp_path, f"{text};", names) == list(ENUMS[first])


def test_names_of_kinds_are_those_of_the_enums() -> None:
    assert [k.name.lower() for k in abi.CallbackKind] == list(CALLBACKS)
    (text,) = re.findall(r"enum \{ INITIAL_MEMORY,(.*?) \}", TEXT)
    assert [f"INITIAL_{k.name}" for k in abi.InitialKind][1:] == re.findall(r"\w+", text)


def test_a_site_has_the_kind_of_its_relocation() -> None:
    late = table.ARCH.written_late
    assert late == {
        table.R_64: abi.SiteKind.ABSOLUTE_64,
        table.R_PC32: abi.SiteKind.RELATIVE_32,
        table.R_PLT32: abi.SiteKind.RELATIVE_32,
        table.R_32: abi.SiteKind.UNSIGNED_32,
        table.R_32S: abi.SiteKind.SIGNED_32,
        table.R_PC64: abi.SiteKind.RELATIVE_64,
    }


def test_the_wrapper_reads_arrays_and_values_of_these_names() -> None:
    arrays = {(m[2], m[1]) for m in re.finditer(r"extern const struct (kgbuild_\w+) (?:\{.*?\} )?(\w+)\[\]", _FLAT)}
    assert arrays == {(t.symbol, t.structure) for t in abi.TABLES}
    values = {m[1] for m in re.finditer(r"extern const u(?:8|32) (\w+)(?:\[\])?;", _FLAT)}
    assert values == {abi.BUILD_ID, abi.BUILD_ID_SIZE, abi.REPLACE, abi.STATES_SIZE, abi.SYMBOLS_SIZE}
    assert f"{abi.NOTES}[2]" in _FLAT and f"struct klp_patch {abi.PATCH};" in _FLAT
    assert f"{abi.KLP_SYMBOL_IN_C}text_poke" in _FLAT


_FLAT = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", TEXT, flags=re.DOTALL))


def test_rows_are_packed_and_read_by_field() -> None:
    row = abi.SITES.pack(addend=-4, kind=abi.SiteKind.RELATIVE_32, symbol=7)
    assert row == struct.pack("<QqIIQ", 0, -4, 1, 7, 0)
    two = row + abi.SITES.pack(symbol=9)
    assert abi.SITES.rows(two + b"end") == [0, 32]
    assert [abi.SITES.number(two, at, "symbol") for at in (0, 32)] == [7, 9]
    assert abi.SITES.number(two, 0, "addend") == -4
    assert abi.OBJECTS.pack(build_id=b"\1" * 20)[28:] == b"\1" * 20
    with pytest.raises(KeyError, match="kgbuild_site has no place"):
        abi.SITES.pack(place=1)
    with pytest.raises(struct.error):
        abi.SITES.number(row, 8, "object")


def test_tables_lie_in_sections_of_their_own() -> None:
    assert abi.FUNCTIONS.section == ".rodata.kgbuild_funcs" == abi.value_section(abi.FUNCTIONS.symbol)
    names = [t.section for t in abi.TABLES] + [abi.STRINGS_SECTION, abi.RESOLVE_SECTION, abi.VALUES_SECTION]
    assert len(set(names)) == len(names)

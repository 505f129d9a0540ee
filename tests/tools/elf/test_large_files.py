# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are far larger than any unit: refused or compared, in less than a gigabyte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kgbuild.elf.consts import ET, SHT
from kgbuild.elf.read import EHDR, SHDR
from tests.support.command import run_on
from tests.support.toolchain import compile_text, pair_flags

GIB = 1 << 30
MOST = GIB - (1 << 20)
NAMES, AT = b"\0", 4096  # the section name table, and where it is
Header = tuple[int, int, int, int, int, int, int]  # type, flags, offset, size, link, info, entsize


def write_sparse(path: Path, sections: tuple[Header, ...], of_type: ET = ET.REL) -> Path:
    """A file of one gibibyte with these sections behind the section name table, all else zeros."""
    rows = [(SHT.STRTAB, 0, AT, len(NAMES), 0, 0, 0), *sections]
    with path.open("wb") as file:
        file.truncate(GIB)
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        file.write(EHDR.pack(ident, of_type, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, len(rows) + 1, 1))
        file.write(bytes(SHDR.size))
        for kind, flags, offset, size, link, info, entsize in rows:
            file.write(SHDR.pack(0, kind, flags, 0, offset, size, link, info, 1, entsize))
    return path


CASES: dict[str, tuple[tuple[Header, ...], ET, str]] = {
    "text": (((SHT.PROGBITS, 6, 8192, MOST, 0, 0, 0),), ET.REL, "said to have"),
    "symbols": (
        ((SHT.SYMTAB, 0, 8192, MOST // 24 * 24, 3, 0, 24), (SHT.STRTAB, 0, 5000, 1, 0, 0, 0)),
        ET.REL,
        "symbols are more than can be",
    ),
    "linked_symbols": (
        ((SHT.SYMTAB, 0, 8192, MOST // 24 * 24, 3, 0, 24), (SHT.STRTAB, 0, 5000, 1, 0, 0, 0)),
        ET.EXEC,
        "symbols are more than can be",
    ),
    "names": (
        ((SHT.SYMTAB, 0, 5000, 24, 3, 0, 24), (SHT.STRTAB, 0, 8192, MOST, 0, 0, 0)),
        ET.REL,
        "string table",
    ),
    "relocations": (
        (
            (SHT.PROGBITS, 6, 6000, 16, 0, 0, 0),
            (SHT.RELA, 0, 8192, MOST // 24 * 24, 4, 2, 24),
            (SHT.SYMTAB, 0, 5000, 24, 5, 0, 24),
            (SHT.STRTAB, 0, 5100, 1, 0, 0, 0),
        ),
        ET.REL,
        "relocations are more than can be",
    ),
    # debugging information may be that large; nobody reads it here
    "debug": (((SHT.PROGBITS, 0, 8192, MOST, 0, 0, 0),), ET.REL, ""),
}


def diff(folder: Path, *argv: str | Path) -> tuple[int, str, int]:
    """Exit status, standard error and peak memory (bytes) of `kgbuild diff`."""
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        code, memory = run_on(["diff", *argv], (out.fileno(), out.fileno(), err.fileno()), folder, os.environ)
    return code, (folder / "err").read_text(), memory


@pytest.mark.parametrize("name", CASES)
def test_object_of_a_gibibyte(name: str, tmp_path: Path) -> None:
    sections, of_type, fact = CASES[name]
    path = write_sparse(tmp_path / f"{name}.o", sections, of_type)
    code, text, memory = diff(tmp_path, path, path)
    assert (code, fact in text) == (2 if fact else 4, True), text
    assert "Traceback" not in text
    assert memory < GIB // 4


@pytest.mark.parametrize("option", ["--parent-symtab", "--symvers"])
def test_text_of_a_gibibyte(option: str, tmp_path: Path) -> None:
    objects = []
    for number in (1, 2):
        objects.append(tmp_path / f"{number}.o")
        objects[-1].write_bytes(compile_text(f"int f(int x) {{ return x + {number}; }}", *pair_flags()))
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(GIB)
    code, text, memory = diff(tmp_path, *objects, option, large)
    assert (code, "1,073,741,824 bytes: the limit sym" in text) == (2, True), text
    assert memory < GIB // 4


def test_gibibyte_as_what_a_vmlinux_is(tmp_path: Path) -> None:
    """One that has nothing but debugging information: it is read, and has no symbols."""
    path = write_sparse(tmp_path / "vmlinux", CASES["debug"][0], ET.EXEC)
    objects = [tmp_path / f"{n}.o" for n in (1, 2)]
    for number, file in enumerate(objects):
        file.write_bytes(compile_text(f"int f(int x) {{ return x + {number}; }}", *pair_flags()))
    code, text, memory = diff(tmp_path, *objects, "--parent-symtab", path)
    assert code == 1, text
    assert memory < GIB // 4


def test_more_rows_than_any_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from kgbuild.errors import UserError
    from kgbuild.kernel import parent_symtab

    monkeypatch.setattr(parent_symtab, "MAX_ROWS", 3)
    line = b"ffffffff81000000 t f\n"
    assert len(parent_symtab.read_parent(3 * line, "System.map", []).rows) == 3
    with pytest.raises(UserError, match="more than 3 symbols"):
        parent_symtab.read_parent(4 * line, "System.map", [])

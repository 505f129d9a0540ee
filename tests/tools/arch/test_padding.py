# SPDX-License-Identifier: GPL-2.0-or-later
"""What the assembler fills alignments with, as it says itself; branches without the width of their displacements."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.arch import arch_of
from kgbuild.elf.read import read
from tests.support.toolchain import run

ARCH = arch_of(62)


def assembled(folder: Path, text: str) -> bytes:
    """The code of a text in assembly."""
    (folder / "a.s").write_text(text)
    run("as", "--64", "-o", folder / "a.o", folder / "a.s")
    obj = read((folder / "a.o").read_bytes())
    section = obj.section_named(".text")
    assert section is not None
    return bytes(obj.contents(section.index))


def test_what_the_assembler_writes_is_padding(tmp_path: Path) -> None:
    """Each length that an alignment to 64 bytes can have, behind an instruction."""
    text = "".join(f"\t.p2align 6\n\t.rept {64 - size}\n\tpush %rax\n\t.endr\n" for size in range(1, 64))
    code = assembled(tmp_path, f"\t.text\n{text}\t.p2align 6\n")
    for size in range(1, 64):
        gap = code[64 * size - size : 64 * size]
        assert ARCH.is_padding(gap), f"{size}: {gap.hex()}"
        assert not ARCH.is_padding(gap + b"\xcc")
        assert size == 1 or not ARCH.is_padding(b"\x90" * size)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "cc",
        "f390",  # pause
        "f30f1efa",  # endbr64
        "6690 90",  # the right length, but another way to fill it
        "0f1f4001",  # a no-op with another displacement
        "660f1f4400",  # one that is cut
        "66662e0f1f840000000000 66662e0f1f840000000000 90 90",
    ],
)
def test_what_else_does_nothing_is_no_padding(code: str) -> None:
    assert not ARCH.is_padding(bytes.fromhex(code))


@pytest.mark.parametrize(
    ("short", "near"),
    [
        ("74 00", "0f84 00000000"),
        ("7f 00", "0f8f 00000000"),
        ("eb 00", "e9 00000000"),
        ("2e 75 00", "2e 0f85 00000000"),
    ],
)
def test_a_branch_has_one_form(short: str, near: str) -> None:
    forms = {
        ARCH.branch_form(code, ARCH.decode(code)[0].field_offset)
        for code in (bytes.fromhex(short), bytes.fromhex(near))
    }
    assert len(forms) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("74 00", "75 00"), ("e8 00000000", "e9 00000000"), ("2e e9 00000000", "e9 00000000"), ("eb 00", "e3 00")],
)
def test_other_branches_have_other_forms(one: str, other: str) -> None:
    first, second = (
        ARCH.branch_form(code, ARCH.decode(code)[0].field_offset) for code in (bytes.fromhex(one), bytes.fromhex(other))
    )
    assert first != second

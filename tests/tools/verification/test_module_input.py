# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules that verify is given: compressed, signed, renamed, for another kernel."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
from pathlib import Path

import pytest
import zstandard

from kgbuild import decompression
from kgbuild.errors import UserError
from kgbuild.host.vm.patch_notes import check_kernel_of
from kgbuild.model import Finding, Kernel, KernelId
from kgbuild.pipeline.stages import verify
from kgbuild.verification.reading.module_input import for_another_kernel, own_name, unwrap
from tests.support.toolchain import compile_text

BUILD_ID = "ab" * 20


def note(build_id: str, functions: list[str]) -> bytes:
    about = {"name": "debian:6.1.0-9-amd64", "version": "6.1.9-1", "compiler": "gcc"}
    rows = [{"object": "vmlinux", "name": name, "sympos": 0, "digest": ""} for name in functions]
    text = json.dumps({"build_ids": {"vmlinux": build_id}, "kernel": about, "functions": rows}).encode()
    return struct.pack("<III", 8, len(text), 1) + b"kgbuild\0" + text


def module(build_id: str = BUILD_ID, name: str = "fix", functions: tuple[str, ...] = ("f",)) -> bytes:
    def data(section: str, content: bytes, kind: str = "aw") -> str:
        values = ",".join(str(byte) for byte in content)
        return f'__asm__(".section {section},\\"{kind}\\"\\n.byte {values}\\n.text");\n'

    this = bytes(24) + name.encode() + bytes(56 - len(name))
    text = data(".gnu.linkonce.this_module", this) + data(".note.kgbuild", note(build_id, list(functions)), "a")
    return compile_text(text, "-c", name="module.c")


def kernel(build_id: str = BUILD_ID) -> Kernel:
    here = Path()
    found = KernelId("debian", "6.12.1", "6.12.1-1", build_id)
    return Kernel(found, here, here, here, here, here, here, here, None, here, "gcc", "gcc")


def signed(data: bytes, length: int = 300) -> bytes:
    """As scripts/sign-file does: PKCS#7 is kind 2, and says all else itself."""
    return (
        data
        + b"S" * 300
        + bytes([0, 0, 2, 0, 0, 0, 0, 0])
        + length.to_bytes(4, "big")
        + b"~Module signature appended~\n"
    )


@pytest.mark.parametrize("pack", [bytes, lzma.compress, gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("sign", [bytes, signed])
def test_the_module_is_what_the_loader_gets(pack: object, sign: object) -> None:
    data = module()
    assert unwrap(pack(sign(data)), "x.ko") == data  # type: ignore[operator]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 1 << 20])
def test_a_signature_of_impossible_length_is_left(length: int) -> None:
    data = signed(module(), length)
    assert unwrap(data, "x.ko") == data


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, zstandard.ZstdCompressor().compress])
def test_what_can_not_be_decompressed_or_is_too_large(pack: object, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(bytes(100_000))  # type: ignore[operator]
    monkeypatch.setattr(decompression, "UNPACKED_RATIO", decompression.UNPACKED_RATIO._replace(most=1))
    monkeypatch.setattr(decompression, "_ALWAYS", 1000)
    with pytest.raises(UserError, match="unpacked-ratio"):
        unwrap(data, "x.ko")
    with pytest.raises(UserError, match="can't be decompressed"):
        unwrap(data[:6] + b"\xff" * 40, "x.ko")


def test_other_bytes_are_left_to_the_reader() -> None:
    for data in (b"", b"no module", bz2.compress(b"x"), module()[:100]):
        assert unwrap(data, "x.ko") == data
        assert own_name(data) == "" and for_another_kernel(data, kernel()) is None


def test_one_finding_for_a_module_of_another_kernel() -> None:
    assert for_another_kernel(module(), kernel()) is None
    finding = for_another_kernel(module(), kernel("cd" * 20))
    assert finding is not None and finding.code == "V1-identity"
    assert "built for debian:6.1.0-9-amd64 (6.1.9-1, build-id abababababab)" in finding.fact
    assert "debian:6.12.1" in finding.fact and finding.remedy == "verify it against debian:6.1.0-9-amd64"


@pytest.mark.parametrize(("path", "noted"), [("fix.ko", False), ("d/fix.ko.xz", False), ("other.ko", True)])
def test_another_file_name_is_a_note(path: str, noted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def checked(data: bytes, kernel: Kernel, name: str, **rest: object) -> list[Finding]:
        asked.append(name)
        return []

    monkeypatch.setattr(verify, "verify_module", checked)
    found = verify.verify(lzma.compress(module()), kernel(), path)
    assert not found.findings and asked == ["fix.ko"]
    assert bool(found.notes) == noted
    assert not noted or found.notes == ("the file is called other.ko, the module in it fix",)


def test_vm_names_the_kernel_before_it_boots(tmp_path: Path) -> None:
    path = tmp_path / "fix.ko"
    path.write_bytes(module())
    check_kernel_of(path, kernel())
    with pytest.raises(UserError, match=r"was built for debian:6\.1\.0-9-amd64 .*, this is debian:6\.12\.1") as caught:
        check_kernel_of(path, kernel("cd" * 20))
    assert caught.value.remedy == "--kernel debian:6.1.0-9-amd64=6.1.9-1"
    path.write_bytes(b"no module")
    check_kernel_of(path, kernel("cd" * 20))  # the guest will say

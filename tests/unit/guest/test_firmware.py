# SPDX-License-Identifier: GPL-2.0-or-later
"""UEFI variables with certificates: as EDK II lays them out, read back by a reader of the test's own."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest

from kgbuild.arch import arch_of
from kgbuild.errors import ToolError, UserError
from kgbuild.guest.firmware import trusting_variables
from kgbuild.host.vm.firmware import Firmware, read_certificate, trusting_firmware
from kgbuild.host.vm.qemu import Machine, qemu_command

EMULATOR = arch_of(62).platform.emulator
DB = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le


def empty_store(size: int = 0x1000, begin: int = 72) -> bytes:
    volume = bytes(16) + bytes(16) + struct.pack("<Q4sIHHHBB", size, b"_FVH", 0, begin, 0, 0, 0, 2)
    volume = volume.ljust(begin, b"\0")
    store = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le + struct.pack(
        "<IBBHI", size - begin, 0x5A, 0xFE, 0, 0
    )
    return (volume + store).ljust(size, b"\xff")


def read_db(data: bytes) -> list[bytes]:
    """The certificates in the first variable of a store."""
    at = 72 + 28
    start, state, _, attributes = struct.unpack_from("<HBBI", data, at)
    name_size, data_size = struct.unpack_from("<II", data, at + 36)
    assert (start, state, attributes, data[at + 44 : at + 60]) == (0x55AA, 0x3F, 0x27, DB)
    at += 60
    assert data[at : at + name_size].decode("utf-16-le") == "db\0"
    lists, found = data[at + name_size : at + name_size + data_size], []
    assert data[at + name_size + data_size :].strip(b"\xff") == b""
    while lists:
        size, header, row = struct.unpack_from("<III", lists, 16)
        assert header == 0 and size == 28 + row
        found.append(lists[28 + 16 : size])
        lists = lists[size:]
    return found


@pytest.mark.parametrize("certificates", [[b"one"], [b"one", b"another of another size"]])
def test_certificates_are_in_db(certificates: list[bytes]) -> None:
    made = trusting_variables(empty_store(), certificates)
    assert len(made) == len(empty_store())
    assert read_db(made) == certificates


@pytest.mark.parametrize(
    ("store", "fact"),
    [
        (b"", "no store"),
        (b"\x7fELF" + bytes(1000), "no store"),
        (empty_store().replace(bytes.fromhex("782cf3aa"), bytes(4)), "unknown format"),
        (trusting_variables(empty_store(), [b"x"]), "has variables already"),
        (empty_store()[:200], "damaged"),
        (empty_store(0x100), "no room"),
    ],
)
def test_files_that_are_no_empty_store(store: bytes, fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        trusting_variables(store, [b"a certificate" * 20])


def test_no_certificate_and_no_firmware(tmp_path: Path) -> None:
    for text in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"):
        path = tmp_path / "a.crt"
        path.write_text(text)
        with pytest.raises(UserError, match="no certificate in PEM"):
            read_certificate(path)
    with pytest.raises(ToolError, match="no UEFI firmware") as caught:
        trusting_firmware(type(EMULATOR)("qemu-none", "ttyS0", "", EMULATOR.probe), [])
    assert "ovmf" in caught.value.remedy


def test_qemu_gets_both_parts() -> None:
    machine = Machine(EMULATOR, firmware=Firmware(Path("/a,b/CODE.fd"), b"x"))
    words = qemu_command(machine, "tcg", Path("/k"), 3, 4, 5)
    assert "if=pflash,unit=0,format=raw,readonly=on,file=/a,,b/CODE.fd" in words
    assert "if=pflash,unit=1,format=raw,file=/proc/self/fd/5" in words
    assert not any("pflash" in word for word in qemu_command(Machine(EMULATOR), "tcg", Path("/k"), 3, 4))

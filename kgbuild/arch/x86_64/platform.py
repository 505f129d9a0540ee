# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64: what the kernel's tree, distributions and QEMU call it. Sources: the kernel's top Makefile (SRCARCH),
Documentation/arch/x86/boot.rst, QEMU's isa-debug-exit."""

from __future__ import annotations

import struct

from kgbuild.arch.platform import AccelerationProbe, Emulator, Platform

_EXIT_PORT, _EXIT_VALUE = 0xF4, 0x10
# sti; 2 x hlt (the BIOS timer ticks 18 times a second); mov al,0x10; out 0xf4,al; then stay halted. That goes through
# the firmware, real mode, protected mode, port I/O and interrupts in a fraction of a second where KVM works.
_BOOT_SECTOR = bytes([0xFB, 0xF4, 0xF4, 0xB0, _EXIT_VALUE, 0xE6, _EXIT_PORT, 0xF4, 0xEB, 0xFD])
# payload_offset and payload_length are there since version 2.08 of the boot protocol
_MAGIC, _MAGIC_AT, _VERSION_AT, _PAYLOAD_AT, _LEAST_VERSION = b"HdrS", 0x202, 0x206, 0x248, 0x208
_SETUP_SECTORS_AT, _SECTOR = 0x1F1, 512


def find_payload(head: bytes) -> tuple[int, int] | None:
    """(offset, length) of the compressed kernel in a bzImage, None where these first bytes are not those of one."""
    if head[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC or struct.unpack_from("<H", head, _VERSION_AT)[0] < _LEAST_VERSION:
        return None
    setup_sectors = head[_SETUP_SECTORS_AT] or 4
    offset, length = struct.unpack_from("<II", head, _PAYLOAD_AT)
    return (setup_sectors + 1) * _SECTOR + offset, length


def boot_sector() -> bytes:
    """A bootable floppy image of one track."""
    return (_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa").ljust(_SECTOR * 18, b"\0")


PLATFORM = Platform(
    source_arch="x86",
    names=frozenset({"x86_64", "x86", "amd64"}),
    deb_arch="amd64",
    rpm_arch="x86_64",
    triplet="x86_64-linux-gnu",
    image="bzImage",
    image_path="arch/x86/boot/bzImage",
    image_head=1024,
    payload=find_payload,
    module_script="arch/x86/module.lds",
    generated=("arch/x86/include/generated",),
    constant_makers=("arch/x86/kernel/asm-offsets.c",),
    scripted=(
        # mkcapflags.sh passes over a feature whose comment begins with ""
        (
            "arch/x86/include/asm/cpufeatures.h",
            rb'^#define\s+X86_(?:FEATURE|BUG)_(?!.*/\* *"").*$',
            "the names of CPU features",
        ),
    ),
    emulator=Emulator(
        command="qemu-system-x86_64",
        console="ttyS0",
        # on a loaded host the emulated timer is too late for the kernel's test of it, which ends in a panic
        # ("IO-APIC + timer doesn't work!", check_timer())
        append="no_timer_check",
        probe=AccelerationProbe(
            disk=boot_sector(),
            options=(
                *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"),
                *("-drive", "file={disk},format=raw,if=floppy,readonly=on", "-boot", "a"),
            ),
            status=_EXIT_VALUE << 1 | 1,
        ),
        firmware=(
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),  # Debian, Ubuntu
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
            ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),  # Fedora
        ),
    ),
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The GNU build-id of a vmlinux, of a bootable image and of the running kernel.

The image holds a compressed vmlinux; only as much of it is decompressed as lies before its notes.
Source of the layouts: elf(5); for bootable images, arch/.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from kgbuild.arch import default_arch, known
from kgbuild.decompression import MAGIC, DamagedError, decompress_pieces
from kgbuild.elf.notes import find_build_id
from kgbuild.elf.records import Records, records_at
from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.children import child_environment
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.system.run import tied
from kgbuild.limits import UNPACKED_BYTES

PT_NOTE = 4
_HEAD = 4096  # bytes at the beginning of a file that hold its program headers
_CHUNK = 1 << 20
_PAYLOADS = {**MAGIC, b"BZh": "bzip2", b"\x5d": "lzma"}
_LZ4 = b"\x02\x21\x4c\x18"
_MOST_NOTES = 1 << 20  # bytes of a note segment; more is not believed, and not read


def note_ranges(head: bytes) -> list[tuple[int, int]]:
    """(offset, size) in bytes of every note segment, from the head of a 64-bit ELF file; none for another file."""
    records = records_at(head)
    if records is None:
        return []
    header = records.header.unpack_from(head)
    table, entry_size, count = header[5], header[9], header[10]
    ranges = []
    if entry_size < records.segment.size:
        return []
    for index in range(count):
        at = table + index * entry_size
        if at + records.segment.size > len(head):
            break
        kind, _, offset, _, _, size, _, _ = records.segment.unpack_from(head, at)
        if kind == PT_NOTE and size <= _MOST_NOTES and offset + size <= UNPACKED_BYTES.most:
            ranges.append((offset, size))
    return ranges


def read_vmlinux_build_id(path: Path) -> str:
    """Hex build-id of an ELF file. Raises UserError where it is no ELF file or has no build-id."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        ranges, records = note_ranges(head), records_at(head)
        for offset, size in ranges:
            file.seek(offset)
            found = find_build_id(file.read(size), records) if records is not None else ""
            if found:
                return found
    fact = "no build-id in this file" if ranges else f"not a 64-bit {default_arch().platform.source_arch} vmlinux"
    raise UserError(fact, place=str(path), remedy="give the unstripped vmlinux of the kernel")


def read_image_build_id(path: Path) -> str | None:
    """Hex build-id of the kernel inside a bootable image; None where its compression can't be read here.

    Raises UserError where the file is no bootable image of an architecture that kgbuild knows.
    """
    with path.open("rb") as file:
        head = file.read(max(arch.platform.image_head for arch in known()))
        found = next((place for arch in known() if (place := arch.platform.payload(head)) is not None), None)
        if found is None:
            names = default_arch().platform
            fact = f"not a bootable {names.source_arch} kernel image"
            raise UserError(fact, place=str(path), remedy=f"give the kernel's {names.image}")
        file.seek(found[0])
        payload = file.read(found[1])
    with closing(_decompress(payload)) as chunks:
        return _build_id_of_stream(chunks)


def _build_id_of_stream(chunks: Iterator[bytes]) -> str | None:
    buffer = bytearray()
    ranges: list[tuple[int, int]] = []
    wanted = _HEAD
    for chunk in chunks:
        buffer += chunk
        if len(buffer) < wanted:
            continue
        if not ranges:
            ranges = note_ranges(bytes(buffer[:_HEAD]))
            if not ranges:
                return None
            wanted = max(offset + size for offset, size in ranges)
        records = records_at(bytes(buffer[:_HEAD]))
        if len(buffer) >= wanted and records is not None:
            notes = (find_build_id(bytes(buffer[offset : offset + size]), records) for offset, size in ranges)
            return next((note for note in notes if note), None)
    return None


def read_running_build_id() -> str | None:
    """Hex build-id of the kernel this machine runs, or None where it does not say."""
    with suppress(OSError):
        return find_build_id(Path("/sys/kernel/notes").read_bytes(), Records(sys.byteorder)) or None
    return None


def _decompress(payload: bytes) -> Generator[bytes, None, None]:
    if payload.startswith(_LZ4):
        return _pipe(["lz4", "-dcq"], payload)
    return _unpack(payload, next((kind for magic, kind in _PAYLOADS.items() if payload.startswith(magic)), ""))


def _unpack(payload: bytes, kind: str) -> Generator[bytes, None, None]:
    # The payload of a bzImage is padded: what follows the compressed data is not an error.
    with suppress(DamagedError):
        if kind:
            yield from decompress_pieces(payload, kind, "bzImage")


def _pipe(argv: list[str], payload: bytes) -> Generator[bytes, None, None]:
    try:
        process = subprocess.Popen(
            tied(argv),
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise ToolError("not found on this machine", place=argv[0], remedy=remedy_for(argv[0])) from error
    assert process.stdin is not None and process.stdout is not None
    writer = threading.Thread(target=_write_all, args=(process.stdin, payload), daemon=True)
    writer.start()
    try:
        while chunk := process.stdout.read(_CHUNK):
            yield chunk
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        writer.join()


def _write_all(target: IO[bytes], payload: bytes) -> None:
    with suppress(OSError):
        target.write(payload)
    with suppress(OSError):
        target.close()

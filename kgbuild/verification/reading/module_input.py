# SPDX-License-Identifier: GPL-2.0-or-later
"""A module as a file has it: perhaps compressed, signed, under another name, or for another kernel."""

from __future__ import annotations

import io
import struct
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kgbuild.decompression import decompress, packed_with
from kgbuild.model import VMLINUX, Finding, Kernel
from kgbuild.module_abi import NOTE_SECTION
from kgbuild.verification.reading.reader import without_signature
from kgbuild.verification.reading.statements import read_note

# struct module begins with a state (4 bytes, padded) and a list head (16), then its name; so since 2.6
_NAME_AT, _NAME_SIZE = 24, 56


def unwrap(data: bytes, path: str) -> bytes:
    """The module that the kernel's loader would get: decompressed, without a signature behind it.

    Decided by the first and last bytes, not by the file's name. Raises DamagedError for what can't be decompressed,
    LimitError for what is too large then.
    """
    kind = packed_with(data)
    plain = decompress(data, kind, path) if kind else data
    return without_signature(plain)


def own_name(module: bytes) -> str:
    """The name in a module's struct module, which is what the kernel calls it; "" where it can't be read."""
    data = _section(module, ".gnu.linkonce.this_module")
    return data[_NAME_AT : _NAME_AT + _NAME_SIZE].partition(b"\0")[0].decode("ascii", "replace")


def for_another_kernel(module: bytes, kernel: Kernel) -> Finding | None:
    """The one finding of a module whose note says that it is for another kernel; nothing else of it can be judged by
    this one. None where it is for this kernel, or does not say."""
    note = read_note(_section(module, NOTE_SECTION))[0] or {}
    ids, about = note.get("build_ids"), note.get("kernel")
    wanted = ids.get(VMLINUX) if isinstance(ids, dict) else None
    if not isinstance(wanted, str) or wanted == kernel.id.build_id:
        return None
    named = _named(about if isinstance(about, dict) else {}, wanted)
    fact = f"the module was built for {named}, this is {kernel.id}; nothing else was checked"
    return Finding("V1-identity", NOTE_SECTION, fact, f"verify it against {named.partition(' (')[0]}")


def _named(about: dict[str, Any], build_id: str) -> str:
    name, version = str(about.get("name", "")), str(about.get("version", ""))
    return f"{name} ({version}, build-id {build_id[:12]})" if name else f"a kernel with build-id {build_id[:12]}"


def _section(module: bytes, name: str) -> bytes:
    try:
        section = ELFFile(io.BytesIO(module)).get_section_by_name(name)
        return bytes(section.data()) if section is not None else b""
    except (ELFError, OSError, ValueError, struct.error, KeyError, IndexError, AttributeError, OverflowError):
        return b""  # a broken file: what reads it next says what is wrong with it

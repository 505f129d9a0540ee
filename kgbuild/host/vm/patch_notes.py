# SPDX-License-Identifier: GPL-2.0-or-later
"""What live patch modules say of themselves, asked before a guest is booted: their kernel, whether they replace."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kgbuild.errors import UserError
from kgbuild.host.modules.files import read_module_bytes
from kgbuild.model import VMLINUX, Kernel
from kgbuild.verification.reading.statements import read_note

_SECTION = ".note.kgbuild"


def read_patch_note(path: Path) -> dict[str, Any] | None:
    """kgbuild's note in a module file (docs/schema/note.md); None where it has none that can be read. Raises UserError
    where the file can't be read."""
    return note_in(read_module_bytes(path))


def note_in(data: bytes) -> dict[str, Any] | None:
    """kgbuild's note in an unpacked module; None where it has none that can be read."""
    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(_SECTION)
        return read_note(section.data())[0] if section is not None else None
    except (ELFError, OSError, ValueError, struct.error):
        return None


def check_kernel_of(path: Path, kernel: Kernel) -> None:
    """Raise UserError where a module's note says that it was built for another kernel than this one: the guest would
    boot only to refuse it. A module without a note is left to the guest."""
    note = read_patch_note(path) or {}
    ids, about = note.get("build_ids"), note.get("kernel")
    wanted = ids.get(VMLINUX) if isinstance(ids, dict) else None
    if not isinstance(wanted, str) or wanted == kernel.id.build_id:
        return
    about = about if isinstance(about, dict) else {}
    name, version = str(about.get("name", "")), str(about.get("version", ""))
    named = f"{name} ({version}, build-id {wanted[:12]})" if name else f"a kernel with build-id {wanted[:12]}"
    raise UserError(
        f"was built for {named}, this is {kernel.id}",
        place=str(path),
        remedy=f"--kernel {name}{'=' + version if version else ''}" if name else "name the kernel it was built for",
    )

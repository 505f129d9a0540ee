# SPDX-License-Identifier: GPL-2.0-or-later
"""What live patch modules say of themselves, asked before a guest is booted: their kernel, what they replace."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
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
    data = read_module_bytes(path)
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


def describe_replaced(path: Path, older: Sequence[Path]) -> list[str]:
    """Sentences on which functions of older patches a module replaces once more, by the modules' notes."""
    mine = _functions(read_patch_note(path))
    said = []
    for other in older:
        shared = sorted(mine & _functions(read_patch_note(other)))
        if shared:
            names = ", ".join(name for _, name in shared[:6]) + (f" and {len(shared) - 6} more" * (len(shared) > 6))
            said.append(f"{path.name} replaces {names} of {other.name}")
    return said


def _functions(note: dict[str, Any] | None) -> set[tuple[str, str]]:
    rows = note.get("functions") if note is not None else None
    return {
        (str(row.get("object")), str(row.get("name")))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    }

# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of verify that concerns `struct module`, which a module file has almost empty: the kernel fills it in.

Where its fields lie depends on version and configuration; the kernel's own modules tell (scripts/mod/modpost.c writes
name, init and exit there, add_header()).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kgbuild.arch.base import Arch
from kgbuild.diagnostics.module_findings import finding
from kgbuild.model import Finding
from kgbuild.verification.reader import ModuleFile

THIS_MODULE = ".gnu.linkonce.this_module"
NAME_BYTES = 56  # MODULE_NAME_LEN of kernels of 64 bits


@dataclass(frozen=True)
class ModuleStruct:
    """Where fields of struct module begin, in bytes: the name, and the pointers to init and exit."""

    name: int
    init: int
    exit: int


def read_struct(module: ModuleFile, name: str) -> ModuleStruct | None:
    """The layout by one of the kernel's own modules, of this name; None where that has no init or no exit."""
    section = module.section(THIS_MODULE)
    if section is None:
        return None
    found = {}
    for offset, rows in module.targets.get(section.index, {}).items():
        symbol = module.symbol_of(rows[0])
        if symbol is not None:
            found[symbol.name] = offset
    at = section.data.find(name.encode() + b"\0")
    if at < 0 or set(found) != {"init_module", "cleanup_module"}:
        return None
    return ModuleStruct(at, found["init_module"], found["cleanup_module"])


def check_struct(module: ModuleFile, layout: ModuleStruct | None, arch: Arch, name: str) -> Iterator[Finding]:
    """struct module holds the module's name, and leads to init and exit; the kernel fills in all else.

    Input: the layout that the kernel's own modules have, None where that is not known; the name in .modinfo.
    """
    sections = module.by_name.get(THIS_MODULE, [])
    if len(sections) != 1 or layout is None:
        return
    code, section = "V25-this-module", sections[0]
    plain = bytearray(section.data)
    text = bytes(plain[layout.name : layout.name + NAME_BYTES])
    if text.rstrip(b"\0") != name.encode():
        yield finding(code, THIS_MODULE, f"names the module {text.rstrip(bytes(1))!r}, .modinfo {name!r}")
    plain[layout.name : layout.name + NAME_BYTES] = bytes(NAME_BYTES)
    if any(plain):
        at = next(i for i, byte in enumerate(plain) if byte)
        yield finding(code, f"{THIS_MODULE}+{at:#x}", "holds something that the kernel's own modules do not have there")
    found = set()
    for offset, rows in sorted(module.targets.get(section.index, {}).items()):
        for row in rows:
            symbol = module.symbol_of(row)
            known = {layout.init: "init_module", layout.exit: "cleanup_module"}.get(offset)
            right = symbol is not None and symbol.name == known and not row.addend and row.type == arch.pointer_reloc
            if known is None or not right:
                leads = symbol.name if symbol is not None else "nothing"
                yield finding(code, f"{THIS_MODULE}+{offset:#x}", f"leads to {leads}, not to {known or 'nothing'}")
            found.add(offset)
    for offset, known in ((layout.init, "init_module"), (layout.exit, "cleanup_module")):
        if offset not in found:
            yield finding(code, f"{THIS_MODULE}+{offset:#x}", f"does not lead to {known}")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Module.symvers: which symbols are exported, by whom, with which CRC and namespace."""

from __future__ import annotations

import io
from typing import NamedTuple

from kgbuild.errors import UserError

MARKS = (b"__export_symbol_", b"__ksymtab_")
"""One of them is in the object of each unit that exports something (include/linux/export.h)."""


class Export(NamedTuple):
    """One export: name, CRC (0 without MODVERSIONS), object ("vmlinux" or a module's path), kind, namespace."""

    name: str
    crc: int
    object: str
    kind: str
    namespace: str

    @property
    def in_vmlinux(self) -> bool:
        return self.object == "vmlinux"

    @property
    def is_restricted(self) -> bool:
        """Whether it is for modules of certain names alone (EXPORT_SYMBOL_FOR_MODULES, since 6.16): no other module can
        import such a namespace (scripts/mod/modpost.c)."""
        return self.namespace.startswith("module:")

    @property
    def module(self) -> str:
        """Name of the exporting module, as the kernel knows it."""
        return self.object.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def parse_symvers(text: str) -> dict[str, Export]:
    """Exports by name. Input: Module.symvers, tab-separated crc, name, object, kind and (since 5.4) namespace.

    Lines with fewer columns are skipped. Where vmlinux and a module export one name, vmlinux wins, as it does when
    the kernel resolves it. Raises UserError for a line whose CRC is no number.
    """
    out: dict[str, Export] = {}
    for number, line in enumerate(io.StringIO(text), 1):  # no list of all the lines beside the text
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) < 4:
            continue
        try:
            crc = int(columns[0], 16)
        except ValueError as error:
            fact = f"line {number}: {columns[0]!r} is no CRC"
            raise UserError(fact, place="Module.symvers", remedy="give the kernel's own file") from error
        export = Export(columns[1], crc, columns[2], columns[3], columns[4] if len(columns) > 4 else "")
        if export.name not in out or export.in_vmlinux:
            out[export.name] = export
    return out

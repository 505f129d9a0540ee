# SPDX-License-Identifier: GPL-2.0-or-later
"""Which loadable modules a live patch is for, and what the guest needs of the kernel's package to try it on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgbuild.elf.read import FormatError
from kgbuild.elf.section_headers import read_sections
from kgbuild.host.modules import files as module_files
from kgbuild.host.vm import initramfs
from kgbuild.model import VMLINUX
from kgbuild.verification.reading.statements import read_note

_KLP_RELA = ".klp.rela."
_NOTE = ".note.kgbuild"


@dataclass(frozen=True)
class Targets:
    """The target modules of one patch, and their company.

    names    modules that the patch is for, in the order to load them, then those that are built in
    builtin  those of them that are part of vmlinux
    fixed    modules that are loaded once, for the others to load
    cycled   targets, and modules between them: what is taken out and put in again, in the order to load
    files    the module's bytes, by name
    """

    names: tuple[str, ...] = ()
    builtin: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    cycled: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict, repr=False)


def read_targets(module: bytes) -> list[str]:
    """Modules that a live patch is for, sorted: named by its livepatch relocation sections and by kgbuild's note.

    The first is all that other tools' modules tell; the second also knows a module whose patched code needs no such
    relocation. vmlinux is none. Empty where this is no ELF file.
    """
    relocated, note = _read_module(module)
    found = relocated | {str(row["object"]) for key in ("functions", "callbacks") for row in _rows(note, key)}
    return sorted(name.replace("-", "_") for name in found - {VMLINUX, ""})


def has_functions(module: bytes) -> bool:
    """Whether a live patch replaces functions; False only where kgbuild's note says that callbacks are all it has."""
    note = _read_module(module)[1]
    return bool(_rows(note, "functions")) or not _rows(note, "callbacks")


def _read_module(module: bytes) -> tuple[set[str], Any]:
    """Objects that livepatch relocation sections name, and the note; nothing of what is no ELF file."""
    note: Any = None
    try:
        file = read_sections(module)
        names = [s.name for s in file.sections]
        section = file.section_named(_NOTE)
        if section is not None:
            note = read_note(bytes(file.contents(section.index)))[0]
    except (FormatError, RecursionError):
        return set(), None
    return {name[len(_KLP_RELA) :].partition(".")[0] for name in names if name.startswith(_KLP_RELA)}, note


def _rows(note: Any, key: str) -> list[dict[str, Any]]:
    """The rows of a list of the note that name an object."""
    rows = note.get(key, []) if isinstance(note, dict) else []
    return [row for row in rows if isinstance(row, dict) and row.get("object")]


def collect_targets(root: Path | None, names: Sequence[str], own: Mapping[str, Path] | None = None) -> Targets:
    """The .ko files of these modules and of all they depend on, out of the kernel's modules below `root` or `own`,
    which are out-of-tree modules by name.

    Raises UserError for a module that the kernel does not have, or whose file can't be read.
    """
    wanted = list(dict.fromkeys(name.replace("-", "_") for name in names))
    if not wanted:
        return Targets()
    ordered = initramfs.collect_modules(root, wanted, "the patch is for", own)
    files = dict(ordered)
    depends = {name: module_files.depends_of(data) for name, data in ordered}
    cycled: list[str] = []
    for name, _ in ordered:
        if name in wanted or any(needed in cycled for needed in depends[name]):
            cycled.append(name)
    builtin = tuple(name for name in wanted if name not in files)
    return Targets(
        names=(*(name for name in cycled if name in wanted), *builtin),
        builtin=builtin,
        fixed=tuple(name for name, _ in ordered if name not in cycled),
        cycled=tuple(cycled),
        files=files,
    )


def run_entries(number: int, targets: Targets) -> list[initramfs.ArchiveEntry]:
    """What data/guest/init reads about the targets of one patch."""
    top = f"kgbuild/runs/{number:03d}"
    lists = {
        "fixed": targets.fixed,
        "cycled": targets.cycled,
        "reversed": targets.cycled[::-1],
        "targets": targets.names,
    }
    return [initramfs.regular(f"{top}/{name}", f"{' '.join(names)}\n".encode()) for name, names in lists.items()]


def module_entries(targets: Iterable[Targets]) -> list[initramfs.ArchiveEntry]:
    """The .ko files of all patches' targets, each once."""
    files = {name: data for one in targets for name, data in one.files.items()}
    return [initramfs.regular(f"kgbuild/targets/{name}.ko", data) for name, data in sorted(files.items())]

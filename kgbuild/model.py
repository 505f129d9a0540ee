# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that are passed between folders: kernels, patches, units, findings. Frozen, without side effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# A place in an ELF file: the index of a section, and an offset in it in bytes.
SectionOffset = tuple[int, int]


class KernelId(NamedTuple):
    """The name of one kernel: `distro:release=version`. `build_id` (hex) identifies it in the cache."""

    distro: str
    release: str
    version: str
    build_id: str

    @property
    def name(self) -> str:
        """The name that a user can give to --kernel."""
        return f"{self.distro}:{self.release}"

    def __str__(self) -> str:
        version = (
            f" ({self.version}, build-id {self.build_id[:12]})" if self.version else f" (build-id {self.build_id[:12]})"
        )
        return self.name + version


class ExternalTree(NamedTuple):
    """Source of modules that is not in the kernel's tree.

    folder  the user's directory, for messages; never written to
    kernel  the kernel's own source tree, which contains the headers
    digest  of the directory's contents (hex): together with the kernel's build-id it identifies a unit's source
    """

    folder: Path
    kernel: Path
    digest: str


class ToolChoice(NamedTuple):
    """What the user says of the programs that compile, and of where packages come from.

    host      use this machine's own programs (--toolchain host), not those that built the kernel
    sandbox   run them in a sandbox; without one only this machine's own can be run
    mirror    address of the distribution's mirror; "" for the one that this machine's sources name
    seconds   how long one compile may take; 0 for the limit compile-wait
    """

    host: bool = False
    sandbox: bool = True
    mirror: str = ""
    seconds: int = 0


EXACT_TOOLS = ToolChoice()


@dataclass(frozen=True)
class Kernel:
    """One prepared kernel in the cache: everything later stages read. Paths are absolute, none is ever written to
    by a build (units are compiled in a directory of their own).

    source        pristine source tree (srctree)
    build         prepared objtree: .config, include/config, include/generated, scripts/, tools/objtool/objtool
    config        path of the running kernel's .config
    symvers       Module.symvers
    vmlinux       unstripped vmlinux with symbol table, DWARF where there is any
    image         bootable bzImage
    modules       directory that holds MODNAME.ko files somewhere below it (the shipped ones), or None
    units         SQLite file with the compile command of every unit (host/kernels/kbuild.py)
    cc            compiler command, e.g. "gcc-12"
    compiler      the compiler that built the kernel, as in CONFIG_CC_VERSION_TEXT
    outside       set where `source`, `units` and `modules` are those of out-of-tree modules
                  (host/modules/out_of_tree.py), not the kernel's
    toolchain     directory with the programs that built the kernel (host/toolchains), or None for this machine's own
    sandboxed     whether programs that read what a patch or the kernel's tree wrote run in a sandbox; False only where
                  the user said --no-sandbox
    compile_seconds  how long one compile may take; 0 for the limit compile-wait
    """

    id: KernelId
    root: Path
    source: Path
    build: Path
    config: Path
    symvers: Path
    vmlinux: Path
    image: Path
    modules: Path | None
    units: Path
    cc: str
    compiler: str
    packages: dict[str, str] = field(default_factory=dict)
    outside: ExternalTree | None = None
    toolchain: Path | None = None
    sandboxed: bool = True
    compile_seconds: int = 0


class UnitCommand(NamedTuple):
    """How kbuild compiles one translation unit of this kernel.

    source   path of the .c file relative to the source tree ("fs/proc/version.c")
    object   path of the .o relative to the build tree ("fs/proc/version.o")
    modfile  KBUILD_MODFILE ("fs/proc/proc"), names the composite object
    modname  KBUILD_MODNAME ("proc")
    module   True if the unit is part of a loadable module
    argv     compiler and arguments, with the literal placeholder {src} for the source tree; it runs in the build tree
    objtool  objtool and its arguments, without the object; empty if kbuild does not run it on this unit
    """

    source: str
    object: str
    modfile: str
    modname: str
    module: bool
    argv: tuple[str, ...]
    objtool: tuple[str, ...]

    @property
    def targets(self) -> list[str]:
        """The objects of the running kernel that it is part of: vmlinux, or modules (kbuild joins them by colons)."""
        return self.modname.split(":") if self.module else ["vmlinux"]


@dataclass(frozen=True, order=True)
class Finding:
    """One fault that `verify` or `vm` found. `code` is stable ("V3-sympos"), `place` a symbol or section."""

    code: str
    place: str
    fact: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.fact}" if self.place else self.fact
        return f"{text}; {self.remedy}" if self.remedy else text


VMLINUX = "vmlinux"

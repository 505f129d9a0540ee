# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root file system: a cpio archive in the kernel's "newc" format, written straight into memory.

The format is Documentation/driver-api/early-userspace/buffer-format.rst: a header of 110 ASCII characters, the name,
the contents, each padded to 4 bytes. No file is written and nothing needs root (device nodes are only entries).

The archive is not compressed: under emulation the guest needs longer to unpack gzip (0.4 s for busybox) than QEMU to
copy it whole.
"""

from __future__ import annotations

import io
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

from kgbuild.arch.base import Arch
from kgbuild.errors import ToolError, UserError
from kgbuild.host.modules.files import depends_of, index_modules, module_name, read_module_bytes
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.host.system.run import run

# What data/guest/init calls; everything else busybox has is there for the user's commands.
NEEDED_APPLETS = frozenset(
    [
        "sh",
        "mount",
        "ip",
        "dmesg",
        "poweroff",
        "reboot",
        "sleep",
        "base64",
        "tr",
        "mkdir",
        "mkfifo",
        "cat",
        "setsid",
        "rm",
        "sed",
        "ls",
        "insmod",
        "rmmod",
        "stty",
        "uname",
        "nproc",
    ]
)


@dataclass(frozen=True)
class ArchiveEntry:
    """One member of the archive. `path` has no leading slash; `mode` includes the file type, as in stat.st_mode."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> ArchiveEntry:
    """A directory."""
    return ArchiveEntry(path, stat.S_IFDIR | mode)


def regular(path: str, data: bytes, mode: int = 0o644) -> ArchiveEntry:
    """A regular file."""
    return ArchiveEntry(path, stat.S_IFREG | mode, data)


def symlink(path: str, target: str) -> ArchiveEntry:
    """A symbolic link."""
    return ArchiveEntry(path, stat.S_IFLNK | 0o777, target.encode())


def write_cpio(entries: Iterable[ArchiveEntry]) -> bytes:
    """A newc archive of these entries. Directories that they need and that are not given are put in before them."""
    out = io.BytesIO()
    seen: set[str] = set()
    number = 0

    def put(entry: ArchiveEntry) -> None:
        nonlocal number
        number += 1
        name = entry.path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        out.write(b"070701" + b"".join(b"%08X" % value for value in fields) + name)
        out.write(bytes(-out.tell() % 4))
        out.write(entry.data)
        out.write(bytes(-out.tell() % 4))

    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        if not parts or entry.path.startswith("/") or ".." in parts:
            raise UserError("a path in the guest must be inside its root", place=entry.path)
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in seen:
                seen.add(parent)
                put(directory(parent))
        if stat.S_ISDIR(entry.mode) and entry.path in seen:
            continue
        seen.add(entry.path)
        put(entry)
    number = -1  # the trailer's inode is 0
    put(ArchiveEntry("TRAILER!!!", 0))
    return out.getvalue()


# What goes in


def find_busybox(arch: Arch) -> tuple[bytes, list[str]]:
    """The host's static busybox and the names of its applets. Raises ToolError where there is none that a guest
    of this architecture can run."""
    place = shutil.which("busybox") or shutil.which("busybox", path="/bin:/usr/bin:/sbin:/usr/sbin")
    if place is None:
        raise ToolError("not found on this machine", place="busybox", remedy=remedy_for("busybox"))
    data = Path(place).read_bytes()
    if not is_static(data, arch):
        raise ToolError(
            "is linked to shared libraries, which a guest does not have",
            place=place,
            remedy=remedy_for("busybox"),
        )
    applets = run([place, "--list"], timeout=10).stdout.split()
    missing = sorted(NEEDED_APPLETS - set(applets))
    if missing:
        raise ToolError(f"has no {', '.join(missing)}", place=place, remedy=remedy_for("busybox"))
    return data, applets


def is_static(data: bytes, arch: Arch) -> bool:
    """Is this an ELF program for the guest's architecture that asks for no interpreter?"""
    try:
        elf = ELFFile(io.BytesIO(data))
        machine = ENUM_E_MACHINE.get(elf["e_machine"])
        return machine == arch.machine and not any(s["p_type"] == "PT_INTERP" for s in elf.iter_segments())
    except ELFError:
        return False


def base_tree(busybox: bytes, applets: Iterable[str]) -> list[ArchiveEntry]:
    """busybox with a link for each applet, /init, and the directories and files that programs take for granted."""
    init = resources.files("kgbuild").joinpath("data/guest/init").read_bytes()
    return [
        *(directory(name) for name in ("bin", "dev", "etc", "proc", "run", "sys", "root", "kgbuild")),
        directory("tmp", 0o1777),
        ArchiveEntry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ArchiveEntry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
        regular("bin/busybox", busybox, 0o755),
        *(symlink(f"bin/{name}", "busybox") for name in applets if name != "busybox" and "/" not in name),
        symlink("sbin", "bin"),
        regular("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        regular("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
        regular("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n"),
        regular("init", init, 0o755),
    ]


def run_tree(number: int, name: str, module: bytes, commands: Mapping[str, Sequence[str]]) -> list[ArchiveEntry]:
    """What one patch needs: its module, its name, the text of its commands by phase."""
    top = f"kgbuild/runs/{number:03d}"
    entries = [regular(f"{top}/module.ko", module), regular(f"{top}/name", f"{name}\n".encode())]
    for phase, texts in commands.items():
        for index, text in enumerate(texts):
            if "\0" in text:
                raise UserError("a command can't hold a NUL character", place=f"--{phase}")
            entries.append(regular(f"{top}/{phase}/{index:03d}", text.encode("utf-8", "surrogateescape")))
    return entries


def user_files(files: Mapping[str, bytes | Path]) -> list[ArchiveEntry]:
    """Files of the caller. Bytes become executable files; a path keeps its mode."""
    entries = []
    for place, content in files.items():
        path = place.lstrip("/")
        if isinstance(content, bytes):
            entries.append(regular(path, content, 0o755))
            continue
        try:
            entries.append(regular(path, content.read_bytes(), stat.S_IMODE(content.stat().st_mode)))
        except OSError as error:
            raise UserError(error.strerror or str(error), place=str(content)) from error
    return entries


# Kernel modules


def collect_modules(
    root: Path | None, names: Sequence[str], asked: str = "--module", own: Mapping[str, Path] | None = None
) -> list[tuple[str, bytes]]:
    """These modules and what they depend on, as (name, bytes) in the order to load them.

    `root` is a directory with the kernel's modules somewhere below it. A module that is part of vmlinux is left out.
    `own` are out-of-tree modules, by name. `asked` says in an error what wants them.
    """
    if not names:
        return []
    if root is None and not own:
        raise UserError("this kernel was added without modules", place=f"{asked} {names[0]}")
    index = index_modules(root) | dict(own or {})
    builtin = _builtin_names(root) if root is not None else set()
    ordered: dict[str, bytes] = {}
    visiting: set[str] = set()

    def visit(name: str, wanted_by: str) -> None:
        if name in ordered or name in visiting or name in builtin:
            return
        if name not in index:
            near = sorted(known for known in index if name in known)[:5]
            raise UserError(
                f"is not among this kernel's modules{wanted_by}",
                place=f"{asked} {name}",
                remedy=f"did you mean {', '.join(near)}?" if near else "give an out-of-tree one with --oot-module",
            )
        visiting.add(name)
        data = read_module_bytes(index[name])
        for needed in depends_of(data):
            visit(needed, f" (needed by {name})")
        ordered[name] = data

    for name in names:
        visit(name.replace("-", "_"), "")
    return list(ordered.items())


def _builtin_names(root: Path) -> set[str]:
    """Modules that are part of vmlinux, as `modules.builtin` lists them."""
    names: set[str] = set()
    for path in root.rglob("modules.builtin"):
        names |= {module_name(line) for line in path.read_text(errors="replace").splitlines() if line}
    return names


def module_tree(modules: Iterable[tuple[str, bytes]]) -> list[ArchiveEntry]:
    """Modules to load before the first patch, in this order."""
    return [regular(f"kgbuild/modules/{n:03d}-{name}.ko", data) for n, (name, data) in enumerate(modules)]

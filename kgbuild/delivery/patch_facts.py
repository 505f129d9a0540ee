# SPDX-License-Identifier: GPL-2.0-or-later
"""What a package must know of a live patch module: read from the module, checked, and safe to be put into a control
file, a spec file, a shell script and a line on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kgbuild.arch import known
from kgbuild.errors import UserError
from kgbuild.model import VMLINUX
from kgbuild.verification.reading.module_input import unwrap
from kgbuild.verification.reading.reader import ModuleFile, machine_of, read_module
from kgbuild.verification.reading.statements import modinfo, note_of

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,100}")  # of a kernel: part of package names and paths
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~:-]{0,100}")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")
_MODULE = re.compile(r"[A-Za-z0-9_]{1,55}")
_NUMBER = re.compile(r"([0-9]{1,9})(?:\.ko)?$")
_FLAVOUR = re.compile(r"^\d[\w.+~]*(?:-\d+)?-([a-z][a-z0-9.+-]*)$")
MOST_RELEASE = 10**9


@dataclass(frozen=True)
class PatchFacts:
    """A module as its package describes it.

    name            of the module, as in /sys/module
    release         number of the release; a higher one is newer
    kernel_release  what `uname -r` says
    kernel          the kernel's name for kgbuild (debian:6.1.0-56-cloud-amd64), kernel_version its package's version
    build_id        of the kernel, hex
    cves            in the order given
    patches         names of the patches
    functions       "object/function" of what it replaces
    machine         e_machine of the module
    """

    name: str
    release: int
    kernel_release: str
    kernel: str
    kernel_version: str
    build_id: str
    cves: tuple[str, ...]
    patches: tuple[str, ...]
    functions: tuple[str, ...]
    replaces: bool
    machine: int

    @property
    def flavour(self) -> str:
        """cloud-amd64 of 6.1.0-56-cloud-amd64; "" where the kernel's release has none."""
        match = _FLAVOUR.match(self.kernel_release)
        return match[1] if match else ""

    @property
    def package(self) -> str:
        """The package's name: package managers allow small letters only."""
        return f"livepatch-{self.kernel_release.lower().replace('_', '-').replace('~', '-')}"

    @property
    def info(self) -> str:
        """The text beside the module that the script `livepatch` reads."""
        lines = [f"release={self.release}", f"cves={' '.join(self.cves)}", f"patch={' '.join(self.patches)}"]
        return "\n".join(lines) + "\n"


def release_of_name(stem: str) -> int | None:
    """The number at the end of a file's name: 3 of livepatch-3."""
    match = _NUMBER.search(stem)
    return int(match[1]) if match else None


def check_cves(cves: Sequence[str]) -> tuple[str, ...]:
    """The CVEs, each once. Raises UserError for what is no CVE number."""
    for cve in cves:
        if not _CVE.fullmatch(cve):
            raise UserError(f"{cve!r} is no CVE number", place="--cve", remedy="give it as CVE-2026-12345")
    return tuple(dict.fromkeys(cves))


def read_live_patch(data: bytes, path: str) -> ModuleFile:
    """A module that kgbuild made, decompressed, with or without a signature. Raises UserError for any other file."""
    plain = unwrap(data, path)
    machine = machine_of(plain)
    if machine not in {arch.machine for arch in known()}:
        raise UserError("is no kernel module that kgbuild made", place=path, remedy="give a module of kgbuild build")
    module = read_module(plain, path, machine)
    if note_of(module) is None:
        raise UserError("is no live patch that kgbuild made", place=path, remedy="give a module of kgbuild build")
    return module


def read_facts(data: bytes, path: str, release: int, cves: Sequence[str] = ()) -> PatchFacts:
    """The facts of a module from its bytes. Raises UserError for what is not kgbuild's, or says what can't be written
    into a package."""
    module = read_live_patch(data, path)
    note, info = note_of(module) or {}, modinfo(module)
    try:
        name = info["name"][0]
        kernel_release = info["vermagic"][0].split(" ")[0]
        kernel, version = str(note["kernel"]["name"]), str(note["kernel"]["version"])
        build_id = str(note["build_ids"][VMLINUX])
        functions = tuple(f"{f['object']}/{f['name']}" for f in note["functions"])
        patches = tuple(str(p["name"]) for p in note["patches"])
        replaces = bool(note["replace"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError("does not say what it is for", place=path, remedy="build it again") from error
    for value, pattern, what in (
        (name, _MODULE, "module's name"),
        (kernel_release, _RELEASE, "kernel's release"),
        (version, _VERSION, "kernel's version"),
        (build_id, re.compile("[0-9a-f]{8,64}"), "build-id"),
    ):
        if not pattern.fullmatch(value):
            fact = f"{value[:80]!r} can't be a {what} in a package"
            raise UserError(fact, place=path, remedy="give a module of kgbuild build")
    if not 0 < release < MOST_RELEASE:
        raise UserError(f"{release} is no number of a release", place="--release", remedy="give 1 or more")
    return PatchFacts(
        name,
        release,
        kernel_release,
        kernel,
        version,
        build_id,
        check_cves(cves),
        tuple(plain_word(p) for p in patches),
        tuple(plain_word(f) for f in functions),
        replaces,
        module.machine,
    )


def plain_word(text: str) -> str:
    """A name as a word that no control file, spec file, shell or terminal takes for anything else."""
    return re.sub(r"[^A-Za-z0-9._+,/@:=-]", "_", text)[:200] or "_"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects that kernels share: one compile serves every kernel whose unit has the same preprocessed text.

The key of a shared object is the text that the preprocessor makes of the unit, the options that do more than lead to
that text, and the compiler. The text has the names and lines of all files that were read, so that debugging information
is the same too: the sandbox shows the kernel's source at one path whatever its directory is called (PLACE), and that of
the build tree is written as BUILD (-fdebug-prefix-map). Columns are not in the text: the compiler writes none
(-gno-column-info). A unit whose object may have anything else in it is not shared: a file that only the assembler
reads, a plugin, a profile; and without a sandbox, nothing is.

Two compiles of one text give the same bytes but for the order of variables in .BTF, where gcc follows addresses of its
own memory; nothing here depends on that order.

What is kept is the compiler's output. objtool is run for each kernel, by its own program and options.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kgbuild.host.compile.assembler import PROGRAM
from kgbuild.host.compile.compiler_digest import compiler_digest
from kgbuild.host.compile.make_rules import read_dependencies
from kgbuild.host.kernels.build_tools import BuildTools
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.children import COMPILE_LIMITS
from kgbuild.model import Kernel, UnitCommand

FORMAT = "shared-1"
PLACE = Path("/kgbuild/source")
BUILD = "/kgbuild/build"
_OWN_INPUTS = re.compile(
    r"-fplugin|-frandomize|-fprofile|-fbranch-prob|-fauto-profile|-specs|-wrapper|-B|@|-imultilib|-l"
)
# options that lead to the text, and nothing else
_FOR_TEXT = re.compile(r"-[IDU].|-Wp,|-nostdinc$")
_WITH_VALUE = ("-I", "-D", "-U", "-include", "-imacros", "-isystem", "-iquote", "-idirafter")


def path_options(build: Path) -> list[str]:
    """Options by which debugging information does not name the build tree's directory, nor columns."""
    return [f"-fdebug-prefix-map={build}={BUILD}", "-gno-column-info"]


def clones_file(out: Path) -> Path:
    """Where gcc's report on clones is, beside an object."""
    return out.with_suffix(".ipa-clones")


@dataclass(frozen=True)
class Compile:
    """One compile of a unit into `out`: of its original or of its `patched` version.

    argv    the compiler with all that is told to its preprocessor and to it
    added   options that only compiling needs
    source  the file, and `tree` the directory of all sources, which the compiler sees at `place` if there is one
    """

    unit: UnitCommand
    argv: Sequence[str]
    added: Sequence[str]
    source: Path
    tree: Path
    place: Path | None
    out: Path
    patched: bool

    @property
    def seen(self) -> Path:
        """The directory of all sources as the compiler sees it."""
        return self.place or self.tree

    @property
    def shown_source(self) -> str:
        """The file as the compiler is given it."""
        return str(self.seen / self.unit.source if self.source.is_relative_to(self.tree) else self.source)

    @property
    def deps(self) -> Path:
        """The list of files that the compiler has read."""
        return self.out.with_suffix(".d")

    @property
    def read_by_assembler(self) -> Path:
        """The list of files that only the assembler has read."""
        return self.out.with_suffix(".asm.d")

    @property
    def clones(self) -> Path:
        """gcc's report on clones."""
        return clones_file(self.out)

    def name_outside(self, *paths: Path) -> None:
        """Give the files that a compiler has listed the names that they have outside."""
        for path in paths if self.place is not None else ():
            if path.exists():
                path.write_bytes(path.read_bytes().replace(f"{self.place}/".encode(), f"{self.tree}/".encode()))


@dataclass(frozen=True)
class Entry:
    """A place in the store, for one compile. `found`: the object was there, and is now where the compiler would have
    written it, with gcc's report on clones and the list of files that were read. `key` is "" for what is not shared."""

    key: str = ""
    found: bool = False


class SharedObjects:
    """The objects that compiles for one kernel share with those for others."""

    def __init__(self, kernel: Kernel, cache: Cache) -> None:
        self._kernel = kernel
        self._cache = cache
        self._compiler = compiler_digest(kernel)
        self._assembler = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()

    @contextmanager
    def entry(self, what: Compile, tools: BuildTools) -> Iterator[Entry]:
        """The entry of a compile, while the context lasts; who compiles the very same meanwhile waits for it. `keep`
        stores what was compiled where it was not found."""
        key = self.key(what, tools)
        if not key or self._fill(key, what):
            yield Entry(key, bool(key))
            return
        with self._cache.lock(f"object-{key[:40]}"):
            yield Entry(key, self._fill(key, what))

    def keep(self, entry: Entry, what: Compile) -> None:
        """Store what the compiler has written, unless its assembler has read a file that the text does not show."""
        # the list also has the name that .file gives the unit, which is no file here
        read = read_dependencies(what.read_by_assembler)
        if not entry.key or any((self._kernel.build / name).exists() for name in read):
            return
        clones = what.clones.read_bytes() if what.clones.exists() else b""
        for root in (what.tree, self._kernel.source):  # as their readers take them off
            clones = clones.replace(f"{root}/".encode(), b"")
        self._cache.put(entry.key, struct.pack("<Q", len(clones)) + clones + what.out.read_bytes())

    def _fill(self, key: str, what: Compile) -> bool:
        stored = self._cache.get(key)
        if stored is None:
            return False
        end = 8 + int.from_bytes(stored[:8], "little")
        what.clones.write_bytes(stored[8:end])
        what.out.write_bytes(stored[end:])
        return True

    def key(self, what: Compile, tools: BuildTools) -> str:
        """The key of a compile; "" for one that is not shared. What the unit reads is listed in `what.deps`."""
        kernel, unit = self._kernel, what.unit
        own_inputs = any(_OWN_INPUTS.match(word) for word in unit.argv)
        if kernel.outside is not None or "clang" in kernel.compiler or own_inputs or what.place is None:
            return ""
        if not what.source.is_relative_to(what.tree) or tools.sandbox is None or not self._compiler:
            return ""
        text = what.out.with_suffix(".i")
        argv = [word for word in what.argv if word != "-c"]
        argv += ["-E", f"-Wp,-MD,{what.deps}", "-o", str(text), what.shown_source]
        done = tools.run(argv, cwd=kernel.build, check=False, limits=COMPILE_LIMITS, writable=[text.parent])
        if done.status != 0:
            return ""
        what.name_outside(what.deps)
        options = [*for_code(unit.argv), "--", *what.added]
        head = json.dumps([FORMAT, self._compiler, self._assembler, options, str(what.place), unit.source])
        digest = hashlib.sha256(head.encode())
        digest.update(neutral(text.read_bytes(), kernel.build))
        text.unlink()
        return digest.hexdigest()


def for_code(argv: Sequence[str]) -> list[str]:
    """A command's words without those that only lead to the preprocessed text."""
    out = []
    words = iter(argv)
    for word in words:
        if word in _WITH_VALUE:
            next(words, "")
        elif not _FOR_TEXT.match(word):
            out.append(word)
    return out


def neutral(text: bytes, build: Path) -> bytes:
    """A preprocessed text in whose line markers the build tree has the name that the compiler writes. What is in
    strings stays: code may show it."""
    marker = re.compile(rb'^(# \d+ ")' + re.escape(str(build).encode()) + b"/", re.MULTILINE)
    return marker.sub(rb"\1" + BUILD.encode() + b"/", text)

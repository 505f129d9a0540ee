# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks single units for differences without compiling them: does a changed header change anything?

A unit is preprocessed with its own command, from the unmodified tree and from the overlay. `-fdirectives-only` takes a
quarter of the time and leaves macros alone: if the texts are equal, so are the tokens. If they are not, the full
preprocessor runs; where its tokens differ as well, they tell whether anything that the unit emits can reach the
difference (csource/reached_changes.py).

Files that are not compiled by a unit's command are checked in the most precise way available: assembly by its
preprocessed text, code that can't be patched (vdso, realmode) by its objects, and files that make headers of constants
by those constants.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.csource.reached_changes import UnitEffect, read_effect
from kgbuild.csource.token_equality import same_active, same_preprocessed
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.errors import ToolError
from kgbuild.host.compile.compile import (
    AUTHOR,
    author_options,
    source_path,
    why_failed,
    without_debug,
)
from kgbuild.host.compile.make_rules import read_dependencies
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.system.children import COMPILE_LIMITS
from kgbuild.host.system.tree_manifest import check_files
from kgbuild.model import Kernel, UnitCommand

_MISSING = re.compile(r"fatal error: ([\w./+-]+): No such file or directory")
_OFFSET = re.compile(rb'^\s*\.ascii\s+"->.*$', re.MULTILINE)
_FOR_ASSEMBLY = ("-nostdinc", "-D__KERNEL__", "-m64", "-m32")
_COMPILER_TYPES = "/compiler_types.h"


@dataclass(frozen=True)
class Trees:
    """Both versions of the source tree, and a directory for output. `_checked` are files that are what was unpacked."""

    kernel: Kernel
    overlay: Overlay
    scratch: Path
    _checked: set[str] = field(default_factory=set, repr=False)

    def check(self, read: Iterable[str] | None) -> None:
        """Raise DamagedSource where one of the files that the compiler read for the original is not what was unpacked.
        None where it failed: any file may be why. Files are looked at once."""
        source = self.kernel.source
        if read is None:
            if "" not in self._checked:
                check_files(source)
                self._checked.add("")
            return
        new = set(read) - self._checked
        check_files(source, (self.kernel.build / path for path in new))
        self._checked.update(new)


def differs(trees: Trees, unit: UnitCommand) -> bool | Refusal:
    """Whether a unit may compile to something else; a refusal if the patched unit can't be preprocessed."""
    options = ["-E", "-fdirectives-only"]
    texts = preprocess_both(trees, unit, options, stubs=True)
    if isinstance(texts, Refusal):
        return texts
    if same_active(*texts)[0]:
        return False
    texts = preprocess_both(trees, unit, ["-E"])
    if isinstance(texts, Refusal):
        return texts
    if not drops_unused(unit.argv):
        return not same_preprocessed(*texts)
    effect = read_effect(*texts)
    if effect is UnitEffect.CLASH:
        fault = why_not_valid(trees, unit)
        return Refusal("P10-compile", unit.source, fault) if fault else False
    return effect is UnitEffect.MAY_CHANGE


def drops_unused(argv: Sequence[str]) -> bool:
    """Whether the compiler makes nothing of a `static inline` function that is not used, by a unit's command."""
    levels = [word for word in argv if word.startswith("-O")]
    return bool(levels) and levels[-1] != "-O0" and not any(word.startswith("-fkeep-") for word in argv)


def object_differs(trees: Trees, unit: UnitCommand) -> bool | Refusal:
    """Whether a unit that can't be patched compiles to a different object."""
    texts = preprocess_both(trees, unit, ["-g0", "-c"])
    return texts if isinstance(texts, Refusal) else texts[0] != texts[1]


def constants_differ(trees: Trees, model: UnitCommand, source: str) -> bool | Refusal:
    """Whether a file that makes a header of constants (asm-offsets.c) would make a different one."""
    unit = UnitCommand(source, source.removesuffix(".c") + ".s", "", "", False, model.argv, ())
    texts = preprocess_both(trees, unit, ["-g0", "-S"])
    return texts if isinstance(texts, Refusal) else _OFFSET.findall(texts[0]) != _OFFSET.findall(texts[1])


def assembly_differs(trees: Trees, model: UnitCommand, source: str) -> bool:
    """Whether an assembly file (.S) differs after preprocessing. False if the original can't be preprocessed: then it
    is not part of this kernel."""
    argv: list[str] = []
    words = iter(model.argv[1:])
    for word in words:
        if word in ("-I", "-include"):
            value = next(words, "")
            if not value.endswith(_COMPILER_TYPES):
                argv += [word, value]
        elif word.startswith("-I") or word in _FOR_ASSEMBLY:
            argv.append(word)
    folder = source.rpartition("/")[0]
    argv += ["-D__ASSEMBLY__", "-x", "assembler-with-cpp", "-I", "{src}/" + folder, "-I", "./" + folder]
    unit = UnitCommand(source, source, "", "", False, (model.argv[0], *argv), ())
    texts = preprocess_both(trees, unit, ["-E"], fails=True)
    return isinstance(texts, Refusal) or not same_preprocessed(*texts)


def why_not_valid(trees: Trees, unit: UnitCommand) -> str | None:
    """What the compiler says against the patched text of a unit; "" if nothing, None if it does not compile the
    original either. Nothing is made of it (-fsyntax-only)."""
    options = ["-g0", "-fsyntax-only"]
    patched = _one(trees, unit, options, patched=True)
    if not isinstance(patched, str):
        return ""
    return None if isinstance(_one(trees, unit, options, patched=False), str) else patched


def compile_seconds(trees: Trees, unit: UnitCommand) -> float:
    """How long the original of a unit takes to compile."""
    began = time.monotonic()
    _one(trees, unit, ["-c"], patched=False)
    return time.monotonic() - began


def preprocess_both(
    trees: Trees, unit: UnitCommand, options: Sequence[str], *, fails: bool = False, stubs: bool = False
) -> tuple[bytes, bytes] | Refusal:
    """What the compiler prints of both versions of a unit with more options; a refusal if the patched one fails. With
    `fails`, two empty texts if the original does; with `stubs`, generated files that are nowhere are taken as empty."""
    orig = _one(trees, unit, options, patched=False)
    if stubs and isinstance(orig, str) and (missing := _MISSING.search(orig)):
        # Made while a kernel is built, and in no package (certs/blacklist_hash_list). If everything else is equal,
        # including macros, so is the output.
        stub = trees.scratch / "missing" / missing[1]
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.touch()
        empty = [*options, "-idirafter", str(trees.scratch / "missing")]
        texts = preprocess_both(trees, unit, empty)
        if not isinstance(texts, Refusal) and same_active(*texts)[0]:
            return texts
    if isinstance(orig, str):
        if fails:
            return b"", b""
        raise ToolError(f"the original can't be preprocessed: {orig}", place=unit.source)
    patched = _one(trees, unit, options, patched=True)
    return Refusal("P10-compile", unit.source, patched) if isinstance(patched, str) else (orig, patched)


def _one(trees: Trees, unit: UnitCommand, options: Sequence[str], *, patched: bool) -> bytes | str:
    """The compiler's output; its messages if it failed."""
    side = "b" if patched else "a"
    out = trees.scratch / f"{unit.object.replace('/', '!')}.{side}"
    deps = out.with_name(f"{out.name}.d")
    try:
        while True:
            tree = trees.overlay.tree if patched else trees.kernel.source
            argv = [a for a in without_debug(unit.argv, tree) if a != "-c"]
            argv += [*options, f"-Wp,-MD,{deps}", "-o", str(out), str(source_path(trees.kernel, tree, unit.source))]
            if patched:
                argv[1:1] = author_options()
            tools = tools_of(trees.kernel, AUTHOR, trees.scratch)
            done = tools.run(argv, cwd=trees.kernel.build, check=False, limits=COMPILE_LIMITS, writable=[trees.scratch])
            read = read_dependencies(deps) if deps.exists() else []
            if not patched:
                trees.check(read if done.status == 0 else None)
            if not patched or not trees.overlay.is_stale(unit, tree, read):
                break
        if done.status != 0:
            return why_failed(done, tree)
        if not out.exists():
            return b""  # nothing was asked for
        # __FILE__ must not differ
        return out.read_bytes().replace(f"{tree}/".encode(), b"/src/")
    finally:
        out.unlink(missing_ok=True)
        deps.unlink(missing_ok=True)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the exports of compiled units with the running kernel's, by its own genksyms where it has one.

Nothing is started where the patch can't change a type of an export (estimation/export_types.py). Else the patched text
is preprocessed and given to genksyms; only where a CRC is not the kernel's and the structure of the type is another,
so is the original, to see whether this way leads to the kernel's CRC at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.debuginfo.prototypes import compare_prototypes
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.elf.read import read
from kgbuild.estimation.export_types import common_exports, judge_exports, may_change_types, other_crcs, parse_genksyms
from kgbuild.host.compile.apply_patches import read_original
from kgbuild.host.compile.compile import Compiled, author_options, read_dependencies, source_path, without_debug
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.children import COMPILE_LIMITS
from kgbuild.host.system.run import run
from kgbuild.kernel.config import parse_config
from kgbuild.kernel.exports import MARKS, Export
from kgbuild.model import Kernel, UnitCommand

_GENKSYMS = "scripts/genksyms/genksyms"
# Longer than genksyms takes for any unit of a kernel by two orders of magnitude.
_LIMIT = 300.0


def check_exports(
    kernel: Kernel,
    compiled: Sequence[Compiled],
    files: Mapping[str, bytes],
    real: Iterable[str],
    exports: Callable[[], Mapping[str, Export]],
    cache: Cache,
    jobs: int = 2,
    allowed: Collection[str] = (),
) -> list[Refusal]:
    """Refuses (K8-crc) exports of these units that would have another type with the patched `files` (path -> text).

    real     directories that the overlay needs as such (`Overlay`)
    exports  gives the kernel's, by name
    allowed  names of types that may differ (--allow-type)
    """
    # also where the code is the same: it may have another prototype all the same
    units = [c for c in compiled if any(mark in c.original for mark in MARKS)]
    if not units:
        return []
    config = parse_config(kernel.config.read_text())
    sources = {c.unit.source for c in compiled}

    def may_change(module: bool) -> bool:
        conditions = Conditions(config, module)
        return any(
            may_change_types(read_original(kernel, path) or b"", text, conditions, header=path not in sources)
            for path, text in files.items()
        )

    touching = {module: may_change(module) for module in {c.unit.module for c in units}}
    units = [c for c in units if touching[c.unit.module]]
    if not units:
        return []
    known = exports()
    with cache.scratch("exports") as scratch:
        genksyms = find_genksyms(kernel, config)
        overlay = Overlay(kernel, files, scratch, real) if genksyms is not None else None

        def one(item: tuple[int, Compiled]) -> list[Refusal]:
            number, c = item
            return _check_unit(kernel, c, genksyms, overlay, scratch / f"{number}.i", known, allowed)

        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            return [r for found in pool.map(one, enumerate(units)) for r in found]


def find_genksyms(kernel: Kernel, config: Mapping[str, str]) -> Path | None:
    """The program that made the CRCs of this kernel's exports; None where they have none, or none made so."""
    path = kernel.build / _GENKSYMS
    made = config.get("MODVERSIONS") == "y" and config.get("GENDWARFKSYMS") != "y"
    return path if made and os.access(path, os.X_OK) else None


def _check_unit(
    kernel: Kernel,
    c: Compiled,
    genksyms: Path | None,
    overlay: Overlay | None,
    scratch: Path,
    exports: Mapping[str, Export],
    allowed: Collection[str],
) -> list[Refusal]:
    original = read(c.original)
    patched = read(c.patched)
    names = common_exports(original, patched)
    after: dict[str, int] = {}
    if genksyms is not None:
        after = make_crcs(kernel, c.unit, genksyms, scratch, overlay)
        names = other_crcs(names, after, exports)
    differences = compare_prototypes(original, patched, names, allowed) if names else {}
    before: dict[str, int] = {}
    if genksyms is not None and any(fact != "" for fact in differences.values()):
        before = make_crcs(kernel, c.unit, genksyms, scratch)
    return judge_exports(c.unit.source, differences, exports, before, after)


def make_crcs(
    kernel: Kernel, unit: UnitCommand, genksyms: Path, scratch: Path, overlay: Overlay | None = None
) -> dict[str, int]:
    """CRCs of a unit's exports by name, made as kbuild does, of its original or as an overlay has it; empty where its
    text can't be preprocessed."""
    deps = scratch.with_suffix(".d")
    try:
        while True:
            tree = overlay.tree if overlay is not None else kernel.source
            argv = [a for a in without_debug(unit.argv, tree) if a != "-c"]
            if overlay is not None:
                argv[1:1] = author_options()
            source = str(source_path(kernel, tree, unit.source))
            argv += ["-E", "-D__GENKSYMS__", f"-Wp,-MD,{deps}", "-o", str(scratch), source]
            if run(argv, cwd=kernel.build, check=False, limits=COMPILE_LIMITS).status != 0:
                return {}
            if overlay is None or not overlay.is_stale(unit, tree, read_dependencies(deps)):
                break
        text = scratch.read_text(errors="surrogateescape")
    finally:
        scratch.unlink(missing_ok=True)
        deps.unlink(missing_ok=True)
    done = run([genksyms, "-r", "/dev/null"], cwd=kernel.build, check=False, stdin=text, timeout=_LIMIT)
    return parse_genksyms(done.stdout) if done.status == 0 else {}

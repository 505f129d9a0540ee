# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares the exports of compiled units with the running kernel's, by the kernel's own genksyms if it has one.

Nothing is run if the patch can't change the type of an export (estimation/export_types.py). Otherwise the patched text
is preprocessed and passed to genksyms. Only if a CRC differs from the kernel's, and the type differs by structure, is
the original processed as well, to see whether this procedure reproduces the kernel's CRC at all.
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
from kgbuild.host.compile.compile import AUTHOR, Compiled, author_options, source_path, without_debug
from kgbuild.host.compile.make_rules import read_dependencies
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.kernel_files import config_of
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.children import COMPILE_LIMITS
from kgbuild.kernel.exports import MARKS, Export
from kgbuild.model import Kernel, UnitCommand

_GENKSYMS = "scripts/genksyms/genksyms"
# A hundred times longer than genksyms takes for any unit of a kernel.
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
    """Refuse (K8-crc) exports of these units whose type would change with the patched `files` (path -> text).

    real     directories that the overlay needs as real ones (`Overlay`)
    exports  returns the kernel's exports, by name
    allowed  names of types that may differ (--allow-type)
    """
    # also if the code is the same: an export may have another prototype all the same
    units = [unit for unit in compiled if any(mark in unit.orig for mark in MARKS)]
    if not units:
        return []
    config = config_of(kernel)
    sources = {unit.unit.source for unit in compiled}

    def may_change(module: bool) -> bool:
        conditions = Conditions(config, module)
        return any(
            may_change_types(read_original(kernel, path) or b"", text, conditions, header=path not in sources)
            for path, text in files.items()
        )

    touching = {module: may_change(module) for module in {unit.unit.module for unit in units}}
    units = [unit for unit in units if touching[unit.unit.module]]
    if not units:
        return []
    known = exports()
    with cache.scratch("exports") as scratch:
        genksyms = find_genksyms(kernel, config)
        overlay = Overlay(kernel, files, scratch, real) if genksyms is not None else None

        def one(item: tuple[int, Compiled]) -> list[Refusal]:
            number, compiled = item
            return _check_unit(kernel, compiled, genksyms, overlay, scratch / f"{number}.i", known, allowed)

        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            return [r for found in pool.map(one, enumerate(units)) for r in found]


def find_genksyms(kernel: Kernel, config: Mapping[str, str]) -> Path | None:
    """The genksyms that made the CRCs of this kernel's exports; None if there are no CRCs or it did not make them."""
    path = kernel.build / _GENKSYMS
    made = config.get("MODVERSIONS") == "y" and config.get("GENDWARFKSYMS") != "y"
    return path if made and os.access(path, os.X_OK) else None


def _check_unit(
    kernel: Kernel,
    compiled: Compiled,
    genksyms: Path | None,
    overlay: Overlay | None,
    scratch: Path,
    exports: Mapping[str, Export],
    allowed: Collection[str],
) -> list[Refusal]:
    orig = read(compiled.orig)
    patched = read(compiled.patched)
    names = common_exports(orig, patched)
    patched_crcs: dict[str, int] = {}
    if genksyms is not None:
        patched_crcs = make_crcs(kernel, compiled.unit, genksyms, scratch, overlay)
        names = other_crcs(names, patched_crcs, exports)
    differences = compare_prototypes(orig, patched, names, allowed) if names else {}
    orig_crcs: dict[str, int] = {}
    if genksyms is not None and any(fact != "" for fact in differences.values()):
        orig_crcs = make_crcs(kernel, compiled.unit, genksyms, scratch)
    return judge_exports(compiled.unit.source, differences, exports, orig_crcs, patched_crcs)


def make_crcs(
    kernel: Kernel, unit: UnitCommand, genksyms: Path, scratch: Path, overlay: Overlay | None = None
) -> dict[str, int]:
    """CRCs of a unit's exports by name, made as kbuild does, from the original or from an overlay; empty if the text
    can't be preprocessed."""
    deps = scratch.with_suffix(".d")
    tools = tools_of(kernel, AUTHOR)
    try:
        while True:
            tree = overlay.tree if overlay is not None else kernel.source
            argv = [a for a in without_debug(unit.argv, tree) if a != "-c"]
            if overlay is not None:
                argv[1:1] = author_options()
            source = str(source_path(kernel, tree, unit.source))
            argv += ["-E", "-D__GENKSYMS__", f"-Wp,-MD,{deps}", "-o", str(scratch), source]
            done = tools.run(argv, cwd=kernel.build, check=False, limits=COMPILE_LIMITS, writable=[scratch.parent])
            if done.status != 0:
                return {}
            if overlay is None or not overlay.is_stale(unit, tree, read_dependencies(deps)):
                break
        text = scratch.read_text(errors="surrogateescape")
    finally:
        scratch.unlink(missing_ok=True)
        deps.unlink(missing_ok=True)
    done = tools.run([genksyms, "-r", "/dev/null"], cwd=kernel.build, check=False, stdin=text, timeout=_LIMIT)
    return parse_genksyms(done.stdout) if done.status == 0 else {}

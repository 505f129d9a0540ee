# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to say of kernels, in the cache and in the archive, as plain data."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kgbuild.errors import UserError
from kgbuild.host.archives.recipe import LOCAL, load_recipes, parse_kernel_name, search
from kgbuild.host.kernels.acquire import find_kernel
from kgbuild.host.kernels.compile_commands import read_sources
from kgbuild.host.kernels.kbuild import check_compiler
from kgbuild.host.kernels.toolchain import open_recipe_archive
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.watch import tree_size
from kgbuild.kernel.config import check_config
from kgbuild.model import Kernel
from kgbuild.progress import Progress


@dataclass(frozen=True)
class Listed:
    """What a search of the archive found: rows of the kernels that are shown, and how many more with missing parts."""

    rows: tuple[dict[str, Any], ...]
    more: int


def list_kernels(cache: Cache) -> list[dict[str, Any]]:
    """A row for each kernel in the cache: name, version, build-id, and the bytes that it and its source take."""
    return [_row(cache, kernel) for kernel in cache.kernels()]


def describe_kernel(kernel: Kernel) -> dict[str, Any]:
    """Everything about one kernel in the cache; `refusals` is what stands against live patches for it."""
    units = read_sources(file_of_all(kernel))
    refusals = check_config(kernel.config.read_text(errors="replace"))
    compiler = check_compiler(kernel)
    faults = [f"{r.code} {r}" for r in [*refusals, *([compiler] if compiler else [])]]
    return {
        **_row(Cache(), kernel),
        "compiler": kernel.compiler,
        "toolchain": kernel.toolchain.parent.name if kernel.toolchain is not None else None,
        "sandbox": kernel.sandboxed,
        "cc": kernel.cc,
        "units": sum(not module for _, _, module in units),
        "units_in_modules": sum(module for _, _, module in units),
        "packages": kernel.packages,
        **{
            field: str(getattr(kernel, field))
            for field in ("source", "build", "config", "symvers", "vmlinux", "image", "modules")
        },
        "refusals": faults,
    }


def find_in_cache(name: str, removing: bool = False) -> Kernel:
    """The kernel of that name in the cache; nothing is fetched. Raises UserError if there is none, with the nearest
    names, and how to get it unless it is to be removed."""
    found = find_kernel(name) or find_kernel(name, offline=True)
    if found is None:
        recipes = load_recipes()
        distro = parse_kernel_name(name, recipes).distro
        there = [kernel.id.name for kernel in Cache().kernels()]
        near = nearest_names(name, there)
        remedies = [f"did you mean {' or '.join(near)}?"] if near else []
        if not removing and not near:
            remedies += [f"kgbuild kernel fetch {name} fetches it"] if distro in recipes else []
            remedies += ["kgbuild kernel add adds one"] if distro == LOCAL else []
        listed = f"there are: {', '.join(there)}" if there else "the cache has no kernel"
        raise UserError("is not in the cache", place=name, remedy="; ".join([*remedies, listed]))
    return found


def nearest_names(name: str, there: Sequence[str]) -> list[str]:
    """Those of the kernels `there` that a user may have meant by `name`: the release alone, a part of it, or a slip."""
    bare = name.partition("=")[0]
    parts = [one for one in there if bare and (bare in one or one.partition(":")[2] == bare.partition(":")[2])]
    return parts or difflib.get_close_matches(bare, there, 3, 0.75)


def find_all_in_cache(names: Sequence[str]) -> list[Kernel]:
    """The kernels of these names, each once. Raises UserError for a name that the cache has no kernel of."""
    return list({found.id.build_id: found for found in (find_in_cache(name, True) for name in names)}.values())


def search_kernels(
    pattern: str, progress: Progress, *, partial: bool = False, mirror: str = "", offline: bool = False
) -> Listed:
    """Kernels of the archive whose name contains `pattern`, newest first; with `partial` also those with missing parts.

    Raises UserError where there is none at all, ToolError where the archive can't be asked.
    """
    cache = Cache()
    found = [
        entry
        for recipe in load_recipes().values()
        for entry in search(pattern, recipe, open_recipe_archive(recipe, cache, progress, mirror, offline=offline))
    ]
    if not found:
        raise UserError("the archive has no such kernel", place=pattern, remedy="kgbuild kernel search lists all")
    shown = [entry for entry in found if partial or not entry.missing]
    rows = [
        {
            "name": entry.name,
            "version": entry.version,
            "missing": list(entry.missing),
            "cached": find_kernel(f"{entry.name}={entry.version}") is not None,
        }
        for entry in shown
    ]
    return Listed(tuple(rows), len(found) - len(shown))


def _row(cache: Cache, kernel: Kernel) -> dict[str, Any]:
    shared = kernel.source.is_relative_to(cache.root / "sources")
    return {
        "name": kernel.id.name,
        "version": kernel.id.version,
        "build_id": kernel.id.build_id,
        "bytes": tree_size(kernel.root),
        "source_bytes": tree_size(kernel.source) if shared else 0,
    }


def names_at_hand() -> list[str]:
    """What --kernel may be given without fetching anything: kernels of the cache, names by which they were asked for,
    and `running`."""
    cache = Cache()
    # a name as a file's: its sign for the colon, and a digest behind it
    files = (cache.root / "names").glob("*_newest-*-*.json")
    asked = [file.stem.rpartition("-")[0].replace("_", ":", 1) for file in files]
    names = [kernel.id.name for kernel in cache.kernels()]
    return sorted({*names, *asked, "running"})


def functions_at_hand(kernel_name: str | None, prefix: str, most: int) -> list[str]:
    """Names of functions that begin with `prefix`, at most `most`, from the index of a kernel of the cache, or of all
    of them. No index is made, and no archive asked."""
    from kgbuild.host.index.store import existing_index

    if kernel_name is not None:
        found = find_kernel(kernel_name, offline=True)
        kernels = [found] if found is not None else []
    else:
        kernels = Cache().kernels()
    names: set[str] = set()
    for kernel in kernels:
        index = existing_index(kernel)
        if index is not None:
            names.update(index.names_like(prefix, most))
    return sorted(names)[:most]

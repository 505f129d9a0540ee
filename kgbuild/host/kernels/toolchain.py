# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archive has a kernel, and which programs compile for it: those that built it, or this machine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kgbuild.errors import KgbuildError, ToolError
from kgbuild.host.archives.archive import Archive, open_archive
from kgbuild.host.archives.recipe import Recipe, load_recipes
from kgbuild.host.archives.suites import SuiteArchive, open_suites
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.store import Toolchain, ensure_toolchain, is_unchanged, load_toolchain, toolchain_record
from kgbuild.model import Kernel, ToolChoice
from kgbuild.progress import Progress


def open_recipe_archive(
    recipe: Recipe,
    cache: Cache,
    progress: Progress,
    mirror: str = "",
    *,
    force: bool = False,
    offline: bool = False,
) -> Archive:
    """The archive of a recipe: its suites, with lists that are at most a day old, or this machine's own package lists.

    `force` fetches the lists again, whatever their age; `offline` takes those that are there. Raises UserError for a
    mirror that is none, ToolError where no mirror is known or the lists can't be fetched.
    """
    archive = suites_of(recipe, cache, mirror)
    if archive is None:
        return open_archive(recipe.archive)
    if offline:
        if not archive.has_lists:
            raise ToolError(
                "there are no package lists in the cache, and --offline downloads nothing",
                place=recipe.title,
                remedy="run it once without --offline",
            )
        return archive
    with cache.lock(f"archive-{recipe.distro}", progress):
        for note in archive.update(progress, force=force):
            progress.note(note)
    return archive


def suites_of(recipe: Recipe, cache: Cache, mirror: str = "") -> SuiteArchive | None:
    if recipe.suites is None:
        return None
    return open_suites(recipe.archive, cache.root / "archives" / recipe.distro, recipe.suites, mirror)


def find_toolchain(
    recipe: Recipe,
    compiler: str,
    packages: Mapping[str, str],
    cache: Cache,
    progress: Progress,
    jobs: int,
    mirror: str = "",
) -> Toolchain | None:
    """The toolchain of a kernel that was built by `compiler` (CONFIG_CC_VERSION_TEXT); None where the recipe knows
    none. `packages` are the kernel's, by name, with their versions: what its build tools need comes along. The lists of
    the suites have been fetched (`open_recipe_archive`).

    Raises UserError where no suite has that compiler, ToolError where it can't be fetched.
    """
    archive, rule = suites_of(recipe, cache, mirror), recipe.toolchain
    if archive is None or rule is None:
        return None
    plan = archive.plan_toolchain(rule, compiler, sorted(packages.items()))
    return ensure_toolchain(cache, archive, plan, rule, progress, jobs)


def with_tools(
    kernel: Kernel, choice: ToolChoice, cache: Cache, progress: Progress, *, offline: bool = False, jobs: int = 2
) -> Kernel:
    """The kernel with the programs that the user chose. A toolchain that the cache does not have is fetched.

    Raises UserError where no suite has the kernel's compiler, ToolError where the toolchain can't be fetched, `offline`
    forbids that, or it was changed since.
    """
    if choice.host or not choice.sandbox:
        return replace(kernel, toolchain=None, sandboxed=choice.sandbox)
    recipe = load_recipes().get(kernel.id.distro)
    if recipe is None or recipe.toolchain is None:
        return kernel
    there = None
    if kernel.toolchain is not None and cache.use_toolchain(kernel.toolchain):
        there = load_toolchain(cache, kernel.toolchain.parent.name)
    if there is not None and is_unchanged(there):
        return kernel
    if there is not None:
        progress.note(f"{there.root} was changed since it was unpacked")
    if offline and kernel.toolchain is None and (kept := _find_kept(recipe, kernel, cache)) is not None:
        return replace(kernel, toolchain=kept.root)
    if offline:
        raise ToolError(
            "the programs that built this kernel are not in the cache (or not as they were unpacked), and --offline "
            "downloads nothing",
            place=kernel.id.name,
            remedy=f"kgbuild toolchain fetch {kernel.id.name}, or --toolchain host",
        )
    open_recipe_archive(recipe, cache, progress, choice.mirror)
    found = find_toolchain(recipe, kernel.compiler, kernel.packages, cache, progress, jobs, choice.mirror)
    if found is None:
        return kernel
    kernel = replace(kernel, toolchain=found.root)
    with cache.lock(f"kernel-{kernel.id.build_id}", progress):
        cache.save(kernel)
    return kernel


def _find_kept(recipe: Recipe, kernel: Kernel, cache: Cache) -> Toolchain | None:
    """The toolchain of a kernel that an older kgbuild prepared, where the package lists and the toolchain are in the
    cache."""
    archive = suites_of(recipe, cache)
    if archive is None or recipe.toolchain is None or not archive.has_lists:
        return None
    try:
        plan = archive.plan_toolchain(recipe.toolchain, kernel.compiler, sorted(kernel.packages.items()))
    except KgbuildError:
        return None
    found = load_toolchain(cache, plan.key)
    return found if found is not None and cache.use_toolchain(found.root) and is_unchanged(found) else None


def record_of(kernel: Kernel) -> dict[str, Any] | None:
    """The record of a kernel's toolchain for a report (docs/schema/report-1.json); None where this machine's own
    programs compile."""
    if kernel.toolchain is None:
        return None
    found = load_toolchain(Cache(kernel.toolchain.parents[2]), kernel.toolchain.parent.name)
    return toolchain_record(found) if found is not None else None

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archive has a kernel, and which programs compile for it: those that built it, or this machine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kgbuild.errors import ToolError
from kgbuild.host.archives.apt import Apt
from kgbuild.host.archives.archive import Archive, open_archive
from kgbuild.host.archives.recipe import Recipe, load_recipes
from kgbuild.host.archives.suites import AptState
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.packages import plan_toolchain
from kgbuild.host.toolchains.store import Toolchain, check_toolchain, ensure_toolchain, load_toolchain
from kgbuild.model import Kernel, ToolChoice
from kgbuild.progress import Progress


def archive_state(recipe: Recipe, cache: Cache, mirror: str = "") -> AptState | None:
    """Where the package lists of a recipe's suites are kept; None where it names no suites."""
    return AptState(cache.root / "archives" / recipe.distro, recipe.suites, mirror) if recipe.suites else None


def open_recipe_archive(
    recipe: Recipe, cache: Cache, progress: Progress, mirror: str = "", *, force: bool = False
) -> Archive:
    """The archive of a recipe: its suites, with lists that are at most a day old, or this machine's own package lists.

    Raises UserError where no mirror is known, ToolError where the lists can't be fetched.
    """
    state = archive_state(recipe, cache, mirror)
    if state is None:
        return open_archive(recipe.archive)
    with cache.lock(f"archive-{recipe.distro}", progress):
        missing = state.refresh(progress, force=force)
    if missing:
        progress.note(f"the mirror has no {', '.join(missing)}")
    return Apt(state.config)


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
    none. `packages` are the kernel's, by name, with their versions: what its build tools need comes along.

    Raises UserError where no suite has that compiler, ToolError where it can't be fetched.
    """
    state, rule = archive_state(recipe, cache, mirror), recipe.toolchain
    if state is None or rule is None:
        return None
    built = plan_toolchain(rule, state, compiler, sorted(packages.items()))
    found = ensure_toolchain(cache, state, built, rule, progress, jobs)
    check_toolchain(found)
    return found


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
    there = load_toolchain(cache, kernel.toolchain.parent.name) if kernel.toolchain is not None else None
    if there is not None:
        check_toolchain(there)
        return kernel
    if offline:
        raise ToolError(
            "the programs that built this kernel are not in the cache, and --offline downloads nothing",
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

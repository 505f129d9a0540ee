# SPDX-License-Identifier: GPL-2.0-or-later
"""Which archive has a kernel, and which toolchain built it: what a recipe says, found in the cache or fetched."""

from __future__ import annotations

from kgbuild.host.archives.apt import Apt
from kgbuild.host.archives.recipe import FetchPlan, Recipe
from kgbuild.host.archives.suites import AptState
from kgbuild.host.system.cache import Cache
from kgbuild.host.toolchains.packages import plan_toolchain
from kgbuild.host.toolchains.store import Toolchain, check_toolchain, ensure_toolchain
from kgbuild.progress import Progress


def archive_state(recipe: Recipe, cache: Cache, mirror: str = "") -> AptState | None:
    """Where the package lists of a recipe's suites are kept; None where it names no suites."""
    return AptState(cache.root / "archives" / recipe.distro, recipe.suites, mirror) if recipe.suites else None


def open_archive(recipe: Recipe, cache: Cache, progress: Progress, mirror: str = "", *, force: bool = False) -> Apt:
    """The archive of a recipe: its suites, with lists that are at most a day old, or this machine's own package lists.

    Raises UserError where no mirror is known, ToolError where the lists can't be fetched.
    """
    state = archive_state(recipe, cache, mirror)
    if state is None:
        return Apt()
    with cache.lock(f"archive-{recipe.distro}", progress):
        missing = state.refresh(progress, force=force)
    if missing:
        progress.note(f"the mirror has no {', '.join(missing)}")
    return Apt(state.config)


def find_toolchain(plan: FetchPlan, compiler: str, cache: Cache, progress: Progress, jobs: int) -> Toolchain | None:
    """The toolchain of a kernel that was built by `compiler` (CONFIG_CC_VERSION_TEXT); None where the recipe knows
    none. Raises UserError where no suite has that compiler, ToolError where it can't be fetched."""
    state, rule = archive_state(plan.recipe, cache), plan.recipe.toolchain
    if state is None or rule is None:
        return None
    tools = plan.packages.get(rule.tools)
    built = plan_toolchain(rule, state, compiler, [(tools.name, tools.version)] if tools is not None else [])
    found = ensure_toolchain(cache, state, built, rule, progress, jobs)
    check_toolchain(found)
    return found

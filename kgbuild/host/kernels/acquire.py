# SPDX-License-Identifier: GPL-2.0-or-later
"""`ensure_kernel`: from the name of a kernel to a prepared kernel in the cache.

A kernel that is in the cache is found before anything else is asked, so that the usual run starts no program here. It
is checked by its seals (host/kernels/integrity.py), and what is damaged is made again. One that is not there is
fetched (host/kernels/fetch.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.archive import GoneError
from kgbuild.host.archives.recipe import (
    LOCAL,
    RUNNING,
    KernelName,
    Recipe,
    find_packages,
    load_recipes,
    other_plans,
    parse_kernel_name,
)
from kgbuild.host.kernels.build_id import read_running_build_id, read_vmlinux_build_id
from kgbuild.host.kernels.fetch import fetch, find_release, version_of
from kgbuild.host.kernels.repair import make_whole
from kgbuild.host.kernels.toolchain import open_recipe_archive, with_tools
from kgbuild.host.system.cache import Cache
from kgbuild.model import EXACT_TOOLS, Kernel, ToolChoice
from kgbuild.progress import Progress

# `newest-...` is asked of the archive at most once a day.
NEWEST_SECONDS = 24 * 3600.0


def ensure_kernel(
    name: str,
    *,
    progress: Progress,
    offline: bool = False,
    jobs: int = 2,
    cache: Cache | None = None,
    choice: ToolChoice = EXACT_TOOLS,
) -> Kernel:
    """The prepared kernel of this name, fetched and prepared first if it is not in the cache.

    `name` is what --kernel takes (see host/archives/recipe.py). `offline` downloads nothing and asks no archive.
    `jobs` is how many packages are unpacked at once. Files of it that are damaged are made again. Until this process
    ends, no other run removes it. `choice` says which programs compile for it. Raises UserError for a name that means
    nothing, ToolError where the archive, the network, the disk or a tool fails.
    """
    cache = cache if cache is not None else Cache()
    cache.sweep_once()
    while True:
        kernel = _find_or_fetch(name, progress, offline, jobs, cache, choice)
        kernel = make_whole(kernel, cache, progress, offline=offline, jobs=jobs, choice=choice)
        if cache.use(kernel, progress):
            kernel = replace(kernel, compile_seconds=choice.seconds)
            return with_tools(kernel, choice, cache, progress, offline=offline, jobs=jobs)


def _find_or_fetch(name: str, progress: Progress, offline: bool, jobs: int, cache: Cache, choice: ToolChoice) -> Kernel:
    kernel = find_kernel(name, cache=cache, offline=offline)
    recipes = load_recipes()
    wanted = parse_kernel_name(name, recipes)
    if kernel is not None:
        newest = wanted.distro in recipes and recipes[wanted.distro].newest.match(wanted.release)
        last = cache.recall(str(wanted), NEWEST_SECONDS) if offline and newest else None
        if offline and newest and (last is None or last.get("release") != kernel.id.release):
            with progress.step(f"newest in the cache: {kernel.id.release} (--offline)"):
                pass
        return kernel
    if wanted.distro not in recipes:
        raise _not_added(wanted, cache)
    if offline:
        raise ToolError(
            "is not in the cache, and --offline downloads nothing",
            place=str(wanted),
            remedy=f"kgbuild kernel fetch {wanted}",
        )
    recipe = recipes[wanted.distro]
    try:
        archive = open_recipe_archive(recipe, cache, progress, choice.mirror)
        plan = find_packages(wanted, recipe, archive)
    except ToolError as error:
        # An archive that can't be asked is no reason to fail where there is an earlier answer.
        kernel = find_kernel(name, cache=cache, offline=True)
        if kernel is None:
            raise
        progress.note(f"{error}; using {kernel.id.name} from the cache")
        return kernel
    if recipe.newest.match(wanted.release):
        cache.remember(str(wanted), {"release": plan.release, "version": plan.version})
    kernel = _cached(cache, recipe.distro, plan.release, plan.version)
    if kernel is not None:
        return kernel
    try:
        return fetch(plan, archive, cache, progress, jobs, choice)
    except GoneError as gone:
        other = next((p for p in other_plans(plan, wanted, archive) if archive.are_there(p.packages.values())), None)
        remedy = f"the nearest that is whole is {other.recipe.distro}:{other.release}" if other else gone.remedy
        if other is None or not recipe.newest.match(wanted.release):
            raise GoneError(gone.fact, place=f"{recipe.distro}:{plan.release}", remedy=remedy) from gone
        progress.note(f"{plan.name}: {gone.fact}; {remedy}")
        cache.remember(str(wanted), {"release": other.release, "version": other.version})
        kernel = _cached(cache, recipe.distro, other.release, other.version)
        return kernel if kernel is not None else fetch(other, archive, cache, progress, jobs, choice)


def find_kernel(name: str, *, cache: Cache | None = None, offline: bool = False) -> Kernel | None:
    """The kernel of this name if it is in the cache; asks nobody else.

    `newest-...` is what it was when the archive was last asked, unless that is more than a day ago; with
    `offline` it is the newest one in the cache. Raises UserError for a name that means nothing.
    """
    cache = cache if cache is not None else Cache()
    recipes = load_recipes()
    if name.strip() == RUNNING:
        running = read_running_build_id()
        kernel = cache.load(running) if running else None
        if kernel is not None:
            return kernel
    wanted = parse_kernel_name(name, recipes)
    recipe = recipes.get(wanted.distro)
    newest = recipe.newest.match(wanted.release) if recipe else None
    if recipe is None or newest is None:
        return _cached(cache, wanted.distro, wanted.release, wanted.version)
    if offline:
        return _newest_cached(cache, recipe, newest.groupdict(), wanted.version)
    last = cache.recall(str(wanted), NEWEST_SECONDS)
    return _cached(cache, recipe.distro, last.get("release", ""), last.get("version", "")) if last else None


def _cached(cache: Cache, distro: str, release: str, version: str) -> Kernel | None:
    """The newest complete kernel of this release; an empty distribution or version means any."""
    newest = find_release(cache, distro, release, version)
    if newest is not None and newest.id.distro == LOCAL:
        _check_unchanged(newest)
    return newest


def _check_unchanged(kernel: Kernel) -> None:
    """Raise UserError where the user has built a local kernel's vmlinux again since it was added."""
    found = read_vmlinux_build_id(kernel.vmlinux) if kernel.vmlinux.is_file() else None
    if found != kernel.id.build_id:
        raise UserError(
            "is gone" if found is None else f"was built again (build-id {found[:12]})",
            place=f"{kernel.id.name}: {kernel.vmlinux}",
            remedy=f"kgbuild kernel remove {kernel.id.name}, then kgbuild kernel add it again",
        )


def _newest_cached(cache: Cache, recipe: Recipe, wanted: Mapping[str, str | None], version: str) -> Kernel | None:
    flavour = recipe.flavours.get(wanted.get("flavour") or "")
    fitting = []
    for kernel in cache.kernels():
        groups = recipe.groups(kernel.id.release) if kernel.id.distro == recipe.distro else None
        fits = groups is not None and groups["series"] == wanted["series"] and groups["flavour"] == flavour
        # a name that does not say the release may be of any
        fits = fits and groups is not None and wanted.get("label") in (None, groups["label"] or wanted.get("label"))
        if fits and version in ("", kernel.id.version):
            fitting.append(kernel)
    return max(fitting, key=version_of, default=None)


def _not_added(wanted: KernelName, cache: Cache) -> UserError:
    there = [kernel.id.name for kernel in cache.kernels() if wanted.distro in ("", kernel.id.distro)]
    if wanted.distro == LOCAL:
        remedy = f"there are {', '.join(there)}" if there else "kgbuild kernel add adds one"
        return UserError("no such kernel was added", place=str(wanted), remedy=remedy)
    remedy = "say DISTRO:RELEASE, for example debian:newest-6.1-cloud; kgbuild kernel search lists what there is"
    return UserError("no distribution known here has such a release", place=str(wanted), remedy=remedy)

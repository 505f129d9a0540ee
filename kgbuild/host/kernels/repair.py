# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes damaged files of a kernel in the cache again: by kbuild, from the archive, or from the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.recipe import find_packages, load_recipes, parse_kernel_name
from kgbuild.host.kernels import kbuild
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.compile_commands import partial_file
from kgbuild.host.kernels.fetch import fetch, fetch_source
from kgbuild.host.kernels.integrity import find_damage, has_source, made_by_kbuild, seal_kernel
from kgbuild.host.kernels.local import add_kernel, pahole_variables, read_inputs
from kgbuild.host.kernels.toolchain import open_recipe_archive
from kgbuild.host.kernels.vmlinux import read_platform
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import remove_sealed
from kgbuild.host.system.tree_manifest import has_manifest, is_marked, write_manifest
from kgbuild.model import EXACT_TOOLS, Kernel, ToolChoice
from kgbuild.progress import Progress


def make_whole(
    kernel: Kernel,
    cache: Cache,
    progress: Progress,
    *,
    offline: bool = False,
    jobs: int = 2,
    choice: ToolChoice = EXACT_TOOLS,
) -> Kernel:
    """A kernel with files that were damaged or missing made again.

    What kbuild answered is asked again; for all else the kernel is fetched again, or added again from the files that it
    was added from. Raises ToolError where it would have to be downloaded and `offline` forbids that or it can't be, and
    UserError where the files that a kernel was added from are gone.
    """
    _note_source(kernel, cache, progress)
    if not find_damage(kernel, cache):
        return kernel
    with cache.lock(f"kernel-{kernel.id.build_id}", progress):
        damaged = find_damage(kernel, cache)  # another run may have made them meanwhile
        for path in damaged:
            progress.note(f"{path} is damaged")
        if damaged and set(damaged) <= made_by_kbuild(kernel):
            kernel = replace(kernel, sandboxed=choice.sandbox)
            _ask_kbuild(kernel, progress, jobs, whole=kernel.units in damaged)
            seal_kernel(kernel, cache)
            return kernel
    if not damaged:
        return kernel
    recipe = load_recipes().get(kernel.id.distro)
    if recipe is None:
        return _add_again(kernel, damaged, cache, progress, jobs, choice)
    if offline:
        raise ToolError(
            f"{len(damaged)} files of this kernel are damaged, and --offline downloads nothing: {_shown(damaged)}",
            place=kernel.id.name,
            remedy="without --offline it is fetched again",
        )
    name = f"{kernel.id.name}={kernel.id.version}" if kernel.id.version else kernel.id.name
    archive = open_recipe_archive(recipe, cache, progress, choice.mirror)
    plan = find_packages(parse_kernel_name(name, load_recipes()), recipe, archive)
    if damaged == [kernel.source]:
        fetch_source(plan, archive, kernel.source, cache, progress, jobs)
        return kernel
    return fetch(plan, archive, cache, progress, jobs, choice, again=True)


def _note_source(kernel: Kernel, cache: Cache, progress: Progress) -> None:
    """Write the manifest of a source tree that an older kgbuild unpacked, or whose manifest is damaged. Not being able
    to is no error: it is tried again."""
    source = kernel.source
    if not has_source(kernel, cache) or has_manifest(source) or not source.is_dir() or is_marked(source):
        return
    with suppress(OSError), cache.lock(f"source-{source.name}", progress):
        if not has_manifest(source):
            with progress.step(f"digest {source.name}"):
                write_manifest(source)


def _ask_kbuild(kernel: Kernel, progress: Progress, jobs: int, *, whole: bool) -> None:
    remove_sealed(partial_file(kernel.units))
    kbuild.prepare(
        source=kernel.source,
        build=kernel.build,
        units_file=kernel.units,
        cc=kernel.cc,
        source_arch=read_platform(kernel.vmlinux).source_arch,
        release=kernel.id.version if kernel.id.distro not in load_recipes() else kernel.id.release,
        progress=progress,
        variables=pahole_variables(kernel.build),
        jobs=jobs,
        tools=tools_of(kernel),
        whole=whole,
    )


def _add_again(
    kernel: Kernel, damaged: Sequence[Path], cache: Cache, progress: Progress, jobs: int, choice: ToolChoice
) -> Kernel:
    inputs = read_inputs(kernel.root)
    fault = "what it was added from is not known"
    if inputs is not None:
        try:
            return add_kernel(inputs, progress=progress, jobs=jobs, cache=cache, sandboxed=choice.sandbox)
        except UserError as error:
            fault = f"it can't be added again ({error.place}: {error.fact})"
    raise UserError(
        f"{len(damaged)} files of this kernel are damaged ({_shown(damaged)}), and {fault}",
        place=kernel.id.name,
        remedy=f"kgbuild kernel remove {kernel.id.name}, then kgbuild kernel add it again",
    )


def _shown(damaged: Sequence[Path]) -> str:
    return ", ".join(path.name for path in damaged[:3]) + (", ..." if len(damaged) > 3 else "")

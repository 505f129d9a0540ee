# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes damaged files of a kernel in the cache again: by kbuild, from the archive, or from the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.archive import open_archive
from kgbuild.host.archives.recipe import find_packages, load_recipes, parse_kernel_name
from kgbuild.host.kernels import kbuild
from kgbuild.host.kernels.fetch import fetch
from kgbuild.host.kernels.integrity import find_damage, made_by_kbuild, seal_kernel
from kgbuild.host.kernels.local import add_kernel, pahole_variables, read_inputs
from kgbuild.host.kernels.vmlinux import read_platform
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel
from kgbuild.progress import Progress


def make_whole(kernel: Kernel, cache: Cache, progress: Progress, *, offline: bool = False, jobs: int = 2) -> Kernel:
    """A kernel with files that were damaged or missing made again.

    What kbuild answered is asked again; for all else the kernel is fetched again, or added again from the files that it
    was added from. Raises ToolError where it would have to be downloaded and `offline` forbids that or it can't be, and
    UserError where the files that a kernel was added from are gone.
    """
    if not find_damage(kernel, cache):
        return kernel
    with cache.lock(f"kernel-{kernel.id.build_id}", progress):
        damaged = find_damage(kernel, cache)  # another run may have made them meanwhile
        for path in damaged:
            progress.note(f"{path} is damaged")
        if damaged and set(damaged) <= made_by_kbuild(kernel):
            _ask_kbuild(kernel, progress, jobs)
            seal_kernel(kernel, cache)
            return kernel
    if not damaged:
        return kernel
    recipe = load_recipes().get(kernel.id.distro)
    if recipe is None:
        return _add_again(kernel, damaged, cache, progress, jobs)
    if offline:
        raise ToolError(
            f"{len(damaged)} files of this kernel are damaged, and --offline downloads nothing: {_shown(damaged)}",
            place=kernel.id.name,
            remedy="without --offline it is fetched again",
        )
    name = f"{kernel.id.name}={kernel.id.version}" if kernel.id.version else kernel.id.name
    plan = find_packages(parse_kernel_name(name, load_recipes()), recipe, open_archive(recipe.archive))
    return fetch(plan, cache, progress, jobs, again=True)


def _ask_kbuild(kernel: Kernel, progress: Progress, jobs: int) -> None:
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
    )


def _add_again(kernel: Kernel, damaged: Sequence[Path], cache: Cache, progress: Progress, jobs: int) -> Kernel:
    inputs = read_inputs(kernel.root)
    fault = "what it was added from is not known"
    if inputs is not None:
        try:
            return add_kernel(inputs, progress=progress, jobs=jobs, cache=cache)
        except UserError as error:
            fault = f"it can't be added again ({error.place}: {error.fact})"
    raise UserError(
        f"{len(damaged)} files of this kernel are damaged ({_shown(damaged)}), and {fault}",
        place=kernel.id.name,
        remedy=f"kgbuild kernel remove {kernel.id.name}, then kgbuild kernel add it again",
    )


def _shown(damaged: Sequence[Path]) -> str:
    return ", ".join(path.name for path in damaged[:3]) + (", ..." if len(damaged) > 3 else "")

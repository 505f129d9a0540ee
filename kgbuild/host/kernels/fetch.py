# SPDX-License-Identifier: GPL-2.0-or-later
"""From a plan of packages to a prepared kernel in the cache.

download the packages -> unpack what is needed -> check that image and vmlinux are one build -> prepare
(host/kernels/kbuild.py) -> seals -> kernel.json.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kgbuild.errors import KgbuildError, ToolError
from kgbuild.host.archives.archive import DEFAULT, Archive, PackageVersion, open_archive
from kgbuild.host.archives.recipe import FetchPlan, Part, load_recipes
from kgbuild.host.archives.unpack import unpack_part
from kgbuild.host.kernels import kbuild
from kgbuild.host.kernels.build_id import read_image_build_id, read_vmlinux_build_id
from kgbuild.host.kernels.build_tools import BuildTools, host_tools
from kgbuild.host.kernels.integrity import find_damage, seal_kernel
from kgbuild.host.kernels.toolchain import find_toolchain
from kgbuild.host.kernels.vmlinux import read_platform
from kgbuild.host.system.cache import Cache, remove_tree
from kgbuild.host.system.required_packages import PACKAGE_OF, install_command
from kgbuild.host.system.sandbox import Sandbox, check_sandbox
from kgbuild.host.system.sealed import replace_durably
from kgbuild.host.system.tree_manifest import is_marked, remove_manifest, write_manifest
from kgbuild.model import EXACT_TOOLS, Kernel, KernelId, ToolChoice
from kgbuild.progress import Progress
from kgbuild.shown_text import readable_size

_TOOLS = ("tar", "xz")  # beside those of the archive
_HOST_TOOLS = ("make", "ld")


def version_of(kernel: Kernel) -> Any:
    """Sort key of a kernel's version, as its archive orders them."""
    recipe = load_recipes().get(kernel.id.distro)
    return open_archive(recipe.archive if recipe is not None else DEFAULT).version_key(kernel.id.version)


def find_release(cache: Cache, distro: str, release: str, version: str) -> Kernel | None:
    """The newest complete kernel of this release in the cache; an empty distribution or version means any."""
    fitting = [
        kernel
        for kernel in cache.kernels()
        if kernel.id.release == release and distro in ("", kernel.id.distro) and version in ("", kernel.id.version)
    ]
    return max(fitting, key=version_of, default=None)


def check_tools(tools: Iterable[str]) -> None:
    """Raise one ToolError that names every missing program, before time is spent."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = sorted({PACKAGE_OF.get(tool, tool) for tool in missing})
        raise ToolError(
            "not found on this machine",
            place=", ".join(missing),
            remedy=f"{install_command(*packages)} (kgbuild doctor shows all that is missing)",
        )


def fetch(
    plan: FetchPlan,
    archive: Archive,
    cache: Cache,
    progress: Progress,
    jobs: int,
    choice: ToolChoice = EXACT_TOOLS,
    *,
    again: bool = False,
) -> Kernel:
    """Download and prepare the kernel of a plan, unless another run has meanwhile; `again` where the one that is there
    is damaged and to be replaced. `choice` says which programs prepare it. Raises UserError where no suite has its
    compiler, ToolError where the network, the disk or a tool fails."""
    check_tools([*archive.programs, *_TOOLS, *(_HOST_TOOLS if _of_host(plan, choice) else ())])
    if choice.sandbox:
        check_sandbox()
    with cache.workdir(plan.name.replace(":", "_").replace("=", "_"), progress) as work:
        # Another run may have finished it while this one waited for the lock.
        kernel = find_release(cache, plan.recipe.distro, plan.release, plan.version)
        if kernel is not None and not (again and find_damage(kernel, cache)):
            return kernel
        source = cache.source_dir(_source_name(plan))
        with cache.lock(f"source-{source.name}", progress):
            return _fetch_locked(plan, archive, source, cache, work, progress, jobs, choice)


def _source_name(plan: FetchPlan) -> str:
    shared = next(part.name for part in plan.parts if part.shared)
    package = plan.packages[shared]
    return f"{plan.recipe.distro}-{package.name}-{package.version}"


def _of_host(plan: FetchPlan, choice: ToolChoice) -> bool:
    return choice.host or not choice.sandbox or plan.recipe.toolchain is None


def _fetch_locked(
    plan: FetchPlan,
    archive: Archive,
    source: Path,
    cache: Cache,
    work: Path,
    progress: Progress,
    jobs: int,
    choice: ToolChoice,
) -> Kernel:
    parts = [part for part in plan.parts if not (part.shared and _is_good(source))]
    packages = [plan.packages[part.name] for part in parts]
    needed = sum(package.size * (1 + part.growth) for part, package in zip(parts, packages, strict=True))
    cache.check_space(int(needed), f"unpacking {plan.release}")
    downloads = work / "packages"
    downloads.mkdir(exist_ok=True)
    size = readable_size(sum(package.size for package in packages))
    title = f"{plan.release} ({len(packages)} packages, {size})"
    files = archive.download(packages, downloads, progress, title)
    unpacked, tree = work / "kernel", work / "source"
    for directory in (unpacked, tree):
        remove_tree(directory)
        directory.mkdir()
    targets = {part.name: tree if part.shared else unpacked for part in parts}
    _unpack(plan, archive, parts, files, targets, progress, jobs)
    build_id = check_same_build(unpacked / "vmlinux", unpacked / "image" / "vmlinuz")
    if not _is_good(source):
        _put_source(tree, source, progress)
    with cache.lock(f"kernel-{build_id}", progress):
        try:
            return _complete(plan, build_id, unpacked, source, cache, progress, jobs, choice)
        except BaseException:
            # The packages stay, so that the next run need not download them again.
            remove_tree(cache.kernel_dir(build_id))
            raise


def fetch_source(plan: FetchPlan, archive: Archive, source: Path, cache: Cache, progress: Progress, jobs: int) -> None:
    """Download and unpack a source tree of which files are damaged, and put it in that one's place, unless another run
    has meanwhile. Raises ToolError where the network, the disk or a tool fails."""
    check_tools([*archive.programs, *_TOOLS])
    parts = [part for part in plan.parts if part.shared]
    packages = [plan.packages[part.name] for part in parts]
    with cache.workdir(f"{source.name}-again", progress) as work, cache.lock(f"source-{source.name}", progress):
        if _is_good(source):
            return
        needed = sum(package.size * (1 + part.growth) for part, package in zip(parts, packages, strict=True))
        cache.check_space(int(needed), f"unpacking {source.name}")
        downloads, tree = work / "packages", work / "source"
        downloads.mkdir(exist_ok=True)
        files = archive.download(packages, downloads, progress, f"{source.name}, which is damaged")
        remove_tree(tree)
        tree.mkdir()
        _unpack(plan, archive, parts, files, {part.name: tree for part in parts}, progress, jobs)
        _put_source(tree, source, progress)


def _is_good(source: Path) -> bool:
    """Whether a source tree is there, and no run has found a damaged file in it."""
    return source.is_dir() and not is_marked(source)


def _put_source(tree: Path, source: Path, progress: Progress) -> None:
    """Give a tree that was unpacked its place, with a manifest of its files."""
    source.parent.mkdir(parents=True, exist_ok=True)
    remove_tree(source)
    remove_manifest(source)
    with progress.step(f"digest {source.name}"):
        write_manifest(tree, source)
    replace_durably(tree, source)


def _unpack(
    plan: FetchPlan,
    archive: Archive,
    parts: list[Part],
    files: Mapping[str, Path],
    targets: Mapping[str, Path],
    progress: Progress,
    jobs: int,
) -> None:
    def size(part: Part) -> float:
        return plan.packages[part.name].size * part.growth

    with progress.step(f"unpack {plan.release}", sum(map(size, parts)), "bytes") as task:
        advance = _locked(task.advance)
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            # The longest first, so that the others fit in beside it.
            futures = [
                pool.submit(
                    unpack_part,
                    part,
                    plan.groups,
                    files[plan.packages[part.name].name],
                    targets[part.name],
                    advance,
                    archive,
                )
                for part in sorted(parts, key=size, reverse=True)
            ]
            for future in futures:
                future.result()


def _locked(advance: Callable[[float], None]) -> Callable[[float], None]:
    lock = threading.Lock()

    def locked(amount: float) -> None:
        with lock:
            advance(amount)

    return locked


def check_same_build(vmlinux: Path, image: Path, error: type[KgbuildError] = ToolError) -> str:
    """The build-id of both. Raises `error` where they differ: it is the user's where the user gave the files."""
    build_id = read_vmlinux_build_id(vmlinux)
    booted = read_image_build_id(image)
    if booted is not None and booted != build_id:
        raise error(
            f"vmlinux has build-id {build_id[:12]}, the bootable image {booted[:12]}",
            place=str(image),
            remedy="take both from one build",
        )
    return build_id


def _complete(
    plan: FetchPlan,
    build_id: str,
    unpacked: Path,
    source: Path,
    cache: Cache,
    progress: Progress,
    jobs: int,
    choice: ToolChoice,
) -> Kernel:
    root = cache.kernel_dir(build_id)
    remove_tree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(unpacked, root)
    build = root / "build"
    shipped = root / "kbuild"
    if shipped.is_dir():
        kbuild.copy_tools(shipped, source, build)
        remove_tree(shipped)
    kbuild.settle_config(build)
    compiler = kbuild.compiler_text((root / "image" / "config").read_text(errors="replace"))
    cc = kbuild.compiler_command(compiler)
    packages = {package.name: package.version for package in _sorted(plan.packages.values())}
    toolchain = None
    if not _of_host(plan, choice):
        toolchain = find_toolchain(plan.recipe, compiler, packages, cache, progress, jobs, choice.mirror)
    tools = host_tools(source, root, cc=cc, sandboxed=choice.sandbox)
    if toolchain is not None:
        tools = BuildTools(Sandbox(toolchain.root, (source, root)))
    kbuild.find_compiler(cc, compiler, tools=tools)
    kbuild.prepare(
        source=source,
        build=build,
        units_file=root / "units.sqlite",
        cc=cc,
        source_arch=read_platform(root / "vmlinux").source_arch,
        release=plan.release,
        progress=progress,
        jobs=jobs,
        tools=tools,
        whole=False,
    )
    kernel = Kernel(
        id=KernelId(plan.recipe.distro, plan.release, plan.version, build_id),
        root=root,
        source=source,
        build=build,
        config=root / "image" / "config",
        symvers=build / "Module.symvers",
        vmlinux=root / "vmlinux",
        image=root / "image" / "vmlinuz",
        modules=root / "modules",
        units=root / "units.sqlite",
        cc=cc,
        compiler=compiler,
        packages=packages,
        toolchain=toolchain.root if toolchain is not None else None,
    )
    seal_kernel(kernel, cache)
    cache.save(kernel)
    return kernel


def _sorted(packages: Iterable[PackageVersion]) -> list[PackageVersion]:
    return sorted(packages, key=lambda package: package.name)

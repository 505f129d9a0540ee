# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels of one's own: `kgbuild kernel add`.

The user's trees are only read. A source tree that is clean is used where it is; one that was built in is
copied without its build products, because kbuild refuses a separate build directory for it. Everything
generated goes into the cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from kgbuild.arch import default_arch, known
from kgbuild.errors import ToolError, UserError
from kgbuild.host.archives.recipe import LOCAL
from kgbuild.host.kernels import kbuild
from kgbuild.host.kernels.build_tools import BuildTools, host_tools
from kgbuild.host.kernels.fetch import check_same_build, check_tools
from kgbuild.host.kernels.integrity import seal_kernel
from kgbuild.host.kernels.vmlinux import map_image, read_platform
from kgbuild.host.system.cache import Cache, remove_tree
from kgbuild.host.system.children import PREPARE_LIMITS
from kgbuild.host.system.input_files import check_input
from kgbuild.host.system.sealed import read_sealed, write_sealed
from kgbuild.kernel.config import parse_config
from kgbuild.limits import CONFIG_BYTES, SOURCE_BYTES, SYMVERS_BYTES, VMLINUX_BYTES
from kgbuild.model import Kernel, KernelId
from kgbuild.progress import Progress

NEEDED_TOOLS = ("make", "flex", "bison", "bc", "ld")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
# What a build leaves in a source tree; names that kbuild's own `make mrproper` knows as generated.
_PRODUCT_SUFFIXES = (
    *(".o", ".a", ".ko", ".mod", ".mod.c", ".cmd", ".order", ".symvers", ".dtb", ".so", ".so.dbg", ".lds.s"),
    *(".lex.c", ".tab.c", ".tab.h", ".asn1.c", ".asn1.h"),
)
_PRODUCT_NAMES = frozenset(
    {
        ".config",
        ".config.old",
        "vmlinux",
        "System.map",
        "Module.symvers",
        "modules.builtin",
        ".version",
        ".git",
    }
)
_PRODUCT_DIRS = frozenset({"include/config", "include/generated", ".tmp_versions"})
_TOOL_OPTION = re.compile(
    r"(CC|GCC|CLANG|AS|LD|LLD|RUSTC|RUST|BINDGEN|PAHOLE|TOOLS|CPP)_|BUILD_SALT$|MODULE_SIG_(ALL|KEY)|SYSTEM_TRUSTED_KEYS$"
    r"|SYSTEM_REVOCATION_KEYS$"
)
_COPY_BYTES = 1_600_000_000
_BUILD_BYTES = 200_000_000


@dataclass(frozen=True)
class LocalKernel:
    """The files of a kernel of one's own; `cc` is empty where the config is to say the compiler."""

    name: str
    source: Path
    config: Path
    vmlinux: Path
    image: Path
    symvers: Path
    modules: Path | None = None
    cc: str = ""


@dataclass(frozen=True)
class _LocalFacts:
    """What the files of a kernel say of it; `cc` is the command to compile with, `compiler` what built the kernel."""

    build_id: str
    release: str
    cc: str
    compiler: str


def add_kernel(
    local: LocalKernel,
    *,
    progress: Progress,
    jobs: int = 2,
    cache: Cache | None = None,
    sandboxed: bool = True,
    seconds: int = 0,
) -> Kernel:
    """Prepare a kernel from its files and put it into the cache as `local:NAME`.

    Big files are not copied but linked to where they are. The tree's makefiles and programs run in a sandbox, unless
    the user wants none; each run of make may take `seconds`, 0 for the limit prepare-wait. Raises UserError where the
    files do not fit together, ToolError where a tool is missing or fails, or a limit stops it.
    """
    cache = cache if cache is not None else Cache()
    _check_input(local)
    build_id = check_same_build(local.vmlinux, local.image, UserError)
    _check_name_free(local, build_id, cache)
    check_tools(NEEDED_TOOLS)
    compiler = kbuild.compiler_text(local.config.read_text(errors="replace"))
    cc = _compiler_of(local, compiler)
    found = _LocalFacts(build_id, read_release(local.vmlinux), cc, compiler)
    clean = is_clean(local.source)
    cache.check_space(_BUILD_BYTES + (0 if clean else _COPY_BYTES), f"preparing {LOCAL}:{local.name}")
    with cache.workdir(f"{LOCAL}_{local.name}", progress), cache.lock(f"kernel-{build_id}", progress):
        root = cache.kernel_dir(build_id)
        (root / "kernel.json").unlink(missing_ok=True)
        remove_tree(root)
        (root / "build").mkdir(parents=True)
        try:
            source = local.source.resolve()
            if not clean:
                source = root / "source"
                with progress.step(f"copy {local.source}"):
                    copy_sources(local.source, source)
            return _complete(local, source, root, found, cache, progress, jobs, sandboxed, seconds)
        except BaseException:
            remove_tree(root)
            raise


def read_release(vmlinux: Path) -> str:
    """The release of a vmlinux, as the kernel gives it to uname and to the version magic of modules.

    Raises UserError where the file does not say it.
    """
    release = map_image(vmlinux).release
    if not release:
        raise UserError(
            "says no kernel release: it has no linux_banner with one",
            place=str(vmlinux),
            remedy="give the unstripped vmlinux of the kernel",
        )
    return release


def is_clean(source: Path) -> bool:
    """Whether a source tree was never built in, so that kbuild takes it for a separate build directory."""
    return not any((source / name).exists() for name in (".config", "include/config", "include/generated"))


def copy_sources(source: Path, target: Path) -> None:
    """Copy a source tree without what a build left in it."""

    below_arch = {path for arch in known() for path in arch.platform.generated}

    def skip(directory: str, names: list[str]) -> set[str]:
        relative = os.path.relpath(directory, source)
        skipped = set()
        for name in names:
            path = name if relative == "." else f"{relative}/{name}"
            generated = path in _PRODUCT_DIRS or path in below_arch or (relative == "." and name in _PRODUCT_NAMES)
            # Files that begin with a dot and end in .d or .cmd are kbuild's notes; _shipped files are
            # sources.
            dotted = name.startswith(".") and name.endswith((".d", ".cmd", ".tmp"))
            if generated or dotted or name.endswith(_PRODUCT_SUFFIXES) or name.startswith(".tmp_"):
                skipped.add(name)
        return skipped

    def copy(path: str, to: str) -> None:
        # a link is copied as one; a device among the sources would never end
        if not os.path.islink(path):  # noqa: PTH114 # of 80,000 files
            check_input(Path(path), SOURCE_BYTES, "take it out of the source")
        shutil.copy2(path, to, follow_symlinks=False)

    try:
        shutil.copytree(source, target, symlinks=True, ignore=skip, copy_function=copy)
    except shutil.Error as error:
        first = error.args[0][0]
        raise UserError(f"can't be copied ({first[2]})", place=str(first[0]), remedy="make it readable") from error


def _check_input(local: LocalKernel) -> None:
    if not _NAME.fullmatch(local.name):
        raise UserError(
            "a name is letters, digits and . + _ -",
            place=local.name,
            remedy=f"for example 6.1-test, for {LOCAL}:6.1-test",
        )
    for file, limit, what in (
        (local.config, CONFIG_BYTES, "the kernel's .config"),
        (local.vmlinux, VMLINUX_BYTES, "the unstripped vmlinux"),
        (local.image, VMLINUX_BYTES, f"the {default_arch().platform.image}"),
        (local.symvers, SYMVERS_BYTES, "Module.symvers of the same build"),
    ):
        check_input(file, limit, f"give {what}")
    if not (local.source / "scripts" / "Makefile.build").is_file() or not (local.source / "Kconfig").is_file():
        raise UserError("not a kernel source tree", place=str(local.source), remedy="give its top directory")
    if local.modules is not None and not local.modules.is_dir():
        raise UserError("no such directory", place=str(local.modules), remedy="give the directory with the .ko files")


def _check_name_free(local: LocalKernel, build_id: str, cache: Cache) -> None:
    for kernel in cache.kernels():
        same_name = kernel.id.distro == LOCAL and kernel.id.release == local.name
        if same_name and kernel.id.build_id != build_id:
            raise UserError(
                f"another kernel has this name (build-id {kernel.id.build_id[:12]})",
                place=kernel.id.name,
                remedy=f"kgbuild kernel remove {kernel.id.name}, or choose another name",
            )
        if kernel.id.build_id == build_id and not same_name:
            raise UserError(
                "this very kernel is in the cache under this name",
                place=kernel.id.name,
                remedy="use that name",
            )


def _complete(
    local: LocalKernel,
    source: Path,
    root: Path,
    found: _LocalFacts,
    cache: Cache,
    progress: Progress,
    jobs: int,
    sandboxed: bool,
    seconds: int,
) -> Kernel:
    tools = replace(host_tools(source, root, cc=found.cc, sandboxed=sandboxed), seconds=seconds)
    build, source_arch = root / "build", read_platform(local.vmlinux).source_arch
    shutil.copyfile(local.config, build / ".config")
    shutil.copyfile(local.config, root / "config")
    shutil.copyfile(local.symvers, build / "Module.symvers")
    given = parse_config(local.config.read_text(errors="replace"))
    # Kconfig asks again where a variable that it has used changes, so every make gets the same.
    pahole = _write_pahole(build, given.get("PAHOLE_VERSION", "0"))
    variables = pahole_variables(build) if pahole else ()
    with progress.step("prepare headers and build tools"):
        # Distributions name their kernels on make's command line; what the source says (6.1.192) is then not what
        # the kernel takes modules for (6.1.0-56-cloud-amd64).
        own = (*variables, f"KERNELRELEASE={found.release}")
        _make_prepare(source, build, source_arch, found.cc, jobs, own, tools)
    kbuild.prepare(
        source=source,
        build=build,
        units_file=root / "units.sqlite",
        cc=found.cc,
        source_arch=source_arch,
        release=found.release,
        progress=progress,
        variables=variables,
        jobs=jobs,
        tools=tools,
    )
    _check_config_kept(given, parse_config((build / ".config").read_text(errors="replace")))
    kernel = Kernel(
        id=KernelId(LOCAL, local.name, found.release, found.build_id),
        root=root,
        source=source,
        build=build,
        config=root / "config",
        symvers=build / "Module.symvers",
        vmlinux=local.vmlinux.resolve(),
        image=local.image.resolve(),
        modules=local.modules.resolve() if local.modules is not None else None,
        units=root / "units.sqlite",
        cc=found.cc,
        compiler=found.compiler,
        sandboxed=sandboxed,
    )
    _write_inputs(local, root)
    seal_kernel(kernel, cache)
    cache.save(kernel)
    return kernel


_INPUTS = "inputs.json"


def _write_inputs(local: LocalKernel, root: Path) -> None:
    given = {field.name: getattr(local, field.name) for field in fields(LocalKernel)}
    text = json.dumps({name: str(v.resolve()) if isinstance(v, Path) else v for name, v in given.items()})
    for name in (_INPUTS, f"2-{_INPUTS}"):  # it can be made of nothing else
        write_sealed(root / name, text.encode())


def read_inputs(root: Path) -> LocalKernel | None:
    """What the kernel in this directory of the cache was added from; None where that is not known."""
    for name in (_INPUTS, f"2-{_INPUTS}"):
        text = read_sealed(root / name)
        if text is not None:
            found = json.loads(text)
            return LocalKernel(
                name=found["name"],
                source=Path(found["source"]),
                config=Path(found["config"]),
                vmlinux=Path(found["vmlinux"]),
                image=Path(found["image"]),
                symvers=Path(found["symvers"]),
                modules=Path(found["modules"]) if found["modules"] is not None else None,
                cc=found["cc"],
            )
    return None


def _compiler_of(local: LocalKernel, compiler: str) -> str:
    """The compiler to use for a kernel that CONFIG_CC_VERSION_TEXT says `compiler` built. Raises ToolError."""
    cc = local.cc or kbuild.compiler_command(compiler)
    kbuild.find_compiler(cc, compiler, "" if local.cc else ", or name another with --cc")
    return cc


def _make_prepare(
    source: Path, build: Path, source_arch: str, cc: str, jobs: int, variables: Sequence[str], tools: BuildTools
) -> None:
    argv = ["make", "-s", f"-j{max(1, jobs)}", "-C", str(source), f"O={build}", f"ARCH={source_arch}"]
    argv += [f"CC={cc}", f"HOSTCC={cc}", *variables]
    given = parse_config((build / ".config").read_text(errors="replace"))
    for targets in (["olddefconfig"], ["prepare", "modules_prepare"]):
        done = tools.run(
            [*argv, *targets], writable=[build], env=kbuild.clean_environment(), check=False, limits=PREPARE_LIMITS
        )
        if done.status != 0 or done.stopped_by is not None:
            raise ToolError(
                f"make {' '.join(targets)} failed: {kbuild.make_failure(done)}",
                place=str(source),
                remedy="--compile-timeout allows more time"
                if done.stopped_by is not None and done.stopped_by.name == PREPARE_LIMITS.wait.name
                else "kgbuild doctor shows what is missing on this machine",
            )
        _check_config_kept(given, parse_config((build / ".config").read_text(errors="replace")))


_PAHOLE = ".kgbuild-pahole"


def pahole_variables(build: Path) -> tuple[str, ...]:
    """What make is told of pahole for a build tree, where a kernel was added with one."""
    return (f"PAHOLE={build / _PAHOLE}",) if (build / _PAHOLE).exists() else ()


def _write_pahole(build: Path, version: str) -> Path | None:
    """A program for Kconfig that says the version of pahole the kernel was built with; it can do nothing else.

    Kconfig leaves out BTF of modules, and with it members of struct module, where pahole is missing or older.
    Nothing that is prepared here runs pahole.
    """
    if not version.isdigit() or int(version) == 0:
        return None
    path = build / _PAHOLE
    # scripts/pahole-version.sh makes 124 of v1.24.
    path.write_text(f"#!/bin/sh\necho v{int(version) // 100}.{int(version) % 100:02}\n")
    path.chmod(0o755)
    return path


def _check_config_kept(given: Mapping[str, str], kept: Mapping[str, str]) -> None:
    """Raise ToolError where Kconfig changed an option: types would then not be those of the running kernel.

    It does so where a tool differs from the one that the kernel was built with. Options that describe tools,
    and those that only say how a kernel is signed, may differ.
    """
    changed = sorted(
        name
        for name in given.keys() | kept.keys()
        if given.get(name) != kept.get(name) and not _TOOL_OPTION.match(name)
    )
    if changed:
        raise ToolError(
            f"with the tools of this machine, {len(changed)} options change: {', '.join(changed[:6])}",
            place="the kernel's configuration",
            remedy="prepare it with the compiler and the tools that the kernel was built with (--cc)",
        )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a build tree in which single units of a kernel compile as they did for the running one.

The first run of make evaluates the top Makefile and writes down the environment that it exports to the makefiles
below. Another one runs scripts/Makefile.build with that environment and -n, and so prints compile commands without
compiling anything: those of the directories that are needed (host/kernels/unit_listing.py), or of the whole tree.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.errors import ToolError
from kgbuild.host.archives.recipe import load_recipes
from kgbuild.host.kernels import compile_commands
from kgbuild.host.kernels import generated_sources as generated
from kgbuild.host.kernels.build_tools import HOST_TOOLS, BuildTools, tools_of
from kgbuild.host.system.children import PREPARE_LIMITS, child_environment
from kgbuild.host.system.locks import temporary_directory
from kgbuild.host.system.required_packages import PACKAGE_OF, install_command, remedy_for
from kgbuild.host.system.run import Completed
from kgbuild.host.system.sealed import read_sealed, write_sealed, written_aside
from kgbuild.model import Kernel, UnitCommand
from kgbuild.progress import Progress

ENVIRONMENT = ".kgbuild-env"
_TARGET = "kgbuild-env"
# The directories that the top Makefile has kbuild visit, in the environment that it exports.
_FOLDERS = "KGBUILD_FOLDERS"
_EXPORTED = f"export {_FOLDERS} = $(build-dirs)"
_MAKE_INTERNAL = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MAKE_TERMERR", "MAKE_TERMOUT")
# Variables in which the environment names the trees it was made with, by kernels of different age.
_BUILD_TREE = ("O", "abs_objtree", "abs_output", "PWD")
_SOURCE_TREE = ("srctree", "abs_srctree", "srcroot", "VPATH")
# What kbuild starts in place of make for a directory below: make, if the directory was asked for.
_DESCEND = """
folder=
for word; do case $word in obj=*) folder=${word#obj=} ;; esac; done
folder=${folder#./}
[ -n "$folder" ] || exec make "$@"
case " $KGBUILD_ASKED " in *" $folder "*) exec make "$@" ;; esac
for one in $KGBUILD_BELOW; do case $folder/ in "$one"/*) exec make "$@" ;; esac; done
"""
_TESTED_BY_MAKE = ("make", "ld", "gcc", "flex", "bison", "bc")


def clean_environment() -> dict[str, str]:
    """The user's environment without what could change a kernel build (KCFLAGS, CFLAGS, ARCH)."""
    return child_environment()


def compiler_text(config: str) -> str:
    """CONFIG_CC_VERSION_TEXT of a .config's text; empty where it has none."""
    found = re.search(r'^CONFIG_CC_VERSION_TEXT="(.*)"$', config, re.MULTILINE)
    return found.group(1) if found else ""


def compiler_command(text: str) -> str:
    """The compiler's command: the first word of CONFIG_CC_VERSION_TEXT, or "gcc" if that is no command."""
    word = text.split(" ", 1)[0] if text else ""
    return word if re.fullmatch(r"[A-Za-z0-9_.+-]+", word) else "gcc"


def compiler_package(command: str) -> str:
    """The package that brings a compiler command: x86_64-linux-gnu-gcc-12 and gcc-12 are both in gcc-12."""
    found = re.search(r"((?:gcc|clang|g\+\+)(?:-[0-9.]+)?)$", command)
    return PACKAGE_OF.get(command, found.group(1) if found else command)


def check_compiler(kernel: Kernel) -> Refusal | None:
    """Compare this machine's compiler with the one that built the kernel, by the first line of --version.

    Returns the refusal C3-compiler where they differ or the compiler is missing, else None.
    """
    package = compiler_package(kernel.cc)
    wanted = kernel.compiler or "unknown"
    try:
        find_own_compiler(kernel)
    except ToolError as error:
        return Refusal("C3-compiler", error.place, error.fact, remedy=error.remedy)
    lines = _version_said(kernel).splitlines()
    found = lines[0].strip() if lines else ""
    if _same_compiler(found, wanted):
        return None
    remedy = f"{_exact_one(kernel)}{install_command(package)}, or accept the risk with --allow-compiler"
    fact = f"this is {found!r}, the kernel was built by {wanted!r}"
    return Refusal("C3-compiler", kernel.cc, fact, remedy=remedy)


def compiler_version(kernel: Kernel) -> str:
    """What a kernel's compiler prints for --version, with the toolchain that it is of. Raises ToolError without it."""
    said = _version_said(kernel)
    return f"{kernel.toolchain.parent.name} {said}" if kernel.toolchain is not None else said


def _version_said(kernel: Kernel) -> str:
    tools = tools_of(kernel)
    path = tools.path_of(kernel.cc)
    try:
        status = path.stat() if path is not None else None
    except OSError:  # a link that leads somewhere only in the sandbox
        status = None
    if status is None:
        return _ask_version(tools, kernel.cc)
    return _known_version(tools, kernel.cc, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _known_version(tools: BuildTools, cc: str, file: tuple[int, ...]) -> str:
    """A build asks several times; a compiler whose file is still the one it was is not run again."""
    del file
    return _ask_version(tools, cc)


def _ask_version(tools: BuildTools, cc: str) -> str:
    return tools.run([cc, "--version"], timeout=20).stdout


def find_own_compiler(kernel: Kernel) -> None:
    """Raise ToolError where the programs that compile for a kernel have no compiler of that name."""
    try:
        find_compiler(kernel.cc, kernel.compiler, tools=tools_of(kernel))
    except ToolError as error:
        raise ToolError(error.fact, place=error.place, remedy=f"{_exact_one(kernel)}{error.remedy}") from error


def _exact_one(kernel: Kernel) -> str:
    """How a remedy begins where the archive has the compiler that built the kernel, and the user chose another."""
    recipe = load_recipes().get(kernel.id.distro)
    if kernel.toolchain is not None or recipe is None or recipe.toolchain is None:
        return ""
    return "leave out --toolchain host and --no-sandbox: kgbuild then uses the compiler that built this kernel; or "


def find_compiler(cc: str, compiler: str, remedy: str = "", tools: BuildTools = HOST_TOOLS) -> None:
    """Raise ToolError where the compiler `cc` is missing; `compiler` is what built the kernel, for the message, and
    `remedy` goes behind the command that installs it."""
    if tools.path_of(cc) is None:
        fact = f"not found on this machine; the kernel was built by {compiler or 'an unknown compiler'}"
        raise ToolError(fact, place=cc, remedy=f"{install_command(compiler_package(cc))}{remedy}")


def _same_compiler(found: str, wanted: str) -> bool:
    # The first word is the name it was called by: gcc-12 and x86_64-linux-gnu-gcc-12 are one program.
    return found.partition(" ")[2] == wanted.partition(" ")[2] and found != ""


def load_environment(kernel: Kernel) -> dict[str, str]:
    """The environment kbuild gives its commands in the build tree of a kernel, as `prepare` wrote it down, with the
    paths that its trees have now. Raises ToolError where it is missing.
    """
    path = kernel.build / ENVIRONMENT
    data = read_sealed(path, unsealed=True)
    if data is None:
        raise ToolError("is damaged or gone", place=str(path), remedy="run kgbuild again, which makes it again")
    source = kernel.outside.kernel if kernel.outside is not None else kernel.source
    return move_environment(parse_environment(data), source, kernel.build)


@dataclass(frozen=True)
class ModuleDirectory:
    """How kbuild is asked of a directory with modules of its own: the environment, the directory that make is started
    in, and what the makefiles call the directory (`obj`)."""

    environment: dict[str, str]
    cwd: Path
    obj: str

    def makefile_arguments(self, source: Path) -> list[str]:
        """Arguments of make that read this directory's makefile. `source` is the kernel's source tree."""
        return ["-I", str(source), "-f", str(source / "scripts" / "Makefile.build"), f"obj={self.obj}"]


def module_directory(kernel: Kernel, folder: Path) -> ModuleDirectory:
    """How kbuild is asked of the modules in `folder`. Raises ToolError where the kernel's environment is missing.

    Since 6.13 make runs in that directory and knows the build tree by its absolute path (srcroot, objtree); before, it
    runs in the build tree.
    """
    # the top Makefile clears VPATH for external modules, so that makefiles are not searched in the source tree
    env = {**load_environment(kernel), "VPATH": "", "KBUILD_MODULES": "1", "KBUILD_EXTMOD": str(folder)}
    if "srcroot" not in env:
        return ModuleDirectory(env, kernel.build, str(folder))
    return ModuleDirectory({**env, "srcroot": str(folder), "objtree": str(kernel.build)}, folder, ".")


def move_environment(env: Mapping[str, str], source: Path, build: Path) -> dict[str, str]:
    """The environment with the paths of a source and a build tree in place of those that it was made with, which it
    names itself: a cache may have been moved since."""
    old_build = next((env[name] for name in _BUILD_TREE if env.get(name, "").startswith("/")), str(build))
    old_source = next((env[name] for name in _SOURCE_TREE if env.get(name, "").startswith("/")), str(source))
    moved = {old: new for old, new in ((old_source, str(source)), (old_build, str(build))) if old != new}
    if not moved:
        return dict(env)
    # the longer first: one tree may lie in the other
    pattern = re.compile("|".join(rf"{re.escape(old)}(?![^/\s:=])" for old in sorted(moved, key=len, reverse=True)))
    return {name: pattern.sub(lambda found: moved[found[0]], value) for name, value in env.items()}


def parse_environment(data: bytes) -> dict[str, str]:
    """Names and values of NUL-separated `NAME=VALUE`, without make's own variables."""
    env = {}
    for item in data.split(b"\0"):
        name, equals, value = item.decode(errors="surrogateescape").partition("=")
        if equals and name not in _MAKE_INTERNAL:
            env[name] = value
    return env


def settle_config(build: Path) -> None:
    """Make a build tree that came with its generated headers look up to date.

    What make derives from .config becomes newer than it, so that make does not run Kconfig.
    """
    config = build / "include" / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "auto.conf.cmd").write_bytes(b"")
    stamp = (build / ".config").stat().st_mtime + 1
    generated = build / "include" / "generated"
    for path in (
        config / "auto.conf",
        config / "auto.conf.cmd",
        generated / "autoconf.h",
        generated / "rustc_cfg",
    ):
        if path.exists():
            os.utime(path, (stamp, stamp))


def copy_tools(tools: Path, source: Path, build: Path) -> None:
    """Copy prebuilt build tools (objtool, modpost, fixdep...) into the build tree.

    `tools` has the layout of a kernel tree. What the source tree has itself stays out: the makefiles of the
    build tools' package may be those of another version.
    """
    for base, _, names in os.walk(tools):
        relative = Path(base).relative_to(tools)
        for name in names:
            if (source / relative / name).exists():
                continue
            target = build / relative / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(base) / name, target)


def prepare(
    *,
    source: Path,
    build: Path,
    units_file: Path,
    cc: str,
    source_arch: str,
    release: str,
    progress: Progress,
    variables: Sequence[str] = (),
    jobs: int = 2,
    estimate: int = 5000,
    tools: BuildTools = HOST_TOOLS,
    whole: bool = True,
) -> None:
    """Capture the environment, build the programs that generate sources, and with `whole` list the commands of all
    units; else they are asked for when they are needed (host/kernels/unit_listing.py).

    `build` has .config, the generated headers and the build tools. Writes build/.kgbuild-env and `units_file`,
    nothing in `source`. `source_arch` is the architecture's directory below arch/. `variables` are NAME=VALUE that
    make was given when the tree was configured; `jobs` makes run
    at once where more than one is needed; `estimate` is the number of units the bar assumes. Raises ToolError where
    make or a tool is missing or fails.
    """
    env = capture_environment(
        source=source,
        build=build,
        cc=cc,
        source_arch=source_arch,
        release=release,
        variables=variables,
        tools=tools,
    )
    with progress.step("prepare the programs that generate sources"):
        generated.build_generators(source, build, env, tools)
    if whole:
        list_units(
            source=source,
            build=build,
            units_file=units_file,
            env=env,
            progress=progress,
            jobs=jobs,
            estimate=estimate,
            tools=tools,
        )


def list_units(
    *,
    source: Path,
    build: Path,
    units_file: Path,
    env: dict[str, str],
    progress: Progress,
    jobs: int = 2,
    estimate: int = 5000,
    tools: BuildTools = HOST_TOOLS,
) -> None:
    """Write the commands of all units to `units_file`, and make the sources that kbuild generates. `env` is what
    `capture_environment` found. Raises ToolError where make fails."""
    with progress.step("prepare compile commands of all units", estimate, "units") as task:
        targets: set[str] = set()

        def counted() -> Iterator[UnitCommand]:
            lines = generated.watch_targets(print_commands(source, build, env, tools), targets)
            for unit in compile_commands.parse_units(lines, str(source)):
                task.advance()
                yield unit

        with written_aside(units_file) as partial:
            count = compile_commands.write_units(counted(), partial)
            task.total(count)
            if count == 0:
                raise ToolError(
                    "make printed no compile command",
                    place=str(build),
                    remedy="check that the source and the config belong together",
                )
            failed = generated.make_sources(source, build, env, targets, jobs, tools)
    if failed:
        progress.note(f"generated sources of {', '.join(failed)} could not be made")
    progress.note(f"{count} units")


def capture_environment(
    *,
    source: Path,
    build: Path,
    cc: str,
    source_arch: str,
    release: str,
    variables: Sequence[str] = (),
    tools: BuildTools = HOST_TOOLS,
) -> dict[str, str]:
    """Run the top Makefile as far as its exports and return them; also kept in build/.kgbuild-env.

    `variables` are more NAME=VALUE for make; they are not in the result.

    The extra target runs once in each make that the top Makefile starts; the last of them has the full
    environment.
    """
    # until 5.15 the Makefile leaves out objtool where it can't build it; here it comes with the kernel
    variables = (*variables, "has_libelf=1")
    with temporary_directory("env") as directory:
        rule = f"{_TARGET}: ; @env -0 > {directory}/$$MAKELEVEL"
        argv = [
            *("make", "-s", "-C", str(source), f"O={build}", f"--eval={rule}", f"--eval={_EXPORTED}", _TARGET),
            *(f"ARCH={source_arch}", f"CC={cc}", f"HOSTCC={cc}", f"KERNELRELEASE={release}", *variables),
        ]
        done = tools.run(argv, writable=[build, directory], env=clean_environment(), check=False, limits=PREPARE_LIMITS)
        levels = sorted((path for path in directory.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        captured = [data for data in (path.read_bytes() for path in levels) if b"\0srctree=" in b"\0" + data]
        if done.status != 0 or done.stopped_by is not None or not captured:
            said = make_failure(done) if done.status or done.stopped_by else "it exported nothing"
            remedy = _make_remedy(done.stderr)
            raise ToolError(f"the kernel's Makefile failed: {said}", place="make", remedy=remedy)
        # The one with the build tree's makefiles has exported most.
        data = max(captured, key=len)
    env = parse_environment(data)
    for variable in variables:
        env.pop(variable.partition("=")[0], None)
    kept = b"".join(f"{k}={v}\0".encode(errors="surrogateescape") for k, v in sorted(env.items()))
    write_sealed(build / ENVIRONMENT, kept)
    return env


def print_commands(
    source: Path, build: Path, env: dict[str, str], tools: BuildTools, folders: Collection[str] = ()
) -> Iterator[str]:
    """The lines that kbuild prints of how it compiles the units of the whole tree, or of these directories alone: "."
    is the top, "fs/**" fs and all below it, and those above a directory have to be named, too. Raises ToolError where a
    limit stops make."""
    # one directory since 6.1, the whole tree; before, make visits each of the top directories by itself
    tops = env.get(_FOLDERS, "").split() or ["."]
    if not folders:
        for folder in tops:
            yield from _print_commands_in(folder, source, build, env, tools, [])
        return
    exact = [folder for folder in sorted(folders) if not folder.endswith("/**")]
    below = [folder.removesuffix("/**") for folder in sorted(folders) if folder.endswith("/**")]
    with temporary_directory("descend") as own_folder:
        script = own_folder / "descend"
        script.write_text(_DESCEND)
        own = {**env, "KGBUILD_ASKED": " ".join(exact), "KGBUILD_BELOW": " ".join(below)}
        for folder in tops:
            if folder == "." or folder in exact or any(f"{folder}/".startswith(f"{one}/") for one in below):
                more = [f"MAKE=sh {script}"]
                yield from _print_commands_in(folder, source, build, own, tools, more, [own_folder])


def _print_commands_in(
    folder: str,
    source: Path,
    build: Path,
    env: dict[str, str],
    tools: BuildTools,
    more: Sequence[str],
    seen: Sequence[Path] = (),
) -> Iterator[str]:
    argv = [
        *("make", "-rR", "-n", "-k", "--trace", "-I", str(source), "-f", str(source / "scripts" / "Makefile.build")),
        *(f"obj={folder}", "need-builtin=1", "need-modorder=1", *more),
    ]
    own = {**env, "KBUILD_MODULES": "1", "KBUILD_BUILTIN": "1"}
    return tools.stream(argv, build, own, PREPARE_LIMITS, [build, *seen])


def make_failure(done: Completed) -> str:
    """What to say of a make that failed: the limit that stopped it, or its last messages."""
    if done.stopped_by is not None:
        return f"was stopped: {done.stopped_by.statement}"
    lines = [line for line in done.stderr.splitlines() if line.strip()][-4:]
    return "; ".join(lines) or f"ended with status {done.status}"


def _make_remedy(stderr: str) -> str:
    for program in _TESTED_BY_MAKE:
        if re.search(rf"\b{program}: (command )?not found", stderr):
            return remedy_for(program)
    return "kgbuild doctor shows what is missing on this machine"

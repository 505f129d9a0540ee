# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles single units: the original from the unmodified tree, the patched one from an overlay.

The overlay (host/compile/overlay.py) is a tree of symbolic links with only some real directories, so that every other
file is the kernel's own and nothing is edited in place. The command is the one that kbuild would run, without make,
plus options that do not change the code: -gbtf for types, -g for static locals, one section per function and variable,
-fdump-ipa-clones for gcc's report on clones and inlining, and an assembler that keeps the names of variables in
references (`assembler`). Results are cached by content: command, compiler, and text of the patched files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kgbuild.debuginfo.compile_flags import find_optimized, optimize_macros
from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.errors import ToolError
from kgbuild.host.compile.assembler import RunTimeKeys, make_assembler, restore_types
from kgbuild.host.compile.build_path import overlap, path_when_built, shows_path
from kgbuild.host.compile.make_rules import read_dependencies
from kgbuild.host.compile.overlay import Overlay
from kgbuild.host.compile.result_cache import CompiledSide, identity_of, result_key, unpack
from kgbuild.host.compile.shared_objects import PLACE, Compile, SharedObjects, clones_file, path_options
from kgbuild.host.kernels.build_tools import BuildTools, tools_of
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.children import COMPILE_LIMITS, child_environment
from kgbuild.host.system.run import DISK_FULL, Completed, disk_full
from kgbuild.host.system.tree_manifest import check_files
from kgbuild.model import Kernel, UnitCommand
from kgbuild.patch.compile_effects import DATE_TIME, EPOCH, find_effects, may_hide, told_by_compiler
from kgbuild.patch.include_policy import check_dependencies
from kgbuild.progress import Progress

# headers for authors: macros with the names that existing live patches use
AUTHOR = Path(__file__).resolve().parents[2] / "data" / "author_headers"
_Item = TypeVar("_Item")
_NAMED = 6
ADDED = ("-ffunction-sections", "-fdata-sections")
# marks the cached object of a unit that was compiled by its own options alone
PLAIN = "plain-1"
# and of one whose static keys are read at run time
_RUN_TIME = "run-time-3"
# Variable locations at each instruction are not needed; they take a tenth of the time and a third of the object.
DEBUG = ("-g", "-fno-var-tracking", "-fno-var-tracking-assignments")
_BTF, _BTF_SINCE = "-gbtf", 12
_GCC = re.compile(r"gcc\S* \(.*\) (\d+)\.")
_DEBUG = re.compile(r"^-g(dwarf.*|[0-3]|btf|ctf|z.*)?$")


@dataclass(frozen=True)
class Compiled:
    """One unit, compiled both ways: the command, both objects, gcc's report on clones for both ("" if there is none),
    and where functions of the patched one have compiler options of their own (file, line, text). `cached` objects were
    in the cache for this kernel, `shared` ones were compiled for another kernel."""

    unit: UnitCommand
    orig: bytes
    patched: bytes
    cached: int
    original_clones: str = ""
    patched_clones: str = ""
    optimized: tuple[tuple[str, int, str], ...] = ()
    shared: int = 0


def compile_units(
    kernel: Kernel,
    units: Sequence[UnitCommand],
    files: Mapping[str, bytes],
    cache: Cache,
    progress: Progress,
    jobs: int = 2,
    real: Iterable[str] = (),
    share: bool = False,
) -> list[Compiled]:
    """Compile each unit from the unmodified tree and with `files` (path -> patched text, with #line directives).
    Without files, both sides are the same object.

    `real` are directories that must be real in the overlay (`Overlay`). With `share`, objects that were compiled for
    another kernel are taken where the preprocessed text is the same (`SharedObjects`). Returns the units in their
    order. Raises Refused (P10-compile, P5-include) if the patched text does not compile or reads a forbidden file,
    ToolError if the original does not compile.
    """
    identity = identity_of(kernel)
    refusals: list[Refusal] = []
    sides = ("", _side_of(files)) if files else ("",)
    wanted = [(u, side) for u in units for side in sides]
    found: dict[tuple[str, str], CompiledSide] = {}
    for unit, side in wanted:
        result = unpack(cache.get(result_key(identity, unit, side)))
        if result is not None:
            found[(unit.object, side)] = result
    missing = [(u, s) for u, s in wanted if (u.object, s) not in found]
    # patched ones first, to find mistakes in the patch sooner; long ones first, so that all CPUs are busy to the end
    missing.sort(key=lambda item: (not item[1], -_size(kernel, item[0])))
    taken: set[tuple[str, str]] = set()
    if missing:
        shared = SharedObjects(kernel, cache) if share else None
        with cache.scratch("compile") as scratch:
            overlay = Overlay(kernel, files, scratch, real)
            assembler = _assembler(kernel, scratch)
            built_at = _built_at(kernel, [unit for unit, _ in missing], cache, bool(files))
            sources = list(dict.fromkeys(u.source for u, _ in missing))
            hides = any(may_hide(_read(kernel.source / path), text) for path, text in files.items())

            def one(number: int, item: tuple[UnitCommand, str]) -> None:
                unit, side = item
                out = scratch / f"{number}.o"
                place = built_at if shows_path(unit) else None
                tree, problems, again = _compile(kernel, unit, out, overlay if side else None, assembler, place, shared)
                if again:
                    taken.add((unit.object, side))
                if side and hides and not problems:
                    problems = _check_effects(kernel, unit, tree, out)
                refusals.extend(problems)
                if not problems:
                    made = _read_result(out, kernel, tree)
                    cache.put(result_key(identity, unit, side), made.packed)
                    found[(unit.object, side)] = made

            _for_each(missing, one, f"compile {_named(sources)}", jobs, progress)
    if refusals:
        raise Refused(refusals)
    absent = {(u.object, s) for u, s in missing}
    return [
        Compiled(
            u,
            found[(u.object, "")].data,
            found[(u.object, sides[-1])].data,
            sum((u.object, s) not in absent for s in sides),
            found[(u.object, "")].clones,
            found[(u.object, sides[-1])].clones,
            found[(u.object, sides[-1])].optimized,
            sum((u.object, s) in taken for s in sides),
        )
        for u in units
    ]


def _for_each(
    items: Sequence[_Item], work: Callable[[int, _Item], None], title: str, jobs: int, progress: Progress
) -> None:
    """Call `work` with the number of each item and the item, up to `jobs` at a time, as one step that is shown."""
    with progress.step(title, len(items), "objects") as task, ThreadPoolExecutor(max(jobs, 1)) as pool:

        def one(numbered: tuple[int, _Item]) -> None:
            work(*numbered)
            task.advance()

        list(pool.map(one, enumerate(items)))


def _named(sources: Sequence[str]) -> str:
    return "  ".join(sources) if len(sources) <= _NAMED else f"{len(sources)} units"


def compile_plain(
    kernel: Kernel,
    units: Sequence[UnitCommand],
    cache: Cache,
    progress: Progress,
    jobs: int = 2,
    share: bool = False,
) -> list[bytes]:
    """The object of each unit's original by the kernel's own options alone: without a section for each function and
    variable. `share` as for `compile_units`. Returns them in the order of the units. Raises ToolError if one does not
    compile."""
    identity = identity_of(kernel)
    keys = {unit: result_key(identity, unit, PLAIN) for unit in units}
    found = {unit: result.data for unit, key in keys.items() if (result := unpack(cache.get(key))) is not None}
    missing = [unit for unit in keys if unit not in found]
    if missing:
        shared = SharedObjects(kernel, cache) if share else None
        with cache.scratch("compile") as scratch:
            assembler = _assembler(kernel, scratch)
            built_at = _built_at(kernel, missing, cache, False)

            def one(number: int, unit: UnitCommand) -> None:
                out = scratch / f"{number}.o"
                _compile(kernel, unit, out, None, assembler, built_at if shows_path(unit) else None, shared, ())
                found[unit] = out.read_bytes()
                cache.put(keys[unit], CompiledSide(found[unit], "", ()).packed)

            _for_each(missing, one, f"compile {_named([u.source for u in missing])} as the kernel was", jobs, progress)
    return [found[unit] for unit in units]


def compile_run_time(
    kernel: Kernel,
    units: Mapping[UnitCommand, RunTimeKeys],
    files: Mapping[str, bytes],
    cache: Cache,
    progress: Progress,
    jobs: int = 2,
    real: Iterable[str] = (),
) -> dict[UnitCommand, bytes]:
    """The object of each unit with `files` as its text (without files, of its original), in which the named static keys
    are read at run time. What the compiler makes is the same as in `compile_units`; only the assembler's input is not.
    Raises Refused (P10-compile) where that can't be assembled."""
    identity, side = identity_of(kernel), _side_of(files) if files else ""
    keys = {u: result_key(identity, u, json.dumps([_RUN_TIME, side, *read.as_data()])) for u, read in units.items()}
    found = {unit: result.data for unit, key in keys.items() if (result := unpack(cache.get(key))) is not None}
    missing = [unit for unit in keys if unit not in found]
    refusals: list[Refusal] = []
    if missing:
        with cache.scratch("compile") as scratch:
            overlay = Overlay(kernel, files, scratch, real) if files else None
            built_at = _built_at(kernel, missing, cache, bool(files))

            def one(number: int, unit: UnitCommand) -> None:
                out = scratch / f"{number}.o"
                assembler = _assembler(kernel, scratch / str(number), units[unit], unit.argv)
                place = built_at if shows_path(unit) else None
                _, problems, _ = _compile(kernel, unit, out, overlay, assembler, place, None)
                refusals.extend(problems)
                if not problems:
                    found[unit] = out.read_bytes()
                    cache.put(keys[unit], CompiledSide(found[unit], "", ()).packed)

            _for_each(
                missing,
                one,
                f"compile {_named([u.source for u in missing])} with static keys read at run time",
                jobs,
                progress,
            )
    if refusals:
        raise Refused(refusals)
    return found


def _side_of(files: Mapping[str, bytes]) -> str:
    """The digest of patched texts, for the cache key of what is compiled with them."""
    texts = ([path, hashlib.sha256(text).hexdigest()] for path, text in sorted(files.items()))
    return hashlib.sha256(json.dumps(["effects-1", author_digest(), *texts]).encode()).hexdigest()


def _built_at(kernel: Kernel, units: Iterable[UnitCommand], cache: Cache, patched: bool) -> Path | None:
    """The path at which the kernel was built, where the object of one of the units names it and it has to be shown to
    the compiler there; None where that is not so. Raises ToolError where a patched unit can't be shown there."""
    if not (kernel.sandboxed and any(shows_path(unit) for unit in units)):
        return None
    built_at = path_when_built(kernel, cache)
    if built_at is None or not overlap(built_at, kernel.source):
        return built_at
    if patched:
        raise ToolError(
            "is where the kernel was built, and its objects name their source files by that path",
            place=str(kernel.source),
            remedy="kgbuild kernel remove it, then kgbuild kernel add it again with a copy of the source",
        )
    return None  # it has the right names as it is


def _assembler(
    kernel: Kernel, scratch: Path, read: RunTimeKeys | None = None, options: Sequence[str] = ()
) -> list[str]:
    """The option for an assembler that keeps names, and makes code read keys at run time (`make_assembler`); none for
    clang, which has its own assembler."""
    if "clang" in kernel.compiler:
        return []
    real = tools_of(kernel).run([kernel.cc, "-print-prog-name=as"]).stdout.strip()
    return make_assembler(scratch / "bin", real, read, options)


def _read_result(out: Path, kernel: Kernel, tree: Path) -> CompiledSide:
    path = clones_file(out)
    clones = path.read_text(errors="replace") if path.exists() else ""
    for root in (tree, kernel.source):
        clones = clones.replace(f"{root}/", "")
    texts: dict[str, str] = {}
    tools = tools_of(kernel, AUTHOR, tree)
    for name in dict.fromkeys(read_dependencies(out.with_suffix(".d"))):
        data = tools.outside(kernel.build / name).read_bytes()
        # few headers have the word; looking for it is all that it costs to know
        if b"optimize" in data or name.endswith(".c"):
            texts[name.removeprefix(f"{tree}/")] = data.decode(errors="replace")
    macros = optimize_macros(texts.values())
    optimized = tuple((name, line, what) for name, text in texts.items() for line, what in find_optimized(text, macros))
    return CompiledSide(out.read_bytes(), clones, optimized)


def _size(kernel: Kernel, unit: UnitCommand) -> int:
    try:
        return source_path(kernel, kernel.source, unit.source).stat().st_size
    except OSError:
        return 0


def without_debug(argv: Sequence[str], tree: Path) -> list[str]:
    """A unit's command for a source tree, without options for debug information."""
    return [a.replace("{src}", str(tree)) for a in argv if not _DEBUG.match(a)]


def debug_options(kernel: Kernel) -> list[str]:
    """Options for debug information. gcc writes BTF since version 12; without it types are compared by DWARF alone."""
    found = _GCC.search(kernel.compiler)
    return [*DEBUG, _BTF] if found is None or int(found[1]) >= _BTF_SINCE else [*DEBUG]


def author_options() -> list[str]:
    """Options with which patched code finds the headers for authors, before the kernel's headers of the same names."""
    return [f"-I{AUTHOR}"]


def author_digest() -> str:
    """A digest of the headers for authors."""
    paths = sorted(p for p in AUTHOR.rglob("*.h"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in paths)).hexdigest()


def source_path(kernel: Kernel, tree: Path, source: str) -> Path:
    """The path of a unit's source file: in the source tree or, if it is generated, in the build tree."""
    path = tree / source
    return path if path.exists() else kernel.build / source


def _compile(
    kernel: Kernel,
    unit: UnitCommand,
    out: Path,
    overlay: Overlay | None,
    assembler: Sequence[str],
    place: Path | None,
    shared: SharedObjects | None,
    added: Sequence[str] = ADDED,
) -> tuple[Path, list[Refusal], bool]:
    """Compile a unit into `out`, its original or its version in the overlay, at the path `place` if there is one, with
    the options `added` to its own; or take the object from those that are `shared`. Returns the tree it was compiled
    in, what is wrong, and whether the object was taken."""
    while True:
        tree = overlay.tree if overlay is not None else kernel.source
        read, problems, taken = _compile_in(
            kernel, unit, tree, place, out, overlay is not None, assembler, added, shared
        )
        if overlay is None or not overlay.is_stale(unit, tree, read):
            break
    problems = problems or (check_dependencies(_resolved(read, kernel), _roots(kernel, tree)) if read else [])
    return tree, problems or _run_objtool(kernel, unit, out, overlay is not None), taken


def _compile_in(
    kernel: Kernel,
    unit: UnitCommand,
    tree: Path,
    place: Path | None,
    out: Path,
    patched: bool,
    assembler: Sequence[str],
    added: Sequence[str],
    shared: SharedObjects | None,
) -> tuple[list[str], list[Refusal], bool]:
    """Run the compiler once, unless the object is `shared` already. For patched code, check what it and the assembler
    have read. Returns what was read, what is wrong, and whether the object was taken."""
    if shared is not None and place is None and kernel.sandboxed and not shows_path(unit):
        place = PLACE
    argv = without_debug(unit.argv, place or tree)
    if patched:
        argv[1:1] = author_options()
        argv.append(DATE_TIME)
    tools = tools_of(kernel, AUTHOR, tree)
    if place is not None:
        tools = tools.with_mount(tree, place)
    if shared is not None:
        argv += path_options(kernel.build)
    what = Compile(unit, argv, added, source_path(kernel, tree, unit.source), tree, place, out, patched)
    taken = False
    if shared is None:
        problems = _run_compiler(kernel, what, assembler, tools)
    else:
        with shared.entry(what, tools) as entry:
            taken = entry.found
            problems = _run_compiler(kernel, what, assembler, tools) if not taken else []
            if not taken and not problems:
                shared.keep(entry, what)
    if problems:
        # the files it read tell whether the kernel's own version of a header caused the failure
        return (read_dependencies(what.deps) if what.deps.exists() else []), problems, False
    # what it read must be what was unpacked
    deps = read_dependencies(what.deps)
    check_files(kernel.source, [Path(path) for path in _resolved(deps, kernel)])
    # files read by .incbin and .include are only in the assembler's list; an object that is taken has read none
    by_assembler = read_dependencies(what.read_by_assembler) if not taken else []
    return [*by_assembler, *deps] if patched else [], [], taken


def _run_compiler(kernel: Kernel, what: Compile, assembler: Sequence[str], tools: BuildTools) -> list[Refusal]:
    """Compile into `what.out`. Raises ToolError where the original does not compile."""
    # with -pipe, the assembler's input has no temporary name in its list
    argv = [
        *what.argv,
        *debug_options(kernel),
        "-pipe",
        *what.added,
        *assembler,
        f"-Wp,-MD,{what.deps}",
        f"-Wa,--MD,{what.read_by_assembler}",
        "-o",
        str(what.out),
    ]
    if "clang" not in kernel.compiler:
        argv.append(f"-fdump-ipa-clones={what.clones}")
    argv.append(what.shown_source)
    result = tools.run(argv, cwd=kernel.build, check=False, limits=COMPILE_LIMITS, writable=[what.out.parent])
    what.name_outside(what.deps, what.read_by_assembler, what.clones)
    if result.status != 0:
        if what.place is not None:
            result = result._replace(stderr=result.stderr.replace(f"{what.place}/", f"{what.tree}/"))
        check_files(kernel.source, None)  # any file may be why
        text, source = why_failed(result, what.tree), what.unit.source
        if disk_full(result.stderr):
            raise ToolError(f"can't be compiled: {text}", place=source, remedy=DISK_FULL)
        if not what.patched:
            raise ToolError(f"the original does not compile: {text}", place=source)
        return told_by_compiler(source, result.stderr) or [Refusal("P10-compile", source, text)]
    if assembler:
        what.out.write_bytes(restore_types(what.out.read_bytes()))
    return []


def _check_effects(kernel: Kernel, unit: UnitCommand, tree: Path, out: Path) -> list[Refusal]:
    """What the patched unit makes of its compile and the original does not (`find_effects`), by the preprocessor."""
    texts = []
    for root, options in ((kernel.source, []), (tree, author_options())):
        argv = [a for a in without_debug(unit.argv, root) if a != "-c"]
        argv[1:1] = options
        text = out.with_suffix(".i")
        argv += ["-E", "-Wno-date-time", "-o", str(text), str(source_path(kernel, root, unit.source))]
        env = {**child_environment(), "SOURCE_DATE_EPOCH": EPOCH}
        tools = tools_of(kernel, AUTHOR, tree)
        done = tools.run(argv, cwd=kernel.build, env=env, check=False, limits=COMPILE_LIMITS, writable=[out.parent])
        if done.status != 0 and options:
            return [Refusal("P10-compile", unit.source, why_failed(done, root))]
        texts.append(text.read_bytes() if done.status == 0 else b"")
        text.unlink(missing_ok=True)
    return find_effects(unit.source, texts[0], texts[1])


def _read(path: Path) -> bytes:
    """A file's bytes; b"" where there is none."""
    return path.read_bytes() if path.is_file() else b""


def _run_objtool(kernel: Kernel, unit: UnitCommand, out: Path, patched: bool) -> list[Refusal]:
    if unit.objtool:
        env = {**child_environment(), "SRCARCH": platform_of(kernel).source_arch}
        done = tools_of(kernel).run(
            [*unit.objtool, out],
            cwd=kernel.build,
            check=False,
            env=env,
            limits=COMPILE_LIMITS,
            writable=[out.parent],
        )
        if done.status != 0:
            stopped = done.stopped_by.statement if done.stopped_by is not None else ""
            text = stopped or " ".join(done.stderr.split())[:400]
            if disk_full(done.stderr):
                raise ToolError(f"objtool: {text}", place=unit.source, remedy=DISK_FULL)
            if patched:
                return [Refusal("P10-compile", unit.source, f"objtool: {text}")]
            raise ToolError(f"objtool fails on the original: {text}", place=unit.source)
    return []


def why_failed(result: Completed, tree: Path) -> str:
    """Why a compile failed, in a line: the limit that it exceeded, else what the compiler complained of."""
    if result.stopped_by is not None:
        return f"the compiler was stopped: {result.stopped_by.statement}"
    return first_errors(result.stderr, tree)


def first_errors(stderr: str, tree: Path) -> str:
    """The compiler's first errors, in one line."""
    lines = [line.replace(f"{tree}/", "").replace(f"{AUTHOR}/", "") for line in stderr.splitlines() if "error" in line]
    return "; ".join(lines[:3]) or " ".join(stderr.split())[:400] or "the compiler failed"


def _resolved(deps: list[str], kernel: Kernel) -> list[str]:
    """Real paths, with the overlay's links followed."""
    return [os.path.realpath(d if d.startswith("/") else kernel.build / d) for d in dict.fromkeys(deps)]


def _roots(kernel: Kernel, tree: Path) -> list[str]:
    headers = [kernel.outside.kernel] if kernel.outside is not None else []
    own = [os.path.realpath(p) for p in (kernel.source, kernel.build, tree, AUTHOR, *headers)]
    tools = tools_of(kernel)
    if tools.path_of(kernel.cc) is not None:
        own.append(os.path.realpath(tools.run([kernel.cc, "-print-file-name=include"]).stdout.strip()))
    return own

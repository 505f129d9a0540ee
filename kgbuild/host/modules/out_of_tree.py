# SPDX-License-Identifier: GPL-2.0-or-later
"""Out-of-tree modules: their source is in a directory of its own, and what runs is a .ko that the user names.

with open_tree(kernel, Path("drivers/mine"), [Path("mine.ko")], cache, progress) as (view, modules):
    ...

`view` is a Kernel whose source, units and modules are those of the directory, so that code that reads patches, compiles
units or asks for callers works as for the kernel's own. The directory itself is only read: kbuild runs on a copy
without build products, and `make -n` shows how it would compile each unit (M=DIR of kbuild; the directory's Makefile
runs, as in any build of the module).

`__FILE__` in such a module is the path by which it was compiled. The directory in which the .ko was built is read from
the .ko itself, from the names of its source files, and the compiler is told to use that path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kgbuild.diagnostics.refusals import Refusal, Refused
from kgbuild.elf.read import read
from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels import compile_commands
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.kbuild import module_directory
from kgbuild.host.kernels.local import copy_sources
from kgbuild.host.modules.files import read_module_bytes
from kgbuild.host.modules.shipped import kernel_vermagic
from kgbuild.host.system.cache import Cache, remove_tree
from kgbuild.host.system.children import COMPILE_LIMITS
from kgbuild.kernel.exports import Export
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.model import ExternalTree, Kernel, UnitCommand
from kgbuild.progress import Progress

MAKEFILES = ("Kbuild", "Makefile")
_KSYMTAB = "__ksymtab_"


def check_folder(folder: Path) -> None:
    """Raise UserError if a directory can't be the source of an out-of-tree module."""
    if not folder.is_dir():
        raise UserError("no such directory", place=str(folder), remedy="give the directory of the module's source")
    if not any((folder / name).is_file() for name in MAKEFILES):
        fact = "has neither Kbuild nor Makefile"
        raise UserError(fact, place=str(folder), remedy="give the directory that is M= in a build of the module")


def exports_of(modules: Mapping[str, Path]) -> dict[str, Export]:
    """What these modules export, which is not in the kernel's Module.symvers. Without CRCs."""
    out: dict[str, Export] = {}
    for name, path in modules.items():
        for symbol in read(read_module_bytes(path)).iter_symbols():
            if symbol.name.startswith(_KSYMTAB):
                export = symbol.name[len(_KSYMTAB) :]
                out[export] = Export(export, 0, f"{name}.ko", "EXPORT_SYMBOL", "")
    return out


@contextmanager
def open_tree(
    kernel: Kernel, folder: Path, modules: Mapping[str, Path], cache: Cache, progress: Progress
) -> Iterator[Kernel]:
    """The kernel as units of `folder` see it, for the duration of the context. `modules` are those of
    `images.name_modules`.

    Raises UserError for a directory without a module, ToolError if kbuild rejects it, Refused for a .ko that was built
    for another kernel, was not built from this source, or can't be recognised in memory.
    """
    check_folder(folder)
    images = {name: ModuleImage(read(read_module_bytes(path)), name) for name, path in modules.items()}
    _check_images(kernel, images, modules)
    with cache.scratch("oot", progress) as root:
        try:
            yield _prepare(kernel, folder, modules, images, root, cache)
        except BaseException:
            remove_tree(root)  # do not leave it for the next run to remove
            raise


def _check_images(kernel: Kernel, images: Mapping[str, ModuleImage], modules: Mapping[str, Path]) -> None:
    wanted = kernel_vermagic(kernel)
    refusals = []
    for name, image in images.items():
        found = image.modinfo.get("vermagic", "")
        if wanted and found.strip() != wanted.strip():
            fact = f"was built for another kernel: its version magic is {found.strip()!r}, this kernel's {wanted!r}"
            refusals.append(Refusal("P16-oot-module", str(modules[name]), fact, symbol=name))
        if not image.build_id:
            fact = "has no build-id, so a loaded module can't be told from another of its name"
            refusals.append(Refusal("K19-module-identity", str(modules[name]), fact, symbol=name, remedy=_REBUILD))
    if refusals:
        raise Refused(refusals)


_REBUILD = "link the module with --build-id, as kbuild does, and give that one"


def _prepare(
    kernel: Kernel,
    folder: Path,
    modules: Mapping[str, Path],
    images: Mapping[str, ModuleImage],
    root: Path,
    cache: Cache,
) -> Kernel:
    remove_tree(root / "source")
    source = root / "source"
    copy_sources(folder, source)
    digest = digest_tree(source)
    found = _units_of(kernel, source, digest, cache)
    made = {name for unit in found for name in unit.modname.split(":")}
    if not found:
        raise UserError("its makefile makes no module of C files", place=str(folder), remedy="give obj-m in it")
    _check_made(folder, modules, images, made)
    texts = {name: read_module_bytes(path) for name, path in modules.items()}
    told = [_with_place(unit, _built_in(texts, unit, f"{folder.resolve()}/")) for unit in found]
    compile_commands.write_units(told, root / "units.sqlite")
    remove_tree(root / "modules")
    (root / "modules").mkdir()
    for name, path in modules.items():
        suffix = path.suffix if path.suffix != ".ko" else ""
        (root / "modules" / f"{name}.ko{suffix}").symlink_to(path.resolve())
    return replace(
        kernel,
        root=root,
        source=source,
        modules=root / "modules",
        units=root / "units.sqlite",
        outside=ExternalTree(folder, kernel.source, digest),
    )


def _check_made(folder: Path, modules: Mapping[str, Path], images: Mapping[str, ModuleImage], made: set[str]) -> None:
    """Every module must be made from this source, or be needed by one that is."""
    needed: set[str] = set()
    todo = [name for name in images if name in made]
    while todo:
        for name in images[todo.pop()].depends:
            if name in images and name not in needed:
                needed.add(name)
                todo.append(name)
    strange = sorted(set(images) - made - needed)
    if strange:
        fact = f"is the module {{}}; {folder} makes {', '.join(sorted(made))}"
        raise Refused([Refusal("P16-oot-module", str(modules[n]), fact.format(n), symbol=n) for n in strange])


def _units_of(kernel: Kernel, source: Path, digest: str, cache: Cache) -> list[UnitCommand]:
    """The result of `kbuild_units`, cached by everything it depends on."""
    inputs = ["oot-units-2", kernel.id.build_id, str(kernel.source), str(kernel.build), kernel.cc, digest]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    stored = cache.get(key)
    if stored is None:
        stored = json.dumps([unit._asdict() for unit in kbuild_units(kernel, source)]).encode()
        cache.put(key, stored)
    rows = json.loads(stored)
    return [UnitCommand(**{**row, "argv": tuple(row["argv"]), "objtool": tuple(row["objtool"])}) for row in rows]


def kbuild_units(kernel: Kernel, folder: Path) -> Iterator[UnitCommand]:
    """How kbuild compiles each unit of a directory with modules. Names are relative to the directory, which must
    contain no build products, since make does not mention files that are up to date. Raises ToolError if make fails."""
    asked = module_directory(kernel, folder)
    argv = ["make", "-rR", "-n", "-k", "--trace", *asked.makefile_arguments(kernel.source), f"M={folder}"]
    tools = tools_of(kernel, folder)
    done = tools.run(
        [*argv, "need-modorder=1"], cwd=asked.cwd, env=asked.environment, check=False, limits=COMPILE_LIMITS
    )
    found = list(compile_commands.parse_units(done.stdout.splitlines(), str(folder)))
    if not found and done.status != 0:
        said = "; ".join(line for line in done.stderr.splitlines() if line.strip())[:400].replace(str(folder), "DIR")
        raise ToolError(f"kbuild does not take its makefile: {said}", place="--oot", remedy="build the module first")
    for unit in found:
        obj = unit.object.removeprefix(f"{folder}/")
        # kbuild gives units of such modules no KBUILD_MODFILE
        modfile = Path(obj).with_name(unit.modname.partition(":")[0])
        yield unit._replace(object=obj, modfile=str(modfile))


def digest_tree(folder: Path) -> str:
    """Hex digest of the names and contents of all files below a directory."""
    digest = hashlib.sha256()
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base) / name
            data = str(path.readlink()).encode("utf-8", "surrogateescape") if path.is_symlink() else path.read_bytes()
            for part in (str(path.relative_to(folder)).encode("utf-8", "surrogateescape"), data):
                digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _built_in(texts: Mapping[str, bytes], unit: UnitCommand, unknown: str) -> str:
    """What __FILE__ has before the name of a unit: the directory in which its module was built, with a slash, as far as
    strings in the .ko that end in the name say it; "" where they have the name alone, as kbuild compiles such modules
    since 6.13 (scripts/Makefile.build, $(src)); `unknown` where there is no such string or they disagree."""
    found, alone = set(), False
    name = re.escape(unit.source.encode())
    pattern, plain = re.compile(rb"\0(/[^\0\n]*/)" + name + rb"(?=\0)"), re.compile(rb"\x00" + name + rb"\x00")
    for module in unit.modname.split(":"):
        found |= {m.group(1) for m in pattern.finditer(texts.get(module, b""))}
        alone = alone or plain.search(texts.get(module, b"")) is not None
    if not found and alone:
        return ""
    return found.pop().decode("utf-8", "surrogateescape") if len(found) == 1 else unknown


def _with_place(unit: UnitCommand, place: str) -> UnitCommand:
    return unit._replace(argv=(*unit.argv, f"-fmacro-prefix-map={compile_commands.SOURCE}/={place}"))

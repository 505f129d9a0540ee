# SPDX-License-Identifier: GPL-2.0-or-later
"""From the output object to the module: wrapper, modpost, final link, injection, in the order that works.

  wrapper (compiled once per kernel) + output object -> ld -r -> modpost -> .mod.c -> ld -r with module.lds -> inject

modpost runs with undefined symbols as warnings, of which newer ones print ten. That nothing is undefined but exports
and the symbols that injection will make livepatch ones is seen from the object itself. pahole and `ld -r` come before
injection, strip and sign after.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from kgbuild.elf.consts import SHN, STB
from kgbuild.elf.object import Symbol
from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, write
from kgbuild.emit.backends.backend import Backend
from kgbuild.emit.klp_relocations import inject
from kgbuild.errors import ToolError
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.kbuild import load_environment
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.link.module_objects import compile_module_file, main_object
from kgbuild.host.system.cache import Cache
from kgbuild.kernel.feature_probes import MODPOST_MODULES, MODULE_COMMON, MODULE_COMMON_SOURCE
from kgbuild.model import Kernel
from kgbuild.module_abi import KLP_SYMBOL, KLP_SYMBOL_IN_C, OWN_SECTIONS

_MERGES = re.compile(r"\*\([^)]*\.(rodata|text)\.\[")
# What modpost leaves to the module loader's arch code, and what it defines in .mod.c.
_LEFT = frozenset({"_GLOBAL_OFFSET_TABLE_", "__this_module"})


def link_module(
    kernel: Kernel,
    cache: Cache,
    output: OutObject,
    name: str,
    features: frozenset[str],
    backend: Backend,
    defines: Sequence[str] = (),
    keep: Path | None = None,
) -> bytes:
    """Link the output object, as the back end made it, into the module `name`; inject livepatch relocations where the
    back end has such. Returns the .ko's bytes.

    `features` is what the kernel's probes say (kernel/feature_probes.py); `defines` are macros for the wrapper.
    Raises ToolError where a tool fails or leaves undefined symbols that nobody expected.
    """
    body = write(output)
    expected = {s.name for s in output.symbols if s.section is None and s.name.startswith(KLP_SYMBOL)}
    environment, tools = load_environment(kernel), tools_of(kernel)
    with cache.scratch("link") as work:
        main = main_object(kernel, cache, backend.wrapper, defines)
        expected |= {s.name for s in read(main).iter_symbols() if s.name.startswith(KLP_SYMBOL_IN_C)}
        (work / "main.o").write_bytes(main)
        (work / "output.o").write_bytes(body)
        flags = shlex.split(environment.get("KBUILD_LDFLAGS", ""))
        tools.run(["ld", "-r", *flags, "-o", f"{name}.o", "main.o", "output.o"], cwd=work, writable=[work])
        mod_c = _modpost(kernel, features, work, name, expected)
        (work / f"{name}.mod.o").write_bytes(compile_module_file(kernel, cache, mod_c, name))
        objects = [f"{name}.o", f"{name}.mod.o"]
        if MODULE_COMMON in features:
            text = (kernel.source / MODULE_COMMON_SOURCE).read_text()
            (work / "module-common.o").write_bytes(compile_module_file(kernel, cache, text, name))
            objects.append("module-common.o")
        script = keep_apart(_linker_script(kernel), work)
        module_flags = shlex.split(environment.get("KBUILD_LDFLAGS_MODULE", ""))
        tools.run(
            [
                "ld",
                "-r",
                *flags,
                *module_flags,
                "-T",
                script,
                "-o",
                "linked.ko",
                *objects,
            ],
            cwd=work,
            writable=[work],
        )
        linked = (work / "linked.ko").read_bytes()
        if keep is not None:
            for file, data in (("output.o", body), ("linked.ko", linked), (f"{name}.mod.c", mod_c.encode())):
                (keep / file).write_bytes(data)
    return inject(read(linked)) if backend.injects else linked


def _linker_script(kernel: Kernel) -> Path:
    for path in (kernel.build / "scripts" / "module.lds", kernel.build / platform_of(kernel).module_script):
        if path.is_file():
            return path
    raise ToolError("module.lds is missing", place=str(kernel.build), remedy="prepare the kernel again")


def keep_apart(script: Path, work: Path) -> Path:
    """The linker script for modules, changed where it would merge what has a section of its own for a reason. Since 7.0
    it makes one section of .rodata.* and one of .text.*: but whose relocations come first, and what no indirect branch
    reads, is told by sections. A script that merges nothing is returned as it is."""
    text = script.read_text()
    if not _MERGES.search(text):
        return script
    rows = "".join(f" {name} 0 : {{ *({name}) }}\n" for name in OWN_SECTIONS)
    changed = work / "module.lds"
    changed.write_text(text.replace("SECTIONS {", f"SECTIONS {{\n{rows}", 1))
    return changed


def _is_undefined(symbol: Symbol) -> bool:
    return bool(symbol.name) and symbol.shndx == SHN.UNDEF and symbol.bind == STB.GLOBAL


def _modpost(kernel: Kernel, features: frozenset[str], work: Path, name: str, expected: set[str]) -> str:
    (work / f"{name}.mod").write_text(f"{name}.o\n")
    (work / f".{name}.o.cmd").write_text("")
    (work / "list").write_text(f"{name}.o\n")
    config = kernel.config.read_text()
    options = ["-M"] if MODPOST_MODULES in features else []
    options += ["-m"] if "CONFIG_MODVERSIONS=y" in config else []
    argv = [str(kernel.build / "scripts" / "mod" / "modpost"), *options, "-e", "-i", str(kernel.symvers), "-w"]
    undefined = {s.name for s in read((work / f"{name}.o").read_bytes()).iter_symbols() if _is_undefined(s)}
    exported = {line.split("\t")[1] for line in kernel.symvers.read_text().splitlines() if line.count("\t") > 2}
    surprising = sorted(undefined - exported - expected - _LEFT)
    if surprising:
        raise ToolError(f"the module needs {', '.join(surprising)}, which nothing defines", place=name)
    argv += ["-o", "out.symvers", "-T", "list"]
    result = tools_of(kernel).run(argv, cwd=work, writable=[work], check=False)
    lines = [line for line in result.stderr.splitlines() if not line.endswith("undefined!")]
    errors = [line for line in lines if "modpost:" in line and ("ERROR" in line or "mismatch" in line)]
    if errors or result.status:
        raise ToolError("; ".join(errors or lines[-5:]) or f"ended with status {result.status}", place="modpost")
    return (work / f"{name}.mod.c").read_text()

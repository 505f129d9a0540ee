# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects of a module beside the output object: the wrapper, and what modpost writes."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Sequence

from kgbuild.elf.read import read
from kgbuild.errors import ToolError
from kgbuild.host.kernels.build_tools import tools_of
from kgbuild.host.kernels.compile_commands import parse_units
from kgbuild.host.kernels.kbuild import compiler_version, module_directory
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.children import COMPILE_LIMITS, child_environment
from kgbuild.model import Kernel, UnitCommand
from kgbuild.module_abi import KLP_SYMBOL_IN_C, NOTES_BOUNDS

_BESIDE = re.compile(r'^#include "([a-z]+\.[ch])"$', re.MULTILINE)


_DROPPED_FLAGS = re.compile(r"^-g(dwarf.*|[0-9])?$")


def _template_command(kernel: Kernel, cache: Cache) -> UnitCommand:
    """How kbuild compiles the unit of an external module called "kgmain"; asked of kbuild once per kernel."""
    key = hashlib.sha256(f"module-template-3 {kernel.id.build_id} {kernel.cc}".encode()).hexdigest()
    stored = cache.get(key)
    if stored is not None:
        fields = json.loads(stored)
        return UnitCommand(**{**fields, "argv": tuple(fields["argv"]), "objtool": tuple(fields["objtool"])})
    with cache.scratch("template") as work:
        scratch = str(work)
        (work / "Kbuild").write_text("obj-m := kgmain.o\n")
        (work / "kgmain.c").write_text("")
        asked = module_directory(kernel, work)
        argv = ["make", "-rR", "-n", *asked.makefile_arguments(kernel.source), f"{asked.obj}/kgmain.o"]
        result = tools_of(kernel, work).run(argv, cwd=asked.cwd, env=asked.environment)
        unit = next(parse_units(result.stdout.splitlines(), str(kernel.source)), None)
        if unit is None:
            raise ToolError("kbuild does not say how to compile a module", place=str(kernel.build))
    fields = {
        "source": "kgmain.c",
        "object": "kgmain.o",
        "modfile": unit.modfile,
        "modname": unit.modname,
        "module": True,
        "argv": [a for a in unit.argv if scratch not in a],
        "objtool": list(unit.objtool),
    }
    cache.put(key, json.dumps(fields).encode())
    return _template_command(kernel, cache)


def compile_module_file(kernel: Kernel, cache: Cache, text: str, name: str) -> bytes:
    """Object of a C file that belongs to the patch module, compiled as kbuild would compile it there.

    `name` is the module's. Kept by content, compiler and kernel. Raises ToolError.
    """
    unit = _template_command(kernel, cache)
    compiler = compiler_version(kernel)
    key = hashlib.sha256(
        json.dumps(["module-file-2", kernel.id.build_id, compiler, unit.argv, unit.objtool, text, name]).encode()
    )
    stored = cache.get(key.hexdigest())
    if stored is not None:
        return stored
    with cache.scratch("module-file") as scratch:
        source, out = scratch / "unit.c", scratch / "unit.o"
        source.write_text(text)
        argv = [a.replace("{src}", str(kernel.source)).replace("kgmain", name) for a in unit.argv]
        argv = [a for a in argv if not _DROPPED_FLAGS.match(a)]
        # the random seed and the file's name must not depend on the directory
        argv += ["-g0", f"-ffile-prefix-map={scratch}/=", "-o", str(out), str(source)]
        tools = tools_of(kernel)
        tools.run(argv, cwd=kernel.build, limits=COMPILE_LIMITS, writable=[scratch])
        if unit.objtool:
            tools.run(
                [*unit.objtool, out],
                cwd=kernel.build,
                env={**child_environment(), "SRCARCH": platform_of(kernel).source_arch},
                limits=COMPILE_LIMITS,
                writable=[scratch],
            )
        data = out.read_bytes()
    cache.put(key.hexdigest(), data)
    return data


def wrapper_source(wrapper: str, defines: Sequence[str] = ()) -> str:
    """The C text of a wrapper (a file of data/livepatch) with these macros. It stands alone: its `#include "..."` of
    files beside it are filled in."""
    folder = importlib.resources.files("kgbuild") / "data" / "livepatch"
    head = "".join(f"#define {name}\n" for name in defines)
    text = (folder / wrapper).read_text()
    return head + _BESIDE.sub(lambda m: (folder / m.group(1)).read_text(), text)


def main_object(kernel: Kernel, cache: Cache, wrapper: str = "main.c", defines: Sequence[str] = ()) -> bytes:
    """The wrapper that reads the tables and registers the patch, compiled for this kernel with these macros."""
    text = wrapper_source(wrapper, defines)
    return compile_module_file(kernel, cache, text, "kgbuild_livepatch")


def wrapper_symbols(kernel: Kernel, cache: Cache, wrapper: str, defines: Sequence[str]) -> list[str]:
    """Symbols of vmlinux that the wrapper itself is bound to by livepatch relocations: its own, and the kernel's notes
    that its table refers to (emit/patch_tables.py)."""
    own = read(main_object(kernel, cache, wrapper, defines)).iter_symbols()
    names = [s.name.removeprefix(KLP_SYMBOL_IN_C) for s in own if not s.defined and s.name.startswith(KLP_SYMBOL_IN_C)]
    return sorted({*names, *NOTES_BOUNDS})

# SPDX-License-Identifier: GPL-2.0-or-later
"""From the output object to the module: wrapper, modpost, final link, injection, in the order that works.

  wrapper (compiled once per kernel) + output object -> ld -r -> modpost -> .mod.c -> ld -r with module.lds -> inject

modpost runs with undefined symbols as warnings; the warnings are compared with the set of symbols that injection will
make livepatch ones, and anything else is an error. pahole and `ld -r` come before injection, strip and sign after.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from kgbuild.elf.read import read
from kgbuild.elf.write import OutObject, write
from kgbuild.emit.backends import Backend
from kgbuild.emit.extract import NOTES
from kgbuild.emit.klp_relocations import PREFIX, PREFIX_C, inject
from kgbuild.errors import ToolError
from kgbuild.host.kernels.compile_commands import parse_line
from kgbuild.host.kernels.kbuild import load_environment
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.run import run
from kgbuild.kernel.feature_probes import MODPOST_MODULES, MODULE_COMMON, MODULE_COMMON_SOURCE
from kgbuild.model import Kernel, UnitCommand

_UNDEFINED = re.compile(r'modpost: "(.+?)" \[(.+?)\] undefined!')
_BESIDE = re.compile(r'^#include "([a-z]+\.[ch])"$', re.MULTILINE)
_DROPPED_FLAGS = re.compile(r"^-g(dwarf.*|[0-9])?$")


def _template_command(kernel: Kernel, cache: Cache) -> UnitCommand:
    """How kbuild compiles the unit of an external module called "kgmain"; asked of kbuild once per kernel."""
    key = hashlib.sha256(f"module-template-2 {kernel.id.build_id} {kernel.cc}".encode()).hexdigest()
    stored = cache.get(key)
    if stored is not None:
        fields = json.loads(stored)
        return UnitCommand(**{**fields, "argv": tuple(fields["argv"]), "objtool": tuple(fields["objtool"])})
    # the top Makefile empties VPATH for external modules: makefiles are not looked for in the source tree then
    env: dict[str, str] = {**load_environment(kernel.build), "VPATH": ""}
    with cache.workdir(f"template-{os.getpid()}") as work:
        scratch = str(work)
        (work / "Kbuild").write_text("obj-m := kgmain.o\n")
        (work / "kgmain.c").write_text("")
        env |= {"KBUILD_MODULES": "1", "KBUILD_EXTMOD": scratch}
        rules = kernel.source / "scripts" / "Makefile.build"
        argv = [
            "make",
            "-rR",
            "-n",
            "-I",
            str(kernel.source),
            "-f",
            str(rules),
            f"obj={scratch}",
            f"{scratch}/kgmain.o",
        ]
        result = run(argv, cwd=kernel.build, env=env)
        for line in result.stdout.splitlines():
            unit = parse_line(line, str(kernel.source))
            if unit is not None:
                break
        else:
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
    compiler = run([kernel.cc, "--version"]).stdout
    key = hashlib.sha256(json.dumps(["module-file-1", kernel.id.build_id, compiler, unit.argv, text, name]).encode())
    stored = cache.get(key.hexdigest())
    if stored is not None:
        return stored
    with cache.workdir(f"module-file-{os.getpid()}") as scratch:
        source, out = scratch / "unit.c", scratch / "unit.o"
        source.write_text(text)
        argv = [a.replace("{src}", str(kernel.source)).replace("kgmain", name) for a in unit.argv]
        argv = [a for a in argv if not _DROPPED_FLAGS.match(a)]
        # the random seed and the file's name must not depend on the directory
        argv += ["-g0", f"-ffile-prefix-map={scratch}/=", "-o", str(out), str(source)]
        run(argv, cwd=kernel.build)
        if unit.objtool:
            run([*unit.objtool, out], cwd=kernel.build, env={**os.environ, "SRCARCH": "x86"})
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
    that its table refers to (emit/extract.py)."""
    own = read(main_object(kernel, cache, wrapper, defines)).iter_symbols()
    names = [s.name.removeprefix(PREFIX_C) for s in own if not s.defined and s.name.startswith(PREFIX_C)]
    return sorted({*names, *NOTES})


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
    expected = {s.name for s in output.symbols if s.section is None and s.name.startswith(PREFIX)}
    environment = load_environment(kernel.build)
    with cache.workdir(f"link-{os.getpid()}") as work:
        main = main_object(kernel, cache, backend.wrapper, defines)
        expected |= {s.name for s in read(main).iter_symbols() if s.name.startswith(PREFIX_C)}
        (work / "main.o").write_bytes(main)
        (work / "output.o").write_bytes(body)
        flags = shlex.split(environment.get("KBUILD_LDFLAGS", ""))
        run(["ld", "-r", *flags, "-o", f"{name}.o", "main.o", "output.o"], cwd=work)
        mod_c = _modpost(kernel, features, work, name, expected)
        (work / f"{name}.mod.o").write_bytes(compile_module_file(kernel, cache, mod_c, name))
        objects = [f"{name}.o", f"{name}.mod.o"]
        if MODULE_COMMON in features:
            text = (kernel.source / MODULE_COMMON_SOURCE).read_text()
            (work / "module-common.o").write_bytes(compile_module_file(kernel, cache, text, name))
            objects.append("module-common.o")
        script = _linker_script(kernel)
        module_flags = shlex.split(environment.get("KBUILD_LDFLAGS_MODULE", ""))
        run(
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
        )
        linked = (work / "linked.ko").read_bytes()
        if keep is not None:
            for file, data in (("output.o", body), ("linked.ko", linked), (f"{name}.mod.c", mod_c.encode())):
                (keep / file).write_bytes(data)
    return inject(read(linked)) if backend.injects else linked


def _linker_script(kernel: Kernel) -> Path:
    for path in (kernel.build / "scripts" / "module.lds", kernel.build / "arch" / "x86" / "module.lds"):
        if path.is_file():
            return path
    raise ToolError("module.lds is missing", place=str(kernel.build), remedy="prepare the kernel again")


def _modpost(kernel: Kernel, features: frozenset[str], work: Path, name: str, expected: set[str]) -> str:
    (work / f"{name}.mod").write_text(f"{name}.o\n")
    (work / f".{name}.o.cmd").write_text("")
    (work / "list").write_text(f"{name}.o\n")
    config = kernel.config.read_text()
    options = ["-M"] if MODPOST_MODULES in features else []
    options += ["-m"] if "CONFIG_MODVERSIONS=y" in config else []
    argv = [str(kernel.build / "scripts" / "mod" / "modpost"), *options, "-e", "-i", str(kernel.symvers), "-w"]
    result = run([*argv, "-o", "out.symvers", "-T", "list"], cwd=work)
    undefined = {m.group(1) for m in _UNDEFINED.finditer(result.stderr)}
    surprising = sorted(undefined - expected)
    if surprising:
        raise ToolError(f"the module needs {', '.join(surprising)}, which nothing defines", place=name)
    others = [line for line in result.stderr.splitlines() if "modpost:" in line and not _UNDEFINED.search(line)]
    errors = [line for line in others if "ERROR" in line or "mismatch" in line]
    if errors:
        raise ToolError("; ".join(errors), place="modpost")
    return (work / f"{name}.mod.c").read_text()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel of a few lines for the tests of the index: a vmlinux that kept its relocations, and modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.model import Kernel, KernelId, UnitCommand
from tests.support.toolchain import KERNEL_FLAGS, compile_text, run

FLAGS = (*KERNEL_FLAGS, "-fno-optimize-sibling-calls", "-g")


def small_kernel(
    root: Path,
    units: Mapping[str, str],
    modules: Mapping[str, tuple[str, Mapping[str, str]]],
    exports: Mapping[str, str],
    flags: tuple[str, ...] = FLAGS,
) -> Kernel:
    """A kernel in `root`. `units` are C texts of vmlinux by source; `modules` by file name, each with its
    KBUILD_MODFILE and the C texts of its units; `exports` say which object has an export."""
    folder = root / "modules"
    folder.mkdir(parents=True)
    commands = [_command(source, source[:-2]) for source in units]
    for source, text in units.items():
        (root / source).with_suffix(".o").write_bytes(compile_text(text, *flags, name=source))
    objects = [source[:-1] + "o" for source in units]
    run("ld", "-q", "-Ttext=0xffffffff81000000", "-e", "0", "-o", "vmlinux", *objects, cwd=root)
    for name, (modfile, texts) in modules.items():
        parts = []
        for source, text in texts.items():
            # as kbuild has it: of a module of several units, KBUILD_MODFILE names the unit
            own = modfile if len(texts) == 1 else source[:-2]
            commands.append(_command(source, own, name.replace("-", "_")))
            path = root / source
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.with_suffix(".o").write_bytes(compile_text(text, *KERNEL_FLAGS, name=path.name))
            parts.append(path.with_suffix(".o"))
        run("ld", "-r", "-o", folder / f"{name}.ko", *parts)
    rows = [f"0x0\t{name}\t{owner}\tEXPORT_SYMBOL\t\n" for name, owner in exports.items()]
    (root / "symvers").write_text("".join(rows))
    (root / "config").write_text("")
    write_units(commands, root / "units.sqlite")
    return Kernel(
        id=KernelId("local", "small", "", "ab" * 20),
        root=root,
        source=root,
        build=root,
        config=root / "config",
        symvers=root / "symvers",
        vmlinux=root / "vmlinux",
        image=root / "image",
        modules=folder,
        units=root / "units.sqlite",
        cc="gcc-12",
        compiler="gcc",
    )


def _command(source: str, modfile: str, module: str = "") -> UnitCommand:
    modname = module or modfile.rpartition("/")[2]
    return UnitCommand(source, source[:-1] + "o", modfile, modname, bool(module), ("cc",), ())

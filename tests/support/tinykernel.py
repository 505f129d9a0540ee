# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel of a few lines that `kgbuild kernel add` takes: sources, a makefile for their commands, vmlinux."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from tests.support.toolchain import KERNEL_FLAGS, run

RELEASE = "6.1.0-tiny"
HEADER = "static inline int twice(int x) { return 2 * x; }\n"
UNITS = {
    "init/main.c": (
        f'const char linux_banner[] = "Linux version {RELEASE} (tiny)";\n'
        'void __fentry__(void) {}\n#include "tiny.h"\nint shared(int x) { return twice(x) + 1; }\n'
        "int start_kernel(void) { return shared(2) + shared(3); }\n"
    ),
    "fs/one.c": '#include "tiny.h"\nextern int shared(int);\nint one(int x) { return shared(x) + twice(x); }\n',
}
_MAKEFILE = f"""
export srctree := $(CURDIR)
export abs_srctree := $(CURDIR)
export abs_objtree := $(O)
export KERNELRELEASE CC
olddefconfig prepare modules_prepare: ;
kernelrelease: ; @echo {RELEASE}
"""
_BUILD = """
all: {objects}
{rules}
"""
_RULE = """{obj}: $(srctree)/{source}
\t{cc} -Wp,-MMD,{folder}/.{stem}.o.d {flags} -I$(srctree)/include -DKBUILD_MODFILE='"{modfile}"' \
-DKBUILD_MODNAME='"{stem}"' -c -o {obj} $(srctree)/{source}; scripts/basic/fixdep x
"""


@dataclass(frozen=True)
class TinyKernel:
    """Where the files of the kernel are, to be given to `kgbuild kernel add`."""

    root: Path

    @property
    def options(self) -> list[str]:
        """NAME and options of `kgbuild kernel add`."""
        root = self.root
        return [
            "tiny",
            *("--source", f"{root / 'source'}", "--config", f"{root / 'config'}", "--vmlinux", f"{root / 'vmlinux'}"),
            *("--image", f"{root / 'bzImage'}", "--symvers", f"{root / 'Module.symvers'}", "--cc", "gcc-12"),
        ]


def tiny_kernel(root: Path) -> TinyKernel:
    """Write the files of a kernel below `root`."""
    source = root / "source"
    (source / "include").mkdir(parents=True)
    (source / "include" / "tiny.h").write_text(HEADER)
    (source / "scripts").mkdir()
    (source / "Kconfig").write_text("")
    (source / "Makefile").write_text(_MAKEFILE)
    rules, objects = [], []
    flags = " ".join((*KERNEL_FLAGS, "-g"))
    for path, text in UNITS.items():
        file = source / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        obj = path[:-1] + "o"
        run("gcc-12", *KERNEL_FLAGS, "-g", "-I", source / "include", "-c", "-o", root / Path(obj).name, file)
        rules.append(
            _RULE.format(
                obj=obj,
                source=path,
                cc="gcc-12",
                flags=flags,
                folder=file.parent.name,
                stem=file.stem,
                modfile=path[:-2],
            )
        )
        objects.append(obj)
    text = _BUILD.format(objects=" ".join(objects), rules="\n".join(rules))
    (source / "scripts" / "Makefile.build").write_text(text)
    compiler = run("gcc-12", "--version").splitlines()[0]
    (root / "config").write_text(f'CONFIG_CC_VERSION_TEXT="{compiler}"\nCONFIG_LIVEPATCH=y\nCONFIG_64BIT=y\n')
    (root / "Module.symvers").write_text("0x0\tshared\tvmlinux\tEXPORT_SYMBOL\t\n")
    names = [root / Path(obj).name for obj in objects]
    run("ld", "-q", "--build-id=sha1", "-Ttext=0xffffffff81000000", "-e", "0", "-o", root / "vmlinux", *names)
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = struct.pack("<H", 0x20C)
    (root / "bzImage").write_bytes(bytes(head) + bytes(1024))
    return TinyKernel(root)

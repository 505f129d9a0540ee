# SPDX-License-Identifier: GPL-2.0-or-later
"""The module as a directory, which kbuild makes into the module where there is no kgbuild (docs/emit-module.md)."""

from __future__ import annotations

import importlib.resources

from kgbuild.model import Kernel
from kgbuild.module_abi import OWN_SECTIONS

# Names with a dash: no module's name has one, so that none of them is the module's own.
WRAPPER = "kgbuild-livepatch.c"
PATCHED = "kgbuild-patched.o_shipped"
_TEMPLATES = ("README", "kgbuild-inject.c", "Kbuild")


def module_directory(kernel: Kernel, name: str, wrapper: str, patched: bytes) -> dict[str, bytes]:
    """Contents of the files that `make -C KDIR M=DIR` builds the module `name` from, by file name; Kbuild is the last.

    `wrapper` is the C text that registers the patch, `patched` the output object for the linker. The same input gives
    the same files: they hold no times and no paths.
    """
    folder = importlib.resources.files("kgbuild") / "data" / "kbuild_module"
    which = f"{kernel.id.name} ({kernel.id.version}, build-id {kernel.id.build_id})"

    def filled(file: str) -> bytes:
        text = (folder / file).read_text().replace("@NAME@", name).replace("@KERNEL@", which)
        return text.replace("@APART@", " ".join(OWN_SECTIONS)).encode()

    return {WRAPPER: wrapper.encode(), PATCHED: patched, **{file: filled(file) for file in _TEMPLATES}}

# SPDX-License-Identifier: GPL-2.0-or-later
"""A prepared kernel's source as `releases/decide.py` looks at it: texts, what is compiled, and why something is not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from kgbuild.host.compile.apply_patches import find_includers, option_in, read_original, why_not_built
from kgbuild.host.kernels.compile_commands import read_sources
from kgbuild.host.kernels.unit_listing import file_of_all
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.system.input_files import path_within
from kgbuild.model import Kernel


class KernelSource:
    """The source of one kernel. Every file that is read is checked against the tree's manifest."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._texts: dict[str, bytes | None] = {}
        self._included: dict[str, bool] = {}

    @cached_property
    def _sources(self) -> frozenset[str]:
        return frozenset(source for source, _, _ in read_sources(file_of_all(self._kernel)))

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for source in sorted(self._sources):
            out.setdefault(source.rpartition("/")[2], []).append(source)
        return out

    def read(self, path: str) -> bytes | None:
        """The text of a file, None where there is none, or a link leads out of the tree."""
        if path not in self._texts:
            full = path_within(self._kernel.source, path)
            self._texts[path] = read_original(self._kernel, path) if full is not None and full.is_file() else None
        return self._texts[path]

    def is_built(self, path: str) -> bool:
        """Whether a file is a unit of this kernel, or part of one; of a header, whether its architecture is this
        kernel's."""
        if self._other_architecture(path):
            return False
        if path in self._sources or not path.endswith(".c"):
            return True
        if path not in self._included:
            self._included[path] = bool(find_includers(self._kernel, [path])[path])
        return self._included[path]

    def _other_architecture(self, path: str) -> bool:
        parts = path.split("/")
        return len(parts) > 2 and parts[0] == "arch" and parts[1] != platform_of(self._kernel).source_arch

    def option(self, path: str) -> str:
        """The option that leaves a file out, from the Makefiles beside it and above; for code of another architecture
        its name."""
        if self._other_architecture(path):
            return f"the architecture {path.split('/')[1]}"
        found = why_not_built(self._kernel, path)
        folder = Path(path).parent
        while not found and folder != Path():
            found = option_in(self._kernel, folder.parent, f"{folder.name}/")
            folder = folder.parent
        return found

    def of_name(self, name: str) -> Sequence[str]:
        """The units of that name, without their folder."""
        return self._names.get(name, [])

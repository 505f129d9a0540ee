# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel, opened once: vmlinux and its modules as images, exports, configuration, features.

Everything is read when it is first asked for, and only once. Stages ask here, by the name of the object: "vmlinux" or a
module's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.host.kernels.kernel_files import config_of, exports_of, probe_kernel
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.modules.images import ModuleImages
from kgbuild.kernel.exports import Export
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import VMLINUX, Kernel


class RunningKernel:
    """One kernel. `oot_modules` are .ko files that are loaded in addition to its own, by module name; they take
    precedence over modules of the same name in the kernel's package."""

    def __init__(self, kernel: Kernel, oot_modules: Mapping[str, Path] | None = None) -> None:
        self.kernel = kernel
        self.oot_modules = dict(oot_modules or {})
        self.modules = ModuleImages(kernel, self.oot_modules)

    @cached_property
    def vmlinux(self) -> KernelImage:
        """The image of vmlinux."""
        return load_image(self.kernel)

    @cached_property
    def config_text(self) -> str:
        """The .config it was built with."""
        return self.kernel.config.read_text()

    @property
    def config(self) -> Mapping[str, str]:
        """Its options, by name without CONFIG_."""
        return config_of(self.kernel)

    @cached_property
    def features(self) -> frozenset[str]:
        """The features of kernel/feature_probes.py that this kernel has."""
        return probe_kernel(self.kernel, self.vmlinux)

    @cached_property
    def exports(self) -> Mapping[str, Export]:
        """What it and out-of-tree modules export, by name. If both export a name, the kernel's export is meant."""
        own = exports_of(self.kernel)
        if not self.oot_modules:
            return own
        from kgbuild.host.modules import out_of_tree

        return {**out_of_tree.exports_of(self.oot_modules), **own}

    def image(self, object_name: str) -> KernelImage:
        """vmlinux, or the module of that name as it is loaded. Raises ToolError if there is none."""
        return self.vmlinux if object_name == VMLINUX else self.module(object_name)

    def module(self, name: str) -> ModuleImage:
        """The module of that name as it is loaded. Raises ToolError if the kernel's packages do not have it."""
        image = self.modules.image(name)
        if image is None:
            raise ToolError("is not among this kernel's modules", place=name, remedy="fetch the kernel again")
        return image

    def build_id(self, object_name: str) -> str:
        """The build-id (hex) that identifies a loaded object."""
        return self.kernel.id.build_id if object_name == VMLINUX else self.module(object_name).build_id

    def modules_with(self, names: Iterable[str]) -> dict[str, ModuleImage]:
        """These modules and all modules they need, by name; missing ones are left out."""
        wanted = set(names) - {VMLINUX}
        wanted |= {needed for name in wanted for needed in self.modules.depends(name)}
        found = ((name, self.modules.image(name)) for name in sorted(wanted))
        return {name: image for name, image in found if image is not None}

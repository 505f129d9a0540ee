# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel that runs, opened once: vmlinux and its modules as images, exports, configuration, what it can do.

Nothing is read before it is asked for, and nothing twice. What a stage wants to know of the running kernel it asks
here, by the name of the object: "vmlinux" or a module's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from kgbuild.errors import ToolError
from kgbuild.host.kernels.feature_probes import probe_kernel
from kgbuild.host.kernels.vmlinux import load_image
from kgbuild.host.modules.images import Modules
from kgbuild.kernel.config import parse_config
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.kernel.module_image import ModuleImage
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import VMLINUX, Kernel


class RunningKernel:
    """One kernel. `oot_modules` are .ko files that are loaded beside its own, by module name; they stand before
    modules of the same name in the kernel's package."""

    def __init__(self, kernel: Kernel, oot_modules: Mapping[str, Path] | None = None) -> None:
        self.kernel = kernel
        self.oot_modules = dict(oot_modules or {})
        self.modules = Modules(kernel, self.oot_modules)

    @cached_property
    def vmlinux(self) -> KernelImage:
        """The kernel itself."""
        return load_image(self.kernel)

    @cached_property
    def config_text(self) -> str:
        """The .config it was built with."""
        return self.kernel.config.read_text()

    @cached_property
    def config(self) -> dict[str, str]:
        """Its options, by name without CONFIG_."""
        return parse_config(self.config_text)

    @cached_property
    def features(self) -> frozenset[str]:
        """Which of the questions of kernel/feature_probes.py it answers with yes."""
        return probe_kernel(self.kernel, self.vmlinux)

    @cached_property
    def exports(self) -> dict[str, Export]:
        """What it exports, by name, and what out-of-tree modules do. A name that both have is the kernel's."""
        own = parse_symvers(self.kernel.symvers.read_text())
        if not self.oot_modules:
            return own
        from kgbuild.host.modules.out_of_tree import exports_of

        return exports_of(self.oot_modules) | own

    def image(self, object_name: str) -> KernelImage:
        """vmlinux, or the module of that name as it is loaded. Raises ToolError where there is none."""
        return self.vmlinux if object_name == VMLINUX else self.module(object_name)

    def module(self, name: str) -> ModuleImage:
        """The module of that name as it is loaded. Raises ToolError where the kernel's packages lack it."""
        image = self.modules.image(name)
        if image is None:
            raise ToolError("is not among this kernel's modules", place=name, remedy="fetch the kernel again")
        return image

    def build_id(self, object_name: str) -> str:
        """The build-id (hex) by which a loaded object is known."""
        return self.kernel.id.build_id if object_name == VMLINUX else self.module(object_name).build_id

    def modules_with(self, names: Iterable[str]) -> dict[str, ModuleImage]:
        """These modules and all that they need, by name; what is not there is left out."""
        wanted = set(names) - {VMLINUX}
        wanted |= {needed for name in wanted for needed in self.modules.depends(name)}
        found = ((name, self.modules.image(name)) for name in sorted(wanted))
        return {name: image for name, image in found if image is not None}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the questions of kernel/feature_probes.py to a kernel in the cache."""

from __future__ import annotations

from pathlib import Path

from kgbuild.host.kernels.compile_commands import read_module_objtool
from kgbuild.kernel.exports import parse_symvers
from kgbuild.kernel.feature_probes import ProbeEvidence, probe
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Kernel


def probe_kernel(kernel: Kernel, image: KernelImage) -> frozenset[str]:
    """The names of the probes that this kernel answers with yes. Raises ToolError where its units can't be read."""

    def source(path: str) -> str | None:
        file = Path(kernel.source) / path
        return file.read_text(errors="replace") if file.is_file() else None

    exports = parse_symvers(kernel.symvers.read_text())

    return probe(
        ProbeEvidence(
            frozenset(kernel.config.read_text().splitlines()),
            lambda name: bool(image.named(name)),
            source,
            read_module_objtool(kernel.units),
            lambda name: name in exports and exports[name].in_vmlinux,
        )
    )

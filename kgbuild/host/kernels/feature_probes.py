# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the questions of kernel/feature_probes.py to a kernel in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kgbuild.host.kernels.unit_listing import module_objtool
from kgbuild.kernel.config import parse_config
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.kernel.feature_probes import ProbeEvidence, probe
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Kernel


def probe_kernel(kernel: Kernel, image: KernelImage, exports: Mapping[str, Export] | None = None) -> frozenset[str]:
    """The names of the probes that this kernel answers with yes. `exports` are those of its Module.symvers, where they
    are known already. Raises ToolError where its units can't be read."""

    def source(path: str) -> str | None:
        file = Path(kernel.source) / path
        return file.read_text(errors="replace") if file.is_file() else None

    known = exports if exports is not None else parse_symvers(kernel.symvers.read_text())

    return probe(
        ProbeEvidence(
            parse_config(kernel.config.read_text()),
            lambda name: bool(image.named(name)),
            source,
            module_objtool(kernel),
            lambda name: name in known and known[name].in_vmlinux,
        )
    )

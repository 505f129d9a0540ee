# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of a kernel in the cache say of it: its exports, its options, and the answers to the questions of
kernel/feature_probes.py. Each file is read once for several stages of a run; nobody may change what is handed out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from kgbuild.host.kernels.unit_listing import module_objtool
from kgbuild.kernel.config import parse_config
from kgbuild.kernel.exports import Export, parse_symvers
from kgbuild.kernel.feature_probes import ProbeEvidence, probe
from kgbuild.kernel.vmlinux_image import KernelImage
from kgbuild.model import Kernel


def exports_of(kernel: Kernel) -> Mapping[str, Export]:
    """The exports in a kernel's Module.symvers, by name. Raises UserError where it is damaged."""
    return _exports(kernel.symvers, _state_of(kernel.symvers))


def config_of(kernel: Kernel) -> Mapping[str, str]:
    """The options that a kernel was built with, by name without CONFIG_."""
    return _config(kernel.config, _state_of(kernel.config))


@lru_cache(maxsize=4)
def _exports(path: Path, state: tuple[int, int]) -> Mapping[str, Export]:
    del state  # only tells a file from what it was
    return parse_symvers(path.read_text(errors="replace"))


@lru_cache(maxsize=4)
def _config(path: Path, state: tuple[int, int]) -> Mapping[str, str]:
    del state
    return parse_config(path.read_text(errors="replace"))


def _state_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def probe_kernel(kernel: Kernel, image: KernelImage) -> frozenset[str]:
    """The names of the probes that this kernel answers with yes. Raises ToolError where its units can't be read."""

    def source(path: str) -> str | None:
        file = Path(kernel.source) / path
        return file.read_text(errors="replace") if file.is_file() else None

    known = exports_of(kernel)

    return probe(
        ProbeEvidence(
            config_of(kernel),
            lambda name: bool(image.named(name)),
            source,
            module_objtool(kernel),
            lambda name: name in known and known[name].in_vmlinux,
        )
    )

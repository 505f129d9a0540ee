# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remedy starts from: the texts of the files that a patch changes, and the objects that they are part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kgbuild.analysis.remedy import Source
from kgbuild.host.patches import PatchSet, find_includers, read_original
from kgbuild.model import Kernel


def load_sources(kernel: Kernel, patches: PatchSet, targets: Mapping[str, Sequence[str]]) -> list[Source]:
    """The changed files. `targets` has the objects of each unit; a file that units include is part of theirs."""
    out = []
    everywhere = sorted({target for names in targets.values() for target in names})
    for path, applied in patches.applied.items():
        names = targets.get(path)
        if names is None and path.endswith(".c") and len(everywhere) > 1:
            units = find_includers(kernel, [path])[path]
            names = next((targets[unit] for unit in units if unit in targets), None)
        # bytes that are no ASCII stay as they are
        original = (read_original(kernel, path) or b"").decode("latin-1")
        added = frozenset(n for n, number in enumerate(applied.map) if number is None)
        out.append(Source(path, original, applied.text.decode("latin-1"), added, (names or everywhere or [""])[0]))
    return out

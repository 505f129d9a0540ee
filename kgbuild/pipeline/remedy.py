# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remedy starts from: the texts of the files that a patch changes, and the objects that they are part of."""

from __future__ import annotations

from kgbuild.host.compile.apply_patches import PatchSet, find_includers, read_original
from kgbuild.host.kernels.kbuild import load_unit_commands
from kgbuild.model import Kernel
from kgbuild.remedy.rewrite import Source


def load_sources(kernel: Kernel, patches: PatchSet) -> list[Source]:
    """The changed files; a .c file that units include is part of their objects."""
    out = []
    paths = [path for path in patches.applied if path.endswith(".c")]
    commands = load_unit_commands(kernel, paths)
    includers = find_includers(kernel, [path for path in paths if not commands.get(path)])
    around = load_unit_commands(kernel, [unit for units in includers.values() for unit in units[:1]])
    for path, applied in patches.applied.items():
        found = commands.get(path) or next((around[u] for u in includers.get(path, ()) if around.get(u)), [])
        names = [target for command in found for target in command.targets]
        # bytes that are no ASCII stay as they are
        original = (read_original(kernel, path) or b"").decode("latin-1")
        added = frozenset(n for n, number in enumerate(applied.map) if number is None)
        out.append(Source(path, original, applied.text.decode("latin-1"), added, (names or [""])[0]))
    return out

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the hunks of a patch edit, from the texts of one run, and what gcc made of it. Worked out when a report, a graph
or `why` asks for it; the stages of a build do not need it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from kgbuild.closure.edit_results import SourceEdits, results_of
from kgbuild.closure.model import Closure
from kgbuild.csource.definitions import SourceItem, read_items
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.estimation.edits import FileItems, find_edits, list_hunks
from kgbuild.host.compile.apply_patches import PatchSet
from kgbuild.model import VMLINUX

_INCLUDED = re.compile(rb'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+\.c)"', re.MULTILINE)


def find_source_edits(
    source: Path, settings: Mapping[str, str], patches: PatchSet, closure: Closure | None
) -> SourceEdits:
    """The edits of patches that were applied to the tree `source` of a kernel with these options. A file that
    is gone since then counts as empty."""
    units = closure.units if closure is not None else ()
    in_modules = {unit.source for unit in units if unit.target != VMLINUX}
    files = {}
    for path, applied in patches.applied.items():
        full = source / path
        conditions = Conditions(settings, path in in_modules)
        orig = full.read_bytes() if full.is_file() else b""
        files[path] = FileItems(
            tuple(read_items(orig, conditions)), tuple(read_items(applied.text, conditions)), applied
        )

    def users() -> dict[str, tuple[SourceItem, ...]]:
        out = {}
        for path in sorted({path for unit in units for path in _texts_of(source, unit.source)} - files.keys()):
            conditions = Conditions(settings, path in in_modules)
            out[path] = tuple(read_items((source / path).read_bytes(), conditions))
        return out

    hunks = list_hunks(patches.patches, patches.applied)
    edits = find_edits(files, hunks, users)
    results = tuple(tuple(results_of(closure, edit)) if closure is not None else () for edit in edits)
    return SourceEdits(tuple(hunks), tuple(edits), results)


def _texts_of(source: Path, unit: str) -> list[str]:
    """The .c files of a unit: its own, and those that it includes itself. Headers that the patch does not touch are
    left out: they are read by thousands of units, and what they have is inline."""
    own = source / unit
    if not own.is_file():
        return []
    names = [name.decode("utf-8", "replace") for name in _INCLUDED.findall(own.read_bytes())]
    others = (posixpath.normpath(posixpath.join(posixpath.dirname(unit), name)) for name in names)
    return [unit, *(path for path in others if not path.startswith("..") and (source / path).is_file())]

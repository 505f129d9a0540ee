# SPDX-License-Identifier: GPL-2.0-or-later
"""What the patches of a build change in the source, and which changes of older patches they lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kgbuild.host.compile.apply_patches import PatchSet, read_original
from kgbuild.host.kernels.kernel_files import config_of
from kgbuild.livepatch.cumulative import Lost, Older
from kgbuild.model import Kernel
from kgbuild.patch.apply import unpatched
from kgbuild.patch.kept_changes import FileChange, MissingChange, find_missing_changes, read_change


def changes_of(tree: Kernel, patches: PatchSet) -> dict[str, FileChange]:
    """What the patches change in each file."""
    found = (
        (path, read_change(read_original(tree, path) or b"", applied.map, applied.text))
        for path, applied in patches.applied.items()
    )
    return {path: change for path, change in found if change.hunks}


def find_lost(tree: Kernel, patches: PatchSet, older: Iterable[Older]) -> tuple[Lost, ...]:
    """Changes of older patches that the given patches do not make. Older patches that are given again are skipped."""
    given = {p.sha256 for p in patches.patches}
    out: list[Lost] = []
    for loaded in older:
        if loaded.patches and given.issuperset(loaded.patches):
            continue
        if loaded.changes is None:
            out.append(Lost(loaded.module))
            continue
        source = {}
        for path in loaded.changes:
            orig = read_original(tree, path) or b""
            applied = patches.applied.get(path) or unpatched(orig)
            source[path] = orig, applied.map, applied.text
        out += _named(tree, loaded.module, find_missing_changes(loaded.changes, source))
    return tuple(out)


def _named(tree: Kernel, module: str, missing: Iterable[MissingChange]) -> Iterator[Lost]:
    """Each lost change with the original function that contains it, or with its file."""
    # imported here because few builds need it
    from kgbuild.csource.definitions import FUNCTION, SourceItem, read_items
    from kgbuild.csource.preprocessor_conditions import Conditions

    functions: dict[str, list[SourceItem]] = {}
    for path, line, replaces in missing:
        if path not in functions:
            config = Conditions(config_of(tree), True)
            items = read_items(read_original(tree, path) or b"", config)
            functions[path] = [item for item in items if item.kind == FUNCTION and item.name]
        inside = (i.name for i in functions[path] if i.start + (not replaces) <= line <= i.end)
        yield Lost(module, next(inside, path), path, line)

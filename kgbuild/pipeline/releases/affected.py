# SPDX-License-Identifier: GPL-2.0-or-later
"""`affected`: which kernels have which fixes, from source and configuration alone. Nothing is compiled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgbuild.diagnostics.fix_states import NOT_LISTED
from kgbuild.errors import KgbuildError
from kgbuild.host.kernels.acquire import ensure_kernel, find_kernel
from kgbuild.host.patches.git_patches import GitTree
from kgbuild.host.releases.directory import Directory, Fix
from kgbuild.host.releases.kernel_source import KernelSource
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.tree_manifest import DamagedSource
from kgbuild.model import EXACT_TOOLS, Kernel, ToolChoice
from kgbuild.pipeline.releases.kernels import known_as, names_of
from kgbuild.progress import Progress
from kgbuild.releases.answers import Row, decision_row, kernel_row, unknown_row
from kgbuild.releases.config import Config, matches_kernel
from kgbuild.releases.decide import Decision, decide_in_order

_VERSION = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Decided:
    """What was decided for one kernel: a decision for each fix, by its id, and the file that each was decided by."""

    kernel: Kernel
    decisions: Mapping[str, Decision]
    patches: Mapping[str, str]

    def rows(self) -> list[Row]:
        """A row for each fix."""
        return [decision_row(fix, one, self.patches.get(fix)) for fix, one in self.decisions.items()]


def is_for(config: Config, fix: Fix, names: Sequence[str]) -> bool:
    """Whether kgbuild.toml lists a fix for a kernel that has these names."""
    wanted = config.expand(fix.entry.kernels)
    return not fix.entry.kernels or any(matches_kernel(pattern, names) for pattern in wanted)


def kernels_named(config: Config, fixes: Sequence[Fix]) -> list[str]:
    """The names and patterns of kernels by which fixes, or patches of them, are for some kernels only."""
    return [name for fix in fixes for name in (*config.expand(fix.entry.kernels), *fix.metadata.patches)]


def decide_kernel(
    directory: Directory, fixes: Sequence[Fix], kernel: Kernel, requested: str, git: GitTree | None = None
) -> Decided:
    """Decide for one kernel. Raises UserError for a patch that can't be read, ToolError where the source can't."""
    names = (*names_of(kernel.id, requested), *known_as(kernel.id, kernels_named(directory.config, fixes)))
    asked = [fix for fix in fixes if is_for(directory.config, fix, names)]
    patches = {fix.id: fix.patch_for(names) for fix in asked}
    parsed = [(fix.id, [fix.parse(patches[fix.id])]) for fix in asked]
    found = decide_in_order(parsed, KernelSource(kernel), _introduced(fixes, kernel, git))
    other = Decision(NOT_LISTED, "kgbuild.toml lists it for other kernels")
    return Decided(kernel, {fix.id: found.get(fix.id, other) for fix in fixes}, patches)


def _introduced(fixes: Sequence[Fix], kernel: Kernel, git: GitTree | None) -> Callable[[str], bool | None]:
    """A function that tells of a fix whether a commit that it repairs is in the kernel; None where that is unknown."""
    if git is None:
        return lambda fix: None
    version = upstream_version(kernel)
    commits = {fix.id: fix.metadata.fixes for fix in fixes}

    def introduced(fix: str) -> bool | None:
        known = [git.has(commit, version) for commit in commits[fix]]
        return None if not known or (None in known and True not in known) else True in known

    return introduced


def upstream_version(kernel: Kernel) -> str:
    """The upstream version of a kernel's source, from its Makefile: 6.1.170."""
    numbers = dict(_VERSION.findall((kernel.source / "Makefile").read_text(errors="replace")))
    return ".".join(numbers.get(name, "0") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))


def find_affected(
    directory: Directory,
    fixes: Sequence[Fix],
    kernels: Sequence[str],
    progress: Progress,
    *,
    git: Path | None = None,
    offline: bool = False,
    jobs: int = 2,
    choice: ToolChoice = EXACT_TOOLS,
    told: Callable[[Row], Any] = lambda row: None,
) -> list[Row]:
    """A row for each kernel, with a cell for each fix. A kernel that can't be had has its error in its row, and the
    others go on. `told` gets each row when it is there. Raises UserError for a git tree that is no kernel's."""
    tree = GitTree(git) if git is not None else None
    if tree is not None:
        tree.check_kernel("HEAD")
    rows = []
    for name in kernels:
        row = _row(directory, fixes, name, progress, tree, offline, jobs, choice)
        told(row)
        rows.append(row)
    return rows


def _row(
    directory: Directory,
    fixes: Sequence[Fix],
    name: str,
    progress: Progress,
    tree: GitTree | None,
    offline: bool,
    jobs: int,
    choice: ToolChoice,
) -> Row:
    kernel: Kernel | None = None
    try:
        # neither its compiler nor the seals of what is only compiled with are needed here
        kernel = find_kernel(name, offline=offline)
        if kernel is None or not Cache().use(kernel, progress):
            kernel = ensure_kernel(name, progress=progress, offline=offline, jobs=jobs, choice=choice)
        try:
            decided = decide_kernel(directory, fixes, kernel, name, tree)
        except DamagedSource:
            kernel = ensure_kernel(name, progress=progress, offline=offline, jobs=jobs, choice=choice)
            decided = decide_kernel(directory, fixes, kernel, name, tree)
    except KgbuildError as error:
        found = kernel.id if kernel is not None else None
        return {**kernel_row(name, found, error), "fixes": [unknown_row(fix.id, error.fact) for fix in fixes]}
    return {**kernel_row(name, kernel.id), "fixes": decided.rows()}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernels a run over a directory is for: names, patterns and groups of kgbuild.toml and of --kernels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from contextlib import suppress

from kgbuild.errors import KgbuildError, UserError
from kgbuild.host.kernels.acquire import find_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.model import KernelId
from kgbuild.pipeline.kernels import search_kernels
from kgbuild.progress import Progress
from kgbuild.releases.config import Config, is_pattern, matches_kernel


def names_of(kernel: KernelId, requested: str = "") -> tuple[str, ...]:
    """The names that patterns are matched against: with the distribution, the release alone, with the version, and as
    it was asked for."""
    own = (kernel.name, kernel.release, f"{kernel.name}={kernel.version}", requested)
    return tuple(dict.fromkeys(name for name in own if name))


def meanings(names: Iterable[str]) -> dict[str, str]:
    """The build-id of the kernel that each of these names means now; patterns, and names that mean none, are left out.
    `debian:newest-6.1-cloud` is what it was when the archive was last asked, or the newest one in the cache."""
    out = {}
    for name in dict.fromkeys(names):
        if is_pattern(name):
            continue
        with suppress(KgbuildError):  # a name of a distribution that is not known means no kernel
            found = find_kernel(name) or find_kernel(name, offline=True)
            if found is not None:
                out[name] = found.id.build_id
    return out


def known_as(kernel: KernelId, names: Iterable[str]) -> tuple[str, ...]:
    """Those of these names that mean the kernel though they are not its own."""
    return tuple(name for name, build_id in meanings(names).items() if build_id == kernel.build_id)


def choose_kernels(
    config: Config, wanted: Sequence[str], progress: Progress, *, offline: bool = False, mirror: str = ""
) -> tuple[str, ...]:
    """The names of the kernels that a run is for, each once, in order. `wanted` are those of --kernels: each is looked
    for among those of kgbuild.toml, then in the cache and the archive.

    Raises UserError for a pattern without a kernel, and where there is no kernel at all.
    """
    seen: dict[str, tuple[str, ...]] = {}

    def expanded(pattern: str) -> tuple[str, ...]:
        if pattern not in seen:
            seen[pattern] = _expand(pattern, progress, offline, mirror) if is_pattern(pattern) else (pattern,)
        return seen[pattern]

    if not wanted:
        names = [name for pattern in config.expand(config.kernels) for name in expanded(pattern)]
        if not names:
            remedy = 'add some to kgbuild.toml (kernels = ["debian:newest-6.1-cloud"]), or give --kernels'
            raise UserError("there is no kernel to work for", remedy=remedy)
        return tuple(dict.fromkeys(names))
    listed = list(config.expand(config.kernels))
    out: list[str] = []
    for given in config.expand(_groups_known(config, wanted)):
        own = [name for name in listed if not is_pattern(name) and _matches(given, name)]
        if not own and is_pattern(given):
            own = [
                name
                for pattern in listed
                if is_pattern(pattern)
                for name in expanded(pattern)
                if matches_kernel(given, (name, name.partition(":")[2]))
            ]
        out += own or expanded(given)
    return tuple(dict.fromkeys(out))


def _groups_known(config: Config, wanted: Sequence[str]) -> Sequence[str]:
    for name in wanted:
        if name.startswith("@") and name[1:] not in config.groups:
            near = difflib.get_close_matches(name[1:], config.groups, 1)
            known = f"did you mean @{near[0]}?" if near else f"there are {', '.join(config.groups) or 'none'}"
            raise UserError("there is no such group", place=name, remedy=known)
    return wanted


def _matches(given: str, name: str) -> bool:
    return given == name or matches_kernel(given, (name, name.partition(":")[2]))


def _expand(pattern: str, progress: Progress, offline: bool, mirror: str) -> tuple[str, ...]:
    """The kernels of the cache and the archive that a pattern means, in the order of their names."""
    cached = [kernel.id for kernel in Cache().kernels()]
    found = {kernel.name for kernel in cached if matches_kernel(pattern, (kernel.name, kernel.release))}
    if not offline:
        try:
            prefix = pattern[: min(pattern.index(char) for char in "*?[" if char in pattern)]
            rows = search_kernels(prefix, progress, mirror=mirror).rows
            found |= {row["name"] for row in rows if matches_kernel(pattern, _both(row["name"]))}
        except KgbuildError as error:
            if not found:
                raise _none(pattern, (kernel.name for kernel in cached), str(error)) from error
            progress.note(f"{pattern}: {error}; taking those in the cache")
    if not found:
        raise _none(pattern, (kernel.name for kernel in cached), "")
    return tuple(sorted(found, key=_by_version))


def _both(name: str) -> tuple[str, str]:
    return name, name.partition(":")[2]


def _by_version(name: str) -> list[tuple[int, str]]:
    """A key that sorts 6.1.0-9 before 6.1.0-47."""
    out: list[tuple[int, str]] = []
    digits = ""
    for char in f"{name}\0":
        if char.isdigit():
            digits += char
            continue
        if digits:
            out.append((int(digits), ""))
            digits = ""
        out.append((-1, char))
    return out


def _none(pattern: str, cached: Iterable[str], why: str) -> UserError:
    there = sorted(cached)
    near = difflib.get_close_matches(pattern, there, 3, 0.4)
    remedy = f"the cache has {', '.join(near or there[:3])}" if there else "kgbuild kernel search lists what there is"
    return UserError("no kernel matches this pattern" + (f" ({why})" if why else ""), place=pattern, remedy=remedy)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to say of the toolchains in the cache, as plain data (docs/schema/toolchain-1.json)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kgbuild.errors import UserError
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.watch import tree_size
from kgbuild.host.toolchains.store import (
    Toolchain,
    is_unchanged,
    load_toolchain,
    remove_toolchain,
    toolchain_record,
    toolchains,
)
from kgbuild.model import Kernel


def list_toolchains(cache: Cache) -> list[dict[str, Any]]:
    """A row for each toolchain in the cache: key, name, bytes, and the names of the kernels that it built."""
    return [_row(cache, one) for one in toolchains(cache)]


def find_toolchain_by_key(cache: Cache, key: str) -> Toolchain:
    """The toolchain whose key begins with `key`. Raises UserError for none or several."""
    there = toolchains(cache)
    fitting = [one for one in there if key and one.key.startswith(key.lower())]
    if len(fitting) == 1:
        return fitting[0]
    fact = "several toolchains in the cache have such a key" if fitting else "no such toolchain in the cache"
    listed = ", ".join(f"{one.key[:12]} ({one.name})" for one in fitting or there)
    raise UserError(fact, place=key, remedy=f"there are: {listed}" if listed else "a build fetches what it needs")


def describe_toolchain(cache: Cache, key: str) -> dict[str, Any]:
    """Everything about one toolchain. Raises UserError where the key names none, or several."""
    found = find_toolchain_by_key(cache, key)
    return {**_row(cache, found), **toolchain_record(found), **_state(found)}


def toolchain_of(kernel: Kernel, cache: Cache) -> dict[str, Any]:
    """Everything about the toolchain of a kernel. Raises UserError where this machine's own programs compile."""
    found = load_toolchain(cache, kernel.toolchain.parent.name) if kernel.toolchain is not None else None
    if found is None:
        raise UserError("this machine's own programs compile for it", place=kernel.id.name)
    return {**_row(cache, found), **toolchain_record(found), **_state(found)}


def remove_toolchains(cache: Cache, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Remove the toolchains of these keys; their rows. Raises UserError where a key names none, before any goes."""
    found = list({one.key: one for one in (find_toolchain_by_key(cache, key) for key in keys)}.values())
    rows = [_row(cache, one) for one in found]
    for one in found:
        remove_toolchain(cache, one.key)
    return rows


def _row(cache: Cache, toolchain: Toolchain) -> dict[str, Any]:
    users = [k.id.name for k in cache.kernels() if k.toolchain is not None and k.toolchain == toolchain.root]
    return {"key": toolchain.key, "name": toolchain.name, "bytes": tree_size(toolchain.root), "kernels": users}


def _state(toolchain: Toolchain) -> dict[str, Any]:
    return {"folder": str(toolchain.root), "unchanged": is_unchanged(toolchain)}

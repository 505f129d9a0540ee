# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of .modinfo: what a module says of itself, as KEY=VALUE texts that end with NUL."""

from __future__ import annotations

from collections.abc import Mapping


def modinfo_items(data: bytes | memoryview) -> list[tuple[str, str]]:
    """(key, value) of each entry, in order; an entry without "=" has the value ""."""
    parts = (part.decode("utf-8", "replace").partition("=") for part in bytes(data).split(b"\0") if part)
    return [(key, value) for key, _, value in parts]


def parse_modinfo(data: bytes | memoryview) -> dict[str, str]:
    """The value of each key; of a key that comes several times the first, as the module loader takes it (get_modinfo
    of kernel/module/main.c)."""
    out: dict[str, str] = {}
    for key, value in modinfo_items(data):
        out.setdefault(key, value)
    return out


def modules_needed(info: Mapping[str, str]) -> tuple[str, ...]:
    """Names, with underscores, of the modules that one with this .modinfo needs."""
    return tuple(name.replace("-", "_") for name in info.get("depends", "").split(",") if name)

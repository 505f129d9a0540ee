# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest of a release, made, read, and checked against the directory that it was made of (docs/releases.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kgbuild import __version__
from kgbuild.errors import UserError
from kgbuild.report.documents import schema_name

MANIFEST = "manifest.json"
SCHEMA = schema_name("release")
_KEYS = frozenset({"schema", "tool", "release", "replace", "previous", "fixes", "kernels", "files"})


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def folder_of(number: int) -> str:
    """The directory of a release."""
    return f"release-{number}"


def make_manifest(
    number: int,
    replace: bool,
    previous: Mapping[str, Any] | None,
    fixes: Sequence[Mapping[str, Any]],
    kernels: Sequence[Mapping[str, Any]],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """The manifest of a release. `files` are all others, by path in the release."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "kgbuild", "version": __version__},
        "release": number,
        "replace": replace,
        "previous": dict(previous) if previous is not None else None,
        "fixes": [dict(fix) for fix in fixes],
        "kernels": [dict(kernel) for kernel in kernels],
        "files": [{"path": path, "sha256": digest(files[path]), "bytes": len(files[path])} for path in sorted(files)],
    }


def parse_manifest(data: bytes, place: str) -> dict[str, Any]:
    """A manifest from its text. Raises UserError for what is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is no JSON ({error})", place=place, remedy="make the release again") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not set(value) >= _KEYS:
        raise UserError("is no manifest of a release", place=place, remedy="make the release again")
    return value


def changed_inputs(manifest: Mapping[str, Any], inputs: Mapping[str, bytes]) -> list[str]:
    """What of the inputs of a release is not as it was, a sentence each: `inputs` are the directory's files now."""
    out = []
    for fix in manifest["fixes"]:
        for row in fix["inputs"]:
            now = inputs.get(row["path"])
            if now is None:
                out.append(f"{row['path']} is gone")
            elif digest(now) != row["sha256"]:
                out.append(f"{row['path']} was changed")
    return out

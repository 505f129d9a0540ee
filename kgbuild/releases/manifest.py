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
# What readers of a manifest rely on (docs/schema/release-1.json has the whole form): a type, the items of a list, the
# keys of a table, or some of these to choose from.
_FILE = {"path": str, "sha256": str}
_SHAPE: Any = {
    "release": int,
    "replace": bool,
    "fixes": [{"id": str, "cves": [str], "subject": str, "commit": str, "release": int, "inputs": [_FILE]}],
    "kernels": [
        {
            **dict.fromkeys(("kernel", "requested", "version", "folder"), str),
            "fixes": [{"id": str, "state": str, "fact": str, "patch": (str, None)}],
            "module": ({**_FILE, "name": str}, None),
            **dict.fromkeys(("report", "proof", "vm"), (str, None)),
        }
    ],
    "files": [_FILE],
}

_CALLED = {str: "string", int: "number", bool: "truth value"}


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
    """A manifest from its text. Raises UserError for what is none, with what of it has another form."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is no JSON ({error})", place=place, remedy="make the release again") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise UserError("is no manifest of a release", place=place, remedy="make the release again")
    fault = _find_fault(value, _SHAPE, "")
    if fault:
        raise UserError(f"is no manifest of a release: {fault}", place=place, remedy="make the release again")
    return value


def _find_fault(value: Any, shape: Any, key: str) -> str:
    """What does not have its form; "" where everything has."""
    if isinstance(shape, tuple):
        return "" if value is None and None in shape else _find_fault(value, shape[0], key)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{key} is no list"
        faults = (_find_fault(item, shape[0], f"{key}[{number}]") for number, item in enumerate(value))
        return next(filter(None, faults), "")
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{key or 'it'} is no table"
        missing = next((f"{key}.{name}".lstrip(".") for name in shape if name not in value), "")
        faults = (_find_fault(value[name], part, f"{key}.{name}".lstrip(".")) for name, part in shape.items())
        return f"{missing} is missing" if missing else next(filter(None, faults), "")
    fits = isinstance(value, shape) and (shape is not int or not isinstance(value, bool))
    return "" if fits else f"{key} is no {_CALLED[shape]}"


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

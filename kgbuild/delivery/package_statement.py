# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages were made of which modules, with digests: an in-toto statement to check a package by."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from kgbuild import __version__
from kgbuild.delivery.provenance import PREDICATE, STATEMENT
from kgbuild.errors import UserError

BUILD_TYPE = "https://kgbuild.invalid/package/v1"
_REMEDY = "give the file that kgbuild package --provenance wrote"
_BARE = " without signature"
_LEAD = 96  # bytes before the signature of an RPM
_HEADER = struct.Struct(">4s4xII")  # of RPM's header structure: magic, reserved, number of entries, size of their data
_MAGIC = b"\x8e\xad\xe8\x01"


def without_rpm_signature(data: bytes) -> bytes:
    """An RPM's own header and its payload, which signing does not change; the same bytes where it is no RPM."""
    if data[:4] != b"\xed\xab\xee\xdb" or len(data) < _LEAD + _HEADER.size:
        return data
    magic, entries, size = _HEADER.unpack_from(data, _LEAD)
    end = _LEAD + _HEADER.size + entries * 16 + size
    return data[end + -end % 8 :] if magic == _MAGIC and end < len(data) else data


def package_digests(name: str, data: bytes) -> dict[str, str]:
    """SHA-256 of a package's file, and for an RPM of what its signature does not touch, by name."""
    digests = {name: hashlib.sha256(data).hexdigest()}
    bare = without_rpm_signature(data)
    if bare is not data:
        digests[name + _BARE] = hashlib.sha256(bare).hexdigest()
    return digests


def make_package_statement(
    packages: Sequence[tuple[str, bytes]], modules: Sequence[tuple[str, bytes]], maintainer: str, epoch: int
) -> dict[str, Any]:
    """The statement of one run of `package`.

    packages   file's name and bytes of each; modules: name and bytes of what is in them
    maintainer, epoch   what they bear besides (seconds since 1970)
    """
    subject = [
        {"name": name, "digest": {"sha256": digest}}
        for file, data in packages
        for name, digest in package_digests(file, data).items()
    ]
    depends = [{"name": f"{name}.ko", "digest": {"sha256": hashlib.sha256(data).hexdigest()}} for name, data in modules]
    return {
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"maintainer": maintainer, "sourceDateEpoch": epoch},
                "resolvedDependencies": depends,
            },
            "runDetails": {
                "builder": {"id": BUILD_TYPE, "version": {"kgbuild": __version__}},
                "metadata": {},
            },
        },
    }


def read_package_statement(text: bytes) -> dict[str, str]:
    """SHA-256 by name of what a statement is about. Raises UserError for any other text."""
    try:
        value = json.loads(text)
        if value["predicate"]["buildDefinition"]["buildType"] != BUILD_TYPE:
            raise UserError("is no statement of packages", remedy=_REMEDY)
        return {str(row["name"]): str(row["digest"]["sha256"]) for row in value["subject"]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError("is no statement of packages", remedy=_REMEDY) from error


def is_stated(name: str, data: bytes, stated: Mapping[str, str]) -> bool:
    """Whether a package is one that a statement names; an RPM may have been signed since."""
    digests = package_digests(name, data)
    bare = name + _BARE
    if bare in stated:
        return digests.get(bare) == stated[bare]
    return digests[name] == stated.get(name)

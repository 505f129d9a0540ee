# SPDX-License-Identifier: GPL-2.0-or-later
"""The signatures of a release's modules, by the key of kgbuild.toml: put on last, when all else is known of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kgbuild.delivery.signature import split_signature
from kgbuild.errors import UserError
from kgbuild.host.delivery.signing import SigningKey, is_signed_by, open_key, sign_module
from kgbuild.host.system.input_files import read_input
from kgbuild.limits import MODULE_BYTES
from kgbuild.releases.config import Config
from kgbuild.report.formats import json_text

_TOKEN = "pkcs11:"


def key_of(root: Path, config: Config) -> SigningKey | None:
    """The key that kgbuild.toml of the directory `root` names, tried; None where it names none. Raises UserError where
    it does not work."""
    if config.sign is None:
        return None
    key = config.sign.key if config.sign.key.startswith(_TOKEN) else str(root / config.sign.key)
    try:
        return open_key(key, root / config.sign.certificate)
    except UserError as error:
        place = f"kgbuild.toml: sign ({error.place.removeprefix('--sign-key ').removeprefix('--sign-cert ')})"
        raise UserError(error.fact, place=place, remedy=error.remedy) from error


def signed(module: bytes, key: SigningKey, there: Path) -> bytes:
    """The module with a signature. One that the file `there` has already by the same key is taken: signatures by some
    kinds of keys differ each time."""
    if there.is_file():
        old = read_input(there, MODULE_BYTES)
        if split_signature(old)[0] == module and is_signed_by(old, key.certificate):
            return old
    return sign_module(module, key)


def report_of(report: bytes, module: bytes) -> bytes:
    """A build's report with digest and size of the signed module."""
    told = json.loads(report)
    known = {"sha256": hashlib.sha256(module).hexdigest(), "size": len(module), "bytes": len(module)}
    told["module"].update({name: value for name, value in known.items() if name in told["module"]})
    return json_text(told).encode()

# SPDX-License-Identifier: GPL-2.0-or-later
"""UEFI firmware for a guest, with certificates that its kernel is to trust."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kgbuild.arch.platform import Emulator
from kgbuild.errors import ToolError, UserError
from kgbuild.guest.firmware import trusting_variables
from kgbuild.host.system.input_files import read_input
from kgbuild.host.system.required_packages import remedy_for
from kgbuild.limits import MODULE_BYTES

OPTION = "--trust-cert"


@dataclass(frozen=True)
class Firmware:
    """The firmware's code, as a file, and the bytes of its variables."""

    code: Path
    variables: bytes = field(repr=False)


def trusting_firmware(emulator: Emulator, certificates: Sequence[Path]) -> Firmware:
    """Firmware whose `db` has these certificates (PEM). Raises UserError for a file that is no certificate, ToolError
    where this machine has no firmware for the architecture."""
    found = [read_certificate(path) for path in certificates]
    for code, variables in emulator.firmware:
        if Path(code).is_file() and Path(variables).is_file():
            store = read_input(Path(variables), MODULE_BYTES)
            try:
                return Firmware(Path(code), trusting_variables(store, found))
            except UserError as error:
                raise UserError(error.fact, place=variables, remedy=error.remedy) from error
    raise ToolError("this machine has no UEFI firmware for guests", place=OPTION, remedy=remedy_for("OVMF"))


def read_certificate(path: Path) -> bytes:
    """The first certificate of a PEM file, as DER. Raises UserError where there is none."""
    text = read_input(path, MODULE_BYTES).decode("ascii", "replace")
    begin, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    try:
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)] + "\n") if begin >= 0 else b""
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError) as error:
        remedy = "give one in PEM: openssl x509 -in FILE"
        raise UserError("is no certificate in PEM", place=f"{OPTION} {path}", remedy=remedy) from error
    return der

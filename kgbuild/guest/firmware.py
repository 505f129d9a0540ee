# SPDX-License-Identifier: GPL-2.0-or-later
"""UEFI variables of a guest's firmware: a `db` with certificates of one's own.

A kernel with CONFIG_LOAD_UEFI_KEYS puts the certificates of `db` into its keyring .platform at boot, whether Secure
Boot is on or off (security/integrity/platform_certs/load_uefi.c), and takes modules signed by their keys where the
distribution lets it (Debian's kernel/module/signing.c does). The format is that of EDK II: MdeModulePkg,
Include/Guid/VariableFormat.h; the list of certificates is the UEFI specification's EFI_SIGNATURE_LIST.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

from kgbuild.errors import UserError

_AUTHENTICATED = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le  # a store of EFI_AUTHENTICATED_VARIABLE
_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le  # EFI_IMAGE_SECURITY_DATABASE_GUID
_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le  # EFI_CERT_X509_GUID
_OWNER = UUID("6b676275-696c-4400-8000-000000000001").bytes_le  # who put it there: any value will do
_VOLUME = struct.Struct("<16s16sQ4sIH")  # EFI_FIRMWARE_VOLUME_HEADER, up to its length
_STORE = struct.Struct("<16sIBBHI")  # VARIABLE_STORE_HEADER
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")  # AUTHENTICATED_VARIABLE_HEADER
_LIST = struct.Struct("<16sIII")  # EFI_SIGNATURE_LIST
_START, _ADDED = 0x55AA, 0x3F
_NON_VOLATILE_AUTHENTICATED = 0x27
_ALIGN = 4


def signature_lists(certificates: Sequence[bytes]) -> bytes:
    """Certificates (DER) as `db` holds them: a list each, since they differ in size."""
    rows = []
    for certificate in certificates:
        size = len(_OWNER) + len(certificate)
        rows.append(_LIST.pack(_X509, _LIST.size + size, 0, size) + _OWNER + certificate)
    return b"".join(rows)


def trusting_variables(store: bytes, certificates: Sequence[bytes]) -> bytes:
    """A file of UEFI variables with these certificates (DER) in `db`, in place of none.

    `store` is an empty one, as the firmware's package brings it (OVMF_VARS_4M.fd). Raises UserError for a file that is
    no such store, has variables already, or is too small.
    """
    if len(store) < _VOLUME.size or store[40:44] != b"_FVH":
        raise UserError("is no store of UEFI variables", remedy="give the one that belongs to the firmware")
    begin = _VOLUME.unpack_from(store)[5]
    if store[begin : begin + 16] != _AUTHENTICATED:
        raise UserError("is a store of UEFI variables in an unknown format", remedy="use OVMF of EDK II")
    size = _STORE.unpack_from(store, begin)[1]
    first, end = begin + _STORE.size, begin + size
    first += -first % _ALIGN
    if first + _VARIABLE.size > end or end > len(store) or _VARIABLE.unpack_from(store, first)[0] == _START:
        raise UserError("has variables already, or is damaged", remedy="give an empty one, as the package brings it")
    name, data = "db\0".encode("utf-16-le"), signature_lists(certificates)
    header = _VARIABLE.pack(
        _START, _ADDED, 0, _NON_VOLATILE_AUTHENTICATED, 0, bytes(16), 0, len(name), len(data), _DATABASE
    )
    row = header + name + data
    if first + len(row) > end:
        raise UserError("has no room for these certificates", remedy="give fewer")
    return store[:first] + row + store[first + len(row) :]

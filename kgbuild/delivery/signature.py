# SPDX-License-Identifier: GPL-2.0-or-later
"""The signature at the end of a module, as the kernel's scripts/sign-file writes it: PKCS#7, struct module_signature
(include/linux/module_signature.h), a marker."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kgbuild.verification.reading.reader import PKCS7, SIGNATURE, SIGNED, without_signature


@dataclass(frozen=True)
class ModuleSignature:
    """What a signature says: who signed (name and serial number of the certificate), and with which digest."""

    issuer: str
    serial: str
    digest: str


def append_signature(module: bytes, pkcs7: bytes) -> bytes:
    """The signed module. A signature that it had is gone: the kernel looks at the last one only."""
    bare = without_signature(module)
    return bare + pkcs7 + SIGNATURE.pack(0, 0, PKCS7, 0, 0, len(pkcs7)) + SIGNED


def split_signature(module: bytes) -> tuple[bytes, bytes | None]:
    """What is signed and the PKCS#7 message; None where there is no signature, empty where it is not whole."""
    if not module.endswith(SIGNED):
        return module, None
    bare = without_signature(module)
    if len(bare) == len(module):
        return module, b""
    return bare, module[len(bare) : -len(SIGNED) - SIGNATURE.size]


def read_signer(printed: str) -> ModuleSignature | None:
    """Who signed, from what `openssl cms -cmsout -print` says."""
    _, found, signer = printed.partition("signerInfos:")
    issuer = re.search(r"^\s*issuer: (.*)$", signer, re.MULTILINE)
    serial = re.search(r"^\s*serialNumber: (\S+)$", signer, re.MULTILINE)
    key = re.search(r"subjectKeyIdentifier:\s*\n\s*\S* - ([0-9a-f -]+)", signer)
    digest = re.search(r"digestAlgorithm:\s*\n\s*algorithm: (\S+)", signer)
    if not found or digest is None or (issuer is None and key is None):
        return None
    name = issuer[1].strip() if issuer else "key"
    number = serial[1] if serial else re.sub(r"[^0-9a-f]", "", key[1]) if key else ""
    return ModuleSignature(name, number, digest[1])

# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys that a running kernel takes modules from, as `keyctl show` of keyutils prints its keyrings.

A kernel shows of each certificate its name and its key identifier, or its serial number where it has none
(x509_key_preparse in crypto/asymmetric_keys/x509_public_key.c), and not the certificate itself. So a key is known by
these two: the kernel alone has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Where mod_verify_sig of kernel/module/signing.c looks; .machine is linked into the secondary keyring. Debian's and
# other distributions' kernels look into .platform too.
TRUSTED_KEYRINGS = (".builtin_trusted_keys", ".secondary_trusted_keys", ".machine", ".platform")
_LINE = re.compile(r"\s*\d+\s+[-a-zA-Z]{8}\s+\d+\s+\d+\s(?P<indent>\s*(?:\\_ )?)(?P<kind>[a-z_.]+): (?P<about>.*)")
_KEY = re.compile(r"(?P<name>.*): (?P<identifier>[0-9a-f]{2,128})")
_COMMON_NAME = re.compile(r"(?:^|[,/])\s*CN\s*=\s*([^,/]*)")


@dataclass(frozen=True)
class KernelKey:
    """A certificate in a keyring of the kernel: its subject's name, and its key identifier or serial number in hex."""

    keyring: str
    name: str
    identifier: str


@dataclass(frozen=True)
class CertificateNames:
    """By what a kernel knows a certificate: the subject's common name, and key identifier and serial number in hex; ""
    for what it does not have."""

    common_name: str
    identifier: str
    serial: str


def read_kernel_keys(text: str) -> tuple[KernelKey, ...]:
    """The keys in what `keyctl show %:.builtin_trusted_keys` and the like print, one after the other. What is no line
    of a key is skipped."""
    found: list[KernelKey] = []
    rings: list[tuple[int, str]] = []  # indent and name of the keyrings that a line lies in
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while rings and rings[-1][0] >= indent:
            rings.pop()
        if match["kind"] == "keyring":
            rings.append((indent, match["about"]))
        elif match["kind"] == "asymmetric" and rings and (key := _KEY.fullmatch(match["about"])):
            one = KernelKey(rings[-1][1], key["name"], key["identifier"])
            if one.keyring in TRUSTED_KEYRINGS and one not in found:
                found.append(one)
    return tuple(found)


def keyrings_with(keys: Sequence[KernelKey], certificate: CertificateNames) -> tuple[str, ...]:
    """The keyrings that have a certificate."""
    wanted = certificate.identifier or certificate.serial.lstrip("0")
    if not wanted:
        return ()
    found = [
        key.keyring
        for key in keys
        if (key.identifier if certificate.identifier else key.identifier.lstrip("0")) == wanted
        and key.name.endswith(certificate.common_name)
    ]
    return tuple(dict.fromkeys(found))


def keyrings_with_name(keys: Sequence[KernelKey], issuer: str) -> tuple[str, ...]:
    """The keyrings that have a certificate of the name of a signature's issuer: a certificate that signed itself has
    the issuer's name."""
    match = _COMMON_NAME.search(issuer)
    if match is None or not match[1].strip():
        return ()
    return tuple(dict.fromkeys(key.keyring for key in keys if key.name.endswith(match[1].strip())))


def read_certificate_names(printed: str) -> CertificateNames:
    """What `openssl x509 -noout -subject -serial -ext subjectKeyIdentifier` says of a certificate."""
    subject = re.search(r"^subject=(.*)$", printed, re.MULTILINE)
    serial = re.search(r"^serial=([0-9A-F]+)$", printed, re.MULTILINE)
    identifier = re.search(r"Subject Key Identifier:[^\n]*\n\s*([0-9A-F:]+)$", printed, re.MULTILINE)
    name = _COMMON_NAME.search(subject[1]) if subject else None
    return CertificateNames(
        name[1].strip() if name else "",
        identifier[1].replace(":", "").lower() if identifier else "",
        serial[1].lower() if serial else "",
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys that a kernel trusts: of the kernel that runs here, by keyctl, or of another, from what keyctl said."""

from __future__ import annotations

from pathlib import Path

from kgbuild.delivery.kernel_keys import (
    TRUSTED_KEYRINGS,
    CertificateNames,
    KernelKey,
    read_certificate_names,
    read_kernel_keys,
)
from kgbuild.errors import ToolError, UserError
from kgbuild.host.system.input_files import read_input
from kgbuild.host.system.run import run
from kgbuild.limits import MODULE_BYTES

RUNNING = "running"
_SECONDS = 30.0
_COMMANDS = "; ".join(f"keyctl show %:{ring}" for ring in TRUSTED_KEYRINGS)


def kernel_keys(where: str) -> tuple[KernelKey, ...]:
    """The keys of the running kernel ("running"), or those in a file. Raises UserError for a file without any,
    ToolError where keyctl is missing or the kernel does not show its keys."""
    if where != RUNNING:
        found = read_kernel_keys(read_input(Path(where), MODULE_BYTES).decode("utf-8", "replace"))
        if not found:
            fact = "names no key that a kernel trusts"
            raise UserError(fact, place=f"--kernel-keys {where}", remedy=f"as root on the server: {_COMMANDS}")
        return found
    said = [run(["keyctl", "show", f"%:{ring}"], check=False, timeout=_SECONDS) for ring in TRUSTED_KEYRINGS]
    found = read_kernel_keys("\n".join(one.stdout for one in said))
    if not found:
        lines = [line for one in said for line in one.stderr.splitlines()[:1]]
        fact = f"the running kernel shows no key that it trusts{': ' + lines[0] if lines else ''}"
        raise ToolError(fact, place="keyctl", remedy="run it as root, outside of a container")
    return found


def certificate_names(certificate: Path) -> CertificateNames:
    """By what a kernel knows a certificate (PEM). Raises UserError where the file is none."""
    words = ["x509", "-noout", "-subject", "-serial", "-ext", "subjectKeyIdentifier", "-in", str(certificate)]
    done = run(["openssl", *words], check=False, timeout=_SECONDS)
    if "serial=" not in done.stdout:
        remedy = "openssl x509 -in FILE"
        raise UserError("is no certificate in PEM", place=f"--certificate {certificate}", remedy=remedy)
    return read_certificate_names(done.stdout)

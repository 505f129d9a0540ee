# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys to sign with, each with a certificate by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_keys(folder: Path, *names: str) -> None:
    """NAME.pem, an RSA key without a passphrase, and NAME.crt in a folder, for each of the names."""
    for name in names:
        words = [
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.pem",
            "-out",
            f"{name}.crt",
            "-subj",
            f"/CN={name}",
        ]
        subprocess.run(["openssl", "req", "-new", "-x509", *words], cwd=folder, check=True, capture_output=True)

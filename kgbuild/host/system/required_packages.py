# SPDX-License-Identifier: GPL-2.0-or-later
"""Which package of the distribution has a program that kgbuild runs, and how this machine installs it."""

from __future__ import annotations

# Which Debian package brings a program; `kgbuild doctor` and the error messages read the same table.
PACKAGE_OF = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "apt-ftparchive": "apt-utils",
    "bc": "bc",
    "bison": "bison",
    "busybox": "busybox-static",
    "bwrap": "bubblewrap",
    "createrepo_c": "createrepo-c",
    "dpkg": "dpkg",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "gcc-12": "gcc-12",
    "git": "git",
    "gpg": "gnupg",
    "keyctl": "keyutils",
    "kmod": "kmod",
    "ld": "binutils",
    "make": "make",
    "objdump": "binutils",
    "OVMF": "ovmf",
    "openssl": "openssl",
    "pahole": "dwarves",
    "qemu-system-x86_64": "qemu-system-x86",
    "rpmbuild": "rpm",
    "rpmsign": "rpm",
    "strip": "binutils",
    "tar": "tar",
    "xz": "xz-utils",
}


def remedy_for(program: str) -> str:
    """The command that installs `program` on Debian, or a plain sentence where none is known."""
    package = PACKAGE_OF.get(program)
    return install_command(package) if package else f"install {program}"


def install_command(*packages: str, unattended: bool = False) -> str:
    """The command that installs packages on this machine; `unattended` asks nothing."""
    return f"apt-get install {'-y ' if unattended else ''}{' '.join(packages)}"

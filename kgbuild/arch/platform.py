# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's tree, distributions and the emulator call an architecture: values that `host` acts by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AccelerationProbe:
    """A program for the emulator that shows whether hardware virtualisation works, without a kernel.

    disk     the bytes of a disk to boot from
    options  what the emulator is given besides; `{disk}` is replaced by the path of the disk
    status   exit status of the emulator where the program came to its end
    """

    disk: bytes = field(repr=False)
    options: tuple[str, ...]
    status: int


@dataclass(frozen=True)
class Emulator:
    """QEMU for an architecture.

    command   the program; options: what its machine needs beside what is said in host/vm/qemu.py
    console   the kernel's name of the first serial port; append: more of the kernel's command line
    probe     whether KVM works
    firmware  where distributions have UEFI firmware for it: its code and an empty store of its variables, best first
    """

    command: str
    console: str
    append: str
    probe: AccelerationProbe
    options: tuple[str, ...] = ()
    firmware: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Platform:
    """The names of one architecture.

    source_arch   its directory below arch/ in the kernel's tree; kbuild's SRCARCH, and ARCH on make's command line
    names         every name that a kernel or a distribution has for it (uname -m, Debian's, kbuild's)
    deb_arch      what Debian's packages call it; rpm_arch: what RPM's call it
    triplet       its folder of libraries where a distribution has several, as gcc -print-multiarch says
    image         what the bootable image is called; image_path: where a build leaves it
    payload       (offset, length) in bytes of the compressed kernel in a bootable image, from the image's first bytes
                  (`image_head` of them); None where they are of no such image
    module_script    where module.lds is in build trees that have it not in scripts/
    generated        what a build writes below arch/ in a source tree
    constant_makers  sources that are compiled while a kernel is prepared, to make headers of constants
    scripted         headers that scripts read while a kernel is built, the lines they read, what they make of them
    """

    source_arch: str
    names: frozenset[str]
    deb_arch: str
    rpm_arch: str
    triplet: str
    image: str
    image_path: str
    image_head: int
    payload: Callable[[bytes], tuple[int, int] | None] = field(repr=False)
    module_script: str
    generated: tuple[str, ...]
    constant_makers: tuple[str, ...]
    scripted: tuple[tuple[str, bytes, str], ...]
    emulator: Emulator

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the source of a kernel lay when it was built.

Most compiles do not show it: `-fmacro-prefix-map` takes it off __FILE__. What the undefined behaviour sanitizer writes
into an object names the source file as the compiler was given it (struct source_location, since 7.0 in Debian's
kernels). Such a unit is the kernel's only when it is compiled at that very path, and a sandbox can show a tree there.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, UnitCommand

# Every kernel has this unit; its name is among the names of files in the debugging information.
_UNIT = b"/init/main.c\0"
_LONGEST = 4096
_SANITIZER = re.compile(rb"^CONFIG_(?:UBSAN|KASAN|KCSAN|KMSAN)=y$", re.MULTILINE)
# A directory that can be made in an empty root: no dots as names, nothing odd, nothing that a sandbox has.
_PATH = re.compile(r"/(?!(?:usr|bin|sbin|lib\w*|proc|dev|sys|etc|tmp)(?:/|$))(?:[\w+~.-]+/)*[\w+~.-]+")


def shows_path(unit: UnitCommand) -> bool:
    """Whether the unit's object has the path that its source is compiled at."""
    return any(word.startswith("-fsanitize=") for word in unit.argv)


def may_show_path(kernel: Kernel) -> bool:
    """Whether the kernel is built with a sanitizer, so that some of its objects have the paths of sources."""
    return _SANITIZER.search(kernel.config.read_bytes()) is not None


def overlap(one: Path, other: Path) -> bool:
    """Whether one of two directories is the other, or inside it: then neither can be shown at the other's place, since
    the patched tree has links to the original one."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def path_when_built(kernel: Kernel, cache: Cache) -> Path | None:
    """The directory in which the kernel's source was compiled; None where its debugging information does not say it, or
    the source was given by relative names. Kept in the cache."""
    key = hashlib.sha256(f"built-at-1 {kernel.id.build_id}".encode()).hexdigest()
    stored = cache.get(key)
    if stored is None:
        stored = _find(kernel.vmlinux)
        cache.put(key, stored)
    text = stored.decode("ascii", "replace")
    return Path(text) if text else None


def _find(vmlinux: Path) -> bytes:
    with vmlinux.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        at = data.rfind(_UNIT)
        while at >= 0:
            start = max(data.rfind(b"\0", max(at - _LONGEST, 0), at) + 1, 0)
            name = data[start:at]
            if _PATH.fullmatch(name.decode("ascii", "replace")) and b"/." not in name:
                return name
            at = data.rfind(_UNIT, 0, at)
    return b""

# SPDX-License-Identifier: GPL-2.0-or-later
"""A mirror that has small kernels in packages of Debian's layout, of one source version; and Debian's recipe with that
mirror's suite in place of its own, and no toolchain: this machine's programs prepare the kernels."""

from __future__ import annotations

import io
import random
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from kgbuild.host.archives import recipe
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.integrity import find_damage
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.tree_manifest import check_files
from kgbuild.model import Kernel, ToolChoice
from kgbuild.progress import SilentProgress
from tests.support.mirror import SUITE, Mirror
from tests.support.tinykernel import tiny_kernel
from tests.support.toolchain import run

RELEASES = ("6.1.0-91-cloud-amd64", "6.1.0-92-cloud-amd64")
NAMES = tuple(f"debian:{release}" for release in RELEASES)
VERSION = "6.1.91-1"
_RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "debian.toml"
# what says when and by whom something was looked at, and not what it is
_NOT_COMPARED = re.compile(r"\.(sum|files)$|^\.used$|\.cmd$")


@dataclass(frozen=True)
class TinyArchive:
    """`address` is the mirror's, `recipes` a folder with the recipe."""

    address: str
    recipes: Path

    def use(self) -> None:
        """From now on this process knows this recipe alone."""
        recipe._recipe_folder = lambda: self.recipes
        recipe.load_recipes.cache_clear()

    def fetch(self, name: str, root: Path) -> Kernel:
        """The kernel of this name in the cache below `root`, whose lists are not those of the last call."""
        self.use()
        cache = Cache(root)
        kernel = ensure_kernel(
            name, progress=SilentProgress(), cache=cache, choice=ToolChoice(mirror=self.address, sandbox=True)
        )
        cache.leave(kernel)
        return kernel


def fill_mirror(mirror: Mirror, folder: Path) -> None:
    """Put two kernels and their source into a mirror, which is to be published then. `folder` is for the work."""
    tiny = tiny_kernel(folder).root
    noise = random.Random(7)
    objects = [path for path in tiny.iterdir() if path.suffix == ".o"]
    for number, release in enumerate(RELEASES):
        own = tiny / f"vmlinux-{number}"
        text = (f"--build-id=0x{f'{number + 1:02x}' * 20}", "-Ttext=0xffffffff81000000", "-e", "0", "-o", own)
        run("ld", "-q", *text, *sorted(objects))
        boot = {
            f"boot/vmlinuz-{release}": (tiny / "bzImage").read_bytes(),
            f"boot/config-{release}": (tiny / "config").read_bytes(),
        }
        modules = {
            f"lib/modules/{release}/kernel/m{n}.ko": noise.randbytes(noise.randint(1, 20_000)) for n in range(30)
        }
        mirror.add(f"linux-image-{release}", VERSION, {**boot, **modules})
        vmlinux = own.read_bytes() + noise.randbytes(500_000)
        mirror.add(f"linux-image-{release}-dbg", VERSION, {f"usr/lib/debug/boot/vmlinux-{release}": vmlinux})
        headers = {
            "Makefile": b"",
            ".config": boot[f"boot/config-{release}"],
            "Module.symvers": (tiny / "Module.symvers").read_bytes(),
            "include/config/auto.conf": b"",
            "scripts/dropped": noise.randbytes(300_000),  # takes space while packages are unpacked, and frees it
            **{f"include/generated/h{n}.h": noise.randbytes(2000) for n in range(20)},
        }
        top = f"usr/src/linux-headers-{release}"
        mirror.add(f"linux-headers-{release}", VERSION, {f"{top}/{path}": data for path, data in headers.items()})
    tools = {"usr/lib/linux-kbuild-6.1/scripts/basic/fixdep": b"#!/bin/sh\n", "usr/lib/linux-kbuild-6.1/scripts/x": b""}
    mirror.add("linux-kbuild-6.1", VERSION, tools)
    more = {f"drivers/d{n}.c": noise.randbytes(noise.randint(1, 4000)) for n in range(100)}
    mirror.add("linux-source-6.1", VERSION, {"usr/src/linux-source-6.1.tar.xz": _tarball(tiny / "source", more)})


def _tarball(tree: Path, more: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        files = {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file()}
        for path, data in {**files, **more}.items():
            member = tarfile.TarInfo(f"linux-source-6.1/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def write_recipe(folder: Path, keys: Path, *, growth: bool = True) -> Path:
    """A folder with Debian's recipe for the mirror whose keys these are; without `growth`, no space is asked for before
    packages are unpacked."""
    text = _RECIPE.read_text().partition("\n[toolchain]")[0]
    text = re.sub(r"^keyring = .*$", f'keyring = "{keys / "key0.gpg"}"', text, flags=re.MULTILINE)
    text = re.sub(r"^sites = .*$", 'sites = { main = "debian" }', text, flags=re.MULTILINE)
    own = f'list = [{{ name = "{SUITE}", site = "main", label = "deb99", base = "{SUITE}" }}]'
    text = re.sub(r"^list = \[.*?^\]$", own, text, flags=re.MULTILINE | re.DOTALL)
    if not growth:
        text = re.sub(r"^growth = .*$", "growth = -1.0", text, flags=re.MULTILINE)
    folder.mkdir()
    (folder / "debian.toml").write_text(text)
    return folder


def contents(root: Path) -> dict[str, dict[str, bytes]]:
    """What the cache below `root` has, for each kernel that it takes for whole by its name, and each source tree whose
    files it takes for whole: bytes by path."""
    cache, found = Cache(root), {}
    for kernel in cache.kernels():
        if not find_damage(kernel, cache):
            check_files(kernel.source)
            found[kernel.id.name] = _files(kernel.root, root)
            found[kernel.source.name] = _files(kernel.source, root)
    return found


def _files(folder: Path, root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(root).encode(), b"CACHE")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _NOT_COMPARED.search(path.name)
    }

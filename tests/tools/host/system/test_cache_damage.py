# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of the cache that are cut short, changed or gone: the next run makes them again and answers as before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kgbuild.errors import ToolError, UserError
from kgbuild.host.kernels import repair
from kgbuild.host.kernels.acquire import ensure_kernel
from kgbuild.host.kernels.integrity import find_damage, seal_kernel
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, ToolChoice
from kgbuild.progress import SilentProgress
from tests.support.cache_cases import KEY, add, answers, files_in, local
from tests.support.tinykernel import tiny_kernel

HOST = ToolChoice(host=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A cache with everything in it, and what it answers."""
    folder = tmp_path_factory.mktemp("damage")
    tiny_kernel(folder / "kernel")
    root = folder / "cache"
    add_kernel(local(folder / "kernel"), progress=SilentProgress(), cache=Cache(root))
    (root / "kvm.json").write_bytes(b"{}")
    found = answers(root)
    assert found["callers"] and answers(root) == found
    return root, found


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], list[bytes]]] = {
    "cut": lambda data: [data[:size] for size in (0, len(data) - 1)],
    "longer": lambda data: [data + b"\0"],
    "flipped": lambda data: [flip(data, place) for place in range(0, len(data), len(data) // 2 + 1)],
    "zeros": lambda data: [bytes(len(data))],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again(whole: tuple[Path, dict[str, object]], tmp_path: Path, damage: str) -> None:
    root, expected = whole
    names = [path.relative_to(root) for path in files_in(root)]
    kinds = {path.name for path in names}
    assert {"kernel.json", "units.sqlite", "index.sqlite", "includes.sqlite", ".kgbuild-env", KEY} <= kinds
    place = tmp_path / "cache"
    for name in names:
        for changed in DAMAGES[damage]((root / name).read_bytes()) if (root / name).stat().st_size else []:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(root, place, symlinks=True)
            (place / name).write_bytes(changed)
            found = answers(place)
            found["environment"] = expected["environment"]  # the cache has another path here
            assert found == expected, (name, damage)
            kernel = Cache(place).kernels()[0]
            assert find_damage(kernel, Cache(place)) == [], name


def test_a_file_that_is_gone_is_made_again(whole: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    root, expected = whole
    place = tmp_path / "cache"
    for name in (path.relative_to(root) for path in files_in(root)):
        if name.name == "kernel.json":
            continue  # marks a kernel as complete
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(root, place, symlinks=True)
        (place / name).unlink()
        found = answers(place)
        found["environment"] = expected["environment"]
        assert found == expected, name


@pytest.mark.parametrize("name", ["vmlinux", "config", "vmlinuz", "modules/a.ko", "build/Module.symvers"])
def test_a_kernel_of_the_archive_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cache = Cache(tmp_path / "cache")
    kernel = add(cache, "6.1.0-1-cloud-amd64")
    for extra in ("modules/a.ko", "build/Module.symvers"):
        (kernel.root / extra).write_bytes(b"x")
    seal_kernel(kernel, cache)
    (kernel.root / name).write_bytes(b"y")
    wanted = str(kernel.id.name)
    with pytest.raises(ToolError, match=f"1 files of this kernel are damaged.*{name.rpartition('/')[2]}") as caught:
        ensure_kernel(wanted, progress=SilentProgress(), offline=True, cache=cache, choice=HOST)
    assert "without --offline" in caught.value.remedy
    asked: list[tuple[object, bool]] = []

    def fetch(plan: object, archive: object, cache: Cache, progress: object, *rest: object, again: bool) -> Kernel:
        asked.append((plan, again))
        (kernel.root / name).write_bytes(b"x")
        seal_kernel(kernel, cache)
        return kernel

    monkeypatch.setattr(repair, "open_recipe_archive", lambda *asked: None)
    monkeypatch.setattr(repair, "find_packages", lambda name, recipe, apt: name)
    monkeypatch.setattr(repair, "fetch", fetch)
    assert ensure_kernel(wanted, progress=SilentProgress(), cache=cache, choice=HOST) == kernel
    assert [(f"{plan}", again) for plan, again in asked] == [(f"{wanted}=1-1", True)]
    cache.leave(kernel)


def test_a_kernel_whose_files_are_gone_says_what_lacks(tmp_path: Path) -> None:
    tiny_kernel(tmp_path / "kernel")
    cache = Cache(tmp_path / "cache")
    kernel = add_kernel(local(tmp_path / "kernel"), progress=SilentProgress(), cache=cache)
    kernel.config.write_bytes(b"")
    (tmp_path / "kernel" / "config").unlink()
    with pytest.raises(UserError, match=r"can't be added again .*config: [Nn]o such file"):
        ensure_kernel("local:tiny", progress=SilentProgress(), cache=cache)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A source tree in the cache is what was unpacked: what a build reads of it is checked, and made again if it is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kgbuild.errors import NoChange
from kgbuild.host.compile.apply_patches import apply_patches, read_original
from kgbuild.host.compile.include_index import make_index
from kgbuild.host.kernels import repair
from kgbuild.host.kernels.local import add_kernel
from kgbuild.host.system import tree_manifest
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.tree_manifest import (
    DamagedSource,
    check_files,
    has_manifest,
    is_marked,
    remove_manifest,
    write_manifest,
)
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.pipeline.build import analyse
from kgbuild.pipeline.stages.options import Options
from kgbuild.progress import SilentProgress
from tests.support import cache_cases
from tests.support.tinykernel import tiny_kernel

NAMES = ("a.c", "include/b.h", "odd name\n%.c")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "sources" / "linux"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}\n")
    (folder / "link").symlink_to("a.c")
    write_manifest(folder)
    return folder


def test_a_good_tree_is_good(tree: Path) -> None:
    assert has_manifest(tree) and not is_marked(tree)
    check_files(tree)
    check_files(tree, [tree / "a.c", tree / "include" / "b.h", tree / "later", tree.parent, Path("/etc/passwd")])
    # another stamp is no damage
    for name in NAMES:
        os.utime(tree / name, (1, 1))
    check_files(tree)


def write(path: Path) -> None:
    path.write_bytes(b"T" + path.read_bytes()[1:])


def again(path: Path) -> None:
    path.unlink()
    path.symlink_to("include/b.h")


@pytest.mark.parametrize("damage", [write, Path.unlink, lambda path: path.write_bytes(b""), again])
@pytest.mark.parametrize("name", [*NAMES, "link"])
def test_each_damage_is_found_and_marked(tree: Path, name: str, damage: Callable[[Path], object]) -> None:
    path = tree / name
    if name == "link" and damage is not again:
        path.unlink()
    else:
        damage(path)
    others = [tree / other for other in NAMES if other != name and not (name == "link" and other == "a.c")]
    check_files(tree, others)
    assert not is_marked(tree)
    for asked in ([path], None):
        with pytest.raises(DamagedSource, match="damaged"):
            check_files(tree, asked)
    assert is_marked(tree)
    write_manifest(tree)
    assert not is_marked(tree)


def test_a_file_is_found_by_any_path_to_it(tree: Path) -> None:
    (tree.parent.parent / "other").symlink_to(tree.parent)
    write(tree / "a.c")
    for path in (tree / "include" / ".." / "a.c", tree / "link", tree.parent.parent / "other" / tree.name / "a.c"):
        with pytest.raises(DamagedSource, match=r"a\.c: damaged"):
            check_files(tree, [path])
        with pytest.raises(DamagedSource):
            check_files(tree.parent.parent / "other" / tree.name, [path])


def test_a_file_with_its_stamp_is_not_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_manifest, "is_settled", lambda status: True)
    write_manifest(tree)
    monkeypatch.setattr(tree_manifest, "digest_of", lambda path: pytest.fail(f"{path} is read"))
    check_files(tree)


def test_a_damaged_manifest_is_none(tree: Path) -> None:
    manifest = tree.with_name(f".{tree.name}.manifest")
    manifest.write_bytes(b"\0" + manifest.read_bytes()[1:])
    assert not has_manifest(tree)
    check_files(tree)
    remove_manifest(tree)
    assert sorted(tree.parent.iterdir()) == [tree]


PATCH = b"--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1 @@\n-int a;\n+int b;\n"


@pytest.mark.parametrize("damage", [write, Path.unlink])
def test_a_touched_file_is_checked_and_the_tree_unpacked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    cache = Cache(tmp_path / "cache")
    kernel = cache_cases.add(cache, "6.1.0-1")
    source = kernel.source / "fs" / "x.c"
    source.parent.mkdir()
    source.write_text("int a;\n")
    remove_manifest(kernel.source)
    # a tree that an older kgbuild unpacked gets its manifest
    assert repair.make_whole(kernel, cache, SilentProgress()) is kernel and has_manifest(kernel.source)
    assert not apply_patches(kernel, [parse_patch("x.patch", PATCH)]).refusals
    damage(source)
    with pytest.raises(DamagedSource, match=r"fs/x\.c: damaged"):
        apply_patches(kernel, [parse_patch("x.patch", PATCH)])

    asked: list[Path] = []

    def fetched(plan: object, archive: object, folder: Path, *rest: object) -> None:
        asked.append(folder)
        source.write_text("int a;\n")
        write_manifest(folder)

    monkeypatch.setattr(repair, "open_recipe_archive", lambda *given: None)
    monkeypatch.setattr(repair, "find_packages", lambda *given: None)
    monkeypatch.setattr(repair, "fetch_source", fetched)
    assert repair.make_whole(kernel, cache, SilentProgress()) is kernel
    assert asked == [kernel.source]
    assert read_original(kernel, "fs/x.c") == b"int a;\n"
    repair.make_whole(kernel, cache, SilentProgress())
    assert asked == [kernel.source]


UNIT_PATCH = """--- a/fs/one.c
+++ b/fs/one.c
@@ -1,3 +1,3 @@
 #include "tiny.h"
 extern int shared(int);
-int one(int x) { return shared(x) + twice(x); }
+int one(int x) { return shared(x) + twice(x) + 5; }
"""


@pytest.mark.parametrize("text", ["static inline int twice(int x) { return 3 * x; }\n", "#error damaged\n", ""])
def test_what_a_compile_reads_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny_kernel(tmp_path / "kernel")
    kernel = add_kernel(cache_cases.local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache())
    write_manifest(kernel.source)
    (header,) = kernel.source.rglob("tiny.h")
    header.write_text(text)
    with pytest.raises(DamagedSource) as caught:
        analyse([UNIT_PATCH], "local:tiny", Options())
    assert caught.value.paths == [str(header.relative_to(kernel.source))]
    assert is_marked(kernel.source)


def test_what_a_preprocessor_reads_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch of a header: which units it changes is found out by preprocessing them, and by the include graph."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny_kernel(tmp_path / "kernel")
    kernel = add_kernel(cache_cases.local(tmp_path / "kernel"), progress=SilentProgress(), cache=Cache())
    patch = (
        "--- a/include/tiny.h\n+++ b/include/tiny.h\n@@ -1 +1,2 @@\n"
        " static inline int twice(int x) { return 2 * x; }\n+#define MORE 1\n"
    )
    write_manifest(kernel.source)
    with pytest.raises(NoChange):
        analyse([patch], "local:tiny", Options())
    unit = kernel.source / "fs" / "one.c"
    unit.write_text("#error damaged\n")
    with pytest.raises(DamagedSource) as caught:
        analyse([patch], "local:tiny", Options())
    assert caught.value.paths == ["fs/one.c"] and is_marked(kernel.source)
    # a graph made of damaged files would stay
    for made in kernel.root.glob("includes.sqlite"):
        made.unlink()
    with pytest.raises(DamagedSource):
        make_index(kernel, kernel.root / "includes.sqlite", SilentProgress())
    assert not (kernel.root / "includes.sqlite").exists()

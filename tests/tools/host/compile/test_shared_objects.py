# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels share the object of a unit whose preprocessed text is the same, and no other object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.host.compile.compile import Compiled, compile_plain, compile_units
from kgbuild.host.compile.shared_objects import for_code, neutral
from kgbuild.host.kernels.compile_commands import write_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, KernelId, UnitCommand
from kgbuild.progress import SilentProgress
from tests.support.toolchain import CC, empty_vmlinux

UNIT = '#include "used.h"\n#include "other.h"\nstatic int count;\nint one(int x) { return USED(x) + ++count; }\n'
HEADERS = {"used.h": "#define USED(x) ((x) + 3)\n", "other.h": "struct other { int first; };\n"}
ARGV = (CC, "-nostdinc", "-I{src}/include", "-O2", "-w", "-c")


def small_kernel(root: Path, files: dict[str, str] | None = None, argv: tuple[str, ...] = ARGV) -> Kernel:
    """A kernel of one unit below `root`."""
    source, build = root / "source", root / "build"
    build.mkdir(parents=True)
    texts = {"fs/one.c": UNIT, **{f"include/{name}": text for name, text in HEADERS.items()}, **(files or {})}
    for name, text in texts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    write_units([UnitCommand("fs/one.c", "fs/one.o", "fs/one", "one", False, argv, ())], root / "units.sqlite")
    (root / "config").write_text("")
    none = root / "none"
    return Kernel(
        KernelId("test", root.name, "1", root.name.encode().hex().ljust(40, "0")),
        *(root, source, build, root / "config", none, empty_vmlinux(root), none, None, root / "units.sqlite", CC, ""),
    )


def made(kernel: Kernel, cache: Path, patched: str = "", share: bool = True, argv: tuple[str, ...] = ARGV) -> Compiled:
    """The unit of a kernel, compiled."""
    unit = UnitCommand("fs/one.c", "fs/one.o", "fs/one", "one", False, argv, ())
    files = {"fs/one.c": patched.encode()} if patched else {}
    (one,) = compile_units(kernel, [unit], files, Cache(cache), SilentProgress(), 1, share=share)
    return one


def test_the_second_kernel_takes_the_object_of_the_first(tmp_path: Path) -> None:
    patched = UNIT.replace("+ ++count", "- ++count")
    kernels = [small_kernel(tmp_path / name) for name in ("k1", "k2")]
    first, second = (made(kernel, tmp_path / "cache", patched) for kernel in kernels)
    alone = made(kernels[1], tmp_path / "own", patched)
    assert (first.shared, second.shared, alone.shared) == (0, 2, 0)
    for one in (first, second):
        assert (one.orig, one.patched) == (alone.orig, alone.patched)
        assert (one.original_clones, one.patched_clones) == (alone.original_clones, alone.patched_clones)
    assert str(tmp_path).encode() not in first.orig + first.patched
    again = made(kernels[1], tmp_path / "cache", patched)
    assert (again.cached, again.shared) == (2, 0)


@pytest.mark.parametrize(
    ("files", "shared"),
    [
        ({"include/used.h": "#define USED(x) (3 + (x))\n"}, 0),
        ({"include/other.h": "struct other { long first; };\n"}, 0),
        ({"include/other.h": "\nstruct other { int first; };\n"}, 0),  # its line is in the debugging information
        ({"include/used.h": "#define UNUSED 1\n#define USED(x) ((x) + 3)\n"}, 1),
        ({"include/more.h": "int more;\n"}, 1),
        ({"fs/one.c": UNIT.replace("USED(x) +", "USED(x)   +")}, 1),  # columns are not
        ({"fs/one.c": UNIT.replace("int one(", "int two(")}, 0),
    ],
)
def test_only_the_same_text_is_shared_and_gives_the_same_bytes(
    tmp_path: Path, files: dict[str, str], shared: int
) -> None:
    first, second = small_kernel(tmp_path / "k1"), small_kernel(tmp_path / "k2", files)
    made(first, tmp_path / "cache")
    taken, alone = made(second, tmp_path / "cache"), made(second, tmp_path / "own")
    assert taken.shared == shared and taken.orig == alone.orig


@pytest.mark.parametrize(
    ("unit", "argv"),
    [
        ('int one(void) { asm(".incbin \\"%s\\""); return 0; }\n', ARGV),
        ('const char *one(void) { return "%s"; }\n', ARGV),
        (UNIT, (*ARGV[:-1], "-fsanitize=undefined", "-c")),
        (UNIT, (*ARGV[:-1], "-fprofile-use=x", "-c")),
    ],
)
def test_what_shows_more_than_the_text_is_not_shared(tmp_path: Path, unit: str, argv: tuple[str, ...]) -> None:
    kernels = []
    for name in ("k1", "k2"):
        data = tmp_path / name / "source" / "data"
        data.parent.mkdir(parents=True)
        data.write_text(name)
        text = unit.replace("%s", str(data))
        kernels.append(small_kernel(tmp_path / name, {"fs/one.c": text}, argv))
    first, second = (made(kernel, tmp_path / "cache", argv=argv) for kernel in kernels)
    assert second.shared == 0 and second.orig == made(kernels[1], tmp_path / "own", argv=argv).orig
    assert first.shared == 0


def test_options_of_code_and_the_compiler_are_in_the_key(tmp_path: Path) -> None:
    first = small_kernel(tmp_path / "k1")
    made(first, tmp_path / "cache")
    for number, argv in enumerate([(*ARGV[:-1], "-O1", "-c"), (*ARGV[:-1], "-DX=1", "-c")]):
        other = small_kernel(tmp_path / f"o{number}", argv=argv)
        assert made(other, tmp_path / "cache", argv=argv).shared == number  # -D only leads to the text


def test_nothing_is_shared_unless_it_is_asked_for(tmp_path: Path) -> None:
    first, second = small_kernel(tmp_path / "k1"), small_kernel(tmp_path / "k2")
    made(first, tmp_path / "cache", share=False)
    assert made(second, tmp_path / "cache").shared == 0


def test_plain_objects_are_shared_among_themselves(tmp_path: Path) -> None:
    kernels = [small_kernel(tmp_path / name) for name in ("k1", "k2")]
    unit = UnitCommand("fs/one.c", "fs/one.o", "fs/one", "one", False, ARGV, ())
    first, second = (
        compile_plain(kernel, [unit], Cache(tmp_path / "cache"), SilentProgress(), share=True) for kernel in kernels
    )
    assert first == second != [made(kernels[0], tmp_path / "cache").orig]


def test_a_patched_text_that_does_not_compile_is_said_as_ever(tmp_path: Path) -> None:
    with pytest.raises(Refused) as error:
        made(small_kernel(tmp_path / "k1"), tmp_path / "cache", UNIT.replace("return", "return return"))
    assert [refusal.code for refusal in error.value.refusals] == ["P10-compile"]


def test_line_markers_lose_the_build_tree_and_strings_do_not() -> None:
    text = b'# 1 "/a/b/fs/x.c"\nchar *x = "# 1 \\"/a/b/\\"";\n# 4 "/a/b/include/y.h" 1 3\n# 1 "/a/bc/z.h"\n'
    wanted = text.replace(b'# 1 "/a/b/fs', b'# 1 "/kgbuild/build/fs').replace(
        b"/a/b/include", b"/kgbuild/build/include"
    )
    assert neutral(text, Path("/a/b")) == wanted


def test_a_unit_that_shows_its_own_name_shows_the_same_name(tmp_path: Path) -> None:
    text = {"fs/one.c": "const char *one(void) { return __FILE__; }\n"}
    first, second = (made(small_kernel(tmp_path / name, text), tmp_path / "cache") for name in ("k1", "k2"))
    assert second.shared == 1 and b"/kgbuild/source/fs/one.c" in first.orig and first.orig == second.orig


def test_without_a_sandbox_nothing_is_shared(tmp_path: Path) -> None:
    for name in ("k1", "k2"):
        kernel = replace(small_kernel(tmp_path / name), sandboxed=False)
        assert made(kernel, tmp_path / "cache").shared == 0


def test_words_that_only_lead_to_the_text_are_no_part_of_the_key() -> None:
    argv = ["gcc", "-I", "{src}/x", "-I./y", "-include", "z.h", "-DX", "-UY", "-O2", "-Wp,-MMD,x.d", "-c"]
    assert for_code(argv) == ["gcc", "-O2", "-c"]


def test_a_changed_file_is_noticed_though_the_object_is_there(tmp_path: Path) -> None:
    first = small_kernel(tmp_path / "k1")
    made(first, tmp_path / "cache")
    second = replace(first, id=KernelId("test", "k3", "1", "33" * 20))
    (first.source / "include" / "used.h").write_text("#define USED(x) 7\n")
    assert made(second, tmp_path / "cache").shared == 0

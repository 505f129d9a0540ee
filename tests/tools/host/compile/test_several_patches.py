# SPDX-License-Identifier: GPL-2.0-or-later
"""Several patches of one kernel: which one does not apply, which one another has applied, what the kernel has."""

from __future__ import annotations

import difflib
import sqlite3
from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.host.compile.apply_patches import apply_patches, read_patches
from kgbuild.model import Kernel
from tests.support.smallkernel import small_kernel

ONE = "int a;\nint b;\nint c;\nint d;\nint e;\nint f;\nint g;\n"
TWO = "int v;\nint w;\nint x;\nint y;\nint z;\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    made = small_kernel(
        tmp_path / "kernel", {"main.c": "int main(void) { return 0; }\nvoid __fentry__(void) {}\n"}, {}, {}
    )
    (made.source / "fs").mkdir()
    (made.source / "fs" / "one.c").write_text(ONE)
    (made.source / "fs" / "two.c").write_text(TWO)
    return made


def diff(old: str, new: str, path: str = "fs/one.c", before: str = "a/", after: str = "b/") -> str:
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), before + path, after + path
    )
    return "".join(lines)


def refusals(kernel: Kernel, *texts: str) -> list[Refusal]:
    return list(apply_patches(kernel, read_patches(list(texts))).refusals)


CHANGED = ONE.replace("int d;", "long d;")


def test_which_patch_does_not_apply(kernel: Kernel) -> None:
    (fault,) = refusals(kernel, diff(ONE, CHANGED), diff(ONE.replace("int c;", "char c;"), CHANGED))
    assert fault.code == "P1-apply" and fault.place == "fs/one.c (patch-2)"
    (fault,) = refusals(kernel, diff(ONE.replace("int c;", "char c;"), CHANGED))
    assert fault.place == "fs/one.c"


def test_what_an_earlier_patch_has_applied(kernel: Kernel) -> None:
    (fault,) = refusals(kernel, diff(TWO, TWO + "int q;\n", "fs/two.c"), diff(ONE, CHANGED), diff(ONE, CHANGED))
    assert fault.code == "P1-apply" and fault.place == "fs/one.c (patch-3)"
    assert "is applied already, by patch-2" in fault.fact and "leave one of the two" in fault.remedy


def test_a_new_file_of_two_patches(kernel: Kernel) -> None:
    new = "--- /dev/null\n+++ b/fs/new.h\n@@ -0,0 +1 @@\n+int n;\n"
    (fault,) = refusals(kernel, new, new)
    assert "is applied already, by patch-1" in fault.fact


@pytest.mark.parametrize("position", [0, 1])
def test_a_fix_that_the_kernel_has(kernel: Kernel, position: int) -> None:
    fix = diff(ONE.replace("int d;", "short d;"), ONE) + diff(TWO.replace("int x;\n", ""), TWO, "fs/two.c")
    other = diff(ONE, ONE.replace("int g;", "long g;"))
    found = refusals(kernel, *([fix, other] if position == 0 else [other, fix]))
    assert [(f.code, f.place) for f in found] == [("P22-fixed", "fs/one.c"), ("P22-fixed", "fs/two.c")]
    assert f"change of patch-{position + 1} already: the only hunk is in the file" in found[0].fact
    assert "this kernel has the fix" in found[0].remedy


def test_a_fix_of_which_the_kernel_has_a_part_is_a_conflict(kernel: Kernel) -> None:
    fix = diff(ONE.replace("int d;", "short d;"), ONE) + diff(TWO, TWO + "int q;\n", "fs/two.c")
    (fault,) = refusals(kernel, fix)
    assert fault.code == "P1-apply" and "already applied" in fault.fact


def test_lines_that_only_look_alike_are_no_fix(kernel: Kernel) -> None:
    (fault,) = refusals(kernel, diff(ONE.replace("int d;", "short d;"), ONE.replace("int d;", "char d;")))
    assert fault.code == "P1-apply" and "does not apply" in fault.fact


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        ("debian/fs/one.c", "one.c", "`fs/one.c` and nothing"),
        ("debian/fs/none.c", "fs/none.c", "are taken as they are"),
    ],
)
def test_two_names_that_differ(kernel: Kernel, old: str, new: str, taken: str) -> None:
    text = diff(ONE, CHANGED).replace("a/fs/one.c", old).replace("b/fs/one.c", new)
    (fault,) = refusals(kernel, text)
    assert f"differ (--- {old}, +++ {new})" in fault.fact and taken in fault.fact
    assert "same directories" in fault.remedy


@pytest.mark.parametrize(
    ("old", "new"), [("fs/one.c.orig", "fs/one.c"), ("x/y/fs/one.c", "fs/one.c"), ("a/fs/one.c", "b/fs/one.c")]
)
def test_two_names_of_one_file_are_fine(kernel: Kernel, old: str, new: str) -> None:
    assert refusals(kernel, diff(ONE, CHANGED).replace("a/fs/one.c", old).replace("b/fs/one.c", new)) == []


def test_files_of_other_architectures_are_left_out(kernel: Kernel) -> None:
    for name in ("x86/kernel", "arm/include/asm", "arm64/kernel"):
        (kernel.source / "arch" / name).mkdir(parents=True)
    own = "arch/x86/kernel/x.c"
    (kernel.source / own).write_text("/* #include <../../mips/include/asm/y.h> */\n" + ONE)
    away = ("arch/arm/mm/a.c", "arch/arm/boot/dts/a.dts", "arch/mips/Kconfig", "arch/arm/include/asm/y.h")
    found = apply_patches(kernel, read_patches([diff(ONE, CHANGED), *(diff(ONE, CHANGED, path) for path in away)]))
    assert found.refusals == () and found.skipped == away and list(found.files) == ["fs/one.c"]
    assert found.skipped_text() == f"skipped: {', '.join(away)}"
    # one of the kernel's own is applied, and so is a header that the kernel's own architecture borrows
    (kernel.source / own).write_text("#include <../../arm/include/asm/y.h>\n" + ONE)
    (kernel.source / "arch/arm/include/asm/y.h").write_text(ONE)
    texts = [diff(ONE, CHANGED, own), *(diff(ONE, CHANGED, path) for path in away)]
    found = apply_patches(kernel, read_patches(texts))
    assert found.refusals == () and found.skipped == away[:3] and sorted(found.files) == [away[3], own]
    # a path that leaves the tree is refused wherever it leads
    assert [r.code for r in refusals(kernel, diff(ONE, CHANGED, "arch/arm/../../../x.c"))] == ["P4-path"] * 2
    many = apply_patches(kernel, read_patches([diff(ONE, CHANGED, f"arch/arm/mm/{i}.c") for i in range(20)]))
    assert len(many.skipped) == 20 and many.skipped_text().endswith("arch/arm/mm/5.c and 14 more")


@pytest.mark.parametrize("place", ["drivers/x.c", "drivers/own.h", "include/linux/y.h"])
def test_a_header_of_another_architecture_that_a_driver_includes_is_code(kernel: Kernel, place: str) -> None:
    header = "arch/arm/mach-x/control.h"
    for path in (header, place, "drivers/x.c"):
        (kernel.source / path).parent.mkdir(parents=True, exist_ok=True)
        (kernel.source / path).write_text(ONE)
    with sqlite3.connect(kernel.units) as units:
        units.execute("UPDATE units SET source = 'drivers/main.c' WHERE source = 'main.c'")
    assert apply_patches(kernel, read_patches([diff(ONE, CHANGED, header)])).skipped == (header,)
    (kernel.source / place).write_text('#include "../../arch/arm/mach-x/control.h"\n')
    assert list(apply_patches(kernel, read_patches([diff(ONE, CHANGED, header)])).files) == [header]


def test_a_unit_in_the_directory_of_another_architecture_is_code(kernel: Kernel) -> None:
    path = "arch/arm/xen/enlighten.c"
    (kernel.source / path).parent.mkdir(parents=True)
    (kernel.source / path).write_text(ONE)
    assert apply_patches(kernel, read_patches([diff(ONE, CHANGED, path)])).skipped == (path,)
    with sqlite3.connect(kernel.units) as units:
        units.execute("UPDATE units SET source = ? WHERE source = 'main.c'", (path,))
    assert list(apply_patches(kernel, read_patches([diff(ONE, CHANGED, path)])).files) == [path]


@pytest.mark.parametrize(("config", "named"), [("", True), ("CONFIG_UBSAN=y\n", False)])
def test_a_sanitizer_is_shown_the_path_of_the_compile(kernel: Kernel, config: str, named: bool) -> None:
    """Its locations have the name that the compiler knows the file by, and #line would give it another."""
    with kernel.config.open("a") as file:
        file.write(config)
    (text,) = apply_patches(kernel, read_patches([diff(ONE, CHANGED)])).files.values()
    assert (b'"fs/one.c"' in text) is named

# SPDX-License-Identifier: GPL-2.0-or-later
"""Out-of-tree modules by the commands: build, verify, impact and vm, and input that can't be right. The laboratory
(test_hazards.py) has more patches of such modules."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kgbuild.model import Kernel
from tests.support.booting.cases import Ran, kgbuild
from tests.support.hazards.lab import build_modules

KBUILD = """\
obj-m := kg_alone.o kg_pair.o kg_user.o
kg_pair-y := pair_main.o sub/pair_helper.o
ccflags-y := -I$(src)/include
"""
HEAD = "#include <linux/module.h>\n#include <linux/proc_fs.h>\n#include <linux/seq_file.h>\n"
TAIL = 'MODULE_LICENSE("GPL");\n'
SOURCES = {
    "Kbuild": KBUILD,
    "include/kg.h": "#define KG_VALUE 3\nint kg_helper(int x);\nint kg_exported(int x);\n",
    "kg_alone.c": f"""{HEAD}#include "kg.h"
static int __init start(void) {{ return 0; }}
static void __exit end(void) {{ }}
module_init(start); module_exit(end); {TAIL}""",
    "sub/pair_helper.c": """#include <linux/kernel.h>
#include <linux/bug.h>
#include "kg.h"
int kg_helper(int x)
{
	WARN_ON(x == 4711);
	return x + KG_VALUE;
}
""",
    "pair_main.c": f"""{HEAD}#include "kg.h"
static int number = 7;
module_param(number, int, 0644);
int kg_exported(int x)
{{
	return kg_helper(x) * 2;
}}
EXPORT_SYMBOL_GPL(kg_exported);
static int show(struct seq_file *m, void *unused)
{{
	seq_printf(m, "pair %d\\n", kg_exported(number));
	return 0;
}}
static int __init start(void) {{ return proc_create_single("kg_pair", 0444, NULL, show) ? 0 : -ENOMEM; }}
static void __exit end(void) {{ remove_proc_entry("kg_pair", NULL); }}
module_init(start); module_exit(end); {TAIL}""",
    "kg_user.c": f"""{HEAD}#include "kg.h"
static int number = 7;
module_param(number, int, 0644);
static noinline int fresh(int x)
{{
	return x + 1;
}}
static int show(struct seq_file *m, void *unused)
{{
	seq_printf(m, "user %d\\n", kg_exported(number) + fresh(number));
	return 0;
}}
static int __init start(void) {{ return proc_create_single("kg_user", 0444, NULL, show) ? 0 : -ENOMEM; }}
static void __exit end(void) {{ remove_proc_entry("kg_user", NULL); }}
module_init(start); module_exit(end); {TAIL}""",
}
# line replaced in a file
CHANGES = {
    "header": ("include/kg.h", "#define KG_VALUE 3", "#define KG_VALUE 5"),
    "user": ("kg_user.c", "\treturn x + 1;", "\treturn kg_exported(x) + 1;"),
}


@dataclass(frozen=True)
class Tree:
    """The source, its modules by name, where the patches are."""

    source: Path
    modules: dict[str, Path]
    patches: Path


def diff(name: str, folder: Path) -> Path:
    """A patch with one changed line, at its place in the file."""
    path, old, new = CHANGES[name]
    lines = SOURCES[path].splitlines()
    at = lines.index(old)
    hunk = [f" {line}" for line in lines[max(at - 2, 0) : at]]
    hunk += [f"-{old}", f"+{new}", *(f" {line}" for line in lines[at + 1 : at + 3])]
    count = sum(not line.startswith("+") for line in hunk)
    start = max(at - 2, 0) + 1
    head = [f"--- a/{path}", f"+++ b/{path}", f"@@ -{start},{count} +{start},{count} @@"]
    out = folder / f"{name}.patch"
    out.write_text("\n".join([*head, *hunk]) + "\n")
    return out


@pytest.fixture(scope="module")
def tree(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Built elsewhere than the source is, as by DKMS: __FILE__ in the .ko names that place."""
    folder = tmp_path_factory.mktemp("oot")
    source = folder / "source"
    for name, text in SOURCES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    patches = folder / "patches"
    patches.mkdir()
    for name in CHANGES:
        diff(name, patches)
    return Tree(source, build_modules(kernel, folder / "build", source), patches)


def build(tree: Tree, kernel_name: str, output: Path, change: str, *modules: Path | str) -> Ran:
    loaded = [word for path in modules for word in ("--oot-module", path)]
    return kgbuild(
        *("build", tree.patches / f"{change}.patch", "--kernel", kernel_name, "--oot", tree.source, *loaded),
        *("-o", output, "--report", output.with_suffix(".json")),
    )


def test_header_of_a_module(tree: Tree, kernel_name: str, tmp_path: Path) -> None:
    """A header changes one unit of several; built, verified and booted with reloads; the directory stays as it was."""
    before = {path: path.read_bytes() for path in tree.source.rglob("*") if path.is_file()}
    output = tmp_path / "livepatch-pair.ko"
    pair = tree.modules["kg_pair"]
    ran = build(tree, kernel_name, output, "header", pair)
    assert ran.status == 0, ran.stdout + ran.stderr
    report = json.loads(output.with_suffix(".json").read_text())
    assert [f["function"] for f in report["changed"]] == ["kg_helper"]
    assert [u["source"] for u in report["units"]] == ["sub/pair_helper.c"]
    assert {path: path.read_bytes() for path in tree.source.rglob("*") if path.is_file()} == before
    ran = kgbuild("verify", output, "--kernel", kernel_name, "--oot-module", pair)
    assert ran.status == 0, ran.stdout
    check = "grep -q 'pair 24' /proc/kg_pair"
    words = ("vm", output, "--kernel", kernel_name, "--oot-module", pair, "--timeout", "250", "--check", check)
    ran = kgbuild(*words, timeout=300)
    assert ran.status == 0, ran.stdout + ran.stderr
    assert "kg_pair  both orders, reloaded 3 times" in ran.stdout
    ran = kgbuild("verify", output, "--kernel", kernel_name)
    assert ran.status == 1
    assert "kg_pair" in ran.stdout


def test_export_of_another_module(tree: Tree, kernel_name: str, tmp_path: Path) -> None:
    """A symbol that another out-of-tree module exports: bound where that module is given, else refused."""
    output = tmp_path / "livepatch-user.ko"
    ran = build(tree, kernel_name, output, "user", tree.modules["kg_user"], tree.modules["kg_pair"])
    assert ran.status == 0, ran.stdout + ran.stderr
    report = json.loads(output.with_suffix(".json").read_text())
    (ref,) = [r for r in report["references"] if r["name"] == "kg_exported"]
    assert (ref["object"], ref["how"]) == ("kg_pair", "klp")
    alone = build(tree, kernel_name, tmp_path / "livepatch-alone.ko", "user", tree.modules["kg_user"])
    assert alone.status == 1
    assert "kg_exported" in alone.stderr


def test_impact_and_why(tree: Tree, kernel_name: str) -> None:
    given = ("--kernel", kernel_name, "--oot", tree.source, "--oot-module", tree.modules["kg_pair"])
    ran = kgbuild("impact", tree.patches / "header.patch", *given)
    assert (ran.status, "kg_helper" in ran.stdout) == (0, True), ran.stderr
    ran = kgbuild("why", "kg_helper", tree.patches / "header.patch", *given)
    assert (ran.status, "kg_helper" in ran.stdout) == (0, True), ran.stderr


def test_no_estimate(tree: Tree, kernel_name: str) -> None:
    given = ("--kernel", kernel_name, "--oot", tree.source, "--oot-module", tree.modules["kg_pair"])
    ran = kgbuild("impact", tree.patches / "header.patch", *given, "--no-compile")
    assert ran.status == 2
    assert "--no-compile" in ran.stderr


def no_makefile(tree: Tree, folder: Path) -> list[Path | str]:
    return ["--oot", folder, "--oot-module", tree.modules["kg_pair"]]


def no_folder(tree: Tree, folder: Path) -> list[Path | str]:
    return ["--oot", folder / "nowhere", "--oot-module", tree.modules["kg_pair"]]


def no_module(tree: Tree, folder: Path) -> list[Path | str]:
    del folder
    return ["--oot", tree.source]


def no_source(tree: Tree, folder: Path) -> list[Path | str]:
    del folder
    return ["--oot-module", tree.modules["kg_pair"]]


def makes_nothing(tree: Tree, folder: Path) -> list[Path | str]:
    (folder / "Kbuild").write_text("# empty\n")
    return ["--oot", folder, "--oot-module", tree.modules["kg_pair"]]


def broken_makefile(tree: Tree, folder: Path) -> list[Path | str]:
    (folder / "Kbuild").write_text("ifeq (\n")
    return ["--oot", folder, "--oot-module", tree.modules["kg_pair"]]


def another_unit(tree: Tree, folder: Path) -> list[Path | str]:
    del folder
    return ["--oot", tree.source, "--oot-module", tree.modules["kg_alone"]]


def the_kernels(tree: Tree, folder: Path, kernel: Kernel | None = None) -> list[Path | str]:
    assert kernel is not None and kernel.modules is not None
    del folder
    return ["--oot", tree.source, "--oot-module", next(iter(sorted(kernel.modules.rglob("af_key.ko*"))))]


def other_kernel(tree: Tree, folder: Path) -> list[Path | str]:
    data = tree.modules["kg_pair"].read_bytes()
    at = data.index(b"vermagic=") + len(b"vermagic=")
    other = folder / "kg_pair.ko"
    other.write_bytes(data[:at] + b"5" + data[at + 1 :])
    return ["--oot", tree.source, "--oot-module", other]


def without_build_id(tree: Tree, folder: Path) -> list[Path | str]:
    other = folder / "kg_pair.ko"
    remove = ["objcopy", "--remove-section", ".note.gnu.build-id", tree.modules["kg_pair"], other]
    subprocess.run(remove, check=True, timeout=60)
    return ["--oot", tree.source, "--oot-module", other]


def not_elf(tree: Tree, folder: Path) -> list[Path | str]:
    del folder
    return ["--oot", tree.source, "--oot-module", tree.patches / "user.patch"]


def twice(tree: Tree, folder: Path) -> list[Path | str]:
    other = shutil.copy(tree.modules["kg_pair"], folder / "copy.ko")
    return ["--oot", tree.source, "--oot-module", tree.modules["kg_pair"], "--oot-module", other]


def other_source(tree: Tree, folder: Path) -> list[Path | str]:
    """Files of the names that the .ko was made of, with another text."""
    source = folder / "other"
    shutil.copytree(tree.source, source)
    helper = source / "sub" / "pair_helper.c"
    helper.write_text(helper.read_text().replace("x == 4711", "x == 4712"))
    return ["--oot", source, "--oot-module", tree.modules["kg_pair"]]


BAD: list[tuple[Callable[..., list[Path | str]], int, str]] = [
    (no_makefile, 2, "neither Kbuild nor Makefile"),
    (no_folder, 2, "no such directory"),
    (no_module, 2, "needs --oot-module too"),
    (no_source, 2, "needs --oot too"),
    (makes_nothing, 2, "makes no module of C files"),
    (broken_makefile, 3, "kbuild does not take its makefile"),
    (another_unit, 1, "P8-module"),
    (the_kernels, 1, "P16-oot-module"),
    (other_kernel, 1, "P16-oot-module"),
    (without_build_id, 1, "K19-module-identity"),
    (not_elf, 2, "is no kernel module"),
    (twice, 2, "is the module kg_pair, as is"),
    (other_source, 1, "Y1-parity"),
]


@pytest.mark.parametrize(("make", "status", "text"), BAD, ids=lambda v: getattr(v, "__name__", None))
def test_bad_input(
    make: Callable[..., list[Path | str]],
    status: int,
    text: str,
    tree: Tree,
    kernel: Kernel,
    kernel_name: str,
    tmp_path: Path,
) -> None:
    """A clear message and the right exit status; nothing is written."""
    words = make(tree, tmp_path, kernel) if make is the_kernels else make(tree, tmp_path)
    output = tmp_path / "livepatch-bad.ko"
    ran = kgbuild("build", tree.patches / "header.patch", "--kernel", kernel_name, *words, "-o", output)
    assert ran.status == status, ran.stdout + ran.stderr
    assert text in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("path", "code"),
    [("../outside.c", "P4-path"), ("fs/proc/version.c", "P1-apply"), ("Kbuild", "P2-build-system")],
)
def test_patch_of_another_file(path: str, code: str, tree: Tree, kernel_name: str, tmp_path: Path) -> None:
    patch = tmp_path / "bad.patch"
    patch.write_text(f"--- a/{path}\n+++ b/{path}\n@@ -1,1 +1,1 @@\n-a\n+b\n")
    words = ("--oot", tree.source, "--oot-module", tree.modules["kg_pair"])
    ran = kgbuild("build", patch, "--kernel", kernel_name, *words, "-o", tmp_path / "livepatch-bad.ko")
    assert ran.status == 1, ran.stdout + ran.stderr
    assert code in ran.stderr

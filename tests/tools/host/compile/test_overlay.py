# SPDX-License-Identifier: GPL-2.0-or-later
"""Any way of naming a patched file leads to the patched one: on a small kernel whose units include headers by all of
them, each unit that reads the text must come out with the patched value."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.elf.read import read
from kgbuild.errors import ToolError
from kgbuild.host.compile.apply_patches import PatchSet
from kgbuild.host.compile.candidate_search import Selection
from kgbuild.host.compile.compile import compile_units
from kgbuild.host.compile.overlay import Overlay, make_overlay
from kgbuild.host.compile.unit_selection import choose_units
from kgbuild.host.kernels.compile_commands import read_units, write_units
from kgbuild.host.system.cache import Cache
from kgbuild.model import Kernel, KernelId, UnitCommand
from kgbuild.progress import SilentProgress
from tests.support.toolchain import CC, empty_vmlinux

HEADER = "events/perf.h"
VALUE = "\nint value = VALUE;\n"
# how each unit gets to the header that is patched
UNITS = {
    "beside": ("events/u.c", '#include "perf.h"'),
    "one_up": ("kernel/one/u.c", '#include "../../events/perf.h"'),
    "several_up": ("kernel/one/two/three/u.c", '#include "../../../../events/../events/perf.h"'),
    "up_and_down": ("kernel/one/two/u.c", '#include "../../one/two/../../../events/perf.h"'),
    "angled_by_dots": ("xen/u.c", "#include <../events/perf.h>"),
    "from_an_i_directory": ("kernel/cpu/deep/u.c", '#include "../../events/perf.h"'),
    "header_elsewhere": ("fs/u.c", "#include <linux/outer.h>"),
    "computed": ("lib/u.c", "#define WHERE(x) <../x/perf.h>\n#include WHERE(events)"),
    "computed_string": ("lib/v.c", "#define STR(x) #x\n#define P(x) STR(../x.h)\n#include P(events/perf)"),
    "i_directory_with_dots": ("mm/u.c", "#include <perf.h>"),
    "by_a_linked_directory": ("net/u.c", "#include <linked/perf.h>"),
    "by_a_linked_directory_and_dots": ("net/v.c", "#include <linked/../events/perf.h>"),
    "by_a_linked_file": ("net/w.c", "#include <linux/alias.h>"),
    "by_a_linked_file_beside": ("net/x.c", '#include "../include/linux/alias.h"'),
}
FILES = {
    HEADER: "#define VALUE 1\n",
    "include/linux/outer.h": '#include "../inner/inner.h"\n',
    "include/inner/inner.h": '#include "../../events/perf.h"\n',
    "include/uapi/u.h": "",
    "init/main.c": "int main_unit;\n",
    "include/linux/other.h": "#define OTHER 1\n",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    root = tmp_path_factory.mktemp("kernel")
    source, build = root / "source", root / "build"
    build.mkdir()
    generated = build / "include" / "generated"
    generated.mkdir(parents=True)
    (generated / "made.h").write_text("#define MADE 1\n")
    files = FILES | {name: f"{text}{VALUE}" for name, text in UNITS.values()}
    files["mm/made.c"] = "#include <made.h>\nint value = MADE;\n"
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (source / "include" / "linked").symlink_to("../events")
    (source / "include" / "linux" / "alias.h").symlink_to("../../events/perf.h")
    folders = ("include", "include/uapi")
    flags = [f"-I{{src}}/{folder}" for folder in folders]
    argv = (CC, "-nostdinc", *flags, "-I./include/generated", "-O2", "-w", "-c")
    dotted = (*argv[:-1], "-I{src}/mm/../events", "-c")
    units = [
        UnitCommand(n, n[:-2] + ".o", n[:-2], "x", False, dotted if n.startswith("mm/") else argv, ())
        for n in sorted(files)
        if n.endswith(".c")
    ]
    write_units(units, root / "units.sqlite")
    (root / "config").write_text("")
    none = root / "none"
    return Kernel(
        KernelId("test", "1", "1", "00" * 20),
        *(root, source, build, root / "config", none, empty_vmlinux(root), none, None, root / "units.sqlite", CC, ""),
    )


def choose(kernel: Kernel, tmp_path: Path, files: dict[str, bytes]) -> Selection:
    return choose_units(kernel, PatchSet((), files, (), 0), Cache(tmp_path / "cache"), SilentProgress())


def value(kernel: Kernel, tmp_path: Path, unit: str, files: dict[str, bytes], real: tuple[str, ...] = ()) -> int:
    """What the variable of a unit is in the patched object."""
    units = read_units(kernel.units, [unit])[unit]
    (compiled,) = compile_units(kernel, units, files, Cache(tmp_path / "cache"), SilentProgress(), 1, real)
    obj = read(compiled.patched)
    (symbol,) = [s for s in obj.iter_symbols() if s.name == "value"]
    return obj.contents(symbol.shndx)[symbol.value]


PATCHED = {HEADER: b"#define VALUE 2\n"}


def test_every_unit_is_found(kernel: Kernel, tmp_path: Path) -> None:
    selection = choose(kernel, tmp_path, PATCHED)
    assert not selection.refusals
    # the include graph does not see through macros that make parts of a name, nor where ".." behind a link leads
    unseen = {UNITS[n][0] for n in ("computed", "computed_string", "by_a_linked_directory_and_dots")}
    assert set(selection.because) | unseen >= {name for name, _ in UNITS.values()}


@pytest.fixture(scope="module")
def known_directories(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The directories that must be real for PATCHED, as looking for units finds them."""
    return choose(kernel, tmp_path_factory.mktemp("known"), PATCHED).real


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", UNITS)
def test_the_patched_header_is_read(
    kernel: Kernel, known_directories: tuple[str, ...], tmp_path: Path, name: str, known: bool
) -> None:
    """Whether the directories that must be real are known before, or found out by compiling."""
    unit, _ = UNITS[name]
    real = known_directories if known else ()
    assert value(kernel, tmp_path, unit, PATCHED, real) == 2


def test_an_overlay_says_what_it_learnt(kernel: Kernel, tmp_path: Path) -> None:
    overlay = Overlay(kernel, PATCHED, tmp_path)
    (unit,) = read_units(kernel.units, ["kernel/one/u.c"])["kernel/one/u.c"]
    first = overlay.tree
    read_own = f"{first}/kernel/one/../../events/perf.h"
    assert overlay.is_stale(unit, first, [read_own])
    assert overlay.tree != first and "kernel/one" in overlay.entered
    assert not overlay.is_stale(unit, overlay.tree, [f"{overlay.tree}/kernel/one/../../events/perf.h"])
    # another compile that began in the smaller one
    assert overlay.is_stale(unit, first, [read_own])
    with pytest.raises(ToolError, match=r"the kernel's own events/perf\.h"):
        overlay.is_stale(unit, overlay.tree, [str(kernel.source / HEADER)])


def test_an_error_by_the_kernels_own_header_is_none_of_the_patch(kernel: Kernel, tmp_path: Path) -> None:
    """The unit uses what only the patched header has; nothing is known of the way to it."""
    unit = UNITS["several_up"][0]
    text = (kernel.source / unit).read_text().replace("VALUE;", "NEWER;")
    assert value(kernel, tmp_path, unit, {HEADER: b"#define NEWER 3\n", unit: text.encode()}) == 3
    with pytest.raises(Refused, match="P10-compile"):
        value(kernel, tmp_path, unit, {HEADER: b"#define NEWEST 3\n", unit: text.encode()})


def test_links_of_the_tree_lead_into_the_overlay(kernel: Kernel, tmp_path: Path) -> None:
    make_overlay(kernel.source, PATCHED, tmp_path / "t", ["include/linked", "include/linux"])
    for name in ("include/linked/perf.h", "include/linux/alias.h", HEADER):
        assert (tmp_path / "t" / name).read_bytes() == PATCHED[HEADER]
    assert (kernel.source / HEADER).read_text() == FILES[HEADER]


def test_a_new_header_in_place_of_a_generated_one(kernel: Kernel, tmp_path: Path) -> None:
    (refusal,) = choose(kernel, tmp_path, {"include/made.h": b"#define MADE 2\n"}).refusals
    assert refusal.code == "P11-generated" and "include/generated/made.h" in refusal.fact
    (refusal,) = choose(kernel, tmp_path, {"mm/made.h": b"#define MADE 2\n", "include/made.h": b"int x;\n"}).refusals
    assert refusal.place == "include/made.h"


@pytest.mark.parametrize("path", ["events/made.h", "mm/made.h", "include/linux/made.h"])
def test_a_new_header_that_is_not_found_first(kernel: Kernel, tmp_path: Path, path: str) -> None:
    """Behind the generated one on the search path, beside a unit that looks in angle brackets, or elsewhere."""
    selection = choose(kernel, tmp_path, {path: b"#define MADE 2\n"})
    assert not selection.refusals and selection.because == {}


def test_a_copy_of_what_it_hides_changes_nothing(kernel: Kernel, tmp_path: Path) -> None:
    selection = choose(kernel, tmp_path, {"include/made.h": b"/* a copy */\n#define MADE 1\n"})
    assert not selection.refusals and selection.because == {} and not selection.files


def test_a_new_header_in_place_of_another_of_the_tree(kernel: Kernel, tmp_path: Path) -> None:
    new = {"include/perf.h": b"#define VALUE 3\n"}
    selection = choose(kernel, tmp_path, new)
    assert not selection.refusals
    assert list(selection.because) == [UNITS["i_directory_with_dots"][0]]
    assert value(kernel, tmp_path, UNITS["i_directory_with_dots"][0], new, selection.real) == 3

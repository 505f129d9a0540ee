# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of units are asked for by directory, all of them only where they are needed, and are the same both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kgbuild.errors import ToolError
from kgbuild.host.kernels import compile_commands, unit_listing
from kgbuild.host.kernels.integrity import find_damage, is_kept, seal_kernel
from kgbuild.host.kernels.kbuild import ENVIRONMENT
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import write_sealed
from kgbuild.host.system.sealed_trees import damaged_in
from kgbuild.model import Kernel
from tests.support.cache_cases import add

# As kbuild's own, as far as this matters: a makefile includes that of its directory, and starts a make for each below,
# which has what the makefiles above export.
BUILD = """
obj-y :=
.PHONY: all
all:
include $(srctree)/$(obj)/Makefile
FLAGS += $(more)
export FLAGS
here = $(addprefix $(if $(filter-out .,$(obj)),$(obj)/),$(obj-y))
folders := $(patsubst %/,%,$(filter %/,$(here)))
objects := $(filter %.o,$(here))
all: $(objects) $(folders)
$(objects): %.o: $(srctree)/%.c $(made)
\tgcc -Wp,-MMD,$@.d $(FLAGS) -DKBUILD_MODFILE='"$*"' -DKBUILD_MODNAME='"$*"' -c -o $@ $<; scripts/basic/fixdep x
.PHONY: $(folders)
$(folders):
\t$(MAKE) -f $(srctree)/scripts/Makefile.build obj=$@ need-builtin=1
$(obj)/made.h:
\techo made > $@
"""
FILES = {
    "Makefile": "obj-y := top.o fs/ lib/ arch/x86/ drivers/\n",
    "fs/Makefile": "more := -DFS\nobj-y := open.o proc/ sel/\n",
    "fs/proc/Makefile": "more := -DPROC\nobj-y := version.o deep/\n",
    "fs/proc/deep/Makefile": "obj-y := deep.o\n",
    "fs/sel/Makefile": "obj-y := ss/inner.o\n",
    "lib/Makefile": "obj-y := lib.o\n",
    "arch/x86/Makefile": "obj-y := kvm/\n",
    "arch/x86/kvm/Makefile": "obj-y := x86.o ../../../virt/v.o\n",
    "drivers/Makefile": "obj-y := net.o\nmade := drivers/made.h\n",
}
SOURCES = (
    *("top.c", "fs/open.c", "fs/proc/version.c", "fs/proc/deep/deep.c", "fs/sel/ss/inner.c", "lib/lib.c"),
    *("arch/x86/kvm/x86.c", "virt/v.c", "drivers/net.c", "drivers/other.c", "no/such/folder.c"),
)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    made = add(Cache(tmp_path / "cache"), "6.1.0-1")
    made.units.unlink()
    texts = {**FILES, "scripts/Makefile.build": BUILD, **dict.fromkeys(SOURCES[:-1], "int x;\n")}
    for name, text in texts.items():
        path = made.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (made.build / "drivers").mkdir()
    write_sealed(made.build / ENVIRONMENT, f"srctree={made.source}\0SRCARCH=x86\0".encode())
    seal_kernel(made, Cache(tmp_path / "cache"))
    yield made


def asked(kernel: Kernel) -> set[str]:
    path = compile_commands.partial_file(kernel.units)
    return {unit.object for unit in compile_commands.read_plain_units(path)}


def test_only_the_directories_that_are_needed_are_asked(kernel: Kernel) -> None:
    (unit,) = unit_listing.read_units(kernel, ["fs/proc/version.c"])["fs/proc/version.c"]
    assert unit.argv == (
        "gcc",
        "-DFS",
        "-DPROC",
        '-DKBUILD_MODFILE="fs/proc/version"',
        '-DKBUILD_MODNAME="fs/proc/version"',
        "-c",
    )
    assert asked(kernel) == {"top.o", "lib/lib.o", "fs/open.o", "fs/proc/version.o"}
    assert not kernel.units.exists()


@pytest.mark.parametrize("order", [1, -1])
def test_each_has_the_commands_that_a_listing_of_all_has(kernel: Kernel, order: int) -> None:
    found = {}
    for source in SOURCES[::order]:
        found[source] = unit_listing.read_units(kernel, [source])[source]
        detours = compile_commands.read_detours(unit_listing.file_about(kernel, [source]))
        assert source != "virt/v.c" or detours == {"virt/v.c": ["arch/x86/kvm/../../../virt/v.c"]}
    assert not kernel.units.exists()
    assert found == compile_commands.read_units(unit_listing.file_of_all(kernel), SOURCES)
    assert sum(map(len, found.values())) == len(SOURCES) - 3


def test_all_below_a_directory(kernel: Kernel) -> None:
    unit_listing.file_below(kernel, "fs")
    assert {name for name in asked(kernel) if name.startswith("fs/")} == {
        *("fs/open.o", "fs/proc/version.o", "fs/proc/deep/deep.o", "fs/sel/ss/inner.o")
    }
    (kernel.source / "fs/proc/Makefile").write_text("")  # it is not asked again
    assert unit_listing.read_units(kernel, ["fs/proc/version.c"])["fs/proc/version.c"]


def test_what_is_generated_there_is_made_and_sealed(kernel: Kernel) -> None:
    assert not (kernel.build / "drivers/made.h").exists()
    unit_listing.read_units(kernel, ["drivers/net.c"])
    made = kernel.build / "drivers/made.h"
    assert made.read_text() == "made\n" and damaged_in(kernel.build) == []
    made.write_text("other\n")
    assert damaged_in(kernel.build) == [made] and is_kept("drivers/made.h")


def test_a_damaged_file_is_found(kernel: Kernel, tmp_path: Path) -> None:
    unit_listing.read_units(kernel, ["fs/open.c"])
    cache, path = Cache(tmp_path / "cache"), compile_commands.partial_file(kernel.units)
    assert find_damage(kernel, cache) == []
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert find_damage(kernel, cache) == [path]
    path.write_bytes(b"no database")
    with pytest.raises(ToolError, match="makes it again"):
        unit_listing.read_units(kernel, ["fs/open.c"])


def test_names_of_directories_are_no_commands(kernel: Kernel) -> None:
    for name in ("a b", "*", "$(touch x)", "`touch x`", ";touch x", "..", "fs/../drivers", "-n"):
        (kernel.source / name).mkdir(exist_ok=True)
        unit_listing.read_units(kernel, [f"{name}/x.c"])
    assert "fs/proc/version.o" not in asked(kernel) and not (kernel.build / "x").exists()


def test_another_kernel_asks_for_itself(kernel: Kernel) -> None:
    """Where all units are known, nothing is asked."""
    unit_listing.file_of_all(kernel)
    elsewhere = replace(kernel, source=kernel.source / "gone")
    assert unit_listing.read_units(elsewhere, ["fs/open.c"])["fs/open.c"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directories may compile a source file, by the text of makefiles."""

from __future__ import annotations

import pytest

from kgbuild.kernel.makefile_reach import find_reaches, folders_of, is_makefile

KVM = {
    "arch/x86/kvm/Makefile": "include $(srctree)/virt/kvm/Makefile.kvm\nkvm-y += x86.o\n",
    "virt/kvm/Makefile.kvm": "KVM ?= ../../../virt/kvm\nkvm-y := $(KVM)/kvm_main.o\n",
}


def reach_of(text: str, folder: str = "a/b/c") -> list[str]:
    found = find_reaches({f"{folder}/Makefile": text})
    assert all(name == folder for name, _ in found)
    return [reach for _, reach in found]


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("obj-y := one.o two/\n", []),
        ("ccflags-y := -I$(src)/.. -I $(src)/../inc -I$(srctree)/lib\n", []),
        ("# obj-y += ../x.o\nobj-y := a.o # ../x.o\n", []),
        ("$(obj)/x.o: $(src)/../include/y.h\n", []),
        ("obj-y += ../../x.o\n", ["a/x"]),
        ("obj-y += one.o \\\n  ../d/x.o\n", ["a/b/d/x"]),
        ("DIR := ../$(NAME)\n", ["a/b"]),
        ("DIR = ../../lib/$(NAME)/z\n", ["a/lib"]),
        ("obj-y += one/../../x.o\n", ["a"]),
        ("DIR := $(src)/..\n", ["a/b"]),
        ("DIR := $(abspath ../../../../../tools)\n", [""]),
        ("obj-y += ../../../../x.o\n", [""]),
        ("$(obj)/r.o: $(srctree)/tools/lib/r.c FORCE\n", ["tools/lib/r"]),
        ("$(obj)/lib-%.o: $(srctree)/lib/%.c FORCE\n", ["lib/"]),
        ("$(obj)/%.o: ${srctree}/lib/%.c FORCE\n", ["lib/"]),
        ("targets += $(srctree)/$(src)/x.c\n", []),
    ],
)
def test_what_one_makefile_names(text: str, reach: list[str]) -> None:
    assert reach_of(text) == reach


def test_included_makefiles_count_for_the_directory_that_includes_them() -> None:
    reaches = find_reaches(KVM)
    assert ("arch/x86/kvm", "virt/kvm") in reaches
    assert {".", "arch", "arch/x86", "arch/x86/kvm", "virt", "virt/kvm"} == folders_of("virt/kvm/vfio.c", reaches)
    assert folders_of("fs/proc/version.c", reaches) == {".", "fs", "fs/proc"}


def test_makefiles_that_include_each_other_end() -> None:
    texts = {"a/Makefile": "include $(src)/b.mk\n", "a/b.mk": "include $(src)/Makefile\nobj-y += ../z.o\n"}
    assert find_reaches(texts) == (("a", "z"),)


def test_a_path_that_climbs_is_asked_of_the_directory_it_means() -> None:
    assert folders_of("a/b/../../c/d.c", ()) == {".", "c"}


@pytest.mark.parametrize(("name", "said"), [("Makefile", True), ("Makefile.kvm", True), ("Kbuild", True)])
def test_makefiles_by_name(name: str, said: bool) -> None:
    assert is_makefile(name) is said and is_makefile("x.mk") and not is_makefile("makefile.c")

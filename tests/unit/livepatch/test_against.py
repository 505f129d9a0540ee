# SPDX-License-Identifier: GPL-2.0-or-later
"""Another live patch module that --against names: what is said of it, and that one of another kernel is said once."""

from __future__ import annotations

import pytest

from kgbuild.livepatch.consistency import check_against
from kgbuild.livepatch.cumulative import Patched
from kgbuild.livepatch.foreign_patches import OtherPatch

MINE = {Patched("vmlinux", "f", 0): "a.c", Patched("vmlinux", "g", 0): "a.c"}
THEIRS = (Patched("vmlinux", "f", 0), Patched("vmlinux", "g", 0), Patched("vmlinux", "h", 0))


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(("release", "count"), [("6.1", 2), ("6.12", 1)])
def test_one_warning_for_a_module_of_another_kernel(release: str, count: int, replace: bool) -> None:
    other = OtherPatch("other.ko", THEIRS, "", f"{release} SMP mod_unload")
    found = check_against(MINE, [other], "6.1", replace=replace)
    assert len(found) == count + (replace and release == "6.1")
    assert ("was made for 6.12, not for 6.1" in found[0].fact) == (release == "6.12")

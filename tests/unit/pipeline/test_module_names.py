# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of modules: those that are derived are always valid, those that are given are held against the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refused
from kgbuild.pipeline.module_names import check_free, default_output, patch_module_name


@pytest.mark.parametrize(
    ("patch", "module"),
    [
        ("fix.patch", "livepatch-fix.ko"),
        ("fix.diff", "livepatch-fix.ko"),
        ("CVE-2026-1234.v2.patch", "livepatch-CVE-2026-1234-v2.ko"),
        ("0001-net: fix (a) use after free.patch", "livepatch-0001-net-fix-a-use-after-free.ko"),
        ("[PATCH] x.mbox", "livepatch-PATCH-x.ko"),
        ("ä€.patch", "livepatch-patch.ko"),
        (".patch", "livepatch-patch.ko"),
        ("...", "livepatch-patch.ko"),
        ("a__b--c", "livepatch-a-b-c.ko"),
        ("x" * 200 + ".patch", f"livepatch-{'x' * 45}.ko"),
        ("x" * 44 + "-rest.patch", f"livepatch-{'x' * 44}.ko"),
        ("\x1b[31mred\n.patch", "livepatch-31mred.ko"),
        ("fix.PATCH", "livepatch-fix.ko"),
        ("fix", "livepatch-fix.ko"),
    ],
)
def test_derived_names_are_valid(patch: str, module: str) -> None:
    assert str(default_output(patch)) == module
    assert 0 < len(patch_module_name(default_output(patch))) <= 55


@pytest.mark.parametrize("name", ["a b.ko", "a.b.ko", "ä.ko", ".ko", "a/../b c", "x" * 56 + ".ko"])
def test_a_given_name_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(Refused) as caught:
        patch_module_name(Path(name))
    (refusal,) = caught.value.refusals
    assert refusal.code == "K16-name" and "letters, digits and _ or -" in refusal.fact and "at most 55" in refusal.fact


def test_the_kernels_own_names_are_refused() -> None:
    with pytest.raises(Refused, match=r"fuse is the name of one of the modules of 6\.1") as caught:
        check_free("fuse", {"fuse": Path("fuse.ko")}, "6.1")
    assert caught.value.refusals[0].code == "K16-name"
    check_free("livepatch_fuse", {"fuse": Path("fuse.ko")}, "6.1")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What symbol names say about what the compiler did."""

from __future__ import annotations

import pytest

from kgbuild.objects.clone_names import Clone, clone_of, is_half, judge_shared


@pytest.mark.parametrize(
    ("name", "clone"),
    [
        ("f", None),
        ("f.isra.0", Clone("f", ("isra",))),
        ("f.constprop.0.isra.0", Clone("f", ("constprop", "isra"))),
        ("f.part.3.cold", Clone("f", ("part", "cold"))),
        ("f.cold", Clone("f", ("cold",))),
        ("f.lto_priv.12", Clone("f", ("lto_priv",))),
        ("f.llvm.17890123", Clone("f", ("llvm",))),
        ("__pfx_f.isra.0", Clone("f", ("isra", "pad"))),
        ("__pfx_f", Clone("f", ("pad",))),
        # no suffix gcc gives: the name of a static local, an assembler's name
        ("f.1234", None),
        ("f.particular", None),
        ("f.isra.0.x", None),
        (".isra.0", None),
        ("__pfx_", None),
    ],
)
def test_clone_of(name: str, clone: Clone | None) -> None:
    assert clone_of(name) == clone


def test_halves() -> None:
    assert is_half("f", "f.cold") and is_half("f.isra.0.cold", "f.isra.0")
    assert not is_half("f", "g.cold")
    assert not is_half("f", "f.isra.0")
    assert not is_half("f", "ff.cold")


def test_what_a_shared_address_means() -> None:
    assert judge_shared([("a.part.0", True), ("b.part.0", True)]).folded is True
    assert judge_shared([("a", True), ("b", True)]).folded is True
    assert judge_shared([("init_module", False), ("af_key_init", True)]).folded is None

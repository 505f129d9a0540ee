# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that takes signed modules only."""

from __future__ import annotations

import pytest

from kgbuild.guest.session import load_remedy


@pytest.mark.parametrize(
    ("said", "signs"),
    [
        ("insmod: can't insert 'module.ko': Key was rejected by service", True),
        ("insmod: can't insert 'module.ko': Required key not available", True),
        ("insmod: can't insert 'module.ko': Operation not permitted", True),
        ("insmod: can't insert 'module.ko': Invalid argument", False),
        ("loading the module did not end in time", False),
    ],
)
def test_remedy(said: str, signs: bool) -> None:
    assert ("--sign-key" in load_remedy(said)) is signs

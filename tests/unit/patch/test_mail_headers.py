# SPDX-License-Identifier: GPL-2.0-or-later
"""Mail headers in character sets that nobody knows: the text is only shown, so it is shown as it is."""

from __future__ import annotations

import pytest

from kgbuild.patch.unified_diff import parse_patch
from kgbuild.releases.mail_metadata import read_metadata

DIFF = b"---\n--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-int a;\n+int b;\n"


@pytest.mark.parametrize("charset", [b"ut\xff-8", b"nosuch", b"", b"\xe2\x80\xae"])
@pytest.mark.parametrize("header", [b"Subject", b"From"])
def test_an_unknown_character_set(charset: bytes, header: bytes) -> None:
    mail = b"From: a\nSubject: b\n".replace(header + b": ", header + b": =?" + charset + b"?q?x?= ") + b"\n" + DIFF
    assert len(parse_patch("x.mbox", mail).files) == 1
    read_metadata([("x.mbox", mail)])

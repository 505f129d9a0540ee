# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts with faults, and files of them."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.support.toolchain import scratch

WORDS = (
    *(b"", b" ", b"\n", b"\r\n", b"\0", b"\xff", b"\x1b[2J", b"0", b"-1", b"9" * 400, b"\xe2\x80\xae"),
    *(
        b"@@ -1,3 +1,4 @@\n",
        b"--- a/",
        b"+++ b/",
        b"diff --git a/x b/x\n",
        b"/dev/null",
        b"../",
        b"From ",
        b"Subject: ",
    ),
    *(
        b"#if ",
        b"#endif\n",
        b"#include ",
        b'"',
        b"/*",
        b"*/",
        b"\\\n",
        b"##",
        b"(",
        b"}",
        b"__DATE__",
        b"\\ No newline",
    ),
    *(b"{", b"[", b"null", b"true", b"1e999", b'"0x"', b"NaN", b";", b".", b"=", b"base64", b"boundary=", b"--b\n"),
    *(b"Content-Type: multipart/mixed; boundary=b\n", b"Content-Transfer-Encoding: base64\n", b"\xfd7zXZ\0"),
)


def broken(text: bytes, rng: random.Random) -> bytes:
    """A text with some faults."""
    out = bytearray(text)
    for _ in range(rng.choice((0, 1, 1, 2, 4, 9))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            out[at : at + rng.randrange(8)] = rng.choice(WORDS)
        elif kind == 1:
            out[at:at] = rng.choice(WORDS) * rng.choice((1, 1, 2, 50))
        elif kind == 2:
            del out[at : at + rng.randrange(60)]
        elif kind == 3:
            lines = bytes(out).split(b"\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            out = bytearray(b"\n".join(lines))
        elif kind == 4:
            out[at:at] = out[: rng.randrange(min(len(out), 2000) + 1)]
        elif kind == 5 and out:
            out[rng.randrange(len(out))] = rng.randrange(256)
        else:
            del out[rng.randrange(len(out) + 1) :]
    return bytes(out)


def file_of(name: str, data: bytes) -> Path:
    """A file of this process with these contents."""
    path = scratch() / f"fuzz-{os.getpid()}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path

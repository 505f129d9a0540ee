# SPDX-License-Identifier: GPL-2.0-or-later
"""Text from anywhere made fit to be shown: what a terminal would act on is written as an escape.

A file name, a symbol, an #error or a line of a guest's log can hold anything: sequences that move the cursor or set the
title, carriage returns that hide what was printed, characters that turn the direction of the text, line ends that
forge a line of ours. None of them reaches a terminal. What can be printed stays as it is, whatever the language.
"""

from __future__ import annotations

import re

_ODD = re.compile(r"[^\n\x20-\x7e]")


def printable(text: bytes | str) -> str:
    """One line: no control characters, no line ends, undecodable bytes as \\xNN; a tab is a blank."""
    raw = text if isinstance(text, bytes) else _encoded(text)
    shown = raw.decode("utf-8", "backslashreplace").replace("\t", " ")
    return escape_controls(shown).replace("\n", "\\n")


def _encoded(text: str) -> bytes:
    """UTF-8; what Python reads bytes as that are none is those bytes again. Halves of a surrogate pair, which JSON may
    hold, are bytes that are no UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def escape_controls(text: str) -> str:
    """Several lines: as `printable`, but LF still ends a line and a tab stays."""
    return text if text.isascii() and text.isprintable() else _ODD.sub(_escape, text)


def indent_lines(text: str, by: str = "  ") -> str:
    """A text of several lines for a place where only the first may begin at the margin: nothing in it can look like a
    line of ours."""
    return escape_controls(text).replace("\n", f"\n{by}")


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char.isprintable() or char == "\t":
        return char
    # bytes that are no UTF-8 come as lone surrogates
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else char.encode("unicode_escape").decode()


def readable_size(size: float) -> str:
    """Bytes for a person: 1.4 GB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"

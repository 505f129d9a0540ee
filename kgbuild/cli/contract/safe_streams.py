# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard output and standard error as a terminal can bear them: the one place through which all text goes.

What is printed has names, messages and logs in it that somebody else wrote. So every control character is written as
an escape (shown_text.py), but for the line ends and for the colours that kgbuild itself asks for with `style`, whose
sequences are marked by a word that no input can know.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, BinaryIO, TextIO

import click

from kgbuild.shown_text import escape_controls, printable

_MARK = f"\ue000{os.urandom(8).hex()}\ue000"
_plain_style = click.style


def style(text: Any, *args: Any, **kinds: Any) -> str:
    """A piece of a line with colours, with the arguments of click.style, which only `_SafeText` can show."""
    return _plain_style(printable(str(text)), *args, **kinds).replace("\x1b", _MARK)


class _SafeText(io.TextIOBase):
    """A text stream in front of another."""

    def __init__(self, stream: TextIO) -> None:
        self.raw_stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.raw_stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.raw_stream.errors

    @property
    def buffer(self) -> BinaryIO:
        """Bytes are as they are for a file or a pipe, where a patch must be whole; a terminal gets them as text."""
        return _SafeBytes(self) if self.isatty() else self.raw_stream.buffer  # type: ignore[return-value]

    def write(self, text: str) -> int:
        shown = "\x1b".join(map(escape_controls, text.split(_MARK)))
        # what the stream's encoding does not have is an escape too, rather than an error
        encoding = self.encoding or "utf-8"
        try:
            self.raw_stream.write(shown)
        except UnicodeEncodeError:
            self.raw_stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        self.raw_stream.flush()

    def isatty(self) -> bool:
        return self.raw_stream.isatty()

    def fileno(self) -> int:
        return self.raw_stream.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self.raw_stream.close()


class _SafeBytes(io.RawIOBase):
    """Bytes for a terminal."""

    def __init__(self, text: _SafeText) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._text.write(raw.decode("utf-8", "backslashreplace"))
        return len(raw)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True


def guard_streams() -> None:
    """Put both streams behind `_SafeText`, for the rest of this process. Closed ones become /dev/null."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 # for good
        if not isinstance(stream, _SafeText):
            setattr(sys, name, _SafeText(stream))
    click.style = style


def raw_stderr() -> TextIO:
    """Standard error without a guard, for bars that move the cursor: what is put into them must be escaped before."""
    return sys.stderr.raw_stream if isinstance(sys.stderr, _SafeText) else sys.stderr

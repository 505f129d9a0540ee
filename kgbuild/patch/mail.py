# SPDX-License-Identifier: GPL-2.0-or-later
"""The texts of a patch file that may hold a diff: the file itself, or the bodies of the mails in it, decoded.

A mailbox is cut into mails, a mail into its parts (MIME, RFC 2045 to 2047), however deep they lie in each other up to
a limit. Every line is looked at once.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.errors
import email.header
import itertools
import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kgbuild.errors import UserError
from kgbuild.limits import MAIL_DEPTH, MAIL_PARTS
from kgbuild.shown_text import printable

_MBOX = re.compile(rb"From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} .*\d{4}")
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]*):(?:[ \t]|\r?\n|$)")
_MAIL_HEADERS = {b"subject", b"from", b"date", b"message-id", b"mime-version", b"content-transfer-encoding"}
_BOUNDARY = re.compile(r"""\bboundary\s*+=\s*+(?:"([^"]*+)"|([^\s;"]++))""", re.IGNORECASE)
_PLAIN = "give the patch itself, without the mail around it"
_SHOWN = 4096  # characters of a subject that are decoded; the rest is only text to be shown


@dataclass(frozen=True)
class MailPart:
    """A piece of the file that may hold diffs. `first` is the number of its first line, in the mail's decoded
    text where `decoded` is set, else in the file."""

    lines: list[bytes]
    first: int
    subject: str
    decoded: bool


def split_lines(data: bytes) -> list[bytes]:
    """Lines with their line ends. Only LF ends a line: a form feed or a lone CR is text, as for patch(1)."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def read_bodies(name: str, data: bytes) -> list[MailPart]:
    """Splits an mbox into mails and decodes their bodies; `name` is what messages call the file.

    A line of a hunk never begins with "From ". Raises UserError for a body that is damaged, LimitError for parts that
    lie too deep in each other or are too many.
    """
    lines = split_lines(data)
    starts = [
        i
        for i, line in enumerate(lines[:-1])
        if _MBOX.match(line) and (_HEADER.match(lines[i + 1]) or lines[i + 1].startswith(b">From "))
    ]
    cuts = sorted({0, *starts, len(lines)})
    return [body for begin, end in itertools.pairwise(cuts) for body in _mail(name, lines[begin:end], begin + 1)]


def _mail(name: str, lines: list[bytes], first: int) -> list[MailPart]:
    """The parts of one mail that may hold a diff; the text itself when it has no mail headers."""
    begin = 1 if lines and _MBOX.match(lines[0]) else 0
    headers, end = _read_headers(lines, begin)
    if not _MAIL_HEADERS & headers.keys():
        return [MailPart(_drop_carriage_returns(lines), first, "", False)]
    subject = _subject(headers.get(b"subject", ""))
    encoding = headers.get(b"content-transfer-encoding", "").lower()
    if not _is_multipart(headers) and encoding not in _DECODERS:
        return [MailPart(_drop_carriage_returns(lines[end:]), first + end, subject, False)]
    parts = _parts(f"{name}:{first}", lines, begin)
    return [MailPart(_drop_carriage_returns(split_lines(part)), 1, subject, True) for part in parts]


def _read_headers(lines: Sequence[bytes], begin: int) -> tuple[dict[bytes, str], int]:
    """The header fields from a line on (names in lower case; of equal ones the first), and the line behind them."""
    end = begin
    pieces: dict[bytes, list[bytes]] = {}
    current: list[bytes] = []
    last = b""
    while end < len(lines):
        line = lines[end]
        if (match := _HEADER.match(line)) is not None:
            last = match[1].lower()
            current = [line[match.end(1) + 1 :].strip()]
            # of a field that comes again only its lines are skipped
            pieces.setdefault(last, current)
        elif last and line[:1] in (b" ", b"\t") and line.strip():
            current.append(line.strip())
        elif not (end == begin and line.startswith(b">From ")):
            break
        end += 1
    return {key: b" ".join(value).decode("utf-8", "replace") for key, value in pieces.items()}, end


def _is_multipart(headers: dict[bytes, str]) -> bool:
    return headers.get(b"content-type", "").lower().startswith("multipart/")


@dataclass
class _OpenPart:
    """A part that is being read: where its text begins; its headers, and the boundary of the parts in it (b"" where
    it has none)."""

    start: int
    headers: dict[bytes, str]
    boundary: bytes


def _parts(place: str, lines: Sequence[bytes], begin: int) -> Iterator[bytes]:
    """The decoded text of every part of a mail, in order; those of HTML are left out."""
    open_parts: list[_OpenPart] = []
    boundaries: dict[bytes, int] = {}  # each boundary that is open -> how deep its parts are
    count = 0

    def enter(at: int) -> int:
        """Begin the part whose headers begin at a line; the line behind them."""
        nonlocal count
        while True:
            headers, at = _read_headers(lines, at)
            if at < len(lines) and not lines[at].strip():
                at += 1
            count += 1
            MAIL_PARTS.check(count, place, _PLAIN)
            found = _BOUNDARY.search(headers.get(b"content-type", "")) if _is_multipart(headers) else None
            boundary = (found[1] or found[2] or "").encode("utf-8", "replace") if found else b""
            open_parts.append(_OpenPart(at, headers, boundary))
            MAIL_DEPTH.check(len(open_parts), place, _PLAIN)
            if boundary:
                boundaries.setdefault(boundary, len(open_parts))
            if not headers.get(b"content-type", "").lower().startswith("message/rfc822"):
                return at

    def leave(end: int, depth: int) -> Iterator[bytes]:
        """End all parts that are deeper than `depth`, before a line."""
        while len(open_parts) > depth:
            part = open_parts.pop()
            if part.boundary and boundaries.get(part.boundary) == len(open_parts) + 1:
                del boundaries[part.boundary]
            kind = part.headers.get(b"content-type", "").lower()
            if not part.boundary and not kind.startswith(("text/html", "message/rfc822")):
                yield _decode(place, part.headers, b"".join(lines[part.start : end]))

    at = enter(begin)
    while at < len(lines):
        line = lines[at].rstrip()
        if line.startswith(b"--") and boundaries:
            closes = line[2:] not in boundaries and line.endswith(b"--") and line[2:-2] in boundaries
            word = line[2:-2] if closes else line[2:]
            if word in boundaries:
                yield from leave(at, boundaries[word])
                at += 1
                if closes:
                    del boundaries[word]
                else:
                    at = enter(at)
                continue
        at += 1
    yield from leave(len(lines), 0)


def _decode(place: str, headers: dict[bytes, str], text: bytes) -> bytes:
    decoder = _DECODERS.get(headers.get(b"content-transfer-encoding", "").strip().lower())
    try:
        return decoder(text) if decoder is not None else text
    except binascii.Error as error:
        fact = f"the mail's base64 body is damaged ({error})"
        raise UserError(fact, place=place, remedy="fetch it again") from error


_DECODERS = {
    "quoted-printable": quopri.decodestring,
    "base64": lambda text: base64.b64decode(b"".join(text.split()), validate=True),
}


def _subject(value: str) -> str:
    """A Subject header decoded (RFC 2047), without "[PATCH ...]"."""
    value = value[:_SHOWN]
    # An unknown character set is no reason to fail: the text is only shown.
    with contextlib.suppress(LookupError, ValueError, email.errors.MessageError):
        value = str(email.header.make_header(email.header.decode_header(value)))
    return printable(re.sub(r"^(?:\s*\[[^\]]*\])+\s*", "", " ".join(value.split())))


def _drop_carriage_returns(lines: list[bytes]) -> list[bytes]:
    """Takes off the CR of every line where the diff's own header lines have one too: transport added it.

    A file that itself has CRLF shows it in the hunks' lines only.
    """
    own = [line for line in lines if line.startswith((b"--- ", b"+++ ", b"@@ ", b"diff --git "))]
    if not own or not all(line.endswith(b"\r\n") for line in own):
        return lines
    return [line[:-2] + b"\n" if line.endswith(b"\r\n") else line for line in lines]

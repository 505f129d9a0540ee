# SPDX-License-Identifier: GPL-2.0-or-later
"""What a patch says of itself before its diff: the sender, the subject and the message of a mail, with its tags.

A patch that is written again keeps these, so that whoever applies it sees whose change it is.
"""

from __future__ import annotations

import email
import re
from dataclasses import dataclass
from itertools import pairwise

_KEPT = (b"from", b"date", b"subject")
_MBOX = re.compile(rb"^From \S+ .*\d{4}\r?\n", re.MULTILINE)
_HEADERS = re.compile(rb"(?:>?From \S+ [^\n]*\n)?((?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+)\r?\n")
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]*):[^\n]*\n(?:[ \t][^\n]*\n)*")
# Where the message ends: git's "---" before the statistics, or the diff itself.
_END = re.compile(rb"^(?:---[ \t]*\r?$|diff --git |diff -|Index: |--- \S+.*\r?\n\+\+\+ )", re.MULTILINE)


@dataclass(frozen=True)
class MailText:
    """The header lines that are kept (From, Date, Subject, each with its continuation and line end) and the message, as
    bytes; both are empty where there are none."""

    headers: bytes
    message: bytes


def mail_texts(patch: bytes) -> list[MailText]:
    """The mails of a patch file, or one without headers where the text before the diff is no mail. Mails that can't be
    read have no message."""
    starts = [found.start() for found in _MBOX.finditer(patch)]
    cuts = [*starts, len(patch)] if starts and starts[0] == 0 else [0, len(patch)]
    return [_read(patch[start:end]) for start, end in pairwise(cuts)]


def _read(text: bytes) -> MailText:
    block = _HEADERS.match(text)
    if block is None or b"subject" not in {name.lower() for name in re.findall(rb"^([\w-]+):", block[1], re.MULTILINE)}:
        return MailText(b"", _before_diff(text))
    headers = b"".join(found[0] for found in _HEADER.finditer(block[1]) if found[1].lower() in _KEPT)
    return MailText(headers.replace(b"\r\n", b"\n"), _before_diff(_body(text[block.start(1) :]) or text[block.end() :]))


def _body(mail: bytes) -> bytes:
    """The first text of a mail, its transfer encoding taken off, as UTF-8 where its character set is known."""
    try:
        message = email.message_from_bytes(mail)
        part = next((p for p in message.walk() if p.get_content_type() == "text/plain"), None)
        raw = part.get_payload(decode=True) if part is not None else None
        if part is None or not isinstance(raw, bytes):
            return b""
        return raw.decode(part.get_content_charset("utf-8")).encode()
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError):
        return b""


def _before_diff(text: bytes) -> bytes:
    end = _END.search(text)
    return (text[: end.start()] if end else b"").replace(b"\r\n", b"\n").strip(b"\n")


def written_mail(mails: list[MailText], notes: str) -> bytes:
    """The text before a diff: the first mail's headers, all messages (each further one below its own headers), and
    `notes` below git's "---", which is left out where there is no message."""
    kept = [mail for mail in mails if mail.headers or mail.message]
    if not kept:
        return notes.encode("utf-8", "surrogateescape")
    parts = [kept[0].headers]
    if kept[0].headers and any(byte > 127 for mail in kept for byte in mail.message):
        parts.append(b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n")
    parts += [b"\n" if kept[0].headers else b"", kept[0].message, b"\n"]
    for mail in kept[1:]:
        parts += [b"\n", mail.headers, b"\n" if mail.headers else b"", mail.message, b"\n"]
    return b"".join([*parts, b"---\n", notes.encode("utf-8", "surrogateescape")])

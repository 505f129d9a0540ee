# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fix's mail says of it: subject, author, the upstream commit, the commits that it repairs, CVE numbers.

The forms are those of Documentation/process/submitting-patches.rst (`Fixes:`) and stable-kernel-rules.rst (`commit ID
upstream.`, `[ Upstream commit ID ]`), and the first line of a mail that git format-patch wrote.
"""

from __future__ import annotations

import email.errors
import email.header
import email.utils
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC

from kgbuild.patch.mail import read_bodies
from kgbuild.releases.config import FixMetadata
from kgbuild.shown_text import printable

_FIXES = re.compile(r"^Fixes:\s*([0-9a-fA-F]{7,40})\b", re.MULTILINE)
_CVE = re.compile(r"\bCVE-\d{4}-\d{4,}\b")
_UPSTREAM = re.compile(
    r"\bcommit ([0-9a-f]{40}) upstream\b|\[ ?Upstream commit ([0-9a-f]{40}) ?\]"
    r"|\(cherry picked from commit ([0-9a-f]{40})\)",
    re.IGNORECASE,
)
_FORMAT_PATCH = re.compile(r"^From ([0-9a-f]{40}) Mon Sep 17 00:00:00 2001$", re.MULTILINE)
_LOG = re.compile(r"^commit ([0-9a-f]{40})\b", re.MULTILINE)
_DATE = re.compile(r"^Date: (.+)", re.MULTILINE)
_FROM = re.compile(r"^From: (.+(?:\n[ \t].+)*)", re.MULTILINE)
_DIFF = re.compile(r"^(?:diff --git |--- [^\s]+\n\+\+\+ |Index: )", re.MULTILINE)
_MOST = 200  # characters of a subject or an author that are kept


def read_metadata(patches: Iterable[tuple[str, bytes]], cves: Sequence[str] = ()) -> FixMetadata:
    """What the mails of a fix say, all of its patches together; `cves` come first. What they do not say is empty.

    The subject is that of the first patch, the commit that of the only patch, since several have several. Raises
    UserError for a mail that is damaged.
    """
    subjects: list[str] = []
    authors: list[str] = []
    commits: list[str] = []
    dates: list[str] = []
    fixes: dict[str, None] = {}
    numbers: dict[str, None] = dict.fromkeys(cves)
    for name, data in patches:
        head = data.decode("utf-8", "replace").replace("\r\n", "\n")
        for part in read_bodies(name, data):
            body = b"".join(part.lines).decode("utf-8", "replace").replace("\r\n", "\n")
            found = _DIFF.search(body)
            prose = body[: found.start()] if found else body
            numbers |= dict.fromkeys(_CVE.findall(f"{part.subject}\n{prose}"))
            fixes |= dict.fromkeys(commit.lower() for commit in _FIXES.findall(prose))
            if found and part.subject:
                subjects.append(part.subject)
            commits += [next(filter(None, match)) for match in _UPSTREAM.findall(prose)][:1]
        start = _DIFF.search(head)
        authors += [_decoded(match) for match in _FROM.findall(head[: start.start()] if start else "")][:1]
        dates += filter(None, map(_date, _DATE.findall(head[: start.start()] if start else "")[:1]))
        if not commits:
            commits += [commit for commit in (*_FORMAT_PATCH.findall(head), *_LOG.findall(head)) if commit.strip("0")]
    commit = commits[0].lower() if len(set(commits)) == 1 else ""
    return FixMetadata(
        tuple(numbers),
        subjects[0][:_MOST] if subjects else "",
        authors[0] if authors else "",
        commit,
        tuple(fixes),
        date=max(dates, default=""),
    )


def _date(value: str) -> str:
    """A Date header (RFC 5322) in UTC; "" where it is none."""
    try:
        found = email.utils.parsedate_to_datetime(value)
        return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return ""


def _decoded(value: str) -> str:
    """A From header (RFC 2047) as one line."""
    value = " ".join(value[: 10 * _MOST].split())
    with suppress(LookupError, ValueError, email.errors.MessageError):
        value = str(email.header.make_header(email.header.decode_header(value)))
    return printable(value)[:_MOST]

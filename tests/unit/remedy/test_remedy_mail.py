# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch that is written again keeps its mail: sender, subject, message, tags."""

from __future__ import annotations

import base64
import quopri

import pytest

from kgbuild.patch.unified_diff import parse_patch
from kgbuild.remedy.mail_text import MailText, mail_texts, written_mail

DIFF = b"--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1 @@\n-a\n+b\n"
HEADERS = b"From: A Name <a@example.org>\nDate: Mon, 5 Jan 2026 10:00:00 +0100\nSubject: [PATCH] fs: fix a\n leak\n"
MESSAGE = b'The buffer was lost.\n\nFixes: 123456789abc ("fs: add it")\nSigned-off-by: A Name <a@example.org>'
MBOX = b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
GIT = HEADERS + b"\n" + MESSAGE + b"\n---\n fs/x.c | 2 +-\n 1 file changed\n\n" + DIFF + b"--\n2.39\n"


@pytest.mark.parametrize("before", [b"", MBOX])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_headers_and_message(before: bytes, end: bytes) -> None:
    assert mail_texts((before + GIT).replace(b"\n", end)) == [MailText(HEADERS, MESSAGE)]


@pytest.mark.parametrize("coding", ["base64", "quoted-printable"])
def test_transfer_encodings(coding: str) -> None:
    body = "Größe: ".encode() + MESSAGE + b"\n---\n" + DIFF
    coded = base64.encodebytes(body) if coding == "base64" else quopri.encodestring(body)
    head = HEADERS + b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: " + coding.encode() + b"\n\n"
    (mail,) = mail_texts(head + coded)
    assert mail == MailText(HEADERS, "Größe: ".encode() + MESSAGE)
    assert b"Content-Transfer-Encoding: 8bit\n" in written_mail([mail], "notes\n")


def test_other_characters_become_utf8() -> None:
    head = HEADERS + b"Content-Type: text/plain; charset=iso-8859-1\n\n"
    assert mail_texts(head + "Größe\n---\n".encode("latin-1") + DIFF)[0].message == "Größe".encode()


@pytest.mark.parametrize("text", [b"", b"A note without headers.\n\n", b"fs: fix\n\nSigned-off-by: X <x@y.z>\n"])
def test_text_that_is_no_mail_is_kept(text: bytes) -> None:
    assert mail_texts(text + DIFF) == [MailText(b"", text.strip(b"\n"))]


def test_several_mails_keep_all_messages() -> None:
    mails = mail_texts(MBOX + GIT + b"\n" + MBOX + GIT.replace(b"A Name", b"B Name"))
    assert [b"B Name" in mail.headers for mail in mails] == [False, True]
    text = written_mail(mails, "Made from x.\n\n") + DIFF
    assert text.startswith(HEADERS + b"\n" + MESSAGE)
    assert text.count(b"Signed-off-by:") == 2 and text.count(b"\n---\n") == 1


@pytest.mark.parametrize("given", [DIFF, GIT, MBOX + GIT, b"Words.\n" + DIFF, MBOX + GIT + MBOX + GIT])
def test_what_is_written_is_a_patch_again(given: bytes) -> None:
    text = written_mail(mail_texts(given), "Made from x by kgbuild remedy --code K1-data.\n\nTo decide: y\n") + DIFF
    parsed = parse_patch("x", text)
    assert [file.new_path for file in parsed.files] == ["b/fs/x.c"]
    assert ("fs: fix a leak" in parsed.subject) == (b"Subject" in given)


@pytest.mark.parametrize(
    "mail", [b"Content-Type: multipart/mixed; boundary=x\n\n--x\n", b"Content-Type: text/plain; charset=no\n\n"]
)
def test_mails_that_can_not_be_read(mail: bytes) -> None:
    (found,) = mail_texts(HEADERS + mail + MESSAGE + b"\n---\n" + DIFF)
    assert found.headers == HEADERS

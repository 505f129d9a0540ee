# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading diffs: what people really send, and what must be refused with the line it is at."""

from __future__ import annotations

import base64
import hashlib
import quopri
import subprocess
from pathlib import Path

import pytest

from kgbuild.errors import UserError
from kgbuild.patch.unified_diff import DEV_NULL, FilePatch, parse_patch, strip_path
from kgbuild.shown_text import printable

HUNK = b"@@ -1,3 +1,4 @@ int f(void)\n int a;\n-int b;\n+int B;\n+int c;\n int d;\n"
PLAIN = b"--- a/fs/x.c\n+++ b/fs/x.c\n" + HUNK
GIT = b"diff --git a/fs/x.c b/fs/x.c\nindex 1234567..89abcde 100644\n" + PLAIN
MAIL = (
    b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n"
    b"From: A B <a@example.org>\nDate: Tue, 1 Jul 2025 10:00:00 +0200\n"
    b"Subject: [PATCH v2 1/2] fs: x: count\n twice\n\nWhy it is so.\n\n"
    b"Signed-off-by: A B <a@example.org>\n---\n fs/x.c | 3 ++-\n 1 file changed\n\n" + GIT + b"-- \n2.39.5\n\n"
)


def parse(data: bytes) -> tuple[FilePatch, ...]:
    return parse_patch("p", data).files


def error(data: bytes) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_patch("p", data)
    return caught.value


def test_plain_diff() -> None:
    patch = parse_patch("p", PLAIN)
    assert patch.sha256 == hashlib.sha256(PLAIN).hexdigest()
    (file,) = patch.files
    assert (file.old_path, file.new_path, file.kind, file.line) == ("a/fs/x.c", "b/fs/x.c", "change", 1)
    (hunk,) = file.hunks
    assert (hunk.old_start, hunk.old_count, hunk.new_start, hunk.new_count) == (1, 3, 1, 4)
    assert (hunk.header, hunk.line) == ("int f(void)", 3)
    assert hunk.old == (b"int a;\n", b"int b;\n", b"int d;\n")
    assert hunk.new == (b"int a;\n", b"int B;\n", b"int c;\n", b"int d;\n")


def test_mail() -> None:
    patch = parse_patch("p", MAIL)
    assert patch.subject == "fs: x: count twice"
    assert patch.files[0].hunks[0].lines == parse(PLAIN)[0].hunks[0].lines
    assert MAIL.splitlines()[patch.files[0].hunks[0].line - 1].startswith(b"@@ ")


def test_mbox_of_several_mails() -> None:
    second = MAIL.replace(b"fs/x.c", b"fs/y.c").replace(b"1/2] fs: x", b"2/2] fs: y")
    cover = MAIL[: MAIL.index(b"\ndiff --git")].replace(b"1/2] fs: x: count\n twice", b"0/2] cover") + b"\n"
    patch = parse_patch("p", cover + MAIL + second)
    assert [f.path(1) for f in patch.files] == ["fs/x.c", "fs/y.c"]
    assert patch.subject == "fs: x: count twice; fs: y: count twice"


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_encoded_mail(encoding: str, line_end: bytes) -> None:
    head, _, body = MAIL.partition(b"\n\n")
    body = body.replace(b"int c;", b'char *c = "=\xc3\xa4";').replace(b"\n", line_end)
    packed = base64.encodebytes(body) if encoding == "base64" else quopri.encodestring(body)
    mail = head + b"\nContent-Transfer-Encoding: " + encoding.encode() + b"\n\n" + packed
    (file,) = parse(mail)
    assert file.hunks[0].new[2] == b'char *c = "=\xc3\xa4";\n'
    damaged = mail.replace(b"IGludCBkOw", b"IGl.dCBkOw") if encoding == "base64" else b""
    if damaged not in (b"", mail):
        assert "base64" in error(damaged).fact


def test_multipart_mail() -> None:
    mail = (
        b"From: a@example.org\nSubject: =?utf-8?q?fs=3A_=C3=A4?=\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="XX"\n\n--XX\nContent-Type: text/plain\n\nhello\n'
        b"--XX\nContent-Type: text/x-patch\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(GIT)
        + b"--XX\nContent-Type: text/html\n\n<pre>\n"
        + PLAIN
        + b"</pre>\n--XX--\n"
    )
    patch = parse_patch("p", mail)
    assert patch.subject == "fs: ä"
    assert [f.path(1) for f in patch.files] == ["fs/x.c"]


def test_line_number_in_decoded_mail_is_said_to_be_one() -> None:
    body = base64.encodebytes(GIT[:-4])
    mail = b"From: a@example.org\nSubject: x\nContent-Transfer-Encoding: base64\n\n" + body
    assert "decoded mail" in error(mail).fact


def test_signature_is_no_deleted_line() -> None:
    assert parse(PLAIN + b"-- \n2.39.5\n")[0].hunks[0].lines == parse(PLAIN)[0].hunks[0].lines
    counted = b"--- a/x.c\n+++ b/x.c\n@@ -1,2 +1 @@\n x\n-- \n"
    assert parse(counted)[0].hunks[0].old == (b"x\n", b"- \n")


def test_no_newline_at_end() -> None:
    (file,) = parse(
        b"--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+y\n\\ No newline at end of file\n"
    )
    assert (file.hunks[0].old, file.hunks[0].new) == ((b"x",), (b"y",))
    only_new = parse(b"--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-x\n+y\n\\ No newline at end of file\n")
    assert (only_new[0].hunks[0].old, only_new[0].hunks[0].new) == ((b"x\n",), (b"y",))
    assert "follows no line" in error(b"--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n\\ No newline\n-x\n+y\n").fact


def test_carriage_returns_of_transport_and_of_the_file() -> None:
    assert parse(PLAIN.replace(b"\n", b"\r\n"))[0].hunks[0].lines == parse(PLAIN)[0].hunks[0].lines
    own = PLAIN.replace(b";\n", b";\r\n")
    assert parse(own)[0].hunks[0].old[0] == b"int a;\r\n"


def test_empty_context_line_without_its_blank() -> None:
    data = b"--- a/x.c\n+++ b/x.c\n@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n"
    assert parse(data)[0].hunks[0].old == (b"a\n", b"\n", b"b\n")


@pytest.mark.parametrize(
    ("extra", "kind", "old", "new"),
    [
        (b"old mode 100644\nnew mode 100755\n", "mode", "a/fs/x.c", "b/fs/x.c"),
        (b"new file mode 100644\nindex 0000000..e69de29\n", "new", DEV_NULL, "b/fs/x.c"),
        (b"deleted file mode 100644\nindex e69de29..0000000\n", "delete", "a/fs/x.c", DEV_NULL),
        (b"index 1..2 100644\nBinary files a/fs/x.c and b/fs/x.c differ\n", "binary", "a/fs/x.c", "b/fs/x.c"),
        (
            b"index 1..2\nGIT binary patch\nliteral 3\nKcmZQzWMBXQ\n\nliteral 0\nHcmV?d00001\n\n",
            "binary",
            "a/fs/x.c",
            "b/fs/x.c",
        ),
    ],
)
def test_git_without_hunks(extra: bytes, kind: str, old: str, new: str) -> None:
    files = parse(b"diff --git a/fs/x.c b/fs/x.c\n" + extra + GIT)
    assert (files[0].kind, files[0].old_path, files[0].new_path) == (kind, old, new)
    assert len(files) == 2


def test_rename_copy_and_symlink() -> None:
    head = b"diff --git a/fs/x y.c b/fs/z y.c\nsimilarity index 100%\n"
    (file,) = parse(head + b"rename from fs/x y.c\nrename to fs/z y.c\n")
    assert (file.kind, file.old_path, file.new_path) == ("rename", "a/fs/x y.c", "b/fs/z y.c")
    assert parse(head + b"copy from fs/x y.c\ncopy to fs/z y.c\n")[0].kind == "copy"
    link = b"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n"
    assert (parse(link)[0].kind, parse(link)[0].new_mode) == ("new", "120000")
    assert parse(GIT)[0].new_mode == "100644"


def test_new_and_deleted_plain_files() -> None:
    gnu = b"--- l.orig/n.c\t1970-01-01 01:00:00.000000000 +0100\n+++ l/n.c\t2025-07-01 10:00:00.0 +0200\n"
    (file,) = parse(gnu + b"@@ -0,0 +1 @@\n+x\n")
    assert (file.kind, file.old_path, file.new_path) == ("new", DEV_NULL, "l/n.c")
    (file,) = parse(b"--- a/n.c 2025-07-01 10:00:00\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n")
    assert (file.kind, file.old_path, file.path(1)) == ("delete", "a/n.c", "n.c")
    assert "lines to remove" in error(b"--- /dev/null\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n").fact


def test_quoted_names() -> None:
    name = b'"a/fs/\\303\\244 \\"x\\".c"', b'"b/fs/\\303\\244 \\"x\\".c"'
    data = b"diff --git %s %s\n--- %s\n+++ %s\n" % (*name, *name) + HUNK
    assert parse(data)[0].path(1) == 'fs/ä "x".c'
    assert "escape" in error(data.replace(b"\\303", b"\\q")).fact
    assert "no end" in error(b'--- "a/x.c\n+++ "b/x.c\n' + HUNK).fact


def test_names_that_disagree_with_the_git_line() -> None:
    assert "disagree" in error(GIT.replace(b"+++ b/fs/x.c", b"+++ b/../../etc/passwd")).fact
    moved = b"diff --git a/x.c b/y.c\nrename from x.c\nrename to z.c\n"
    assert "disagree" in error(moved).fact


BAD = [
    (b"", "p", "is empty"),
    (b"\n \n", "p", "blank lines"),
    (b"hello\n", "p", "is not a patch"),
    (b"a.patch\nfs/b.patch -p1\n", "p", "list of patches"),
    (b"\x1f\x8b\x08rest", "p", "packed with gzip"),
    ("--- a".encode("utf-16"), "p", "UTF-16"),
    (b"*** a/x.c\n--- b/x.c\n***************\n*** 1 ****\n! a\n--- 1 ----\n! b\n", "p:1", "context diff"),
    (b"1c1\n< a\n---\n> b\n", "p", "without file names"),
    (b"diff --cc x.c\n@@@ -1,1 -1,1 +1,1 @@@\n", "p:1", "merge"),
    (HUNK, "p:1", "no file header"),
    (b"--- a/x.c\n+++ b/x.c\n", "p:2", "must follow"),
    (b"--- a/x.c\n+++ b/x.c\n@@ -1,3 @@\n", "p:3", "can't be read"),
    (PLAIN + b"@@ -z +1 @@\n x\n", "p:9", "can't be read"),
    (b"--- a/x.c\n+++ b/x.c\n@@ -0,1 +1 @@\n x\n", "p:3", "from line 0"),
    (PLAIN[: PLAIN.index(b"+int c;")], "p:6", "1 old and 2 new lines are missing"),
    (PLAIN[:-1], "p:8", "may be cut off"),
    (PLAIN + b"+int e;\n", "p:9", "more lines than"),
    (PLAIN + b"\n int e;\n", "p:10", "more lines than"),
    (PLAIN + b"garbage\n", "p:9", "belongs to no hunk"),
    (PLAIN.replace(b"-1,3", b"-1,4"), "p:8", "1 old and 0 new"),
    (PLAIN.replace(b"+int c;\n", b"garbage\n"), "p:7", "does not fit the hunk at line 3"),
    (PLAIN.replace(b"-1,3", b"-1,2"), "p:8", "does not fit"),
    (PLAIN + HUNK, "p:9", "overlap"),
    (b"diff --git a/x.c b/x.c\nindex 1..2 100644\n", "p:2", "cut off"),
    (b"diff --git a/x.c b/x.c\n", "p:1", "cut off"),
    (b"--- \n+++ \n" + HUNK, "p:1", "no name"),
    (b"Only in b/fs: new.c\n" + PLAIN, "p:1", "left out"),
]


@pytest.mark.parametrize(("data", "place", "fact"), BAD)
def test_malformed(data: bytes, place: str, fact: str) -> None:
    caught = error(data)
    assert (caught.place, fact in caught.fact) == (place, True), str(caught)
    assert caught.remedy


def test_every_truncation_is_an_error_or_ends_between_hunks() -> None:
    whole = parse(GIT)[0].hunks[0].lines
    for end in range(GIT.index(b"---"), len(GIT)):
        error(GIT[:end])
    assert parse(GIT)[0].hunks[0].lines == whole


def test_prose_around_diffs() -> None:
    quilt = b"Description: mend it\n for good\nAuthor: A\n\nIndex: l/fs/x.c\n=====\n" + PLAIN
    log = b"commit 0123456789abcdef\nAuthor: A\n\n    text\n\n" + GIT + b"\n"
    assert len(parse(quilt + quilt)) == 2
    assert len(parse(log + log)) == 2
    assert len(parse(b"\xef\xbb\xbf" + GIT)) == 1


def test_strip_path() -> None:
    assert strip_path("a//fs/./x.c", 1) == "fs/x.c"
    assert strip_path("/etc/passwd", 0) == "/etc/passwd"
    assert strip_path("x.c", 1) == ""
    assert strip_path("a/../x.c", 1) == "../x.c"


def test_printable_shows_no_control_characters() -> None:
    assert printable(b"a\tb\x1b[31m\xff\n") == "a b\\x1b[31m\\xff\\n"
    assert printable("x\udcff") == "x\\xff"


def test_what_git_writes(tmp_path: Path) -> None:
    def git(*argv: str) -> bytes:
        base = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
        return subprocess.run([*base, *argv], check=True, stdout=subprocess.PIPE).stdout

    git("init", "-q")
    (tmp_path / "a b.c").write_bytes(b"".join(b"line %d\n" % i for i in range(40)))
    (tmp_path / "ö.c").write_bytes(b"x\r\ny")
    (tmp_path / "old.c").write_bytes(b"".join(b"%d\n" % i for i in range(20)))
    git("add", "-A")
    git("commit", "-qm", "one")
    (tmp_path / "a b.c").write_bytes(b"".join(b"line %d\n" % (i * (i != 7)) for i in range(39)))
    (tmp_path / "ö.c").write_bytes(b"x\r\nY")
    (tmp_path / "old.c").rename(tmp_path / "new.c")
    (tmp_path / "bin").write_bytes(bytes(range(256)))
    (tmp_path / "empty.c").touch()
    git("add", "-A")
    git("commit", "-qm", "Zwei: ü")
    for argv in (
        ["format-patch", "--stdout", "--binary", "-1"],
        ["show"],
        ["diff", "--no-prefix", "HEAD^"],
        ["format-patch", "--stdout", "-1", "--attach"],
        ["log", "-p"],
    ):
        data = git(*argv)
        patch = parse_patch("p", data)
        strip = 0 if "--no-prefix" in argv else 1
        kinds = {f.path(strip): f.kind for f in patch.files[:5]}
        expected = {"a b.c": "change", "bin": "binary", "empty.c": "new", "new.c": "rename", "ö.c": "change"}
        assert kinds == expected, argv
        assert next(f for f in patch.files if f.path(strip) == "ö.c").hunks[0].old == (b"x\r\n", b"y")
        if argv[0] == "format-patch":
            assert patch.subject == "Zwei: ü"

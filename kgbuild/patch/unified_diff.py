# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads source diffs: unified diffs, `git diff`, git format-patch mail, several of them in one file.

A patch comes from anywhere, so the reader is strict where a mistake would lose a change and lenient where
only prose is at stake. Three rules follow from that:

- A hunk is read by the counts in its `@@` line, never by what its lines look like: `-- ` is a deleted line as
  long as the counts ask for one, and the mail's signature after that.
- Directly after a hunk only a file header, a signature or the head of the next patch may come. Anything else
  means that the hunk is longer than it says: an error.
- Text before the first file header, and after a signature, is prose.

Source of the format: GNU diffutils manual ("Detailed Unified"), git-diff(1) ("Generating patch text").
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email
import email.errors
import email.header
import hashlib
import itertools
import quopri
import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from kgbuild.errors import UserError

PatchKind = Literal["change", "new", "delete", "rename", "copy", "binary", "mode"]
DEV_NULL = "/dev/null"

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)", re.DOTALL)
_MBOX = re.compile(rb"From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} .*\d{4}")
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]*):(?:[ \t]|\r?\n|$)")
_MAIL_HEADERS = {b"subject", b"from", b"date", b"message-id", b"mime-version", b"content-transfer-encoding"}
_EXTENDED = re.compile(
    rb"(old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from|rename to"
    rb"|similarity index|dissimilarity index|index) (.*)"
)
_BINARY = re.compile(rb"(?:Binary files|Files) (.+) and (.+) differ\r?\n?")
# Old diffs separate the time stamp by blanks instead of a tab.
_STAMP = re.compile(r"\s+(?:\d{4}-\d\d-\d\d \d\d:\d\d|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} ).*$")
# What may follow a hunk and starts the prose of another patch in the same file.
_NEXT_PATCH = re.compile(rb"commit [0-9a-f]{7,40}\b|Merge: |From [0-9a-f]{40} |[A-Z][A-Za-z-]*: ")
_BETWEEN = (b"diff ", b"Index: ", b"=====")
_NORMAL_DIFF = re.compile(rb"^\d+(?:,\d+)?[acd]\d+(?:,\d+)?\r?$", re.MULTILINE)
_SERIES = re.compile(rb"(?:#.*|[^\s/+-][^\s]*\.(?:patch|diff)(?: -p\d)?)?\r?")
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
# The last that applies counts.
_GIT_KINDS: dict[str, PatchKind] = {
    "new mode": "mode",
    "rename from": "rename",
    "copy from": "copy",
    "new file mode": "new",
    "deleted file mode": "delete",
}
_UNIFIED = "make it with diff -u or git diff"


@dataclass(frozen=True)
class Hunk:
    """One hunk; numbers and counts are those of its @@ line, counted from 1.

    lines   with their first character (' ', '-', '+') and their line end, which is missing where
            "\\ No newline at end of file" follows
    header  the text after the second @@
    line    where the hunk is in the patch, counted from 1
    """

    old_start: int
    old_count: int
    new_start: int
    new_count: int
    lines: tuple[bytes, ...]
    header: str
    line: int = 0

    @property
    def old(self) -> tuple[bytes, ...]:
        """The lines the file must have, with their line ends."""
        return tuple(line[1:] for line in self.lines if line[:1] in b" -")

    @property
    def new(self) -> tuple[bytes, ...]:
        """The lines the file has afterwards, with their line ends."""
        return tuple(line[1:] for line in self.lines if line[:1] in b" +")


@dataclass(frozen=True)
class FilePatch:
    """What a patch does to one file.

    old_path, new_path  as written, with their prefix; "/dev/null" for the side that is missing
    old_mode, new_mode  git's ("100644"; "120000" a symbolic link, "160000" a submodule) or ""
    line                where the file begins in the patch, counted from 1
    """

    old_path: str
    new_path: str
    hunks: tuple[Hunk, ...]
    kind: PatchKind
    old_mode: str = ""
    new_mode: str = ""
    line: int = 0

    def path(self, strip: int) -> str:
        """The file's path in the tree with `strip` leading components taken off; "" when nothing is left."""
        return strip_path(self.old_path if self.new_path == DEV_NULL else self.new_path, strip)


@dataclass(frozen=True)
class ParsedPatch:
    """One patch file. `sha256` (hex) is of its bytes; `subject` the mails' ("; " between several) or ""."""

    name: str
    sha256: str
    subject: str
    files: tuple[FilePatch, ...]


def printable(text: bytes | str) -> str:
    """Text from a patch made fit for a message: no control characters, undecodable bytes as \\xNN."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    shown = raw.decode("utf-8", "backslashreplace").replace("\t", " ")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def split_lines(data: bytes) -> list[bytes]:
    """Lines with their line ends. Only LF ends a line: a form feed or a lone CR is text, as for patch(1)."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def strip_path(path: str, strip: int) -> str:
    """`path` without its first `strip` components and without empty and "." ones; "" when nothing is left.

    An absolute path stays absolute at level 0. ".." is kept: sources.check_path refuses it.
    """
    if strip == 0:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        return ("/" if path.startswith("/") else "") + "/".join(parts)
    parts = [part for part in path.split("/") if part]
    return "/".join(part for part in parts[strip:] if part != ".")


@dataclass(frozen=True)
class _Body:
    """A piece of the file that may hold diffs. `first` is the number of its first line, in the mail's decoded
    text where `decoded` is set, else in the file."""

    lines: list[bytes]
    first: int
    subject: str
    decoded: bool


def parse_patch(name: str, data: bytes) -> ParsedPatch:
    """Reads a patch.

    name   what messages call it (the file's name)
    data   the file's bytes: one or more unified diffs or mails
    UserError (place "name:line") when it is empty, not a unified diff, damaged, or cut off.
    """
    if not data.strip():
        raise UserError("is empty" if not data else "has only blank lines", place=name, remedy="give a source diff")
    for magic, packer in _PACKED.items():
        if data.startswith(magic):
            raise UserError(f"is packed with {packer}", place=name, remedy="unpack it first")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError("is UTF-16 text", place=name, remedy="convert it to UTF-8")
    files: list[FilePatch] = []
    subjects: list[str] = []
    for body in _bodies(name, data.removeprefix(b"\xef\xbb\xbf")):
        found = _Reader(name, body).read()
        files += found
        if found and body.subject and body.subject not in subjects:
            subjects.append(body.subject)
    if not files:
        _reject_other(name, data)
    return ParsedPatch(name, hashlib.sha256(data).hexdigest(), "; ".join(subjects), tuple(files))


def _reject_other(name: str, data: bytes) -> NoReturn:
    """Raises the UserError for a file in which no unified diff was found, naming what it seems to be."""
    if all(_SERIES.fullmatch(line) for line in data.split(b"\n")):
        raise UserError("is a list of patches", place=name, remedy="give the patches it names, in their order")
    if re.search(rb"^\*{15}", data, re.MULTILINE):
        raise UserError("is a context diff", place=name, remedy=_UNIFIED)
    if _NORMAL_DIFF.search(data) and re.search(rb"^[<>] ", data, re.MULTILINE):
        raise UserError("is a diff without file names and context", place=name, remedy=_UNIFIED)
    raise UserError("is not a patch: it has no unified diff", place=name, remedy=_UNIFIED)


def _bodies(name: str, data: bytes) -> list[_Body]:
    """Splits an mbox into mails and decodes their bodies. A line of a hunk never begins with "From "."""
    lines = split_lines(data)
    starts = [
        i
        for i, line in enumerate(lines[:-1])
        if _MBOX.match(line) and (_HEADER.match(lines[i + 1]) or lines[i + 1].startswith(b">From "))
    ]
    cuts = sorted({0, *starts, len(lines)})
    return [body for begin, end in itertools.pairwise(cuts) for body in _mail(name, lines[begin:end], begin + 1)]


def _mail(name: str, lines: list[bytes], first: int) -> list[_Body]:
    """The parts of one mail that may hold a diff; the text itself when it has no mail headers."""
    begin = 1 if lines and _MBOX.match(lines[0]) else 0
    end = begin
    headers: dict[bytes, str] = {}
    last = b""
    while end < len(lines):
        line = lines[end]
        if (match := _HEADER.match(line)) is not None:
            last = match[1].lower()
            headers.setdefault(last, line[match.end(1) + 1 :].strip().decode("utf-8", "replace"))
        elif last and line[:1] in (b" ", b"\t") and line.strip():
            headers[last] += " " + line.strip().decode("utf-8", "replace")
        elif not (end == begin and line.startswith(b">From ")):
            break
        end += 1
    if not _MAIL_HEADERS & headers.keys():
        return [_Body(_drop_carriage_returns(lines), first, "", False)]
    subject = _subject(headers.get(b"subject", ""))
    encoding = headers.get(b"content-transfer-encoding", "").lower()
    text = b"".join(lines[end:])
    parts: list[bytes] = []
    if headers.get(b"content-type", "").lower().startswith("multipart/"):
        message = email.message_from_bytes(b"".join(lines[begin:]))
        for part in message.walk():
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes) and part.get_content_type() != "text/html":
                parts.append(payload)
    elif encoding == "quoted-printable":
        parts.append(quopri.decodestring(text))
    elif encoding == "base64":
        try:
            parts.append(base64.b64decode(b"".join(text.split()), validate=True))
        except binascii.Error as error:
            raise UserError(
                f"the mail's base64 body is damaged ({error})",
                place=f"{name}:{first}",
                remedy="fetch it again",
            ) from error
    else:
        return [_Body(_drop_carriage_returns(lines[end:]), first + end, subject, False)]
    return [_Body(_drop_carriage_returns(split_lines(part)), 1, subject, True) for part in parts]


def _subject(value: str) -> str:
    """A Subject header decoded (RFC 2047), without "[PATCH ...]"."""
    # An unknown character set is no reason to fail: the text is only shown.
    with contextlib.suppress(LookupError, ValueError, email.errors.HeaderParseError):
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


class _Reader:
    """Reads one body from top to bottom; `at` is the index of the line being looked at."""

    def __init__(self, name: str, body: _Body) -> None:
        self.name = name
        self.lines = body.lines
        self.body = body
        self.at = 0
        self.files: list[FilePatch] = []

    def fail(self, fact: str, at: int | None = None, remedy: str = "make the patch again") -> NoReturn:
        """Raises UserError for the line `at` (index), by default the current one."""
        line = self.number(self.at if at is None else at)
        note = " (counted in the decoded mail)" if self.body.decoded else ""
        raise UserError(fact + note, place=f"{self.name}:{line}", remedy=remedy)

    def number(self, at: int) -> int:
        return self.body.first + min(at, max(len(self.lines) - 1, 0))

    def line(self, ahead: int = 0) -> bytes:
        """The line `ahead` of the current one; b"" past the end."""
        return self.lines[self.at + ahead] if self.at + ahead < len(self.lines) else b""

    def read(self) -> list[FilePatch]:
        """All files of the body, in order."""
        strict = False
        while self.at < len(self.lines):
            line = self.line()
            if line.startswith(b"diff --git "):
                self.files.append(self.read_git())
                strict = True
                continue
            if line.startswith(b"--- ") and self.line(1).startswith(b"+++ "):
                self.files.append(self.read_plain())
                strict = True
                continue
            if line.startswith((b"diff --cc ", b"diff --combined ", b"@@@ ")):
                self.fail("is the combined diff of a merge", remedy="use git diff against one parent")
            if line.startswith(b"*** ") and self.line(1).startswith(b"--- "):
                self.fail("is a context diff", remedy=_UNIFIED)
            if _HUNK.match(line):
                self.fail("a hunk has no file header (--- and +++) before it")
            if re.match(rb"@@ -\d", line):
                self.fail("a hunk's @@ line can't be read")
            if (match := _BINARY.fullmatch(line)) and (strict or b"/" in match[1]):
                old, new = self.file_name(match[1]), self.file_name(match[2])
                self.files.append(FilePatch(old, new, (), "binary", line=self.number(self.at)))
            elif re.match(rb"Only in .+: .", line) and (strict or not self.body.subject):
                self.fail("a file is left out of this diff", remedy="make it with diff -ruN")
            elif strict:
                strict = self.check_after_hunk(line)
            self.at += 1
        return self.files

    def check_after_hunk(self, line: bytes) -> bool:
        """Whether the next line must again belong to a diff; fails where this one does not."""
        if line.rstrip(b"\r\n") in (b"-- ", b"--") or _NEXT_PATCH.match(line):
            return False
        if line.strip() and not line.startswith(_BETWEEN):
            if line[:1] in (b" ", b"+", b"-"):
                self.fail("the hunk before this line has more lines than its @@ line says")
            self.fail(f"`{printable(line.rstrip())[:60]}` belongs to no hunk and no file header")
        return True

    def file_name(self, raw: bytes) -> str:
        """A name from a header line: C-quoted by git, or up to the tab or time stamp."""
        text = raw.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if text.startswith('"'):
            names = re.match(r'"((?:[^"\\]|\\.)*)"', text)
            if names is None:
                self.fail("a quoted file name has no end")
            return self.unquote(names[1])
        if "\t" in text:
            return text.split("\t", 1)[0]
        return _STAMP.sub("", text).rstrip()

    def unquote(self, text: str) -> str:
        """Undoes git's C-style quoting (core.quotePath)."""

        def one(match: re.Match[bytes]) -> bytes:
            code = match[1].decode("latin-1")
            if code[0] in "01234567":
                return bytes([int(code, 8) & 0xFF])
            if code not in _ESCAPES:
                self.fail(f"a quoted file name has the unknown escape \\{printable(code)}")
            return bytes([_ESCAPES[code]])

        raw = text.encode("utf-8", "surrogateescape")
        return re.sub(rb"\\([0-7]{1,3}|.)", one, raw).decode("utf-8", "surrogateescape")

    def read_plain(self) -> FilePatch:
        """A file that begins with its --- line, as diff(1) writes it."""
        start = self.at
        old, new, hunks = self.read_content()
        kind: PatchKind = "change"
        if old == DEV_NULL or (hunks[0].old_start, hunks[0].old_count) == (0, 0):
            old, kind = DEV_NULL, "new"
        elif new == DEV_NULL or (hunks[0].new_start, hunks[0].new_count) == (0, 0):
            new, kind = DEV_NULL, "delete"
        return self.checked(FilePatch(old, new, hunks, kind, line=self.number(start)), start)

    def read_git(self) -> FilePatch:
        """A file that begins with `diff --git`: extended headers, then hunks, a binary patch or nothing."""
        start = self.at
        pairs = self.git_names(self.line()[len(b"diff --git ") :])
        self.at += 1
        said: dict[str, str] = {}
        while (match := _EXTENDED.match(self.line())) is not None:
            said[match[1].decode()] = self.file_name(match[2])
            self.at += 1
        kind: PatchKind = "change"
        for header, meaning in _GIT_KINDS.items():
            if header in said:
                kind = meaning
        old_mode = said.get("old mode") or said.get("deleted file mode") or ""
        new_mode = said.get("new mode") or said.get("new file mode") or ""
        if not (old_mode or new_mode) and (mode := re.search(r" (\d{6})$", said.get("index", ""))):
            old_mode = new_mode = mode[1]
        hunks: tuple[Hunk, ...] = ()
        if self.line().startswith(b"--- ") and self.line(1).startswith(b"+++ "):
            old, new, hunks = self.read_content()
            pairs = [p for p in pairs if old in (p[0], DEV_NULL) and new in (p[1], DEV_NULL)]
            kind = "change" if kind == "mode" else kind
            kind = "new" if old == DEV_NULL else "delete" if new == DEV_NULL else kind
        elif self.line().startswith(b"GIT binary patch"):
            self.skip_binary()
            kind = "binary"
        elif _BINARY.fullmatch(self.line()):
            self.at += 1
            kind = "binary"
        elif kind == "change":
            self.fail("the file's hunks are missing: the patch is cut off")
        source = said.get("rename from", said.get("copy from"))
        target = said.get("rename to", said.get("copy to"))
        if source is not None and target is not None:
            pairs = [p for p in pairs if p[0].endswith(source) and p[1].endswith(target)]
        elif not hunks:
            pairs = [p for p in pairs if p[0] == p[1] or p[0].partition("/")[2] == p[1].partition("/")[2]]
        if not pairs:
            self.fail("the file's names disagree with its diff --git line", at=start)
        pair = pairs[0]
        old = DEV_NULL if kind == "new" else pair[0]
        new = DEV_NULL if kind == "delete" else pair[1]
        return self.checked(FilePatch(old, new, hunks, kind, old_mode, new_mode, self.number(start)), start)

    def git_names(self, raw: bytes) -> list[tuple[str, str]]:
        """The ways to read "a/x b/x": git does not quote names for blanks alone."""
        text = raw.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        quoted = re.fullmatch(r'("(?:[^"\\]|\\.)*"|[^"]\S*) ("(?:[^"\\]|\\.)*"|[^"]+)', text)
        if '"' in text:
            if quoted is None:
                self.fail("the diff --git line can't be read")
            both = [self.unquote(p[1:-1]) if p.startswith('"') else p for p in quoted.groups()]
            return [(both[0], both[1])]
        cuts = [i for i, c in enumerate(text) if c == " "]
        return [(text[:i], text[i + 1 :]) for i in cuts if text[:i] and text[i + 1 :]]

    def checked(self, file: FilePatch, start: int) -> FilePatch:
        """The same file, when its hunks fit what it is said to be."""
        if file.kind == "new" and any(h.old_count for h in file.hunks):
            self.fail("a new file has lines to remove", at=start)
        if file.kind == "delete" and any(h.new_count for h in file.hunks):
            self.fail("a deleted file keeps lines", at=start)
        if file.old_path == file.new_path == DEV_NULL or not file.old_path or not file.new_path:
            self.fail("the file has no name", at=start)
        return file

    def skip_binary(self) -> None:
        """Passes git's base85 blocks, each ended by an empty line."""
        self.at += 1
        while re.match(rb"(?:literal|delta) \d+", self.line()):
            while self.line().strip():
                self.at += 1
            self.at += 1

    def read_content(self) -> tuple[str, str, tuple[Hunk, ...]]:
        """The --- and +++ lines and the hunks after them (at least one, in order)."""
        old, new = self.file_name(self.line()[4:]), self.file_name(self.line(1)[4:])
        self.at += 2
        hunks: list[Hunk] = []
        while self.line().startswith(b"@@ "):
            start = self.at
            hunk = self.read_hunk()
            if hunks and hunk.old_start < hunks[-1].old_start + hunks[-1].old_count:
                self.fail("hunks overlap or are out of order", at=start)
            hunks.append(hunk)
        if not hunks:
            self.fail("a hunk (@@ -line,count +line,count @@) must follow the file's +++ line")
        return old, new, tuple(hunks)

    def read_hunk(self) -> Hunk:
        """One hunk, by its counts."""
        start = self.at
        match = _HUNK.match(self.line())
        if match is None:
            self.fail("a hunk's @@ line can't be read")
        old_start, new_start = int(match[1]), int(match[3])
        old_left = old_count = int(match[2]) if match[2] is not None else 1
        new_left = new_count = int(match[4]) if match[4] is not None else 1
        if not (old_count or new_count) or (old_count and not old_start) or (new_count and not new_start):
            self.fail("a hunk's @@ line counts no lines, or counts them from line 0")
        self.at += 1
        lines: list[bytes] = []
        while old_left or new_left or self.line().startswith(b"\\"):
            line = self.line()
            missing = f"{old_left} old and {new_left} new lines are missing"
            if not line:
                self.fail(f"the patch is cut off: of the hunk at line {self.number(start)}, {missing}")
            sign = line[:1]
            if sign == b"\\":
                if not lines or not lines[-1].endswith(b"\n"):
                    self.fail('"\\ No newline at end of file" follows no line')
                lines[-1] = lines[-1][:-1].removesuffix(b"\r") if line.endswith(b"\r\n") else lines[-1][:-1]
                self.at += 1
                continue
            if sign in (b"\n", b"\r"):  # editors take the blank off an empty context line
                line, sign = b" " + line, b" "
            takes_old, takes_new = sign in (b" ", b"-"), sign in (b" ", b"+")
            if not (takes_old or takes_new) or takes_old > old_left or takes_new > new_left:
                self.fail(f"the line does not fit the hunk at line {self.number(start)}: {missing}")
            if not line.endswith(b"\n"):
                self.fail("the last line of the patch has no line end: it may be cut off")
            old_left -= takes_old
            new_left -= takes_new
            lines.append(line)
            self.at += 1
        header = printable(match[5].strip())
        number = self.number(start)
        return Hunk(old_start, old_count, new_start, new_count, tuple(lines), header, number)

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

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NoReturn

from kgbuild.errors import UserError
from kgbuild.limits import NAME_BYTES, PATCH_FILES, PATCH_HUNKS, PATH_BYTES
from kgbuild.patch.mail import MailPart, read_bodies
from kgbuild.shown_text import printable

PatchKind = Literal["change", "new", "delete", "rename", "copy", "binary", "mode"]
DEV_NULL = "/dev/null"

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(.*)", re.DOTALL)
_EXTENDED = re.compile(
    rb"(old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from|rename to"
    rb"|similarity index|dissimilarity index|index) (.*)"
)
_BINARY = re.compile(rb"(?:Binary files|Files) (?=.* differ\r?\n?\Z)(.+) and (.+) differ\r?\n?")
# Old diffs separate the time stamp by blanks instead of a tab.
_STAMP = re.compile(r"(?<=\s)(?:\d{4}-\d\d-\d\d \d\d:\d\d|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} )")
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
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_QUOTED_PAIR = re.compile(r'("(?:[^"\\]|\\.)*+"|[^"]\S*+) ("(?:[^"\\]|\\.)*+"|[^"]++)')
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
_SPLIT = "split the patch"
_AGAIN = "make the patch again"


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


def strip_path(path: str, strip: int) -> str:
    """`path` without its first `strip` components and without empty and "." ones; "" when nothing is left.

    An absolute path stays absolute at level 0. ".." is kept: sources.check_path refuses it.
    """
    if strip == 0:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        return ("/" if path.startswith("/") else "") + "/".join(parts)
    parts = [part for part in path.split("/") if part]
    return "/".join(part for part in parts[strip:] if part != ".")


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
    subjects: dict[str, None] = {}
    hunks = 0
    for body in read_bodies(name, data.removeprefix(b"\xef\xbb\xbf")):
        found = _DiffReader(name, body).read()
        files += found
        hunks += sum(len(file.hunks) for file in found)
        PATCH_FILES.check(len(files), name, _SPLIT)
        PATCH_HUNKS.check(hunks, name, _SPLIT)
        if found and body.subject:
            subjects[body.subject] = None
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


class _DiffReader:
    """Reads one body from top to bottom; `at` is the index of the line being looked at."""

    def __init__(self, name: str, body: MailPart) -> None:
        self.name = name
        self.lines = body.lines
        self.body = body
        self.at = 0
        self.files: list[FilePatch] = []

    def fail(self, fact: str, at: int | None = None, remedy: str = _AGAIN) -> NoReturn:
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
            names = _QUOTED.match(text)
            if names is None:
                self.fail("a quoted file name has no end")
            name = self.unquote(names[1])
        elif "\t" in text:
            name = text.split("\t", 1)[0]
        else:
            stamp = _STAMP.search(text)
            name = (text[: stamp.start()] if stamp else text).rstrip()
        return self.fit(name)

    def fit(self, name: str) -> str:
        """A file name, if Linux allows one like it. Raises LimitError."""
        place = f"{self.name}:{self.number(self.at)}"
        for limit, part in ((PATH_BYTES, name), (NAME_BYTES, max(name.split("/"), key=len))):
            size = len(part.encode("utf-8", "surrogateescape"))
            if size > limit.most:
                raise limit.exceeded(f"{place}: the name {printable(part[:40])}...", size, _AGAIN)
        return name

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
            pairs = (p for p in pairs if old in (p[0], DEV_NULL) and new in (p[1], DEV_NULL))
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
            pairs = (p for p in pairs if p[0].endswith(source) and p[1].endswith(target))
        elif not hunks:
            pairs = (p for p in pairs if p[0] == p[1] or p[0].partition("/")[2] == p[1].partition("/")[2])
        pair = next(iter(pairs), None)
        if pair is None:
            self.fail("the file's names disagree with its diff --git line", at=start)
        pair = (self.fit(pair[0]), self.fit(pair[1]))
        old = DEV_NULL if kind == "new" else pair[0]
        new = DEV_NULL if kind == "delete" else pair[1]
        return self.checked(FilePatch(old, new, hunks, kind, old_mode, new_mode, self.number(start)), start)

    def git_names(self, raw: bytes) -> Iterable[tuple[str, str]]:
        """The ways to read "a/x b/x", the shortest first name first: git does not quote names for blanks alone."""
        text = raw.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        # each way is a copy of the text, so it must not be longer than two names can be
        if len(text) > 2 * PATH_BYTES.most + 1:
            raise PATH_BYTES.exceeded(f"{self.name}:{self.number(self.at)}: the diff --git line", remedy=_AGAIN)
        if '"' in text:
            quoted = _QUOTED_PAIR.fullmatch(text)
            if quoted is None:
                self.fail("the diff --git line can't be read")
            both = [self.unquote(p[1:-1]) if p.startswith('"') else p for p in quoted.groups()]
            return [(both[0], both[1])]
        cuts = (i for i, c in enumerate(text) if c == " ")
        return ((text[:i], text[i + 1 :]) for i in cuts if text[:i] and text[i + 1 :])

    def checked(self, file: FilePatch, start: int) -> FilePatch:
        """The file, after checking that its hunks fit its declared kind."""
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

# SPDX-License-Identifier: GPL-2.0-or-later
"""What kgbuild writes for a user, and how such a file is told from one that somebody else made: by its content."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kgbuild.elf.read import read
from kgbuild.errors import KgbuildError

_HEAD = 1 << 16  # bytes within which a text says what it is
DIFF_MARK = b"kgbuild diff\0"  # in .comment of an object that `kgbuild diff` wrote
_OLD_JSON = 1 << 26  # documents of versions that did not say at once what they are: larger ones are not looked at


class OutputKind(NamedTuple):
    """A kind of file: what it is, in words, and whether the file of that name is one."""

    about: str
    is_one: Callable[[Path], bool]


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD)


_SCHEMA = re.compile(rb'\s*\{\s*"schema":\s*"kgbuild/([a-z]+)/\d+"')


def _schema_of(path: Path) -> str:
    """Which of kgbuild's documents a file is: the name in its schema; "report" for one of an older version, "" for any
    other file."""
    head = _head(path)
    match = _SCHEMA.match(head)
    if match is not None:
        return match[1].decode()
    if not head.lstrip().startswith((b"{", b"[")) or path.stat().st_size > _OLD_JSON:
        return ""
    try:
        value: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    named = value.get("schema")
    if named == "kgbuild-proof":
        return "proof"
    tool = value.get("tool")
    made = isinstance(named, str) and named.startswith("kgbuild-")
    made |= isinstance(tool, dict) and tool.get("name") == "kgbuild" and "schema_version" in value
    return "report" if made else ""


def _holds(path: Path, *words: str) -> bool:
    """Whether a file is a JSON object in whose text one of these words stands, and it has no schema of kgbuild."""
    head = _head(path)
    return head.lstrip().startswith(b"{") and any(word.encode() in head for word in words) and not _schema_of(path)


def _is_report(path: Path) -> bool:
    return _schema_of(path) not in ("", "proof")


def _has_section(path: Path, name: str, content: bytes = b"") -> bool:
    """Whether a file is an object with such a section; with `content` one that holds no other bytes."""
    if _head(path)[:4] != b"\x7fELF":
        return False
    try:
        obj = read(path.read_bytes())
        found = [bytes(obj.contents(s.index)) for s in obj.sections if s.name == name]
    except KgbuildError:
        return False
    return any(not content or data == content for data in found)


_TEXTS = (
    rb"estimate from the kernel's debug information",
    rb"\S+  [^\n]*(called by|calls) \d+ functions?\n",
    rb"\S+ +(\S+  [^\n]*  \S+ 0x[0-9a-f]+  \d+ bytes|no body of its own: inlined wherever it is called)\n",
    rb"digraph (calls|patch) \{\n  // made by kgbuild\n",
    rb"<graphml[^>]*>\s*<!-- made by kgbuild -->",
    rb"### kgbuild [a-z]+: ",
    rb"flowchart LR\n  %% made by kgbuild\n",
    rb'<\?xml [^>]*>\n<testsuites name="kgbuild ',
    rb"::[a-z]+ ([^:\n]*,)?title=kgbuild",
    rb'\{\n "\$schema": "[^"\n]*sarif[^"\n]*",(?s:.{,200})"name": "kgbuild"',
)


def _is_answer(path: Path) -> bool:
    head = _head(path)
    return any(re.match(pattern, head) for pattern in _TEXTS) or _is_report(path)


def _is_patch(path: Path) -> bool:
    text = re.split(rb"^(?:diff --git |--- \S+/)", _head(path), maxsplit=1, flags=re.MULTILINE)[0]
    return re.search(rb"\bby kgbuild remedy\b", text) is not None


def _is_log(path: Path) -> bool:
    head = _head(path)
    return b"Linux version " in head and b"panic=-1 loglevel=7 printk.devkmsg=on" in head


REPORT = OutputKind("a report of kgbuild", _is_report)
PROOF = OutputKind("a proof record of kgbuild", lambda path: _schema_of(path) == "proof")
MODULE = OutputKind("a module that kgbuild made", lambda path: _has_section(path, ".note.kgbuild"))
PROVENANCE = OutputKind(
    "a provenance that kgbuild wrote", lambda path: _holds(path, "kgbuild.invalid/build", "in-toto")
)
SBOM = OutputKind("an SBOM that kgbuild wrote", lambda path: _holds(path, "SPDX", "kgbuild-"))
OBJECT = OutputKind("an object that kgbuild diff wrote", lambda path: _has_section(path, ".comment", DIFF_MARK))
PATCH = OutputKind("a patch that kgbuild remedy wrote", _is_patch)
ANSWER = OutputKind("an answer of kgbuild", _is_answer)
PAGE = OutputKind("a page of kgbuild", lambda path: b'<meta name="generator" content="kgbuild">' in _head(path))
LOG = OutputKind("a console log of kgbuild vm", _is_log)

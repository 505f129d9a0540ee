# SPDX-License-Identifier: GPL-2.0-or-later
"""Unified diffs from parsed ones: a fix as it is applied to one kernel, with that kernel's paths."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from kgbuild.patch.mail import split_lines
from kgbuild.patch.unified_diff import FilePatch, Hunk

_NO_END = b"\\ No newline at end of file\n"


def render_files(files: Iterable[tuple[str, FilePatch]], head: bytes = b"") -> bytes:
    """A patch of these files, each under its path in the tree. `head` comes before it. The bytes depend on nothing but
    what is changed."""
    out = [head]
    for path, file in files:
        name = path.encode("utf-8", "surrogateescape")
        old = b"/dev/null" if file.kind == "new" else b"a/" + name
        new = b"/dev/null" if file.kind == "delete" else b"b/" + name
        out.append(b"diff --git a/%s b/%s\n" % (name, name))
        if file.kind == "new":
            out.append(b"new file mode 100644\n")
        if file.hunks:
            out.append(b"--- %s\n+++ %s\n" % (old, new))
        out += (_hunk(hunk) for hunk in file.hunks)
    return b"".join(out)


def _hunk(hunk: Hunk) -> bytes:
    head = f"@@ -{hunk.old_start},{hunk.old_count} +{hunk.new_start},{hunk.new_count} @@"
    header = f" {hunk.header}" if hunk.header else ""
    lines = [line if line.endswith(b"\n") else line + b"\n" + _NO_END for line in hunk.lines]
    return (head + header + "\n").encode("utf-8", "surrogateescape") + b"".join(lines)


def render_texts(orig: Mapping[str, bytes], patched: Mapping[str, bytes], head: bytes = b"") -> bytes:
    """A patch that makes the `patched` texts of the `orig` ones, by path; an original of b"" is no file yet."""
    out = [head]
    for path in sorted(patched):
        before, after = split_lines(orig.get(path, b"")), split_lines(patched[path])
        if before == after:
            continue
        name = path.encode("utf-8", "surrogateescape")
        out.append(b"diff --git a/%s b/%s\n" % (name, name))
        if not before:
            out.append(b"new file mode 100644\n")
        old = b"a/" + name if before else b"/dev/null"
        lines = difflib.diff_bytes(difflib.unified_diff, before, after, old, b"b/" + name, lineterm=b"\n")
        out += (line if line.endswith(b"\n") else line + b"\n" + _NO_END for line in lines)
    return b"".join(out)

# SPDX-License-Identifier: GPL-2.0-or-later
"""`add`: patches in any form become one fix of a directory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kgbuild.errors import UserError
from kgbuild.host.compile.apply_patches import NamedPatch, PatchInput
from kgbuild.host.patches.patch_sources import read_patch_source, unpack_patch
from kgbuild.host.releases.directory import add_fix
from kgbuild.patch.unified_diff import parse_patch
from kgbuild.pipeline.fixes import check_cves
from kgbuild.releases.config import FixMetadata
from kgbuild.releases.mail_metadata import read_metadata
from kgbuild.shown_text import printable

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Added:
    """A fix that was added: what is known of it, the files of the kernel that it changes, and what was written."""

    metadata: FixMetadata
    files: tuple[str, ...]
    written: tuple[str, ...]


def add_patches(
    root: Path, name: str, patches: Sequence[PatchInput], cves: Sequence[str] = (), commit: str = ""
) -> Added:
    """Add patches, in order, as one fix. Raises UserError for a name that is none, for patches that can't be read, and
    for a fix that is there already."""
    if not _ID.fullmatch(name):
        remedy = "use letters, digits, `.`, `_`, `+` and `-`, as CVE-2026-12345"
        raise UserError("can't be the name of a fix", place=printable(name), remedy=remedy)
    if commit and not _COMMIT.fullmatch(commit):
        raise UserError("is no id of a commit", place=printable(commit), remedy="give 7 to 40 hexadecimal digits")
    texts: list[tuple[str, bytes]] = []
    for number, patch in enumerate(patches, 1):
        if isinstance(patch, Path):
            texts += read_patch_source(patch)
        elif isinstance(patch, NamedPatch):
            texts.append((patch.name, unpack_patch(patch.text, patch.name)))
        else:
            data = patch if isinstance(patch, bytes) else patch.encode("utf-8", "surrogateescape")
            texts.append((f"patch-{number}", unpack_patch(data, f"patch-{number}")))
    parsed = [parse_patch(given, text) for given, text in texts]
    own = [*check_cves(cves), *([name] if name.startswith("CVE-") and not cves else [])]
    metadata = read_metadata(texts, own)
    if own:
        metadata = replace(metadata, cves=tuple(dict.fromkeys(own)))
    metadata = replace(metadata, commit=commit or metadata.commit)
    whole = b"".join(text if text.endswith(b"\n") else text + b"\n" for _, text in _separated(texts))
    if len(texts) > 1:
        parse_patch(name, whole)  # what is put together must read as its parts do
    files = dict.fromkeys(file.path(1) for patch in parsed for file in patch.files)
    return Added(metadata, tuple(files), tuple(add_fix(root, name, whole, metadata)))


def _separated(texts: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Several patches as they may stand in one file: each begins as a mail of a mailbox does."""
    if len(texts) == 1:
        return list(texts)
    mark = b"From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
    out = []
    for name, text in texts:
        starts_mail = text.startswith(b"From ")
        has_headers = re.match(rb"[A-Za-z-]+: ", text) is not None
        head = b"" if starts_mail else mark if has_headers else mark + b"Subject: " + name.encode() + b"\n\n"
        out.append((name, head + text))
    return out

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module says that it fixes: CVE numbers, given or found in the mails of its patches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kgbuild.errors import UserError
from kgbuild.host.compile.apply_patches import NamedPatch, PatchInput
from kgbuild.host.patches.patch_sources import read_patch_source
from kgbuild.releases.mail_metadata import read_metadata

_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")
_MOST = 1000


def check_cves(names: Sequence[str]) -> tuple[str, ...]:
    """CVE numbers, each once. Raises UserError for what is none."""
    for name in names:
        if not _CVE.fullmatch(name):
            raise UserError("is no CVE number", place=name, remedy="for example CVE-2026-12345")
    return tuple(dict.fromkeys(names))


def find_cves(patches: Sequence[PatchInput]) -> tuple[str, ...]:
    """The CVE numbers in the mails of patches; none where a patch can't be read, which whoever applies it says."""
    texts: list[tuple[str, bytes]] = []
    try:
        for patch in patches:
            if isinstance(patch, Path):
                texts += read_patch_source(patch)
            elif isinstance(patch, NamedPatch):
                texts.append(patch)
            else:
                texts.append(("patch", patch if isinstance(patch, bytes) else patch.encode("utf-8", "replace")))
        return read_metadata(texts).cves[:_MOST]
    except UserError:
        return ()

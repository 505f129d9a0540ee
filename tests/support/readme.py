# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of the README's section on use, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# These are about files of the reader's own, or the reader's machine.
OF_THE_READER = re.compile(r"--oot|kernel add mine|git show|^pip |^make ")


def commands() -> list[str]:
    """Each command as it is pasted, continued lines joined."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("\n## Use\n") : text.index("\n## What it proves\n")]
    joined = section.replace("\\\n", " ")
    return [" ".join(line.split()) for line in re.findall(r"^ {4}(\S.*)$", joined, re.MULTILINE)]


def words(command: str) -> list[str]:
    """The words of a command as a shell reads them, a substitution left as it is."""
    return shlex.split(command.replace("$(uname -r)", "RELEASE"))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The exceptions that all folders share, each with the exit code of the command that it ends.

A message has a place, a fact and a remedy. Several faults of one run are collected and raised once (see
`refusals.Refusal` and `Refused`), so that a user sees all of them.
"""

from __future__ import annotations


class KgbuildError(Exception):
    """Base class of everything that kgbuild raises on purpose. `exit_code` is the exit status of the command, `code`
    names the kind of error in JSON (diagnostics/run_errors.py)."""

    exit_code = 3
    code = "E3-tool"

    def __init__(self, fact: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(fact)
        self.fact = fact
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.place}: {self.fact}" if self.place else self.fact
        return f"{text}; {self.remedy}" if self.remedy else text


class UserError(KgbuildError):
    """The user's input can't be used: unknown kernel, unreadable file, wrong option (exit 2)."""

    exit_code = 2
    code = "E2-input"


class ToolError(KgbuildError):
    """A tool or the machine failed: missing compiler, no disk, download failed (exit 3)."""

    exit_code = 3


class NoChange(KgbuildError):
    """The patch changes no code (exit 4)."""

    exit_code = 4
    code = "E4-no-change"

# SPDX-License-Identifier: GPL-2.0-or-later
"""A command whose --help shows its exit statuses, from one table for all."""

from __future__ import annotations

import click

_DONE, _USAGE = "done", "usage: unknown option, unreadable argument, unknown kernel, a file that would be lost"
_TOOL = "tool or environment: missing compiler, no disk, download failed"
_CACHE = {0: _DONE, 2: _USAGE, 3: _TOOL}
_MACHINE = "this machine can't: no live patching, not root, /sys not mounted, another livepatch at work"
_LOADS = {0: _DONE, 1: "refused, or taken back", 2: _USAGE, 3: _MACHINE, 4: "a transition goes on"}

# Command -> exit status -> what it says. 130, interrupted, is every command's.
STATUSES: dict[str, dict[int, str]] = {
    "build": {0: "the module is written", 1: "refused", 2: _USAGE, 3: _TOOL, 4: "no code change: nothing to patch"},
    "impact": {
        0: "a module could be made",
        1: "refused",
        2: _USAGE,
        3: _TOOL,
        4: "no code change: nothing to patch",
    },
    "why": {
        0: _DONE,
        1: "refused before it could be told",
        2: f"{_USAGE}, a function that has no part in it",
        3: _TOOL,
        4: "no code change: nothing to patch",
    },
    "explain": {
        0: _DONE,
        1: "refused before it could be told",
        2: f"{_USAGE}, a function that no compiled unit has",
        3: _TOOL,
        4: "no code change: nothing to patch",
    },
    "remedy": {
        0: "written, and not refused any more",
        1: "can't be written so, or is still refused",
        2: _USAGE,
        3: _TOOL,
        4: "no code change: nothing to patch",
    },
    "report": {0: "written", 2: f"{_USAGE}, a file that is no report of kgbuild", 3: _TOOL},
    "diff": {
        0: "something changed",
        1: "something changed that can't be patched",
        2: "usage: unknown option, a file that is no relocatable object, a file that would be lost",
        3: _TOOL,
        4: "nothing changed",
    },
    "verify": {
        0: "no finding",
        1: "findings",
        2: "usage: a file that is no kernel module for this architecture, a record that can't be read, unknown kernel",
        3: _TOOL,
    },
    "vm": {
        0: "all as it should be",
        1: "not so: the guest's verdict is no",
        2: _USAGE,
        3: "the guest did not boot or did not finish, or nothing is wrong but a target was not tried",
    },
    "reproduce": {0: "the same bytes", 1: "other bytes, or refused", 2: _USAGE, 3: _TOOL},
    "sign": _CACHE,
    "package": _CACHE,
    "repo": _CACHE,
    "status": {0: "covered", 1: "not covered", 2: _USAGE, 3: _MACHINE, 4: "in transition"},
    "load": _LOADS,
    "unload": _LOADS,
    "install": _LOADS,
    "rollback": _LOADS,
    "facts": {0: _DONE, 2: f"{_USAGE}, unknown function", 3: _TOOL},
    "graph": {0: _DONE, 2: f"{_USAGE}, unknown function", 3: _TOOL},
    "audit": _CACHE,
    "man": _CACHE,
    "completion": _CACHE,
    "init": {0: _DONE, 2: _USAGE, 3: _TOOL},
    "add": {0: _DONE, 2: f"{_USAGE}, a fix that is there already", 3: _TOOL},
    "affected": {
        0: "all kernels are decided, one or more are affected",
        1: "no kernel is decided: all are conflicts",
        2: f"{_USAGE}, a directory that is wrong",
        3: f"{_TOOL}: no kernel could be had",
        4: "all kernels are decided, none is affected",
        5: "partly: some are conflicts, or could not be had",
    },
    "matrix": {
        0: "every row came to its end",
        1: "none did: refused, in conflict or failed",
        2: f"{_USAGE}, a directory that is wrong",
        3: f"{_TOOL}: no kernel could be had",
        4: "no kernel needs any of the fixes",
        5: "partly: some rows came to their end",
    },
    "backport": {
        0: "written, for review",
        1: "refused: a place was not found, or is not clear",
        2: f"{_USAGE}, a directory that is wrong",
        3: _TOOL,
        4: "nothing to be done: the fix applies as it is, or is in the kernel",
    },
    "release": {
        0: "the release is written, or was there with the same bytes",
        1: "refused: a kernel can't be built, verified or booted, or a gate is closed",
        2: f"{_USAGE}, a directory that is wrong, an older release that is not what it was",
        3: _TOOL,
        4: "no kernel needs any fix of the release",
    },
    "vex": {
        0: _DONE,
        2: f"{_USAGE}, a file that is no module of kgbuild, a module that does not say what it fixes",
        3: _TOOL,
    },
    "doctor": {
        0: "all that is needed is there",
        2: "usage: unknown option, a file that would be lost",
        3: "something is missing",
    },
    "kernel fetch": _CACHE,
    "kernel add": {0: "the kernel can be patched", 1: "refused", 2: _USAGE, 3: _TOOL},
    "kernel list": _CACHE,
    "kernel show": _CACHE,
    "kernel remove": _CACHE,
    "kernel search": _CACHE,
    "toolchain list": _CACHE,
    "toolchain show": _CACHE,
    "toolchain fetch": _CACHE,
    "toolchain remove": _CACHE,
    "cache show": _CACHE,
    "cache prune": _CACHE,
}
EVERY_STATUS = {
    0: _DONE,
    1: "refused or found wanting",
    2: _USAGE,
    3: _TOOL,
    4: "no code change: nothing to patch",
    5: "partly: of several kernels, some came to their end",
}
_INTERRUPTED = {130: "interrupted"}


def _write_statuses(name: str, formatter: click.HelpFormatter) -> None:
    rows = {**STATUSES.get(name, EVERY_STATUS), **_INTERRUPTED}
    with formatter.section("Exit status"):
        formatter.write_dl([(str(status), text) for status, text in rows.items()])


class KgbuildCommand(click.Command):
    """A command of kgbuild."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        group = self.callback.__module__.rpartition(".")[2] if self.callback is not None else ""
        inner = f"{group} {self.name}"  # a command of a group is in the group's file
        _write_statuses(inner if inner in STATUSES else self.name or "", formatter)


class Group(click.Group):
    """A group of commands of kgbuild."""

    command_class = KgbuildCommand

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        _write_statuses("", formatter)

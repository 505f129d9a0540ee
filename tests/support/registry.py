# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command that kgbuild has, for tests of what holds of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from kgbuild.cli.main import main


def commands(
    group: click.Group | None = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it, those of groups included."""
    group = group if group is not None else main
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command

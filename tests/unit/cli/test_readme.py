# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's commands: each has only options that exist, and files that are there or that one before it makes."""

from __future__ import annotations

import re
from itertools import pairwise

import click
import pytest

from kgbuild.cli.main import main
from tests.support.readme import OF_THE_READER, ROOT, commands, words

_FILE = re.compile(r"[\w./-]+\.(?:patch|ko|o|json)")


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("kgbuild ")])
def test_every_option_exists(command: str) -> None:
    context: click.Context = click.Context(main)
    at: click.Command = main
    rest = words(command)[1:]
    while isinstance(at, click.Group):
        below = at.get_command(context, rest[0])
        assert below is not None, rest[0]
        at, rest, context = below, rest[1:], click.Context(below, parent=context)
    at.make_parser(context).parse_args(list(rest))


def test_files_are_there_or_made_by_a_command_before() -> None:
    made: set[str] = set()
    for command in commands():
        if OF_THE_READER.search(command):
            continue
        given = words(command)
        outputs = {after for option, after in pairwise(given) if option in ("-o", "--report")}
        outputs |= {after for option, after in pairwise(given) if option == "--proof" and "build" in given}
        if given[0] == "cp":
            outputs = {given[-1]} if given[-1] != "." else {name.rpartition("/")[2] for name in given[1:-1]}
        if given[:2] == ["kgbuild", "build"] and "-o" not in given:
            outputs.add(f"livepatch-{given[2].removesuffix('.patch')}.ko")
        if "--keep" in given:
            outputs |= {f"stages/1-compile/fs/proc/version.{side}.o" for side in ("orig", "patched")}
        for name in filter(_FILE.fullmatch, given):
            assert name in made | outputs or (ROOT / name).is_file(), f"{command}: {name}"
        made |= outputs


def test_the_section_has_commands_of_each_kind() -> None:
    found = commands()
    assert len(found) > 20 and found[0].startswith("cp ")
    assert sum(bool(OF_THE_READER.search(command)) for command in found) <= 5

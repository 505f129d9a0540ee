# SPDX-License-Identifier: GPL-2.0-or-later
"""From hunks to the definitions of the source that they edit."""

from __future__ import annotations

import difflib

import pytest

from kgbuild.csource.definitions import read_items
from kgbuild.csource.preprocessor_conditions import Conditions
from kgbuild.estimation.edits import FileItems, SourceEdit, find_edits, list_hunks
from kgbuild.patch.apply import Applied, apply_file
from kgbuild.patch.unified_diff import parse_patch

ORIG = """#define LIMIT 4
static int first(int x)
{
\treturn x + 1;
}

enum kind { ONE, TWO };
static int table[2];

static int second(int x)
{
\treturn x < LIMIT ? x : TWO;
}


int third(int x)
{
\treturn second(x) + first(x);
}

SYSCALL_DEFINE1(probe, int, x)
{
\treturn third(x);
}
"""


def edits_of(*steps: tuple[str, str], orig: str = ORIG) -> list[SourceEdit]:
    """What a patch edits that replaces texts, in order."""
    now = orig
    for old, new in steps:
        assert old in now
        now = now.replace(old, new)
    lines = [text.splitlines(keepends=True) for text in (orig, now)]
    diff = "".join(difflib.unified_diff(*lines, "a/fs/x.c", "b/fs/x.c", n=1))
    patch = parse_patch("fix.patch", diff.encode())
    applied = apply_file(orig.encode(), patch.files[0], "fs/x.c")
    assert isinstance(applied, Applied)
    hunks = list_hunks([patch], {"fs/x.c": applied})
    conditions = Conditions({}, False)
    items = (tuple(read_items(text.encode(), conditions)) for text in (orig, now))
    return find_edits({"fs/x.c": FileItems(*items, applied)}, hunks)


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([("x + 1", "x + 2")], [("first", "changed", (0,))]),
        ([("x + 1", "x + 2"), ("+ first", "- first")], [("first", "changed", (0,)), ("third", "changed", (1,))]),
        ([("LIMIT 4", "LIMIT 5")], [("LIMIT", "changed", (0,)), ("second", "uses", (0,))]),
        ([("{ ONE, TWO", "{ ONE, MORE, TWO")], [("enum kind", "changed", (0,)), ("second", "uses", (0,))]),
        ([("table[2]", "table[3]")], [("table", "changed", (0,))]),
        ([("\n\nint third", "\n\nint fourth(void)\n{\n\treturn 4;\n}\nint third")], [("fourth", "new", (0,))]),
        ([("return third(x)", "return third(x + 1)")], [("probe", "changed", (0,))]),
        ([("/**/", "")] * 0 + [("\treturn x + 1;", "\t/* why */\n\treturn x + 1;")], []),
        ([("static int first(int x)\n{\n\treturn x + 1;\n}\n", "")], [("first", "removed", (0,))]),
    ],
)
def test_what_hunks_edit(steps: list[tuple[str, str]], found: list[tuple[str, str, tuple[int, ...]]]) -> None:
    assert [(e.name, e.status, e.hunks) for e in edits_of(*steps)] == found


def test_a_system_call_is_made_by_its_macro() -> None:
    (edit,) = edits_of(("return third(x)", "return 0"))
    assert (edit.macro, edit.is_function, edit.line) == ("SYSCALL_DEFINE1", True, 21)


def test_a_function_that_gets_another_macro_is_one_edit() -> None:
    (edit,) = edits_of(("SYSCALL_DEFINE1(probe", "OTHER_DEFINE1(probe"))
    assert (edit.name, edit.status) == ("probe", "changed")


def test_the_place_is_the_first_changed_line() -> None:
    text = ORIG.replace("x + 1", "x + 2").encode()
    lines = [t.decode().splitlines(keepends=True) for t in (ORIG.encode(), text)]
    diff = "".join(difflib.unified_diff(*lines, "a/fs/x.c", "b/fs/x.c", n=3)).encode()
    patch = parse_patch("fix.patch", diff)
    applied = apply_file(ORIG.encode(), patch.files[0], "fs/x.c")
    assert isinstance(applied, Applied)
    (hunk,) = list_hunks([patch], {"fs/x.c": applied})
    assert hunk.place == "fs/x.c:4"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects linked of several (ld -r): locals of one name are distinguished by their file, or by what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgbuild.pipeline.object_diff import ObjectDiff, diff_objects, read_relocatable
from tests.support.toolchain import compile_text, pair_flags, run

TEXT = """
#include "kernel.h"
static int state;
static noinline int helper(int x) {{ state {operator} x; return source(x) + {number}; }}
int {name}(int x) {{ return helper(x) + state + {more}; }}
"""


def linked(folder: Path, label: str, more: int, *, order: int = 1, operator: str = "-=", files: bool = True) -> bytes:
    """Two units in one object; `more` is what the first one's function adds."""
    parts = []
    for number, (name, sign, extra) in enumerate((("first", "+=", more), ("second", operator, 3))):
        path = folder / f"{label}-{number}.o"
        text = TEXT.format(name=name, operator=sign, number=1 if operator == "+=" else number, more=extra)
        path.write_bytes(compile_text(text, *pair_flags(), name=f"{name}.c"))
        parts.append(path)
    out = folder / f"{label}.o"
    run("ld", "-r", "-o", out, *parts[::order])
    if not files:
        run("objcopy", "--strip-symbol=first.c", "--strip-symbol=second.c", out)
    return out.read_bytes()


def compare(orig: bytes, patched: bytes) -> ObjectDiff:
    return diff_objects(read_relocatable(orig, "a.o"), read_relocatable(patched, "b.o"), "linked.o")


@pytest.mark.parametrize(("order", "files"), [(1, True), (-1, True), (1, False), (-1, False)])
def test_locals_of_one_name(tmp_path: Path, order: int, files: bool) -> None:
    patched = linked(tmp_path, "new", 9, order=order, files=files)
    found = compare(linked(tmp_path, "old", 1, files=files), patched)
    assert ([c.name for c in found.changed], found.new, found.removed) == (["first"], (), ())
    assert (found.refusals, found.output_functions) == ((), ("first",))
    view, other = found.changes.patched, found.changes.orig
    for kind, name in (("function", "helper"), ("data", "state")):
        pairs = [(o, p) for o, p in found.changes.correlation.pairs(kind) if o.name == name]
        assert len(pairs) == 2
        for o, p in pairs:
            users = [
                {f.names for f in v.functions if any(r.atom == a.id for r in v.refs(f))}
                for v, a in ((other, o), (view, p))
            ]
            assert users[0] == users[1]


def test_equal_locals_of_one_name_are_told_by_their_files_alone(tmp_path: Path) -> None:
    sides = [linked(tmp_path, label, more, operator="+=") for label, more in (("old", 1), ("new", 9))]
    found = compare(*sides)
    assert ([c.name for c in found.changed], found.refusals) == (["first"], ())


def test_one_that_is_told_tells_the_other(tmp_path: Path) -> None:
    """Without files, and with bodies that are equal: the unchanged function says which is its own."""
    sides = [linked(tmp_path, label, more, operator="+=", files=False) for label, more in (("old", 1), ("new", 9))]
    found = compare(*sides)
    assert ([c.name for c in found.changed], found.new, found.refusals) == (["first"], (), ())

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a later patch's source has what an older one changed, by the record in the older module's note."""

from __future__ import annotations

import difflib
import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kgbuild.host.compile.apply_patches import PatchSet
from kgbuild.livepatch.cumulative import Lost, Older
from kgbuild.model import Kernel
from kgbuild.patch.apply import Applied, unpatched
from kgbuild.patch.kept_changes import FileChange, as_note, find_missing_changes, from_note, read_change
from kgbuild.patch.mail import split_lines
from kgbuild.patch.unified_diff import ParsedPatch, parse_patch
from kgbuild.pipeline.stages.kept_changes import changes_of, find_lost

ORIGINAL = b"""\
int limit = 4;

int f(int x)
{
	if (x > 3) {
		a(x);
	}
	if (x > 4) {
		b(x);
	}
	return x;
}

int g(int x)
{
	a(x);
	lock();
	b(x);
	unlock();
	return x;
}
"""


def numbers(text: bytes) -> list[int | None]:
    """The map of a patch that makes this text, as diff would say it line by line."""
    before, after = split_lines(ORIGINAL), split_lines(text)
    out: list[int | None] = [None] * len(after)
    for a, b, size in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        out[b : b + size] = range(a + 1, a + size + 1)
    return out


def whole(text: bytes) -> list[int | None]:
    """An edit written as a patch that removes all lines and adds all of them again."""
    return [None] * len(split_lines(text))


def change(text: bytes) -> FileChange:
    return read_change(ORIGINAL, numbers(text), text)


def lacking(older: bytes, newer: bytes) -> list[int]:
    """Lines of the original at which a change of the older text is missing in the newer one."""
    kept = from_note(json.loads(json.dumps(as_note({"f.c": change(older)}))))
    found = [lack.line for lack in find_missing_changes(kept, {"f.c": (ORIGINAL, numbers(newer), newer)})]
    rewritten = read_change(ORIGINAL, whole(older), older)
    assert bool(found) == bool(find_missing_changes({"f.c": rewritten}, {"f.c": (ORIGINAL, whole(newer), newer)}))
    return found


def edit(*pairs: tuple[bytes, bytes], text: bytes = ORIGINAL) -> bytes:
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


CHECK = (b"int f(int x)\n{\n", b"int f(int x)\n{\n\tif (!x)\n\t\treturn 0;\n")
MOVED = (b"\ta(x);\n\tlock();\n", b"\tlock();\n\ta(x);\n")
GONE = (b"\tlock();\n\tb(x);\n\tunlock();\n", b"\tlock();\n\tunlock();\n")
REPLACED = (b"x > 4", b"x > limit")
BLOCK = (b"\tif (x > 4) {\n\t\tb(x);\n\t}\n", b"\tif (x > 4) {\n\t\tb(x);\n\t}\n\tif (x > 5) {\n\t\tc(x);\n\t}\n")
FIRST = (b"int limit = 4;\n", b"int limit = 4;\nint more;\n")
OLDER = [CHECK, MOVED, GONE, REPLACED, BLOCK, FIRST]


@pytest.mark.parametrize("pair", OLDER)
def test_a_change_that_is_not_there(pair: tuple[bytes, bytes]) -> None:
    assert lacking(edit(pair), ORIGINAL)
    assert lacking(edit(pair), edit((b"return x;\n}\n\nint g", b"return x + 1;\n}\n\nint g")))


@pytest.mark.parametrize("pair", OLDER)
def test_a_change_that_is_there(pair: tuple[bytes, bytes]) -> None:
    assert lacking(edit(pair), edit(pair)) == []
    more = edit((b"\treturn x;\n}\n\nint g", b"\tc(x);\n\treturn x;\n}\n\nint g"), text=edit(pair))
    assert lacking(edit(pair), more) == []
    beside = edit((b"int limit = 4;\n", b"int fresh;\nint limit = 4;\n"), text=more)
    assert lacking(edit(pair), edit((b"\tunlock();\n", b"\tunlock();\n\td(x);\n"), text=beside)) == []


def test_each_change_counts() -> None:
    older = edit(CHECK, MOVED)
    assert len(lacking(older, edit(CHECK))) == 2  # a line that moves goes and comes
    assert lacking(older, edit(MOVED)) == [5]
    assert lacking(older, edit(CHECK, MOVED, REPLACED)) == []


def test_a_line_more_beside_the_older_ones() -> None:
    """In the same place, before, between and behind."""
    for new in (b"\tlog();\n\tif (!x)\n\t\treturn 0;\n", b"\tif (!x)\n\t\treturn 0;\n\tlog();\n"):
        assert lacking(edit(CHECK), edit((CHECK[0], CHECK[0] + new))) == []
    split = b"\tif (!x)\n\t\tlog();\n\tif (!x)\n\t\treturn 0;\n"
    assert lacking(edit(CHECK), edit((CHECK[0], CHECK[0] + split))) == []


def test_another_form_of_the_change_is_not_known() -> None:
    assert lacking(edit(CHECK), edit((CHECK[0], CHECK[0] + b"\tif (x == 0)\n\t\treturn 0;\n"))) == [5]


def test_equal_lines_at_the_border() -> None:
    """diff may say that the closing brace before, or the one behind, is the new one."""
    text = edit(BLOCK)
    before, after = split_lines(ORIGINAL), split_lines(text)
    at = after.index(b"\t\tc(x);\n")
    maps = []
    for shift in (0, 1):
        first = at - 1 - shift
        maps.append([*range(1, first + 1), None, None, None, *range(first + 1, len(before) + 1)])
    for one in maps:
        kept = {"f.c": read_change(ORIGINAL, one, text)}
        assert [find_missing_changes(kept, {"f.c": (ORIGINAL, other, text)}) for other in maps] == [[], []]
        assert find_missing_changes(kept, {"f.c": (ORIGINAL, unpatched(ORIGINAL).map, ORIGINAL)})


def test_a_line_that_moves_without_the_change() -> None:
    """The later patch changes the line that the older one moved, where it was."""
    assert lacking(edit(MOVED), edit((b"\ta(x);\n\tlock();\n", b"\ta(x + 1);\n\tlock();\n")))


def test_either_line_may_be_said_to_move() -> None:
    text = edit(MOVED)
    lock = split_lines(text).index(b"\tlock();\n")
    up, down = numbers(text), numbers(text)
    up[lock : lock + 2] = [None, lock + 1]
    down[lock : lock + 2] = [lock + 2, None]
    for one, other in ((up, down), (down, up)):
        kept = {"f.c": read_change(ORIGINAL, one, text)}
        assert find_missing_changes(kept, {"f.c": (ORIGINAL, other, text)}) == []


def test_blanks_say_nothing() -> None:
    spaced = edit(CHECK).replace(b"\t\treturn 0;\n", b"            return 0;\n\n")
    assert lacking(edit(CHECK), spaced) == []
    assert lacking(spaced, edit(CHECK)) == []
    assert change(ORIGINAL.replace(b"\n\nint f", b"\n\n\nint f")).hunks == ()


def test_a_state_is_judged_apart() -> None:
    first, second = (edit((b"int limit", b"KGBUILD_STATE(7, %d);\n\nint limit" % version)) for version in (1, 2))
    assert lacking(edit(CHECK, text=first), edit(CHECK, text=second)) == []
    assert lacking(edit(CHECK, text=first), second) == [5]


def test_another_original_is_not_known() -> None:
    kept = {"f.c": change(edit(CHECK))}
    assert find_missing_changes(kept, {"f.c": (ORIGINAL + b"\n", whole(ORIGINAL), ORIGINAL)})
    assert find_missing_changes(kept, {"f.c": (b"", (), b"")})


def test_a_new_file() -> None:
    text = b"int h;\nint i;\n"
    kept = {"n.h": read_change(b"", (None, None), text)}
    assert find_missing_changes(kept, {"n.h": (b"", (None, None), text)}) == []
    assert len(find_missing_changes(kept, {"n.h": (b"", (None,), b"int h;\n")})) == 1
    assert read_change(ORIGINAL, unpatched(ORIGINAL).map, ORIGINAL).hunks == ()


@pytest.mark.parametrize(
    "value",
    [[], {"f.c": {}}, {"f.c": {"original": "", "hunks": [[-1, 1, []]]}}, {"f.c": {"original": "", "hunks": [[1]]}}],
)
def test_what_is_no_record(value: object) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        from_note(value)


def test_what_a_build_lacks(tmp_path: Path) -> None:
    """By patch, by source, by neither; with the function that it is in."""
    (tmp_path / "f.c").write_bytes(ORIGINAL)
    (tmp_path / "config").write_text("CONFIG_X=y\n")
    tree = cast(Kernel, SimpleNamespace(source=tmp_path, config=tmp_path / "config"))
    text = edit(CHECK, FIRST)
    first = parse_patch("first", b"--- a/f.c\n+++ b/f.c\n@@ -1 +1,2 @@\n int limit = 4;\n+int more;\n")

    def build(patched: bytes | None, *patches: ParsedPatch) -> PatchSet:
        applied = {} if patched is None else {"f.c": Applied(patched, tuple(numbers(patched)), ())}
        return PatchSet(patches, {}, (), 0, applied=applied)

    kept = changes_of(tree, build(text, first))
    older = Older("a", "", {}, frozenset(), patches=(first.sha256,), changes=kept)
    assert find_lost(tree, build(None), [older]) == (Lost("a", "f.c", "f.c", 3), Lost("a", "f", "f.c", 5))
    assert find_lost(tree, build(edit(FIRST)), [older]) == (Lost("a", "f", "f.c", 5),)
    assert find_lost(tree, build(text), [older]) == ()
    assert find_lost(tree, build(None, first), [older]) == ()
    silent = replace(older, changes=None)
    assert find_lost(tree, build(text), [silent]) == (Lost("a"),)
    assert find_lost(tree, build(text, first), [silent]) == ()
    assert find_lost(tree, build(None), [replace(silent, patches=())]) == (Lost("a"),)


def _edited(before: list[str], edits: list[tuple[int, int, list[str]]]) -> tuple[bytes, list[int | None]]:
    """A text with edits (line, lines that go, lines that come), and its map."""
    lines: list[str] = []
    origin: list[int | None] = []
    at = 0
    for start, gone, new in sorted(edits):
        lines += before[at:start] + new
        origin += [*range(at + 1, start + 1), *([None] * len(new))]
        at = start + gone
    return "".join(lines + before[at:]).encode(), [*origin, *range(at + 1, len(before) + 1)]


@pytest.mark.parametrize("words", [40, 8])
def test_two_patches_at_random(words: int) -> None:
    """Edits of two patches in one text, some lines apart, many lines alike; the text of both has the first, that of the
    second alone has not."""
    draw = random.Random(words)
    alphabet = [*(f"\tword{i};\n" for i in range(words)), "\t}\n", "}\n", "\tif (x) {\n", "\n"]
    refused = tried = 0
    for _ in range(250):
        before = draw.choices(alphabet, k=40)
        spots = [(at + draw.randint(0, 3), draw.randint(0, 2)) for at in range(0, 38, 9)]
        edits = [(at, gone, draw.choices(alphabet, k=draw.randint(gone == 0, 3))) for at, gone in spots]
        draw.shuffle(edits)
        older, older_map = _edited(before, edits[:2])
        both, alone = _edited(before, edits), _edited(before, edits[2:])
        orig = "".join(before).encode()
        record = {"f.c": read_change(orig, older_map, older)}
        if record["f.c"].hunks:
            tried += 1
            assert find_missing_changes(record, {"f.c": (orig, alone[1], alone[0])})
            for map_ in (both[1], [None] * len(both[1])):
                refused += bool(find_missing_changes(record, {"f.c": (orig, map_, both[0])}))
    assert tried > 240
    assert refused <= 5


@pytest.mark.parametrize("size", [150, 250])
def test_equal_lines_however_many(size: int) -> None:
    """A few are compared line by line; beyond that it would take the third power of their number."""
    orig, patched = b"x\n" * size, b"y\nx\n" * size
    new = [None] * (2 * size)
    kept = {"f.c": read_change(orig, new, patched)}
    assert find_missing_changes(kept, {"f.c": (orig, new, patched)}) == []
    assert find_missing_changes(kept, {"f.c": (orig, whole(orig), orig)})

# SPDX-License-Identifier: GPL-2.0-or-later
"""Applying hunks, and `#line` directives judged by a real compiler's __LINE__."""

from __future__ import annotations

import difflib
import random
import re
import subprocess
from pathlib import Path

import pytest

from kgbuild.diagnostics.refusals import Refusal
from kgbuild.patch.apply import Applied, apply_file, unpatched
from kgbuild.patch.line_directives import _read_layout, with_line_directives
from kgbuild.patch.mail import split_lines
from kgbuild.patch.unified_diff import FilePatch, parse_patch
from tests.support.toolchain import CC

TEXT = b"".join(b"line %d\n" % i for i in range(1, 61))


def diff(old: bytes, new: bytes, context: int = 3) -> FilePatch:
    """The patch from `old` to `new`, through difflib and the parser."""
    body = difflib.diff_bytes(difflib.unified_diff, split_lines(old), split_lines(new), b"a/x.c", b"b/x.c", n=context)
    lines = [line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in body]
    return parse_patch("p", b"".join(lines)).files[0]


def applied(orig: bytes, patch: FilePatch) -> Applied:
    result = apply_file(orig, patch, "x.c")
    assert isinstance(result, Applied), result
    return result


def refused(orig: bytes, patch: FilePatch) -> list[Refusal]:
    result = apply_file(orig, patch, "x.c")
    assert isinstance(result, list)
    return result


def edit(text: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def test_apply_at_the_stated_line_and_map() -> None:
    new = edit(TEXT, (b"line 10\n", b"ten\neleven\n"), (b"line 40\n", b""))
    result = applied(TEXT, diff(TEXT, new))
    assert result.text == new
    assert result.map[8:12] == (9, None, None, 11)
    assert result.map[38:42] == (38, 39, 41, 42)
    assert [place.offset for place in result.hunks] == [0, 0]
    assert [place.line for place in result.hunks] == [7, 37]


def test_offset_is_inherited() -> None:
    patch = diff(TEXT, edit(TEXT, (b"line 10\n", b"ten\n"), (b"line 40\n", b"forty\n")))
    shifted = b"new\n" * 5 + TEXT
    result = applied(shifted, patch)
    assert result.text == edit(shifted, (b"line 10\n", b"ten\n"), (b"line 40\n", b"forty\n"))
    assert [(p.line, p.offset) for p in result.hunks] == [(12, 5), (42, 5)]


def test_inherited_offset_decides_between_two_places() -> None:
    first, block = b"1\n2\n3\n4\n5\n6\n7\n", b"a\nb\nc\n"
    old = first + b"x\n" * 20 + block
    patch = diff(old, edit(old, (b"4\n", b"four\n"), (b"b\n", b"B\n")), context=1)
    target = b"z\n" * 8 + first + b"x\n" * 12 + block + b"x\n" * 5 + block  # the first is at the stated line
    assert applied(target, patch).text.index(b"B") > target.index(b"b")
    alone = FilePatch(patch.old_path, patch.new_path, patch.hunks[1:], "change")
    assert applied(target, alone).text.index(b"B") == target.index(b"b")


def test_a_hunk_never_goes_before_the_one_before_it() -> None:
    patch = diff(TEXT, edit(TEXT, (b"line 10\n", b"ten\n"), (b"line 40\n", b"forty\n")), context=0)
    (refusal,) = refused(b"line 40\n" + edit(TEXT, (b"line 40\n", b"")), patch)
    assert "hunk 2" in refusal.fact


def test_nearest_of_several_places() -> None:
    block = b"{\nold\n}\n"
    text = block + b"x\n" * 10 + block + b"x\n" * 30 + block
    patch = diff(b"y\n" * 11 + block, b"y\n" * 11 + b"{\nnew\n}\n", context=1)
    assert applied(text, patch).text == block + b"x\n" * 10 + b"{\nnew\n}\n" + b"x\n" * 30 + block


def test_equally_near_places_are_ambiguous() -> None:
    block = b"{\nold\n}\n"
    text = b"x\n" * 10 + block + b"x\n" * 7 + block
    patch = diff(b"y\n" * 15 + block, b"y\n" * 15 + b"{\nnew\n}\n", context=1)
    (refusal,) = refused(text, patch)
    assert "ambiguous" in refusal.fact
    assert "lines 11 and 21" in refusal.fact


def test_a_hunk_applied_at_its_place_is_not_applied_elsewhere() -> None:
    block, done = b"a\n{\nold\n}\nb\n", b"a\n{\nnew\n}\nb\n"
    patch = diff(b"x\n" * 10 + block, b"x\n" * 10 + done, context=2)
    (refusal,) = refused(b"x\n" * 10 + done + b"x\n" * 30 + block, patch)
    assert "already applied" in refusal.fact


def test_all_faults_at_once_with_the_line_that_differs() -> None:
    patch = diff(
        TEXT,
        edit(TEXT, (b"line 10\n", b"ten\n"), (b"line 30\n", b"thirty\n"), (b"line 50\n", b"fifty\n")),
    )
    other = edit(b"new\n" * 8 + TEXT, (b"line 12\n", b"other\x1b\n"), (b"line 51\n", b"line  51\n"))
    first, second = refused(other, patch)
    assert first.code == "P1-apply"
    assert first.fact == (
        "hunk 1 of 3 (line 7) does not apply: line 20: expected `line 12`, found `other\\x1b`; "
        "nearest: line 15 (+8), 1 line differs"
    )
    assert "hunk 3 of 3 (line 47)" in second.fact
    assert "white space" in second.fact
    assert all("line ends only" in r.fact for r in refused(TEXT.replace(b"\n", b"\r\n"), patch))


def test_nothing_like_it() -> None:
    patch = diff(TEXT, edit(TEXT, (b"line 10\n", b"ten\n")))
    (refusal,) = refused(b"a\n", patch)
    assert "line 7: expected `line 7`, found the end of the file; nothing like it" in refusal.fact


def test_already_applied() -> None:
    new = edit(TEXT, (b"line 10\n", b"ten\n"), (b"line 40\n", b"forty\n"))
    patch = diff(TEXT, new)
    (refusal,) = refused(b"new\n" + new, patch)
    assert "already applied: all 2 hunks" in refusal.fact
    half = edit(TEXT, (b"line 40\n", b"forty\n"))
    (refusal,) = refused(half, patch)
    assert "hunk 2 of 2 (line 37) is already applied, at line 37" in refusal.fact


def test_hunk_without_context() -> None:
    patch = diff(TEXT, edit(TEXT, (b"line 10\n", b"line 10\nnew\n")), context=0)
    assert "no context" in refused(TEXT, patch)[0].fact
    patch = diff(TEXT, edit(TEXT, (b"line 10\n", b"new\n")), context=0)
    assert applied(TEXT, patch).map[9] is None


def test_no_newline_at_the_end() -> None:
    assert applied(b"a\nb", diff(b"a\nb", b"a\nc")).text == b"a\nc"
    assert applied(b"a\nb", diff(b"a\nb", b"a\nb\n")).text == b"a\nb\n"
    assert refused(b"a\nb\n", diff(b"a\nb", b"a\nc"))
    assert refused(b"a\nb\nc\n", diff(b"a\nb\n", b"a\nB"))


def test_new_delete_binary_mode() -> None:
    new = parse_patch("p", b"--- /dev/null\n+++ b/x.c\n@@ -0,0 +1,2 @@\n+a\n+b\n").files[0]
    assert applied(b"", new).final == [(b"a\n", None), (b"b\n", None)]
    assert "exists already" in refused(b"a\n", new)[0].fact
    gone = parse_patch("p", b"--- a/x.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n").files[0]
    assert applied(b"a\nb\n", gone).text == b""
    assert "1 more lines" in refused(b"a\nb\nc\n", gone)[0].fact
    assert refused(b"", FilePatch("a/x", "b/x", (), "binary"))[0].code == "P9-unsupported-file"
    assert applied(TEXT, FilePatch("a/x", "b/x", (), "mode")).text == TEXT


def test_several_patches_compose() -> None:
    one = edit(TEXT, (b"line 10\n", b"new\nline 10\n"), (b"line 20\n", b""))
    two = edit(one, (b"line 15\n", b"more\nline 15\n"), (b"new\n", b"newer\n"))
    step = applied(TEXT, diff(TEXT, one))
    both = unpatched(TEXT).then(step).then(applied(step.text, diff(one, two)))
    assert both.text == two
    assert both.map == applied(TEXT, diff(TEXT, two)).map


def numbers(source: bytes, tmp_path: Path, *flags: str) -> dict[bytes, int]:
    """What __LINE__ is beside each U<n> mark, by the preprocessor."""
    file = tmp_path / "t.c"
    file.write_bytes(source)
    argv = [CC, "-E", "-P", "-std=gnu11", *flags, str(file)]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert b"warning" not in done.stderr, done.stderr
    return {mark: int(line) for mark, line in re.findall(rb"(U\d+)\s+(\d+)", done.stdout)}


def directives(orig: bytes, new: bytes) -> bytes:
    return with_line_directives("x.c", applied(orig, diff(orig, new)).final)


def test_directives_are_few_and_exact() -> None:
    new = edit(TEXT, (b"line 10\n", b"new\nline 10\n"), (b"line 20\n", b""), (b"line 30\n", b"thirty\n"))
    out = directives(TEXT, new)
    assert out == b'#line 1 "x.c"\n' + edit(
        new, (b"line 10\n", b"#line 10\nline 10\n"), (b"line 21\n", b"#line 21\nline 21\n")
    )
    assert with_line_directives('a"\\b', [(b"x", 1)]) == b'#line 1 "a\\"\\\\b"\nx'
    assert with_line_directives("x.c", [(b"\xef\xbb\xbfx\n", 1)]) == b'\xef\xbb\xbf#line 1 "x.c"\nx\n'


UNSAFE = [
    # a line added after "U1", the part after it must not be torn; the next line (U9) has its number again
    b"#define M(a) U1 \\\n@ \\\n U2 a\nU9 __LINE__\nM(3)\n",
    b"#define M(...) __VA_ARGS__\nM(U1,\n@\n U2)\nU9 __LINE__\n",
    b"#define M(...) __VA_ARGS__\n@\nM\n(U1, U2)\nU9 __LINE__\n",
    b"/* U1\n@\n U2 */\nU9 __LINE__\n",
    b"// U1 \\\n@ \\\n U2\nU9 __LINE__\n",
    b'char *s = "U1 \\\n@ \\\n U2";\nU9 __LINE__\n',
    b"#if 1 /* U1\n@\n */ || 0\nU9 __LINE__\n#endif\n",
    b'char *s = R"(U1\n@\n U2)";\nU9 __LINE__\n',
    b"#define Q '\"'\n#define M(...) __VA_ARGS__\nM(U1 Q, '(', \"(\",\n@\n U2)\nU9 __LINE__\n",
]


@pytest.mark.parametrize("text", UNSAFE)
def test_no_directive_inside(text: bytes, tmp_path: Path) -> None:
    orig = text.replace(b"@ \\\n", b"").replace(b"@\n", b"")
    new = text.replace(b"@", b"added")
    out = directives(orig, new)
    body = b"\n".join(line for line in out.split(b"\n") if not line.startswith(b"#line"))
    assert body == new
    assert numbers(out, tmp_path)[b"U9"] == numbers(orig, tmp_path)[b"U9"]
    inside = out[out.index(b"U1") : out.index(b"U2" if b"U2" in out else b"||")]
    assert b"#line" not in inside
    if text.startswith(b"#define M(...) __VA_ARGS__\n@"):
        assert b"M\n(U1" in out


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (b"a;\nM\n(x)\ny\n", {0, 1, 3, 4}),  # M may be a macro
        (b"M\n\n/* */\n(x)\n", {0, 4}),
        (b"// (\nx\n", {0, 1, 2}),
        (b"f(\n#if A\n)\n#endif\nx\n}\ny\n", {0, 3, 6, 7}),  # open where A is not set
        (b"#if A\nf(\n#else\ng(\n#endif\na)\n}\n", {0, 1, 3, 6, 7}),
        (b"f(\n}\nx\n", {0}),  # exact: the argument of a macro
        (b")\nf(\n}\nx\n", {0, 1, 3, 4}),
        (b"a \\  \n(\n)\n", {0, 3}),
    ],
)
def test_where_a_directive_may_stand(text: bytes, safe: set[int]) -> None:
    assert _read_layout(text).safe == safe


@pytest.mark.parametrize("flag", ["-DA=0", "-DA=1"])
def test_a_branch_that_is_not_compiled(flag: str, tmp_path: Path) -> None:
    orig = (
        b"#if A\nU1 __LINE__\nU2 __LINE__\n#else\nU3 __LINE__\n#endif\nU4 __LINE__\n"
        b"#if A\n#ifdef B\nU5 __LINE__\n#endif\nU6 __LINE__\n#else\nU7 __LINE__\n#endif\nU8 __LINE__\n"
    )
    for mark in (b"U1", b"U3", b"U5", b"U7"):
        line = mark + b" __LINE__\n"
        for new in (edit(orig, (line, b"added\n" + line)), edit(orig, (line, b""))):
            before = numbers(orig, tmp_path, flag)
            after = numbers(directives(orig, new), tmp_path, flag)
            assert after == {u: n for u, n in before.items() if u in after}
            assert len(before) - len(after) <= 1


@pytest.mark.parametrize("flag", ["-DA=0", "-DA=1"])
def test_branches_that_leave_parentheses_open(flag: str, tmp_path: Path) -> None:
    orig = (
        b"void f(void)\n{\n#if A\n\tif (a &&\n#else\n\tif (\n#endif\n\t    b) {\nU1 __LINE__\n}\n}\n"
        b"void g(void)\n{\n#if A\n\tif (a) {\n#endif\n\tfoo(x\n#if A\n\t, y)\n#else\n\t, z);}\n#endif\n"
        b"#if A\n (\n#endif\n}\nU2 __LINE__\n"
    )
    added = (b"U1 __LINE__\n", b"added\nU1 __LINE__\n")
    new = b"added\n" + edit(orig, added, (b"\tfoo(x\n", b"\tfoo(\nx\n"))
    before = numbers(orig, tmp_path, flag)
    assert numbers(directives(orig, new), tmp_path, flag) == before


def test_own_line_directives_still_hold(tmp_path: Path) -> None:
    orig = b'U1 __LINE__\n/*\n#line 7\n*/\nU2 __LINE__\n#line 100 "y"\nU3 __LINE__\nU4 __LINE__\nU5 __LINE__\n'
    new = edit(orig, (b"U1 ", b"added\nU1 "), (b"U4 ", b"added\nU4 "))
    assert numbers(directives(orig, new), tmp_path) == numbers(orig, tmp_path)


def generated(rng: random.Random) -> list[tuple[bytes, int]]:
    """Lines of C with a mark each, and the group a line belongs to: lines that make up one construct."""
    out: list[tuple[bytes, int]] = [(b"#define M(...) __VA_ARGS__\n", 0)]
    count = depth = 0

    def mark() -> bytes:
        nonlocal count
        count += 1
        return b"U%d __LINE__" % count

    group = 0
    for _ in range(rng.randint(20, 60)):
        group += 1
        kind = rng.randrange(12)
        if kind < 4:
            new = [mark() + b";\n"]
        elif kind == 4:
            new = [b"M(" + mark() + b",\n", b"  '(', " + mark() + b",\n", b'  ")")' + mark() + b"\n"]
        elif kind == 5:
            new = [b"/* it's (\n", b' * " (\n', b" */ " + mark() + b"\n"]
        elif kind == 6:
            new = [b"#define D%d(x) x \\\n" % group, b"  ( \\\n", b"  )\n"]
        elif kind == 7:
            depth += 1
            new = [b"#if%s A\n" % rng.choice([b"", b" !"])]
        elif kind in (8, 9) and depth:
            depth -= 1
            new = [b"#else\n"] * rng.randrange(2) + [b"#endif\n"]
        elif kind == 10:
            new = [b'char *s = "( \\\n', b"  it's \"; " + mark() + b"\n"]
        else:
            new = [b"{\n", b"  // don't (\n", b"  " + mark() + b";\n", b"}\n"]
            group += 1
        out += [(line, group) for line in new]
    return out + [(b"#endif\n", group + 1)] * depth


def edited(rng: random.Random, lines: list[tuple[bytes, int]]) -> tuple[bytes, set[int]]:
    """The text with lines added anywhere and single lines removed, and the groups that were added to inside."""
    torn: set[int] = set()
    new: list[bytes] = []
    for i, (line, group) in enumerate(lines):
        what = rng.random()
        if what < 0.06 and line.startswith(b"U"):
            continue
        if what < 0.12 and i:
            before, group_before = lines[i - 1]
            inside = group_before == group
            added = b"\\\n" if before.endswith(b"\\\n") else b"\n" if inside else b"added;\n"
            new.append((b"  " + added) * rng.randint(1, 3))
            torn |= {group} if inside else set()
        new.append(line)
    return b"".join(new), torn


def test_unchanged_lines_keep_their_numbers(tmp_path: Path) -> None:
    """Random text, random edits: every mark outside a torn construct has its old number, whatever A is."""
    checked = 0
    for seed in range(40):
        rng = random.Random(seed)
        lines = generated(rng)
        orig = b"".join(line for line, _ in lines)
        text, torn = edited(rng, lines)
        if text == orig:
            continue
        result = applied(orig, diff(orig, text))
        assert result.text == text
        out = with_line_directives("x.c", result.final)
        assert [x for x in split_lines(out) if not x.startswith(b"#line")] == split_lines(text)
        groups = {mark: group for line, group in lines for mark in re.findall(rb"U\d+", line)}
        for flag in ("-DA=0", "-DA=1"):
            before, after = numbers(orig, tmp_path, flag), numbers(out, tmp_path, flag)
            whole = {mark: n for mark, n in after.items() if groups[mark] not in torn}
            assert whole == {mark: before[mark] for mark in whole}, seed
            checked += len(whole)
    assert checked > 500


def test_compiled_code_is_the_same(tmp_path: Path) -> None:
    """With directives an object file of the functions below the change is byte for byte the same."""
    function = b"int f%d(void)\n{\n\treturn __LINE__ + sizeof(__FILE__);\n}\n"
    orig = b"".join(function % i for i in range(20))
    new = edit(orig, (b"int f0(void)\n{\n", b"int f0(void)\n{\n\t/* more\n\t   words */\n"))
    objects = []
    for text in (with_line_directives("d/x.c", unpatched(orig).final), directives(orig, new), new):
        (tmp_path / "x.c").write_bytes(text.replace(b'"d/x.c"', b'"x.c"'))
        argv = [CC, "-O2", "-S", "-o", "-", "x.c"]
        objects.append(subprocess.run(argv, cwd=tmp_path, check=True, stdout=subprocess.PIPE).stdout)
    assert objects[0] == objects[1]
    assert objects[0] != objects[2]


@pytest.mark.parametrize("seed", range(25))
def test_the_same_as_patch(seed: int, tmp_path: Path) -> None:
    """Where patch(1) without fuzz applies a diff to a shifted text, so do we, with the same result."""
    rng = random.Random(seed)
    old = b"".join(b"%d\n" % rng.randrange(30) for _ in range(80))
    lines = split_lines(old)
    for _ in range(4):
        at = rng.randrange(len(lines))
        lines[at : at + rng.randrange(2)] = [b"new %d\n" % rng.randrange(99)]
    target = b"".join(b"more\n" for _ in range(rng.randrange(9))) + old
    patch_text = b"".join(difflib.diff_bytes(difflib.unified_diff, split_lines(old), lines, b"x.c", b"x.c"))
    (tmp_path / "x.c").write_bytes(target)
    argv = ["patch", "-s", "-F0", "-p0", "--no-backup-if-mismatch"]
    done = subprocess.run(argv, cwd=tmp_path, input=patch_text, check=False, stdout=subprocess.PIPE)
    ours = apply_file(target, parse_patch("p", patch_text).files[0], "x.c")
    if done.returncode == 0:
        assert isinstance(ours, Applied), ours
        assert ours.text == (tmp_path / "x.c").read_bytes()

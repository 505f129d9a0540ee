# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes go where they belong in a text that differs, or nowhere."""

from __future__ import annotations

import pytest

from kgbuild.patch.unified_diff import parse_patch
from kgbuild.releases.backport import Ported, port_file
from kgbuild.releases.decide import decide
from kgbuild.releases.render_patch import render_files, render_texts
from tests.support.fix_cases import BEFORE, FILE, FIX, FIXED, SourceInMemory


def port(text: str, fix: str = FIX) -> Ported:
    return port_file(text.encode(), parse_patch("fix", fix.encode()).files[0], FILE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\tfinish(x);\n", "\tfinish_all(x);\n"),
        ("\tprepare(x);\n", "\tprepare(x, size);\n"),
        ("\tprepare(x);\n", ""),
        ("\t\treturn ret;\n\tprepare(x);\n", "\t\treturn -1;\n\tprepare_all(x);\n"),
    ],
)
def test_a_change_goes_to_the_place_with_most_of_its_context(old: str, new: str) -> None:
    made = port(BEFORE.replace(old, new))
    assert made.text.decode() == FIXED.replace(old, new)
    assert not made.missing and "please look at it" in made.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "int nothing;\n",
        BEFORE.replace("\tcopy(x->data, size);\n", "\tmove(x->data, size);\n").replace("prepare", "begin"),
    ],
)
def test_a_change_without_a_place_is_missing(text: str) -> None:
    made = port(text)
    assert made.text.decode() == text and len(made.missing) == 1 and made.missing[0].startswith("net/x.c:")


def test_a_change_that_fits_twice_in_one_function_is_missing() -> None:
    both = "\tcopy(x->data, size);\n\tfinish(x);\n"
    text = BEFORE.replace(f"\tprepare(x);\n{both}", both * 2)
    made = port(text)
    assert made.text.decode() == text and "alike" in made.missing[0]


def test_lines_that_are_replaced_must_be_there() -> None:
    fix = FIX.replace(" \tcopy(x->data, size);\n", "-\tcopy(x->data, size);\n+\tcopy(x->data, x->most);\n")
    assert port(BEFORE.replace("\tfinish(x)", "\tend(x)"), fix).text.decode().count("x->most);\n") == 1
    missing = port(BEFORE.replace("size);\n\tfinish", "len);\n\tfinish"), fix).missing
    assert missing and "not there (`copy(x->data, size);`)" in missing[0]


def test_what_is_there_is_left_out() -> None:
    made = port(FIXED)
    assert made.text.decode() == FIXED and "left out" in made.notes[0]


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_rendered_patch_makes_the_same_text(end: str) -> None:
    before, after = {FILE: (BEFORE + "int last;" + end).encode()}, {FILE: (FIXED + "int end;" + end).encode()}
    text = render_texts(before, after, b"Subject: x\n\n---\n")
    found = decide([parse_patch("made", text)], SourceInMemory({FILE: before[FILE].decode()}))
    assert found.state == "affected" and found.texts[FILE] == after[FILE]
    again = render_files(found.files)
    assert parse_patch("again", again).files == parse_patch("made", text).files or again in text


TWO = """\
int run_v4(struct x *x, int size)
{
\tprepare(x);
\tcopy(x->data, size);
\tfinish(x);
\treturn 0;
}

int run_v6(struct x *x, int size)
{
\tprepare(x);
\tcopy(x->data, size);
\tfinish(x);
\treturn 0;
}
"""
FOR_V6 = """\
--- a/net/x.c
+++ b/net/x.c
@@ -11,4 +11,6 @@ int run_v6(struct x *x, int size)
 \tprepare(x);
+\tif (size > x->most)
+\t\treturn -E2BIG;
 \tcopy(x->data, size);
 \tfinish(x);
 \treturn 0;
"""


def test_a_change_never_goes_into_another_function_while_its_own_is_there() -> None:
    own = TWO.partition("int run_v6")[2].replace("\tcopy(x->data, size);", "\tcopy_all(x->data, size);")
    text = TWO.partition("int run_v6")[0] + "int run_v6" + own.replace("prepare", "begin").replace("finish", "end")
    made = port(text, FOR_V6)
    assert made.text.decode() == text and made.missing


def test_a_function_that_was_renamed_is_said() -> None:
    text = BEFORE.replace("int run(", "int run_all(").replace("\tfinish(x);\n", "\tfinish_all(x);\n")
    made = port(text)
    assert made.text.decode() == text.replace("\tcopy(", "\tif (size > x->most)\n\t\treturn -E2BIG;\n\tcopy(")
    assert any("for run()" in note and "went into run_all()" in note for note in made.notes)


PAIR = (
    FIX
    + """\
@@ -30,4 +32,6 @@ int stop(struct x *x)
 int stop(struct x *x)
 {
 \tint ret = check(x);
+\tif (ret == -EBUSY)
+\t\tforget(x);
 \treturn ret;
 }
"""
)
STOP = "\nint stop(struct x *x)\n{\n\tint ret = check(x);\n\treturn ret;\n}\n"


def test_a_fix_that_is_there_in_part_gets_the_rest() -> None:
    fixed = BEFORE.replace("\tfinish(x);\n", "\tfinish_all(x);\n") + STOP.replace(
        "\treturn ret", "\tif (ret == -EBUSY)\n\t\tforget(x);\n\treturn ret"
    )
    fix = PAIR.replace("@@ -30,4 +32,6 @@", "@@ -21,5 +23,7 @@")
    made = port(fixed, fix)
    assert made.text.decode() == fixed.replace("\tcopy(", "\tif (size > x->most)\n\t\treturn -E2BIG;\n\tcopy(")
    assert not made.missing and any("left out" in note for note in made.notes)


def test_what_another_function_has_is_not_taken_for_the_fix() -> None:
    """The lines that the fix adds, between the same two lines, in a function that it is not for."""
    other = "int other(struct x *x, int size)\n{\n\tprepare(x);\n\tif (size > x->most)\n\t\treturn -E2BIG;\n"
    text = BEFORE.replace("\tfinish(x);\n", "\tfinish_all(x);\n").replace("\t\treturn ret;\n", "\t\treturn -1;\n")
    text = f"{text}\n{other}\tcopy(x->data, size);\n\treturn 0;\n}}\n"
    made = port(text)
    wanted = text.replace("\tprepare(x);\n\tcopy(", "\tprepare(x);\n\tif (size > x->most)\n\t\treturn -E2BIG;\n\tcopy(")
    assert made.missing or made.text.decode() == wanted


@pytest.mark.parametrize("lines", [0, 1, 40])
def test_hunks_that_moved_are_found(lines: int) -> None:
    text = "int filler;\n" * lines + BEFORE.replace("\tfinish(x);\n", "\tfinish_all(x);\n")
    made = port(text)
    assert made.text.decode().count("-E2BIG") == 1 and "\t\treturn -E2BIG;\n\tcopy(" in made.text.decode()
    assert not made.missing
